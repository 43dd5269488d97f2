//! What mints against what ends: start, join, renewal and exchange against each way to end it.

use dayfly_server::app::Stop;
use serde_json::Value;

use super::endings::{Ending, What};
use super::explore::{Act, Answer, Played, Scene, Stage, explore};
use crate::caller::{Caller, Client, is_active};
use crate::world::Run;

const REPOSITORY: u64 = 2;
/// The one who ends; the other mints.
const ENDS: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Minting {
    Start,
    Join,
    Renew,
    Exchange,
}

struct Race {
    minting: Minting,
    ending: Ending,
    least: u64,
}

/// Who comes, and who is there already.
struct Party {
    caller: Caller,
    /// The run of the one who comes.
    run: Run,
    there: Option<(Client, String)>,
}

impl Party {
    /// What is ended: the run of the one who comes, or of the one who is there.
    fn what(&self) -> What<'_> {
        What {
            workload: "matrix",
            repository: REPOSITORY,
            run: self.run,
            there: self.there.as_ref(),
        }
    }
}

impl Scene for Race {
    type Ready = Party;

    fn name(&self) -> String {
        format!("{:?} against {:?}", self.minting, self.ending)
    }

    fn least(&self) -> u64 {
        self.least
    }

    /// Any number but where an end has a long answer, whose reads are of no weight any more, or is by
    /// the same code as one that is played with any number.
    fn changes(&self) -> Option<usize> {
        match self.ending {
            Ending::Offboarding | Ending::Disabling | Ending::Revocation => None,
            // The longest answer: all orders of its reads would be five thousand.
            Ending::Freeze => Some(5),
            Ending::Owner
            | Ending::Workload
            | Ending::Issuer
            | Ending::Task
            | Ending::Client
            | Ending::Operator
            | Ending::ByHand
            | Ending::Webhook => Some(3),
            // A load of the declared state in each, and two looks for the instance.
            Ending::HandOver | Ending::Instance => Some(2),
        }
    }

    async fn ready(&self, stage: &Stage, n: u64) -> Party {
        let world = &stage.world;
        let run = |job| Run {
            id: 1000 + n,
            attempt: 1,
            job,
        };
        let there = if self.minting == Minting::Start {
            None
        } else {
            let first = Caller::new(world, REPOSITORY, run(1), 1);
            let granted = first.ask(world).await.unwrap();
            Some((first.client(&granted), granted.token))
        };
        // An instance that is blocked is that of whoever comes, so that it is a join under its block.
        let run = run(if self.ending == Ending::Instance {
            1
        } else {
            2
        });
        Party {
            caller: Caller::new(world, REPOSITORY, run, 2),
            run,
            there,
        }
    }

    fn acts<'w>(&'w self, stage: &'w Stage, party: &'w Party) -> Vec<Act<'w>> {
        let world = &stage.world;
        let there = || party.there.as_ref().unwrap();
        let mints: Act<'w> = Box::pin(async move {
            Answer::of_grant(match self.minting {
                Minting::Start | Minting::Join => party.caller.ask(world).await,
                Minting::Renew => there().0.renew(world).await,
                Minting::Exchange => there().0.narrow(world, &there().1).await,
            })
        });
        let ends: Act<'w> = Box::pin(async move { party.what().end(world, self.ending).await });
        vec![mints, ends]
    }

    async fn check(&self, stage: &Stage, party: &Party, played: &Played) {
        let world = &stage.world;
        assert!(
            played.answers[ENDS].is_acknowledged(),
            "{:?}",
            played.answers
        );
        let leaves = stage.leaves(played);
        let place = |kind: &str| leaves.iter().position(|leaf| leaf["kind"] == kind);
        let over = |kind: &str| place(kind).is_some();
        // A revocation of what is not the newest any more, and the end of one client of two, leave
        // the other credential alone.
        let ends_all = match self.ending {
            Ending::Revocation => over("client.ended") || over("task.ended"),
            Ending::Client | Ending::ByHand => over("task.ended"),
            Ending::Owner | Ending::Workload | Ending::Issuer | Ending::HandOver
                if self.minting == Minting::Start =>
            {
                // What was recorded before it is over, and what comes after it lives.
                let stopped = place("rights.removed").or_else(|| place("block.set"));
                place("task.started") < stopped
            }
            Ending::Offboarding
            | Ending::Disabling
            | Ending::Freeze
            | Ending::Owner
            | Ending::Workload
            | Ending::Issuer
            | Ending::HandOver
            | Ending::Task
            | Ending::Operator
            | Ending::Instance
            | Ending::Webhook => true,
        };
        if let Some((client, token)) = &party.there {
            assert!(!is_active(world, token), "accepted after the end");
            if ends_all {
                stage.check_dead(client, token).await;
            }
        }
        for (_, granted) in played.granted() {
            let of_one = matches!(self.ending, Ending::Client | Ending::ByHand);
            if ends_all || (self.minting != Minting::Join && of_one) {
                let key = match self.minting {
                    Minting::Start | Minting::Join => party.caller.client(granted),
                    Minting::Renew | Minting::Exchange => party.there.as_ref().unwrap().0.clone(),
                };
                stage.check_dead(&key, &granted.token).await;
            } else {
                assert!(is_active(world, &granted.token), "it is not what ended");
            }
        }
        let is_end = |leaf: &Value| {
            let kind = leaf["kind"].as_str().unwrap_or_default();
            ["block.set", "rights.removed", "task.ended", "client.ended"].contains(&kind)
        };
        // A run that never was has no entry of its end.
        let lets_start = !self.ending.keeps_out();
        if ends_all && !(self.minting == Minting::Start && lets_start) {
            played.check_late_answers(ENDS);
            let nothing_ran = played.granted().next().is_none() && !leaves.iter().any(is_end);
            if !(nothing_ran && self.ending == Ending::Webhook) {
                stage.check_order(played, is_end);
            }
        }
        self.check_afterwards(stage, party, played, ends_all).await;
    }
}

