//! What the operator sees of IKE, as JSON.

use super::event_loop::Ike;
use serde_json::{Value, json};

impl Ike {
    /// One line for `status`.
    #[must_use]
    pub fn summary(&self) -> String {
        let statistics = self.engine().statistics();
        let half_open = self.engine().half_open();
        format!("{} IKE SAs established so far, {half_open} half-open", statistics.established)
    }

    /// All counters.
    #[must_use]
    pub fn counters(&self) -> Value {
        let core = self.engine().statistics();
        let udp = self.udp_counters();
        json!({
            "udp": {
                "received": udp.received,
                "sent": udp.sent,
                "keepalives": udp.keepalives,
                "esp_in_udp": udp.esp_in_udp,
                "unusable": udp.unusable,
                "send_failed": udp.send_failed,
            },
            "core": {
                "datagrams_in": core.datagrams_in,
                "messages_in": core.messages_in,
                "malformed": core.malformed,
                "unexpected": core.unexpected,
                "unknown_spi": core.unknown_spi,
                "unprotected": core.unprotected,
                "integrity": core.integrity,
                "outside_window": core.outside_window,
                "retransmitted_answers": core.retransmitted_answers,
                "retransmitted_requests": core.retransmitted_requests,
                "stateless_answers": core.stateless_answers,
                "refused_half_open": core.refused_half_open,
                "established": core.established,
                "authentication_failed": core.authentication_failed,
                "half_open": self.engine().half_open(),
            },
            "events": self.log.counters(),
        })
    }
}
