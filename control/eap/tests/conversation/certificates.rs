//! Certificates made for the occasion.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm, date_time_ymd,
};
use xswan_eap::tls::OwnCertificate;
use xswan_ike_crypto::Secret;

/// 2026-01-01, within the validity of all that is valid.
pub const NOW_UNIX_S: u64 = 1_767_225_600;

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a certificate is like.
#[derive(Clone)]
pub struct Wish {
    pub name: &'static str,
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    pub algorithm: &'static SignatureAlgorithm,
    /// First and last year of validity.
    pub years: (i32, i32),
}

impl Wish {
    /// ECDSA, good for both sides, valid.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            algorithm: &PKCS_ECDSA_P256_SHA256,
            years: (2020, 2040),
        }
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = authority_params(name);
        params.not_before = date_time_ymd(2020, 1, 1);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// An authority below this one.
    pub fn subordinate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(authority_params(name), key, &self.0).unwrap())
    }

    pub fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    pub fn issue(&self, wish: &Wish) -> OwnCertificate {
        let key = KeyPair::generate_for(wish.algorithm).unwrap();
        let mut params = CertificateParams::new(vec![wish.name.to_owned()]).unwrap();
        params.extended_key_usages = wish.usages.clone();
        params.not_before = date_time_ymd(wish.years.0, 1, 1);
        params.not_after = date_time_ymd(wish.years.1, 1, 1);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        OwnCertificate {
            chain: vec![certificate.der().to_vec()],
            key: Secret::from_vec(key.serialize_der()),
        }
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}
