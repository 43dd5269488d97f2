//! What a command inside a run can ask for: tokens, signed headers, and its resources behind the proxy.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use dayfly_token::handover::Given;
use dayfly_token::hash::constant_time_eq;
use dayfly_token::htu::Htu;
use hyper::body::Incoming;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::runner::listener::Answers;
use crate::runner::problem::{json_answer, no_token, problem};
use crate::runner::proxy::Seat;
use crate::runner::session::Session;
use crate::runner::tokens::Target;
use crate::secret::Secret;

const MAX_BODY_BYTES: usize = 64 * 1024;
const TOKEN_PATH: &str = "/token";

/// The loopback server of one run.
#[derive(Debug)]
pub(crate) struct Loopback {
    session: Arc<Session>,
    secret: Secret,
    port: u16,
    seats: Vec<Seat>,
}

impl Loopback {
    /// `secret` is what the command shows to get tokens; each seat has a secret of its own in its path.
    pub(crate) fn new(session: Arc<Session>, secret: Secret, port: u16, seats: Vec<Seat>) -> Self {
        Self {
            session,
            secret,
            port,
            seats,
        }
    }

    /// Where tokens are given out.
    pub(crate) fn token_url(&self) -> String {
        format!("http://127.0.0.1:{}{TOKEN_PATH}", self.port)
    }

    /// Refuses what a web page or another machine could have sent by way of a name that leads here.
    fn is_for_us(&self, request: &Request<Incoming>) -> bool {
        let names = [
            format!("127.0.0.1:{}", self.port),
            format!("localhost:{}", self.port),
        ];
        let ours = |host: &str| names.iter().any(|name| host.eq_ignore_ascii_case(name));
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().unwrap_or_default(),
            _ => return false,
        };
        let target = request.uri().authority();
        ours(host) && target.is_none_or(|authority| ours(authority.as_str()))
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let Some((scheme, secret)) = value.to_str().ok().and_then(|text| text.split_once(' '))
        else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer")
            && constant_time_eq(secret.as_bytes(), self.secret.expose().as_bytes())
    }

    async fn give(&self, query: Option<&str>) -> Response<Body> {
        let target = match resource_of(query.unwrap_or_default()) {
            Ok(target) => target.or_else(|| self.session.default_target().clone()),
            Err(why) => return problem(StatusCode::BAD_REQUEST, "invalid_request", why),
        };
        match self.session.token(&self.named(target)).await {
            Ok(token) => json_answer(StatusCode::OK, &token.as_json()),
            Err(failure) => no_token(&failure),
        }
    }

    async fn sign(&self, body: Incoming) -> Response<Body> {
        let bad = |why: &str| problem(StatusCode::BAD_REQUEST, "invalid_request", why);
        let Ok(body) = to_bytes(Body::new(body), MAX_BODY_BYTES).await else {
            return bad("the body is too long or broken off");
        };
        if let Ok(wanted) = serde_json::from_slice::<HandOver>(&body) {
            return self.hand_over(wanted.handover);
        }
        let Ok(wanted) = serde_json::from_slice::<Signature>(&body) else {
            return bad(
                "the body is neither {resource, method, url, nonce?} nor {handover: {jkt, authorization_details or scope}}",
            );
        };
        if self.session.key().is_none() {
            return bad("this run has no key to sign with, because it exports a bearer token");
        }
        let Ok(method) = Method::from_bytes(wanted.method.as_bytes()) else {
            return bad("the method is not one of HTTP");
        };
        if Htu::parse(&wanted.url).is_err() {
            return bad("the url is not an absolute http or https URL");
        }
        let target = wanted
            .resource
            .or_else(|| self.session.default_target().clone());
        let signed = match self.session.token(&self.named(target)).await {
            Ok(token) => self
                .session
                .sign(&token, &method, &wanted.url, wanted.nonce.as_deref()),
            Err(failure) => Err(failure),
        };
        match signed {
            Ok(headers) => json_answer(StatusCode::OK, &json!({"headers": as_json(&headers)})),
            Err(failure) => no_token(&failure),
        }
    }

    /// Signs a hand-over to a helper's key; the server says whether it may be.
    fn hand_over(&self, wanted: Handed) -> Response<Body> {
        let bad = |why: &str| problem(StatusCode::BAD_REQUEST, "invalid_request", why);
        if self.session.key().is_none() {
            return bad("this run has no key to sign with, because it exports a bearer token");
        }
        let Ok(jkt) = wanted.jkt.parse() else {
            return bad("jkt is not the SHA-256 thumbprint of a key (RFC 7638)");
        };
        let given = match (wanted.authorization_details, wanted.scope) {
            (Some(details), None) if !details.is_empty() => Given::Details(details),
            (None, Some(scope)) if !scope.trim().is_empty() => Given::Scope(scope),
            (Some(_) | None, Some(_) | None) => {
                return bad("a hand-over gives authorization_details or scope, one of them");
            }
        };
        match self.session.hand_over(jkt, &given) {
            Ok(signed) => json_answer(StatusCode::OK, &json!({"handover": signed})),
            Err(failure) => no_token(&failure),
        }
    }

    /// A resource may be named as the run's own options name it.
    fn named(&self, target: Target) -> Target {
        target.map(|named| self.session.resource(&named).unwrap_or(named))
    }
}

impl Answers for Loopback {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        if !self.is_for_us(&request) || *request.method() == Method::CONNECT {
            return problem(
                StatusCode::MISDIRECTED_REQUEST,
                "invalid_request",
                "this place answers on its own address alone",
            );
        }
        let (parts, body) = request.into_parts();
        if let Some((seat, rest)) = Seat::find(&self.seats, parts.uri.path()) {
            return seat.forward(&self.session, &parts, rest, body).await;
        }
        if parts.uri.path() != TOKEN_PATH {
            return problem(StatusCode::NOT_FOUND, "not_found", "there is nothing here");
        }
        if !self.knows(&parts.headers) {
            return problem(
                StatusCode::UNAUTHORIZED,
                "invalid_token",
                "show $DAYFLY_TOKEN_SECRET as a bearer token",
            );
        }
        match parts.method {
            Method::GET => self.give(parts.uri.query()).await,
            Method::POST => self.sign(body).await,
            _ => problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "invalid_request",
                "GET a token or POST a request or a hand-over to sign",
            ),
        }
    }
}

/// A request that the caller sends itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    resource: Option<String>,
    method: String,
    url: String,
    nonce: Option<String>,
}

/// A hand-over that a helper asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HandOver {
    handover: Handed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Handed {
    jkt: String,
    authorization_details: Option<Vec<Value>>,
    scope: Option<String>,
}

fn resource_of(query: &str) -> Result<Target, &'static str> {
    let mut target = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "resource" {
            return Err("the only parameter is resource");
        }
        if target.is_some() {
            return Err("a token has one resource");
        }
        target = Some(value.into_owned()).filter(|value| !value.is_empty());
    }
    Ok(target)
}

fn as_json(headers: &HeaderMap) -> Map<String, Value> {
    let mut members = Map::new();
    for (name, spelled) in [("authorization", "Authorization"), ("dpop", "DPoP")] {
        if let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) {
            members.insert(spelled.to_owned(), value.into());
        }
    }
    members
}
