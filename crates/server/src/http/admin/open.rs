//! The part of the admin face that is open to whoever reaches it, and what a network sees of the rest.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use super::answer::Problem;
use super::keeper::{Caller, Keeper, Provider, Scope};
use super::rights::guarded;
use super::{Admin, Ready, healthz, readyz};
use crate::app::{Actor, App};
use crate::config::{AddressRates, Operators};
use crate::http::answer::json_response;
use crate::telemetry::Metrics;
use crate::verify::People;

/// `/metrics`, in Prometheus' text format.
pub fn metrics(app: Arc<App>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(render))
        .with_state((app, metrics))
}

/// Who operates the server from elsewhere, and how they are known.
pub struct Remote {
    /// What the configuration says of them.
    pub operators: Operators,
    /// Verifies their tokens.
    pub people: People,
    /// How often an address may show tokens that prove nothing.
    pub rates: AddressRates,
}

/// What a network may have: health, readiness and metrics; everything else is for operators whom
/// their provider vouches for, and for nobody where none is configured.
pub fn remote(
    app: Arc<App>,
    ready: Ready,
    counted: Arc<Metrics>,
    remote: Option<Remote>,
) -> Router {
    let admin = Admin {
        app: Arc::clone(&app),
        ready,
    };
    let open = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz));
    let open = match remote {
        None => open.fallback(local_only).with_state(admin),
        Some(remote) => {
            let told = discovery(&remote.operators);
            let provider = Provider::new(
                Arc::clone(&app),
                remote.operators,
                remote.people,
                remote.rates,
            );
            open.merge(guarded(&Keeper::Provider(Arc::new(provider))))
                .route(
                    "/operators",
                    get(async move || json_response(StatusCode::OK, told.clone())),
                )
                .fallback(unauthenticated)
                .with_state(admin)
        }
    };
    open.merge(metrics(app, counted))
}

/// What a login has to know, and anybody may.
fn discovery(operators: &Operators) -> String {
    let mut told = json!({ "issuer": operators.issuer, "client_id": operators.client_id });
    if let (Some(members), Some(scopes)) = (told.as_object_mut(), &operators.scopes) {
        members.insert("scopes".to_owned(), json!(scopes));
    }
    told.to_string()
}

/// Who the caller is, and what that comes to.
pub(super) async fn myself(caller: Caller) -> Response {
    let mut told = match &caller.actor {
        Some(Actor::Person { iss, sub }) => json!({ "iss": iss, "sub": sub }),
        Some(Actor::Local { uid }) => json!({ "uid": uid }),
        None => json!({}),
    };
    let roles: Vec<&str> = caller.roles.iter().map(|role| role.word()).collect();
    let owners = match &caller.scope {
        Scope::All => json!({}),
        Scope::Owners(owners) => json!(owners),
    };
    if let Some(members) = told.as_object_mut() {
        members.insert("roles".to_owned(), json!(roles));
        members.insert("member_of".to_owned(), owners);
        members.insert("expires".to_owned(), json!(caller.expires));
    }
    json_response(StatusCode::OK, told.to_string())
}

async fn render(State((app, metrics)): State<(Arc<App>, Arc<Metrics>)>) -> Response {
    // Gauges are read from the record, which may wait for the disk.
    let text = tokio::task::spawn_blocking(move || metrics.render(&app)).await;
    match text {
        Ok(Ok(text)) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn local_only() -> Response {
    let body = json!({
        "error": "unauthenticated",
        "message": "this needs an operator: use the admin socket on the server's machine, `admin.sock` in its data folder, or have `[operators]` configured",
    });
    let mut response = json_response(StatusCode::UNAUTHORIZED, body.to_string());
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"dayfly\""),
    );
    response
}

async fn unauthenticated() -> Problem {
    Problem::Unauthenticated(None)
}
