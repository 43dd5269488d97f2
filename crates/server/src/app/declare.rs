//! What an operator changes: the declared state, a task's life, and blocks; each with who and why.

use std::collections::BTreeMap;

use dayfly_domain::{Block, BlockOn, Cause, Command, EndTask, Name, Refusal, Rule, TaskId, decide};
use dayfly_store::{Annex, Append, AppendError, FactsQuery, Note, OpenFilter, OpenTask};
use serde_json::json;

use super::authenticate::ended;
use super::end::{ATTEMPTS, End, Ended};
use super::plan::change;
use super::refuse::{Refused, Trail, unavailable};
use super::tenant::{OpenError, declare};
use super::{App, Tenant};
use crate::declared::{Declared, LoadError, Source, diff};
use crate::policy::Policies;
use crate::random;

/// A person at the admin socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The user id of the peer.
    pub uid: u32,
}

/// What an apply did or would do.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The differences, a line each.
    pub changes: Vec<String>,
    /// The revision in force afterwards.
    pub revision: u64,
    /// What is odd about the new state.
    pub warnings: Vec<String>,
    /// Whether it was applied rather than only compared.
    pub applied: bool,
}

/// Why the folder did not become the declared state.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The folder does not load; the former state stays.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Load(Vec<LoadError>),
    /// Something that has open tasks would disappear.
    #[error("{} would disappear and {} open: end them first", .what, tasks(*.open))]
    OpenTasks {
        /// What would disappear.
        what: String,
        /// How many tasks it has open.
        open: u64,
    },
    /// Another apply came first.
    #[error("the declared state was changed by somebody else meanwhile; look again with --dry-run")]
    Raced,
    /// The store or the keys fail.
    #[error(transparent)]
    Open(#[from] OpenError),
}

fn tasks(open: u64) -> String {
    if open == 1 {
        "1 task is".to_owned()
    } else {
        format!("{open} tasks are")
    }
}

impl App {
    /// Makes the tenant's folder its declared state, or says what that would change.
    ///
    /// # Errors
    /// [`ApplyError`]; the former state then stays in force.
    pub async fn apply(
        &self,
        tenant: &Tenant,
        dry_run: bool,
        by: &Operator,
        reason: &str,
    ) -> Result<Applied, ApplyError> {
        let _one_at_a_time = tenant.applying.lock().await;
        let before = tenant.loaded();
        let source =
            Source::read_folder(tenant.folder()).map_err(|why| ApplyError::Load(vec![why]))?;
        let (declared, mut warnings) =
            Declared::load(&source, tenant.context()).map_err(ApplyError::Load)?;
        let (_, doubts) = Policies::load(&source, &declared).map_err(ApplyError::Load)?;
        warnings.extend(doubts);
        let changes: Vec<String> = diff(&before.source, &source)
            .iter()
            .map(ToString::to_string)
            .collect();
        self.check_nothing_open_disappears(tenant, &before.declared, &declared)?;
        let mut applied = Applied {
            changes,
            revision: before.revision,
            warnings: warnings.iter().map(ToString::to_string).collect(),
            applied: false,
        };
        let now = self.now();
        if dry_run {
            return Ok(applied);
        }
        if source.hash() == before.source.hash() {
            tenant.refresh(self.store.as_ref(), now).await?;
            return Ok(applied);
        }
        let annex = signed_by(by, reason).map_err(OpenError::from)?;
        match self
            .store
            .append(tenant.name(), declare(&source, now, annex, before.revision))
            .await
        {
            Ok(_) => {}
            Err(AppendError::Revised) => return Err(ApplyError::Raced),
            Err(error) => return Err(OpenError::from(error).into()),
        }
        tenant.reload(self.store.as_ref(), now).await?;
        applied.revision = tenant.loaded().revision;
        applied.applied = true;
        Ok(applied)
    }

