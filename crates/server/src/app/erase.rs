//! Erasing what the record says of a person: the annexes go, every leaf and every proof stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dayfly_domain::TaskId;
use dayfly_store::{Append, ERASED, EntryRange, FactsQuery, Note, StoredEntry};
use serde_json::{Value, json};

use super::actor::{Actor, Signature};
use super::refuse::unavailable;
use super::{App, Refused, Tenant, Trail};
use crate::record::{self, RecordError};

/// How many entries are looked at at once.
const PAGE: usize = 1024;
/// How many annexes one entry says the erasure of: their positions must fit into a leaf, and the
/// bundles that hold them are written while somebody waits.
const AT_ONCE: usize = if ERASED < 64 { ERASED } else { 64 };
/// How often what came meanwhile is looked at too.
const ROUNDS: usize = 8;

/// Which annexes are to be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erasure {
    /// Those of these positions.
    Entries(BTreeSet<u64>),
    /// Those in which one object says all of this, like `iss` and `sub`, or `actor_id`. A value
    /// that is no string is named by its JSON text.
    Saying(BTreeMap<String, String>),
}

/// What was erased, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Erased {
    /// How many annexes.
    pub entries: u64,
    /// Of how many open tasks: what policies ask about their clients is gone with it, so that they
    /// cannot renew any more.
    pub open_tasks: u64,
    /// Whether it was done rather than only counted.
    pub erased: bool,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    positions: BTreeSet<u64>,
    tasks: BTreeSet<TaskId>,
    /// All entries before this position were looked at.
    upto: u64,
}

impl Erasure {
    fn concerns(&self, entry: &StoredEntry) -> bool {
        let Some(annex) = &entry.annex else {
            return false;
        };
        match self {
            Self::Entries(positions) => positions.contains(&entry.pos),
            // Who erased something stays on record, whoever it was.
            Self::Saying(_) if entry.leaf.contains("\"kind\":\"annex.erased\"") => false,
            Self::Saying(said) => {
                // Most annexes hold none of the words at all.
                said.values().all(|value| may_say(&annex.data, value))
                    && serde_json::from_str(&annex.data).is_ok_and(|annex| says(&annex, said))
            }
        }
    }
}

/// Whether JSON text may hold a value. One that is escaped in it may be there in other letters.
fn may_say(annex: &str, value: &str) -> bool {
    annex.contains('\\') || annex.contains(value)
}

/// Whether an object anywhere within has all of these members.
fn says(value: &Value, said: &BTreeMap<String, String>) -> bool {
    match value {
        Value::Object(members) => {
            let has = |(name, wanted): (&String, &String)| match members.get(name) {
                Some(Value::String(text)) => text == wanted,
                Some(other) => {
                    let text = other.to_string();
                    text == *wanted
                }
                None => false,
            };
            said.iter().all(has) || members.values().any(|member| says(member, said))
        }
        Value::Array(items) => items.iter().any(|item| says(item, said)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

impl App {
    /// Erases annexes, or counts them. An entry says which positions, who and why; it names nobody.
    ///
    /// # Errors
    /// The refusal: the ledger cannot be read, or cannot record.
    pub async fn erase(
        self: &Arc<Self>,
        tenant: &Arc<Tenant>,
        what: Erasure,
        dry_run: bool,
        by: &Actor,
        reason: &str,
    ) -> Result<Erased, Refused> {
        let trail = Trail {
            asked: "erase",
            ..Trail::default()
        };
        let what = Arc::new(what);
        let mut erased = Erased {
            erased: !dry_run,
            ..Erased::default()
        };
        let mut found = Found::default();
        // While it is looked for more may come in; the last look finds nothing.
        for _ in 0..ROUNDS {
            let (app, of, which) = (Arc::clone(self), Arc::clone(tenant), Arc::clone(&what));
            let looked = tokio::task::spawn_blocking(move || app.look(&of, &which, found)).await;
            found = looked
                .map_err(|why| self.refuse(tenant, &trail, unavailable(&why)))?
                .map_err(|why| self.refuse(tenant, &trail, unavailable(&why)))?;
            erased.entries += found.positions.len() as u64;
            if dry_run || found.positions.is_empty() {
                break;
            }
            let positions: Vec<u64> = std::mem::take(&mut found.positions).into_iter().collect();
            for some in positions.chunks(AT_ONCE) {
                let append = self
                    .erasing(some, by, reason)
                    .map_err(|why| self.refuse(tenant, &trail, unavailable(&why)))?;
                let done = self.store.append(tenant.name(), append).await;
                done.map_err(|why| self.refuse(tenant, &trail, unavailable(&why)))?;
            }
        }
        if !dry_run {
            self.claims.forget(tenant.name());
            if let Erasure::Saying(said) = what.as_ref() {
                self.forget_refusals(tenant.name(), said.values());
            }
        }
        erased.open_tasks = self
            .count_open(tenant, &found.tasks)
            .map_err(|why| self.refuse(tenant, &trail, unavailable(&why)))?;
        Ok(erased)
    }

    fn look(
        &self,
        tenant: &Tenant,
        what: &Erasure,
        mut found: Found,
    ) -> Result<Found, RecordError> {
        let size = self.store.head(tenant.name())?.size;
        while found.upto < size {
            let from = EntryRange::From(found.upto);
            let page = self.store.entries(tenant.name(), from, PAGE)?;
            let Some(last) = page.last() else { break };
            found.upto = last.pos + 1;
            for entry in page.iter().filter(|entry| what.concerns(entry)) {
                found.positions.insert(entry.pos);
                found.tasks.extend(record::task_of(entry)?);
            }
        }
        Ok(found)
    }

    fn erasing(
        &self,
        positions: &[u64],
        by: &Actor,
        reason: &str,
    ) -> Result<Append, crate::random::NoRandomness> {
        let signed = Signature::of(by, reason)?;
        let data = json!({ "positions": positions });
        Ok(Append {
            now: self.now(),
            notes: vec![Note {
                kind: "annex.erased",
                data: signed.sign(data),
                annex: Some(signed.annex()?),
            }],
            erases: positions.to_vec(),
            ..Append::default()
        })
    }

    fn count_open(
        &self,
        tenant: &Tenant,
        tasks: &BTreeSet<TaskId>,
    ) -> Result<u64, dayfly_store::Unavailable> {
        let mut open = 0;
        let tasks: Vec<TaskId> = tasks.iter().copied().collect();
        for some in tasks.chunks(PAGE) {
            let query = FactsQuery {
                standings: some,
                ..FactsQuery::default()
            };
            let facts = self.store.facts(tenant.name(), &query)?;
            open += facts.standings.iter().flatten().count() as u64;
        }
        Ok(open)
    }
}
