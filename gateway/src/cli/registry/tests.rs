use clap::Parser;
use tempfile::TempDir;

use super::*;

#[derive(Debug, Parser)]
enum Sekisho {
    Site(SiteArgs),
    Device(DeviceArgs),
    User(UserArgs),
    Role(RoleArgs),
}

fn parse(line: &[&str]) -> Result<(RegistryCommand, RegistryOptions), clap::Error> {
    let line = std::iter::once("sekisho").chain(line.iter().copied());
    Ok(match Sekisho::try_parse_from(line)? {
        Sekisho::Site(args) => (RegistryCommand::Site(args.command), args.options),
        Sekisho::Device(args) => (RegistryCommand::Device(args.command), args.options),
        Sekisho::User(args) => (RegistryCommand::User(args.command), args.options),
        Sekisho::Role(args) => (RegistryCommand::Role(args.command), args.options),
    })
}

struct Clinic(#[expect(dead_code, reason = "removes the directory when dropped")] TempDir, Store);

impl Clinic {
    async fn empty() -> Self {
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path().join("sekisho.db")).await.unwrap();
        Self(directory, store)
    }

    async fn new() -> Self {
        let clinic = Self::empty().await;
        for line in [
            &["site", "add", "s", "--display-name", "さくら診療所"][..],
            &["role", "add", "doctor"],
            &["role", "add", "nurse", "--display-name", "看護師"],
            &["user", "add", "s/u", "--role", "doctor", "--role", "nurse"],
            &["device", "add", "s/d", "--user", "u", "--role", "nurse", "--display-name", "受付"],
        ] {
            clinic.ok(line).await;
        }
        clinic
    }

    async fn run(&self, line: &[&str]) -> Result<String, String> {
        let (command, options) = parse(line).unwrap();
        let mut out = Vec::new();
        run(command, &self.1, "alice", options.json, &mut out).await.map_err(|e| e.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    async fn ok(&self, line: &[&str]) -> String {
        self.run(line).await.unwrap()
    }

    async fn json(&self, line: &[&str]) -> serde_json::Value {
        let line: Vec<&str> = line.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(&line).await).unwrap()
    }
}

#[tokio::test]
async fn every_verb_of_a_site() {
    let clinic = Clinic::empty().await;
    assert_eq!(clinic.ok(&["site", "add", "s"]).await, "site `s` added\n");
    assert_eq!(clinic.ok(&["site", "set", "s", "--display-name", "さくら"]).await, "site `s` set\n");
    assert_eq!(clinic.ok(&["site", "suspend", "s"]).await, "site `s` suspended\n");
    assert_eq!(clinic.ok(&["site", "suspend", "s"]).await, "site `s` is so already; nothing changed\n");
    let shown = clinic.json(&["site", "show", "s"]).await;
    assert_eq!(
        (&shown["name"], &shown["status"], &shown["display_name"]),
        (&"s".into(), &"suspended".into(), &"さくら".into())
    );
    assert_eq!(clinic.ok(&["site", "resume", "s"]).await, "site `s` resumed\n");
    let listed = clinic.json(&["site", "list"]).await;
    assert_eq!(listed["sites"][0]["status"], "active");
    assert_eq!(clinic.ok(&["site", "remove", "s"]).await, "site `s` removed\n");
    assert_eq!(clinic.json(&["site", "list"]).await, serde_json::json!({ "sites": [] }));
    let actors: Vec<String> = clinic.1.changes_after(0, 9).await.unwrap().into_iter().map(|c| c.actor).collect();
    assert_eq!(actors, ["alice"; 5]);
}

#[tokio::test]
async fn every_verb_of_a_role() {
    let clinic = Clinic::new().await;
    assert_eq!(clinic.ok(&["role", "set", "doctor", "--display-name", "医師"]).await, "role `doctor` set\n");
    assert_eq!(clinic.ok(&["role", "suspend", "doctor"]).await, "role `doctor` suspended\n");
    assert_eq!(clinic.json(&["role", "show", "doctor"]).await["status"], "suspended");
    assert_eq!(clinic.ok(&["role", "resume", "doctor"]).await, "role `doctor` resumed\n");
    assert!(clinic.ok(&["role", "list"]).await.contains("看護師"));
    assert_eq!(
        clinic.run(&["role", "remove", "doctor"]).await.unwrap_err(),
        "role `doctor` has 1 user; remove them first or pass --cascade"
    );
    assert_eq!(clinic.ok(&["role", "remove", "doctor", "--cascade"]).await, "role `doctor` removed\n");
    assert_eq!(clinic.json(&["user", "show", "s/u"]).await["roles"], serde_json::json!(["nurse"]));
}

#[tokio::test]
async fn every_verb_of_a_user() {
    let clinic = Clinic::new().await;
    clinic.ok(&["user", "set", "s/u", "--no-role", "nurse", "--display-name", "山田"]).await;
    let shown = clinic.json(&["user", "show", "s/u"]).await;
    assert_eq!(shown["roles"], serde_json::json!(["doctor"]));
    assert_eq!(shown["display_name"], "山田");
    assert_eq!(clinic.ok(&["user", "suspend", "s/u"]).await, "user `s/u` suspended\n");
    assert_eq!(clinic.json(&["user", "list", "s"]).await["users"][0]["status"], "suspended");
    assert_eq!(clinic.ok(&["user", "resume", "s/u"]).await, "user `s/u` resumed\n");
    let removed = clinic.json(&["user", "remove", "s/u", "--cascade"]).await;
    assert_eq!(removed, serde_json::json!({ "removed": [{ "kind": "user", "name": "s/u" }] }));
    assert_eq!(clinic.run(&["user", "list", "x"]).await.unwrap_err(), "no site `x`");
}

#[tokio::test]
async fn every_verb_of_a_users_certificate() {
    let clinic = Clinic::new().await;
    let issuer = "ab".repeat(32);
    let holder = ["--issuer", &issuer, "--number", "117120"];
    let line = |verb: &'static str| [&["user", "certificate", verb, "s/u"], &holder[..]].concat();
    let name = format!("117120@{issuer}");
    assert_eq!(clinic.ok(&line("add")).await, format!("user-certificate `{name}` is user `s/u`\n"));
    let listed = clinic.json(&["user", "certificate", "list"]).await;
    let one = &listed["user-certificates"][0];
    assert_eq!(
        (&one["number"], &one["user"], &one["issuer"]),
        (&"117120".into(), &"u".into(), &issuer.as_str().into())
    );
    clinic.ok(&["user", "add", "s/v"]).await;
    assert_eq!(clinic.json(&["user", "certificate", "list", "s/v"]).await["user-certificates"], serde_json::json!([]));
    let other = [&["user", "certificate", "add", "s/v"], &holder[..]].concat();
    let error = clinic.run(&other).await.unwrap_err();
    assert_eq!(error, format!("the holder `{name}` is user `s/u`; take the certificate from that user first"));
    assert_eq!(clinic.ok(&line("remove")).await, format!("user-certificate `{name}` removed\n"));
    assert_eq!(clinic.run(&line("remove")).await.unwrap_err(), format!("no user-certificate `{name}`"));
    let error = clinic.run(&["user", "certificate", "add", "s/u", "--issuer", "absent.crt", "--number", "1"]).await;
    assert!(error.unwrap_err().contains("absent.crt"));
}

/// By the card, which is read as a door reads it, and by its CA and number: the same holder.
#[tokio::test]
async fn a_card_and_its_issuer_name_the_same_holder() {
    let clinic = Clinic::new().await;
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    root.distinguished_name.push(rcgen::DnType::OrganizationName, "MEDIS-DC");
    let root_certificate = root.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(root, key);
    let card = |policy: u8| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CustomDnType(vec![2, 5, 4, 5]), "117120");
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        // 1.2.392.100495.1.5.1.X.3.1, and an hcRole as cards have it.
        let policies = [0x30, 0x10, 0x30, 0x0e, 6, 12, 0x2a, 0x83, 8, 0x86, 0x91, 0x0f, 1, 5, 1, policy, 3, 1].to_vec();
        let mut role = b"\x30\x34\x30\x32\x06\x06\x28\x81\x85\x42\x00\x01\x31\x28\x31\x26\x30\x24\xa0\x22\x31\x20\xa0\x0c\x06\x0a\x2a\x83\x08\x86\x91\x0f\x01\x06\x01\x01\xa2\x10\x0c\x0e".to_vec();
        role.extend_from_slice(b"Medical Doctor");
        let extension = rcgen::CustomExtension::from_oid_content;
        params.custom_extensions = vec![extension(&[2, 5, 29, 32], policies), extension(&[2, 5, 29, 9], role)];
        params.signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer).unwrap().pem()
    };
    std::fs::write(path("ca.crt"), root_certificate.pem()).unwrap();
    std::fs::write(path("card.crt"), card(2)).unwrap();
    std::fs::write(path("signs.crt"), card(1)).unwrap();
    clinic.ok(&["user", "certificate", "add", "s/u", &path("card.crt")]).await;
    clinic.ok(&["user", "certificate", "remove", "s/u", "--issuer", &path("ca.crt"), "--number", "117120"]).await;
    let error = clinic.run(&["user", "certificate", "add", "s/u", &path("signs.crt")]).await.unwrap_err();
    assert!(error.contains("signs.crt"), "{error}");
}

