//! `POST /webhooks/<issuer>`: a platform says that a run is over.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Extension;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dayfly_domain::{Name, Refusal, Rule, Span, Time};
use serde_json::json;
use tokio::sync::Semaphore;

use super::Named;
use super::answer::{Face, Said, json_response, of_end, render};
use super::door::neighbourhood;
use crate::app::{App, Heard, Refused, Tenant, Trail};
use crate::config::Rate;
use crate::declared::{Issuer, IssuerKind};
use crate::rate::Buckets;
use crate::verify::webhook::{Delivery, Proven, check_header, verify};

/// How many bodies are read at a time: they are larger than those of requests, and nothing of them
/// is proven before all of it is here.
const READ_AT_ONCE: usize = 64;
/// How many of these from one address: who sends slowly keeps nobody else waiting.
const READ_OF_ONE: usize = 8;
/// How many addresses are told apart before those are forgotten that read nothing.
const ADDRESSES: usize = 1024;
/// How often it is remembered and explained to the operator that a delivery to one issuer was not
/// proven; beyond, whoever sends them gets a status alone. What is proven is never counted.
const UNPROVEN: Rate = Rate::per_minute(60);
/// How many times larger than a request's a webhook's body may be. GitLab names all jobs of a pipeline
/// in one, with less than a kilobyte for each.
const fn times_larger(kind: IssuerKind) -> usize {
    match kind {
        IssuerKind::Gitlab => 64,
        IssuerKind::Github | IssuerKind::Kubernetes | IssuerKind::Oidc => 4,
    }
}

/// How many places a body takes while it is read: a large one that nothing proves yet takes those of
/// four, so that strangers fill no more memory by them.
const fn weight(kind: IssuerKind, proven: Proven) -> u32 {
    match (kind, proven) {
        (IssuerKind::Gitlab, Proven::WithBody) => 4,
        (
            IssuerKind::Gitlab | IssuerKind::Github | IssuerKind::Kubernetes | IssuerKind::Oidc,
            Proven::Already | Proven::WithBody,
        ) => 1,
    }
}

/// Who reads bodies now, and who could not prove what they sent of late.
#[derive(Debug)]
pub(super) struct Turnstile {
    all: Semaphore,
    of_one: Mutex<HashMap<Option<IpAddr>, Arc<Semaphore>>>,
    unproven: Buckets<(Name, Name)>,
}

impl Default for Turnstile {
    fn default() -> Self {
        Self {
            all: Semaphore::new(READ_AT_ONCE),
            of_one: Mutex::default(),
            unproven: Buckets::default(),
        }
    }
}

impl Turnstile {
    /// The places of one address; those of which it is not certain where they come from share some.
    fn of_one(&self, address: Option<IpAddr>) -> Arc<Semaphore> {
        let mut of_one = self.of_one.lock().unwrap_or_else(PoisonError::into_inner);
        if of_one.len() >= ADDRESSES {
            of_one.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = of_one.entry(address.map(neighbourhood));
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(READ_OF_ONE))))
    }

    /// Charges one more delivery that was not proven; refused once there were too many of late.
    pub(super) fn unproven(&self, tenant: &Name, of: &Name, now: Time) -> Result<(), Span> {
        let of = (tenant.clone(), of.clone());
        self.unproven.take(of, UNPROVEN, now)
    }

    pub(super) async fn read(
        &self,
        address: Option<IpAddr>,
        body: Body,
        (most, weight): (usize, u32),
    ) -> Result<Bytes, StatusCode> {
        let places = self.of_one(address);
        let _of_one = places.acquire_many(weight).await;
        let _place = self.all.acquire_many(weight).await;
        to_bytes(body, most)
            .await
            .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)
    }
}

/// What became of a webhook, for those who count them.
#[derive(Clone, Debug)]
pub(super) struct Delivered {
    /// The tenant.
    pub(super) tenant: Name,
    /// The declared issuer.
    pub(super) issuer: Name,
    /// A word for what became of it.
    pub(super) outcome: &'static str,
}

pub(super) async fn deliver(
    State(app): State<Arc<App>>,
    Named(tenant, address): Named,
    Extension(turnstile): Extension<Arc<Turnstile>>,
    Path((_, issuer)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let loaded = tenant.loaded();
    let issuer: Option<Name> = issuer.parse().ok();
    // An issuer without webhooks is as if it were not there.
    let issuer = issuer
        .and_then(|name| loaded.declared.issuers.get(&name))
        .filter(|issuer| !issuer.webhooks.is_empty());
    let Some(issuer) = issuer else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let taking = Taking {
        app: &app,
        tenant: &tenant,
        issuer,
        turnstile: &turnstile,
        address,
        headers: &headers,
    };
    let (mut response, outcome) = taking.take(body).await;
    response.extensions_mut().insert(Delivered {
        tenant: tenant.name().clone(),
        issuer: issuer.name.clone(),
        outcome,
    });
    response
}

/// A delivery to a declared issuer, and what judges it.
struct Taking<'a> {
    app: &'a App,
    tenant: &'a Tenant,
    issuer: &'a Issuer,
    turnstile: &'a Turnstile,
    address: Option<IpAddr>,
    headers: &'a HeaderMap,
}

