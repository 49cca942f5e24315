//! Reading `[[listener]]` and the TLS of `[admin]`.

use std::net::{IpAddr, SocketAddr};

use ::policy::SiteName;

use super::file::Names;
use super::file_edge::{forwarded, proxy_protocol};
use super::file_peers::peers;
use super::file_stream::streams;
use super::file_wireguard::{MAX_PORTS, wireguard};
use super::table::{Table, Text};
use super::wireguard::{Asking, InsideTls};
use super::{
    ACME_CHAIN, ACME_CURRENT, ACME_KEY, Acme, IdentityFiles, Limits, Listener, ListenerPeers, ListenerTls,
    OnRevocation, Revocation, knob,
};

/// The profiles that `certs` knows; the first is the default.
const PROFILES: &[(&str, &str)] =
    &[("cryptrec-high", "cryptrec-high"), ("cryptrec-high-tls12", "cryptrec-high-tls12"), ("compatible", "compatible")];

/// Server identities of one listener: an operator's file, not a hosting provider's.
const MAX_IDENTITIES: usize = 64;

/// The profile of the admin listener: operators' tools are up to date.
const ADMIN_PROFILE: &str = "cryptrec-high";

/// Room in a head beside its target: the rest of the request line and the fields no request lacks.
const HEAD_BESIDE_TARGET: usize = 1_024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tls,
    Tcp,
    WireGuard,
}

impl Kind {
    const fn label(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Tcp => "tcp",
            Self::WireGuard => "wireguard",
        }
    }
}

