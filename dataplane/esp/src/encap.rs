//! Outbound: an IP packet becomes an ESP packet (RFC 4303 section 3.3).
//!
//! ```text
//! out: outer IP │ UDP? │ SPI SEQ │ IV │ payload │ TFC? pad padlen next │ ICV
//!      └──────── prepare writes ──────┘          └─── prepare ──┘
//!                                      └──────── seal writes ───────────────┘
//! ```
//!
//! [`prepare`] decides, numbers and frames; [`seal`] runs the cipher from the clear packet
//! into its place, with the trailer if that was left to it. A sequence number is spent only when nothing but the cipher is left
//! to do. `inner` must be a whole IP packet whose time to live has been dealt with; what
//! follows the length that its header gives is ignored and never sealed.

use core::fmt;
use core::ops::Range;

use xswan_wire::brief::Brief;
use xswan_wire::layers::{self, Addresses, ESP, IpLayer, UDP};
use xswan_wire::{Bytes, DropReason, esp, ipv4, ipv6, udp};

use crate::aead::{Aad, Aead, IV_LEN, Nonce, Shape};
use crate::ecn::DfEncap;
use crate::lifetime::Expiry;
use crate::outer_template::Variable;
use crate::sa::{Mode, OutboundSa, Tfc};
use crate::sequence::LeaseStore;

/// Pad length and next header.
const TRAILER_LEN: usize = 2;

/// What of ESP is neither payload nor padding, in bytes.
#[inline(always)]
const fn fixed_len(shape: Shape) -> usize {
    shape.overhead().saturating_add(esp::HEADER_LEN + TRAILER_LEN)
}

/// A prepared packet that waits for the cipher.
///
/// Numbers only, which go from registers into the list of a burst: what is put together in
/// memory and copied from there has to wait for itself.
#[must_use = "a prepared packet has used up a sequence number"]
pub struct SealJob {
    sequence: u64,
    iv: [u8; IV_LEN],
    salt: [u8; 4],
    spi: u32,
    source_from: u32,
    source_to: u32,
    sealed_from: u32,
    total_len: u32,
    /// Where the UDP header lies whose checksum is to be computed; 0 for none.
    udp_checksum_at: u16,
    esn: bool,
    /// The trailer, if it is not in its place yet.
    trailer: Option<[u8; 8]>,
}

impl fmt::Debug for SealJob {
    /// Nothing of the salt, which is part of the keying material.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealJob").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl SealJob {
    /// The packet's sequence number.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Length in bytes of the whole outer packet.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.total_len as usize
    }
}

const _: () = assert!(size_of::<SealJob>() <= 64);

/// Where things go in one packet.
struct Plan {
    /// What of the inner packet is sealed.
    source: Range<usize>,
    /// Headers up to and with UDP.
    front_len: usize,
    tfc_len: usize,
    pad_len: usize,
    next_header: u8,
    total_len: usize,
}

impl<A, L: LeaseStore> OutboundSa<A, L> {
    /// Where the UDP header lies whose checksum is to be computed, of a packet with so many octets
    /// in front of ESP; 0 for none.
    #[inline(always)]
    fn udp_checksum_at(&self, front_len: usize) -> u16 {
        if !self.udp_checksum || self.encap.is_none() || self.addresses.is_v4() {
            return 0;
        }
        front_len.checked_sub(udp::HEADER_LEN).and_then(|at| u16::try_from(at).ok()).unwrap_or(0)
    }

    /// Bytes that an inner packet of `inner_len` grows by, TFC padding apart; in transport mode
    /// one without options or extension headers.
    #[must_use]
    pub const fn overhead(&self, inner_len: usize) -> usize {
        let (front, payload_len) = match self.mode {
            Mode::Tunnel => (self.outer_len(), inner_len),
            Mode::Transport => (self.udp_len(), inner_len.saturating_sub(self.ip_len())),
        };
        let pad_len = pad_len(payload_len, self.shape);
        front.saturating_add(fixed_len(self.shape)).saturating_add(pad_len)
    }

