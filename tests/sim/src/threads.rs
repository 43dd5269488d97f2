//! Races on a real database: what mints beside an end on many threads, over and over, in whatever order they come.
//!
//! The orders that matter are enumerated in `interleave`, on the store in memory; here they are as
//! a disk, a writer's thread and a scheduler make them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dayfly_domain::Outcome;
use dayfly_server::app::{Actor, ApplyError, ApplyRequest, Contained, Granted, Refused, Stop};
use dayfly_store::clock::ManualClock;

use crate::backend;
use crate::caller::{Caller, Client, is_active};
use crate::operation::Dice;
use crate::record;
use crate::world::{BEGIN, DECLARED, Run, World, folder, workload};

const BY: Actor = Actor::Local { uid: 0 };
const THREADS: usize = 4;
/// How many come at once, and how often each of them asks.
const MINTERS: usize = 6;
const ASKED: usize = 3;
/// Rounds of each race.
const ROUNDS: u64 = 40;
/// How much time lies between two rounds: what is counted a minute begins anew.
const BETWEEN: u64 = 61;

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Offboarding,
    Disabling,
    Freeze,
    OwnersTasks,
    Task,
    Operator,
    Client,
}

/// What asks for a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Minting {
    Start,
    Join,
    Renew,
    Exchange,
}

/// A credential, and when it was asked for.
struct Minted {
    began: u64,
    client: Client,
    token: String,
}

/// A client with a credential, and the moments of a round in their order.
struct Round {
    world: Arc<World>,
    run: Run,
    first: Client,
    token: String,
    /// Counts what happens: each call begins with a number of its own.
    moments: AtomicU64,
}

#[test]
fn nothing_that_is_minted_beside_an_end_outlives_it() {
    let endings = [
        Ending::Offboarding,
        Ending::Disabling,
        Ending::Freeze,
        Ending::OwnersTasks,
        Ending::Task,
        Ending::Operator,
        Ending::Client,
    ];
    on_threads(|world| async move {
        let mut dice = Dice::new(1);
        for n in 0..ROUNDS {
            for ending in endings {
                race(&world, ending, n, &mut dice).await;
            }
        }
    });
}

#[test]
fn of_many_attempts_at_once_the_newest_stays() {
    on_threads(|world| async move {
        for n in 0..ROUNDS {
            world.wait(BETWEEN);
            world.app.sweep().await;
            let coming: Vec<_> = (1..=MINTERS as u64)
                .map(|attempt| {
                    let world = Arc::clone(&world);
                    let run = Run {
                        id: 1000 + n,
                        attempt,
                        job: attempt,
                    };
                    tokio::spawn(async move {
                        let caller = Caller::new(&world, 1, run, place(attempt));
                        let granted = caller.ask(&world).await;
                        (attempt, caller, granted)
                    })
                })
                .collect();
            let mut granted = Vec::new();
            for answer in coming {
                let (attempt, caller, answer) = answer.await.unwrap();
                if let Ok(answer) = answer {
                    granted.push((attempt, caller.client(&answer), answer.token));
                }
            }
            let newest = granted.iter().map(|(attempt, ..)| *attempt).max();
            assert_eq!(newest, Some(MINTERS as u64), "round {n}");
            for (attempt, client, token) in &granted {
                let alive = Some(*attempt) == newest;
                assert_eq!(is_active(&world, token), alive, "round {n}, {attempt}");
                assert_eq!(client.renew(&world).await.is_ok(), alive, "round {n}");
            }
        }
    });
}

