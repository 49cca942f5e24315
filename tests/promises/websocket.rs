//! WebSockets pass where a route allows them: judged when they open, recorded when they open and when they end, cut when
//! whoever opened them may no more (C3, R5, R27).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, Ended, PATIENCE, Script, Wire, until};
use serde_json::{Value, json};

use crate::session_bound;

const NURSE: &str = "sakura-clinic/ward-1";
const CLERK: &str = "sakura-clinic/desk-1";
const CLIENT: &str = "clients/websocket_client.py";

/// A route that takes WebSockets, `rules` of its table included.
fn route(rules: &str) -> String {
    format!(
        "[[route]]\nname = \"ws\"\npath = \"/ws\"\nservice = \"clinical\"\nclass = \"clinical\"\nkind = \"generic\"\n\
         websocket = {{ {rules} }}\n"
    )
}

/// A clinic in front of a server of WebSockets.
fn clinic_of(rules: &str, server: SocketAddr) -> Clinic {
    let builder = Clinic::builder().device(NURSE, "ns-abe", "nurse").device(CLERK, "ck-mori", "clerk");
    let mut prepared = builder.prepare();
    prepared.reconfigure(|config| {
        config.append(&route(rules));
        config.set_service("backends", vec![format!("http://{server}")]);
    });
    prepared.start()
}

fn real_server() -> (Script, SocketAddr) {
    let mut server = Script::start("backends/websocket_server.py", &[]);
    let address = server.address();
    (server, address)
}

/// A backend that does with each of its connections, from the whole head on, what it is told.
fn raw_server(serve: impl Fn(TcpStream, &str) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_exact(&mut byte).is_err() {
                        return;
                    }
                    head.push(byte[0]);
                }
                serve(stream, &String::from_utf8_lossy(&head));
            });
        }
    });
    address
}

fn value_of<'a>(head: &'a str, name: &str) -> &'a str {
    let field = |line: &'a str| line.split_once(": ").filter(|(field, _)| field.eq_ignore_ascii_case(name));
    head.lines().find_map(field).map_or("", |(_, value)| value)
}

/// The right answer to a head that asks for a WebSocket.
pub(crate) fn agreement(head: &str) -> String {
    let key = value_of(head, "sec-websocket-key");
    let hash = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    );
    let accept = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hash);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// The head of a handshake, as RFC 6455 has it in its example.
fn handshake(wire: &Wire, target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
        wire.host()
    )
}

