//! R7: time in the log can be trusted. Real time servers, one of them false, one gone, one with another key, and a clock
//! that is moved while they look on.

use std::path::Path;
use std::time::Duration;

use gateway_tests::audit::text;
use gateway_tests::chrony::{Chronyd, FAKETIME, KEY};
use gateway_tests::{Clinic, Config, DOCTOR, Prepared, sekisho, until, within};
use serde_json::Value;

/// A clinic that refuses requests while its clock is bad, and asks these servers every four seconds.
fn asking(servers: &[&Chronyd], key_file: Option<&Path>) -> impl FnOnce(&mut Config) + use<> {
    let key = key_file.map(|path| format!("key_file = \"{}\"\n", path.display())).unwrap_or_default();
    let servers: String =
        servers.iter().map(|s| format!("[[clock.server]]\naddress = \"{}\"\n{key}", s.address)).collect();
    move |config| {
        config.set("clock", "on_alarm", "refuse");
        config.set("clock", "chrony", "off");
        config.set("clock", "probe_interval_s", 4);
        config.append(&servers);
    }
}

/// A folder for the servers; it outlives them.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn source_events(clinic: &Clinic, source: &str) -> Vec<String> {
    let is_it = |record: &Value| text(record, "kind") == "clock" && text(record, "event") == "source";
    let all = clinic.records().into_iter().filter(is_it).filter(|record| text(record, "source") == source);
    all.map(|record| text(&record, "standing").to_owned()).collect()
}

fn status(clinic: &Clinic) -> u16 {
    clinic.wire(DOCTOR).get("/fhir/Patient/1").status
}

/// What `sekisho clock` says, and whether it is content.
fn shown(prepared: &Prepared) -> (bool, String) {
    let file = prepared.path("sekisho.toml");
    let output = sekisho(&["clock", "--config", file.to_str().expect("UTF-8")]);
    (output.code == Some(0), output.stdout)
}

#[test]
fn r7_servers_that_agree_vouch_for_the_clock() {
    let home = folder();
    let servers: Vec<_> = (0..3).map(|_| Chronyd::server(home.path(), None)).collect();
    let key_file = home.path().join("ntp.key");
    std::fs::write(&key_file, KEY).expect("a file");
    let all: Vec<_> = servers.iter().collect();
    let clinic = Clinic::builder().config(asking(&all, Some(&key_file))).start();
    until("a clock that is vouched for", || (status(&clinic) == 200).then_some(()));
    let record =
        clinic.wait_for_record("the request", |record| text(record, "kind") == "request" && record["status"] == 200);
    assert!(text(&record, "clock.source").ends_with("servers"), "{record}");
    assert_eq!(record["clock"]["synchronised"], true, "{record}");
    assert!(record["clock"]["error_ns"].as_u64().is_some_and(|error| error < 100_000_000), "{record}");
    until("the metric", || (clinic.metric("sekisho_clock_sources", &[("standing", "agrees")]) >= 3.0).then_some(()));
    assert_eq!(clinic.admin_get("/readyz").0, 200);
    let (good, said) = shown(&clinic.prepared);
    assert!(good && said.contains("The clock is good"), "{said}");
    assert!(said.matches(" agrees ").count() >= 3, "{said}");
}

#[test]
fn r7_a_falseticker_is_outvoted_and_named() {
    let home = folder();
    let servers = [Chronyd::server(home.path(), None), Chronyd::server(home.path(), None)];
    let liar = Chronyd::server(home.path(), Some("+5s"));
    let clinic = Clinic::builder().config(asking(&[&servers[0], &liar, &servers[1]], None)).start();
    until("a clock that is vouched for", || (status(&clinic) == 200).then_some(()));
    let name = liar.address.to_string();
    until("a record of the liar", || source_events(&clinic, &name).contains(&"disagrees".to_owned()).then_some(()));
    let (good, said) = shown(&clinic.prepared);
    let line = said.lines().find(|line| line.starts_with(&name)).expect("a line for each source");
    assert!(good && line.contains("disagrees"), "{said}");
    assert_eq!(status(&clinic), 200);
}

