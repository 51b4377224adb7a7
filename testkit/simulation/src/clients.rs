//! Many clients of one gateway, over real sockets: one core that initiates for all of them.
//!
//! The sockets are the caller's, so that they may have been opened in another network
//! namespace. Port 500 is waited for; port 4500 is looked at in between, so what is behind a
//! NAT is slower by up to [`IDLE`], not less.

use crate::gateway::{Datagram, Gateway};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use xswan_ikev2::policy::Configuration;
use xswan_ikev2::{Input, Millis, RequestId, Statistics, Target};

/// How long nothing has to happen before the time is looked at.
const IDLE: Duration = Duration::from_millis(1);
/// Before every IKE message on port 4500 (RFC 7296 section 2.23).
const MARKER: [u8; 4] = [0; 4];
/// The longest datagram.
const DATAGRAM_MAX: usize = 65_535;

/// What became of a number of wishes.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Granted.
    pub done: usize,
    /// Why the others were not.
    pub failed: Vec<String>,
    /// From the first wish to the last answer.
    pub elapsed: Duration,
}

/// The clients.
#[derive(Debug)]
pub struct Clients {
    gateway: Gateway,
    /// Ports 500 and 4500.
    sockets: [UdpSocket; 2],
    begin: Instant,
    buffer: Vec<u8>,
}

impl Clients {
    /// Clients at `address` with sockets bound to its ports 500 and 4500.
    ///
    /// # Errors
    /// The sockets cannot be set up.
    pub fn new(
        address: IpAddr,
        sockets: [UdpSocket; 2],
        configuration: Arc<Configuration>,
        seed: u64,
    ) -> io::Result<Self> {
        let [plain, marked] = &sockets;
        plain.set_read_timeout(Some(IDLE))?;
        marked.set_nonblocking(true)?;
        let gateway = Gateway::new(address, configuration, seed);
        Ok(Self { gateway, sockets, begin: Instant::now(), buffer: vec![0; DATAGRAM_MAX] })
    }

    /// Brings a child of a connection up.
    pub fn initiate(&mut self, connection: &str, child: &str) -> RequestId {
        let request = self.gateway.ask();
        self.input(Input::Initiate {
            connection: Some(connection.to_owned()),
            child: Some(child.to_owned()),
            packet: None,
            request: Some(request),
        });
        request
    }

    /// Closes the IKE SAs of a connection and waits for the peer's answer.
    pub fn terminate(&mut self, connection: &str) -> RequestId {
        let request = self.gateway.ask();
        let target = Target::Connection(connection.to_owned());
        self.input(Input::Terminate { target, force: false, request: Some(request) });
        request
    }

    /// Asks `count` times, never more than `in_flight` unanswered at once, until all are
    /// answered or `limit` is over; what is not answered by then has failed.
    ///
    /// # Errors
    /// A socket is broken.
    pub fn each(
        &mut self,
        count: usize,
        in_flight: usize,
        limit: Duration,
        mut ask: impl FnMut(&mut Self, usize) -> RequestId,
    ) -> io::Result<Tally> {
        let begin = Instant::now();
        let (mut asked, mut waiting, mut tally) = (0, 0, Tally::default());
        while (asked < count || waiting > 0) && begin.elapsed() < limit {
            while asked < count && waiting < in_flight {
                ask(self, asked);
                (asked, waiting) = (asked + 1, waiting + 1);
            }
            self.step()?;
            for (_, answer) in self.answers() {
                waiting -= 1;
                match answer {
                    Ok(_) => tally.done += 1,
                    Err(why) => tally.failed.push(why),
                }
            }
        }
        let unanswered = count - tally.done - tally.failed.len();
        tally.failed.extend((0..unanswered).map(|_| "not answered in time".to_owned()));
        tally.elapsed = begin.elapsed();
        Ok(tally)
    }

    /// Questions answered since this was last called.
    pub fn answers(&mut self) -> BTreeMap<u64, Result<u32, String>> {
        // Nobody reads the log of a run with thousands of clients.
        self.gateway.log.clear();
        std::mem::take(&mut self.gateway.answers)
    }

    /// Handles what has arrived and what is due; waits a little for a datagram if there is none.
    ///
    /// # Errors
    /// A socket is broken.
    pub fn step(&mut self) -> io::Result<()> {
        if let Some((octets, remote)) = self.receive(0)? {
            self.datagram(500, remote, octets);
        }
        while let Some((octets, remote)) = self.receive(1)? {
            if let Some(message) = octets.strip_prefix(&MARKER) {
                self.datagram(4500, remote, message.to_vec());
            }
        }
        let now = self.now();
        if self.gateway.engine.deadline().is_some_and(|due| due <= now) {
            self.input(Input::Timer);
        }
        Ok(())
    }

    /// What the core has counted.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        *self.gateway.engine.statistics()
    }

    /// The clients' core with its Child SAs.
    #[must_use]
    pub const fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn receive(&mut self, socket: usize) -> io::Result<Option<(Vec<u8>, SocketAddr)>> {
        let Some(socket) = self.sockets.get(socket) else { return Ok(None) };
        match socket.recv_from(&mut self.buffer) {
            Ok((len, remote)) => {
                Ok(Some((self.buffer.get(..len).unwrap_or_default().to_vec(), remote)))
            }
            Err(error) if is_nothing(error.kind()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn datagram(&mut self, port: u16, remote: SocketAddr, octets: Vec<u8>) {
        let local = SocketAddr::new(self.gateway.address(), port);
        self.input(Input::Datagram { local, remote, octets });
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        for Datagram { from, to, octets } in self.gateway.handle(input, now) {
            let [plain, marked] = &self.sockets;
            // What the kernel does not take is lost, as any datagram may be.
            let _sent = if from.port() == 500 {
                plain.send_to(&octets, to)
            } else {
                marked.send_to(&[&MARKER[..], &octets].concat(), to)
            };
        }
    }
}

/// Nothing has arrived, or only that something sent earlier did not.
const fn is_nothing(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, Interrupted, TimedOut, WouldBlock};
    matches!(kind, WouldBlock | TimedOut | Interrupted | ConnectionRefused | HostUnreachable)
}
