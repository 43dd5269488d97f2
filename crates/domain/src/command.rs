//! What is asked of a task, with every fact that deciding needs.

use alloc::string::String;
use alloc::vec::Vec;

use crate::access::{AccessRequest, Catalog};
use crate::admit::Counts;
use crate::blocks::Blocks;
use crate::cause::Cause;
use crate::closed::Closed;
use crate::declared::{Approval, Bounds, TaskKey, Workload};
use crate::epoch::{Epoch, EpochOf, Moved};
use crate::event::CredentialIssued;
use crate::id::TaskId;
use crate::matching::Claims;
use crate::subject::Subject;
use crate::task::{Heard, Proof};
use crate::text::Digest;
use crate::time::Time;

/// What is asked of a task.
pub enum Command<'a> {
    /// Open a task and grant its first client a credential.
    Start(Start<'a>),
    /// Ask for an approval to open a task.
    Request(Request<'a>),
    /// Approve it.
    Approve(Approve),
    /// Deny it.
    Deny(Deny),
    /// Open what was approved, and grant its first client a credential.
    Redeem(Redeem<'a>),
    /// Add a root client to an open task and grant it a credential.
    Join(Join<'a>),
    /// Answer a request again whose answer got lost.
    Retry(Retry<'a>),
    /// Take in a child of a client by its hand-over and grant it a credential.
    Delegate(Delegate<'a>),
    /// Issue a further credential to a client: renewal and narrowing.
    Issue(Issue<'a>),
    /// End a client and its subtree.
    EndClient(EndClient),
    /// End the task.
    EndTask(EndTask),
    /// Revoke a credential (RFC 7009).
    Revoke(Revoke),
    /// End the task if it is over.
    Sweep(Sweep<'a>),
}

/// The facts that every grant to a root client shares.
#[derive(Clone, Copy)]
pub struct Root<'a> {
    /// Now.
    pub now: Time,
    /// What runs.
    pub workload: &'a Workload,
    /// Resources and types.
    pub catalog: &'a Catalog,
    /// The server's bounds.
    pub bounds: &'a Bounds,
    /// The verified proof.
    pub proof: &'a Proof,
    /// Who asks, and for what.
    pub client: &'a NewClient,
    /// Fixes key and hash of the token.
    pub seal: &'a dyn Seal,
}

/// Opens a task.
pub struct Start<'a> {
    /// The shared facts.
    pub root: Root<'a>,
    /// A fresh id.
    pub id: TaskId,
    /// Which run it is.
    pub key: &'a TaskKey,
    /// The present epochs that the task will rely on.
    pub epochs: Vec<Epoch>,
    /// The first deadline, when a silent task opens again.
    pub until: Option<Time>,
    /// The tasks that end in the same append.
    pub supersedes: Vec<TaskId>,
}

/// Asks for an approval to open a task.
pub struct Request<'a> {
    /// What would be opened without it.
    pub start: Start<'a>,
    /// The approval that it needs.
    pub approval: Approval,
    /// SHA-256 of the code by which the client asks.
    pub code: Digest,
    /// The person who asks, hashed with the salt of the request; none where no person does.
    pub asked_by: Option<Digest>,
}

/// Approves a pending task.
///
/// Each person stands in the ledger under a salt of their own, so that one who is erased cannot be
/// guessed by what is left of the others. Whether two are one is told by hashing the person who
/// approves now with the salts of those who stand there.
#[derive(Clone, Debug)]
pub struct Approve {
    /// Now.
    pub now: Time,
    /// The first epoch the task relied on that has moved since.
    pub stale: Option<EpochOf>,
    /// Who, hashed with a salt of this approval alone.
    pub by: Digest,
    /// The same person, hashed with the salt of the person who asks.
    pub as_asking: Digest,
    /// The same person, hashed with the salt of each approval before, in their order.
    pub as_approving: Vec<Digest>,
}

/// Denies a pending task.
#[derive(Clone, Copy, Debug)]
pub struct Deny {
    /// Now.
    pub now: Time,
    /// Who, as a leaf may hold one.
    pub by: Option<Digest>,
}

/// Opens a task that was approved. Everything is judged again by the present state.
pub struct Redeem<'a> {
    /// Now.
    pub now: Time,
    /// The first epoch the task relied on that has moved since.
    pub stale: Option<EpochOf>,
    /// The workload as it is declared now.
    pub workload: &'a Workload,
    /// Resources and types.
    pub catalog: &'a Catalog,
    /// The server's bounds.
    pub bounds: &'a Bounds,
    /// The claims of the proof that asked, as they were recorded.
    pub claims: &'a Claims,
    /// The blocks that stand.
    pub blocks: &'a Blocks,
    /// What of the task's series is over.
    pub closed: &'a [Closed],
    /// How many tasks of the workload there are, this one among them.
    pub counts: Counts,
    /// Fixes key and hash of the token.
    pub seal: &'a dyn Seal,
}

/// Adds a root client.
pub struct Join<'a> {
    /// The shared facts.
    pub root: Root<'a>,
    /// What was heard of the task.
    pub heard: Heard,
    /// The first epoch the task relied on that has moved since.
    pub stale: Option<EpochOf>,
}

/// Answers a lost answer again.
pub struct Retry<'a> {
    /// The shared facts.
    pub root: Root<'a>,
    /// What was heard of the task.
    pub heard: Heard,
    /// The first epoch the task relied on that has moved since.
    pub stale: Option<EpochOf>,
    /// The client that was granted then.
    pub client: u32,
}

/// A client to be: its key and its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewClient {
    /// The key it proved to hold; none asks for a bearer credential.
    pub jkt: Option<Digest>,
    /// That key, as canonical JWK JSON.
    pub jwk: Option<String>,
    /// What it asks for.
    pub request: AccessRequest,
    /// SHA-256 of the request's parameters.
    pub digest: Digest,
    /// The person on whose behalf it asks.
    pub subject: Option<Subject>,
}

