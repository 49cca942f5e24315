//! How many entries a second one core verifies: `cargo run --release -p gateway-audit --example verify_speed`.
//! Builds a log in memory (256 Ki entries of three lengths, 300 MB at most), then verifies it three times. The log lies in memory, so that
//! the disk is not measured.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::note::{KeyKind, Signer};
use gateway_audit::tiles::{Builder, CHECKPOINT, Tile, entry};
use gateway_audit::verify::{Against, verify};

const ENTRIES: u32 = 262_144;

fn main() -> Result<(), Box<dyn Error>> {
    let signer = Signer::new("log.example/speed", KeyKind::Log, &[1; 32])?;
    for bytes in [100, 600, 1_100] {
        let mut log = BTreeMap::new();
        let mut store = |tile: Tile, bytes: &[u8]| {
            log.insert(tile.path(), bytes.to_vec());
        };
        let mut builder = Builder::new();
        let begun = Instant::now();
        let mut encoded = Vec::new();
        for sequence in 1..=u64::from(ENTRIES) {
            let mut record = sequence.to_be_bytes().to_vec();
            record.resize(bytes, b'.');
            for part in entry::split(sequence, &record)? {
                encoded.clear();
                part.encode(&mut encoded);
                builder.push(&encoded, &mut store)?;
            }
        }
        builder.partial(&mut store);
        let built = f64::from(ENTRIES) / begun.elapsed().as_secs_f64();
        let (origin, size, root) = ("log.example/speed".to_owned(), builder.size(), builder.root());
        let note = Checkpoint { origin, size, root, extensions: Vec::new() }.sign(&signer)?;
        log.insert(CHECKPOINT.to_owned(), note.into_bytes());
        let mut out = std::io::stdout().lock();
        writeln!(out, "{bytes} bytes: built {built:.0} entries/s")?;
        for _ in 0..3 {
            let begun = Instant::now();
            let verified = verify(&mut log, signer.verifier(), Against::default(), |_, _| {})?;
            let rate = f64::from(ENTRIES) / begun.elapsed().as_secs_f64();
            writeln!(out, "{bytes} bytes: verified {} records, {rate:.0} entries/s", verified.records)?;
        }
    }
    Ok(())
}
