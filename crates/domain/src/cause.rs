//! Why something ended, and how grave that is for the task around it.

use serde::{Deserialize, Serialize};

/// Why a task or client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It said that it had done its work.
    Completed,
    /// It said that it had failed.
    Failed,
    /// It said that it had been cancelled.
    Cancelled,
    /// Its deadline came.
    Deadline,
    /// It fell silent.
    Heartbeat,
    /// A newer attempt of the same run started.
    Superseded,
    /// The client it was delegated from ended.
    Parent,
    /// Its newest credential was revoked (RFC 7009).
    Revoked,
    /// Its approval was denied.
    Denied,
    /// Its approval was not given in time.
    Expired,
    /// Its owner was offboarded.
    OwnerOffboarded,
    /// Its workload was disabled.
    WorkloadDisabled,
    /// The issuer that vouched for it was removed.
    IssuerRemoved,
    /// The declared state no longer grants it.
    Policy,
    /// An operator ended it.
    Operator,
    /// The platform said that the run is over.
    Upstream,
    /// The ledger was restored to a time before.
    Restored,
}

impl Cause {
    /// The word for it on the wire and in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
            Self::Heartbeat => "heartbeat",
            Self::Superseded => "superseded",
            Self::Parent => "parent",
            Self::Revoked => "revoked",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::OwnerOffboarded => "owner_offboarded",
            Self::WorkloadDisabled => "workload_disabled",
            Self::IssuerRemoved => "issuer_removed",
            Self::Policy => "policy",
            Self::Operator => "operator",
            Self::Upstream => "upstream",
            Self::Restored => "restored",
        }
    }

    /// How grave an end of a root client is for its task: the gravest one names the task's end.
    pub(crate) const fn gravity(self) -> u8 {
        match self {
            Self::Completed => 0,
            Self::Revoked | Self::Parent => 1,
            Self::Cancelled => 2,
            Self::Failed => 3,
            Self::Deadline
            | Self::Heartbeat
            | Self::Superseded
            | Self::Denied
            | Self::Expired
            | Self::OwnerOffboarded
            | Self::WorkloadDisabled
            | Self::IssuerRemoved
            | Self::Policy
            | Self::Operator
            | Self::Upstream
            | Self::Restored => 4,
        }
    }
}

/// How a client says its work went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The work is done.
    Completed,
    /// The work failed.
    Failed,
    /// The work was stopped.
    Cancelled,
}

impl From<Outcome> for Cause {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::Completed,
            Outcome::Failed => Self::Failed,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}
