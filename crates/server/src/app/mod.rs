//! The use cases: load, decide, append, mint, each in one file, and the state they share.

mod acceptance;
mod actor;
mod approve;
mod authenticate;
mod bearer;
mod beat;
mod child;
mod closing;
mod contain;
mod cut;
mod declare;
mod deferral;
mod delegate;
mod end;
mod ending;
mod erase;
mod foreseen;
mod grant;
mod heads;
mod held;
mod instance;
mod introspect;
mod keys;
mod matching;
mod moved;
mod narrow;
mod operate;
mod operator;
mod permit;
mod plan;
mod pods;
mod polls;
mod pulse;
mod rates;
mod ready;
mod recall;
mod redeem;
mod refuse;
mod regrant;
mod renew;
mod replay;
mod retain;
mod review;
mod revisions;
mod revoke;
mod show;
mod signal;
mod sinks;
mod sought;
mod space;
mod subject;
mod survey;
mod sweep;
mod tally;
mod tenant;
mod turns;
mod upstream;
mod used;
mod uses;

use std::collections::BTreeMap;
use std::sync::Arc;

use dayfly_domain::{Bounds, Name, Time};
use dayfly_store::Store;
use dayfly_store::clock::Clock;

use crate::finding::Watched;
use crate::restore::HandedOut;
use crate::transmitters::Outages;

pub use acceptance::Parting;
pub use actor::Actor;
pub use approve::Approved;
pub use authenticate::{Presented, Proven};
pub use bearer::{SUBJECT, Shown};
pub use beat::Beaten;
pub use closing::Over;
pub use contain::{Contained, Containment, Stop};
pub use cut::{Blocking, InstanceEnded};
pub use declare::{Applied, ApplyError, ApplyRequest};
pub use deferral::{CODE, Deferred, POLL};
pub use delegate::DelegateRequest;
pub use end::{End, Ended};
pub use erase::{Erased, Erasure};
pub use foreseen::WouldEnd;
pub use grant::{GrantRequest, Granted, Opened};
pub use heads::HeadError;
pub use held::{Backlog, JOURNAL, JOURNAL_BYTES, Journal, JournalError, ObeyingStore, WORDS};
pub use instance::InstanceOf;
pub use introspect::ResourceCaller;
pub use keys::{GivenUp, Rotated};
pub(crate) use moved::restored_moves;
pub use narrow::NarrowRequest;
pub use redeem::{Polled, RedeemRequest};
pub use refuse::{Explained, Refused, SubjectNames, Trail};
pub use regrant::LostTask;
pub use renew::RenewRequest;
pub use replay::KeyProof;
pub use retain::Retention;
pub use review::SignedOff;
pub use signal::Signalled;
pub use sinks::HeadSinks;
pub use subject::SubjectRequest;
pub use tenant::{Loaded, OpenError, Tenant, TenantSetup, check_overlaps};
pub use upstream::Heard;
pub use uses::{Decided, Denial, Until, UseQuestion, UseQuestions};

/// Bounds of a server that are not the domain's.
#[derive(Clone, Copy, Debug)]
pub struct ServerBounds {
    /// What the domain enforces.
    pub domain: Bounds,
    /// Most bytes of a token that is issued.
    pub token_bytes: usize,
    /// Most bytes of a leaf, which the store enforces.
    pub leaf_bytes: usize,
    /// Most bytes of a request's body.
    pub request_bytes: usize,
}

