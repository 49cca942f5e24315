//! R10, C14: the sessions of a real old-style application, Flask-Login's signed cookies, learnt without a change to it. `curl` is
//! the browser, and Chromium.

use std::process::Command;

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, repository};

use crate::c14_login::{Application, Browser};
use crate::login_guard::{ELSEWHERE, WARD, guarded};
use crate::session_bound::{ended, sessions};

const EHR: &str = r#"
[[route]]
name = "ehr"
path = "/ehr"
service = "clinical"
class = "clinical"
kind = "generic"
[[route]]
name = "ehr-login"
path = "/ehr/login"
service = "clinical"
class = "clinical"
kind = "generic"
[route.login]
account = { form = "username" }
success = { status = [302], redirect = "/ehr/home" }
failure = { status = [200] }
session = { cookies = ["session"] }
[[route]]
name = "ehr-logout"
path = "/ehr/logout"
service = "clinical"
class = "clinical"
kind = "generic"
session = { ends = ["POST"] }
"#;

fn start(application: &Application) -> Clinic {
    let mut prepared = guarded().prepare();
    prepared.registry(&["user", "add", "sakura-clinic/tanaka", "--role", "doctor"]);
    prepared.reconfigure(|config| {
        config.set_routes(EHR);
        config.set_service("backends", vec![format!("http://127.0.0.1:{}", application.port)]);
    });
    prepared.start()
}

fn home(browser: &Browser<'_>, cookie: &str) -> (String, String) {
    browser.ask("/ehr/home", &["-H", &format!("Cookie: session={cookie}")])
}

#[test]
fn the_sessions_of_an_old_application_are_bound_to_their_device() {
    let application = Application::start();
    let clinic = start(&application);
    let doctor = Browser::new(&clinic, DOCTOR);
    // The application remembers where a visitor wanted to go in the cookie that the session is in later.
    assert_eq!(doctor.ask("/ehr/home", &[]).0, "302");
    assert!(doctor.cookie("session").is_some(), "the application sets it before anybody has logged in");
    assert_eq!(doctor.login("Tanaka", "right horse"), "302");
    assert_eq!(doctor.ask("/ehr/home", &[]), ("200".to_owned(), "Welcome, tanaka".to_owned()));
    let cookie = doctor.cookie("session").expect("a session");
    let begun = sessions(&clinic, "begun").pop().expect("a record");
    assert_eq!((text(&begun, "user"), text(&begun, "device")), ("tanaka", "exam-1"));
    let name = text(&begun, "session").to_owned();
    clinic.wait_for_record("a request of the session", |record| {
        text(record, "route") == "ehr" && text(record, "session") == name && text(record, "user") == "tanaka"
    });

    let thief = Browser::new(&clinic, ELSEWHERE);
    let (status, answer) = home(&thief, &cookie);
    assert_eq!(status, "403", "{answer}");
    assert!(answer.contains("session-stolen"), "{answer}");
    ended(&clinic, &name, "stolen");
    clinic.wait_for_record("the refusal", |record| {
        (is(record, "request") || is(record, "intent"))
            && text(record, "reason") == "session-stolen"
            && text(record, "connection.site") == "ume-clinic"
    });
    // The application would take the cookie for ever: it is signed, and nothing else is known of it.
    assert_eq!(doctor.ask("/ehr/home", &[]).0, "302", "its owner is asked to log in");
    assert_eq!(doctor.login("tanaka", "right horse"), "302");
    assert_eq!(doctor.ask("/ehr/home", &[]).1, "Welcome, tanaka");
}

#[test]
fn logging_out_of_an_old_application_ends_the_cookie_it_would_still_take() {
    let application = Application::start();
    let clinic = start(&application);
    let doctor = Browser::new(&clinic, DOCTOR);
    assert_eq!(doctor.login("tanaka", "right horse"), "302");
    let cookie = doctor.cookie("session").expect("a session");
    let name = text(&sessions(&clinic, "begun").pop().expect("a record"), "session").to_owned();
    assert_eq!(doctor.ask("/ehr/logout", &["-X", "POST"]).0, "302");
    ended(&clinic, &name, "logged-out");
    assert_eq!(home(&doctor, &cookie).0, "302", "whoever kept it has nothing");
    assert_eq!(home(&Browser::new(&clinic, WARD), &cookie).0, "403");
}

#[test]
fn a_person_uses_an_old_application_in_a_real_browser() {
    let application = Application::start();
    let clinic = start(&application);
    let (doctor, thief) = (Browser::new(&clinic, DOCTOR), Browser::new(&clinic, ELSEWHERE));
    let output = Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
        .arg(repository().join("tests/application_page.py"))
        .arg(format!("https://localhost:{}", clinic.door.address.port()))
        .args([&doctor.files[0], &doctor.files[1], &thief.files[0], &thief.files[1]])
        .output()
        .expect("python3");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}\nThe gateway said:\n{}", clinic.gateway.said());
    let begun = sessions(&clinic, "begun");
    let [first, second] = &begun[..] else { panic!("two sessions: {begun:?}") };
    assert_eq!((text(first, "user"), text(second, "user")), ("tanaka", "tanaka"));
    ended(&clinic, text(first, "session"), "logged-out");
    ended(&clinic, text(second, "session"), "stolen");
    let outcomes: Vec<_> = clinic
        .records()
        .iter()
        .filter(|record| is(record, "login"))
        .map(|record| text(record, "outcome").to_owned())
        .collect();
    assert_eq!(outcomes, ["failure", "success", "success"]);
}
