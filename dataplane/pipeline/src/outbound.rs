//! From the protected side: policy, TTL, size, seal, next hop.
//!
//! Sealing is staged like opening: every packet of the burst is framed first, then the
//! cipher runs over all of them. Packets leave in the order of their sequence numbers: what
//! is sealed at once, because it is in no received frame, lets those that wait go first.

use xswan_esp::aead::Aead;
use xswan_esp::encap::{self, SealJob};
use xswan_esp::lifetime::Expiry;
use xswan_esp::selector::Flow;
use xswan_esp::sequence::LeaseStore;
use xswan_steer::abi::ROLE_INNER;
use xswan_wire::icmp::Problem;
use xswan_wire::layers::Layers;
use xswan_wire::{DropReason, ipv4, ipv6};

use crate::engine::{Engine, Env, is_local};
use crate::forward::{L2Header, NextHop};
use crate::fragment::Fragments;
use crate::inbound::L2_ROOM;
use crate::sink::{Event, Sink};
use crate::spd::{Action, SaHandle};

/// A packet between its framing and its sealing.
pub(crate) struct OutboundWork<F> {
    /// The clear packet.
    frame: F,
    /// Where the IP packet lies in the frame's received bytes.
    start: usize,
    end: usize,
    out: F,
    /// Where the outer IP packet starts in `out`.
    at: usize,
    slot: usize,
    job: SealJob,
    exit: Exit,
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
pub(crate) struct Way {
    exit: Exit,
    header: Option<L2Header>,
    mtu: u16,
}

impl Way {
    /// Where the IP packet starts in a frame that leaves this way.
    fn at(&self) -> usize {
        self.header.as_ref().map_or(L2_ROOM, L2Header::len)
    }

    /// Writes the layer-2 header, if there is one.
    fn write_header(&self, room: &mut [u8]) {
        if let Some(header) = &self.header
            && let Some(place) = room.get_mut(..header.len())
        {
            place.copy_from_slice(header.as_bytes());
        }
    }
}

impl<A, S, L, F> Engine<A, S, L, F>
where
    A: Aead,
    S: AsRef<[u64]> + AsMut<[u64]>,
    L: LeaseStore,
{
    /// Policy for a clear packet from a port, then framing if it is to be protected.
    pub(crate) fn plan_outbound<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        frame: F,
        layers: &Layers,
    ) {
        let (start, end) = (usize::from(layers.l3_offset), layers.l3_end());
        let packet = K::bytes(&frame).get(start..end).unwrap_or_default();
        if layers.ip.is_v4() && !ipv4::checksum_is_right(packet) {
            return self.drop(sink, frame, DropReason::Malformed);
        }
        let flow = Flow::of(&layers.ip, packet);
        let policy = match self.role(port) & ROLE_INNER {
            0 => Ok(None),
            _ => outbound_policy(env, &flow),
        };
        let policy = match policy {
            Ok(policy) => policy,
            Err(reason) => return self.drop(sink, frame, reason),
        };
        match policy {
            // Not forwarded, so no tunnel takes it, even under a policy to everywhere.
            Some((Action::Protect(_), _)) if is_local(env.fib, layers) => {
                self.punt_received(sink, frame, start, end);
            }
            Some((Action::Protect(Some(handle)), _)) => {
                self.frame_outbound(env, sink, port, frame, layers, handle);
            }
            Some((Action::Protect(None), child)) => {
                self.trap_received(env, sink, port, frame, child, &flow);
            }
            Some((Action::Discard, _)) => self.drop(sink, frame, DropReason::Discarded),
            Some((Action::Bypass, _)) => self.punt_received(sink, frame, start, end),
            None => self.without_policy(env, sink, port, frame, &flow, (start, end)),
        }
    }

    /// Steering brought the packet here because of its destination, but no policy selects it.
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

