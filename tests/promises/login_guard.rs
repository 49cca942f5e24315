//! R8: logins at backends are guarded. After a failure the account gets a pause, after several a lockout; attempts in flight
//! count, whatever worker and protocol they came by; neither a restart nor a kill forgets; and nobody elsewhere locks a doctor
//! out.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gateway_tests::audit::{is, text};
use gateway_tests::{Answer, Backend, Builder, Clinic, DOCTOR, Reply, Seen, Wire, until, within};
use serde_json::Value;

use crate::account_timing::{ATTEMPTS, BOUND, largest_t};

/// A second terminal of the doctor's clinic, and one of another clinic.
pub const WARD: &str = "sakura-clinic/ward-1";
pub const ELSEWHERE: &str = "ume-clinic/exam-1";

const ROUTES: &str = r#"
[[route]]
name = "login"
path = "/login"
service = "clinical"
class = "clinical"
kind = "generic"
login = { account = { form = "username" }, success = { status = [302], redirect = "/home" }, failure = { status = [200] } }
[[route]]
name = "json"
path = "/json"
service = "clinical"
class = "clinical"
kind = "generic"
[route.login]
account = { json = "/user" }
success = { status = [200], json = { pointer = "/ok", value = true } }
realm = "other"
[[route]]
name = "basic"
path = "/basic"
service = "clinical"
class = "clinical"
kind = "generic"
login = { account = { basic = true }, success = { status = [200, 404] }, realm = "archive" }
[[route]]
name = "query"
path = "/query"
service = "clinical"
class = "clinical"
kind = "generic"
login = { account = { query = "u" }, success = { header = { name = "X-Login-Status", value = "ok" } } }
"#;

/// What the form's fields are, decoded as far as these tests need.
pub fn password_of(seen: &Seen) -> String {
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    body.split('&').find_map(|pair| pair.strip_prefix("password=").map(str::to_owned)).unwrap_or_default()
}

/// An application that lets `right` in, and nobody else.
fn application(seen: &Seen) -> Reply {
    if password_of(seen) == "right" {
        return Reply::raw("HTTP/1.1 302 Found\r\nLocation: /home\r\nContent-Length: 0\r\n\r\n");
    }
    Reply::new(200, "again")
}

/// Wrong passwords that reached the backend.
pub fn wrong(backend: &Backend) -> usize {
    backend.seen().iter().filter(|seen| seen.method() == "POST" && password_of(seen) != "right").count()
}

/// A clinic whose route `/login` is guarded: without pauses, three failures in an hour.
pub fn guarded() -> Builder {
    let builder = Clinic::builder().device(WARD, "dr-sato", "doctor").device(ELSEWHERE, "dr-ito", "doctor");
    builder.config(|config| {
        config.set_routes(ROUTES);
        for (key, value) in [
            ("pause_s", 0),
            ("failures", 3),
            ("window_s", 3_600),
            ("lockout_s", 3_600),
            ("device_failures", 0),
            ("device_attempts_per_minute", 1_000_000),
            ("site_attempts_per_minute", 1_000_000),
            ("address_attempts_per_minute", 1_000_000),
        ] {
            config.set("login", key, value);
        }
    })
}

fn start(builder: Builder) -> Clinic {
    let clinic = builder.start();
    clinic.backend().answers(application);
    clinic
}

pub const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

pub fn login(wire: &mut Wire, account: &str, password: &str) -> Answer {
    wire.request("POST", "/login", &[FORM], format!("username={account}&password={password}").as_bytes())
}

/// A 429 as everybody gets it.
pub fn refused(answer: &Answer) {
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.problem(), "login-paused");
    assert!(answer.field("retry-after").parse::<u64>().expect("seconds") >= 1);
}

fn outcomes(clinic: &Clinic) -> Vec<String> {
    let records = clinic.records();
    records.iter().filter(|record| is(record, "login")).map(|record| text(record, "outcome").to_owned()).collect()
}

