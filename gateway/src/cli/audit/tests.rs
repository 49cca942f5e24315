use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use clap::Parser;
use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::header::{ClearHeader, KeyId, Kind, Pseudonym};
use gateway_audit::note::{KeyKind, Signer};
use gateway_audit::tiles::{Builder, CHECKPOINT, Tile, entry};

use super::*;
use crate::audit::init;

/// A folder in which commands are carried out.
struct Place(tempfile::TempDir);

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: AuditCommand,
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.secret("passphrase", "correct horse battery\n");
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn secret(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Carries out a command; `@` before a name stands for the folder.
    fn try_run(&self, line: &str) -> anyhow::Result<(bool, String)> {
        let words = line.split_whitespace().map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name),
            None => word.to_owned(),
        });
        let line = Line::try_parse_from(std::iter::once("audit".to_owned()).chain(words))?;
        let mut out = Vec::new();
        let good = run(&line.command, &mut out)?;
        Ok((good, String::from_utf8(out)?))
    }

    fn run(&self, line: &str) -> String {
        let (good, said) = self.try_run(line).unwrap();
        assert!(good, "{said}");
        said
    }

    fn fail(&self, line: &str) -> String {
        format!("{:#}", self.try_run(line).unwrap_err())
    }

    /// A reviewer's keys; the public line is in a file of its name.
    fn reviewer(&self, name: &str) {
        let line = self.run(&format!("reviewer new {name} --out @{name}.key --passphrase-file @passphrase"));
        fs::write(self.path(name), line).unwrap();
    }

    /// The statements, with a first reviewer `auditor`.
    fn begin(&self) {
        let first = "--statement @first --domain sekisho.example";
        self.run(&format!("reviewer new auditor --out @auditor.key --passphrase-file @passphrase {first}"));
        let statement = fs::read(self.path("first")).unwrap();
        let (keys, reviewers) = (self.0.path().join("keys"), self.0.path().join("reviewers"));
        init::make(&keys, &reviewers, "sekisho.example", &statement).unwrap();
    }
}

const AT: &str = "--reviewers @reviewers --domain sekisho.example";
const SIGNED: &str = "--key @auditor.key --passphrase-file @passphrase";

#[test]
fn reviewers_come_and_go() {
    let place = Place::new();
    place.begin();
    place.reviewer("clinic");
    assert!(place.run(&format!("reviewer list {AT}")).starts_with("all other sites, statement 1 ("));
    place.run(&format!("reviewer add @clinic {AT} {SIGNED} --site sakura-clinic"));
    let line = fs::read_to_string(place.path("clinic")).unwrap();
    let listed = place.run(&format!("reviewer list {AT}"));
    assert!(listed.contains("site `sakura-clinic`, statement 1") && listed.contains(line.trim_end()), "{listed}");
    let own = "--key @clinic.key --passphrase-file @passphrase --site sakura-clinic";
    let said = place.run(&format!("reviewer retire auditor {AT} {own}"));
    assert!(said.contains("sakura-clinic/2") && said.contains("HUP"), "{said}");
    let json: serde_json::Value = serde_json::from_str(&place.run(&format!("reviewer list {AT} --json"))).unwrap();
    assert_eq!(json["sites"][0]["reviewers"][0]["name"], "auditor");
    assert_eq!((&json["sites"][1]["number"], json["sites"][1]["reviewers"].as_array().unwrap().len()), (&2.into(), 1));
    // Who has left signs no more, and the last one stays.
    let refused = place.fail(&format!("reviewer add @clinic.2 {AT} {SIGNED} --site sakura-clinic"));
    assert!(refused.contains("clinic.2"), "{refused}");
    place.reviewer("other");
    let refused = place.fail(&format!("reviewer add @other {AT} {SIGNED} --site sakura-clinic"));
    assert!(refused.contains("signed by `auditor`, which was no reviewer"), "{refused}");
    assert!(place.fail(&format!("reviewer retire clinic {AT} {own}")).contains("names no reviewer"));
    assert!(place.fail(&format!("reviewer retire nobody {AT} {own}")).contains("`nobody` is no reviewer there"));
    assert!(place.fail(&format!("reviewer add @clinic {AT} {own}")).contains("twice"));
}

