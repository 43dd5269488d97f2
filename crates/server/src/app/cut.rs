//! Ends by an operator's hand below a task: of one client, or of everything of one instance.

use std::collections::BTreeSet;
use std::sync::Arc;

use dayfly_domain::{
    Block, BlockOn, Cause, ClientId, Command, Digest, EndClient, EndTask, Event, Moved, Name,
    Refusal, Rule, Sweep, Task, TaskId, Time, apply, decide,
};
use dayfly_store::{Append, Change, FactsQuery, Note, OpenTask, Unavailable};
use serde_json::json;

use super::acceptance::MOST_LIFE;
use super::actor::{Actor, Signature};
use super::authenticate::ended;
use super::contain::is_over;
use super::end::{ATTEMPTS, End, Ended, answer};
use super::instance::{Held, InstanceOf, Looking};
use super::moved::Over;
use super::operate::check_text;
use super::plan::drafted;
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};

/// An instance that was ended.
#[derive(Clone, Debug)]
pub struct InstanceEnded {
    /// The clients that ended, without those that were delegated from them.
    pub clients: Vec<ClientId>,
    /// In how many tasks; none where some may not have been found, because nothing could be read.
    pub tasks: Option<u64>,
    /// When.
    pub at: Time,
    /// When the last credential of these that could be accepted without asking expires, or the end
    /// where none outlives it; where some may not have been found, what none outlives.
    pub last_possible_acceptance: Time,
    /// A signed head of the ledger that holds the end, or the last one before it while the ledger is
    /// stalled; none where no head can be handed out.
    pub head: Option<String>,
    /// What keeps it from coming back, where that was wanted.
    pub block: Blocking,
    /// Whether all of it outlives this process; it is obeyed in any case.
    pub recorded: bool,
}

/// What an end has blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// Nothing.
    Nothing,
    /// This.
    On(BlockOn),
    /// The instance, or the series of the task, where it is found once the ledger can be read.
    WhenFound,
    /// Nothing yet, and nothing ever where it turns out to live in the instance of the client that it
    /// was delegated from: a client of which nothing can be read.
    IfItsOwn,
}

impl Blocking {
    fn of(on: Option<BlockOn>) -> Self {
        on.map_or(Self::Nothing, Self::On)
    }

    /// What is blocked as far as it is known.
    #[must_use]
    pub const fn on(&self) -> Option<&BlockOn> {
        match self {
            Self::Nothing | Self::WhenFound | Self::IfItsOwn => None,
            Self::On(on) => Some(on),
        }
    }
}

impl InstanceEnded {
    /// Counts what ended; what was over already, and only recorded now, did not end by this.
    fn count(&mut self, held: &[Held], now: Time) {
        let last = held.iter().filter_map(Held::last_expiry).max();
        self.last_possible_acceptance = self.last_possible_acceptance.max(last.unwrap_or(now));
        for held in held.iter().filter(|held| !is_over(&held.open, now)) {
            let task = &held.open.task;
            let numbers = held.clients.iter();
            let live = numbers.filter(|number| {
                let has_rights = held.open.stale_for(**number).is_none();
                has_rights && task.check_client(**number, now).is_ok()
            });
            let before = self.clients.len();
            self.clients
                .extend(live.map(|number| task.client_id(*number)));
            // What waits has no clients yet, and ends as a whole.
            let (earlier, new) = self.clients.split_at(before);
            let is_known = earlier.iter().any(|client| client.task == task.id);
            if (!new.is_empty() && !is_known) || task.pending().is_some() {
                self.tasks = self.tasks.map(|tasks| tasks + 1);
            }
        }
    }
}

impl App {
    /// Ends a client and what was delegated from it, for an operator. Where it is blocked, nothing
    /// is granted to its instance any more. A newer attempt of its run may start.
    ///
    /// # Errors
    /// The refusal: it is over, or the ledger cannot record.
    pub async fn end_client(
        &self,
        tenant: &Tenant,
        client: ClientId,
        block: bool,
        by: &Actor,
        reason: &str,
    ) -> Result<(Ended, Blocking), Refused> {
        let done = self.try_end_client(tenant, client, block, by, reason).await;
        done.map_err(|refusal| {
            let trail = Trail {
                asked: "operator end",
                task: Some(client.task),
                client: Some(client),
                ..Trail::default()
            };
            self.refuse(tenant, &trail, refusal)
        })
    }

