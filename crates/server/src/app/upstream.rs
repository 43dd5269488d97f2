//! Ends by the word of a platform: what it says is over ends, and what comes of it later is refused.

use dayfly_domain::{Closed, KeyRule, Moved, Refusal, Rule, TaskId, Time};
use dayfly_store::{Append, Facts, FactsQuery, OpenTask, Unavailable};

use super::closing::{Closing, Over};
use super::end::ATTEMPTS;
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};
use crate::declared::{Declared, Issuer};
use crate::verify::{VerifiedWebhook, webhook};

/// An open task, and why it is over already where rights were taken away.
type WithMove = (OpenTask, Option<Moved>);

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
        for found in closings(&tenant.loaded().declared, issuer, over, now)? {
            heard = heard.and(self.close(tenant, &found).await?);
        }
        Ok(heard)
    }

    async fn close(&self, tenant: &Tenant, found: &Found) -> Result<Heard, Refusal> {
        let closing = &found.closing;
        for _ in 0..ATTEMPTS {
            let now = self.now();
            // Whoever was not heard while the server slept has not fallen silent.
            self.wake(now);
            let (facts, open) = match self.read_closing(tenant, closing) {
                Ok(read) => read,
                Err(why) => return self.close_unread(tenant, found, why).await,
            };
            let known = facts
                .closed
                .iter()
                .any(|closed| closed.is_same(&closing.closed));
            let mut append = Append {
                now,
                ..Append::default()
            };
            let over = closing.add_to(&mut append, &open)?;
            // Nobody fills the tables by what no workload could ever claim.
            let wanted = found.claimable || !facts.claims.is_empty();
            if append.changes.is_empty() && (known || !wanted) {
                return Ok(Heard::Nothing);
            }
            match self.held.end_closing(tenant.name(), append, closing).await {
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
        found: &Found,
        why: Unavailable,
    ) -> Result<Heard, Refusal> {
        if !found.claimable {
            return Err(unavailable(&why));
        }
        let (now, closing) = (self.now(), &found.closing);
        let held = self.held.hold_closing(tenant.name(), now, closing, why);
        let done = held.await.map_err(|why| unavailable(&why))?;
        Ok(done.map_or(Heard::Nothing, |done| Heard::Ended {
            over: Over::default(),
            recorded: done.is_durable(),
        }))
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
            let moved = moves.first(&open, now);
            (open, moved)
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

/// Reads what is over by the rules by which the workloads of the issuer read it off a proof, so that
/// both write it alike.
fn closings(
    declared: &Declared,
    issuer: &Issuer,
    over: &webhook::Over,
    now: Time,
) -> Result<Vec<Found>, Refusal> {
    let mut found: Vec<Found> = Vec::new();
    let mut unread = None;
    let workloads = declared.workloads.values().map(|found| &found.workload);
    for workload in workloads.filter(|workload| workload.issuer == issuer.name) {
        let run = match workload.key.read_run(&over.claims) {
            Ok(run) => run,
            Err(refusal) => {
                unread = Some(refusal);
                continue;
            }
        };
        let whole = whole_key(&workload.key, over);
        let part = over
            .part()
            .filter(|_| !is_whole_series(&workload.key, over));
        let closed = Closed {
            attempt: run.attempt,
            part,
            at: now,
        };
        let claimable = workload.matching.may_match(&over.claims);
        let same = found.iter_mut().find(|found| {
            found.closing.series == run.series && found.closing.closed.is_same(&closed)
        });
        match same {
            Some(same) => {
                same.claimable |= claimable;
                let new = |key: &String| !same.closing.keys.contains(key);
                if let Some(key) = whole.filter(new) {
                    same.closing.keys.push(key);
                }
            }
            None => found.push(Found {
                closing: Closing {
                    issuer: issuer.name.clone(),
                    series: run.series,
                    closed,
                    keys: whole.into_iter().collect(),
                    until: now + issuer.keep,
                    said: over.said.clone(),
                },
                claimable,
            }),
        }
    }
    match (found.is_empty(), unread) {
        (true, Some(refusal)) if over.job.is_none() => Err(Refusal::new(Rule::Invalid)
            .field(&*refusal.field)
            .wanted("the claims that make the task key of a workload")
            .got(&*refusal.got)),
        (true | false, Some(_) | None) => Ok(found),
    }
}

/// The key of the task that is the job's alone.
fn whole_key(rule: &KeyRule, over: &webhook::Over) -> Option<String> {
    let job = over.job?;
    let names = |claims: &[String]| claims.iter().any(|claim| claim == job);
    let key = names(&rule.key).then(|| rule.read(&over.claims))?;
    key.ok().map(|key| key.key)
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
