use std::fs;
use std::task::Poll;

use gateway_audit::note::{KeyKind, Signer, VerifierKey};
use gateway_audit::tiles::entry;
use gateway_audit::tiles::{Builder, Tile};
use gateway_verify::{Verdict, verify};

use super::*;

const ORIGIN: &str = "log.example/gw1/lane-1";

/// A log on disk, and a copy of it in a directory.
struct Place {
    folder: tempfile::TempDir,
    signer: Signer,
}

impl Place {
    fn new() -> Self {
        let place =
            Self { folder: tempfile::tempdir().unwrap(), signer: Signer::new(ORIGIN, KeyKind::Log, &[1; 32]).unwrap() };
        fs::create_dir_all(place.path("audit/lane-1")).unwrap();
        fs::create_dir_all(place.path("reviewers/@default")).unwrap();
        fs::write(place.path("audit/verifier-keys"), format!("{}\n", place.signer.verifier())).unwrap();
        fs::write(place.path("audit/signing.key"), "secret").unwrap();
        fs::write(place.path("reviewers/@default/1"), "first").unwrap();
        fs::write(place.path("reviewers/@default/.2.99"), "unfinished").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Lays the log of so many records; `seed` makes another history.
    fn lay(&self, records: u64, seed: u8) -> Lane {
        let lane = self.path("audit/lane-1");
        let _ = fs::remove_dir_all(lane.join("tile"));
        let mut put = |tile: Tile, bytes: &[u8]| {
            let path = lane.join(tile.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let mut builder = Builder::new();
        for sequence in 1..=records {
            for part in entry::split(sequence, &[seed, 1, 2, 3]).unwrap() {
                builder.push_hashed(&part, part.leaf_hash(), &mut put).unwrap();
            }
        }
        builder.partial(&mut put);
        let checkpoint =
            Checkpoint { origin: ORIGIN.to_owned(), size: records, root: builder.root(), extensions: Vec::new() };
        let note = checkpoint.sign(&self.signer).unwrap().into_bytes();
        fs::write(lane.join(CHECKPOINT), &note).unwrap();
        Lane { name: "lane-1".to_owned(), directory: lane, note, checkpoint, key: self.signer.verifier().clone() }
    }

    fn copy(&self) -> Copy {
        let text = format!(
            "[audit]\ndirectory = \"audit\"\n[state]\ndirectory = \"state\"\n[[destination]]\nkind = \"copy\"\nname = \
             \"c\"\ndirectory = \"copy\"\nprefix = \"gw1\"\nreviewers = \"reviewers\"\ncosigned_by = \"w\"\n\
             [[destination]]\nkind = \"witness\"\nname = \"w\"\nwitnesses = [{{ url = \"http://127.0.0.1:1\", key = \
             \"{}\" }}]\n",
            Signer::new("w", KeyKind::Cosigner, &[2; 32]).unwrap().verifier()
        );
        let config = ShipConfig::parse(&text, self.folder.path()).unwrap();
        let super::super::DestinationSettings::Copy(settings) = &config.destinations[0] else { panic!() };
        Copy::open(settings, &config).unwrap()
    }

    /// All files of the copy, by name.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.path("copy/gw1")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    found.push(entry.path().strip_prefix(self.path("copy/gw1")).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }

    fn is_good(&self, keys: &[VerifierKey], size: u64) {
        let report = verify(&self.path("copy"), keys, &[], None).unwrap();
        assert_eq!(report.verdict(), Verdict::Good, "{report:?}");
        let note = fs::read_to_string(self.path("copy/gw1/lane-1/checkpoint")).unwrap();
        assert_eq!(note.lines().nth(1), Some(&*size.to_string()));
    }
}

fn alarm(result: Result<u64, Fault>) -> String {
    match result {
        Err(Fault::Alarm(words)) => words,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_copy_grows_with_its_log_and_holds_no_secret() {
    let place = Place::new();
    let keys = [place.signer.verifier().clone()];
    let mut copy = place.copy();
    let mut copied = 0;
    for size in [1, 3, 255, 256, 300, 1_000] {
        copied = copy.take(&place.lay(size, 0), copied).await.unwrap();
        assert_eq!(copied, size);
        place.is_good(&keys, size);
        // Another process takes it up from what the copy has.
        copy = place.copy();
    }
    let files = place.files();
    assert!(
        files.contains(&"verifier-keys".to_owned()) && files.contains(&"reviewers/@default/1".to_owned()),
        "{files:?}"
    );
    let of_log = |name: &String| name.starts_with("lane-1/tile/") || name == "lane-1/checkpoint";
    let others: Vec<_> = files.iter().filter(|name| !of_log(name)).collect();
    assert_eq!(others, ["reviewers/@default/1", "verifier-keys"]);
    // Unfinished tiles are there until the full one is.
    let partial: Vec<_> = files.iter().filter(|name| name.contains(".p/")).collect();
    assert!(partial.iter().all(|name| name.contains("003.p/") || name.contains("tile/1/000.p/")), "{partial:?}");
    // The same again changes nothing.
    let lane = place.lay(1_000, 0);
    assert_eq!(copy.take(&lane, 300).await.unwrap(), 1_000);
    assert_eq!(place.files(), files);
}

/// Polls a future so often and drops it, as if the process ended there; whether it came to its end.
fn cut_off(after: usize, future: impl Future<Output = Result<u64, Fault>>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut future = std::pin::pin!(future);
    let mut polls = 0;
    runtime.block_on(std::future::poll_fn(|cx| {
        if polls == after {
            return Poll::Ready(false);
        }
        polls += 1;
        future.as_mut().poll(cx).map(|taken| taken.unwrap() > 0)
    }))
    // What it had begun on disk is ended before the runtime is gone.
}

#[test]
fn a_copy_that_is_cut_off_anywhere_is_good_and_goes_on() {
    for after in 0.. {
        let place = Place::new();
        let keys = [place.signer.verifier().clone()];
        let size = |taken: bool| if taken { 600 } else { 200 };
        assert!(cut_off(usize::MAX, place.copy().take(&place.lay(200, 0), 0)));
        let lane = place.lay(600, 0);
        let ended = cut_off(after, place.copy().take(&lane, 200));
        let copied = fs::read(place.path("copy/gw1/lane-1/checkpoint")).unwrap() == lane.note;
        assert!(copied || !ended);
        place.is_good(&keys, size(copied));
        assert!(cut_off(usize::MAX, place.copy().take(&lane, 200)));
        place.is_good(&keys, 600);
        let left: Vec<_> = place.files().into_iter().filter(|name| name.contains("000.p/")).collect();
        assert!(left.iter().all(|name| name.starts_with("lane-1/tile/1/")), "cut off after {after} polls: {left:?}");
        if ended {
            assert!(after > 10, "{after}");
            return;
        }
    }
}

#[tokio::test]
async fn an_empty_lane_and_a_cosigned_checkpoint_are_copied() {
    let place = Place::new();
    let mut copy = place.copy();
    let empty = place.lay(0, 0);
    copy.keep(&empty).await.unwrap();
    place.is_good(std::slice::from_ref(place.signer.verifier()), 0);
    let longer = place.lay(9, 0);
    fs::create_dir_all(place.path("state/w")).unwrap();
    let path = cosigned_path(&place.path("state"), "w", "lane-1");
    fs::write(&path, &longer.note).unwrap();
    copy.keep(&empty).await.unwrap();
    let cosigned = place.path("copy/gw1/lane-1/checkpoint.cosigned");
    assert!(!cosigned.exists(), "the copy does not cover it yet");
    assert_eq!(copy.take(&longer, 0).await.unwrap(), 9);
    assert_eq!(fs::read(&cosigned).unwrap(), longer.note);
    fs::write(&path, "x").unwrap();
    assert!(matches!(copy.keep(&longer).await, Err(Fault::State { .. })));
}

#[tokio::test]
async fn a_log_or_a_copy_that_was_put_back_or_altered_is_an_alarm_and_nothing_is_written_over() {
    let place = Place::new();
    let mut copy = place.copy();
    let lane = place.lay(600, 0);
    copy.take(&lane, 0).await.unwrap();
    let before = place.files();
    assert!(alarm(copy.take(&place.lay(500, 0), 0).await).contains("has 600 entries, and the log has 500"));
    assert!(alarm(copy.take(&place.lay(600, 7), 0).await).contains("of another history"));
    assert!(alarm(copy.take(&place.lay(900, 7), 0).await).contains("does not continue the 600 entries"));
    assert_eq!(place.files(), before);
    // The copy was put back, emptied, or is another log's.
    let note = place.path("copy/gw1/lane-1/checkpoint");
    let longer = place.lay(700, 0);
    assert!(alarm(copy.take(&longer, 650).await).contains("it was put back or emptied"));
    let good = fs::read(&note).unwrap();
    fs::remove_file(&note).unwrap();
    assert!(alarm(copy.take(&longer, 600).await).contains("has 0 entries"));
    fs::write(&note, "x").unwrap();
    assert!(alarm(copy.take(&longer, 600).await).contains("`lane-1/checkpoint` of the copy"));
    fs::write(&note, good).unwrap();
    // A tile that is there already, and another.
    let tile = place.path("copy/gw1/lane-1/tile/entries/002.p/188");
    fs::write(&tile, "forged").unwrap();
    let said = alarm(copy.take(&longer, 600).await);
    assert!(
        said.contains("`lane-1/tile/entries/002.p/188` of the copy") && said.contains("nothing is written over"),
        "{said}"
    );
    assert_eq!(fs::read(&tile).unwrap(), b"forged");
    fs::remove_file(&tile).unwrap();
    // Of a log that was altered nothing is given.
    let bundle = place.path("audit/lane-1/tile/entries/002.p/188");
    let mut bytes = fs::read(&bundle).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&bundle, bytes).unwrap();
    assert!(alarm(copy.take(&longer, 600).await).contains("are not those that its checkpoint of 700 entries signs"));
    assert!(!tile.exists());
    // Other verifier keys than the copy has.
    let longer = place.lay(700, 0);
    fs::write(place.path("audit/verifier-keys"), "other").unwrap();
    assert!(alarm(copy.take(&longer, 600).await).contains("`verifier-keys` of the copy"));
}
