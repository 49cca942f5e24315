//! A10: one writer a lane. A second process takes the other lane, as when a new one begins while the old one drains; a
//! third is refused. A copy of the directory tells that it is one.

use gateway_tests::audit::{lane, wal};
use gateway_tests::{Clinic, DOCTOR, Gateway, places, sekisho, until};

use crate::audit_tools::{Log, ask, segments, small_log};

/// Another gateway with the same files and the same log, on other ports, once it has its lane and listens.
fn another(clinic: &Clinic) -> Gateway {
    clinic.prepared.write_configuration();
    // Both say what they say to one file.
    let before = clinic.gateway.said().len();
    let gateway = Gateway::spawn(&clinic.prepared.path("sekisho.toml"), &[]);
    until("the second gateway to listen", || places(&gateway.said()[before..]));
    gateway
}

#[test]
fn a10_a_second_gateway_takes_the_other_lane_and_a_third_does_not_start() {
    let clinic = small_log().start();
    let directory = clinic.prepared.path("audit");
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let second = another(&clinic);
    let other = directory.join("lane-2");
    let config = clinic.prepared.path("sekisho.toml");
    let third = sekisho(&["run", "--config", config.to_str().expect("an UTF-8 path")]);
    assert_eq!(third.code, Some(1), "{third:?}");
    let said = third.stdout + &third.stderr;
    assert!(said.contains(directory.to_str().expect("an UTF-8 path")), "{said}");
    for gateway in [clinic.gateway.pid(), second.pid()] {
        assert!(said.contains(&format!("process {gateway}")), "{said}");
    }
    // Each lane is whole and of one run, and the first gateway did not notice.
    assert_eq!(Log::read(&directory).count("start"), 1);
    let answer = ask(&clinic, true);
    assert_eq!(answer.status, 200);
    Log::read(&directory).holds(&[answer]);
    assert!(std::fs::read_dir(other.join("wal")).expect("segments").count() > 0);
    drop(second);
    // Once the first has ended, in whatever way, another one may go on with its lane.
    let mut clinic = clinic;
    clinic.kill();
    let prepared = clinic.stop().start().stop();
    let log = Log::read(&directory);
    assert_eq!((log.count("start"), log.count("recovery"), log.count("stop")), (2, 1, 1));
    drop(prepared);
}

#[test]
fn a10_a_copied_directory_tells_that_it_is_one() {
    let prepared = small_log().start().stop();
    let directory = prepared.path("audit");
    // As a backup that is put back, or a second machine's copy.
    let copy = prepared.path("copy");
    let copied = std::process::Command::new("cp").args(["-a"]).arg(&directory).arg(&copy).status();
    assert!(copied.expect("cp runs").success());
    std::fs::remove_dir_all(&directory).expect("removed");
    std::fs::rename(&copy, &directory).expect("renamed");
    let prepared = prepared.start().stop();
    let log = Log::read(&directory);
    let starts = log.events("start");
    assert_eq!(starts.len(), 2);
    assert!(starts[0].get("copied").is_none() && starts[1]["copied"] == true, "{starts:?}");
    assert!(lane(&directory).join("checkpoint").exists() && !segments(&directory).is_empty());
    assert!(wal(&directory).join("reserve.log").exists());
    drop(prepared);
}
