//! An end by hand of what could not be looked up: it is obeyed wherever it is met, and recorded where it is found.

use std::collections::BTreeSet;

use dayfly_domain::{
    Block, BlockOn, Blocks, Cause, ClientId, Digest, Name, Refusal, Task, TaskId, Time, apply,
};
use dayfly_store::{Annex, Append, Note, OpenTask, Unavailable};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::actor::Signature;
use super::cut::{Blocking, InstanceEnded, block_on, blocked_instance, cut_events, own_instance};
use super::end::Ended;
use super::ending::series_of;
use super::instance::{InstanceOf, held_in};
use super::moved::{Moves, Over};
use super::plan::drafted;
use super::refuse::unavailable;
use super::{App, Tenant};
use crate::random;

/// What ends by somebody's hand, whatever task it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sought {
    pub(super) what: What,
    /// When it was acknowledged.
    pub(super) at: Time,
    /// Who ended it, as a leaf may hold a person.
    by: Option<Digest>,
    /// Who and why.
    annex: String,
    /// Whether what is found is blocked as well: the series of a task, the instance of a client.
    #[serde(default, skip_serializing_if = "is_not")]
    block: bool,
}

/// What is to be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum What {
    /// A task.
    Task(TaskId),
    /// A client, with what was delegated from it.
    Client(ClientId),
    /// Every client of a job, pod or process, of one issuer or of whichever vouches for it.
    Instance {
        /// The issuer.
        issuer: Option<Name>,
        /// The instance.
        instance: String,
    },
}

impl App {
    /// Ends a client although nothing can be read: it is held, and found when the ledger is back.
    /// Which instance it has is not known before, and where it is to be blocked it is then.
    pub(super) async fn end_client_unread(
        &self,
        tenant: &Tenant,
        client: ClientId,
        block: bool,
        signed: &Signature,
        why: Unavailable,
    ) -> Result<(Ended, Blocking), Refusal> {
        let what = What::Client(client);
        let mut ended = self
            .end_unread(tenant, (what, client.task), block, signed, why)
            .await;
        ended.client = Some(client);
        let blocking = if block {
            Blocking::IfItsOwn
        } else {
            Blocking::Nothing
        };
        Ok((ended, blocking))
    }

    /// Ends a task although nothing can be read. Its series, which is not known before, is blocked
    /// when it is found.
    pub(super) async fn end_task_unread(
        &self,
        tenant: &Tenant,
        task: TaskId,
        signed: &Signature,
        why: Unavailable,
    ) -> Result<Ended, Refusal> {
        let what = What::Task(task);
        let ended = self
            .end_unread(tenant, (what, task), true, signed, why)
            .await;
        Ok(Ended {
            task_ended: true,
            block: Blocking::WhenFound,
            ..ended
        })
    }

    async fn end_unread(
        &self,
        tenant: &Tenant,
        (what, task): (What, TaskId),
        block: bool,
        signed: &Signature,
        why: Unavailable,
    ) -> Ended {
        let at = self.now();
        let append = Append {
            now: at,
            ..Append::default()
        };
        let sought = Sought::new(what, block, at, signed);
        let held = self.held.hold_sought(tenant.name(), &append, sought, why);
        let recorded = held.await.is_durable();
        Ended {
            task,
            client: None,
            cause: Cause::Operator,
            at,
            // None of its credentials outlives the longest window there is.
            last_possible_acceptance: at + tenant.context().bounds.window_max,
            task_ended: false,
            block: Blocking::Nothing,
            head: self.last_head_note(tenant),
            recorded,
        }
    }

    /// Ends an instance although nothing can be read, and blocks it where that is wanted: what is
    /// open of it is over, and it is not known which tasks that are. Where it is not known either
    /// whose instance it is, it is blocked when it is found.
    pub(super) async fn cut_unread(
        &self,
        tenant: &Tenant,
        what: &InstanceOf,
        block: bool,
        signed: &Signature,
        why: Unavailable,
    ) -> Result<InstanceEnded, Refusal> {
        let block = if !block {
            Blocking::Nothing
        } else {
            match blocked_instance(tenant, what, &[]) {
                Ok(on) => Blocking::On(on),
                Err(_) if what.issuer.is_none() => Blocking::WhenFound,
                Err(refusal) => return Err(refusal),
            }
        };
        let now = self.now();
        let mut append = Append {
            now,
            ..Append::default()
        };
        if let Some(on) = block.on() {
            block_on(&mut append, on, None, signed)?;
        }
        let when_found = block == Blocking::WhenFound;
        let sought = Sought::new(What::from(what), when_found, now, signed);
        let done = self.held.hold_sought(tenant.name(), &append, sought, why);
        Ok(InstanceEnded {
            clients: Vec::new(),
            tasks: None,
            at: now,
            // None of its credentials outlives the longest window there is.
            last_possible_acceptance: now + tenant.context().bounds.window_max,
            head: self.last_head_note(tenant),
            block,
            recorded: done.await.is_durable(),
        })
    }
}

impl From<&InstanceOf> for What {
    fn from(what: &InstanceOf) -> Self {
        Self::Instance {
            issuer: what.issuer.clone(),
            instance: what.instance.clone(),
        }
    }
}

