//! AUTH payloads (RFC 7296 section 2.15, RFC 7427, RFC 8784, RFC 9242): ours are made and the
//! peer's verified here and nowhere else. [`AuthVerified`] is the proof that one was.

use crate::exchange::ike_sa_init::Handshake;
use crate::policy::{LocalRound, RemoteRound, SendCertificate};
use crate::sa::{Context, SaCore};
use crate::wire::{
    Authentication, Certificate as CertificatePayload, Identification, Payload, cert,
};
use xswan_credentials::{AuthMethod, Certificate, Identity, PeerCertificates, PeerPolicy};
use xswan_ike_crypto::signature::{SignaturePolicy, parse_auth};
use xswan_ike_crypto::{IkeKeys, PublicKey, Secret, constant_time_eq, shared_key_auth};

/// A peer has proved in one round that it is who it says.
///
/// There is no other way to get one than to verify an AUTH payload, so what needs one cannot be
/// done without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthVerified {
    /// Who.
    pub(crate) identity: Identity,
    /// How, for the log.
    pub(crate) how: String,
    /// When the proof ends: of a certificate; seconds since 1970.
    pub(crate) until_unix_s: Option<u64>,
}

/// What the AUTH payload of one side covers.
pub(crate) fn signed_octets(
    core: &SaCore,
    keys: &IkeKeys,
    handshake: &Handshake,
    by_initiator: bool,
    id: &Identification,
) -> Vec<u8> {
    let (message, nonce, key) = if by_initiator {
        (&handshake.init_request, &handshake.nr, &keys.sk_pi)
    } else {
        (&handshake.init_response, &handshake.ni, &keys.sk_pr)
    };
    let maced = core.suite.prf().compute(key.as_bytes(), &[&id.signed_octets()]);
    let mut octets = Vec::with_capacity(message.len() + nonce.len() + 256);
    octets.extend_from_slice(message);
    octets.extend_from_slice(nonce);
    octets.extend_from_slice(maced.as_bytes());
    if !handshake.int_auth_i.is_empty() {
        octets.extend_from_slice(&handshake.int_auth_i);
        octets.extend_from_slice(&handshake.int_auth_r);
        octets.extend_from_slice(&handshake.auth_message_id.to_be_bytes());
    }
    octets
}

/// AUTH with a shared secret: a PSK, or the MSK of EAP.
pub(crate) fn prove_by_secret(
    core: &SaCore,
    keys: &IkeKeys,
    handshake: &Handshake,
    id: &Identification,
    secret: &Secret,
) -> Authentication {
    let octets = signed_octets(core, keys, handshake, core.initiator, id);
    let data = shared_key_auth(core.suite.prf(), secret.as_bytes(), &[&octets]);
    Authentication { method: Authentication::SHARED_KEY, data: data.as_bytes().to_vec() }
}

/// The peer's AUTH with a shared secret.
///
/// # Errors
/// One line.
pub(crate) fn verify_by_secret(
    core: &SaCore,
    handshake: &Handshake,
    (identity, id): (&Identity, &Identification),
    auth: &Authentication,
    secret: &Secret,
    how: &str,
) -> Result<AuthVerified, String> {
    let octets = signed_octets(core, &core.keys, handshake, !core.initiator, id);
    let expected = shared_key_auth(core.suite.prf(), secret.as_bytes(), &[&octets]);
    let right_method = auth.method == Authentication::SHARED_KEY;
    if right_method && constant_time_eq(expected.as_bytes(), &auth.data) {
        let (identity, how) = (identity.clone(), how.to_owned());
        Ok(AuthVerified { identity, how, until_unix_s: None })
    } else {
        Err(format!("the {how} does not fit: MAC mismatched"))
    }
}

