//! What is counted of a running server, and the one seam where each thing is counted: requests in a
//! layer of the router, events in front of the store, connections at the door.
//!
//! Labels come from lists in the code, never from a request, so there are as many series as the code
//! and the declared state name. The audit trail is the ledger, not these numbers.

mod metered;
mod pods;

use std::sync::Arc;
use std::time::Duration;

use dayfly_domain::{Name, Rule};
use dayfly_store::{FactsQuery, Unavailable};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::app::{self, App};
use crate::record;

pub use metered::MeteredStore;

/// How long things take here, in seconds: a commit and a grant lie between 1 and 50 ms.
const SECONDS: [f64; 11] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Route, Histogram>,
    refusals: Family<Refusal, Counter>,
    entries: Family<Entry, Counter>,
    ends: Family<End, Counter>,
    appends: Family<Append, Histogram>,
    connections: Gauge,
    turned_away: Counter,
    cut: Family<Cut, Counter>,
    sent: Family<Sent, Counter>,
    webhooks: Family<Webhook, Counter>,
    signals: Family<Signal, Counter>,
    asked: Family<Signal, Counter>,
    open_tasks: Family<Tenant, Gauge>,
    ledger: Family<Tenant, Gauge>,
    findings: Family<Found, Gauge>,
    key_age: Family<Key, Gauge>,
    issuer_keys_age: Family<Origin, Gauge>,
    issuer_keys_failing: Family<Origin, Gauge>,
    token_reviews: Family<Reviewed, Counter>,
    token_reviews_failing: Family<Origin, Gauge>,
    watched_pods: Family<OfIssuer, Gauge>,
    pods_turned_away: Family<OfIssuer, Counter>,
    unasked_tasks: Family<OfIssuer, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    stage: &'static str,
    rule: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Entry {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Append {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cut {
    phase: &'static str,
}

/// A sink by its place in `dayfly.toml`, like `notify[0]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    sink: String,
    outcome: &'static str,
}

/// A webhook of a declared issuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Webhook {
    tenant: String,
    issuer: String,
    outcome: &'static str,
}

