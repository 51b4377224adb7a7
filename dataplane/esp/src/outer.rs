//! The outer headers of a received ESP packet, raw or in UDP (RFC 3948 section 2.1).
//!
//! Takes the layers of a frame and guarantees that what lies between `esp_offset` and
//! `end` is ESP of a whole, unfragmented IP packet, at least as long as the smallest ESP
//! packet, with a SPI that may exist. Lengths come from the IP header: what Ethernet padded
//! behind it is not seen.

use xswan_wire::layers::{self, Addresses, ESP, Layers, UDP};
use xswan_wire::{Bytes, DropReason, esp, ipv4, udp};

use crate::aead::{IV_LEN, TAG_LEN};

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
    pub ip_offset: usize,
    /// Where ESP starts.
    pub esp_offset: usize,
    /// Where the IP packet ends.
    pub end: usize,
    /// Length in bytes of the IP header with options or extensions.
    pub ip_header_len: usize,
    /// SPI, not below 256.
    pub spi: u32,
    /// Low half of the sequence number.
    pub seq_low: u32,
}

impl Outer {
    /// Reads the outer headers of a bare IP packet, which may be followed by padding.
    ///
    /// # Errors
    /// Those of [`layers::parse_packet`] and [`Outer::from_layers`].
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        Self::from_layers(&layers::parse_packet(packet, packet.len())?, packet)
    }

    /// Reads what follows the IP header of `frame`, whose layers are known.
    ///
    /// # Errors
    /// [`DropReason::Fragment`], [`DropReason::BadIpChecksum`], [`DropReason::Runt`],
    /// [`DropReason::ReservedSpi`]; in UDP [`DropReason::BadUdpLength`],
    /// [`DropReason::BadUdpChecksum`], [`DropReason::Keepalive`]; and
    /// [`DropReason::NotLocal`] for what is no ESP at all.
    #[inline]
    pub fn from_layers(layers: &Layers, frame: &[u8]) -> Result<Self, DropReason> {
        let ip = &layers.ip;
        if ip.is_fragment {
            return Err(DropReason::Fragment);
        }
        let (ip_offset, end) = (usize::from(layers.l3_offset), layers.l3_end());
        let packet = frame.get(ip_offset..end).ok_or(DropReason::BadIpLength)?;
        if ip.is_v4() && !ipv4::checksum_is_right(packet) {
            return Err(DropReason::BadIpChecksum);
        }
        let l4_offset = usize::from(layers.l4_offset);
        let payload = frame.get(l4_offset..end).ok_or(DropReason::Runt)?;
        let (ports, esp_bytes, esp_offset) = match ip.protocol {
            ESP => (None, payload, l4_offset),
            UDP => {
                let (ports, inside) = udp_encapsulated(&ip.addresses, payload)?;
                (Some(ports), inside, l4_offset.saturating_add(udp::HEADER_LEN))
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
            addresses: ip.addresses,
            ports,
            traffic_class: ip.traffic_class,
            ip_offset,
            esp_offset,
            end,
            ip_header_len: usize::from(ip.header_len),
            spi: header.spi,
            seq_low: header.sequence,
        })
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
