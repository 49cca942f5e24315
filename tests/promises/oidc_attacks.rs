//! C14 at an OpenID provider: answers to logins that nobody began, used codes, other devices, browsers and providers, ID tokens of
//! others, redirects to elsewhere, fixated cookies, forged and repeated logout tokens, and providers that are down or talk too much.
//!
//! Longer than a file should be: the scene that these attacks and the logouts play in stands before them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_tests::audit::{is, text};
use gateway_tests::idp::{Idp, now};
use gateway_tests::{Builder, Clinic, DOCTOR, until};
use policy::target::form_pairs;
use serde_json::{Value, json};

use crate::account::{Browser, Page, TANAKA, WARD};

/// The session's cookie, and the browser's while it is at the provider.
pub const SESSION: &str = "__Host-sekisho";
pub const AWAY: &str = "__Host-sekisho-oidc";
/// What a browser accepts.
pub const HTML: [&str; 2] = ["-H", "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"];

/// `/open` and `/fhir` are for users of the provider, `/appointments` is for devices.
const ROUTES: &str = r#"
[[route]]
name = "fhir"
path = "/fhir"
service = "clinical"
class = "clinical"
kind = "fhir"
oidc = { provider = "idp" }
[[route]]
name = "open"
path = "/open"
service = "clinical"
class = "clinical"
kind = "generic"
rules = [{ methods = ["GET"], path = "/**", action = "read", effect = "read-only" }]
oidc = { provider = "idp" }
[[route]]
name = "fresh"
path = "/fresh"
service = "clinical"
class = "fresh"
kind = "generic"
rules = [{ methods = ["GET"], path = "/**", action = "read", effect = "read-only" }]
oidc = { provider = "idp" }
[[route]]
name = "both"
path = "/both"
service = "clinical"
class = "both"
kind = "generic"
rules = [{ methods = ["GET"], path = "/**", action = "read", effect = "read-only" }]
oidc = { provider = "idp" }
[[route]]
name = "appointments"
path = "/appointments"
service = "clinical"
class = "administrative"
kind = "fhir"
"#;

/// What is asked for at `/fresh`: a login of the last eight seconds; and at `/both`, two factors.
const POLICY: &str = r#"
@id("fresh")
permit(principal in Sekisho::Role::"doctor", action, resource in Sekisho::InformationClass::"fresh")
when { context has authentication_age && context.authentication_age <= 8 };
@id("both")
permit(principal in Sekisho::Role::"doctor", action, resource in Sekisho::InformationClass::"both")
when { context.authentication_level >= 3 };
"#;

/// A clinic with two terminals and a user, where providers may end sessions.
pub fn clinic() -> Builder {
    Clinic::builder().device(WARD, "dr-ito", "doctor").config(|config| {
        config.set("back_channel", "listen", "127.0.0.1:0");
        for key in ["device_attempts_per_minute", "site_attempts_per_minute", "address_attempts_per_minute"] {
            config.set("login", key, 1_000_000);
        }
    })
}

/// Starts it, and has its users log in at the provider; `more` are lines of its `[[oidc]]`. Only a gateway that runs knows its port,
/// which is part of what the provider knows it by.
pub fn start(builder: Builder, issuer: &str, more: &str) -> Clinic {
    let prepared = builder.prepare();
    prepared.registry(&["user", "add", TANAKA, "--role", "doctor"]);
    prepared.write("oidc.secret", "s3cret+\n");
    prepared.write("policy/fresh.cedar", POLICY);
    let mut clinic = prepared.start();
    let origin = format!("https://localhost:{}", clinic.door.address.port());
    let provider = format!(
        "[[oidc]]\nname = \"idp\"\nissuer = \"{issuer}\"\nclient_id = \"gateway\"\norigins = [\"{origin}\"]\n\
         algorithms = [\"ES256\", \"RS256\"]\nsites = [\"sakura-clinic\"]\ntimeout_ms = 30000\n{more}\n"
    );
    clinic.reconfigure(|config| {
        config.set_listener("oidc", vec!["idp"]);
        config.set_routes(ROUTES);
        config.append(&provider);
    });
    assert!(clinic.reload(), "{}", clinic.gateway.said());
    clinic
}

