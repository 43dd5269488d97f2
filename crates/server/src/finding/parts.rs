//! What is counted of uses: for each action that a declared detail allows at a resource that reports
//! them, in how many tasks it was granted and how often it was used. As many counts as are declared.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::access::{Detail, Field, detail_covers};
use dayfly_domain::{Claims, Name, Time, Workload};
use dayfly_token::{b64, hash};
use serde::{Deserialize, Serialize};

use super::seen::{DAY, HOUR, floor};
use crate::declared::Declared;

/// One action of one declared detail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Since when it is known to be granted, to the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Time>,
    /// In how many tasks.
    #[serde(default)]
    pub(crate) granted: u64,
    /// How often it was used.
    #[serde(default)]
    pub(crate) used: u64,
    /// When last, to the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<Time>,
}

impl Part {
    /// It was granted to a task.
    pub(super) fn granted(&mut self, at: Time) {
        *self = self.and(Self {
            since: Some(floor(at, DAY)),
            granted: 1,
            ..Self::default()
        });
    }

    /// It was used.
    pub(super) fn used(&mut self, at: Time) {
        *self = self.and(Self {
            used: 1,
            last: Some(floor(at, HOUR)),
            ..Self::default()
        });
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        let since = match (self.since, other.since) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, None) | (None, one) => one,
        };
        Self {
            since,
            granted: self.granted.saturating_add(other.granted),
            used: self.used.saturating_add(other.used),
            last: self.last.max(other.last),
        }
    }
}

/// The details of which uses are counted, by workload.
#[derive(Debug, Default)]
pub(crate) struct Watched(BTreeMap<Name, Vec<Watch>>);

/// One declared detail at a resource that reports.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The workload with this detail alone, so that it is filled by itself.
    single: Workload,
    pub(crate) detail: Detail,
    /// What it is, whichever actions it allows.
    pub(crate) place: String,
    pub(crate) actions: BTreeSet<String>,
}

impl Watched {
    /// The details of what is declared.
    pub(crate) fn of(declared: &Declared) -> Self {
        let watches = |detail: &&Detail| {
            let resource = declared.resources.get(&detail.resource);
            resource.is_some_and(|resource| resource.reports)
        };
        let all = declared.workloads.values().map(|found| &found.workload);
        let all = all.map(|workload| {
            let watched = workload.access.iter().filter(watches);
            let watched = watched.filter_map(|detail| Watch::of(workload, detail));
            (workload.name.clone(), watched.collect::<Vec<Watch>>())
        });
        Self(all.filter(|(_, watched)| !watched.is_empty()).collect())
    }

    /// Those of a workload.
    pub(crate) fn of_workload(&self, workload: &Name) -> &[Watch] {
        self.0.get(workload).map_or(&[], Vec::as_slice)
    }

    /// The names of all parts of a workload.
    pub(crate) fn parts(&self, workload: &Name) -> BTreeSet<String> {
        let all = self.of_workload(workload).iter();
        all.flat_map(|watch| watch.actions.iter().map(|action| watch.part(action)))
            .collect()
    }

    /// The parts that an access holds, each by the first detail that covers it, as reviews read it.
    pub(crate) fn granted(
        &self,
        workload: &Name,
        filled: &Claims,
        access: &[Detail],
    ) -> BTreeSet<String> {
        let watched = self.of_workload(workload);
        if watched.is_empty() {
            return BTreeSet::new();
        }
        let mut parts = BTreeSet::new();
        for granted in access {
            let mut covering = watched.iter().filter(|watch| watch.covers(filled, granted));
            if let Some(watch) = covering.next() {
                parts.extend(actions(granted).map(|action| watch.part(action)));
            }
        }
        parts
    }

    /// The parts that one use is of, by every detail that covers it: none of them is unused.
    pub(crate) fn used(&self, workload: &Name, filled: &Claims, used: &Detail) -> BTreeSet<String> {
        let watched = self.of_workload(workload).iter();
        let covering = watched.filter(|watch| watch.covers(filled, used));
        covering
            .flat_map(|watch| actions(used).map(|action| watch.part(action)))
            .collect()
    }
}

impl Watch {
    /// None for a detail without actions: a use is always of one.
    fn of(workload: &Workload, detail: &Detail) -> Option<Self> {
        let actions: BTreeSet<String> = actions(detail).cloned().collect();
        if actions.is_empty() {
            return None;
        }
        let mut bare = Detail {
            scope: None,
            ..detail.clone()
        };
        bare.fields.remove("actions");
        let text = serde_json::to_vec(&bare).unwrap_or_default();
        let [a, b, c, d, e, f, ..] = hash::sha256(&text);
        Some(Self {
            single: Workload {
                access: vec![detail.clone()],
                ..workload.clone()
            },
            detail: detail.clone(),
            place: b64::encode([a, b, c, d, e, f]),
            actions,
        })
    }

    /// The name of one of its parts. An action that is taken out of a detail leaves the others theirs.
    pub(crate) fn part(&self, action: &str) -> String {
        format!("{}/{action}", self.place)
    }

    fn covers(&self, filled: &Claims, inner: &Detail) -> bool {
        self.detail.kind == inner.kind
            && self.detail.resource == inner.resource
            && self
                .single
                .ceiling_kept(filled)
                .iter()
                .any(|ceiling| detail_covers(ceiling, inner))
    }
}

fn actions(detail: &Detail) -> impl Iterator<Item = &String> {
    let actions = detail.fields.get("actions").and_then(|field| match field {
        Field::Set(actions) => Some(actions),
        Field::Exact(_) | Field::Max(_) | Field::Min(_) | Field::Path(_) => None,
    });
    actions.into_iter().flatten()
}
