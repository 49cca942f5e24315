//! The configuration as an operator meets it: the shipped file, and what bad input gets.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::document::Context;
use super::table::{Asked, Need, Table};
use super::*;

mod providers;
mod servers;
mod shipped;
mod wireguard;

const SHIPPED: &str = include_str!("../../../deploy/sekisho.toml");

/// The required keys, with the values of the shipped file.
const MINIMAL: &str = r#"
[node]
name = "gw1"
[trust]
domain = "sekisho.example"
[store]
file = "/var/lib/sekisho/sekisho.db"
[audit]
directory = "/var/log/sekisho"
[identity]
key_file = "/var/lib/sekisho/identity.key"
[[listener]]
name = "clinics"
address = "0.0.0.0:8443"
server_names = ["gateway.sekisho.example"]
tls = { certificate_file = "tls/server.crt", key_file = "tls/server.key", client_ca_file = "tls/devices-ca.crt" }
[[service]]
name = "fhir"
backends = ["http://127.0.0.1:8080"]
[[route]]
name = "fhir"
path = "/fhir"
service = "fhir"
class = "clinical"
kind = "fhir"
"#;

/// The same for a folder that has everything beside it.
pub(crate) fn beside() -> String {
    let local = MINIMAL.replace("/var/lib/sekisho/", "state/").replace("/var/log/sekisho", "audit");
    local.replace("tls/", "").replace("gateway.sekisho.example", "localhost")
}

fn no_env(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/sekisho"), &no_env)
}

fn problems(text: &str) -> Vec<String> {
    parse(text).map_or_else(|error| error.into_problems().iter().map(ToString::to_string).collect(), |_| Vec::new())
}

