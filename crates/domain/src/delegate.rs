//! Delegation: when a client may hand a part of its access to a child, and what bounds the child.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use crate::access::{Detail, detail_covers, given_access};
use crate::apply::apply;
use crate::command::{ActorProof, Delegate};
use crate::decide::{Terms, inconsistent, issue};
use crate::declared::{Actor, Delegation, Workload};
use crate::epoch::{Epoch, check_epochs};
use crate::event::{ChainLink, ClientDelegated, Event, Own};
use crate::matching::Claims;
use crate::refusal::{Refusal, Rule};
use crate::subject::{OnBehalfOf, session_of};
use crate::task::{Client, Task};
use crate::text::Name;
use crate::time::Time;

/// A client of a chain that came in by a platform's proof: the workload it proved to be bounds
/// itself and everything below it.
pub(crate) struct Link<'a> {
    /// The client's number.
    client: u32,
    pub(crate) workload: &'a Workload,
    /// The workload's present ceiling, filled in from the claims of that proof.
    pub(crate) ceiling: Vec<Detail>,
}

impl<'a> Link<'a> {
    /// The only link of a root client.
    pub(crate) const fn root(client: u32, workload: &'a Workload, ceiling: Vec<Detail>) -> Self {
        Self {
            client,
            workload,
            ceiling,
        }
    }

    fn check_delegable(&self) -> Result<(), Refusal> {
        if self.workload.delegation.is_some() {
            return Ok(());
        }
        Err(Refusal::new(Rule::NotDelegable)
            .field(format!("workload.{}.delegation", self.workload.name))
            .wanted("a declared delegation")
            .got("none"))
    }

    /// Whether its workload may have all that a detail allows.
    pub(crate) fn allows(&self, detail: &Detail) -> bool {
        self.ceiling.iter().any(|held| detail_covers(held, detail))
    }
}

/// The links of a client, its root's last.
pub(crate) fn links_of<'a>(
    task: &Task,
    number: u32,
    workload: &'a Workload,
    others: &[&'a Workload],
) -> Result<Vec<Link<'a>>, Refusal> {
    let mut links = Vec::new();
    for (number, client) in task.chain(number) {
        let name = match (&client.own, client.parent) {
            (Some(own), _) => &own.workload,
            (None, None) => &task.workload,
            (None, Some(_)) => continue,
        };
        let mut declared = core::iter::once(&workload).chain(others);
        let workload = declared
            .find(|declared| declared.name == *name)
            .ok_or_else(|| {
                Refusal::new(Rule::WorkloadUnknown)
                    .field("workload")
                    .wanted("a workload that is still declared")
                    .got(name.as_str())
            })?;
        links.push(Link {
            client: number,
            workload,
            ceiling: workload.ceiling_kept(&client.filled),
        });
    }
    Ok(links)
}

