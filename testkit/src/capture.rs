//! Standing on the wire: a capturing thread and what it looks for.
//!
//! [`LeakObserver`] proves that nothing of a protected prefix passes in clear,
//! [`NonceObserver`] that no (SPI, IV) passes twice. Both look at every frame, while only
//! the first ones are kept, so that a long run does not fill the memory.

use crate::failure::{Failure, Outcome};
use crate::netns::Namespace;
use crate::raw_socket::RawSocket;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the thread sleeps at most before it looks whether to stop.
const PATIENCE: Duration = Duration::from_millis(20);

/// What one ESP packet shows to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EspSeen {
    /// Security parameters index.
    pub spi: u32,
    /// Sequence number, low half.
    pub sequence: u32,
    /// The explicit IV.
    pub iv: u64,
}

/// Where things lie in a frame: just enough to tell ESP from clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Source and destination, if it is IP.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// Filled in if it is ESP, raw or in UDP on port 4500.
    pub esp: Option<EspSeen>,
}

/// Reads a frame: Ethernet, up to two tags, IP, ESP or UDP 4500.
#[must_use]
pub fn look(frame: &[u8]) -> Seen {
    let mut at = 12;
    while matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) && at < 20 {
        at += 4;
    }
    let packet = frame.get(at + 2..).unwrap_or_default();
    let parsed = match frame.get(at..at + 2) {
        Some([0x08, 0x00]) => look_v4(packet),
        Some([0x86, 0xdd]) => look_v6(packet),
        _ => None,
    };
    let Some((from, to, protocol, payload)) = parsed else {
        return Seen { addresses: None, esp: None };
    };
    let esp = match protocol {
        50 => esp_header(payload),
        17 if [payload.get(..2), payload.get(2..4)].contains(&Some(&4500u16.to_be_bytes()[..])) => {
            esp_header(payload.get(8..).unwrap_or_default()).filter(|esp| esp.spi != 0)
        }
        _ => None,
    };
    Seen { addresses: Some((from, to)), esp }
}

fn look_v4(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    let header = packet.first_chunk::<20>()?;
    let length = usize::from(header[0] & 15) * 4;
    let from: [u8; 4] = *packet.get(12..)?.first_chunk()?;
    let to: [u8; 4] = *packet.get(16..)?.first_chunk()?;
    // A later fragment has no header of the upper protocol.
    let first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
    let payload = if first { packet.get(length..)? } else { &[] };
    Some((from.into(), to.into(), header[9], payload))
}

fn look_v6(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    let header = packet.first_chunk::<40>()?;
    let from: [u8; 16] = *packet.get(8..)?.first_chunk()?;
    let to: [u8; 16] = *packet.get(24..)?.first_chunk()?;
    Some((from.into(), to.into(), header[6], packet.get(40..)?))
}

fn esp_header(payload: &[u8]) -> Option<EspSeen> {
    Some(EspSeen {
        spi: u32::from_be_bytes(*payload.first_chunk()?),
        sequence: u32::from_be_bytes(*payload.get(4..)?.first_chunk()?),
        iv: u64::from_be_bytes(*payload.get(8..)?.first_chunk()?),
    })
}

/// An address prefix.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl std::str::FromStr for Prefix {
    type Err = Failure;

    fn from_str(text: &str) -> Outcome<Self> {
        let bad = || Failure::new(format!("not a prefix: {text}"));
        let (address, length) = text.split_once('/').ok_or_else(bad)?;
        let address = address.parse().map_err(|_| bad())?;
        Ok(Self { address, length: length.parse().map_err(|_| bad())? })
    }
}

impl Prefix {
    /// Whether `address` is within; never for the other family.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |a: &[u8], b: &[u8]| {
            (0..usize::from(self.length)).all(|bit| {
                let of = |bytes: &[u8]| bytes.get(bit / 8).map(|byte| byte >> (7 - bit % 8) & 1);
                of(a) == of(b)
            })
        };
        match (self.address, address) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => same(&mine.octets(), &other.octets()),
            (IpAddr::V6(mine), IpAddr::V6(other)) => same(&mine.octets(), &other.octets()),
            _ => false,
        }
    }
}

