//! SAs and policies in the shared maps made equal to what is wanted.
//!
//! An SA is known by its SPI and key. One that is there already keeps its slot, its lease
//! and its replay window, whatever else about it changes; one that is as wanted is not
//! written to at all. Where an SA must give way to another that could be mistaken for it
//! (same SPI, or another worker), the new one waits until the worker has let go of the old:
//! [`Report::waiting`] says so, and the same call is made again later.

use crate::replay_arena::ReplayArena;
use crate::wanted::Wanted;
use std::collections::{HashMap, HashSet};
use xswan_sa_api::{
    DoorbellSender, InboundConfig, Key, OutboundConfig, PolicyRow, PublishError, Read, Ring,
    SharedMaps, SlotState, clock_ms,
};

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// SAs that were as wanted.
    pub untouched: u32,
    /// SAs whose parameters changed in place.
    pub updated: u32,
    /// SAs that are new.
    pub installed: u32,
    /// SAs that were taken away.
    pub retired: u32,
    /// SAs that cannot be installed yet.
    pub waiting: u32,
}

/// Where the SAs are: child → slot.
#[derive(Clone, Debug, Default)]
pub struct Installed {
    /// Slots in `sa_in`.
    pub inbound: HashMap<u32, u32>,
    /// Slots in `sa_out`.
    pub outbound: HashMap<u32, u32>,
}

/// What is in the maps beside the static SAs.
pub struct Beside<'a> {
    /// Slots of `sa_in` that are left alone.
    pub inbound: HashSet<u32>,
    /// Slots of `sa_out` that are left alone.
    pub outbound: HashSet<u32>,
    /// All policies in order, given the slots of static outbound SAs by child.
    pub rows: &'a dyn Fn(&HashMap<u32, u32>) -> Vec<PolicyRow>,
}

/// What the two tables have in common.
trait Table {
    /// An SA of this direction.
    type Sa: Clone;

    fn state(&self, slot: u32) -> Option<SlotState>;
    fn read(&self, slot: u32) -> Read<Self::Sa>;
    fn publish(&self, slot: u32, sa: &Self::Sa) -> Result<u64, PublishError>;
    fn retire(&self, slot: u32);
    fn remembers(&self, slot: u32, sa: &Self::Sa) -> bool;
    fn remembers_any(&self, slot: u32) -> bool;
    /// Child, SPI, key, worker.
    fn about(sa: &Self::Sa) -> (u32, u32, &Key, u16);
    /// The SA as it would be if it went on where `old` is: the fields that are not the
    /// configuration's taken over. `None` if it cannot.
    fn continued(new: &Self::Sa, old: &Self::Sa) -> Option<Self::Sa>;
    fn equal(one: &Self::Sa, other: &Self::Sa) -> bool;
    /// A new SA made complete for a slot; `None` if there is no room.
    fn complete(&self, slot: u32, sa: &Self::Sa) -> Option<Self::Sa>;
}

struct Inbound<'a> {
    maps: &'a SharedMaps,
    doorbell: &'a DoorbellSender,
}

struct Outbound<'a> {
    maps: &'a SharedMaps,
    doorbell: &'a DoorbellSender,
}

impl Inbound<'_> {
    /// A replay range for a slot, if need be at the cost of what free slots remember.
    fn replay_range(&self, slot: u32, len: u32) -> Option<u32> {
        let slots = self.maps.geometry().sa_slots;
        let free_range = || {
            let ranges = (0..slots).filter_map(|slot| self.maps.replay_range(slot));
            ReplayArena::new(self.maps.geometry().replay_words, ranges).take(len)
        };
        free_range().or_else(|| {
            (0..slots)
                .filter(|other| *other != slot)
                .find_map(|other| self.maps.forget_inbound(other).then(free_range).flatten())
        })
    }
}

