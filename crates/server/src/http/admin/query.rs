//! The query of a request to the admin face, each parameter at most once.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use dayfly_domain::Time;

use super::answer::{Problem, parsed};

/// Parameters by name.
pub(super) struct Query(BTreeMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let mut query = BTreeMap::new();
        let text = parts.uri.query().unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if query
                .insert(name.clone().into_owned(), value.into_owned())
                .is_some()
            {
                return Err(Problem::Wrong(format!("`{name}` stands more than once")));
            }
        }
        Ok(Self(query))
    }
}

impl Query {
    /// A parameter; none where it is absent or empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Whether a parameter stands there, as `1` or `true`.
    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), Some("1" | "true"))
    }

    pub(super) fn parsed<T: FromStr<Err: Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Problem> {
        self.text(name).map(|text| parsed(name, text)).transpose()
    }

    pub(super) fn required<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, Problem> {
        self.parsed(name)?
            .ok_or_else(|| Problem::Wrong(format!("`{name}` is missing")))
    }

    /// A point in time, in milliseconds since 1970.
    pub(super) fn time(&self, name: &str) -> Result<Option<Time>, Problem> {
        Ok(self.parsed(name)?.map(Time::from_millis))
    }

    /// How many there may be in an answer.
    pub(super) fn limit(&self, default: usize, most: usize) -> Result<usize, Problem> {
        Ok(self.parsed("limit")?.unwrap_or(default).clamp(1, most))
    }
}
