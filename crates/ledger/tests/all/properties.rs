//! The laws of the tree: what is made verifies, what is changed does not, tiles lose nothing.

use std::sync::OnceLock;

use dayfly_ledger::tile::{RestoreError, TileError, TilePath};
use dayfly_ledger::{
    Frontier, Hash, ReadTiles, TileWriter, consistency_proof, empty_root, inclusion_proof,
    inclusion_proofs, leaf_hash, node_hash, range_proof, root_at, verify_consistency,
    verify_inclusion, verify_range,
};
use proptest::prelude::*;

use crate::book::Stored;

/// Enough for a full tile of level 1 and some more.
const SIZE: u64 = 66_400;

struct Tree {
    leaves: Vec<Hash>,
    stored: Stored,
    writer: TileWriter,
}

/// One tree for all cases: the tree of any smaller size is read from the same tiles.
fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(|| {
        let leaves: Vec<Hash> = (0..SIZE)
            .map(|index| leaf_hash(&index.to_le_bytes()))
            .collect();
        let (mut writer, mut stored) = (TileWriter::new(), Stored::default());
        for leaf in &leaves {
            writer.push(*leaf);
            stored.keep(writer.take_full());
        }
        Tree {
            leaves,
            stored,
            writer,
        }
    })
}

impl ReadTiles for Tree {
    type Error = String;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, String> {
        self.writer.over(&self.stored).tile(level, index, width)
    }
}

/// RFC 6962 section 2.1, as it is written there.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// RFC 6962 section 2.1.1, as it is written there.
fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, sibling) = match index.checked_sub(left.len()) {
        None => (naive_path(index, left), naive_root(right)),
        Some(index) => (naive_path(index, right), naive_root(left)),
    };
    path.push(sibling);
    path
}

/// RFC 6962 section 2.1.2, as it is written there.
fn naive_subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if whole {
            Vec::new()
        } else {
            vec![naive_root(leaves)]
        };
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut proof, sibling) = match m.checked_sub(left.len()) {
        None | Some(0) => (naive_subproof(m, left, whole), naive_root(right)),
        Some(m) => (naive_subproof(m, right, false), naive_root(left)),
    };
    proof.push(sibling);
    proof
}

fn first(size: u64) -> &'static [Hash] {
    &tree().leaves[..usize::try_from(size).unwrap()]
}

fn flipped(hash: Hash, bit: u8) -> Hash {
    let mut bytes = hash.0;
    bytes[usize::from(bit / 8)] ^= 1 << (bit % 8);
    Hash(bytes)
}

/// Every proof that differs in one hash, or has one more or one less.
fn mutations(proof: &[Hash], bit: u8) -> impl Iterator<Item = Vec<Hash>> {
    let changed = (0..proof.len()).map(move |at| {
        let mut other = proof.to_vec();
        other[at] = flipped(other[at], bit);
        other
    });
    let removed = (0..proof.len()).map(|at| [&proof[..at], &proof[at + 1..]].concat());
    let added = (0..=proof.len()).map(|at| [&proof[..at], &[empty_root()], &proof[at..]].concat());
    let swapped = (1..proof.len()).map(|at| {
        let mut other = proof.to_vec();
        other.swap(at - 1, at);
        other
    });
    changed.chain(removed).chain(added).chain(swapped)
}