impl Table for Inbound<'_> {
    type Sa = InboundConfig;

    fn state(&self, slot: u32) -> Option<SlotState> {
        self.maps.inbound_state(slot)
    }

    fn read(&self, slot: u32) -> Read<InboundConfig> {
        self.maps.read_inbound(slot)
    }

    fn publish(&self, slot: u32, sa: &InboundConfig) -> Result<u64, PublishError> {
        let generation = self.maps.publish_inbound(slot, sa)?;
        self.doorbell.ring(Ring::Inbound(slot));
        Ok(generation)
    }

    fn retire(&self, slot: u32) {
        self.maps.retire_inbound(slot);
        self.doorbell.ring(Ring::Inbound(slot));
    }

    fn remembers(&self, slot: u32, sa: &InboundConfig) -> bool {
        self.maps.inbound_remembers(slot, sa.spi, &sa.key)
    }

    fn remembers_any(&self, slot: u32) -> bool {
        self.maps.inbound_remembers_any(slot)
    }

    fn about(sa: &InboundConfig) -> (u32, u32, &Key, u16) {
        (sa.child, sa.spi, &sa.key, sa.worker)
    }

    fn continued(new: &InboundConfig, old: &InboundConfig) -> Option<InboundConfig> {
        let mut sa = new.clone();
        sa.replay_offset = old.replay_offset;
        sa.lifetimes.installed_ms = old.lifetimes.installed_ms;
        // The window's ring has the size that it has; the replay state cannot be re-shaped
        // under the worker, nor the meaning of its numbers.
        let same_shape = new.replay_window == old.replay_window
            && new.replay_len == old.replay_len
            && new.flags.esn == old.flags.esn;
        same_shape.then_some(sa)
    }

    fn equal(one: &InboundConfig, other: &InboundConfig) -> bool {
        one == other
    }

    fn complete(&self, slot: u32, sa: &InboundConfig) -> Option<InboundConfig> {
        let mut sa = sa.clone();
        let kept = self.maps.replay_range(slot).filter(|(_, len)| *len == sa.replay_len);
        sa.replay_offset = match kept {
            Some((offset, _)) => offset,
            None => self.replay_range(slot, sa.replay_len)?,
        };
        sa.lifetimes.installed_ms = clock_ms();
        Some(sa)
    }
}

impl Table for Outbound<'_> {
    type Sa = OutboundConfig;

    fn state(&self, slot: u32) -> Option<SlotState> {
        self.maps.outbound_state(slot)
    }

    fn read(&self, slot: u32) -> Read<OutboundConfig> {
        self.maps.read_outbound(slot)
    }

    fn publish(&self, slot: u32, sa: &OutboundConfig) -> Result<u64, PublishError> {
        let generation = self.maps.publish_outbound(slot, sa)?;
        self.doorbell.ring(Ring::Outbound(slot));
        Ok(generation)
    }

    fn retire(&self, slot: u32) {
        self.maps.retire_outbound(slot);
        self.doorbell.ring(Ring::Outbound(slot));
    }

    fn remembers(&self, slot: u32, sa: &OutboundConfig) -> bool {
        self.maps.outbound_remembers(slot, sa.spi, &sa.key)
    }

    fn remembers_any(&self, slot: u32) -> bool {
        self.maps.outbound_remembers_any(slot)
    }

    fn about(sa: &OutboundConfig) -> (u32, u32, &Key, u16) {
        (sa.child, sa.spi, &sa.key, sa.worker)
    }

    fn continued(new: &OutboundConfig, old: &OutboundConfig) -> Option<OutboundConfig> {
        let mut sa = new.clone();
        sa.lifetimes.installed_ms = old.lifetimes.installed_ms;
        sa.iv_base = old.iv_base;
        (new.esn == old.esn).then_some(sa)
    }

    fn equal(one: &OutboundConfig, other: &OutboundConfig) -> bool {
        one == other
    }

    fn complete(&self, _slot: u32, sa: &OutboundConfig) -> Option<OutboundConfig> {
        let mut sa = sa.clone();
        sa.iv_base = iv_base();
        sa.lifetimes.installed_ms = clock_ms();
        Some(sa)
    }
}

