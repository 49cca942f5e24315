//! One-time codes: 100 random bits in letters that nobody confuses (Crockford's base 32), known by their hash alone.

use super::{CaError, random};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LETTERS: usize = 20;
const GROUP: usize = 5;

/// Draws a code, such as `7ZKQ4-01MNV-PX8RC-GT52H`.
///
/// # Errors
/// [`CaError::Random`].
pub fn draw() -> Result<String, CaError> {
    let bytes = random::<LETTERS>()?;
    let mut code = String::with_capacity(LETTERS + LETTERS / GROUP);
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 && index % GROUP == 0 {
            code.push('-');
        }
        // 256 is a multiple of 32: every letter is as likely.
        let letter = ALPHABET.get(usize::from(byte % 32)).copied().unwrap_or(b'0');
        code.push(char::from(letter));
    }
    Ok(code)
}

/// What is kept of a code: SHA-256 of its letters, hexadecimal. A hash made for passwords would add nothing to 100 random
/// bits. How a person wrote it, with or without dashes, in capitals or not, does not count.
#[must_use]
pub fn hash(code: &str) -> String {
    let letters: String = code
        .chars()
        .filter(|letter| !matches!(letter, '-' | ' '))
        .map(|letter| match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect();
    certs::hex(&certs::fingerprint(letters.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_write_it() {
        let code = draw().unwrap();
        assert_eq!(code.len(), LETTERS + 3);
        assert_ne!(code, draw().unwrap());
        assert_eq!(hash(&code), hash(&code.to_lowercase().replace('-', " ")));
        assert_eq!(hash("0O1IL"), hash("00111"));
        assert_ne!(hash(&code), hash(&format!("{code}0")));
    }
}
