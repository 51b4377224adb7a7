//! What a side of EAP-TLS is configured with: own certificate and key, anchors, versions.
//!
//! Made once when the configuration is read, so that mistakes are found then; shared by all
//! conversations.

use std::fmt;
use std::sync::Arc;

use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::{NoServerSessionStorage, ServerConnection};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion, version};
use xswan_ike_crypto::Secret;

use super::verify::Verifier;

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct OwnCertificate {
    /// DER, end entity first, then what leads towards the anchor.
    pub chain: Vec<Vec<u8>>,
    /// DER: PKCS #8, PKCS #1 or SEC 1.
    pub key: Secret,
}

/// TLS versions spoken. Below 1.2 there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versions {
    /// TLS 1.2 and TLS 1.3.
    #[default]
    Both,
    /// TLS 1.2 alone (RFC 5216).
    Only12,
    /// TLS 1.3 alone (RFC 9190).
    Only13,
}

impl Versions {
    fn list(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Both => vec![&version::TLS13, &version::TLS12],
            Self::Only12 => vec![&version::TLS12],
            Self::Only13 => vec![&version::TLS13],
        }
    }
}

/// Why a credential cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialError {
    /// No anchor was given: nobody could be trusted.
    NoAnchor,
    /// The anchor with this number, from 0, is not a certificate that can be one.
    Anchor(usize, String),
    /// The key is in no form known.
    Key,
    /// Certificate and key do not go together, or the TLS stack cannot use them.
    Certificate(String),
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnchor => f.write_str("EAP-TLS needs a CA certificate to trust"),
            Self::Anchor(number, why) => write!(f, "CA certificate {number}: {why}"),
            Self::Key => f.write_str("private key is not PKCS #8, PKCS #1 or SEC 1"),
            Self::Certificate(why) => write!(f, "certificate and key for EAP-TLS: {why}"),
        }
    }
}

impl std::error::Error for CredentialError {}

/// For [`ServerMethod::Tls`](crate::ServerMethod::Tls).
#[derive(Clone)]
pub struct ServerCredential(Arc<ServerConfig>);

/// For [`ClientTls`](crate::ClientTls).
#[derive(Clone)]
pub struct ClientCredential(Arc<ClientConfig>);

impl ServerCredential {
    /// `anchors` are DER certificates of the authorities whose clients are let in.
    ///
    /// # Errors
    /// What is wrong with the material.
    pub fn new(
        own: &OwnCertificate,
        anchors: &[Vec<u8>],
        versions: Versions,
    ) -> Result<Self, CredentialError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = verifier(anchors, &provider)?;
        let (chain, key) = own.parse()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions.list())
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
    }

    /// A connection that judges certificates by `now_unix_s`.
    pub(super) fn connect(&self, now_unix_s: u64) -> Result<ServerConnection, rustls::Error> {
        let mut config = ServerConfig::clone(&self.0);
        config.time_provider = Arc::new(Now(now_unix_s));
        ServerConnection::new(Arc::new(config))
    }
}

impl ClientCredential {
    /// `anchors` are DER certificates of the authorities whose servers are believed.
    ///
    /// # Errors
    /// What is wrong with the material.
    pub fn new(
        own: &OwnCertificate,
        anchors: &[Vec<u8>],
        versions: Versions,
    ) -> Result<Self, CredentialError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = verifier(anchors, &provider)?;
        let (chain, key) = own.parse()?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions.list())
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain, key)
            .map_err(unusable)?;
        config.resumption = Resumption::disabled();
        // Whom we dial is in IDr; TLS need not repeat it, and the name below is no name.
        config.enable_sni = false;
        Ok(Self(Arc::new(config)))
    }

    /// A connection that judges certificates by `now_unix_s`.
    pub(super) fn connect(&self, now_unix_s: u64) -> Result<ClientConnection, rustls::Error> {
        let mut config = ClientConfig::clone(&self.0);
        config.time_provider = Arc::new(Now(now_unix_s));
        // Wanted by the TLS stack; neither sent nor compared.
        let unspecified = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        ClientConnection::new(Arc::new(config), unspecified)
    }
}

impl fmt::Debug for ServerCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCredential(hidden)")
    }
}

impl fmt::Debug for ClientCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCredential(hidden)")
    }
}

impl OwnCertificate {
    fn parse(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CredentialError> {
        let chain = self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let key = PrivateKeyDer::try_from(self.key.as_bytes()).map_err(|_| CredentialError::Key)?;
        Ok((chain, key.clone_key()))
    }
}

fn verifier(
    anchors: &[Vec<u8>],
    provider: &CryptoProvider,
) -> Result<Arc<Verifier>, CredentialError> {
    if anchors.is_empty() {
        return Err(CredentialError::NoAnchor);
    }
    let anchors = anchors
        .iter()
        .enumerate()
        .map(|(number, der)| anchor(der).map_err(|why| CredentialError::Anchor(number, why)))
        .collect::<Result<_, _>>()?;
    Ok(Arc::new(Verifier::new(anchors, provider.signature_verification_algorithms)))
}

fn anchor(der: &[u8]) -> Result<TrustAnchor<'static>, String> {
    let der = CertificateDer::from(der);
    webpki::anchor_from_trusted_cert(&der)
        .map(|anchor| anchor.to_owned())
        .map_err(|error| error.to_string())
}

fn unusable(error: rustls::Error) -> CredentialError {
    CredentialError::Certificate(error.to_string())
}

/// The caller's time.
#[derive(Debug)]
struct Now(u64);

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.0)))
    }
}
