//! The one place on the server's side that builds HTTP clients: documents of issuers, fetched under bounds of address, size and time, and the clients of sinks.

mod kept;

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, RequestBuilder, Response, StatusCode, redirect, retry};
use tokio::io::AsyncReadExt as _;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::address::{AddressRefused, Reach, Resolver};

pub(super) use kept::KeptClient;

/// How long resolving a name, connecting and the handshake may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long one request may take, its body included.
const TOTAL: Duration = Duration::from_secs(10);
/// How long a connection that is kept may be idle.
const IDLE_FOR: Duration = Duration::from_secs(60);
/// How many bytes of a document are read.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// How many bytes of a token file are read.
const MAX_SECRET_BYTES: usize = 16 * 1024;

/// A document to fetch, or a place to ask at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    /// Its URL: https, or http on a loopback host where `allow_private`.
    pub(super) url: &'a str,
    /// Whether private networks and this machine may be reached.
    pub(super) allow_private: bool,
    /// The file of a bearer token (RFC 6750) to show, read anew each time because platforms renew it.
    pub(super) token_file: Option<&'a Path>,
    /// The file of the roots, in PEM, that the server's certificate must lead to instead of the system's.
    pub(super) ca_file: Option<&'a Path>,
}

/// Why a document cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Not a URL that may be fetched.
    #[error("`{url}` {why}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Its host is at an address that may not be reached.
    #[error(transparent)]
    Address(#[from] AddressRefused),
    /// A local file cannot be read.
    #[error("file `{}` cannot be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A local file holds what cannot be used.
    #[error("file `{}` holds no {wanted}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// Answered with another status than 200, or 201 where something was posted.
    #[error("`{url}` answers with status {status}{}", if status.is_redirection() { ", and redirects are not followed" } else { "" })]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// More bytes than are read.
    #[error("`{what}` has more than {max_bytes} bytes")]
    TooLong {
        /// The URL or path.
        what: String,
        /// The bound.
        max_bytes: usize,
    },
    /// The connection or the exchange failed.
    #[error("`{url}` cannot be fetched")]
    Http {
        /// The URL.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
}

/// Fetches a document with GET.
///
/// No redirect is followed, no proxy of the environment used, nothing retried or decompressed. A
/// client lives for one request: fetches are rare, so a renewed `ca_file` counts at once and no
/// connection outlives the check of its address.
pub(super) async fn get(request: Request<'_>) -> Result<Vec<u8>, FetchError> {
    let (url, reach) = check(request)?;
    let roots = roots(request.ca_file).await?;
    let client = client(reach, roots.as_ref(), 0)?;
    let response = send(request, client.get(url)).await?;
    match response.status() {
        StatusCode::OK => {
            let mut bytes = Vec::new();
            body(request.url, response, &mut bytes).await?;
            Ok(bytes)
        }
        status => Err(other_status(request, status)),
    }
}

/// Asks with a POST of JSON, under the same bounds. Question and answer may hold a secret: both are
/// wiped when they are dropped.
pub(super) async fn post(
    request: Request<'_>,
    question: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    let (url, reach) = check(request)?;
    let roots = roots(request.ca_file).await?;
    let client = client(reach, roots.as_ref(), 0)?;
    ask(request, client.post(url), Bytes::from_owner(question)).await
}

async fn ask(
    request: Request<'_>,
    outgoing: RequestBuilder,
    question: Bytes,
) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    let outgoing = outgoing
        .header(CONTENT_TYPE, "application/json")
        .body(question);
    let response = send(request, outgoing).await?;
    match response.status() {
        StatusCode::OK | StatusCode::CREATED => {
            // As much at once as it takes: what grows leaves copies behind.
            let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
            body(request.url, response, &mut bytes).await?;
            Ok(bytes)
        }
        status => Err(other_status(request, status)),
    }
}

async fn send(request: Request<'_>, outgoing: RequestBuilder) -> Result<Response, FetchError> {
    let mut outgoing = outgoing.header(ACCEPT, "application/json");
    if let Some(file) = request.token_file {
        outgoing = outgoing.header(AUTHORIZATION, bearer(file).await?);
    }
    let sent = outgoing.send().await;
    sent.map_err(|source| explain(request.url, source))
}

fn other_status(request: Request<'_>, status: StatusCode) -> FetchError {
    FetchError::Status {
        url: request.url.to_owned(),
        status,
    }
}

/// How far a sink may be that `dayfly.toml` names. Who writes that file runs this server, and sinks
/// most often stand in the same private network; nothing that a tenant declares or a caller sends
/// comes here. Link-local addresses stay refused: no sink is there, and metadata services are.
fn reach_of_sink(url: &Url) -> Reach {
    match url.scheme() {
        "http" => Reach::Loopback,
        _ => Reach::Private,
    }
}

/// Whether a sink's host is written as an address that may not be reached.
///
/// # Errors
/// The address.
pub(crate) fn check_sink(url: &Url) -> Result<(), AddressRefused> {
    check_literal(url, reach_of_sink(url))
}