/// A size and something below it, small enough for the naive tree.
fn small() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![1_u64..1200, Just(256), Just(257), Just(512), Just(1024)]
        .prop_flat_map(|size| (Just(size), 0..size))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_frontier_is_the_naive_tree((size, _) in small()) {
        let mut frontier = Frontier::new();
        first(size).iter().for_each(|leaf| frontier.push(*leaf));
        prop_assert_eq!(frontier.root(), naive_root(first(size)));
        prop_assert_eq!(root_at(size, tree()).unwrap(), frontier.root());
        prop_assert_eq!(Frontier::from_tiles(size, tree()).unwrap(), frontier);
    }

    #[test]
    fn inclusion_holds_and_nothing_else_does((size, index) in small(), bit: u8) {
        let proof = inclusion_proof(index, size, tree()).unwrap();
        prop_assert_eq!(&proof, &naive_path(index.try_into().unwrap(), first(size)));
        let (leaf, root) = (first(size)[usize::try_from(index).unwrap()], naive_root(first(size)));
        prop_assert_eq!(verify_inclusion(index, size, &leaf, &proof, &root), Ok(()));
        for other in mutations(&proof, bit) {
            prop_assert!(verify_inclusion(index, size, &leaf, &other, &root).is_err());
        }
        prop_assert!(verify_inclusion(index, size, &flipped(leaf, bit), &proof, &root).is_err());
        prop_assert!(verify_inclusion(index, size, &leaf, &proof, &flipped(root, bit)).is_err());
        for other in (0..64).map(|bit| index ^ (1 << bit)).chain([size, u64::MAX]) {
            prop_assert!(verify_inclusion(other, size, &leaf, &proof, &root).is_err());
        }
    }

    #[test]
    fn consistency_holds_and_nothing_else_does((n, m) in small(), bit: u8) {
        let m = m + 1;
        let proof = consistency_proof(m, n, tree()).unwrap();
        prop_assert_eq!(&proof, &naive_subproof(m.try_into().unwrap(), first(n), true));
        let (old, new) = (naive_root(first(m)), naive_root(first(n)));
        prop_assert_eq!(verify_consistency(m, n, &old, &new, &proof), Ok(()));
        for other in mutations(&proof, bit) {
            prop_assert!(verify_consistency(m, n, &old, &new, &other).is_err());
        }
        prop_assert!(verify_consistency(m, n, &flipped(old, bit), &new, &proof).is_err());
        prop_assert!(verify_consistency(m, n, &old, &flipped(new, bit), &proof).is_err());
    }

    #[test]
    fn proofs_of_a_tree_of_three_levels(size in 1..=SIZE, a: u64, b: u64) {
        let (index, m) = (a % size, b % size + 1);
        let root = root_at(size, tree()).unwrap();
        let proof = inclusion_proof(index, size, tree()).unwrap();
        let leaf = tree().leaves[usize::try_from(index).unwrap()];
        prop_assert_eq!(verify_inclusion(index, size, &leaf, &proof, &root), Ok(()));
        prop_assert_eq!(inclusion_proofs(&[index, 0, index], size, tree()).unwrap()[2].clone(), proof);
        let proof = consistency_proof(m, size, tree()).unwrap();
        let old = root_at(m, tree()).unwrap();
        prop_assert_eq!(verify_consistency(m, size, &old, &root, &proof), Ok(()));
    }

    #[test]
    fn a_restored_writer_goes_on_as_if_nothing_had_happened(size in 0..SIZE) {
        let tree = tree();
        let tail = &first(size)[usize::try_from(size - size % 256).unwrap()..];
        let mut writer = TileWriter::restore(size, &tree.stored, tail).unwrap();
        prop_assert_eq!(writer.size(), size);
        prop_assert_eq!(writer.root(), root_at(size, tree).unwrap());
        for leaf in &tree.leaves[usize::try_from(size).unwrap()..] {
            writer.push(*leaf);
        }
        for tile in writer.take_full() {
            prop_assert_eq!(tree.stored.tile(tile.level, tile.index, 256), Ok(tile.hashes));
        }
        prop_assert_eq!(writer.root(), tree.writer.root());
        for level in 0..4 {
            prop_assert_eq!(writer.partial(level), tree.writer.partial(level));
        }
    }

    #[test]
    fn a_path_comes_back(level in 0_u8..8, index: u64, width in 1_u16..=256, shift in 0_u32..64) {
        let index = (index >> shift) >> (8 * u32::from(level));
        let index = if level == 7 { 0 } else { index >> 8 };
        for path in [TilePath::Hashes { level, index, width }, TilePath::Entries { index, width }] {
            prop_assert_eq!(path.to_string().parse(), Ok(path));
        }
    }

    #[test]
    fn no_text_makes_a_path_panic(text in "(tile/)?([0-9]{1,3}|entries)?(/x?[0-9]{3}){0,9}(\\.p/[0-9]{0,4})?.{0,2}") {
        if let Ok(path) = text.parse::<TilePath>() {
            prop_assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn the_largest_trees_do_not_overflow(a: u64, b: u64, shift in 0_u32..64) {
        let (m, n) = (a.min(b >> shift).max(1), a.max(b >> shift).max(1));
        for (m, n) in [(m, n), (m, u64::MAX), (u64::MAX - 1, u64::MAX), (1 << 63, u64::MAX)] {
            let same = Same::new();
            let (old, new) = (root_at(m, &same).unwrap(), root_at(n, &same).unwrap());
            let proof = consistency_proof(m, n, &same).unwrap();
            prop_assert_eq!(verify_consistency(m, n, &old, &new, &proof), Ok(()));
            let proof = inclusion_proof(m - 1, n, &same).unwrap();
            prop_assert_eq!(verify_inclusion(m - 1, n, &same.levels[0], &proof, &new), Ok(()));
        }
    }
}

/// A tree of any size whose leaves are all the same.
struct Same {
    levels: Vec<Hash>,
}

impl Same {
    fn new() -> Self {
        let node = |node: &Hash| Some(node_hash(node, node));
        Self {
            levels: std::iter::successors(Some(leaf_hash(b"same")), node)
                .take(64)
                .collect(),
        }
    }
}

impl ReadTiles for Same {
    type Error = String;

    fn tile(&self, level: u8, _index: u64, width: u16) -> Result<Vec<Hash>, String> {
        Ok(vec![self.levels[8 * usize::from(level)]; width.into()])
    }
}

#[test]
fn a_failed_batch_is_undone_by_dropping_the_clone() {
    let mut writer = TileWriter::new();
    (0..300_u64).for_each(|index| writer.push(leaf_hash(&index.to_le_bytes())));
    let (before, tail) = (writer.root(), writer.partial(0).to_vec());
    let mut batch = writer.clone();
    (0..300_u64).for_each(|index| batch.push(leaf_hash(&index.to_be_bytes())));
    drop(batch);
    assert_eq!(
        (writer.root(), writer.partial(0)),
        (before, tail.as_slice())
    );
    assert_eq!(writer.take_full().len(), 1);
}

#[test]
fn tiles_that_are_missing_or_short_are_named() {
    let stored = &tree().stored;
    let missing = TileError::Read {
        level: 2,
        index: 0,
        source: "no tile 2/0".into(),
    };
    assert_eq!(root_at(SIZE, stored), Err(missing));
    let short = TileError::Short {
        level: 0,
        index: 0,
        wanted: 2,
        got: 0,
    };
    assert_eq!(root_at(2, &Nothing), Err(short));
    assert_eq!(
        inclusion_proof(7, 7, tree()),
        Err(TileError::Range { wanted: 7, size: 7 })
    );
    assert_eq!(
        consistency_proof(8, 7, tree()),
        Err(TileError::Range { wanted: 8, size: 7 })
    );
    let tail = RestoreError::Tail { wanted: 96, got: 0 };
    assert_eq!(
        TileWriter::restore(SIZE, stored, &[]).map(|writer| writer.size()),
        Err(tail)
    );
}

struct Nothing;

impl ReadTiles for Nothing {
    type Error = String;

    fn tile(&self, _level: u8, _index: u64, _width: u16) -> Result<Vec<Hash>, String> {
        Ok(Vec::new())
    }
}

#[test]
fn a_tile_is_served_in_the_width_of_an_older_head() {
    let mut writer = TileWriter::new();
    first(300).iter().for_each(|leaf| writer.push(*leaf));
    // Not taken yet, the full tile is served from the writer.
    let tiles = writer.over(&Nothing);
    for (index, width, from) in [(0, 256, 0), (0, 5, 0), (1, 44, 256), (1, 7, 256)] {
        let wanted = &tree().leaves[from..from + usize::from(width)];
        assert_eq!(tiles.tile(0, index, width).unwrap(), wanted);
    }
    assert_eq!(tiles.tile(0, 2, 1), Ok(Vec::new()));
}

proptest! {
    #[test]
    fn a_range_is_proven_and_nothing_else_is(
        size in 1..SIZE,
        from in any::<prop::sample::Index>(),
        count in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
    ) {
        let from = from.index(usize::try_from(size).unwrap()) as u64;
        let most = usize::try_from(size - from).unwrap().min(600);
        let to = from + count.index(most + 1) as u64;
        let tree = tree();
        let root = root_at(size, tree).unwrap();
        let proof = range_proof(from, to, size, tree).unwrap();
        let leaves = || {
            let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
            tree.leaves[from..to].to_vec()
        };
        prop_assert_eq!(verify_range(from, leaves(), size, &root, &proof), Ok(()));
        // Another leaf, one less, another place, another root. The size is the head's to bind.
        if from < to {
            let mut changed = leaves();
            let at = other.index(changed.len());
            changed[at] = leaf_hash(b"another");
            prop_assert!(verify_range(from, changed, size, &root, &proof).is_err());
            let mut cut = leaves();
            cut.pop();
            prop_assert!(verify_range(from, cut, size, &root, &proof).is_err());
            prop_assert!(verify_range(from + 1, leaves(), size, &root, &proof).is_err());
        }
        prop_assert!(verify_range(from, leaves(), size, &leaf_hash(b"root"), &proof).is_err());
        let mut longer = proof.clone();
        longer.after.push(root);
        prop_assert!(verify_range(from, leaves(), size, &root, &longer).is_err());
        let mut shorter = proof.clone();
        if shorter.before.pop().is_some() {
            prop_assert!(verify_range(from, leaves(), size, &root, &shorter).is_err());
        }
        prop_assert!(range_proof(from, size + 1, size, tree).is_err());
    }
}
