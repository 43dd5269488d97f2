//! An end by hand of what could not be looked up: it is obeyed wherever it is met, and recorded where it is found.

use std::collections::BTreeSet;

use dayfly_domain::{Cause, ClientId, Digest, Name, Refusal, Task, Time, apply};
use dayfly_store::{Annex, Append, OpenTask, Unavailable};
use serde::{Deserialize, Serialize};

use super::actor::Signature;
use super::cut::{InstanceEnded, block_on, blocked_instance, cut_events};
use super::end::Ended;
use super::instance::{InstanceOf, uppermost};
use super::moved::Taken;
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
}

/// What is to be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum What {
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
    /// Which instance it has is not known, so none is blocked.
    pub(super) async fn end_unread(
        &self,
        tenant: &Tenant,
        client: ClientId,
        block: bool,
        signed: &Signature,
        why: Unavailable,
    ) -> Result<Ended, Refusal> {
        if block {
            return Err(unavailable(&why).hint(
                "end it without `--block`, and block its instance with `instance end --block`",
            ));
        }
        let at = self.now();
        let append = Append {
            now: at,
            ..Append::default()
        };
        let sought = Sought::new(What::Client(client), at, signed);
        let held = self.held.hold_sought(tenant.name(), &append, sought, why);
        let recorded = held.await.is_durable();
        Ok(Ended {
            task: client.task,
            client: Some(client),
            cause: Cause::Operator,
            at,
            // None of its credentials outlives the longest window there is.
            last_possible_acceptance: at + tenant.context().bounds.window_max,
            task_ended: false,
            head: self.last_head_note(tenant),
            recorded,
        })
    }

    /// Ends an instance although nothing can be read, and blocks it where that is wanted: what is
    /// open of it is over, and it is not known which tasks that are.
    pub(super) async fn cut_unread(
        &self,
        tenant: &Tenant,
        what: &InstanceOf,
        block: bool,
        signed: &Signature,
        why: Unavailable,
    ) -> Result<InstanceEnded, Refusal> {
        let on = block.then(|| blocked_instance(tenant, what, &[]));
        let on = on.transpose()?;
        let now = self.now();
        let mut append = Append {
            now,
            ..Append::default()
        };
        if let Some(on) = &on {
            block_on(&mut append, on, None, signed)?;
        }
        let sought = Sought::new(What::from(what), now, signed);
        let done = self.held.hold_sought(tenant.name(), &append, sought, why);
        Ok(InstanceEnded {
            clients: Vec::new(),
            tasks: None,
            at: now,
            block: on,
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
    pub(super) fn new(what: What, at: Time, signed: &Signature) -> Self {
        Self {
            what,
            at,
            by: signed.by(),
            annex: signed.json().to_string(),
        }
    }

    /// What an open task is by it.
    pub(super) fn cover(&self, open: &mut OpenTask) -> Result<(), Unavailable> {
        let wrong = |why: &dyn std::fmt::Display| Unavailable(why.to_string());
        let Some(clients) = self.concerned(&open.task) else {
            return Ok(());
        };
        let events = cut_events(open, &clients, None, self.by, self.at);
        for event in events.map_err(|why| wrong(&why))? {
            let id = open.task.id;
            open.task = apply(Some(open.task.clone()), id, &event)
                .ok_or_else(|| wrong(&"an end does not fit its task"))?;
        }
        Ok(())
    }

    /// Adds to an append what ends of these open tasks. `taken` says of each why it is over already,
    /// where rights were taken away.
    pub(super) fn add_to(
        &self,
        append: &mut Append,
        open: Vec<(OpenTask, Option<Taken>)>,
    ) -> Result<(), Refusal> {
        for (mut open, taken) in open {
            let id = open.task.id;
            let begun = append.changes.iter_mut().find(|change| change.task == id);
            // What ends of it already is not all of it.
            if let Some(begun) = &begun {
                open.task = begun.next.clone();
            }
            let Some(clients) = self.concerned(&open.task) else {
                continue;
            };
            let moved = taken.as_ref().map(|taken| taken.moved);
            let events = cut_events(&open, &clients, moved, self.by, self.at)?;
            if events.is_empty() {
                continue;
            }
            let more = drafted(Some(open.task.clone()), id, events, |_| match &taken {
                Some(taken) => taken.annex(),
                None => self.annex().map(Some),
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

    /// The active clients in a task that it ends, without those below others of them: none of them
    /// where the task waits for people and ends as a whole, and nothing where it ends none of it.
    fn concerned(&self, task: &Task) -> Option<BTreeSet<u32>> {
        if task.has_ended() {
            return None;
        }
        match &self.what {
            What::Client(client) => {
                let active = task
                    .client(client.number)
                    .is_some_and(|found| found.is_active());
                (client.task == task.id && active).then(|| BTreeSet::from([client.number]))
            }
            What::Instance { issuer, instance } => {
                if issuer.as_ref().is_some_and(|issuer| *issuer != task.issuer) {
                    return None;
                }
                let clients = uppermost(task, instance);
                let waits = task.pending();
                let waits = waits.is_some_and(|pending| pending.instance == *instance);
                (waits || !clients.is_empty()).then_some(clients)
            }
        }
    }

    fn annex(&self) -> Result<Annex, Refusal> {
        Ok(Annex {
            salt: random::bytes().map_err(|why| unavailable(&why))?,
            data: self.annex.clone(),
        })
    }
}
