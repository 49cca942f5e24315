//! What HTTP knows beside request and answer passes as it is: events as they happen, ranges, codings, HEAD, OPTIONS, and
//! `Expect: 100-continue`. The clients are curl, over HTTP/1.1 and HTTP/2; files are nginx's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, PATIENCE, Reply, own_address, until};

const PROTOCOLS: [&str; 2] = ["--http1.1", "--http2"];

/// curl with the certificate of a device, its answer's head and body on its output.
fn curl(clinic: &Clinic, device: &str, target: &str, options: &[&str]) -> Command {
    let files = clinic.identity_files(device);
    let [ca, certificate, key] = files.each_ref().map(|file| file.to_str().expect("an UTF-8 path").to_owned());
    let mut command = Command::new("curl");
    command.args(["-s", "-S", "-i", "--max-time", "300", "--cacert", &ca, "--cert", &certificate, "--key", &key]);
    command.args(options).arg(format!("https://localhost:{}{target}", clinic.door.address.port()));
    command
}

/// Its output: the head in lower case, without the dates, and the body.
fn asks(clinic: &Clinic, target: &str, options: &[&str]) -> (String, Vec<u8>) {
    let output = curl(clinic, DOCTOR, target, options).output().expect("curl");
    assert!(output.status.success(), "curl {options:?} {target}: {}", String::from_utf8_lossy(&output.stderr));
    let at = output.stdout.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let (head, body) = output.stdout.split_at(at + 4);
    (String::from_utf8_lossy(head).to_lowercase(), body.to_vec())
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).map_or("", str::trim)
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
}

/// A server of files, and of answers that it compresses.
struct Files {
    address: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl Files {
    fn start(folder: PathBuf) -> Self {
        let address = own_address();
        std::fs::create_dir_all(folder.join("root/open")).expect("a folder");
        let at = folder.display();
        let configuration = format!(
            "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;
             events {{ worker_connections 256; }}
             http {{
               access_log off; default_type text/plain; gzip on; gzip_types text/plain; gzip_min_length 1; gzip_proxied any;
               client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
               uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
               server {{
                 listen {address}; root {at}/root;
                 location /open/options {{ add_header Allow 'GET, HEAD, OPTIONS'; return 204; }}
               }}
             }}"
        );
        std::fs::write(folder.join("nginx.conf"), configuration).expect("its configuration");
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(folder.join("nginx.conf")).arg("-p").arg(&folder).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx is installed");
        until("nginx", || TcpStream::connect(address).ok());
        Self { address, folder, child }
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.join("root/open").join(name), bytes).expect("a file");
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn with_files() -> (Files, Clinic) {
    let mut prepared = Clinic::builder().prepare();
    let files = Files::start(prepared.path("files"));
    let url = format!("http://{}", files.address);
    prepared.reconfigure(|config| config.set_service("backends", vec![url]));
    (files, prepared.start())
}

#[test]
fn an_event_arrives_before_the_next_one_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let (go, going) = channel::<()>();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = BufReader::new(stream.try_clone().expect("a handle"));
            let mut line = String::new();
            while head.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            for number in 0..5 {
                let event = format!("id: {number}\ndata: bed {number}\n\n");
                let _ = stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
                if going.recv_timeout(PATIENCE).is_err() {
                    return;
                }
            }
            let _ = stream.write_all(b"0\r\n\r\n");
        }
    });
    let mut prepared = Clinic::builder().prepare();
    prepared.reconfigure(|config| config.set_service("backends", vec![format!("http://{address}")]));
    let clinic = prepared.start();
    for protocol in PROTOCOLS {
        let mut command = curl(&clinic, DOCTOR, "/open/events", &["-N", protocol]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("curl");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        for number in 0..5 {
            // The backend waits until this one was read.
            let wanted = format!("data: bed {number}");
            assert!(lines.by_ref().any(|line| line.expect("a line") == wanted), "{protocol}: {wanted}");
            go.send(()).expect("the backend waits");
        }
        assert!(child.wait().expect("curl ends").success(), "{protocol}");
    }
}

