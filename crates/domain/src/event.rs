//! What happened: the events of a task, each one entry of the ledger.
//!
//! Events are append-only and versioned by addition: a field that is added has a default, a field
//! is never renamed or given another meaning.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer, Serialize};

use crate::access::Detail;
use crate::cause::Cause;
use crate::declared::{Heartbeat, Repeat};
use crate::epoch::Epoch;
use crate::id::{CredentialId, TaskId};
use crate::matching::Claims;
use crate::subject::{OnBehalfOf, Subject};
use crate::text::{Digest, Name};
use crate::time::{Span, Time};

/// One event of a task. It serialises as the `data` of its entry; [`Event::kind`] is the `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Event {
    /// A task was asked for that needs an approval.
    TaskRequested(Box<TaskRequested>),
    /// A person approved it.
    TaskApproved(TaskApproved),
    /// A person denied it; its end follows.
    TaskDenied(TaskDenied),
    /// The task opened.
    TaskStarted(TaskStarted),
    /// A root client came in by proof.
    ClientRegistered(ClientRegistered),
    /// A client handed a part of its access to a child.
    ClientDelegated(ClientDelegated),
    /// A client was issued a credential.
    CredentialIssued(CredentialIssued),
    /// A client revoked one of its older credentials.
    CredentialRevoked(CredentialRevoked),
    /// A client and its subtree ended.
    ClientEnded(ClientEnded),
    /// The task ended and all of it.
    TaskEnded(TaskEnded),
}

/// The data of `task.requested`: what people are asked about, and all that opening it will need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRequested {
    /// What is to run.
    pub workload: Name,
    /// Who answers for it, and whose members may approve.
    pub owner: Name,
    /// Who vouched for it.
    pub issuer: Name,
    /// Which run it is.
    pub key: String,
    /// Which series the key belongs to.
    pub series: String,
    /// Which attempt it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// The person on whose behalf it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// When it was asked for.
    pub requested: Time,
    /// When it ends without an approval.
    pub expires: Time,
    /// How many people must approve.
    pub people: u32,
    /// The person who asks, hashed with the salt that stands in the annex; none where a platform
    /// vouches for no person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<Digest>,
    /// SHA-256 of the code by which the client asks whether it was approved.
    pub code: Digest,
    /// The thumbprint of the client's key.
    pub jkt: Digest,
    /// The public key, as canonical JWK JSON.
    pub jwk: String,
    /// Which job, pod or process asks.
    pub instance: String,
    /// SHA-256 of the proof.
    pub proof: Digest,
    /// SHA-256 of the request.
    pub request: Digest,
    /// The claims of the proof that filled the ceiling, by name.
    #[serde(default, skip_serializing_if = "Claims::is_empty")]
    pub filled: Claims,
    /// What its client will have.
    pub access: Vec<Detail>,
    /// The audience of its first credential.
    pub resource: Name,
    /// The deadline of the silent task that opens again by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// The epochs it relies on.
    pub epochs: Vec<Epoch>,
    /// The tasks it supersedes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<TaskId>,
}

/// The data of `task.approved`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskApproved {
    /// When.
    pub at: Time,
    /// Who, hashed with a salt of this approval, which stands in its annex.
    pub by: Digest,
    /// Until when it may be fetched; none while another approval is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch_by: Option<Time>,
}

/// The data of `task.denied`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDenied {
    /// When.
    pub at: Time,
    /// Who, hashed as other changes are; none where no person did who is known by an issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Digest>,
}

/// The data of `task.started`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStarted {
    /// What runs.
    pub workload: Name,
    /// Who answers for it.
    pub owner: Name,
    /// Who vouched for it.
    pub issuer: Name,
    /// Which run it is.
    pub key: String,
    /// Which series the key belongs to.
    pub series: String,
    /// Which attempt it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// The person on whose behalf it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Whether further clients may join.
    pub repeat: Repeat,
    /// When it opened.
    pub opened: Time,
    /// When it ends at the latest.
    pub deadline: Time,
    /// When silence ends it.
    pub heartbeat: Heartbeat,
    /// How long it stays open without an active root client.
    pub linger: Span,
    /// The epochs it relies on.
    pub epochs: Vec<Epoch>,
    /// The tasks it supersedes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<TaskId>,
}

/// The data of `client.registered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRegistered {
    /// Its number within the task.
    pub client: u32,
    /// The thumbprint of the key it is bound to; none is a bearer client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<Digest>,
    /// The public key, as canonical JWK JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwk: Option<String>,
    /// Which job, pod or process it is.
    pub instance: String,
    /// SHA-256 of the proof.
    pub proof: Digest,
    /// SHA-256 of the request.
    pub request: Digest,
    /// The claims of the proof that filled the ceiling, by name.
    #[serde(default, skip_serializing_if = "Claims::is_empty")]
    pub filled: Claims,
    /// What it may have credentials for.
    pub access: Vec<Detail>,
    /// When it ends at the latest.
    pub expires: Time,
}

