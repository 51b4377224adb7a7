//! The daemons' Unix socket: one JSON object a line, request and answer.
//!
//! ```text
//! → {"command":"status","arguments":{}}
//! ← {"ok":true,"result":{…}}
//! ← {"ok":false,"error":"unknown command"}
//! ```
//!
//! An answer may go on with events, a line each, until either side closes the connection
//! ([`Call::stream`], [`Client::stream`]).
//!
//! The [`Server`] runs on a current-thread tokio runtime beside the daemon's own work and
//! hands each request to the daemon as a [`Call`]. Its memory is bounded whatever the other
//! side does: so many connections, so long a line, so long a wait ([`Limits`]). Only root
//! and the daemon's own user are answered, by the kernel's word (`SO_PEERCRED`).
#![forbid(unsafe_code)]

mod client;
mod server;

pub use client::{Client, ClientError, Events};
pub use server::{BindError, Call, EventSender, Limits, Server};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The command's name.
    pub command: String,
    /// Its arguments, an object; absent is empty.
    #[serde(default)]
    pub arguments: Value,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Response {
    /// Whether the command was carried out.
    pub ok: bool,
    /// Its result, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why not, if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<Result<Value, String>> for Response {
    fn from(answer: Result<Value, String>) -> Self {
        match answer {
            Ok(result) => Self { ok: true, result: Some(result), error: None },
            Err(error) => Self { ok: false, result: None, error: Some(error) },
        }
    }
}
