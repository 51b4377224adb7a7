//! A policy demands protection and there is no SA: ask for one, and hold what may be held.
//!
//! ```text
//! no SA ─► acquire (one a second for each child) ─► hold? ─yes─► held ─► an SA ─► as if just received
//!                                                    └─no──► drop    └► 10 s ─► drop
//! ```
//!
//! What is held was counted when it came in and is counted again, once, when it leaves.

use alloc::vec::Vec;
use xswan_esp::aead::Aead;
use xswan_esp::selector::Flow;
use xswan_esp::sequence::LeaseStore;
use xswan_wire::DropReason;
use xswan_wire::layers;

use crate::engine::{Engine, Env};
use crate::held::{Entry, Held, Origin};
use crate::limit::RateLimit;
use crate::outbound::outbound_policy;
use crate::sink::{Event, Sink};
use crate::spd::Action;

/// Requests for an SA of one child are this far apart, in milliseconds: traffic that waits asks
/// with every packet, and control needs to be asked once.
const ACQUIRE_INTERVAL_MS: u64 = 1000;
/// Children whose last request is remembered; a power of two.
const ACQUIRE_PLACES: usize = 1024;
/// Requests of all children in a second: what control can read, with room to spare in its ring.
const ACQUIRES_PER_SECOND: u32 = 1000;

/// When each child has asked last, as far as is remembered: another child in the same place
/// displaces it, and then it may ask again early.
#[derive(Debug)]
pub(crate) struct AcquireLimit {
    places: Vec<(u32, u64)>,
    all: RateLimit,
}

impl AcquireLimit {
    pub(crate) fn new() -> Self {
        // Time 0 for "never": the clock starts later.
        let places = alloc::vec![(0, 0); ACQUIRE_PLACES];
        Self { places, all: RateLimit::new(ACQUIRES_PER_SECOND) }
    }

    fn allow(&mut self, child: u32, now_ms: u64) -> bool {
        let Some(place) = self.places.get_mut(child as usize & (ACQUIRE_PLACES - 1)) else {
            return false;
        };
        let (of, at) = *place;
        let recent = at != 0 && now_ms.saturating_sub(at) < ACQUIRE_INTERVAL_MS;
        if (of == child && recent) || !self.all.allow(now_ms) {
            return false;
        }
        *place = (child, now_ms.max(1));
        true
    }
}

