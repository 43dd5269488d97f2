//! What an operator changes of what runs: a task's life and blocks, each with who and why.

use dayfly_domain::{
    Block, BlockOn, Blocks, Cause, Command, EndTask, Epoch, Refusal, Rule, Sweep, TaskId, Time,
    decide,
};
use dayfly_store::{Append, AppendError, FactsQuery, Note, OpenTask, Unavailable};
use serde_json::json;

use super::actor::{Actor, Signature};
use super::authenticate::ended;
use super::contain::Containment;
use super::cut::{Blocking, block_on};
use super::end::{ATTEMPTS, End, Ended, answer};
use super::ending::{block_series, series_of};
use super::plan::drafted;
use super::refuse::{Refused, Trail, unavailable};
use super::signal::barred_by;
use super::{App, Tenant};

/// The most bytes, as JSON, of what a block that is set by hand stands on.
const TEXT: usize = 4096;

/// What lifts a block as it stood when it was looked at.
struct Lifting {
    block: Block,
    append: Append,
    /// What stands beside it.
    beside: Option<Block>,
}

impl App {
    /// Ends a task for an operator. Nothing of its series starts again until `unblock`.
    ///
    /// # Errors
    /// The refusal: no such open task, or the ledger cannot record.
    pub async fn operator_end(
        &self,
        tenant: &Tenant,
        task: TaskId,
        by: &Actor,
        reason: &str,
    ) -> Result<Ended, Refused> {
        let trail = Trail {
            asked: "operator end",
            task: Some(task),
            ..Trail::default()
        };
        match self.try_operator_end(tenant, task, by, reason).await {
            Ok(ended) => Ok(ended),
            Err(refusal) => Err(self.refuse(tenant, &trail, refusal)),
        }
    }

