//! Timers and limits of the daemon, with strongSwan's defaults where it has them.

/// All of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Half-open IKE SAs above which everybody has to show a cookie.
    pub cookie_threshold: u32,
    /// Half-open IKE SAs of one address above which it has to show a cookie.
    pub cookie_threshold_ip: u32,
    /// Half-open IKE SAs of one address from which on it has to show a cookie, whatever the
    /// other thresholds are; 0 is off. Nobody who shows one is locked out.
    pub block_threshold: u32,
    /// Half-open IKE SAs above which nobody is answered; 0 is no limit.
    pub init_limit_half_open: u32,
    /// Key exchanges in IKE_SA_INIT that are worked on in a second without leading to an IKE
    /// SA, in units of one with X25519; 0 is no limit.
    pub init_key_exchanges_per_s: u32,
    /// How long a half-open IKE SA is kept; a sixth of it when there are very many.
    pub half_open_timeout_ms: u64,
    /// First retransmission.
    pub retransmit_timeout_ms: u64,
    /// Each further one waits so much longer: thousandths.
    pub retransmit_base_permille: u64,
    /// Retransmissions before the peer is dead.
    pub retransmit_tries: u32,
    /// Largest IP datagram of a fragmented message, in octets.
    pub fragment_size: u16,
    /// Idle time of a NAT mapping after which a keepalive is sent; 0 is never.
    pub keepalive_ms: u64,
    /// How long a replaced inbound Child SA is kept for packets that are late.
    pub delete_rekeyed_delay_ms: u64,
    /// Reauthentication makes the new SAs before it closes the old ones.
    pub make_before_break: bool,
    /// IKE SAs in all.
    pub max_ike_sas: u32,
    /// Child SAs of one IKE SA.
    pub max_children: u32,
    /// Requests of a peer with a key exchange in them that are worked on in a second.
    pub max_key_exchanges_per_s: u32,
    /// Make an event of every message: for debugging, and slow.
    pub trace_messages: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cookie_threshold: 30,
            cookie_threshold_ip: 3,
            block_threshold: 0,
            init_limit_half_open: 100_000,
            init_key_exchanges_per_s: 4_000,
            half_open_timeout_ms: 30_000,
            retransmit_timeout_ms: 4_000,
            retransmit_base_permille: 1_800,
            retransmit_tries: 5,
            fragment_size: 1_280,
            keepalive_ms: 20_000,
            delete_rekeyed_delay_ms: 5_000,
            make_before_break: true,
            max_ike_sas: 100_000,
            max_children: 256,
            max_key_exchanges_per_s: 20,
            trace_messages: false,
        }
    }
}

impl Settings {
    /// How long to wait after the transmission of this number, the first being 0, in
    /// milliseconds. `None`: no further one.
    #[must_use]
    pub fn retransmit_after(&self, transmission: u32) -> Option<u64> {
        (transmission <= self.retransmit_tries).then(|| {
            (0..transmission).fold(self.retransmit_timeout_ms, |delay, _| {
                delay.saturating_mul(self.retransmit_base_permille) / 1000
            })
        })
    }
}
