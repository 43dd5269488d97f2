//! Pods whose tokens were shown: their cluster is asked about each of them again and again, and what a pod has open ends when it is gone (docs/decisions/0037).

mod kept;
mod one;
mod told;
mod turn;
mod vouch;

use std::sync::Arc;

use dayfly_domain::{Refusal, Rule, Span, TaskId};
use dayfly_store::FactsQuery;
use tokio::task::JoinHandle;

use super::grant::Verified;
use super::upstream::Heard;
use super::{App, Tenant};
use crate::verify::webhook;
use kept::Fall;
use turn::{Asking, Turn};

pub(crate) use kept::Pods;
pub(super) use one::OneEach;
pub(super) use vouch::{For, Unanswered};

/// How long nobody is asked after a few questions that were not answered.
const REST: Span = Span::from_seconds(5);

/// What came of a turn.
enum Done {
    /// The pod is there, as far as anybody says.
    Stands,
    /// Something of it has ended.
    Ended,
    /// Its token was dropped: nothing of it is open, or nothing can be said by it.
    Dropped,
    /// Nobody knows.
    Unasked,
}

impl App {
    /// Asks the clusters about the pods whose turn it is, a few of each issuer at a time, and ends what
    /// is open of those that are gone. Each handle is one who asks, and gives the number of pods that
    /// were; nobody has to wait for it.
    pub fn review_pods(self: &Arc<Self>) -> Vec<JoinHandle<u64>> {
        // A clock that is not steady cannot tell an expired token from one of a pod that is gone.
        if self.held.jump().is_some() {
            return Vec::new();
        }
        let due = self.held.pods().begin(self.now()).into_iter();
        due.map(|asking| tokio::spawn(Arc::clone(self).review_turns(asking)))
            .collect()
    }

    async fn review_turns(self: Arc<Self>, asking: Asking) -> u64 {
        let mut ended = 0;
        while let Some(turn) = self.next_turn(&asking) {
            match self.review_pod(&asking, &turn).await {
                Done::Stands | Done::Dropped => {}
                Done::Ended => ended += 1,
                Done::Unasked => asking.failed(self.now() + REST),
            }
        }
        ended
    }

    /// The pod whose turn it is, by a clock that is steady: by one that is ahead it is everybody's.
    fn next_turn(&self, asking: &Asking) -> Option<Turn> {
        let now = self.now();
        if self.held.jump().is_some() {
            return None;
        }
        asking.next(now)
    }

    async fn review_pod(&self, asking: &Asking, turn: &Turn) -> Done {
        let (tenant, issuer) = &asking.of;
        let tenant = self.tenants.get(tenant);
        let loaded = tenant.map(|tenant| (tenant, tenant.loaded()));
        let asked = loaded.as_ref().and_then(|(tenant, loaded)| {
            let reviewer = loaded.verifier.reviewer(issuer)?;
            Some((*tenant, Arc::clone(reviewer)))
        });
        let Some((tenant, reviewer)) = asked else {
            asking.forget_all();
            return Done::Dropped;
        };
        let now = self.now();
        if self.held.jump().is_some() {
            return Done::Stands;
        }
        if turn.token.may_have_expired(now) {
            asking.forget(turn);
            return Done::Dropped;
        }
        let over = self.over_among(tenant, &turn.tasks).await;
        asking.ended(turn, &over);
        if !asking.is_current(turn) {
            return Done::Dropped;
        }
        let answer = reviewer.ask_again(&turn.token, self.now()).await;
        let next = self.now() + reviewer.every();
        if self.held.jump().is_some() {
            // Neither what was said nor when it is asked again goes by this clock: its turn is what
            // it was.
            return Done::Stands;
        }
        match answer {
            Ok(()) => asking.stands(turn, next),
            Err(refusal) if refusal.rule == Rule::TokenReviewUnavailable => {
                asking.put_off(turn, next);
                return Done::Unasked;
            }
            // One that never vouched for any token, as it is asked now, may be another cluster.
            Err(_) if !reviewer.has_vouched() => asking.put_off(turn, next),
            Err(refusal) => {
                if self.is_doubted(asking, turn, reviewer.every()) {
                    return self.fell(asking, turn, tenant, &refusal).await;
                }
            }
        }
        Done::Stands
    }