    /// Time to live, way out, size; then the ESP frame around the place of the payload.
    fn frame_outbound<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        layers: &Layers,
        handle: SaHandle,
    ) {
        if handle.worker != self.config.spis.worker {
            return self.hand_off(sink, handle.worker, port, frame);
        }
        let (start, end) = (usize::from(layers.l3_offset), layers.l3_end());
        if layers.ip.ttl <= 1 {
            return self.refuse(env, sink, port, frame, (start, end), Problem::TimeExceeded);
        }
        let slot = handle.slot as usize;
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
        let at = way.at();
        let room = K::room_mut(&mut out).get_mut(at..).unwrap_or_default();
        match self.prepare(env, sink, slot, packet, way.mtu, room) {
            Ok(job) => {
                way.write_header(K::room_mut(&mut out));
                let exit = way.exit;
                self.outbound_work.push(OutboundWork {
                    frame,
                    start,
                    end,
                    out,
                    at,
                    slot,
                    job,
                    exit,
                });
            }
            Err(DropReason::TooBig) => {
                sink.recycle(out);
                self.too_big(env, sink, port, frame, layers, slot, &way);
            }
            Err(reason) => {
                sink.recycle(out);
                self.drop(sink, frame, reason);
            }
        }
    }

    fn prepare<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        slot: usize,
        packet: &[u8],
        mtu: u16,
        room: &mut [u8],
    ) -> Result<SealJob, DropReason> {
        let entry = self.outbound.at_mut(slot).ok_or(DropReason::NoSa)?;
        let prepared = encap::prepare(&mut entry.sa, packet, mtu, env.now_ms, room);
        let handle = u32::try_from(slot).unwrap_or(u32::MAX);
        match entry.sa.take_expiry() {
            Some(Expiry::Soft) => sink.event(Event::SoftExpiryOut { slot: handle }),
            Some(Expiry::Hard) => sink.event(Event::HardExpiryOut { slot: handle }),
            None => {}
        }
        prepared
    }

    /// The way to the peer of an outbound SA, with the smaller of link and path MTU.
    pub(crate) fn way(&self, env: &Env<'_>, slot: usize) -> Result<Way, DropReason> {
        let entry = self.outbound.at(slot).ok_or(DropReason::NoSa)?;
        match env.fib.lookup(entry.sa.addresses()) {
            NextHop::Port { port, mtu, header } => Ok(Way {
                exit: Exit::Port(port),
                header: Some(header),
                mtu: mtu.min(entry.path_mtu),
            }),
            NextHop::Kernel { mtu } => {
                Ok(Way { exit: Exit::Kernel, header: None, mtu: mtu.min(entry.path_mtu) })
            }
            // A peer address that is our own: a loop in the making.
            NextHop::Local => Err(DropReason::NoRoute),
            NextHop::Drop(reason) => Err(reason),
        }
    }

    /// The longest inner packet of an outbound SA that fits its way, in bytes.
    pub(crate) fn max_inner(&self, slot: usize, way: &Way) -> u16 {
        self.outbound.at(slot).map_or(0, |entry| entry.sa.max_inner(way.mtu))
    }

    /// Fragments if that is allowed, tells the source otherwise.
    #[expect(clippy::too_many_arguments, reason = "the packet, its SA and its way")]
    fn too_big<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        layers: &Layers,
        slot: usize,
        way: &Way,
    ) {
        let (start, end) = (usize::from(layers.l3_offset), layers.l3_end());
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
        way: &Way,
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
    ///
    /// Those that wait for the cipher have lower sequence numbers and go first: overtaken by
    /// more than the peer's replay window they would be refused there.
    fn seal_now<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        packet: &[u8],
        slot: usize,
        way: &Way,
    ) -> Result<(), DropReason> {
        self.seal_all(env, sink);
        let mut out = sink.take_for(packet.len()).ok_or(DropReason::NoFrame)?;
        let at = way.at();
        let room = K::room_mut(&mut out).get_mut(at..).unwrap_or_default();
        let sealed = self.prepare(env, sink, slot, packet, way.mtu, room).and_then(|job| {
            let entry = self.outbound.at(slot).ok_or(DropReason::NoSa)?;
            encap::seal(entry.sa.cipher(), &job, packet, room)
        });
        match sealed {
            Ok(len) => {
                way.write_header(K::room_mut(&mut out));
                self.totals.sealed = self.totals.sealed.wrapping_add(1);
                self.leave(sink, out, at, len, way.exit);
                Ok(())
            }
            Err(reason) => {
                sink.recycle(out);
                Err(reason)
            }
        }
    }

    /// Runs the cipher over everything that was framed, and sends it.
    pub(crate) fn seal_all<K: Sink<Frame = F>>(&mut self, _env: &Env<'_>, sink: &mut K) {
        let mut work = core::mem::take(&mut self.outbound_work);
        for item in work.drain(..) {
            let OutboundWork { frame, start, end, mut out, at, slot, job, exit } = item;
            let packet = K::bytes(&frame).get(start..end).unwrap_or_default();
            let room = K::room_mut(&mut out).get_mut(at..).unwrap_or_default();
            let sealed = match self.outbound.at(slot) {
                Some(entry) => encap::seal(entry.sa.cipher(), &job, packet, room),
                None => Err(DropReason::NoSa),
            };
            sink.recycle(frame);
            match sealed {
                Ok(len) => {
                    self.totals.sealed = self.totals.sealed.wrapping_add(1);
                    self.leave(sink, out, at, len, exit);
                }
                Err(reason) => self.drop(sink, out, reason),
            }
        }
        self.outbound_work = work;
    }

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
pub(crate) fn decrement_ttl(packet: &mut [u8]) {
    change_ttl(packet, |ttl| ttl.saturating_sub(1));
}

pub(crate) fn increment_ttl(packet: &mut [u8]) {
    change_ttl(packet, |ttl| ttl.saturating_add(1));
}

fn change_ttl(packet: &mut [u8], change: impl Fn(u8) -> u8) {
    match packet.first().map(|first| first >> 4) {
        Some(4) => {
            if let Ok(header) = ipv4::Header::new_checked_mut(packet) {
                let ttl = change(header.ttl);
                header.set_ttl(ttl);
            }
        }
        Some(6) => {
            if let Ok(header) = ipv6::Header::new_checked_mut(packet) {
                header.hop_limit = change(header.hop_limit);
            }
        }
        Some(_) | None => {}
    }
}