/// A running control plane.
pub struct App {
    /// What every use case reads from and appends to: the one in `held`.
    store: Arc<dyn Store>,
    held: Arc<ObeyingStore>,
    clock: Arc<dyn Clock>,
    bounds: ServerBounds,
    tenants: BTreeMap<Name, Arc<Tenant>>,
    nonces: replay::Nonces,
    proofs_beyond: replay::Beyond,
    refusals: refuse::Refusals,
    sweeps: sweep::SweepState,
    recording: ready::Recording,
    space: space::Space,
    turns: turns::Turns,
    claims: permit::KnownClaims,
    grants: used::KnownGrants,
    head_sinks: HeadSinks,
    /// Where people operate the server; none where nobody is told.
    admin_url: Option<String>,
    /// Where the last head of each ledger is kept; none where nothing is kept of them.
    handed_out: Option<Arc<HandedOut>>,
    rates: rates::Rates,
    /// Which pods were asked about in vain.
    unanswered: pods::Unanswered,
    /// About which pods their clusters are asked now.
    asked_about: pods::OneEach,
    surveys: survey::Surveys,
    /// Which transmitters cannot be asked for events.
    pub(crate) outages: Outages,
    /// One tenant's state comes into force at a time: none may accept what another accepts.
    activating: tokio::sync::Mutex<()>,
    /// Histories of tasks that are being read: one for each core at most.
    replays: Arc<tokio::sync::Semaphore>,
}

impl App {
    /// Puts a control plane together over a store that is open and tenants that are loaded.
    ///
    /// # Errors
    /// [`crate::NoRandomness`] when no nonce secret can be drawn.
    pub fn new(
        store: Arc<ObeyingStore>,
        clock: Arc<dyn Clock>,
        bounds: ServerBounds,
        tenants: Vec<Tenant>,
        head_sinks: HeadSinks,
    ) -> Result<Self, crate::random::NoRandomness> {
        let nonces = replay::Nonces::drawn(clock.now())?;
        for tenant in &tenants {
            let watched = Watched::of(&tenant.loaded().declared);
            store.tally().watch(tenant.name(), watched);
        }
        Ok(Self {
            held: Arc::clone(&store),
            store,
            clock,
            bounds,
            tenants: tenants
                .into_iter()
                .map(|tenant| (tenant.name().clone(), Arc::new(tenant)))
                .collect(),
            nonces,
            proofs_beyond: replay::Beyond::default(),
            refusals: refuse::Refusals::default(),
            sweeps: sweep::SweepState::default(),
            recording: ready::Recording::default(),
            space: space::Space::default(),
            turns: turns::Turns::default(),
            claims: permit::KnownClaims::default(),
            grants: used::KnownGrants::default(),
            head_sinks,
            admin_url: None,
            handed_out: None,
            rates: rates::Rates::default(),
            unanswered: pods::Unanswered::default(),
            asked_about: pods::OneEach::default(),
            surveys: survey::Surveys::default(),
            outages: Outages::default(),
            activating: tokio::sync::Mutex::default(),
            replays: Arc::new(tokio::sync::Semaphore::new(
                std::thread::available_parallelism().map_or(1, Into::into),
            )),
        })
    }

    /// The same, which keeps each head in this file before it hands it out.
    #[must_use]
    pub fn keeping_heads(mut self, handed_out: HandedOut) -> Self {
        self.handed_out = Some(Arc::new(handed_out));
        self
    }

    /// The same, which tells whoever waits for people where these operate it.
    #[must_use]
    pub fn operated_at(mut self, admin_url: Option<String>) -> Self {
        self.admin_url = admin_url;
        self
    }

    /// Where people operate it; none where nobody is told.
    #[must_use]
    pub fn admin_url(&self) -> Option<&str> {
        self.admin_url.as_deref()
    }

    /// The tenant of this name.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Option<&Arc<Tenant>> {
        let name: Name = name.parse().ok()?;
        self.tenants.get(&name)
    }

    /// Where heads go.
    pub(crate) const fn head_sinks(&self) -> &HeadSinks {
        &self.head_sinks
    }

    /// All tenants, in order of their names.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Now, by the store's clock.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The time by which an end by hand is decided: the earlier one after a jump that has not settled.
    /// By a clock that is ahead everything may be over already, and would be open again once it is
    /// right.
    fn now_for_ends(&self) -> Time {
        let now = self.now();
        self.held.jump().map_or(now, |jump| now.min(jump.before))
    }

    /// The bounds in force.
    #[must_use]
    pub const fn bounds(&self) -> &ServerBounds {
        &self.bounds
    }

    /// The nonce that DPoP proofs may carry now (RFC 9449, section 8).
    #[must_use]
    pub fn nonce(&self) -> String {
        self.nonces.current(self.now())
    }
}
