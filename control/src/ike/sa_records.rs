//! The records of the shared maps for a Child SA that was negotiated.

use crate::child_policy;
use std::net::SocketAddr;
use xswan_config::Child;
use xswan_ikev2::action::{ChildInstall, ChildMode, EspSuite};
use xswan_sa_api::{
    Algorithm, Encap, InboundConfig, InboundFlags, Key, Lifetimes, Mode, OutboundConfig, clock_ms,
};

/// The dataplane's cipher for what was negotiated.
#[must_use]
pub fn algorithm(suite: EspSuite) -> Option<Algorithm> {
    // IANA "IKEv2 Transform Type 1" and "Type 3".
    const CBC: u16 = 12;
    const GCM16: u16 = 20;
    const CHACHA: u16 = 28;
    Some(match (suite.encryption, suite.key_bits, suite.integrity) {
        (GCM16, 128, 0) => Algorithm::Aes128Gcm16,
        (GCM16, 192, 0) => Algorithm::Aes192Gcm16,
        (GCM16, 256, 0) => Algorithm::Aes256Gcm16,
        (CHACHA, _, 0) => Algorithm::ChaCha20Poly1305,
        (CBC, 128, 12) => Algorithm::Aes128CbcSha256,
        (CBC, 192, 12) => Algorithm::Aes192CbcSha256,
        (CBC, 256, 12) => Algorithm::Aes256CbcSha256,
        (CBC, 128, 13) => Algorithm::Aes128CbcSha384,
        (CBC, 192, 13) => Algorithm::Aes192CbcSha384,
        (CBC, 256, 13) => Algorithm::Aes256CbcSha384,
        (CBC, 128, 14) => Algorithm::Aes128CbcSha512,
        (CBC, 192, 14) => Algorithm::Aes192CbcSha512,
        (CBC, 256, 14) => Algorithm::Aes256CbcSha512,
        _ => return None,
    })
}

/// UDP encapsulation at these ports, if there is any.
#[must_use]
pub fn encapsulation(encap: bool, local: SocketAddr, remote: SocketAddr) -> Option<Encap> {
    encap.then(|| Encap { local_port: local.port(), remote_port: remote.port() })
}

/// Both records of a new Child SA; slots and replay range are still open.
///
/// # Errors
/// One line: the dataplane cannot do it.
pub fn records(
    install: &ChildInstall,
    child: &Child,
    group: u32,
    worker: u16,
) -> Result<(InboundConfig, OutboundConfig), String> {
    let algorithm = algorithm(install.suite).ok_or("the cipher is unknown to the dataplane")?;
    let key = |secret: &xswan_ike_crypto::Secret| {
        Key::new(secret.as_bytes()).map_err(|error| error.to_string())
    };
    let mode = match install.mode {
        ChildMode::Tunnel => Mode::Tunnel,
        ChildMode::Transport => Mode::Transport,
    };
    let (local, remote) = (install.local.ip(), install.remote.ip());
    let encap = encapsulation(install.encap, install.local, install.remote);
    let lifetimes =
        Lifetimes { installed_ms: clock_ms(), ..child_policy::counted_lifetimes(child) };
    let flags = InboundFlags {
        esn: install.suite.esn,
        any_source: install.any_source,
        any_encap: true,
        ..child_policy::inbound_flags(child)
    };
    let inbound = InboundConfig {
        spi: install.spi_in,
        worker,
        algorithm,
        key: key(&install.key_in)?,
        mode,
        local,
        remote,
        encap,
        // With ESN a window is needed to know the upper half (RFC 4303 section 2.2.1).
        replay_window: if install.suite.esn {
            child.replay_window.max(64)
        } else {
            child.replay_window
        },
        replay_offset: 0,
        replay_len: 0,
        child: group,
        flags,
        lifetimes,
    };
    let outbound = OutboundConfig {
        spi: install.spi_out,
        worker,
        algorithm,
        key: key(&install.key_out)?,
        esn: install.suite.esn,
        mode,
        local,
        remote,
        encap,
        df: child_policy::df(child),
        dscp: child_policy::dscp(child),
        copy_ecn: child.copy_ecn,
        ttl: child.ttl,
        tfc_padding: if install.no_tfc { 0 } else { child.tfc_padding },
        path_mtu: child.path_mtu,
        iv_base: 0,
        child: group,
        lifetimes,
    };
    Ok((inbound, outbound))
}
