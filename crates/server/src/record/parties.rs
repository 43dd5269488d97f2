//! Owners and workloads of a tenant, and what stands in their way.

use dayfly_domain::{BlockOn, Blocks, Kind, Name, Time};
use dayfly_store::{FactsQuery, Store};
use serde::{Deserialize, Serialize};

use super::error::RecordError;
use crate::declared::{Declared, HANDED, HandOvers};

/// An owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerView {
    /// Its name.
    pub owner: Name,
    /// Its name for people; none where it is no longer declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How to reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// The workloads that it answers for.
    pub workloads: Vec<Name>,
    /// How many tasks of these are open.
    pub open: u64,
    /// Since when it is offboarded; none while it is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offboarded: Option<Time>,
    /// Who answers for its workloads since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_to: Option<Name>,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadView {
    /// Its name.
    pub workload: Name,
    /// Who answers for it; none where it is no longer declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
    /// Whom the files name, where that owner was offboarded and it was handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_from: Option<Name>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// How many of its tasks are open.
    pub open: u64,
    /// The blocks that keep it from starting, each with since when.
    pub stopped_by: Vec<(String, Time)>,
}

/// The declared owners, and those that are offboarded without being declared, by their names.
///
/// # Errors
/// [`RecordError`] when they cannot be read.
pub fn owners(
    store: &dyn Store,
    tenant: &Name,
    declared: &Declared,
) -> Result<Vec<OwnerView>, RecordError> {
    let query = FactsQuery {
        documents: Some(HANDED),
        ..FactsQuery::default()
    };
    let facts = store.facts(tenant, &query)?;
    let (blocks, handed) = (facts.blocks, HandOvers::of(&facts.documents)?);
    let handed_to = |owner: &Name| handed.of_owner(owner).map(|handed| handed.to.clone());
    let offboarded = |owner: &Name| since(&blocks, &BlockOn::Owner(owner.clone()));
    let mut views = Vec::with_capacity(declared.owners.len());
    for (name, owner) in &declared.owners {
        let workloads = declared.workloads.iter();
        let workloads: Vec<Name> = workloads
            .filter(|(_, declared)| declared.workload.owner == *name)
            .map(|(workload, _)| workload.clone())
            .collect();
        let mut open = 0;
        for workload in &workloads {
            open += open_of(store, tenant, workload)?;
        }
        views.push(OwnerView {
            owner: name.clone(),
            name: Some(owner.full_name.clone()),
            contact: Some(owner.contact.clone()),
            workloads,
            open,
            offboarded: offboarded(name),
            handed_to: handed_to(name),
        });
    }
    for block in blocks.iter() {
        if let BlockOn::Owner(name) = &block.on
            && !declared.owners.contains_key(name)
        {
            views.push(OwnerView {
                owner: name.clone(),
                name: None,
                contact: None,
                workloads: Vec::new(),
                open: 0,
                offboarded: Some(block.since),
                handed_to: handed_to(name),
            });
        }
    }
    views.sort_by(|a, b| a.owner.cmp(&b.owner));
    Ok(views)
}

/// The declared workloads, and those that are disabled without being declared, by their names.
///
/// # Errors
/// [`RecordError`] when they cannot be read.
pub fn workloads(
    store: &dyn Store,
    tenant: &Name,
    declared: &Declared,
) -> Result<Vec<WorkloadView>, RecordError> {
    let blocks = store.facts(tenant, &FactsQuery::default())?.blocks;
    let mut views = Vec::with_capacity(declared.workloads.len());
    for (name, found) in &declared.workloads {
        let workload = &found.workload;
        let stops = [
            BlockOn::Tenant,
            BlockOn::Issuer(workload.issuer.clone()),
            BlockOn::Owner(workload.owner.clone()),
            BlockOn::Workload(name.clone()),
        ];
        let stopped_by = stops
            .iter()
            .filter_map(|on| Some((on.to_string(), since(&blocks, on)?)));
        views.push(WorkloadView {
            workload: name.clone(),
            owner: Some(workload.owner.clone()),
            handed_from: declared.handed.get(name).cloned(),
            kind: Some(workload.kind),
            purpose: Some(workload.purpose.clone()),
            open: open_of(store, tenant, name)?,
            stopped_by: stopped_by.collect(),
        });
    }
    for block in blocks.iter() {
        if let BlockOn::Workload(name) = &block.on
            && !declared.workloads.contains_key(name)
        {
            views.push(WorkloadView {
                workload: name.clone(),
                owner: None,
                handed_from: None,
                kind: None,
                purpose: None,
                open: open_of(store, tenant, name)?,
                stopped_by: vec![(block.on.to_string(), block.since)],
            });
        }
    }
    views.sort_by(|a, b| a.workload.cmp(&b.workload));
    Ok(views)
}

fn since(blocks: &Blocks, on: &BlockOn) -> Option<Time> {
    blocks.get(on).map(|block| block.since)
}

fn open_of(store: &dyn Store, tenant: &Name, workload: &Name) -> Result<u64, RecordError> {
    let query = FactsQuery {
        counts: Some(workload),
        ..FactsQuery::default()
    };
    Ok(store.facts(tenant, &query)?.counts.open)
}
