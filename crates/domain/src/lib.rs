//! The task aggregate: what may run, what runs, what it may do, and how it ends.
//!
//! Everything here is pure. [`decide`] turns a state and a command into events or a
//! [`Refusal`]; [`apply`] turns a state and an event into the next state. Neither reads a
//! clock, draws a random number or does I/O: the command carries every fact it needs. The
//! crate is `no_std`, so the compiler keeps it that way.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod access;
mod admit;
mod apply;
mod approve;
mod block;
mod blocks;
mod cause;
mod closed;
mod command;
mod decide;
mod declared;
mod delegate;
mod epoch;
mod event;
mod id;
mod matching;
mod refusal;
mod subject;
mod task;
mod text;
mod time;
mod uses;

pub use admit::{
    Admission, Claim, ClaimState, Counts, Opening, Spent, admit, admit_unheld, check_actor,
};
pub use apply::apply;
pub use block::{Block, BlockOn, check_unblocked};
pub use blocks::Blocks;
pub use cause::{Cause, Outcome};
pub use closed::{Closed, has_part, ids_in};
pub use command::{
    ActorProof, Approve, Command, Delegate, Deny, EndClient, EndTask, Handover, Issue, Join,
    NewClient, Redeem, Request, Retry, Revoke, Root, Seal, Start, Sweep, Within,
};
pub use decide::decide;
pub use declared::{
    Actor, Approval, Binding, Bounds, Delegation, Heartbeat, HeartbeatMode, KeyRule, Kind, Limits,
    Reopen, Repeat, Run, TaskKey, Workload,
};
pub use epoch::{Epoch, EpochOf, Moved, check_epochs, rights_removed};
pub use event::{
    ChainLink, ClientDelegated, ClientEnded, ClientRegistered, CredentialIssued, CredentialRevoked,
    Event, Own, TaskApproved, TaskDenied, TaskEnded, TaskRequested, TaskStarted, UnknownKind,
};
pub use id::{ClientId, CredentialId, IdError, RefusalId, TaskId};
pub use matching::{Claims, Clause, ClauseFailure, Match};
pub use refusal::{Refusal, Rule, Stage};
pub use subject::{ActsFor, Needed, OnBehalfOf, Subject, check_subject};
pub use task::{
    Client, ClientState, Credential, FETCH, Heard, Live, Pending, Proof, Task, TaskState,
};
pub use text::{Digest, Name};
pub use time::{Span, Time};
pub use uses::{UseAsked, check_use};
