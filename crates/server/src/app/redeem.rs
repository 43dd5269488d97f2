//! Deferred polling: whether a request was approved, and the grant once it was (docs/decisions/0041).

use dayfly_domain::{
    BlockOn, Cause, Command, Counts, Digest, Pending, Redeem, Refusal, Rule, Spent, Task,
    TaskState, Workload, decide,
};
use dayfly_store::{Append, FactsQuery, OpenTask, RunAsked, Spend};
use dayfly_token::dpop::VerifiedDpop;

use super::deferral::{Known, RequestAnnex, missing, unknown_code};
use super::end::{ATTEMPTS, End};
use super::grant::{Granted, too_large};
use super::operator::unapproved;
use super::permit::{Asking, ProofAnnex, erased, granted, permit_approved};
use super::refuse::{Refused, Trail, unavailable};
use super::regrant::{person_refused, proof_refused};
use super::replay::{KeyProof, one_time};
use super::subject::{Person, sealer};
use super::tenant::Loaded;
use super::{App, Tenant};
use crate::mint::Sealer;

/// A poll.
#[derive(Clone, Debug)]
pub struct RedeemRequest<'a> {
    /// The code of the first answer.
    pub code: &'a str,
    /// The workload, where the request names one: it must be the one that was asked for.
    pub workload: Option<&'a str>,
    /// The DPoP proof, where one came.
    pub key_proof: Option<KeyProof<'a>>,
}

/// The answer to a poll.
#[derive(Debug)]
pub enum Polled {
    /// The grant that was asked for, and whether it was asked for by an exchange.
    Granted(Box<Granted>, bool),
    /// Not yet, or not so often: nothing that anybody has to be told of.
    Wait(Refusal),
}

/// What a redemption goes by.
struct Redeeming<'a> {
    app: &'a App,
    tenant: &'a Tenant,
    loaded: &'a Loaded,
    annex: &'a RequestAnnex,
    person: Option<&'a Person>,
    key_proof: &'a VerifiedDpop,
    /// Whoever approved it, which must not be blocked when it opens.
    approved: &'a [BlockOn],
}

