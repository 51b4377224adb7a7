//! MOBIKE (RFC 4555): addresses change, the IKE SA and its Child SAs stay.
//!
//! | question of the design document | what RFC 4555 and RFC 4621 decided | where |
//! |---|---|---|
//! | A new payload, or notifies? | notifies in INFORMATIONAL; UPDATE_SA_ADDRESSES moves | [`initiator`], [`responder`] |
//! | Full list or increments? | a full list takes the place of the one before | [`Mobike::learn`] |
//! | One payload for all addresses? | one notify for each; we keep the first [`MAX_ADDRESSES`] | [`listed`] |
//! | Which address is preferred? | nothing on the wire says so: the initiator decides | [`initiator`] |
//! | Which address is meant? | that of the IP header, never one in a payload | [`responder`] |
//! | Does every Child SA move for itself? | all of an IKE SA at once | `move_children` |
//! | May an indirect sign move it? | no: another source address moves nothing | `crate::liveness` `follows` |
//! | Return routability, and when? | by the responder, before traffic moves; the policy may bind addresses instead | [`responder`] |
//! | What if an answer does not repeat COOKIE2? | the IKE SA is closed if it is another one | [`initiator`], [`responder`] |
//! | Zero address set? | not in the protocol: never sent, and an empty list is "no additional ones" | [`Mobike::learn`] |
//! | Both move at once? | out of scope: who comes back tries from where it is | – |
//!
//! ```text
//! initiator  address gone ─▶ other pair, children move ─▶ UPDATE_SA_ADDRESSES ─▶ answer: done
//!                                     ▲                                  └─ pair changed since
//! responder  UPDATE_SA_ADDRESSES ─▶ answer ─▶ COOKIE2 to the new address ─▶ answer: children move
//! ```
//! The initiator is who started the first IKE SA; rekeying does not change it.

pub(crate) mod initiator;
pub(crate) mod responder;

use crate::action::{Action, ChildMode};
use crate::established::Established;
use crate::nat::Detected;
use crate::policy::ConnectionPolicy;
use crate::sa::Context;
use crate::wire::{NotifyType, Payload, notifies};
use std::net::{IpAddr, SocketAddr};

/// Addresses of the peer that are kept, however many it names.
const MAX_ADDRESSES: usize = 64;
/// Octets of our COOKIE2 (RFC 4555 section 4.2.5: 8 to 64).
const COOKIE_LEN: usize = 16;

/// Two endpoints, ours first.
pub(crate) type Pair = (SocketAddr, SocketAddr);

/// What an IKE SA knows of addresses beside those in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mobike {
    /// Other addresses of the peer, as it names them.
    pub(crate) peer_addresses: Vec<IpAddr>,
    /// The peer has to be told that we are elsewhere.
    pub(crate) pending: bool,
    /// The peer says that it is here, which it has not shown, and what it says of NATs.
    pub(crate) unproved: Option<(Pair, Option<Detected>)>,
}

/// What an INFORMATIONAL request of MOBIKE was for.
#[derive(Debug)]
pub(crate) enum MobikeTask {
    /// The peer is told of a pair.
    Update { pair: Pair, cookie: Vec<u8> },
    /// The peer has to show that it is at a pair.
    Check { pair: Pair, cookie: Vec<u8> },
}

/// Whether MOBIKE is offered: it is for tunnels only (RFC 4555 section 1.3).
pub(crate) fn is_offered(connection: &ConnectionPolicy) -> bool {
    let tunnels =
        |child: &std::sync::Arc<crate::policy::ChildPolicy>| child.mode == ChildMode::Tunnel;
    connection.mobike && connection.children.iter().all(tunnels)
}

/// MOBIKE_SUPPORTED, and where else we are.
pub(crate) fn offer(ctx: &Context<'_>, used: IpAddr) -> Vec<Payload> {
    let mut payloads = vec![Payload::notify(NotifyType::MOBIKE_SUPPORTED, Vec::new())];
    payloads.extend(additional(ctx.addresses, used).into_iter().filter(|payload| {
        // The first message need not say that there are none.
        !matches!(payload, Payload::Notify(notify) if notify.kind == NotifyType::NO_ADDITIONAL_ADDRESSES)
    }));
    payloads
}

