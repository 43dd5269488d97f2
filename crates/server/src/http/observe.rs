//! A span and a count for every request, in one place.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::{Instrument, field};

use super::answer::Said;
use super::signal::Received;
use super::webhook::Delivered;
use crate::telemetry::Metrics;

/// The layer. Neither span nor count names anything that the caller chose: the route is the router's
/// own text, with its parameters unfilled. Where traces go to a collector, the caller's `traceparent`
/// (W3C Trace Context) alone says into which.
pub(super) async fn observe(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let since = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let method = known(request.method().as_str());
    let span = tracing::info_span!(
        "request",
        method,
        route,
        otel.kind = "server",
        otel.name = format_args!("{method} {route}"),
        status = field::Empty,
        rule = field::Empty,
    );
    #[cfg(feature = "otel")]
    join(&span, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    // As i64: a collector takes no other number.
    span.record("status", i64::from(status));
    metrics.answered(route, status, since.elapsed());
    if let Some(webhook) = response.extensions().get::<Delivered>() {
        metrics.heard(&webhook.tenant, &webhook.issuer, webhook.outcome);
    }
    if let Some(event) = response.extensions().get::<Received>() {
        metrics.signalled(&event.tenant, &event.transmitter, event.outcome);
    }
    if let Some(said) = response.extensions().get::<Said>() {
        span.record("rule", said.rule.code());
        metrics.refused(said.rule);
    }
    response
}

/// Makes the span a part of the trace that the caller names, if any.
#[cfg(feature = "otel")]
fn join(span: &tracing::Span, headers: &axum::http::HeaderMap) {
    use opentelemetry::global;
    use opentelemetry::propagation::Extractor;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    struct Headers<'a>(&'a axum::http::HeaderMap);

    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)?.to_str().ok()
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(axum::http::HeaderName::as_str).collect()
        }
    }

    let parent = global::get_text_map_propagator(|known| known.extract(&Headers(headers)));
    // It fails where no collector is told of this span: then there is nothing to join.
    let _joined = span.set_parent(parent);
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