/// The shipped file with its alternatives in force.
fn alternatives() -> String {
    SHIPPED.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

fn asked(text: &str) -> Vec<Asked> {
    let (context, document) = Context::parse(text, Path::new("/"), &no_env);
    let document = document.expect("is TOML");
    assert!(Table::read_root(&context, &document.root, file::config).is_some());
    context.asked.take()
}

#[test]
fn the_shipped_file_holds_exactly_the_defaults() {
    assert_eq!(parse(SHIPPED).unwrap(), parse(MINIMAL).unwrap());
}

#[test]
fn the_shipped_file_writes_out_every_key_that_has_a_default() {
    let silent: Vec<_> = asked(SHIPPED).into_iter().filter(|key| key.need != Need::Optional && !key.present).collect();
    assert_eq!(silent, [], "keys that deploy/sekisho.toml lacks");
}

#[test]
fn every_key_the_parser_knows_stands_in_the_shipped_file() {
    let asked = asked(&alternatives());
    let known: BTreeSet<&str> = asked.iter().map(|key| key.key.as_str()).collect();
    let present: BTreeSet<&str> = asked.iter().filter(|key| key.present).map(|key| key.key.as_str()).collect();
    assert_eq!(known, present);
    assert!(known.len() > 50, "{}", known.len());
    assert!(known.contains("listener.limits.h2_resets") && known.contains("service.tls.ca_file"));
}

/// In tables that are there only where somebody wants them, too.
#[test]
fn what_the_shipped_file_calls_a_default_is_one() {
    let (all, text) = (parse(&alternatives()).unwrap(), alternatives());
    let (mut is_default, mut is_comment, mut count) = (false, false, 0);
    for (place, line) in SHIPPED.lines().enumerate() {
        let was_comment = std::mem::replace(&mut is_comment, line.starts_with("# "));
        if !line.starts_with('#') || line.starts_with("#: [") {
            is_default = false;
        } else if is_comment {
            is_default = line.starts_with("# Default.") || (was_comment && is_default);
        } else if is_default && let Some(key) = line.strip_prefix("#: ").filter(|key| key.contains(" = ")) {
            let without: Vec<_> =
                text.lines().enumerate().filter(|(at, _)| *at != place).map(|(_, line)| line).collect();
            assert_eq!(parse(&without.join("\n")).unwrap(), all, "line {}: {key}", place + 1);
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn the_minimal_file_has_only_what_is_required() {
    let extra: Vec<_> = asked(MINIMAL).into_iter().filter(|key| key.need != Need::Required && key.present).collect();
    assert_eq!(extra, []);
    for line in MINIMAL.lines().filter(|line| line.contains(" = ")) {
        let found = problems(&MINIMAL.replace(line, ""));
        assert!(!found.is_empty(), "`{line}` is not required");
    }
}

#[test]
fn the_alternatives_of_the_shipped_file_are_taken() {
    let config = parse(&alternatives()).unwrap();
    assert_eq!(config.services.len(), 3);
    let kind = |service: usize| config.services[service].resilience.health.as_ref().map(|health| &health.kind);
    assert_eq!(kind(0), None);
    let (path, body) = ("/".to_owned(), Some("up".to_owned()));
    assert_eq!(kind(1), Some(&HealthKind::Http { path, status: vec![200, 204], body }));
    assert_eq!(kind(2), Some(&HealthKind::Grpc { service: "clinic.Reports".to_owned() }));
    assert_eq!(config.services[1].resilience.drained, ["pacs2.internal:8443"]);
    assert_eq!(config.routes[0].deadline_ms, Some(20_000));
    let pacs = &config.services[1];
    assert_eq!(pacs.identity_audience, "pacs");
    let tls = pacs.tls.as_ref().unwrap();
    assert_eq!(tls.ca_file, Path::new("/etc/sekisho/tls/backends-ca.crt"));
    assert_eq!(tls.server_name.as_deref(), Some("pacs.internal"));
    assert!(tls.identity.is_some() && config.admin.tls.is_some());
    let route = &config.routes[0];
    assert_eq!(route.read_only_operations.as_deref().unwrap(), ::policy::route::READ_ONLY_OPERATIONS);
    assert_eq!((route.rules[0].patient_query[0].as_str(), route.rules[0].class.is_some()), ("id", true));
}

#[test]
fn the_shipped_file_says_which_requirement_each_section_serves() {
    for (index, section) in SHIPPED.split("\n[").enumerate().skip(1) {
        let rows = section.matches("(R").count();
        let exempt = section.starts_with("[route]]\n") || section.starts_with("listener.limits") || index == 0;
        assert!(rows > 0 || exempt, "[{}", section.lines().next().unwrap_or_default());
    }
}

#[test]
fn a_listener_has_one_purpose() {
    let config = parse(&alternatives()).unwrap();
    let [clinics, _, staff, patients, _, _] = &config.listeners[..] else { panic!("{:?}", config.listeners.len()) };
    assert_eq!(clinics.tls.peers, ListenerPeers::Devices);
    let ListenerPeers::Users(users) = &staff.tls.peers else { panic!("{:?}", staff.tls.peers) };
    assert_eq!((users.test_cards, users.replace_roles), (false, false));
    assert_eq!(users.roles_file.as_deref(), Some(Path::new("/etc/sekisho/hpki-roles.toml")));
    assert_eq!(users.authentication, ::policy::AuthenticationLevel::User);
    let ListenerPeers::Patients(patients) = &patients.tls.peers else { panic!("{:?}", patients.tls.peers) };
    assert_eq!(patients.id, certs::PatientField::SubjectSerialNumber);
    assert_eq!(patients.policies.len(), 1);
    let with = |tls: &str| MINIMAL.replace("devices-ca.crt\" }", &format!("devices-ca.crt\", {tls} }}"));
    assert_eq!(problems(&with("peers = \"users\"")), [] as [&str; 0]);
    for (bad, why) in [
        ("peers = \"doctors\"", "`devices`, `users` or `patients`"),
        ("users = {}", "`listener[0].tls.peers` is `devices`; a listener has one purpose"),
        ("peers = \"users\", patients = {}", "a listener has one purpose"),
        ("peers = \"users\", users = { replace_roles = true }", "nobody would have a role"),
        ("peers = \"users\", users = { authentication = \"device\" }", "`user` or `two-factor`"),
        ("peers = \"patients\", patients = { id = \"name\" }", "`subject-common-name`"),
        ("peers = \"patients\", patients = { policies = [\"jpki\"] }", "object identifier"),
    ] {
        let found = problems(&with(bad));
        assert!(found.iter().any(|problem| problem.contains(why)), "{bad}: {found:?}");
    }
}

#[test]
fn revocation_must_have_somewhere_to_look() {
    let with = |revocation: &str| {
        MINIMAL.replace("devices-ca.crt\" }", &format!("devices-ca.crt\", revocation = {revocation} }}"))
    };
    let config = parse(&with("{ mode = \"must\", crl_files = [\"a.crl\"] }")).unwrap();
    let revocation = &config.listeners[0].tls.revocation;
    assert_eq!((revocation.mode, revocation.fetch), (OnRevocation::Must, false));
    assert_eq!(revocation.crl_files, [Path::new("/etc/sekisho/a.crl")]);
    let revocation = &parse(MINIMAL).unwrap().listeners[0].tls.revocation;
    assert_eq!((revocation.mode, revocation.ocsp), (OnRevocation::Prefer, OnRevocation::Off));
    // Somebody is asked, be it the one or the other.
    assert!(parse(&with("{ mode = \"must\", ocsp = \"prefer\" }")).is_ok());
    assert!(parse(&with("{ mode = \"off\", ocsp = \"must\", ocsp_responder = \"http://ocsp.example/x\" }")).is_ok());
    for (bad, why) in [
        ("{ mode = \"must\" }", "no CRL comes from anywhere"),
        ("{ mode = \"hard\" }", "`off`, `prefer` or `must`"),
        ("{ ocsp = \"hard\" }", "`off`, `prefer` or `must`"),
        ("{ ocsp_responder = \"https://ocsp.example\" }", "its scheme must be `http`"),
        ("{ ocsp_responder = \"http://u@ocsp.example\" }", "a user"),
        ("{ ocsp_responder = \"http://a.example\", fetch_hosts = [\"b.example\"] }", "not among `fetch_hosts`"),
        ("{ crl_file = [\"a\"] }", "did you mean `crl_files`?"),
        ("{ crl_files = [] }", "is empty"),
        ("{ crl_files = \"a\" }", "must be a list of strings"),
        ("{ grace_s = -1 }", "0 to"),
        ("{ fetch = true, fetch_hosts = [\"CA.example\"] }", "lower case"),
    ] {
        let found = problems(&with(bad));
        assert!(found.len() == 1 && found[0].contains(why) && found[0].starts_with("16:"), "{bad}: {found:?}");
    }
}

#[test]
fn paths_are_relative_to_the_files_folder() {
    let config = parse(&MINIMAL.replace("/var/log/sekisho", "audit")).unwrap();
    assert_eq!(config.audit.directory, Path::new("/etc/sekisho/audit"));
    assert_eq!(config.audit.key_directory, Path::new("/var/lib/sekisho/audit-keys"));
    assert_eq!(config.audit.reviewers, Path::new("/var/lib/sekisho/audit-reviewers"));
    assert_eq!(config.store.file, Path::new("/var/lib/sekisho/sekisho.db"));
    assert_eq!(config.listeners[0].tls.identities[0].key_file, Path::new("/etc/sekisho/tls/server.key"));
    assert_eq!(config.policy.directory, Path::new("/etc/sekisho/policy"));
}

#[test]
fn variables_are_put_into_strings_and_only_there() {
    let env = |name: &str| (name == "NODE").then(|| "gw7".to_owned());
    let text = MINIMAL.replace("\"gw1\"", "\"${NODE}\"").replace("/fhir\"", "/$$x/$y\"");
    let config = Config::parse(&text, Path::new("/"), &env).unwrap();
    assert_eq!(config.node, "gw7");
    assert_eq!(config.routes[0].path, "/$x/$y");
    let unset = problems(&text);
    assert_eq!(unset, ["3:8: `node.name` names the environment variable `NODE`, which is not set or is not UTF-8"]);
    assert!(!problems(&MINIMAL.replace("name = \"gw1\"", "${NODE} = \"gw1\"")).is_empty());
}

#[test]
fn a_login_that_cannot_be_guarded_is_refused_by_its_key() {
    for (line, key) in [
        ("failures = 0", "login.failures"),
        ("lockout_s = 60", "login.lockout_s"),
        ("pause_s = 60", "login.pause_most_s"),
        ("window_s = 10\npause_most_s = 20", "login.pause_most_s"),
        ("global_failures = 2", "login.global_failures"),
        ("place_window_s = 1000", "login.place_lockout_s"),
        ("scope = \"everybody\"", "login.scope"),
        ("lockout = 1", "login.lockout"),
    ] {
        let found = problems(&MINIMAL.replace("[identity]", &format!("[login]\n{line}\n[identity]")));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].contains(&format!("`{key}`")), "{line}: {found:?}");
    }
    let with = |login: &str| format!("{MINIMAL}login = {login}\n");
    assert!(parse(&with("{ account = { json = \"/user\" }, success = { status = [200] } }")).is_ok());
    for (login, key) in [
        ("{ account = { form = \"\" }, success = { status = [200] } }", "route[0].login.account.form"),
        ("{ account = { json = \"user\" }, success = { status = [200] } }", "route[0].login.account.json"),
        ("{ account = { basic = false }, success = { status = [200] } }", "route[0].login.account.basic"),
        ("{ account = { basic = true }, success = {} }", "route[0].login.success"),
        ("{ account = { basic = true } }", "route[0].login.success"),
        ("{ account = { cookie = \"x\" }, success = { status = [200] } }", "route[0].login"),
        ("{ account = { form = \"a\", query = \"b\" }, success = { status = [200] } }", "route[0].login"),
        ("{ account = { basic = true }, success = { status = [200] }, case = \"fold\" }", "route[0].login.case"),
        ("{ account = { basic = true }, success = { statuses = [200] } }", "route[0].login.success.statuses"),
    ] {
        let found = problems(&with(login));
        assert_eq!(found.len(), 1, "{login}: {found:?}");
        assert!(found[0].contains(key), "{login}: {found:?}");
    }
}

#[test]
fn a_loaded_file_is_named_in_its_problems() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, MINIMAL.replace("gw1", "gw 1")).unwrap();
    let text = Config::load(&file).unwrap_err().to_string();
    assert!(text.starts_with(&format!("{}:3:8: `node.name` is `gw 1`; ", file.display())), "{text}");
    let absent = Config::load(&dir.path().join("absent.toml")).unwrap_err();
    assert!(absent.to_string().contains("absent.toml"), "{absent}");
    assert_eq!(absent.into_problems().len(), 1);
    std::fs::write(&file, MINIMAL.replace("/var/log/sekisho", "audit")).unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.audit.directory, std::path::absolute(dir.path()).unwrap().join("audit"));
    let later = config.problem("audit.directory", "`audit` is full".to_owned()).to_string();
    assert_eq!(later, format!("{}:9:1: `audit` is full", file.display()));
    let defaulted = config.problem("listener[0].limits.connections", "x".to_owned());
    assert_eq!(defaulted.position.map(|p| p.line), Some(12));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = MINIMAL
        .replace("[node]", "[node]\ncolour = 1")
        .replace("sekisho.example\"\n[store]", "Sekisho\"\n[store]")
        .replace("\nfile = \"/var", "\nfil = \"/var")
        .replace("service = \"fhir\"", "service = \"fhri\"");
    let found = problems(&text);
    let expected = [
        "3:1: unknown key `node.colour`; there is `name`",
        "6:10: `trust.domain` is `Sekisho`; it must be 1 to 255 lower-case letters, digits, `.`, `-` and `_`, without `spiffe://`",
        "7:2: `store.file` is missing",
        "8:1: unknown key `store.fil`; did you mean `file`?",
        "24:11: `route[0].service` is `fhri`; no service has that name; did you mean `fhir`?",
    ];
    assert_eq!(found, expected);
}

