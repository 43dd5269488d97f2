//! What two details allow both: the most that lies within each of them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::cover::detail_covers;
use super::detail::{Detail, Field, Scalar};
use super::path::Pattern;

/// The detail that covers whatever both cover, and is covered by both; none where there is no such
/// access. As in [`detail_covers`], a field that one of them has and the other has not leaves none.
#[must_use]
pub fn detail_meet(one: &Detail, other: &Detail) -> Option<Detail> {
    if detail_covers(other, one) {
        return Some(one.clone());
    }
    let alike = one.kind == other.kind
        && one.resource == other.resource
        && one.fields.len() == other.fields.len();
    if !alike {
        return None;
    }
    let fields = one.fields.iter().map(|(name, field)| {
        let meet = field_meet(field, other.fields.get(name)?)?;
        Some((name.clone(), meet))
    });
    Some(Detail {
        kind: one.kind.clone(),
        resource: one.resource.clone(),
        fields: fields.collect::<Option<BTreeMap<String, Field>>>()?,
        scope: None,
    })
}

fn field_meet(one: &Field, other: &Field) -> Option<Field> {
    match (one, other) {
        (Field::Set(one), Field::Set(other)) => {
            let both: BTreeSet<String> = one.intersection(other).cloned().collect();
            (!both.is_empty()).then_some(Field::Set(both))
        }
        (Field::Exact(one), Field::Exact(other)) => {
            let both = one.iter().filter(|value| other.contains(value));
            let both: Vec<Scalar> = both.cloned().collect();
            (!both.is_empty()).then_some(Field::Exact(both))
        }
        (Field::Max(one), Field::Max(other)) => Some(Field::Max(*one.min(other))),
        (Field::Min(one), Field::Min(other)) => Some(Field::Min(*one.max(other))),
        (Field::Path(one), Field::Path(other)) => {
            let mut both: Vec<Pattern> = Vec::new();
            for one in one {
                for meet in other.iter().filter_map(|other| one.meet(other)) {
                    if !both.contains(&meet) {
                        both.push(meet);
                    }
                }
            }
            (!both.is_empty()).then_some(Field::Path(both))
        }
        (
            Field::Set(_) | Field::Exact(_) | Field::Max(_) | Field::Min(_) | Field::Path(_),
            Field::Set(_) | Field::Exact(_) | Field::Max(_) | Field::Min(_) | Field::Path(_),
        ) => None,
    }
}
