//! A peer that has proved who it is and then sends what nobody should.
//!
//! It has the keys and the message IDs, so nothing but the machine itself stands in its way.

mod create_child_sa;
mod crowd;
mod informational;

use super::*;
use crate::action::ChildMode;
use crate::policy::{
    AddressPattern, ChildPolicy, Childless, Fragmentation, Lifetime, LocalRound, ProposalPolicy,
    RemoteRound, SelectorTemplate, SendCertificate, StartAction,
};
use crate::view::IkeSaView;
use crate::wire::{TrafficSelector, Transform, transform};
use xswan_credentials::{AuthMethod, IdentityPattern, PeerPolicy, SharedSecretKind, SharedSecrets};
use xswan_ike_crypto::{Random, Secret};

/// A host that checks that SPIs are given back once.
struct TestHost {
    counter: u64,
    spis: BTreeSet<u32>,
}

impl Random for TestHost {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            self.counter += 1;
            let block = sha256(&[&self.counter.to_be_bytes()]);
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

impl Host for TestHost {
    fn random(&mut self) -> &mut dyn Random {
        self
    }

    fn local_address(&mut self, _remote: IpAddr) -> Option<IpAddr> {
        None
    }

    fn reserve_spi(&mut self) -> Option<u32> {
        self.counter += 1;
        let spi = 0x1000_0000 + self.counter as u32;
        self.spis.insert(spi);
        Some(spi)
    }

    fn release_spi(&mut self, spi: u32) {
        assert!(self.spis.remove(&spi), "SPI {spi:08x} was not reserved");
    }
}

fn network(number: u8) -> TrafficSelector {
    TrafficSelector::addresses([10, number, 0, 0].into(), [10, number, 255, 255].into())
}

fn proposal(sn: bool) -> ProposalPolicy {
    let mut transforms =
        vec![Transform::with_key_bits(transform::ENCR, 20, 128), Transform::new(transform::KE, 31)];
    transforms.push(if sn {
        Transform::new(transform::SN, 0)
    } else {
        Transform::new(transform::PRF, 5)
    });
    ProposalPolicy { transforms }
}

fn address(side: usize) -> IpAddr {
    [192, 0, 2, 1 + side as u8].into()
}

fn configuration(side: usize) -> Arc<Configuration> {
    let identity = |side: usize| Identity::parse(["gwa.test", "gwb.test"][side]).expect("a name");
    let other = 1 - side;
    let fixed = |number: usize| vec![SelectorTemplate::Fixed(network(number as u8 + 1))];
    let child = ChildPolicy {
        name: "net".into(),
        mode: ChildMode::Tunnel,
        proposals: vec![proposal(true)],
        local_ts: fixed(side),
        remote_ts: fixed(other),
        lifetime: Lifetime::default(),
        start_action: StartAction::None,
        close_action: StartAction::None,
        dpd_action: StartAction::None,
        inactivity_ms: 0,
    };
    let single = |side| vec![AddressPattern::Range(address(side), address(side))];
    let connection = ConnectionPolicy {
        name: "peer".into(),
        local_addresses: single(side),
        remote_addresses: single(other),
        local_port: 500,
        remote_port: 500,
        proposals: vec![proposal(false)],
        local_rounds: vec![LocalRound {
            method: AuthMethod::Psk,
            id: Some(identity(side)),
            eap_id: None,
            certificates: Vec::new(),
            public_keys: Vec::new(),
            eap_tls: None,
        }],
        remote_rounds: vec![RemoteRound {
            method: AuthMethod::Psk,
            id: IdentityPattern::exact(identity(other)),
            eap_id: None,
            peer: PeerPolicy::default(),
            eap_tls: None,
        }],
        children: vec![Arc::new(child)],
        vips: Vec::new(),
        pools: Vec::new(),
        encap: false,
        mobike: false,
        fragmentation: Fragmentation::Yes,
        childless: Childless::Allow,
        unique: Unique::No,
        dpd_delay_ms: 0,
        lifetime: Lifetime::default(),
        reauth_ms: 0,
        keying_tries: 1,
        send_certificate: SendCertificate::Never,
        send_certificate_request: false,
        ppk_id: None,
        ppk_required: false,
    };
    let mut secrets = SharedSecrets::default();
    let key = Secret::from_slice(b"a key for tests");
    secrets.add(SharedSecretKind::Ike, [], key).expect("no owner");
    Arc::new(Configuration {
        connections: vec![Arc::new(connection)],
        secrets,
        ..Configuration::default()
    })
}

/// Us, and the peer, whose engine only lends its keys.
struct World {
    us: (Engine, TestHost),
    peer: (Engine, TestHost),
    now: Now,
    installed: BTreeMap<crate::input::ChildId, u32>,
    log: Vec<String>,
}

fn host(counter: u64) -> TestHost {
    TestHost { counter, spis: BTreeSet::new() }
}

impl World {
    /// With the child `net` up.
    fn up() -> Self {
        let mut world = Self {
            us: (Engine::new(configuration(0)), host(0)),
            peer: (Engine::new(configuration(1)), host(1 << 20)),
            now: Now { monotonic: Millis(1_000), unix_s: 1_800_000_000 },
            installed: BTreeMap::new(),
            log: Vec::new(),
        };
        let input = Input::Initiate {
            connection: Some("peer".into()),
            child: Some("net".into()),
            packet: None,
            request: None,
        };
        let (engine, host) = &mut world.us;
        engine.handle(input, world.now, host);
        for _ in 0..2 {
            for octets in world.take_ours() {
                world.at_peer(octets);
            }
            for octets in world.take_peers() {
                world.at_us(octets);
            }
        }
        assert_eq!(world.view().children.len(), 1, "{}", world.log.join("\n"));
        world
    }

