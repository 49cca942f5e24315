//! Listeners of tunnels.

use super::*;

/// A listener of tunnels behind the minimal file's own, with what is required of it.
const TUNNELS: &str = r#"
[[listener]]
name = "tunnels"
kind = "wireguard"
address = "0.0.0.0:8443"
server_names = ["gateway.sekisho.example"]
tls = { certificate_file = "tls/server.crt", key_file = "tls/server.key" }
[listener.wireguard]
private_key_file = "tunnels.key"
endpoint = "gw.example:51820"
inside = ["10.64.0.1"]
site_ranges = ["10.64.0.0/10"]
"#;

fn with(tunnels: &str) -> String {
    MINIMAL.replace("[[service]]", &format!("{tunnels}\n[[service]]"))
}

#[test]
fn what_is_left_out_has_its_default() {
    // UDP and TCP ports of one number are two.
    let config = parse(&with(TUNNELS)).unwrap();
    let tunnels = config.listeners[1].wireguard.as_ref().unwrap();
    assert_eq!(tunnels.private_key_file, Path::new("/etc/sekisho/tunnels.key"));
    assert_eq!((&tunnels.ports[..], tunnels.mtu, tunnels.dns), (&[443][..], 1360, false));
    assert_eq!((tunnels.site_prefix, tunnels.site_prefix_v6), (24, 64));
    assert_eq!((tunnels.inside_tls, tunnels.client_certificate), (InsideTls::Required, Asking::Off));
    assert_eq!(config.listeners[1].tls.client_ca_file, None);
    assert!(config.listeners[0].wireguard.is_none() && config.listeners[0].tls.client_ca_file.is_some());
    let off = TUNNELS.replace("inside = [", "inside_tls = \"off\"\ninside = [");
    let off = off.lines().filter(|line| !line.starts_with("tls =")).collect::<Vec<_>>().join("\n");
    let config = parse(&with(&off)).unwrap();
    assert!(config.listeners[1].tls.identities.is_empty());
}

#[test]
fn what_contradicts_itself_is_named() {
    let line = |line: &str| TUNNELS.replace("inside = [", &format!("{line}\ninside = ["));
    let tls = |key: &str| TUNNELS.replace("key_file = \"tls/server.key\" }", &format!("key_file = \"k\", {key} }}"));
    for (text, named) in [
        (
            TUNNELS.replace("kind = \"wireguard\"", ""),
            "`listener[1].wireguard` is there and `listener[1].kind` is `tls`",
        ),
        (line("inside_tls = \"off\""), "`listener[1].tls` is there and `listener[1].wireguard.inside_tls` is `off`"),
        (line("client_certificate = \"required\""), "`listener[1].tls.client_ca_file` is missing"),
        (line("inside_tls = \"optional\"\nclient_certificate = \"required\""), "asks for a certificate, and"),
        (line("inside_tls = \"off\"\nclient_certificate = \"optional\""), "asks for a certificate, and"),
        (tls("client_ca_file = \"ca.crt\""), "nobody is asked for a certificate"),
        (tls("revocation = { mode = \"off\" }"), "nobody is asked for a certificate"),
        (tls("peers = \"patients\""), "a tunnel is a device's"),
        (line("port = 443"), "unknown key `listener[1].wireguard.port`"),
        (line("ports = [443, 443]"), "each once"),
        (line("ports = []"), "must list 1 to 16 ports"),
        (line("ports = [70000]"), "must list 1 to 16 ports"),
        (line("mtu = 1500"), "it must be 576 to 1440"),
        (line("mtu = 1200").replace("\"10.64.0.1\"", "\"fd64::1\""), "at least 1280"),
        (line("site_prefix = 9"), "smaller than one site's"),
        (line("dns = true").replace("gateway.sekisho.example", "10.64.0.1"), "needs a host name"),
        (TUNNELS.replace("[\"10.64.0.1\"]", "[\"10.64.0.1\", \"10.64.0.1\"]"), "it is there twice"),
        (TUNNELS.replace("[\"10.64.0.1\"]", "[\"127.0.0.1\"]"), "one host has"),
        (TUNNELS.replace("[\"10.64.0.1\"]", "[\"::ffff:10.64.0.1\"]"), "one host has"),
        (TUNNELS.replace("[\"10.64.0.1\"]", "[\"255.255.255.255\"]"), "one host has"),
        (TUNNELS.replace("[\"10.64.0.1\"]", "[]"), "is empty"),
        (
            line("inside_tls = \"optional\"").replace("kind =", "login_page = true\nkind ="),
            "`listener[1].login_page` is there, and `listener[1].wireguard.inside_tls` is not `required`",
        ),
        (
            line("inside_tls = \"off\"").replace("kind =", "oidc = [\"hospital\"]\nkind ="),
            "`listener[1].oidc` is there, and `listener[1].wireguard.inside_tls` is not `required`",
        ),
        (TUNNELS.replace("10.64.0.0/10", "10.64.0.1/10"), "no bit behind it may be set"),
        (TUNNELS.replace("10.64.0.0/10", "10.64.0.0/x"), "a range of addresses"),
        (TUNNELS.replace("[\"10.64.0.0/10\"]", "[\"10.64.0.0/10\", \"10.65.0.0/16\"]"), "it overlaps `10.64.0.0/10`"),
        (TUNNELS.replace("gw.example:51820", "gw.example"), "a host and a port"),
        (TUNNELS.replace("gw.example:51820", "gw.example:0"), "a host and a port"),
        (format!("{TUNNELS}{}", TUNNELS.replace("\"tunnels\"", "\"more\"")), "`listener[1].address` listens there"),
    ] {
        let found = problems(&with(&text));
        assert!(found.iter().any(|problem| problem.contains(named)), "{named}: {found:?}");
    }
    // Another site's clinics are not asked: a peer's own certificate is, where it is.
    assert_eq!(problems(&with(&line("inside_tls = \"optional\""))), [""; 0]);
}

#[test]
fn what_is_bound_to_the_start_needs_a_restart() {
    let old = parse(&with(TUNNELS)).unwrap();
    for (changed, restart) in [
        (TUNNELS.replace("10.64.0.1", "10.64.0.2"), true),
        (TUNNELS.replace("tunnels.key", "other.key"), true),
        (TUNNELS.replace("gw.example:51820", "gw.example:51821"), false),
        (TUNNELS.replace("inside = [", "inside_tls = \"optional\"\ninside = ["), false),
    ] {
        let new = parse(&with(&changed)).unwrap();
        assert_eq!(!old.needs_restart(&new).is_empty(), restart, "{changed}");
    }
}