/// What replaces what in the minimal file, and a part of the one line that says so.
const BAD: &[(&str, &str, &str)] = &[
    ("[node]", "[nodes]", "2:2: unknown key `nodes`; did you mean `node`?"),
    ("[node]\nname = \"gw1\"", "node = 1", "2:8: `node` is an integer; it must be a table"),
    ("\"gw1\"", "1", "3:8: `node.name` is an integer; it must be a string"),
    ("\"gw1\"", "\"g\\u001b\"", "3:8: `node.name` is `g\\u{1b}`"),
    ("\"/var/log/sekisho\"", "\"\"", "9:13: `audit.directory` is ``; it must name a file"),
    (
        "[identity]",
        "qeue_records = 5\n[identity]",
        "10:1: unknown key `audit.qeue_records`; did you mean `queue_records`?",
    ),
    (
        "[identity]",
        "queue_records = 5\n[identity]",
        "10:17: `audit.queue_records` is 5; it must be 64 to 1048576: a worker",
    ),
    ("[identity]", "queue_records = -1\n[identity]", "10:17: `audit.queue_records` is -1; it must be"),
    ("[identity]", "queue_records = 0x5\n[identity]", "10:17: `audit.queue_records` is 0x5; it must be"),
    (
        "[identity]",
        "queue_records = 99999999999999999999\n[identity]",
        "10:17: `audit.queue_records` is 99999999999999999999",
    ),
    (
        "[identity]",
        "queue_records = 64.0\n[identity]",
        "10:17: `audit.queue_records` is a float; it must be an integer",
    ),
    (
        "[identity]",
        "key_directory = \"/var/log/sekisho/keys\"\n[identity]",
        "10:17: `audit.key_directory` is `/var/log/sekisho/keys`; it must lie apart from `audit.directory`",
    ),
    ("[identity]", "durability = \"before\"\n[identity]", "it must be `before-answer` or `interval`"),
    (
        "[identity]",
        "segment_bytes = 1048577\nreserve_bytes = 262145\n[identity]",
        "10:17: `audit.segment_bytes` is 1048577; it must be at least four times `audit.reserve_bytes`, 262145",
    ),
    (
        "[identity]",
        "[audit.retention]\ndays = 0\n[identity]",
        "11:8: `audit.retention.days` is 0; it must be 1 to 36500",
    ),
    (
        "[identity]",
        "[[audit.retention.rule]]\ndays = 5\n[identity]",
        "names no site and no class; what is kept otherwise is `audit.retention.days`",
    ),
    ("[identity]", "[[audit.retention.rule]]\nsite = \"a/b\"\n[identity]", "no site or class has such a name"),
    (
        "[identity]",
        "[[audit.retention.rule]]\nsite = \"a\"\n[[audit.retention.rule]]\nsite = \"a\"\n[identity]",
        "two rules of `audit.retention` are about the same site and class",
    ),
    ("[identity]", "[log]\nlevel = \"loud\"\n[identity]", "it must be `error`, `warn`, `info`, `debug` or `trace`"),
    ("[identity]", "[clock]\non_alarm = true\n[identity]", "11:12: `clock.on_alarm` is a boolean; it must be a string"),
    (
        "[identity]",
        "[admin]\nlisten = \"0.0.0.0:9443\"\n[identity]",
        "11:10: `admin.listen` is `0.0.0.0:9443`; without TLS it must be a loopback",
    ),
    (
        "[identity]",
        "[admin]\nlisten = \"localhost:9443\"\n[identity]",
        "11:10: `admin.listen` is `localhost:9443`; it must be an IP address and a port",
    ),
    (
        "[identity]",
        "[admin]\nlisten = \"127.0.0.1:8443\"\n[identity]",
        "16:11: `listener[0].address` is `0.0.0.0:8443`; `admin.listen` listens there",
    ),
    ("\"clinics\"", "\"admin\"", "13:8: `listener[0].name` is `admin`; the gateway uses that name itself"),
    ("\"clinics\"", "\"a b\"", "13:8: `listener[0].name` is `a b`; it must be 1 to 64"),
    ("0.0.0.0:8443", "0.0.0.0", "14:11: `listener[0].address` is `0.0.0.0`; it must be an IP address and a port"),
    ("[\"gateway.sekisho.example\"]", "[]", "15:16: `listener[0].server_names` is empty"),
    (
        "[\"gateway.sekisho.example\"]",
        "\"a\"",
        "15:16: `listener[0].server_names` is a string; it must be a list of strings",
    ),
    (
        "[\"gateway.sekisho.example\"]",
        "[\"a\", 1]",
        "15:22: `listener[0].server_names[1]` is an integer; it must be a string",
    ),
    (
        "[\"gateway.sekisho.example\"]",
        "[\"a\", \"a\"]",
        "15:22: `listener[0].server_names[1]` is `a`; it is there twice",
    ),
    ("gateway.sekisho.example", "*.example", "a wildcard names hosts that nobody listed"),
    ("certificate_file = \"tls/server.crt\", ", "", "16:1: `listener[0].tls.certificate_file` is missing"),
    (
        "devices-ca.crt\" }",
        "devices-ca.crt\", profile = \"old\" }",
        "it must be `cryptrec-high`, `cryptrec-high-tls12` or `compatible`",
    ),
    (
        "[[service]]",
        "[listener.limits]\nconections = 1\n[[service]]",
        "18:1: unknown key `listener[0].limits.conections`; did you mean `connections`?",
    ),
    (
        "[[service]]",
        "[listener.limits]\nheader_bytes = 16384\n[[service]]",
        "18:16: `listener[0].limits.header_bytes` is 16384; it must be at least 1024 more than",
    ),
    ("[[service]]", "limits = []\n[[service]]", "17:10: `listener[0].limits` is a list; it must be a table"),
    (
        "http://127.0.0.1:8080",
        "https://127.0.0.1:8080",
        "`service[0].tls.ca_file` is missing; its backends are `https`",
    ),
    (
        "http://127.0.0.1:8080",
        "http://127.0.0.1:8080/fhir",
        "19:13: `service[0].backends[0]` is `http://127.0.0.1:8080/fhir`; it must not have a path",
    ),
    ("\"http://127.0.0.1:8080\"", "\"http://a:1\", \"https://b:1\"", "mixes `http` and `https`"),
    ("[[route]]", "tls = { ca_file = \"x\" }\n[[route]]", "`service[0].tls` has no use: the backends are `http`"),
    ("[[route]]", "http2 = 1\n[[route]]", "20:9: `service[0].http2` is an integer; it must be `true` or `false`"),
    (
        "[[route]]",
        "[[service]]\nname = \"fhir\"\nbackends = [\"http://a:1\"]\n[[route]]",
        "21:8: `service[1].name` is `fhir`; another service has that name",
    ),
    (
        "[[service]]\nname = \"fhir\"",
        "[[service]]\nname = \"a/b\"",
        "18:8: `service[0].name` is `a/b`; it must be 1 to 128",
    ),
    ("service = \"fhir\"", "service = \"pacs\"", "23:11: `route[0].service` is `pacs`; no service has that name"),
    (
        "kind = \"fhir\"",
        "kind = \"fhir\"\n[[route]]\nname = \"fhir\"\npath = \"/x\"\nservice = \"fhir\"\nclass = \"c\"\nkind = \"fhir\"",
        "another route has that name",
    ),
    ("path = \"/fhir\"", "pth = \"/fhir\"", "22:1: unknown key `route[0].pth`; did you mean `path`?"),
    ("class = \"clinical\"", "", "`route[0].class` is missing"),
    ("kind = \"fhir\"", "kind = \"fhri\"", "25:8: `route[0].kind`: unknown variant"),
    ("class = \"clinical\"", "class = \"a b\"", "24:9: `route[0].class`: `a b` is not a class name"),
    ("path = \"/fhir\"", "path = \"/fhir/\"", "22:1: `route[0].path`: `/fhir/` is not a path in normal form"),
    (
        "kind = \"fhir\"",
        "kind = \"fhir\"\n[[route.rules]]\nmethods = [\"GRAB\"]\npath = \"/*\"\naction = \"read\"",
        "27:1: `route[0].rules[0].methods`: `GRAB` is not a method",
    ),
    (
        "kind = \"fhir\"",
        "kind = \"fhir\"\n[[route.rules]]\nmethod = [\"GET\"]\npath = \"/*\"\naction = \"read\"",
        "27:1: unknown key `route[0].rules[0].method`; did you mean `methods`?",
    ),
    (
        "kind = \"fhir\"",
        "kind = \"fhir\"\n[[route]]\nname = \"b\"\npath = \"/fhir\"\nservice = \"fhir\"\nclass = \"c\"\nkind = \"fhir\"",
        "28:1: `route[1].path`: `/fhir` is already the prefix of route `fhir`",
    ),
    ("[[route]]", "[route]", "`route` is a table; it must be a list of tables, each begun by `[[route]]`"),
    ("kind = \"fhir\"", "kind = \"fhir", "25:13: is not TOML: "),
    ("kind = \"fhir\"", "kind = \"fhir\"\nkind = \"fhir\"", "26:1: is not TOML: duplicate key"),
];

