//! A run: operations on a server and on the model beside it, compared after each.

mod approvals;
mod callers;
mod findings;
mod people;
mod signals;

use std::sync::Arc;

use dayfly_domain::{TaskId, Time};
use dayfly_server::app::{Contained, Refused};
use dayfly_server::verify::KeyCache;
use dayfly_store::clock::{Clock as _, ManualClock};
use tempfile::TempDir;

use crate::backend::{Backend, Kind};
use crate::caller::{Caller, Client, KEYS, is_active};
use crate::face::Face;
use crate::model::{Login, Model, OWNERS, Proof, WORKLOADS};
use crate::operation::{Dice, Failure, Operation, People};
use crate::persons::{PEOPLE, Word};
use crate::reached::{Place, Reached};
use crate::record;
use crate::world::{BEGIN, DECLARED, Run, World, folder, people};
use approvals::{Asking, Request};
use findings::Looked;

/// After how many operations everything is compared, and the whole ledger checked.
const COMPARED: usize = 64;
const CHECKED: usize = 1024;
/// After how many sweeps, seconds apart, the ledger must record again: a clock that jumped wants
/// the most.
const SETTLED: usize = 40;

/// What does not agree.
pub(crate) type Verdict = Result<(), String>;

/// A server and the model of it.
struct Running {
    world: World,
    backend: Backend,
    model: Model,
    parties: Vec<Party>,
    held: Vec<Held>,
    /// What waits for people, and what was said of them.
    requests: Vec<Request>,
    words: Vec<Word>,
    /// Where people from elsewhere come in, and the keys that they are known by.
    face: Face,
    keys: KeyCache,
    looked: Looked,
    reached: Reached,
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
    /// It takes a word about a person for nothing.
    WordsAreNothing,
    /// It takes one approval for enough.
    OneApproves,
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
    /// Whether it came in by a hand-over, and has no proof of a platform to show again.
    is_child: bool,
}

/// A credential that somebody holds.
#[derive(Clone)]
struct Held {
    party: usize,
    number: usize,
    token: String,
}

/// Runs operations one after the other; an error says which does not agree with the model.
pub(crate) async fn run(kind: Kind, operations: &[Operation], lie: Lie) -> Result<Reached, String> {
    let mut running = Running::new(kind, lie).await;
    for (at, operation) in operations.iter().enumerate() {
        let told = |why: String| format!("operation {at}, {operation:?}: {why}");
        running.step(operation).await.map_err(told)?;
        running.look(at).map_err(told)?;
    }
    running.compare_all()?;
    // What is held is in no entry yet.
    running.settle().await?;
    record::check(running.world.app.store())?;
    Ok(running.reached)
}

impl Running {
    async fn new(kind: Kind, lie: Lie) -> Self {
        let model = Model::new(BEGIN);
        let folder = folder(&declared(&model));
        let clock = Arc::new(ManualClock::at(BEGIN));
        let backend = Backend::open(kind, folder.path(), &clock);
        let world = World::open(folder, clock, backend.store()).await;
        world.app.sweep().await;
        let keys = KeyCache::new();
        let face = Face::open(&world, &keys);
        Self {
            requests: Vec::new(),
            words: Vec::new(),
            face,
            keys,
            looked: Looked::default(),
            reached: Reached::default(),
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
            Operation::Start {
                workload,
                key,
                who,
                ago,
            } => {
                let asking = self.asking(*workload, *key, *who, *ago);
                self.ask(asking).await
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
            Operation::HandOver { client, key } => self.hand_over(*client, *key).await,
            Operation::EndByHand(place) => self.end_by_hand(*place).await,
            Operation::EndOwner(place) | Operation::EndWorkload(place) => {
                let owner = matches!(operation, Operation::EndOwner(_));
                self.end_all(contained(owner, *place)).await
            }
            Operation::Cancel { task, next } => self.cancel(*task, *next).await,
            Operation::Unblock(place) => self.unblock(*place).await,
            Operation::Block(place) => self.block(*place).await,
            Operation::People(act) => self.step_of_people(act).await,
            Operation::Look => self.look_around().await,
            Operation::Days(days) => self.pass_days(*days).await,
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
                Box::pin(self.fail_in(*failure, operation)).await
            }
        }
    }

