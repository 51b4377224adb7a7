//! Child SAs of an IKE SA, without their keys.

use super::octets::{Reader, Writer};
use super::{Imported, SnapshotError};
use crate::action::{ChildMode, EspSuite};
use crate::child::{ChildSa, ChildState};
use crate::clock::Millis;
use crate::established::Established;
use crate::established::job::Job;
use crate::input::ChildId;
use crate::policy::ConnectionPolicy;
use crate::wire::TrafficSelector;
use std::sync::Arc;

/// A Child SA, or what is left of one whose policy is not configured any more.
pub(super) enum Child {
    Known(Box<ChildSa>),
    Unknown { name: String, spi_in: u32 },
}

pub(super) fn write(writer: &mut Writer, child: &ChildSa) {
    writer.string(child.policy.name.as_bytes());
    writer.u32(child.spi_in);
    writer.u32(child.id.0);
    match child.state {
        ChildState::Installed => writer.u8(0),
        ChildState::InboundOnly => writer.u8(1),
        ChildState::Rekeying => writer.u8(2),
        ChildState::Replaced { until } => {
            writer.u8(3);
            writer.time(until);
        }
        ChildState::Deleting => writer.u8(4),
    }
    writer.flag(child.mode == ChildMode::Transport);
    writer.u16(child.suite.encryption);
    writer.u16(child.suite.key_bits);
    writer.u16(child.suite.integrity);
    writer.flag(child.suite.esn);
    writer.u16(child.key_exchange);
    writer.u32(child.spi_out);
    writer.list(&child.local_ts, write_selector);
    writer.list(&child.remote_ts, write_selector);
    writer.time(child.installed);
    for at in [child.rekey_at, child.expires_at, child.last_inbound, child.last_outbound] {
        writer.option(at, Writer::time);
    }
    writer.string(&child.lowest_nonce);
    writer.flag(child.ours);
    writer.option(child.replaces, |writer, id| writer.u32(id.0));
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    connection: &ConnectionPolicy,
) -> Result<Child, SnapshotError> {
    let name = reader.text()?.to_owned();
    let (spi_in, id) = (reader.u32()?, ChildId(reader.u32()?));
    let state = match reader.u8()? {
        0 => ChildState::Installed,
        1 => ChildState::InboundOnly,
        2 => ChildState::Rekeying,
        3 => ChildState::Replaced { until: reader.time()? },
        4 => ChildState::Deleting,
        _ => return Err(SnapshotError::Malformed),
    };
    let mode = if reader.flag()? { ChildMode::Transport } else { ChildMode::Tunnel };
    let suite = EspSuite {
        encryption: reader.u16()?,
        key_bits: reader.u16()?,
        integrity: reader.u16()?,
        esn: reader.flag()?,
    };
    let (key_exchange, spi_out) = (reader.u16()?, reader.u32()?);
    let (local_ts, remote_ts) = (reader.list(read_selector)?, reader.list(read_selector)?);
    let installed = reader.time()?;
    let mut times = [None; 4];
    for at in &mut times {
        *at = reader.option(Reader::time)?;
    }
    let [rekey_at, expires_at, last_inbound, last_outbound] = times;
    let lowest_nonce = reader.string()?.to_vec();
    let ours = reader.flag()?;
    let replaces = reader.option(Reader::u32)?.map(ChildId);
    let Some(policy) = connection.child(&name) else {
        return Ok(Child::Unknown { name, spi_in });
    };
    Ok(Child::Known(Box::new(ChildSa {
        id,
        policy: Arc::clone(policy),
        state,
        mode,
        suite,
        key_exchange,
        spi_in,
        spi_out,
        local_ts,
        remote_ts,
        installed,
        rekey_at,
        expires_at,
        lowest_nonce,
        ours,
        replaces,
        last_inbound,
        last_outbound,
    })))
}

/// A child goes on. One that was being rekeyed starts over when the old request is answered; one
/// that is not configured any more is closed.
pub(super) fn put_back(sa: &mut Established, child: Child, now: Millis, imported: &mut Imported) {
    match child {
        Child::Known(mut child) => {
            if child.state == ChildState::Rekeying {
                child.state = ChildState::Installed;
                let job = Job::RekeyChild { child: child.id, request: None, attempts: 0 };
                sa.plan(job, now);
            }
            sa.children.push(*child);
        }
        Child::Unknown { name, spi_in } => {
            imported.refused.push(format!("child {name:?} is not configured any more"));
            sa.plan(Job::Discard { spi_in }, now);
        }
    }
}

fn write_selector(writer: &mut Writer, selector: &TrafficSelector) {
    writer.u8(selector.protocol);
    writer.u16(selector.first_port);
    writer.u16(selector.last_port);
    writer.address(&selector.first);
    writer.address(&selector.last);
}

fn read_selector(reader: &mut Reader<'_>) -> Result<TrafficSelector, SnapshotError> {
    let selector = TrafficSelector {
        protocol: reader.u8()?,
        first_port: reader.u16()?,
        last_port: reader.u16()?,
        first: reader.address()?,
        last: reader.address()?,
    };
    if selector.is_valid() { Ok(selector) } else { Err(SnapshotError::Malformed) }
}
