//! Certificate revocation lists (RFC 5280 §5) from files, and how much they are wanted.
//!
//! Nothing is ever fetched: a distribution point or OCSP responder named in a certificate
//! only tells that a status could be had. OCSP is not spoken.

use crate::certificate::Certificate;
use crate::certificate_error::{CertificateFault, FileError};
use crate::pem;
use der::{Decode, Encode};
use std::fmt;
use std::str::FromStr;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_cert::crl::CertificateList;

/// Longest file of revocation lists.
const FILE_OCTETS_MAX: usize = 64 * 1024 * 1024;
const FILE_LISTS_MAX: usize = 1000;
/// issuingDistributionPoint: the list covers a part of what its issuer issued.
const ISSUING_DISTRIBUTION_POINT: &str = "2.5.29.28";

/// How much a peer's revocation status matters; `revocation` of swanctl.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationPolicy {
    /// Every certificate of the chain must be on no list, by a fresh list of its issuer.
    Strict,
    /// As `Strict` for certificates that say where a status could be had.
    IfUri,
    /// Only a certificate known to be revoked is refused; an old list still counts.
    #[default]
    Relaxed,
}

impl FromStr for RevocationPolicy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "strict" => Ok(Self::Strict),
            "ifuri" => Ok(Self::IfUri),
            "relaxed" => Ok(Self::Relaxed),
            _ => Err("allowed: strict, ifuri, relaxed"),
        }
    }
}

/// One revocation list. Its signature is verified when it is used, by the issuer's key.
pub struct RevocationList {
    pub(crate) list: CertRevocationList<'static>,
    issuer: Vec<u8>,
    this_update_unix_s: u64,
    next_update_unix_s: u64,
    is_partial: bool,
}

impl RevocationList {
    /// Decodes DER.
    ///
    /// # Errors
    /// Anything but a complete version 2 list with a time of its next update.
    pub fn from_der(octets: &[u8]) -> Result<Self, FileError> {
        let decoded: CertificateList = CertificateList::from_der(octets)
            .map_err(|_| FileError::RevocationList("it does not decode"))?;
        let list = OwnedCertRevocationList::from_der(octets).map_err(list_fault)?;
        let tbs = decoded.tbs_cert_list;
        let next_update = tbs.next_update.ok_or(FileError::RevocationList("no next update"))?;
        let partial = tbs.crl_extensions.iter().flatten();
        let is_partial = partial
            .into_iter()
            .any(|extension| extension.extn_id.to_string() == ISSUING_DISTRIBUTION_POINT);
        Ok(Self {
            list: list.into(),
            issuer: tbs.issuer.to_der().map_err(|_| FileError::RevocationList("issuer"))?,
            this_update_unix_s: tbs.this_update.to_unix_duration().as_secs(),
            next_update_unix_s: next_update.to_unix_duration().as_secs(),
            is_partial,
        })
    }

    /// The lists of a file, PEM or DER.
    ///
    /// # Errors
    /// Files with anything else.
    pub fn from_file(file: &[u8]) -> Result<Vec<Self>, FileError> {
        if file.len() > FILE_OCTETS_MAX {
            return Err(FileError::TooLong);
        }
        let mut found = Vec::new();
        for section in pem::sections(file, FILE_LISTS_MAX)? {
            match section.label.as_deref() {
                None | Some("X509 CRL") => found.push(Self::from_der(&section.der)?),
                Some(label) => return Err(FileError::WrongObject(label.to_owned())),
            }
        }
        Ok(found)
    }

    /// The issuer as text that is safe to log.
    #[must_use]
    pub fn issuer_text(&self) -> String {
        crate::distinguished_name::text(&self.issuer)
    }

    /// When it was made, seconds since 1970.
    #[must_use]
    pub fn this_update_unix_s(&self) -> u64 {
        self.this_update_unix_s
    }

    /// When the next one is due, seconds since 1970.
    #[must_use]
    pub fn next_update_unix_s(&self) -> u64 {
        self.next_update_unix_s
    }

    pub(crate) fn is_of_issuer(&self, certificate: &Certificate) -> bool {
        self.issuer == certificate.issuer_der()
    }

    /// Whether the certificate is listed; the list's signature is not looked at.
    pub(crate) fn lists(&self, certificate: &Certificate) -> bool {
        self.is_of_issuer(certificate)
            && self.list.find_serial(certificate.serial()).is_ok_and(|found| found.is_some())
    }

    /// Whether a list tells a fresh status of the certificate; the signature is not looked at.
    pub(crate) fn status_known(
        lists: &[Self],
        certificate: &Certificate,
        now_unix_s: u64,
    ) -> Result<(), CertificateFault> {
        let mut whole =
            lists.iter().filter(|list| !list.is_partial && list.is_of_issuer(certificate));
        // The newest comes first, and is the one looked into.
        match whole.next() {
            None => Err(CertificateFault::RevocationUnknown),
            Some(list) if now_unix_s >= list.next_update_unix_s => {
                Err(CertificateFault::RevocationListExpired)
            }
            Some(_) => Ok(()),
        }
    }
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RevocationList({})", self.issuer_text())
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other errors are about encodings")]
fn list_fault(error: webpki::Error) -> FileError {
    FileError::RevocationList(match error {
        webpki::Error::UnsupportedDeltaCrl => "delta lists are not supported",
        webpki::Error::UnsupportedIndirectCrl => "indirect lists are not supported",
        webpki::Error::UnsupportedCrlVersion => "not version 2",
        webpki::Error::UnsupportedRevocationReasonsPartitioning => {
            "lists by reason are not supported"
        }
        webpki::Error::UnsupportedCriticalExtension => "unknown critical extension",
        _ => "it does not decode",
    })
}