/// The servers look on while the gateway's clock is moved: it refuses until it is back.
#[test]
fn r7_a_clock_that_is_moved_is_not_believed() {
    let home = folder();
    let servers: Vec<_> = (0..3).map(|_| Chronyd::server(home.path(), None)).collect();
    let all: Vec<_> = servers.iter().collect();
    let mut prepared = Clinic::builder().config(asking(&all, None)).prepare();
    assert!(Path::new(FAKETIME).exists(), "this test needs libfaketime");
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", prepared.path("clock").display());
    let preload = format!("LD_PRELOAD={FAKETIME}");
    prepared.run_under(&["env", &preload, "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_NO_CACHE=1", &file]);
    let set = |prepared: &Prepared, offset: &str| {
        prepared.write("clock.new", offset);
        std::fs::rename(prepared.path("clock.new"), prepared.path("clock")).expect("a file");
    };
    set(&prepared, "+0");
    let clinic = prepared.start();
    until("a clock that is vouched for", || (status(&clinic) == 200).then_some(()));
    for (offset, wanted) in [("+5s", 503), ("+0", 200)] {
        set(&clinic.prepared, offset);
        until("the servers' word", || (status(&clinic) == wanted).then_some(()));
        // And it stays so, whatever else is asked.
        assert!(within(Duration::from_secs(6), || (status(&clinic) != wanted).then_some(())).is_none(), "{offset}");
    }
    let events = |event: &str| {
        let is_it = |record: &&Value| text(record, "kind") == "clock" && text(record, "event") == event;
        clinic.records().iter().filter(is_it).count()
    };
    assert_eq!(events("step"), 2);
    assert!(events("alarm") >= 1 && events("cleared") >= 1);
}

/// chronyd's own word is asked for; when it is stopped that is a record, and the clock is unkept unless somebody else
/// keeps it.
#[test]
fn r7_a_stopped_daemon_is_noticed() {
    let home = folder();
    let server = Chronyd::server(home.path(), None);
    let mut daemon = Chronyd::client(home.path(), server.address);
    let address = daemon.address.to_string();
    let clinic = Clinic::builder()
        .config(move |config| {
            config.set("clock", "on_alarm", "refuse");
            config.set("clock", "chrony", address);
        })
        .start();
    let spoken_for = |clinic: &Clinic| {
        let record = clinic.records().pop().expect("a record");
        text(&record, "clock.source").to_owned()
    };
    until("chronyd's word", || (status(&clinic) == 200 && spoken_for(&clinic) == "chrony").then_some(()));
    // Whoever stands somewhere for ten seconds is believed to stand there.
    std::thread::sleep(Duration::from_secs(15));
    daemon.stop();
    let last = || source_events(&clinic, "chrony").pop();
    until("a record that it is silent", || (last().as_deref() == Some("silent")).then_some(()));
    status(&clinic);
    assert_ne!(until("a record", || Some(spoken_for(&clinic))), "chrony");
}

#[test]
fn r7_servers_that_are_gone_or_have_another_key_are_no_voice() {
    let home = folder();
    let mut servers: Vec<_> = (0..3).map(|_| Chronyd::server(home.path(), None)).collect();
    let key_file = home.path().join("ntp.key");
    std::fs::write(&key_file, KEY.replace("0f", "10")).expect("a file");
    let all: Vec<_> = servers.iter().collect();
    let prepared = Clinic::builder().config(asking(&all, Some(&key_file))).prepare();
    prepared.write_configuration();
    let (_, said) = shown(&prepared);
    assert_eq!(said.matches("no answer within 2 s").count(), 3, "{said}");
    assert_eq!(said.matches(" agrees ").count(), usize::from(said.contains("kernel                       agrees")));
    std::fs::write(&key_file, KEY).expect("a file");
    servers.iter_mut().for_each(Chronyd::stop);
    let (_, said) = shown(&prepared);
    assert_eq!(said.matches("Connection refused").count(), 3, "{said}");
    std::fs::write(&key_file, "7 MD5 HEX:00").expect("a file");
    let file = prepared.path("sekisho.toml");
    let checked = sekisho(&["check", file.to_str().expect("UTF-8")]);
    assert!(checked.code != Some(0) && checked.stdout.contains("neither `AES128` nor `AES256`"), "{}", checked.stdout);
}
