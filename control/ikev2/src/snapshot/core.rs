//! Keys, windows and addresses of an IKE SA.

use super::octets::{Reader, Writer};
use super::{Import, SnapshotError};
use crate::exchange::ike_sa_init::ciphers;
use crate::input::IkeId;
use crate::message_id::{Datagrams, Requests, Responses};
use crate::sa::{PeerFeatures, SaCore};
use std::sync::Arc;
use xswan_ike_crypto::{Group, HashAlgorithm, IkeKeys, Suite};

/// IVs that are left out: more than messages can have been sealed since the snapshot was taken.
const IV_STEP: u64 = 1 << 40;

pub(super) fn write(writer: &mut Writer, core: &SaCore) {
    writer.string(core.connection.name.as_bytes());
    writer.u32(core.id.0);
    writer.flag(core.initiator);
    writer.u64(core.spi_i);
    writer.u64(core.spi_r);
    writer.socket(&core.local);
    writer.socket(&core.remote);
    writer.flag(core.nat_local);
    writer.flag(core.nat_remote);
    write_suite(writer, &core.suite);
    writer.list(&core.additional_key_exchanges, |writer, method| writer.u16(*method));
    writer.string(core.keys.export().as_bytes());
    writer.u64(core.outbound.iv_position());
    writer.u32(core.requests.next_id());
    writer.option(core.requests.outstanding(), write_datagrams);
    writer.u32(core.responses.next_id());
    writer.option(core.responses.last(), |writer, (digest, datagrams)| {
        writer.raw(digest);
        write_datagrams(writer, datagrams);
    });
    write_features(writer, &core.peer);
    for at in [core.created, core.last_inbound, core.last_outbound] {
        writer.time(at);
    }
}

pub(super) fn read(reader: &mut Reader<'_>, import: &Import<'_>) -> Result<SaCore, SnapshotError> {
    let name = reader.text()?;
    let connection = import
        .configuration
        .connections
        .iter()
        .find(|connection| connection.name == name)
        .map(Arc::clone)
        .ok_or_else(|| SnapshotError::Connection(name.to_owned()))?;
    let (id, initiator) = (IkeId(reader.u32()?), reader.flag()?);
    let (spi_i, spi_r) = (reader.u64()?, reader.u64()?);
    let (local, remote) = (reader.socket()?, reader.socket()?);
    let (nat_local, nat_remote) = (reader.flag()?, reader.flag()?);
    let suite = read_suite(reader)?;
    let additional_key_exchanges = reader.list(Reader::u16)?;
    let keys = IkeKeys::import(&suite, reader.string()?).map_err(|_| SnapshotError::Keys)?;
    let iv_position = reader.u64()?;
    let (mut outbound, inbound) = ciphers(&suite, &keys, initiator).ok_or(SnapshotError::Keys)?;
    outbound.skip_ahead(iv_position.saturating_add(IV_STEP));
    let next_request = reader.u32()?;
    let outstanding = reader.option(read_datagrams)?;
    let next_response = reader.u32()?;
    let last = reader.option(|reader| Ok((reader.array()?, read_datagrams(reader)?)))?;
    let peer = read_features(reader)?;
    Ok(SaCore {
        id,
        connection,
        initiator,
        spi_i,
        spi_r,
        local,
        remote,
        nat_local,
        nat_remote,
        suite,
        additional_key_exchanges,
        keys,
        outbound,
        inbound,
        requests: Requests::resumed(next_request, outstanding, import.now),
        responses: Responses::resumed(next_response, last),
        request_fragments: Default::default(),
        response_fragments: Default::default(),
        peer,
        mobike: Default::default(),
        created: reader.time()?,
        last_inbound: reader.time()?,
        last_outbound: reader.time()?,
    })
}

fn write_datagrams(writer: &mut Writer, datagrams: &Datagrams) {
    writer.list(datagrams, |writer, octets| writer.string(octets));
}

fn read_datagrams(reader: &mut Reader<'_>) -> Result<Datagrams, SnapshotError> {
    reader.list(|reader| reader.string().map(<[u8]>::to_vec))
}

fn write_suite(writer: &mut Writer, suite: &Suite) {
    writer.u16(suite.encryption().id());
    writer.u16(suite.encryption().key_bits().unwrap_or(0));
    writer.u16(suite.integrity().map_or(0, xswan_ike_crypto::Integrity::id));
    writer.u16(suite.prf().id());
    writer.u16(suite.group().id());
}

fn read_suite(reader: &mut Reader<'_>) -> Result<Suite, SnapshotError> {
    let (encryption, key_bits) = (reader.u16()?, reader.u16()?);
    let (integrity, prf, group) = (reader.u16()?, reader.u16()?, reader.u16()?);
    let encryption = (encryption, (key_bits != 0).then_some(key_bits));
    Group::from_transform_id(group).ok_or(SnapshotError::Keys)?;
    Suite::from_transform_ids(encryption, Some(integrity), prf, group)
        .map_err(|_| SnapshotError::Keys)
}

fn flags(peer: &PeerFeatures) -> [bool; 10] {
    [
        peer.fragmentation,
        peer.childless,
        peer.intermediate,
        peer.ppk,
        peer.mobike,
        peer.redirect,
        peer.multiple_auth,
        peer.eap_only,
        peer.initial_contact,
        peer.message_id_sync,
    ]
}

fn write_features(writer: &mut Writer, peer: &PeerFeatures) {
    for flag in flags(peer) {
        writer.flag(flag);
    }
    writer.list(&peer.hash_algorithms, |writer, algorithm| writer.u16(algorithm.id()));
}

fn read_features(reader: &mut Reader<'_>) -> Result<PeerFeatures, SnapshotError> {
    Ok(PeerFeatures {
        fragmentation: reader.flag()?,
        childless: reader.flag()?,
        intermediate: reader.flag()?,
        ppk: reader.flag()?,
        mobike: reader.flag()?,
        redirect: reader.flag()?,
        multiple_auth: reader.flag()?,
        eap_only: reader.flag()?,
        initial_contact: reader.flag()?,
        message_id_sync: reader.flag()?,
        hash_algorithms: reader
            .list(Reader::u16)?
            .into_iter()
            .filter_map(HashAlgorithm::from_id)
            .collect(),
    })
}
