//! Packets that start here: ICMP errors, and what the kernel sends into the TUN device.
//!
//! An error quotes the packet it is about. One about a packet that came through a tunnel
//! goes back through a tunnel or not at all (RFC 4301 section 6): in clear it would show the
//! untrusted side what the tunnel was there to hide.

use xswan_esp::aead::Aead;
use xswan_esp::decap::Checked;
use xswan_esp::selector::Flow;
use xswan_esp::sequence::LeaseStore;
use xswan_steer::abi::ROLE_INNER;
use xswan_wire::DropReason;
use xswan_wire::brief::Brief;
use xswan_wire::icmp::{self, Problem};
use xswan_wire::layers::{self, Addresses, Layers};

use crate::engine::{Engine, Env, Outbound, is_esp};
use crate::forward::NextHop;
use crate::held::Origin;
use crate::inbound::L2_ROOM;
use crate::outbound::{may_fragment, outbound_policy};
use crate::sink::Sink;
use crate::spd::{Action, SaHandle};

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
        self.with_error(env, port, packet, problem, |engine, error| {
            engine.originate(env, sink, error);
        });
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
        // The peer's selectors know our address on the protected side, if any of ours.
        let port = self.inner_port(port);
        self.with_error(env, port, packet, problem, |engine, error| {
            if let Some(flow) = checked.flow(packet) {
                engine.tell_peer(env, sink, error, &flow);
            }
        });
        self.drop(sink, frame, reason(problem));
    }

    /// This port or the first on the protected side; itself if there is none.
    fn inner_port(&self, port: u16) -> u16 {
        let inner = |port: &u16| self.role(*port) & ROLE_INNER != 0;
        let ports = u16::try_from(self.config.roles.len()).unwrap_or(u16::MAX);
        core::iter::once(port).chain(0..ports).find(inner).unwrap_or(port)
    }

    /// Builds an ICMP error, if one is due and within the limit, and has it sent.
    fn with_error(
        &mut self,
        env: &Env<'_>,
        port: u16,
        packet: &[u8],
        problem: Problem,
        send: impl FnOnce(&mut Self, &[u8]),
    ) {
        if !self.icmp_limit.allow(env.now_ms) {
            // A packet of ours that ends here, so that the operator finds it among the drops.
            self.totals.originated = self.totals.originated.wrapping_add(1);
            self.count(DropReason::IcmpRateLimited);
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
        if let Some(error) = built.and_then(|len| scratch.get(..len)) {
            send(self, error);
        }
        self.scratch = scratch;
    }

    /// Sends an error about a packet that came through a tunnel: under its own policy, or
    /// else through the SA that an answer to the packet would take.
    fn tell_peer<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        error: &[u8],
        about: &Flow,
    ) {
        let policy = |flow: &Flow| outbound_policy(env, flow).ok().flatten();
        let own = Flow::parse(error).ok().and_then(|flow| policy(&flow));
        if matches!(own, Some((Action::Protect(_), _))) {
            return self.originate(env, sink, error);
        }
        if let Some((Action::Protect(Some(handle)), _)) = policy(&reversed(about)) {
            self.totals.originated = self.totals.originated.wrapping_add(1);
            if let Err(reason) = self.protect_here(env, sink, error, handle) {
                self.count(reason);
            }
        }
    }

    /// The worker that has the SA which policy asks for, for a packet of the gateway's own;
    /// `None` if it needs no SA, or has none.
    #[must_use]
    pub fn owner_of(env: &Env<'_>, packet: &[u8]) -> Option<u32> {
        let layers = layers::parse_packet(packet, packet.len()).ok()?;
        let flow = Flow::of(&layers.ip, packet.get(..layers.l3_end())?);
        match outbound_policy(env, &flow).ok()?? {
            (Action::Protect(handle), _) => handle.map(|handle| handle.worker),
            (Action::Bypass | Action::Discard, _) => None,
        }
    }

    /// Sends a packet of the gateway's own: protected if policy says so, else by its route.
    ///
    /// An SA that policy asks for must be this worker's: ask [`Self::owner_of`] first.
    ///
    /// `packet` is one whole IP packet; its TTL is left as it is.
    pub fn originate<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, sink: &mut K, packet: &[u8]) {
        self.totals.originated = self.totals.originated.wrapping_add(1);
        if let Err(reason) = self.send_own(env, sink, packet) {
            self.count(reason);
        }
    }

    /// Takes a packet that the kernel has sent into the TUN device, which is given to every
    /// worker: the one whose SA it is sends it, the first one if it needs none. If it waits for
    /// an SA, all of them hold it and the first one counts it.
    pub fn inject<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, sink: &mut K, packet: &[u8]) {
        let me = self.config.spis.worker;
        let flow = Flow::parse(packet).ok();
        let policy = flow.and_then(|flow| Some((flow, outbound_policy(env, &flow).ok()??)));
        match policy {
            Some((_, (Action::Protect(Some(handle)), _))) if handle.worker != me => {}
            Some((flow, (Action::Protect(None), child))) => {
                let counted = me == 0;
                if counted {
                    self.totals.originated = self.totals.originated.wrapping_add(1);
                    self.acquire(env, sink, child, &flow);
                }
                let held = self.hold(env, child, &flow, Origin::Own { counted }, packet);
                if let (Err(reason), true) = (held, counted) {
                    self.count(reason);
                }
            }
            Some((_, (Action::Protect(Some(_)), _))) => self.originate(env, sink, packet),
            Some((_, (Action::Bypass | Action::Discard, _))) | None if me == 0 => {
                self.originate(env, sink, packet);
            }
            Some((_, (Action::Bypass | Action::Discard, _))) | None => {}
        }
    }

    pub(crate) fn send_own<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        packet: &[u8],
    ) -> Result<(), DropReason> {
        let layers =
            layers::parse_packet(packet, packet.len()).map_err(|_shape| DropReason::Malformed)?;
        let packet = packet.get(..layers.l3_end()).ok_or(DropReason::Malformed)?;
        let flow = Flow::of(&layers.ip, packet);
        match outbound_policy(env, &flow)? {
            Some((Action::Protect(Some(handle)), _)) => {
                if self.is_looped(&layers, packet, handle) {
                    return Err(DropReason::NestLimit);
                }
                match self.protect_here(env, sink, packet, handle) {
                    Err(DropReason::TooBig) => self.own_too_big(env, sink, &layers, packet, handle),
                    other => other,
                }
            }
            Some((Action::Protect(None), child)) => {
                self.acquire(env, sink, child, &flow);
                Err(DropReason::NoSa)
            }
            Some((Action::Discard, _)) => Err(DropReason::Discarded),
            Some((Action::Bypass, _)) | None => {
                self.route_own(env, sink, packet, &layers.ip.addresses)
            }
        }
    }

    /// Whether this is what the SA itself has sealed: the kernel's route to the peer leads
    /// into the TUN device. Sealed again it would come back again, longer each time.
    fn is_looped(&self, layers: &Layers, packet: &[u8], handle: SaHandle) -> bool {
        let slot = handle.slot as usize;
        let between = |entry: &Outbound<A, L>| *entry.sa.addresses() == layers.ip.addresses;
        is_esp(&Brief::from(layers), packet) && self.outbound.at(slot).is_some_and(between)
    }

    /// The gateway's own packet does not fit its tunnel: cut if it may be, else the kernel is
    /// told the size that fits, as a router on the way would tell it.
    ///
    /// ESP is never cut: a loop over several SAs would make more packets each time round.
    fn own_too_big<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        layers: &Layers,
        packet: &[u8],
        handle: SaHandle,
    ) -> Result<(), DropReason> {
        if is_esp(&Brief::from(layers), packet) {
            return Err(DropReason::TooBig);
        }
        let slot = handle.slot as usize;
        let way = self.way(env, slot)?;
        if !may_fragment(packet) {
            let problem = Problem::TooBig { mtu: self.max_inner(slot, &way) };
            self.with_error(env, self.inner_port(0), packet, problem, |engine, error| {
                engine.tell_kernel(sink, error);
            });
            return Err(DropReason::TooBig);
        }
        // Counts what becomes of each fragment.
        self.seal_fragments(env, sink, packet, slot, &way);
        Ok(())
    }

    /// Gives the kernel an error about a packet that it has sent.
    fn tell_kernel<K: Sink<Frame = F>>(&mut self, sink: &mut K, error: &[u8]) {
        self.totals.originated = self.totals.originated.wrapping_add(1);
        let Some(mut out) = sink.take_for(error.len()) else {
            return self.count(DropReason::NoFrame);
        };
        let room = K::room_mut(&mut out).get_mut(L2_ROOM..).unwrap_or_default();
        match room.get_mut(..error.len()) {
            Some(place) => place.copy_from_slice(error),
            None => return self.drop(sink, out, DropReason::NoFrame),
        }
        self.punt(sink, out, L2_ROOM, error.len());
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
            return Err(*reason);
        }
        let mut out = sink.take_for(packet.len()).ok_or(DropReason::NoFrame)?;
        let room = K::room_mut(&mut out).get_mut(L2_ROOM..).unwrap_or_default();
        let Some(place) = room.get_mut(..packet.len()) else {
            sink.recycle(out);
            return Err(DropReason::TooBig);
        };
        place.copy_from_slice(packet);
        match hop {
            NextHop::Port { port, mtu, header } if packet.len() <= usize::from(*mtu) => {
                self.send_opened(sink, out, packet.len(), *port, header);
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

/// The flow of an answer.
const fn reversed(flow: &Flow) -> Flow {
    let addresses = match flow.addresses {
        Addresses::V4 { source, destination } => {
            Addresses::V4 { source: destination, destination: source }
        }
        Addresses::V6 { source, destination } => {
            Addresses::V6 { source: destination, destination: source }
        }
    };
    let ports = match flow.ports {
        Some((source, destination)) => Some((destination, source)),
        None => None,
    };
    Flow { addresses, ports, ..*flow }
}
