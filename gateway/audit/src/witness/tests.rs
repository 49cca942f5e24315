use proptest::prelude::*;

use super::*;
use crate::merkle::{Frontier, leaf_hash};
use crate::note::{KeyKind, Signer};
use crate::tiles::CHECKPOINT;
use crate::tiles::tests::{Log, build, records};

/// Made by another program, in Python with `cryptography`, from the C2SP pages: a log of the 600 entries `entry 0` to
/// `entry 599`, and its request at the size of 300.
const LOG: &str = "log.example/vector+36b88cea+AWa+fjMsekUzMr2dCn99sFX1xe8aBq2mbZizn7aBDEc6";
const WITNESS: &str = "witness.example/w1+151555cc+BAtROtm0kkAVygkC7QeQRNOsXb7CMG8GlIwQ2o62458t";
const BODY: &str = concat!(
    "old 300\n",
    "hdaXI3Hpu46sbw66WPqu67hTEa0IKLiQG+nZ414zd1k=\n",
    "MFu2Jwskjb4S0tFxX4D+pTYJwbmzQt+APM1WnxXppSs=\n",
    "DSBEUTY5hE0/elclREuBapll+q6i4hRmDohxDI6axb4=\n",
    "gJy/fLUJ3PiwP6bdLRaNrxU5gINO/xiht26Po7XUGwg=\n",
    "R6PPvsyXR0xVU54IJQIfiQiuEQthLz8fb5CIAjIj3dQ=\n",
    "35gS6rZI52JFzolF1+xmLE+EjX3wtgiX2pjiJtt9/MM=\n",
    "X0lwc1GelAdJL11LxsgRPBuAYkJOTDaPqahSU7oHGMA=\n",
    "2mWW2VNp9f7zIquOTg2jsLUCNqqcijsdJG90Ecni4y4=\n",
    "Lo95d56NxKroOzLS/z5H+WRjC5k7krI3ZYnysAf31yo=\n",
    "\n",
    "log.example/vector\n",
    "600\n",
    "6KgEr1lnie1PU5QuKUz+RNW+1McUDH8PX6UsDBIiMtY=\n",
    "\n",
    "\u{2014} log.example/vector NriM6uPF5+UXlZZ0omBQSVsh1io6+qSLpzd0GMAaeEnILLh8UtN9vJ4Ra+2goOnJxWudnfnGvkK7a9cHlixQF47ZEwE=\n",
);
const COSIGNATURE: &str = "\u{2014} witness.example/w1 FRVVzAAAAABkGFDLAMnMQGzZrhRElLhw4gIa7X6wGrehqGqOIZKOc3YmgbKzBqPpi1X5EfUesCia17uBjd6olWPu3+C+ihFN7818DA==\n";
const TIME: u64 = 1_679_315_147;

const NEAR: Duration = Duration::from_secs(60);

fn key(text: &str) -> VerifierKey {
    VerifierKey::parse(text).unwrap()
}

fn vector() -> AddCheckpoint {
    AddCheckpoint::parse(BODY.as_bytes()).unwrap()
}

#[test]
fn the_vector_is_what_is_made_here() {
    let entries: Vec<_> = (0..600).map(|index| format!("entry {index}").into_bytes()).collect();
    let (mut log, _) = build(&entries);
    let made = AddCheckpoint::create(&mut log, &vector().checkpoint, &key(LOG), 300).unwrap();
    assert_eq!(made.to_string(), BODY);
    assert_eq!(made, vector());
    let mut old = Frontier::new();
    entries[..300].iter().for_each(|entry| old.push(leaf_hash(entry)));
    let checkpoint = Checkpoint::open(made.checkpoint.as_bytes(), &key(LOG), &[]).unwrap().checkpoint;
    assert!(merkle::consistent(300, &old.root(), 600, &checkpoint.root, &made.proof));
    let witnesses = [key(WITNESS)];
    let (note, time) = accept(&made.checkpoint, &key(LOG), &witnesses, COSIGNATURE, TIME + 5, NEAR).unwrap();
    assert_eq!((note, time), (format!("{}{COSIGNATURE}", made.checkpoint), TIME));
}

#[test]
fn bodies_that_are_none_are_refused() {
    let hash = "hdaXI3Hpu46sbw66WPqu67hTEa0IKLiQG+nZ414zd1k=\n";
    assert_eq!(AddCheckpoint::parse(b"old 0\n\nx").unwrap().proof, [] as [Hash; 0]);
    assert!(AddCheckpoint::parse(format!("old 9\n{}\nx", hash.repeat(MAX_LINES)).as_bytes()).is_some());
    for bad in [
        String::new(),
        "old 0\nx".into(),
        "old 01\n\nx".into(),
        "old -1\n\nx".into(),
        "0\n\nx".into(),
        "old 5\nAAAA\n\nx".into(),
        format!("old 9\n{}\nx", hash.repeat(MAX_LINES + 1)),
    ] {
        assert_eq!(AddCheckpoint::parse(bad.as_bytes()), None, "{bad:?}");
    }
}

