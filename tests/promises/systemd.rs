//! What a service manager and the gateway tell each other: signs of life in time, the end of a reload when it is in
//! force (sd_notify(3)), and listening sockets by name (sd_listen_fds(3)). The sockets are passed by systemd's own
//! `systemd-socket-activate`; what the gateway tells goes to a datagram socket as the manager has one.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, read_on, text};
use gateway_tests::{Clinic, DOCTOR, Door, Prepared, own_address, until, within};

const WATCHDOG: Duration = Duration::from_secs(1);

fn manager(prepared: &mut Prepared, more: &[&str]) -> UnixDatagram {
    let path = prepared.path("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let address = format!("NOTIFY_SOCKET={}", path.display());
    prepared.run_under(&[&["env", &address], more].concat());
    socket
}

fn told(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("a message");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn says(message: &str, line: &str) -> bool {
    message.lines().any(|said| said == line)
}

#[test]
fn signs_of_life_come_in_time_and_stop_with_the_gateway() {
    let mut prepared = Clinic::builder().prepare();
    let limit = format!("WATCHDOG_USEC={}", WATCHDOG.as_micros());
    let socket = manager(&mut prepared, &[&limit]);
    let clinic = prepared.start();
    assert!(says(&told(&socket), "READY=1"));
    let mut last = Instant::now();
    let mut signs = 0;
    let end = last + WATCHDOG * 5;
    while Instant::now() < end {
        if says(&told(&socket), "WATCHDOG=1") {
            let silence = last.elapsed();
            assert!(silence < WATCHDOG, "silent for {silence:?}");
            last = Instant::now();
            signs += 1;
        }
        // Load does not keep it from saying so.
        assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    }
    assert!(signs >= 5, "{signs} signs");
    // A process that does not run gives no sign, or the manager would never know.
    clinic.gateway.signal(rustix::process::Signal::STOP);
    socket.set_read_timeout(Some(WATCHDOG * 2)).expect("a timeout");
    let begun = Instant::now();
    while socket.recv(&mut [0; 64]).is_ok() {
        assert!(begun.elapsed() < WATCHDOG, "it is stopped, and gives signs");
    }
    clinic.gateway.signal(rustix::process::Signal::CONT);
    assert!(within(WATCHDOG * 5, || says(&told(&socket), "WATCHDOG=1").then_some(())).is_some());
}

#[test]
fn ready_after_a_reload_means_that_it_is_in_force() {
    let mut prepared = Clinic::builder().prepare();
    let socket = manager(&mut prepared, &[]);
    let mut clinic = prepared.start();
    assert!(says(&told(&socket), "READY=1"));
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let reloads = |clinic: &Clinic| clinic.records().iter().filter(|record| is(record, "reload")).count();
    for (turn, target_bytes) in [(1, 512), (2, 8192)] {
        clinic.reconfigure(|config| config.set_limit("target_bytes", target_bytes));
        let before = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec;
        clinic.gateway.signal(rustix::process::Signal::HUP);
        let reloading = told(&socket);
        assert!(says(&reloading, "RELOADING=1"), "{reloading}");
        let microseconds = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let microseconds: i64 = microseconds.and_then(|text| text.parse().ok()).expect("when it began");
        assert!((before..before + 20).contains(&(microseconds / 1_000_000)), "{before}: {reloading}");
        let ready = told(&socket);
        assert!(says(&ready, "READY=1"), "{ready}");
        // At that moment, and not some time after it.
        assert_eq!(reloads(&clinic), turn, "its record is there");
        let status = clinic.wire(DOCTOR).get(&format!("/fhir/Patient/{}", "1".repeat(600))).status;
        assert_eq!(status == 414, turn == 1, "{status}");
    }
    clinic.terminate();
    assert!(says(&told(&socket), "STOPPING=1"));
    assert_eq!(clinic.gateway.wait().code(), Some(0));
}

/// `systemd-socket-activate` with sockets of these names in front of `sekisho run`.
struct Activated {
    child: Child,
    addresses: Vec<SocketAddr>,
}

impl Activated {
    /// Starts it, and the gateway by a first connection, which is what it waits for.
    fn start(prepared: &Prepared, names: &[&str]) -> Self {
        let log = std::fs::File::create(prepared.path("activated.log")).expect("a file");
        // It takes no port of 0.
        let addresses: Vec<_> = names.iter().map(|_| own_address()).collect();
        let child = Command::new("systemd-socket-activate")
            .args(addresses.iter().flat_map(|address| ["-l".to_owned(), address.to_string()]))
            .arg(format!("--fdname={}", names.join(":")))
            .arg(gateway_tests::binary())
            .arg("run")
            .arg("--config")
            .arg(prepared.path("sekisho.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("systemd is installed");
        until("the sockets", || TcpStream::connect(addresses[0]).ok());
        Self { child, addresses }
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a process listens: by the sockets' inodes, as the kernel's table names them.
fn listens_at(pid: u32) -> BTreeSet<SocketAddr> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its files").flatten();
    let links: Vec<_> = files.filter_map(|file| std::fs::read_link(file.path()).ok()).collect();
    let mut found = BTreeSet::new();
    for row in table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()) {
        let is_its = links.iter().any(|link| link.as_os_str() == &*format!("socket:[{}]", row[9]));
        if row[3] == "0A" && is_its {
            let (address, port) = row[1].split_once(':').expect("an address");
            // The address's bytes as the machine has them, which is backwards.
            let address = u32::from_str_radix(address, 16).expect("hexadecimal").to_le_bytes();
            found.insert((address, u16::from_str_radix(port, 16).expect("hexadecimal")).into());
        }
    }
    found
}

#[test]
fn sockets_are_taken_by_their_names() {
    let prepared = Clinic::builder().prepare();
    prepared.write_configuration();
    // The names in the other order than the configuration has them.
    let activated = Activated::start(&prepared, &["admin", "clinics"]);
    let [admin, clinics] = activated.addresses[..] else { panic!("{:?}", activated.addresses) };
    let handshake = Door::new(clinics, prepared.pki.servers_ca_pem()).with(&prepared.pki.device(DOCTOR));
    let mut wire = until("a handshake", || handshake.try_open().ok());
    assert_eq!(wire.get("/fhir/Patient/1").status, 200, "its port is ours, though no configuration names it");
    let answer = wire.request("GET", "/fhir/Patient/1", &[("Connection", "close")], b"");
    assert_eq!(answer.status, 200);
    let page = admin_page(admin, "/readyz");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(!admin_page(clinics, "/readyz").starts_with("HTTP/1.1 200"), "the sockets are exchanged");
    let mut records = Vec::new();
    read_on(&prepared.path("audit"), &mut records).expect("a good log");
    let opened = records.iter().find(|record| is(record, "connection-opened")).expect("a record");
    assert_eq!(text(opened, "connection.listener"), "clinics");
    // Nothing else is listened on.
    assert_eq!(listens_at(activated.child.id()), BTreeSet::from([admin, clinics]));
}

fn admin_page(address: SocketAddr, target: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut page = Vec::new();
    if stream.write_all(request.as_bytes()).is_ok() {
        let _ = stream.read_to_end(&mut page);
    }
    String::from_utf8_lossy(&page).into_owned()
}

#[test]
fn a_socket_that_nobody_is_named_after_keeps_the_gateway_from_starting() {
    let prepared = Clinic::builder().prepare();
    prepared.write_configuration();
    let mut activated = Activated::start(&prepared, &["clinics", "hospitals"]);
    let status = until("its end", || activated.child.try_wait().expect("a child"));
    assert_eq!(status.code(), Some(1));
    let said = std::fs::read_to_string(prepared.path("activated.log")).expect("a log");
    assert!(said.contains("no listener is named after: hospitals"), "{said}");
}
