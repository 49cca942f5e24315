//! Reading `[listener.wireguard]`.

use std::net::IpAddr;

use gateway_tunnel::Network;
use gateway_tunnel::config::MIN_MTU_V6;

use super::file_listener::check_host;
use super::knob;
use super::table::{Table, Text};
use super::wireguard::{Asking, InsideTls, WireGuard};

/// The gateway's own addresses: as many as one stack takes.
const MAX_INSIDE: usize = 8;
/// TCP ports inside: each is looked for at every packet.
pub(super) const MAX_PORTS: usize = 16;

const INSIDE_TLS: &[(&str, InsideTls)] =
    &[("required", InsideTls::Required), ("optional", InsideTls::Optional), ("off", InsideTls::Off)];
const ASKING: &[(&str, Asking)] =
    &[("off", Asking::Off), ("optional", Asking::Optional), ("required", Asking::Required)];

/// Whether TLS is spoken inside, and whether a certificate is asked for: what the listener's `tls` goes by.
pub(super) fn inside_tls(table: &Table<'_>) -> (InsideTls, Asking) {
    let inside = table.choice("inside_tls", InsideTls::Required, INSIDE_TLS);
    let asking = table.choice("client_certificate", Asking::Off, ASKING);
    let conflict = match (inside, asking) {
        (InsideTls::Off, Asking::Optional | Asking::Required) => Some("`off`: there is no handshake to show one in"),
        (InsideTls::Optional, Asking::Required) => Some("`optional`: whoever speaks no TLS shows none"),
        (InsideTls::Required | InsideTls::Off, _) | (InsideTls::Optional, _) => None,
    };
    if let Some(why) = conflict {
        let (own, other) = (table.key("client_certificate"), table.key("inside_tls"));
        table.problem("client_certificate", format!("`{own}` asks for a certificate, and `{other}` is {why}"));
    }
    (inside, asking)
}

pub(super) fn wireguard(table: &Table<'_>, server_names: &[String]) -> Option<WireGuard> {
    let (inside_tls, client_certificate) = inside_tls(table);
    let private_key_file = table.path("private_key_file");
    let endpoint = table.text("endpoint").and_then(|text| endpoint(table, &text));
    let inside = inside(table);
    let ports = table.ports("ports", 443, MAX_PORTS);
    let site_ranges = site_ranges(table);
    let site_prefix = table.number("site_prefix", &knob::SITE_PREFIX);
    let site_prefix_v6 = table.number("site_prefix_v6", &knob::SITE_PREFIX_V6);
    for range in &site_ranges {
        let (key, prefix) =
            if range.address().is_ipv4() { ("site_prefix", site_prefix) } else { ("site_prefix_v6", site_prefix_v6) };
        if u64::from(range.length()) > prefix {
            let own = table.key(key);
            table.problem(key, format!("`{own}` is {prefix}, and the range `{range}` is smaller than one site's"));
        }
    }
    let mtu = table.number("mtu", &knob::INSIDE_MTU);
    if mtu < u64::from(MIN_MTU_V6) && inside.iter().any(IpAddr::is_ipv6) {
        let own = table.key("mtu");
        table.problem("mtu", format!("`{own}` is {mtu}; with an IPv6 address inside it must be at least {MIN_MTU_V6}"));
    }
    let dns = table.boolean("dns", false);
    if dns && server_names.iter().all(|name| name.parse::<IpAddr>().is_ok()) {
        let own = table.key("dns");
        table.problem("dns", format!("`{own}` needs a host name in `server_names`: those are what it answers"));
    }
    if inside.is_empty() || site_ranges.is_empty() {
        return None;
    }
    Some(WireGuard {
        private_key_file: private_key_file?,
        endpoint: endpoint?,
        inside,
        ports,
        site_ranges,
        site_prefix: u8::try_from(site_prefix).ok()?,
        site_prefix_v6: u8::try_from(site_prefix_v6).ok()?,
        dns,
        mtu: u16::try_from(mtu).ok()?,
        inside_tls,
        client_certificate,
    })
}

/// A host and a port, as `Endpoint` of a client's configuration takes them.
fn endpoint(table: &Table<'_>, text: &Text<'_>) -> Option<String> {
    let host = |host: &str| match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok() && check_host(host).is_ok(),
        None => check_host(host).is_ok(),
    };
    let is_good = text.text.rsplit_once(':').is_some_and(|(name, port)| {
        host(name) && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !is_good {
        table.refuse(text, "it must be a host and a port, such as `gw.example:51820` or `[2001:db8::1]:51820`");
    }
    is_good.then(|| text.text.to_owned())
}

fn inside(table: &Table<'_>) -> Vec<IpAddr> {
    let mut inside = Vec::new();
    for text in table.texts("inside") {
        match text.text.parse::<IpAddr>() {
            Err(_) => table.refuse(&text, "it must be an IP address"),
            Ok(address) if inside.contains(&address) => table.refuse(&text, "it is there twice"),
            Ok(address) if !is_one_host(address) => {
                table.refuse(&text, "it must be an address that one host has in a network");
            }
            Ok(address) => inside.push(address),
        }
    }
    if inside.len() > MAX_INSIDE {
        let own = table.key("inside");
        table.problem("inside", format!("`{own}` lists {} addresses; at most {MAX_INSIDE} can be", inside.len()));
    }
    inside
}

/// Whether a stack can have it as its own.
fn is_one_host(address: IpAddr) -> bool {
    let is_other = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    !(is_other || address.is_unspecified() || address.is_multicast() || address.is_loopback())
}

fn site_ranges(table: &Table<'_>) -> Vec<Network> {
    let mut ranges: Vec<Network> = Vec::new();
    for text in table.texts("site_ranges") {
        match text.text.parse::<Network>() {
            Err(why) => table.refuse(&text, &why.to_string()),
            Ok(range) => match ranges.iter().find(|other| range.overlaps(other)) {
                Some(other) => table.refuse(&text, &format!("it overlaps `{other}`")),
                None => ranges.push(range),
            },
        }
    }
    ranges
}
