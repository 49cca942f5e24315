//! R1, R3, R19: what a device needs to come by a tunnel is made once and is what WireGuard's own tools read; who came is listed, and
//! who fell silent is told.

use gateway_tests::audit::{is, text};
use gateway_tests::wireguard::{Keys, Machine, public_of, run};
use gateway_tests::{Clinic, DOCTOR, Prepared, sekisho, until};
use serde_json::Value;

const LISTENER: &str = "[[listener]]\nname = \"tunnels\"\nkind = \"wireguard\"\naddress = \"0.0.0.0:0\"\n\
    server_names = [\"localhost\", \"10.64.0.1\"]\n[listener.wireguard]\nprivate_key_file = \"state/tunnels.key\"\n\
    endpoint = \"gw.example:51820\"\ninside = [\"10.64.0.1\"]\nports = [80]\nsite_ranges = [\"10.64.0.0/10\"]\ninside_tls = \"off\"\n";

fn prepared() -> Prepared {
    let prepared = Clinic::builder().config(|config| config.append(LISTENER)).prepare();
    prepared.write_configuration();
    prepared
}

/// A command that reads the configuration.
fn configured(prepared: &Prepared, arguments: &[&str]) -> String {
    let file = prepared.path("sekisho.toml");
    let output = sekisho(&[arguments, &["--config", file.to_str().expect("UTF-8")]].concat());
    assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
    output.stdout
}

fn value<'t>(text: &'t str, key: &str) -> &'t str {
    text.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).unwrap_or_else(|| panic!("{key}: {text}"))
}

fn listed(clinic: &Clinic) -> Vec<Value> {
    let file = clinic.prepared.path("sekisho.toml");
    let admin = format!("http://{}", clinic.admin);
    let output = sekisho(&["tunnel", "list", "--json", "--admin", &admin, "--config", file.to_str().expect("UTF-8")]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let list: Value = serde_json::from_str(&output.stdout).expect("JSON");
    list["tunnels"].as_array().expect("a list").clone()
}

#[test]
fn wireguard_configurations_open_a_tunnel_as_they_are() {
    let prepared = prepared();
    let made = prepared.path("doctor.conf");
    let at = made.to_str().expect("UTF-8");
    configured(&prepared, &["device", "key", "new", DOCTOR, "--out", at]);
    let printed = configured(&prepared, &["device", "add", "sakura-clinic/never", "--wireguard", "--qr"]);
    prepared.write("never.conf", &printed);
    let never = prepared.path("never.conf");
    run(&["wg-quick", "strip", never.to_str().expect("UTF-8")]);
    let stripped = run(&["wg-quick", "strip", at]);
    assert!(!stripped.contains("Address") && stripped.contains("PresharedKey"), "{stripped}");
    let text = std::fs::read_to_string(&made).expect("a file");
    let private = value(&text, "PrivateKey").to_owned();
    let address = value(&text, "Address").trim_end_matches("/32").to_owned();
    let keys = Keys { public: public_of(&private), private, shared: Some(value(&text, "PresharedKey").to_owned()) };
    let mut machine = Machine::new(&prepared, &address, keys);
    let clinic = prepared.start();
    let port = clinic.door_of("tunnels").address.port();
    machine.connect(value(&text, "PublicKey"), port, &["10.64.0.0/10"], 1360);
    // The gateway's port is of this run; all else is as it was made.
    let endpoint = machine.wg(&["show", machine.interface(), "endpoints"]);
    let endpoint = endpoint.split_whitespace().last().expect("an endpoint").to_owned();
    clinic.prepared.write("wg.conf", stripped.replace("gw.example:51820", &endpoint));
    let file = clinic.prepared.path("wg.conf");
    machine.wg(&["setconf", machine.interface(), file.to_str().expect("UTF-8")]);
    let row = until("the tunnel to be up", || {
        let rows = listed(&clinic);
        rows.into_iter().find(|row| row["device"] == DOCTOR.split_once('/').expect("a name").1 && row["up"] == true)
    });
    assert_eq!(
        (&row["site"], &row["addresses"][0]),
        (&"sakura-clinic".into(), &format!("{address}/32").into()),
        "{row:#}"
    );
    assert!(row["last_handshake"].is_string() && row["endpoint"].is_string(), "{row:#}");
    let never = listed(&clinic).into_iter().find(|row| row["device"] == "never").expect("who never came is listed");
    assert_eq!((&never["up"], &never["last_handshake"]), (&false.into(), &Value::Null), "{never:#}");
    // Another key: the one before ends at once.
    configured(
        &clinic.prepared,
        &["device", "key", "new", DOCTOR, "--out", clinic.prepared.path("b.conf").to_str().expect("UTF-8")],
    );
    until("the old key's session to be gone", || {
        let rows = listed(&clinic);
        rows.iter().all(|row| row["up"] == false).then_some(())
    });
}

#[test]
fn tunnel_keys_are_refused_that_are_anothers_and_no_record_has_a_secret() {
    let prepared = prepared();
    let text = configured(&prepared, &["device", "add", "sakura-clinic/one", "--wireguard"]);
    let own = public_of(value(&text, "PrivateKey"));
    let file = prepared.path("sekisho.toml");
    let add = ["device", "add", "sakura-clinic/two", "--wireguard", "--config", file.to_str().expect("UTF-8")];
    let output = sekisho(&[&add[..], &["--public-key", &own]].concat());
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("sakura-clinic/one"), "{output:?}");
    let zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(sekisho(&[&add[..], &["--public-key", zero]].concat()).code, Some(2));
    let overlap = prepared.try_registry(&["site", "add", "hinode", "--inside", "10.64.1.0/25"]);
    assert!(
        overlap.code == Some(1) && overlap.stderr.contains("`10.64.1.0/24` of site `sakura-clinic`"),
        "{overlap:?}"
    );
    let clinic = prepared.start();
    let recorded = clinic.wait_for_record("the key's record", |record| {
        is(record, "registry-change") && text_of(record).contains("wireguard-key")
    });
    assert!(text_of(&recorded).contains(&own), "{recorded:#}");
    let log = std::fs::read_to_string(clinic.prepared.path("sekisho.log")).expect("a log");
    for secret in ["PrivateKey", "PresharedKey"] {
        let secret = value(&text, secret);
        assert!(!log.contains(secret) && !clinic.records().iter().any(|record| record.to_string().contains(secret)));
    }
}

