//! The check of a whole ledger, entry by entry, in memory that grows with open tasks only.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use crate::chain::{ChainError, Step, Tail, follow};
use crate::hash::{Hash, leaf_hash};
use crate::leaf::{Leaf, LeafError, Link, ReadLeaf};
use crate::tile::{FullTile, TileWriter};

/// The state between two entries of a ledger that held so far.
///
/// Of a task it keeps the last entry until the task ends. That a later entry opens an ended task
/// again under the same id is therefore not seen here; ids are never given twice by the store.
#[derive(Clone, Debug)]
pub struct Fsck {
    tenant: String,
    at: u64,
    open: BTreeMap<String, Tail>,
    tree: TileWriter,
}

/// Where a ledger first differs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FsckError {
    /// An entry is not what it should be.
    #[error("the entry at position {pos} does not hold")]
    Entry {
        /// The first position that differs.
        pos: u64,
        /// What differs.
        source: FsckFault,
    },
    /// There are more or fewer entries than the head has.
    #[error("the ledger has {got} entries, its head {wanted}")]
    Size {
        /// The size of the head.
        wanted: u64,
        /// How many entries there were.
        got: u64,
    },
    /// Each entry holds by itself, and together they are not what was signed.
    #[error("the entries have the root `{got}`, their head `{wanted}`")]
    Root {
        /// The root of the head.
        wanted: Hash,
        /// The root of the entries.
        got: Hash,
    },
}

/// What differs at one position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FsckFault {
    /// An entry is missing or doubled.
    #[error("an entry of position {got} stands there")]
    Position {
        /// The position of the entry that came.
        got: u64,
    },
    /// The stored leaf hash is not that of the stored leaf.
    #[error("its stored hash is `{got}`, its leaf's `{wanted}`")]
    Hash {
        /// The hash of the leaf.
        wanted: Hash,
        /// The hash stored beside it.
        got: Hash,
    },
    /// Its bytes are no leaf.
    #[error("it is no leaf")]
    Leaf(#[from] LeafError),
    /// It is of another tenant.
    #[error("it is of the tenant `{got}` instead of `{wanted}`")]
    Tenant {
        /// The tenant of the ledger.
        wanted: String,
        /// The tenant the leaf names.
        got: String,
    },
    /// Time goes backwards.
    #[error("its time {got} is before {before}, that of the entry before it")]
    Time {
        /// The time of the entry before, in milliseconds since 1970.
        before: u64,
        /// Its own.
        got: u64,
    },
    /// It is not the next entry of its task.
    #[error("it breaks the chain of the task `{task}`")]
    Chain {
        /// The task it names.
        task: String,
        /// What differs.
        source: ChainError,
    },
}

impl Fsck {
    /// Before the first entry of a tenant's ledger.
    #[must_use]
    pub fn new(tenant: &str) -> Self {
        Self {
            tenant: tenant.into(),
            at: 0,
            open: BTreeMap::new(),
            tree: TileWriter::new(),
        }
    }

    /// Checks the next entry: its position, its leaf and the leaf hash stored beside it. Answers
    /// the tiles it completes, for comparison with the stored ones. After an error, stop: what
    /// follows has nothing to be compared with.
    ///
    /// # Errors
    /// [`FsckError::Entry`] with what differs.
    pub fn feed(
        &mut self,
        pos: u64,
        leaf: &[u8],
        stored: &Hash,
    ) -> Result<Vec<FullTile>, FsckError> {
        let wanted = self.size();
        self.check(pos, leaf, stored)
            .map_err(|source| FsckError::Entry {
                pos: wanted,
                source,
            })?;
        self.tree.push(*stored);
        Ok(self.tree.take_full())
    }

    /// Takes the next entry by its leaf hash alone, where its leaf cannot be read: its place in the
    /// tree and, by its task and its number in it, in the chain. That it is a leaf, and when it was,
    /// is not checked. Memory grows with the tasks that end in such entries.
    ///
    /// # Errors
    /// [`FsckError::Entry`] where it is not the next one.
    pub fn pass(
        &mut self,
        pos: u64,
        link: Option<(&str, u64)>,
        stored: &Hash,
    ) -> Result<Vec<FullTile>, FsckError> {
        if pos != self.size() {
            return Err(FsckError::Entry {
                pos: self.size(),
                source: FsckFault::Position { got: pos },
            });
        }
        if let Some((task, seq)) = link {
            self.open.insert(task.into(), Tail::unread(seq, *stored));
        }
        self.tree.push(*stored);
        Ok(self.tree.take_full())
    }

    fn check(&mut self, pos: u64, bytes: &[u8], stored: &Hash) -> Result<(), FsckFault> {
        if pos != self.size() {
            return Err(FsckFault::Position { got: pos });
        }
        let hash = leaf_hash(bytes);
        if hash != *stored {
            return Err(FsckFault::Hash {
                wanted: hash,
                got: *stored,
            });
        }
        let ReadLeaf { leaf, .. } = ReadLeaf::parse(bytes)?;
        if leaf.tenant != self.tenant {
            return Err(FsckFault::Tenant {
                wanted: self.tenant.clone(),
                got: leaf.tenant.into(),
            });
        }
        if leaf.at < self.at {
            return Err(FsckFault::Time {
                before: self.at,
                got: leaf.at,
            });
        }
        self.at = leaf.at;
        leaf.link
            .as_ref()
            .map_or(Ok(()), |link| self.follow(&leaf, link, hash))
    }

    fn follow(&mut self, leaf: &Leaf<'_>, link: &Link<'_>, hash: Hash) -> Result<(), FsckFault> {
        let tail = self.open.get(link.task.as_ref());
        let step = follow(tail, leaf, link, hash);
        match step.map_err(|source| FsckFault::Chain {
            task: link.task.to_string(),
            source,
        })? {
            Step::Open(tail) => self.open.insert(link.task.to_string(), tail),
            Step::Ended => self.open.remove(link.task.as_ref()),
        };
        Ok(())
    }

    /// How many entries held so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The root over them, to be compared with a head of that size on the way.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The tree over them, whose partial tiles can be compared at the end.
    #[must_use]
    pub fn tree(&self) -> &TileWriter {
        &self.tree
    }

    /// The tasks that have not ended, in the order of their ids.
    pub fn open_tasks(&self) -> impl Iterator<Item = &str> {
        self.open.keys().map(String::as_str)
    }

    /// Compares all entries with a head.
    ///
    /// # Errors
    /// [`FsckError::Size`] and [`FsckError::Root`].
    pub fn finish(&self, size: u64, root: &Hash) -> Result<(), FsckError> {
        if self.size() != size {
            return Err(FsckError::Size {
                wanted: size,
                got: self.size(),
            });
        }
        let got = self.root();
        if got == *root {
            Ok(())
        } else {
            Err(FsckError::Root { wanted: *root, got })
        }
    }
}