/// Opens one by hand.
fn open(clinic: &Clinic, device: &str, target: &str) -> Wire {
    let mut wire = clinic.wire(device);
    wire.send(handshake(&wire, target, ""));
    let answer = wire.answer();
    assert_eq!(
        (answer.status, answer.field("sec-websocket-accept")),
        (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{answer:?}"
    );
    assert_eq!((answer.field("upgrade"), answer.field("connection")), ("websocket", "Upgrade"), "{answer:?}");
    wire
}

/// The record of a WebSocket's end.
fn closed(clinic: &Clinic, id: &str) -> Value {
    clinic.wait_for_record("the end", |record| is(record, "stream-closed") && text(record, "request") == id)
}

fn id_of(clinic: &Clinic, wire: &Wire) -> String {
    let asked = until("the handshake's record", || clinic.asked_by(wire).pop());
    text(&asked, "request").to_owned()
}

fn open_now(clinic: &Clinic) -> f64 {
    clinic.metric("sekisho_websockets_open", &[("listener", "clinics")])
}

#[test]
fn real_peers_talk_through_it_and_its_life_is_recorded() {
    let (_server, address) = real_server();
    let clinic = clinic_of("", address);
    let mut client = Script::client(&clinic, DOCTOR, CLIENT, "wss://GATEWAY/ws/echo?bed=3", &[]);
    let opened = client.json();
    assert_eq!((&opened["status"], &opened["subprotocol"]), (&json!(101), &json!("chart.v2")), "{opened}");
    assert!(text(&opened, "extensions").contains("permessage-deflate"), "{opened}");
    assert_eq!(client.does(&json!({"do": "echo", "text": "心拍 72"}))["text"], "心拍 72");
    assert_eq!(client.does(&json!({"do": "ping"}))["pong"], true);
    assert_eq!(client.does(&json!({"do": "bulk", "size": 1 << 20, "count": 12}))["same"], true);
    assert!((open_now(&clinic) - 1.0).abs() < f64::EPSILON, "{}", open_now(&clinic));
    let seen = client.does(&json!({"do": "echo", "text": "headers"}));
    let seen: Vec<(String, String)> = serde_json::from_str(text(&seen, "text")).expect("fields");
    let id = text(&opened, "id");
    let value = |name: &str| seen.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value);
    assert_eq!(value("x-request-id"), id, "{seen:?}");
    assert!(!value("sekisho-identity").is_empty() && !value("client-cert").is_empty(), "{seen:?}");
    assert_eq!(value("connection"), "Upgrade", "{seen:?}");
    assert_eq!(client.does(&json!({"do": "close", "code": 4000}))["code"], 4000);

    let record = |kind: &str| clinic.wait_for_record(kind, |record| is(record, kind) && text(record, "request") == id);
    let intent = record("intent");
    for (path, value) in [
        ("action", "connect"),
        ("decision", "permit"),
        ("method", "GET"),
        ("route", "ws"),
        ("user", "dr-sato"),
        ("target", "/ws/echo?bed=3"),
    ] {
        assert_eq!(text(&intent, path), value, "{intent:#}");
    }
    assert_eq!(record("outcome")["status"], 101);
    record("stream-opened");
    let closed = closed(&clinic, id);
    assert_eq!(text(&closed, "end"), "complete", "{closed:#}");
    // Compressed on its way, by the peers and nobody else.
    let bytes = |direction: &str| closed["bytes"][direction].as_f64().expect("a number");
    assert!(bytes("received") > 1000.0 && bytes("sent") > 1000.0, "{closed:#}");
    assert!(closed["duration_us"].as_u64() > Some(0), "{closed:#}");
    for direction in ["received", "sent"] {
        let counted = clinic.metric("sekisho_websocket_bytes_total", &[("direction", direction)]);
        assert!((counted - bytes(direction)).abs() < f64::EPSILON, "{direction}: {counted} of {closed:#}");
    }
    assert!(open_now(&clinic).abs() < f64::EPSILON);

    // The backend may end it as well.
    let mut client = Script::client(&clinic, DOCTOR, CLIENT, "wss://GATEWAY/ws/bye", &[]);
    let opened = client.json();
    assert_eq!(client.does(&json!({"do": "echo", "text": "x"}))["code"], 4001);
    assert_eq!(text(&self::closed(&clinic, text(&opened, "id")), "end"), "complete");
}

#[test]
fn c3_none_opens_but_where_a_route_and_a_policy_say_so() {
    let (_server, address) = real_server();
    let clinic = clinic_of("", address);
    let opens = |device: &str, target: &str| {
        let mut wire = clinic.wire(device);
        wire.send(handshake(&wire, target, ""));
        let answer = wire.answer();
        let reason = if answer.status == 101 { String::new() } else { answer.problem() };
        if answer.status != 101 {
            assert_eq!(wire.closes(), Ended::Closed, "{device} {target}");
            assert_eq!(clinic.reasons_of(wire.local()), std::slice::from_ref(&reason), "{device} {target}");
        }
        (answer.status, reason)
    };
    assert_eq!(opens(NURSE, "/ws/echo"), (101, String::new()));
    for (device, target, status, reason) in [
        (DOCTOR, "/open/socket", 501, "upgrade-refused"),
        (DOCTOR, "/fhir/Patient/1", 501, "upgrade-refused"),
        (DOCTOR, "/elsewhere", 404, "route-unknown"),
        (DOCTOR, "/ws/../ws/echo", 400, "target-not-normal"),
        (CLERK, "/ws/echo", 403, "policy-no-permit"),
    ] {
        assert_eq!(opens(device, target), (status, reason.to_owned()), "{device} {target}");
    }
    assert_eq!(clinic.wire(DOCTOR).get("/ws/echo").status, 426, "what opens none is a request like any other");
}