/// The provider's keys are there.
pub fn wait_for_keys(clinic: &Clinic) {
    until("the provider's keys", || {
        (clinic.metric("sekisho_token_keys_available", &[("issuer", "idp")]) > 0.0).then_some(())
    });
}

/// A provider that does what the test says, and its clinic.
pub struct Scene {
    pub idp: Idp,
    pub clinic: Clinic,
}

/// A browser's way to the provider.
pub struct Begun {
    pub fields: Vec<(String, String)>,
}

impl Begun {
    pub fn of(page: &Page) -> Self {
        assert_eq!(page.status, 303, "{page:?}");
        let query = page.field("location").split_once('?').expect("a query").1;
        let pairs = form_pairs(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()));
        Self { fields: pairs.collect() }
    }

    pub fn get(&self, name: &str) -> &str {
        let mut found = self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = found.next().unwrap_or_else(|| panic!("{name} in {:?}", self.fields));
        assert_eq!(found.next(), None, "{name} stands once");
        value
    }
}

pub fn encoded(text: &str) -> String {
    text.replace(':', "%3A").replace('/', "%2F")
}

impl Scene {
    pub fn new() -> Self {
        Self::of(clinic())
    }

    pub fn of(builder: Builder) -> Self {
        let idp = Idp::start();
        let issuer = format!("http://127.0.0.1:{}", idp.port);
        idp.obey(&json!({"document": document(&issuer)}));
        let clinic = start(
            builder,
            &issuer,
            "client_secret_file = \"oidc.secret\"\nmax_age_s = 3600\ntwo_factor_amr = [\"mfa\"]",
        );
        wait_for_keys(&clinic);
        Self { idp, clinic }
    }

    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.idp.port)
    }

    pub fn claims(&self, begun: &Begun) -> Value {
        json!({
            "iss": self.issuer(), "aud": "gateway", "sub": "tanaka", "nonce": begun.get("nonce"), "iat": now(), "exp": now() + 600,
            "auth_time": now() - 30, "sid": "s1", "amr": ["pwd"],
        })
    }

    /// The provider gives this token for a code.
    pub fn gives(&self, token: &str) {
        self.idp.obey(&json!({"answer": [200, {"token_type": "Bearer", "access_token": "a", "id_token": token}]}));
    }

    pub fn mint(&self, claims: &Value) -> String {
        self.idp.mint_by(claims, "k1", "ES256", &json!({"typ": "JWT"}))
    }

    pub fn query(&self, begun: &Begun) -> String {
        format!("code=c0de&state={}&iss={}", begun.get("state"), encoded(&self.issuer()))
    }

    /// A login that goes well.
    pub fn log_in(&self, browser: &Browser<'_>) -> Page {
        let begun = begin(browser);
        self.gives(&self.mint(&self.claims(&begun)));
        let page = come(browser, &self.query(&begun), &[]);
        assert_eq!((page.status, page.field("location")), (303, "/open/after?x=1"), "{page:?}");
        page
    }

    /// How often the provider was asked for a token.
    pub fn exchanges(&self) -> u64 {
        self.idp.obey(&json!({"exchanged": true}))[2].as_u64().expect("a count")
    }

    /// It is refused for this reason, and there is no session.
    pub fn refused(&self, page: &Page, status: u16, label: &str) {
        assert_eq!(page.status, status, "{label}: {page:?}\n{}", self.clinic.gateway.said());
        assert!(page.cookie(SESSION).is_none(), "{page:?}");
        let id = page.field("x-request-id").to_owned();
        let record =
            self.clinic.wait_for_record(label, |record| is(record, "request") && text(record, "request") == id);
        assert_eq!(text(&record, "reason"), label, "{record}");
        assert!(!record.to_string().contains("c0de"), "no code stands in the log: {record}");
    }
}

