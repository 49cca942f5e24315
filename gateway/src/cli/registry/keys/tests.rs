use std::os::unix::fs::PermissionsExt as _;

use clap::Parser as _;

use super::*;
use crate::cli::registry::{DeviceArgs, DeviceCommand, RegistryCommand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::store::{Allotment, DisplayName};

#[derive(Debug, clap::Parser)]
enum Sekisho {
    Device(DeviceArgs),
}

fn tunnels(name: &str) -> TunnelListener {
    TunnelListener {
        name: name.to_owned(),
        endpoint: "gw.example:51820".to_owned(),
        public_key: PrivateKey::new([200; 32]).public(),
        mtu: 1360,
        dns: name == "named",
        allotment: Allotment {
            ranges: vec!["10.64.0.0/10".parse().unwrap()],
            prefix_v4: 24,
            prefix_v6: 64,
            own: vec!["10.64.0.1".parse().unwrap(), "fd64::1".parse().unwrap()],
        },
    }
}

async fn clinic() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("sekisho.db")).await.unwrap();
    store.site_add("t", "s".parse().unwrap(), DisplayName::default()).await.unwrap();
    (folder, store)
}

async fn run_with(store: &Store, doors: Option<Vec<TunnelListener>>, line: &[&str]) -> Result<String, String> {
    let line = ["sekisho", "device"].into_iter().chain(line.iter().copied());
    let Sekisho::Device(args) = Sekisho::try_parse_from(line).map_err(|error| format!("usage: {error}"))?;
    let mut command = RegistryCommand::Device(args.command);
    if let Some(slot) = command.tunnels() {
        *slot = doors;
    }
    let mut out = Vec::new();
    let done = crate::cli::registry::run(command, store, "alice", args.options.json, &mut out).await;
    done.map(|()| String::from_utf8(out).unwrap()).map_err(|error| format!("{error:#}"))
}

async fn run(store: &Store, line: &[&str]) -> Result<String, String> {
    run_with(store, Some(vec![tunnels("tunnels")]), line).await
}

fn value<'t>(text: &'t str, key: &str) -> &'t str {
    text.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).unwrap()
}

#[tokio::test]
async fn a_device_gets_what_it_needs_once() {
    let (_folder, store) = clinic().await;
    let text = run(&store, &["add", "s/d", "--wireguard"]).await.unwrap();
    let bytes = STANDARD.decode(value(&text, "PrivateKey")).unwrap().try_into().unwrap();
    let kept = store.wireguard_key_list(None).await.unwrap();
    assert_eq!(kept[0].public_key, PrivateKey::new(bytes).public());
    assert_eq!(value(&text, "Address"), "10.64.1.1/32");
    assert_eq!(value(&text, "AllowedIPs"), "10.64.0.1/32", "it has no IPv6 address");
    assert_eq!(value(&text, "PublicKey"), base64_text(&tunnels("x").public_key));
    assert_eq!((value(&text, "Endpoint"), value(&text, "MTU")), ("gw.example:51820", "1360"));
    assert_eq!(value(&text, "PersistentKeepalive"), "25");
    assert!(!text.contains("DNS"), "{text}");
    let directory = store.directory().await.unwrap();
    let preshared = STANDARD.decode(value(&text, "PresharedKey")).unwrap().try_into().unwrap();
    assert_eq!(directory.tunnel_keys()[0].preshared_key, Some(gateway_tunnel::PresharedKey::new(preshared)));
    // Another key: both are others, and the address stays.
    let again = run(&store, &["key", "new", "s/d"]).await.unwrap();
    for key in ["PrivateKey", "PresharedKey"] {
        assert_ne!(value(&again, key), value(&text, key));
    }
    assert_eq!(value(&again, "Address"), "10.64.1.1/32");
    let listed = run(&store, &["key", "list"]).await.unwrap();
    assert!(listed.contains("s/d") && listed.contains("10.64.1.1/32") && listed.contains("yes"), "{listed}");
    assert_eq!(run(&store, &["key", "remove", "s/d"]).await.unwrap(), "wireguard-key `s/d` removed\n");
    let journal = serde_json::to_string(&store.changes_after(0, 100).await.unwrap()).unwrap();
    for secret in ["PrivateKey", "PresharedKey"] {
        assert!(!journal.contains(value(&again, secret)), "{secret}");
    }
}

