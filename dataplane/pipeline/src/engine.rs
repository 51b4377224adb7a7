//! One worker's packet engine: its SAs, its counters, its scratch space.

use alloc::vec::Vec;

use xswan_esp::aead::Aead;
use xswan_esp::lifetime::Expiry;
use xswan_esp::sa::{InboundSa, OutboundSa};
use xswan_esp::sequence::LeaseStore;
use xswan_wire::brief::Brief;
use xswan_wire::layers::{self, Addresses};
use xswan_wire::{Bytes, DropReason, esp, udp};

use crate::flow_cache::{Editions, FlowCache};
use crate::forward::Fib;
use crate::held::Held;
use crate::inbound::{EspWork, OpenedWork};
use crate::limit::RateLimit;
use crate::outbound::ClearWork;
use crate::sink::{Event, Sink};
use crate::spd::Spd;
use crate::stage::{Stage, StageTotals};
use crate::table::{Slots, SpiReader, StaticSpis};
use crate::trap::AcquireLimit;

/// The largest burst that is processed at once.
///
/// Larger bursts share the cost of ring operations and hide cache misses better; smaller
/// ones keep the frames of a burst in the second-level cache.
pub const MAX_BURST: usize = 256;

/// The tables of one burst, swapped in between bursts.
#[derive(Clone, Copy, Debug)]
pub struct Env<'a> {
    /// Routes and neighbours.
    pub fib: &'a Fib,
    /// Policies.
    pub spd: &'a Spd,
    /// Milliseconds of a monotonic clock.
    pub now_ms: u64,
}

impl Env<'_> {
    #[inline(always)]
    pub(crate) fn editions(&self) -> Editions {
        Editions { fib: self.fib.edition(), spd: self.spd.edition() }
    }
}

/// An inbound SA with what the pipeline knows of it.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Inbound<A, S> {
    /// The child configuration whose selectors it may carry.
    pub child: u32,
    /// The SA.
    pub sa: InboundSa<A, S>,
}

/// An outbound SA with what the pipeline knows of it.
#[derive(Debug)]
#[repr(C)]
pub struct Outbound<A, L> {
    /// The way to the peer.
    pub hop: CachedHop,
    /// The child configuration it belongs to.
    pub child: u32,
    /// Path MTU in bytes that was learned or configured; [`u16::MAX`] for none.
    pub path_mtu: u16,
    /// The SA.
    pub sa: OutboundSa<A, L>,
    /// When the path MTU was learned, to be forgotten later; `None` if it is configured.
    pub learned_ms: Option<u64>,
}

/// Where the forwarding tables lead an SA's packets, looked up once for each edition of them.
#[derive(Clone, Copy, Debug)]
pub struct CachedHop {
    pub(crate) edition: u32,
    pub(crate) position: u32,
}

impl Default for CachedHop {
    /// Not looked up: of an edition that no table gets to.
    fn default() -> Self {
        Self { edition: u32::MAX, position: 0 }
    }
}

/// What an engine is made for.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// How SPIs are read; names this worker.
    pub spis: SpiReader,
    /// Slots in each table.
    pub slots: usize,
    /// Roles of each port ([`xswan_steer::abi::ROLE_OUTER`], [`xswan_steer::abi::ROLE_INNER`]).
    pub roles: Vec<u32>,
    /// ICMP errors a second at most.
    pub icmp_per_second: u32,
    /// ESP inside ESP to ourselves followed this deep; 0 refuses it.
    pub nest_limit: u8,
    /// IPv4 packets that may be fragmented are, before sealing.
    pub fragment: bool,
}

/// What was counted besides drops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineTotals {
    /// Packets given to [`Engine::process`].
    pub received: u64,
    /// Packets sent out of a port.
    pub forwarded: u64,
    /// Packets given to the kernel.
    pub punted: u64,
    /// Packets handed to another worker.
    pub handed_off: u64,
    /// Packets that were made here: ICMP errors, and fragments beyond the first.
    pub originated: u64,
    /// Packets sealed.
    pub sealed: u64,
    /// Packets opened, the integrity check passed.
    pub opened: u64,
    /// What each pass has cost, in the order of [`Stage::ALL`].
    pub stages: [StageTotals; Stage::COUNT],
}

