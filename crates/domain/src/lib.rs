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
mod cause;
mod command;
mod decide;
mod declared;
mod epoch;
mod event;
mod id;
mod matching;
mod refusal;
mod task;
mod text;
mod time;

pub use admit::{Admission, Block, BlockOn, Claim, ClaimState, Counts, Opening, Spent, admit};
pub use apply::apply;
pub use cause::{Cause, Outcome};
pub use command::{
    Approve, Command, Deny, EndClient, EndTask, Issue, Join, NewClient, Redeem, Request, Retry,
    Revoke, Root, Seal, Start, Sweep, Within,
};
pub use decide::decide;
pub use declared::{
    Approval, Binding, Bounds, Heartbeat, HeartbeatMode, KeyRule, Kind, Limits, Reopen, Repeat,
    TaskKey, Workload,
};
pub use epoch::{Epoch, EpochOf, Moved, check_epochs, rights_removed};
pub use event::{
    ClientEnded, ClientRegistered, CredentialIssued, CredentialRevoked, Event, TaskApproved,
    TaskDenied, TaskEnded, TaskRequested, TaskStarted, UnknownKind,
};
pub use id::{ClientId, CredentialId, IdError, RefusalId, TaskId};
pub use matching::{Claims, Clause, ClauseFailure, Match};
pub use refusal::{Refusal, Rule, Stage};
pub use task::{
    Client, ClientState, Credential, FETCH, Heard, Live, Pending, Proof, Task, TaskState,
};
pub use text::{Digest, Name};
pub use time::{Span, Time};