/// A child gets credentials for as long as everybody above it may hand over.
pub(crate) fn check_still_declared(
    number: u32,
    links: &[Link<'_>],
    delegated: bool,
) -> Result<(), Refusal> {
    let mut above = links
        .iter()
        .filter(|link| delegated && link.client != number);
    above.try_for_each(Link::check_delegable)
}

/// The chain of a delegated client as `act` names it (RFC 8693, section 4.1), the newest first. A
/// root client acts for itself, and has one only where `sub` is a person.
pub(crate) fn chain_links(
    task: &Task,
    number: u32,
    on_behalf_of: Option<OnBehalfOf>,
) -> Vec<ChainLink> {
    let delegated = task
        .client(number)
        .is_some_and(|client| client.parent.is_some());
    if !delegated && on_behalf_of != Some(OnBehalfOf::Person) {
        return Vec::new();
    }
    task.chain(number)
        .map(|(client, _)| ChainLink {
            client,
            workload: task.acts_as(client).clone(),
        })
        .collect()
}

/// Who may become a child of a client (RFC 8693, section 4.4): nobody where it stands too deep.
pub(crate) fn may_act(task: &Task, number: u32, terms: &Terms<'_>) -> Vec<Name> {
    let delegation = terms
        .links
        .first()
        .and_then(|link| link.workload.delegation.as_ref());
    match delegation {
        Some(delegation) if check_depth(task, number, terms.links, terms.bounds.depth).is_ok() => {
            delegation.to.clone()
        }
        Some(_) | None => Vec::new(),
    }
}

pub(crate) fn decide_delegate(task: &Task, delegate: &Delegate<'_>) -> Result<Vec<Event>, Refusal> {
    let now = delegate.now;
    task.check_open(now, delegate.heard)?;
    check_epochs(delegate.stale.as_ref())?;
    let parent = task.check_client(delegate.parent, now)?;
    check_key(delegate)?;
    let mut links = links_of(task, delegate.parent, delegate.workload, delegate.others)?;
    if let Some(child) = taken_in_before(task, delegate) {
        return answer_again(task, delegate, child);
    }
    check_key_is_free(task, delegate)?;
    let delegation = check_declared(task, delegate, &links)?;
    check_actor(task, delegate, delegation)?;
    check_depth(task, delegate.parent, &links, delegate.bounds.depth)?;
    check_number(task, delegate, &links)?;
    let number =
        u32::try_from(task.clients.len() + 1).map_err(|_| Refusal::new(Rule::ClientsLimit))?;
    let (own, filled) = match &delegate.actor {
        None => (None, Claims::new()),
        Some(actor) => {
            check_asks_nobody(actor.workload)?;
            links.insert(
                0,
                Link::root(
                    number,
                    actor.workload,
                    actor.workload.ceiling(&actor.proof.claims)?,
                ),
            );
            let filled = actor.workload.filling(&actor.proof.claims);
            (Some(own_of(task, delegate.parent, actor)), filled)
        }
    };
    let access = access_of(parent, delegate, &links)?;
    let proof = delegate.actor.as_ref().map(|actor| actor.proof);
    let delegated = Event::ClientDelegated(ClientDelegated {
        client: number,
        parent: delegate.parent,
        jkt: delegate.client.jkt,
        jwk: delegate.client.jwk.clone(),
        instance: proof
            .map_or(&parent.instance, |proof| &proof.instance)
            .clone(),
        handover: delegate.handover.digest,
        proof: proof.map(|proof| proof.digest),
        request: delegate.client.digest,
        filled,
        own,
        access,
        expires: expires(task, parent, delegate),
    });
    let id = task.id;
    let task = apply(Some(task.clone()), id, &delegated)
        .ok_or_else(|| inconsistent("client.delegated"))?;
    let issued = issue(&task, number, &terms_of(delegate, &links))?;
    Ok(vec![delegated, issued])
}

fn terms_of<'a>(delegate: &Delegate<'a>, links: &'a [Link<'a>]) -> Terms<'a> {
    Terms {
        now: delegate.now,
        workload: delegate.workload,
        catalog: delegate.catalog,
        bounds: delegate.bounds,
        links,
        request: &delegate.client.request,
        within: None,
        seal: delegate.seal,
    }
}

/// Nobody is asked about a child, so what people would have to approve does not come in as one.
fn check_asks_nobody(workload: &Workload) -> Result<(), Refusal> {
    if workload.approval.is_none() {
        return Ok(());
    }
    Err(Refusal::new(Rule::ApprovalNeeded)
        .field("actor_token")
        .wanted("a task of its own, which people can be asked about")
        .got("a child that is handed to")
        .hint(format!(
            "workload {} declares `approval`, and a child comes in without anybody being asked: start it as a task of its own",
            workload.name
        )))
}

/// A hand-over is for the key that it names, and without one for a bearer alone.
fn check_key(delegate: &Delegate<'_>) -> Result<(), Refusal> {
    if delegate.handover.jkt == delegate.client.jkt {
        return Ok(());
    }
    let text = |jkt: Option<crate::text::Digest>| {
        jkt.map_or_else(|| "no key".to_string(), |jkt| jkt.to_string())
    };
    Err(Refusal::new(Rule::HandoverKey)
        .field("DPoP jwk")
        .wanted(text(delegate.handover.jkt))
        .got(text(delegate.client.jkt)))
}

/// The child that came in by this very hand-over, whose answer got lost.
fn taken_in_before(task: &Task, delegate: &Delegate<'_>) -> Option<u32> {
    (1u32..)
        .zip(&task.clients)
        .find(|(_, client)| client.handover == Some(delegate.handover.digest))
        .map(|(number, _)| number)
}

