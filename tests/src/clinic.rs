//! A clinic in a folder of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use gateway_audit::reviewer::statement::Statement;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::audit::{self, text};
use crate::backend::Backend;
use crate::config::Config;
use crate::door::{Door, Handshake};
use crate::h2::{Client, Frames};
use crate::http1::Wire;
use crate::metrics::Metrics;
use crate::pki::{Identity, Pki};
use crate::process::{Failure, Gateway, Output, sekisho};
use crate::wait::{PATIENCE, until, within};

/// The device that every clinic has: its user is a doctor.
pub const DOCTOR: &str = "sakura-clinic/exam-1";

/// Roles of the example policies.
const ROLES: &[&str] = &["doctor", "nurse", "pharmacist", "clerk", "kiosk"];

/// The gateway chooses a free port itself and says which: nobody else can take it in between.
const ANY_PORT: &str = "127.0.0.1:0";

struct Device {
    name: String,
    user: Option<String>,
    user_role: Option<String>,
    roles: Vec<String>,
}

/// What a clinic is made of.
pub struct Builder {
    config: Config,
    devices: Vec<Device>,
    policies: Vec<(String, String)>,
    wrapper: Vec<String>,
}

impl Builder {
    /// Changes the configuration.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// A limit of the listener.
    #[must_use]
    pub fn limit(self, key: &str, value: impl Into<toml::Value>) -> Self {
        self.config(|config| config.set_limit(key, value))
    }

    /// Registers a device, `site/device`, for a user with a role.
    #[must_use]
    pub fn device(mut self, device: &str, user: &str, role: &str) -> Self {
        self.devices.push(Device {
            name: device.to_owned(),
            user: Some(user.to_owned()),
            user_role: Some(role.to_owned()),
            roles: Vec::new(),
        });
        self
    }

    /// Registers a device without a user, with roles of its own.
    #[must_use]
    pub fn device_alone(mut self, device: &str, roles: &[&str]) -> Self {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        self.devices.push(Device { name: device.to_owned(), user: None, user_role: None, roles });
        self
    }

    /// Takes these policies instead of the example's: file name and text.
    #[must_use]
    pub fn policy(mut self, file: &str, text: &str) -> Self {
        self.policies.push((file.to_owned(), text.to_owned()));
        self
    }

    /// Runs the gateway under a command such as `strace` with its options.
    #[must_use]
    pub fn under(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|&part| part.to_owned()).collect();
        self
    }

    /// Makes the folder and everything in it, and does not start the gateway.
    #[must_use]
    pub fn prepare(self) -> Prepared {
        Prepared::new(self)
    }

    /// Makes everything and starts the gateway.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn start(self) -> Clinic {
        self.prepare().start()
    }
}

/// A clinic whose gateway does not run.
pub struct Prepared {
    folder: TempDir,
    /// The authorities.
    pub pki: Pki,
    /// The backend of the service `clinical`.
    pub backend: Backend,
    config: Config,
    wrapper: Vec<String>,
}

impl Prepared {
    fn new(builder: Builder) -> Self {
        let folder = TempDir::with_prefix("sekisho-").expect("a folder");
        let pki = Pki::new();
        let backend = Backend::start();
        let mut config = builder.config;
        config.set_service("backends", vec![format!("http://{}", backend.address)]);
        let prepared = Self { folder, pki, backend, config, wrapper: builder.wrapper };
        for name in ["tls", "policy", "state", "audit"] {
            std::fs::create_dir(prepared.path(name)).expect("a folder");
        }
        let names: Vec<_> = prepared.config.server_names().iter().map(String::as_str).collect();
        let server = prepared.pki.server(&names);
        prepared.write("tls/server.crt", &server.certificate_pem);
        prepared.write("tls/server.key", &server.key_pem);
        prepared.write("tls/devices-ca.crt", prepared.pki.devices_ca_pem());
        prepared.write("tls/servers-ca.crt", prepared.pki.servers_ca_pem());
        prepared.seal();
        prepared.write_policies(&builder.policies);
        prepared.register(&builder.devices);
        prepared
    }

    /// A path in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only its owner may read.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    }

