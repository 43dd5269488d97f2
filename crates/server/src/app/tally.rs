//! What happened to workloads since it was last looked at, counted as it is recorded or refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use dayfly_domain::access::Detail;
use dayfly_domain::{Claims, ClientRegistered, Event, Name, RefusalId, Time};
use dayfly_store::Committed;

use crate::finding::{Bound, Counted, Watched};

/// Counts by tenant and workload: as many as are declared, whatever happens.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Mutex<BTreeMap<Name, BTreeMap<Name, Counted>>>,
    /// Of which parts of access it is counted what is granted and used, by tenant.
    watched: RwLock<BTreeMap<Name, Arc<Watched>>>,
}

impl Tally {
    /// An append is durable.
    pub(super) fn committed(&self, tenant: &Name, committed: &Committed) {
        for change in committed.changes() {
            let task = &change.next;
            for drafted in &change.events {
                let at = committed.at();
                match &drafted.event {
                    Event::TaskStarted(_) => {
                        self.count(tenant, &task.workload, |counted| counted.started(at));
                    }
                    Event::TaskEnded(ended) => self.count(tenant, &task.workload, |counted| {
                        counted.ended(ended.cause, at);
                    }),
                    Event::ClientRegistered(_) | Event::ClientDelegated(_) => {
                        // A task counts once, by the client that opened it.
                        if let Event::ClientRegistered(first) = &drafted.event
                            && first.client == 1
                        {
                            self.granted(tenant, &task.workload, first, at);
                        }
                        let clients = task.clients.len() as u64;
                        self.reached(tenant, &task.workload, Bound::Clients, clients, at);
                    }
                    Event::CredentialIssued(issued) => {
                        let client = task.client(issued.client);
                        let live = client.map_or(0, |client| client.credentials.len() as u64);
                        self.reached(tenant, &task.workload, Bound::Credentials, live, at);
                    }
                    Event::TaskRequested(_)
                    | Event::TaskApproved(_)
                    | Event::TaskDenied(_)
                    | Event::CredentialRevoked(_)
                    | Event::ClientEnded(_) => {}
                }
            }
        }
    }

    /// From now on it is counted what is granted and used of these.
    pub(super) fn watch(&self, tenant: &Name, watched: Watched) {
        let mut all = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(tenant.clone(), Arc::new(watched));
    }

    /// A use was allowed and told: of the access of these workloads, each filled by such claims.
    pub(super) fn used(&self, tenant: &Name, by: &[(Name, Claims)], used: &Detail, at: Time) {
        let watched = self.watched(tenant);
        for (workload, filled) in by {
            let parts = watched.used(workload, filled, used);
            if !parts.is_empty() {
                self.count(tenant, workload, |counted| counted.used(parts, at));
            }
        }
    }

    fn granted(&self, tenant: &Name, workload: &Name, first: &ClientRegistered, at: Time) {
        let watched = self.watched(tenant);
        let parts = watched.granted(workload, &first.filled, &first.access);
        if !parts.is_empty() {
            self.count(tenant, workload, |counted| counted.granted(parts, at));
        }
    }

    fn watched(&self, tenant: &Name) -> Arc<Watched> {
        let all = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        all.get(tenant).cloned().unwrap_or_default()
    }

    /// A proof of a workload was shown with another key than it was used with.
    pub(super) fn two_keys(&self, tenant: &Name, workload: &Name, refusal: RefusalId, at: Time) {
        self.count(tenant, workload, |counted| {
            counted.shown_by_two_keys(refusal, at);
        });
    }

    /// So much of a bound is used.
    pub(super) fn reached(
        &self,
        tenant: &Name,
        workload: &Name,
        bound: Bound,
        used: u64,
        at: Time,
    ) {
        // One is not near any bound that counts, and most tasks have one client and credential.
        if used > 1 {
            self.count(tenant, workload, |counted| counted.uses(bound, used, at));
        }
    }

    /// Whether somebody should look soon.
    pub(super) fn is_urgent(&self, tenant: &Name) -> bool {
        let counts = self.counts();
        let of_tenant = counts.get(tenant);
        of_tenant.is_some_and(|of| of.values().any(Counted::is_urgent))
    }

    /// What happened since this was last asked.
    pub(super) fn take(&self, tenant: &Name) -> BTreeMap<Name, Counted> {
        self.counts().remove(tenant).unwrap_or_default()
    }

    /// Puts back what could not be recorded, before what happened meanwhile.
    pub(super) fn give_back(&self, tenant: &Name, taken: BTreeMap<Name, Counted>) {
        let mut counts = self.counts();
        let of_tenant = counts.entry(tenant.clone()).or_default();
        for (workload, before) in taken {
            let after = of_tenant.remove(&workload).unwrap_or_default();
            of_tenant.insert(workload, before.then(after));
        }
    }

    fn count(&self, tenant: &Name, workload: &Name, add: impl FnOnce(&mut Counted)) {
        let mut counts = self.counts();
        // Names are copied the first time only: this stands in the way of every grant.
        if let Some(counted) = counts
            .get_mut(tenant)
            .and_then(|of_tenant| of_tenant.get_mut(workload))
        {
            return add(counted);
        }
        let of_tenant = counts.entry(tenant.clone()).or_default();
        add(of_tenant.entry(workload.clone()).or_default());
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Name, BTreeMap<Name, Counted>>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
