use super::*;

const GOOD: &str = r#"
[audit]
directory = "audit"
key_directory = "/keys"
[reviewer]
key_file = "ship.key"
[state]
directory = "state"
[[destination]]
kind = "atna"
name = "siem"
address = "siem.example:6514"
tls = { ca_file = "ca.crt" }
"#;

fn parse(text: &str) -> Result<ShipConfig, String> {
    ShipConfig::parse(text, Path::new("/etc/sekisho"))
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.audit.directory, Path::new("/etc/sekisho/audit"));
    assert_eq!(config.audit.key_directory.as_deref(), Some(Path::new("/keys")));
    assert_eq!(config.reviewer.unwrap().key_file, Path::new("/etc/sekisho/ship.key"));
    assert_eq!(config.pace, PaceSection::default());
    assert_eq!(config.log, LogSection { format: LineFormat::Json, level: Level::Info });
}

#[test]
fn what_is_wrong_is_named() {
    for (from, to, why) in [
        ("[state]", "[state]\nwhere = 1", "unknown field `where`"),
        ("kind = \"atna\"", "kind = \"ftp\"", "unknown variant `ftp`"),
        ("name = \"siem\"", "name = \"siem\"\nfoo = 1", "unknown field `foo`"),
        ("name = \"siem\"", "name = \"../x\"", "`../x`"),
        ("[reviewer]\nkey_file = \"ship.key\"", "", "destination `siem` opens records"),
        ("key_directory = \"/keys\"", "", "destination `siem` opens records"),
        ("[state]", "[pace]\npoll_ms = 0\n[state]", "`pace.poll_ms` is 0"),
        ("[audit]", "[audit", "TOML parse error"),
        ("name = \"siem\"", "name = \"siem\"\ntimeout_s = 0", "destination `siem`: `timeout_s` is 0"),
        ("name = \"siem\"", "name = \"siem\"\nmax_message_bytes = 99", "destination `siem`: `max_message_bytes` is 99"),
        ("\"ca.crt\" }", "\"ca.crt\", key_file = \"k\" }", "destination `siem`: `certificate_file` and `key_file`"),
        ("\"ca.crt\" }", "\"ca.crt\", x = 1 }", "unknown field `x`"),
    ] {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD);
        let error = parse(&text).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let (head, destination) = GOOD.split_once("[[destination]]").unwrap();
    assert!(parse(&format!("{head}destination = []")).is_err());
    let twice = format!("{GOOD}[[destination]]{destination}");
    assert!(parse(&twice).unwrap_err().contains("two destinations are called `siem`"));
}

const SEALED: &str = r#"
[audit]
directory = "audit"
[state]
directory = "state"
[[destination]]
kind = "copy"
name = "offsite"
prefix = "site/gw1"
cosigned_by = "witness"
s3 = { endpoint = "https://s3.example", bucket = "audit", ca_file = "ca.crt", credentials_file = "s3.key" }
[[destination]]
kind = "witness"
name = "witness"
witnesses = [{ url = "http://127.0.0.1:8080/w", key = "witness.example/w1+151555cc+BAtROtm0kkAVygkC7QeQRNOsXb7CMG8GlIwQ2o62458t" }]
"#;

#[test]
fn copies_and_witnesses_need_no_reviewer() {
    let config = parse(SEALED).unwrap();
    assert_eq!((config.reviewer, config.audit.key_directory), (None, None));
    let [DestinationSettings::Copy(copy), DestinationSettings::Witness(witness)] = config.destinations.as_slice()
    else {
        panic!("{:?}", config.destinations)
    };
    let s3 = copy.s3.as_ref().unwrap();
    assert_eq!(s3.ca_file.as_deref(), Some(Path::new("/etc/sekisho/ca.crt")));
    assert_eq!(s3.credentials_file.as_deref(), Some(Path::new("/etc/sekisho/s3.key")));
    assert_eq!((witness.interval_s, witness.refresh_s, witness.max_skew_s, witness.timeout_s), (10, 3_600, 60, 10));
}

#[test]
fn what_is_wrong_with_copies_and_witnesses_is_named() {
    for (from, to, why) in [
        ("s3 = {", "directory = \"x\"\ns3 = {", "destination `offsite`: `directory` and `s3` are both given"),
        ("prefix = \"site/gw1\"", "prefix = \"../gw1\"", "`prefix` is `../gw1`"),
        ("prefix = \"site/gw1\"", "prefix = \"gw1/\"", "`prefix` is `gw1/`"),
        ("cosigned_by = \"witness\"", "cosigned_by = \"offsite\"", "no destination of kind `witness`"),
        ("bucket = \"audit\"", "bucket = \"audit\", secret_access_key = \"x\"", "unknown field `secret_access_key`"),
        ("+151555cc+BA", "+36b88cea+AW", "destination `witness`:"),
        ("name = \"witness\"", "name = \"witness\"\nrequire = 2", "`require` is 2, and there are 1 witnesses"),
        ("name = \"witness\"", "name = \"witness\"\nrequire = 0", "`require` is 0"),
        ("name = \"witness\"", "name = \"witness\"\ninterval_s = 0", "`interval_s` is 0"),
    ] {
        let text = SEALED.replace(from, to);
        assert_ne!(text, SEALED);
        let error = parse(&text).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn the_shipped_file_is_taken_and_holds_the_defaults() {
    let shipped = include_str!("../../../../deploy/ship.toml");
    let config = ShipConfig::parse(shipped, Path::new("/etc/sekisho-ship")).unwrap();
    assert_eq!((config.pace, &config.log), (PaceSection::default(), &LogSection::default()));
    let [DestinationSettings::Atna(atna), DestinationSettings::Fhir(fhir)] = &config.destinations[..2] else {
        panic!("{:?}", config.destinations)
    };
    assert_eq!(
        (atna.settle_ms, atna.timeout_s, atna.max_message_bytes),
        (settle_ms(), timeout_s(), max_message_bytes())
    );
    assert_eq!((fhir.batch_events, fhir.timeout_s), (batch_events(), timeout_s()));
    // Every line that is commented out is a key as well.
    let all =
        shipped.replace("\n# passphrase_file =", "\npassphrase_file =").replace("\n# token_file =", "\ntoken_file =");
    assert!(ShipConfig::parse(&all, Path::new("/")).is_ok_and(|all| all != config));
}
