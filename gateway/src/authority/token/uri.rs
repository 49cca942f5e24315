//! PKCS#11 URIs (RFC 7512): which key, on which token, by which module.
//!
//! Whatever would be passed over is refused: an attribute that does not count would name another key than it says.

use std::fmt;
use std::path::{Path, PathBuf};

use super::TokenError;

/// The scheme.
pub const SCHEME: &str = "pkcs11:";

/// The longest URI that is read.
const MAX_BYTES: usize = 4_096;

/// A key on a token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyUri {
    text: String,
    /// The module, an absolute path.
    pub(super) module: PathBuf,
    /// Where the PIN lies; none leaves it to the caller.
    pub(super) pin_file: Option<PathBuf>,
    pub(super) token: Token,
    /// `CKA_LABEL`.
    pub(super) object: Option<String>,
    /// `CKA_ID`.
    pub(super) id: Option<Vec<u8>>,
}

/// What a token is known by.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    pub(super) label: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) manufacturer: Option<String>,
    pub(super) model: Option<String>,
}

impl KeyUri {
    /// Reads a URI.
    ///
    /// # Errors
    /// [`TokenError::Uri`] names the attribute.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let fault = |reason: String| TokenError::Uri { uri: shown(text), reason };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| fault(format!("it does not begin with `{SCHEME}`")))?;
        if text.len() > MAX_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fault("it is too long, or has characters that must be percent-encoded".to_owned()));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parts = Parts::default();
        for (attributes, separator) in [(path, ';'), (query, '&')] {
            for attribute in attributes.split(separator).filter(|attribute| !attribute.is_empty()) {
                let (name, value) =
                    attribute.split_once('=').ok_or_else(|| fault("an attribute has no value".to_owned()))?;
                parts.put(separator == '&', name, value).map_err(fault)?;
            }
        }
        parts.finish(text).map_err(|reason| fault(reason.to_owned()))
    }

    /// Which key, in words.
    pub(super) fn key_name(&self) -> String {
        match (&self.object, &self.id) {
            (Some(object), Some(id)) => format!("`{}` (id {})", object.escape_debug(), certs::hex(id)),
            (Some(object), None) => format!("`{}`", object.escape_debug()),
            (None, id) => format!("with id {}", certs::hex(id.as_deref().unwrap_or_default())),
        }
    }

    /// Which token, in words.
    #[must_use]
    pub fn token_name(&self) -> String {
        match (&self.token.label, &self.token.serial) {
            (Some(label), Some(serial)) => format!("`{}` (serial `{}`)", label.escape_debug(), serial.escape_debug()),
            (Some(label), None) => format!("`{}`", label.escape_debug()),
            (None, serial) => format!("with serial `{}`", serial.as_deref().unwrap_or_default().escape_debug()),
        }
    }

    /// The module.
    #[must_use]
    pub fn module(&self) -> &Path {
        &self.module
    }
}

impl fmt::Display for KeyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text for an error: nothing after a `pin-value`, nor after what may be meant for one.
fn shown(text: &str) -> String {
    let end = text.to_ascii_lowercase().find("pin").unwrap_or(text.len()).min(256);
    text.get(..end).unwrap_or(SCHEME).escape_debug().to_string()
}

#[derive(Default)]
struct Parts {
    seen: Vec<String>,
    module: Option<PathBuf>,
    pin_file: Option<PathBuf>,
    token: Token,
    object: Option<String>,
    id: Option<Vec<u8>>,
}

impl Parts {
    fn put(&mut self, in_query: bool, name: &str, value: &str) -> Result<(), String> {
        if self.seen.iter().any(|seen| seen == name) {
            return Err(format!("`{}` stands twice", name.escape_debug()));
        }
        self.seen.push(name.to_owned());
        let bytes = decoded(value).ok_or_else(|| format!("`{}` is not percent-encoded", name.escape_debug()))?;
        let text = || String::from_utf8(bytes.clone()).map_err(|_| format!("`{}` is not UTF-8", name.escape_debug()));
        match (in_query, name) {
            (false, "token") => self.token.label = Some(text()?),
            (false, "serial") => self.token.serial = Some(text()?),
            (false, "manufacturer") => self.token.manufacturer = Some(text()?),
            (false, "model") => self.token.model = Some(text()?),
            (false, "object") => self.object = Some(text()?),
            (false, "id") => self.id = Some(bytes),
            (false, "type") if bytes == b"private" => {}
            (false, "type") => return Err("`type` must be `private`".to_owned()),
            (true, "module-path") => self.module = Some(absolute(&text()?, "module-path")?),
            (true, "pin-source") => self.pin_file = Some(pin_file(&text()?)?),
            (true, "pin-value") => {
                return Err("`pin-value` is not taken: whoever lists processes or reads files would see the PIN; \
                    use `pin-source=file:…`"
                    .to_owned());
            }
            (_, other) => return Err(format!("the attribute `{}` is not supported", other.escape_debug())),
        }
        Ok(())
    }

