//! What a lane has more than its copy: computed from the entries, and not taken from the lane's own tiles of hashes.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::merkle::empty_root;
use gateway_audit::tiles::entry::Bundle;
use gateway_audit::tiles::{Builder, Files as _, Kind, MAX_BUNDLE, ResumeError, Tile, WIDTH};

use super::path;
use super::store::Store;
use crate::ship::growing::Growing;
use crate::ship::{Fault, Lane};

/// Objects that are given at a time.
const AT_ONCE: usize = 8;
/// Bytes of objects that wait to be given.
const WAITING: usize = 8 << 20;

/// The entries of a lane behind those of its copy.
pub(super) struct Portion<'a> {
    lane: &'a Lane,
    base: u64,
    begin: Builder,
}

impl<'a> Portion<'a> {
    /// Takes the tree up where the copy's checkpoint is, and goes over all entries: nothing is given away that does not
    /// lead to the signed root.
    pub(super) fn checked(lane: &'a Lane, base: Option<&Checkpoint>) -> Result<Self, Fault> {
        let portion = Self::new(lane, base)?;
        portion.check()?;
        Ok(portion)
    }

    fn new(lane: &'a Lane, base: Option<&Checkpoint>) -> Result<Self, Fault> {
        let Some(base) = base else { return Ok(Self { lane, base: 0, begin: Builder::new() }) };
        let begin = Builder::resume(&mut Growing::new(lane.directory.clone()), base.size, &base.root);
        let begin = begin.map_err(|error| match error {
            ResumeError::Read(error) => Fault::Log(format!("`{}`: {error}", lane.name)),
            ResumeError::Root { .. } | ResumeError::Bundle { .. } => Fault::Alarm(format!(
                "`{}` does not continue the {} entries that the copy has: the log was forked or altered, or rolled back \
                 and continued ({error})",
                lane.name, base.size
            )),
        })?;
        Ok(Self { lane, base: base.size, begin })
    }

    /// Whether the entries lead to the checkpoint's root.
    fn check(&self) -> Result<(), Fault> {
        let mut builder = self.begin.clone();
        for number in self.bundles() {
            self.push(&mut builder, number, &mut |_, _| {})?;
        }
        self.compare(&builder)
    }

    /// Gives everything below the checkpoint, and says which tiles are full that were not.
    pub(super) async fn give(self, store: &Store) -> Result<Vec<Tile>, Fault> {
        let mut builder = self.begin.clone();
        let (mut waiting, mut bytes, mut completed) = (Vec::new(), 0, Vec::new());
        for number in self.bundles() {
            self.push(&mut builder, number, &mut |tile, content| {
                bytes += content.len();
                completed.push(tile);
                waiting.push((tile, content.to_vec()));
            })?;
            if bytes >= WAITING {
                self.give_all(store, std::mem::take(&mut waiting)).await?;
                bytes = 0;
            }
        }
        builder.partial(&mut |tile, content| waiting.push((tile, content.to_vec())));
        self.compare(&builder)?;
        self.give_all(store, waiting).await?;
        Ok(completed)
    }

    async fn give_all(&self, store: &Store, tiles: Vec<(Tile, Vec<u8>)>) -> Result<(), Fault> {
        let given = tiles.into_iter().map(|(tile, content)| {
            let name = path(self.lane, &tile.path());
            async move { store.give(&name, content).await }
        });
        stream::iter(given).buffer_unordered(AT_ONCE).try_collect().await
    }

    fn bundles(&self) -> std::ops::Range<u64> {
        self.base / WIDTH..self.lane.checkpoint.size.div_ceil(WIDTH)
    }

    /// Takes a bundle's entries that the tree does not have.
    fn push(&self, builder: &mut Builder, number: u64, full: &mut impl FnMut(Tile, &[u8])) -> Result<(), Fault> {
        let size = self.lane.checkpoint.size;
        let fault = |error: &dyn std::fmt::Display| Fault::Log(format!("`{}`: {error}", self.lane.name));
        let tile = Tile::in_tree(Kind::Entries, number, size).ok_or_else(|| fault(&"there is no such bundle"))?;
        let mut files = Growing::new(self.lane.directory.clone());
        let mut read = files.read(&tile.path(), MAX_BUNDLE).map_err(|error| fault(&format!("`{tile}`: {error}")))?;
        if read.is_none() {
            read = files.read(&tile.full().path(), MAX_BUNDLE).map_err(|error| fault(&format!("`{tile}`: {error}")))?;
        }
        let bytes = read.ok_or_else(|| fault(&format!("`{tile}` is not there")))?;
        let known = usize::try_from(builder.size().saturating_sub(number * WIDTH)).unwrap_or(usize::MAX);
        for entry in Bundle::new(&bytes).take(usize::from(tile.width)).skip(known) {
            builder.push(entry, full).map_err(|error| fault(&format!("`{tile}`: {error}")))?;
        }
        let end = (number * WIDTH).saturating_add(u64::from(tile.width));
        if builder.size() == end { Ok(()) } else { Err(fault(&format!("`{tile}` is cut off"))) }
    }

    fn compare(&self, builder: &Builder) -> Result<(), Fault> {
        let root = if builder.size() == 0 { empty_root() } else { builder.root() };
        if root == self.lane.checkpoint.root {
            return Ok(());
        }
        Err(Fault::Alarm(format!(
            "the entries of `{}` are not those that its checkpoint of {} entries signs: nothing of them is copied; \
             `sekisho audit verify` says which",
            self.lane.name, self.lane.checkpoint.size
        )))
    }
}
