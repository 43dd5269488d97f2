//! What is remembered of a workload for the sake of findings: counts of what happened, never a line
//! for each time.
//!
//! Times that move with every task are kept by the day or the hour, so that what is kept changes
//! seldom.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::{Cause, RefusalId, Span, Time};
use serde::{Deserialize, Serialize};

use super::Bound;
use super::parts::Part;

pub(super) const HOUR: Span = Span::from_seconds(3600);
pub(super) const DAY: Span = Span::from_seconds(86_400);
/// How long after the last task that said nothing the finding stays, and how long a bound that was
/// come near is remembered.
const QUIET: Span = DAY;
/// How long a proof that was shown by two keys is remembered, and a helper without a key.
const WEEK: Span = Span::from_seconds(7 * 86_400);

/// What happened to a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// When its last task started, to the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) started: Option<Time>,
    /// Tasks that ended without a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) silent: Option<Times>,
    /// Whether a task ended by its own word after the last of these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) orderly: bool,
    /// Proofs that were shown by two keys, with the last refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) two_keys: Option<(Times, RefusalId)>,
    /// When a helper without a key came in last, to the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bearer_child: Option<Time>,
    /// How much of its bounds was used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) used: BTreeMap<Bound, Used>,
    /// What was granted and used of its access, by the names of its parts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) parts: BTreeMap<String, Part>,
}

/// What happened so often, from when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(super) count: u64,
    pub(super) first: Time,
    pub(super) last: Time,
}

/// How much of a bound was used at most, and when last, to the hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Used {
    pub(super) most: u64,
    pub(super) at: Time,
}

/// A workload that is declared, and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Since when it is known to be declared.
    pub(super) since: Time,
    #[serde(flatten)]
    pub(super) counted: Counted,
}

impl Times {
    const fn once(at: Time) -> Self {
        Self {
            count: 1,
            first: at,
            last: at,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

fn both(a: Option<Times>, b: Option<Times>) -> Option<Times> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.and(b)),
        (one, None) | (None, one) => one,
    }
}

impl Counted {
    /// A task started.
    pub(crate) fn started(&mut self, at: Time) {
        self.started = self.started.max(Some(floor(at, DAY)));
    }

    /// A client handed over to a helper that has no key.
    pub(crate) fn handed_to_bearer(&mut self, at: Time) {
        self.bearer_child = self.bearer_child.max(Some(floor(at, DAY)));
    }

    /// A task ended. Only ends by its own word or by no word at all say something of the workload.
    pub(crate) fn ended(&mut self, cause: Cause, at: Time) {
        match cause {
            Cause::Deadline | Cause::Heartbeat => {
                self.silent = both(self.silent, Some(Times::once(at)));
                self.orderly = false;
            }
            Cause::Completed | Cause::Failed | Cause::Cancelled => self.orderly = true,
            Cause::Superseded
            | Cause::Parent
            | Cause::Revoked
            | Cause::Denied
            | Cause::Expired
            | Cause::OwnerOffboarded
            | Cause::WorkloadDisabled
            | Cause::IssuerRemoved
            | Cause::Policy
            | Cause::Operator
            | Cause::Upstream
            | Cause::Restored => {}
        }
    }

    /// A proof was shown by another key.
    pub(crate) fn shown_by_two_keys(&mut self, refusal: RefusalId, at: Time) {
        let times = self.two_keys.map(|(times, _)| times);
        let times = both(times, Some(Times::once(at)));
        self.two_keys = times.map(|times| (times, refusal));
    }

    /// So much of a bound is used.
    pub(crate) fn uses(&mut self, bound: Bound, most: u64, at: Time) {
        let used = Used {
            most,
            at: floor(at, HOUR),
        };
        self.used
            .entry(bound)
            .and_modify(|known| *known = known.and(used))
            .or_insert(used);
    }

    /// A task was granted these parts of its access.
    pub(crate) fn granted(&mut self, parts: impl IntoIterator<Item = String>, at: Time) {
        for part in parts {
            self.parts.entry(part).or_default().granted(at);
        }
    }

    /// These parts of its access were used.
    pub(crate) fn used(&mut self, parts: impl IntoIterator<Item = String>, at: Time) {
        for part in parts {
            self.parts.entry(part).or_default().used(at);
        }
    }

    /// Whether somebody should hear of it soon.
    pub(crate) const fn is_urgent(&self) -> bool {
        self.silent.is_some() || self.two_keys.is_some()
    }

    /// Keeps only the bounds of which this holds.
    pub(crate) fn retain_used(&mut self, mut near: impl FnMut(Bound, u64) -> bool) {
        self.used.retain(|bound, used| near(*bound, used.most));
    }

    /// What happened before, and this after it.
    pub(crate) fn then(self, later: Self) -> Self {
        let two_keys = match (self.two_keys, later.two_keys) {
            (Some((before, _)), Some((after, refusal))) => Some((before.and(after), refusal)),
            (one, None) | (None, one) => one,
        };
        let mut used = self.used;
        for (bound, after) in later.used {
            used.entry(bound)
                .and_modify(|before| *before = before.and(after))
                .or_insert(after);
        }
        let mut parts = self.parts;
        for (part, after) in later.parts {
            let before = parts.entry(part).or_default();
            *before = before.and(after);
        }
        Self {
            parts,
            started: self.started.max(later.started),
            orderly: later.orderly || (self.orderly && later.silent.is_none()),
            silent: both(self.silent, later.silent),
            bearer_child: self.bearer_child.max(later.bearer_child),
            two_keys,
            used,
        }
    }

    /// What of it still says something at this time.
    pub(crate) fn settled(mut self, now: Time) -> Self {
        let orderly = self.orderly;
        self.silent = self
            .silent
            .filter(|silent| !(orderly && now.since(silent.last) >= QUIET));
        self.orderly = self.orderly && self.silent.is_some();
        self.two_keys = self
            .two_keys
            .filter(|(times, _)| now.since(times.last) < WEEK);
        self.bearer_child = self.bearer_child.filter(|last| now.since(*last) < WEEK);
        self.used.retain(|_, used| now.since(used.at) < QUIET);
        self
    }
}

impl Used {
    fn and(self, other: Self) -> Self {
        Self {
            most: self.most.max(other.most),
            at: self.at.max(other.at),
        }
    }
}

impl Seen {
    /// A workload that was not known before.
    pub(crate) fn new(since: Time) -> Self {
        Self {
            since,
            counted: Counted::default(),
        }
    }

    /// Forgets the parts that it may not have any more, so that what is kept does not grow.
    pub(crate) fn retain_parts(mut self, declared: &BTreeSet<String>) -> Self {
        self.counted.parts.retain(|part, _| declared.contains(part));
        self
    }

    /// What is counted of one part; nothing where none of it was granted or used.
    pub(crate) fn part(&self, part: &str) -> Part {
        self.counted.parts.get(part).copied().unwrap_or_default()
    }

    /// The same after what has happened meanwhile.
    pub(crate) fn then(self, later: Counted, now: Time) -> Self {
        Self {
            since: self.since,
            counted: self.counted.then(later).settled(now),
        }
    }
}

pub(super) fn floor(at: Time, step: Span) -> Time {
    let step = step.millis();
    Time::from_millis(at.millis() / step * step)
}
