//! Bursts through the engine from memory: no rings, no kernel, one pinned core.
//!
//! Runs of all cells take turns, so that whatever else the machine does meets all of them. A
//! run is many bursts and its figure the median burst; a cell is the median of its runs.
//! Encryption and decryption run apart, so that neither's SAs are in the other's cache.
//! Replay protection is on.

use crate::statistics::{SPREAD_LIMIT, median, spread};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use xswan_aead::Backend;
use xswan_benches::gateways::{self, BURST, Gateway, INNER, OUTER};
use xswan_benches::measure::{pin, ticks};
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::packet;

/// Lengths of the inner IP packet in bytes.
pub const INNER_BYTES: [usize; 3] = [64, 512, 1420];
/// SAs that packets visit in turn.
pub const MILLION: u32 = 1_000_000;
/// Ethernet and IPv4 headers: where their fields are in a frame.
const IP_CHECKSUM: usize = 14 + 10;
const IP_DESTINATION: usize = 14 + 16;
const UDP_CHECKSUM: usize = 14 + 20 + 6;
/// Packets that are sealed ahead of being opened.
const AHEAD: usize = 1024;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Runs of each cell.
    pub runs: usize,
    /// Work of one run, what is outside of the measurement included.
    pub run: Duration,
    /// Who gets a million SAs.
    pub million: Million,
}

/// Which back-ends are measured with a million SAs; the memory and the time are considerable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Million {
    /// None of them.
    #[cfg(test)]
    Nobody,
    /// The fastest alone.
    Fastest,
    /// Each of them.
    Everyone,
}

impl Million {
    fn includes(self, backend: Backend) -> bool {
        match self {
            #[cfg(test)]
            Self::Nobody => false,
            Self::Fastest => backend == Backend::fastest(),
            Self::Everyone => true,
        }
    }
}

/// One measured cell.
#[derive(Clone, Debug)]
pub struct Row {
    /// `encrypt` or `decrypt`.
    pub direction: &'static str,
    /// The back-end's name.
    pub aead: &'static str,
    /// SAs visited in turn.
    pub sas: u32,
    /// Length of the inner packet in bytes.
    pub inner: usize,
    /// Packets in a burst.
    pub burst: usize,
    /// Workers that share the load.
    pub workers: u32,
    /// Ticks of the time stamp counter, a packet, by run.
    pub runs: Vec<f64>,
}

impl Row {
    /// Median of the runs, ticks a packet.
    pub fn tsc_per_packet(&self) -> f64 {
        median(&self.runs)
    }

    /// Relative distance of the runs.
    pub fn spread(&self) -> f64 {
        spread(&self.runs)
    }

    /// Whether its runs agree.
    pub fn is_steady(&self) -> bool {
        self.spread() <= SPREAD_LIMIT
    }

    /// For the report; `steady_clock` says whether the core's clock was the same at the end.
    pub fn json(&self, steady_clock: bool) -> Value {
        json!({
            "direction": self.direction, "aead": self.aead, "sas": self.sas, "inner": self.inner,
            "burst": self.burst, "workers": self.workers,
            "tsc_per_packet": self.tsc_per_packet(), "spread": self.spread(), "runs": self.runs,
            "trustworthy": steady_clock && self.is_steady(),
        })
    }
}

/// Clear frames of one burst, whose destinations change from burst to burst.
struct Source {
    frames: Vec<Vec<u8>>,
    sas: u32,
    next: u32,
}

impl Source {
    fn new(sas: u32, inner: usize, burst: usize) -> Self {
        let payload = vec![0x5a; inner.saturating_sub(28)];
        let ends = ([10, 1, 0, 1], gateways::host(0));
        let packet = packet::udp((ends.0.into(), 5), (ends.1.into(), 6), &payload);
        let mut frame = packet::frame([4; 6], [6; 6], &[], &packet);
        // IPv4 lets a sender of UDP leave the sum out.
        put(&mut frame, UDP_CHECKSUM, [0; 2]);
        Self { frames: vec![frame; burst], sas, next: 0 }
    }

