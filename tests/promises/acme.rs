//! A listener gets its own certificate by ACME (RFC 8555) from a real server, Pebble, renews it, keeps the old one where
//! that fails, and opens nothing to whoever validates (RFC 8737; C7, R12, R22).

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use gateway_tests::{Builder, Clinic, DOCTOR, Gateway, Prepared, places, until, within};
use rustix::process::Signal;

const NAMES: [&str; 2] = ["gw.clinic.example", "imaging.clinic.example"];

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

fn tool(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}; tests/run.sh installs it"))
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, arguments: &[&str], setting: (&str, &str)) -> Running {
    let mut command = Command::new(program);
    command.args(arguments).env(setting.0, setting.1).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; tests/run.sh installs it")))
}

/// A gateway whose certificate comes by ACME, and the server that it comes from.
struct World {
    gateway: Gateway,
    admin: SocketAddr,
    port: u16,
    acme: u16,
    management: u16,
    dns: u16,
    prepared: Prepared,
    /// Answers every name with 127.0.0.1.
    _names: Running,
}

impl World {
    fn new(builder: Builder) -> Self {
        let [port, acme, management, dns, dns_management] = std::array::from_fn(|_| free_port());
        let mut prepared = builder.prepare();
        prepared.reconfigure(|config| {
            config.set_server_names(&NAMES);
            config.unset_tls("certificate_file");
            config.unset_tls("key_file");
            config.set_tls("acme", true);
            config.set("acme", "directory_url", format!("https://localhost:{acme}/dir"));
            config.set("acme", "ca_file", "tls/servers-ca.crt");
            config.set("acme", "state_directory", "state/acme");
            config.set("acme", "contact", vec!["mailto:pki@clinic.example"]);
        });
        prepared.write_configuration();
        let file = prepared.path("sekisho.toml");
        let text = fs::read_to_string(&file).expect("the configuration");
        let listener = text.replacen("address = \"127.0.0.1:0\"", &format!("address = \"127.0.0.1:{port}\""), 1);
        assert_ne!(listener, text);
        fs::write(&file, listener).expect("the configuration");
        let (at, management_at) = (format!("127.0.0.1:{dns}"), format!("127.0.0.1:{dns_management}"));
        let quiet = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""];
        let arguments = [&["-dns01", &at, "-management", &management_at], &quiet[..]].concat();
        let names = start("pebble-challtestsrv", &arguments, ("LANG", "C"));
        let gateway = Gateway::spawn(&file, &[]);
        let (_, admin) = until("the gateway to serve", || places(&gateway.said()));
        Self { gateway, admin, port, acme, management, dns, prepared, _names: names }
    }

    fn path(&self, name: &str) -> String {
        self.prepared.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// Starts the ACME server, whose certificates last so long, and which takes its time to validate.
    fn pebble(&self, validity_s: u32, setting: (&str, &str)) -> Running {
        let text = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.acme),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": self.path("tls/server.crt"), "privateKey": self.path("tls/server.key"),
            "httpPort": 1, "tlsPort": self.port, "certificateValidityPeriod": validity_s,
        }});
        self.prepared.write("pebble.json", text.to_string());
        let (file, dns) = (self.path("pebble.json"), format!("127.0.0.1:{}", self.dns));
        let running = start("pebble", &["-config", &file, "-dnsserver", &dns], setting);
        let root = until("the ACME server", || {
            let url = format!("https://localhost:{}/roots/0", self.management);
            let got = tool("curl", &["-sS", "--cacert", &self.path("tls/servers-ca.crt"), &url]);
            got.status.success().then_some(got.stdout)
        });
        self.prepared.write("pebble-root.pem", root);
        running
    }

    /// Whoever has mended something need not wait.
    fn reload(&self) {
        self.gateway.signal(Signal::HUP);
    }

    fn admin_get(&self, target: &str) -> (u16, String) {
        let got = tool("curl", &["-sS", "-w", "\n%{http_code}", &format!("http://{}{target}", self.admin)]);
        let text = String::from_utf8_lossy(&got.stdout).into_owned();
        let (page, status) = text.rsplit_once('\n').expect("a status");
        (status.parse().expect("a status"), page.to_owned())
    }

    fn ready(&self) -> u16 {
        self.admin_get("/readyz").0
    }

    fn orders(&self, outcome: &str) -> u32 {
        let (_, page) = self.admin_get("/metrics");
        let line = format!("sekisho_acme_orders_total{{listener=\"clinics\",outcome=\"{outcome}\"}} ");
        page.lines().find_map(|shown| shown.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
    }

    /// What `openssl s_client` sees, with a request on its way.
    fn s_client(&self, more: &[&str]) -> (bool, String) {
        let to = format!("127.0.0.1:{}", self.port);
        let script = "{ printf 'GET /fhir/Patient/1 HTTP/1.1\\r\\nHost: gw.clinic.example\\r\\n\\r\\n'; sleep 1; } | \
                      openssl s_client -ign_eof -connect \"$0\" \"$@\" 2>&1";
        let out = tool("sh", &[&["-c", script, &to], more].concat());
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// The serial number of the certificate that is shown for a name, once its chain was verified.
    fn serial(&self, name: &str) -> Option<String> {
        let (ca, root) = (self.path("pebble-root.pem"), ["-brief", "-verify_return_error", "-servername", name]);
        let host = ["-verify_hostname", name, "-CAfile", &ca];
        let shown = self.s_client(&[&host[..], &root[1..], &["-showcerts"]].concat()).1;
        if !shown.contains("Verify return code: 0 (ok)") {
            return None;
        }
        let begin = shown.find("-----BEGIN CERTIFICATE")?;
        let end = shown.find("-----END CERTIFICATE-----")? + 26;
        self.prepared.write("shown.pem", &shown[begin..end]);
        let serial = tool("openssl", &["x509", "-noout", "-serial", "-in", &self.path("shown.pem")]);
        Some(String::from_utf8_lossy(&serial.stdout).into_owned())
    }

    /// The status of a device's request.
    fn asks(&self, name: &str) -> Option<String> {
        let identity = self.prepared.pki.device(DOCTOR);
        self.prepared.write("device.crt", &identity.certificate_pem);
        self.prepared.write("device.key", &identity.key_pem);
        let (ca, certificate, key) = (self.path("pebble-root.pem"), self.path("device.crt"), self.path("device.key"));
        let to = format!("{name}:{}:127.0.0.1", self.port);
        let url = format!("https://{name}:{}/fhir/Patient/1", self.port);
        let arguments = ["-sS", "--cacert", &ca, "--cert", &certificate, "--key", &key, "--resolve", &to];
        let got = tool("curl", &[&arguments[..], &["-o", "/dev/null", "-w", "%{http_code}", &url]].concat());
        got.status.success().then(|| String::from_utf8_lossy(&got.stdout).into_owned())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gateway said: {}", self.gateway.said());
        }
    }
}

