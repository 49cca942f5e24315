//! R23 (代行): a user acts for another by an administrator's leave alone. Both names are in session, policy and record; nobody's
//! own roles grow by it; and once the leave is gone, so is what was done by it, within a second.

use std::process::Command;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_tests::audit::{is, text};
use gateway_tests::idp::{Idp, claims};
use gateway_tests::{Builder, Clinic, DOCTOR, Reply, Wire, until};
use serde_json::{Value, json};

use crate::account::{self, Browser, GOOD, TANAKA, WARD, ask as command, first_password, now_s};
use crate::session_bound::sessions;

/// Whom the clerk may act for.
const SATO: &str = "sakura-clinic/dr-sato";

/// Orders are for doctors, and for clerks who act for one. Charts are for doctors themselves.
const POLICY: &str = r#"
@id("open")
permit(principal in Sekisho::Role::"clerk", action, resource in Sekisho::InformationClass::"open");
@id("doctors")
permit(principal in Sekisho::Role::"doctor", action, resource);
@id("on-behalf")
permit(principal in Sekisho::Role::"clerk", action, resource in Sekisho::InformationClass::"orders")
when { context has acting_for && context.acting_for in Sekisho::Role::"doctor" };
"#;

fn clinic() -> Clinic {
    let route = |class: &str| {
        format!(
            "[[route]]\nname = \"{class}\"\npath = \"/{class}\"\nservice = \"clinical\"\nclass = \"{class}\"\nkind = \"generic\"\n\
             rules = [{{ methods = [\"GET\"], path = \"/**\", action = \"read\", effect = \"read-only\" }}]\n"
        )
    };
    let builder: Builder = account::clinic().device_alone("sakura-clinic/desk-1", &[]).policy("acting.cedar", POLICY);
    let builder = builder.config(|config| config.set_routes(&["open", "orders", "charts"].map(route).concat()));
    let prepared = builder.prepare();
    prepared.registry(&["user", "add", TANAKA, "--role", "clerk"]);
    let clinic = prepared.start();
    let first = first_password(&clinic, TANAKA);
    let browser = Browser::new(&clinic, DOCTOR);
    browser.change_first("tanaka", &first, GOOD);
    browser.log_out();
    clinic.backend().answers(|seen| {
        if seen.target().ends_with("/stream") {
            return Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nonly so much".to_owned());
        }
        Reply::new(200, "ok")
    });
    clinic
}

/// The clerk at the desk, logged in.
fn clerk(clinic: &Clinic) -> Browser<'_> {
    let desk = Browser::new(clinic, "sakura-clinic/desk-1");
    assert_eq!(desk.login("tanaka", GOOD).status, 303);
    desk
}

fn act(browser: &Browser<'_>, acts_for: &str) -> account::Page {
    let page = browser.get("/.sekisho/act");
    browser.post(&page, "/.sekisho/act", &[("for", acts_for)])
}

/// Waits until the clerk may act for the doctor, and does.
fn acts(browser: &Browser<'_>) -> account::Page {
    until("the leave to be known", || {
        browser.get("/.sekisho/act").body.contains("<option value=\"dr-sato\"").then_some(())
    });
    act(browser, "dr-sato")
}

fn recorded(clinic: &Clinic, page: &account::Page) -> Value {
    let id = page.field("x-request-id").to_owned();
    clinic.wait_for_record("the request", |record| is(record, "request") && text(record, "request") == id)
}

