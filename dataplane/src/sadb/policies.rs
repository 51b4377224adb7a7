//! Policies are swapped in when the SAs that they name have arrived.

use super::*;

impl Sadb {
    /// Whether an edition has been rung for and is not in use, within reason.
    pub(super) fn policies_are_due(&self) -> bool {
        match &self.awaited {
            Some(awaited) => !awaited.is_overdue(),
            None => self.doorbell.policies_are_due(),
        }
    }

    /// Whether every outbound SA that the awaited edition names is with its worker: an edition
    /// that was in use before would send packets to a slot that is still empty.
    pub(super) fn named_are_applied(&mut self) -> bool {
        let Some(mut awaited) = self.awaited.take() else { return false };
        let ready = awaited.is_ready(&self.maps, |slot| self.progress(slot));
        self.awaited = Some(awaited);
        ready
    }

    fn progress(&self, slot: u32) -> Progress {
        let under_way = match self.outbound.get(slot as usize) {
            Some(Slot::Held { generation, .. }) => !self.maps.outbound_applied(slot, *generation),
            // Not there, so there is nothing to wait for but room.
            Some(Slot::Empty | Slot::Draining) | None => {
                self.later.contains(&(Table::Outbound, slot))
            }
        };
        if under_way { Progress::UnderWay } else { Progress::Done }
    }

    pub(super) fn apply_policies(&mut self) {
        let since = self.awaited.as_ref().map(|awaited| awaited.since);
        let read = self.awaited.take().and_then(|awaited| awaited.into_rows(&self.maps));
        let Some((generation, rows)) = read else {
            // Torn: it is read again with the next poll.
            self.awaited = since.map(Awaited::again);
            return;
        };
        if self.policies_generation == Some(generation) {
            return;
        }
        let rows = rows.iter().map(|row| edition::policy(row, |slot| self.owner(slot))).collect();
        let spd = self.spd.load().next_edition(rows);
        self.spd.store(Arc::new(spd));
        self.policies_generation = Some(generation);
        self.maps.acknowledge_policies(generation);
    }
}
