//! Associations of DCMTK's tools through the state machine: allowed and refused (`apt-get install dcmtk`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Instant;

use gateway_clinical::dicom::{Admission, Association, Cause, Event, Limits, Operation, Rejection, Side, Status};
use policy::Action;
use support::{Machine, Running, connect, free_port, permit, pump, run, text};
use tempfile::TempDir;

/// What the tests' clinic may not do.
#[derive(Clone, Copy, Default)]
struct Rules {
    calling: Option<&'static str>,
    refused: Option<Operation>,
    patient: Option<&'static str>,
    /// An abstract syntax that is left out.
    class: Option<&'static str>,
}

struct Proxy {
    association: Association,
    rules: Rules,
    events: Vec<Event>,
}

const SIDES: [Side; 2] = [Side::Requestor, Side::Acceptor];

impl Machine for Proxy {
    fn wants(&self, from: usize) -> bool {
        self.association.wants(SIDES[from])
    }
    fn handle(&mut self, from: usize, bytes: &[u8]) -> usize {
        self.association.handle(SIDES[from], bytes, Instant::now())
    }
    fn output(&self, to: usize) -> &[u8] {
        self.association.output(SIDES[to])
    }
    fn sent(&mut self, to: usize, count: usize) {
        self.association.sent(SIDES[to], count);
    }
    fn hang_up(&mut self, side: usize) {
        self.association.hang_up(SIDES[side]);
    }
    fn closed(&self) -> bool {
        self.association.is_closed() && SIDES.iter().all(|side| self.association.output(*side).is_empty())
    }
    fn answer(&mut self) {
        let now = Instant::now();
        while let Some(event) = self.association.poll_event() {
            match &event {
                Event::Associate(question) => {
                    if self.rules.calling.is_some_and(|title| title != question.calling.as_str()) {
                        self.association.reject(Rejection::CallingTitle).unwrap();
                    } else {
                        let class = self.rules.class;
                        let contexts = question.contexts.iter();
                        let refused = contexts.filter(|c| class == Some(c.abstract_syntax.as_str())).map(|c| c.id);
                        let admission = Admission { refused: refused.collect(), identity: false };
                        self.association.admit(permit(Action::Connect), &admission, now).unwrap();
                    }
                }
                Event::Operation(question) => {
                    let stranger = question.patients.ids.iter().any(|id| self.rules.patient == Some(id.value.as_str()));
                    if self.rules.refused == Some(question.operation) || stranger {
                        self.association.refuse(Status::NotAuthorized, now).unwrap();
                    } else {
                        self.association.permit(permit(question.action), now).unwrap();
                    }
                }
                Event::Outcome(_) => self.association.recorded(now).unwrap(),
                Event::Established(_) | Event::Refused(..) | Event::Named(_) | Event::Closed(_) => {}
            }
            self.events.push(event);
        }
    }
}

/// A listener for one association to the server; the port, and what happened.
fn proxy(server: u16, rules: Rules) -> (u16, JoinHandle<Vec<Event>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let association = Association::new(Limits::default(), Instant::now());
        let mut proxy = Proxy { association, rules, events: Vec::new() };
        pump(client, connect(server), &mut proxy);
        proxy.events
    });
    (port, thread)
}

/// dcmqrscp with two objects of two patients in its database.
struct Archive {
    folder: TempDir,
    port: u16,
    /// Where it moves objects to.
    store: u16,
    _server: Running,
}