    /// The longest inner packet whose result is not longer than `path_mtu`: the MTU of the SA.
    ///
    /// ```text
    /// IPv4 tunnel, raw, 1500, AES-GCM: 1446; AES-CBC and HMAC-SHA2-256: 1438
    /// ```
    #[must_use]
    pub const fn max_inner(&self, path_mtu: u16) -> u16 {
        let alignment = self.shape.alignment();
        let (front, alignment, slack) = match self.mode {
            Mode::Tunnel => (self.outer_len(), alignment, 0),
            // Blocks begin behind the packet's own header, whose length is any multiple of
            // four: none may be told that it fits and then not.
            Mode::Transport => (self.udp_len(), 4, alignment.saturating_sub(4)),
        };
        let fixed = front.saturating_add(fixed_len(self.shape).saturating_sub(TRAILER_LEN));
        let rest = (path_mtu as usize).saturating_sub(fixed);
        let aligned = rest & !alignment.saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, reason = "less than path_mtu")]
        let len = aligned.saturating_sub(TRAILER_LEN).saturating_sub(slack) as u16;
        len
    }
}

/// Frames `inner` for sealing into `out`, where the outer IP header is to start.
///
/// # Errors
/// [`DropReason::Malformed`] if `inner` is no IP packet; [`DropReason::SaExpired`],
/// [`DropReason::SequenceExhausted`]; [`DropReason::TooBig`] if the result would exceed
/// `mtu`, with nothing spent; [`DropReason::FrameViolation`] if it would exceed `out`. In
/// transport mode also [`DropReason::InnerFragment`] (RFC 4303 section 3.3.4) and
/// [`DropReason::AddressMismatch`] for a packet not between the SA's own addresses.
pub fn prepare<A, L: LeaseStore>(
    sa: &mut OutboundSa<A, L>,
    inner: &[u8],
    mtu: u16,
    now_ms: u64,
    out: &mut [u8],
) -> Result<SealJob, DropReason> {
    let brief = Brief::of_packet(inner).map_err(|_shape| DropReason::Malformed)?;
    prepare_parsed(sa, &brief, inner, mtu, now_ms, out)
}

/// As [`prepare`] where the IP header of `inner` has been read already.
///
/// # Errors
/// Those of [`prepare`]; [`DropReason::FrameViolation`] if `brief` is not what `inner` says.
#[inline(always)]
pub fn prepare_parsed<A, L: LeaseStore>(
    sa: &mut OutboundSa<A, L>,
    brief: &Brief,
    inner: &[u8],
    mtu: u16,
    now_ms: u64,
    out: &mut [u8],
) -> Result<SealJob, DropReason> {
    if sa.is_plain {
        return prepare_plain(sa, brief, inner, mtu, now_ms, out);
    }
    prepare_other(sa, inner, mtu, now_ms, out)
}

