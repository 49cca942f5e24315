use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

pub(crate) fn hex(text: &str) -> Hash {
    let mut hash = [0; 32];
    for (place, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *place = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    }
    hash
}

/// RFC 6962, section 2.1, word for word.
pub(crate) fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let mut k = 1;
            while k * 2 < leaves.len() {
                k *= 2;
            }
            node_hash(&naive_root(&leaves[..k]), &naive_root(&leaves[k..]))
        }
    }
}

/// Section 2.1.1.
fn naive_path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (mut path, other) = if m < k {
        (naive_path(m, &leaves[..k]), naive_root(&leaves[k..]))
    } else {
        (naive_path(m - k, &leaves[k..]), naive_root(&leaves[..k]))
    };
    path.push(other);
    path
}

/// Section 2.1.2.
fn naive_subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if whole { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (mut proof, other) = if m <= k {
        (naive_subproof(m, &leaves[..k], whole), naive_root(&leaves[k..]))
    } else {
        (naive_subproof(m - k, &leaves[k..], false), naive_root(&leaves[..k]))
    };
    proof.push(other);
    proof
}

struct Leaves<'a>(&'a [Hash]);

impl HashSource for Leaves<'_> {
    type Error = Infallible;

    fn hash(&mut self, level: u32, index: u64) -> Result<Hash, Infallible> {
        let start = usize::try_from(index << level).unwrap();
        Ok(naive_root(&self.0[start..start + (1 << level)]))
    }
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
}

/// The eight entries of the reference tree of Certificate Transparency, and its roots at sizes 0 to 8.
const ENTRIES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

#[test]
fn the_reference_tree_has_its_published_roots() {
    let mut frontier = Frontier::new();
    assert_eq!(frontier.root(), hex(ROOTS[0]));
    for (entry, root) in ENTRIES.iter().zip(&ROOTS[1..]) {
        frontier.push(leaf_hash(entry));
        assert_eq!(frontier.root(), hex(root));
    }
}

#[test]
fn the_reference_tree_has_its_published_proofs() {
    let leaves: Vec<Hash> = ENTRIES.iter().map(|entry| leaf_hash(entry)).collect();
    // RFC 6962's proofs of the reference tree, as transparency-dev publishes them.
    let inclusion = prove_inclusion(&mut Leaves(&leaves), 5, 8).unwrap();
    let published = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(inclusion, published.map(hex));
    let consistency = prove_consistency(&mut Leaves(&leaves), 6, 8).unwrap();
    let published = [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(consistency, published.map(hex));
    assert!(consistent(6, &hex(ROOTS[6]), 8, &hex(ROOTS[8]), &consistency));
}

#[test]
fn all_proofs_of_small_trees_are_those_of_the_rfc_and_check_nowhere_else() {
    let all = leaves(33);
    for size in 0..=all.len() {
        let tree = &all[..size];
        let size64 = u64::try_from(size).unwrap();
        let root = naive_root(tree);
        let mut frontier = Frontier::new();
        tree.iter().for_each(|leaf| frontier.push(*leaf));
        assert_eq!((frontier.root(), frontier.size()), (root, size64));
        assert_eq!(super::root(&mut Leaves(tree), size64).unwrap(), root);
        for index in 0..size {
            let index64 = u64::try_from(index).unwrap();
            let proof = prove_inclusion(&mut Leaves(tree), index64, size64).unwrap();
            assert_eq!(proof, naive_path(index, tree));
            assert!(included(index64, size64, &tree[index], &proof, &root));
            for other in 0..=size64 + 1 {
                assert_eq!(included(other, size64, &tree[index], &proof, &root), other == index64);
            }
            let mut long = proof.clone();
            long.push(root);
            assert!(!included(index64, size64, &tree[index], &long, &root));
            assert!(proof.is_empty() || !included(index64, size64, &tree[index], &proof[1..], &root));
        }
        for old in 0..=size {
            let old64 = u64::try_from(old).unwrap();
            let old_root = naive_root(&tree[..old]);
            let proof = prove_consistency(&mut Leaves(tree), old64, size64).unwrap();
            assert_eq!(proof, if old == 0 { Vec::new() } else { naive_subproof(old, tree, true) });
            assert!(consistent(old64, &old_root, size64, &root, &proof), "{old} {size}");
            assert!(!consistent(old64, &[7; 32], size64, &root, &proof));
            if old > 0 {
                assert!(!consistent(old64, &old_root, size64, &[7; 32], &proof));
            }
            for at in 0..proof.len() {
                let mut bad = proof.clone();
                bad[at][0] ^= 1;
                assert!(!consistent(old64, &old_root, size64, &root, &bad));
            }
        }
        assert!(prove_inclusion(&mut Leaves(tree), size64, size64).is_err());
        assert!(prove_consistency(&mut Leaves(tree), size64 + 1, size64).is_err());
    }
    assert!(prove_inclusion(&mut Leaves(&all), u64::MAX, 33).is_err());
}

proptest! {
    #[test]
    fn larger_trees_agree_with_the_rfc(size in 1_usize..700, a in any::<usize>(), b in any::<usize>()) {
        let tree = leaves(size);
        let (index, old, size64) = (a % size, b % (size + 1), u64::try_from(size).unwrap());
        let proof = prove_inclusion(&mut Leaves(&tree), u64::try_from(index).unwrap(), size64).unwrap();
        prop_assert_eq!(proof, naive_path(index, &tree));
        let old64 = u64::try_from(old).unwrap();
        let proof = prove_consistency(&mut Leaves(&tree), old64, size64).unwrap();
        prop_assert!(consistent(old64, &naive_root(&tree[..old]), size64, &naive_root(&tree), &proof));
    }

    #[test]
    fn any_proof_is_judged(
        numbers in any::<[u64; 2]>(),
        proof in proptest::collection::vec(any::<Hash>(), 0..70),
        hashes in any::<[Hash; 2]>(),
    ) {
        let [a, b] = numbers;
        prop_assert!(!included(a, b, &hashes[0], &proof, &hashes[1]));
        prop_assert!(!consistent(a, &hashes[0], b, &hashes[1], &proof));
    }
}