/// A client for one sink: no redirect, no proxy of the environment, no retry but the caller's.
///
/// # Errors
/// [`FetchError`]: the address may not be reached, or this machine has no roots to trust.
pub(crate) async fn sink_client(url: &Url) -> Result<Client, FetchError> {
    check_sink(url)?;
    client(reach_of_sink(url), None, 0)
}

/// Reads a file of at most `max_bytes` bytes, whatever its length claims to be.
pub(super) async fn read(path: &Path, max_bytes: usize) -> Result<Vec<u8>, FetchError> {
    let failed = |source| FetchError::File {
        path: path.to_owned(),
        source,
    };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    let mut bounded = file.take(max_bytes as u64 + 1);
    bounded.read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() > max_bytes {
        return Err(FetchError::TooLong {
            what: path.display().to_string(),
            max_bytes,
        });
    }
    Ok(bytes)
}

fn check(request: Request<'_>) -> Result<(Url, Reach), FetchError> {
    let refuse = |why| FetchError::Url {
        url: request.url.to_owned(),
        why,
    };
    let url = Url::parse(request.url).map_err(|_| refuse("is not an absolute url"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("holds user information"));
    }
    let reach = match (url.scheme(), request.allow_private) {
        ("https", false) => Reach::Public,
        ("https", true) => Reach::Private,
        // Whatever its host is: an address that is not this machine's is refused below or when resolved.
        ("http", true) => Reach::Loopback,
        ("http", false) => {
            return Err(refuse(
                "is http, wanted https (or this machine with `allow_private`)",
            ));
        }
        _ => return Err(refuse("is no https url")),
    };
    if url.host().is_none() {
        return Err(refuse("has no host"));
    }
    check_literal(&url, reach)?;
    Ok((url, reach))
}

/// Judges a host that is written as an address, which no resolver sees.
fn check_literal(url: &Url, reach: Reach) -> Result<(), AddressRefused> {
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    if reach.allows(literal) {
        return Ok(());
    }
    Err(AddressRefused {
        host: url.host_str().unwrap_or_default().to_owned(),
        address: literal,
        reach,
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place on the server's side that builds HTTP clients"
)]
fn client(reach: Reach, roots: Option<&Roots>, idle: usize) -> Result<Client, FetchError> {
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .no_proxy()
        .http1_only()
        // A connection is to an address that was judged when it was made, and none is used once its client
        // is not.
        .pool_max_idle_per_host(idle)
        .pool_idle_timeout(IDLE_FOR)
        .https_only(reach != Reach::Loopback)
        .dns_resolver(Resolver(reach))
        .connect_timeout(CONNECT)
        .timeout(TOTAL)
        .user_agent(concat!("dayfly/", env!("CARGO_PKG_VERSION")));
    match (reach, roots) {
        // Without TLS no roots are looked for, which a machine may not have.
        (Reach::Loopback, None) => builder = builder.tls_certs_only([]),
        (Reach::Public | Reach::Private, None) => {}
        (Reach::Public | Reach::Private | Reach::Loopback, Some(roots)) => {
            builder = builder.tls_certs_only(roots.certificates()?);
        }
    }
    builder.build().map_err(|source| explain("client", source))
}

/// What the server's certificate must lead to: a file, and what it held.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Roots {
    file: PathBuf,
    pem: Vec<u8>,
}

async fn roots(ca_file: Option<&Path>) -> Result<Option<Roots>, FetchError> {
    let Some(file) = ca_file else {
        return Ok(None);
    };
    Ok(Some(Roots {
        file: file.to_owned(),
        pem: read(file, MAX_BYTES).await?,
    }))
}

impl Roots {
    fn certificates(&self) -> Result<Vec<Certificate>, FetchError> {
        let roots = Certificate::from_pem_bundle(&self.pem).unwrap_or_default();
        if roots.is_empty() {
            return Err(FetchError::Content {
                path: self.file.clone(),
                wanted: "certificates in PEM",
            });
        }
        Ok(roots)
    }
}

async fn bearer(file: &Path) -> Result<HeaderValue, FetchError> {
    let content = || FetchError::Content {
        path: file.to_owned(),
        wanted: "bearer token",
    };
    let bytes = Zeroizing::new(read(file, MAX_SECRET_BYTES).await?);
    let token = std::str::from_utf8(&bytes)
        .map_err(|_| content())?
        .trim_end();
    if token.is_empty() {
        return Err(content());
    }
    let line = Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::from_str(&line).map_err(|_| content())?;
    value.set_sensitive(true);
    Ok(value)
}

async fn body(url: &str, mut response: Response, bytes: &mut Vec<u8>) -> Result<(), FetchError> {
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|source| explain(url, source))?
    {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLong {
                what: url.to_owned(),
                max_bytes: MAX_BYTES,
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(())
}

/// An address that was refused while connecting stands deep within the client's error.
pub(crate) fn explain(url: &str, source: reqwest::Error) -> FetchError {
    let mut next = source.source();
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref::<AddressRefused>() {
            return refused.clone().into();
        }
        next = error.source();
    }
    FetchError::Http {
        url: url.to_owned(),
        source: source.without_url(),
    }
}
