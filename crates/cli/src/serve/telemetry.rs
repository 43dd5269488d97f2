//! The log of the server, text for a terminal and JSON for a collector, and whether traces are sent.

use std::io::IsTerminal;

use anyhow::anyhow;
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

#[cfg(feature = "otel")]
use super::traces::Traces;
use crate::environment;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text for each event.
    Text,
    /// A JSON object for each event.
    Json,
}

/// What names a collector of traces, in the order in which it is looked for.
const COLLECTOR: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// What has to be finished when the server stops.
#[derive(Default)]
pub(super) struct Telemetry {
    #[cfg(feature = "otel")]
    traces: Option<Traces>,
}

/// Starts logging to standard error; `DAYFLY_LOG` filters it, as in `info` or `dayfly_server=debug`.
/// Where a collector is named, traces go to it.
pub(super) fn start(format: LogFormat, runtime: &Handle) -> anyhow::Result<Telemetry> {
    let filter = environment::variable("DAYFLY_LOG").unwrap_or_else(|| "info".to_owned());
    let filter =
        EnvFilter::try_new(&filter).map_err(|why| anyhow!("DAYFLY_LOG `{filter}`: {why}"))?;
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let log = match format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => log.json().boxed(),
    };
    let registry = tracing_subscriber::registry().with(log.with_filter(filter));
    let named = COLLECTOR
        .iter()
        .find(|name| environment::variable(name).is_some());
    begin(registry, named.copied(), runtime)
}

#[cfg(feature = "otel")]
fn begin<S>(registry: S, named: Option<&str>, runtime: &Handle) -> anyhow::Result<Telemetry>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let (layer, traces) = named
        .map(|_| super::traces::layer(runtime))
        .transpose()?
        .unzip();
    registry.with(layer).try_init().map_err(unstarted)?;
    Ok(Telemetry { traces })
}

#[cfg(not(feature = "otel"))]
fn begin<S>(registry: S, named: Option<&str>, _: &Handle) -> anyhow::Result<Telemetry>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    registry.try_init().map_err(unstarted)?;
    if let Some(named) = named {
        tracing::warn!(
            "{named} is set, and this build sends no traces: it is without the feature `otel`"
        );
    }
    Ok(Telemetry::default())
}

fn unstarted(why: TryInitError) -> anyhow::Error {
    anyhow!("logging does not start: {why}")
}

impl Telemetry {
    /// Sends what is left to send.
    #[cfg_attr(
        not(feature = "otel"),
        expect(
            clippy::unused_async,
            reason = "there is nothing to send in this build"
        )
    )]
    pub(super) async fn finish(self) {
        #[cfg(feature = "otel")]
        if let Some(traces) = self.traces {
            traces.finish().await;
        }
    }
}
