//! The law of slicing: a slice answers as the full set does, by the same policies.

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use cedar_policy::{Authorizer, Entities, EntityUid, Policy, PolicyId, PolicySet, Request, SlotId};
use proptest::prelude::*;

use super::super::load::Statement;
use super::super::schema::{Action, TYPES, uid};
use super::super::slice::{Key, Slices};
use super::{NOW, declared, source};
use crate::config::Place;
use crate::policy::{Asked, Facts, Handed};

const PRINCIPALS: [&str; 9] = [
    "principal",
    "principal == Dayfly::Workload::\"release\"",
    "principal == Dayfly::Workload::\"agent\"",
    "principal in Dayfly::Workload::\"nightly\"",
    "principal in Dayfly::Owner::\"team\"",
    "principal in Dayfly::Owner::\"other\"",
    "principal is Dayfly::Workload",
    "principal is Dayfly::Owner",
    "principal is Dayfly::Workload in Dayfly::Owner::\"team\"",
];
const ACTIONS: [&str; 5] = [
    "action",
    "action == Dayfly::Action::\"start\"",
    "action == Dayfly::Action::\"issue\"",
    "action in [Dayfly::Action::\"issue\", Dayfly::Action::\"use\"]",
    "action in Dayfly::Action::\"delegate\"",
];
const RESOURCES: [&str; 6] = [
    "resource",
    "resource == Dayfly::Resource::\"artifacts\"",
    "resource == Dayfly::Resource::\"queue\"",
    "resource in Dayfly::Resource::\"queue\"",
    "resource is Dayfly::Resource",
    "resource is Dayfly::Owner",
];
const CONDITIONS: [&str; 5] = [
    "",
    "when { context.open_tasks > 2 }",
    "when { context.proof.hasTag(\"ref\") && context.proof.getTag(\"ref\") == \"main\" }",
    "unless { principal.kind == \"ci\" }",
    // It errs.
    "when { context.open_tasks * 9223372036854775807 > 0 }",
];
const TEMPLATES: [(&str, bool, bool); 4] = [
    ("principal == ?principal, action, resource", true, false),
    (
        "principal in ?principal, action, resource == ?resource",
        true,
        true,
    ),
    ("principal, action, resource in ?resource", false, true),
    (
        "principal is Dayfly::Workload in ?principal, action, resource",
        true,
        false,
    ),
];

fn parties() -> (Vec<EntityUid>, Vec<EntityUid>) {
    let workloads = ["release", "nightly", "agent"].map(|name| uid(&TYPES.workload, name));
    let owners = ["team", "other"].map(|name| uid(&TYPES.owner, name));
    let resources = ["artifacts", "queue"].map(|name| uid(&TYPES.resource, name));
    (
        workloads.into_iter().chain(owners).collect(),
        resources.into(),
    )
}

/// A policy by its parts: whether it permits, and its place in each list.
type Drawn = (bool, usize, usize, usize, usize);
/// A link of a template: whether it permits, the template, its principal and its resource.
type Linked = (bool, usize, usize, usize, usize);

fn effect(permits: bool) -> &'static str {
    if permits { "permit" } else { "forbid" }
}

fn full_set(drawn: &[Drawn], linked: &[Linked]) -> PolicySet {
    let mut set = PolicySet::new();
    for (at, (permits, principal, action, resource, condition)) in drawn.iter().enumerate() {
        let text = format!(
            "{} ({}, {}, {}) {};",
            effect(*permits),
            PRINCIPALS[*principal],
            ACTIONS[*action],
            RESOURCES[*resource],
            CONDITIONS[*condition]
        );
        let id = PolicyId::new(format!("static {at}"));
        set.add(Policy::parse(Some(id), text).unwrap()).unwrap();
    }
    let (principals, resources) = parties();
    for (at, (permits, template, principal, resource, condition)) in linked.iter().enumerate() {
        let (scope, by_principal, by_resource) = TEMPLATES[*template];
        let text = format!("{} ({scope}) {};", effect(*permits), CONDITIONS[*condition]);
        let id = PolicyId::new(format!("template {at}"));
        set.add_template(cedar_policy::Template::parse(Some(id.clone()), text).unwrap())
            .unwrap();
        let mut slots = HashMap::new();
        if by_principal {
            slots.insert(SlotId::principal(), principals[*principal].clone());
        }
        if by_resource {
            slots.insert(SlotId::resource(), resources[*resource].clone());
        }
        set.link(id, PolicyId::new(format!("link {at}")), slots)
            .unwrap();
    }
    set
}

/// Decision, determining policies and policies that err.
fn answer(
    set: &PolicySet,
    request: &Request,
    entities: &Entities,
) -> (String, BTreeSet<String>, BTreeSet<String>) {
    let response = Authorizer::new().is_authorized(request, set, entities);
    let diagnostics = response.diagnostics();
    (
        format!("{:?}", response.decision()),
        diagnostics.reason().map(ToString::to_string).collect(),
        diagnostics.errors().map(ToString::to_string).collect(),
    )
}

