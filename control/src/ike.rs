//! The shell around the IKEv2 core: sockets, configuration, Child SAs, addresses, state.

pub mod udp;
