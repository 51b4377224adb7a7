//! Whom to believe: authorities, revocation lists, and chains of certificates.
//!
//! Chains are built and verified by webpki (RFC 5280 §6: signatures, validity, basic
//! constraints, path length, name constraints, critical extensions, revocation lists). Added
//! here: the same for the root itself, key usage (RFC 4945 §5.1.3.2), extended key usages for
//! IKE, what configuration asks of keys and hashes, and ceilings on work. Constraints on
//! distinguished and mail names are not interpreted: where an authority has any, names of
//! that form are refused.

mod path;

use crate::auth_method::SignatureRules;
use crate::certificate::Certificate;
use crate::certificate_error::{CertificateError, CertificateFault};
use crate::identity::Identity;
use crate::peer_certificates::PeerCertificates;
use crate::raw_public_key::{RawPublicKey, key_fault};
use crate::revocation::{RevocationList, RevocationPolicy};
use rustls_pki_types::TrustAnchor;
use xswan_ike_crypto::signature::{KeyType, PublicKey};

/// Certificates of authorities and revocation lists of the configuration.
#[derive(Debug, Default)]
pub struct TrustStore {
    /// Roots, in the order of `anchors`.
    roots: Vec<Certificate>,
    anchors: Vec<TrustAnchor<'static>>,
    intermediates: Vec<Certificate>,
    /// The newest first.
    lists: Vec<RevocationList>,
}

/// What a connection accepts of its peer, apart from its identity.
#[derive(Clone, Debug, Default)]
pub struct PeerPolicy {
    /// `certs`: if any, the peer's certificate must be one of them, and is then believed
    /// without a chain, while it is valid and on no revocation list; `revocation` asks no
    /// more of it.
    pub certificates: Vec<Certificate>,
    /// `cacerts`: if any, one of these authorities must be in the chain.
    pub authorities: Vec<Certificate>,
    /// `pubkeys`: keys believed without a certificate. They prove any identity the
    /// connection accepts, since a key has none of its own.
    pub public_keys: Vec<RawPublicKey>,
    /// `revocation`.
    pub revocation: RevocationPolicy,
    /// What `auth` asks of keys and of signatures in the chain.
    pub rules: SignatureRules,
}

/// A public key of a peer that may be believed, to verify AUTH with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPeerKey {
    spki: Vec<u8>,
    key_type: KeyType,
    certificate: Option<Certificate>,
    authority: Option<String>,
}

impl VerifiedPeerKey {
    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Type and size of the key.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The certificate the key is from.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// The subject of the root the chain leads to, safe to log; `None` for a certificate or
    /// key that is believed by itself.
    #[must_use]
    pub fn authority_text(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// Whether the key proves this identity: [`Certificate::matches_identity`]; a raw key
    /// proves whichever identity its connection accepts.
    ///
    /// A caller checks this as well as the connection's pattern.
    #[must_use]
    pub fn matches_identity(&self, identity: &Identity) -> bool {
        self.certificate.as_ref().is_none_or(|own| own.matches_identity(identity))
    }

    fn of_certificate(
        certificate: &Certificate,
        rules: &SignatureRules,
    ) -> Result<Self, CertificateError> {
        let key = PublicKey::from_spki(certificate.spki_der());
        let key_type = key.map_err(|error| certificate.error(key_fault(error)))?.key_type();
        if !rules.permits_key(key_type) {
            return Err(certificate.error(CertificateFault::KeyNotPermitted));
        }
        if !certificate.may_sign() {
            return Err(certificate.error(CertificateFault::KeyUsage));
        }
        let (spki, certificate) = (certificate.spki_der().to_vec(), Some(certificate.clone()));
        Ok(Self { spki, key_type, certificate, authority: None })
    }

    fn of_raw_key(key: &RawPublicKey, rules: &SignatureRules) -> Result<Self, CertificateError> {
        if !rules.permits_key(key.key_type()) {
            return Err(CertificateFault::KeyNotPermitted.into());
        }
        let (spki, key_type) = (key.spki_der().to_vec(), key.key_type());
        Ok(Self { spki, key_type, certificate: None, authority: None })
    }
}

impl TrustStore {
    /// Adds the certificate of an authority: a root if it is self-issued, otherwise an
    /// intermediate, which is believed only as far as a root vouches for it.
    ///
    /// # Errors
    /// Certificates without the basic constraint of an authority.
    pub fn add_authority(&mut self, certificate: Certificate) -> Result<(), CertificateError> {
        if !certificate.is_authority() {
            return Err(certificate.error(CertificateFault::NotAnAuthority));
        }
        if self.authorities().any(|own| *own == certificate) {
            return Ok(());
        }
        if !certificate.is_self_issued() {
            self.intermediates.push(certificate);
            return Ok(());
        }
        let anchor = webpki::anchor_from_trusted_cert(certificate.certificate_der());
        let anchor = anchor.map_err(|error| certificate.error(path::fault(&error)))?.to_owned();
        self.anchors.push(anchor);
        self.roots.push(certificate);
        Ok(())
    }

