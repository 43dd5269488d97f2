//! Asks the admin face of a running server: over its socket, one connection a request, or from elsewhere with a login.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::body::Body;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::login::RemoteFace;

/// How long a request may take: a trace over a long ledger looks at much.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);
/// The most bytes of an answer: the receipt of a task with many thousand entries.
pub(crate) const ANSWER: usize = 256 * 1024 * 1024;

/// The admin face of a server.
#[derive(Clone, Debug)]
pub(crate) enum AdminFace {
    /// On this machine.
    Socket(AdminSocket),
    /// Elsewhere.
    Remote(RemoteFace),
}

impl AdminFace {
    /// Reads.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        match self {
            Self::Socket(socket) => socket.get(path).await,
            Self::Remote(remote) => remote.get(path).await,
        }
    }

    /// Changes.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        match self {
            Self::Socket(socket) => socket.post(path, body).await,
            Self::Remote(remote) => remote.post(path, body).await,
        }
    }
}

/// The socket of a server that answers.
#[derive(Clone, Debug)]
pub(crate) struct AdminSocket {
    path: PathBuf,
}

/// What the server answered instead of doing it.
#[derive(Debug)]
pub(crate) struct Declined {
    message: String,
    refused: Option<(String, Rule)>,
}

/// The rule that refused, as an operator may see it.
#[derive(Debug, Deserialize)]
struct Rule {
    stage: String,
    rule: String,
    field: String,
    wanted: String,
    got: String,
    #[serde(default)]
    hint: String,
}

#[derive(Deserialize)]
struct Problem {
    message: String,
    refusal: Option<String>,
    refused: Option<Rule>,
}

impl AdminSocket {
    /// The socket at this path, where somebody answers; none where nobody does.
    ///
    /// # Errors
    /// The socket is there and may not be used.
    pub(crate) async fn find(path: &Path) -> Result<Option<Self>> {
        match UnixStream::connect(path).await {
            Ok(_) => Ok(Some(Self {
                path: path.to_owned(),
            })),
            Err(why)
                if matches!(
                    why.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(why) => Err(why).with_context(|| {
                format!(
                    "cannot use {}: it is for the user of the server and for root",
                    path.display()
                )
            }),
        }
    }

    /// Reads.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let request = Request::get(path).body(Body::empty())?;
        self.ask(request).await
    }

    /// Changes.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))?;
        self.ask(request).await
    }

    async fn ask<T: DeserializeOwned>(&self, mut request: Request<Body>) -> Result<T> {
        request
            .headers_mut()
            .insert(header::HOST, header::HeaderValue::from_static("dayfly"));
        let (status, body) = tokio::time::timeout(TIMEOUT, self.exchange(request))
            .await
            .context("the server did not answer in time")??;
        read(status, &body)
    }

    async fn exchange(&self, request: Request<Body>) -> Result<(StatusCode, Vec<u8>)> {
        let stream = UnixStream::connect(&self.path)
            .await
            .context("the server stopped answering")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await;
        let response = response.context("the server broke off")?;
        let status = response.status();
        let body = axum::body::to_bytes(Body::new(response.into_body()), ANSWER)
            .await
            .context("the server broke off its answer")?;
        connection.abort();
        Ok((status, body.to_vec()))
    }
}

/// Reads an answer of the admin face.
pub(crate) fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T> {
    if status.is_success() {
        return serde_json::from_slice(body)
            .context("the server's answer is not what this program expects");
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Err(Declined {
            message: problem.message,
            refused: problem.refusal.zip(problem.refused),
        }
        .into()),
        Err(_) => bail!("the server answered {status}"),
    }
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let Some((refusal, rule)) = &self.refused else {
            return Ok(());
        };
        write!(f, " ({refusal}: {} {}", rule.stage, rule.rule)?;
        for (word, text) in [
            ("at", &rule.field),
            ("wanted", &rule.wanted),
            ("got", &rule.got),
        ] {
            if !text.is_empty() {
                write!(f, ", {word} {text}")?;
            }
        }
        f.write_str(")")?;
        if !rule.hint.is_empty() {
            write!(f, "; {}", rule.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Declined {}

/// A text as part of a query.
pub(crate) fn escaped(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
