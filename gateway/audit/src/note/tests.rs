use proptest::prelude::*;

use super::*;

/// From the tests of golang.org/x/mod/sumdb/note.
const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\
    \n\
    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn signer(name: &str, kind: KeyKind, seed: u8) -> Signer {
    Signer::new(name, kind, &[seed; 32]).unwrap()
}

#[test]
fn the_published_note_verifies() {
    let key = VerifierKey::parse(KEY).unwrap();
    assert_eq!((key.name(), key.id(), key.to_string()), ("PeterNeumann", 0xc74f_20a3, KEY.to_owned()));
    let note = Note::parse(NOTE.as_bytes()).unwrap();
    let keys = [key];
    assert_eq!(note.verify(&keys).unwrap(), [Verified { key: &keys[0], time: None }]);
    assert!(note.text().ends_with("problem is.\n"));
}

#[test]
fn every_flipped_bit_of_a_note_is_found() {
    let keys = [VerifierKey::parse(KEY).unwrap()];
    for at in 0..NOTE.len() {
        for bit in 0..8 {
            let mut bad = NOTE.as_bytes().to_vec();
            bad[at] ^= 1 << bit;
            let judged = Note::parse(&bad).and_then(|note| note.verify(&keys).map(|_| ()));
            assert!(judged.is_err(), "byte {at} bit {bit}");
        }
        assert!(Note::parse(&NOTE.as_bytes()[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn several_signatures_are_verified_and_strangers_passed_over() {
    let text = "log.example/a\n5\nAAAA\n";
    let log = signer("log.example/a", KeyKind::Log, 1);
    let witness = signer("witness.example", KeyKind::Cosigner, 2);
    let stranger = signer("witness.example", KeyKind::Cosigner, 3);
    let note = format!("{text}\n{}{}{}", stranger.sign(text, 7), log.sign(text, 0), witness.sign(text, 1_679_315_147));
    let note = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(note.signatures().len(), 3);
    let keys = [log.verifier().clone(), witness.verifier().clone()];
    let verified = note.verify(&keys).unwrap();
    let times: Vec<_> = verified.iter().map(|verified| (verified.key.name(), verified.time)).collect();
    assert_eq!(times, [("log.example/a", None), ("witness.example", Some(1_679_315_147))]);
    let other = [signer("log.example/b", KeyKind::Log, 1).verifier().clone()];
    assert_eq!(note.verify(&other), Err(NoteError::Unknown));
    // A known key's wrong signature refuses the note although another key's is right.
    let wrong = format!("{text}\n{}{}", log.sign(text, 0), witness.sign("log.example/a\n6\nAAAA\n", 1));
    let wrong = Note::parse(wrong.as_bytes()).unwrap();
    assert_eq!(wrong.verify(&keys), Err(NoteError::Signature("witness.example".into())));
    // A cosigner's key does not sign as a log: the kinds have different ids.
    let as_log = signer("witness.example", KeyKind::Log, 2);
    let mixed = format!("{text}\n{}", as_log.sign(text, 0));
    assert_eq!(Note::parse(mixed.as_bytes()).unwrap().verify(&keys), Err(NoteError::Unknown));
}

#[test]
fn a_cosignature_states_its_time() {
    let text = "log.example/a\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
    let witness = signer("witness.example", KeyKind::Cosigner, 2);
    let line = witness.sign(text, 100);
    let mut signature = BASE64.decode(line.trim_end().rsplit_once(' ').unwrap().1).unwrap();
    signature[11] = 101;
    let later = format!("{text}\n\u{2014} witness.example {}\n", BASE64.encode(signature));
    let keys = [witness.verifier().clone()];
    let judged = Note::parse(later.as_bytes()).unwrap().verify(&keys).map(|_| ());
    assert_eq!(judged, Err(NoteError::Signature("witness.example".into())));
}

#[test]
fn notes_and_keys_of_other_forms_are_refused() {
    let line = NOTE.rsplit_once("\n\n").unwrap().1;
    for (bad, error) in [
        (String::new(), NoteError::Unsigned),
        ("text\n".into(), NoteError::Unsigned),
        ("text\n\n".into(), NoteError::Unsigned),
        ("text\n\n\n".into(), NoteError::Unsigned),
        (line.to_owned(), NoteError::Unsigned),
        (format!("text\n\n{}", line.trim_end()), NoteError::Unsigned),
        (format!("te\txt\n\n{line}"), NoteError::Text),
        (format!("text\n\n{line}garbage\n"), NoteError::Line(2)),
        (format!("text\n\n{line}\u{2014} two words AAAAAAA=\n"), NoteError::Line(2)),
        (format!("text\n\n{line}\u{2014} short AAAAAA==\n"), NoteError::Line(2)),
        (format!("text\n\n{}", line.repeat(65)), NoteError::Many),
        ("x".repeat(MAX_NOTE + 1), NoteError::Long),
    ] {
        assert_eq!(Note::parse(bad.as_bytes()).map(|_| ()), Err(error), "{bad:.80}");
    }
    let form = |text: &str| Err(KeyError::Form(text.to_owned()));
    for bad in ["", "a", "a+b", "a+c74f20a3+", "a+c74f20a3+AQ==", "a+c74f20a3+!"] {
        assert_eq!(VerifierKey::parse(bad), form(bad));
    }
    let key = KEY.rsplit_once('+').unwrap().1;
    assert_eq!(VerifierKey::parse(&format!("+c74f20a3+{key}")), Err(KeyError::Name(String::new())));
    assert_eq!(VerifierKey::parse(&format!("a b+c74f20a3+{key}")), Err(KeyError::Name("a b".into())));
    assert_eq!(VerifierKey::parse(&KEY.replace("c74f", "C74F")), Err(KeyError::Id("PeterNeumann".into())));
    assert_eq!(
        VerifierKey::parse(&KEY.replace("+ARpc", "+ARpd")).map(|_| ()),
        Err(KeyError::Id("PeterNeumann".into()))
    );
    let typed = KEY.replace("+AR", "+Bh");
    assert_eq!(VerifierKey::parse(&typed), Err(KeyError::Kind { name: "PeterNeumann".into(), kind: 6 }));
}

proptest! {
    #[test]
    fn any_bytes_are_judged(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        text in "(a\n){0,3}\n?(\u{2014} [a+ ]{0,3} [A-Za-z=]{0,9}\n){0,3}",
    ) {
        let _ = Note::parse(&bytes);
        let _ = VerifierKey::parse(&text);
        if let Ok(note) = Note::parse(text.as_bytes()) {
            prop_assert!(note.verify(&[]).is_err());
        }
    }
}
