//! C16: what is for operators is on the admin listener alone, and nothing of a clinic is on that one.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gateway_tests::audit::text;
use gateway_tests::{Clinic, DOCTOR, until};

/// Paths of the admin listener, and of those that others left open.
const CONTROL: &[&str] = &[
    "/metrics",
    "/livez",
    "/readyz",
    "/readyz?verbose",
    "/startupz",
    "/healthz",
    "/.well-known/sekisho/jwks.json",
    "/debug/pprof/",
    "/debug/vars",
    "/debug",
    "/config",
    "/config_dump",
    "/stats",
    "/status",
    "/server-status",
    "/api",
    "/dashboard/",
    "/.pomerium",
    "/reload",
    "/quit",
    "/quitquitquit",
    "/shutdown",
    "/id/traefik",
    "/actuator/env",
    "/.git/config",
    "/.env",
];

#[test]
fn c16_control_is_no_route_of_the_clinics_listener() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    let mut h2 = clinic.h2(DOCTOR);
    let unknown = wire.get("/no-such-route");
    assert_eq!((unknown.status, &*unknown.problem()), (404, "route-unknown"));
    for target in CONTROL {
        for method in ["GET", "POST"] {
            let answer = wire.request(method, target, &[], b"");
            assert_eq!((answer.status, &*answer.problem()), (404, "route-unknown"), "{method} {target}");
            let answer = h2.request(method, target, &[], b"").expect("an answer");
            assert_eq!((answer.status, &*answer.problem()), (404, "route-unknown"), "{method} {target}");
        }
    }
    assert_eq!(clinic.asked_by(&wire).len(), 1 + 2 * CONTROL.len());
    assert_eq!(clinic.backend().connections(), 0);
}

