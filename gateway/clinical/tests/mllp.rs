//! HL7 v2 over MLLP between python-hl7 as sender and hl7apy and python-hl7 as receivers (`PYTHON`, see tests/requirements.txt).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use gateway_clinical::hl7::{Cause, Event, Limits, Link, Refusal, Side};
use support::{Machine, Running, connect, permit, pump, run, text};

struct Proxy {
    link: Link,
    events: Vec<Event>,
}

const SIDES: [Side; 2] = [Side::Sender, Side::Receiver];

impl Machine for Proxy {
    fn wants(&self, from: usize) -> bool {
        self.link.wants(SIDES[from])
    }
    fn handle(&mut self, from: usize, bytes: &[u8]) -> usize {
        self.link.handle(SIDES[from], bytes, Instant::now())
    }
    fn output(&self, to: usize) -> &[u8] {
        self.link.output(SIDES[to])
    }
    fn sent(&mut self, to: usize, count: usize) {
        self.link.sent(SIDES[to], count);
    }
    fn hang_up(&mut self, side: usize) {
        self.link.hang_up(SIDES[side]);
    }
    fn closed(&self) -> bool {
        self.link.is_closed() && SIDES.iter().all(|side| self.link.output(*side).is_empty())
    }
    fn answer(&mut self) {
        let now = Instant::now();
        while let Some(event) = self.link.poll_event() {
            match &event {
                Event::Message(question) if question.facility.namespace != "SAKURA" => {
                    self.link.refuse(Refusal::Facility, 0, now).unwrap();
                }
                Event::Message(question) if question.patients.ids.iter().any(|id| id.value == "0815") => {
                    self.link.refuse(Refusal::NotAuthorized, 0, now).unwrap();
                }
                Event::Message(question) => self.link.permit(permit(question.action), now).unwrap(),
                Event::Unfit { refusal, .. } => self.link.refuse(*refusal, 0, now).unwrap(),
                Event::Outcome(_) => self.link.recorded(now).unwrap(),
                Event::Closed(_) => {}
            }
            self.events.push(event);
        }
    }
}

fn python() -> Command {
    let python =
        std::env::var("PYTHON").expect("PYTHON names an interpreter with the packages of tests/requirements.txt");
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peer.py"));
    command
}

fn message(facility: &str, kind: &str, control: u32, patient: &str) -> String {
    format!(
        "MSH|^~\\&|LIS|{facility}|EHR|DC|20261123||{kind}|{control}|P|2.5||||||UNICODE UTF-8/EVN||20261123/\
         PID|1||{patient}^^^SAKURA^PI||山田^太郎/PV1|1|O"
    )
}

fn through(receiver: &str, how: &str, connections: usize) -> Vec<Event> {
    let mut server = Running(python().arg(receiver).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let backend: u16 = lines.next().unwrap().unwrap().parse().unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let mut events = Vec::new();
        for _ in 0..connections {
            let (client, _) = listener.accept().unwrap();
            let mut proxy = Proxy { link: Link::new(Limits::default(), Instant::now()), events: Vec::new() };
            pump(client, connect(backend), &mut proxy);
            events.extend(proxy.events);
        }
        events
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("messages");
    let messages = [
        message("SAKURA", "ADT^A04^ADT_A01", 1, "4711"),
        message("SAKURA", "ADT^A08^ADT_A01", 2, "0815"),
        message("MOMIJI", "ADT^A08^ADT_A01", 3, "4711"),
        message("SAKURA", "ZZZ^Z01", 4, "4711"),
        message("SAKURA", "ADT^A08^ADT_A01", 5, "99"),
    ];
    std::fs::write(&file, messages.join("\n")).unwrap();
    let output = run(python().arg(how).arg(port.to_string()).arg(&file));
    assert!(output.status.success(), "{}", text(&output));
    let answers = String::from_utf8(output.stdout).unwrap();
    let expected = ["MSA|AA|1", "MSA|AR|2|", "MSA|AR|3|", "MSA|AR|4|", "MSA|AA|5"];
    for (answer, expected) in answers.lines().zip(expected) {
        assert!(answer.starts_with(expected), "{answers}");
    }
    assert_eq!(answers.lines().count(), expected.len());
    let events = thread.join().unwrap();
    let outcomes = events.iter().filter(|event| matches!(event, Event::Outcome(_))).count();
    assert_eq!(outcomes, 2, "{events:?}");
    // The receiver saw what was permitted, and nothing else.
    let seen: Vec<String> = lines.by_ref().take(2).map(Result::unwrap).collect();
    assert!(seen[0].contains("A04") && seen[0].ends_with("4711"), "{seen:?}");
    assert!(seen[1].contains("A08") && seen[1].ends_with("99"), "{seen:?}");
    events
}

#[test]
fn python_hl7_speaks_with_hl7apy() {
    // hl7apy ends a connection behind its first answer.
    through("hl7apy", "each", 5);
}

#[test]
fn python_hl7_speaks_with_itself() {
    let events = through("python-hl7", "send", 1);
    assert_eq!(events.last(), Some(&Event::Closed(Cause::HungUp(Side::Sender))));
}
