//! C7, C14: opaque tokens, about which the identity provider is asked (RFC 7662): as a client that it knows, for a short while
//! only, and closed when it does not answer.

use gateway_tests::idp::{ISSUER, Idp, claims};
use gateway_tests::{Builder, Clinic, DOCTOR, until};
use serde_json::json;

use crate::token_jwt::{ELSEWHERE, WARD, ask, clinic, refused};

fn opaque(idp: &Idp, cache_s: u32) -> Builder {
    let issuer = format!(
        "[[token_issuer]]\nname = \"idp\"\nissuer = \"{ISSUER}\"\naudiences = [\"sekisho\"]\nsites = [\"*\"]\n\
         algorithms = [\"ES256\"]\nintrospection_uri = \"http://127.0.0.1:{}/introspect\"\nclient_id = \"gateway\"\n\
         client_secret_file = \"idp.secret\"\ncache_s = {cache_s}\ntimeout_ms = 60000\n",
        idp.port
    );
    clinic(idp, "").config(|config| {
        config.clear_appended();
        config.append(&issuer);
    })
}

fn start(builder: Builder) -> Clinic {
    let prepared = builder.prepare();
    prepared.write("idp.secret", "s3cret+\n");
    prepared.start()
}

#[test]
fn an_opaque_token_is_good_while_its_issuer_says_so() {
    let idp = Idp::start();
    let clinic = start(opaque(&idp, 300));
    let good = claims("dr-sato", &clinic.identity(DOCTOR));
    let with = |claim: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        claims
    };
    let without = |claim: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().expect("claims").remove(claim);
        claims
    };
    idp.obey(&json!({"tokens": {
        "good": good, "own~word/+==": without("iss"), "other-audience": with("aud", json!("x")), "other-issuer": with("iss", json!("x")),
        "endless": without("exp"), "unbound": without("cnf"), "ended": with("exp", json!(1000)),
    }}));
    let mut wire = clinic.wire(DOCTOR);
    for _ in 0..20 {
        assert_eq!(ask(&mut wire, "/fhir/Patient/1", "good").status, 200);
        refused(&ask(&mut wire, "/fhir/Patient/1", "nobodys"), "token-invalid");
    }
    assert_eq!(idp.asked().1, 2, "a good answer and a bad one are remembered");
    assert_eq!(ask(&mut wire, "/fhir/Patient/1", "own~word/+==").status, 200);
    for (token, label) in [
        ("other-audience", "token-invalid"),
        ("other-issuer", "token-invalid"),
        ("endless", "token-invalid"),
        ("unbound", "token-not-bound"),
        ("ended", "token-expired"),
    ] {
        refused(&ask(&mut wire, "/fhir/Patient/1", token), label);
    }
    // Remembered, but still another's.
    refused(&ask(&mut clinic.wire(WARD), "/fhir/Patient/1", "good"), "token-not-bound");
    // A token that names another issuer is shown to nobody.
    let (_, before) = idp.asked();
    refused(&ask(&mut wire, "/fhir/Patient/1", &idp.mint(&with("iss", json!("https://else.test")))), "token-invalid");
    assert_eq!(idp.asked().1, before);
}

/// Many requests with one token are one question, and what one site may ask about keeps nobody else out.
#[test]
fn one_question_for_each_token_and_a_share_for_each_site() {
    let idp = Idp::start();
    let clinic = start(opaque(&idp, 300));
    let (ours, theirs) = (claims("dr-sato", &clinic.identity(DOCTOR)), claims("dr-ito", &clinic.identity(ELSEWHERE)));
    idp.obey(&json!({"tokens": {"ours": ours, "theirs": theirs}, "hold": true}));
    let send = |device: &str, token: &str| {
        let mut wire = clinic.wire(device);
        wire.send_request("GET", "/fhir/Patient/1", &[("Authorization", &format!("Bearer {token}"))], b"");
        wire
    };
    let mut same: Vec<_> = (0..12).map(|_| send(DOCTOR, "ours")).collect();
    let mut unknown: Vec<_> = (0..24).map(|place| send(DOCTOR, &format!("unknown-{place}"))).collect();
    // One is under way for the good token, fifteen for others of the site.
    let refusals = || clinic.metric("sekisho_requests_total", &[("reason", "token-unavailable")]);
    until("the rest of them to be refused", || (refusals() >= 9.0).then_some(()));
    until("the questions", || (idp.asked().1 == 16).then_some(()));
    let mut other = send(ELSEWHERE, "theirs");
    until("the other site's question", || (idp.asked().1 == 17).then_some(()));
    idp.obey(&json!({"hold": false}));
    for wire in &mut same {
        assert_eq!(wire.answer().status, 200);
    }
    assert_eq!(other.answer().status, 200);
    let mut statuses: Vec<_> = unknown.iter_mut().map(|wire| wire.answer().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [[401; 15].as_slice(), &[503; 9]].concat());
    assert_eq!(idp.asked().1, 17);
}