#[test]
fn statements_are_signed_where_the_key_is() {
    let place = Place::new();
    place.begin();
    place.reviewer("second");
    place.run(&format!("reviewer add @second {AT} {SIGNED} --out @statement"));
    assert!(!place.run(&format!("reviewer list {AT}")).contains("second"));
    place.run(&format!("reviewer accept @statement {AT}"));
    assert!(place.run(&format!("reviewer list {AT}")).contains("reviewer second"));
    assert!(place.fail(&format!("reviewer accept @statement {AT}")).contains("does not continue"));
    assert!(place.fail(&format!("reviewer accept @passphrase {AT}")).contains("line 1"));
}

#[test]
fn the_first_reviewer_is_stated_at_init() {
    let place = Place::new();
    let config = include_str!("../../../../deploy/sekisho.toml")
        .replace("/var/lib/sekisho/", "")
        .replace("/var/log/sekisho", "audit");
    fs::write(place.path("sekisho.toml"), config).unwrap();
    let first = "--statement @first --domain sekisho.example";
    place.run(&format!("reviewer new auditor --out @auditor.key --passphrase-file @passphrase {first}"));
    place.reviewer("second");
    assert!(place.fail("reviewer list --config @sekisho.toml").contains("sekisho audit init"));
    assert!(place.fail("init --config @sekisho.toml --statement @second").contains("@default/1"));
    let said = place.run(&format!("init --config @sekisho.toml {SIGNED} --with @second"));
    assert!(said.contains("  auditor\n  second\n") && said.contains("off this machine"), "{said}");
    assert!(place.0.path().join("audit-keys/pseudonym.key").is_file());
    assert!(said.contains("  sekisho.example/gw1/lane-1+") && said.contains("  sekisho.example/gw1/lane-2+"), "{said}");
    assert!(place.0.path().join("audit/signing.key").is_file());
    // Both lanes verify before a gateway has ever run.
    let verified = place.run("verify @audit --key @audit/verifier-keys");
    assert!(verified.contains("all 2 logs are good") && verified.contains("0 records in 0 entries"), "{verified}");
    assert!(place.fail("init --config @sekisho.toml --statement @first").contains("is there already"));
    place.run("reviewer list --config @sekisho.toml");
    let other = Place::new();
    fs::copy(place.path("sekisho.toml"), other.path("sekisho.toml")).unwrap();
    fs::copy(place.path("first"), other.path("first")).unwrap();
    assert!(other.run("init --config @sekisho.toml --statement @first").contains("  auditor\n"));
}

