//! Forms of the gateway's own pages, and where a browser may be sent after them.

use std::borrow::Cow;
use std::collections::HashMap;

use zeroize::Zeroize as _;

use crate::Refusal;
use crate::target::form_pairs;

/// Most fields of a form.
const MAX_FIELDS: usize = 16;
/// The longest target that a browser is sent back to, in bytes.
const MAX_RETURN: usize = 2_048;

/// The fields of a form, each of them there once.
pub struct Form<'a>(HashMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> Form<'a> {
    /// Reads `application/x-www-form-urlencoded` with these fields and no others.
    ///
    /// # Errors
    /// [`Refusal::LoginAmbiguous`] if a field comes twice, or one that is not known; [`Refusal::LoginEncoding`] if it is not
    /// UTF-8; [`Refusal::LoginMalformed`] if it cannot be read.
    pub fn read(bytes: &'a [u8], known: &[&str]) -> Result<Self, Refusal> {
        let mut fields = HashMap::new();
        let is_whole = |rest: &[u8]| rest.iter().take(2).filter(|byte| byte.is_ascii_hexdigit()).count() == 2;
        if !bytes.split(|byte| *byte == b'%').skip(1).all(is_whole) || bytes.iter().any(u8::is_ascii_control) {
            return Err(Refusal::LoginMalformed);
        }
        for (name, value) in form_pairs(bytes) {
            if fields.len() >= MAX_FIELDS {
                return Err(Refusal::LoginMalformed);
            }
            if [&name, &value].iter().any(|text| text.contains('\u{fffd}')) {
                return Err(Refusal::LoginEncoding);
            }
            if !known.contains(&&*name) || fields.insert(name, value).is_some() {
                return Err(Refusal::LoginAmbiguous);
            }
        }
        Ok(Self(fields))
    }

    /// A field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| &**value)
    }
}

/// Passwords are in it.
impl Drop for Form<'_> {
    fn drop(&mut self) {
        for value in self.0.values_mut() {
            if let Cow::Owned(text) = value {
                text.zeroize();
            }
        }
    }
}

/// The target that a browser may be sent to: a path of this very host. What a browser could take for another host is none:
/// `//host`, `/\host`, and whatever it drops before it looks (tabs, line breaks).
#[must_use]
pub fn local_target(text: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    let is_local = text.len() <= MAX_RETURN
        && text.starts_with('/')
        && !text.starts_with("//")
        && text.bytes().all(is_plain)
        && !text.contains('#');
    is_local.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_field_comes_once_or_the_form_is_refused() {
        let known = ["a", "b"];
        let read =
            |text: &'static str| Form::read(text.as_bytes(), &known).map(|form| form.get("a").map(str::to_owned));
        assert_eq!(read("a=1&b=2").ok().flatten().as_deref(), Some("1"));
        assert_eq!(read("a=%EF%BC%91+x").ok().flatten().as_deref(), Some("１ x"));
        assert!(read("").is_ok_and(|a| a.is_none()));
        for (bad, refusal) in [
            ("a=1&a=1", Refusal::LoginAmbiguous),
            ("a=1&%61=2", Refusal::LoginAmbiguous),
            ("a=1&A=2", Refusal::LoginAmbiguous),
            ("a[]=1", Refusal::LoginAmbiguous),
            ("a=1;b=2&c=3", Refusal::LoginAmbiguous),
            ("a=%ff", Refusal::LoginEncoding),
            ("a=%4", Refusal::LoginMalformed),
            ("a=%zz", Refusal::LoginMalformed),
            ("a=1\n", Refusal::LoginMalformed),
        ] {
            assert_eq!(read(bad).err(), Some(refusal), "{bad:?}");
        }
    }

    #[test]
    fn a_browser_is_sent_nowhere_else() {
        for good in ["/", "/fhir/Patient?name=a&b=%20", "/a//b", "/a:b@c"] {
            assert_eq!(local_target(good), Some(good));
        }
        for bad in [
            "",
            "a",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil",
            "https://evil.example",
            "/\t/evil.example",
            "/\n/evil",
            " /a",
            "/a b",
            "/é",
            "javascript:alert(1)",
            "/a#b",
            "/\u{0}",
            "/%0d\\",
        ] {
            assert_eq!(local_target(bad), None, "{bad:?}");
        }
        assert_eq!(local_target(&format!("/{}", "a".repeat(MAX_RETURN))), None);
    }

    proptest! {
        #[test]
        fn a_local_target_names_no_host(text in "[/\\\\a-z:.@%0-9\t\n?#]{0,12}") {
            if let Some(target) = local_target(&text) {
                prop_assert!(target.starts_with('/') && !target.starts_with("//") && !target.contains('\\'));
                prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