pub fn document(issuer: &str) -> Value {
    json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"), "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"), "end_session_endpoint": format!("{issuer}/end"),
        "code_challenge_methods_supported": ["S256"], "authorization_response_iss_parameter_supported": true,
    })
}

pub fn begin(browser: &Browser<'_>) -> Begun {
    Begun::of(&browser.ask("/open/after?x=1", &HTML))
}

pub fn come(browser: &Browser<'_>, query: &str, more: &[&str]) -> Page {
    browser.ask(&format!("/.sekisho/oidc/idp/callback?{query}"), more)
}

#[test]
fn a_browser_is_sent_to_the_provider_and_whoever_is_none_is_told() {
    let scene = Scene::new();
    let browser = Browser::new(&scene.clinic, DOCTOR);
    let page = browser.ask("/open/after?x=1", &HTML);
    let begun = Begun::of(&page);
    assert!(page.field("location").starts_with(&format!("{}/auth?", scene.issuer())));
    // Where nobody's session can be lost, a link from elsewhere needs no asking.
    Begun::of(&browser.ask("/open/x", &[&HTML[..], &["-H", "Sec-Fetch-Site: cross-site"]].concat()));
    let redirect_uri = format!("{}/.sekisho/oidc/idp/callback", browser.origin());
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "gateway"),
        ("redirect_uri", &redirect_uri),
        ("scope", "openid"),
        ("code_challenge_method", "S256"),
        ("max_age", "3600"),
    ] {
        assert_eq!(begun.get(name), value);
    }
    for name in ["state", "nonce", "code_challenge"] {
        assert_eq!(begun.get(name).len(), 43, "{name}");
    }
    let cookie = page.head.lines().find(|line| line.contains(AWAY)).expect("a cookie");
    for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    let id = page.field("x-request-id").to_owned();
    let record = scene.clinic.wait_for_record("the way there", |record| text(record, "request") == id);
    assert_eq!((text(&record, "reason"), text(&record, "decision")), ("session-required", "refuse"), "{record}");

    // Programs, frames and pictures, other methods.
    let json = ["-H", "Accept: application/fhir+json"];
    for more in [
        &[][..],
        &json,
        &[&HTML[..], &["-X", "POST", "-d", "a"]].concat(),
        &[&HTML[..], &["-H", "Sec-Fetch-Dest: iframe"]].concat(),
        &[&HTML[..], &["-H", "Sec-Fetch-Mode: no-cors"]].concat(),
    ] {
        let page = browser.ask("/open/after", more);
        assert_eq!(page.status, 401, "{more:?}: {page:?}");
        assert!(page.body.contains("urn:sekisho:refusal:session-required"), "{page:?}");
    }
    assert_eq!(browser.ask("/appointments/Appointment/1", &json).status, 200, "other routes ask for nobody");
    // Under a name that the provider does not know, nobody can come back.
    let port = scene.clinic.door.address.port();
    let other = browser.ask("/open/after", &[&HTML[..], &["-H", &format!("Host: 127.0.0.1:{port}")]].concat());
    assert_eq!(other.status, 421, "{other:?}");
    for (target, status) in [
        ("/.sekisho/oidc/other/login", 404),
        ("/.sekisho/oidc/idp/", 404),
        ("/.sekisho/oidc/idp", 404),
        ("/.sekisho/oidc/idp/callback/x", 404),
        ("/.sekisho/login/factor", 404),
    ] {
        assert_eq!(browser.get(target).status, status, "{target}");
    }
    assert_eq!(browser.ask("/.sekisho/oidc/idp/callback", &["-d", "a=b"]).status, 405);
    assert_eq!(scene.exchanges(), 0);
}

