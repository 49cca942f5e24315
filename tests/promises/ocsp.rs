//! Whom his issuer's responder calls revoked is out within a second and does not come back; whoever forges, replays or
//! withholds a response clears nobody (R3, C7, C9).

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::ocsp::{Manner, Responder, reply};
use gateway_tests::openssl::Ca;
use gateway_tests::revocation::{closed, is_refused, open};
use gateway_tests::{Clinic, DOCTOR, Ended, Identity, PATIENCE, Prepared, Reply, Wire, until, within};

const PROMISED: Duration = Duration::from_secs(1);
/// Every second anew, so that nobody has to wait for a test.
const OFTEN: &str = "fetch_interval_s = 1\nfetch_timeout_ms = 2000\ncache_directory = \"fetched\"";
const DELEGATED: &str = "extendedKeyUsage = OCSPSigning\nkeyUsage = critical, digitalSignature\n";

fn prepare(ca: &Ca, revocation: &str) -> Prepared {
    gateway_tests::revocation::prepare(ca, &format!("{revocation}\n{OFTEN}"))
}

fn world(revocation: &str) -> (Arc<Ca>, Responder, Clinic) {
    let ca = Arc::new(Ca::root("Clinics of the tests"));
    let responder = Responder::of(&ca);
    let clinic = prepare(&ca, revocation).start();
    (ca, responder, clinic)
}

/// A device whose certificate names the responder.
fn device(ca: &Ca, name: &str, url: &str) -> Identity {
    ca.device_with(name, &[], &format!("authorityInfoAccess = OCSP;URI:{url}"))
}

/// Waits until the device is let in.
fn gets_in(clinic: &Clinic, identity: &Identity) -> Wire {
    within(PATIENCE, || {
        let mut wire = clinic.door.with(identity).try_open().ok()?;
        wire.send_request("GET", "/fhir/Patient/1", &[], b"");
        (wire.try_answer().ok()?.status == 200).then_some(wire)
    })
    .unwrap_or_else(|| panic!("not let in: {}", clinic.gateway.said()))
}

fn ends(wire: &mut Wire) {
    wire.set_patience(Duration::from_secs(8));
    match wire.try_answer() {
        Err(Ended::Silent) => panic!("still open"),
        Err(_) => {}
        Ok(answer) => panic!("answered {}", answer.status),
    }
}

fn certificates(clinic: &Clinic, status: &str) -> f64 {
    clinic.metric("sekisho_ocsp_certificates", &[("listener", "clinics"), ("status", status)])
}