/// An event of a declared transmitter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Signal {
    tenant: String,
    transmitter: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tenant {
    tenant: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Found {
    tenant: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Key {
    tenant: String,
    r#use: String,
    kid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Origin {
    origin: String,
}

/// A cluster that is asked, and what it said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reviewed {
    origin: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfIssuer {
    tenant: String,
    issuer: String,
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("dayfly"),
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            refusals: Family::default(),
            entries: Family::default(),
            ends: Family::default(),
            appends: Family::new_with_constructor(histogram),
            connections: Gauge::default(),
            turned_away: Counter::default(),
            cut: Family::default(),
            sent: Family::default(),
            webhooks: Family::default(),
            signals: Family::default(),
            asked: Family::default(),
            open_tasks: Family::default(),
            ledger: Family::default(),
            findings: Family::default(),
            key_age: Family::default(),
            issuer_keys_age: Family::default(),
            issuer_keys_failing: Family::default(),
            token_reviews: Family::default(),
            token_reviews_failing: Family::default(),
            watched_pods: Family::default(),
            pods_turned_away: Family::default(),
            unasked_tasks: Family::default(),
        };
        metrics.register_counts();
        metrics.register_states();
        metrics
    }
}

impl Metrics {
    fn register_counts(&mut self) {
        let registry = &mut self.registry;
        let seconds = Unit::Seconds;
        registry.register(
            "requests",
            "Requests by route and status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "How long requests took, by route",
            seconds.clone(),
            self.durations.clone(),
        );
        registry.register("refusals", "Refusals by rule", self.refusals.clone());
        registry.register(
            "entries",
            "Entries recorded since the start, by kind; credential.issued are the grants",
            self.entries.clone(),
        );
        registry.register(
            "ends",
            "Ends of tasks and clients, by cause",
            self.ends.clone(),
        );
        registry.register_with_unit(
            "append_duration",
            "How long appends took from queueing to durable, by outcome",
            seconds,
            self.appends.clone(),
        );
        registry.register(
            "connections_turned_away",
            "Connections closed because their address had as many as it may",
            self.turned_away.clone(),
        );
        registry.register(
            "connections_cut",
            "Connections cut because the caller was slow, by what it was slow at",
            self.cut.clone(),
        );
        registry.register(
            "sink_requests",
            "Requests to the sinks of heads and notify, by outcome",
            self.sent.clone(),
        );
        registry.register(
            "webhooks",
            "Webhooks by issuer and what became of them: unproven are those without a good signature",
            self.webhooks.clone(),
        );
        registry.register(
            "signals",
            "Security events by transmitter and what became of them: over ended what a person authenticated for",
            self.signals.clone(),
        );
        registry.register(
            "signal_polls",
            "Rounds of requests to transmitters whose events are fetched, by outcome",
            self.asked.clone(),
        );
        registry.register(
            "token_reviews",
            "Questions to a cluster about a token, at proofs and while a task is open, by what it said",
            self.token_reviews.clone(),
        );
        registry.register(
            "pods_turned_away",
            "Tokens of pods for which there was no room, so that nobody asks about these pods by them",
            self.pods_turned_away.clone(),
        );
    }

    fn register_states(&mut self) {
        let registry = &mut self.registry;
        registry.register("connections", "Connections now", self.connections.clone());
        registry.register("open_tasks", "Open tasks", self.open_tasks.clone());
        registry.register(
            "ledger_entries",
            "Entries of the ledger",
            self.ledger.clone(),
        );
        registry.register(
            "findings",
            "Open findings, by kind; `dayfly findings` says what they are",
            self.findings.clone(),
        );
        registry.register_with_unit(
            "key_age",
            "Age of the keys that sign",
            Unit::Seconds,
            self.key_age.clone(),
        );
        registry.register_with_unit(
            "issuer_keys_age",
            "How long ago an issuer's keys were read",
            Unit::Seconds,
            self.issuer_keys_age.clone(),
        );
        registry.register(
            "issuer_keys_failing",
            "1 where the last attempt to read an issuer's keys failed",
            self.issuer_keys_failing.clone(),
        );
        registry.register(
            "token_reviews_failing",
            "1 where the last question to a cluster about a token was not answered",
            self.token_reviews_failing.clone(),
        );
        registry.register(
            "watched_pods",
            "Pods with something open, about which their cluster is asked again and again",
            self.watched_pods.clone(),
        );
        registry.register(
            "unasked_tasks",
            "Open tasks of an issuer whose cluster is asked, of whose pods no token is at hand to ask by",
            self.unasked_tasks.clone(),
        );
    }

    /// A request was answered.
    pub(crate) fn answered(&self, route: &str, status: u16, took: Duration) {
        let route = route.to_owned();
        let answered = Answered {
            route: route.clone(),
            status,
        };
        self.requests.get_or_create(&answered).inc();
        self.durations
            .get_or_create(&Route { route })
            .observe(took.as_secs_f64());
    }

    /// A rule refused.
    pub(crate) fn refused(&self, rule: Rule) {
        let refusal = Refusal {
            stage: rule.stage().code(),
            rule: rule.code(),
        };
        self.refusals.get_or_create(&refusal).inc();
    }

    /// A connection came, and is there until the guard is dropped.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        self.connections.inc();
        Connected(Arc::clone(self))
    }

    /// A connection was closed because its address had as many as it may.
    pub(crate) fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// A slow connection was cut.
    pub(crate) fn cut(&self, phase: &'static str) {
        self.cut.get_or_create(&Cut { phase }).inc();
    }

    /// A sink took what was sent to it, or did not.
    pub(crate) fn sent(&self, sink: &str, taken: bool) {
        let sink = sink.to_owned();
        let outcome = if taken { "delivered" } else { "failed" };
        self.sent.get_or_create(&Sent { sink, outcome }).inc();
    }

    /// A webhook came to a declared issuer that has some.
    pub(crate) fn heard(&self, tenant: &Name, issuer: &Name, outcome: &'static str) {
        let webhook = Webhook {
            tenant: tenant.to_string(),
            issuer: issuer.to_string(),
            outcome,
        };
        self.webhooks.get_or_create(&webhook).inc();
    }

    /// A transmitter was asked for events.
    pub(crate) fn asked(&self, tenant: &Name, transmitter: &Name, outcome: &'static str) {
        let asked = Signal {
            tenant: tenant.to_string(),
            transmitter: transmitter.to_string(),
            outcome,
        };
        self.asked.get_or_create(&asked).inc();
    }

    /// An event of a declared transmitter came, or was fetched.
    pub(crate) fn signalled(&self, tenant: &Name, transmitter: &Name, outcome: &'static str) {
        let signal = Signal {
            tenant: tenant.to_string(),
            transmitter: transmitter.to_string(),
            outcome,
        };
        self.signals.get_or_create(&signal).inc();
    }

    /// All of it in Prometheus' text format, with what the record says now.
    ///
    /// # Errors
    /// Only where text cannot be written.
    pub fn render(&self, app: &App) -> Result<String, std::fmt::Error> {
        self.look(app);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Reads what is a state and not a count. What cannot be read keeps no value from before.
    fn look(&self, app: &App) {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let now = app.now();
        self.open_tasks.clear();
        self.ledger.clear();
        self.findings.clear();
        self.key_age.clear();
        self.issuer_keys_age.clear();
        self.issuer_keys_failing.clear();
        self.look_at_pods(app);
        for tenant in app.tenants() {
            let label = Tenant {
                tenant: tenant.name().to_string(),
            };
            if let Ok(open) = open_tasks(app, tenant) {
                self.open_tasks.get_or_create(&label).set(count(open));
            }
            if let Ok(head) = app.store().head(tenant.name()) {
                self.ledger.get_or_create(&label).set(count(head.size));
            }
            let found = record::findings(app.store(), tenant.name(), false);
            for view in found.unwrap_or_default().findings {
                let label = Found {
                    tenant: tenant.name().to_string(),
                    kind: view.what.kind(),
                };
                self.findings.get_or_create(&label).inc();
            }
            for key in record::keys(app.store(), tenant.name()).unwrap_or_default() {
                let age = now.since(key.created).seconds();
                let label = Key {
                    tenant: tenant.name().to_string(),
                    r#use: key.r#use.word().to_owned(),
                    kid: key.kid,
                };
                self.key_age.get_or_create(&label).set(count(age));
            }
            for status in tenant.issuer_keys() {
                let label = Origin {
                    origin: status.origin,
                };
                let failing = i64::from(status.failure.is_some());
                self.issuer_keys_failing.get_or_create(&label).set(failing);
                if let Some(read) = status.read_at {
                    let age = now.since(read).seconds();
                    self.issuer_keys_age.get_or_create(&label).set(count(age));
                }
            }
        }
    }
}

/// How many tasks of the declared workloads are open.
fn open_tasks(app: &App, tenant: &app::Tenant) -> Result<u64, Unavailable> {
    let mut open = 0;
    for workload in tenant.loaded().declared.workloads.keys() {
        let query = FactsQuery {
            counts: Some(workload),
            ..FactsQuery::default()
        };
        open += app.store().facts(tenant.name(), &query)?.counts.open;
    }
    Ok(open)
}

/// A connection that is there.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Metrics>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}
