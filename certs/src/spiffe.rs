//! SPIFFE IDs of devices: `spiffe://<trust-domain>/site/<site>/device/<device>`.
//!
//! SPIFFE-ID 2 lets a scheme and a trust domain differ in case only as URIs; this parser takes the one lower-case form
//! that SPIFFE implementations generate and compares bytes, so that no two texts mean the same device.

use std::fmt;
use std::str::FromStr;

use policy::{DeviceId, DeviceName, InvalidName, SiteName};

/// The longest SPIFFE ID, in bytes (SPIFFE-ID 2.3).
pub const MAX_ID_LENGTH: usize = 2048;

/// The longest trust domain, in bytes (SPIFFE-ID 2.3).
pub const MAX_TRUST_DOMAIN_LENGTH: usize = 255;

/// The name of a trust domain (SPIFFE-ID 2.1): lower-case letters, digits, `.`, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Checks the alphabet and takes the name, without `spiffe://`.
    ///
    /// # Errors
    /// [`InvalidTrustDomain`] if the text is empty, too long or has another character, a port or a user part included.
    pub fn new(text: &str) -> Result<Self, InvalidTrustDomain> {
        let fits = (1..=MAX_TRUST_DOMAIN_LENGTH).contains(&text.len());
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if fits && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidTrustDomain { text: text.escape_debug().to_string() })
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of a device of this trust domain.
    #[must_use]
    pub fn id_of(&self, device: &DeviceId) -> String {
        format!("spiffe://{}/site/{}/device/{}", self.0, device.site, device.device)
    }

    /// Reads the device out of a SPIFFE ID, given as the certificate's very bytes.
    ///
    /// # Errors
    /// [`SpiffeError`] for every text but the one form that [`TrustDomain::id_of`] writes.
    pub fn device(&self, id: &[u8]) -> Result<DeviceId, SpiffeError> {
        if id.len() > MAX_ID_LENGTH {
            return Err(SpiffeError::TooLong { length: id.len() });
        }
        let escaped = || id.escape_ascii().to_string();
        // Spaces, controls and NUL end here; what a segment may hold is checked by the names themselves.
        let text = std::str::from_utf8(id)
            .ok()
            .filter(|text| text.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or_else(|| SpiffeError::Character { id: escaped() })?;
        let rest = text.strip_prefix("spiffe://").ok_or_else(|| SpiffeError::Scheme { id: escaped() })?;
        let (authority, path) = rest.split_once('/').ok_or_else(|| SpiffeError::Path { id: escaped() })?;
        if authority != self.0 {
            return Err(SpiffeError::TrustDomain { id: escaped(), expected: self.0.clone() });
        }
        let mut segments = path.split('/');
        let mut next = || segments.next();
        match (next(), next(), next(), next(), next()) {
            (Some("site"), Some(site), Some("device"), Some(device), None) => {
                Ok(DeviceId { site: SiteName::new(site)?, device: DeviceName::new(device)? })
            }
            _ => Err(SpiffeError::Path { id: escaped() }),
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidTrustDomain;
    fn from_str(text: &str) -> Result<Self, InvalidTrustDomain> {
        Self::new(text)
    }
}

/// Why a text is not a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a trust domain: 1 to {MAX_TRUST_DOMAIN_LENGTH} lower-case letters, digits, `.`, `-` and `_`, \
     without `spiffe://`, port or path"
)]
pub struct InvalidTrustDomain {
    /// The text, escaped for a terminal.
    pub text: String,
}

