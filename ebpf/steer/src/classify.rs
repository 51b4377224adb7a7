//! From the bytes of a frame to a [`Verdict`].
//!
//! Order of the questions: is there a configuration; is it IP; is it for one of our
//! tunnel addresses (then ESP goes to the SA's worker and IKE to the kernel); is it for a
//! protected prefix (then it goes to a worker, whatever it is). What is left is the
//! kernel's. Nothing that a prefix protects is passed because it is odd: the kernel would
//! forward it in clear.

use crate::abi::{
    MAX_WORKERS, PREFIX_LOCAL, PREFIX_REMOTE, PortValue, PrefixValue, ROLE_INNER, ROLE_OUTER,
    STEER_VERSION, SteerConfig, WORKER_BY_FLOW,
};
use crate::flow;
use crate::spi::SpiKey;
use crate::tables::{Tables, v4_mapped};
use crate::verdict::{Decision, Kind, PassReason, Verdict, Way};
use xswan_wire::layers::{self, Addresses, IpLayer, Layers};
use xswan_wire::{Bytes, DropReason, esp, ethernet, udp};

/// Decides what becomes of a frame.
///
/// `frame` holds at least the headers; `frame_len` is the length of the whole frame in
/// bytes, which is more if it lies in several buffers. `port` is where it came in; a frame
/// for a worker that came in on an unknown port is dropped, not passed in clear.
#[inline(always)]
pub fn classify<B: Bytes + ?Sized, T: Tables>(
    frame: &B,
    frame_len: usize,
    port: Option<PortValue>,
    tables: &T,
) -> Verdict {
    decide(frame, frame_len, port, tables).into()
}

/// [`classify`] in the terms that the kernel's verifier can follow.
#[inline(always)]
pub fn decide<B: Bytes + ?Sized, T: Tables>(
    frame: &B,
    frame_len: usize,
    port: Option<PortValue>,
    tables: &T,
) -> Decision {
    let Some(config) = tables.config() else { return Decision::pass(PassReason::NotReady) };
    if config.version != STEER_VERSION || config.workers == 0 || config.workers > MAX_WORKERS {
        return Decision::pass(PassReason::NotReady);
    }
    let roles = match port {
        Some(port) => port.roles,
        None => ROLE_OUTER | ROLE_INNER,
    };
    let question = Question { frame, roles, config, tables };
    let decision = match layers::parse(frame, frame_len) {
        Ok(layers) => question.packet(&layers),
        Err(reason) => question.unparsed(reason),
    };
    if port.is_none() && decision.way() == Way::Redirect {
        return Decision::drop(DropReason::NoWorker);
    }
    decision
}

struct Question<'a, B: ?Sized, T> {
    frame: &'a B,
    roles: u32,
    config: SteerConfig,
    tables: &'a T,
}

