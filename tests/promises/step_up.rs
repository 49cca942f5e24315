//! R9: a policy may ask for a stronger or fresher authentication. A program is told what is missing (RFC 9457, RFC 9470), a browser
//! is sent to the login page, proves it and comes back in the same session; who cannot is told so, and nobody goes round in circles.

use std::process::Command;

use gateway_tests::audit::{is, text};
use gateway_tests::idp::{Idp, claims, now};
use gateway_tests::{Builder, Clinic, DOCTOR, repository, until};
use serde_json::{Value, json};

use crate::account::{self, Authenticator, Browser, GOOD, TANAKA, ask as command, start, with_account as account_in};
use crate::oidc_attacks::{Begun, Scene, come};
use crate::session_bound::{self, sessions};

/// A terminal that is nobody's.
const DESK: &str = "sakura-clinic/desk-1";

/// How old a login may be for `/fresh`, seconds.
const FRESH_S: u64 = 8;

/// A place for each class of information: what is open, what needs two factors, what needs a fresh login, and what nobody gets.
fn routes() -> String {
    let route = |class: &str| {
        format!(
            "[[route]]\nname = \"{class}\"\npath = \"/{class}\"\nservice = \"clinical\"\nclass = \"{class}\"\nkind = \"generic\"\n\
             rules = [{{ methods = [\"GET\"], path = \"/**\", action = \"read\", effect = \"read-only\" }}, \
             {{ methods = [\"POST\"], path = \"/**\", action = \"create\" }}]\n"
        )
    };
    ["open", "two", "fresh", "never"].map(route).concat()
}

const POLICY: &str = r#"
@id("open")
permit(principal in Sekisho::Role::"doctor", action, resource in Sekisho::InformationClass::"open");
@id("two")
permit(principal in Sekisho::Role::"doctor", action, resource in Sekisho::InformationClass::"two")
when { context.authentication_level >= 3 };
@id("fresh")
permit(principal in Sekisho::Role::"doctor", action, resource in Sekisho::InformationClass::"fresh")
when { context has authentication_age && context.authentication_age <= 8 };
"#;

fn clinic() -> Builder {
    let builder = account::clinic().device_alone(DESK, &[]).policy("step-up.cedar", POLICY);
    builder.config(|config| config.set_routes(&routes()))
}

const HTML: [&str; 2] = ["-H", "Accept: text/html,application/xhtml+xml,*/*;q=0.8"];

fn problem(page: &account::Page) -> Value {
    serde_json::from_str(&page.body).unwrap_or_else(|error| panic!("{error}: {page:?}"))
}