/// Looks for packets of protected prefixes in clear.
#[derive(Debug, Default)]
pub struct LeakObserver {
    protected: Vec<Prefix>,
    /// Clear packets from or to a protected prefix.
    pub leaks: u64,
    /// The first of them.
    pub first_leak: Option<Vec<u8>>,
}

impl LeakObserver {
    /// Watches for these prefixes as source or destination of an outermost IP header.
    ///
    /// # Errors
    /// A text that is not a prefix.
    pub fn new(protected: &[&str]) -> Outcome<Self> {
        let protected = protected.iter().map(|text| text.parse()).collect::<Outcome<_>>()?;
        Ok(Self { protected, leaks: 0, first_leak: None })
    }

    fn observe(&mut self, frame: &[u8], seen: &Seen) {
        let Some((from, to)) = seen.addresses else { return };
        if self.protected.iter().any(|prefix| prefix.contains(from) || prefix.contains(to)) {
            self.leaks += 1;
            self.first_leak.get_or_insert_with(|| frame.to_vec());
        }
    }
}

/// Looks for an IV used twice with one SPI.
#[derive(Debug, Default)]
pub struct NonceObserver {
    seen: HashSet<(u32, u64)>,
    /// ESP packets by SPI.
    pub packets: HashMap<u32, u64>,
    /// ESP packets whose (SPI, IV) had been on the wire before.
    pub repeated: Vec<EspSeen>,
}

impl NonceObserver {
    fn observe(&mut self, seen: &Seen) {
        let Some(esp) = seen.esp else { return };
        *self.packets.entry(esp.spi).or_default() += 1;
        if !self.seen.insert((esp.spi, esp.iv)) {
            self.repeated.push(esp);
        }
    }

    /// ESP packets of all SPIs.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.packets.values().sum()
    }
}

/// One kept frame.
#[derive(Clone, Debug)]
pub struct Captured {
    /// When it was read, since 1970.
    pub at: Duration,
    /// All of it, from the Ethernet header on.
    pub frame: Vec<u8>,
}

/// What a capture saw.
#[derive(Debug, Default)]
pub struct Sighting {
    /// Frames looked at.
    pub frames: u64,
    /// Frames the kernel lost before they could be looked at; must be 0 for a proof.
    pub lost: u64,
    /// The first frames, up to the number asked for.
    pub kept: Vec<Captured>,
    /// What was in clear.
    pub leak: LeakObserver,
    /// What was repeated.
    pub nonce: NonceObserver,
}

impl Sighting {
    /// Writes the kept frames as a pcap file.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write_pcap(&self, path: &Path) -> Outcome<()> {
        use pcap_file::pcap::{PcapPacket, PcapWriter};
        let problem = |error: pcap_file::PcapError| Failure::new(error.to_string());
        let mut writer = PcapWriter::new(std::fs::File::create(path)?).map_err(problem)?;
        for captured in &self.kept {
            let length = u32::try_from(captured.frame.len()).unwrap_or(u32::MAX);
            let packet = PcapPacket::new(captured.at, length, &captured.frame);
            writer.write_packet(&packet).map_err(problem)?;
        }
        Ok(())
    }
}

/// A capture under way; dropping it stops it too.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Outcome<Sighting>>>,
}