    async fn try_operator_end(
        &self,
        tenant: &Tenant,
        task: TaskId,
        by: &Actor,
        reason: &str,
    ) -> Result<Ended, Refusal> {
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        for _ in 0..ATTEMPTS {
            let open = match self.look_up(tenant, task) {
                Ok(Some(open)) => open,
                Ok(None) => return Err(self.not_open(tenant, task).await),
                Err(why) => return self.end_task_unread(tenant, task, &signed, why).await,
            };
            let on = series_of(&open.task);
            let append = self.end_and_block(tenant, open, &signed)?;
            // From what the entries come to: a long history is not read again.
            let change = append.changes.first().ok_or_else(|| ended("no change"))?;
            let answer = answer(&change.next, End::Task(task))?;
            match self.held.end(tenant.name(), append).await {
                Ok(done) => {
                    let answer = self.with_head(tenant, answer);
                    return Ok(Ended {
                        block: Blocking::On(on),
                        recorded: done.is_durable(),
                        ..answer
                    });
                }
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
        }
        Err(unavailable(&"the task did not stand still"))
    }

    fn end_and_block(
        &self,
        tenant: &Tenant,
        open: OpenTask,
        signed: &Signature,
    ) -> Result<Append, Refusal> {
        let now = self.now();
        let heard = open.heard;
        let moves = self.moves_of_one(tenant, &open)?;
        let over = moves.over(&open, now);
        let command = match over.moved {
            // It is over already: what came first names the end, and the block stands all the same.
            moved @ Some(_) => Command::Sweep(Sweep {
                now,
                heard,
                moved,
                fallen: &[],
            }),
            None => Command::EndTask(EndTask {
                now,
                heard,
                cause: Cause::Operator,
                by: signed.by(),
            }),
        };
        let events = decide(Some(&open.task), &command)?;
        let mut append = Append {
            now,
            ..Append::default()
        };
        block_series(&mut append, &open, Some(signed))?;
        // Who blocks its series now has not ended it where it was over before.
        let change = drafted(Some(open.task.clone()), open.task.id, events, |event| {
            let own = || signed.annex().map_err(|why| unavailable(&why));
            moves.annex((&open, &over), event, now, own)
        })?;
        append.changes.push(change);
        Ok(append)
    }

    /// Blocks a run or an instance that may not have started yet. What is open of it stays open,
    /// and gets nothing further; a series keeps others out and says nothing of what is open
    /// (docs/decisions/0038). A block that stands already stays as it is.
    ///
    /// # Errors
    /// The refusal: it is blocked by a command of its own, nobody declared vouches for it, or the
    /// ledger cannot record.
    pub async fn set_block(
        &self,
        tenant: &Tenant,
        on: BlockOn,
        by: &Actor,
        reason: &str,
    ) -> Result<Containment, Refused> {
        let trail = Trail {
            asked: "block",
            ..Trail::default()
        };
        let done = self.try_set_block(tenant, on, by, reason).await;
        done.map_err(|refusal| self.refuse(tenant, &trail, refusal))
    }

    async fn try_set_block(
        &self,
        tenant: &Tenant,
        on: BlockOn,
        by: &Actor,
        reason: &str,
    ) -> Result<Containment, Refusal> {
        check_blockable(tenant, &on)?;
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        for _ in 0..ATTEMPTS {
            let now = self.now();
            // Where nothing can be read it is not known to stand, and is held all the same.
            let blocks = self.blocks_that_stand(tenant).unwrap_or_default();
            if let Some(block) = blocks.get(&on) {
                return Ok(Containment {
                    since: block.since,
                    already: true,
                    open: None,
                    recorded: self.held.keeps_all(tenant.name()).await,
                });
            }
            let mut append = Append {
                now,
                ..Append::default()
            };
            block_on(&mut append, &on, None, &signed)?;
            match self.held.end(tenant.name(), append).await {
                Ok(done) => {
                    return Ok(Containment {
                        since: now,
                        already: false,
                        open: None,
                        recorded: done.is_durable(),
                    });
                }
                // Somebody else was first: the next look says so.
                Err(AppendError::Conflict) => {}
                Err(AppendError::TooLarge) => {
                    return Err(too_long(self.bounds.leaf_bytes, "an entry"));
                }
                Err(why) => return Err(unavailable(&why)),
            }
        }
        Err(unavailable(&"the block did not stand still"))
    }

    /// Lifts a block. Gives what keeps a person out all the same: the block by hand does not fall
    /// with the word of the provider, nor the other way round.
    ///
    /// # Errors
    /// The refusal: there is no such block, the provider has barred the person once more meanwhile,
    /// or the ledger cannot record.
    pub async fn unblock(
        &self,
        tenant: &Tenant,
        on: BlockOn,
        by: &Actor,
        reason: &str,
    ) -> Result<Option<Block>, Refused> {
        let trail = Trail {
            asked: "unblock",
            ..Trail::default()
        };
        let done = self.try_unblock(tenant, on, by, reason).await;
        done.map_err(|refusal| self.refuse(tenant, &trail, refusal))
    }

    async fn try_unblock(
        &self,
        tenant: &Tenant,
        on: BlockOn,
        by: &Actor,
        reason: &str,
    ) -> Result<Option<Block>, Refusal> {
        let beside = match on {
            BlockOn::Series { .. }
            | BlockOn::Key { .. }
            | BlockOn::Instance { .. }
            | BlockOn::Issuer(_) => None,
            BlockOn::Person(person) => Some(BlockOn::Barred(person)),
            BlockOn::Barred(person) => Some(BlockOn::Person(person)),
            BlockOn::Owner(_) | BlockOn::Workload(_) | BlockOn::Tenant => {
                return Err(Refusal::new(Rule::Invalid)
                    .field("block")
                    .wanted("a block on a run, an instance, a person or an issuer")
                    .got(on.to_string())
                    .hint(format!("it is lifted by {}", on.lifted_by())));
            }
        };
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        let mut lifting = self.lifting(tenant, &on, beside.as_ref(), &signed)?;
        let (seen, relies) = (lifting.block, lifting.append.relies.clone());
        for _ in 0..ATTEMPTS {
            match self.store.append(tenant.name(), lifting.append).await {
                Ok(_) => return Ok(lifting.beside),
                // It is gone, or it stands and nothing could be recorded for a moment.
                Err(AppendError::Conflict) => {}
                Err(AppendError::Stale(_)) => return Err(barred_anew(&on)),
                Err(why) => return Err(unavailable(&why)),
            }
            lifting = self.lifting(tenant, &on, beside.as_ref(), &signed)?;
            // What stands by now and was not seen is not lifted.
            if lifting.block != seen {
                return Err(stands_not(&on));
            }
            if lifting.append.relies != relies {
                return Err(barred_anew(&on));
            }
        }
        Err(unavailable(&"the block did not stand still"))
    }

    /// What lifts a block as it stands now.
    fn lifting(
        &self,
        tenant: &Tenant,
        on: &BlockOn,
        beside: Option<&BlockOn>,
        signed: &Signature,
    ) -> Result<Lifting, Refusal> {
        let barred = match on {
            BlockOn::Barred(person) => Some(barred_by(*person)),
            BlockOn::Series { .. }
            | BlockOn::Key { .. }
            | BlockOn::Instance { .. }
            | BlockOn::Person(_)
            | BlockOn::Issuer(_)
            | BlockOn::Owner(_)
            | BlockOn::Workload(_)
            | BlockOn::Tenant => None,
        };
        let query = FactsQuery {
            epochs: barred.as_slice(),
            ..FactsQuery::default()
        };
        let facts = self.store.facts(tenant.name(), &query);
        let facts = facts.map_err(|why| unavailable(&why))?;
        let block = facts.blocks.get(on).ok_or_else(|| stands_not(on))?;
        let beside = beside.and_then(|on| facts.blocks.get(on)).cloned();
        let mut data = json!({"on": on.to_string(), "about": block.task});
        if let (Some(beside), Some(members)) = (&beside, data.as_object_mut()) {
            members.insert("stands".to_owned(), beside.on.to_string().into());
        }
        // A word that comes meanwhile bars the person anew, whether or not the block stands yet.
        let until_now = facts.epochs.iter().filter_map(|epoch| {
            let after = Time::from_millis(epoch.at.saturating_add(1));
            Some(Epoch::of_person(epoch.person()?, after))
        });
        let append = Append {
            now: self.now(),
            notes: vec![Note {
                kind: "block.lifted",
                data: signed.sign(data),
                annex: Some(signed.annex().map_err(|why| unavailable(&why))?),
            }],
            relies: until_now.collect(),
            blocked: vec![on.clone()],
            lifts: vec![on.clone()],
            ..Append::default()
        };
        Ok(Lifting {
            block: block.clone(),
            append,
            beside,
        })
    }

    /// The blocks that stand, in the order of what they stand on.
    ///
    /// # Errors
    /// [`Unavailable`] when the store cannot answer.
    pub fn blocks(&self, tenant: &Tenant) -> Result<Vec<Block>, Unavailable> {
        Ok(self.blocks_that_stand(tenant)?.to_vec())
    }

    pub(super) fn blocks_that_stand(&self, tenant: &Tenant) -> Result<Blocks, Unavailable> {
        let facts = self.store.facts(tenant.name(), &FactsQuery::default())?;
        Ok(facts.blocks)
    }
}

/// The refusal to lift what somebody has not seen.
fn barred_anew(on: &BlockOn) -> Refusal {
    Refusal::new(Rule::Blocked)
        .field("block")
        .wanted("a provider that said nothing new meanwhile")
        .got(on.to_string())
        .hint("the person's provider has just barred the person once more: look, and lift it again where that is meant")
}

fn stands_not(on: &BlockOn) -> Refusal {
    Refusal::new(Rule::NotFound)
        .field("block")
        .wanted("a block that stands")
        .got(on.to_string())
}

/// Checks that what a block stands on fits into its entry.
pub(super) fn check_text(text: &str) -> Result<(), Refusal> {
    let bytes = serde_json::to_vec(text).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > TEXT {
        return Err(too_long(TEXT, "a text"));
    }
    Ok(())
}

fn too_long(most: usize, what: &str) -> Refusal {
    Refusal::new(Rule::Invalid)
        .field("block")
        .wanted(format!("{what} of at most {most} bytes, as JSON"))
        .got("more")
}

/// Checks that a block is one that is set by itself, on what a declared issuer vouches for.
fn check_blockable(tenant: &Tenant, on: &BlockOn) -> Result<(), Refusal> {
    let by = match on {
        BlockOn::Series {
            issuer,
            series: text,
        }
        | BlockOn::Key { issuer, key: text }
        | BlockOn::Instance {
            issuer,
            instance: text,
        } => {
            check_text(text)?;
            if tenant.loaded().declared.issuers.contains_key(issuer) {
                return Ok(());
            }
            return Err(Refusal::new(Rule::NotFound)
                .field("block")
                .wanted("a declared issuer")
                .got(issuer.as_str()));
        }
        BlockOn::Person(_) => return Ok(()),
        BlockOn::Barred(person) => {
            format!("the word of the person's provider; by hand it is `person:{person}`")
        }
        BlockOn::Issuer(name) => format!("`dayfly issuer end {name} --block`"),
        BlockOn::Owner(name) => format!("`dayfly owner offboard {name}`"),
        BlockOn::Workload(name) => format!("`dayfly workload disable {name}`"),
        BlockOn::Tenant => "`dayfly freeze`".to_owned(),
    };
    Err(Refusal::new(Rule::Invalid)
        .field("block")
        .wanted("a block on a run or an instance")
        .got(on.to_string())
        .hint(format!("it is set by {by}")))
}