/// Whoever is signed in at the provider would take the place of whoever is logged in here.
#[test]
fn a_link_of_another_site_exchanges_nobodys_session() {
    let page_too = |config: &mut gateway_tests::Config| config.set_listener("login_page", true);
    let scene = Scene::of(clinic().config(page_too));
    let browser = Browser::new(&scene.clinic, DOCTOR);
    const LOGIN: &str = "/.sekisho/oidc/idp/login?return=%2Fopen%2Fafter";
    let from = |target: &str, sites: &[&str]| {
        let sites: Vec<String> = sites.iter().map(|site| format!("Sec-Fetch-Site: {site}")).collect();
        let sites = sites.iter().flat_map(|site| ["-H", site]);
        browser.ask(target, &sites.chain(HTML).collect::<Vec<_>>())
    };
    let asks = |page: &Page| {
        assert_eq!(page.status, 200, "{page:?}");
        assert!(page.cookie(AWAY).is_none() && page.body.contains("Another site sent you here"), "{page:?}");
        let link = page.body.split_once("<p><a href=\"").expect("a link").1.split('"').next().expect("its end");
        link.replace("&amp;", "&")
    };
    for target in [LOGIN, "/open/after"] {
        for sites in [&["cross-site"][..], &["same-site"], &[], &["none", "cross-site"], &["None"]] {
            let link = asks(&from(target, sites));
            assert!(link.starts_with("/.sekisho/oidc/idp/login?return=%2F%6F") && link.contains("&go="), "{link}");
        }
        for site in ["same-origin", "none"] {
            assert!(Begun::of(&from(target, &[site])).get("state").len() == 43);
        }
    }
    let page = from("/open/after", &["cross-site"]);
    let id = page.field("x-request-id").to_owned();
    let record = scene.clinic.wait_for_record("the request", |record| text(record, "request") == id);
    assert_eq!(text(&record, "reason"), "session-required", "{record}");
    // Whoever reads the page and wants it goes on, with a browser that says nothing as well.
    let link = asks(&page);
    let (path, go) = link.rsplit_once("go=").expect("a token");
    for forged in ["", "x", &go.replace(|c: char| c.is_ascii_lowercase(), "a")] {
        asks(&from(&format!("{path}go={forged}"), &["cross-site"]));
    }
    let elsewhere = Browser::new(&scene.clinic, WARD).ask(&link, &HTML);
    assert!(elsewhere.status == 200 && elsewhere.cookie(AWAY).is_none(), "another device's word: {elsewhere:?}");
    let begun = Begun::of(&from(&link, &[]));
    scene.gives(&scene.mint(&scene.claims(&begun)));
    let page = come(&browser, &scene.query(&begun), &[]);
    assert_eq!((page.status, page.field("location")), (303, "/open/after"), "{page:?}");
    // For whom its user acts changes its secret, and not when browsers bring it along.
    scene.clinic.registry(&["user", "delegate", "add", TANAKA, "dr-sato"]);
    let acts = until("the leave to be known", || {
        Some(browser.get("/.sekisho/act")).filter(|page| page.body.contains("dr-sato"))
    });
    let page = browser.post(&acts, "/.sekisho/act", &[("for", "dr-sato")]);
    let cookie = page.head.lines().find(|line| line.contains(&format!("{SESSION}="))).expect("a cookie");
    assert!(page.status == 303 && cookie.contains("SameSite=Lax"), "{page:?}");
    // Whoever is in at that provider proves it anew there, which nobody does unasked.
    assert_eq!(Begun::of(&from(LOGIN, &["cross-site"])).get("max_age"), "0");
}

