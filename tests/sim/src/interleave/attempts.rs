//! Newer attempts of one run at once: the highest wins, whoever comes first, and is never refused.

use dayfly_domain::{Outcome, Rule};

use super::explore::{Act, Answer, Played, Scene, Stage, explore};
use crate::caller::{Caller, Client, is_active};
use crate::world::Run;

/// Attempts that come at once while attempt 1 is open, the highest last.
struct Attempts {
    coming: &'static [u64],
    /// Whether attempt 1 ends itself meanwhile.
    first_ends: bool,
    changes: Option<usize>,
    least: u64,
}

struct Party {
    first: (Client, String),
    coming: Vec<Caller>,
}

impl Scene for Attempts {
    type Ready = Party;

    fn name(&self) -> String {
        let beside = if self.first_ends {
            ", the first ends"
        } else {
            ""
        };
        format!("attempts {:?} at once{beside}", self.coming)
    }

    fn least(&self) -> u64 {
        self.least
    }

    fn changes(&self) -> Option<usize> {
        self.changes
    }

    async fn ready(&self, stage: &Stage, n: u64) -> Party {
        let world = &stage.world;
        let caller = |attempt, key| {
            let run = Run {
                id: 1000 + n,
                attempt,
                job: 1,
            };
            Caller::new(world, 3, run, key)
        };
        let first = caller(1, 0);
        let granted = first.ask(world).await.unwrap();
        let coming = self.coming.iter().zip(1..);
        Party {
            first: (first.client(&granted), granted.token),
            coming: coming.map(|(attempt, key)| caller(*attempt, key)).collect(),
        }
    }

    fn acts<'w>(&'w self, stage: &'w Stage, party: &'w Party) -> Vec<Act<'w>> {
        let world = &stage.world;
        let coming = party.coming.iter();
        let mut acts: Vec<Act<'w>> = coming
            .map(|caller| -> Act<'w> {
                Box::pin(async move { Answer::of_grant(caller.ask(world).await) })
            })
            .collect();
        if self.first_ends {
            let (client, token) = &party.first;
            acts.push(Box::pin(async move {
                Answer::of_end(client.end(world, token, true, Outcome::Completed).await)
            }));
        }
        acts
    }

    async fn check(&self, stage: &Stage, party: &Party, played: &Played) {
        let world = &stage.world;
        stage.check_dead(&party.first.0, &party.first.1).await;
        let highest = *self.coming.iter().max().unwrap();
        let rivals = self.coming.iter().filter(|attempt| **attempt == highest);
        let rivals = rivals.count();
        let mut alive = 0;
        for (actor, answer) in played.answers.iter().enumerate() {
            let Some(attempt) = self.coming.get(actor) else {
                continue;
            };
            match answer {
                Answer::Granted(granted) if *attempt == highest => {
                    assert!(is_active(world, &granted.token));
                    alive += 1;
                }
                Answer::Granted(granted) => {
                    let client = party.coming[actor].client(granted);
                    stage.check_dead(&client, &granted.token).await;
                    for (winner, of) in self.coming.iter().enumerate() {
                        assert!(*of != highest || !played.looked_after(actor, winner));
                    }
                }
                Answer::Refused(rule) if *attempt == highest => {
                    assert!(rivals > 1 && *rule == Rule::AlreadyOpen, "{rule:?}");
                }
                Answer::Refused(rule) => {
                    // Refused, or superseded while its answer was on the way.
                    let expected = [Rule::OlderAttempt, Rule::TaskEnded].contains(rule);
                    assert!(expected, "{rule:?}");
                }
                Answer::Decided(_) | Answer::Acknowledged | Answer::Declined => {
                    panic!("{answer:?}")
                }
            }
        }
        assert_eq!(alive, 1, "one winner: {:?}", played.answers);
        let leaves = stage.leaves(played);
        let ended = leaves.iter().filter(|leaf| leaf["kind"] == "task.ended");
        let started = leaves.iter().filter(|leaf| leaf["kind"] == "task.started");
        assert_eq!(ended.count(), started.count(), "{leaves:?}");
    }
}

#[test]
fn of_two_newer_attempts_the_higher_is_open_afterwards() {
    explore(&Attempts {
        coming: &[2, 3],
        first_ends: false,
        changes: None,
        least: 340,
    });
}

#[test]
fn of_two_claimants_of_one_attempt_one_is_open_afterwards() {
    explore(&Attempts {
        coming: &[2, 2],
        first_ends: false,
        changes: None,
        least: 280,
    });
}

#[test]
fn newer_attempts_and_the_end_of_the_first_leave_the_highest() {
    explore(&Attempts {
        coming: &[2, 3],
        first_ends: true,
        changes: Some(2),
        least: 550,
    });
}
