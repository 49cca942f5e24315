//! The file as a whole: its sections in the order of `deploy/sekisho.toml`.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;

use gateway_audit::retention::{Rule, Rules};

use super::file_listener::{Addresses, admin_tls, check_host, is_label, listener};
use super::file_route::routes;
use super::file_service::service;
use super::problem::nearest;
use super::table::{Table, Text};
use super::{
    Acme, Admin, Audit, Clock, ClockServer, Config, Durability, Enrolment, EnrolmentListener, Identity, Log, LogFormat,
    OnAuditFailure, OnClockAlarm, Places, Policy, Retention, Shutdown, Store, Workers, knob,
};

/// The most time servers.
const MAX_CLOCK_SERVERS: usize = 16;

pub(super) fn config(file: &Table<'_>) -> Option<Config> {
    let node = file.section("node", node);
    let (trust_domain, patients_apart) =
        file.section("trust", |table| (trust_domain(table), table.boolean("patients_apart", true)));
    let store = file.section("store", |table| table.path("file"));
    let state = store.as_ref().and_then(|store| store.parent());
    let audit = file.section("audit", |table| audit(table, state));
    let clock = file.section("clock", clock);
    let policy = file.section("policy", |table| table.path_or("directory", "policy"));
    let mut addresses = Addresses::default();
    let identity = file.section("identity", |table| {
        let key_file = table.path("key_file");
        let jwks_listen = table.text_optional("jwks_listen");
        let jwks_listen = jwks_listen.and_then(|listen| addresses.take(table, &listen));
        Some(Identity { key_file: key_file?, jwks_listen })
    });
    let admin = file.section("admin", |table| admin(table, &mut addresses));
    let enrolment = file.section("enrolment", |table| enrolment(table, &mut addresses));
    let acme = file.section("acme", acme);
    let login = file.section("login", super::file_login::login);
    let account =
        file.section("account", |table| super::file_account::account(table, store.as_deref().and_then(Path::parent)));
    let session = file.section("session", |table| super::file_session::session(table, state));
    let quota = file.section("quota", super::file_quota::quotas);
    let outage = file.section("outage", super::file_outage::outage);
    let log = file.section("log", log);
    let workers = file.section("workers", |table| Workers {
        count: NonZeroUsize::new(knob::size(table.number("count", &knob::WORKERS))),
    });
    let shutdown = file.section("shutdown", |table| Shutdown { drain: table.seconds("drain_s", &knob::DRAIN_S) });
    // `admin` is the name of the socket that systemd passes for the admin listener.
    let mut listener_names = Names::of("listener", &["admin", "enrolment"]);
    let by_acme = acme.as_ref().and_then(Option::as_ref);
    let mut tunnels = Addresses::default();
    let listeners =
        file.tables("listener", |table| listener(table, &mut listener_names, &mut addresses, &mut tunnels, by_acme));
    let mut service_names = Names::of("service", &[]);
    let services = file.tables("service", |table| service(table, &mut service_names));
    let mut issuer_names = Names::of("token issuer", &[]);
    let token_issuers = file.elements_optional("token_issuer").unwrap_or_default();
    let token_issuers: Vec<_> = token_issuers
        .into_iter()
        .filter_map(|table| table.read(|table| super::file_token::issuer(table, &mut issuer_names, state)))
        .collect();
    let mut all_names = Names::of("identity provider", &[]);
    all_names.taken.clone_from(&issuer_names.taken);
    let oidc: Vec<_> = file
        .elements_optional("oidc")
        .unwrap_or_default()
        .into_iter()
        .filter_map(|table| table.read(|table| super::file_oidc::oidc(table, &mut all_names, state)))
        .collect();
    let back_channel = file.section("back_channel", |table| super::file_oidc::back_channel(table, &mut addresses));
    let routes = routes(file, (&service_names, &services), (&issuer_names, &token_issuers), &listeners, &oidc);
    if patients_apart {
        super::apart::judge(file, &listeners, &services, &routes);
    }
    Some(Config {
        node: node?,
        trust_domain: trust_domain?,
        patients_apart,
        store: Store { file: store? },
        audit: audit?,
        clock,
        policy: Policy { directory: policy? },
        identity: identity?,
        admin: admin?,
        enrolment: enrolment?,
        acme: acme?,
        login,
        account: account?,
        session: session?,
        quota,
        outage,
        log,
        workers,
        shutdown,
        listeners,
        services,
        token_issuers,
        oidc,
        back_channel: back_channel?,
        routes,
        places: Places::default(),
    })
}

