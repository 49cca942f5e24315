//! R8, R9: the gateway's own accounts. A first password is changed at its first use; a second factor is asked for, and no code is
//! taken twice; a recovery code works once; the guard locks; and nothing of it is in log or diagnostics but that it happened.

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, sekisho, until};
use serde_json::Value;

use crate::account::{
    Authenticator, Browser, GOOD, OTHER, TANAKA, WARD, ask, clinic, first_password, now_s, start, with_account,
};

fn outcomes(clinic: &Clinic) -> Vec<String> {
    let logins = clinic.records().into_iter().filter(|record| is(record, "login"));
    logins.map(|record| text(&record, "outcome").to_owned()).collect()
}

/// What the journal's records say of accounts.
fn changes(clinic: &Clinic) -> Vec<Value> {
    let records = clinic.records().into_iter().filter(|record| is(record, "registry-change"));
    records.filter(|record| record.to_string().contains("password_set")).collect()
}

/// Who the gateway said that a request was of.
fn user_of(clinic: &Clinic, browser: &Browser<'_>, target: &str) -> (String, String) {
    let page = browser.get(target);
    let id = page.field("x-request-id").to_owned();
    let record = clinic.wait_for_record("the request", |record| {
        (is(record, "request") || is(record, "intent")) && text(record, "request") == id
    });
    (text(&record, "user").to_owned(), text(&record, "authentication").to_owned())
}

#[test]
fn a_first_password_must_be_changed_at_its_first_use() {
    let clinic = start(clinic());
    let first = first_password(&clinic, TANAKA);
    let browser = Browser::new(&clinic, DOCTOR);
    assert_eq!(user_of(&clinic, &browser, "/open/before").1, "device");
    let page = browser.login("tanaka", &first);
    assert_eq!((page.status, page.field("location")), (303, "/.sekisho/login/password"), "{page:?}");
    assert_eq!(page.cookie("__Host-sekisho"), None, "no session before");
    assert!(!browser.is_in());
    for (new, repeat, why) in [
        (GOOD, OTHER, "not the same"),
        ("short", "short", "at least 13"),
        ("tanaka no himitsu", "tanaka no himitsu", "your user name"),
        ("sakura-clinic 2026", "sakura-clinic 2026", "your user name"),
        ("password123456", "password123456", "easily guessed"),
        (&*first, &*first, "used that password before"),
    ] {
        let page = browser.new_password(new, repeat);
        assert_eq!(page.status, 422, "{new}: {page:?}");
        assert!(page.alert().contains(why), "{new}: {}", page.alert());
        assert!(!page.body.contains(new), "no page shows a password");
    }
    let page = browser.new_password(GOOD, GOOD);
    assert_eq!(page.status, 303, "{page:?}");
    assert!(page.cookie("__Host-sekisho").is_some_and(|secret| secret.len() == 43));
    assert!(browser.is_in());
    assert_eq!(user_of(&clinic, &browser, "/open/after"), ("tanaka".to_owned(), "user".to_owned()));
    assert_eq!(browser.log_out().status, 200);
    assert!(!browser.is_in());
    assert_eq!(user_of(&clinic, &browser, "/open/gone").1, "device");

    assert_eq!(browser.login("tanaka", &first).status, 403, "it was for once");
    assert_eq!(browser.login("tanaka", GOOD).status, 303);
    // The user changes it once more, and shows the present one.
    let page = browser.get("/.sekisho/login/password");
    let fields = |password| [("password", password), ("new", OTHER), ("repeat", OTHER)];
    assert_eq!(browser.post(&page, "/.sekisho/login/password", &fields("not the present one")).status, 403);
    assert_eq!(browser.post(&page, "/.sekisho/login/password", &fields(GOOD)).status, 303);
    browser.log_out();
    assert_eq!(browser.login("tanaka", GOOD).status, 403);
    assert_eq!(browser.login("tanaka", OTHER).status, 303);

    let told = until("the records of all three passwords", || {
        let changes = changes(&clinic);
        (changes.len() == 3).then_some(changes)
    });
    let actors: Vec<_> = told.iter().map(|change| change["actor"].to_string()).collect();
    assert!(actors[1].contains("sakura-clinic/tanaka at sakura-clinic/exam-1"), "{actors:?}");
    let all = clinic.records().iter().map(Value::to_string).collect::<String>() + &clinic.gateway.said();
    for secret in [&*first, GOOD, OTHER, "$argon2id$", "not the present one"] {
        assert!(!all.contains(secret), "{secret} is in log or diagnostics");
    }
}

