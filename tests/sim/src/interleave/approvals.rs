//! What people decide, at once: an approval against another, a denial, the end of the run, and what is let go.

use dayfly_domain::{BlockOn, Rule};
use dayfly_server::app::{Actor, Contained, Polled, Refused};

use super::explore::{Act, Answer, Played, Scene, Stage, explore};
use crate::caller::{self, Caller, is_active};
use crate::persons::provider;
use crate::waiting::Waiting;
use crate::world::Run;

const BY: Actor = Actor::Local { uid: 0 };
const REPOSITORY: u64 = 6;

/// What comes beside an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// The same person approves once more.
    Again,
    Denial,
    /// The platform says that the run is over.
    Cancel,
    /// Who asked takes it back.
    TakenBack,
    /// An operator ends it.
    Operator,
    /// Its owner is offboarded.
    Offboarding,
    /// The block on its key is lifted.
    Unblock,
    /// Who asked asks on.
    Poll,
}

struct Race {
    beside: Beside,
    least: u64,
}

/// A request that waits for one person.
pub(super) struct Party {
    pub(super) waiting: Waiting,
    pub(super) run: Run,
}

/// Somebody of the owner, for whom the provider vouches.
pub(super) fn person(sub: &str) -> Actor {
    Actor::Person {
        iss: provider().to_owned(),
        sub: sub.to_owned(),
    }
}

/// A job that asks for what one person must approve.
pub(super) async fn request(stage: &Stage, n: u64) -> Party {
    let run = Run {
        id: 1000 + n,
        attempt: 1,
        job: 1,
    };
    let caller = Caller::new(&stage.world, REPOSITORY, run, 1);
    let deferred = caller.request(&stage.world).await.unwrap();
    Party {
        waiting: Waiting::new(&caller, &deferred),
        run,
    }
}

/// Approves it, or denies it.
pub(super) async fn approve(stage: &Stage, party: &Party, sub: &str) -> Answer {
    let (world, by) = (&stage.world, person(sub));
    let task = party.waiting.task;
    let done = world.app.approve(&world.tenant, task, &by, "a race").await;
    Answer::of_end(done)
}

pub(super) async fn deny(stage: &Stage, party: &Party) -> Answer {
    let world = &stage.world;
    let task = party.waiting.task;
    let done = world.app.deny(&world.tenant, task, &BY, "a race").await;
    Answer::of_end(done)
}

/// Asks on; whoever is to wait is refused by that rule.
pub(super) async fn poll(stage: &Stage, party: &Party) -> Answer {
    of_poll(party.waiting.poll(&stage.world).await)
}

fn of_poll(answer: Result<Polled, Refused>) -> Answer {
    match answer {
        Ok(Polled::Granted(granted, _)) => Answer::Granted(granted),
        Ok(Polled::Wait(refusal)) => Answer::Refused(refusal.rule),
        Err(refused) => Answer::Refused(caller::rule(&refused)),
    }
}

/// The block on the key of a run.
pub(super) fn block(run: Run) -> BlockOn {
    format!("key:github:{REPOSITORY}/{}/{}", run.id, run.job)
        .parse()
        .unwrap()
}

/// The platform says that the run is over.
pub(super) async fn cancel(stage: &Stage, party: &Party) -> Answer {
    Answer::of_end(caller::is_over(&stage.world, REPOSITORY, party.run).await)
}

fn owner() -> Contained {
    Contained::Owner("others".parse().unwrap())
}

const APPROVES: usize = 0;
const OTHER: usize = 1;

impl Race {
    async fn act(&self, stage: &Stage, party: &Party) -> Answer {
        let world = &stage.world;
        match self.beside {
            Beside::Again => approve(stage, party, "cyd").await,
            Beside::Denial => deny(stage, party).await,
            Beside::Cancel => cancel(stage, party).await,
            Beside::TakenBack => Answer::of_end(party.waiting.take_back(world).await),
            Beside::Operator => {
                let task = party.waiting.task;
                let done = world.app.operator_end(&world.tenant, task, &BY, "a race");
                Answer::of_end(done.await)
            }
            Beside::Offboarding => {
                let what = owner();
                let done = world.app.contain(&world.tenant, &what, &BY, "a race");
                Answer::of_end(done.await)
            }
            Beside::Unblock => {
                let on = block(party.run);
                let done = world.app.unblock(&world.tenant, on, &BY, "a race").await;
                Answer::of_end(done)
            }
            Beside::Poll => poll(stage, party).await,
        }
    }
}

impl Scene for Race {
    type Ready = Party;

    fn name(&self) -> String {
        format!("an approval against {:?}", self.beside)
    }

    fn least(&self) -> u64 {
        self.least
    }

    /// Any number but where an end has a long answer, whose reads are of no weight any more.
    fn changes(&self) -> Option<usize> {
        match self.beside {
            Beside::Again | Beside::Unblock | Beside::Poll => None,
            Beside::Denial
            | Beside::Cancel
            | Beside::TakenBack
            | Beside::Operator
            | Beside::Offboarding => Some(3),
        }
    }

