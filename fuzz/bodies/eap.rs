//! Any sequence of packets to either role of EAP.
//!
//! The first octet chooses: 1 the client instead of the server, 2 TLS instead of MSCHAPv2 (of
//! the server; the client takes both), 4 the identity is asked for, 8 code, identifier and
//! length of every packet are put right first. Then packets, each after its length in two
//! octets. All draws are the same in every run, so that a corpus can hold right answers.

use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use xswan_eap::tls::{ClientCredential, OwnCertificate, ServerCredential, Versions};
use xswan_eap::{
    Client, ClientConfig, ClientStep, ClientTls, Password, Server, ServerConfig, ServerHost,
    ServerMethod, ServerStep,
};
use xswan_ike_crypto::{Random, Secret};

/// Bits of the first octet.
pub const CLIENT: u8 = 1;
/// See [`CLIENT`].
pub const TLS: u8 = 2;
/// See [`CLIENT`].
pub const ASK_IDENTITY: u8 = 4;
/// See [`CLIENT`].
pub const MEND: u8 = 8;

/// 2026-01-01.
const NOW_UNIX_S: u64 = 1_767_225_600;
/// Small, so that there are fragments.
const FRAGMENT_BYTES: usize = 256;

/// One user; octets that count upwards.
#[derive(Default)]
pub struct Host(u8);

impl Random for Host {
    fn fill(&mut self, out: &mut [u8]) {
        for octet in out {
            self.0 = self.0.wrapping_add(1);
            *octet = self.0;
        }
    }
}

impl ServerHost for Host {
    fn password(&self, user: &str) -> Option<Password> {
        (user == "alice").then(|| Password::from_text(b"secret"))
    }
}

/// Nobody panics, says what is malformed, or succeeds without a key.
pub fn run(bytes: &[u8]) {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    if choice & CLIENT == 0 {
        run_server(choice, rest);
    } else {
        run_client(choice, rest);
    }
}

fn run_server(choice: u8, mut rest: &[u8]) {
    let mut host = Host::default();
    let mut server = server(choice);
    let Ok(mut said) = server.start(&mut host) else { return };
    let mut ended = false;
    while let Some(mut packet) = next(&mut rest) {
        mend(choice, &mut packet, 2, said.get(1));
        match server.handle(&packet, &mut host) {
            ServerStep::Send(packet) => said = packet,
            ServerStep::Success { packet, msk, .. } => {
                assert!(!ended && msk.len() == 64);
                (said, ended) = (packet, true);
            }
            ServerStep::Failure { packet, .. } => (said, ended) = (packet, true),
        }
        assert_well_formed(&said);
    }
}

fn run_client(choice: u8, mut rest: &[u8]) {
    let mut host = Host::default();
    let Some(mut client) = client() else { return };
    let mut ended = false;
    let mut identifier = 0u8;
    while let Some(mut packet) = next(&mut rest) {
        identifier = identifier.wrapping_add(1);
        mend(choice, &mut packet, 1, Some(&identifier));
        match client.handle(&packet, &mut host) {
            ClientStep::Send(said) => {
                assert!(!ended);
                assert_well_formed(&said);
            }
            ClientStep::Success { msk, chain } => {
                assert!(!ended && msk.len() == 64 && chain.is_empty());
                ended = true;
            }
            ClientStep::Failure { .. } => ended = true,
        }
    }
}

fn assert_well_formed(packet: &[u8]) {
    let Some((&[code, _, high, low], _)) = packet.split_first_chunk() else {
        unreachable!("{packet:02x?}")
    };
    assert!((1..=4).contains(&code));
    assert_eq!(usize::from(u16::from_be_bytes([high, low])), packet.len());
}

fn next(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (&length, after) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(length)).min(after.len());
    let (packet, after) = after.split_at(length);
    *rest = after;
    Some(packet.to_vec())
}

/// Puts the header right; success and failure keep their code.
fn mend(choice: u8, packet: &mut [u8], code: u8, identifier: Option<&u8>) {
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    if let (Some((header, _)), Some(identifier)) = (packet.split_first_chunk_mut(), identifier)
        && choice & MEND != 0
    {
        let [high, low] = length.to_be_bytes();
        let code = if header[0] == 3 || header[0] == 4 { header[0] } else { code };
        *header = [code, *identifier, high, low];
    }
}

struct Material {
    server: ServerCredential,
    client: ClientCredential,
}

/// Made once; `None` if the machine cannot, and then there is nothing to test.
fn material() -> Option<&'static Material> {
    static MATERIAL: OnceLock<Option<Material>> = OnceLock::new();
    MATERIAL.get_or_init(make_material).as_ref()
}

fn make_material() -> Option<Material> {
    let mut params = CertificateParams::new(Vec::new()).ok()?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().ok()?).ok()?;
    let key = KeyPair::generate().ok()?;
    let params = CertificateParams::new(vec!["peer.example.org".to_owned()]).ok()?;
    let certificate = params.signed_by(&key, &authority).ok()?;
    let own = OwnCertificate {
        chain: vec![certificate.der().to_vec()],
        key: Secret::from_vec(key.serialize_der()),
    };
    let anchors = [authority.der().to_vec()];
    Some(Material {
        server: ServerCredential::new(&own, &anchors, Versions::Both).ok()?,
        client: ClientCredential::new(&own, &anchors, Versions::Both).ok()?,
    })
}

/// The server a choice asks for.
pub fn server(choice: u8) -> Server {
    let method = match material() {
        Some(material) if choice & TLS != 0 => ServerMethod::Tls {
            credential: material.server.clone(),
            now_unix_s: NOW_UNIX_S,
            fragment_bytes: FRAGMENT_BYTES,
        },
        Some(_) | None => ServerMethod::MschapV2 { server_name: "gateway".to_owned() },
    };
    let ask_identity = choice & ASK_IDENTITY != 0;
    Server::new(ServerConfig { method, ask_identity, identity: b"alice".to_vec() })
}

/// The client, with credentials for both methods.
pub fn client() -> Option<Client> {
    let tls = material().map(|material| ClientTls {
        credential: material.client.clone(),
        now_unix_s: NOW_UNIX_S,
        fragment_bytes: FRAGMENT_BYTES,
    });
    let password = Some(Password::from_text(b"secret"));
    Client::new(ClientConfig { identity: b"alice".to_vec(), password, tls }).ok()
}
