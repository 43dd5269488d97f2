//! Epochs: what was relied on, and the refusal once rights were taken away.

use alloc::format;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::refusal::{Refusal, Rule};
use crate::text::Name;
use crate::time::Time;

/// An epoch that something relied on. Epochs move only when rights are taken away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch {
    /// Whose epoch.
    pub of: EpochOf,
    /// Its value at the time.
    pub at: u64,
}

/// Whose epoch it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EpochOf {
    /// The tenant's.
    Tenant,
    /// An issuer's.
    Issuer(Name),
    /// An owner's.
    Owner(Name),
    /// A workload's.
    Workload(Name),
}

/// That rights were taken away, when, and what that is called as the end of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The cause of the ends that follow.
    pub cause: Cause,
    /// When the epoch moved.
    pub at: Time,
}

impl fmt::Display for EpochOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant => f.write_str("the tenant"),
            Self::Issuer(name) => write!(f, "issuer {name}"),
            Self::Owner(name) => write!(f, "owner {name}"),
            Self::Workload(name) => write!(f, "workload {name}"),
        }
    }
}

/// Checks that no epoch that a task relied on has moved; `stale` is one that has.
///
/// # Errors
/// [`rights_removed`].
pub fn check_epochs(stale: Option<&EpochOf>) -> Result<(), Refusal> {
    stale.map_or(Ok(()), |of| Err(rights_removed(of)))
}

/// The refusal for rights that were taken away. Whose they were is for operator and owner: the
/// caller proved nothing about them.
#[must_use]
pub fn rights_removed(of: &EpochOf) -> Refusal {
    Refusal::new(Rule::RightsRemoved)
        .field("epoch")
        .wanted("rights as they stood when the task opened")
        .got("rights that were taken away")
        .hint(format!("those of {of} were taken away"))
}