#[test]
fn a_pause_and_a_lockout_are_told_alike() {
    let clinic = start(guarded().config(|config| {
        config.set("login", "pause_s", 600);
        config.set("login", "pause_most_s", 1_200);
        config.set("login", "failures", 2);
    }));
    let (mut exam, mut ward) = (clinic.wire(DOCTOR), clinic.wire(WARD));
    assert_eq!(exam.get("/login").status, 200, "the form itself is no attempt");
    assert_eq!(login(&mut exam, "tanaka", "no").status, 200);
    let paused = login(&mut exam, "tanaka", "right");
    assert_eq!(login(&mut exam, "suzuki", "right").status, 302, "another account has no pause");
    assert_eq!(login(&mut ward, "tanaka", "no").status, 200, "nor has another device");
    let locked = login(&mut exam, "tanaka", "right");
    let mut fields = Vec::new();
    for answer in [&paused, &locked] {
        refused(answer);
        let told = |(name, _): &&(String, String)| !matches!(name.as_str(), "x-request-id" | "date");
        fields.push(answer.fields.iter().filter(told).cloned().collect::<Vec<_>>());
        assert_eq!(answer.field("retry-after"), "600");
    }
    assert_eq!(fields[0], fields[1], "whoever guesses is told nothing");
    assert_eq!(paused.body.len(), locked.body.len());
    assert_eq!(wrong(clinic.backend()), 2);
    assert_eq!(outcomes(&clinic), ["failure", "paused", "success", "failure", "locked"]);

    let record = clinic.wait_for_record("the lockout", |record| text(record, "outcome") == "locked");
    assert_eq!(text(&record, "account"), "tanaka");
    assert_eq!((text(&record, "realm"), text(&record, "route")), ("clinical", "login"));
    assert_eq!(text(&record, "connection.device"), "exam-1");
    assert_eq!(clinic.reasons_of(exam.local()), ["login-paused", "login-locked"]);
    assert_eq!(clinic.metric("sekisho_logins_total", &[("outcome", "locked"), ("route", "login")]), 1.0);
    assert_eq!(clinic.metric("sekisho_lockouts", &[]), 1.0);
    assert!(!clinic.gateway.said().contains("tanaka"), "diagnostics name no account");
}

/// C14: guesses raced over 64 connections, by HTTP/1.1 and HTTP/2, against three workers.
#[test]
fn never_more_wrong_passwords_reach_the_backend_than_the_bound() {
    let clinic = guarded().config(|config| config.set("workers", "count", 3)).start();
    clinic.backend().answers(|seen| application(seen).after(Duration::from_millis(20)));
    const CONNECTIONS: usize = 64;
    const GUESSES: usize = 4;
    let (taken, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ready = std::sync::Barrier::new(CONNECTIONS);
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let (taken, answered, ready) = (&taken, &answered, &ready);
            let handshake = clinic.handshake(if connection % 3 == 0 { WARD } else { DOCTOR });
            let address = clinic.door.address;
            scope.spawn(move || {
                let spelling = ["tanaka", "TANAKA", "%EF%BD%94anaka", "tanaka+"][connection % 4];
                let body = |guess: usize| format!("username={spelling}&password=guess-{connection}-{guess}");
                let note = |answer: Answer| {
                    answered.fetch_add(1, Ordering::Relaxed);
                    if answer.status == 200 {
                        taken.fetch_add(1, Ordering::Relaxed);
                    } else {
                        refused(&answer);
                    }
                };
                if connection % 2 == 0 {
                    let mut wire = handshake.open();
                    ready.wait();
                    (0..GUESSES)
                        .for_each(|guess| note(wire.request("POST", "/login", &[FORM], body(guess).as_bytes())));
                } else {
                    let mut client = gateway_tests::h2::Client::open(&handshake, address);
                    ready.wait();
                    for guess in 0..GUESSES {
                        let body: &'static [u8] = body(guess).into_bytes().leak();
                        let form = [("content-type", FORM.1)];
                        note(client.request("POST", "/login", &form, body).expect("an answer"));
                    }
                }
            });
        }
    });
    assert_eq!(answered.into_inner(), CONNECTIONS * GUESSES);
    assert_eq!((wrong(clinic.backend()), taken.into_inner()), (3, 3), "of {}", CONNECTIONS * GUESSES);
    refused(&login(&mut clinic.wire(DOCTOR), "tanaka", "right"));
    assert_eq!(clinic.metric("sekisho_login_accounts", &[]), 1.0, "all of them are one account");
}

