//! The Configuration payload (RFC 7296 section 3.15): addresses for the initiator.

use crate::pool::LeaseError;
use crate::sa::Context;
use crate::wire::{Attribute, AttributeType, Configuration, ConfigurationType, Payload};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use xswan_credentials::Identity;

/// What a peer asks for: `None` of an address leaves the choice to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressRequest {
    pub(crate) ipv6: bool,
    pub(crate) wanted: Option<IpAddr>,
}

/// What was assigned to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) dns: Vec<IpAddr>,
}

/// The request for virtual addresses; `None` if there are none to ask for.
pub(crate) fn request(vips: &[IpAddr]) -> Option<Payload> {
    let mut attributes = Vec::new();
    for vip in vips {
        let (kind, dns) = match vip {
            IpAddr::V4(_) => (AttributeType::INTERNAL_IP4_ADDRESS, AttributeType::INTERNAL_IP4_DNS),
            IpAddr::V6(_) => (AttributeType::INTERNAL_IP6_ADDRESS, AttributeType::INTERNAL_IP6_DNS),
        };
        let value = if vip.is_unspecified() { Vec::new() } else { address_value(*vip) };
        attributes.push(Attribute::new(kind, value));
        let dns = Attribute::new(dns, Vec::new());
        if !attributes.contains(&dns) {
            attributes.push(dns);
        }
    }
    (!attributes.is_empty())
        .then_some(Payload::Cp(Configuration { kind: ConfigurationType::REQUEST, attributes }))
}

fn address_value(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => {
            let mut value = address.octets().to_vec();
            value.push(128);
            value
        }
    }
}

fn ipv4(value: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(value).ok().map(|octets| Ipv4Addr::from(octets).into())
}

fn ipv6(value: &[u8]) -> Option<IpAddr> {
    let octets = value.first_chunk::<16>()?;
    Some(Ipv6Addr::from(*octets).into())
}

/// The attributes of a CP payload of a type.
fn attributes(payloads: &[Payload], kind: ConfigurationType) -> Option<&[Attribute]> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Cp(configuration) if configuration.kind == kind => {
            Some(configuration.attributes.as_slice())
        }
        _ => None,
    })
}

/// What we were given.
pub(crate) fn assigned(payloads: &[Payload]) -> Assigned {
    let mut assigned = Assigned::default();
    for attribute in attributes(payloads, ConfigurationType::REPLY).unwrap_or_default() {
        let value = attribute.value.as_slice();
        match attribute.kind {
            AttributeType::INTERNAL_IP4_ADDRESS => assigned.addresses.extend(ipv4(value)),
            AttributeType::INTERNAL_IP6_ADDRESS => assigned.addresses.extend(ipv6(value)),
            AttributeType::INTERNAL_IP4_DNS => assigned.dns.extend(ipv4(value)),
            AttributeType::INTERNAL_IP6_DNS => assigned.dns.extend(ipv6(value)),
            _ => {}
        }
    }
    assigned
}

/// The addresses a peer asks for; `None` if it sent no CFG_REQUEST.
pub(crate) fn requested(payloads: &[Payload]) -> Option<Vec<AddressRequest>> {
    let list = attributes(payloads, ConfigurationType::REQUEST)?;
    let request = |attribute: &Attribute| {
        let value = attribute.value.as_slice();
        let (ipv6_wanted, wanted) = match attribute.kind {
            AttributeType::INTERNAL_IP4_ADDRESS => (false, ipv4(value)),
            AttributeType::INTERNAL_IP6_ADDRESS => (true, ipv6(value)),
            _ => return None,
        };
        let wanted = wanted.filter(|address| !address.is_unspecified());
        Some(AddressRequest { ipv6: ipv6_wanted, wanted })
    };
    // More than one of a family is nobody's need here; the bound keeps pools from being drained.
    let mut requests: Vec<AddressRequest> = Vec::new();
    for request in list.iter().filter_map(request) {
        if !requests.iter().any(|known| known.ipv6 == request.ipv6) {
            requests.push(request);
        }
    }
    Some(requests)
}

/// Leases what is asked for. Some of it may be missing if not all is.
///
/// # Errors
/// There is not a single address.
pub(crate) fn lease(
    ctx: &mut Context<'_>,
    pools: &[String],
    identity: &Identity,
    requests: &[AddressRequest],
) -> Result<Vec<IpAddr>, LeaseError> {
    let mut leased = Vec::new();
    let mut error = None;
    for request in requests {
        match ctx.pools.lease(pools, request.ipv6, identity, request.wanted) {
            Ok(address) => leased.push(address),
            Err(why) => error = Some(why),
        }
    }
    match error {
        Some(error) if leased.is_empty() => Err(error),
        _ => Ok(leased),
    }
}

/// The reply with leased addresses and what goes with them.
pub(crate) fn reply(ctx: &Context<'_>, pools: &[String], leased: &[IpAddr]) -> Payload {
    let mut attributes: Vec<Attribute> = leased
        .iter()
        .map(|address| {
            let kind = match address {
                IpAddr::V4(_) => AttributeType::INTERNAL_IP4_ADDRESS,
                IpAddr::V6(_) => AttributeType::INTERNAL_IP6_ADDRESS,
            };
            Attribute::new(kind, address_value(*address))
        })
        .collect();
    for pool in ctx.pools.policies(pools) {
        for server in &pool.dns {
            attributes.push(match server {
                IpAddr::V4(server) => {
                    Attribute::new(AttributeType::INTERNAL_IP4_DNS, server.octets().to_vec())
                }
                IpAddr::V6(server) => {
                    Attribute::new(AttributeType::INTERNAL_IP6_DNS, server.octets().to_vec())
                }
            });
        }
        for server in &pool.nbns {
            if let IpAddr::V4(server) = server {
                let value = server.octets().to_vec();
                attributes.push(Attribute::new(AttributeType::INTERNAL_IP4_NBNS, value));
            }
        }
        attributes.extend(pool.subnets.iter().map(|(address, length)| subnet(*address, *length)));
        for domain in &pool.domains {
            let value = domain.clone().into_bytes();
            attributes.push(Attribute::new(AttributeType::INTERNAL_DNS_DOMAIN, value));
        }
    }
    Payload::Cp(Configuration { kind: ConfigurationType::REPLY, attributes })
}

fn subnet(address: IpAddr, length: u8) -> Attribute {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            let mut value = address.octets().to_vec();
            value.extend_from_slice(&mask.to_be_bytes());
            Attribute::new(AttributeType::INTERNAL_IP4_SUBNET, value)
        }
        IpAddr::V6(address) => {
            let mut value = address.octets().to_vec();
            value.push(length.min(128));
            Attribute::new(AttributeType::INTERNAL_IP6_SUBNET, value)
        }
    }
}
