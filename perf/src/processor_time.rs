//! Processor time of a process, all its threads, as the kernel accounts for it.

use std::time::Duration;
use xswan_testkit::failure::{Failure, Outcome};

/// Ticks a second in `/proc/PID/stat`: USER_HZ, the same on every architecture we run on.
const TICKS_PER_SECOND: u64 = 100;
/// Fields of `/proc/PID/stat` behind the name that stand before utime.
const BEFORE_UTIME: usize = 11;

/// utime and stime of a process so far, threads that have ended included; 10 ms exact.
pub fn of(pid: u32) -> Outcome<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&text).ok_or_else(|| Failure::new(format!("/proc/{pid}/stat is not understood")))
}

fn parse(text: &str) -> Option<Duration> {
    // The name is in brackets and may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(BEFORE_UTIME);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((utime + stime) * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::time::Duration;

    #[test]
    fn a_name_with_brackets_and_blanks_is_skipped() {
        let text = "7 (a) R b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 1 2 3";
        assert_eq!(parse(text), Some(Duration::from_millis(2000)));
        assert_eq!(parse("7 (a) S 1"), None);
        assert!(super::of(std::process::id()).is_ok());
    }
}
