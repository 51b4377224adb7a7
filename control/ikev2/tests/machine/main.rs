//! The machine, cell by cell: every state, every exchange, request and response, every class of
//! Message ID. What it does in each is in `machine_table.txt`; a change of it shows in a review.
//!
//! `XSWAN_TABLE=write` writes the table anew.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a message is shown by some of its payloads")]

mod cells;
mod states;

use cells::{CLASSES, EXCHANGES, outcome};
use states::STATES;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Exchanges, or those that are not among them if that is shorter.
fn shortened(names: &[&str]) -> String {
    let missing = EXCHANGES.iter().map(|(_, name)| *name).filter(|name| !names.contains(name));
    let missing: Vec<&str> = missing.collect();
    match missing.len() {
        0 => "any".into(),
        1 | 2 => format!("any but {}", missing.join(", ")),
        _ => names.join(", "),
    }
}

/// Lines of one state: for each kind and class, exchanges with the same outcome together.
fn rows(state: &states::Entry, table: &mut String) {
    writeln!(table, "\n{}", state.name).expect("written");
    for response in [false, true] {
        for class in CLASSES {
            let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
            for (exchange, name) in EXCHANGES {
                let Some(what) = outcome(state, exchange, response, class) else { continue };
                match groups.iter_mut().find(|(known, _)| *known == what) {
                    Some((_, names)) => names.push(name),
                    None => groups.push((what, vec![name])),
                }
            }
            let kind = if response { "response" } else { "request" };
            for (what, names) in groups {
                let names = shortened(&names);
                writeln!(table, "  {kind}, {}: {names}: {what}", class.name()).expect("written");
            }
        }
    }
}

fn table() -> String {
    let mut table = String::from(
        "# State, then kind and Message ID of an authenticated message without payloads (or of\n\
         # one in clear), its exchange, and what the machine does. Written by tests/machine.\n",
    );
    for state in STATES {
        rows(state, &mut table);
    }
    table
}

#[test]
fn ike_16_ike_18_every_cell_is_as_it_is_written() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/machine_table.txt");
    let table = table();
    if std::env::var("XSWAN_TABLE").is_ok_and(|value| value == "write") {
        std::fs::write(&path, &table).expect("written");
        return;
    }
    let written = std::fs::read_to_string(&path).expect("the table");
    for (number, (is, was)) in table.lines().zip(written.lines()).enumerate() {
        assert_eq!(is, was, "line {}; XSWAN_TABLE=write writes the table anew", number + 1);
    }
    assert_eq!(table, written);
}