#[test]
fn whoever_the_provider_vouches_for_is_in_and_a_cookie_of_before_is_worth_nothing() {
    let scene = Scene::new();
    let browser = Browser::new(&scene.clinic, DOCTOR);
    let begun = begin(&browser);
    scene.gives(&scene.mint(&scene.claims(&begun)));
    // A cookie that somebody chose beforehand.
    let chosen = "A".repeat(43);
    let jar = std::fs::read_to_string(&browser.files[2]).expect("a jar");
    let away =
        jar.lines().find(|line| line.contains(AWAY)).and_then(|line| line.split('\t').next_back()).expect("a cookie");
    let cookies = format!("Cookie: {AWAY}={away}; {SESSION}={chosen}");
    let fixated = Browser::forgetful(&scene.clinic, DOCTOR);
    let page = come(&fixated, &scene.query(&begun), &["-H", &cookies]);
    assert_eq!((page.status, page.field("location")), (303, "/open/after?x=1"), "{page:?}");
    let first = page.cookie(SESSION).expect("a session");
    assert!(first != chosen && first.len() == 43, "{page:?}");
    let cookie = page.head.lines().find(|line| line.contains(&format!("{SESSION}="))).expect("a cookie");
    for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }

    // What the provider was asked: by whom, with what, and behind which challenge.
    let exchanged = scene.idp.obey(&json!({"exchanged": true}));
    let basic = base64::engine::general_purpose::STANDARD.encode("gateway:s3cret%2B");
    assert_eq!(exchanged[0], format!("Basic {basic}"));
    assert_eq!(exchanged[1]["grant_type"][0], "authorization_code");
    assert_eq!(exchanged[1]["code"][0], "c0de");
    assert_eq!(exchanged[1]["redirect_uri"][0], begun.get("redirect_uri"));
    let verifier = exchanged[1]["code_verifier"][0].as_str().expect("a verifier");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    assert_eq!(URL_SAFE_NO_PAD.encode(digest), begun.get("code_challenge"));

    let ask = |device: &str, cookie: &str| {
        let browser = Browser::forgetful(&scene.clinic, device);
        browser.ask("/fhir/Patient/1", &["-H", &format!("Cookie: a=b; {SESSION}={cookie}; {AWAY}={away}")])
    };
    assert_eq!(ask(DOCTOR, &chosen).status, 401);
    let page = ask(DOCTOR, &first);
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(scene.clinic.backend().last().values("cookie"), ["a=b"], "the backend gets none of ours");
    let id = page.field("x-request-id").to_owned();
    let record = scene.clinic.wait_for_record("the request", |record| text(record, "request") == id);
    assert_eq!((text(&record, "user"), text(&record, "authentication")), ("tanaka", "user"), "{record}");
    let login = scene.clinic.wait_for_record("the login", |record| is(record, "login"));
    assert_eq!(
        (text(&login, "realm"), text(&login, "account"), text(&login, "outcome")),
        ("idp", "tanaka", "success"),
        "{login}"
    );
    // A second login in the same browser ends the first session; another device with a cookie ends it, too.
    let page = {
        let begun = Begun::of(
            &fixated.ask("/.sekisho/oidc/idp/login?return=%2Fopen%2Fx", &["-H", &format!("Cookie: {AWAY}={away}")]),
        );
        scene.gives(&scene.mint(&scene.claims(&begun)));
        come(&fixated, &scene.query(&begun), &["-H", &format!("Cookie: {AWAY}={away}; {SESSION}={first}")])
    };
    let second = page.cookie(SESSION).expect("a session");
    assert_eq!((page.field("location"), second == first), ("/open/x", false));
    assert_eq!((ask(DOCTOR, &first).status, ask(DOCTOR, &second).status), (401, 200));
    let stolen = ask(WARD, &second);
    assert!(stolen.status == 403 && stolen.body.contains("session-stolen"), "{stolen:?}");
    assert_eq!(ask(DOCTOR, &second).status, 401);
}

