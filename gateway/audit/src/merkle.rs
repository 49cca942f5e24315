//! The tree over a log's entries: RFC 6962, section 2.1, with SHA-256.
//!
//! A leaf is SHA-256(0x00 ‖ entry), a node SHA-256(0x01 ‖ left ‖ right), the root of no entries SHA-256 of nothing.
//! A tree of `n` entries splits at the largest power of two below `n`. Sizes and indices are numbers of entries,
//! `(level, index)` names the complete subtree over entries `index << level` to `(index + 1) << level`.

use sha2::{Digest, Sha256};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// The most hashes that a consistency or inclusion proof can have.
pub const MAX_PROOF: usize = 65;

/// The hash of one entry.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// The hash of two subtrees that stand side by side.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut node = [1; 65];
    for (place, half) in node.split_at_mut(1).1.chunks_exact_mut(32).zip([left, right]) {
        place.copy_from_slice(half);
    }
    at_once(&node)
}

/// The hash of bytes that lie together, which is faster than piece by piece.
pub(crate) fn at_once(bytes: &[u8]) -> Hash {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// The root of the tree without entries.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The right edge of a growing tree: enough to append and to know the root. Holds at most 64 hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the complete subtrees that `size`'s bits name, largest first.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The tree without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first: one for each bit that is set in the size.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends a leaf's hash. A tree of 2^64 - 1 leaves takes no more and stays as it is.
    pub fn push(&mut self, leaf: Hash) {
        let Some(size) = self.size.checked_add(1) else { return };
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size = size;
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.fold(None).unwrap_or_else(empty_root)
    }

    /// The root of this tree with a smaller one on its right; none if there is neither.
    #[must_use]
    pub fn fold(&self, right: Option<Hash>) -> Option<Hash> {
        self.peaks.iter().rev().fold(right, |right, peak| Some(right.map_or(*peak, |right| node_hash(peak, &right))))
    }

    /// Forgets all leaves.
    pub fn clear(&mut self) {
        self.size = 0;
        self.peaks.clear();
    }
}

/// Where proofs take the hashes of complete subtrees from.
pub trait HashSource {
    /// Why a hash is not to be had.
    type Error;

