//! What a verified proof leads to: facts read, admission and decision made, an append ready to be recorded.

use dayfly_domain::{
    Admission, BlockOn, Cause, Claim, ClaimState, Command, Counts, EndTask, Epoch, EpochOf, Event,
    FETCH, Issue, Join, Limits, Name, Opening, Refusal, Retry, Root, Rule, Spent, Start, Subject,
    Task, TaskId, TaskKey, Time, Workload, admit, apply, decide,
};
use dayfly_store::{
    Annex, Append, Change, ClaimWrite, Drafted, Facts, FactsQuery, OneTimeKey, OpenTask, RunAsked,
    Spend,
};

use super::deferral::{Deferred, Needed};
use super::grant::Verified;
use super::permit::{Asking, ProofAnnex, granted, permit, permit_join, permit_start};
use super::refuse::{Trail, unavailable};
use super::replay::one_time;
use super::subject::Person;
use super::tenant::Loaded;
use super::{App, Tenant};
use crate::declared::IssuerKind;
use crate::mint::Sealer;
use crate::policy::Permitted;
use crate::random;
use crate::verify::Entrance;

/// Everything that planning a grant reads.
pub(super) struct Planning<'a> {
    pub(super) app: &'a App,
    pub(super) tenant: &'a Tenant,
    pub(super) loaded: &'a Loaded,
    pub(super) workload: &'a Workload,
    pub(super) verified: &'a Verified<'a>,
    pub(super) sealer: &'a Sealer<'a>,
}

/// An append that is ready, and the task whose credential it records.
pub(super) struct Plan {
    pub(super) task: TaskId,
    /// Whether the first one-time key it spends is the platform's proof.
    pub(super) spends_proof: bool,
    pub(super) append: Append,
    /// What is answered where the task waits for approval; a credential otherwise.
    pub(super) defers: Option<Deferred>,
}

/// What a proof leads to.
pub(super) enum Planned {
    /// Something is recorded first.
    Append(Box<Plan>),
    /// The same request waits for approval already.
    Waits(Deferred),
}

pub(super) struct Starting {
    pub(super) supersedes: Vec<TaskId>,
    pub(super) until: Option<Time>,
    pub(super) replaces: Option<TaskId>,
}

