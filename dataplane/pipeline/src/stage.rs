//! What each pass over a burst costs.
//!
//! The pipeline reads no clock: whoever runs it lends one ([`crate::sink::Sink::ticks`]), which is
//! read between the passes of a burst, never for a packet.

/// A pass over a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Headers, and which SA or which flow.
    Sort,
    /// From the untrusted side: replay check, cipher, replay commit, trailer.
    Open,
    /// What was opened: selectors, next hop, layer 2.
    Forward,
    /// A clear packet: policy.
    Policy,
    /// To the untrusted side: framing, cipher, layer 2; or what else policy says.
    Protect,
}

impl Stage {
    /// How many there are.
    pub const COUNT: usize = 5;
    /// All of them, in the order of a packet's journey.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Sort, Self::Open, Self::Forward, Self::Policy, Self::Protect];

    /// The name shown to the operator.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sort => "sort",
            Self::Open => "open",
            Self::Forward => "forward",
            Self::Policy => "policy",
            Self::Protect => "protect",
        }
    }
}

/// What a stage has taken since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTotals {
    /// Ticks of the lent clock.
    pub ticks: u64,
    /// Packets that went through.
    pub packets: u64,
}

impl StageTotals {
    #[inline(always)]
    pub(crate) fn add(&mut self, ticks: u64, packets: usize) {
        self.ticks = self.ticks.wrapping_add(ticks);
        self.packets = self.packets.wrapping_add(packets as u64);
    }
}
