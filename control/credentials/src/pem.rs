//! Files of certificates and keys: PEM (RFC 7468) with anything around it, or bare DER.

use crate::base64;
use zeroize::Zeroizing;

/// One object of a file.
pub(crate) struct Section {
    /// The words between `BEGIN` and the dashes; `None` for a file that is DER.
    pub(crate) label: Option<String>,
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// Why a file has no sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PemError {
    /// Neither DER nor a single `-----BEGIN` line.
    Nothing,
    /// No `-----END` line with the same words, or no base64 between the lines.
    Damaged,
    /// The old kind of encryption, given in a header.
    Encrypted,
    /// More objects than asked for.
    TooMany,
}

/// Objects of a file, at most `most`.
pub(crate) fn sections(file: &[u8], most: usize) -> Result<Vec<Section>, PemError> {
    if file.first() == Some(&0x30) {
        return Ok(vec![Section { label: None, der: Zeroizing::new(file.to_vec()) }]);
    }
    let mut found = Vec::new();
    let mut lines = file.split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii);
    while let Some(line) = lines.next() {
        let Some(label) = label(line, b"-----BEGIN ") else { continue };
        if found.len() == most {
            return Err(PemError::TooMany);
        }
        let mut digits = Zeroizing::new(Vec::with_capacity(file.len()));
        loop {
            let line = lines.next().ok_or(PemError::Damaged)?;
            if let Some(end) = self::label(line, b"-----END ") {
                if end != label {
                    return Err(PemError::Damaged);
                }
                break;
            }
            if line.contains(&b':') {
                if line.ends_with(b"ENCRYPTED") {
                    return Err(PemError::Encrypted);
                }
                continue;
            }
            digits.extend_from_slice(line);
        }
        let label = String::from_utf8_lossy(label).into_owned();
        let der = base64::decode(&digits).ok_or(PemError::Damaged)?;
        found.push(Section { label: Some(label), der });
    }
    if found.is_empty() { Err(PemError::Nothing) } else { Ok(found) }
}

fn label<'a>(line: &'a [u8], begin: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(begin)?.strip_suffix(b"-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(file: &str) -> Result<Vec<Option<String>>, PemError> {
        Ok(sections(file.as_bytes(), 2)?.into_iter().map(|section| section.label).collect())
    }

    const ONE: &str = "-----BEGIN A B-----\r\nAP8=\r\n-----END A B-----\n";

    #[test]
    fn sections_among_other_text() {
        let file = format!("subject: x\n{ONE}more\n{ONE}");
        assert_eq!(labels(&file).unwrap(), [Some("A B".to_owned()), Some("A B".to_owned())]);
        assert_eq!(sections(ONE.as_bytes(), 1).unwrap()[0].der.as_slice(), [0, 255]);
        assert_eq!(labels("0der").unwrap(), [None]);
    }

    #[test]
    fn damage_is_named() {
        assert_eq!(labels(""), Err(PemError::Nothing));
        assert_eq!(labels("AP8="), Err(PemError::Nothing));
        assert_eq!(labels(&ONE.repeat(3)), Err(PemError::TooMany));
        for damaged in [
            "-----BEGIN A-----\nAP8=",
            "-----BEGIN A-----\nA-8=\n-----END A-----",
            "-----BEGIN A-----\nAP8=\n-----END B-----",
        ] {
            assert_eq!(labels(damaged), Err(PemError::Damaged));
        }
        let old = "-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAP8=\n-----END A-----";
        assert_eq!(labels(old), Err(PemError::Encrypted));
    }
}
