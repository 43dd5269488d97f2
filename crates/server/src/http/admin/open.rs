//! The part of the admin face that is open to whoever reaches it, and what a network sees of the rest.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use super::{Admin, Readiness, healthz, readyz};
use crate::app::App;
use crate::http::answer::json_response;
use crate::telemetry::Metrics;

/// `/metrics`, in Prometheus' text format.
pub fn metrics(app: Arc<App>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(render))
        .with_state((app, metrics))
}

/// What a network may have: health, readiness and metrics. Everything else needs an operator, whom
/// this build knows by the admin socket alone.
pub fn remote(app: Arc<App>, ready: Readiness, counted: Arc<Metrics>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Admin {
            app: Arc::clone(&app),
            ready,
        })
        .merge(metrics(app, counted))
        .fallback(unauthenticated)
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

async fn unauthenticated() -> Response {
    let body = json!({
        "error": "unauthenticated",
        "message": "this needs an operator: use the admin socket on the server's machine, `admin.sock` in its data folder",
    });
    let mut response = json_response(StatusCode::UNAUTHORIZED, body.to_string());
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"dayfly\""),
    );
    response
}
