//! Why the record cannot be read.

use dayfly_ledger::head::HeadError;
use dayfly_store::Unavailable;

/// Why the record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The store cannot answer.
    #[error("the store cannot answer")]
    Store(#[from] Unavailable),
    /// An entry is not what it should be; `dayfly ledger fsck` says more.
    #[error("the entry at position {pos} cannot be read: {why}")]
    Damaged {
        /// The position.
        pos: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A head is not one of this ledger.
    #[error("the head cannot be used")]
    Head(#[from] HeadError),
    /// The tree does not give a proof that it should give.
    #[error("the tree gives no proof: {0}")]
    Tree(String),
    /// A cursor that no listing gave out.
    #[error("`{0}` is not a cursor of this listing")]
    Cursor(String),
}