#[test]
fn an_answer_is_for_one_login_of_one_browser_at_one_device() {
    let scene = Scene::new();
    let bare = Browser::forgetful(&scene.clinic, DOCTOR);
    let (browser, ward) = (Browser::new(&scene.clinic, DOCTOR), Browser::new(&scene.clinic, WARD));
    let begun = begin(&browser);
    scene.gives(&scene.mint(&scene.claims(&begun)));
    let (state, good) = (begun.get("state"), scene.query(&begun));
    let jar = std::fs::read_to_string(&browser.files[2]).expect("a jar");
    let away =
        jar.lines().find(|line| line.contains(AWAY)).and_then(|line| line.split('\t').next_back()).expect("a cookie");
    let cookie = format!("Cookie: {AWAY}={away}");
    let other = URL_SAFE_NO_PAD.encode([7; 32]);
    let label = "login-callback";
    scene.refused(&come(&browser, &good.replace(state, &other), &[]), 403, label);
    scene.refused(&come(&ward, &good, &["-H", &cookie]), 403, label);
    scene.refused(&come(&bare, &good, &[]), 403, label);
    let planted = format!("Cookie: {AWAY}={other}");
    scene.refused(&come(&bare, &good, &["-H", &planted]), 403, label);
    for (query, label) in [
        (format!("{good}&state={state}"), "login-ambiguous"),
        (format!("{good}&code=x"), "login-ambiguous"),
        (format!("{good}&error=access_denied"), "login-ambiguous"),
        ("code=c0de".to_owned(), "login-malformed"),
        (format!("state={state}"), "login-malformed"),
        (format!("{good}&access_token=x"), "login-malformed"),
        (good.replace("c0de", "c0de%0a"), "login-malformed"),
    ] {
        scene.refused(&come(&browser, &query, &[]), 400, label);
    }
    assert_eq!(scene.exchanges(), 0, "no code went anywhere");
    let page = come(&browser, &good, &[]);
    assert!(page.status == 303 && page.cookie(SESSION).is_some(), "what others tried took nothing away: {page:?}");
    // Once.
    scene.refused(&come(&browser, &good, &[]), 403, label);
    assert_eq!(scene.exchanges(), 1);
    assert_eq!(browser.ask("/open/x", &[]).status, 200, "the session goes on");

    // A mix-up: the answer is another provider's, or does not say whose it is.
    for iss in ["&iss=https%3A%2F%2Fother.example", ""] {
        let begun = begin(&ward);
        scene.refused(&come(&ward, &format!("code=c0de&state={}{iss}", begun.get("state")), &[]), 403, label);
        let again = scene.query(&begun);
        scene.refused(&come(&ward, &again, &[]), 403, label);
    }
    assert_eq!(scene.exchanges(), 1, "no code went to the wrong provider");
}

#[test]
fn an_id_token_that_is_not_for_this_login_begins_nothing() {
    let scene = Scene::new();
    let browser = Browser::new(&scene.clinic, DOCTOR);
    let attempt = |label: &str, status: u16, token: &dyn Fn(Value) -> String| {
        let begun = begin(&browser);
        scene.gives(&token(scene.claims(&begun)));
        scene.refused(&come(&browser, &scene.query(&begun), &[]), status, label);
    };
    let with = |name: &'static str, value: Value| {
        let scene = &scene;
        move |mut claims: Value| {
            if value.is_null() {
                claims.as_object_mut().expect("claims").remove(name);
            } else {
                claims[name] = value.clone();
            }
            scene.mint(&claims)
        }
    };
    for (name, value) in [
        ("nonce", json!("other")),
        ("nonce", json!(null)),
        ("aud", json!("other")),
        ("aud", json!(["gateway", "other"])),
        ("iss", json!("https://other.example")),
        ("azp", json!("other")),
        ("auth_time", json!(null)),
        ("auth_time", json!(now() - 7_200)),
        ("exp", json!(null)),
        ("iat", json!(now() + 3_600)),
        ("sub", json!("no such name")),
    ] {
        attempt("token-invalid", 401, &with(name, value));
    }
    attempt("token-expired", 401, &with("exp", json!(now() - 60)));
    for (key, algorithm, headers) in [
        ("k1", "none", json!({})),
        ("k1", "HS256", json!({})),
        ("k9", "ES256", json!({"typ": "JWT"})),
        ("k9", "ES256", json!({"typ": "JWT", "kid": "k1"})),
        ("k1", "ES256", json!({"typ": "at+jwt"})),
        ("k1", "ES256", json!({"typ": "logout+jwt"})),
        ("k1", "ES256", json!({"typ": "JWT", "crit": ["exp"]})),
    ] {
        attempt("token-invalid", 401, &|claims| scene.idp.mint_by(&claims, key, algorithm, &headers));
    }
    // The registry has the last word.
    attempt("user-unregistered", 403, &with("sub", json!("suzuki")));
    scene.clinic.registry(&["user", "suspend", TANAKA]);
    until("the suspension", || {
        (scene.clinic.metric("sekisho_registry_entries", &[("kind", "user"), ("status", "suspended")]) >= 1.0)
            .then_some(())
    });
    attempt("user-suspended", 403, &|claims| scene.mint(&claims));

    // What the token endpoint says instead.
    for (answer, label, status) in [
        (json!([400, {"error": "invalid_grant"}]), "login-failed", 403),
        (json!([401, {"error": "invalid_client"}]), "provider-unavailable", 503),
        (json!([500, {}]), "provider-unavailable", 503),
        (json!([200, {"access_token": "a"}]), "provider-unavailable", 503),
        (json!([200, {"id_token": "x".repeat(300_000)}]), "provider-unavailable", 503),
    ] {
        let begun = begin(&browser);
        scene.idp.obey(&json!({"answer": answer}));
        let page = come(&browser, &scene.query(&begun), &[]);
        scene.refused(&page, status, label);
        assert_eq!(page.field("retry-after").is_empty(), status != 503, "{page:?}");
    }
}

