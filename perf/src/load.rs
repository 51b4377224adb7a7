//! A numbered, time-stamped stream from one client to the other, and what became of it.

use hdrhistogram::Histogram;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::topology::{CLIENT_V4, Topology};

/// IPv4 and UDP headers.
const HEADER_BYTES: usize = 28;
/// Room for the time stamp.
const STAMP_BYTES: usize = 8;
const PORT: u16 = 9900;
/// Longest latency kept apart: ten seconds.
const LATENCY_MAX_NS: u64 = 10_000_000_000;
/// Silence after which a run is over.
const SILENCE: Duration = Duration::from_millis(500);
/// Below this the sender spins, above it sleeps: the timer of the kernel is about this good.
const SPIN_BELOW: Duration = Duration::from_micros(200);

/// What became of a run.
pub struct RunResult {
    /// Packets handed to the kernel.
    pub sent: u64,
    /// Packets that arrived.
    pub received: u64,
    /// How long the sender sent.
    pub sending: Duration,
    /// From the intended send time to the arrival.
    pub latency_ns: Histogram<u64>,
}

impl RunResult {
    /// Packets a second that arrived, over the time of sending.
    pub fn received_pps(&self) -> f64 {
        self.received as f64 / self.sending.as_secs_f64().max(f64::EPSILON)
    }

    /// Share of packets that did not arrive, in percent.
    pub fn lost_percent(&self) -> f64 {
        let lost = self.sent.saturating_sub(self.received);
        100.0 * lost as f64 / (self.sent.max(1)) as f64
    }
}

/// Sends packets of `size` bytes for `limit`, `rate` a second or as fast as it goes.
pub fn run(
    topology: &Topology,
    size: usize,
    rate: Option<f64>,
    limit: Duration,
) -> Outcome<RunResult> {
    let payload_bytes = size
        .checked_sub(HEADER_BYTES)
        .filter(|bytes| *bytes >= STAMP_BYTES)
        .ok_or_else(|| Failure::new(format!("{size} bytes hold no time stamp; 36 do")))?;
    let [from, to] = &topology.clients;
    let inlet = to.enter(|| UdpSocket::bind((CLIENT_V4[1], PORT)))??;
    let outlet = from.enter(|| UdpSocket::bind((CLIENT_V4[0], 0)))??;
    outlet.connect((CLIENT_V4[1], PORT))?;
    inlet.set_read_timeout(Some(SILENCE))?;
    let begin = Instant::now();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&inlet, begin, &done));
        let (sent, sending) = send(&outlet, payload_bytes, begin, rate, limit);
        done.store(true, Ordering::Release);
        let received = receiver.join().map_err(|_| Failure::new("the receiver panicked"))?;
        let (received, latency_ns) = received?;
        Ok(RunResult { sent, received, sending, latency_ns })
    })
}

fn send(
    outlet: &UdpSocket,
    payload_bytes: usize,
    begin: Instant,
    rate: Option<f64>,
    limit: Duration,
) -> (u64, Duration) {
    let mut payload = vec![0; payload_bytes];
    let interval = rate.map(|rate| Duration::from_secs_f64(1.0 / rate.max(1.0)));
    let first = begin.elapsed();
    let mut sent = 0;
    let mut due = first;
    while due - first < limit {
        match interval {
            Some(interval) => {
                wait_until(begin, due);
                stamp(&mut payload, due);
                due += interval;
            }
            None => {
                due = begin.elapsed();
                stamp(&mut payload, due);
            }
        }
        // A full socket buffer blocks; another error is a packet that was not sent.
        if outlet.send(&payload).is_ok() {
            sent += 1;
        }
    }
    (sent, begin.elapsed() - first)
}

fn wait_until(begin: Instant, due: Duration) {
    loop {
        let early = due.saturating_sub(begin.elapsed());
        if early.is_zero() {
            return;
        }
        if early > SPIN_BELOW {
            std::thread::sleep(early - SPIN_BELOW);
        } else {
            std::thread::yield_now();
        }
    }
}

fn stamp(payload: &mut [u8], due: Duration) {
    if let Some(place) = payload.first_chunk_mut::<STAMP_BYTES>() {
        *place = nanoseconds(due).to_be_bytes();
    }
}

fn receive(inlet: &UdpSocket, begin: Instant, done: &AtomicBool) -> Outcome<(u64, Histogram<u64>)> {
    let mut latency = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)
        .map_err(|error| Failure::new(error.to_string()))?;
    let mut buffer = vec![0; 65_536];
    let mut received = 0;
    loop {
        match inlet.recv(&mut buffer) {
            Ok(_) => {
                let now = nanoseconds(begin.elapsed());
                let due = buffer.first_chunk().map_or(now, |bytes| u64::from_be_bytes(*bytes));
                latency.saturating_record(now.saturating_sub(due).max(1));
                received += 1;
            }
            Err(_) if done.load(Ordering::Acquire) => return Ok((received, latency)),
            Err(_) => {}
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
