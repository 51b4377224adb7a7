//! Handshakes a second: our core initiates over UDP, strongSwan and xswan respond in turn.
//!
//! Every handshake is a new peer with an identity and an inner address of its own:
//! IKE_SA_INIT and IKE_AUTH, an IKE SA and a Child SA, with a pre-shared key, x25519 and
//! AES-128-GCM. In a round all of them are brought up, then all are closed; the responder's
//! processor time is read before, between and after. Rounds of both responders take turns, so
//! that whatever else the machine does meets both. The initiator stays on one core, the
//! responder on another.

use crate::charon::{self, Charon};
use crate::processor_time;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use xswan_ikev2::policy::Configuration;
use xswan_simulation::{Clients, Tally, policies};
use xswan_testkit::failure::{Failure, Outcome};
use xswan_testkit::gateway::{Gateway, GatewayConfig};
use xswan_testkit::netns::{Namespace, veth};
use xswan_testkit::topology;

/// Outer addresses: the clients' and the responder's.
const ADDRESSES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
/// The key that [`policies::clients`] use.
const SECRET: &str = "a key for tests";
/// How long a part of a round may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Who responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// charon-systemd.
    Strongswan,
    /// xswan-control and xswan-dataplane.
    Xswan,
}

/// `xswan-perf handshakes`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Who responds, in turn.
    #[arg(long, value_delimiter = ',', default_value = "strongswan,xswan")]
    peers: Vec<Peer>,
    /// Rounds of each.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Handshakes of a round.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    count: u16,
    /// Handshakes under way at once.
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    /// Core of the initiator.
    #[arg(long, default_value_t = 0)]
    initiator_core: usize,
    /// Core of the responder.
    #[arg(long, default_value_t = 1)]
    responder_core: usize,
    /// xswan keeps its state over restarts, as it does by default; strongSwan cannot.
    #[arg(long)]
    keep_state: bool,
    /// Where to write the result as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Three namespaces: clients, responder, and what lies behind the responder.
struct Place {
    clients: Namespace,
    responder: Namespace,
    _inside: Namespace,
}

impl Place {
    fn create() -> Outcome<Self> {
        let (clients, responder) = (Namespace::create("hi")?, Namespace::create("hr")?);
        let inside = Namespace::create("hn")?;
        veth((&clients, "eth0"), (&responder, "eth0"))?;
        veth((&responder, "eth1"), (&inside, "eth0"))?;
        clients.address("eth0", &format!("{}/24", ADDRESSES[0]))?;
        responder.address("eth0", &format!("{}/24", ADDRESSES[1]))?;
        responder.address("eth1", "10.2.0.1/16")?;
        Ok(Self { clients, responder, _inside: inside })
    }

    fn sockets(&self) -> Outcome<[UdpSocket; 2]> {
        let open = |port| self.clients.enter(|| UdpSocket::bind((ADDRESSES[0], port)));
        Ok([open(500)??, open(4500)??])
    }
}

/// A responder that runs.
enum Responder<'a> {
    Strongswan(Charon),
    Xswan(Box<Gateway<'a>>),
}

impl<'a> Responder<'a> {
    fn start(peer: Peer, place: &'a Place, arguments: &Arguments) -> Outcome<Self> {
        pin(arguments.responder_core)?;
        let started = match peer {
            Peer::Strongswan => {
                Charon::start(&place.responder, ADDRESSES[1], SECRET).map(Self::Strongswan)
            }
            Peer::Xswan => Gateway::start(&place.responder, xswan(arguments))
                .map(|gateway| Self::Xswan(Box::new(gateway))),
        };
        pin(arguments.initiator_core)?;
        started
    }

    /// Its processes by name.
    fn processes(&mut self) -> Outcome<Vec<(&'static str, u32)>> {
        Ok(match self {
            Self::Strongswan(charon) => vec![("charon", charon.pid())],
            Self::Xswan(gateway) => vec![
                ("xswan-control", gateway.control()?.pid()),
                ("xswan-dataplane", gateway.dataplane()?.pid()),
            ],
        })
    }
}

/// Keeps this thread, and what it starts, on a core.
fn pin(core: usize) -> Outcome<()> {
    let done = core_affinity::set_for_current(core_affinity::CoreId { id: core });
    done.then_some(()).ok_or_else(|| Failure::new(format!("core {core} cannot be had")))
}

fn xswan(arguments: &Arguments) -> GatewayConfig {
    let mut config = topology::instance("hs");
    config.main_core = arguments.responder_core;
    config.workers = arguments.responder_core.to_string();
    config.appendix = format!(
        "[ike]\ncookie_threshold = 0\ncookie_threshold_ip = 0\nblock_threshold = 0\n\
         init_limit_half_open = 0\ninstall_routes = false\ninstall_virtual_ip = false\n\
         keep_state = {}\n\
         [connections.clients]\nlocal_addrs = {:?}\nremote_addrs = \"%any\"\n\
         proposals = [\"aes128gcm16-prfsha256-x25519\"]\nunique = \"never\"\nmobike = false\n\
         [connections.clients.local]\nauth = \"psk\"\nid = \"gwb.test\"\n\
         [connections.clients.remote]\nauth = \"psk\"\nid = \"%any\"\n\
         [connections.clients.children.net]\nlocal_ts = [\"10.2.0.0/16\"]\n\
         remote_ts = [\"10.1.0.0/16\"]\nesp_proposals = [\"aes128gcm16-x25519-esn-noesn\"]\n\
         [secrets.ike]\nsecret = {SECRET:?}\n",
        arguments.keep_state, ADDRESSES[1]
    );
    config
}

