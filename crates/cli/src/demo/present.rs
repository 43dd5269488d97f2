//! What the demo itself sends: requests that a job signed before its end, and a service's question about a token.

use std::path::Path;

use anyhow::{Context, Result, bail};
use dayfly_token::b64;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use super::stage::Stage;
use crate::http::{CALL_TIMEOUT, Clients};

/// A request that a run signed: a token, and a proof of the key for exactly this request.
#[derive(Debug, Deserialize)]
pub(super) struct Signed {
    headers: Headers,
}

#[derive(Debug, Deserialize)]
struct Headers {
    #[serde(rename = "Authorization")]
    authorization: String,
    #[serde(rename = "DPoP")]
    dpop: String,
}

/// What a service answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Its first line.
    pub(super) text: String,
}

impl Signed {
    /// Reads what a script left.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).context("the run gave no signed request")
    }

    /// The token alone.
    pub(super) fn token(&self) -> &str {
        let value = &self.headers.authorization;
        value.split_once(' ').map_or(value, |(_, token)| token)
    }

    /// When the token expires, in seconds since 1970.
    pub(super) fn expires(&self) -> Result<u64> {
        let claims = claims_of(self.token())?;
        claims
            .get("exp")
            .and_then(Value::as_u64)
            .context("the token has no `exp`")
    }

    /// Sends the request.
    pub(super) async fn send(
        &self,
        clients: &Clients,
        method: Method,
        url: &str,
    ) -> Result<Answer> {
        let url = Url::parse(url)?;
        let answer = clients
            .of(&url)
            .request(method, url)
            .header("authorization", &self.headers.authorization)
            .header("dpop", &self.headers.dpop)
            .timeout(CALL_TIMEOUT)
            .send()
            .await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        let text = text.lines().next().unwrap_or_default().to_owned();
        Ok(Answer { status, text })
    }
}

/// Whether the server calls a token active when `artifacts` asks about it.
pub(super) async fn is_active(stage: &Stage, clients: &Clients, token: &str) -> Result<bool> {
    let service = &stage.services.artifacts;
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("token", token)
        .append_pair("client_id", service.name())
        .append_pair("client_secret", service.secret().unwrap_or_default())
        .finish();
    let url = Url::parse(&format!("{}/introspect", stage.tenant_url()))?;
    let answer = clients
        .of(&url)
        .post(url)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form)
        .timeout(CALL_TIMEOUT)
        .send()
        .await?
        .error_for_status()?
        .text()
        .await?;
    let answer: Map<String, Value> = serde_json::from_str(&answer)?;
    match answer.get("active").and_then(Value::as_bool) {
        Some(active) => Ok(active),
        None => bail!("the server does not say whether the token is active"),
    }
}

/// What a token says; nothing of it is verified.
fn claims_of(token: &str) -> Result<Map<String, Value>> {
    let payload = token.split('.').nth(1).context("the token is no JWT")?;
    let payload = b64::decode(payload).ok().context("the token is no JWT")?;
    dayfly_token::json::object(&payload).context("the token is no JWT")
}
