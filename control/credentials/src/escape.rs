//! Octets of unknown origin as text that is safe in a log line, a terminal and a shell.

use std::fmt;

/// Displays octets with everything that could be taken for more than text as `\xNN`.
///
/// Letters and digits of any script, spaces and harmless ASCII punctuation stay. Control
/// characters (also C1 and the invisible direction marks), octets that are not UTF-8, and
/// the characters a shell gives a meaning inside quotes (`$`, back tick, quotes, backslash)
/// do not.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                if is_plain(letter) {
                    write!(out, "{letter}")?;
                } else {
                    let mut octets = [0; 4];
                    hex(letter.encode_utf8(&mut octets).as_bytes(), out)?;
                }
            }
            hex(chunk.invalid(), out)?;
        }
        Ok(())
    }
}

/// Whether a character shows as itself.
pub(crate) fn is_plain(letter: char) -> bool {
    match letter {
        '\\' | '"' | '\'' | '`' | '$' => false,
        _ if letter.is_ascii() => !letter.is_ascii_control(),
        _ => letter.is_alphanumeric(),
    }
}

fn hex(octets: &[u8], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    octets.iter().try_for_each(|octet| write!(out, "\\x{octet:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays() {
        let text = "C=CH, O=Zürich 株式, CN=a.b@c:d/e_*(1)";
        assert_eq!(Escaped(text.as_bytes()).to_string(), text);
    }

    #[test]
    fn ike_13_nothing_reaches_a_terminal_or_a_shell() {
        let hostile: &[(&[u8], &str)] = &[
            (b"a\0b", "a\\x00b"),
            (b"a\nb\r", "a\\x0ab\\x0d"),
            (b"\x1b[2J", "\\x1b[2J"),
            (b"$(reboot)`id`", "\\x24(reboot)\\x60id\\x60"),
            (b"\"'\\", "\\x22\\x27\\x5c"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("\u{9b}31m".as_bytes(), "\\xc2\\x9b31m"),
            ("\u{202e}moc".as_bytes(), "\\xe2\\x80\\xaemoc"),
        ];
        for (octets, shown) in hostile {
            assert_eq!(Escaped(octets).to_string(), *shown);
        }
    }
}
