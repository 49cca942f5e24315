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
ca_file = "ca.crt"
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
