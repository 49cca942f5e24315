//! gRPC passes with its trailers and its streams both ways, is refused in its own terms, and waits no longer than its
//! caller. Both ends are grpcio's.

use std::time::Instant;

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, Script};
use serde_json::{Value, json};

const PHARMACIST: &str = "sakura-clinic/desk-1";

fn clinic() -> (Script, Clinic) {
    let mut server = Script::start("backends/grpc_server.py", &[]);
    let address = server.address();
    let mut prepared = Clinic::builder().device(PHARMACIST, "ph-mori", "pharmacist").prepare();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    prepared.reconfigure(|config| {
        config.append(&format!(
            "[[service]]\nname = \"reports\"\nbackends = [\"http://{address}\"]\nhttp2 = true\n\
             [[service]]\nname = \"absent\"\nbackends = [\"http://{nobody}\"]\nhttp2 = true\n"
        ));
        for (name, path, service, more) in [
            ("echo", "/clinic.Echo", "reports", ""),
            ("slow", "/clinic.Slow", "reports", "deadline_ms = 700"),
            ("gone", "/clinic.Gone", "absent", ""),
        ] {
            config.append(&format!(
                "[[route]]\nname = \"{name}\"\npath = \"{path}\"\nservice = \"{service}\"\nclass = \"clinical\"\n\
                 kind = \"generic\"\n{more}\n"
            ));
        }
    });
    (server, prepared.start())
}

fn client(clinic: &Clinic, device: &str) -> Script {
    Script::client(clinic, device, "clients/grpc_client.py", "GATEWAY", &[])
}

#[test]
fn calls_and_streams_pass_with_their_trailers() {
    let (_server, clinic) = clinic();
    let mut client = client(&clinic, DOCTOR);
    let answer = client.does(&json!({"do": "unary", "method": "Unary", "message": "hello"}));
    assert_eq!((&answer["code"], &answer["answer"]), (&json!(0), &json!("hello")), "{answer}");
    assert_eq!(answer["trailers"]["x-served"], "unary", "{answer}");
    assert_eq!(answer["trailers"]["x-bytes-bin"], "00ff", "{answer}");
    let answer = client.does(&json!({"do": "unary", "method": "Unary", "message": "metadata"}));
    assert!(text(&answer, "answer").contains("sekisho-identity"), "{answer}");

    let answer = client.does(&json!({"do": "stream", "method": "Stream", "message": "200 100000"}));
    assert_eq!(
        (&answer["code"], &answer["count"], &answer["bytes"]),
        (&json!(0), &json!(200), &json!(20_000_000)),
        "{answer}"
    );
    let answer = client.does(&json!({"do": "collect", "method": "Collect", "count": 200, "size": 100_000}));
    assert_eq!((&answer["code"], &answer["answer"]), (&json!(0), &json!("200 20000000")), "{answer}");
    let answer = client.does(&json!({"do": "chat", "method": "Chat", "count": 20}));
    assert_eq!((&answer["code"], &answer["answers"][19]), (&json!(0), &json!("re: 19")), "{answer}");
    assert_eq!(answer["trailers"]["x-served"], "chat", "{answer}");

    // The backend's own failures, with their words and trailers.
    for code in [5, 7, 13, 16] {
        let answer =
            client.does(&json!({"do": "unary", "method": "Fail", "message": format!("{code} keine Akte: 心")}));
        assert_eq!((&answer["code"], &answer["details"]), (&json!(code), &json!("keine Akte: 心")), "{answer}");
        assert_eq!(answer["trailers"]["x-served"], "fail", "{answer}");
    }
    let answer = client.does(&json!({"do": "unary", "method": "Nothing"}));
    assert_eq!(answer["code"], 12, "{answer}");
    let completions = || clinic.records().into_iter().filter(|record| is(record, "completion")).collect::<Vec<_>>();
    let all = gateway_tests::until("every completion", || Some(completions()).filter(|all| all.len() == 10));
    for record in all {
        assert_eq!(text(&record, "end"), "complete", "{record:#}");
    }
}

#[test]
fn refusals_are_told_as_statuses_of_grpc() {
    let (_server, clinic) = clinic();
    let refused = |device: &str, order: &Value| {
        let answer = client(&clinic, device).does(order);
        (answer["code"].as_u64().expect("a code"), text(&answer, "details").to_owned())
    };
    let echo = json!({"do": "unary", "method": "Unary", "message": "x"});
    assert_eq!(refused(PHARMACIST, &echo), (7, "policy-no-permit".to_owned()));
    assert_eq!(
        refused(PHARMACIST, &json!({"do": "chat", "method": "Chat", "count": 1})),
        (7, "policy-no-permit".to_owned())
    );
    let at = |path: &str| json!({"do": "unary", "path": path, "message": "x"});
    assert_eq!(refused(DOCTOR, &at("/clinic.Unknown/Unary")), (12, "route-unknown".to_owned()));
    assert_eq!(refused(DOCTOR, &at("/clinic.Gone/Unary")), (14, "backend-unavailable".to_owned()));
    // What is no call of gRPC gets what every other request gets.
    let answer =
        clinic.h2(PHARMACIST).request("POST", "/clinic.Echo/Unary", &[("content-type", "application/json")], b"{}");
    assert_eq!(answer.expect("an answer").status, 403);
    let asked = clinic.wait_for_record("the refusal", |record| text(record, "reason") == "policy-no-permit");
    assert_eq!(asked["status"], 403, "the record has what it means: {asked:#}");
}

#[test]
fn a_caller_shortens_the_deadline_and_never_lengthens_it() {
    let (_server, clinic) = clinic();
    let mut client = client(&clinic, DOCTOR);
    // The route's 700 ms hold for a caller who would wait longer.
    let order = json!({"do": "unary", "path": "/clinic.Slow/Unary", "message": "sleep 20", "timeout": 50});
    let begun = Instant::now();
    let answer = client.does(&order);
    assert_eq!((&answer["code"], text(&answer, "details")), (&json!(4), "backend-timeout"), "{answer}");
    assert!(begun.elapsed().as_secs() < 15, "{:?}", begun.elapsed());
    // A caller who says 300 ms and does not look at a clock, where the route says nothing.
    let call = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "300m")];
    let answer = clinic.h2(DOCTOR).request("POST", "/clinic.Echo/Unary", &call, b"\0\0\0\0\x08sleep 20");
    let answer = answer.expect("an answer");
    let field = |name: &str| answer.field(name).to_owned();
    assert_eq!(
        (answer.status, field("grpc-status"), field("grpc-message")),
        (200, "4".into(), "backend-timeout".into())
    );
    assert_eq!((field("content-type"), field("x-request-id").len()), ("application/grpc".into(), 32));
    let answer = client.does(&json!({"do": "unary", "method": "Unary", "message": "deadline", "timeout": 5}));
    let left: f64 = text(&answer, "answer").parse().expect("seconds");
    assert!(left > 0.0 && left <= 6.0, "the backend knows it too: {answer}");
}
