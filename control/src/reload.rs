//! Another configuration while the daemon runs: all of it, or nothing.
//!
//! What is as before is not touched. Static SAs follow at once. Negotiated ones stay as they
//! were negotiated until they are replaced; those whose connection or child is gone are closed,
//! and children that are new and start by themselves are started.

use crate::daemon::{Control, read_configuration};
use crate::ike::convert::Converted;
use crate::ike::event_loop::Ike;
use crate::wanted::{Wanted, WantedChild, geometry};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use xswan_config::Config;

/// What a restart is needed for.
fn check_fixed(old: &Config, new: &Config) -> Result<(), String> {
    let ports = |config: &Config| (config.ike.port, config.ike.port_nat_t, config.ike.keep_state);
    let fixed = [
        ("[instance]", new.instance == old.instance),
        ("[cores]", new.cores == old.cores),
        ("[dataplane]", geometry(new) == geometry(old)),
        ("a port or keep_state in [ike]", ports(new) == ports(old)),
    ];
    match fixed.into_iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((section, _)) => {
            Err(format!("{section} has changed: that needs a restart of both daemons"))
        }
    }
}

/// Reads the configuration again and applies it.
pub(crate) fn reload(control: &mut Control) -> Result<Value, String> {
    let loaded = read_configuration(&control.source)?;
    check_fixed(&control.config, &loaded.config)?;
    // Opened before anything changes: the ports may be somebody else's.
    let fresh = match (&control.ike, loaded.ike) {
        (None, Some(converted)) => Fresh::Daemon(Box::new(Ike::start(&loaded.config, converted)?)),
        (Some(_), Some(converted)) => Fresh::Configuration(Box::new(converted)),
        (Some(_), None) => Fresh::Configuration(Box::default()),
        (None, None) => Fresh::Nothing,
    };
    let old = control.tables.configure(Arc::clone(&loaded.config), loaded.wanted);
    if let Err(error) = control.apply() {
        control.tables.configure(Arc::clone(&control.config), old);
        control.apply()?;
        return Err(error);
    }
    let old_config = std::mem::replace(&mut control.config, loaded.config);
    control.reloads += 1;
    // A new key is a new life.
    let new = &control.tables.wanted;
    let same = |spi: &u32| key_of(&old, *spi).is_some() && key_of(&old, *spi) == key_of(new, *spi);
    control.expired.retain(same);
    let (added, removed) = differences(&old, new);
    match fresh {
        Fresh::Nothing => {}
        Fresh::Daemon(mut ike) => {
            ike.clean();
            ike.start_children(&mut control.tables, Some(&old_config));
            control.ike = Some(*ike);
        }
        Fresh::Configuration(converted) => {
            if let Some(ike) = &mut control.ike {
                ike.configure(&control.config, *converted);
                ike.close_removed(&mut control.tables, &old_config, &control.config);
                ike.start_children(&mut control.tables, Some(&old_config));
            }
        }
    }
    let report = &control.tables.report;
    Ok(json!({
        "added": added,
        "removed": removed,
        "untouched": report.untouched,
        "updated": report.updated,
        "installed": report.installed,
        "retired": report.retired,
        "waiting": report.waiting,
        "warnings": control.config.warnings,
    }))
}

/// What becomes of IKE.
enum Fresh {
    Nothing,
    Daemon(Box<Ike>),
    Configuration(Box<Converted>),
}

/// Names of children that only the new or only the old configuration has.
fn differences(old: &Wanted, new: &Wanted) -> (Vec<String>, Vec<String>) {
    let name = |child: &WantedChild| format!("{}.{}", child.connection, child.name);
    let names = |wanted: &Wanted| wanted.children.iter().map(name).collect::<HashSet<_>>();
    let (before, after) = (names(old), names(new));
    let sorted = |one: &HashSet<String>, other: &HashSet<String>| {
        let mut names: Vec<_> = one.difference(other).cloned().collect();
        names.sort();
        names
    };
    (sorted(&after, &before), sorted(&before, &after))
}

/// The key of the SA of this SPI, in whichever direction.
fn key_of(wanted: &Wanted, spi: u32) -> Option<&xswan_sa_api::Key> {
    wanted.children.iter().filter_map(|child| child.sas.as_ref()).find_map(|(inbound, outbound)| {
        if inbound.spi == spi {
            Some(&inbound.key)
        } else {
            (outbound.spi == spi).then_some(&outbound.key)
        }
    })
}
