//! What the operator sees in the log and by `xswan monitor`.

use crate::input::{ChildId, IkeId};
use std::net::SocketAddr;

/// How much attention a line deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Detail, such as each message.
    Debug,
    /// What happens in normal operation.
    Info,
    /// Something the operator may have to act on.
    Warning,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// How much attention it deserves.
    pub level: Level,
    /// A stable word for programs, such as `ike-established`.
    pub name: &'static str,
    /// Connection, if it is known.
    pub connection: Option<String>,
    /// IKE SA, if there is one.
    pub ike: Option<IkeId>,
    /// Child SA, if it is about one.
    pub child: Option<ChildId>,
    /// The peer, if it is about one.
    pub remote: Option<SocketAddr>,
    /// One line for people. Identities and other text of the peer are escaped in it.
    pub text: String,
}
