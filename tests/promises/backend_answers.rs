//! What a backend answers reaches the client whole, or visibly broken, or not at all: never as something else, and
//! never as the beginning of the next answer (C1, the other way).

use std::time::Duration;

use gateway_tests::audit::text;
use gateway_tests::{Clinic, DOCTOR, Ended, Reply, until};

/// Answers that two readers could understand in two ways, or nobody at all.
const BROKEN: &[(&str, &str)] = &[
    ("length and coding", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("coding and length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456"),
    ("length 5, 6", "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n123456"),
    ("length +5", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n12345"),
    ("an unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n12345"),
    ("chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("an empty name", "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n"),
    ("a space in a name", "HTTP/1.1 200 OK\r\nX Y: z\r\nContent-Length: 0\r\n\r\n"),
    ("a NUL in a value", "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 0\r\n\r\n"),
    ("a folded line", "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n"),
    ("no status", "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status 000", "HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n"),
    ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ("nothing", ""),
];

#[test]
fn a_broken_head_is_a_502() {
    let clinic = Clinic::builder().start();
    for &(name, bytes) in BROKEN {
        clinic.backend().answers(move |_| Reply::raw(bytes).then_close());
        let mut wire = clinic.wire(DOCTOR);
        let answer = wire.get("/open/x");
        assert_eq!((answer.status, &*answer.problem()), (502, "backend-malformed"), "{name}: {answer:?}");
        let asked = clinic.asked_by(&wire);
        assert_eq!((asked.len(), text(&asked[0], "reason")), (1, "backend-malformed"), "{name}: {asked:#?}");
        clinic.backend().answers(|_| Reply::new(200, "whole"));
        assert_eq!(clinic.wire(DOCTOR).get("/open/x").body, b"whole", "{name}");
    }
}

#[test]
fn a_truncated_body_looks_truncated() {
    let clinic = Clinic::builder().start();
    for (name, bytes) in [
        ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n12345"),
        ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"),
        ("a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nZZ\r\n"),
    ] {
        clinic.backend().answers(move |_| Reply::raw(bytes).then_close());
        let mut wire = clinic.wire(DOCTOR);
        wire.send_request("GET", "/open/x", &[], b"");
        match wire.try_answer() {
            Ok(answer) => assert_eq!(answer.status, 502, "{name}: {answer:?}"),
            Err(Ended::Torn(_)) => {}
            Err(ended) => panic!("{name}: {ended:?}"),
        }
        if let Ok(answer) = clinic.h2(DOCTOR).get("/open/x") {
            assert_eq!(answer.status, 502, "{name}: {answer:?}");
        }
        clinic.wait_for_record("the end", |record| {
            text(record, "kind") == "completion" && text(record, "end") != "complete"
        });
    }
}

#[test]
fn bytes_behind_an_answer_belong_to_nobody() {
    let clinic = Clinic::builder().start();
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nreal\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n".to_owned(),
    ] {
        let reply = first + second;
        clinic.backend().answers(move |_| Reply::raw(reply.clone()));
        for _ in 0..3 {
            let mut wire = clinic.wire(DOCTOR);
            for _ in 0..2 {
                let answer = wire.get("/open/x");
                assert_ne!(answer.body, b"forged", "{answer:?}");
            }
        }
    }
}

#[test]
fn an_answer_to_head_has_no_body() {
    let clinic = Clinic::builder().start();
    clinic.backend().answers(|seen| match &*seen.method() {
        "HEAD" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        _ => Reply::new(200, "next"),
    });
    let mut wire = clinic.wire(DOCTOR);
    let answer = wire.request("HEAD", "/open/x", &[], b"");
    assert_eq!((answer.status, answer.field("content-length")), (200, "1000"));
    assert_eq!(wire.get("/open/x").body, b"next");
}

#[test]
fn interim_answers_are_not_the_answer() {
    let clinic = Clinic::builder().start();
    clinic.backend().answers(|_| {
        Reply::raw(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal",
        )
    });
    let mut wire = clinic.wire(DOCTOR);
    for _ in 0..2 {
        assert_eq!(wire.get("/open/x").body, b"real");
    }
}

#[test]
fn the_client_is_told_to_go_on_and_the_body_arrives() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    let host = wire.host();
    wire.send(format!("POST /open/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"));
    until("the intent", || clinic.asked_by(&wire).pop());
    std::thread::sleep(Duration::from_millis(50));
    wire.send("12345");
    let answer = wire.answer();
    assert_eq!((answer.status, &answer.interim[..]), (200, &[100][..]));
    assert_eq!(clinic.backend().last().body, b"12345");
}

#[test]
fn a_silent_backend_is_a_504_and_an_absent_one_a_503() {
    let clinic = Clinic::builder().config(|config| config.set_service("response_timeout_ms", 300)).start();
    clinic.backend().answers(|_| Reply::new(200, "late").after(Duration::from_secs(2)));
    let mut wire = clinic.wire(DOCTOR);
    let answer = wire.get("/open/x");
    assert_eq!((answer.status, &*answer.problem()), (504, "backend-timeout"));
    assert_eq!(clinic.wait_for_reasons(wire.local()), ["backend-timeout"]);

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let mut prepared = Clinic::builder().prepare();
    prepared.reconfigure(|config| config.set_service("backends", vec![format!("http://{nobody}")]));
    let clinic = prepared.start();
    let mut wire = clinic.wire(DOCTOR);
    for method in ["GET", "POST"] {
        let answer = wire.request(method, "/open/x", &[], b"");
        assert_eq!((answer.status, &*answer.problem()), (503, "backend-unavailable"), "{method}");
    }
    assert_eq!(clinic.wait_for_reasons(wire.local()), ["backend-unavailable"; 2]);
}

#[test]
fn large_bodies_pass_both_ways_unchanged() {
    let clinic = Clinic::builder().start();
    clinic.backend().answers(|seen| Reply::new(200, &String::from_utf8_lossy(&seen.body)));
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| b'a' + u8::try_from(n * 7 % 26).expect("a letter")).collect();
    let mut wire = clinic.wire(DOCTOR);
    assert!(wire.request("POST", "/open/x", &[], &body).body == body, "the body came back changed");
    let mut h2 = clinic.h2(DOCTOR);
    let answer = h2.request("POST", "/open/x", &[], Vec::leak(body.clone())).expect("an answer");
    assert!(answer.body == body, "the body came back changed over HTTP/2");
}
