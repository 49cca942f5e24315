//! R10, R27: a session ends when nobody uses it, when it has lasted long enough, when an operator or the registry says so, and
//! then what is under way ends within a second. A restart of the gateway ends none, and brings none back.

use std::time::{Duration, Instant};

use gateway_tests::audit::text;
use gateway_tests::h2::{Frames, Outcome, kind};
use gateway_tests::{Clinic, DOCTOR, Ended, Wire, until, within};
use serde_json::Value;

use crate::account::{Browser, GOOD, TANAKA, first_password};
use crate::login_guard::{ELSEWHERE, WARD};
use crate::session_bound::{ask, body, clinic, ended, login, serve, sessions, start};

fn begun(clinic: &Clinic) -> String {
    text(&sessions(clinic, "begun").pop().expect("a record"), "session").to_owned()
}

/// A stream that has begun; none if the session is over before.
fn try_stream(clinic: &Clinic, device: &str, cookie: &str) -> Option<Wire> {
    let mut wire = clinic.wire(device);
    wire.send_request("GET", "/app/stream", &[("Cookie", cookie)], b"");
    wire.reads_until(b"only so much").then_some(wire)
}

fn stream(clinic: &Clinic, device: &str, cookie: &str) -> Wire {
    try_stream(clinic, device, cookie).expect("the stream begins")
}