/// What had been let through when the gateway was killed counts, answered or not; and an operator lifts it.
#[test]
fn neither_a_kill_nor_a_restart_forgets_a_lockout() {
    let mut clinic = start(guarded());
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(login(&mut wire, "suzuki", "no").status, 200);
    assert_eq!(login(&mut wire, "tanaka", "no").status, 200);
    assert_eq!(login(&mut wire, "tanaka", "no").status, 200);
    clinic.backend().answers(|seen| application(seen).after(Duration::from_secs(600)));
    let mut flying = clinic.wire(WARD);
    flying.send_request("POST", "/login", &[FORM], b"username=tanaka&password=unanswered");
    until("the backend to have the third password", || (wrong(clinic.backend()) == 4).then_some(()));
    clinic.kill();

    let clinic = clinic.stop().start();
    clinic.backend().answers(application);
    let mut wire = clinic.wire(DOCTOR);
    refused(&login(&mut wire, "Tanaka", "right"));
    refused(&login(&mut clinic.wire(WARD), "tanaka", "right"));
    assert_eq!(login(&mut wire, "suzuki", "right").status, 302);
    assert_eq!(wrong(clinic.backend()), 4);

    // And again, as a restart in good order.
    let clinic = clinic.stop().start();
    clinic.backend().answers(application);
    let mut wire = clinic.wire(DOCTOR);
    refused(&login(&mut wire, "tanaka", "right"));
    let listed: Value = serde_json::from_str(&clinic.registry(&["user", "lockouts", "--json"]).stdout).expect("JSON");
    let lockouts = listed["lockouts"].as_array().expect("a list");
    assert_eq!(lockouts.len(), 1, "{listed}");
    assert_eq!((text(&lockouts[0], "account"), text(&lockouts[0], "site")), ("tanaka", "sakura-clinic"));
    assert!((3_000..=3_600).contains(&lockouts[0]["remaining_s"].as_u64().expect("seconds")), "{listed}");
    assert!(clinic.registry(&["user", "lockouts"]).stdout.contains("tanaka"));
    assert_ne!(clinic.prepared.try_registry(&["user", "unlock", "nobody"]).code, Some(0));

    clinic.registry(&["user", "unlock", "ＴＡＮＡＫＡ"]);
    until("the unlocking to act", || (login(&mut wire, "tanaka", "right").status == 302).then_some(()));
    let change = clinic.wait_for_record("the unlocking", |record| {
        is(record, "registry-change") && record.to_string().contains("lockout")
    });
    assert!(change.to_string().contains("tanaka"), "{change}");
    assert_eq!(clinic.registry(&["user", "lockouts", "--json"]).stdout.matches("tanaka").count(), 0);
    let clinic = clinic.stop().start();
    clinic.backend().answers(application);
    assert_eq!(login(&mut clinic.wire(DOCTOR), "tanaka", "right").status, 302, "it stays lifted");
}

/// C14: a wall clock that is set forward, and back again, ends no lockout.
#[test]
fn no_step_of_the_clock_ends_a_lockout() {
    let library = gateway_tests::chrony::FAKETIME;
    assert!(std::path::Path::new(library).exists(), "this test needs libfaketime");
    let clinic = start(guarded());
    (0..3).for_each(|_| drop(login(&mut clinic.wire(DOCTOR), "tanaka", "no")));
    let mut prepared = clinic.stop();
    for step in ["+3h", "+0"] {
        let preload = format!("LD_PRELOAD={library}");
        let time = format!("FAKETIME={step}");
        prepared.run_under(&["env", &preload, &time, "FAKETIME_DONT_FAKE_MONOTONIC=1"]);
        let clinic = prepared.start();
        clinic.backend().answers(application);
        refused(&login(&mut clinic.wire(DOCTOR), "tanaka", "right"));
        prepared = clinic.stop();
    }
}

#[test]
fn nobody_elsewhere_locks_the_doctor_out() {
    let clinic = start(guarded().config(|config| config.set("login", "global_failures", 3)));
    let mut attacker = clinic.wire(ELSEWHERE);
    for guess in 0..3 {
        assert_eq!(login(&mut attacker, "tanaka", &format!("guess-{guess}")).status, 200);
    }
    refused(&login(&mut attacker, "tanaka", "right"));
    let mut doctor = clinic.wire(DOCTOR);
    assert_eq!(login(&mut doctor, "tanaka", "typo").status, 200);
    assert_eq!(login(&mut doctor, "tanaka", "right").status, 302, "past the bound over all sites as well");
    refused(&login(&mut attacker, "tanaka", "right"));
}

