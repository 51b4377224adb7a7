//! What survives the daemon: its IKE SAs, and which slots their Child SAs are in.
//!
//! The keys of Child SAs stay in the maps and nowhere else. A restarted daemon takes its IKE SAs
//! back, compares their Child SAs with the maps, and goes on; what is in one and not in the
//! other is closed. A peer hears of a change when it is saved. Where saving takes its time, with
//! very many SAs, the changes of some milliseconds are saved together.

use super::event_loop::{Ike, now};
use crate::state_file::StateFile;
use crate::tables::Tables;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;
use xswan_config::TrafficSelector;
use xswan_ikev2::Input;
use xswan_ikev2::wire;
use xswan_sa_api::clock_ms;
use zeroize::Zeroizing;

/// What is done in this time is done with every batch of changes.
const QUICK_US: u64 = 1_000;
/// Otherwise, so many times as long as saving takes is left between two times,
const PAUSES: u64 = 4;
/// but never longer than this: peers wait for us.
const PAUSE_MAX_MS: u64 = 200;

/// Addresses, protocol and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector(IpAddr, IpAddr, u8, u16, u16);

impl From<&TrafficSelector> for Selector {
    fn from(ts: &TrafficSelector) -> Self {
        let (first, last) = ts.bounds();
        Self(first, last, ts.protocol, ts.first_port, ts.last_port)
    }
}

impl From<&Selector> for TrafficSelector {
    fn from(&Selector(first, last, protocol, first_port, last_port): &Selector) -> Self {
        let ts = wire::TrafficSelector { protocol, first_port, last_port, first, last };
        super::convert_selector(&ts)
    }
}

/// A Child SA in the maps, without its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChildRecord {
    /// The core's number.
    pub child: u32,
    /// Its number in the maps.
    pub group: u32,
    /// Connection.
    pub connection: String,
    /// Child in it.
    pub name: String,
    /// Our SPI, which says the inbound slot.
    pub spi_in: u32,
    /// The peer's SPI.
    pub spi_out: u32,
    /// Slot in `sa_out`.
    pub slot_out: u32,
    /// Whether traffic may leave through it.
    pub outbound: bool,
    /// Traffic on our side.
    pub local_ts: Vec<Selector>,
    /// Traffic on the peer's side.
    pub remote_ts: Vec<Selector>,
}

/// When to save.
#[derive(Debug)]
pub struct Keeper {
    file: StateFile,
    enabled: bool,
    stale: bool,
    saves: u64,
    not_before_ms: u64,
    failed: bool,
}

impl Keeper {
    /// Nothing is read or written yet.
    #[must_use]
    pub fn new(directory: &Path, enabled: bool) -> Self {
        let file = StateFile::in_directory(directory);
        Self { file, enabled, stale: false, saves: 0, not_before_ms: 0, failed: false }
    }

    /// Something has changed. Returns the number of the save that has it; `None`: nothing is
    /// saved.
    pub fn changed(&mut self) -> Option<u64> {
        self.stale = true;
        self.enabled.then_some(self.saves + 1)
    }

    /// How often it was saved, or could not be.
    #[must_use]
    pub const fn saves(&self) -> u64 {
        self.saves
    }

    /// When there is something to be saved.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        (self.enabled && self.stale).then_some(self.not_before_ms)
    }

    fn save(&mut self, octets: &[u8]) {
        let started = Instant::now();
        match self.file.save(octets) {
            Ok(()) => self.failed = false,
            // Once, not with every change.
            Err(_) if self.failed => {}
            Err(error) => {
                self.failed = true;
                tracing::error!("the state is not saved and would be lost: {error}");
            }
        }
        self.stale = false;
        self.saves += 1;
        let took_us = started.elapsed().as_micros() as u64;
        let pause_ms = if took_us < QUICK_US { 0 } else { took_us * PAUSES / 1000 };
        self.not_before_ms = clock_ms() + pause_ms.min(PAUSE_MAX_MS);
    }
}

/// The core's octets with their length before them, then the records.
fn encode(core: &[u8], records: &[ChildRecord]) -> Option<Zeroizing<Vec<u8>>> {
    let records = serde_json::to_vec(records).ok()?;
    let mut octets = Zeroizing::new(Vec::with_capacity(core.len() + records.len() + 8));
    octets.extend_from_slice(&(core.len() as u64).to_le_bytes());
    octets.extend_from_slice(core);
    octets.extend_from_slice(&records);
    Some(octets)
}

fn decode(octets: &[u8]) -> Option<(&[u8], Vec<ChildRecord>)> {
    let (len, rest) = octets.split_first_chunk()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    let (core, records) = rest.split_at_checked(len)?;
    Some((core, serde_json::from_slice(records).ok()?))
}

