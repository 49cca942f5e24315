//! What a verifier, an opener and the gateway read of a sealed log: envelopes, bundles, checkpoints, proofs, key files,
//! reviewers and statements; on arbitrary bytes, and on genuine ones with something changed (A14).
//!
//! What must hold: nothing panics; what is read is written the same; a changed statement makes nobody a reviewer, and a
//! changed envelope or key file opens to nothing but what was sealed.
#![no_main]

use std::num::NonZeroU32;
use std::sync::LazyLock;

use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::header::{ClearHeader, Envelope, KeyId, Kind, Pseudonym};
use gateway_audit::keyfile::KeyFile;
use gateway_audit::note::{KeyKind, Note, Signer, VerifierKey};
use gateway_audit::proof::Proof;
use gateway_audit::reviewer::Reviewer;
use gateway_audit::reviewer::private::{ReviewerKey, public_part};
use gateway_audit::reviewer::set::Reviewers;
use gateway_audit::reviewer::statement::Statement;
use gateway_audit::seal::{DataKey, Secret};
use gateway_audit::tiles::Tile;
use gateway_audit::tiles::entry::{Bundle, Entry};
use libfuzzer_sys::fuzz_target;

const DOMAIN: &str = "sekisho.example";
const ORIGIN: &str = "sekisho.example/gw1/lane-1";
const SECRET: [u8; 32] = [9; 32];
const RECORD: &[u8] = b"{\"kind\":\"request\",\"sequence\":7}";

struct Genuine {
    reviewer: ReviewerKey,
    log: VerifierKey,
    first: Vec<u8>,
    /// A sample of each form, in the order of [`read`].
    samples: [Vec<u8>; 8],
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let reviewer = ReviewerKey::new("auditor", [1; 32], [2; 32]).expect("keys");
    let statement = |number, previous| {
        let reviewers = vec![reviewer.public().clone()];
        let statement = Statement { domain: DOMAIN.into(), site: None, number, previous, reviewers };
        statement.sign(reviewer.signing()).expect("a statement").into_bytes()
    };
    let first = statement(1, None);
    let digest = gateway_audit::reviewer::statement::digest(&first);
    let mut file = KeyFile {
        origin: ORIGIN.into(),
        site: Some("sakura-clinic".into()),
        pseudonym: Pseudonym([3; 8]),
        class: Some("clinical".into()),
        period: "2026-11-23".into(),
        days: std::num::NonZeroU32::MIN,
        key: KeyId([5; 16]),
        first: 7,
        wrapped: Vec::new(),
    };
    file.wrap_to(&Secret::new(SECRET), reviewer.public()).expect("a wrapped key");
    let header = ClearHeader {
        kind: Kind::Request,
        unix_ns: 1_795_380_602_123_456_789,
        site: file.pseudonym,
        key: file.key,
        reference: "r-1",
    };
    let mut envelope = Vec::new();
    let key = DataKey::new(&Secret::new(SECRET)).expect("a key");
    key.seal_into(ORIGIN, 7, &header, RECORD, &mut envelope).expect("an envelope");
    let mut entry = Vec::new();
    Entry { sequence: 7, part: 0, parts: 1, bytes: &envelope }.encode(&mut entry);
    let mut bundle = Vec::new();
    Bundle::append(&mut bundle, &entry).expect("a bundle");
    let log = Signer::new(ORIGIN, KeyKind::Log, &[4; 32]).expect("a key");
    let root = gateway_audit::merkle::leaf_hash(&entry);
    let checkpoint = Checkpoint { origin: ORIGIN.into(), size: 1, root, extensions: Vec::new() };
    let checkpoint = checkpoint.sign(&log).expect("a checkpoint");
    let proof = Proof { extra: None, index: 0, hashes: Vec::new(), checkpoint: checkpoint.clone() };
    let private = reviewer.protect("correct horse battery", NonZeroU32::MIN, [6; 16]).expect("a file");
    let samples = [
        envelope,
        bundle,
        checkpoint.into_bytes(),
        proof.to_string().into_bytes(),
        file.encode().expect("a key file").into_bytes(),
        reviewer.public().to_string().into_bytes(),
        statement(2, Some(digest)),
        private.into_bytes(),
    ];
    Genuine { log: log.verifier().clone(), first, samples, reviewer }
});

