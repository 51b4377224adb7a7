//! As much DER as keys and AlgorithmIdentifiers need. Anything that is not the one shortest
//! encoding is refused (X.690 section 10).

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: &[u8] = &[0x05, 0x00];
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// Context-specific, constructed, number 0.
pub(super) const CONTEXT_0: u8 = 0xa0;

/// Reads elements from the front.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Contents of the next element, which has this tag.
    pub(super) fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        if found != tag {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => {
                let (&len, rest) = rest.split_first()?;
                (usize::from(len).checked_sub(0x80)? + 0x80, rest)
            }
            0x82 => {
                let (len, rest) = rest.split_first_chunk::<2>()?;
                (usize::from(u16::from_be_bytes(*len)).checked_sub(0x100)? + 0x100, rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(contents)
    }

    /// Like [`Reader::read`], as a reader of the contents.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.read(tag).map(Self)
    }

    /// A positive INTEGER without its sign octet.
    pub(super) fn read_positive(&mut self) -> Option<&'a [u8]> {
        let octets = self.read(INTEGER)?;
        match octets {
            [0, rest @ ..] if rest.first().is_some_and(|&first| first >= 0x80) => Some(rest),
            [1..=0x7f, ..] => Some(octets),
            _ => None,
        }
    }

    /// Whole octets of a BIT STRING.
    pub(super) fn read_bit_string(&mut self) -> Option<&'a [u8]> {
        let (unused, octets) = self.read(BIT_STRING)?.split_first()?;
        (*unused == 0).then_some(octets)
    }
}

/// One element that is all there is.
pub(super) fn only(octets: &[u8], tag: u8) -> Option<Reader<'_>> {
    let mut reader = Reader::new(octets);
    let contents = reader.enter(tag)?;
    reader.is_empty().then_some(contents)
}

/// An element of at most 127 octets.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let len = u8::try_from(contents.len()).unwrap_or(u8::MAX).min(0x7f);
    let mut out = vec![tag, len];
    out.extend_from_slice(&contents);
    out
}
