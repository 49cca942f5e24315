//! C14: login, lockout. Two spellings of one user, counters raced, bodies that two readers read in two ways: from outside,
//! against a real application with a form and a cookie as well.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use gateway_tests::h2::{END_STREAM, Frames, encode, kind};
use gateway_tests::{Clinic, DOCTOR, Wire};

use crate::login_guard::{ELSEWHERE, FORM, WARD, guarded, login, refused, wrong};

#[test]
fn every_spelling_of_an_account_is_one_account() {
    for spelling in [
        "TANAKA",
        "%EF%BC%B4anaka",
        "tanaka+",
        "tanaka%20",
        "tanaka.",
        "tana%E2%80%8Bka",
        "tanaka%E2%80%8D",
        "tan%C3%A1ka",
        "%E3%80%80tanaka",
        "tanaka%2Bward",
        "%EF%BB%BFtanaka",
        "tana%CC%81ka",
    ] {
        let clinic = guarded().config(|config| config.set("login", "failures", 1)).start();
        clinic.backend().answers(|_| gateway_tests::Reply::new(200, "again"));
        assert_eq!(login(&mut clinic.wire(DOCTOR), "tanaka", "no").status, 200);
        refused(&login(&mut clinic.wire(WARD), spelling, "no"));
        assert_eq!(wrong(clinic.backend()), 1, "{spelling}");
    }
}

/// Target, fields, body, and the status and label that they get.
type Case<'c> = (&'c str, Vec<(&'c str, &'c str)>, &'c [u8], u16, &'c str);

/// What can be read in two ways reaches no backend, and its record says why.
#[test]
fn a_body_that_can_be_read_in_two_ways_is_refused_by_name() {
    let clinic = guarded().start();
    let json = ("Content-Type", "application/json");
    let large = format!("username=tanaka&password={}", "x".repeat(20_000));
    let deep = format!("{{\"user\":\"a\",\"x\":{}1{}}}", "[".repeat(2), "]".repeat(2));
    let cases: &[Case<'_>] = &[
        ("/login", vec![FORM], b"username=a&username=b&password=x", 400, "login-ambiguous"),
        ("/login", vec![FORM], b"username=a&USERNAME=b", 400, "login-ambiguous"),
        ("/login", vec![FORM], b"username=a&password=x&password=y", 400, "login-ambiguous"),
        ("/login", vec![FORM], b"username=a&password[]=x&password[]=y", 400, "login-ambiguous"),
        ("/login", vec![FORM], b"username=a;username=b", 400, "login-ambiguous"),
        ("/login?username=b", vec![FORM], b"username=a&password=x", 400, "login-ambiguous"),
        ("/login", vec![FORM, ("Authorization", "Basic YTpi")], b"username=a&password=x", 400, "login-ambiguous"),
        ("/login", vec![FORM], b"username=a%0d%0aX-Admin:%201", 400, "login-malformed"),
        ("/login", vec![FORM], b"password=x", 400, "login-malformed"),
        ("/login", vec![FORM], b"username=%82%a0", 415, "login-encoding"),
        ("/login", vec![FORM], large.as_bytes(), 413, "body-too-large"),
        ("/login", vec![FORM, ("Content-Encoding", "gzip")], b"username=a", 415, "login-encoding"),
        ("/login", vec![("Content-Type", "multipart/form-data; boundary=x")], b"--x--", 415, "login-encoding"),
        (
            "/login",
            vec![("Content-Type", "application/x-www-form-urlencoded; charset=utf-7")],
            b"username=a",
            415,
            "login-encoding",
        ),
        ("/login", vec![], b"username=a", 415, "login-encoding"),
        ("/json", vec![json], b"{\"user\":\"a\",\"user\":\"b\"}", 400, "login-ambiguous"),
        ("/json", vec![json], b"{\"user\":\"a\",\"User\":\"b\"}", 400, "login-ambiguous"),
        ("/json", vec![json], b"{\"user\":\"a\",\"password\":[\"x\",\"y\"]}", 400, "login-ambiguous"),
        ("/json", vec![json], deep.as_bytes(), 400, "login-ambiguous"),
        ("/json", vec![json], b"{\"user\":{\"$ne\":1}}", 400, "login-malformed"),
        ("/json", vec![json], b"{\"user\":\"a\"", 400, "login-malformed"),
        ("/json", vec![json], b"\xff\xfe{\0", 415, "login-encoding"),
        ("/basic/x", vec![("Authorization", "Digest username=\"a\"")], b"", 400, "login-malformed"),
        (
            "/basic/x",
            vec![("Authorization", "Basic YTpi"), ("Authorization", "Basic Yzpk")],
            b"",
            400,
            "login-ambiguous",
        ),
    ];
    for (target, fields, body, status, label) in cases {
        let mut wire: Wire = clinic.wire(DOCTOR);
        let answer = wire.request("POST", target, fields, body);
        let shown = String::from_utf8_lossy(body);
        assert_eq!((answer.status, answer.problem().as_str()), (*status, *label), "{target} {fields:?} {shown:.80}");
        assert_eq!(clinic.wait_for_reasons(wire.local()), [*label]);
    }
    assert_eq!(clinic.backend().seen().len(), 0);
    let said = clinic.gateway.said();
    assert!(!said.contains("username=") && !said.contains("tanaka"), "diagnostics quote no login: {said}");
}