#[test]
fn whoever_is_in_proves_more_in_the_same_session_and_under_another_secret() {
    let scene = Scene::new();
    let browser = Browser::new(&scene.clinic, DOCTOR);
    let first = scene.log_in(&browser).cookie(SESSION).expect("a session");
    let anew = || Begun::of(&browser.get("/.sekisho/oidc/idp/login?return=%2Fopen%2Fmore"));
    let begun = anew();
    assert_eq!((begun.get("prompt"), begun.get("max_age")), ("login", "0"));
    // What was proved before is not proved anew.
    let mut old = scene.claims(&begun);
    old["auth_time"] = json!(now() - 600);
    scene.gives(&scene.mint(&old));
    scene.refused(&come(&browser, &scene.query(&begun), &[]), 401, "token-invalid");
    let begun = anew();
    let mut claims = scene.claims(&begun);
    claims["auth_time"] = json!(now());
    claims["amr"] = json!(["pwd", "otp", "mfa"]);
    scene.gives(&scene.mint(&claims));
    let page = come(&browser, &scene.query(&begun), &[]);
    assert_eq!((page.status, page.field("location")), (303, "/open/more"), "{page:?}");
    assert_ne!(page.cookie(SESSION).expect("a secret"), first);
    let records: Vec<_> = scene.clinic.records().into_iter().filter(|record| is(record, "session")).collect();
    let events: Vec<_> = records.iter().map(|record| (text(record, "event"), text(record, "session"))).collect();
    let [("begun", name), ("raised", raised)] = events[..] else { panic!("the same session, raised: {events:?}") };
    assert_eq!(name, raised);
    let page = browser.ask("/open/more", &[]);
    assert_eq!(page.status, 200, "{page:?}");
    let id = page.field("x-request-id").to_owned();
    let record = scene.clinic.wait_for_record("the request", |record| text(record, "request") == id);
    assert_eq!(text(&record, "authentication"), "two-factor", "{record}");
    // Somebody else at the same browser has a session of their own.
    let begun = anew();
    let mut claims = scene.claims(&begun);
    (claims["sub"], claims["auth_time"], claims["sid"]) = (json!("dr-sato"), json!(now()), json!("s9"));
    scene.gives(&scene.mint(&claims));
    assert_eq!(come(&browser, &scene.query(&begun), &[]).status, 303);
    let replaced =
        scene.clinic.wait_for_record("the end", |record| is(record, "session") && text(record, "event") == "ended");
    assert_eq!(text(&replaced, "reason"), "replaced", "{replaced}");
}

