//! Packets that start here: ICMP errors, and what the kernel sends into the TUN device.

use xswan_esp::aead::Aead;
use xswan_esp::decap::Checked;
use xswan_esp::selector::Flow;
use xswan_esp::sequence::LeaseStore;
use xswan_wire::icmp::{self, Problem};
use xswan_wire::layers::{self, Addresses};
use xswan_wire::{DropReason, ipv4};

use crate::engine::{Engine, Env};
use crate::forward::NextHop;
use crate::fragment::Fragments;
use crate::inbound::L2_ROOM;
use crate::sink::{Event, Sink};
use crate::spd::Action;

/// What the drop of a packet with this problem is called.
const fn reason(problem: Problem) -> DropReason {
    match problem {
        Problem::TimeExceeded => DropReason::TtlExceeded,
        Problem::TooBig { .. } => DropReason::TooBig,
    }
}

impl<A, S, L, F> Engine<A, S, L, F>
where
    A: Aead,
    S: AsRef<[u64]> + AsMut<[u64]>,
    L: LeaseStore,
{
    /// Drops a packet in a received frame and tells its source why.
    pub(crate) fn refuse<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        frame: F,
        (start, end): (usize, usize),
        problem: Problem,
    ) {
        let packet = K::bytes(&frame).get(start..end).unwrap_or_default();
        self.tell_source(env, sink, port, packet, problem);
        self.drop(sink, frame, reason(problem));
    }

    /// Drops a packet that came out of the tunnel and tells its source why.
    pub(crate) fn refuse_opened<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        checked: &Checked,
        problem: Problem,
    ) {
        let end = L2_ROOM.saturating_add(checked.len());
        let packet = K::room_mut(&mut frame).get(L2_ROOM..end).unwrap_or_default();
        self.tell_source(env, sink, port, packet, problem);
        self.drop(sink, frame, reason(problem));
    }

    fn tell_source<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        packet: &[u8],
        problem: Problem,
    ) {
        if !self.icmp_limit.allow(env.now_ms) {
            self.icmp_limited = self.icmp_limited.wrapping_add(1);
            return;
        }
        let mut scratch = core::mem::take(&mut self.scratch);
        let built = match packet.first().map(|first| first >> 4) {
            Some(4) => env
                .fib
                .source4(port)
                .and_then(|source| icmp::build_v4(problem, packet, source, &mut scratch)),
            Some(6) => env
                .fib
                .source6(port)
                .and_then(|source| icmp::build_v6(problem, packet, source, &mut scratch)),
            Some(_) | None => None,
        };
        if let Some(len) = built {
            self.originate(env, sink, scratch.get(..len).unwrap_or_default());
        }
        self.scratch = scratch;
    }

    /// Sends a packet of the gateway's own: protected if policy says so, else by its route.
    ///
    /// `packet` is one whole IP packet; its TTL is left as it is.
    pub fn originate<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        packet: &[u8],
    ) {
        self.totals.originated = self.totals.originated.wrapping_add(1);
        if let Err(reason) = self.send_own(env, sink, packet) {
            self.count(reason);
        }
    }

    fn send_own<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        packet: &[u8],
    ) -> Result<(), DropReason> {
        let layers =
            layers::parse_packet(packet, packet.len()).map_err(|_shape| DropReason::Malformed)?;
        let packet = packet.get(..layers.l3_end()).ok_or(DropReason::Malformed)?;
        let flow = Flow::of(&layers.ip, packet);
        match env.spd.outbound(&flow).map(|policy| (policy.action, policy.child)) {
            Some((Action::Protect(Some(handle)), _)) => {
                match self.protect_here(env, sink, packet, handle) {
                    Err(DropReason::TooBig) => self.own_too_big(env, sink, packet, handle),
                    other => other,
                }
            }
            Some((Action::Protect(None), child)) => {
                if self.acquire_limit.allow(env.now_ms) {
                    sink.event(Event::Acquire { child });
                }
                Err(DropReason::NoSa)
            }
            Some((Action::Discard, _)) => Err(DropReason::Discarded),
            Some((Action::Bypass, _)) | None => self.route_own(env, sink, packet, &layers.ip.addresses),
        }
    }

    /// The gateway's own packet does not fit its tunnel: cut if it may be.
    fn own_too_big<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        packet: &[u8],
        handle: crate::spd::SaHandle,
    ) -> Result<(), DropReason> {
        let may_cut = ipv4::Header::new_checked(packet).is_ok_and(|header| !header.dont_fragment());
        if !may_cut {
            return Err(DropReason::TooBig);
        }
        let max_inner = self.max_inner(env, handle.slot as usize)?;
        let mut fragments =
            Fragments::new(packet, usize::from(max_inner)).ok_or(DropReason::TooBig)?;
        let mut piece = core::mem::take(&mut self.pieces);
        let mut result = Err(DropReason::TooBig);
        let mut first = true;
        while let Some(len) = fragments.write_next(&mut piece) {
            if !core::mem::replace(&mut first, false) {
                self.totals.originated = self.totals.originated.wrapping_add(1);
                if let Err(reason) = result {
                    self.count(reason);
                }
            }
            let bytes = piece.get(..len).unwrap_or_default();
            result = self.protect_here(env, sink, bytes, handle);
        }
        self.pieces = piece;
        result
    }

    fn route_own<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        packet: &[u8],
        addresses: &Addresses,
    ) -> Result<(), DropReason> {
        let hop = env.fib.lookup(addresses);
        if let NextHop::Drop(reason) = hop {
            return Err(reason);
        }
        let mut out = sink.take().ok_or(DropReason::NoFrame)?;
        let room = K::room_mut(&mut out).get_mut(L2_ROOM..).unwrap_or_default();
        let Some(place) = room.get_mut(..packet.len()) else {
            sink.recycle(out);
            return Err(DropReason::TooBig);
        };
        place.copy_from_slice(packet);
        match hop {
            NextHop::Port { port, mtu, header } if packet.len() <= usize::from(mtu) => {
                self.send_opened(sink, out, packet.len(), port, &header);
            }
            NextHop::Port { .. } => {
                sink.recycle(out);
                return Err(DropReason::TooBig);
            }
            NextHop::Kernel { .. } | NextHop::Local | NextHop::Drop(_) => {
                self.punt(sink, out, L2_ROOM, packet.len());
            }
        }
        Ok(())
    }
}