/// Thirty guesses whose last bytes come in one packet.
#[test]
fn guesses_in_one_packet_count_one_by_one() {
    let clinic = guarded().start();
    clinic.backend().answers(|_| gateway_tests::Reply::new(200, "again").after(std::time::Duration::from_millis(50)));
    let mut frames = Frames::open(&clinic.handshake(DOCTOR));
    let host = frames.wire.host();
    let mut last = Vec::new();
    let streams: Vec<u32> = (0..30).map(|number| 1 + 2 * number).collect();
    for stream in &streams {
        let mut fields = frames.request("POST", "/login", &host);
        fields.push(("content-type", FORM.1));
        frames.headers(*stream, &fields, false);
        let body = format!("username=tanaka&password=guess-{stream}");
        let (most, end) = body.as_bytes().split_at(body.len() - 1);
        frames.send(kind::DATA, 0, *stream, most);
        last.extend(encode(kind::DATA, END_STREAM, *stream, end));
    }
    frames.wire.send(last);
    let mut open: std::collections::BTreeSet<u32> = streams.into_iter().collect();
    while !open.is_empty() {
        let frame = frames.next_frame().expect("an answer to each");
        if frame.flags & END_STREAM != 0 && matches!(frame.kind, kind::DATA | kind::HEADERS) {
            open.remove(&frame.stream);
        }
    }
    assert_eq!(wrong(clinic.backend()), 3);
    refused(&login(&mut clinic.wire(DOCTOR), "tanaka", "right"));
}

/// An image archive with users of its own, by `Basic`, as a real one has it.
#[test]
fn the_logins_of_an_image_archive_are_guarded() {
    let folder = tempfile::TempDir::with_prefix("orthanc-").expect("a folder");
    let address = gateway_tests::own_address();
    let configuration = serde_json::json!({
        "Name": "archive",
        "HttpPort": address.port(),
        "HttpServerEnabled": true,
        "HttpBindAddresses": [address.ip().to_string()],
        "DicomServerEnabled": false,
        "RemoteAccessAllowed": true,
        "AuthenticationEnabled": true,
        "RegisteredUsers": { "tanaka": "right" },
        "StorageDirectory": folder.path().join("storage"),
        "IndexDirectory": folder.path().join("storage"),
    });
    let file = folder.path().join("orthanc.json");
    std::fs::write(&file, configuration.to_string()).expect("written");
    let log = std::fs::File::create(folder.path().join("log")).expect("a file");
    let child = Command::new("Orthanc")
        .arg(&file)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("Orthanc is installed: tests/run.sh installs it");
    let archive = Application { child, port: address.port() };
    gateway_tests::until("Orthanc to listen", || std::net::TcpStream::connect(address).ok());
    let mut prepared = guarded().prepare();
    prepared.reconfigure(|config| {
        config.set_routes(ARCHIVE);
        config.set_service("backends", vec![format!("http://{address}")]);
    });
    let clinic = prepared.start();
    let doctor = Browser::new(&clinic, DOCTOR);
    assert_eq!(doctor.ask("/system", &[]).0, "401", "the challenge is no attempt");
    for _ in 0..10 {
        assert_eq!(doctor.ask("/system", &["-u", "tanaka:right"]).0, "200");
    }
    assert_eq!(doctor.ask("/patients/none", &["-u", "tanaka:right"]).0, "404", "right, and nothing there");
    let attacker = Browser::new(&clinic, ELSEWHERE);
    let statuses: Vec<_> = (0..5).map(|n| attacker.ask("/system", &["-u", &format!("Tanaka:guess-{n}")]).0).collect();
    assert_eq!(statuses, ["401", "401", "401", "429", "429"]);
    assert_eq!(attacker.ask("/system", &["-u", "tanaka:right"]).0, "429");
    assert_eq!(doctor.ask("/system", &["-u", "tanaka:right"]).0, "200");
    drop(archive);
}

const ARCHIVE: &str = r#"
[[route]]
name = "archive"
path = "/"
service = "clinical"
class = "clinical"
kind = "generic"
login = { account = { basic = true }, success = { status = [200, 206, 304, 400, 404] }, failure = { status = [401, 403] } }
"#;

/// The application, ended by its process id.
pub struct Application {
    child: Child,
    pub port: u16,
}

fn python() -> PathBuf {
    crate::orthanc::python()
}

impl Application {
    pub fn start() -> Self {
        let program = gateway_tests::repository().join("tests/backends/ehr.py");
        let mut child = Command::new(python())
            .arg(program)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python is installed");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        said.read_line(&mut line).expect("its port");
        let port = line.trim().parse().expect("Flask is installed: tests/run.sh installs it");
        std::mem::forget(said);
        Self { child, port }
    }

