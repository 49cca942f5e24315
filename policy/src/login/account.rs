//! The one spelling of an account's name, whatever way it was written (C14).
//!
//! Backends compare names in ways of their own: by bytes, without regard to case, by a collation that knows no accents, with
//! blanks cut off. Whoever finds a second spelling of one account has a second set of guesses. So the guard counts under the
//! widest of these, as the route says. Two accounts that fall together share their failures, which costs one of them a wait;
//! two spellings that do not would cost the account.

use std::fmt;
use std::sync::Arc;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// The longest name, in bytes, as it is sent and in its one spelling.
pub const MAX_ACCOUNT_LENGTH: usize = 256;

/// Which spellings are one account. All are NFKC, without what is invisible (`Default_Ignorable_Code_Point`), and without
/// blanks and full stops at their ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spelling {
    /// `Tanaka` is `tanaka`.
    pub folds_case: bool,
    /// `Renée` is `renee`, and `が` is `か`: combining marks do not count.
    pub ignores_marks: bool,
    /// `tanaka+x@clinic.example` is `tanaka@clinic.example`, and `tanaka+x` is `tanaka`.
    pub ignores_tags: bool,
}

impl Default for Spelling {
    /// The widest.
    fn default() -> Self {
        Self { folds_case: true, ignores_marks: true, ignores_tags: true }
    }
}

/// An account of a realm, in its one spelling. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountName(Arc<str>);

/// Why a text names no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an account has a name of 1 to {MAX_ACCOUNT_LENGTH} bytes, without control characters")]
pub struct InvalidAccount;

impl AccountName {
    /// The account that `text` names.
    ///
    /// # Errors
    /// [`InvalidAccount`] if the text, or what is left of it in its one spelling, is empty or longer than
    /// [`MAX_ACCOUNT_LENGTH`], or has control characters.
    pub fn new(text: &str, spelling: Spelling) -> Result<Self, InvalidAccount> {
        if text.len() > MAX_ACCOUNT_LENGTH || text.chars().any(char::is_control) {
            return Err(InvalidAccount);
        }
        let mut name = text.to_owned();
        // A step may uncover what an earlier one would have changed, as a fold uncovers marks; the last round changes nothing.
        for _ in 0..4 {
            let next = round(&name, spelling);
            if next == name {
                break;
            }
            name = next;
        }
        if name.is_empty() || name.len() > MAX_ACCOUNT_LENGTH || name.chars().any(char::is_control) {
            return Err(InvalidAccount);
        }
        Ok(Self(name.into()))
    }

