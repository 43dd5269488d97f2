//! Whether two tenants of a server accept one and the same proof: then whoever holds it could choose where it counts.

use dayfly_domain::Name;

use super::{Declared, Issuer};
use crate::config::LoadError;

/// What a tenant declares, beside its own issuer URL.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour<'a> {
    /// The tenant.
    pub name: &'a Name,
    /// Its issuer URL, which is the audience where none is declared.
    pub issuer: &'a str,
    /// Its declared state.
    pub declared: &'a Declared,
}

/// The issuers of a tenant whose tokens another one of these accepts by the same audience, each with
/// its place.
#[must_use]
pub fn overlaps<'a>(
    of: Neighbour<'_>,
    others: impl IntoIterator<Item = Neighbour<'a>>,
) -> Vec<LoadError> {
    let mut found = Vec::new();
    for other in others.into_iter().filter(|other| other.name != of.name) {
        for issuer in of.declared.issuers.values() {
            let Some(theirs) = other.declared.issuer_by_url(&issuer.url) else {
                continue;
            };
            let accepted = audiences(theirs, other.issuer);
            let both = audiences(issuer, of.issuer);
            if let Some(both) = both.iter().find(|mine| accepted.contains(mine)) {
                found.push(LoadError::new(
                    issuer.place.clone(),
                    format!(
                        "the issuer `{}` accepts the audience `{both}`, and so does the issuer `{}` of tenant `{}` from the same url: one proof would count in both, so each tenant needs an audience of its own",
                        issuer.name, theirs.name, other.name
                    ),
                ));
            }
        }
    }
    found
}

fn audiences(issuer: &Issuer, own: &str) -> Vec<String> {
    issuer
        .audience
        .clone()
        .unwrap_or_else(|| usual_audiences(own))
}

/// The audiences of a tenant where none is declared, the strictest first.
#[must_use]
pub fn usual_audiences(issuer: &str) -> Vec<String> {
    vec![
        issuer.to_owned(),
        format!("{issuer}/"),
        format!("{issuer}/token"),
    ]
}