fn signer(name: &str, kind: KeyKind, seed: u8) -> Signer {
    Signer::new(name, kind, &[seed; 32]).unwrap()
}

/// A log of so many entries, its key, and its checkpoint.
fn log(size: u64) -> (Log, Signer, String) {
    let (mut files, builder) = build(&records(size));
    let log = signer("log.example/gw1", KeyKind::Log, 1);
    let checkpoint =
        Checkpoint { origin: "log.example/gw1".into(), size, root: builder.root(), extensions: Vec::new() };
    let note = checkpoint.sign(&log).unwrap();
    files.insert(CHECKPOINT.into(), note.clone().into_bytes());
    (files, log, note)
}

fn text(note: &str) -> &str {
    note.split_inclusive("\n\n").next().and_then(|text| text.strip_suffix('\n')).unwrap()
}

#[test]
fn a_log_that_is_behind_its_witness_asks_nothing() {
    let (mut files, key, note) = log(10);
    let behind = AddCheckpoint::create(&mut files, &note, key.verifier(), 11);
    assert_eq!(behind, Err(AskError::Behind { witnessed: 11, size: 10 }));
    assert_eq!(AddCheckpoint::create(&mut files, &note, key.verifier(), 10).unwrap().proof, [] as [Hash; 0]);
    assert_eq!(AddCheckpoint::create(&mut files, &note, key.verifier(), 0).unwrap().proof, [] as [Hash; 0]);
    let other = signer("log.example/gw2", KeyKind::Log, 1);
    let refused = AddCheckpoint::create(&mut files, &note, other.verifier(), 3);
    assert!(matches!(refused, Err(AskError::Checkpoint(CheckpointError::Origin { .. }))));
    files.retain(|path, _| path == CHECKPOINT);
    let missing = AddCheckpoint::create(&mut files, &note, key.verifier(), 3);
    assert!(matches!(missing, Err(AskError::Tile(ReadError::Missing { .. }))));
}

#[test]
fn answers_are_told_apart() {
    let size = Some(SIZE_TYPE);
    assert_eq!(read_answer(200, None, b"x"), Ok(Answer::Lines("x".into())));
    assert_eq!(read_answer(409, size, b"17\n"), Ok(Answer::Size(17)));
    assert_eq!(read_answer(409, Some("text/x.tlog.size; charset=utf-8"), b"0\n"), Ok(Answer::Size(0)));
    for (kind, body) in
        [(size, &b"17"[..]), (None, b"17\n"), (Some("text/plain"), b"17\n"), (size, b"017\n"), (size, b"\xff\n")]
    {
        assert_eq!(read_answer(409, kind, body), Err(AnswerError::NoSize));
    }
    assert_eq!(read_answer(200, None, b"\xff"), Err(AnswerError::Garbage));
    assert_eq!(read_answer(200, None, &vec![b'x'; MAX_ANSWER + 1]), Err(AnswerError::Garbage));
    for (status, error) in [
        (403, AnswerError::Forbidden),
        (404, AnswerError::UnknownLog),
        (422, AnswerError::Inconsistent),
        (400, AnswerError::Status(400)),
        (500, AnswerError::Status(500)),
        (302, AnswerError::Status(302)),
    ] {
        assert_eq!(read_answer(status, None, b""), Err(error));
    }
    assert!(AnswerError::Inconsistent.is_conflict() && !AnswerError::Forbidden.is_conflict());
}

#[test]
fn only_known_witnesses_signatures_of_this_moment_are_taken() {
    let (_, key, note) = log(5);
    let witness = signer("witness.example/w1", KeyKind::Cosigner, 2);
    let stranger = signer("witness.example/w2", KeyKind::Cosigner, 3);
    let known = [witness.verifier().clone()];
    let lines = |time| format!("{}{}", stranger.sign(text(&note), time), witness.sign(text(&note), time));
    let take = |lines: &str, now| accept(&note, key.verifier(), &known, lines, now, NEAR);
    let (accepted, time) = take(&lines(1_000), 1_060).unwrap();
    assert_eq!((accepted, time), (format!("{note}{}", witness.sign(text(&note), 1_000)), 1_000));
    for now in [939, 1_061] {
        assert!(matches!(take(&lines(1_000), now), Err(CosignatureError::Time { time: 1_000, .. })), "{now}");
    }
    assert!(matches!(take(&lines(0), 0), Err(CosignatureError::Time { time: 0, .. })));
    assert_eq!(take(&stranger.sign(text(&note), 1_000), 1_000), Err(CosignatureError::Unknown));
    // Of another checkpoint, by another key under the witness's name, and bytes that are no lines.
    let (_, _, other) = log(6);
    let wrong = CheckpointError::Note(crate::note::NoteError::Signature("witness.example/w1".into()));
    assert_eq!(take(&witness.sign(text(&other), 1_000), 1_000), Err(wrong.into()));
    let imposter = signer("witness.example/w1", KeyKind::Cosigner, 9);
    assert_eq!(take(&imposter.sign(text(&note), 1_000), 1_000), Err(CosignatureError::Unknown));
    for garbage in [
        "",
        "x",
        "x\n",
        "\n",
        "<html>\n",
        "\u{2014} a b\n",
        lines(1_000).trim_end_matches("=\n"),
        "\u{2014} a AAAAAAAA",
    ] {
        assert!(take(garbage, 1_000).is_err(), "{garbage:?}");
    }
    // An answer cannot smuggle in a note of its own.
    let smuggled = format!("\n{}{}", text(&other), lines(1_000));
    assert!(take(&smuggled, 1_000).is_err());
}

