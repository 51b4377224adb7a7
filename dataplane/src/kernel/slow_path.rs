//! The TUN device: packets that only the kernel can finish, and packets of its own.
//!
//! To the kernel: whose next hop is unresolved (its first packet makes it resolve the
//! neighbour), whose way out is a device that is not attached, or who is for the gateway
//! itself. From the kernel: what it routes into the device, to be protected like any
//! packet from the protected side.
//!
//! Workers never make the system calls: they hand the frame over a ring and get it back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use rtrb::{Consumer, Producer};
use tun_rs::{DeviceBuilder, SyncDevice};
use xswan_xsk::{Bell, Waiter};

use crate::buffer::Buffer;
use crate::privilege;

/// Longest sleep of the writer when nothing comes, in microseconds: how long it may take to see
/// that it is to stop. A packet wakes it.
const IDLE_US: u32 = 100_000;
/// Largest packet that is read from the device, in bytes.
const READ_LEN: usize = 9216;

/// An IP packet inside a frame, on its way to the kernel.
#[derive(Debug)]
pub struct Punt {
    /// The frame that holds it.
    pub frame: Buffer,
    /// Where the IP header begins.
    pub start: u16,
    /// Length in bytes.
    pub len: u16,
}

/// One worker's two rings as the slow path sees them.
pub struct WorkerRings {
    /// Packets for the kernel.
    pub punts: Consumer<Punt>,
    /// Their frames on the way home.
    pub frames: Producer<Buffer>,
    /// Wakes the worker.
    pub bell: Arc<Bell>,
}

/// A worker's packets from the kernel.
pub struct Injection {
    /// The packets.
    pub packets: Producer<Vec<u8>>,
    /// Wakes the worker.
    pub bell: Arc<Bell>,
}

/// Totals of the slow path.
#[derive(Debug, Default)]
pub struct SlowPathCounters {
    /// Packets given to the kernel.
    pub written: AtomicU64,
    /// Packets that the kernel refused.
    pub refused: AtomicU64,
    /// Packets the kernel routed into the device.
    pub read: AtomicU64,
    /// Of those, dropped because the worker's ring was full.
    pub read_dropped: AtomicU64,
}

/// The device, its threads and its counters.
pub struct SlowPath {
    device: Arc<SyncDevice>,
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
    bell: Arc<Bell>,
    /// What has passed.
    pub counters: Arc<SlowPathCounters>,
}

impl SlowPath {
    /// Makes the TUN device `name` and brings it up.
    ///
    /// # Errors
    /// If the device cannot be made: no right, or a device of that name exists.
    pub fn open(name: &str, mtu: u16) -> io::Result<Self> {
        let device = DeviceBuilder::new().name(name).mtu(mtu).build_sync()?;
        let_own_addresses_in(name);
        Ok(Self {
            device: Arc::new(device),
            stop: Arc::new(AtomicBool::new(false)),
            writer: None,
            bell: Arc::new(Bell::new()?),
            counters: Arc::default(),
        })
    }

    /// Wakes the thread that writes to the device.
    #[must_use]
    pub const fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Starts the thread that writes to the device and the one that reads from it, for every
    /// worker: only they know whose SA a packet needs.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(&mut self, rings: Vec<WorkerRings>, inject: Vec<Injection>) -> io::Result<()> {
        let (device, stop) = (Arc::clone(&self.device), Arc::clone(&self.stop));
        let counters = Arc::clone(&self.counters);
        let writer = std::thread::Builder::new().name("slow-path".to_owned());
        let waiter = Waiter::new(Arc::clone(&self.bell), std::iter::empty());
        let write = move || write_loop(&device, rings, waiter, &stop, &counters);
        self.writer = Some(writer.spawn(write)?);
        let (device, stop) = (Arc::clone(&self.device), Arc::clone(&self.stop));
        let counters = Arc::clone(&self.counters);
        // This thread blocks in read and ends with the process: it owns nothing to give back.
        let reader = std::thread::Builder::new().name("slow-path-in".to_owned());
        reader.spawn(move || read_loop(&device, inject, &stop, &counters))?;
        Ok(())
    }

    /// Ends the writer and waits for it.
    pub fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        self.bell.ring();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Packets from the device carry sources that the kernel would not believe of it: our own
/// tunnel addresses, and hosts that are reached elsewhere.
fn let_own_addresses_in(name: &str) {
    for (key, value) in [("accept_local", "1"), ("rp_filter", "0")] {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/{key}");
        if let Err(error) = std::fs::write(&path, value) {
            tracing::warn!(path, %error, "not set to {value}: the kernel may refuse packets from us");
        }
    }
}

fn write_loop(
    device: &SyncDevice,
    mut rings: Vec<WorkerRings>,
    mut waiter: Waiter,
    stop: &AtomicBool,
    counters: &SlowPathCounters,
) {
    privilege::drop_all();
    while !stop.load(Relaxed) {
        for ring in &mut rings {
            let mut busy = false;
            while let Ok(punt) = ring.punts.pop() {
                busy = true;
                let frame = write_one(device, punt, counters);
                // The ring home is as long as the ring here, so it is never full.
                let _ = ring.frames.push(frame);
            }
            if busy {
                ring.bell.ring();
            }
        }
        let rings = &rings;
        waiter.wait(IDLE_US, || {
            rings.iter().all(|ring| ring.punts.is_empty()) && !stop.load(Relaxed)
        });
    }
}

fn write_one(device: &SyncDevice, mut punt: Punt, counters: &SlowPathCounters) -> Buffer {
    let (start, len) = (usize::from(punt.start), usize::from(punt.len));
    let packet = punt.frame.room_mut().get(start..start.saturating_add(len));
    match packet.map(|packet| device.send(packet)) {
        Some(Ok(_)) => counters.written.fetch_add(1, Relaxed),
        Some(Err(_)) | None => counters.refused.fetch_add(1, Relaxed),
    };
    punt.frame
}

fn read_loop(
    device: &SyncDevice,
    mut inject: Vec<Injection>,
    stop: &AtomicBool,
    counters: &SlowPathCounters,
) {
    privilege::drop_all();
    let mut buffer = vec![0; READ_LEN];
    while !stop.load(Relaxed) {
        match device.recv(&mut buffer) {
            Ok(len) => {
                counters.read.fetch_add(1, Relaxed);
                let packet = buffer.get(..len).unwrap_or_default();
                let mut refused = 0;
                for Injection { packets, bell } in &mut inject {
                    refused += u64::from(packets.push(packet.to_vec()).is_err());
                    bell.ring();
                }
                counters.read_dropped.fetch_add(u64::from(refused > 0), Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
