//! Making a folder, or the former revision, the declared state.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dayfly_domain::{Cause, EpochOf, Name, TaskId};
use dayfly_store::{Append, AppendError, FactsQuery};

use super::actor::{Actor, Signature};
use super::ending;
use super::moved::{Moves, NoteOf};
use super::regrant::{Lost, LostTask, Regrant};
use super::revisions::{Activation, Revisions};
use super::tenant::{Loaded, OpenError, hand_overs};
use super::{App, Tenant};
use crate::declared::{Declared, LoadError, Source, diff, overlaps};
use crate::policy::Policies;
use crate::record::RecordError;

/// How an apply is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplyRequest {
    /// Only says what would change.
    pub dry_run: bool,
    /// How many open tasks it may end: exactly as many as it would.
    pub ends: Option<u64>,
    /// Goes back to the former revision instead of taking the folder.
    pub undo: bool,
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
    /// How many open tasks it ended or would end.
    pub ends: u64,
    /// Which, the first thousand of them.
    pub tasks: Vec<LostTask>,
}

/// Why the folder did not become the declared state.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The folder does not load; the former state stays.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Load(Vec<LoadError>),
    /// Whoever answers for workloads since their owner was offboarded is not declared any more.
    #[error(
        "workload {workload} is {heir}'s since {owner} was offboarded, and {heir} is not declared: name an owner that is"
    )]
    Heir {
        /// The workload.
        workload: Name,
        /// Its owner in the files.
        owner: Name,
        /// Who answers for it.
        heir: Name,
    },
    /// Another number of open tasks would end than was agreed to.
    #[error("{}", ends(*.open, *.agreed))]
    Ends {
        /// How many would end now.
        open: u64,
        /// How many were agreed to.
        agreed: Option<u64>,
    },
    /// No revision is kept from before the present one.
    #[error("there is no former revision to go back to")]
    NoFormer,
    /// Another apply came first.
    #[error("the declared state was changed by somebody else meanwhile; look again with --dry-run")]
    Raced,
    /// What open tasks were granted by cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store or the keys fail.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is applied; the ends are not all recorded yet, and the sweep goes on with them.
    #[error("it is applied, and not all of its ends are recorded yet: {0}")]
    Unfinished(String),
}

fn ends(open: u64, agreed: Option<u64>) -> String {
    let would = match open {
        1 => "1 open task would end".to_owned(),
        open => format!("{open} open tasks would end"),
    };
    match agreed {
        None => format!("{would}: look at them with --dry-run, and agree with --ends {open}"),
        Some(agreed) => format!("{would}, not {agreed}: look again with --dry-run"),
    }
}

/// A state that is to come into force.
struct Next {
    source: Source,
    declared: Arc<Declared>,
    policies: Arc<Policies>,
    revisions: Revisions,
}

impl App {
    /// Makes the tenant's folder its declared state, or says what that would change. Open tasks
    /// that the new state would not have granted are ended, when their number was agreed to.
    ///
    /// # Errors
    /// [`ApplyError`]; the former state then stays in force, but for [`ApplyError::Unfinished`].
    pub async fn apply(
        &self,
        tenant: &Tenant,
        request: ApplyRequest,
        by: &Actor,
        reason: &str,
    ) -> Result<Applied, ApplyError> {
        let _one_at_a_time = tenant.applying.lock().await;
        if !request.dry_run {
            // An earlier one that was cut short comes first: this one takes the place of its notes.
            self.go_on_ending(tenant)
                .await
                .map_err(|why| ApplyError::Unfinished(why.to_string()))?;
        }
        let before = tenant.loaded();
        let (next, warnings) = self.next(tenant, request)?;
        let mut applied = Applied {
            changes: diff(&before.source, &next.source)
                .iter()
                .map(ToString::to_string)
                .collect(),
            revision: before.revision,
            warnings,
            applied: false,
            ends: 0,
            tasks: Vec::new(),
        };
        let now = self.now();
        if next.source.hash() == before.source.hash() {
            check_agreed(0, request)?;
            if !request.dry_run {
                tenant.refresh(self.store.as_ref(), now).await?;
            }
            return Ok(applied);
        }
        let regrant = Arc::new(Regrant {
            store: Arc::clone(&self.store),
            tenant: tenant.name().clone(),
            url: tenant.issuer().to_owned(),
            before: Some(Arc::clone(&before)),
            after: Arc::clone(&next.declared),
            policies: Arc::clone(&next.policies),
        });
        let lost = waited(&regrant, move |regrant| regrant.count(now)).await?;
        applied.ends = lost.count();
        applied.tasks = lost.why.values().cloned().collect();
        if request.dry_run {
            return Ok(applied);
        }
        check_agreed(applied.ends, request)?;
        // Another tenant may have come to accept the same proofs since.
        let alone = self.activating.lock().await;
        self.check_neighbours(tenant, &next.declared)?;
        let append = self.activation(tenant, next, &before, &regrant, &lost, by, reason)?;
        // Before it is on its way: whoever asked may be gone when it is durable.
        tenant.ending.store(true, Ordering::SeqCst);
        let size = match self.store.append(tenant.name(), append).await {
            Ok(committed) => committed.size(),
            Err(AppendError::Revised | AppendError::Stale(_)) => return Err(ApplyError::Raced),
            Err(error) => return Err(OpenError::from(error).into()),
        };
        tenant.reload(self.store.as_ref(), now).await?;
        drop(alone);
        applied.revision = tenant.loaded().revision;
        applied.applied = true;
        for late in self.end_lost(tenant, &regrant, lost, size).await? {
            applied.ends += 1;
            applied.tasks.push(late);
        }
        Ok(applied)
    }

