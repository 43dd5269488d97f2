//! Epochs: what was relied on, and the refusal once rights were taken away.

use alloc::format;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::refusal::{Refusal, Rule};
use crate::text::{Digest, Name};
use crate::time::Time;

/// An epoch that something relied on. Epochs move only when rights are taken away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch {
    /// Whose epoch.
    pub of: EpochOf,
    /// Its value at the time; of a person's, when that person authenticated, in milliseconds.
    pub at: u64,
}

impl Epoch {
    /// What comes of a person's authentication relies on this, whatever it is: a task that the
    /// person started, a client that came in by the person's proof, a task on behalf of the person.
    #[must_use]
    pub const fn of_person(person: Digest, authenticated: Time) -> Self {
        Self {
            of: EpochOf::Person(person),
            at: authenticated.millis(),
        }
    }

    /// Whether what relied on it has lost its rights, where its value is this by now.
    #[must_use]
    pub const fn is_lost(&self, present: u64) -> bool {
        match self.of {
            EpochOf::Tenant | EpochOf::Issuer(_) | EpochOf::Owner(_) | EpochOf::Workload(_) => {
                self.at != present
            }
            EpochOf::Person(_) => self.at <= present,
        }
    }

    /// The person whose it is.
    #[must_use]
    pub const fn person(&self) -> Option<Digest> {
        match self.of {
            EpochOf::Person(person) => Some(person),
            EpochOf::Tenant | EpochOf::Issuer(_) | EpochOf::Owner(_) | EpochOf::Workload(_) => None,
        }
    }
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
    /// A person's, by pseudonym. It is not counted: its value is a time, in milliseconds, and what
    /// the person authenticated for up to then is worth nothing. It only grows, so it is the same in
    /// whatever order and however often it is raised.
    Person(Digest),
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
            Self::Person(_) => f.write_str("the person"),
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
    let refusal = Refusal::new(Rule::RightsRemoved).field("epoch");
    if let EpochOf::Person(_) = of {
        return refusal
            .wanted("an authentication that still holds")
            .got("one that the person's provider said is over")
            .hint("the person logs in anew");
    }
    refusal
        .wanted("rights as they stood when the task opened")
        .got("rights that were taken away")
        .hint(format!("those of {of} were taken away"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_loses_what_was_authenticated_up_to_then() {
        let person = |at| Epoch::of_person(Digest([7; 32]), Time::from_seconds(at));
        let upto = Time::from_seconds(100).millis();
        assert!(person(99).is_lost(upto));
        assert!(person(100).is_lost(upto), "the same second may be before");
        assert!(!person(101).is_lost(upto));
        // Nothing was ever said of anybody else.
        assert!(!person(1).is_lost(0));
    }

    #[test]
    fn a_counted_epoch_is_lost_by_any_move() {
        let of = |at| Epoch {
            of: EpochOf::Tenant,
            at,
        };
        assert!(!of(3).is_lost(3));
        assert!(of(3).is_lost(4) && of(3).is_lost(2));
    }
}