#[test]
fn c3_a_handshake_that_is_none_is_refused() {
    let clinic = clinic_of("", "127.0.0.1:9".parse().expect("an address"));
    let good = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (method, fields, status, reason) in [
        ("GET", good.replace("13", "8"), 400, "websocket-malformed"),
        ("GET", good.replace("dGhlIHNhbXBsZSBub25jZQ==", "eA=="), 400, "websocket-malformed"),
        ("GET", good.replace("Sec-WebSocket-Key", "X"), 400, "websocket-malformed"),
        ("GET", format!("{good}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 400, "websocket-malformed"),
        ("GET", format!("{good}Content-Length: 5\r\n"), 400, "websocket-malformed"),
        ("GET", format!("{good}Transfer-Encoding: chunked\r\n"), 400, "websocket-malformed"),
        ("POST", good.to_owned(), 400, "websocket-malformed"),
        ("GET", good.replace("websocket", "h2c, websocket"), 501, "upgrade-refused"),
        ("GET", format!("{good}Upgrade: h2c\r\n"), 501, "upgrade-refused"),
        ("GET", good.replace("Connection: Upgrade", "Connection: close"), 501, "upgrade-refused"),
    ] {
        let mut wire = clinic.wire(DOCTOR);
        let host = wire.host();
        wire.send(format!(
            "{method} /ws/echo HTTP/1.1\r\nHost: {host}\r\n{fields}\r\nGET /admin/x HTTP/1.1\r\nHost: {host}\r\n\r\n"
        ));
        let answer = wire.answer();
        assert_eq!((answer.status, &*answer.problem()), (status, reason), "{fields}");
        let version = if status == 400 { "13" } else { "" };
        assert_eq!(answer.field("sec-websocket-version"), version, "{fields}");
        assert!(wire.try_answer().is_err(), "what follows is nobody's: {fields}");
        assert_eq!(clinic.reasons_of(wire.local()), [reason], "{fields}");
    }
}

#[test]
fn a_page_of_another_origin_opens_none() {
    let (_server, address) = real_server();
    let clinic = clinic_of("origins = [\"https://portal.example\"]", address);
    let own = format!("https://localhost:{}", clinic.door.address.port());
    for (origin, status) in [
        (&*own, 101),
        ("https://portal.example", 101),
        ("https://evil.example", 403),
        ("https://localhost", 403),
        ("http://portal.example", 403),
        ("null", 403),
    ] {
        let mut client = Script::client(&clinic, DOCTOR, CLIENT, "wss://GATEWAY/ws/echo", &[origin]);
        let answer = client.json();
        assert_eq!(answer["status"], status, "{origin}: {answer}");
        if status == 403 {
            assert!(text(&answer, "body").contains("urn:sekisho:refusal:origin-refused"), "{answer}");
        }
    }
    let mut wire = clinic.wire(DOCTOR);
    wire.send(handshake(&wire, "/ws/echo", "Origin: https://portal.example\r\nOrigin: https://evil.example\r\n"));
    assert_eq!(wire.answer().problem(), "request-ambiguous");
}

/// Row C3: bytes go through only after the backend's own 101 with the right accept.
#[test]
fn c3_a_backend_that_does_not_agree_opens_none() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\n";
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let wrong = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    for (name, answer, status) in [
        ("a success", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), 502),
        ("an empty success", "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), 502),
        ("another key's accept", format!("{switch}{upgrade}{wrong}\r\n"), 502),
        ("no accept", format!("{switch}{upgrade}\r\n"), 502),
        ("another protocol", format!("{switch}Upgrade: h2c\r\nConnection: Upgrade\r\nACCEPT\r\n"), 502),
        ("no connection option", format!("{switch}Upgrade: websocket\r\nACCEPT\r\n"), 502),
        ("two accepts", format!("{switch}{upgrade}ACCEPT{wrong}\r\n"), 502),
        ("a subprotocol nobody offered", format!("{switch}{upgrade}ACCEPTSec-WebSocket-Protocol: x\r\n\r\n"), 502),
        ("HTTP/1.0", format!("HTTP/1.0 101 Switching\r\n{upgrade}ACCEPT\r\n"), 502),
        ("100, then nothing more than its end", "HTTP/1.1 100 Continue\r\n\r\n".to_owned(), 502),
        ("a refusal", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_owned(), 403),
        ("a redirect", "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n".to_owned(), 302),
        ("426", "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n".to_owned(), 426),
    ] {
        let (got, seen) = std::sync::mpsc::channel();
        let server = raw_server(move |mut stream, head| {
            let agreed = agreement(head);
            let accept = agreed.lines().find(|line| line.starts_with("Sec-WebSocket-Accept")).expect("an accept");
            let _ = stream.write_all(answer.replace("ACCEPT", &format!("{accept}\r\n")).as_bytes());
            // Whatever comes behind the request until the gateway closes, or this side does.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut behind = Vec::new();
            let _ = stream.read_to_end(&mut behind);
            let _ = got.send(behind);
        });
        let clinic = clinic_of("", server);
        let mut wire = clinic.wire(DOCTOR);
        let host = wire.host();
        // A client that does not wait, as RFC 6455 section 4.1 has it wait.
        let pipelined = format!("GET /admin/pipelined HTTP/1.1\r\nHost: {host}\r\n\r\n");
        wire.send(format!("{}{pipelined}", handshake(&wire, "/ws/x", "")));
        let answer = wire.answer();
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        if status == 502 {
            assert_eq!(answer.problem(), "backend-malformed", "{name}");
        }
        assert!(wire.try_answer().is_err(), "{name}: what follows is nobody's");
        let behind = seen.recv_timeout(PATIENCE).expect("the end of the backend's connection");
        assert_eq!(String::from_utf8_lossy(&behind), "", "{name}: bytes went through");
        let asked = clinic.asked_by(&wire);
        assert_eq!(asked.len(), 1, "{name}: {asked:#?}");
        assert!(!clinic.records().iter().any(|record| is(record, "stream-opened")), "{name}");
    }
}

#[test]
fn c3_what_a_client_sends_too_early_waits_for_the_backends_word() {
    let (told, word) = std::sync::mpsc::channel::<()>();
    let word = std::sync::Arc::new(std::sync::Mutex::new(word));
    let server = raw_server(move |mut stream, head| {
        let early = |stream: &mut TcpStream| {
            stream.set_nonblocking(true).expect("a socket");
            let mut byte = [0];
            let read = stream.read(&mut byte);
            stream.set_nonblocking(false).expect("a socket");
            read.is_ok()
        };
        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        let _ = word.lock().expect("nobody panicked").recv_timeout(PATIENCE);
        let was_early = early(&mut stream);
        let _ = stream.write_all(format!("{}early: {was_early};", agreement(head)).as_bytes());
        let mut bytes = [0; 5];
        let _ = stream.read_exact(&mut bytes);
        let _ = stream.write_all(&bytes);
    });
    let clinic = clinic_of("", server);
    let mut wire = clinic.wire(DOCTOR);
    wire.send(format!("{}hello", handshake(&wire, "/ws/x", "")));
    until("the intent", || clinic.asked_by(&wire).pop());
    // Time enough for bytes to pass that should not.
    std::thread::sleep(Duration::from_millis(200));
    told.send(()).expect("the backend waits");
    let answer = wire.answer();
    assert_eq!(answer.status, 101, "{answer:?}");
    assert!(wire.reads_until(b"early: false;hello"), "not a byte before the agreement, and all after it");
}

#[test]
fn an_idle_one_ends_and_a_busy_one_outlives_the_bound_on_requests() {
    let (_server, address) = real_server();
    let mut clinic = clinic_of("idle_timeout_ms = 5000", address);
    clinic.reconfigure(|config| config.set_limit("request_timeout_ms", 3000));
    assert!(clinic.reload());
    let mut busy = Script::client(&clinic, DOCTOR, CLIENT, "wss://GATEWAY/ws/echo", &[]);
    assert_eq!(busy.json()["status"], 101);
    let mut idle = open(&clinic, DOCTOR, "/ws/echo");
    let (id, begun) = (id_of(&clinic, &idle), Instant::now());
    while begun.elapsed() < Duration::from_millis(7500) {
        assert_eq!(busy.does(&json!({"do": "echo", "text": "on"}))["text"], "on");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(matches!(idle.closes(), Ended::Torn(_)));
    let closed = closed(&clinic, &id);
    assert_eq!(text(&closed, "end"), "timeout", "{closed:#}");
    assert!(closed["duration_us"].as_u64() >= Some(5_000_000), "{closed:#}");
}

#[test]
fn each_is_cut_when_whoever_opened_it_may_no_more() {
    let (_server, address) = real_server();
    let clinic = clinic_of("", address);
    for (command, cause) in [
        (["device", "suspend", NURSE], "device-suspended"),
        (["user", "suspend", "sakura-clinic/dr-sato"], "user-suspended"),
    ] {
        let device = if cause == "device-suspended" { NURSE } else { DOCTOR };
        let mut client = Script::client(&clinic, device, CLIENT, "wss://GATEWAY/ws/echo", &[]);
        let opened = client.json();
        assert_eq!(client.does(&json!({"do": "echo", "text": "x"}))["text"], "x");
        clinic.registry(&command);
        let begun = Instant::now();
        assert_eq!(client.does(&json!({"do": "wait"}))["code"], 1006);
        println!("{cause}: cut after {:?}", begun.elapsed());
        let closed = closed(&clinic, text(&opened, "id"));
        assert_eq!(text(&closed, "end"), "revoked", "{closed:#}");
        assert!(clinic.metric("sekisho_connections_cut_total", &[("reason", cause)]) >= 1.0);
        assert!(open_now(&clinic).abs() < f64::EPSILON);
    }
}

/// R10: a session that carries a WebSocket ends it with itself, and is not kept from its end by what is said there.
#[test]
fn each_is_part_of_the_session_that_its_cookie_names() {
    let (_server, address) = real_server();
    for (settings, reason) in [(None, "operator"), (Some(4), "idle"), (None, "logged-out")] {
        let clinic = session_bound::start(session_bound::clinic().config(|config| {
            if let Some(idle) = settings {
                config.set("session", "idle_s", idle);
            }
            config.append(&format!("[[service]]\nname = \"sockets\"\nbackends = [\"http://{address}\"]\n"));
            let route = route("").replace("\"clinical\"\nclass", "\"sockets\"\nclass");
            config.append(&format!("{route}session = {{ realm = \"clinical\", require = true }}\n"));
        }));
        let mut wire = clinic.wire(DOCTOR);
        wire.send(handshake(&wire, "/ws/echo", ""));
        assert_eq!(wire.answer().problem(), "session-required", "without a session there is none");
        let mut exam = clinic.wire(DOCTOR);
        let cookie = session_bound::login(&mut exam, "tanaka", None);
        let begun = session_bound::sessions(&clinic, "begun").pop().expect("a session");
        let mut wire = clinic.wire(DOCTOR);
        wire.send(handshake(&wire, "/ws/echo", &format!("Cookie: {cookie}\r\n")));
        let answer = wire.answer();
        assert_eq!(answer.status, 101, "{answer:?}");
        let intent = until("its record", || clinic.asked_by(&wire).pop());
        assert_eq!(
            (text(&intent, "user"), text(&intent, "session")),
            ("tanaka", text(&begun, "session")),
            "{intent:#}"
        );
        if reason == "operator" {
            until("the store to know the session", || {
                clinic.registry(&["session", "list"]).stdout.contains(text(&begun, "session")).then_some(())
            });
            clinic.registry(&["session", "end", text(&begun, "session")]);
        }
        if reason == "logged-out" {
            exam.request("POST", "/logout", &[("Cookie", &cookie)], b"");
        }
        // Pings, as pages send them by themselves, are no use of the session.
        let ended = until("its end", || {
            wire.send(b"\x89\x80\x01\x02\x03\x04");
            clinic.records().into_iter().find(|record| is(record, "stream-closed"))
        });
        assert_eq!(text(&ended, "end"), "revoked", "{ended:#}");
        session_bound::ended(&clinic, text(&begun, "session"), reason);
    }
}

#[test]
fn a_gateway_that_ends_lets_them_go_on_for_its_drain_time() {
    let (_server, address) = real_server();
    let mut clinic = clinic_of("", address);
    let mut client = Script::client(&clinic, DOCTOR, CLIENT, "wss://GATEWAY/ws/echo", &[]);
    let opened = client.json();
    assert_eq!(opened["status"], 101, "{opened}");
    clinic.terminate();
    until("the gateway to drain", || (clinic.admin_get("/readyz").0 == 503).then_some(()));
    assert_eq!(client.does(&json!({"do": "echo", "text": "still"}))["text"], "still");
    assert_eq!(client.does(&json!({"do": "wait"}))["code"], 1006);
    clinic.gateway.wait();
    assert_eq!(text(&closed(&clinic, text(&opened, "id")), "end"), "drained");
}

#[test]
fn either_side_may_end_first_and_hear_the_other_out() {
    let server = raw_server(|mut stream, head| {
        let _ = stream.write_all(agreement(head).as_bytes());
        let mut all = Vec::new();
        // Ends when the client's side has ended.
        let _ = stream.read_to_end(&mut all);
        let _ = stream.write_all(format!("heard {}", String::from_utf8_lossy(&all)).as_bytes());
    });
    let clinic = clinic_of("", server);
    let mut wire = open(&clinic, DOCTOR, "/ws/half");
    wire.send("good");
    wire.send("bye");
    wire.half_close();
    assert!(wire.reads_until(b"heard goodbye"));
    assert_eq!(wire.closes(), Ended::Closed);
    let closed = closed(&clinic, &id_of(&clinic, &wire));
    assert_eq!((text(&closed, "end"), closed["bytes"]["received"].as_u64()), ("complete", Some(7)), "{closed:#}");

    // One that tears its side off is recorded as that.
    let wire = open(&clinic, DOCTOR, "/ws/half");
    let id = id_of(&clinic, &wire);
    wire.reset();
    assert_eq!(text(&self::closed(&clinic, &id), "end"), "aborted");
}

#[test]
fn a_client_that_takes_nothing_costs_no_memory_and_ends() {
    let server = raw_server(|mut stream, head| {
        let _ = stream.write_all(agreement(head).as_bytes());
        // As much as anybody takes.
        while stream.write_all(&[7; 64 * 1024]).is_ok() {}
    });
    let mut clinic = clinic_of("", server);
    clinic.reconfigure(|config| config.set_limit("body_idle_timeout_ms", 3000));
    assert!(clinic.reload());
    drop(open(&clinic, DOCTOR, "/ws/warm"));
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", clinic.gateway.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let before = resident();
    let slow: Vec<_> = (0..8).map(|_| open(&clinic, DOCTOR, "/ws/flood")).collect();
    let ids: Vec<_> = slow.iter().map(|wire| id_of(&clinic, wire)).collect();
    let ends: Vec<_> = ids.iter().map(|id| closed(&clinic, id)).collect();
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 * 1024, "grown by {grown} KiB");
    for end in ends {
        assert_eq!(text(&end, "end"), "aborted", "{end:#}");
    }
}