fn text_of(record: &Value) -> &str {
    text(record, "change")
}

/// The store says that the site was there at every quarter of the last weeks.
#[test]
fn outage_of_a_site_is_told_and_so_is_its_return() {
    let prepared = Clinic::builder()
        .config(|config| {
            config.set("outage", "delay_s", 1);
        })
        .prepare();
    let script = "import sqlite3,sys,time; c=sqlite3.connect(sys.argv[1]); \
        c.execute('INSERT INTO sightings VALUES (?,?,?,NULL)', ('sakura-clinic', '%d:%s' % (time.time()//900, 'f'*688), 1700000000)); c.commit()";
    run(&["python3", "-c", script, prepared.path("state/sekisho.db").to_str().expect("UTF-8")]);
    let clinic = prepared.start();
    let silent = clinic.wait_for_record("the note", |record| is(record, "outage"));
    assert_eq!((text(&silent, "event"), text(&silent, "site")), ("site-silent", "sakura-clinic"), "{silent:#}");
    assert_eq!(text(&silent, "since"), "2023-11-14T22:13:20Z", "{silent:#}");
    until("the metric", || (clinic.metric("sekisho_sites_silent", &[]) > 0.5).then_some(()));
    let mut wire = clinic.wire(DOCTOR);
    wire.send_request("GET", "/fhir/Patient/1", &[], b"");
    assert_eq!(wire.answer().status, 200);
    let seen =
        clinic.wait_for_record("its return", |record| is(record, "outage") && text(record, "event") == "site-seen");
    assert_eq!(text(&seen, "site"), "sakura-clinic", "{seen:#}");
    until("the metric", || (clinic.metric("sekisho_sites_silent", &[]) < 0.5).then_some(()));
    let log = std::fs::read_to_string(clinic.prepared.path("sekisho.log")).expect("a log");
    assert!(log.contains("site-silent") && log.contains("site-seen"), "{log}");
}
