//! Inbound: an ESP packet becomes the IP packet in it (RFC 4303 section 3.4).
//!
//! [`prepare`] asks everything that needs no cipher, [`open`] runs the cipher into a fresh
//! buffer and yields the proof, [`finish`] commits the proof to the replay window and takes
//! the trailer off, [`Inner::check`] asks the selectors. What is inside an authenticated
//! packet is still hostile: each length is compared with what is there.

use core::fmt;
use core::ops::Range;

use xswan_wire::brief::Brief;
use xswan_wire::{Bytes, DropReason, esp, ipv4, ipv6};

use crate::aead::{Aad, Aead, IV_LEN, Nonce};
use crate::ecn;
use crate::encap::rewrite_header;
use crate::outer::Outer;
use crate::proof::Authenticated;
use crate::replay::Candidate;
use crate::resync;
use crate::sa::{EncapPolicy, InboundSa, Mode, PeerAddress};
use crate::selector::{Entitled, Flow, Selector};

/// A received packet that waits for the cipher.
pub struct OpenJob {
    candidate: Candidate,
    iv: [u8; IV_LEN],
    salt: [u8; 4],
    spi: u32,
    /// Where the packet's own IP header lies, in transport mode; as long as what goes in front
    /// of the plaintext.
    header_from: u32,
    sealed_from: u32,
    sealed_to: u32,
    plain_from: u32,
    plain_to: u32,
    traffic_class: u8,
    esn: bool,
    moved: bool,
}

impl fmt::Debug for OpenJob {
    /// Nothing of the salt, which is part of the keying material.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenJob").field("candidate", &self.candidate).finish_non_exhaustive()
    }
}

const _: () = assert!(size_of::<OpenJob>() <= 56);

impl OpenJob {
    /// Bytes of output that opening needs.
    #[must_use]
    pub const fn out_len(&self) -> usize {
        self.plain_to as usize
    }

    /// The sequence number with its inferred high half.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.candidate.sequence()
    }

    #[inline(always)]
    const fn plain(&self) -> Range<usize> {
        self.plain_from as usize..self.plain_to as usize
    }
}

/// The packet that was inside, at the front of the output; selectors not asked yet.
#[derive(Debug)]
#[must_use = "an inner packet must pass the selectors before it is forwarded"]
pub struct Inner {
    brief: Brief,
    moved: bool,
}

impl Inner {
    /// Length in bytes of the inner packet.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.brief.total_len as usize
    }

    /// Never: there is at least an IP header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.brief.total_len == 0
    }

    /// Its shape, at the front of the output; upper protocol 50, or 17, to ourselves may be ESP
    /// again.
    #[must_use]
    pub const fn brief(&self) -> &Brief {
        &self.brief
    }

    /// The packet itself, at the front of `out`, into which it was opened.
    #[inline(always)]
    #[must_use]
    pub fn packet<'o>(&self, out: &'o [u8]) -> &'o [u8] {
        out.get(..self.len()).unwrap_or_default()
    }

    /// Whether it came from another address or port than the SA's.
    #[must_use]
    pub const fn moved(&self) -> bool {
        self.moved
    }

    /// Asks the selectors (RFC 4301 section 5.2 step 4), given in the direction of received packets.
    ///
    /// # Errors
    /// [`DropReason::SelectorMismatch`] if none matches.
    #[inline]
    pub fn check<'a>(
        self,
        selectors: impl IntoIterator<Item = &'a Selector>,
        out: &[u8],
    ) -> Result<Checked, DropReason> {
        let flow = Flow::of_frame(&self.brief, out).ok_or(DropReason::FrameViolation)?;
        let entitled = Entitled::ask(selectors, &flow);
        entitled.map(|entitled| self.known(entitled)).ok_or(DropReason::SelectorMismatch)
    }

    /// What [`Inner::check`] would say, which has been asked about the same flow and the same
    /// selectors before.
    #[inline(always)]
    pub const fn known(self, entitled: Entitled) -> Checked {
        Checked { inner: self, entitled }
    }
}

/// An inner packet that the SA was entitled to carry: this may be forwarded.
#[derive(Debug)]
#[must_use = "a checked packet is to be forwarded"]
pub struct Checked {
    inner: Inner,
    entitled: Entitled,
}

impl Checked {
    /// Length in bytes of the inner packet, which starts at the front of the output.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.inner.len()
    }

    /// Never: there is at least an IP header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Its shape, at the front of the output.
    #[must_use]
    pub const fn brief(&self) -> &Brief {
        self.inner.brief()
    }

    /// Its five-tuple; `None` if `out` is not what it was opened into.
    #[inline]
    #[must_use]
    pub fn flow(&self, out: &[u8]) -> Option<Flow> {
        Flow::of_frame(self.brief(), out)
    }

    /// What the selectors have said, for the flow's next packet.
    #[must_use]
    pub const fn entitled(&self) -> Entitled {
        self.entitled
    }

    /// Whether the packet, authentic and no replay, came from another address or port than
    /// the SA's: a peer that moved, to be reported.
    #[must_use]
    pub const fn moved(&self) -> bool {
        self.inner.moved
    }
}

