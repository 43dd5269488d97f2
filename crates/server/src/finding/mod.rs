//! Findings: what a person should look at, and can do something about. What there is to find, how
//! it is told, and what is kept of it; no clock and no store in here.

mod evaluate;
mod kept;
mod parts;
mod says;
mod seen;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

use dayfly_domain::{Name, RefusalId, Time};
use serde::{Deserialize, Serialize};

pub(crate) use evaluate::{Circumstances, LOW_DISK, evaluate, is_near, most};
pub use kept::{Closed, Opened};
pub(crate) use kept::{Kept, PREFIX, REPORTS, handed_to_bearer};
pub(crate) use parts::{Part, Watched};
pub(crate) use seen::{Counted, Seen};

/// One finding: its kind, what it is about and the numbers of it. It serialises as the data of
/// `finding.opened` and `finding.closed`, and as what is kept of it: only our own ids, declared
/// names, numbers and times, so that it may stand in a leaf and in a letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum What {
    /// Tasks of a workload ended by deadline or silence without a word from them.
    NeverClosed {
        /// The workload.
        workload: Name,
        /// Who answers for it.
        owner: Name,
        /// How many, since the first of them.
        count: u64,
        /// When the first ended.
        first: Time,
        /// When the last ended.
        last: Time,
    },
    /// Nobody answers for workloads.
    Ownerless {
        /// The owner that is declared.
        owner: Name,
        /// Why nobody can be reached.
        why: Unowned,
        /// How many workloads it stands for.
        workloads: u64,
    },
    /// One person alone answers for workloads.
    OnePersonOwner {
        /// The owner.
        owner: Name,
        /// How many workloads it stands for.
        workloads: u64,
    },
    /// A workload is matched by names, which can be given up and taken by others.
    NamesOnly {
        /// The workload.
        workload: Name,
        /// Who answers for it.
        owner: Name,
        /// Whose tokens match it.
        issuer: Name,
    },
    /// A workload may have credentials that are bound to no key.
    BearerAllowed {
        /// The workload.
        workload: Name,
        /// Who answers for it.
        owner: Name,
    },
    /// A client handed a part of its access to a helper that has no key.
    BearerChild {
        /// The workload of that client.
        workload: Name,
        /// Who answers for it.
        owner: Name,
        /// The day of the last of them.
        last: Time,
    },
    /// A resource authenticates by a secret that is the same every day.
    StaticSecret {
        /// The resource.
        resource: Name,
    },
    /// A workload may run and does not.
    Unused {
        /// The workload.
        workload: Name,
        /// Who answers for it.
        owner: Name,
        /// When its last task started, to the day, or since when it is declared.
        idle_since: Time,
        /// Whether a task of it ever started that is known of.
        ran: bool,
    },
    /// A part of a workload's access is granted again and again and never used.
    NeverUsed {
        /// The workload.
        workload: Name,
        /// Who answers for it.
        owner: Name,
        /// The resource, which reports each use.
        resource: Name,
        /// The detail, but for its actions, as it is declared.
        detail: String,
        /// What tells it from the others of the workload.
        place: String,
        /// The actions that were never used.
        actions: Vec<String>,
        /// In how many tasks each of them was granted at least.
        tasks: u64,
        /// Since when all of them are granted.
        since: Time,
    },
    /// Tasks of a workload come near a bound.
    NearBound {
        /// The workload.
        workload: Name,
        /// Who answers for it.
        owner: Name,
        /// Which bound.
        bound: Bound,
        /// How near they came.
        seen: u64,
        /// The bound.
        most: u64,
    },
    /// A proof was shown with another key than it was used with first.
    ProofByTwoKeys {
        /// The workload that it matched.
        workload: Name,
        /// Who answers for it.
        owner: Name,
        /// How often, since the first time.
        count: u64,
        /// When last.
        last: Time,
        /// The last refusal.
        refusal: RefusalId,
    },
    /// A block stands for long.
    OldBlock {
        /// What it stands on; series of one issuer, whatever their number, as `series:<issuer>`.
        on: String,
        /// Whose workloads it stops, where they are one owner's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<Name>,
        /// How many blocks there are.
        count: u64,
        /// Since when the oldest stands.
        oldest: Time,
    },
    /// The disk of the data folder fills up.
    LowDisk {
        /// How much room is left, in steps of 64 MiB.
        free_mib: u64,
    },
}

