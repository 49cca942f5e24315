//! R8: `sekisho check --probe` tells of backends whose answer to a wrong password is taken for that to a right one, so that
//! nothing would ever be counted.

use gateway_tests::{Clinic, Output, Reply, Seen, sekisho};
use serde_json::Value;

use crate::login_guard::{guarded, password_of};

fn probe(clinic: &Clinic) -> Output {
    let config = clinic.prepared.path("sekisho.toml");
    sekisho(&["check", "--probe", config.to_str().expect("an UTF-8 path")])
}

/// What came in, by path.
fn asked(clinic: &Clinic, path: &str) -> Seen {
    let seen = clinic.backend().seen();
    let mut found = seen.into_iter().filter(|seen| seen.target().split('?').next() == Some(path));
    let one = found.next().unwrap_or_else(|| panic!("nothing came for {path}"));
    assert!(found.next().is_none(), "one attempt is enough: {path}");
    one
}

#[test]
fn a_backend_that_says_yes_to_everything_is_warned_of() {
    let clinic = guarded().start();
    clinic.backend().answers(|seen| match seen.target().split('?').next() {
        Some("/login") => Reply::raw("HTTP/1.1 302 Found\r\nLocation: /home\r\nContent-Length: 0\r\n\r\n"),
        Some("/query") => Reply::raw("HTTP/1.1 200 OK\r\nX-Login-Status: OK\r\nContent-Length: 0\r\n\r\n"),
        _ => Reply::new(200, "{\"ok\": true}"),
    });
    let probed = probe(&clinic);
    // It is a warning: the configuration is one that starts.
    assert_eq!(probed.code, Some(0), "{probed:?}");
    let warnings: Vec<_> = probed.stdout.lines().filter(|line| line.contains("warning: ")).collect();
    for (line, route) in warnings.iter().zip(["login", "json", "basic", "query"]) {
        assert!(line.contains(&format!("route `{route}`")) && line.contains("sekisho.toml:"), "{line}");
    }
    assert_eq!(warnings.len(), 4, "{}", probed.stdout);
    // What was asked is a login, of an account that nobody has.
    let form = asked(&clinic, "/login");
    let body = String::from_utf8_lossy(&form.body).into_owned();
    assert!(form.method() == "POST" && body.starts_with("username=sekisho-probe-"), "{body}");
    assert!(password_of(&form).starts_with("sekisho-probe-"), "{body}");
    let json: Value = serde_json::from_slice(&asked(&clinic, "/json").body).expect("JSON");
    assert!(json["user"].as_str().is_some_and(|user| user.starts_with("sekisho-probe-")), "{json}");
    assert!(json["password"].is_string(), "{json}");
    assert!(asked(&clinic, "/basic").values("authorization")[0].starts_with("Basic "));
    assert!(asked(&clinic, "/query").target().starts_with("/query?u=sekisho-probe-"));
}

#[test]
fn a_backend_that_says_no_is_fine_and_one_that_says_neither_is_told() {
    let clinic = guarded().start();
    clinic.backend().answers(|seen| match seen.target().as_str() {
        "/login" => Reply::new(418, "neither"),
        "/basic" => Reply::new(401, "no"),
        _ => Reply::new(200, "{\"ok\": false}"),
    });
    let probed = probe(&clinic);
    assert_eq!(probed.code, Some(0), "{probed:?}");
    let warnings: Vec<_> = probed.stdout.lines().filter(|line| line.contains("warning: ")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("route `login`"), "{}", probed.stdout);
    assert!(warnings[0].contains("neither `success` nor `failure`"), "{}", probed.stdout);
    assert!(probed.stdout.lines().any(|line| line.ends_with("sekisho.toml: ok")), "{}", probed.stdout);
}

#[test]
fn a_backend_that_is_not_there_cannot_be_probed() {
    let clinic = guarded().start();
    clinic.backend().answers(|_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort").then_close());
    let probed = probe(&clinic);
    assert_eq!(probed.code, Some(1), "{probed:?}");
    let told: Vec<_> = probed.stdout.lines().filter(|line| line.contains("cannot be probed: ")).collect();
    assert_eq!(told.len(), 4, "{}", probed.stdout);
    assert!(told.iter().all(|line| line.contains("no whole answer")), "{}", probed.stdout);
}
