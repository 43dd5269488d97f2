//! What a resource asks about for one use: a literal, every field of it named.

use alloc::format;
use alloc::string::ToString;

use super::cover::{cover, detail_covers};
use super::detail::{Catalog, Detail};
use super::request::{Asked, RequestDetail, not_covered, read};
use crate::refusal::{Refusal, Rule};
use crate::text::Name;

/// One use that is asked about. Nothing is filled in: where a grant may leave a field to the
/// ceiling, a use names the very thing that is to be done, and a field that bounds it and is not
/// named is a bound that nobody has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedUse {
    asked: Asked,
    detail: Detail,
}

impl AskedUse {
    /// Reads it against what the credential holds, for the type of a detail is one that somebody
    /// may have.
    ///
    /// # Errors
    /// A refusal of stage `access`: a type or field that is not declared, or a value that could be
    /// read in two ways, a wildcard among them.
    pub fn read(
        request: &RequestDetail,
        resource: &Name,
        held: &[Detail],
        catalog: &Catalog,
    ) -> Result<Self, Refusal> {
        let mut asked = read(request, held, catalog)?;
        asked.resource = Some(resource.clone());
        let fields = asked.fields.iter();
        let detail = Detail {
            kind: asked.kind.clone(),
            resource: resource.clone(),
            fields: fields
                .map(|(name, asked)| (name.clone(), asked.field.clone()))
                .collect(),
            scope: None,
        };
        Ok(Self { asked, detail })
    }

    /// What is asked about, as a detail.
    #[must_use]
    pub const fn detail(&self) -> &Detail {
        &self.detail
    }

    /// Checks that one of these details covers it, by each field.
    ///
    /// # Errors
    /// A refusal of stage `access` with the field of the nearest detail that does not.
    pub fn check_within(&self, held: &[Detail], catalog: &Catalog) -> Result<(), Refusal> {
        if held.iter().any(|held| detail_covers(held, &self.detail)) {
            return Ok(());
        }
        let filled = match cover(held, &self.asked, catalog) {
            Err(uncovered) => return Err(not_covered(uncovered)),
            Ok(filled) => filled,
        };
        // INVARIANT: it would be covered with a field filled in, so there is one that is not named.
        let named = |name: &&alloc::string::String| !self.detail.fields.contains_key(*name);
        let first = filled.fields.keys().find(named);
        let first = first.map_or("", |name| name.as_str());
        let wanted = filled.fields.get(first);
        Err(Refusal::new(Rule::NotCovered)
            .field(format!("authorization_details.{first}"))
            .wanted(wanted.map_or_else(Default::default, ToString::to_string))
            .got("nothing named")
            .hint("a use is asked about with every field that bounds it"))
    }
}
