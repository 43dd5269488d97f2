//! Requests that wait for people: how their clients ask on, take back, and fetch.

use dayfly_domain::{ClientId, Span, TaskId, Time};
use dayfly_server::app::{Deferred, KeyProof, POLL, Polled, RedeemRequest, Refused};

use crate::caller::{Caller, Client, at_token, proof, trail};
use crate::world::World;

/// How much slower a client gets by each poll that comes too early, and how early is no matter.
const SLOWER: Span = Span::from_seconds(5);
const EARLY: Span = Span::from_seconds(1);

/// A request that was taken down.
#[derive(Clone)]
pub(crate) struct Waiting {
    pub(crate) caller: Caller,
    pub(crate) task: TaskId,
    code: String,
}

/// How often a client may ask on: at once, then every five seconds, and five more for each poll that
/// came too early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    last: Option<Time>,
    interval: Span,
}

impl Waiting {
    pub(crate) fn new(caller: &Caller, deferred: &Deferred) -> Self {
        Self {
            caller: caller.clone(),
            task: deferred.task,
            code: deferred.code.clone(),
        }
    }

    /// Whether this is the answer that it got at first.
    pub(crate) fn is_same(&self, deferred: &Deferred) -> bool {
        (self.task, self.code.as_str()) == (deferred.task, deferred.code.as_str())
    }

    /// The first client of its task, which it is once it has fetched.
    pub(crate) const fn client(&self) -> Client {
        Client {
            key: self.caller.key,
            id: ClientId {
                task: self.task,
                number: 1,
            },
        }
    }

    /// Asks whether it was approved.
    pub(crate) async fn poll(&self, world: &World) -> Result<Polled, Refused> {
        let header = proof(world, self.caller.key.unwrap(), "POST", "/token", None);
        let request = RedeemRequest {
            code: &self.code,
            workload: None,
            key_proof: Some(at_token(&header)),
        };
        let (app, tenant) = (&world.app, &world.tenant);
        app.redeem(tenant, &request, &mut trail("token")).await
    }

    /// Takes the request back.
    pub(crate) async fn take_back(&self, world: &World) -> Result<bool, Refused> {
        let header = proof(world, self.caller.key.unwrap(), "POST", "/revoke", None);
        let key_proof = KeyProof {
            header: &header,
            method: "POST",
            path: "/revoke",
        };
        let (app, tenant) = (&world.app, &world.tenant);
        let trail = &mut trail("revoke");
        app.revoke(tenant, &self.code, None, Some(&key_proof), trail)
            .await
    }
}

impl Pace {
    /// Of a client that has not asked yet.
    pub(crate) const fn new() -> Self {
        Self {
            last: None,
            interval: POLL,
        }
    }

    /// How long it has to wait.
    pub(crate) fn rest(&self, now: Time) -> Span {
        let due = self.last.map_or(now, |last| last + self.interval);
        due.since(now)
    }

    /// It asks; whether that is too early.
    pub(crate) fn is_early(&mut self, now: Time) -> bool {
        let waited = self.last.map(|last| now.since(last));
        self.last = Some(now);
        let early = waited.is_some_and(|waited| waited + EARLY < self.interval);
        if early {
            self.interval = self.interval + SLOWER;
        }
        early
    }
}
