//! WireGuard sites: real `wireguard-go` clients in namespaces of their own, side by side (R1, R3, R12 to R15, R27).

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::relay::{Line, Relay};
use gateway_tests::wireguard::{Keys, Machine, public_of};
use gateway_tests::{Clinic, DOCTOR, Reply, until, within};
use serde_json::Value;

const OTHER: &str = "hinode-clinic/ward-3";
/// The gateway's address inside.
const GATEWAY: &str = "10.64.0.1";
const ALL: &[&str] = &["10.64.0.0/10"];
const MTU: u16 = 1360;

/// A clinic with two sites, devices of both of which have tunnels, and machines that have their keys.
struct Tunnels {
    clinic: Clinic,
    key: String,
    port: u16,
}

/// A listener of tunnels, with these keys beside what is required.
fn listener(tunnels: &str, tls: &str) -> String {
    let tls = if tls.is_empty() { String::new() } else { format!("tls = {{ {tls} }}\n") };
    format!(
        "[[listener]]\nname = \"tunnels\"\nkind = \"wireguard\"\naddress = \"0.0.0.0:0\"\n\
         server_names = [\"localhost\", \"{GATEWAY}\"]\n{tls}[listener.wireguard]\n\
         private_key_file = \"state/tunnels.key\"\nendpoint = \"localhost:51820\"\ninside = [\"{GATEWAY}\"]\n\
         ports = [443, 80]\nsite_ranges = [\"10.64.0.0/10\"]\n{tunnels}\n"
    )
}

const TLS: &str = "certificate_file = \"tls/server.crt\", key_file = \"tls/server.key\"";

impl Tunnels {
    fn start(tunnels: &str, tls: &str, machines: &mut [(&str, &str, Option<Machine>)]) -> Self {
        let prepared = Clinic::builder()
            .device(OTHER, "ns-kato", "nurse")
            .config(|config| {
                config.set("workers", "count", 2);
                config.append(&listener(tunnels, tls));
            })
            .prepare();
        for (device, inside, machine) in machines {
            let mut keys = Keys::new();
            let address = inside.parse().expect("an address");
            keys.shared = Some(prepared.add_tunnel_key(device, &keys.public, address));
            *machine = Some(Machine::new(&prepared, inside, keys));
        }
        let clinic = prepared.start();
        let key = std::fs::read_to_string(clinic.prepared.path("state/tunnels.key")).expect("the gateway made a key");
        let key = public_of(key.trim());
        let port = clinic.door_of("tunnels").address.port();
        Self { clinic, key, port }
    }

    /// Two sites, both connected.
    fn two(tunnels: &str, tls: &str) -> (Self, Machine, Machine) {
        let mut machines = [(DOCTOR, "10.64.1.2", None), (OTHER, "10.64.2.2", None)];
        let this = Self::start(tunnels, tls, &mut machines);
        let [one, two] = machines.map(|(_, _, machine)| {
            let mut machine = machine.expect("made above");
            machine.connect(&this.key, this.port, ALL, MTU);
            machine
        });
        (this, one, two)
    }

    /// One site, connected.
    fn one(tunnels: &str, tls: &str) -> (Self, Machine) {
        let mut machines = [(DOCTOR, "10.64.1.2", None)];
        let this = Self::start(tunnels, tls, &mut machines);
        let [(_, _, machine)] = machines;
        let mut machine = machine.expect("made above");
        machine.connect(&this.key, this.port, ALL, MTU);
        (this, machine)
    }

    fn ca(&self) -> String {
        self.clinic.prepared.path("tls/servers-ca.crt").to_str().expect("an UTF-8 path").to_owned()
    }

    /// A request with TLS inside the tunnel: its status, or how curl failed.
    fn get(&self, machine: &Machine, target: &str, more: &[&str]) -> Result<u16, String> {
        let url = format!("https://localhost{target}");
        let to = format!("localhost:443:{GATEWAY}:443");
        let ca = self.ca();
        let fixed = ["--cacert", &ca, "--connect-to", &to, "--output", "/dev/null", "--write-out", "%{http_code}"];
        let (code, said) = machine.curl(&[&fixed, more, &[&url]].concat());
        if code == 0 { Ok(said.parse().expect("a status")) } else { Err(format!("curl {code}: {said}")) }
    }

