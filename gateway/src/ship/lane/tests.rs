use gateway_audit::note::{KeyKind, Signer};
use gateway_audit::tiles::Builder;
use gateway_audit::tiles::entry::split;

use super::*;

const ORIGIN: &str = "log.example/gw1/lane-1";

/// A log of these records: each a row of one byte, so long.
fn log(folder: &Path, lengths: &[usize]) -> Log {
    let signer = Signer::new(ORIGIN, KeyKind::Log, &[3; 32]).unwrap();
    let lane = lane_directory(folder, 1);
    let put = |path: &str, bytes: &[u8]| {
        let path = lane.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let mut builder = Builder::default();
    for (sequence, length) in (1..).zip(lengths) {
        let record = vec![u8::try_from(sequence % 251).unwrap(); *length];
        for entry in split(sequence, &record).unwrap() {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            builder.push(&bytes, &mut |tile: Tile, bytes: &[u8]| put(&tile.path(), bytes)).unwrap();
        }
    }
    builder.partial(&mut |tile: Tile, bytes: &[u8]| put(&tile.path(), bytes));
    let (size, root) = (builder.size(), builder.root());
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root, extensions: Vec::new() };
    put(CHECKPOINT, checkpoint.sign(&signer).unwrap().as_bytes());
    std::fs::write(folder.join(VERIFIER_KEYS), format!("{}\n", signer.verifier())).unwrap();
    Log::new(folder, None)
}

fn lane(folder: &Path, lengths: &[usize]) -> Lane {
    log(folder, lengths).lane(1).unwrap().unwrap()
}

#[test]
fn records_are_read_on_from_any_record_in_portions() {
    let folder = tempfile::tempdir().unwrap();
    // 600 records over three bundles, some of them in several parts.
    let lengths: Vec<usize> = (1..=600).map(|n| if n % 100 == 0 { 200_000 } else { n }).collect();
    let lane = lane(folder.path(), &lengths);
    let all = lane.records(0, usize::MAX, usize::MAX).unwrap();
    assert_eq!(all.len(), 600);
    assert!(all.iter().zip(&lengths).all(|(record, length)| record.envelope.len() == *length));
    assert_eq!(all.last().unwrap().end, lane.checkpoint.size);
    for limit in [1, 7, 255, 256, 257] {
        let (mut from, mut read) = (0, Vec::new());
        loop {
            let portion = lane.records(from, limit, usize::MAX).unwrap();
            let Some(last) = portion.last() else { break };
            assert!(portion.len() <= limit);
            from = last.end;
            read.extend(portion);
        }
        assert_eq!(read, all, "{limit}");
    }
    assert_eq!(lane.records(0, usize::MAX, 100).unwrap().len(), 14, "so many bytes, and the record that passes them");
}

#[test]
fn what_is_not_a_log_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path(), &[10; 300]);
    let lane = log.lane(1).unwrap().unwrap();
    // In the middle of a bundle that is gone.
    let bundle = lane.directory.join("tile/entries/000");
    let whole = std::fs::read(&bundle).unwrap();
    std::fs::write(&bundle, &whole[..whole.len() - 3]).unwrap();
    let error = lane.records(0, 1_000, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("`lane-1`, entry 0") && error.contains("`tile/entries/000` does not hold"), "{error}");
    let mut changed = whole.clone();
    changed[5_000] ^= 1;
    std::fs::write(&bundle, &changed).unwrap();
    assert!(
        lane.records(255, 1, usize::MAX)
            .unwrap_err()
            .to_string()
            .contains("does not hold the entries that were signed")
    );
    std::fs::write(&bundle, &whole).unwrap();
    assert_eq!(lane.records(255, 1, usize::MAX).unwrap().len(), 1);
    assert!(log.lane(2).unwrap().is_none());
    std::fs::remove_file(&bundle).unwrap();
    assert!(lane.records(0, 1, usize::MAX).unwrap_err().to_string().contains("`tile/entries/000` is not there"));
    assert_eq!(lane.records(256, 1_000, usize::MAX).unwrap().len(), 44);
    let note = lane.directory.join(CHECKPOINT);
    std::fs::write(&note, String::from_utf8(lane.note).unwrap().replace("\n300\n", "\n299\n")).unwrap();
    assert!(log.lane(1).unwrap_err().to_string().contains("`lane-1/checkpoint`"));
    std::fs::write(&note, "another/log\n0\n").unwrap();
    assert!(log.lane(1).unwrap_err().to_string().contains("no key is for the log `another/log`"));
}
