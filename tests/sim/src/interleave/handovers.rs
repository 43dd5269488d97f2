//! Hand-overs at once: two of one parent that may hand over once more, and one against each end of what it is of.

use dayfly_domain::Rule;

use super::endings::{Ending, What};
use super::explore::{Act, Answer, Played, Scene, Stage, explore};
use crate::caller::{Caller, Client, is_active};
use crate::world::Run;

/// The repository of the workload `shared`.
const REPOSITORY: u64 = 5;
/// How many helpers a task of `shared` may have, as it is declared in `explore`.
const MOST: usize = 2;
/// The keys of parent and helpers.
const PARENT: usize = 1;
const HELPER: usize = 10;

/// A parent with a credential.
struct Party {
    run: Run,
    there: (Client, String),
}

impl Party {
    fn what(&self) -> What<'_> {
        What {
            workload: "shared",
            repository: REPOSITORY,
            run: self.run,
            there: Some(&self.there),
        }
    }
}

async fn parent(stage: &Stage, n: u64) -> Party {
    let run = Run {
        id: 1000 + n,
        attempt: 1,
        job: 1,
    };
    let caller = Caller::new(&stage.world, REPOSITORY, run, PARENT);
    let granted = caller.ask(&stage.world).await.unwrap();
    Party {
        run,
        there: (caller.client(&granted), granted.token),
    }
}

/// One more helper, by number.
async fn hand_over(stage: &Stage, party: &Party, helper: usize) -> Answer {
    let world = &stage.world;
    let handed = party.there.0.hand_over(world, HELPER + helper).await;
    Answer::of_grant(handed.map(|(_, granted)| granted))
}

/// Two hand-overs where there is room for one.
struct Last;

impl Scene for Last {
    type Ready = Party;

    fn name(&self) -> String {
        "two hand-overs for the last helper".to_owned()
    }

    fn least(&self) -> u64 {
        285
    }

    async fn ready(&self, stage: &Stage, n: u64) -> Party {
        let party = parent(stage, n).await;
        for helper in 1..MOST {
            let handed = hand_over(stage, &party, 2 + helper).await;
            assert!(matches!(handed, Answer::Granted(_)), "{handed:?}");
        }
        party
    }

    fn acts<'w>(&'w self, stage: &'w Stage, party: &'w Party) -> Vec<Act<'w>> {
        (0..2)
            .map(|helper| -> Act<'w> { Box::pin(hand_over(stage, party, helper)) })
            .collect()
    }

    async fn check(&self, stage: &Stage, party: &Party, played: &Played) {
        let granted: Vec<_> = played.granted().collect();
        assert_eq!(granted.len(), 1, "{:?}", played.answers);
        for answer in &played.answers {
            match answer {
                Answer::Granted(granted) => assert!(is_active(&stage.world, &granted.token)),
                Answer::Refused(rule) => assert_eq!(*rule, Rule::DelegationClients),
                Answer::Decided(_) | Answer::Acknowledged | Answer::Declined => {
                    panic!("{answer:?}")
                }
            }
        }
        let leaves = stage.leaves(played);
        let children = leaves
            .iter()
            .filter(|leaf| leaf["kind"] == "client.delegated");
        assert_eq!(children.count(), 1, "{leaves:?}");
        let late = hand_over(stage, party, 9).await;
        assert!(matches!(late, Answer::Refused(Rule::DelegationClients)));
    }
}

/// A hand-over against an end.
struct Race {
    ending: Ending,
    least: u64,
}

const ENDS: usize = 1;

impl Scene for Race {
    type Ready = Party;

    fn name(&self) -> String {
        format!("a hand-over against {:?}", self.ending)
    }

    fn least(&self) -> u64 {
        self.least
    }

    /// Any number but where an end has a long answer, a hand-over looks at much beside it, or it is by
    /// the same code as one that is played with more.
    fn changes(&self) -> Option<usize> {
        match self.ending {
            Ending::Revocation => None,
            Ending::Client | Ending::Task | Ending::Operator | Ending::Offboarding => Some(3),
            Ending::Disabling
            | Ending::Freeze
            | Ending::Owner
            | Ending::Workload
            | Ending::Issuer
            | Ending::HandOver
            | Ending::ByHand
            | Ending::Instance
            | Ending::Webhook => Some(2),
        }
    }

    async fn ready(&self, stage: &Stage, n: u64) -> Party {
        parent(stage, n).await
    }

    fn acts<'w>(&'w self, stage: &'w Stage, party: &'w Party) -> Vec<Act<'w>> {
        vec![
            Box::pin(hand_over(stage, party, 0)),
            Box::pin(async move { party.what().end(&stage.world, self.ending).await }),
        ]
    }

    async fn check(&self, stage: &Stage, party: &Party, played: &Played) {
        let ended = &played.answers[ENDS];
        assert!(ended.is_acknowledged(), "{:?}", played.answers);
        let (parent, token) = &party.there;
        stage.check_dead(parent, token).await;
        for (_, granted) in played.granted() {
            let helper = Client {
                key: Some(crate::caller::key_of(HELPER)),
                id: granted.client,
            };
            stage.check_dead(&helper, &granted.token).await;
        }
        played.check_late_answers(ENDS);
        stage.check_order(played, |leaf| {
            let kind = leaf["kind"].as_str().unwrap_or_default();
            ["block.set", "rights.removed", "task.ended", "client.ended"].contains(&kind)
        });
        let late = hand_over(stage, party, 9).await;
        assert!(matches!(late, Answer::Refused(_)), "{late:?}");
        party.what().lift(&stage.world, self.ending).await;
        for (_, granted) in played.granted() {
            assert!(!is_active(&stage.world, &granted.token), "it came back");
        }
    }
}

#[test]
fn of_two_hand_overs_for_the_last_helper_one_is_granted() {
    explore(&Last);
}

#[test]
fn a_hand_over_against_every_end_of_what_it_is_of() {
    let endings = [
        (Ending::Client, 85),
        (Ending::Revocation, 110),
        (Ending::Task, 85),
        (Ending::Operator, 50),
        (Ending::Offboarding, 200),
        (Ending::Disabling, 38),
        (Ending::Freeze, 90),
        (Ending::Owner, 70),
        (Ending::Workload, 38),
        (Ending::Issuer, 90),
        (Ending::HandOver, 95),
        (Ending::ByHand, 27),
        (Ending::Instance, 100),
        (Ending::Webhook, 38),
    ];
    for (ending, least) in endings {
        explore(&Race { ending, least });
    }
}
