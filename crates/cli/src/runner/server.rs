//! One call to the server: sends it with the proof of the key, answers a demand for a nonce, and reads what comes back.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use dayfly_token::client::{ProofRequest, dpop_proof};
use dayfly_token::excerpt::Excerpt;
use dayfly_token::sign::SigningKey;
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response};
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use crate::clock;
use crate::http::{CALL_TIMEOUT, Clients};
use crate::random;
use crate::runner::address::Address;
use crate::runner::tokens::Token;
use crate::runner::wire::{Away, Failure, Metadata, Refusal};

/// The header of a DPoP proof (RFC 9449 section 4.1).
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");
/// The header by which a server hands out a nonce (RFC 9449 section 8).
pub(crate) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

const MAX_ANSWER_BYTES: usize = 1 << 20;
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// Within this time a server reads the platform's keys anew for a key it does not know: its floor of 30 s, one attempt
/// of 10 s, and some. The platform may have rotated its keys just now; after that, the refusal is the answer.
const KEYS_READ_ANEW: Duration = Duration::from_secs(45);

/// A tenant's endpoints, and the nonce it gave last.
#[derive(Debug)]
pub(crate) struct Server {
    address: Address,
    clients: Clients,
    nonce: Mutex<Option<String>>,
}

/// A request to the server.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) body: Body,
    pub(crate) key: Option<&'a SigningKey>,
    pub(crate) token: Option<&'a Token>,
}

/// What a call carries.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Empty,
    Form(Vec<(&'static str, String)>),
    Json(Value),
}

impl Server {
    pub(crate) fn new(address: Address, clients: Clients) -> Self {
        Self {
            address,
            clients,
            nonce: Mutex::default(),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The URLs of the tenant's resources by name, from metadata that names the very issuer asked for (RFC 8414 section 3.3).
    pub(crate) async fn resources(&self) -> Result<BTreeMap<String, String>, Failure> {
        let call = Call {
            method: Method::GET,
            url: self.address.metadata_url().to_string(),
            body: Body::Empty,
            key: None,
            token: None,
        };
        let metadata = Metadata::read(self.send(&call).await?)?;
        if metadata.issuer != self.address.issuer() {
            return Err(Failure::Fault(anyhow!(
                "the server calls itself {} instead of `{}`",
                Excerpt::of(&metadata.issuer),
                self.address.issuer()
            )));
        }
        Ok(metadata.dayfly_resources)
    }

    /// Sends `call`, a second time when the server wants a nonce first, and gives the members of its answer.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Map<String, Value>, Failure> {
        let first = self.exchange(call).await?;
        let last = match call.key {
            Some(_) if first.wants_nonce() => self.exchange(call).await?,
            Some(_) | None => first,
        };
        last.into_members()
    }

    /// A text that the server publishes.
    pub(crate) async fn text(&self, url: &str) -> Result<String, Failure> {
        let call = Call {
            method: Method::GET,
            url: url.to_owned(),
            body: Body::Empty,
            key: None,
            token: None,
        };
        let reply = self.exchange(&call).await?;
        match (reply.status, String::from_utf8(reply.body)) {
            (200, Ok(text)) => Ok(text),
            (status, _) => Err(Failure::away(format!("it answered {status}"))),
        }
    }

    async fn exchange(&self, call: &Call<'_>) -> Result<Reply, Failure> {
        let url = Url::parse(&call.url).context("the server's URL is malformed")?;
        let mut headers = match (call.key, call.token) {
            (key, Some(token)) => {
                authorize(key, token, &call.method, &call.url, self.nonce().as_deref())?
            }
            (Some(key), None) => {
                let proof = prove(key, &call.method, &call.url, self.nonce().as_deref(), None)?;
                HeaderMap::from_iter([(DPOP, proof)])
            }
            (None, None) => HeaderMap::new(),
        };
        let body = match &call.body {
            Body::Empty => String::new(),
            Body::Form(fields) => {
                headers.insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/x-www-form-urlencoded"),
                );
                form_urlencoded::Serializer::new(String::new())
                    .extend_pairs(fields)
                    .finish()
            }
            Body::Json(value) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                value.to_string()
            }
        };
        let request = self
            .clients
            .of(&url)
            .request(call.method.clone(), url)
            .timeout(CALL_TIMEOUT)
            .headers(headers)
            .body(body);
        let reply = Reply::read(request.send().await.map_err(unheard)?).await?;
        if let Some(nonce) = &reply.nonce {
            *self.nonce.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce.clone());
        }
        Ok(reply)
    }

    fn nonce(&self) -> Option<String> {
        self.nonce
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The headers that present `token` with one request: with the proof of `key` where it is bound to one.
pub(crate) fn authorize(
    key: Option<&SigningKey>,
    token: &Token,
    method: &Method,
    url: &str,
    nonce: Option<&str>,
) -> Result<HeaderMap, Failure> {
    let secret = token.secret();
    let mut headers = HeaderMap::new();
    let scheme = match key {
        Some(key) if token.is_bound() => {
            headers.insert(DPOP, prove(key, method, url, nonce, Some(secret.expose()))?);
            "DPoP"
        }
        Some(_) | None => "Bearer",
    };
    let value = format!("{scheme} {}", secret.expose());
    headers.insert(AUTHORIZATION, sensitive(&value)?);
    Ok(headers)
}

/// Reads the answer of any server as a JSON object, up to a bound.
pub(crate) async fn read_object(response: Response) -> Result<Map<String, Value>, Failure> {
    Reply::read(response).await?.into_members()
}

/// A request that got no answer; the URL stays out of the message, for it may hold what nobody should read.
pub(crate) fn unheard(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let why = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "no answer in time".to_owned(),
        (false, true) => format!("no connection: {}", innermost(&error)),
        (false, false) => innermost(&error),
    };
    Failure::away(why)
}

