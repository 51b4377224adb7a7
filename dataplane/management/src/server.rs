//! The daemon's side.

use crate::{Request, Response};
use serde_json::Value;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// What one side may take of the other's memory and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; one more is closed at once.
    pub connections: usize,
    /// Octets of a request, the newline not counted.
    pub line: usize,
    /// A connection that asks nothing for so long is closed.
    pub idle: Duration,
    /// A connection that does not take its answer in this time is closed.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 32,
            line: 64 << 10,
            idle: Duration::from_secs(60),
            write: Duration::from_secs(5),
        }
    }
}

/// What a call is answered with.
#[derive(Debug)]
enum Reply {
    Answer(Result<Value, String>),
    Stream(Value, mpsc::Receiver<Value>),
}

/// A request on its way to the daemon, and the way back.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    reply: oneshot::Sender<Reply>,
}

impl Call {
    /// Answers. Who asked may be gone; that is no concern of the daemon's.
    pub fn answer(self, answer: Result<Value, String>) {
        let _gone = self.reply.send(Reply::Answer(answer));
    }

    /// Answers with a result, and goes on with events for as long as the [`EventSender`] lives.
    /// At most `backlog` of them wait for the reader.
    #[must_use]
    pub fn stream(self, result: Value, backlog: usize) -> EventSender {
        let (sender, receiver) = mpsc::channel(backlog.max(1));
        let _gone = self.reply.send(Reply::Stream(result, receiver));
        EventSender { sender: Some(sender) }
    }
}

/// The daemon's end of a stream. Dropped, it ends the stream and the connection.
#[derive(Debug)]
pub struct EventSender {
    sender: Option<mpsc::Sender<Value>>,
}

impl EventSender {
    /// Hands an event over without waiting; `false` if the reader is gone or too slow, which
    /// ends the stream: it never has gaps.
    pub fn send(&mut self, event: Value) -> bool {
        let sent = self.sender.as_ref().is_some_and(|sender| sender.try_send(event).is_ok());
        if !sent {
            self.sender = None;
        }
        sent
    }

    /// Whether somebody reads.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.sender.as_ref().is_some_and(|sender| !sender.is_closed())
    }
}

/// Why the socket cannot be had.
#[derive(Debug)]
pub enum BindError {
    /// Another process listens there.
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket has the name.
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// The kernel refuses.
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path } => {
                write!(f, "{}: another daemon is listening; stop it first", path.display())
            }
            Self::NotASocket { path } => {
                write!(f, "{}: is not a socket; move it out of the way", path.display())
            }
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for BindError {}

/// A listening socket; its file is removed on drop.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    limits: Limits,
    own_uid: u32,
}

impl Server {
    /// Listens at `path`, mode 0600. A file left by a daemon that is gone is replaced.
    ///
    /// # Errors
    /// [`BindError`]; a socket that somebody listens at is left alone.
    pub fn bind(path: &Path, limits: Limits) -> Result<Self, BindError> {
        let failed = |error| BindError::Io { path: path.to_owned(), error };
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
        // The owner of our own entry in /proc is the effective user.
        let own_uid = fs::metadata("/proc/self").map_err(failed)?.uid();
        Ok(Self { listener, path: path.to_owned(), limits, own_uid })
    }

    /// Serves until the daemon drops the receiving end of `calls`.
    pub async fn run(self, calls: mpsc::Sender<Call>) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            let accepted = tokio::select! {
                () = calls.closed() => return,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors: let some be closed before the next try.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let known = stream.peer_cred().is_ok_and(|peer| self.admits(peer.uid()));
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            if !known {
                continue;
            }
            let (calls, limits) = (calls.clone(), self.limits);
            tokio::spawn(async move {
                // Whatever goes wrong on a connection ends the connection.
                let _closed = serve(stream, limits, &calls).await;
                drop(place);
            });
        }
    }

    fn admits(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own_uid
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to be done about a file that is gone already.
        let _gone = fs::remove_file(&self.path);
    }
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let failed = |error| BindError::Io { path: path.to_owned(), error };
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !kind.is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        // Somebody listens, or may: a full backlog is no proof of absence.
        Ok(_) | Err(_) => Err(BindError::InUse { path: path.to_owned() }),
    }
}

async fn serve(stream: UnixStream, limits: Limits, calls: &mpsc::Sender<Call>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let most = limits.line as u64 + 1;
        let got = timeout(limits.idle, (&mut read).take(most).read_until(b'\n', &mut line)).await;
        if !matches!(got, Ok(Ok(octets)) if octets > 0) {
            return Ok(());
        }
        let whole = line.pop_if(|last| *last == b'\n').is_some();
        if !whole {
            // Too long, or cut off by the end of the connection: there is no next line.
            let what = format!("a request is one line of at most {} octets", limits.line);
            return send(&mut write, limits, Err(what)).await;
        }
        let answer = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => ask(request, calls).await,
            Err(error) => Reply::Answer(Err(format!("not a request: {error}"))),
        };
        match answer {
            Reply::Answer(answer) => send(&mut write, limits, answer).await?,
            Reply::Stream(result, events) => {
                send(&mut write, limits, Ok(result)).await?;
                return forward(&mut read, &mut write, limits, events).await;
            }
        }
    }
}

/// Passes events on, a line each, until the daemon has no more or the reader has left.
async fn forward(
    read: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
    write: &mut tokio::net::unix::OwnedWriteHalf,
    limits: Limits,
    mut events: mpsc::Receiver<Value>,
) -> io::Result<()> {
    let mut octet = [0];
    loop {
        let event = tokio::select! {
            // Nothing is asked on a stream: whatever comes, or an end, is the end.
            _ = read.read(&mut octet) => return Ok(()),
            event = events.recv() => event,
        };
        let Some(event) = event else { return Ok(()) };
        write_line(write, limits, serde_json::to_vec(&event)?).await?;
    }
}

async fn ask(request: Request, calls: &mpsc::Sender<Call>) -> Reply {
    let ending = || Reply::Answer(Err("the daemon is shutting down".to_owned()));
    let (reply, answer) = oneshot::channel();
    match calls.send(Call { request, reply }).await {
        Ok(()) => answer.await.unwrap_or_else(|_| ending()),
        Err(_) => ending(),
    }
}

async fn send(
    write: &mut tokio::net::unix::OwnedWriteHalf,
    limits: Limits,
    answer: Result<Value, String>,
) -> io::Result<()> {
    write_line(write, limits, serde_json::to_vec(&Response::from(answer))?).await
}

async fn write_line(
    write: &mut tokio::net::unix::OwnedWriteHalf,
    limits: Limits,
    mut line: Vec<u8>,
) -> io::Result<()> {
    line.push(b'\n');
    timeout(limits.write, write.write_all(&line))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
