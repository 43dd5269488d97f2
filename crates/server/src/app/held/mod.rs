//! Ends that the ledger cannot take now: journaled beside the database, obeyed at once, recorded when it is back.
//!
//! [`ObeyingStore`] stands between every use case and the store, so that no check of whether
//! something lives can pass it by. While the ledger is stalled it refuses what grants, and what
//! [`ObeyingStore::end`] cannot record goes into the journal and into the set of what is
//! contained, which covers every read. When the ledger is back, the ends are recorded as the first
//! batch, then the outage itself, and only then anything is granted again.

mod former;
mod frame;
mod journal;
mod jump;
mod places;
mod record;
mod resume;
#[cfg(test)]
mod resume_tests;
mod set;
mod store;
#[cfg(test)]
mod tests;
mod unkept;
#[cfg(test)]
mod unkept_tests;
mod words;
#[cfg(test)]
mod words_tests;

use std::time::Duration;

use dayfly_domain::Time;
use dayfly_store::Unavailable;

pub use journal::{Backlog, JOURNAL, JOURNAL_BYTES, Journal, JournalError};
pub(super) use jump::JUMP;
pub use places::WORDS;
pub use store::ObeyingStore;
pub(super) use words::{Part, Said, Word};

/// How long a commit may take before the ledger counts as stalled, and the journal before an end is
/// answered without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of an end.
#[derive(Debug)]
pub(super) enum Acknowledged {
    /// The ledger has it.
    Recorded,
    /// The ledger cannot take it now; it is obeyed and will be recorded.
    Held {
        /// Whether it is durable in the journal.
        journaled: bool,
    },
}

impl Acknowledged {
    /// Whether the end outlives this process: the answer says so where it does not.
    pub(super) const fn is_durable(&self) -> bool {
        match self {
            Self::Recorded => true,
            Self::Held { journaled } => *journaled,
        }
    }
}

/// Since when and why the ledger cannot record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stall {
    /// When that was first seen.
    pub(super) since: Time,
    /// What the store said.
    pub(super) why: Unavailable,
}
