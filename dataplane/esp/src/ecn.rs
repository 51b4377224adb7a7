//! What crosses between inner and outer header: ECN (RFC 6040), DSCP (RFC 2983), DF.

use xswan_wire::DropReason;

/// Not ECN-capable.
pub const NOT_ECT: u8 = 0;
/// ECN-capable, codepoint 1.
pub const ECT_1: u8 = 1;
/// ECN-capable, codepoint 0.
pub const ECT_0: u8 = 2;
/// Congestion experienced.
pub const CE: u8 = 3;

/// Outbound ECN (RFC 6040 section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EcnEncap {
    /// Normal mode: the outer field is a copy of the inner.
    #[default]
    Normal,
    /// Compatibility mode, for a peer that does not know RFC 6040: always not-ECT.
    Compatibility,
}

/// Outbound DSCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DscpEncap {
    /// The outer DSCP is a copy of the inner (RFC 4301 section 5.1.2.1).
    #[default]
    Copy,
    /// Always this one, 0 to 63: hides the inner and keeps one SA's packets in order.
    Fixed(u8),
}

/// Inbound DSCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DscpDecap {
    /// The inner DSCP stays as it was (RFC 4301 section 5.1.2.2; pipe model of RFC 2983).
    #[default]
    Keep,
    /// The outer DSCP replaces it (uniform model of RFC 2983).
    CopyOuter,
}

/// The don't-fragment flag of an outer IPv4 header (RFC 4301 section 8.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DfEncap {
    /// As the inner; an inner IPv6 packet counts as set, routers never fragment it.
    #[default]
    Copy,
    /// Always set.
    Set,
    /// Never set.
    Clear,
}

/// A combination that RFC 6040 section 4.2 asks to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcnAnomaly {
    /// Currently unused but possibly legitimate: inner ECT(1) under outer ECT(0).
    PossiblyDangerous,
    /// Currently unused and a sign of trouble.
    Dangerous,
}

/// The inner ECN field after decapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Two bits for the inner header.
    pub ecn: u8,
    /// Whether the combination deserves a count.
    pub anomaly: Option<EcnAnomaly>,
}

/// What the outer ECN field does to the inner one at the tunnel's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EcnDecap {
    /// They are combined (RFC 6040 section 4.2).
    #[default]
    Combine,
    /// Nothing: the inner field stays as the sender wrote it, for a peer that does not copy it
    /// out and a path whose marks mean something else.
    Keep,
}

/// The outer traffic class for an inner one.
#[inline(always)]
#[must_use]
pub const fn encapsulate(ecn: EcnEncap, dscp: DscpEncap, inner: u8) -> u8 {
    let dscp = match dscp {
        DscpEncap::Copy => inner & 0xfc,
        DscpEncap::Fixed(value) => value << 2,
    };
    let ecn = match ecn {
        EcnEncap::Normal => inner & 3,
        EcnEncap::Compatibility => NOT_ECT,
    };
    dscp | ecn
}

/// [`encapsulate`] for one SA: which bits of the inner class stay, and which are set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassEncap {
    keep: u8,
    set: u8,
}

impl ClassEncap {
    pub(crate) const fn new(ecn: EcnEncap, dscp: DscpEncap) -> Self {
        let set = encapsulate(ecn, dscp, 0);
        Self { keep: encapsulate(ecn, dscp, 0xff) ^ set, set }
    }

    #[inline(always)]
    pub(crate) const fn apply(self, inner: u8) -> u8 {
        inner & self.keep | self.set
    }
}

/// Combines inner and outer ECN at the tunnel's end (RFC 6040 section 4.2, figure 4).
///
/// # Errors
/// [`DropReason::EcnForbidden`] for an outer CE over an inner not-ECT.
///
/// ```
/// use xswan_esp::ecn::{CE, ECT_0, decapsulate};
/// assert_eq!(decapsulate(ECT_0, CE).map(|egress| egress.ecn), Ok(CE));
/// ```
#[inline(always)]
pub const fn decapsulate(inner: u8, outer: u8) -> Result<Egress, DropReason> {
    use EcnAnomaly::{Dangerous, PossiblyDangerous};
    let (ecn, anomaly) = match (inner & 3, outer & 3) {
        (NOT_ECT, CE) => return Err(DropReason::EcnForbidden),
        (NOT_ECT, ECT_0 | ECT_1) => (NOT_ECT, Some(Dangerous)),
        (ECT_0 | ECT_1, CE) => (CE, None),
        (ECT_0, ECT_1) => (ECT_1, None),
        (ECT_1, ECT_0) => (ECT_1, Some(PossiblyDangerous)),
        (CE, ECT_1) => (CE, Some(Dangerous)),
        (inner, _) => (inner, None),
    };
    Ok(Egress { ecn, anomaly })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tun_03_egress_table_is_that_of_rfc_6040() {
        // Rows: inner Not-ECT, ECT(0), ECT(1), CE. Columns: outer in the same order.
        const ORDER: [u8; 4] = [NOT_ECT, ECT_0, ECT_1, CE];
        const DROP: u8 = 0xff;
        const TABLE: [[u8; 4]; 4] = [
            [NOT_ECT, NOT_ECT, NOT_ECT, DROP],
            [ECT_0, ECT_0, ECT_1, CE],
            [ECT_1, ECT_1, ECT_1, CE],
            [CE, CE, CE, CE],
        ];
        let mut counted = 0;
        for (row, inner) in ORDER.into_iter().enumerate() {
            for (column, outer) in ORDER.into_iter().enumerate() {
                match decapsulate(inner, outer) {
                    Ok(egress) => {
                        assert_eq!(egress.ecn, TABLE[row][column], "{inner} {outer}");
                        counted += usize::from(egress.anomaly.is_some());
                    }
                    Err(reason) => {
                        assert_eq!(TABLE[row][column], DROP);
                        assert_eq!(reason, DropReason::EcnForbidden);
                    }
                }
            }
        }
        assert_eq!(counted, 4, "two under not-ECT, one under ECT(1), one under CE");
    }

    #[test]
    fn tun_03_ingress_over_every_traffic_class() {
        for class in 0..=255 {
            assert_eq!(encapsulate(EcnEncap::Normal, DscpEncap::Copy, class), class);
            assert_eq!(encapsulate(EcnEncap::Compatibility, DscpEncap::Copy, class), class & !3);
            let fixed = encapsulate(EcnEncap::Normal, DscpEncap::Fixed(46), class);
            assert_eq!((fixed >> 2, fixed & 3), (46, class & 3));
            for ecn in [EcnEncap::Normal, EcnEncap::Compatibility] {
                for dscp in [DscpEncap::Copy, DscpEncap::Fixed(46), DscpEncap::Fixed(0)] {
                    let expected = encapsulate(ecn, dscp, class);
                    assert_eq!(ClassEncap::new(ecn, dscp).apply(class), expected);
                }
            }
        }
    }
}
