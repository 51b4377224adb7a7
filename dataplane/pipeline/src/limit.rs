//! A token bucket for ICMP errors (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 f).

/// Allows so many a second, with a tenth of a second's worth at once.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    per_second: u64,
    /// In thousandths, so that a millisecond adds a whole number.
    tokens: u64,
    filled_ms: u64,
}

impl RateLimit {
    /// `per_second` events; 0 allows none.
    #[must_use]
    pub const fn new(per_second: u32) -> Self {
        Self { per_second: per_second as u64, tokens: 0, filled_ms: 0 }
    }

    const fn burst(&self) -> u64 {
        // At least one whole event, or a low rate would never allow any.
        let tenth = self.per_second.saturating_mul(100);
        if tenth < 1000 && self.per_second > 0 { 1000 } else { tenth }
    }

    /// Whether one more event is allowed now.
    pub fn allow(&mut self, now_ms: u64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.filled_ms);
        let added = passed_ms.saturating_mul(self.per_second);
        self.tokens = self.tokens.saturating_add(added).min(self.burst());
        self.filled_ms = now_ms;
        match self.tokens.checked_sub(1000) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RateLimit;

    #[test]
    fn a_flood_gets_the_rate_and_no_more() {
        let mut limit = RateLimit::new(100);
        let allowed = (0..1_000_000_u64).filter(|n| limit.allow(1000 + n / 1000)).count();
        assert!((100..=110).contains(&allowed), "{allowed} in one second");
    }

    #[test]
    fn zero_allows_none_and_one_a_second_does_allow() {
        assert!(!RateLimit::new(0).allow(1_000_000));
        assert!(RateLimit::new(1).allow(1000));
    }
}
