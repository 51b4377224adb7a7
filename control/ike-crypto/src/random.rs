//! Where octets nobody may guess come from: a parameter, so that a simulated run replays.

/// A source of octets.
///
/// In production this is [`SystemRandom`]; a simulation passes a seeded generator.
pub trait Random {
    /// Fills all of `out`.
    fn fill(&mut self, out: &mut [u8]);
}

/// The generator of the cryptographic library, seeded by the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemRandom;

impl Random for SystemRandom {
    /// Ends the process if the system has no randomness: no key made after that would be one.
    fn fill(&mut self, out: &mut [u8]) {
        if aws_lc_rs::rand::fill(out).is_err() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A generator that says the same thing every time.

    use super::Random;

    /// SHA-256 in counter mode over a seed: reproducible, not secret.
    pub(crate) struct SeededRandom {
        seed: u64,
        counter: u64,
    }

    impl SeededRandom {
        pub(crate) fn new(seed: u64) -> Self {
            Self { seed, counter: 0 }
        }
    }

    impl Random for SeededRandom {
        fn fill(&mut self, out: &mut [u8]) {
            for chunk in out.chunks_mut(32) {
                let block = crate::sha256(&[&self.seed.to_be_bytes(), &self.counter.to_be_bytes()]);
                self.counter += 1;
                chunk.copy_from_slice(&block[..chunk.len()]);
            }
        }
    }
}
