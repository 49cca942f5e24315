//! A proof of one entry that stands on its own (C2SP tlog-proof): the entry's index, its inclusion proof and the signed
//! checkpoint, in one text file.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::checkpoint::{self, Checkpoint, CheckpointError, Signed};
use crate::merkle::{self, Hash, MAX_PROOF, ProveError};
use crate::note::{MAX_NOTE, VerifierKey};
use crate::tiles::{Files, ReadError, TileHashes};

/// The file's first line.
pub const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// The longest opaque data that is read, bytes of base64.
pub const MAX_EXTRA: usize = 64 * 1024;

/// A proof, read or made; only [`Proof::check`] tells whether it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Opaque data that nothing vouches for.
    pub extra: Option<Vec<u8>>,
    /// The entry's place in the log, from 0.
    pub index: u64,
    /// The inclusion proof, leaf's sibling first.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

/// Why a proof is refused or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not such a file.
    #[error("line {0} of the proof is not what belongs there")]
    Line(usize),
    /// Its checkpoint is refused.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The proof does not lead from the entry to the checkpoint's root.
    #[error("entry {index} of the log is another, or the log's tiles are not those of its checkpoint")]
    Entry {
        /// The entry's place.
        index: u64,
    },
    /// The log has no such entry.
    #[error("the checkpoint covers {size} entries, there is no entry {index}")]
    Outside {
        /// The entry's place.
        index: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// A tile cannot be read.
    #[error(transparent)]
    Tile(#[from] ReadError),
}

impl Proof {
    /// Makes the proof of an entry from a log's tiles, and checks it.
    ///
    /// # Errors
    /// [`ProofError`] if the checkpoint is not the log's, a tile cannot be read, or the entry is another.
    pub fn create<F: Files>(
        files: &mut F,
        checkpoint: &str,
        log: &VerifierKey,
        index: u64,
        entry: &[u8],
    ) -> Result<Self, ProofError> {
        let size = Checkpoint::open(checkpoint.as_bytes(), log, &[])?.checkpoint.size;
        let hashes =
            merkle::prove_inclusion(&mut TileHashes::new(files, size), index, size).map_err(|error| match error {
                ProveError::Outside { .. } => ProofError::Outside { index, size },
                ProveError::Source(error) => error.into(),
            })?;
        let proof = Self { extra: None, index, hashes, checkpoint: checkpoint.to_owned() };
        proof.check(entry, log, &[])?;
        Ok(proof)
    }

    /// Reads a proof strictly.
    ///
    /// # Errors
    /// [`ProofError::Line`] names the first line that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ProofError::Line(1))?;
        if text.len() > MAX_NOTE + MAX_EXTRA {
            return Err(ProofError::Line(1));
        }
        let mut rest =
            text.strip_prefix(FIRST_LINE).and_then(|rest| rest.strip_prefix('\n')).ok_or(ProofError::Line(1))?;
        let mut number = 1;
        let mut next = || -> Result<(usize, &str, &str), ProofError> {
            number += 1;
            let (line, left) = rest.split_once('\n').ok_or(ProofError::Line(number))?;
            rest = left;
            Ok((number, line, left))
        };
        let (mut number, mut line, _) = next()?;
        let mut extra = None;
        if let Some(data) = line.strip_prefix("extra ") {
            extra = Some(BASE64.decode(data).map_err(|_| ProofError::Line(number))?);
            (number, line, _) = next()?;
        }
        let index = line.strip_prefix("index ").and_then(checkpoint::decimal).ok_or(ProofError::Line(number))?;
        let mut hashes = Vec::new();
        loop {
            let (number, line, left) = next()?;
            if line.is_empty() {
                return Ok(Self { extra, index, hashes, checkpoint: left.to_owned() });
            }
            let hash = checkpoint::hash(line).filter(|_| hashes.len() < MAX_PROOF);
            hashes.push(hash.ok_or(ProofError::Line(number))?);
        }
    }

    /// Checks that the log whose key this is has signed a tree with this entry in it, and gives the checkpoint with
    /// the cosigners that vouch for it. How many of those are enough is for the caller to say.
    ///
    /// # Errors
    /// [`ProofError`] if the checkpoint is refused or the entry is another.
    pub fn check(&self, entry: &[u8], log: &VerifierKey, cosigners: &[VerifierKey]) -> Result<Signed, ProofError> {
        let signed = Checkpoint::open(self.checkpoint.as_bytes(), log, cosigners)?;
        let Checkpoint { size, root, .. } = signed.checkpoint;
        if self.index >= size {
            return Err(ProofError::Outside { index: self.index, size });
        }
        if merkle::included(self.index, size, &merkle::leaf_hash(entry), &self.hashes, &root) {
            Ok(signed)
        } else {
            Err(ProofError::Entry { index: self.index })
        }
    }
}

