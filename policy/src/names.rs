//! Names of things that policies speak about. Each is its own type, so that a site is never taken for a device.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name, in bytes. A SPIFFE ID is at most 2,048 bytes long; four names of this length fit.
pub const MAX_NAME_LENGTH: usize = 128;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} name: 1 to {MAX_NAME_LENGTH} letters, digits, `-`, `_` and `.`, and not `.` or `..`")]
pub struct InvalidName {
    /// What the text was to name: `site`, `device` and so on.
    pub kind: &'static str,
    /// The text, escaped for a terminal.
    pub text: String,
}

fn is_path_segment(text: &str) -> bool {
    (1..=MAX_NAME_LENGTH).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        ///
        /// One segment of a SPIFFE path (SPIFFE-ID 2.2): `[A-Za-z0-9._-]+`, and neither `.` nor `..`.
        /// Compared byte by byte; cheap to clone.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks the alphabet and takes the name.
            ///
            /// # Errors
            /// [`InvalidName`] if the text is not one segment of a SPIFFE path.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                if is_path_segment(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(InvalidName { kind: $kind, text: text.escape_debug().to_string() })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A clinic or hospital: the place a request comes from (R1).
    SiteName, "site"
);
name!(
    /// A managed terminal of a site (R3). Unique within its site.
    DeviceName, "device"
);
name!(
    /// A person, or an account that acts for one (R1). Unique within its site.
    UserName, "user"
);
name!(
    /// A profession or duty (職種), which policies grant rights to (R2).
    RoleName, "role"
);
name!(
    /// A clinical service behind the gateway, made of one or more backends.
    ServiceName, "service"
);
name!(
    /// A class of information (R4), such as `clinical` or `administrative`.
    InformationClass, "class"
);
name!(
    /// A route of the configuration; a metric label, so never derived from a request.
    RouteName, "route"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_one_spiffe_path_segment() {
        for good in ["a", "sakura-clinic", "Ward.3_east", "0", "..."] {
            assert_eq!(SiteName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "さくら", "a%20", "a\0", "a\n"] {
            assert!(SiteName::new(bad).is_err(), "{bad:?}");
        }
        assert!(SiteName::new(&"a".repeat(MAX_NAME_LENGTH)).is_ok());
        assert!(SiteName::new(&"a".repeat(MAX_NAME_LENGTH + 1)).is_err());
    }

    #[test]
    fn the_error_escapes_what_a_terminal_would_obey() {
        let error = DeviceName::new("a\u{1b}[2J").unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error:?}");
        assert!(error.contains("device"));
    }

    proptest! {
        #[test]
        fn every_accepted_name_comes_back_unchanged(text in "\\PC{0,140}") {
            if let Ok(name) = UserName::new(&text) {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!(text.bytes().all(|b| b.is_ascii_graphic() && b != b'/'));
            }
        }
    }
}
