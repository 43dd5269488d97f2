//! A workload that is taken out of the declared state against a job of it that starts.

use std::sync::atomic::{AtomicU64, Ordering};

use dayfly_server::app::{Actor, ApplyError, ApplyRequest};

use super::explore::{
    Act, Answer, Played, Scene, Stage, declared_with_passing, declared_without_passing, explore,
};
use crate::caller::{Caller, Client, is_active};
use crate::world::{Run, World};

const BY: Actor = Actor::Local { uid: 0 };
/// How many workloads are declared in `explore`.
const DECLARED: usize = 6;
const STARTS: usize = 0;
const APPLIES: usize = 1;

/// An apply that agrees to so many ends.
struct Removal {
    agreed: Option<u64>,
    least: u64,
    /// How often it was applied: in some orders it must be, in some not.
    applied: AtomicU64,
}

struct Party {
    caller: Caller,
    there: Vec<(Client, String)>,
}

impl Scene for Removal {
    type Ready = Party;

    fn name(&self) -> String {
        format!("start against apply --ends {:?}", self.agreed)
    }

    fn least(&self) -> u64 {
        self.least
    }

    fn changes(&self) -> Option<usize> {
        Some(3)
    }

    async fn ready(&self, stage: &Stage, n: u64) -> Party {
        let world = &stage.world;
        // Whatever the last play left open goes.
        world.declare(&declared_without_passing());
        let ends = Some(would_end(world).await);
        apply(
            world,
            ApplyRequest {
                ends,
                ..ApplyRequest::default()
            },
        )
        .await
        .unwrap();
        world.declare(&declared_with_passing());
        apply(world, ApplyRequest::default()).await.unwrap();
        world.declare(&declared_without_passing());
        assert_eq!(would_end(world).await, 0, "what ended is open");
        let caller = |job| {
            let run = Run {
                id: 1000 + n,
                attempt: 1,
                job,
            };
            Caller::new(world, 4, run, 1)
        };
        let mut there = Vec::new();
        for job in 0..self.agreed.unwrap_or(0) {
            let first = caller(10 + job);
            let granted = first.ask(world).await.unwrap();
            there.push((first.client(&granted), granted.token));
        }
        Party {
            caller: caller(1),
            there,
        }
    }

    fn acts<'w>(&'w self, stage: &'w Stage, party: &'w Party) -> Vec<Act<'w>> {
        let world = &stage.world;
        vec![
            Box::pin(async move { Answer::of_grant(party.caller.ask(world).await) }),
            Box::pin(async move {
                let request = ApplyRequest {
                    ends: self.agreed,
                    ..ApplyRequest::default()
                };
                match apply(world, request).await {
                    Ok(_) => Answer::Acknowledged,
                    Err(ApplyError::Ends { .. }) => Answer::Declined,
                    Err(why) => panic!("{why}"),
                }
            }),
        ]
    }

    async fn check(&self, stage: &Stage, party: &Party, played: &Played) {
        let world = &stage.world;
        let applied = played.answers[APPLIES].is_acknowledged();
        for (_, granted) in played.granted() {
            if applied {
                let client = party.caller.client(granted);
                stage.check_dead(&client, &granted.token).await;
            } else {
                assert!(is_active(world, &granted.token), "it was not applied");
            }
        }
        for (client, token) in &party.there {
            if applied {
                stage.check_dead(client, token).await;
            } else {
                assert!(is_active(world, token), "it was not applied");
            }
        }
        if applied {
            self.applied.fetch_add(1, Ordering::SeqCst);
            played.check_late_answers(APPLIES);
            let late = party.caller.ask(world).await;
            assert!(late.is_err(), "{late:?}");
            assert_eq!(world.tenant.loaded().declared.workloads.len(), DECLARED - 1);
        } else {
            // It was told of one more than it agreed to, which is there.
            assert!(matches!(played.answers[STARTS], Answer::Granted(_)));
            assert_eq!(world.tenant.loaded().declared.workloads.len(), DECLARED);
        }
    }
}

/// Applies the folder; gives how many tasks it ends.
async fn apply(world: &World, request: ApplyRequest) -> Result<u64, ApplyError> {
    let applied = world.app.apply(&world.tenant, request, &BY, "a race").await;
    applied.map(|applied| applied.ends)
}

/// How many tasks the apply of the folder would end.
async fn would_end(world: &World) -> u64 {
    let request = ApplyRequest {
        dry_run: true,
        ..ApplyRequest::default()
    };
    apply(world, request).await.unwrap()
}

fn remove(agreed: Option<u64>, least: u64) {
    let removal = Removal {
        agreed,
        least,
        applied: AtomicU64::new(0),
    };
    let plays = explore(&removal);
    let applied = removal.applied.load(Ordering::SeqCst);
    assert!(
        0 < applied && applied < plays,
        "applied in {applied} of {plays}"
    );
}

#[test]
fn a_start_against_an_apply_that_ends_nothing() {
    remove(None, 340);
}

#[test]
fn a_start_against_an_apply_that_ends_what_it_counted() {
    remove(Some(1), 525);
}
