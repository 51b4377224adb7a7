//! A server and all kinds of clients.

#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use xswan_management::{BindError, Client, ClientError, Limits, Server};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xswan-socket-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("made");
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("test.sock")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

const WAIT: Duration = Duration::from_secs(10);

/// Runs a server that echoes its arguments while `body` runs on another thread.
fn serving(socket: &Path, limits: Limits, body: impl FnOnce() + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("runtime").block_on(async {
        let server = Server::bind(socket, limits).expect("bound");
        let (sender, mut calls) = mpsc::channel(8);
        let server = tokio::spawn(server.run(sender));
        let body = tokio::task::spawn_blocking(body);
        tokio::pin!(body);
        loop {
            tokio::select! {
                done = &mut body => { done.expect("body"); break; }
                Some(call) = calls.recv() => {
                    let answer = match call.request.command.as_str() {
                        "echo" => Ok(call.request.arguments.clone()),
                        "count" => {
                            let mut events = call.stream(Value::from("from 0"), 64);
                            for number in 0..3 {
                                assert!(events.send(Value::from(number)));
                            }
                            continue;
                        }
                        "flood" => {
                            let mut events = call.stream(Value::Null, 4);
                            let sent = (0..1000).take_while(|n| events.send(Value::from(*n)));
                            // The rest is refused at once instead of being kept.
                            assert_eq!(sent.count(), 4);
                            assert!(!events.is_open());
                            continue;
                        }
                        "large" => Ok(Value::from("x".repeat(8 << 20))),
                        other => Err(format!("unknown command {other:?}")),
                    };
                    call.answer(answer);
                }
            }
        }
        drop(calls);
        server.await.expect("ended");
    });
}

#[test]
fn a_question_is_answered() {
    let place = Place::new("answer");
    let socket = place.socket();
    let path = socket.clone();
    serving(&socket, Limits::default(), move || {
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let client = Client::new(&path, WAIT);
        assert_eq!(client.request("echo", json!({"a": 1})).expect("ok"), json!({"a": 1}));
        let refused = client.request("nonsense", Value::Null).expect_err("unknown");
        assert!(matches!(refused, ClientError::Refused(why) if why.contains("nonsense")));
    });
    assert!(!socket.exists());
}

#[test]
fn a_stale_file_is_replaced_and_a_live_one_is_not() {
    let place = Place::new("stale");
    let socket = place.socket();
    drop(UnixListener::bind(&socket).expect("bound"));
    let path = socket.clone();
    serving(&socket, Limits::default(), move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let second = runtime
            .expect("runtime")
            .block_on(async { Server::bind(&path, Limits::default()).expect_err("in use") });
        assert!(matches!(second, BindError::InUse { .. }), "{second}");
        Client::new(&path, WAIT).request("echo", Value::Null).expect("still served");
    });
    std::fs::write(&socket, "").expect("written");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let error = runtime
        .expect("runtime")
        .block_on(async { Server::bind(&socket, Limits::default()).expect_err("a file") });
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert!(socket.exists());
}

fn first_line(stream: &UnixStream) -> String {
    let mut line = String::new();
    // The server may close with unread input, which resets the connection.
    let _reset = BufReader::new(stream).read_line(&mut line);
    line
}

#[test]
fn ctl_09_malformed_and_half_requests() {
    let place = Place::new("malformed");
    let socket = place.socket();
    let path = socket.clone();
    serving(&socket, Limits::default(), move || {
        let mut stream = UnixStream::connect(&path).expect("connected");
        for bad in
            ["", "null", "{", "[1,2]", "{\"command\":7}", "{\"command\":\"echo\",\"x\":1}", "\u{1}"]
        {
            stream.write_all(format!("{bad}\n").as_bytes()).expect("written");
            let line = first_line(&stream);
            assert!(line.starts_with("{\"ok\":false,\"error\":\"not a request"), "{bad}: {line}");
        }
        stream.write_all(b"{\"command\":\"echo\",\"arguments\":5}\n").expect("written");
        assert_eq!(first_line(&stream), "{\"ok\":true,\"result\":5}\n");
        stream.write_all(b"{\"command\":").expect("written");
        stream.shutdown(std::net::Shutdown::Write).expect("shut");
        assert!(first_line(&stream).contains("one line"));
        let mut deep = UnixStream::connect(&path).expect("connected");
        let nested = format!("{}\n", "[".repeat(60_000));
        deep.write_all(nested.as_bytes()).expect("written");
        assert!(first_line(&deep).contains("not a request"));
    });
}