/// Why nobody answers for the workloads of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unowned {
    /// It names no members.
    NoMembers,
    /// It is offboarded.
    Offboarded,
    /// Its members are people by name, and each of them is blocked.
    MembersBlocked,
}

/// A bound that tasks may come near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// `limits.open` of the workload.
    Open,
    /// `limits.starts_per_hour` of the workload.
    StartsPerHour,
    /// `bounds.clients` of a task.
    Clients,
    /// `bounds.live_credentials` of a client.
    Credentials,
    /// `delegation.clients` of the workload that opened a task.
    Children,
}

impl Bound {
    /// Its key in configuration.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Open => "limits.open",
            Self::StartsPerHour => "limits.starts_per_hour",
            Self::Clients => "bounds.clients",
            Self::Credentials => "bounds.live_credentials",
            Self::Children => "delegation.clients",
        }
    }
}

impl What {
    /// The word for its kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NeverClosed { .. } => "never_closed",
            Self::Ownerless { .. } => "ownerless",
            Self::OnePersonOwner { .. } => "one_person_owner",
            Self::NamesOnly { .. } => "names_only",
            Self::BearerAllowed { .. } => "bearer_allowed",
            Self::BearerChild { .. } => "bearer_child",
            Self::StaticSecret { .. } => "static_secret",
            Self::Unused { .. } => "unused",
            Self::NeverUsed { .. } => "never_used",
            Self::NearBound { .. } => "near_bound",
            Self::ProofByTwoKeys { .. } => "proof_by_two_keys",
            Self::OldBlock { .. } => "old_block",
            Self::LowDisk { .. } => "low_disk",
        }
    }

    /// What it is about, in a few words that no other finding of its kind has.
    #[must_use]
    pub fn about(&self) -> String {
        match self {
            Self::NeverClosed { workload, .. }
            | Self::NamesOnly { workload, .. }
            | Self::BearerAllowed { workload, .. }
            | Self::BearerChild { workload, .. }
            | Self::Unused { workload, .. }
            | Self::ProofByTwoKeys { workload, .. } => format!("workload:{workload}"),
            Self::NearBound {
                workload, bound, ..
            } => format!("workload:{workload}:{}", bound.key()),
            Self::NeverUsed {
                workload,
                resource,
                place,
                ..
            } => format!("workload:{workload}:{resource}:{place}"),
            Self::Ownerless { owner, .. } | Self::OnePersonOwner { owner, .. } => {
                format!("owner:{owner}")
            }
            Self::StaticSecret { resource } => format!("resource:{resource}"),
            Self::OldBlock { on, .. } => on.clone(),
            Self::LowDisk { .. } => "data".to_owned(),
        }
    }

    /// What makes it the same finding, however its numbers change.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind(), self.about())
    }

    /// Whose it is; none where it is the operator's.
    #[must_use]
    pub const fn owner(&self) -> Option<&Name> {
        match self {
            Self::NeverClosed { owner, .. }
            | Self::Ownerless { owner, .. }
            | Self::OnePersonOwner { owner, .. }
            | Self::NamesOnly { owner, .. }
            | Self::BearerAllowed { owner, .. }
            | Self::BearerChild { owner, .. }
            | Self::Unused { owner, .. }
            | Self::NeverUsed { owner, .. }
            | Self::NearBound { owner, .. }
            | Self::ProofByTwoKeys { owner, .. } => Some(owner),
            Self::OldBlock { owner, .. } => owner.as_ref(),
            Self::StaticSecret { .. } | Self::LowDisk { .. } => None,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.about())
    }
}