impl Race {
    /// What comes later, while it stands and once it is lifted.
    async fn check_afterwards(
        &self,
        stage: &Stage,
        party: &Party,
        played: &Played,
        ends_all: bool,
    ) {
        let world = &stage.world;
        let comes_back = |token: &str| ends_all && is_active(world, token);
        if self.ending.keeps_out() {
            let late = party.caller.ask(world).await;
            assert!(late.is_err(), "{late:?}");
        }
        if let Some(Stop::HandOver(to)) = self.ending.stop() {
            // Whoever started under the new owner is that one's, and everybody else is over.
            let leaves = stage.leaves(played);
            let started = leaves.iter().find(|leaf| leaf["kind"] == "task.started");
            let owner = started
                .filter(|_| !ends_all)
                .map(|leaf| &leaf["data"]["owner"]);
            assert!(
                owner.is_none_or(|owner| *owner == to.as_str()),
                "{leaves:?}"
            );
        }
        // What ended by it stays ended.
        party.what().lift(world, self.ending).await;
        for (_, granted) in played.granted() {
            assert!(!comes_back(&granted.token), "it came back");
        }
    }
}

fn race(minting: Minting, endings: &[(Ending, u64)]) {
    for (ending, least) in endings {
        explore(&Race {
            minting,
            ending: *ending,
            least: *least,
        });
    }
}

#[test]
fn a_start_against_whatever_ends_what_is_not_there_yet() {
    let endings = [
        (Ending::Offboarding, 35),
        (Ending::Disabling, 35),
        (Ending::Freeze, 500),
        (Ending::Owner, 60),
        (Ending::Workload, 30),
        (Ending::Issuer, 70),
        (Ending::HandOver, 40),
        (Ending::Instance, 30),
        (Ending::Webhook, 15),
    ];
    race(Minting::Start, &endings);
}

#[test]
fn a_join_against_every_end() {
    let endings = [
        (Ending::Offboarding, 56),
        (Ending::Disabling, 56),
        (Ending::Freeze, 950),
        (Ending::Task, 60),
        (Ending::Client, 50),
        (Ending::Operator, 40),
        (Ending::Owner, 90),
        (Ending::Workload, 45),
        (Ending::Issuer, 110),
        (Ending::HandOver, 50),
        (Ending::ByHand, 35),
        (Ending::Instance, 50),
        (Ending::Webhook, 50),
    ];
    race(Minting::Join, &endings);
}

/// How many orders there are at least of one who renews or exchanges and one who ends that.
const ENDINGS: [(Ending, u64); 14] = [
    (Ending::Offboarding, 84),
    (Ending::Disabling, 84),
    (Ending::Freeze, 1600),
    (Ending::Task, 60),
    (Ending::Client, 60),
    (Ending::Revocation, 110),
    (Ending::Operator, 50),
    (Ending::Owner, 120),
    (Ending::Workload, 60),
    (Ending::Issuer, 150),
    (Ending::HandOver, 50),
    (Ending::ByHand, 45),
    (Ending::Instance, 50),
    (Ending::Webhook, 60),
];

#[test]
fn a_renewal_against_every_end() {
    race(Minting::Renew, &ENDINGS);
}

#[test]
fn an_exchange_against_every_end() {
    race(Minting::Exchange, &ENDINGS);
}