    fn finish(self, text: &str) -> Result<KeyUri, &'static str> {
        if self.token.label.is_none() && self.token.serial.is_none() {
            return Err("neither `token` nor `serial` says which token");
        }
        if self.object.as_ref().is_none_or(String::is_empty) && self.id.as_ref().is_none_or(Vec::is_empty) {
            return Err("neither `object` nor `id` says which key");
        }
        let module = self.module.ok_or("`module-path` is missing")?;
        let Self { pin_file, token, object, id, .. } = self;
        Ok(KeyUri { text: text.to_owned(), module, pin_file, token, object, id })
    }
}

fn pin_file(source: &str) -> Result<PathBuf, String> {
    let path = source.strip_prefix("file:").unwrap_or(source);
    // RFC 8089: an empty authority, or none.
    absolute(path.strip_prefix("//").unwrap_or(path), "pin-source")
}

fn absolute(path: &str, name: &str) -> Result<PathBuf, String> {
    if path.starts_with('/') && !path.contains('\0') {
        Ok(PathBuf::from(path))
    } else {
        Err(format!("`{name}` must be an absolute path"))
    }
}

/// RFC 3986 2.1.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            out.push((digit(bytes.next()?)? << 4) | digit(bytes.next()?)?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_uri_names_module_token_and_key() {
        let text = "pkcs11:token=Clinic%20A;object=issuing;id=%01%ff;type=private?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/pin";
        let uri = KeyUri::parse(text).unwrap();
        assert_eq!(uri.to_string(), text);
        assert_eq!(uri.token.label.as_deref(), Some("Clinic A"));
        assert_eq!((uri.object.as_deref(), uri.id.as_deref()), (Some("issuing"), Some(&[1, 255][..])));
        assert_eq!(uri.pin_file.as_deref(), Some(Path::new("/etc/pin")));
        assert_eq!((uri.token_name(), uri.key_name()), ("`Clinic A`".to_owned(), "`issuing` (id 01ff)".to_owned()));
        let other = KeyUri::parse("pkcs11:serial=1;id=%aa?module-path=/m.so&pin-source=file:///etc/pin").unwrap();
        assert_eq!(other.pin_file.as_deref(), Some(Path::new("/etc/pin")));
        assert_eq!((other.token_name(), other.key_name()), ("with serial `1`".to_owned(), "with id aa".to_owned()));
    }

    #[test]
    fn what_would_be_passed_over_is_refused_by_name() {
        for (bad, why) in [
            ("/etc/key", "does not begin"),
            ("pkcs11:", "which token"),
            ("pkcs11:token=a", "which key"),
            ("pkcs11:token=a;object=", "which key"),
            ("pkcs11:token=a;object=b", "`module-path` is missing"),
            ("pkcs11:token=a;object=b?module-path=m.so", "absolute"),
            ("pkcs11:token=a;object=b?module-name=m", "`module-name` is not supported"),
            ("pkcs11:token=a;slot-id=1;object=b?module-path=/m", "`slot-id` is not supported"),
            ("pkcs11:token=a;token=b;object=b?module-path=/m", "twice"),
            ("pkcs11:token=a;object=%zz?module-path=/m", "percent-encoded"),
            ("pkcs11:token=a;object=%ff?module-path=/m", "UTF-8"),
            ("pkcs11:token=a;object=b;type=public?module-path=/m", "`type` must be"),
            ("pkcs11:token=a;object=b?module-path=/m&pin-source=|/bin/echo", "absolute"),
            ("pkcs11:token=a;object=b?module-path=/m&pin-source=https://a/b", "absolute"),
            ("pkcs11:token=a b;object=b?module-path=/m", "percent-encoded"),
        ] {
            let said = KeyUri::parse(bad).unwrap_err().to_string();
            assert!(said.contains(why), "{bad}: {said}");
        }
        let said = KeyUri::parse("pkcs11:token=a;object=b?module-path=/m&pin-value=s3cret").unwrap_err().to_string();
        assert!(said.contains("`pin-value` is not taken") && !said.contains("s3cret"), "{said}");
        for name in ["PIN-VALUE", "pin_value", "Pin"] {
            let uri = format!("pkcs11:token=a;object=b?module-path=/m&{name}=s3cret");
            let said = KeyUri::parse(&uri).unwrap_err().to_string();
            assert!(said.contains("is not supported") && !said.contains("s3cret"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_pin_is_told(text in "(pkcs11:)?[a-z%=;?&/0-9]{0,40}", pin in "[A-Z]{8}") {
            let _: Result<KeyUri, TokenError> = KeyUri::parse(&text);
            let said = KeyUri::parse(&format!("{text}&pin-value={pin}")).map_err(|error| error.to_string());
            prop_assert!(!said.is_err_and(|said| said.contains(&pin)));
        }
    }
}
