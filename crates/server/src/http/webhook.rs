//! `POST /webhooks/<issuer>`: a platform says that a run is over.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dayfly_domain::{Name, Refusal, Rule};
use serde_json::json;
use tokio::sync::Semaphore;

use super::Named;
use super::answer::{Face, Said, json_response, of_end, render};
use crate::app::{App, Heard, Refused, Tenant, Trail};
use crate::declared::Issuer;
use crate::verify::webhook::{Delivery, verify};

/// How many bodies are read at a time: they are larger than those of requests, and nothing of them
/// is proven before all of it is here.
const READ_AT_ONCE: usize = 64;
/// How much larger than a request's a webhook's body may be.
const TIMES_LARGER: usize = 4;

static READING: Semaphore = Semaphore::const_new(READ_AT_ONCE);

/// What became of a webhook, for those who count them.
#[derive(Clone, Debug)]
pub(super) struct Delivered {
    /// The tenant.
    pub(super) tenant: Name,
    /// The declared issuer.
    pub(super) issuer: Name,
    /// A word for what became of it.
    pub(super) outcome: &'static str,
}

pub(super) async fn deliver(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    Path((_, issuer)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let loaded = tenant.loaded();
    let issuer: Option<Name> = issuer.parse().ok();
    // An issuer without webhooks is as if it were not there.
    let issuer = issuer
        .and_then(|name| loaded.declared.issuers.get(&name))
        .filter(|issuer| !issuer.webhooks.is_empty());
    let Some(issuer) = issuer else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (response, outcome) = take(&app, &tenant, issuer, address, &headers, body).await;
    let mut response = response;
    response.extensions_mut().insert(Delivered {
        tenant: tenant.name().clone(),
        issuer: issuer.name.clone(),
        outcome,
    });
    response
}

async fn take(
    app: &App,
    tenant: &Tenant,
    issuer: &Issuer,
    address: Option<IpAddr>,
    headers: &HeaderMap,
    body: Body,
) -> (Response, &'static str) {
    let trail = Trail {
        asked: "webhook",
        address,
        issuer: Some(issuer.name.clone()),
        ..Trail::default()
    };
    let body = match read(headers, body, app.bounds().request_bytes).await {
        Ok(body) => body,
        Err(status) => return (status.into_response(), "unread"),
    };
    let delivery = Delivery {
        header: &|name| only(headers, name),
        body: &body,
    };
    let webhook = match verify(issuer, delivery, app.now()) {
        Ok(webhook) => webhook,
        Err(refusal) if refusal.rule == Rule::Authentication => {
            let refused = app.refused(tenant, &trail, refusal);
            return (unproven(&refused), "unproven");
        }
        Err(refusal) => return (malformed(app, tenant, &trail, refusal), "malformed"),
    };
    match app.upstream(tenant, issuer, &webhook, &trail).await {
        Ok(Heard::Ignored) => (StatusCode::NO_CONTENT.into_response(), "ignored"),
        Ok(Heard::Nothing) => (StatusCode::NO_CONTENT.into_response(), "nothing"),
        Ok(Heard::Ended { over, recorded }) => {
            let said = json!({ "tasks": over.tasks, "clients": over.clients });
            let (status, said) = of_end(said, recorded);
            (json_response(status, said.to_string()), "ended")
        }
        Err(refused) => (answered(app, &refused), "refused"),
    }
}

/// The body, where it is JSON and not too large.
async fn read(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, StatusCode> {
    let media = only(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let _place = READING.acquire().await;
    to_bytes(body, most.saturating_mul(TIMES_LARGER))
        .await
        .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)
}

/// The value of a header that stands once and is text.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(first)
}

/// Whoever proves nothing is told nothing; `dayfly why` tells the operator.
fn unproven(refused: &Refused) -> Response {
    let mut response = StatusCode::UNAUTHORIZED.into_response();
    response.extensions_mut().insert(Said {
        rule: refused.refusal.rule,
        known: false,
    });
    response
}

fn malformed(app: &App, tenant: &Tenant, trail: &Trail, refusal: Refusal) -> Response {
    answered(app, &app.refused(tenant, trail, refusal))
}

/// A refusal of somebody who is known to be the issuer.
fn answered(app: &App, refused: &Refused) -> Response {
    let mut response = render(refused, Face::Renewal, &app.nonce());
    response.extensions_mut().insert(Said {
        rule: refused.refusal.rule,
        known: true,
    });
    response
}
