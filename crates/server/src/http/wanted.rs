//! What a request asks for: `scope`, `authorization_details`, `resource` and `audience`.

use dayfly_domain::access::{AccessRequest, RequestDetail};
use dayfly_domain::{Digest, Refusal, Rule};
use dayfly_token::hash::sha256;
use serde_json::{Value, json};

use super::form::Form;
use crate::declared::Declared;
use crate::verify;

/// Reads what a form asks for.
pub(super) fn access(form: &Form, declared: &Declared) -> Result<AccessRequest, Refusal> {
    let scopes = verify::scopes(form.get("scope").unwrap_or_default());
    let details = match form.get("authorization_details") {
        None => Vec::new(),
        Some(text) => details(text)?,
    };
    let mut resources: Vec<String> = Vec::new();
    for url in form.all("resource") {
        let absolute = url::Url::parse(url).is_ok_and(|url| url.fragment().is_none());
        if !absolute {
            return Err(Refusal::new(Rule::TargetUnknown)
                .field("resource")
                .wanted("an absolute uri without a fragment")
                .got(url));
        }
        resources.push(url.to_owned());
    }
    for name in form.all("audience") {
        // RFC 8693 lets `audience` be a logical name: here, a resource's.
        let named = name
            .parse()
            .ok()
            .and_then(|name| declared.catalog.resources.get(&name));
        resources.push(named.map_or_else(|| name.to_owned(), |resource| resource.url.clone()));
    }
    Ok(AccessRequest {
        scopes,
        details,
        resources,
    })
}

/// The digest by which a repeated request is known as the same.
pub(super) fn digest(form: &Form) -> Digest {
    let resources: Vec<&str> = form.all("resource").chain(form.all("audience")).collect();
    let named = json!([
        resources,
        form.get("scope"),
        form.get("authorization_details"),
    ]);
    Digest(sha256(named.to_string().as_bytes()))
}

fn details(text: &str) -> Result<Vec<RequestDetail>, Refusal> {
    let refused = |wanted: &str, got: &str| {
        Refusal::new(Rule::DetailValue)
            .field("authorization_details")
            .wanted(wanted)
            .got(got)
    };
    // The strict reader takes objects, so the list is read as a member of one.
    let wrapped = format!("{{\"d\":{text}}}");
    let mut object = dayfly_token::json::object(wrapped.as_bytes())
        .map_err(|why| refused("a json array of objects, no member twice", &why.to_string()))?;
    if object.len() != 1 {
        return Err(refused("one json array", "more"));
    }
    let Some(Value::Array(list)) = object.remove("d") else {
        return Err(refused("a json array of objects", "something else"));
    };
    verify::details(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_details_are_refused() {
        for text in [
            "{}",
            "[1]",
            "[{}]",
            r#"[{"type":1}]"#,
            r#"[{"type":"a","locations":"x"}]"#,
            r#"[{"type":"a","type":"b"}]"#,
            r#"[{"type":"a"}],"e":[]"#,
            "[",
            "null",
        ] {
            assert!(details(text).is_err(), "{text}");
        }
        let read = details(r#"[{"type":"a","actions":["x"],"n":3,"deep":{}}]"#).unwrap();
        assert_eq!(read.len(), 1);
    }
}