impl App {
    /// Answers a poll by whoever holds the key that asked. What was approved is granted once, by
    /// everything that holds now.
    ///
    /// # Errors
    /// The refusal.
    pub async fn redeem(
        &self,
        tenant: &Tenant,
        request: &RedeemRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Polled, Refused> {
        match self.try_redeem(tenant, request, trail).await {
            Ok(polled) => Ok(polled),
            // Who waits as told is not refused.
            Err(refusal) if matches!(refusal.rule, Rule::ApprovalPending | Rule::SlowDown) => {
                Ok(Polled::Wait(refusal))
            }
            Err(refusal) => Err(self.refuse(tenant, trail, refusal)),
        }
    }

    async fn try_redeem(
        &self,
        tenant: &Tenant,
        request: &RedeemRequest<'_>,
        trail: &mut Trail,
    ) -> Result<Polled, Refusal> {
        let key_proof = self.poll_proof(tenant, request.key_proof.as_ref())?;
        let jkt = Digest(key_proof.jkt().0);
        trail.key = Some(jkt);
        let mut known = self.known_deferral(tenant, request.code, jkt).await?;
        // Read only now: the record may have taken its time, and an old reading beside others looks
        // like a clock that was set back.
        let now = self.now();
        self.check_nonce(tenant, &key_proof, now)?;
        // It is spent in memory too, so that a proof of a poll does not redeem later.
        self.accept_once(tenant, &key_proof, now)?;
        let mut first = true;
        let mut vouched = false;
        for _ in 0..ATTEMPTS {
            let open = match known {
                Known::Ended(task) => return Err(ended(&task)),
                Known::Pending(open) => open,
            };
            trail.task = Some(open.task.id);
            trail.workload = Some(open.task.workload.clone());
            if request
                .workload
                .is_some_and(|named| named != open.task.workload.as_str())
            {
                return Err(unknown_code());
            }
            if first {
                tenant.polls.take(open.task.id, self.now())?;
                first = false;
            }
            let by = (&key_proof, &mut vouched);
            if let Some(polled) = self.redeem_once(tenant, &open, by, trail).await? {
                return Ok(polled);
            }
            known = self.known_deferral(tenant, request.code, jkt).await?;
        }
        Err(unavailable(&"the task did not stand still"))
    }

    /// The proof of the key that asks; whose it is is looked at before its nonce.
    fn poll_proof(
        &self,
        tenant: &Tenant,
        key_proof: Option<&KeyProof<'_>>,
    ) -> Result<VerifiedDpop, Refusal> {
        let key_proof = key_proof.ok_or_else(|| {
            Refusal::new(Rule::KeyProofMissing)
                .field("DPoP")
                .wanted("a proof by the key of the first request")
                .got("none")
        })?;
        self.key_proof_whatever_nonce(tenant, key_proof, None, self.now())
    }

    /// One try, by this key and whether the cluster of its pod has vouched for it in an earlier one; none
    /// where the state moved under it, or may have while the cluster was asked.
    async fn redeem_once(
        &self,
        tenant: &Tenant,
        open: &OpenTask,
        (key_proof, vouched): (&VerifiedDpop, &mut bool),
        trail: &mut Trail,
    ) -> Result<Option<Polled>, Refusal> {
        let pending = open.task.check_pending(self.now())?;
        dayfly_domain::check_epochs(open.stale.as_ref())?;
        if pending.approved.is_none() {
            return Err(waiting(pending));
        }
        let approved = self.approved_by(tenant, open)?;
        if let Some(block) = self.blocked_approver(tenant, &approved)? {
            // It stands as approved, so nobody else can approve it: it is over, and asked for anew.
            let _recorded = self
                .end_pending(tenant, open.clone(), Cause::Upstream)
                .await?;
            return Err(unapproved(&block));
        }
        let annex = self
            .request_annex(tenant, open.task.id)?
            .ok_or_else(erased)?;
        let loaded = tenant.loaded();
        let keyring = tenant.keyring();
        let person = Person::recalled(&open.task, annex.subject.as_ref())?;
        trail.subject = person.as_ref().and_then(Person::names);
        let sealer = sealer(&keyring, tenant, &loaded, person.as_ref())?;
        let redeeming = Redeeming {
            app: self,
            tenant,
            loaded: &loaded,
            annex: &annex,
            person: person.as_ref(),
            key_proof,
            approved: &approved,
        };
        let append = redeeming.append(open, &sealer, trail)?;
        if sealer.longest() > self.bounds.token_bytes {
            return Err(too_large(self.bounds.token_bytes));
        }
        if !*vouched {
            *vouched = true;
            if self.vouched_again(tenant, &open.task).await? {
                return Ok(None);
            }
        }
        match self.store.append(tenant.name(), append).await {
            Ok(committed) => {
                let granted = self.answer(tenant, &committed, open.task.id, &sealer)?;
                let exchanged = matches!(annex.entrance.as_str(), "subject_token" | "actor_token");
                Ok(Some(Polled::Granted(Box::new(granted), exchanged)))
            }
            Err(error) => {
                self.after_failure(tenant, error, false).await?;
                Ok(None)
            }
        }
    }

    /// Cancels a request that waits, for whoever holds the key that asked (RFC 7009). A code that is
    /// unknown, foreign or over changes nothing and is no error. Whether it outlives this process.
    pub(super) async fn cancel_deferral(
        &self,
        tenant: &Tenant,
        code: &str,
        key_proof: Option<&KeyProof<'_>>,
        trail: &mut Trail,
    ) -> Result<bool, Refusal> {
        let Some(key_proof) = key_proof else {
            return Err(Refusal::new(Rule::Authentication)
                .field("DPoP")
                .wanted("a proof by the key of the first request")
                .got("none"));
        };
        let verified = self.key_proof_whatever_nonce(tenant, key_proof, None, self.now())?;
        let jkt = Digest(verified.jkt().0);
        let open = match self.known_deferral(tenant, code, jkt).await {
            Ok(Known::Pending(open)) => open,
            Ok(Known::Ended(_)) => return Ok(self.held.keeps_all(tenant.name()).await),
            Err(refusal) if refusal.rule == Rule::DeferralCode => return Ok(true),
            // Whether it waits is not known: an answer that all is well would leave it waiting.
            Err(refusal) => return Err(refusal),
        };
        let now = self.now();
        self.check_nonce(tenant, &verified, now)?;
        self.accept_once(tenant, &verified, now)?;
        trail.task = Some(open.task.id);
        trail.workload = Some(open.task.workload.clone());
        self.end_pending(tenant, *open, Cause::Cancelled).await
    }

    /// Ends a request that waits or was approved. Whether that outlives this process.
    async fn end_pending(
        &self,
        tenant: &Tenant,
        mut open: OpenTask,
        cause: Cause,
    ) -> Result<bool, Refusal> {
        let end = End::Task(open.task.id);
        for _ in 0..ATTEMPTS {
            // Who fetched it meanwhile holds a client, which ends by its own means.
            if open.task.pending().is_none() {
                return Ok(self.held.keeps_all(tenant.name()).await);
            }
            let append = self.append_of_end(tenant, end, cause, open)?;
            match self.held.end(tenant.name(), append).await {
                Ok(done) => return Ok(done.is_durable()),
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
            match self.open_task(tenant, end.task())? {
                Some(again) => open = again,
                None => return Ok(self.held.keeps_all(tenant.name()).await),
            }
        }
        Err(unavailable(&"the task did not stand still"))
    }
}

impl Redeeming<'_> {
    fn append(
        &self,
        open: &OpenTask,
        sealer: &Sealer<'_>,
        trail: &mut Trail,
    ) -> Result<Append, Refusal> {
        let (app, task) = (self.app, &open.task);
        let workload = self.workload(task)?;
        let query = FactsQuery {
            series: Some((&task.issuer, &task.series)),
            counts: Some(&workload.name),
            ..FactsQuery::default()
        };
        let facts = app
            .store
            .facts(self.tenant.name(), &query)
            .map_err(|why| unavailable(&why))?;
        let now = app.now();
        let events = decide(
            Some(task),
            &Command::Redeem(Redeem {
                now,
                stale: open.stale.clone(),
                workload,
                catalog: &self.loaded.declared.catalog,
                bounds: &app.bounds.domain,
                claims: &self.annex.claims,
                blocks: &facts.blocks,
                closed: &facts.closed,
                counts: facts.counts,
                seal: sealer,
            }),
        )?;
        let asking = Asking {
            loaded: self.loaded,
            workload,
            claims: &self.annex.claims,
            counts: Counts {
                // As they were asked about first: without this one.
                open: facts.counts.open.saturating_sub(1),
                ..facts.counts
            },
            now,
            person: self.person,
            approvals: task.pending().map_or(0, Pending::given),
            handed: None,
        };
        let permitted = permit_approved(events, &asking, trail)?;
        let proof = ProofAnnex {
            claims: &self.annex.claims,
            entrance: &self.annex.entrance,
            run_url: self.annex.run_url.as_deref(),
            subject: self.person.map(Person::annex),
        };
        let by = Spent {
            task: task.id,
            client: 1,
        };
        let instance = task.pending().map_or("", |pending| &pending.instance);
        Ok(Append {
            now,
            changes: vec![granted(Some(task), task.id, permitted, Some(proof))?],
            spends: vec![Spend {
                key: one_time(self.key_proof),
                by,
            }],
            relies: task.epochs.clone(),
            revision: Some(self.loaded.revision),
            unblocked: [unblocked(task, instance), self.approved.to_vec()].concat(),
            asks: Some(RunAsked {
                issuer: task.issuer.clone(),
                series: task.series.clone(),
                attempt: task.attempt,
                instance: instance.to_owned(),
            }),
            ..Append::default()
        })
    }

    /// The workload as it is declared now, which must still take the proof that asked.
    fn workload(&self, task: &Task) -> Result<&Workload, Refusal> {
        let lapsed = |field: &str, got: &str| {
            Refusal::new(Rule::ApprovalLapsed)
                .field(field)
                .wanted("what was approved")
                .got(got)
        };
        let declared = &self.loaded.declared;
        let found = declared
            .workloads
            .get(&task.workload)
            .ok_or_else(|| lapsed("workload", "none by its name"))?;
        if found.unfinished.is_some() {
            return Err(lapsed("workload", "an unfinished declaration"));
        }
        let issuer = declared
            .issuers
            .get(&task.issuer)
            .ok_or_else(|| lapsed("issuer", "none by its name"))?;
        if let (Some(subject), Some(person)) = (&task.subject, self.person) {
            let issuer = declared.issuers.get(&subject.issuer);
            let issuer = issuer.ok_or_else(|| lapsed("subject", "no issuer of its person"))?;
            let (claims, url) = (Some(person.claims.as_ref()), self.tenant.issuer());
            if let Some(why) = person_refused(task, subject, claims, issuer, url) {
                return Err(lapsed("subject", &why));
            }
        }
        match proof_refused(&self.annex.claims, &found.workload, issuer) {
            None => Ok(&found.workload),
            Some(why) => Err(lapsed("proof", &why)),
        }
    }
}

fn waiting(pending: &Pending) -> Refusal {
    Refusal::new(Rule::ApprovalPending)
        .field("approval")
        .wanted("no approval missing")
        .got(format!("{} missing", missing(pending)))
}

/// The answer to a poll for what ended before it opened.
fn ended(task: &Task) -> Refusal {
    let (rule, got) = match &task.state {
        TaskState::Ended {
            cause: Cause::Expired,
            at,
        } => (Rule::ApprovalExpired, format!("expired {at}")),
        TaskState::Ended { cause, at } => (Rule::ApprovalDenied, format!("{} {at}", cause.word())),
        TaskState::Pending(_) | TaskState::Open => return unknown_code(),
    };
    Refusal::new(rule)
        .field("approval")
        .wanted("a request that waits")
        .got(got)
}

/// What must not be blocked when it opens.
fn unblocked(task: &Task, instance: &str) -> Vec<BlockOn> {
    BlockOn::of_proof(
        &task.issuer,
        &task.series,
        &task.key,
        instance,
        &task.epochs,
    )
}
