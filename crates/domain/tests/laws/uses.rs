//! A use is allowed where the credential, its client and the present ceilings allow it, and nowhere
//! else: checked against sets of concrete uses.

use std::collections::BTreeMap;

use dayfly_domain::access::*;
use dayfly_domain::*;
use proptest::prelude::*;

use super::access::{CLAIM, Use, allowed, catalog, ceiling, filled, name, universe};
use super::admission::workload;
use super::subtree::task;

/// One use as a resource asks about it: every field that it has, and no other.
fn request(&(kind, _, action, path, size): &Use) -> RequestDetail {
    let mut fields = BTreeMap::new();
    if let Some(action) = action {
        fields.insert("actions".into(), RawField::List(vec![action.into()]));
    }
    if let Some(path) = path {
        fields.insert("identifier".into(), RawField::Text(path.into()));
    }
    if let Some(size) = size {
        fields.insert("size".into(), RawField::Int(size));
    }
    RequestDetail {
        kind: kind.into(),
        locations: None,
        fields,
    }
}

fn wide() -> impl Strategy<Value = Vec<Detail>> {
    (ceiling(), ceiling()).prop_map(|(mut all, more)| {
        all.extend(more);
        all
    })
}

proptest! {
    #[test]
    fn a_use_is_what_token_client_and_ceilings_all_allow(
        token in wide(),
        // Often the same, so that what is allowed is no rare accident.
        client in prop::option::of(wide()),
        lowered in prop::option::of(wide()),
    ) {
        let token: Vec<Detail> = token.into_iter().map(filled).collect();
        let client = client.map_or_else(
            || token.clone(),
            |client| client.into_iter().map(filled).collect(),
        );
        let ceiling = lowered.unwrap_or_else(|| token.clone());
        let mut task = task(&[None]);
        task.clients[0].access.clone_from(&client);
        task.clients[0].filled = Claims::from([("c".into(), CLAIM.into())]);
        let declared = Workload { access: ceiling.clone(), ..workload(false) };
        let may = [allowed(&token), allowed(&client), allowed(&ceiling)];
        let catalog = catalog();
        for used in universe() {
            let request = request(&used);
            let resource = name(used.1);
            let asked = UseAsked {
                client: 1,
                held: &token,
                request: &request,
                resource: &resource,
                workload: &declared,
                others: &[],
                catalog: &catalog,
            };
            let wanted = may.iter().all(|may| may.contains(&used));
            prop_assert_eq!(check_use(&task, &asked).is_ok(), wanted, "{:?}", used);
        }
    }
}

#[test]
fn what_would_keep_a_client_from_a_credential_keeps_it_from_a_use() {
    let access = vec![filled(Detail {
        kind: "a".into(),
        resource: name("one"),
        fields: BTreeMap::from([("actions".into(), Field::Set(["x".to_owned()].into()))]),
        scope: None,
    })];
    let request = request(&("a", "one", Some("x"), None, None));
    let mut handed = task(&[None, Some(1)]);
    for client in &mut handed.clients {
        client.access.clone_from(&access);
    }
    let resource = name("one");
    let rule = |client: u32, declared: &Workload| {
        let asked = UseAsked {
            client,
            held: &access,
            request: &request,
            resource: &resource,
            workload: declared,
            others: &[],
            catalog: &catalog(),
        };
        check_use(&handed, &asked).err().map(|refusal| refusal.rule)
    };
    let plain = Workload {
        access: access.clone(),
        delegation: Some(Delegation {
            depth: 1,
            clients: 1,
            to: vec![name("w")],
            actor: Actor::Optional,
        }),
        ..workload(false)
    };
    assert_eq!((rule(1, &plain), rule(2, &plain)), (None, None));
    // Who hands nothing over any more leaves its helpers nothing.
    let gives_nothing = Workload {
        delegation: None,
        ..plain.clone()
    };
    assert_eq!(rule(1, &gives_nothing), None);
    assert_eq!(rule(2, &gives_nothing), Some(Rule::NotDelegable));
    // A credential without a key is none of a workload that demands one.
    let bound = Workload {
        binding: Binding::Required,
        ..plain.clone()
    };
    assert_eq!(rule(1, &bound), Some(Rule::BindingRequired));
    let other = Workload {
        name: name("other"),
        ..plain
    };
    assert_eq!(rule(1, &other), Some(Rule::WorkloadUnknown));
    assert_eq!(rule(3, &bound), Some(Rule::Credential));
}