/// Names given so far to things of one kind.
pub(super) struct Names {
    kind: &'static str,
    reserved: &'static [&'static str],
    pub(super) taken: Vec<String>,
}

impl Names {
    pub(super) fn of(kind: &'static str, reserved: &'static [&'static str]) -> Self {
        Self { kind, reserved, taken: Vec::new() }
    }

    /// Takes a name, unless another has it.
    pub(super) fn take(&mut self, table: &Table<'_>, name: &Text<'_>) {
        if self.reserved.contains(&name.text) {
            table.refuse(name, "the gateway uses that name itself");
        }
        if self.taken.iter().any(|taken| taken == name.text) {
            table.refuse(name, &format!("another {} has that name", self.kind));
        } else {
            self.taken.push(name.text.to_owned());
        }
    }

    /// Refuses a reference to a name that nothing has.
    pub(super) fn know(&self, table: &Table<'_>, name: &Text<'_>) {
        if !self.taken.iter().any(|taken| taken == name.text) {
            let why = match nearest(name.text, self.taken.iter().map(String::as_str)) {
                Some(near) => format!("no {} has that name; did you mean `{near}`?", self.kind),
                None => format!("no {} has that name", self.kind),
            };
            table.refuse(name, &why);
        }
    }
}

fn node(table: &Table<'_>) -> Option<String> {
    let name = table.text("name")?;
    if !is_label(name.text) {
        table.refuse(&name, "it must be 1 to 64 letters, digits, `-`, `_` and `.`");
        return None;
    }
    Some(name.text.to_owned())
}

/// SPIFFE-ID section 2.1: lower-case letters, digits, dots, dashes and underscores; a SPIFFE ID has at most 255 bytes of
/// trust domain.
fn trust_domain(table: &Table<'_>) -> Option<String> {
    let domain = table.text("domain")?;
    let alphabet = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    if !(1..=255).contains(&domain.text.len()) || !domain.text.bytes().all(alphabet) {
        table.refuse(&domain, "it must be 1 to 255 lower-case letters, digits, `.`, `-` and `_`, without `spiffe://`");
        return None;
    }
    Some(domain.text.to_owned())
}

/// `state` is the store's folder.
fn audit(table: &Table<'_>, state: Option<&Path>) -> Option<Audit> {
    let directory = table.path("directory");
    let beside = |name: &str| state.map(|state| state.join(name));
    let key_directory = table.path_optional("key_directory").or_else(|| beside("audit-keys"));
    let reviewers = table.path_optional("reviewers").or_else(|| beside("audit-reviewers"));
    if let (Some(directory), Some(keys)) = (&directory, &key_directory)
        && (keys.starts_with(directory) || directory.starts_with(keys))
    {
        let why = "it must lie apart from `audit.directory`: copies of the log must not hold the keys to it";
        table.problem("key_directory", format!("`audit.key_directory` is `{}`; {why}", keys.display()));
    }
    let interval = Durability::Interval(table.millis("interval_ms", &knob::INTERVAL_MS));
    let durability = table.choice(
        "durability",
        Durability::BeforeAnswer,
        &[("before-answer", Durability::BeforeAnswer), ("interval", interval)],
    );
    let on_failure = table.choice(
        "on_failure",
        OnAuditFailure::Refuse,
        &[("refuse", OnAuditFailure::Refuse), ("serve-and-alarm", OnAuditFailure::ServeAndAlarm)],
    );
    let queue_records = knob::size(table.number("queue_records", &knob::QUEUE_RECORDS));
    let segment_bytes = table.number("segment_bytes", &knob::SEGMENT_BYTES);
    let reserve_bytes = table.number("reserve_bytes", &knob::RESERVE_BYTES);
    if segment_bytes / 4 < reserve_bytes {
        let why = "it must be at least four times `audit.reserve_bytes`";
        let more = "a segment that is mostly reserve is replaced before it is used";
        table.problem(
            "segment_bytes",
            format!("`audit.segment_bytes` is {segment_bytes}; {why}, {reserve_bytes}: {more}"),
        );
    }
    let key_period = u32::try_from(table.number("key_period_days", &knob::KEY_PERIOD_DAYS)).ok();
    let key_period = key_period.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    let retention = table.section("retention", retention);
    let tree_lag = table.seconds("tree_lag_s", &knob::TREE_LAG_S);
    let refusal_interval = table.seconds("refusal_interval_s", &knob::REFUSAL_INTERVAL_S);
    let refusal_bytes = table.number("refusal_bytes", &knob::REFUSAL_BYTES);
    Some(Audit {
        directory: directory?,
        key_directory: key_directory?,
        reviewers: reviewers?,
        key_period,
        retention,
        tree_lag: Some(tree_lag).filter(|lag| !lag.is_zero()),
        durability,
        on_failure,
        queue_records,
        segment_bytes,
        reserve_bytes,
        refusal_interval,
        refusal_bytes,
    })
}

fn retention(table: &Table<'_>) -> Retention {
    let days = |table: &Table<'_>, key| u32::try_from(table.number(key, &knob::RETENTION_DAYS)).unwrap_or(u32::MAX);
    let rule = |table: &Table<'_>| {
        let name = |key| {
            let text = table.text_optional(key)?;
            if !gateway_audit::reviewer::is_name(text.text) {
                table.refuse(&text, "no site or class has such a name");
            }
            Some(text.text.to_owned())
        };
        let rule = Rule { site: name("site"), class: name("class"), days: days(table, "days") };
        if rule.site.is_none() && rule.class.is_none() {
            table.problem(
                "days",
                format!(
                    "`{}` names no site and no class; what is kept otherwise is `audit.retention.days`",
                    table.key("days")
                ),
            );
        }
        rule
    };
    let elements = table.elements_optional("rule").unwrap_or_default();
    let rules: Vec<Rule> = elements.into_iter().map(|element| element.read(rule)).collect();
    for (index, rule) in rules.iter().enumerate() {
        if rules.iter().take(index).any(|other| other.site == rule.site && other.class == rule.class) {
            table.problem("rule", "two rules of `audit.retention` are about the same site and class".to_owned());
        }
    }
    let rules = Rules { days: days(table, "days"), provider_days: days(table, "provider_days"), rules };
    Retention { rules, automatic: table.boolean("automatic", true), required: table.paths_optional("required") }
}

