//! The outer headers of a received ESP packet, raw or in UDP (RFC 3948 section 2.1).
//!
//! Takes the layers of a frame and guarantees that what lies between `esp_offset` and
//! `end` is ESP of a whole, unfragmented IP packet, at least as long as the smallest ESP
//! packet, with a SPI that may exist. Lengths come from the IP header: what Ethernet padded
//! behind it is not seen.

use core::net::IpAddr;

use xswan_wire::brief::Brief;
use xswan_wire::layers::{Addresses, ESP, UDP};
use xswan_wire::{Bytes, DropReason, esp, ipv4, udp};

use crate::aead::{IV_LEN, TAG_LEN};
use crate::sa::Source;

/// Length in bytes of SPI, sequence number, IV, pad length, next header and ICV, with the
/// two bytes of padding that alignment then asks for: nothing shorter can be ESP.
pub const MIN_ESP_LEN: usize = esp::HEADER_LEN + IV_LEN + 4 + TAG_LEN;

/// What is outside of the protected part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Version, source and destination.
    pub addresses: Addresses,
    /// Source and destination port if UDP-encapsulated.
    pub ports: Option<(u16, u16)>,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Where the IP header starts.
    pub ip_offset: u16,
    /// Where ESP starts.
    pub esp_offset: u16,
    /// Where the IP packet ends.
    pub end: u32,
    /// Length in bytes of the IP header with options or extensions.
    pub ip_header_len: u16,
    /// SPI, not below 256.
    pub spi: u32,
    /// Low half of the sequence number.
    pub seq_low: u32,
}

impl Outer {
    /// Reads the outer headers of a bare IP packet, which may be followed by padding.
    ///
    /// # Errors
    /// Those of [`Brief::of_packet`] and [`Outer::from_brief`].
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        Self::from_brief(&Brief::of_packet(packet)?, packet)
    }

    /// Reads what follows the IP header of `frame`, whose shape is known.
    ///
    /// # Errors
    /// [`DropReason::Fragment`], [`DropReason::BadIpChecksum`], [`DropReason::Runt`],
    /// [`DropReason::ReservedSpi`]; in UDP [`DropReason::BadUdpLength`],
    /// [`DropReason::BadUdpChecksum`], [`DropReason::Keepalive`]; and
    /// [`DropReason::NotLocal`] for what is no ESP at all.
    #[expect(clippy::cast_possible_truncation, reason = "an IP packet's lengths")]
    #[inline(always)]
    pub fn from_brief(brief: &Brief, frame: &[u8]) -> Result<Self, DropReason> {
        if brief.is_fragment() {
            return Err(DropReason::Fragment);
        }
        let packet = brief.packet(frame);
        if brief.is_v4() && !ipv4::checksum_is_right(packet) {
            return Err(DropReason::BadIpChecksum);
        }
        let addresses = brief.addresses(frame).ok_or(DropReason::BadIpLength)?;
        let payload = packet.get(brief.header_len()..).ok_or(DropReason::Runt)?;
        let (ports, esp_bytes, esp_offset) = match brief.protocol {
            ESP => (None, payload, brief.l4_offset),
            UDP => {
                let (ports, inside) = udp_encapsulated(&addresses, payload)?;
                (Some(ports), inside, brief.l4_offset.wrapping_add(udp::HEADER_LEN as u16))
            }
            _ => return Err(DropReason::NotLocal),
        };
        // No field is read before the length has been compared.
        if esp_bytes.len() < MIN_ESP_LEN {
            return Err(DropReason::Runt);
        }
        let header = esp::Header::parse(esp_bytes, 0).ok_or(DropReason::Runt)?;
        if header.spi < esp::FIRST_SPI {
            return Err(DropReason::ReservedSpi);
        }
        Ok(Self {
            addresses,
            ports,
            traffic_class: brief.traffic_class,
            ip_offset: brief.l3_offset,
            esp_offset,
            end: brief.l3_end() as u32,
            ip_header_len: brief.header_len() as u16,
            spi: header.spi,
            seq_low: header.sequence,
        })
    }
}

impl Outer {
    /// Where it came from.
    #[must_use]
    pub fn source(&self) -> Source {
        let address = match self.addresses {
            Addresses::V4 { source, .. } => IpAddr::from(source),
            Addresses::V6 { source, .. } => IpAddr::from(source),
        };
        Source { address, port: self.ports.map(|(port, _)| port) }
    }
}

fn udp_encapsulated<'a>(
    addresses: &Addresses,
    payload: &'a [u8],
) -> Result<((u16, u16), &'a [u8]), DropReason> {
    if payload.len() < udp::HEADER_LEN {
        return Err(DropReason::BadUdpLength);
    }
    let (header, inside) = udp::Header::new_checked(payload)?;
    // RFC 3948 section 2.1: the checksum should be zero, and a receiver must not insist on it.
    if !udp::checksum_is_right(addresses, payload) {
        return Err(DropReason::BadUdpChecksum);
    }
    if inside == [esp::KEEPALIVE] {
        return Err(DropReason::Keepalive);
    }
    // IKE, with the non-ESP marker, is the kernel's; the classifier never sends it here.
    if inside.read_u32(0) == Some(0) {
        return Err(DropReason::ReservedSpi);
    }
    Ok(((header.source_port.get(), header.destination_port.get()), inside))
}

const _: () = assert!(MIN_ESP_LEN == 36);
