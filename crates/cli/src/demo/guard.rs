//! How a service of the demo decides about a request: the token's life, its key, and what it allows.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method, StatusCode};
use dayfly_token::access_token::VerifiedAccessToken;
use dayfly_token::alg::Alg;
use dayfly_token::dpop::{DpopExpect, MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, VerifiedDpop};
use dayfly_token::htu::Htu;
use dayfly_token::jwks::KeySet;
use dayfly_token::times::Tolerance;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;
use url::{Url, form_urlencoded};

use crate::clock;
use crate::http::{CALL_TIMEOUT, Clients};

/// What stands between a service and the requests it gets.
pub(super) struct Guard {
    /// The service's client id.
    pub(super) name: &'static str,
    /// Its URL, which is the audience of its tokens.
    pub(super) url: String,
    /// How it learns whether a token counts.
    pub(super) check: Check,
    clients: Clients,
    proofs_seen: Mutex<HashSet<[u8; 32]>>,
}

/// How a service learns whether a token counts.
pub(super) enum Check {
    /// It asks the server at every request (RFC 7662): an end counts at once.
    Introspection { issuer: String, secret: String },
    /// It looks at the token alone: an end counts when the token expires.
    Offline {
        issuer: String,
        keys: OnceCell<KeySet>,
    },
}

/// What a request needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) kind: &'static str,
    pub(super) action: &'static str,
    pub(super) identifier: &'a str,
}

/// Why a request gets nothing.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) status: StatusCode,
    pub(super) why: String,
}

impl Guard {
    pub(super) fn new(name: &'static str, url: String, check: Check) -> Result<Self> {
        Ok(Self {
            name,
            url,
            check,
            clients: Clients::new().context("cannot make HTTP requests")?,
            proofs_seen: Mutex::default(),
        })
    }

    /// Lets a request through or says why not.
    pub(super) async fn admit(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        wanted: Wanted<'_>,
    ) -> Result<(), Denied> {
        let (scheme, token) = presented(headers)?;
        let claims = match &self.check {
            Check::Introspection { issuer, secret } => {
                self.introspect(issuer, secret, token).await?
            }
            Check::Offline { issuer, keys } => self.look_at(issuer, keys, token).await?,
        };
        if let Some(bound_to) = claims.get("cnf").and_then(|cnf| cnf.get("jkt")) {
            let key = self.proven_key(scheme, token, method, path, headers)?;
            if bound_to.as_str() != Some(&key) {
                return Err(unauthorized("the proof is by another key than the token's"));
            }
        }
        self.check_access(&claims, wanted)
    }

    async fn introspect(
        &self,
        issuer: &str,
        secret: &str,
        token: &str,
    ) -> Result<Map<String, Value>, Denied> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token)
            .append_pair("client_id", self.name)
            .append_pair("client_secret", secret)
            .finish();
        let asked = self.ask(&format!("{issuer}/introspect"), Some(form)).await;
        // Fail closed: who cannot ask does not know.
        let answer = asked.map_err(|_| Denied {
            status: StatusCode::SERVICE_UNAVAILABLE,
            why: "dayfly does not answer, so nothing is let through".to_owned(),
        })?;
        let claims: Option<Map<String, Value>> = serde_json::from_slice(&answer).ok();
        let active = |claims: &Map<String, Value>| claims.get("active") == Some(&Value::Bool(true));
        claims
            .filter(active)
            .ok_or_else(|| unauthorized("dayfly says that the token is not active"))
    }

    async fn look_at(
        &self,
        issuer: &str,
        keys: &OnceCell<KeySet>,
        token: &str,
    ) -> Result<Map<String, Value>, Denied> {
        let keys = keys.get_or_try_init(|| self.fetch_keys(issuer)).await;
        let keys = keys.map_err(|_| Denied {
            status: StatusCode::SERVICE_UNAVAILABLE,
            why: "the keys of dayfly cannot be fetched".to_owned(),
        })?;
        let verified = VerifiedAccessToken::verify(token, keys, Alg::DEFAULT, issuer)
            .map_err(|why| unauthorized(&why.to_string()))?;
        if verified.audience() != self.url {
            return Err(unauthorized("the token is for another resource"));
        }
        // One machine, one clock: nothing is added to the token's own expiry.
        let exact = Tolerance {
            skew_seconds: 0,
            ..Tolerance::default()
        };
        verified
            .check_times(clock::now_seconds(), exact)
            .map_err(|_| unauthorized("the token has expired"))?;
        Ok(verified.claims().as_map().clone())
    }

    async fn fetch_keys(&self, issuer: &str) -> Result<KeySet> {
        let keys = self.ask(&format!("{issuer}/jwks"), None).await?;
        KeySet::parse(&keys, Alg::DEFAULT).context("not a key set")
    }

    /// The body of a good answer.
    async fn ask(&self, url: &str, form: Option<String>) -> Result<Vec<u8>> {
        let url = Url::parse(url)?;
        let client = self.clients.of(&url);
        let request = match form {
            Some(form) => client
                .post(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form),
            None => client.get(url),
        };
        let answer = request.timeout(CALL_TIMEOUT).send().await?;
        Ok(answer.error_for_status()?.bytes().await?.to_vec())
    }

    /// The thumbprint of the key that signed for this very request (RFC 9449), and never before.
    fn proven_key(
        &self,
        scheme: &str,
        token: &str,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<String, Denied> {
        let mut proofs = headers.get_all("dpop").iter();
        let proof = match (proofs.next(), proofs.next()) {
            (Some(proof), None) if scheme.eq_ignore_ascii_case("dpop") => proof.to_str(),
            _ => {
                return Err(unauthorized(
                    "the token is bound to a key, and no proof of it came",
                ));
            }
        };
        let proof = proof.map_err(|_| unauthorized("the proof is no text"))?;
        let htu = Htu::parse(&format!("{}{path}", self.url))
            .map_err(|_| unauthorized("the path is none that can be proven"))?;
        let expect = DpopExpect {
            method: method.as_str(),
            htu: &htu,
            now: clock::now_seconds(),
            max_age_seconds: MAX_AGE_SECONDS,
            max_ahead_seconds: MAX_AHEAD_SECONDS,
            access_token: Some(token),
            algs: Alg::DEFAULT,
        };
        let verified =
            VerifiedDpop::verify(proof, &expect).map_err(|why| unauthorized(&why.to_string()))?;
        let mut seen = self
            .proofs_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !seen.insert(verified.replay_key()) {
            return Err(unauthorized("the proof was used before"));
        }
        Ok(verified.jkt().to_string())
    }

    fn check_access(&self, claims: &Map<String, Value>, wanted: Wanted<'_>) -> Result<(), Denied> {
        let details = claims.get("authorization_details");
        let details = details.and_then(Value::as_array).into_iter().flatten();
        let mut held = Vec::new();
        for detail in details {
            if covers(detail, &self.url, wanted) {
                return Ok(());
            }
            held.push(shown(detail));
        }
        let Wanted {
            kind,
            action,
            identifier,
        } = wanted;
        Err(Denied {
            status: StatusCode::FORBIDDEN,
            why: format!(
                "{action} {kind} {identifier} is not in what the token allows: {}",
                held.join(", ")
            ),
        })
    }
}

