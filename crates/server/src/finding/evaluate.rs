//! From facts to findings: what there is to find at one moment, by the ids of the findings.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::access::Detail;
use dayfly_domain::{Binding, Block, BlockOn, Bounds, Name, Span, Time, Workload};

use super::parts::Watched;
use super::seen::Seen;
use super::{Bound, Unowned, What};
use crate::config::Who;
use crate::declared::{Declared, Owner, ResourceAuth, goes_by_names};

/// With less room than this the disk is low.
pub(crate) const LOW_DISK: u64 = 512 << 20;
/// How long a workload may be idle.
const IDLE: Span = Span::from_seconds(90 * 86_400);
/// How often something is granted, and since when, before it is odd that it is never used.
const GRANTED_TASKS: u64 = 20;
const GRANTED_FOR: Span = Span::from_seconds(14 * 86_400);
/// How much of a declared detail is told.
const TOLD: usize = 200;
/// How long a block may stand.
const STANDS: Span = Span::from_seconds(30 * 86_400);
/// A bound below this is one that is meant to be reached, like one task at a time.
const MEANT: u64 = 5;

/// What there is to be judged.
pub(crate) struct Circumstances<'a> {
    pub(crate) now: Time,
    pub(crate) declared: &'a Declared,
    /// The blocks that stand.
    pub(crate) blocks: &'a [Block],
    /// The people whom owners name as members by subject, and who are blocked.
    pub(crate) blocked: &'a BTreeSet<String>,
    /// What happened to each declared workload.
    pub(crate) seen: &'a BTreeMap<Name, Seen>,
    /// The server's bounds.
    pub(crate) bounds: &'a Bounds,
    /// Free bytes on the disk of the data folder; none where they are not known.
    pub(crate) free: Option<u64>,
    /// Whether the disk was low at the last look: it takes some more room to be no longer.
    pub(crate) was_low: bool,
}

/// What there is to find.
pub(crate) fn evaluate(about: &Circumstances<'_>) -> BTreeMap<String, What> {
    let owners = about.declared.owners.values();
    let owners = owners.filter_map(|owner| of_owner(about, owner));
    let workloads = about.declared.workloads.iter();
    let watched = Watched::of(about.declared);
    let workloads = workloads.flat_map(|(_, found)| {
        let mut all = of_declaration(about, &found.workload);
        if found.unfinished.is_some() {
            // Nothing of it is accepted, so nobody has to look at how it is matched.
            all.clear();
        }
        all.extend(of_runs(about, &found.workload));
        all.extend(of_uses(about, &found.workload, &watched));
        all
    });
    let resources = about.declared.resources.values();
    let resources = resources.filter_map(|resource| match resource.auth.as_ref()? {
        ResourceAuth::Secret(_) => Some(What::StaticSecret {
            resource: resource.name.clone(),
        }),
        ResourceAuth::Keys(_) => None,
    });
    let all = owners.chain(workloads).chain(resources);
    let all = all.chain(of_blocks(about)).chain(of_disk(about));
    all.map(|what| (what.id(), what)).collect()
}

/// The bound of a workload; none where there is none.
pub(crate) fn most(bound: Bound, workload: &Workload, bounds: &Bounds) -> Option<u64> {
    match bound {
        Bound::Open => workload.limits.open,
        Bound::StartsPerHour => workload.limits.starts_per_hour,
        Bound::Clients => Some(bounds.clients as u64),
        Bound::Credentials => Some(bounds.live_credentials as u64),
    }
}

/// Whether so much of a bound is near it: four fifths.
pub(crate) const fn is_near(used: u64, most: u64) -> bool {
    most >= MEANT && used.saturating_mul(5) >= most.saturating_mul(4)
}

fn is_blocked(about: &Circumstances<'_>, on: &BlockOn) -> bool {
    about.blocks.iter().any(|block| block.on == *on)
}

/// How many workloads belong to an owner.
fn owned(declared: &Declared, owner: &Name) -> u64 {
    let all = declared.workloads.values();
    all.filter(|found| found.workload.owner == *owner).count() as u64
}