fn innermost(error: &reqwest::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn prove(
    key: &SigningKey,
    method: &Method,
    url: &str,
    nonce: Option<&str>,
    access_token: Option<&str>,
) -> Result<HeaderValue, Failure> {
    let jti = random::name()?;
    let request = ProofRequest {
        method: method.as_str(),
        url,
        now: clock::now_seconds(),
        jti: &jti,
        nonce,
        access_token,
    };
    let proof = dpop_proof(key, &request).context("cannot make a DPoP proof")?;
    sensitive(&proof)
}

fn sensitive(value: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| anyhow!("the server's token has characters that no header can hold"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// An answer, read up to a bound.
struct Reply {
    status: u16,
    body: Vec<u8>,
    nonce: Option<String>,
    challenge: String,
    retry_after: Option<Duration>,
}

impl Reply {
    async fn read(mut response: Response) -> Result<Self, Failure> {
        let header = |name: HeaderName| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let mut reply = Self {
            status: response.status().as_u16(),
            nonce: header(DPOP_NONCE),
            challenge: header(WWW_AUTHENTICATE).unwrap_or_default(),
            retry_after: header(RETRY_AFTER)
                .and_then(|seconds| seconds.trim().parse().ok())
                .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER)),
            body: Vec::new(),
        };
        while let Some(chunk) = response.chunk().await.map_err(unheard)? {
            if reply.body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
                return Err(Failure::away("its answer is too long"));
            }
            reply.body.extend_from_slice(&chunk);
        }
        Ok(reply)
    }

    fn members(&self) -> Option<Map<String, Value>> {
        dayfly_token::json::object(&self.body).ok()
    }

    fn wants_nonce(&self) -> bool {
        let named = || {
            let members = self.members();
            let error = members.as_ref().and_then(|members| members.get("error"));
            error.and_then(Value::as_str) == Some("use_dpop_nonce")
                || self.challenge.contains("use_dpop_nonce")
        };
        matches!(self.status, 400 | 401) && self.nonce.is_some() && named()
    }

    fn into_members(self) -> Result<Map<String, Value>, Failure> {
        let away = |why: String| {
            Failure::Away(Away {
                why,
                retry_after: self.retry_after,
                refusal: None,
                within: None,
                rule: None,
            })
        };
        let members = self.members();
        let refusal = members
            .as_ref()
            .and_then(|members| Refusal::read(self.status, members));
        match (self.status, refusal) {
            (200..=299, _) if self.body.is_empty() => Ok(Map::new()),
            (200..=299, _) => members.ok_or_else(|| away("its answer is not a JSON object".into())),
            (400..=499, Some(refusal)) if refusal.rule() == Some("key") => {
                Err(Failure::Away(Away {
                    why: format!("it answered {}, {refusal}", self.status),
                    retry_after: self.retry_after,
                    refusal: Some(Box::new(refusal)),
                    within: Some(KEYS_READ_ANEW),
                    rule: None,
                }))
            }
            (400..=499, Some(refusal)) if !matches!(self.status, 408 | 429) => {
                Err(Failure::Refused(Box::new(refusal)))
            }
            (status, Some(refusal)) => Err(Failure::Away(Away {
                why: format!("it answered {status}, {refusal}"),
                retry_after: self.retry_after,
                rule: refusal.rule().map(str::to_owned),
                refusal: (status == 429 && refusal.rule().is_some()).then(|| Box::new(refusal)),
                within: None,
            })),
            // What answers without an OAuth error is not Dayfly but something on the way to it.
            (status, None) => Err(away(format!("it answered {status}"))),
        }
    }
}

/// The value of `named` as a URL: a URL itself, or the name of a resource that the server knows.
pub(crate) fn resolve(named: &str, resources: &BTreeMap<String, String>) -> anyhow::Result<String> {
    if named.contains("://") {
        return Ok(named.to_owned());
    }
    if let Some(url) = resources.get(named) {
        return Ok(url.clone());
    }
    let known: Vec<&str> = resources.keys().map(String::as_str).collect();
    bail!(
        "the server knows no resource `{named}`, only: {}",
        known.join(", ")
    )
}
