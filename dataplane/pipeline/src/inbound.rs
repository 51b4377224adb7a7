//! From the untrusted side: look up, check, open, commit, check what was inside, forward.
//!
//! The order is RFC 4303 section 3.4: the cheap replay check may only say no; the window
//! moves after the integrity check; the plaintext is still hostile after both. Each step
//! runs over the whole burst before the next begins.

use xswan_esp::aead::Aead;
use xswan_esp::decap::{self, Checked, Inner, OpenJob};
use xswan_esp::lifetime::Expiry;
use xswan_esp::outer::Outer;
use xswan_esp::sa::Source;
use xswan_esp::sequence::LeaseStore;
use xswan_wire::DropReason;
use xswan_wire::brief::Brief;

use crate::engine::{Engine, Env, Inbound, is_esp};
use crate::flow_cache::{FlowKey, Known, NO_ROW};
use crate::forward::NextHop;
use crate::outbound::{KEY_AHEAD, SA_AHEAD, decrement_ttl};
use crate::sink::{Event, Sink};
use crate::table::Owner;

/// Room that is left for an Ethernet header in front of a decrypted packet.
///
/// A transmit frame starts at its first byte, so the decrypted packet must lie where the
/// header ends; 14 bytes is right for all but tagged ports, where it is moved.
pub(crate) const L2_ROOM: usize = 14;
/// Failures in a row that are reported, and every so many after that.
const INTEGRITY_ALARM: u64 = 1024;

/// A packet between its outer headers and its SA.
pub(crate) struct EspWork<F> {
    frame: F,
    outer: Outer,
    port: u16,
    slot: u32,
}

/// An opened packet between its SA and its way on.
pub(crate) struct OpenedWork<F> {
    /// Where the plaintext is.
    out: F,
    inner: Inner,
    flow: Found,
    /// Where it came from, if that is elsewhere than the SA says.
    moved: Option<Source>,
    port: u16,
    slot: u32,
}

/// A flow out of a tunnel, and where in the cache of flows it is.
#[derive(Clone, Copy)]
struct Found {
    /// What of the key is not an address.
    rest: u64,
    child: u32,
    place: u32,
}