#[test]
fn a_browser_is_sent_nowhere_else_and_refusals_are_told_on_a_page() {
    let scene = Scene::new();
    let browser = Browser::new(&scene.clinic, DOCTOR);
    for bad in [
        "//evil.example",
        "%2F%2Fevil.example",
        "/%5Cevil.example",
        "https://evil.example",
        "/%09/evil.example",
        "javascript:alert(1)",
        "/a%0d%0aSet-Cookie:x=1",
        "/a&return=/b",
        "",
    ] {
        let page = browser.get(&format!("/.sekisho/oidc/idp/login?return={bad}"));
        assert!(page.status == 400 && !page.head.contains("evil"), "{bad}: {page:?}");
    }
    let bare = browser.get("/.sekisho/login?return=%2Fopen%2Fafter");
    assert_eq!((bare.status, bare.field("location")), (303, "/.sekisho/oidc/idp/login?return=%2Fopen%2Fafter"));
    for (error, alert, status) in [
        ("access_denied", "did not log you in", 403),
        ("login_required", "did not log you in", 403),
        ("temporarily_unavailable", "cannot be reached", 503),
        ("%3Cscript%3E", "cannot be reached", 503),
    ] {
        let begun = begin(&browser);
        let (state, issuer) = (begun.get("state"), encoded(&scene.issuer()));
        let page = come(&browser, &format!("error={error}&error_description=%3Cb%3Ex&state={state}&iss={issuer}"), &[]);
        let label = if status == 403 { "login-failed" } else { "provider-unavailable" };
        scene.refused(&page, status, label);
        assert!(
            page.alert().contains(alert) && !page.body.contains("<b>") && !page.body.contains("<script"),
            "{page:?}"
        );
        assert!(page.body.contains("href=\"/.sekisho/oidc/idp/login?return=%2F%6F%70%65%6E"), "{page:?}");
        assert!(page.head.contains("frame-ancestors 'none'"), "{page:?}");
    }
    let begun = begin(&browser);
    let query = format!("error=access_denied&state={}&iss={}", begun.get("state"), encoded(&scene.issuer()));
    let page = come(&browser, &query, &[]);
    assert!(page.body.contains("lang=\"en\"") && page.field("content-language") == "en", "{page:?}");
}

#[test]
fn without_the_provider_nobody_logs_in_and_sessions_go_on() {
    let scene = Scene::new();
    let (browser, ward) = (Browser::new(&scene.clinic, DOCTOR), Browser::new(&scene.clinic, WARD));
    scene.log_in(&browser);
    let begun = begin(&ward);
    let query = scene.query(&begun);
    scene.idp.kill();
    let page = come(&ward, &query, &[]);
    assert_eq!((page.status, page.field("retry-after")), (503, "10"), "{page:?}");
    assert!(page.alert().contains("cannot be reached"), "{page:?}");
    assert_eq!(browser.ask("/open/x", &[]).status, 200, "whoever is in stays in");

    // A gateway that never heard of it, and providers that talk nonsense.
    let idp = Idp::start();
    let issuer = format!("http://127.0.0.1:{}", idp.port);
    let mut other = document(&issuer);
    other["issuer"] = "https://other.example".into();
    let mut huge = document(&issuer);
    huge["x"] = "y".repeat(1 << 20).into();
    let clinic = start(clinic(), &issuer, "client_secret_file = \"oidc.secret\"");
    let browser = Browser::new(&clinic, DOCTOR);
    for document in [json!(null), other, huge] {
        idp.obey(&json!({"document": document}));
        let page = browser.ask("/open/after", &HTML);
        assert_eq!((page.status, page.field("retry-after")), (503, "10"), "{page:?}");
        let id = page.field("x-request-id").to_owned();
        let record = clinic.wait_for_record("the refusal", |record| text(record, "request") == id);
        assert_eq!(text(&record, "reason"), "provider-unavailable");
    }
    assert_eq!(browser.ask("/appointments/Appointment/1", &[]).status, 200, "what needs no provider is served");
    idp.obey(&json!({"document": document(&issuer)}));
    until("the provider to be asked again", || (browser.ask("/open/after", &HTML).status == 303).then_some(()));
}