/// Tunnel mode, an AEAD and no padding but what alignment asks for: nearly every packet there is.
///
/// The same as [`prepare_other`] with everything that is known of such an SA written out.
#[expect(clippy::cast_possible_truncation, reason = "lengths of headers, known to the compiler")]
#[inline(always)]
fn prepare_plain<A, L: LeaseStore>(
    sa: &mut OutboundSa<A, L>,
    ip: &Brief,
    inner: &[u8],
    mtu: u16,
    now_ms: u64,
    out: &mut [u8],
) -> Result<SealJob, DropReason> {
    const AROUND: u32 = fixed_len(Shape::AEAD) as u32;
    const ESP_TO_PAYLOAD: u32 = (esp::HEADER_LEN + IV_LEN) as u32;
    sa.lifetime.check(now_ms)?;
    let front_len = u32::from(sa.template.len());
    let pad_len = ip.total_len.wrapping_add(TRAILER_LEN as u32).wrapping_neg() & 3;
    // An IP packet, at most 88 octets and three more cannot overflow 32 bits.
    let total_len = ip.total_len.wrapping_add(front_len).wrapping_add(AROUND).wrapping_add(pad_len);
    if total_len > u32::from(mtu) {
        return Err(DropReason::TooBig);
    }
    let out = out.get_mut(..total_len as usize).ok_or(DropReason::FrameViolation)?;
    let sequence = sa.sequence.take()?;
    write_outer(sa, ip, inner, sequence, out).ok_or(DropReason::FrameViolation)?;
    let iv = iv(sa, sequence);
    let payload_from = front_len.wrapping_add(ESP_TO_PAYLOAD);
    let next_header = if ip.is_v4() { esp::NEXT_HEADER_IPV4 } else { esp::NEXT_HEADER_IPV6 };
    let esp = out.get_mut(front_len as usize..).and_then(<[u8]>::first_chunk_mut);
    *esp.ok_or(DropReason::FrameViolation)? = esp_and_iv(sa.spi, sequence, iv);
    account(sa, ip, now_ms);
    Ok(SealJob {
        sequence,
        iv,
        salt: sa.salt,
        spi: sa.spi,
        source_from: 0,
        source_to: ip.total_len,
        sealed_from: payload_from,
        total_len,
        udp_checksum_at: sa.udp_checksum_at(front_len as usize),
        esn: sa.sequence.esn(),
        trailer: Some(short_trailer(pad_len, next_header)),
    })
}

/// One sender, one counter: as unique as the sequence number (RFC 4106 section 3.1).
#[inline(always)]
fn iv<A, L: LeaseStore>(sa: &OutboundSa<A, L>, sequence: u64) -> [u8; IV_LEN] {
    sa.iv_base.wrapping_add(sequence).to_be_bytes()
}

/// SPI, the low half of the sequence number, IV.
#[inline(always)]
const fn esp_and_iv(spi: u32, sequence: u64, iv: [u8; IV_LEN]) -> [u8; 16] {
    let header = (spi as u64) << 32 | sequence & 0xffff_ffff;
    let both = (header as u128) << 64 | u64::from_be_bytes(iv) as u128;
    both.to_be_bytes()
}

/// Counts the packet against the SA's limits.
#[inline(always)]
fn account<A, L: LeaseStore>(sa: &mut OutboundSa<A, L>, ip: &Brief, now_ms: u64) {
    if let Some(event) = sa.lifetime.account(ip.total_len as usize, now_ms) {
        sa.expiry = Some(event);
    }
    if sa.sequence.past_soft() && sa.lifetime.reach_soft() {
        sa.expiry = Some(Expiry::Soft);
    }
}

#[inline(never)]
fn prepare_other<A, L: LeaseStore>(
    sa: &mut OutboundSa<A, L>,
    inner: &[u8],
    mtu: u16,
    now_ms: u64,
    out: &mut [u8],
) -> Result<SealJob, DropReason> {
    let layers =
        layers::parse_packet(inner, inner.len()).map_err(|_shape| DropReason::Malformed)?;
    let (ip, brief) = (&layers.ip, &Brief::from(&layers));
    sa.lifetime.check(now_ms)?;
    let plan = match sa.mode {
        Mode::Tunnel => plan_tunnel(sa, ip, mtu),
        Mode::Transport => plan_transport(sa, ip, inner)?,
    };
    if plan.total_len > usize::from(mtu) {
        return Err(DropReason::TooBig);
    }
    let out = out.get_mut(..plan.total_len).ok_or(DropReason::FrameViolation)?;
    let sequence = sa.sequence.take()?;
    match sa.mode {
        Mode::Tunnel => write_outer(sa, brief, inner, sequence, out),
        Mode::Transport => write_own_header(sa, inner, &plan, out),
    }
    .ok_or(DropReason::FrameViolation)?;
    let job = write_esp(sa, &plan, sequence, out).ok_or(DropReason::FrameViolation)?;
    account(sa, brief, now_ms);
    Ok(job)
}

