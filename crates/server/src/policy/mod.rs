//! Cedar policies: the second layer, asked at the moment of each request after the domain has
//! decided and before anything is recorded (DESIGN section 8).
//!
//! It fails closed: with no policy, with one that cannot be evaluated, or with a set that cannot be
//! used, nothing is permitted. Ends and containment ask no policy.

mod evaluate;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "Cedar's syntax is its own and may grow: a form that is not known here is told whole"
)]
mod explain;
mod facts;
mod hypothetical;
mod load;
mod refusal;
mod schema;
mod slice;
#[cfg(test)]
mod tests;
mod text;
mod verdict;

use dayfly_domain::Digest;

use crate::declared::{Declared, LoadError, Source, Warning};

pub use evaluate::{Denied, Permitted, PermittedUse};
pub use facts::{Asked, Facts, Handed, Question, SubjectFact};
pub use hypothetical::{Hypothetical, HypotheticalPerson};
pub use schema::{Action, SCHEMA};
pub use verdict::{
    ApprovalVerdict, Decision, Nearest, ObservedVerdict, PolicyError, Recorded, RecordedFacts,
    RecordedHanded, Verdict,
};

/// The policies of one revision.
pub struct Policies {
    hash: Digest,
    state: State,
}

enum State {
    Held(Box<load::Held>),
    /// What is in force does not load, and why: nothing is permitted.
    Unusable(Vec<String>),
}

impl Policies {
    /// Parses and validates the policies of a source against the schema and what is declared.
    ///
    /// # Errors
    /// Every mistake with its place, in order of place.
    pub fn load(
        source: &Source,
        declared: &Declared,
    ) -> Result<(Self, Vec<Warning>), Vec<LoadError>> {
        load::load(source, Some(declared))
    }

    /// Parses and validates policies without knowing what is declared, so that no name in them can
    /// be told for a wrong one.
    ///
    /// # Errors
    /// Every mistake with its place, in order of place.
    pub fn check(source: &Source) -> Result<(Self, Vec<Warning>), Vec<LoadError>> {
        load::load(source, None)
    }

    /// The policies of a revision that is in force already, which may hold what this build cannot
    /// use: then nothing is permitted, and a warning says why, so that the server still runs, ends
    /// what must end, and takes a better folder.
    #[must_use]
    pub fn in_force(source: &Source, declared: &Declared) -> (Self, Vec<Warning>) {
        Self::load(source, declared).unwrap_or_else(|errors| {
            let warnings = errors
                .iter()
                .map(|error| Warning {
                    place: error.place.clone(),
                    message: format!("nothing is permitted, for a policy in force cannot be used: {}; mend it and run `dayfly apply`", error.message),
                    nearest: error.nearest.clone(),
                })
                .collect();
            let policies = Self {
                hash: load::hash(source),
                state: State::Unusable(errors.iter().map(ToString::to_string).collect()),
            };
            (policies, warnings)
        })
    }

    fn held(hash: Digest, held: load::Held) -> Self {
        Self {
            hash,
            state: State::Held(Box::new(held)),
        }
    }

    /// SHA-256 over names and texts of the policy files.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.hash
    }

    /// How many policies there are; none where they cannot be used.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.state {
            State::Held(held) => held.statements.len(),
            State::Unusable(_) => 0,
        }
    }
}