    fn at_us(&mut self, octets: Vec<u8>) {
        let (engine, host) = &mut self.us;
        let (local, remote) = (SocketAddr::new(address(0), 500), SocketAddr::new(address(1), 500));
        engine.handle(Input::Datagram { local, remote, octets }, self.now, host);
    }

    fn at_peer(&mut self, octets: Vec<u8>) {
        let (engine, host) = &mut self.peer;
        let (local, remote) = (SocketAddr::new(address(1), 500), SocketAddr::new(address(0), 500));
        engine.handle(Input::Datagram { local, remote, octets }, self.now, host);
    }

    /// What we have sent; the dataplane is kept in mind.
    fn take_ours(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        while let Some(action) = self.us.0.next_action() {
            match action {
                Action::Send { octets, .. } => sent.push(octets),
                Action::InstallChild(install) => {
                    assert!(self.us.1.spis.contains(&install.spi_in));
                    let earlier = self.installed.insert(install.child, install.spi_in);
                    assert!(earlier.is_none());
                }
                Action::RemoveChild { child, .. } => {
                    let spi = self.installed.remove(&child).expect("it was installed");
                    self.us.1.release_spi(spi);
                }
                Action::Event(event) => self.log.push(event.text),
                Action::Keepalive { .. }
                | Action::SwitchOutbound { .. }
                | Action::MoveChild { .. }
                | Action::AddVirtualIp { .. }
                | Action::RemoveVirtualIp { .. }
                | Action::Done { .. } => {}
            }
        }
        sent
    }

    fn take_peers(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        while let Some(action) = self.peer.0.next_action() {
            if let Action::Send { octets, .. } = action {
                sent.push(octets);
            }
        }
        sent
    }

    /// Our IKE SA.
    fn view(&self) -> IkeSaView {
        self.us.0.ike_sas(self.now.monotonic).next().expect("an IKE SA")
    }

    fn is_up(&self) -> bool {
        self.us.0.ike_sas(self.now.monotonic).count() > 0
    }

    fn peer_core<T>(
        &mut self,
        work: impl FnOnce(&mut crate::sa::SaCore, &mut Context<'_>) -> T,
    ) -> T {
        let (engine, host) = &mut self.peer;
        let id = *engine.sas.keys().next().expect("an IKE SA");
        let mut result = None;
        engine.with_sa(self.now, host, id, |mut state, ctx| {
            result = state.core_mut().map(|core| work(core, ctx));
            state
        });
        result.expect("keys")
    }

    /// The peer asks; our answer, if there is one. What the peer's engine makes of the answer
    /// does not matter: it is told nothing.
    fn ask(&mut self, exchange: ExchangeType, payloads: &[Payload]) -> Option<Vec<Payload>> {
        let datagrams = self.peer_core(|core, ctx| {
            let id = core.requests.next_id();
            let datagrams = core.seal(ctx, exchange, id, false, payloads);
            core.requests = crate::message_id::Requests::starting_at(id + 1);
            datagrams
        });
        self.take_peers();
        for octets in datagrams {
            self.at_us(octets);
        }
        let answers = self.take_ours();
        let [answer] = answers.as_slice() else {
            assert!(answers.is_empty(), "one answer or none: {}", answers.len());
            // It was not taken note of: the next request has the same ID.
            self.peer_core(|core, _| {
                let id = core.requests.next_id() - 1;
                core.requests = crate::message_id::Requests::starting_at(id);
            });
            return None;
        };
        // Without protection it is a hint that there is no such IKE SA.
        wire::parse_datagram(answer).expect("a message").encrypted?;
        let (header, payloads) = self.read(answer);
        assert!(header.flags.response && header.exchange == exchange);
        Some(payloads)
    }

    /// What the peer reads in a message of ours.
    fn read(&mut self, octets: &[u8]) -> (Header, Vec<Payload>) {
        let parsed = wire::parse_datagram(octets).expect("a message");
        let encrypted = parsed.encrypted.expect("an SK payload");
        let (aad, body) = (&octets[encrypted.aad.clone()], &octets[encrypted.body.clone()]);
        let plaintext = self.peer_core(|core, _| core.inbound.open(aad, body)).expect("the keys");
        let payloads = wire::parse_chain(encrypted.inner_first, &plaintext).expect("payloads");
        (parsed.header, payloads)
    }

    /// Nothing is reserved that is not installed.
    fn assert_no_orphans(&self) {
        let log = || self.log.join("\n");
        assert_eq!(self.us.1.spis.len(), self.reserved(), "{}", log());
        let known: usize = self.us.0.ike_sas(self.now.monotonic).map(|sa| sa.children.len()).sum();
        assert_eq!(self.installed.len(), known, "{}", log());
    }

    /// SPIs of installed children, and of a child whose additional key exchanges are to come.
    fn reserved(&self) -> usize {
        let follow_ups = self.us.0.sas.values().filter(|state| match state {
            State::Established(sa) => sa.follow_up.is_some(),
            _ => false,
        });
        self.installed.len() + follow_ups.count()
    }
}

fn errors(payloads: &[Payload]) -> Vec<Notify> {
    wire::notifies(payloads).filter(|notify| notify.kind.is_error()).cloned().collect()
}
