//! What an operator is told is what is so: metrics, readiness, systemd and messages (R19, R20).

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use gateway_tests::{Clinic, DOCTOR, until};

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
