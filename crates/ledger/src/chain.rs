//! The chain of one task's entries, walked alike by receipts and by the check of a whole ledger.

use alloc::string::String;

use serde::Deserialize;

use crate::hash::Hash;
use crate::leaf::{Leaf, Link};

/// The kinds that may open a task.
const OPENING: [&str; 2] = ["task.started", "task.requested"];

/// The kind that closes a task.
const CLOSING: &str = "task.ended";

/// Why an entry is not the next one of its task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// An entry is missing, doubled or out of order.
    #[error("it is entry {got} of its task where entry {wanted} should be")]
    Seq {
        /// The next number.
        wanted: u64,
        /// The number it has.
        got: u64,
    },
    /// The former entry was another one.
    #[error("its predecessor has the hash {} instead of {}", shown(.got.as_ref()), shown(.wanted.as_ref()))]
    Prev {
        /// The leaf hash of the former entry; none before the first.
        wanted: Option<Hash>,
        /// The hash it names.
        got: Option<Hash>,
    },
    /// The first entry opens no task.
    #[error("the task begins with `{got}` instead of `task.started` or `task.requested`")]
    Opening {
        /// The kind of the entry.
        got: String,
    },
    /// The end counts other entries than there are.
    #[error("the end counts {} entries of the task instead of {wanted}", shown(.got.as_ref()))]
    Count {
        /// How many there are, with the end itself.
        wanted: u64,
        /// What `data.count` says; none where it says nothing.
        got: Option<u64>,
    },
}

/// An entry of a task after which more may come.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    seq: u64,
    hash: Hash,
}

impl Tail {
    /// The tail at an entry that nobody could read.
    pub(crate) const fn unread(seq: u64, hash: Hash) -> Self {
        Self { seq, hash }
    }
}

/// How a task stands after an entry.
pub(crate) enum Step {
    Open(Tail),
    Ended,
}

/// Checks that the leaf follows the tail of its task, or opens it where there is none.
pub(crate) fn follow(
    tail: Option<&Tail>,
    leaf: &Leaf<'_>,
    link: &Link<'_>,
    hash: Hash,
) -> Result<Step, ChainError> {
    let wanted = tail.map_or(0, |tail| tail.seq).saturating_add(1);
    if link.seq != wanted {
        return Err(ChainError::Seq {
            wanted,
            got: link.seq,
        });
    }
    let prev = tail.map(|tail| tail.hash);
    if link.prev != prev {
        return Err(ChainError::Prev {
            wanted: prev,
            got: link.prev,
        });
    }
    if tail.is_none() && !OPENING.contains(&leaf.kind.as_ref()) {
        return Err(ChainError::Opening {
            got: leaf.kind.as_ref().into(),
        });
    }
    if leaf.kind != CLOSING {
        return Ok(Step::Open(Tail {
            seq: link.seq,
            hash,
        }));
    }
    match end_count(leaf) {
        Some(count) if count == link.seq => Ok(Step::Ended),
        got => Err(ChainError::Count {
            wanted: link.seq,
            got,
        }),
    }
}

fn end_count(leaf: &Leaf<'_>) -> Option<u64> {
    #[derive(Deserialize)]
    struct End {
        count: u64,
    }
    serde_json::from_str::<End>(leaf.data.get())
        .ok()
        .map(|end| end.count)
}

/// A value in backticks, or that there is none.
fn shown(value: Option<&impl alloc::string::ToString>) -> String {
    value.map_or_else(
        || "none".into(),
        |value| alloc::format!("`{}`", value.to_string()),
    )
}