/// Whether a member may certainly not act. Who is in a group or has an address only a token says.
fn is_known_blocked(about: &Circumstances<'_>, who: &Who) -> bool {
    match who {
        Who::Subject(sub) => about.blocked.contains(sub),
        Who::Group(_) | Who::Email(_) => false,
    }
}

fn of_owner(about: &Circumstances<'_>, owner: &Owner) -> Option<What> {
    let workloads = owned(about.declared, &owner.name);
    if workloads == 0 {
        return None;
    }
    let name = owner.name.clone();
    let unowned = if is_blocked(about, &BlockOn::Owner(name.clone())) {
        Some(Unowned::Offboarded)
    } else if owner.members.is_empty() {
        Some(Unowned::NoMembers)
    } else if owner.members.iter().all(|who| is_known_blocked(about, who)) {
        Some(Unowned::MembersBlocked)
    } else {
        None
    };
    if let Some(why) = unowned {
        return Some(What::Ownerless {
            owner: name,
            why,
            workloads,
        });
    }
    match owner.members.as_slice() {
        [Who::Subject(_) | Who::Email(_)] => Some(What::OnePersonOwner {
            owner: name,
            workloads,
        }),
        [Who::Group(_)] | [] | [_, _, ..] => None,
    }
}

/// What is declared of a workload and better were not.
fn of_declaration(about: &Circumstances<'_>, workload: &Workload) -> Vec<What> {
    let (name, owner) = (&workload.name, &workload.owner);
    let mut all = Vec::new();
    let issuer = about.declared.issuers.get(&workload.issuer);
    if issuer.is_some_and(|issuer| goes_by_names(issuer.kind, &workload.matching)) {
        all.push(What::NamesOnly {
            workload: name.clone(),
            owner: owner.clone(),
            issuer: workload.issuer.clone(),
        });
    }
    if workload.binding == Binding::Optional {
        all.push(What::BearerAllowed {
            workload: name.clone(),
            owner: owner.clone(),
        });
    }
    all
}

/// What happened when it ran, or that it did not.
fn of_runs(about: &Circumstances<'_>, workload: &Workload) -> Vec<What> {
    let (name, owner) = (&workload.name, &workload.owner);
    let mut all = Vec::new();
    let Some(seen) = about.seen.get(name) else {
        return all;
    };
    if let Some(silent) = seen.counted.silent {
        all.push(What::NeverClosed {
            workload: name.clone(),
            owner: owner.clone(),
            count: silent.count,
            first: silent.first,
            last: silent.last,
        });
    }
    if let Some((times, refusal)) = seen.counted.two_keys {
        all.push(What::ProofByTwoKeys {
            workload: name.clone(),
            owner: owner.clone(),
            count: times.count,
            last: times.last,
            refusal,
        });
    }
    if let Some(last) = seen.counted.bearer_child {
        all.push(What::BearerChild {
            workload: name.clone(),
            owner: owner.clone(),
            last,
        });
    }
    for (bound, used) in &seen.counted.used {
        let most = most(*bound, workload, about.bounds);
        let Some(most) = most.filter(|most| is_near(used.most, *most)) else {
            continue;
        };
        all.push(What::NearBound {
            workload: name.clone(),
            owner: owner.clone(),
            bound: *bound,
            seen: used.most,
            most,
        });
    }
    let idle_since = seen.counted.started.unwrap_or(seen.since);
    let stopped = [
        BlockOn::Workload(name.clone()),
        BlockOn::Owner(owner.clone()),
        BlockOn::Issuer(workload.issuer.clone()),
        BlockOn::Tenant,
    ];
    // What was stopped does not run because it was stopped, and its block is a finding in time.
    let stopped = stopped.iter().any(|on| is_blocked(about, on));
    if !stopped && about.now.since(idle_since) >= IDLE {
        all.push(What::Unused {
            workload: name.clone(),
            owner: owner.clone(),
            idle_since,
            ran: seen.counted.started.is_some(),
        });
    }
    all
}