#[test]
fn must_waits_for_the_answer_and_revoked_ends_the_live_connection() {
    let (ca, responder, clinic) = world("mode = \"off\"\nocsp = \"must\"");
    let (bad, good) = (device(&ca, DOCTOR, &responder.url()), device(&ca, "sakura-clinic/ward-1", &responder.url()));
    assert_eq!(responder.asked(), 0);
    // Of whom nothing is known yet, is refused; the question is put, and the next try succeeds.
    is_refused(&clinic, &bad, "revocation-unknown");
    let begun = Instant::now();
    let mut cut = gets_in(&clinic, &bad);
    println!("let in {:?} after the first refusal", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let mut kept = gets_in(&clinic, &good);
    assert!((certificates(&clinic, "good") - 2.0).abs() < 0.1);

    ca.revoke(&bad.certificate_pem, "keyCompromise");
    let since = Instant::now();
    ends(&mut cut);
    // Up to a second until the responder is asked again, and then the promised one.
    let took = since.elapsed();
    println!("ended {took:?} after the revocation");
    assert!(took < Duration::from_secs(1) + PROMISED + Duration::from_millis(500), "{took:?}");
    closed(&clinic, &cut, "certificate-revoked");
    let cuts = clinic.metric("sekisho_connections_cut_total", &[("reason", "certificate-revoked")]);
    assert!((cuts - 1.0).abs() < f64::EPSILON, "{cuts}");
    is_refused(&clinic, &bad, "certificate-revoked");
    let refusal = clinic.wait_for_record("why", |record| text(record, "reason") == "certificate-revoked");
    assert!(text(&refusal, "detail").contains("keyCompromise"), "when and why: {refusal:#}");
    let change = clinic.wait_for_record("the change", |record| is(record, "revocation-change"));
    for (key, value) in [("what", "ocsp"), ("status", "revoked"), ("reason", "keyCompromise"), ("listener", "clinics")]
    {
        assert_eq!(text(&change, key), value, "{change:#}");
    }
    assert_eq!(text(&change, "source"), responder.url());
    assert_eq!(kept.get("/fhir/Patient/2").status, 200);
    assert!((certificates(&clinic, "revoked") - 1.0).abs() < 0.1);

    // A restart without the responder: what was said is on disk.
    responder.set(Manner { instead: Some(Reply::new(503, "gone")), ..Manner::default() });
    let clinic = clinic.stop().start();
    is_refused(&clinic, &bad, "certificate-revoked");
    let _ = open(&clinic, &good);
}

#[test]
fn a_hold_ends_with_a_newer_good_answer() {
    let (ca, responder, clinic) = world("ocsp = \"prefer\"");
    let identity = device(&ca, DOCTOR, &responder.url());
    ca.revoke(&identity.certificate_pem, "certificateHold");
    // `prefer` lets in at first, and cuts once the responder has spoken.
    let mut wire = clinic.door.with(&identity).open();
    wire.set_patience(Duration::from_secs(5));
    let _ = wire.closes();
    closed(&clinic, &wire, "certificate-revoked");
    is_refused(&clinic, &identity, "certificate-revoked");
    let revoked = responder.last();
    let index = ca.index();
    let lifted: String = index
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            format!("V\t{}\t\t{}\n", fields[1], fields[3..].join("\t"))
        })
        .collect();
    std::fs::write(ca.path("index.txt"), lifted).expect("a file");
    let _ = gets_in(&clinic, &identity);
    // The old word, played again, says nothing any more; nor does it do harm.
    responder.set(Manner { instead: Some(reply(&revoked)), ..Manner::default() });
    let asked = responder.asked();
    until("a further question", || (responder.asked() > asked + 1).then_some(()));
    let _ = open(&clinic, &identity);
    until("the complaint", || clinic.gateway.said().contains("older than the one in use").then_some(()));
}

