//! The order on access: when one declared or granted detail covers another.

use alloc::format;
use alloc::string::{String, ToString};

use super::detail::{Catalog, Detail, Field};
use super::request::{Asked, AskedField};

/// Why nothing in a ceiling covers what was asked for: the nearest candidate and where it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncovered {
    /// The field that fails, or `type` when no ceiling detail has that type and resource.
    pub field: String,
    /// What the nearest ceiling detail allows there.
    pub wanted: String,
    /// What was asked for.
    pub got: String,
}

/// Finds the first ceiling detail, in declared order, that covers every field asked for, and
/// fills in from it what was left out.
///
/// # Errors
/// The failing field of the ceiling detail that came nearest.
pub fn cover(ceiling: &[Detail], asked: &Asked, catalog: &Catalog) -> Result<Detail, Uncovered> {
    let mut nearest: Option<(usize, Uncovered)> = None;
    for detail in candidates(ceiling, asked) {
        match fit(detail, asked) {
            Ok(granted) => return Ok(granted),
            Err((failures, first)) => {
                if nearest
                    .as_ref()
                    .is_none_or(|(fewest, _)| failures < *fewest)
                {
                    nearest = Some((failures, first));
                }
            }
        }
    }
    Err(nearest.map_or_else(
        || Uncovered {
            field: "type".to_string(),
            wanted: types_of(ceiling, catalog),
            got: match &asked.resource {
                Some(resource) => format!("{} at {}", asked.kind, catalog.url_of(resource)),
                None => asked.kind.clone(),
            },
        },
        |(_, uncovered)| uncovered,
    ))
}

/// What each detail of a ceiling that covers the request would grant, in declared order.
pub(super) fn fits<'a>(ceiling: &'a [Detail], asked: &'a Asked) -> impl Iterator<Item = Detail> {
    candidates(ceiling, asked).filter_map(|detail| fit(detail, asked).ok())
}

/// The ceiling details of the type and resource asked for.
fn candidates<'a>(ceiling: &'a [Detail], asked: &'a Asked) -> impl Iterator<Item = &'a Detail> {
    ceiling.iter().filter(|detail| {
        detail.kind == asked.kind
            && asked
                .resource
                .as_ref()
                .is_none_or(|resource| *resource == detail.resource)
    })
}

/// Whether one granted or declared detail lies within another: same type and resource, and every
/// field of `ceiling` present in `inner` and not broader, none besides.
#[must_use]
pub fn detail_covers(ceiling: &Detail, inner: &Detail) -> bool {
    ceiling.kind == inner.kind
        && ceiling.resource == inner.resource
        && inner.fields.len() == ceiling.fields.len()
        && inner.fields.iter().all(|(name, field)| {
            ceiling
                .fields
                .get(name)
                .is_some_and(|allowed| field_covers(allowed, field))
        })
}

fn field_covers(ceiling: &Field, inner: &Field) -> bool {
    match (ceiling, inner) {
        (Field::Set(all), Field::Set(some)) => some.is_subset(all),
        (Field::Exact(all), Field::Exact(some)) => some.iter().all(|value| all.contains(value)),
        (Field::Max(most), Field::Max(value)) => value <= most,
        (Field::Min(least), Field::Min(value)) => value >= least,
        (Field::Path(all), Field::Path(some)) => some
            .iter()
            .all(|path| all.iter().any(|pattern| pattern.covers(path))),
        (
            Field::Set(_) | Field::Exact(_) | Field::Max(_) | Field::Min(_) | Field::Path(_),
            Field::Set(_) | Field::Exact(_) | Field::Max(_) | Field::Min(_) | Field::Path(_),
        ) => false,
    }
}

/// The granted detail, or how many fields fail and the first of them.
fn fit(ceiling: &Detail, asked: &Asked) -> Result<Detail, (usize, Uncovered)> {
    let mut granted = ceiling.clone();
    let mut failures = 0usize;
    let mut first = None;
    for (name, AskedField { field, text }) in &asked.fields {
        let allowed = ceiling.fields.get(name);
        if allowed.is_some_and(|allowed| field_covers(allowed, field)) {
            granted.fields.insert(name.clone(), field.clone());
        } else {
            failures += 1;
            first.get_or_insert_with(|| Uncovered {
                field: name.clone(),
                wanted: allowed.map_or_else(|| "nothing".to_string(), ToString::to_string),
                got: text.clone(),
            });
        }
    }
    match first {
        None => Ok(granted),
        Some(uncovered) => Err((failures, uncovered)),
    }
}

fn types_of(ceiling: &[Detail], catalog: &Catalog) -> String {
    let mut text = String::new();
    for detail in ceiling {
        let item = format!("{} at {}", detail.kind, catalog.url_of(&detail.resource));
        if !text.contains(&item) {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&item);
        }
    }
    if text.is_empty() {
        text.push_str("nothing");
    }
    text
}
