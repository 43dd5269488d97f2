//! A run: operations on a server and on the model beside it, compared after each.

use std::sync::Arc;

use dayfly_domain::{BlockOn, Name, Outcome, Rule, Span, TaskId, Time};
use dayfly_server::app::{Actor, ApplyError, ApplyRequest, Contained, Granted, Refused};
use dayfly_store::clock::{Clock as _, ManualClock};
use tempfile::TempDir;

use crate::backend::{Backend, Kind};
use crate::caller::{self, Caller, Client, is_active};
use crate::model::{Admission, Model, WORKLOADS, Workload};
use crate::operation::{Dice, Failure, Operation};
use crate::record;
use crate::world::{BEGIN, DECLARED, Run, World, folder, workload};

/// The model knows one issuer, and no operation blocks it.
const NO_ISSUER: &str = "an issuer is contained, of which the model knows nothing";

const BY: Actor = Actor::Local { uid: 0 };
/// How many credentials are kept to be shown again.
const KEPT: usize = 256;
/// After how many operations everything is compared, and the whole ledger checked.
const COMPARED: usize = 64;
const CHECKED: usize = 1024;
/// How many tasks beat at most: so few that their silence together is never taken for the server's.
const WATCHED: usize = 8;
/// How old a token of the platform may be that is shown again.
const TOKEN_AGE: Span = Span::from_seconds(290);

/// What does not agree.
pub(crate) type Verdict = Result<(), String>;

/// A server and the model of it.
struct Running {
    world: World,
    backend: Backend,
    model: Model,
    parties: Vec<Party>,
    held: Vec<Held>,
    /// The run that comes next.
    next_run: u64,
    /// Which of what is held is looked at after an operation.
    dice: Dice,
    /// How the next commit fails.
    failing: Option<Failure>,
    lie: Lie,
}

/// What the model is made to get wrong, for the test of the simulation itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// It takes a revocation for nothing.
    RevocationsAreNothing,
}

/// A client that came in by a proof.
#[derive(Clone)]
struct Party {
    caller: Caller,
    asked: Time,
    workload: usize,
    task: TaskId,
    number: usize,
    client: Client,
}

/// A credential that somebody holds.
#[derive(Clone)]
struct Held {
    party: usize,
    number: usize,
    token: String,
}

/// Runs operations one after the other; an error says which does not agree with the model.
pub(crate) async fn run(kind: Kind, operations: &[Operation], lie: Lie) -> Verdict {
    let mut running = Running::new(kind, lie).await;
    for (at, operation) in operations.iter().enumerate() {
        let told = |why: String| format!("operation {at}, {operation:?}: {why}");
        running.step(operation).await.map_err(told)?;
        running.look(at).map_err(told)?;
    }
    running.compare_all()?;
    record::check(running.world.app.store())
}

impl Running {
    async fn new(kind: Kind, lie: Lie) -> Self {
        let model = Model::new(BEGIN);
        let folder = folder(&declared(&model));
        let clock = Arc::new(ManualClock::at(BEGIN));
        let backend = Backend::open(kind, folder.path(), &clock);
        let world = World::open(folder, clock, backend.store()).await;
        world.app.sweep().await;
        Self {
            world,
            backend,
            model,
            parties: Vec::new(),
            held: Vec::new(),
            next_run: 1,
            dice: Dice::new(1),
            failing: None,
            lie,
        }
    }