/// Runs the cipher over a prepared packet; returns the length of the outer packet.
///
/// # Errors
/// [`DropReason::FrameViolation`] if `inner` or `out` is not what was given to [`prepare`].
#[inline(always)]
pub fn seal<A: Aead>(
    cipher: &A,
    job: &SealJob,
    inner: &[u8],
    out: &mut [u8],
) -> Result<usize, DropReason> {
    let source = inner.get(job.source_from as usize..job.source_to as usize);
    let sealed = out.get_mut(job.sealed_from as usize..job.total_len());
    let (Some(source), Some(sealed)) = (source, sealed) else {
        return Err(DropReason::FrameViolation);
    };
    let aad = Aad::new(job.spi, job.sequence, job.esn);
    let nonce = Nonce::new(job.salt, job.iv);
    match job.trailer {
        Some(trailer) => cipher.seal_with(&nonce, &aad, source, trailer, sealed),
        None => cipher.seal(&nonce, &aad, source, sealed),
    }
    if job.udp_checksum_at != 0 {
        fill_udp_checksum(job, out)?;
    }
    Ok(job.total_len())
}

/// Over IPv6, where it was asked for; the addresses are those of the header in front.
#[cold]
fn fill_udp_checksum(job: &SealJob, out: &mut [u8]) -> Result<(), DropReason> {
    let address = |at| out.read::<16>(at).ok_or(DropReason::FrameViolation);
    let addresses = Addresses::V6 { source: address(8)?, destination: address(24)? };
    let datagram = out.get_mut(usize::from(job.udp_checksum_at)..job.total_len());
    udp::fill_checksum(&addresses, datagram.ok_or(DropReason::FrameViolation)?)
}

/// Both stages for one packet, with no MTU but that of IP; returns the length of the result.
///
/// # Errors
/// Those of [`prepare`].
pub fn encap<A: Aead, L: LeaseStore>(
    sa: &mut OutboundSa<A, L>,
    inner: &[u8],
    now_ms: u64,
    out: &mut [u8],
) -> Result<usize, DropReason> {
    let job = prepare(sa, inner, u16::MAX, now_ms, out)?;
    seal(sa.cipher(), &job, inner, out)
}

fn plan_tunnel<A, L: LeaseStore>(sa: &OutboundSa<A, L>, ip: &IpLayer, mtu: u16) -> Plan {
    let inner_len = ip.total_len as usize;
    let tfc_len = match sa.tfc {
        Tfc::Off => 0,
        Tfc::PadTo(len) => usize::from(len.min(sa.max_inner(mtu))).saturating_sub(inner_len),
    };
    let next_header = if ip.is_v4() { esp::NEXT_HEADER_IPV4 } else { esp::NEXT_HEADER_IPV6 };
    Plan::new(sa.shape, 0..inner_len, sa.outer_len(), tfc_len, next_header)
}

fn plan_transport<A, L: LeaseStore>(
    sa: &OutboundSa<A, L>,
    ip: &IpLayer,
    inner: &[u8],
) -> Result<Plan, DropReason> {
    if ip.is_fragment {
        return Err(DropReason::InnerFragment);
    }
    if ip.addresses != sa.addresses {
        return Err(DropReason::AddressMismatch);
    }
    let place = esp_place(inner).ok_or(DropReason::Malformed)?;
    let next_header = inner.read_u8(place.next_field).ok_or(DropReason::Malformed)?;
    let source = place.offset..ip.total_len as usize;
    let front_len = place.offset.saturating_add(sa.udp_len());
    Ok(Plan::new(sa.shape, source, front_len, 0, next_header))
}