/// Our AUTH of a round that is not EAP, and the certificates that go before it.
///
/// # Errors
/// One line: no secret, no key, or none that the peer understands.
pub(crate) fn prove(
    ctx: &Context<'_>,
    core: &SaCore,
    keys: &IkeKeys,
    handshake: &Handshake,
    round: &LocalRound,
    (own, peer): (&Identity, Option<&Identity>),
) -> Result<(Vec<Payload>, Authentication), String> {
    let id = crate::sa::to_identification(own);
    match &round.method {
        AuthMethod::Psk => {
            let anybody = Identity::from_address(core.remote.ip());
            let secrets = &ctx.configuration.secrets;
            let secret = secrets.psk(Some(own), peer.unwrap_or(&anybody)).ok_or_else(|| {
                let peer = peer.map_or_else(|| "%any".to_owned(), ToString::to_string);
                format!("no pre-shared key for '{own}' - '{peer}'")
            })?;
            Ok((Vec::new(), prove_by_secret(core, keys, handshake, &id, secret)))
        }
        AuthMethod::Signature(_) | AuthMethod::Any => sign(ctx, core, keys, handshake, round, own),
        AuthMethod::Eap(_) => Err("EAP is no AUTH payload".into()),
    }
}

fn sign(
    ctx: &Context<'_>,
    core: &SaCore,
    keys: &IkeKeys,
    handshake: &Handshake,
    round: &LocalRound,
    own: &Identity,
) -> Result<(Vec<Payload>, Authentication), String> {
    let announced = core.peer.hash_algorithms.as_slice();
    let announced = (!announced.is_empty()).then_some(announced);
    let mut why = format!("no private key for '{own}'");
    let with_certificate = round.certificates.iter().map(|own| (own.spki_der(), Some(own)));
    let bare = round.public_keys.iter().map(|own| (own.spki_der(), None));
    for (spki, certificate) in with_certificate.chain(bare) {
        let Some(key) = ctx.configuration.keys.find(spki) else { continue };
        let preference = match &round.method {
            AuthMethod::Signature(rules) => rules.preference(),
            AuthMethod::Any | AuthMethod::Psk | AuthMethod::Eap(_) => Vec::new(),
        };
        let Some(scheme) = key.choose_scheme(announced, &preference) else {
            why = "the peer understands no signature scheme that our key has".to_owned();
            continue;
        };
        let id = crate::sa::to_identification(own);
        let octets = signed_octets(core, keys, handshake, core.initiator, &id);
        let (method, data) = key.sign_auth(scheme, &octets).map_err(|error| error.to_string())?;
        let wanted = match core.connection.send_certificate {
            SendCertificate::Always => true,
            SendCertificate::IfAsked => handshake.authorities.is_some(),
            SendCertificate::Never => false,
        };
        let payloads = match certificate {
            Some(certificate) if wanted => chain_payloads(ctx, certificate),
            None if core.connection.send_certificate == SendCertificate::Always => {
                let (encoding, data) = (cert::RAW_PUBLIC_KEY, spki.to_vec());
                vec![Payload::Cert(CertificatePayload { encoding, data })]
            }
            // A peer that takes a bare key has it already.
            Some(_) | None => Vec::new(),
        };
        return Ok((payloads, Authentication { method, data }));
    }
    Err(why)
}

/// Our certificate and the intermediate authorities above it.
fn chain_payloads(ctx: &Context<'_>, certificate: &Certificate) -> Vec<Payload> {
    let chain = ctx.configuration.trust.chain_of(certificate);
    let all = std::iter::once(certificate.der()).chain(chain.iter().map(Certificate::der));
    all.map(|der| {
        Payload::Cert(CertificatePayload { encoding: cert::X509_SIGNATURE, data: der.to_vec() })
    })
    .collect()
}

