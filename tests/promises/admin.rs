//! Network operations see the gateway with the tools they have: a real Prometheus scrapes it and loads its alerts,
//! probes get plain answers, and nobody else gets any (R19, C16).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gateway_tests::{Clinic, DOCTOR, repository, until};
use serde_json::Value;
use tempfile::TempDir;

/// A running Prometheus that scrapes one gateway every second. Ended by its process id when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Self {
        let folder = TempDir::with_prefix("prometheus-").expect("a folder");
        let address = gateway_tests::own_address();
        let rules = repository().join("deploy/alerts.yml");
        let configuration = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [ {} ]\nscrape_configs:\n- \
             job_name: sekisho\n  static_configs:\n  - targets: [ \"{target}\" ]\n",
            rules.display()
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, configuration).expect("written");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("Prometheus is installed: tests/run.sh installs it");
        Self { child, address, folder }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `data` of a page of its API, once it answers.
    fn api(&self, target: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        let request = format!("GET /api/v1/{target} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        if !head.contains(" 200 ") {
            return None;
        }
        let page: Value = serde_json::from_str(body).ok()?;
        (page["status"] == "success").then(|| page["data"].clone())
    }

    /// The samples of an instant query, once there are any.
    fn query(&self, expression: &str) -> Vec<Value> {
        let result = || self.api(&format!("query?query={expression}"))?["result"].as_array().cloned();
        let found = gateway_tests::within(Duration::from_secs(30), || result().filter(|found| !found.is_empty()));
        found.unwrap_or_else(|| panic!("nothing for `{expression}`: {}", self.said()))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_it_and_loads_its_alerts() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    for n in 0..5 {
        assert_eq!(wire.get(&format!("/fhir/Patient/{n}")).status, 200);
    }
    let prometheus = Prometheus::start(clinic.admin);
    let info = prometheus.query("sekisho_build_info");
    assert_eq!(info.len(), 1, "{info:#?}");
    assert_eq!(info[0]["value"][1], "1", "{info:#?}");
    assert!(!info[0]["metric"]["version"].as_str().unwrap_or_default().is_empty(), "{info:#?}");
    assert_eq!(prometheus.query("up")[0]["value"][1], "1");
    let requests = prometheus.query("sum(sekisho_requests_total)");
    assert_eq!(requests[0]["value"][1], "5", "{requests:#?}");

    let targets = prometheus.api("targets").expect("its targets");
    let target = &targets["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target:#}");
    let rules = prometheus.api("rules").expect("its rules");
    let rules: Vec<_> = rules["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|group| group["rules"].as_array().cloned())
        .flatten()
        .collect();
    let shipped = std::fs::read_to_string(repository().join("deploy/alerts.yml")).expect("the rules");
    assert_eq!(rules.len(), shipped.lines().filter(|line| line.trim_start().starts_with("- alert:")).count());
    let evaluated = until("every rule to be evaluated", || {
        let rules = prometheus.api("rules")?;
        let rules: Vec<_> = rules["groups"]
            .as_array()?
            .iter()
            .filter_map(|group| group["rules"].as_array())
            .flatten()
            .cloned()
            .collect();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    });
    for rule in &evaluated {
        assert_eq!(rule["health"], "ok", "{rule:#}");
        // Machines that run tests often have nobody who keeps their clock: an alert on the clock is right to fire.
        let name = rule["name"].as_str().unwrap_or_default();
        assert!(rule["state"] != "firing" || name.contains("Clock"), "a healthy gateway raises {rule:#}");
    }
}

#[test]
fn alerts_name_metrics_that_exist() {
    // Some belong to a listener of their kind, and are there from its start.
    let tunnels = "[[listener]]\nname = \"tunnels\"\nkind = \"wireguard\"\naddress = \"127.0.0.1:0\"\n\
        server_names = [\"localhost\"]\n[listener.wireguard]\nprivate_key_file = \"state/tunnels.key\"\n\
        endpoint = \"gw.example:51820\"\ninside = [\"10.64.0.1\"]\nports = [80]\nsite_ranges = [\"10.64.0.0/10\"]\ninside_tls = \"off\"\n";
    let clinic = Clinic::builder().config(|config| {
        config.set_listener("http3", true);
        config.append(tunnels);
    });
    let clinic = clinic.start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let _ = clinic.door.without_certificate().refused();
    let _ = clinic.reload();
    until("the tunnels' metrics", || clinic.metrics().page().contains("sekisho_tunnel_drops_total{").then_some(()));
    let page = clinic.metrics().page().to_owned();
    let shipped = std::fs::read_to_string(repository().join("deploy/alerts.yml")).expect("the rules");
    let words = shipped.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut names: Vec<_> = words.filter(|word| word.starts_with("sekisho_") && *word != "sekisho_").collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 5, "{names:?}");
    // A counter with labels is there once there is something to count.
    let source = std::fs::read_to_string(repository().join("gateway/src/metrics.rs")).expect("the metrics");
    for name in names {
        let short = name.trim_start_matches("sekisho_").trim_end_matches("_bucket");
        assert!(page.contains(name) || source.contains(&format!("\"{short}\"")), "no metric `{name}`");
    }
}