    /// What is to come into force, and what is odd about it.
    fn next(
        &self,
        tenant: &Tenant,
        request: ApplyRequest,
    ) -> Result<(Next, Vec<String>), ApplyError> {
        let store = self.store.as_ref();
        let revisions = Revisions::read(store, tenant.name()).map_err(OpenError::from)?;
        let source = if request.undo {
            revisions
                .former(store, tenant.name(), tenant.folder())
                .map_err(OpenError::from)?
                .ok_or(ApplyError::NoFormer)?
        } else {
            Source::read_folder(tenant.folder()).map_err(|why| ApplyError::Load(vec![why]))?
        };
        let (mut declared, mut warnings) =
            Declared::load(&source, tenant.context()).map_err(ApplyError::Load)?;
        let handed = hand_overs(store, tenant.name()).map_err(OpenError::from)?;
        if let Some((workload, owner, heir)) = handed.undeclared_heir(&declared) {
            return Err(ApplyError::Heir {
                workload,
                owner,
                heir,
            });
        }
        handed.apply(&mut declared);
        let (policies, doubts) = Policies::load(&source, &declared).map_err(ApplyError::Load)?;
        warnings.extend(doubts);
        self.check_neighbours(tenant, &declared)?;
        let warnings = warnings.iter().map(ToString::to_string).collect();
        let next = Next {
            source,
            declared: Arc::new(declared),
            policies: Arc::new(policies),
            revisions,
        };
        Ok((next, warnings))
    }

    /// No other tenant may accept the proofs that this state accepts.
    fn check_neighbours(&self, tenant: &Tenant, declared: &Declared) -> Result<(), ApplyError> {
        for other in self.tenants() {
            let loaded = other.loaded();
            let theirs = [other.neighbour(&loaded.declared)];
            let found = overlaps(tenant.neighbour(declared), theirs);
            if !found.is_empty() {
                return Err(ApplyError::Load(found));
            }
        }
        Ok(())
    }

    /// The one append: the entry, the source, the epochs of what is gone, and which tasks it ends.
    #[expect(
        clippy::too_many_arguments,
        reason = "both states, what is lost between them, who and why"
    )]
    fn activation(
        &self,
        tenant: &Tenant,
        next: Next,
        before: &Loaded,
        regrant: &Regrant,
        lost: &Lost,
        by: &Actor,
        reason: &str,
    ) -> Result<Append, ApplyError> {
        let now = self.now();
        let signed = Signature::of(by, reason).map_err(OpenError::from)?;
        let mut append = next.revisions.activate(Activation {
            source: &next.source,
            former: Some(&before.source),
            revision: before.revision,
            now,
            annex: signed.annex().map_err(OpenError::from)?,
            by: signed.by(),
            ends: lost.count(),
        });
        append.moves = regrant.moves(&before.declared);
        let query = FactsQuery {
            epochs: &append.moves,
            documents: Some(Moves::documents()),
            ..FactsQuery::default()
        };
        let facts = self
            .store
            .facts(tenant.name(), &query)
            .map_err(OpenError::from)?;
        let moves = Moves::of(&facts.documents).map_err(OpenError::from)?;
        let head = self.store.head(tenant.name()).map_err(OpenError::from)?;
        let note = NoteOf {
            kind: "declared.changed".to_owned(),
            on: None,
            from: head.size,
        };
        for epoch in &facts.epochs {
            let cause = removal_cause(&epoch.of);
            let document = moves.with(epoch, cause, now, Some(note.clone()));
            append.documents.push(document);
        }
        append.relies = facts.epochs;
        // Whatever becomes of this process: what is granted until the append is judged after it.
        append
            .documents
            .extend(ending::documents(lost, &before.source));
        Ok(append)
    }

    /// Records the ends that came into force with the new state. What the former one granted
    /// between the count and the activation, which made the ledger this size, goes with them
    /// (docs/decisions/0024); gives those.
    async fn end_lost(
        &self,
        tenant: &Tenant,
        regrant: &Arc<Regrant>,
        mut lost: Lost,
        size: u64,
    ) -> Result<Vec<LostTask>, ApplyError> {
        let now = self.now();
        let (lost, late) = waited(regrant, move |regrant| {
            let late = regrant.catch_up(&mut lost, size, now)?;
            Ok((lost, late))
        })
        .await?;
        let tasks: Vec<TaskId> = lost.refused.iter().copied().collect();
        self.end_by_policy(tenant, &tasks)
            .await
            .map_err(|why| ApplyError::Unfinished(why.to_string()))?;
        Ok(late)
    }
}

/// Reads on a thread that may wait for the disk.
async fn waited<T: Send + 'static>(
    regrant: &Arc<Regrant>,
    read: impl FnOnce(&Regrant) -> Result<T, RecordError> + Send + 'static,
) -> Result<T, ApplyError> {
    let regrant = Arc::clone(regrant);
    tokio::task::spawn_blocking(move || read(&regrant))
        .await
        .map_err(|why| ApplyError::Unfinished(why.to_string()))?
        .map_err(ApplyError::from)
}

fn check_agreed(open: u64, request: ApplyRequest) -> Result<(), ApplyError> {
    if request.dry_run || request.ends.unwrap_or(0) == open {
        return Ok(());
    }
    Err(ApplyError::Ends {
        open,
        agreed: request.ends,
    })
}

/// Why open tasks of something that is declared no more end.
const fn removal_cause(of: &EpochOf) -> Cause {
    match of {
        EpochOf::Issuer(_) => Cause::IssuerRemoved,
        EpochOf::Tenant | EpochOf::Owner(_) | EpochOf::Workload(_) | EpochOf::Person(_) => {
            Cause::Policy
        }
    }
}
