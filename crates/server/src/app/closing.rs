//! What is over by the word of a platform: which open tasks and clients end by it, and what of the run is closed.

use dayfly_domain::{
    Cause, Claim, ClaimState, Closed, Command, EndClient, EndTask, Event, Moved, Name, Refusal,
    Sweep, Task, TaskId, Time, apply, decide, has_part,
};
use dayfly_store::{Annex, Append, CloseWrite, OpenTask, Unavailable};
use serde::{Deserialize, Serialize};

use super::ending::by_word;
use super::moved::Taken;
use super::plan::drafted;
use super::refuse::unavailable;

/// A run, or one job of it, that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Closing {
    /// Who vouches for the run.
    pub(super) issuer: Name,
    /// Its series.
    pub(super) series: String,
    /// What of the series is over.
    pub(super) closed: Closed,
    /// The keys of tasks that are the job's alone, and end with it as a whole.
    pub(super) keys: Vec<String>,
    /// The pairs of its instance that a job has beside the one that names it, where the word says them:
    /// what is open of another project ends by no event that only guesses its number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) within: Vec<String>,
    /// Until when it is remembered.
    pub(super) until: Time,
    /// What the platform said.
    pub(super) said: String,
}

/// What one word closes.
#[derive(Debug, Default)]
pub(super) struct Closings {
    /// By which something ends.
    pub(super) ending: Vec<Closing>,
    /// Those that change no task.
    pub(super) bare: Vec<Closing>,
}

/// How much ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Over {
    /// Tasks.
    pub tasks: u64,
    /// Clients of tasks that go on.
    pub clients: u64,
}

impl Over {
    /// Both together.
    pub(super) const fn and(self, more: Self) -> Self {
        Self {
            tasks: self.tasks + more.tasks,
            clients: self.clients + more.clients,
        }
    }
}

impl Closing {
    /// The open tasks of the attempt among the claims of its series.
    pub(super) fn of_attempt(&self, claims: &[Claim]) -> Vec<TaskId> {
        let attempt = self.closed.attempt;
        claims
            .iter()
            .filter(|claim| claim.state == ClaimState::Open && claim.attempt == attempt)
            .map(|claim| claim.task)
            .collect()
    }

    /// Adds to an append what ends of these open tasks of the attempt, and the close itself.
    /// `taken` says of each why it is over already, where rights were taken away.
    pub(super) fn add_to(
        &self,
        append: &mut Append,
        open: &[(OpenTask, Option<Taken>)],
    ) -> Result<Over, Refusal> {
        let mut over = Over::default();
        if self.is_of_others(open) {
            return Ok(over);
        }
        let mut seen = Vec::new();
        for (open, taken) in open {
            let id = open.task.id;
            let begun = append.changes.iter_mut().find(|change| change.task == id);
            // What ends of it already is not all of it: somebody may have joined since that was decided.
            let open = match &begun {
                Some(begun) => &OpenTask {
                    task: begun.next.clone(),
                    ..open.clone()
                },
                None => open,
            };
            let task = &open.task;
            if task.has_ended() {
                continue;
            }
            let events = self.events(open, taken.as_ref().map(|taken| taken.moved), append.now)?;
            let ends = |event: &Event| match event {
                Event::TaskEnded(_) => true,
                Event::TaskRequested(_)
                | Event::TaskApproved(_)
                | Event::TaskDenied(_)
                | Event::TaskStarted(_)
                | Event::ClientRegistered(_)
                | Event::ClientDelegated(_)
                | Event::CredentialIssued(_)
                | Event::CredentialRevoked(_)
                | Event::ClientEnded(_) => false,
            };
            if events.is_empty() {
                seen.push((task.id, task.version));
                continue;
            }
            if events.iter().any(ends) {
                over.tasks += 1;
            } else {
                over.clients += events.len() as u64;
            }
            let by_itself = task.lapsed(append.now, open.heard).is_some();
            let more = drafted(Some(task.clone()), id, events, |event| match taken {
                // It was over by another's word, and that one is named, unless it was over before.
                Some(taken) => taken.annex_of(event),
                None if by_itself => Ok(None),
                None => self.annex().map(Some),
            })?;
            match begun {
                Some(begun) => {
                    begun.events.extend(more.events);
                    begun.next = more.next;
                }
                None => append.changes.push(more),
            }
        }
        append.closes.push(CloseWrite {
            issuer: self.issuer.clone(),
            series: self.series.clone(),
            closed: self.closed.clone(),
            seen,
            until: self.until,
        });
        Ok(over)
    }

