//! Negotiated Child SAs in the shared maps, beside the static ones.
//!
//! A pair of SAs is published into its slots at once. Policies and steering prefixes change
//! together, once for a batch of inputs ([`GroupRows`], [`ChildSas::retire`]), in the
//! order that the maps ask for: SAs, policies, then what goes, then prefixes.
//!
//! All Child SAs that take each other's place are a *group*: they have one number in the maps
//! and one set of policies, whose outbound slot is the current SA's. A rekeying therefore
//! changes one slot in the policies, and what arrives on either inbound SA is accepted.

use super::awaited::Await;
use super::convert_selector;
use super::group_rows::GroupRows;
use super::lingering::Lingering;
use super::sa_records::{encapsulation, records};
use super::slots::Slots;
use crate::child_policy;
use crate::prefixes::{Contribution, Prefixes};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use xswan_config::{Child, Config, TrafficSelector};
use xswan_ikev2::ChildId;
use xswan_ikev2::action::ChildInstall;
use xswan_sa_api::{
    DoorbellSender, InboundConfig, OutboundConfig, Read, Ring, SharedMaps, replay_words_for,
};

/// Groups are numbered from here; names hash to any number, so each is checked, too.
const FIRST_GROUP: u32 = 1;

/// One Child SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildSa {
    /// The core's number.
    pub id: ChildId,
    /// Number in the maps.
    pub group: u32,
    /// Our SPI.
    pub spi_in: u32,
    /// The peer's SPI.
    pub spi_out: u32,
    /// Slot in `sa_in`.
    pub slot_in: u32,
    /// Slot in `sa_out`.
    pub slot_out: u32,
    /// Whether the policies may name it.
    pub outbound: bool,
    /// Our outer address.
    pub local: IpAddr,
    /// Of whom it takes the place, in order.
    pub sequence: u64,
}

/// Child SAs that take each other's place.
#[derive(Clone, Debug)]
pub struct Group {
    /// Number of the configured child in the maps.
    pub config_id: u32,
    /// Connection.
    pub connection: String,
    /// Child in it.
    pub name: String,
    /// Traffic on our side.
    pub local_ts: Vec<TrafficSelector>,
    /// Traffic on the peer's side.
    pub remote_ts: Vec<TrafficSelector>,
    members: Vec<ChildId>,
    contributions: Vec<Contribution>,
}

/// Retired when the policies do not name them any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Retired {
    slot_in: u32,
    slot_out: u32,
    /// The inbound half goes now, too.
    at_once: bool,
}

/// All of them.
#[derive(Debug)]
pub struct ChildSas {
    config: Arc<Config>,
    /// Connection and child → number in the maps.
    config_ids: HashMap<(String, String), u32>,
    pub(super) config_numbers: HashSet<u32>,
    pub(super) slots: Slots,
    pub(super) children: HashMap<ChildId, ChildSa>,
    by_slot_in: HashMap<u32, ChildId>,
    by_slot_out: HashMap<u32, ChildId>,
    pub(super) groups: BTreeMap<u32, Group>,
    rows: GroupRows,
    outers: HashMap<IpAddr, u32>,
    retired: Vec<Retired>,
    lingering: Lingering,
    pub(super) next_group: u32,
    pub(super) sequence: u64,
    changed: bool,
    news: Vec<GroupNews>,
}

/// A group that has come or gone.
#[derive(Clone, Debug)]
pub enum GroupNews {
    /// It is there.
    Added(u32),
    /// It is not any more.
    Removed(u32),
}

impl ChildSas {
    /// None yet. [`ChildSas::configure`] has to follow.
    #[must_use]
    pub fn new(maps: &SharedMaps, config: Arc<Config>) -> Self {
        Self {
            config,
            config_ids: HashMap::new(),
            config_numbers: HashSet::new(),
            slots: Slots::new(maps),
            children: HashMap::new(),
            by_slot_in: HashMap::new(),
            by_slot_out: HashMap::new(),
            groups: BTreeMap::new(),
            rows: GroupRows::default(),
            outers: HashMap::new(),
            retired: Vec::new(),
            lingering: Lingering::default(),
            next_group: FIRST_GROUP,
            sequence: 0,
            changed: false,
            news: Vec::new(),
        }
    }

    /// The groups that have come and gone since this was asked last, in order.
    pub fn take_news(&mut self) -> Vec<GroupNews> {
        std::mem::take(&mut self.news)
    }

