//! Identities, certificates, keys and shared secrets of IKE peers.
//!
//! Octets and text come in, answers go out: nothing here opens a file or a socket, reads a
//! clock or follows an address found in a certificate. The caller reads files and says what
//! time it is. Everything that a peer can send has a ceiling, and an error says what was
//! refused and why, in text that is safe to log.
//!
//! - [`Identity`], [`IdentityPattern`]: who a peer says it is, and whom a configuration
//!   accepts (RFC 7296 §3.5).
//! - [`AuthMethod`]: how a round of authentication may be done, in the words of swanctl.
//! - [`Certificate`], [`PeerCertificates`], [`TrustStore`]: what a peer sends to prove it, and
//!   whether to believe it (RFC 5280, RFC 4945).
//! - [`PrivateKeyStore`]: keys of this gateway, found by public key.
//! - [`SharedSecrets`]: pre-shared keys, EAP passwords and post-quantum keys by identity.
#![forbid(unsafe_code)]

mod auth_method;
mod base64;
mod certificate;
mod certificate_error;
mod distinguished_name;
mod escape;
mod identity;
mod peer_certificates;
mod pem;
mod private_key;
mod raw_public_key;
mod revocation;
mod shared_secret;
mod trust;

pub use auth_method::{AuthMethod, AuthMethodError, EapKind, KeyKind, Padding, SignatureRules};
pub use certificate::Certificate;
pub use certificate_error::{CertificateError, CertificateFault, FileError};
pub use escape::Escaped;
pub use identity::pattern::{IdentityMatch, IdentityPattern};
pub use identity::{Identity, IdentityError, IdentityKind};
pub use peer_certificates::PeerCertificates;
pub use private_key::PrivateKeyStore;
pub use raw_public_key::RawPublicKey;
pub use revocation::{RevocationList, RevocationPolicy};
pub use shared_secret::{
    SECRET_OCTETS_MAX, SecretTextError, SharedSecret, SharedSecretKind, SharedSecrets,
    secret_from_text,
};
pub use trust::{PeerPolicy, TrustStore, VerifiedPeerKey};
