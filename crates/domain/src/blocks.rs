//! The blocks that stand, kept by what they stand on: whoever asks is compared with the few that could stop it, never with all.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use crate::block::{Block, BlockOn};

/// The blocks of a tenant. A copy costs the same however many there are, and so does a look-up but
/// for the depth of a tree; to set or lift one copies a small part of what another holds as well.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    standing: Shared<BlockOn, Block>,
    /// Those that are held beside the ones that the ledger has.
    beside: Shared<BlockOn, Block>,
}

impl Blocks {
    /// The block on this.
    #[must_use]
    pub fn get(&self, on: &BlockOn) -> Option<&Block> {
        self.standing.get(on).or_else(|| self.beside.get(on))
    }

    /// Whether this is blocked.
    #[must_use]
    pub fn stands(&self, on: &BlockOn) -> bool {
        self.get(on).is_some()
    }

    /// The block on the first of these that is blocked.
    #[must_use]
    pub fn first_of(&self, ons: &[BlockOn]) -> Option<&Block> {
        ons.iter().find_map(|on| self.get(on))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.standing.is_empty() && self.beside.is_empty()
    }

    /// All of them, in no order. Nothing that is asked for each grant may do this.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        let beside = self.beside.values();
        let new = beside.filter(|block| self.standing.get(&block.on).is_none());
        self.standing.values().chain(new)
    }

    /// All of them, in the order of what they stand on.
    #[must_use]
    pub fn to_vec(&self) -> Vec<Block> {
        let mut all: Vec<Block> = self.iter().cloned().collect();
        all.sort_unstable_by(|one, other| one.on.cmp(&other.on));
        all
    }

    /// Sets a block, in the place of one on the same.
    pub fn set(&mut self, block: Block) {
        self.standing.insert(block.on.clone(), block);
    }

    /// Lifts the block on this.
    pub fn lift(&mut self, on: &BlockOn) {
        self.standing.remove(on);
    }

    /// The same with those of others beside them, where nothing stands on the same.
    #[must_use]
    pub fn with(&self, held: &Self) -> Self {
        Self {
            standing: self.standing.clone(),
            beside: held.standing.clone(),
        }
    }

    /// Whether both are one and the same in memory: nothing was copied between them.
    #[must_use]
    pub fn is_one_with(&self, other: &Self) -> bool {
        self.standing.is_one_with(&other.standing) && self.beside.is_one_with(&other.beside)
    }
}

impl FromIterator<Block> for Blocks {
    fn from_iter<I: IntoIterator<Item = Block>>(blocks: I) -> Self {
        let mut all = Self::default();
        for block in blocks {
            all.set(block);
        }
        all
    }
}

/// A map whose copies share everything that is not changed in one of them: small maps by a byte of
/// the hash of the key.
#[derive(Clone, Debug)]
struct Shared<K, V>(Arc<BTreeMap<u8, Part<K, V>>>);

type Part<K, V> = Arc<BTreeMap<K, V>>;

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord + Hash + Clone, V: Clone> Shared<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.0.get(&part_of(key))?.get(key)
    }

    fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values().flat_map(|part| part.values())
    }

    fn insert(&mut self, key: K, value: V) {
        let part = Arc::make_mut(&mut self.0).entry(part_of(&key)).or_default();
        Arc::make_mut(part).insert(key, value);
    }

    fn remove(&mut self, key: &K) {
        if self.get(key).is_none() {
            return;
        }
        let parts = Arc::make_mut(&mut self.0);
        let number = part_of(key);
        let Some(part) = parts.get_mut(&number) else {
            return;
        };
        Arc::make_mut(part).remove(key);
        // INVARIANT: no part is empty, so that a map without parts is an empty one.
        if part.is_empty() {
            parts.remove(&number);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_one_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// In which part a key lies: FNV-1a of it, which nothing is trusted with but an even spread. Keys
/// that are made to lie together cost whoever sets one more of them, not whoever looks one up.
fn part_of<K: Hash>(key: &K) -> u8 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    key.hash(&mut hash);
    hash.finish()
        .to_le_bytes()
        .iter()
        .fold(0, |all, byte| all ^ byte)
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u64::from(*byte);
            self.0 = self.0.wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::cmp::Ordering;

    use super::*;
    use crate::text::Digest;
    use crate::time::Time;

    std::thread_local! {
        static COMPARED: Cell<usize> = const { Cell::new(0) };
        static COPIED: Cell<usize> = const { Cell::new(0) };
    }

    /// A key that counts how often keys are compared and copied.
    #[derive(Debug, Eq)]
    struct Counted(u32);

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other).is_eq()
        }
    }

    impl Hash for Counted {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Ord for Counted {
        fn cmp(&self, other: &Self) -> Ordering {
            COMPARED.set(COMPARED.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl Clone for Counted {
        fn clone(&self) -> Self {
            COPIED.set(COPIED.get() + 1);
            Self(self.0)
        }
    }

    #[test]
    fn a_look_up_walks_a_few_of_a_hundred_thousand_and_a_change_copies_a_few() {
        let mut map: Shared<Counted, ()> = Shared::default();
        for key in 0..100_000 {
            map.insert(Counted(key), ());
        }
        let mut most = (0, 0);
        for key in (0..200_000).step_by(97) {
            COMPARED.set(0);
            assert_eq!(map.get(&Counted(key)).is_some(), key < 100_000);
            most.0 = most.0.max(COMPARED.get());
            COPIED.set(0);
            let mut other = map.clone();
            assert_eq!(COPIED.get(), 0, "a copy copies nothing");
            other.insert(Counted(key + 200_000), ());
            other.remove(&Counted(key));
            assert_eq!(map.get(&Counted(key)).is_some(), key < 100_000);
            most.1 = most.1.max(COPIED.get());
        }
        // Eleven to a node, in parts of some four hundred.
        assert!(most.0 <= 64, "{} comparisons", most.0);
        assert!(most.1 <= 2000, "{} copies", most.1);
    }

    fn block(person: u8, since: u64) -> Block {
        Block {
            on: BlockOn::Person(Digest([person; 32])),
            task: None,
            since: Time::from_seconds(since),
        }
    }

    #[test]
    fn what_is_held_stands_beside_and_gives_way_to_what_stands() {
        let standing: Blocks = [block(1, 10), block(2, 10)].into_iter().collect();
        let held: Blocks = [block(2, 99), block(3, 99)].into_iter().collect();
        let both = standing.with(&held);
        assert_eq!(both.to_vec(), [block(1, 10), block(2, 10), block(3, 99)]);
        assert_eq!(both.get(&block(2, 0).on), Some(&block(2, 10)));
        assert_eq!(
            both.first_of(&[block(7, 0).on, block(3, 0).on, block(1, 0).on]),
            Some(&block(3, 99))
        );
        assert!(!both.is_empty() && both.is_one_with(&both.clone()));
        assert!(!both.is_one_with(&standing));
    }

    #[test]
    fn what_is_lifted_stands_no_more_and_copies_keep_theirs() {
        let mut blocks: Blocks = [block(1, 10), block(2, 10)].into_iter().collect();
        let before = blocks.clone();
        blocks.lift(&block(1, 0).on);
        blocks.lift(&block(1, 0).on);
        assert!(!blocks.stands(&block(1, 0).on) && before.stands(&block(1, 0).on));
        blocks.set(block(2, 20));
        assert_eq!(blocks.to_vec(), [block(2, 20)]);
        blocks.lift(&block(2, 0).on);
        assert!(blocks.is_empty() && !before.is_empty());
    }
}