impl Plan {
    fn new(
        shape: Shape,
        source: Range<usize>,
        front_len: usize,
        tfc_len: usize,
        next_header: u8,
    ) -> Self {
        let payload_len = source.end.saturating_sub(source.start).saturating_add(tfc_len);
        let pad_len = pad_len(payload_len, shape);
        let total_len = front_len
            .saturating_add(fixed_len(shape))
            .saturating_add(payload_len)
            .saturating_add(pad_len);
        Self { source, front_len, tfc_len, pad_len, next_header, total_len }
    }
}

/// Writes the tunnel's IP header and UDP.
#[inline(always)]
fn write_outer<A, L: LeaseStore>(
    sa: &OutboundSa<A, L>,
    ip: &Brief,
    inner: &[u8],
    sequence: u64,
    out: &mut [u8],
) -> Option<()> {
    let dont_fragment = match sa.df {
        DfEncap::Set => true,
        DfEncap::Clear => false,
        DfEncap::Copy if ip.is_v4() => inner.read_u16(6)? & ipv4::DONT_FRAGMENT != 0,
        DfEncap::Copy => true,
    };
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are wanted")]
    let identification = sequence as u16;
    let traffic_class = sa.class.apply(ip.traffic_class);
    sa.template.emit(&Variable { traffic_class, dont_fragment, identification }, out)
}

/// Copies the packet's own header, names ESP or UDP in it and corrects its length.
fn write_own_header<A, L: LeaseStore>(
    sa: &OutboundSa<A, L>,
    inner: &[u8],
    plan: &Plan,
    out: &mut [u8],
) -> Option<()> {
    let header = inner.get(..plan.source.start)?;
    out.get_mut(..header.len())?.copy_from_slice(header);
    let place = esp_place(inner)?;
    let protocol = if sa.encap.is_some() { UDP } else { ESP };
    rewrite_header(out, header.len(), place.next_field, protocol)?;
    write_udp(sa, header.len(), out)
}

fn write_udp<A, L: LeaseStore>(sa: &OutboundSa<A, L>, offset: usize, out: &mut [u8]) -> Option<()> {
    let Some(ports) = sa.encap else { return Some(()) };
    let datagram = out.get_mut(offset..)?;
    let len = u16::try_from(datagram.len()).ok()?;
    udp::Repr { source_port: ports.local, destination_port: ports.remote, len }.emit(datagram)?;
    Some(())
}

/// Writes SPI, sequence number, IV and trailer, and says what the cipher is to do.
fn write_esp<A, L>(
    sa: &OutboundSa<A, L>,
    plan: &Plan,
    sequence: u64,
    out: &mut [u8],
) -> Option<SealJob>
where
    L: LeaseStore,
{
    let iv = iv(sa, sequence);
    let after_header = plan.front_len.checked_add(esp::HEADER_LEN)?;
    let sealed_from = after_header.checked_add(usize::from(sa.shape.counter_len))?;
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is sent")]
    let header = esp::Header { spi: sa.spi, sequence: sequence as u32 };
    header.emit(out.get_mut(plan.front_len..)?)?;
    if usize::from(sa.shape.counter_len) == IV_LEN {
        *out.get_mut(after_header..)?.first_chunk_mut::<IV_LEN>()? = iv;
    }

    let payload_len = plan.source.end.checked_sub(plan.source.start)?;
    let payload_from = sealed_from.checked_add(usize::from(sa.shape.own_iv_len))?;
    let trailer_from = payload_from.checked_add(payload_len)?;
    let trailer_to = plan.total_len.checked_sub(usize::from(sa.shape.icv_len))?;
    write_trailer(out.get_mut(trailer_from..trailer_to)?, plan)?;

    Some(SealJob {
        sequence,
        iv,
        salt: sa.salt,
        spi: sa.spi,
        esn: sa.sequence.esn(),
        trailer: None,
        udp_checksum_at: sa.udp_checksum_at(plan.front_len),
        source_from: u32::try_from(plan.source.start).ok()?,
        source_to: u32::try_from(plan.source.end).ok()?,
        sealed_from: u32::try_from(sealed_from).ok()?,
        total_len: u32::try_from(plan.total_len).ok()?,
    })
}

