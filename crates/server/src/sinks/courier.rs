//! One tenant's way to one sink: a bounded request, and how long to wait after one that failed.

use std::sync::Arc;
use std::time::Duration;

use dayfly_domain::Name;
use reqwest::Client;
use reqwest::header::HeaderMap;

use crate::config::SinkUrl;
use crate::random;
use crate::telemetry::Metrics;
use crate::verify::{FetchError, chain, sink_client, unsent};

/// How long to wait after a first failure.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// How long to wait at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Carries requests to a sink, one at a time.
pub(super) struct Courier {
    sink: String,
    tenant: Name,
    url: SinkUrl,
    client: Option<Client>,
    metrics: Arc<Metrics>,
    wait: Duration,
    failing: bool,
}

/// A request was not taken; why is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotTaken;

impl Courier {
    /// `sink` is its place in `dayfly.toml`, like `notify[0]`, which names it in log and metrics.
    pub(super) fn new(sink: String, tenant: &Name, url: SinkUrl, metrics: Arc<Metrics>) -> Self {
        Self {
            sink,
            tenant: tenant.clone(),
            url,
            client: None,
            metrics,
            wait: FIRST_WAIT,
            failing: false,
        }
    }

    /// Posts once. Only an answer of 2xx is success; its body is not read.
    ///
    /// # Errors
    /// [`NotTaken`]: it may have arrived all the same, so the next try has to be the same request.
    pub(super) async fn post(&mut self, headers: HeaderMap, body: String) -> Result<(), NotTaken> {
        let sent = self.try_post(headers, body).await;
        self.metrics.sent(&self.sink, sent.is_ok());
        let (sink, tenant, to) = (&self.sink, &self.tenant, &self.url);
        match sent {
            Ok(()) => {
                if self.failing {
                    tracing::info!(%sink, %tenant, %to, "the sink takes again what is sent to it");
                }
                self.failing = false;
                self.wait = FIRST_WAIT;
                Ok(())
            }
            Err(why) => {
                // Once for each change of state, however often it is tried.
                if !self.failing {
                    let why = chain(&why);
                    tracing::warn!(%sink, %tenant, %to, %why, "the sink does not take what is sent to it; it is tried again");
                }
                self.failing = true;
                Err(NotTaken)
            }
        }
    }

    async fn try_post(&mut self, headers: HeaderMap, body: String) -> Result<(), FetchError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => sink_client(self.url.expose()).await?,
        };
        let client = self.client.insert(client);
        let request = client
            .post(self.url.expose().clone())
            .headers(headers)
            .body(body);
        let shown = self.url.to_string();
        let answer = request.send().await.map_err(|why| unsent(&shown, why))?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(FetchError::Status {
            url: shown,
            status: answer.status(),
        })
    }

    /// Waits after a failure: twice as long each time up to a minute, and between half and the whole
    /// of that, so that those who wait for one sink do not come back at one moment.
    pub(super) async fn pause(&mut self) {
        let half = self.wait / 2;
        let part = random::bytes::<1>().map_or(u8::MAX, |[byte]| byte);
        tokio::time::sleep(half + half * u32::from(part) / u32::from(u8::MAX)).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }
}
