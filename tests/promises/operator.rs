//! What an operator is told is what is so: metrics, readiness, systemd and messages (R19, R20).

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, Prepared, until};

/// A backend that can die with all its connections, and come back where it was.
struct Mortal {
    address: SocketAddr,
    dead: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Mortal {
    fn at(address: &str) -> Self {
        let listener = until("the port", || TcpListener::bind(address).ok());
        let address = listener.local_addr().expect("an address");
        let (dead, streams) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (over, held) = (Arc::clone(&dead), Arc::clone(&streams));
        let thread = std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                held.lock().expect("a lock").push(stream.try_clone().expect("a second handle"));
                std::thread::spawn(move || {
                    let mut head = [0; 8192];
                    while stream.read(&mut head).is_ok_and(|read| read > 0) {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    }
                });
            }
        });
        Self { address, dead, streams, thread }
    }

    fn die(self) -> SocketAddr {
        self.dead.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        self.thread.join().expect("it ends");
        for stream in self.streams.lock().expect("a lock").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.address
    }
}

#[test]
fn a_dead_backend_is_down_whichever_worker_asks_and_up_when_it_is_back() {
    let mortal = Mortal::at("127.0.0.1:0");
    let mut prepared = Clinic::builder().prepare();
    prepared.reconfigure(|config| {
        config.set("workers", "count", 4);
        config.set_service("backends", vec![format!("http://{}", mortal.address)]);
    });
    let clinic = prepared.start();
    let up = |clinic: &Clinic| {
        let metrics = clinic.metrics();
        let is_said = metrics.page().lines().any(|line| line.starts_with("sekisho_backend_up{"));
        is_said.then(|| metrics.sum("sekisho_backend_up", &[("service", "clinical")]) > 0.5)
    };
    let ask = |clinic: &Clinic, expected: u16| {
        // New connections meet whichever worker the kernel chooses.
        for _ in 0..6 {
            assert_eq!(clinic.wire(DOCTOR).get("/open/x").status, expected);
        }
    };
    assert_eq!(up(&clinic), None, "nobody has tried yet");
    ask(&clinic, 200);
    assert_eq!(up(&clinic), Some(true));
    let address = mortal.die();
    // One worker's view is enough, though the others have not looked yet.
    assert_eq!(clinic.wire(DOCTOR).get("/open/x").status, 503);
    assert_eq!(up(&clinic), Some(false));
    ask(&clinic, 503);
    assert_eq!(up(&clinic), Some(false));
    let _back = Mortal::at(&address.to_string());
    ask(&clinic, 200);
    assert_eq!(up(&clinic), Some(true));
}

