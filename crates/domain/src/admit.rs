//! Which task a proof belongs to: start, join, answer again, or none, by key, series and attempt.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::block::{Asks, Block};
use crate::cause::Cause;
use crate::closed::Closed;
use crate::command::NewClient;
use crate::declared::{Repeat, TaskKey, Workload};
use crate::id::TaskId;
use crate::refusal::{Refusal, Rule};
use crate::subject::check_same_subject;
use crate::task::{Pending, Proof, Task};
use crate::text::{Digest, Name};
use crate::time::Time;

/// The facts by which a proof is admitted, all read at one position of the ledger.
pub struct Opening<'a> {
    /// Now.
    pub now: Time,
    /// What runs.
    pub workload: &'a Workload,
    /// The verified proof.
    pub proof: &'a Proof,
    /// Which run it is.
    pub key: &'a TaskKey,
    /// Who asks, and for what.
    pub client: &'a NewClient,
    /// Every claim of the series, of every workload.
    pub claims: &'a [Claim],
    /// What of the series the platform said is over.
    pub closed: &'a [Closed],
    /// The open task that holds this workload's claim of this key, if any.
    pub task: Option<&'a Task>,
    /// Who spent the proof, if anyone did.
    pub spent: Option<Spent>,
    /// The blocks that stand.
    pub blocks: &'a [Block],
    /// How many tasks of the workload are open and have started within an hour.
    pub counts: Counts,
}

/// A task key that is claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The workload that runs.
    pub workload: Name,
    /// The key.
    pub key: String,
    /// The attempt, where the platform counts them.
    pub attempt: Option<u64>,
    /// The task that claimed it.
    pub task: TaskId,
    /// Whether that task is open.
    pub state: ClaimState,
}

/// Whether the task that claimed a key is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimState {
    /// It is open.
    Open,
    /// It has ended.
    Ended {
        /// Why.
        cause: Cause,
        /// Its deadline, up to which it may open again where it fell silent.
        deadline: Time,
    },
}

/// The grant that spent a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The task.
    pub task: TaskId,
    /// The client's number.
    pub client: u32,
}

/// How many tasks of a workload there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open now.
    pub open: u64,
    /// Started within the last hour.
    pub starts_last_hour: u64,
}

/// What a proof is admitted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Open a task.
    Start {
        /// Open tasks of lower attempts, to be ended in the same append.
        supersedes: Vec<TaskId>,
        /// The deadline of the silent task that opens again.
        until: Option<Time>,
        /// The ended task whose claim is taken over.
        replaces: Option<TaskId>,
    },
    /// Join the open task.
    Join,
    /// Say again that the request waits for approval: the answer got lost.
    Wait,
    /// Answer the same client again: the answer got lost.
    Retry {
        /// The client's number.
        client: u32,
    },
    /// Issue to the same client: it has no key and renews by a fresh proof of the same instance.
    Renew {
        /// The client's number.
        client: u32,
    },
}

/// Admits a proof to a task.
///
/// # Errors
/// A refusal of stage `task` or `proof`.
pub fn admit(opening: &Opening<'_>) -> Result<Admission, Refusal> {
    if let Some(admission) = admit_unheld(opening)? {
        return Ok(admission);
    }
    let Some(task) = opening.task else {
        return Err(already_ended(opening, "just now"));
    };
    let admission = match task.pending() {
        None => admit_to_open(opening, task)?,
        Some(pending) => admit_to_pending(opening, task.id, pending)?,
    };
    check_same_subject(task, opening.client.subject.as_ref())?;
    Ok(admission)
}

/// Admits a proof as far as it opens a task, whatever its client asks for; none where its claim is held
/// by an open task, which has a say too.
///
/// # Errors
/// A refusal of stage `task` or `proof`.
pub fn admit_unheld(opening: &Opening<'_>) -> Result<Option<Admission>, Refusal> {
    check_blocks(opening.blocks, &Asks::of(opening))?;
    check_closed(opening)?;
    check_attempt(opening)?;
    let claim = opening
        .claims
        .iter()
        .find(|claim| is_own(claim, opening) && !is_older(claim, opening.key));
    let until = match claim.map(|claim| claim.state) {
        Some(ClaimState::Open) => return Ok(None),
        Some(ClaimState::Ended { cause, deadline }) => {
            check_unspent(opening)?;
            if !(opening.workload.reopen.allows(cause) && opening.now < deadline) {
                return Err(already_ended(opening, cause.word()));
            }
            Some(deadline)
        }
        None => {
            check_unspent(opening)?;
            None
        }
    };
    admit_start(opening, until).map(Some)
}

