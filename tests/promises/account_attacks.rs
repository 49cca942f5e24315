//! C14 at the login page: forged, stolen and fixated cookies, forms of somebody else's, redirects to elsewhere, fields that come
//! twice, encodings that come by surprise, and floods.

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, Reply, until};

use crate::account::{Authenticator, Browser, GOOD, WARD, clinic, with_account};

const LOGIN: &str = "/.sekisho/login";

fn logins(clinic: &Clinic) -> usize {
    clinic.records().iter().filter(|record| is(record, "login")).count()
}

#[test]
fn a_form_of_another_page_or_device_is_refused_before_anything_is_compared() {
    let clinic = with_account(clinic());
    let (browser, ward) = (Browser::new(&clinic, DOCTOR), Browser::new(&clinic, WARD));
    let before = logins(&clinic);
    let (own, foreign) = (browser.get(LOGIN).token(), ward.get(LOGIN).token());
    let origin = |origin: &str| format!("Origin: {origin}");
    let send = |token: &str, header: &str| {
        let mut options = vec!["-H", header];
        let fields = [("csrf", token), ("account", "tanaka"), ("password", GOOD)];
        let fields = fields.map(|(name, value)| format!("{name}={value}"));
        fields.iter().for_each(|field| options.extend(["--data-urlencode", field]));
        browser.ask(LOGIN, &options)
    };
    for (token, header) in [
        (&*own, "X-Nothing: 1".to_owned()),
        (&own, origin("null")),
        (&own, origin("https://evil.example")),
        (&own, origin(&browser.origin().replace("https", "http"))),
        (&own, origin(&format!("{}.evil.example", browser.origin()))),
        (&foreign, origin(&browser.origin())),
        ("", origin(&browser.origin())),
        (&own[..20], origin(&browser.origin())),
    ] {
        let page = send(token, &header);
        assert_eq!(page.status, 403, "{header}: {page:?}");
        assert!(page.alert().contains("open for too long"), "{page:?}");
        let id = page.field("x-request-id").to_owned();
        let record =
            clinic.wait_for_record("the refusal", |record| is(record, "request") && text(record, "request") == id);
        assert_eq!(text(&record, "reason"), "login-form");
    }
    assert_eq!(logins(&clinic), before, "none of it was an attempt");
    assert_eq!(send(&own, &origin(&browser.origin())).status, 303, "and ours is taken");
    let page = browser.ask("/.sekisho/logout", &["-H", &origin("https://evil.example"), "-d", &format!("csrf={own}")]);
    assert_eq!(page.status, 403);
    assert!(browser.is_in(), "nobody else logs the user out");
}

#[test]
fn a_browser_is_sent_nowhere_else() {
    let clinic = with_account(clinic());
    let browser = Browser::new(&clinic, DOCTOR);
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
        let page = browser.get(&format!("{LOGIN}?return={bad}"));
        assert_eq!(page.status, 400, "{bad}: {page:?}");
        assert!(!page.head.contains("evil"), "{page:?}");
    }
    let token = browser.get(LOGIN).token();
    let fields = |target| [("csrf", &*token), ("account", "tanaka"), ("password", GOOD), ("return", target)];
    for bad in ["//evil.example", "\\\\evil.example", "/\\evil.example", "/\t/evil.example", "evil"] {
        let page = browser.post_raw(LOGIN, &fields(bad), &[]);
        assert!(page.status == 400 && page.cookie("__Host-sekisho").is_none(), "{bad}: {page:?}");
    }
    let page = browser.get(&format!("{LOGIN}?return=%2Fopen%2Fx%3Fa%3D1%26b"));
    assert!(page.body.contains("value=\"/open/x?a=1&amp;b\""), "{page:?}");
    let page = browser.post_raw(LOGIN, &fields("/open/x?a=1&b"), &[]);
    assert_eq!((page.status, page.field("location")), (303, "/open/x?a=1&b"), "{page:?}");
}

