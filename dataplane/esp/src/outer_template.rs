//! The headers in front of ESP in tunnel mode, made once for each SA.
//!
//! Of a packet's outer header only length, traffic class, identification, DF and checksum are
//! the packet's own; everything else is copied. The checksum is that of the constant part plus
//! what is put in (RFC 1071 section 2 (A): a sum in any order).

use xswan_wire::layers::{Addresses, ESP, UDP};
use xswan_wire::{ipv4, ipv6, udp};

use crate::sa::UdpPorts;

/// Octets of the longest: IPv6 and UDP. So many are always written, what is too many is written
/// over by ESP, which has more octets than the difference.
pub(crate) const TEMPLATE_LEN: usize = ipv6::HEADER_LEN + udp::HEADER_LEN;

/// What of an outer header differs from packet to packet.
pub(crate) struct Variable {
    /// DSCP and ECN.
    pub(crate) traffic_class: u8,
    /// IPv4: do not fragment.
    pub(crate) dont_fragment: bool,
    /// IPv4: identification, if fragments are allowed.
    pub(crate) identification: u16,
}

/// IP header and UDP header of one SA, with zeros where packets differ.
pub(crate) struct OuterTemplate {
    octets: [u8; TEMPLATE_LEN],
    /// Sum of the IPv4 header's 16-bit words, not folded.
    sum: u32,
    len: u8,
    is_v4: bool,
    has_udp: bool,
}

impl OuterTemplate {
    /// For these ends; `ttl` and `flow_label` are the outer header's.
    pub(crate) fn new(
        addresses: &Addresses,
        encap: Option<UdpPorts>,
        ttl: u8,
        flow_label: u32,
    ) -> Self {
        let mut octets = [0; TEMPLATE_LEN];
        let protocol = if encap.is_some() { UDP } else { ESP };
        let ip_len = match *addresses {
            Addresses::V4 { source, destination } => ipv4::Repr {
                source,
                destination,
                total_len: 0,
                identification: 0,
                dont_fragment: false,
                traffic_class: 0,
                ttl,
                protocol,
            }
            .emit(&mut octets),
            Addresses::V6 { source, destination } => ipv6::Repr {
                source,
                destination,
                payload_len: 0,
                next_header: protocol,
                hop_limit: ttl,
                traffic_class: 0,
                flow_label,
            }
            .emit(&mut octets),
        };
        if let (Some(ports), Some(datagram)) = (encap, octets.get_mut(ip_len.unwrap_or(0)..)) {
            udp::Repr { source_port: ports.local, destination_port: ports.remote, len: 0 }
                .emit(datagram);
        }
        let (is_v4, has_udp) = (addresses.is_v4(), encap.is_some());
        let udp_len = if has_udp { udp::HEADER_LEN } else { 0 };
        let len = u8::try_from(ip_len.unwrap_or(0).saturating_add(udp_len)).unwrap_or(0);
        if is_v4 && let Some(checksum) = octets.get_mut(10..12) {
            checksum.fill(0);
        }
        let (words, _) = octets.as_chunks::<2>();
        let header = words.iter().take(ipv4::HEADER_LEN / 2);
        let sum = header.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
        Self { octets, sum, len, is_v4, has_udp }
    }

    /// Length in bytes of the headers.
    #[inline(always)]
    pub(crate) const fn len(&self) -> u8 {
        self.len
    }

    /// Writes the headers to the front of `out`, which is the whole outer packet; `None` if it is
    /// too short or too long for one.
    #[expect(clippy::cast_possible_truncation, reason = "20 or 40")]
    #[inline(always)]
    pub(crate) fn emit(&self, variable: &Variable, out: &mut [u8]) -> Option<()> {
        let total_len = u16::try_from(out.len()).ok()?;
        let front = out.first_chunk_mut::<TEMPLATE_LEN>()?;
        *front = self.octets;
        let ip_len = if self.is_v4 {
            self.vary_v4(variable, total_len, front);
            ipv4::HEADER_LEN
        } else {
            let payload_len = total_len.wrapping_sub(ipv6::HEADER_LEN as u16);
            [front[4], front[5]] = payload_len.to_be_bytes();
            front[0] |= variable.traffic_class >> 4;
            front[1] |= variable.traffic_class << 4;
            ipv6::HEADER_LEN
        };
        if self.has_udp {
            let len = total_len.wrapping_sub(ip_len as u16).to_be_bytes();
            *front.get_mut(ip_len.wrapping_add(4)..)?.first_chunk_mut::<2>()? = len;
        }
        Some(())
    }

