//! Several servers of one service, real ones: killed and revived, sick by their own word, drained, moved to other
//! addresses. Whatever is safe to ask again is answered, and `sekisho backend list` says what is the matter (R19, R20).

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use gateway_tests::audit::{is, text};
use gateway_tests::nginx::Nginx;
use gateway_tests::{Backend, Clinic, DOCTOR, Output, Prepared, Reply, own_address, repository, sekisho, until};
use serde_json::Value;

fn urls(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(|address| format!("http://{address}")).collect()
}

fn seconds(ms: i64) -> toml::Value {
    toml::Value::from(ms)
}

fn backend_command(prepared: &Prepared, arguments: &[&str]) -> Output {
    let config = prepared.path("sekisho.toml");
    sekisho(&[&["backend"], arguments, &["--config", config.to_str().expect("an UTF-8 path")]].concat())
}

/// What `sekisho backend list` says of a server.
fn shown(clinic: &Clinic, server: &str) -> Value {
    let admin = clinic.admin.to_string();
    let output = backend_command(&clinic.prepared, &["list", "--json", "--admin", &admin]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let page: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let all = page["backends"].as_array().expect("a list").clone();
    all.into_iter().find(|backend| backend["backend"] == server).unwrap_or_else(|| panic!("{server} in {page}"))
}

fn wait_for_state(clinic: &Clinic, server: &str, states: &[&str]) -> Value {
    until(&format!("{server} to be {states:?}"), || {
        let backend = shown(clinic, server);
        states.contains(&text(&backend, "state")).then_some(backend)
    })
}

#[test]
fn servers_that_are_killed_and_revived_under_load_lose_no_safe_request() {
    let mut prepared = Clinic::builder().prepare();
    let mut servers = ["one", "two", "three"].map(|name| Nginx::start(&prepared, name));
    let addresses = servers.each_ref().map(|server| server.address);
    prepared.reconfigure(|config| {
        config.set("workers", "count", 2);
        config.set_service("backends", urls(&addresses));
        config.set_service("slow_start_ms", seconds(200));
        config.set_service("eject_ms", seconds(300));
    });
    let clinic = prepared.start();
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Ends the load also where an expectation is broken.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let end = End(&over);
        let wires: Vec<_> = (0..4).map(|_| clinic.wire(DOCTOR)).collect();
        let loads: Vec<_> = wires
            .into_iter()
            .map(|mut wire| {
                let (over, answered) = (&over, &answered);
                scope.spawn(move || {
                    let mut by = std::collections::BTreeMap::<String, usize>::new();
                    while !over.load(Ordering::Relaxed) {
                        let answer = wire.get("/open/x");
                        assert_eq!(answer.status, 200, "{answer:?}");
                        *by.entry(String::from_utf8_lossy(&answer.body).into_owned()).or_default() += 1;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    by
                })
            })
            .collect();
        let more = |count: usize| {
            let before = answered.load(Ordering::Relaxed);
            until("the load to go on", || {
                let broken = loads.iter().any(std::thread::ScopedJoinHandle::is_finished);
                assert!(!broken, "a request was lost");
                (answered.load(Ordering::Relaxed) >= before + count).then_some(())
            });
        };
        more(20);
        for round in 0..6 {
            let victim = &mut servers[round % 3];
            victim.kill();
            more(60);
            victim.revive();
            more(20);
        }
        let name = addresses[2].to_string();
        wait_for_state(&clinic, &name, &["in", "starting"]);
        drop(end);
        let mut by = std::collections::BTreeMap::<String, usize>::new();
        for load in loads {
            for (name, count) in load.join().expect("no request was lost") {
                *by.entry(name).or_default() += count;
            }
        }
        assert_eq!(by.len(), 3, "{by:?}");
    });
    // One that nobody kills any more takes requests again, whatever it takes.
    let mut wire = clinic.wire(DOCTOR);
    until("the first to answer again", || (wire.get("/open/x").body == b"one").then_some(()));
    assert!(clinic.metric("sekisho_backend_errors_total", &[]) > 0.0);
    assert_eq!(clinic.metric("sekisho_requests_total", &[("decision", "permit"), ("status_class", "5xx")]), 0.0);
}

