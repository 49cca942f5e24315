//! HL7 v2 over MLLP: python-hl7 sends, hl7apy and python-hl7 receive; what may not be sent is answered by a negative acknowledgement
//! and never seen behind the gateway (R2, R5, R11, R27).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::tcp::{Server, listener};
use gateway_tests::{Clinic, DOCTOR, Ended, Wire, repository, until};
use serde_json::{Value, json};

use crate::orthanc::python;

const NURSE: &str = "sakura-clinic/ward-1";

/// A receiver of another package. Ended by its process id when dropped.
struct Receiver {
    child: Child,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    fn start(package: &str) -> Self {
        let peer = repository().join("gateway/clinical/tests/peer.py");
        let mut command = Command::new(python());
        command.arg(peer).arg(package).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("Python is installed");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let port: u16 = lines.next().expect("a line").expect("text").parse().expect("a port");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = Arc::clone(&seen);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| sees.lock().expect("sound").push(line)));
        Self { child, address: ([127, 0, 0, 1], port).into(), seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("sound").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A clinic that sends as `SAKURA`.
fn clinic(backend: SocketAddr, more: &str) -> Clinic {
    let stream = listener("laboratory", "hl7", backend, more);
    let builder = Clinic::builder().device(NURSE, "ns-kato", "nurse");
    let prepared = builder.config(move |config| config.append(&stream)).prepare();
    prepared.registry(&["site", "set", "sakura-clinic", "--facility", "SAKURA"]);
    prepared.start()
}

fn open(clinic: &Clinic, device: &str) -> Wire {
    clinic.door_of("laboratory").with(&clinic.identity(device)).open()
}

fn message(facility: &str, kind: &str, control: u32, patient: &str) -> String {
    format!(
        "MSH|^~\\&|LIS|{facility}|EHR|DC|20261123||{kind}|{control}|P|2.5||||||UNICODE UTF-8\rEVN||20261123\r\
         PID|1||{patient}^^^SAKURA^PI||山田^太郎\rPV1|1|O\r"
    )
}

fn framed(message: &str) -> Vec<u8> {
    [b"\x0b", message.as_bytes(), b"\x1c\r"].concat()
}

/// Sends with python-hl7 as the device; what was answered to each message.
fn send(clinic: &Clinic, device: &str, how: &str, messages: &[String]) -> Vec<String> {
    let identity = clinic.identity(device);
    let name = device.replace('/', "-");
    let (certificate, key, file) = (format!("{name}.crt"), format!("{name}.key"), format!("{name}.hl7"));
    clinic.prepared.write(&certificate, &identity.certificate_pem);
    clinic.prepared.write(&key, &identity.key_pem);
    let lines: String = messages.iter().map(|message| message.trim_end().replace('\r', "/") + "\n").collect();
    clinic.prepared.write(&file, lines);
    let path = |name: &str| clinic.prepared.path(name);
    let port = clinic.door_of("laboratory").address.port().to_string();
    let mut command = Command::new(python());
    command.arg(repository().join("tests/hl7_sender.py")).arg(port).arg(path("tls/servers-ca.crt"));
    command.arg(path(&certificate)).arg(path(&key)).arg(how).arg(path(&file));
    let output = command.stdin(Stdio::null()).output().expect("Python is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// The first record of a message of this kind, and what came of it.
fn exchange(clinic: &Clinic, operation: &str) -> (Value, Value) {
    let is_it = |record: &Value| text(record, "method") == operation;
    let intent =
        clinic.wait_for_record(operation, |record| (is(record, "intent") || is(record, "request")) && is_it(record));
    let id = text(&intent, "request").to_owned();
    let end = clinic.wait_for_record("its end", |record| {
        (is(record, "outcome") || (is(record, "request") && is_it(record))) && text(record, "request") == id
    });
    (intent, end)
}

/// The answer to what is sent by hand: its MSA.
fn ask(wire: &mut Wire, message: &str) -> String {
    wire.send(framed(message));
    let mut answer = Vec::new();
    assert!(wire.reads_frame(&mut answer), "no answer to {message:?}");
    let answer = String::from_utf8(answer).expect("text");
    answer.split('\r').find(|segment| segment.starts_with("MSA")).expect("an MSA").to_owned()
}

#[test]
fn messages_pass_between_packages_and_the_record_says_of_whom() {
    for (package, how) in [("python-hl7", "all"), ("hl7apy", "each")] {
        let receiver = Receiver::start(package);
        let clinic = clinic(receiver.address, "");
        let messages =
            [message("SAKURA", "ADT^A04^ADT_A01", 1, "4711"), message("SAKURA", "ADT^A08^ADT_A01", 2, "0815")];
        let answers = send(&clinic, DOCTOR, how, &messages);
        assert_eq!(answers, ["MSA|AA|1", "MSA|AA|2"], "{package}");
        assert_eq!(receiver.seen(), ["ADT^A04^ADT_A01 4711", "ADT^A08^ADT_A01 0815"], "{package}");
        for (operation, action, patient) in [("ADT^A04", "create", "4711"), ("ADT^A08", "update", "0815")] {
            let (intent, outcome) = exchange(&clinic, operation);
            assert_eq!((text(&intent, "action"), text(&intent, "decision")), (action, "permit"), "{intent:#}");
            assert_eq!(intent["patients"], json!([patient]), "{intent:#}");
            assert_eq!((text(&intent, "route"), text(&intent, "user")), ("laboratory", "dr-sato"), "{intent:#}");
            assert!(text(&intent, "target").starts_with("LIS|SAKURA|EHR|DC|"), "{intent:#}");
            assert_eq!((text(&outcome, "answer"), outcome["status"].as_u64()), ("AA", Some(200)), "{outcome:#}");
            assert_eq!(text(&outcome, "backend"), receiver.address.to_string(), "{outcome:#}");
        }
    }
}

#[test]
fn what_may_not_be_sent_gets_a_negative_acknowledgement_and_goes_nowhere() {
    let receiver = Receiver::start("python-hl7");
    let clinic = clinic(receiver.address, "");
    let update = message("SAKURA", "ADT^A08^ADT_A01", 1, "4711");
    assert_eq!(send(&clinic, NURSE, "all", std::slice::from_ref(&update)), ["MSA|AR|1|not authorized"]);
    let (record, _) = exchange(&clinic, "ADT^A08");
    assert_eq!((text(&record, "reason"), record["status"].as_u64()), ("policy-no-permit", Some(403)), "{record:#}");
    assert_eq!(record["patients"], json!(["4711"]), "{record:#}");

    // One connection bears all of it, and still takes what is good.
    let mut wire = open(&clinic, DOCTOR);
    for (message, answer, operation, reason) in [
        (
            message("MOMIJI", "ORU^R01^ORU_R01", 2, "4711"),
            "MSA|AR|2|sending facility not recognized",
            "ORU^R01",
            "facility-unknown",
        ),
        (message("", "ORM^O01", 3, "4711"), "MSA|AR|3|sending facility not recognized", "ORM^O01", "facility-unknown"),
        (
            message("SAKURA", "ZZZ^Z01", 4, "4711"),
            "MSA|AR|4|message type not supported",
            "ZZZ^Z01",
            "operation-unknown",
        ),
        (
            message("SAKURA", "ADT^A11", 5, "4711\rMSH|x"),
            "MSA|AE|5|message cannot be read",
            "ADT^A11",
            "protocol-malformed",
        ),
    ] {
        assert_eq!(ask(&mut wire, &message), answer);
        let (record, _) = exchange(&clinic, operation);
        assert_eq!(text(&record, "reason"), reason, "{record:#}");
    }
    assert_eq!(receiver.seen(), [] as [String; 0]);
    assert_eq!(ask(&mut wire, &message("SAKURA", "ADT^A04^ADT_A01", 6, "4711")), "MSA|AA|6");
    assert_eq!(receiver.seen().len(), 1);
    let labels = [("route", "laboratory"), ("decision", "refuse"), ("reason", "facility-unknown")];
    assert!(clinic.metric("sekisho_requests_total", &labels) >= 2.0);

    // A facility that is registered counts at once.
    clinic.registry(&["site", "set", "sakura-clinic", "--facility", "MOMIJI", "--no-facility", "SAKURA"]);
    until("the registry's word", || {
        (ask(&mut wire, &update) == "MSA|AR|1|sending facility not recognized").then_some(())
    });
    assert_eq!(ask(&mut wire, &message("MOMIJI", "ADT^A04^ADT_A01", 7, "4711")), "MSA|AA|7");
}

/// The payload of the next frame.
fn read_frame(stream: &mut TcpStream) -> Option<String> {
    let mut frame = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).ok()? == 1 {
        frame.push(byte[0]);
        if frame.ends_with(b"\x1c\r") {
            return String::from_utf8(frame[1..frame.len() - 2].to_vec()).ok();
        }
    }
    None
}

fn control_id(message: &str) -> String {
    message.split('|').nth(9).unwrap_or_default().to_owned()
}

/// A receiver that answers each message by this, in which `{}` is its id.
fn answering(answer: &'static str) -> Server {
    Server::start(move |mut stream| {
        while let Some(message) = read_frame(&mut stream) {
            let answer = answer.replace("{}", &control_id(&message));
            if stream.write_all(&framed(&answer)).is_err() {
                return;
            }
        }
    })
}

const ACK: &str = "MSH|^~\\&|EHR|DC|LIS|SAKURA|20261123||ACK|a{}|P|2.5\rMSA|AA|{}\r";

#[test]
fn a_query_is_recorded_with_whom_it_asks_for_and_whom_it_finds() {
    let backend = answering(
        "MSH|^~\\&|EHR|DC|LIS|SAKURA|20261123||RSP^K22|a{}|P|2.5\rMSA|AA|{}\rQAK|1|OK\rPID|1||4711^^^SAKURA~99^^^DC\r",
    );
    let clinic = clinic(backend.address, "");
    let mut wire = open(&clinic, NURSE);
    let query = "MSH|^~\\&|LIS|SAKURA|EHR|DC|20261123||QBP^Q22|8|P|2.5\rQPD|Q22|1|@PID.3.1^4711\rRCP|I\r";
    assert_eq!(ask(&mut wire, query), "MSA|AA|8");
    let (record, _) = exchange(&clinic, "QBP^Q22");
    assert_eq!((text(&record, "kind"), text(&record, "action")), ("request", "search"), "{record:#}");
    assert_eq!(record["patients"], json!(["4711", "99"]), "{record:#}");
    assert_eq!(text(&record, "answer"), "AA", "{record:#}");
}

/// Ends, and says why in the record.
fn ends_for(clinic: &Clinic, wire: &mut Wire, cause: &str) {
    assert!(wire.closes() != Ended::Silent, "{cause}");
    let source = wire.local().to_string();
    let closed = clinic.wait_for_record("the connection's end", |record| {
        is(record, "connection-closed") && text(record, "connection.source") == source
    });
    assert_eq!(text(&closed, "cause"), cause, "{closed:#}");
}

#[test]
fn garbage_and_slowness_end_a_connection_for_a_reason() {
    let backend = answering(ACK);
    let limits = "message_timeout_ms = 300\nmessage_bytes = 4096";
    let clinic = clinic(backend.address, limits);
    for (bytes, reason, detail) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "protocol-malformed", "between-frames"),
        (b"\x0bMSH|^~\\&|\x0b".to_vec(), "protocol-malformed", "inside-frame"),
        (framed("PID|1||4711\r"), "protocol-malformed", "no-header"),
        ([b"\x0bMSH|^~\\&|".to_vec(), vec![b'x'; 8192]].concat(), "body-too-large", "frame-too-long"),
    ] {
        let mut wire = open(&clinic, DOCTOR);
        wire.send(&bytes);
        ends_for(&clinic, &mut wire, reason);
        let refused = clinic.wait_for_record("the refusal", |record| {
            is(record, "refusal") && text(record, "source") == wire.local().to_string()
        });
        assert_eq!((text(&refused, "reason"), text(&refused, "detail")), (reason, detail), "{refused:#}");
    }
    let mut slow = open(&clinic, DOCTOR);
    slow.send(b"\x0bMSH|^~\\&|LIS");
    ends_for(&clinic, &mut slow, "request-timeout");
    assert!(clinic.metric("sekisho_connections_cut_total", &[("reason", "protocol-malformed")]) >= 3.0);
}