fn clock(table: &Table<'_>) -> Clock {
    let warn_error = table.millis("warn_error_ms", &knob::WARN_ERROR_MS);
    let max_error = table.millis("max_error_ms", &knob::MAX_ERROR_MS);
    if warn_error > max_error {
        let why = "it must not be above `clock.max_error_ms`";
        table.problem("warn_error_ms", format!("`clock.warn_error_ms` is {}; {why}", warn_error.as_millis()));
    }
    let chrony = table.text_or("chrony", "127.0.0.1:323");
    let servers = table.elements_optional("server").unwrap_or_default();
    let servers: Vec<_> = servers.into_iter().filter_map(|server| server.read(clock_server)).collect();
    if servers.len() > MAX_CLOCK_SERVERS {
        table.problem(
            "server",
            format!("there are {} time servers; at most {MAX_CLOCK_SERVERS} are asked", servers.len()),
        );
    }
    for (index, server) in servers.iter().enumerate() {
        if servers.iter().take(index).any(|other| other.address == server.address) {
            table.problem("server", format!("the time server `{}` is named twice", server.address));
        }
    }
    Clock {
        on_alarm: table.choice(
            "on_alarm",
            OnClockAlarm::Refuse,
            &[("refuse", OnClockAlarm::Refuse), ("mark", OnClockAlarm::Mark)],
        ),
        max_error,
        warn_error,
        chrony: chrony_address(table, &chrony),
        probe_interval: table.seconds("probe_interval_s", &knob::PROBE_INTERVAL_S),
        servers,
    }
}

/// Answers of chronyd prove nothing, so it is asked on this machine alone.
fn chrony_address(table: &Table<'_>, text: &Text<'_>) -> Option<SocketAddr> {
    if text.text == "off" {
        return None;
    }
    let address = text.text.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback());
    if address.is_none() {
        table.refuse(text, "it must be a loopback address with its port, or `off`");
    }
    address
}

