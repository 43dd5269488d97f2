//! Ends of open tasks that a new declared state does not grant: begun by an apply, finished whatever happens to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dayfly_domain::{Block, BlockOn, Cause, Command, Digest, EndTask, Event, TaskId, Time, decide};
use dayfly_store::{Annex, Append, AppendError, Document, FactsQuery, Note, OpenTask, Unavailable};
use serde_json::json;

use super::actor::Signature;
use super::moved::Why;
use super::plan::drafted;
use super::refuse::unavailable;
use super::regrant::{Lost, Regrant};
use super::{App, Tenant};
use crate::declared::Source;
use crate::random;
use crate::record::{RecordError, SAID_IN};

/// The document that names the tasks whose ends are still to be recorded.
const ENDING: &str = "ending";
/// The document that says up to which position grants were counted before the activation: what the
/// former state granted from there on is still to be judged. After a space the hash of that state
/// follows: what is the same in both is not judged anew.
const UPTO: &str = "ending/upto";
/// How many are ended side by side.
const BATCH: usize = 512;
/// How often a task that moves under its end is looked at again before others wait for it.
const ROUNDS: usize = 64;

/// The documents that have these tasks ended after a restart too, and with them what was granted
/// after they were counted.
pub(super) fn documents(lost: &Lost, former: &Source) -> [Document; 2] {
    let tasks = lost.refused.iter().flat_map(|task| task.0);
    [
        Document {
            name: ENDING.to_owned(),
            bytes: Some(tasks.collect()),
        },
        Document {
            name: UPTO.to_owned(),
            bytes: Some(format!("{} {}", lost.upto(), former.hash()).into_bytes()),
        },
    ]
}

/// What records an end; `whys` say of its events, in their order, by whom and why each came, where that
/// is known. After an end by policy nothing of its series starts again until an operator lifts the block (DESIGN section
/// 3).
pub(super) fn recorded(
    open: OpenTask,
    events: Vec<Event>,
    now: Time,
    whys: Vec<Option<Why>>,
) -> Result<Append, dayfly_domain::Refusal> {
    let by_policy = events.iter().any(|event| match event {
        Event::TaskEnded(ended) => ended.cause == Cause::Policy,
        Event::TaskRequested(_)
        | Event::TaskApproved(_)
        | Event::TaskDenied(_)
        | Event::TaskStarted(_)
        | Event::ClientRegistered(_)
        | Event::ClientDelegated(_)
        | Event::CredentialIssued(_)
        | Event::CredentialRevoked(_)
        | Event::ClientEnded(_) => false,
    });
    let mut append = Append {
        now,
        ..Append::default()
    };
    if by_policy {
        block_series(&mut append, &open, None)?;
    }
    let id = open.task.id;
    let mut whys = whys.into_iter();
    let change = drafted(Some(open.task), id, events, |_| {
        whys.next().flatten().as_ref().map(Why::annex).transpose()
    })?;
    append.changes.push(change);
    Ok(append)
}

/// The annex of what came by somebody's word, who is no person here.
pub(super) fn by_word(said: &str) -> Result<Annex, dayfly_domain::Refusal> {
    annexed(&json!({ "reason": said }))
}

/// The annex of what came of something else, whose own entry says by whom and why.
pub(super) fn by_entry(pos: u64) -> Result<Annex, dayfly_domain::Refusal> {
    annexed(&json!({ SAID_IN: pos }))
}

fn annexed(data: &serde_json::Value) -> Result<Annex, dayfly_domain::Refusal> {
    Ok(Annex {
        salt: random::bytes().map_err(|why| unavailable(&why))?,
        data: data.to_string(),
    })
}

/// Has an append that ends a task block its series, so that nothing of it starts again.
pub(super) fn block_series(
    append: &mut Append,
    open: &OpenTask,
    signed: Option<&Signature>,
) -> Result<(), dayfly_domain::Refusal> {
    let on = BlockOn::Series {
        issuer: open.task.issuer.clone(),
        series: open.task.series.clone(),
    };
    let data = json!({"on": on.to_string(), "about": open.task.id});
    append.notes.push(Note {
        kind: "block.set",
        data: signed.map_or_else(|| data.to_string(), |signed| signed.sign(data.clone())),
        annex: signed
            .map(Signature::annex)
            .transpose()
            .map_err(|why| unavailable(&why))?,
    });
    append.blocks.push(Block {
        on,
        task: Some(open.task.id),
        since: append.now,
    });
    Ok(())
}

/// Up to which position was counted, and the hash of the former state; one from before it was kept
/// has none.
fn read_upto(bytes: &[u8]) -> Option<(u64, Option<Digest>)> {
    let text = std::str::from_utf8(bytes).ok()?;
    match text.split_once(' ') {
        None => Some((text.parse().ok()?, None)),
        Some((upto, former)) => Some((upto.parse().ok()?, Some(former.parse().ok()?))),
    }
}

impl App {
    /// Goes on with ends that an apply has begun; the sweep calls it.
    pub(super) async fn finish_ending(&self, tenant: &Tenant) -> Result<u64, Unavailable> {
        if !tenant.ending.load(Ordering::SeqCst) {
            return Ok(0);
        }
        // An apply that is under way finishes its own.
        let Ok(_one_at_a_time) = tenant.applying.try_lock() else {
            return Ok(0);
        };
        self.go_on_ending(tenant).await
    }