#[tokio::test]
async fn a_devices_own_key_is_taken_and_no_private_key_is_shown() {
    let (_folder, store) = clinic().await;
    let own = base64_text(&PrivateKey::new([3; 32]).public());
    let text = run(&store, &["add", "s/d", "--wireguard", "--public-key", &own]).await.unwrap();
    assert!(text.contains("\n# PrivateKey = (the device's own") && !text.contains("\nPrivateKey"), "{text}");
    let same = run(&store, &["add", "s/e", "--wireguard", "--public-key", &own]).await.unwrap_err();
    assert_eq!(same, "the WireGuard key of device `s/d` cannot be that of device `s/e` as well");
    assert!(
        store
            .device_show(
                &"s/e"
                    .split_once('/')
                    .map(|(s, d)| DeviceId { site: s.parse().unwrap(), device: d.parse().unwrap() })
                    .unwrap()
            )
            .await
            .is_err()
    );
    let gateway = base64_text(&tunnels("x").public_key);
    let error = run(&store, &["add", "s/e", "--wireguard", "--public-key", &gateway]).await.unwrap_err();
    assert_eq!(error, "the key for device `s/e` is the gateway's own");
    let zero = STANDARD.encode([0; 32]);
    let one = STANDARD.encode({
        let mut one = [0; 32];
        one[0] = 1;
        one
    });
    for bad in [
        zero.as_str(),
        &one,
        "",
        "AAAA",
        "not base64",
        own.trim_end_matches('='),
        &format!("{own}\n"),
        &own.replace('=', ""),
    ] {
        let error = run(&store, &["add", "s/e", "--wireguard", "--public-key", bad]).await.unwrap_err();
        assert!(error.starts_with("usage: "), "{bad}: {error}");
    }
    for line in [&["add", "s/e", "--qr"][..], &["add", "s/e", "--public-key", &own], &["add", "s/e", "--out", "x"]] {
        assert!(run(&store, line).await.unwrap_err().starts_with("usage: "), "{line:?}");
    }
}

#[tokio::test]
async fn a_file_is_its_owners_and_takes_nobodys_place() {
    let (folder, store) = clinic().await;
    let path = folder.path().join("d.conf");
    let at = path.to_str().unwrap();
    let told = run(&store, &["add", "s/d", "--wireguard", "--out", at]).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!told.contains(value(&text, "PrivateKey")) && told.contains("d.conf"), "{told}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = store.sequence().await.unwrap();
    let error = run(&store, &["key", "new", "s/d", "--out", at]).await.unwrap_err();
    assert!(error.contains("d.conf"), "{error}");
    assert_eq!(store.sequence().await.unwrap(), before, "the key before is good still");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let missing = folder.path().join("none/d.conf");
    assert!(run(&store, &["add", "s/e", "--wireguard", "--out", missing.to_str().unwrap()]).await.is_err());
    assert_eq!(store.sequence().await.unwrap(), before, "no device without its key");
}

#[tokio::test]
async fn the_qr_code_does_not_spoil_the_file() {
    let (_folder, store) = clinic().await;
    let text = run(&store, &["add", "s/d", "--wireguard", "--qr"]).await.unwrap();
    let drawn: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("PersistentKeepalive")).skip(1).collect();
    assert!(drawn.len() > 20 && drawn.iter().all(|line| line.starts_with("# ")), "{text}");
    let json = run(&store, &["key", "new", "s/d", "--json"]).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["configuration"].as_str().unwrap().contains("PrivateKey = "));
    assert_eq!(json["wireguard-key"]["addresses"], serde_json::json!(["10.64.1.1/32"]));
}

#[tokio::test]
async fn a_listener_is_chosen_or_asked_for() {
    let (_folder, store) = clinic().await;
    let both = || Some(vec![tunnels("one"), tunnels("named")]);
    let line = &["add", "s/d", "--wireguard"][..];
    assert_eq!(
        run_with(&store, both(), line).await.unwrap_err(),
        "say by --listener to which it comes: `one`, `named`"
    );
    assert!(run_with(&store, Some(Vec::new()), line).await.unwrap_err().contains("no listener of kind"));
    assert!(run_with(&store, None, line).await.unwrap_err().contains("--config"));
    let other = [line, &["--listener", "two"]].concat();
    assert!(run_with(&store, both(), &other).await.unwrap_err().contains("there are `one`, `named`"));
    let text = run_with(&store, both(), &[line, &["--listener", "named"]].concat()).await.unwrap();
    assert_eq!(value(&text, "DNS"), "10.64.0.1");
    let said =
        run_with(&store, both(), &["key", "new", "s/d", "--listener", "one", "--address", "10.64.1.77"]).await.unwrap();
    assert_eq!(value(&said, "Address"), "10.64.1.77/32");
}

/// The command that a form stands in may be printed by whoever debugs it; nothing secret is in it.
#[test]
fn a_form_has_no_secret() {
    let command = DeviceCommand::Key { command: KeyCommand::List { site: None } };
    assert!(format!("{command:?} {:?}", tunnels("x")).contains("TunnelListener"));
}
