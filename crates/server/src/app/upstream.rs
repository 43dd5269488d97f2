//! Ends by the word of a platform: what it says is over ends, and what comes of it later is refused.

use std::collections::BTreeMap;

use dayfly_domain::{Closed, KeyRule, Refusal, Rule, TaskId, Time, Workload};
use dayfly_store::{Append, Facts, FactsQuery, OpenTask, Unavailable};

use super::closing::{Closing, Closings, Over};
use super::end::ATTEMPTS;
use super::moved::Taken;
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};
use crate::declared::{Declared, Issuer, IssuerKind};
use crate::verify::{VerifiedWebhook, webhook};

/// How much is closed by one append: one word may name every job of a run.
const TOGETHER: usize = 256;

/// An open task, and why it is over already where rights were taken away.
type WithMove = (OpenTask, Option<Taken>);

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It says nothing that ends anything.
    Ignored,
    /// Nothing was open and nothing of it can ever ask, or all of it was known.
    Nothing,
    /// Something ended, or nothing of it starts any more.
    Ended {
        /// How much ended.
        over: Over,
        /// Whether that outlives this process; it is obeyed in any case.
        recorded: bool,
    },
}

impl Heard {
    /// Whether what ended by it outlives this process.
    pub(super) const fn is_durable(&self) -> bool {
        match self {
            Self::Ignored | Self::Nothing => true,
            Self::Ended { recorded, .. } => *recorded,
        }
    }
}

impl App {
    /// Ends what a platform says is over, and has nothing of it start any more. Said again it does
    /// nothing, and the order in which things are said does not matter.
    ///
    /// # Errors
    /// The refusal: the webhook names no run that a proof could, or the store cannot answer.
    pub async fn upstream(
        &self,
        tenant: &Tenant,
        issuer: &Issuer,
        webhook: &VerifiedWebhook,
        trail: &Trail,
    ) -> Result<Heard, Refused> {
        let Some(over) = webhook.over() else {
            return Ok(Heard::Ignored);
        };
        let heard = self.is_over(tenant, issuer, over).await;
        heard.map_err(|refusal| self.refuse(tenant, trail, refusal))
    }

    /// Ends what is over, whoever of the platform said so.
    pub(super) async fn is_over(
        &self,
        tenant: &Tenant,
        issuer: &Issuer,
        over: &webhook::Over,
    ) -> Result<Heard, Refusal> {
        let mut heard = Heard::Nothing;
        let now = self.now();
        let found = closings(&tenant.loaded().declared, issuer, over, now)?;
        for some in found.chunks(TOGETHER) {
            heard = heard.and(self.close(tenant, some).await?);
        }
        Ok(heard)
    }

    /// Closes all of these and ends what is open of them by one append.
    async fn close(&self, tenant: &Tenant, found: &[Found]) -> Result<Heard, Refusal> {
        for _ in 0..ATTEMPTS {
            let now = self.now();
            // Whoever was not heard while the server slept has not fallen silent.
            self.wake(now);
            let read: Result<Vec<_>, _> = found
                .iter()
                .map(|found| self.read_closing(tenant, &found.closing))
                .collect();
            let read = match read {
                Ok(read) => read,
                Err(why) => return self.close_unread(tenant, found, why).await,
            };
            let (append, over, closings) = closed(found, &read, now)?;
            if append.closes.is_empty() {
                return Ok(self.known_over(tenant).await);
            }
            let done = self.held.end_closing(tenant.name(), append, closings);
            match done.await {
                Ok(done) => {
                    let recorded = done.is_durable();
                    return Ok(Heard::Ended { over, recorded });
                }
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
        }
        Err(unavailable(&"the tasks did not stand still"))
    }

    /// Closes although nothing can be read: it is held, and what ends by it is read when the ledger
    /// is back. What no declared workload could claim has no open task to be ended.
    async fn close_unread(
        &self,
        tenant: &Tenant,
        found: &[Found],
        why: Unavailable,
    ) -> Result<Heard, Refusal> {
        let claimable = found.iter().filter(|found| found.claimable);
        let closings: Vec<Closing> = claimable.map(|found| found.closing.clone()).collect();
        if closings.is_empty() {
            return Err(unavailable(&why));
        }
        let held = self
            .held
            .hold_closings(tenant.name(), self.now(), closings, why);
        let done = held.await.map_err(|why| unavailable(&why))?;
        match done {
            None => Ok(self.known_over(tenant).await),
            Some(done) => Ok(Heard::Ended {
                over: Over::default(),
                recorded: done.is_durable(),
            }),
        }
    }

    /// What is known may be obeyed alone: whoever says it must keep it until it is kept here.
    async fn known_over(&self, tenant: &Tenant) -> Heard {
        if self.held.keeps_all(tenant.name()).await {
            return Heard::Nothing;
        }
        Heard::Ended {
            over: Over::default(),
            recorded: false,
        }
    }

    /// What is known of the series, and the open tasks of the attempt.
    fn read_closing(
        &self,
        tenant: &Tenant,
        closing: &Closing,
    ) -> Result<(Facts, Vec<WithMove>), Unavailable> {
        let query = FactsQuery {
            series: Some((&closing.issuer, &closing.series)),
            ..FactsQuery::default()
        };
        let facts = self.store.facts(tenant.name(), &query)?;
        let tasks = closing.of_attempt(&facts.claims);
        let open = self.with_moves(tenant, &tasks)?;
        Ok((facts, open))
    }

    /// Those of these tasks that are open, each with why it is over already.
    fn with_moves(&self, tenant: &Tenant, tasks: &[TaskId]) -> Result<Vec<WithMove>, Unavailable> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let query = FactsQuery {
            tasks,
            ..FactsQuery::default()
        };
        let tasks = self.store.facts(tenant.name(), &query)?.tasks;
        let open: Vec<OpenTask> = tasks.into_iter().flatten().collect();
        let moves = self.moves_of(tenant, &open)?;
        let now = self.now();
        let with = |open: OpenTask| {
            let taken = moves.taken(&open, now);
            (open, taken)
        };
        Ok(open.into_iter().map(with).collect())
    }
}

