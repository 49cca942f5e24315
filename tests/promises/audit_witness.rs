//! A9 and A10 with a witness: what the disk cannot tell of itself, since it was put back or copied as a whole, a witness
//! elsewhere tells. The witness is a program of our own in Python that was written from C2SP's page.

use std::path::{Path, PathBuf};
use std::process::Command;

use gateway_tests::copies::{SHIP_PATIENCE, Ship, Witness};
use gateway_tests::{Clinic, DOCTOR, Gateway, Prepared, sekisho, within};

use crate::audit_tools::{ask, small_log};

const ORIGIN: &str = "sekisho.example/gw1/lane-1";

/// A ship.toml beside the clinic's configuration: each lane is cosigned as soon as it grows.
fn settings(folder: &Path, witnesses: &[&Witness], more: &str) -> PathBuf {
    let places: Vec<_> = witnesses
        .iter()
        .map(|witness| format!("{{ url = \"http://{}\", key = \"{}\" }}", witness.address, witness.key))
        .collect();
    let text = format!(
        "[audit]\ndirectory = \"audit\"\n[state]\ndirectory = \"ship\"\n[pace]\npoll_ms = 50\nretry_max_s = 1\n\
         report_s = 1\n[[destination]]\nkind = \"witness\"\nname = \"witness\"\ninterval_s = 1\nwitnesses = [{}]\n{more}",
        places.join(", ")
    );
    let file = folder.join("ship.toml");
    std::fs::write(&file, text).expect("written");
    file
}

fn size(checkpoint: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(checkpoint);
    text.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(0)
}

/// Entries that the log's checkpoint has.
fn covered(folder: &Path) -> u64 {
    size(&std::fs::read(folder.join("audit/lane-1/checkpoint")).unwrap_or_default())
}

/// Waits until the witness has signed so many entries, and says how many it has.
fn signs(witness: &Witness, least: u64) -> u64 {
    let signed = within(SHIP_PATIENCE, || Some(witness.signed(ORIGIN)).filter(|signed| *signed >= least));
    signed.unwrap_or_else(|| panic!("the witness has signed {} entries, not {least}", witness.signed(ORIGIN)))
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(done.success());
}

/// Puts folders back as they were.
fn restore(prepared: &Prepared, from: &Path) {
    for name in ["audit", "state", "ship"] {
        std::fs::remove_dir_all(prepared.path(name)).expect("removed");
        copy(&from.join(name), &prepared.path(name));
    }
}

fn grow(clinic: &Clinic) {
    for turn in 0..10 {
        assert_eq!(ask(clinic, turn % 2 == 0).status, 200);
    }
}

/// Verifies with the witness's own word; exit code and what was said.
fn verify(prepared: &Prepared, witness: &Witness) -> (i32, String) {
    let kept = prepared.path("kept");
    std::fs::write(&kept, witness.checkpoint(ORIGIN)).expect("written");
    let text = |path: PathBuf| path.display().to_string();
    let (lane, keys) = (text(prepared.path("audit/lane-1")), text(prepared.path("audit/verifier-keys")));
    let said = sekisho(&[
        "audit",
        "verify",
        &lane,
        "--key",
        &keys,
        "--checkpoint",
        &text(kept),
        "--witness",
        &witness.key,
        "--require",
        "1",
    ]);
    (said.code.expect("an exit code"), said.stdout + &said.stderr)
}

/// A clinic whose log is signed by a witness, everything at rest, and a copy of its disk.
fn witnessed(elsewhere: &Path) -> (Prepared, Witness, PathBuf) {
    let prepared = small_log().prepare();
    let clinic = prepared.start();
    grow(&clinic);
    let keys = clinic.prepared.path("audit/verifier-keys");
    let witness = Witness::start(elsewhere, "w1", &keys, None);
    let config = settings(&clinic.prepared.path(""), &[&witness], "");
    let ship = Ship::start(&config, &[]);
    // The lane that is not used is signed as well: there, too, something could be taken away.
    let unused = || Some(()).filter(|()| clinic.prepared.path("ship/witness/lane-2.cosigned").exists());
    within(SHIP_PATIENCE, unused).expect("lane 2 is cosigned");
    signs(&witness, 10);
    let prepared = clinic.stop();
    signs(&witness, covered(&prepared.path("")));
    let cosigned = prepared.path("ship/witness/lane-1.cosigned");
    let whole =
        || Some(()).filter(|()| size(&std::fs::read(&cosigned).unwrap_or_default()) == covered(&prepared.path("")));
    within(SHIP_PATIENCE, whole).expect("what was signed is kept");
    ship.stop();
    let yesterday = elsewhere.join("yesterday");
    copy(&prepared.path(""), &yesterday);
    (prepared, witness, yesterday)
}

