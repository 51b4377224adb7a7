//! Why a conversation failed: for the log of this side, never for the peer.

use std::fmt;

/// Why authentication failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A packet, or a message in it, contradicts its own lengths or lacks a field.
    Malformed(&'static str),
    /// A request where a response belongs, or the reverse.
    UnexpectedCode(u8),
    /// The response is not to the last request.
    UnexpectedIdentifier,
    /// A method nobody asked for, or a packet of it at the wrong time.
    UnexpectedType(u8),
    /// The peer wants none of what was offered (Nak).
    MethodRefused,
    /// More packets than [`MAX_ROUNDS`](crate::MAX_ROUNDS).
    TooManyRounds,
    /// A message or an identity longer than allowed.
    TooLarge,
    /// User or password is wrong; which one is not told apart.
    Credentials,
    /// The server refused the password; the error code of its Failure packet (RFC 2759 §6),
    /// 691 for wrong credentials, 0 if it gave none.
    PasswordRefused(u32),
    /// The server does not know the password either: its authenticator response is wrong.
    ServerNotAuthentic,
    /// EAP-Success before the method had finished (AUT-06).
    EarlySuccess,
    /// The peer said EAP-Failure, and no more.
    PeerFailed,
    /// TLS failed; what the TLS stack said of it.
    Tls(String),
    /// A packet after the end.
    Finished,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "malformed EAP packet: {what}"),
            Self::UnexpectedCode(code) => write!(f, "unexpected EAP code {code}"),
            Self::UnexpectedIdentifier => f.write_str("EAP response to another request"),
            Self::UnexpectedType(kind) => write!(f, "unexpected EAP type {kind}"),
            Self::MethodRefused => f.write_str("the peer refuses the EAP method"),
            Self::TooManyRounds => f.write_str("too many EAP packets"),
            Self::TooLarge => f.write_str("EAP message or identity too long"),
            Self::Credentials => f.write_str("unknown user or wrong password"),
            Self::PasswordRefused(code) => {
                write!(f, "the server refuses the password (error {code})")
            }
            Self::ServerNotAuthentic => f.write_str("the server does not know the password"),
            Self::EarlySuccess => f.write_str("EAP-Success before the method had finished"),
            Self::PeerFailed => f.write_str("the peer reports EAP-Failure"),
            Self::Tls(what) => write!(f, "TLS: {what}"),
            Self::Finished => f.write_str("EAP packet after the end"),
        }
    }
}

impl std::error::Error for Reason {}