pub(super) fn listener(
    table: &Table<'_>,
    names: &mut Names,
    addresses: &mut Addresses,
    tunnel_addresses: &mut Addresses,
    acme: Option<&Acme>,
) -> Option<Listener> {
    let name = table.text("name");
    if let Some(name) = &name {
        if !is_label(name.text) {
            table.refuse(name, "it must be 1 to 64 letters, digits, `-`, `_` and `.`");
        }
        names.take(table, name);
    }
    const KINDS: &[(&str, Kind)] = &[("tls", Kind::Tls), ("tcp", Kind::Tcp), ("wireguard", Kind::WireGuard)];
    let kind = table.choice("kind", Kind::Tls, KINDS);
    let has_tunnels = kind == Kind::WireGuard;
    let http3 = table.boolean("http3", false);
    // A UDP port is another than the TCP port of its number.
    let address = table.text("address").and_then(|text| match (has_tunnels, http3) {
        (true, _) => tunnel_addresses.take(table, &text),
        (false, false) => addresses.take(table, &text),
        (false, true) => addresses.take(table, &text).and_then(|_| tunnel_addresses.take(table, &text)),
    });
    let server_names = server_names(table);
    let wireguard = match has_tunnels {
        true => Some(table.section("wireguard", |table| wireguard(table, &server_names))),
        false => {
            table.no_section("wireguard", &format!("`{}` is `{}`", table.key("kind"), kind.label()));
            None
        }
    };
    let asking = match &wireguard {
        None => Some(Asking::Required),
        // What is wrong with it is told already; nothing is asked of `tls` that depends on it.
        Some(tunnels) => tunnels.as_ref().map(|tunnels| tunnels.client_certificate),
    };
    let has_tls = wireguard.iter().flatten().all(|tunnels| tunnels.inside_tls != InsideTls::Off);
    let by_acme = ByAcme { acme, listener: name.as_ref().map_or("", |name| name.text), server_names: &server_names };
    let tls = match has_tls {
        true => table.section("tls", |table| listener_tls(table, &by_acme, asking)),
        false => {
            table.no_section("tls", &format!("`{}.inside_tls` is `off`", table.key("wireguard")));
            Some(ListenerTls::none())
        }
    };
    let why = match kind {
        Kind::Tls => None,
        Kind::Tcp => Some("what speaks no HTTP is a device"),
        Kind::WireGuard => Some("a tunnel is a device's"),
    };
    if let Some(why) = why
        && tls.as_ref().is_some_and(|tls| !matches!(tls.peers, ListenerPeers::Devices))
    {
        let (own, peers) = (table.key("kind"), format!("{}.peers", table.key("tls")));
        table.problem("kind", format!("`{own}` is `{}`, and `{peers}` is not `devices`: {why}", kind.label()));
    }
    let ports = wireguard.as_ref().map(|tunnels| tunnels.as_ref().map_or(&[][..], |tunnels| &tunnels.ports));
    let streams = streams(table, kind == Kind::Tcp, ports);
    if has_tunnels && tls.as_ref().is_some_and(|tls| tls.identities.iter().any(|one| one.acme.is_some())) {
        let (kind, acme) = (table.key("kind"), format!("{}.acme", table.key("tls")));
        table.problem(
            "kind",
            format!("`{kind}` is `wireguard`, and `{acme}` is true: no ACME server comes by a tunnel"),
        );
    }
    let elsewhere = match kind {
        Kind::Tls => None,
        Kind::WireGuard => Some("`wireguard`: tunnels carry streams of TCP"),
        Kind::Tcp => Some("`tcp`: it carries no HTTP"),
    };
    if let Some(what) = elsewhere.filter(|_| http3) {
        let (own, kind) = (table.key("http3"), table.key("kind"));
        table.problem("http3", format!("`{own}` is true, and `{kind}` is {what}"));
    }
    let login_page = table.boolean("login_page", false);
    if login_page && tls.as_ref().is_some_and(|tls| !matches!(tls.peers, ListenerPeers::Devices)) {
        let why =
            "accounts are for whoever sits at a device; the users of this listener are known by their certificates";
        table.problem("login_page", format!("`{}` is true, and {why}", table.key("login_page")));
    }
    let oidc = table.texts_optional("oidc");
    for key in [login_page.then_some("login_page"), (!oidc.is_empty()).then_some("oidc")].into_iter().flatten() {
        if kind == Kind::Tcp {
            let (own, kind) = (table.key(key), table.key("kind"));
            table.problem(key, format!("`{own}` is there, and `{kind}` is `tcp`: there are no pages"));
        }
    }
    if !oidc.is_empty() && tls.as_ref().is_some_and(|tls| !matches!(tls.peers, ListenerPeers::Devices)) {
        let why = "a login is for whoever sits at a device; the users of this listener are known by their certificates";
        table.problem("oidc", format!("`{}` is there, and {why}", table.key("oidc")));
    }
    // A session's cookie is `Secure`, and a login begins at a page of `https`: without TLS neither ever comes back.
    for key in [login_page.then_some("login_page"), (!oidc.is_empty()).then_some("oidc")].into_iter().flatten() {
        if wireguard.iter().flatten().any(|tunnels| tunnels.inside_tls != InsideTls::Required) {
            let (own, inside) = (table.key(key), format!("{}.inside_tls", table.key("wireguard")));
            table.problem(
                key,
                format!("`{own}` is there, and `{inside}` is not `required`: nobody logs in without TLS"),
            );
        }
    }
    let oidc = oidc.into_iter().map(|text| text.text.to_owned()).collect();
    let limits = table.section("limits", limits);
    let proxy_protocol = match has_tunnels {
        true => {
            table.no_section(
                "proxy_protocol",
                &format!("`{}` is `wireguard`: a tunnel has no header", table.key("kind")),
            );
            Some(None)
        }
        false => table.section("proxy_protocol", proxy_protocol),
    };
    if http3 && proxy_protocol.as_ref().is_some_and(Option::is_some) {
        let (own, proxy) = (table.key("http3"), table.key("proxy_protocol"));
        let why = "no header says where a datagram comes from that a load balancer passes on";
        table.problem("http3", format!("`{own}` is true, and `{proxy}` is there: {why}"));
    }
    let forwarded = table.section("forwarded", forwarded);
    let streams = streams?;
    let wireguard = match wireguard {
        Some(tunnels) => {
            let mut tunnels = tunnels?;
            tunnels.ports.extend(streams.iter().filter_map(|stream| stream.port));
            if tunnels.ports.len() > MAX_PORTS {
                let own = table.key("stream");
                table.problem(
                    "stream",
                    format!("`{own}`: with `wireguard.ports` more than {MAX_PORTS} ports are served"),
                );
            }
            Some(Box::new(tunnels))
        }
        None => None,
    };
    Some(Listener {
        name: name?.text.to_owned(),
        address: address?,
        server_names,
        tls: tls?,
        wireguard,
        streams,
        http3,
        login_page,
        oidc,
        proxy_protocol: proxy_protocol?,
        forwarded: forwarded?,
        limits,
    })
}

