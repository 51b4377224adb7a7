//! Who ciphers: our own kernel in one of its forms, or a library.

/// The implementations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backend {
    /// `aes-gcm` and `chacha20poly1305`: portable, with AES-NI where there is any.
    #[default]
    RustCrypto,
    /// `aws-lc-rs`: assembly for the usual machines.
    AwsLc,
    /// Our own AES-GCM, where [`Form::detect`] finds a form of it; ChaCha20-Poly1305 is
    /// `aws-lc-rs`'s.
    Native,
}

impl Backend {
    /// Every back-end.
    pub const ALL: [Self; 3] = [Self::RustCrypto, Self::AwsLc, Self::Native];

    /// The fastest on this processor: our own, or else `aws-lc-rs`.
    #[must_use]
    pub fn fastest() -> Self {
        if Self::Native.is_usable() { Self::Native } else { Self::AwsLc }
    }

    /// Whether this processor has what it needs.
    #[must_use]
    pub fn is_usable(self) -> bool {
        match self {
            Self::RustCrypto | Self::AwsLc => true,
            Self::Native => Form::detect().is_some(),
        }
    }

    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RustCrypto => "rustcrypto",
            Self::AwsLc => "aws-lc",
            Self::Native => "native",
        }
    }

    /// The name shown to the operator: with the form, if there is one.
    #[must_use]
    pub fn description(self) -> &'static str {
        match (self, Form::detect()) {
            (Self::Native, Some(form)) => form.name(),
            (Self::Native, None) | (Self::RustCrypto | Self::AwsLc, _) => self.name(),
        }
    }
}

/// The forms of our own kernel: which instructions it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// VAES and VPCLMULQDQ with AVX-512: four blocks a lane.
    Vaes512,
    /// AES-NI and PCLMULQDQ with AVX: a block a lane.
    AesNi,
}

impl Form {
    /// Every form, the best first.
    pub const ALL: [Self; 2] = [Self::Vaes512, Self::AesNi];

    /// The best that this processor has.
    #[must_use]
    pub fn detect() -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.is_usable())
    }

    /// Whether this processor has its instructions, and the operating system keeps its registers.
    #[cfg(target_arch = "x86_64")]
    #[must_use]
    pub fn is_usable(self) -> bool {
        let basic = is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("avx");
        match self {
            Self::AesNi => basic,
            Self::Vaes512 => {
                basic
                    && is_x86_feature_detected!("vaes")
                    && is_x86_feature_detected!("vpclmulqdq")
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vbmi2")
                    && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("popcnt")
            }
        }
    }

    /// Never: they are for x86-64.
    #[cfg(not(target_arch = "x86_64"))]
    #[must_use]
    pub fn is_usable(self) -> bool {
        false
    }

    /// The name shown to the operator.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vaes512 => "native vaes-512",
            Self::AesNi => "native aes-ni",
        }
    }
}