/// Scheme and token of the one Authorization header.
fn presented(headers: &HeaderMap) -> Result<(&str, &str), Denied> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().unwrap_or_default(),
        _ => return Err(unauthorized("no token came")),
    };
    value
        .split_once(' ')
        .filter(|(scheme, _)| {
            ["dpop", "bearer"]
                .iter()
                .any(|known| scheme.eq_ignore_ascii_case(known))
        })
        .ok_or_else(|| unauthorized("no token came"))
}

/// Whether one detail (RFC 9396) allows what is wanted here.
fn covers(detail: &Value, here: &str, wanted: Wanted<'_>) -> bool {
    let holds = |member: &str, text: &str| texts(detail.get(member)).any(|value| value == text);
    detail.get("type").and_then(Value::as_str) == Some(wanted.kind)
        && holds("locations", here)
        && holds("actions", wanted.action)
        && texts(detail.get("identifier")).any(|pattern| matches(pattern, wanted.identifier))
}

/// The texts of a member that is a text or a list of them.
fn texts(member: Option<&Value>) -> impl Iterator<Item = &str> {
    let (one, many) = match member {
        Some(Value::String(text)) => (Some(text.as_str()), None),
        Some(Value::Array(items)) => (None, Some(items)),
        Some(_) | None => (None, None),
    };
    let many = many.into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(many)
}

/// Whether a path is meant by a pattern, where `*` at the end of a segment stands for its rest.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if segment_matches(pattern, segment) => {}
            _ => return false,
        }
    }
}

fn segment_matches(pattern: &str, segment: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => !matches!(segment, "" | "." | "..") && segment.starts_with(start),
        None => pattern == segment,
    }
}

fn shown(detail: &Value) -> String {
    let list = |member| texts(detail.get(member)).collect::<Vec<_>>().join("/");
    format!("{} {}", list("actions"), list("identifier"))
}

fn unauthorized(why: &str) -> Denied {
    Denied {
        status: StatusCode::UNAUTHORIZED,
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HERE: &str = "http://127.0.0.1:1";

    fn covered(detail: &Value, action: &'static str, identifier: &str) -> bool {
        let wanted = Wanted {
            kind: "artifact",
            action,
            identifier,
        };
        covers(detail, HERE, wanted)
    }

    #[test]
    fn a_detail_covers_no_more_than_it_says() {
        let detail = json!({"type": "artifact", "locations": [HERE], "actions": ["read"],
            "identifier": "octo/app/v1*"});
        assert!(covered(&detail, "read", "octo/app/v1.tgz"));
        for identifier in ["octo/app", "octo/app/v2", "octo/app/v1/x", "octo/app/", ""] {
            assert!(!covered(&detail, "read", identifier), "{identifier}");
        }
        assert!(!covered(&detail, "publish", "octo/app/v1"));
        for member in ["type", "locations", "actions", "identifier"] {
            let mut without = detail.clone();
            without.as_object_mut().unwrap().remove(member);
            assert!(!covered(&without, "read", "octo/app/v1"), "{member}");
        }
    }
}
