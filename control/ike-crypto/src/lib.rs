//! What IKEv2 computes: prf, key exchange, SK ciphers, signatures.
#![forbid(unsafe_code)]