/// The names of the factors of a record.
fn factors(record: &Value) -> Vec<&str> {
    record["factors"].as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

fn recorded(clinic: &Clinic, page: &account::Page) -> Value {
    let id = page.field("x-request-id").to_owned();
    clinic.wait_for_record("the request", |record| is(record, "request") && text(record, "request") == id)
}

#[test]
fn a_program_is_told_what_is_missing() {
    let clinic = start(clinic());
    let doctor = Browser::new(&clinic, DOCTOR);
    let page = doctor.get("/two/1");
    let told = problem(&page);
    assert_eq!((page.status, &told["type"]), (401, &json!("urn:sekisho:refusal:step-up-required")), "{page:?}");
    assert_eq!((&told["level"], &told["required_level"]), (&json!("device"), &json!("two-factor")));
    assert_eq!((told.get("max_age"), &told["login"]), (None, &json!("/.sekisho/login")));
    let record = recorded(&clinic, &page);
    assert_eq!((text(&record, "decision"), text(&record, "reason")), ("deny", "step-up-required"), "{record:#}");
    assert_eq!(record["status"], 401);
    let told = problem(&doctor.get("/fresh/1"));
    assert_eq!((&told["required_level"], &told["max_age"]), (&json!("user"), &json!(FRESH_S)), "{told}");
    // Whoever changes something, or takes anything, is no browser that looks at a page.
    assert_eq!(doctor.ask("/two/1", &[&HTML[..], &["--data", "x"]].concat()).status, 401);
    assert_eq!(doctor.ask("/two/1", &["-H", "Accept: */*"]).status, 401);
    // What no login would change is said as before.
    let page = doctor.ask("/never/1", &HTML);
    assert_eq!((page.status, &problem(&page)["type"]), (403, &json!("urn:sekisho:refusal:policy-no-permit")));
    // A terminal that is nobody's waits for somebody.
    let desk = Browser::new(&clinic, DESK);
    let told = problem(&desk.get("/open/1"));
    assert_eq!((&told["level"], &told["required_level"]), (&json!("device"), &json!("user")), "{told}");
    assert_eq!(problem(&desk.get("/never/1"))["type"], "urn:sekisho:refusal:policy-no-permit");
    assert!(clinic.backend().seen().is_empty(), "nothing of it reached the backend");
}

#[test]
fn a_browser_logs_in_and_comes_back() {
    let clinic = account_in(clinic());
    let authenticator = Authenticator::give(&clinic, &[]);
    let desk = Browser::new(&clinic, DESK);
    let page = desk.ask("/open/1?x=1&y=%20", &HTML);
    assert_eq!(page.status, 303, "{page:?}");
    let login = page.field("location").to_owned();
    assert_eq!(login, "/.sekisho/login?return=/open/1%3Fx%3D1%26y%3D%2520&level=user");
    let record = recorded(&clinic, &page);
    assert_eq!((text(&record, "decision"), text(&record, "reason")), ("deny", "step-up-required"), "{record:#}");
    let page = desk.get(&login);
    let fields = [("account", "tanaka"), ("password", GOOD), ("return", "/open/1?x=1&y=%20"), ("level", "user")];
    assert!(page.body.contains("name=\"level\" value=\"user\""), "{page:?}");
    let page = desk.post(&page, "/.sekisho/login", &fields);
    assert_eq!((page.status, page.field("location")), (303, "/.sekisho/login/factor"), "{page:?}");
    let page = desk.code(&authenticator.code(30));
    assert_eq!((page.status, page.field("location")), (303, "/open/1?x=1&y=%20"), "{page:?}");
    assert_eq!(desk.get("/open/1?x=1&y=%20").status, 200);
    assert_eq!(desk.ask("/two/1", &HTML).status, 200, "two factors were proved");
    // Nobody is sent to another host, nor with another reading.
    for bad in
        ["return=//evil.example&level=user", "return=/&return=/", "return=/&level=root", "level=user&age=x", "next=/"]
    {
        assert_eq!(desk.get(&format!("/.sekisho/login?{bad}")).status, 400, "{bad}");
    }
}

#[test]
fn whoever_has_no_second_factor_is_told_so() {
    let clinic = account_in(clinic());
    let desk = Browser::new(&clinic, DESK);
    let first = desk.ask("/two/1", &HTML);
    let page = desk.get(first.field("location"));
    let fields = [("account", "tanaka"), ("password", GOOD), ("return", "/two/1"), ("level", "two-factor")];
    let page = desk.post(&page, "/.sekisho/login", &fields);
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.body.contains("your account has none") && !page.body.contains("<form"), "{page:?}");
    assert!(desk.is_in(), "the login itself succeeded");
    let page = desk.ask("/two/1", &HTML);
    assert_eq!(page.field("location"), "/.sekisho/login?return=/two/1&level=two-factor");
    let page = desk.get(page.field("location"));
    assert!(page.status == 200 && page.body.contains("your account has none"), "{page:?}");
    assert_eq!(desk.get("/two/1").status, 401);

    // With one, the same session is raised.
    let authenticator = Authenticator::give(&clinic, &[]);
    let begun = sessions(&clinic, "begun").pop().expect("a session");
    let page = desk.get("/.sekisho/login?return=/two/1&level=two-factor");
    assert!(!page.body.contains("name=\"account\"") && page.body.contains("tanaka"), "{page:?}");
    let proves = |password: &str| {
        let fields = [("password", password), ("return", "/two/1"), ("level", "two-factor")];
        desk.post(&desk.get("/.sekisho/login?return=/two/1&level=two-factor"), "/.sekisho/login", &fields)
    };
    let wrong = proves("not the password");
    assert_eq!(wrong.status, 403, "{wrong:?}");
    assert!(wrong.body.contains("name=\"return\" value=\"/two/1\"") && !wrong.body.contains("name=\"account\""));
    assert_eq!(proves(GOOD).field("location"), "/.sekisho/login/factor");
    assert_eq!(desk.get("/two/1").status, 401, "half of it is nothing");
    let page = desk.code(&authenticator.code(30));
    assert_eq!((page.status, page.field("location")), (303, "/two/1"), "{page:?}");
    assert!(page.cookie("__Host-sekisho").is_some(), "another secret for the same session");
    assert_eq!(desk.get("/two/1").status, 200);
    let raised = sessions(&clinic, "raised").pop().expect("it is durable before the answer");
    assert_eq!(text(&raised, "session"), text(&begun, "session"), "{raised:#}");
    assert_eq!((text(&raised, "user"), text(&raised, "authentication")), ("tanaka", "two-factor"));
    assert_eq!((factors(&raised), text(&raised, "request")), (vec!["password", "totp"], page.field("x-request-id")));
    assert_eq!(sessions(&clinic, "begun").len(), 2, "the first password's, and this one's");
}

