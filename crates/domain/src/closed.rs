//! Runs that their platform said are over: nothing of them starts or joins any more, whether a task of theirs was known or not.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// A run of a series, or one job of it, that the platform said is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The attempt, where the platform counts them: of no other attempt is anything said.
    pub attempt: Option<u64>,
    /// The one part of an instance, like `check_run_id=7`, that names the job; none says that the
    /// whole attempt is over.
    pub part: Option<String>,
    /// When the platform was first heard to say so.
    pub at: Time,
}

impl Closed {
    /// Whether it says that a run of this attempt and instance is over.
    #[must_use]
    pub fn covers(&self, attempt: Option<u64>, instance: &str) -> bool {
        self.attempt == attempt
            && self
                .part
                .as_deref()
                .is_none_or(|part| has_part(instance, part))
    }

    /// Whether it says the same of the same run, whenever it was said.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.attempt == other.attempt && self.part == other.part
    }
}

/// Whether an instance, `name=value` pairs joined by commas, has this pair.
#[must_use]
pub fn has_part(instance: &str, part: &str) -> bool {
    instance.split(',').any(|own| own == part)
}

/// The ids that an instance is made of: the values of those pairs whose names end in `_id`.
pub fn ids_in(instance: &str) -> impl Iterator<Item = &str> {
    let pairs = instance.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(name, _)| name.ends_with("_id"))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn an_instance_is_made_of_ids_and_of_what_only_counts() {
        let ids = |instance| ids_in(instance).collect::<Vec<_>>();
        assert_eq!(
            ids("repository_id=1,run_id=7,run_attempt=2,check_run_id=70"),
            ["1", "7", "70"]
        );
        assert_eq!(ids("8f3a-a pod"), [""; 0]);
    }

    #[test]
    fn only_the_named_attempt_and_job_are_covered() {
        let closed = |attempt, part: Option<&str>| Closed {
            attempt,
            part: part.map(Into::into),
            at: Time::default(),
        };
        let instance = "repository_id=1,run_id=7,run_attempt=2,check_run_id=70";
        assert!(closed(Some(2), None).covers(Some(2), instance));
        assert!(!closed(Some(1), None).covers(Some(2), instance));
        assert!(!closed(None, None).covers(Some(2), instance));
        assert!(closed(Some(2), Some("check_run_id=70")).covers(Some(2), instance));
        // Neither the beginning of another number nor the end of another name.
        for part in ["check_run_id=7", "run_id=70", "", "=70"] {
            assert!(
                !closed(Some(2), Some(part)).covers(Some(2), instance),
                "{part}"
            );
        }
    }
}