    async fn try_end_client(
        &self,
        tenant: &Tenant,
        client: ClientId,
        block: bool,
        by: &Actor,
        reason: &str,
    ) -> Result<(Ended, Blocking), Refusal> {
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        for _ in 0..ATTEMPTS {
            let open = match self.look_up(tenant, client.task) {
                Ok(Some(open)) => open,
                Ok(None) => return Err(self.not_open(tenant, client.task).await),
                Err(why) => {
                    return self
                        .end_client_unread(tenant, client, block, &signed, why)
                        .await;
                }
            };
            let now = self.now_for_ends();
            let mut append = Append {
                now,
                ..Append::default()
            };
            let held = Held {
                open,
                clients: BTreeSet::from([client.number]),
            };
            let Some(change) = self.cut(tenant, &held, &signed, now)? else {
                held.open.task.check_client(client.number, now)?;
                return Err(ended("the client is over"));
            };
            let answer = answer(&change.next, End::Client(client))?;
            append.changes.push(change);
            let on = block.then(|| own_instance(&held.open.task, client.number));
            let on = on.transpose()?;
            if let Some(on) = on.as_ref().filter(|on| !self.stands(tenant, on)) {
                block_on(&mut append, on, Some(client.task), &signed)?;
            }
            match self.held.end(tenant.name(), append).await {
                Ok(done) => {
                    let answer = self.with_head(tenant, answer);
                    // A block that stands already may be held without the journal.
                    let recorded = done.is_durable() && self.held.keeps_all(tenant.name()).await;
                    return Ok((Ended { recorded, ..answer }, Blocking::of(on)));
                }
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
        }
        Err(unavailable(&"the task did not stand still"))
    }

    pub(super) fn look_up(
        &self,
        tenant: &Tenant,
        task: TaskId,
    ) -> Result<Option<OpenTask>, Unavailable> {
        let query = FactsQuery {
            tasks: &[task],
            ..FactsQuery::default()
        };
        let facts = self.store.facts(tenant.name(), &query)?;
        Ok(facts.tasks.into_iter().flatten().next())
    }

    /// Ends every client of an instance, whatever tasks they are in, by one append. Where it is
    /// blocked, nothing is granted to it any more.
    ///
    /// # Errors
    /// The refusal: nothing is open of it and no block is wanted, it is not known whose it is, or
    /// the ledger cannot record.
    pub async fn end_instance(
        &self,
        tenant: &Tenant,
        what: &InstanceOf,
        block: bool,
        by: &Actor,
        reason: &str,
    ) -> Result<InstanceEnded, Refused> {
        let done = self.try_end_instance(tenant, what, block, by, reason).await;
        done.map_err(|refusal| self.refuse(tenant, &trail(), refusal))
    }

    async fn try_end_instance(
        &self,
        tenant: &Tenant,
        what: &InstanceOf,
        block: bool,
        by: &Actor,
        reason: &str,
    ) -> Result<InstanceEnded, Refusal> {
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        check_text(&what.instance)?;
        check_issuer(tenant, what)?;
        let mut done: Option<InstanceEnded> = None;
        for _ in 0..ATTEMPTS {
            let held = match (self.of_instance(tenant, what).await, &mut done) {
                (Ok(held), _) => held,
                (Err(why), None) => {
                    return self.cut_unread(tenant, what, block, &signed, why).await;
                }
                // The block stands. Who slipped in before it gets nothing further.
                (Err(_), Some(done)) => {
                    done.tasks = None;
                    done.last_possible_acceptance = self.now() + MOST_LIFE;
                    break;
                }
            };
            let now = self.now_for_ends();
            let mut append = Append {
                now,
                ..Append::default()
            };
            for held in &held {
                append.changes.extend(self.cut(tenant, held, &signed, now)?);
            }
            let on = match &done {
                Some(_) if append.changes.is_empty() => {
                    // The look after the block has found nobody who slipped in before it.
                    break;
                }
                Some(done) => done.block.on().cloned(),
                None if block => Some(blocked_instance(tenant, what, &held)?),
                None if append.changes.is_empty() => return Err(nothing_open(what)),
                None => None,
            };
            let unset = on
                .as_ref()
                .filter(|on| done.is_none() && !self.stands(tenant, on));
            if let Some(on) = unset {
                block_on(&mut append, on, None, &signed)?;
            }
            match self.held.end(tenant.name(), append).await {
                Ok(acknowledged) => {
                    let done = done.get_or_insert(InstanceEnded {
                        clients: Vec::new(),
                        tasks: Some(0),
                        at: now,
                        last_possible_acceptance: now,
                        head: None,
                        block: Blocking::of(on),
                        recorded: true,
                    });
                    done.recorded &= acknowledged.is_durable();
                    done.count(&held, now);
                    if !block {
                        break;
                    }
                }
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
        }
        let mut done = done.ok_or_else(|| unavailable(&"the tasks did not stand still"))?;
        done.recorded &= self.held.keeps_all(tenant.name()).await;
        let head = self.last_head_note(tenant);
        Ok(InstanceEnded { head, ..done })
    }

    /// Whether a block stands already, which then stays as it is.
    fn stands(&self, tenant: &Tenant, on: &BlockOn) -> bool {
        // Where nothing can be read it is not known to stand, and is set all the same.
        let blocks = self.blocks_that_stand(tenant);
        blocks.unwrap_or_default().stands(on)
    }

    /// Where an instance has active clients. It may take its time, on a thread that may wait.
    async fn of_instance(
        &self,
        tenant: &Tenant,
        what: &InstanceOf,
    ) -> Result<Vec<Held>, Unavailable> {
        let looking = self.looking(tenant, what);
        tokio::task::spawn_blocking(move || looking.held())
            .await
            .map_err(|why| Unavailable(why.to_string()))?
    }

    pub(super) fn looking(&self, tenant: &Tenant, what: &InstanceOf) -> Looking {
        Looking {
            store: Arc::clone(&self.store),
            tenant: tenant.name().clone(),
            what: what.clone(),
            since: self.held.open_since(),
        }
    }

    /// The change that ends these clients of a task; none where all of them have expired, for an end
    /// has entries.
    fn cut(
        &self,
        tenant: &Tenant,
        held: &Held,
        signed: &Signature,
        now: Time,
    ) -> Result<Option<Change>, Refusal> {
        let task = &held.open.task;
        let moves = self.moves_of_one(tenant, &held.open)?;
        let over = moves.over(&held.open, now);
        let events = cut_events(&held.open, &held.clients, &over, signed.by(), now)?;
        if events.is_empty() {
            return Ok(None);
        }
        drafted(Some(task.clone()), task.id, events, |event| {
            let own = || signed.annex().map_err(|why| unavailable(&why));
            moves.annex((&held.open, &over), event, now, own)
        })
        .map(Some)
    }
}

/// What ends these clients of a task, or the whole of it where it waits for people.
pub(super) fn cut_events(
    open: &OpenTask,
    clients: &BTreeSet<u32>,
    over: &Over,
    by: Option<Digest>,
    now: Time,
) -> Result<Vec<Event>, Refusal> {
    let (task, heard) = (&open.task, open.heard);
    if over.moved.is_some() {
        // It is over already: what came first names the end.
        let moved = over.moved;
        let fallen = &[];
        let sweep = Sweep {
            now,
            heard,
            moved,
            fallen,
        };
        return decide(Some(task), &Command::Sweep(sweep));
    }
    let cause = Cause::Operator;
    if clients.is_empty() {
        // No client has come in yet: what waits ends as a whole.
        let end = EndTask {
            now,
            heard,
            cause,
            by,
        };
        return decide(Some(task), &Command::EndTask(end));
    }
    let mut events: Vec<Event> = Vec::new();
    let mut state = task.clone();
    for client in clients.iter().copied() {
        // What has expired below its task is over, and holds up nobody else's end.
        if state.check_client(client, now).is_err() {
            continue;
        }
        let chain = || task.chain(client).map(|(number, _)| number);
        let lost = over.fallen.iter();
        let lost = lost.filter(|(number, _)| chain().any(|above| above == *number));
        let fallen: Vec<(u32, Moved)> = lost.copied().collect();
        let command = if fallen.is_empty() {
            Command::EndClient(EndClient {
                now,
                heard,
                client,
                cause,
                by,
            })
        } else {
            // So is a client that lost its own rights, or one above it.
            Command::Sweep(Sweep {
                now,
                heard,
                moved: None,
                fallen: &fallen,
            })
        };
        let more = decide(Some(&state), &command)?;
        for event in &more {
            state = apply(Some(state), task.id, event)
                .ok_or_else(|| unavailable(&"an event does not fit its task"))?;
        }
        events.extend(more);
        if !state.is_open() {
            break;
        }
    }
    Ok(events)
}

/// The block on the instance of a client. One that it shares with the client it was delegated from
/// is not its own: to block it would end that one too.
pub(super) fn own_instance(task: &Task, number: u32) -> Result<BlockOn, Refusal> {
    let client = task
        .client(number)
        .ok_or_else(|| unavailable(&"a client that is not there"))?;
    let issuer = task.vouched_by(number);
    let shared = client.parent.is_some_and(|parent| {
        let above = task.client(parent);
        above.is_some_and(|above| above.instance == client.instance)
            && task.vouched_by(parent) == issuer
    });
    if shared {
        return Err(Refusal::new(Rule::Invalid)
            .field("block")
            .wanted("a client with an instance of its own")
            .got("one that was delegated within its instance")
            .hint("end it without a block, or end and block the client it was delegated from"));
    }
    Ok(BlockOn::Instance {
        issuer: issuer.clone(),
        instance: client.instance.clone(),
    })
}

/// The block on an instance: of the issuer that is named, or whose clients are open, or the only
/// one that is declared.
pub(super) fn blocked_instance(
    tenant: &Tenant,
    what: &InstanceOf,
    held: &[Held],
) -> Result<BlockOn, Refusal> {
    let loaded = tenant.loaded();
    let declared = &loaded.declared.issuers;
    let mut open: Vec<&Name> = held.iter().flat_map(Held::vouched_by).collect();
    open.sort_unstable();
    open.dedup();
    let one = |names: Vec<&Name>| match names.as_slice() {
        [only] => Some((*only).clone()),
        [] | [_, _, ..] => None,
    };
    check_issuer(tenant, what)?;
    let issuer = match &what.issuer {
        Some(named) => Some(named.clone()),
        None if open.is_empty() => one(declared.keys().collect()),
        None => one(open),
    };
    let issuer = issuer.ok_or_else(|| {
        Refusal::new(Rule::Invalid)
            .field("issuer")
            .wanted("the declared issuer that vouches for the instance")
            .got("none")
            .hint("name it with --issuer")
    })?;
    Ok(BlockOn::Instance {
        issuer,
        instance: what.instance.clone(),
    })
}

/// Checks that an issuer that is named is declared: a slip of the pen must not pass for an end.
pub(super) fn check_issuer(tenant: &Tenant, what: &InstanceOf) -> Result<(), Refusal> {
    let loaded = tenant.loaded();
    let declared = |issuer: &Name| loaded.declared.issuers.contains_key(issuer);
    match what.issuer.as_ref().filter(|issuer| !declared(issuer)) {
        None => Ok(()),
        Some(issuer) => Err(Refusal::new(Rule::NotFound)
            .field("issuer")
            .wanted("a declared issuer")
            .got(issuer.as_str())),
    }
}

pub(super) fn nothing_open(what: &InstanceOf) -> Refusal {
    Refusal::new(Rule::NotFound)
        .field("instance")
        .wanted("an instance with an active client")
        .got(what.instance.as_str())
        .hint("`--block` keeps one from starting that has not started yet")
}

/// Has an append set a block that an operator wants, with who and why.
pub(super) fn block_on(
    append: &mut Append,
    on: &BlockOn,
    task: Option<TaskId>,
    signed: &Signature,
) -> Result<(), Refusal> {
    let mut data = json!({"on": on.to_string(), "about": task});
    if task.is_none()
        && let Some(members) = data.as_object_mut()
    {
        members.remove("about");
    }
    append.notes.push(Note {
        kind: "block.set",
        data: signed.sign(data),
        annex: Some(signed.annex().map_err(|why| unavailable(&why))?),
    });
    // Nobody sets it twice: whoever was first is seen by the next look.
    append.unblocked.push(on.clone());
    append.blocks.push(Block {
        on: on.clone(),
        task,
        since: append.now,
    });
    Ok(())
}

pub(super) fn trail() -> Trail {
    Trail {
        asked: "operator end",
        ..Trail::default()
    }
}
