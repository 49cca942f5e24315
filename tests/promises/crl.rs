//! Whom a CRL names is out within a second and does not come back; a bad CRL clears nobody (R3, C7, C8, C9).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::openssl::{Ca, CrlOptions};
use gateway_tests::revocation::{closed, is_refused, open, prepare};
use gateway_tests::{Backend, Clinic, DOCTOR, Ended, Identity, Prepared, Reply, Wire, until, within};
use toml::{Table, Value};

const PROMISED: Duration = Duration::from_secs(1);
const FILE: &str = "tls/devices.crl";

/// Puts a file in place of another whole, as a careful operator does.
fn replace(prepared: &Prepared, name: &str, content: impl AsRef<[u8]>) {
    let unfinished = format!("{name}.new");
    prepared.write(&unfinished, content);
    std::fs::rename(prepared.path(&unfinished), prepared.path(name)).expect("renamed");
}

fn files(mode: &str) -> String {
    format!("mode = \"{mode}\"\ncrl_files = [\"{FILE}\"]")
}

/// Expects the connection to end in time.
fn ends_in_time(wire: &mut Wire, since: Instant) {
    wire.set_patience(Duration::from_secs(5));
    match wire.try_answer() {
        Err(Ended::Silent) => panic!("still open after {:?}", since.elapsed()),
        Err(_) => {}
        Ok(answer) => panic!("answered {}", answer.status),
    }
    let took = since.elapsed();
    println!("ended {took:?} after the change");
    assert!(took < PROMISED, "ended only after {took:?}");
}

#[test]
fn a_new_crl_ends_the_live_connection_and_keeps_the_device_out() {
    for mode in ["prefer", "must"] {
        let ca = Ca::root("Clinics of the tests");
        let (bad, good) = (ca.device(DOCTOR, &[]), ca.device("sakura-clinic/ward-1", &[]));
        let prepared = prepare(&ca, &files(mode));
        prepared.write(FILE, ca.crl());
        let clinic = prepared.start();
        let (mut cut, mut kept) = (open(&clinic, &bad), open(&clinic, &good));
        ca.revoke(&bad.certificate_pem, "keyCompromise");
        let crl = ca.crl();
        let since = Instant::now();
        replace(&clinic.prepared, FILE, crl);
        ends_in_time(&mut cut, since);
        closed(&clinic, &cut, "certificate-revoked");
        let cuts = clinic.metric("sekisho_connections_cut_total", &[("reason", "certificate-revoked")]);
        assert!((cuts - 1.0).abs() < f64::EPSILON, "{cuts}");
        is_refused(&clinic, &bad, "certificate-revoked");
        let refusal = clinic.wait_for_record("why", |record| text(record, "reason") == "certificate-revoked");
        assert!(text(&refusal, "detail").contains("keyCompromise"), "when and why: {refusal:#}");
        assert_eq!(kept.get("/fhir/Patient/2").status, 200);
        let _ = open(&clinic, &good);
    }
}

#[test]
fn a_revoked_issuing_authority_takes_all_its_devices_along() {
    let root = Ca::root("Root of the tests");
    let (east, west) = (root.below("East", &[]), root.below("West", &[]));
    let (bad, good) = (east.device(DOCTOR, &[]), west.device("sakura-clinic/ward-1", &[]));
    // All lists in one PEM file, as some authorities hand them out.
    let all = || root.crl() + &east.crl() + &west.crl();
    let prepared = prepare(&root, &files("must"));
    prepared.write(FILE, all());
    let clinic = prepared.start();
    let (mut cut, mut kept) = (open(&clinic, &bad), open(&clinic, &good));
    root.revoke(&east.certificate_pem(), "CACompromise");
    let crls = all();
    let since = Instant::now();
    replace(&clinic.prepared, FILE, crls);
    ends_in_time(&mut cut, since);
    closed(&clinic, &cut, "certificate-revoked");
    is_refused(&clinic, &bad, "certificate-revoked");
    assert_eq!(kept.get("/fhir/Patient/2").status, 200);
}

/// UTC, this far from now, as OpenSSL wants it.
fn moment(seconds: i64) -> Option<String> {
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("{seconds} seconds"), "+%Y%m%d%H%M%SZ"])
        .output()
        .expect("`date`");
    Some(String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned())
}

