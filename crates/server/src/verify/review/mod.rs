//! Asks a cluster whether it still vouches for the token of a pod: what keys and claims cannot say, because a token outlives its pod (docs/decisions/0037).

mod pod;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dayfly_domain::{Refusal, Rule, Span, Time};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::fetch::{FetchError, KeptClient, Request};
use super::keys::chain;
use crate::declared::{Issuer, TokenReview};
use zeroize::Zeroizing;

pub(crate) use pod::PodToken;

/// How long one question may take, and how long it waits for its turn before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How many questions are open at a time: whoever shows token after token does not flood the cluster.
const AT_ONCE: usize = 8;
/// How many are open beside these about pods that have something open: no proof takes their place.
pub(crate) const AGAIN_AT_ONCE: usize = 4;

/// Who is asked, shared by every issuer and tenant that asks the same cluster in the same way.
#[derive(Clone, Debug, Default)]
pub(super) struct Reviewers(Arc<Mutex<Vec<Weak<Reviewer>>>>);

/// How it stands with the questions to one cluster, for a person and for readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewStatus {
    /// The URL of the API server.
    pub origin: String,
    /// When it was last asked; none before the first question.
    pub asked_at: Option<Time>,
    /// Why the last question was not answered; none when it was.
    pub failure: Option<String>,
    /// How many answers said that a token stands.
    pub stands: u64,
    /// How many said that it does not.
    pub fell: u64,
    /// How many questions were not answered.
    pub unanswered: u64,
}

/// A cluster that is asked.
#[derive(Debug)]
pub(crate) struct Reviewer {
    asks: TokenReview,
    url: String,
    allow_private: bool,
    client: KeptClient,
    places: Semaphore,
    places_again: Semaphore,
    patience: Duration,
    status: Mutex<ReviewStatus>,
}

impl Reviewers {
    /// Who is asked about the tokens of this issuer; none where nobody is.
    pub(super) fn of(&self, issuer: &Issuer) -> Option<Arc<Reviewer>> {
        let asks = issuer.review.as_ref()?;
        let mut reviewers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reviewers.retain(|reviewer| reviewer.strong_count() > 0);
        let held = reviewers
            .iter()
            .filter_map(Weak::upgrade)
            .find(|held| held.asks == *asks && held.allow_private == issuer.allow_private);
        Some(held.unwrap_or_else(|| {
            let reviewer = Arc::new(Reviewer::new(asks.clone(), issuer.allow_private));
            reviewers.push(Arc::downgrade(&reviewer));
            reviewer
        }))
    }

    pub(super) fn status(&self) -> Vec<ReviewStatus> {
        let reviewers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = reviewers.iter().filter_map(Weak::upgrade);
        held.map(|reviewer| reviewer.told().clone()).collect()
    }
}

impl Reviewer {
    fn new(asks: TokenReview, allow_private: bool) -> Self {
        let base = asks.url.strip_suffix('/').unwrap_or(&asks.url);
        Self {
            url: format!("{base}{}", wire::PATH),
            status: Mutex::new(ReviewStatus {
                origin: asks.url.clone(),
                asked_at: None,
                failure: None,
                stands: 0,
                fell: 0,
                unanswered: 0,
            }),
            asks,
            allow_private,
            client: KeptClient::default(),
            places: Semaphore::new(AT_ONCE),
            places_again: Semaphore::new(AGAIN_AT_ONCE),
            patience: PATIENCE,
        }
    }

    /// How often it is asked about a pod that has something open.
    pub(crate) const fn every(&self) -> Span {
        self.asks.every
    }

    /// Asks about a token whose signature and claims hold.
    ///
    /// # Errors
    /// [`Rule::TokenReview`] where the cluster does not vouch for it or for something else than its
    /// claims say; [`Rule::TokenReviewUnavailable`] where nobody knows.
    pub(crate) async fn ask(&self, about: &PodToken, now: Time) -> Result<(), Refusal> {
        self.ask_at(&self.places, about, now).await
    }

    /// Asks again about one that has something open, in a place that no proof takes.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) async fn ask_again(&self, about: &PodToken, now: Time) -> Result<(), Refusal> {
        self.ask_at(&self.places_again, about, now).await
    }

    /// Whether it ever vouched for a token, as it is asked now: one that never did may be another
    /// cluster than the tokens are of.
    pub(crate) fn has_vouched(&self) -> bool {
        self.told().stands > 0
    }

    async fn ask_at(&self, places: &Semaphore, about: &PodToken, now: Time) -> Result<(), Refusal> {
        // It is never closed; were it, one question more would harm nobody.
        let Ok(_place) = timeout(self.patience, places.acquire()).await else {
            // The cluster was not asked, so nothing is known of it either.
            return Err(placeless());
        };
        let answer = match timeout(self.patience, self.post(about, now)).await {
            Ok(Ok(answer)) => wire::judge(&answer, about),
            Ok(Err(error)) => Err(unasked(&chain(&error))),
            Err(_) => Err(unasked(&format!(
                "no answer within {} s",
                self.patience.as_secs()
            ))),
        };
        self.remember(&answer, now);
        answer
    }

    async fn post(&self, about: &PodToken, now: Time) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        let request = Request {
            url: &self.url,
            allow_private: self.allow_private,
            token_file: Some(&self.asks.token_file),
            ca_file: self.asks.ca_file.as_deref(),
        };
        self.client.post(request, wire::question(about), now).await
    }

    fn remember(&self, answer: &Result<(), Refusal>, now: Time) {
        let mut told = self.told();
        told.asked_at = Some(now);
        let origin = told.origin.clone();
        match answer {
            Err(refusal) if refusal.rule == Rule::TokenReviewUnavailable => {
                told.unanswered += 1;
                let error = refusal.hint.to_string();
                if told.failure.is_none() {
                    tracing::warn!(origin, error, "a cluster cannot be asked about its tokens");
                }
                told.failure = Some(error);
                return;
            }
            Ok(()) => told.stands += 1,
            Err(_) => told.fell += 1,
        }
        if told.failure.take().is_some() {
            tracing::info!(origin, "a cluster answers about its tokens again");
        }
    }

    fn told(&self) -> MutexGuard<'_, ReviewStatus> {
        // INVARIANT: every write under this lock is whole after each statement.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What lacked where the cluster was not asked, for others asked it all the while.
const A_PLACE: &str = "a place among the questions to the cluster";

/// Whether it was refused because the cluster was not asked: no answer of it is missing.
pub(crate) fn is_placeless(refusal: &Refusal) -> bool {
    refusal.rule == Rule::TokenReviewUnavailable && &*refusal.wanted == A_PLACE
}

/// There are too many questions now.
pub(crate) fn placeless() -> Refusal {
    Refusal::new(Rule::TokenReviewUnavailable)
        .field("TokenReview")
        .wanted(A_PLACE)
        .got("none")
        .hint("others ask it now: the same request may pass later")
}

/// Nobody knows. Why not is for the operator alone: it tells about networks, not about the token.
fn unasked(why: &str) -> Refusal {
    Refusal::new(Rule::TokenReviewUnavailable)
        .field("TokenReview")
        .wanted("an answer of the cluster")
        .got("none")
        .hint(why)
}