    /// Changes the configuration for the next start or reload.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
    }

    /// Runs the gateway under another command from its next start on; empty for none.
    pub fn run_under(&mut self, command: &[&str]) {
        self.wrapper = command.iter().map(|&part| part.to_owned()).collect();
    }

    /// A command on the registry, such as `["device", "suspend", DOCTOR]`.
    ///
    /// # Panics
    /// If it fails.
    pub fn registry(&self, arguments: &[&str]) -> Output {
        let output = self.try_registry(arguments);
        assert_eq!(output.code, Some(0), "sekisho {}: {}{}", arguments.join(" "), output.stdout, output.stderr);
        output
    }

    /// A command on the registry that may fail.
    #[must_use]
    pub fn try_registry(&self, arguments: &[&str]) -> Output {
        let store = self.path("state/sekisho.db");
        let store = store.to_str().expect("an UTF-8 path");
        sekisho(&[arguments, &["--store", store]].concat())
    }

    /// Gives a registered device a key of tunnels and an address inside, of its site's range `/24` or `/64`; returns what it shares with the
    /// gateway.
    ///
    /// # Panics
    /// If the registry takes it not.
    #[must_use]
    pub fn add_tunnel_key(&self, device: &str, public_key: &str, inside: IpAddr) -> String {
        let (site, _) = device.split_once('/').expect("site/device");
        let range = match inside {
            IpAddr::V4(inside) => format!("{}/24", Ipv4Addr::from(u32::from(inside) & !0xff)),
            IpAddr::V6(inside) => format!("{}/64", Ipv6Addr::from(u128::from(inside) & !u128::from(u64::MAX))),
        };
        self.registry(&["site", "set", site, "--inside", &range]);
        self.write_configuration();
        let config = self.path("sekisho.toml");
        let config = config.to_str().expect("an UTF-8 path");
        let inside = inside.to_string();
        let key =
            ["device", "key", "new", device, "--public-key", public_key, "--address", &inside, "--config", config];
        let output = sekisho(&key);
        assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
        let shared = output.stdout.lines().find_map(|line| line.strip_prefix("PresharedKey = "));
        shared.unwrap_or_else(|| panic!("no preshared key in {}", output.stdout)).to_owned()
    }

    /// Starts the gateway and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn start(self) -> Clinic {
        self.try_start().unwrap_or_else(|(failure, _)| panic!("the gateway does not start: {failure:?}"))
    }

    /// Starts the gateway and waits until it is ready.
    ///
    /// # Errors
    /// How it ended instead, and the clinic to try again with.
    ///
    /// # Panics
    /// If it neither ends nor becomes ready.
    pub fn try_start(self) -> Result<Clinic, (Failure, Box<Self>)> {
        self.write_configuration();
        let wrapper: Vec<_> = self.wrapper.iter().map(String::as_str).collect();
        let said_before = std::fs::read(self.path("sekisho.log")).map_or(0, |log| log.len());
        let mut gateway = Gateway::spawn(&self.path("sekisho.toml"), &wrapper);
        let started = until("the gateway to be ready", || match gateway.ended() {
            Some(status) => Some(Err(status)),
            None => {
                let places = places(&gateway.said()[said_before..])?;
                (admin_get(places.1, "/readyz", PATIENCE)?.0 == 200).then_some(Ok(places))
            }
        });
        let (listen, admin) = match started {
            Ok(places) => places,
            Err(status) => {
                let message = gateway.said().split_off(said_before);
                return Err((Failure { code: status.code(), message }, Box::new(self)));
            }
        };
        let door = Door::new(listen, self.pki.servers_ca_pem());
        let (identities, known) = (RefCell::default(), RefCell::default());
        Ok(Clinic { door, admin, gateway, prepared: self, identities, known })
    }

    /// What `sekisho audit init` makes, for the reviewer of every clinic.
    fn seal(&self) {
        let key = audit::reviewer();
        let reviewers = vec![key.public().clone()];
        let domain = crate::pki::TRUST_DOMAIN.to_owned();
        let first = Statement { domain, site: None, number: 1, previous: None, reviewers };
        for folder in ["state/audit-keys", "state/audit-reviewers", "state/audit-reviewers/@default"] {
            std::fs::create_dir(self.path(folder)).expect("a folder");
        }
        self.write("state/audit-reviewers/@default/1", first.sign(key.signing()).expect("a statement"));
        self.write("state/audit-keys/pseudonym.key", [9; 32]);
    }

    /// Writes the configuration's file as it is now.
    pub fn write_configuration(&self) {
        self.write("sekisho.toml", self.config.render(ANY_PORT, ANY_PORT));
    }

    fn write_policies(&self, policies: &[(String, String)]) {
        for (file, text) in policies {
            self.write(&format!("policy/{file}"), text);
        }
        if policies.is_empty() {
            for file in ["roles.cedar", "limits.cedar"] {
                let example = repository().join("policy/examples/clinic").join(file);
                self.write(&format!("policy/{file}"), std::fs::read(example).expect("the example's policies"));
            }
        }
    }

    fn register(&self, devices: &[Device]) {
        for role in ROLES {
            self.registry(&["role", "add", role]);
        }
        let mut sites = Vec::new();
        let mut users = Vec::new();
        for device in devices {
            let site = device.name.split('/').next().expect("site/device");
            if !sites.contains(&site) {
                sites.push(site);
                self.registry(&["site", "add", site]);
            }
            let mut arguments = vec!["device", "add", &device.name];
            if let (Some(user), Some(role)) = (&device.user, &device.user_role) {
                let id = format!("{site}/{user}");
                if !users.contains(&id) {
                    self.registry(&["user", "add", &id, "--role", role]);
                    users.push(id);
                }
                arguments.extend(["--user", user]);
            }
            for role in &device.roles {
                arguments.extend(["--role", role]);
            }
            self.registry(&arguments);
        }
    }
}

