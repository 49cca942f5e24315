//! Which account a login request is for: read in the one way that no backend reads differently, or refused (C14).
//!
//! A request that names its account twice, in another encoding, or behind a second door of the same backend (a query beside a
//! form, `Authorization` beside a body) may be one account to the guard and another to the backend. One that holds several
//! passwords is several guesses. All of these are refused by name.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use unicode_normalization::UnicodeNormalization as _;

use super::definition::AccountPlace;
use super::{AccountName, Login};
use crate::Refusal;
use crate::target::form_pairs;

/// Deepest nesting of a JSON body.
const MAX_DEPTH: u8 = 16;
/// Most fields of a form, a query, or members of a JSON body in all.
const MAX_FIELDS: usize = 256;

/// A request's head, as far as it says something about an account.
pub struct Head<'a> {
    /// The method.
    pub method: &'a str,
    /// The query, undecoded.
    pub query: Option<&'a str>,
    /// Whether a body comes.
    pub has_body: bool,
    /// The values of a header, by its name in lower case.
    pub values: &'a dyn Fn(&str) -> Vec<&'a [u8]>,
}

/// What a head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The request is no attempt: it carries no password, as the one for a login form does not.
    Nothing,
    /// An attempt at this account.
    Account(AccountName),
    /// An attempt; the body says whose.
    Body,
}

/// Reads a head.
///
/// # Errors
/// [`Refusal::LoginAmbiguous`], [`Refusal::LoginEncoding`] or [`Refusal::LoginMalformed`].
pub fn head(login: &Login, head: &Head<'_>) -> Result<Asked, Refusal> {
    let authorization = match &(head.values)("authorization")[..] {
        [] => None,
        [one] => Some(*one),
        _ => return Err(Refusal::LoginAmbiguous),
    };
    if head.has_body && (head.values)("content-encoding").iter().any(|value| !value.eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::LoginEncoding);
    }
    let name = match &login.place {
        AccountPlace::Basic => {
            return authorization.map_or(Ok(Asked::Nothing), |value| basic(login, value).map(Asked::Account));
        }
        AccountPlace::Form(name) | AccountPlace::Query(name) => name,
        AccountPlace::Json(names) => names.last().ok_or(Refusal::InternalError)?,
    };
    // Whoever logs in by a form may be let in by `Basic` as well, and the guard would see one of the two.
    if authorization.is_some_and(|value| !scheme(value).eq_ignore_ascii_case(b"bearer")) {
        return Err(Refusal::LoginAmbiguous);
    }
    let query = head.query.unwrap_or_default();
    let in_query = form_pairs(query.as_bytes()).filter(|(found, _)| folded(found) == folded(name)).count();
    if let AccountPlace::Query(name) = &login.place {
        if in_query == 0 && !head.has_body {
            return Ok(Asked::Nothing);
        }
        if head.has_body {
            return Err(Refusal::LoginAmbiguous);
        }
        return account_in_pairs(login, query.as_bytes(), name).map(Asked::Account);
    }
    if in_query > 0 {
        return Err(Refusal::LoginAmbiguous);
    }
    if !head.has_body {
        return Ok(Asked::Nothing);
    }
    match &(head.values)("content-type")[..] {
        [one] if is_read(&login.place, one) => Ok(Asked::Body),
        _ => Err(Refusal::LoginEncoding),
    }
}

/// Reads a body, all of it.
///
/// # Errors
/// As [`head`].
pub fn body(login: &Login, bytes: &[u8]) -> Result<AccountName, Refusal> {
    match &login.place {
        AccountPlace::Form(name) => account_in_pairs(login, bytes, name),
        AccountPlace::Json(names) => account_in_json(login, bytes, names),
        AccountPlace::Basic | AccountPlace::Query(_) => Err(Refusal::InternalError),
    }
}

fn named(login: &Login, text: &str) -> Result<AccountName, Refusal> {
    // U+FFFD stands for octets that are no text, which may be any.
    if text.contains('\u{fffd}') {
        return Err(Refusal::LoginEncoding);
    }
    AccountName::new(text, login.spelling).map_err(|_| Refusal::LoginMalformed)
}