#[test]
fn a_certificate_comes_and_is_renewed_and_stays_where_that_fails() {
    let world = World::new(Clinic::builder());
    // Closed until there is one, and no other certificate stands in.
    let (status, page) = world.admin_get("/readyz?verbose");
    assert_eq!(status, 503, "{page}");
    assert!(page.contains("listener `clinics`: no certificate for `gw.clinic.example`"), "{page}");
    let (_, shown) = world.s_client(&["-servername", NAMES[0]]);
    assert!(shown.contains("no peer certificate available"), "{shown}");
    until("a failed order", || (world.orders("failed") > 0).then_some(()));
    let (_, page) = world.admin_get("/readyz?verbose");
    assert!(page.contains("acme-failing: listener `clinics`: ACME server `localhost`: cannot connect"), "{page}");

    let server = world.pebble(30, ("PEBBLE_VA_NOSLEEP", "1"));
    world.reload();
    until("the gateway to be ready", || (world.ready() == 200).then_some(()));
    let first = world.serial(NAMES[0]).expect("a certificate");
    assert_eq!(world.serial(NAMES[1]).as_ref(), Some(&first), "one certificate for all names");
    assert_eq!(world.asks(NAMES[0]).as_deref(), Some("200"));
    assert_eq!(world.asks(NAMES[1]).as_deref(), Some("200"));
    assert_eq!(world.orders("issued"), 1);
    assert!(!world.admin_get("/readyz?verbose").1.contains("acme-failing"));
    let expiry = "sekisho_certificate_expiry_timestamp_seconds{identity=\"gw.clinic.example\",kind=\"server\"";
    assert!(world.admin_get("/metrics").1.contains(expiry));
    let mode = |name: &str| fs::metadata(world.path(name)).expect("a file").permissions().mode() & 0o777;
    let state = "state/acme/clinics/current";
    assert_eq!((mode("state/acme"), mode("state/acme/clinics"), mode(state)), (0o700, 0o700, 0o700));
    assert_eq!((mode(&format!("{state}/key.pem")), mode("state/acme/account.json")), (0o600, 0o600));

    // Two thirds of its life later there is another, with another key.
    let key = fs::read(world.path(&format!("{state}/key.pem"))).expect("a key");
    let second = within(Duration::from_secs(28), || world.serial(NAMES[0]).filter(|serial| *serial != first));
    let second = second.expect("a renewal before the end");
    assert_ne!(fs::read(world.path(&format!("{state}/key.pem"))).expect("a key"), key);
    assert_eq!(world.asks(NAMES[0]).as_deref(), Some("200"));

    // The server is gone at the next one: the old one stays, and somebody is told.
    let failed = world.orders("failed");
    drop(server);
    let told = within(Duration::from_secs(28), || (world.orders("failed") > failed).then_some(()));
    told.expect("an order that fails");
    assert_eq!(world.serial(NAMES[0]).as_ref(), Some(&second));
    assert!(world.admin_get("/readyz?verbose").1.contains("acme-failing"));
    assert_eq!(world.ready(), 200);
    assert!(world.gateway.said().contains("the old one stays"), "{}", world.gateway.said());

    // Another server, that has never heard of the account.
    let _server = world.pebble(3_600, ("PEBBLE_VA_NOSLEEP", "1"));
    world.reload();
    let next = until("another certificate", || world.serial(NAMES[0]).filter(|serial| *serial != second));
    assert_eq!(world.serial(NAMES[1]).as_ref(), Some(&next));
    until("no more complaint", || (!world.admin_get("/readyz?verbose").1.contains("acme-failing")).then_some(()));
}

