//! DICOM through the gateway: DCMTK's tools with TLS 1.2 as modalities, Orthanc as the archive; associations and operations are judged
//! one by one, and the record says of whom (R2, R5, R11, R15, R27).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::tcp::listener;
use gateway_tests::{Clinic, DOCTOR, Prepared, Wire, own_address, until};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::orthanc::python;

const NURSE: &str = "sakura-clinic/ward-1";
const STRANGER: &str = "momiji-hospital/ct-1";
const STUDY_ROOT_FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";

/// A process, ended by its id when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An archive that speaks DICOM, and a station that it sends images to.
struct Archive {
    folder: TempDir,
    address: SocketAddr,
    _orthanc: Running,
    _station: Running,
}

impl Archive {
    fn start() -> Self {
        let folder = TempDir::with_prefix("orthanc-").expect("a folder");
        let (address, station) = (own_address(), own_address());
        let storage = folder.path().join("storage");
        let configuration = json!({
            "Name": "archive",
            "HttpServerEnabled": false,
            "DicomServerEnabled": true,
            "DicomAet": "ARCHIVE",
            "DicomPort": address.port(),
            "DicomCheckCalledAet": true,
            "DicomAlwaysAllowEcho": true,
            "DicomAlwaysAllowStore": true,
            "DicomAlwaysAllowFind": true,
            "DicomAlwaysAllowGet": true,
            "DicomAlwaysAllowMove": true,
            "DicomModalities": { "station": ["STATION", station.ip().to_string(), station.port()] },
            "StorageDirectory": storage,
            "IndexDirectory": storage,
        });
        let file = folder.path().join("orthanc.json");
        std::fs::write(&file, configuration.to_string()).expect("written");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let orthanc = Command::new("Orthanc")
            .arg(&file)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("Orthanc is installed: tests/run.sh installs it");
        std::fs::create_dir(folder.path().join("station")).expect("a folder");
        let station = Command::new("storescp")
            .arg("--output-directory")
            .arg(folder.path().join("station"))
            .arg(station.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dcmtk is installed");
        let archive = Self { folder, address, _orthanc: Running(orthanc), _station: Running(station) };
        until("Orthanc to answer", || std::net::TcpStream::connect(address).ok());
        archive
    }

    fn files(&self, folder: &str) -> usize {
        std::fs::read_dir(self.folder.path().join(folder)).map_or(0, Iterator::count)
    }
}

/// A clinic with a CT of a doctor, a station of a nurse, and a device of another site.
fn prepare(backend: SocketAddr, more: &str) -> Prepared {
    let stream = listener("modalities", "dicom", backend, &format!("called_titles = [\"ARCHIVE\"]\n{more}"));
    let builder = Clinic::builder().device(NURSE, "ns-kato", "nurse").device(STRANGER, "dr-mori", "doctor");
    let prepared = builder.config(move |config| config.append(&stream)).prepare();
    prepared.registry(&["device", "set", DOCTOR, "--ae-title", "CT1", "--ae-title", "STATION"]);
    prepared.registry(&["device", "set", NURSE, "--ae-title", "WARD"]);
    prepared.registry(&["device", "set", STRANGER, "--ae-title", "ELSEWHERE"]);
    prepared
}

fn port(clinic: &Clinic) -> u16 {
    clinic.door_of("modalities").address.port()
}

/// A tool of DCMTK as the device, with its certificate, calling as `title`.
fn tool(
    clinic: &Clinic,
    name: &str,
    device: &str,
    title: &str,
    called: &str,
    arguments: &[&str],
    file: Option<&str>,
) -> Output {
    let identity = clinic.identity(device);
    let stem = device.replace('/', "-");
    let (certificate, key) = (format!("{stem}.crt"), format!("{stem}.key"));
    clinic.prepared.write(&certificate, &identity.certificate_pem);
    clinic.prepared.write(&key, &identity.key_pem);
    let [key, certificate, ca] = [&*key, &certificate, "tls/servers-ca.crt"].map(|file| clinic.prepared.path(file));
    let mut command = Command::new(name);
    command.args(["-v", "-aet", title, "-aec", called]);
    let mut port = port(clinic);
    let _shim;
    // DCMTK 3.6.7's `getscu` and `movescu` speak no TLS: socat does for them.
    if matches!(name, "getscu" | "movescu") {
        let own = own_address();
        let [key, certificate, ca] = [key, certificate, ca].map(|path| path.display().to_string());
        let tls = "openssl-min-proto-version=TLS1.2,openssl-max-proto-version=TLS1.2";
        let mut socat = Command::new("socat");
        socat.arg(format!("TCP-LISTEN:{},bind={},reuseaddr", own.port(), own.ip()));
        socat.arg(format!("OPENSSL:localhost:{port},cert={certificate},key={key},cafile={ca},{tls}"));
        _shim = Running(socat.stdin(Stdio::null()).spawn().expect("socat is installed"));
        until("socat", || listens(own).then_some(()));
        port = own.port();
        command.args(arguments).arg(own.ip().to_string());
    } else {
        // The profile of BCP 195 that has TLS 1.2 alone.
        command.arg("--profile-bcp195-ex").arg("--enable-tls").arg(key).arg(certificate);
        command.arg("--add-cert-file").arg(ca).args(arguments).arg("localhost");
    }
    command.arg(port.to_string()).args(file);
    command.stdin(Stdio::null()).output().expect("dcmtk is installed")
}

/// Whether somebody listens there: looked up and not tried, since each try would be a connection.
fn listens(address: SocketAddr) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let IpAddr::V4(ip) = address.ip() else { return false };
    let wanted = format!("{:08X}:{:04X} 00000000:0000 0A", u32::from_ne_bytes(ip.octets()), address.port());
    sockets.contains(&wanted)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn works(output: &Output) -> String {
    let said = said(output);
    assert!(output.status.success(), "{said}");
    said
}

/// A DICOM file that pydicom ships.
struct Image {
    path: PathBuf,
    patient: String,
    /// Every identifier of the patient, other ones (0010,1002) included.
    patients: Vec<String>,
    study: String,
}

fn image(name: &str) -> Image {
    const READ: &str = "
import json, sys, pydicom
from pydicom.data import get_testdata_file
path = get_testdata_file(sys.argv[1], read=False, download=False)
d = pydicom.dcmread(path)
others = [other.PatientID for other in d.get('OtherPatientIDsSequence') or []]
print(json.dumps([str(path), d.StudyInstanceUID, d.PatientID] + others))
";
    let output = Command::new(python()).args(["-c", READ, name]).output().expect("Python is installed");
    let read = serde_json::from_slice::<Vec<String>>(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let [path, study, patients @ ..] = &read[..] else { panic!("{read:?}") };
    Image { path: path.into(), patient: patients[0].clone(), patients: patients.to_vec(), study: study.clone() }
}

/// The last operation of this name: its intent or refusal, and what came of it.
fn exchange(clinic: &Clinic, operation: &str) -> (Value, Value) {
    let is_it = |record: &Value| text(record, "method") == operation && (is(record, "intent") || is(record, "request"));
    clinic.wait_for_record(operation, |record| is_it(record));
    let asked = clinic.records().into_iter().rfind(|record| is_it(record)).expect("seen above");
    if is(&asked, "request") {
        return (asked.clone(), asked);
    }
    let id = text(&asked, "request").to_owned();
    let outcome =
        clinic.wait_for_record("its outcome", |record| is(record, "outcome") && text(record, "request") == id);
    (asked, outcome)
}

/// Every patient that the log names under the request, once it is over.
fn touched(clinic: &Clinic, asked: &Value) -> Vec<String> {
    let id = text(asked, "request").to_owned();
    clinic.wait_for_record("the completion", |record| is(record, "completion") && text(record, "request") == id);
    let of_it = clinic.records().into_iter().filter(|record| text(record, "request") == id);
    let lists = of_it.filter_map(|record| record["patients"].as_array().cloned());
    lists.flatten().map(|patient| patient.as_str().expect("text").to_owned()).collect()
}

#[test]
fn images_are_stored_found_fetched_and_moved_on_record() {
    let archive = Archive::start();
    let clinic = prepare(archive.address, "").start();
    let (ct, mr) = (image("CT_small.dcm"), image("MR_small.dcm"));

    works(&tool(&clinic, "echoscu", DOCTOR, "CT1", "ARCHIVE", &[], None));
    let (association, opened) = exchange(&clinic, "A-ASSOCIATE");
    assert_eq!((text(&association, "action"), text(&association, "target")), ("connect", "CT1"), "{association:#}");
    assert_eq!((text(&association, "authority"), text(&association, "route")), ("ARCHIVE", "modalities"));
    assert_eq!(text(&association, "connection.tls.version"), "1.2", "{association:#}");
    assert_eq!((text(&opened, "backend"), opened["status"].as_u64()), (&*archive.address.to_string(), Some(200)));
    let (_, echoed) = exchange(&clinic, "C-ECHO");
    assert_eq!(text(&echoed, "answer"), "0000", "{echoed:#}");

    for image in [&ct, &mr] {
        let file = image.path.to_str();
        works(&tool(&clinic, "storescu", DOCTOR, "CT1", "ARCHIVE", &[], file));
        let (stored, outcome) = exchange(&clinic, "C-STORE");
        assert_eq!((text(&stored, "kind"), text(&stored, "action")), ("intent", "create"), "{stored:#}");
        assert_eq!(stored["patients"], json!(image.patients), "{stored:#}");
        assert_eq!((text(&outcome, "answer"), outcome["status"].as_u64()), ("0000", Some(200)), "{outcome:#}");
    }

    let key = format!("PatientID={}", ct.patient);
    let find = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", &key, "-k", "StudyInstanceUID"];
    let found = works(&tool(&clinic, "findscu", DOCTOR, "CT1", "ARCHIVE", &find, None));
    assert!(found.contains(&ct.study), "{found}");
    let (asked, outcome) = exchange(&clinic, "C-FIND");
    assert_eq!((text(&asked, "action"), text(&outcome, "answer")), ("search", "0000"), "{asked:#}");
    assert_eq!(asked["patients"], json!([ct.patient]), "{asked:#}");
    assert_eq!(text(&asked, "target"), format!("{STUDY_ROOT_FIND}/STUDY"), "{asked:#}");
    // A question that names nobody finds whom it finds.
    let find = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID", "-k", "StudyInstanceUID"];
    works(&tool(&clinic, "findscu", NURSE, "WARD", "ARCHIVE", &find, None));
    let mut all = touched(&clinic, &exchange(&clinic, "C-FIND").0);
    all.sort();
    let mut both = vec![ct.patient.clone(), mr.patient.clone()];
    both.sort();
    assert_eq!(all, both);

    let fetched = clinic.prepared.path("fetched");
    std::fs::create_dir(&fetched).expect("a folder");
    let study = format!("StudyInstanceUID={}", ct.study);
    let to = fetched.to_str().expect("UTF-8");
    let get = ["-S", "-od", to, "-k", "QueryRetrieveLevel=STUDY", "-k", &study];
    works(&tool(&clinic, "getscu", NURSE, "WARD", "ARCHIVE", &get, None));
    assert_eq!(std::fs::read_dir(&fetched).expect("a folder").count(), 1);
    let (asked, outcome) = exchange(&clinic, "C-GET");
    assert_eq!((text(&asked, "action"), text(&outcome, "answer")), ("read", "0000"), "{asked:#}\n{outcome:#}");
    // The question names the study alone; whose it is, was learnt when it was stored.
    assert_eq!(asked["patients"][0], json!(ct.patient), "{asked:#}");

    let order = ["-S", "-aem", "STATION", "-k", "QueryRetrieveLevel=STUDY", "-k", &study];
    works(&tool(&clinic, "movescu", DOCTOR, "CT1", "ARCHIVE", &order, None));
    until("the image at the station", || (archive.files("station") == 1).then_some(()));
    let (asked, _) = exchange(&clinic, "C-MOVE");
    assert_eq!((text(&asked, "action"), text(&asked, "kind")), ("operate", "intent"), "{asked:#}");
    assert!(text(&asked, "target").ends_with("/STUDY to STATION"), "{asked:#}");
    assert!(clinic.metric("sekisho_requests_total", &[("route", "modalities"), ("action", "create")]) >= 2.0);
}

#[test]
fn what_is_not_allowed_gets_the_answer_that_dicom_has_for_it() {
    let archive = Archive::start();
    let clinic = prepare(archive.address, "").start();
    let ct = image("CT_small.dcm");
    for (title, called, answer, reason) in [
        ("WARD", "ARCHIVE", "Calling AE Title Not Recognized", "calling-title"),
        ("CT1", "PACS", "Called AE Title Not Recognized", "called-title"),
    ] {
        let output = tool(&clinic, "echoscu", DOCTOR, title, called, &[], None);
        assert!(!output.status.success() && said(&output).contains(answer), "{}", said(&output));
        let (refused, _) = exchange(&clinic, "A-ASSOCIATE");
        assert_eq!((text(&refused, "reason"), text(&refused, "target")), (reason, title), "{refused:#}");
    }
    // A nurse may look, and may neither store nor have images sent somewhere.
    let output = tool(&clinic, "storescu", NURSE, "WARD", "ARCHIVE", &[], ct.path.to_str());
    let said_so = said(&output).to_lowercase();
    assert!(said_so.contains("0x124") || said_so.contains("not authorized"), "{said_so}");
    let (refused, _) = exchange(&clinic, "C-STORE");
    assert_eq!((text(&refused, "reason"), refused["status"].as_u64()), ("policy-no-permit", Some(403)), "{refused:#}");
    assert_eq!(refused["patients"], json!(ct.patients), "{refused:#}");
    let find = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID", "-k", "StudyInstanceUID"];
    let found = works(&tool(&clinic, "findscu", NURSE, "WARD", "ARCHIVE", &find, None));
    assert!(!found.contains(&ct.study), "it was not stored: {found}");

    works(&tool(&clinic, "storescu", DOCTOR, "CT1", "ARCHIVE", &[], ct.path.to_str()));
    let study = format!("StudyInstanceUID={}", ct.study);
    for (device, title, destination, reason) in
        [(NURSE, "WARD", "STATION", "policy-no-permit"), (DOCTOR, "CT1", "ELSEWHERE", "move-destination")]
    {
        let order = ["-S", "-aem", destination, "-k", "QueryRetrieveLevel=STUDY", "-k", &study];
        let output = tool(&clinic, "movescu", device, title, "ARCHIVE", &order, None);
        let (refused, _) = exchange(&clinic, "C-MOVE");
        assert_eq!(text(&refused, "reason"), reason, "{refused:#}\n{}", said(&output));
    }
    assert_eq!(archive.files("station"), 0);
    // Titles are what the registry says now.
    clinic.registry(&["device", "set", DOCTOR, "--no-ae-title", "CT1"]);
    let output = until("the registry's word", || {
        let output = tool(&clinic, "echoscu", DOCTOR, "CT1", "ARCHIVE", &[], None);
        (!output.status.success()).then_some(output)
    });
    assert!(said(&output).contains("Calling AE Title Not Recognized"), "{}", said(&output));
}

#[test]
fn policies_leave_classes_of_objects_out() {
    let archive = Archive::start();
    let prepared = prepare(archive.address, "");
    let ct = "1.2.840.10008.5.1.4.1.1.2";
    let rule = format!(
        "@id(\"no-ct\")\nforbid (principal, action == Sekisho::Action::\"connect\", resource == Sekisho::Route::\"modalities\")\n\
         when {{ context has resource_type && context.resource_type == \"{ct}\" }};\n"
    );
    prepared.write("policy/no-ct.cedar", rule);
    let clinic = prepared.start();
    let (ct, mr) = (image("CT_small.dcm"), image("MR_small.dcm"));
    let output = tool(&clinic, "storescu", DOCTOR, "CT1", "ARCHIVE", &[], ct.path.to_str());
    assert!(!output.status.success(), "{}", said(&output));
    works(&tool(&clinic, "storescu", DOCTOR, "CT1", "ARCHIVE", &[], mr.path.to_str()));
    let (stored, _) = exchange(&clinic, "C-STORE");
    assert_eq!(stored["patients"], json!([mr.patient]), "{stored:#}");
}

/// An A-ASSOCIATE-RQ for Verification by hand.
fn request(calling: &str, called: &str) -> Vec<u8> {
    let item = |kind: u8, value: &[u8]| {
        let mut item = vec![kind, 0];
        item.extend(u16::try_from(value.len()).expect("short").to_be_bytes());
        item.extend(value);
        item
    };
    let mut context = vec![1, 0, 0, 0];
    context.extend(item(0x30, b"1.2.840.10008.1.1"));
    context.extend(item(0x40, b"1.2.840.10008.1.2"));
    let mut body = vec![0, 1, 0, 0];
    body.extend(format!("{called:<16}{calling:<16}").bytes());
    body.extend([0; 32]);
    body.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
    body.extend(item(0x20, &context));
    body.extend(item(0x50, &[item(0x51, &16_384_u32.to_be_bytes()), item(0x52, b"1.2.3")].concat()));
    let mut pdu = vec![1, 0];
    pdu.extend(u32::try_from(body.len()).expect("short").to_be_bytes());
    pdu.extend(body);
    pdu
}

fn open(clinic: &Clinic) -> Wire {
    clinic.door_of("modalities").with(&clinic.identity(DOCTOR)).tls12().open()
}

fn ends_for(clinic: &Clinic, wire: &mut Wire, cause: &str) {
    while wire.reads_until(b"\x00") {}
    let source = wire.local().to_string();
    let closed = clinic.wait_for_record("the connection's end", |record| {
        is(record, "connection-closed") && text(record, "connection.source") == source
    });
    assert_eq!(text(&closed, "cause"), cause, "{closed:#}");
}

#[test]
fn garbage_slowness_and_revocation_end_an_association_for_a_reason() {
    let archive = Archive::start();
    let clinic = prepare(archive.address, "message_timeout_ms = 3000").start();
    // What begins as no PDU, and a PDU whose lengths contradict each other: an abort of the service provider.
    let mut contradicts = request("CT1", "ARCHIVE");
    contradicts[77] = 0xff;
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), contradicts] {
        let mut wire = open(&clinic);
        wire.send(&bytes);
        assert!(wire.reads_until(&[7, 0, 0, 0, 0, 4]), "an A-ABORT");
        ends_for(&clinic, &mut wire, "protocol-malformed");
    }
    let mut slow = open(&clinic);
    slow.send(&request("CT1", "ARCHIVE")[..20]);
    ends_for(&clinic, &mut slow, "request-timeout");

    let mut wire = open(&clinic);
    wire.send(request("CT1", "ARCHIVE"));
    assert!(wire.reads_until(&[2, 0, 0, 0]), "an A-ASSOCIATE-AC");
    let (association, _) = exchange(&clinic, "A-ASSOCIATE");
    clinic.registry(&["device", "suspend", DOCTOR]);
    let begun = Instant::now();
    assert!(wire.reads_until(&[7, 0, 0, 0, 0, 4, 0, 0, 2]), "an A-ABORT");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    ends_for(&clinic, &mut wire, "device-suspended");
    let id = text(&association, "request").to_owned();
    let end = clinic.wait_for_record("its end", |record| is(record, "completion") && text(record, "request") == id);
    assert_eq!(text(&end, "end"), "revoked", "{end:#}");
    assert!(end["bytes"]["received"].as_u64() > Some(100), "{end:#}");
}