impl<A, S, L, F> Engine<A, S, L, F>
where
    A: Aead,
    S: AsRef<[u64]> + AsMut<[u64]>,
    L: LeaseStore,
{
    /// Asks control for an SA, not more often than it can make use of.
    pub(crate) fn acquire<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        child: u32,
        flow: &Flow,
    ) {
        if self.acquire_limit.allow(child, env.now_ms) {
            sink.event(Event::Acquire { child, flow: *flow });
        }
    }

    /// A received packet whose policy has no SA.
    pub(crate) fn trap_received<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        frame: F,
        child: u32,
        flow: &Flow,
    ) {
        self.acquire(env, sink, child, flow);
        match self.hold(env, child, flow, Origin::Received { port }, K::bytes(&frame)) {
            Ok(()) => sink.recycle(frame),
            Err(reason) => self.drop(sink, frame, reason),
        }
    }

    /// Keeps a copy if the policy is a trap; [`DropReason::NoSa`] otherwise.
    pub(crate) fn hold(
        &mut self,
        env: &Env<'_>,
        child: u32,
        flow: &Flow,
        origin: Origin,
        packet: &[u8],
    ) -> Result<(), DropReason> {
        let policy = env.spd.outbound(flow)?;
        if !policy.is_some_and(|policy| policy.hold) {
            return Err(DropReason::NoSa);
        }
        let gone = self.held.push(child, origin, packet, env.now_ms);
        if gone.map_err(|_too_long| DropReason::NoSa)?.is_some_and(|entry| entry.is_counted()) {
            self.count(DropReason::HoldOverflow);
        }
        Ok(())
    }

    /// Whether there is anything for [`Engine::release_held`] to do.
    #[inline]
    #[must_use]
    pub fn holds(&self) -> bool {
        self.held.len() > 0
    }

    /// Packets that wait for an SA.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Sends what has got its SA, in the order in which it came, and drops what has waited too
    /// long. To be called now and then while [`Engine::holds`].
    pub fn release_held<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, sink: &mut K) {
        // What would be held anew in the meantime finds no room there: it is not.
        let mut held = core::mem::take(&mut self.held);
        for _ in 0..held.len() {
            let Some(entry) = held.take_oldest() else { break };
            if self.still_waits(env, &held, &entry) {
                if !entry.is_stale(env.now_ms) {
                    held.put_back(entry);
                    continue;
                }
                if entry.is_counted() {
                    self.count(DropReason::HoldTimeout);
                }
            } else {
                self.send_held(env, sink, entry.origin, held.bytes(&entry));
            }
            held.release(entry);
        }
        self.held = held;
        self.run(env, sink);
    }

    /// Whether policy still says to protect, and there still is no SA; one that this worker has
    /// not got yet is none.
    fn still_waits(&self, env: &Env<'_>, held: &Held, entry: &Entry) -> bool {
        let bytes = held.bytes(entry);
        let flow = match entry.origin {
            Origin::Own { .. } => Flow::parse(bytes).ok(),
            Origin::Received { .. } => layers::parse(bytes, bytes.len()).ok().and_then(|layers| {
                let packet = bytes.get(usize::from(layers.l3_offset)..layers.l3_end())?;
                Some(Flow::of(&layers.ip, packet))
            }),
        };
        let policy = flow.and_then(|flow| outbound_policy(env, &flow).ok().flatten());
        match policy {
            Some((Action::Protect(Some(handle)), _)) => {
                handle.worker == self.config.spis.worker
                    && self.outbound.at(handle.slot as usize).is_none()
            }
            Some((Action::Protect(None), _)) => true,
            Some((Action::Bypass | Action::Discard, _)) | None => false,
        }
    }

    /// As if it had just come in, but that it has been counted.
    fn send_held<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        origin: Origin,
        bytes: &[u8],
    ) {
        let port = match origin {
            Origin::Own { counted } => return self.send_held_own(env, sink, counted, bytes),
            Origin::Received { port } => port,
        };
        self.make_room(env, sink);
        let Some(mut frame) = sink.take_for(bytes.len()) else {
            return self.count(DropReason::NoFrame);
        };
        match K::room_mut(&mut frame).get_mut(..bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => return self.drop(sink, frame, DropReason::NoFrame),
        }
        K::set_received(&mut frame, bytes.len());
        self.sort(env, sink, port, frame);
    }

    /// Every worker has the packet: the owner of the SA sends it, the others forget it.
    fn send_held_own<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        counted: bool,
        packet: &[u8],
    ) {
        let me = self.config.spis.worker;
        match Self::owner_of(env, packet).unwrap_or(0) == me {
            true if counted => {
                if let Err(reason) = self.send_own(env, sink, packet) {
                    self.count(reason);
                }
            }
            true => self.originate(env, sink, packet),
            false if counted => self.totals.handed_off = self.totals.handed_off.wrapping_add(1),
            false => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ACQUIRE_PLACES, AcquireLimit};

    #[test]
    fn each_child_asks_once_a_second_whatever_others_do() {
        let mut limit = AcquireLimit::new();
        let mut asked = [0_u32; 100];
        for now_ms in 1000..4000 {
            for (child, count) in (0..).zip(&mut asked) {
                *count += u32::from(limit.allow(child, now_ms));
            }
        }
        // The first few hundred milliseconds go by in sharing a tenth of a second's worth.
        assert!(asked.iter().all(|count| *count == 3), "{asked:?}");
    }

    #[test]
    fn children_in_one_place_are_bounded_by_the_rate_of_all() {
        let mut limit = AcquireLimit::new();
        let children = [5, 5 + ACQUIRE_PLACES as u32];
        let allowed = (1000..2000)
            .flat_map(|now_ms| (0..50).flat_map(move |_| children.map(|child| (child, now_ms))))
            .filter(|(child, now_ms)| limit.allow(*child, *now_ms))
            .count();
        assert!((900..=1100).contains(&allowed), "{allowed}");
    }
}
