//! From a shared record to an SA that a worker can use: key expanded, limits, window, lease.

use std::net::IpAddr;

use xswan_aead::{AesKeyLen, Backend, Hmac, Keymat};
use xswan_esp::ecn::{DfEncap, DscpDecap, DscpEncap, EcnDecap, EcnEncap};
use xswan_esp::lifetime::{Lifetime, Limit};
use xswan_esp::replay::{MIN_WINDOW, ReplayWindow};
use xswan_esp::sa::{self, EncapPolicy, InboundSa, OutboundSa, PeerAddress, Tfc, UdpPorts};
use xswan_esp::sequence::SequenceSpace;
use xswan_pipeline::engine::{CachedHop, Inbound, Outbound};
use xswan_sa_api::{
    Algorithm, DfPolicy, DscpPolicy, Encap, InboundConfig, Lifetimes, Mode, OutboundConfig,
    SharedMaps,
};
use xswan_wire::layers::Addresses;

use crate::replay_state::ReplayState;
use crate::worker::{ReadyInbound, ReadyOutbound, SharedLease};

/// Share of the sequence space after which a successor is asked for, in percent.
const SEQUENCE_SOFT_PERCENT: u64 = 80;
/// The inbound SA of a record. In an update the one that is there gives its window later.
///
/// # Errors
/// What in the record makes no SA, in words for the log.
pub fn inbound(
    maps: &SharedMaps,
    backend: Backend,
    slot: u32,
    config: &InboundConfig,
    update: bool,
) -> Result<ReadyInbound, String> {
    let keymat = keymat(config.algorithm, config.key.as_bytes())?;
    let cipher = keymat.key(backend).map_err(|error| error.to_string())?;
    let window = match update {
        // The words are the old SA's until the worker moves them over.
        true => ReplayWindow::new(MIN_WINDOW, config.flags.esn, ReplayState::placeholder()),
        false => {
            let state = ReplayState::open(maps, config)?;
            ReplayWindow::adopt(config.replay_window, config.flags.esn, state)
        }
    };
    let window = window.map_err(|error| error.to_string())?;
    let live = maps.inbound_live(slot).ok_or("no such slot")?.counters();
    let (soft, hard) = limits(&config.lifetimes);
    let settings = sa::InboundConfig {
        mode: mode(config.mode),
        encap: config.encap.map(ports),
        encap_policy: match config.flags.any_encap {
            true => EncapPolicy::Either,
            false => EncapPolicy::Exact,
        },
        peer_address: match config.flags.any_source {
            true => PeerAddress::AnyAuthenticated,
            false => PeerAddress::Exact,
        },
        check_padding: config.flags.check_padding,
        ecn: if config.flags.copy_ecn { EcnDecap::Combine } else { EcnDecap::Keep },
        dscp: if config.flags.copy_dscp { DscpDecap::CopyOuter } else { DscpDecap::Keep },
        soft,
        hard,
        ..sa::InboundConfig::tunnel(
            config.spi,
            keymat.salt(),
            addresses(config.remote, config.local)?,
        )
    };
    let since = config.lifetimes.installed_ms;
    let mut sa = InboundSa::new(&settings, cipher, window, since).map_err(|e| e.to_string())?;
    *sa.lifetime_mut() = Lifetime::resume(soft, hard, since, live.bytes, live.packets);
    if live.last_used_ms != 0 {
        sa.resume_last_seen(live.last_used_ms);
    }
    sa.counters.auth_fail = live.auth_fail;
    sa.counters.replay = live.replay;
    Ok(Inbound { sa, child: config.child })
}

/// The outbound SA of a record. In an update the one that is there gives its numbers later.
///
/// # Errors
/// What in the record makes no SA, in words for the log.
pub fn outbound(
    maps: &SharedMaps,
    backend: Backend,
    slot: u32,
    config: &OutboundConfig,
    update: bool,
) -> Result<ReadyOutbound, String> {
    let keymat = keymat(config.algorithm, config.key.as_bytes())?;
    let cipher = keymat.key(backend).map_err(|error| error.to_string())?;
    let live = maps.outbound_live(slot).ok_or("no such slot")?;
    // In an update the numbers are the old SA's until the worker moves them over: what
    // stands in for them has none left.
    let lease = if update { u64::MAX } else { live.lease() };
    let counted = live.counters();
    let (soft, hard) = limits(&config.lifetimes);
    let settings = sa::OutboundConfig {
        mode: mode(config.mode),
        encap: config.encap.map(ports),
        dscp: match config.dscp {
            DscpPolicy::Copy => DscpEncap::Copy,
            DscpPolicy::Fixed(value) => DscpEncap::Fixed(value),
        },
        ecn: if config.copy_ecn { EcnEncap::Normal } else { EcnEncap::Compatibility },
        df: match config.df {
            DfPolicy::Copy => DfEncap::Copy,
            DfPolicy::Set => DfEncap::Set,
            DfPolicy::Clear => DfEncap::Clear,
        },
        ttl: config.ttl,
        iv_base: config.iv_base,
        tfc: match config.tfc_padding {
            0 => Tfc::Off,
            len => Tfc::PadTo(len),
        },
        soft,
        hard,
        ..sa::OutboundConfig::tunnel(
            config.spi,
            keymat.salt(),
            addresses(config.local, config.remote)?,
        )
    };
    let space = if config.esn { u64::MAX } else { u64::from(u32::MAX) };
    let soft_sequence = space / 100 * SEQUENCE_SOFT_PERCENT;
    let sequence = SequenceSpace::resume(config.esn, soft_sequence, lease, SharedLease(live));
    let since = config.lifetimes.installed_ms;
    let mut sa = OutboundSa::new(&settings, cipher, sequence, since).map_err(|e| e.to_string())?;
    *sa.lifetime_mut() = Lifetime::resume(soft, hard, since, counted.bytes, counted.packets);
    let path_mtu = if config.path_mtu == 0 { u16::MAX } else { config.path_mtu };
    Ok(Outbound { sa, child: config.child, path_mtu, learned_ms: None, hop: CachedHop::default() })
}