fn clock_server(table: &Table<'_>) -> Option<ClockServer> {
    let key_file = table.path_optional("key_file");
    let address = table.text("address")?;
    let parts = address.text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
    let good = parts.is_some_and(|(host, _)| match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => check_host(host).is_ok(),
    });
    if !good {
        table.refuse(&address, "it must be a host and a port, such as `ntp.example:123` or `[2001:db8::1]:123`");
        return None;
    }
    Some(ClockServer { address: address.text.to_owned(), key_file })
}

fn admin(table: &Table<'_>, addresses: &mut Addresses) -> Option<Admin> {
    let listen = table.text_or("listen", "127.0.0.1:9443");
    let listen = addresses.take(table, &listen);
    let tls = admin_tls(table)?;
    let listen: SocketAddr = listen?;
    if tls.is_none() && !listen.ip().is_loopback() {
        let why = "without TLS it must be a loopback address; elsewhere `certificate_file`, `key_file` and `client_ca_file` are required";
        table.problem("listen", format!("`admin.listen` is `{listen}`; {why}"));
        return None;
    }
    Some(Admin { listen, tls })
}

/// An absent table is no authority; the outer `None` is a problem that is noted.
fn enrolment(table: &Table<'_>, addresses: &mut Addresses) -> Option<Option<Enrolment>> {
    let directory = table.path_optional("directory");
    if table.is_present() && directory.is_none() {
        table.problem("directory", "`enrolment.directory` is missing; `sekisho ca init` makes the folder".to_owned());
    }
    let listen = table.text_optional("listen").map(|text| addresses.take(table, &text));
    let crl_listen = table.text_optional("crl_listen").map(|text| addresses.take(table, &text));
    let certificate_file = table.path_optional("certificate_file");
    let key_file = table.path_optional("key_file");
    let est = match (listen, certificate_file, key_file) {
        (None, None, None) => None,
        (Some(listen), Some(certificate_file), Some(key_file)) => {
            Some(EnrolmentListener { listen: listen?, certificate_file, key_file })
        }
        (listen, certificate_file, key_file) => {
            let given = [
                ("listen", listen.is_some()),
                ("certificate_file", certificate_file.is_some()),
                ("key_file", key_file.is_some()),
            ];
            for (key, _) in given.into_iter().filter(|(_, given)| !given) {
                let why = "`listen`, `certificate_file` and `key_file` go together";
                table.problem(key, format!("`enrolment.{key}` is missing; {why}"));
            }
            return None;
        }
    };
    if !table.is_present() {
        return Some(None);
    }
    let crl_listen = match crl_listen {
        None => None,
        Some(address) => Some(address?),
    };
    Some(Some(Enrolment { directory: directory?, est, crl_listen }))
}

/// An absent table is no ACME; the outer `None` is a problem that is noted.
fn acme(table: &Table<'_>) -> Option<Option<Acme>> {
    let directory_url = table.text_optional("directory_url");
    let ca_file = table.path_optional("ca_file");
    let contact = table.texts_optional("contact").into_iter().map(|text| text.text.to_owned()).collect();
    let state_directory = table.path_optional("state_directory");
    if !table.is_present() {
        return Some(None);
    }
    for (key, given) in [
        ("directory_url", directory_url.is_some()),
        ("ca_file", ca_file.is_some()),
        ("state_directory", state_directory.is_some()),
    ] {
        if !given {
            table.problem(key, format!("`acme.{key}` is missing"));
        }
    }
    let url = directory_url?;
    // The account's key signs every message, and still the answers must be the server's.
    if !url.text.starts_with("https://") || !url.text.bytes().all(|byte| byte.is_ascii_graphic()) {
        table.refuse(&url, "it must be an `https` URL");
    }
    Some(Some(Acme {
        directory_url: url.text.to_owned(),
        ca_file: ca_file?,
        contact,
        state_directory: state_directory?,
    }))
}

fn log(table: &Table<'_>) -> Log {
    use tracing::Level;
    Log {
        format: table.choice("format", LogFormat::Json, &[("json", LogFormat::Json), ("text", LogFormat::Text)]),
        level: table.choice(
            "level",
            Level::INFO,
            &[
                ("error", Level::ERROR),
                ("warn", Level::WARN),
                ("info", Level::INFO),
                ("debug", Level::DEBUG),
                ("trace", Level::TRACE),
            ],
        ),
    }
}