/// One worker's packet engine.
pub struct Engine<A, S, L, F> {
    pub(crate) config: EngineConfig,
    /// Inbound SAs by slot.
    pub inbound: Slots<Inbound<A, S>>,
    /// Outbound SAs by slot.
    pub outbound: Slots<Outbound<A, L>>,
    /// Inbound SPIs that were given from outside.
    pub static_spis: StaticSpis,
    /// Drops by reason.
    pub drops: [u64; DropReason::COUNT],
    /// What else was counted.
    pub totals: EngineTotals,
    pub(crate) icmp_limit: RateLimit,
    pub(crate) acquire_limit: AcquireLimit,
    /// Packets that wait for an SA.
    pub(crate) held: Held,
    /// The SPI that was read last, and its slot; only within a burst.
    pub(crate) last_spi: Option<(u32, u32)>,
    /// A destination that is an address of ours, by an edition of the forwarding tables.
    last_local: (u32, Addresses),
    /// What the tables said of flows.
    pub(crate) flows: FlowCache,
    pub(crate) clear_work: Vec<ClearWork<F>>,
    pub(crate) esp_work: Vec<EspWork<F>>,
    pub(crate) opened_work: Vec<OpenedWork<F>>,
    /// For ICMP errors while they are made.
    pub(crate) scratch: Vec<u8>,
    /// For fragments before they are sealed.
    pub(crate) pieces: Vec<u8>,
}

/// What a received packet is to this gateway.
enum Kind {
    Esp,
    Clear,
}