#[test]
fn c16_no_field_opens_it() {
    let clinic = Clinic::builder().start();
    for (name, value) in [
        ("X-Original-URL", "/metrics"),
        ("X-Rewrite-URL", "/metrics"),
        ("X-Forwarded-Host", "localhost"),
        ("X-Forwarded-Prefix", "/metrics"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1;host=localhost"),
        ("X-Custom-IP-Authorization", "127.0.0.1"),
        ("Referer", "https://localhost/metrics"),
    ] {
        let mut wire = clinic.wire(DOCTOR);
        let answer = wire.request("GET", "/metrics", &[(name, value)], b"");
        assert_eq!((answer.status, &*answer.problem()), (404, "route-unknown"), "{name}");
        let answer = wire.request("GET", "/open/x", &[(name, value)], b"");
        assert_eq!(answer.status, 200, "{name}");
        assert_eq!(clinic.backend().last().target(), "/open/x", "{name}");
    }
    // By its host and port it cannot be named from here either.
    let mut wire = clinic.wire(DOCTOR);
    let admin = clinic.admin;
    for host in [format!("localhost:{}", admin.port()), format!("127.0.0.1:{}", admin.port())] {
        wire.send(format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = wire.answer();
        assert_eq!((answer.status, &*answer.problem()), (421, "misdirected"), "{host}");
    }
}

/// Sends bytes to the admin listener and returns its answer.
fn to_admin(clinic: &Clinic, request: &str) -> String {
    let mut stream = TcpStream::connect(clinic.admin).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn c16_nothing_of_a_clinic_is_on_the_admin_listener() {
    let clinic = Clinic::builder().start();
    for target in ["/fhir/Patient/1", "/open/x", "/admin", "/", "/../metrics", "//metrics", "/METRICS", "*"] {
        let answer =
            to_admin(&clinic, &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 400"), "{target}: {answer}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = to_admin(&clinic, &request);
        assert!(answer.starts_with("HTTP/1.1 405"), "{method}: {answer}");
    }
    // A browser that was lured here by a foreign name (DNS rebinding).
    for host in ["evil.example", "localhost.evil.example", "192.0.2.1:9443"] {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = to_admin(&clinic, &request);
        assert!(answer.starts_with("HTTP/1.1 421"), "{host}: {answer}");
    }
    assert_eq!(clinic.backend().connections(), 0);
}

#[test]
fn c16_the_pages_say_nothing_of_anybody() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(wire.get("/fhir/Patient/secret-patient?name=secret-name").status, 200);
    assert_eq!(wire.get("/fhir/../secret-path").status, 400);
    let page = clinic.metrics().page().to_owned() + &clinic.admin_get("/readyz?verbose").1;
    for secret in ["secret", "dr-sato", "exam-1", "Patient"] {
        assert!(!page.contains(secret), "{secret} is on a page of the admin listener");
        assert!(!clinic.gateway.said().contains(secret), "{secret} is in the diagnostics: {}", clinic.gateway.said());
    }
}

#[test]
fn c16_admin_beyond_loopback_needs_the_operators_tls() {
    let prepared = Clinic::builder().config(|config| config.set("admin", "listen", "0.0.0.0:0")).prepare();
    let Err((failure, _)) = prepared.try_start() else { panic!("plain HTTP for the whole network") };
    assert_eq!(failure.code, Some(1), "{failure:?}");
    assert!(failure.message.contains("admin"), "{failure:?}");
}

#[test]
fn c16_a_device_is_no_operator() {
    let mut prepared = Clinic::builder().prepare();
    let operators = gateway_tests::Pki::new();
    let server = prepared.pki.server(&["localhost", "127.0.0.1"]);
    prepared.write("tls/admin.crt", &server.certificate_pem);
    prepared.write("tls/admin.key", &server.key_pem);
    prepared.write("tls/operators-ca.crt", operators.devices_ca_pem());
    prepared.reconfigure(|config| {
        config.set("admin", "certificate_file", "tls/admin.crt");
        config.set("admin", "key_file", "tls/admin.key");
        config.set("admin", "client_ca_file", "tls/operators-ca.crt");
    });
    let config = prepared.path("sekisho.toml");
    let device = prepared.pki.device(DOCTOR);
    let operator = operators.operator("operations/desk-1");
    // Not even a device of the operators' own CA.
    let theirs = operators.device("operations/desk-1");
    prepared.write_configuration();
    let gateway = gateway_tests::Gateway::spawn(&config, &[]);
    let (_, admin) = until("the gateway", || gateway_tests::places(&gateway.said()));
    let door = gateway_tests::Door::new(admin, prepared.pki.servers_ca_pem());
    let answer = until("the operator's page", || {
        let mut wire = door.with(&operator).try_open().ok()?;
        wire.send("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
        wire.try_answer().ok()
    });
    assert_eq!(answer.status, 200, "{}", gateway.said());
    let _ = door.with(&device).refused();
    let _ = door.with(&theirs).refused();
    let _ = door.without_certificate().refused();
}

#[test]
fn c16_one_address_cannot_hide_the_gateway() {
    let clinic = Clinic::builder().start();
    let silent: Vec<_> = (0..300).map(|_| gateway_tests::connect_from([127, 0, 0, 2], clinic.admin)).collect();
    let begun = Instant::now();
    assert_eq!(clinic.admin_get("/livez").0, 200);
    assert_eq!(clinic.admin_get("/metrics").0, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "only after {:?}", begun.elapsed());
    drop(silent);
}

#[test]
fn c16_an_admin_connection_carries_one_request() {
    let clinic = Clinic::builder().start();
    // What is asked and not read must not pile up: the answer to the first ends the connection.
    let answers = to_admin(&clinic, &"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100));
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
    assert!(answers.contains("connection: close"), "{answers}");
}

#[test]
fn c16_an_admin_connection_has_an_end() {
    let clinic = Clinic::builder().start();
    let mut slow = TcpStream::connect(clinic.admin).expect("a connection");
    slow.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let begun = Instant::now();
    // One byte of a head now and then.
    let mut bytes = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x'));
    while begun.elapsed() < Duration::from_secs(20) {
        let written = slow.write_all(&[*bytes.next().expect("endless")]);
        if written.is_err()
            || !matches!(&slow.read(&mut [0; 512]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
        {
            break;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "still open after {:?}", begun.elapsed());
}

#[test]
fn c16_metrics_name_the_route_and_never_the_path() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    for n in 0..50 {
        assert_eq!(wire.get(&format!("/nowhere/{n}")).status, 404);
    }
    let labels = [("route", "none"), ("reason", "route-unknown"), ("status_class", "4xx")];
    let counted = clinic.metric("sekisho_requests_total", &labels);
    assert!((counted - 50.0).abs() < f64::EPSILON, "{counted}");
    assert_eq!(text(&clinic.asked_by(&wire)[0], "target"), "/nowhere/0");
}