impl Taking<'_> {
    async fn take(&self, body: Body) -> (Response, &'static str) {
        let Self {
            app,
            tenant,
            issuer,
            headers,
            ..
        } = *self;
        if !is_json(headers) {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return (status.into_response(), "unread");
        }
        let header = |name| only(headers, name);
        // Nothing is read of what cannot be proven, whatever it is.
        let proven = match check_header(issuer, &header) {
            Ok(proven) => proven,
            Err(refusal) => return (self.unproven(refusal), "unproven"),
        };
        let most = app.bounds().request_bytes;
        let most = most.saturating_mul(times_larger(issuer.kind));
        let body = match self
            .turnstile
            .read(self.address, body, (most, weight(issuer.kind, proven)))
            .await
        {
            Ok(body) => body,
            Err(status) => return (status.into_response(), "unread"),
        };
        let delivery = Delivery {
            header: &header,
            body: &body,
        };
        let trail = self.trail();
        let webhook = match verify(issuer, delivery, app.now()) {
            Ok(webhook) => webhook,
            Err(refusal) if refusal.rule == Rule::Authentication => {
                return (self.unproven(refusal), "unproven");
            }
            Err(refusal) => {
                let refused = app.refused(tenant, &trail, refusal);
                return (answered(app, &refused), "malformed");
            }
        };
        match app.upstream(tenant, issuer, &webhook, &trail).await {
            Ok(Heard::Ignored) => (StatusCode::NO_CONTENT.into_response(), "ignored"),
            Ok(Heard::Nothing) => (StatusCode::NO_CONTENT.into_response(), "nothing"),
            Ok(Heard::Ended { over, recorded }) => {
                let said = json!({ "tasks": over.tasks, "clients": over.clients });
                let (status, said) = of_end(said, recorded);
                (json_response(status, said.to_string()), "ended")
            }
            Err(refused) => (answered(app, &refused), "refused"),
        }
    }

    fn trail(&self) -> Trail {
        Trail {
            asked: "webhook",
            address: self.address,
            issuer: Some(self.issuer.name.clone()),
            ..Trail::default()
        }
    }

    /// Whoever proves nothing is told nothing; `dayfly why` tells the operator, a few times a minute.
    fn unproven(&self, refusal: Refusal) -> Response {
        let now = self.app.now();
        let (tenant, issuer) = (self.tenant.name(), &self.issuer.name);
        if let Err(wait) = self.turnstile.unproven(tenant, issuer, now) {
            let seconds = HeaderValue::from(wait.millis().div_ceil(1000).max(1));
            let after = [(header::RETRY_AFTER, seconds)];
            return (StatusCode::TOO_MANY_REQUESTS, after).into_response();
        }
        let refused = self.app.refused(self.tenant, &self.trail(), refusal);
        let mut response = StatusCode::UNAUTHORIZED.into_response();
        response.extensions_mut().insert(Said {
            rule: refused.refusal.rule,
            known: false,
        });
        response
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media = only(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// The value of a header that stands once and is text.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(first)
}

/// A refusal of somebody who is known to be the issuer.
fn answered(app: &App, refused: &Refused) -> Response {
    let mut response = render(refused, Face::Webhook, &app.nonce());
    response.extensions_mut().insert(Said {
        rule: refused.refusal.rule,
        known: true,
    });
    response
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::HttpBody;

    use super::*;

    /// A body that never comes.
    struct Never;

    impl HttpBody for Never {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_that_nothing_proves_yet_takes_the_places_of_four() {
        let kind = IssuerKind::Gitlab;
        assert_eq!(weight(kind, Proven::Already), 1);
        assert_eq!(weight(IssuerKind::Github, Proven::WithBody), 1);
        let heavy = weight(kind, Proven::WithBody);
        let turnstile = Arc::new(Turnstile::default());
        for _ in 0..READ_AT_ONCE {
            let turnstile = Arc::clone(&turnstile);
            tokio::spawn(async move { turnstile.read(None, Body::new(Never), (100, heavy)).await });
        }
        tokio::task::yield_now().await;
        let places = turnstile.of_one(None);
        assert_eq!(places.available_permits(), READ_OF_ONE % 4);
        assert_eq!(
            turnstile.all.available_permits(),
            READ_AT_ONCE - READ_OF_ONE
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_holds_a_few_of_the_places() {
        let turnstile = Arc::new(Turnstile::default());
        let slow: Option<IpAddr> = Some("192.0.2.1".parse().unwrap());
        for _ in 0..2 * READ_AT_ONCE {
            let turnstile = Arc::clone(&turnstile);
            tokio::spawn(async move { turnstile.read(slow, Body::new(Never), (100, 1)).await });
        }
        tokio::task::yield_now().await;
        assert_eq!(
            turnstile.all.available_permits(),
            READ_AT_ONCE - READ_OF_ONE
        );
        for other in [None, Some("192.0.2.2".parse().unwrap())] {
            let within = std::time::Duration::from_secs(5);
            let read = turnstile.read(other, Body::from("{}"), (100, 1));
            let read = tokio::time::timeout(within, read).await.unwrap();
            assert_eq!(read.unwrap(), "{}");
        }
    }
}
