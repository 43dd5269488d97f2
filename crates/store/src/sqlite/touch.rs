//! What is noted without an entry, gathered until the next commit saves it.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::{Name, TaskId, Time};

use super::hearing::Hearing;
use super::view::{Published, lock};
use crate::Touch;

/// Touches that are not saved yet, each at most once.
#[derive(Debug, Default)]
pub(super) struct Touched {
    beats: BTreeMap<Name, BTreeSet<TaskId>>,
    claims: BTreeMap<(Name, Name, String), Time>,
    /// Whether any tenant's mark of life is not saved.
    alive: bool,
}

impl Touched {
    /// Notes a touch, in the view at once.
    pub(super) fn note(&mut self, published: &Published, tenant: &Name, touch: Touch) {
        match touch {
            Touch::Beat { task, at } => {
                let view = published.read();
                let Some((_, known)) = view.tenant(tenant) else {
                    return;
                };
                let Some(held) = known.open.get(&task) else {
                    return;
                };
                let is_first = held.last_seen().is_none();
                if held.hear(at) {
                    if is_first {
                        let hearing = lock(&known.hearing);
                        lock(&known.due).list(task, held, &hearing);
                    }
                    self.beat(tenant, task);
                }
            }
            Touch::Claim {
                issuer,
                series,
                until,
            } => self.keep(tenant, issuer, series, until),
            Touch::Deaf { from, to } => {
                self.hear(published, tenant, |hearing| hearing.deafen(from, to));
            }
            Touch::Alive { at } => self.hear(published, tenant, |hearing| hearing.mark(at)),
            Touch::Clock { at } => self.set_back(published, tenant, at),
        }
    }

    /// Has nothing be heard later than this.
    fn set_back(&mut self, published: &Published, tenant: &Name, at: Time) {
        let view = published.read();
        let Some((_, known)) = view.tenant(tenant) else {
            return;
        };
        let mut hearing = lock(&known.hearing);
        let mut due = lock(&known.due);
        let all = hearing.set_back(at);
        self.alive |= all;
        for (task, held) in &known.open {
            let one = held.set_back(at);
            if one {
                self.beat(tenant, *task);
            }
            // It is due earlier than it was.
            if all || one {
                due.list(*task, held, &hearing);
            }
        }
    }

    fn hear(&mut self, published: &Published, tenant: &Name, mark: impl FnOnce(&mut Hearing)) {
        if let Some((_, known)) = published.read().tenant(tenant) {
            mark(&mut lock(&known.hearing));
            self.alive = true;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.beats.is_empty() && self.claims.is_empty() && !self.alive
    }

    /// Takes back what a failed commit did not save.
    pub(super) fn take_back(&mut self, unsaved: Self) {
        for (tenant, tasks) in unsaved.beats {
            self.beats.entry(tenant).or_default().extend(tasks);
        }
        for ((tenant, issuer, series), until) in unsaved.claims {
            self.keep(&tenant, issuer, series, until);
        }
        self.alive |= unsaved.alive;
    }

    pub(super) fn beats(&self) -> impl Iterator<Item = (&Name, TaskId)> {
        self.beats
            .iter()
            .flat_map(|(tenant, tasks)| tasks.iter().map(move |task| (tenant, *task)))
    }

    pub(super) fn claims(&self) -> impl Iterator<Item = (&Name, &Name, &str, Time)> {
        self.claims
            .iter()
            .map(|((tenant, issuer, series), until)| (tenant, issuer, series.as_str(), *until))
    }

    fn beat(&mut self, tenant: &Name, task: TaskId) {
        match self.beats.get_mut(tenant) {
            Some(tasks) => {
                tasks.insert(task);
            }
            None => {
                self.beats.insert(tenant.clone(), BTreeSet::from([task]));
            }
        }
    }

    fn keep(&mut self, tenant: &Name, issuer: Name, series: String, until: Time) {
        let kept = self
            .claims
            .entry((tenant.clone(), issuer, series))
            .or_insert(until);
        *kept = until.max(*kept);
    }
}