fuzz_target!(|data: &[u8]| {
    let Some((&what, data)) = data.split_first() else { return };
    let form = usize::from(what >> 1) % GENUINE.samples.len();
    if what & 1 == 0 {
        read(form, data, false);
        return;
    }
    let sample = &GENUINE.samples[form];
    let mut changed = sample.clone();
    // What is done to the sample, four bytes each.
    for edit in data.chunks_exact(4) {
        let &[what, high, low, byte] = edit else { continue };
        let at = (usize::from(high) * 256 + usize::from(low)) % (changed.len() + 1);
        match what % 4 {
            0 => changed.truncate(at),
            1 => changed.insert(at, byte),
            2 if at < changed.len() => {
                changed.remove(at);
            }
            _ => {
                if let Some(place) = changed.get_mut(at) {
                    *place = byte;
                }
            }
        }
    }
    read(form, &changed, changed == *sample);
});

fn read(form: usize, bytes: &[u8], genuine: bool) {
    match form {
        0 => envelope(bytes, genuine),
        1 => bundle(bytes),
        2 => {
            let _ = Note::parse(bytes).map(|note| note.signatures().len());
            if let Ok(signed) = Checkpoint::open(bytes, &GENUINE.log, &[]) {
                assert_eq!(signed.checkpoint.size, 1, "a checkpoint that nobody signed");
            }
        }
        3 => {
            if let Ok(proof) = Proof::parse(bytes) {
                assert_eq!(proof.to_string().as_bytes(), bytes);
                let mut bundle = Bundle::new(&GENUINE.samples[1]);
                let _ = proof.check(bundle.next().unwrap_or_default(), &GENUINE.log, &[]);
                assert!(proof.check(b"another", &GENUINE.log, &[]).is_err());
            }
        }
        4 => {
            if let Ok(file) = KeyFile::parse(bytes) {
                assert_eq!(file.to_string().as_bytes(), bytes);
                match file.open(&GENUINE.reviewer) {
                    Ok(secret) => assert_eq!(secret.bytes(), &SECRET, "another key"),
                    Err(error) => assert!(!genuine, "{error}"),
                }
            }
        }
        5 => {
            let Ok(line) = std::str::from_utf8(bytes) else { return };
            if let Ok(reviewer) = Reviewer::parse(line) {
                assert_eq!(reviewer.to_string(), line);
            }
            if let Ok(key) = VerifierKey::parse(line) {
                assert_eq!(key.to_string(), line);
            }
            if let Some(tile) = Tile::parse(line) {
                assert_eq!(tile.path(), line);
            }
        }
        6 => {
            let mut set = Reviewers::new(DOMAIN, &GENUINE.first).expect("the first statement");
            if set.add(None, bytes).is_ok() {
                assert_eq!(set.of(None), std::slice::from_ref(GENUINE.reviewer.public()), "a stranger");
            } else {
                assert!(!genuine);
            }
            let _ = Reviewers::new(DOMAIN, bytes);
        }
        _ => {
            let _ = public_part(bytes);
        }
    }
}

fn envelope(bytes: &[u8], genuine: bool) {
    let Ok(read) = Envelope::decode(bytes) else { return };
    let mut again = Vec::new();
    read.header.encode(&mut again).expect("a header");
    again.extend_from_slice(read.sealed);
    assert_eq!(again, bytes);
    let key = DataKey::new(&Secret::new(SECRET)).expect("a key");
    assert_eq!(key.open(ORIGIN, 7, &read).is_ok(), genuine || bytes == GENUINE.samples[0]);
    assert!(key.open(ORIGIN, 8, &read).is_err());
}

fn bundle(bytes: &[u8]) {
    let mut again = Vec::new();
    let mut entries = Bundle::new(bytes);
    for entry in entries.by_ref() {
        if let Ok(read) = Entry::decode(entry) {
            let mut encoded = Vec::new();
            read.encode(&mut encoded);
            assert_eq!(encoded, entry);
            envelope(read.bytes, false);
        }
        Bundle::append(&mut again, entry).expect("it was one");
    }
    assert_eq!(again.len() + entries.rest_len(), bytes.len());
    assert!(bytes.starts_with(&again));
}
