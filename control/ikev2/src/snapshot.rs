//! Established IKE SAs as octets, so that they survive the daemon.
//!
//! ```text
//! version 16 | unix time 64 | clock 64 | next numbers 2 × 32 | IKE SAs: length 32 | octets …
//! ```
//! The octets hold keys: whoever stores them encrypts them. The keys of Child SAs are not in
//! them; those are in the dataplane, which goes on while the daemon is away.
//!
//! Kept are message IDs, the request that is not answered (it is sent again, the same octets,
//! RFC 7296 section 2.1), the last answer, and what is still to be asked. Not kept are private
//! values of a key exchange under way: what the peer makes of such a request is closed
//! again. IVs go on far ahead of any that can have been used since the snapshot was taken, so
//! none is used twice; message IDs cannot skip, so a snapshot is to be taken after every input
//! that has changed something.
//!
//! What is read may be damaged or of another version: it is an error and never a panic, and
//! nothing is allocated for lengths that are not there.

mod child;
mod core;
mod octets;
mod task;

use crate::clock::Millis;
use crate::established::lifetime::Lifetimes;
use crate::established::{Established, Phase};
use crate::policy::Configuration;
use crate::rekey::Rival;
use octets::{Reader, Shift, Writer};
use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use xswan_credentials::Identity;
use zeroize::Zeroizing;

/// The layout of this version of the program.
pub(crate) const VERSION: u16 = 1;

/// Why a snapshot, or an IKE SA in it, is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// Of another version of the program.
    Version(u16),
    /// Too short, too long, or with values that cannot be.
    Malformed,
    /// A connection that is not configured any more.
    Connection(String),
    /// Keys or transforms that do not go together.
    Keys,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "a snapshot of version {version}"),
            Self::Malformed => f.write_str("the snapshot is damaged"),
            Self::Connection(name) => write!(f, "connection {name:?} is not configured any more"),
            Self::Keys => f.write_str("the keys in the snapshot do not fit the algorithms"),
        }
    }
}

impl std::error::Error for SnapshotError {}

/// What was taken from a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// IKE SAs that go on.
    pub ike_sas: u32,
    /// SPIs of ours that are reserved without a Child SA, until the peer has closed what it made
    /// of them.
    pub reserved_spis: Vec<u32>,
    /// Why an IKE SA or a child was not taken, one line each.
    pub refused: Vec<String>,
}

/// Header of a snapshot.
pub(crate) struct Header {
    pub(crate) unix_s: u64,
    pub(crate) clock: Millis,
    pub(crate) numbers: (u32, u32),
}

/// A whole snapshot.
pub(crate) fn write(header: &Header, sas: &[&Established]) -> Zeroizing<Vec<u8>> {
    let mut writer = Writer::default();
    writer.u16(VERSION);
    writer.u64(header.unix_s);
    writer.time(header.clock);
    writer.u32(header.numbers.0);
    writer.u32(header.numbers.1);
    writer.list(sas, |writer, sa| {
        let mut part = Writer::default();
        write_sa(&mut part, sa);
        writer.string(part.as_slice());
    });
    writer.into_octets()
}

/// Reads a snapshot: its header, and for each IKE SA its octets.
pub(crate) fn read(octets: &[u8]) -> Result<(Header, Vec<&[u8]>), SnapshotError> {
    let mut reader = Reader::new(octets, Shift::default());
    let version = reader.u16()?;
    if version != VERSION {
        return Err(SnapshotError::Version(version));
    }
    let header = Header {
        unix_s: reader.u64()?,
        clock: Millis(reader.u64()?),
        numbers: (reader.u32()?, reader.u32()?),
    };
    let parts = reader.list(Reader::part)?;
    reader.finish()?;
    Ok((header, parts))
}

/// What an IKE SA is read with.
pub(crate) struct Import<'a> {
    pub(crate) configuration: &'a Configuration,
    /// The clock of the snapshot, and what it would show now.
    pub(crate) clocks: (Millis, Millis),
    /// The clock of now.
    pub(crate) now: Millis,
}

/// One IKE SA. Its requests go on with the next timer.
pub(crate) fn read_sa(
    octets: &[u8],
    import: &Import<'_>,
    imported: &mut Imported,
) -> Result<Box<Established>, SnapshotError> {
    let (exported, now) = import.clocks;
    let mut reader = Reader::new(octets, Shift { exported: exported.0, now: now.0 });
    let sa = read_one(&mut reader, import, imported, true)?;
    reader.finish()?;
    Ok(sa)
}