/// Takes in a child.
pub struct Delegate<'a> {
    /// Now.
    pub now: Time,
    /// What was heard of the task.
    pub heard: Heard,
    /// The first epoch that has moved of those that the parent's chain relied on.
    pub stale: Option<EpochOf>,
    /// The number of the client that hands over.
    pub parent: u32,
    /// What it signed.
    pub handover: &'a Handover,
    /// Who asks, and for what its first credential is.
    pub client: &'a NewClient,
    /// The child's own proof, where it brought one.
    pub actor: Option<ActorProof<'a>>,
    /// What the task runs.
    pub workload: &'a Workload,
    /// The other declared workloads that the parent's chain acts as.
    pub others: &'a [&'a Workload],
    /// Resources and types.
    pub catalog: &'a Catalog,
    /// The server's bounds.
    pub bounds: &'a Bounds,
    /// Fixes key and hash of the token.
    pub seal: &'a dyn Seal,
}

/// A verified hand-over, as facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// SHA-256 of its signing input.
    pub digest: Digest,
    /// The key it was made for; none hands over to a bearer.
    pub jkt: Option<Digest>,
    /// What it gives.
    pub given: AccessRequest,
}

/// A child's own verified proof.
pub struct ActorProof<'a> {
    /// The proof.
    pub proof: &'a Proof,
    /// The workload that it matches.
    pub workload: &'a Workload,
    /// The key of its own run.
    pub key: &'a str,
    /// The present epochs that the child will rely on.
    pub epochs: Vec<Epoch>,
}

/// Issues a further credential.
pub struct Issue<'a> {
    /// Now.
    pub now: Time,
    /// What was heard of the task.
    pub heard: Heard,
    /// The first epoch the task relied on that has moved since.
    pub stale: Option<EpochOf>,
    /// The client's number.
    pub client: u32,
    /// What the task runs.
    pub workload: &'a Workload,
    /// The other declared workloads that the client's chain acts as.
    pub others: &'a [&'a Workload],
    /// Resources and types.
    pub catalog: &'a Catalog,
    /// The server's bounds.
    pub bounds: &'a Bounds,
    /// What it asks for.
    pub request: &'a AccessRequest,
    /// What a narrowed token must not exceed, beside the client's access: the presented token.
    pub within: Option<Within<'a>>,
    /// Fixes key and hash of the token.
    pub seal: &'a dyn Seal,
}

/// The presented token that bounds a narrowed one.
#[derive(Clone, Copy)]
pub struct Within<'a> {
    /// What it allows.
    pub access: &'a [crate::access::Detail],
    /// When it expires.
    pub expires: Time,
}

/// Ends a client and its subtree.
#[derive(Clone, Copy)]
pub struct EndClient {
    /// Now.
    pub now: Time,
    /// What was heard of the task.
    pub heard: Heard,
    /// The client's number.
    pub client: u32,
    /// Why.
    pub cause: Cause,
    /// The person who ends it, as a leaf may hold one.
    pub by: Option<Digest>,
}

/// Ends the task.
#[derive(Clone, Copy)]
pub struct EndTask {
    /// Now.
    pub now: Time,
    /// What was heard of the task.
    pub heard: Heard,
    /// Why.
    pub cause: Cause,
    /// The person who ends it, as a leaf may hold one.
    pub by: Option<Digest>,
}

/// Revokes a credential: the newest ends its client, an older one only itself.
#[derive(Clone, Copy)]
pub struct Revoke {
    /// Now.
    pub now: Time,
    /// What was heard of the task.
    pub heard: Heard,
    /// The client's number.
    pub client: u32,
    /// The credential's number.
    pub credential: u32,
}

/// Ends the task if its deadline, its silence or its linger says so, or rights that were taken away.
#[derive(Clone, Copy)]
pub struct Sweep<'a> {
    /// Now.
    pub now: Time,
    /// What was heard of the task.
    pub heard: Heard,
    /// The first move of an epoch that it relied on, where one has moved.
    pub moved: Option<Moved>,
    /// The delegated clients that lost rights of their own, each with the first move of an epoch
    /// that it relied on.
    pub fallen: &'a [(u32, Moved)],
}

/// Fixes the key, the algorithm and the hash of a token before it is recorded. Pure: the same
/// draft always gives the same.
pub trait Seal {
    /// Fills in `alg`, `kid` and `hash` of the draft, whose other fields are final.
    fn seal(&self, task: TaskId, workload: &Workload, draft: &mut CredentialIssued);
}