/// What a certificate by ACME is made of.
struct ByAcme<'a> {
    acme: Option<&'a Acme>,
    listener: &'a str,
    server_names: &'a [String],
}

impl ListenerTls {
    /// Nothing: no TLS is spoken.
    fn none() -> Self {
        Self {
            identities: Vec::new(),
            peers: ListenerPeers::Devices,
            client_ca_file: None,
            profile: ADMIN_PROFILE.to_owned(),
            tls12_sites: None,
            revocation: Revocation::off(),
        }
    }
}

/// `asking` says whether certificates are asked for, where that is known.
fn listener_tls(table: &Table<'_>, by_acme: &ByAcme<'_>, asking: Option<Asking>) -> Option<ListenerTls> {
    let identities = if table.boolean("acme", false) { acme_identity(table, by_acme) } else { identities(table) };
    let client_ca_file = match asking {
        Some(Asking::Required | Asking::Optional) => Some(table.path("client_ca_file")?),
        Some(Asking::Off) => {
            if table.path_optional("client_ca_file").is_some() {
                let own = table.key("client_ca_file");
                let why = "`client_certificate` of its tunnels is `off`: nobody is asked for a certificate";
                table.problem("client_ca_file", format!("`{own}` is there, and {why}"));
            }
            None
        }
        None => table.path_optional("client_ca_file"),
    };
    let profile = table.choice("profile", "cryptrec-high", PROFILES).to_owned();
    let tls12_sites = tls12_sites(table, &profile);
    let revocation = match asking {
        Some(Asking::Off) => {
            table.no_section("revocation", "nobody is asked for a certificate");
            Revocation::off()
        }
        Some(Asking::Required | Asking::Optional) | None => table.section("revocation", revocation),
    };
    let peers = peers(table);
    Some(ListenerTls { identities: identities?, peers, client_ca_file, profile, tls12_sites, revocation })
}

fn tls12_sites(table: &Table<'_>, profile: &str) -> Option<Vec<SiteName>> {
    let texts = table.texts_optional("tls12_sites");
    if !texts.is_empty() && profile == ADMIN_PROFILE {
        let (own, other) = (table.key("tls12_sites"), table.key("profile"));
        table.problem("tls12_sites", format!("`{own}` is there, and `{other}` is `{profile}`: nobody speaks TLS 1.2"));
    }
    let mut sites: Vec<SiteName> = Vec::new();
    for text in &texts {
        match text.text.parse() {
            Ok(site) => sites.push(site),
            Err(_) => table.refuse(text, "no site has such a name"),
        }
    }
    (!sites.is_empty()).then_some(sites)
}

/// One certificate for all server names that are host names, in files of the gateway's own.
fn acme_identity(table: &Table<'_>, by_acme: &ByAcme<'_>) -> Option<Vec<IdentityFiles>> {
    let own = table.key("acme");
    let others =
        ["certificate_file", "key_file", "ocsp_file"].into_iter().filter(|key| table.path_optional(key).is_some());
    for key in others.chain(table.elements_optional("identities").map(|_| "identities")) {
        let other = table.key(key);
        table.problem(
            key,
            format!("`{other}` stands beside `{own}`, which brings the certificate; take one of them out"),
        );
    }
    let names = by_acme.server_names.iter().filter(|name| name.parse::<IpAddr>().is_err());
    let names: Vec<String> = names.cloned().collect();
    if names.is_empty() {
        table.problem("acme", format!("`{own}` needs a host name in `server_names`: an address gets no certificate"));
        return None;
    }
    let Some(acme) = by_acme.acme else {
        table.problem("acme", format!("`{own}` needs the table `[acme]`, which says where certificates come from"));
        return None;
    };
    let current = acme.state_directory.join(by_acme.listener).join(ACME_CURRENT);
    Some(vec![IdentityFiles {
        place: String::new(),
        certificate_file: current.join(ACME_CHAIN),
        key_file: current.join(ACME_KEY),
        ocsp_file: None,
        ocsp_fetch: false,
        acme: Some(names),
    }])
}

