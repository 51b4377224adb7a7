//! Times and amounts in swanctl's notation: `1h`, `90s`, `500M`.

use crate::error::ConfigError;
use crate::reader::{Item, Section};

const LONGEST_SECONDS: u64 = 100 * 365 * 86_400;

/// A number of seconds, or a number with `s`, `m`, `h` or `d`; in milliseconds.
pub(crate) fn duration_ms(item: &Item<'_>) -> Result<u64, ConfigError> {
    const ALLOWED: &str = "seconds, or a number with s, m, h or d such as \"1h\"";
    if item.is_integer() {
        return Ok(item.integer(0..=LONGEST_SECONDS)? * 1000);
    }
    let text = item.text()?;
    let wrong = || item.error(format!("{text:?} is no time"), ALLOWED);
    let (number, unit) = match text.char_indices().last() {
        Some((position, 's')) => (text.get(..position), 1),
        Some((position, 'm')) => (text.get(..position), 60),
        Some((position, 'h')) => (text.get(..position), 3600),
        Some((position, 'd')) => (text.get(..position), 86_400),
        _ => (Some(text), 1),
    };
    let number: u64 = number.unwrap_or_default().trim().parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(unit).filter(|seconds| *seconds <= LONGEST_SECONDS);
    seconds.map(|seconds| seconds * 1000).ok_or_else(wrong)
}

/// A time that may be absent.
pub(crate) fn duration_or(
    section: &Section<'_>,
    key: &'static str,
    default_ms: u64,
) -> Result<u64, ConfigError> {
    section.find(key).map_or(Ok(default_ms), |item| duration_ms(&item))
}

/// A number, or a number with `K`, `M` or `G` for 2^10, 2^20, 2^30.
pub(crate) fn amount(item: &Item<'_>) -> Result<u64, ConfigError> {
    const ALLOWED: &str = "a number, or a number with K, M or G such as \"500M\"";
    const MOST: u64 = i64::MAX as u64;
    if item.is_integer() {
        return item.integer(0..=MOST);
    }
    let text = item.text()?;
    let wrong = || item.error(format!("{text:?} is no number"), ALLOWED);
    let (number, unit) = match text.char_indices().last() {
        Some((position, 'k' | 'K')) => (text.get(..position), 1_u64 << 10),
        Some((position, 'm' | 'M')) => (text.get(..position), 1 << 20),
        Some((position, 'g' | 'G')) => (text.get(..position), 1 << 30),
        _ => (Some(text), 1),
    };
    let number: u64 = number.unwrap_or_default().trim().parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|number| *number <= MOST).ok_or_else(wrong)
}

/// A number with at most three decimals (`4`, `4.0`, `"0.4"`), in thousandths.
pub(crate) fn thousandths(item: &Item<'_>, highest: u64) -> Result<u64, ConfigError> {
    let allowed = || format!("a number from 0 to {highest}, at most three decimals");
    let text = item.number_text().ok_or_else(|| item.error("is no number", allowed()))?;
    let wrong = || item.error(format!("{text:?} is no such number"), allowed());
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    if whole.is_empty() || whole.len() > 12 || !digits(whole) || !digits(decimals) {
        return Err(wrong());
    }
    let (decimals, zeros) = decimals.split_at_checked(3).unwrap_or((decimals, ""));
    if zeros.bytes().any(|octet| octet != b'0') {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let decimals: u64 = format!("{decimals:0<3}").parse().map_err(|_| wrong())?;
    Some(whole * 1000 + decimals).filter(|number| *number <= highest * 1000).ok_or_else(wrong)
}
