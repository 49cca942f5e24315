//! R31: wrapped keys from a running gateway are in the log before anybody has them, and a newer reviewer opens older periods
//! only if one who can lets it.

use std::num::NonZeroU32;
use std::path::Path;

use gateway_audit::keyfile::period;
use gateway_audit::reviewer::private::ReviewerKey;
use gateway_tests::audit::{reviewer, text};
use gateway_tests::{Clinic, DOCTOR, Prepared, sekisho};

use crate::audit_retention::{SITE, audit, key_directory, live, told, unix_ns};
use crate::audit_tools::small_log;

const PASSPHRASE: &str = "a passphrase that is long enough";

fn private_file(prepared: &Prepared, name: &str, key: &ReviewerKey) -> String {
    let file = key.protect(PASSPHRASE, NonZeroU32::new(1_000).expect("not zero"), [3; 16]).expect("a file");
    prepared.write(name, file);
    prepared.write("passphrase", PASSPHRASE);
    prepared.path(name).display().to_string()
}

/// Yesterday to tomorrow: midnight may be near.
fn days() -> [String; 2] {
    [-1, 1].map(|days| period(unix_ns() + days * 86_400_000_000_000, NonZeroU32::MIN))
}

fn fetch(clinic: &Clinic, who: &str, out: &Path) -> gateway_tests::Output {
    let ([from, to], admin, out) = (days(), clinic.admin.to_string(), out.display().to_string());
    let fetch = ["audit", "keys", "fetch", "--site", SITE, "--from", &from, "--to", &to];
    sekisho(&[&fetch[..], &["--reviewer", who, "--admin", &admin, "--out", &out]].concat())
}

#[test]
fn r31_whoever_fetches_wrapped_keys_is_in_the_log_first() {
    let clinic = small_log().start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let out = clinic.prepared.path("fetched");
    let none = fetch(&clinic, "stranger", &out);
    assert!(none.code == Some(1) && none.stderr.contains("no data key"), "{}", none.stderr);
    assert!(told(&clinic.prepared, "opening").is_empty());
    let done = fetch(&clinic, "auditor", &out);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    // Durable before the answer: no waiting.
    let records = told(&clinic.prepared, "opening");
    assert_eq!(records.len(), 1);
    let [from, to] = days();
    for (key, value) in [("site", SITE), ("reviewer", "auditor"), ("from", &from), ("to", &to)] {
        assert_eq!(text(&records[0], key), value, "{}", records[0]);
    }
    assert!(text(&records[0], "by").starts_with("127.0.0.1:"), "{}", records[0]);
    let fetched = live(&out);
    assert_eq!(records[0]["count"], fetched.len());
    assert!(!fetched.is_empty() && fetched.iter().all(|file| file.site.as_deref() == Some(SITE)));
    let there = live(&key_directory(&clinic.prepared));
    assert!(fetched.iter().all(|file| there.contains(file)));
    for bad in ["/audit/keys", "/audit/keys?site=a", "/audit/keys?site=../x&from=2026-01-01&to=2026-01-02&reviewer=a"] {
        assert_eq!(clinic.admin_get(bad).0, 400, "{bad}");
    }
    drop(clinic.stop());
}

#[test]
fn r31_an_older_reviewer_lets_a_newer_one_open_older_periods() {
    let clinic = small_log().start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let prepared = &clinic.prepared;
    let newer = ReviewerKey::new("newer", [7; 32], [8; 32]).expect("a reviewer");
    let old_file = private_file(prepared, "auditor.key", &reviewer());
    let new_file = private_file(prepared, "newer.key", &newer);
    let passphrase = prepared.path("passphrase").display().to_string();
    let out = prepared.path("fetched");
    assert_eq!(fetch(&clinic, "auditor", &out).code, Some(0));
    let fetched = out.display().to_string();
    let addition = prepared.path("addition").display().to_string();
    let [from, to] = days();
    let rewrap = |key: &str, for_whom: &str| {
        let place = ["--site", SITE, "--from", &from, "--to", &to, "--keys", &fetched, "--out", &addition];
        let who = ["rewrap", "--key", key, "--passphrase-file", &passphrase, "--reviewer", for_whom];
        audit(prepared, &[&who[..], &place[..]].concat())
    };
    let unstated = rewrap(&old_file, "newer");
    assert!(unstated.code == Some(1) && unstated.stderr.contains("not stated as a reviewer"), "{}", unstated.stderr);
    let line = newer.public().to_string();
    let added = audit(prepared, &["reviewer", "add", &line, "--key", &old_file, "--passphrase-file", &passphrase]);
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    // The newer one cannot let itself in.
    let closed = rewrap(&new_file, "newer");
    assert!(closed.code == Some(1) && closed.stderr.contains("nothing to wrap"), "{}", closed.stderr);
    let wrapped = rewrap(&old_file, "newer");
    assert_eq!(wrapped.code, Some(0), "{}", wrapped.stderr);

    let closed = live(&key_directory(prepared)).into_iter().filter(|file| file.open(&newer).is_ok()).count();
    assert_eq!(closed, 0, "an addition opens nothing before it is taken up");
    // Whoever changes a byte of it is refused.
    let text_of = std::fs::read_to_string(&addition).expect("an addition");
    prepared.write("forged", text_of.replacen("reviewer newer", "reviewer auditor", 1));
    let forged = prepared.path("forged").display().to_string();
    let refused = audit(prepared, &["accept-rewrap", &forged]);
    assert!(refused.code == Some(1) && refused.stderr.contains("signature"), "{}", refused.stderr);
    // Beside the gateway that runs, and a second time for nothing.
    for (turn, words) in [(0, "more data keys, 0 it could open"), (1, "opens 0 more data keys")] {
        let accepted = audit(prepared, &["accept-rewrap", &addition]);
        assert_eq!(accepted.code, Some(0), "{turn}: {}", accepted.stderr);
        assert!(accepted.stdout.contains(words), "{}", accepted.stdout);
    }
    let records = told(prepared, "rewrap");
    assert_eq!(records.len(), 1);
    assert_eq!((text(&records[0], "signer"), text(&records[0], "reviewer")), ("auditor", "newer"));
    assert_eq!((text(&records[0], "site"), text(&records[0], "by").is_empty()), (SITE, false));
    // Keys that were made since are wrapped to both from the start.
    let files = live(&key_directory(prepared));
    let ids: Vec<_> = records[0]["keys"].as_array().expect("keys").iter().filter_map(|id| id.as_str()).collect();
    let added: Vec<_> = files.iter().filter(|file| ids.contains(&file.key.to_string().as_str())).collect();
    assert!(!added.is_empty() && added.len() == ids.len());
    for file in added {
        assert_eq!(file.site.as_deref(), Some(SITE));
        assert!(file.open(&newer).is_ok() && file.open(&reviewer()).is_ok(), "both open it");
    }
    drop(clinic.stop());
}