/// One half of a round.
struct Part {
    per_second: f64,
    /// Processor time for each handshake, in microseconds, by process.
    each_us: Vec<f64>,
    retransmissions: u64,
}

/// Rounds of one responder.
struct Series<'a> {
    peer: Peer,
    place: &'a Place,
    responder: Responder<'a>,
    handshakes: Vec<Part>,
    deletions: Vec<Part>,
}

impl Series<'_> {
    fn times(&mut self) -> Outcome<Vec<Duration>> {
        self.responder.processes()?.iter().map(|(_, pid)| processor_time::of(*pid)).collect()
    }

    fn part(
        &mut self,
        clients: &mut Clients,
        run: impl FnOnce(&mut Clients) -> std::io::Result<Tally>,
    ) -> Outcome<Part> {
        let before = self.times()?;
        let resent = clients.statistics().retransmitted_requests;
        let tally = run(clients)?;
        let after = self.times()?;
        if let Some(why) = tally.failed.first() {
            let (failed, peer) = (tally.failed.len(), self.peer);
            return Err(Failure::new(format!("{peer:?}: {failed} failed, the first: {why}")));
        }
        let done = tally.done as f64;
        let spent = before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before));
        Ok(Part {
            per_second: done / tally.elapsed.as_secs_f64(),
            each_us: spent.map(|spent| spent.as_secs_f64() * 1e6 / done).collect(),
            retransmissions: clients.statistics().retransmitted_requests - resent,
        })
    }

    fn round(&mut self, arguments: &Arguments, seed: u64) -> Outcome<()> {
        let mut configuration: Configuration = policies::clients(arguments.count);
        configuration.settings.retransmit_timeout_ms = 1_000;
        let address = ADDRESSES[0].parse().map_err(|_| Failure::new("no address"))?;
        let sockets = self.place.sockets()?;
        let mut clients = Clients::new(address, sockets, Arc::new(configuration), seed)?;
        let (count, in_flight) = (usize::from(arguments.count), arguments.in_flight);
        let name = |client: usize| policies::client_name(client as u16);
        let up = self.part(&mut clients, |clients| {
            clients.each(count, in_flight, LIMIT, |clients, client| {
                clients.initiate(&name(client), "net")
            })
        })?;
        let down = self.part(&mut clients, |clients| {
            clients
                .each(count, in_flight, LIMIT, |clients, client| clients.terminate(&name(client)))
        })?;
        self.handshakes.push(up);
        self.deletions.push(down);
        Ok(())
    }
}

/// Measures, prints a table, and writes JSON if asked to.
pub fn measure(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.initiator_core)?;
    let places =
        arguments.peers.iter().map(|_| Place::create()).collect::<Outcome<Vec<Place>>>()?;
    let mut all = Vec::new();
    for (peer, place) in arguments.peers.iter().zip(&places) {
        let responder = Responder::start(*peer, place, arguments)?;
        let (handshakes, deletions) = (Vec::new(), Vec::new());
        all.push(Series { peer: *peer, place, responder, handshakes, deletions });
    }
    let base = u64::from(std::process::id()) << 32;
    for round in 0..arguments.rounds {
        for (position, series) in all.iter_mut().enumerate() {
            series.round(arguments, base + (round * 16 + position) as u64)?;
        }
    }
    let mut results = Vec::new();
    for series in &mut all {
        let names: Vec<&str> =
            series.responder.processes()?.into_iter().map(|(name, _)| name).collect();
        for (what, parts) in [("handshake", &series.handshakes), ("delete", &series.deletions)] {
            results.push(summary(series.peer, what, &names, parts));
        }
    }
    crate::report::handshakes(&results);
    if let Some(path) = &arguments.json {
        let strongswan = charon::version();
        let text = json!({
            "strongswan": strongswan, "count": arguments.count, "rounds": arguments.rounds,
            "in_flight": arguments.in_flight, "keep_state": arguments.keep_state,
            "results": results,
        });
        std::fs::write(path, text.to_string())?;
    }
    Ok(())
}

/// Median, lowest and highest.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |position: usize| values.get(position).copied().unwrap_or(f64::NAN);
    [at(values.len() / 2), at(0), at(values.len().saturating_sub(1))]
}

fn summary(peer: Peer, what: &str, names: &[&str], parts: &[Part]) -> serde_json::Value {
    let process = |(position, name): (usize, &&str)| {
        let times = parts.iter().filter_map(|part| part.each_us.get(position).copied());
        json!({"process": name, "each_us": spread(times)})
    };
    json!({
        "peer": format!("{peer:?}").to_lowercase(),
        "what": what,
        "per_second": spread(parts.iter().map(|part| part.per_second)),
        "each_us": spread(parts.iter().map(|part| part.each_us.iter().sum())),
        "processes": names.iter().enumerate().map(process).collect::<Vec<_>>(),
        "retransmissions": parts.iter().map(|part| part.retransmissions).sum::<u64>(),
    })
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn the_middle_of_an_odd_number_of_rounds() {
        assert_eq!(spread([5.0, 1.0, 3.0].into_iter()), [3.0, 1.0, 5.0]);
    }
}