#[test]
fn bad_input_is_named_with_its_place() {
    for (from, to, expected) in BAD {
        assert!(MINIMAL.contains(from), "{from}");
        let text = MINIMAL.replacen(from, to, 1);
        let found = problems(&text);
        assert!(found.iter().any(|line| line.contains(expected)), "{to}\nexpected {expected}\nfound {found:#?}");
        let related = expected.contains("service[0].name`") || from.contains("[node]");
        assert!(found.len() == 1 || related, "{to}: {found:#?}");
    }
}

#[test]
fn a_gateway_without_doors_services_or_routes_is_none() {
    for kind in ["listener", "service", "route"] {
        let (before, block) = MINIMAL.split_once(&format!("[[{kind}]]")).unwrap();
        let text = match block.split_once("[[") {
            Some((_, after)) => format!("{before}[[{after}"),
            None => before.to_owned(),
        };
        let found = problems(&text);
        assert!(found[0].contains(&format!("there must be at least one `[[{kind}]]`")), "{found:?}");
        assert!(!problems(&format!("{kind} = []\n{text}")).is_empty());
    }
}

#[test]
fn what_a_running_gateway_cannot_take_is_named() {
    let old = parse(MINIMAL).unwrap();
    assert_eq!(old.needs_restart(&old), Vec::<&str>::new());
    for (from, to, key) in [
        ("gw1", "gw2", "node.name"),
        ("sekisho.example\"\n[store]", "other.example\"\n[store]", "trust.domain"),
        ("sekisho.db", "other.db", "store.file"),
        ("/var/log/sekisho", "/var/log/other", "audit"),
        ("identity.key", "other.key", "identity.key_file"),
        ("[identity]", "[identity]\njwks_listen = \"127.0.0.1:2\"", "identity.jwks_listen"),
        ("[identity]", "[admin]\nlisten = \"127.0.0.1:1\"\n[identity]", "admin"),
        ("[identity]", "[log]\nlevel = \"debug\"\n[identity]", "log"),
        ("[identity]", "[workers]\ncount = 2\n[identity]", "workers.count"),
        ("0.0.0.0:8443", "0.0.0.0:8444", "listener.address"),
        ("\"clinics\"", "\"hospitals\"", "listener.address"),
    ] {
        let new = parse(&MINIMAL.replace(from, to)).unwrap();
        assert_eq!(old.needs_restart(&new), [key], "{to}");
    }
    for (from, to) in [
        (
            "[identity]",
            "[clock]\non_alarm = \"mark\"\n[policy]\ndirectory = \"x\"\n[shutdown]\ndrain_s = 1\n[identity]",
        ),
        ("server.crt", "new.crt"),
        ("[[service]]", "limits = { connections = 7 }\n[[service]]"),
        (":8080", ":8081"),
        ("path = \"/fhir\"", "path = \"/r4\""),
        ("[node]", "# a comment moves every line\n[node]"),
    ] {
        let new = parse(&MINIMAL.replace(from, to)).unwrap();
        assert_eq!(old.needs_restart(&new), Vec::<&str>::new(), "{to}");
    }
}