impl Planning<'_> {
    /// Reads the facts, admits the proof and decides.
    pub(super) fn plan(&self, trail: &mut Trail) -> Result<Planned, Refusal> {
        let now = self.app.now();
        let facts = self.facts()?;
        let open = self.open_tasks(&facts.claims)?;
        let held = self.held_by(&open, &facts.claims);
        trail.task = held.map(|open| open.task.id);
        let proof = self.verified.proof.proof();
        let admission = admit(&Opening {
            now,
            workload: self.workload,
            proof,
            key: &self.verified.key,
            client: &self.verified.client,
            claims: &facts.claims,
            closed: &facts.closed,
            task: held.map(|open| &open.task),
            spent: facts.spent,
            blocks: &facts.blocks,
            counts: facts.counts,
        })?;
        self.check_person(&admission, held, trail)?;
        let root = Root {
            now,
            workload: self.workload,
            catalog: &self.loaded.declared.catalog,
            bounds: &self.app.bounds.domain,
            proof,
            client: &self.verified.client,
            seal: self.sealer,
        };
        match (admission, held) {
            (
                Admission::Start {
                    supersedes,
                    until,
                    replaces,
                },
                _,
            ) => self.plan_start(
                &root,
                &facts,
                &open,
                &Starting {
                    supersedes,
                    until,
                    replaces,
                },
                trail,
            ),
            (Admission::Wait, Some(held)) => {
                return self.wait(held).map(Planned::Waits);
            }
            (Admission::Join, Some(held)) => self.plan_join(&root, held, facts.counts, trail),
            (Admission::Retry { client }, Some(held)) => {
                trail.client = Some(held.task.client_id(client));
                self.plan_retry(&root, held, client, facts.counts, trail)
            }
            (Admission::Renew { client }, Some(held)) => {
                self.plan_renewal(&root, held, client, facts.counts, trail)
            }
            (
                Admission::Join
                | Admission::Wait
                | Admission::Retry { .. }
                | Admission::Renew { .. },
                None,
            ) => Err(unavailable(&"a task was admitted to that is not open")),
        }
        .map(|plan| Planned::Append(Box::new(plan)))
    }

    /// Who asks again or joins on behalf of a person does so only while the record still names the
    /// person: what was erased is not written down anew. And nobody but who renews asks on behalf of
    /// one whose token was not shown.
    fn check_person(
        &self,
        admission: &Admission,
        held: Option<&OpenTask>,
        trail: &mut Trail,
    ) -> Result<(), Refusal> {
        let number = match admission {
            Admission::Renew { client } => Some(*client),
            Admission::Start { .. }
            | Admission::Join
            | Admission::Wait
            | Admission::Retry { .. }
                if self.verified.is_recalled =>
            {
                return Err(Refusal::new(Rule::SubjectOther)
                    .field("subject_token")
                    .wanted("the person of the task")
                    .got("nobody"));
            }
            Admission::Retry { client } => Some(*client),
            Admission::Join => Some(1),
            Admission::Start { .. } | Admission::Wait => None,
        };
        if let (Some(held), Some(number)) = (held, number) {
            self.app.person_of(self.tenant, &held.task, number, trail)?;
        }
        Ok(())
    }

    fn facts(&self) -> Result<Facts, Refusal> {
        let query = FactsQuery {
            series: Some((
                &self.verified.proof.proof().issuer,
                &self.verified.key.series,
            )),
            one_time: self.verified.proof.one_time_key(),
            counts: Some(&self.workload.name),
            epochs: &relied_on(self.workload, self.verified.client.subject.as_ref()),
            ..FactsQuery::default()
        };
        let facts = self.app.store.facts(self.tenant.name(), &query);
        let mut facts = facts.map_err(|why| unavailable(&why))?;
        facts
            .epochs
            .extend(self.verified.proof.proof().person.clone());
        let subject = self.verified.client.subject.as_ref();
        facts.epochs.extend(subject.map(Subject::epoch));
        Ok(facts)
    }

    /// The open tasks that hold claims of the series.
    fn open_tasks(&self, claims: &[Claim]) -> Result<Vec<OpenTask>, Refusal> {
        let ids: Vec<TaskId> = claims
            .iter()
            .filter(|claim| claim.state == ClaimState::Open)
            .map(|claim| claim.task)
            .collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.app.wake(self.app.now());
        let facts = self
            .app
            .store
            .facts(
                self.tenant.name(),
                &FactsQuery {
                    tasks: &ids,
                    ..FactsQuery::default()
                },
            )
            .map_err(|why| unavailable(&why))?;
        Ok(facts.tasks.into_iter().flatten().collect())
    }

    /// The open task that holds this workload's claim of this key.
    fn held_by<'o>(&self, open: &'o [OpenTask], claims: &[Claim]) -> Option<&'o OpenTask> {
        let key: &TaskKey = &self.verified.key;
        let claim = claims.iter().find(|claim| {
            claim.workload == self.workload.name
                && claim.key == key.key
                && claim.attempt == key.attempt
                && claim.state == ClaimState::Open
        })?;
        open.iter().find(|open| open.task.id == claim.task)
    }

    fn plan_start(
        &self,
        root: &Root<'_>,
        facts: &Facts,
        open: &[OpenTask],
        starting: &Starting,
        trail: &mut Trail,
    ) -> Result<Plan, Refusal> {
        let verified = self.verified;
        let now = root.now;
        let id = random::task_id(now).map_err(|why| unavailable(&why))?;
        let start = || Start {
            root: *root,
            id,
            key: &verified.key,
            epochs: facts.epochs.clone(),
            until: starting.until,
            supersedes: starting.supersedes.clone(),
        };
        let events = decide(None, &Command::Start(start()))?;
        let opens = permit_start(events, &self.asking(facts.counts), trail)?;
        let mut changes = Vec::with_capacity(1 + starting.supersedes.len());
        for superseded in &starting.supersedes {
            if let Some(open) = open.iter().find(|open| open.task.id == *superseded) {
                changes.push(superseding(open, now)?);
            }
        }
        let mut defers = None;
        let mut keep_until = verified.keep_until;
        match self.approval_needed(opens) {
            Needed::Nothing(permitted) => {
                changes.push(granted(None, id, *permitted, Some(self.proof_annex()))?);
            }
            Needed::Approval(approval, recorded) => {
                let (change, deferred) = self.request(start(), approval, recorded, trail)?;
                changes.push(change);
                // The claim outlives whatever window will begin at the approval.
                let window = self.tenant.context().bounds.window_max;
                keep_until = keep_until.max(now + approval.within + FETCH + window);
                defers = Some(deferred);
            }
        }
        Ok(Plan {
            task: id,
            spends_proof: root.proof.one_time,
            defers,
            append: Append {
                now,
                changes,
                claims: vec![ClaimWrite {
                    issuer: root.proof.issuer.clone(),
                    series: verified.key.series.clone(),
                    claim: Claim {
                        workload: root.workload.name.clone(),
                        key: verified.key.key.clone(),
                        attempt: verified.key.attempt,
                        task: id,
                        state: ClaimState::Open,
                    },
                    replaces: starting.replaces,
                    until: keep_until,
                }],
                spends: self.spends(root.proof.one_time, id, 1),
                relies: facts.epochs.clone(),
                revision: Some(self.loaded.revision),
                limits: limits_of(root.workload),
                unblocked: self.unblocked(),
                asks: Some(self.asks()),
                ..Append::default()
            },
        })
    }

    /// Asks the policies about what was decided.
    fn permit(
        &self,
        events: Vec<Event>,
        counts: Counts,
        trail: &mut Trail,
    ) -> Result<Permitted, Refusal> {
        permit(events, &self.asking(counts), trail)
    }

    fn asking(&self, counts: Counts) -> Asking<'_> {
        Asking {
            loaded: self.loaded,
            workload: self.workload,
            claims: &self.verified.proof.proof().claims,
            counts,
            now: self.app.now(),
            person: self.verified.person.as_ref(),
            approvals: 0,
            handed: None,
        }
    }

    fn plan_join(
        &self,
        root: &Root<'_>,
        held: &OpenTask,
        counts: Counts,
        trail: &mut Trail,
    ) -> Result<Plan, Refusal> {
        let command = Command::Join(Join {
            root: *root,
            heard: held.heard,
            stale: held.stale.clone(),
        });
        let client = u32::try_from(held.task.clients.len() + 1).unwrap_or(u32::MAX);
        let events = decide(Some(&held.task), &command)?;
        let permitted = permit_join(events, &self.asking(counts), trail)?;
        self.plan_change(held, permitted, client, Some(self.proof_annex()))
    }

    /// The proof is spent already, by this very client: only its DPoP proof is spent anew.
    fn plan_retry(
        &self,
        root: &Root<'_>,
        held: &OpenTask,
        client: u32,
        counts: Counts,
        trail: &mut Trail,
    ) -> Result<Plan, Refusal> {
        let command = Command::Retry(Retry {
            root: *root,
            heard: held.heard,
            stale: held.stale.clone(),
            client,
        });
        let events = decide(Some(&held.task), &command)?;
        let permitted = self.permit(events, counts, trail)?;
        self.plan_change(held, permitted, client, None)
    }

    fn plan_renewal(
        &self,
        root: &Root<'_>,
        held: &OpenTask,
        client: u32,
        counts: Counts,
        trail: &mut Trail,
    ) -> Result<Plan, Refusal> {
        let command = Command::Issue(Issue {
            now: root.now,
            heard: held.heard,
            stale: held.stale.clone(),
            client,
            workload: self.workload,
            others: &[],
            catalog: root.catalog,
            bounds: root.bounds,
            request: &self.verified.client.request,
            within: None,
            seal: self.sealer,
        });
        let events = decide(Some(&held.task), &command)?;
        let permitted = self.permit(events, counts, trail)?;
        self.plan_change(held, permitted, client, Some(self.proof_annex()))
    }

    /// A change of an open task; where the proof's annex goes along, the proof is spent.
    fn plan_change(
        &self,
        held: &OpenTask,
        permitted: Permitted,
        client: u32,
        proof: Option<ProofAnnex<'_>>,
    ) -> Result<Plan, Refusal> {
        let spends_proof = proof.is_some() && self.verified.proof.proof().one_time;
        Ok(Plan {
            task: held.task.id,
            spends_proof,
            defers: None,
            append: Append {
                now: self.app.now(),
                changes: vec![granted(Some(&held.task), held.task.id, permitted, proof)?],
                spends: self.spends(spends_proof, held.task.id, client),
                relies: held.task.epochs.clone(),
                revision: Some(self.loaded.revision),
                unblocked: self.unblocked(),
                asks: Some(self.asks()),
                ..Append::default()
            },
        })
    }

    /// What must not be blocked when the append is made.
    fn unblocked(&self) -> Vec<BlockOn> {
        let (proof, key) = (self.verified.proof.proof(), &self.verified.key);
        let subject = self.verified.client.subject.as_ref();
        let relies = proof.person.clone().into_iter();
        let relies: Vec<Epoch> = relies.chain(subject.map(Subject::epoch)).collect();
        BlockOn::of_proof(
            &proof.issuer,
            &key.series,
            &key.key,
            &proof.instance,
            &relies,
        )
    }

    /// The run that must not be closed when the append is made.
    fn asks(&self) -> RunAsked {
        let proof = self.verified.proof.proof();
        RunAsked {
            issuer: proof.issuer.clone(),
            series: self.verified.key.series.clone(),
            attempt: self.verified.key.attempt,
            instance: proof.instance.clone(),
        }
    }

    fn spends(&self, proof: bool, task: TaskId, client: u32) -> Vec<Spend> {
        let by = Spent { task, client };
        let platform: Option<OneTimeKey> = self
            .verified
            .proof
            .one_time_key()
            .copied()
            .filter(|_| proof);
        platform
            .into_iter()
            .chain(self.verified.key_proof.as_ref().map(one_time))
            .map(|key| Spend { key, by })
            .collect()
    }

    /// The claims of the proof, kept apart from the leaf.
    pub(super) fn proof_annex(&self) -> ProofAnnex<'_> {
        ProofAnnex {
            claims: &self.verified.proof.proof().claims,
            entrance: parameter(self.verified.request.entrance),
            run_url: self.verified.proof.run_url(),
            subject: self.verified.person.as_ref().map(Person::annex),
        }
    }
}