    async fn step(&mut self, operation: &Operation) -> Verdict {
        match operation {
            Operation::Start { workload, key } => {
                let run = Run {
                    id: self.next_run,
                    attempt: 1,
                    job: 1,
                };
                self.next_run += 1;
                self.ask(workload % WORKLOADS.len(), run, *key).await
            }
            Operation::Job {
                task,
                attempt,
                job,
                key,
            } => self.ask_beside(*task, *attempt, *job, *key).await,
            Operation::Again(place) => self.ask_again(*place).await,
            Operation::Renew(place) => self.renew(*place).await,
            Operation::Narrow(place) => self.narrow(*place).await,
            Operation::Introspect(place) => match nth(&self.held, *place) {
                Some(held) => self.compare(&held),
                None => Ok(()),
            },
            Operation::Beat(place) => self.beat(*place),
            Operation::EndClient(place) => self.end(*place, false).await,
            Operation::EndTask(place) => self.end(*place, true).await,
            Operation::Revoke(place) => self.revoke(*place).await,
            Operation::OperatorEnd(place) => self.operator_end(*place).await,
            Operation::Unblock(place) => self.unblock(*place).await,
            Operation::Offboard(place) | Operation::Disable(place) => {
                let owner = matches!(operation, Operation::Offboard(_));
                self.contain(contained(owner, *place)).await
            }
            Operation::Restore(place) | Operation::Enable(place) => {
                let owner = matches!(operation, Operation::Restore(_));
                self.lift(contained(owner, *place)).await
            }
            Operation::Freeze => self.contain(Contained::Tenant).await,
            Operation::Unfreeze => self.lift(Contained::Tenant).await,
            Operation::Apply { workload, agrees } => {
                self.apply(workload % WORKLOADS.len(), *agrees).await
            }
            Operation::Pass { seconds, swept } => {
                self.world.wait(*seconds);
                self.moved(*swept).await
            }
            Operation::Jump(by) => self.jump(*by).await,
            Operation::Sweep => self.sweep().await,
            Operation::Restart => self.restart().await,
            Operation::Failing(failure, operation) => {
                if self.backend.fail(*failure) {
                    self.failing = Some(*failure);
                }
                let done = Box::pin(self.step(operation)).await;
                self.backend.heal();
                self.failing = None;
                if !self.is_clear() {
                    self.model.blur();
                }
                done
            }
        }
    }

    /// Whether the server grants at all: the ledger records and the clock is steady.
    fn is_clear(&self) -> bool {
        let reasons = self.world.app.unready();
        !reasons.iter().any(|why| {
            why.starts_with("the ledger is stalled") || why.starts_with("nothing is granted")
        })
    }

    /// Judges an answer by what was expected of it; none where nobody can say.
    fn judge<T>(
        &self,
        expected: Option<bool>,
        answer: Result<T, Refused>,
    ) -> Result<Option<T>, String> {
        match (answer, expected) {
            (Ok(value), Some(true) | None) => Ok(Some(value)),
            (Err(_), Some(false) | None) => Ok(None),
            (Ok(_), Some(false)) => Err("it was granted".to_owned()),
            (Err(refused), Some(true)) => Err(format!("it was refused: {:?}", refused.refusal)),
        }
    }

