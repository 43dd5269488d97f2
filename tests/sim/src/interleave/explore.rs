//! Every order of the steps of a few use cases, one after the other, each in a run of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use dayfly_domain::{Rule, Span};
use dayfly_server::app::{Granted, Refused};
use dayfly_store::clock::ManualClock;
use dayfly_store::{MemoryStore, Store};
use serde_json::Value;

use super::baton::{Baton, Step, SteppedStore, finish};
use crate::caller::{self, Client, is_active};
use crate::record;
use crate::world::{BEGIN, DECLARED, World, folder, people, workload};

/// After how many plays the world is made anew: a ledger in memory is looked through entry by entry.
const PLAYS: u64 = 200;
/// How much time lies between two plays: what is counted a minute begins anew.
const BETWEEN: Span = Span::from_seconds(61);

/// How much time a step takes: ids of tasks are in the order in which these were opened, and what
/// goes by that order is the same in each play.
const STEP: Span = Span::from_millis(1);

/// A world whose store hands over at each call, made anew from time to time.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) store: Arc<SteppedStore>,
    baton: Arc<Baton>,
    runtime: tokio::runtime::Runtime,
}

/// What came of one actor.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Granted(Box<Granted>),
    Refused(Rule),
    /// A use was allowed, or denied.
    Decided(bool),
    /// Something was ended, contained, applied or swept.
    Acknowledged,
    /// An apply would have ended another number of tasks than was agreed to.
    Declined,
}

/// One actor: a use case that is played.
pub(super) type Act<'w> = Pin<Box<dyn Future<Output = Answer> + Send + 'w>>;

/// What is played and what must hold after it.
pub(super) trait Scene {
    /// What a play needs before it begins, made anew for each.
    type Ready: Sync;

    /// What is to be printed of it.
    fn name(&self) -> String;

    /// How many plays there are at least: a number that shrinks by itself hides what is not played.
    fn least(&self) -> u64;

    /// How often a play may change from an actor that could go on to another; none for any number.
    fn changes(&self) -> Option<usize> {
        None
    }

    /// What is declared.
    fn declared(&self) -> String {
        declared()
    }

    /// Makes ready for play number `n`, with nobody else there.
    async fn ready(&self, stage: &Stage, n: u64) -> Self::Ready;

    /// The actors.
    fn acts<'w>(&'w self, stage: &'w Stage, ready: &'w Self::Ready) -> Vec<Act<'w>>;

    /// What must hold when all have their answers.
    async fn check(&self, stage: &Stage, ready: &Self::Ready, played: &Played);
}

/// What happened in one play.
pub(super) struct Played {
    pub(super) answers: Vec<Answer>,
    pub(super) log: Vec<(usize, Step)>,
    /// How many entries the ledger had before.
    pub(super) size: u64,
}

impl Stage {
    fn new(declared: &str) -> Self {
        let baton = Arc::new(Baton::default());
        let clock = Arc::new(ManualClock::at(BEGIN));
        let memory = MemoryStore::new(clock.clone());
        let store = Arc::new(SteppedStore::new(memory, Arc::clone(&baton)));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let folder = folder(declared);
        let world = runtime.block_on(World::open(folder, clock, store.clone()));
        store.serves(&world.app);
        runtime.block_on(world.app.sweep());
        Self {
            world,
            store,
            baton,
            runtime,
        }
    }

    /// Plays a scene once, by these choices as far as they go and by the first one after that.
    /// Gives each choice with how many there were.
    fn play<S: Scene + Sync>(&self, scene: &S, n: u64, choices: &[usize]) -> Vec<(usize, usize)> {
        self.world.clock.advance(BETWEEN);
        let ready = self.runtime.block_on(async {
            self.world.app.sweep().await;
            scene.ready(self, n).await
        });
        // What goes on by itself, as reading an issuer's keys does, would be nobody's in the play.
        finish(&self.runtime);
        let size = self.store.inner.head(&crate::world::acme()).unwrap().size;
        let acts = scene.acts(self, &ready);
        self.baton.begin(acts.len());
        let mut made = Vec::new();
        let answers = std::thread::scope(|scope| {
            let _failing = self.baton.failing();
            let playing: Vec<_> = acts
                .into_iter()
                .enumerate()
                .map(|(me, act)| {
                    let baton = Arc::clone(&self.baton);
                    scope.spawn(move || baton.play(me, act))
                })
                .collect();
            let most_changes = scene.changes();
            let (mut last, mut changes) = (None, 0);
            loop {
                let mut able = self.baton.choices();
                if able.is_empty() {
                    break;
                }
                let goes_on = last.is_some_and(|last| able.contains(&last));
                if goes_on && most_changes.is_some_and(|most| changes >= most) {
                    able.retain(|actor| Some(*actor) == last);
                }
                let choice = choices.get(made.len()).copied().unwrap_or(0);
                assert!(
                    choice < able.len(),
                    "{}: the same play differs: {choices:?} of {made:?}, {:?}",
                    scene.name(),
                    self.baton.log()
                );
                made.push((choice, able.len()));
                let actor = able[choice];
                changes += usize::from(goes_on && last != Some(actor));
                last = Some(actor);
                self.world.clock.advance(STEP);
                self.baton.give(actor);
            }
            playing
                .into_iter()
                .map(|actor| actor.join().unwrap())
                .collect()
        });
        let log = self.baton.finish();
        let played = Played { answers, log, size };
        self.runtime.block_on(scene.check(self, &ready, &played));
        made
    }
}

