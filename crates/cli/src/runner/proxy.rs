//! Forwards what a command sends to a loopback URL to its resource, with the run's token added.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response, StatusCode};
use dayfly_token::hash::constant_time_eq;
use hyper::body::Incoming;
use url::Url;

use crate::runner::problem::{no_token, problem};
use crate::runner::server::{DPOP, DPOP_NONCE, unheard};
use crate::runner::session::Session;
use crate::runner::tokens::{Target, Token};
use crate::runner::wire::Failure;
use crate::secret::Secret;

/// Bodies up to this size are kept, to be sent again when the resource wants a nonce first.
const MAX_KEPT_BYTES: u64 = 1 << 20;

/// Headers of one connection (RFC 9110 section 7.6.1), and those that are ours to set.
const NOT_FORWARDED: [HeaderName; 12] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
    DPOP,
    DPOP_NONCE,
];

/// A resource behind the proxy: an unguessable path, because any user of the machine reaches the port.
#[derive(Debug)]
pub(crate) struct Seat {
    path: Secret,
    target: Target,
    base: Url,
    nonce: Mutex<Option<String>>,
}

impl Seat {
    pub(crate) fn new(path: Secret, resource: &str) -> Result<Self> {
        let base = Url::parse(resource).with_context(|| format!("`{resource}` is not a URL"))?;
        ensure!(
            matches!(base.scheme(), "http" | "https") && base.has_host(),
            "`{resource}` is not a URL that can be forwarded to"
        );
        Ok(Self {
            path,
            target: Some(resource.to_owned()),
            base,
            nonce: Mutex::default(),
        })
    }

    /// The URL that the command uses.
    pub(crate) fn url(&self, port: u16) -> String {
        format!("http://127.0.0.1:{port}/{}/", self.path.expose())
    }

    /// The seat that a request's path leads to, and the rest of the path.
    pub(crate) fn find<'a>(seats: &'a [Self], path: &'a str) -> Option<(&'a Self, &'a str)> {
        let path = path.strip_prefix('/')?;
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        let is_it =
            |seat: &&Self| constant_time_eq(seat.path.expose().as_bytes(), first.as_bytes());
        Some((seats.iter().find(is_it)?, rest))
    }

    /// Sends the request on and the answer back, both as they come.
    pub(crate) async fn forward(
        &self,
        session: &Session,
        parts: &Parts,
        rest: &str,
        body: Incoming,
    ) -> Response<Body> {
        let Some(url) = self.place(rest, parts.uri.query()) else {
            return problem(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "the path leads out of the resource",
            );
        };
        let Ok(payload) = Payload::of(&parts.headers, body).await else {
            return problem(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "the body is broken off",
            );
        };
        let token = match session.token(&self.target).await {
            Ok(token) => token,
            Err(failure) => return no_token(&failure),
        };
        let request = Forwarded {
            session,
            token: &token,
            parts,
            url: &url,
        };
        match self.send(&request, payload).await {
            Ok(response) => answered(response),
            Err(failure) => problem(
                StatusCode::BAD_GATEWAY,
                "bad_gateway",
                &format!("the resource does not answer: {failure}"),
            ),
        }
    }

    /// Where a path below the seat leads; never out of the resource's own origin and path.
    ///
    /// One slash more than needed is dropped, because `$URL/x` has it when the variable ends with one.
    fn place(&self, rest: &str, query: Option<&str>) -> Option<Url> {
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        let above = self.base.path().trim_end_matches('/');
        let mut url = self.base.clone();
        url.set_path(&format!("{above}/{rest}"));
        url.set_query(query);
        url.set_fragment(None);
        let within = url.path().strip_prefix(above)?.starts_with('/');
        (within && url.origin() == self.base.origin()).then_some(url)
    }

    async fn send(
        &self,
        request: &Forwarded<'_>,
        payload: Payload,
    ) -> Result<reqwest::Response, Failure> {
        let nonce = self.nonce();
        let kept = payload.kept();
        let first = request.send(payload.into_body(), nonce.as_deref()).await?;
        let Some(fresh) = self.remember(&first).filter(|_| wants_nonce(&first)) else {
            return Ok(first);
        };
        let Some(body) = kept.filter(|_| request.token.is_bound()) else {
            return Ok(first);
        };
        let second = request.send(body.into(), Some(&fresh)).await?;
        self.remember(&second);
        Ok(second)
    }

    fn remember(&self, response: &reqwest::Response) -> Option<String> {
        let nonce = response.headers().get(DPOP_NONCE)?.to_str().ok()?;
        *self.nonce.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce.to_owned());
        Some(nonce.to_owned())
    }

    fn nonce(&self) -> Option<String> {
        self.nonce
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A request on its way to the resource.
struct Forwarded<'a> {
    session: &'a Session,
    token: &'a Token,
    parts: &'a Parts,
    url: &'a Url,
}

