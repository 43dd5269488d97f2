//! Ends that the ledger does not take, against grants and against the way back.

use dayfly_server::app::{Actor, Contained};
use dayfly_store::Fault;

use super::explore::{Act, Answer, Played, Scene, Stage, explore};
use crate::caller::{Caller, Client};
use crate::record;
use crate::world::Run;

const BY: Actor = Actor::Local { uid: 0 };
const ENDS: usize = 0;

/// An end whose record fails so, beside one who mints and a sweep that gets the ledger to record
/// again.
struct Outage {
    fault: Fault,
    /// Whether the owner is offboarded rather than the task ended.
    contains: bool,
    /// Whether a job starts rather than one renews.
    starts: bool,
    least: u64,
}

struct Party {
    caller: Caller,
    there: (Client, String),
}

impl Outage {
    fn owner() -> Contained {
        Contained::Owner("team".parse().unwrap())
    }
}

impl Scene for Outage {
    type Ready = Party;

    fn name(&self) -> String {
        let mints = if self.starts { "start" } else { "renewal" };
        let ends = if self.contains { "offboarding" } else { "end" };
        format!("{mints} and resume against a held {ends}, {:?}", self.fault)
    }

    fn least(&self) -> u64 {
        self.least
    }

    fn changes(&self) -> Option<usize> {
        Some(2)
    }

    async fn ready(&self, stage: &Stage, n: u64) -> Party {
        let world = &stage.world;
        let caller = |job| {
            let run = Run {
                id: 1000 + n,
                attempt: 1,
                job,
            };
            Caller::new(world, 1, run, 1)
        };
        let first = caller(1);
        let granted = first.ask(world).await.unwrap();
        stage.store.fail(ENDS, [self.fault]);
        Party {
            caller: caller(2),
            there: (first.client(&granted), granted.token),
        }
    }

    fn acts<'w>(&'w self, stage: &'w Stage, party: &'w Party) -> Vec<Act<'w>> {
        let world = &stage.world;
        let (client, _) = &party.there;
        vec![
            Box::pin(async move {
                if self.contains {
                    let what = Self::owner();
                    let done = world.app.contain(&world.tenant, &what, &BY, "a race");
                    Answer::of_end(done.await)
                } else {
                    let task = client.id.task;
                    let done = world.app.operator_end(&world.tenant, task, &BY, "a race");
                    Answer::of_end(done.await)
                }
            }),
            Box::pin(async move {
                Answer::of_grant(if self.starts {
                    party.caller.ask(world).await
                } else {
                    client.renew(world).await
                })
            }),
            Box::pin(async move {
                world.app.sweep().await;
                Answer::Acknowledged
            }),
        ]
    }

    async fn check(&self, stage: &Stage, party: &Party, played: &Played) {
        let world = &stage.world;
        stage.store.heal();
        assert!(
            played.answers[ENDS].is_acknowledged(),
            "{:?}",
            played.answers
        );
        let mut dead = vec![party.there.clone()];
        if self.contains || !self.starts {
            played.check_late_answers(ENDS);
            let tokens = played.granted().map(|(_, granted)| {
                let client = if self.starts {
                    party.caller.client(granted)
                } else {
                    party.there.0.clone()
                };
                (client, granted.token.clone())
            });
            dead.extend(tokens);
        }
        for (client, token) in &dead {
            stage.check_dead(client, token).await;
        }
        // However the sweep came in between, another one finds the way back.
        for _ in 0..3 {
            world.wait(6);
            world.app.sweep().await;
        }
        assert_eq!(world.app.unready(), Vec::<String>::new());
        for (client, token) in &dead {
            stage.check_dead(client, token).await;
            assert!(!record::is_open(&stage.store.inner, client.id.task));
        }
        let leaves = stage.leaves(played);
        let task = party.there.0.id.task.to_string();
        let ends = leaves
            .iter()
            .filter(|leaf| leaf["kind"] == "task.ended" && leaf["task"] == task.as_str());
        assert_eq!(ends.count(), 1, "{leaves:?}");
        if self.contains {
            let owner = Self::owner();
            let lifted = world.app.lift(&world.tenant, &owner, &BY, "over").await;
            assert!(lifted.is_ok(), "{lifted:?}");
        }
    }
}

fn outages(contains: bool, starts: bool, least: u64) {
    for fault in [Fault::BeforeWrite, Fault::Lost, Fault::Kept] {
        explore(&Outage {
            fault,
            contains,
            starts,
            least,
        });
    }
}

#[test]
fn a_held_end_against_a_renewal_and_resume() {
    outages(false, false, 300);
}

#[test]
fn a_held_offboarding_against_a_start_and_resume() {
    outages(true, true, 290);
}

#[test]
fn a_held_offboarding_against_a_renewal_and_resume() {
    outages(true, false, 330);
}