    /// Takes a configuration, with the numbers of its children.
    pub fn configure(
        &mut self,
        config: Arc<Config>,
        ids: impl IntoIterator<Item = ((String, String), u32)>,
    ) {
        self.config = config;
        self.config_ids = ids.into_iter().collect();
        self.config_numbers = self.config_ids.values().copied().collect();
    }

    /// Takes stock of the tables, after static SAs have changed; `statics` are their slots.
    pub fn scan(
        &mut self,
        maps: &SharedMaps,
        static_spis: &BTreeMap<u32, u32>,
        statics: (impl Iterator<Item = u32>, impl Iterator<Item = u32>),
    ) {
        let own = self.by_slot_in.keys().copied().chain(self.lingering.slots());
        let inbound = statics.0.chain(own).collect();
        let outbound = statics.1.chain(self.by_slot_out.keys().copied()).collect();
        self.slots.scan(maps, static_spis, (&inbound, &outbound));
    }

    /// The slots that are ours, of each table: in use, or kept for an SPI.
    #[must_use]
    pub fn own_slots(&self) -> (HashSet<u32>, HashSet<u32>) {
        let inbound = self.by_slot_in.keys().copied().chain(self.slots.reserved());
        let inbound = inbound.chain(self.lingering.slots());
        (inbound.collect(), self.by_slot_out.keys().copied().collect())
    }

    /// Draws an SPI for the core.
    pub fn reserve_spi(&mut self, maps: &SharedMaps) -> Option<u32> {
        self.slots.reserve(maps)
    }

    /// Keeps the slot of an SPI of an earlier life.
    pub fn reserve_again(&mut self, spi: u32) {
        self.slots.reserve_again(spi);
    }

    /// Takes an SPI back.
    pub fn release_spi(&mut self, spi: u32) {
        self.slots.release(spi);
    }

    pub(super) fn configured(&self, connection: &str, name: &str) -> Option<&Child> {
        let connection = self.config.connections.iter().find(|one| one.name == connection)?;
        connection.children.iter().find(|child| child.name == name)
    }

    fn new_group(&mut self) -> u32 {
        while self.config_numbers.contains(&self.next_group)
            || self.groups.contains_key(&self.next_group)
        {
            self.next_group = self.next_group.wrapping_add(1).max(FIRST_GROUP);
        }
        let group = self.next_group;
        self.next_group = group.wrapping_add(1).max(FIRST_GROUP);
        group
    }

    /// Publishes a new Child SA. What is returned must be in use before the peer is told.
    ///
    /// # Errors
    /// One line; then nothing is installed and the SPI is free again.
    pub fn install(
        &mut self,
        maps: &SharedMaps,
        doorbell: &DoorbellSender,
        prefixes: &mut Prefixes,
        install: &ChildInstall,
    ) -> Result<Vec<Await>, String> {
        let done = self.install_records(maps, doorbell, prefixes, install);
        if done.is_err() {
            self.slots.release(install.spi_in);
        }
        done
    }

    fn install_records(
        &mut self,
        maps: &SharedMaps,
        doorbell: &DoorbellSender,
        prefixes: &mut Prefixes,
        install: &ChildInstall,
    ) -> Result<Vec<Await>, String> {
        let (worker, slot_in) =
            self.slots.place_of(install.spi_in).ok_or("an SPI that was not drawn here")?;
        let child = self.configured(&install.connection, &install.name);
        let child = child.ok_or("the child is not configured any more")?.clone();
        let selectors = |list: &[_]| list.iter().map(convert_selector).collect::<Vec<_>>();
        let (local_ts, remote_ts) = (selectors(&install.local_ts), selectors(&install.remote_ts));
        let old = install.replaces.and_then(|old| self.children.get(&old)).map(|old| old.group);
        let same = |group: &u32| {
            let group = self.groups.get(group);
            group
                .is_some_and(|group| (&group.local_ts, &group.remote_ts) == (&local_ts, &remote_ts))
        };
        let continued = old.filter(same);
        let number = continued.unwrap_or_else(|| self.new_group());
        let (mut inbound, outbound) = records(install, &child, number, worker)?;
        let len = replay_words_for(inbound.replay_window);
        let range = self.slots.replay_range(maps, slot_in, len);
        (inbound.replay_len, inbound.replay_offset) = (len, range.ok_or("no room for its window")?);
        let slot_out = self.slots.take_outbound(maps).ok_or("no outbound slot is free")?;
        let refused = |error: xswan_sa_api::PublishError| error.to_string();
        let published =
            maps.publish_inbound(slot_in, &inbound).map_err(refused).and_then(|first| {
                doorbell.ring(Ring::Inbound(slot_in));
                let second = maps.publish_outbound(slot_out, &outbound).map_err(refused);
                if second.is_err() {
                    maps.retire_inbound(slot_in);
                    doorbell.ring(Ring::Inbound(slot_in));
                }
                second.map(|second| (first, second))
            });
        let (first, second) = published.inspect_err(|_| self.slots.give_back_outbound(slot_out))?;
        doorbell.ring(Ring::Outbound(slot_out));
        self.slots.claim(slot_in);
        self.sequence += 1;
        let sa = ChildSa {
            id: install.child,
            group: number,
            spi_in: install.spi_in,
            spi_out: install.spi_out,
            slot_in,
            slot_out,
            outbound: install.outbound,
            local: inbound.local,
            sequence: self.sequence,
        };
        if continued.is_none() {
            let names = (install.connection.as_str(), install.name.as_str());
            self.add_group(prefixes, number, names, (local_ts, remote_ts), &child, worker);
        }
        self.add(sa);
        Ok(vec![Await::Inbound(slot_in, first), Await::Outbound(slot_out, second)])
    }