impl Heard {
    /// Both, of which the one that did more counts.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (
                Self::Ended { over, recorded },
                Self::Ended {
                    over: more,
                    recorded: too,
                },
            ) => Self::Ended {
                over: Over {
                    tasks: over.tasks + more.tasks,
                    clients: over.clients + more.clients,
                },
                recorded: recorded && too,
            },
            (ended @ Self::Ended { .. }, Self::Ignored | Self::Nothing)
            | (Self::Ignored | Self::Nothing, ended) => ended,
        }
    }
}

/// What is to be closed, and whether a declared workload could ever claim it.
struct Found {
    closing: Closing,
    claimable: bool,
}

/// What closes all of these of which something is open, or is new and could be claimed; how much
/// ends by it, and which they are.
fn closed(
    found: &[Found],
    read: &[(Facts, Vec<WithMove>)],
    now: Time,
) -> Result<(Append, Over, Closings), Refusal> {
    let mut append = Append {
        now,
        ..Append::default()
    };
    let (mut over, mut closings) = (Over::default(), Closings::default());
    for (Found { closing, claimable }, (facts, open)) in found.iter().zip(read) {
        if closing.is_of_others(open) {
            continue;
        }
        let more = closing.add_to(&mut append, open)?;
        let mut closed = facts.closed.iter();
        let known = closed.any(|closed| closed.is_same(&closing.closed));
        // Nobody fills the tables by what no workload could ever claim.
        let wanted = *claimable || !facts.claims.is_empty();
        if more != Over::default() {
            closings.ending.push(closing.clone());
        } else if wanted && !known {
            closings.bare.push(closing.clone());
        } else {
            append.closes.pop();
        }
        over = over.and(more);
    }
    Ok((append, over, closings))
}

/// Reads what is over by the rules by which the workloads of the issuer read it off a proof, so that
/// both write it alike.
fn closings(
    declared: &Declared,
    issuer: &Issuer,
    over: &webhook::Over,
    now: Time,
) -> Result<Vec<Found>, Refusal> {
    let mut found = BTreeMap::new();
    let mut unread = None;
    let workloads = declared.workloads.values().map(|found| &found.workload);
    for workload in workloads.filter(|workload| workload.issuer == issuer.name) {
        match of_workload(workload, issuer, over, now) {
            Ok(one) => add(&mut found, one),
            Err(refusal) => unread = Some(refusal),
        }
        // Where a task is a job's alone, the run is over for those jobs that are named with it: by
        // others it may go on.
        let own = over
            .jobs
            .iter()
            .filter(|job| is_whole_series(&workload.key, job));
        for job in own {
            add(&mut found, of_workload(workload, issuer, job, now)?);
        }
    }
    let named_by_hand = match issuer.kind {
        // These name what is over in a form of their own. Where no task is of such, it ends none.
        IssuerKind::Github | IssuerKind::Gitlab => false,
        IssuerKind::Kubernetes | IssuerKind::Oidc => true,
    };
    match unread.filter(|_| found.is_empty() && named_by_hand) {
        Some(refusal) => Err(Refusal::new(Rule::Invalid)
            .field(&*refusal.field)
            .wanted("the claims that make the task key of a workload")
            .got(&*refusal.got)),
        None => Ok(found.into_values().collect()),
    }
}

