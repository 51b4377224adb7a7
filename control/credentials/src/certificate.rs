//! X.509 certificates (RFC 5280): what IKE needs to know of one.
//!
//! Decoding says nothing about trust: that is [`TrustStore`](crate::TrustStore)'s to judge.

use crate::certificate_error::{CertificateError, CertificateFault, FileError};
use crate::distinguished_name;
use crate::identity::{Identity, IdentityKind};
use crate::pem;
use der::asn1::AnyRef;
use der::{Decode, Encode, Reader, SliceReader, Tag, Tagged};
use rustls_pki_types::CertificateDer;
use std::fmt;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::time::Time;
use xswan_ike_crypto::sha1;

/// Extensions and access methods by number: subjectAltName, cRLDistributionPoints,
/// authorityInfoAccess, and OCSP inside the last.
const SUBJECT_ALT_NAME: &str = "2.5.29.17";
const CRL_DISTRIBUTION_POINTS: &str = "2.5.29.31";
const AUTHORITY_INFO_ACCESS: &str = "1.3.6.1.5.5.7.1.1";
const OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1];
/// Most certificates in one file.
const FILE_CERTIFICATES_MAX: usize = 1000;

/// A decoded certificate. Equal exactly if the octets are.
#[derive(Clone)]
pub struct Certificate {
    der: CertificateDer<'static>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    serial: Vec<u8>,
    not_before: Time,
    not_after: Time,
    spki: Vec<u8>,
    key_id: [u8; 20],
    names: Vec<Identity>,
    is_authority: bool,
    path_length: Option<u8>,
    key_usage: Option<KeyUsage>,
    has_revocation_source: bool,
}

impl Certificate {
    /// Longest certificate decoded.
    pub const OCTETS_MAX: usize = 16 * 1024;

    /// Decodes DER.
    ///
    /// # Errors
    /// Anything but one certificate of at most [`Self::OCTETS_MAX`] octets in strict DER.
    pub fn from_der(octets: &[u8]) -> Result<Self, CertificateError> {
        if octets.len() > Self::OCTETS_MAX {
            return Err(CertificateFault::TooLong(octets.len()).into());
        }
        let malformed = |place| move |_: der::Error| CertificateFault::Malformed(place);
        let decoded = x509_cert::Certificate::from_der(octets).map_err(malformed("encoding"))?;
        let tbs = decoded.tbs_certificate();
        let extensions = tbs.extensions().map(Vec::as_slice).unwrap_or_default();
        for (index, extension) in extensions.iter().enumerate() {
            if extensions.iter().take(index).any(|other| other.extn_id == extension.extn_id) {
                return Err(CertificateFault::Malformed("an extension twice").into());
            }
        }
        let value = |number: &str| {
            let mut all = extensions.iter();
            let found = all.find(|extension| extension.extn_id.to_string() == number);
            found.map(|extension| extension.extn_value.as_bytes())
        };
        let names = value(SUBJECT_ALT_NAME).map(alternative_names).transpose();
        let constraints = tbs.get_extension::<BasicConstraints>();
        let constraints = constraints.map_err(malformed("basic constraints"))?;
        let constraints = constraints.map(|(_, constraints)| constraints);
        let key_usage = tbs.get_extension::<KeyUsage>().map_err(malformed("key usage"))?;
        let ocsp = value(AUTHORITY_INFO_ACCESS)
            .is_some_and(|value| value.windows(OCSP.len()).any(|window| window == OCSP));
        let spki = tbs.subject_public_key_info().to_der().map_err(malformed("public key"))?;
        Ok(Self {
            der: CertificateDer::from(octets.to_vec()),
            subject: tbs.subject().to_der().map_err(malformed("subject"))?,
            issuer: tbs.issuer().to_der().map_err(malformed("issuer"))?,
            serial: tbs.serial_number().as_bytes().to_vec(),
            not_before: tbs.validity().not_before,
            not_after: tbs.validity().not_after,
            key_id: sha1(&[&spki]),
            spki,
            names: names.map_err(malformed("subject alternative name"))?.unwrap_or_default(),
            is_authority: constraints.as_ref().is_some_and(|constraints| constraints.ca),
            path_length: constraints.and_then(|constraints| constraints.path_len_constraint),
            key_usage: key_usage.map(|(_, usage)| usage),
            has_revocation_source: ocsp || value(CRL_DISTRIBUTION_POINTS).is_some(),
        })
    }

    /// The certificates of a file, PEM or DER, in the file's order.
    ///
    /// # Errors
    /// Files without a certificate, or with anything that is none.
    pub fn from_file(file: &[u8]) -> Result<Vec<Self>, FileError> {
        let mut found = Vec::new();
        for section in pem::sections(file, FILE_CERTIFICATES_MAX)? {
            match section.label.as_deref() {
                None | Some("CERTIFICATE" | "X509 CERTIFICATE") => {
                    found.push(Self::from_der(&section.der)?);
                }
                Some(label) => return Err(FileError::WrongObject(label.to_owned())),
            }
        }
        Ok(found)
    }

