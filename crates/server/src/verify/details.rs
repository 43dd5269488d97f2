//! Details and scopes as they are written (RFC 9396, section 2; RFC 6749, section 3.3), in requests and
//! hand-overs alike, before they are read against what is declared.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::access::{RawField, RequestDetail};
use dayfly_domain::{Refusal, Rule};
use serde_json::{Map, Value};

/// The names in a `scope`, each once, in order.
pub(crate) fn scopes(text: &str) -> Vec<String> {
    let mut named = BTreeSet::new();
    text.split(' ')
        .filter(|scope| !scope.is_empty() && named.insert(*scope))
        .map(str::to_owned)
        .collect()
}

/// The members of a list of details.
pub(crate) fn details(list: Vec<Value>) -> Result<Vec<RequestDetail>, Refusal> {
    list.into_iter()
        .map(|item| match item {
            Value::Object(members) => detail(members),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Err(Refusal::new(Rule::DetailValue)
                .field("authorization_details")
                .wanted("an object")
                .got("something else")),
        })
        .collect()
}

fn detail(members: Map<String, Value>) -> Result<RequestDetail, Refusal> {
    let mut kind = None;
    let mut locations = None;
    let mut fields = BTreeMap::new();
    for (name, value) in members {
        match (name.as_str(), raw(value)) {
            ("type", RawField::Text(text)) => kind = Some(text),
            ("locations", RawField::List(urls)) => locations = Some(urls),
            ("type" | "locations", other) => {
                return Err(Refusal::new(Rule::DetailValue)
                    .field(format!("authorization_details.{name}"))
                    .wanted("a string for `type`, a list of strings for `locations`")
                    .got(format!("{other:?}").chars().take(120).collect::<String>()));
            }
            (_, value) => {
                fields.insert(name, value);
            }
        }
    }
    let kind = kind.ok_or_else(|| {
        Refusal::new(Rule::DetailType)
            .field("authorization_details.type")
            .wanted("a type")
            .got("none")
    })?;
    Ok(RequestDetail {
        kind,
        locations,
        fields,
    })
}

/// One field as it came.
pub(crate) fn raw(value: Value) -> RawField {
    match value {
        Value::String(text) => RawField::Text(text),
        Value::Bool(value) => RawField::Bool(value),
        Value::Number(number) => number.as_i64().map_or(
            RawField::Other("a number that is no 64-bit integer"),
            RawField::Int,
        ),
        Value::Array(items) => {
            let texts: Option<Vec<String>> = items
                .into_iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect();
            texts.map_or(
                RawField::Other("a list of other things than texts"),
                RawField::List,
            )
        }
        Value::Object(_) => RawField::Other("an object"),
        Value::Null => RawField::Other("null"),
    }
}
