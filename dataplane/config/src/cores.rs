//! Lists of cores and of queues: `2-5,8`.

use std::collections::BTreeSet;

/// Reads a list such as `2-5,8`; ascending and without repetition.
///
/// # Errors
/// What is wrong, without the place.
pub fn parse_list(text: &str, highest: u32) -> Result<Vec<u32>, String> {
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let number =
                text.trim().parse::<u32>().map_err(|_| format!("{text:?} is no number"))?;
            if number <= highest { Ok(number) } else { Err(format!("{number} is above {highest}")) }
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("{first}-{last} runs backwards"));
        }
        for number in first..=last {
            if !numbers.insert(number) {
                return Err(format!("{number} comes twice"));
            }
        }
    }
    Ok(numbers.into_iter().collect())
}

/// The cores that this process may run on, from `/proc/self/status`.
///
/// # Errors
/// If there is no such file or line.
pub fn allowed_cores() -> std::io::Result<Vec<u32>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let missing = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    parse_list(line.ok_or_else(missing)?.trim(), u32::MAX).map_err(|_| missing())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse_list("2-5,8", 1023), Ok(vec![2, 3, 4, 5, 8]));
        assert_eq!(parse_list(" 8 , 0 ", 1023), Ok(vec![0, 8]));
        for bad in ["", "1-", "-1", "5-2", "1,1", "1-3,2", "x", "1024", "0-4294967295", "1,,2"] {
            assert!(parse_list(bad, 1023).is_err(), "{bad}");
        }
        assert!(!allowed_cores().expect("proc is mounted").is_empty());
    }
}
