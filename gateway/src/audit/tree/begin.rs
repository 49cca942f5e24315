//! The first checkpoint of a log: over no entries, so that it verifies from its first moment on, and also where it is
//! never used.

use std::path::Path;

use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::merkle::{self, Hash};
use gateway_audit::note::Signer;
use gateway_audit::tiles::CHECKPOINT;

use super::files::{TreeDirectory, TreeStorage};
use super::writer::Trouble;
use crate::audit::OpenError;
use crate::audit::place::{LANES, free_lane, lane_directory, segments_directory};
use crate::audit::signing::signer;
use crate::audit::storage::make;

/// Signs the checkpoint over no entries, and says what it covers.
pub(super) fn sign_empty(files: &dyn TreeStorage, signer: &Signer) -> Result<(u64, Hash), Trouble> {
    let (size, root) = (0, merkle::empty_root());
    let origin = signer.verifier().name().to_owned();
    let note = Checkpoint { origin, size, root, extensions: Vec::new() }.sign(signer)?;
    files.put(CHECKPOINT, note.as_bytes()).map_err(Trouble::write("write", CHECKPOINT))?;
    Ok((size, root))
}

/// Makes the folders of all lanes, the node's signing key, and the first checkpoint of each lane that holds nothing and
/// that nobody writes. `origins` are the lanes' names.
///
/// # Errors
/// [`OpenError`] if something cannot be read or written.
pub fn begin_lanes(audit: &Path, origins: [String; LANES as usize]) -> Result<(), OpenError> {
    make(audit)?;
    for lane in 1..=LANES {
        let path = lane_directory(audit, lane);
        let begun = || path.join(CHECKPOINT).exists() || segments_directory(audit, lane).exists();
        if begun() {
            continue;
        }
        let Some(_place) = free_lane(audit, lane)?.filter(|_| !begun()) else { continue };
        let files = TreeDirectory::open(&path)?;
        let signer = signer(audit, origins.clone(), lane)?;
        sign_empty(&files, &signer).map_err(|trouble| OpenError::System(std::io::Error::other(trouble)))?;
    }
    Ok(())
}
