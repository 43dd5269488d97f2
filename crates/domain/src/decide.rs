//! The decision: a state and a command in, events or a refusal out, and nothing else.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use crate::access::{
    AccessRequest, Catalog, Detail, Resource, detail_covers, first_access, token_access,
};
use crate::admit::{other_key, other_request};
use crate::apply::apply;
use crate::approve::{decide_approve, decide_deny, decide_redeem, decide_request};
use crate::cause::Cause;
use crate::command::{
    Command, EndClient, EndTask, Issue, Join, Retry, Revoke, Root, Seal, Start, Sweep, Within,
};
use crate::declared::{Binding, Bounds, Workload, deadline};
use crate::delegate::{
    Link, chain_links, check_still_declared, decide_delegate, links_of, may_act,
};
use crate::epoch::check_epochs;
use crate::event::{
    ClientEnded, ClientRegistered, CredentialIssued, CredentialRevoked, Event, TaskEnded,
    TaskStarted,
};
use crate::refusal::{Refusal, Rule};
use crate::subject::{OnBehalfOf, check_subject, session_of, within_session};
use crate::task::{Client, Heard, Task};
use crate::text::Digest;
use crate::time::{Span, Time};

/// Decides a command. `task` is the state it is about; none for [`Command::Start`].
///
/// # Errors
/// The refusal, explained.
pub fn decide(task: Option<&Task>, command: &Command<'_>) -> Result<Vec<Event>, Refusal> {
    match (task, command) {
        (None, Command::Start(start)) => decide_start(start),
        (None, Command::Request(request)) => decide_request(request),
        (Some(task), Command::Approve(approve)) => decide_approve(task, approve),
        (Some(task), Command::Deny(deny)) => decide_deny(task, deny),
        (Some(task), Command::Redeem(redeem)) => decide_redeem(task, redeem),
        (Some(task), Command::Join(join)) => decide_join(task, join),
        (Some(task), Command::Retry(retry)) => decide_retry(task, retry),
        (Some(task), Command::Delegate(delegate)) => decide_delegate(task, delegate),
        (Some(task), Command::Issue(issue)) => decide_issue(task, issue),
        (Some(task), Command::EndClient(end)) => decide_end_client(task, end),
        (Some(task), Command::EndTask(end)) => decide_end_task(task, end),
        (Some(task), Command::Revoke(revoke)) => decide_revoke(task, revoke),
        (Some(task), Command::Sweep(sweep)) => Ok(decide_sweep(task, sweep)),
        (Some(_), Command::Start(_) | Command::Request(_)) => Err(Refusal::new(Rule::AlreadyOpen)
            .field("task")
            .wanted("no task by this id")
            .got("one that exists")),
        (
            None,
            Command::Approve(_)
            | Command::Deny(_)
            | Command::Redeem(_)
            | Command::Join(_)
            | Command::Retry(_)
            | Command::Delegate(_)
            | Command::Issue(_)
            | Command::EndClient(_)
            | Command::EndTask(_)
            | Command::Revoke(_)
            | Command::Sweep(_),
        ) => Err(Refusal::new(Rule::TaskEnded)
            .field("task")
            .wanted("an open task")
            .got("no open task by this id")),
    }
}

pub(crate) fn decide_start(start: &Start<'_>) -> Result<Vec<Event>, Refusal> {
    let Root {
        now,
        workload,
        proof,
        ..
    } = start.root;
    let until = within_session(start.until, workload, start.root.client.subject.as_ref());
    let deadline = deadline(now, workload.window, until);
    if now >= deadline {
        return Err(Refusal::new(Rule::Deadline)
            .field("deadline")
            .wanted(format!("before {deadline}"))
            .got(now.to_string()));
    }
    let started = Event::TaskStarted(TaskStarted {
        workload: workload.name.clone(),
        owner: workload.owner.clone(),
        issuer: proof.issuer.clone(),
        key: start.key.key.clone(),
        series: start.key.series.clone(),
        attempt: start.key.attempt,
        subject: start.root.client.subject.clone(),
        repeat: workload.repeat,
        opened: now,
        deadline,
        heartbeat: workload.heartbeat,
        linger: workload.linger,
        epochs: start.epochs.clone(),
        supersedes: start.supersedes.clone(),
    });
    let task = apply(None, start.id, &started).ok_or_else(|| inconsistent("task.started"))?;
    let mut events = vec![started];
    events.extend(register(task, &start.root)?);
    Ok(events)
}