/// An administrator sets one and never sees one; another one needs an account of how the person was identified, which stays.
#[test]
fn a_reset_says_how_the_person_was_identified() {
    let clinic = with_account(clinic());
    let typed = |more: &[&str], password: &str| {
        ask(&clinic, &[&["user", "passwd", TANAKA], more].concat(), |_| password.to_owned())
    };
    let refused = typed(&[], OTHER);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("--identified-by"), "{refused:?}");
    for (password, why) in [("short", "characters"), ("passwordpassword1", "guessed first"), (GOOD, "before")] {
        let refused = typed(&["--identified-by", "staff card 12"], password);
        assert_ne!(refused.code, Some(0), "{password}");
        assert!(refused.stderr.contains(why) && !refused.stderr.contains(password), "{refused:?}");
    }
    let set = typed(&["--identified-by", "staff card 12"], OTHER);
    assert_eq!(set.code, Some(0), "{set:?}");
    assert!(!format!("{set:?}").contains(OTHER), "it is not shown");
    let record = clinic.wait_for_record("the reset", |record| record.to_string().contains("staff card 12"));
    assert!(is(&record, "registry-change"), "{record}");
    let browser = Browser::new(&clinic, DOCTOR);
    assert_eq!(browser.login("tanaka", GOOD).status, 403);
    let page = browser.login("tanaka", OTHER);
    assert_eq!(page.field("location"), "/.sekisho/login/password", "whoever set it does not keep it");
    assert_ne!(ask(&clinic, &["user", "passwd", "sakura-clinic/nobody"], |_| GOOD.to_owned()).code, Some(0));
    // A suspended user's password is as wrong as any other.
    clinic.registry(&["user", "suspend", TANAKA]);
    let page =
        until("the suspension to act", || Some(browser.login("tanaka", OTHER)).filter(|page| page.status == 403));
    assert!(page.alert().contains("not right"), "{page:?}");
}

#[test]
fn a_second_factor_is_asked_for_and_no_code_is_taken_twice() {
    let clinic = with_account(clinic());
    let wrong = ask(&clinic, &["user", "totp", TANAKA], |_| "000000x".to_owned());
    assert_ne!(wrong.code, Some(0), "a code must be shown before it counts");
    let browser = Browser::new(&clinic, DOCTOR);
    assert_eq!(browser.login("tanaka", GOOD).field("location"), "/.sekisho/login", "there is none yet");
    browser.log_out();

    for more in [&[][..], &["--sha1", "--qr", "--identified-by", "the head nurse knows him"]] {
        let authenticator = Authenticator::give(&clinic, more);
        let page = browser.login("tanaka", GOOD);
        assert_eq!((page.status, page.field("location")), (303, "/.sekisho/login/factor"), "{page:?}");
        assert!(page.cookie("__Host-sekisho").is_none() && !browser.is_in(), "the password alone is no login");
        assert_eq!(browser.get("/.sekisho/login/password").status, 303, "nor does it change the password");
        assert_eq!(browser.code("abcdef").status, 403);
        let used = authenticator.code(30);
        let page = browser.code(&used);
        assert_eq!(page.status, 303, "{page:?}");
        assert_eq!(user_of(&clinic, &browser, "/open/in"), ("tanaka".to_owned(), "two-factor".to_owned()));
        browser.log_out();
        assert_eq!(browser.login("tanaka", GOOD).status, 303);
        let page = browser.code(&used);
        assert_eq!(page.status, 403, "the same code again: {page:?}");
        assert!(page.alert().contains("used before"));
        // Codes of later steps are taken: the latest that is within the window, as soon as it is none of the used ones.
        let next = until("a code of a later step", || Some(authenticator.code(30)).filter(|code| *code != used));
        assert_eq!(browser.code(&next).status, 303, "at {}", now_s());
        browser.log_out();
    }
    let outcomes = outcomes(&clinic);
    assert!(outcomes.contains(&"incomplete".to_owned()), "{outcomes:?}");
}