/// Everything that can be asked without the cipher. `outer` describes `packet`.
///
/// # Errors
/// [`DropReason::SaExpired`], [`DropReason::UnknownSpi`] (not this SA's),
/// [`DropReason::AddressMismatch`], [`DropReason::EncapMismatch`], [`DropReason::Runt`] and
/// those of [`crate::replay::ReplayWindow::check`].
#[inline(always)]
pub fn prepare<A, S: AsRef<[u64]> + AsMut<[u64]>>(
    sa: &InboundSa<A, S>,
    outer: &Outer,
    packet: &[u8],
    now_ms: u64,
) -> Result<OpenJob, DropReason> {
    sa.lifetime.check(now_ms)?;
    if outer.spi != sa.spi {
        return Err(DropReason::UnknownSpi);
    }
    let moved = check_outer(sa, outer)?;
    let candidate = sa.replay.check(outer.seq_low)?;
    let iv_from = usize::from(outer.esp_offset).wrapping_add(esp::HEADER_LEN);
    // There are as many octets in any case; they mean nothing to a cipher with its own IV.
    let iv: [u8; IV_LEN] = packet.read(iv_from).ok_or(DropReason::Runt)?;
    let end = outer.end as usize;
    let sealed = iv_from.wrapping_add(usize::from(sa.shape.counter_len))..end;
    let not_plain = usize::from(sa.shape.own_iv_len).saturating_add(sa.shape.icv_len.into());
    let block_len = usize::from(sa.shape.block_len);
    let plain_len = sealed
        .end
        .checked_sub(sealed.start)
        .and_then(|len| len.checked_sub(not_plain))
        .filter(|&len| len >= 2 && len.is_multiple_of(block_len) && packet.len() >= end)
        .ok_or(DropReason::Runt)?;
    let header_len = match sa.mode {
        Mode::Tunnel => 0,
        Mode::Transport => usize::from(outer.ip_header_len),
    };
    // All of them are places in one frame.
    let place = |at: usize| u32::try_from(at).map_err(|_long| DropReason::Runt);
    Ok(OpenJob {
        candidate,
        iv,
        salt: sa.salt,
        spi: sa.spi,
        header_from: u32::from(outer.ip_offset),
        sealed_from: place(sealed.start)?,
        sealed_to: place(sealed.end)?,
        plain_from: place(header_len)?,
        plain_to: place(header_len.saturating_add(plain_len))?,
        traffic_class: outer.traffic_class,
        esn: sa.replay.esn(),
        moved,
    })
}

/// Runs the cipher from `packet` into `out`, behind the header in transport mode.
///
/// # Errors
/// [`DropReason::AuthFail`], and then `out` holds nothing but zeros where the plaintext
/// would be; [`DropReason::FrameViolation`] if `out` is shorter than [`OpenJob::out_len`].
#[inline(always)]
pub fn open<A: Aead>(
    cipher: &A,
    job: &OpenJob,
    packet: &[u8],
    out: &mut [u8],
) -> Result<Authenticated, DropReason> {
    let sealed = packet.get(job.sealed_from as usize..job.sealed_to as usize);
    let plain = out.get_mut(job.plain());
    let (Some(sealed), Some(plain)) = (sealed, plain) else {
        return Err(DropReason::FrameViolation);
    };
    let aad = Aad::new(job.spi, job.sequence(), job.esn);
    if cipher.open(&Nonce::new(job.salt, job.iv), &aad, sealed, plain).is_err() {
        plain.fill(0);
        return Err(DropReason::AuthFail);
    }
    if job.plain_from != 0 {
        let from = job.header_from as usize;
        let header = packet.get(from..from.saturating_add(job.plain_from as usize));
        let front = out.get_mut(..job.plain_from as usize);
        let (Some(header), Some(front)) = (header, front) else {
            return Err(DropReason::FrameViolation);
        };
        front.copy_from_slice(header);
    }
    Ok(Authenticated::new(job.spi, job.candidate.sequence()))
}

