//! The newest token of each pod that has a task open, in memory alone, and whose turn it is to be asked about.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dayfly_domain::{Name, Span, TaskId, Time};
use dayfly_store::Committed;

use crate::verify::PodToken;

/// Of how many pods of one issuer tokens are kept.
pub(super) const MOST: usize = 16_384;
/// How much memory these may take.
const MOST_BYTES: usize = 32 << 20;
/// How much longer than its turn a pod may wait before somebody should look.
const LATE: u64 = 2;

/// The issuer of a tenant.
pub(super) type Of = (Name, Name);

/// Tokens by issuer and pod.
#[derive(Debug, Default)]
pub(crate) struct Pods(Mutex<BTreeMap<Of, OfIssuer>>);

#[derive(Debug, Default)]
struct OfIssuer {
    /// By the series of its tasks, which is the pod's uid.
    kept: HashMap<String, Kept>,
    /// The same in the order of their turns.
    turns: BTreeSet<(Time, String)>,
    bytes: usize,
    /// Whether somebody asks: one question at a time.
    asking: bool,
    /// Until when nobody asks after a question that was not answered.
    rests: Time,
}

#[derive(Debug)]
struct Kept {
    token: Arc<PodToken>,
    tasks: BTreeSet<TaskId>,
    due: Time,
}

/// A pod whose turn it is.
pub(super) struct Turn {
    /// The series of its tasks.
    pub(super) series: String,
    pub(super) token: Arc<PodToken>,
    pub(super) tasks: Vec<TaskId>,
}

/// How many pods of an issuer are asked about.
pub(crate) struct Watched {
    /// The tenant.
    pub(crate) tenant: Name,
    /// The declared issuer.
    pub(crate) issuer: Name,
    /// How many.
    pub(crate) pods: usize,
    /// Whether there is no room for more.
    pub(crate) is_full: bool,
    /// The turn that has come first.
    pub(crate) first: Option<Time>,
}

impl Pods {
    /// Keeps the token of a pod that has this task open, unless a newer one is kept. One for which
    /// there is no room is not kept.
    pub(super) fn keep(
        &self,
        tenant: &Name,
        token: &Arc<PodToken>,
        series: &str,
        task: TaskId,
        due: Time,
    ) {
        let mut pods = self.locked();
        let of = (tenant.clone(), token.issuer().clone());
        let of_issuer = pods.entry(of).or_default();
        let newer = match of_issuer.kept.get_mut(series) {
            Some(kept) => {
                kept.tasks.insert(task);
                if token.made() < kept.token.made() {
                    return;
                }
                of_issuer.remove(series).map(|kept| kept.tasks)
            }
            None => None,
        };
        let mut tasks = newer.unwrap_or_default();
        tasks.insert(task);
        of_issuer.add(
            series,
            Kept {
                token: Arc::clone(token),
                tasks,
                due,
            },
        );
    }

    /// An append is durable: what ended by it needs no token any more.
    pub(crate) fn committed(&self, tenant: &Name, committed: &Committed) {
        let changes = committed.changes().iter();
        for change in changes.filter(|change| change.next.has_ended()) {
            let mut pods = self.locked();
            if pods.is_empty() {
                return;
            }
            let of = (tenant.clone(), change.next.issuer.clone());
            if let Some(of_issuer) = pods.get_mut(&of) {
                of_issuer.ended(&change.next.series, &[change.task]);
            }
        }
    }

    /// The issuers of which somebody's turn has come and nobody asks, who are asked from now on.
    pub(super) fn begin(self: &Arc<Self>, now: Time) -> Vec<Asking> {
        let mut pods = self.locked();
        let due = pods.iter_mut().filter(|(_, of)| of.is_due(now));
        due.map(|(of, of_issuer)| {
            of_issuer.asking = true;
            Asking {
                pods: Arc::clone(self),
                of: of.clone(),
            }
        })
        .collect()
    }

