//! On whose behalf a task runs: the person as a leaf may hold one, and whom a workload acts for.

use alloc::format;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::declared::Workload;
use crate::epoch::Epoch;
use crate::refusal::{Refusal, Rule};
use crate::task::Task;
use crate::text::{Digest, Name};
use crate::time::{Span, Time};

/// The person on whose behalf a task runs, without a name: that stands in an annex alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Who vouches for the person.
    pub issuer: Name,
    /// The person's pseudonym: always the same within a tenant, and made by its key alone.
    pub person: Digest,
    /// When the person authenticated; when the token was made, where it does not say.
    pub authenticated: Time,
}

impl Subject {
    /// Whether it is the same person, whenever they authenticated.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.person == other.person
    }

    /// What a task on the person's behalf relies on: that the authentication still holds.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        Epoch::of_person(self.person, self.authenticated)
    }
}

/// Whom the tasks of a workload act for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActsFor {
    /// The issuers whose people it acts for.
    pub from: Vec<Name>,
    /// Whether each task needs a person.
    pub person: Needed,
    /// How long after the person authenticated a task ends at the latest.
    pub session: Option<Span>,
}

/// Whether a task needs a person on whose behalf it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Needed {
    /// It may have one.
    #[default]
    Optional,
    /// It must.
    Required,
}

/// How a token names the person of its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBehalfOf {
    /// By the names that the person has at the own issuer: `sub` is the person, too.
    Person,
    /// By a pseudonym that this one resource knows the person under.
    Pseudonym,
}

/// Checks that a workload may act for a person, or for nobody.
///
/// # Errors
/// A refusal of stage `task`.
pub fn check_subject(workload: &Workload, subject: Option<&Subject>) -> Result<(), Refusal> {
    let field = || format!("workload.{}.subject", workload.name);
    match (&workload.acts_for, subject) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(Refusal::new(Rule::SubjectRefused)
            .field(field())
            .wanted("a workload that says whom it acts for")
            .got("a person")
            .hint("declare `subject = { from = [\"<issuer>\"] }` for the workload, or show its proof alone")),
        (Some(acts_for), Some(subject)) if acts_for.from.contains(&subject.issuer) => Ok(()),
        (Some(acts_for), Some(subject)) => {
            let from: Vec<&str> = acts_for.from.iter().map(Name::as_str).collect();
            Err(Refusal::new(Rule::SubjectRefused)
                .field(field())
                .wanted(format!("a person of {}", from.join(" or ")))
                .got(format!("a person of {}", subject.issuer)))
        }
        (Some(acts_for), None) => match acts_for.person {
            Needed::Optional => Ok(()),
            Needed::Required => Err(Refusal::new(Rule::SubjectMissing)
                .field("subject_token")
                .wanted("the token of the person on whose behalf the task runs")
                .got("none")
                .hint("exchange the person's token as `subject_token`, with the platform's token as `actor_token`")),
        },
    }
}

/// Checks that whoever comes in or asks again does so on behalf of the person of the task, who has not
/// authenticated before it for that: the task ends with the authentication that it was opened by, and
/// so with every later one of the same session.
pub(crate) fn check_same_subject(task: &Task, asked: Option<&Subject>) -> Result<(), Refusal> {
    let refuse = |wanted: &str, got: &str| {
        Err(Refusal::new(Rule::SubjectOther)
            .field("subject_token")
            .wanted(wanted)
            .got(got))
    };
    match (&task.subject, asked) {
        (None, None) => Ok(()),
        (Some(held), Some(asked)) if held.is_same(asked) => {
            if asked.authenticated >= held.authenticated {
                return Ok(());
            }
            refuse(
                &format!(
                    "the person, authenticated at {} or later",
                    held.authenticated
                ),
                &format!("the person, authenticated at {}", asked.authenticated),
            )
        }
        (Some(_), Some(_)) => refuse("the person of the task", "another person"),
        (Some(_), None) => refuse("the person of the task", "nobody"),
        (None, Some(_)) => refuse("nobody: the task has no person", "a person"),
    }
}

/// When the session of a person ends for a workload.
pub(crate) fn session_of(workload: &Workload, subject: Option<&Subject>) -> Option<Time> {
    let session = workload.acts_for.as_ref()?.session?;
    Some(subject?.authenticated + session)
}

/// Until when something runs at the latest, by what bounds it otherwise and by the session of its
/// person.
pub(crate) fn within_session(
    until: Option<Time>,
    workload: &Workload,
    subject: Option<&Subject>,
) -> Option<Time> {
    match (until, session_of(workload, subject)) {
        (Some(until), Some(ends)) => Some(until.min(ends)),
        (until, ends) => until.or(ends),
    }
}
