//! From the protected side: policy, TTL, size, seal, next hop.
//!
//! In three passes over a burst: which flow, which policy, then framing and cipher together, so
//! that packets leave in the order of their sequence numbers. While one packet is sealed, the
//! memory that the next ones need is on its way.

use xswan_esp::aead::Aead;
use xswan_esp::encap;
use xswan_esp::lifetime::Expiry;
use xswan_esp::selector::Flow;
use xswan_esp::sequence::LeaseStore;
use xswan_steer::abi::ROLE_INNER;
use xswan_wire::brief::Brief;
use xswan_wire::icmp::Problem;
use xswan_wire::{DropReason, ipv4, ipv6};

use crate::engine::{CachedHop, Engine, Env};
use crate::flow_cache::{FlowKey, Known, NO_ROW};
use crate::forward::{L2Header, NextHop};
use crate::fragment::Fragments;
use crate::inbound::L2_ROOM;
use crate::sink::{Event, Sink};
use crate::spd::{Action, SaHandle};

/// Packets ahead of the one at hand whose key is asked for: so long as memory takes to answer.
pub(crate) const KEY_AHEAD: usize = 6;
/// Packets ahead whose SA is asked for: it must be there when it says where its key is. More would
/// push each other out of the cache.
pub(crate) const SA_AHEAD: usize = 14;

/// A clear packet between its headers and its policy.
pub(crate) struct ClearWork<F> {
    frame: F,
    /// What of the flow's key is not an address.
    rest: u64,
    brief: Brief,
    /// In the cache of flows.
    place: u32,
    /// The policy's row.
    row: u32,
    /// Of the SA of ours that protects it, if one does.
    slot: u32,
    port: u16,
    /// Whether the destination is an address of our own.
    is_local: bool,
    refused: Option<DropReason>,
}

/// No slot.
const NONE: u32 = u32::MAX;

impl<F> ClearWork<F> {
    /// Where the IP packet lies in the frame.
    #[inline(always)]
    fn range(&self) -> (usize, usize) {
        (usize::from(self.brief.l3_offset), self.brief.l3_end())
    }

    #[inline]
    fn flow<K: Sink<Frame = F>>(&self) -> Result<Flow, DropReason> {
        Flow::of_frame(&self.brief, K::bytes(&self.frame)).ok_or(DropReason::Malformed)
    }
}

/// Where a finished packet leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exit {
    /// Out of a port.
    Port(u16),
    /// Through the kernel.
    Kernel,
}

/// The way to an SA's peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'e> {
    exit: Exit,
    header: Option<&'e L2Header>,
    mtu: u16,
}

impl Way<'_> {
    /// Where the IP packet starts in a frame that leaves this way.
    #[inline(always)]
    fn at(&self) -> usize {
        self.header.map_or(L2_ROOM, L2Header::len)
    }

    /// Writes the layer-2 header, if there is one; the packet behind it must follow.
    #[inline(always)]
    fn write_header(&self, room: &mut [u8]) {
        if let Some(header) = self.header {
            header.write_ahead(room);
        }
    }
}