#[test]
fn whoever_validates_gets_a_handshake_and_nothing_else() {
    let world = World::new(Clinic::builder());
    // The names are under validation for so long.
    let _server = world.pebble(3_600, ("PEBBLE_VA_SLEEPTIME", "12"));
    world.reload();
    let validating = ["-alpn", "acme-tls/1", "-servername", NAMES[0]];
    let tickets = world.path("tickets");
    let shown = until("a validation under way", || {
        let (_, shown) = world.s_client(&[&validating[..], &["-showcerts", "-sess_out", &tickets]].concat());
        shown.contains("ALPN protocol: acme-tls/1").then_some(shown)
    });
    // The request that followed the handshake was not answered, there is no ticket, nobody was asked for a certificate.
    assert!(!shown.contains("HTTP/1.1"), "{shown}");
    assert!(shown.contains("No client certificate CA names sent"), "{shown}");
    assert!(!fs::exists(&tickets).expect("a folder"), "a ticket was given");
    let begin = shown.find("-----BEGIN CERTIFICATE").expect("a certificate");
    let end = shown.find("-----END CERTIFICATE-----").expect("a certificate") + 26;
    world.prepared.write("validation.pem", &shown[begin..end]);
    let read = tool("openssl", &["x509", "-noout", "-text", "-in", &world.path("validation.pem")]);
    let read = String::from_utf8_lossy(&read.stdout).into_owned();
    assert!(read.contains("1.3.6.1.5.5.7.1.31: critical") && read.contains("DNS:gw.clinic.example"), "{read}");

    // A device's certificate buys nothing there.
    let identity = world.prepared.pki.device(DOCTOR);
    world.prepared.write("d.crt", &identity.certificate_pem);
    world.prepared.write("d.key", &identity.key_pem);
    let (certificate, key) = (world.path("d.crt"), world.path("d.key"));
    let device = ["-cert", &certificate, "-key", &key];
    let (_, shown) = world.s_client(&[&validating[..], &device].concat());
    assert!(shown.contains("ALPN protocol: acme-tls/1") && !shown.contains("HTTP/1.1"), "{shown}");

    // Any other offer goes the usual way, which is closed: there is no certificate yet.
    for other in [
        &["-alpn", "acme-tls/1,http/1.1", "-servername", NAMES[0]][..],
        &["-alpn", "http/1.1,acme-tls/1", "-servername", NAMES[0]],
        &["-alpn", "acme-tls/1", "-servername", "elsewhere.example"],
        &["-alpn", "acme-tls/1", "-noservername"],
        &["-servername", NAMES[0]],
    ] {
        let (_, shown) = world.s_client(&[other, &device].concat());
        assert!(
            !shown.contains("acme-tls/1\n") && shown.contains("no peer certificate available"),
            "{other:?}: {shown}"
        );
    }
    assert!(world.prepared.backend.seen().is_empty());

    // Validated, nobody is answered any more, and devices are.
    until("the gateway to be ready", || (world.ready() == 200).then_some(()));
    let (_, shown) = world.s_client(&[&validating[..], &device].concat());
    assert!(shown.contains("no peer certificate available") || shown.contains("no application protocol"), "{shown}");
    assert!(!shown.contains("ALPN protocol: acme-tls/1"), "{shown}");
    assert_eq!(world.asks(NAMES[0]).as_deref(), Some("200"));
    let (_, page) = world.admin_get("/metrics");
    assert!(page.contains("outcome=\"acme-validation\""), "{page}");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let mut prepared = Clinic::builder().prepare();
    prepared.reconfigure(|config| config.set_tls("acme", true));
    let said = |prepared: &Prepared| {
        prepared.write_configuration();
        let file = prepared.path("sekisho.toml");
        let output = gateway_tests::sekisho(&["check", file.to_str().expect("UTF-8")]);
        format!("{}{}", output.stdout, output.stderr)
    };
    let told = said(&prepared);
    assert!(told.contains("`listener[0].tls.certificate_file` stands beside `listener[0].tls.acme`"), "{told}");
    assert!(told.contains("needs the table `[acme]`"), "{told}");
    prepared.reconfigure(|config| {
        config.unset_tls("certificate_file");
        config.unset_tls("key_file");
        config.set_server_names(&["127.0.0.1"]);
        config.set("acme", "directory_url", "http://acme.example/dir");
        config.set("acme", "state_directory", "state/acme");
    });
    let told = said(&prepared);
    assert!(told.contains("needs a host name in `server_names`"), "{told}");
    assert!(told.contains("`acme.ca_file` is missing") && told.contains("it must be an `https` URL"), "{told}");
    prepared.reconfigure(|config| {
        config.set_server_names(&NAMES);
        config.set("acme", "directory_url", "https://acme.example/dir");
        config.set("acme", "ca_file", "tls/servers-ca.crt");
    });
    let told = said(&prepared);
    assert!(!told.contains("acme"), "{told}");
}
