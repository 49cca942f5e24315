//! A10: one writer. A second process cannot extend the same log.

use gateway_tests::{DOCTOR, sekisho};

use crate::audit_tools::{Log, ask, small_log};

#[test]
fn a10_a_second_gateway_on_the_same_log_does_not_start() {
    let clinic = small_log().start();
    let directory = clinic.prepared.path("audit");
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    // The same files and the same log, other ports.
    clinic.prepared.write_configuration();
    let config = clinic.prepared.path("sekisho.toml");
    let second = sekisho(&["run", "--config", config.to_str().expect("an UTF-8 path")]);
    assert_eq!(second.code, Some(1), "{second:?}");
    let said = second.stdout + &second.stderr;
    assert!(said.contains(directory.to_str().expect("an UTF-8 path")), "{said}");
    assert!(said.contains(&format!("process {}", clinic.gateway.pid())), "{said}");
    // The log is whole and of one run, and the first one did not notice.
    assert_eq!(Log::read(&directory).count("start"), 1);
    let answer = ask(&clinic, true);
    assert_eq!(answer.status, 200);
    Log::read(&directory).holds(&[answer]);
    // Once it has ended, in whatever way, another one may go on.
    let mut clinic = clinic;
    clinic.kill();
    let prepared = clinic.stop().start().stop();
    let log = Log::read(&directory);
    assert_eq!((log.count("start"), log.count("recovery"), log.count("stop")), (2, 1, 1));
    drop(prepared);
}