#[test]
fn a_recovery_code_works_once() {
    let clinic = with_account(clinic());
    let none = ask(&clinic, &["user", "recovery", TANAKA, "--identified-by", "staff card 12"], |_| String::new());
    assert_ne!(none.code, Some(0), "there is nothing to recover");
    let _authenticator = Authenticator::give(&clinic, &[]);
    let output =
        ask(&clinic, &["user", "recovery", TANAKA, "--identified-by", "staff card 12", "--json"], |_| String::new());
    let json: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let codes: Vec<_> = json["recovery_codes"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(codes.len(), 10);
    let browser = Browser::new(&clinic, DOCTOR);
    let attempt = |code: &str| {
        assert_eq!(browser.login("tanaka", GOOD).field("location"), "/.sekisho/login/factor");
        browser.code(code).status
    };
    assert_eq!(attempt(&codes[0].to_uppercase().replace('-', " ")), 303);
    browser.log_out();
    assert_eq!(attempt(codes[0]), 403, "it was used");
    assert_eq!(attempt(codes[1]), 303);
    browser.log_out();
    let used = until("the records of both", || {
        let used = changes(&clinic).into_iter().filter(|change| change.to_string().contains("recovery-code-used"));
        let used: Vec<_> = used.collect();
        (used.len() == 2).then_some(used)
    });
    assert!(!used[0].to_string().contains(codes[0]));
    // Without the authenticator, the rest of the codes is worth nothing.
    clinic.registry(&["user", "totp", TANAKA, "--remove", "--identified-by", "staff card 12"]);
    assert_eq!(browser.login("tanaka", GOOD).field("location"), "/.sekisho/login");
}

/// The login guard: wrong passwords and wrong codes count together, under every spelling, and a right password does not take
/// wrong codes back.
#[test]
fn wrong_passwords_and_wrong_codes_lock_the_account() {
    let builder = clinic().config(|config| config.set("login", "failures", 3));
    let clinic = with_account(builder);
    let browser = Browser::new(&clinic, DOCTOR);
    for spelling in ["tanaka", "ＴＡＮＡＫＡ", " Tana\u{200b}ka"] {
        let page = browser.login(spelling, "not this one at all");
        assert_eq!(page.status, 403, "{page:?}");
    }
    let page = browser.login("tanaka", GOOD);
    assert_eq!(page.status, 429, "{page:?}");
    assert!(page.field("retry-after").parse::<u64>().expect("seconds") >= 1 && page.alert().contains("wait"));
    let ward = Browser::new(&clinic, WARD);
    assert_eq!(ward.login("tanaka", GOOD).status, 429, "at the whole site");
    assert_eq!(outcomes(&clinic).iter().filter(|outcome| *outcome == "locked").count(), 2);
    clinic.registry(&["user", "unlock", "tanaka"]);
    until("the unlocking to act", || (ward.login("tanaka", GOOD).status == 303).then_some(()));
    ward.log_out();

    let _authenticator = Authenticator::give(&clinic, &[]);
    for _ in 0..3 {
        assert_eq!(browser.login("tanaka", GOOD).status, 303);
        assert_eq!(browser.code("abcdef").status, 403);
    }
    assert_eq!(browser.login("tanaka", GOOD).status, 429, "a right password takes no wrong code back");
}

/// A reset acts on whoever is in, also where it comes while no gateway runs.
#[test]
fn a_reset_while_the_gateway_is_down_ends_sessions() {
    let clinic = with_account(clinic());
    let browser = Browser::new(&clinic, DOCTOR);
    assert_eq!(browser.login("tanaka", GOOD).status, 303);
    assert!(browser.is_in());
    let jar = browser.jar();
    let prepared = clinic.stop();
    let clinic = prepared.start();
    let browser = Browser::with_jar(&clinic, DOCTOR, &jar);
    assert!(browser.is_in(), "a restart alone ends nothing");
    let prepared = clinic.stop();
    let config = prepared.path("sekisho.toml");
    let reset = ["user", "passwd", TANAKA, "--generate", "--identified-by", "staff card 12", "--config"];
    let reset = sekisho(&[&reset[..], &[config.to_str().expect("UTF-8")]].concat());
    assert_eq!(reset.code, Some(0), "{reset:?}");
    let clinic = prepared.start();
    assert!(!Browser::with_jar(&clinic, DOCTOR, &jar).is_in());
    clinic.wait_for_record("its end", |record| is(record, "session") && text(record, "reason") == "operator");
}