/// The page's lint, as Prometheus' own tool has it.
#[test]
fn the_page_is_what_prometheus_expects() {
    let clinic = Clinic::builder().start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    tool.stdin.take().expect("a pipe").write_all(clinic.metrics().page().as_bytes()).expect("written");
    let output = tool.wait_with_output().expect("it ends");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

#[test]
fn probes_get_plain_answers() {
    let clinic = Clinic::builder().start();
    for probe in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(clinic.admin_get(probe).0, 200, "{probe}");
    }
    let (status, page) = clinic.admin_get("/readyz?verbose");
    assert_eq!(status, 200, "{page}");
    for condition in ["draining", "audit", "clock", "registry"] {
        assert!(page.contains(condition), "{condition} is not in {page}");
    }
    let (_, page) = clinic.admin_get("/.well-known/sekisho/jwks.json");
    let keys: Value = serde_json::from_str(&page).expect("JSON");
    let key = &keys["keys"][0];
    assert_eq!((&key["kty"], &key["crv"]), (&"EC".into(), &"P-256".into()), "{key:#}");
    assert!(key.get("d").is_none(), "the private key is on the page");
}

/// Sends bytes to the admin listener and returns what comes.
fn raw(clinic: &Clinic, request: &str) -> String {
    let mut stream = TcpStream::connect(clinic.admin).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_foreign_host_is_refused_on_every_page() {
    let clinic = Clinic::builder().start();
    for page in ["/metrics", "/readyz?verbose", "/.well-known/sekisho/jwks.json"] {
        for head in ["Host: evil.example\r\n", "Host: 192.0.2.1\r\n", "Host: localhost.evil.example:9443\r\n", ""] {
            let answer = raw(&clinic, &format!("GET {page} HTTP/1.1\r\n{head}Connection: close\r\n\r\n"));
            let refused = answer.starts_with("HTTP/1.1 421") || answer.starts_with("HTTP/1.1 400");
            assert!(refused && !answer.contains("sekisho_") && !answer.contains("kty"), "{page}, {head}: {answer}");
        }
    }
}

#[test]
fn operators_that_say_nothing_hold_nobody_up() {
    let clinic = Clinic::builder().start();
    let silent: Vec<_> = (0..32).map(|_| TcpStream::connect(clinic.admin).expect("a connection")).collect();
    assert_eq!(clinic.admin_get("/livez").0, 200);
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let begun = std::time::Instant::now();
    let mut first = silent.into_iter().next().expect("one");
    first.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let read = first.read_to_end(&mut Vec::new());
    assert!(read.is_ok() && begun.elapsed() < Duration::from_secs(15), "{read:?} after {:?}", begun.elapsed());
}

/// Starts with this admin section and returns the exit code and the message.
fn refuses_to_start(listen: &str, files: &[&str]) -> (Option<i32>, String) {
    let prepared = Clinic::builder()
        .config(|config| {
            config.set("admin", "listen", listen);
            for file in files {
                config.set("admin", file, "tls/server.crt");
            }
        })
        .prepare();
    match prepared.try_start() {
        Err((failure, _)) => (failure.code, failure.message),
        Ok(_) => panic!("it starts with the admin listener on {listen}"),
    }
}

#[test]
fn beyond_loopback_there_is_no_plain_http() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9443"] {
        let (code, message) = refuses_to_start(listen, &[]);
        assert_eq!(code, Some(1), "{listen}: {message}");
        assert!(message.contains("admin"), "{listen}: {message}");
    }
    // Half of mutual TLS is none.
    let (code, message) = refuses_to_start("127.0.0.1:0", &["certificate_file"]);
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("client_ca_file"), "{message}");
}