fn answer_again(task: &Task, delegate: &Delegate<'_>, number: u32) -> Result<Vec<Event>, Refusal> {
    let child = task.check_client(number, delegate.now)?;
    // Without a key nothing tells the child from whoever else holds its hand-over.
    if child.jkt.is_none() || child.jkt != delegate.client.jkt {
        return Err(Refusal::new(Rule::HandoverSpent)
            .field("subject_token")
            .wanted("a hand-over that was not used before")
            .got("one that was"));
    }
    if child.request != delegate.client.digest {
        return Err(Refusal::new(Rule::RetryDiffers)
            .field("resource, scope, authorization_details")
            .wanted("the request that the hand-over was first used with")
            .got("another"));
    }
    let links = links_of(task, number, delegate.workload, delegate.others)?;
    Ok(vec![issue(task, number, &terms_of(delegate, &links))?])
}

/// No key of an ancestor, nor of anybody else in the task, makes a second client: who ends one of
/// them would not end the other.
fn check_key_is_free(task: &Task, delegate: &Delegate<'_>) -> Result<(), Refusal> {
    let Some(jkt) = delegate.client.jkt else {
        return Ok(());
    };
    let holder = (1u32..)
        .zip(&task.clients)
        .find(|(_, client)| client.jkt == Some(jkt));
    match holder {
        None => Ok(()),
        Some((number, _)) => Err(Refusal::new(Rule::KeyTaken)
            .field("cnf.jkt")
            .wanted("a fresh key of the child's own")
            .got(jkt.to_string())
            .hint(format!("it is the key of {}", task.client_id(number)))),
    }
}

/// Every workload of the chain must say that its clients hand over; the parent's says to whom.
fn check_declared<'a>(
    task: &Task,
    delegate: &Delegate<'_>,
    links: &[Link<'a>],
) -> Result<&'a Delegation, Refusal> {
    links.iter().try_for_each(Link::check_delegable)?;
    let delegation = links
        .first()
        .and_then(|link| link.workload.delegation.as_ref())
        .ok_or_else(|| inconsistent("client.registered"))?;
    let giver = task.acts_as(delegate.parent);
    let child = delegate
        .actor
        .as_ref()
        .map_or(giver, |actor| &actor.workload.name);
    if delegation.to.contains(child) {
        return Ok(delegation);
    }
    let to: Vec<&str> = delegation.to.iter().map(Name::as_str).collect();
    Err(Refusal::new(Rule::DelegationTo)
        .field(format!("workload.{giver}.delegation.to"))
        .wanted(to.join(", "))
        .got(child.as_str())
        .hint(if delegate.actor.is_none() {
            "a child of another workload brings its own platform proof as actor_token"
        } else {
            ""
        }))
}

fn check_actor(
    task: &Task,
    delegate: &Delegate<'_>,
    delegation: &Delegation,
) -> Result<(), Refusal> {
    match (delegation.actor, &delegate.actor) {
        (Actor::Required, None) => Err(Refusal::new(Rule::ActorMissing)
            .field("actor_token")
            .wanted(format!(
                "the child's own proof, as workload {} demands",
                task.acts_as(delegate.parent)
            ))
            .got("none")),
        (Actor::Optional | Actor::Required, Some(_)) | (Actor::Optional, None) => Ok(()),
    }
}