/// What is over for the tasks of one workload.
fn of_workload(
    workload: &Workload,
    issuer: &Issuer,
    over: &webhook::Over,
    now: Time,
) -> Result<Found, Refusal> {
    let run = workload.key.read_run(&over.claims)?;
    let part = over
        .part()
        .filter(|_| !is_whole_series(&workload.key, over));
    Ok(Found {
        closing: Closing {
            issuer: issuer.name.clone(),
            series: run.series,
            closed: Closed {
                attempt: run.attempt,
                part,
                at: now,
            },
            keys: whole_key(&workload.key, over).into_iter().collect(),
            within: within(issuer.kind, over),
            until: now + issuer.keep,
            said: over.said.clone(),
        },
        claimable: workload.matching.may_match(&over.claims),
    })
}

/// What is over, told apart by series, attempt and part.
type ByRun = BTreeMap<(String, Option<u64>, Option<String>), Found>;

/// Adds what is over for a workload; what is so for another in the same way is said once.
fn add(found: &mut ByRun, one: Found) {
    let Closed { attempt, part, .. } = &one.closing.closed;
    let of = (one.closing.series.clone(), *attempt, part.clone());
    let Some(same) = found.get_mut(&of) else {
        found.insert(of, one);
        return;
    };
    same.claimable |= one.claimable;
    for key in one.closing.keys {
        if !same.closing.keys.contains(&key) {
            same.closing.keys.push(key);
        }
    }
}

/// The key of the task that is the job's alone.
fn whole_key(rule: &KeyRule, over: &webhook::Over) -> Option<String> {
    let job = over.job?;
    let names = |claims: &[String]| claims.iter().any(|claim| claim == job);
    let key = names(&rule.key).then(|| rule.read(&over.claims))?;
    key.ok().map(|key| key.key)
}

/// What the instance of a job of GitLab says beside its number, as far as the event says it.
fn within(kind: IssuerKind, over: &webhook::Over) -> Vec<String> {
    let names: &[&str] = match (kind, over.job) {
        (IssuerKind::Gitlab, Some(_)) => &["project_id", "pipeline_id"],
        (IssuerKind::Gitlab, None)
        | (IssuerKind::Github | IssuerKind::Kubernetes | IssuerKind::Oidc, _) => &[],
    };
    let said = names.iter();
    said.filter_map(|name| Some(format!("{name}={}", over.claims.get(*name)?)))
        .collect()
}

/// Whether the series is the job's alone, so that all of it is over.
fn is_whole_series(rule: &KeyRule, over: &webhook::Over) -> bool {
    over.job
        .is_some_and(|job| rule.series.iter().any(|claim| claim == job))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(key: &[&str], series: &[&str]) -> KeyRule {
        let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        KeyRule {
            key: texts(key),
            series: texts(series),
            attempt: None,
            hint: String::new(),
        }
    }

    fn over(job: Option<&'static str>) -> webhook::Over {
        let claims = [("pipeline_id", "5"), ("job_id", "7")];
        webhook::Over {
            claims: claims
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .into_iter()
                .collect(),
            job,
            jobs: Vec::new(),
            said: String::new(),
        }
    }

    #[test]
    fn a_job_ends_its_own_task_whole_and_of_a_shared_one_its_part() {
        let (job, pipeline) = (
            rule(&["job_id"], &["job_id"]),
            rule(&["pipeline_id"], &["pipeline_id"]),
        );
        let of_job = over(Some("job_id"));
        assert_eq!(whole_key(&job, &of_job).as_deref(), Some("7"));
        assert!(is_whole_series(&job, &of_job));
        assert_eq!(whole_key(&pipeline, &of_job), None);
        assert!(!is_whole_series(&pipeline, &of_job));
        assert_eq!(of_job.part().as_deref(), Some("job_id=7"));
        assert_eq!(whole_key(&pipeline, &over(None)), None);
    }
}
