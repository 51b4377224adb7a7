//! Handshakes between two cores on a clean wire.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;
use xswan_ikev2::Input;
use xswan_ikev2::policy::ConnectionPolicy;
use xswan_ikev2::wire::{Transform, transform};
use xswan_simulation::{Gateway, Network, policies};

fn network(change: impl Fn(usize, &mut ConnectionPolicy)) -> Network {
    let gateway = |number: usize| {
        let mut connection = policies::connection(number);
        change(number, &mut connection);
        let configuration = Arc::new(policies::configuration(connection));
        Gateway::new(policies::ADDRESSES[number], configuration, 7 + number as u64)
    };
    Network::new([gateway(0), gateway(1)], 99)
}

fn initiate(network: &mut Network) -> Result<u32, String> {
    let request = network.gateways[0].ask();
    let input = Input::Initiate {
        connection: Some("peer".into()),
        child: Some("net".into()),
        packet: None,
        request: Some(request),
    };
    network.input(0, input);
    network.run_for(200_000);
    network.gateways[0].answers.remove(&request.0).expect("an answer")
}

fn assert_up(network: &Network) {
    let log = || (network.gateways[0].log.join("\n"), network.gateways[1].log.join("\n"));
    assert!(network.agrees(), "{:#?}", log());
    for gateway in &network.gateways {
        assert_eq!(gateway.outbound_children(), 1, "{:#?}", log());
    }
}

#[test]
fn psk_in_four_messages() {
    let mut network = network(|_, _| {});
    assert_eq!(initiate(&mut network), Ok(1), "{:#?}", network.gateways[0].log);
    assert_up(&network);
    assert_eq!(network.sent, [2, 2]);
}

#[test]
fn invalid_ke_payload_names_the_group() {
    let mut network = network(|gateway, connection| {
        let transforms = &mut connection.proposals[0].transforms;
        transforms.retain(|item| item.kind != transform::KE);
        if gateway == 0 {
            transforms.push(Transform::new(transform::KE, 31));
        }
        transforms.push(Transform::new(transform::KE, 19));
    });
    assert_eq!(initiate(&mut network), Ok(1), "{:#?}", network.gateways[0].log);
    assert_up(&network);
    assert_eq!(network.sent, [3, 3]);
}

#[test]
fn additional_key_exchange_with_ml_kem() {
    let mut network = network(|_, connection| {
        connection.proposals[0].transforms.push(Transform::new(transform::ADDKE1, 36));
    });
    assert_eq!(initiate(&mut network), Ok(1), "{:#?}", network.gateways[1].log);
    assert_up(&network);
}

#[test]
fn no_common_proposal_is_told_with_what_is_missing() {
    let mut network = network(|gateway, connection| {
        if gateway == 1 {
            connection.proposals[0].transforms[0] =
                Transform::with_key_bits(transform::ENCR, 20, 256);
        }
    });
    let why = initiate(&mut network).expect_err("refused");
    assert!(why.contains("NO_PROP"), "{why}");
    let log = network.gateways[1].log.join("\n");
    assert!(log.contains("encryption: we allow"), "{log}");
    assert!(network.gateways.iter().all(|gateway| gateway.spis().is_empty()));
}

#[test]
fn cbc_and_hmac_for_older_peers() {
    let mut network = network(|_, connection| {
        connection.proposals[0].transforms = vec![
            Transform::with_key_bits(transform::ENCR, 12, 256),
            Transform::new(transform::INTEG, 12),
            Transform::new(transform::PRF, 5),
            Transform::new(transform::KE, 14),
        ];
    });
    assert_eq!(initiate(&mut network), Ok(1), "{:#?}", network.gateways[0].log);
    assert_up(&network);
}

#[test]
fn dos_05_cookies_come_to_be_required_between_two_copies_of_a_request() {
    let mut network = network(|_, _| {});
    let mut configuration = policies::configuration(policies::connection(1));
    configuration.settings.cookie_threshold = 1;
    network.gateways[1] = Gateway::new(policies::ADDRESSES[1], Arc::new(configuration), 8);
    // The first answer is lost, and with it a half-open SA comes to be.
    network.filter = Some(|from, _| from == 1);
    let request = network.gateways[0].ask();
    let input = Input::Initiate {
        connection: Some("peer".into()),
        child: Some("net".into()),
        packet: None,
        request: Some(request),
    };
    network.input(0, input);
    network.run_for(1_000);
    assert_eq!(network.gateways[1].engine.half_open(), 1);
    network.filter = None;
    network.run_for(20_000);
    assert_eq!(network.gateways[0].answers.remove(&request.0), Some(Ok(1)));
    assert_up(&network);
    assert_eq!(network.gateways[1].engine.half_open(), 0);
}