#[test]
fn a9_yesterdays_disk_put_back_is_found_by_the_witness() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (prepared, witness, yesterday) = witnessed(elsewhere.path());
    let config = prepared.path("ship.toml");
    let (code, said) = verify(&prepared, &witness);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("cosigned: ") && said.contains("w1.example"), "{said}");
    // Today.
    let clinic = prepared.start();
    grow(&clinic);
    let ship = Ship::start(&config, &[]);
    let prepared = clinic.stop();
    let today = signs(&witness, covered(&prepared.path("")));
    ship.stop();
    // The whole disk is put back, with what shipping knew. The gateway itself cannot see it, and goes on.
    restore(&prepared, &yesterday);
    assert!(covered(&prepared.path("")) < today);
    let clinic = prepared.start();
    let ship = Ship::start(&config, &[]);
    let said = ship.says("ALARM");
    assert!(said.contains("w1.example") && said.contains("rolled back"), "{said}");
    ship.stop();
    let prepared = clinic.stop();
    let (code, said) = verify(&prepared, &witness);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the log was rolled back") || said.contains("the log was forked"), "{said}");
    // Grown beyond what the witness has signed, it is still another history.
    let mut clinic = prepared.start();
    let mut prepared = loop {
        grow(&clinic);
        let prepared = clinic.stop();
        if covered(&prepared.path("")) > today {
            break prepared;
        }
        clinic = prepared.start();
    };
    let ship = Ship::start(&config, &[]);
    let said = ship.says("signed another history of this log (422)");
    assert!(said.contains("ALARM"), "{said}");
    ship.stop();
    assert_eq!(witness.signed(ORIGIN), today, "it signs nothing of that");
    let (code, said) = verify(&prepared, &witness);
    assert_eq!(code, 1, "{said}");
    // The log and its clock go on, whatever a witness says.
    prepared = prepared.start().stop();
    drop(prepared);
}

#[test]
fn a10_of_two_clones_that_go_on_one_finds_no_witness() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (prepared, witness, clone) = witnessed(elsewhere.path());
    let before = covered(&clone);
    // Both run, each with what the other has.
    let clinic = prepared.start();
    let mut gateway = Gateway::spawn(&clone.join("sekisho.toml"), &[]);
    grow(&clinic);
    let grown = || (covered(&clone) > before).then_some(());
    within(SHIP_PATIENCE, grown).unwrap_or_else(|| panic!("the clone does not run: {}", gateway.said()));
    let ship = Ship::start(&clinic.prepared.path("ship.toml"), &[]);
    signs(&witness, before + 10);
    let other = Ship::start(&clone.join("ship.toml"), &[]);
    let said = other.says("ALARM");
    assert!(said.contains("rolled back") || said.contains("another history"), "{said}");
    assert!(!ship.said().contains("ALARM"), "{}", ship.said());
    other.stop();
    ship.stop();
    assert!(gateway.ended().is_none(), "the clone goes on: only a person can know which one is right");
}

