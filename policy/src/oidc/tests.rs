use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::Refusal;
use crate::session::Factors;
use crate::target::form_pairs;
use crate::token::{Algorithm, Binding, Fault, Now, Rules, Sites, TokenType};

const ISSUER: &str = "https://idp.example/realms/a";
const STATE: &str = "0123456789-_0123456789abcdefghijABCDEFGHIJX";
const NOW: Now = Now { unix_ns: 1_800_000_000_000_000_000, error_ns: 1_000_000 };
const NOW_S: i64 = 1_800_000_000;

fn pairs(query: &str) -> Vec<(String, String)> {
    form_pairs(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn came(query: &str) -> Result<Callback, Refusal> {
    Callback::read(form_pairs(query.as_bytes()))
}

fn document() -> Value {
    json!({
        "issuer": ISSUER, "authorization_endpoint": "https://idp.example/auth?x=1", "token_endpoint": "https://idp.example/token",
        "jwks_uri": "https://idp.example/jwks", "end_session_endpoint": "https://idp.example/end",
        "code_challenge_methods_supported": ["plain", "S256"], "response_types_supported": ["code"],
        "authorization_response_iss_parameter_supported": true,
    })
}

fn read(document: &Value) -> Result<Metadata, InvalidMetadata> {
    Metadata::parse(document.to_string().as_bytes(), ISSUER)
}

#[test]
fn a_document_is_the_issuers_own_and_its_addresses_are_safe() {
    let good = read(&document()).unwrap();
    assert!(good.names_issuer && good.end_session_endpoint.is_some());
    let with = |name: &str, value: Value| {
        let mut document = document();
        document[name] = value;
        read(&document)
    };
    for (name, value, why) in [
        ("issuer", json!("https://idp.example/realms/A"), InvalidMetadata::Issuer),
        ("issuer", json!(format!("{ISSUER}/")), InvalidMetadata::Issuer),
        ("issuer", json!(null), InvalidMetadata::Issuer),
        ("token_endpoint", json!(null), InvalidMetadata::Address("token_endpoint")),
        ("token_endpoint", json!("http://idp.example/token"), InvalidMetadata::Address("token_endpoint")),
        ("token_endpoint", json!("https://u@idp.example/"), InvalidMetadata::Address("token_endpoint")),
        ("token_endpoint", json!("file:///etc/passwd"), InvalidMetadata::Address("token_endpoint")),
        ("jwks_uri", json!("https://idp.example/ a"), InvalidMetadata::Address("jwks_uri")),
        ("authorization_endpoint", json!("https://idp.example/#a"), InvalidMetadata::Address("authorization_endpoint")),
        (
            "authorization_endpoint",
            json!("javascript://%0aalert(1)"),
            InvalidMetadata::Address("authorization_endpoint"),
        ),
        ("end_session_endpoint", json!("//idp.example"), InvalidMetadata::Address("end_session_endpoint")),
        ("end_session_endpoint", json!(null), InvalidMetadata::Address("end_session_endpoint")),
        (
            "code_challenge_methods_supported",
            json!(["plain"]),
            InvalidMetadata::Lacks("code_challenge_methods_supported", "S256"),
        ),
        ("response_types_supported", json!(["id_token"]), InvalidMetadata::Lacks("response_types_supported", "code")),
    ] {
        assert_eq!(with(name, value.clone()), Err(why), "{name}: {value}");
    }
    let twice = document().to_string().replacen('{', r#"{"token_endpoint":"https://evil.example","#, 1);
    assert_eq!(Metadata::parse(twice.as_bytes(), ISSUER), Err(InvalidMetadata::Malformed));
    assert_eq!(Metadata::parse(&vec![b' '; MAX_METADATA_BYTES + 1], ISSUER), Err(InvalidMetadata::TooLong));
    assert!(with("token_endpoint", json!("http://127.0.0.1:8080/token")).is_ok());
    assert!(with("token_endpoint", json!("http://[::1]:8080/token")).is_ok());
    assert!(with("token_endpoint", json!("http://127.0.0.1.evil.example/token")).is_err());
    assert!(with("token_endpoint", json!("http://localhost/token")).is_err());
}

#[test]
fn where_a_document_stands() {
    let path = |issuer| discovery_path(issuer);
    assert_eq!(path("https://a.example").as_deref(), Some("/.well-known/openid-configuration"));
    assert_eq!(path("https://a.example/").as_deref(), Some("/.well-known/openid-configuration"));
    assert_eq!(path(ISSUER).as_deref(), Some("/realms/a/.well-known/openid-configuration"));
    for bad in ["a.example", "http://a.example", "https://", "https://a.example?x", "https://a.example#x", ""] {
        assert_eq!(path(bad), None, "{bad}");
    }
    assert_eq!(origin_of("https://a.example:8443/x?y"), Some("https://a.example:8443"));
    assert_eq!(origin_of("https://a.example;script-src/"), None);
}

#[test]
fn the_example_of_rfc_7636_comes_out() {
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

#[test]
fn an_answer_of_the_token_endpoint_is_an_id_token_or_nothing() {
    let ok = json!({"access_token": "a", "token_type": "Bearer", "id_token": "x.y.z"}).to_string();
    assert_eq!(answered(200, ok.as_bytes()), Answered::IdToken("x.y.z".to_owned()));
    for (status, body, is) in [
        (200, r#"{"access_token":"a"}"#, Answered::Unreadable),
        (200, r#"{"id_token":["x"]}"#, Answered::Unreadable),
        (200, r#"{"id_token":"x","id_token":"y"}"#, Answered::Unreadable),
        (201, r#"{"id_token":"x"}"#, Answered::Unreadable),
        (400, r#"{"error":"invalid_grant","id_token":"x"}"#, Answered::Worthless),
        (401, r#"{"error":"invalid_client"}"#, Answered::Refused),
        (400, r#"{"error":"invalid_request"}"#, Answered::Refused),
        (400, "<html>", Answered::Unreadable),
        (500, r#"{"error":"invalid_grant"}"#, Answered::Unreadable),
        (302, r#"{"id_token":"x"}"#, Answered::Unreadable),
    ] {
        assert_eq!(answered(status, body.as_bytes()), is, "{status} {body}");
    }
    assert_eq!(answered(200, &vec![b' '; MAX_ANSWER_BYTES + 1]), Answered::Unreadable);
}

#[test]
fn a_callback_has_one_reading() {
    let good =
        came(&format!("code=abc&state={STATE}&iss=https%3A%2F%2Fidp.example%2Frealms%2Fa&session_state=x")).unwrap();
    assert_eq!((good.came, good.value.as_str(), good.state.as_str()), (Came::Code, "abc", STATE));
    assert!(good.is_of(ISSUER, true) && good.is_of(ISSUER, false) && !good.is_of("https://other.example", false));
    let silent = came(&format!("code=abc&state={STATE}")).unwrap();
    assert!(silent.is_of(ISSUER, false) && !silent.is_of(ISSUER, true));
    for (error, is) in [
        ("access_denied", Came::Denied),
        ("temporarily_unavailable", Came::Unavailable),
        ("invalid_scope", Came::Refused),
        ("<script>", Came::Refused),
    ] {
        assert_eq!(came(&format!("error={error}&error_description=x&state={STATE}")).unwrap().came, is, "{error}");
    }
    for (query, refusal) in [
        (format!("code=a&code=b&state={STATE}"), Refusal::LoginAmbiguous),
        (format!("code=a&state={STATE}&state={STATE}"), Refusal::LoginAmbiguous),
        (format!("code=a&st%61te={STATE}&state={STATE}"), Refusal::LoginAmbiguous),
        (format!("code=a&error=access_denied&state={STATE}"), Refusal::LoginAmbiguous),
        (format!("code=a&state={STATE}&iss=a&iss=a"), Refusal::LoginAmbiguous),
        (format!("state={STATE}"), Refusal::LoginMalformed),
        (format!("code=&state={STATE}"), Refusal::LoginMalformed),
        (format!("code=%00&state={STATE}"), Refusal::LoginMalformed),
        (format!("code=%ff&state={STATE}"), Refusal::LoginMalformed),
        (format!("code=a&state={STATE}x"), Refusal::LoginMalformed),
        ("code=a".to_owned(), Refusal::LoginMalformed),
        (format!("id_token=a.b.c&code=a&state={STATE}"), Refusal::LoginMalformed),
        (format!("code={}&state={STATE}", "a".repeat(3_000)), Refusal::LoginMalformed),
        (String::new(), Refusal::LoginMalformed),
    ] {
        assert_eq!(came(&query).err(), Some(refusal), "{query}");
    }
}

fn rules() -> Rules {
    Rules {
        name: "idp".into(),
        issuer: ISSUER.to_owned(),
        audiences: vec!["sekisho".to_owned()],
        algorithms: vec![Algorithm::Es256],
        kind: TokenType::IdToken,
        binding: Binding::Optional,
        user: "/preferred_username".to_owned(),
        sites: Sites::All,
        roles: Vec::new(),
        role_map: BTreeMap::new(),
        two_factor_acr: vec!["two".to_owned()],
        two_factor_amr: vec!["mfa".to_owned()],
        leeway_s: 5,
        max_lifetime_s: 86_400,
    }
}

fn claims() -> Map<String, Value> {
    let claims = json!({
        "iss": ISSUER, "aud": "sekisho", "sub": "248", "preferred_username": "tanaka", "nonce": "n", "iat": NOW_S, "exp": NOW_S + 600,
        "auth_time": NOW_S - 60, "sid": "s1", "amr": ["pwd", "otp", "mfa"],
    });
    claims.as_object().unwrap().clone()
}

fn expected() -> Expected<'static> {
    Expected { client_id: "sekisho", nonce: "n", earliest_ns: (NOW_S - 3_600) * 1_000_000_000 }
}

fn changed(name: &str, value: Option<Value>) -> Map<String, Value> {
    let mut claims = claims();
    match value {
        Some(value) => drop(claims.insert(name.to_owned(), value)),
        None => drop(claims.remove(name)),
    }
    claims
}

#[test]
fn an_id_token_is_for_this_login_and_for_nobody_else() {
    let told = judge(&rules(), &claims(), &expected(), NOW).unwrap();
    assert_eq!(
        (told.subject.as_str(), told.session.as_deref(), told.said.user.as_str()),
        ("248", Some("s1"), "tanaka")
    );
    assert_eq!(told.authenticated_ns, (NOW_S - 60) * 1_000_000_000);
    assert_eq!(told.said.level, crate::AuthenticationLevel::TwoFactor);
    assert_eq!(told.factors, Factors::PROVIDER.with(Factors::PASSWORD).with(Factors::TOTP));
    assert!(judge(&rules(), &changed("aud", Some(json!(["sekisho"]))), &expected(), NOW).is_ok());
    assert!(judge(&rules(), &changed("azp", Some(json!("sekisho"))), &expected(), NOW).is_ok());
    assert!(judge(&rules(), &changed("sid", None), &expected(), NOW).is_ok_and(|told| told.session.is_none()));
    for (name, value) in [
        ("iss", Some(json!("https://idp.example/realms/b"))),
        ("aud", Some(json!("other"))),
        ("aud", Some(json!(["sekisho", "other"]))),
        ("aud", Some(json!([]))),
        ("aud", None),
        ("azp", Some(json!("other"))),
        ("act", Some(json!({"sub": "help-desk"}))),
        ("azp", Some(json!(1))),
        ("nonce", Some(json!("N"))),
        ("nonce", Some(json!(["n"]))),
        ("nonce", None),
        ("sub", None),
        ("sub", Some(json!(""))),
        ("sub", Some(json!("a\nb"))),
        ("sub", Some(json!("a".repeat(256)))),
        ("sid", Some(json!("a\nb"))),
        ("sid", Some(json!(7))),
        ("iat", None),
        ("exp", None),
        ("auth_time", None),
        ("auth_time", Some(json!("1800000000"))),
        ("auth_time", Some(json!(NOW_S + 60))),
        ("auth_time", Some(json!(NOW_S - 3_700))),
        ("preferred_username", None),
    ] {
        let judged = judge(&rules(), &changed(name, value.clone()), &expected(), NOW);
        assert!(matches!(judged, Err(Fault::Malformed(_))), "{name}: {value:?}: {judged:?}");
    }
}

fn logout() -> Map<String, Value> {
    let claims = json!({
        "iss": ISSUER, "aud": ["sekisho"], "iat": NOW_S, "exp": NOW_S + 120, "jti": "j", "sub": "248", "sid": "s1",
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    });
    claims.as_object().unwrap().clone()
}

fn ends(claims: &Map<String, Value>) -> Result<Logout, Fault> {
    logout_token(claims, (ISSUER, "sekisho"), 5, NOW)
}

#[test]
fn a_logout_token_is_one_and_fresh() {
    let good = ends(&logout()).unwrap();
    assert_eq!(good.end, End { subject: Some("248".to_owned()), session: Some("s1".to_owned()) });
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for (name, value) in [
        ("iss", Some(json!("https://other.example"))),
        ("aud", Some(json!("other"))),
        ("aud", None),
        ("iat", None),
        ("iat", Some(json!(NOW_S + 60))),
        ("iat", Some(json!(NOW_S - 400))),
        ("exp", Some(json!(NOW_S))),
        ("exp", Some(json!("soon"))),
        ("jti", None),
        ("jti", Some(json!("a\nb"))),
        ("nonce", Some(json!("n"))),
        ("nonce", Some(json!(null))),
        ("events", None),
        ("events", Some(json!([event]))),
        ("events", Some(json!({event: true}))),
        ("events", Some(json!({"http://schemas.openid.net/event/other": {}}))),
        ("sub", Some(json!({"a": 1}))),
        ("sid", Some(json!("a\nb"))),
    ] {
        let mut claims = logout();
        match &value {
            Some(value) => drop(claims.insert(name.to_owned(), value.clone())),
            None => drop(claims.remove(name)),
        }
        assert!(ends(&claims).is_err(), "{name}: {value:?}");
    }
    let mut nobody = logout();
    nobody.remove("sub");
    assert!(ends(&nobody).is_ok_and(|logout| logout.end.subject.is_none()));
    nobody.remove("sid");
    assert!(ends(&nobody).is_err());
    // An ID token is none, nor is one of these an ID token.
    assert!(ends(&claims()).is_err());
    assert!(judge(&rules(), &logout(), &expected(), NOW).is_err());
    assert_eq!(logout_form(b"logout_token=a.b.c").as_deref(), Some("a.b.c"));
    for bad in [&b"logout_token=a&logout_token=b"[..], b"token=a", b"", b"logout_token=%ff", b"logout_token=a&x=y"] {
        assert_eq!(logout_form(bad), None, "{}", bad.escape_ascii());
    }
}

#[test]
fn a_logout_token_counts_from_when_it_came_first_and_memory_has_an_end() {
    let mut notices = Notices::default();
    assert_eq!(notices.first("a", 7, 5), (7, true));
    assert_eq!(notices.first("a", 8, 5), (7, false));
    assert_eq!(notices.first("b", 9, 5), (9, true));
    let after_ns = (u64::from(LOGOUT_LIFETIME_S) + 200) * 1_000_000_000;
    assert_eq!(notices.first("a", after_ns, 5), (after_ns, true), "it would be refused as too old long before");
    for number in 0..70_000 {
        assert!(notices.first(&format!("n{number}"), after_ns, 5).1);
    }
    assert!(!notices.first("n69999", after_ns, 5).1);
    assert!(notices.first("n0", after_ns, 5).1, "the oldest is forgotten");
}

proptest! {
    /// Whatever is put into an address comes out of it as it was, once each, and changes nothing else.
    #[test]
    fn an_address_says_what_was_put_into_it(
        client in "\\PC{0,40}", state in "[!-~]{0,43}", nonce in "\\PC{0,43}", scope in "[ -~]{0,40}", age in 0_u64..100_000,
        acr in prop::collection::vec("[!-~]{1,20}", 0..3),
        endpoint in prop::sample::select(vec!["https://i.example/a", "https://i.example/a?", "https://i.example/a?x=1", "https://i.example?x=1&"]),
    ) {
        let redirect_uri = "https://gw.example/.sekisho/oidc/idp/callback?a=b&c#d";
        let of = Authorization {
            client_id: &client, redirect_uri, scope: &scope, state: &state, nonce: &nonce, verifier: "v", max_age_s: age, acr_values: &acr,
        };
        let url = authorization_url(endpoint, &of);
        let base = endpoint.split('?').next().unwrap();
        let query = url.strip_prefix(base).and_then(|rest| rest.strip_prefix('?')).unwrap();
        prop_assert!(url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
        let pairs = pairs(query);
        let all = |name: &str| pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect::<Vec<_>>();
        prop_assert_eq!(all("client_id"), vec![client]);
        prop_assert_eq!(all("state"), vec![state]);
        prop_assert_eq!(all("nonce"), vec![nonce]);
        prop_assert_eq!(all("scope"), vec![scope]);
        prop_assert_eq!(all("redirect_uri"), vec![redirect_uri.to_owned()]);
        prop_assert_eq!(all("code_challenge"), vec![challenge("v")]);
        prop_assert_eq!(all("max_age"), vec![age.to_string()]);
        prop_assert_eq!(all("prompt").len(), usize::from(age == 0));
        prop_assert_eq!(all("acr_values"), if acr.is_empty() { vec![] } else { vec![acr.join(" ")] });
        prop_assert_eq!(all("x").len(), usize::from(endpoint.contains('x') && endpoint.contains("x=1")));
    }

    /// A form says what was put into it.
    #[test]
    fn a_grant_says_what_was_put_into_it(code in "[ -~]{1,80}", verifier in "\\PC{0,60}", assertion in prop::option::of("[ -~]{1,60}")) {
        let grant = Grant { code: &code, redirect_uri: "https://gw.example/", verifier: &verifier,
            assertion: assertion.as_deref().map(|assertion| ("client", assertion)) };
        let pairs = pairs(&grant.form());
        let one = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        prop_assert_eq!(one("code"), Some(code));
        prop_assert_eq!(one("code_verifier"), Some(verifier));
        prop_assert_eq!(one("client_assertion"), assertion.clone());
        prop_assert_eq!(pairs.len(), if assertion.is_some() { 7 } else { 4 });
    }

    /// Whatever comes back, it is read or refused; what is read came once.
    #[test]
    fn whatever_comes_back_has_one_reading(query in prop::collection::vec(
        (prop::sample::select(vec!["code", "state", "error", "iss", "x", "c%6fde"]), prop::sample::select(vec![STATE, "a", "", "%00", "%ff", "access_denied"])), 0..6)) {
        let text = query.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
        if let Ok(read) = came(&text) {
            let decoded: Vec<(Cow<'_, str>, Cow<'_, str>)> = form_pairs(text.as_bytes()).collect();
            let count = |name: &str| decoded.iter().filter(|(known, _)| known == name).count();
            prop_assert_eq!(count("state"), 1);
            prop_assert_eq!(count("code") + count("error"), 1);
            prop_assert_eq!(count("code") == 1, read.came == Came::Code);
            prop_assert!(count("iss") <= 1);
            prop_assert_eq!(read.state.as_str(), STATE);
        }
    }

    /// No document, answer or token of whatever form is a panic.
    #[test]
    fn nothing_panics(text in "\\PC{0,200}", status in 0_u16..600) {
        let _ = Metadata::parse(text.as_bytes(), ISSUER);
        let _ = answered(status, text.as_bytes());
        let _ = logout_form(text.as_bytes());
        let _ = discovery_path(&text);
        if let Some(origin) = origin_of(&text) {
            prop_assert!(text.starts_with(origin) && origin.is_ascii());
        }
        let _ = is_endpoint(&text);
    }

    /// A user who proved something too long ago is asked again, whatever the clocks say within their bounds.
    #[test]
    fn freshness_is_kept(age in 0_i64..10_000, max_age in 0_i64..10_000) {
        let expected = Expected { earliest_ns: NOW.unix_ns - max_age * 1_000_000_000, ..expected() };
        let judged = judge(&rules(), &changed("auth_time", Some(json!(NOW_S - age))), &expected, NOW);
        if age <= max_age {
            prop_assert!(judged.is_ok());
        }
        if age > max_age + 6 {
            prop_assert!(judged.is_err());
        }
    }
}
