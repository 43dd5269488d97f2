//! Access never widens: checked against sets of concrete uses, not by the order that decides it.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::Name;
use dayfly_domain::access::*;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// One concrete use: type, resource, and a value for each field that it has.
pub(crate) type Use = (
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
    Option<i64>,
);

const KINDS: [&str; 2] = ["a", "b"];
const RESOURCES: [&str; 2] = ["one", "two"];
const ACTIONS: [&str; 3] = ["x", "y", "z"];
const PATHS: [&str; 6] = ["p/q", "p/r", "p/qq", "q", "pq", "p/q/r"];
const PATTERNS: [&str; 10] = [
    "p/*", "p/q*", "p*", "*", "*/q", "p/q", "q", "{c}/r", "{c}/*", "p/q/*",
];
const SIZES: [i64; 4] = [0, 1, 2, 3];

/// The value of the claim `c` in every proof.
pub(crate) const CLAIM: &str = "p";

/// All uses that there are.
pub(crate) fn universe() -> Vec<Use> {
    let mut all = Vec::new();
    for kind in KINDS {
        for resource in RESOURCES {
            for action in std::iter::once(None).chain(ACTIONS.map(Some)) {
                for path in std::iter::once(None).chain(PATHS.map(Some)) {
                    for size in std::iter::once(None).chain(SIZES.map(Some)) {
                        all.push((kind, resource, action, path, size));
                    }
                }
            }
        }
    }
    all
}

/// The uses that some detail allows.
pub(crate) fn allowed(details: &[Detail]) -> BTreeSet<Use> {
    universe()
        .into_iter()
        .filter(|use_| details.iter().any(|detail| allows(detail, use_)))
        .collect()
}

fn allows(detail: &Detail, (kind, resource, action, path, size): &Use) -> bool {
    let action_fits = match (detail.fields.get("actions"), action) {
        (None, None) => true,
        (Some(Field::Set(set)), Some(action)) => set.contains(*action),
        _ => false,
    };
    let path_fits = match (detail.fields.get("identifier"), path) {
        (None, None) => true,
        (Some(Field::Path(any)), Some(path)) => any.iter().any(|one| matches(one.as_str(), path)),
        _ => false,
    };
    let size_fits = match (detail.fields.get("size"), size) {
        (None, None) => true,
        (Some(Field::Max(most)), Some(size)) => size <= most,
        _ => false,
    };
    detail.kind == *kind
        && detail.resource.as_str() == *resource
        && action_fits
        && path_fits
        && size_fits
}

/// Letter by letter: `*` eats letters of its segment, at least one where it stands alone in it.
fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<char> = pattern.replace("{c}", CLAIM).chars().collect();
    eats(&pattern, &path.chars().collect::<Vec<_>>(), true)
}

fn eats(pattern: &[char], path: &[char], begins: bool) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (['*', rest @ ..], path) => {
            let most = path.iter().take_while(|c| **c != '/').count();
            let least = usize::from(begins);
            (least..=most).any(|n| eats(rest, &path[n..], false))
        }
        ([p, rest @ ..], [c, more @ ..]) if p == c => eats(rest, more, *p == '/'),
        _ => false,
    }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for resource in RESOURCES {
        let declared = Resource {
            name: name(resource),
            url: format!("https://{resource}.example"),
            names_person: false,
        };
        catalog.resources.insert(name(resource), declared);
    }
    for kind in KINDS {
        let size = BTreeMap::from([("size".to_string(), FieldKind::Max)]);
        catalog.types.insert(kind.into(), size);
    }
    catalog
}

fn fields(
    actions: Option<Vec<&str>>,
    patterns: Option<Vec<&str>>,
    size: Option<i64>,
) -> BTreeMap<String, Field> {
    let mut fields = BTreeMap::new();
    if let Some(actions) = actions {
        let set = actions.into_iter().map(Into::into).collect();
        fields.insert("actions".to_string(), Field::Set(set));
    }
    if let Some(patterns) = patterns {
        let patterns = patterns
            .into_iter()
            .map(|text| Pattern::declared(text).unwrap());
        fields.insert("identifier".to_string(), Field::Path(patterns.collect()));
    }
    if let Some(size) = size {
        fields.insert("size".to_string(), Field::Max(size));
    }
    fields
}