    /// Whether a no counts: it is the second, some seconds after the first, and not one of many. Of
    /// a token that came meanwhile it says nothing, and that is asked about at once.
    fn is_doubted(&self, asking: &Asking, turn: &Turn, every: Span) -> bool {
        if !asking.is_current(turn) {
            return false;
        }
        let now = self.now();
        if turn.token.may_have_expired(now) {
            return true;
        }
        match asking.falls(turn, now, every) {
            Fall::Gone => true,
            Fall::Again => false,
            Fall::Held => {
                let (tenant, issuer) = &asking.of;
                tracing::warn!(%tenant, %issuer, "more than a fifth of the pods fall at once: none ends by it for a while");
                false
            }
        }
    }

    /// A cluster does not vouch for a token any more. Where another one of its pod came meanwhile,
    /// or the token may have expired by itself, that says nothing about the pod.
    async fn fell(
        &self,
        asking: &Asking,
        turn: &Turn,
        tenant: &Arc<Tenant>,
        refusal: &Refusal,
    ) -> Done {
        if !asking.is_current(turn) {
            return Done::Stands;
        }
        let now = self.now();
        if self.held.jump().is_some() {
            return Done::Stands;
        }
        if turn.token.may_have_expired(now) {
            asking.forget(turn);
            return Done::Dropped;
        }
        let issuer = turn.token.issuer();
        let over = webhook::Over {
            claims: (**turn.token.claims()).clone(),
            job: None,
            jobs: Vec::new(),
            said: format!(
                "TokenReview of pod {}: {} is {}",
                turn.token.pod(),
                refusal.field,
                refusal.got
            ),
        };
        let ended = match tenant.loaded().declared.issuers.get(issuer) {
            Some(declared) => self.is_over(tenant, declared, &over).await,
            None => Ok(Heard::Nothing),
        };
        match ended {
            // It is obeyed, and lost with this process: it is asked about until it is kept.
            Ok(heard) if !heard.is_durable() => {
                asking.put_off(turn, self.now() + REST);
                Done::Ended
            }
            Ok(heard) => {
                asking.forget(turn);
                let pod = turn.token.pod();
                tracing::info!(tenant = %tenant.name(), %issuer, pod, ?heard, "a pod is gone");
                Done::Ended
            }
            Err(why) => {
                let tenant = tenant.name();
                tracing::error!(%why, %tenant, %issuer, "what a pod that is gone has open does not end");
                asking.put_off(turn, self.now() + REST);
                Done::Unasked
            }
        }
    }

    /// Those of these tasks that are not open any more; none of them where nothing can be read, or
    /// where that may be lost with this process.
    async fn over_among(&self, tenant: &Tenant, tasks: &[TaskId]) -> Vec<TaskId> {
        if !self.held.keeps_all(tenant.name()).await {
            return Vec::new();
        }
        let query = FactsQuery {
            standings: tasks,
            ..FactsQuery::default()
        };
        let standings = match self.store.facts(tenant.name(), &query) {
            Ok(facts) => facts.standings,
            Err(_) => return Vec::new(),
        };
        let with = tasks.iter().zip(standings);
        with.filter(|(_, standing)| standing.is_none())
            .map(|(task, _)| *task)
            .collect()
    }

    /// Keeps the token of a pod that has this task open, so that its cluster is asked about it again.
    pub(super) fn keep_pod(&self, tenant: &Tenant, verified: &Verified<'_>, task: TaskId) {
        let Some(token) = verified.proof.pod() else {
            return;
        };
        let loaded = tenant.loaded();
        if let Some(reviewer) = loaded.verifier.reviewer(token.issuer()) {
            let due = self.now() + reviewer.every();
            let series = &verified.key.series;
            let pods = self.held.pods();
            pods.keep(tenant.name(), token, series, task, due);
        }
    }
}
