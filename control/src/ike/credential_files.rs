//! The files that the configuration names, read: certificates, keys, revocation lists.
//!
//! Private keys are taken only from regular files that are root's or our own and closed to
//! others. What cannot be read or understood is an error that names the file: a gateway that
//! silently lacks an authority or a revocation list is not the one that was asked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xswan_config::{Config, ConfigError, Place};
use xswan_credentials::{Certificate, PrivateKeyStore, RawPublicKey, RevocationList, TrustStore};
use xswan_eap::tls::OwnCertificate;
use xswan_ike_crypto::Secret;

/// Longest file of certificates or lists, in octets.
const FILE_MAX: u64 = 64 << 20;

/// A private key for TLS, which wants the octets, and the store that knows its public half.
struct TlsKey {
    store: PrivateKeyStore,
    der: Secret,
}

/// Everything that was found in files.
pub struct Credentials {
    /// Authorities and revocation lists.
    pub trust: TrustStore,
    /// Our keys.
    pub keys: PrivateKeyStore,
    /// End entity certificates in the folder for them, ours and others'.
    pub certificates: Vec<Arc<Certificate>>,
    tls_keys: Vec<TlsKey>,
    read: HashMap<PathBuf, Vec<Arc<Certificate>>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("trust", &self.trust)
            .field("keys", &self.keys)
            .field("certificates", &self.certificates.len())
            .finish_non_exhaustive()
    }
}

fn failed(path: &Path, what: impl std::fmt::Display) -> ConfigError {
    ConfigError {
        file: path.display().to_string(),
        line: 0,
        column: 0,
        key: String::new(),
        what: what.to_string().replace(char::is_control, "?"),
        allowed: String::new(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    use std::io::Read as _;
    let refused = |error: std::io::Error| failed(path, error);
    // Opening anything else might wait for ever.
    if !std::fs::metadata(path).map_err(refused)?.is_file() {
        return Err(failed(path, "is no regular file"));
    }
    let file = std::fs::File::open(path).map_err(refused)?;
    let mut octets = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut octets).map_err(refused)?;
    if octets.len() as u64 > FILE_MAX {
        return Err(failed(path, format!("is longer than {FILE_MAX} octets")));
    }
    Ok(octets)
}

/// An error of a file that a line of the configuration names.
fn at(place: &Place, error: &ConfigError) -> ConfigError {
    place.error(format!("{}: {}", error.file, error.what), "")
}

impl Credentials {
    /// Reads everything in the folders and under `[authorities]` and `[secrets]`.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(config: &Config) -> Result<Self, ConfigError> {
        let files = config.credential_files()?;
        let mut credentials = Self {
            trust: TrustStore::default(),
            keys: PrivateKeyStore::default(),
            certificates: Vec::new(),
            tls_keys: Vec::new(),
            read: HashMap::new(),
        };
        for path in &files.authorities {
            credentials.add_authorities(path)?;
        }
        for path in &files.revocation_lists {
            let lists = RevocationList::from_file(&read(path)?);
            for list in lists.map_err(|error| failed(path, error))? {
                credentials.trust.add_revocation_list(list);
            }
        }
        for path in &files.private_keys {
            credentials.add_private_key(path)?;
        }
        for path in &files.certificates {
            let certificates = credentials.certificates_of(path)?;
            credentials.certificates.extend(certificates);
        }
        Ok(credentials)
    }

    fn add_authorities(&mut self, path: &Path) -> Result<Vec<Arc<Certificate>>, ConfigError> {
        let authorities = self.certificates_of(path)?;
        for authority in &authorities {
            let added = self.trust.add_authority(Certificate::clone(authority));
            added.map_err(|error| failed(path, error))?;
        }
        Ok(authorities)
    }

    fn add_private_key(&mut self, path: &Path) -> Result<(), ConfigError> {
        let file = xswan_config::read_private_file(path).map_err(|what| failed(path, what))?;
        self.keys.add_file(&file).map_err(|error| failed(path, error))?;
        let mut store = PrivateKeyStore::default();
        store.add_file(&file).map_err(|error| failed(path, error))?;
        if let Some(der) = private_key_der(&file) {
            self.tls_keys.push(TlsKey { store, der });
        }
        Ok(())
    }

    /// The certificates of a file, which is read once.
    fn certificates_of(&mut self, path: &Path) -> Result<Vec<Arc<Certificate>>, ConfigError> {
        if let Some(known) = self.read.get(path) {
            return Ok(known.clone());
        }
        let certificates = Certificate::from_file(&read(path)?);
        let certificates = certificates.map_err(|error| failed(path, error))?;
        let certificates: Vec<_> = certificates.into_iter().map(Arc::new).collect();
        self.read.insert(path.to_owned(), certificates.clone());
        Ok(certificates)
    }

    /// The certificates of files that a section names.
    ///
    /// # Errors
    /// One that cannot be used, with the section's place.
    pub fn named(
        &mut self,
        paths: &[PathBuf],
        place: &Place,
    ) -> Result<Vec<Arc<Certificate>>, ConfigError> {
        let mut all = Vec::new();
        for path in paths {
            all.extend(self.certificates_of(path).map_err(|error| at(place, &error))?);
        }
        Ok(all)
    }

    /// The authorities of files that a section names; they are trusted from then on.
    ///
    /// # Errors
    /// One that cannot be used, with the section's place.
    pub fn named_authorities(
        &mut self,
        paths: &[PathBuf],
        place: &Place,
    ) -> Result<Vec<Arc<Certificate>>, ConfigError> {
        let mut all = Vec::new();
        for path in paths {
            all.extend(self.add_authorities(path).map_err(|error| at(place, &error))?);
        }
        Ok(all)
    }

    /// Certificate, chain and key for TLS, of the first of these certificates that we have the
    /// key to.
    #[must_use]
    pub fn own_for_tls(&self, candidates: &[Arc<Certificate>]) -> Option<OwnCertificate> {
        candidates.iter().find_map(|certificate| {
            let of = |key: &&TlsKey| key.store.of_certificate(certificate).is_some();
            let key = self.tls_keys.iter().find(of)?;
            let mut chain = vec![certificate.der().to_vec()];
            chain.extend(self.trust.chain_of(certificate).iter().map(|next| next.der().to_vec()));
            Some(OwnCertificate { chain, key: key.der.clone() })
        })
    }
}

/// The raw public keys of files that a section names.
///
/// # Errors
/// One that cannot be used, with the section's place.
pub fn public_keys(paths: &[PathBuf], place: &Place) -> Result<Vec<RawPublicKey>, ConfigError> {
    let one = |path: &PathBuf| {
        let octets = read(path).map_err(|error| at(place, &error))?;
        RawPublicKey::from_file(&octets).map_err(|error| at(place, &failed(path, error)))
    };
    paths.iter().map(one).collect()
}

/// The DER of a key file that was understood already.
fn private_key_der(file: &[u8]) -> Option<Secret> {
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject as _;
    if !file.trim_ascii_start().starts_with(b"-----") {
        return Some(Secret::from_slice(file));
    }
    let key = PrivateKeyDer::from_pem_slice(file).ok()?;
    Some(Secret::from_slice(key.secret_der()))
}