/// A text that is almost the shipped one: pieces cut out, doubled, swapped for another.
fn mutated() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0..24_usize, "\\PC{0,6}|[\\[\\]{}\"'=.#$,0-9\n]{0,6}");
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut text: Vec<char> = alternatives().chars().collect();
        for (at, cut, insert) in edits {
            let start = at.index(text.len());
            let end = (start + cut).min(text.len());
            text.splice(start..end, insert.chars());
        }
        text.into_iter().collect()
    })
}

fn judge(text: &str) -> Result<(), TestCaseError> {
    match parse(text) {
        Ok(config) => prop_assert!(!config.listeners.is_empty() && !config.routes.is_empty()),
        Err(error) => {
            let problems = error.into_problems();
            prop_assert!(!problems.is_empty());
            for problem in problems {
                let position = problem.position.expect("a problem of a text has a place");
                prop_assert!(position.line <= text.split('\n').count(), "{problem}");
                prop_assert!(!problem.to_string().chars().any(char::is_control), "{problem:?}");
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_judged(text in "\\PC{0,200}|[\\[\\]{}a-z\"'=.#$,0-9\n \\\\]{0,200}") {
        judge(&text)?;
    }

    #[test]
    fn a_damaged_file_is_judged(text in mutated()) {
        judge(&text)?;
    }
}

const ISSUER: &str = r#"
[[token_issuer]]
name = "idp"
issuer = "https://idp.example"
audiences = ["sekisho"]
algorithms = ["ES256"]
sites = ["*"]
jwks_file = "idp.json"
"#;
