//! What an event changes: the one place where the state of a task is built.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::access::detail_covers;
use crate::cause::Cause;
use crate::declared::{Heartbeat, HeartbeatMode};
use crate::event::{
    ClientDelegated, ClientEnded, CredentialIssued, Event, TaskApproved, TaskEnded, TaskRequested,
    TaskStarted,
};
use crate::id::TaskId;
use crate::task::{Client, ClientState, Credential, Pending, Task, TaskState};
use crate::time::Span;

/// The state after an event; `None` when the event does not fit the state, which replay treats as
/// a damaged ledger and `decide` as a fault.
#[must_use]
pub fn apply(task: Option<Task>, id: TaskId, event: &Event) -> Option<Task> {
    match (task, event) {
        (None, Event::TaskStarted(started)) => Some(start(id, started)),
        (None, Event::TaskRequested(requested)) => Some(request(id, requested)),
        (None, _) => None,
        (Some(mut task), event) => {
            task.version += 1;
            match task.state {
                TaskState::Pending(_) => change_pending(&mut task, event)?,
                TaskState::Open => change(&mut task, event)?,
                TaskState::Ended { .. } => return None,
            }
            Some(task)
        }
    }
}

fn request(id: TaskId, requested: &TaskRequested) -> Task {
    Task {
        id,
        version: 1,
        workload: requested.workload.clone(),
        owner: requested.owner.clone(),
        issuer: requested.issuer.clone(),
        key: requested.key.clone(),
        series: requested.series.clone(),
        attempt: requested.attempt,
        subject: requested.subject.clone(),
        opened: requested.requested,
        deadline: requested.expires,
        heartbeat: Heartbeat {
            mode: HeartbeatMode::Off,
            ..Heartbeat::default()
        },
        linger: Span::ZERO,
        epochs: requested.epochs.clone(),
        clients: Vec::new(),
        state: TaskState::Pending(Box::new(Pending {
            people: requested.people,
            asked_by: requested.asked_by,
            approvals: Vec::new(),
            approved: None,
            code: requested.code,
            jkt: requested.jkt,
            jwk: requested.jwk.clone(),
            instance: requested.instance.clone(),
            proof: requested.proof,
            request: requested.request,
            filled: requested.filled.clone(),
            access: requested.access.clone(),
            resource: requested.resource.clone(),
            until: requested.until,
        })),
    }
}

/// What may happen to a task that waits: people say yes or no, it opens, or it ends. Replay checks
/// by it that no approval counts twice and that nothing opened unapproved. That two approvals are
/// of two people is decided when they are given, for each stands under a salt of its own.
fn change_pending(task: &mut Task, event: &Event) -> Option<()> {
    match event {
        Event::TaskApproved(approved) => approve(task, approved),
        Event::TaskDenied(denied) => {
            // From here on it can only end.
            task.deadline = denied.at;
            Some(())
        }
        Event::TaskStarted(started) => open(task, started),
        Event::TaskEnded(ended) => end(task, ended),
        Event::TaskRequested(_)
        | Event::ClientRegistered(_)
        | Event::ClientDelegated(_)
        | Event::CredentialIssued(_)
        | Event::CredentialRevoked(_)
        | Event::ClientEnded(_) => None,
    }
}

fn approve(task: &mut Task, approved: &TaskApproved) -> Option<()> {
    let TaskState::Pending(pending) = &mut task.state else {
        return None;
    };
    let by = approved.by;
    if pending.approved.is_some()
        || pending.asked_by == Some(by)
        || pending.approvals.contains(&by)
        || approved.at >= task.deadline
    {
        return None;
    }
    pending.approvals.push(by);
    let complete = pending.approvals.len() >= pending.people as usize;
    match (complete, approved.fetch_by) {
        (true, Some(fetch_by)) => {
            pending.approved = Some(approved.at);
            task.deadline = fetch_by;
            Some(())
        }
        (false, None) => Some(()),
        (true, None) | (false, Some(_)) => None,
    }
}

/// Opens a task that was approved.
fn open(task: &mut Task, started: &TaskStarted) -> Option<()> {
    task.pending()?.approved?;
    let same = (&task.workload, &task.owner, &task.issuer, &task.key)
        == (
            &started.workload,
            &started.owner,
            &started.issuer,
            &started.key,
        )
        && (&task.series, task.attempt) == (&started.series, started.attempt)
        && task.subject == started.subject;
    if !same || started.opened >= task.deadline {
        return None;
    }
    task.opened = started.opened;
    task.deadline = started.deadline;
    task.heartbeat = started.heartbeat;
    task.linger = started.linger;
    task.epochs.clone_from(&started.epochs);
    task.state = TaskState::Open;
    Some(())
}

