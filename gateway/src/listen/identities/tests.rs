use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use certs::issue::Authority;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

struct World {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new("Servers", DAY * 300, UnixTime::now()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new file in the place of the old one, as renewal tools leave it.
    fn put(&self, name: &str, content: &str) {
        let new = self.path(&format!("{name}.new"));
        std::fs::write(&new, content).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    fn issue(&self, pair: &str, names: &[&str]) {
        let issued = self.authority.issue_server(names, DAY, UnixTime::now()).unwrap();
        self.put(&format!("{pair}.crt"), &issued.certificate_pem);
        self.put(&format!("{pair}.key"), issued.key_pem.expose());
    }

    fn listener(&self, pairs: &[&str], server_names: &[&str]) -> Listener {
        let text = include_str!("../../../../deploy/sekisho.toml");
        let config = crate::config::Config::parse(text, self.folder.path(), &|_| None).unwrap();
        let mut listener = config.listeners[0].clone();
        listener.server_names = server_names.iter().map(|&name| name.to_owned()).collect();
        let files = |(index, pair): (usize, &&str)| IdentityFiles {
            place: format!("identities[{index}]"),
            certificate_file: self.path(&format!("{pair}.crt")),
            key_file: self.path(&format!("{pair}.key")),
            ocsp_file: None,
            acme: None,
            ocsp_fetch: false,
        };
        listener.tls.identities = pairs.iter().enumerate().map(files).collect();
        listener
    }
}

fn shown(identities: &Identities, name: &str) -> Option<Vec<u8>> {
    let schemes = [rustls::SignatureScheme::ECDSA_NISTP256_SHA256];
    identities.served.load().as_ref()?.choose(Some(name), &schemes).map(|key| key.cert[0].to_vec())
}

#[test]
fn what_acme_has_not_brought_keeps_the_door_closed_and_is_taken_when_it_comes() {
    let world = World::new();
    let mut listener = world.listener(&["a"], &["a.example", "b.example"]);
    listener.tls.identities[0].acme = Some(listener.server_names.clone());
    let identities = Identities::load(&listener, UnixTime::now()).unwrap();
    assert!(shown(&identities, "a.example").is_none() && identities.shown().is_empty());
    let why = "no certificate for `a.example`, `b.example` yet: ACME has not brought one";
    assert_eq!(identities.closed().as_deref(), Some(why));
    assert_eq!(identities.warnings(), [format!("listener `clinics`: {why}")]);
    assert_eq!(identities.look(UnixTime::now()), []);
    // Half of it, and what is no certificate, are as good as nothing.
    world.put("a.crt", "x");
    world.put("a.key", "x");
    assert_eq!(identities.look(UnixTime::now()), []);
    assert!(identities.closed().unwrap().contains("ACME is to bring another"));
    world.issue("a", &["a.example", "b.example"]);
    assert_eq!(identities.look(UnixTime::now()), [Change::Replaced { identity: "a.example".to_owned() }]);
    assert!(shown(&identities, "b.example").is_some());
    assert_eq!((identities.closed(), identities.warnings()), (None, Vec::new()));
    // From now on it is followed as any other.
    world.issue("a", &["a.example", "b.example"]);
    assert_eq!(look(&identities), [Change::Replaced { identity: "a.example".to_owned() }]);
    // A file of an operator's that is missing is still an error.
    assert!(Identities::load(&world.listener(&["c"], &["a.example"]), UnixTime::now()).is_err());
}

/// Two looks, as the settling wants them.
fn look(identities: &Identities) -> Vec<Change> {
    assert_eq!(identities.look(UnixTime::now()), [], "taken at the first look");
    identities.look(UnixTime::now())
}

#[test]
fn a_new_pair_is_shown_once_it_is_whole() {
    let world = World::new();
    world.issue("a", &["a.example"]);
    world.issue("b", &["b.example"]);
    let identities = Identities::load(&world.listener(&["a", "b"], &["a.example", "b.example"]), UnixTime::now());
    let identities = identities.unwrap();
    let (a, b) = (shown(&identities, "a.example").unwrap(), shown(&identities, "b.example").unwrap());
    assert_eq!(identities.warnings(), Vec::<String>::new());
    assert_eq!(look(&identities), []);

    world.issue("b", &["b.example"]);
    assert_eq!(look(&identities), [Change::Replaced { identity: "b.example".to_owned() }]);
    let new = shown(&identities, "b.example").unwrap();
    assert_ne!(new, b);
    assert_eq!(shown(&identities, "a.example"), Some(a.clone()));
    // Half of a pair, and then the other before the next look: nobody hears of the half.
    let issued = world.authority.issue_server(&["a.example"], DAY, UnixTime::now()).unwrap();
    world.put("a.crt", &issued.certificate_pem);
    assert_eq!(identities.look(UnixTime::now()), []);
    world.put("a.key", issued.key_pem.expose());
    assert_eq!(look(&identities), [Change::Replaced { identity: "a.example".to_owned() }]);
    assert_ne!(shown(&identities, "a.example"), Some(a));
    assert_eq!(identities.warnings(), Vec::<String>::new());
    assert!(identities.shown().iter().all(|shown| shown.is_current && shown.stapled.is_none()));
}

#[test]
fn a_bad_pair_keeps_the_old_one_and_says_so_once() {
    let world = World::new();
    world.issue("a", &["a.example", "192.0.2.1"]);
    let identities = Identities::load(&world.listener(&["a"], &["a.example"]), UnixTime::now()).unwrap();
    let old = shown(&identities, "a.example");
    let other = world.authority.issue_server(&["a.example"], DAY, UnixTime::now()).unwrap();
    type Damage<'a> = &'a dyn Fn();
    let cases: [(Damage<'_>, &str); 6] = [
        (&|| world.put("a.key", other.key_pem.expose()), "does not belong"),
        (&|| world.put("a.key", ""), "it is empty"),
        (&|| std::fs::remove_file(world.path("a.crt")).unwrap(), "cannot be read"),
        (&|| world.put("a.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "a.crt"),
        (&|| world.issue("a", &["b.example"]), "is not for the server name `a.example`"),
        (
            &|| {
                world.issue("a", &["a.example"]);
                let mode = std::fs::Permissions::from_mode(0o644);
                std::fs::set_permissions(world.path("a.key"), mode).unwrap();
            },
            "others than its owner",
        ),
    ];
    for (damage, why) in cases {
        damage();
        let changes = look(&identities);
        let [Change::Kept { identity, error }] = &*changes else { panic!("{why}: {changes:?}") };
        assert!(identity == "a.example" && error.contains(why), "{why}: {error}");
        assert_eq!(look(&identities), [], "{why}: said again");
        assert_eq!(shown(&identities, "a.example"), old, "{why}");
        let warnings = identities.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(why), "{warnings:?}");
        assert!(!identities.shown()[0].is_current);
    }
    world.issue("a", &["a.example"]);
    assert_eq!(look(&identities), [Change::Replaced { identity: "a.example".to_owned() }]);
    assert_ne!(shown(&identities, "a.example"), old);
    assert_eq!(identities.warnings(), Vec::<String>::new());
    assert!(identities.shown()[0].is_current);
}

/// An old copy, or one that was issued for later, must not take the place of what clients accept.
#[test]
fn a_pair_of_another_time_waits_for_its_own() {
    let world = World::new();
    world.issue("a", &["a.example"]);
    let (now, later) =
        (UnixTime::now(), |by| UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + by));
    let identities = Identities::load(&world.listener(&["a"], &["a.example"]), now).unwrap();
    let old = shown(&identities, "a.example");
    let put = |from: UnixTime, lifetime| {
        let issued = world.authority.issue_server(&["a.example"], lifetime, from).unwrap();
        world.put("a.crt", &issued.certificate_pem);
        world.put("a.key", issued.key_pem.expose());
    };
    let kept = |why: &str| {
        let changes = look(&identities);
        let [Change::Kept { error, .. }] = &*changes else { panic!("{changes:?}") };
        assert!(error.contains(why) && error.contains("a.crt"), "{error}");
        assert_eq!(shown(&identities, "a.example"), old);
        assert!(!identities.shown()[0].is_current);
    };
    put(UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) - DAY * 3), DAY);
    kept("expired at");
    put(later(DAY / 2), DAY);
    kept("is not valid before");
    let reloaded = Identities::load(&world.listener(&["a"], &["a.example"]), now).unwrap();
    assert!(reloaded.untimely(&identities, now).unwrap().contains("is not valid before"));
    assert_eq!(identities.untimely(&reloaded, now), None);
    assert_eq!(reloaded.untimely(&identities, later(DAY * 5)), None, "neither is valid");
    assert_eq!(identities.look(later(DAY / 4)), []);
    // Its time has come; nobody has touched the files.
    assert_eq!(identities.look(later(DAY / 2)), [Change::Replaced { identity: "a.example".to_owned() }]);
    assert_ne!(shown(&identities, "a.example"), old);
    assert_eq!(identities.warnings(), Vec::<String>::new());
    // Where nothing in use is valid, any whole pair will do.
    put(later(DAY * 9), DAY);
    assert_eq!(identities.look(later(DAY * 5)), []);
    assert_eq!(identities.look(later(DAY * 5)), [Change::Replaced { identity: "a.example".to_owned() }]);
}

#[test]
fn names_without_a_certificate_are_told() {
    let world = World::new();
    world.issue("a", &["a.example"]);
    world.issue("b", &["a.example", "b.example"]);
    let listener = world.listener(&["a", "b"], &["a.example", "c.example", "192.0.2.1"]);
    let identities = Identities::load(&listener, UnixTime::now()).unwrap();
    let warnings = identities.warnings();
    assert!(warnings.len() == 2 && warnings[0].contains("c.example") && warnings[1].contains("192.0.2.1"));
    assert_eq!(shown(&identities, "c.example"), None);
    let labels: Vec<_> = identities.shown().into_iter().map(|shown| shown.identity).collect();
    assert_eq!(labels, ["a.example", "a.example#2"]);
}
