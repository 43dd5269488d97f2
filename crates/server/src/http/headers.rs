//! The headers by which callers authenticate: `Authorization` and `DPoP`, each at most once.

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dayfly_domain::{Refusal, Rule};

use super::form;
use crate::app::{KeyProof, Presented};

/// The one `DPoP` header, for a request to `path` below the tenant.
pub(super) fn key_proof<'a>(
    headers: &'a HeaderMap,
    method: &'a str,
    path: &'a str,
) -> Result<Option<KeyProof<'a>>, Refusal> {
    let mut values = headers.get_all("dpop").iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let refused = |got: &str| {
        Refusal::new(Rule::KeyProof)
            .field("DPoP")
            .wanted("one header with one proof")
            .got(got)
    };
    if values.next().is_some() {
        return Err(refused("several"));
    }
    let header = first.to_str().map_err(|_| refused("no text"))?;
    Ok(Some(KeyProof {
        header,
        method,
        path,
    }))
}

/// One of our credentials in the `Authorization` header (RFC 6750, RFC 9449).
pub(super) fn presented<'a>(
    headers: &'a HeaderMap,
    method: &'a str,
    path: &'a str,
) -> Result<Presented<'a>, Refusal> {
    let refused = |got: &str| {
        Refusal::new(Rule::Credential)
            .field("Authorization")
            .wanted("DPoP or Bearer, and a credential of the task")
            .got(got)
    };
    let (scheme, token) = authorization(headers)
        .map_err(|()| refused("several headers or no text"))?
        .ok_or_else(|| refused("none"))?;
    let as_dpop = scheme.eq_ignore_ascii_case("dpop");
    if !as_dpop && !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused("another scheme"));
    }
    Ok(Presented {
        token,
        as_dpop,
        key_proof: key_proof(headers, method, path)?,
    })
}

/// Client id and secret of `client_secret_basic`: each form-encoded before Base64 (RFC 6749,
/// section 2.3.1). None when no `Authorization` header came.
pub(super) fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Refusal> {
    let refused = || {
        Refusal::new(Rule::Authentication)
            .field("Authorization")
            .wanted("Basic, with client id and secret")
            .got("something else")
    };
    let Some((scheme, encoded)) = authorization(headers).map_err(|()| refused())? else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(refused());
    }
    let decoded = STANDARD.decode(encoded).map_err(|_| refused())?;
    let text = String::from_utf8(decoded).map_err(|_| refused())?;
    let (id, secret) = text.split_once(':').ok_or_else(refused)?;
    let id = form::decode(id.as_bytes()).map_err(|_| refused())?;
    let secret = form::decode(secret.as_bytes()).map_err(|_| refused())?;
    Ok(Some((id, secret)))
}

/// What comes under the scheme Bearer; none where another scheme or none does.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = authorization(headers).ok().flatten()?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn authorization(headers: &HeaderMap) -> Result<Option<(&str, &str)>, ()> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(());
    }
    let text = first.to_str().map_err(|_| ())?;
    let (scheme, rest) = text.split_once(' ').ok_or(())?;
    Ok(Some((scheme, rest.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_form_decoded() {
        let mut headers = HeaderMap::new();
        let encoded = STANDARD.encode("a%3Ab:p%25%2B+s%3A");
        headers.insert(
            header::AUTHORIZATION,
            format!("Basic {encoded}").parse().unwrap(),
        );
        assert_eq!(
            basic(&headers).unwrap(),
            Some(("a:b".to_owned(), "p%+ s:".to_owned()))
        );
    }

    #[test]
    fn two_proofs_are_refused() {
        let mut headers = HeaderMap::new();
        headers.append("dpop", "a".parse().unwrap());
        assert!(key_proof(&headers, "POST", "/token").unwrap().is_some());
        headers.append("dpop", "b".parse().unwrap());
        assert!(key_proof(&headers, "POST", "/token").is_err());
    }
}