fn end(task: &mut Task, ended: &TaskEnded) -> Option<()> {
    if ended.count != task.version {
        return None;
    }
    task.state = TaskState::Ended {
        cause: ended.cause,
        at: ended.at,
    };
    for client in &mut task.clients {
        client.credentials.clear();
    }
    Some(())
}

fn start(id: TaskId, started: &TaskStarted) -> Task {
    Task {
        id,
        version: 1,
        workload: started.workload.clone(),
        owner: started.owner.clone(),
        issuer: started.issuer.clone(),
        key: started.key.clone(),
        series: started.series.clone(),
        attempt: started.attempt,
        subject: started.subject.clone(),
        opened: started.opened,
        deadline: started.deadline,
        heartbeat: started.heartbeat,
        linger: started.linger,
        epochs: started.epochs.clone(),
        clients: Vec::new(),
        state: TaskState::Open,
    }
}

fn change(task: &mut Task, event: &Event) -> Option<()> {
    match event {
        Event::TaskRequested(_)
        | Event::TaskApproved(_)
        | Event::TaskDenied(_)
        | Event::TaskStarted(_) => None,
        Event::ClientRegistered(registered) => {
            if registered.client as usize != task.clients.len() + 1 {
                return None;
            }
            task.clients.push(Client {
                parent: None,
                jkt: registered.jkt,
                jwk: registered.jwk.clone(),
                instance: registered.instance.clone(),
                proof: registered.proof,
                handover: None,
                own: None,
                request: registered.request,
                filled: registered.filled.clone(),
                access: registered.access.clone(),
                expires: registered.expires,
                issued: 0,
                last_expiry: None,
                credentials: Vec::new(),
                state: ClientState::Active,
            });
            Some(())
        }
        Event::ClientDelegated(delegated) => add_child(task, delegated),
        Event::CredentialIssued(issued) => add_credential(task, issued),
        Event::CredentialRevoked(revoked) => {
            let client = task.client_mut(revoked.client)?;
            let before = client.credentials.len();
            client
                .credentials
                .retain(|credential| credential.number != revoked.credential);
            (client.credentials.len() < before).then_some(())
        }
        Event::ClientEnded(ended) => end_subtree(task, ended),
        Event::TaskEnded(ended) => end(task, ended),
    }
}

/// Adds a child, unless it would have more or live longer than its parent: no ledger in which one
/// does is replayed.
fn add_child(task: &mut Task, delegated: &ClientDelegated) -> Option<()> {
    let parent = task.client(delegated.parent)?;
    let covered = |detail| parent.access.iter().any(|held| detail_covers(held, detail));
    let fits = delegated.client as usize == task.clients.len() + 1
        && parent.is_active()
        && delegated.expires <= parent.expires
        && delegated.access.iter().all(covered);
    if !fits {
        return None;
    }
    task.clients.push(Client {
        parent: Some(delegated.parent),
        jkt: delegated.jkt,
        jwk: delegated.jwk.clone(),
        instance: delegated.instance.clone(),
        proof: delegated.proof.unwrap_or(delegated.handover),
        handover: Some(delegated.handover),
        own: delegated.own.clone(),
        request: delegated.request,
        filled: delegated.filled.clone(),
        access: delegated.access.clone(),
        expires: delegated.expires,
        issued: 0,
        last_expiry: None,
        credentials: Vec::new(),
        state: ClientState::Active,
    });
    Some(())
}

fn add_credential(task: &mut Task, issued: &CredentialIssued) -> Option<()> {
    let client = task.client_mut(issued.client)?;
    if issued.credential != client.issued.checked_add(1)?
        || !matches!(client.state, ClientState::Active)
    {
        return None;
    }
    client.issued = issued.credential;
    client.last_expiry = client.last_expiry.max(Some(issued.expires));
    client
        .credentials
        .retain(|credential| credential.expires > issued.issued);
    client.credentials.push(Credential {
        number: issued.credential,
        expires: issued.expires,
        hash: issued.hash,
    });
    Some(())
}

/// Ends a client and everything that was delegated from it, however far down.
fn end_subtree(task: &mut Task, ended: &ClientEnded) -> Option<()> {
    let root = task.client_mut(ended.client)?;
    if !matches!(root.state, ClientState::Active) {
        return None;
    }
    root.state = ClientState::Ended {
        cause: ended.cause,
        at: ended.at,
    };
    root.credentials.clear();
    let mut fallen: Vec<u32> = alloc::vec![ended.client];
    for (number, client) in (1u32..).zip(task.clients.iter_mut()) {
        // INVARIANT: a parent's number is lower than its child's, so one pass finds the subtree.
        if client.parent.is_some_and(|parent| fallen.contains(&parent)) {
            fallen.push(number);
            client.credentials.clear();
            if matches!(client.state, ClientState::Active) {
                client.state = ClientState::Ended {
                    cause: Cause::Parent,
                    at: ended.at,
                };
            }
        }
    }
    Some(())
}