impl Archive {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, store) = (free_port(), free_port());
        let path = folder.path();
        std::fs::create_dir(path.join("db")).unwrap();
        let config = format!(
            "NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n\
             HostTable BEGIN\nct1 = (CT1, 127.0.0.1, {store})\nHostTable END\n\
             VendorTable BEGIN\nVendorTable END\n\
             AETable BEGIN\nPACS {} RW (200, 1024mb) ANY\nAETable END\n",
            path.join("db").display()
        );
        std::fs::write(path.join("qr.cfg"), config).unwrap();
        let server = Command::new("dcmqrscp").arg("-c").arg(path.join("qr.cfg")).arg(port.to_string()).spawn().unwrap();
        let archive = Self { port, store, _server: Running(server), folder };
        drop(connect(port));
        for (name, patient, study) in [("one", "4711", "1.2.840.1"), ("two", "0815", "1.2.840.2")] {
            let file = archive.object(name, patient, study, 20_000);
            let output = run(archive.tool("storescu", archive.port).arg(&file));
            assert!(output.status.success(), "{}", text(&output));
        }
        archive
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A secondary capture of this patient.
    fn object(&self, name: &str, patient: &str, study: &str, pixels: usize) -> PathBuf {
        let (dump, file) = (self.path().join(format!("{name}.dump")), self.path().join(format!("{name}.dcm")));
        let bytes = vec!["07"; pixels].join("\\");
        let lines = [
            "(0002,0010) UI =LittleEndianExplicit".to_owned(),
            "(0008,0016) UI =SecondaryCaptureImageStorage".to_owned(),
            format!("(0008,0018) UI [{study}.1.1]"),
            "(0008,0020) DA [20261123]".to_owned(),
            "(0008,0060) CS [OT]".to_owned(),
            "(0010,0010) PN [YAMADA^TARO]".to_owned(),
            format!("(0010,0020) LO [{patient}]"),
            format!("(0020,000d) UI [{study}]"),
            format!("(0020,000e) UI [{study}.1]"),
            "(0020,0010) SH [S1]".to_owned(),
            "(0020,0011) IS [1]".to_owned(),
            "(0020,0013) IS [1]".to_owned(),
            "(0028,0002) US 1".to_owned(),
            "(0028,0004) CS [MONOCHROME2]".to_owned(),
            format!("(7fe0,0010) OB {bytes}"),
        ];
        std::fs::write(&dump, lines.join("\n")).unwrap();
        let output = run(Command::new("dump2dcm").arg("+l").arg("1000000").arg(&dump).arg(&file));
        assert!(output.status.success(), "{}", text(&output));
        file
    }

    fn tool(&self, name: &str, port: u16) -> Command {
        let mut command = Command::new(name);
        command
            .current_dir(self.path())
            .args(["-v", "-to", "60", "-ta", "60", "-td", "60", "-aet", "CT1", "-aec", "PACS"]);
        command.args(["127.0.0.1", &port.to_string()]);
        command
    }

    fn through(&self, name: &str, rules: Rules, arguments: &[&str]) -> (String, bool, Vec<Event>) {
        let (port, thread) = proxy(self.port, rules);
        let output = run(self.tool(name, port).args(arguments));
        (text(&output), output.status.success(), thread.join().unwrap())
    }
}

const FIND: [&str; 7] = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID", "-k", "PatientID=4711"];

