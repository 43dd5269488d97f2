//! The decisions of an approval: to ask for one, to give or refuse it, and to open what was approved.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use crate::access::{AccessRequest, detail_covers};
use crate::admit::{check_blocks, check_not_over, check_open_limit};
use crate::apply::apply;
use crate::block::Asks;
use crate::cause::Cause;
use crate::command::{Approve, Deny, Redeem, Request};
use crate::decide::{Terms, check_binding, decide_start, ending, inconsistent, issue};
use crate::declared::{Workload, deadline};
use crate::delegate::Link;
use crate::epoch::check_epochs;
use crate::event::{
    ClientRegistered, Event, TaskApproved, TaskDenied, TaskEnded, TaskRequested, TaskStarted,
};
use crate::refusal::{Refusal, Rule};
use crate::subject::within_session;
use crate::task::{FETCH, Pending, Task};
use crate::time::Time;

/// Asks for an approval. Only what would be granted now is worth anybody's look: the whole grant
/// is decided, and what its client would have is what people are asked about.
pub(crate) fn decide_request(request: &Request<'_>) -> Result<Vec<Event>, Refusal> {
    let start = &request.start;
    let root = &start.root;
    let (Some(jkt), Some(jwk)) = (root.client.jkt, &root.client.jwk) else {
        return Err(Refusal::new(Rule::KeyProofMissing)
            .field("DPoP")
            .wanted("a dpop proof: who waits for an approval fetches it with the same key")
            .got("none")
            .hint("send a DPoP header"));
    };
    let (mut registered, mut resource) = (None, None);
    for event in decide_start(start)? {
        match event {
            Event::ClientRegistered(client) => registered = Some(client),
            Event::CredentialIssued(issued) => resource = Some(issued.resource),
            Event::TaskRequested(_)
            | Event::TaskApproved(_)
            | Event::TaskDenied(_)
            | Event::TaskStarted(_)
            | Event::ClientDelegated(_)
            | Event::CredentialRevoked(_)
            | Event::ClientEnded(_)
            | Event::TaskEnded(_) => {}
        }
    }
    let registered: ClientRegistered =
        registered.ok_or_else(|| inconsistent("client.registered"))?;
    let resource = resource.ok_or_else(|| inconsistent("credential.issued"))?;
    let expires = root.now + request.approval.within;
    Ok(vec![Event::TaskRequested(Box::new(TaskRequested {
        workload: root.workload.name.clone(),
        owner: root.workload.owner.clone(),
        issuer: root.proof.issuer.clone(),
        key: start.key.key.clone(),
        series: start.key.series.clone(),
        attempt: start.key.attempt,
        subject: root.client.subject.clone(),
        requested: root.now,
        expires: start.until.map_or(expires, |until| expires.min(until)),
        people: request.approval.people.max(1),
        asked_by: request.asked_by,
        code: request.code,
        jkt,
        jwk: jwk.clone(),
        instance: registered.instance,
        proof: registered.proof,
        request: registered.request,
        filled: registered.filled,
        access: registered.access,
        resource,
        until: start.until,
        epochs: start.epochs.clone(),
        supersedes: start.supersedes.clone(),
    }))])
}

pub(crate) fn decide_approve(task: &Task, approve: &Approve) -> Result<Vec<Event>, Refusal> {
    let pending = task.check_pending(approve.now)?;
    check_epochs(approve.stale.as_ref())?;
    let refuse = |rule: Rule, wanted: &str, got: &str| {
        Err(Refusal::new(rule).field("approval").wanted(wanted).got(got))
    };
    if approve.as_approving.len() != pending.approvals.len() {
        // Whoever cannot be told apart from those who approved might be one of them.
        return Err(inconsistent("task.approved"));
    }
    if pending.asked_by == Some(approve.as_asking) {
        return refuse(
            Rule::OwnRequest,
            "somebody else than the person who asks",
            "that person",
        );
    }
    let same = pending.approvals.iter().zip(&approve.as_approving);
    if same.into_iter().any(|(known, now)| known == now) {
        return refuse(
            Rule::ApprovedTwice,
            "another person than has approved",
            "the same person",
        );
    }
    if let Some(at) = pending.approved {
        return refuse(
            Rule::ApprovalComplete,
            "a task that still needs approval",
            &format!("one that was approved {at}"),
        );
    }
    let complete = pending.approvals.len() + 1 >= pending.people as usize;
    Ok(vec![Event::TaskApproved(TaskApproved {
        at: approve.now,
        by: approve.by,
        fetch_by: complete.then(|| approve.now + FETCH),
    })])
}

/// Denies; also what was approved and not fetched yet.
pub(crate) fn decide_deny(task: &Task, deny: &Deny) -> Result<Vec<Event>, Refusal> {
    task.check_pending(deny.now)?;
    let denied = Event::TaskDenied(TaskDenied {
        at: deny.now,
        by: deny.by,
    });
    let after =
        apply(Some(task.clone()), task.id, &denied).ok_or_else(|| inconsistent("task.denied"))?;
    let ended = Event::TaskEnded(TaskEnded {
        by: deny.by,
        ..ending(&after, Cause::Denied, deny.now)
    });
    Ok(vec![denied, ended])
}

