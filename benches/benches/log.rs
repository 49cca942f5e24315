//! Writes a sealed log of many small records, with the keys of a reviewer: something to ask. `benches/index.sh` does.
//!
//! `cargo bench --package gateway-benches --bench log -- DIRECTORY RECORDS` makes `audit/`, `keys/`, `auditor` (the private
//! file) and `passphrase` in the directory.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::header::{ClearHeader, KeyId, Kind, Pseudonym};
use gateway_audit::keyfile::{KeyFile, period};
use gateway_audit::note::{KeyKind, Signer};
use gateway_audit::reviewer::private::{ROUNDS, ReviewerKey};
use gateway_audit::seal::{DataKey, Secret};
use gateway_audit::tiles::{Builder, CHECKPOINT, Tile, entry};

const ORIGIN: &str = "sekisho.example/gw1/lane-1";
/// 2026-01-01, and 30 days of records behind it.
const FIRST: u64 = 1_767_225_600_000_000_000;
const DAYS: u64 = 30;
const NANOS_PER_DAY: u64 = 86_400_000_000_000;
const SITES: u64 = 20;
const USERS: u64 = 1_000;
const PATIENTS: u64 = 200_000;

/// Numbers that look drawn (SplitMix64).
struct Drawn(u64);

impl Drawn {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    // Run with all the other benches, it has nothing to do.
    let (Some(directory), Some(records)) = (words.next(), words.next()) else { return Ok(()) };
    write(&PathBuf::from(directory), records.parse()?)
}

fn private(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn write(directory: &Path, records: u64) -> Result<(), Box<dyn Error>> {
    let lane = directory.join("audit/lane-1");
    fs::create_dir_all(&lane)?;
    let reviewer = ReviewerKey::new("auditor", [5; 32], [6; 32])?;
    private(&directory.join("auditor"), &reviewer.protect("correct horse battery", ROUNDS, [7; 16])?)?;
    private(&directory.join("passphrase"), "correct horse battery\n")?;
    let signer = Signer::new(ORIGIN, KeyKind::Log, &[1; 32])?;
    fs::write(directory.join("audit/verifier-keys"), format!("{}\n", signer.verifier()))?;
    let mut drawn = Drawn(1);
    let mut keys: HashMap<(u64, u64), (KeyId, DataKey)> = HashMap::new();
    let (mut builder, mut failed) = (Builder::new(), None);
    let (mut json, mut envelope, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let mut store = |tile: Tile, bytes: &[u8]| {
        let path = lane.join(tile.path());
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        if let Err(error) = made.and_then(|()| fs::write(path, bytes)) {
            failed = Some(error);
        }
    };
    for sequence in 1..=records {
        let unix_ns = i64::try_from(FIRST + sequence * (DAYS * NANOS_PER_DAY / records.max(1)))?;
        let (site, user, patient) = (drawn.below(SITES), drawn.below(USERS), drawn.below(PATIENTS));
        let pseudonym = Pseudonym((site + 1).to_be_bytes());
        let number = u64::try_from(unix_ns)? / NANOS_PER_DAY;
        let (key, seal) = match keys.entry((site, number)) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(place) => {
                let id = KeyId((u128::from(site + 1) << 64 | u128::from(number)).to_be_bytes());
                let secret = Secret::new([u8::try_from(site)?; 32]);
                let mut file = KeyFile {
                    origin: ORIGIN.to_owned(),
                    site: Some(format!("clinic-{site}")),
                    pseudonym,
                    class: Some("clinical".to_owned()),
                    period: period(unix_ns, NonZeroU32::MIN),
                    days: NonZeroU32::MIN,
                    key: id,
                    first: sequence,
                    wrapped: Vec::new(),
                };
                file.wrap_to(&secret, reviewer.public())?;
                let path = directory.join("keys").join(file.path());
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::write(path, file.encode()?)?;
                place.insert((id, DataKey::new(&secret)?))
            }
        };
        let denied = drawn.below(20) == 0;
        let (decision, action) = if denied { ("deny", "update") } else { ("permit", "read") };
        json.clear();
        write!(
            json,
            r#"{{"action":"{action}","authentication":"password","class":"clinical","connection":{{"device":"exam-{}","id":"c{}","site":"clinic-{site}"}},"decision":"{decision}","kind":"request","method":"GET","patients":["{patient:08}"],"request":"r{sequence}","route":"fhir","sequence":{sequence},"status":200,"target":"/fhir/Patient/{patient:08}","user":"user-{user}"}}"#,
            user % 50,
            sequence / 20,
        )?;
        let reference = format!("r{sequence}");
        let header = ClearHeader { kind: Kind::Request, unix_ns, site: pseudonym, key: *key, reference: &reference };
        envelope.clear();
        seal.seal_into(ORIGIN, sequence, &header, &json, &mut envelope)?;
        for part in entry::split(sequence, &envelope)? {
            bytes.clear();
            part.encode(&mut bytes);
            builder.push(&bytes, &mut store)?;
        }
    }
    builder.partial(&mut store);
    if let Some(error) = failed {
        return Err(error.into());
    }
    let (size, root) = (builder.size(), builder.root());
    let note = Checkpoint { origin: ORIGIN.to_owned(), size, root, extensions: Vec::new() }.sign(&signer)?;
    Ok(fs::write(lane.join(CHECKPOINT), note)?)
}