#[test]
fn nobody_acts_without_leave() {
    let clinic = clinic();
    let desk = clerk(&clinic);
    let page = desk.get("/.sekisho/act");
    assert!(page.status == 200 && page.body.contains("You may act for nobody"), "{page:?}");
    let token = desk.get("/.sekisho/login?return=/").token();
    for name in ["dr-sato", "dr-ito", "tanaka", "nobody-at-all"] {
        let page = desk.post_raw("/.sekisho/act", &[("csrf", &token), ("for", name)], &[]);
        assert_eq!(page.status, 403, "{name}: {page:?}");
        assert!(page.alert().contains("may not act for that user"), "{page:?}");
        assert_eq!(text(&recorded(&clinic, &page), "reason"), "acting-not-granted");
    }
    // Nor with somebody else's form, or for a name that is none.
    assert_eq!(desk.post_raw("/.sekisho/act", &[("csrf", "x"), ("for", "dr-sato")], &[]).status, 403);
    assert_eq!(desk.post_raw("/.sekisho/act", &[("csrf", &token), ("for", "a b")], &[]).status, 400);
    assert_eq!(desk.post_raw("/.sekisho/act", &[("csrf", &token)], &[]).status, 400);
    assert_eq!(desk.get("/orders/1").status, 403);
    assert!(sessions(&clinic, "acts-for").is_empty());
    let stranger = Browser::new(&clinic, WARD);
    assert_eq!(stranger.get("/.sekisho/act").field("location"), "/.sekisho/login?return=/.sekisho/act");
}

#[test]
fn both_names_are_in_session_policy_and_record() {
    let clinic = clinic();
    let desk = clerk(&clinic);
    let before = recorded(&clinic, &desk.get("/open/1"));
    assert_eq!((text(&before, "user"), before.get("acting_for")), ("tanaka", None), "{before:#}");
    clinic.registry(&["user", "delegate", "add", TANAKA, "dr-sato"]);
    let page = acts(&desk);
    assert_eq!(page.status, 303, "{page:?}");
    assert!(page.cookie("__Host-sekisho").is_some(), "another secret for the same session");
    let told = sessions(&clinic, "acts-for").pop().expect("it is durable before the answer");
    assert_eq!((text(&told, "user"), text(&told, "acting_for")), ("tanaka", "dr-sato"), "{told:#}");
    assert_eq!(text(&told, "request"), page.field("x-request-id"));
    assert!(desk.get("/.sekisho/login").body.contains("Acting for: dr-sato"));

    let page = desk.get("/orders/1");
    assert_eq!(page.status, 200, "{page:?}");
    let record = recorded(&clinic, &page);
    assert_eq!((text(&record, "user"), text(&record, "acting_for")), ("tanaka", "dr-sato"), "{record:#}");
    assert_eq!((&record["roles"], &record["policies"]), (&json!(["clerk"]), &json!(["on-behalf"])), "{record:#}");
    // The backend is told as well.
    let token = clinic.backend().last().values("sekisho-identity").pop().expect("an identity");
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("claims")).expect("base64url");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    assert_eq!((&claims["user"], &claims["acting_for"]), (&json!("tanaka"), &json!("dr-sato")), "{claims}");
    assert_eq!(claims["roles"], json!(["clerk"]));

    // No policy lets a clerk see charts for a doctor: acting alone gives nothing.
    let page = desk.get("/charts/1");
    assert_eq!((page.status, text(&recorded(&clinic, &page), "acting_for")), (403, "dr-sato"), "{page:?}");
    until("the store to know", || {
        clinic.registry(&["session", "list", "--json"]).stdout.contains("\"acting_for\": \"dr-sato\"").then_some(())
    });

    assert_eq!(act(&desk, "").status, 303);
    let told = sessions(&clinic, "acts-no-more").pop().expect("a record");
    assert_eq!((text(&told, "user"), text(&told, "acting_for")), ("tanaka", "dr-sato"), "{told:#}");
    let page = desk.get("/orders/1");
    assert_eq!((page.status, recorded(&clinic, &page).get("acting_for")), (403, None));
    assert!(desk.is_in());
}

/// What ends a leave, and whether the clerk is still logged in afterwards.
const WAYS: &[&[&str]] = &[
    &["user", "delegate", "remove", TANAKA, "dr-sato"],
    &["user", "suspend", SATO],
    &["user", "delegate", "add", TANAKA, "dr-sato", "--until", "2020-01-01T00:00:00Z"],
];