    pub(super) fn add(&mut self, sa: ChildSa) {
        *self.outers.entry(sa.local).or_default() += 1;
        self.by_slot_in.insert(sa.slot_in, sa.id);
        self.by_slot_out.insert(sa.slot_out, sa.id);
        let number = sa.group;
        if let Some(group) = self.groups.get_mut(&number) {
            group.members.push(sa.id);
        }
        self.children.insert(sa.id, sa);
        self.choose_slot(number);
        self.changed = true;
    }

    pub(super) fn add_group(
        &mut self,
        prefixes: &mut Prefixes,
        number: u32,
        (connection, name): (&str, &str),
        (local_ts, remote_ts): (Vec<TrafficSelector>, Vec<TrafficSelector>),
        child: &Child,
        worker: u16,
    ) {
        let wanted = child.ike.as_ref().is_none_or(|ike| ike.policies);
        let (rows, contributions) = if wanted {
            (
                child_policy::rows(child, number, false, &local_ts, &remote_ts),
                child_policy::contributions(child.mode, &local_ts, &remote_ts, Some(worker)),
            )
        } else {
            (Vec::new(), Vec::new())
        };
        contributions.iter().for_each(|one| prefixes.add(*one));
        let names = (connection.to_owned(), name.to_owned());
        let config_id = self.config_ids.get(&names).copied().unwrap_or(0);
        self.rows.add(config_id, number, rows);
        let (connection, name) = names;
        let members = Vec::new();
        let group =
            Group { config_id, connection, name, local_ts, remote_ts, members, contributions };
        self.groups.insert(number, group);
        self.news.push(GroupNews::Added(number));
    }

    /// The policies may name this one from now on.
    pub fn switch_outbound(&mut self, child: ChildId) {
        if let Some(sa) = self.children.get_mut(&child)
            && !sa.outbound
        {
            sa.outbound = true;
            let number = sa.group;
            self.choose_slot(number);
            self.changed = true;
        }
    }

    /// Moves a Child SA to other outer addresses, in place.
    pub fn relocate(
        &mut self,
        maps: &SharedMaps,
        doorbell: &DoorbellSender,
        child: ChildId,
        (local, remote): (SocketAddr, SocketAddr),
        encap: bool,
    ) {
        let Some(sa) = self.children.get_mut(&child) else { return };
        let encap = encapsulation(encap, local, remote);
        let (slot_in, slot_out) = (sa.slot_in, sa.slot_out);
        if let Read::Present { config, .. } = maps.read_inbound(slot_in) {
            let moved = InboundConfig { local: local.ip(), remote: remote.ip(), encap, ..config };
            if let Err(error) = maps.publish_inbound(slot_in, &moved) {
                tracing::error!(%error, "an inbound SA could not be moved");
            }
            doorbell.ring(Ring::Inbound(slot_in));
        }
        if let Read::Present { config, .. } = maps.read_outbound(slot_out) {
            let moved = OutboundConfig { local: local.ip(), remote: remote.ip(), encap, ..config };
            if let Err(error) = maps.publish_outbound(slot_out, &moved) {
                tracing::error!(%error, "an outbound SA could not be moved");
            }
            doorbell.ring(Ring::Outbound(slot_out));
        }
        let old = std::mem::replace(&mut sa.local, local.ip());
        *self.outers.entry(local.ip()).or_default() += 1;
        self.leave_outer(old);
        self.changed = true;
    }

