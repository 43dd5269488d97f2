//! What callers do in a run: they ask, renew, exchange, hand over, beat, and end what is theirs.

use dayfly_domain::{Outcome, Rule, Span, TaskId, Time};
use dayfly_server::app::{Granted, Refused};

use super::approvals::Asking;
use super::{Held, Lie, Party, Running, Verdict, nth, nth_at};
use crate::caller::{self, Caller, KEYS};
use crate::model::{Admission, Login, Proof, WORKLOADS, Workload};
use crate::operation::Failure;
use crate::reached::Place;
use crate::record;
use crate::world::Run;

/// How many credentials are kept to be shown again.
const KEPT: usize = 256;
/// How many tasks beat at most: so few that their silence together is never taken for the server's.
const WATCHED: usize = 8;
/// How old a token of the platform may be that is shown again.
const TOKEN_AGE: Span = Span::from_seconds(290);

impl Running {
    /// Asks by a fresh proof; where people must approve first, for that.
    pub(super) async fn ask(&mut self, asking: Asking) -> Verdict {
        let Asking {
            workload,
            run,
            person,
            key,
        } = asking;
        let Workload {
            repository,
            bearer,
            people,
            proof,
            ..
        } = WORKLOADS[workload];
        let mut caller = match (proof, person) {
            (Proof::Person, Some(login)) => Caller::person(&self.world, login, key),
            (Proof::Job | Proof::Agent | Proof::Person, _) => {
                Caller::new(&self.world, repository, run, key)
            }
        };
        if let (Proof::Agent, Some(login)) = (proof, person) {
            caller = caller.on_behalf_of(&self.world, login);
        }
        if people > 0 {
            return self.request(caller, &asking).await;
        }
        if bearer {
            caller = caller.without_key();
        }
        self.start(caller, &asking).await
    }

    async fn start(&mut self, caller: Caller, asking: &Asking) -> Verdict {
        let Asking {
            workload,
            run,
            person,
            key,
        } = *asking;
        let bearer = caller.key.is_none();
        let key = (!bearer).then_some(key);
        let clear = self.is_clear();
        let admission = self.model.admit(workload, run, person);
        let expected = match admission {
            Admission::Joins(task) | Admission::Again(task, _) if self.model.is_doubtful(task) => {
                None
            }
            Admission::Joins(_) | Admission::Starts | Admission::Again(..) => Some(clear),
            // A clock that was set back may leave it open whether there is room.
            Admission::Refused if bearer && self.model.is_behind() => None,
            Admission::Refused => Some(false),
        };
        let mut answer = caller.ask(&self.world).await;
        let failed = self.failing.filter(|_| expected == Some(true));
        if let Some(failure) = failed {
            must_be_unavailable(&answer)?;
            self.backend.heal();
            // Without a key nothing tells the client from a thief of its proof.
            if bearer && failure == Failure::Kept {
                return self.unseen(workload, run);
            }
            answer = caller.ask(&self.world).await;
        }
        let Some(granted) = self.judge(expected, answer)? else {
            return Ok(());
        };
        let number = match admission {
            Admission::Joins(task) if task == granted.task => self.model.join(task, key),
            Admission::Starts if !self.model.tasks.contains_key(&granted.task) => {
                self.model.start(granted.task, workload, run, person, key);
                1
            }
            Admission::Again(task, number) if task == granted.task => {
                self.model.issue(task, number, granted.task_expires);
                number
            }
            Admission::Starts | Admission::Joins(_) | Admission::Refused | Admission::Again(..) => {
                return Err(format!("{admission:?}, and it got {}", granted.task));
            }
        };
        if failed == Some(Failure::Kept) {
            // The first answer was lost with its credential.
            self.model.issue(granted.task, number, granted.task_expires);
        }
        let asked = self.model.now;
        self.parties.push(Party {
            client: caller.client(&granted),
            caller,
            asked,
            workload,
            task: granted.task,
            number,
            is_child: false,
        });
        self.keep(self.parties.len() - 1, &granted)
    }

    /// A task that was recorded and of which nobody was told.
    pub(super) fn unseen(&mut self, workload: usize, run: Run) -> Verdict {
        let known = |id: &TaskId| self.model.tasks.contains_key(id);
        let open = record::open_tasks(self.world.app.store());
        let new: Vec<TaskId> = open.into_iter().filter(|id| !known(id)).collect();
        let [id] = new.as_slice() else {
            return Err(format!("recorded and yet {new:?}"));
        };
        self.model.start(*id, workload, run, None, None);
        Ok(())
    }