#[test]
fn ctl_09_an_endless_line_is_cut() {
    let place = Place::new("endless");
    let socket = place.socket();
    let path = socket.clone();
    serving(&socket, Limits::default(), move || {
        let mut stream = UnixStream::connect(&path).expect("connected");
        let chunk = vec![b'x'; 1 << 16];
        // The server hangs up long before this ends.
        let sent = (0..1024).take_while(|_| stream.write_all(&chunk).is_ok()).count();
        assert!(sent < 64, "{sent} chunks taken");
        Client::new(&path, WAIT).request("echo", Value::Null).expect("others are served");
    });
}

#[test]
fn ctl_09_connections_are_bounded() {
    let place = Place::new("many");
    let socket = place.socket();
    let path = socket.clone();
    let limits = Limits { connections: 4, ..Limits::default() };
    serving(&socket, limits, move || {
        let mut held: Vec<_> =
            (0..4).map(|_| UnixStream::connect(&path).expect("connected")).collect();
        for stream in &mut held {
            // An answer proves that the connection has its place.
            stream.write_all(b"{\"command\":\"echo\"}\n").expect("written");
            assert!(first_line(stream).contains("true"));
        }
        for _ in 0..1000 {
            let mut extra = UnixStream::connect(&path).expect("connected");
            let mut rest = Vec::new();
            assert_eq!(extra.read_to_end(&mut rest).unwrap_or(0), 0);
        }
        for stream in &mut held {
            stream.write_all(b"{\"command\":\"echo\"}\n").expect("written");
            assert!(first_line(stream).contains("true"));
        }
    });
}

#[test]
fn ctl_09_a_slow_reader_is_dropped() {
    let place = Place::new("slow");
    let socket = place.socket();
    let path = socket.clone();
    let limits = Limits { connections: 1, write: Duration::from_millis(50), ..Limits::default() };
    serving(&socket, limits, move || {
        let mut slow = UnixStream::connect(&path).expect("connected");
        slow.write_all(b"{\"command\":\"large\"}\n").expect("written");
        // Its place is free again without it having read a single octet.
        let client = Client::new(&path, WAIT);
        while client.request("echo", Value::Null).is_err() {
            std::thread::yield_now();
        }
    });
}

#[test]
fn nobody_there_is_said() {
    let error = Client::new(Path::new("/nonexistent/x.sock"), WAIT)
        .request("status", Value::Null)
        .expect_err("nobody");
    assert!(error.to_string().contains("is the daemon running?"), "{error}");
}

#[test]
fn a_stream_goes_on_until_the_daemon_ends_it() {
    let place = Place::new("stream");
    let socket = place.socket();
    serving(&place.socket(), Limits::default(), move || {
        let client = Client::new(&socket, WAIT);
        let (result, events) = client.stream("count", Value::Null).expect("answered");
        assert_eq!(result, "from 0");
        let events: Vec<_> = events.map(|event| event.expect("readable")).collect();
        assert_eq!(events, [0, 1, 2].map(Value::from));
        // An ordinary answer has no events after it, and an error no stream.
        assert!(client.stream("nonsense", Value::Null).is_err());
        assert_eq!(client.request("echo", json!({"a": 1})).expect("answered"), json!({"a": 1}));
    });
}

#[test]
fn ctl_09_a_reader_that_falls_behind_loses_the_stream() {
    let place = Place::new("flood");
    let socket = place.socket();
    serving(&place.socket(), Limits::default(), move || {
        let client = Client::new(&socket, WAIT);
        let (_, events) = client.stream("flood", Value::Null).expect("answered");
        let events: Vec<_> = events.map(|event| event.expect("readable")).collect();
        assert_eq!(events, [0, 1, 2, 3].map(Value::from));
    });
}
