//! A resource that checks the token and proof of each request and says what it got.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::Response;
use axum::http::request::Parts;
use serde_json::json;

use crate::fake::{Call, Inner, error, verify};

pub(crate) async fn answer(inner: &Arc<Inner>, parts: Parts, body: Body) -> Response<Body> {
    let path = parts.uri.path().to_owned();
    let text = |name: &str| {
        let value = parts.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let authorization = text("authorization").unwrap_or_default();
    let mut call = Call {
        path: path.clone(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        authorization: Some(authorization.clone()),
        ..Call::default()
    };
    if let Some(token) = authorization.strip_prefix("DPoP ") {
        let proof = text("dpop").unwrap();
        let checked = verify(&inner.origin, &parts.method, &path, &proof, Some(token));
        let verified = match checked {
            Ok(verified) => verified,
            Err(why) => return error(401, &json!({"error": why})),
        };
        call.jkt = Some(verified.jkt().to_string());
        call.nonce = verified.nonce().map(str::to_owned);
        let wanted = inner.state().resource_nonce.clone();
        if let Some(wanted) = wanted.filter(|wanted| call.nonce.as_ref() != Some(wanted)) {
            inner.state().calls.push(call);
            return challenge(&wanted);
        }
    }
    let length = to_bytes(body, usize::MAX).await.unwrap().len();
    inner.state().calls.push(call);
    match path.as_str() {
        "/res/redirect" => {
            let mut response = error(302, &json!({}));
            let headers = response.headers_mut();
            headers.insert("location", "https://elsewhere.example/".parse().unwrap());
            response
        }
        "/res/slow" => Response::new(Body::new(TwoParts {
            inner: Arc::clone(inner),
            sent: 0,
        })),
        _ => error(
            200,
            &json!({
                "method": parts.method.as_str(),
                "path": path,
                "query": parts.uri.query(),
                "length": length,
                "custom": text("x-custom"),
                "scheme": authorization.split(' ').next(),
            }),
        ),
    }
}

fn challenge(nonce: &str) -> Response<Body> {
    let mut response = error(401, &json!({}));
    let headers = response.headers_mut();
    headers.insert("dpop-nonce", nonce.parse().unwrap());
    headers.insert(
        "www-authenticate",
        r#"DPoP error="use_dpop_nonce""#.parse().unwrap(),
    );
    response
}

/// A first line at once, a second when the test says so.
struct TwoParts {
    inner: Arc<Inner>,
    sent: u8,
}

impl hyper::body::Body for TwoParts {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        use std::task::Poll;
        let part: &'static [u8] = match self.sent {
            0 => b"first\n",
            1 if !self.inner.is_released() => {
                // The test releases from another thread; looking again is simplest.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            1 => b"second\n",
            _ => return Poll::Ready(None),
        };
        self.sent += 1;
        Poll::Ready(Some(Ok(hyper::body::Frame::data(part.into()))))
    }
}