#[test]
fn what_is_done_for_another_ends_with_the_leave() {
    let clinic = clinic();
    for way in WAYS {
        let what = way.join(" ");
        clinic.registry(&["user", "delegate", "add", TANAKA, "dr-sato"]);
        let desk = clerk(&clinic);
        let page = acts(&desk);
        let cookie = format!("__Host-sekisho={}", page.cookie("__Host-sekisho").expect("a cookie"));
        let stream = |target: &str| -> Wire {
            let mut wire = clinic.wire("sakura-clinic/desk-1");
            wire.send_request("GET", target, &[("Cookie", &cookie)], b"");
            assert!(wire.reads_until(b"only so much"), "the stream begins");
            wire
        };
        let mut streaming = stream("/orders/stream");
        let count = sessions(&clinic, "acts-no-more").len();
        clinic.registry(way);
        let since = Instant::now();
        streaming.closes();
        println!("{what}: cut {:?} after the command", since.elapsed());
        let told = until("the record", || sessions(&clinic, "acts-no-more").get(count).cloned());
        assert_eq!((text(&told, "user"), text(&told, "acting_for")), ("tanaka", "dr-sato"), "{what}: {told:#}");
        assert_eq!(desk.get("/orders/1").status, 403, "{what}");
        let page = desk.get("/open/1");
        assert_eq!((page.status, recorded(&clinic, &page).get("acting_for")), (200, None), "{what}: {page:?}");
        assert!(desk.is_in() && !desk.get("/.sekisho/act").body.contains("dr-sato"), "{what}");
        desk.log_out();
        if way.contains(&"suspend") {
            clinic.registry(&["user", "resume", SATO]);
        }
    }
}

/// A leave ends by itself, and a restart of the gateway forgets neither it nor its end.
#[test]
fn a_leave_ends_at_its_time() {
    let clinic = clinic();
    let until_s = now_s() + 20;
    let time =
        Command::new("date").args(["-u", "-d", &format!("@{until_s}"), "+%Y-%m-%dT%H:%M:%SZ"]).output().expect("date");
    let time = String::from_utf8(time.stdout).expect("a time").trim().to_owned();
    clinic.registry(&["user", "delegate", "add", TANAKA, "dr-sato", "--until", &time]);
    {
        let desk = clerk(&clinic);
        if now_s() + 5 < until_s {
            acts(&desk);
        }
        until("the end", || (now_s() > until_s && desk.get("/orders/1").status == 403).then_some(()));
        // From here on it is the clerk alone.
        until("it to be over", || (recorded(&clinic, &desk.get("/open/1")).get("acting_for").is_none()).then_some(()));
        assert!(!desk.get("/.sekisho/act").body.contains("dr-sato"));
    }
    clinic.registry(&["user", "delegate", "add", TANAKA, "dr-sato"]);
    let jar = {
        let desk = clerk(&clinic);
        let page = acts(&desk);
        until("the store to know", || {
            clinic.registry(&["session", "list", "--json"]).stdout.contains("\"acting_for\": \"dr-sato\"").then_some(())
        });
        format!("__Host-sekisho={}", page.cookie("__Host-sekisho").expect("a cookie"))
    };
    let prepared = clinic.stop();
    let clinic = prepared.start();
    let mut wire = clinic.wire("sakura-clinic/desk-1");
    let ask = |wire: &mut Wire| wire.request("GET", "/orders/1", &[("Cookie", &jar)], b"").status;
    assert_eq!(ask(&mut wire), 200);
    clinic.registry(&["user", "delegate", "remove", TANAKA, "dr-sato"]);
    until("the end after a restart", || (ask(&mut clinic.wire("sakura-clinic/desk-1")) == 403).then_some(()));
}