    /// How many are asked about, by issuer.
    pub(crate) fn watched(&self) -> Vec<Watched> {
        let pods = self.locked();
        let watched = pods.iter().map(|((tenant, issuer), of)| Watched {
            tenant: tenant.clone(),
            issuer: issuer.clone(),
            pods: of.kept.len(),
            is_full: of.is_full(0),
            first: of.turns.first().map(|(due, _)| *due),
        });
        watched.collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Of, OfIssuer>> {
        // INVARIANT: `kept` and `turns` are changed together by calls that do not panic between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Whether the pods wait longer than they should, when each is asked about so often.
    pub(crate) fn is_late(&self, every: Span, now: Time) -> bool {
        let late = Span::from_millis(every.millis().saturating_mul(LATE));
        self.first.is_some_and(|due| now.since(due) > late)
    }
}

impl OfIssuer {
    fn is_due(&self, now: Time) -> bool {
        let first = self.turns.first();
        !self.asking && self.rests <= now && first.is_some_and(|(due, _)| *due <= now)
    }

    fn is_full(&self, more: usize) -> bool {
        self.kept.len() >= MOST || self.bytes.saturating_add(more) > MOST_BYTES
    }

    fn add(&mut self, series: &str, kept: Kept) {
        let bytes = kept.token.bytes();
        if self.is_full(bytes) {
            return;
        }
        self.bytes += bytes;
        self.turns.insert((kept.due, series.to_owned()));
        self.kept.insert(series.to_owned(), kept);
    }

    fn remove(&mut self, series: &str) -> Option<Kept> {
        let kept = self.kept.remove(series)?;
        self.turns.remove(&(kept.due, series.to_owned()));
        self.bytes = self.bytes.saturating_sub(kept.token.bytes());
        Some(kept)
    }

    fn ended(&mut self, series: &str, tasks: &[TaskId]) {
        let Some(kept) = self.kept.get_mut(series) else {
            return;
        };
        kept.tasks.retain(|task| !tasks.contains(task));
        if kept.tasks.is_empty() {
            self.remove(series);
        }
    }
}

/// That nobody else asks about the pods of an issuer for as long as this is there.
pub(super) struct Asking {
    pods: Arc<Pods>,
    pub(super) of: Of,
}

impl Asking {
    /// The pod whose turn came first.
    pub(super) fn next(&self, now: Time) -> Option<Turn> {
        self.with(|of| {
            let (due, series) = of.turns.first()?;
            let kept = of.kept.get(series).filter(|_| *due <= now)?;
            Some(Turn {
                series: series.clone(),
                token: Arc::clone(&kept.token),
                tasks: kept.tasks.iter().copied().collect(),
            })
        })
    }

    /// It is asked about again then, unless another token came meanwhile, whose turn that is.
    pub(super) fn put_off(&self, turn: &Turn, until: Time) {
        self.with(|of| {
            if of.is_current(turn)
                && let Some(kept) = of.remove(&turn.series)
            {
                let kept = Kept { due: until, ..kept };
                of.add(&turn.series, kept);
            }
            None::<()>
        });
    }

    /// Whether no other token of the pod came since its turn began.
    pub(super) fn is_current(&self, turn: &Turn) -> bool {
        let current = self.with(|of| Some(of.is_current(turn)));
        current.unwrap_or(false)
    }

    /// Nothing can be said by its token any more.
    pub(super) fn forget(&self, turn: &Turn) {
        self.with(|of| {
            of.is_current(turn).then(|| of.remove(&turn.series))?;
            None::<()>
        });
    }

    /// These have ended.
    pub(super) fn ended(&self, turn: &Turn, tasks: &[TaskId]) {
        self.with(|of| {
            of.ended(&turn.series, tasks);
            None::<()>
        });
    }

    /// Nobody is asked about the pods of this issuer any more.
    pub(super) fn forget_all(&self) {
        self.with(|of| {
            *of = OfIssuer {
                asking: true,
                ..OfIssuer::default()
            };
            None::<()>
        });
    }

    /// Nobody asks until then.
    pub(super) fn rest(&self, until: Time) {
        self.with(|of| {
            of.rests = until;
            None::<()>
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut OfIssuer) -> Option<T>) -> Option<T> {
        act(self.pods.locked().get_mut(&self.of)?)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut pods = self.pods.locked();
        let Some(of) = pods.get_mut(&self.of) else {
            return;
        };
        of.asking = false;
        if of.kept.is_empty() {
            pods.remove(&self.of);
        }
    }
}

impl OfIssuer {
    fn is_current(&self, turn: &Turn) -> bool {
        let kept = self.kept.get(&turn.series);
        kept.is_some_and(|kept| Arc::ptr_eq(&kept.token, &turn.token))
    }
}
