//! Traces of requests to an OpenTelemetry collector, where the standard variables name one.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use opentelemetry::global;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;
use url::Url;

use crate::environment;
use crate::http::Clients;

/// How long the collector may take for one batch.
const SEND: Duration = Duration::from_secs(10);
/// How long the last batch is waited for as the server stops.
const LAST: Duration = Duration::from_secs(3);
/// How much of a collector's answer is read.
const ANSWER: usize = 64 * 1024;

/// What sends them. Dropping it sends nothing: [`Traces::finish`] does.
pub(super) struct Traces(SdkTracerProvider);

/// The layer that makes spans of requests, and what sends them; by the variables of OTLP over HTTP
/// (`OTEL_EXPORTER_OTLP_…`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_…`, `OTEL_SERVICE_NAME`). Sending is
/// bounded, in the background, and nothing waits for it: what does not fit is dropped.
pub(super) fn layer<S>(runtime: &Handle) -> anyhow::Result<(impl Layer<S> + use<S>, Traces)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector {
            clients: Clients::new()?,
            runtime: runtime.clone(),
        })
        .with_protocol(Protocol::HttpJson)
        .build()
        .context("traces cannot be sent")?;
    let mut resource = Resource::builder();
    if environment::variable("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("dayfly");
    }
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("dayfly"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        // Spans only: what is logged is logged.
        .with_filter(Targets::new().with_target("dayfly_server", tracing::Level::INFO));
    Ok((layer, Traces(provider)))
}

impl Traces {
    /// Sends what is left, for three seconds at most.
    pub(super) async fn finish(self) {
        let shut = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST));
        if !matches!(shut.await, Ok(Ok(()))) {
            tracing::warn!("the last traces may not have reached the collector");
        }
    }
}

/// The way to the collector, through the clients that everything else goes through.
struct Collector {
    clients: Clients,
    /// The exporter runs on a thread of its own, outside the runtime.
    runtime: Handle,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let url: Url = parts.uri.to_string().parse()?;
        let asking = self
            .clients
            .of(&url)
            .request(parts.method, url)
            .headers(parts.headers)
            .timeout(SEND)
            .body(body);
        let answered = self.runtime.spawn(async move {
            let mut answer = asking.send().await?;
            let mut read = Vec::new();
            while read.len() < ANSWER
                && let Some(chunk) = answer.chunk().await?
            {
                read.extend_from_slice(&chunk);
            }
            Ok::<_, reqwest::Error>((answer.status(), read))
        });
        let (status, read) = answered.await??;
        let mut response = Response::new(Bytes::from(read));
        *response.status_mut() = status;
        Ok(response)
    }
}