/// What is granted again and again and never used, where the resource promises to ask for each use.
fn of_uses(about: &Circumstances<'_>, workload: &Workload, watched: &Watched) -> Vec<What> {
    let Some(seen) = about.seen.get(&workload.name) else {
        return Vec::new();
    };
    let mut all: BTreeMap<&str, What> = BTreeMap::new();
    for watch in watched.of_workload(&workload.name) {
        for action in &watch.actions {
            let part = seen.part(&watch.part(action));
            let Some(since) = part.since.filter(|since| {
                let long = about.now.since(*since) >= GRANTED_FOR;
                long && part.granted >= GRANTED_TASKS && part.used == 0
            }) else {
                continue;
            };
            let found = all.entry(&watch.place).or_insert_with(|| What::NeverUsed {
                workload: workload.name.clone(),
                owner: workload.owner.clone(),
                resource: watch.detail.resource.clone(),
                detail: told(&watch.detail),
                place: watch.place.clone(),
                actions: Vec::new(),
                tasks: part.granted,
                since,
            });
            if let What::NeverUsed {
                actions,
                tasks,
                since: first,
                ..
            } = found
                && !actions.contains(action)
            {
                actions.push(action.clone());
                *tasks = part.granted.min(*tasks);
                *first = since.max(*first);
            }
        }
    }
    all.into_values().collect()
}

/// A declared detail in a few words, without its actions: `artifact(identifier: octo-repo/*)`.
fn told(detail: &Detail) -> String {
    let fields = detail.fields.iter().filter(|(name, _)| *name != "actions");
    let fields: Vec<String> = fields
        .map(|(name, field)| format!("{name}: {field}"))
        .collect();
    let text = format!("{}({})", detail.kind, fields.join("; "));
    if text.len() <= TOLD {
        return text;
    }
    format!("{}…", text.split_at(text.floor_char_boundary(TOLD)).0)
}

/// Old blocks: each of an owner, a workload, an issuer or the tenant, and those of series, keys and
/// instances by their issuer. Where the owner, issuer or workload is no longer declared there is
/// nothing to be done: the block is what keeps it out.
fn of_blocks(about: &Circumstances<'_>) -> Vec<What> {
    let declared = about.declared;
    let mut all: BTreeMap<String, What> = BTreeMap::new();
    for block in about.blocks {
        if about.now.since(block.since) < STANDS {
            continue;
        }
        let (on, owner) = match &block.on {
            BlockOn::Series { issuer, .. } => (format!("series:{issuer}"), None),
            BlockOn::Key { issuer, .. } => (format!("key:{issuer}"), None),
            BlockOn::Instance { issuer, .. } => (format!("instance:{issuer}"), None),
            BlockOn::Person(_) => ("person".to_owned(), None),
            BlockOn::Issuer(name) if declared.issuers.contains_key(name) => {
                (block.on.to_string(), None)
            }
            BlockOn::Issuer(_) => continue,
            // Others answer for what was handed over: the block is as it is to be.
            BlockOn::Owner(name) if declared.handed.values().any(|from| from == name) => continue,
            // One that has workloads is a finding for want of an owner already.
            BlockOn::Owner(name)
                if declared.owners.contains_key(name) && owned(declared, name) == 0 =>
            {
                (block.on.to_string(), Some(name.clone()))
            }
            BlockOn::Workload(name) => match declared.workloads.get(name) {
                Some(found) => (block.on.to_string(), Some(found.workload.owner.clone())),
                None => continue,
            },
            BlockOn::Owner(_) => continue,
            BlockOn::Tenant => (block.on.to_string(), None),
        };
        let found = all.entry(on.clone()).or_insert_with(|| What::OldBlock {
            on,
            owner,
            count: 0,
            oldest: block.since,
        });
        if let What::OldBlock { count, oldest, .. } = found {
            *count += 1;
            *oldest = block.since.min(*oldest);
        }
    }
    all.into_values().collect()
}

/// A disk that fills up. It is low again until there is a quarter more room than low.
fn of_disk(about: &Circumstances<'_>) -> Option<What> {
    const STEP: u64 = 64;
    let low = if about.was_low {
        LOW_DISK + LOW_DISK / 4
    } else {
        LOW_DISK
    };
    let free = about.free.filter(|free| *free < low)?;
    Some(What::LowDisk {
        free_mib: (free >> 20) / STEP * STEP,
    })
}
