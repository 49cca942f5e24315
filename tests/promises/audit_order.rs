//! A1: durable before visible. The order of the system calls themselves, as the kernel got them: nothing is told to
//! a client before the `fdatasync` that covers its record has returned 0, and nothing goes to a backend that could
//! change something before its intent is as safe.

use std::time::Duration;

use gateway_audit::header::{FIXED, Kind, VERSION};
use gateway_tests::{Builder, Clinic, DOCTOR, until};

use crate::audit_tools::{Acknowledged, Load, now, small_log};

/// Bytes as strace writes them with `-x` where not all are ASCII.
fn traced(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// One system call. Places are lines of the trace: the kernel's order of begins and ends.
#[derive(Debug)]
struct Call {
    name: String,
    /// All that strace wrote, of its begin and its end.
    text: String,
    time: f64,
    begin: usize,
    end: usize,
    result: String,
}

impl Call {
    /// Data goes out of the process by it.
    fn is_send(&self) -> bool {
        matches!(&*self.name, "write" | "writev" | "sendto" | "sendmsg" | "sendmmsg" | "sendfile" | "splice")
    }

    /// The first argument's descriptor, as `-yy` explains it.
    fn descriptor(&self) -> &str {
        let rest = self.text.split_once('<').map_or("", |(_, rest)| rest);
        let end = [">, ", ">)", "> <"].iter().filter_map(|end| rest.find(end)).min();
        end.and_then(|end| rest.get(..end)).unwrap_or_default()
    }

    /// It writes this record of a request.
    fn writes(&self, id: &str, kind: &str) -> bool {
        // The id ends the clear header, in which the kind stands second.
        let kind = Kind::from_label(kind).expect("a kind of record");
        let begin = traced(&[VERSION, kind.number()]);
        let has_kind = |(at, _): (usize, &str)| {
            let header = at.checked_sub(4 * FIXED).and_then(|start| self.text.get(start..at));
            header.is_some_and(|header| header.starts_with(&begin))
        };
        self.name == "pwrite64" && self.text.match_indices(&traced(id.as_bytes())).any(has_kind)
    }

    fn goes_to(&self, port: u16) -> bool {
        self.is_send()
            && self.descriptor().starts_with("TCP")
            && self.descriptor().contains(&format!("->127.0.0.1:{port}]"))
    }
}

const CALLS: &str = "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,sendmmsg,sendfile,splice,fdatasync,fsync";

/// Runs `act` against a gateway under strace; says what it said and which calls there were.
fn trace<T>(builder: Builder, act: impl FnOnce(&Clinic) -> T) -> (T, Vec<Call>, u16) {
    let mut prepared = builder.prepare();
    let file = prepared.path("trace");
    let output = file.to_str().expect("an UTF-8 path").to_owned();
    prepared.run_under(&["strace", "-D", "-f", "-ttt", "-yy", "-x", "-s", "65536", "-e", CALLS, "-o", &output]);
    let mut clinic = prepared.start();
    let said = act(&clinic);
    clinic.terminate();
    assert!(clinic.gateway.wait().success());
    let pid = clinic.gateway.pid();
    let trace = until("the trace's end", || {
        let trace = std::fs::read_to_string(&file).ok()?;
        trace.lines().any(|line| line.starts_with(&pid.to_string()) && line.contains("+++ exited")).then_some(trace)
    });
    (said, parse(&trace), clinic.backend().address.port())
}

fn parse(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for (place, line) in trace.lines().enumerate() {
        let mut parts = line.splitn(2, ' ');
        let (Some(thread), Some(rest)) = (parts.next(), parts.next()) else { continue };
        let Some((time, what)) = rest.trim_start().split_once(' ') else { continue };
        let result = || what.rsplit_once(" = ").map_or("", |(_, result)| result).to_owned();
        if what.starts_with("<... ") {
            let Some(call) = open.remove(thread).and_then(|call| calls.get_mut(call)) else { continue };
            call.end = place;
            call.result = result();
            call.text.push_str(what);
        } else if let Some((name, _)) = what.split_once('(') {
            let unfinished = what.ends_with("<unfinished ...>");
            if unfinished {
                open.insert(thread.to_owned(), calls.len());
            }
            calls.push(Call {
                name: name.to_owned(),
                text: what.to_owned(),
                time: time.parse().expect("a time"),
                begin: place,
                end: if unfinished { usize::MAX } else { place },
                result: if unfinished { String::new() } else { result() },
            });
        }
    }
    calls
}

/// The write that put a request's record into the log, and the sync that made it durable.
fn made_durable<'a>(calls: &'a [Call], id: &str, kind: &str) -> (&'a Call, &'a Call) {
    let write = calls.iter().find(|call| call.writes(id, kind));
    let write = write.unwrap_or_else(|| panic!("no {kind} of {id} was written"));
    let file = write.descriptor();
    assert!(file.contains("/audit/lane-1/wal/segment-"), "{}", write.text);
    let sync = |call: &&Call| call.name == "fdatasync" && call.begin > write.end && call.descriptor() == file;
    let sync = calls.iter().find(sync).unwrap_or_else(|| panic!("the {kind} of {id} was not synced"));
    assert_eq!(sync.result, "0", "{}", sync.text);
    (write, sync)
}