/// The list, or the single pair, which is a list of one.
fn identities(table: &Table<'_>) -> Option<Vec<IdentityFiles>> {
    let Some(elements) = table.elements_optional("identities") else {
        return Some(vec![identity(table, String::new())?]);
    };
    for key in ["certificate_file", "key_file", "ocsp_file"] {
        if table.path_optional(key).is_some() {
            let (own, list) = (table.key(key), table.key("identities"));
            table.problem(key, format!("`{own}` stands beside `{list}`; put all pairs into the list, or take it out"));
        }
    }
    if table.flag("ocsp_fetch") {
        let (own, list) = (table.key("ocsp_fetch"), table.key("identities"));
        table.problem("ocsp_fetch", format!("`{own}` stands beside `{list}`; put it into the list, or take it out"));
    }
    if elements.is_empty() || elements.len() > MAX_IDENTITIES {
        let key = table.key("identities");
        table.problem("identities", format!("`{key}` must list 1 to {MAX_IDENTITIES} pairs"));
    }
    let read = |(index, element): (usize, Table<'_>)| {
        element.read(|element| identity(element, format!("identities[{index}]")))
    };
    // Every element is read before one that is wrong spoils all, so that all problems are told.
    let all: Vec<_> = elements.into_iter().enumerate().map(read).collect();
    let all = all.into_iter().collect::<Option<Vec<_>>>()?;
    (!all.is_empty()).then_some(all)
}

fn identity(table: &Table<'_>, place: String) -> Option<IdentityFiles> {
    let certificate_file = table.path("certificate_file");
    let key_file = table.path("key_file");
    let ocsp_file = table.path_optional("ocsp_file");
    let ocsp_fetch = table.flag("ocsp_fetch");
    if ocsp_fetch && ocsp_file.is_none() {
        let (fetch, file) = (table.key("ocsp_fetch"), table.key("ocsp_file"));
        table.problem("ocsp_fetch", format!("`{fetch}` needs `{file}`, where the response is kept"));
    }
    let (certificate_file, key_file) = (certificate_file?, key_file?);
    Some(IdentityFiles { place, certificate_file, key_file, ocsp_file, ocsp_fetch, acme: None })
}

/// How much is asked of revocation.
const ON_REVOCATION: &[(&str, OnRevocation)] =
    &[("off", OnRevocation::Off), ("prefer", OnRevocation::Prefer), ("must", OnRevocation::Must)];

fn revocation(table: &Table<'_>) -> Revocation {
    let mode = table.choice("mode", OnRevocation::Prefer, ON_REVOCATION);
    let ocsp = table.choice("ocsp", OnRevocation::Off, ON_REVOCATION);
    let crl_files = table.paths_optional("crl_files");
    let crl_directory = table.path_optional("crl_directory");
    let fetch = table.boolean("fetch", false);
    let mut fetch_hosts = Vec::new();
    for text in table.texts_optional("fetch_hosts") {
        match check_host(text.text) {
            Ok(()) => fetch_hosts.push(text.text.to_owned()),
            Err(why) => table.refuse(&text, &why),
        }
    }
    let ocsp_responder =
        table.text_optional("ocsp_responder").and_then(|text| match check_url(text.text, &fetch_hosts) {
            Ok(()) => Some(text.text.to_owned()),
            Err(why) => {
                table.refuse(&text, why);
                None
            }
        });
    let cache_directory = table.path_optional("cache_directory");
    let has_lists = !crl_files.is_empty() || crl_directory.is_some() || fetch;
    if mode == OnRevocation::Must && ocsp == OnRevocation::Off && !has_lists {
        let why = "name `crl_files` or a `crl_directory`, or set `fetch` or `ocsp`";
        table.problem("mode", format!("`{}` is `must`, and no CRL comes from anywhere; {why}", table.key("mode")));
    }
    Revocation {
        mode,
        ocsp,
        ocsp_responder,
        crl_files,
        crl_directory,
        fetch,
        fetch_hosts,
        cache_directory,
        max_crl_bytes: table.number("max_crl_bytes", &knob::MAX_CRL_BYTES),
        fetch_timeout: table.millis("fetch_timeout_ms", &knob::FETCH_TIMEOUT_MS),
        fetch_interval: table.seconds("fetch_interval_s", &knob::FETCH_INTERVAL_S),
        grace: table.seconds("grace_s", &knob::CRL_GRACE_S),
        warn_before: table.seconds("warn_before_s", &knob::CRL_WARN_BEFORE_S),
    }
}