/// Each workload of the chain bounds how deep its own clients hand over, whoever stands between.
fn check_depth(task: &Task, parent: u32, links: &[Link<'_>], most: u32) -> Result<(), Refusal> {
    let depth_of = |number: u32| {
        let chain = u32::try_from(task.chain(number).count()).unwrap_or(u32::MAX);
        chain.saturating_sub(1)
    };
    let child = depth_of(parent) + 1;
    let refused = |field: &str, most: u32, got: u32| {
        Err(Refusal::new(Rule::DelegationDepth)
            .field(field)
            .wanted(format!("at most {most}"))
            .got(got.to_string()))
    };
    if child > most {
        return refused("bounds.depth", most, child);
    }
    for link in links {
        let allowed = link.workload.delegation.as_ref().map_or(0, |d| d.depth);
        let below = child.saturating_sub(depth_of(link.client));
        if below > allowed {
            let field = format!("workload.{}.delegation.depth", link.workload.name);
            return refused(&field, allowed, below);
        }
    }
    Ok(())
}

/// How often may be handed over: below the root workload in the whole task, below another in the
/// subtree of its client. Those that ended count, so that a hand-over is no way to run for ever.
fn check_number(task: &Task, delegate: &Delegate<'_>, links: &[Link<'_>]) -> Result<(), Refusal> {
    if task.clients.len() >= delegate.bounds.clients {
        return Err(Refusal::new(Rule::ClientsLimit)
            .field("clients")
            .wanted(format!("at most {}", delegate.bounds.clients))
            .got("one more")
            .hint(format!("it has {}", task.clients.len())));
    }
    for link in links {
        let root = task
            .client(link.client)
            .is_some_and(|client| client.parent.is_none());
        let below = (1u32..)
            .zip(&task.clients)
            .filter(|(_, client)| client.parent.is_some())
            .filter(|(number, _)| {
                root || *number != link.client
                    && task.chain(*number).any(|(above, _)| above == link.client)
            })
            .count();
        let most = link.workload.delegation.as_ref().map_or(0, |d| d.clients);
        if below >= most as usize {
            return Err(Refusal::new(Rule::DelegationClients)
                .field(format!(
                    "workload.{}.delegation.clients",
                    link.workload.name
                ))
                .wanted(format!("at most {most}"))
                .got("one more"));
        }
    }
    Ok(())
}

/// What the child gets: what the hand-over names, as far as every workload of its chain, its own
/// included, may have it now.
fn access_of(
    parent: &Client,
    delegate: &Delegate<'_>,
    links: &[Link<'_>],
) -> Result<Vec<Detail>, Refusal> {
    let ceiling = links.last().map_or(&[][..], |root| &root.ceiling);
    let given = given_access(
        &parent.access,
        ceiling,
        &delegate.handover.given,
        delegate.catalog,
        delegate.bounds.details,
    )?;
    let (own, above) = match (&delegate.actor, links) {
        (Some(_), [own, above @ ..]) => (Some(own), above),
        (Some(_) | None, above) => (None, above),
    };
    for link in above {
        if let Some(beyond) = given.iter().find(|detail| !link.allows(detail)) {
            return Err(Refusal::new(Rule::CeilingLowered)
                .field("authorization_details")
                .wanted("access that every workload of the chain still may have")
                .got(beyond.kind.as_str()));
        }
    }
    let Some(own) = own else { return Ok(given) };
    let first = given
        .first()
        .map_or("", |detail| detail.kind.as_str())
        .to_string();
    let both: Vec<Detail> = given
        .into_iter()
        .filter(|detail| own.allows(detail))
        .collect();
    if both.is_empty() {
        return Err(Refusal::new(Rule::NotCovered)
            .field(format!("workload.{}.access", own.workload.name))
            .wanted("some of what the hand-over gives")
            .got(first)
            .hint("a child gets what both the hand-over gives and its own workload may have"));
    }
    Ok(both)
}

/// A child ends with its parent at the latest, and one of another workload with that one's window and
/// its session.
fn expires(task: &Task, parent: &Client, delegate: &Delegate<'_>) -> Time {
    match &delegate.actor {
        Some(actor) if actor.workload.name != task.workload => {
            let ends = parent.expires.min(delegate.now + actor.workload.window);
            let session = session_of(actor.workload, task.subject.as_ref());
            session.map_or(ends, |session| ends.min(session))
        }
        Some(_) | None => parent.expires,
    }
}

/// Whose the child is by its own proof, with the epochs that nobody above it relies on already.
fn own_of(task: &Task, parent: u32, actor: &ActorProof<'_>) -> Own {
    let relied = |epoch: &&Epoch| {
        let above = task
            .chain(parent)
            .filter_map(|(_, client)| client.own.as_ref());
        let mut above = above.flat_map(|own| &own.epochs).chain(&task.epochs);
        above.any(|held| held.of == epoch.of && held.at <= epoch.at)
    };
    Own {
        workload: actor.workload.name.clone(),
        owner: actor.workload.owner.clone(),
        issuer: actor.proof.issuer.clone(),
        key: actor.key.to_string(),
        epochs: actor
            .epochs
            .iter()
            .filter(|epoch| !relied(epoch))
            .cloned()
            .collect(),
    }
}
