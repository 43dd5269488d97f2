//! A span and a count for every request, in one place.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::Instrument;

use super::answer::Said;
use crate::telemetry::Metrics;

/// The layer. Neither span nor count names anything that the caller chose: the route is the router's
/// own text, with its parameters unfilled.
pub(super) async fn observe(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let since = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let span = tracing::info_span!("request", method = %known(request.method().as_str()), route);
    let response = next.run(request).instrument(span).await;
    let status = response.status().as_u16();
    metrics.answered(route, status, since.elapsed());
    if let Some(said) = response.extensions().get::<Said>() {
        metrics.refused(said.rule);
    }
    response
}

/// A method may be any word; those that are served are told apart.
fn known(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        _ => "other",
    }
}
