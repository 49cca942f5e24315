//! A lane's tiles while the lane grows: an unfinished tile makes way for a longer one, whose beginning is the same.

use std::io;
use std::path::PathBuf;

use gateway_audit::note::MAX_NOTE;
use gateway_audit::tiles::entry::Bundle;
use gateway_audit::tiles::{CHECKPOINT, Files, HASH_BYTES, Kind, MAX_BUNDLE, Tile};
use gateway_verify::Directory;

/// How often an unfinished tile is looked for: the lane may grow meanwhile.
const LOOKS: u32 = 5;

/// The tiles of a lane at any size that it ever had. Nothing is checked: what is made of them must be compared with a
/// signed root.
#[derive(Debug)]
pub(super) struct Growing(Directory);

impl Growing {
    pub(super) const fn new(lane: PathBuf) -> Self {
        Self(Directory(lane))
    }

    /// The size that the newest checkpoint states. Says where to look, and no more.
    fn size(&mut self) -> io::Result<u64> {
        let note = self.0.read(CHECKPOINT, MAX_NOTE)?.unwrap_or_default();
        let size = String::from_utf8_lossy(&note).lines().nth(1).and_then(|size| size.parse().ok());
        Ok(size.unwrap_or(0))
    }
}

impl Files for Growing {
    type Error = io::Error;

    fn read(&mut self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let asked = Tile::parse(path).filter(|tile| !tile.is_full());
        for _ in 0..LOOKS {
            if let Some(bytes) = self.0.read(path, limit)? {
                return Ok(Some(bytes));
            }
            let Some(asked) = asked else { return Ok(None) };
            let size = self.size()?;
            let Some(longer) = Tile::in_tree(asked.kind, asked.index, size).filter(|now| now.width > asked.width)
            else {
                return Ok(None);
            };
            if let Some(bytes) = self.0.read(&longer.path(), MAX_BUNDLE)? {
                return Ok(Some(beginning(bytes, asked)));
            }
        }
        Ok(None)
    }
}

/// As many hashes or entries of a longer tile as this one has.
fn beginning(mut bytes: Vec<u8>, tile: Tile) -> Vec<u8> {
    let width = usize::from(tile.width);
    let length = match tile.kind {
        Kind::Hashes(_) => width * HASH_BYTES,
        Kind::Entries => {
            let mut entries = Bundle::new(&bytes);
            entries.by_ref().take(width).for_each(drop);
            bytes.len() - entries.rest_len()
        }
    };
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use gateway_audit::tiles::Builder;

    use super::*;

    fn log(size: u64) -> (BTreeMap<String, Vec<u8>>, Builder) {
        let (mut files, mut builder) = (BTreeMap::new(), Builder::new());
        let mut put = |tile: Tile, bytes: &[u8]| drop(files.insert(tile.path(), bytes.to_vec()));
        for index in 0..size {
            builder.push(format!("entry {index}").as_bytes(), &mut put).unwrap();
        }
        builder.partial(&mut put);
        (files, builder)
    }

    #[test]
    fn a_lane_is_read_at_sizes_that_it_had() {
        let (now, _) = log(1_000);
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in &now {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        fs::write(folder.path().join(CHECKPOINT), "log\n1000\n").unwrap();
        let mut growing = Growing::new(folder.path().to_owned());
        for size in [1, 255, 256, 300, 700, 999, 1_000] {
            let (then, builder) = log(size);
            let resumed = Builder::resume(&mut growing, size, &builder.root()).unwrap();
            assert_eq!((resumed.size(), resumed.root()), (size, builder.root()));
            for path in then.keys() {
                let read = growing.read(path, MAX_BUNDLE).unwrap();
                let full = Tile::parse(path).unwrap().full().path();
                assert!(read.as_ref() == then.get(path) || now.contains_key(&full), "{path}");
            }
        }
        assert!(Builder::resume(&mut growing, 1_001, &[0; 32]).is_err());
    }
}