#[test]
fn secrets_that_others_read_and_short_ones_are_refused() {
    let place = Place::new();
    place.secret("short", "elevenbytes");
    let refused = place.fail("reviewer new a --out @a.key --passphrase-file @short");
    assert!(refused.contains("at least 12") && !place.0.path().join("a.key").exists(), "{refused}");
    place.begin();
    assert_eq!(fs::metadata(place.path("auditor.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(place.fail("reviewer new b --out @auditor.key --passphrase-file @passphrase").contains("auditor.key"));
    assert!(place.fail("reviewer new a/b --out @b.key --passphrase-file @passphrase").contains("`a/b`"));
    place.reviewer("second");
    let add = format!("reviewer add @second {AT}");
    place.secret("wrong", "another passphrase");
    let refused = place.fail(&format!("{add} --key @auditor.key --passphrase-file @wrong"));
    assert!(refused.contains("does not open") && refused.contains("auditor.key"), "{refused}");
    let refused = place.fail(&format!("{add} --key @wrong --passphrase-file @passphrase"));
    assert!(refused.contains("line 1"), "{refused}");
    fs::set_permissions(place.path("auditor.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(place.fail(&format!("{add} {SIGNED}")).contains("auditor.key"));
}

/// A lane of records, each with as many bytes as its number times 1,000.
fn lane(place: &Place, records: u64) -> String {
    let signer = Signer::new("sekisho.example/gw1/lane-1", KeyKind::Log, &[1; 32]).unwrap();
    let mut log: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut store = |tile: Tile, bytes: &[u8]| {
        log.insert(tile.path(), bytes.to_vec());
    };
    let mut builder = Builder::new();
    for sequence in 1..=records {
        let header = ClearHeader {
            kind: Kind::Request,
            unix_ns: 0,
            site: Pseudonym([3; 8]),
            key: KeyId([4; 16]),
            reference: "r-1",
        };
        let mut record = Vec::new();
        header.encode(&mut record).unwrap();
        record.resize(usize::try_from(sequence).unwrap() * 1_000, 7);
        for part in entry::split(sequence, &record).unwrap() {
            let mut bytes = Vec::new();
            part.encode(&mut bytes);
            builder.push(&bytes, &mut store).unwrap();
        }
    }
    builder.partial(&mut store);
    let (origin, size, root) = (signer.verifier().name().to_owned(), builder.size(), builder.root());
    let note = Checkpoint { origin, size, root, extensions: Vec::new() }.sign(&signer).unwrap();
    log.insert(CHECKPOINT.to_owned(), note.into_bytes());
    for (path, bytes) in log {
        let path = place.0.path().join("audit/lane-1").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::write(place.path("log-key"), format!("{}\n", signer.verifier())).unwrap();
    signer.verifier().to_string()
}

#[test]
fn a_record_is_proved_to_whom_has_the_key() {
    let place = Place::new();
    let key = lane(&place, 140);
    assert!(place.run("verify @audit --key @log-key").contains("good: 140 records in 224 entries"));
    place.run(&format!("prove 7 --dir @audit/lane-1 --key {key} --out @seven"));
    let said = place.run("check-proof @seven.proof --key @log-key --envelope @envelope");
    assert!(said.contains("good: record 7 of `sekisho.example/gw1/lane-1`: request, 1970-01-01T00:00:00"), "{said}");
    assert_eq!(fs::read(place.path("envelope")).unwrap().len(), 7_000);
    // In parts, all of them and in order.
    assert_eq!(place.run(&format!("prove 140 --dir @audit/lane-1 --key {key} --out @long")).lines().count(), 6);
    let said = place.run("check-proof @long.1.proof @long.2.proof @long.3.proof --key @log-key");
    assert!(said.contains("record 140"), "{said}");
    assert!(place.fail("check-proof @long.1.proof @long.2.proof --key @log-key").contains("parts of the record"));
    assert!(place.fail("check-proof @long.2.proof --key @log-key").contains("part 1 of record 140 stands"));
    // Another record under the proof.
    fs::copy(place.path("long.1.entry"), place.path("seven.entry")).unwrap();
    let (good, said) = place.try_run("check-proof @seven.proof --key @log-key").unwrap();
    assert!(!good && said.starts_with("BAD: "), "{said}");
    assert!(place.fail("prove 141 --dir @audit/lane-1 --key @log-key --out @x").contains("no record 141"));
    let other = Signer::new("other", KeyKind::Log, &[1; 32]).unwrap().verifier().to_string();
    assert!(place.fail(&format!("prove 7 --dir @audit/lane-1 --key {other} --out @x")).contains("no key is for"));
    assert!(place.fail(&format!("check-proof @long.1.proof --key {other}")).contains("no key is for"));
}

#[test]
fn a_changed_log_is_bad() {
    let place = Place::new();
    lane(&place, 5);
    let bundle = place.path("audit/lane-1/tile/entries/000.p/5");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[2_000] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let (good, said) = place.try_run("verify @audit --key @log-key").unwrap();
    assert!(!good && said.contains("entry 1 (record 2) is altered"), "{said}");
}
