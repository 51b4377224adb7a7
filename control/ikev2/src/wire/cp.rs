//! The Configuration payload (RFC 7296 section 3.15).
//!
//! ```text
//! type 8 | reserved 24
//! attribute: reserved 1 | type 15 | length 16
//!            value
//! ```

use super::code_point::code_points;
use super::reader::{Reader, length16};
use super::{PayloadType, WireError};

/// Attributes of one payload at most.
pub const MAX_ATTRIBUTES: usize = 256;
/// The bit before the attribute type.
const RESERVED: u16 = 0x8000;

code_points! {
    /// What is configured (section 3.15.1).
    AttributeType(u16) {
        1 INTERNAL_IP4_ADDRESS "ADDR" "IPv4 address; 0 or 4 octets.";
        2 INTERNAL_IP4_NETMASK "MASK" "Mask of the IPv4 address; 0 or 4 octets.";
        3 INTERNAL_IP4_DNS "DNS" "IPv4 name server; 0 or 4 octets.";
        4 INTERNAL_IP4_NBNS "NBNS" "IPv4 NetBIOS name server; 0 or 4 octets.";
        5 INTERNAL_ADDRESS_EXPIRY "EXP" "Withdrawn in RFC 5996; seconds.";
        6 INTERNAL_IP4_DHCP "DHCP" "IPv4 DHCP server; 0 or 4 octets.";
        7 APPLICATION_VERSION "VER" "Version of the software; text.";
        8 INTERNAL_IP6_ADDRESS "ADDR6" "IPv6 address and prefix length; 0 or 17 octets.";
        10 INTERNAL_IP6_DNS "DNS6" "IPv6 name server; 0 or 16 octets.";
        11 INTERNAL_IP6_NBNS "NBNS6" "Withdrawn in RFC 5996.";
        12 INTERNAL_IP6_DHCP "DHCP6" "IPv6 DHCP server; 0 or 16 octets.";
        13 INTERNAL_IP4_SUBNET "SUBNET" "Network behind the gateway: address and mask, 8 octets.";
        14 SUPPORTED_ATTRIBUTES "SUP" "Attribute types that are understood.";
        15 INTERNAL_IP6_SUBNET "SUBNET6" "Network behind the gateway: 17 octets.";
        16 MIP6_HOME_PREFIX "MIP6HPFX" "RFC 5026.";
        17 INTERNAL_IP6_LINK "LINK6" "RFC 5739.";
        18 INTERNAL_IP6_PREFIX "PFX6" "RFC 5739.";
        19 HOME_AGENT_ADDRESS "HOA" "3GPP TS 24.302.";
        25 INTERNAL_DNS_DOMAIN "DNS_DOMAIN" "Domain behind the gateway (RFC 8598).";
        26 INTERNAL_DNSSEC_TA "DNSSEC_TA" "Trust anchor of such a domain (RFC 8598).";
        23456 INTERNAL_IP4_SERVER "SRV" "Microsoft's IPv4 server.";
        23457 INTERNAL_IP6_SERVER "SRV6" "Microsoft's IPv6 server.";
    }
}

code_points! {
    /// What the payload is for (section 3.15).
    ConfigurationType(u8) {
        1 REQUEST "RQ" "CFG_REQUEST.";
        2 REPLY "RP" "CFG_REPLY.";
        3 SET "S" "CFG_SET.";
        4 ACK "A" "CFG_ACK.";
    }
}

/// One attribute; the length is not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Attribute type, 15 bits.
    pub kind: AttributeType,
    /// Its value, empty where something is asked for.
    pub value: Vec<u8>,
}

impl Attribute {
    /// An attribute.
    #[must_use]
    pub const fn new(kind: AttributeType, value: Vec<u8>) -> Self {
        Self { kind, value }
    }
}

/// The payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// What it is for.
    pub kind: ConfigurationType,
    /// The attributes.
    pub attributes: Vec<Attribute>,
}

impl Configuration {
    pub(super) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(PayloadType::CP, body);
        let [kind, _, _, _] = reader.array()?;
        let mut attributes = Vec::new();
        while !reader.is_empty() {
            if attributes.len() == MAX_ATTRIBUTES {
                return Err(reader.too_many());
            }
            let kind = AttributeType(reader.u16()? & !RESERVED);
            let length = usize::from(reader.u16()?);
            attributes.push(Attribute { kind, value: reader.take(length)?.to_vec() });
        }
        Ok(Self { kind: ConfigurationType(kind), attributes })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        if self.attributes.len() > MAX_ATTRIBUTES {
            return Err(WireError::TooMany(PayloadType::CP));
        }
        out.extend_from_slice(&[self.kind.0, 0, 0, 0]);
        for attribute in &self.attributes {
            out.extend_from_slice(&(attribute.kind.0 & !RESERVED).to_be_bytes());
            out.extend_from_slice(&length16(attribute.value.len(), PayloadType::CP)?);
            out.extend_from_slice(&attribute.value);
        }
        Ok(())
    }
}
