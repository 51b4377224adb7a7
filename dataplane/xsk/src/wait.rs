//! Waiting for any of a worker's sockets, or for another thread's bell, with nothing to do.
//!
//! A thread that pushes into another's ring rings its bell afterwards. That costs a fence and
//! a load as long as the other is awake; only a sleeper is woken by a system call.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Wakes one thread; any other may ring it.
#[derive(Debug)]
pub struct Bell {
    event: OwnedFd,
    asleep: AtomicBool,
}

impl Bell {
    /// A bell for one thread.
    ///
    /// # Errors
    /// The process has no descriptor to spare.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        Ok(Self { event, asleep: AtomicBool::new(false) })
    }

    /// Wakes the thread if it sleeps. What was pushed before is seen by it in any case.
    #[inline]
    pub fn ring(&self) {
        // Against the fence of the sleeper: either it sees what was pushed, or we see that it
        // sleeps.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if !self.asleep.swap(false, Ordering::AcqRel) {
            return;
        }
        let one = 1_u64;
        // SAFETY: eight bytes that live until the call returns. It fails only if the counter
        // is full, and then the thread wakes all the same.
        unsafe { libc::write(self.event.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    fn hush(&self) {
        let mut count = 0_u64;
        // SAFETY: eight bytes that live until the call returns; the descriptor does not block.
        unsafe {
            libc::read(self.event.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>());
        };
    }
}

/// What to wait for; made once, so that waiting allocates nothing.
pub struct Waiter {
    /// The bell's event first, then the sockets.
    polled: Vec<libc::pollfd>,
    bell: Arc<Bell>,
}

impl Waiter {
    /// Waits for this bell, which no other waiter has, and these sockets. A socket that is
    /// closed or whose device goes away no longer ends a wait.
    #[must_use]
    pub fn new(bell: Arc<Bell>, sockets: impl Iterator<Item = RawFd>) -> Self {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let event = bell.event.as_raw_fd();
        Self { polled: std::iter::once(event).chain(sockets).map(poll).collect(), bell }
    }

    /// Returns when a socket has received something, the bell was rung, a signal came, or after
    /// this long; at once if `is_idle` says that something has come already.
    ///
    /// In copy mode the call also makes the driver look at a fill ring that asked for it.
    pub fn wait(&mut self, timeout_us: u32, is_idle: impl FnOnce() -> bool) {
        self.bell.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if is_idle() {
            self.poll(timeout_us);
        }
        self.bell.asleep.store(false, Ordering::Relaxed);
        if self.polled.first().is_some_and(|bell| bell.revents != 0) {
            self.bell.hush();
        }
    }

    fn poll(&mut self, timeout_us: u32) {
        let timeout = libc::timespec {
            tv_sec: (timeout_us / 1_000_000).into(),
            tv_nsec: (timeout_us % 1_000_000 * 1000).into(),
        };
        let count = self.polled.len() as libc::nfds_t;
        // SAFETY: the pointer and count are those of a vector of ours, the timeout lives until
        // the call returns, and no signal mask is given.
        let ready = unsafe {
            libc::ppoll(self.polled.as_mut_ptr(), count, &raw const timeout, std::ptr::null())
        };
        if ready <= 0 {
            // A signal leaves what was there before.
            self.polled.iter_mut().for_each(|polled| polled.revents = 0);
            return;
        }
        for polled in &mut self.polled {
            if polled.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 {
                // Its device is gone: it would end every wait at once from now on.
                polled.fd = -1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::{Duration, Instant};

    use super::*;

    /// Far longer than any wait that a bell ends, far shorter than one that it does not.
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_sleeper_is_woken_for_each_of_many_pushes() {
        let bell = Arc::new(Bell::new().unwrap());
        let (pushed, taken) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let mut waiter = Waiter::new(bell.clone(), std::iter::empty());
        let sleeper = std::thread::spawn({
            let (pushed, taken) = (pushed.clone(), taken.clone());
            move || {
                while taken.load(Ordering::Relaxed) < 20_000 {
                    let seen = pushed.load(Ordering::Acquire);
                    if seen != taken.load(Ordering::Relaxed) {
                        taken.store(seen, Ordering::Release);
                        continue;
                    }
                    waiter.wait(60_000_000, || pushed.load(Ordering::Acquire) == seen);
                }
            }
        });
        let begun = Instant::now();
        for n in 1..=20_000 {
            pushed.store(n, Ordering::Release);
            bell.ring();
            while taken.load(Ordering::Acquire) != n {
                assert!(begun.elapsed() < LONG, "a push was slept through");
                std::thread::yield_now();
            }
        }
        sleeper.join().unwrap();
    }

    #[test]
    fn what_has_come_already_is_not_slept_on() {
        let mut waiter = Waiter::new(Arc::new(Bell::new().unwrap()), std::iter::empty());
        let begun = Instant::now();
        waiter.wait(60_000_000, || false);
        assert!(begun.elapsed() < LONG);
        waiter.wait(1000, || true);
        assert!(begun.elapsed() >= Duration::from_millis(1), "a wait ends by itself");
    }
}