impl Ike {
    /// Saves what has changed, if it is time to.
    pub(super) fn keep(&mut self, tables: &Tables, now_ms: u64) {
        if self.keeper.due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            self.keep_now(tables);
        }
    }

    fn keep_now(&mut self, tables: &Tables) {
        let core = self.engine.export(now());
        let octets = encode(&core, &tables.child_sas.records()).unwrap_or_default();
        self.keeper.save(&octets);
    }

    /// Saves what has changed, before the end.
    pub fn keep_finally(&mut self, tables: &Tables) {
        if self.keeper.due_ms().is_some() {
            self.keep_now(tables);
        }
    }

    /// Takes back what was saved, before the tables are written for the first time. Returns our
    /// SPIs of Child SAs that are not there any more.
    #[must_use]
    pub fn restore(&mut self, tables: &mut Tables) -> Vec<u32> {
        let kept = if self.keeper.enabled {
            self.keeper.file.load()
        } else {
            self.keeper.file.remove().map(|()| None)
        };
        match kept {
            Ok(None) => Vec::new(),
            Ok(Some(octets)) => self.restore_from(tables, &octets),
            Err(error) => {
                tracing::error!("nothing of the earlier state is taken: {error}");
                Vec::new()
            }
        }
    }

    fn restore_from(&mut self, tables: &mut Tables, octets: &[u8]) -> Vec<u32> {
        let Some((core, records)) = decode(octets) else {
            tracing::error!("nothing of the earlier state is taken: it is damaged");
            return Vec::new();
        };
        let imported = match self.engine.import(core, now()) {
            Ok(imported) => imported,
            Err(error) => {
                tracing::error!("nothing of the earlier state is taken: {error}");
                return Vec::new();
            }
        };
        for line in &imported.refused {
            tracing::warn!("not taken from the earlier state: {line}");
        }
        for spi in &imported.reserved_spis {
            tables.child_sas.reserve_again(*spi);
        }
        let sas: Vec<_> = self.engine.ike_sas(now().monotonic).collect();
        let mut missing: HashSet<u32> = HashSet::new();
        for sa in &sas {
            missing.extend(sa.children.iter().map(|child| child.spi_in));
            for address in &sa.local_vips {
                self.add_vip(sa.id, *address, &[]);
            }
        }
        let (mut adopted, all) = (0, missing.len());
        for record in &records {
            if !missing.contains(&record.spi_in) {
                continue;
            }
            match tables.adopt(record) {
                Ok(()) => {
                    adopted += 1;
                    missing.remove(&record.spi_in);
                }
                Err(why) => {
                    let child = format!("{}.{}", record.connection, record.name);
                    tracing::warn!(child, "a Child SA does not go on: {why}");
                }
            }
        }
        tracing::info!(ike_sas = imported.ike_sas, adopted, of = all, "SAs go on after a restart");
        missing.into_iter().collect()
    }

    /// Has the core close Child SAs that are not in the maps any more.
    pub fn close_lost(&mut self, tables: &mut Tables, lost: Vec<u32>) {
        for spi_in in lost {
            self.handle(tables, Input::ChildExpiry { spi_in, hard: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ChildRecord {
        let ts = |text| {
            let any = IpAddr::from([0, 0, 0, 0]);
            Selector::from(&TrafficSelector::parse(text, any).expect(text))
        };
        ChildRecord {
            child: 7,
            group: 3,
            connection: "c".to_owned(),
            name: "net".to_owned(),
            spi_in: 0x1234_5678,
            spi_out: 0x8765_4321,
            slot_out: 5,
            outbound: true,
            local_ts: vec![ts("10.1.0.0/16[tcp/80]"), ts("2001:db8::1-2001:db8::9")],
            remote_ts: vec![ts("0.0.0.0/0")],
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_and_damage_is_not() {
        let octets = encode(b"core", &[record()]).expect("encoded");
        let (core, records) = decode(&octets).expect("decoded");
        assert_eq!((core, records.as_slice()), (&b"core"[..], &[record()][..]));
        for len in 0..octets.len() {
            assert!(decode(octets.get(..len).expect("shorter")).is_none(), "{len}");
        }
        let mut long = octets.to_vec();
        long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode(&long).is_none());
    }

    #[test]
    fn selectors_come_back_as_they_were() {
        let ts = TrafficSelector::from(&record().local_ts[0]);
        assert_eq!(ts.to_string(), "10.1.0.0/16[tcp/80]");
        assert_eq!(Selector::from(&ts), record().local_ts[0]);
    }
}