    /// Whether something is open of the run that the word cannot be about.
    pub(super) fn is_of_others(&self, open: &[(OpenTask, Option<Taken>)]) -> bool {
        let mut tasks = open.iter().map(|(open, _)| &open.task);
        tasks.any(|task| !task.has_ended() && !self.is_about(task))
    }

    /// Whether a task is of a job that has the pairs of the word.
    fn is_about(&self, task: &Task) -> bool {
        let has = |instance: &str| self.within.iter().all(|pair| has_part(instance, pair));
        match task.pending() {
            Some(pending) => has(&pending.instance),
            None => (1u32..)
                .zip(&task.clients)
                .filter(|(number, _)| task.vouched_by(*number) == &task.issuer)
                .any(|(_, client)| has(&client.instance)),
        }
    }

    /// Whether it says the same of the same run, whenever it was said.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let new = |key: &String| !other.keys.contains(key);
        self.issuer == other.issuer
            && self.series == other.series
            && self.closed.is_same(&other.closed)
            && self.within == other.within
            && !self.keys.iter().any(new)
    }

    /// What an open task is by it, where it is of the attempt.
    pub(super) fn cover(&self, open: &mut OpenTask) -> Result<(), Unavailable> {
        let task = &open.task;
        let concerned = task.issuer == self.issuer
            && task.series == self.series
            && task.attempt == self.closed.attempt
            && !task.has_ended()
            && self.is_about(task);
        if !concerned {
            return Ok(());
        }
        let wrong = |why: &dyn std::fmt::Display| Unavailable(why.to_string());
        let events = self.events(open, None, self.closed.at);
        for event in events.map_err(|why| wrong(&why))? {
            let id = open.task.id;
            open.task = apply(Some(open.task.clone()), id, &event)
                .ok_or_else(|| wrong(&"an end does not fit its task"))?;
        }
        Ok(())
    }

    /// What happens to one task of the attempt.
    fn events(
        &self,
        open: &OpenTask,
        moved: Option<Moved>,
        now: Time,
    ) -> Result<Vec<Event>, Refusal> {
        let heard = open.heard;
        if moved.is_some() {
            // What took its rights away has ended it already: this records it.
            let sweep = Command::Sweep(Sweep {
                now,
                heard,
                moved,
                fallen: &[],
            });
            return decide(Some(&open.task), &sweep);
        }
        match &self.closed.part {
            Some(part) if !self.keys.contains(&open.task.key) && !waits_for(&open.task, part) => {
                end_part(open, part, now)
            }
            Some(_) | None => {
                let end = Command::EndTask(EndTask {
                    now,
                    heard,
                    cause: Cause::Upstream,
                    by: None,
                });
                decide(Some(&open.task), &end)
            }
        }
    }

    fn annex(&self) -> Result<Annex, Refusal> {
        by_word(&format!("{}: {}", self.issuer, self.said))
    }
}

/// Whether it is the job that asked for the approval that a task waits for: there is no other in it.
fn waits_for(task: &Task, part: &str) -> bool {
    task.pending()
        .is_some_and(|pending| has_part(&pending.instance, part))
}

/// Ends the clients of one job in a task that it shares with others: those that came in by its proof,
/// as roots or as children of another job's.
fn end_part(open: &OpenTask, part: &str, now: Time) -> Result<Vec<Event>, Refusal> {
    let vouched = |number| open.task.vouched_by(number) == &open.task.issuer;
    let numbers: Vec<u32> = (1u32..)
        .zip(&open.task.clients)
        .filter(|(number, client)| vouched(*number) && has_part(&client.instance, part))
        .map(|(number, _)| number)
        .collect();
    let mut task: Task = open.task.clone();
    let mut events = Vec::new();
    for client in numbers {
        // A child that brought no proof has the instance of its parent, and has ended with it. What has
        // expired below its task is over, and holds up nobody else's end.
        if task.check_client(client, now).is_err() {
            continue;
        }
        let command = Command::EndClient(EndClient {
            now,
            heard: open.heard,
            client,
            cause: Cause::Upstream,
            by: None,
        });
        for event in decide(Some(&task), &command)? {
            let id = task.id;
            task = apply(Some(task), id, &event)
                .ok_or_else(|| unavailable(&"an end does not fit its task"))?;
            events.push(event);
        }
        // It ended with the last of them.
        if !task.is_open() {
            break;
        }
    }
    Ok(events)
}
