//! Everything of ours in the shared maps: static SAs, negotiated ones, the policies and the
//! steering of both.
//!
//! A start, a restart and a reload compare all of it ([`Tables::apply`]). A handshake does not:
//! it publishes its SAs at once ([`Tables::install`]), and policies and steering follow once for
//! many of them ([`Tables::flush`]).

use crate::ike::awaited::Await;
use crate::ike::child_sas::ChildSas;
use crate::ike::persistence::ChildRecord;
use crate::install::{Beside, Installed, Report, reconcile_beside};
use crate::prefixes::Prefixes;
use crate::steering::{self, Steering};
use crate::wanted::Wanted;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use xswan_config::Config;
use xswan_ikev2::ChildId;
use xswan_ikev2::action::ChildInstall;
use xswan_sa_api::{DoorbellSender, PolicyRow, Ring, SharedMaps, SteerPrefix};
use xswan_steer::abi::PrefixValue;

/// The maps and what ought to be in them.
#[derive(Debug)]
pub struct Tables {
    /// The maps.
    pub maps: SharedMaps,
    /// What the configuration asks for.
    pub wanted: Wanted,
    /// Slots of static SAs.
    pub installed: Installed,
    /// What [`Tables::apply`] did last.
    pub report: Report,
    /// Negotiated SAs.
    pub child_sas: ChildSas,
    doorbell: DoorbellSender,
    prefixes: Prefixes,
    outers: BTreeSet<IpAddr>,
}

/// The numbers of configured children by their names.
fn config_ids(wanted: &Wanted) -> impl Iterator<Item = ((String, String), u32)> {
    let children = wanted.children.iter();
    children.map(|child| ((child.connection.clone(), child.name.clone()), child.id))
}

/// All rows in the order in which they apply: of each configured child those of its negotiated
/// SAs, the newest first, and then its own, which are traps if it is negotiated.
fn all_rows(wanted: &Wanted, child_sas: &ChildSas, placed: &HashMap<u32, u32>) -> Vec<PolicyRow> {
    let own = wanted.rows(placed);
    let mut own = own.into_iter().peekable();
    let mut rows = Vec::with_capacity(wanted.policies.len() + child_sas.rows().group_count());
    for child in &wanted.children {
        child_sas.rows().append(child.id, &mut rows);
        while let Some(row) = own.next_if(|row| row.child == child.id) {
            rows.push(row);
        }
    }
    let known: HashSet<u32> = wanted.children.iter().map(|child| child.id).collect();
    child_sas.rows().append_orphans(&known, &mut rows);
    rows
}

impl Tables {
    /// Nothing is written before [`Tables::apply`].
    ///
    /// # Errors
    /// The maps have no doorbell.
    pub fn new(maps: SharedMaps, config: Arc<Config>, wanted: Wanted) -> Result<Self, String> {
        let doorbell = maps.doorbell_sender().ok_or("no doorbell")?;
        let mut child_sas = ChildSas::new(&maps, Arc::clone(&config));
        child_sas.configure(config, config_ids(&wanted));
        let mut prefixes = Prefixes::default();
        wanted.contributions.iter().for_each(|one| prefixes.add(*one));
        let (installed, report) = (Installed::default(), Report::default());
        let outers = BTreeSet::new();
        Ok(Self { maps, wanted, installed, report, child_sas, doorbell, prefixes, outers })
    }

    /// Takes another configuration, still without writing anything. Returns the old one.
    pub fn configure(&mut self, config: Arc<Config>, wanted: Wanted) -> Wanted {
        self.child_sas.configure(config, config_ids(&wanted));
        let old = std::mem::replace(&mut self.wanted, wanted);
        self.wanted.contributions.iter().for_each(|one| self.prefixes.add(*one));
        old.contributions.iter().for_each(|one| self.prefixes.remove(*one));
        old
    }

    /// Has the dataplane look at every record once more: an earlier daemon may have ended between
    /// publishing one and ringing for it, and nobody would ever ring again.
    pub fn ring_for_everything(&self) {
        self.doorbell.ring(Ring::Everything);
    }

    fn all_outers(&self) -> BTreeSet<IpAddr> {
        self.wanted.outers.iter().copied().chain(self.child_sas.outers()).collect()
    }

