//! The JSON rule that serde leaves open: no object, however deep, names a member twice.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString as _};
use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Refuses what is no JSON text, and a text in which two readers could see two things
/// (RFC 8259 section 4).
pub(crate) fn check_unambiguous(text: &str) -> Result<(), String> {
    serde_json::from_str::<Unambiguous>(text)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Any value whose objects have distinct member names; only checked, never kept.
struct Unambiguous;

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(Name(name)) = members.next_key()? {
            if names.contains(&name) {
                return Err(A::Error::custom(format_args!("duplicate member `{name}`")));
            }
            names.insert(name);
            members.next_value::<Self>()?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_found_at_any_depth() {
        for good in [
            r#"{"a":{"a":[1,-1,1.5,"x",null,true,{"a":0}]},"b":{"a":0}}"#,
            "[]",
            r#""\u00e9""#,
        ] {
            assert_eq!(check_unambiguous(good), Ok(()), "{good}");
        }
        for bad in [
            r#"{"a":0,"a":0}"#,
            r#"[{"b":{"a":0,"\u0061":0}}]"#,
            "{",
            r#"{"a":0} x"#,
            "",
        ] {
            assert!(check_unambiguous(bad).is_err(), "{bad}");
        }
    }
}
