//! WebSockets over HTTP/2 (RFC 8441) are the same requests: judged, recorded and cut as those over HTTP/1.1. The client is PyPI's
//! `h2`, the server `websockets`, over HTTP/1.1.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, Script, until};
use serde_json::{Value, json};

const CLERK: &str = "sakura-clinic/desk-1";

fn clinic_of(server: SocketAddr) -> Clinic {
    let mut prepared = Clinic::builder().device(CLERK, "ck-mori", "clerk").prepare();
    prepared.reconfigure(|config| {
        config.append(
            "[[route]]\nname = \"ws\"\npath = \"/ws\"\nservice = \"clinical\"\nclass = \"clinical\"\nkind = \"generic\"\n\
             websocket = { idle_timeout_ms = 20000 }\n",
        );
        config.set_limit("request_timeout_ms", 2000);
        config.set_service("backends", vec![format!("http://{server}")]);
    });
    prepared.start()
}

fn real_server() -> (Script, SocketAddr) {
    let mut server = Script::start("backends/websocket_server.py", &[]);
    let address = server.address();
    (server, address)
}

/// A client that changes these fields of its extended CONNECT.
fn client(clinic: &Clinic, device: &str, path: &str, changes: &Value) -> Script {
    let target = format!("wss://GATEWAY{path}");
    Script::client(clinic, device, "clients/websocket_h2_client.py", &target, &[&changes.to_string()])
}

#[test]
fn it_is_the_same_request_as_over_http1() {
    let (_server, address) = real_server();
    let clinic = clinic_of(address);
    let mut client = client(&clinic, DOCTOR, "/ws/echo?bed=3", &json!({}));
    assert_eq!(client.json(), json!({"enabled": 1, "status": 200}));
    let begun = Instant::now();
    assert_eq!(client.does(&json!({"do": "echo", "text": "\u{5fc3}\u{62cd} 72"}))["text"], "\u{5fc3}\u{62cd} 72");
    assert_eq!(client.does(&json!({"do": "bulk", "size": 1 << 18, "count": 8}))["same"], true);
    assert_eq!(client.does(&json!({"do": "other", "path": "/fhir/Patient/1"}))["status"], 426, "the server's own word");
    let seen = client.does(&json!({"do": "echo", "text": "headers"}));
    assert!(text(&seen, "text").contains("sekisho-identity") && text(&seen, "text").contains("chart.v2"), "{seen}");
    // Beyond the bound on requests.
    while begun.elapsed().as_millis() < 4500 {
        assert_eq!(client.does(&json!({"do": "echo", "text": "on"}))["text"], "on");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let intent = clinic.wait_for_record("the intent", |record| is(record, "intent") && text(record, "route") == "ws");
    assert_eq!((text(&intent, "action"), text(&intent, "method")), ("connect", "GET"), "{intent:#}");
    assert_eq!(text(&intent, "connection.tls.alpn"), "h2", "{intent:#}");
    assert!((clinic.metric("sekisho_websockets_open", &[]) - 1.0).abs() < f64::EPSILON);

    clinic.registry(&["device", "suspend", DOCTOR]);
    client.does(&json!({"do": "wait"}));
    let closed = clinic.wait_for_record("the end", |record| is(record, "stream-closed"));
    assert_eq!(text(&closed, "end"), "revoked", "{closed:#}");
    assert_eq!(text(&closed, "request"), text(&intent, "request"));
    assert!(closed["bytes"]["received"].as_u64() > Some(8 << 18), "{closed:#}");
}

#[test]
fn c3_what_opens_none_is_refused() {
    let (_server, address) = real_server();
    let clinic = clinic_of(address);
    for (device, path, changes, status, reason) in [
        (DOCTOR, "/ws/echo", json!({":protocol": "connect-udp"}), 501, "upgrade-refused"),
        (DOCTOR, "/ws/echo", json!({":protocol": "h2c"}), 501, "upgrade-refused"),
        (DOCTOR, "/open/socket", json!({}), 501, "upgrade-refused"),
        (DOCTOR, "/ws/echo", json!({"sec-websocket-version": "8"}), 400, "websocket-malformed"),
        (DOCTOR, "/ws/echo", json!({"sec-websocket-version": null}), 400, "websocket-malformed"),
        (DOCTOR, "/ws/echo", json!({"origin": "https://evil.example"}), 403, "origin-refused"),
        (DOCTOR, "/elsewhere", json!({}), 404, "route-unknown"),
        (CLERK, "/ws/echo", json!({}), 403, "policy-no-permit"),
    ] {
        let answer = client(&clinic, device, path, &changes).json();
        assert_eq!(answer["status"], status, "{path} {changes}: {answer}");
        assert!(text(&answer, "body").contains(&format!("urn:sekisho:refusal:{reason}")), "{path} {changes}: {answer}");
        clinic.wait_for_record("the refusal", |record| text(record, "reason") == reason);
    }
    // A plain CONNECT stays what it was.
    let authority = format!("localhost:{}", clinic.door.address.port());
    let mut frames = clinic.frames(DOCTOR);
    frames.headers(1, &[(":method", "CONNECT"), (":authority", &authority)], false);
    let outcome = frames.outcome(1);
    assert!(matches!(outcome, gateway_tests::h2::Outcome::Answered(405)), "{outcome:?}");
    assert_eq!(clinic.metric("sekisho_websocket_bytes_total", &[]), 0.0);
}

#[test]
fn c3_a_backends_success_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let (told, behind) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let answer = if head.starts_with(b"GET /ws/no") {
                &b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"[..]
            } else {
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            };
            let _ = stream.write_all(answer);
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            let _ = told.send(rest);
        }
    });
    let clinic = clinic_of(address);
    let answer = client(&clinic, DOCTOR, "/ws/yes", &json!({})).json();
    assert_eq!(answer["status"], 502, "{answer}");
    assert!(text(&answer, "body").contains("backend-malformed"), "{answer}");
    let answer = client(&clinic, DOCTOR, "/ws/no", &json!({})).json();
    assert_eq!((&answer["status"], &answer["body"]), (&json!(403), &json!("no")), "{answer}");
    for _ in 0..2 {
        let behind = behind.recv_timeout(gateway_tests::PATIENCE).expect("the end of a connection");
        assert!(behind.is_empty(), "bytes went through: {behind:?}");
    }
}

#[test]
fn either_side_may_end_first() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let _ = stream.write_all(crate::websocket::agreement(&head).as_bytes());
            let mut all = String::new();
            let _ = stream.read_to_string(&mut all);
            let _ = stream.write_all(format!("heard {all}").as_bytes());
        }
    });
    let clinic = clinic_of(address);
    let mut client = client(&clinic, DOCTOR, "/ws/half", &json!({}));
    assert_eq!(client.json()["status"], 200);
    let answer = client.does(&json!({"do": "raw", "text": "goodbye", "end": true}));
    assert_eq!(answer["body"], "heard goodbye", "{answer}");
    let closed = clinic.wait_for_record("the end", |record| is(record, "stream-closed"));
    assert_eq!((text(&closed, "end"), closed["bytes"]["received"].as_u64()), ("complete", Some(7)), "{closed:#}");
    until("none open", || (clinic.metric("sekisho_websockets_open", &[]).abs() < f64::EPSILON).then_some(()));
}