/// RFC 8693: a provider's word that somebody acts for its user is good where the registry has that leave.
#[test]
fn a_token_of_somebody_who_acts_needs_leave_too() {
    let idp = Idp::start();
    let clinic = crate::token_jwt::clinic(&idp, "two_factor_amr = [\"otp\"]").start();
    crate::token_jwt::wait_for_keys(&clinic);
    clinic.registry(&["user", "add", TANAKA, "--role", "nurse"]);
    let identity = clinic.identity(DOCTOR);
    let token = |act: Value| {
        let mut claims = claims("dr-sato", &identity);
        claims["act"] = act;
        claims["amr"] = json!(["otp"]);
        idp.mint(&claims)
    };
    let mut wire = clinic.wire(DOCTOR);
    let mut ask = |act: Value| crate::token_jwt::ask(&mut wire, "/fhir/Patient/1", &token(act));
    let pointer = json!({"sub": "tanaka"});
    until("the nurse to be known", || (ask(pointer.clone()).problem() == "acting-not-granted").then_some(()));
    clinic.registry(&["user", "delegate", "add", TANAKA, "dr-sato"]);
    let answer = until("the leave to be known", || Some(ask(pointer.clone())).filter(|answer| answer.status == 200));
    let id = answer.field("x-request-id").to_owned();
    let record = clinic.wait_for_record("the request", |record| is(record, "request") && text(record, "request") == id);
    assert_eq!((text(&record, "user"), text(&record, "acting_for")), ("tanaka", "dr-sato"), "{record:#}");
    assert_eq!((&record["roles"], text(&record, "authentication")), (&json!(["nurse"]), "user"), "{record:#}");
    // What is under way ends with the leave.
    clinic.backend().answers(|_| {
        gateway_tests::Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nonly so much".to_owned())
    });
    let mut streaming = clinic.wire(DOCTOR);
    let bearer = format!("Bearer {}", token(pointer.clone()));
    streaming.send_request("GET", "/fhir/Patient/1", &[("Authorization", &bearer)], b"");
    assert!(streaming.reads_until(b"only so much"), "the stream begins");
    clinic.registry(&["user", "delegate", "remove", TANAKA, "dr-sato"]);
    streaming.closes();
    until("the end of the leave", || (ask(pointer.clone()).problem() == "acting-not-granted").then_some(()));
    for bad in [
        json!("tanaka"),
        json!({}),
        json!({"sub": "a b"}),
        json!({"sub": "tanaka", "iss": "https://elsewhere.example"}),
    ] {
        let answer = ask(bad.clone());
        assert_eq!((answer.status, &*answer.problem()), (401, "token-invalid"), "{bad}: {answer:?}");
    }
}

#[test]
fn leaves_are_the_registrys_and_every_change_is_recorded() {
    let clinic = clinic();
    let run = |arguments: &[&str]| command(&clinic, &[&["user", "delegate"], arguments].concat(), |_| String::new());
    for (arguments, why) in [
        (&["add", TANAKA, "tanaka"][..], "cannot act for themselves"),
        (&["add", TANAKA, "dr-sate"], "no user"),
        (&["add", "sakura-clinic/nobody", "dr-sato"], "no user"),
        (&["add", TANAKA, "dr-sato", "--until", "tomorrow"], "it must be a time"),
        (&["remove", TANAKA, "dr-sato"], "no delegation"),
    ] {
        let output = run(arguments);
        assert!(output.code != Some(0) && output.stderr.contains(why), "{arguments:?}: {output:?}");
    }
    assert_eq!(run(&["add", TANAKA, "dr-sato", "--until", "2099-03-31T23:59:59+09:00"]).code, Some(0));
    let listed = run(&["list", "--json"]).stdout;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["delegations"][0]["acts_for"], "dr-sato", "{listed}");
    assert!(run(&["list", SATO]).stdout.contains("2099-03-31T14:59:59Z"));
    assert!(!run(&["list", "sakura-clinic/dr-ito"]).stdout.contains("dr-sato"));
    assert_eq!(run(&["remove", TANAKA, "dr-sato"]).code, Some(0));
    until("the records of both changes", || {
        let of = |record: &Value| is(record, "registry-change") && record.to_string().contains("acts_for");
        (clinic.records().iter().filter(|record| of(record)).count() == 2).then_some(())
    });
}
