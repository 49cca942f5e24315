//! Routes by host, path and listener, and `sekisho route explain`, which says what the gateway does (R11, R18): each explanation is
//! compared with what a request really gets. And R18: what patients' listeners may not share with others.

use gateway_tests::{Backend, Clinic, DOCTOR, Output, Prepared, sekisho};

const ROUTES: &str = r#"
[[route]]
name = "everything"
path = "/"
service = "clinical"
class = "clinical"
kind = "generic"
[[route]]
name = "open"
path = "/open"
service = "clinical"
class = "clinical"
kind = "generic"
[[route]]
name = "imaging"
path = "/"
hosts = ["imaging.example"]
service = "imaging"
class = "clinical"
kind = "generic"
[[route]]
name = "open-staff"
path = "/open"
listeners = ["staff"]
service = "imaging"
class = "clinical"
kind = "generic"
"#;

const EVERYBODY: &str = "@id(\"all\") permit(principal, action, resource);";

fn listener(name: &str, tls: &str) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\nserver_names = [\"localhost\", \"{name}.example\"]\n\
         tls = {{ certificate_file = \"tls/server.crt\", key_file = \"tls/server.key\", {tls} }}\n"
    )
}

fn service(name: &str, url: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\nbackends = [\"{url}\"]\n")
}

fn prepared(imaging: &Backend) -> Prepared {
    let url = format!("http://{}", imaging.address);
    Clinic::builder()
        .policy("all.cedar", EVERYBODY)
        .config(|config| {
            config.set_routes(ROUTES);
            config.add_server_name("imaging.example");
            config.append(&listener("staff", "client_ca_file = \"tls/devices-ca.crt\""));
            config.append(&service("imaging", &url));
        })
        .prepare()
}

fn explain(prepared: &Prepared, arguments: &[&str]) -> Output {
    let config = prepared.path("sekisho.toml").display().to_string();
    sekisho(&[&["route", "explain"], arguments, &["--config", &config]].concat())
}

#[test]
fn what_is_explained_is_what_happens() {
    let imaging = Backend::start();
    let clinic = prepared(&imaging).start();
    for (listener, host, path, route) in [
        ("clinics", "localhost", "/other", "everything"),
        ("clinics", "localhost", "/open/x", "open"),
        ("clinics", "imaging.example", "/open/x", "imaging"),
        ("staff", "localhost", "/open/x", "open-staff"),
        ("staff", "localhost", "/other", "everything"),
    ] {
        let door = clinic.door_of(listener);
        let mut wire = door.with(&clinic.identity(DOCTOR)).to(host).open();
        let port = door.address.port();
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"));
        assert_eq!(wire.answer().status, 200, "{listener} {host} {path}");
        let record = clinic.asked_by(&wire).pop().expect("a record");
        assert_eq!(record["route"], route, "{listener} {host} {path}: {record:#}");

        let url = format!("https://{host}:{port}{path}");
        let told = explain(&clinic.prepared, &[&url, "--listener", listener]);
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        let lines: Vec<_> = told.stdout.lines().collect();
        assert_eq!(lines[0], format!("listener {listener}, for devices"), "{}", told.stdout);
        assert!(lines[1].starts_with(&format!("route {route}, ")), "{}", told.stdout);
        assert!(told.stdout.contains(&format!("service {}, backends http://", record["service"].as_str().unwrap())));
        // Every other route, with a reason.
        assert_eq!(lines.iter().filter(|line| line.starts_with("not ")).count(), 3, "{}", told.stdout);
    }
}

