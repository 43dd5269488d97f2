//! Who ended something and why, as far as the annex of its entry still says so.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::entry::{Annexed, Entry};

/// Who did something, and the reason given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndNote {
    /// Who did it, like `uid 0`; none where no person did, or the annex was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The reason given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl EndNote {
    /// What the annex of an entry says of a person.
    pub(super) fn of(entry: &Entry) -> Self {
        match &entry.annex {
            Annexed::None | Annexed::Erased => Self::default(),
            Annexed::Here(annex) => Self {
                by: annex.get("by").and_then(person),
                reason: annex
                    .get("reason")
                    .and_then(Value::as_str)
                    .filter(|reason| !reason.is_empty())
                    .map(str::to_owned),
            },
        }
    }
}

/// A person: the user id at the socket, or a subject of an issuer.
fn person(by: &Value) -> Option<String> {
    if let Some(uid) = by.get("uid").and_then(Value::as_u64) {
        return Some(format!("uid {uid}"));
    }
    let sub = by.get("sub").and_then(Value::as_str)?;
    Some(match by.get("iss").and_then(Value::as_str) {
        Some(iss) => format!("{sub} of {iss}"),
        None => sub.to_owned(),
    })
}
