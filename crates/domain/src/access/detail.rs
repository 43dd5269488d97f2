//! One detail of access, and the catalog of resources and types it is read against.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::path::Pattern;
use crate::text::Name;

/// One detail of access (RFC 9396, section 2) at one resource.
///
/// A field that is absent allows nothing where it stands in a ceiling; in what was granted it was
/// absent from the ceiling too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Detail {
    /// The `type` of RFC 9396.
    #[serde(rename = "type")]
    pub kind: String,
    /// The resource it is about. On the wire it is `locations`, with the resource's URL alone.
    pub resource: Name,
    /// Every other field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Field>,
    /// The declared scope that names this detail, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// The value of one field, by how it is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// All of these; a request is covered when it is a subset.
    Set(BTreeSet<String>),
    /// Any one of these; a request names one.
    Exact(Vec<Scalar>),
    /// At most this.
    Max(i64),
    /// At least this.
    Min(i64),
    /// Any path under one of these patterns.
    Path(Vec<Pattern>),
}

/// How a field of a type is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    /// A list of texts, compared as a set.
    Set,
    /// One text, integer or boolean.
    Exact,
    /// An integer that bounds from above.
    Max,
    /// An integer that bounds from below.
    Min,
    /// A path.
    Path,
}

/// A text, integer or boolean.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A text.
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: fmt::Display>(
            f: &mut fmt::Formatter<'_>,
            items: impl IntoIterator<Item = T>,
            separator: &str,
        ) -> fmt::Result {
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 {
                    f.write_str(separator)?;
                }
                write!(f, "{item}")?;
            }
            Ok(())
        }
        match self {
            Self::Set(values) => list(f, values, ", "),
            Self::Exact(values) => list(f, values, " or "),
            Self::Max(value) => write!(f, "at most {value}"),
            Self::Min(value) => write!(f, "at least {value}"),
            Self::Path(values) => list(f, values, " or "),
        }
    }
}

/// A server that accepts Dayfly's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name in configuration.
    pub name: Name,
    /// Its URL: the audience of its tokens, compared as bytes.
    pub url: String,
    /// Whether its tokens name the person on whose behalf a task runs.
    pub names_person: bool,
}

/// The resources and the declared fields of types that requests are read against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Resources by name.
    pub resources: BTreeMap<Name, Resource>,
    /// Declared fields by type. The types that exist are those that some ceiling names.
    pub types: BTreeMap<String, BTreeMap<String, FieldKind>>,
}

impl Catalog {
    /// How a field of a type is compared; `None` when the type has no such field.
    #[must_use]
    pub fn field_kind(&self, kind: &str, field: &str) -> Option<FieldKind> {
        match field {
            "actions" | "datatypes" | "privileges" => Some(FieldKind::Set),
            "identifier" => Some(FieldKind::Path),
            other => self.types.get(kind)?.get(other).copied(),
        }
    }

    /// The resource with this URL. The comparison is exact, but for one trailing slash where the
    /// URL is a scheme and a host only (RFC 3986, section 6.2.3).
    #[must_use]
    pub fn by_url(&self, url: &str) -> Option<&Resource> {
        self.resources
            .values()
            .find(|resource| same_url(&resource.url, url))
    }

    /// The URL of a resource; empty when it is no longer declared.
    #[must_use]
    pub fn url_of(&self, resource: &Name) -> &str {
        self.resources
            .get(resource)
            .map_or("", |resource| resource.url.as_str())
    }
}

/// Whether two resource URLs are the same: exactly, or but for the slash of a host-only URL.
pub(super) fn same_url(a: &str, b: &str) -> bool {
    let host_only = |url: &str| {
        url.split_once("://").is_some_and(|(_, rest)| {
            !rest
                .strip_suffix('/')
                .unwrap_or(rest)
                .contains(['/', '?', '#'])
        })
    };
    a == b || (host_only(a) && (a.strip_suffix('/') == Some(b) || b.strip_suffix('/') == Some(a)))
}
