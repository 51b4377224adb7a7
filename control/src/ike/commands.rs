//! The operator's commands that the core carries out: the call is answered when it is done.

use super::event_loop::Ike;
use crate::tables::Tables;
use serde_json::{Value, json};
use xswan_config::Config;
use xswan_ikev2::{ChildId, IkeId, Input, RequestId, Target};
use xswan_management::Call;
use xswan_sa_api::clock_ms;

/// Calls that wait for the core at most.
const WAITING_MAX: usize = 256;

/// A call on its way.
#[derive(Debug)]
pub struct Waiting {
    call: Call,
    deadline_ms: Option<u64>,
}

impl Waiting {
    /// Answers it.
    pub fn finish(self, result: Result<u32, String>) {
        self.call.answer(result.map(|matches| json!({ "matches": matches })));
    }
}

/// The arguments of a call; unknown ones and wrong kinds are errors.
pub(crate) struct Arguments<'a>(pub(crate) &'a Value);

impl Arguments<'_> {
    pub(crate) fn check(&self, known: &[&str]) -> Result<(), String> {
        let Some(fields) = self.0.as_object() else {
            return if self.0.is_null() { Ok(()) } else { Err("arguments are an object".into()) };
        };
        match fields.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(format!("unknown argument {key:?}; allowed: {}", known.join(", "))),
            None => Ok(()),
        }
    }

    fn read<T>(
        &self,
        key: &str,
        what: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| format!("{key}: is no {what}")),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, String> {
        self.read(key, "name", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<u32>, String> {
        self.read(key, "number", |value| value.as_u64()?.try_into().ok())
    }

    fn flag(&self, key: &str) -> Result<bool, String> {
        Ok(self.read(key, "yes or no", Value::as_bool)?.unwrap_or(false))
    }

    fn timeout(&self) -> Result<Option<u64>, String> {
        self.read("timeout_ms", "number", Value::as_u64)
    }

    /// The SAs that are meant: the most exact of what was given.
    fn target(&self) -> Result<Target, String> {
        let (child, ike) = (self.text("child")?, self.text("ike")?);
        let (child_id, ike_id) = (self.number("child_id")?, self.number("ike_id")?);
        match (child_id, ike_id, child, ike) {
            (Some(id), ..) => Ok(Target::ChildSa(ChildId(id))),
            (None, Some(id), None, _) => Ok(Target::Ike(IkeId(id))),
            (None, None, Some(child), connection) => Ok(Target::Child { connection, child }),
            (None, Some(_), Some(_), _) => Err("ike_id and child: which one?".into()),
            (None, None, None, Some(name)) => Ok(Target::Connection(name)),
            (None, None, None, None) => Err("missing: child, ike, child_id or ike_id".into()),
        }
    }
}

/// The input that a command stands for, and how long it may take.
fn input(
    command: &str,
    arguments: &Value,
    request: RequestId,
) -> Result<(Input, Option<u64>), String> {
    const SELECTION: [&str; 4] = ["child", "ike", "child_id", "ike_id"];
    let arguments = Arguments(arguments);
    let request = Some(request);
    let input = match command {
        "initiate" => {
            arguments.check(&["child", "ike", "timeout_ms"])?;
            let (connection, child) = (arguments.text("ike")?, arguments.text("child")?);
            if connection.is_none() && child.is_none() {
                return Err("missing: child or ike".into());
            }
            Input::Initiate { connection, child, packet: None, request }
        }
        "terminate" => {
            arguments.check(&[&SELECTION[..], &["force", "timeout_ms"]].concat())?;
            let (target, force) = (arguments.target()?, arguments.flag("force")?);
            Input::Terminate { target, force, request }
        }
        "rekey" => {
            arguments.check(&[&SELECTION[..], &["reauth", "timeout_ms"]].concat())?;
            let (target, reauthenticate) = (arguments.target()?, arguments.flag("reauth")?);
            Input::Rekey { target, reauthenticate, request }
        }
        other => return Err(format!("{other} is no command of IKE")),
    };
    Ok((input, arguments.timeout()?))
}

impl Ike {
    /// Carries out a command; the call is answered then, or when its time is over.
    pub fn command(&mut self, tables: &mut Tables, call: Call) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let read = input(&call.request.command, &call.request.arguments, request);
        let (input, timeout_ms) = match read {
            Ok(read) => read,
            Err(error) => return call.answer(Err(error)),
        };
        if self.waiting.len() >= WAITING_MAX {
            return call.answer(Err(format!("{WAITING_MAX} commands are under way already")));
        }
        let deadline_ms = timeout_ms.map(|time| clock_ms().saturating_add(time));
        self.waiting.insert(request.0, Waiting { call, deadline_ms });
        self.handle(tables, input);
    }

    /// Starts the children that start by themselves, have no SA yet, and are new since `old`.
    pub fn start_children(&mut self, tables: &mut Tables, old: Option<&Config>) {
        let mut names = Vec::new();
        for connection in &self.engine.configuration().clone().connections {
            for child in &connection.children {
                let before = old.is_some_and(|old| starts(old, &connection.name, &child.name));
                let up = tables.child_sas.has(&connection.name, &child.name);
                if child.start_action.starts() && !before && !up {
                    names.push((connection.name.clone(), child.name.clone()));
                }
            }
        }
        for (connection, child) in names {
            let (connection, child) = (Some(connection), Some(child));
            self.handle(tables, Input::Initiate { connection, child, packet: None, request: None });
        }
    }

    /// Closes what the new configuration does not have any more.
    pub fn close_removed(&mut self, tables: &mut Tables, old: &Config, new: &Config) {
        let mut targets = Vec::new();
        for connection in old.connections.iter().filter(|connection| connection.ike.is_some()) {
            let name = &connection.name;
            let now = new.connections.iter().find(|one| one.name == *name && one.ike.is_some());
            let Some(now) = now else {
                targets.push(Target::Connection(name.clone()));
                continue;
            };
            for child in &connection.children {
                if !now.children.iter().any(|one| one.name == child.name) {
                    let (connection, child) = (Some(name.clone()), child.name.clone());
                    targets.push(Target::Child { connection, child });
                }
            }
        }
        for target in targets {
            self.handle(tables, Input::Terminate { target, force: false, request: None });
        }
    }

    pub(super) fn next_timeout(&self) -> Option<u64> {
        self.waiting.values().filter_map(|waiting| waiting.deadline_ms).min()
    }

    pub(super) fn expire_calls(&mut self, now_ms: u64) {
        let over =
            |_: &u64, waiting: &mut Waiting| waiting.deadline_ms.is_some_and(|at| at <= now_ms);
        for (_, waiting) in self.waiting.extract_if(over) {
            waiting.call.answer(Err("timed out; the attempt goes on".to_owned()));
        }
    }
}