impl Forwarded<'_> {
    async fn send(
        &self,
        body: reqwest::Body,
        nonce: Option<&str>,
    ) -> Result<reqwest::Response, Failure> {
        let method = &self.parts.method;
        let mut headers = without_connection(&self.parts.headers);
        headers.remove(HOST);
        headers.remove(AUTHORIZATION);
        if body.as_bytes().is_some() {
            headers.remove(CONTENT_LENGTH);
        }
        let presented = self
            .session
            .sign(self.token, method, self.url.as_str(), nonce)?;
        headers.extend(presented);
        let client = self.session.server().clients().of(self.url);
        client
            .request(method.clone(), self.url.clone())
            .headers(headers)
            .body(body)
            .send()
            .await
            .map_err(unheard)
    }
}

/// A body that can be sent twice, or one that streams by.
enum Payload {
    Kept(Bytes),
    Passing(Incoming),
}

impl Payload {
    async fn of(headers: &HeaderMap, body: Incoming) -> Result<Self, axum::Error> {
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        match length {
            Some(0) => Ok(Self::Kept(Bytes::new())),
            None if !headers.contains_key(TRANSFER_ENCODING) => Ok(Self::Kept(Bytes::new())),
            Some(length) if length <= MAX_KEPT_BYTES => {
                let limit = usize::try_from(length).unwrap_or(usize::MAX);
                Ok(Self::Kept(to_bytes(Body::new(body), limit).await?))
            }
            Some(_) | None => Ok(Self::Passing(body)),
        }
    }

    fn kept(&self) -> Option<Bytes> {
        match self {
            Self::Kept(bytes) => Some(bytes.clone()),
            Self::Passing(_) => None,
        }
    }

    fn into_body(self) -> reqwest::Body {
        match self {
            Self::Kept(bytes) => bytes.into(),
            Self::Passing(body) => reqwest::Body::wrap_stream(Body::new(body).into_data_stream()),
        }
    }
}

fn wants_nonce(response: &reqwest::Response) -> bool {
    let challenges = response.headers().get_all(WWW_AUTHENTICATE);
    let named = |value: &axum::http::HeaderValue| {
        value
            .to_str()
            .is_ok_and(|text| text.contains("use_dpop_nonce"))
    };
    response.status() == StatusCode::UNAUTHORIZED && challenges.iter().any(named)
}

fn answered(response: reqwest::Response) -> Response<Body> {
    let status = response.status();
    let headers = without_connection(response.headers());
    let mut answer = Response::new(Body::from_stream(response.bytes_stream()));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// The headers that are about the message and not about the connection it came by.
fn without_connection(headers: &HeaderMap) -> HeaderMap {
    let mut named: Vec<String> = Vec::new();
    for value in headers.get_all(CONNECTION) {
        let names = value.to_str().unwrap_or_default().split(',');
        named.extend(names.map(|name| name.trim().to_ascii_lowercase()));
    }
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if !NOT_FORWARDED.contains(name) && !named.iter().any(|named| named == name.as_str()) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(resource: &str, rest: &str) -> Option<String> {
        let seat = Seat::new(Secret::new("s".to_owned()), resource).unwrap();
        Some(seat.place(rest, Some("q=1"))?.to_string())
    }

    #[test]
    fn paths_stay_below_the_resource() {
        let shown = |resource, rest| place(resource, rest).unwrap();
        assert_eq!(shown("https://a.example", "x"), "https://a.example/x?q=1");
        assert_eq!(shown("https://a.example/", "/x"), "https://a.example/x?q=1");
        assert_eq!(
            shown("https://a.example/v1/", "x/../y"),
            "https://a.example/v1/y?q=1"
        );
        assert_eq!(
            shown("https://a.example/v1", ""),
            "https://a.example/v1/?q=1"
        );
        for rest in [
            "../x",
            "../v1x",
            "..",
            "a/../../x",
            "%2e%2e/x",
            "..\\x",
            ".%2E/x",
        ] {
            assert_eq!(place("https://a.example/v1", rest), None, "{rest}");
        }
    }

    #[test]
    fn seats_are_found_by_their_whole_path() {
        let seats = [Seat::new(Secret::new("abc".to_owned()), "https://a.example").unwrap()];
        let rest = |path| Seat::find(&seats, path).map(|(_, rest)| rest);
        assert_eq!(rest("/abc"), Some(""));
        assert_eq!(rest("/abc/"), Some(""));
        assert_eq!(rest("/abc/x/y"), Some("x/y"));
        assert_eq!(rest("/ab/x"), None);
        assert_eq!(rest("/abcd"), None);
        assert_eq!(rest("/"), None);
    }

    #[test]
    fn headers_of_the_connection_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("dpop", "forged"),
            ("accept", "*/*"),
            ("cookie", "a=b"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let kept = without_connection(&headers);
        let names: Vec<&str> = kept.keys().map(HeaderName::as_str).collect();
        assert_eq!(names.len(), 2);
        assert!(kept.contains_key("accept") && kept.contains_key("cookie"));
    }
}