/// A URL that is fetched from.
fn check_url(url: &str, hosts: &[String]) -> Result<(), &'static str> {
    let uri: http::Uri = url.parse().map_err(|_| "it must be a URL")?;
    if uri.scheme_str() != Some("http") {
        return Err("its scheme must be `http`: the responses are signed");
    }
    match uri.host() {
        None | Some("") => Err("it must name a host"),
        Some(_) if url.contains('@') => Err("it must not name a user"),
        Some(host) if !hosts.is_empty() && !hosts.iter().any(|known| known == &host.to_ascii_lowercase()) => {
            Err("its host is not among `fetch_hosts`")
        }
        Some(_) => Ok(()),
    }
}

/// All three files or none; the outer `None` is a problem that is noted.
pub(super) fn admin_tls(table: &Table<'_>) -> Option<Option<ListenerTls>> {
    let certificate_file = table.path_optional("certificate_file");
    let key_file = table.path_optional("key_file");
    let client_ca_file = table.path_optional("client_ca_file");
    match (certificate_file, key_file, client_ca_file) {
        (None, None, None) => Some(None),
        (Some(certificate_file), Some(key_file), Some(client_ca_file)) => {
            let identity = IdentityFiles {
                place: String::new(),
                certificate_file,
                key_file,
                ocsp_file: None,
                ocsp_fetch: false,
                acme: None,
            };
            Some(Some(ListenerTls {
                identities: vec![identity],
                peers: ListenerPeers::Devices,
                client_ca_file: Some(client_ca_file),
                profile: ADMIN_PROFILE.to_owned(),
                tls12_sites: None,
                revocation: Revocation::off(),
            }))
        }
        (certificate_file, key_file, client_ca_file) => {
            for (key, file) in
                [("certificate_file", certificate_file), ("key_file", key_file), ("client_ca_file", client_ca_file)]
            {
                if file.is_none() {
                    let why = "`certificate_file`, `key_file` and `client_ca_file` go together";
                    table.problem(key, format!("`admin.{key}` is missing; {why}"));
                }
            }
            None
        }
    }
}

fn limits(table: &Table<'_>) -> Limits {
    let size = |key, knob| knob::size(table.number(key, knob));
    let limits = Limits {
        connections: size("connections", &knob::CONNECTIONS),
        connections_per_address: size("connections_per_address", &knob::CONNECTIONS_PER_ADDRESS),
        handshakes: size("handshakes", &knob::HANDSHAKES),
        handshakes_per_address: size("handshakes_per_address", &knob::HANDSHAKES_PER_ADDRESS),
        handshake_timeout: table.millis("handshake_timeout_ms", &knob::HANDSHAKE_TIMEOUT_MS),
        header_timeout: table.millis("header_timeout_ms", &knob::HEADER_TIMEOUT_MS),
        body_idle_timeout: table.millis("body_idle_timeout_ms", &knob::BODY_IDLE_TIMEOUT_MS),
        keepalive_timeout: table.millis("keepalive_timeout_ms", &knob::KEEPALIVE_TIMEOUT_MS),
        request_timeout: knob::limit_millis(table.number("request_timeout_ms", &knob::REQUEST_TIMEOUT_MS)),
        target_bytes: size("target_bytes", &knob::TARGET_BYTES),
        header_bytes: size("header_bytes", &knob::HEADER_BYTES),
        header_count: size("header_count", &knob::HEADER_COUNT),
        body_bytes: table.number("body_bytes", &knob::BODY_BYTES),
        h2_concurrent_streams: knob::short(table.number("h2_concurrent_streams", &knob::H2_CONCURRENT_STREAMS)),
        h2_resets: knob::short(table.number("h2_resets", &knob::H2_RESETS)),
        h3_retry_handshakes: size("h3_retry_handshakes", &knob::H3_RETRY_HANDSHAKES),
        h3_window_bytes: table.number("h3_window_bytes", &knob::H3_WINDOW_BYTES),
        device_refusal_burst_bytes: table.number("device_refusal_burst_bytes", &knob::DEVICE_REFUSAL_BURST_BYTES),
        device_refusal_bytes_per_second: table
            .number("device_refusal_bytes_per_second", &knob::DEVICE_REFUSAL_BYTES_PER_SECOND),
        device_requests_per_second: knob::limit(
            table.number("device_requests_per_second", &knob::DEVICE_REQUESTS_PER_SECOND),
        ),
    };
    if limits.header_bytes < limits.target_bytes.saturating_add(HEAD_BESIDE_TARGET) {
        let (key, target) = (table.key("header_bytes"), table.key("target_bytes"));
        let why = format!("it must be at least {HEAD_BESIDE_TARGET} more than `{target}`, {}", limits.target_bytes);
        table.problem("header_bytes", format!("`{key}` is {}; {why}: the target is a part of it", limits.header_bytes));
    }
    limits
}