    /// Wrong passwords that it has seen.
    fn wrong(&self) -> String {
        let url = format!("http://127.0.0.1:{}/wrong", self.port);
        let output = Command::new("curl").args(["-sS", &url]).output().expect("curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const EHR: &str = r#"
[[route]]
name = "ehr"
path = "/ehr"
service = "clinical"
class = "clinical"
kind = "generic"
[[route]]
name = "ehr-login"
path = "/ehr/login"
service = "clinical"
class = "clinical"
kind = "generic"
[route.login]
account = { form = "username" }
success = { status = [302], redirect = "/ehr/home" }
failure = { status = [200] }
"#;

/// `curl` as a device, with a jar of cookies of its own.
pub struct Browser<'c> {
    clinic: &'c Clinic,
    name: &'c str,
    /// Of its certificate, its key and its jar.
    pub files: [String; 3],
}

impl<'c> Browser<'c> {
    pub fn new(clinic: &'c Clinic, device: &'c str) -> Self {
        let identity = clinic.identity(device);
        let name = device.rsplit('/').next().expect("site/device");
        let site = device.split('/').next().expect("site/device");
        let file = |end: &str| format!("{site}-{name}.{end}");
        clinic.prepared.write(&file("crt"), &identity.certificate_pem);
        clinic.prepared.write(&file("key"), &identity.key_pem);
        let path = |end: &str| clinic.prepared.path(&file(end)).to_str().expect("UTF-8").to_owned();
        Self { clinic, name: device, files: [path("crt"), path("key"), path("jar")] }
    }

    /// Status and body.
    pub fn ask(&self, target: &str, more: &[&str]) -> (String, String) {
        let [certificate, key, jar] = &self.files;
        let ca = self.clinic.prepared.path("tls/servers-ca.crt");
        let url = format!("https://localhost:{}{target}", self.clinic.door.address.port());
        let output = Command::new("curl")
            .args([
                "-sS",
                "--max-time",
                "60",
                "--cacert",
                ca.to_str().expect("UTF-8"),
                "--cert",
                certificate,
                "--key",
                key,
            ])
            .args(["--connect-to", &format!("localhost::127.0.0.1:{}", self.clinic.door.address.port())])
            .args(["-b", jar, "-c", jar, "-w", "\n%{http_code}"])
            .args(more)
            .arg(&url)
            .output()
            .expect("curl is installed");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = said.rsplit_once('\n').unwrap_or_else(|| {
            panic!("{}: curl {target}: {said}{}", self.name, String::from_utf8_lossy(&output.stderr))
        });
        (status.to_owned(), body.to_owned())
    }

    /// The value of a cookie in its jar, as long as it has one.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let jar = std::fs::read_to_string(&self.files[2]).ok()?;
        let mut lines = jar.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        lines.find(|parts| parts.get(5) == Some(&name)).and_then(|parts| Some((*parts.get(6)?).to_owned()))
    }

    pub fn login(&self, account: &str, password: &str) -> String {
        let (account, password) = (format!("username={account}"), format!("password={password}"));
        self.ask("/ehr/login", &["--data-urlencode", &account, "--data-urlencode", &password]).0
    }
}

/// An application that knows nothing of the gateway, and compares names as old ones do.
#[test]
fn an_old_application_is_guarded_without_a_change_to_it() {
    let application = Application::start();
    let mut prepared = guarded().prepare();
    prepared.reconfigure(|config| {
        config.set_routes(EHR);
        config.set_service("backends", vec![format!("http://127.0.0.1:{}", application.port)]);
    });
    let clinic = prepared.start();
    let doctor = Browser::new(&clinic, DOCTOR);
    let (status, page) = doctor.ask("/ehr/login", &[]);
    assert_eq!(status, "200");
    assert!(page.contains("<form"), "{page}");
    assert_eq!(doctor.ask("/ehr/home", &[]).0, "302", "nobody is logged in");
    assert_eq!(doctor.login("tanaka", "wrong horse"), "200");
    assert_eq!(doctor.login("Tanaka", "right horse"), "302");
    assert_eq!(doctor.ask("/ehr/home", &[]), ("200".to_owned(), "Welcome, tanaka".to_owned()));

    let attacker = Browser::new(&clinic, ELSEWHERE);
    for (spelling, status) in [
        ("tanaka", "200"),
        ("TANAKA ", "200"),
        ("ｔａｎａｋａ", "200"),
        ("tanaka", "429"),
        ("Tanaka  ", "429"),
        ("tAnAkA", "429"),
    ] {
        assert_eq!(attacker.login(spelling, "guess"), status, "{spelling}");
    }
    assert_eq!(attacker.login("tanaka", "right horse"), "429", "the right one does not help either");
    assert_eq!(application.wrong(), "4");
    assert_eq!(doctor.login("tanaka", "right horse"), "302", "and at home it does");
    assert_eq!(doctor.ask("/ehr/home", &[]).1, "Welcome, tanaka", "the session stays");
    assert_eq!(attacker.login("suzuki", "battery staple"), "302");
}