#[test]
fn a_witness_that_is_down_or_answers_wrongly_holds_up_nothing_and_is_told_by_name() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let clinic = small_log().start();
    let keys = clinic.prepared.path("audit/verifier-keys");
    grow(&clinic);
    let mut witness = Witness::start(elsewhere.path(), "w1", &keys, None);
    let config = settings(&clinic.prepared.path(""), &[&witness], "");
    let cosigned = clinic.prepared.path("ship/witness/lane-1.cosigned");
    let kept = || size(&std::fs::read(&cosigned).unwrap_or_default());
    let catches_up = |witness: &Witness| {
        let whole = || Some(()).filter(|()| kept() >= 10 && kept() == covered(&clinic.prepared.path("")));
        within(SHIP_PATIENCE, whole)
            .unwrap_or_else(|| panic!("{} entries are kept, {} signed", kept(), witness.signed(ORIGIN)));
    };
    let ship = Ship::start(&config, &[]);
    catches_up(&witness);
    ship.stop();
    for (mode, words) in [
        ("garbage", "is not a signature"),
        ("older", "the signature of `w1.example` is not that of this note"),
        ("other-key", "the signature of `w1.example` is not that of this note"),
        ("future", "states the time"),
        ("conflict", "answers 409 with the size 7 just after it gave"),
        ("conflict-without-size", "answers 409 without a size"),
        ("broken", "answers 500"),
    ] {
        witness.mode(mode);
        let before = kept();
        grow(&clinic);
        let ship = Ship::start(&config, &[]);
        let said = ship.says(words);
        assert!(said.contains("w1.example"), "{said}");
        assert!(!said.contains("ALARM"), "{mode}: {said}");
        assert_eq!(kept(), before, "{mode}: nothing of it is kept");
        // Behaving again, it is asked again.
        witness.mode("");
        catches_up(&witness);
        ship.stop();
    }
    // Down: the lag grows and is told, requests are answered, and everything is made up for.
    let address = witness.stop();
    let ship = Ship::start(&config, &[]);
    grow(&clinic);
    let said = ship.says("no connection to `127.0.0.1`");
    assert!(said.contains("cannot ship"), "{said}");
    let lag = || Some(()).filter(|()| !ship.said().rsplit("lag_entries\":").next().unwrap_or("0").starts_with('0'));
    within(SHIP_PATIENCE, lag).unwrap_or_else(|| panic!("no lag is told: {}", ship.said()));
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    witness = Witness::start(elsewhere.path(), "w1", &keys, Some(address));
    catches_up(&witness);
    ship.stop();
}

#[test]
fn two_of_three_witnesses_are_enough_where_two_are_required() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let clinic = small_log().start();
    let keys = clinic.prepared.path("audit/verifier-keys");
    grow(&clinic);
    let witnesses: Vec<_> = ["w1", "w2", "w3"].map(|name| Witness::start(elsewhere.path(), name, &keys, None)).into();
    witnesses[2].mode("broken");
    let more = "require = 2\n[[destination]]\nkind = \"copy\"\nname = \"copy\"\ndirectory = \"copied\"\ncosigned_by = \
                \"witness\"\nreviewers = \"state/audit-reviewers\"\n";
    let config = settings(&clinic.prepared.path(""), &witnesses.iter().collect::<Vec<_>>(), more);
    let ship = Ship::start(&config, &[]);
    let cosigned = clinic.prepared.path("copied/lane-1/checkpoint.cosigned");
    within(SHIP_PATIENCE, || (size(&std::fs::read(&cosigned).unwrap_or_default()) >= 10).then_some(()))
        .unwrap_or_else(|| panic!("{}", ship.said()));
    ship.says("a witness did not sign");
    let prepared = clinic.stop();
    let whole = prepared.path("audit/lane-1/checkpoint");
    let same = || (size(&std::fs::read(&cosigned).ok()?) == size(&std::fs::read(&whole).ok()?)).then_some(());
    within(SHIP_PATIENCE, same).unwrap_or_else(|| panic!("{}", ship.said()));
    let unused = || prepared.path("copied/lane-2/checkpoint.cosigned").exists().then_some(());
    within(SHIP_PATIENCE, unused).unwrap_or_else(|| panic!("{}", ship.said()));
    ship.stop();
    let known = prepared.path("witnesses");
    let lines: String = witnesses.iter().map(|witness| format!("{}\n", witness.key)).collect();
    std::fs::write(&known, lines).expect("written");
    let text = |path: PathBuf| path.display().to_string();
    // The copy is all that a verifier needs, beside keys that he has.
    let (copied, keys, known) = (text(prepared.path("copied")), text(keys), text(known));
    let verify = |require: &str| {
        let said = sekisho(&["audit", "verify", &copied, "--key", &keys, "--witness", &known, "--require", require]);
        (said.code, said.stdout + &said.stderr)
    };
    let (code, said) = verify("2");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("by w1.example, w2.example") && said.contains("all 2 logs are good"), "{said}");
    let (code, said) = verify("3");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cosigned by 3 of the 3 known witnesses; the best has 2"), "{said}");
    assert_eq!(verify("4").0, Some(1));
}