impl Capture {
    /// Starts looking at everything on `device`, keeping the first `keep` frames; `protected`
    /// are the prefixes that must not be seen in clear.
    ///
    /// # Errors
    /// No packet socket, or a text that is not a prefix.
    pub fn start(
        namespace: &Namespace,
        device: &str,
        protected: &[&str],
        keep: usize,
    ) -> Outcome<Self> {
        let mut socket = RawSocket::open(namespace, device, true)?;
        let mut sighting = Sighting { leak: LeakObserver::new(protected)?, ..Sighting::default() };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            loop {
                match socket.receive(PATIENCE)? {
                    Some(frame) => note(&mut sighting, frame, keep),
                    // Stop only when the queue is empty, so that nothing sent before is missed.
                    None if stopped.load(Ordering::Acquire) => break,
                    None => {}
                }
            }
            sighting.lost = socket.counters()?.lost.into();
            Ok(sighting)
        });
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Reads what is still queued, then ends.
    ///
    /// # Errors
    /// The device went away, or the thread panicked.
    pub fn stop(mut self) -> Outcome<Sighting> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().ok_or("a capture ends once")?;
        thread.join().map_err(|_| Failure::new("the capturing thread panicked"))?
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // Its sighting is not wanted any more.
            let _ = thread.join();
        }
    }
}

fn note(sighting: &mut Sighting, frame: Vec<u8>, keep: usize) {
    let seen = look(&frame);
    sighting.frames += 1;
    sighting.leak.observe(&frame, &seen);
    sighting.nonce.observe(&seen);
    if sighting.kept.len() < keep {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        sighting.kept.push(Captured { at, frame });
    }
}

#[cfg(test)]
mod tests {
    use super::{Capture, EspSeen, look};
    use crate::failure::Outcome;
    use crate::packet::{self, Ipv4, protocol};
    use crate::process::ScratchDirectory;
    use crate::topology::{CLIENT_V4, INNER_V4, INNER_V6, Topology};

    #[test]
    fn esp_is_found_raw_and_in_udp() {
        let esp = [0, 0, 0x20, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4];
        let expected = Some(EspSeen { spi: 0x2001, sequence: 5, iv: 7 });
        let (from, to) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let raw = Ipv4::new(from, to, protocol::ESP).packet(&esp);
        assert_eq!(look(&packet::frame([0; 6], [0; 6], &[], &raw)).esp, expected);
        let encapsulated = packet::udp((from.into(), 4500), (to.into(), 4500), &esp);
        let tags = [(0x88a8, 1), (0x8100, 2)];
        assert_eq!(look(&packet::frame([0; 6], [0; 6], &tags, &encapsulated)).esp, expected);
        let ike = packet::udp((from.into(), 4500), (to.into(), 4500), &[0; 32]);
        assert_eq!(look(&packet::frame([0; 6], [0; 6], &[], &ike)).esp, None);
    }

    #[test]
    fn a_clear_ping_is_a_leak_and_a_repeated_iv_is_noticed() -> Outcome<()> {
        crate::require_privileges!("a_clear_ping_is_a_leak_and_a_repeated_iv_is_noticed");
        let topology = Topology::create()?;
        let protected = [INNER_V4[0], INNER_V6[0]];
        let capture = Capture::start(&topology.wire, "port-a", &protected, 100)?;
        topology.clients[0].run(&format!("ping -c2 -i0.2 -W2 {}", CLIENT_V4[1]))?;
        let esp = [0, 0, 0x20, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4];
        let header = Ipv4::new("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap(), 50);
        let frame = packet::frame([2; 6], [4; 6], &[], &header.packet(&esp));
        let sender = crate::raw_socket::RawSocket::open(&topology.gateways[0], "eth0", false)?;
        sender.send(&frame)?;
        sender.send(&frame)?;
        let sighting = capture.stop()?;
        assert_eq!(sighting.leak.leaks, 4);
        assert_eq!(sighting.nonce.total(), 2);
        assert_eq!(sighting.nonce.repeated.len(), 1);
        assert_eq!(sighting.lost, 0);
        let scratch = ScratchDirectory::create("capture")?;
        sighting.write_pcap(&scratch.path().join("wire.pcap"))?;
        Ok(())
    }
}