/// Commits to the replay window, takes padding and trailer off, repairs the IP header.
///
/// # Errors
/// [`DropReason::ReplayOld`] and [`DropReason::ReplayDuplicate`] if the window has moved
/// since; [`DropReason::BadPadding`], [`DropReason::Dummy`], [`DropReason::BadNextHeader`],
/// [`DropReason::InnerVersion`], [`DropReason::InnerLength`], [`DropReason::EcnForbidden`];
/// [`DropReason::AuthFail`] if the proof is for another packet.
#[inline(always)]
pub fn finish<A, S: AsRef<[u64]> + AsMut<[u64]>>(
    sa: &mut InboundSa<A, S>,
    job: &OpenJob,
    proof: Authenticated,
    now_ms: u64,
    out: &mut [u8],
) -> Result<Inner, DropReason> {
    if proof.spi() != sa.spi || job.spi != sa.spi {
        return Err(DropReason::AuthFail);
    }
    sa.replay.commit(job.candidate, &proof)?;
    sa.resync.on_success();
    sa.last_seen_ms = now_ms;
    let plain_len = job.plain().len();
    if let Some(event) = sa.lifetime.account(plain_len, now_ms) {
        sa.expiry = Some(event);
    }
    let plain = out.get(job.plain()).ok_or(DropReason::FrameViolation)?;
    let (payload_len, next_header) = take_trailer(plain, sa.check_padding)?;
    if next_header == esp::NEXT_HEADER_DUMMY {
        return Err(DropReason::Dummy);
    }
    let brief = match sa.mode {
        Mode::Tunnel => finish_tunnel(sa, job, payload_len, next_header, out)?,
        Mode::Transport => finish_transport(job, payload_len, next_header, out)?,
    };
    Ok(Inner { brief, moved: job.moved })
}

/// All stages for one packet; `selectors` in the direction of received packets.
///
/// # Errors
/// Those of the stages, counted in the SA's counters.
pub fn decap<'a, A: Aead, S: AsRef<[u64]> + AsMut<[u64]>>(
    sa: &mut InboundSa<A, S>,
    packet: &[u8],
    selectors: impl IntoIterator<Item = &'a Selector>,
    now_ms: u64,
    out: &mut [u8],
) -> Result<Checked, DropReason> {
    let outer = Outer::parse(packet)?;
    let result = (|| {
        let job = prepare(sa, &outer, packet, now_ms)?;
        let (job, proof) = match open(sa.cipher(), &job, packet, out) {
            Ok(proof) => (job, proof),
            Err(DropReason::AuthFail) => {
                resync(sa, &outer, packet, now_ms, out).ok_or(DropReason::AuthFail)?
            }
            Err(other) => return Err(other),
        };
        finish(sa, &job, proof, now_ms, out)?.check(selectors, out)
    })();
    result.inspect_err(|&reason| sa.counters.note(reason))
}

/// To be called after every [`DropReason::AuthFail`]: now and then tries higher high halves on
/// the packet (RFC 4303 appendix A3). What it returns goes to [`finish`].
pub fn resync<A: Aead, S: AsRef<[u64]> + AsMut<[u64]>>(
    sa: &mut InboundSa<A, S>,
    outer: &Outer,
    packet: &[u8],
    now_ms: u64,
    out: &mut [u8],
) -> Option<(OpenJob, Authenticated)> {
    if !sa.replay.esn() || !sa.resync.on_failure(now_ms) {
        return None;
    }
    let mut job = prepare(sa, outer, packet, now_ms).ok()?;
    for candidate in sa.replay.resync_candidates(outer.seq_low, resync::ATTEMPTS) {
        job.candidate = candidate;
        if let Ok(proof) = open(sa.cipher(), &job, packet, out) {
            return Some((job, proof));
        }
    }
    None
}

/// Whether the packet comes from elsewhere than the SA's peer, where that is allowed.
#[inline]
fn check_outer<A, S>(sa: &InboundSa<A, S>, outer: &Outer) -> Result<bool, DropReason> {
    let ports_moved = match (sa.encap, outer.ports) {
        (None, None) => false,
        (Some(expected), Some((source, destination))) => {
            if destination != expected.local {
                return Err(DropReason::EncapMismatch);
            }
            source != expected.remote
        }
        (Some(_), None) | (None, Some(_)) => match sa.encap_policy {
            EncapPolicy::Exact => return Err(DropReason::EncapMismatch),
            EncapPolicy::Either => true,
        },
    };
    if outer.addresses == sa.addresses && !ports_moved {
        return Ok(false);
    }
    let ours = sa.addresses.same_destination(&outer.addresses);
    match sa.peer_address {
        PeerAddress::AnyAuthenticated if ours => Ok(true),
        PeerAddress::Exact if outer.addresses == sa.addresses && sa.tolerates_ports(outer) => {
            Ok(true)
        }
        PeerAddress::Exact | PeerAddress::AnyAuthenticated => Err(DropReason::AddressMismatch),
    }
}

impl<A, S> InboundSa<A, S> {
    /// A packet in the other encapsulation has no port that could be the SA's.
    #[inline(always)]
    fn tolerates_ports(&self, outer: &Outer) -> bool {
        self.encap.is_some() != outer.ports.is_some() && self.encap_policy == EncapPolicy::Either
    }
}