/// Checks the proof that a child brings of its own: it opens nothing, so only blocks, its platform's
/// word that it is over, and whether it was used before stand in its way.
///
/// # Errors
/// A refusal of stage `task` or `proof`.
pub fn check_actor(opening: &Opening<'_>) -> Result<(), Refusal> {
    check_blocks(opening.blocks, &Asks::of(opening))?;
    check_closed(opening)?;
    check_unspent(opening)
}

fn admit_start(opening: &Opening<'_>, until: Option<Time>) -> Result<Admission, Refusal> {
    let superseded: Vec<&Claim> = opening
        .claims
        .iter()
        .filter(|claim| claim.state == ClaimState::Open && is_older(claim, opening.key))
        .collect();
    // What ends in the same append no longer counts as open.
    let freed = superseded
        .iter()
        .filter(|claim| claim.workload == opening.workload.name)
        .count();
    check_limits(opening, freed as u64)?;
    // The claim of the same key by an earlier attempt, or by the task that fell silent.
    let replaces = opening
        .claims
        .iter()
        .find(|claim| is_own(claim, opening))
        .map(|claim| claim.task);
    Ok(Admission::Start {
        supersedes: superseded.iter().map(|claim| claim.task).collect(),
        until,
        replaces,
    })
}

/// Whether the claim is of the workload and key that ask.
fn is_own(claim: &Claim, opening: &Opening<'_>) -> bool {
    claim.workload == opening.workload.name && claim.key == opening.key.key
}

/// Whether the claim is of a lower attempt. Where one side counts no attempts, neither is lower.
fn is_older(claim: &Claim, key: &TaskKey) -> bool {
    matches!((claim.attempt, key.attempt), (Some(known), Some(asks)) if known < asks)
}

fn admit_to_open(opening: &Opening<'_>, task: &Task) -> Result<Admission, Refusal> {
    let asks = opening.client;
    let mut by_proof = task
        .roots()
        .filter(|(_, client)| client.proof == opening.proof.digest);
    if opening.proof.one_time {
        if let Some((number, client)) = by_proof.next() {
            // Without a key nothing tells the client from a thief of its proof.
            return if client.jkt.is_none() && asks.jkt.is_none() {
                Err(spent(opening))
            } else {
                Ok(Admission::Retry { client: number })
            };
        }
        check_unspent(opening)?;
    } else if let Some((number, _)) = by_proof.find(|(_, client)| {
        // A proof that may be used again is nobody's alone: another key is another client.
        client.is_active()
            && client.jkt.is_some()
            && client.jkt == asks.jkt
            && client.request == asks.digest
    }) {
        return Ok(Admission::Retry { client: number });
    }
    let by_instance = task.roots().find(|(_, client)| {
        client.is_active() && client.jkt.is_none() && client.instance == opening.proof.instance
    });
    match (by_instance, asks.jkt, opening.workload.repeat) {
        (Some((number, _)), None, _) => Ok(Admission::Renew { client: number }),
        (Some(_) | None, _, Repeat::Join) => Ok(Admission::Join),
        (Some(_) | None, _, Repeat::Refuse) => Err(Refusal::new(Rule::AlreadyOpen)
            .field("task")
            .wanted("repeat = \"join\", or the client's own key to renew with")
            .got(opening.key.key.as_str())
            .hint(format!("{} is open for this run: renew with the key of its first request; a task admits further clients only with repeat = \"join\"", task.id))),
    }
}

/// The request that waits, asked again by the same key: its answer got lost. Nothing else comes in
/// before it was approved.
fn admit_to_pending(
    opening: &Opening<'_>,
    task: TaskId,
    pending: &Pending,
) -> Result<Admission, Refusal> {
    let asks = opening.client;
    let same_request = asks.digest == pending.request;
    if opening.proof.digest == pending.proof {
        if asks.jkt != Some(pending.jkt) {
            return Err(other_key(asks.jkt));
        }
        if !same_request {
            return Err(other_request());
        }
        return Ok(Admission::Wait);
    }
    check_unspent(opening)?;
    if !opening.proof.one_time && asks.jkt == Some(pending.jkt) && same_request {
        return Ok(Admission::Wait);
    }
    Err(Refusal::new(Rule::AlreadyOpen)
        .field("task")
        .wanted("no request of this run that waits for approval")
        .got(opening.key.key.as_str())
        .hint(format!(
            "{task} waits for approval: its client asks on with its deferral code"
        )))
}

