//! A review of an owner: for each of its workloads what it may have, what was granted of it and, where
//! the resource reports uses, used; how often it ran and how it ended.

use std::collections::BTreeSet;
use std::path::Path;

use dayfly_domain::access::{Detail, Field, detail_covers};
use dayfly_domain::{Actor, Cause, Delegation, Digest, Event, Kind, Name, TaskId, Time, Workload};
use dayfly_store::{FactsQuery, SearchKey, Store, Unavailable};
use serde::{Deserialize, Serialize};

use super::access_line;
use super::entry::{each_of, entry_at, event_of};
use super::error::RecordError;
use super::findings::{FindingView, findings};
use crate::declared::{Declared, Source};
use crate::finding::{Kept, PREFIX, Part, Watched};

/// The document that holds the source of the declared state.
const DECLARED: &str = "declared";
/// The documents of reviews that were signed off begin so; what follows is the owner.
const SIGNED: &str = "review/";
/// How many entries are read for one review. They are shared out among the workloads.
const READ: usize = 20_000;
/// How many entries are read of each workload at least.
const LEAST: usize = 100;
const PAGE: usize = 256;

/// What a review shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Whose workloads they are.
    pub owner: Name,
    /// From when on runs are counted.
    pub since: Time,
    /// Until when.
    pub until: Time,
    /// The revision of the declared state.
    pub revision: u64,
    /// The hash of it, as in `declared.changed`.
    pub hash: Digest,
    /// Its workloads.
    pub workloads: Vec<WorkloadReview>,
    /// What there is to be looked at.
    pub findings: Vec<FindingView>,
    /// The last review that was signed off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<SignedReview>,
}

/// One workload of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadReview {
    /// Its name.
    pub workload: Name,
    /// What it is.
    pub kind: Kind,
    /// What it is for.
    pub purpose: String,
    /// What it may have.
    pub access: Vec<Allowed>,
    /// To whom its clients may hand that over; none where to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hands_over: Option<HandsOver>,
    /// The other workloads whose clients may hand over to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handed_by: Vec<Name>,
    /// How many tasks of it started.
    pub runs: u64,
    /// How many of these ended by deadline or silence.
    pub silent: u64,
    /// When the last one started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Time>,
    /// Whether all of the time was looked at; where not, there are older runs that are not counted.
    pub complete: bool,
}

/// What a workload's clients may hand over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandsOver {
    /// The workloads that may become a child; its own name stands for helpers of its own.
    pub to: Vec<Name>,
    /// How many clients may stand below one another.
    pub depth: u32,
    /// How often may be handed over.
    pub clients: u32,
    /// Whether helpers of its own prove themselves too.
    pub proven: bool,
}

/// One detail of its ceiling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// What it allows.
    pub allowed: String,
    /// In how many runs something of it was granted.
    pub granted: u64,
    /// The actions of it that were granted in none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never: Vec<String>,
    /// What of it was used; none where its resource does not report uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// What was used of a detail, as it is counted from when its resource was known to report uses, or
/// from when the detail was declared as it is; whatever time is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Since when the resource is known to report them.
    pub since: Time,
    /// How often, where several actions are counted together.
    pub times: u64,
    /// When last, to the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Time>,
    /// The actions that were granted and never used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never: Vec<String>,
}

/// A review that was signed off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReview {
    /// When.
    pub at: Time,
    /// Over which revision of the declared state.
    pub revision: u64,
    /// Its hash.
    pub hash: Digest,
}

/// Reviews an owner that is declared; none where it is not. `in_force` is the revision and the hash
/// of the very state that `declared` is.
///
/// # Errors
/// [`RecordError`] when the record cannot be read.
pub fn review(
    store: &dyn Store,
    tenant: &Name,
    (declared, in_force): (&Declared, (u64, Digest)),
    owner: &Name,
    (since, until): (Time, Time),
) -> Result<Option<Review>, RecordError> {
    if !declared.owners.contains_key(owner) {
        return Ok(None);
    }
    let own = declared.workloads.values();
    let own: Vec<_> = own.filter(|found| found.workload.owner == *owner).collect();
    let budget = (READ / own.len().max(1)).max(LEAST);
    let query = FactsQuery {
        documents: Some(PREFIX),
        ..FactsQuery::default()
    };
    let kept = Kept::of(&store.facts(tenant, &query)?.documents);
    let watched = Watched::of(declared);
    let mut workloads = Vec::with_capacity(own.len());
    for found in own {
        let reader = Reader {
            store,
            tenant,
            since,
            until,
        };
        let mut view = reader.review(&found.workload, budget)?;
        view.handed_by = handed_by(declared, &found.workload.name);
        for (allowed, detail) in view.access.iter_mut().zip(&found.workload.access) {
            allowed.used = used(&kept, &watched, &found.workload.name, detail);
        }
        workloads.push(view);
    }
    let (revision, hash) = in_force;
    let mut found = findings(store, tenant, false)?.findings;
    found.retain(|view| view.what.owner() == Some(owner));
    Ok(Some(Review {
        owner: owner.clone(),
        since,
        until,
        revision,
        hash,
        workloads,
        findings: found,
        last: last(store, tenant, owner)?,
    }))
}