impl<B: Bytes + ?Sized, T: Tables> Question<'_, B, T> {
    #[inline(always)]
    fn packet(&self, layers: &Layers) -> Decision {
        let is_outer = match layers.ip.addresses {
            Addresses::V4 { destination, .. } => self.tables.is_outer(&v4_mapped(destination)),
            Addresses::V6 { destination, .. } => self.tables.is_outer(&destination),
        };
        if is_outer {
            let decision = match layers.ip.protocol {
                layers::ESP if self.roles & ROLE_OUTER != 0 => Some(self.esp(layers)),
                layers::UDP => self.udp(layers),
                _ => None,
            };
            if let Some(decision) = decision {
                return decision;
            }
        }
        match self.protected(&layers.ip.addresses) {
            Some(prefix) if prefix.worker == WORKER_BY_FLOW => Decision::redirect(
                flow::spread(flow::hash(self.frame, layers), self.config.workers),
                Kind::Clear,
            ),
            Some(prefix) => self.redirect(u32::from(prefix.worker), Kind::Clear),
            None => Decision::pass(match layers.ip.protocol {
                layers::ICMP | layers::ICMPV6 => PassReason::Icmp,
                layers::ESP => PassReason::ForeignEsp,
                _ => PassReason::Other,
            }),
        }
    }

    /// A frame that has no [`Layers`].
    ///
    /// The kernel drops an IP header that contradicts itself. It does not look at the
    /// extension headers of a packet it forwards, so those must not be a way round policy.
    #[inline(always)]
    fn unparsed(&self, reason: DropReason) -> Decision {
        if reason == DropReason::BadEtherType {
            return Decision::pass(match self.frame.read_u16(12) {
                Some(ethernet::ARP) => PassReason::Arp,
                _ => PassReason::Other,
            });
        }
        if reason == DropReason::BadExtension
            && let Some(addresses) = layers::addresses_v6(self.frame)
            && self.protected(&addresses).is_some()
        {
            return Decision::drop(DropReason::BadExtension);
        }
        Decision::pass(PassReason::Malformed)
    }

    /// ESP directly over IP, for one of our addresses.
    #[inline(always)]
    fn esp(&self, layers: &Layers) -> Decision {
        if layers.ip.is_fragment {
            return Decision::drop(DropReason::Fragment);
        }
        if (layers.ip.payload_len() as usize) < esp::HEADER_LEN {
            return Decision::drop(DropReason::Runt);
        }
        match self.frame.read(layers.l4_offset as usize) {
            Some(spi) => self.owner(spi, Kind::Esp),
            None => Decision::drop(DropReason::Runt),
        }
    }

    /// UDP for one of our addresses; `None` if it is neither IKE nor ESP.
    #[inline(always)]
    fn udp(&self, layers: &Layers) -> Option<Decision> {
        if layers.ip.is_fragment {
            return Some(Decision::pass(PassReason::Fragment));
        }
        let runt = Some(Decision::drop(DropReason::Runt));
        let Some(payload_len) = (layers.ip.payload_len() as usize).checked_sub(udp::HEADER_LEN)
        else {
            return runt;
        };
        let l4_offset = layers.l4_offset as usize;
        let Some(port) = self.frame.read_u16(l4_offset + 2) else { return runt };
        if port == udp::IKE_PORT {
            return Some(Decision::pass(PassReason::Ike));
        }
        if port != udp::NAT_T_PORT {
            return None;
        }
        let payload = l4_offset + udp::HEADER_LEN;
        if payload_len == 1 && self.frame.read_u8(payload) == Some(esp::KEEPALIVE) {
            return Some(Decision::drop(DropReason::Keepalive));
        }
        if payload_len < esp::NON_ESP_MARKER_LEN {
            return runt;
        }
        let Some(spi) = self.frame.read::<4>(payload) else { return runt };
        if spi == [0; 4] {
            return Some(Decision::pass(PassReason::Ike));
        }
        if payload_len < esp::HEADER_LEN {
            return runt;
        }
        (self.roles & ROLE_OUTER != 0).then(|| self.owner(spi, Kind::EspUdp))
    }

    /// To the worker that owns the SPI. One that nobody owns still goes to a worker, always
    /// the same, which counts it.
    #[inline(always)]
    fn owner(&self, spi: [u8; 4], kind: Kind) -> Decision {
        if self.config.static_spis != 0
            && let Some(worker) = self.tables.static_spi(spi)
        {
            return self.redirect(worker, kind);
        }
        let spi = u32::from_be_bytes(spi);
        let parts = SpiKey(self.config.spi_key).open(spi);
        let worker = u32::from(parts.worker);
        if u32::from(parts.member) == self.config.member && worker < self.config.workers {
            return Decision::redirect(worker, kind);
        }
        Decision::redirect(flow::spread(flow::hash_spi(spi), self.config.workers), kind)
    }

    /// To a worker named by a table, which may name one that is no more.
    #[inline(always)]
    fn redirect(&self, worker: u32, kind: Kind) -> Decision {
        if worker < self.config.workers {
            Decision::redirect(worker, kind)
        } else {
            Decision::drop(DropReason::NoWorker)
        }
    }

    /// The longest prefix of the destination, if on this port it is one to protect.
    #[inline(always)]
    fn protected(&self, addresses: &Addresses) -> Option<PrefixValue> {
        let prefix = match *addresses {
            Addresses::V4 { destination, .. } => self.tables.prefix4(destination),
            Addresses::V6 { destination, .. } => self.tables.prefix6(destination),
        }?;
        let inner = self.roles & ROLE_INNER != 0 && prefix.flags & PREFIX_REMOTE != 0;
        let outer = self.roles & ROLE_OUTER != 0 && prefix.flags & PREFIX_LOCAL != 0;
        (inner || outer).then_some(prefix)
    }
}