#[test]
fn without_an_answer_nobody_comes_in() {
    let idp = Idp::start();
    let clinic = start(opaque(&idp, 0));
    let good = claims("dr-sato", &clinic.identity(DOCTOR));
    idp.obey(&json!({"tokens": {"good": good}}));
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(ask(&mut wire, "/fhir/Patient/1", "good").status, 200);
    idp.obey(&json!({"introspect": 500}));
    let answer = ask(&mut wire, "/fhir/Patient/1", "good");
    assert_eq!((answer.status, answer.problem().as_str()), (503, "token-unavailable"));
    idp.obey(&json!({"introspect": 200}));
    assert_eq!(ask(&mut wire, "/fhir/Patient/1", "good").status, 200);
    // Taken back, it is out at the next question.
    idp.obey(&json!({"tokens": {}}));
    refused(&ask(&mut wire, "/fhir/Patient/1", "good"), "token-invalid");
    drop(idp);
    until("the provider to be gone", || {
        let answer = ask(&mut wire, "/fhir/Patient/1", "good");
        (answer.problem() == "token-unavailable").then_some(())
    });
}

#[test]
fn a_secret_that_others_can_read_refuses_the_start() {
    let idp = Idp::start();
    let prepared = opaque(&idp, 0).prepare();
    prepared.write("idp.secret", "s3cret+\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(prepared.path("idp.secret"), mode).expect("its mode");
    let Err((failure, prepared)) = prepared.try_start() else { panic!("it starts") };
    assert!(failure.message.contains("idp.secret") && failure.message.contains("600"), "{}", failure.message);
    std::fs::remove_file(prepared.path("idp.secret")).expect("a file");
    assert!(prepared.try_start().is_err());
}

/// RFC 8705 section 2: the gateway shows a certificate instead of a secret.
#[test]
fn whoever_asks_may_be_known_by_a_certificate() {
    let files = tempfile::tempdir().expect("a folder");
    let (pki, others) = (gateway_tests::Pki::new(), gateway_tests::Pki::new());
    let (server, client, foreign) = (pki.server(&["localhost"]), pki.operator("a/gw"), others.operator("a/gw"));
    let file = |name: &str, content: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path
    };
    let (certificate, key) = (file("idp.crt", &server.certificate_pem), file("idp.key", &server.key_pem));
    let idp = Idp::with_clients(&certificate, &key, &file("ca.crt", pki.devices_ca_pem()));
    let issuer = format!(
        "[[token_issuer]]\nname = \"idp\"\nissuer = \"{ISSUER}\"\naudiences = [\"sekisho\"]\nsites = [\"*\"]\n\
         algorithms = [\"ES256\"]\nintrospection_uri = \"https://localhost:{}/introspect\"\nca_file = \"tls/idp-ca.crt\"\n\
         certificate_file = \"tls/client.crt\"\nkey_file = \"tls/client.key\"\ntimeout_ms = 60000\n",
        idp.port
    );
    let prepared = clinic(&idp, "")
        .config(|config| {
            config.clear_appended();
            config.append(&issuer);
        })
        .prepare();
    prepared.write("tls/idp-ca.crt", pki.servers_ca_pem());
    let shows = |write: &dyn Fn(&str, &str), who: &gateway_tests::Identity| {
        write("tls/client.crt", &who.certificate_pem);
        write("tls/client.key", &who.key_pem);
    };
    shows(&|name, content| prepared.write(name, content), &foreign);
    let clinic = prepared.start();
    idp.obey(&json!({"tokens": {"good": claims("dr-sato", &clinic.identity(DOCTOR))}}));
    let mut wire = clinic.wire(DOCTOR);
    let answer = ask(&mut wire, "/fhir/Patient/1", "good");
    assert_eq!((answer.status, &*answer.problem()), (503, "token-unavailable"), "nobody vouches for who asks");
    assert_eq!(idp.asked().1, 0);
    shows(&|name, content| clinic.prepared.write(name, content), &client);
    assert!(clinic.reload());
    assert_eq!(ask(&mut wire, "/fhir/Patient/1", "good").status, 200);
    refused(&ask(&mut wire, "/fhir/Patient/1", "nobodys"), "token-invalid");
}
