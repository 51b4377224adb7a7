//! Policy rows of negotiated Child SAs, ready to be written.
//!
//! The table of policies is written as a whole, again and again while peers come. So the rows
//! are kept in the order in which they are written, each with its outbound slot: writing copies
//! them and looks nothing up.

use std::collections::{BTreeMap, HashMap, HashSet};
use xswan_sa_api::PolicyRow;

/// Rows by configured child and group.
#[derive(Clone, Debug, Default)]
pub struct GroupRows {
    by_config: HashMap<u32, BTreeMap<u32, Vec<PolicyRow>>>,
    groups: usize,
}

impl GroupRows {
    /// Adds the rows of a new group.
    pub fn add(&mut self, config_id: u32, group: u32, rows: Vec<PolicyRow>) {
        if self.by_config.entry(config_id).or_default().insert(group, rows).is_none() {
            self.groups += 1;
        }
    }

    /// From now on the group sends through this slot; `None`: through none.
    pub fn set_slot(&mut self, config_id: u32, group: u32, slot: Option<u32>) {
        let groups = self.by_config.get_mut(&config_id);
        for row in groups.and_then(|groups| groups.get_mut(&group)).into_iter().flatten() {
            row.outbound_slot = slot;
        }
    }

    /// Takes a group's rows away.
    pub fn remove(&mut self, config_id: u32, group: u32) {
        let Some(groups) = self.by_config.get_mut(&config_id) else { return };
        if groups.remove(&group).is_some() {
            self.groups -= 1;
        }
        if groups.is_empty() {
            self.by_config.remove(&config_id);
        }
    }

    /// Whether a configured child has a group.
    #[must_use]
    pub fn has(&self, config_id: u32) -> bool {
        self.by_config.contains_key(&config_id)
    }

    /// How many groups there are; nearly all have one row.
    #[must_use]
    pub const fn group_count(&self) -> usize {
        self.groups
    }

    /// Appends the rows of one configured child's groups, the newest first.
    pub fn append(&self, config_id: u32, rows: &mut Vec<PolicyRow>) {
        for group in
            self.by_config.get(&config_id).into_iter().flat_map(|groups| groups.values().rev())
        {
            rows.extend_from_slice(group);
        }
    }

    /// Appends the rows of children that are not among the known ones, in the order of their
    /// groups.
    pub fn append_orphans(&self, known: &HashSet<u32>, rows: &mut Vec<PolicyRow>) {
        let orphans = self.by_config.iter().filter(|(config_id, _)| !known.contains(config_id));
        let ordered: BTreeMap<_, _> = orphans.flat_map(|(_, groups)| groups).collect();
        ordered.values().for_each(|group| rows.extend_from_slice(group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xswan_sa_api::{AddressRange, PolicyAction, PortRange};

    fn row(child: u32) -> PolicyRow {
        let addresses = AddressRange { ipv6: false, first: 0, last: u128::from(u32::MAX) };
        let ports = PortRange { first: 0, last: u16::MAX };
        PolicyRow {
            action: PolicyAction::Protect,
            child,
            local: addresses,
            remote: addresses,
            protocol: 0,
            local_ports: ports,
            remote_ports: ports,
            outbound_slot: None,
            icmp: false,
            hold: false,
        }
    }

    fn children(rows: &[PolicyRow]) -> Vec<(u32, Option<u32>)> {
        rows.iter().map(|row| (row.child, row.outbound_slot)).collect()
    }

    #[test]
    fn newest_first_and_orphans_in_order() {
        let mut all = GroupRows::default();
        all.add(100, 1, vec![row(1)]);
        all.add(200, 2, vec![row(2)]);
        all.add(100, 3, vec![row(3), row(3)]);
        all.add(300, 4, Vec::new());
        all.set_slot(100, 3, Some(7));
        all.set_slot(100, 9, Some(8));
        assert_eq!(all.group_count(), 4);

        let mut rows = Vec::new();
        all.append(100, &mut rows);
        assert_eq!(children(&rows), [(3, Some(7)), (3, Some(7)), (1, None)]);

        rows.clear();
        all.append_orphans(&HashSet::from([300]), &mut rows);
        assert_eq!(children(&rows), [(1, None), (2, None), (3, Some(7)), (3, Some(7))]);

        all.remove(100, 3);
        all.remove(100, 1);
        all.remove(100, 1);
        assert!(!all.has(100) && all.has(200));
        assert_eq!(all.group_count(), 2);
    }
}
