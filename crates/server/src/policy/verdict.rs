//! What policies said, as it is recorded: enough to ask another policy set the same again.

use std::net::IpAddr;

use dayfly_domain::{Claims, Digest, Name, Span, Time};
use serde::{Deserialize, Serialize};

use super::facts::{Asked, Facts, Handed, SubjectFact};
use super::schema::Action;

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// A policy permits it and none forbids it.
    Allow,
    /// A policy forbids it, none permits it, or one could not be evaluated.
    Deny,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What was asked about.
    pub action: Action,
    /// At which resource.
    pub resource: Name,
    /// The answer.
    pub decision: Decision,
    /// The policies that determine it: those that permit, or those that forbid.
    pub policies: Vec<String>,
    /// The policies that could not be evaluated; one is enough to deny.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<PolicyError>,
    /// The approval that lifts what else forbids it, where something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalVerdict>,
    /// The approval that people would be asked for, whatever else stands in the way of it.
    #[serde(skip)]
    pub asks: Option<ApprovalVerdict>,
    /// What policies that are only observed would have made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedVerdict>,
    /// The access that was asked for.
    #[serde(flatten)]
    pub asked: Asked,
    /// Where the child stands, where access is handed over.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub handed: Option<RecordedHanded>,
    /// Where nothing permits it, the permits that came nearest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<Nearest>,
}

/// Where a child stands, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedHanded {
    /// `context.depth`.
    pub depth: u32,
    /// `context.parent`.
    pub parent: Name,
    /// `context.chain`.
    pub chain: Vec<Name>,
}

impl From<&Handed<'_>> for RecordedHanded {
    fn from(handed: &Handed<'_>) -> Self {
        Self {
            depth: handed.depth,
            parent: handed.parent.name.clone(),
            chain: handed.chain.iter().map(|of| of.name.clone()).collect(),
        }
    }
}

/// A policy that could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyError {
    /// Which policy; empty where it is none of them.
    pub policy: String,
    /// Why.
    pub message: String,
}

/// Policies that forbid a start until people approve it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApprovalVerdict {
    /// Those of them that hold.
    pub policies: Vec<String>,
    /// How long the approval is waited for.
    pub within: Span,
    /// How many people must approve.
    pub people: u32,
    /// Whether so many have: the answer is a no otherwise.
    pub given: bool,
}

/// What policies that are only observed would have made of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObservedVerdict {
    /// The answer if they were enforced.
    pub decision: Decision,
    /// Those of them that hold.
    pub policies: Vec<String>,
    /// Those of them that could not be evaluated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<PolicyError>,
}

/// A permit whose scope fits, and the first of its conditions that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nearest {
    /// The policy.
    pub policy: String,
    /// Where it stands.
    pub place: String,
    /// The condition, as it is written.
    pub clause: String,
    /// What would have passed.
    pub wanted: String,
    /// What there was.
    pub got: String,
    /// The claim of the proof that it looks at, where it looks at nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// How many conditions were not met or not reached.
    #[serde(skip)]
    pub(super) missing: usize,
}

/// All that one request was decided by. The claims are not in it: they stand in the annex of the
/// entry by which the client came in, or beside this where the request brought a proof of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// The hash of the policy set.
    pub set: Digest,
    /// The facts.
    pub facts: RecordedFacts,
    /// Each question and its answer.
    pub decisions: Vec<Verdict>,
}

/// Facts as they are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFacts {
    /// `context.now`.
    pub now: Time,
    /// `context.address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// `context.open_tasks`.
    pub open_tasks: u64,
    /// `context.starts_last_hour`.
    pub starts_last_hour: u64,
    /// How many people had approved the request.
    #[serde(default, skip_serializing_if = "nobody")]
    pub approvals: u32,
}

/// Left out where nobody has.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
const fn nobody(approvals: &u32) -> bool {
    *approvals == 0
}

impl RecordedFacts {
    /// The facts as they were, with the claims that stand elsewhere in the record.
    pub(crate) const fn with<'a>(
        &self,
        claims: &'a Claims,
        subject: Option<SubjectFact<'a>>,
    ) -> Facts<'a> {
        Facts {
            claims,
            subject,
            now: self.now,
            address: self.address,
            open_tasks: self.open_tasks,
            starts_last_hour: self.starts_last_hour,
            said: None,
            approvals: self.approvals,
        }
    }
}

impl From<&Facts<'_>> for RecordedFacts {
    fn from(facts: &Facts<'_>) -> Self {
        Self {
            now: facts.now,
            address: facts.address,
            open_tasks: facts.open_tasks,
            starts_last_hour: facts.starts_last_hour,
            approvals: facts.approvals,
        }
    }
}

impl Serialize for Action {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