impl<A, S, L, F> Engine<A, S, L, F>
where
    A: Aead,
    S: AsRef<[u64]> + AsMut<[u64]>,
    L: LeaseStore,
{
    /// An engine with empty tables; allocates everything it will ever need.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self {
            inbound: Slots::new(config.slots),
            outbound: Slots::new(config.slots),
            static_spis: StaticSpis::default(),
            drops: [0; DropReason::COUNT],
            totals: EngineTotals::default(),
            icmp_limit: RateLimit::new(config.icmp_per_second),
            acquire_limit: AcquireLimit::new(),
            held: Held::new(),
            last_spi: None,
            last_local: (0, Addresses::V4 { source: [0; 4], destination: [0; 4] }),
            flows: FlowCache::new(config.slots, flow_secret(&config.spis)),
            clear_work: Vec::with_capacity(MAX_BURST),
            esp_work: Vec::with_capacity(MAX_BURST),
            opened_work: Vec::with_capacity(MAX_BURST),
            scratch: alloc::vec![0; 2048],
            pieces: alloc::vec![0; 65_536],
            config,
        }
    }

    /// Takes a burst of frames, each with the port it came in on; one of more than
    /// [`MAX_BURST`] is several.
    ///
    /// Every frame leaves through `sink`; every packet is counted once, as forwarded, punted,
    /// handed off or dropped, if it is held when it is no longer.
    pub fn process<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        burst: impl Iterator<Item = (u16, F)>,
    ) {
        self.last_spi = None;
        let mut burst = burst;
        loop {
            let begun = K::ticks();
            let mut count = 0_usize;
            for (port, frame) in burst.by_ref().take(MAX_BURST) {
                count = count.wrapping_add(1);
                self.sort(env, sink, port, frame);
            }
            if count == 0 {
                return;
            }
            self.totals.received = self.totals.received.wrapping_add(count as u64);
            self.note_stage::<K>(Stage::Sort, begun, count);
            self.run(env, sink);
        }
    }

    /// Books the time since `begun` on a stage; returns the time now.
    #[inline(always)]
    fn note_stage<K: Sink<Frame = F>>(&mut self, stage: Stage, begun: u64, packets: usize) -> u64 {
        let now = K::ticks();
        if let Some(totals) = self.totals.stages.get_mut(stage as usize) {
            totals.add(now.wrapping_sub(begun), packets);
        }
        now
    }

    /// Before [`Engine::sort`]: a burst that is full is done first.
    #[inline(always)]
    pub(crate) fn make_room<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, sink: &mut K) {
        if self.esp_work.len().max(self.clear_work.len()) >= MAX_BURST {
            self.run(env, sink);
        }
    }

    /// Everything that was sorted, stage by stage.
    pub(crate) fn run<K: Sink<Frame = F>>(&mut self, env: &Env<'_>, sink: &mut K) {
        if !self.esp_work.is_empty() {
            let (mut begun, packets) = (K::ticks(), self.esp_work.len());
            self.open_all(env, sink);
            begun = self.note_stage::<K>(Stage::Open, begun, packets);
            let packets = self.opened_work.len();
            self.forward_all(env, sink);
            self.note_stage::<K>(Stage::Forward, begun, packets);
        }
        if !self.clear_work.is_empty() {
            let (mut begun, packets) = (K::ticks(), self.clear_work.len());
            self.ask_policies::<K>(env);
            begun = self.note_stage::<K>(Stage::Policy, begun, packets);
            self.plan_all(env, sink);
            self.note_stage::<K>(Stage::Protect, begun, packets);
        }
    }

    /// Parses a frame and puts it into the list of those that are opened or of those that are sealed.
    #[inline]
    pub(crate) fn sort<K: Sink<Frame = F>>(
        &mut self,
        env: &Env<'_>,
        sink: &mut K,
        port: u16,
        frame: F,
    ) {
        if K::is_multi_buffer(&frame) {
            return self.drop(sink, frame, DropReason::MultiBuffer);
        }
        let bytes = K::bytes(&frame);
        let brief = match Brief::of_frame(bytes) {
            Ok(brief) => brief,
            Err(reason) => return self.drop(sink, frame, reason),
        };
        match self.kind(env, port, &brief, bytes) {
            Kind::Esp => self.note_esp(sink, port, frame, &brief),
            Kind::Clear => self.note_clear(sink, port, frame, brief),
        }
    }

    /// ESP to one of our addresses, or a clear packet.
    ///
    /// Steering has made this decision before; it is made again because a worker must not
    /// depend on what another program let through.
    #[inline]
    fn kind(&mut self, env: &Env<'_>, port: u16, brief: &Brief, bytes: &[u8]) -> Kind {
        let outer = self.role(port) & xswan_steer::abi::ROLE_OUTER != 0;
        if outer && is_esp(brief, bytes) && self.is_for_us(env, brief, bytes) {
            Kind::Esp
        } else {
            Kind::Clear
        }
    }

    /// Whether the destination is one of the gateway's own addresses; as a rule it is the one
    /// that the packet before had.
    #[inline(always)]
    fn is_for_us(&mut self, env: &Env<'_>, brief: &Brief, bytes: &[u8]) -> bool {
        let Some(addresses) = brief.addresses(bytes) else { return false };
        let (edition, last) = &self.last_local;
        if *edition == env.fib.edition() && last.same_destination(&addresses) {
            return true;
        }
        let is_local = is_local(env.fib, &addresses);
        if is_local {
            self.last_local = (env.fib.edition(), addresses);
        }
        is_local
    }

    #[inline]
    pub(crate) fn role(&self, port: u16) -> u32 {
        self.config.roles.get(usize::from(port)).copied().unwrap_or(0)
    }

    /// Counts a drop and gives the frame back.
    #[inline]
    pub(crate) fn drop<K: Sink<Frame = F>>(&mut self, sink: &mut K, frame: F, reason: DropReason) {
        self.count(reason);
        sink.recycle(frame);
    }

    /// Counts a drop of a packet whose frame is dealt with elsewhere.
    #[inline]
    pub(crate) fn count(&mut self, reason: DropReason) {
        if let Some(count) = self.drops.get_mut(reason.index()) {
            *count = count.wrapping_add(1);
        }
    }

    /// Looks at the clocks of the SAs in a slot: time passes without packets too.
    pub fn poll_lifetimes<K: Sink<Frame = F>>(&mut self, sink: &mut K, slot: usize, now_ms: u64) {
        let handle = u32::try_from(slot).unwrap_or(u32::MAX);
        if let Some(entry) = self.inbound.at_mut(slot) {
            match entry.sa.lifetime_mut().poll(now_ms) {
                Some(Expiry::Soft) => sink.event(Event::SoftExpiryIn { slot: handle }),
                Some(Expiry::Hard) => sink.event(Event::HardExpiryIn { slot: handle }),
                None => {}
            }
        }
        if let Some(entry) = self.outbound.at_mut(slot) {
            match entry.sa.lifetime_mut().poll(now_ms) {
                Some(Expiry::Soft) => sink.event(Event::SoftExpiryOut { slot: handle }),
                Some(Expiry::Hard) => sink.event(Event::HardExpiryOut { slot: handle }),
                None => {}
            }
        }
    }

    /// Packets received and originated that have not ended yet and are not held: 0 between
    /// bursts.
    #[must_use]
    pub fn residual(&self) -> i128 {
        let totals = &self.totals;
        let held = self.held.counted() as i128;
        let came = i128::from(totals.received) + i128::from(totals.originated);
        let went = i128::from(totals.forwarded)
            + i128::from(totals.punted)
            + i128::from(totals.handed_off)
            + self.drops.iter().map(|&count| i128::from(count)).sum::<i128>();
        came - went - held
    }
}

/// What places in the cache of flows depend on: nobody outside knows the key of our SPIs.
fn flow_secret(spis: &SpiReader) -> u64 {
    let fold = |sum: u64, word: &u32| (sum ^ u64::from(*word)).wrapping_mul(0x0000_0100_0000_01b3);
    spis.key.0.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}

/// Whether the destination is one of the gateway's own addresses.
#[inline]
pub(crate) fn is_local(fib: &Fib, addresses: &Addresses) -> bool {
    matches!(fib.lookup(addresses), crate::forward::NextHop::Local)
}

/// ESP, or ESP in UDP as far as the port tells.
#[inline(always)]
pub(crate) fn is_esp(brief: &Brief, frame: &[u8]) -> bool {
    let to_nat_t = || {
        let port = frame.read_u16(usize::from(brief.l4_offset).wrapping_add(2));
        !brief.is_fragment()
            && brief.total_len as usize >= brief.header_len().wrapping_add(4)
            && port == Some(udp::NAT_T_PORT)
    };
    brief.protocol == layers::ESP || (brief.protocol == layers::UDP && to_nat_t())
}

const _: () = assert!(esp::FIRST_SPI == 256);
