//! `POST /signals/<name>`: a transmitter pushes one security event token (RFC 8935).

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dayfly_domain::{Name, Refusal, Rule};
use serde_json::json;

use super::Named;
use super::answer::{Said, json_response};
use super::webhook::{Turnstile, only};
use crate::app::{App, Signalled, Tenant, Trail};
use crate::declared::Delivery;
use crate::verify::Receiver;
use crate::verify::signal::{SetError, Unfit};

/// The most bytes of a body: one token.
const MOST: usize = 16 * 1024;

/// What became of an event, for those who count them.
#[derive(Clone, Debug)]
pub(super) struct Received {
    /// The tenant.
    pub(super) tenant: Name,
    /// The declared transmitter.
    pub(super) transmitter: Name,
    /// A word for what became of it.
    pub(super) outcome: &'static str,
}

pub(super) async fn receive(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    Extension(turnstile): Extension<Arc<Turnstile>>,
    Path((_, transmitter)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let loaded = tenant.loaded();
    let name: Option<Name> = transmitter.parse().ok();
    // One whose events are fetched is as if it were not there.
    let receiver = name
        .and_then(|name| loaded.receivers.get(&name))
        .filter(|receiver| matches!(receiver.delivery(), Delivery::Push(_)));
    let Some(receiver) = receiver else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let taking = Taking {
        app: &app,
        tenant: &tenant,
        receiver,
        turnstile: &turnstile,
        headers: &headers,
        trail: trail(receiver, address),
    };
    let (mut response, outcome) = taking.take(body).await;
    response.extensions_mut().insert(Received {
        tenant: tenant.name().clone(),
        transmitter: receiver.name().clone(),
        outcome,
    });
    response
}

fn trail(receiver: &Receiver, address: Option<std::net::IpAddr>) -> Trail {
    Trail {
        asked: "signal",
        address,
        issuer: Some(receiver.name().clone()),
        ..Trail::default()
    }
}

/// An event for a declared transmitter, and what judges it.
struct Taking<'a> {
    app: &'a App,
    tenant: &'a Tenant,
    receiver: &'a Receiver,
    turnstile: &'a Turnstile,
    headers: &'a HeaderMap,
    trail: Trail,
}

impl Taking<'_> {
    async fn take(&self, body: Body) -> (Response, &'static str) {
        let (app, receiver, headers) = (self.app, self.receiver, self.headers);
        // Nothing is read of what nobody vouches for.
        let shown = only(headers, header::AUTHORIZATION.as_str());
        if let Err(unfit) = receiver.check_sender(shown) {
            return (self.unproven(unfit), "unproven");
        }
        if !is_set(headers) {
            let refusal = Refusal::new(Rule::ContentType)
                .field("content-type")
                .wanted("application/secevent+jwt")
                .got("another");
            return (
                self.unfit(SetError::InvalidRequest.with(refusal)),
                "malformed",
            );
        }
        let read = self
            .turnstile
            .read(self.trail.address, body, (MOST, 1))
            .await;
        let body = match read {
            Ok(body) => body,
            Err(status) => return (status.into_response(), "unread"),
        };
        let set = std::str::from_utf8(&body).unwrap_or_default().trim();
        let judged = receiver.verify(set, app.now()).await;
        let jumped = app.has_jumped();
        let signal = match judged.map_err(|unfit| unfit.or_later(jumped)) {
            Ok(signal) => signal,
            Err(unfit) => {
                // Who is told to send it once more has lost nothing, as with one that was fetched.
                let outcome = if unfit.may_pass() {
                    "refused"
                } else {
                    "malformed"
                };
                return (self.unfit(unfit), outcome);
            }
        };
        match app.signal(self.tenant, &signal, &self.trail).await {
            Ok(Signalled::Ignored) => (StatusCode::ACCEPTED.into_response(), "ignored"),
            // What was kept by a wrong clock may be forgotten too early: it is said again.
            Ok(Signalled::Known | Signalled::Over { .. }) if jumped => (again(), "over"),
            Ok(Signalled::Known) => (StatusCode::ACCEPTED.into_response(), "nothing"),
            Ok(Signalled::Over { recorded: true }) => {
                (StatusCode::ACCEPTED.into_response(), "over")
            }
            // It is obeyed and may be lost: the transmitter keeps it and sends it again.
            Ok(Signalled::Over { recorded: false }) => (again(), "over"),
            Err(_) => (again(), "refused"),
        }
    }

    /// Whoever proves nothing is told nothing; `dayfly why` tells the operator, a few times a minute.
    fn unproven(&self, unfit: Unfit) -> Response {
        let Unfit { err, refusal, .. } = unfit;
        if let Err(wait) =
            self.turnstile
                .unproven(self.tenant.name(), self.receiver.name(), self.app.now())
        {
            let seconds = HeaderValue::from(wait.millis().div_ceil(1000).max(1));
            let after = [(header::RETRY_AFTER, seconds)];
            return (StatusCode::TOO_MANY_REQUESTS, after).into_response();
        }
        let refused = self.app.refused(self.tenant, &self.trail, refusal);
        let mut response = answer(err, "the transmitter is not authenticated");
        response.extensions_mut().insert(Said {
            rule: refused.refusal.rule,
            known: false,
        });
        response
    }

    /// The transmitter is told which rule its event breaks, and the operator why.
    fn unfit(&self, unfit: Unfit) -> Response {
        let may_pass = unfit.may_pass();
        let Unfit { err, refusal, .. } = unfit;
        let rule = refusal.rule;
        let refused = self.app.refused(self.tenant, &self.trail, refusal);
        let mut response = if may_pass {
            again()
        } else {
            answer(err, &describe(&refused.refusal))
        };
        response.extensions_mut().insert(Said { rule, known: true });
        response
    }
}

/// What a transmitter is told of a refusal, whichever way its event came.
pub(crate) fn describe(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.field, refusal.rule.says())
}

fn answer(err: SetError, description: &str) -> Response {
    let body = json!({"err": err.code(), "description": description});
    let mut response = json_response(StatusCode::BAD_REQUEST, body.to_string());
    let english = HeaderValue::from_static("en");
    response
        .headers_mut()
        .insert(header::CONTENT_LANGUAGE, english);
    response
}

/// Nothing was kept: the same event is to be sent once more.
fn again() -> Response {
    let after = [(header::RETRY_AFTER, HeaderValue::from(2))];
    (StatusCode::SERVICE_UNAVAILABLE, after).into_response()
}

fn is_set(headers: &HeaderMap) -> bool {
    let media = only(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/secevent+jwt")
}