/// Verifies the peer's AUTH of a round that is not EAP.
///
/// `certificates` are the CERT payloads in the order they came, the peer's own first.
///
/// # Errors
/// One line for the log; the peer only hears AUTHENTICATION_FAILED.
pub(crate) fn verify(
    ctx: &Context<'_>,
    core: &SaCore,
    handshake: &Handshake,
    (round, own): (&RemoteRound, &Identity),
    peer: (&Identity, &Identification),
    (auth, certificates): (&Authentication, &[CertificatePayload]),
) -> Result<AuthVerified, String> {
    let identity = peer.0;
    if round.id.matches(identity).is_none() {
        return Err(format!("identity '{identity}' is not the one that is required"));
    }
    let shared = auth.method == Authentication::SHARED_KEY;
    match &round.method {
        AuthMethod::Eap(_) => Err("EAP is required".into()),
        AuthMethod::Psk | AuthMethod::Any if shared => {
            let secret = ctx.configuration.secrets.psk(Some(own), identity);
            // The same work for everybody: who is configured is nobody's business.
            let none = Secret::from_slice(&[0; 32]);
            let verified = verify_by_secret(
                core,
                handshake,
                peer,
                auth,
                secret.unwrap_or(&none),
                "pre-shared key",
            );
            match secret {
                Some(_) => verified,
                None => Err(format!("no pre-shared key for '{own}' - '{identity}'")),
            }
        }
        AuthMethod::Psk => Err("a pre-shared key is required, the peer signed".into()),
        AuthMethod::Signature(_) | AuthMethod::Any if shared => {
            Err("a signature is required, the peer used a pre-shared key".into())
        }
        AuthMethod::Signature(_) | AuthMethod::Any => {
            verify_signature(ctx, core, handshake, round, peer, auth, certificates)
        }
    }
}

fn verify_signature(
    ctx: &Context<'_>,
    core: &SaCore,
    handshake: &Handshake,
    round: &RemoteRound,
    (identity, id): (&Identity, &Identification),
    auth: &Authentication,
    certificates: &[CertificatePayload],
) -> Result<AuthVerified, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (scheme, signature) =
        parse_auth(auth.method, &auth.data, &SignaturePolicy::default()).map_err(|e| text(&e))?;
    let policy = &round.peer;
    let rules = match &round.method {
        AuthMethod::Signature(rules) => Some(rules),
        AuthMethod::Any | AuthMethod::Psk | AuthMethod::Eap(_) => None,
    };
    if rules.is_some_and(|rules| !rules.permits_scheme(scheme)) {
        return Err(format!("{} is not among the required schemes", scheme.name()));
    }
    let octets = signed_octets(core, &core.keys, handshake, !core.initiator, id);
    let trust = &ctx.configuration.trust;
    let candidates = if certificates.is_empty() {
        trust.configured_keys(identity, policy, ctx.now.unix_s)
    } else {
        let payloads = certificates.iter().map(|payload| (payload.encoding, &*payload.data));
        let sent = PeerCertificates::from_payloads(payloads).map_err(|error| text(&error))?;
        vec![trust.verify_peer(&sent, policy, ctx.now.unix_s).map_err(|error| text(&error))?]
    };
    let mut why = format!("no trusted public key for '{identity}'");
    for trusted in candidates {
        if !trusted.matches_identity(identity) {
            why = format!("the certificate is not that of '{identity}'");
            continue;
        }
        let key = PublicKey::from_spki(trusted.spki_der()).map_err(|error| text(&error))?;
        match key.verify(scheme, &octets, signature) {
            Ok(()) => {
                return Ok(AuthVerified {
                    identity: identity.clone(),
                    how: scheme.name().to_owned(),
                    until_unix_s: trusted.certificate().map(Certificate::not_after_unix_s),
                });
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

/// The certificate that EAP-TLS has proved, judged once more by the rules for certificates in
/// IKE: TLS knows nothing of revocation lists and pinned certificates.
///
/// # Errors
/// One line.
pub(crate) fn verify_tls_chain(
    ctx: &Context<'_>,
    policy: &PeerPolicy,
    chain: &[Vec<u8>],
) -> Result<Certificate, String> {
    let payloads = chain.iter().map(|der| (cert::X509_SIGNATURE, der.as_slice()));
    let sent = PeerCertificates::from_payloads(payloads).map_err(|error| error.to_string())?;
    let trust = &ctx.configuration.trust;
    let verified = trust.verify_peer(&sent, policy, ctx.now.unix_s);
    let verified = verified.map_err(|error| error.to_string())?;
    verified.certificate().cloned().ok_or_else(|| "EAP-TLS without a certificate".to_owned())
}