/// Up to three octets of padding, pad length, next header, at the front of eight.
#[inline(always)]
fn short_trailer(pad_len: u32, next_header: u8) -> [u8; 8] {
    let bits = pad_len.wrapping_mul(8);
    let pad = 0x03_0201 & 1_u64.wrapping_shl(bits).wrapping_sub(1);
    let end = u64::from(next_header).wrapping_shl(8) | u64::from(pad_len);
    (pad | end.wrapping_shl(bits)).to_le_bytes()
}

/// TFC zeros, then 1, 2, 3…, pad length, next header (RFC 4303 section 2.4).
fn write_trailer(trailer: &mut [u8], plan: &Plan) -> Option<()> {
    let (tfc, rest) = trailer.split_at_mut_checked(plan.tfc_len)?;
    tfc.fill(0);
    let (pad, end) = rest.split_at_mut_checked(plan.pad_len)?;
    for (value, byte) in (1..=u8::MAX).zip(pad) {
        *byte = value;
    }
    *end.first_chunk_mut::<TRAILER_LEN>()? = [u8::try_from(plan.pad_len).ok()?, plan.next_header];
    Some(())
}

/// Padding bytes for a payload of this many: 0 to 3, or to 15 for a block cipher.
#[inline(always)]
const fn pad_len(payload_len: usize, shape: Shape) -> usize {
    payload_len.wrapping_add(TRAILER_LEN).wrapping_neg() & shape.alignment().saturating_sub(1)
}

/// Where ESP goes into, or was taken out of, a packet's own header chain.
pub(crate) struct EspPlace {
    /// Offset of the field that names what follows.
    pub(crate) next_field: usize,
    /// Offset of what follows.
    pub(crate) offset: usize,
}

/// After the headers that routers on the way look at (RFC 4303 section 3.1.1): IPv4 options;
/// hop-by-hop, routing, and destination options that stand before a routing header.
pub(crate) fn esp_place(packet: &[u8]) -> Option<EspPlace> {
    let first = packet.read_u8(0)?;
    if first >> 4 == 4 {
        return Some(EspPlace { next_field: 9, offset: usize::from(first & 15).wrapping_mul(4) });
    }
    let mut place = EspPlace { next_field: 6, offset: ipv6::HEADER_LEN };
    for _ in 0..layers::MAX_EXTENSIONS {
        let extension = packet.read_u8(place.next_field)?;
        let passed = match extension {
            ipv6::HOP_BY_HOP | ipv6::ROUTING => true,
            ipv6::DESTINATION_OPTIONS => packet.read_u8(place.offset)? == ipv6::ROUTING,
            _ => false,
        };
        if !passed {
            break;
        }
        let units = usize::from(packet.read_u8(place.offset.checked_add(1)?)?).checked_add(1)?;
        place.next_field = place.offset;
        place.offset = place.offset.checked_add(units.checked_mul(8)?)?;
    }
    Some(place)
}

/// Makes the IP header at the front of `packet`, which is the whole packet, true again after
/// what follows it was replaced.
pub(crate) fn rewrite_header(
    packet: &mut [u8],
    header_len: usize,
    next_field: usize,
    protocol: u8,
) -> Option<()> {
    let total_len = u16::try_from(packet.len()).ok()?;
    *packet.get_mut(next_field)? = protocol;
    if packet.first()? >> 4 == 4 {
        packet.get_mut(2..4)?.copy_from_slice(&total_len.to_be_bytes());
        packet.get_mut(10..12)?.fill(0);
        let sum = xswan_wire::checksum::Sum::new().bytes(packet.get(..header_len)?).finish();
        packet.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
    } else {
        let payload_len = total_len.checked_sub(40)?;
        packet.get_mut(4..6)?.copy_from_slice(&payload_len.to_be_bytes());
    }
    Some(())
}

const _: () = assert!(fixed_len(Shape::AEAD) == 34);