#[test]
fn every_certificate_has_an_end_in_the_metrics() {
    let mut prepared = Clinic::builder().prepare();
    let gateway = prepared.pki.server(&["gateway.internal"]);
    prepared.write("tls/gateway.crt", &gateway.certificate_pem);
    prepared.write("tls/gateway.key", &gateway.key_pem);
    prepared.reconfigure(|config| {
        config.append(
            "[[service]]\nname = \"pacs\"\nbackends = [\"https://127.0.0.1:1\"]\n\
             tls = { ca_file = \"tls/servers-ca.crt\", certificate_file = \"tls/gateway.crt\", \
             key_file = \"tls/gateway.key\" }\n",
        );
    });
    let mut clinic = prepared.start();
    let ends = |clinic: &Clinic, kind: &str, name: &str| {
        clinic.metric("sekisho_certificate_expiry_timestamp_seconds", &[("kind", kind), ("name", name)])
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    for (kind, name) in
        [("server", "clinics"), ("device-ca", "clinics"), ("backend-ca", "pacs"), ("backend-identity", "pacs")]
    {
        assert!(ends(&clinic, kind, name) > now, "{kind}, {name}:\n{}", clinic.metrics().page());
    }
    // What the configuration no longer names is no longer shown.
    clinic.reconfigure(|config| config.clear_appended());
    assert!(clinic.reload());
    assert!(ends(&clinic, "backend-ca", "pacs") < 1.0, "{}", clinic.metrics().page());
}

#[test]
fn a_worker_that_cannot_start_is_a_failed_start() {
    // Enough files for every worker's socket, and not for every worker's runtime.
    let prepared = Clinic::builder()
        .config(|config| config.set("workers", "count", 200))
        .under(&["prlimit", "--nofile=400"])
        .prepare();
    let Err((failure, mut prepared)) = prepared.try_start() else { panic!("it serves with workers missing") };
    assert_eq!(failure.code, Some(1), "{}", failure.message);
    let said = failure.message.lines().last().expect("a message");
    assert!(said.contains("worker ") && said.contains("cannot start: Too many open files"), "{said}");
    // It closed its log: the next start has nothing to recover.
    prepared.run_under(&[]);
    prepared.reconfigure(|config| config.set("workers", "count", 2));
    let clinic = prepared.start();
    assert!(!clinic.records().iter().any(|record| is(record, "recovery")));
    let (status, page) = clinic.admin_get("/readyz?verbose");
    assert!(status == 200 && page.contains("[+] workers ok"), "{page}");
}

/// What the gateway tells systemd, message by message, until `last` comes.
fn told(socket: &UnixDatagram, last: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let mut buffer = [0; 4096];
    while !messages.iter().any(|message: &String| message.contains(last)) {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no `{last}` after {messages:?}: {error}"));
        messages.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    messages
}

#[test]
fn systemd_hears_of_a_reload_when_it_begins_and_when_it_is_done() {
    let mut prepared = Clinic::builder().prepare();
    let path = prepared.path("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    prepared.run_under(&["env", &format!("NOTIFY_SOCKET={}", path.display())]);
    let mut clinic = prepared.start();
    assert_eq!(told(&socket, "READY=1"), ["STATUS=serving\nREADY=1\n"]);
    assert!(clinic.reload());
    let messages = told(&socket, "READY=1");
    let [reloading, ready] = &messages[..] else { panic!("{messages:?}") };
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert!(ready.starts_with("STATUS=reloaded: serving snapshot "), "{ready}");
    let snapshot = clinic.metric("sekisho_snapshot_version", &[]);
    assert!(ready.contains(&format!(" {snapshot}\n")), "{ready}: {snapshot}");

    clinic.prepared.write("policy/broken.cedar", "permit (principal,\n action, resource) when { nonsense };\n");
    assert!(!clinic.reload());
    let messages = told(&socket, "READY=1");
    let refused = messages.last().expect("a message");
    assert!(refused.starts_with("STATUS=reload refused, serving the old configuration: broken.cedar:"), "{refused}");
    assert!(refused.ends_with("\nREADY=1\n") && refused.lines().count() == 2, "{refused}");

    clinic.terminate();
    clinic.gateway.wait();
    assert_eq!(told(&socket, "STOPPING=1"), ["STATUS=draining\nSTOPPING=1\n"]);
    let said = clinic.gateway.said();
    let end = said.lines().find(|line| line.contains("received a signal") && line.contains("TERM")).expect("a line");
    assert!(end.contains(&format!("\"sender_pid\":{}", std::process::id())), "{end}");
    assert!(end.contains("\"sender_uid\":"), "{end}");
}

/// Puts a store in the place of another, whose write-ahead log would otherwise be applied to it.
fn put_store(prepared: &Prepared, bytes: &[u8]) {
    for beside in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(prepared.path(&format!("state/sekisho.db{beside}")));
    }
    std::fs::write(prepared.path("state/sekisho.db"), bytes).expect("the store is written");
}

#[test]
fn an_old_copy_of_the_registry_does_not_un_revoke_while_nobody_looks() {
    let mut prepared = Clinic::builder().prepare();
    let store = |prepared: &Prepared| prepared.path("state/sekisho.db");
    let backup = prepared.path("backup.db");
    std::fs::copy(store(&prepared), &backup).expect("a backup");
    prepared.registry(&["device", "suspend", DOCTOR]);
    prepared = prepared.start().stop();
    let right = std::fs::read(store(&prepared)).expect("the store");
    put_store(&prepared, &std::fs::read(&backup).expect("the old copy"));
    let Err((failure, again)) = prepared.try_start() else { panic!("it serves a device that was suspended") };
    assert_eq!(failure.code, Some(1), "{}", failure.message);
    assert!(failure.message.contains("registry rolled back"), "{}", failure.message);

    // The way out that the runbook tells: the changes are made again, and a log begins beside the old one.
    let mut prepared = *again;
    prepared.registry(&["device", "suspend", DOCTOR]);
    let Err((failure, again)) = prepared.try_start() else { panic!("another history passes for the one recorded") };
    assert_eq!(failure.code, Some(1), "{}", failure.message);
    prepared = *again;
    let redone = std::fs::read(store(&prepared)).expect("the store");
    put_store(&prepared, &right);
    let clinic = prepared.start();
    let rollbacks: Vec<_> = clinic.records().into_iter().filter(|record| is(record, "registry-rollback")).collect();
    assert_eq!(rollbacks.len(), 2, "{rollbacks:#?}");
    assert!(rollbacks[0]["recorded_sequence"].as_u64() > rollbacks[0]["store_sequence"].as_u64());
    let changes: Vec<_> = clinic.records().iter().filter_map(|record| record["registry_sequence"].as_u64()).collect();
    assert_eq!(changes, (1..=changes.len() as u64).collect::<Vec<_>>(), "each change once");
    let _ = clinic.handshake(DOCTOR).refused();

    prepared = clinic.stop();
    put_store(&prepared, &redone);
    prepared.reconfigure(|config| config.set("audit", "directory", "audit-2"));
    let clinic = prepared.start();
    let _ = clinic.handshake(DOCTOR).refused();
    let log = gateway_tests::audit::read_raw(&clinic.prepared.path("audit-2")).expect("a log");
    let redone = log.iter().filter_map(|record| serde_json::from_slice::<serde_json::Value>(record).ok());
    let redone: Vec<_> = redone.filter(|record| is(record, "registry-change")).collect();
    let suspends = redone.iter().filter(|record| text(record, "change").contains("\"verb\":\"suspend\""));
    assert_eq!(suspends.count(), 1, "{redone:#?}");
}

#[test]
fn backends_fetch_the_keys_and_nothing_else_without_a_certificate() {
    let port = TcpListener::bind("127.0.0.3:0").and_then(|l| l.local_addr()).expect("a port");
    let clinic = Clinic::builder().config(|config| config.set("identity", "jwks_listen", port.to_string())).start();
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(port).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let answer = ask("GET /.well-known/sekisho/jwks.json HTTP/1.1\r\nHost: gateway.internal\r\n\r\n");
    let (head, keys) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/jwk-set+json"), "{head}");
    assert_eq!(keys, clinic.admin_get("/.well-known/sekisho/jwks.json").1);
    for page in ["/metrics", "/readyz?verbose", "/livez", "/", "/.well-known/sekisho/jwks.json/../../../metrics"] {
        let answer = ask(&format!("GET {page} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 404"), "{page}: {answer}");
    }
    let answer = ask("POST /.well-known/sekisho/jwks.json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}
