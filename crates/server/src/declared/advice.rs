//! Warnings: what can be loaded and should still be looked at.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::access::{Field, Pattern};
use dayfly_domain::{Binding, HeartbeatMode, Match, Name, Span, Workload};

use super::DeclaredWorkload;
use super::issuer::Issuer;
use super::platform::IssuerKind;
use super::resource::Resource;
use super::sections::Sections;
use crate::config::{Node, Report, any_of};

/// Whether a match pins no id that is never given again, so that it goes by names, which can be
/// given up and taken by others.
#[must_use]
pub fn goes_by_names(kind: IssuerKind, matching: &Match) -> bool {
    match kind {
        IssuerKind::Kubernetes => !matching.pins("serviceaccount_uid"),
        IssuerKind::Github | IssuerKind::Gitlab | IssuerKind::Oidc => {
            !kind.immutable().iter().any(|id| matching.pins(id))
        }
    }
}

/// What a match leaves open: names can be given to somebody else, ids cannot.
pub(super) fn on_match(node: &Node<'_>, issuer: &Issuer, matching: &Match, report: &mut Report) {
    let kind = issuer.kind;
    let mut warn = |message: String| report.warn(node.place(), message, None);
    let names = |claim: &str| matching.clauses.iter().any(|clause| clause.claim == claim);
    if goes_by_names(kind, matching) {
        match kind {
            IssuerKind::Kubernetes => warn(
                "`match` pins no `serviceaccount_uid`: a service account that is deleted and made again under the same name matches too".to_string(),
            ),
            IssuerKind::Oidc => {
                warn("`match` does not pin `sub`: other claims may change hands".to_string());
            }
            IssuerKind::Github | IssuerKind::Gitlab => warn(format!(
                "`match` goes by names alone, which can be given up and taken by others: pin {}",
                any_of(kind.immutable()),
            )),
        }
    }
    match kind {
        IssuerKind::Github | IssuerKind::Gitlab if names("sub") => warn(format!(
            "`match` goes by `sub`, whose form can be customised and has changed: match {} instead",
            any_of(kind.immutable()),
        )),
        IssuerKind::Github | IssuerKind::Gitlab | IssuerKind::Kubernetes | IssuerKind::Oidc => {}
    }
    if kind == IssuerKind::Gitlab && names("ref") {
        let protected = matching.clauses.iter().any(|clause| {
            clause.claim == "ref_protected" && clause.any_of.iter().all(|value| value == "true")
        });
        if !protected {
            warn("`match` names `ref` without `ref_protected = \"true\"`: whoever can push may make a ref of that name".to_string());
        }
        if !names("project_id") {
            warn("`match` names `ref` without `project_id`: a ref of that name in another project matches too".to_string());
        }
    }
}

/// What a workload's other keys leave open.
pub(super) fn on_workload(
    node: &Node<'_>,
    workload: &Workload,
    kind: Option<IssuerKind>,
    report: &mut Report,
) {
    let name = &workload.name;
    if kind == Some(IssuerKind::Gitlab) && workload.binding == Binding::Optional {
        let message = format!(
            "a client of `{name}` without a key can never renew: gitlab gives one token a job and it is spent by the first use"
        );
        report.warn(node.place(), message, None);
    }
    if workload.heartbeat.mode == HeartbeatMode::Off && workload.window > Span::from_seconds(3600) {
        let message = format!(
            "`{name}` has no heartbeat: a task that was left behind stays open for {}",
            workload.window
        );
        report.warn(node.place(), message, None);
    }
}

/// Claims that name a person on one platform or another.
const PERSONAL: [&str; 8] = [
    "actor",
    "actor_id",
    "email",
    "name",
    "preferred_username",
    "user_email",
    "user_id",
    "user_login",
];

/// Claims of people that would stand in leaves, which nobody can erase.
pub(super) fn on_people(
    node: &Node<'_>,
    workload: &Workload,
    of_people: bool,
    report: &mut Report,
) {
    let keyed = workload.key.key.iter().map(String::as_str);
    let filled = workload
        .access
        .iter()
        .flat_map(|detail| detail.fields.values())
        .flat_map(|field| match field {
            Field::Path(patterns) => patterns.as_slice(),
            Field::Set(_) | Field::Exact(_) | Field::Max(_) | Field::Min(_) => &[],
        })
        .flat_map(Pattern::claims);
    // Whatever a person's token says may name the person.
    let filled = filled.map(|claim| (claim, of_people));
    let keyed = keyed.map(|claim| (claim, false));
    let named = keyed.chain(filled);
    let named = named.filter(|(claim, any)| *any || PERSONAL.contains(claim));
    for (claim, _) in named {
        let message = format!(
            "`{claim}` may name a person, and what makes the task key or fills access stands in the ledger for good"
        );
        report.warn(node.place(), message, None);
    }
}

/// Resources that no workload may reach.
pub(super) fn on_unused(
    sections: &Sections<'_>,
    workloads: &BTreeMap<Name, DeclaredWorkload>,
    report: &mut Report,
) {
    let used: BTreeSet<&str> = workloads
        .values()
        .flat_map(|declared| &declared.workload.access)
        .map(|detail| detail.resource.as_str())
        .collect();
    for (name, node) in sections.resources.iter() {
        if !used.contains(name) {
            report.warn(
                node.place(),
                format!("no workload has access to the resource `{name}`"),
                None,
            );
        }
    }
}

/// Resources that are told people's names by several issuers, who may call two people alike.
pub(super) fn on_namesakes(
    sections: &Sections<'_>,
    resources: &BTreeMap<Name, Resource>,
    workloads: &BTreeMap<Name, DeclaredWorkload>,
    report: &mut Report,
) {
    for (name, node) in sections.resources.iter() {
        let found = resources.values().find(|found| found.name.as_str() == name);
        let Some(resource) = found.filter(|found| found.names_person) else {
            continue;
        };
        let reaches = |declared: &&DeclaredWorkload| {
            let access = &declared.workload.access;
            access.iter().any(|detail| detail.resource == resource.name)
        };
        let acting = workloads.values().filter(reaches);
        let issuers: BTreeSet<&str> = acting
            .filter_map(|declared| declared.workload.acts_for.as_ref())
            .flat_map(|acts_for| &acts_for.from)
            .map(Name::as_str)
            .collect();
        if issuers.len() > 1 {
            let issuers: Vec<&str> = issuers.into_iter().collect();
            let message = format!(
                "the resource `{name}` is told of people of {}: `sub` tells them apart only beside `iss` in `on_behalf_of`",
                issuers.join(" and ")
            );
            report.warn(node.place(), message, None);
        }
    }
}