impl<A, S, L, F> Engine<A, S, L, F>
where
    A: Aead,
    S: AsRef<[u64]> + AsMut<[u64]>,
    L: LeaseStore,
{
    /// A clear packet: which flow it is.
    #[inline(always)]
    pub(crate) fn note_clear<K: Sink<Frame = F>>(
        &mut self,
        sink: &mut K,
        port: u16,
        frame: F,
        brief: Brief,
    ) {
        let bytes = K::bytes(&frame);
        if brief.is_v4() && !ipv4::checksum_is_right(brief.packet(bytes)) {
            return self.drop(sink, frame, DropReason::Malformed);
        }
        let key = FlowKey::outbound(&brief, bytes);
        let (rest, place) = (key.rest(), self.flows.place(&key));
        self.flows.lines(place).into_iter().flatten().for_each(K::prefetch);
        let (row, slot, is_local, refused) = (NO_ROW, NONE, false, None);
        let item = ClearWork { frame, rest, brief, place, row, slot, port, is_local, refused };
        self.clear_work.push(item);
    }

    /// Policy of all clear packets.
    #[inline(never)]
    pub(crate) fn ask_policies<K: Sink<Frame = F>>(&mut self, env: &Env<'_>) {
        let mut work = core::mem::take(&mut self.clear_work);
        for item in &mut work {
            self.ask_policy::<K>(env, item);
            if let Some(place) = self.outbound.place(item.slot as usize) {
                K::prefetch(place);
            }
        }
        self.clear_work = work;
    }

    /// What policy says of all clear packets is done.
    #[inline(never)]
    pub(crate) fn plan_all<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, sink: &mut K) {
        let mut work = core::mem::take(&mut self.clear_work);
        let mut items = work.drain(..);
        while let Some(item) = items.next() {
            self.ask_outbound_ahead::<K>(items.as_slice());
            self.plan_outbound(env, sink, item);
        }
        drop(items);
        self.clear_work = work;
    }

    /// Memory that the next packets touch: first their SA, then its key.
    #[inline(always)]
    fn ask_outbound_ahead<K: Sink<Frame = F>>(&self, next: &[ClearWork<F>]) {
        let entry = |at: usize| self.outbound.at(next.get(at)?.slot as usize);
        if let Some(entry) = entry(SA_AHEAD) {
            K::prefetch(entry);
        }
        if let Some(entry) = entry(KEY_AHEAD) {
            entry.sa.cipher().prefetch();
        }
    }

    /// What the tables say of a clear packet.
    #[inline(always)]
    fn ask_policy<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, item: &mut ClearWork<F>) {
        let key = FlowKey::with(&item.brief, K::bytes(&item.frame), item.rest, 0);
        let known = match self.flows.find(&key, item.place, env.editions()) {
            Some(known) => known,
            None => match self.ask_tables::<K>(env, item, key) {
                Ok(known) => known,
                Err(reason) => return item.refused = Some(reason),
            },
        };
        item.is_local = known.is_local;
        if self.role(item.port) & ROLE_INNER != 0 {
            item.row = known.row;
            // What is not forwarded no tunnel takes, even under a policy to everywhere.
            if let Some((Action::Protect(Some(handle)), _)) = env.spd.action(known.row)
                && handle.worker == self.config.spis.worker
                && !known.is_local
            {
                item.slot = handle.slot;
            }
        }
    }

    #[cold]
    fn ask_tables<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        item: &ClearWork<F>,
        key: FlowKey,
    ) -> Result<Known, DropReason> {
        let flow = item.flow::<K>()?;
        let row = match self.role(item.port) & ROLE_INNER {
            // Asked by `without_sa`, in its own order.
            0 => None,
            _ => env.spd.outbound_row(&flow)?,
        };
        let hop = env.fib.position(&flow.addresses);
        let is_local = matches!(env.fib.hop(hop), NextHop::Local);
        let known = Known { row: row.unwrap_or(NO_ROW), hop, is_local, entitled: None };
        if self.role(item.port) & ROLE_INNER != 0 {
            self.flows.keep(key, item.place, env.editions(), known);
        }
        Ok(known)
    }

    /// What policy says is done, or framed to be done with the rest.
    #[inline(always)]
    fn plan_outbound<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        item: ClearWork<F>,
    ) {
        if item.slot == NONE {
            return self.plan_otherwise(env, sink, item);
        }
        self.protect(env, sink, item);
    }

    /// What no SA of ours protects.
    #[inline(never)]
    fn plan_otherwise<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        item: ClearWork<F>,
    ) {
        if let Some(reason) = item.refused {
            return self.drop(sink, item.frame, reason);
        }
        let (start, end) = item.range();
        match env.spd.action(item.row) {
            // Not forwarded.
            Some((Action::Protect(_), _)) if item.is_local => {
                self.punt_received(sink, item.frame, start, end);
            }
            // An SA of ours has a slot, and this one has none that could be.
            Some((Action::Protect(Some(handle)), _))
                if handle.worker == self.config.spis.worker =>
            {
                self.drop(sink, item.frame, DropReason::NoSa);
            }
            Some((Action::Protect(Some(handle)), _)) => {
                self.hand_off(sink, handle.worker, item.port, item.frame);
            }
            Some((Action::Protect(None), child)) => match item.flow::<K>() {
                Ok(flow) => self.trap_received(env, sink, item.port, item.frame, child, &flow),
                Err(reason) => self.drop(sink, item.frame, reason),
            },
            Some((Action::Discard, _)) => self.drop(sink, item.frame, DropReason::Discarded),
            Some((Action::Bypass, _)) => self.punt_received(sink, item.frame, start, end),
            None => match item.flow::<K>() {
                Ok(flow) => {
                    self.without_policy(env, sink, item.port, item.frame, &flow, (start, end));
                }
                Err(reason) => self.drop(sink, item.frame, reason),
            },
        }
    }

    /// Steering brought the packet here because of its destination, but no policy selects it.
    #[cold]
    fn without_policy<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        frame: F,
        flow: &Flow,
        (start, end): (usize, usize),
    ) {
        match self.without_sa(env, port, flow) {
            Ok(()) => self.punt_received(sink, frame, start, end),
            Err(reason) => self.drop(sink, frame, reason),
        }
    }

    /// Whether a clear packet that no outbound policy selects may pass.
    fn without_sa(&self, env: &Env<'_>, port: u16, flow: &Flow) -> Result<(), DropReason> {
        match env.spd.inbound_clear(flow)?.map(|policy| policy.action) {
            // RFC 4301 section 5.2 step 3b: it should have come through an SA.
            Some(Action::Protect(_)) => return Err(DropReason::ClearTextForbidden),
            Some(Action::Discard) => return Err(DropReason::Discarded),
            Some(Action::Bypass) => return Ok(()),
            None => {}
        }
        if self.role(port) & ROLE_INNER != 0 {
            return Err(DropReason::NoPolicy);
        }
        match env.spd.outbound(flow)?.map(|policy| policy.action) {
            // From outside under a source address of the protected side: forged.
            Some(Action::Protect(_)) => Err(DropReason::ClearTextForbidden),
            Some(Action::Discard) => Err(DropReason::Discarded),
            Some(Action::Bypass) | None => Ok(()),
        }
    }

    /// Gives a received packet to the kernel in a frame of our own.
    #[cold]
    fn punt_received<K: Sink<Frame = F>>(
        &mut self,
        sink: &mut K,
        frame: F,
        start: usize,
        end: usize,
    ) {
        let Some(mut out) = sink.take_for(end.saturating_sub(start)) else {
            return self.drop(sink, frame, DropReason::NoFrame);
        };
        let packet = K::bytes(&frame).get(start..end).unwrap_or_default();
        let len = packet.len();
        let room = K::room_mut(&mut out).get_mut(L2_ROOM..).unwrap_or_default();
        match room.get_mut(..len) {
            Some(place) => place.copy_from_slice(packet),
            None => {
                sink.recycle(out);
                return self.drop(sink, frame, DropReason::MultiBuffer);
            }
        }
        sink.recycle(frame);
        self.punt(sink, out, L2_ROOM, len);
    }

    /// Time to live, way out, size; then the ESP packet.
    #[inline(always)]
    fn protect<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, sink: &mut K, item: ClearWork<F>) {
        let (start, end) = item.range();
        let ClearWork { mut frame, brief, port, slot: handle, .. } = item;
        if brief.ttl <= 1 {
            return self.refuse(env, sink, port, frame, (start, end), Problem::TimeExceeded);
        }
        let slot = handle as usize;
        let way = match self.way(env, slot) {
            Ok(way) => way,
            Err(reason) => return self.drop(sink, frame, reason),
        };
        let Some(mut out) = sink.take_for(end.saturating_sub(start)) else {
            return self.drop(sink, frame, DropReason::NoFrame);
        };
        let packet = K::bytes_mut(&mut frame).get_mut(start..end).unwrap_or_default();
        // Undone if the packet turns out too big: the source must see what it sent.
        decrement_ttl(packet);
        let room = K::room_mut(&mut out);
        way.write_header(room);
        let at = way.at();
        let room = room.get_mut(at..).unwrap_or_default();
        match self.seal(env, sink, slot, (&brief, packet), way.mtu, room) {
            Ok(len) => {
                sink.recycle(frame);
                self.leave(sink, out, at, len, way.exit);
            }
            Err(DropReason::TooBig) => {
                sink.recycle(out);
                self.too_big(env, sink, port, frame, (start, end), slot, &way);
            }
            Err(reason) => {
                sink.recycle(out);
                self.drop(sink, frame, reason);
            }
        }
    }

    /// Frames and seals; the length of the outer packet.
    #[inline(always)]
    fn seal<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        slot: usize,
        (brief, packet): (&Brief, &[u8]),
        mtu: u16,
        room: &mut [u8],
    ) -> Result<usize, DropReason> {
        let entry = self.outbound.at_mut(slot).ok_or(DropReason::NoSa)?;
        let prepared = encap::prepare_parsed(&mut entry.sa, brief, packet, mtu, env.now_ms, room);
        if let Some(expiry) = entry.sa.take_expiry() {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            sink.event(match expiry {
                Expiry::Soft => Event::SoftExpiryOut { slot },
                Expiry::Hard => Event::HardExpiryOut { slot },
            });
        }
        let len = encap::seal(entry.sa.cipher(), &prepared?, packet, room)?;
        self.totals.sealed = self.totals.sealed.wrapping_add(1);
        Ok(len)
    }

    /// The way to the peer of an outbound SA, with the smaller of link and path MTU.
    #[inline(always)]
    pub(crate) fn way<'e>(&mut self, env: &Env<'e>, slot: usize) -> Result<Way<'e>, DropReason> {
        let entry = self.outbound.at_mut(slot).ok_or(DropReason::NoSa)?;
        if entry.hop.edition != env.fib.edition() {
            let position = env.fib.position(entry.sa.addresses());
            entry.hop = CachedHop { edition: env.fib.edition(), position };
        }
        let hop = env.fib.hop(entry.hop.position);
        if let NextHop::Port { port, mtu, header } = hop {
            let mtu = entry.path_mtu.min(*mtu);
            return Ok(Way { exit: Exit::Port(*port), header: Some(header), mtu });
        }
        other_way(hop, entry.path_mtu)
    }

    /// The longest inner packet of an outbound SA that fits its way, in bytes.
    pub(crate) fn max_inner(&self, slot: usize, way: &Way<'_>) -> u16 {
        self.outbound.at(slot).map_or(0, |entry| entry.sa.max_inner(way.mtu))
    }

    /// Fragments if that is allowed, tells the source otherwise.
    #[expect(clippy::too_many_arguments, reason = "the packet, its SA and its way")]
    #[cold]
    fn too_big<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        (start, end): (usize, usize),
        slot: usize,
        way: &Way<'_>,
    ) {
        let max_inner = self.max_inner(slot, way);
        let packet = K::bytes_mut(&mut frame).get_mut(start..end).unwrap_or_default();
        if self.config.fragment && may_fragment(packet) {
            self.seal_fragments(env, sink, packet, slot, way);
            return sink.recycle(frame);
        }
        increment_ttl(packet);
        let problem = Problem::TooBig { mtu: max_inner };
        self.refuse(env, sink, port, frame, (start, end), problem);
    }

    /// Cuts a packet and seals each piece; the first takes the packet's place in the count.
    pub(crate) fn seal_fragments<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        packet: &[u8],
        slot: usize,
        way: &Way<'_>,
    ) {
        let max_inner = usize::from(self.max_inner(slot, way));
        let Some(mut fragments) = Fragments::new(packet, max_inner) else {
            return self.count(DropReason::TooBig);
        };
        let mut pieces = core::mem::take(&mut self.pieces);
        let mut first = true;
        while let Some(len) = fragments.write_next(&mut pieces) {
            if !core::mem::replace(&mut first, false) {
                self.totals.originated = self.totals.originated.wrapping_add(1);
            }
            let piece = pieces.get(..len).unwrap_or_default();
            if let Err(reason) = self.seal_now(env, sink, piece, slot, way) {
                self.count(reason);
            }
        }
        self.pieces = pieces;
        if first {
            self.count(DropReason::TooBig);
        }
    }

    /// Frames, seals and sends one packet that is not in a received frame.
    fn seal_now<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        packet: &[u8],
        slot: usize,
        way: &Way<'_>,
    ) -> Result<(), DropReason> {
        let brief = Brief::of_packet(packet).map_err(|_shape| DropReason::Malformed)?;
        let mut out = sink.take_for(packet.len()).ok_or(DropReason::NoFrame)?;
        let room = K::room_mut(&mut out);
        way.write_header(room);
        let at = way.at();
        let room = room.get_mut(at..).unwrap_or_default();
        match self.seal(env, sink, slot, (&brief, packet), way.mtu, room) {
            Ok(len) => {
                self.leave(sink, out, at, len, way.exit);
                Ok(())
            }
            Err(reason) => {
                sink.recycle(out);
                Err(reason)
            }
        }
    }

    #[inline(always)]
    fn leave<K: Sink<Frame = F>>(
        &mut self,
        sink: &mut K,
        out: F,
        at: usize,
        len: usize,
        exit: Exit,
    ) {
        match exit {
            Exit::Port(port) => self.send(sink, port, out, at.saturating_add(len)),
            Exit::Kernel => self.punt(sink, out, at, len),
        }
    }

    pub(crate) fn punt<K: Sink<Frame = F>>(
        &mut self,
        sink: &mut K,
        frame: F,
        start: usize,
        len: usize,
    ) {
        match sink.punt(frame, start, len) {
            None => self.totals.punted = self.totals.punted.wrapping_add(1),
            Some(frame) => self.drop(sink, frame, DropReason::SlowPathFull),
        }
    }

    pub(crate) fn send<K: Sink<Frame = F>>(
        &mut self,
        sink: &mut K,
        port: u16,
        frame: F,
        len: usize,
    ) {
        match sink.send(port, frame, len) {
            None => self.totals.forwarded = self.totals.forwarded.wrapping_add(1),
            Some(frame) => self.drop(sink, frame, DropReason::TxFull),
        }
    }

    /// Seals a packet that is in our hands, not in a received frame.
    pub(crate) fn protect_here<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        packet: &[u8],
        handle: SaHandle,
    ) -> Result<(), DropReason> {
        // Such a packet cannot be handed over; the SAs of a child live with one worker, so
        // this is a policy between children of different workers.
        if handle.worker != self.config.spis.worker {
            return Err(DropReason::HandoffFull);
        }
        let slot = handle.slot as usize;
        let way = self.way(env, slot)?;
        self.seal_now(env, sink, packet, slot, &way)
    }
}