    /// Adds a revocation list.
    pub fn add_revocation_list(&mut self, list: RevocationList) {
        let newer = |own: &RevocationList| own.this_update_unix_s() >= list.this_update_unix_s();
        let place = self.lists.partition_point(newer);
        self.lists.insert(place, list);
    }

    /// Every authority, roots first.
    pub fn authorities(&self) -> impl Iterator<Item = &Certificate> {
        self.roots.iter().chain(&self.intermediates)
    }

    /// The revocation lists, the newest first.
    #[must_use]
    pub fn revocation_lists(&self) -> &[RevocationList] {
        &self.lists
    }

    /// The content of a CERTREQ payload after its encoding: the SHA-1 of each authority's
    /// SubjectPublicKeyInfo (RFC 7296 §3.7).
    #[must_use]
    pub fn certificate_request(&self) -> Vec<u8> {
        self.authorities().flat_map(|authority| *authority.key_id()).collect()
    }

    /// The intermediates to send after an own certificate, without the root.
    #[must_use]
    pub fn chain_of(&self, certificate: &Certificate) -> Vec<Certificate> {
        let mut chain: Vec<Certificate> = Vec::new();
        let mut last = certificate;
        while let Some(next) = self
            .intermediates
            .iter()
            .find(|next| next.subject_der() == last.issuer_der() && !chain.contains(next))
        {
            if chain.len() + 1 == PeerCertificates::CERTIFICATES_MAX {
                break;
            }
            chain.push(next.clone());
            last = next;
        }
        chain
    }

    /// Whether an own certificate leads to an authority that a peer's CERTREQ names; a
    /// request for nothing in particular accepts any. `request` is what follows the encoding.
    #[must_use]
    pub fn answers_request(&self, certificate: &Certificate, request: &[u8]) -> bool {
        let (hashes, rest) = request.as_chunks::<20>();
        if hashes.is_empty() && rest.is_empty() {
            return true;
        }
        let chain = self.chain_of(certificate);
        let top = chain.last().unwrap_or(certificate);
        let roots = self.roots.iter().filter(|root| root.subject_der() == top.issuer_der());
        chain.iter().chain(roots).any(|authority| hashes.contains(authority.key_id()))
    }

    /// The key of a peer's certificate, if a chain of authorities or the connection itself
    /// vouches for it. The identity is not looked at:
    /// [`VerifiedPeerKey::matches_identity`].
    ///
    /// `intermediates` are those the peer sent after its own certificate.
    ///
    /// # Errors
    /// The reason why not, and the subject it is about.
    pub fn verify_chain(
        &self,
        end_entity: &Certificate,
        intermediates: &[Certificate],
        policy: &PeerPolicy,
        now_unix_s: u64,
    ) -> Result<VerifiedPeerKey, CertificateError> {
        let mut key = VerifiedPeerKey::of_certificate(end_entity, &policy.rules)?;
        let is_pinned = policy.certificates.contains(end_entity);
        if !policy.certificates.is_empty() && !is_pinned {
            return Err(end_entity.error(CertificateFault::NotPinned));
        }
        if is_pinned && policy.authorities.is_empty() {
            end_entity.check_validity(now_unix_s)?;
            if self.lists.iter().any(|list| list.lists(end_entity)) {
                return Err(end_entity.error(CertificateFault::Revoked));
            }
            return Ok(key);
        }
        let path = path::PathCheck { store: self, policy, now_unix_s };
        key.authority = Some(path.verify(end_entity, intermediates)?);
        Ok(key)
    }

    /// The key to verify a peer's AUTH with, from what it sent.
    ///
    /// # Errors
    /// [`Self::verify_chain`]; a raw key that is not configured; nothing sent, for which
    /// [`Self::configured_keys`] may help.
    pub fn verify_peer(
        &self,
        sent: &PeerCertificates,
        policy: &PeerPolicy,
        now_unix_s: u64,
    ) -> Result<VerifiedPeerKey, CertificateError> {
        if let Some((end_entity, intermediates)) = sent.certificates.split_first() {
            return self.verify_chain(end_entity, intermediates, policy, now_unix_s);
        }
        match &sent.raw_key {
            Some(key) if policy.public_keys.contains(key) => {
                VerifiedPeerKey::of_raw_key(key, &policy.rules)
            }
            Some(_) => Err(CertificateFault::NotPinned.into()),
            None => Err(CertificateFault::Missing.into()),
        }
    }

    /// The keys configured for a peer that sent no certificate: pinned certificates of that
    /// identity that [`Self::verify_chain`] accepts, and raw keys.
    #[must_use]
    pub fn configured_keys(
        &self,
        identity: &Identity,
        policy: &PeerPolicy,
        now_unix_s: u64,
    ) -> Vec<VerifiedPeerKey> {
        let own = policy.certificates.iter().filter(|own| own.matches_identity(identity));
        let certificates = own.map(|own| self.verify_chain(own, &[], policy, now_unix_s));
        let raw = policy.public_keys.iter();
        let raw = raw.map(|key| VerifiedPeerKey::of_raw_key(key, &policy.rules));
        certificates.chain(raw).filter_map(Result::ok).collect()
    }
}
