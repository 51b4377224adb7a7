//! The operator's side: blocking, for one question at a time.

use crate::{Request, Response};
use serde_json::Value;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Octets of an answer: a listing of a million SAs fits.
const ANSWER_MAX: u64 = 1 << 30;
/// Octets of an event.
const EVENT_MAX: u64 = 1 << 20;

/// Why there is no result.
#[derive(Debug)]
pub enum ClientError {
    /// The daemon cannot be reached, or does not answer.
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The daemon says no.
    Refused(
        /// In its own words.
        String,
    ),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { path, error } => {
                write!(f, "{}: {error}; is the daemon running?", path.display())
            }
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ClientError {}

/// A daemon's socket, seen from outside.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
    timeout: Duration,
}

impl Client {
    /// A client that waits for each answer no longer than `timeout`.
    #[must_use]
    pub fn new(path: &Path, timeout: Duration) -> Self {
        Self { path: path.to_owned(), timeout }
    }

    /// Asks one question.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn request(&self, command: &str, arguments: Value) -> Result<Value, ClientError> {
        self.stream(command, arguments).map(|(result, _)| result)
    }

    /// Asks one question whose answer goes on with events, which may be long in coming.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn stream(&self, command: &str, arguments: Value) -> Result<(Value, Events), ClientError> {
        let request = Request { command: command.to_owned(), arguments };
        let response = self.exchange(&request);
        let (response, events) = response
            .map_err(|error| ClientError::Unreachable { path: self.path.clone(), error })?;
        match response {
            Response { ok: true, result, .. } => Ok((result.unwrap_or(Value::Null), events)),
            Response { error, .. } => {
                Err(ClientError::Refused(error.unwrap_or_else(|| "no reason given".to_owned())))
            }
        }
    }

    fn exchange(&self, request: &Request) -> io::Result<(Response, Events)> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut read = BufReader::new(stream);
        let answer = read_line(&mut read, ANSWER_MAX)?;
        let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        read.get_ref().set_read_timeout(None)?;
        Ok((serde_json::from_slice(&answer)?, Events { read }))
    }
}

/// A line, or `None` at the end.
fn read_line(read: &mut BufReader<UnixStream>, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    read.take(most).read_until(b'\n', &mut line)?;
    Ok((!line.is_empty()).then_some(line))
}

/// Events after an answer, for as long as the daemon has some. Waits without end.
#[derive(Debug)]
pub struct Events {
    read: BufReader<UnixStream>,
}

impl Iterator for Events {
    type Item = io::Result<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = read_line(&mut self.read, EVENT_MAX).transpose()?;
        Some(line.and_then(|line| Ok(serde_json::from_slice(&line)?)))
    }
}
