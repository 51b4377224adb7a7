//! What the tests stand on: namespaces, processes, gateways, captures, packets.
//!
//! For tests, the demonstration and measurements only; nothing that is shipped links it.
//! Where it touches the machine it needs root, and [`require_privileges!`] lets a test say
//! why it did not run. Traffic never leaves the namespaces made here.

pub mod capture;
pub mod esp_builder;
pub mod failure;
pub mod gateway;
pub mod netns;
pub mod oracle;
pub mod packet;
pub mod pki;
pub mod process;
pub mod raw_socket;
pub mod topology;
pub mod traffic;