fn write_identity(writer: &mut Writer, identity: &Identity) {
    writer.u8(identity.kind_number());
    writer.string(identity.data());
}

fn read_identity(reader: &mut Reader<'_>) -> Result<Identity, SnapshotError> {
    let kind = reader.u8()?;
    Identity::from_payload(kind, reader.string()?).map_err(|_| SnapshotError::Malformed)
}

fn write_sa(writer: &mut Writer, sa: &Established) {
    core::write(writer, &sa.core);
    write_identity(writer, &sa.local_id);
    write_identity(writer, &sa.remote_id);
    writer.option(sa.remote_eap_id.as_ref(), write_identity);
    writer.list(&sa.children, child::write);
    writer.list(&sa.vips, Writer::address);
    writer.list(&sa.leases, Writer::address);
    writer.flag(sa.started_by_us);
    writer.time(sa.authenticated);
    write_phase(writer, sa.phase);
    let Lifetimes { rekey_at, reauth_at, expires_at } = sa.lifetimes;
    for at in [rekey_at, reauth_at, expires_at, sa.reauthenticating] {
        writer.option(at, Writer::time);
    }
    writer.time(sa.last_request);
    task::write(writer, sa.task.as_ref());
    let jobs: Vec<_> = sa.jobs.iter().filter(|planned| task::is_kept(&planned.job)).collect();
    writer.list(&jobs, |writer, planned| task::write_job(writer, planned));
    writer.option(sa.rival.as_ref(), |writer, rival| {
        writer.string(&rival.lowest_nonce);
        write_sa(writer, &rival.sa);
    });
}

fn write_phase(writer: &mut Writer, phase: Phase) {
    match phase {
        Phase::Active => writer.u8(0),
        Phase::Replaced { until } => {
            writer.u8(1);
            writer.time(until);
        }
        Phase::Closing => writer.u8(2),
    }
}

fn read_phase(reader: &mut Reader<'_>) -> Result<Phase, SnapshotError> {
    match reader.u8()? {
        0 => Ok(Phase::Active),
        1 => Ok(Phase::Replaced { until: reader.time()? }),
        2 => Ok(Phase::Closing),
        _ => Err(SnapshotError::Malformed),
    }
}

fn read_one(
    reader: &mut Reader<'_>,
    import: &Import<'_>,
    imported: &mut Imported,
    may_have_rival: bool,
) -> Result<Box<Established>, SnapshotError> {
    let core = core::read(reader, import)?;
    let connection = std::sync::Arc::clone(&core.connection);
    let (local_id, remote_id) = (read_identity(reader)?, read_identity(reader)?);
    let remote_eap_id = reader.option(read_identity)?;
    let children = reader.list(|reader| child::read(reader, &connection))?;
    let vips: Vec<IpAddr> = reader.list(Reader::address)?;
    let leases: Vec<IpAddr> = reader.list(Reader::address)?;
    let (started_by_us, authenticated) = (reader.flag()?, reader.time()?);
    let phase = read_phase(reader)?;
    let mut times = [None; 4];
    for at in &mut times {
        *at = reader.option(Reader::time)?;
    }
    let [rekey_at, reauth_at, expires_at, reauthenticating] = times;
    let last_request = reader.time()?;
    let task = task::read(reader, !core.requests.is_idle())?;
    let jobs = reader.list(|reader| task::read_job(reader, &connection))?;
    let rival = match reader.option(|reader| reader.string().map(<[u8]>::to_vec))? {
        Some(lowest_nonce) if may_have_rival => {
            let sa = read_one(reader, import, imported, false)?;
            Some(Box::new(Rival { sa, lowest_nonce }))
        }
        Some(_) => return Err(SnapshotError::Malformed),
        None => None,
    };
    let mut sa = Box::new(Established {
        core,
        local_id,
        remote_id,
        remote_eap_id,
        children: Vec::new(),
        vips,
        leases,
        started_by_us,
        authenticated,
        phase,
        task,
        jobs: jobs.into_iter().flatten().collect::<VecDeque<_>>(),
        follow_up: None,
        rival,
        lifetimes: Lifetimes { rekey_at, reauth_at, expires_at },
        reauthenticating,
        early_deletes: Vec::new(),
        rival_nonce: None,
        closing_requests: Vec::new(),
        keepalive_ms: None,
        last_request,
        key_exchanges: (import.now, 0),
        doubted: None,
    });
    for child in children {
        child::put_back(&mut sa, child, import.now, imported);
    }
    imported.reserved_spis.extend(task::reserved_spis(&sa));
    Ok(sa)
}
