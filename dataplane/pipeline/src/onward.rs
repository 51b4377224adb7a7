//! Onward from the tunnel: to a host, into another tunnel, or to the kernel.
//!
//! What comes in here has passed its SA's integrity check, window and selectors. It was
//! confidential on its way, and so is an error about it: see [`crate::originate`].

use xswan_esp::aead::Aead;
use xswan_esp::decap::Checked;
use xswan_esp::sequence::LeaseStore;
use xswan_wire::DropReason;
use xswan_wire::icmp::Problem;

use crate::engine::{Engine, Env};
use crate::forward::{L2Header, NextHop};
use crate::fragment::Fragments;
use crate::inbound::{L2_ROOM, Onward};
use crate::outbound::{decrement_ttl, increment_ttl, may_fragment};
use crate::sink::Sink;
use crate::spd::{Action, SaHandle};

impl<A, S, L, F> Engine<A, S, L, F>
where
    A: Aead,
    S: AsRef<[u64]> + AsMut<[u64]>,
    L: LeaseStore,
{
    /// A packet out of the tunnel goes on.
    #[inline]
    pub(crate) fn forward_opened<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        checked: &Checked,
        onward: Onward,
    ) {
        let hop = env.fib.hop(onward.hop);
        if matches!(hop, NextHop::Local) {
            return self.punt(sink, frame, L2_ROOM, checked.len());
        }
        match env.spd.action(onward.row) {
            Some((Action::Protect(Some(handle)), _)) => {
                self.hairpin(env, sink, port, frame, checked, handle);
            }
            Some((Action::Protect(None), child)) => {
                if let Some(flow) = checked.flow(opened::<K>(&mut frame, checked.len())) {
                    self.acquire(env, sink, child, &flow);
                }
                self.drop(sink, frame, DropReason::NoSa);
            }
            Some((Action::Discard, _)) => self.drop(sink, frame, DropReason::Discarded),
            Some((Action::Bypass, _)) | None => {
                self.route_opened(env, sink, port, frame, checked, hop);
            }
        }
    }

    /// In clear to the next hop: less one hop, in pieces if it has to be.
    fn route_opened<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        checked: &Checked,
        hop: &NextHop,
    ) {
        let len = checked.len();
        // Not left to the kernel either: its error would go to the source by its own routes,
        // in clear, with the packet quoted in it.
        let goes_on = matches!(hop, NextHop::Port { .. } | NextHop::Kernel { .. });
        if goes_on && checked.brief().ttl <= 1 {
            return self.refuse_opened(env, sink, port, frame, checked, Problem::TimeExceeded);
        }
        match hop {
            NextHop::Port { port: exit, mtu, header } => {
                if len > usize::from(*mtu) {
                    return self.cut_opened(env, sink, port, frame, checked, (*exit, *mtu, header));
                }
                decrement_ttl(opened::<K>(&mut frame, len));
                self.send_opened(sink, frame, len, *exit, header);
            }
            NextHop::Kernel { .. } | NextHop::Local => self.punt(sink, frame, L2_ROOM, len),
            NextHop::Drop(reason) => self.drop(sink, frame, *reason),
        }
    }

    /// Puts the Ethernet header in front; a tagged one needs the packet moved.
    #[inline]
    pub(crate) fn send_opened<K: Sink<Frame = F>>(
        &mut self,
        sink: &mut K,
        mut frame: F,
        len: usize,
        exit: u16,
        header: &L2Header,
    ) {
        let room = K::room_mut(&mut frame);
        if let (Some(header), Some(place)) = (header.untagged(), room.first_chunk_mut()) {
            *place = *header;
            return self.send(sink, exit, frame, L2_ROOM.saturating_add(len));
        }
        let total = header.len().saturating_add(len);
        if header.len() != L2_ROOM {
            if total > room.len() {
                return self.drop(sink, frame, DropReason::TooBig);
            }
            room.copy_within(L2_ROOM..L2_ROOM.saturating_add(len), header.len());
        }
        if let Some(place) = room.get_mut(..header.len()) {
            place.copy_from_slice(header.as_bytes());
        }
        self.send(sink, exit, frame, total);
    }

    /// An opened packet that is larger than the link it leaves by.
    fn cut_opened<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        checked: &Checked,
        (exit, mtu, header): (u16, u16, &L2Header),
    ) {
        let packet = opened::<K>(&mut frame, checked.len());
        if !may_fragment(packet) {
            let problem = Problem::TooBig { mtu };
            return self.refuse_opened(env, sink, port, frame, checked, problem);
        }
        decrement_ttl(packet);
        let Some(mut fragments) = Fragments::new(packet, usize::from(mtu)) else {
            return self.drop(sink, frame, DropReason::TooBig);
        };
        // The first fragment takes the packet's place in the count, the others are new.
        let mut made = 0_u64;
        while let Some(mut out) = sink.take_for(usize::from(mtu)) {
            let room = K::room_mut(&mut out).get_mut(L2_ROOM..).unwrap_or_default();
            let Some(len) = fragments.write_next(room) else {
                sink.recycle(out);
                if made == 0 {
                    self.count(DropReason::TooBig);
                }
                return sink.recycle(frame);
            };
            self.totals.originated = self.totals.originated.wrapping_add(made.min(1));
            made = made.saturating_add(1);
            self.send_opened(sink, out, len, exit, header);
        }
        // Without the rest the packet is lost; a fragment that was not made is not counted.
        if made == 0 {
            self.count(DropReason::NoFrame);
        }
        sink.recycle(frame);
    }

    /// From one tunnel into another.
    fn hairpin<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        checked: &Checked,
        handle: SaHandle,
    ) {
        if checked.brief().ttl <= 1 {
            return self.refuse_opened(env, sink, port, frame, checked, Problem::TimeExceeded);
        }
        let packet = opened::<K>(&mut frame, checked.len());
        // Undone if the packet turns out too big: the source must see what it sent.
        decrement_ttl(packet);
        match self.protect_here(env, sink, packet, handle) {
            Ok(()) => sink.recycle(frame),
            Err(DropReason::TooBig) => {
                self.hairpin_too_big(env, sink, port, frame, checked, handle.slot as usize);
            }
            Err(reason) => self.drop(sink, frame, reason),
        }
    }

    /// Fragments if that is allowed, tells the source otherwise.
    fn hairpin_too_big<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        mut frame: F,
        checked: &Checked,
        slot: usize,
    ) {
        let way = match self.way(env, slot) {
            Ok(way) => way,
            Err(reason) => return self.drop(sink, frame, reason),
        };
        let packet = opened::<K>(&mut frame, checked.len());
        if self.config.fragment && may_fragment(packet) {
            self.seal_fragments(env, sink, packet, slot, &way);
            return sink.recycle(frame);
        }
        increment_ttl(packet);
        let problem = Problem::TooBig { mtu: self.max_inner(slot, &way) };
        self.refuse_opened(env, sink, port, frame, checked, problem);
    }
}

/// The packet in a frame that was opened into.
#[inline(always)]
fn opened<K: Sink>(frame: &mut K::Frame, len: usize) -> &mut [u8] {
    let end = L2_ROOM.saturating_add(len);
    K::room_mut(frame).get_mut(L2_ROOM..end).unwrap_or_default()
}
