//! The catalogue: every way a packet can end other than by being forwarded.
//!
//! One enum for the XDP program, the rings, the ESP core and the pipeline, so that
//! `received = forwarded + consumed + passed + Σ drops` can be checked as a sum and an
//! operator finds each name in one table. Where Linux has a counter of the same meaning
//! in `/proc/net/xfrm_stat`, [`DropReason::xfrm_name`] gives its name.

macro_rules! catalogue {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal, $xfrm:expr, $summary:literal; )*) => {
        /// Why a packet was dropped.
        ///
        /// ```
        /// use xswan_wire::DropReason;
        /// assert_eq!(DropReason::AuthFail.name(), "auth_fail");
        /// assert_eq!(DropReason::AuthFail.xfrm_name(), Some("XfrmInStateProtoError"));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $( #[doc = $summary] $variant, )*
        }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [DropReason] = &[ $( DropReason::$variant, )* ];
            /// How many reasons there are; the length of a counter array.
            pub const COUNT: usize = Self::ALL.len();

            /// The counter's name as shown to the operator.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( DropReason::$variant => $name, )* }
            }

            /// The counter of the same meaning in Linux's `/proc/net/xfrm_stat`, if any.
            #[must_use]
            pub const fn xfrm_name(self) -> Option<&'static str> {
                match self { $( DropReason::$variant => $xfrm, )* }
            }

            /// One sentence for the operator.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $( DropReason::$variant => $summary, )* }
            }

            /// Position in a counter array; always below [`DropReason::COUNT`].
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

