//! A WireGuard client of another make, without an interface, by IPv4 and IPv6: Noise by a Python library, packets by scapy, TLS by OpenSSL.

use std::net::IpAddr;
use std::process::Command;

use gateway_tests::wireguard::{Keys, public_of};
use gateway_tests::{Clinic, DOCTOR, Reply, until};
use serde_json::{Value, json};

/// What the client saw that came from this address outside, with this one inside, to the gateway's `inside`.
fn seen_by(clinic: &Clinic, key: &str, keys: &Keys, host: &str, inside: IpAddr, gateway: &str) -> Value {
    let arguments = json!({
        "endpoint": [host, clinic.door_of("tunnels").address.port()],
        "private": keys.private, "gateway_key": key, "shared": keys.shared,
        "inside": inside, "gateway": gateway, "ca": clinic.prepared.path("tls/servers-ca.crt"),
        "names": ["localhost", "LOCALHOST.", "elsewhere.example"],
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/wireguard_client.py");
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(python).args([script, &arguments.to_string()]).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn of_another_make(address: &str, host: &str, inside: &str, gateway: &str) -> Clinic {
    let listener = format!(
        "[[listener]]\nname = \"tunnels\"\nkind = \"wireguard\"\naddress = \"{address}\"\n\
         server_names = [\"localhost\", \"10.64.0.1\"]\n\
         tls = {{ certificate_file = \"tls/server.crt\", key_file = \"tls/server.key\" }}\n\
         [listener.wireguard]\nprivate_key_file = \"state/tunnels.key\"\nendpoint = \"localhost:51820\"\n\
         inside = [\"10.64.0.1\", \"fd64::1\"]\nports = [443]\nsite_ranges = [\"10.64.0.0/10\", \"fd64::/16\"]\n\
         dns = true\n"
    );
    let prepared = Clinic::builder().config(|config| config.append(&listener)).prepare();
    let mut keys = Keys::new();
    let inside: IpAddr = inside.parse().expect("an address");
    keys.shared = Some(prepared.add_tunnel_key(DOCTOR, &keys.public, inside));
    let clinic = prepared.start();
    let body = "0123456789abcdef".repeat(4096);
    clinic.backend().answers(move |seen| match seen.target().as_str() {
        "/fhir/Binary/some" => Reply::new(200, &body),
        _ => Reply::new(200, "{}"),
    });
    let private = std::fs::read_to_string(clinic.prepared.path("state/tunnels.key")).expect("the gateway made a key");
    let seen = seen_by(&clinic, &public_of(private.trim()), &keys, host, inside, gateway);
    let served = json!([200, 2]);
    let names = json!({"localhost": [0, [gateway]], "LOCALHOST.": [0, [gateway]], "elsewhere.example": [5, []]});
    let expected = json!({
        "echo": true, "dns": names, "plain": served, "overlapping": served, "early": served, "narrow": [200, 65536],
        "reset": served, "closed_port": false, "again": served,
    });
    assert_eq!(seen, expected);
    for reason in ["replayed", "unauthentic", "port"] {
        until(reason, || (clinic.metric("sekisho_tunnel_drops_total", &[("reason", reason)]) > 0.0).then_some(()));
    }
    let handshakes = || clinic.metric("sekisho_tunnel_handshakes_total", &[("outcome", "completed")]);
    until("both handshakes to be counted", || (handshakes() >= 2.0).then_some(()));
    clinic
}

/// Handshake, rekeying, echo, DNS, TLS, segments that overlap or come early, a window of 900 bytes, a guessed reset, a replay, a
/// flipped bit, a fragment.
#[test]
fn wireguard_serves_a_client_of_another_make() {
    let clinic = of_another_make("127.0.0.1:0", "127.0.0.1", "10.64.1.2", "10.64.0.1");
    until("the fragment's drop", || {
        (clinic.metric("sekisho_tunnel_drops_total", &[("reason", "fragment")]) > 0.0).then_some(())
    });
}

/// The same by IPv6, outside and inside.
#[test]
fn wireguard_serves_by_ipv6() {
    of_another_make("[::1]:0", "::1", "fd64:0:0:1::2", "fd64::1");
}
