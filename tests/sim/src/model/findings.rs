//! Which findings must be open, by what is declared, who is out, which blocks stand, and how tasks ended.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::{Span, Time};

use super::Model;
use super::workloads::{OWNERS, WORKLOADS};

const DAY: Span = Span::from_seconds(86_400);
/// A block that stands for so long is old.
const OLD: Span = Span::from_seconds(30 * 86_400);
/// The findings that the model knows of.
pub(crate) const KINDS: [&str; 6] = [
    "bearer_allowed",
    "never_closed",
    "old_block",
    "one_person_owner",
    "ownerless",
    "static_secret",
];

/// How an end is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// The task said nothing.
    Silent,
    /// It ended by its own word.
    Orderly,
    /// Somebody else ended it, or it never opened.
    Otherwise,
}

/// How the tasks of workloads ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends(BTreeMap<usize, Silence>);

/// What is known of the tasks of one workload that ended without a word.
#[derive(Clone, Copy, Debug, Default)]
struct Silence {
    /// When the last did.
    last: Option<Time>,
    /// Whether one ended by its own word after that.
    orderly: bool,
    /// Whether nobody can say: what is counted and not looked at yet is lost with the process.
    unknown: bool,
}

impl Counted {
    /// By the cause of an end.
    pub(crate) fn of(cause: &str) -> Self {
        match cause {
            "deadline" | "heartbeat" => Self::Silent,
            "completed" | "failed" | "cancelled" => Self::Orderly,
            _ => Self::Otherwise,
        }
    }
}

impl Ends {
    /// A task of a workload ended then; its count may be lost.
    pub(crate) fn add(&mut self, workload: usize, how: Counted, at: Time, may_be_lost: bool) {
        let of = self.0.entry(workload).or_default();
        match how {
            Counted::Otherwise => {}
            Counted::Silent | Counted::Orderly if may_be_lost => of.unknown = true,
            Counted::Silent => {
                *of = Silence {
                    last: Some(at),
                    ..Silence::default()
                };
            }
            Counted::Orderly => of.orderly = true,
        }
    }

    /// Somebody looks: what is not declared is forgotten, and who has been quiet for a day and ended
    /// by a word since is well again.
    pub(crate) fn settle(&mut self, declared: &BTreeSet<usize>, now: Time) {
        self.0.retain(|workload, of| {
            let well = of
                .last
                .is_none_or(|last| of.orderly && now.since(last) >= DAY);
            declared.contains(workload) && (of.unknown || !well)
        });
    }
}

impl Model {
    /// The findings of these kinds that must be open, each by whether that is known.
    pub(crate) fn findings(&self) -> BTreeMap<String, bool> {
        let mut found = BTreeMap::new();
        let mut open = |id: String| {
            found.insert(id, true);
        };
        open("static_secret/resource:artifacts".to_owned());
        for workload in &self.declared {
            let of = WORKLOADS[*workload];
            if of.bearer {
                open(format!("bearer_allowed/workload:{}", of.name));
            }
        }
        for (owner, members) in OWNERS {
            let gone = members.iter().all(|who| self.words.out.contains_key(who));
            if self.has_workloads(owner) && (gone || self.offboarded.contains_key(owner)) {
                open(format!("ownerless/owner:{owner}"));
            }
        }
        for block in self.old_blocks() {
            open(format!("old_block/{block}"));
        }
        for (workload, of) in &self.ends.0 {
            let id = format!("never_closed/workload:{}", WORKLOADS[*workload].name);
            found.insert(id, !of.unknown);
        }
        found
    }

    fn has_workloads(&self, owner: &str) -> bool {
        let mut declared = self.declared.iter();
        declared.any(|workload| WORKLOADS[*workload].owner == owner)
    }

    /// What has been kept out for a month: owners that have workloads want an owner anyway, and what
    /// is not declared is kept out by that. Whom the provider keeps out is nobody's to mend here.
    fn old_blocks(&self) -> BTreeSet<String> {
        let is_old = |since: &Time| self.now.since(*since) >= OLD;
        let mut old = BTreeSet::new();
        let runs = self
            .blocked
            .iter()
            .map(|((of, _), since)| ("series", of, since));
        let keys = self
            .barred
            .iter()
            .map(|((of, _), since)| ("key", of, since));
        for (kind, workload, since) in runs.chain(keys) {
            if is_old(since) {
                old.insert(format!("{kind}:{}", WORKLOADS[*workload].proof.issuer()));
            }
        }
        for (owner, since) in &self.offboarded {
            if is_old(since) && !self.has_workloads(owner) {
                old.insert(format!("owner:{owner}"));
            }
        }
        for (workload, since) in &self.disabled {
            if is_old(since) && self.declared.contains(workload) {
                old.insert(format!("workload:{}", WORKLOADS[*workload].name));
            }
        }
        if self.frozen.as_ref().is_some_and(is_old) {
            old.insert("tenant".to_owned());
        }
        old
    }
}