#[test]
fn an_operator_may_want_lockouts_everywhere() {
    let clinic = start(guarded().config(|config| config.set("login", "scope", "account")));
    let mut attacker = clinic.wire(ELSEWHERE);
    (0..3).for_each(|_| drop(login(&mut attacker, "tanaka", "no")));
    refused(&login(&mut clinic.wire(DOCTOR), "tanaka", "right"));
    assert_eq!(login(&mut clinic.wire(DOCTOR), "suzuki", "right").status, 302);
}

/// One's own account buys no guesses at others', and one device cannot try one password at every account.
#[test]
fn a_device_that_sprays_is_locked_out() {
    let clinic = start(guarded().config(|config| config.set("login", "device_failures", 4)));
    let mut sprayer = clinic.wire(DOCTOR);
    for account in ["a", "b", "c", "d"] {
        assert_eq!(login(&mut sprayer, account, "spring2026").status, 200);
        if account != "d" {
            assert_eq!(login(&mut sprayer, "own", "right").status, 302);
        }
    }
    refused(&login(&mut sprayer, "own", "right"));
    assert_eq!(login(&mut clinic.wire(WARD), "own", "right").status, 302);
    clinic.registry(&["device", "unlock", DOCTOR]);
    until("the unlocking to act", || (login(&mut sprayer, "own", "right").status == 302).then_some(()));
}

#[test]
fn an_answer_that_never_comes_is_a_failure_and_a_backend_that_is_down_is_none() {
    let closed = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        socket.local_addr().expect("its address")
    };
    let clinic = guarded().config(|config| config.set_service("response_timeout_ms", 200)).start();
    clinic.backend().answers(|seen| application(seen).after(Duration::from_secs(60)));
    let mut wire = clinic.wire(DOCTOR);
    for _ in 0..3 {
        assert_eq!(login(&mut wire, "tanaka", "right").status, 504, "even the right password");
    }
    refused(&login(&mut wire, "tanaka", "right"));
    assert_eq!(outcomes(&clinic), ["no-answer", "no-answer", "no-answer", "locked"]);

    let down = guarded().prepare();
    let mut down = down;
    down.reconfigure(|config| config.set_service("backends", vec![format!("http://{closed}")]));
    let clinic = down.start();
    let mut wire = clinic.wire(DOCTOR);
    for _ in 0..6 {
        assert_eq!(login(&mut wire, "tanaka", "right").status, 503);
    }
    assert_eq!(outcomes(&clinic), vec!["not-sent"; 6]);
    assert_eq!(clinic.metric("sekisho_login_accounts", &[]), 0.0);
}

/// Whoever hangs up before the answer has guessed all the same.
#[test]
fn a_client_that_hangs_up_has_failed() {
    let clinic = guarded().start();
    // An answer that cannot come before the client is gone.
    clinic.backend().answers(|seen| application(seen).after(Duration::from_secs(600)));
    for round in 1..=3 {
        let mut wire = clinic.wire(DOCTOR);
        wire.send_request("POST", "/login", &[FORM], b"username=tanaka&password=right");
        until("the backend to have the password", || (clinic.backend().seen().len() == round).then_some(()));
        wire.reset();
    }
    let locked = within(gateway_tests::PATIENCE, || {
        let answer = login(&mut clinic.wire(DOCTOR), "tanaka", "right");
        (answer.status == 429 && outcomes(&clinic).iter().filter(|outcome| *outcome == "no-answer").count() == 3)
            .then_some(())
    });
    assert!(locked.is_some(), "{:?}", outcomes(&clinic));
    assert_eq!(clinic.backend().seen().len(), 3);
}

