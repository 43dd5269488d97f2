//! What an event changes: the one place where the state of a task is built.

use alloc::vec::Vec;

use crate::access::detail_covers;
use crate::cause::Cause;
use crate::event::{ClientDelegated, ClientEnded, CredentialIssued, Event, TaskStarted};
use crate::id::TaskId;
use crate::task::{Client, ClientState, Credential, Task, TaskState};

/// The state after an event; `None` when the event does not fit the state, which replay treats as
/// a damaged ledger and `decide` as a fault.
#[must_use]
pub fn apply(task: Option<Task>, id: TaskId, event: &Event) -> Option<Task> {
    match (task, event) {
        (None, Event::TaskStarted(started)) => Some(start(id, started)),
        (None, _) | (Some(_), Event::TaskStarted(_)) => None,
        (Some(mut task), event) => {
            if !task.is_open() {
                return None;
            }
            task.version += 1;
            change(&mut task, event)?;
            Some(task)
        }
    }
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
        Event::TaskStarted(_) => None,
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
        Event::TaskEnded(ended) => {
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
