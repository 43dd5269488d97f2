//! The HTTP faces: each handler parses, calls one use case, and renders.

pub mod admin;
mod answer;
mod authzen;
pub mod door;
mod form;
mod headers;
mod ledger;
mod limit;
mod metadata;
mod observe;
mod resource;
mod signal;
mod task;
mod token;
mod wanted;
mod webhook;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Router};

use crate::app::{App, Tenant};
use crate::config::AddressRates;
use crate::telemetry::Metrics;

pub use answer::{Face, render};
pub(crate) use signal::describe;

use door::Caller;

/// What the front door leads to: [`router`], with each address bounded and each request counted.
pub fn front(app: Arc<App>, rates: AddressRates, metrics: Arc<Metrics>) -> Router {
    let addresses = Arc::new(limit::Addresses::new(Arc::clone(&app), rates));
    router(app)
        .layer(from_fn_with_state(addresses, limit::limit))
        .layer(from_fn_with_state(metrics, observe::observe))
}

/// Everything that clients and resources reach.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(
            "/.well-known/oauth-authorization-server/{tenant}",
            get(metadata::authorization_server),
        )
        .route(
            "/.well-known/openid-configuration/{tenant}",
            get(metadata::authorization_server),
        )
        .route(
            "/{tenant}/.well-known/openid-configuration",
            get(metadata::authorization_server),
        )
        .route(
            "/.well-known/oauth-protected-resource/{tenant}",
            get(metadata::protected_resource),
        )
        .route("/{tenant}/jwks", get(metadata::jwks))
        .route("/{tenant}/authorize", any(metadata::authorize))
        .route("/{tenant}/token", post(token::token))
        .route("/{tenant}/introspect", post(resource::introspect))
        .route("/{tenant}/revoke", post(resource::revoke))
        .route("/{tenant}/tasks/{task}", get(task::show))
        .route("/{tenant}/tasks/{task}/end", post(task::end_task))
        .route("/{tenant}/tasks/{task}/heartbeat", post(task::heartbeat))
        .route("/{tenant}/tasks/{task}/receipt", get(task::receipt))
        .route("/{tenant}/clients/{client}/end", post(task::end_client))
        .route(
            "/.well-known/authzen-configuration/{tenant}",
            get(metadata::decision_point),
        )
        .route("/{tenant}/access/v1/evaluation", post(authzen::evaluation))
        .route(
            "/{tenant}/access/v1/evaluations",
            post(authzen::evaluations),
        )
        .route(
            "/{tenant}/webhooks/{issuer}",
            post(webhook::deliver).layer(Extension(Arc::new(webhook::Turnstile::default()))),
        )
        .route(
            "/{tenant}/signals/{transmitter}",
            post(signal::receive).layer(Extension(Arc::new(webhook::Turnstile::default()))),
        )
        .route("/{tenant}/ledger/checkpoint", get(ledger::checkpoint))
        .route("/{tenant}/ledger/tile/{*path}", get(ledger::tile))
        .with_state(app)
}

/// The name of the tenant in a path.
fn tenant_of(path: &str) -> &str {
    let mut segments = path.split('/').skip(1);
    match segments.next().unwrap_or_default() {
        ".well-known" => segments.nth(1).unwrap_or_default(),
        first => first,
    }
}

/// The tenant that the path names, 404 where there is none; and where the request came from, where that is certain.
struct Named(Arc<Tenant>, Option<IpAddr>);

impl FromRequestParts<Arc<App>> for Named {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let name = tenant_of(parts.uri.path());
        let from = parts
            .extensions
            .get::<Caller>()
            .filter(|caller| caller.certain)
            .map(|caller| caller.address);
        app.tenant(name)
            .map(|tenant| Self(Arc::clone(tenant), from))
            .ok_or_else(|| StatusCode::NOT_FOUND.into_response())
    }
}