    async fn ready(&self, stage: &Stage, n: u64) -> Party {
        let party = request(stage, n).await;
        if self.beside == Beside::Unblock {
            let (world, on) = (&stage.world, block(party.run));
            let blocked = world.app.set_block(&world.tenant, on, &BY, "before").await;
            assert!(blocked.is_ok(), "{blocked:?}");
        }
        party
    }

    fn acts<'w>(&'w self, stage: &'w Stage, party: &'w Party) -> Vec<Act<'w>> {
        vec![
            Box::pin(approve(stage, party, "cyd")),
            Box::pin(self.act(stage, party)),
        ]
    }

    async fn check(&self, stage: &Stage, party: &Party, played: &Played) {
        let leaves = stage.leaves(played);
        let task = party.waiting.task.to_string();
        let count = |kind: &str| {
            let of = leaves.iter().filter(|leaf| leaf["task"] == task.as_str());
            of.filter(|leaf| leaf["kind"] == kind).count()
        };
        let (approved, other) = (&played.answers[APPROVES], &played.answers[OTHER]);
        let approvals = [approved, other];
        match self.beside {
            Beside::Again => {
                // One of the two counted: whoever came second approved before, or too late.
                let counted = approvals.iter().filter(|answer| answer.is_acknowledged());
                assert_eq!((counted.count(), count("task.approved")), (1, 1));
            }
            Beside::Unblock | Beside::Poll => {
                assert!(approved.is_acknowledged(), "{approved:?}");
                assert_eq!(count("task.approved"), 1, "{leaves:?}");
            }
            Beside::Denial
            | Beside::Cancel
            | Beside::TakenBack
            | Beside::Operator
            | Beside::Offboarding => {
                assert!(other.is_acknowledged(), "{other:?}");
                // An offboarding is one entry; the ends below it are recorded later.
                let ends = if self.beside == Beside::Offboarding {
                    "block.set"
                } else {
                    "task.ended"
                };
                let of_end = leaves.iter().filter(|leaf| leaf["kind"] == ends);
                assert_eq!(of_end.count(), 1, "{leaves:?}");
                let end = leaves.iter().position(|leaf| leaf["kind"] == ends);
                let late = leaves.iter().skip(end.unwrap());
                let mut late = late.filter(|leaf| leaf["kind"] == "task.approved");
                assert!(late.next().is_none(), "approved after its end: {leaves:?}");
                if approved.is_acknowledged() {
                    assert!(!played.looked_after(APPROVES, OTHER), "{:?}", played.log);
                }
            }
        }
        self.check_fetch(stage, party, played).await;
        if self.beside == Beside::Offboarding {
            let world = &stage.world;
            let lifted = world.app.lift(&world.tenant, &owner(), &BY, "over").await;
            assert!(lifted.is_ok(), "{lifted:?}");
            world.wait(20);
            let late = poll(stage, party).await;
            assert!(matches!(late, Answer::Refused(_)), "it came back: {late:?}");
        }
    }
}

impl Race {
    /// What is approved in the end is fetched once, and nothing else is.
    async fn check_fetch(&self, stage: &Stage, party: &Party, played: &Played) {
        let at_once = match (self.beside, &played.answers[OTHER]) {
            (Beside::Poll, Answer::Granted(granted)) => {
                assert!(is_active(&stage.world, &granted.token));
                true
            }
            (Beside::Poll, answer) => {
                assert!(matches!(answer, Answer::Refused(Rule::ApprovalPending)));
                false
            }
            _ => false,
        };
        stage.world.wait(5);
        let fetched = poll(stage, party).await;
        let stands = match self.beside {
            Beside::Again | Beside::Unblock | Beside::Poll => true,
            Beside::Denial
            | Beside::Cancel
            | Beside::TakenBack
            | Beside::Operator
            | Beside::Offboarding => false,
        };
        match fetched {
            Answer::Granted(granted) => {
                assert!(stands && !at_once, "{:?}", played.answers);
                assert!(is_active(&stage.world, &granted.token));
            }
            refused @ (Answer::Refused(_)
            | Answer::Decided(_)
            | Answer::Acknowledged
            | Answer::Declined) => {
                assert!(!stands || at_once, "{refused:?} after {:?}", played.answers);
            }
        }
    }
}

#[test]
fn an_approval_against_another_a_poll_and_an_unblocking_is_fetched_once() {
    let beside = [
        (Beside::Again, 68),
        (Beside::Poll, 14),
        (Beside::Unblock, 33),
    ];
    for (beside, least) in beside {
        explore(&Race { beside, least });
    }
}

#[test]
fn an_approval_against_every_end_of_what_waits() {
    let beside = [
        (Beside::Denial, 27),
        (Beside::Cancel, 42),
        (Beside::TakenBack, 27),
        (Beside::Operator, 27),
        (Beside::Offboarding, 60),
    ];
    for (beside, least) in beside {
        explore(&Race { beside, least });
    }
}
