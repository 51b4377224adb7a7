//! MSCHAPv2, and what surrounds every method.

use xswan_eap::{
    Client, ClientConfig, ClientConfigError, ClientStep, MAX_IDENTITY_BYTES, Password, Peer,
    Reason, Server, ServerStep,
};

use crate::exchange::{Host, converse, password_client, password_server};

fn host() -> Host {
    Host::new(&[("alice", "correct horse"), ("CORP\\bob", "b"), ("zo\u{eb}", "pa\u{df}wort")])
}

#[test]
fn right_password_with_and_without_identity() {
    for ask_identity in [false, true] {
        let mut host = host();
        let client = password_client("alice", "correct horse");
        let outcome = converse(password_server(ask_identity), client, &mut host);
        let (msk, peer) = outcome.agreed();
        assert_eq!(*peer, Peer::User("alice".to_owned()));
        assert!(msk.as_bytes()[..32].iter().any(|octet| *octet != 0));
        assert_eq!(outcome.packets.len(), if ask_identity { 7 } else { 5 });
        assert_eq!(outcome.packets.last().unwrap()[0], 3);
    }
}

#[test]
fn names_with_domain_and_beyond_ascii() {
    for (user, password, found) in [
        ("CORP\\bob", "b", "CORP\\bob"),
        ("ELSEWHERE\\alice", "correct horse", "alice"),
        ("zo\u{eb}", "pa\u{df}wort", "zo\u{eb}"),
    ] {
        let outcome = converse(password_server(true), password_client(user, password), &mut host());
        assert_eq!(*outcome.agreed().1, Peer::User(found.to_owned()));
    }
}

#[test]
fn nt_hash_instead_of_the_password() {
    // MD4 of "clientPass" in UTF-16, RFC 2759 §9.2.
    let hash = [
        0x44, 0xeb, 0xba, 0x8d, 0x53, 0x12, 0xb8, 0xd6, 0x11, 0x47, 0x44, 0x11, 0xf5, 0x69, 0x89,
        0xae,
    ];
    let client = ClientConfig {
        identity: b"User".to_vec(),
        password: Some(Password::from_nt_hash(hash)),
        tls: None,
    };
    let mut host = Host::new(&[("User", "clientPass")]);
    converse(password_server(false), client, &mut host).agreed();
}

