//! How often one address may ask, judged before anything of a request is verified.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dayfly_domain::{Refusal, Rule, Span};

use super::answer::{Face, Live, Said, render};
use super::door::{Caller, neighbourhood};
use super::signal::Received;
use super::tenant_of;
use super::webhook::Delivered;
use crate::app::{App, Refused, Trail};
use crate::config::{AddressRates, Rate};
use crate::rate::Buckets;

/// How often a refusal of one address is explained; the others are a status alone.
const EXPLAINED: Rate = Rate::per_minute(6);

/// Who asked how often of late, by address.
pub(super) struct Addresses {
    app: Arc<App>,
    rates: AddressRates,
    unverified: Buckets<IpAddr>,
    all: Buckets<IpAddr>,
    explained: Buckets<IpAddr>,
}

impl Addresses {
    pub(super) fn new(app: Arc<App>, rates: AddressRates) -> Self {
        Self {
            app,
            rates,
            unverified: Buckets::default(),
            all: Buckets::default(),
            explained: Buckets::default(),
        }
    }

    /// Whether a request may be looked at; all requests are charged here.
    fn admit(&self, address: IpAddr) -> Result<(), (&'static str, Rate, Span)> {
        let now = self.app.now();
        let unverified = self.rates.unverified;
        self.unverified
            .check(&address, unverified, now)
            .map_err(|wait| ("rate.unverified", unverified, wait))?;
        match self.rates.address {
            None => Ok(()),
            Some(rate) => self
                .all
                .take(address, rate, now)
                .map_err(|wait| ("rate.address", rate, wait)),
        }
    }

    /// Charges what proved nothing.
    fn settle(&self, address: IpAddr, request: &Asked, response: &Response) {
        if !request.verified(response) {
            let now = self.app.now();
            // One that is over its rate meanwhile is refused the next time.
            let _over = self.unverified.take(address, self.rates.unverified, now);
        }
    }

    fn refuse(&self, address: IpAddr, path: &str, over: (&'static str, Rate, Span)) -> Response {
        let (field, rate, wait) = over;
        // A flood is explained a few times a minute: neither log nor ring is filled by it.
        let of = neighbourhood(address);
        let explain = self.explained.take(of, EXPLAINED, self.app.now()).is_ok();
        let Some(tenant) = self.app.tenant(tenant_of(path)).filter(|_| explain) else {
            let seconds = HeaderValue::from(wait.millis().div_ceil(1000).max(1));
            return (
                StatusCode::TOO_MANY_REQUESTS,
                [(header::RETRY_AFTER, seconds)],
            )
                .into_response();
        };
        let trail = Trail {
            asked: "request",
            address: Some(address),
            ..Trail::default()
        };
        let refusal = Refusal::new(Rule::AddressRate)
            .field(field)
            .wanted(format!("at most {rate} of one address"))
            .got("more")
            .hint(format!("the same request passes in {wait}"))
            .retry_after(wait);
        let refused: Refused = self.app.refused(tenant, &trail, refusal);
        render(&refused, Face::Renewal, &self.app.nonce())
    }
}

/// What matters of a request when its answer is judged.
struct Asked {
    /// Its path asks for no proof, or is answered the same whether one holds or not.
    open: bool,
}

impl Asked {
    fn of(path: &str) -> Self {
        let below = path.strip_prefix('/').and_then(|rest| rest.split_once('/'));
        let guarded = below.is_some_and(|(_, rest)| {
            matches!(
                rest,
                "token" | "introspect" | "access/v1/evaluation" | "access/v1/evaluations"
            ) || rest.starts_with("tasks/")
                || rest.starts_with("clients/")
        });
        Self { open: !guarded }
    }

    /// Whether the caller has proven who it is, by what it was answered.
    fn verified(&self, response: &Response) -> bool {
        if response.extensions().get::<Live>().is_some() {
            return true;
        }
        match response.extensions().get::<Said>() {
            None => !self.open && response.status().is_success(),
            // A proof that was spent already proves no more who shows it, nor does one that its
            // cluster does not vouch for. Where that cannot be asked nobody knows, and all pods behind
            // one address, whose beats come from there too, would be refused for it.
            Some(said)
                if matches!(
                    said.rule,
                    Rule::ProofSpent | Rule::RetryOtherKey | Rule::TokenReview
                ) =>
            {
                false
            }
            // Whoever is asked for a nonce holds a live credential or a good proof: after a start all
            // clients are, once, and none of them may be kept from its beat by that.
            Some(said) => {
                said.known
                    || said.rule == Rule::KeyProofNonce
                    || response.status().is_server_error()
            }
        }
    }
}

/// Whether a path is that of an issuer's webhooks or a transmitter's events.
fn is_webhook(path: &str) -> bool {
    let below = path.strip_prefix('/').and_then(|rest| rest.split_once('/'));
    below.is_some_and(|(_, rest)| rest.starts_with("webhooks/") || rest.starts_with("signals/"))
}

/// The layer.
pub(super) async fn limit(
    State(addresses): State<Arc<Addresses>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(Caller { address, .. }) = request.extensions().get::<Caller>().copied() else {
        // Without an address there is nobody to count; the door names one for every request.
        return next.run(request).await;
    };
    let of = neighbourhood(address);
    // Platforms send for all their customers from the same addresses: what others of these cannot
    // prove must keep no webhook out, and an issuer's own are counted where they are verified.
    if is_webhook(request.uri().path()) {
        let response = next.run(request).await;
        // A name that no issuer with webhooks has is a guess like any other.
        let extensions = response.extensions();
        if extensions.get::<Delivered>().is_none() && extensions.get::<Received>().is_none() {
            addresses.settle(of, &Asked { open: true }, &response);
        }
        return response;
    }
    if let Err(over) = addresses.admit(of) {
        return addresses.refuse(address, request.uri().path(), over);
    }
    let asked = Asked::of(request.uri().path());
    let response = next.run(request).await;
    addresses.settle(of, &asked, &response);
    response
}
