//! What people and monitoring are told of pods and their clusters: how many are asked about, of which tasks nobody can ask, and what somebody should look at.

use dayfly_domain::{Name, Span, Time};

use super::kept::Watched;
use crate::app::{App, Tenant};
use crate::verify::ReviewStatus;

/// How it stands with the pods of an issuer whose cluster is asked.
pub(crate) struct OfCluster {
    /// The tenant.
    pub(crate) tenant: Name,
    /// The declared issuer.
    pub(crate) issuer: Name,
    /// How many pods are asked about.
    pub(crate) pods: usize,
    /// How many tokens of pods had no room, since the start.
    pub(crate) turned_away: u64,
    /// How many tasks are open of whose pods no token is at hand; none where that cannot be read now.
    pub(crate) unasked: Option<u64>,
}

impl App {
    /// How it stands with the clusters that are asked, of all tenants.
    pub(crate) fn token_reviews(&self) -> Vec<ReviewStatus> {
        // All tenants share what they hold of issuers.
        let mut tenants = self.tenants();
        tenants
            .next()
            .map(|tenant| tenant.token_reviews())
            .unwrap_or_default()
    }

    /// How it stands with the pods of each issuer whose cluster is asked. What it costs grows with the
    /// workloads that are declared, never with the tasks that are open.
    pub(crate) fn pods_of_clusters(&self) -> Vec<OfCluster> {
        let watched = self.held.pods().watched();
        let mut all = Vec::new();
        for tenant in self.tenants() {
            let loaded = tenant.loaded();
            for issuer in loaded.declared.issuers.keys() {
                if loaded.verifier.reviewer(issuer).is_none() {
                    continue;
                }
                let of = |watched: &&Watched| {
                    watched.tenant == *tenant.name() && watched.issuer == *issuer
                };
                let watched = watched.iter().find(of);
                let asked = watched.map_or(0, |watched| watched.tasks as u64);
                let open = self.open_of_issuer(tenant, issuer);
                all.push(OfCluster {
                    tenant: tenant.name().clone(),
                    issuer: issuer.clone(),
                    pods: watched.map_or(0, |watched| watched.pods),
                    turned_away: watched.map_or(0, |watched| watched.turned_away),
                    unasked: open.map(|open| open.saturating_sub(asked)),
                });
            }
        }
        all
    }

    /// How many tasks are open of the workloads that an issuer vouches for.
    fn open_of_issuer(&self, tenant: &Tenant, issuer: &Name) -> Option<u64> {
        let loaded = tenant.loaded();
        let workloads = loaded.declared.workloads.values();
        let of = workloads.filter(|found| found.workload.issuer == *issuer);
        let open = of.map(|found| {
            let counts = self.counts_of(tenant, &found.workload.name).ok();
            counts.map(|counts| counts.open)
        });
        open.sum()
    }

    /// What somebody should look at about the pods.
    pub(in crate::app) fn pod_warnings(&self) -> Vec<String> {
        let now = self.now();
        let statuses = self.token_reviews();
        let failing = |status: &ReviewStatus| {
            let (at, why) = (status.asked_at?, status.failure.as_ref()?);
            let origin = &status.origin;
            Some(format!(
                "the cluster at {origin} cannot be asked about tokens, last at {at}: {why}; its pods are granted nothing, and those that are gone end by deadline and heartbeat"
            ))
        };
        let mut warnings: Vec<String> = statuses.iter().filter_map(failing).collect();
        let unproven = |status: &&ReviewStatus| status.fell > 0 && status.stands == 0;
        for status in statuses.iter().filter(unproven) {
            let origin = &status.origin;
            warnings.push(format!(
                "the cluster at {origin} has vouched for no token since it is asked in this way: what it says ends nothing until it has"
            ));
        }
        for watched in self.held.pods().watched() {
            warnings.extend(self.warnings_of(&watched, now));
        }
        let unasked = self.pods_of_clusters().into_iter();
        let unasked = unasked.filter_map(|of| Some((of.unasked.filter(|open| *open > 0)?, of)));
        warnings.extend(unasked.map(|(open, of)| {
            let OfCluster { tenant, issuer, .. } = of;
            format!(
                "nobody can ask about {open} of the open tasks of issuer {issuer} of tenant {tenant}: no token of their pods is at hand that has not expired, and until they show one those that are gone end by deadline and heartbeat"
            )
        }));
        warnings
    }

    fn warnings_of(&self, watched: &Watched, now: Time) -> Vec<String> {
        let mut warnings = Vec::new();
        let of = format!("issuer {} of tenant {}", watched.issuer, watched.tenant);
        if watched.is_full {
            let pods = watched.pods;
            warnings.push(format!(
                "{pods} pods of {of} are asked about, and there is no room for more: others that are gone end by deadline and heartbeat"
            ));
        }
        if now < watched.holds {
            let until = watched.holds;
            warnings.push(format!(
                "more than a fifth of the pods of {of} fell at once: it may be the cluster, so none ends by its word before {until}"
            ));
        }
        if self
            .every(watched)
            .is_some_and(|every| watched.is_late(every, now))
        {
            let first = watched.first.unwrap_or(now);
            warnings.push(format!(
                "the cluster of {of} answers too slowly for its pods: one waits to be asked about since {first}"
            ));
        }
        warnings
    }

    fn every(&self, watched: &Watched) -> Option<Span> {
        let loaded = self.tenants.get(&watched.tenant)?.loaded();
        let reviewer = loaded.verifier.reviewer(&watched.issuer)?;
        Some(reviewer.every())
    }
}
