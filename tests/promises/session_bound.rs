//! R10, R13, C14: a session that a backend begins is its user's at its device, and nobody else's. What another device presents is
//! refused and recorded; what was planted, rewritten or kept beyond its end does not reach the backend.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use gateway_tests::audit::{is, text};
use gateway_tests::{Answer, Backend, Builder, Clinic, DOCTOR, Prepared, Reply, Seen, Wire};
use serde_json::Value;

use crate::login_guard::{ELSEWHERE, FORM, WARD, guarded, password_of};

const ROUTES: &str = r#"
[[route]]
name = "login"
path = "/login"
service = "clinical"
class = "clinical"
kind = "generic"
[route.login]
account = { form = "username" }
success = { status = [302], redirect = "/home" }
failure = { status = [200] }
session = { cookies = ["sid"], token_pointer = "/token", users = { "s.yamada" = "yamada" }, unknown = "UNKNOWN" }
[[route]]
name = "app"
path = "/app"
service = "clinical"
class = "clinical"
kind = "generic"
[[route]]
name = "charts"
path = "/charts"
service = "clinical"
class = "clinical"
kind = "generic"
session = { require = true }
[[route]]
name = "logout"
path = "/logout"
service = "clinical"
class = "clinical"
kind = "generic"
session = { ends = ["POST"] }
[[route]]
name = "elsewhere"
path = "/fhir"
service = "clinical"
class = "clinical"
kind = "fhir"
session = { realm = "clinical" }
"#;

/// A clinic whose application begins sessions; `tanaka`, `suzuki` and `yamada` are registered users of the doctor's site.
pub fn clinic() -> Builder {
    guarded().config(|config| config.set_routes(&ROUTES.replace("UNKNOWN", "remove")))
}

pub fn prepared(builder: Builder) -> Prepared {
    let prepared = builder.prepare();
    for user in ["tanaka", "suzuki", "yamada"] {
        prepared.registry(&["user", "add", &format!("sakura-clinic/{user}"), "--role", "doctor"]);
    }
    prepared
}

pub fn start(builder: Builder) -> Clinic {
    let clinic = prepared(builder).start();
    serve(clinic.backend(), false);
    clinic
}

/// The value of the cookie `sid` as most backends read it.
fn sid_of(seen: &Seen) -> Option<String> {
    let cookies = seen.values("cookie").join("; ");
    let found = cookies.split(';').find_map(|pair| pair.trim().strip_prefix("sid=").map(str::to_owned))?;
    Some(found.trim_matches('"').replace("%2D", "-"))
}

fn field(seen: &Seen, name: &str) -> String {
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    body.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap_or_default().to_owned()
}

fn reply(status: &str, fields: &str, body: &str) -> Reply {
    Reply::raw(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()))
}

/// An application that lets `right` in and never forgets a session, logged out or not. With `keeps` a login goes on with the
/// cookie that was presented, as applications do that can be fixated.
pub fn serve(backend: &Backend, keeps: bool) {
    let users: Mutex<BTreeMap<String, String>> = Mutex::default();
    let count = AtomicUsize::new(0);
    backend.answers(move |seen| {
        let mut users = users.lock().expect("no panic");
        let sid = sid_of(seen);
        let next = || format!("secret-{}", count.fetch_add(1, Ordering::Relaxed));
        let set = |sid: &str| format!("Set-Cookie: sid={sid}; Path=/; HttpOnly\r\n");
        match (seen.method().as_str(), seen.target().as_str()) {
            ("POST", "/login") if password_of(seen) == "right" => {
                let kept = sid.filter(|_| keeps);
                let fields = if kept.is_some() { String::new() } else { "x".to_owned() };
                let sid = kept.unwrap_or_else(next);
                users.insert(sid.clone(), field(seen, "username"));
                let cookie = if fields.is_empty() { String::new() } else { set(&sid) };
                reply("302 Found", &format!("Location: /home\r\n{cookie}"), "")
            }
            ("POST", "/login") => reply("200 OK", "", "again"),
            ("POST", "/logout") => reply("200 OK", "", "bye"),
            ("GET", "/app/clear") => reply("200 OK", "Set-Cookie: sid=; Max-Age=0; Path=/\r\n", "bye"),
            ("GET", "/app/rotate") => {
                let new = next();
                let user = sid.and_then(|sid| users.get(&sid).cloned()).unwrap_or_default();
                users.insert(new.clone(), user);
                reply("200 OK", &set(&new), "rotated")
            }
            ("GET", "/app/form") => reply("200 OK", &set(&next()), "a form"),
            ("GET", "/app/stream") => {
                Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nonly so much".to_owned())
            }
            ("GET", "/app/slow") => reply("200 OK", "", "late").after(std::time::Duration::from_secs(600)),
            _ => {
                let user = sid.and_then(|sid| users.get(&sid).cloned()).unwrap_or_else(|| "nobody".to_owned());
                reply("200 OK", "", &user)
            }
        }
    });
}

