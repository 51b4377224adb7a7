//! ESP packets made by hand, one byte after the other: also those that no honest sender makes.
//!
//! Independent of the ESP core: its own headers, its own checksums, its own cipher calls.
//! Every field can be made wrong while the ICV stays right.

use std::net::IpAddr;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};

use crate::failure::Failure;

/// What goes into the UDP checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    /// None.
    Zero,
    /// The right one.
    Right,
    /// A wrong one, not zero.
    Wrong,
}

/// The recipe of one packet.
#[derive(Clone, Debug)]
pub struct EspBuilder {
    /// Key of 16, 24 or 32 bytes.
    pub key: Vec<u8>,
    /// ChaCha20-Poly1305 instead of AES-GCM.
    pub chacha: bool,
    /// Salt.
    pub salt: [u8; 4],
    /// SPI.
    pub spi: u32,
    /// Full sequence number.
    pub sequence: u64,
    /// Whether the high half is authenticated.
    pub esn: bool,
    /// High half in the additional data, if another than the sequence number's.
    pub aad_high: Option<u32>,
    /// Explicit IV; the sequence number unless given.
    pub iv: Option<[u8; 8]>,
    /// What is protected.
    pub payload: Vec<u8>,
    /// Bytes after the payload, before the padding.
    pub tfc: Vec<u8>,
    /// Pad bytes; 1, 2, 3… up to alignment unless given.
    pub pad: Option<Vec<u8>>,
    /// The pad length field, if another than the padding's.
    pub pad_len: Option<u8>,
    /// Next header.
    pub next_header: u8,
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// DSCP and ECN of the outer header.
    pub traffic_class: u8,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: type and content, the first two bytes of which are overwritten.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// The IPv4 flags and fragment offset field.
    pub fragment: u16,
    /// UDP source and destination port.
    pub udp: Option<(u16, u16)>,
    /// UDP checksum.
    pub udp_checksum: UdpChecksum,
    /// UDP length field, if another than the right one.
    pub udp_len: Option<u16>,
    /// Cuts the ESP part to this many bytes, headers adjusted.
    pub cut: Option<usize>,
}

impl EspBuilder {
    /// IPv4 in IPv4 from 192.0.2.1 to 192.0.2.2, AES-128-GCM, no ESN.
    #[must_use]
    pub fn new(spi: u32, key: &[u8], salt: [u8; 4], sequence: u64, payload: &[u8]) -> Self {
        Self {
            key: key.to_vec(),
            chacha: false,
            salt,
            spi,
            sequence,
            esn: false,
            aad_high: None,
            iv: None,
            payload: payload.to_vec(),
            tfc: Vec::new(),
            pad: None,
            pad_len: None,
            next_header: 4,
            source: IpAddr::from([192, 0, 2, 1]),
            destination: IpAddr::from([192, 0, 2, 2]),
            traffic_class: 0,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: 0,
            udp: None,
            udp_checksum: UdpChecksum::Zero,
            udp_len: None,
            cut: None,
        }
    }