/// Where a packet that was inside goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Onward {
    /// The row of an outbound policy that selects it.
    pub(crate) row: u32,
    /// A position in the forwarding table.
    pub(crate) hop: u32,
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
    /// Whose packet it is.
    #[inline(always)]
    pub(crate) fn note_esp<K: Sink<Frame = F>>(
        &mut self,
        sink: &mut K,
        port: u16,
        frame: F,
        brief: &Brief,
    ) {
        let outer = match Outer::from_brief(brief, K::bytes(&frame)) {
            Ok(outer) => outer,
            Err(reason) => return self.drop(sink, frame, reason),
        };
        match self.owner(&outer) {
            Ok(slot) => {
                if let Some(place) = self.inbound.place(slot as usize) {
                    K::prefetch(place);
                }
                self.esp_work.push(EspWork { frame, outer, port, slot });
            }
            Err(Refused::Drop(reason)) => self.drop(sink, frame, reason),
            Err(Refused::Elsewhere(worker)) => self.hand_off(sink, worker, port, frame),
        }
    }

    /// The slot of an SPI; as a rule it is the one of the packet before.
    #[inline(always)]
    fn owner(&mut self, outer: &Outer) -> Result<u32, Refused> {
        if let Some((spi, slot)) = self.last_spi
            && spi == outer.spi
        {
            return Ok(slot);
        }
        match self.config.spis.owner(outer.spi, &self.static_spis) {
            Owner::Here(slot) => {
                self.last_spi = Some((outer.spi, slot as u32));
                Ok(slot as u32)
            }
            Owner::Worker(worker) => Err(Refused::Elsewhere(worker)),
            Owner::Unknown => Err(Refused::Drop(DropReason::UnknownSpi)),
        }
    }

    /// Whether it is that SA's, and can be new.
    #[inline(always)]
    fn check(
        &mut self,
        env: &Env<'_>,
        slot: u32,
        outer: &Outer,
        bytes: &[u8],
    ) -> Result<OpenJob, DropReason> {
        let entry = self
            .inbound
            .at_mut(slot as usize)
            .filter(|entry| entry.sa.spi() == outer.spi)
            .ok_or(DropReason::UnknownSpi)?;
        decap::prepare(&entry.sa, outer, bytes, env.now_ms)
            .inspect_err(|&reason| entry.sa.counters.note(reason))
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

    /// Checks, opens and commits what [`Engine::note_esp`] has let through.
    #[inline(never)]
    pub(crate) fn open_all<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, sink: &mut K) {
        let mut work = core::mem::take(&mut self.esp_work);
        let mut items = work.drain(..);
        while let Some(item) = items.next() {
            self.ask_inbound_ahead::<K>(items.as_slice());
            self.open_received(env, sink, item);
        }
        drop(items);
        self.esp_work = work;
    }

    /// Memory that the next packets touch: first their SA, then its key and its window.
    #[inline(always)]
    fn ask_inbound_ahead<K: Sink<Frame = F>>(&self, next: &[EspWork<F>]) {
        let entry = |at: usize| self.inbound.at(next.get(at)?.slot as usize);
        if let Some(entry) = entry(SA_AHEAD) {
            K::prefetch(entry);
        }
        if let (Some(entry), Some(item)) = (entry(KEY_AHEAD), next.get(KEY_AHEAD)) {
            entry.sa.cipher().prefetch();
            entry
                .sa
                .replay()
                .places(item.outer.seq_low)
                .into_iter()
                .flatten()
                .for_each(K::prefetch);
        }
    }

    /// From a received frame into a fresh one.
    #[inline(always)]
    fn open_received<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, sink: &mut K, item: EspWork<F>) {
        let EspWork { frame, outer, port, slot } = item;
        let job = match self.check(env, slot, &outer, K::bytes(&frame)) {
            Ok(job) => job,
            Err(reason) => return self.drop(sink, frame, reason),
        };
        let Some(mut out) = sink.take_for(K::bytes(&frame).len()) else {
            return self.drop(sink, frame, DropReason::NoFrame);
        };
        let room = K::room_mut(&mut out).get_mut(L2_ROOM..).unwrap_or_default();
        match self.open(env, sink, slot, &outer, job, K::bytes(&frame), room) {
            Ok((inner, flow)) => {
                let moved = inner.moved().then(|| outer.source());
                sink.recycle(frame);
                self.flows.lines(flow.place).into_iter().flatten().for_each(K::prefetch);
                self.opened_work.push(OpenedWork { out, inner, flow, moved, port, slot });
            }
            Err(reason) => {
                sink.recycle(out);
                self.drop(sink, frame, reason);
            }
        }
    }

    /// What was opened goes on.
    #[inline(never)]
    pub(crate) fn forward_all<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, sink: &mut K) {
        let mut work = core::mem::take(&mut self.opened_work);
        for OpenedWork { mut out, inner, flow, moved, port, slot } in work.drain(..) {
            let room = K::room_mut(&mut out).get_mut(L2_ROOM..).unwrap_or_default();
            match self.entitle(env, sink, slot, moved, inner, flow, room) {
                Ok((checked, onward)) => {
                    self.deliver(env, sink, port, out, &checked, onward, 0);
                }
                Err(reason) => self.drop(sink, out, reason),
            }
        }
        self.opened_work = work;
    }

    /// The cipher, replay commit and trailer; a failed tag is counted and now and then
    /// resynchronised.
    #[expect(clippy::too_many_arguments, reason = "one packet with everything known of it")]
    #[inline(always)]
    fn open<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        slot: u32,
        outer: &Outer,
        job: OpenJob,
        bytes: &[u8],
        room: &mut [u8],
    ) -> Result<(Inner, Found), DropReason> {
        let entry = self.inbound.at_mut(slot as usize).ok_or(DropReason::SaDead)?;
        let opened = match decap::open(entry.sa.cipher(), &job, bytes, room) {
            Ok(proof) => Some((job, proof)),
            Err(_forged) => decap::resync(&mut entry.sa, outer, bytes, env.now_ms, room),
        };
        let Some((job, proof)) = opened else {
            return Err(Self::forged(entry, sink, slot));
        };
        self.totals.opened = self.totals.opened.wrapping_add(1);
        let inner = decap::finish(&mut entry.sa, &job, proof, env.now_ms, room)
            .inspect_err(|&reason| entry.sa.counters.note(reason));
        if let Some(expiry) = entry.sa.take_expiry() {
            sink.event(match expiry {
                Expiry::Soft => Event::SoftExpiryIn { slot },
                Expiry::Hard => Event::HardExpiryIn { slot },
            });
        }
        let inner = inner?;
        let child = entry.child;
        let key = FlowKey::inbound(inner.brief(), room, child);
        Ok((inner, Found { rest: key.rest(), child, place: self.flows.place(&key) }))
    }

    #[cold]
    fn forged<K: Sink<Frame = F>>(
        entry: &mut Inbound<A, S>,
        sink: &mut K,
        slot: u32,
    ) -> DropReason {
        entry.sa.counters.note(DropReason::AuthFail);
        if entry.sa.counters.auth_fail.is_multiple_of(INTEGRITY_ALARM) {
            sink.event(Event::Integrity { slot });
        }
        DropReason::AuthFail
    }

    /// Whether the SA may carry what was inside, and where that goes.
    #[expect(clippy::too_many_arguments, reason = "one packet with everything known of it")]
    #[inline(always)]
    fn entitle<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        slot: u32,
        moved: Option<Source>,
        inner: Inner,
        Found { rest, child, place }: Found,
        room: &[u8],
    ) -> Result<(Checked, Onward), DropReason> {
        let key = FlowKey::with(inner.brief(), room, rest, child);
        let known = match self.flows.find(&key, place, env.editions()) {
            Some(Known { row, hop, entitled: Some(entitled), .. }) => {
                (inner.known(entitled), Onward { row, hop })
            }
            Some(_) | None => self.ask_selectors(env, slot, inner, (key, place), room)?,
        };
        if let Some(source) = moved {
            self.note_move(env, sink, slot, source);
        }
        Ok(known)
    }

    #[cold]
    fn note_move<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        slot: u32,
        source: Source,
    ) {
        let entry = self.inbound.at_mut(slot as usize);
        if let Some(source) = entry.and_then(|entry| entry.sa.note_source(source, env.now_ms)) {
            sink.event(Event::Moved { slot, source });
        }
    }

    /// The first packet of a flow, or of one whose answer was written over.
    #[cold]
    fn ask_selectors(
        &mut self,
        env: &Env<'_>,
        slot: u32,
        inner: Inner,
        (key, place): (FlowKey, u32),
        room: &[u8],
    ) -> Result<(Checked, Onward), DropReason> {
        let entry = self.inbound.at_mut(slot as usize).ok_or(DropReason::SaDead)?;
        let checked = inner
            .check(env.spd.inbound_selectors(entry.child), room)
            .inspect_err(|&reason| entry.sa.counters.note(reason))?;
        let flow = checked.flow(room).ok_or(DropReason::FrameViolation)?;
        let hop = env.fib.position(&flow.addresses);
        // What is for ourselves is asked nothing more.
        let is_local = matches!(env.fib.hop(hop), NextHop::Local);
        let row = if is_local { None } else { env.spd.outbound_row(&flow)? };
        let row = row.unwrap_or(NO_ROW);
        let known = Known { row, hop, is_local, entitled: Some(checked.entitled()) };
        self.flows.keep(key, place, env.editions(), known);
        Ok((checked, Onward { row, hop }))
    }

    /// Forwards a checked packet, or opens the next layer if it is ESP to ourselves.
    #[expect(clippy::too_many_arguments, reason = "one packet with everything known of it")]
    #[inline]
    fn deliver<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        checked: &Checked,
        onward: Onward,
        depth: u8,
    ) {
        let hop = env.fib.hop(onward.hop);
        // Nearly every packet: to a host of ours, by no policy's leave.
        if onward.row == NO_ROW
            && let NextHop::Port { port: exit, mtu, header } = hop
            && checked.len() <= usize::from(*mtu)
            && checked.brief().ttl > 1
        {
            let room = K::room_mut(&mut frame).get_mut(L2_ROOM..).unwrap_or_default();
            decrement_ttl(room);
            return self.send_opened(sink, frame, checked.len(), *exit, header);
        }
        self.deliver_otherwise(env, sink, port, frame, checked, onward, depth);
    }

    /// To ourselves, into another tunnel, through the kernel, in pieces, or not at all.
    #[expect(clippy::too_many_arguments, reason = "one packet with everything known of it")]
    #[inline(never)]
    fn deliver_otherwise<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        checked: &Checked,
        onward: Onward,
        depth: u8,
    ) {
        if matches!(env.fib.hop(onward.hop), NextHop::Local) {
            let end = L2_ROOM.saturating_add(checked.len());
            let packet = K::room_mut(&mut frame).get(L2_ROOM..end).unwrap_or_default();
            if is_esp(checked.brief(), packet) {
                return self.open_nested(env, sink, port, frame, end, depth);
            }
        }
        self.forward_opened(env, sink, port, frame, checked, onward);
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
            Ok((checked, onward)) => {
                sink.recycle(frame);
                self.deliver(env, sink, port, out, &checked, onward, depth.saturating_add(1));
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
    ) -> Result<(Checked, Onward), DropReason> {
        let outer = Outer::parse(packet)?;
        let slot = self.owner(&outer).map_err(|refused| match refused {
            Refused::Drop(reason) => reason,
            // Not a received frame, so it cannot be handed to the worker that has the SA.
            Refused::Elsewhere(_) => DropReason::NestLimit,
        })?;
        let job = self.check(env, slot, &outer, packet)?;
        let (inner, flow) = self.open(env, sink, slot, &outer, job, packet, room)?;
        let moved = inner.moved().then(|| outer.source());
        self.entitle(env, sink, slot, moved, inner, flow, room)
    }
}