/// The change of events that grant nothing; the annex goes with the first of them. What grants
/// something goes by [`granted`].
pub(super) fn change(
    task: Option<Task>,
    id: TaskId,
    events: Vec<Event>,
    annex: Option<Annex>,
) -> Result<Change, Refusal> {
    let mut annex = annex;
    drafted(task, id, events, |event| match event {
        Event::TaskStarted(_)
        | Event::ClientRegistered(_)
        | Event::ClientDelegated(_)
        | Event::CredentialIssued(_) => Err(unavailable(&"a grant that no policy was asked about")),
        Event::TaskRequested(_)
        | Event::TaskApproved(_)
        | Event::TaskDenied(_)
        | Event::CredentialRevoked(_)
        | Event::ClientEnded(_)
        | Event::TaskEnded(_) => Ok(annex.take()),
    })
}

/// Applies events and pairs each with its annex. Takes the task as it was, for the state of one with
/// thousands of credentials is not copied by the way.
pub(super) fn drafted(
    task: Option<Task>,
    id: TaskId,
    events: Vec<Event>,
    mut annex: impl FnMut(&Event) -> Result<Option<Annex>, Refusal>,
) -> Result<Change, Refusal> {
    let expected_version = task.as_ref().map_or(0, |task| task.version);
    let mut state = task;
    let mut drafted = Vec::with_capacity(events.len());
    for event in events {
        let next = apply(state, id, &event)
            .ok_or_else(|| unavailable(&"an event does not fit its task"))?;
        state = Some(next);
        let annex = annex(&event)?;
        drafted.push(Drafted { event, annex });
    }
    let next = state.ok_or_else(|| unavailable(&"a decision without events"))?;
    Ok(Change {
        task: id,
        expected_version,
        events: drafted,
        next,
    })
}