/// What is counted of the uses of a detail.
fn used(kept: &Kept, watched: &Watched, workload: &Name, detail: &Detail) -> Option<Used> {
    let since = *kept.reports.get(&detail.resource)?;
    let watch = watched.of_workload(workload).iter();
    let watch = watch.clone().find(|watch| watch.detail == *detail)?;
    let mut sum = Part::default();
    let mut never = Vec::new();
    for action in &watch.actions {
        let seen = kept.seen.get(workload);
        let part = seen.map(|seen| seen.part(&watch.part(action)));
        let part = part.unwrap_or_default();
        if part.granted > 0 && part.used == 0 {
            never.push(action.clone());
        }
        sum = sum.and(part);
    }
    Some(Used {
        since,
        times: sum.used,
        last: sum.last,
        never,
    })
}

/// The other workloads whose clients may hand over to this one.
fn handed_by(declared: &Declared, workload: &Name) -> Vec<Name> {
    let all = declared.workloads.values().map(|found| &found.workload);
    let gives = |giver: &&Workload| {
        let delegation = giver.delegation.as_ref();
        giver.name != *workload && delegation.is_some_and(|gives| gives.to.contains(workload))
    };
    all.filter(gives).map(|giver| giver.name.clone()).collect()
}

/// The name of the document of an owner's last review.
pub(crate) fn signed_document(owner: &Name) -> String {
    format!("{SIGNED}{owner}")
}

/// The revision and the hash of the declared state that a ledger has in force.
///
/// # Errors
/// [`RecordError`] when it cannot be read.
pub fn in_force(store: &dyn Store, tenant: &Name) -> Result<(u64, Digest), RecordError> {
    let query = FactsQuery {
        documents: Some(DECLARED),
        ..FactsQuery::default()
    };
    let facts = store.facts(tenant, &query)?;
    let mut documents = facts.documents.iter();
    let (_, bytes) = documents
        .find(|(name, _)| name == DECLARED)
        .ok_or_else(|| Unavailable("nothing is declared".to_owned()))?;
    // The files that it names are not read: its hash is that of its own text.
    let source = Source::from_bytes(bytes, Path::new(""))
        .map_err(|why| Unavailable(format!("the declared state cannot be read: {why}")))?;
    Ok((facts.revision, source.hash()))
}

fn last(
    store: &dyn Store,
    tenant: &Name,
    owner: &Name,
) -> Result<Option<SignedReview>, RecordError> {
    let name = signed_document(owner);
    let query = FactsQuery {
        documents: Some(&name),
        ..FactsQuery::default()
    };
    let documents = store.facts(tenant, &query)?.documents;
    let Some((_, bytes)) = documents.iter().find(|(held, _)| *held == name) else {
        return Ok(None);
    };
    let signed = serde_json::from_slice(bytes)
        .map_err(|why| Unavailable(format!("`{name}` cannot be read: {why}")))?;
    Ok(Some(signed))
}

struct Reader<'a> {
    store: &'a dyn Store,
    tenant: &'a Name,
    since: Time,
    until: Time,
}

