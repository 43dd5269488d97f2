//! Finds what the platform gives a job to prove itself with.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use dayfly_token::b64;
use reqwest::header::AUTHORIZATION;
use serde_json::{Map, Value};
use url::Url;

use crate::clock;
use crate::environment;
use crate::http::{CALL_TIMEOUT, Clients};
use crate::runner::server::{read_object, unheard};
use crate::runner::wire::Failure;
use crate::secret::Secret;

/// Where a mounted token stands unless a variable says otherwise.
const DEFAULT_FILE: &str = "/var/run/secrets/dayfly/token";
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Where platform tokens come from, in the order in which they are looked for.
#[derive(Debug)]
pub(crate) enum ProofSource {
    /// GitHub Actions makes one on request, for the audience that it is asked for.
    Actions { url: String, token: Secret },
    /// A variable holds one, made before the job began.
    Variable(Secret),
    /// A file holds one, which the platform may replace.
    File(PathBuf),
}

/// A platform token.
#[derive(Debug)]
pub(crate) struct PlatformProof {
    token: Secret,
    claims: Map<String, Value>,
}

impl ProofSource {
    /// The first that is there.
    pub(crate) fn find() -> Result<Self, Failure> {
        let variable = environment::variable;
        if let (Some(url), Some(token)) = (
            variable(environment::ACTIONS_URL),
            variable(environment::ACTIONS_TOKEN),
        ) {
            let token = Secret::new(token);
            return Ok(Self::Actions { url, token });
        }
        if let Some(token) = variable(environment::ID_TOKEN) {
            return Ok(Self::Variable(Secret::new(token)));
        }
        if let Some(file) = variable(environment::ID_TOKEN_FILE) {
            return Ok(Self::File(file.into()));
        }
        let file = PathBuf::from(DEFAULT_FILE);
        if file.exists() {
            return Ok(Self::File(file));
        }
        Err(Failure::Fault(anyhow!(
            "found no platform token: on GitHub give the job `permissions: id-token: write`, elsewhere set {} or {} or mount {DEFAULT_FILE}",
            environment::ID_TOKEN,
            environment::ID_TOKEN_FILE,
        )))
    }

    /// Whether another token can be had later.
    pub(crate) fn renews(&self) -> bool {
        match self {
            Self::Actions { .. } | Self::File(_) => true,
            Self::Variable(_) => false,
        }
    }

    /// The token as it is now, made for `audience` where the platform lets one choose.
    pub(crate) async fn proof(
        &self,
        audience: Option<&str>,
        clients: &Clients,
    ) -> Result<PlatformProof, Failure> {
        let token = match self {
            Self::Actions { url, token } => ask_actions(url, token, audience, clients).await?,
            Self::Variable(token) => token.clone(),
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                Secret::new(text.with_context(|| format!("cannot read `{}`", path.display()))?)
            }
        };
        PlatformProof::read(token)
    }
}

impl PlatformProof {
    fn read(token: Secret) -> Result<Self, Failure> {
        let text = token.expose().trim();
        let claims = claims_of(text).context("the platform's token is not a signed JWT")?;
        Ok(Self {
            token: Secret::new(text.to_owned()),
            claims,
        })
    }

    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }

    /// What the token claims, not verified by anyone here.
    pub(crate) fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    pub(crate) fn has_expired(&self) -> bool {
        let exp = self.claims.get("exp").and_then(Value::as_u64);
        exp.is_some_and(|exp| exp <= clock::now_seconds())
    }
}

fn claims_of(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    dayfly_token::json::object(&b64::decode(payload).ok()?).ok()
}

async fn ask_actions(
    url: &str,
    token: &Secret,
    audience: Option<&str>,
    clients: &Clients,
) -> Result<Secret, Failure> {
    let name = environment::ACTIONS_URL;
    let mut url = Url::parse(url).with_context(|| format!("{name} is not a URL"))?;
    if let Some(audience) = audience {
        url.query_pairs_mut().append_pair("audience", audience);
    }
    let response = clients
        .of(&url)
        .get(url)
        .header(AUTHORIZATION, format!("Bearer {}", token.expose()))
        .timeout(CALL_TIMEOUT)
        .send()
        .await
        .map_err(|error| of_platform(unheard(error)))?;
    let status = response.status();
    if status.is_client_error() && status.as_u16() != 429 {
        return Err(Failure::Fault(anyhow!(
            "GitHub gives no token, it answered {status}"
        )));
    }
    let mut members = read_object(response).await.map_err(of_platform)?;
    match members.remove("value") {
        Some(Value::String(token)) => Ok(Secret::new(token)),
        Some(_) | None => Err(Failure::Fault(anyhow!("GitHub's answer holds no token"))),
    }
}

fn of_platform(failure: Failure) -> Failure {
    match failure {
        Failure::Away(mut away) => {
            away.why = format!("of GitHub's tokens: {}", away.why);
            Failure::Away(away)
        }
        Failure::Refused(_) | Failure::Fault(_) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_and_the_rest_is_refused() {
        let token = format!("{}.{}.sig", b64::encode("{}"), b64::encode(r#"{"exp":1}"#));
        let proof = PlatformProof::read(Secret::new(format!("{token}\n"))).unwrap();
        assert_eq!(proof.token().expose(), token);
        assert!(proof.has_expired());
        for text in ["", "a.b", "a.b.c.d", "a.!.c"] {
            assert!(
                PlatformProof::read(Secret::new(text.to_owned())).is_err(),
                "{text}"
            );
        }
    }
}