    /// The whole packet, from the outer IP header on.
    ///
    /// # Errors
    /// A recipe that has no packet: a key of no algorithm, mixed address families, too long.
    pub fn build(&self) -> Result<Vec<u8>, Failure> {
        let mut esp = self.esp()?;
        if let Some(len) = self.cut {
            esp.truncate(len);
        }
        let datagram = match self.udp {
            Some(ports) => self.udp_datagram(ports, &esp)?,
            None => esp,
        };
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.ipv4(source.octets(), destination.octets(), &datagram)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.ipv6(source.octets(), destination.octets(), &datagram)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                Err("the outer addresses are of two families".into())
            }
        }
    }

    /// From the SPI to the ICV.
    ///
    /// # Errors
    /// A key of no algorithm.
    pub fn esp(&self) -> Result<Vec<u8>, Failure> {
        let mut plain = self.payload.clone();
        plain.extend_from_slice(&self.tfc);
        let pad = self.pad.clone().unwrap_or_else(|| {
            let missing = (4 - (plain.len() + 2) % 4) % 4;
            (1..=missing).map(|value| value as u8).collect()
        });
        plain.extend_from_slice(&pad);
        plain.push(self.pad_len.unwrap_or(pad.len() as u8));
        plain.push(self.next_header);

        let iv = self.iv.unwrap_or_else(|| self.sequence.to_be_bytes());
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(&iv);
        let mut aad = self.spi.to_be_bytes().to_vec();
        if self.esn {
            let high = self.aad_high.unwrap_or((self.sequence >> 32) as u32);
            aad.extend_from_slice(&high.to_be_bytes());
        }
        aad.extend_from_slice(&(self.sequence as u32).to_be_bytes());

        let unbound = UnboundKey::new(self.algorithm()?, &self.key)
            .map_err(|_unspecified| Failure::new("the key was refused"))?;
        LessSafeKey::new(unbound)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&aad),
                &mut plain,
            )
            .map_err(|_unspecified| Failure::new("the packet could not be sealed"))?;

        let mut esp = self.spi.to_be_bytes().to_vec();
        esp.extend_from_slice(&(self.sequence as u32).to_be_bytes());
        esp.extend_from_slice(&iv);
        esp.extend_from_slice(&plain);
        Ok(esp)
    }

    fn algorithm(&self) -> Result<&'static aws_lc_rs::aead::Algorithm, Failure> {
        match (self.chacha, self.key.len()) {
            (true, 32) => Ok(&CHACHA20_POLY1305),
            (false, 16) => Ok(&AES_128_GCM),
            (false, 24) => Ok(&AES_192_GCM),
            (false, 32) => Ok(&AES_256_GCM),
            (_, other) => Err(format!("no algorithm takes a key of {other} bytes").into()),
        }
    }

    fn udp_datagram(&self, ports: (u16, u16), esp: &[u8]) -> Result<Vec<u8>, Failure> {
        let len = u16::try_from(esp.len() + 8)
            .map_err(|_long| Failure::new("longer than a UDP datagram"))?;
        let field = self.udp_len.unwrap_or(len);
        let mut datagram = Vec::new();
        for value in [ports.0, ports.1, field, 0] {
            datagram.extend_from_slice(&value.to_be_bytes());
        }
        datagram.extend_from_slice(esp);
        if self.udp_checksum == UdpChecksum::Zero {
            return Ok(datagram);
        }
        let mut summed = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                summed.extend_from_slice(&source.octets());
                summed.extend_from_slice(&destination.octets());
            }
            (source, destination) => {
                for address in [source, destination] {
                    if let IpAddr::V6(address) = address {
                        summed.extend_from_slice(&address.octets());
                    }
                }
            }
        }
        summed.extend_from_slice(&[0, 17]);
        summed.extend_from_slice(&len.to_be_bytes());
        summed.extend_from_slice(&datagram);
        let right = match ones_complement(&summed) {
            0 => 0xffff,
            sum => sum,
        };
        let wrong = if right == 0x1234 { 0x4321 } else { 0x1234 };
        let value = if self.udp_checksum == UdpChecksum::Right { right } else { wrong };
        datagram[6..8].copy_from_slice(&value.to_be_bytes());
        Ok(datagram)
    }

    fn protocol(&self) -> u8 {
        if self.udp.is_some() { 17 } else { 50 }
    }

    fn ipv4(&self, source: [u8; 4], to: [u8; 4], payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let header_len = 20 + self.options.len();
        let total_len = u16::try_from(header_len + payload.len())
            .map_err(|_long| Failure::new("longer than an IPv4 packet"))?;
        let mut packet = vec![0x40 | (header_len / 4) as u8, self.traffic_class];
        packet.extend_from_slice(&total_len.to_be_bytes());
        packet.extend_from_slice(&[0, 0]);
        packet.extend_from_slice(&self.fragment.to_be_bytes());
        packet.extend_from_slice(&[64, self.protocol(), 0, 0]);
        packet.extend_from_slice(&source);
        packet.extend_from_slice(&to);
        packet.extend_from_slice(&self.options);
        let checksum = ones_complement(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend_from_slice(payload);
        Ok(packet)
    }

    fn ipv6(&self, source: [u8; 16], to: [u8; 16], payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let extensions_len: usize = self.extensions.iter().map(|(_, content)| content.len()).sum();
        let payload_len = u16::try_from(extensions_len + payload.len())
            .map_err(|_long| Failure::new("longer than an IPv6 packet"))?;
        let first = self.extensions.first().map_or(self.protocol(), |(kind, _)| *kind);
        let mut packet = vec![0x60 | self.traffic_class >> 4, self.traffic_class << 4, 0, 0];
        packet.extend_from_slice(&payload_len.to_be_bytes());
        packet.extend_from_slice(&[first, 64]);
        packet.extend_from_slice(&source);
        packet.extend_from_slice(&to);
        for (index, (kind, content)) in self.extensions.iter().enumerate() {
            let next = self.extensions.get(index + 1).map_or(self.protocol(), |(kind, _)| *kind);
            let mut content = content.clone();
            content[0] = next;
            if *kind != 44 {
                content[1] = (content.len() / 8 - 1) as u8;
            }
            packet.extend_from_slice(&content);
        }
        packet.extend_from_slice(payload);
        Ok(packet)
    }
}

/// The Internet checksum over bytes in which its field is zero.
fn ones_complement(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
