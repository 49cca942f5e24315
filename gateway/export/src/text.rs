//! Text that nobody obeys: XML, terminals, eyes.
//!
//! A character that controls, hides or reorders others is written as in a JSON string (`\u001b`, `\n`; supplementary ones
//! as a surrogate pair), the backslash as two, and a space that XML would drop (at either end, or behind another) as
//! `\u0020`. Bytes that are not UTF-8 are `\base64:` and their digits. So every text has one form and can be had back.

use std::fmt::Write as _;

use serde_json::Value;

/// What begins bytes that are not text.
pub const BASE64: &str = r"\base64:";

/// The form of a text.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut after_space = true;
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.push_str(r"\\"),
            '\n' => out.push_str(r"\n"),
            '\r' => out.push_str(r"\r"),
            '\t' => out.push_str(r"\t"),
            ' ' if after_space || characters.peek().is_none() => out.push_str(r"\u0020"),
            character if is_obeyed(character) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            character => out.push(character),
        }
        after_space = character == ' ';
    }
    out
}

/// A value of a record as text: strings and bytes in their form, anything else as JSON; none for null.
#[must_use]
pub fn of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(shown(text)),
        Value::Object(object) => match bytes_of(object) {
            Some(digits) => Some(format!("{BASE64}{digits}")),
            None => Some(shown(&value.to_string())),
        },
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) => Some(shown(&value.to_string())),
    }
}

/// The digits of bytes that are not UTF-8, as records write them.
pub(crate) fn bytes_of(object: &serde_json::Map<String, Value>) -> Option<&str> {
    object.get("base64").filter(|_| object.len() == 1).and_then(Value::as_str)
}

/// Controls, bidirectional and invisible formatting, and what XML 1.0 (2.2) has no place for.
const fn is_obeyed(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text of a form.
    pub(crate) fn back(form: &str) -> String {
        // What is not JSON's own escape here is a plain character there.
        let json = format!("\"{}\"", form.replace('"', "\\\""));
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn what_is_obeyed_is_escaped() {
        assert_eq!(shown("a\r\n\t\u{1b}[2J\\\0"), r"a\r\n\t\u001b[2J\\\u0000");
        assert_eq!(shown("\u{202e}\u{85}\u{e0041}\u{ffff}"), r"\u202e\u0085\udb40\udc41\uffff");
        assert_eq!(shown(" a  b "), r"\u0020a \u0020b\u0020");
        assert_eq!(shown("桜クリニック €"), "桜クリニック €");
        assert_eq!(of(&serde_json::json!({"base64": "/w=="})).unwrap(), r"\base64:/w==");
        assert_eq!(shown(r"\base64:/w=="), r"\\base64:/w==", "no text can be mistaken for bytes");
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in any::<String>()) {
            let form = shown(&text);
            prop_assert!(!form.chars().any(is_obeyed));
            prop_assert_eq!(form.split(' ').filter(|word| word.is_empty()).count(), usize::from(text.is_empty()));
            prop_assert_eq!(back(&form), text);
        }
    }
}
