//! Authorities and peers made up for a test.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rcgen::{CertificateRevocationListParams, RevokedCertParams, SerialNumber, date_time_ymd};
use xswan_credentials::{Certificate, CertificateError, PeerPolicy, RevocationList};
use xswan_credentials::{CertificateFault, TrustStore, VerifiedPeerKey};

/// The first second of 2026, 2031 and 2019; certificates are valid from 2020 to 2030.
pub const NOW: u64 = 1_767_225_600;
pub const LATER: u64 = 1_924_992_000;
pub const BEFORE: u64 = 1_546_300_800;

pub struct Authority {
    pub certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

pub fn ec() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "lab");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params
}

pub fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = named(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A peer with `O=lab, CN=<common name>` and these domain names.
pub fn peer_params(common_name: &str, names: &[&str]) -> CertificateParams {
    let mut params = named(common_name);
    let name = |name: &&str| rcgen::SanType::DnsName((*name).try_into().unwrap());
    params.subject_alt_names = names.iter().map(name).collect();
    params
}

pub fn decode(certificate: &rcgen::Certificate) -> Certificate {
    Certificate::from_der(certificate.der()).unwrap()
}

impl Authority {
    pub fn root(params: CertificateParams) -> Self {
        Self::root_with(params, ec())
    }

    pub fn root_with(params: CertificateParams, key: KeyPair) -> Self {
        let certificate = decode(&params.self_signed(&key).unwrap());
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub fn below(&self, params: CertificateParams) -> Self {
        let key = ec();
        let certificate = decode(&params.signed_by(&key, &self.issuer).unwrap());
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub fn issue(&self, params: &CertificateParams) -> Certificate {
        self.issue_for(params, &ec())
    }

    pub fn issue_for(
        &self,
        params: &CertificateParams,
        key: &impl rcgen::PublicKeyData,
    ) -> Certificate {
        decode(&params.signed_by(key, &self.issuer).unwrap())
    }

    pub fn peer(&self, name: &str) -> Certificate {
        self.issue(&peer_params(name, &[name]))
    }

    /// A list of these certificates, made in 2024 and due for renewal in that year.
    pub fn list(&self, revoked: &[&Certificate], next_update_year: i32) -> RevocationList {
        let entry = |certificate: &&Certificate| RevokedCertParams {
            serial_number: SerialNumber::from_slice(certificate.serial()),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 6, 1),
            next_update: date_time_ymd(next_update_year, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap();
        RevocationList::from_der(list.der()).unwrap()
    }
}

pub fn store(authorities: &[&Authority]) -> TrustStore {
    let mut store = TrustStore::default();
    for authority in authorities {
        store.add_authority(authority.certificate.clone()).unwrap();
    }
    store
}

pub fn verify(
    store: &TrustStore,
    peer: &Certificate,
    sent: &[&Authority],
) -> Result<VerifiedPeerKey, CertificateError> {
    let sent: Vec<_> = sent.iter().map(|authority| authority.certificate.clone()).collect();
    store.verify_chain(peer, &sent, &PeerPolicy::default(), NOW)
}

/// Why the chain is refused, after checking that the line for the log is one line.
pub fn fault(result: Result<VerifiedPeerKey, CertificateError>) -> CertificateFault {
    let error = result.expect_err("refused");
    let line = error.to_string();
    assert!(!line.chars().any(char::is_control), "{line}");
    error.fault
}
