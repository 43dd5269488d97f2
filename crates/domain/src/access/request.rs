//! What a request asks for, read against the catalog, and what a client and a token then get.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::cover::{Uncovered, cover, detail_covers, fits};
use super::detail::{Catalog, Detail, Field, FieldKind, Scalar, same_url};
use super::path::{Pattern, check_text};
use crate::refusal::{Refusal, Rule};
use crate::text::Name;

/// What a request names of `scope`, `authorization_details` (RFC 9396) and `resource` (RFC 8707).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRequest {
    /// Scope names, in the order asked.
    pub scopes: Vec<String>,
    /// Details, in the order asked.
    pub details: Vec<RequestDetail>,
    /// Resource URLs; at most one distinct URL can be served by one token.
    pub resources: Vec<String>,
}

impl AccessRequest {
    /// Whether it names any access at all, apart from the audience.
    #[must_use]
    pub fn names_access(&self) -> bool {
        !self.scopes.is_empty() || !self.details.is_empty()
    }
}

/// One member of `authorization_details` as it came, before it is read against the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestDetail {
    /// Its `type`.
    pub kind: String,
    /// Its `locations`, when present.
    pub locations: Option<Vec<String>>,
    /// Every other member.
    pub fields: BTreeMap<String, RawField>,
}

/// A JSON value of a request detail, as far as any field may hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawField {
    /// A string.
    Text(String),
    /// An integer.
    Int(i64),
    /// A boolean.
    Bool(bool),
    /// A list of strings.
    List(Vec<String>),
    /// Anything else, by what it is called.
    Other(&'static str),
}

/// A request detail read against the catalog: every field typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub(super) kind: String,
    pub(super) resource: Option<Name>,
    pub(super) fields: BTreeMap<String, AskedField>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AskedField {
    pub(super) field: Field,
    /// As the caller wrote it, for explanations.
    pub(super) text: String,
}

/// What one token grants: the access at one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenAccess {
    /// The token's only audience.
    pub resource: Name,
    /// What it allows there.
    pub details: Vec<Detail>,
    /// The scopes whose details are granted whole.
    pub scopes: Vec<String>,
}

/// The access of a client at its first grant: what scope and details name, else the whole ceiling.
///
/// `ceiling` has its claims filled in. `most` bounds the number of details.
///
/// # Errors
/// A refusal of stage `access`.
pub fn first_access(
    ceiling: &[Detail],
    request: &AccessRequest,
    catalog: &Catalog,
    most: usize,
) -> Result<Vec<Detail>, Refusal> {
    let mut access: Vec<Detail> = Vec::new();
    if request.names_access() {
        for scope in &request.scopes {
            for detail in scope_details(ceiling, scope)? {
                add(&mut access, detail);
            }
        }
        for detail in &request.details {
            let asked = read(detail, ceiling, catalog)?;
            let granted = cover(ceiling, &asked, catalog).map_err(not_covered)?;
            add(&mut access, &granted);
        }
    } else {
        for detail in ceiling {
            add(&mut access, detail);
        }
    }
    if access.len() > most {
        return Err(Refusal::new(Rule::DetailsLimit)
            .field("authorization_details")
            .wanted(format!("at most {most} details"))
            .got(access.len().to_string()));
    }
    if access.is_empty() {
        return Err(Refusal::new(Rule::NotCovered)
            .field("access")
            .wanted("a workload with access")
            .got("an empty ceiling"));
    }
    Ok(access)
}

