//! From the untrusted side: look up, check, open, commit, check what was inside, forward.
//!
//! The order is RFC 4303 section 3.4: the cheap replay check may only say no; the window
//! moves after the integrity check; the plaintext is still hostile after both. Each step
//! runs over the whole burst before the next begins.

use xswan_esp::aead::Aead;
use xswan_esp::decap::{self, Checked, OpenJob};
use xswan_esp::lifetime::Expiry;
use xswan_esp::outer::Outer;
use xswan_esp::proof::Authenticated;
use xswan_esp::sequence::LeaseStore;
use xswan_wire::layers::{self, Layers};
use xswan_wire::{DropReason, udp};

use crate::engine::{Engine, Env, is_local};
use crate::sink::{Event, Sink};
use crate::table::Owner;

/// Room that is left for an Ethernet header in front of a decrypted packet.
///
/// A transmit frame starts at its first byte, so the decrypted packet must lie where the
/// header ends; 14 bytes is right for all but tagged ports, where it is moved.
pub(crate) const L2_ROOM: usize = 14;
/// Failures in a row that are reported, and every so many after that.
const INTEGRITY_ALARM: u64 = 1024;

/// A packet between its checks and its end.
pub(crate) struct InboundWork<F> {
    frame: F,
    /// Where the plaintext is, once opened.
    out: Option<F>,
    proof: Option<Authenticated>,
    port: u16,
    slot: usize,
    outer: Outer,
    job: OpenJob,
}

/// Why a packet is not opened here.
enum Refused {
    Drop(DropReason),
    Elsewhere(u32),
}

