//! Approval and denial by people: who may, by whom twice, and what is recorded of it.

use dayfly_domain::{
    Approve, Command, Deny, Event, Refusal, Rule, Sweep, Task, TaskId, Time, decide,
};
use dayfly_store::{Append, OpenTask};

use super::actor::{Actor, Signature, person_hash};
use super::end::{ATTEMPTS, End, Ended};
use super::permit::erased;
use super::plan::{change, drafted};
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};

/// What an approval leaves.
#[derive(Clone, Debug)]
pub struct Approved {
    /// The task.
    pub task: TaskId,
    /// How many people must approve.
    pub people: u32,
    /// How many have.
    pub approvals: u64,
    /// When its client must have fetched it; none while another approval is missing.
    pub fetch_by: Option<Time>,
}

impl App {
    /// Approves a pending task for a person. Nothing is granted by it: its client fetches it, and
    /// everything is judged again then.
    ///
    /// # Errors
    /// The refusal: no such pending task, a person who may not, or a ledger that cannot record.
    pub async fn approve(
        &self,
        tenant: &Tenant,
        task: TaskId,
        by: &Actor,
        reason: &str,
    ) -> Result<Approved, Refused> {
        match self.try_approve(tenant, task, by, reason).await {
            Ok(approved) => Ok(approved),
            Err(refusal) => {
                let trail = self.trail_of(tenant, "approve", task);
                Err(self.refuse(tenant, &trail, refusal))
            }
        }
    }

    async fn try_approve(
        &self,
        tenant: &Tenant,
        task: TaskId,
        by: &Actor,
        reason: &str,
    ) -> Result<Approved, Refusal> {
        let Actor::Person { iss, sub } = by else {
            return Err(Refusal::new(Rule::NotAllowed)
                .field("approval")
                .wanted("a person whom the operators' provider vouches for")
                .got("a user id of this machine")
                .hint("log in with `dayfly login` and approve at the admin listener: a user id is not a person"));
        };
        for _ in 0..ATTEMPTS {
            let open = self.waiting(tenant, task).await?;
            // INVARIANT: only where the annex of the request still stands can people be told apart.
            let annex = self.request_annex(tenant, task)?.ok_or_else(erased)?;
            let salt = annex.salt().ok_or_else(erased)?;
            let approvals = self.approvals_salts(tenant, &open)?;
            let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
            let by = signed
                .by()
                .ok_or_else(|| unavailable(&"a person without a hash"))?;
            let now = self.now();
            let events = decide(
                Some(&open.task),
                &Command::Approve(Approve {
                    now,
                    stale: open.stale.clone(),
                    by,
                    as_asking: person_hash(&salt, iss, sub),
                    as_approving: approvals
                        .iter()
                        .map(|salt| person_hash(salt, iss, sub))
                        .collect(),
                }),
            )?;
            let annex = signed.annex().map_err(|why| unavailable(&why))?;
            let change = change(Some(open.task.clone()), task, events, Some(annex))?;
            let after = change.next.clone();
            let append = Append {
                now,
                changes: vec![change],
                relies: open.task.epochs.clone(),
                ..Append::default()
            };
            match self.store.append(tenant.name(), append).await {
                Ok(_) => return approved(&after),
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
        }
        Err(unavailable(&"the task did not stand still"))
    }

    /// Denies a pending task, which ends by it; what was approved and not fetched yet too.
    ///
    /// # Errors
    /// The refusal: no such pending task, or the ledger cannot record.
    pub async fn deny(
        &self,
        tenant: &Tenant,
        task: TaskId,
        by: &Actor,
        reason: &str,
    ) -> Result<Ended, Refused> {
        match self.try_deny(tenant, task, by, reason).await {
            Ok(ended) => Ok(ended),
            Err(refusal) => {
                let trail = self.trail_of(tenant, "deny", task);
                Err(self.refuse(tenant, &trail, refusal))
            }
        }
    }

    async fn try_deny(
        &self,
        tenant: &Tenant,
        task: TaskId,
        by: &Actor,
        reason: &str,
    ) -> Result<Ended, Refusal> {
        for _ in 0..ATTEMPTS {
            let open = self.waiting(tenant, task).await?;
            let append = self.denial(tenant, &open, by, reason)?;
            let after = append.changes.first().map(|change| change.next.clone());
            match self.held.end(tenant.name(), append).await {
                Ok(done) => {
                    let after = after.ok_or_else(|| unavailable(&"a denial without events"))?;
                    let answer = self.answer_of(tenant, &after, End::Task(task))?;
                    let recorded = done.is_durable();
                    return Ok(Ended { recorded, ..answer });
                }
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
        }
        Err(unavailable(&"the task did not stand still"))
    }

    fn denial(
        &self,
        tenant: &Tenant,
        open: &OpenTask,
        by: &Actor,
        reason: &str,
    ) -> Result<Append, Refusal> {
        let now = self.now();
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        let moves = self.moves_of_one(tenant, open)?;
        let over = moves.over(open, now);
        let command = match over.moved {
            // It is over already, and what came first names the end.
            moved @ Some(_) => Command::Sweep(Sweep {
                now,
                heard: open.heard,
                moved,
                fallen: &[],
            }),
            None => Command::Deny(Deny {
                now,
                by: signed.by(),
            }),
        };
        let events = decide(Some(&open.task), &command)?;
        // Who and why belong to the denial and to the end: each may be what is left where the ledger
        // takes them later, and an end is what a trace shows. What was over before was ended by another.
        let change = drafted(
            Some(open.task.clone()),
            open.task.id,
            events,
            |event| match event {
                Event::TaskDenied(_) | Event::TaskEnded(_) => {
                    let own = || signed.annex().map_err(|why| unavailable(&why));
                    moves.annex((open, &over), event, now, own)
                }
                Event::TaskRequested(_)
                | Event::TaskApproved(_)
                | Event::TaskStarted(_)
                | Event::ClientRegistered(_)
                | Event::ClientDelegated(_)
                | Event::CredentialIssued(_)
                | Event::CredentialRevoked(_)
                | Event::ClientEnded(_) => Err(unavailable(&"a denial that is something else")),
            },
        )?;
        Ok(Append {
            now,
            changes: vec![change],
            ..Append::default()
        })
    }

    /// A task that waits, or the refusal that says how it stands instead.
    async fn waiting(&self, tenant: &Tenant, task: TaskId) -> Result<OpenTask, Refusal> {
        if let Some(open) = self.open_task(tenant, task)? {
            open.task.check_pending(self.now())?;
            return Ok(open);
        }
        match self.recorded_task(tenant, task).await? {
            Some(over) => match over.check_pending(self.now()) {
                Err(refusal) => Err(refusal),
                Ok(_) => Err(unavailable(&"a task stands in two ways")),
            },
            None => Err(Refusal::new(Rule::NotFound)
                .field("task")
                .wanted("a task that waits for approval")
                .got(task.to_string())),
        }
    }

    /// Whose refusal it is: of the workload, where the task is known.
    fn trail_of(&self, tenant: &Tenant, asked: &'static str, task: TaskId) -> Trail {
        let known = self.open_task(tenant, task).ok().flatten();
        Trail {
            asked,
            task: Some(task),
            workload: known.map(|open| open.task.workload),
            ..Trail::default()
        }
    }
}

fn approved(task: &Task) -> Result<Approved, Refusal> {
    let pending = task
        .pending()
        .ok_or_else(|| unavailable(&"an approval that opened its task"))?;
    Ok(Approved {
        task: task.id,
        people: pending.people,
        approvals: pending.approvals.len() as u64,
        fetch_by: pending.approved.map(|_| task.deadline),
    })
}
