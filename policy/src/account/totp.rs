//! Time-based one-time passwords (RFC 6238): six or eight digits of HMAC (RFC 4226) over the number of a time step.

use std::fmt;

use hmac::Hmac;
use sha1::Sha1;
use sha2_11::Sha256;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

/// Seconds of a time step, RFC 6238 section 5.2.
pub const STEP_S: u64 = 30;
/// Digits of a code: what every authenticator shows.
pub const DIGITS: u32 = 6;
/// Bytes of a new secret: as long as SHA-256's output, RFC 4226 section 4 R6.
pub const SECRET_BYTES: usize = 32;

/// The hash of the HMAC. Many authenticators know SHA-1 alone, whose weakness to collisions is none here (RFC 6194 section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC-SHA-1.
    Sha1,
    /// HMAC-SHA-256.
    Sha256,
}

impl Algorithm {
    /// The name in `otpauth` URIs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }
}

/// The algorithm of that name.
impl std::str::FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        [Self::Sha1, Self::Sha256].into_iter().find(|one| one.label() == text).ok_or(UnknownAlgorithm)
    }
}

/// A name of no algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an algorithm is `SHA1` or `SHA256`")]
pub struct UnknownAlgorithm;

/// What an authenticator and the gateway share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    bytes: Zeroizing<Vec<u8>>,
    algorithm: Algorithm,
}

impl Secret {
    /// A secret of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8], algorithm: Algorithm) -> Self {
        Self { bytes: Zeroizing::new(bytes.to_vec()), algorithm }
    }

    /// Its bytes, for sealing.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// Its hash.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The code of a step.
    #[must_use]
    pub fn code(&self, step: u64) -> u32 {
        self.truncated(step) % 10_u32.pow(DIGITS)
    }

    /// RFC 4226 section 5.3, before the remainder is taken.
    fn truncated(&self, step: u64) -> u32 {
        let message = step.to_be_bytes();
        match self.algorithm {
            Algorithm::Sha1 => dynamic(&mac::<Hmac<Sha1>>(&self.bytes, &message)),
            Algorithm::Sha256 => dynamic(&mac::<Hmac<Sha256>>(&self.bytes, &message)),
        }
    }

    /// The step whose code `text` is, within `window` steps of `now_s`, which none has been accepted of before: it is later than
    /// `last`. Whoever calls must remember it as the last one, so that no code is ever accepted twice (RFC 6238 section 5.2).
    /// How long it takes says nothing of where the codes differ.
    #[must_use]
    pub fn verify(&self, text: &str, now_s: u64, window: u64, last: Option<u64>) -> Option<u64> {
        let code = read(text)?;
        let now = now_s / STEP_S;
        let mut found = 0_u64;
        let mut is_found = Choice::from(0);
        for step in now.saturating_sub(window)..=now.saturating_add(window) {
            let is_new = Choice::from(u8::from(last.is_none_or(|last| step > last)));
            let fits = self.code(step).ct_eq(&code) & is_new & !is_found;
            found.conditional_assign(&step, fits);
            is_found |= fits;
        }
        bool::from(is_found).then_some(found)
    }

    /// The URI that authenticators read from a QR code (Google Authenticator's Key URI Format). `issuer` and `account` are for
    /// people.
    #[must_use]
    pub fn uri(&self, issuer: &str, account: &str) -> String {
        let (issuer, account) = (percent(issuer), percent(account));
        let (secret, algorithm) = (self.base32(), self.algorithm.label());
        format!(
            "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm={algorithm}&digits={DIGITS}&period={STEP_S}",
            *secret
        )
    }

    /// The secret as people type it: base 32 (RFC 4648 section 6) without padding.
    #[must_use]
    pub fn base32(&self) -> Zeroizing<String> {
        Zeroizing::new(base32(&self.bytes))
    }
}

/// Never the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Six digits, in any width, with blanks between them as people write them.
fn read(text: &str) -> Option<u32> {
    use unicode_normalization::UnicodeNormalization as _;
    if text.len() > 64 {
        return None;
    }
    let digits: String = text.nfkc().filter(|c| !c.is_whitespace()).collect();
    let is_code = digits.len() == DIGITS as usize && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_code { digits.parse().ok() } else { None }
}

