//! Ends by an operator's hand below a task: of one client, or of everything of one instance.

use dayfly_domain::{
    Block, BlockOn, Cause, ClientId, Command, EndClient, EndTask, Event, Name, Refusal, Rule,
    Sweep, Task, TaskId, Time, apply, decide,
};
use dayfly_store::{
    Append, Change, EntryRange, FactsQuery, Note, OpenTask, SearchKey, Unavailable,
};
use serde_json::json;

use super::actor::{Actor, Signature};
use super::authenticate::ended;
use super::contain::{WouldEnd, is_over};
use super::end::{ATTEMPTS, End, Ended};
use super::plan::drafted;
use super::refuse::{Refused, Trail, unavailable};
use super::sweep::LONGEST_OPEN;
use super::{App, Tenant};

/// How many entries of an instance are looked at together.
const PAGE: usize = 256;

/// A job, pod or process, of one issuer or of whichever vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceOf {
    /// The issuer; none where the only one that is meant is found by what is open or declared.
    pub issuer: Option<Name>,
    /// The instance.
    pub instance: String,
}

/// An instance that was ended.
#[derive(Clone, Debug)]
pub struct InstanceEnded {
    /// The clients that ended, without those that were delegated from them.
    pub clients: Vec<ClientId>,
    /// In how many tasks.
    pub tasks: u64,
    /// When.
    pub at: Time,
    /// The block that keeps it from coming back, where one was wanted.
    pub block: Option<BlockOn>,
    /// Whether all of it outlives this process; it is obeyed in any case.
    pub recorded: bool,
}

