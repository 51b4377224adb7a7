//! Our own AES-GCM for packets, on x86-64.
//!
//! One pass over a packet: the counter blocks of the first group and the mask of the tag are
//! ciphered together, and the hash of what is known is summed between their rounds. Short packets
//! are one straight line of instructions for each number of blocks, long ones are what is left over
//! by eights and then groups of eight. Technique and figures are in `perf/RESULTS.md`.
//!
//! May assume nothing but slices; guarantees that the instructions exist before it uses them, that
//! no branch and no address depends on a key, a text or a hash, and that a refused packet leaves
//! only zeros. The unsafe operations are loads, stores, empty assembly, and the step from code that
//! runs anywhere into code that needs the detected features.
#![expect(unsafe_code, reason = "vector loads and stores, and instructions that were detected")]

mod aes_ni;
mod block;
mod hash;
mod schedule;
mod vaes_512;

use std::fmt;

use crate::Algorithm;
use crate::Form;
use schedule::Record;

/// Seals: `dst` is text and room for the tag, `src` the front of the text if it lies elsewhere. The
/// end of the text, up to eight octets, may come by value: what was just written would have to be
/// waited for.
type Seal = unsafe fn(&Record, &[u8; 12], &[u8], &[u8], Option<[u8; 8]>, &mut [u8]) -> Option<()>;
/// Opens: `src` is text and tag.
type Open = unsafe fn(&Record, &[u8; 12], &[u8], &[u8], &mut [u8]) -> Option<()>;

/// One key, and the code that was chosen for its length and this processor.
pub(crate) struct Cipher {
    record: Box<Record>,
    seal: Seal,
    open: Open,
    form: Form,
}

impl Cipher {
    /// For the best form this processor has.
    pub(crate) fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        Self::with_form(Form::detect()?, algorithm, key)
    }

    /// For a form, if this processor has it.
    pub(crate) fn with_form(form: Form, algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        if !form.is_usable() {
            return None;
        }
        let (seal, open): (Seal, Open) = match (form, algorithm) {
            (Form::AesNi, Algorithm::Aes128Gcm16) => (aes_ni::seal::<10>, aes_ni::open::<10>),
            (Form::AesNi, Algorithm::Aes192Gcm16) => (aes_ni::seal::<12>, aes_ni::open::<12>),
            (Form::AesNi, Algorithm::Aes256Gcm16) => (aes_ni::seal::<14>, aes_ni::open::<14>),
            (Form::Vaes512, Algorithm::Aes128Gcm16) => {
                (vaes_512::seal::<10, 4>, vaes_512::open::<10, 4>)
            }
            (Form::Vaes512, Algorithm::Aes192Gcm16) => {
                (vaes_512::seal::<12, 3>, vaes_512::open::<12, 3>)
            }
            (Form::Vaes512, Algorithm::Aes256Gcm16) => {
                (vaes_512::seal::<14, 3>, vaes_512::open::<14, 3>)
            }
            (_, Algorithm::ChaCha20Poly1305 | Algorithm::AesCbcHmac { .. }) => return None,
        };
        // SAFETY: `is_usable` has found the AES, PCLMULQDQ and AVX instructions.
        let record = unsafe { Record::new(key) }?;
        Some(Self { record, seal, open, form })
    }

    /// The form it was made for.
    pub(crate) const fn form(&self) -> Form {
        self.form
    }

    /// Asks for the key to come into the cache.
    #[inline]
    pub(crate) fn prefetch(&self) {
        self.record.prefetch();
    }

    /// Seals `src` and the trailer, which lies behind its place in `dst`, before the tag's, or else
    /// is given: at most eight octets.
    #[inline(always)]
    pub(crate) fn seal(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        src: &[u8],
        trailer: Option<[u8; 8]>,
        dst: &mut [u8],
    ) -> Option<()> {
        // SAFETY: `with_form` has found every instruction that this function is made of.
        unsafe { (self.seal)(&self.record, nonce, aad, src, trailer, dst) }
    }

    /// Opens `src`, text and tag; `dst` is wiped if the tag does not match.
    #[inline(always)]
    pub(crate) fn open(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        src: &[u8],
        dst: &mut [u8],
    ) -> Option<()> {
        // SAFETY: as in `seal`.
        unsafe { (self.open)(&self.record, nonce, aad, src, dst) }
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher({}, ..)", self.form.name())
    }
}