const _: () = assert!(size_of::<IpLayer>() <= 64, "it lives on the 512 bytes of a BPF stack");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spi::SpiParts;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const OUTER: [u8; 4] = [203, 0, 113, 1];

    /// One outer address; 10.0.0.0/8 is the far side, 11.0.0.0/8 the near side.
    struct Plain(SteerConfig);

    impl Tables for Plain {
        fn config(&self) -> Option<SteerConfig> {
            Some(self.0)
        }
        fn is_outer(&self, address: &[u8; 16]) -> bool {
            *address == v4_mapped(OUTER)
        }
        fn static_spi(&self, _spi: [u8; 4]) -> Option<u32> {
            None
        }
        fn prefix4(&self, address: [u8; 4]) -> Option<PrefixValue> {
            let flags = match address[0] {
                10 => PREFIX_REMOTE,
                11 => PREFIX_LOCAL,
                _ => return None,
            };
            Some(PrefixValue { flags, worker: WORKER_BY_FLOW })
        }
        fn prefix6(&self, _address: [u8; 16]) -> Option<PrefixValue> {
            None
        }
    }

    fn tables(workers: u32, spi_key: [u32; 4]) -> Plain {
        Plain(SteerConfig { version: STEER_VERSION, workers, member: 1, static_spis: 0, spi_key })
    }

    fn frame(protocol: u8, destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend_from_slice(&ethernet::IPV4.to_be_bytes());
        let [l0, l1] = (20 + payload.len() as u16).to_be_bytes();
        frame.extend_from_slice(&[0x45, 0, l0, l1, 0, 0, 0, 0, 9, protocol, 0, 0, 192, 0, 2, 9]);
        frame.extend_from_slice(&destination);
        frame.extend_from_slice(payload);
        frame
    }

    fn port(roles: u32) -> Option<PortValue> {
        Some(PortValue { index: 0, roles })
    }

    proptest! {
        #[test]
        fn esp_goes_to_the_worker_in_its_spi(
            key: [u32; 4], workers in 1..=MAX_WORKERS, worker: u8, slot in 0..1_u32 << 20, in_udp: bool,
        ) {
            let parts = SpiParts { member: 1, worker, slot };
            let Some(spi) = SpiKey(key).seal(parts) else { return Ok(()) };
            let mut payload = spi.to_be_bytes().to_vec();
            payload.extend_from_slice(&[7; 40]);
            let (kind, frame) = if in_udp {
                let datagram = [&[0, 9, 0x11, 0x94, 0, 52, 0, 0][..], &payload].concat();
                (Kind::EspUdp, frame(layers::UDP, OUTER, &datagram))
            } else {
                (Kind::Esp, frame(layers::ESP, OUTER, &payload))
            };
            let verdict = classify(&frame[..], frame.len(), port(ROLE_OUTER), &tables(workers, key));
            let Verdict::Redirect { worker: to, kind: what } = verdict else {
                panic!("{verdict:?}");
            };
            prop_assert_eq!(what, kind);
            prop_assert!(to < workers);
            prop_assert!(to == u32::from(worker) || u32::from(worker) >= workers);
        }

        #[test]
        fn prefixes_hold_on_the_port_of_their_side(
            first in 9..13_u8, protocol: u8, payload: Vec<u8>, roles in 0..4_u32,
        ) {
            let frame = frame(protocol, [first, 1, 2, 3], &payload);
            let verdict = classify(&frame[..], frame.len(), port(roles), &tables(4, [0; 4]));
            let steered = first == 10 && roles & ROLE_INNER != 0 || first == 11 && roles & ROLE_OUTER != 0;
            match verdict {
                Verdict::Redirect { worker, kind } => {
                    prop_assert!(steered && worker < 4 && kind == Kind::Clear);
                }
                Verdict::Pass(_) => prop_assert!(!steered),
                Verdict::Drop(_) => prop_assert!(false, "nothing here is dropped"),
            }
        }

        #[test]
        fn any_bytes_are_survived(mut bytes: Vec<u8>, ipv6: bool, roles in 0..4_u32, extra in 0..9000_usize) {
            if let Some(at) = bytes.get_mut(12..15) {
                let (high, low, version) = if ipv6 { (0x86, 0xdd, 0x60) } else { (8, 0, 0x45) };
                at.copy_from_slice(&[high, low, version]);
            }
            let tables = tables(4, [1, 2, 3, 4]);
            let decision = decide(&bytes[..], bytes.len() + extra, port(roles), &tables);
            prop_assert!(decision.counter < crate::verdict::COUNTERS);
            prop_assert_eq!(Verdict::from(decision).counter(), decision.counter);
        }
    }
}