/// The part of a client's access that one token grants: covered by the client's access and by
/// the current ceiling, at the one resource that the request names or that alone is possible.
///
/// # Errors
/// A refusal of stage `access`.
pub fn token_access(
    access: &[Detail],
    ceiling: &[Detail],
    request: &AccessRequest,
    catalog: &Catalog,
) -> Result<TokenAccess, Refusal> {
    let within_ceiling = |detail: &Detail| ceiling.iter().any(|c| detail_covers(c, detail));
    let held = |detail: &Detail| access.iter().any(|a| detail_covers(a, detail));
    let mut possible: Vec<Detail> = Vec::new();
    for scope in &request.scopes {
        for detail in scope_details(ceiling, scope)? {
            if !held(detail) {
                return Err(Refusal::new(Rule::ScopeNotGranted)
                    .field("scope")
                    .wanted("a scope that the client's access holds whole")
                    .got(scope.as_str()));
            }
            add(&mut possible, detail);
        }
    }
    for detail in &request.details {
        let asked = read(detail, ceiling, catalog)?;
        // The declared order decides what is filled in, so the ceiling is looked at first; what
        // the client holds is looked at where it holds less than the ceiling would fill in.
        let granted = fits(ceiling, &asked)
            .find(|granted| held(granted))
            .or_else(|| fits(access, &asked).find(|granted| within_ceiling(granted)));
        match granted {
            Some(granted) => add(&mut possible, &granted),
            None => {
                let beyond = cover(access, &asked, catalog).map_err(not_covered)?;
                return Err(ceiling_lowered(&beyond.kind));
            }
        }
    }
    if !request.names_access() {
        for detail in access.iter().filter(|detail| within_ceiling(detail)) {
            add(&mut possible, detail);
        }
        if possible.is_empty() {
            return Err(ceiling_lowered("none of it"));
        }
    }
    let resource = audience(&possible, request, catalog)?;
    possible.retain(|detail| detail.resource == resource);
    let scopes = whole_scopes(ceiling, &resource, &possible, access);
    Ok(TokenAccess {
        resource,
        details: possible,
        scopes,
    })
}

fn audience(
    possible: &[Detail],
    request: &AccessRequest,
    catalog: &Catalog,
) -> Result<Name, Refusal> {
    let held: BTreeSet<&Name> = possible.iter().map(|detail| &detail.resource).collect();
    let urls = |names: &BTreeSet<&Name>| -> String {
        let mut text = String::new();
        for name in names {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(catalog.url_of(name));
        }
        text
    };
    let mut named = request.resources.iter();
    let Some(first) = named.next() else {
        let mut names = held.iter();
        return match (names.next(), names.next()) {
            (Some(only), None) => Ok((*only).clone()),
            (Some(_) | None, Some(_) | None) => Err(Refusal::new(Rule::TargetAmbiguous)
                .field("resource")
                .wanted(format!("one of {}", urls(&held)))
                .got("none")
                .hint("name one with `resource`: a token has one audience")),
        };
    };
    if let Some(other) = named.find(|url| !same_url(first, url)) {
        return Err(Refusal::new(Rule::TargetAmbiguous)
            .field("resource")
            .wanted("one resource")
            .got(format!("{first}, {other}"))
            .hint("ask for one token for each resource"));
    }
    let Some(resource) = catalog.by_url(first) else {
        return Err(Refusal::new(Rule::TargetUnknown)
            .field("resource")
            .wanted("the url of a declared resource")
            .got(first.as_str()));
    };
    if !held.contains(&resource.name) {
        return Err(Refusal::new(Rule::TargetNotGranted)
            .field("resource")
            .wanted(urls(&held))
            .got(first.as_str()));
    }
    Ok(resource.name.clone())
}

/// Reads one request detail: known type, known fields, values of the right form.
pub(super) fn read(
    detail: &RequestDetail,
    ceiling: &[Detail],
    catalog: &Catalog,
) -> Result<Asked, Refusal> {
    let known =
        ceiling.iter().any(|c| c.kind == detail.kind) || catalog.types.contains_key(&detail.kind);
    if !known {
        return Err(Refusal::new(Rule::DetailType)
            .field("authorization_details.type")
            .wanted("a type that the workload's access names")
            .got(detail.kind.as_str()));
    }
    let resource = match detail.locations.as_deref() {
        None => None,
        Some([url]) => match catalog.by_url(url) {
            Some(resource) => Some(resource.name.clone()),
            None => return Err(bad_location(url)),
        },
        Some(several) => return Err(bad_location(&several.join(", "))),
    };
    let mut fields = BTreeMap::new();
    for (name, raw) in &detail.fields {
        let kind = catalog.field_kind(&detail.kind, name).ok_or_else(|| {
            Refusal::new(Rule::DetailField)
                .field(format!("authorization_details.{name}"))
                .wanted(format!("a field declared for type {}", detail.kind))
                .got(name.as_str())
        })?;
        let asked = read_field(kind, raw).map_err(|why| {
            Refusal::new(Rule::DetailValue)
                .field(format!("authorization_details.{name}"))
                .wanted(why)
                .got(show(raw))
        })?;
        fields.insert(
            name.clone(),
            AskedField {
                field: asked,
                text: show(raw),
            },
        );
    }
    Ok(Asked {
        kind: detail.kind.clone(),
        resource,
        fields,
    })
}