/// The data of `client.delegated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientDelegated {
    /// Its number within the task.
    pub client: u32,
    /// The number of the client that handed over.
    pub parent: u32,
    /// The thumbprint of the key it is bound to; none is a bearer client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<Digest>,
    /// The public key, as canonical JWK JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwk: Option<String>,
    /// Which job, pod or process it is: its parent's, unless it brought a proof.
    pub instance: String,
    /// SHA-256 of the signing input of the hand-over.
    pub handover: Digest,
    /// SHA-256 of its own proof, where it brought one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Digest>,
    /// SHA-256 of the request.
    pub request: Digest,
    /// The claims of its own proof that filled its ceiling, by name.
    #[serde(default, skip_serializing_if = "Claims::is_empty")]
    pub filled: Claims,
    /// Whose it is by its own proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Own>,
    /// What it may have credentials for.
    pub access: Vec<Detail>,
    /// When it ends at the latest.
    pub expires: Time,
}

/// Whose a delegated client is by its own proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// The workload that it proved to be.
    pub workload: Name,
    /// Who answers for that.
    pub owner: Name,
    /// Who vouched for it.
    pub issuer: Name,
    /// The key of its own run, as a task of that run would claim it; empty where it came in before
    /// that was recorded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The epochs that it relies on beside those of its task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub epochs: Vec<Epoch>,
}

/// One client of a chain of delegation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLink {
    /// The client's number.
    pub client: u32,
    /// The workload that it acts as.
    pub workload: Name,
}

/// The data of `credential.issued`: every claim of the token, its key and its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialIssued {
    /// The client it was issued to.
    pub client: u32,
    /// Its number within the client.
    pub credential: u32,
    /// The resource that is its audience.
    pub resource: Name,
    /// The URL of that resource, as it stands in `aud`.
    pub audience: String,
    /// What it allows.
    pub access: Vec<Detail>,
    /// The scopes granted whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// `iat`, whole seconds.
    pub issued: Time,
    /// `exp`, whole seconds.
    pub expires: Time,
    /// The thumbprint in `cnf`; none is a bearer credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<Digest>,
    /// `act`: who acts and through whom it was handed over, the newest first; none for a root, unless
    /// `sub` is a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub act: Vec<ChainLink>,
    /// `may_act`: the workloads that may become a child of the client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_act: Vec<Name>,
    /// `on_behalf_of`: how it names the person of its task; none where that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<OnBehalfOf>,
    /// The algorithm it is signed with.
    pub alg: String,
    /// The key it is signed with.
    pub kid: String,
    /// SHA-256 of its signing input: the join key for other systems' logs.
    pub hash: Digest,
}

impl CredentialIssued {
    /// The public id, which is the token's `jti`.
    #[must_use]
    pub const fn id(&self, task: TaskId) -> CredentialId {
        CredentialId {
            client: crate::id::ClientId {
                task,
                number: self.client,
            },
            number: self.credential,
        }
    }
}

/// The data of `credential.revoked`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRevoked {
    /// The client it was issued to.
    pub client: u32,
    /// Its number within the client.
    pub credential: u32,
}

/// The data of `client.ended`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientEnded {
    /// The client.
    pub client: u32,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Time,
    /// The person who ended it, as in `task.ended`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Digest>,
    /// When the last credential of the subtree that verifies offline expires; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_expiry: Option<Time>,
}

/// The data of `task.ended`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEnded {
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Time,
    /// How many entries the task has, this one included.
    pub count: u64,
    /// The person who ended it, hashed with a salt that stands in the annex; none where no person
    /// did who is known by an issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Digest>,
    /// When the last credential that verifies offline expires, whatever became of its client; none
    /// does when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_expiry: Option<Time>,
}

/// An entry kind that is no event of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKind;

impl Event {
    /// The entry kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TaskRequested(_) => "task.requested",
            Self::TaskApproved(_) => "task.approved",
            Self::TaskDenied(_) => "task.denied",
            Self::TaskStarted(_) => "task.started",
            Self::ClientRegistered(_) => "client.registered",
            Self::ClientDelegated(_) => "client.delegated",
            Self::CredentialIssued(_) => "credential.issued",
            Self::CredentialRevoked(_) => "credential.revoked",
            Self::ClientEnded(_) => "client.ended",
            Self::TaskEnded(_) => "task.ended",
        }
    }

    /// Reads the `data` of an entry of this kind.
    ///
    /// # Errors
    /// `Ok(Err(UnknownKind))` when `kind` is no event of a task; the deserializer's error when
    /// `data` is not of the kind's shape.
    pub fn read<'de, D: Deserializer<'de>>(
        kind: &str,
        data: D,
    ) -> Result<Result<Self, UnknownKind>, D::Error> {
        Ok(Ok(match kind {
            "task.requested" => Self::TaskRequested(Box::new(TaskRequested::deserialize(data)?)),
            "task.approved" => Self::TaskApproved(TaskApproved::deserialize(data)?),
            "task.denied" => Self::TaskDenied(TaskDenied::deserialize(data)?),
            "task.started" => Self::TaskStarted(TaskStarted::deserialize(data)?),
            "client.registered" => Self::ClientRegistered(ClientRegistered::deserialize(data)?),
            "client.delegated" => Self::ClientDelegated(ClientDelegated::deserialize(data)?),
            "credential.issued" => Self::CredentialIssued(CredentialIssued::deserialize(data)?),
            "credential.revoked" => Self::CredentialRevoked(CredentialRevoked::deserialize(data)?),
            "client.ended" => Self::ClientEnded(ClientEnded::deserialize(data)?),
            "task.ended" => Self::TaskEnded(TaskEnded::deserialize(data)?),
            _ => return Ok(Err(UnknownKind)),
        }))
    }
}
