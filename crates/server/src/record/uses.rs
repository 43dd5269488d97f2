//! The uses of credentials that resources asked about: how many there are, and the newest of them.

use std::collections::BTreeSet;

use dayfly_domain::{ClientId, CredentialId, Name, TaskId, Time};
use dayfly_store::{FactsQuery, SearchKey, Store};

use super::entry::{Entry, Said, entry_at};
use super::error::RecordError;
use super::reading::Known;
use super::timeline::{self, EntryLine};
use crate::finding::{Kept, REPORTS};

/// How many entries of uses of one task are read, the newest first.
const READ: usize = 1000;
/// How many uses a timeline shows.
const SHOWN: usize = 50;

/// Whose uses are counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    /// All of a task.
    Task,
    /// Of these clients of it.
    Clients(&'a BTreeSet<ClientId>),
    /// Of one credential.
    Credential(CredentialId),
}

/// The uses of a task that are recorded.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// How many were allowed.
    pub(super) allowed: u64,
    /// Whether there are more than were read.
    pub(super) more: bool,
    /// The newest, denied ones among them.
    pub(super) lines: Vec<EntryLine>,
    /// How many of those that were read are not among them.
    pub(super) hidden: usize,
}

/// Which resources report uses, and since when.
#[derive(Debug, Default)]
pub(super) struct Reports(std::collections::BTreeMap<Name, Time>);

impl Uses {
    /// Both together, without their lines.
    pub(super) fn and(self, other: &Self) -> Self {
        Self {
            allowed: self.allowed + other.allowed,
            more: self.more || other.more,
            ..self
        }
    }

    /// Reads those of a task, within a bound.
    pub(super) fn of(
        store: &dyn Store,
        tenant: &Name,
        task: TaskId,
        whose: Whose<'_>,
        now: Time,
    ) -> Result<Self, RecordError> {
        let mut positions = store.find(tenant, &SearchKey::Uses(task), None, READ + 1)?;
        let mut uses = Self {
            more: positions.len() > READ,
            ..Self::default()
        };
        positions.truncate(READ);
        for pos in positions {
            let Some(entry) = entry_at(store, tenant, pos)? else {
                continue;
            };
            if !whose.has(&entry) {
                continue;
            }
            uses.allowed += u64::from(entry.kind == "use.allowed");
            if uses.lines.len() < SHOWN {
                uses.lines.push(timeline::line(store, tenant, &entry, now)?);
            } else {
                uses.hidden += 1;
            }
        }
        Ok(uses)
    }
}

impl Whose<'_> {
    fn has(self, entry: &Entry) -> bool {
        let Said::Note(data) = &entry.said else {
            return false;
        };
        let named = |member: &str| data.get(member).and_then(|name| name.as_str());
        match self {
            Self::Task => true,
            Self::Clients(clients) => named("client")
                .and_then(|client| client.parse().ok())
                .is_some_and(|client: ClientId| clients.contains(&client)),
            Self::Credential(credential) => named("credential")
                .and_then(|named| named.parse().ok())
                .is_some_and(|named: CredentialId| named == credential),
        }
    }
}

impl Reports {
    /// Whether no resource reports.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The resources that promise to ask for each use, by what is declared and since when that is
    /// known.
    pub(super) fn of(store: &dyn Store, tenant: &Name, known: &Known) -> Result<Self, RecordError> {
        let query = FactsQuery {
            documents: Some(REPORTS),
            ..FactsQuery::default()
        };
        let kept = Kept::of(&store.facts(tenant, &query)?.documents);
        let since = kept.reports.into_iter();
        Ok(Self(
            since
                .filter(|(name, _)| known.reporting.contains(name))
                .collect(),
        ))
    }

    /// What may be said of the uses of something that was opened at a time and has access at these
    /// resources: nothing of a resource that did not report from the beginning.
    pub(super) fn say<'a>(
        &self,
        uses: &Uses,
        resources: impl Iterator<Item = &'a Name>,
        opened: Time,
    ) -> String {
        let (allowed, more) = (uses.allowed, uses.more);
        let resources: BTreeSet<&Name> = resources.collect();
        let reports = |name: &&Name| self.0.get(*name).is_some_and(|since| *since <= opened);
        let silent: Vec<&str> = resources
            .iter()
            .filter(|name| !reports(name))
            .map(|name| name.as_str())
            .collect();
        if allowed == 0 && silent.len() == resources.len() {
            return "uses not reported".to_owned();
        }
        let least = if more { " or more" } else { "" };
        let word = if allowed == 1 && !more { "use" } else { "uses" };
        let mut said = format!("{allowed}{least} {word} reported");
        if !silent.is_empty() {
            said.push_str(&format!(", uses at {} not reported", silent.join(" and ")));
        }
        said
    }
}