impl<A, S, L, F> Engine<A, S, L, F>
where
    A: Aead,
    S: AsRef<[u64]> + AsMut<[u64]>,
    L: LeaseStore,
{
    /// Whose packet it is, and whether it can be new.
    #[inline]
    pub(crate) fn check_inbound<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        frame: F,
        layers: &Layers,
    ) {
        let bytes = K::bytes(&frame);
        let checked = Outer::from_layers(layers, bytes)
            .map_err(Refused::Drop)
            .and_then(|outer| Ok((self.find(env, &outer, bytes)?, outer)));
        match checked {
            Ok(((slot, job), outer)) => {
                let (out, proof) = (None, None);
                self.inbound_work.push(InboundWork { frame, out, proof, port, slot, outer, job });
            }
            Err(Refused::Drop(reason)) => self.drop(sink, frame, reason),
            Err(Refused::Elsewhere(worker)) => self.hand_off(sink, worker, port, frame),
        }
    }

    #[inline]
    fn find(
        &mut self,
        env: &Env<'_>,
        outer: &Outer,
        bytes: &[u8],
    ) -> Result<(usize, OpenJob), Refused> {
        let slot = match self.config.spis.owner(outer.spi, &self.static_spis) {
            Owner::Here(slot) => slot,
            Owner::Worker(worker) => return Err(Refused::Elsewhere(worker)),
            Owner::Unknown => return Err(Refused::Drop(DropReason::UnknownSpi)),
        };
        let entry = self
            .inbound
            .at_mut(slot)
            .filter(|entry| entry.sa.spi() == outer.spi)
            .ok_or(Refused::Drop(DropReason::UnknownSpi))?;
        match decap::prepare(&entry.sa, outer, bytes, env.now_ms) {
            Ok(job) => Ok((slot, job)),
            Err(reason) => {
                entry.sa.counters.note(reason);
                Err(Refused::Drop(reason))
            }
        }
    }

    pub(crate) fn hand_off<K: Sink<Frame = F>>(
        &mut self,
        sink: &mut K,
        worker: u32,
        port: u16,
        frame: F,
    ) {
        match sink.hand_off(worker, port, frame) {
            None => self.totals.handed_off = self.totals.handed_off.wrapping_add(1),
            Some(frame) => self.drop(sink, frame, DropReason::HandoffFull),
        }
    }

    /// Opens, commits and forwards what [`Engine::check_inbound`] has let through.
    pub(crate) fn open_all<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, sink: &mut K) {
        if self.inbound_work.is_empty() {
            return;
        }
        let mut work = core::mem::take(&mut self.inbound_work);
        for item in &mut work {
            item.out = sink.take_for(K::bytes(&item.frame).len());
            if let Some(out) = &mut item.out
                && let Some(entry) = self.inbound.at(item.slot)
                && let Some(room) = K::room_mut(out).get_mut(L2_ROOM..)
            {
                let bytes = K::bytes(&item.frame);
                item.proof = decap::open(entry.sa.cipher(), &item.job, bytes, room).ok();
            }
        }
        for item in work.drain(..) {
            let InboundWork { frame, out, proof, port, slot, outer, job } = item;
            let Some(mut out) = out else {
                self.drop(sink, frame, DropReason::NoFrame);
                continue;
            };
            let room = K::room_mut(&mut out).get_mut(L2_ROOM..).unwrap_or_default();
            let bytes = K::bytes(&frame);
            match self.finish(env, sink, slot, &outer, (job, proof), bytes, room) {
                Ok(checked) => {
                    sink.recycle(frame);
                    self.deliver(env, sink, port, out, &checked, 0);
                }
                Err(reason) => {
                    sink.recycle(out);
                    self.drop(sink, frame, reason);
                }
            }
        }
        self.inbound_work = work;
    }

    /// Replay commit, trailer, selectors; a failed tag is counted and now and then resynchronised.
    #[expect(clippy::too_many_arguments, reason = "one packet with everything known of it")]
    fn finish<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        slot: usize,
        outer: &Outer,
        (job, proof): (OpenJob, Option<Authenticated>),
        bytes: &[u8],
        room: &mut [u8],
    ) -> Result<Checked, DropReason> {
        let entry = self.inbound.at_mut(slot).ok_or(DropReason::SaDead)?;
        let handle = u32::try_from(slot).unwrap_or(u32::MAX);
        let opened = match proof {
            Some(proof) => Some((job, proof)),
            None => decap::resync(&mut entry.sa, outer, bytes, env.now_ms, room),
        };
        let Some((job, proof)) = opened else {
            entry.sa.counters.note(DropReason::AuthFail);
            if entry.sa.counters.auth_fail.is_multiple_of(INTEGRITY_ALARM) {
                sink.event(Event::Integrity { slot: handle });
            }
            return Err(DropReason::AuthFail);
        };
        self.totals.opened = self.totals.opened.wrapping_add(1);
        // Asked again: earlier packets of this burst may have used up the SA.
        let alive = entry.sa.lifetime().check(env.now_ms);
        let checked = alive
            .and_then(|()| decap::finish(&mut entry.sa, &job, proof, env.now_ms, room))
            .and_then(|inner| inner.check(env.spd.inbound_selectors(entry.child), room))
            .inspect_err(|&reason| entry.sa.counters.note(reason));
        if let Ok(checked) = &checked
            && let Some(source) = entry.sa.note_source(checked.moved(), outer, env.now_ms)
        {
            sink.event(Event::Moved { slot: handle, source });
        }
        match entry.sa.take_expiry() {
            Some(Expiry::Soft) => sink.event(Event::SoftExpiryIn { slot: handle }),
            Some(Expiry::Hard) => sink.event(Event::HardExpiryIn { slot: handle }),
            None => {}
        }
        checked
    }

    /// Forwards a checked packet, or opens the next layer if it is ESP to ourselves.
    fn deliver<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        checked: &Checked,
        depth: u8,
    ) {
        let layers = checked.layers();
        let end = L2_ROOM.saturating_add(checked.len());
        let packet = K::room_mut(&mut frame).get(L2_ROOM..end).unwrap_or_default();
        if is_esp(layers, packet) && is_local(env.fib, layers) {
            return self.open_nested(env, sink, port, frame, end, depth);
        }
        self.forward_opened(env, sink, port, frame, checked);
    }

    /// ESP inside ESP to ourselves: opened again up to the configured depth.
    fn open_nested<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        end: usize,
        depth: u8,
    ) {
        if depth >= self.config.nest_limit {
            return self.drop(sink, frame, DropReason::NestLimit);
        }
        let Some(mut out) = sink.take_for(end) else {
            return self.drop(sink, frame, DropReason::NoFrame);
        };
        let packet = K::room_mut(&mut frame).get(L2_ROOM..end).unwrap_or_default();
        let room = K::room_mut(&mut out).get_mut(L2_ROOM..).unwrap_or_default();
        match self.open_one(env, sink, packet, room) {
            Ok(checked) => {
                sink.recycle(frame);
                self.deliver(env, sink, port, out, &checked, depth.saturating_add(1));
            }
            Err(reason) => {
                sink.recycle(out);
                self.drop(sink, frame, reason);
            }
        }
    }

    fn open_one<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        packet: &[u8],
        room: &mut [u8],
    ) -> Result<Checked, DropReason> {
        let outer = Outer::parse(packet)?;
        let (slot, job) = self.find(env, &outer, packet).map_err(|refused| match refused {
            Refused::Drop(reason) => reason,
            // Not a received frame, so it cannot be handed to the worker that has the SA.
            Refused::Elsewhere(_) => DropReason::NestLimit,
        })?;
        let entry = self.inbound.at(slot).ok_or(DropReason::SaDead)?;
        let proof = decap::open(entry.sa.cipher(), &job, packet, room).ok();
        self.finish(env, sink, slot, &outer, (job, proof), packet, room)
    }
}

/// ESP, or ESP in UDP as far as the port tells.
pub(crate) fn is_esp(layers: &Layers, packet: &[u8]) -> bool {
    match layers.ip.protocol {
        layers::ESP => true,
        layers::UDP => layers.ports(packet).is_some_and(|(_, to)| to == udp::NAT_T_PORT),
        _ => false,
    }
}