    fn leave_outer(&mut self, address: IpAddr) {
        if let Some(count) = self.outers.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.outers.remove(&address);
            }
        }
    }

    /// Takes a Child SA out of the policies; its slots go with [`ChildSas::retire`], the inbound
    /// one a moment later ([`Lingering`]) unless `at_once`.
    pub fn remove(&mut self, prefixes: &mut Prefixes, child: ChildId, at_once: bool) {
        let Some(sa) = self.children.remove(&child) else { return };
        self.by_slot_in.remove(&sa.slot_in);
        self.by_slot_out.remove(&sa.slot_out);
        self.leave_outer(sa.local);
        self.retired.push(Retired { slot_in: sa.slot_in, slot_out: sa.slot_out, at_once });
        self.changed = true;
        let Some(group) = self.groups.get_mut(&sa.group) else { return };
        group.members.retain(|member| *member != child);
        if !group.members.is_empty() {
            self.choose_slot(sa.group);
            return;
        }
        if let Some(group) = self.groups.remove(&sa.group) {
            group.contributions.iter().for_each(|one| prefixes.remove(*one));
            self.rows.remove(group.config_id, sa.group);
            self.news.push(GroupNews::Removed(sa.group));
        }
    }

    /// Whether policies, prefixes or outer addresses have to be written.
    #[must_use]
    pub const fn is_changed(&self) -> bool {
        self.changed
    }

    /// They have been written.
    pub const fn settled(&mut self) {
        self.changed = false;
    }

    /// Empties the slots of removed SAs: after the policies without them were published.
    pub fn retire(&mut self, maps: &SharedMaps, doorbell: &DoorbellSender) {
        for Retired { slot_in, slot_out, at_once } in std::mem::take(&mut self.retired) {
            maps.retire_outbound(slot_out);
            doorbell.ring(Ring::Outbound(slot_out));
            self.slots.give_back_outbound(slot_out);
            if at_once {
                self.retire_inbound(maps, doorbell, slot_in);
            } else {
                self.lingering.add(slot_in);
            }
        }
    }

    /// Empties the inbound slots whose time has come.
    pub fn end_lingering(&mut self, maps: &SharedMaps, doorbell: &DoorbellSender) {
        while let Some(slot_in) = self.lingering.take_due() {
            self.retire_inbound(maps, doorbell, slot_in);
        }
    }

    fn retire_inbound(&mut self, maps: &SharedMaps, doorbell: &DoorbellSender, slot_in: u32) {
        maps.retire_inbound(slot_in);
        doorbell.ring(Ring::Inbound(slot_in));
        self.slots.give_back_inbound(slot_in);
    }

    /// The policies of all groups.
    #[must_use]
    pub const fn rows(&self) -> &GroupRows {
        &self.rows
    }

    /// The rows of a group name the SA that it sends through.
    fn choose_slot(&mut self, number: u32) {
        let Some(group) = self.groups.get(&number) else { return };
        let slot = self.current(group).map(|sa| sa.slot_out);
        self.rows.set_slot(group.config_id, number, slot);
    }

    /// The SA that a group sends through: the newest that may be used.
    fn current(&self, group: &Group) -> Option<&ChildSa> {
        let members = group.members.iter().filter_map(|id| self.children.get(id));
        members.filter(|sa| sa.outbound).max_by_key(|sa| sa.sequence)
    }

    /// The outer addresses of our side.
    pub fn outers(&self) -> impl Iterator<Item = IpAddr> {
        self.outers.keys().copied()
    }

    /// Whether a configured child has an SA.
    #[must_use]
    pub fn has(&self, connection: &str, name: &str) -> bool {
        let names = (connection.to_owned(), name.to_owned());
        self.config_ids.get(&names).is_some_and(|id| self.rows.has(*id))
    }

    /// A Child SA by its number.
    #[must_use]
    pub fn child(&self, id: ChildId) -> Option<&ChildSa> {
        self.children.get(&id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ChildSa> {
        self.children.values()
    }

    /// The Child SA in an inbound slot, if it has this SPI.
    #[must_use]
    pub fn at_inbound(&self, slot: u32, spi: u32) -> Option<&ChildSa> {
        let sa = self.children.get(self.by_slot_in.get(&slot)?)?;
        (sa.spi_in == spi).then_some(sa)
    }

    /// The Child SA in an outbound slot, if it has this SPI.
    #[must_use]
    pub fn at_outbound(&self, slot: u32, spi: u32) -> Option<&ChildSa> {
        let sa = self.children.get(self.by_slot_out.get(&slot)?)?;
        (sa.spi_out == spi).then_some(sa)
    }

    /// A group by its number.
    #[must_use]
    pub fn group(&self, number: u32) -> Option<&Group> {
        self.groups.get(&number)
    }
}
