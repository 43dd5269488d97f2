//! The shapes in which the record is shown, over the socket and with `--json` alike.

use dayfly_domain::access::Detail;
use dayfly_domain::{Cause, ClientId, CredentialId, Digest, Heartbeat, Name, TaskId, Time};
use serde::{Deserialize, Serialize};

use super::end::EndNote;

/// A task with its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its id.
    pub task: TaskId,
    /// Whether it is open.
    #[serde(flatten)]
    pub standing: Standing,
    /// What runs.
    pub workload: Name,
    /// Who answers for it.
    pub owner: Name,
    /// Who vouched for it.
    pub issuer: Name,
    /// Which run it is.
    pub key: String,
    /// Which series of attempts the key belongs to.
    pub series: String,
    /// Which attempt it is, where the platform counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// The person on whose behalf it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<SubjectView>,
    /// When it opened, or was asked for while it is pending.
    pub opened: Time,
    /// When it ends at the latest.
    pub deadline: Time,
    /// When silence ends it.
    pub heartbeat: Heartbeat,
    /// When its root clients were last heard; none while silence is not watched, and once it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// How many credentials were issued, ever.
    pub issued: u64,
    /// After this no credential of it is accepted anywhere, once it has ended: the latest expiry of
    /// all that were ever issued. No bound that a checker publishes goes into it, for this build
    /// has none that does. None was issued when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_possible_acceptance: Option<Time>,
    /// How many entries the ledger holds of it.
    pub entries: u64,
    /// Its clients, each before those that were delegated from it.
    pub clients: Vec<ClientView>,
}

/// The person on whose behalf a task runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectView {
    /// Who vouches for the person.
    pub issuer: Name,
    /// The pseudonym in the ledger.
    pub person: Digest,
    /// When the person authenticated; when the token was made, where it did not say.
    pub authenticated: Time,
    /// The issuer as the person's token names it; none for whoever may see no names, and once it was
    /// erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The person's name there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
}

/// Whether a task is open, as recorded; whether it is over by now the clock says as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Standing {
    /// It waits for approval, or for its client to fetch what was approved: nothing of it is live.
    Pending {
        /// When it ends by itself.
        due: Time,
        /// How many people must approve.
        people: u32,
        /// How many have.
        approvals: u64,
        /// When the last of them did; none while one is missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approved: Option<Time>,
        /// Which job, pod or process asks.
        instance: String,
        /// The thumbprint of the key that it will be bound to.
        jkt: Digest,
        /// What it will have.
        access: Vec<Detail>,
        /// Whose rights it relied on that were taken away since: it is over already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rights_removed: Option<String>,
    },
    /// It is open.
    Open {
        /// When it is over by itself.
        due: Time,
        /// Why it is over then.
        due_cause: Cause,
        /// Whose rights it relied on that were taken away since: it is over already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rights_removed: Option<String>,
    },
    /// It has ended.
    Ended {
        /// Why.
        cause: Cause,
        /// When.
        at: Time,
        /// Who ended it, and the reason given.
        #[serde(flatten)]
        note: EndNote,
    },
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// Its id.
    pub client: ClientId,
    /// The number of the client it was delegated from; none for a root client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// How many clients stand above it.
    pub depth: u32,
    /// The workload that it proved to be, where it brought a proof of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Name>,
    /// Whether it is active.
    #[serde(flatten)]
    pub standing: ClientStanding,
    /// Whose rights it relied on by its own proof, or one above it did, that were taken away since: it
    /// is over already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights_removed: Option<String>,
    /// Which job, pod or process it is.
    pub instance: String,
    /// The thumbprint of its key; none is a bearer client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<Digest>,
    /// What it may have credentials for.
    pub access: Vec<Detail>,
    /// When it ends at the latest.
    pub expires: Time,
    /// How many credentials it was issued, ever.
    pub issued: u32,
    /// Its live credentials.
    pub credentials: Vec<CredentialView>,
}

/// Whether a client is active, its task included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ClientStanding {
    /// It is active.
    Active,
    /// It has ended.
    Ended {
        /// Why.
        cause: Cause,
        /// When.
        at: Time,
        /// Who ended it, and the reason given, where that was looked up.
        #[serde(flatten)]
        note: EndNote,
    },
}

/// A live credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialView {
    /// Its id, the token's `jti`.
    pub credential: CredentialId,
    /// When it expires.
    pub expires: Time,
    /// SHA-256 of its token's signing input.
    pub hash: Digest,
}

/// A credential as it was issued, live or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedView {
    /// Its id, the token's `jti`.
    pub credential: CredentialId,
    /// The position of the entry that says so.
    pub pos: u64,
    /// The resource that is its audience.
    pub resource: Name,
    /// That resource's URL then.
    pub audience: String,
    /// What it allows.
    pub access: Vec<Detail>,
    /// The scopes granted whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// When it was issued.
    pub issued: Time,
    /// When it expires.
    pub expires: Time,
    /// When it was revoked by itself, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Time>,
    /// The thumbprint it is bound to; none is a bearer credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<Digest>,
    /// The algorithm it is signed with.
    pub alg: String,
    /// The key it is signed with.
    pub kid: String,
    /// Since when that key is given up as compromised, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_compromised: Option<Time>,
    /// SHA-256 of its token's signing input.
    pub hash: Digest,
}