    /// What people decide, and what is said of them.
    async fn step_of_people(&mut self, act: &People) -> Verdict {
        match act {
            People::RequestAgain(place) => self.request_again(*place).await,
            People::Approve { request, who } => self.approve(*request, *who).await,
            People::Deny { request, who } => self.deny(*request, *who).await,
            People::TakeBack(place) => self.take_back(*place).await,
            People::Poll { request, patient } => self.poll(*request, *patient).await,
            People::Say {
                who,
                late,
                before,
                gone,
            } => self.say((*who, *late, *before, *gone)).await,
            People::SayAgain(place) => self.say_again(*place).await,
            People::LetIn(place) => self.let_in(*place).await,
        }
    }

    /// Who asks for a new task: a job, one on behalf of a person, or a person who has logged in.
    fn asking(&mut self, workload: usize, key: usize, who: usize, ago: u64) -> Asking {
        let workload = workload % WORKLOADS.len();
        let proof = WORKLOADS[workload].proof;
        let now = self.model.now;
        let login = |who| Login::ago(who, now, ago);
        let person = match proof {
            Proof::Job => None,
            // One number more is nobody.
            Proof::Agent => Some(who % (PEOPLE.len() + 1))
                .filter(|who| *who < PEOPLE.len())
                .map(login),
            Proof::Person => Some(login(who % PEOPLE.len())),
        };
        let run = match person {
            // A person's series is the person, and each login of theirs is a task.
            Some(login) if proof == Proof::Person => Run {
                id: login.who as u64,
                attempt: 1,
                job: login.at.seconds(),
            },
            Some(_) | None => Run {
                id: self.next_run,
                attempt: 1,
                job: 1,
            },
        };
        self.next_run += 1;
        Asking {
            workload,
            run,
            person,
            key: key % KEYS,
        }
    }

    /// An operation whose commit fails.
    async fn fail_in(&mut self, failure: Failure, operation: &Operation) -> Verdict {
        if self.backend.fail(failure) {
            self.failing = Some(failure);
        }
        let done = self.step(operation).await;
        self.backend.heal();
        self.failing = None;
        if !self.is_clear() {
            self.model.blur();
        }
        if failure == Failure::Kept {
            self.doubt_counts();
        }
        done
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
            let task = &self.model.tasks[&id];
            let expired = !task.ended && !task.is_opened();
            self.reached.count_if(expired, Place::Expired);
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
        self.face = Face::open(&self.world, &self.keys);
        self.forget_polls();
        self.doubt_counts();
        self.model.blur();
        self.model.hear();
        self.moved(false).await
    }

    /// Lets the ledger record again, and what is held with it.
    async fn settle(&mut self) -> Verdict {
        for _ in 0..SETTLED {
            if self.is_clear() {
                return Ok(());
            }
            self.world.wait(6);
            self.moved(true).await?;
        }
        Err(format!(
            "it does not settle: {:?}",
            self.world.app.unready()
        ))
    }

    /// Compares some of what is held, and from time to time all of it.
    fn look(&mut self, at: usize) -> Verdict {
        if at % CHECKED == CHECKED - 1 && self.is_clear() {
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
        let (of, _) = OWNERS[place % OWNERS.len()];
        Contained::Owner(of.parse().unwrap())
    } else {
        let of = WORKLOADS[place % WORKLOADS.len()].name;
        Contained::Workload(of.parse().unwrap())
    }
}

/// The declared state of a model.
fn declared(model: &Model) -> String {
    let workloads = model.declared.iter().map(|at| WORKLOADS[*at].declared());
    [DECLARED.to_owned(), people()]
        .into_iter()
        .chain(workloads)
        .collect()
}