/// Whether `pad`, which stands before the last two octets of `plain`, is 1, 2, 3….
#[inline(always)]
fn is_padding(plain: &[u8], pad: &[u8]) -> bool {
    // What alignment asks for is up to three octets, compared as one number.
    if let (len @ 0..=3, Some(end)) = (pad.len(), plain.last_chunk::<8>()) {
        #[expect(clippy::cast_possible_truncation, reason = "at most 3")]
        let bits = (len as u32).wrapping_mul(8);
        let mask = 1_u64.wrapping_shl(bits).wrapping_sub(1);
        let end = u64::from_le_bytes(*end).wrapping_shr(48_u32.wrapping_sub(bits));
        return (end ^ 0x03_0201) & mask == 0;
    }
    pad.iter().zip(1..=u8::MAX).all(|(byte, expected)| *byte == expected)
}

/// Payload length and next header, after the padding was checked (RFC 4303 section 2.4).
#[inline(always)]
fn take_trailer(plain: &[u8], check_padding: bool) -> Result<(usize, u8), DropReason> {
    let (rest, [pad_len, next_header]) =
        plain.split_last_chunk::<2>().ok_or(DropReason::BadPadding)?;
    let payload_len =
        rest.len().checked_sub(usize::from(*pad_len)).ok_or(DropReason::BadPadding)?;
    let pad = rest.get(payload_len..).ok_or(DropReason::BadPadding)?;
    if check_padding && !is_padding(plain, pad) {
        return Err(DropReason::BadPadding);
    }
    Ok((payload_len, *next_header))
}

#[inline(always)]
fn finish_tunnel<A, S>(
    sa: &mut InboundSa<A, S>,
    job: &OpenJob,
    payload_len: usize,
    next_header: u8,
    out: &mut [u8],
) -> Result<Brief, DropReason> {
    let version = match next_header {
        esp::NEXT_HEADER_IPV4 => 4,
        esp::NEXT_HEADER_IPV6 => 6,
        _ => return Err(DropReason::BadNextHeader),
    };
    let packet = out.get_mut(..payload_len).ok_or(DropReason::FrameViolation)?;
    match packet.first() {
        None => return Err(DropReason::InnerLength),
        Some(first) if first >> 4 != version => return Err(DropReason::InnerVersion),
        Some(_) => {}
    }
    // What the inner length leaves over is traffic flow confidentiality padding.
    let mut brief = Brief::of_packet(packet).map_err(|_shape| DropReason::InnerLength)?;
    let inner_class = brief.traffic_class;
    let inner_ecn = match sa.ecn {
        ecn::EcnDecap::Combine => {
            let egress = ecn::decapsulate(inner_class, job.traffic_class)?;
            sa.counters.note_anomaly(egress.anomaly);
            egress.ecn
        }
        ecn::EcnDecap::Keep => inner_class & 3,
    };
    let dscp = match sa.dscp {
        ecn::DscpDecap::Keep => inner_class & 0xfc,
        ecn::DscpDecap::CopyOuter => job.traffic_class & 0xfc,
    };
    let class = dscp | inner_ecn;
    if class != inner_class {
        brief.traffic_class = class;
        if version == 4 {
            ipv4::Header::new_checked_mut(packet)?.set_traffic_class(class);
        } else {
            ipv6::Header::new_checked_mut(packet)?.set_traffic_class(class);
        }
    }
    Ok(brief)
}

fn finish_transport(
    job: &OpenJob,
    payload_len: usize,
    next_header: u8,
    out: &mut [u8],
) -> Result<Brief, DropReason> {
    let header_len = job.plain_from as usize;
    let total_len = header_len.saturating_add(payload_len);
    let packet = out.get_mut(..total_len).ok_or(DropReason::FrameViolation)?;
    let next_field = last_next_field(packet, header_len).ok_or(DropReason::InnerLength)?;
    rewrite_header(packet, header_len, next_field, next_header).ok_or(DropReason::InnerLength)?;
    Brief::of_packet(packet).map_err(|_shape| DropReason::InnerLength)
}

/// The field that named ESP or UDP: that of the header which ends at `header_len`.
fn last_next_field(packet: &[u8], header_len: usize) -> Option<usize> {
    if packet.first()? >> 4 == 4 {
        return Some(9);
    }
    let (mut field, mut offset) = (6, ipv6::HEADER_LEN);
    while offset < header_len {
        let units = usize::from(packet.read_u8(offset.checked_add(1)?)?).checked_add(1)?;
        let is_fragment = packet.read_u8(field)? == ipv6::FRAGMENT;
        field = offset;
        offset = offset.checked_add(if is_fragment { 8 } else { units.checked_mul(8)? })?;
    }
    (offset == header_len).then_some(field)
}
