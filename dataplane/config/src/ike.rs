//! `[ike]`: the key exchange daemon as a whole, in charon's words and with its defaults.

use crate::duration::{duration_or, thousandths};
use crate::error::ConfigError;
use crate::reader::Section;

/// `[ike]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ike {
    /// Half-open IKE SAs from which on every initiator must return a cookie; 0 is never.
    pub cookie_threshold: u32,
    /// The same for one peer address.
    pub cookie_threshold_ip: u32,
    /// Half-open IKE SAs of one peer address from which on it must return a cookie, whatever the
    /// other thresholds are; 0 is never.
    pub block_threshold: u32,
    /// Half-open IKE SAs from which on all new requests are ignored; 0 is never.
    pub init_limit_half_open: u32,
    /// Key exchanges in a second for initiators that prove nothing afterwards, in units of one
    /// with X25519; 0 is no limit.
    pub init_key_exchanges_per_s: u32,
    /// How long a half-open IKE SA is kept, in milliseconds.
    pub half_open_timeout_ms: u64,
    /// Time to the first retransmission, in milliseconds.
    pub retransmit_timeout_ms: u64,
    /// Factor from one wait to the next, in thousandths.
    pub retransmit_base_permille: u32,
    /// Retransmissions until the peer is given up.
    pub retransmit_tries: u32,
    /// Longest IP packet of an IKE message before it is fragmented (RFC 7383), in octets.
    pub fragment_size: u16,
    /// Time between NAT keepalives, in milliseconds; 0 is none.
    pub keep_alive_ms: u64,
    /// How long the inbound SA of a rekeyed child is kept, in milliseconds.
    pub delete_rekeyed_delay_ms: u64,
    /// Reauthenticate with the new IKE SA before the old one goes.
    pub make_before_break: bool,
    /// Put virtual addresses that the peer assigns on a device.
    pub install_virtual_ip: bool,
    /// Install routes for what the tunnels protect.
    pub install_routes: bool,
    /// Follow a peer's REDIRECT (RFC 5685).
    pub follow_redirects: bool,
    /// UDP port.
    pub port: u16,
    /// UDP port with NAT traversal.
    pub port_nat_t: u16,
    /// Keep IKE SAs over a restart of the daemon, encrypted in the run directory.
    pub keep_state: bool,
}

fn count(section: &Section<'_>, key: &'static str, default: u32) -> Result<u32, ConfigError> {
    let item = section.find(key);
    item.map_or(Ok(default), |item| item.integer(0..=1_000_000).map(|count| count as u32))
}

pub(crate) fn read_ike(section: Section<'_>) -> Result<Ike, ConfigError> {
    let flag = |key, default| section.find(key).map_or(Ok(default), |item| item.boolean());
    let port = |key, default| {
        let item = section.find(key);
        item.map_or(Ok(default), |item| item.integer(1..=65_535).map(|port| port as u16))
    };
    let decimal = |key, default, highest| {
        section.find(key).map_or(Ok(default), |item| thousandths(&item, highest))
    };
    let ike = Ike {
        cookie_threshold: count(&section, "cookie_threshold", 30)?,
        cookie_threshold_ip: count(&section, "cookie_threshold_ip", 3)?,
        block_threshold: count(&section, "block_threshold", 0)?,
        init_limit_half_open: count(&section, "init_limit_half_open", 0)?,
        init_key_exchanges_per_s: count(&section, "init_key_exchanges", 4_000)?,
        half_open_timeout_ms: duration_or(&section, "half_open_timeout", 30_000)?,
        retransmit_timeout_ms: decimal("retransmit_timeout", 4_000, 3_600)?,
        retransmit_base_permille: decimal("retransmit_base", 1_800, 100)? as u32,
        retransmit_tries: section
            .find("retransmit_tries")
            .map_or(Ok(5), |item| item.integer(0..=100))? as u32,
        fragment_size: section
            .find("fragment_size")
            .map_or(Ok(1280), |item| item.integer(256..=65_535))? as u16,
        keep_alive_ms: duration_or(&section, "keep_alive", 20_000)?,
        delete_rekeyed_delay_ms: duration_or(&section, "delete_rekeyed_delay", 5_000)?,
        make_before_break: flag("make_before_break", true)?,
        install_virtual_ip: flag("install_virtual_ip", true)?,
        install_routes: flag("install_routes", true)?,
        follow_redirects: flag("follow_redirects", true)?,
        port: port("port", 500)?,
        port_nat_t: port("port_nat_t", 4500)?,
        keep_state: flag("keep_state", true)?,
    };
    for (key, wrong, allowed) in [
        ("retransmit_timeout", ike.retransmit_timeout_ms == 0, "more than 0"),
        ("retransmit_base", ike.retransmit_base_permille < 1000, "1 to 100"),
        ("port_nat_t", ike.port == ike.port_nat_t, "another port than port"),
    ] {
        if let (true, Some(item)) = (wrong, section.find(key)) {
            return Err(item.error("is out of range", allowed));
        }
    }
    section.finish()?;
    Ok(ike)
}