/// Whether a configuration starts a child by itself.
fn starts(config: &Config, connection: &str, child: &str) -> bool {
    let connection = config.connections.iter().find(|one| one.name == connection);
    let child =
        connection.and_then(|connection| connection.children.iter().find(|one| one.name == child));
    child.and_then(|child| child.ike.as_ref()).is_some_and(|ike| ike.start_action.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: &str, arguments: &Value) -> Result<String, String> {
        input(command, arguments, RequestId(7)).map(|(input, time)| format!("{input:?} {time:?}"))
    }

    #[test]
    fn commands_are_read_or_refused() {
        let all = |command: &str, arguments: Value| read(command, &arguments);
        let text = all("initiate", json!({"child": "net", "timeout_ms": 5000})).expect("good");
        assert!(text.contains("child: Some(\"net\")") && text.ends_with("Some(5000)"), "{text}");
        let text = all("terminate", json!({"ike_id": 3, "force": true})).expect("good");
        assert!(text.contains("Ike(IkeId(3))") && text.contains("force: true"), "{text}");
        let text = all("rekey", json!({"ike": "c", "reauth": true})).expect("good");
        assert!(text.contains("Connection(\"c\")") && text.contains("reauthenticate: true"));
        for (command, arguments) in [
            ("initiate", json!({})),
            ("initiate", Value::Null),
            ("initiate", json!({"child": 3})),
            ("initiate", json!({"child": "a", "ike_id": 3})),
            ("terminate", json!({"force": true})),
            ("terminate", json!({"ike_id": -1})),
            ("terminate", json!({"ike_id": 3, "child": "a"})),
            ("rekey", json!([1])),
            ("rekey", json!({"ike": "a", "timeout_ms": "soon"})),
            ("dance", json!({})),
        ] {
            assert!(all(command, arguments.clone()).is_err(), "{command} {arguments}");
        }
    }
}