#[test]
fn json_logins_are_judged_by_the_body_of_their_answer() {
    let clinic = guarded().start();
    clinic.backend().answers(|seen| {
        let ok = String::from_utf8_lossy(&seen.body).contains("right");
        assert!(seen.values("accept-encoding").is_empty(), "what is compressed says nothing");
        Reply::new(200, &format!("{{\"ok\":{ok},\"filler\":\"{}\"}}", "x".repeat(if ok { 30_000 } else { 90_000 })))
    });
    let mut wire = clinic.wire(DOCTOR);
    let json = [("Content-Type", "application/json"), ("Accept-Encoding", "gzip")];
    let ask = |wire: &mut Wire, password: &str| {
        let body = format!("{{\"user\":\"tanaka\",\"password\":\"{password}\"}}");
        wire.request("POST", "/json", &json, body.as_bytes())
    };
    for _ in 0..2 {
        let answer = ask(&mut wire, "no");
        assert_eq!((answer.status, answer.body.len()), (200, 90_024), "an answer beyond the bound passes whole");
    }
    let answer = ask(&mut wire, "right");
    assert_eq!((answer.status, answer.body.len()), (200, 30_023), "and one within it");
    (0..3).for_each(|_| assert_eq!(ask(&mut wire, "no").status, 200));
    refused(&ask(&mut wire, "right"));
    let accounts: Vec<_> =
        clinic.records().iter().filter(|r| is(r, "login")).map(|r| text(r, "outcome").to_owned()).collect();
    assert_eq!(accounts, ["failure", "failure", "success", "failure", "failure", "failure", "locked"]);
}

/// Programs that send a password with every request are not held up once it was right, and guessed no more often.
#[test]
fn basic_logins_are_guarded_request_by_request() {
    let clinic = guarded().start();
    clinic.backend().answers(|seen| {
        let right = seen.values("authorization") == ["Basic dGFuYWthOnJpZ2h0"];
        Reply::new(if right { 200 } else { 401 }, "x")
    });
    let basic =
        |wire: &mut Wire, value: &str| wire.request("GET", "/basic/studies", &[("Authorization", value)], b"").status;
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(wire.get("/basic/studies").status, 401, "the challenge");
    for _ in 0..20 {
        assert_eq!(basic(&mut wire, "Basic dGFuYWthOnJpZ2h0"), 200);
    }
    for guess in ["dGFuYWthOmE=", "dGFuYWthOmI=", "VEFOQUtBOmM="] {
        assert_eq!(basic(&mut wire, &format!("Basic {guess}")), 401);
    }
    assert_eq!(basic(&mut wire, "Basic dGFuYWthOmQ="), 429);
    assert_eq!(basic(&mut wire, "Basic dGFuYWthOnJpZ2h0"), 429, "and the right one tells nothing while it is locked");
    assert_eq!(basic(&mut clinic.wire(ELSEWHERE), "Basic dGFuYWthOnJpZ2h0"), 200);
}

/// What one device may try at all is bounded before anything is remembered of it, and counted, not recorded.
#[test]
fn a_flood_ends_before_anything_is_remembered() {
    let clinic = start(guarded().config(|config| config.set("login", "device_attempts_per_minute", 10)));
    let mut wire = clinic.wire(DOCTOR);
    let begun = std::time::Instant::now();
    let answers: Vec<_> = (0..200).map(|n| login(&mut wire, &format!("account-{n}"), "x").status).collect();
    let reached = answers.iter().filter(|status| **status == 200).count();
    // One at once, and one in six seconds.
    let most = 2 + usize::try_from(begun.elapsed().as_secs() / 6).expect("a number");
    assert!((1..=most).contains(&reached), "{reached} of 200, and {most} may");
    assert_eq!(wrong(clinic.backend()), reached);
    assert_eq!(outcomes(&clinic).len(), reached, "the rest is counted");
    assert!(clinic.metric("sekisho_requests_total", &[("reason", "rate-limited")]) >= 100.0);
    assert_eq!(login(&mut clinic.wire(WARD), "tanaka", "right").status, 302);
}

