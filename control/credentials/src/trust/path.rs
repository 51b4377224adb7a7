//! One chain from a peer's certificate to a root.

use super::{PeerPolicy, TrustStore};
use crate::auth_method::{KeyKind, Padding, SignatureRules};
use crate::certificate::Certificate;
use crate::certificate_error::{CertificateError, CertificateFault};
use crate::peer_certificates::PeerCertificates;
use crate::raw_public_key::key_fault;
use crate::revocation::{RevocationList, RevocationPolicy};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use std::cell::RefCell;
use std::time::Duration;
use webpki::aws_lc_rs as algorithms;
use webpki::{EndEntityCert, Error, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use webpki::{RequiredEkuNotFoundContext, RevocationOptions, RevocationOptionsBuilder};
use webpki::{UnknownStatusPolicy, VerifiedPath};
use xswan_ike_crypto::HashAlgorithm;
use xswan_ike_crypto::signature::PublicKey;

/// Most certificates of one subject a peer may offer for a chain: every further one doubles
/// the ways to build it.
const SAME_SUBJECT_MAX: usize = 2;

/// anyExtendedKeyUsage, serverAuth, clientAuth, ipsecIKE (RFC 4945 §5.1.3.12), and
/// iKEIntermediate, which old Windows and macOS ask for.
const KEY_PURPOSES: &[&[usize]] = &[
    &[2, 5, 29, 37, 0],
    &[1, 3, 6, 1, 5, 5, 7, 3, 1],
    &[1, 3, 6, 1, 5, 5, 7, 3, 2],
    &[1, 3, 6, 1, 5, 5, 7, 3, 17],
    &[1, 3, 6, 1, 5, 5, 8, 2, 2],
];

/// Accepts certificates without extended key usage and those with a usage fit for IKE.
struct IkePurposes;

impl ExtendedKeyUsageValidator for IkePurposes {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let mut present = Vec::new();
        for purpose in purposes {
            present.push(purpose?.to_decoded_oid());
        }
        if present.is_empty() || present.iter().any(|own| KEY_PURPOSES.contains(&&own[..])) {
            return Ok(());
        }
        let required = webpki::KeyUsage::client_auth();
        Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
    }
}

/// Signature algorithms of chains and what they are in the words of `auth`.
const ALGORITHMS: &[(
    &dyn SignatureVerificationAlgorithm,
    KeyKind,
    Option<Padding>,
    HashAlgorithm,
)] = {
    use HashAlgorithm::{Identity, Sha256, Sha384, Sha512};
    use KeyKind::{Ecdsa, Ed25519, Rsa};
    const PKCS1: Option<Padding> = Some(Padding::Pkcs1);
    const PSS: Option<Padding> = Some(Padding::Pss);
    &[
        (algorithms::ECDSA_P256_SHA256, Ecdsa, None, Sha256),
        (algorithms::ECDSA_P256_SHA384, Ecdsa, None, Sha384),
        (algorithms::ECDSA_P256_SHA512, Ecdsa, None, Sha512),
        (algorithms::ECDSA_P384_SHA256, Ecdsa, None, Sha256),
        (algorithms::ECDSA_P384_SHA384, Ecdsa, None, Sha384),
        (algorithms::ECDSA_P384_SHA512, Ecdsa, None, Sha512),
        (algorithms::ECDSA_P521_SHA256, Ecdsa, None, Sha256),
        (algorithms::ECDSA_P521_SHA384, Ecdsa, None, Sha384),
        (algorithms::ECDSA_P521_SHA512, Ecdsa, None, Sha512),
        (algorithms::ED25519, Ed25519, None, Identity),
        (algorithms::RSA_PKCS1_2048_8192_SHA256, Rsa, PKCS1, Sha256),
        (algorithms::RSA_PKCS1_2048_8192_SHA384, Rsa, PKCS1, Sha384),
        (algorithms::RSA_PKCS1_2048_8192_SHA512, Rsa, PKCS1, Sha512),
        (algorithms::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS, Rsa, PKCS1, Sha256),
        (algorithms::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS, Rsa, PKCS1, Sha384),
        (algorithms::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS, Rsa, PKCS1, Sha512),
        (algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY, Rsa, PSS, Sha256),
        (algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY, Rsa, PSS, Sha384),
        (algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY, Rsa, PSS, Sha512),
    ]
};

fn permitted(rules: &SignatureRules) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
    let fits = |(_, key, padding, hash): &&(_, KeyKind, Option<Padding>, HashAlgorithm)| {
        rules.permits_chain(*key, *padding, *hash)
    };
    ALGORITHMS.iter().filter(fits).map(|(algorithm, ..)| *algorithm).collect()
}