fn decide_join(task: &Task, join: &Join<'_>) -> Result<Vec<Event>, Refusal> {
    let Root { now, bounds, .. } = join.root;
    task.check_open(now, join.heard)?;
    check_epochs(join.stale.as_ref())?;
    if task.clients.len() >= bounds.clients {
        return Err(Refusal::new(Rule::ClientsLimit)
            .field("clients")
            .wanted(format!("at most {}", bounds.clients))
            .got("one more")
            .hint(format!("it has {}", task.clients.len())));
    }
    register(task.clone(), &join.root)
}

/// Registers a root client with its first credential.
fn register(task: Task, root: &Root<'_>) -> Result<Vec<Event>, Refusal> {
    let Root {
        workload,
        catalog,
        bounds,
        proof,
        client,
        ..
    } = *root;
    check_binding(workload, client.jkt)?;
    check_subject(workload, client.subject.as_ref())?;
    let ceiling = workload.ceiling(&proof.claims)?;
    let access = first_access(&ceiling, &client.request, catalog, bounds.details)?;
    let number =
        u32::try_from(task.clients.len() + 1).map_err(|_| Refusal::new(Rule::ClientsLimit))?;
    let registered = Event::ClientRegistered(ClientRegistered {
        client: number,
        jkt: client.jkt,
        jwk: client.jwk.clone(),
        instance: proof.instance.clone(),
        proof: proof.digest,
        request: client.digest,
        filled: workload.filling(&proof.claims),
        access,
        expires: task.deadline,
    });
    let id = task.id;
    let task =
        apply(Some(task), id, &registered).ok_or_else(|| inconsistent("client.registered"))?;
    let links = [Link::root(number, workload, ceiling)];
    let issued = issue(&task, number, &terms_of(root, &links))?;
    Ok(vec![registered, issued])
}

pub(crate) fn check_binding(workload: &Workload, jkt: Option<Digest>) -> Result<(), Refusal> {
    match (workload.binding, jkt) {
        (Binding::Required, None) => Err(Refusal::new(Rule::BindingRequired)
            .field("DPoP")
            .wanted("a dpop proof by a key of the client's own")
            .got("none")
            .hint("send a DPoP header, or declare token.binding = \"optional\" for the workload")),
        (Binding::Required | Binding::Optional, Some(_)) | (Binding::Optional, None) => Ok(()),
    }
}

fn decide_retry(task: &Task, retry: &Retry<'_>) -> Result<Vec<Event>, Refusal> {
    let Root {
        now,
        workload,
        proof,
        client,
        ..
    } = retry.root;
    task.check_open(now, retry.heard)?;
    check_epochs(retry.stale.as_ref())?;
    let granted = task.check_client(retry.client, now)?;
    // Without a key nothing tells the client from a thief of its proof.
    if granted.jkt != client.jkt || client.jkt.is_none() {
        return Err(other_key(client.jkt));
    }
    if granted.request != client.digest {
        return Err(other_request());
    }
    let ceiling = workload.ceiling(&proof.claims)?;
    let links = [Link::root(retry.client, workload, ceiling)];
    Ok(vec![issue(
        task,
        retry.client,
        &terms_of(&retry.root, &links),
    )?])
}

fn decide_issue(task: &Task, issue_to: &Issue<'_>) -> Result<Vec<Event>, Refusal> {
    task.check_open(issue_to.now, issue_to.heard)?;
    check_epochs(issue_to.stale.as_ref())?;
    task.check_client(issue_to.client, issue_to.now)?;
    let links = links_of(task, issue_to.client, issue_to.workload, issue_to.others)?;
    let terms = Terms {
        now: issue_to.now,
        workload: issue_to.workload,
        catalog: issue_to.catalog,
        bounds: issue_to.bounds,
        links: &links,
        request: issue_to.request,
        within: issue_to.within,
        seal: issue_to.seal,
    };
    Ok(vec![issue(task, issue_to.client, &terms)?])
}

/// What one credential is issued by.
pub(crate) struct Terms<'a> {
    pub(crate) now: Time,
    /// What the task runs.
    pub(crate) workload: &'a Workload,
    pub(crate) catalog: &'a Catalog,
    pub(crate) bounds: &'a Bounds,
    /// The workloads that bound the client, the root's last.
    pub(crate) links: &'a [Link<'a>],
    pub(crate) request: &'a AccessRequest,
    pub(crate) within: Option<Within<'a>>,
    pub(crate) seal: &'a dyn Seal,
}

fn terms_of<'a>(root: &Root<'a>, links: &'a [Link<'a>]) -> Terms<'a> {
    Terms {
        now: root.now,
        workload: root.workload,
        catalog: root.catalog,
        bounds: root.bounds,
        links,
        request: &root.client.request,
        within: None,
        seal: root.seal,
    }
}

