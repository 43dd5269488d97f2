//! Newer attempts of one run at once: the highest wins, whoever comes first, and is never refused.

use dayfly_domain::{Outcome, Rule};

use super::explore::{Act, Answer, Played, Scene, Stage, explore};
use crate::caller::{Caller, Client, is_active};
use crate::world::Run;

/// The repositories of `release`, whose jobs have tasks of their own, and of `single`, whose runs have.
const JOBS: u64 = 1;
const RUNS: u64 = 3;

/// Attempts that come at once, the highest last.
struct Attempts {
    coming: &'static [u64],
    /// Whether attempt 1 is open.
    there: bool,
    /// Whether each is another job with a task of its own, rather than all one run.
    of_jobs: bool,
    /// Whether attempt 1 ends itself meanwhile.
    first_ends: bool,
    changes: Option<usize>,
    least: u64,
}

struct Party {
    first: Option<(Client, String)>,
    coming: Vec<Caller>,
}

impl Scene for Attempts {
    type Ready = Party;

    fn name(&self) -> String {
        let beside = match (self.first_ends, self.there) {
            (true, _) => ", the first ends",
            (false, true) => "",
            (false, false) => ", none there",
        };
        let of = if self.of_jobs { " of jobs" } else { "" };
        format!("attempts {:?}{of} at once{beside}", self.coming)
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
                job: if self.of_jobs { attempt } else { 1 },
            };
            let repository = if self.of_jobs { JOBS } else { RUNS };
            Caller::new(world, repository, run, key)
        };
        let first = if self.there {
            let first = caller(1, 0);
            let granted = first.ask(world).await.unwrap();
            Some((first.client(&granted), granted.token))
        } else {
            None
        };
        let coming = self.coming.iter().zip(1..);
        Party {
            first,
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
            let (client, token) = party.first.as_ref().unwrap();
            acts.push(Box::pin(async move {
                Answer::of_end(client.end(world, token, true, Outcome::Completed).await)
            }));
        }
        acts
    }

    async fn check(&self, stage: &Stage, party: &Party, played: &Played) {
        let world = &stage.world;
        if let Some((client, token)) = &party.first {
            stage.check_dead(client, token).await;
        }
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
        let over = ended.count() + usize::from(!self.there);
        assert_eq!(over, started.count(), "{leaves:?}");
    }
}

#[test]
fn of_two_newer_attempts_the_higher_is_open_afterwards() {
    explore(&Attempts {
        coming: &[2, 3],
        there: true,
        of_jobs: false,
        first_ends: false,
        changes: None,
        least: 340,
    });
}

/// No version moves under the lower one, and neither claims what the other does: it is the attempts alone
/// that keep them from being open side by side.
#[test]
fn of_two_attempts_by_other_jobs_the_higher_is_open_afterwards() {
    explore(&Attempts {
        coming: &[2, 3],
        there: false,
        of_jobs: true,
        first_ends: false,
        changes: None,
        least: 90,
    });
}

#[test]
fn of_two_claimants_of_one_attempt_one_is_open_afterwards() {
    explore(&Attempts {
        coming: &[2, 2],
        there: true,
        of_jobs: false,
        first_ends: false,
        changes: None,
        least: 280,
    });
}

#[test]
fn newer_attempts_and_the_end_of_the_first_leave_the_highest() {
    explore(&Attempts {
        coming: &[2, 3],
        there: true,
        of_jobs: false,
        first_ends: true,
        changes: Some(2),
        least: 550,
    });
}
