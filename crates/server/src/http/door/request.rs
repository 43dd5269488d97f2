//! One request between the parser and the router: said in one way, from a known caller, answered in time.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use axum::response::IntoResponse;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::time::{Instant, Sleep};

use super::forwarded;
use super::pace::Pace;
use crate::config::Network;

/// What all requests of a listener share.
#[derive(Debug)]
pub(super) struct Reception {
    pub(super) router: Router,
    pub(super) trusted: Vec<Network>,
}

impl Reception {
    /// Answers a request, whatever it is.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        pace: &Pace,
    ) -> Response<Body> {
        let (body_due, answer_due) = pace.begin();
        let (mut parts, body) = request.into_parts();
        let response = match check(parts.version, &parts.headers) {
            Err(status) => closing(status.into_response()),
            Ok(framing) => {
                let caller = forwarded::resolve(peer, &mut parts.headers, &self.trusted);
                parts.extensions.insert(caller);
                let late = Arc::new(AtomicBool::new(false));
                let body = TimedBody {
                    inner: body,
                    due: body_due,
                    alarm: None,
                    late: Arc::clone(&late),
                };
                let request = Request::from_parts(parts, body);
                let router = TowerToHyperService::new(self.router.clone());
                let answered = tokio::time::timeout_at(answer_due, router.call(request)).await;
                match (late.load(Ordering::Relaxed), answered, framing) {
                    (true, _, _) => closing(StatusCode::REQUEST_TIMEOUT.into_response()),
                    (false, Err(_), _) => closing(overdue()),
                    (false, Ok(Ok(response)), Framing::Length) => response,
                    (false, Ok(Ok(response)), Framing::Chunked) => closing(response),
                    (false, Ok(Err(never)), _) => match never {},
                }
            }
        };
        pace.finish();
        response
    }
}

/// How a request says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// By its length, or it has none.
    Length,
    /// In chunks: what follows it on the connection is not looked at.
    Chunked,
}

/// What the gate leaves to be checked, which is what stands in the values of two headers.
fn check(version: Version, headers: &HeaderMap) -> Result<Framing, StatusCode> {
    // RFC 9112, section 3.2.
    if version == Version::HTTP_11 && headers.get_all(header::HOST).iter().count() != 1 {
        return Err(StatusCode::BAD_REQUEST);
    }
    match headers.get(header::TRANSFER_ENCODING) {
        None => Ok(Framing::Length),
        Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        // RFC 9112, section 6.1.
        Some(_) => Err(StatusCode::NOT_IMPLEMENTED),
    }
}

fn closing(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn overdue() -> Response<Body> {
    tracing::error!("a request took longer than `connections.request_timeout`");
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [(header::RETRY_AFTER, "2")],
    )
        .into_response()
}

/// A request's body that breaks off when it is late.
struct TimedBody {
    inner: Incoming,
    due: Instant,
    /// Made when it has to be waited for, which most bodies have not.
    alarm: Option<Pin<Box<Sleep>>>,
    late: Arc<AtomicBool>,
}

impl hyper::body::Body for TimedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            return Poll::Ready(frame.map(|read| read.map_err(axum::Error::new)));
        }
        let due = this.due;
        let alarm = this
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        ready!(alarm.as_mut().poll(cx));
        this.late.store(true, Ordering::Relaxed);
        let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
        Poll::Ready(Some(Err(axum::Error::new(late))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