/// The file's text.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", BASE64.encode(hash)))?;
        f.write_char('\n')?;
        f.write_str(&self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{KeyKind, Signer};
    use crate::tiles::tests::{Log, build, records};
    use proptest::prelude::*;

    fn log(size: u64) -> (Log, Vec<Vec<u8>>, Signer, String) {
        let entries = records(size);
        let (log, builder) = build(&entries);
        let signer = Signer::new("log.example/gw1", KeyKind::Log, &[1; 32]).unwrap();
        let checkpoint =
            Checkpoint { origin: "log.example/gw1".into(), size, root: builder.root(), extensions: Vec::new() };
        let checkpoint = checkpoint.sign(&signer).unwrap();
        (log, entries, signer, checkpoint)
    }

    #[test]
    fn every_entry_is_proved_and_only_in_its_place() {
        let (mut log, entries, signer, checkpoint) = log(300);
        for index in [0_u64, 1, 255, 256, 298, 299] {
            let entry = &entries[usize::try_from(index).unwrap()];
            let proof = Proof::create(&mut log, &checkpoint, signer.verifier(), index, entry).unwrap();
            let text = proof.to_string();
            let read = Proof::parse(text.as_bytes()).unwrap();
            assert_eq!(read, proof);
            assert_eq!(read.check(entry, signer.verifier(), &[]).unwrap().checkpoint.size, 300);
            assert_eq!(read.check(&entries[7], signer.verifier(), &[]), Err(ProofError::Entry { index }));
            let moved = Proof { index: 8, ..read };
            assert_eq!(moved.check(entry, signer.verifier(), &[]), Err(ProofError::Entry { index: 8 }));
        }
        let outside = Proof::create(&mut log, &checkpoint, signer.verifier(), 300, &entries[0]);
        assert_eq!(outside, Err(ProofError::Outside { index: 300, size: 300 }));
        log.get_mut("tile/1/000.p/1").unwrap()[0] ^= 1;
        let torn = Proof::create(&mut log, &checkpoint, signer.verifier(), 299, &entries[299]);
        assert_eq!(torn, Err(ProofError::Entry { index: 299 }));
        log.remove("tile/1/000.p/1");
        let missing = ReadError::Missing { path: "tile/1/000.p/1".into() };
        let torn = Proof::create(&mut log, &checkpoint, signer.verifier(), 299, &entries[299]);
        assert_eq!(torn, Err(ProofError::Tile(missing)));
    }

    #[test]
    fn every_flipped_bit_of_a_proof_is_found() {
        let (mut log, entries, signer, checkpoint) = log(5);
        let proof = Proof::create(&mut log, &checkpoint, signer.verifier(), 2, &entries[2]).unwrap();
        let text = proof.to_string();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bad = text.clone().into_bytes();
                bad[at] ^= 1 << bit;
                let judged = Proof::parse(&bad).and_then(|proof| proof.check(&entries[2], signer.verifier(), &[]));
                assert!(judged.is_err(), "byte {at} bit {bit}");
            }
        }
        let extra = Proof { extra: Some(b"anything".to_vec()), ..proof };
        assert_eq!(Proof::parse(extra.to_string().as_bytes()), Ok(extra));
    }

    #[test]
    fn texts_of_other_forms_are_refused() {
        for (bad, line) in [
            ("", 1),
            ("c2sp.org/tlog-proof@v2\nindex 0\n\n", 1),
            ("c2sp.org/tlog-proof@v1\n", 2),
            ("c2sp.org/tlog-proof@v1\nindex 00\n\n", 2),
            ("c2sp.org/tlog-proof@v1\nextra !\nindex 0\n\n", 2),
            ("c2sp.org/tlog-proof@v1\nextra AAAA\nextra AAAA\nindex 0\n\n", 3),
            ("c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\n", 3),
            ("c2sp.org/tlog-proof@v1\nindex 0\n", 3),
        ] {
            assert_eq!(Proof::parse(bad.as_bytes()), Err(ProofError::Line(line)), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(tail in "(extra [A-Z=]{0,4}\n)?(index [0-9]{0,3}\n)?([A-Za-z0-9]{43}=\n){0,3}\n?.{0,9}") {
            let text = format!("{FIRST_LINE}\n{tail}");
            if let Ok(proof) = Proof::parse(text.as_bytes()) {
                prop_assert_eq!(proof.to_string(), text);
            }
        }
    }
}