/// Every way not to answer, and a word of what is said about it.
fn bad_manners(ca: &Arc<Ca>, other_response: Vec<u8>, old_good: Vec<u8>) -> Vec<(&'static str, Manner, &'static str)> {
    let with = |instead: Reply| Manner { instead: Some(instead), ..Manner::default() };
    let namesake = Ca::root("Clinics of the tests");
    let changed = |change: fn(Vec<u8>) -> Vec<u8>| Manner { changed: Some(change), ..Manner::default() };
    let endless =
        [&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n20000\r\n"[..], &[0x30; 0x20000][..]].concat();
    vec![
        (
            "another's key",
            Manner { signer: Some((namesake.certificate_pem(), namesake.key_pem())), ..Manner::default() },
            "not signed by",
        ),
        (
            "no delegation",
            Manner { signer: Some(ca.certify("extendedKeyUsage = clientAuth\n")), ..Manner::default() },
            "not signed by",
        ),
        (
            "a bit changed",
            changed(|mut bytes| {
                let at = 100;
                bytes[at] ^= 1;
                bytes
            }),
            "it is not",
        ),
        ("cut off", changed(|bytes| bytes[..bytes.len() - 1].to_vec()), "not an OCSP response"),
        ("of last week", Manner { time: Some("-7d".to_owned()), ..Manner::default() }, "out of date"),
        ("of tomorrow", Manner { time: Some("+1d".to_owned()), ..Manner::default() }, "from now"),
        ("about another certificate", with(reply(&other_response)), "another certificate"),
        ("an older one", with(reply(&old_good)), "older than"),
        ("tryLater", with(reply(&[0x30, 3, 0x0a, 1, 3])), "tryLater"),
        ("unauthorized", with(reply(&[0x30, 3, 0x0a, 1, 6])), "unauthorized"),
        ("an error of HTTP", with(Reply::new(500, "broken")), "it answers 500"),
        ("elsewhere", with(Reply::raw("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n")), "redirects"),
        ("a giant", with(Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\n")), "larger than"),
        ("an endless one", with(Reply::raw(endless)), "larger than"),
        ("nothing", with(reply(b"")), "not an OCSP response"),
        ("HTML", with(Reply::new(200, "<html>")), "not an OCSP response"),
        ("silence", with(Reply::new(200, "late").after(Duration::from_secs(9))), "took longer"),
    ]
}

#[test]
fn c9_whoever_forges_replays_or_withholds_clears_nobody() {
    let (ca, responder, clinic) = world("ocsp = \"prefer\"");
    let url = responder.url();
    let (bad, good, other) =
        (device(&ca, DOCTOR, &url), device(&ca, "sakura-clinic/ward-1", &url), device(&ca, DOCTOR, &url));
    let said_good = |identity: &Identity, number: f64| {
        let _ = open(&clinic, identity);
        until("the answer", || (certificates(&clinic, "good") >= number).then_some(()));
        responder.last()
    };
    let old_good = said_good(&bad, 1.0);
    let other_response = said_good(&other, 2.0);
    let mut wire = open(&clinic, &bad);
    ca.revoke(&bad.certificate_pem, "superseded");
    ends(&mut wire);
    let mut kept = open(&clinic, &good);
    until("the answer", || (certificates(&clinic, "good") > 1.5).then_some(()));
    let failing = || clinic.metric("sekisho_ocsp_failing", &[]) > 0.5;
    for (name, manner, why) in bad_manners(&ca, other_response, old_good) {
        let said = clinic.gateway.said().len();
        responder.set(manner);
        until(name, || failing().then_some(()));
        until(name, || clinic.gateway.said()[said..].contains(why).then_some(()));
        is_refused(&clinic, &bad, "certificate-revoked");
        assert_eq!(kept.get("/fhir/Patient/1").status, 200, "{name}");
        let _ = open(&clinic, &good);
        responder.set(Manner::default());
        until("good answers again", || (!failing()).then_some(()));
    }
    // A responder that knows nobody any more clears nobody either.
    responder.set(Manner { knows_nobody: true, ..Manner::default() });
    until("the status", || (certificates(&clinic, "unknown") > 0.5).then_some(()));
    is_refused(&clinic, &bad, "certificate-revoked");
    assert_eq!(kept.get("/fhir/Patient/1").status, 200);
}

#[test]
fn whom_the_responder_does_not_know_passes_under_prefer_alone() {
    for (mode, refused) in [("prefer", false), ("must", true)] {
        let (ca, responder, clinic) = world(&format!("ocsp = \"{mode}\""));
        let identity = device(&ca, DOCTOR, &responder.url());
        let mut wire = gets_in(&clinic, &identity);
        responder.set(Manner { knows_nobody: true, ..Manner::default() });
        until("the status", || (certificates(&clinic, "unknown") > 0.5).then_some(()));
        if refused {
            ends(&mut wire);
            closed(&clinic, &wire, "revocation-unknown");
            is_refused(&clinic, &identity, "revocation-unknown");
            responder.set(Manner::default());
            let _ = gets_in(&clinic, &identity);
        } else {
            assert_eq!(wire.get("/fhir/Patient/2").status, 200);
            let _ = open(&clinic, &identity);
        }
    }
}

#[test]
fn a_responder_that_is_gone_ends_must_with_its_last_answer_and_the_grace() {
    for (mode, ended) in [("prefer", false), ("must", true)] {
        let (ca, responder, clinic) = world(&format!("ocsp = \"{mode}\"\ngrace_s = 5"));
        let identity = device(&ca, DOCTOR, &responder.url());
        // Made 56 s ago, good for a minute.
        responder.set(Manner { time: Some("-56s".to_owned()), minutes: Some(1), ..Manner::default() });
        let mut wire = gets_in(&clinic, &identity);
        until("the answer", || (certificates(&clinic, "good") > 0.5).then_some(()));
        let begun = Instant::now();
        responder.set(Manner { instead: Some(Reply::new(503, "gone")), ..Manner::default() });
        until("the alarm", || (clinic.metric("sekisho_ocsp_due", &[]) > 0.5).then_some(()));
        if ended {
            wire.set_patience(Duration::from_secs(20));
            let _ = wire.closes();
            assert!(begun.elapsed() > Duration::from_secs(5), "the grace: {:?}", begun.elapsed());
            closed(&clinic, &wire, "revocation-unknown");
            is_refused(&clinic, &identity, "revocation-unknown");
            responder.set(Manner::default());
            let _ = gets_in(&clinic, &identity);
        } else {
            std::thread::sleep(Duration::from_secs(12));
            assert_eq!(wire.get("/fhir/Patient/2").status, 200);
            let _ = open(&clinic, &identity);
        }
    }
}

#[test]
fn a_delegated_responder_answers_and_is_not_believed_once_it_is_revoked() {
    let ca = Arc::new(Ca::root("Clinics of the tests"));
    let responder = Responder::of(&ca);
    let delegated = ca.certify(DELEGATED);
    responder.set(Manner { signer: Some(delegated.clone()), ..Manner::default() });
    let prepared = prepare(&ca, "mode = \"prefer\"\ncrl_directory = \"crl\"\nocsp = \"must\"");
    std::fs::create_dir(prepared.path("crl")).expect("a folder");
    let clinic = prepared.start();
    let identity = device(&ca, DOCTOR, &responder.url());
    let mut wire = gets_in(&clinic, &identity);
    // The list is of an hour ago and out of date: it says who was revoked, and not who is good.
    ca.revoke(&delegated.0, "keyCompromise");
    let old = gateway_tests::openssl::CrlOptions {
        this_update: Some("20260101000000Z".to_owned()),
        next_update: Some("20260102000000Z".to_owned()),
        ..Default::default()
    };
    let list = ca.crl_with(&old);
    clinic.prepared.write("crl/unfinished", list);
    std::fs::rename(clinic.prepared.path("crl/unfinished"), clinic.prepared.path("crl/ca.crl")).expect("renamed");
    ends(&mut wire);
    closed(&clinic, &wire, "revocation-unknown");
    is_refused(&clinic, &identity, "revocation-unknown");
    // Another one of the authority's is.
    responder.set(Manner { signer: Some(ca.certify(DELEGATED)), ..Manner::default() });
    let _ = gets_in(&clinic, &identity);
    let taken = clinic.wait_for_record("the list", |record| text(record, "what") == "crl");
    assert_eq!((text(&taken, "change"), text(&taken, "listener")), ("taken", "clinics"), "{taken:#}");
    assert!(text(&taken, "source").contains("ca.crl") && text(&taken, "issuer").contains("Clinics"), "{taken:#}");
    assert_eq!(taken["entries"], 1, "{taken:#}");
}

#[test]
fn a_question_is_never_in_a_handshake_s_way_and_strangers_have_none_put() {
    let (ca, responder, clinic) = world("ocsp = \"prefer\"\nfetch_hosts = [\"127.0.0.1\"]");
    responder.set(Manner { instead: Some(Reply::new(200, "late").after(Duration::from_secs(9))), ..Manner::default() });
    let identity = device(&ca, DOCTOR, &responder.url());
    for _ in 0..3 {
        let begun = Instant::now();
        let _ = open(&clinic, &identity);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    until("a question", || (responder.asked() > 0).then_some(()));
    let stranger = Responder::of(&ca);
    let _ = clinic.door.with(&device(&Ca::root("Clinics of the tests"), DOCTOR, &stranger.url())).refused();
    // A host that is not to be asked.
    let elsewhere = device(&ca, DOCTOR, &stranger.url().replace("127.0.0.1", "localhost"));
    let _ = open(&clinic, &elsewhere);
    until("the complaint", || clinic.gateway.said().contains("not among `fetch_hosts`").then_some(()));
    assert_eq!(stranger.asked(), 0);
}

#[test]
fn one_responder_for_all_is_asked_instead_of_those_that_certificates_name() {
    let ca = Arc::new(Ca::root("Clinics of the tests"));
    let (own, named) = (Responder::of(&ca), Responder::of(&ca));
    let clinic = prepare(&ca, &format!("ocsp = \"must\"\nocsp_responder = \"{}\"", own.url())).start();
    let (one, other) = (device(&ca, DOCTOR, &named.url()), ca.device("sakura-clinic/ward-1", &[]));
    let _ = gets_in(&clinic, &one);
    let _ = gets_in(&clinic, &other);
    assert!(own.asked() >= 2);
    assert_eq!(named.asked(), 0);
}

/// `openssl ocsp` as a server of its own.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn of(ca: &Ca) -> Self {
        let arguments = ["ocsp", "-port", "0", "-index", "index.txt", "-CA", "ca.crt", "-rsigner", "ca.crt"];
        let mut child = Command::new("openssl")
            .args(arguments)
            .args(["-rkey", "ca.key", "-nmin", "5"])
            .current_dir(ca.path(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`openssl` is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let port = line.split(' ').nth(1).and_then(|address| address.rsplit(':').next()?.parse().ok());
        Self { port: port.unwrap_or_else(|| panic!("no port in `{line}`")), child }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn openssl_s_own_responder_is_understood() {
    let ca = Ca::root("Clinics of the tests");
    let server = Server::of(&ca);
    let identity = device(&ca, DOCTOR, &format!("http://127.0.0.1:{}", server.port));
    let clinic = prepare(&ca, "mode = \"off\"\nocsp = \"must\"").start();
    let mut wire = gets_in(&clinic, &identity);
    ca.revoke(&identity.certificate_pem, "cessationOfOperation");
    ends(&mut wire);
    closed(&clinic, &wire, "certificate-revoked");
}

/// The gateway's own response is fetched, stapled, renewed and kept, without a reload.
#[test]
fn the_gateway_s_own_response_is_fetched_and_stapled() {
    let ca = Arc::new(Ca::root("Servers of the tests"));
    let responder = Responder::of(&ca);
    let names = "subjectAltName = DNS:localhost,IP:127.0.0.1\nextendedKeyUsage = serverAuth\n";
    let made = || ca.certify(&format!("{names}authorityInfoAccess = OCSP;URI:{}\n", responder.url()));
    let prepared = Clinic::builder()
        .config(|config| {
            config.set_tls("certificate_file", "tls/own.crt");
            config.set_tls("key_file", "tls/own.key");
            config.set_tls("ocsp_file", "tls/own.ocsp");
            config.set_tls("ocsp_fetch", true);
        })
        .prepare();
    let write = |prepared: &Prepared, (certificate, key): (String, String)| {
        for (name, content) in [("tls/own.crt", certificate + &ca.certificate_pem()), ("tls/own.key", key)] {
            prepared.write(&format!("{name}.new"), content);
            std::fs::rename(prepared.path(&format!("{name}.new")), prepared.path(name)).expect("renamed");
        }
    };
    write(&prepared, made());
    prepared.write("tls/own-ca.crt", ca.certificate_pem());
    // Nobody answers yet: the gateway serves, and staples nothing.
    responder.set(Manner { instead: Some(Reply::new(503, "gone")), ..Manner::default() });
    let clinic = prepared.start();
    let status = || {
        let output = Command::new("openssl")
            .args(["s_client", "-status", "-connect", &clinic.door.address.to_string(), "-servername", "localhost"])
            .arg("-CAfile")
            .arg(clinic.prepared.path("tls/own-ca.crt"))
            .stdin(Stdio::null())
            .output()
            .expect("`openssl` is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let stapled = || clinic.metric("sekisho_ocsp_stapled", &[]) > 0.5;
    assert!(status().contains("OCSP response: no response sent"), "{}", status());
    until("the complaint", || clinic.gateway.said().contains("it answers 503").then_some(()));
    // A revoked or forged one is not taken.
    let namesake = Ca::root("Servers of the tests");
    responder.set(Manner { signer: Some((namesake.certificate_pem(), namesake.key_pem())), ..Manner::default() });
    until("the complaint", || clinic.gateway.said().contains("not signed by").then_some(()));
    assert!(!stapled() && !clinic.prepared.path("tls/own.ocsp").exists());

    responder.set(Manner::default());
    until("the response", || stapled().then_some(()));
    let said = status();
    assert!(said.contains("OCSP Response Status: successful") && said.contains("Cert Status: good"), "{said}");
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    // Another certificate gets its own.
    let before = responder.asked();
    write(&clinic.prepared, made());
    until("a question about the new one", || (responder.asked() > before).then_some(()));
    until("its response", || (stapled() && status().contains("Cert Status: good")).then_some(()));
    // What was fetched is there for the next start.
    responder.set(Manner { instead: Some(Reply::new(503, "gone")), ..Manner::default() });
    let reloaded = clinic.reload();
    assert!(reloaded && stapled() && status().contains("Cert Status: good"), "{}", status());
}
