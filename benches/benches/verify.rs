//! How many entries a second one core verifies. The log lies in memory, so that the disk is not measured.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;

use criterion::{BenchmarkId, Criterion, Throughput};
use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::note::{KeyKind, Signer};
use gateway_audit::tiles::{Builder, CHECKPOINT, Tile, entry};
use gateway_audit::verify::{Against, verify};

/// A whole tile of level 1: what comes on top of it in a larger log is one hash in 65,536.
const ENTRIES: u64 = 65_536;

/// A signed log of records of that many bytes.
fn log(signer: &Signer, bytes: usize) -> Result<BTreeMap<String, Vec<u8>>, Box<dyn Error>> {
    let mut log = BTreeMap::new();
    let mut store = |tile: Tile, bytes: &[u8]| {
        log.insert(tile.path(), bytes.to_vec());
    };
    let mut builder = Builder::new();
    let mut encoded = Vec::new();
    for sequence in 1..=ENTRIES {
        let mut record = sequence.to_be_bytes().to_vec();
        record.resize(bytes, b'.');
        for part in entry::split(sequence, &record)? {
            encoded.clear();
            part.encode(&mut encoded);
            builder.push(&encoded, &mut store)?;
        }
    }
    builder.partial(&mut store);
    let (origin, size, root) = (signer.verifier().name().to_owned(), builder.size(), builder.root());
    let note = Checkpoint { origin, size, root, extensions: Vec::new() }.sign(signer)?;
    log.insert(CHECKPOINT.to_owned(), note.into_bytes());
    Ok(log)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default().configure_from_args();
    let signer = Signer::new("log.example/speed", KeyKind::Log, &[1; 32])?;
    let mut group = criterion.benchmark_group("verify");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(10);
    // A completion, a request, and a request with everything that can be said of it.
    for bytes in [600, 1_400, 2_800] {
        let mut log = log(&signer, bytes)?;
        let verified = verify(&mut log, signer.verifier(), Against::default(), |_, _| {})?;
        if verified.records != ENTRIES {
            return Err("not all records were verified".into());
        }
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| verify(&mut log, signer.verifier(), Against::default(), |_, _| {}));
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
