//! Reads JSON objects strictly, so that no two readers can see two meanings in one token (RFC 8259
//! section 4, RFC 8725 section 2.6).

use core::cell::Cell;
use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use crate::excerpt::Excerpt;
use crate::fault::{Explained, Fault};

/// Objects and lists within each other, the outermost object included.
pub const MAX_DEPTH: usize = 16;

/// Reads one JSON object and nothing after it.
///
/// Refused: a duplicate member at any depth, more than [`MAX_DEPTH`] levels, anything but an object at the top.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, JsonError> {
    let refused = Cell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let strict = Strict {
        levels: MAX_DEPTH,
        refused: &refused,
    };
    let read = strict
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    match read {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(JsonError::NotAnObject),
        Err(error) => Err(refused.take().unwrap_or(JsonError::Syntax {
            line: error.line(),
            column: error.column(),
        })),
    }
}

/// Why a text is not one strict JSON object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("not JSON at line {line}, column {column}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1; 0 before the first byte.
        column: usize,
    },
    /// JSON, but no object.
    #[error("not a JSON object")]
    NotAnObject,
    /// The same member twice in one object.
    #[error("member {member} stands twice")]
    Duplicate {
        /// Its name.
        member: Excerpt,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

impl Explained for JsonError {
    fn fault(&self) -> Fault {
        let got = match self {
            Self::Duplicate { member } => member.clone(),
            Self::Syntax { .. } | Self::NotAnObject | Self::TooDeep => {
                Excerpt::of(&self.to_string())
            }
        };
        let rule = match self {
            Self::Syntax { .. } | Self::NotAnObject => "json.object",
            Self::Duplicate { .. } => "json.duplicate",
            Self::TooDeep => "json.depth",
        };
        Fault::new(
            rule,
            "json",
            "one JSON object without duplicate members",
            got,
        )
    }
}

/// Reads any value; `refused` remembers why, because the reader's own error type carries text only.
#[derive(Clone, Copy)]
struct Strict<'a> {
    levels: usize,
    refused: &'a Cell<Option<JsonError>>,
}

impl<'a> Strict<'a> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Strict { levels, ..self }),
            None => Err(self.refuse(JsonError::TooDeep)),
        }
    }

    fn refuse<E: serde::de::Error>(self, why: JsonError) -> E {
        let error = E::custom(&why);
        self.refused.set(Some(why));
        error
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            match members.entry(name) {
                Entry::Occupied(held) => {
                    return Err(self.refuse(JsonError::Duplicate {
                        member: Excerpt::of(held.key()),
                    }));
                }
                Entry::Vacant(place) => {
                    place.insert(object.next_value_seed(inner)?);
                }
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_refused_at_any_depth_and_in_any_spelling() {
        let twice = |name: &str| {
            Err(JsonError::Duplicate {
                member: Excerpt::of(name),
            })
        };
        assert_eq!(object(br#"{"a":1,"a":1}"#), twice("a"));
        assert_eq!(object(br#"{"a":1,"\u0061":2}"#), twice("a"));
        assert_eq!(object(br#"{"x":[{"y":{"b":1,"b":2}}]}"#), twice("b"));
        assert!(object(br#"{"a":{"b":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| {
            let inner = levels - 1;
            format!("{{\"a\":{}1{}}}", "[".repeat(inner), "]".repeat(inner))
        };
        assert!(object(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(
            object(nested(MAX_DEPTH + 1).as_bytes()),
            Err(JsonError::TooDeep)
        );
        assert!(object(nested(100_000).as_bytes()).is_err());
    }

    #[test]
    fn only_one_object_passes() {
        assert_eq!(object(b"[]"), Err(JsonError::NotAnObject));
        assert_eq!(object(b"1"), Err(JsonError::NotAnObject));
        for text in [
            "",
            "{",
            "{}{}",
            "{} x",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":1e999}",
            "\u{feff}{}",
        ] {
            assert!(
                matches!(object(text.as_bytes()), Err(JsonError::Syntax { .. })),
                "{text:?}"
            );
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
    }
}