impl Reader<'_> {
    /// Reads runs from the newest back, until they are older than what is asked for or so many
    /// entries were read.
    fn review(&self, workload: &Workload, budget: usize) -> Result<WorkloadReview, RecordError> {
        let mut told = Told::of(workload);
        let key = SearchKey::Workload(workload.name.clone());
        let mut left = budget;
        let mut below = None;
        let complete = 'all: loop {
            let positions = self.store.find(self.tenant, &key, below, PAGE)?;
            let Some(last) = positions.last() else {
                break true;
            };
            below = Some(*last);
            for pos in positions {
                if left == 0 {
                    break 'all false;
                }
                left -= 1;
                let Some(entry) = entry_at(self.store, self.tenant, pos)? else {
                    continue;
                };
                if entry.at < self.since {
                    break 'all true;
                }
                if let (Some(Event::TaskStarted(_)), Some(task)) = (entry.event(), entry.task)
                    && entry.at < self.until
                {
                    told.view.runs += 1;
                    told.view.last_run = told.view.last_run.max(Some(entry.at));
                    left = left.saturating_sub(self.read(task, &mut told)?);
                }
            }
        };
        told.view.complete = complete;
        Ok(told.view())
    }

    /// Reads the entries of one run, and gives how many there are.
    fn read(&self, task: TaskId, told: &mut Told) -> Result<usize, RecordError> {
        let mut read = 0;
        let mut granted = BTreeSet::new();
        each_of(self.store, self.tenant, task, |stored| {
            read += 1;
            match event_of(stored) {
                Some(Event::ClientRegistered(registered)) => {
                    for detail in &registered.access {
                        granted.extend(told.grant(&registered.filled, detail));
                    }
                }
                Some(Event::TaskEnded(ended)) => {
                    let silent = matches!(ended.cause, Cause::Deadline | Cause::Heartbeat);
                    told.view.silent += u64::from(silent);
                }
                Some(
                    // What is handed over was granted to the root above it.
                    Event::TaskRequested(_)
                    | Event::TaskApproved(_)
                    | Event::TaskDenied(_)
                    | Event::TaskStarted(_)
                    | Event::ClientDelegated(_)
                    | Event::CredentialIssued(_)
                    | Event::CredentialRevoked(_)
                    | Event::ClientEnded(_),
                )
                | None => {}
            }
            Ok(())
        })?;
        for place in granted {
            if let Some(allowed) = told.view.access.get_mut(place) {
                allowed.granted += 1;
            }
        }
        Ok(read)
    }
}

impl HandsOver {
    fn of(delegation: &Delegation) -> Self {
        Self {
            to: delegation.to.clone(),
            depth: delegation.depth,
            clients: delegation.clients,
            proven: delegation.actor == Actor::Required,
        }
    }
}

/// What is told of a workload, and what it is made of.
struct Told {
    view: WorkloadReview,
    /// The workload with one detail of its ceiling each, so that each is filled by itself.
    singles: Vec<Workload>,
    /// The actions of each that were granted.
    actions: Vec<BTreeSet<String>>,
}

impl Told {
    fn of(workload: &Workload) -> Self {
        let single = |detail: &Detail| Workload {
            access: vec![detail.clone()],
            ..workload.clone()
        };
        let allowed = |detail: &Detail| Allowed {
            allowed: access_line(std::slice::from_ref(detail)),
            granted: 0,
            never: Vec::new(),
            used: None,
        };
        Self {
            view: WorkloadReview {
                workload: workload.name.clone(),
                kind: workload.kind,
                purpose: workload.purpose.clone(),
                access: workload.access.iter().map(allowed).collect(),
                hands_over: workload.delegation.as_ref().map(HandsOver::of),
                handed_by: Vec::new(),
                runs: 0,
                silent: 0,
                last_run: None,
                complete: false,
            },
            singles: workload.access.iter().map(single).collect(),
            actions: vec![BTreeSet::new(); workload.access.len()],
        }
    }

    /// The place of the detail that covers what was granted; none where the ceiling is another now.
    fn grant(&mut self, filled: &dayfly_domain::Claims, granted: &Detail) -> Option<usize> {
        let covers = |single: &Workload| {
            let ceiling = single.ceiling_kept(filled);
            ceiling
                .iter()
                .any(|ceiling| detail_covers(ceiling, granted))
        };
        let place = self.singles.iter().position(covers)?;
        if let Some(actions) = self.actions.get_mut(place) {
            actions.extend(actions_of(granted).cloned());
        }
        Some(place)
    }

    fn view(mut self) -> WorkloadReview {
        let singles = self.singles.iter().flat_map(|single| &single.access);
        let parts = self.view.access.iter_mut().zip(singles).zip(&self.actions);
        for ((allowed, ceiling), granted) in parts {
            let never = actions_of(ceiling).filter(|action| !granted.contains(*action));
            allowed.never = never.cloned().collect();
        }
        self.view
    }
}

fn actions_of(detail: &Detail) -> impl Iterator<Item = &String> {
    let actions = detail.fields.get("actions").and_then(|field| match field {
        Field::Set(actions) => Some(actions),
        Field::Exact(_) | Field::Max(_) | Field::Min(_) | Field::Path(_) => None,
    });
    actions.into_iter().flatten()
}
