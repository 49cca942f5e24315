//! C14, R10: only the provider ends sessions by its back channel, each of its tokens counts once, and a log-out ends a session here and
//! there.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use gateway_tests::audit::{is, text};
use gateway_tests::idp::now;
use gateway_tests::{DOCTOR, PATIENCE, until};
use serde_json::{Value, json};

use crate::account::{Browser, WARD};
use crate::oidc_attacks::{Begun, Scene, begin, clinic, come};

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
    assert_eq!(tell(address, TARGET, &format!("logout_token={good}")), 200, "a second time");
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

const TARGET: &str = "/.sekisho/oidc/idp/backchannel-logout";

/// A logout token about the session `s1`, made so many seconds ago.
fn logout(scene: &Scene, id: &str, ago_s: i64) -> String {
    let claims = json!({
        "iss": scene.issuer(), "aud": "gateway", "iat": now() - ago_s, "exp": now() + 120, "jti": id, "sid": "s1",
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    });
    let token = scene.idp.mint_by(&claims, "k1", "ES256", &json!({"typ": "logout+jwt"}));
    format!("logout_token={token}")
}

#[test]
fn a_log_out_that_overtakes_a_login_under_way_ends_what_would_begin() {
    let scene = Scene::new();
    let browser = Browser::new(&scene.clinic, DOCTOR);
    let address = scene.clinic.door_of("back_channel").address;
    let begun = begin(&browser);
    scene.gives(&scene.mint(&scene.claims(&begun)));
    assert_eq!(tell(address, TARGET, &logout(&scene, "1", 0)), 200);
    let page = come(&browser, &scene.query(&begun), &[]);
    scene.refused(&page, 503, "session-unavailable");
    assert_eq!(browser.ask("/open/x", &[]).status, 401);
    // Whoever is asked from now on is in.
    scene.log_in(&browser);
    assert_eq!(browser.ask("/open/x", &[]).status, 200);
}

/// What a gateway before a restart obeyed, this one has never seen.
#[test]
fn a_logout_token_of_earlier_ends_no_session_that_began_since() {
    let scene = Scene::new();
    let browser = Browser::new(&scene.clinic, DOCTOR);
    let address = scene.clinic.door_of("back_channel").address;
    scene.log_in(&browser);
    assert_eq!(tell(address, TARGET, &logout(&scene, "1", 200)), 200);
    assert_eq!(browser.ask("/open/x", &[]).status, 200);
    assert_eq!(tell(address, TARGET, &logout(&scene, "2", 0)), 200);
    assert_eq!(browser.ask("/open/x", &[]).status, 401);
}

#[test]
fn a_log_out_that_could_not_be_stored_is_taken_again() {
    let scene = Scene::new();
    let browser = Browser::new(&scene.clinic, DOCTOR);
    let address = scene.clinic.door_of("back_channel").address;
    scene.log_in(&browser);
    let (file, aside) = (scene.clinic.prepared.path("state/sekisho.db"), scene.clinic.prepared.path("aside.db"));
    std::fs::rename(&file, &aside).expect("a store");
    let token = logout(&scene, "1", 0);
    for time in ["first", "second"] {
        assert_eq!(tell(address, TARGET, &token), 503, "the {time} time");
        assert_eq!(browser.ask("/open/x", &[]).status, 401, "it is over all the same");
    }
    std::fs::rename(&aside, &file).expect("a store");
    until("the store takes it", || (tell(address, TARGET, &token) == 200).then_some(()));
}

#[test]
fn silence_keeps_no_provider_out() {
    let scene = Scene::new();
    let browser = Browser::new(&scene.clinic, DOCTOR);
    let address = scene.clinic.door_of("back_channel").address;
    scene.log_in(&browser);
    let silent: Vec<TcpStream> = (0..400).map(|_| TcpStream::connect(address).expect("a connection")).collect();
    // A form that never ends is as silent.
    for mut stream in silent.iter().take(200) {
        let _ = write!(stream, "POST {TARGET} HTTP/1.1\r\nHost: gw\r\nContent-Length: 9\r\n");
        let _ = write!(stream, "Content-Type: application/x-www-form-urlencoded\r\n\r\nlogout");
    }
    assert_eq!(tell(address, TARGET, &logout(&scene, "1", 0)), 200);
    assert_eq!(browser.ask("/open/x", &[]).status, 401);
    drop(silent);
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

#[test]
fn the_back_channel_speaks_tls_where_it_is_told_to() {
    let scene = Scene::of(clinic().config(|config| {
        config.set("back_channel", "certificate_file", "tls/server.crt");
        config.set("back_channel", "key_file", "tls/server.key");
    }));
    let browser = Browser::new(&scene.clinic, DOCTOR);
    scene.log_in(&browser);
    let address = scene.clinic.door_of("back_channel").address;
    let token = logout(&scene, "1", 0);
    assert_ne!(tell(address, TARGET, &token), 200, "in plain text");
    assert_eq!(browser.ask("/open/x", &[]).status, 200);
    let curl = |ca: &str, more: &[&str]| {
        let ca = scene.clinic.prepared.path(ca);
        let output = std::process::Command::new("curl")
            .args(["-sS", "--max-time", "100", "-o", "/dev/null", "-w", "%{http_code}", "-d", &token])
            .args(["--cacert", ca.to_str().expect("UTF-8")])
            .args(more)
            .arg(format!("https://localhost:{}{TARGET}", address.port()))
            .args(["--connect-to", &format!("localhost::127.0.0.1:{}", address.port())])
            .output()
            .expect("curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(curl("tls/devices-ca.crt", &[]), "000", "it is nobody else");
    assert_eq!(curl("tls/servers-ca.crt", &["--tls-max", "1.1"]), "000");
    assert_eq!(browser.ask("/open/x", &[]).status, 200);
    assert_eq!(curl("tls/servers-ca.crt", &[]), "200");
    assert_eq!(browser.ask("/open/x", &[]).status, 401);
}

/// Nobody loses a session to one that cannot begin.
#[test]
fn a_session_stays_where_another_cannot_take_its_place() {
    let scene = Scene::new();
    let (browser, other) = (Browser::new(&scene.clinic, DOCTOR), Browser::new(&scene.clinic, WARD));
    let address = scene.clinic.door_of("back_channel").address;
    scene.log_in(&other);
    let of_another = |begun: &Begun| {
        let mut claims = scene.claims(begun);
        claims["sid"] = json!("s2");
        scene.gives(&scene.mint(&claims));
    };
    let (first, second) = (begin(&browser), begin(&browser));
    of_another(&first);
    let page = come(&browser, &scene.query(&first), &[]);
    assert_eq!(page.status, 303, "{page:?}\n{}", scene.clinic.gateway.said());
    let (file, aside) = (scene.clinic.prepared.path("state/sekisho.db"), scene.clinic.prepared.path("aside.db"));
    std::fs::rename(&file, &aside).expect("a store");
    assert_eq!(tell(address, TARGET, &logout(&scene, "1", 0)), 503, "the store takes nothing");
    of_another(&second);
    scene.refused(&come(&browser, &scene.query(&second), &[]), 503, "session-unavailable");
    assert_eq!(browser.ask("/open/x", &[]).status, 200, "the first session goes on");
    std::fs::rename(&aside, &file).expect("a store");
}
