//! Lays the claims of a token flat, so that each has one name and one text to compare.

use dayfly_domain::{Claims, Refusal, Rule};
use dayfly_token::claims::text_of;
use dayfly_token::excerpt::Excerpt;
use serde_json::Value;

/// Scalar values kept of one token; more is refused, because a dropped claim could be one that a
/// policy forbids by.
const MAX_CLAIMS: usize = 256;
/// Bytes of a claim's name or pointer.
const MAX_NAME_BYTES: usize = 512;
/// Bytes of a claim's text.
const MAX_TEXT_BYTES: usize = 4096;

/// Claims by name where they are scalars of the top level, else by JSON pointer (RFC 6901).
///
/// A name that begins with `/` would read as a pointer: it stands under its own pointer (`/~1name`),
/// so no claim can stand in another's place. Values without a text (null, numbers beyond exact
/// reading) are absent, and an absent claim never matches.
pub(super) fn flatten(claims: &dayfly_token::claims::Claims) -> Result<Claims, Refusal> {
    let mut flat = Claims::new();
    for (name, value) in claims.as_map() {
        let nested = value.is_object() || value.is_array() || name.starts_with('/');
        let name = if nested {
            pointer("", name)
        } else {
            name.clone()
        };
        lay(&mut flat, name, value)?;
    }
    Ok(flat)
}

/// INVARIANT: the reader of tokens bounds the depth ([`dayfly_token::json::MAX_DEPTH`]), so this ends.
fn lay(flat: &mut Claims, name: String, value: &Value) -> Result<(), Refusal> {
    if name.len() > MAX_NAME_BYTES {
        return Err(refuse(
            &name,
            format!("a name of at most {MAX_NAME_BYTES} bytes"),
            name.len(),
        ));
    }
    match value {
        Value::Object(members) => {
            for (member, inner) in members {
                lay(flat, pointer(&name, member), inner)?;
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                lay(flat, format!("{name}/{index}"), inner)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let Some(text) = text_of(value) else {
                return Ok(());
            };
            if text.len() > MAX_TEXT_BYTES {
                return Err(refuse(
                    &name,
                    format!("at most {MAX_TEXT_BYTES} bytes"),
                    text.len(),
                ));
            }
            if flat.len() >= MAX_CLAIMS {
                return Err(refuse(
                    "payload",
                    format!("at most {MAX_CLAIMS} claims"),
                    MAX_CLAIMS + 1,
                ));
            }
            flat.insert(name, text.into_owned());
        }
    }
    Ok(())
}

fn pointer(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn refuse(field: &str, wanted: String, got: usize) -> Refusal {
    Refusal::new(Rule::ClaimForm)
        .field(Excerpt::of(field).text().unwrap_or_default())
        .wanted(wanted)
        .got(got.to_string())
        .hint("ask the platform for a token with fewer or shorter claims")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(json: &str) -> Result<Claims, Refusal> {
        flatten(&dayfly_token::claims::Claims::parse(json.as_bytes()).unwrap())
    }

    #[test]
    fn scalars_stand_by_name_and_nested_ones_by_pointer() {
        let claims = flat(
            r#"{"ref":"main","n":7,"yes":true,"none":null,"big":1e300,
            "k8s.io":{"a/b":{"c":["x",{"d~":1}]}},"aud":["one"]}"#,
        )
        .unwrap();
        let wanted = [
            ("/aud/0", "one"),
            ("/k8s.io/a~1b/c/0", "x"),
            ("/k8s.io/a~1b/c/1/d~0", "1"),
            ("n", "7"),
            ("ref", "main"),
            ("yes", "true"),
        ];
        let wanted = wanted.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(claims, Claims::from(wanted));
    }

    #[test]
    fn a_name_that_reads_as_a_pointer_takes_no_other_claims_place() {
        let claims =
            flat(r#"{"/a/b":"literal","a":{"b":"nested"},"a~1b":"tilde","":"empty"}"#).unwrap();
        assert_eq!(claims.get("/a/b").map(String::as_str), Some("nested"));
        assert_eq!(claims.get("/~1a~1b").map(String::as_str), Some("literal"));
        assert_eq!(claims.get("a~1b").map(String::as_str), Some("tilde"));
        assert_eq!(claims.len(), 4);
    }

    #[test]
    fn number_and_sizes_are_bounded() {
        let many = |n: usize| {
            let list: Vec<String> = (0..n).map(|i| i.to_string()).collect();
            flat(&format!(r#"{{"a":[{}]}}"#, list.join(",")))
        };
        assert_eq!(many(MAX_CLAIMS).unwrap().len(), MAX_CLAIMS);
        assert_eq!(many(MAX_CLAIMS + 1).unwrap_err().rule, Rule::ClaimForm);
        assert!(flat(&format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_TEXT_BYTES + 1))).is_err());
        assert!(flat(&format!(r#"{{"{}":1}}"#, "x".repeat(MAX_NAME_BYTES + 1))).is_err());
        assert!(flat(&format!(r#"{{"{}":[[]]}}"#, "x".repeat(MAX_NAME_BYTES))).is_err());
    }
}