#[test]
fn forged_stolen_and_fixated_cookies_open_nothing() {
    let clinic = with_account(clinic());
    let _authenticator = Authenticator::give(&clinic, &[]);
    let output =
        clinic.registry(&["user", "recovery", "sakura-clinic/tanaka", "--identified-by", "in person", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    let code = |index: usize| json["recovery_codes"][index].as_str().expect("a code").to_owned();
    let (browser, ward) = (Browser::forgetful(&clinic, DOCTOR), Browser::forgetful(&clinic, WARD));
    let chosen = "A".repeat(43);

    // A name for the half-done login that somebody chose beforehand is not the one that it gets.
    let token = browser.get(LOGIN).token();
    let cookies = format!("Cookie: __Host-sekisho={chosen}; __Host-sekisho-login={chosen}");
    let fields = [("csrf", &*token), ("account", "tanaka"), ("password", GOOD)];
    let page = browser.post_raw(LOGIN, &fields, &["-H", &cookies]);
    let stage = page.cookie("__Host-sekisho-login").expect("a name");
    assert!(page.status == 303 && stage != chosen && stage.len() == 43, "{page:?}");
    let with = |name: &str, value: &str| format!("Cookie: {name}={value}");
    // Another device has nothing from the name, and this one has, once.
    assert_eq!(ward.ask("/.sekisho/login/factor", &["-H", &with("__Host-sekisho-login", &stage)]).status, 303);
    assert_eq!(browser.ask("/.sekisho/login/factor", &["-H", &with("__Host-sekisho-login", &stage)]).status, 200);
    let page = browser.post_raw("/.sekisho/login/factor", &[("csrf", &token), ("code", &code(0))], &["-H", &cookies]);
    assert_eq!(page.status, 403, "{page:?}");
    let own = with("__Host-sekisho-login", &stage);
    let page = browser.post_raw("/.sekisho/login/factor", &[("csrf", &token), ("code", &code(0))], &["-H", &own]);
    assert_eq!(page.status, 303, "{page:?}");
    let first = page.cookie("__Host-sekisho").expect("a secret");
    assert!(page.cookie("__Host-sekisho-login").is_some_and(|cleared| cleared.is_empty()), "{page:?}");
    let set = page.head.lines().find(|line| line.contains("__Host-sekisho=")).expect("a cookie");
    for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(set.contains(attribute) && !set.contains("Domain"), "{set}");
    }
    let reuse = browser.ask("/.sekisho/login/factor", &["-H", &with("__Host-sekisho-login", &stage)]);
    assert_eq!((reuse.status, reuse.field("location")), (303, LOGIN), "a step is done once");

    let is_in = |browser: &Browser<'_>, secret: &str| {
        let page = browser.ask(LOGIN, &["-H", &with("__Host-sekisho", secret)]);
        page.body.contains("/.sekisho/logout")
    };
    assert!(is_in(&browser, &first));
    for forged in [&*chosen, "", "x", &first[1..], &first.to_uppercase()] {
        assert!(!is_in(&browser, forged), "{forged}");
    }
    assert!(!is_in(&ward, &first), "another device's");
    let twice = browser.ask(LOGIN, &["-H", &format!("Cookie: __Host-sekisho={first}; __Host-sekisho={chosen}")]);
    assert_eq!(twice.status, 400, "{twice:?}");

    // Whoever logs in again, with the second factor or not, has another secret, and the one before opens nothing.
    let page = browser.login("tanaka", GOOD);
    assert_eq!(page.field("location"), "/.sekisho/login/factor", "{page:?}");
    let name = page.cookie("__Host-sekisho-login").expect("a name");
    let old = format!("Cookie: __Host-sekisho={first}; __Host-sekisho-login={name}");
    let page = browser.post_raw("/.sekisho/login/factor", &[("csrf", &token), ("code", &code(1))], &["-H", &old]);
    let second = page.cookie("__Host-sekisho").expect("a secret");
    assert!(second != first && !is_in(&browser, &first) && is_in(&browser, &second));
    let out = format!("Cookie: __Host-sekisho={second}");
    let page = browser.post_raw("/.sekisho/logout", &[("csrf", &token)], &["-H", &out]);
    assert_eq!(page.status, 200, "{page:?}");
    assert!(!is_in(&browser, &second), "after the log-out it is worth nothing");

    // No backend sees a cookie of ours, and all see their own.
    browser.ask(
        "/open/cookies",
        &["-H", &format!("Cookie: a=1; __Host-sekisho={chosen}; b=2; __Host-sekisho-login={chosen}")],
    );
    let seen = clinic.backend().seen();
    let seen = seen.iter().find(|seen| seen.target().contains("cookies")).expect("the request");
    let head = String::from_utf8_lossy(&seen.head).into_owned();
    assert!(head.contains("a=1; b=2") && !head.contains("__Host"), "{head}");
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let clinic = with_account(clinic());
    let browser = Browser::new(&clinic, DOCTOR);
    let before = logins(&clinic);
    let token = browser.get(LOGIN).token();
    let good = [("csrf", &*token), ("account", "tanaka"), ("password", GOOD)];
    let with = |more: &[(&'static str, &'static str)], options: &[&str]| {
        let fields: Vec<(&str, &str)> = good.iter().copied().chain(more.iter().copied()).collect();
        browser.post_raw(LOGIN, &fields, options).status
    };
    assert_eq!(with(&[("account", "tanaka")], &[]), 400);
    assert_eq!(with(&[("password", "x")], &[]), 400);
    assert_eq!(with(&[("Account", "x")], &[]), 400);
    assert_eq!(with(&[("other", "x")], &[]), 400);
    assert_eq!(with(&[], &["-H", "Content-Type: text/plain"]), 415);
    assert_eq!(with(&[], &["-H", "Content-Type: application/x-www-form-urlencoded; charset=shift_jis"]), 415);
    assert_eq!(with(&[], &["-H", "Content-Encoding: gzip"]), 415);
    assert_eq!(with(&[], &["-H", "Authorization: Basic dGFuYWthOng="]), 400);
    let raw = |body: &str| {
        let body = format!("csrf={token}&{body}");
        browser.post_raw(LOGIN, &[], &["--data-raw", &body]).status
    };
    for (body, status) in [
        ("account=tanaka&password=%ff", 415),
        ("account=tanaka&password=%zz", 400),
        ("account=tanaka&password=a%00b", 400),
        ("account=tanaka", 400),
        ("account=&password=x", 400),
        ("account=ta%0d%0anaka&password=x", 400),
        ("account=tanaka&account%5B%5D=x&password=x", 400),
    ] {
        assert_eq!(raw(body), status, "{body}");
    }
    assert_eq!(raw(&format!("account=tanaka&password={}", "a".repeat(513))), 400);
    assert_eq!(raw(&format!("account=tanaka&password={}", "a".repeat(40_000))), 413);
    assert_eq!(browser.post_raw(&format!("{LOGIN}?account=suzuki"), &good, &[]).status, 400);
    assert_eq!(browser.ask(LOGIN, &["-X", "DELETE"]).status, 405);
    assert_eq!(browser.get("/.sekisho/elsewhere").status, 404);
    assert_eq!(logins(&clinic), before, "none of it was an attempt");
    // A name in full width, in capitals, with what nobody sees in it, is the account.
    assert_eq!(browser.login("Ｔａｎａ\u{200b}ＫＡ ", GOOD).status, 303);
    browser.log_out();
    // And so is a password in full width, while its case counts.
    let wide: String = GOOD
        .chars()
        .map(|c| if c.is_ascii_alphabetic() { char::from_u32(c as u32 + 0xfee0).expect("a letter") } else { c })
        .collect();
    assert_eq!(browser.login("tanaka", &wide).status, 303);
    browser.log_out();
    assert_eq!(browser.login("tanaka", &GOOD.to_uppercase()).status, 403);
}

