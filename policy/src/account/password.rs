//! A password in its one spelling.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

/// The longest password, in bytes of UTF-8, as it is typed and in its one spelling. A bound on work, not on strength: RFC 8265
/// asks for none, and 64 characters (NIST SP 800-63B 3.1.1.2) fit in any script.
pub const MAX_PASSWORD_BYTES: usize = 512;

/// A password in its one spelling: NFKC, so that what a Japanese input method sends in full width is what was meant (RFC
/// 8265 section 4.2 takes NFC, which tells the two apart). Case and blanks count.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

/// Why a text cannot be a password at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password has 1 to {MAX_PASSWORD_BYTES} bytes without control characters")]
pub struct Unfit;

/// Why a password may not be set. Ordered as they are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Weakness {
    /// It has fewer characters than the profile asks for.
    #[error("the password has fewer than {0} characters")]
    Short(usize),
    /// It has not letters, digits and others.
    #[error("the password must have letters, digits and other characters")]
    OneKind,
    /// It holds the account's name, or is of the person's or the clinic's.
    #[error("the password holds the name of the account, the user or the site")]
    Name,
    /// It is among those that are tried first.
    #[error("the password is among those that are guessed first")]
    Common,
    /// It is one of the account's last ones.
    #[error("the password was in use before")]
    Reused,
}

impl Weakness {
    /// The name in answers and messages.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Short(_) => "short",
            Self::OneKind => "one-kind",
            Self::Name => "name",
            Self::Common => "common",
            Self::Reused => "reused",
        }
    }
}

impl Password {
    /// The password that `text` spells.
    ///
    /// # Errors
    /// [`Unfit`] if the text, or its one spelling, is empty, longer than [`MAX_PASSWORD_BYTES`] or has control characters.
    pub fn new(text: &str) -> Result<Self, Unfit> {
        if !fits(text) {
            return Err(Unfit);
        }
        let spelt: Zeroizing<String> = Zeroizing::new(text.nfkc().collect());
        if fits(&spelt) { Ok(Self(spelt)) } else { Err(Unfit) }
    }

    /// Its one spelling, for hashing.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its length in characters (Unicode scalar values), as profiles count it.
    #[must_use]
    pub fn characters(&self) -> usize {
        self.0.chars().count()
    }

    /// Whether it has letters, digits and others.
    #[must_use]
    pub fn mixes_kinds(&self) -> bool {
        let has = |is: fn(char) -> bool| self.0.chars().any(is);
        has(char::is_alphabetic) && has(char::is_numeric) && has(|c| !c.is_alphanumeric())
    }

    /// Whether it holds `name`, forwards or backwards, whatever the case. Names of fewer than three characters are in too many
    /// words to say anything.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        let fold = |text: &str| text.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
        let name: String = fold(name);
        if name.chars().count() < 3 {
            return false;
        }
        let password: Zeroizing<String> = Zeroizing::new(fold(&self.0));
        let backwards: String = name.chars().rev().collect();
        password.contains(&name) || password.contains(&backwards)
    }
}

fn fits(text: &str) -> bool {
    (1..=MAX_PASSWORD_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Never the password.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn width_does_not_tell_passwords_apart_and_case_does() {
        assert_eq!(Password::new("ｐａｓｓ　１").unwrap(), Password::new("pass 1").unwrap());
        assert_eq!(Password::new("か\u{3099}").unwrap(), Password::new("が").unwrap());
        assert_ne!(Password::new("Pass").unwrap(), Password::new("pass").unwrap());
        assert!(!format!("{:?}", Password::new("secret").unwrap()).contains("secret"));
    }

    #[test]
    fn what_cannot_be_typed_is_no_password() {
        let long = "a".repeat(MAX_PASSWORD_BYTES + 1);
        let grows = "\u{fdfa}".repeat(80);
        for bad in ["", "a\nb", "a\0", "\u{7f}", &long, &grows] {
            assert_eq!(Password::new(bad), Err(Unfit), "{bad:?}");
        }
        assert!(Password::new(&"a".repeat(MAX_PASSWORD_BYTES)).is_ok());
    }

    #[test]
    fn a_name_is_found_in_a_password() {
        let holds = |password: &str, name: &str| Password::new(password).unwrap().holds(name);
        assert!(holds("xTaNaKa!1", "tanaka") && holds("ＴＡＮＡＫＡ", "tanaka") && holds("1akanat", "Tanaka"));
        assert!(!holds("horse", "tanaka") && !holds("ab", "ab") && !holds("abc", ""));
    }

    proptest! {
        #[test]
        fn the_one_spelling_is_its_own(text in "\\PC{1,40}") {
            if let Ok(password) = Password::new(&text) {
                prop_assert_eq!(&Password::new(password.expose()).unwrap(), &password);
            }
        }
    }
}
