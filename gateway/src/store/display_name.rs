//! Names for people, in any script.

use std::fmt;
use std::str::FromStr;

/// The longest display name, in characters.
pub const MAX_DISPLAY_NAME_CHARS: usize = 200;

/// What people call an entry: any script, at most [`MAX_DISPLAY_NAME_CHARS`] characters, no control character and no
/// line or paragraph separator. Empty where none was given. Never part of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct DisplayName(String);

/// Why a text is not a display name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDisplayName {
    /// It is longer than [`MAX_DISPLAY_NAME_CHARS`].
    #[error("a display name has at most {MAX_DISPLAY_NAME_CHARS} characters, this has {0}")]
    TooLong(usize),
    /// It holds a character that steers a terminal or breaks a line.
    #[error("a display name has no control character, this has `{}`", .0.escape_unicode())]
    Control(char),
}

impl DisplayName {
    /// Checks the text and takes it.
    ///
    /// # Errors
    /// [`InvalidDisplayName`] if it is too long or holds a control character.
    pub fn new(text: &str) -> Result<Self, InvalidDisplayName> {
        let length = text.chars().count();
        if length > MAX_DISPLAY_NAME_CHARS {
            return Err(InvalidDisplayName::TooLong(length));
        }
        match text.chars().find(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
            Some(control) => Err(InvalidDisplayName::Control(control)),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The name as text. May hold characters that reorder text: escape it for a terminal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DisplayName {
    type Err = InvalidDisplayName;
    fn from_str(text: &str) -> Result<Self, InvalidDisplayName> {
        Self::new(text)
    }
}

impl<'de> serde::Deserialize<'de> for DisplayName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_script_but_no_control_character() {
        for good in ["", "さくら診療所", "Klinik Süd 3", "مستشفى", "é".repeat(200).as_str()] {
            assert_eq!(DisplayName::new(good).unwrap().as_str(), good);
        }
        for bad in ["a\nb", "\u{1b}[2J", "\u{7f}", "\u{85}", "\u{2028}", "a".repeat(201).as_str()] {
            assert!(DisplayName::new(bad).is_err(), "{bad:?}");
        }
        assert!(!DisplayName::new("\u{1b}").unwrap_err().to_string().contains('\u{1b}'));
    }
}