    #[inline(always)]
    fn vary_v4(&self, variable: &Variable, total_len: u16, front: &mut [u8; TEMPLATE_LEN]) {
        // RFC 6864: with DF the identification means nothing; without, it must differ among the
        // packets that can be under way at once.
        let (fragment, identification) = match variable.dont_fragment {
            true => (ipv4::DONT_FRAGMENT, 0),
            false => (0, variable.identification),
        };
        // Fourteen words of 16 bits cannot overflow 32.
        let sum = self
            .sum
            .wrapping_add(u32::from(variable.traffic_class))
            .wrapping_add(u32::from(total_len))
            .wrapping_add(u32::from(identification))
            .wrapping_add(u32::from(fragment));
        let sum = (sum >> 16).wrapping_add(sum & 0xffff);
        let checksum = !((sum >> 16).wrapping_add(sum) as u16);
        front[1] = variable.traffic_class;
        [front[2], front[3]] = total_len.to_be_bytes();
        [front[4], front[5]] = identification.to_be_bytes();
        [front[6], front[7]] = fragment.to_be_bytes();
        [front[10], front[11]] = checksum.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::{OuterTemplate, Variable};
    use crate::sa::UdpPorts;
    use proptest::prelude::*;
    use std::vec;
    use xswan_wire::layers::{Addresses, ESP, UDP};
    use xswan_wire::{ipv4, ipv6, udp};

    proptest! {
        /// What the template writes is what the formats of `wire` write field by field.
        #[test]
        fn template_is_the_header(
            v4: bool, ports: Option<(u16, u16)>, ttl: u8, flow_label in 0_u32..1 << 20,
            traffic_class: u8, dont_fragment: bool, identification: u16, len in 76_usize..=0xffff,
            source: [u8; 16], destination: [u8; 16],
        ) {
            let encap = ports.map(|(local, remote)| UdpPorts { local, remote });
            let protocol = if encap.is_some() { UDP } else { ESP };
            let first = |octets: [u8; 16]| [octets[0], octets[1], octets[2], octets[3]];
            let mut expected = vec![0_u8; len];
            let (addresses, ip_len) = if v4 {
                let (source, destination) = (first(source), first(destination));
                let repr = ipv4::Repr {
                    source, destination, total_len: len as u16, dont_fragment, traffic_class, ttl,
                    identification: if dont_fragment { 0 } else { identification }, protocol,
                };
                (Addresses::V4 { source, destination }, repr.emit(&mut expected).unwrap())
            } else {
                let repr = ipv6::Repr {
                    source, destination, payload_len: (len - 40) as u16, next_header: protocol,
                    hop_limit: ttl, traffic_class, flow_label,
                };
                (Addresses::V6 { source, destination }, repr.emit(&mut expected).unwrap())
            };
            let mut front_len = ip_len;
            if let Some(UdpPorts { local, remote }) = encap {
                let len = (len - ip_len) as u16;
                let repr = udp::Repr { source_port: local, destination_port: remote, len };
                front_len += repr.emit(&mut expected[ip_len..]).unwrap();
            }
            let template = OuterTemplate::new(&addresses, encap, ttl, flow_label);
            let mut out = vec![0xa5; len];
            let variable = Variable { traffic_class, dont_fragment, identification };
            prop_assert_eq!(template.emit(&variable, &mut out), Some(()));
            prop_assert_eq!(&out[..front_len], &expected[..front_len]);
        }
    }
}
