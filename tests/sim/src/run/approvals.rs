//! Requests that wait for people in a run: they are made, approved, denied, taken back and fetched.

use dayfly_domain::{ClientId, Rule, Span, TaskId, Time};
use dayfly_server::app::{Actor, Granted, Polled, Refused};

use super::callers::must_be_unavailable;
use super::{Lie, Party, Running, Verdict, nth, nth_at};
use crate::caller::{Caller, rule};
use crate::face::Said;
use crate::model::{Admission, Login, WITHIN, WORKLOADS};
use crate::operation::Failure;
use crate::persons::PEOPLE;
use crate::reached::Place;
use crate::waiting::{Pace, Waiting};
use crate::world::Run;

/// How many requests are kept to be asked about again: the last.
const KEPT: usize = 6;
/// How old a token of the platform may be that is shown again.
const TOKEN_AGE: Span = Span::from_seconds(290);

/// A request that somebody made.
#[derive(Clone)]
pub(super) struct Request {
    waiting: Waiting,
    pace: Pace,
    workload: usize,
    key: usize,
    asked: Time,
}

/// Who asks, and for what.
pub(super) struct Asking {
    pub(super) workload: usize,
    pub(super) run: Run,
    pub(super) person: Option<Login>,
    pub(super) key: usize,
}

impl Running {
    /// Asks for what people must approve first. Whether its answer is lost or not, it waits once.
    pub(super) async fn request(&mut self, caller: Caller, asking: &Asking) -> Verdict {
        let Asking {
            workload,
            run,
            person,
            key,
        } = *asking;
        let admission = self.model.admit(workload, run, person);
        let expected = admission == Admission::Starts && self.is_clear();
        let mut answer = caller.request(&self.world).await;
        if self.failing.is_some() && expected {
            must_be_unavailable(&answer)?;
            self.backend.heal();
            answer = caller.request(&self.world).await;
        }
        let Some(deferred) = self.judge(Some(expected), answer)? else {
            return Ok(());
        };
        if deferred.expires_in != WITHIN.seconds() {
            return Err(format!("it waits for {} s", deferred.expires_in));
        }
        self.model.request(deferred.task, workload, run, person);
        self.reached.count(Place::Requested);
        self.requests.push(Request {
            waiting: Waiting::new(&caller, &deferred),
            pace: Pace::new(),
            workload,
            key,
            asked: self.model.now,
        });
        if self.requests.len() > KEPT {
            self.requests.remove(0);
        }
        Ok(())
    }

    /// The same request once more, as after an answer that got lost: it is told the same.
    pub(super) async fn request_again(&mut self, place: usize) -> Verdict {
        let Some((_, request)) = self.request_at(place) else {
            return Ok(());
        };
        let (id, now) = (request.waiting.task, self.model.now);
        let is_old = now.since(request.asked) > TOKEN_AGE || request.asked > now;
        if is_old || self.model.tasks[&id].is_opened() {
            return Ok(());
        }
        let waits = self.model.pending(id).is_some() && !self.model.is_kept_out(id);
        let expected = match waits {
            _ if self.model.is_doubtful(id) => None,
            // Nothing has to be recorded for it, and nothing promises it either.
            true if !self.is_clear() => None,
            waits => Some(waits),
        };
        let answer = request.waiting.caller.request(&self.world).await;
        match self.judge(expected, answer)? {
            Some(deferred) if !request.waiting.is_same(&deferred) => {
                return Err(format!("another answer: {deferred:?}"));
            }
            told => self.reached.count_if(told.is_some(), Place::ToldAgain),
        }
        Ok(())
    }

