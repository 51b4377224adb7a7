//! What is asked of the peer, and what is still to be asked.
//!
//! Operators who wait are not kept: their connection to the daemon is gone.

use super::SnapshotError;
use super::octets::{Reader, Writer};
use crate::action::RemoveReason;
use crate::established::job::{Close, DeleteChildren, Forgotten, Job, Planned, Restart, Task};
use crate::established::{Established, Wanted};
use crate::input::ChildId;
use crate::policy::ConnectionPolicy;
use std::sync::Arc;

const NONE: u8 = 0;
const CHILD: u8 = 1;
const IKE: u8 = 2;
const DELETE: u8 = 3;
const DISCARD: u8 = 4;
const CLOSE: u8 = 5;
const REKEY_CHILD: u8 = 6;

pub(super) fn write(writer: &mut Writer, task: Option<&Task>) {
    match task {
        None | Some(Task::Informational | Task::Mobike(_)) => writer.u8(NONE),
        Some(Task::Child(task)) => write_spi(writer, CHILD, task.spi_in()),
        Some(Task::Ike(task)) => write_ike(writer, task.nonce()),
        Some(Task::Forgotten(Forgotten::Ike { lowest_nonce })) => write_ike(writer, lowest_nonce),
        Some(Task::FollowUp(task)) => match task.spi_in() {
            Some(spi_in) => write_spi(writer, CHILD, spi_in),
            None => write_ike(writer, task.lowest_nonce()),
        },
        Some(Task::Forgotten(Forgotten::Child { spi_in })) => write_spi(writer, CHILD, *spi_in),
        Some(Task::Delete(delete)) => write_delete(writer, delete),
        Some(Task::Discard { spi_in }) => write_spi(writer, DISCARD, *spi_in),
        Some(Task::Close(close)) => write_close(writer, close),
    }
}

/// `outstanding`: there is a request that waits for its answer.
pub(super) fn read(
    reader: &mut Reader<'_>,
    outstanding: bool,
) -> Result<Option<Task>, SnapshotError> {
    let task = match reader.u8()? {
        NONE => Task::Informational,
        CHILD => Task::Forgotten(Forgotten::Child { spi_in: reader.u32()? }),
        IKE => Task::Forgotten(Forgotten::Ike { lowest_nonce: reader.string()?.to_vec() }),
        DELETE => Task::Delete(read_delete(reader)?),
        DISCARD => Task::Discard { spi_in: reader.u32()? },
        CLOSE => Task::Close(read_close(reader)?),
        _ => return Err(SnapshotError::Malformed),
    };
    Ok(outstanding.then_some(task))
}

/// Whether a job is kept. Messages without consequence are not.
pub(super) const fn is_kept(job: &Job) -> bool {
    !matches!(job, Job::Notify(_))
}

pub(super) fn write_job(writer: &mut Writer, planned: &Planned) {
    writer.time(planned.at);
    match &planned.job {
        Job::Child { wanted, attempts } => {
            writer.u8(CHILD);
            writer.string(wanted.policy.name.as_bytes());
            writer.u32(*attempts);
        }
        Job::RekeyChild { child, attempts, .. } => {
            writer.u8(REKEY_CHILD);
            writer.u32(child.0);
            writer.u32(*attempts);
        }
        Job::RekeyIke { attempts, .. } => {
            writer.u8(IKE);
            writer.u32(*attempts);
        }
        Job::Delete(delete) => write_delete(writer, delete),
        Job::Discard { spi_in } => write_spi(writer, DISCARD, *spi_in),
        Job::Close(close) => write_close(writer, close),
        Job::Notify(_) => writer.u8(NONE),
    }
}

/// `None`: it is about a child that is not configured any more.
pub(super) fn read_job(
    reader: &mut Reader<'_>,
    connection: &ConnectionPolicy,
) -> Result<Option<Planned>, SnapshotError> {
    let at = reader.time()?;
    let job = match reader.u8()? {
        NONE => return Ok(None),
        CHILD => {
            let (name, attempts) = (reader.text()?, reader.u32()?);
            let Some(policy) = connection.child(name) else { return Ok(None) };
            let wanted = Wanted { policy: Arc::clone(policy), packet: None, request: None };
            Job::Child { wanted, attempts }
        }
        REKEY_CHILD => {
            let (child, attempts) = (ChildId(reader.u32()?), reader.u32()?);
            Job::RekeyChild { child, request: None, attempts }
        }
        IKE => Job::RekeyIke { request: None, attempts: reader.u32()? },
        DELETE => Job::Delete(read_delete(reader)?),
        DISCARD => Job::Discard { spi_in: reader.u32()? },
        CLOSE => Job::Close(read_close(reader)?),
        _ => return Err(SnapshotError::Malformed),
    };
    Ok(Some(Planned { at, job }))
}

/// SPIs that are reserved without a Child SA.
pub(super) fn reserved_spis(sa: &Established) -> Vec<u32> {
    let asked = match &sa.task {
        Some(Task::Forgotten(Forgotten::Child { spi_in }) | Task::Discard { spi_in }) => {
            Some(*spi_in)
        }
        Some(_) | None => None,
    };
    let planned = sa.jobs.iter().filter_map(|planned| match planned.job {
        Job::Discard { spi_in } => Some(spi_in),
        Job::Child { .. }
        | Job::RekeyChild { .. }
        | Job::RekeyIke { .. }
        | Job::Delete(_)
        | Job::Close(_)
        | Job::Notify(_) => None,
    });
    asked.into_iter().chain(planned).collect()
}

fn write_spi(writer: &mut Writer, tag: u8, spi_in: u32) {
    writer.u8(tag);
    writer.u32(spi_in);
}

fn write_ike(writer: &mut Writer, lowest_nonce: &[u8]) {
    writer.u8(IKE);
    writer.string(lowest_nonce);
}

fn write_delete(writer: &mut Writer, delete: &DeleteChildren) {
    writer.u8(DELETE);
    writer.list(&delete.children, |writer, child| writer.u32(child.0));
    writer.u8(match delete.reason {
        RemoveReason::Rekeyed => 0,
        RemoveReason::Deleted => 1,
        RemoveReason::Expired => 2,
        RemoveReason::Redundant => 3,
    });
}

fn read_delete(reader: &mut Reader<'_>) -> Result<DeleteChildren, SnapshotError> {
    let children = reader.list(Reader::u32)?.into_iter().map(ChildId).collect();
    let reason = match reader.u8()? {
        0 => RemoveReason::Rekeyed,
        1 => RemoveReason::Deleted,
        2 => RemoveReason::Expired,
        3 => RemoveReason::Redundant,
        _ => return Err(SnapshotError::Malformed),
    };
    Ok(DeleteChildren { children, reason, request: None })
}

fn write_close(writer: &mut Writer, close: &Close) {
    writer.u8(CLOSE);
    writer.u8(match close.restart {
        Restart::None => 0,
        Restart::Starting => 1,
        Restart::All => 2,
    });
}

fn read_close(reader: &mut Reader<'_>) -> Result<Close, SnapshotError> {
    let restart = match reader.u8()? {
        0 => Restart::None,
        1 => Restart::Starting,
        2 => Restart::All,
        _ => return Err(SnapshotError::Malformed),
    };
    Ok(Close { restart, request: None })
}
