//! Load balancers that pass TCP on: a client's address comes by the PROXY protocol, from listed networks alone, before TLS, and
//! counts as if the client had come itself (R11, C6). Backends that ask for it are told in the same way, and never one client's
//! address for another's requests.
//!
//! In front stands HAProxy (`send-proxy-v2`, its health checks on), or curl (`--haproxy-protocol`, version 1); behind, nginx
//! (`listen … proxy_protocol`).

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::{Builder, Clinic, DOCTOR, Door, Handshake, Prepared, connect_from, own_address, until};
use toml::Value;

/// Where load balancers are, and where they are not. Of each /24 one refusal is recorded in full.
const fn listed(number: u8) -> [u8; 4] {
    [127, 2, number, 1]
}

const fn elsewhere(number: u8) -> [u8; 4] {
    [127, 3, number, 1]
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn networks(networks: &[&str]) -> Value {
    Value::from(networks.iter().map(|network| Value::from(*network)).collect::<Vec<_>>())
}

/// A clinic whose load balancers are at [`listed`] addresses.
fn balanced(timeout_ms: i64) -> Builder {
    let keys = [("from", networks(&["127.2.0.0/16"])), ("timeout_ms", Value::from(timeout_ms))];
    let table = toml::Table::from_iter(keys.map(|(key, value)| (key.to_owned(), value)));
    Clinic::builder().config(|config| config.set_listener("proxy_protocol", table))
}

/// A header of version 2 about a client that connected to the listener's own port.
fn header(client: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (SocketAddr::V4(client), SocketAddr::V4(to)) = (client, to) else { panic!("IPv4") };
    let ports = [client.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    [SIGNATURE, &[0x21, 0x11, 0, 12], &client.ip().octets(), &to.ip().octets(), &ports].concat()
}

fn from_listed(clinic: &Clinic, header: &[u8]) -> Handshake {
    clinic.handshake(DOCTOR).from(listed(1)).after(header)
}

fn client(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// The record of a refusal before TLS.
fn refusal(clinic: &Clinic, source: SocketAddr) -> String {
    let record = clinic
        .wait_for_record("a refusal", |record| is(record, "refusal") && text(record, "source") == source.to_string());
    assert_eq!(text(&record, "reason"), "proxy-header", "{record:#}");
    text(&record, "detail").to_owned()
}

#[test]
fn the_address_of_a_listed_header_counts() {
    let clinic = balanced(3000).start();
    let source = client("192.0.2.7:50000");
    let mut wire = from_listed(&clinic, &header(source, clinic.door.address)).open();
    let answer = wire.get("/open/x");
    assert_eq!(answer.status, 200);
    let forwarded = clinic.backend().last().values("forwarded").remove(0);
    assert!(forwarded.starts_with("for=192.0.2.7;"), "{forwarded}");
    let record = clinic.wait_for_record("the request", |record| {
        is(record, "request") && text(record, "request") == answer.field("x-request-id")
    });
    assert_eq!(record["connection"]["source"], source.to_string());
    assert_eq!(record["connection"]["proxy"], wire.local().to_string());
    // From elsewhere nothing is needed, and the address is the connection's.
    let mut direct = clinic.handshake(DOCTOR).from(elsewhere(1)).open();
    assert_eq!(direct.get("/open/x").status, 200);
    let record = clinic.wait_for_record("the request", |record| {
        is(record, "request") && record["connection"]["source"] == direct.local().to_string()
    });
    assert!(record["connection"].get("proxy").is_none(), "{record:#}");
}

#[test]
fn bounds_of_an_address_are_the_clients() {
    let clinic = balanced(3000).limit("connections_per_address", 2).start();
    let open = |address: &str| from_listed(&clinic, &header(client(address), clinic.door.address)).try_open();
    let mut inside: Vec<_> =
        ["192.0.2.7:1", "192.0.2.7:2", "192.0.2.8:1", "192.0.2.8:2"].map(|address| open(address).expect("in")).into();
    for wire in &mut inside {
        assert_eq!(wire.get("/open/x").status, 200);
    }
    assert!(open("192.0.2.7:3").is_err(), "a third of one client is let in");
    let record = clinic.wait_for_record("the refusal", |record| {
        is(record, "refusal") && text(record, "reason") == "too-many-connections"
    });
    assert_eq!(text(&record, "source"), "192.0.2.7:3");
}

#[test]
fn a_header_from_elsewhere_is_refused() {
    let clinic = balanced(3000).start();
    let to = clinic.door.address;
    let v1 = format!("PROXY TCP4 192.0.2.7 {} 5 443\r\n", to.ip()).into_bytes();
    for (number, bytes) in (1..).zip([header(client("192.0.2.7:50000"), to), v1]) {
        let mut stream = connect_from(elsewhere(number), to);
        stream.write_all(&bytes).expect("written");
        let source = stream.local_addr().expect("an address");
        assert!(refusal(&clinic, source).contains("not listed"));
        let handshake = clinic.handshake(DOCTOR).from(elsewhere(number)).after(&bytes);
        assert!(handshake.try_open().is_err(), "it is served");
    }
    assert_eq!(clinic.backend().connections(), 0);
}

#[test]
fn without_a_whole_header_in_time_nobody_comes_in() {
    let clinic = balanced(1000).start();
    let to = clinic.door.address;
    let good = header(client("192.0.2.7:50000"), to);
    let long = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff], &[0; 64]].concat();
    let endless = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
    let short = [SIGNATURE, &[0x21, 0x11, 0, 4], &[192, 0, 2, 7]].concat();
    let datagrams = [&good[..13], &[0x12], &good[14..]].concat();
    let other_version = [&good[..12], &[0x31], &good[13..]].concat();
    let cases = [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00"[..], "does not begin with a header"),
        (b"GET / HTTP/1.1\r\n\r\n", "does not begin with a header"),
        (&long, "longer than 4096"),
        (&endless, "longer than 107"),
        (&short, "malformed"),
        (&datagrams, "datagrams"),
        (&other_version, "malformed"),
        (&good[..20], "did not come in time"),
        (b"", "did not come in time"),
    ];
    for (number, (bytes, detail)) in (2..).zip(cases) {
        let mut stream = connect_from(listed(number), to);
        stream.write_all(bytes).expect("written");
        let begun = Instant::now();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{detail}");
        let told = refusal(&clinic, stream.local_addr().expect("an address"));
        assert!(told.contains(detail), "{told}: {detail}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{detail}");
    }
    // A byte now and then buys no time.
    let mut slow = connect_from(listed(99), to);
    let source = slow.local_addr().expect("an address");
    let mut bytes = good.iter().cycle();
    until("the slow header to be refused", || {
        let _ = slow.write_all(&[*bytes.next().expect("endless")]);
        std::thread::sleep(Duration::from_millis(90));
        let is_told =
            |record: &serde_json::Value| is(record, "refusal") && text(record, "source") == source.to_string();
        clinic.records().iter().any(is_told).then_some(())
    });
    assert!(refusal(&clinic, source).contains("did not come in time"));
    assert_eq!(clinic.backend().connections(), 0);
    let mut wire = from_listed(&clinic, &good).open();
    assert_eq!(wire.get("/open/x").status, 200, "nobody else is served");
}

#[test]
fn a_load_balancers_own_connection_is_its_own() {
    let clinic = balanced(3000).start();
    let to = clinic.door.address;
    let local = [SIGNATURE, &[0x20, 0, 0, 0]].concat();
    let mut wire = from_listed(&clinic, &local).open();
    assert_eq!(wire.get("/open/x").status, 200);
    clinic.wait_for_record("the request", |record| {
        is(record, "request") && record["connection"]["source"] == wire.local().to_string()
    });
    // A header about nobody is of use for a look alone.
    for look in [&local[..], b"PROXY UNKNOWN\r\n", &[SIGNATURE, &[0x21, 0, 0, 0]].concat()] {
        let before = clinic.metric("sekisho_handshakes_total", &[("outcome", "proxy-check")]);
        let mut stream = connect_from(listed(1), to);
        stream.write_all(look).expect("written");
        drop(stream);
        let checked = || clinic.metric("sekisho_handshakes_total", &[("outcome", "proxy-check")]);
        until("the check", || (checked() > before + 0.5).then_some(()));
    }
    assert!(from_listed(&clinic, b"PROXY UNKNOWN\r\n").try_open().is_err(), "nobody is let in");
    let record = clinic.wait_for_record("the refusal", |record| is(record, "refusal"));
    assert!(text(&record, "detail").contains("no address"), "{record:#}");
    assert_eq!(clinic.records().iter().filter(|record| is(record, "refusal")).count(), 1, "checks are not recorded");
}

/// A process that is killed when dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, at: SocketAddr) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let running = Self(child.expect("it is installed: tests/run.sh installs it"));
        until("somebody at its address", || std::net::TcpStream::connect(at).ok());
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_in_front() {
    let clinic = balanced(3000).start();
    let front = own_address();
    let configuration = format!(
        "global\n maxconn 64\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         listen gateway\n bind {front}\n server gw {} send-proxy-v2 check check-send-proxy inter 200 source 127.2.200.1\n",
        clinic.door.address
    );
    clinic.prepared.write("haproxy.cfg", configuration);
    let mut command = Command::new("/usr/sbin/haproxy");
    command.args(["-db", "-f"]).arg(clinic.prepared.path("haproxy.cfg"));
    let _haproxy = Running::start(&mut command, front);
    let door = Door::new(front, clinic.prepared.pki.servers_ca_pem());
    // The request names the load balancer's port.
    let identity = clinic.identity(DOCTOR);
    let mut wire = door.with(&identity).from([127, 0, 0, 9]).open();
    let answer = wire.get("/open/x");
    assert_eq!(answer.status, 200, "{answer:?}");
    let record = clinic.wait_for_record("the request", |record| {
        is(record, "request") && text(record, "request") == answer.field("x-request-id")
    });
    assert_eq!(record["connection"]["source"], wire.local().to_string());
    assert!(
        record["connection"]["proxy"].as_str().is_some_and(|proxy| proxy.starts_with("127.2.200.1:")),
        "{record:#}"
    );
    let checks = || clinic.metric("sekisho_handshakes_total", &[("outcome", "proxy-check")]);
    until("HAProxy's checks", || (checks() > 2.5).then_some(()));
    let is_headers = |record: &serde_json::Value| is(record, "refusal") && text(record, "reason") == "proxy-header";
    assert!(!clinic.records().iter().any(is_headers), "a check is nobody's refusal");
}

#[test]
fn curl_speaks_version_1() {
    let clinic = balanced(3000).start();
    let identity = clinic.identity(DOCTOR);
    clinic.prepared.write("client.crt", &identity.certificate_pem);
    clinic.prepared.write("client.key", &identity.key_pem);
    let path = |name: &str| clinic.prepared.path(name).display().to_string();
    let port = clinic.door.address.port();
    let output = Command::new("curl")
        .args(["-sS", "-o", "/dev/null", "-w", "%{http_code} %{local_port}", "--max-time", "20", "--haproxy-protocol"])
        .args(["--interface", "127.2.201.1", "--cacert", &path("tls/servers-ca.crt")])
        .args(["--cert", &path("client.crt"), "--key", &path("client.key")])
        .args(["--resolve", &format!("localhost:{port}:127.0.0.1"), &format!("https://localhost:{port}/open/x")])
        .output()
        .expect("curl is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let local =
        said.strip_prefix("200 ").unwrap_or_else(|| panic!("{said} {}", String::from_utf8_lossy(&output.stderr)));
    clinic.wait_for_record("the request", |record| {
        is(record, "request") && record["connection"]["source"] == format!("127.2.201.1:{local}")
    });
}

/// nginx that says whose connection a request came over, and over which of its own.
fn nginx(prepared: &Prepared, address: SocketAddr) -> Running {
    let folder = prepared.path("nginx");
    std::fs::create_dir(&folder).expect("a folder");
    let at = folder.display();
    let configuration = format!(
        "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;
         events {{ worker_connections 256; }}
         http {{
           log_format who '$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr $uri';
           access_log {at}/access.log who;
           client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
           uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
           server {{
             listen {address} proxy_protocol;
             location / {{ return 200 '$proxy_protocol_addr:$proxy_protocol_port $connection'; }}
           }}
         }}"
    );
    std::fs::write(folder.join("nginx.conf"), configuration).expect("its configuration");
    let mut command = Command::new("/usr/sbin/nginx");
    Running::start(command.arg("-c").arg(folder.join("nginx.conf")).arg("-p").arg(&folder), address)
}

#[test]
fn nginx_behind_is_told_whose_connection_it_is_and_never_anothers() {
    let address = own_address();
    let mut prepared = balanced(3000).prepare();
    prepared.reconfigure(|config| {
        config.set_service("backends", vec![format!("http://{address}")]);
        config.set_service("proxy_protocol", "v2");
        config.check_health("path = \"/health\"\ninterval_ms = 100");
    });
    let _nginx = nginx(&prepared, address);
    let clinic = prepared.start();
    let asked = |wire: &mut gateway_tests::Wire| {
        let answer = wire.get("/open/x");
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = String::from_utf8(answer.body).expect("text");
        let (client, connection) = text.split_once(' ').expect("two words");
        (client.to_owned(), connection.to_owned())
    };
    // Two clients at one address, one elsewhere, one behind a load balancer: turn by turn over one worker's pool.
    let mut wires = vec![
        clinic.wire(DOCTOR),
        clinic.wire(DOCTOR),
        clinic.handshake(DOCTOR).from(elsewhere(1)).open(),
        from_listed(&clinic, &header(client("192.0.2.7:50000"), clinic.door.address)).open(),
    ];
    let mut own: Vec<String> = wires.iter().map(|wire| wire.local().to_string()).collect();
    own[3] = "192.0.2.7:50000".to_owned();
    let mut first = Vec::new();
    for turn in 0..5 {
        for (place, wire) in wires.iter_mut().enumerate() {
            let (client, connection) = asked(wire);
            assert_eq!(client, own[place], "turn {turn}");
            if turn == 0 {
                first.push(connection);
            } else {
                assert_eq!(connection, first[place], "turn {turn}: its own connection is used again");
            }
        }
    }
    let distinct: std::collections::BTreeSet<_> = first.iter().collect();
    assert_eq!(distinct.len(), 4, "{first:?}");
    // HTTP/2 streams of one client are one client's.
    let mut h2 = clinic.h2(DOCTOR);
    let body = |answer: gateway_tests::Answer| String::from_utf8(answer.body).expect("text");
    let (one, two) = (h2.get("/open/x").map(body).expect("an answer"), h2.get("/open/x").map(body).expect("an answer"));
    assert_eq!(one, two);
    assert!(!own.contains(&one.split(' ').next().expect("a client").to_owned()), "{one}");
    // Health checks are nobody's.
    let log = clinic.prepared.path("nginx/access.log");
    let checks =
        || std::fs::read_to_string(&log).unwrap_or_default().lines().filter(|line| line.ends_with("/health")).count();
    until("a health check", || (checks() > 0).then_some(()));
    let text = std::fs::read_to_string(&log).expect("a log");
    let is_somebodys = |line: &str| own.iter().any(|client| line.starts_with(&format!("{client} ")));
    assert!(text.lines().filter(|line| line.ends_with("/health")).all(|line| !is_somebodys(line)), "{text}");
    assert!(text.lines().any(|line| line.ends_with("/open/x") && is_somebodys(line)), "{text}");
}