const INDIRECT: &str = "issuingDistributionPoint = critical, @idp\n[idp]\nindirectCRL = TRUE\n";
const UNKNOWN: &str = "1.3.6.1.4.1.99999.1 = critical, ASN1:NULL\n";

/// Everything that is no good CRL of this authority, and a word of what is said about it. The authority has issued
/// two lists before, and has revoked somebody.
fn bad_lists(ca: &Ca, first: &str) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let with =
        |extensions: &str| ca.crl_with(&CrlOptions { extensions: extensions.to_owned(), ..CrlOptions::default() });
    let early =
        ca.crl_with(&CrlOptions { this_update: moment(3_600), next_update: moment(7_200), ..CrlOptions::default() });
    let good = ca.crl();
    let der = Ca::crl_der(&good);
    let mut forged = der.clone();
    *forged.last_mut().expect("a signature") ^= 1;
    let mut long = vec![0x30, 0x84, 0x03, 0x1f, 0xff, 0xfa];
    long.resize(50 << 20, 0x30);
    // Whoever calls himself so.
    let namesake = Ca::root("Clinics of the tests");
    let mut later = String::new();
    for _ in 0..9 {
        later = namesake.crl();
    }
    vec![
        ("empty", Vec::new(), "empty"),
        ("white space", b"\n\n".to_vec(), "empty"),
        ("garbage", vec![0xa5; 4_096], "text"),
        ("garbage that begins as a list", [&der[..20], &[0xa5; 4_096][..]].concat(), "cannot be read"),
        ("truncated PEM", good.as_bytes()[..good.len() / 2].to_vec(), "line 1"),
        ("truncated DER", der[..der.len() / 2].to_vec(), "cannot be read"),
        ("more behind it", [&der[..], b"more"].concat(), "cannot be read"),
        ("a certificate", ca.certificate_pem().into_bytes(), "X509 CRL"),
        ("a bit of the signature changed", forged, "signature"),
        ("a namesake's", later.into_bytes(), "signature"),
        ("indirect", with(INDIRECT).into_bytes(), "indirect"),
        ("an unknown critical extension", with(UNKNOWN).into_bytes(), "critical extension"),
        ("of tomorrow", early.into_bytes(), "from now"),
        ("50 MB", long, "max_crl_bytes"),
        ("an older one", first.as_bytes().to_vec(), "older"),
    ]
}

#[test]
fn c7_bad_crls_keep_the_gateway_from_starting() {
    let ca = Ca::root("Clinics of the tests");
    let bad = ca.device(DOCTOR, &[]);
    ca.revoke(&bad.certificate_pem, "superseded");
    let mut prepared = prepare(&ca, &files("prefer"));
    let mut cases = bad_lists(&ca, "");
    // Nobody knows at a start what the file held before.
    cases.pop();
    cases.push(("absent", Vec::new(), "cannot be read"));
    for (name, content, why) in cases {
        match name {
            "absent" => std::fs::remove_file(prepared.path(FILE)).expect("it was there"),
            _ => prepared.write(FILE, content),
        }
        prepared = match prepared.try_start() {
            Ok(_) => panic!("{name}: the gateway serves"),
            Err((failure, prepared)) => {
                assert_eq!(failure.code, Some(1), "{name}: {failure:?}");
                let said = &failure.message;
                assert!(said.contains("devices.crl") && said.contains(why), "{name}: {failure:?}");
                *prepared
            }
        };
    }
    prepared.reconfigure(|config| {
        let revocation: Table = "mode = \"prefer\"\ncrl_directory = \"nowhere\"".parse().expect("TOML");
        config.set_tls("revocation", Value::Table(revocation));
    });
    let Err((failure, _)) = prepared.try_start() else { panic!("the gateway serves") };
    assert!(failure.message.contains("nowhere"), "{failure:?}");
}