    /// A transfer with TLS inside that is under way: curl, and the file that it writes.
    fn begin(&self, machine: &Machine, target: &str, more: &[&str]) -> Transfer {
        let url = format!("https://localhost{target}");
        let to = format!("localhost:443:{GATEWAY}:443");
        let (ca, file) = (self.ca(), self.clinic.prepared.path("transfer"));
        drop(File::create(&file));
        let output = file.to_str().expect("an UTF-8 path").to_owned();
        let fixed = ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", "150", "--noproxy", "*"];
        let arguments = ["--cacert", &ca, "--connect-to", &to, "--output", &output];
        let mut command = machine.command(&[&fixed[..], &arguments, more, &[&url]].concat());
        let curl = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("curl is installed");
        Transfer { curl, file }
    }

    /// A session's row of the list for operators.
    fn row(&self, device: &str) -> Option<Value> {
        let (status, page) = self.clinic.admin_get("/tunnels");
        assert_eq!(status, 200, "{page}");
        let rows: Vec<Value> = serde_json::from_str(&page).expect("JSON");
        rows.into_iter().find(|row| format!("{}/{}", text(row, "site"), text(row, "device")) == device)
    }
}

struct Transfer {
    curl: Child,
    file: std::path::PathBuf,
}

impl Transfer {
    fn length(&self) -> u64 {
        std::fs::metadata(&self.file).map_or(0, |metadata| metadata.len())
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

/// The backend answers `/fhir/Binary/big` with so many bytes.
fn serve_big(clinic: &Clinic, length: usize) {
    let body = "0123456789abcdef".repeat(length / 16);
    clinic.backend().answers(move |seen| match seen.target().as_str() {
        "/fhir/Binary/big" => Reply::new(200, &body),
        _ => Reply::new(200, "{}"),
    });
}

/// Two sites' devices ask side by side, are judged as what they are, and the backend is told who asks.
#[test]
fn wireguard_sites_work_side_by_side() {
    let (tunnels, one, two) = Tunnels::two("", TLS);
    let clinic = &tunnels.clinic;
    for machine in [&one, &two] {
        assert_eq!(tunnels.get(machine, "/fhir/Patient/1", &[]), Ok(200));
        assert_eq!(tunnels.get(machine, "/fhir/Patient/1", &["--http1.1"]), Ok(200));
    }
    // A nurse's device may not what a doctor's may.
    assert_eq!(tunnels.get(&one, "/admin/x", &[]), Ok(403));
    let seen = clinic.backend().seen();
    assert_eq!(seen.len(), 4);
    for request in &seen {
        assert!(request.values("client-cert").is_empty(), "nobody showed a certificate");
        assert_eq!(request.values("sekisho-identity").len(), 1);
    }
    for device in [DOCTOR, OTHER] {
        let (site, name) = device.split_once('/').unwrap();
        let opened = clinic.wait_for_record("the connection", |record| {
            is(record, "connection-opened") && text(record, "connection.site") == site
        });
        assert_eq!(text(&opened, "connection.device"), name);
        assert_eq!(text(&opened, "connection.transport"), "wireguard");
        assert_eq!(text(&opened, "connection.tls.version"), "1.3");
        let row = until("the device in the list", || tunnels.row(device).filter(|row| row["up"] == true));
        assert!(row["received_bytes"].as_u64() > Some(1000) && row["last_handshake"].as_u64() > Some(0), "{row}");
    }
    let row = tunnels.row(DOCTOR).unwrap();
    let endpoint: SocketAddr = text(&row, "endpoint").parse().unwrap();
    assert_eq!(endpoint.ip(), one.outside);
    until("two peers that are up", || (clinic.metric("sekisho_tunnel_peers_up", &[]) >= 2.0).then_some(()));
    assert!(clinic.metric("sekisho_tunnel_handshakes_total", &[("outcome", "completed")]) >= 2.0);
}

/// A scan from one site finds the gateway's own ports and nothing else; nothing of it is seen at the other (R14).
#[test]
fn wireguard_passes_nothing_between_sites() {
    let (tunnels, one, two) = Tunnels::two("", TLS);
    let clinic = &tunnels.clinic;
    assert_eq!(tunnels.get(&one, "/fhir/Patient/1", &[]), Ok(200));
    assert_eq!(tunnels.get(&two, "/fhir/Patient/1", &[]), Ok(200));
    // Whatever reaches the other site, its own kernel would answer.
    let capture = clinic.prepared.path("capture");
    let witness = two
        .command(&["tcpdump", "-i", two.interface(), "-n", "-l", "--immediate-mode", "net", "10.64.1.0/24"])
        .stdout(File::create(&capture).unwrap())
        .stderr(File::create(clinic.prepared.path("tcpdump")).unwrap())
        .spawn();
    let mut witness = Witness(witness.expect("tcpdump is installed"));
    let ready = || std::fs::read_to_string(clinic.prepared.path("tcpdump")).unwrap().contains("listening on");
    until("tcpdump", || ready().then_some(()));

    let scan =
        ["nmap", "-n", "-Pn", "-oG", "-", "--max-retries", "1", "--max-rtt-timeout", "200ms", "--min-rate", "500"];
    let gateway = one.output(&[&scan[..], &["-p", "1-200,443,8443,9443", GATEWAY]].concat());
    let gateway = String::from_utf8_lossy(&gateway.stdout).into_owned();
    let open: Vec<&str> = gateway.split([' ', ',', '\t']).filter(|word| word.contains("/open/")).collect();
    assert_eq!(open.len(), 2, "{gateway}");
    assert!(open.iter().all(|port| port.starts_with("80/") || port.starts_with("443/")), "{gateway}");
    let other = one.output(&[&scan[..], &["-p", "22,80,443", "10.64.2.2"]].concat());
    assert!(!String::from_utf8_lossy(&other.stdout).contains("/open/"), "{other:?}");
    // The gateway answers an echo; nobody else does, and not to whoever sends from another's address.
    let ping = |from: &str, to: &str| one.output(&["ping", "-c", "1", "-W", "1", "-I", from, to]).status.success();
    assert!(ping("10.64.1.2", GATEWAY), "the gateway answers");
    assert!(!ping("10.64.1.2", "10.64.2.2"), "another site answers");
    assert!(!ping("10.64.1.2", "10.70.0.1"), "nobody has this address");
    one.ip(&["addr", "add", "10.64.2.2/32", "dev", one.interface()]);
    assert!(!ping("10.64.2.2", GATEWAY), "the gateway answers who sends from another's address");

    let dropped = |reason: &str| clinic.metric("sekisho_tunnel_drops_total", &[("reason", reason)]) > 0.0;
    for reason in ["other-site", "other-address", "spoofed-source", "port"] {
        until(reason, || dropped(reason).then_some(()));
    }
    let record = clinic.wait_for_record("the drops", |record| is(record, "tunnel-drops"));
    assert_eq!((text(&record, "site"), text(&record, "listener")), ("sakura-clinic", "tunnels"), "{record}");
    assert_eq!(tunnels.get(&two, "/fhir/Patient/1", &[]), Ok(200));
    let captured = || std::fs::read_to_string(&capture).unwrap();
    assert_eq!(captured().trim(), "", "the other site saw this");
    // The witness is awake: what leaves the other site for this one it sees.
    assert!(!two.output(&["ping", "-c", "1", "-W", "1", "10.64.1.2"]).status.success());
    until("the witness to see its own side", || captured().contains("10.64.2.2 > 10.64.1.2").then_some(()));
    witness.end();
    let all = captured();
    assert!(!all.contains("10.64.1.2 > "), "the other site saw this: {all}");
}

struct Witness(Child);

impl Witness {
    /// Asks it to write what it has, and waits for its end.
    fn end(&mut self) {
        let id = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::INT);
        let _ = self.0.wait();
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who is suspended in the middle of a transfer gets no byte after a second, and no tunnel; the other site notices nothing (R27).
#[test]
fn wireguard_ends_within_a_second_of_a_suspension() {
    let (tunnels, one, two) = Tunnels::two("", TLS);
    let clinic = &tunnels.clinic;
    clinic.backend().answers(|seen| match seen.target().as_str() {
        "/fhir/Patient/trickle" => Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nonly so much"),
        _ => Reply::new(200, "{}"),
    });
    assert_eq!(tunnels.get(&two, "/fhir/Patient/1", &[]), Ok(200));
    let mut transfer = tunnels.begin(&one, "/fhir/Patient/trickle", &[]);
    until("the transfer to begin", || (transfer.length() > 0).then_some(()));

    clinic.registry(&["device", "suspend", DOCTOR]);
    let begun = Instant::now();
    let closed = clinic.wait_for_record("the connection's end", |record| {
        is(record, "connection-closed") && text(record, "connection.site") == "sakura-clinic"
    });
    assert_eq!(text(&closed, "cause"), "device-suspended", "{closed}");
    let status = until("curl to be told", || transfer.curl.try_wait().expect("curl runs"));
    assert!(begun.elapsed() < Duration::from_secs(1), "told only after {:?}", begun.elapsed());
    assert!(!status.success());
    let more = ["--connect-timeout", "2"];
    assert!(tunnels.get(&one, "/fhir/Patient/1", &more).is_err(), "a suspended device has no tunnel");
    assert_eq!(tunnels.get(&two, "/fhir/Patient/1", &[]), Ok(200));
    until("its session to be gone", || tunnels.row(DOCTOR).is_none_or(|row| row["up"] == false).then_some(()));
    clinic.registry(&["device", "resume", DOCTOR]);
    let again = until("it to be let in again", || tunnels.get(&one, "/fhir/Patient/1", &more).ok());
    assert_eq!(again, 200);
}

/// Whose key is replaced comes by the new one and no longer by the old one, whatever is under way.
#[test]
fn wireguard_ends_with_its_key() {
    let (tunnels, mut one) = Tunnels::one("", TLS);
    let clinic = &tunnels.clinic;
    clinic.backend().answers(|seen| match seen.target().as_str() {
        "/fhir/Patient/trickle" => Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nonly so much"),
        _ => Reply::new(200, "{}"),
    });
    let transfer = tunnels.begin(&one, "/fhir/Patient/trickle", &[]);
    until("the transfer to begin", || (transfer.length() > 0).then_some(()));
    let mut keys = Keys::new();
    keys.shared =
        Some(clinic.prepared.add_tunnel_key(DOCTOR, &keys.public, std::net::Ipv4Addr::new(10, 64, 1, 2).into()));
    let closed = clinic.wait_for_record("the connection's end", |record| is(record, "connection-closed"));
    assert_eq!(text(&closed, "cause"), "tunnel-key-unknown", "{closed}");
    assert!(tunnels.get(&one, "/fhir/Patient/1", &["--connect-timeout", "2"]).is_err(), "the old key opens nothing");
    let unknown = || clinic.metric("sekisho_tunnel_drops_total", &[("reason", "unknown-key")]) > 0.0;
    until("its initiation to be dropped", || unknown().then_some(()));
    one.take_keys(keys, &tunnels.key);
    let again = until("the new key", || tunnels.get(&one, "/fhir/Patient/1", &["--connect-timeout", "5"]).ok());
    assert_eq!(again, 200);
}

/// A client's address and port change in the middle of a transfer, as a NAT's do.
#[test]
fn wireguard_follows_a_client_that_moves() {
    let (tunnels, one) = Tunnels::one("", TLS);
    serve_big(&tunnels.clinic, 16 << 20);
    let mut transfer = tunnels.begin(&one, "/fhir/Binary/big", &["--limit-rate", "8M"]);
    until("the transfer to begin", || (transfer.length() > 100_000).then_some(()));
    one.wg(&["set", one.interface(), "listen-port", "40404"]);
    let so_far = transfer.length();
    until("it to go on", || (transfer.length() > so_far + 200_000).then_some(()));
    let moved = std::net::Ipv4Addr::from(u32::from(one.outside) + 1);
    one.ip(&["addr", "del", &format!("{}/29", one.outside), "dev", "eth0"]);
    one.ip(&["addr", "add", &format!("{moved}/29"), "dev", "eth0"]);
    // Until the client is heard of at its new place, TCP's pauses grow.
    let so_far = transfer.length();
    let goes_on = within(Duration::from_secs(90), || (transfer.length() > so_far + (1 << 20)).then_some(()));
    assert!(goes_on.is_some(), "nothing comes to {moved}");
    let status = until("curl to end", || transfer.curl.try_wait().expect("curl runs"));
    assert!(status.success() && transfer.length() == 16 << 20, "{status:?} after {} bytes", transfer.length());
    let row = until("the new address", || {
        tunnels.row(DOCTOR).filter(|row| text(row, "endpoint") == format!("{moved}:40404"))
    });
    assert_eq!(row["up"], true);
}

/// A certificate inside is the same device's as the tunnel's key, or there is no connection (R1).
#[test]
fn wireguard_key_and_certificate_are_one_devices() {
    let tls = format!("{TLS}, client_ca_file = \"tls/devices-ca.crt\"");
    let (mut tunnels, one) = Tunnels::one("client_certificate = \"optional\"", &tls);
    let certificate = |tunnels: &Tunnels, device: &str| {
        let identity = tunnels.clinic.identity(device);
        let name = device.replace('/', "-");
        let [crt, key] = [format!("{name}.crt"), format!("{name}.key")];
        tunnels.clinic.prepared.write(&crt, &identity.certificate_pem);
        tunnels.clinic.prepared.write(&key, &identity.key_pem);
        [crt, key].map(|file| tunnels.clinic.prepared.path(&file).to_str().unwrap().to_owned())
    };
    let [own_crt, own_key] = certificate(&tunnels, DOCTOR);
    let [other_crt, other_key] = certificate(&tunnels, OTHER);
    let own = ["--cert", &own_crt, "--key", &own_key];
    let other = ["--cert", &other_crt, "--key", &other_key];
    assert_eq!(tunnels.get(&one, "/fhir/Patient/1", &[]), Ok(200));
    assert_eq!(tunnels.get(&one, "/fhir/Patient/1", &own), Ok(200));
    let seen = tunnels.clinic.backend().seen();
    let shown: Vec<_> = seen.iter().map(|request| request.values("client-cert").len()).collect();
    assert_eq!(shown, [0, 1]);
    assert!(tunnels.get(&one, "/fhir/Patient/1", &other).is_err());
    let refusal = tunnels.clinic.wait_for_record("the refusal", |record| is(record, "refusal"));
    assert_eq!(text(&refusal, "reason"), "tunnel-identity", "{refusal}");
    assert!(tunnels.clinic.metric("sekisho_handshakes_total", &[("outcome", "tunnel-identity")]) > 0.0);

    tunnels.clinic.reconfigure(|config| {
        config.clear_appended();
        config.append(&listener("client_certificate = \"required\"", &tls));
    });
    assert!(tunnels.clinic.reload());
    assert!(tunnels.get(&one, "/fhir/Patient/1", &[]).is_err());
    assert_eq!(tunnels.get(&one, "/fhir/Patient/1", &own), Ok(200));
    tunnels.clinic.wait_for_record("the refusal", |record| text(record, "reason") == "certificate-missing");
}

/// Without TLS inside only where the operator says so.
#[test]
fn wireguard_speaks_tls_inside_as_configured() {
    let plain = |machine: &Machine| {
        let url = format!("http://{GATEWAY}/fhir/Patient/1");
        let (code, said) = machine.curl(&["--output", "/dev/null", "--write-out", "%{http_code}", &url]);
        if code == 0 { Ok(said) } else { Err(code) }
    };
    let (mut tunnels, one) = Tunnels::one("", TLS);
    assert!(plain(&one).is_err(), "TLS is required");
    tunnels.clinic.wait_for_record("the refusal", |record| text(record, "reason") == "handshake-failed");
    let mut put = |keys: &str, tls: &str| {
        tunnels.clinic.reconfigure(|config| {
            config.clear_appended();
            config.append(&listener(keys, tls));
        });
        assert!(tunnels.clinic.reload(), "{keys}");
        tunnels.get(&one, "/fhir/Patient/1", &["--http1.1"])
    };
    assert_eq!(put("inside_tls = \"optional\"", TLS), Ok(200));
    assert_eq!(plain(&one), Ok("200".to_owned()));
    assert!(put("inside_tls = \"off\"", "").is_err());
    assert_eq!(plain(&one), Ok("200".to_owned()));
    let asked = tunnels
        .clinic
        .wait_for_record("the request", |record| is(record, "request") && record["connection"].get("tls").is_none());
    assert_eq!(text(&asked, "connection.transport"), "wireguard");
}

/// A line that loses, repeats, reorders and delays carries every byte, both ways.
#[test]
fn wireguard_holds_on_a_bad_line() {
    let mut machines = [(DOCTOR, "10.64.1.2", None)];
    let tunnels = Tunnels::start("", TLS, &mut machines);
    let [(_, _, machine)] = machines;
    let mut one: Machine = machine.unwrap();
    let line = Line { loses: 61, repeats: 37, holds: 23, delay: Duration::from_millis(5) };
    let relay = Relay::start(one.gateway.into(), ([127, 0, 0, 1], tunnels.port).into(), line);
    one.connect(&tunnels.key, relay.address.port(), ALL, MTU);
    let length = 1 << 20;
    serve_big(&tunnels.clinic, length);
    let mut transfer = tunnels.begin(&one, "/fhir/Binary/big", &[]);
    let status = until("curl to end", || transfer.curl.try_wait().expect("curl runs"));
    assert!(status.success() && transfer.length() == length as u64, "{status:?} after {}", transfer.length());
    let upload = format!("@{}", transfer.file.to_str().unwrap());
    let more = ["--data-binary", upload.as_str(), "--header", "Content-Type: application/fhir+json"];
    assert_eq!(tunnels.get(&one, "/fhir/Binary", &more), Ok(200));
    let bodies = tunnels.clinic.backend().seen();
    assert_eq!(bodies.last().unwrap().body, std::fs::read(&transfer.file).unwrap());
    assert!(relay.lost() > 10, "the line lost {}", relay.lost());
}

/// A path of 1280 bytes carries a tunnel that knows nothing of it, both ways.
#[test]
fn wireguard_passes_a_narrow_path() {
    let mut machines = [(DOCTOR, "10.64.1.2", None)];
    let tunnels = Tunnels::start("", TLS, &mut machines);
    let [(_, _, machine)] = machines;
    let mut one: Machine = machine.unwrap();
    one.set_cable_mtu(1280);
    // As `wg-quick` would have it on a path of 1500.
    one.connect(&tunnels.key, tunnels.port, ALL, 1420);
    serve_big(&tunnels.clinic, 4 << 20);
    let mut transfer = tunnels.begin(&one, "/fhir/Binary/big", &[]);
    let status = until("curl to end", || transfer.curl.try_wait().expect("curl runs"));
    assert!(status.success() && transfer.length() == 4 << 20, "{status:?} after {}", transfer.length());
    let upload = format!("@{}", transfer.file.to_str().unwrap());
    let more = ["--data-binary", upload.as_str(), "--header", "Content-Type: application/fhir+json"];
    assert_eq!(tunnels.get(&one, "/fhir/Binary", &more), Ok(200));
}

/// At the end those inside are let finish, and what was written to them arrives.
#[test]
fn wireguard_ends_with_what_is_under_way() {
    let (mut tunnels, one) = Tunnels::one("", TLS);
    tunnels.clinic.backend().answers(|_| Reply::new(200, "late").after(Duration::from_secs(2)));
    let mut transfer = tunnels.begin(&one, "/fhir/Patient/1", &[]);
    until("the request at the backend", || (!tunnels.clinic.backend().seen().is_empty()).then_some(()));
    tunnels.clinic.terminate();
    let status = until("curl to end", || transfer.curl.try_wait().expect("curl runs"));
    assert!(status.success() && std::fs::read(&transfer.file).unwrap() == b"late", "{status:?}");
    assert!(tunnels.clinic.gateway.wait().success());
}