#[test]
fn the_configuration_is_judged_before_the_start() {
    let mut prepared = Clinic::builder().prepare();
    let operators = gateway_tests::Pki::new();
    let server = prepared.pki.server(&["localhost", "127.0.0.2"]);
    prepared.write("tls/admin.crt", &server.certificate_pem);
    prepared.write("tls/admin.key", &server.key_pem);
    prepared.write("tls/operators-ca.crt", operators.devices_ca_pem());
    let mut check = |listen: &str, with_tls: bool| {
        prepared.reconfigure(|config| {
            config.set("admin", "listen", listen);
            if with_tls {
                config.set("admin", "certificate_file", "tls/admin.crt");
                config.set("admin", "key_file", "tls/admin.key");
                config.set("admin", "client_ca_file", "tls/operators-ca.crt");
            }
        });
        prepared.write_configuration();
        let config = prepared.path("sekisho.toml");
        gateway_tests::sekisho(&["check", config.to_str().expect("UTF-8")])
    };
    // All of 127.0.0.0/8 is this machine.
    assert_eq!(check("127.0.0.2:0", false).code, Some(0));
    assert_eq!(check("192.0.2.1:9443", false).code, Some(1));
    let output = check("192.0.2.1:9443", true);
    assert_eq!(output.code, Some(0), "{output:?}");
}