/// Opens what was approved. The proof is spent and cannot be shown again, so what was recorded of
/// it is judged anew by everything that judges a proof, and what people approved is never widened.
pub(crate) fn decide_redeem(task: &Task, redeem: &Redeem<'_>) -> Result<Vec<Event>, Refusal> {
    let Redeem { now, workload, .. } = *redeem;
    let pending = task.check_pending(now)?;
    let Some(approved) = pending.approved else {
        return Err(Refusal::new(Rule::ApprovalPending)
            .field("approval")
            .wanted(format!("{} approvals", pending.people))
            .got(pending.approvals.len().to_string()));
    };
    check_epochs(redeem.stale.as_ref())?;
    check_workload(task, redeem)?;
    check_people(pending, workload)?;
    check_binding(workload, Some(pending.jkt))?;
    let asks = Asks {
        workload,
        issuer: &task.issuer,
        subject: task.subject.as_ref(),
        series: &task.series,
        key: &task.key,
        instance: &pending.instance,
        relies: &task.epochs,
    };
    check_blocks(redeem.blocks, &asks)?;
    check_not_over(redeem.closed, task.attempt, &pending.instance)?;
    // It is one of those that are counted.
    check_open_limit(workload, redeem.counts.open.saturating_sub(1))?;
    let ceiling = workload.ceiling(redeem.claims)?;
    if let Some(lost) = pending
        .access
        .iter()
        .find(|held| !ceiling.iter().any(|of| detail_covers(of, held)))
    {
        return Err(Refusal::new(Rule::CeilingLowered)
            .field("authorization_details")
            .wanted("access that the workload's ceiling still holds")
            .got(lost.kind.as_str()));
    }
    let mut events = opened(task, pending, redeem, approved)?;
    let mut state = task.clone();
    for event in &events {
        state = apply(Some(state), task.id, event).ok_or_else(|| inconsistent(event.kind()))?;
    }
    let url = redeem.catalog.url_of(&pending.resource).to_string();
    let request = AccessRequest {
        resources: vec![url],
        ..AccessRequest::default()
    };
    let links = [Link::root(1, workload, ceiling)];
    let terms = Terms {
        now,
        workload,
        catalog: redeem.catalog,
        bounds: redeem.bounds,
        links: &links,
        request: &request,
        within: None,
        seal: redeem.seal,
    };
    events.push(issue(&state, 1, &terms)?);
    Ok(events)
}

/// Who approved must be as many as the workload wants now.
fn check_people(pending: &Pending, workload: &Workload) -> Result<(), Refusal> {
    let wanted = workload.approval.map_or(0, |approval| approval.people);
    if pending.given() >= wanted {
        return Ok(());
    }
    Err(Refusal::new(Rule::ApprovalShort)
        .field("approval")
        .wanted(format!("{wanted} approvals"))
        .got(pending.given().to_string())
        .hint("the workload wants more people than it did when this was approved: ask again, or undo the change before the request expires"))
}

/// The workload must be the one that was approved, and still say of the claims what it said then.
fn check_workload(task: &Task, redeem: &Redeem<'_>) -> Result<(), Refusal> {
    let workload = redeem.workload;
    let lapsed = |field: &str, wanted: &str, got: &str| {
        Err(Refusal::new(Rule::ApprovalLapsed)
            .field(field)
            .wanted(wanted)
            .got(got))
    };
    if workload.owner != task.owner {
        let (wanted, got) = (task.owner.as_str(), workload.owner.as_str());
        return lapsed("owner", wanted, got);
    }
    if workload.issuer != task.issuer {
        let (wanted, got) = (task.issuer.as_str(), workload.issuer.as_str());
        return lapsed("issuer", wanted, got);
    }
    if let Some(failure) = workload.matching.first_failure(redeem.claims) {
        let got = failure.got.as_deref().unwrap_or("no such claim");
        return lapsed(&failure.claim, &failure.wanted, got);
    }
    let key = workload.key.read(redeem.claims)?;
    if (&key.key, &key.series, key.attempt) != (&task.key, &task.series, task.attempt) {
        return lapsed("task key", &task.key, &key.key);
    }
    Ok(())
}

/// `task.started` and `client.registered` of what was approved; the window counts from then.
fn opened(
    task: &Task,
    pending: &Pending,
    redeem: &Redeem<'_>,
    approved: Time,
) -> Result<Vec<Event>, Refusal> {
    let Redeem { now, workload, .. } = *redeem;
    let until = within_session(pending.until, workload, task.subject.as_ref());
    let deadline = deadline(approved, workload.window, until);
    if now >= deadline {
        return Err(Refusal::new(Rule::Deadline)
            .field("deadline")
            .wanted(format!("before {deadline}"))
            .got(now.to_string()));
    }
    Ok(vec![
        Event::TaskStarted(TaskStarted {
            workload: task.workload.clone(),
            owner: task.owner.clone(),
            issuer: task.issuer.clone(),
            key: task.key.clone(),
            series: task.series.clone(),
            attempt: task.attempt,
            subject: task.subject.clone(),
            repeat: workload.repeat,
            opened: now,
            deadline,
            heartbeat: workload.heartbeat,
            linger: workload.linger,
            epochs: task.epochs.clone(),
            supersedes: Vec::new(),
        }),
        Event::ClientRegistered(ClientRegistered {
            client: 1,
            jkt: Some(pending.jkt),
            jwk: Some(pending.jwk.clone()),
            instance: pending.instance.clone(),
            proof: pending.proof,
            request: pending.request,
            filled: pending.filled.clone(),
            access: pending.access.clone(),
            expires: deadline,
        }),
    ])
}