/// What cannot be stored is refused: a crash would forget it.
#[test]
fn without_a_store_no_login_passes() {
    let clinic = start(guarded());
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(login(&mut wire, "tanaka", "right").status, 302);
    // Another process holds the store.
    let store = clinic.prepared.path("state/sekisho.db");
    let program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()";
    let mut holder = std::process::Command::new("python3")
        .args(["-c", program])
        .arg(&store)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3");
    let mut held = [0; 4];
    std::io::Read::read_exact(holder.stdout.as_mut().expect("piped"), &mut held).expect("it holds the store");
    let before = clinic.backend().seen().len();
    let answer = login(&mut wire, "tanaka", "right");
    assert_eq!((answer.status, answer.problem().as_str()), (503, "login-unavailable"));
    assert_eq!(clinic.backend().seen().len(), before);
    assert_eq!(clinic.metric("sekisho_login_store_available", &[]), 0.0);
    drop(holder.stdin.take());
    holder.wait().expect("it ends");
    until("logins to pass again", || (login(&mut wire, "tanaka", "right").status == 302).then_some(()));
}

#[test]
fn other_bounds_act_from_a_reload_on_and_lockouts_stay() {
    let mut clinic = start(guarded());
    let mut wire = clinic.wire(DOCTOR);
    (0..3).for_each(|_| drop(login(&mut wire, "tanaka", "no")));
    clinic.reconfigure(|config| config.set("login", "failures", 1));
    assert!(clinic.reload());
    assert_eq!(login(&mut wire, "suzuki", "no").status, 200);
    refused(&login(&mut wire, "suzuki", "right"));
    clinic.reconfigure(|config| config.set("login", "failures", 50));
    assert!(clinic.reload());
    refused(&login(&mut wire, "tanaka", "right"));
    refused(&login(&mut wire, "suzuki", "right"));
    assert_eq!(login(&mut wire, "mori", "no").status, 200);
    assert_eq!(login(&mut wire, "mori", "right").status, 302);
}

/// A password in a query reaches the backend, and no record.
#[test]
fn a_login_by_query_leaves_no_password_behind() {
    let clinic = guarded().start();
    clinic.backend().answers(|seen| {
        let status = if seen.target().ends_with("p=sesame") { "ok" } else { "no" };
        Reply::raw(format!("HTTP/1.1 200 OK\r\nX-Login-Status: {status}\r\nContent-Length: 0\r\n\r\n"))
    });
    let mut wire = clinic.wire(DOCTOR);
    for (target, status) in [
        ("/query?u=tanaka&p=guess", 200),
        ("/query?u=tanaka&p=sesame", 200),
        ("/query?u=tanaka&p=guess&u=suzuki", 400),
        ("/query?u=tanaka&p=guess", 200),
    ] {
        assert_eq!(wire.get(target).status, status, "{target}");
    }
    assert_eq!(clinic.backend().last().target(), "/query?u=tanaka&p=guess");
    assert_eq!(outcomes(&clinic), ["failure", "success", "failure"]);
    let records = clinic.records().iter().map(Value::to_string).collect::<String>();
    assert!(records.contains("\"/query\"") && !records.contains("sesame") && !records.contains("guess"), "{records}");
    assert!(!clinic.gateway.said().contains("sesame"));
}

/// C14: neither the answer nor its time tells an account that exists from one that does not.
#[test]
fn a_locked_account_that_exists_answers_in_the_time_of_one_that_does_not() {
    let clinic = start(guarded());
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(login(&mut wire, "tanaka", "right").status, 302, "it exists");
    for account in ["tanaka", "nobody"] {
        (0..3).for_each(|_| assert_eq!(login(&mut wire, account, "no").status, 200));
    }
    let mut dice = 0x9e37_79b9_u32;
    // A leak is there every time, noise is not.
    let mut all = Vec::new();
    let passes = (0..ATTEMPTS).any(|attempt| {
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..1_000 {
            // Xorshift: the order of the two must follow no rhythm of the machine.
            dice ^= dice << 13;
            dice ^= dice >> 17;
            dice ^= dice << 5;
            let which = (dice >> 16) as usize % 2;
            let began = std::time::Instant::now();
            let answer = login(&mut wire, ["tanaka", "nobody"][which], "no");
            samples[which].push(began.elapsed().as_secs_f64());
            assert_eq!(answer.status, 429);
        }
        all.push(largest_t(&samples[0], &samples[1]));
        all[attempt] < BOUND
    });
    println!("|t| = {all:.2?}");
    assert!(passes, "an account that exists can be told from one that does not: |t| = {all:.1?}");
}