fn scheme(value: &[u8]) -> &[u8] {
    value.trim_ascii().split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default()
}

/// RFC 7617 section 2.
fn basic(login: &Login, value: &[u8]) -> Result<AccountName, Refusal> {
    let value = value.trim_ascii();
    let scheme = scheme(value);
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return Err(Refusal::LoginMalformed);
    }
    let encoded = value.get(scheme.len()..).unwrap_or_default().trim_ascii();
    let decoded = STANDARD.decode(encoded).map_err(|_| Refusal::LoginMalformed)?;
    let text = String::from_utf8(decoded).map_err(|_| Refusal::LoginEncoding)?;
    let (account, password) = text.split_once(':').ok_or(Refusal::LoginMalformed)?;
    if password.chars().any(char::is_control) {
        return Err(Refusal::LoginMalformed);
    }
    named(login, account)
}

/// Whether a body of that type is read, in UTF-8.
fn is_read(place: &AccountPlace, content_type: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(content_type) else { return false };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_kind = match place {
        AccountPlace::Form(_) => essence == "application/x-www-form-urlencoded",
        AccountPlace::Json(_) => {
            essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
        }
        AccountPlace::Basic | AccountPlace::Query(_) => false,
    };
    is_kind
        && parts.all(|parameter| {
            let Some((name, value)) = parameter.split_once('=') else { return false };
            name.eq_ignore_ascii_case("charset") && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

/// A name as the most lenient backend takes it: without regard to case or width, and with PHP's eyes for `.` and ` `.
fn folded(name: &str) -> String {
    let folded = name.trim().nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc();
    folded.map(|c| if matches!(c, '.' | ' ') { '_' } else { c }).collect()
}

fn account_in_pairs(login: &Login, bytes: &[u8], wanted: &str) -> Result<AccountName, Refusal> {
    // Some part pairs by `;` as well.
    if bytes.contains(&b';') || !bytes.iter().all(|byte| !byte.is_ascii_control()) {
        return Err(Refusal::LoginAmbiguous);
    }
    if !triplets_are_whole(bytes) {
        return Err(Refusal::LoginMalformed);
    }
    let base = |name: &str| folded(name.split('[').next().unwrap_or_default());
    let mut names = HashSet::new();
    let mut account = None;
    for (name, value) in form_pairs(bytes) {
        if names.len() >= MAX_FIELDS {
            return Err(Refusal::LoginMalformed);
        }
        if [&name, &value].iter().any(|text| text.contains(['\u{fffd}', '\0'])) {
            return Err(Refusal::LoginEncoding);
        }
        // `password[]`, or `password[0]` and `password[1]`, are a list of passwords.
        let is_list =
            name.split('[').skip(1).any(|part| part.trim_end_matches(']').bytes().all(|b| b.is_ascii_digit()));
        let shadows = *name != *wanted && (base(&name) == folded(wanted) || folded(&name) == base(wanted));
        if is_list || shadows || !names.insert(folded(&name)) {
            return Err(Refusal::LoginAmbiguous);
        }
        if *name == *"_charset_" && !value.eq_ignore_ascii_case("utf-8") {
            return Err(Refusal::LoginEncoding);
        }
        if *name == *wanted {
            account = Some(value);
        }
    }
    let account: Cow<'_, str> = account.ok_or(Refusal::LoginMalformed)?;
    named(login, &account)
}

/// Every `%` begins a triplet.
fn triplets_are_whole(bytes: &[u8]) -> bool {
    bytes
        .split(|byte| *byte == b'%')
        .skip(1)
        .all(|rest| rest.first().is_some_and(u8::is_ascii_hexdigit) && rest.get(1).is_some_and(u8::is_ascii_hexdigit))
}

fn account_in_json(login: &Login, bytes: &[u8], names: &[String]) -> Result<AccountName, Refusal> {
    let reading =
        Reading { lists: login.lists, fields: Cell::new(0), fault: Cell::new(None), account: Cell::new(None) };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = Node { reading: &reading, path: Some(names), depth: 0 };
    let read = seed.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    if let Some(fault) = reading.fault.take() {
        return Err(fault);
    }
    // The error may quote what was read, a password included: it goes nowhere.
    read.map_err(|_| {
        let is_text = std::str::from_utf8(bytes).is_ok() && !bytes.starts_with("\u{feff}".as_bytes());
        if is_text { Refusal::LoginMalformed } else { Refusal::LoginEncoding }
    })?;
    named(login, &reading.account.take().ok_or(Refusal::LoginMalformed)?)
}

struct Reading {
    lists: bool,
    fields: Cell<usize>,
    fault: Cell<Option<Refusal>>,
    account: Cell<Option<String>>,
}

/// A value of the document. `path` leads from it to the account, where it is on the way there.
#[derive(Clone, Copy)]
struct Node<'r, 'p> {
    reading: &'r Reading,
    path: Option<&'p [String]>,
    depth: u8,
}

impl Node<'_, '_> {
    fn fault<E: serde::de::Error>(self, refusal: Refusal) -> E {
        self.reading.fault.set(Some(refusal));
        E::custom("refused")
    }

    fn is_account(self) -> bool {
        self.path.is_some_and(<[String]>::is_empty)
    }

    /// What is no string can be no account, and a backend may make one of it.
    fn other<E: serde::de::Error>(self) -> Result<(), E> {
        if self.is_account() { Err(self.fault(Refusal::LoginMalformed)) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.other()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.other()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.other()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.other()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.other()
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if self.is_account() {
            self.reading.account.set(Some(text.to_owned()));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        self.other()?;
        if !self.reading.lists {
            return Err(self.fault(Refusal::LoginAmbiguous));
        }
        if self.depth >= MAX_DEPTH {
            return Err(self.fault(Refusal::LoginMalformed));
        }
        while elements.next_element_seed(Node { path: None, depth: self.depth + 1, ..self })?.is_some() {
            self.count()?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.other()?;
        if self.depth >= MAX_DEPTH {
            return Err(self.fault(Refusal::LoginMalformed));
        }
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            self.count()?;
            // Some take members without regard to case, and the last of several.
            if !names.insert(folded(&name)) {
                return Err(self.fault(Refusal::LoginAmbiguous));
            }
            let path = match self.path {
                Some([first, rest @ ..]) if *first == *name => Some(rest),
                _ => None,
            };
            members.next_value_seed(Node { path, depth: self.depth + 1, ..self })?;
        }
        Ok(())
    }
}

impl Node<'_, '_> {
    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        self.reading.fields.set(self.reading.fields.get() + 1);
        if self.reading.fields.get() > MAX_FIELDS { Err(self.fault(Refusal::LoginMalformed)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::LoginDefinition;
    use super::*;
    use proptest::prelude::*;

    fn login(account: &str) -> Login {
        let text = format!("account = {account}\nsuccess = {{ status = [302] }}");
        let definition: LoginDefinition = toml::from_str(&text).unwrap();
        Login::new(&definition, &"ehr".parse().unwrap()).unwrap()
    }

    const FORM: &str = "{ form = \"username\" }";
    const JSON: &str = "{ json = \"/user/name\" }";

    fn read(
        account: &str,
        request: (&str, Option<&str>),
        fields: &[(&str, &str)],
        bytes: &[u8],
    ) -> Result<Option<String>, Refusal> {
        let login = login(account);
        let values = |name: &str| {
            let found = fields.iter().filter(|(known, _)| *known == name);
            found.map(|(_, value)| value.as_bytes()).collect::<Vec<_>>()
        };
        let (method, query) = request;
        match head(&login, &Head { method, query, has_body: !bytes.is_empty(), values: &values })? {
            Asked::Nothing => Ok(None),
            Asked::Account(account) => Ok(Some(account.as_str().to_owned())),
            Asked::Body => body(&login, bytes).map(|account| Some(account.as_str().to_owned())),
        }
    }

    fn form(bytes: &str) -> Result<Option<String>, Refusal> {
        read(FORM, ("POST", None), &[("content-type", "application/x-www-form-urlencoded")], bytes.as_bytes())
    }

    fn json(bytes: &str) -> Result<Option<String>, Refusal> {
        read(JSON, ("POST", None), &[("content-type", "application/json; charset=UTF-8")], bytes.as_bytes())
    }

    #[test]
    fn a_form_is_read_in_one_way_or_refused() {
        let tanaka = Ok(Some("tanaka".to_owned()));
        for good in [
            "username=Tanaka&password=x",
            "password=%3B%26&username=%EF%BD%94anaka",
            "&username=tanaka&&a=",
            "username=tanaka&_charset_=UTF-8",
        ] {
            assert_eq!(form(good), tanaka, "{good}");
        }
        for (bad, refusal) in [
            ("username=a&username=b", Refusal::LoginAmbiguous),
            ("username=a&Username=b", Refusal::LoginAmbiguous),
            ("username=a&%75sername=b", Refusal::LoginAmbiguous),
            ("username=a&password=x&password=y", Refusal::LoginAmbiguous),
            ("username=a&password[]=x", Refusal::LoginAmbiguous),
            ("username=a&password%5B0%5D=x&password%5B1%5D=y", Refusal::LoginAmbiguous),
            ("username=a&username[x]=b", Refusal::LoginAmbiguous),
            ("username=a;username=b", Refusal::LoginAmbiguous),
            ("username=a\r\nX: y", Refusal::LoginAmbiguous),
            ("user.name=x&user_name=y&username=a", Refusal::LoginAmbiguous),
            ("username=%zz", Refusal::LoginMalformed),
            ("username=a%", Refusal::LoginMalformed),
            ("username=%ff%fe", Refusal::LoginEncoding),
            ("username=a&_charset_=shift_jis", Refusal::LoginEncoding),
            ("Username=a", Refusal::LoginAmbiguous),
            ("password=x", Refusal::LoginMalformed),
            ("username=&password=x", Refusal::LoginMalformed),
            ("username=a%0d%0aX", Refusal::LoginMalformed),
            ("username=a%00b", Refusal::LoginEncoding),
        ] {
            assert_eq!(form(bad), Err(refusal), "{bad}");
        }
        let many: String = (0..300).map(|n| format!("f{n}=&")).collect();
        assert_eq!(form(&many), Err(Refusal::LoginMalformed));
    }

    #[test]
    fn a_json_body_is_read_in_one_way_or_refused() {
        for good in [
            "{\"user\":{\"name\":\"Tanaka\"},\"password\":\"x\"}",
            " {\"password\":1, \"user\":{\"name\":\"t\\u0061naka\"}}",
        ] {
            assert_eq!(json(good), Ok(Some("tanaka".to_owned())), "{good}");
        }
        let deep = format!("{{\"user\":{}{}}}", "{\"a\":".repeat(20), "}".repeat(20));
        for (bad, refusal) in [
            ("{\"user\":{\"name\":\"a\",\"name\":\"b\"}}", Refusal::LoginAmbiguous),
            ("{\"user\":{\"name\":\"a\",\"Name\":\"b\"}}", Refusal::LoginAmbiguous),
            ("{\"user\":{\"name\":\"a\"},\"USER\":{\"name\":\"b\"}}", Refusal::LoginAmbiguous),
            ("{\"user\":{\"name\":\"a\"},\"password\":[\"x\",\"y\"]}", Refusal::LoginAmbiguous),
            ("[{\"user\":{\"name\":\"a\"}}]", Refusal::LoginAmbiguous),
            ("{\"user\":{\"name\":1}}", Refusal::LoginMalformed),
            ("{\"user\":{\"name\":{\"$ne\":\"\"}}}", Refusal::LoginMalformed),
            ("{\"user\":\"name\"}", Refusal::LoginMalformed),
            ("{\"user\":{\"name\":\"a\"}} {}", Refusal::LoginMalformed),
            ("{\"user\":{\"name\":\"a\"", Refusal::LoginMalformed),
            ("{\"user\":{\"name\":\"a\\n\"}}", Refusal::LoginMalformed),
            ("\u{feff}{\"user\":{\"name\":\"a\"}}", Refusal::LoginEncoding),
            (&deep, Refusal::LoginMalformed),
        ] {
            assert_eq!(json(bad), Err(refusal), "{bad}");
        }
        let utf16: Vec<u8> = "{\"user\":{\"name\":\"a\"}}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let typed = [("content-type", "application/json")];
        assert!(read(JSON, ("POST", None), &typed, &utf16).is_err());
        assert_eq!(read(JSON, ("POST", None), &typed, b"{\"user\":{\"name\":\"\xff\"}}"), Err(Refusal::LoginEncoding));
    }

    #[test]
    fn a_second_door_is_closed() {
        let typed = ("content-type", "application/x-www-form-urlencoded");
        let body = b"username=a&password=x";
        for (query, fields, refusal) in [
            (Some("username=b"), vec![typed], Refusal::LoginAmbiguous),
            (Some("USERNAME=b"), vec![typed], Refusal::LoginAmbiguous),
            (None, vec![typed, ("authorization", "Basic YTpi")], Refusal::LoginAmbiguous),
            (None, vec![typed, typed], Refusal::LoginEncoding),
            (None, vec![], Refusal::LoginEncoding),
            (None, vec![("content-type", "multipart/form-data; boundary=x")], Refusal::LoginEncoding),
            (None, vec![("content-type", "application/json")], Refusal::LoginEncoding),
            (
                None,
                vec![("content-type", "application/x-www-form-urlencoded; charset=shift_jis")],
                Refusal::LoginEncoding,
            ),
            (None, vec![typed, ("content-encoding", "gzip")], Refusal::LoginEncoding),
        ] {
            for method in ["POST", "PUT", "GET"] {
                assert_eq!(read(FORM, (method, query), &fields, body), Err(refusal), "{method} {query:?} {fields:?}");
            }
        }
        assert_eq!(read(FORM, ("GET", Some("next=/")), &[], b""), Ok(None), "the form itself");
        assert_eq!(read(FORM, ("GET", Some("username=a&password=b")), &[], b""), Err(Refusal::LoginAmbiguous));
        assert_eq!(read(FORM, ("POST", None), &[typed, ("authorization", "Bearer t")], body), Ok(Some("a".into())));
    }

    #[test]
    fn basic_and_queries_name_their_account() {
        let basic = |values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
            read("{ basic = true }", ("GET", None), &fields, b"")
        };
        let of = |text: &[u8]| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(basic(&[]), Ok(None));
        assert_eq!(basic(&[&of("Ｔanaka:p:w".as_bytes())]), Ok(Some("tanaka".into())));
        assert_eq!(basic(&[&format!("bAsIc   {}", STANDARD.encode("tanaka:"))]), Ok(Some("tanaka".into())));
        assert_eq!(basic(&[&of(b"a:b"), &of(b"c:d")]), Err(Refusal::LoginAmbiguous));
        assert_eq!(basic(&[&of(b"a\xff:b")]), Err(Refusal::LoginEncoding));
        for bad in
            ["Bearer x", "Basic", "Basic !!!!", &of(b"nobody"), &of(b":x"), &of(b"a\r\n:x"), "Digest username=\"a\""]
        {
            assert_eq!(basic(&[bad]), Err(Refusal::LoginMalformed), "{bad}");
        }
        let query = |query, bytes: &[u8]| read("{ query = \"u\" }", ("GET", query), &[], bytes);
        assert_eq!(query(None, b""), Ok(None));
        assert_eq!(query(Some("u=Tanaka&p=x"), b""), Ok(Some("tanaka".into())));
        assert_eq!(query(Some("u=a&u=b"), b""), Err(Refusal::LoginAmbiguous));
        assert_eq!(query(Some("U=a"), b""), Err(Refusal::LoginAmbiguous));
        assert_eq!(query(Some("u=a"), b"u=b"), Err(Refusal::LoginAmbiguous));
    }

    proptest! {
        /// Whatever is read is what any other reader of the form would find, and bytes never break the reader.
        #[test]
        fn one_account_is_read_from_a_form(bytes in prop::collection::vec(any::<u8>(), 0..64), name in "[a-z]{1,8}") {
            let _ = body(&login(FORM), &bytes);
            let _ = body(&login(JSON), &bytes);
            let mut text = format!("username={name}&x=").into_bytes();
            text.extend_from_slice(&bytes);
            if let Ok(account) = body(&login(FORM), &text) {
                prop_assert_eq!(account.as_str(), &name);
            }
        }
    }
}
