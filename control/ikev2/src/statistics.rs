//! Counters of the engine: where datagrams ended, and what came of handshakes.

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Datagrams handled.
    pub datagrams_in: u64,
    /// Authenticated messages handled.
    pub messages_in: u64,
    /// Datagrams that are no IKE message.
    pub malformed: u64,
    /// IKE_SA_INIT that fits no state, or has wrong fields.
    pub unexpected: u64,
    /// Messages of IKE SAs that we do not have.
    pub unknown_spi: u64,
    /// Messages without protection where there must be one.
    pub unprotected: u64,
    /// Messages whose ICV is wrong.
    pub integrity: u64,
    /// Messages outside the window.
    pub outside_window: u64,
    /// Answers sent again for a repeated request.
    pub retransmitted_answers: u64,
    /// Requests of ours sent again.
    pub retransmitted_requests: u64,
    /// IKE_SA_INIT answered without state: a cookie, another key exchange, a refusal.
    pub stateless_answers: u64,
    /// Unprotected errors not told, for too many were in that second.
    pub suppressed_answers: u64,
    /// IKE_SA_INIT dropped because of the limit on key exchanges without a proof.
    pub refused_key_exchange: u64,
    /// IKE_SA_INIT dropped because of the limits on half-open SAs.
    pub refused_half_open: u64,
    /// IKE SAs that came to stand.
    pub established: u64,
    /// Authentications that failed.
    pub authentication_failed: u64,
}
