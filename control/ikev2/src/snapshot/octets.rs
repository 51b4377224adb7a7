//! Values as octets: big endian, lengths before what is long. Wiped, also when it grows.

use super::SnapshotError;
use crate::clock::Millis;
use std::net::{IpAddr, SocketAddr};
use zeroize::Zeroizing;

/// The longest string of octets within a snapshot: a message is no longer.
const MAX_STRING: usize = 0x1_0000;
/// The longest list.
const MAX_LIST: usize = 0x1_0000;

/// Writes a snapshot.
#[derive(Default)]
pub(super) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// Appends octets. A larger allocation is made by hand, so that the old one is wiped.
    pub(super) fn raw(&mut self, octets: &[u8]) {
        let needed = self.0.len() + octets.len();
        if needed > self.0.capacity() {
            let mut larger =
                Zeroizing::new(Vec::with_capacity(needed.next_power_of_two().max(4096)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(octets);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.u8(value.into());
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    /// A length and so many octets. Nothing that is written is longer than 32 bits can tell.
    pub(super) fn string(&mut self, octets: &[u8]) {
        self.u32(u32::try_from(octets.len()).unwrap_or(u32::MAX));
        self.raw(octets);
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
        for item in items {
            each(self, item);
        }
    }

    pub(super) fn option<T>(&mut self, item: Option<T>, each: impl FnOnce(&mut Self, T)) {
        self.flag(item.is_some());
        if let Some(item) = item {
            each(self, item);
        }
    }

    pub(super) fn time(&mut self, at: Millis) {
        self.u64(at.0);
    }

    pub(super) fn address(&mut self, address: &IpAddr) {
        match address {
            IpAddr::V4(address) => self.string(&address.octets()),
            IpAddr::V6(address) => self.string(&address.octets()),
        }
    }

    pub(super) fn socket(&mut self, address: &SocketAddr) {
        self.address(&address.ip());
        self.u16(address.port());
    }

    pub(super) fn into_octets(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// Reads a snapshot. Nothing is allocated before the octets for it are there.
pub(super) struct Reader<'a> {
    octets: &'a [u8],
    /// What all times are moved by.
    pub(super) shift: Shift,
}

/// From the clock of the snapshot to the one of now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shift {
    pub(super) exported: u64,
    pub(super) now: u64,
}

impl Shift {
    fn apply(self, at: u64) -> Millis {
        let ahead = at.saturating_sub(self.exported);
        let behind = self.exported.saturating_sub(at);
        Millis(self.now.saturating_add(ahead).saturating_sub(behind))
    }
}

impl<'a> Reader<'a> {
    pub(super) const fn new(octets: &'a [u8], shift: Shift) -> Self {
        Self { octets, shift }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], SnapshotError> {
        let (taken, rest) = self.octets.split_at_checked(len).ok_or(SnapshotError::Malformed)?;
        self.octets = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        self.take(N)?.try_into().map_err(|_| SnapshotError::Malformed)
    }

    pub(super) fn u8(&mut self) -> Result<u8, SnapshotError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, SnapshotError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(SnapshotError::Malformed),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, SnapshotError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, SnapshotError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, SnapshotError> {
        self.array().map(u64::from_be_bytes)
    }

    fn length(&mut self, most: usize) -> Result<usize, SnapshotError> {
        let length = self.u32()? as usize;
        if length <= most { Ok(length) } else { Err(SnapshotError::Malformed) }
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], SnapshotError> {
        let length = self.length(MAX_STRING)?;
        self.take(length)
    }

    /// Octets that may be as long as the snapshot.
    pub(super) fn part(&mut self) -> Result<&'a [u8], SnapshotError> {
        let length = self.length(usize::MAX)?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, SnapshotError> {
        std::str::from_utf8(self.string()?).map_err(|_| SnapshotError::Malformed)
    }

    pub(super) fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, SnapshotError>,
    ) -> Result<Vec<T>, SnapshotError> {
        let mut items = Vec::new();
        for _ in 0..self.length(MAX_LIST)? {
            items.push(each(self)?);
        }
        Ok(items)
    }

    pub(super) fn option<T>(
        &mut self,
        each: impl FnOnce(&mut Self) -> Result<T, SnapshotError>,
    ) -> Result<Option<T>, SnapshotError> {
        if self.flag()? { each(self).map(Some) } else { Ok(None) }
    }

    pub(super) fn time(&mut self) -> Result<Millis, SnapshotError> {
        self.u64().map(|at| self.shift.apply(at))
    }

    pub(super) fn address(&mut self) -> Result<IpAddr, SnapshotError> {
        let octets = self.string()?;
        let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
            .map_err(|_| SnapshotError::Malformed)
    }

    pub(super) fn socket(&mut self) -> Result<SocketAddr, SnapshotError> {
        Ok(SocketAddr::new(self.address()?, self.u16()?))
    }

    pub(super) const fn finish(&self) -> Result<(), SnapshotError> {
        if self.octets.is_empty() { Ok(()) } else { Err(SnapshotError::Malformed) }
    }
}