/// Checks the order for one answer.
fn in_order(calls: &[Call], backend: u16, answer: &Acknowledged) {
    let first_answer = calls.iter().find(|call| call.time >= answer.sent && call.goes_to(answer.port));
    let first_answer = first_answer.unwrap_or_else(|| panic!("nothing was sent to {answer:?}"));
    let to_backend = calls.iter().find(|call| call.goes_to(backend) && call.text.contains(&answer.id));
    let denied = answer.status == 403;
    if !answer.changes || denied {
        let (_, sync) = made_durable(calls, &answer.id, "request");
        assert!(sync.end < first_answer.begin, "answered before its record was safe: {answer:?}");
        assert_eq!(to_backend.is_some(), !denied, "{answer:?}");
        return;
    }
    let (intent, safe) = made_durable(calls, &answer.id, "intent");
    let to_backend = to_backend.unwrap_or_else(|| panic!("the backend got nothing of {answer:?}"));
    assert!(intent.begin < to_backend.begin && safe.end < to_backend.begin, "forwarded before its intent was safe");
    let (outcome, safe) = made_durable(calls, &answer.id, "outcome");
    assert!(to_backend.begin < outcome.begin, "the outcome was written before there was one");
    assert!(safe.end < first_answer.begin, "answered before its outcome was safe: {answer:?}");
}

#[test]
fn a1_each_step_of_one_request_waits_for_its_record() {
    let (answers, calls, backend) = trace(small_log(), |clinic| {
        let mut wire = clinic.wire(DOCTOR);
        // The tickets of TLS are sent with the first answer.
        assert_eq!(wire.get("/fhir/Patient/1").status, 200);
        let mut answers = Vec::new();
        for (method, target, status) in [
            ("GET", "/fhir/Patient/1", 200),
            ("POST", "/fhir/Observation", 200),
            ("PUT", "/fhir/Observation/1", 200),
            ("GET", "/admin/page", 403),
            ("POST", "/fhir/Observation", 200),
            ("POST", "/admin/page", 403),
            ("GET", "/fhir/Patient/2", 200),
        ] {
            // The completion of the request before is on disk then.
            std::thread::sleep(Duration::from_millis(60));
            let (sent, changes) = (now(), method != "GET");
            let answer = wire.request(method, target, &[], if changes { b"{}" } else { b"" });
            assert_eq!(answer.status, status, "{method} {target}");
            let port = wire.local().port();
            answers.push(Acknowledged { sent, port, ..Acknowledged::new(&answer, changes) });
        }
        answers
    });
    for answer in &answers {
        in_order(&calls, backend, answer);
        // Nothing else goes to any backend meanwhile: the request is alone.
        let (_, safe) =
            made_durable(&calls, &answer.id, if answer.changes && answer.status == 200 { "intent" } else { "request" });
        let early = |call: &&Call| call.time >= answer.sent && call.end < safe.end && call.goes_to(backend);
        assert!(!answer.changes || calls.iter().find(early).is_none(), "{answer:?}");
    }
}

#[test]
fn a1_holds_where_requests_share_their_syncs() {
    let (answers, calls, backend) = trace(small_log(), |clinic| {
        let load = Load::start(&clinic.handshake(DOCTOR), 8);
        std::thread::sleep(Duration::from_secs(2));
        load.stop()
    });
    // The first answer of each connection comes with the tickets of TLS.
    let mut seen = std::collections::BTreeSet::new();
    let checked: Vec<_> = answers.iter().filter(|answer| !seen.insert(answer.port)).collect();
    assert!(checked.len() > 40, "only {} answers", checked.len());
    let syncs = calls.iter().filter(|call| call.name == "fdatasync").count();
    println!("{} answers, {syncs} syncs", checked.len());
    // Each is looked up among all calls: a few hundred, evenly taken, are minutes less than all on a fast machine.
    for answer in checked.iter().step_by(checked.len() / 300 + 1) {
        assert_eq!(answer.status, 200, "{answer:?}");
        in_order(&calls, backend, answer);
    }
}

#[test]
fn a1_an_answer_before_its_record_would_be_seen() {
    // With an interval answers come first, as configured: the same check must say so.
    let builder = small_log().config(|config| {
        config.set("audit", "durability", "interval");
        config.set("audit", "interval_ms", 2_000);
    });
    let (answer, calls, backend) = trace(builder, |clinic| {
        let mut wire = clinic.wire(DOCTOR);
        assert_eq!(wire.get("/fhir/Patient/1").status, 200);
        std::thread::sleep(Duration::from_millis(60));
        let sent = now();
        let answer = wire.get("/fhir/Patient/2");
        Acknowledged { sent, port: wire.local().port(), ..Acknowledged::new(&answer, false) }
    });
    let checked = std::panic::catch_unwind(|| in_order(&calls, backend, &answer));
    let said = *checked.expect_err("the order is wrong").downcast::<String>().expect("a message");
    assert!(said.contains("answered before its record was safe"), "{said}");
}

#[test]
fn a1_traces_are_read_as_strace_writes_them() {
    let trace = "7 1700000000.5 pwrite64(9</a/audit/segment-1.log>, \"x\", 1, 0) = 1\n\
                 8 1700000000.6 fdatasync(9</a/audit/segment-1.log> <unfinished ...>\n\
                 7  1700000000.7 sendto(5<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"a>, b\", 3, 0, NULL, 0) = 3\n\
                 8 1700000000.8 <... fdatasync resumed>) = 0\n";
    let calls = parse(trace);
    let seen: Vec<_> = calls.iter().map(|call| (&*call.name, call.begin, call.end, &*call.result)).collect();
    assert_eq!(seen, [("pwrite64", 0, 0, "1"), ("fdatasync", 1, 3, "0"), ("sendto", 2, 2, "3")]);
    assert!(calls[2].goes_to(2) && !calls[2].goes_to(1) && !calls[1].goes_to(2));
    assert_eq!(calls[0].descriptor(), "/a/audit/segment-1.log");
    assert_eq!(calls[1].descriptor(), "/a/audit/segment-1.log");
}
