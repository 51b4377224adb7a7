//! Events of the core for people and programs: the log, and `xswan monitor`.
//!
//! Anybody on the network can cause events, so the log has a ceiling of lines in a second;
//! what is left out is counted and said. The counters are exact.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use xswan_ikev2::event::{Event, Level};
use xswan_management::EventSender;

/// Lines in a second at most.
const LINES_PER_S: u32 = 100;
/// Watchers at most.
const WATCHERS_MAX: usize = 16;
/// Events that wait for a watcher that is slow; then it is let go.
const BACKLOG: usize = 4096;

/// The log.
#[derive(Debug, Default)]
pub struct EventLog {
    second: u64,
    lines: u32,
    suppressed: u64,
    counters: BTreeMap<&'static str, u64>,
    watchers: Vec<EventSender>,
}

fn as_json(event: &Event, unix_ms: u64) -> Value {
    let mut value = json!({ "event": event.name, "time_ms": unix_ms, "text": event.text });
    value["level"] = match event.level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warning => "warning",
    }
    .into();
    let fields = [
        ("connection", event.connection.as_ref().map(|name| json!(name))),
        ("ike", event.ike.map(|id| json!(id.0))),
        ("child", event.child.map(|id| json!(id.0))),
        ("remote", event.remote.map(|address| json!(address.to_string()))),
    ];
    for (key, field) in fields {
        if let Some(field) = field {
            value[key] = field;
        }
    }
    value
}

impl EventLog {
    /// Writes and counts an event.
    pub fn note(&mut self, event: &Event, unix_ms: u64) {
        *self.counters.entry(event.name).or_default() += 1;
        if !self.watchers.is_empty() {
            let value = as_json(event, unix_ms);
            self.watchers.retain_mut(|watcher| watcher.send(value.clone()));
        }
        if self.admits(unix_ms / 1000) {
            write(event);
        }
    }

    /// Whether one more line may be written in this second.
    fn admits(&mut self, second: u64) -> bool {
        if second != self.second {
            if self.suppressed > 0 {
                tracing::warn!(lines = self.suppressed, "events were not logged: too many");
            }
            (self.second, self.lines, self.suppressed) = (second, 0, 0);
        }
        // One place is for the line that says how many are missing.
        if self.lines + 1 >= LINES_PER_S {
            self.suppressed += 1;
            return false;
        }
        self.lines += 1;
        true
    }

    /// Somebody wants to see events as they happen; false if there are too many already.
    pub fn watch(&mut self, call: xswan_management::Call) -> bool {
        self.watchers.retain(EventSender::is_open);
        if self.watchers.len() >= WATCHERS_MAX {
            call.answer(Err(format!("there are {WATCHERS_MAX} watchers already")));
            return false;
        }
        self.watchers.push(call.stream(json!({}), BACKLOG));
        true
    }

    /// How often each event happened.
    #[must_use]
    pub fn counters(&self) -> &BTreeMap<&'static str, u64> {
        &self.counters
    }
}

fn write(event: &Event) {
    let ike = event.ike.map(|id| id.0);
    let child = event.child.map(|id| id.0);
    let remote = event.remote.map(tracing::field::display);
    let (name, text) = (event.name, &event.text);
    let connection = event.connection.as_deref();
    match event.level {
        Level::Debug => tracing::debug!(event = name, connection, ike, child, remote, "{text}"),
        Level::Info => tracing::info!(event = name, connection, ike, child, remote, "{text}"),
        Level::Warning => tracing::warn!(event = name, connection, ike, child, remote, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xswan_ikev2::IkeId;

    fn event(name: &'static str) -> Event {
        Event {
            level: Level::Info,
            name,
            connection: Some("net".to_owned()),
            ike: Some(IkeId(3)),
            child: None,
            remote: "192.0.2.1:500".parse().ok(),
            text: "line".to_owned(),
        }
    }

    #[test]
    fn dos_13_a_flood_of_events_is_counted_and_not_logged() {
        let mut log = EventLog::default();
        let mut written = 0;
        for _ in 0..10_000 {
            written += u32::from(log.admits(7));
            log.note(&event("handshake-failed"), 7_000);
        }
        assert!(written < LINES_PER_S);
        assert!(log.admits(8), "the next second is another one");
        assert_eq!(log.counters()["handshake-failed"], 10_000);
    }

    #[test]
    fn programs_get_the_fields_that_there_are() {
        let value = as_json(&event("ike-established"), 1_500);
        let expected = json!({
            "event": "ike-established", "time_ms": 1500, "text": "line", "level": "info",
            "connection": "net", "ike": 3, "remote": "192.0.2.1:500",
        });
        assert_eq!(value, expected);
    }
}