fn detail() -> impl Strategy<Value = Detail> {
    (
        select(&KINDS[..]),
        select(&RESOURCES[..]),
        prop::option::of(subsequence(ACTIONS.to_vec(), 1..3)),
        prop::option::of(subsequence(PATTERNS.to_vec(), 1..3)),
        prop::option::of(select(&SIZES[..])),
        prop::option::of(select(&["s1", "s2"][..])),
    )
        .prop_map(|(kind, resource, actions, patterns, size, scope)| Detail {
            kind: kind.into(),
            resource: name(resource),
            fields: fields(actions, patterns, size),
            scope: scope.map(Into::into),
        })
}

/// A declared ceiling; its paths may hold `{c}`.
pub(crate) fn ceiling() -> impl Strategy<Value = Vec<Detail>> {
    prop::collection::vec(detail(), 1..5)
}

fn asked() -> impl Strategy<Value = RequestDetail> {
    (
        select(&KINDS[..]),
        prop::option::of(select(&RESOURCES[..])),
        prop::option::of(subsequence(ACTIONS.to_vec(), 1..3)),
        prop::option::of(select(&PATHS[..])),
        prop::option::of(select(&SIZES[..])),
    )
        .prop_map(|(kind, resource, actions, path, size)| {
            let mut fields = BTreeMap::new();
            if let Some(actions) = actions {
                let list = actions.into_iter().map(Into::into).collect();
                fields.insert("actions".into(), RawField::List(list));
            }
            if let Some(path) = path {
                fields.insert("identifier".into(), RawField::Text(path.into()));
            }
            if let Some(size) = size {
                fields.insert("size".into(), RawField::Int(size));
            }
            RequestDetail {
                kind: kind.into(),
                locations: resource.map(|name| vec![format!("https://{name}.example")]),
                fields,
            }
        })
}

pub(crate) fn request() -> impl Strategy<Value = AccessRequest> {
    (
        subsequence(vec!["s1", "s2"], 0..2),
        prop::collection::vec(asked(), 0..3),
        prop::option::of(select(&RESOURCES[..])),
    )
        .prop_map(|(scopes, details, resource)| AccessRequest {
            scopes: scopes.into_iter().map(Into::into).collect(),
            details,
            resources: resource
                .map(|name| format!("https://{name}.example"))
                .into_iter()
                .collect(),
        })
}

/// What a request detail asks for, read as a detail at a resource.
fn as_detail(asked: &RequestDetail, resource: &str) -> Detail {
    let fields = asked.fields.iter().map(|(name, raw)| {
        let field = match raw {
            RawField::List(list) => Field::Set(list.iter().cloned().collect()),
            RawField::Text(text) => Field::Path(vec![Pattern::plain(text).unwrap()]),
            RawField::Int(value) => Field::Max(*value),
            RawField::Bool(_) | RawField::Other(_) => panic!("no request has {raw:?}"),
        };
        (name.clone(), field)
    });
    Detail {
        kind: asked.kind.clone(),
        resource: name(resource),
        fields: fields.collect(),
        scope: None,
    }
}

/// The same with the claims of a proof in its paths, as they are compared.
pub(crate) fn filled(mut detail: Detail) -> Detail {
    let claims = BTreeMap::from([("c".to_string(), CLAIM.to_string())]);
    for field in detail.fields.values_mut() {
        if let Field::Path(patterns) = field {
            for pattern in patterns {
                *pattern = pattern.fill(&claims).unwrap();
            }
        }
    }
    detail
}