/// The clients of an instance in one open task; none where it asked for a task that waits.
struct Held {
    open: OpenTask,
    clients: Vec<u32>,
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
    ) -> Result<(Ended, Option<BlockOn>), Refused> {
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
    ) -> Result<(Ended, Option<BlockOn>), Refusal> {
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        for _ in 0..ATTEMPTS {
            let open = self
                .open_task(tenant, client.task)?
                .ok_or_else(|| ended("no open task by its id"))?;
            let now = self.now();
            let mut append = Append {
                now,
                ..Append::default()
            };
            let held = Held {
                open,
                clients: vec![client.number],
            };
            let change = self.cut(tenant, &held, &signed, now)?;
            let after = change.next.clone();
            append.changes.push(change);
            let on = block.then(|| own_instance(&held.open.task, client.number));
            let on = on.transpose()?;
            if let Some(on) = &on {
                block_on(&mut append, on, Some(client.task), &signed)?;
            }
            match self.held.end(tenant.name(), append).await {
                Ok(done) => {
                    let answer = self.answer_of(tenant, &after, End::Client(client))?;
                    let recorded = done.is_durable();
                    return Ok((Ended { recorded, ..answer }, on));
                }
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
        }
        Err(unavailable(&"the task did not stand still"))
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
        let mut done: Option<InstanceEnded> = None;
        for _ in 0..ATTEMPTS {
            let held = self.of_instance(tenant, what);
            let held = held.map_err(|why| unavailable(&why))?;
            let now = self.now();
            let mut append = Append {
                now,
                ..Append::default()
            };
            for held in &held {
                append.changes.push(self.cut(tenant, held, &signed, now)?);
            }
            let first = done.is_none();
            let on = match &done {
                None if block => Some(blocked_instance(tenant, what, &held)?),
                None => None,
                Some(done) => done.block.clone(),
            };
            if first {
                if append.changes.is_empty() && !block {
                    return Err(nothing_open(what));
                }
                if let Some(on) = &on {
                    block_on(&mut append, on, None, &signed)?;
                }
            } else if append.changes.is_empty() {
                // The look after the block has found nobody who slipped in before it.
                break;
            }
            match self.held.end(tenant.name(), append).await {
                Ok(acknowledged) => {
                    let done = done.get_or_insert(InstanceEnded {
                        clients: Vec::new(),
                        tasks: 0,
                        at: now,
                        block: on,
                        recorded: true,
                    });
                    done.recorded &= acknowledged.is_durable();
                    done.tasks += u64::try_from(held.len()).unwrap_or(u64::MAX);
                    let clients = held.iter().flat_map(|held| {
                        let numbers = held.clients.iter();
                        numbers.map(|number| held.open.task.client_id(*number))
                    });
                    done.clients.extend(clients);
                    if !block {
                        break;
                    }
                }
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
        }
        done.ok_or_else(|| unavailable(&"the tasks did not stand still"))
    }

    /// What the end of a client would take.
    ///
    /// # Errors
    /// The refusal: it is over, or the store cannot answer.
    pub fn client_would_end(&self, tenant: &Tenant, client: ClientId) -> Result<WouldEnd, Refused> {
        let counted = self.try_client_would_end(tenant, client);
        counted.map_err(|refusal| self.refuse(tenant, &trail(), refusal))
    }

    fn try_client_would_end(&self, tenant: &Tenant, client: ClientId) -> Result<WouldEnd, Refusal> {
        let now = self.now();
        let open = self
            .open_task(tenant, client.task)?
            .filter(|open| !is_over(open, now))
            .ok_or_else(|| ended("no open task by its id"))?;
        open.task.check_client(client.number, now)?;
        let mut count = WouldEnd::default();
        count.count(&open.task, now, |number| {
            is_under(&open.task, number, &[client.number])
        });
        Ok(count)
    }

    /// What the end of a task would take.
    ///
    /// # Errors
    /// The refusal: it is over, or the store cannot answer.
    pub fn task_would_end(&self, tenant: &Tenant, task: TaskId) -> Result<WouldEnd, Refused> {
        let now = self.now();
        let open = self.open_task(tenant, task).and_then(|open| {
            open.filter(|open| !is_over(open, now))
                .ok_or_else(|| ended("no open task by its id"))
        });
        let open = open.map_err(|refusal| self.refuse(tenant, &trail(), refusal))?;
        let mut count = WouldEnd::default();
        count.count(&open.task, now, |_| true);
        Ok(count)
    }

    /// What the end of an instance would take.
    ///
    /// # Errors
    /// The store cannot answer.
    pub fn instance_would_end(
        &self,
        tenant: &Tenant,
        what: &InstanceOf,
    ) -> Result<WouldEnd, Refused> {
        let held = self.of_instance(tenant, what);
        let held = held.map_err(|why| self.refuse(tenant, &trail(), unavailable(&why)))?;
        let now = self.now();
        let mut count = WouldEnd::default();
        for Held { open, clients } in held.iter().filter(|held| !is_over(&held.open, now)) {
            count.count(&open.task, now, |number| {
                is_under(&open.task, number, clients)
            });
        }
        Ok(count)
    }

    /// The change that ends these clients of a task.
    fn cut(
        &self,
        tenant: &Tenant,
        held: &Held,
        signed: &Signature,
        now: Time,
    ) -> Result<Change, Refusal> {
        let (task, heard) = (&held.open.task, held.open.heard);
        let events = match self.moved(tenant, &held.open)? {
            // It is over already: what came first names the end.
            moved @ Some(_) => {
                let fallen = &[];
                let sweep = Sweep {
                    now,
                    heard,
                    moved,
                    fallen,
                };
                decide(Some(task), &Command::Sweep(sweep))?
            }
            // No client has come in yet: what waits ends as a whole.
            None if held.clients.is_empty() => decide(
                Some(task),
                &Command::EndTask(EndTask {
                    now,
                    heard,
                    cause: Cause::Operator,
                    by: signed.by(),
                }),
            )?,
            None => {
                let mut events: Vec<Event> = Vec::new();
                let mut state = task.clone();
                for number in &held.clients {
                    // What has expired below its task is over, and holds up nobody else's end.
                    if state.check_client(*number, now).is_err() {
                        continue;
                    }
                    let more = decide(
                        Some(&state),
                        &Command::EndClient(EndClient {
                            now,
                            heard,
                            client: *number,
                            cause: Cause::Operator,
                            by: signed.by(),
                        }),
                    )?;
                    for event in &more {
                        state = apply(Some(state), task.id, event)
                            .ok_or_else(|| unavailable(&"an event does not fit its task"))?;
                    }
                    events.extend(more);
                    if !state.is_open() {
                        break;
                    }
                }
                events
            }
        };
        drafted(Some(task), task.id, events, |_| {
            signed.annex().map(Some).map_err(|why| unavailable(&why))
        })
    }

    /// The open tasks with active clients of an instance, or whose approval it waits for, and these, those above others only. The
    /// index tells where to look, whatever is open; where it does not answer, everything open is
    /// looked through.
    fn of_instance(&self, tenant: &Tenant, what: &InstanceOf) -> Result<Vec<Held>, Unavailable> {
        let mut found = Vec::new();
        let mut take = |open: OpenTask| {
            let of_issuer = |issuer: &Name| *issuer == open.task.issuer;
            if !what.issuer.as_ref().is_none_or(of_issuer) {
                return;
            }
            let clients = uppermost(&open.task, &what.instance);
            if !clients.is_empty() || waits_for(&open.task, &what.instance) {
                found.push(Held { open, clients });
            }
        };
        if let Ok(tasks) = self.tasks_of_instance(tenant, &what.instance) {
            let query = FactsQuery {
                tasks: &tasks,
                ..FactsQuery::default()
            };
            let open = self.store.facts(tenant.name(), &query)?.tasks;
            open.into_iter().flatten().for_each(&mut take);
        } else {
            self.each_open(tenant, |open| take(open.clone()))?;
        }
        Ok(found)
    }

    /// The tasks in which an instance came in lately enough for them to be open.
    fn tasks_of_instance(
        &self,
        tenant: &Tenant,
        instance: &str,
    ) -> Result<Vec<TaskId>, Unavailable> {
        let key = SearchKey::Instance(instance.to_owned());
        let since = self.now() - LONGEST_OPEN;
        let mut tasks: Vec<TaskId> = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.store.find(tenant.name(), &key, cursor, PAGE)?;
            for pos in &page {
                let range = EntryRange::From(*pos);
                let entries = self.store.entries(tenant.name(), range, 1)?;
                let Some(leaf) = entries.first().and_then(|entry| read_leaf(&entry.leaf)) else {
                    continue;
                };
                if leaf.at < since {
                    return Ok(tasks);
                }
                tasks.extend(leaf.task.filter(|task| !tasks.contains(task)));
            }
            match page.last() {
                Some(last) => cursor = Some(*last),
                None => return Ok(tasks),
            }
        }
    }
}

