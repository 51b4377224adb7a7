//! Configurations for tests, with a pre-shared key and small parts to change.

use std::net::IpAddr;
use std::sync::Arc;
use xswan_credentials::{
    AuthMethod, Identity, IdentityPattern, PeerPolicy, SharedSecretKind, SharedSecrets,
};
use xswan_ike_crypto::Secret;
use xswan_ikev2::action::ChildMode;
use xswan_ikev2::policy::{
    AddressPattern, ChildPolicy, Childless, Configuration, ConnectionPolicy, Fragmentation,
    Lifetime, LocalRound, ProposalPolicy, RemoteRound, SelectorTemplate, SendCertificate,
    StartAction, Unique,
};
use xswan_ikev2::wire::{TrafficSelector, Transform, transform};

/// Addresses of the two gateways.
pub const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)),
];

/// The pre-shared key of everybody.
pub const KEY: &[u8] = b"a key for tests";

/// `aes128gcm16-prfsha256-x25519`.
#[must_use]
pub fn ike_proposal() -> ProposalPolicy {
    ProposalPolicy {
        transforms: vec![
            Transform::with_key_bits(transform::ENCR, 20, 128),
            Transform::new(transform::PRF, 5),
            Transform::new(transform::KE, 31),
        ],
    }
}

/// `aes128gcm16-x25519-esn-noesn`.
#[must_use]
pub fn esp_proposal() -> ProposalPolicy {
    ProposalPolicy {
        transforms: vec![
            Transform::with_key_bits(transform::ENCR, 20, 128),
            Transform::new(transform::KE, 31),
            Transform::new(transform::SN, 1),
            Transform::new(transform::SN, 0),
        ],
    }
}

/// `10.N.0.0/16`, the network behind gateway N - 1.
#[must_use]
pub fn network(number: u8) -> TrafficSelector {
    TrafficSelector::addresses([10, number, 0, 0].into(), [10, number, 255, 255].into())
}

/// A child between the networks behind two gateways.
#[must_use]
pub fn child(name: &str, own: u8, other: u8) -> ChildPolicy {
    ChildPolicy {
        name: name.to_owned(),
        mode: ChildMode::Tunnel,
        proposals: vec![esp_proposal()],
        local_ts: vec![SelectorTemplate::Fixed(network(own))],
        remote_ts: vec![SelectorTemplate::Fixed(network(other))],
        lifetime: Lifetime::default(),
        start_action: StartAction::None,
        close_action: StartAction::None,
        dpd_action: StartAction::None,
        inactivity_ms: 0,
    }
}

/// The identity of a gateway.
///
/// # Panics
/// Never: the name is one.
#[must_use]
pub fn identity(gateway: usize) -> Identity {
    Identity::parse(if gateway == 0 { "gwa.test" } else { "gwb.test" }).expect("a name")
}

/// A connection of gateway 0 or 1 to the other one.
#[must_use]
pub fn connection(gateway: usize) -> ConnectionPolicy {
    let (own, other) = if gateway == 0 { (1, 2) } else { (2, 1) };
    let remote =
        ADDRESSES.into_iter().nth(1 - gateway.min(1)).map(|ip| AddressPattern::Range(ip, ip));
    let remote = if gateway == 0 { remote } else { None };
    ConnectionPolicy {
        name: "peer".to_owned(),
        local_addresses: Vec::new(),
        remote_addresses: remote.into_iter().collect(),
        local_port: 500,
        remote_port: 500,
        proposals: vec![ike_proposal()],
        local_rounds: vec![LocalRound {
            method: AuthMethod::Psk,
            id: Some(identity(gateway)),
            eap_id: None,
            certificates: Vec::new(),
            public_keys: Vec::new(),
            eap_tls: None,
        }],
        remote_rounds: vec![RemoteRound {
            method: AuthMethod::Psk,
            id: IdentityPattern::exact(identity(1 - gateway.min(1))),
            eap_id: None,
            peer: PeerPolicy::default(),
            eap_tls: None,
        }],
        children: vec![Arc::new(child("net", own, other))],
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
        send_certificate: SendCertificate::IfAsked,
        send_certificate_request: true,
        ppk_id: None,
        ppk_required: false,
    }
}

/// A configuration with one connection and the key that both sides share.
///
/// # Panics
/// Never: the key has no owner that could be misspelt.
#[must_use]
pub fn configuration(connection: ConnectionPolicy) -> Configuration {
    let mut secrets = SharedSecrets::default();
    let key = Secret::from_slice(KEY);
    secrets.add(SharedSecretKind::Ike, [], key).expect("no owner");
    Configuration { connections: vec![Arc::new(connection)], secrets, ..Configuration::default() }
}

/// The name of a client's connection in [`clients`].
#[must_use]
pub fn client_name(client: u16) -> String {
    format!("client-{client}")
}

/// Connections of `count` clients at gateway 0's address to gateway 1: each has an identity of
/// its own and one address of `10.1.0.0/16`, and a child called `net` to `10.2.0.0/16`.
///
/// # Panics
/// Never: the names are names.
#[must_use]
pub fn clients(count: u16) -> Configuration {
    let clients = (0..count).map(|client| {
        let [high, low] = client.to_be_bytes();
        let address = IpAddr::from([10, 1, high, low]);
        let mut connection = connection(0);
        connection.name = client_name(client);
        connection.unique = Unique::Never;
        for round in &mut connection.local_rounds {
            let name = format!("{}.test", client_name(client));
            round.id = Some(Identity::parse(&name).expect("a name"));
        }
        let own = SelectorTemplate::Fixed(TrafficSelector::addresses(address, address));
        connection.children =
            vec![Arc::new(ChildPolicy { local_ts: vec![own], ..child("net", 1, 2) })];
        Arc::new(connection)
    });
    let connections = clients.collect();
    Configuration { connections, ..configuration(connection(0)) }
}

/// Gateway 1 as [`clients`] find it: one connection for all of them.
#[must_use]
pub fn clients_gateway() -> Configuration {
    let mut connection = connection(1);
    connection.unique = Unique::Never;
    for round in &mut connection.remote_rounds {
        round.id = IdentityPattern::ANY;
    }
    configuration(connection)
}