/// What is below the reserved path goes to no backend, and without a login page it is a path like any other.
#[test]
fn the_pages_are_where_they_are_wanted_alone() {
    let there = with_account(clinic());
    let browser = Browser::new(&there, DOCTOR);
    let page = browser.get(LOGIN);
    let policy = page.field("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{page:?}");
    for (field, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("content-language", "en"),
    ] {
        assert_eq!(page.field(field), value, "{page:?}");
    }
    let page = there.wire(DOCTOR).request("GET", LOGIN, &[("Accept-Language", "ja")], b"");
    assert!(String::from_utf8_lossy(&page.body).contains("<html lang=\"ja\">"));
    assert!(browser.get("/.sekisho/style.css").field("content-type").starts_with("text/css"));
    let head = browser.ask(LOGIN, &["-I"]);
    assert!(head.status == 200 && head.body.is_empty(), "{head:?}");
    assert!(there.backend().seen().iter().all(|seen| !seen.target().contains(".sekisho")));

    let without = crate::account::clinic().config(|config| config.set_listener("login_page", false)).start();
    let browser = Browser::forgetful(&without, DOCTOR);
    assert_eq!(browser.get(LOGIN).status, 404);
    // A browser sends its cookies to all listeners of a host, and no backend gets ours or sets one.
    without.backend().answers(|_| {
        let cookies = "Set-Cookie: sid=1\r\nSet-Cookie: __Host-sekisho=x; Path=/; Secure\r\n";
        Reply::raw(format!("HTTP/1.1 200 OK\r\n{cookies}Content-Length: 0\r\n\r\n"))
    });
    let page = browser.ask("/open/x", &["-H", "Cookie: a=1; __Host-sekisho=secret; __Host-sekisho-login=name"]);
    assert_eq!((page.cookie("sid").as_deref(), page.cookie("__Host-sekisho")), (Some("1"), None), "{page:?}");
    assert_eq!(without.backend().last().values("cookie"), ["a=1"]);
}