/// The guard counts a step-up as any attempt.
#[test]
fn guessing_at_a_step_up_locks() {
    let clinic = account_in(clinic().config(|config| config.set("login", "failures", 3)));
    let desk = Browser::new(&clinic, DESK);
    assert_eq!(desk.login("tanaka", GOOD).status, 303);
    let login = "/.sekisho/login?return=/fresh/1&level=user&age=8";
    for _ in 0..3 {
        assert_eq!(desk.post(&desk.get(login), "/.sekisho/login", &[("password", "not this one at all")]).status, 403);
    }
    let page = desk.post(&desk.get(login), "/.sekisho/login", &[("password", GOOD)]);
    assert_eq!(page.status, 429, "{page:?}");
    assert!(sessions(&clinic, "raised").is_empty());
    assert_eq!(desk.get("/open/1").status, 200, "the session goes on as it was");
}

/// As a login ages, what asks for a fresh one is denied, and permitted once it is proved anew.
#[test]
fn a_fresh_login_is_asked_for_again() {
    let clinic = account_in(clinic());
    let desk = Browser::new(&clinic, DESK);
    assert_eq!(desk.login("tanaka", GOOD).status, 303);
    until("the login to be too old", || (desk.get("/fresh/1").status == 401).then_some(()));
    let page = desk.ask("/fresh/1", &HTML);
    assert_eq!(page.field("location"), "/.sekisho/login?return=/fresh/1&level=user&age=8", "{page:?}");
    let told = problem(&desk.get("/fresh/1"));
    assert!(told["age"].as_u64().expect("seconds") > FRESH_S && told["max_age"] == FRESH_S, "{told}");
    // On a machine that pauses for long, a fresh login may be old again.
    until("a login that is fresh enough", || {
        let login = desk.get("/.sekisho/login?return=/fresh/1&level=user&age=8");
        let page =
            desk.post(&login, "/.sekisho/login", &[("password", GOOD), ("return", "/fresh/1"), ("level", "user")]);
        assert_eq!((page.status, page.field("location")), (303, "/fresh/1"), "{page:?}");
        (desk.get("/fresh/1").status == 200).then_some(())
    });
    let raised = sessions(&clinic, "raised").pop().expect("a record");
    assert_eq!((factors(&raised), text(&raised, "authentication")), (vec!["password"], "user"), "{raised:#}");
    until("it to be too old again", || (desk.get("/fresh/1").status == 401).then_some(()));
    assert_eq!(desk.get("/open/1").status, 200);
}

/// R9: who proved it too long ago is sent to the provider again, and who would have to prove more than the provider may know is not.
#[test]
fn whoever_was_proved_too_long_ago_proves_it_at_the_provider_again() {
    let scene = Scene::new();
    let browser = Browser::new(&scene.clinic, DOCTOR);
    scene.log_in(&browser);
    until("the login to be too old", || (browser.get("/fresh/1").status == 401).then_some(()));
    let told: Value = serde_json::from_str(&browser.get("/fresh/1").body).expect("a problem");
    assert_eq!(told["login"], "/.sekisho/oidc/idp/login", "{told}");
    assert_eq!((&told["required_level"], &told["max_age"]), (&json!("user"), &json!(8)), "{told}");
    let page = browser.ask("/fresh/1", &HTML);
    let login = page.field("location").to_owned();
    assert_eq!((page.status, &*login), (303, "/.sekisho/oidc/idp/login?return=/fresh/1"), "{page:?}");
    assert_eq!(browser.ask("/both", &HTML).status, 403);
    // On a machine that pauses for long, a fresh login may be old again.
    until("a login that is fresh enough", || {
        let begun = Begun::of(&browser.get(&login));
        assert_eq!(begun.get("prompt"), "login");
        let mut claims = scene.claims(&begun);
        claims["auth_time"] = json!(now());
        scene.gives(&scene.mint(&claims));
        let page = come(&browser, &scene.query(&begun), &[]);
        assert_eq!((page.status, page.field("location")), (303, "/fresh/1"), "{page:?}");
        (browser.get("/fresh/1").status == 200).then_some(())
    });
}

