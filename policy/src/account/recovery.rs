//! Recovery codes: for whom the authenticator is lost. Each counts once, and is known by its hash alone.

use std::fmt;

use sha2_11::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Codes of a set.
pub const CODES: usize = 10;
/// Random bytes of a code: 80 bits, which no hash made for passwords would make safer.
pub const CODE_BYTES: usize = 10;

/// Letters of base 32 that nobody confuses (Crockford).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// What is kept of a code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CodeHash(pub [u8; 32]);

impl fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeHash(…)")
    }
}

/// A code of these random bytes, as it is shown: `4 groups of 4 letters`.
#[must_use]
pub fn code(random: &[u8; CODE_BYTES]) -> Zeroizing<String> {
    let mut bits = 0_u128;
    for byte in random {
        bits = bits << 8 | u128::from(*byte);
    }
    let mut text = Zeroizing::new(String::with_capacity(19));
    for letter in 0..16_u32 {
        if letter > 0 && letter % 4 == 0 {
            text.push('-');
        }
        let five = usize::try_from(bits >> (75 - 5 * letter) & 0x1f).unwrap_or_default();
        text.push(ALPHABET.get(five).map_or('0', |byte| char::from(*byte)));
    }
    text
}

/// The hash of a code of an account, however a person writes it: case, width, dashes and blanks do not count. `account` is part
/// of it, so that equal hashes say nothing.
#[must_use]
pub fn hash(account: &str, text: &str) -> Option<CodeHash> {
    use unicode_normalization::UnicodeNormalization as _;
    if text.len() > 128 {
        return None;
    }
    let mut letters = Zeroizing::new(String::with_capacity(16));
    for letter in text.nfkc().filter(|c| !matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}') && !c.is_whitespace())
    {
        letters.push(match letter.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        });
    }
    let is_code = letters.len() == 16 && letters.bytes().all(|byte| ALPHABET.contains(&byte));
    if !is_code {
        return None;
    }
    let hash = Sha256::new_with_prefix((account.len() as u64).to_be_bytes());
    Some(CodeHash(hash.chain_update(account).chain_update(letters.as_bytes()).finalize().into()))
}

/// Which of the hashes the code has. All are looked at.
#[must_use]
pub fn find(hashes: &[CodeHash], wanted: &CodeHash) -> Option<CodeHash> {
    let mut found = None;
    for hash in hashes {
        if bool::from(hash.0.ct_eq(&wanted.0)) {
            found = Some(*hash);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_code_is_found_however_it_is_written(random in any::<[u8; CODE_BYTES]>(), other in any::<[u8; CODE_BYTES]>()) {
            let text = code(&random);
            prop_assert_eq!(text.len(), 19);
            let kept = hash("tanaka", &text).unwrap();
            let wide: String = text.chars().map(|c| if c == '-' { '－' } else { char::from_u32(c as u32 + 0xfee0).unwrap() }).collect();
            for spelling in [text.to_uppercase(), text.replace('-', " "), text.replace('-', ""), wide] {
                prop_assert_eq!(hash("tanaka", &spelling), Some(kept));
            }
            prop_assert_ne!(hash("suzuki", &text), Some(kept));
            let another = hash("tanaka", &code(&other)).unwrap();
            prop_assert_eq!(another == kept, random == other);
            prop_assert_eq!(find(&[another, kept], &kept), Some(kept));
            prop_assert_eq!(find(&[], &kept), None);
        }

        #[test]
        fn what_is_no_code_has_no_hash(text in "\\PC{0,15}") {
            prop_assert_eq!(hash("a", &text), None);
        }
    }

    #[test]
    fn letters_that_look_alike_are_one() {
        assert_eq!(hash("a", "O0Il-1111-2222-3333"), hash("a", "0011-1111-2222-3333"));
        assert_eq!(hash("a", "uuuu-uuuu-uuuu-uuuu"), None);
        assert_eq!(hash("a", &"0".repeat(200)), None);
    }
}