    /// A name that is in its one spelling already, as a store gives it back.
    ///
    /// # Errors
    /// [`InvalidAccount`] if it cannot be one.
    pub fn restored(text: &str) -> Result<Self, InvalidAccount> {
        let is_name = (1..=MAX_ACCOUNT_LENGTH).contains(&text.len()) && !text.chars().any(char::is_control);
        if is_name { Ok(Self(text.into())) } else { Err(InvalidAccount) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn round(text: &str, spelling: Spelling) -> String {
    let mut name: String = text.chars().filter(|c| !is_ignorable(*c)).nfkc().collect();
    if spelling.folds_case {
        // Up and down again meets what one of the two alone leaves apart: `ß` and `SS`, `ς` and `σ`, `ı` and `i`. By
        // character, as no place in a word may change the outcome.
        name = name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect();
    }
    if spelling.ignores_marks {
        name = name.nfkd().filter(|c| !is_combining_mark(*c)).nfkc().collect();
    }
    let mut name: String = name.split_whitespace().collect::<Vec<_>>().join(" ");
    if spelling.ignores_tags {
        let (local, domain) =
            name.rsplit_once('@').map_or((name.as_str(), None), |(local, domain)| (local, Some(domain)));
        // A name that begins with `+`, such as a telephone number, is all tag: it stays.
        if let Some((before, _)) = local.split_once('+').filter(|(before, _)| !before.is_empty()) {
            name = domain.map_or_else(|| before.to_owned(), |domain| format!("{before}@{domain}"));
        }
    }
    name.trim_matches(|c: char| c == '.' || c.is_whitespace()).to_owned()
}

/// `Default_Ignorable_Code_Point` (Unicode `DerivedCoreProperties.txt`): zero-width characters, joiners, direction marks,
/// variation selectors, fillers, tags.
const fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Never the name: what is written for developers reaches logs that nobody seals.
impl fmt::Debug for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountName(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> String {
        AccountName::new(text, Spelling::default()).unwrap().as_str().to_owned()
    }

    #[test]
    fn every_spelling_of_c14_is_one_account() {
        for spelling in [
            "tanaka",
            "Tanaka",
            "TANAKA",
            "ｔａｎａｋａ",
            "Ｔａｎａｋａ",
            " tanaka",
            "tanaka ",
            "tanaka.",
            "tanaka\u{3000}",
            "tana\u{200b}ka",
            "tanaka\u{200d}",
            "\u{feff}tanaka",
            "tana\u{ad}ka",
            "tanaka+x",
            "tanáka",
            "tana\u{212a}a",
            "ta\u{202e}naka",
            "tanaka . ",
            "𝓽𝓪𝓷𝓪𝓴𝓪",
            "ⓣⓐⓝⓐⓚⓐ",
            "tanaka\u{fe0f}",
            "\u{e0001}tanaka",
        ] {
            assert_eq!(name(spelling), "tanaka", "{spelling:?}");
        }
        assert_eq!(name("STRASSE"), name("straße"));
        assert_eq!(name("ﾀﾅｶ"), name("タナカ"));
        assert_eq!(name("Tanaka+ward@Clinic.example"), "tanaka@clinic.example");
        assert_eq!(name("+81 3 1234"), "+81 3 1234");
        assert_ne!(name("tanaka"), name("tanaka2"));
        assert_ne!(name("a b"), name("ab"));
    }

    #[test]
    fn what_is_configured_to_differ_differs() {
        let keep = Spelling { folds_case: false, ignores_marks: false, ignores_tags: false };
        let name = |text| AccountName::new(text, keep).unwrap().as_str().to_owned();
        assert_eq!(name("Ｔanaka "), "Tanaka");
        assert_ne!(name("Tanaka"), name("tanaka"));
        assert_ne!(name("かとう"), name("がとう"));
        assert_eq!(name("が"), name("か\u{3099}"));
        assert_ne!(name("a+b"), name("a"));
    }

    #[test]
    fn what_names_nobody_is_refused() {
        let long = "a".repeat(MAX_ACCOUNT_LENGTH + 1);
        // One ligature of NFKC that becomes eighteen letters.
        let grows = "\u{fdfa}".repeat(80);
        for bad in ["", " ", ".", "\u{200b}", "a\nb", "a\0", "\u{85}", &long, &grows] {
            assert!(AccountName::new(bad, Spelling::default()).is_err(), "{bad:?}");
        }
        assert!(AccountName::restored("").is_err() && AccountName::restored("tanaka").is_ok());
        assert!(!format!("{:?}", AccountName::new("tanaka", Spelling::default()).unwrap()).contains("tanaka"));
    }

    proptest! {
        #[test]
        fn the_one_spelling_of_a_name_is_its_own(text in "\\PC{1,24}", folds in any::<bool>(), marks in any::<bool>()) {
            let spelling = Spelling { folds_case: folds, ignores_marks: marks, ignores_tags: true };
            if let Ok(name) = AccountName::new(&text, spelling) {
                prop_assert_eq!(&AccountName::new(name.as_str(), spelling).unwrap(), &name);
            }
        }

        #[test]
        fn case_and_width_never_tell_accounts_apart(text in "[a-z]{1,12}") {
            let wide: String = text.chars().map(|c| char::from_u32(c as u32 - 0x61 + 0xff41).unwrap()).collect();
            prop_assert_eq!(name(&text), name(&wide));
            prop_assert_eq!(name(&text), name(&text.to_uppercase()));
        }
    }
}