impl Sought {
    pub(super) fn new(what: What, block: bool, at: Time, signed: &Signature) -> Self {
        Self {
            what,
            at,
            by: signed.by(),
            annex: signed.json().to_string(),
            block,
        }
    }

    /// What an open task is by it.
    pub(super) fn cover(&self, open: &mut OpenTask) -> Result<(), Unavailable> {
        let wrong = |why: &dyn std::fmt::Display| Unavailable(why.to_string());
        let Some(clients) = self.concerned(&open.task) else {
            return Ok(());
        };
        let events = cut_events(open, &clients, &Over::default(), self.by, self.at);
        for event in events.map_err(|why| wrong(&why))? {
            let id = open.task.id;
            open.task = apply(Some(open.task.clone()), id, &event)
                .ok_or_else(|| wrong(&"an end does not fit its task"))?;
        }
        Ok(())
    }

    /// Adds to an append what ends of these open tasks, and what is to be blocked with it and is not
    /// yet. The moves say of each what is over already, where rights were taken away.
    pub(super) fn add_to(
        &self,
        append: &mut Append,
        (open, moves): (Vec<OpenTask>, &Moves),
        standing: &Blocks,
    ) -> Result<(), Refusal> {
        for mut open in open {
            let id = open.task.id;
            let begun = append.changes.iter_mut().find(|change| change.task == id);
            // What ends of it already is not all of it.
            if let Some(begun) = &begun {
                open.task = begun.next.clone();
            }
            let Some(clients) = self.concerned(&open.task) else {
                continue;
            };
            let over = moves.over(&open, self.at);
            let events = cut_events(&open, &clients, &over, self.by, self.at)?;
            if events.is_empty() {
                continue;
            }
            if self.block {
                self.block(append, &open.task, standing)?;
            }
            let begun = append.changes.iter_mut().find(|change| change.task == id);
            let more = drafted(Some(open.task.clone()), id, events, |event| {
                moves.annex((&open, &over), event, self.at, || self.annex())
            })?;
            match begun {
                Some(begun) => {
                    begun.events.extend(more.events);
                    begun.next = more.next;
                }
                None => append.changes.push(more),
            }
        }
        Ok(())
    }

    /// Has an append block what was found, unless it is.
    fn block(&self, append: &mut Append, task: &Task, standing: &Blocks) -> Result<(), Refusal> {
        let about = match &self.what {
            What::Task(_) | What::Client(_) => Some(task.id),
            What::Instance { .. } => None,
        };
        for on in self.blocks(task) {
            if standing.stands(&on) || append.blocks.iter().any(|block| block.on == on) {
                continue;
            }
            let mut data = json!({ "on": on.to_string() });
            if let Some(members) = data.as_object_mut() {
                let about = about.map(|task| ("about".to_owned(), task.to_string().into()));
                let by = self.by.map(|by| ("by".to_owned(), by.to_string().into()));
                members.extend(about.into_iter().chain(by));
            }
            append.notes.push(Note {
                kind: "block.set",
                data: data.to_string(),
                annex: Some(self.annex()?),
            });
            append.blocks.push(Block {
                on,
                task: about,
                since: self.at,
            });
        }
        Ok(())
    }

    /// What is to be blocked of a task in which it was found: of an instance, that of each issuer that
    /// vouches for it there.
    fn blocks(&self, task: &Task) -> Vec<BlockOn> {
        match &self.what {
            What::Task(_) => vec![series_of(task)],
            What::Client(client) => match own_instance(task, client.number) {
                Ok(on) => vec![on],
                Err(why) => {
                    tracing::error!(%client, %why, "a held end is recorded without the block that was wanted");
                    Vec::new()
                }
            },
            What::Instance { issuer, instance } => {
                let clients = held_in(task, issuer.as_ref(), instance).unwrap_or_default();
                let waits = task.pending().map(|_| &task.issuer);
                let clients = clients.iter().map(|number| task.vouched_by(*number));
                let issuers: BTreeSet<&Name> = waits.into_iter().chain(clients).collect();
                let on = |issuer: &Name| BlockOn::Instance {
                    issuer: issuer.clone(),
                    instance: instance.clone(),
                };
                issuers.into_iter().map(on).collect()
            }
        }
    }

    /// The active clients in a task that it ends, without those below others of them: none of them
    /// where the task waits for people and ends as a whole, and nothing where it ends none of it.
    fn concerned(&self, task: &Task) -> Option<BTreeSet<u32>> {
        if task.has_ended() {
            return None;
        }
        match &self.what {
            What::Task(id) => (*id == task.id).then(BTreeSet::new),
            What::Client(client) => {
                let active = task
                    .client(client.number)
                    .is_some_and(|found| found.is_active());
                (client.task == task.id && active).then(|| BTreeSet::from([client.number]))
            }
            What::Instance { issuer, instance } => held_in(task, issuer.as_ref(), instance),
        }
    }

    fn annex(&self) -> Result<Annex, Refusal> {
        Ok(Annex {
            salt: random::bytes().map_err(|why| unavailable(&why))?,
            data: self.annex.clone(),
        })
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
const fn is_not(block: &bool) -> bool {
    !*block
}
