//! Identities, certificates, keys and shared secrets of IKE peers.
#![forbid(unsafe_code)]