/// The session of a backend cannot be raised, and the policies' own refusal stands.
#[test]
fn what_a_backend_began_nobody_raises() {
    let policy = "permit(principal, action, resource);
                  forbid(principal, action, resource == Sekisho::Route::\"charts\") \
                  unless { context.authentication_level >= 3 };";
    let clinic = session_bound::start(session_bound::clinic().policy("levels.cedar", policy));
    let mut wire = clinic.wire(DOCTOR);
    let cookie = session_bound::login(&mut wire, "tanaka", None);
    let answer = session_bound::ask(&mut wire, "/charts/1", &cookie);
    assert_eq!((answer.status, &*answer.problem()), (403, "policy-forbid"), "{answer:?}");
}

/// R12, RFC 9470: a token's level and age, and the challenge that says which ones are wanted.
#[test]
fn a_token_is_told_what_is_wanted_of_the_next_one() {
    let idp = Idp::start();
    let more = "two_factor_acr = [\"urn:example:two\"]";
    let fresh = "forbid(principal, action, resource) when { context has resource_type && context.resource_type == \"Condition\" } \
                 unless { context has authentication_age && context.authentication_age <= 3000 };";
    let clinic = crate::token_jwt::clinic(&idp, more).policy("fresh.cedar", fresh).start();
    crate::token_jwt::wait_for_keys(&clinic);
    let identity = clinic.identity(DOCTOR);
    let mut wire = clinic.wire(DOCTOR);
    let mut ask = |target: &str, member: &str, value: Value| {
        let mut claims = claims("dr-sato", &identity);
        claims[member] = value;
        crate::token_jwt::ask(&mut wire, target, &idp.mint(&claims))
    };
    let answer = ask("/fhir/Observation/1", "x", json!(1));
    assert_eq!((answer.status, &*answer.problem()), (401, "step-up-required"), "{answer:?}");
    assert_eq!(
        answer.field("www-authenticate"),
        "Bearer error=\"insufficient_user_authentication\", acr_values=\"urn:example:two\""
    );
    assert_eq!(ask("/fhir/Observation/1", "acr", json!("urn:example:two")).status, 200);
    for old in [json!(null), json!(now() - 4_000), json!(now() + 40_000), json!("today")] {
        let answer = ask("/fhir/Condition/1", "auth_time", old.clone());
        assert_eq!((answer.status, &*answer.problem()), (401, "step-up-required"), "{old}: {answer:?}");
        assert_eq!(
            answer.field("www-authenticate"),
            "Bearer error=\"insufficient_user_authentication\", max_age=\"3000\""
        );
    }
    assert_eq!(ask("/fhir/Condition/1", "auth_time", json!(now() - 60)).status, 200);
}

#[test]
fn a_recovery_code_is_recorded_as_one() {
    let clinic = account_in(clinic());
    let authenticator = Authenticator::give(&clinic, &[]);
    let arguments = ["user", "recovery", TANAKA, "--identified-by", "staff card 12", "--json"];
    let output = command(&clinic, &arguments, |_| String::new());
    let json: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let code = json["recovery_codes"][0].as_str().expect("a code").to_owned();
    let desk = Browser::new(&clinic, DESK);
    for (code, factor) in [(code, "recovery-code"), (authenticator.code(30), "totp")] {
        // The codes were made by somebody else: sessions that were there meanwhile end.
        until("a login by the code", || {
            assert_eq!(desk.login("tanaka", GOOD).field("location"), "/.sekisho/login/factor");
            (desk.code(&code).status == 303).then_some(())
        });
        let begun = sessions(&clinic, "begun").pop().expect("a session");
        assert_eq!(factors(&begun), ["password", factor], "{begun:#}");
        assert_eq!(text(&begun, "authentication"), "two-factor");
        desk.log_out();
    }
}

/// The whole way in a real browser, without scripts and by keyboard.
#[test]
fn a_person_steps_up_in_a_real_browser() {
    let clinic = account_in(clinic());
    let authenticator = Authenticator::give(&clinic, &[]);
    let browser = Browser::new(&clinic, DESK);
    let pictures = clinic.prepared.path("pictures");
    std::fs::create_dir(&pictures).expect("a folder");
    let (mode, secret) = authenticator.parts();
    let output = Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
        .arg(repository().join("tests/step_up_page.py"))
        .args([&browser.origin(), &browser.files[0], &browser.files[1], GOOD, mode, secret])
        .arg(&pictures)
        .output()
        .expect("python3");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}\n{said}\nThe gateway said:\n{}", clinic.gateway.said());
    for told in ["heading \"本人確認\" [level=1]", "textbox \"パスワード\"", "heading \"二要素認証\" [level=1]"]
    {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert_eq!(sessions(&clinic, "raised").len(), 1);
}
