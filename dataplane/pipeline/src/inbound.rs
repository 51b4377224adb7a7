//! From the untrusted side: look up, check, open, commit, check what was inside, forward.
//!
//! The order is RFC 4303 section 3.4: the cheap replay check may only say no; the window
//! moves after the integrity check; the plaintext is still hostile after both. Each step
//! runs over the whole burst before the next begins.

use xswan_esp::aead::Aead;
use xswan_esp::decap::{self, Checked, Inner, OpenJob};
use xswan_esp::lifetime::Expiry;
use xswan_esp::outer::Outer;
use xswan_esp::proof::Authenticated;
use xswan_esp::sequence::LeaseStore;
use xswan_wire::layers::{self, Layers};
use xswan_wire::{DropReason, udp};

use crate::engine::{Engine, Env};
use crate::flow_cache::{FlowKey, Known, NO_ROW};
use crate::forward::NextHop;
use crate::sink::{Event, Sink};
use crate::table::Owner;

/// Room that is left for an Ethernet header in front of a decrypted packet.
///
/// A transmit frame starts at its first byte, so the decrypted packet must lie where the
/// header ends; 14 bytes is right for all but tagged ports, where it is moved.
pub(crate) const L2_ROOM: usize = 14;
/// Failures in a row that are reported, and every so many after that.
const INTEGRITY_ALARM: u64 = 1024;

/// Packets ahead of the one at hand for which the next stage's memory is asked for.
const AHEAD: usize = 4;

/// A packet between its headers and its end.
pub(crate) struct InboundWork<F> {
    frame: F,
    port: u16,
    slot: u32,
    outer: Outer,
    step: Step<F>,
}