/// The refusal for a proof that was first shown by another key.
pub(crate) fn other_key(shown: Option<Digest>) -> Refusal {
    Refusal::new(Rule::RetryOtherKey)
        .field("DPoP")
        .wanted("the key that the token was first used with")
        .got(shown.map_or_else(|| "none".into(), |jkt| jkt.to_string()))
}

/// The refusal for a proof that was first shown with another request.
pub(crate) fn other_request() -> Refusal {
    Refusal::new(Rule::RetryDiffers)
        .field("resource, scope, authorization_details")
        .wanted("the request that the token was first used with")
        .got("another")
}

pub(crate) fn check_blocks(blocks: &[Block], asks: &Asks<'_>) -> Result<(), Refusal> {
    match blocks.iter().find(|block| block.on.stops(asks)) {
        None => Ok(()),
        Some(block) => Err(block.refusal()),
    }
}

/// What the platform said is over asks for nothing any more; a newer attempt may.
fn check_closed(opening: &Opening<'_>) -> Result<(), Refusal> {
    match over(opening.closed, opening.key.attempt, &opening.proof.instance) {
        None => Ok(()),
        Some(why) => Err(already_ended(opening, &why)),
    }
}

/// The same for what people have approved meanwhile.
pub(crate) fn check_not_over(
    closed: &[Closed],
    attempt: Option<u64>,
    instance: &str,
) -> Result<(), Refusal> {
    match over(closed, attempt, instance) {
        None => Ok(()),
        Some(why) => Err(Refusal::new(Rule::ApprovalDenied)
            .field("task")
            .wanted("a run that is not over")
            .got(why)),
    }
}

/// How the platform said that a run is over.
fn over(closed: &[Closed], attempt: Option<u64>, instance: &str) -> Option<String> {
    let closed = closed
        .iter()
        .find(|closed| closed.covers(attempt, instance))?;
    Some(format!("upstream: the platform said so, {}", closed.at))
}

fn check_attempt(opening: &Opening<'_>) -> Result<(), Refusal> {
    let highest = opening
        .claims
        .iter()
        .filter_map(|claim| claim.attempt)
        .max();
    match (opening.key.attempt, highest) {
        (Some(attempt), Some(highest)) if attempt < highest => {
            Err(Refusal::new(Rule::OlderAttempt)
                .field("attempt")
                .wanted(format!("{highest} or higher"))
                .got(attempt.to_string()))
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

fn check_unspent(opening: &Opening<'_>) -> Result<(), Refusal> {
    if opening.proof.one_time && opening.spent.is_some() {
        return Err(spent(opening));
    }
    Ok(())
}

/// Checks that one more task may be open beside these.
pub(crate) fn check_open_limit(workload: &Workload, open: u64) -> Result<(), Refusal> {
    match workload.limits.open.filter(|most| open >= *most) {
        None => Ok(()),
        Some(most) => Err(Refusal::new(Rule::OpenLimit)
            .field("limits.open")
            .wanted(format!("fewer than {most} open tasks"))
            .got("one more")
            .hint(format!("{open} are open"))),
    }
}

fn check_limits(opening: &Opening<'_>, freed: u64) -> Result<(), Refusal> {
    let Counts {
        open,
        starts_last_hour,
    } = opening.counts;
    check_open_limit(opening.workload, open.saturating_sub(freed))?;
    let limits = opening.workload.limits;
    if let Some(most) = limits
        .starts_per_hour
        .filter(|most| starts_last_hour >= *most)
    {
        return Err(Refusal::new(Rule::StartsLimit)
            .field("limits.starts_per_hour")
            .wanted(format!("fewer than {most} starts within an hour"))
            .got("one more")
            .hint(format!("{starts_last_hour} were started")));
    }
    Ok(())
}

fn spent(opening: &Opening<'_>) -> Refusal {
    Refusal::new(Rule::ProofSpent)
        .field("token")
        .wanted("a token that was not used before")
        .got("one that was")
        .hint(opening.spent.map_or_else(
            || "ask the platform for a fresh token".to_string(),
            |by| {
                format!(
                    "ask the platform for a fresh token; {} used this one",
                    by.task
                )
            },
        ))
}

fn already_ended(opening: &Opening<'_>, how: &str) -> Refusal {
    Refusal::new(Rule::AlreadyEnded)
        .field("task key")
        .wanted("a run whose task has not ended")
        .got(format!("{}: ended, {how}", opening.key.key))
        .hint("a run has one task; start a new run, or re-run it for a new attempt")
}
