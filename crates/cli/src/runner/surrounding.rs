//! The run around this command: where it gives out tokens and signs hand-overs.

use anyhow::{Context, anyhow};
use dayfly_token::handover::{Given, MAX_LIFETIME_SECONDS};
use dayfly_token::hash::Thumbprint;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value, json};
use tokio::time::{Duration, Instant};
use url::Url;

use crate::clock;
use crate::environment;
use crate::http::{Clients, is_loopback};
use crate::runner::server::{read_object, unheard};
use crate::runner::wire::Failure;
use crate::secret::Secret;

/// How long before its end a hand-over is not shown any more.
const MARGIN: Duration = Duration::from_secs(10);

/// The surrounding run.
#[derive(Debug)]
pub(crate) struct Surrounding {
    url: Url,
    secret: Secret,
}

/// What the surrounding run signed for a key, for a minute.
#[derive(Debug)]
pub(crate) struct HandOver {
    token: Secret,
    asked: Instant,
}

impl Surrounding {
    /// The run that this command is inside of.
    pub(crate) fn find() -> Result<Self, Failure> {
        let inside = |name| {
            environment::variable(name)
                .with_context(|| format!("{name} is not set: this is not inside `dayfly run`"))
        };
        let url = inside(environment::TOKEN_URL)?;
        let secret = Secret::new(inside(environment::TOKEN_SECRET)?);
        let url = Url::parse(&url).context("DAYFLY_TOKEN_URL is not a URL")?;
        if !is_loopback(&url) {
            return Err(Failure::Fault(anyhow!(
                "DAYFLY_TOKEN_URL leads off this machine"
            )));
        }
        Ok(Self { url, secret })
    }

    /// Its answer to a request for a token.
    pub(crate) async fn token(
        &self,
        resource: Option<&str>,
        clients: &Clients,
    ) -> Result<Map<String, Value>, Failure> {
        let mut url = self.url.clone();
        if let Some(resource) = resource {
            url.query_pairs_mut().append_pair("resource", resource);
        }
        self.ask(clients.of(&url).request(Method::GET, url)).await
    }

    /// Has it sign a hand-over for a key.
    pub(crate) async fn hand_over(
        &self,
        jkt: Thumbprint,
        given: &Given,
        clients: &Clients,
    ) -> Result<HandOver, Failure> {
        let jkt = jkt.to_string();
        let wanted = match given {
            Given::Scope(scope) => json!({"jkt": jkt, "scope": scope}),
            Given::Details(details) => json!({"jkt": jkt, "authorization_details": details}),
        };
        let asked = clock::instant();
        let request = clients
            .of(&self.url)
            .request(Method::POST, self.url.clone())
            .body(json!({"handover": wanted}).to_string());
        let answer = self.ask(request).await?;
        let token = answer.get("handover").and_then(Value::as_str);
        let token = token.context("the run's answer holds no hand-over")?;
        Ok(HandOver {
            token: Secret::new(token.to_owned()),
            asked,
        })
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Map<String, Value>, Failure> {
        // No time limit: the run waits for its server, and says so.
        let request = request.header(AUTHORIZATION, format!("Bearer {}", self.secret.expose()));
        read_object(request.send().await.map_err(unheard)?).await
    }
}

impl HandOver {
    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }

    /// Whether it counts for too short a time to be shown again.
    pub(crate) fn has_expired(&self) -> bool {
        let life = Duration::from_secs(MAX_LIFETIME_SECONDS).saturating_sub(MARGIN);
        clock::instant() >= self.asked + life
    }
}
