//! Who may reach a resource, and who now can: the declared workloads, and the open tasks with their clients.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::access::{Detail, detail_meet};
use dayfly_domain::{
    BlockOn, Blocks, Client, ClientId, CredentialId, Event, Kind, Name, Task, TaskId, Time,
};
use dayfly_store::{FactsQuery, OpenFilter, OpenTask, Store};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, each_of};
use super::error::RecordError;
use super::keys::keys;
use super::view::CredentialView;
use crate::declared::Declared;

/// How many tasks are read at once.
const PAGE: usize = 512;

/// Who may reach a resource, and who now can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachView {
    /// The resource.
    pub resource: Name,
    /// Its URL, the audience of its credentials.
    pub url: String,
    /// The workloads whose ceiling names it.
    pub workloads: Vec<MayReach>,
    /// How many open tasks now can.
    pub open: u64,
    /// How many active clients in them.
    pub clients: u64,
    /// Some of these tasks, in order of their start.
    pub tasks: Vec<CanReach>,
    /// Where the next of them begin; none after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<TaskId>,
}

/// A workload that may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MayReach {
    /// Its name.
    pub workload: Name,
    /// Who answers for it.
    pub owner: Name,
    /// What it is.
    pub kind: Kind,
    /// The scopes that name some of it.
    pub scopes: Vec<String>,
    /// What it may there at most; policies may allow less.
    pub access: Vec<Detail>,
    /// The blocks that keep it from starting, each with since when.
    pub stopped_by: Vec<(String, Time)>,
}

/// A task that now can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanReach {
    /// The task.
    pub task: TaskId,
    /// What runs.
    pub workload: Name,
    /// Who answers for it.
    pub owner: Name,
    /// Which run it is.
    pub key: String,
    /// When it opened.
    pub opened: Time,
    /// When it is over by itself.
    pub until: Time,
    /// Its clients that can.
    pub clients: Vec<ClientReach>,
}

/// A client that now can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientReach {
    /// The client.
    pub client: ClientId,
    /// Which job, pod or process it is.
    pub instance: String,
    /// What it may there now: what it was granted, as far as the ceiling still holds it.
    pub access: Vec<Detail>,
    /// Its live credentials for that resource.
    pub credentials: Vec<CredentialView>,
}

/// Who may reach a resource, by its name or URL, and `limit` of those who now can, after a task;
/// none where no such resource is declared.
///
/// # Errors
/// [`RecordError`] when the record cannot be read.
pub fn reach(
    store: &dyn Store,
    tenant: &Name,
    declared: &Declared,
    (resource, now): (&str, Time),
    (after, limit): (Option<TaskId>, usize),
) -> Result<Option<ReachView>, RecordError> {
    let plain = |url: &str| url.trim_end_matches('/').to_owned();
    let mut resources = declared.resources.iter();
    let found =
        resources.find(|(name, of)| name.as_str() == resource || plain(&of.url) == plain(resource));
    let Some((name, of)) = found else {
        return Ok(None);
    };
    let reaching = Reaching {
        store,
        tenant,
        declared,
        resource: name,
        now,
    };
    let mut view = ReachView {
        resource: name.clone(),
        url: of.url.clone(),
        workloads: reaching.workloads()?,
        open: 0,
        clients: 0,
        tasks: Vec::new(),
        next: None,
    };
    reaching.open_tasks(&mut view, after, limit.max(1))?;
    reaching.credentials(&mut view.tasks)?;
    Ok(Some(view))
}

struct Reaching<'a> {
    store: &'a dyn Store,
    tenant: &'a Name,
    declared: &'a Declared,
    resource: &'a Name,
    now: Time,
}