proptest! {
    #[test]
    fn what_covers_allows_more(a in detail(), b in detail()) {
        if detail_covers(&a, &b) {
            prop_assert!(allowed(&[b]).is_subset(&allowed(&[a])));
        }
    }

    #[test]
    fn cover_is_reflexive_and_transitive(
        [a, b, c] in (detail(), detail(), detail()).prop_map(|(a, mut b, mut c)| {
            // The same type, resource and scope, so that covering is no rare accident.
            for detail in [&mut b, &mut c] {
                detail.kind.clone_from(&a.kind);
                detail.resource = a.resource.clone();
            }
            [a, b, c]
        })
    ) {
        prop_assert!(detail_covers(&a, &a));
        if detail_covers(&a, &b) && detail_covers(&b, &c) {
            prop_assert!(detail_covers(&a, &c));
        }
        if detail_covers(&a, &b) {
            prop_assert!(allowed(&[b]).is_subset(&allowed(&[a])));
        }
    }

    #[test]
    fn a_meet_allows_what_both_allow(
        (a, b) in (detail(), detail()).prop_map(|(a, mut b)| {
            b.kind.clone_from(&a.kind);
            b.resource = a.resource.clone();
            (filled(a), filled(b))
        })
    ) {
        let both: BTreeSet<Use> = allowed(std::slice::from_ref(&a))
            .intersection(&allowed(std::slice::from_ref(&b)))
            .cloned()
            .collect();
        match detail_meet(&a, &b) {
            Some(meet) => {
                prop_assert!(detail_covers(&a, &meet) && detail_covers(&b, &meet));
                prop_assert_eq!(allowed(&[meet]), both);
            }
            None => prop_assert!(both.is_empty()),
        }
    }

    #[test]
    fn a_first_access_stays_within_the_ceiling(ceiling in ceiling(), request in request()) {
        if let Ok(access) = first_access(&ceiling, &request, &catalog(), 32) {
            prop_assert!(!access.is_empty());
            prop_assert!(allowed(&access).is_subset(&allowed(&ceiling)));
        }
    }

    /// A detail that names every field is granted exactly when one ceiling detail allows all of it.
    #[test]
    fn what_one_detail_allows_is_granted_and_nothing_else(
        ceiling in ceiling(),
        asked in asked(),
        resource in select(&RESOURCES[..]),
    ) {
        let asked = RequestDetail {
            locations: Some(vec![format!("https://{resource}.example")]),
            ..asked
        };
        let wanted = as_detail(&asked, resource);
        let whole = |detail: &Detail| {
            allowed(std::slice::from_ref(&wanted)).is_subset(&allowed(std::slice::from_ref(detail)))
        };
        let names_all = |detail: &Detail| detail.fields.keys().eq(wanted.fields.keys());
        let ceiling: Vec<Detail> = ceiling.into_iter().filter(names_all).collect();
        let request = AccessRequest { details: vec![asked], ..AccessRequest::default() };
        let filled: Vec<Detail> = ceiling.iter().map(fill).collect();
        let granted = first_access(&filled, &request, &catalog(), 32);
        prop_assert_eq!(granted.is_ok(), filled.iter().any(whole));
        if let Ok(access) = granted {
            prop_assert_eq!(allowed(&access), allowed(&[wanted]));
        }
    }

    #[test]
    fn a_token_stays_within_access_and_ceiling(
        ceiling in ceiling(),
        lowered in ceiling(),
        first in request(),
        later in request(),
    ) {
        let Ok(access) = first_access(&ceiling, &first, &catalog(), 32) else {
            return Ok(());
        };
        if let Ok(token) = token_access(&access, &lowered, &later, &catalog()) {
            let granted = allowed(&token.details);
            prop_assert!(granted.is_subset(&allowed(&access)));
            prop_assert!(granted.is_subset(&allowed(&lowered)));
            prop_assert!(token.details.iter().all(|detail| detail.resource == token.resource));
            for scope in &token.scopes {
                let whole: Vec<Detail> = lowered
                    .iter()
                    .filter(|detail| detail.scope.as_ref() == Some(scope) && detail.resource == token.resource)
                    .cloned()
                    .collect();
                prop_assert!(!whole.is_empty() && allowed(&whole).is_subset(&granted));
            }
        }
    }
}

/// The detail with its claims filled in, by the text.
fn fill(detail: &Detail) -> Detail {
    let mut filled = detail.clone();
    if let Some(Field::Path(patterns)) = filled.fields.get_mut("identifier") {
        for pattern in patterns {
            *pattern = Pattern::declared(&pattern.as_str().replace("{c}", CLAIM)).unwrap();
        }
    }
    filled
}