/// What of a leaf says where to look.
#[derive(serde::Deserialize)]
struct Leaf {
    task: Option<TaskId>,
    at: Time,
}

fn read_leaf(leaf: &str) -> Option<Leaf> {
    serde_json::from_str(leaf).ok()
}

/// Whether it is this instance that asked for the approval that a task waits for.
fn waits_for(task: &Task, instance: &str) -> bool {
    task.pending()
        .is_some_and(|pending| pending.instance == instance)
}

/// The active clients of an instance in a task, without those below others of it.
fn uppermost(task: &Task, instance: &str) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    for (number, client) in (1u32..).zip(&task.clients) {
        if client.instance == instance && client.is_active() && !is_under(task, number, &found) {
            found.push(number);
        }
    }
    found
}

/// Whether a client is one of these or was delegated from one of them.
fn is_under(task: &Task, number: u32, of: &[u32]) -> bool {
    let mut at = Some(number);
    // INVARIANT: the walk goes on only to a lower number, so it ends.
    while let Some(number) = at {
        if of.contains(&number) {
            return true;
        }
        at = task
            .client(number)
            .and_then(|client| client.parent)
            .filter(|parent| *parent < number);
    }
    false
}

/// The block on the instance of a client. One that it shares with the client it was delegated from
/// is not its own: to block it would end that one too.
fn own_instance(task: &Task, number: u32) -> Result<BlockOn, Refusal> {
    let client = task
        .client(number)
        .ok_or_else(|| unavailable(&"a client that is not there"))?;
    let shared = client
        .parent
        .and_then(|parent| task.client(parent))
        .is_some_and(|parent| parent.instance == client.instance);
    if shared {
        return Err(Refusal::new(Rule::Invalid)
            .field("block")
            .wanted("a client with an instance of its own")
            .got("one that was delegated within its instance")
            .hint("end it without a block, or end and block the client it was delegated from"));
    }
    Ok(BlockOn::Instance {
        issuer: task.issuer.clone(),
        instance: client.instance.clone(),
    })
}

/// The block on an instance: of the issuer that is named, or whose clients are open, or the only
/// one that is declared.
fn blocked_instance(tenant: &Tenant, what: &InstanceOf, held: &[Held]) -> Result<BlockOn, Refusal> {
    let loaded = tenant.loaded();
    let declared = &loaded.declared.issuers;
    let mut open: Vec<&Name> = held.iter().map(|held| &held.open.task.issuer).collect();
    open.sort_unstable();
    open.dedup();
    let one = |names: Vec<&Name>| match names.as_slice() {
        [only] => Some((*only).clone()),
        [] | [_, _, ..] => None,
    };
    let issuer = match &what.issuer {
        Some(named) => declared.contains_key(named).then(|| named.clone()),
        None if open.is_empty() => one(declared.keys().collect()),
        None => one(open),
    };
    let issuer = issuer.ok_or_else(|| {
        let got = what.issuer.as_ref().map_or("none", Name::as_str);
        Refusal::new(Rule::Invalid)
            .field("issuer")
            .wanted("the declared issuer that vouches for the instance")
            .got(got)
            .hint("name it with --issuer")
    })?;
    Ok(BlockOn::Instance {
        issuer,
        instance: what.instance.clone(),
    })
}

fn nothing_open(what: &InstanceOf) -> Refusal {
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
    if let (BlockOn::Instance { instance, .. }, Some(members)) = (on, data.as_object_mut()) {
        members.insert("instance".to_owned(), instance.as_str().into());
    }
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
    append.blocks.push(Block {
        on: on.clone(),
        task,
        since: append.now,
    });
    Ok(())
}

fn trail() -> Trail {
    Trail {
        asked: "operator end",
        ..Trail::default()
    }
}
