//! Which SAs a listing shows: those of a name or of a number, as swanctl selects them.

use crate::ike::commands::Arguments;
use serde_json::{Value, json};

/// What was asked for; nothing is everything.
#[derive(Debug, Default)]
pub struct Selection {
    child: Option<String>,
    ike: Option<String>,
    child_id: Option<u32>,
    ike_id: Option<u32>,
}

fn is(wanted: Option<&String>, name: &Value) -> bool {
    wanted.is_none_or(|wanted| name == wanted)
}

fn is_number(wanted: Option<u32>, number: &Value) -> bool {
    wanted.is_none_or(|wanted| *number == wanted)
}

impl Selection {
    /// The arguments of a call.
    ///
    /// # Errors
    /// Unknown arguments, and values of the wrong kind.
    pub fn read(arguments: &Value) -> Result<Self, String> {
        let arguments = Arguments(arguments);
        arguments.check(&["child", "ike", "child_id", "ike_id"])?;
        Ok(Self {
            child: arguments.text("child")?,
            ike: arguments.text("ike")?,
            child_id: arguments.number("child_id")?,
            ike_id: arguments.number("ike_id")?,
        })
    }

    /// Whether children are selected, and not IKE SAs as a whole.
    fn by_child(&self) -> bool {
        self.child.is_some() || self.child_id.is_some()
    }

    fn child_fits(&self, child: &Value) -> bool {
        is(self.child.as_ref(), &child["name"]) && is_number(self.child_id, &child["unique_id"])
    }

    /// An IKE SA with the children that are meant; none of them, and the SA is not either.
    fn of_ike_sa(&self, mut sa: Value) -> Option<Value> {
        if !is(self.ike.as_ref(), &sa["name"]) || !is_number(self.ike_id, &sa["unique_id"]) {
            return None;
        }
        if self.by_child() {
            let children = sa["children"].as_array_mut()?;
            children.retain(|child| self.child_fits(child));
            if children.is_empty() {
                return None;
            }
        }
        Some(sa)
    }

    /// Static pairs have names, and none of the daemon's numbers.
    fn static_fits(&self, sa: &Value) -> bool {
        self.child_id.is_none()
            && self.ike_id.is_none()
            && is(self.ike.as_ref(), &sa["connection"])
            && is(self.child.as_ref(), &sa["child"])
    }

    /// The part of a listing, an object of `ike_sas` and `static`, that was asked for.
    #[must_use]
    pub fn of(&self, mut listing: Value) -> Value {
        let mut taken = |key: &str| match listing[key].take() {
            Value::Array(all) => all,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => Vec::new(),
        };
        let ike_sas: Vec<Value> =
            taken("ike_sas").into_iter().filter_map(|sa| self.of_ike_sa(sa)).collect();
        let mut statics = taken("static");
        statics.retain(|sa| self.static_fits(sa));
        json!({ "ike_sas": ike_sas, "static": statics })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Value {
        let child = |name, id| json!({ "name": name, "unique_id": id });
        json!({
            "ike_sas": [
                { "name": "a", "unique_id": 1, "children": [child("net", 3), child("voice", 4)] },
                { "name": "b", "unique_id": 2, "children": [child("net", 5)] },
                { "name": "b", "unique_id": 6, "children": [] },
            ],
            "static": [{ "connection": "a", "child": "net" }, { "connection": "c", "child": "net" }],
        })
    }

    /// Numbers of the IKE SAs with those of their children, and the static connections.
    fn shown(arguments: &Value) -> (Vec<(u64, Vec<u64>)>, Vec<String>) {
        let all = Selection::read(arguments).expect("valid").of(listing());
        let number = |value: &Value| value["unique_id"].as_u64().expect("a number");
        let array = |value: &Value| value.as_array().expect("an array").clone();
        let children = |sa: &Value| array(&sa["children"]).iter().map(number).collect();
        let ike_sas = array(&all["ike_sas"]).iter().map(|sa| (number(sa), children(sa))).collect();
        let name = |sa: &Value| sa["connection"].as_str().expect("a name").to_owned();
        (ike_sas, array(&all["static"]).iter().map(name).collect())
    }

    #[test]
    fn names_and_numbers_select() {
        let every = vec![(1, vec![3, 4]), (2, vec![5]), (6, vec![])];
        assert_eq!(shown(&Value::Null), (every, vec!["a".into(), "c".into()]));
        let of = |arguments| shown(&arguments);
        assert_eq!(of(json!({ "ike": "a" })), (vec![(1, vec![3, 4])], vec!["a".into()]));
        assert_eq!(of(json!({ "ike": "a", "child": "voice" })), (vec![(1, vec![4])], vec![]));
        assert_eq!(of(json!({ "child_id": 5 })), (vec![(2, vec![5])], vec![]));
        assert_eq!(of(json!({ "ike_id": 6 })), (vec![(6, vec![])], vec![]));
        assert_eq!(of(json!({ "ike": "none" })), (vec![], vec![]));
    }

    #[test]
    fn what_is_no_selection_is_refused() {
        for wrong in
            [json!({ "ike": 1 }), json!({ "ike_id": "a" }), json!({ "peer": "a" }), json!(1)]
        {
            assert!(Selection::read(&wrong).is_err(), "{wrong}");
        }
    }
}