fn compare(
    drawn: &[Drawn],
    linked: &[Linked],
    tag: &str,
    open_tasks: u64,
) -> Result<(), TestCaseError> {
    let set = full_set(drawn, linked);
    let statement = |policy: &Policy| Statement {
        policy: policy.clone(),
        approval: None,
        observe: false,
        place: Place::of_file("p".to_owned()),
        mentions: Vec::new(),
        clauses: OnceLock::new(),
    };
    let statements: Vec<Statement> = set.policies().map(statement).collect();
    let slices = Slices::of(&statements);
    let claims = [("ref".to_owned(), tag.to_owned())].into();
    let facts = Facts {
        claims: &claims,
        now: NOW,
        address: None,
        open_tasks,
        starts_last_hour: 0,
        subject: None,
        said: None,
        approvals: 0,
    };
    let source = source(&[]);
    let declared = declared(&source);
    let parties = super::super::load::entities(&declared);
    let entities = parties.values().cloned().chain(facts.shown().unwrap());
    let entities = Entities::from_entities(entities, None).unwrap();
    for declared in declared.workloads.values() {
        let workload = &declared.workload;
        for resource in ["artifacts", "queue"] {
            for action in Action::ALL {
                let key = Key {
                    action,
                    workload: uid(&TYPES.workload, workload.name.as_str()),
                    owner: uid(&TYPES.owner, workload.owner.as_str()),
                    resource: uid(&TYPES.resource, resource),
                };
                let asked = Asked::of(&workload.access, &resource.parse().unwrap());
                let handed = (action == Action::Delegate).then(|| Handed {
                    depth: 1,
                    parent: workload,
                    chain: vec![workload],
                });
                let context = facts.context(&asked, handed.as_ref()).unwrap();
                let request = Request::new(
                    key.workload.clone(),
                    action.uid(),
                    key.resource.clone(),
                    context,
                    None,
                )
                .unwrap();
                // Twice: as it is made, and as it is kept.
                for _ in 0..2 {
                    let slice = slices
                        .get(&key, &statements, |_| Ok(Entities::empty()))
                        .unwrap()
                        .slice;
                    let sliced = answer(&slice.enforced, &request, &entities);
                    prop_assert_eq!(sliced, answer(&set, &request, &entities), "{:?}", key);
                }
            }
        }
    }
    Ok(())
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        any::<bool>(),
        0..PRINCIPALS.len(),
        0..ACTIONS.len(),
        0..RESOURCES.len(),
        0..CONDITIONS.len(),
    )
}

fn linked() -> impl Strategy<Value = Linked> {
    (
        any::<bool>(),
        0..TEMPLATES.len(),
        0..5_usize,
        0..2_usize,
        0..CONDITIONS.len(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_slice_answers_as_the_full_set_does(
        drawn in prop::collection::vec(drawn(), 0..24),
        linked in prop::collection::vec(linked(), 0..6),
        tag in prop::sample::select(vec!["main", "other"]),
        open_tasks in 0..5_u64,
    ) {
        compare(&drawn, &linked, tag, open_tasks)?;
    }
}

#[test]
fn a_slice_leaves_out_what_cannot_apply() {
    let set = full_set(
        &[
            (true, 0, 0, 0, 0),
            (true, 1, 0, 0, 0),
            (true, 2, 0, 0, 0),
            (true, 4, 2, 1, 0),
            (true, 0, 1, 0, 0),
        ],
        &[],
    );
    let statement = |policy: &Policy| Statement {
        policy: policy.clone(),
        approval: None,
        observe: false,
        place: Place::of_file("p".to_owned()),
        mentions: Vec::new(),
        clauses: OnceLock::new(),
    };
    let statements: Vec<Statement> = set.policies().map(statement).collect();
    let slices = Slices::of(&statements);
    let of = |workload: &str, owner: &str| {
        let key = Key {
            action: Action::Issue,
            workload: uid(&TYPES.workload, workload),
            owner: uid(&TYPES.owner, owner),
            resource: uid(&TYPES.resource, "artifacts"),
        };
        let slice = slices
            .get(&key, &statements, |_| Ok(Entities::empty()))
            .unwrap()
            .slice;
        slice
            .enforced
            .policies()
            .map(|policy| policy.id().to_string())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        of("release", "team"),
        BTreeSet::from(["static 0", "static 1", "static 3"].map(String::from))
    );
    assert_eq!(
        of("agent", "other"),
        BTreeSet::from(["static 0", "static 2"].map(String::from))
    );
    assert_eq!(
        of("nightly", "team"),
        BTreeSet::from(["static 0", "static 3"].map(String::from))
    );
}