    /// Somebody approves.
    pub(super) async fn approve(&mut self, place: usize, who: usize) -> Verdict {
        let Some((_, request)) = self.request_at(place) else {
            return Ok(());
        };
        let id = request.waiting.task;
        let who = self.somebody(id, who);
        let expected = if self.model.is_doubtful(id) {
            None
        } else {
            Some(self.model.may_approve(id, who) && self.is_clear())
        };
        let path = format!("/tasks/{id}/approve");
        let said = self.face.post(&self.world, who, &path).await;
        let waits = self.model.pending(id).is_some();
        let mut people = WORKLOADS[request.workload].people;
        if self.lie == Lie::OneApproves {
            people = 1;
        }
        match (said, self.failing.filter(|_| expected == Some(true))) {
            (Said::Unavailable, Some(Failure::Kept)) => self.model.approve(id, who, people),
            (Said::Unavailable, Some(_)) => {}
            (said, Some(_)) => return Err(format!("a commit that failed: {said:?}")),
            (Said::Done, None) if expected == Some(false) => {
                return Err(format!("{} approved", PEOPLE[who]));
            }
            (Said::Done, None) => self.model.approve(id, who, people),
            (said, None) if expected == Some(true) => {
                return Err(format!("{} may not approve: {said:?}", PEOPLE[who]));
            }
            (_, None) => self.reached.count_if(waits, Place::NotApproved),
        }
        let approved = self
            .model
            .pending(id)
            .is_some_and(|it| it.approved.is_some());
        let now = said == Said::Done && approved;
        self.reached.count_if(now, Place::Approved);
        Ok(())
    }

    /// Somebody denies; whoever is at the machine itself may, too.
    pub(super) async fn deny(&mut self, place: usize, who: Option<usize>) -> Verdict {
        let Some((_, request)) = self.request_at(place) else {
            return Ok(());
        };
        let id = request.waiting.task;
        let (denied, may) = if let Some(who) = who.map(|who| self.somebody(id, who)) {
            let path = format!("/tasks/{id}/deny");
            let said = self.face.post(&self.world, who, &path).await;
            (said == Said::Done, self.model.is_asked(id, who))
        } else {
            let (by, app) = (Actor::Local { uid: 0 }, &self.world.app);
            let done = app.deny(&self.world.tenant, id, &by, "simulated").await;
            (done.is_ok(), true)
        };
        let waits = self.model.pending(id).is_some();
        match (denied, waits && may) {
            (true, _) if !may => Err("a stranger denied".to_owned()),
            (true, _) if self.model.tasks[&id].is_opened() => Err("an open task".to_owned()),
            // What is over already may be told so, or be recorded by this.
            (true, _) => {
                self.reached.count_if(waits, Place::Denied);
                self.model.end_task(id);
                Ok(())
            }
            (false, true) if !self.model.is_doubtful(id) => Err("not denied".to_owned()),
            (false, _) => Ok(()),
        }
    }

    /// Who asked takes it back.
    pub(super) async fn take_back(&mut self, place: usize) -> Verdict {
        let Some((_, request)) = self.request_at(place) else {
            return Ok(());
        };
        let id = request.waiting.task;
        let done = request.waiting.take_back(&self.world).await;
        self.judge(Some(true), done)?;
        // Of what was fetched it takes nothing back.
        if !self.model.tasks[&id].is_opened() {
            let waited = self.model.pending(id).is_some();
            self.reached.count_if(waited, Place::TakenBack);
            self.model.end_task(id);
        }
        Ok(())
    }

    /// Asks on, as soon as it may or at once. What was approved is fetched by it.
    pub(super) async fn poll(&mut self, place: usize, patient: bool) -> Verdict {
        let Some((at, Request { mut pace, .. })) = self.request_at(place) else {
            return Ok(());
        };
        let rest = pace.rest(self.model.now);
        if patient && rest > Span::ZERO {
            self.world.wait(rest.millis().div_ceil(1000));
            self.moved(false).await?;
        }
        let request = self.requests[at].clone();
        let id = request.waiting.task;
        let doubtful = self.model.is_doubtful(id);
        let pending = self.model.pending(id).cloned();
        let early = pending.is_some() && pace.is_early(self.model.now);
        self.requests[at].pace = pace;
        let unapproved = self.model.is_unapproved(id) && !early;
        let expected = match early {
            _ if doubtful => None,
            true => Some(false),
            false => Some(self.model.may_fetch(id) && self.is_clear()),
        };
        self.count_poll(id, early);
        let answer = request.waiting.poll(&self.world).await;
        if unapproved && !doubtful {
            self.model.end_task(id);
        }
        let answer = match answer {
            Ok(Polled::Granted(granted, _)) => Ok(*granted),
            Ok(Polled::Wait(refusal)) => {
                let waits = pending.is_some_and(|pending| pending.approved.is_none());
                let told = if refusal.rule == Rule::SlowDown {
                    early || self.model.pending(id).is_none()
                } else {
                    waits && !early
                };
                return if told || doubtful {
                    Ok(())
                } else {
                    Err(format!("it is to wait: {refusal:?}"))
                };
            }
            Err(refused) => {
                let waits = pending.is_some_and(|pending| pending.approved.is_none());
                if waits && !doubtful && rule(&refused) != Rule::PollFlood {
                    return Err(format!("it may wait: {:?}", refused.refusal));
                }
                Err(refused)
            }
        };
        self.fetched(&request, expected, answer)
    }