#[test]
fn aut_wrong_user_and_wrong_password_look_alike() {
    let mut lengths = Vec::new();
    for (user, password) in [("alice", "wrong"), ("nobody", "correct horse"), ("bob", "b")] {
        let outcome =
            converse(password_server(false), password_client(user, password), &mut host());
        assert_eq!(outcome.refused(), (&Reason::Credentials, &Reason::PasswordRefused(691)));
        let said = &outcome.packets[2];
        let text = String::from_utf8_lossy(said);
        assert!(text.contains("E=691 R=0") && !text.contains(user), "{text}");
        lengths.push(said.len());
        assert_eq!(outcome.packets.last().unwrap()[0], 4);
    }
    assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_user_without_account_does_not_enter_with_the_stand_in() {
    // Name and password empty: nothing to find, nothing to match.
    let outcome = converse(password_server(false), password_client("", ""), &mut host());
    assert_eq!(*outcome.refused().0, Reason::Credentials);
}

#[test]
fn server_that_does_not_know_the_password_is_not_believed() {
    let mut host = host();
    let mut server = Server::new(password_server(false));
    let mut client = Client::new(password_client("alice", "correct horse")).unwrap();
    let challenge = server.start(&mut host).unwrap();
    let ClientStep::Send(response) = client.handle(&challenge, &mut host) else { panic!() };
    let ServerStep::Send(mut success) = server.handle(&response, &mut host) else { panic!() };
    // Within the hexadecimal digits of S=.
    success[15] = if success[15] == b'0' { b'1' } else { b'0' };
    let ClientStep::Failure { reason } = client.handle(&success, &mut host) else { panic!() };
    assert_eq!(reason, Reason::ServerNotAuthentic);
}

#[test]
fn aut_06_early_success_is_refused_at_every_step() {
    let packets =
        converse(password_server(true), password_client("alice", "correct horse"), &mut host())
            .packets;
    // After the last request the client has everything; before it, never.
    let requests = packets.len().div_ceil(2) - 1;
    for early in 0..requests {
        let mut host = host();
        let mut server = Server::new(password_server(true));
        let mut client = Client::new(password_client("alice", "correct horse")).unwrap();
        let mut request = server.start(&mut host).unwrap();
        for _ in 0..early {
            let ClientStep::Send(response) = client.handle(&request, &mut host) else { panic!() };
            let ServerStep::Send(next) = server.handle(&response, &mut host) else { panic!() };
            request = next;
        }
        for identifier in [request[1], request[1].wrapping_sub(1)] {
            let step = client.handle(&[3, identifier, 0, 4], &mut host);
            let ClientStep::Failure { reason } = step else { panic!("{step:?}") };
            assert!(matches!(reason, Reason::EarlySuccess | Reason::Finished), "{reason}");
        }
        // And it does not recover.
        let step = client.handle(&request, &mut host);
        assert!(matches!(step, ClientStep::Failure { reason: Reason::Finished }));
    }
}

#[test]
fn aut_06_server_does_not_skip_to_success() {
    // Op code Success, as a client would send it at the end, in answer to the challenge.
    let mut host = host();
    let mut server = Server::new(password_server(false));
    let challenge = server.start(&mut host).unwrap();
    let forged = [2, challenge[1], 0, 6, 26, 3];
    let step = server.handle(&forged, &mut host);
    assert!(matches!(step, ServerStep::Failure { .. }), "{step:?}");
}

#[test]
fn notification_is_answered_and_changes_nothing() {
    let mut host = host();
    let mut client = Client::new(password_client("alice", "correct horse")).unwrap();
    let step = client.handle(b"\x01\x09\x00\x09\x02beep", &mut host);
    assert!(matches!(step, ClientStep::Send(packet) if packet == [2, 9, 0, 5, 2]));
    let step = client.handle(&[1, 10, 0, 5, 1], &mut host);
    assert!(matches!(step, ClientStep::Send(packet) if packet == b"\x02\x0a\x00\x0a\x01alice"));
}

#[test]
fn client_names_what_it_can_instead() {
    let mut host = host();
    let mut client = Client::new(password_client("alice", "correct horse")).unwrap();
    // MD5, TLS without a certificate of ours, an expanded type of some vendor.
    for request in [
        &[1, 1, 0, 22, 4, 16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15][..],
        &[1, 2, 0, 6, 13, 0x20],
        &[1, 3, 0, 12, 254, 0, 1, 2, 0, 0, 0, 1],
    ] {
        let ClientStep::Send(packet) = client.handle(request, &mut host) else { panic!() };
        assert_eq!(packet, [2, request[1], 0, 6, 3, 26]);
    }
}

#[test]
fn server_ends_when_its_method_is_declined() {
    for nak in [&[3, 13][..], &[254, 0, 0, 0, 0, 0, 0, 3, 254, 0, 0, 0, 0, 0, 0, 13]] {
        let mut host = host();
        let mut server = Server::new(password_server(false));
        let request = server.start(&mut host).unwrap();
        let len = u8::try_from(4 + nak.len()).unwrap();
        let packet = [&[2, request[1], 0, len][..], nak].concat();
        let ServerStep::Failure { packet, reason } = server.handle(&packet, &mut host) else {
            panic!()
        };
        assert_eq!(reason, Reason::MethodRefused);
        assert_eq!(packet, [4, request[1], 0, 4]);
    }
}

#[test]
fn identifier_and_code_must_fit() {
    for (at, value, expected) in [
        (0, 1, Reason::UnexpectedCode(1)),
        (0, 9, Reason::Malformed("")),
        (1, 0xee, Reason::UnexpectedIdentifier),
    ] {
        let mut host = host();
        let mut server = Server::new(password_server(true));
        let request = server.start(&mut host).unwrap();
        let mut packet = [&[2, request[1], 0, 10, 1], &b"alice"[..]].concat();
        packet[at] = value;
        let ServerStep::Failure { reason, .. } = server.handle(&packet, &mut host) else {
            panic!()
        };
        let same = std::mem::discriminant(&reason) == std::mem::discriminant(&expected);
        assert!(same || value == 9, "{reason}");
    }
}

#[test]
fn identities_have_a_limit() {
    let mut config = password_client("a", "b");
    config.identity = vec![b'a'; MAX_IDENTITY_BYTES + 1];
    assert_eq!(Client::new(config).unwrap_err(), ClientConfigError::IdentityTooLong);
    let nothing = ClientConfig { identity: Vec::new(), password: None, tls: None };
    assert_eq!(Client::new(nothing).unwrap_err(), ClientConfigError::NoCredential);
    let mut config = password_client("a", "b");
    config.identity = vec![b'a'; MAX_IDENTITY_BYTES];
    let outcome = converse(password_server(true), config, &mut host());
    assert_eq!(*outcome.refused().0, Reason::Credentials);
}

#[test]
fn endless_notifications_end() {
    let mut host = host();
    let mut client = Client::new(password_client("alice", "x")).unwrap();
    for round in 0..xswan_eap::MAX_ROUNDS {
        let step = client.handle(&[1, round as u8, 0, 5, 2], &mut host);
        assert!(matches!(step, ClientStep::Send(_)));
    }
    let step = client.handle(&[1, 0xff, 0, 5, 2], &mut host);
    assert!(matches!(step, ClientStep::Failure { reason: Reason::TooManyRounds }));
}

#[test]
fn debug_hides_passwords_and_keys() {
    let mut host = host();
    let mut server = Server::new(password_server(false));
    let mut client = Client::new(password_client("alice", "correct horse")).unwrap();
    let challenge = server.start(&mut host).unwrap();
    let ClientStep::Send(response) = client.handle(&challenge, &mut host) else { panic!() };
    let ServerStep::Send(success) = server.handle(&response, &mut host) else { panic!() };
    let ClientStep::Send(agreed) = client.handle(&success, &mut host) else { panic!() };
    let shown = format!("{client:?}");
    let end = server.handle(&agreed, &mut host);
    let ServerStep::Success { msk, .. } = &end else { panic!("{end:?}") };
    let octets = format!("{:?}", &msk.as_bytes()[..4]);
    let octets = octets.trim_matches(['[', ']']);
    for text in [shown, format!("{end:?}"), format!("{server:?}")] {
        assert!(!text.contains("correct"), "{text}");
        assert!(!text.contains(octets), "{text}");
    }
}
