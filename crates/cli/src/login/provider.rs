//! The provider of the operators, as a login sees it: its metadata, its token endpoint, revocation.

use anyhow::{Context, Result, anyhow, bail, ensure};
use reqwest::header::ACCEPT;
use serde_json::{Map, Value};
use url::Url;

use crate::http::{CALL_TIMEOUT, Clients, is_loopback};
use crate::secret::Secret;

/// The most bytes of an answer.
const ANSWER: usize = 1 << 20;

/// A provider, by its metadata (OpenID Connect Discovery 1.0, RFC 8414, RFC 8628 section 4).
#[derive(Debug)]
pub(super) struct Provider {
    clients: Clients,
    issuer: String,
    token: Url,
    device: Option<Url>,
    revocation: Option<Url>,
    scopes: Vec<String>,
}

/// What a token endpoint gave.
pub(super) struct Tokens {
    pub(super) id_token: Option<Secret>,
    pub(super) refresh_token: Option<Secret>,
}

/// What an endpoint of the provider answered.
pub(super) enum Reply {
    /// It did.
    Done(Map<String, Value>),
    /// It did not, by this OAuth error, with what it says about it.
    Refused(String, Option<String>),
}

impl Provider {
    /// Reads the metadata, which must be of the very issuer asked for.
    pub(super) async fn discover(clients: &Clients, issuer: &str) -> Result<Self> {
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let url = usable(&format!("{base}/.well-known/openid-configuration"))?;
        let (status, metadata) = exchange(clients, &url, None)
            .await
            .with_context(|| format!("the provider `{issuer}` cannot be asked"))?;
        ensure!(status == 200, "`{url}` answered {status}");
        let named = metadata.get("issuer").and_then(Value::as_str);
        ensure!(
            named == Some(issuer),
            "`{url}` is not the metadata of `{issuer}`"
        );
        let endpoint = |name: &str| -> Result<Option<Url>> {
            let place = metadata.get(name).and_then(Value::as_str);
            place.map(usable).transpose()
        };
        let scopes = metadata.get("scopes_supported").and_then(Value::as_array);
        Ok(Self {
            clients: clients.clone(),
            issuer: issuer.to_owned(),
            token: endpoint("token_endpoint")?
                .with_context(|| format!("`{url}` names no token endpoint"))?,
            device: endpoint("device_authorization_endpoint")?,
            revocation: endpoint("revocation_endpoint")?,
            scopes: scopes
                .into_iter()
                .flatten()
                .filter_map(|scope| scope.as_str().map(str::to_owned))
                .collect(),
        })
    }

    /// Whether the provider says that it knows a scope.
    pub(super) fn offers(&self, scope: &str) -> bool {
        self.scopes.iter().any(|known| known == scope)
    }

    /// Asks for a device code (RFC 8628, section 3.1).
    pub(super) async fn device_code(&self, client_id: &str, scope: &str) -> Result<Reply> {
        let url = self.device.as_ref().with_context(|| {
            format!(
                "the provider `{}` does not offer logins by device code (RFC 8628)",
                self.issuer
            )
        })?;
        self.post(url, &[("client_id", client_id), ("scope", scope)])
            .await
    }

    /// Asks the token endpoint. An error of the connection is `Err`, everything that the provider
    /// says is not.
    pub(super) async fn token(&self, form: &[(&str, &str)]) -> Result<Reply> {
        self.post(&self.token, form).await
    }

    /// Has the provider forget a refresh token (RFC 7009), where it offers that.
    pub(super) async fn revoke(&self, client_id: &str, refresh: &Secret) -> Result<()> {
        let Some(url) = &self.revocation else {
            return Ok(());
        };
        let form = [
            ("client_id", client_id),
            ("token", refresh.expose()),
            ("token_type_hint", "refresh_token"),
        ];
        match self.post(url, &form).await? {
            Reply::Done(_) => Ok(()),
            Reply::Refused(error, _) => bail!("`{error}`"),
        }
    }

    async fn post(&self, url: &Url, form: &[(&str, &str)]) -> Result<Reply> {
        let (status, answer) = exchange(&self.clients, url, Some(form)).await?;
        if status == 200 {
            return Ok(Reply::Done(answer));
        }
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        match text("error") {
            Some(error) if status < 500 => Ok(Reply::Refused(error, text("error_description"))),
            Some(_) | None => Err(anyhow!("`{url}` answered {status}")),
        }
    }
}

impl Tokens {
    /// The tokens of an answer (RFC 6749, section 5.1; OpenID Connect Core 1.0, section 3.1.3.3).
    pub(super) fn of(answer: &Map<String, Value>) -> Self {
        let secret = |name: &str| {
            let text = answer.get(name).and_then(Value::as_str)?;
            Some(Secret::new(text.to_owned()))
        };
        Self {
            id_token: secret("id_token"),
            refresh_token: secret("refresh_token"),
        }
    }
}

/// A URL that a token may be sent to: https, or this machine.
fn usable(text: &str) -> Result<Url> {
    let url = Url::parse(text).with_context(|| format!("`{text}` is not a URL"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => bail!("`{text}` is not https, and no token is sent there"),
    }
}

async fn exchange(
    clients: &Clients,
    url: &Url,
    form: Option<&[(&str, &str)]>,
) -> Result<(u16, Map<String, Value>)> {
    let client = clients.of(url);
    let request = match form {
        None => client.get(url.clone()),
        Some(form) => {
            let body = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(form)
                .finish();
            client
                .post(url.clone())
                .header(
                    reqwest::header::CONTENT_TYPE,
                    "application/x-www-form-urlencoded",
                )
                .body(body)
        }
    };
    let sent = request
        .header(ACCEPT, "application/json")
        .timeout(CALL_TIMEOUT);
    let mut response = sent.send().await?;
    let status = response.status().as_u16();
    let body = bounded(&mut response, ANSWER).await?;
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// The body of an answer, unless it is longer than it may be.
pub(super) async fn bounded(response: &mut reqwest::Response, most: usize) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        ensure!(
            body.len().saturating_add(chunk.len()) <= most,
            "the answer has more than {most} bytes"
        );
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