    /// The hash of the complete subtree `index` at `level`. It need not be right: a proof made of wrong hashes does
    /// not check.
    ///
    /// # Errors
    /// If the hash cannot be had.
    fn hash(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Why a proof cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E> {
    /// The tree has no such entry or no such earlier size.
    #[error("{asked} is outside a tree of {size} entries")]
    Outside {
        /// The index or earlier size that was asked for.
        asked: u64,
        /// The tree's size.
        size: u64,
    },
    /// A hash is not to be had.
    #[error(transparent)]
    Source(#[from] E),
}

/// The largest power of two below `n`, for `n` of at least 2.
const fn split(n: u64) -> u64 {
    1 << (n.saturating_sub(1) | 1).ilog2()
}

/// The hash of the tree's node over entries `start` to `end`.
fn range_hash<S: HashSource>(source: &mut S, start: u64, end: u64) -> Result<Hash, S::Error> {
    // Complete subtrees from the left, each at least half of what is left.
    let mut peaks = Vec::new();
    let mut start = start;
    while start < end {
        let level = (end - start).ilog2();
        peaks.push(source.hash(level, start >> level)?);
        start += 1 << level;
    }
    let mut hashes = peaks.into_iter().rev();
    let last = hashes.next().unwrap_or_else(empty_root);
    Ok(hashes.fold(last, |right, left| node_hash(&left, &right)))
}

/// The root of the tree of `size` entries, from a source.
///
/// # Errors
/// If the source fails.
pub fn root<S: HashSource>(source: &mut S, size: u64) -> Result<Hash, S::Error> {
    range_hash(source, 0, size)
}

/// The siblings on the way from the root to the node over `start` to `end`, root's child first, each with whether it
/// stands on the left.
fn siblings<S: HashSource>(
    source: &mut S,
    start: u64,
    end: u64,
    size: u64,
) -> Result<Vec<(bool, Hash)>, ProveError<S::Error>> {
    let outside = ProveError::Outside { asked: start, size };
    if start >= end || end > size {
        return Err(outside);
    }
    let mut path = Vec::new();
    let (mut low, mut high) = (0, size);
    while (low, high) != (start, end) {
        if high - low < 2 {
            return Err(outside);
        }
        let middle = low + split(high - low);
        if start < middle {
            path.push((false, range_hash(source, middle, high)?));
            high = middle;
        } else {
            path.push((true, range_hash(source, low, middle)?));
            low = middle;
        }
    }
    Ok(path)
}

/// The root of a tree of `size` entries in which the node over `start` to `end` is `hash` and all else comes from the
/// source.
///
/// # Errors
/// [`ProveError`] if the tree has no such node, or the source fails.
pub fn root_with<S: HashSource>(
    source: &mut S,
    start: u64,
    end: u64,
    size: u64,
    hash: Hash,
) -> Result<Hash, ProveError<S::Error>> {
    let path = siblings(source, start, end, size)?;
    Ok(path.iter().rev().fold(
        hash,
        |hash, (left, sibling)| {
            if *left { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) }
        },
    ))
}

/// The inclusion proof of entry `index` in the tree of `size` entries (RFC 6962, section 2.1.1), leaf's sibling first.
///
/// # Errors
/// [`ProveError`] if there is no such entry, or the source fails.
pub fn prove_inclusion<S: HashSource>(
    source: &mut S,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, ProveError<S::Error>> {
    let end = index.checked_add(1).ok_or(ProveError::Outside { asked: index, size })?;
    let path = siblings(source, index, end, size)?;
    Ok(path.into_iter().rev().map(|(_, hash)| hash).collect())
}

/// The consistency proof between the trees of `old` and `size` entries (RFC 6962, section 2.1.2). Empty if `old` is
/// zero or `size`.
///
/// # Errors
/// [`ProveError`] if `old` is larger than `size`, or the source fails.
pub fn prove_consistency<S: HashSource>(
    source: &mut S,
    old: u64,
    size: u64,
) -> Result<Vec<Hash>, ProveError<S::Error>> {
    if old > size {
        return Err(ProveError::Outside { asked: old, size });
    }
    let mut proof = Vec::new();
    if old == 0 {
        return Ok(proof);
    }
    let (mut low, mut high) = (0, size);
    while old != high {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(range_hash(source, middle, high)?);
            high = middle;
        } else {
            proof.push(range_hash(source, low, middle)?);
            low = middle;
        }
    }
    if low > 0 {
        proof.push(range_hash(source, low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root that an inclusion proof leads to; none if the proof has not the length that index and size ask for
/// (RFC 9162, section 2.1.3.2).
#[must_use]
pub fn inclusion_root(index: u64, size: u64, leaf: &Hash, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// Whether `proof` shows that `leaf` is entry `index` of the tree of `size` entries with that root.
#[must_use]
pub fn included(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> bool {
    inclusion_root(index, size, leaf, proof).is_some_and(|found| found == *root)
}

/// Whether `proof` shows that the tree of `size` entries with `root` begins with the tree of `old` entries with
/// `old_root` (RFC 9162, section 2.1.4.2). The tree without entries begins every tree, with an empty proof.
#[must_use]
pub fn consistent(old: u64, old_root: &Hash, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    if old > size {
        return false;
    }
    if old == size {
        return proof.is_empty() && old_root == root && (old > 0 || *root == empty_root());
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let (first, rest) = if old.is_power_of_two() {
        (*old_root, proof)
    } else {
        match proof.split_first() {
            Some((first, rest)) => (*first, rest),
            None => return false,
        }
    };
    let shift = (old - 1).trailing_ones();
    let (mut node, mut last) = ((old - 1) >> shift, (size - 1) >> shift);
    let (mut before, mut after) = (first, first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            before = node_hash(sibling, &before);
            after = node_hash(sibling, &after);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            after = node_hash(&after, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && before == *old_root && after == *root
}

#[cfg(test)]
pub(crate) mod tests;