impl Reaching<'_> {
    fn workloads(&self) -> Result<Vec<MayReach>, RecordError> {
        let blocks = self
            .store
            .facts(self.tenant, &FactsQuery::default())?
            .blocks;
        let mut may = Vec::new();
        for found in self.declared.workloads.values() {
            let workload = &found.workload;
            let access = self.there(&workload.access);
            if access.is_empty() {
                continue;
            }
            let scopes: BTreeSet<String> = access
                .iter()
                .filter_map(|held| held.scope.clone())
                .collect();
            let stops = [
                BlockOn::Tenant,
                BlockOn::Issuer(workload.issuer.clone()),
                BlockOn::Owner(workload.owner.clone()),
                BlockOn::Workload(workload.name.clone()),
            ];
            may.push(MayReach {
                workload: workload.name.clone(),
                owner: workload.owner.clone(),
                kind: workload.kind,
                scopes: scopes.into_iter().collect(),
                access,
                stopped_by: standing(&blocks, &stops),
            });
        }
        Ok(may)
    }

    /// Those of these details that are of the resource.
    fn there(&self, access: &[Detail]) -> Vec<Detail> {
        let there = access.iter().filter(|held| held.resource == *self.resource);
        there.cloned().collect()
    }

    /// Counts every open task that can, and shows some.
    fn open_tasks(
        &self,
        view: &mut ReachView,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<(), RecordError> {
        let mut cursor = None;
        loop {
            let page = self
                .store
                .open(self.tenant, &OpenFilter::All, cursor, PAGE)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            cursor = Some(last.task.id);
            for open in &page {
                let clients = self.clients(open);
                if clients.is_empty() {
                    continue;
                }
                view.open += 1;
                view.clients += clients.len() as u64;
                if after.is_some_and(|after| open.task.id <= after) {
                    continue;
                }
                if view.tasks.len() < limit {
                    view.tasks.push(can_reach(open, clients));
                } else if view.next.is_none() {
                    view.next = view.tasks.last().map(|last| last.task);
                }
            }
        }
    }

    /// The clients of an open task that can reach the resource now.
    fn clients(&self, open: &OpenTask) -> Vec<ClientReach> {
        let task = &open.task;
        if open.stale.is_some() || task.lapsed(self.now, open.heard).is_some() {
            return Vec::new();
        }
        if !self.declared.workloads.contains_key(&task.workload) {
            return Vec::new();
        }
        let mut can = Vec::new();
        for (number, client) in (1u32..).zip(&task.clients) {
            if task.check_client(number, self.now).is_err() || open.stale_for(number).is_some() {
                continue;
            }
            let mut access = self.there(&client.access);
            // A credential that was issued under a higher ceiling lives on to its expiry.
            let live = client
                .credentials
                .iter()
                .any(|held| self.now < held.expires);
            if !live {
                access = self.held_still(task, number, access);
            }
            if !access.is_empty() {
                can.push(client_reach(task, number, client, access));
            }
        }
        can
    }

    /// What of a client's access its ceiling still holds, and that of everybody above it who came in
    /// by a proof.
    fn held_still(&self, task: &Task, number: u32, access: Vec<Detail>) -> Vec<Detail> {
        let mut still = access;
        for (_, client) in task.chain(number) {
            let workload = match (&client.own, client.parent) {
                (Some(own), _) => &own.workload,
                (None, None) => &task.workload,
                (None, Some(_)) => continue,
            };
            still = match self.declared.workloads.get(workload) {
                Some(of) => held_within(&still, &of.workload.ceiling_kept(&client.filled)),
                None => Vec::new(),
            };
        }
        still
    }

    /// Fills in the live credentials for the resource, which only the entries tell apart.
    fn credentials(&self, tasks: &mut [CanReach]) -> Result<(), RecordError> {
        if tasks.is_empty() {
            return Ok(());
        }
        let given_up: BTreeSet<String> = keys(self.store, self.tenant)?
            .into_iter()
            .filter(|key| key.life.compromised().is_some())
            .map(|key| key.kid)
            .collect();
        for task in tasks {
            let mut there: BTreeMap<CredentialId, bool> = BTreeMap::new();
            each_of(self.store, self.tenant, task.task, |stored| {
                let entry = Entry::read(stored)?;
                if let (Some(id), Some(Event::CredentialIssued(issued))) =
                    (entry.task, entry.event())
                {
                    let ours = issued.resource == *self.resource && !given_up.contains(&issued.kid);
                    there.insert(issued.id(id), ours);
                }
                Ok(())
            })?;
            for client in &mut task.clients {
                let now = self.now;
                client.credentials.retain(|held| {
                    now < held.expires && there.get(&held.credential).is_some_and(|ours| *ours)
                });
            }
        }
        Ok(())
    }
}

/// What of an access lies within a ceiling, whole or in part: a narrower request is still granted.
fn held_within(access: &[Detail], ceiling: &[Detail]) -> Vec<Detail> {
    let mut still: Vec<Detail> = Vec::new();
    for held in access {
        for of in ceiling {
            let Some(meet) = detail_meet(held, of) else {
                continue;
            };
            if !still.contains(&meet) {
                still.push(meet);
            }
        }
    }
    still
}

fn can_reach(open: &OpenTask, clients: Vec<ClientReach>) -> CanReach {
    let task = &open.task;
    CanReach {
        task: task.id,
        workload: task.workload.clone(),
        owner: task.owner.clone(),
        key: task.key.clone(),
        opened: task.opened,
        until: task.next_due(open.heard),
        clients,
    }
}

fn client_reach(task: &Task, number: u32, client: &Client, access: Vec<Detail>) -> ClientReach {
    let id = task.client_id(number);
    let credentials = client.credentials.iter().map(|held| CredentialView {
        credential: CredentialId {
            client: id,
            number: held.number,
        },
        expires: held.expires,
        hash: held.hash,
    });
    ClientReach {
        client: id,
        instance: client.instance.clone(),
        access,
        credentials: credentials.collect(),
    }
}

/// Those of these that are blocked, each with since when.
fn standing(blocks: &Blocks, stops: &[BlockOn]) -> Vec<(String, Time)> {
    let stand = stops.iter().filter_map(|on| {
        let block = blocks.get(on)?;
        Some((on.to_string(), block.since))
    });
    stand.collect()
}