#[test]
fn a_server_says_itself_that_it_is_sick() {
    let mut prepared = Clinic::builder().prepare();
    let servers = ["one", "two"].map(|name| Nginx::start(&prepared, name));
    let addresses = servers.each_ref().map(|server| server.address);
    let check = "kind = \"http\"\npath = \"/health\"\nbody = \"status: up\"\ninterval_ms = 100\nunhealthy_after = 2\nhealthy_after = 2";
    prepared.reconfigure(|config| {
        config.set_service("backends", urls(&addresses));
        config.check_health(check);
    });
    let clinic = prepared.start();
    let one = addresses[0].to_string();
    let mut wire = clinic.wire(DOCTOR);
    until("a check", || (shown(&clinic, &one)["checks_passed"].as_u64() > Some(0)).then_some(()));
    for (file, reason) in [("sick", "status 503"), ("odd", "the body does not have the text")] {
        servers[0].set(file, true);
        let backend = wait_for_state(&clinic, &one, &["unhealthy"]);
        assert_eq!(text(&backend, "reason"), reason);
        assert!(text(&backend, "since").starts_with("20"), "{backend}");
        for _ in 0..20 {
            assert_eq!(wire.get("/open/x").body, b"two");
        }
        let labels = [("backend", &*one), ("state", "unhealthy")];
        assert_eq!(clinic.metric("sekisho_backend_state", &labels), 1.0);
        servers[0].set(file, false);
        wait_for_state(&clinic, &one, &["in", "starting"]);
        until("it to be asked again", || (wire.get("/open/x").body == b"one").then_some(()));
    }
    servers.iter().for_each(|server| server.set("sick", true));
    addresses.iter().for_each(|address| drop(wait_for_state(&clinic, &address.to_string(), &["unhealthy"])));
    let answer = wire.get("/open/x");
    assert_eq!((answer.status, &*answer.problem(), answer.field("retry-after")), (503, "backend-unavailable", "5"));
    assert_eq!(clinic.metric("sekisho_backend_refused_total", &[("reason", "no-server")]), 1.0);
    servers.iter().for_each(|server| server.set("sick", false));
    until("both to serve", || (wire.get("/open/x").status == 200).then_some(()));
}

