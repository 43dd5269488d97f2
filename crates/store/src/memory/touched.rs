//! What makes no entry: beats, marks of life, and claims to be kept for longer.

use std::collections::BTreeMap;

use dayfly_domain::{Name, Span, TaskId, Time};

use super::ledger::{Claimed, ClosedRun, Ledger};
use crate::{ALIVE_GAP, Touch};

/// What makes no entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    pub(super) seen: BTreeMap<TaskId, Time>,
    pub(super) alive: Option<Time>,
    pub(super) deaf: Vec<(Time, Time)>,
    pub(super) keeps: Vec<(Name, String, Time)>,
}

impl Ledger {
    pub(super) fn touch(&mut self, touch: Touch) {
        match touch {
            Touch::Beat { task, at } => {
                if self.tasks.contains_key(&task) {
                    let seen = self.touched.seen.entry(task).or_insert(at);
                    *seen = at.max(*seen);
                }
            }
            Touch::Claim {
                issuer,
                series,
                until,
            } => {
                self.touched.keeps.push((issuer, series, until));
            }
            Touch::Deaf { from, to } => self.touched.deafen(from, to),
            Touch::Alive { at } => self.touched.mark(at),
            Touch::Clock { at } => self.touched.set_back(at),
        }
    }

    /// Makes the touches durable.
    pub(super) fn save(&mut self) {
        for (issuer, series, until) in std::mem::take(&mut self.touched.keeps) {
            let of_series = |held: &&mut Claimed| held.issuer == issuer && held.series == series;
            for held in self.claims.iter_mut().filter(of_series) {
                held.until = until.max(held.until);
            }
            let of_series = |held: &&mut ClosedRun| held.issuer == issuer && held.series == series;
            for held in self.closed.iter_mut().filter(of_series) {
                held.until = until.max(held.until);
            }
        }
        self.saved = self.touched.clone();
    }

    pub(super) fn forget_unsaved(&mut self) {
        self.touched = self.saved.clone();
    }
}

impl Touched {
    pub(super) fn mark(&mut self, at: Time) {
        if let Some(last) = self.alive
            && at.since(last) > ALIVE_GAP
        {
            self.deafen(last, at);
        }
        self.alive = self.alive.max(Some(at));
    }

    /// Has nothing be heard or marked later than this.
    fn set_back(&mut self, at: Time) {
        for seen in self.seen.values_mut() {
            *seen = at.min(*seen);
        }
        self.alive = self.alive.map(|alive| alive.min(at));
        for (_, until) in &mut self.deaf {
            *until = at.min(*until);
        }
        self.deaf.retain(|(since, until)| since < until);
    }

    /// Counts a span as deaf, but for what of it is counted already.
    fn deafen(&mut self, from: Time, to: Time) {
        let mut rest = vec![(from, to)];
        for (since, until) in &self.deaf {
            let parts = rest
                .into_iter()
                .flat_map(|(from, to)| [(from, to.min(*since)), (from.max(*until), to)]);
            rest = parts.filter(|(from, to)| from < to).collect();
        }
        self.deaf
            .extend(rest.into_iter().filter(|(from, to)| from < to));
    }

    pub(super) fn deaf_since(&self, seen: Option<Time>) -> Span {
        let Some(seen) = seen else { return Span::ZERO };
        let overlaps = self
            .deaf
            .iter()
            .map(|(since, until)| until.since(seen.max(*since)));
        overlaps.fold(Span::ZERO, |sum, overlap| sum + overlap)
    }
}