    /// Keeps a credential that was granted, and compares what was said of it.
    pub(super) fn keep(&mut self, party: usize, granted: &Granted) -> Verdict {
        let Party { task, number, .. } = self.parties[party];
        let credentials = self.model.tasks[&task].clients[number - 1]
            .credentials
            .len();
        let expires = self.model.expiry(task, number, credentials);
        let wanted = expires.since(self.model.now).seconds();
        self.held.push(Held {
            party,
            number: credentials,
            token: granted.token.clone(),
        });
        if self.held.len() > KEPT {
            self.held.remove(0);
        }
        if granted.expires_in == wanted && self.model.tasks[&task].deadline == granted.task_expires
        {
            Ok(())
        } else {
            Err(format!(
                "it lives for {} s, not {wanted}",
                granted.expires_in
            ))
        }
    }

    pub(super) async fn ask_beside(
        &mut self,
        place: usize,
        attempt: i8,
        job: u64,
        key: usize,
    ) -> Verdict {
        let Some(party) = nth(&self.parties, place) else {
            return Ok(());
        };
        let task = &self.model.tasks[&party.task];
        let of = task.run;
        let mut asking = Asking {
            workload: party.workload,
            run: of,
            person: task.person,
            key: key % KEYS,
        };
        // A person who logs in once has one task by it.
        if WORKLOADS[party.workload].proof != Proof::Person {
            let attempt = of.attempt.saturating_add_signed(attempt.into()).max(1);
            let now = self.model.now;
            asking.run = Run { attempt, job, ..of };
            asking.person = task.person.map(|login| Login::now(login.who, now));
        }
        self.ask(asking).await
    }

    pub(super) async fn ask_again(&mut self, place: usize) -> Verdict {
        let Some((at, party)) = nth_at(&self.parties, place) else {
            return Ok(());
        };
        let now = self.model.now;
        if party.is_child || now.since(party.asked) > TOKEN_AGE || party.asked > now {
            return Ok(());
        }
        let admission = self
            .model
            .admit_again(party.workload, party.task, party.number);
        let expected = match admission {
            Admission::Again(..) if self.model.is_doubtful(party.task) => None,
            Admission::Again(..) => Some(self.is_clear()),
            Admission::Refused if self.model.is_behind() => None,
            Admission::Refused | Admission::Starts | Admission::Joins(_) => Some(false),
        };
        let answer = party.caller.ask(&self.world).await;
        self.further(at, expected, answer, Time::from_millis(u64::MAX))
    }

    /// Takes a further credential of a client that is known.
    pub(super) fn further(
        &mut self,
        at: usize,
        expected: Option<bool>,
        answer: Result<Granted, Refused>,
        until: Time,
    ) -> Verdict {
        let Party { task, number, .. } = self.parties[at];
        if let Some(failure) = self.failing.filter(|_| expected == Some(true)) {
            must_be_unavailable(&answer)?;
            if failure == Failure::Kept {
                self.model.issue_unheard(task, number, until);
            }
            return Ok(());
        }
        let Some(granted) = self.judge(expected, answer)? else {
            return Ok(());
        };
        if granted.task != task {
            return Err(format!("a credential of {}", granted.task));
        }
        self.model.issue(task, number, until);
        self.keep(at, &granted)
    }

    pub(super) async fn renew(&mut self, place: usize) -> Verdict {
        let Some((at, party)) = nth_at(&self.parties, place) else {
            return Ok(());
        };
        if party.client.key.is_none() {
            return Ok(());
        }
        let expected = self.may_act(&party);
        let answer = party.client.renew(&self.world).await;
        self.further(at, expected, answer, Time::from_millis(u64::MAX))
    }

    pub(super) async fn narrow(&mut self, place: usize) -> Verdict {
        let Some(held) = nth(&self.held, place) else {
            return Ok(());
        };
        let party = self.parties[held.party].clone();
        let expected = match self.is_live(&held) {
            Some(true) => self.may_act(&party),
            live => live,
        };
        // What a bearer token is exchanged for does not outlive it.
        let until = if party.client.key.is_none() {
            self.model.expiry(party.task, party.number, held.number)
        } else {
            Time::from_millis(u64::MAX)
        };
        let answer = party.client.narrow(&self.world, &held.token).await;
        self.further(held.party, expected, answer, until)
    }