#[test]
fn a_quorum_counts_each_known_witness_once_and_none_from_the_future() {
    let (_, key, note) = log(5);
    let witnesses: Vec<_> = (2..5).map(|seed| signer(&format!("w{seed}"), KeyKind::Cosigner, seed)).collect();
    let keys: Vec<_> = witnesses.iter().map(|witness| witness.verifier().clone()).collect();
    let quorum = |require| Quorum { keys: &keys, require, now: 1_000, skew: NEAR };
    let by = |signers: &[(usize, u64)]| {
        let lines: String = signers.iter().map(|(index, time)| witnesses[*index].sign(text(&note), *time)).collect();
        format!("{note}{lines}").into_bytes()
    };
    let judge = |require, signers: &[(usize, u64)]| quorum(require).judge(&by(signers), key.verifier());
    let two = judge(2, &[(0, 900), (2, 950)]).unwrap();
    assert_eq!((two.checkpoint.size, two.witnesses.len(), quorum(2).known()), (5, 2, 3));
    assert_eq!((two.time(0), two.time(1), two.time(2), two.time(3)), (None, Some(950), Some(900), None));
    let few = |found, require| Err(QuorumError::Few { found, known: 3, require, size: 5 });
    assert_eq!(judge(3, &[(0, 900), (2, 950)]), few(2, 3));
    // The same witness twice is one, with its newest time; a signature without a time is none.
    assert_eq!(judge(2, &[(0, 900), (0, 950)]), few(1, 2));
    assert_eq!(judge(1, &[(0, 900), (0, 950)]).unwrap().witnesses, [("w2".to_owned(), 950)]);
    assert_eq!(judge(1, &[(0, 0)]), few(0, 1));
    assert!(judge(0, &[]).unwrap().witnesses.is_empty());
    assert!(judge(1, &[(0, 1_060)]).is_ok());
    assert!(matches!(judge(1, &[(0, 1_061), (1, 900)]), Err(QuorumError::Future { time: 1_061, .. })));
    // A second key of the same name is the same witness.
    let more = [signer("w2", KeyKind::Cosigner, 9), signer("w2", KeyKind::Cosigner, 2)];
    let keys: Vec<_> = more.iter().map(|witness| witness.verifier().clone()).collect();
    let both: String = more.iter().map(|witness| witness.sign(text(&note), 900)).collect();
    let quorum = Quorum { keys: &keys, require: 2, now: 1_000, skew: NEAR };
    let judged = quorum.judge(format!("{note}{both}").as_bytes(), key.verifier());
    assert_eq!(judged, Err(QuorumError::Few { found: 1, known: 1, require: 2, size: 5 }));
}

proptest! {
    #[test]
    fn what_is_asked_is_read_the_same_and_proves_what_it_says(old in 0..700_u64, more in 0..300_u64) {
        let (mut files, key, note) = log(old + more);
        let asked = AddCheckpoint::create(&mut files, &note, key.verifier(), old).unwrap();
        prop_assert!(asked.proof.len() <= MAX_LINES);
        let read = AddCheckpoint::parse(asked.to_string().as_bytes());
        prop_assert_eq!(read.as_ref(), Some(&asked));
        let (_, before) = build(&records(old));
        let root = Checkpoint::open(note.as_bytes(), key.verifier(), &[]).unwrap().checkpoint.root;
        prop_assert!(merkle::consistent(old, &before.root(), old + more, &root, &asked.proof));
    }

    #[test]
    fn whatever_is_answered_is_judged(status in 100..600_u16, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (_, key, note) = log(2);
        let witness = signer("w", KeyKind::Cosigner, 2);
        if let Ok(Answer::Lines(lines)) = read_answer(status, Some(SIZE_TYPE), &body) {
            let known = [witness.verifier().clone()];
            prop_assert!(accept(&note, key.verifier(), &known, &lines, 1_000, NEAR).is_err());
        }
    }

    #[test]
    fn a_body_is_read_or_refused(body in "old [0-9]{0,3}\n([A-Za-z0-9+/=]{0,44}\n){0,3}\n?x") {
        if let Some(read) = AddCheckpoint::parse(body.as_bytes()) {
            prop_assert_eq!(read.to_string(), body);
        }
    }
}