/// All our addresses but the one in the IP header.
fn additional(own: &[IpAddr], used: IpAddr) -> Vec<Payload> {
    let others = own.iter().filter(|address| **address != used).take(MAX_ADDRESSES);
    let notify = |address: &IpAddr| match address {
        IpAddr::V4(v4) => Payload::notify(NotifyType::ADDITIONAL_IP4_ADDRESS, v4.octets().to_vec()),
        IpAddr::V6(v6) => Payload::notify(NotifyType::ADDITIONAL_IP6_ADDRESS, v6.octets().to_vec()),
    };
    let payloads: Vec<Payload> = others.map(notify).collect();
    if payloads.is_empty() {
        return vec![Payload::notify(NotifyType::NO_ADDITIONAL_ADDRESSES, Vec::new())];
    }
    payloads
}

/// Whether a peer can be at an address.
fn is_usable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local)
}

/// The addresses that a message names. `None`: it says nothing about them. What no peer can be
/// at, what has another length and what is named twice is left out.
pub(crate) fn listed(payloads: &[Payload]) -> Option<Vec<IpAddr>> {
    let (mut said, mut addresses) = (false, Vec::new());
    for notify in notifies(payloads) {
        let address = match notify.kind {
            NotifyType::NO_ADDITIONAL_ADDRESSES => {
                said = true;
                continue;
            }
            NotifyType::ADDITIONAL_IP4_ADDRESS => {
                <[u8; 4]>::try_from(notify.data.as_slice()).map(IpAddr::from)
            }
            NotifyType::ADDITIONAL_IP6_ADDRESS => {
                <[u8; 16]>::try_from(notify.data.as_slice()).map(IpAddr::from)
            }
            _ => continue,
        };
        said = true;
        if let Ok(address) = address
            && is_usable(address)
            && addresses.len() < MAX_ADDRESSES
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    said.then_some(addresses)
}

impl Mobike {
    /// Takes the peer's list, if a message has one.
    pub(crate) fn learn(&mut self, payloads: &[Payload]) {
        if let Some(addresses) = listed(payloads) {
            self.peer_addresses = addresses;
        }
    }
}

impl Established {
    /// Both sides do MOBIKE.
    pub(crate) fn is_mobile(&self) -> bool {
        self.core.peer.mobike && self.core.connection.mobike
    }

    /// All Child SAs go where the IKE SA is.
    fn move_children(&self, ctx: &mut Context<'_>) {
        let (local, remote, encap) = (self.core.local, self.core.remote, self.core.encap());
        for child in &self.children {
            ctx.act(Action::MoveChild { child: child.id, local, remote, encap });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(kind: NotifyType, data: &[u8]) -> Payload {
        Payload::notify(kind, data.to_vec())
    }

    #[test]
    fn mob_09_lists_are_bounded_and_hold_only_what_a_peer_can_be_at() {
        let four = NotifyType::ADDITIONAL_IP4_ADDRESS;
        let thousand = (0..1_000_u16).map(|number| {
            let [high, low] = number.to_be_bytes();
            notify(four, &[10, 0, high, low])
        });
        let all: Vec<Payload> = thousand.collect();
        assert_eq!(listed(&all).map(|list| list.len()), Some(MAX_ADDRESSES));
        let odd = [
            notify(four, &[127, 0, 0, 1]),
            notify(four, &[224, 0, 0, 1]),
            notify(four, &[0, 0, 0, 0]),
            notify(four, &[192, 0, 2]),
            notify(four, &[192, 0, 2, 9]),
            notify(four, &[192, 0, 2, 9]),
            notify(NotifyType::ADDITIONAL_IP6_ADDRESS, &[192, 0, 2, 9]),
        ];
        assert_eq!(listed(&odd), Some(vec![IpAddr::from([192, 0, 2, 9])]));
        assert_eq!(listed(&[]), None);
        let none = [notify(NotifyType::NO_ADDITIONAL_ADDRESSES, &[])];
        assert_eq!(listed(&none), Some(Vec::new()));
    }
}
