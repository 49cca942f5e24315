use std::os::unix::fs::PermissionsExt as _;

use gateway_tunnel::PrivateKey;

use super::*;
use crate::store::{DisplayName, NewDevice, SetSite};

fn id(text: &str) -> DeviceId {
    let (site, device) = text.split_once('/').unwrap();
    DeviceId { site: site.parse().unwrap(), device: device.parse().unwrap() }
}

fn nets(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn public(seed: u8) -> PublicKey {
    PrivateKey::new([seed; 32]).public()
}

fn plan() -> Allotment {
    Allotment {
        ranges: nets(&["10.64.0.0/10", "fd64::/48"]),
        prefix_v4: 24,
        prefix_v6: 64,
        own: vec!["10.64.0.1".parse().unwrap(), "fd64::1".parse().unwrap()],
    }
}

fn new(device: &str, seed: u8) -> NewWireguardKey {
    let preshared_key = Some(Zeroizing::new([seed; 32]));
    NewWireguardKey { id: id(device), public_key: public(seed), preshared_key, addresses: None, allotment: plan() }
}

/// Sites `s` and `t` with two devices each.
async fn clinic() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("sekisho.db")).await.unwrap();
    for site in ["s", "t"] {
        store.site_add("t", site.parse().unwrap(), DisplayName::default()).await.unwrap();
        for device in ["a", "b"] {
            let id = id(&format!("{site}/{device}"));
            let new = NewDevice { id, display_name: DisplayName::default(), user: None, roles: Vec::new() };
            store.device_add("t", new).await.unwrap();
        }
    }
    (folder, store)
}

fn message<T>(result: Result<T, StoreError>) -> String {
    result.err().map(|e| e.to_string()).unwrap()
}

#[tokio::test]
async fn sites_get_ranges_and_devices_addresses_and_each_change_is_journalled() {
    let (_folder, store) = clinic().await;
    let before = store.sequence().await.unwrap();
    let first = store.wireguard_key_put("t", new("s/a", 1)).await.unwrap();
    assert_eq!(first.addresses, nets(&["10.64.1.1", "fd64:0:0:1::1"]));
    let second = store.wireguard_key_put("t", new("s/b", 2)).await.unwrap();
    assert_eq!(second.addresses, nets(&["10.64.1.2", "fd64:0:0:1::2"]));
    let other = store.wireguard_key_put("t", new("t/a", 3)).await.unwrap();
    assert_eq!(other.addresses, nets(&["10.64.2.1", "fd64:0:0:2::1"]));
    assert_eq!(
        store.site_show(&"s".parse().unwrap()).await.unwrap().inside,
        nets(&["10.64.1.0/24", "fd64:0:0:1::/64"])
    );
    // Another key, the same addresses.
    let again = store.wireguard_key_put("t", new("s/a", 4)).await.unwrap();
    assert_eq!((again.public_key, &again.addresses), (public(4), &first.addresses));
    assert_eq!(store.wireguard_key_list(None).await.unwrap().len(), 3);
    assert_eq!(store.wireguard_key_list(Some(&"t".parse().unwrap())).await.unwrap(), [other]);
    assert!(store.wireguard_key_list(Some(&"x".parse().unwrap())).await.is_err());
    store.wireguard_key_remove("t", &id("s/a")).await.unwrap();
    assert_eq!(message(store.wireguard_key_remove("t", &id("s/a")).await), "no wireguard-key `s/a`");
    let changes = store.changes_after(before, 20).await.unwrap();
    let told: Vec<_> =
        changes.iter().map(|c| (c.body.verb, c.entry().unwrap().kind(), c.entry().unwrap().to_string())).collect();
    let row = |verb, kind, name: &str| (verb, kind, name.to_owned());
    assert_eq!(
        told,
        [
            row(Verb::Set, Kind::Site, "s"),
            row(Verb::Add, Kind::WireguardKey, "s/a"),
            row(Verb::Add, Kind::WireguardKey, "s/b"),
            row(Verb::Set, Kind::Site, "t"),
            row(Verb::Add, Kind::WireguardKey, "t/a"),
            row(Verb::Set, Kind::WireguardKey, "s/a"),
            row(Verb::Remove, Kind::WireguardKey, "s/a"),
        ]
    );
}