    /// The octets of the certificate, for a CERT payload of encoding 4.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The subject's distinguished name in DER; an empty sequence if there is none.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        &self.subject
    }

    /// The issuer's distinguished name in DER.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// The subject as text that is safe to log.
    #[must_use]
    pub fn subject_text(&self) -> String {
        distinguished_name::text(&self.subject)
    }

    /// The issuer as text that is safe to log.
    #[must_use]
    pub fn issuer_text(&self) -> String {
        distinguished_name::text(&self.issuer)
    }

    /// The serial number's octets, most significant first.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The serial number as strongSwan lists it: `0a:1b:2c`.
    #[must_use]
    pub fn serial_text(&self) -> String {
        colons(&self.serial)
    }

    /// First second of validity, since 1970.
    #[must_use]
    pub fn not_before_unix_s(&self) -> u64 {
        self.not_before.to_unix_duration().as_secs()
    }

    /// Last second of validity, since 1970.
    #[must_use]
    pub fn not_after_unix_s(&self) -> u64 {
        self.not_after.to_unix_duration().as_secs()
    }

    /// First and last second of validity, RFC 3339.
    #[must_use]
    pub fn validity_text(&self) -> (String, String) {
        let text = |time: &Time| time.to_date_time().to_string();
        (text(&self.not_before), text(&self.not_after))
    }

    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-1 of the SubjectPublicKeyInfo, as CERTREQ names authorities (RFC 7296 §3.7).
    #[must_use]
    pub fn key_id(&self) -> &[u8; 20] {
        &self.key_id
    }

    /// [`Self::key_id`] as `0a:1b:2c`.
    #[must_use]
    pub fn key_id_text(&self) -> String {
        colons(&self.key_id)
    }

    /// The subject alternative names that are identities: domain and mail names, addresses,
    /// distinguished names. Others are left out.
    #[must_use]
    pub fn names(&self) -> &[Identity] {
        &self.names
    }

    /// The subject as an identity; `None` if it is empty.
    #[must_use]
    pub fn subject_identity(&self) -> Option<Identity> {
        let kind = IdentityKind::DistinguishedName as u8;
        Identity::from_payload(kind, &self.subject).ok()
    }

    /// Whether the basic constraints make this the certificate of an authority.
    #[must_use]
    pub fn is_authority(&self) -> bool {
        self.is_authority
    }

    /// Whether subject and issuer have the same name.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// How many authorities may follow below this one.
    pub(crate) fn path_length(&self) -> Option<u8> {
        self.path_length
    }

    /// Whether the certificate says where its revocation status could be had.
    pub(crate) fn has_revocation_source(&self) -> bool {
        self.has_revocation_source
    }

    /// Key usage allows the key to sign for a peer (RFC 4945 §5.1.3.2).
    pub(crate) fn may_sign(&self) -> bool {
        let usage = self.key_usage.as_ref();
        usage.is_none_or(|usage| usage.digital_signature() || usage.non_repudiation())
    }

    /// Key usage allows the key to sign certificates.
    pub(crate) fn may_certify(&self) -> bool {
        self.key_usage.as_ref().is_none_or(KeyUsage::key_cert_sign)
    }

    /// Whether this is a certificate of that identity: the identity is the whole subject, or
    /// one of the subject alternative names, of the same kind.
    ///
    /// A common name proves nothing, and a wildcard in a certificate stands for itself alone.
    #[must_use]
    pub fn matches_identity(&self, identity: &Identity) -> bool {
        self.names.contains(identity)
            || (identity.kind() == IdentityKind::DistinguishedName
                && self.subject_identity().as_ref() == Some(identity))
    }

    /// The fault, with this certificate's subject.
    pub(crate) fn error(&self, fault: CertificateFault) -> CertificateError {
        CertificateError { fault, subject: self.subject_text() }
    }

    /// Checks the time.
    pub(crate) fn check_validity(&self, now_unix_s: u64) -> Result<(), CertificateError> {
        let (not_before, not_after) = (self.not_before_unix_s(), self.not_after_unix_s());
        if now_unix_s < not_before {
            return Err(self.error(CertificateFault::NotYetValid { not_before_unix_s: not_before }));
        }
        if now_unix_s > not_after {
            return Err(self.error(CertificateFault::Expired { not_after_unix_s: not_after }));
        }
        Ok(())
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Certificate({}, serial {})", self.subject_text(), self.serial_text())
    }
}

fn colons(octets: &[u8]) -> String {
    let pairs: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    pairs.join(":")
}

/// The names of a SubjectAltName extension that are identities.
fn alternative_names(value: &[u8]) -> der::Result<Vec<Identity>> {
    let sequence = AnyRef::from_der(value)?;
    sequence.tag().assert_eq(Tag::Sequence)?;
    let mut reader = SliceReader::new(sequence.value())?;
    let mut names = Vec::new();
    while !reader.is_finished() {
        let name = AnyRef::decode(&mut reader)?;
        let Tag::ContextSpecific { number, .. } = name.tag() else {
            return Err(name.tag().unexpected_error(None).into());
        };
        let kind = match (number.value(), name.value().len()) {
            (1, _) => IdentityKind::Rfc822,
            (2, _) => IdentityKind::Fqdn,
            (4, _) => IdentityKind::DistinguishedName,
            (7, 4) => IdentityKind::Ipv4,
            (7, 16) => IdentityKind::Ipv6,
            _ => continue,
        };
        // A name nobody can have as an identity is no reason to refuse the others.
        names.extend(Identity::from_payload(kind as u8, name.value()));
    }
    Ok(names)
}