#[test]
fn what_starts_beside_its_removal_is_counted_or_refused() {
    on_threads(|world| async move {
        let mut applied = 0;
        for n in 0..ROUNDS {
            world.wait(BETWEEN);
            world.app.sweep().await;
            let coming: Vec<_> = (0..MINTERS as u64)
                .map(|job| {
                    let world = Arc::clone(&world);
                    let run = Run {
                        id: 1000 + n,
                        attempt: 1,
                        job,
                    };
                    tokio::spawn(async move {
                        let caller = Caller::new(&world, 4, run, place(job));
                        caller.ask(&world).await.ok()
                    })
                })
                .collect();
            world.declare(&declared(false));
            let request = ApplyRequest {
                ends: Some(n % (MINTERS as u64)),
                ..ApplyRequest::default()
            };
            let answer = world
                .app
                .apply(&world.tenant, request, &BY, "a race")
                .await
                .map(|_| ());
            let removed = match answer {
                Ok(()) => true,
                Err(ApplyError::Ends { .. }) => false,
                Err(why) => panic!("round {n}: {why}"),
            };
            applied += usize::from(removed);
            for answer in coming {
                if let Some(granted) = answer.await.unwrap() {
                    assert_eq!(is_active(&world, &granted.token), !removed, "round {n}");
                }
            }
            remove_and_put_back(&world).await;
        }
        assert!(0 < applied && applied < ROUNDS as usize, "{applied}");
    });
}

/// Ends whatever the workload that comes and goes has open, and declares it again.
async fn remove_and_put_back(world: &World) {
    world.declare(&declared(false));
    let look = ApplyRequest {
        dry_run: true,
        ..ApplyRequest::default()
    };
    let would = world.app.apply(&world.tenant, look, &BY, "a look").await;
    let agreed = ApplyRequest {
        ends: Some(would.unwrap().ends),
        ..ApplyRequest::default()
    };
    let removed = world.app.apply(&world.tenant, agreed, &BY, "removed").await;
    removed.unwrap();
    world.declare(&declared(true));
    let again = world
        .app
        .apply(&world.tenant, ApplyRequest::default(), &BY, "put back");
    again.await.unwrap();
}

/// Some who mint, and one who ends after so many of them have begun.
async fn race(world: &Arc<World>, ending: Ending, n: u64, dice: &mut Dice) {
    world.wait(BETWEEN);
    world.app.sweep().await;
    let run = Run {
        // Starts beside it are runs of their own, up to the next round's.
        id: 1000 * (1 + 10 * n + ending as u64),
        attempt: 1,
        job: 1,
    };
    let caller = Caller::new(world, 2, run, 1);
    let granted = caller.ask(world).await.unwrap();
    let round = Arc::new(Round {
        world: Arc::clone(world),
        run,
        first: caller.client(&granted),
        token: granted.token,
        moments: AtomicU64::new(0),
    });
    let minting: Vec<_> = (0..MINTERS)
        .map(|minter| {
            let kinds = ending.meets();
            let kind = kinds[dice.place() % kinds.len()];
            let round = Arc::clone(&round);
            tokio::spawn(async move { round.mint(kind, minter as u64).await })
        })
        .collect();
    let after = dice.below((MINTERS * ASKED) as u64);
    while round.moments.load(Ordering::SeqCst) < after {
        tokio::task::yield_now().await;
    }
    let ended = ending.end(&round).await;
    let acknowledged = round.moments.fetch_add(1, Ordering::SeqCst);
    assert!(ended.is_ok(), "round {n}, {ending:?}: {ended:?}");
    assert!(!is_active(world, &round.token), "round {n}, {ending:?}");
    for minted in minting {
        for minted in minted.await.unwrap() {
            let told = format!("round {n}, {ending:?}, asked after {after}");
            assert!(minted.began < acknowledged, "{told}: granted after the end");
            assert!(!is_active(world, &minted.token), "{told}: it outlives it");
            assert!(minted.client.renew(world).await.is_err(), "{told}: renewed");
        }
    }
    if let Some(what) = ending.contained() {
        let lifted = world.app.lift(&world.tenant, &what, &BY, "over").await;
        assert!(lifted.is_ok(), "{lifted:?}");
        assert!(!is_active(world, &round.token), "it came back");
    }
}

