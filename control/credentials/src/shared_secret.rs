//! Pre-shared keys, EAP passwords and post-quantum keys, found by identity.

use crate::escape::Escaped;
use crate::identity::pattern::{IdentityMatch, IdentityPattern, is_any};
use crate::identity::{Identity, IdentityError, IdentityKind};
use rustls_pki_types::pem::decode_base64;
use std::fmt;
use zeroize::Zeroizing;