    /// The same for whoever holds the tenant's place for applies.
    pub(super) async fn go_on_ending(&self, tenant: &Tenant) -> Result<u64, Unavailable> {
        if !tenant.ending.load(Ordering::SeqCst) {
            return Ok(0);
        }
        let query = FactsQuery {
            documents: Some(ENDING),
            ..FactsQuery::default()
        };
        let facts = self.store.facts(tenant.name(), &query)?;
        if facts.documents.is_empty() {
            tenant.ending.store(false, Ordering::SeqCst);
            return Ok(0);
        }
        let of = |wanted: &'static str| {
            let mut documents = facts.documents.iter();
            documents.find_map(move |(name, bytes)| (name == wanted).then_some(bytes))
        };
        let named = of(ENDING).into_iter().flat_map(|bytes| bytes.as_chunks().0);
        let mut tasks: BTreeSet<TaskId> = named.map(|id| TaskId(*id)).collect();
        if let Some(bytes) = of(UPTO) {
            let (upto, former) = read_upto(bytes)
                .ok_or_else(|| Unavailable(format!("`{UPTO}` holds no position")))?;
            tasks = self.with_late(tenant, tasks, upto, former).await?;
        }
        let tasks: Vec<TaskId> = tasks.into_iter().collect();
        self.end_by_policy(tenant, &tasks).await
    }

    /// These tasks and those that the former state granted from a position on, up to the activation,
    /// and the state in force does not.
    async fn with_late(
        &self,
        tenant: &Tenant,
        tasks: BTreeSet<TaskId>,
        upto: u64,
        former: Option<Digest>,
    ) -> Result<BTreeSet<TaskId>, Unavailable> {
        let unavailable = |why: &dyn std::fmt::Display| Unavailable(why.to_string());
        let now = self.now();
        // Whoever asked for the apply may have gone before it was taken in.
        tenant
            .reload(self.store.as_ref(), now)
            .await
            .map_err(|why| unavailable(&why))?;
        let loaded = tenant.loaded();
        let before = former.map(|hash| tenant.formerly(self.store.as_ref(), &hash));
        let before = before
            .transpose()
            .map_err(|why| unavailable(&why))?
            .flatten();
        let regrant = Regrant {
            store: Arc::clone(&self.store),
            tenant: tenant.name().clone(),
            url: tenant.issuer().to_owned(),
            before,
            after: Arc::clone(&loaded.declared),
            policies: Arc::clone(&loaded.policies),
        };
        let judging = tokio::task::spawn_blocking(move || {
            let mut lost = Lost::begun(tasks, upto);
            let size = regrant.activated(upto)?;
            regrant.catch_up(&mut lost, size, now)?;
            Ok::<_, RecordError>(lost.refused)
        });
        let judged = judging.await.map_err(|why| unavailable(&why))?;
        judged.map_err(|why| unavailable(&why))
    }

    /// Ends these tasks, those of them that are still open, and strikes them off the document.
    pub(super) async fn end_by_policy(
        &self,
        tenant: &Tenant,
        tasks: &[TaskId],
    ) -> Result<u64, Unavailable> {
        let mut ended = 0;
        for batch in tasks.chunks(BATCH) {
            let mut left: Vec<TaskId> = batch.to_vec();
            for _ in 0..ROUNDS {
                if left.is_empty() {
                    break;
                }
                let (done, again) = self.end_batch(tenant, &left).await?;
                ended += done;
                left = again;
            }
            if !left.is_empty() {
                return Err(Unavailable("tasks did not stand still".to_owned()));
            }
        }
        let strike = Append {
            now: self.now(),
            documents: [ENDING, UPTO]
                .map(|name| Document {
                    name: name.to_owned(),
                    bytes: None,
                })
                .into(),
            ..Append::default()
        };
        self.store
            .append(tenant.name(), strike)
            .await
            .map_err(|why| Unavailable(why.to_string()))?;
        tenant.ending.store(false, Ordering::SeqCst);
        Ok(ended)
    }

    /// Ends what of a batch is open; gives how many ended and which changed under it.
    async fn end_batch(
        &self,
        tenant: &Tenant,
        batch: &[TaskId],
    ) -> Result<(u64, Vec<TaskId>), Unavailable> {
        let query = FactsQuery {
            tasks: batch,
            ..FactsQuery::default()
        };
        let facts = self.store.facts(tenant.name(), &query)?;
        let mut waiting = Vec::with_capacity(batch.len());
        for open in facts.tasks.into_iter().flatten() {
            let id = open.task.id;
            let append = self
                .policy_end(open)
                .map_err(|why| Unavailable(why.to_string()))?;
            waiting.push((id, self.store.append(tenant.name(), append)));
        }
        let (mut ended, mut again) = (0, Vec::new());
        for (task, append) in waiting {
            match append.await {
                Ok(_) => ended += 1,
                Err(AppendError::Conflict) => again.push(task),
                Err(why) => return Err(Unavailable(why.to_string())),
            }
        }
        Ok((ended, again))
    }

    fn policy_end(&self, open: OpenTask) -> Result<Append, dayfly_domain::Refusal> {
        let now = self.now();
        let command = Command::EndTask(EndTask {
            now,
            heard: open.heard,
            cause: Cause::Policy,
            by: None,
        });
        let events = decide(Some(&open.task), &command)?;
        recorded(open, events, now, Vec::new())
    }
}
