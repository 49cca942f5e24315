//! What each form of the login page carries, so that a page of somebody else's cannot send it: a time, and an HMAC (RFC 2104) over it
//! and the device, under a key of this process alone.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use policy::login::Origin;

use super::{AccountError, random};

/// How long a form may lie open, nanoseconds.
const LIFETIME_NS: u64 = 3_600 * 1_000_000_000;

/// Makes and knows them.
pub struct Tokens(hmac::Key);

impl Tokens {
    /// With a key that nobody else has.
    ///
    /// # Errors
    /// [`AccountError::Random`].
    pub fn new() -> Result<Self, AccountError> {
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?)))
    }

    /// One for a form that is shown to this device.
    #[must_use]
    pub fn make(&self, now_ns: u64, origin: &Origin) -> String {
        let tag = hmac::sign(&self.0, &message(now_ns, origin));
        URL_SAFE_NO_PAD.encode([&now_ns.to_be_bytes()[..], tag.as_ref()].concat())
    }

    /// Whether the token is one that was made for this device within the hour.
    #[must_use]
    pub fn knows(&self, now_ns: u64, origin: &Origin, token: &str) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(token) else { return false };
        let Some((made, tag)) = bytes.split_first_chunk::<8>() else { return false };
        let made_ns = u64::from_be_bytes(*made);
        let is_ours = hmac::verify(&self.0, &message(made_ns, origin), tag).is_ok();
        is_ours && made_ns <= now_ns && now_ns - made_ns < LIFETIME_NS
    }
}

/// The parts, each with its length before it.
fn message(made_ns: u64, origin: &Origin) -> Vec<u8> {
    let mut message = b"sekisho form".to_vec();
    message.extend(made_ns.to_be_bytes());
    for part in [&origin.site, &origin.device] {
        message.extend((part.len() as u64).to_be_bytes());
        message.extend(part.as_bytes());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_devices_for_an_hour() {
        let tokens = Tokens::new().unwrap();
        let origin = |device: &str| Origin { site: "s".into(), device: device.into() };
        let token = tokens.make(7, &origin("d"));
        assert!(tokens.knows(7, &origin("d"), &token) && tokens.knows(LIFETIME_NS, &origin("d"), &token));
        assert!(!tokens.knows(LIFETIME_NS + 7, &origin("d"), &token), "it is too old");
        assert!(!tokens.knows(6, &origin("d"), &token), "it is of the future");
        assert!(!tokens.knows(7, &origin("e"), &token));
        assert!(!Tokens::new().unwrap().knows(7, &origin("d"), &token));
        for bad in ["", "x", "AAAA", token.trim_start_matches('A'), &format!("{token}A")] {
            assert!(!tokens.knows(7, &origin("d"), bad), "{bad}");
        }
    }
}
