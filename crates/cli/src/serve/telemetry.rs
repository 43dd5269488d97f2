//! The log of the server: text for a terminal, JSON for a collector.

use std::io::IsTerminal;

use anyhow::anyhow;
use tracing_subscriber::EnvFilter;

use crate::environment;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text for each event.
    Text,
    /// A JSON object for each event.
    Json,
}

/// Starts logging to standard error; `DAYFLY_LOG` filters it, as in `info` or `dayfly_server=debug`.
pub(super) fn start(format: LogFormat) -> anyhow::Result<()> {
    let filter = environment::variable("DAYFLY_LOG").unwrap_or_else(|| "info".to_owned());
    let filter =
        EnvFilter::try_new(&filter).map_err(|why| anyhow!("DAYFLY_LOG `{filter}`: {why}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|why| anyhow!("logging does not start: {why}"))
}