/// Whether a session that is used all the time lives for two of its idle times. None if the machine paused for so long that
/// it may be over.
fn uses(wire: &mut Wire, cookie: &str, mut last: Instant, idle: Duration) -> Option<()> {
    let since = Instant::now();
    while since.elapsed() < 2 * idle {
        // The use before this one was after it was sent, and this one is before it is answered.
        let sent = Instant::now();
        let answer = ask(wire, "/charts/1", cookie);
        if std::mem::replace(&mut last, sent).elapsed() > idle / 2 {
            return None;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    Some(())
}

#[test]
fn whoever_leaves_is_logged_out() {
    const IDLE: Duration = Duration::from_secs(3);
    let clinic = start(clinic().config(|config| config.set("session", "idle_s", 3)));
    let mut wire = clinic.wire(DOCTOR);
    let used = (0..10).find_map(|_| {
        let before = Instant::now();
        let cookie = login(&mut wire, "tanaka", None);
        uses(&mut wire, &cookie, before, IDLE).map(|()| cookie)
    });
    let cookie = used.expect("once in ten times the machine does not pause");
    let name = begun(&clinic);
    ended(&clinic, &name, "idle");
    assert_eq!(ask(&mut wire, "/charts/1", &cookie).problem(), "session-required");
    assert_eq!(body(&ask(&mut wire, "/app/x", &cookie)), "nobody");
}

#[test]
fn no_session_lasts_for_ever() {
    let clinic = start(clinic().config(|config| config.set("session", "absolute_s", 8)));
    let mut wire = clinic.wire(DOCTOR);
    let begins = (0..10).find_map(|_| {
        let cookie = login(&mut wire, "tanaka", None);
        let streaming = try_stream(&clinic, DOCTOR, &cookie)?;
        // Over already, where the machine has paused for so long: its end is cut by the next one.
        (ask(&mut wire, "/charts/1", &cookie).status == 200).then_some((cookie, streaming))
    });
    let (cookie, mut streaming) = begins.expect("once in ten times the stream begins in time");
    let name = begun(&clinic);
    let over = within(Duration::from_secs(90), || (ask(&mut wire, "/charts/1", &cookie).status == 401).then_some(()));
    over.expect("the end of a session that is in use");
    ended(&clinic, &name, "expired");
    streaming.closes();
}

#[test]
fn bounds_are_those_of_role_and_site() {
    let rule = "[[session.rule]]\nsites = [\"ume-clinic\"]\nidle_s = 2\n";
    let clinic = start(clinic().config(|config| config.append(rule)));
    let (mut here, mut there) = (clinic.wire(DOCTOR), clinic.wire(ELSEWHERE));
    let kept = login(&mut here, "tanaka", None);
    login(&mut there, "suzuki", None);
    ended(&clinic, &begun(&clinic), "idle");
    assert_eq!(body(&ask(&mut here, "/charts/1", &kept)), "tanaka");
}

#[test]
fn one_more_than_allowed_ends_the_oldest() {
    let clinic = start(clinic().config(|config| config.set("session", "concurrent", 1)));
    let (mut exam, mut ward) = (clinic.wire(DOCTOR), clinic.wire(WARD));
    let first = login(&mut exam, "tanaka", None);
    let name = begun(&clinic);
    let other = login(&mut exam, "suzuki", None);
    let second = login(&mut ward, "tanaka", None);
    ended(&clinic, &name, "surplus");
    assert_eq!(ask(&mut exam, "/charts/1", &first).problem(), "session-required");
    assert_eq!(body(&ask(&mut exam, "/charts/1", &other)), "suzuki");
    assert_eq!(body(&ask(&mut ward, "/charts/1", &second)), "tanaka");
}

/// Every way to end a session from outside, and what is recorded of it.
const WAYS: &[(&[&str], &str)] = &[
    (&["session", "end", "NAME"], "operator"),
    (&["session", "end", "--user", "sakura-clinic/tanaka"], "operator"),
    (&["session", "end", "--device", DOCTOR], "operator"),
    (&["user", "suspend", "sakura-clinic/tanaka"], "revoked"),
    (&["user", "remove", "sakura-clinic/tanaka"], "revoked"),
    (&["device", "suspend", DOCTOR], "revoked"),
];

#[test]
fn what_is_under_way_ends_with_its_session() {
    for (command, reason) in WAYS {
        let clinic = start(clinic());
        let (mut exam, mut ward) = (clinic.wire(DOCTOR), clinic.wire(WARD));
        let cookie = login(&mut exam, "tanaka", None);
        let name = begun(&clinic);
        let others = login(&mut ward, "suzuki", None);
        let mut streaming = stream(&clinic, DOCTOR, &cookie);
        let mut of_others = stream(&clinic, WARD, &others);
        let mut waiting = clinic.wire(DOCTOR);
        waiting.send_request("GET", "/app/slow", &[("Cookie", &cookie)], b"");
        let mut over_h2 = Frames::open(&clinic.handshake(DOCTOR));
        over_h2.wire.set_patience(Duration::from_secs(60));
        let host = over_h2.wire.host();
        let fields = [over_h2.request("GET", "/app/stream", &host), vec![("cookie", &cookie)]].concat();
        over_h2.headers(1, &fields, true);
        let is_begun = |frame: gateway_tests::h2::Frame| frame.stream == 1 && frame.kind == kind::DATA;
        while !is_begun(over_h2.next_frame().expect("the stream begins over HTTP/2 as well")) {}
        until("all of it at the backend", || {
            let seen = clinic.backend().seen();
            let count = |target: &str| seen.iter().filter(|seen| seen.target() == target).count();
            (count("/app/slow") == 1 && count("/app/stream") == 3).then_some(())
        });
        let what = command.join(" ");
        until("the store to know the session", || {
            clinic.registry(&["session", "list"]).stdout.contains(&name).then_some(())
        });
        let command: Vec<_> = command.iter().map(|part| if *part == "NAME" { &*name } else { part }).collect();
        clinic.registry(&command);
        let since = Instant::now();
        streaming.closes();
        println!("{what}: cut {:?} after the command", since.elapsed());
        // None of it within its time panics.
        let cut = over_h2.outcome(1);
        assert!(!matches!(cut, Outcome::Answered(_)), "{what}: over HTTP/2 the stream goes on: {cut:?}");
        match waiting.try_answer() {
            Ok(answer) => assert_eq!((answer.status, &*answer.problem()), (401, "session-ended"), "{what}"),
            // The device itself is refused.
            Err(_) => assert_eq!(command[0], "device", "{what}"),
        }
        ended(&clinic, &name, reason);
        if *reason == "operator" {
            assert_eq!(ask(&mut exam, "/charts/1", &cookie).problem(), "session-required", "{what}");
        }
        assert_eq!(body(&ask(&mut ward, "/charts/1", &others)), "suzuki", "{what}");
        of_others.set_patience(Duration::from_millis(100));
        assert!(matches!(of_others.try_answer(), Err(Ended::Silent)), "{what}: the others' stream goes on");
        let asked = clinic.asked_by(&streaming).pop().expect("its record");
        let over = clinic.wait_for_record("the completion", |record| {
            text(record, "kind") == "completion" && text(record, "request") == text(&asked, "request")
        });
        assert_eq!(text(&over, "end"), "revoked", "{over:#}");
        assert!(over["bytes"]["sent"].as_u64().expect("bytes") > 0, "{over:#}");
        if command[0] == "user" {
            // Nobody logs in as whoever may no more, although the backend would let them in.
            let answer = exam.request("POST", "/login", &[crate::login_guard::FORM], b"username=tanaka&password=right");
            if command[1] == "suspend" {
                assert_eq!(answer.problem(), "user-suspended", "{what}: {answer:?}");
            } else {
                assert_eq!(answer.status, 302, "{what}: a name that the registry does not know is nobody's");
            }
        }
        if command[0] == "session" {
            let listed: Value =
                serde_json::from_str(&clinic.registry(&["session", "list", "--json"]).stdout).expect("JSON");
            let listed = listed["sessions"].as_array().expect("a list");
            assert_eq!(listed.iter().map(|session| text(session, "user")).collect::<Vec<_>>(), ["suzuki"]);
        }
    }
}

/// A request that is part of a backend's session and of one of ours ends with either.
#[test]
fn what_two_sessions_carry_ends_with_either() {
    for which in ["learnt", "local"] {
        let clinic = start(clinic().config(|config| {
            config.set_listener("login_page", true);
            for (key, value) in [("memory_kib", 64), ("passes", 1), ("lanes", 1)] {
                config.set("account", key, value);
            }
        }));
        let first = first_password(&clinic, TANAKA);
        let browser = Browser::new(&clinic, DOCTOR);
        browser.change_first("tanaka", &first, GOOD);
        let jar = browser.jar();
        let own = jar.lines().find(|line| line.contains("__Host-sekisho\t")).expect("a session");
        let own = own.split('\t').next_back().expect("a value");
        let cookie = login(&mut clinic.wire(DOCTOR), "tanaka", None);
        let begun = sessions(&clinic, "begun");
        let named = begun.iter().find(|record| text(record, "origin") == which).expect("both have begun");
        let mut streaming = stream(&clinic, DOCTOR, &format!("{cookie}; __Host-sekisho={own}"));
        let name = text(named, "session");
        until("the store to know the session", || {
            clinic.registry(&["session", "list"]).stdout.contains(name).then_some(())
        });
        clinic.registry(&["session", "end", name]);
        streaming.closes();
    }
}

/// An application that gives another cookie with every answer.
#[test]
fn cookies_that_roll_are_one_session_of_which_little_is_stored() {
    let clinic = start(clinic());
    let mut exam = clinic.wire(DOCTOR);
    let first = login(&mut exam, "tanaka", None);
    let mut cookies = vec![first];
    for _ in 0..40 {
        let last = cookies.last().expect("one");
        let answer = ask(&mut exam, "/app/rotate", last);
        cookies.push(answer.field("set-cookie").split(';').next().expect("a cookie").to_owned());
        // The newest counts at once, on another connection too.
        let newest = cookies.last().expect("one");
        assert_eq!(body(&ask(&mut exam, "/charts/1", newest)), "tanaka");
    }
    let newest = cookies.last().expect("one");
    assert_eq!(body(&ask(&mut clinic.wire(DOCTOR), "/charts/1", newest)), "tanaka");
    assert_eq!(ask(&mut exam, "/charts/1", &cookies[25]).problem(), "session-required", "one that it went on without");
    assert_eq!(ask(&mut exam, "/charts/1", &cookies[1]).problem(), "session-required", "nobody knows it any more");
    let prepared = clinic.stop();
    let query = "SELECT COUNT(*) FROM session_secrets";
    let output = std::process::Command::new("sqlite3").arg(prepared.path("state/sekisho.db")).arg(query).output();
    let rows = String::from_utf8(output.expect("sqlite3").stdout).expect("a number");
    assert_eq!(rows.trim(), "6", "four that it goes on with, two that it had");
    let clinic = prepared.start();
    serve(clinic.backend(), false);
    assert_eq!(ask(&mut clinic.wire(DOCTOR), "/charts/1", newest).status, 200, "a restart knows the newest");
    assert_eq!(ask(&mut clinic.wire(DOCTOR), "/charts/1", &cookies[30]).problem(), "session-required");
    assert_eq!(ask(&mut clinic.wire(WARD), "/charts/1", newest).problem(), "session-stolen");
}

#[test]
fn a_restart_and_a_kill_keep_sessions() {
    let clinic = start(clinic());
    let (mut exam, mut ward) = (clinic.wire(DOCTOR), clinic.wire(WARD));
    let kept = login(&mut exam, "tanaka", None);
    let over = login(&mut ward, "suzuki", None);
    let name = begun(&clinic);
    until("the store to know both", || clinic.registry(&["session", "list"]).stdout.contains(&name).then_some(()));
    let stored = std::fs::read(clinic.prepared.path("state/sekisho.db")).expect("the store");
    let log = std::fs::read(clinic.prepared.path("state/sekisho.db-wal")).unwrap_or_default();
    assert!(![stored, log].concat().windows(7).any(|part| part == b"secret-"), "the store holds no secret");
    let mut clinic = clinic;
    clinic.kill();
    let prepared = clinic.stop();
    prepared.registry(&["session", "end", &name]);
    let clinic = prepared.start();
    serve(clinic.backend(), false);
    let (mut exam, mut ward) = (clinic.wire(DOCTOR), clinic.wire(WARD));
    assert_eq!(ask(&mut exam, "/charts/1", &kept).status, 200);
    assert_eq!(text(&clinic.asked_by(&exam).pop().expect("a record"), "user"), "tanaka");
    assert_eq!(ask(&mut ward, "/charts/1", &over).problem(), "session-required");
    let clinic = clinic.stop().start();
    serve(clinic.backend(), false);
    assert_eq!(ask(&mut clinic.wire(DOCTOR), "/charts/1", &kept).status, 200);
    assert_eq!(ask(&mut clinic.wire(WARD), "/charts/1", &kept).problem(), "session-stolen");

    // Without the key nobody's secret is known, and nobody is let in by the store alone.
    let prepared = clinic.stop();
    std::fs::remove_file(prepared.path("state/session.key")).expect("the key");
    let clinic = prepared.start();
    serve(clinic.backend(), false);
    assert_eq!(ask(&mut clinic.wire(DOCTOR), "/charts/1", &kept).problem(), "session-required");
}
