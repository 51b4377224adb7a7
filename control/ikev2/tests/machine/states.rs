//! How each state is reached.

use xswan_credentials::{IdentityPattern, SharedSecretKind};
use xswan_ike_crypto::{Group, KeyExchange, Secret};
use xswan_ikev2::Input;
use xswan_ikev2::input::Target;
use xswan_ikev2::policy::{Configuration, ConnectionPolicy};
use xswan_ikev2::wire::{
    self, ExchangeType, Nonce, Payload, Proposal, SecurityAssociation, Transform, protocol,
};
use xswan_simulation::peer::{Duel, Peer};
use xswan_simulation::policies;

/// A state of the gateway.
pub struct Entry {
    pub name: &'static str,
    pub reach: fn() -> Duel,
    /// Message ID of the peer's next request.
    pub next_request: u32,
    /// Message ID of the gateway's request that is not answered.
    pub outstanding: Option<u32>,
}

/// All of them.
pub const STATES: &[Entry] = &[
    Entry { name: "no IKE SA", reach: nothing, next_request: 0, outstanding: None },
    Entry { name: "InitRequested", reach: init_requested, next_request: 0, outstanding: Some(0) },
    Entry {
        name: "IntermediateRequested",
        reach: intermediate_requested,
        next_request: 0,
        outstanding: Some(1),
    },
    Entry { name: "AuthRequested", reach: auth_requested, next_request: 0, outstanding: Some(1) },
    Entry { name: "HalfOpen", reach: half_open, next_request: 1, outstanding: None },
    Entry { name: "Authenticating", reach: authenticating, next_request: 2, outstanding: None },
    Entry {
        name: "Established, started by us",
        reach: started_by_us,
        next_request: 0,
        outstanding: None,
    },
    Entry {
        name: "Established, started by the peer",
        reach: started_by_peer,
        next_request: 2,
        outstanding: None,
    },
    Entry {
        name: "Established, rekeying a Child SA",
        reach: rekeying_child,
        next_request: 2,
        outstanding: Some(0),
    },
    Entry {
        name: "Established, rekeying the IKE SA",
        reach: rekeying_ike,
        next_request: 2,
        outstanding: Some(0),
    },
    Entry {
        name: "Established, deleting a Child SA",
        reach: deleting_child,
        next_request: 2,
        outstanding: Some(0),
    },
    Entry {
        name: "Established, checking liveness",
        reach: checking,
        next_request: 2,
        outstanding: Some(0),
    },
    Entry {
        name: "Established, replaced by the peer's rekeying",
        reach: replaced,
        next_request: 3,
        outstanding: None,
    },
    Entry { name: "Established, closing", reach: closing, next_request: 2, outstanding: Some(0) },
];

/// The seed of everybody's entropy here.
const SEED: u64 = 5;

fn gateway(
    number: usize,
    connection: impl Fn(&mut ConnectionPolicy),
    configuration: impl Fn(&mut Configuration),
) -> Duel {
    Duel::with(number, SEED, connection, configuration)
}

fn plain(number: usize) -> Duel {
    gateway(number, |_| {}, |_| {})
}

fn nothing() -> Duel {
    let mut fresh = plain(1);
    fresh.peer = plain(1).established(SEED).peer;
    fresh
}

fn init_requested() -> Duel {
    let mut duel = plain(0);
    let request = duel.dialled();
    duel.peer = Peer::answering(1, &request, SEED, false).map(|(peer, _)| peer);
    duel
}

fn intermediate_requested() -> Duel {
    let mut duel = gateway(
        0,
        |connection| {
            let transforms = &mut connection.proposals[0].transforms;
            transforms.push(Transform::new(wire::transform::ADDKE1, 36));
        },
        |_| {},
    );
    let request = duel.dialled();
    let (peer, answer) = Peer::answering(1, &request, SEED, true).expect("a request");
    duel.peer = Some(peer);
    assert_eq!(duel.tell(answer).len(), 1, "{:?}", duel.gateway.log);
    duel
}

fn auth_requested() -> Duel {
    let mut duel = plain(0);
    duel.auth_requested(SEED);
    duel
}

fn half_open() -> Duel {
    plain(1).half_open(SEED)
}

fn authenticating() -> Duel {
    let mut duel = gateway(
        1,
        |connection| {
            let round = &mut connection.remote_rounds[0];
            round.method = "eap-mschapv2".parse().expect("a method");
            round.eap_id = Some(IdentityPattern::ANY);
        },
        |configuration| {
            let secret = Secret::from_slice(b"a password");
            let kind = SharedSecretKind::Eap;
            configuration.secrets.add(kind, ["gwa.test"], secret).expect("an owner");
        },
    )
    .half_open(SEED);
    let peer = duel.peer.as_mut().expect("keys");
    let mut payloads = peer.proof();
    payloads.retain(|payload| !matches!(payload, Payload::Auth(_)));
    payloads.extend(peer.child(0x0101_0101));
    let request = peer.message(ExchangeType::IKE_AUTH, 1, false, &payloads);
    duel.last_request = request.clone();
    assert_eq!(duel.tell(request).len(), 1, "{:?}", duel.gateway.log);
    duel
}

fn started_by_us() -> Duel {
    plain(0).established_by_gateway(SEED)
}

fn started_by_peer() -> Duel {
    plain(1).established(SEED)
}

fn with(input: Input) -> Duel {
    let mut duel = started_by_peer();
    assert_eq!(duel.input(input).len(), 1, "a request: {:?}", duel.gateway.log);
    duel
}

fn child() -> Target {
    Target::Child { connection: None, child: "net".into() }
}

fn rekeying_child() -> Duel {
    with(Input::Rekey { target: child(), reauthenticate: false, request: None })
}

fn rekeying_ike() -> Duel {
    let target = Target::Connection("peer".into());
    with(Input::Rekey { target, reauthenticate: false, request: None })
}

fn deleting_child() -> Duel {
    with(Input::Terminate { target: child(), force: false, request: None })
}

fn closing() -> Duel {
    let target = Target::Connection("peer".into());
    with(Input::Terminate { target, force: false, request: None })
}

fn checking() -> Duel {
    let mut duel =
        gateway(1, |connection| connection.dpd_delay_ms = 1_000, |_| {}).established(SEED);
    assert_eq!(duel.wait(1_000).len(), 1, "{:?}", duel.gateway.log);
    duel
}

fn replaced() -> Duel {
    let mut duel = started_by_peer();
    let peer = duel.peer.as_mut().expect("keys");
    let (_, public) = KeyExchange::generate(Group::Curve25519, peer.random()).expect("X25519");
    let transforms = policies::ike_proposal().transforms;
    let spi = vec![1, 2, 3, 4, 5, 6, 7, 8];
    let proposal = Proposal { number: 1, protocol: protocol::IKE, spi, transforms };
    let payloads = [
        Payload::Sa(SecurityAssociation { proposals: vec![proposal] }),
        Payload::Nonce(Nonce(vec![9; 32])),
        Payload::Ke(wire::KeyExchange { method: 31, data: public }),
    ];
    let request = peer.message(ExchangeType::CREATE_CHILD_SA, 2, false, &payloads);
    duel.last_request = request.clone();
    assert_eq!(duel.tell(request).len(), 1, "{:?}", duel.gateway.log);
    duel
}