    /// Asks by a fresh proof.
    async fn ask(&mut self, workload: usize, run: Run, key: usize) -> Verdict {
        let Workload {
            repository, bearer, ..
        } = WORKLOADS[workload];
        let mut caller = Caller::new(&self.world, repository, run, key);
        if bearer {
            caller = caller.without_key();
        }
        let clear = self.is_clear();
        let admission = self.model.admit(workload, run);
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
            Admission::Joins(task) if task == granted.task => self.model.join(task),
            Admission::Starts if !self.model.tasks.contains_key(&granted.task) => {
                self.model.start(granted.task, workload, run);
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
        });
        self.keep(self.parties.len() - 1, &granted)
    }

    /// A task that was recorded and of which nobody was told.
    fn unseen(&mut self, workload: usize, run: Run) -> Verdict {
        let known = |id: &TaskId| self.model.tasks.contains_key(id);
        let open = record::open_tasks(self.world.app.store());
        let new: Vec<TaskId> = open.into_iter().filter(|id| !known(id)).collect();
        let [id] = new.as_slice() else {
            return Err(format!("recorded and yet {new:?}"));
        };
        self.model.start(*id, workload, run);
        Ok(())
    }

    /// Keeps a credential that was granted, and compares what was said of it.
    fn keep(&mut self, party: usize, granted: &Granted) -> Verdict {
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

    async fn ask_beside(&mut self, place: usize, attempt: i8, job: u64, key: usize) -> Verdict {
        let Some(party) = nth(&self.parties, place) else {
            return Ok(());
        };
        let of = self.model.tasks[&party.task].run;
        let attempt = of.attempt.saturating_add_signed(attempt.into()).max(1);
        let run = Run { attempt, job, ..of };
        self.ask(party.workload, run, key).await
    }

    async fn ask_again(&mut self, place: usize) -> Verdict {
        let Some((at, party)) = nth_at(&self.parties, place) else {
            return Ok(());
        };
        let now = self.model.now;
        if now.since(party.asked) > TOKEN_AGE || party.asked > now {
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
    fn further(
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

    async fn renew(&mut self, place: usize) -> Verdict {
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

    async fn narrow(&mut self, place: usize) -> Verdict {
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

    /// Whether a client gets a further credential.
    fn may_act(&self, party: &Party) -> Option<bool> {
        if self.model.is_doubtful(party.task) {
            return None;
        }
        let alive = self.model.is_client_alive(party.task, party.number);
        let room = self.model.has_room(party.task, party.number);
        if alive && !room && self.model.is_behind() {
            return None;
        }
        Some(alive && room && self.is_clear())
    }

    fn beat(&mut self, place: usize) -> Verdict {
        let Some(held) = nth(&self.held, place) else {
            return Ok(());
        };
        let party = self.parties[held.party].clone();
        let watched = self.model.tasks[&party.task].seen.is_some();
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

    /// Whether a credential is live; none where nobody can say.
    fn is_live(&self, held: &Held) -> Option<bool> {
        let Party { task, number, .. } = self.parties[held.party];
        let live = self.model.is_live(task, number, held.number);
        let doubtful =
            self.model.is_doubtful(task) || self.model.is_struck(task, number, held.number);
        if live && doubtful {
            return None;
        }
        Some(live)
    }

    async fn end(&mut self, place: usize, whole_task: bool) -> Verdict {
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

    async fn revoke(&mut self, place: usize) -> Verdict {
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

    async fn operator_end(&mut self, place: usize) -> Verdict {
        let Some(party) = nth(&self.parties, place) else {
            return Ok(());
        };
        let app = &self.world.app;
        let done = app.operator_end(&self.world.tenant, party.task, &BY, "simulated");
        let done = done.await;
        let over = self.model.is_over(&self.model.tasks[&party.task]);
        match done {
            Ok(_) => {
                let run = self.model.tasks[&party.task].run.id;
                self.model.end_task(party.task);
                self.model.blocked.insert((party.workload, run));
                Ok(())
            }
            Err(_) if over || self.model.is_doubtful(party.task) => Ok(()),
            Err(refused) => Err(format!("not ended: {:?}", refused.refusal)),
        }
    }

    async fn unblock(&mut self, place: usize) -> Verdict {
        let blocked: Vec<(usize, u64)> = self.model.blocked.iter().copied().collect();
        let Some((workload, run)) = nth(&blocked, place) else {
            return Ok(());
        };
        let on = series(workload, run);
        let app = &self.world.app;
        let done = app.unblock(&self.world.tenant, on, &BY, "simulated").await;
        match done {
            Ok(()) => {
                self.model.blocked.remove(&(workload, run));
                Ok(())
            }
            Err(_) if !self.is_clear() => Ok(()),
            Err(refused) => Err(format!("not unblocked: {:?}", refused.refusal)),
        }
    }

    async fn contain(&mut self, what: Contained) -> Verdict {
        if !self.is_declared(&what) {
            return Ok(());
        }
        let app = &self.world.app;
        let done = app
            .contain(&self.world.tenant, &what, &BY, "simulated")
            .await;
        self.judge(Some(true), done)?;
        match &what {
            Contained::Owner(owner) => {
                let owner = owner_of(owner);
                self.model.offboarded.insert(owner);
                self.model
                    .end_where(|task| WORKLOADS[task.workload].owner == owner);
            }
            Contained::Workload(name) => {
                let workload = workload_of(name);
                self.model.disabled.insert(workload);
                self.model.end_where(|task| task.workload == workload);
            }
            Contained::Issuer(_) => return Err(NO_ISSUER.to_owned()),
            Contained::Tenant => {
                self.model.frozen = true;
                self.model.end_where(|_| true);
            }
        }
        Ok(())
    }

    async fn lift(&mut self, what: Contained) -> Verdict {
        let app = &self.world.app;
        let done = app.lift(&self.world.tenant, &what, &BY, "simulated").await;
        let stands = match &what {
            Contained::Owner(owner) => self.model.offboarded.contains(owner_of(owner)),
            Contained::Workload(name) => self.model.disabled.contains(&workload_of(name)),
            Contained::Issuer(_) => return Err(NO_ISSUER.to_owned()),
            Contained::Tenant => self.model.frozen,
        };
        if done.is_err() && stands && !self.is_clear() {
            return Ok(());
        }
        if self.judge(Some(stands), done)?.is_some() {
            match &what {
                Contained::Owner(owner) => drop(self.model.offboarded.remove(owner_of(owner))),
                Contained::Workload(name) => {
                    self.model.disabled.remove(&workload_of(name));
                }
                Contained::Issuer(_) => return Err(NO_ISSUER.to_owned()),
                Contained::Tenant => self.model.frozen = false,
            }
        }
        Ok(())
    }

    fn is_declared(&self, what: &Contained) -> bool {
        match what {
            Contained::Owner(_) | Contained::Issuer(_) | Contained::Tenant => true,
            Contained::Workload(name) => self.model.declared.contains(&workload_of(name)),
        }
    }

    /// Takes a workload out of the declared state, or puts it back.
    async fn apply(&mut self, workload: usize, agrees: bool) -> Verdict {
        if !self.is_clear() {
            return Ok(());
        }
        let mut next = self.model.clone();
        let removes = next.declared.remove(&workload);
        if !removes {
            next.declared.insert(workload);
        }
        self.world.declare(&declared(&next));
        let (app, tenant) = (&self.world.app, &self.world.tenant);
        let request = ApplyRequest {
            dry_run: true,
            ..ApplyRequest::default()
        };
        let would = app.apply(tenant, request, &BY, "simulated").await;
        let would = would.map_err(|why| why.to_string())?.ends;
        let request = ApplyRequest {
            ends: agrees.then_some(would),
            ..ApplyRequest::default()
        };
        match app.apply(tenant, request, &BY, "simulated").await {
            Ok(_) => {}
            Err(ApplyError::Ends { .. }) if !agrees && would > 0 => return Ok(()),
            Err(why) => return Err(why.to_string()),
        }
        self.model.declared = next.declared;
        if removes {
            let doubtful = |id: &TaskId| self.model.is_doubtful(*id);
            let doubts = self.model.tasks.keys().filter(|id| doubtful(id)).count() as u64;
            let ended = self.model.end_where(|task| task.workload == workload);
            if ended.len() as u64 > would {
                return Err(format!("{would} would end, and {ended:?} did"));
            }
            // What ends by policy blocks its run once it is recorded.
            self.world.app.sweep().await;
            self.model.hear();
            self.take_blocks(&ended, doubts > 0)?;
        }
        Ok(())
    }

    /// Takes over the blocks that stand, which must be on what ended by policy.
    fn take_blocks(&mut self, ended: &[TaskId], doubts: bool) -> Verdict {
        let blocks = self.world.app.blocks(&self.world.tenant).unwrap();
        for id in ended {
            let task = &self.model.tasks[id];
            let on = series(task.workload, task.run.id);
            if blocks.iter().any(|block| block.on == on) {
                self.model.blocked.insert((task.workload, task.run.id));
            } else if !doubts {
                return Err(format!("no block on {on}"));
            }
        }
        Ok(())
    }

    async fn jump(&mut self, by: i64) -> Verdict {
        let now = self.world.now().millis();
        let to = now.saturating_add_signed(by * 1000);
        // What is past its day is refused as forgotten, which is another matter.
        if to / 86_400_000 != now / 86_400_000 {
            return Ok(());
        }
        self.world.clock.jump(Time::from_millis(to));
        self.model.blur();
        self.moved(false).await
    }

    /// Goes on after the clock has moved.
    async fn moved(&mut self, swept: bool) -> Verdict {
        self.model.at(self.world.clock.now());
        if swept {
            return self.sweep().await;
        }
        // Whoever asks for a task after a pause has the server say that it hears again.
        if let Some(held) = self.held.last() {
            is_active(&self.world, &held.token);
            self.model.wake();
        }
        if !self.is_clear() {
            self.model.blur();
        }
        Ok(())
    }

    async fn sweep(&mut self) -> Verdict {
        let clear = self.is_clear();
        self.world.app.sweep().await;
        self.model.hear();
        if !(clear && self.is_clear()) {
            self.model.blur();
            return Ok(());
        }
        if self.failing.is_some() {
            return Ok(());
        }
        // Whatever is over is recorded, and nothing else is.
        let open = record::open_tasks(self.world.app.store());
        for (id, task) in &self.model.tasks {
            let over = self.model.is_over(task);
            if open.contains(id) == over && !self.model.is_doubtful(*id) {
                return Err(format!("{id} is over: {over}: {task:?}"));
            }
        }
        let ended = self.model.tasks.keys().filter(|id| !open.contains(id));
        for id in ended.copied().collect::<Vec<_>>() {
            self.model.end_task(id);
        }
        Ok(())
    }

    async fn restart(&mut self) -> Verdict {
        let clock = Arc::clone(&self.world.clock);
        let folder: Arc<TempDir> = Arc::clone(&self.world.folder);
        let fallen = std::mem::replace(
            &mut self.backend,
            Backend::open(Kind::Memory, folder.path(), &clock),
        );
        self.backend = fallen.crashed(folder.path(), &clock);
        self.world = World::open(folder, clock, self.backend.store()).await;
        self.model.blur();
        self.model.hear();
        self.moved(false).await
    }

    /// Compares some of what is held, and from time to time all of it.
    fn look(&mut self, at: usize) -> Verdict {
        if at % CHECKED == CHECKED - 1 {
            record::check(self.world.app.store())?;
        }
        if at % COMPARED == COMPARED - 1 {
            return self.compare_all();
        }
        let place = self.dice.place();
        let last = self.held.len().saturating_sub(1);
        for place in [place, last] {
            if let Some(held) = nth(&self.held, place) {
                self.compare(&held)?;
            }
        }
        Ok(())
    }

    fn compare_all(&self) -> Verdict {
        self.held.iter().try_for_each(|held| self.compare(held))
    }

    fn compare(&self, held: &Held) -> Verdict {
        let active = is_active(&self.world, &held.token);
        match self.is_live(held) {
            Some(live) if live != active => {
                let Party { task, number, .. } = self.parties[held.party];
                Err(format!(
                    "credential {} of client {number} of {task} is active: {active}, by the model: {live}; {:?}",
                    held.number, self.model.tasks[&task]
                ))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn must_be_unavailable(answer: &Result<Granted, Refused>) -> Verdict {
    match answer {
        Err(refused) if caller::rule(refused) == Rule::Unavailable => Ok(()),
        Err(refused) => Err(format!("a commit that failed: {:?}", refused.refusal)),
        Ok(_) => Err("granted although its commit failed".to_owned()),
    }
}

/// The one at a place, counted round and round.
fn nth<T: Clone>(list: &[T], place: usize) -> Option<T> {
    nth_at(list, place).map(|(_, found)| found)
}

fn nth_at<T: Clone>(list: &[T], place: usize) -> Option<(usize, T)> {
    let at = place.checked_rem(list.len())?;
    Some((at, list[at].clone()))
}

fn contained(owner: bool, place: usize) -> Contained {
    if owner {
        let of = ["team", "others"][place % 2];
        Contained::Owner(of.parse().unwrap())
    } else {
        let of = WORKLOADS[place % WORKLOADS.len()].name;
        Contained::Workload(of.parse().unwrap())
    }
}

fn owner_of(name: &Name) -> &'static str {
    let found = WORKLOADS.iter().find(|w| w.owner == name.as_str());
    found.unwrap().owner
}

fn workload_of(name: &Name) -> usize {
    WORKLOADS
        .iter()
        .position(|w| w.name == name.as_str())
        .unwrap()
}

fn series(workload: usize, run: u64) -> BlockOn {
    let repository = WORKLOADS[workload].repository;
    format!("series:github:repository_id,run_id:{repository}/{run}")
        .parse()
        .unwrap()
}

/// The declared state of a model.
fn declared(model: &Model) -> String {
    let mut declared = DECLARED.to_owned();
    for at in &model.declared {
        let Workload {
            name,
            owner,
            repository,
            joins,
            linger,
            bearer,
        } = WORKLOADS[*at];
        let mut more = format!("linger = \"{}s\"\n", linger.seconds());
        more += "heartbeat = { mode = \"auto\", every = \"30s\", grace = \"5m\" }\n";
        if joins {
            more += "task = \"run\"\nrepeat = \"join\"\n";
        }
        if bearer {
            more += "token = { ttl = \"5m\", binding = \"optional\" }\n";
        }
        declared += &workload(name, owner, repository, &more);
    }
    declared
}