fn keymat(algorithm: Algorithm, octets: &[u8]) -> Result<Keymat, String> {
    Keymat::new(cipher_of(algorithm), octets).map_err(|error| error.to_string())
}

fn cipher_of(algorithm: Algorithm) -> xswan_aead::Algorithm {
    let cbc = xswan_aead::Algorithm::cbc;
    match algorithm {
        Algorithm::Aes128Gcm16 => xswan_aead::Algorithm::Aes128Gcm16,
        Algorithm::Aes192Gcm16 => xswan_aead::Algorithm::Aes192Gcm16,
        Algorithm::Aes256Gcm16 => xswan_aead::Algorithm::Aes256Gcm16,
        Algorithm::ChaCha20Poly1305 => xswan_aead::Algorithm::ChaCha20Poly1305,
        Algorithm::Aes128CbcSha256 => cbc(AesKeyLen::Bits128, Hmac::Sha256),
        Algorithm::Aes192CbcSha256 => cbc(AesKeyLen::Bits192, Hmac::Sha256),
        Algorithm::Aes256CbcSha256 => cbc(AesKeyLen::Bits256, Hmac::Sha256),
        Algorithm::Aes128CbcSha384 => cbc(AesKeyLen::Bits128, Hmac::Sha384),
        Algorithm::Aes192CbcSha384 => cbc(AesKeyLen::Bits192, Hmac::Sha384),
        Algorithm::Aes256CbcSha384 => cbc(AesKeyLen::Bits256, Hmac::Sha384),
        Algorithm::Aes128CbcSha512 => cbc(AesKeyLen::Bits128, Hmac::Sha512),
        Algorithm::Aes192CbcSha512 => cbc(AesKeyLen::Bits192, Hmac::Sha512),
        Algorithm::Aes256CbcSha512 => cbc(AesKeyLen::Bits256, Hmac::Sha512),
    }
}

const fn mode(mode: Mode) -> sa::Mode {
    match mode {
        Mode::Tunnel => sa::Mode::Tunnel,
        Mode::Transport => sa::Mode::Transport,
    }
}

const fn ports(encap: Encap) -> UdpPorts {
    UdpPorts { local: encap.local_port, remote: encap.remote_port }
}

fn addresses(source: IpAddr, destination: IpAddr) -> Result<Addresses, String> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Ok(Addresses::V4 { source: source.octets(), destination: destination.octets() })
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Ok(Addresses::V6 { source: source.octets(), destination: destination.octets() })
        }
        _ => Err("outer addresses of two families".to_owned()),
    }
}

/// Soft and hard limits; 0 in the record is none.
fn limits(lifetimes: &Lifetimes) -> (Limit, Limit) {
    let none = |value: u64| if value == 0 { u64::MAX } else { value };
    let of = |pick: fn(&xswan_sa_api::Limit) -> u64| Limit {
        bytes: none(pick(&lifetimes.bytes)),
        packets: none(pick(&lifetimes.packets)),
        time_ms: none(pick(&lifetimes.time_ms)),
    };
    (of(|limit| limit.soft), of(|limit| limit.hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_agree_on_the_length_of_every_key() {
        let ciphers = Algorithm::ALL.map(cipher_of);
        assert_eq!(ciphers, xswan_aead::Algorithm::ALL);
        for (algorithm, cipher) in Algorithm::ALL.into_iter().zip(ciphers) {
            assert_eq!(algorithm.key_len(), cipher.keymat_len(), "{}", algorithm.name());
            assert_eq!(algorithm.is_aead(), cipher.salt_len() > 0, "{}", algorithm.name());
        }
    }
}