impl Ending {
    fn contained(self) -> Option<Contained> {
        match self {
            Self::Offboarding => Some(Contained::Owner("team".parse().unwrap())),
            Self::Disabling => Some(Contained::Workload("matrix".parse().unwrap())),
            Self::Freeze => Some(Contained::Tenant),
            Self::OwnersTasks | Self::Task | Self::Operator | Self::Client => None,
        }
    }

    /// What can be asked for that ends with it, or must not begin after it.
    const fn meets(self) -> &'static [Minting] {
        match self {
            Self::Offboarding | Self::Disabling | Self::Freeze => &[
                Minting::Start,
                Minting::Join,
                Minting::Renew,
                Minting::Exchange,
            ],
            Self::OwnersTasks | Self::Task | Self::Operator => {
                &[Minting::Join, Minting::Renew, Minting::Exchange]
            }
            Self::Client => &[Minting::Renew, Minting::Exchange],
        }
    }

    async fn end(self, round: &Round) -> Result<(), Refused> {
        let world = &round.world;
        if let Some(what) = self.contained() {
            let done = world.app.contain(&world.tenant, &what, &BY, "a race");
            return done.await.map(drop);
        }
        let (client, token) = (&round.first, &round.token);
        match self {
            Self::OwnersTasks => {
                let what = Contained::Owner("team".parse().unwrap());
                let done = world
                    .app
                    .stop(&world.tenant, &what, &Stop::End, &BY, "a race");
                done.await.map(drop)
            }
            Self::Task => client
                .end(world, token, true, Outcome::Failed)
                .await
                .map(drop),
            Self::Client => client
                .end(world, token, false, Outcome::Failed)
                .await
                .map(drop),
            Self::Operator => {
                let task = client.id.task;
                let done = world.app.operator_end(&world.tenant, task, &BY, "a race");
                done.await.map(drop)
            }
            Self::Offboarding | Self::Disabling | Self::Freeze => panic!("contained above"),
        }
    }
}

impl Round {
    /// Asks a few times; gives what was granted.
    async fn mint(&self, kind: Minting, minter: u64) -> Vec<Minted> {
        let mut minted = Vec::new();
        for n in 0..ASKED as u64 {
            let began = self.moments.fetch_add(1, Ordering::SeqCst);
            let answer = self.ask(kind, 2 + minter * ASKED as u64 + n).await;
            minted.extend(answer.map(|(client, granted)| Minted {
                began,
                client,
                token: granted.token,
            }));
        }
        minted
    }

    async fn ask(&self, kind: Minting, job: u64) -> Option<(Client, Granted)> {
        let world = &self.world;
        let own = |answer: Result<Granted, Refused>| Some((self.first.clone(), answer.ok()?));
        match kind {
            Minting::Start | Minting::Join => {
                // Another run is another task.
                let id = self.run.id + if kind == Minting::Start { 10 * job } else { 0 };
                let run = Run {
                    id,
                    job,
                    ..self.run
                };
                let caller = Caller::new(world, 2, run, place(job));
                let granted = caller.ask(world).await.ok()?;
                Some((caller.client(&granted), granted))
            }
            Minting::Renew => own(self.first.renew(world).await),
            Minting::Exchange => own(self.first.narrow(world, &self.token).await),
        }
    }
}

/// Plays on a world of its own, over a database, with as many threads as ask at once.
fn on_threads<F: Future<Output = ()>>(play: impl FnOnce(Arc<World>) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let folder = folder(&declared(true));
        let clock = Arc::new(ManualClock::at(BEGIN));
        let store = backend::open_sqlite(&folder.path().join("dayfly.db"), &clock);
        let world = World::open(folder, clock, store.clone()).await;
        world.app.sweep().await;
        play(Arc::new(world)).await;
        record::check(store.as_ref()).unwrap();
    });
}

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

fn declared(passing: bool) -> String {
    let mut declared = [
        DECLARED.to_owned(),
        workload("release", "team", 1, ""),
        workload("matrix", "team", 2, "task = \"run\"\nrepeat = \"join\""),
    ]
    .concat();
    if passing {
        declared.push_str(&workload("passing", "others", 4, ""));
    }
    declared
}
