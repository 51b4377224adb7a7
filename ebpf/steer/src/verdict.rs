//! What becomes of a frame, and the counter of each way.
//!
//! `steer_stats` has one counter for each [`Verdict`] but for the worker's number. They
//! are dense: first the kinds of redirected frames, then the reasons to pass, then
//! [`DropReason::ALL`]. The sum over all of them is the number of frames seen.

use xswan_wire::DropReason;

macro_rules! counted {
    ($(#[$doc:meta])* $type:ident { $( $(#[$variant_doc:meta])* $variant:ident = $name:literal, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $type {
            $( $(#[$variant_doc])* $variant, )*
        }

        impl $type {
            /// Every one of them, in the order of the counters.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The counter's name as shown to the operator.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }
        }
    };
}

counted! {
    /// What kind of frame a worker gets.
    Kind {
        /// ESP directly over IP.
        Esp = "steer_esp",
        /// ESP in UDP (RFC 3948).
        EspUdp = "steer_esp_udp",
        /// A packet in clear for a protected prefix.
        Clear = "steer_clear",
    }
}

counted! {
    /// Why a frame goes to the kernel.
    PassReason {
        /// Control has not written a configuration this program understands.
        NotReady = "pass_not_ready",
        /// ARP.
        Arp = "pass_arp",
        /// IKE: UDP 500, or UDP 4500 with the non-ESP marker, for a local outer address.
        Ike = "pass_ike",
        /// ICMP of either version that no protected prefix takes; neighbour discovery too.
        Icmp = "pass_icmp",
        /// A UDP fragment for a local outer address: the kernel puts IKE together.
        Fragment = "pass_fragment",
        /// ESP for somebody else.
        ForeignEsp = "pass_foreign_esp",
        /// An IP header that does not hold together; the kernel drops it.
        Malformed = "pass_malformed",
        /// Everything else.
        Other = "pass_other",
    }
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// To the socket of this worker; dropped, as [`DropReason::NoWorker`], if it has none.
    Redirect {
        /// The worker, below the number of workers.
        worker: u32,
        /// What it is.
        kind: Kind,
    },
    /// To the kernel.
    Pass(PassReason),
    /// To nobody.
    Drop(DropReason),
}

const FIRST_PASS: u32 = Kind::ALL.len() as u32;
const FIRST_DROP: u32 = FIRST_PASS + PassReason::ALL.len() as u32;
/// Number of counters in `steer_stats`.
pub const COUNTERS: u32 = FIRST_DROP + DropReason::COUNT as u32;

impl Verdict {
    /// Position of this verdict's counter; below [`COUNTERS`].
    #[inline(always)]
    #[must_use]
    pub const fn counter(self) -> u32 {
        match self {
            Self::Redirect { kind, .. } => kind as u32,
            Self::Pass(reason) => FIRST_PASS + reason as u32,
            Self::Drop(reason) => FIRST_DROP + reason as u32,
        }
    }

    /// The counter's name as shown to the operator.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redirect { kind, .. } => kind.name(),
            Self::Pass(reason) => reason.name(),
            Self::Drop(reason) => reason.name(),
        }
    }

    /// The verdict that counts at `counter`, with worker 0; `None` from [`COUNTERS`] on.
    #[must_use]
    pub fn from_counter(counter: u32) -> Option<Self> {
        let at = |first: u32| counter.checked_sub(first).map(|index| index as usize);
        if let Some(reason) = at(FIRST_DROP) {
            return DropReason::ALL.get(reason).copied().map(Self::Drop);
        }
        if let Some(reason) = at(FIRST_PASS) {
            return PassReason::ALL.get(reason).copied().map(Self::Pass);
        }
        Kind::ALL.get(counter as usize).map(|kind| Self::Redirect { worker: 0, kind: *kind })
    }
}

/// The three ways of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a worker.
    Redirect,
    /// To the kernel.
    Pass,
    /// To nobody.
    Drop,
}

/// A [`Verdict`] in two words that always have a value.
///
/// The worker of a verdict that names none is undefined bits to the compiler, which may
/// move them about; the kernel's verifier refuses a program that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The worker; 0 if the frame goes to none.
    pub worker: u32,
    /// The counter of the verdict, below [`COUNTERS`].
    pub counter: u32,
}

impl Decision {
    /// To this worker.
    #[inline(always)]
    #[must_use]
    pub const fn redirect(worker: u32, kind: Kind) -> Self {
        Self { worker, counter: kind as u32 }
    }

    /// To the kernel.
    #[inline(always)]
    #[must_use]
    pub const fn pass(reason: PassReason) -> Self {
        Self { worker: 0, counter: FIRST_PASS + reason as u32 }
    }

    /// To nobody.
    #[inline(always)]
    #[must_use]
    pub const fn drop(reason: DropReason) -> Self {
        Self { worker: 0, counter: FIRST_DROP + reason as u32 }
    }

    /// Which of the three ways it is.
    #[inline(always)]
    #[must_use]
    pub const fn way(self) -> Way {
        if self.counter < FIRST_PASS {
            Way::Redirect
        } else if self.counter < FIRST_DROP {
            Way::Pass
        } else {
            Way::Drop
        }
    }
}

impl From<Decision> for Verdict {
    fn from(decision: Decision) -> Self {
        match Self::from_counter(decision.counter) {
            Some(Self::Redirect { kind, .. }) => Self::Redirect { worker: decision.worker, kind },
            Some(other @ (Self::Pass(_) | Self::Drop(_))) => other,
            // Every constructor keeps the counter below the number of counters.
            None => Self::Drop(DropReason::NoWorker),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn counters_are_dense_and_names_unique() {
        let mut names = BTreeSet::new();
        for counter in 0..COUNTERS {
            let verdict = Verdict::from_counter(counter).unwrap();
            assert_eq!(verdict.counter(), counter);
            assert!(names.insert(verdict.name()), "{} twice", verdict.name());
        }
        assert_eq!(Verdict::from_counter(COUNTERS), None);
    }
}
