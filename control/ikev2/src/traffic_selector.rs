//! Narrowing of traffic selectors (RFC 7296 section 2.9).

use crate::policy::SelectorTemplate;
use crate::wire::TrafficSelector;
use std::net::IpAddr;

/// Selectors of one side with the addresses filled in. `addresses` are the side's own: its
/// virtual addresses if it has any, its outer one otherwise.
#[must_use]
pub fn resolve(templates: &[SelectorTemplate], addresses: &[IpAddr]) -> Vec<TrafficSelector> {
    let mut selectors = Vec::new();
    for template in templates {
        match template {
            SelectorTemplate::Fixed(selector) => selectors.push(*selector),
            SelectorTemplate::Dynamic { protocol, first_port, last_port } => {
                selectors.extend(addresses.iter().map(|address| TrafficSelector {
                    protocol: *protocol,
                    first_port: *first_port,
                    last_port: *last_port,
                    first: *address,
                    last: *address,
                }));
            }
        }
    }
    selectors
}

/// What both selectors select. `None`: nothing.
#[must_use]
pub fn intersect(one: &TrafficSelector, other: &TrafficSelector) -> Option<TrafficSelector> {
    if one.first.is_ipv4() != other.first.is_ipv4() {
        return None;
    }
    let protocol = match (one.protocol, other.protocol) {
        (same, 0) | (0, same) => same,
        (one, other) if one == other => one,
        _ => return None,
    };
    let (first, last) = (one.first.max(other.first), one.last.min(other.last));
    let (first_port, last_port) = ports(one, other)?;
    (first <= last).then_some(TrafficSelector { protocol, first_port, last_port, first, last })
}

fn ports(one: &TrafficSelector, other: &TrafficSelector) -> Option<(u16, u16)> {
    let opaque = |ts: &TrafficSelector| ts.first_port == 0xFFFF && ts.last_port == 0;
    let any = |ts: &TrafficSelector| ts.first_port == 0 && ts.last_port == 0xFFFF;
    match (opaque(one), opaque(other)) {
        (true, true) => Some((0xFFFF, 0)),
        // OPAQUE is in "any" (RFC 4301 section 4.4.1.1).
        (true, false) if any(other) => Some((0xFFFF, 0)),
        (false, true) if any(one) => Some((0xFFFF, 0)),
        (true, false) | (false, true) => None,
        (false, false) => {
            let first = one.first_port.max(other.first_port);
            let last = one.last_port.min(other.last_port);
            (first <= last).then_some((first, last))
        }
    }
}

/// Whether everything that `inner` selects is selected by `outer`.
#[must_use]
pub fn contains(outer: &TrafficSelector, inner: &TrafficSelector) -> bool {
    intersect(outer, inner).as_ref() == Some(inner)
}

/// What a peer proposes, narrowed to what is allowed: every non-empty intersection once, in
/// the order of the proposal, and none that another one contains. Empty: TS_UNACCEPTABLE.
#[must_use]
pub fn narrow(proposed: &[TrafficSelector], allowed: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let mut narrowed: Vec<TrafficSelector> = Vec::new();
    for proposed in proposed {
        for common in allowed.iter().filter_map(|allowed| intersect(proposed, allowed)) {
            if narrowed.iter().any(|have| contains(have, &common)) {
                continue;
            }
            narrowed.retain(|have| !contains(&common, have));
            narrowed.push(common);
        }
    }
    narrowed
}

/// Whether an answer selects nothing that was not proposed, and something.
#[must_use]
pub fn is_narrowed(answer: &[TrafficSelector], proposed: &[TrafficSelector]) -> bool {
    let within =
        |answer: &TrafficSelector| proposed.iter().any(|proposed| contains(proposed, answer));
    !answer.is_empty() && answer.iter().all(within)
}

/// `10.1.0.0/24`, `10.1.0.1..10.1.0.9[tcp/80]`: as strongSwan writes it.
#[must_use]
pub fn display(selector: &TrafficSelector) -> String {
    let mut text = match prefix_length(selector.first, selector.last) {
        Some(length) => format!("{}/{length}", selector.first),
        None => format!("{}..{}", selector.first, selector.last),
    };
    let all_ports = selector.first_port == 0 && selector.last_port == 0xFFFF;
    if selector.protocol == 0 && all_ports {
        return text;
    }
    let protocol = match selector.protocol {
        0 => String::new(),
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "ipv6-icmp".to_owned(),
        other => other.to_string(),
    };
    text.push('[');
    text.push_str(&protocol);
    if !all_ports {
        text.push('/');
        if selector.first_port == 0xFFFF && selector.last_port == 0 {
            text.push_str("OPAQUE");
        } else if selector.first_port == selector.last_port {
            text.push_str(&selector.first_port.to_string());
        } else {
            text.push_str(&format!("{}-{}", selector.first_port, selector.last_port));
        }
    }
    text.push(']');
    text
}

fn prefix_length(first: IpAddr, last: IpAddr) -> Option<u32> {
    let (first, last, width) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (u128::from(u32::from(first)), u128::from(u32::from(last)), 32)
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => (u128::from(first), u128::from(last), 128),
        _ => return None,
    };
    let span = first ^ last;
    let host_bits = 128 - span.leading_zeros();
    let mask = if host_bits == 128 { u128::MAX } else { (1_u128 << host_bits) - 1 };
    (span == mask && first & mask == 0).then(|| width - host_bits)
}