/// A clinic whose gateway runs. Ended and removed when dropped.
pub struct Clinic {
    /// The listener.
    pub door: Door,
    /// The admin listener.
    pub admin: SocketAddr,
    /// The process.
    pub gateway: Gateway,
    /// The folder and what is in it.
    pub prepared: Prepared,
    identities: RefCell<BTreeMap<String, Identity>>,
    known: RefCell<Vec<Value>>,
}

impl Clinic {
    /// A clinic with one site and one doctor, the example's policies and a backend that answers 200.
    #[must_use]
    pub fn builder() -> Builder {
        let builder =
            Builder { config: Config::default(), devices: Vec::new(), policies: Vec::new(), wrapper: Vec::new() };
        builder.device(DOCTOR, "dr-sato", "doctor")
    }

    /// Another listener of the configuration, by its name.
    ///
    /// # Panics
    /// If the gateway does not say where it is.
    #[must_use]
    pub fn door_of(&self, name: &str) -> Door {
        let address = listener_in(&self.gateway.said(), name).expect("a listener of that name");
        Door::new(address, self.prepared.pki.servers_ca_pem())
    }

    /// The backend.
    #[must_use]
    pub const fn backend(&self) -> &Backend {
        &self.prepared.backend
    }

    /// The authorities.
    #[must_use]
    pub const fn pki(&self) -> &Pki {
        &self.prepared.pki
    }

    /// The certificate of a device, the same each time.
    #[must_use]
    pub fn identity(&self, device: &str) -> Identity {
        let mut identities = self.identities.borrow_mut();
        identities.entry(device.to_owned()).or_insert_with(|| self.prepared.pki.device(device)).clone()
    }

    /// The files of a device, for programs: the authority of the gateway's certificate, its own certificate and its key.
    #[must_use]
    pub fn identity_files(&self, device: &str) -> [PathBuf; 3] {
        let identity = self.identity(device);
        let name = device.replace('/', "-");
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        self.prepared.write(&certificate, &identity.certificate_pem);
        self.prepared.write(&key, &identity.key_pem);
        ["tls/servers-ca.crt", &*certificate, &*key].map(|file| self.prepared.path(file))
    }

    /// A handshake as this device.
    #[must_use]
    pub fn handshake(&self, device: &str) -> Handshake {
        self.door.with(&self.identity(device))
    }

    /// A connection for HTTP/1.1, or for any bytes, as this device.
    #[must_use]
    pub fn wire(&self, device: &str) -> Wire {
        self.handshake(device).open()
    }

    /// A connection for HTTP/2 as this device.
    #[must_use]
    pub fn h2(&self, device: &str) -> Client {
        Client::open(&self.handshake(device), self.door.address)
    }

    /// A connection for frames written by hand, as this device.
    #[must_use]
    pub fn frames(&self, device: &str) -> Frames {
        Frames::open(&self.handshake(device))
    }

    /// Every record so far.
    ///
    /// # Panics
    /// If the log is broken.
    #[must_use]
    pub fn records(&self) -> Vec<Value> {
        let mut known = self.known.borrow_mut();
        self.read_log(|directory| audit::read_on(directory, &mut known));
        known.clone()
    }

    /// The bytes of every record so far.
    ///
    /// # Panics
    /// If the log is broken.
    #[must_use]
    pub fn raw_records(&self) -> Vec<Vec<u8>> {
        self.read_log(audit::read_raw)
    }

    /// A reader may come between the making of a segment and of its header, so that it looks again before it calls
    /// a log broken.
    fn read_log<T, E: std::fmt::Display>(&self, mut read: impl FnMut(&Path) -> Result<T, E>) -> T {
        let directory = self.prepared.path("audit");
        let mut broken = String::new();
        let records = within(PATIENCE, || read(&directory).map_err(|error| broken = error.to_string()).ok());
        records.unwrap_or_else(|| panic!("the audit log is broken: {broken}"))
    }

    /// The first record that fits, waiting for it.
    ///
    /// # Panics
    /// If there is none in time.
    pub fn wait_for_record(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = within(PATIENCE, || self.records().into_iter().find(|record| fits(record)));
        found.unwrap_or_else(|| {
            let records: Vec<_> = self.records().iter().map(ToString::to_string).collect();
            panic!("no record of {what} among\n{}\nThe gateway said:\n{}", records.join("\n"), self.gateway.said())
        })
    }

