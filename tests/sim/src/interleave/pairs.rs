//! What mints against what ends: start, join, renewal and exchange against each way to end it.

use dayfly_domain::Outcome;
use dayfly_server::app::{Actor, Contained};

use super::explore::{Act, Answer, Played, Scene, Stage, explore};
use crate::caller::{Caller, Client, is_active};
use crate::world::Run;

const BY: Actor = Actor::Local { uid: 0 };

/// The one who ends; the other mints.
const ENDS: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Minting {
    Start,
    Join,
    Renew,
    Exchange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Offboarding,
    Disabling,
    Freeze,
    Task,
    Client,
    Revocation,
    Operator,
}

struct Race {
    minting: Minting,
    ending: Ending,
    least: u64,
}

/// Who comes, and who is there already.
struct Party {
    caller: Caller,
    there: Option<(Client, String)>,
}

impl Ending {
    fn contained(self) -> Option<Contained> {
        match self {
            Self::Offboarding => Some(Contained::Owner("team".parse().unwrap())),
            Self::Disabling => Some(Contained::Workload("matrix".parse().unwrap())),
            Self::Freeze => Some(Contained::Tenant),
            Self::Task | Self::Client | Self::Revocation | Self::Operator => None,
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

    /// Any number but where an end has a long answer, whose reads are of no weight any more.
    fn changes(&self) -> Option<usize> {
        match self.ending {
            Ending::Offboarding | Ending::Disabling | Ending::Freeze | Ending::Revocation => None,
            Ending::Task | Ending::Client | Ending::Operator => Some(3),
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
            let first = Caller::new(world, 2, run(1), 1);
            let granted = first.ask(world).await.unwrap();
            Some((first.client(&granted), granted.token))
        };
        Party {
            caller: Caller::new(world, 2, run(2), 2),
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
        let ends: Act<'w> = Box::pin(async move {
            if let Some(what) = self.ending.contained() {
                let done = world.app.contain(&world.tenant, &what, &BY, "a race").await;
                return Answer::of_end(done);
            }
            let (client, token) = there();
            match self.ending {
                Ending::Task => {
                    Answer::of_end(client.end(world, token, true, Outcome::Failed).await)
                }
                Ending::Client => {
                    Answer::of_end(client.end(world, token, false, Outcome::Failed).await)
                }
                Ending::Revocation => Answer::of_end(client.revoke(world, token).await),
                Ending::Operator => {
                    let task = client.id.task;
                    let done = world.app.operator_end(&world.tenant, task, &BY, "a race");
                    Answer::of_end(done.await)
                }
                Ending::Offboarding | Ending::Disabling | Ending::Freeze => {
                    panic!("contained above")
                }
            }
        });
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
        let over = |kind: &str| leaves.iter().any(|leaf| leaf["kind"] == kind);
        // A revocation of what is not the newest any more, and the end of one client of two, leave
        // the other credential alone.
        let ends_all = match self.ending {
            Ending::Revocation => over("client.ended") || over("task.ended"),
            Ending::Client => over("task.ended"),
            Ending::Offboarding
            | Ending::Disabling
            | Ending::Freeze
            | Ending::Task
            | Ending::Operator => true,
        };
        if let Some((client, token)) = &party.there {
            assert!(!is_active(world, token), "accepted after the end");
            if ends_all {
                stage.check_dead(client, token).await;
            }
        }
        for (_, granted) in played.granted() {
            if ends_all || (self.minting != Minting::Join && self.ending == Ending::Client) {
                let key = match self.minting {
                    Minting::Start | Minting::Join => party.caller.client(granted),
                    Minting::Renew | Minting::Exchange => party.there.as_ref().unwrap().0.clone(),
                };
                stage.check_dead(&key, &granted.token).await;
            } else {
                assert!(is_active(world, &granted.token), "it is not what ended");
            }
        }
        if ends_all {
            played.check_late_answers(ENDS);
            stage.check_order(played, |leaf| {
                let kind = leaf["kind"].as_str().unwrap_or_default();
                ["block.set", "task.ended", "client.ended"].contains(&kind)
            });
        }
        if let Some(what) = self.ending.contained() {
            // Nobody comes in while it stands, and what ended by it stays ended.
            let late = party.caller.ask(world).await;
            assert!(late.is_err(), "{late:?}");
            let lifted = world.app.lift(&world.tenant, &what, &BY, "over").await;
            assert!(lifted.is_ok(), "{lifted:?}");
            for (_, granted) in played.granted() {
                assert!(!is_active(world, &granted.token), "it came back");
            }
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
fn a_start_against_offboarding_disabling_and_freeze() {
    let endings = [
        (Ending::Offboarding, 35),
        (Ending::Disabling, 35),
        (Ending::Freeze, 35),
    ];
    race(Minting::Start, &endings);
}

#[test]
fn a_join_against_every_end() {
    let endings = [
        (Ending::Offboarding, 56),
        (Ending::Disabling, 56),
        (Ending::Freeze, 56),
        (Ending::Task, 60),
        (Ending::Client, 50),
        (Ending::Operator, 40),
    ];
    race(Minting::Join, &endings);
}

/// How many orders there are at least of one who renews or exchanges and one who ends that.
const ENDINGS: [(Ending, u64); 7] = [
    (Ending::Offboarding, 84),
    (Ending::Disabling, 84),
    (Ending::Freeze, 84),
    (Ending::Task, 60),
    (Ending::Client, 60),
    (Ending::Revocation, 110),
    (Ending::Operator, 50),
];

#[test]
fn a_renewal_against_every_end() {
    race(Minting::Renew, &ENDINGS);
}

#[test]
fn an_exchange_against_every_end() {
    race(Minting::Exchange, &ENDINGS);
}