#[test]
fn reasons_and_errors_name_the_thing() {
    let imaging = Backend::start();
    let prepared = prepared(&imaging);
    prepared.write_configuration();
    let told = explain(&prepared, &["https://imaging.example/open/x?a=b#c", "--method", "POST"]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    for line in [
        "POST is action create, class clinical, and may change something",
        "policies: every permit without @principal(\"patient\"), and every forbid",
        "not open-staff: it is at staff alone",
        "not open: route imaging comes before it: it names the host",
        "not everything: route imaging comes before it: it names the host",
    ] {
        assert!(told.stdout.lines().any(|told| told == line), "{line}: {}", told.stdout);
    }
    let told = explain(&prepared, &["/open/x", "--listener", "staff"]);
    for line in ["not open: route imaging", "not everything: "] {
        assert!(told.stdout.contains(line), "{line}: {}", told.stdout);
    }
    for (arguments, error) in [
        (
            &["https://nobody.example/"][..],
            "no listener has `nobody.example` among its server_names; there are `clinics`, `staff`",
        ),
        (&["https://localhost/"], "several listeners take that: `clinics`, `staff`; choose one by --listener"),
        (&["https://imaging.example/", "--listener", "staff"], "listener `staff` refuses the host `imaging.example`"),
        (&["/x", "--listener", "stuff"], "there is no listener `stuff`; there are `clinics`, `staff`"),
        (&["ftp://x/", "--listener", "staff"], "`ftp://x/` is neither a URL"),
        (&["/a/../b", "--listener", "staff"], "`/a/../b` is refused before any route: target-not-normal"),
    ] {
        let told = explain(&prepared, arguments);
        assert_eq!(told.code, Some(1), "{arguments:?}: {}", told.stdout);
        assert!(told.stderr.contains(error), "{arguments:?}: {}", told.stderr);
    }
    let told = explain(&prepared, &["/x", "--listener", "staff", "--method", "BREW"]);
    assert_eq!(told.code, Some(1));
    assert!(told.stdout.contains("refused: method-not-allowed"), "{}", told.stdout);
}

#[test]
fn routes_that_collide_or_lead_nowhere_are_refused() {
    let imaging = Backend::start();
    let more = "name = \"more\"\nservice = \"clinical\"\nclass = \"clinical\"\nkind = \"generic\"\n";
    for (keys, error) in [
        ("path = \"/\"\nhosts = [\"imaging.example\"]", "is already the prefix of route `imaging`"),
        ("path = \"/open\"\nlisteners = [\"clinics\", \"staff\"]", "is already the prefix of route `open-staff`"),
        (
            "path = \"/x\"\nlisteners = [\"stuff\"]",
            "`route[4].listeners[0]` is `stuff`; no `[[listener]]` has that name",
        ),
        (
            "path = \"/x\"\nlisteners = [\"staff\"]\nhosts = [\"imaging.example\"]",
            "none of its listeners has that name",
        ),
        ("path = \"/x\"\nhosts = []", "nobody reaches the route"),
    ] {
        let mut prepared = prepared(&imaging);
        prepared.reconfigure(|config| config.set_routes(&format!("{ROUTES}[[route]]\n{more}{keys}\n")));
        prepared.write_configuration();
        let told = explain(&prepared, &["/", "--listener", "staff"]);
        assert_eq!(told.code, Some(1), "{keys}");
        assert!(told.stderr.contains(error), "{keys}: {}", told.stderr);
    }
}

/// A clinic beside whose own door there is one for patients, with a route and a service.
fn with_patients(ca: &str, listeners: &str, service_of: &str, backend: &str) -> Prepared {
    let prepared = Clinic::builder()
        .config(|config| {
            let tls = format!("client_ca_file = \"tls/{ca}.crt\", peers = \"patients\"");
            config.append(&listener("patients", &tls));
            config.append(&service("portal", backend));
            config.append(&format!(
                "[[route]]\nname = \"own\"\npath = \"/own\"\nlisteners = {listeners}\nservice = \"{service_of}\"\n\
                 class = \"clinical\"\nkind = \"fhir\"\n"
            ));
        })
        .prepare();
    let devices = std::fs::read_to_string(prepared.path("tls/devices-ca.crt")).expect("a certificate");
    let servers = std::fs::read_to_string(prepared.path("tls/servers-ca.crt")).expect("a certificate");
    prepared.write("tls/patients-ca.crt", &servers);
    prepared.write("tls/both-ca.crt", servers + &devices);
    prepared
}

#[test]
fn r18_patients_share_nothing() {
    let portal = Backend::start();
    let url = format!("http://{}", portal.address);
    let patients = "[\"patients\"]";
    let clinic = with_patients("patients-ca", patients, "portal", &url).start();
    let told = explain(&clinic.prepared, &["/own/Patient/1", "--listener", "patients"]);
    assert!(told.stdout.contains("listener patients, for patients\nroute own, "), "{}", told.stdout);
    assert!(told.stdout.contains("every permit with @principal(\"patient\")"), "{}", told.stdout);
    assert!(told.stdout.contains("not fhir: it names no listener, and one for patients"), "{}", told.stdout);
    let told = explain(&clinic.prepared, &["/fhir/Patient/1", "--listener", "patients"]);
    assert_eq!((told.code, told.stdout.contains("refused: route-unknown")), (Some(1), true), "{}", told.stdout);
    let told = explain(&clinic.prepared, &["/own/Patient/1", "--listener", "clinics"]);
    assert!(told.stdout.contains("not own: it is at patients alone"), "{}", told.stdout);
    // The same server by its address, by a name, and by another name of this machine.
    let server = clinic.backend().address;
    let alias = format!("http://localhost:{}", server.port());
    for (ca, listeners, service, backend, error) in [
        ("devices-ca", patients, "portal", url.clone(), "is also that of listener `clinics`"),
        (
            "both-ca",
            patients,
            "portal",
            url.clone(),
            "listeners `patients` and `clinics` trust one authority, in two files",
        ),
        (
            "patients-ca",
            "[\"patients\", \"clinics\"]",
            "portal",
            url.clone(),
            "route `own` is at listeners for patients and at others",
        ),
        ("patients-ca", patients, "clinical", url.clone(), "service `clinical` has routes for patients and for others"),
        ("patients-ca", patients, "portal", "server".to_owned(), "is also a server of service `clinical`"),
        ("patients-ca", patients, "portal", "alias".to_owned(), "is also a server of service `clinical`"),
    ] {
        let backend = match backend.as_str() {
            "server" => format!("http://{server}"),
            "alias" => alias.clone(),
            _ => backend,
        };
        let mut prepared = with_patients(ca, listeners, service, &backend);
        let shared = vec![format!("http://{server}")];
        prepared.reconfigure(|config| config.set_service("backends", shared.clone()));
        let (failure, mut prepared) = prepared.try_start().err().expect("it starts");
        assert_eq!(failure.code, Some(1), "{failure:?}");
        assert!(failure.message.contains(error), "{error}: {}", failure.message);
        assert!(failure.message.contains("trust.patients_apart"), "{}", failure.message);
        let config = prepared.path("sekisho.toml").display().to_string();
        let check = sekisho(&["check", &config]);
        assert_eq!(check.code, Some(1), "{error}: {}", check.stdout);
        // In so many words it is let be.
        prepared.reconfigure(|config| config.set("trust", "patients_apart", false));
        assert_eq!(prepared.start().admin_get("/readyz").0, 200);
    }
}
