//! A configuration, written key by key.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// Routes of a clinic: three classes of FHIR resources, pages for everybody with a role, and a place for nobody.
const ROUTES: &str = r#"
[[route]]
name = "fhir"
path = "/fhir"
service = "clinical"
class = "clinical"
kind = "fhir"
[[route]]
name = "medication"
path = "/medication"
service = "clinical"
class = "medication"
kind = "fhir"
[[route]]
name = "appointments"
path = "/appointments"
service = "clinical"
class = "administrative"
kind = "fhir"
[[route]]
name = "open"
path = "/open"
service = "clinical"
class = "clinical"
kind = "generic"
rules = [
  { methods = ["GET"], path = "/**", action = "read", effect = "read-only" },
  { methods = ["POST"], path = "/**", action = "create" },
]
[[route]]
name = "admin"
path = "/admin"
service = "clinical"
class = "nobodys"
kind = "generic"
rules = [
  { methods = ["GET"], path = "/**", action = "read", effect = "read-only" },
  { methods = ["POST"], path = "/**", action = "create" },
]
"#;

/// The whole configuration, to be changed before the start or before a reload.
#[derive(Debug, Clone)]
pub struct Config {
    sections: BTreeMap<String, Table>,
    listener: Table,
    limits: Table,
    server_names: Vec<String>,
    identities: String,
    tls: Table,
    service: Table,
    health: String,
    routes: String,
    extra: String,
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Self {
            sections: BTreeMap::new(),
            listener: Table::new(),
            limits: Table::new(),
            server_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            identities: String::new(),
            tls: Table::new(),
            service: Table::new(),
            health: String::new(),
            routes: ROUTES.to_owned(),
            extra: String::new(),
        };
        for (section, key, value) in [
            ("node", "name", "gw1"),
            ("trust", "domain", crate::pki::TRUST_DOMAIN),
            ("store", "file", "state/sekisho.db"),
            ("audit", "directory", "audit"),
            // Machines that run tests often have nobody who keeps their clock.
            ("clock", "on_alarm", "mark"),
            ("policy", "directory", "policy"),
            ("identity", "key_file", "state/identity.key"),
        ] {
            config.set(section, key, value);
        }
        // With one worker, every request meets the same pool of connections to the backend.
        config.set("workers", "count", 1);
        config.set("shutdown", "drain_s", 5);
        config.set_tls("certificate_file", "tls/server.crt");
        config.set_tls("key_file", "tls/server.key");
        config.set_tls("client_ca_file", "tls/devices-ca.crt");
        config
    }
}

impl Config {
    /// A key of a section such as `audit`.
    pub fn set(&mut self, section: &str, key: &str, value: impl Into<Value>) {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.into());
    }

    /// A key of the listener itself.
    pub fn set_listener(&mut self, key: &str, value: impl Into<Value>) {
        self.listener.insert(key.to_owned(), value.into());
    }

    /// A key of the listener's limits.
    pub fn set_limit(&mut self, key: &str, value: impl Into<Value>) {
        self.limits.insert(key.to_owned(), value.into());
    }

    /// The names that the listener takes requests for.
    pub(crate) fn server_names(&self) -> &[String] {
        &self.server_names
    }

    /// One more name that the listener takes requests for.
    pub fn add_server_name(&mut self, name: &str) {
        self.server_names.push(name.to_owned());
    }

    /// A key of the listener's TLS.
    pub fn set_tls(&mut self, key: &str, value: impl Into<Value>) {
        self.tls.insert(key.to_owned(), value.into());
    }

    /// Devices are of the authority in the folder `ca`, judged by its lists, and enrol at this address.
    pub fn enrol_at(&mut self, address: std::net::SocketAddr) {
        self.set_tls("client_ca_file", "ca/root.crt");
        let revocation = [("mode", "must"), ("crl_directory", "ca/crl")];
        self.set_tls(
            "revocation",
            toml::Table::from_iter(revocation.map(|(key, value)| (key.to_owned(), value.into()))),
        );
        self.set("enrolment", "directory", "ca");
        self.set("enrolment", "listen", address.to_string());
        self.set("enrolment", "certificate_file", "tls/server.crt");
        self.set("enrolment", "key_file", "tls/server.key");
    }

    /// Takes a key of the listener's TLS out.
    pub fn unset_tls(&mut self, key: &str) {
        self.tls.remove(key);
    }

    /// The listener's server names.
    pub fn set_server_names(&mut self, names: &[&str]) {
        self.server_names = names.iter().map(|&name| name.to_owned()).collect();
    }

    /// The listener's identities, `tls/NAME.crt` and `tls/NAME.key` for each name, instead of the one pair.
    pub fn set_identities(&mut self, names: &[&str]) {
        self.tls.remove("certificate_file");
        self.tls.remove("key_file");
        let pair = |name: &&str| format!("{{ certificate_file = \"tls/{name}.crt\", key_file = \"tls/{name}.key\" }}");
        let pairs: Vec<_> = names.iter().map(pair).collect();
        self.identities = format!("identities = [{}]\n", pairs.join(", "));
    }

    /// A key of the service `clinical`.
    pub fn set_service(&mut self, key: &str, value: impl Into<Value>) {
        self.service.insert(key.to_owned(), value.into());
    }

    /// How the service's servers are checked: the keys of `[service.health]`.
    pub fn check_health(&mut self, keys: &str) {
        self.health = format!("[service.health]\n{keys}\n");
    }

    /// Other routes than the default ones, as TOML.
    pub fn set_routes(&mut self, routes: &str) {
        routes.clone_into(&mut self.routes);
    }

    /// More TOML at the end, such as a second service or listener.
    pub fn append(&mut self, text: &str) {
        self.extra.push_str(text);
    }

    /// Takes back all that was appended.
    pub fn clear_appended(&mut self) {
        self.extra.clear();
    }

    /// The file's text.
    pub(crate) fn render(&self, listen: &str, admin: &str) -> String {
        let mut sections = self.sections.clone();
        sections.entry("admin".to_owned()).or_default().entry("listen").or_insert_with(|| admin.into());
        let mut text = String::new();
        for (name, table) in &sections {
            text.push_str(&format!("[{name}]\n{table}\n"));
        }
        text.push_str(&format!(
            "[[listener]]
name = \"clinics\"
address = \"{listen}\"
server_names = {}
{}
\
             [listener.limits]
{}
[listener.tls]
{}",
            Value::from(self.server_names.clone()),
            self.listener.iter().map(|(key, value)| format!("{key} = {value}\n")).collect::<String>(),
            self.limits,
            self.identities,
        ));
        let is_table = |(_, value): &(&String, &Value)| value.is_table();
        for (key, value) in self.tls.iter().filter(|pair| !is_table(pair)) {
            text.push_str(&format!("{key} = {value}\n"));
        }
        for (key, value) in self.tls.iter().filter(is_table) {
            text.push_str(&format!("[listener.tls.{key}]\n{}\n", value.as_table().expect("a table")));
        }
        text.push_str(&format!(
            "[[service]]\nname = \"clinical\"\n{}\n{}{}\n{}",
            self.service, self.health, self.routes, self.extra
        ));
        text
    }
}