fn read_field(kind: FieldKind, raw: &RawField) -> Result<Field, String> {
    let plain = |text: &str| -> Result<(), String> {
        check_text(text)?;
        if text.contains('*') {
            return Err("`*` is not allowed in a request".to_string());
        }
        Ok(())
    };
    match (kind, raw) {
        (FieldKind::Set, RawField::List(values)) if !values.is_empty() => {
            values.iter().try_for_each(|value| plain(value))?;
            Ok(Field::Set(values.iter().cloned().collect()))
        }
        (FieldKind::Set, _) => Err("a list of texts that is not empty".to_string()),
        (FieldKind::Path, RawField::Text(text)) => Ok(Field::Path(vec![Pattern::plain(text)?])),
        (FieldKind::Path, _) => Err("a path".to_string()),
        (FieldKind::Exact, RawField::Text(text)) => {
            plain(text)?;
            Ok(Field::Exact(vec![Scalar::Text(text.clone())]))
        }
        (FieldKind::Exact, RawField::Int(value)) => Ok(Field::Exact(vec![Scalar::Int(*value)])),
        (FieldKind::Exact, RawField::Bool(value)) => Ok(Field::Exact(vec![Scalar::Bool(*value)])),
        (FieldKind::Exact, _) => Err("a text, an integer or a boolean".to_string()),
        (FieldKind::Max, RawField::Int(value)) => Ok(Field::Max(*value)),
        (FieldKind::Min, RawField::Int(value)) => Ok(Field::Min(*value)),
        (FieldKind::Max | FieldKind::Min, _) => Err("an integer".to_string()),
    }
}

fn show(raw: &RawField) -> String {
    match raw {
        RawField::Text(text) => text.clone(),
        RawField::Int(value) => value.to_string(),
        RawField::Bool(value) => value.to_string(),
        RawField::List(values) => values.join(", "),
        RawField::Other(what) => (*what).to_string(),
    }
}

/// The ceiling details that a scope names.
pub(super) fn scope_details<'a>(
    ceiling: &'a [Detail],
    scope: &str,
) -> Result<Vec<&'a Detail>, Refusal> {
    let named: Vec<&Detail> = ceiling
        .iter()
        .filter(|detail| detail.scope.as_deref() == Some(scope))
        .collect();
    if named.is_empty() {
        return Err(Refusal::new(Rule::ScopeUnknown)
            .field("scope")
            .wanted("a scope that the workload's access declares")
            .got(scope));
    }
    Ok(named)
}

/// The scopes with a detail at `resource`, all of whose details are granted whole: those at the
/// resource by the token, the others by the client's access.
fn whole_scopes(
    ceiling: &[Detail],
    resource: &Name,
    token: &[Detail],
    access: &[Detail],
) -> Vec<String> {
    let mut scopes = Vec::new();
    for scope in ceiling
        .iter()
        .filter(|detail| detail.resource == *resource)
        .filter_map(|detail| detail.scope.as_ref())
    {
        let whole = ceiling
            .iter()
            .filter(|detail| detail.scope.as_ref() == Some(scope))
            .all(|declared| {
                let granted = if declared.resource == *resource {
                    token
                } else {
                    access
                };
                granted.iter().any(|detail| detail_covers(detail, declared))
            });
        if whole && !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    scopes
}

/// Adds a detail without its scope name, once.
pub(super) fn add(access: &mut Vec<Detail>, detail: &Detail) {
    let granted = Detail {
        scope: None,
        ..detail.clone()
    };
    if !access.contains(&granted) {
        access.push(granted);
    }
}

pub(super) fn not_covered(uncovered: Uncovered) -> Refusal {
    Refusal::new(Rule::NotCovered)
        .field(format!("authorization_details.{}", uncovered.field))
        .wanted(uncovered.wanted)
        .got(uncovered.got)
}

fn ceiling_lowered(got: &str) -> Refusal {
    Refusal::new(Rule::CeilingLowered)
        .field("authorization_details")
        .wanted("access that the workload's ceiling still holds")
        .got(got)
}

fn bad_location(got: &str) -> Refusal {
    Refusal::new(Rule::DetailValue)
        .field("authorization_details.locations")
        .wanted("the url of the detail's resource, alone")
        .got(got)
}