/// The way where it is not out of a port.
#[cold]
fn other_way(hop: &NextHop, path_mtu: u16) -> Result<Way<'_>, DropReason> {
    match hop {
        NextHop::Kernel { mtu } => {
            Ok(Way { exit: Exit::Kernel, header: None, mtu: path_mtu.min(*mtu) })
        }
        // A peer address that is our own: a loop in the making.
        NextHop::Local | NextHop::Port { .. } => Err(DropReason::NoRoute),
        NextHop::Drop(reason) => Err(*reason),
    }
}

/// What policy does with a packet in the outbound direction, and the child it says so for.
pub(crate) fn outbound_policy(
    env: &Env<'_>,
    flow: &Flow,
) -> Result<Option<(Action, u32)>, DropReason> {
    Ok(env.spd.outbound(flow)?.map(|policy| (policy.action, policy.child)))
}

/// Whether a router may cut this packet: IPv4 without DF.
pub(crate) fn may_fragment(packet: &[u8]) -> bool {
    ipv4::Header::new_checked(packet).is_ok_and(|header| !header.dont_fragment())
}

/// One hop less, the IPv4 checksum with it. The caller has seen that it is above 1.
#[inline(always)]
pub(crate) fn decrement_ttl(packet: &mut [u8]) {
    match packet.first() {
        Some(first) if first >> 4 == 4 => {
            if let Some(header) = ipv4::Header::parsed_mut(packet) {
                header.decrement_ttl();
            }
        }
        Some(_) | None => change_ttl(packet, |ttl| ttl.saturating_sub(1)),
    }
}

pub(crate) fn increment_ttl(packet: &mut [u8]) {
    change_ttl(packet, |ttl| ttl.saturating_add(1));
}

fn change_ttl(packet: &mut [u8], change: impl Fn(u8) -> u8) {
    match packet.first().map(|first| first >> 4) {
        Some(4) => {
            if let Some(header) = ipv4::Header::parsed_mut(packet) {
                let ttl = change(header.ttl);
                header.set_ttl(ttl);
            }
        }
        Some(6) => {
            if let Some(hop_limit) = packet.get_mut(ipv6::HOP_LIMIT) {
                *hop_limit = change(*hop_limit);
            }
        }
        Some(_) | None => {}
    }
}
