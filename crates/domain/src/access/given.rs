//! What a hand-over gives: named in full, and each detail held whole by the one who gives.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::cover::{cover, detail_covers};
use super::detail::{Catalog, Detail};
use super::request::{AccessRequest, Asked, add, not_covered, read, scope_details};
use crate::refusal::{Refusal, Rule};

/// The access that a hand-over gives of what its giver holds. Nothing is implied: what is not named
/// is not given, and a pattern is named by its scope alone. `ceiling` says what the scopes name.
///
/// # Errors
/// A refusal of stage `access` or `delegation`.
pub fn given_access(
    held: &[Detail],
    ceiling: &[Detail],
    given: &AccessRequest,
    catalog: &Catalog,
    most: usize,
) -> Result<Vec<Detail>, Refusal> {
    let mut access: Vec<Detail> = Vec::new();
    for scope in &given.scopes {
        for detail in scope_details(ceiling, scope)? {
            if !held.iter().any(|own| detail_covers(own, detail)) {
                return Err(Refusal::new(Rule::ScopeNotGranted)
                    .field("scope")
                    .wanted("a scope that the parent's access holds whole")
                    .got(scope.as_str()));
            }
            add(&mut access, detail);
        }
    }
    for detail in &given.details {
        let asked = read(detail, held, catalog)?;
        add(&mut access, &named_in_full(held, &asked, catalog)?);
    }
    if access.len() > most {
        return Err(Refusal::new(Rule::DetailsLimit)
            .field("authorization_details")
            .wanted(format!("at most {most} details"))
            .got(access.len().to_string()));
    }
    if access.is_empty() {
        return Err(not_named("scope", "access that is named", "none"));
    }
    Ok(access)
}

/// The detail that is asked for, where one that is held covers it and leaves no field to fill in.
fn named_in_full(held: &[Detail], asked: &Asked, catalog: &Catalog) -> Result<Detail, Refusal> {
    let Some(resource) = &asked.resource else {
        return Err(not_named(
            "authorization_details.locations",
            "the url of the resource",
            "none",
        ));
    };
    let whole: Vec<Detail> = held
        .iter()
        .filter(|own| own.kind == asked.kind && own.resource == *resource)
        .filter(|own| own.fields.keys().eq(asked.fields.keys()))
        .cloned()
        .collect();
    if let Ok(given) = cover(&whole, asked, catalog) {
        return Ok(given);
    }
    let filled = cover(held, asked, catalog).map_err(not_covered)?;
    let left_out: Vec<&String> = filled
        .fields
        .keys()
        .filter(|name| !asked.fields.contains_key(*name))
        .collect();
    let first = left_out.first().map_or("", |name| name.as_str());
    let wanted = filled
        .fields
        .get(first)
        .map_or_else(String::new, ToString::to_string);
    Err(not_named(
        &format!("authorization_details.{first}"),
        &wanted,
        "none",
    ))
}

fn not_named(field: &str, wanted: &str, got: &str) -> Refusal {
    Refusal::new(Rule::NotNamed)
        .field(field)
        .wanted(wanted)
        .got(got)
        .hint("a hand-over names every field of what it gives; a pattern is given by its scope")
}
