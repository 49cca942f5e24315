//! The reader of accounts on arbitrary requests (C14): what the guard counts must be whom the backend lets in.
//!
//! What must hold: nothing panics; an account that is read is one that others read there, too (`serde_json`,
//! `form_urlencoded`, `base64`), in whatever order they take what stands twice; and it is its own normal form. The first
//! byte says which login it is.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use policy::login::read::{self, Asked, Head};
use policy::login::{AccountName, Login, LoginDefinition};

static LOGINS: LazyLock<[Login; 4]> = LazyLock::new(|| {
    let login = |account| {
        let definition = format!(r#"{{"account": {account}, "success": {{"status": [200]}}}}"#);
        let definition: LoginDefinition = serde_json::from_str(&definition).expect("a definition");
        Login::new(&definition, &"s".parse().expect("a name")).expect("a login")
    };
    [
        login(r#"{"json": "/user/name"}"#),
        login(r#"{"form": "user"}"#),
        login(r#"{"basic": true}"#),
        login(r#"{"query": "user"}"#),
    ]
});

/// What fields of that name say, in any case of its letters.
fn fields(text: &[u8]) -> Vec<String> {
    let fields = form_urlencoded::parse(text).filter(|(name, _)| name.eq_ignore_ascii_case("user"));
    fields.map(|(_, value)| value.into_owned()).collect()
}

/// What the same members say to a reader that takes the first of several.
fn first(text: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Members(#[serde(deserialize_with = "members")] Vec<(String, serde_json::Value)>);
    fn members<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<(String, serde_json::Value)>, D::Error> {
        struct All;
        impl<'de> serde::de::Visitor<'de> for All {
            type Value = Vec<(String, serde_json::Value)>;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object")
            }
            fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                std::iter::from_fn(|| map.next_entry().transpose()).collect()
            }
        }
        from.deserialize_map(All)
    }
    let Members(outer) = serde_json::from_slice(text).ok()?;
    let user = outer.into_iter().find(|(name, _)| name == "user")?.1;
    Some(user.get("name")?.as_str()?.to_owned())
}

fuzz_target!(|data: &[u8]| {
    let [which, bytes @ ..] = data else { return };
    let which = usize::from(*which) % LOGINS.len();
    let login = &LOGINS[which];
    let value = |name: &str| if which == 2 && name == "authorization" { vec![bytes] } else { Vec::new() };
    let query = std::str::from_utf8(bytes).ok().filter(|_| which == 3);
    let read = match which {
        0 | 1 => read::body(login, bytes).ok(),
        _ => match read::head(login, &Head { method: "POST", query, has_body: false, values: &value }) {
            Ok(Asked::Account(account)) => Some(account),
            Ok(Asked::Body) => panic!("there is no body"),
            Ok(Asked::Nothing) | Err(_) => None,
        },
    };
    let Some(account) = read else { return };
    assert_eq!(AccountName::new(account.as_str(), login.spelling).as_ref(), Ok(&account), "not its own normal form");
    let said = match which {
        0 => {
            let last: serde_json::Value = serde_json::from_slice(bytes).expect("JSON, as others read it");
            let last = last.pointer("/user/name").and_then(serde_json::Value::as_str).map(str::to_owned);
            vec![last.expect("the last one"), first(bytes).expect("the first one")]
        }
        2 => {
            let (_, encoded) = std::str::from_utf8(bytes).expect("text").trim().split_once([' ', '\t']).expect("a scheme");
            let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).expect("Base64")).expect("UTF-8");
            vec![decoded.split_once(':').expect("a password").0.to_owned()]
        }
        _ => fields(bytes),
    };
    assert_eq!(said.len(), if which == 0 { 2 } else { 1 }, "{said:?}");
    for said in said {
        assert_eq!(AccountName::new(&said, login.spelling).as_ref(), Ok(&account), "others read `{said}`");
    }
});
