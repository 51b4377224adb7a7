//! `[connections.NAME.children.NAME.static]`: keys without IKE.

use crate::child::{Child, ChildMode};
use crate::error::ConfigError;
use crate::key::{KeyOrigin, KeySource};
use crate::reader::{Item, Section};
use std::path::Path;

/// `[connections.NAME.children.NAME.static]`: an SA pair without IKE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticSa {
    /// SPI of packets to us.
    pub spi_in: u32,
    /// SPI of packets to the peer.
    pub spi_out: u32,
    /// Key of packets to us.
    pub key_in: KeySource,
    /// Key of packets to the peer.
    pub key_out: KeySource,
    /// The worker that owns both SAs; `None`: any.
    pub worker: Option<u16>,
}

fn key_source(
    section: &Section<'_>,
    file_key: &'static str,
    environment_key: &'static str,
    directory: &Path,
    len: usize,
) -> Result<KeySource, ConfigError> {
    let origin = match (section.find(file_key), section.find(environment_key)) {
        (Some(item), None) => Some((KeyOrigin::File(directory.join(item.path()?)), item.place())),
        (None, Some(item)) => {
            let name = item.text()?;
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(item.error("is no variable", "the name of an environment variable"));
            }
            Some((KeyOrigin::Environment(name.to_owned()), item.place()))
        }
        _ => None,
    };
    let (origin, place) = origin.ok_or_else(|| {
        let what = format!("exactly one of {file_key} and {environment_key} is needed");
        section.place_of(file_key).error(what, "")
    })?;
    Ok(KeySource { origin, place, len })
}

pub(crate) fn read_static_sa(
    item: &Item<'_>,
    child: &Child,
    directory: &Path,
) -> Result<StaticSa, ConfigError> {
    if matches!(child.mode, ChildMode::Pass | ChildMode::Drop) {
        return Err(item.error("a child that protects nothing has no SA", "tunnel, transport"));
    }
    let section = item.section()?;
    // `esp_proposals` is never empty.
    let len = child.esp_proposals.first().map_or(0, |proposal| proposal.algorithm.key_len());
    let spi = |key| section.require(key)?.integer(256..=u32::MAX.into()).map(|spi| spi as u32);
    let static_sa = StaticSa {
        spi_in: spi("spi_in")?,
        spi_out: spi("spi_out")?,
        key_in: key_source(&section, "key_in_file", "key_in_env", directory, len)?,
        key_out: key_source(&section, "key_out_file", "key_out_env", directory, len)?,
        worker: match section.find("worker") {
            None => None,
            Some(item) => Some(item.integer(0..=63)? as u16),
        },
    };
    section.finish()?;
    Ok(static_sa)
}
