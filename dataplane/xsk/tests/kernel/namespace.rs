//! A network namespace of this test's own, with a veth pair of two queues in it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNTER: AtomicU32 = AtomicU32::new(0);

pub struct Namespace {
    name: String,
}

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    output.is_ok_and(|output| output.status.success())
}

impl Namespace {
    /// `None` where namespaces cannot be made; says so.
    fn new() -> Option<Self> {
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("xk{}-{n}", std::process::id());
        if !ip(&format!("netns add {name}")) {
            println!("skipped: no network namespace can be made here; run as root");
            return None;
        }
        let namespace = Self { name };
        let made = namespace.ip("link add xk0 numtxqueues 2 numrxqueues 2 type veth \
             peer name xk1 numtxqueues 2 numrxqueues 2");
        assert!(made, "veth pair in {}", namespace.name);
        for device in ["xk0", "xk1"] {
            assert!(namespace.ip(&format!("link set {device} addrgenmode none")));
            assert!(namespace.ip(&format!("link set {device} up")));
        }
        Some(namespace)
    }

    pub fn ip(&self, arguments: &str) -> bool {
        ip(&format!("-n {} {arguments}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.name));
    }
}

/// Runs the test's body on a thread of its own inside a fresh namespace.
pub fn within(body: impl FnOnce(&Namespace) + Send + 'static) {
    let Some(namespace) = Namespace::new() else { return };
    let thread = std::thread::spawn(move || {
        let file = File::open(format!("/run/netns/{}", namespace.name)).unwrap();
        // SAFETY: an open descriptor of a namespace; only this thread moves.
        let status = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
        body(&namespace);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