/// Plays a scene in every order; gives how many there are.
pub(super) fn explore<S: Scene + Sync>(scene: &S) -> u64 {
    let declared = scene.declared();
    let mut stage = Stage::new(&declared);
    let mut choices: Vec<usize> = Vec::new();
    let mut plays = 0;
    loop {
        let made = stage.play(scene, plays, &choices);
        plays += 1;
        if plays % PLAYS == 0 {
            record::check(&stage.store.inner).unwrap();
            stage = Stage::new(&declared);
        }
        // The next play differs as late as can be.
        let later = made.iter().rposition(|(choice, of)| choice + 1 < *of);
        let Some(at) = later else { break };
        choices = made
            .iter()
            .take(at + 1)
            .map(|(choice, _)| *choice)
            .collect();
        choices[at] += 1;
    }
    record::check(&stage.store.inner).unwrap();
    let (name, least) = (scene.name(), scene.least());
    println!("{name}: {plays} interleavings");
    assert!(
        plays >= least,
        "{name}: {plays} interleavings of at least {least}"
    );
    plays
}

impl Answer {
    pub(super) fn of_grant(answer: Result<Granted, Refused>) -> Self {
        match answer {
            Ok(granted) => Self::Granted(Box::new(granted)),
            Err(refused) => Self::Refused(caller::rule(&refused)),
        }
    }

    pub(super) fn of_end<T>(answer: Result<T, Refused>) -> Self {
        match answer {
            Ok(_) => Self::Acknowledged,
            Err(refused) => Self::Refused(caller::rule(&refused)),
        }
    }

    pub(super) fn of_decision(answer: Result<bool, Refused>) -> Self {
        match answer {
            Ok(allowed) => Self::Decided(allowed),
            Err(refused) => Self::Refused(caller::rule(&refused)),
        }
    }

    pub(super) const fn is_acknowledged(&self) -> bool {
        matches!(self, Self::Acknowledged)
    }
}

impl Played {
    pub(super) fn granted(&self) -> impl Iterator<Item = (usize, &Granted)> {
        let answers = self.answers.iter().enumerate();
        answers.filter_map(|(actor, answer)| match answer {
            Answer::Granted(granted) => Some((actor, granted.as_ref())),
            Answer::Refused(_) | Answer::Decided(_) | Answer::Acknowledged | Answer::Declined => {
                None
            }
        })
    }

    /// Whether an actor looked at the store once more after another had its answer.
    pub(super) fn looked_after(&self, actor: usize, other: usize) -> bool {
        let done = self
            .log
            .iter()
            .position(|step| *step == (other, Step::Done));
        let looked = self
            .log
            .iter()
            .rposition(|(who, step)| *who == actor && matches!(step, Step::Read | Step::Append));
        done < looked
    }

    /// Nobody who looked at the store after the end was acknowledged was granted or allowed anything.
    pub(super) fn check_late_answers(&self, end: usize) {
        for (actor, answer) in self.answers.iter().enumerate() {
            let passed = match answer {
                Answer::Granted(_) | Answer::Decided(true) => true,
                Answer::Refused(_)
                | Answer::Decided(false)
                | Answer::Acknowledged
                | Answer::Declined => false,
            };
            assert!(
                !(passed && self.looked_after(actor, end)),
                "actor {actor} passed by a look after the end: {:?} {:?}",
                self.log,
                self.answers
            );
        }
    }
}

impl Stage {
    /// Nothing of this verifies, and nothing more is to be had by it.
    pub(super) async fn check_dead(&self, client: &Client, token: &str) {
        let world = &self.world;
        assert!(!is_active(world, token), "accepted after the end");
        if client.key.is_some() {
            assert!(client.renew(world).await.is_err(), "renewed after the end");
            let narrowed = client.narrow(world, token).await;
            assert!(narrowed.is_err(), "exchanged after the end");
            let allowed = client.may_read(world, token).await;
            assert!(!allowed.unwrap(), "allowed after the end");
        }
    }

    /// The leaves that were recorded since a play began.
    pub(super) fn leaves(&self, played: &Played) -> Vec<Value> {
        let entries = record::entries(&self.store.inner, played.size);
        entries.iter().map(record::leaf).collect()
    }

    /// No grant and no allowed use is recorded after the containment or the end that took its rights
    /// away.
    pub(super) fn check_order(&self, played: &Played, is_end: impl Fn(&Value) -> bool) {
        let leaves = self.leaves(played);
        let end = leaves.iter().position(is_end);
        let end = end.unwrap_or_else(|| panic!("no such end: {leaves:?}"));
        let grants = [
            "task.started",
            "client.registered",
            "client.delegated",
            "credential.issued",
            "use.allowed",
        ];
        let late = leaves
            .iter()
            .skip(end)
            .find(|leaf| grants.iter().any(|kind| leaf["kind"] == *kind));
        assert!(late.is_none(), "granted after the end: {leaves:?}");
    }
}

fn declared() -> String {
    [
        DECLARED.to_owned(),
        people(),
        workload("release", "team", 1, ""),
        workload("matrix", "team", 2, "task = \"run\"\nrepeat = \"join\""),
        workload("single", "team", 3, "task = \"run\""),
        workload("passing", "others", 4, ""),
        workload(
            "shared",
            "team",
            5,
            "delegation = { depth = 2, clients = 2, to = [\"self\"] }",
        ),
        workload(
            "guarded",
            "others",
            6,
            "approval = { by = \"owner\", within = \"10m\", people = 1 }",
        ),
    ]
    .concat()
}

/// What is declared without the workload that comes and goes.
pub(super) fn declared_without_passing() -> String {
    declared().replace(&workload("passing", "others", 4, ""), "")
}

pub(super) fn declared_with_passing() -> String {
    declared()
}