#[test]
fn operators_come_with_certificates_of_their_own() {
    let mut prepared = Clinic::builder().prepare();
    let operators = gateway_tests::Pki::new();
    let server = prepared.pki.server(&["localhost", "127.0.0.2"]);
    prepared.write("tls/admin.crt", &server.certificate_pem);
    prepared.write("tls/admin.key", &server.key_pem);
    // Of one CA for several purposes: a device of it is no operator.
    prepared.write("tls/operators-ca.crt", operators.devices_ca_pem());
    prepared.reconfigure(|config| {
        config.set("admin", "listen", "127.0.0.2:0");
        config.set("admin", "certificate_file", "tls/admin.crt");
        config.set("admin", "key_file", "tls/admin.key");
        config.set("admin", "client_ca_file", "tls/operators-ca.crt");
    });
    prepared.write_configuration();
    let gateway = gateway_tests::Gateway::spawn(&prepared.path("sekisho.toml"), &[]);
    let (_, admin) = until("the gateway", || gateway_tests::places(&gateway.said()));
    assert_eq!(admin.ip(), std::net::Ipv4Addr::new(127, 0, 0, 2));
    let door = gateway_tests::Door::new(admin, prepared.pki.servers_ca_pem());
    let operator = operators.operator("operations/desk-1");
    let page = until("the operator's page", || {
        let mut wire = door.with(&operator).try_open().ok()?;
        wire.send("GET /metrics HTTP/1.1\r\nHost: gateway.internal.example\r\n\r\n");
        wire.try_answer().ok()
    });
    assert_eq!(page.status, 200, "{}", gateway.said());
    let metrics = String::from_utf8_lossy(&page.body);
    for kind in ["admin", "operator-ca"] {
        let series =
            format!("sekisho_certificate_expiry_timestamp_seconds{{identity=\"\",kind=\"{kind}\",name=\"admin\"}} ");
        assert!(metrics.contains(&series), "{metrics}");
    }
    let server = operators.odd(&gateway_tests::Oddity {
        uris: Vec::new(),
        dns: vec!["desk-2.operations.example".to_owned()],
        usages: vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth],
        ..gateway_tests::Oddity::of("operations/desk-2")
    });
    let (device, theirs) = (prepared.pki.device(DOCTOR), operators.device("operations/desk-1"));
    for (handshake, reason) in [
        (door.with(&device), "certificate-untrusted"),
        (door.with(&theirs), "certificate-purpose"),
        (door.with(&server), "certificate-purpose"),
        (door.without_certificate(), "certificate-missing"),
    ] {
        let refusal = handshake.refused();
        assert!(matches!(refusal, gateway_tests::Refusal::Alert(_)), "{refusal:?}");
        until(reason, || gateway.said().contains(reason).then_some(()));
    }
    assert!(gateway.said().contains("it has a SPIFFE ID"), "{}", gateway.said());
    // Another pair and other anchors are taken without a restart; a pair that cannot be used is not.
    let others = gateway_tests::Pki::new();
    let newcomer = others.operator("operations/desk-3");
    let comes_in = |identity: &gateway_tests::Identity| {
        door.with(identity).try_open().is_ok_and(|mut wire| {
            wire.send("GET /livez HTTP/1.1\r\nHost: gateway.internal.example\r\n\r\n");
            wire.try_answer().is_ok_and(|answer| answer.status == 200)
        })
    };
    assert!(comes_in(&operator) && !comes_in(&newcomer));
    prepared.write("tls/admin.key", "nothing");
    prepared.write("tls/operators-ca.crt", others.devices_ca_pem());
    until("the refusal of the new files", || gateway.said().contains("kept the old certificates").then_some(()));
    assert!(comes_in(&operator) && !comes_in(&newcomer), "half of the new files is none");
    let server = prepared.pki.server(&["localhost", "127.0.0.2"]);
    prepared.write("tls/admin.crt", &server.certificate_pem);
    prepared.write("tls/admin.key", &server.key_pem);
    until("the new operators", || (comes_in(&newcomer) && !comes_in(&operator)).then_some(()));
    // The tools that operators have: curl with a certificate of OpenSSL's making, critical policies included.
    let tools = gateway_tests::openssl::Ca::root("Operators");
    prepared.write("tls/operators-ca.crt", tools.certificate_pem());
    let scraper = tools.issue(
        "prometheus",
        "basicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\nextendedKeyUsage = clientAuth\n\
         certificatePolicies = critical, 1.2.3.4\n",
        &[],
    );
    prepared.write("scraper.crt", &scraper.certificate_pem);
    prepared.write("scraper.key", &scraper.key_pem);
    let file = |name: &str| prepared.path(name).to_str().expect("UTF-8").to_owned();
    until("curl's page", || {
        let url = format!("https://127.0.0.2:{}/metrics", admin.port());
        let arguments = ["-sS", "--cacert", &file("tls/servers-ca.crt"), "--cert", &file("scraper.crt")];
        let output = Command::new("curl").args(arguments).args(["--key", &file("scraper.key"), &url]).output();
        let output = output.expect("curl");
        String::from_utf8_lossy(&output.stdout).contains("sekisho_build_info").then_some(())
    });
    // Plain HTTP gets nothing.
    let mut plain = TcpStream::connect(admin).expect("a connection");
    plain.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
    plain.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.windows(4).any(|window| window == b"HTTP"), "{}", String::from_utf8_lossy(&answer));
}