/// Issues one credential to a client that was checked.
pub(crate) fn issue(task: &Task, number: u32, terms: &Terms<'_>) -> Result<Event, Refusal> {
    let client = task
        .client(number)
        .ok_or_else(|| inconsistent("client.registered"))?;
    for link in terms.links {
        check_binding(link.workload, client.jkt)?;
        // Who proves to be of another workload acts for the person too.
        check_subject(link.workload, task.subject.as_ref())?;
    }
    check_still_declared(number, terms.links, client.parent.is_some())?;
    check_live_credentials(client, terms)?;
    let held = held(client, terms)?;
    let ceiling = terms.links.last().map_or(&[][..], |root| &root.ceiling);
    let access = token_access(&held, ceiling, terms.request, terms.catalog)?;
    if access.details.len() > terms.bounds.details {
        return Err(Refusal::new(Rule::DetailsLimit)
            .field("authorization_details")
            .wanted(format!("at most {} details", terms.bounds.details))
            .got(access.details.len().to_string()));
    }
    // A token without an audience would be one for everybody.
    let Some(resource) = terms.catalog.resources.get(&access.resource) else {
        return Err(Refusal::new(Rule::TargetUnknown)
            .field("resource")
            .wanted("a declared resource")
            .got(access.resource.as_str()));
    };
    let expires = expiry(task, client, terms);
    if expires <= terms.now {
        return Err(Refusal::new(Rule::Deadline)
            .field("deadline")
            .wanted("at least a second of life")
            .got(format!("{} left", expires.since(terms.now))));
    }
    let on_behalf_of = named_as(task, resource);
    let mut draft = CredentialIssued {
        client: number,
        credential: client.issued.saturating_add(1),
        audience: resource.url.clone(),
        resource: access.resource,
        access: access.details,
        scope: access.scopes,
        issued: Time::from_seconds(terms.now.seconds()),
        expires,
        jkt: client.jkt,
        act: chain_links(task, number, on_behalf_of),
        may_act: may_act(task, number, terms),
        on_behalf_of,
        alg: "".to_string(),
        kid: "".to_string(),
        hash: Digest([0; 32]),
    };
    terms.seal.seal(task.id, terms.workload, &mut draft);
    Ok(Event::CredentialIssued(draft))
}

/// How tokens of a resource name the person of a task.
fn named_as(task: &Task, resource: &Resource) -> Option<OnBehalfOf> {
    task.subject.as_ref().map(|_| match resource.names_person {
        true => OnBehalfOf::Person,
        false => OnBehalfOf::Pseudonym,
    })
}

fn check_live_credentials(client: &Client, terms: &Terms<'_>) -> Result<(), Refusal> {
    let live = client
        .credentials
        .iter()
        .filter(|credential| terms.now < credential.expires)
        .count();
    if live < terms.bounds.live_credentials {
        return Ok(());
    }
    Err(Refusal::new(Rule::CredentialsLimit)
        .field("live credentials")
        .wanted(format!("at most {}", terms.bounds.live_credentials))
        .got(live.to_string())
        .hint("use a credential until it is near its end instead of asking for another"))
}

/// What a token may be taken from: the client's access, where a token is narrowed, what that one
/// holds of it, and where a proof came in on the way from the root, what that workload still may.
fn held<'a>(client: &'a Client, terms: &Terms<'_>) -> Result<Cow<'a, [Detail]>, Refusal> {
    let mut held = match terms.within {
        None => Cow::Borrowed(&client.access[..]),
        Some(within) => within
            .access
            .iter()
            .filter(|held| client.access.iter().any(|own| detail_covers(own, held)))
            .cloned()
            .collect(),
    };
    if held.is_empty() {
        return Err(Refusal::new(Rule::NotCovered)
            .field("subject_token")
            .wanted("a token that holds some of the client's access")
            .got("none of it"));
    }
    let between = terms
        .links
        .split_last()
        .map_or(&[][..], |(_, between)| between);
    if !between.is_empty() {
        let bounded: Vec<Detail> = held
            .iter()
            .filter(|detail| between.iter().all(|link| link.allows(detail)))
            .cloned()
            .collect();
        if bounded.is_empty() {
            return Err(Refusal::new(Rule::CeilingLowered)
                .field("authorization_details")
                .wanted("access that every workload of the chain still may have")
                .got("none of it"));
        }
        held = Cow::Owned(bounded);
    }
    Ok(held)
}

/// The earliest of what bounds a credential, in whole seconds.
fn expiry(task: &Task, client: &Client, terms: &Terms<'_>) -> Time {
    let mut expires = client.expires.min(task.deadline);
    for link in terms.links {
        expires = expires.min(terms.now + link.workload.ttl);
        // As it is declared now: who comes in later, or is bounded anew, is bounded by it too.
        let session = session_of(link.workload, task.subject.as_ref());
        expires = session.map_or(expires, |ends| expires.min(ends));
    }
    if let Some(within) = &terms.within {
        expires = expires.min(within.expires);
    }
    Time::from_seconds(expires.seconds())
}