    /// The requests asked over a connection so far: their `request` or `intent` records, in order.
    #[must_use]
    pub fn asked_from(&self, source: SocketAddr) -> Vec<Value> {
        let source = source.to_string();
        let is_asked = |record: &Value| {
            (audit::is(record, "request") || audit::is(record, "intent")) && text(record, "connection.source") == source
        };
        self.records().into_iter().filter(is_asked).collect()
    }

    /// As [`Clinic::asked_from`].
    #[must_use]
    pub fn asked_by(&self, wire: &Wire) -> Vec<Value> {
        self.asked_from(wire.local())
    }

    /// The refusal's label of everything that was refused over a connection: of requests, and of their outcomes.
    #[must_use]
    pub fn reasons_of(&self, source: SocketAddr) -> Vec<String> {
        let asked = self.asked_from(source);
        let ids: Vec<_> = asked.iter().map(|record| text(record, "request")).collect();
        let records = self.records();
        let is_ours = |record: &&Value| {
            text(record, "connection.source") == source.to_string()
                || text(record, "source") == source.to_string()
                || (audit::is(record, "outcome") && ids.contains(&text(record, "request")))
        };
        let reasons = records.iter().filter(is_ours).map(|record| text(record, "reason").to_owned());
        reasons.filter(|reason| !reason.is_empty()).collect()
    }

    /// Waits until something was refused over a connection, and says why.
    ///
    /// # Panics
    /// If nothing was.
    pub fn wait_for_reasons(&self, source: SocketAddr) -> Vec<String> {
        let found = within(PATIENCE, || Some(self.reasons_of(source)).filter(|reasons| !reasons.is_empty()));
        found.unwrap_or_else(|| panic!("nothing was refused; recorded: {:#?}", self.asked_from(source)))
    }

    /// A page of the admin listener: status and body.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn admin_get(&self, target: &str) -> (u16, String) {
        admin_get(self.admin, target, PATIENCE).expect("the admin listener answers")
    }

    /// A scrape of the metrics.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let (status, page) = self.admin_get("/metrics");
        assert_eq!(status, 200, "{page}");
        Metrics::new(page)
    }

    /// The sum of a metric's series with these labels.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(name, labels)
    }

    /// As [`Prepared::registry`].
    pub fn registry(&self, arguments: &[&str]) -> Output {
        self.prepared.registry(arguments)
    }

    /// Changes the configuration's file; [`Clinic::reload`] puts it in force.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Config)) {
        self.prepared.reconfigure(change);
        self.prepared.write_configuration();
    }

    /// Sends HUP and waits for the record of the reload. True if the new configuration is in force.
    ///
    /// # Panics
    /// If there is no record in time.
    pub fn reload(&self) -> bool {
        let reloads = || self.records().into_iter().filter(|record| audit::is(record, "reload")).collect::<Vec<_>>();
        let before = reloads().len();
        self.gateway.signal(Signal::HUP);
        let record = until("the record of a reload", || reloads().get(before).cloned());
        record.get("error").is_none()
    }

    /// Sends TERM.
    pub fn terminate(&self) {
        self.gateway.signal(Signal::TERM);
    }

    /// Sends KILL and waits for the end.
    pub fn kill(&mut self) -> ExitStatus {
        self.gateway.signal(Signal::KILL);
        self.gateway.wait()
    }

    /// Takes the folder back once the gateway has ended or is ended here; what stands in it can be started again.
    ///
    /// # Panics
    /// If a thread of the gateway has panicked.
    #[must_use]
    pub fn stop(mut self) -> Prepared {
        if self.gateway.ended().is_none() {
            self.terminate();
            self.gateway.wait();
        }
        let said = self.gateway.said();
        assert!(!said.contains("panicked at"), "{said}");
        self.prepared
    }
}

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Where a gateway says that its listener and its admin listener are, once it serves.
///
/// # Panics
/// If it says nonsense.
#[must_use]
pub fn places(said: &str) -> Option<(SocketAddr, SocketAddr)> {
    let listen = listener_in(said, "clinics")?;
    Some((listen, text(&serving(said)?, "fields.admin").parse().expect("an address")))
}

fn serving(said: &str) -> Option<Value> {
    said.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (text(&line, "fields.message") == "serving").then_some(line)
    })
}

fn listener_in(said: &str, name: &str) -> Option<SocketAddr> {
    // As Rust writes a list of pairs: `[("clinics", 127.0.0.1:8443)]`.
    let line = serving(said)?;
    let listeners = text(&line, "fields.listeners").split_once(&format!("(\"{name}\", "))?.1;
    Some(listeners.split_once(')')?.0.parse().expect("an address"))
}

/// `None` while nobody answers there.
fn admin_get(address: SocketAddr, target: &str, patience: Duration) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream
        .write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}