fn asked(events: &[Event]) -> Vec<(Operation, Vec<String>)> {
    let of = |event: &Event| match event {
        Event::Operation(question) => {
            Some((question.operation, question.patients.ids.iter().map(|id| id.value.clone()).collect()))
        }
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn named(events: &[Event]) -> Vec<String> {
    let of = |event: &Event| match event {
        Event::Named(named) if !named.unread => {
            Some(named.patients.ids.iter().map(|id| id.value.clone()).collect::<Vec<_>>())
        }
        _ => None,
    };
    events.iter().filter_map(of).flatten().collect()
}

#[test]
fn dcmtk_echoes_finds_stores_and_gets() {
    let archive = Archive::start();
    let (output, good, events) = archive.through("echoscu", Rules::default(), &[]);
    assert!(good, "{output}");
    assert_eq!(asked(&events), [(Operation::CEcho, vec![])]);
    assert_eq!(events.last(), Some(&Event::Closed(Cause::Released)));

    let (output, good, events) = archive.through("findscu", Rules::default(), &FIND);
    assert!(good && output.contains("1.2.840.1"), "{output}");
    assert_eq!(asked(&events), [(Operation::CFind, vec!["4711".to_owned()])]);
    assert_eq!(named(&events), ["4711"], "{output}");

    let file = archive.object("three", "4711", "1.2.840.3", 200_000);
    let (output, good, events) = archive.through("storescu", Rules::default(), &[file.to_str().unwrap()]);
    assert!(good, "{output}");
    assert_eq!(asked(&events), [(Operation::CStore, vec!["4711".to_owned()])]);

    let got = archive.path().join("got");
    std::fs::create_dir(&got).unwrap();
    let arguments = ["-S", "-od", "got", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.840.3", "+xi"];
    let (output, good, events) = archive.through("getscu", Rules::default(), &arguments);
    assert!(good, "{output}");
    let files: Vec<_> = std::fs::read_dir(&got).unwrap().collect();
    assert_eq!(files.len(), 1, "{output}");
    assert_eq!(asked(&events)[0].0, Operation::CGet);
    assert_eq!(named(&events), ["4711"], "the object that came back: {events:?}");
}

#[test]
fn dcmtk_moves_to_a_destination_that_is_asked_about() {
    let archive = Archive::start();
    let moved = archive.path().join("moved");
    std::fs::create_dir(&moved).unwrap();
    let receiver = Command::new("storescp").arg("-od").arg(&moved).arg(archive.store.to_string()).spawn().unwrap();
    let _receiver = Running(receiver);
    drop(connect(archive.store));
    let arguments = ["-S", "-aem", "CT1", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.840.2"];
    let (output, good, events) = archive.through("movescu", Rules::default(), &arguments);
    assert!(good, "{output}");
    assert_eq!(std::fs::read_dir(&moved).unwrap().count(), 1, "{output}");
    let Some(Event::Operation(question)) = events.iter().find(|event| matches!(event, Event::Operation(_))) else {
        panic!("{events:?}")
    };
    assert_eq!(question.destination.as_ref().unwrap().as_str(), "CT1");
    assert_eq!((question.action, question.studies.as_slice()), (Action::Operate, &["1.2.840.2".to_owned()][..]));

    let rules = Rules { refused: Some(Operation::CMove), ..Rules::default() };
    let (output, _, events) = archive.through("movescu", rules, &arguments);
    assert!(output.contains("0x124") || output.contains("0x0124"), "{output}");
    assert_eq!(std::fs::read_dir(&moved).unwrap().count(), 1);
    assert_eq!(events.last(), Some(&Event::Closed(Cause::Released)), "the association went on: {output}");
}

#[test]
fn dcmtk_is_told_what_is_refused() {
    let archive = Archive::start();
    let rules = Rules { calling: Some("MR1"), ..Rules::default() };
    let (output, good, events) = archive.through("echoscu", rules, &[]);
    assert!(!good && output.contains("Calling AE Title Not Recognized"), "{output}");
    assert_eq!(events.last(), Some(&Event::Closed(Cause::Rejected)));

    let rules = Rules { refused: Some(Operation::CFind), ..Rules::default() };
    let (output, _, events) = archive.through("findscu", rules, &FIND);
    assert!(output.contains("0x124") || output.contains("0x0124"), "{output}");
    assert!(!output.contains("1.2.840.1"), "{output}");
    assert_eq!(events.last(), Some(&Event::Closed(Cause::Released)));

    // One patient's object is refused, the other's passes, in one association.
    let (mine, other) =
        (archive.object("mine", "4711", "1.2.840.4", 100_000), archive.object("other", "0815", "1.2.840.5", 100_000));
    let rules = Rules { patient: Some("0815"), ..Rules::default() };
    let arguments = ["-nh", other.to_str().unwrap(), mine.to_str().unwrap()];
    let (output, _, events) = archive.through("storescu", rules, &arguments);
    assert!(output.contains("0x124") || output.contains("0x0124"), "{output}");
    assert_eq!(asked(&events).len(), 2, "{output}");
    let (output, ..) = archive.through(
        "findscu",
        Rules::default(),
        &["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"],
    );
    assert!(output.contains("1.2.840.4") && !output.contains("1.2.840.5"), "{output}");

    // A class that is refused is left out; with nothing left the association is rejected.
    let rules = Rules { class: Some("1.2.840.10008.1.1"), ..Rules::default() };
    let (output, good, _) = archive.through("echoscu", rules, &[]);
    assert!(!good && output.contains("Rejected"), "{output}");
}