    /// The next burst, each packet for the SA behind that of the one before it.
    fn burst(&mut self) -> impl Iterator<Item = &[u8]> {
        for frame in &mut self.frames {
            put(frame, IP_DESTINATION, gateways::host(self.next));
            put(frame, IP_CHECKSUM, [0; 2]);
            let sum = packet::checksum(&[frame.get(14..34).unwrap_or_default()]);
            put(frame, IP_CHECKSUM, sum.to_be_bytes());
            self.next = (self.next + 1) % self.sas;
        }
        self.frames.iter().map(Vec::as_slice)
    }
}

fn put<const N: usize>(frame: &mut [u8], at: usize, octets: [u8; N]) {
    if let Some(place) = frame.get_mut(at..at + N) {
        place.copy_from_slice(&octets);
    }
}

/// Two gateways of one back-end with a number of SAs.
struct Pair {
    left: Gateway,
    right: Gateway,
    backend: Backend,
    sas: u32,
}

impl Pair {
    fn new(sas: u32, backend: Backend) -> Self {
        let (left, right) = gateways::pair(sas, backend);
        Self { left, right, backend, sas }
    }

    /// Median ticks a packet of the bursts that fit into `time`.
    fn encrypt(&mut self, source: &mut Source, time: Duration) -> Outcome<f64> {
        let begun = Instant::now();
        let mut bursts = Vec::new();
        while begun.elapsed() < time {
            self.left.load(INNER, source.burst());
            bursts.push(timed(&mut self.left, source.frames.len())?);
        }
        Ok(median(&bursts))
    }

    fn decrypt(&mut self, source: &mut Source, time: Duration) -> Outcome<f64> {
        let burst = source.frames.len();
        let begun = Instant::now();
        let mut bursts = Vec::new();
        let mut sealed: Vec<Vec<u8>> = Vec::with_capacity(AHEAD);
        while begun.elapsed() < time {
            sealed.clear();
            for _ in 0..AHEAD / burst {
                self.left.load(INNER, source.burst());
                timed(&mut self.left, burst)?;
                sealed.extend(self.left.pool.sent.iter().map(|frame| frame.bytes().to_vec()));
            }
            for frames in sealed.chunks(burst) {
                self.right.load(OUTER, frames.iter().map(Vec::as_slice));
                bursts.push(timed(&mut self.right, burst)?);
            }
        }
        Ok(median(&bursts))
    }

    /// One run of every cell of this pair; appends to `rows`, in the same order each time.
    fn run(&mut self, cells: &[(usize, usize)], time: Duration, rows: &mut Rows) -> Outcome<()> {
        for &(inner, burst) in cells {
            let mut source = Source::new(self.sas, inner, burst);
            let ticks = self.encrypt(&mut source, time)?;
            rows.add(self, "encrypt", (inner, burst), ticks);
            let ticks = self.decrypt(&mut source, time)?;
            rows.add(self, "decrypt", (inner, burst), ticks);
        }
        Ok(())
    }
}

/// Ticks a packet of what was loaded.
fn timed(gateway: &mut Gateway, burst: usize) -> Outcome<f64> {
    let took = ticks(|| gateway.process());
    // An SPI in the reserved range has no SA: of a million SAs a few at most.
    let sent = gateway.pool.sent.len();
    if sent + 1 < burst {
        return Err(Failure::new(format!("{sent} of {burst} packets came through the engine")));
    }
    Ok(took as f64 / burst as f64)
}

/// Cells as they fill up, run by run.
#[derive(Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn add(&mut self, pair: &Pair, direction: &'static str, cell: (usize, usize), ticks: f64) {
        let (inner, burst) = cell;
        let (aead, sas) = (pair.backend.name(), pair.sas);
        let same = |row: &&mut Row| {
            (row.direction, row.aead, row.sas, row.inner, row.burst)
                == (direction, aead, sas, inner, burst)
        };
        match self.0.iter_mut().find(same) {
            Some(row) => row.runs.push(ticks),
            None => {
                let runs = vec![ticks];
                self.0.push(Row { direction, aead, sas, inner, burst, workers: 1, runs });
            }
        }
    }
}