#[tokio::test]
async fn every_verb_of_a_device() {
    let clinic = Clinic::new().await;
    clinic.ok(&["device", "set", "s/d", "--no-user", "--role", "doctor", "--no-role", "nurse"]).await;
    let shown = clinic.json(&["device", "show", "s/d"]).await;
    assert_eq!((&shown["user"], &shown["roles"]), (&serde_json::Value::Null, &serde_json::json!(["doctor"])));
    clinic.ok(&["device", "set", "s/d", "--user", "u"]).await;
    assert_eq!(clinic.json(&["device", "list", "s"]).await["devices"][0]["user"], "u");
    assert_eq!(clinic.ok(&["device", "suspend", "s/d"]).await, "device `s/d` suspended\n");
    assert_eq!(clinic.ok(&["device", "resume", "s/d"]).await, "device `s/d` resumed\n");
    assert_eq!(clinic.ok(&["device", "remove", "s/d"]).await, "device `s/d` removed\n");
    assert_eq!(clinic.run(&["device", "show", "s/d"]).await.unwrap_err(), "no device `s/d`");
}

#[tokio::test]
async fn the_json_of_each_kind_has_one_shape() {
    let clinic = Clinic::new().await;
    let keys = |value: serde_json::Value| {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    let own = "changed_at display_name name status version";
    let site = "changed_at display_name facilities inside name status version";
    assert_eq!(keys(clinic.json(&["site", "show", "s"]).await), site);
    assert_eq!(keys(clinic.json(&["role", "show", "nurse"]).await), own);
    let user = "changed_at display_name name roles site status version";
    assert_eq!(keys(clinic.json(&["user", "show", "s/u"]).await), user);
    let device = "ae_titles changed_at display_name name roles site status user version";
    assert_eq!(keys(clinic.json(&["device", "show", "s/d"]).await), device);
    assert_eq!(keys(clinic.json(&["device", "suspend", "s/d"]).await), device);
}

#[tokio::test]
async fn columns_are_aligned() {
    let clinic = Clinic::new().await;
    clinic.ok(&["device", "add", "s/a-much-longer-name"]).await;
    let table = clinic.ok(&["device", "list"]).await;
    let starts: Vec<Option<usize>> =
        table.lines().map(|line| line.find("STATUS").or_else(|| line.find("active"))).collect();
    assert_eq!(starts.len(), 3);
    assert!(starts.iter().all(|start| start.is_some() && *start == starts[0]), "{table}");
    let shown = clinic.ok(&["device", "show", "s/d"]).await;
    assert!(shown.contains("user:         u\n") && shown.contains("display name: 受付\n"), "{shown}");
}

#[tokio::test]
async fn what_would_steer_a_terminal_is_escaped() {
    let clinic = Clinic::empty().await;
    clinic.ok(&["site", "add", "s", "--display-name", "a\u{202e}b"]).await;
    for line in [&["site", "list"][..], &["site", "show", "s"], &["site", "list", "--json"]] {
        let shown = clinic.ok(line).await;
        assert!(!shown.contains('\u{202e}') && shown.contains("202e"), "{shown:?}");
    }
    assert_eq!(clinic.json(&["site", "show", "s"]).await["display_name"], "a\u{202e}b");
}

#[test]
fn bad_arguments_are_usage_errors() {
    for line in [
        &["site", "add", "a b"][..],
        &["site", "add", "s", "--display-name", "\u{1b}[2J"],
        &["device", "add", "no-slash"],
        &["device", "add", "s/d/e"],
        &["device", "set", "s/d"],
        &["device", "set", "s/d", "--user", "u", "--no-user"],
        &["user", "set", "s/u"],
        &["user", "add", "s/"],
        &["user", "certificate", "add", "s/u"],
        &["user", "certificate", "add", "s/u", "--number", "1"],
        &["user", "certificate", "add", "s/u", "card.crt", "--issuer", "ca.crt", "--number", "1"],
        &["site", "list", "--config", "a", "--store", "b"],
        &["role"],
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line:?}");
    }
}

#[test]
fn options_may_stand_anywhere_and_only_first_commands_make_a_store() {
    let (command, options) = parse(&["site", "list", "--json", "--store", "x.db"]).unwrap();
    assert!(options.json && options.store.is_some() && !command.makes_store());
    assert!(parse(&["site", "--json", "list"]).unwrap().1.json);
    assert!(parse(&["site", "add", "s"]).unwrap().0.makes_store());
    assert!(parse(&["role", "add", "r"]).unwrap().0.makes_store());
    assert!(!parse(&["device", "add", "s/d"]).unwrap().0.makes_store());
}
