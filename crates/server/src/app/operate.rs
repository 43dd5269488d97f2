//! What an operator changes of what runs: a task's life and blocks, each with who and why.

use dayfly_domain::{
    Block, BlockOn, Cause, Command, EndTask, Refusal, Rule, Sweep, TaskId, decide,
};
use dayfly_store::{Append, AppendError, FactsQuery, Note, OpenTask};
use serde_json::json;

use super::actor::{Actor, Signature};
use super::authenticate::ended;
use super::contain::Containment;
use super::cut::block_on;
use super::end::{ATTEMPTS, End, Ended, answer};
use super::ending::block_series;
use super::plan::drafted;
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};

/// The most bytes, as JSON, of what a block that is set by hand stands on.
const TEXT: usize = 4096;

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
        for _ in 0..ATTEMPTS {
            let open = self
                .open_task(tenant, task)?
                .ok_or_else(|| ended("no open task by its id"))?;
            let append = self.end_and_block(tenant, open, by, reason)?;
            // From what the entries come to: a long history is not read again.
            let change = append.changes.first().ok_or_else(|| ended("no change"))?;
            let answer = answer(&change.next, End::Task(task))?;
            match self.held.end(tenant.name(), append).await {
                Ok(done) => {
                    let answer = self.with_head(tenant, answer);
                    let recorded = done.is_durable();
                    return Ok(Ended { recorded, ..answer });
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
        by: &Actor,
        reason: &str,
    ) -> Result<Append, Refusal> {
        let now = self.now();
        let heard = open.heard;
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        let command = match self.moved(tenant, &open)? {
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
        let whys = self.moves_of_one(tenant, &open)?.whys(&open, &events);
        let mut append = Append {
            now,
            ..Append::default()
        };
        block_series(&mut append, &open, Some(&signed))?;
        let id = open.task.id;
        let mut whys = whys.into_iter();
        let change = drafted(Some(open.task), id, events, |_| {
            match whys.next().flatten() {
                // Who blocks its series now has not ended it.
                Some(why) => why.annex().map(Some),
                None => signed.annex().map(Some).map_err(|why| unavailable(&why)),
            }
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
        let now = self.now();
        // Where nothing can be read it is not known to stand, and is held all the same.
        let blocks = self.blocks(tenant).unwrap_or_default();
        if let Some(block) = blocks.iter().find(|block| block.on == on) {
            return Ok(Containment {
                since: block.since,
                already: true,
                open: None,
                recorded: true,
            });
        }
        let mut append = Append {
            now,
            ..Append::default()
        };
        block_on(&mut append, &on, None, &signed)?;
        let done = match self.held.end(tenant.name(), append).await {
            Ok(done) => done,
            Err(AppendError::TooLarge) => return Err(too_long(self.bounds.leaf_bytes, "an entry")),
            Err(why) => return Err(unavailable(&why)),
        };
        Ok(Containment {
            since: now,
            already: false,
            open: None,
            recorded: done.is_durable(),
        })
    }

    /// Lifts a block.
    ///
    /// # Errors
    /// The refusal: there is no such block, or the ledger cannot record.
    pub async fn unblock(
        &self,
        tenant: &Tenant,
        on: BlockOn,
        by: &Actor,
        reason: &str,
    ) -> Result<(), Refused> {
        let trail = Trail {
            asked: "unblock",
            ..Trail::default()
        };
        match self.try_unblock(tenant, on, by, reason).await {
            Ok(()) => Ok(()),
            Err(refusal) => Err(self.refuse(tenant, &trail, refusal)),
        }
    }

    async fn try_unblock(
        &self,
        tenant: &Tenant,
        on: BlockOn,
        by: &Actor,
        reason: &str,
    ) -> Result<(), Refusal> {
        match on {
            BlockOn::Series { .. }
            | BlockOn::Key { .. }
            | BlockOn::Instance { .. }
            | BlockOn::Person(_)
            | BlockOn::Issuer(_) => {}
            BlockOn::Owner(_) | BlockOn::Workload(_) | BlockOn::Tenant => {
                return Err(Refusal::new(Rule::Invalid)
                    .field("block")
                    .wanted("a block on a run, an instance, a person or an issuer")
                    .got(on.to_string())
                    .hint(format!("it is lifted by {}", on.lifted_by())));
            }
        }
        let blocks = self.blocks(tenant).map_err(|why| unavailable(&why))?;
        let block = blocks.iter().find(|block| block.on == on).ok_or_else(|| {
            Refusal::new(Rule::NotFound)
                .field("block")
                .wanted("a block that stands")
                .got(on.to_string())
        })?;
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        let append = Append {
            now: self.now(),
            notes: vec![Note {
                kind: "block.lifted",
                data: signed.sign(json!({"on": on.to_string(), "about": block.task})),
                annex: Some(signed.annex().map_err(|why| unavailable(&why))?),
            }],
            lifts: vec![on],
            ..Append::default()
        };
        self.store
            .append(tenant.name(), append)
            .await
            .map(|_| ())
            .map_err(|why| unavailable(&why))
    }

    /// The blocks that stand.
    ///
    /// # Errors
    /// [`dayfly_store::Unavailable`] when the store cannot answer.
    pub fn blocks(&self, tenant: &Tenant) -> Result<Vec<Block>, dayfly_store::Unavailable> {
        Ok(self
            .store
            .facts(tenant.name(), &FactsQuery::default())?
            .blocks)
    }
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
