//! Takes up what a reviewer wrapped to another reviewer.

use gateway_audit::keyfile::KeyFile;
use gateway_audit::record::Rewrap;
use gateway_audit::rewrap::Addition;

use super::{Keys, Locked, Place, RetentionError};
use crate::audit::lane::ControlLane;

/// What came of an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Added {
    /// Keys that the reviewer opens from now on.
    pub keys: usize,
    /// Keys that it could open already.
    pub known: usize,
    /// Keys that are not there, or of another site.
    pub absent: usize,
}

impl Place {
    /// Records an addition and then adds its keys to their files. It was opened, and so is signed by one of the site's
    /// reviewers. A second time adds what a crash kept from being added.
    ///
    /// # Errors
    /// [`RetentionError`].
    pub async fn add(
        &self,
        addition: &Addition,
        (signer, sha256): (&str, &[u8; 32]),
        by: &str,
        log: &ControlLane,
    ) -> Result<Added, RetentionError> {
        let locked = Locked::take(&self.keys)?;
        self.complete(&locked)?;
        let keys = Keys::read(&self.keys)?;
        let mut added = Added::default();
        let mut files: Vec<KeyFile> = Vec::new();
        for (id, wrapped) in &addition.keys {
            let file = keys.live.iter().find(|file| file.key == *id && file.site == addition.site);
            match file.cloned().map(|mut file| file.add(&addition.reviewer, *wrapped).map(|()| file)) {
                None => added.absent += 1,
                Some(Ok(file)) => files.push(file),
                Some(Err(_)) => added.known += 1,
            }
        }
        if !files.is_empty() {
            let ids: Vec<_> = files.iter().map(|file| file.key).collect();
            let (site, reviewer) = (addition.site.as_deref(), addition.reviewer.as_str());
            let record = Rewrap { by, site, signer, reviewer, keys: &ids, sha256 };
            log.record(&record).await.map_err(RetentionError::Unrecorded)?;
        }
        for file in &files {
            locked.extend(file)?;
        }
        added.keys = files.len();
        Ok(added)
    }
}