/// A terminal that was given another name still has the cookie of what it was: it loses that, and whoever sits there logs in.
#[test]
fn a_cookie_of_another_device_is_let_go() {
    let clinic = with_account(clinic());
    let (browser, ward) = (Browser::forgetful(&clinic, DOCTOR), Browser::forgetful(&clinic, WARD));
    let secret = browser.login("tanaka", GOOD).cookie("__Host-sekisho").expect("a session");
    let old = format!("Cookie: __Host-sekisho={secret}");
    // The first time it is recorded as stolen and ends; from then on it is over, and still another device's.
    for _ in 0..2 {
        let page = ward.ask("/open/x", &["-H", &old]);
        assert_eq!(page.status, 403, "{page:?}");
        assert!(page.body.contains("session-stolen"), "{page:?}");
        for name in ["__Host-sekisho", "__Host-sekisho-login"] {
            assert_eq!(page.cookie(name).as_deref(), Some(""), "{name}: {page:?}");
        }
    }
    let page = ward.ask(LOGIN, &["-H", &old]);
    assert_eq!((page.status, page.cookie("__Host-sekisho").as_deref()), (200, Some("")), "{page:?}");
    let token = page.token();
    let fields = [("csrf", &*token), ("account", "tanaka"), ("password", GOOD)];
    let page = ward.post_raw(LOGIN, &fields, &["-H", &old]);
    assert_eq!(page.status, 303, "{page:?}");
    assert!(page.cookie("__Host-sekisho").is_some_and(|own| own.len() == 43 && own != secret), "{page:?}");
    clinic.wait_for_record("what was stolen", |record| is(record, "session") && text(record, "event") == "stolen");
}

/// A queue that is full says so, and whoever has logged in notices nothing of it.
#[test]
fn more_logins_than_can_be_hashed_are_told_to_come_back() {
    let clinic = with_account(clinic().config(|config| {
        for (key, value) in [("threads", 1), ("queue", 1), ("memory_kib", 262_144), ("passes", 4)] {
            config.set("account", key, value);
        }
        config.set("login", "failures", 1_000);
        config.set("login", "device_failures", 0);
        config.set("login", "global_failures", 0);
    }));
    let browser = Browser::new(&clinic, DOCTOR);
    let token = browser.get(LOGIN).token();
    let refused = until("the queue to be full", || {
        let answers: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|index| {
                    let mut wire = clinic.wire(DOCTOR);
                    let origin = browser.origin();
                    let body = format!("csrf={token}&account=guess-{index}&password=wrong+and+wrong");
                    scope.spawn(move || {
                        let fields = [("Origin", &*origin), ("Content-Type", "application/x-www-form-urlencoded")];
                        wire.request("POST", LOGIN, &fields, body.as_bytes())
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().expect("an answer")).collect()
        });
        answers.into_iter().find(|answer| answer.status == 503)
    });
    assert!(refused.field("retry-after").parse::<u64>().expect("seconds") >= 1, "{refused:?}");
    let record = clinic.wait_for_record("the refusal", |record| text(record, "reason") == "login-unavailable");
    assert_eq!(record["status"], 503, "{record}");
    let attempt = clinic.wait_for_record("the attempt", |record| text(record, "outcome") == "unavailable");
    assert!(text(&attempt, "account").starts_with("guess-"), "{attempt}");
}
