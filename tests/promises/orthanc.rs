//! A real image archive behind the gateway: Orthanc with its DICOMweb plugin stores, finds and returns studies for a
//! doctor, and the record says which patients they are of (R5, PS3.18).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use gateway_tests::audit::text;
use gateway_tests::{Answer, Clinic, DOCTOR, Wire, until};
use serde_json::{Value, json};
use tempfile::TempDir;

const PLUGIN: &str = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so";

const ROUTE: &str = r#"
[[route]]
name = "images"
path = "/dicom-web"
service = "clinical"
class = "clinical"
kind = "dicomweb"
"#;

/// A running Orthanc, empty at first. Ended by its process id when dropped.
struct Orthanc {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Orthanc {
    fn start() -> Self {
        assert!(Path::new(PLUGIN).exists(), "`{PLUGIN}` is missing: install orthanc-dicomweb (tests/run.sh does)");
        let folder = TempDir::with_prefix("orthanc-").expect("a folder");
        let address = gateway_tests::own_address();
        let storage = folder.path().join("storage");
        let configuration = json!({
            "Name": "archive",
            "HttpPort": address.port(),
            "HttpServerEnabled": true,
            "HttpBindAddresses": [address.ip().to_string()],
            "DicomServerEnabled": false,
            "RemoteAccessAllowed": false,
            "AuthenticationEnabled": false,
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "Plugins": [PLUGIN],
            "DicomWeb": { "Enable": true, "Root": "/dicom-web/", "EnableWado": false },
        });
        let file = folder.path().join("orthanc.json");
        std::fs::write(&file, configuration.to_string()).expect("written");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let mut child = Command::new("Orthanc")
            .arg(&file)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("Orthanc is installed: tests/run.sh installs it");
        until("Orthanc to answer", || {
            let said = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            if let Ok(Some(status)) = child.try_wait() {
                panic!("Orthanc ended with {status}: {}", said());
            }
            direct(address, "/dicom-web/studies").filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        Self { child, address, folder }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Orthanc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks Orthanc without the gateway.
fn direct(address: SocketAddr, target: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nAccept: application/dicom+json\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// The Python that `tests/run.sh` sets up.
pub fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("PYTHON") {
        return python.into();
    }
    let test = std::env::current_exe().expect("a test has a file");
    let here = gateway_tests::repository().join("target");
    let mut found = test.ancestors().chain([&*here]).map(|folder| folder.join("venv/bin/python"));
    found.find(|python| python.exists()).expect("`venv/bin/python` beside the build: run tests/run.sh once")
}

/// A DICOM file that pydicom ships, and what is in it as pydicom reads it.
struct Image {
    bytes: Vec<u8>,
    patient: String,
    study: String,
    series: String,
    instance: String,
}

const READ: &str = "
import json, sys, pydicom
from pydicom.data import get_testdata_file
path = get_testdata_file(sys.argv[1], read=False, download=False)
d = pydicom.dcmread(path)
print(json.dumps([str(path), d.PatientID, d.StudyInstanceUID, d.SeriesInstanceUID, d.SOPInstanceUID]))
";

fn image(name: &str) -> Image {
    let output = Command::new(python()).args(["-c", READ, name]).output().expect("Python is installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "pydicom is missing, run tests/run.sh once: {said}");
    let [path, patient, study, series, instance] = serde_json::from_slice::<[String; 5]>(&output.stdout).expect("JSON");
    Image { bytes: std::fs::read(path).expect("the file"), patient, study, series, instance }
}

/// Stores images by STOW-RS (PS3.18 section 10.5).
fn store(wire: &mut Wire, images: &[&Image]) -> Answer {
    let mut body = Vec::new();
    for image in images {
        body.extend_from_slice(b"--part\r\nContent-Type: application/dicom\r\n\r\n");
        body.extend_from_slice(&image.bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--part--\r\n");
    let kind = "multipart/related; type=\"application/dicom\"; boundary=part";
    let fields = [("Content-Type", kind), ("Accept", "application/dicom+json")];
    wire.request("POST", "/dicom-web/studies", &fields, &body)
}

fn json_of(answer: &Answer) -> Value {
    let said = || String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200, "{answer:?}: {}", said());
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", said()))
}

fn search(wire: &mut Wire, target: &str) -> Value {
    let answer = wire.request("GET", target, &[("Accept", "application/dicom+json")], b"");
    if answer.status == 204 { json!([]) } else { json_of(&answer) }
}

fn clinic_with(orthanc: &Orthanc) -> Clinic {
    let mut prepared = Clinic::builder().device("sakura-clinic/desk-2", "cl-ito", "clerk").prepare();
    let backend = format!("http://{}", orthanc.address);
    prepared.reconfigure(|config| {
        config.set_service("backends", vec![backend]);
        config.set_routes(ROUTE);
    });
    prepared.start()
}

/// The patients that the log names for the last request over a connection, in its record and in its addenda, sorted;
/// and why they may not be all.
fn touched(clinic: &Clinic, wire: &Wire) -> (Vec<String>, String) {
    let id = text(&last(clinic, wire), "request").to_owned();
    let of_it = |record: &Value| text(record, "request") == id;
    clinic.wait_for_record("the completion", |record| text(record, "kind") == "completion" && of_it(record));
    let records: Vec<Value> = clinic.records().into_iter().filter(of_it).collect();
    let named = records.iter().filter_map(|record| record["patients"].as_array()).flatten();
    let mut named: Vec<String> = named.map(|patient| patient.as_str().expect("text").to_owned()).collect();
    named.sort();
    (named, records.iter().map(|record| text(record, "patients_unknown")).collect())
}

/// The last request over a connection: action, decision, patients.
fn last(clinic: &Clinic, wire: &Wire) -> Value {
    clinic.asked_by(wire).pop().expect("a record")
}

#[test]
fn a_doctor_stores_finds_and_reads_images() {
    let orthanc = Orthanc::start();
    let clinic = clinic_with(&orthanc);
    let (ct, mr) = (image("CT_small.dcm"), image("MR_small.dcm"));
    let mut wire = clinic.wire(DOCTOR);

    assert_eq!(search(&mut wire, "/dicom-web/studies"), json!([]), "an empty archive");
    let stored = json_of(&store(&mut wire, &[&ct, &mr]));
    let references = &stored["00081199"]["Value"];
    assert_eq!(references.as_array().map(Vec::len), Some(2), "{stored:#}\n{}", orthanc.said());
    let record = last(&clinic, &wire);
    assert_eq!((text(&record, "action"), text(&record, "decision")), ("create", "permit"), "{record:#}");
    assert_eq!(text(&record, "kind"), "intent", "{record:#}");
    let mut both = vec![ct.patient.clone(), mr.patient.clone()];
    both.sort();
    assert_eq!(touched(&clinic, &wire), (both.clone(), String::new()), "both files say whose they are");

    // QIDO-RS (PS3.18 section 10.6), by keyword and by tag.
    for key in ["PatientID", "00100020"] {
        let found = search(&mut wire, &format!("/dicom-web/studies?{key}={}", ct.patient));
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{found:#}");
        assert_eq!(found[0]["0020000D"]["Value"][0], ct.study.as_str(), "{found:#}");
        let record = last(&clinic, &wire);
        assert_eq!(text(&record, "action"), "search", "{record:#}");
        assert_eq!(record["patients"], json!([ct.patient]), "{key}: {record:#}");
    }
    let all = search(&mut wire, "/dicom-web/studies");
    assert_eq!(all.as_array().map(Vec::len), Some(2), "{all:#}");
    assert_eq!(touched(&clinic, &wire), (both, String::new()), "the answer names them");

    // WADO-RS (PS3.18 section 10.4).
    let instance = format!("/dicom-web/studies/{}/series/{}/instances/{}", mr.study, mr.series, mr.instance);
    let metadata = search(&mut wire, &format!("{instance}/metadata"));
    assert_eq!(metadata[0]["00100020"]["Value"][0], mr.patient.as_str(), "{metadata:#}");
    assert_eq!(text(&last(&clinic, &wire), "action"), "read");
    let accept = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
    let answer = wire.request("GET", &instance, &[("Accept", accept)], b"");
    assert_eq!(answer.status, 200, "{:?}\n{}", answer.fields, orthanc.said());
    assert!(answer.field("content-type").starts_with("multipart/related"), "{:?}", answer.fields);
    assert!(contains(&answer.body, &mr.bytes), "the file changed on its way");
    let record = last(&clinic, &wire);
    assert_eq!((text(&record, "action"), text(&record, "decision")), ("read", "permit"), "{record:#}");
    assert_eq!(text(&record, "route"), "images", "{record:#}");
    assert_eq!(text(&record, "user"), "dr-sato", "{record:#}");
    assert!(text(&record, "target").contains(&mr.study), "{record:#}");
    // Whose the study is, was learnt when it was stored.
    assert_eq!(record["patients"], json!([mr.patient]), "{record:#}");
    assert_eq!(touched(&clinic, &wire), (vec![mr.patient.clone()], String::new()));

    // A gateway that was started anew does not know whose it is, until it has seen it.
    drop(wire);
    let clinic = clinic.stop().start();
    let mut wire = clinic.wire(DOCTOR);
    let rendered = format!("/dicom-web/studies/{}/series/{}/instances/{}/frames/1", ct.study, ct.series, ct.instance);
    let pixels = [("Accept", "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*")];
    assert_eq!(wire.request("GET", &rendered, &pixels, b"").status, 200, "{}", orthanc.said());
    assert_eq!(touched(&clinic, &wire), (vec![], "study".to_owned()));
    assert_eq!(
        wire.request("GET", &format!("/dicom-web/studies/{}", ct.study), &[("Accept", accept)], b"").status,
        200
    );
    let (named, _) = touched(&clinic, &wire);
    assert_eq!(named, std::slice::from_ref(&ct.patient), "the file itself says so");
    assert_eq!(wire.request("GET", &rendered, &pixels, b"").status, 200);
    assert_eq!(touched(&clinic, &wire), (vec![ct.patient.clone()], String::new()));
    let found = search(&mut wire, &format!("/dicom-web/studies/{}/series", mr.study));
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found:#}");

    // Over HTTP/2 the same.
    let mut h2 = clinic.h2(DOCTOR);
    let answer = h2.request("GET", &instance, &[("accept", accept)], b"").expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(contains(&answer.body, &mr.bytes));
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Nothing permits it, and at night the example's hours for clerks forbid it as well.
fn refused_to_clerk(answer: &Answer) {
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(["policy-no-permit", "policy-forbid"].contains(&&*answer.problem()), "{answer:?}");
}

#[test]
fn a_clerk_gets_no_image() {
    let orthanc = Orthanc::start();
    let clinic = clinic_with(&orthanc);
    let ct = image("CT_small.dcm");
    assert_eq!(store(&mut clinic.wire(DOCTOR), &[&ct]).status, 200);
    let mut clerk = clinic.wire("sakura-clinic/desk-2");
    for target in [
        "/dicom-web/studies".to_owned(),
        format!("/dicom-web/studies?PatientID={}", ct.patient),
        format!("/dicom-web/studies/{}", ct.study),
        format!("/dicom-web/studies/{}/series/{}/instances/{}/frames/1", ct.study, ct.series, ct.instance),
    ] {
        refused_to_clerk(&clerk.get(&target));
    }
    refused_to_clerk(&store(&mut clerk, &[&ct]));
    // What the archive offers beside DICOMweb is no route of ours.
    let mut doctor = clinic.wire(DOCTOR);
    for target in [
        "/patients",
        "/instances",
        "/tools/reset",
        "/app/explorer.html",
        "/dicom-web/../patients",
        "/dicom-web/servers",
    ] {
        let answer = doctor.get(target);
        assert!(matches!(answer.status, 400 | 404), "{target}: {answer:?}");
    }
}