fn mac<M: hmac::Mac + hmac::KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    // INVARIANT: HMAC takes a key of any length; no output at all is no code.
    let Ok(mut mac) = <M as hmac::KeyInit>::new_from_slice(key) else { return Vec::new() };
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn dynamic(mac: &[u8]) -> u32 {
    let offset = usize::from(mac.last().copied().unwrap_or_default() & 0xf);
    let four = mac.get(offset..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
    u32::from_be_bytes(four) & 0x7fff_ffff
}

/// RFC 4648 section 6, without padding.
pub(super) fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    for chunk in bytes.chunks(5) {
        let mut group = [0_u8; 8];
        for (place, byte) in group.iter_mut().skip(3).zip(chunk) {
            *place = *byte;
        }
        let bits = u64::from_be_bytes(group);
        let letters = (chunk.len() * 8).div_ceil(5);
        for letter in 0..letters {
            let five = (bits >> (35 - 5 * letter)) & 0x1f;
            text.push(
                usize::try_from(five).ok().and_then(|five| ALPHABET.get(five)).map_or('A', |byte| char::from(*byte)),
            );
        }
    }
    text
}

fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 6238 appendix B: eight digits.
    #[test]
    fn the_vectors_of_rfc_6238_hold() {
        let sha1 = Secret::new(b"12345678901234567890", Algorithm::Sha1);
        let sha256 = Secret::new(b"12345678901234567890123456789012", Algorithm::Sha256);
        for (time, first, second) in [
            (59, 94_287_082, 46_119_246),
            (1_111_111_109, 7_081_804, 68_084_774),
            (1_111_111_111, 14_050_471, 67_062_674),
            (1_234_567_890, 89_005_924, 91_819_424),
            (2_000_000_000, 69_279_037, 90_698_825),
            (20_000_000_000, 65_353_130, 77_737_706),
        ] {
            let eight = |secret: &Secret| secret.truncated(time / STEP_S) % 100_000_000;
            assert_eq!((eight(&sha1), eight(&sha256)), (first, second), "{time}");
            assert_eq!(sha1.code(time / STEP_S), first % 1_000_000);
        }
    }

    /// RFC 4226 appendix D.
    #[test]
    fn the_vectors_of_rfc_4226_hold() {
        let secret = Secret::new(b"12345678901234567890", Algorithm::Sha1);
        let codes = [755_224, 287_082, 359_152, 969_429, 338_314, 254_676, 287_922, 162_583, 399_871, 520_489];
        for (step, code) in codes.into_iter().enumerate() {
            assert_eq!(secret.code(step as u64), code);
        }
    }

    #[test]
    fn a_code_is_read_as_people_write_it_and_no_other() {
        assert_eq!(read("123 456"), Some(123_456));
        assert_eq!(read("０１２３４５"), Some(12_345));
        for bad in ["", "12345", "1234567", "+12345", "12345a", "１２３４５", "-12345", &"1".repeat(65)] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    /// RFC 4648 section 10.
    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        let uri = Secret::new(b"foobar", Algorithm::Sha256).uri("Sekisho さ", "s/u");
        assert_eq!(
            uri,
            "otpauth://totp/Sekisho%20%E3%81%95:s%2Fu?secret=MZXW6YTBOI&issuer=Sekisho%20%E3%81%95&algorithm=SHA256&digits=6&period=30"
        );
        assert!(!format!("{:?}", Secret::new(b"foobar", Algorithm::Sha1)).contains("102"));
    }

    proptest! {
        /// Whatever codes come in whatever order: none is accepted twice, and none from outside the window.
        #[test]
        fn no_code_is_accepted_twice(
            seed in any::<[u8; 20]>(),
            times in proptest::collection::vec((1_000_u64..1_400, 0_i64..7), 1..40),
            window in 0_u64..3,
        ) {
            let secret = Secret::new(&seed, Algorithm::Sha1);
            let mut last = None;
            let mut accepted = Vec::new();
            for (now_s, off) in times {
                let step = (now_s / STEP_S).saturating_add_signed(off - 3);
                let text = format!("{:06}", secret.code(step));
                if let Some(found) = secret.verify(&text, now_s, window, last) {
                    prop_assert!(found.abs_diff(now_s / STEP_S) <= window);
                    prop_assert_eq!(secret.code(found), secret.code(step));
                    prop_assert!(!accepted.contains(&found) && last.is_none_or(|last| found > last));
                    accepted.push(found);
                    last = Some(found);
                } else {
                    let inside = step.abs_diff(now_s / STEP_S) <= window;
                    prop_assert!(!inside || last.is_some_and(|last| step <= last));
                }
            }
        }
    }
}