/// Where the IVs of a static key start: after all that were used before the maps were lost.
///
/// A static key outlives the maps (a reboot empties them), and its sequence numbers then
/// start again at 1; with IVs equal to them every nonce would be used twice. The seconds of
/// the wall clock in the upper half leave 2^32 packets for each second that has passed, more
/// than any link carries. A clock that is set back to before the SA was last installed
/// would undo this.
fn iv_base() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs()) << 32
}

/// One table on its way to what is wanted.
struct Reconciliation<'a, T: Table> {
    table: &'a T,
    slots: u32,
    /// Slots of others.
    foreign: &'a HashSet<u32>,
    /// Wanted SAs that have no slot yet.
    missing: Vec<T::Sa>,
    /// Slots to be retired at the end.
    unwanted: Vec<u32>,
    /// Child → slot.
    placed: HashMap<u32, u32>,
}

impl<'a, T: Table> Reconciliation<'a, T> {
    /// Finds what is there and goes on, and changes it in place where it differs.
    fn keep(
        table: &'a T,
        slots: u32,
        foreign: &'a HashSet<u32>,
        wanted: Vec<T::Sa>,
        report: &mut Report,
    ) -> Self {
        // Peers choose their SPIs: two outbound SAs may have the same one.
        let mut missing: HashMap<u32, Vec<T::Sa>> = HashMap::new();
        for sa in wanted {
            missing.entry(T::about(&sa).1).or_default().push(sa);
        }
        let mut unwanted = Vec::new();
        let mut placed = HashMap::new();
        for slot in (0..slots).filter(|slot| !foreign.contains(slot)) {
            let old = match table.read(slot) {
                Read::Empty { .. } => continue,
                Read::Torn | Read::Invalid { .. } => {
                    unwanted.push(slot);
                    continue;
                }
                Read::Present { config, .. } => config,
            };
            let (_, spi, old_key, old_worker) = T::about(&old);
            let candidates = missing.entry(spi).or_default();
            let goes_on = candidates.iter().enumerate().find_map(|(position, new)| {
                let (child, _, key, worker) = T::about(new);
                let same = key == old_key && worker == old_worker;
                let continued = if same { T::continued(new, &old) } else { None };
                continued.map(|sa| (position, child, sa))
            });
            let Some((position, child, sa)) = goes_on else {
                unwanted.push(slot);
                continue;
            };
            candidates.remove(position);
            placed.insert(child, slot);
            if T::equal(&sa, &old) {
                report.untouched += 1;
            } else if table.publish(slot, &sa).is_ok() {
                report.updated += 1;
            }
        }
        let missing = missing.into_values().flatten().collect();
        Self { table, slots, foreign, missing, unwanted, placed }
    }

    /// A free slot for a new SA: one that remembers it, or one that remembers nothing, or
    /// any. `None` while a slot that must be let go of first is not free.
    fn slot_for(&self, sa: &T::Sa) -> Option<u32> {
        let (mut blank, mut any) = (None, None);
        for slot in (0..self.slots).filter(|slot| !self.foreign.contains(slot)) {
            let free = self.table.state(slot) == Some(SlotState::Free);
            match (free, self.table.remembers(slot, sa)) {
                (true, true) => return Some(slot),
                (false, true) => return None,
                (true, false) if !self.table.remembers_any(slot) => {
                    blank = blank.or(Some(slot));
                }
                (true, false) => any = any.or(Some(slot)),
                (false, false) => {}
            }
        }
        blank.or(any)
    }

    /// Installs what is missing and can be; the rest waits.
    fn install(&mut self, busy_spis: &[u32], report: &mut Report) {
        for sa in std::mem::take(&mut self.missing) {
            let (child, spi, ..) = T::about(&sa);
            let slot = if busy_spis.contains(&spi) { None } else { self.slot_for(&sa) };
            let done = slot.and_then(|slot| {
                let sa = self.table.complete(slot, &sa)?;
                self.table.publish(slot, &sa).ok().map(|_| slot)
            });
            match done {
                Some(slot) => {
                    report.installed += 1;
                    self.placed.insert(child, slot);
                }
                None => report.waiting += 1,
            }
        }
    }

