//! C14, R10: only the provider ends sessions by its back channel, each of its tokens counts once, and a log-out ends a session here and
//! there.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use gateway_tests::audit::{is, text};
use gateway_tests::idp::now;
use gateway_tests::{DOCTOR, PATIENCE};
use serde_json::{Value, json};

use crate::account::{Browser, WARD};
use crate::oidc_attacks::{Begun, Scene, begin};

/// Posts to the listener for providers.
fn tell(address: SocketAddr, target: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("the back channel");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: gw\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    // Whoever says too much is answered before it is all read.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[test]
fn only_the_provider_ends_sessions_and_each_of_its_tokens_once() {
    let scene = Scene::new();
    let browser = Browser::new(&scene.clinic, DOCTOR);
    scene.log_in(&browser);
    let address = scene.clinic.door_of("back_channel").address;
    const TARGET: &str = "/.sekisho/oidc/idp/backchannel-logout";
    let claims = |id: &str| {
        json!({
            "iss": scene.issuer(), "aud": "gateway", "iat": now(), "exp": now() + 120, "jti": id, "sid": "s1",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        })
    };
    let changed = |name: &str, value: Value| {
        let mut claims = claims("x");
        claims[name] = value;
        claims
    };
    let sign = |claims: &Value, key: &str, algorithm: &str, headers: Value| {
        scene.idp.mint_by(claims, key, algorithm, &headers)
    };
    let typed = || json!({"typ": "logout+jwt"});
    let is_in = || browser.ask("/open/x", &[]).status == 200;
    let id_token = {
        let begun = begin(&Browser::new(&scene.clinic, WARD));
        scene.mint(&scene.claims(&begun))
    };
    let mut nobody = claims("x");
    nobody.as_object_mut().expect("claims").remove("sid");
    for token in [
        sign(&claims("x"), "k9", "ES256", json!({"typ": "logout+jwt", "kid": "k1"})),
        sign(&claims("x"), "k1", "none", json!({})),
        sign(&claims("x"), "k1", "HS256", json!({})),
        sign(&claims("x"), "k1", "ES256", json!({"typ": "at+jwt"})),
        sign(&changed("aud", json!("other")), "k1", "ES256", typed()),
        sign(&changed("iss", json!("https://other.example")), "k1", "ES256", typed()),
        sign(&changed("iat", json!(now() - 3_600)), "k1", "ES256", typed()),
        sign(&changed("nonce", json!("n")), "k1", "ES256", typed()),
        sign(&changed("events", json!({})), "k1", "ES256", typed()),
        sign(&nobody, "k1", "ES256", typed()),
        id_token,
        "a.b.c".to_owned(),
        String::new(),
    ] {
        assert_eq!(tell(address, TARGET, &format!("logout_token={token}")), 400, "{token}");
    }
    let good = sign(&claims("1"), "k1", "ES256", typed());
    for (target, body, status) in [
        (TARGET, format!("logout_token={good}&logout_token={good}"), 400),
        (TARGET, format!("token={good}"), 400),
        ("/.sekisho/oidc/other/backchannel-logout", format!("logout_token={good}"), 404),
        ("/.sekisho/oidc/idp/callback", format!("logout_token={good}"), 404),
        ("/metrics", String::new(), 404),
        ("/.sekisho/oidc/idp/jwks.json", String::new(), 405),
    ] {
        assert_eq!(tell(address, target, &body), status, "{target}");
    }
    let long = tell(address, TARGET, &format!("logout_token={}", "a".repeat(1 << 20)));
    assert!([0, 400].contains(&long), "{long}");
    assert!(is_in(), "none of it ended anything");
    // Another's session is another's.
    let other = sign(&changed("sid", json!("s2")), "k1", "ES256", typed());
    assert_eq!(tell(address, TARGET, &format!("logout_token={other}")), 200);
    assert!(is_in());

    assert_eq!(tell(address, TARGET, &format!("logout_token={good}")), 200);
    assert!(!is_in());
    let ended =
        scene.clinic.wait_for_record("the end", |record| is(record, "session") && text(record, "event") == "ended");
    assert_eq!(text(&ended, "reason"), "provider", "{ended}");
    scene.log_in(&browser);
    assert_eq!(tell(address, TARGET, &format!("logout_token={good}")), 400, "a second time");
    assert!(is_in(), "what was said once ends no later session");
    let outcome =
        |outcome| scene.clinic.metric("sekisho_oidc_logouts_total", &[("provider", "idp"), ("outcome", outcome)]);
    assert_eq!((outcome("ended"), outcome("replayed")), (2.0, 1.0));
    // All of a user's.
    let mut all = changed("sub", json!("tanaka"));
    all["jti"] = json!("2");
    all.as_object_mut().expect("claims").remove("sid");
    assert_eq!(tell(address, TARGET, &format!("logout_token={}", sign(&all, "k1", "ES256", typed()))), 200);
    assert!(!is_in());
}

#[test]
fn a_log_out_ends_the_session_here_and_there_and_nobody_elses_form_does() {
    let scene = Scene::new();
    let browser = Browser::new(&scene.clinic, DOCTOR);
    scene.log_in(&browser);
    let page = browser.get("/.sekisho/login");
    assert!(page.body.contains("tanaka") && !page.body.contains("login/password"), "{page:?}");
    assert!(page.head.contains(&format!("form-action 'self' {}", scene.issuer())), "{page:?}");
    let token = page.token();
    for (csrf, origin) in [("x", browser.origin()), (&*token, "https://evil.example".to_owned())] {
        let page =
            browser.ask("/.sekisho/logout", &["-H", &format!("Origin: {origin}"), "-d", &format!("csrf={csrf}")]);
        assert_eq!(page.status, 403, "{page:?}");
    }
    assert!(browser.is_in());
    let page = browser.post(&page, "/.sekisho/logout", &[]);
    assert_eq!(page.status, 303, "{page:?}");
    assert!(page.field("location").starts_with(&format!("{}/end?", scene.issuer())), "{page:?}");
    let begun = Begun::of(&page);
    let back = format!("{}/.sekisho/oidc/idp/logged-out", browser.origin());
    assert_eq!((begun.get("client_id"), begun.get("post_logout_redirect_uri")), ("gateway", &*back));
    assert_eq!(begun.get("id_token_hint").split('.').count(), 3);
    assert_eq!(browser.ask("/open/x", &[]).status, 401, "it is over before the provider knows");
    // Only whoever logged out here is told so, and once.
    let target = |state: &str| format!("/.sekisho/oidc/idp/logged-out?state={state}");
    for state in [&"A".repeat(43), "", "x"] {
        assert_eq!(browser.get(&target(state)).status, 303);
    }
    // What was begun to log out logs nobody in.
    let state = begun.get("state");
    let page = browser.get(&target(state));
    assert!(page.status == 200 && page.body.contains("logged out at this device"), "{page:?}");
    assert_eq!(browser.get(&target(state)).status, 303);
}
