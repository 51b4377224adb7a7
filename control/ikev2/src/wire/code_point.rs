//! Open code points: a number from a registry that keeps what it is when nobody knows it.
//!
//! The names are those the log shows; a number without a name is shown in parentheses.

/// Declares a newtype over an integer with its constants, their names in the log, and `Display`.
macro_rules! code_points {
    ($(#[$attribute:meta])* $type:ident($integer:ty) {
        $($value:literal $constant:ident $name:literal $doc:literal;)*
    }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub $integer);

        impl $type {
            $(#[doc = $doc] pub const $constant: Self = Self($value);)*

            /// The name in the log; `None` for a number that has none here.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($name),)*
                    _ => None,
                }
            }
        }

        impl core::fmt::Display for $type {
            fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => formatter.write_str(name),
                    None => write!(formatter, "({})", self.0),
                }
            }
        }
    };
}

pub(crate) use code_points;