/// What a chain is checked against.
pub(super) struct PathCheck<'a> {
    pub(super) store: &'a TrustStore,
    pub(super) policy: &'a PeerPolicy,
    pub(super) now_unix_s: u64,
}

impl PathCheck<'_> {
    /// The subject of the root a chain leads to.
    pub(super) fn verify(
        &self,
        end_entity: &Certificate,
        sent: &[Certificate],
    ) -> Result<String, CertificateError> {
        let pool = self.pool(sent)?;
        let ders: Vec<CertificateDer<'_>> =
            pool.iter().map(|certificate| CertificateDer::from(certificate.der())).collect();
        let decoded = EndEntityCert::try_from(end_entity.certificate_der())
            .map_err(|error| end_entity.error(fault(&error)))?;
        let lists: Vec<_> = self.store.lists.iter().map(|list| &list.list).collect();
        // webpki knows its own reasons only: ours are kept beside it.
        let reason = RefCell::new(None);
        let root = RefCell::new(String::new());
        let also = |path: &VerifiedPath<'_>| {
            let chain = path.intermediate_certificates().filter_map(|used| {
                pool.iter().copied().find(|own| own.der() == used.der().as_ref())
            });
            let chain: Vec<&Certificate> = chain.collect();
            match self.check_path(end_entity, &chain, path) {
                Ok(subject) => {
                    *root.borrow_mut() = subject;
                    Ok(())
                }
                Err(error) => {
                    *reason.borrow_mut() = Some(error);
                    Err(Error::UnknownIssuer)
                }
            }
        };
        let found = decoded.verify_for_usage(
            &permitted(&self.policy.rules),
            &self.store.anchors,
            &ders,
            UnixTime::since_unix_epoch(Duration::from_secs(self.now_unix_s)),
            IkePurposes,
            self.revocation(&lists),
            Some(&also),
        );
        match found {
            Ok(_) => Ok(root.take()),
            Err(Error::UnknownIssuer) => Err(reason
                .take()
                .unwrap_or_else(|| end_entity.error(CertificateFault::UnknownIssuer))),
            Err(error) => Err(self.name_culprit(fault(&error), end_entity, &pool)),
        }
    }

    /// What a chain may be built of: our intermediates, and the peer's within bounds.
    fn pool<'c>(
        &'c self,
        sent: &'c [Certificate],
    ) -> Result<Vec<&'c Certificate>, CertificateError> {
        if sent.len() >= PeerCertificates::CERTIFICATES_MAX {
            return Err(CertificateFault::TooMany.into());
        }
        let mut pool: Vec<&Certificate> = self.store.intermediates.iter().collect();
        let own = pool.len();
        for certificate in sent {
            let same = pool
                .iter()
                .skip(own)
                .filter(|other| other.subject_der() == certificate.subject_der())
                .count();
            if same < SAME_SUBJECT_MAX && !pool.contains(&certificate) {
                pool.push(certificate);
            }
        }
        Ok(pool)
    }

    fn revocation<'l>(
        &self,
        lists: &'l [&'l webpki::CertRevocationList<'l>],
    ) -> Option<RevocationOptions<'l>> {
        let builder = RevocationOptionsBuilder::new(lists).ok()?;
        let builder = match self.policy.revocation {
            RevocationPolicy::Strict => builder
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce),
            RevocationPolicy::IfUri | RevocationPolicy::Relaxed => builder
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore),
        };
        Some(builder.build())
    }

    /// What webpki does not check of a chain it has verified: answers the root's subject.
    fn check_path(
        &self,
        end_entity: &Certificate,
        chain: &[&Certificate],
        path: &VerifiedPath<'_>,
    ) -> Result<String, CertificateError> {
        for certificate in chain {
            self.check_authority(certificate)?;
        }
        for certificate in chain.iter().copied().chain([end_entity]) {
            self.check_status(certificate).map_err(|fault| certificate.error(fault))?;
        }
        // Several roots may share name and key, such as one renewed: any that fits will do.
        let anchor = path.anchor();
        let same = |index: &usize| {
            self.store.anchors.get(*index).is_some_and(|own| {
                own.subject == anchor.subject
                    && own.subject_public_key_info == anchor.subject_public_key_info
            })
        };
        let mut reason = end_entity.error(CertificateFault::UnknownIssuer);
        for index in (0..self.store.anchors.len()).filter(same) {
            let Some(root) = self.store.roots.get(index) else { continue };
            match self.check_root(root, end_entity, chain) {
                Ok(()) => return Ok(root.subject_text()),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    fn check_root(
        &self,
        root: &Certificate,
        end_entity: &Certificate,
        chain: &[&Certificate],
    ) -> Result<(), CertificateError> {
        root.check_validity(self.now_unix_s)?;
        self.check_authority(root)?;
        if root.path_length().is_some_and(|most| chain.len() > usize::from(most)) {
            return Err(root.error(CertificateFault::PathLength));
        }
        let accepted = &self.policy.authorities;
        let named = chain.iter().copied().chain([root]).any(|own| accepted.contains(own));
        if !accepted.is_empty() && !named {
            return Err(end_entity.error(CertificateFault::AuthorityNotAccepted));
        }
        Ok(())
    }

    fn check_authority(&self, authority: &Certificate) -> Result<(), CertificateError> {
        if !authority.may_certify() {
            return Err(authority.error(CertificateFault::KeyUsage));
        }
        let key = PublicKey::from_spki(authority.spki_der());
        let key = key.map_err(|error| authority.error(key_fault(error)))?;
        if !self.policy.rules.permits_authority_key(key.key_type()) {
            return Err(authority.error(CertificateFault::KeyNotPermitted));
        }
        Ok(())
    }

    /// That a status is known, where policy asks for one; whether it is good, webpki has seen.
    fn check_status(&self, certificate: &Certificate) -> Result<(), CertificateFault> {
        match self.policy.revocation {
            RevocationPolicy::Relaxed => Ok(()),
            RevocationPolicy::IfUri if !certificate.has_revocation_source() => Ok(()),
            RevocationPolicy::IfUri => {
                RevocationList::status_known(&self.store.lists, certificate, self.now_unix_s)
            }
            RevocationPolicy::Strict if self.store.lists.is_empty() => {
                Err(CertificateFault::RevocationUnknown)
            }
            RevocationPolicy::Strict => Ok(()),
        }
    }

    /// webpki does not say which certificate of the chain it minds.
    fn name_culprit(
        &self,
        fault: CertificateFault,
        end_entity: &Certificate,
        pool: &[&Certificate],
    ) -> CertificateError {
        let mut all = [end_entity].into_iter().chain(pool.iter().copied());
        let is_time = matches!(
            fault,
            CertificateFault::Expired { .. } | CertificateFault::NotYetValid { .. }
        );
        let is_fault = |certificate: &&Certificate| {
            if is_time {
                let error = certificate.check_validity(self.now_unix_s).err();
                error.is_some_and(|error| error.fault == fault)
            } else {
                fault != CertificateFault::Revoked
                    || self.store.lists.iter().any(|list| list.lists(certificate))
            }
        };
        all.find(is_fault).unwrap_or(end_entity).error(fault.clone())
    }
}

/// webpki's reasons in our words.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other errors are about encodings")]
pub(super) fn fault(error: &Error) -> CertificateFault {
    match error {
        Error::CertExpired { not_after, .. } => {
            CertificateFault::Expired { not_after_unix_s: not_after.as_secs() }
        }
        Error::CertNotValidYet { not_before, .. } => {
            CertificateFault::NotYetValid { not_before_unix_s: not_before.as_secs() }
        }
        Error::CertRevoked => CertificateFault::Revoked,
        Error::UnknownRevocationStatus => CertificateFault::RevocationUnknown,
        Error::CrlExpired { .. } => CertificateFault::RevocationListExpired,
        Error::InvalidCrlSignatureForPublicKey
        | Error::UnsupportedCrlSignatureAlgorithmContext(_)
        | Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_)
        | Error::IssuerNotCrlSigner => CertificateFault::RevocationListSignature,
        Error::InvalidSignatureForPublicKey => CertificateFault::BadSignature,
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | Error::SignatureAlgorithmMismatch => CertificateFault::SignatureAlgorithm,
        Error::UnknownIssuer => CertificateFault::UnknownIssuer,
        Error::NameConstraintViolation
        | Error::MalformedNameConstraint
        | Error::InvalidNetworkMaskConstraint => CertificateFault::NameConstraint,
        Error::PathLenConstraintViolated => CertificateFault::PathLength,
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
            CertificateFault::ExtendedKeyUsage
        }
        Error::CaUsedAsEndEntity => CertificateFault::AuthorityAsPeer,
        Error::EndEntityUsedAsCa => CertificateFault::NotAnAuthority,
        Error::UnsupportedCriticalExtension => CertificateFault::CriticalExtension,
        Error::UnsupportedCertVersion => CertificateFault::Version,
        Error::MaximumPathDepthExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => CertificateFault::TooComplex,
        _ => CertificateFault::Malformed("chain"),
    }
}