#[test]
fn a_check_names_the_line_of_a_bad_crl() {
    let ca = Ca::root("Clinics of the tests");
    let prepared = prepare(&ca, &files("must"));
    prepared.write_configuration();
    let file = prepared.path("sekisho.toml");
    let check = || gateway_tests::sekisho(&["check", file.to_str().expect("UTF-8")]);
    for (content, why) in [
        (None, "cannot be read"),
        (Some("garbage".to_owned()), "no CRL that can be used"),
        (Some(Ca::root("Clinics of the tests").crl()), "signature is not its issuer's"),
    ] {
        if let Some(content) = content {
            prepared.write(FILE, content);
        }
        let said = check();
        assert_eq!(said.code, Some(1), "{said:?}");
        let text = said.stdout + &said.stderr;
        assert!(text.contains("sekisho.toml:") && text.contains("devices.crl") && text.contains(why), "{text}");
    }
    prepared.write(FILE, ca.crl());
    let said = check();
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn c9_a_bad_crl_never_clears_anybody() {
    let ca = Ca::root("Clinics of the tests");
    let (bad, good) = (ca.device(DOCTOR, &[]), ca.device("sakura-clinic/ward-1", &[]));
    let first = ca.crl();
    ca.revoke(&bad.certificate_pem, "superseded");
    let in_force = ca.crl();
    let prepared = prepare(&ca, &files("prefer"));
    prepared.write(FILE, &in_force);
    let clinic = prepared.start();
    is_refused(&clinic, &bad, "certificate-revoked");
    let mut kept = open(&clinic, &good);
    let other = Ca::root("Somebody else");
    let failing = || clinic.metric("sekisho_crl_failing_sources", &[("origin", "file")]) > 0.5;
    let mut cases = bad_lists(&ca, &first);
    cases.push(("another issuer's", other.crl().into_bytes(), "another issuer"));
    for (name, content, why) in cases {
        let said = clinic.gateway.said().len();
        replace(&clinic.prepared, FILE, content);
        let told = within(Duration::from_secs(10), || clinic.gateway.said()[said..].contains(why).then_some(()));
        assert!(told.is_some(), "{name}: {}", &clinic.gateway.said()[said..]);
        until("the metric", || failing().then_some(()));
        let _ = clinic.door.with(&bad).refused();
        assert_eq!(kept.get("/fhir/Patient/1").status, 200, "{name}");
        let _ = open(&clinic, &good);
        if name != "another issuer's" {
            assert!(!clinic.reload(), "{name}: a reload takes it");
            let _ = clinic.door.with(&bad).refused();
        }
        replace(&clinic.prepared, FILE, &in_force);
        until("the good list to be taken again", || (!failing()).then_some(()));
    }
    std::fs::remove_file(clinic.prepared.path(FILE)).expect("it was there");
    until("the loss to be noticed", || failing().then_some(()));
    let _ = clinic.door.with(&bad).refused();
    assert!(!clinic.reload(), "a file that is named must be there");
    let _ = clinic.door.with(&bad).refused();
    let revoked = clinic.metric("sekisho_handshakes_total", &[("outcome", "certificate-revoked")]);
    assert!(revoked > 20.0, "each refusal had this one reason: {revoked}");
}

#[test]
fn must_lets_in_nobody_of_whom_no_list_speaks() {
    let root = Ca::root("Root of the tests");
    let issuing = root.below("Issuing", &[]);
    let identity = issuing.device(DOCTOR, &[]);
    let prepared = prepare(&root, "mode = \"must\"\ncrl_directory = \"crl\"");
    std::fs::create_dir(prepared.path("crl")).expect("a folder");
    let clinic = prepared.start();
    is_refused(&clinic, &identity, "revocation-unknown");
    // The root's list says nothing of what the issuing CA issued.
    replace(&clinic.prepared, "crl/root.crl", Ca::crl_der(&root.crl()));
    let count = |number: f64| {
        until("the lists", || {
            let lists = clinic.metrics().page().matches("sekisho_crl_next_update_timestamp_seconds{").count();
            (lists as f64 >= number).then_some(())
        });
    };
    count(1.0);
    is_refused(&clinic, &identity, "revocation-unknown");
    replace(&clinic.prepared, "crl/issuing.crl", issuing.crl());
    count(2.0);
    let mut wire = open(&clinic, &identity);
    // Taken out of the folder: kept until somebody says that it is meant.
    std::fs::remove_file(clinic.prepared.path("crl/issuing.crl")).expect("it was there");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(wire.get("/fhir/Patient/2").status, 200);
    assert!(clinic.reload());
    let since = Instant::now();
    ends_in_time(&mut wire, since);
    closed(&clinic, &wire, "revocation-unknown");
    is_refused(&clinic, &identity, "revocation-unknown");
}

#[test]
fn a_list_out_of_date_is_used_for_the_grace_alone_and_still_names_the_revoked() {
    for mode in ["must", "prefer"] {
        let ca = Ca::root("Clinics of the tests");
        let (bad, good) = (ca.device(DOCTOR, &[]), ca.device("sakura-clinic/ward-1", &[]));
        ca.revoke(&bad.certificate_pem, "superseded");
        let prepared = prepare(&ca, &format!("{}\ngrace_s = 6", files(mode)));
        let ends = CrlOptions { this_update: moment(-60), next_update: moment(3), ..CrlOptions::default() };
        let begun = Instant::now();
        prepared.write(FILE, ca.crl_with(&ends));
        let clinic = prepared.start();
        let mut wire = open(&clinic, &good);
        is_refused(&clinic, &bad, "certificate-revoked");
        until("the alarm", || (clinic.metric("sekisho_crl_due", &[]) > 0.5).then_some(()));
        assert!(clinic.gateway.said().contains("next update is due"), "{}", clinic.gateway.said());
        std::thread::sleep(Duration::from_secs(5).saturating_sub(begun.elapsed()));
        // Out of date, and within the grace.
        let _ = open(&clinic, &good);
        if mode == "must" {
            wire.set_patience(Duration::from_secs(8));
            let _ = wire.closes();
            assert!(begun.elapsed() > Duration::from_secs(8), "{:?}", begun.elapsed());
            closed(&clinic, &wire, "revocation-unknown");
            is_refused(&clinic, &good, "revocation-unknown");
        } else {
            std::thread::sleep(Duration::from_secs(11).saturating_sub(begun.elapsed()));
            let _ = open(&clinic, &good);
        }
        let _ = clinic.door.with(&bad).refused();
        let revoked = || clinic.metric("sekisho_handshakes_total", &[("outcome", "certificate-revoked")]);
        until("the second refusal", || (revoked() > 1.5).then_some(()));
    }
}

#[test]
fn a_delta_crl_revokes_and_unrevokes() {
    let ca = Ca::root("Clinics of the tests");
    let identity = ca.device(DOCTOR, &[]);
    let prepared = prepare(&ca, "mode = \"must\"\ncrl_directory = \"crl\"");
    std::fs::create_dir(prepared.path("crl")).expect("a folder");
    prepared.write("crl/complete.crl", ca.crl());
    let clinic = prepared.start();
    let mut wire = open(&clinic, &identity);
    ca.revoke(&identity.certificate_pem, "certificateHold");
    let delta = ca.crl_with(&CrlOptions {
        extensions: "2.5.29.27 = critical, ASN1:INTEGER:1\n".to_owned(),
        ..CrlOptions::default()
    });
    let since = Instant::now();
    replace(&clinic.prepared, "crl/delta.crl", delta);
    ends_in_time(&mut wire, since);
    closed(&clinic, &wire, "certificate-revoked");
    is_refused(&clinic, &identity, "certificate-revoked");
    assert!(clinic.metric("sekisho_crl_entries", &[("kind", "delta")]) > 0.5);
}

/// Where CRLs are fetched from: what is put there, by path.
struct Shelf {
    server: Backend,
    replies: Arc<Mutex<BTreeMap<String, Reply>>>,
}

impl Shelf {
    fn new() -> Self {
        let server = Backend::start();
        let replies: Arc<Mutex<BTreeMap<String, Reply>>> = Arc::default();
        let known = Arc::clone(&replies);
        server.answers(move |seen| {
            let reply = known.lock().expect("unpoisoned").get(&seen.target()).cloned();
            reply.unwrap_or_else(|| Reply::new(404, "nothing"))
        });
        Self { server, replies }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    fn put(&self, path: &str, reply: Reply) {
        self.replies.lock().expect("unpoisoned").insert(path.to_owned(), reply);
    }

    fn put_list(&self, path: &str, content: &[u8]) {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/pkix-crl\r\ncontent-length: {}\r\n\r\n",
            content.len()
        );
        self.put(path, Reply::raw([head.as_bytes(), content].concat()));
    }

    fn asked(&self, path: &str) -> usize {
        self.server.seen().iter().filter(|seen| seen.target() == path).count()
    }
}

const FETCH: &str = "fetch = true\nfetch_interval_s = 1\nfetch_timeout_ms = 2000\ncache_directory = \"crl-cache\"";

/// Waits until the device is let in.
fn gets_in(clinic: &Clinic, identity: &Identity) -> Wire {
    until("the device to be let in", || {
        let mut wire = clinic.door.with(identity).try_open().ok()?;
        wire.send_request("GET", "/fhir/Patient/1", &[], b"");
        (wire.try_answer().ok()?.status == 200).then_some(wire)
    })
}

#[test]
fn must_waits_for_the_fetched_list_and_a_new_one_ends_the_connection() {
    let shelf = Shelf::new();
    let url = shelf.url("/devices.crl");
    let ca = Ca::root("Clinics of the tests");
    let identity = ca.device(DOCTOR, &[&url]);
    let clinic = prepare(&ca, &format!("mode = \"must\"\n{FETCH}")).start();
    // Nothing is asked of the network before a certificate of the authority's names it.
    assert_eq!(shelf.server.connections(), 0);
    is_refused(&clinic, &identity, "revocation-unknown");
    until("an attempt", || (shelf.asked("/devices.crl") > 0).then_some(()));
    is_refused(&clinic, &identity, "revocation-unknown");
    shelf.put_list("/devices.crl", &Ca::crl_der(&ca.crl()));
    let mut wire = gets_in(&clinic, &identity);
    // What is no list of this authority changes nothing, however often it is fetched.
    let namesake = Ca::root("Clinics of the tests");
    let _ = namesake.crl();
    let _ = namesake.crl();
    for bad in [namesake.crl(), Ca::root("Somebody else").crl(), "garbage".to_owned(), String::new()] {
        let before = shelf.asked("/devices.crl");
        shelf.put_list("/devices.crl", bad.as_bytes());
        until("two fetches", || (shelf.asked("/devices.crl") > before + 1).then_some(()));
        assert_eq!(wire.get("/fhir/Patient/2").status, 200, "{bad}");
        let _ = open(&clinic, &identity);
        until("the metric", || {
            (clinic.metric("sekisho_crl_failing_sources", &[("origin", "fetch")]) > 0.5).then_some(())
        });
        shelf.put_list("/devices.crl", &Ca::crl_der(&ca.crl()));
        until("the metric", || (clinic.metric("sekisho_crl_failing_sources", &[]) < 0.5).then_some(()));
    }
    ca.revoke(&identity.certificate_pem, "keyCompromise");
    shelf.put_list("/devices.crl", &Ca::crl_der(&ca.crl()));
    wire.set_patience(Duration::from_secs(5));
    let _ = wire.closes();
    closed(&clinic, &wire, "certificate-revoked");
    // A restart without the network: what was fetched is on disk.
    let last = Ca::crl_der(&ca.crl());
    drop(last);
    shelf.replies.lock().expect("unpoisoned").clear();
    let clinic = clinic.stop().start();
    is_refused(&clinic, &identity, "certificate-revoked");
    assert!(clinic.records().iter().filter(|record| is(record, "connection-opened")).count() > 0);
}

#[test]
fn a_fetch_is_never_in_a_handshakes_way_and_goes_nowhere_else() {
    let shelf = Shelf::new();
    let ca = Ca::root("Clinics of the tests");
    let identity = |path: &str| ca.device(DOCTOR, &[&shelf.url(path)]);
    let clinic = prepare(&ca, &format!("mode = \"prefer\"\nmax_crl_bytes = 65536\n{FETCH}")).start();
    let der = Ca::crl_der(&ca.crl());
    // Slow, endless, too long, elsewhere: `prefer` lets in at once, whatever the server does.
    let endless =
        [&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n20000\r\n"[..], &[0x30; 0x20000][..]].concat();
    for (path, reply) in [
        ("/slow", Reply::new(200, "late").after(Duration::from_secs(30))),
        ("/hangs", Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n0")),
        ("/endless", Reply::raw(endless)),
        ("/long", Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\n")),
        ("/elsewhere", Reply::raw("HTTP/1.1 302 Found\r\nlocation: /list\r\ncontent-length: 0\r\n\r\n")),
    ] {
        shelf.put(path, reply);
        let identity = identity(path);
        let begun = Instant::now();
        let _ = open(&clinic, &identity);
        assert!(begun.elapsed() < Duration::from_secs(5), "{path}: {:?}", begun.elapsed());
        until("an attempt", || (shelf.asked(path) > 0).then_some(()));
    }
    shelf.put_list("/list", &der);
    until("five failures", || {
        (clinic.metric("sekisho_crl_failing_sources", &[("origin", "fetch")]) > 4.5).then_some(())
    });
    assert_eq!(shelf.asked("/list"), 0, "a redirect was followed");
    let said = clinic.gateway.said();
    for why in ["took longer", "max_crl_bytes", "redirects are not followed"] {
        assert!(said.contains(why), "{why}: {said}");
    }
    // Strangers have nothing fetched: neither a namesake's certificate nor one that nobody trusts.
    let namesake = Ca::root("Clinics of the tests").device(DOCTOR, &[&shelf.url("/stranger")]);
    let _ = clinic.door.with(&namesake).refused();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(shelf.asked("/stranger"), 0);
}

#[test]
fn a_delta_is_fetched_from_where_the_freshest_list_is() {
    let shelf = Shelf::new();
    let ca = Ca::root("Clinics of the tests");
    let freshest = format!("freshestCRL = URI:{}", shelf.url("/delta.crl"));
    let identity = ca.device_with(DOCTOR, &[&shelf.url("/complete.crl")], &freshest);
    shelf.put_list("/complete.crl", &Ca::crl_der(&ca.crl()));
    let clinic = prepare(&ca, &format!("mode = \"must\"\n{FETCH}")).start();
    let mut wire = gets_in(&clinic, &identity);
    ca.revoke(&identity.certificate_pem, "keyCompromise");
    let extensions = "2.5.29.27 = critical, ASN1:INTEGER:1\n".to_owned();
    let delta = ca.crl_with(&CrlOptions { extensions, ..CrlOptions::default() });
    shelf.put_list("/delta.crl", &Ca::crl_der(&delta));
    wire.set_patience(Duration::from_secs(10));
    let _ = wire.closes();
    closed(&clinic, &wire, "certificate-revoked");
}

/// RUSTSEC-2026-0049: the list names one of several points of the certificate, and not the first.
#[test]
fn c9_a_list_by_the_second_distribution_point_counts() {
    let shelf = Shelf::new();
    let (first, second) = (shelf.url("/first"), shelf.url("/second"));
    let ca = Ca::root("Clinics of the tests");
    let identity = ca.device(DOCTOR, &[&first, &second]);
    let clinic = prepare(&ca, &format!("mode = \"prefer\"\n{FETCH}")).start();
    let mut wire = open(&clinic, &identity);
    ca.revoke(&identity.certificate_pem, "keyCompromise");
    let scope = format!("issuingDistributionPoint = critical, @idp\n[idp]\nfullname = URI:{second}\n");
    let list = ca.crl_with(&CrlOptions { extensions: scope, ..CrlOptions::default() });
    shelf.put_list("/second", &Ca::crl_der(&list));
    wire.set_patience(Duration::from_secs(10));
    let _ = wire.closes();
    closed(&clinic, &wire, "certificate-revoked");
    is_refused(&clinic, &identity, "certificate-revoked");
}

/// C9: 50 MB, and every byte of it true. Whoever connects meanwhile does not wait for it.
#[test]
fn c9_a_list_of_50_mb_is_taken_where_the_bound_allows_it() {
    let ca = Ca::root("Clinics of the tests");
    let (bad, good) = (ca.device(DOCTOR, &[]), ca.device("sakura-clinic/ward-1", &[]));
    let prepared = prepare(&ca, &format!("{}\nmax_crl_bytes = 67108864", files("must")));
    prepared.write(FILE, ca.crl());
    let clinic = prepared.start();
    let mut wire = open(&clinic, &bad);
    let list = ca.long_crl(1_400_000, &bad.chain()[0]);
    assert!(list.len() > 50 << 20, "{}", list.len());
    let begun = Instant::now();
    replace(&clinic.prepared, FILE, list);
    let mut slowest = Duration::ZERO;
    until("the long list to be in force", || {
        let begun = Instant::now();
        let _ = open(&clinic, &good);
        slowest = slowest.max(begun.elapsed());
        (clinic.metric("sekisho_crl_entries", &[]) > 1e6).then_some(())
    });
    println!("in force after {:?}; the slowest connection and request took {slowest:?}", begun.elapsed());
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    wire.set_patience(Duration::from_secs(5));
    let _ = wire.closes();
    closed(&clinic, &wire, "certificate-revoked");
    is_refused(&clinic, &bad, "certificate-revoked");
    let _ = open(&clinic, &good);
}