fn superseding(open: &OpenTask, now: Time) -> Result<Change, Refusal> {
    let events = decide(
        Some(&open.task),
        &Command::EndTask(EndTask {
            now,
            heard: open.heard,
            cause: Cause::Superseded,
            by: None,
        }),
    )?;
    change(Some(open.task.clone()), open.task.id, events, None)
}

/// The parameter that carried the proof.
const fn parameter(entrance: Entrance) -> &'static str {
    match entrance {
        Entrance::ClientAssertion => "client_assertion",
        Entrance::Assertion => "assertion",
        Entrance::SubjectToken => "subject_token",
        Entrance::ActorToken => "actor_token",
    }
}

/// Whether a claim is kept by the last proof shown rather than from its start (DESIGN section 3).
pub(super) const fn kept_by_proof(kind: IssuerKind) -> bool {
    match kind {
        IssuerKind::Github | IssuerKind::Gitlab => false,
        IssuerKind::Kubernetes | IssuerKind::Oidc => true,
    }
}

/// The epochs that a task of this workload relies on, where it runs on behalf of this person, beside
/// those of people themselves.
pub(super) fn relied_on(workload: &Workload, subject: Option<&Subject>) -> Vec<EpochOf> {
    let mut relied = vec![
        EpochOf::Tenant,
        EpochOf::Issuer(workload.issuer.clone()),
        EpochOf::Owner(workload.owner.clone()),
        EpochOf::Workload(workload.name.clone()),
    ];
    relied.extend(
        subject
            .map(|subject| EpochOf::Issuer(subject.issuer.clone()))
            .filter(|issuer| !relied.contains(issuer)),
    );
    relied
}

fn limits_of(workload: &Workload) -> Option<(Name, Limits)> {
    let limits = workload.limits;
    (limits.open.is_some() || limits.starts_per_hour.is_some())
        .then(|| (workload.name.clone(), limits))
}