fn server_names(table: &Table<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for text in table.texts("server_names") {
        match check_host(text.text) {
            Err(why) => table.refuse(&text, &why),
            Ok(()) if names.iter().any(|name| name == text.text) => table.refuse(&text, "it is there twice"),
            Ok(()) => names.push(text.text.to_owned()),
        }
    }
    names
}

/// A lower-case host name (RFC 1123 section 2.1, RFC 5890 A-labels) or an IP address, in its one spelling.
pub(super) fn check_host(host: &str) -> Result<(), String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        let canonical = address.to_string();
        return if canonical == host { Ok(()) } else { Err(format!("write it as `{canonical}`")) };
    }
    let refused = |why: &str| Err(why.to_owned());
    if host.starts_with('[') {
        return refused("an IPv6 address stands without brackets and without a port");
    }
    if host.contains('*') {
        return refused("a wildcard names hosts that nobody listed; list each");
    }
    if host.contains(':') {
        return refused("it must be a host without a port");
    }
    if host.ends_with('.') {
        return refused("it must not end in a dot");
    }
    if !host.is_ascii() {
        return refused("write an international name as its A-labels (`xn--…`)");
    }
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("write it in lower case, `{}`", host.to_ascii_lowercase().escape_debug()));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return refused("it must be a host name (letters, digits and `-` between dots) or an IP address");
    }
    // `127.1` and `0x7f.1` are addresses to some readers and names to others.
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        return refused("its last label is a number, which some take for an IP address");
    }
    Ok(())
}

/// A name that fits a metric label, a record and the name of a systemd socket.
pub(super) fn is_label(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The addresses that are listened on.
#[derive(Default)]
pub(super) struct Addresses(Vec<(SocketAddr, String)>);

impl Addresses {
    /// Parses an address and takes it, unless another listener has it. Port 0 is a port of its own each time.
    pub(super) fn take(&mut self, table: &Table<'_>, text: &Text<'_>) -> Option<SocketAddr> {
        let Ok(address) = text.text.parse::<SocketAddr>() else {
            table.refuse(text, "it must be an IP address and a port, such as `127.0.0.1:8443` or `[::]:8443`");
            return None;
        };
        let collides = |other: &SocketAddr| {
            address.port() != 0
                && address.port() == other.port()
                && (address.ip() == other.ip() || address.ip().is_unspecified() || other.ip().is_unspecified())
        };
        if let Some((_, other)) = self.0.iter().find(|(other, _)| collides(other)) {
            table.refuse(text, &format!("`{other}` listens there"));
            return None;
        }
        self.0.push((address, text.key.clone()));
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_has_one_spelling() {
        for good in ["localhost", "gw1.sekisho.example", "127.0.0.1", "::1", "xn--eckwd4c7c.example", "a-b.c1"] {
            assert_eq!(check_host(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", "host name"),
            ("a b", "host name"),
            ("-a", "host name"),
            ("a..b", "host name"),
            ("a_b", "host name"),
            ("Gw1", "lower case, `gw1`"),
            ("localhost:8443", "without a port"),
            ("[::1]", "without brackets"),
            ("0:0::1", "write it as `::1`"),
            ("*.example", "wildcard"),
            ("example.", "end in a dot"),
            ("関所.example", "A-labels"),
            ("127.1", "number"),
            ("a.0x7f", "number"),
        ] {
            assert!(check_host(bad).unwrap_err().contains(why), "{bad}: {:?}", check_host(bad));
        }
    }

    proptest! {
        #[test]
        fn an_accepted_host_is_what_it_normalises_to(host in "[a-zA-Z0-9.:*-]{0,20}") {
            if check_host(&host).is_ok() {
                prop_assert_eq!(host.to_ascii_lowercase(), host.clone());
                prop_assert!(!host.ends_with('.') && !host.contains('*'));
            }
        }
    }
}