fn decide_end_client(task: &Task, end: &EndClient) -> Result<Vec<Event>, Refusal> {
    if let Some(lapsed) = lapsed(task, end.now, end.heard)? {
        return Ok(vec![lapsed]);
    }
    task.check_client(end.client, end.now)?;
    let ended = Event::ClientEnded(ClientEnded {
        by: end.by,
        ..ending_client(task, end.client, end.cause, end.now)
    });
    let after =
        apply(Some(task.clone()), task.id, &ended).ok_or_else(|| inconsistent("client.ended"))?;
    let mut events = vec![ended];
    if let Some((_, cause)) = after.lingers_until()
        && task.linger == Span::ZERO
    {
        events.push(Event::TaskEnded(TaskEnded {
            by: end.by,
            ..ending(&after, cause, end.now)
        }));
    }
    Ok(events)
}

fn decide_end_task(task: &Task, end: &EndTask) -> Result<Vec<Event>, Refusal> {
    if let Some(lapsed) = lapsed(task, end.now, end.heard)? {
        return Ok(vec![lapsed]);
    }
    Ok(vec![Event::TaskEnded(TaskEnded {
        by: end.by,
        ..ending(task, end.cause, end.now)
    })])
}

fn decide_revoke(task: &Task, revoke: &Revoke) -> Result<Vec<Event>, Refusal> {
    let client = task.check_client(revoke.client, revoke.now)?;
    let live = client.credentials.iter().any(|credential| {
        credential.number == revoke.credential && revoke.now < credential.expires
    });
    // A bearer's credential is all that acts for it, and acts while it lives. Who proves a key acts by
    // that, and the newest credential only says whose it is.
    if revoke.credential == client.issued && (live || client.jkt.is_some()) {
        return decide_end_client(
            task,
            &EndClient {
                now: revoke.now,
                heard: revoke.heard,
                client: revoke.client,
                cause: Cause::Revoked,
                by: None,
            },
        );
    }
    Ok(if live {
        vec![Event::CredentialRevoked(CredentialRevoked {
            client: revoke.client,
            credential: revoke.credential,
        })]
    } else {
        Vec::new()
    })
}

fn decide_sweep(task: &Task, sweep: &Sweep<'_>) -> Vec<Event> {
    if task.has_ended() {
        return Vec::new();
    }
    if let Some(cause) = task.over(sweep.now, sweep.heard, sweep.moved) {
        return vec![task_ended(task, cause, sweep.now)];
    }
    let mut state = Cow::Borrowed(task);
    let mut events = Vec::new();
    for (number, moved) in sweep.fallen {
        let active = state.client(*number).is_some_and(Client::is_active);
        let ended = ending_client(&state, *number, moved.cause, sweep.now);
        let ended = Event::ClientEnded(ended);
        // One whose ancestor has fallen before it has ended with that one.
        if active && let Some(next) = apply(Some(state.clone().into_owned()), task.id, &ended) {
            state = Cow::Owned(next);
            events.push(ended);
        }
    }
    events
}

fn ending_client(task: &Task, client: u32, cause: Cause, now: Time) -> ClientEnded {
    ClientEnded {
        client,
        cause,
        at: now,
        by: None,
        last_expiry: task
            .last_expiry_under(client)
            .filter(|expires| *expires > now),
    }
}

/// The end that is due although nobody asked for it: the cause that came first names the end.
fn lapsed(task: &Task, now: Time, heard: Heard) -> Result<Option<Event>, Refusal> {
    if task.has_ended() {
        task.check_open(now, heard)?;
    }
    Ok(task
        .lapsed(now, heard)
        .map(|cause| task_ended(task, cause, now)))
}

pub(crate) fn task_ended(task: &Task, cause: Cause, now: Time) -> Event {
    Event::TaskEnded(ending(task, cause, now))
}

pub(crate) fn ending(task: &Task, cause: Cause, now: Time) -> TaskEnded {
    TaskEnded {
        cause,
        at: now,
        count: task.version + 1,
        by: None,
        last_expiry: task.last_expiry().filter(|expires| *expires > now),
    }
}

/// A decision that its own event does not fit: a fault of ours that must not grant anything.
pub(crate) fn inconsistent(event: &str) -> Refusal {
    Refusal::new(Rule::Unavailable)
        .field(event)
        .wanted("an event that applies")
        .got("one that does not")
}