/// The standard gRPC health service, as its makers wrote it.
struct Grpc {
    child: Child,
    said: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Grpc {
    fn start() -> Self {
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let mut command = Command::new(python);
        command.arg(repository().join("tests/backends/grpc_server.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("Python is installed");
        let mut said = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        said.read_line(&mut line).expect("its address");
        let address = line.trim().parse().unwrap_or_else(|_| panic!("no address: {line}; see tests/requirements.txt"));
        Self { child, said, address }
    }

    fn set(&mut self, name: &str, status: &str) {
        writeln!(self.child.stdin.as_mut().expect("its input"), "{name} {status}").expect("it runs");
        let mut line = String::new();
        self.said.read_line(&mut line).expect("its answer");
        assert_eq!(line.trim(), "ok");
    }
}

impl Drop for Grpc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn grpc_servers_are_asked_by_their_own_protocol_and_others_by_a_connection() {
    let mut prepared = Clinic::builder().prepare();
    let mut grpc = Grpc::start();
    let mut tcp = Nginx::start(&prepared, "tcp");
    let (asked, connected) = (grpc.address.to_string(), tcp.address.to_string());
    let health = "interval_ms = 100\nunhealthy_after = 1\nhealthy_after = 1\n";
    prepared.reconfigure(|config| {
        config.append(&format!(
            "[[service]]\nname = \"reports\"\nbackends = [\"http://{asked}\"]\nhttp2 = true\n[service.health]\nkind = \"grpc\"\n\
             grpc_service = \"clinic.Reports\"\n{health}\
             [[service]]\nname = \"plain\"\nbackends = [\"http://{connected}\"]\n[service.health]\nkind = \"tcp\"\n{health}"
        ));
    });
    let clinic = prepared.start();
    let unknown = wait_for_state(&clinic, &asked, &["unhealthy"]);
    assert_eq!(text(&unknown, "reason"), "gRPC status 5", "it knows no such service yet");
    grpc.set("clinic.Reports", "SERVING");
    wait_for_state(&clinic, &asked, &["in", "starting"]);
    grpc.set("clinic.Reports", "NOT_SERVING");
    assert_eq!(text(&wait_for_state(&clinic, &asked, &["unhealthy"]), "reason"), "not serving");
    grpc.set("-", "NOT_SERVING");
    grpc.set("clinic.Reports", "SERVING");
    wait_for_state(&clinic, &asked, &["in", "starting"]);

    wait_for_state(&clinic, &connected, &["in"]);
    tcp.kill();
    let down = wait_for_state(&clinic, &connected, &["unhealthy"]);
    assert!(text(&down, "reason").contains("refused"), "{down}");
    tcp.revive();
    wait_for_state(&clinic, &connected, &["in", "starting"]);
}

#[test]
fn a_drained_server_ends_what_it_has_and_gets_nothing_new_until_it_is_resumed() {
    let mut prepared = Clinic::builder().prepare();
    let second = Backend::start();
    let addresses = [prepared.backend.address, second.address];
    prepared.reconfigure(|config| config.set_service("backends", urls(&addresses)));
    let clinic = prepared.start();
    let (first_name, second_name) = (addresses[0].to_string(), addresses[1].to_string());
    let held = std::sync::Arc::new(AtomicBool::new(true));
    let is_held = std::sync::Arc::clone(&held);
    clinic.backend().answers(move |seen| {
        while seen.target() == "/open/slow" && is_held.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Reply::new(200, "first")
    });
    second.answers(|_| Reply::new(200, "second"));
    // Until one is under way at the first.
    let mut slow = until("a request at the first", || {
        let mut wire = clinic.wire(DOCTOR);
        let before = second.seen().len();
        wire.send_request("GET", "/open/slow", &[], b"");
        until("it to arrive", || {
            let is_here = clinic.backend().seen().iter().any(|seen| seen.target() == "/open/slow");
            (is_here || second.seen().len() > before).then_some(is_here)
        })
        .then_some(wire)
    });
    let drained = backend_command(
        &clinic.prepared,
        &["drain", "clinical", &format!("http://{first_name}"), "--reason", "new disk"],
    );
    assert_eq!(drained.code, Some(0), "{}", drained.stderr);
    let backend = wait_for_state(&clinic, &first_name, &["drained"]);
    assert!(text(&backend, "reason").ends_with(": new disk"), "{backend}");
    assert_eq!(backend["in_flight"], 1);
    let before = clinic.backend().seen().len();
    let mut wire = clinic.wire(DOCTOR);
    for _ in 0..20 {
        assert_eq!(wire.get("/open/x").body, b"second");
    }
    assert_eq!(clinic.backend().seen().len(), before);
    held.store(false, Ordering::Relaxed);
    assert_eq!(slow.answer().body, b"first", "what was under way ends");
    until("nothing in flight", || (shown(&clinic, &first_name)["in_flight"] == 0).then_some(()));
    clinic.wait_for_record("the drain", |record| {
        is(record, "registry-change") && record.to_string().contains("new disk")
    });

    // A command for people; mistakes change nothing.
    let admin = clinic.admin.to_string();
    let list = backend_command(&clinic.prepared, &["list", "--admin", &admin]).stdout;
    assert!(list.starts_with("SERVICE ") && list.contains("drained") && list.contains(&second_name), "{list}");
    for (arguments, why) in [
        (["drain", "other", &*first_name], "no service `other`"),
        (["drain", "clinical", "127.0.0.1:1"], "no backend `127.0.0.1:1`"),
        (["resume", "clinical", &*second_name], "no backend `clinical"),
    ] {
        let output = backend_command(&clinic.prepared, &arguments);
        assert!(output.code == Some(1) && output.stderr.contains(why), "{arguments:?}: {}", output.stderr);
    }
    assert_eq!(backend_command(&clinic.prepared, &["drain", "clinical", &second_name]).code, Some(0));
    wait_for_state(&clinic, &second_name, &["drained"]);
    let answer = wire.get("/open/x");
    assert_eq!((answer.status, &*answer.problem(), answer.field("retry-after")), (503, "backend-unavailable", "5"));
    assert_eq!(backend_command(&clinic.prepared, &["resume", "clinical", &second_name]).code, Some(0));
    wait_for_state(&clinic, &second_name, &["starting"]);
    assert_eq!(wire.get("/open/x").body, b"second");

    // It outlasts a restart, from the first request on; and so does the configuration's word.
    let mut prepared = clinic.stop();
    prepared.reconfigure(|config| config.set_service("retry_after_s", seconds(7)));
    let clinic = prepared.start();
    let mut wire = clinic.wire(DOCTOR);
    for _ in 0..10 {
        assert_eq!(wire.get("/open/x").body, b"second");
    }
    assert_eq!(backend_command(&clinic.prepared, &["resume", "clinical", &first_name]).code, Some(0));
    wait_for_state(&clinic, &first_name, &["starting", "in"]);
    let mut clinic = clinic;
    clinic.reconfigure(|config| config.set_service("drained", urls(&addresses)));
    assert!(clinic.reload(), "{}", clinic.gateway.said());
    let answer = wire.get("/open/x");
    assert_eq!((answer.status, answer.field("retry-after")), (503, "7"));
    assert_eq!(text(&shown(&clinic, &first_name), "reason"), "configuration");
    let output = backend_command(&clinic.prepared, &["resume", "clinical", &first_name]);
    assert!(output.code == Some(1) && output.stderr.contains("in the configuration"), "{}", output.stderr);
}

/// Two servers on one port of two addresses.
fn twins() -> [(Backend, SocketAddr); 2] {
    until("a port that is free on both", || {
        let first = own_address();
        let second = SocketAddr::from(([127, 48, 0, 1], first.port()));
        let pair = [first, second].map(|address| TcpListener::bind(address).ok().map(Backend::on));
        let [Some(a), Some(b)] = pair else { return None };
        Some([(a, first), (b, second)])
    })
}

#[test]
fn a_name_that_moves_is_followed() {
    let mut prepared = Clinic::builder().prepare();
    let [(old, old_address), (new, new_address)] = twins();
    old.answers(|_| Reply::new(200, "old"));
    new.answers(|_| Reply::new(200, "new"));
    let hosts = |address: SocketAddr| format!("127.0.0.1 localhost\n{} pacs.clinic.test\n", address.ip());
    prepared.write("hosts", hosts(old_address));
    prepared.reconfigure(|config| {
        config.set_service("backends", vec![format!("http://pacs.clinic.test:{}", old_address.port())]);
        config.set_service("resolve_interval_ms", seconds(500));
    });
    // A file of hosts that this process alone sees.
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let file = prepared.path("hosts").to_str().expect("an UTF-8 path").to_owned();
    prepared.run_under(&["unshare", "-m", "--propagation", "private", "sh", "-c", script, &file]);
    let clinic = prepared.start();
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(wire.get("/open/x").body, b"old");
    assert_eq!(old.last().values("host"), [format!("pacs.clinic.test:{}", old_address.port())]);
    // In place: another file would not be the one that is mounted.
    std::fs::write(clinic.prepared.path("hosts"), hosts(new_address)).expect("the file");
    until("the new address to answer", || (wire.get("/open/x").body == b"new").then_some(()));
    let name = format!("pacs.clinic.test:{}", old_address.port());
    assert_eq!(shown(&clinic, &name)["addresses"], serde_json::json!([new_address.to_string()]));
    // A name that is gone leaves its last addresses.
    std::fs::write(clinic.prepared.path("hosts"), "127.0.0.1 localhost\n").expect("the file");
    until("the name to be missed", || {
        shown(&clinic, &name)["last_failure"]["reason"]
            .as_str()
            .is_some_and(|why| why.starts_with("name:"))
            .then_some(())
    });
    assert_eq!(wire.get("/open/x").body, b"new");
}

#[test]
fn a_site_keeps_its_server_and_a_route_its_deadline() {
    let other = "umi-hospital/exam-1";
    let mut prepared = Clinic::builder().device(other, "dr-kato", "doctor").prepare();
    let second = Backend::start();
    let addresses = [prepared.backend.address, second.address];
    prepared.reconfigure(|config| {
        config.set_service("backends", urls(&addresses));
        config.set_service("balance", "site");
        config.set_service("slow_start_ms", seconds(0));
        config.append(
            "[[route]]\nname = \"late\"\npath = \"/late\"\nservice = \"clinical\"\nclass = \"clinical\"\nkind = \"generic\"\n\
             deadline_ms = 300\nrules = [{ methods = [\"GET\"], path = \"/**\", action = \"read\", effect = \"read-only\" }]\n",
        );
    });
    let clinic = prepared.start();
    clinic.backend().answers(|_| Reply::new(200, "first"));
    second.answers(|_| Reply::new(200, "second"));
    for device in [DOCTOR, other] {
        let home = clinic.wire(device).get("/open/x").body;
        for _ in 0..10 {
            assert_eq!(clinic.wire(device).get("/open/x").body, home, "{device}");
        }
        let name = addresses[usize::from(home == b"second")].to_string();
        assert_eq!(backend_command(&clinic.prepared, &["drain", "clinical", &name]).code, Some(0));
        wait_for_state(&clinic, &name, &["drained"]);
        assert_ne!(clinic.wire(device).get("/open/x").body, home);
        assert_eq!(backend_command(&clinic.prepared, &["resume", "clinical", &name]).code, Some(0));
        wait_for_state(&clinic, &name, &["in"]);
        assert_eq!(clinic.wire(device).get("/open/x").body, home, "{device}");
    }
    for backend in [clinic.backend(), &second] {
        backend.answers(|_| Reply::new(200, "late").after(Duration::from_secs(5)));
    }
    let mut wire = clinic.wire(DOCTOR);
    let begun = std::time::Instant::now();
    let answer = wire.get("/late/x");
    assert_eq!((answer.status, &*answer.problem()), (504, "backend-timeout"));
    assert!(begun.elapsed() < Duration::from_secs(5), "before the backend answered");
    assert_eq!(clinic.metric("sekisho_backend_errors_total", &[("reason", "deadline")]), 1.0);
}

#[test]
fn a_person_reads_a_page_where_no_backend_answers_and_a_program_a_problem() {
    let mut prepared = Clinic::builder().prepare();
    let address = prepared.backend.address;
    prepared.reconfigure(|config| config.set_service("drained", urls(&[address])));
    let clinic = prepared.start();
    let mut wire = clinic.wire(DOCTOR);
    let accept = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
    let answer = wire.request("GET", "/open/x", &[("Accept", accept), ("Accept-Language", "ja")], b"");
    assert_eq!((answer.status, answer.field("content-type")), (503, "text/html; charset=utf-8"));
    assert_eq!((answer.field("retry-after"), answer.field("content-language")), ("5", "ja"));
    let page = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(page.contains(answer.field("x-request-id")), "{page}");
    for (method, accept) in [("GET", "application/fhir+json"), ("GET", "*/*"), ("POST", accept)] {
        let answer = wire.request(method, "/open/x", &[("Accept", accept)], b"");
        assert_eq!((answer.status, &*answer.problem()), (503, "backend-unavailable"), "{method} {accept}");
    }
    let reasons = clinic.wait_for_reasons(wire.local());
    assert_eq!(reasons, ["backend-unavailable"; 4]);
}