    /// SPIs of SAs that are still there or not yet let go of, and are not to stay.
    fn busy_spis(&self) -> Vec<u32> {
        let unwanted = self.unwanted.iter().filter_map(|slot| match self.table.read(*slot) {
            Read::Present { config, .. } => Some(T::about(&config).1),
            Read::Empty { .. } | Read::Torn | Read::Invalid { .. } => None,
        });
        unwanted.collect()
    }

    fn retire(&self, report: &mut Report) {
        for slot in &self.unwanted {
            self.table.retire(*slot);
            report.retired += 1;
        }
    }
}

/// Makes static SAs and the policies what is wanted; there is nothing beside them.
/// `before_removal` is called when everything new is in place and before anything is taken
/// away.
///
/// # Errors
/// More policies than the table holds, or what `before_removal` says.
pub fn reconcile(
    maps: &SharedMaps,
    doorbell: &DoorbellSender,
    wanted: &Wanted,
    before_removal: impl FnOnce() -> Result<(), String>,
) -> Result<(Installed, Report), String> {
    let (inbound, outbound) = (HashSet::new(), HashSet::new());
    let rows = |placed: &HashMap<u32, u32>| wanted.rows(placed);
    let beside = Beside { inbound, outbound, rows: &rows };
    reconcile_beside(maps, doorbell, wanted, &beside, before_removal)
}

/// Makes static SAs what is wanted and the policies those of `beside`, whose slots are not
/// touched.
///
/// # Errors
/// As [`reconcile`].
pub fn reconcile_beside(
    maps: &SharedMaps,
    doorbell: &DoorbellSender,
    wanted: &Wanted,
    beside: &Beside<'_>,
    before_removal: impl FnOnce() -> Result<(), String>,
) -> Result<(Installed, Report), String> {
    let mut report = Report::default();
    let slots = maps.geometry().sa_slots;
    let pairs = || wanted.children.iter().filter_map(|child| child.sas.clone());
    let tables = (Inbound { maps, doorbell }, Outbound { maps, doorbell });
    let wanted_in = pairs().map(|(inbound, _)| inbound).collect();
    let mut inbound =
        Reconciliation::keep(&tables.0, slots, &beside.inbound, wanted_in, &mut report);
    let wanted_out = pairs().map(|(_, outbound)| outbound).collect();
    let mut outbound =
        Reconciliation::keep(&tables.1, slots, &beside.outbound, wanted_out, &mut report);
    // Inbound first: the peer may send as soon as it hears from us.
    inbound.install(&draining_spis(maps, inbound.busy_spis()), &mut report);
    outbound.install(&[], &mut report);
    before_removal()?;
    publish_policies(maps, doorbell, (beside.rows)(&outbound.placed))?;
    outbound.retire(&mut report);
    inbound.retire(&mut report);
    Ok((Installed { inbound: inbound.placed, outbound: outbound.placed }, report))
}

/// Adds the SPIs of inbound SAs that are retired and not yet let go of.
fn draining_spis(maps: &SharedMaps, mut busy: Vec<u32>) -> Vec<u32> {
    let draining = (0..maps.geometry().sa_slots)
        .filter(|slot| maps.inbound_state(*slot) == Some(SlotState::Draining));
    busy.extend(draining.filter_map(|slot| maps.inbound_retired_spi(slot)));
    busy
}

/// Writes the policy table if it differs from what is there.
fn publish_policies(
    maps: &SharedMaps,
    doorbell: &DoorbellSender,
    rows: Vec<PolicyRow>,
) -> Result<(), String> {
    if maps.read_policies().is_ok_and(|(_, current)| current == rows) {
        return Ok(());
    }
    maps.publish_policies(&rows).map_err(|error| error.to_string())?;
    doorbell.ring(Ring::Policies);
    Ok(())
}
