//! Looking at what there is for a person to see: findings are opened and closed, at a modest pace and
//! soon after something happened.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::{Block, BlockOn, Name, Span, Time};
use dayfly_store::{AppendError, FactsQuery, Unavailable};

use super::tenant::Loaded;
use super::{App, Tenant};
use crate::config::Who;
use crate::finding::{
    Bound, Circumstances, Counted, Kept, PREFIX, Seen, Watched, evaluate, is_near, most,
};
use crate::random::NoRandomness;

/// How often a tenant is looked at.
const EVERY: Span = Span::from_seconds(60);
/// How long after the last look something that happened may have to wait: a storm of ends is looked
/// at as one.
const SOON: Span = Span::from_seconds(5);

/// When each tenant was looked at.
#[derive(Debug, Default)]
pub(super) struct Surveys(tokio::sync::Mutex<BTreeMap<Name, Last>>);

#[derive(Clone, Copy, Debug)]
struct Last {
    at: Time,
    revision: u64,
    /// Whether it left something to be recorded.
    more: bool,
}

/// Why a look recorded nothing.
#[derive(Debug, thiserror::Error)]
enum Blind {
    #[error(transparent)]
    Store(#[from] Unavailable),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

impl App {
    /// One round: looks at each tenant for which it is time, and records which findings opened and
    /// which closed. While the ledger stalls or the clock is not steady nobody looks.
    pub async fn survey(&self) {
        if self.held.stall().is_some() || self.held.jump().is_some() {
            return;
        }
        let mut looks = self.surveys.0.lock().await;
        for tenant in self.tenants() {
            let now = self.now();
            let revision = tenant.loaded().revision;
            let last = looks.get(tenant.name()).copied();
            if !self.is_due(tenant, last, revision, now) {
                continue;
            }
            let looked = self.look_at(tenant, now).await;
            let more = looked.unwrap_or_else(|why| {
                tracing::error!(%why, tenant = %tenant.name(), "findings are not recorded");
                true
            });
            let last = Last {
                at: now,
                revision,
                more,
            };
            looks.insert(tenant.name().clone(), last);
        }
    }

    fn is_due(&self, tenant: &Tenant, last: Option<Last>, revision: u64, now: Time) -> bool {
        let Some(last) = last else {
            return true;
        };
        // Whichever is first: a clock that was set back keeps nobody from looking.
        let apart = now.since(last.at).max(last.at.since(now));
        let soon =
            || last.more || last.revision != revision || self.held.tally().is_urgent(tenant.name());
        apart >= EVERY || (apart >= SOON && soon())
    }

    /// Whether there is more to be recorded.
    async fn look_at(&self, tenant: &Tenant, now: Time) -> Result<bool, Blind> {
        let taken = self.held.tally().take(tenant.name());
        let looked = self.record_findings(tenant, &taken, now).await;
        if looked.is_err() {
            self.held.tally().give_back(tenant.name(), taken);
        }
        looked
    }

    async fn record_findings(
        &self,
        tenant: &Tenant,
        taken: &BTreeMap<Name, Counted>,
        now: Time,
    ) -> Result<bool, Blind> {
        let loaded = tenant.loaded();
        let declared = &loaded.declared;
        let query = FactsQuery {
            documents: Some(PREFIX),
            ..FactsQuery::default()
        };
        let facts = self.store.facts(tenant.name(), &query)?;
        let kept = Kept::of(&facts.documents);
        let bounds = &self.bounds.domain;
        let watched = Watched::of(declared);
        let mut seen = BTreeMap::new();
        for (name, found) in &declared.workloads {
            let mut counted = taken.get(name).cloned().unwrap_or_default();
            let limits = found.workload.limits;
            if limits.open.is_some() || limits.starts_per_hour.is_some() {
                let counts = self.counts_of(tenant, name)?;
                counted.uses(Bound::Open, counts.open, now);
                counted.uses(Bound::StartsPerHour, counts.starts_last_hour, now);
            }
            if let Some(at) = kept.bearer.get(name) {
                counted.handed_to_bearer(*at);
            }
            counted.retain_used(|bound, used| {
                most(bound, &found.workload, bounds).is_some_and(|most| is_near(used, most))
            });
            let before = kept.seen.get(name).cloned();
            let before = before.unwrap_or_else(|| Seen::new(now));
            let after = before.then(counted, now);
            seen.insert(name.clone(), after.retain_parts(&watched.parts(name)));
        }
        let reporting = declared.resources.values().filter(|of| of.reports);
        let reports = reporting.map(|resource| {
            let since = kept.reports.get(&resource.name).copied();
            (resource.name.clone(), since.unwrap_or(now))
        });
        let reports = reports.collect();
        self.held.tally().watch(tenant.name(), watched);
        let found = evaluate(&Circumstances {
            now,
            declared,
            blocks: &facts.blocks,
            blocked: &blocked_members(tenant, &loaded, &facts.blocks),
            seen: &seen,
            bounds,
            free: self.space.free(),
            was_low: kept.has("low_disk"),
        });
        let change = kept.change(now, &found, &seen, &reports)?;
        if let Some(append) = change.append {
            self.store.append(tenant.name(), append).await?;
        }
        Ok(change.more)
    }
}

/// The people whom owners name by subject and who are blocked: those of the operators' provider.
fn blocked_members(tenant: &Tenant, loaded: &Loaded, blocks: &[Block]) -> BTreeSet<String> {
    let Some(iss) = &tenant.context().operators else {
        return BTreeSet::new();
    };
    let is_blocked = |sub: &String| {
        let on = BlockOn::Person(loaded.pseudonyms.of(iss, sub));
        blocks.iter().any(|block| block.on == on)
    };
    let members = loaded.declared.owners.values();
    let members = members.flat_map(|owner| &owner.members);
    let subjects = members.filter_map(|who| match who {
        Who::Subject(sub) => Some(sub),
        Who::Group(_) | Who::Email(_) => None,
    });
    subjects.filter(|sub| is_blocked(sub)).cloned().collect()
}
