//! Negotiated Child SAs over a restart of the daemon: what is remembered of them, and what of
//! that is believed.

use super::child_sas::{ChildSa, ChildSas};
use super::persistence::{ChildRecord, Selector};
use crate::prefixes::Prefixes;
use xswan_config::TrafficSelector;
use xswan_ikev2::ChildId;
use xswan_sa_api::{Read, SharedMaps};

impl ChildSas {
    /// All of them, for [`ChildSas::adopt`] after a restart.
    #[must_use]
    pub fn records(&self) -> Vec<ChildRecord> {
        let mut all: Vec<&ChildSa> = self.children.values().collect();
        all.sort_by_key(|sa| sa.sequence);
        let record = |sa: &ChildSa| {
            let group = self.groups.get(&sa.group)?;
            let selectors = |list: &[TrafficSelector]| list.iter().map(Selector::from).collect();
            Some(ChildRecord {
                child: sa.id.0,
                group: sa.group,
                connection: group.connection.clone(),
                name: group.name.clone(),
                spi_in: sa.spi_in,
                spi_out: sa.spi_out,
                slot_out: sa.slot_out,
                outbound: sa.outbound,
                local_ts: selectors(&group.local_ts),
                remote_ts: selectors(&group.remote_ts),
            })
        };
        all.into_iter().filter_map(record).collect()
    }

    /// Takes a Child SA of an earlier life, which must be in the maps as it is remembered.
    ///
    /// # Errors
    /// One line that says what is different.
    pub fn adopt(
        &mut self,
        maps: &SharedMaps,
        prefixes: &mut Prefixes,
        record: &ChildRecord,
    ) -> Result<(), String> {
        let (worker, slot_in) =
            self.slots.place_of(record.spi_in).ok_or("its SPI was not drawn here")?;
        let Read::Present { config: inbound, .. } = maps.read_inbound(slot_in) else {
            return Err("its inbound SA is gone".to_owned());
        };
        let Read::Present { config: outbound, .. } = maps.read_outbound(record.slot_out) else {
            return Err("its outbound SA is gone".to_owned());
        };
        let numbers = (inbound.spi, inbound.child, outbound.spi, outbound.child);
        if numbers != (record.spi_in, record.group, record.spi_out, record.group) {
            return Err("its slots hold other SAs".to_owned());
        }
        let child = self.configured(&record.connection, &record.name);
        let child = child.ok_or("the child is not configured any more")?.clone();
        if self.config_numbers.contains(&record.group) {
            return Err("its number is a configured child's".to_owned());
        }
        if !self.groups.contains_key(&record.group) {
            let selectors = |list: &[Selector]| list.iter().map(TrafficSelector::from).collect();
            let ts = (selectors(&record.local_ts), selectors(&record.remote_ts));
            let names = (record.connection.as_str(), record.name.as_str());
            self.add_group(prefixes, record.group, names, ts, &child, worker);
        }
        self.next_group = self.next_group.max(record.group.saturating_add(1));
        self.sequence += 1;
        self.add(ChildSa {
            id: ChildId(record.child),
            group: record.group,
            spi_in: record.spi_in,
            spi_out: record.spi_out,
            slot_in,
            slot_out: record.slot_out,
            outbound: record.outbound,
            local: inbound.local,
            sequence: self.sequence,
        });
        Ok(())
    }
}