#[tokio::test]
async fn what_is_anothers_is_refused_and_the_other_is_named() {
    let (_folder, store) = clinic().await;
    store
        .site_set("t", &"s".parse().unwrap(), SetSite { inside: Some(nets(&["10.64.1.0/24"])), ..SetSite::default() })
        .await
        .unwrap();
    store.wireguard_key_put("t", new("s/a", 1)).await.unwrap();
    let before = store.sequence().await.unwrap();
    let put = async |new| message(store.wireguard_key_put("t", new).await);
    let set = async |site: &str, ranges: &[&str]| {
        let set = SetSite { inside: Some(nets(ranges)), ..SetSite::default() };
        message(store.site_set("t", &site.parse().unwrap(), set).await)
    };
    let with =
        |device: &str, addresses: &[&str]| NewWireguardKey { addresses: Some(nets(addresses)), ..new(device, 9) };
    for (found, expected) in [
        (put(new("t/a", 1)).await, "the WireGuard key of device `s/a` cannot be that of device `t/a` as well"),
        (put(new("s/b", 1)).await, "the WireGuard key of device `s/a` cannot be that of device `s/b` as well"),
        (put(with("s/b", &["10.64.1.0/30"])).await, "the range `10.64.1.0/30` overlaps `10.64.1.1/32` of device `s/a`"),
        (
            put(with("s/b", &["10.64.1.8/29", "10.64.1.9"])).await,
            "the range `10.64.1.9/32` overlaps `10.64.1.8/29` of device `s/b` itself",
        ),
        (
            put(with("s/b", &["10.64.2.9"])).await,
            "the range `10.64.2.9/32` is not within those of site `s`: 10.64.1.0/24",
        ),
        (
            put(with("t/b", &["10.64.2.9"])).await,
            "the range `10.64.2.9/32` is not within those of site `t`: it has none",
        ),
        (put(with("s/b", &["10.64.0.1"])).await, "the range `10.64.0.1/32` overlaps `10.64.0.1` of the gateway"),
        (
            put(NewWireguardKey { public_key: PublicKey([0; 32]), ..new("s/b", 9) }).await,
            "the public key for device `s/b` is none that a device can have",
        ),
        (
            put(NewWireguardKey {
                allotment: Allotment { ranges: nets(&["10.64.1.0/24"]), ..plan() },
                ..new("t/a", 9)
            })
            .await,
            "no range is left for site `t` in `10.64.1.0/24`, out of which the listener gives them",
        ),
        (put(new("t/z", 9)).await.split_once(';').unwrap().0.to_owned(), "no device `t/z`"),
        (set("t", &["10.64.0.0/16"]).await, "the range `10.64.0.0/16` overlaps `10.64.1.0/24` of site `s`"),
        (set("t", &["10.64.1.128/25"]).await, "the range `10.64.1.128/25` overlaps `10.64.1.0/24` of site `s`"),
        (set("t", &["fd64::/64", "fd64::/80"]).await, "the range `fd64::/80` overlaps `fd64::/64` of site `t` itself"),
        (
            set("s", &["10.64.1.128/25"]).await,
            "the range `10.64.1.1/32` is not within those of site `s`: 10.64.1.128/25",
        ),
    ] {
        assert_eq!(found, expected);
    }
    let added = store.site_add_inside("t", "u".parse().unwrap(), DisplayName::default(), nets(&["10.64.1.0/25"])).await;
    assert_eq!(message(added), "the range `10.64.1.0/25` overlaps `10.64.1.0/24` of site `s`");
    assert!(store.site_show(&"u".parse().unwrap()).await.is_err(), "nothing of it was stored");
    assert_eq!(store.sequence().await.unwrap(), before);
    // Within one site there is an end.
    store
        .site_set("t", &"t".parse().unwrap(), SetSite { inside: Some(nets(&["10.64.9.0/30"])), ..SetSite::default() })
        .await
        .unwrap();
    store.wireguard_key_put("t", new("t/a", 5)).await.unwrap();
    store.wireguard_key_put("t", new("t/b", 6)).await.unwrap();
    let third = NewDevice { id: id("t/c"), display_name: DisplayName::default(), user: None, roles: Vec::new() };
    store.device_add("t", third).await.unwrap();
    assert_eq!(
        put(new("t/c", 7)).await,
        "no address is left for device `t/c` in `10.64.9.0/30`; `sekisho site set` gives the site more"
    );
}

