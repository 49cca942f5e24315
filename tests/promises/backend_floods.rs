//! Backends that never stop, stop too early, or say too little get no client anything but a clear answer, cost no memory, and
//! leave nothing behind for the next exchange.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, Ended, PATIENCE};

/// A backend that does with a connection what the name in the target's last segment says, once the head is there.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(serve(stream)));
        }
    });
    address
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let name = head.split(' ').nth(1).and_then(|target| target.rsplit('/').next()).unwrap_or_default();
        let for_ever = |stream: &mut TcpStream, first: &str, again: &str| -> std::io::Result<()> {
            stream.write_all(first.as_bytes())?;
            let block = again.repeat(1 + 16 * 1024 / again.len());
            loop {
                stream.write_all(block.as_bytes())?;
            }
        };
        let ok = "HTTP/1.1 200 OK\r\n";
        match name {
            "endless-fields" => for_ever(&mut stream, ok, "x-more: and more\r\n")?,
            "endless-field" => for_ever(&mut stream, &format!("{ok}x-long: "), "and more ")?,
            "endless-status-line" => for_ever(&mut stream, "HTTP/1.1 200 ", "OK ")?,
            "endless-interim" => for_ever(&mut stream, "", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")?,
            "endless-continue" => for_ever(&mut stream, "", "HTTP/1.1 100 Continue\r\n\r\n")?,
            "half-a-head" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le")?;
                return stream.shutdown(Shutdown::Both);
            }
            "early-close" => return stream.shutdown(Shutdown::Both),
            "half-and-silence" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le")?;
                std::thread::sleep(PATIENCE);
                return Ok(());
            }
            "trickle" => loop {
                stream.write_all(b"H")?;
                std::thread::sleep(Duration::from_millis(50));
            },
            "interim-trickle" => loop {
                stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n")?;
                std::thread::sleep(Duration::from_millis(100));
            },
            "endless-extension" => {
                for_ever(&mut stream, &format!("{ok}Transfer-Encoding: chunked\r\n\r\n5;"), "extended")?;
            }
            "endless-trailers" => {
                for_ever(&mut stream, &format!("{ok}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"), "x-t: y\r\n")?;
            }
            "huge-chunk" => {
                let first = format!("{ok}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n");
                for_ever(&mut stream, &first, "forged")?;
            }
            "short" => {
                stream.write_all(format!("{ok}Content-Length: 100\r\n\r\nshort").as_bytes())?;
                return stream.shutdown(Shutdown::Both);
            }
            "long" => stream.write_all(format!("{ok}Content-Length: 4\r\n\r\nrealforged").as_bytes())?,
            _ => stream.write_all(format!("{ok}Content-Length: 5\r\n\r\nwhole").as_bytes())?,
        }
    }
}

#[test]
fn what_never_ends_or_never_begins_is_told_and_forgotten() {
    let mut prepared = Clinic::builder().prepare();
    let address = server();
    prepared.reconfigure(|config| {
        config.set_service("backends", vec![format!("http://{address}")]);
        config.set_service("response_timeout_ms", 1500);
    });
    let clinic = prepared.start();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", clinic.gateway.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    assert_eq!(clinic.wire(DOCTOR).get("/open/warm").body, b"whole");
    let before = resident();
    for (name, status, reason) in [
        ("endless-fields", 502, "backend-malformed"),
        ("endless-field", 502, "backend-malformed"),
        ("endless-status-line", 502, "backend-malformed"),
        ("endless-interim", 502, "backend-malformed"),
        ("endless-continue", 502, "backend-malformed"),
        ("half-a-head", 502, "backend-malformed"),
        ("early-close", 502, "backend-malformed"),
        ("half-and-silence", 504, "backend-timeout"),
        ("trickle", 504, "backend-timeout"),
        ("interim-trickle", 504, "backend-timeout"),
    ] {
        let begun = Instant::now();
        let mut wire = clinic.wire(DOCTOR);
        let answer = wire.get(&format!("/open/{name}"));
        if name == "interim-trickle" {
            // Whichever bound is met first.
            assert!(matches!(answer.status, 502 | 504), "{name}: {answer:?}");
        } else {
            assert_eq!((answer.status, &*answer.problem()), (status, reason), "{name}: {answer:?}");
            assert_eq!(clinic.reasons_of(wire.local()), [reason], "{name}");
        }
        assert!(begun.elapsed() < PATIENCE / 2, "{name}: {:?}", begun.elapsed());
        let over_h2 = clinic.h2(DOCTOR).get(&format!("/open/{name}")).expect("an answer");
        assert!(matches!(over_h2.status, 502 | 504), "{name} over HTTP/2: {over_h2:?}");
        // The same connection goes on, and so does everybody else's.
        assert_eq!(wire.get("/open/x").body, b"whole", "{name}");
    }
    for name in ["endless-extension", "endless-trailers", "huge-chunk", "short", "long"] {
        let mut wire = clinic.wire(DOCTOR);
        wire.send_request("GET", &format!("/open/{name}"), &[], b"");
        match wire.try_answer() {
            Ok(answer) if name == "long" => assert_eq!(answer.body, b"real", "{name}"),
            Ok(answer) => assert_eq!(answer.status, 502, "{name}: {answer:?}"),
            Err(Ended::Torn(_)) => {}
            Err(ended) => panic!("{name}: {ended:?}"),
        }
        if name != "long" {
            let asked = gateway_tests::until("its record", || clinic.asked_by(&wire).pop());
            let id = text(&asked, "request").to_owned();
            clinic.wait_for_record("the end", |record| {
                is(record, "completion") && text(record, "request") == id && text(record, "end") != "complete"
            });
        }
        for _ in 0..3 {
            assert_eq!(clinic.wire(DOCTOR).get("/open/x").body, b"whole", "after {name}");
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 24 * 1024, "grown by {grown} KiB");
}

#[test]
fn a_backend_that_closes_while_it_is_told_something_is_a_clear_failure() {
    let mut prepared = Clinic::builder().prepare();
    let address = server();
    prepared.reconfigure(|config| config.set_service("backends", vec![format!("http://{address}")]));
    let clinic = prepared.start();
    let body = vec![b'x'; 4_000_000];
    let mut wire = clinic.wire(DOCTOR);
    let answer = wire.request("POST", "/open/early-close", &[], &body);
    assert_eq!((answer.status, &*answer.problem()), (502, "backend-malformed"));
    let outcome = clinic.wait_for_record("the outcome", |record| is(record, "outcome"));
    assert_eq!(text(&outcome, "reason"), "backend-malformed", "what may have been done is not repeated: {outcome:#}");
    assert_eq!(clinic.wire(DOCTOR).get("/open/x").body, b"whole");
}