    pub(super) async fn hand_over(&mut self, place: usize, key: usize) -> Verdict {
        let Some(party) = nth(&self.parties, place) else {
            return Ok(());
        };
        let (task, number, key) = (party.task, party.number, key % KEYS);
        if party.client.key.is_none() {
            return Ok(());
        }
        let expected = if self.model.is_doubtful(task) {
            None
        } else {
            let may = self.model.may_act(task, number);
            Some(may && self.model.may_hand_over(task, number, key) && self.is_clear())
        };
        let answer = party.client.hand_over(&self.world, key).await;
        if let Some(failure) = self.failing.filter(|_| expected == Some(true)) {
            must_be_unavailable(&answer.map(|(_, granted)| granted))?;
            if failure == Failure::Kept {
                self.model.hand_over(task, number, key);
            }
            return Ok(());
        }
        let Some((client, granted)) = self.judge(expected, answer)? else {
            return Ok(());
        };
        let number = self.model.hand_over(task, number, key);
        if granted.client.number as usize != number {
            return Err(format!("{} is not the {number}th", granted.client));
        }
        self.parties.push(Party {
            client,
            number,
            is_child: true,
            ..party
        });
        self.keep(self.parties.len() - 1, &granted)
    }

    /// Whether a client gets a further credential.
    pub(super) fn may_act(&mut self, party: &Party) -> Option<bool> {
        if self.model.is_doubtful(party.task) {
            return None;
        }
        let may = self.model.may_act(party.task, party.number);
        let alive = self.model.is_client_alive(party.task, party.number);
        self.reached.count_if(alive && !may, Place::NothingFurther);
        let room = self.model.has_room(party.task, party.number);
        if may && !room && self.model.is_behind() {
            return None;
        }
        Some(may && room && self.is_clear())
    }

    pub(super) fn beat(&mut self, place: usize) -> Verdict {
        let Some(held) = nth(&self.held, place) else {
            return Ok(());
        };
        let party = self.parties[held.party].clone();
        let watched = self.model.tasks[&party.task].seen.is_some();
        // A helper keeps no task alive.
        if party.is_child {
            let answer = party.client.beat(&self.world, &held.token);
            return self.judge(Some(false), answer).map(drop);
        }
        if !watched && self.model.watched() >= WATCHED {
            return Ok(());
        }
        let expected = self.is_live(&held);
        let answer = party.client.beat(&self.world, &held.token);
        if self.judge(expected, answer)?.is_some() {
            let clear = self.is_clear();
            self.model.beat(party.task, clear);
        }
        Ok(())
    }

    pub(super) async fn end(&mut self, place: usize, whole_task: bool) -> Verdict {
        let Some(held) = nth(&self.held, place) else {
            return Ok(());
        };
        let party = self.parties[held.party].clone();
        let live = self.is_live(&held);
        let (world, token) = (&self.world, &held.token);
        let answer = party
            .client
            .end(world, token, whole_task, Outcome::Completed)
            .await;
        let keyed = party.client.key.is_some();
        if whole_task && party.is_child {
            return if answer.is_ok() && self.model.is_client_alive(party.task, party.number) {
                Err("a helper ended the whole task".to_owned())
            } else {
                Ok(())
            };
        }
        match (answer.is_ok(), live) {
            (true, _) if !keyed => Err("a bearer credential ended something".to_owned()),
            (true, Some(true) | None) => {
                if whole_task {
                    self.model.end_task(party.task);
                } else {
                    self.model.end_client(party.task, party.number);
                }
                Ok(())
            }
            // The same answer again, or the record of what is over already.
            (true, Some(false)) if !self.model.is_client_alive(party.task, party.number) => Ok(()),
            (false, Some(false) | None) => Ok(()),
            (false, Some(true)) if !keyed => Ok(()),
            (ended, live) => Err(format!("ended: {ended}, live: {live:?}")),
        }
    }

    pub(super) async fn revoke(&mut self, place: usize) -> Verdict {
        let Some(held) = nth(&self.held, place) else {
            return Ok(());
        };
        if self.is_live(&held) != Some(true) {
            return Ok(());
        }
        let party = self.parties[held.party].clone();
        let answer = party.client.revoke(&self.world, &held.token).await;
        self.judge(Some(true), answer)?;
        if self.lie != Lie::RevocationsAreNothing {
            self.model.revoke(party.task, party.number, held.number);
        }
        Ok(())
    }
}

pub(super) fn must_be_unavailable<T>(answer: &Result<T, Refused>) -> Verdict {
    match answer {
        Err(refused) if caller::rule(refused) == Rule::Unavailable => Ok(()),
        Err(refused) => Err(format!("a commit that failed: {:?}", refused.refusal)),
        Ok(_) => Err("granted although its commit failed".to_owned()),
    }
}