#[tokio::test]
async fn the_directory_has_keys_of_devices_that_may_come_in() {
    let (_folder, store) = clinic().await;
    for (device, seed) in [("s/a", 1), ("s/b", 2), ("t/a", 3)] {
        store.wireguard_key_put("t", new(device, seed)).await.unwrap();
    }
    let none = NewWireguardKey { preshared_key: None, ..new("t/b", 4) };
    store.wireguard_key_put("t", none).await.unwrap();
    let devices = async || {
        let directory = store.directory().await.unwrap();
        assert!(directory.tunnel_keys().is_sorted_by_key(|key| key.public_key));
        let mut devices: Vec<_> = directory.tunnel_keys().iter().map(|key| key.device.to_string()).collect();
        devices.sort();
        devices
    };
    assert_eq!(devices().await, ["s/a", "s/b", "t/a", "t/b"]);
    let directory = store.directory().await.unwrap();
    let of = |device: &str| directory.tunnel_keys().iter().find(|key| key.device == id(device)).unwrap().clone();
    assert_eq!(of("s/b").preshared_key, Some(PresharedKey::new([2; 32])));
    assert_eq!((of("s/b").public_key, &*of("s/b").networks), (public(2), &*nets(&["10.64.1.2", "fd64:0:0:1::2"])));
    assert_eq!(of("t/b").preshared_key, None);
    store.device_suspend("t", &id("s/a")).await.unwrap();
    assert_eq!(devices().await, ["s/b", "t/a", "t/b"]);
    store.site_suspend("t", &"t".parse().unwrap()).await.unwrap();
    assert_eq!(devices().await, ["s/b"]);
    store.site_resume("t", &"t".parse().unwrap()).await.unwrap();
    store.device_resume("t", &id("s/a")).await.unwrap();
    store.device_remove("t", &id("t/a")).await.unwrap();
    assert_eq!(devices().await, ["s/a", "s/b", "t/b"]);
    store.site_remove("t", &"s".parse().unwrap(), true).await.unwrap();
    assert_eq!(devices().await, ["t/b"]);
}