    fn check_nothing_open_disappears(
        &self,
        tenant: &Tenant,
        before: &Declared,
        after: &Declared,
    ) -> Result<(), ApplyError> {
        let gone_workload = |name: &Name| {
            before.workloads.contains_key(name) && !after.workloads.contains_key(name)
        };
        let gone_owner =
            |name: &Name| before.owners.contains_key(name) && !after.owners.contains_key(name);
        let gone_issuer =
            |name: &Name| before.issuers.contains_key(name) && !after.issuers.contains_key(name);
        let mut open: BTreeMap<String, u64> = BTreeMap::new();
        self.each_open(tenant, |task| {
            let task = &task.task;
            for (gone, what) in [
                (
                    gone_workload(&task.workload),
                    format!("workload {}", task.workload),
                ),
                (gone_owner(&task.owner), format!("owner {}", task.owner)),
                (gone_issuer(&task.issuer), format!("issuer {}", task.issuer)),
            ] {
                if gone {
                    *open.entry(what).or_default() += 1;
                }
            }
        })
        .map_err(OpenError::from)?;
        match open.into_iter().next() {
            None => Ok(()),
            Some((what, open)) => Err(ApplyError::OpenTasks { what, open }),
        }
    }

    /// Visits every open task of a tenant, a page at a time.
    pub(super) fn each_open(
        &self,
        tenant: &Tenant,
        mut visit: impl FnMut(&OpenTask),
    ) -> Result<(), dayfly_store::Unavailable> {
        let mut cursor = None;
        loop {
            let page = self
                .store
                .open(tenant.name(), &OpenFilter::All, cursor, 1024)?;
            for open in &page {
                visit(open);
            }
            match page.last() {
                Some(last) => cursor = Some(last.task.id),
                None => return Ok(()),
            }
        }
    }

    /// Ends a task for an operator. Nothing of its series starts again until `unblock`.
    ///
    /// # Errors
    /// The refusal: no such open task, or the ledger cannot record.
    pub async fn operator_end(
        &self,
        tenant: &Tenant,
        task: TaskId,
        by: &Operator,
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
        by: &Operator,
        reason: &str,
    ) -> Result<Ended, Refusal> {
        for _ in 0..ATTEMPTS {
            let open = self
                .open_task(tenant, task)?
                .ok_or_else(|| ended("no open task by its id"))?;
            let append = self.end_and_block(&open, by, reason)?;
            match self.store.append(tenant.name(), append).await {
                Ok(_) => return self.ended_answer(tenant, End::Task(task)),
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
        }
        Err(unavailable(&"the task did not stand still"))
    }

    fn end_and_block(
        &self,
        open: &OpenTask,
        by: &Operator,
        reason: &str,
    ) -> Result<Append, Refusal> {
        let now = self.now();
        let events = decide(
            Some(&open.task),
            &Command::EndTask(EndTask {
                now,
                heard: open.heard,
                cause: Cause::Operator,
            }),
        )?;
        let annex = signed_by(by, reason).map_err(|why| unavailable(&why))?;
        let block = Block {
            on: BlockOn::Series {
                issuer: open.task.issuer.clone(),
                series: open.task.series.clone(),
            },
            task: Some(open.task.id),
            since: now,
        };
        Ok(Append {
            now,
            notes: vec![Note {
                kind: "block.set",
                data: json!({"on": block.on.to_string(), "about": open.task.id}).to_string(),
                annex: Some(signed_by(by, reason).map_err(|why| unavailable(&why))?),
            }],
            changes: vec![change(Some(&open.task), open.task.id, events, Some(annex))?],
            blocks: vec![block],
            ..Append::default()
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
        by: &Operator,
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
        by: &Operator,
        reason: &str,
    ) -> Result<(), Refusal> {
        let blocks = self.blocks(tenant).map_err(|why| unavailable(&why))?;
        let block = blocks.iter().find(|block| block.on == on).ok_or_else(|| {
            Refusal::new(Rule::NotFound)
                .field("block")
                .wanted("a block that stands")
                .got(on.to_string())
        })?;
        let append = Append {
            now: self.now(),
            notes: vec![Note {
                kind: "block.lifted",
                data: json!({"on": on.to_string(), "about": block.task}).to_string(),
                annex: Some(signed_by(by, reason).map_err(|why| unavailable(&why))?),
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

/// Who did it and why: it stands in the annex, because a leaf holds no person.
fn signed_by(by: &Operator, reason: &str) -> Result<Annex, random::NoRandomness> {
    Ok(Annex {
        salt: random::bytes()?,
        data: signed_json(by, reason).to_string(),
    })
}

/// Who and why, as it stands in an annex.
pub(super) fn signed_json(by: &Operator, reason: &str) -> serde_json::Value {
    json!({"by": {"uid": by.uid}, "reason": reason})
}