catalogue! {
    // Shape of the frame and of the outer headers.
    Runt = "runt", Some("XfrmInHdrError"), "Shorter than the headers it claims, or than the smallest ESP packet.";
    BadEtherType = "bad_ethertype", None, "A frame steered here that is neither IPv4 nor IPv6.";
    BadVlan = "bad_vlan", None, "More than two VLAN tags, or a tag cut short.";
    BadIpVersion = "bad_ip_version", Some("XfrmInHdrError"), "IP version does not match the EtherType.";
    BadIpHeaderLength = "bad_ip_header_length", Some("XfrmInHdrError"), "IPv4 header length below 20 bytes or past the frame.";
    BadIpLength = "bad_ip_len", Some("XfrmInHdrError"), "IP total length past the end of the frame.";
    BadIpChecksum = "bad_ip_checksum", Some("XfrmInHdrError"), "IPv4 header checksum is wrong.";
    BadExtension = "bad_ext", Some("XfrmInHdrError"), "IPv6 extension headers malformed or more than the parser's limit.";
    Fragment = "fragment", Some("XfrmInHdrError"), "An outer fragment: ESP is never processed piecewise (RFC 4303 section 3.4.1).";
    BadUdpLength = "bad_udp_len", Some("XfrmInHdrError"), "UDP length below 8 or different from the IP payload.";
    BadUdpChecksum = "bad_udp_checksum", Some("XfrmInHdrError"), "UDP checksum present and wrong.";
    MultiBuffer = "multi_buf", Some("XfrmInBufferError"), "A frame over several buffers, larger than one chunk.";
    Keepalive = "keepalive", None, "NAT keepalive, one byte 0xff on port 4500 (RFC 3948 section 2.3): consumed.";
    // Steering.
    NoWorker = "no_worker", None, "The worker that owns this traffic has no socket; never passed in clear.";
    NotLocal = "not_local", Some("XfrmInNoStates"), "ESP for an address that is not a local tunnel address.";
    WrongPort = "wrong_port", None, "Arrived on a device whose role does not take this traffic.";
    HandoffFull = "handoff_full", None, "The ring to the worker that owns the SA is full.";
    // Inbound SA.
    ReservedSpi = "reserved_spi", Some("XfrmInNoStates"), "SPI 0 to 255 is reserved (RFC 4303 section 2.1).";
    UnknownSpi = "unknown_spi", Some("XfrmInNoStates"), "No SA has this SPI.";
    SaDead = "sa_dead", Some("XfrmInStateInvalid"), "The SA has been deleted.";
    SaExpired = "sa_expired", Some("XfrmInStateExpired"), "The SA is past its hard lifetime.";
    AddressMismatch = "addr_mismatch", Some("XfrmInStateMismatch"), "The outer addresses are not the SA's.";
    EncapMismatch = "encap_mismatch", Some("XfrmInStateMismatch"), "UDP-encapsulated where the SA is not, or the reverse, and policy forbids it.";
    ReplayOld = "replay_old", Some("XfrmInStateSeqError"), "Sequence number left of the replay window.";
    ReplayDuplicate = "replay_dup", Some("XfrmInStateSeqError"), "Sequence number already received.";
    ReplayZero = "replay_zero", Some("XfrmInStateSeqError"), "Sequence number 0 is never sent.";
    AuthFail = "auth_fail", Some("XfrmInStateProtoError"), "The integrity check value does not match.";
    BadPadding = "bad_pad", Some("XfrmInStateProtoError"), "Pad length past the payload, or pad bytes not 1, 2, 3 (RFC 4303 section 2.4).";
    BadNextHeader = "bad_nh", Some("XfrmInStateModeError"), "Next header is not allowed for the SA's mode.";
    Dummy = "dummy", None, "Next header 59, a dummy packet (RFC 4303 section 2.6): consumed.";
    InnerVersion = "inner_ver", Some("XfrmInHdrError"), "Inner IP version does not match the next header.";
    InnerLength = "inner_len", Some("XfrmInHdrError"), "Inner IP lengths do not fit the decrypted payload.";
    SelectorMismatch = "ts_mismatch", Some("XfrmInTmplMismatch"), "Inner packet outside the SA's traffic selectors (RFC 4301 section 5.2).";
    EcnForbidden = "ecn_forbidden", Some("XfrmInStateProtoError"), "Outer CE over an inner not-ECT packet (RFC 6040 section 4.2).";
    NestLimit = "nest_limit", None, "ESP within ESP to ourselves deeper than allowed.";
    // Outbound policy and SA.
    NoPolicy = "no_policy", Some("XfrmOutPolDead"), "Within a protected prefix but no policy selects it.";
    Discarded = "discard", Some("XfrmOutPolBlock"), "A policy says discard.";
    ClearTextForbidden = "clear_text", Some("XfrmInNoPols"), "Arrived in clear although a policy demands protection.";
    NoSa = "no_sa", Some("XfrmOutNoStates"), "A policy demands protection and no SA is installed.";
    HoldOverflow = "hold_overflow", Some("XfrmOutNoStates"), "Held for an SA that is not there yet, and pushed out by later packets.";
    HoldTimeout = "hold_timeout", Some("XfrmOutNoStates"), "Held for an SA that did not come in time.";
    SequenceExhausted = "seq_exhausted", Some("XfrmOutStateSeqError"), "The sequence numbers of the SA are used up.";
    LeaseMissing = "iv_lease", Some("XfrmOutStateSeqError"), "No sequence lease could be had.";
    TooBig = "too_big", Some("XfrmOutError"), "Larger than the SA's path MTU and not to be fragmented; the source is told.";
    InnerFragment = "inner_fragment", Some("XfrmOutError"), "A fragment without ports under a policy that selects ports.";
    TtlExceeded = "ttl", None, "TTL or hop limit used up; the source is told.";
    Malformed = "inner_malformed", Some("XfrmOutError"), "A packet to be protected that is not well-formed IP.";
    Martian = "martian", None, "Broadcast, multicast or loopback address that is not forwarded.";
    // Forwarding.
    NoRoute = "no_route", Some("XfrmOutNoStates"), "The kernel's tables have no route.";
    LinkDown = "link_down", None, "The next hop's device is down or gone.";
    SlowPathFull = "slow_path_full", None, "The ring to the kernel's slow path is full.";
    IcmpRateLimited = "icmp_limited", None, "An ICMP error was due but the rate limit held it back.";
    // Rings and memory.
    NoFrame = "no_frame", Some("XfrmInBufferError"), "No free transmit frame.";
    TxFull = "tx_full", None, "The transmit ring is full.";
    FrameViolation = "umem_ownership_violation", None, "A descriptor that was never given out, twice, or larger than its chunk.";
}

#[cfg(test)]
mod tests {
    use super::DropReason;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_indices_dense() {
        let names: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
