//! IKE_AUTH (RFC 7296 section 1.2): identities, proofs, and usually the first Child SA.
//!
//! ```text
//! initiator                                       responder
//!   HDR, SK {IDi, [CERT+], [CERTREQ], [IDr],
//!            AUTH, [CP], SAi2, TSi, TSr}     ──▶
//!                                            ◀──  HDR, SK {IDr, [CERT+], AUTH, [CP], SAr2, TSi, TSr}
//! with EAP (section 2.16):
//!   HDR, SK {IDi, …, SAi2, TSi, TSr}         ──▶
//!                                            ◀──  HDR, SK {IDr, [CERT+], AUTH, EAP}
//!   HDR, SK {EAP}                            ──▶
//!                                            ◀──  HDR, SK {EAP}            as often as it takes
//!   HDR, SK {AUTH}                           ──▶
//!                                            ◀──  HDR, SK {AUTH, [CP], SAr2, TSi, TSr}
//! with several rounds (RFC 4739): N(ANOTHER_AUTH_FOLLOWS) beside AUTH, then IDi and AUTH again
//!
//! state            input                          next
//! AuthRequested    AUTH, more of our rounds       AuthRequested
//! AuthRequested    EAP                            AuthRequested
//! AuthRequested    AUTH of the last round         Established
//! AuthRequested    an error, a wrong AUTH         Closed
//! HalfOpen         IDi, AUTH                      Established, or Authenticating for more rounds
//! HalfOpen         IDi without AUTH               Authenticating: EAP
//! Authenticating   EAP, AUTH                      Authenticating, Established
//! any of ours      a wrong AUTH                   Authenticating, over: only repeats its answer
//! ```

pub(crate) mod configuration;
mod initiator;
mod responder;

pub(crate) use initiator::{AuthRequested, start};
pub(crate) use responder::{Authenticating, answer_first};

use crate::policy::{Configuration, ConnectionPolicy, LocalRound};
use crate::sa::{Inbound, SaCore};
use crate::wire::{
    Authentication, Certificate as CertificatePayload, CertificateRequest, Identification, Payload,
    cert,
};
use std::net::IpAddr;
use xswan_credentials::{AuthMethod, Identity};

/// The CERTREQ payload with all authorities we trust, if there are any.
pub(crate) fn certificate_request(
    configuration: &Configuration,
    connection: &ConnectionPolicy,
) -> Option<Payload> {
    let signs = |method: &AuthMethod| !matches!(method, AuthMethod::Psk);
    if !connection.remote_rounds.iter().any(|round| signs(&round.method)) {
        return None;
    }
    let authorities = configuration.trust.certificate_request();
    (!authorities.is_empty()).then_some(Payload::CertReq(CertificateRequest {
        encoding: cert::X509_SIGNATURE,
        authorities,
    }))
}

/// Who we are in a round.
fn own_identity(round: &LocalRound, local: IpAddr) -> Identity {
    let configured = round.id.clone();
    configured
        .or_else(|| round.certificates.first()?.subject_identity())
        .unwrap_or_else(|| Identity::from_address(local))
}

/// What one IKE_AUTH message says about its sender.
struct Proofs<'a> {
    identification: Option<&'a Identification>,
    auth: Option<&'a Authentication>,
    certificates: Vec<CertificatePayload>,
    eap: Option<&'a [u8]>,
}

impl<'a> Proofs<'a> {
    /// `by_initiator`: read IDi rather than IDr.
    fn read(inbound: &'a Inbound, by_initiator: bool) -> Self {
        let mut proofs =
            Self { identification: None, auth: None, certificates: Vec::new(), eap: None };
        for payload in &inbound.payloads {
            match payload {
                Payload::IdI(id) if by_initiator => proofs.identification = Some(id),
                Payload::IdR(id) if !by_initiator => proofs.identification = Some(id),
                Payload::Auth(auth) => proofs.auth = Some(auth),
                Payload::Eap(message) => proofs.eap = Some(message.as_bytes()),
                Payload::Cert(certificate) => proofs.certificates.push(certificate.clone()),
                _ => {}
            }
        }
        proofs
    }
}

/// An identity of the peer, or why it is none.
fn peer_identity(id: &Identification) -> Result<Identity, String> {
    Identity::from_payload(id.kind, &id.data).map_err(|error| error.to_string())
}

/// The name of an EAP identity: the text of what it is, without quotes.
fn eap_name(identity: &Identity) -> Vec<u8> {
    match identity.address() {
        Some(address) => address.to_string().into_bytes(),
        None => identity.data().to_vec(),
    }
}

/// Mixes the PPK of this identity in (RFC 8784 section 3).
fn with_ppk(configuration: &Configuration, core: &mut SaCore, id: &[u8]) -> Result<(), String> {
    let ppk = configuration.secrets.ppk(id).ok_or("no such PPK")?;
    let prf = core.suite.prf();
    core.keys.with_ppk(prf, ppk).map_err(|error| error.to_string())
}