/// Logs in; the cookie that the browser has from then on.
pub fn login(wire: &mut Wire, account: &str, cookie: Option<&str>) -> String {
    let mut fields = vec![FORM];
    fields.extend(cookie.map(|cookie| ("Cookie", cookie)));
    let answer = wire.request("POST", "/login", &fields, format!("username={account}&password=right").as_bytes());
    assert_eq!(answer.status, 302, "{answer:?}");
    set(&answer).unwrap_or_else(|| cookie.expect("a cookie").to_owned())
}

fn set(answer: &Answer) -> Option<String> {
    let value = answer.field("set-cookie");
    Some(value.split(';').next()?.to_owned()).filter(|pair| !pair.is_empty())
}

pub fn ask(wire: &mut Wire, target: &str, cookie: &str) -> Answer {
    wire.request("GET", target, &[("Cookie", cookie)], b"")
}

pub fn body(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// The records of sessions with that event.
pub fn sessions(clinic: &Clinic, event: &str) -> Vec<Value> {
    let fits = |record: &Value| is(record, "session") && text(record, "event") == event;
    clinic.records().into_iter().filter(fits).collect()
}

pub fn ended(clinic: &Clinic, session: &str, reason: &str) -> Value {
    clinic.wait_for_record(&format!("the end of {session}: {reason}"), |record| {
        is(record, "session")
            && text(record, "event") == "ended"
            && text(record, "session") == session
            && text(record, "reason") == reason
    })
}

fn asked(clinic: &Clinic, wire: &Wire) -> Value {
    clinic.asked_by(wire).pop().expect("a record")
}

/// Requests that the backend has seen.
fn count(clinic: &Clinic) -> usize {
    clinic.backend().seen().len()
}

#[test]
fn from_a_login_on_its_user_is_who_asks() {
    let clinic = start(clinic());
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(body(&wire.get("/app/x")), "nobody");
    let before = asked(&clinic, &wire);
    assert_eq!((text(&before, "user"), text(&before, "authentication")), ("dr-sato", "device"), "{before:#}");
    let answer = wire.get("/charts/1");
    assert_eq!((answer.status, &*answer.problem()), (401, "session-required"));

    let cookie = login(&mut wire, "Tanaka", None);
    // Durable before the answer: no waiting.
    let begun = sessions(&clinic, "begun").pop().expect("a record");
    assert_eq!((text(&begun, "user"), text(&begun, "account")), ("tanaka", "tanaka"), "{begun:#}");
    assert_eq!((text(&begun, "device"), text(&begun, "site")), ("exam-1", "sakura-clinic"));
    assert_eq!((text(&begun, "realm"), text(&begun, "origin")), ("clinical", "learnt"));
    assert_eq!(begun["factors"], serde_json::json!(["device", "password"]), "{begun:#}");

    for target in ["/app/x", "/charts/1", "/fhir/Patient/1"] {
        assert_eq!(body(&ask(&mut wire, target, &cookie)), "Tanaka", "{target}");
        let record = asked(&clinic, &wire);
        assert_eq!((text(&record, "user"), text(&record, "authentication")), ("tanaka", "user"), "{record:#}");
        assert_eq!(text(&record, "session"), text(&begun, "session"), "{record:#}");
    }
    // On another connection and over HTTP/2, where cookies come in pieces.
    let mut h2 = clinic.h2(DOCTOR);
    let answer = h2.request("GET", "/charts/2", &[("cookie", "a=b"), ("cookie", &cookie)], b"").expect("an answer");
    assert_eq!(body(&answer), "Tanaka");

    // A user whom the configuration names, and one whom nobody knows, who is bound all the same.
    let (mut ward, mut far) = (clinic.wire(WARD), clinic.wire(ELSEWHERE));
    let mapped = login(&mut ward, "s.yamada", None);
    assert_eq!(ask(&mut ward, "/charts/1", &mapped).status, 200);
    assert_eq!(text(&asked(&clinic, &ward), "user"), "yamada");
    let unknown = login(&mut far, "suzuki", None);
    assert_eq!(ask(&mut far, "/charts/1", &unknown).status, 200);
    assert_eq!(text(&asked(&clinic, &far), "user"), "dr-ito", "there is no such user at that site");
    assert_eq!(clinic.metric("sekisho_sessions", &[]), 3.0);
    assert!(!clinic.gateway.said().contains("secret-"), "diagnostics hold no secret");
    let raw = clinic.raw_records();
    assert!(!raw.iter().any(|record| record.windows(7).any(|part| part == b"secret-")), "nor does the log");
}

#[test]
fn a_stolen_cookie_is_refused_and_recorded_and_ends_the_session() {
    for thief in [WARD, ELSEWHERE] {
        let clinic = start(clinic());
        let mut owner = clinic.wire(DOCTOR);
        let cookie = login(&mut owner, "tanaka", None);
        let begun = sessions(&clinic, "begun").pop().expect("a record");
        let name = text(&begun, "session").to_owned();
        let mut wire = clinic.wire(thief);
        let before = count(&clinic);
        let value = cookie.strip_prefix("sid=").expect("its value");
        let escaped: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for (route, spelling) in [
            ("/app/x", cookie.clone()),
            ("/app/x", format!("sid=\"{value}\"")),
            ("/charts/1", format!("sid={escaped}")),
            ("/login", format!("a=b; {cookie}; c=d")),
        ] {
            let answer = ask(&mut wire, route, &spelling);
            assert_eq!((answer.status, &*answer.problem()), (403, "session-stolen"), "{spelling}");
        }
        assert_eq!(count(&clinic), before, "the backend saw none of it");
        let refused = asked(&clinic, &wire);
        assert_eq!(text(&refused, "reason"), "session-stolen", "{refused:#}");
        let stolen = clinic.wait_for_record("the theft", |record| text(record, "event") == "stolen");
        assert_eq!((text(&stolen, "session"), text(&stolen, "user")), (&*name, "tanaka"), "{stolen:#}");
        assert_eq!(text(&stolen, "device"), "exam-1", "whose it is");
        assert_eq!(clinic.metric("sekisho_sessions_stolen_total", &[]), 4.0);
        ended(&clinic, &name, "stolen");
        // Its owner has to log in again: the backend, which knows the cookie still, does not see it.
        assert_eq!(body(&ask(&mut owner, "/app/x", &cookie)), "nobody");
        assert_eq!(ask(&mut owner, "/charts/1", &cookie).problem(), "session-required");
        let again = login(&mut owner, "tanaka", Some(&cookie));
        assert_ne!(again, cookie);
        assert_eq!(body(&ask(&mut owner, "/charts/1", &again)), "tanaka");
    }
}

#[test]
fn a_planted_cookie_is_no_session_of_the_attacker() {
    // By default the backend does not see what it did not give to this device.
    let clinic = start(clinic());
    serve(clinic.backend(), true);
    let (mut attacker, mut victim) = (clinic.wire(ELSEWHERE), clinic.wire(DOCTOR));
    let planted = set(&attacker.get("/app/form")).expect("a cookie");
    let own = login(&mut victim, "tanaka", Some(&planted));
    assert_ne!(own, planted, "the backend gave another");
    assert_eq!(body(&ask(&mut attacker, "/app/x", &planted)), "nobody");
    // What it gave to the device itself before the login, it sees, and that becomes the session.
    let mut ward = clinic.wire(WARD);
    let form = set(&ward.get("/app/form")).expect("a cookie");
    assert_eq!(login(&mut ward, "suzuki", Some(&form)), form);
    assert_eq!(body(&ask(&mut ward, "/charts/1", &form)), "suzuki");
    assert_eq!(ask(&mut attacker, "/app/x", &form).problem(), "session-stolen");

    // Where it sees everything, the victim's login makes the planted cookie the victim's.
    let routes = ROUTES.replace("UNKNOWN", "forward");
    let clinic = start(guarded().config(|config| config.set_routes(&routes)));
    serve(clinic.backend(), true);
    let (mut attacker, mut victim) = (clinic.wire(ELSEWHERE), clinic.wire(DOCTOR));
    assert_eq!(body(&ask(&mut attacker, "/app/x", "sid=planted")), "nobody");
    assert_eq!(login(&mut victim, "tanaka", Some("sid=planted")), "sid=planted");
    assert_eq!(body(&ask(&mut victim, "/charts/1", "sid=planted")), "tanaka");
    assert_eq!(ask(&mut attacker, "/app/x", "sid=planted").problem(), "session-stolen");
}

#[test]
fn a_log_out_is_learnt() {
    let clinic = start(clinic());
    let mut wire = clinic.wire(DOCTOR);
    for (number, out) in ["by its route", "by its answer"].into_iter().enumerate() {
        let cookie = login(&mut wire, "tanaka", None);
        let name = text(&sessions(&clinic, "begun")[number], "session").to_owned();
        assert_eq!(body(&ask(&mut wire, "/charts/1", &cookie)), "tanaka");
        assert_eq!(ask(&mut wire, "/logout", &cookie).status, 200, "a GET is none");
        assert_eq!(ask(&mut wire, "/charts/1", &cookie).status, 200);
        let answer = if number == 0 {
            wire.request("POST", "/logout", &[("Cookie", &cookie)], b"")
        } else {
            ask(&mut wire, "/app/clear", &cookie)
        };
        assert_eq!(body(&answer), "bye", "{out}");
        assert_eq!(ask(&mut wire, "/charts/1", &cookie).problem(), "session-required", "{out}");
        assert_eq!(body(&ask(&mut wire, "/app/x", &cookie)), "nobody", "the backend would still take it");
        ended(&clinic, &name, "logged-out");
        assert_eq!(ask(&mut clinic.wire(WARD), "/app/x", &cookie).problem(), "session-stolen", "nor may others try");
    }
    // Whoever is logged out by their answer is, even if the gateway is killed then.
    let cookie = login(&mut wire, "tanaka", None);
    wire.request("POST", "/logout", &[("Cookie", &cookie)], b"");
    let mut clinic = clinic;
    clinic.kill();
    let clinic = clinic.stop().start();
    serve(clinic.backend(), false);
    assert_eq!(ask(&mut clinic.wire(DOCTOR), "/charts/1", &cookie).problem(), "session-required");
}

#[test]
fn a_cookie_that_is_given_anew_is_the_same_session() {
    let clinic = start(clinic());
    let mut wire = clinic.wire(DOCTOR);
    let first = login(&mut wire, "tanaka", None);
    let second = set(&ask(&mut wire, "/app/rotate", &first)).expect("a cookie");
    assert_ne!(first, second);
    // Requests with the first one may be under way.
    for cookie in [&second, &first, &second] {
        assert_eq!(body(&ask(&mut wire, "/charts/1", cookie)), "tanaka");
    }
    assert_eq!(sessions(&clinic, "begun").len(), 1);
    let mut last = second.clone();
    for _ in 0..12 {
        last = set(&ask(&mut wire, "/app/rotate", &last)).expect("a cookie");
    }
    assert_eq!(body(&ask(&mut wire, "/charts/1", &last)), "tanaka");
    assert_eq!(ask(&mut wire, "/charts/1", &first).problem(), "session-required", "too old");
    assert_eq!(ask(&mut clinic.wire(WARD), "/app/x", &first).problem(), "session-stolen");
    assert_eq!(ask(&mut wire, "/charts/1", &last).problem(), "session-required", "which ended it");
}

#[test]
fn a_cookie_with_two_readings_is_refused() {
    let clinic = start(clinic());
    let mut wire = clinic.wire(DOCTOR);
    let cookie = login(&mut wire, "tanaka", None);
    let before = count(&clinic);
    for fields in [
        vec![("Cookie", format!("{cookie}; sid=other"))],
        vec![("Cookie", cookie.clone()), ("Cookie", "sid=other".to_owned())],
        vec![("Cookie", format!("a=\"b; {cookie}\"; sid=other"))],
        vec![("Cookie", format!("{}; SID=other", cookie))],
        vec![("Cookie", format!("a=1, {cookie}"))],
        vec![("Cookie", "sid".to_owned())],
        vec![("Cookie", "sid[0]=a".to_owned())],
        vec![("Cookie", "s%69d=a".to_owned())],
        vec![("Cookie", format!("{cookie}\"x"))],
    ] {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = wire.request("GET", "/app/x", &fields, b"");
        assert_eq!((answer.status, &*answer.problem()), (400, "session-ambiguous"), "{fields:?}");
    }
    assert_eq!(count(&clinic), before);
    assert_eq!(body(&ask(&mut wire, "/charts/1", &format!("{cookie}; x=1; {cookie}"))), "tanaka", "one value twice");
}