    /// Takes what was approved and is fetched.
    fn fetched(
        &mut self,
        request: &Request,
        expected: Option<bool>,
        answer: Result<Granted, Refused>,
    ) -> Verdict {
        let id = request.waiting.task;
        let mut heard = None;
        if let Some(failure) = self.failing.filter(|_| expected == Some(true)) {
            must_be_unavailable(&answer)?;
            if failure != Failure::Kept {
                return Ok(());
            }
        } else {
            heard = self.judge(expected, answer)?;
            if heard.is_none() {
                return Ok(());
            }
        }
        // Whoever did not hear of it is its first client all the same.
        self.model.fetch(id, request.key);
        let client = request.waiting.client();
        self.parties.push(Party {
            caller: request.waiting.caller.clone(),
            asked: request.asked,
            workload: request.workload,
            task: id,
            number: 1,
            client: client.clone(),
            is_child: false,
        });
        let Some(granted) = heard else {
            self.reached.count(Place::FetchedUnheard);
            return Ok(());
        };
        self.reached.count(Place::Fetched);
        if granted.client
            != (ClientId {
                task: id,
                number: 1,
            })
        {
            return Err(format!("it fetched {}", granted.client));
        }
        self.keep(self.parties.len() - 1, &granted)
    }

    /// A request by its place: mostly one that waits.
    fn request_at(&self, place: usize) -> Option<(usize, Request)> {
        let (any, place) = (place.is_multiple_of(8), place / 8);
        let waits = |at: &usize| {
            self.model
                .pending(self.requests[*at].waiting.task)
                .is_some()
        };
        let waiting: Vec<usize> = (0..self.requests.len()).filter(waits).collect();
        match nth(&waiting, place).filter(|_| !any) {
            Some(at) => Some((at, self.requests[at].clone())),
            None => nth_at(&self.requests, place),
        }
    }

    /// Counts what a poll comes to.
    fn count_poll(&mut self, id: TaskId, early: bool) {
        let approved = self
            .model
            .pending(id)
            .is_some_and(|it| it.approved.is_some());
        let asks = approved && !early;
        let unapproved = self.model.is_unapproved(id);
        self.reached.count_if(asks && unapproved, Place::Unapproved);
        let kept_out = !unapproved && self.model.is_kept_out(id);
        self.reached.count_if(asks && kept_out, Place::KeptOut);
    }

    /// Who is to say yes or no: mostly one of those who may.
    fn somebody(&self, id: TaskId, who: usize) -> usize {
        let members = self.model.members(id);
        let (stranger, who) = (who.is_multiple_of(4), who / 4);
        if stranger {
            who % PEOPLE.len()
        } else {
            members[who % members.len()]
        }
    }

    /// The tasks of what was asked of people.
    pub(super) fn requested(&self) -> impl Iterator<Item = TaskId> {
        self.requests.iter().map(|request| request.waiting.task)
    }

    /// A server that starts has forgotten how often it was asked.
    pub(super) fn forget_polls(&mut self) {
        for request in &mut self.requests {
            request.pace = Pace::new();
        }
    }
}