/// Measures every back-end that this processor has with 1, 1,024 and a million SAs.
pub fn measure(plan: Plan) -> Outcome<Vec<Row>> {
    pin();
    let cells = INNER_BYTES.map(|inner| (inner, BURST));
    let usable = || Backend::ALL.into_iter().filter(|backend| backend.is_usable());
    let mut rows = Rows::default();
    let few = usable().flat_map(|backend| [(1, backend), (1024, backend)]);
    let mut pairs: Vec<Pair> = few.map(|(sas, backend)| Pair::new(sas, backend)).collect();
    for run in 0..=plan.runs {
        for pair in &mut pairs {
            // The first run warms up and is thrown away.
            let mut cold = Rows::default();
            pair.run(&cells, plan.run, if run == 0 { &mut cold } else { &mut rows })?;
        }
    }
    drop(pairs);
    // One at a time: a pair holds a million SAs twice.
    for backend in usable().filter(|one| plan.million.includes(*one)) {
        if !has_room_for_a_million() {
            break;
        }
        let mut pair = Pair::new(MILLION, backend);
        for _ in 0..plan.runs {
            pair.run(&cells, 2 * plan.run, &mut rows)?;
        }
    }
    Ok(rows.0)
}

/// The fastest back-end with bursts of 32 to 256 packets.
pub fn bursts(plan: Plan) -> Outcome<Vec<Row>> {
    pin();
    let mut rows = Rows::default();
    let mut pairs = [1, 1024].map(|sas| Pair::new(sas, Backend::fastest()));
    let cells: Vec<_> = [32, 64, 128, 256]
        .into_iter()
        .flat_map(|burst| INNER_BYTES.map(|inner| (inner, burst)))
        .collect();
    for _ in 0..plan.runs {
        for pair in &mut pairs {
            pair.run(&cells, plan.run, &mut rows)?;
        }
    }
    Ok(rows.0)
}

/// Whether the machine has the memory for two gateways of a million SAs.
fn has_room_for_a_million() -> bool {
    const NEEDED_KB: u64 = 6 << 20;
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("MemAvailable:")).unwrap_or_default();
    let free = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    free.is_some_and(|kb| kb > NEEDED_KB)
}

#[cfg(test)]
mod tests {
    use super::{Million, Plan, Row, Source, measure};
    use std::time::Duration;
    use xswan_testkit::packet;

    #[test]
    fn neighbours_go_to_different_sas_and_their_headers_are_right() {
        let mut source = Source::new(70_000, 64, 4);
        source.next = 65_535;
        let frames: Vec<Vec<u8>> = source.burst().map(<[u8]>::to_vec).collect();
        assert_eq!(frames[0][30..34], [10, 2, 255, 255]);
        assert_eq!(frames[1][30..34], [10, 3, 0, 0]);
        assert!(frames.iter().all(|frame| packet::checksum(&[&frame[14..34]]) == 0));
        assert!(frames.iter().all(|frame| frame.len() == 64 + 14));
    }

    #[test]
    fn a_row_that_is_not_steady_says_so() {
        let row = |runs: &[f64]| Row {
            direction: "encrypt",
            aead: "native",
            sas: 1,
            inner: 64,
            burst: 64,
            workers: 1,
            runs: runs.to_vec(),
        };
        let json = row(&[100.0, 101.0, 102.0]).json(true);
        assert_eq!((&json["trustworthy"], &json["tsc_per_packet"]), (&true.into(), &101.0.into()));
        assert_eq!(row(&[100.0, 101.0, 102.0]).json(false)["trustworthy"], false);
        assert_eq!(row(&[100.0, 101.0, 140.0]).json(true)["trustworthy"], false);
    }

    #[test]
    fn every_packet_comes_through() {
        let plan = Plan { runs: 1, run: Duration::from_millis(1), million: Million::Nobody };
        assert!(measure(plan).unwrap().iter().all(|row| row.tsc_per_packet() > 0.0));
    }
}