    /// Makes the maps what they ought to be, whatever is in them.
    ///
    /// # Errors
    /// One line; what was written until then stays, and the next call goes on from there.
    pub fn apply(&mut self) -> Result<(), String> {
        let kernel = |error: std::io::Error| format!("steering maps: {error}");
        let outers = self.all_outers();
        let steering = Steering {
            outers: outers.clone(),
            spis: &self.wanted.spis,
            prefixes: self.prefixes.values(),
        };
        let (inbound, outbound) = self.child_sas.own_slots();
        let rows = |placed: &HashMap<u32, u32>| all_rows(&self.wanted, &self.child_sas, placed);
        let beside = Beside { inbound, outbound, rows: &rows };
        let steer = self.maps.steering();
        let remove = || steer.map_or(Ok(()), |maps| steering::remove_unwanted(maps, &steering));
        let (installed, report) =
            reconcile_beside(&self.maps, &self.doorbell, &self.wanted, &beside, || {
                remove().map_err(kernel)
            })?;
        if let Some(maps) = steer {
            let geometry = self.maps.geometry();
            let key = self.maps.spi_key();
            steering::add_wanted(maps, &steering, geometry.workers, geometry.member, key)
                .map_err(kernel)?;
        }
        self.prefixes.take_changed();
        (self.installed, self.report, self.outers) = (installed, report, outers);
        self.child_sas.retire(&self.maps, &self.doorbell);
        self.child_sas.settled();
        let slots =
            (self.installed.inbound.values().copied(), self.installed.outbound.values().copied());
        self.child_sas.scan(&self.maps, &self.wanted.spis, slots);
        Ok(())
    }

    /// Publishes a Child SA; see [`ChildSas::install`].
    ///
    /// # Errors
    /// One line; then nothing is installed.
    pub fn install(&mut self, install: &ChildInstall) -> Result<Vec<Await>, String> {
        self.add_outer(install.local.ip());
        self.child_sas.install(&self.maps, &self.doorbell, &mut self.prefixes, install)
    }

    /// Moves a Child SA to other outer addresses.
    pub fn relocate(&mut self, child: ChildId, addresses: (SocketAddr, SocketAddr), encap: bool) {
        // Before the records: packets may come to the new address at once.
        self.add_outer(addresses.0.ip());
        self.child_sas.relocate(&self.maps, &self.doorbell, child, addresses, encap);
    }

    /// Takes a Child SA away, with the next [`Tables::flush`]; see [`ChildSas::remove`].
    pub fn remove(&mut self, child: ChildId, at_once: bool) {
        self.child_sas.remove(&mut self.prefixes, child, at_once);
    }

    /// Ends what still receives after its time; to be called now and then.
    pub fn tick(&mut self) {
        self.child_sas.end_lingering(&self.maps, &self.doorbell);
    }

    /// Takes a Child SA of an earlier life; see [`ChildSas::adopt`]. Before [`Tables::apply`].
    ///
    /// # Errors
    /// One line; then it is not ours, and the next [`Tables::apply`] takes it away.
    pub fn adopt(&mut self, record: &ChildRecord) -> Result<(), String> {
        self.child_sas.adopt(&self.maps, &mut self.prefixes, record)
    }

    fn add_outer(&mut self, address: IpAddr) {
        if self.outers.contains(&address) {
            return;
        }
        let added = self.maps.steering().map_or(Ok(()), |maps| maps.add_outer(address));
        match added {
            Ok(()) => drop(self.outers.insert(address)),
            Err(error) => tracing::error!(%address, %error, "ESP to this address is not steered"),
        }
    }

    /// Writes policies and steering if they have changed: policies, what is retired, prefixes.
    /// Returns the edition of the policies that the dataplane has to take in.
    pub fn flush(&mut self) -> Option<u64> {
        if !self.child_sas.is_changed() {
            return None;
        }
        let rows = all_rows(&self.wanted, &self.child_sas, &self.installed.outbound);
        if let Err(error) = self.maps.publish_policies(&rows) {
            let count = rows.len();
            tracing::error!(count, %error, "policies not written; raise dataplane.policies");
        }
        self.doorbell.ring(Ring::Policies);
        self.child_sas.retire(&self.maps, &self.doorbell);
        self.child_sas.settled();
        self.flush_prefixes();
        self.flush_outers();
        Some(self.maps.policies_generation())
    }

    fn flush_prefixes(&mut self) {
        let changed = self.prefixes.take_changed();
        let Some(maps) = self.maps.steering() else { return };
        for prefix in changed {
            let done = match self.prefixes.values().get(&prefix) {
                Some(value) => maps.set_prefix(prefix, *value),
                None => maps.remove_prefix(prefix).map(drop),
            };
            if let Err(error) = done {
                let (address, length) = (prefix.address, prefix.length);
                tracing::error!(%address, length, %error, "a prefix is not steered");
            }
        }
    }

    fn flush_outers(&mut self) {
        let wanted = self.all_outers();
        let gone: Vec<IpAddr> = self.outers.difference(&wanted).copied().collect();
        for address in gone {
            let removed = self.maps.steering().map_or(Ok(true), |maps| maps.remove_outer(address));
            if let Err(error) = removed {
                tracing::warn!(%address, %error, "an outer address is still steered");
            }
            self.outers.remove(&address);
        }
    }

    /// What the steering prefixes ought to be.
    #[must_use]
    pub fn prefixes(&self) -> &BTreeMap<SteerPrefix, PrefixValue> {
        self.prefixes.values()
    }

    /// How many rows of policies there are, for how often they are written.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.wanted.policies.len() + self.child_sas.rows().group_count()
    }
}
