//! Waiting for any of a worker's sockets, when it has nothing else to do.

use std::os::fd::RawFd;

/// The sockets to wait for; made once, so that waiting allocates nothing.
pub struct Waiter {
    sockets: Vec<libc::pollfd>,
}

impl Waiter {
    /// Waits for these sockets. One that is closed later no longer ends a wait.
    #[must_use]
    pub fn new(sockets: impl Iterator<Item = RawFd>) -> Self {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        Self { sockets: sockets.map(poll).collect() }
    }

    /// Returns when a socket has received something, a signal came, or after this long.
    ///
    /// In copy mode the call also makes the driver look at a fill ring that asked for it.
    pub fn wait(&mut self, timeout_us: u32) {
        let timeout = libc::timespec {
            tv_sec: (timeout_us / 1_000_000).into(),
            tv_nsec: (timeout_us % 1_000_000 * 1000).into(),
        };
        let count = self.sockets.len() as libc::nfds_t;
        // SAFETY: the pointer and count are those of a vector of ours, the timeout lives until
        // the call returns, and no signal mask is given.
        unsafe {
            libc::ppoll(self.sockets.as_mut_ptr(), count, &raw const timeout, std::ptr::null())
        };
    }
}