/// How far a packet has come.
enum Step<F> {
    /// The SA that its SPI names has not been asked.
    Found,
    /// Refused.
    Refused(DropReason),
    /// Not refused by anything that can be asked without the cipher.
    Prepared(OpenJob),
    /// The cipher has run into a frame.
    Opened { out: F, job: OpenJob, proof: Option<Authenticated> },
    /// Authentic and new, and its flow is known.
    Finished { out: F, inner: Inner, key: FlowKey, place: u32 },
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
        layers: &Layers,
    ) {
        let outer = match Outer::from_layers(layers, K::bytes(&frame)) {
            Ok(outer) => outer,
            Err(reason) => return self.drop(sink, frame, reason),
        };
        match self.owner(&outer) {
            Ok(slot) => {
                if let Some(place) = self.inbound.place(slot as usize) {
                    K::prefetch(place);
                }
                let step = Step::Found;
                self.inbound_work.push(InboundWork { frame, port, slot, outer, step });
            }
            Err(Refused::Drop(reason)) => self.drop(sink, frame, reason),
            Err(Refused::Elsewhere(worker)) => self.hand_off(sink, worker, port, frame),
        }
    }

    #[inline(always)]
    fn owner(&self, outer: &Outer) -> Result<u32, Refused> {
        match self.config.spis.owner(outer.spi, &self.static_spis) {
            Owner::Here(slot) => Ok(slot as u32),
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

    /// Checks, opens, commits and forwards what [`Engine::note_esp`] has let through.
    pub(crate) fn open_all<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, sink: &mut K) {
        let mut work = core::mem::take(&mut self.inbound_work);
        self.check_all::<K>(env, &mut work);
        self.decipher_all(sink, &mut work);
        self.finish_all(env, sink, &mut work);
        for item in work.drain(..) {
            let InboundWork { frame, port, slot, outer, step } = item;
            match step {
                Step::Finished { mut out, inner, key, place } => {
                    let room = K::room_mut(&mut out).get_mut(L2_ROOM..).unwrap_or_default();
                    match self.entitle(env, sink, slot, &outer, inner, (key, place), room) {
                        Ok((checked, onward)) => {
                            sink.recycle(frame);
                            self.deliver(env, sink, port, out, &checked, onward, 0);
                        }
                        Err(reason) => {
                            sink.recycle(out);
                            self.drop(sink, frame, reason);
                        }
                    }
                }
                Step::Refused(reason) => self.drop(sink, frame, reason),
                // Every packet has become one of the others.
                Step::Found | Step::Prepared(_) => self.drop(sink, frame, DropReason::SaDead),
                Step::Opened { out, .. } => {
                    sink.recycle(out);
                    self.drop(sink, frame, DropReason::SaDead);
                }
            }
        }
        self.inbound_work = work;
    }

    fn check_all<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, work: &mut [InboundWork<F>]) {
        let mut rest = work;
        while let Some((item, behind)) = rest.split_first_mut() {
            let ahead = behind.get(AHEAD).and_then(|item| self.inbound.at(item.slot as usize));
            if let Some(entry) = ahead {
                K::prefetch(entry);
            }
            let bytes = K::bytes(&item.frame);
            item.step = match self.check(env, item.slot, &item.outer, bytes) {
                Ok(job) => Step::Prepared(job),
                Err(reason) => Step::Refused(reason),
            };
            rest = behind;
        }
    }

    fn decipher_all<K: Sink<Frame = F>>(&mut self, sink: &mut K, work: &mut [InboundWork<F>]) {
        let mut rest = work;
        while let Some((item, behind)) = rest.split_first_mut() {
            let ahead = behind.get(AHEAD).and_then(|item| self.inbound.at(item.slot as usize));
            if let Some(entry) = ahead {
                entry.sa.cipher().prefetch();
            }
            rest = behind;
            item.step = match core::mem::replace(&mut item.step, Step::Found) {
                Step::Prepared(job) => self.decipher(sink, &item.frame, item.slot, job),
                other => other,
            };
        }
    }

    #[inline(always)]
    fn decipher<K: Sink<Frame = F>>(
        &self,
        sink: &mut K,
        frame: &F,
        slot: u32,
        job: OpenJob,
    ) -> Step<F> {
        let Some(entry) = self.inbound.at(slot as usize) else {
            return Step::Refused(DropReason::SaDead);
        };
        let Some(mut out) = sink.take() else { return Step::Refused(DropReason::NoFrame) };
        let room = K::room_mut(&mut out).get_mut(L2_ROOM..).unwrap_or_default();
        let proof = decap::open(entry.sa.cipher(), &job, K::bytes(frame), room).ok();
        Step::Opened { out, job, proof }
    }

    fn finish_all<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        work: &mut [InboundWork<F>],
    ) {
        for item in work {
            item.step = match core::mem::replace(&mut item.step, Step::Found) {
                Step::Opened { mut out, job, proof } => {
                    let bytes = K::bytes(&item.frame);
                    let room = K::room_mut(&mut out).get_mut(L2_ROOM..).unwrap_or_default();
                    match self.finish(env, sink, item.slot, &item.outer, (job, proof), bytes, room)
                    {
                        Ok((inner, key)) => {
                            let place = self.flows.place(&key);
                            if let Some(line) = self.flows.line(place) {
                                K::prefetch(line);
                            }
                            Step::Finished { out, inner, key, place }
                        }
                        Err(reason) => {
                            sink.recycle(out);
                            Step::Refused(reason)
                        }
                    }
                }
                other => other,
            };
        }
    }

    /// Replay commit and trailer; a failed tag is counted and now and then resynchronised.
    #[expect(clippy::too_many_arguments, reason = "one packet with everything known of it")]
    #[inline(always)]
    fn finish<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        slot: u32,
        outer: &Outer,
        (job, proof): (OpenJob, Option<Authenticated>),
        bytes: &[u8],
        room: &mut [u8],
    ) -> Result<(Inner, FlowKey), DropReason> {
        let entry = self.inbound.at_mut(slot as usize).ok_or(DropReason::SaDead)?;
        let opened = match proof {
            Some(proof) => Some((job, proof)),
            None => decap::resync(&mut entry.sa, outer, bytes, env.now_ms, room),
        };
        let Some((job, proof)) = opened else {
            entry.sa.counters.note(DropReason::AuthFail);
            if entry.sa.counters.auth_fail.is_multiple_of(INTEGRITY_ALARM) {
                sink.event(Event::Integrity { slot });
            }
            return Err(DropReason::AuthFail);
        };
        self.totals.opened = self.totals.opened.wrapping_add(1);
        // Asked again: earlier packets of this burst may have used up the SA.
        let alive = entry.sa.lifetime().check(env.now_ms);
        let inner = alive
            .and_then(|()| decap::finish(&mut entry.sa, &job, proof, env.now_ms, room))
            .inspect_err(|&reason| entry.sa.counters.note(reason));
        if let Some(expiry) = entry.sa.take_expiry() {
            sink.event(match expiry {
                Expiry::Soft => Event::SoftExpiryIn { slot },
                Expiry::Hard => Event::HardExpiryIn { slot },
            });
        }
        let inner = inner?;
        let key = FlowKey::inbound(&inner.flow(room), entry.child);
        Ok((inner, key))
    }

    /// Whether the SA may carry what was inside, and where that goes.
    #[expect(clippy::too_many_arguments, reason = "one packet with everything known of it")]
    #[inline(always)]
    fn entitle<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        slot: u32,
        outer: &Outer,
        inner: Inner,
        (key, place): (FlowKey, u32),
        room: &[u8],
    ) -> Result<(Checked, Onward), DropReason> {
        let known = match self.flows.find(&key, place, env.editions()) {
            Some(Known { row, hop, entitled: Some(entitled) }) => {
                (inner.known(entitled), Onward { row, hop })
            }
            Some(_) | None => self.ask_selectors(env, slot, inner, (key, place), room)?,
        };
        if known.0.moved()
            && let Some(entry) = self.inbound.at_mut(slot as usize)
            && let Some(source) = entry.sa.note_source(true, outer, env.now_ms)
        {
            sink.event(Event::Moved { slot, source });
        }
        Ok(known)
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
        let hop = env.fib.position(&checked.layers().ip.addresses);
        // What is for ourselves is asked nothing more.
        let row = match env.fib.hop(hop) {
            NextHop::Local => None,
            NextHop::Port { .. } | NextHop::Kernel { .. } | NextHop::Drop(_) => {
                env.spd.outbound_row(&checked.flow(room))?
            }
        };
        let row = row.unwrap_or(NO_ROW);
        let known = Known { row, hop, entitled: Some(checked.entitled()) };
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
        if matches!(env.fib.hop(onward.hop), NextHop::Local) {
            let end = L2_ROOM.saturating_add(checked.len());
            let packet = K::room_mut(&mut frame).get(L2_ROOM..end).unwrap_or_default();
            if is_esp(checked.layers(), packet) {
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
        let Some(mut out) = sink.take() else {
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
        let entry = self.inbound.at(slot as usize).ok_or(DropReason::SaDead)?;
        let proof = decap::open(entry.sa.cipher(), &job, packet, room).ok();
        let (inner, key) = self.finish(env, sink, slot, &outer, (job, proof), packet, room)?;
        let place = self.flows.place(&key);
        self.entitle(env, sink, slot, &outer, inner, (key, place), room)
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