#[test]
fn a_receiver_that_breaks_the_protocol_is_told_to_nobody() {
    for (answer, cause) in [
        ("MSH|^~\\&|EHR|DC|LIS|SAKURA|20261123||ACK|1|P|2.5\rMSA|AA|another\r", "backend-malformed"),
        ("no message at all", "backend-malformed"),
    ] {
        let backend = answering(answer);
        let clinic = clinic(backend.address, "");
        let mut wire = open(&clinic, DOCTOR);
        wire.send(framed(&message("SAKURA", "ADT^A04^ADT_A01", 1, "4711")));
        ends_for(&clinic, &mut wire, cause);
        let (_, outcome) = exchange(&clinic, "ADT^A04");
        assert_eq!(text(&outcome, "reason"), cause, "{outcome:#}");
    }
    let silent = Server::start(|mut stream| while read_frame(&mut stream).is_some() {});
    let clinic = clinic(silent.address, "");
    let mut wire = open(&clinic, DOCTOR);
    wire.send(framed(&message("SAKURA", "ADT^A04^ADT_A01", 1, "4711")));
    let (intent, _) =
        (until("the intent", || clinic.asked_by(&wire).into_iter().find(|r| text(r, "method") == "ADT^A04")), ());
    assert!(is(&intent, "intent"), "{intent:#}");
    // Revoked in the middle of it: at once, and the record says so.
    clinic.registry(&["device", "suspend", DOCTOR]);
    let begun = Instant::now();
    ends_for(&clinic, &mut wire, "device-suspended");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let (_, outcome) = exchange(&clinic, "ADT^A04");
    assert_eq!((text(&outcome, "reason"), outcome["status"].as_u64()), ("device-suspended", Some(499)), "{outcome:#}");
}

#[test]
fn a_receiver_that_does_not_answer_has_its_time() {
    let silent = Server::start(|mut stream| while read_frame(&mut stream).is_some() {});
    let stream = listener("laboratory", "hl7", silent.address, "") + "response_timeout_ms = 300\n";
    let prepared = Clinic::builder().config(move |config| config.append(&stream)).prepare();
    prepared.registry(&["site", "set", "sakura-clinic", "--facility", "SAKURA"]);
    let clinic = prepared.start();
    let mut wire = open(&clinic, DOCTOR);
    wire.send(framed(&message("SAKURA", "ADT^A04^ADT_A01", 1, "4711")));
    ends_for(&clinic, &mut wire, "backend-timeout");
    let (_, outcome) = exchange(&clinic, "ADT^A04");
    assert_eq!(text(&outcome, "reason"), "backend-timeout", "{outcome:#}");
}