/// Why a URI names no device of the trust domain. Every URI in a message is escaped for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Longer than SPIFFE-ID 2.3 allows.
    #[error("the SPIFFE ID is {length} bytes long, more than {MAX_ID_LENGTH}")]
    TooLong {
        /// Length in bytes.
        length: usize,
    },
    /// A space, a control character, NUL or anything beyond ASCII.
    #[error("`{id}` holds a character that no SPIFFE ID has")]
    Character {
        /// The URI.
        id: String,
    },
    /// Another scheme, or the scheme in capitals.
    #[error("`{id}` does not begin with `spiffe://`")]
    Scheme {
        /// The URI.
        id: String,
    },
    /// Another trust domain, or one with a port, a user part or capitals.
    #[error("`{id}` is not of trust domain `{expected}`")]
    TrustDomain {
        /// The URI.
        id: String,
        /// The gateway's trust domain.
        expected: String,
    },
    /// The path is not `/site/<site>/device/<device>`.
    #[error("the path of `{id}` is not `/site/<site>/device/<device>`")]
    Path {
        /// The URI.
        id: String,
    },
    /// A segment is no name: empty, `.`, `..`, percent-encoded, followed by a query…
    #[error(transparent)]
    Name(#[from] InvalidName),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn domain() -> TrustDomain {
        TrustDomain::new("sekisho.example").unwrap()
    }

    #[test]
    fn a_trust_domain_is_a_lower_case_host() {
        for good in ["a", "sekisho.example", "a-b_c.0", &"a".repeat(255)] {
            assert_eq!(TrustDomain::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "A", "a:1", "u@a", "a/b", "spiffe://a", "a b", "さ", "a\0", "a%20", &"a".repeat(256)] {
            assert!(TrustDomain::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_one_form_is_read() {
        let device = domain().device(b"spiffe://sekisho.example/site/sakura-clinic/device/Ward.3").unwrap();
        assert_eq!((device.site.as_str(), device.device.as_str()), ("sakura-clinic", "Ward.3"));
    }

    #[test]
    fn every_other_form_is_refused() {
        for bad in [
            "",
            "spiffe://",
            "spiffe://sekisho.example",
            "spiffe://sekisho.example/",
            "spiffe:///site/a/device/b",
            "SPIFFE://sekisho.example/site/a/device/b",
            "spiffe://Sekisho.example/site/a/device/b",
            "spiffe://sekisho.example./site/a/device/b",
            "spiffe://sekisho.example:443/site/a/device/b",
            "spiffe://sekisho.example:/site/a/device/b",
            "spiffe://u@sekisho.example/site/a/device/b",
            "spiffe://sekisho.example.evil/site/a/device/b",
            "spiffe://evil/site/a/device/b",
            "https://sekisho.example/site/a/device/b",
            "spiffe:/sekisho.example/site/a/device/b",
            "spiffe://sekisho.example//site/a/device/b",
            "spiffe://sekisho.example/site/a/device/b/",
            "spiffe://sekisho.example/site/a/device/b/c",
            "spiffe://sekisho.example/site/a/device/",
            "spiffe://sekisho.example/site//device/b",
            "spiffe://sekisho.example/site/a/device/..",
            "spiffe://sekisho.example/site/./device/b",
            "spiffe://sekisho.example/Site/a/device/b",
            "spiffe://sekisho.example/device/b/site/a",
            "spiffe://sekisho.example/site/a/device/b?x",
            "spiffe://sekisho.example/site/a/device/b#x",
            "spiffe://sekisho.example/site/a/device/%62",
            "spiffe://sekisho.example/site/a/device/*",
            "spiffe://sekisho.example/site/a/device/b\0.evil",
            "spiffe://sekisho.example/site/a/device/b\n",
            " spiffe://sekisho.example/site/a/device/b",
            "spiffe://sekisho.example/site/a/device/桜",
        ] {
            assert!(domain().device(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let long = format!("spiffe://sekisho.example/site/a/device/{}", "b".repeat(MAX_ID_LENGTH));
        assert!(matches!(domain().device(long.as_bytes()), Err(SpiffeError::TooLong { .. })));
        assert!(domain().device(b"spiffe://sekisho.example/site/a/device/\xff").is_err());
    }

    #[test]
    fn messages_are_safe_on_a_terminal() {
        let error = domain().device(b"spiffe://x/\x1b[2J").unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(site in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", device in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}") {
            let id = DeviceId { site: SiteName::new(&site).unwrap(), device: DeviceName::new(&device).unwrap() };
            prop_assert_eq!(domain().device(domain().id_of(&id).as_bytes()).unwrap(), id);
        }

        /// Reading is injective: what is read is written back as the very same bytes.
        #[test]
        fn two_texts_never_mean_one_device(
            prefix in "spiffe://(sekisho\\.example|[a-z.:@]{0,8})",
            path in "[/a-zA-Z0-9.%?#_-]{0,4}(/site/[a-z./%]{0,4}/device/[a-z./%?#\\x00]{0,4}){0,1}"
        ) {
            let text = format!("{prefix}{path}");
            if let Ok(id) = domain().device(text.as_bytes()) {
                prop_assert_eq!(domain().id_of(&id), text);
            }
        }

        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(id) = domain().device(&bytes) {
                prop_assert_eq!(domain().id_of(&id).into_bytes(), bytes);
            }
        }
    }
}
