//! The question to a pod's cluster before anything is granted to it: what stands in the way without it, how often one pod may have it asked in vain, and what a redemption is asked by.

use dayfly_domain::access::AccessRequest;
use dayfly_domain::{
    Digest, Name, NewClient, Opening, Refusal, Rule, Task, TaskKey, Workload, admit_unheld,
    check_actor,
};
use dayfly_store::FactsQuery;
use tokio::time::timeout;

use crate::app::refuse::unavailable;
use crate::app::tenant::Loaded;
use crate::app::{App, Tenant};
use crate::config::Rate;
use crate::rate::Buckets;
use crate::verify::{PATIENCE, Unvouched, VerifiedProof, is_placeless, placeless};

/// How often the proofs of one pod may be asked about without an answer. It is no address's: nobody
/// else comes to harm by it.
const IN_VAIN: Rate = Rate::per_minute(6);

/// Whose proofs were asked about without an answer of late, by tenant, issuer and series.
pub(in crate::app) type Unanswered = Buckets<(Name, Name, String)>;

/// What a proof is shown for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::app) enum For {
    /// A task: to open it, to join it, or to be answered again.
    Task,
    /// A child that comes in below another client.
    Child,
}

impl App {
    /// The proof, once nothing else stands in its way and its cluster has vouched for it, where that is
    /// asked.
    ///
    /// # Errors
    /// The refusal: what stands in its way, or of stage `proof`.
    pub(in crate::app) async fn vouched(
        &self,
        tenant: &Tenant,
        shown: Unvouched,
        key: &TaskKey,
    ) -> Result<VerifiedProof, Refusal> {
        let now = self.now();
        if !shown.is_asked_about() {
            return shown.vouched(now).await;
        }
        let issuer = shown.proof().issuer.clone();
        // One after the other: whoever shows many at once waits for his own, and nobody for him.
        let one = (
            tenant.name().clone(),
            issuer.clone(),
            shown.proof().instance.clone(),
        );
        let place = self.asked_about.place(one);
        let place = place.ok_or_else(placeless)?;
        let turn = timeout(PATIENCE, place.turn()).await;
        let _turn = turn.map_err(|_| placeless())?;
        let now = self.now();
        let pod = (tenant.name().clone(), issuer, key.series.clone());
        // Charged before it is asked, so that no other passes meanwhile.
        self.unanswered
            .take(pod.clone(), IN_VAIN, now)
            .map_err(|wait| {
                Refusal::new(Rule::TokenReviewUnavailable)
                    .field("TokenReview")
                    .wanted("an answer of the cluster")
                    .got("none of late")
                    .hint(format!(
                        "the cluster was asked {} times about this pod without an answer: the same request is asked about again in {wait}",
                        IN_VAIN.requests
                    ))
                    .retry_after(wait)
            })?;
        let vouched = shown.vouched(now).await;
        let in_vain = |refusal: &Refusal| {
            refusal.rule == Rule::TokenReviewUnavailable && !is_placeless(refusal)
        };
        if !vouched.as_ref().is_err_and(in_vain) {
            self.unanswered.give_back(pod, IN_VAIN, now);
        }
        vouched
    }

    /// Checks what stands in the way of a pod whatever its cluster says, so that nobody is asked in
    /// vain: blocks, that it is over already, and of one that would open a task limits and rates. It is
    /// decided anew with everything else.
    pub(in crate::app) fn check_unasked(
        &self,
        tenant: &Tenant,
        loaded: &Loaded,
        shown: (&Unvouched, For),
        workload: &Workload,
        key: &TaskKey,
    ) -> Result<(), Refusal> {
        let (shown, to) = shown;
        if !shown.is_asked_about() {
            return Ok(());
        }
        let query = FactsQuery {
            series: Some((&shown.proof().issuer, &key.series)),
            counts: Some(&workload.name),
            ..FactsQuery::default()
        };
        let facts = self.store.facts(tenant.name(), &query);
        let facts = facts.map_err(|why| unavailable(&why))?;
        let opening = Opening {
            now: self.now(),
            workload,
            proof: shown.proof(),
            key,
            client: &NewClient {
                jkt: None,
                jwk: None,
                request: AccessRequest::default(),
                digest: Digest([0; 32]),
                subject: None,
            },
            claims: &facts.claims,
            closed: &facts.closed,
            task: None,
            spent: None,
            blocks: &facts.blocks,
            counts: facts.counts,
        };
        let checked = match to {
            For::Task => admit_unheld(&opening).map(|_| ()),
            For::Child => check_actor(&opening),
        };
        match checked {
            // Who is blocked may have handed over what is asked for: it is decided anew.
            Err(refusal) if refusal.rule == Rule::Blocked && self.revised(tenant, loaded)? => {
                return Ok(());
            }
            checked => checked?,
        }
        match to {
            For::Task => {
                self.check_proof_rates(tenant, &loaded.declared, &workload.name, opening.now)
            }
            // Its parent's count, and were looked at.
            For::Child => Ok(()),
        }
    }

    /// Asks once more about the pod whose approved request is fetched: the proof that asked was vouched
    /// for before people decided. Whether anybody was asked. A pod of which no token is at hand is
    /// refused for now, and shows one by asking once more as it did first.
    ///
    /// # Errors
    /// As of a proof: [`Rule::TokenReview`] where the cluster does not vouch for it,
    /// [`Rule::TokenReviewUnavailable`] where nobody knows.
    pub(in crate::app) async fn vouched_again(
        &self,
        tenant: &Tenant,
        task: &Task,
    ) -> Result<bool, Refusal> {
        let loaded = tenant.loaded();
        let Some(reviewer) = loaded.verifier.reviewer(&task.issuer) else {
            return Ok(false);
        };
        let now = self.now();
        let of = (tenant.name().clone(), task.issuer.clone());
        let token = self.held.pods().token(&of, &task.series, now);
        let token = token.ok_or_else(|| {
            Refusal::new(Rule::TokenReviewUnavailable)
                .field("TokenReview")
                .wanted("a token of the pod at hand, to ask its cluster by")
                .got("none that has not expired")
                .hint("send the first request once more, by the pod's present token and the same key: it is answered with the same code, and the next poll is asked about by that token")
        })?;
        reviewer.ask(&token, now).await.map(|()| true)
    }
}
