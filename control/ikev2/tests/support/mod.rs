//! What the tests of this folder share: two gateways, certificates, and a first handshake.
#![allow(dead_code, reason = "each test file uses a part of it")]

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SignatureAlgorithm,
};
use std::sync::Arc;
use xswan_credentials::{AuthMethod, Certificate, PrivateKeyStore, SharedSecretKind, TrustStore};
use xswan_eap::tls::{ClientCredential, OwnCertificate, ServerCredential, Versions};
use xswan_ike_crypto::Secret;
use xswan_ikev2::Input;
use xswan_ikev2::policy::{Configuration, ConnectionPolicy};
use xswan_simulation::{Gateway, Network, policies};

/// Two gateways whose connections and configurations are changed before they start.
pub fn network_with(
    connection: impl Fn(usize, &mut ConnectionPolicy),
    configuration: impl Fn(usize, &mut Configuration),
) -> Network {
    let gateway = |number: usize| {
        let mut policy = policies::connection(number);
        connection(number, &mut policy);
        let mut whole = policies::configuration(policy);
        configuration(number, &mut whole);
        Gateway::new(policies::ADDRESSES[number], Arc::new(whole), 7 + number as u64)
    };
    Network::new([gateway(0), gateway(1)], 99)
}

/// Two gateways whose connections are changed before they start.
pub fn network(change: impl Fn(usize, &mut ConnectionPolicy)) -> Network {
    network_with(change, |_, _| {})
}

/// Asks gateway 0 for the child and waits for the answer.
pub fn initiate(network: &mut Network) -> Result<u32, String> {
    let request = network.gateways[0].ask();
    let input = Input::Initiate {
        connection: Some("peer".into()),
        child: Some("net".into()),
        packet: None,
        request: Some(request),
    };
    network.input(0, input);
    network.run_for(30_000);
    if !network.gateways[0].answers.contains_key(&request.0) {
        network.run_for(300_000);
    }
    network.gateways[0].answers.remove(&request.0).expect("an answer")
}

/// Both logs, for messages of failing tests.
pub fn logs(network: &Network) -> String {
    let log = |number: usize| network.gateways[number].log.join("\n  ");
    format!("gwa:\n  {}\ngwb:\n  {}", log(0), log(1))
}

/// One pair of Child SAs is up and fits.
pub fn assert_up(network: &Network) {
    assert!(network.agrees(), "{}", logs(network));
    for gateway in &network.gateways {
        assert_eq!(gateway.outbound_children(), 1, "{}", logs(network));
    }
}

/// Nothing is left anywhere.
pub fn assert_nothing(network: &Network) {
    for gateway in &network.gateways {
        assert!(gateway.children.is_empty(), "{}", logs(network));
        assert!(gateway.spis().is_empty(), "{}", logs(network));
    }
}

/// A certification authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: Certificate,
}

/// A certificate with its key.
pub struct Holder {
    pub certificate: Arc<Certificate>,
    pub key: Secret,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let signed = params.self_signed(&key).expect("signed");
        let certificate = Certificate::from_der(signed.der()).expect("a certificate");
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for a name, with a key of an algorithm.
    pub fn issue(&self, name: &str, algorithm: &'static SignatureAlgorithm) -> Holder {
        self.issue_with(name, algorithm, |_| {})
    }

    /// The same with other parameters.
    pub fn issue_with(
        &self,
        name: &str,
        algorithm: &'static SignatureAlgorithm,
        change: impl Fn(&mut CertificateParams),
    ) -> Holder {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let signed = params.signed_by(&key, &self.issuer).expect("signed");
        let certificate = Arc::new(Certificate::from_der(signed.der()).expect("a certificate"));
        Holder { certificate, key: Secret::from_vec(key.serialize_der()) }
    }
}

impl Holder {
    /// As EAP-TLS wants it.
    pub fn own(&self) -> OwnCertificate {
        OwnCertificate { chain: vec![self.certificate.der().to_vec()], key: self.key.clone() }
    }

    /// EAP-TLS as the client.
    pub fn tls_client(&self, authority: &Authority) -> ClientCredential {
        let anchors = [authority.certificate.der().to_vec()];
        ClientCredential::new(&self.own(), &anchors, Versions::Both).expect("a credential")
    }

    /// EAP-TLS as the server.
    pub fn tls_server(&self, authority: &Authority) -> ServerCredential {
        let anchors = [authority.certificate.der().to_vec()];
        ServerCredential::new(&self.own(), &anchors, Versions::Both).expect("a credential")
    }
}

/// Two gateways that authenticate with certificates.
pub fn certified(
    authority: &Authority,
    holders: &[Holder; 2],
    method: &str,
    change: impl Fn(usize, &mut ConnectionPolicy),
    configure: impl Fn(usize, &mut Configuration),
) -> Network {
    let method: AuthMethod = method.parse().expect("a method");
    network_with(
        |number, connection| {
            let local = &mut connection.local_rounds[0];
            local.method = method.clone();
            local.certificates = vec![Arc::clone(&holders[number].certificate)];
            connection.remote_rounds[0].method = method.clone();
            change(number, connection);
        },
        |number, configuration| {
            configuration.trust = TrustStore::default();
            configuration.trust.add_authority(authority.certificate.clone()).expect("a CA");
            configuration.keys = PrivateKeyStore::default();
            configuration.keys.add_file(holders[number].key.as_bytes()).expect("a key");
            configure(number, configuration);
        },
    )
}

/// Adds a secret.
pub fn add_secret(
    configuration: &mut Configuration,
    kind: SharedSecretKind,
    owner: &str,
    secret: &[u8],
) {
    let secret = Secret::from_slice(secret);
    configuration.secrets.add(kind, [owner], secret).expect("an owner");
}