#[test]
fn ranges_head_and_options_pass() {
    let (files, clinic) = with_files();
    let image: Vec<u8> = (0..200_000_u32).map(|n| u8::try_from(n * 31 % 251).expect("a byte")).collect();
    files.put("image", &image);
    for protocol in PROTOCOLS {
        let (head, body) = asks(&clinic, "/open/image", &[protocol]);
        assert_eq!((status(&head), body == image), ("200", true), "{head}");
        assert_eq!(field(&head, "accept-ranges"), "bytes", "{head}");
        let (tag, date) = (field(&head, "etag").to_owned(), field(&head, "last-modified").to_owned());

        let (head, body) = asks(&clinic, "/open/image", &[protocol, "-r", "1000-1999"]);
        assert_eq!((status(&head), &body[..]), ("206", &image[1000..2000]), "{head}");
        assert_eq!(field(&head, "content-range"), "bytes 1000-1999/200000", "{head}");
        let (head, body) = asks(&clinic, "/open/image", &[protocol, "-r", "-500"]);
        assert_eq!((status(&head), &body[..]), ("206", &image[199_500..]), "{head}");
        let (head, body) = asks(&clinic, "/open/image", &[protocol, "-r", "0-9,50-59"]);
        assert!(field(&head, "content-type").starts_with("multipart/byteranges"), "{head}");
        assert!(body.windows(10).any(|window| *window == image[50..60]), "{head}");
        let (head, _) = asks(&clinic, "/open/image", &[protocol, "-r", "900000-"]);
        assert_eq!((status(&head), field(&head, "content-range")), ("416", "bytes */200000"), "{head}");
        // The very validator, and one that is none any more.
        let same = format!("If-Range: {tag}");
        let (head, body) = asks(&clinic, "/open/image", &[protocol, "-r", "0-9", "-H", &same]);
        assert_eq!((status(&head), &body[..]), ("206", &image[..10]), "{head}");
        let (head, body) = asks(&clinic, "/open/image", &[protocol, "-r", "0-9", "-H", "If-Range: \"other\""]);
        assert_eq!((status(&head), body == image), ("200", true), "{head}");
        let none = format!("If-None-Match: {tag}");
        let (head, body) = asks(&clinic, "/open/image", &[protocol, "-H", &none]);
        assert_eq!((status(&head), body.len()), ("304", 0), "{head}");

        let (head, body) = asks(&clinic, "/open/image", &[protocol, "-I"]);
        assert_eq!((status(&head), field(&head, "content-length"), body.len()), ("200", "200000", 0), "{head}");
        assert_eq!((field(&head, "etag"), field(&head, "last-modified")), (&*tag, &*date), "{head}");
        let (head, body) = asks(&clinic, "/open/options", &[protocol, "-X", "OPTIONS"]);
        assert_eq!((status(&head), field(&head, "allow"), body.len()), ("204", "get, head, options", 0), "{head}");
    }
}

#[test]
fn codings_are_the_peers_own() {
    let (files, clinic) = with_files();
    let text: Vec<u8> = b"Karte ".iter().copied().cycle().take(60_000).collect();
    files.put("notes", &text);
    for protocol in PROTOCOLS {
        let (head, packed) = asks(&clinic, "/open/notes", &[protocol, "-H", "Accept-Encoding: gzip"]);
        assert_eq!((status(&head), field(&head, "content-encoding")), ("200", "gzip"), "{head}");
        assert!(packed.len() < text.len() / 10 && packed.starts_with(&[0x1f, 0x8b]), "{} bytes", packed.len());
        let (_, body) = asks(&clinic, "/open/notes", &[protocol, "--compressed"]);
        assert_eq!(body, text);
        let (head, body) = asks(&clinic, "/open/notes", &[protocol]);
        assert_eq!((field(&head, "content-encoding"), body == text), ("", true), "{head}");
    }
}

/// Row A1 and RFC 9110 section 10.1.1: nobody is told to send what nobody takes, and whoever waits is told.
#[test]
fn a_body_that_waits_to_be_asked_for_waits_for_the_verdict() {
    let clinic = Clinic::builder().start();
    let early: Arc<Mutex<Vec<String>>> = Arc::default();
    let heads = Arc::clone(&early);
    clinic.backend().answers_early(move |seen| {
        heads.lock().expect("nobody panicked").extend(seen.values("expect"));
        (seen.target() == "/open/full").then(|| Reply::new(507, "no room").then_close())
    });
    let file = clinic.prepared.path("body");
    std::fs::write(&file, vec![b'x'; 300_000]).expect("a file");
    let data = format!("@{}", file.display());
    let sends = |protocol: &str, target: &str| {
        // Over HTTP/2 nobody says 100: the library cannot, and curl waits a second.
        let patience = if protocol == "--http2" { "1" } else { "60" };
        let options =
            ["-v", protocol, "--expect100-timeout", patience, "-H", "Expect: 100-continue", "--data-binary", &data];
        let output = curl(&clinic, DOCTOR, target, &options).output().expect("curl");
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        (String::from_utf8_lossy(&output.stdout).to_lowercase(), said)
    };
    // Refused: curl never sends a byte of it.
    let (answer, said) = sends("--http1.1", "/admin/x");
    assert!(answer.starts_with("http/1.1 403"), "{answer} {said}");
    let received = clinic.wait_for_record("the refusal", |record| text(record, "reason") == "policy-no-permit");
    assert!(is(&received, "request"), "{received:#}");
    assert_eq!(clinic.backend().connections(), 0);
    // Not wanted by the backend, which has seen the expectation: nor then.
    let (answer, said) = sends("--http1.1", "/open/full");
    assert!(answer.starts_with("http/1.1 507"), "{answer} {said}");
    assert_eq!(early.lock().expect("nobody panicked")[..], ["100-continue"]);
    let end = clinic.wait_for_record("the end", |record| is(record, "completion"));
    assert_eq!(end["bytes"]["received"], 0, "{end:#}");
    // Taken.
    for protocol in PROTOCOLS {
        let (answer, said) = sends(protocol, "/open/kept");
        assert!(answer.contains("100") || protocol == "--http2", "{answer} {said}");
        assert!(answer.contains(" 200"), "{answer} {said}");
        assert_eq!(clinic.backend().last().body.len(), 300_000, "{protocol}");
    }
}