#[tokio::test]
async fn a_preshared_key_is_nowhere_in_the_store_and_opens_as_what_it_was_sealed_as_alone() {
    let (_folder, store) = clinic().await;
    let file = store.sealing_key_path();
    assert!(!file.exists());
    store.wireguard_key_put("t", new("s/a", 0x41)).await.unwrap();
    store.wireguard_key_put("t", new("s/b", 0x42)).await.unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    store.checkpoint().await;
    let bytes = std::fs::read(store.path()).unwrap();
    let secret = STANDARD.encode([0x41; 32]);
    for needle in [&[0x41; 32][..], secret.as_bytes(), certs::hex(&[0x41; 32]).as_bytes()] {
        assert!(!bytes.windows(needle.len()).any(|part| part == needle));
    }
    let shown = format!("{:?}", store.entries().await.unwrap())
        + &format!("{:?}", store.directory().await.unwrap().tunnel_keys());
    assert!(!shown.contains("65, 65") && !shown.contains("4141") && !shown.contains(&secret), "{shown}");
    let journal = serde_json::to_string(&store.changes_after(0, 100).await.unwrap()).unwrap();
    assert!(journal.contains(r#""preshared_key":true"#) && !journal.contains(&secret), "{journal}");
    // Another device's sealed key is none.
    sqlx::query(
        "UPDATE wireguard_keys SET preshared_key = (SELECT preshared_key FROM wireguard_keys WHERE name = 'b')",
    )
    .execute(&store.pool)
    .await
    .unwrap();
    let directory = store.directory().await.unwrap();
    assert_eq!((directory.tunnel_keys().len(), directory.unreadable_tunnel_keys()), (1, 1));
    assert_eq!(directory.tunnel_keys()[0].device, id("s/b"));
    // Without the file nobody comes in who has one, and everything else goes on.
    std::fs::remove_file(&file).unwrap();
    let store = Store::open(store.path()).await.unwrap();
    let directory = store.directory().await.unwrap();
    assert_eq!((directory.tunnel_keys().len(), directory.unreadable_tunnel_keys()), (0, 2));
    assert!(directory.lookup(&id("s/a")).is_ok());
    assert!(!file.exists(), "reading makes no key");
}

#[tokio::test]
async fn a_key_file_that_is_lost_is_not_replaced_while_something_is_sealed_under_it() {
    let (_folder, store) = clinic().await;
    let file = store.sealing_key_path();
    store.wireguard_key_put("t", new("s/a", 1)).await.unwrap();
    store.wireguard_key_put("t", new("s/b", 2)).await.unwrap();
    let (away, before) = (file.with_extension("away"), store.sequence().await.unwrap());
    std::fs::rename(&file, &away).unwrap();
    let refused = message(store.wireguard_key_put("t", new("t/a", 3)).await);
    let expected =
        format!("`{}` is gone, and the preshared keys of 2 devices are sealed under it: put it back", file.display());
    assert!(refused.starts_with(&expected) && refused.contains("`sekisho device key remove`"), "{refused}");
    assert!(!file.exists());
    assert_eq!(store.sequence().await.unwrap(), before, "nothing of it was stored");
    let without = NewWireguardKey { preshared_key: None, ..new("t/b", 4) };
    store.wireguard_key_put("t", without).await.unwrap();
    // It is put back: all are as they were.
    std::fs::rename(&away, &file).unwrap();
    store.wireguard_key_put("t", new("t/a", 3)).await.unwrap();
    assert_eq!(Store::open(store.path()).await.unwrap().directory().await.unwrap().unreadable_tunnel_keys(), 0);
    // It is lost: a new one is made once nothing is sealed under it.
    std::fs::remove_file(&file).unwrap();
    for device in ["s/a", "s/b", "t/a"] {
        assert!(store.wireguard_key_put("t", new(device, 9)).await.is_err());
        store.wireguard_key_remove("t", &id(device)).await.unwrap();
    }
    store.wireguard_key_put("t", new("s/a", 5)).await.unwrap();
    let directory = Store::open(store.path()).await.unwrap().directory().await.unwrap();
    assert_eq!((directory.tunnel_keys().len(), directory.unreadable_tunnel_keys()), (2, 0));
}

#[tokio::test]
async fn a_key_file_that_cannot_be_read_for_a_moment_cuts_nobody() {
    let (_folder, store) = clinic().await;
    let file = store.sealing_key_path();
    store.wireguard_key_put("t", new("s/a", 1)).await.unwrap();
    let counts = async |store: &Store| {
        let directory = store.directory().await.unwrap();
        (directory.tunnel_keys().len(), directory.unreadable_tunnel_keys())
    };
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let other = Store::open(store.path()).await.unwrap();
    assert_eq!(counts(&other).await, (0, 1), "who never read it knows nothing");
    mode(0o600);
    assert_eq!(counts(&store).await, (1, 0));
    mode(0o644);
    assert_eq!(counts(&store).await, (1, 0));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(counts(&store).await, (1, 0));
    // What takes the place of the store's file is another handle.
    assert_eq!(counts(&store.reopen().await.unwrap()).await, (1, 0));
    // Another key is another: it opens nothing, and the one before is not kept beside it.
    Sealer::load_or_make(&file).unwrap();
    assert_eq!(counts(&store).await, (0, 1));
}

/// Two that come at once for the same address or key: one is refused.
#[tokio::test]
async fn two_operators_at_once_give_nothing_twice() {
    let (_folder, store) = clinic().await;
    let at =
        |device: &str, seed, address: &str| NewWireguardKey { addresses: Some(nets(&[address])), ..new(device, seed) };
    let set = SetSite { inside: Some(nets(&["10.64.1.0/24"])), ..SetSite::default() };
    store.site_set("t", &"s".parse().unwrap(), set).await.unwrap();
    let (one, two) = tokio::join!(
        store.wireguard_key_put("t", at("s/a", 1, "10.64.1.7")),
        store.wireguard_key_put("t", at("s/b", 2, "10.64.1.7")),
    );
    assert!(one.is_ok() != two.is_ok());
    let (one, two) =
        tokio::join!(store.wireguard_key_put("t", new("t/a", 5)), store.wireguard_key_put("t", new("t/b", 5)),);
    assert!(one.is_ok() != two.is_ok());
    assert_eq!(store.wireguard_key_list(None).await.unwrap().len(), 2);
}

/// As many as one listener takes, twice over.
#[tokio::test]
async fn ten_thousand_keys_are_read_at_once() {
    let (_folder, store) = clinic().await;
    let sealer = Sealer::load_or_make(&store.sealing_key_path()).unwrap();
    let mut edit = Edit::begin(&store, "t").await.unwrap();
    for number in 0..10_000_u32 {
        let name = format!("d{number}");
        sqlx::query(
            "INSERT INTO devices (site, name, display_name, status, version, changed_at) \
             VALUES ('s', $1, '', 'active', $2, '')",
        )
        .bind(&name)
        .bind(1_000_000 + i64::from(number))
        .execute(edit.conn())
        .await
        .unwrap();
        let mut seed = [1; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        let public_key = PublicKey(seed);
        let id = DeviceId { site: "s".parse().unwrap(), device: name.parse().unwrap() };
        let sealed = sealer.seal(&whose(&id, &public_key), &seed).unwrap();
        let address = Network::host(std::net::Ipv4Addr::from(0x0a40_0000 | number).into());
        let key = WireguardKey {
            site: id.site,
            name: id.device,
            public_key,
            preshared_key: true,
            addresses: vec![address],
            added_at: String::new(),
        };
        write(edit.conn(), &key, Some(sealed)).await.unwrap();
    }
    edit.commit().await.unwrap();
    let begun = std::time::Instant::now();
    let directory = store.directory().await.unwrap();
    println!("read in {:?}", begun.elapsed());
    assert_eq!((directory.tunnel_keys().len(), directory.unreadable_tunnel_keys()), (10_000, 0));
    let begun = std::time::Instant::now();
    store.wireguard_key_put("t", new("t/a", 200)).await.unwrap();
    println!("one more in {:?}", begun.elapsed());
}
