//! What may happen, one small step each, and how a list of them is drawn.

/// One operation. Numbers name what is there by its place among what is there, so that an operation
/// means something however many before it are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A job of a new run asks, where people are concerned on behalf of somebody who logged in so
    /// many seconds ago, or that person.
    Start {
        workload: usize,
        key: usize,
        who: usize,
        ago: u64,
    },
    /// A job of the run of a task that is known asks: in that attempt, or one before or after it.
    Job {
        task: usize,
        attempt: i8,
        job: u64,
        key: usize,
    },
    /// The same proof once more, as after an answer that got lost.
    Again(usize),
    Renew(usize),
    Narrow(usize),
    /// A client hands over to a helper with this key.
    HandOver {
        client: usize,
        key: usize,
    },
    Introspect(usize),
    Beat(usize),
    EndClient(usize),
    EndTask(usize),
    Revoke(usize),
    OperatorEnd(usize),
    /// An operator ends one client with what was delegated from it.
    EndByHand(usize),
    /// An operator ends what is open of an owner, and new tasks may start.
    EndOwner(usize),
    /// The same of a workload.
    EndWorkload(usize),
    /// The platform says that the run of a task, in that attempt or the next, is over.
    Cancel {
        task: usize,
        next: bool,
    },
    Unblock(usize),
    /// An operator blocks the key of a task, which stays open.
    Block(usize),
    /// What people decide, and what is said of them.
    People(People),
    /// The server looks for what a person should look at.
    Look,
    /// Days pass.
    Days(u64),
    Offboard(usize),
    Restore(usize),
    Disable(usize),
    Enable(usize),
    Freeze,
    Unfreeze,
    /// Takes a workload out of the declared state, or puts it back; agrees to its ends or to none.
    Apply {
        workload: usize,
        agrees: bool,
    },
    /// Seconds pass, with a sweep after them or without.
    Pass {
        seconds: u64,
        swept: bool,
    },
    /// The wall clock goes wrong by so much.
    Jump(i64),
    Sweep,
    /// The server falls and starts again from what was durable.
    Restart,
    /// The next commit fails in the course of this.
    Failing(Failure, Box<Operation>),
}

/// What people decide of requests, and what is said of people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum People {
    /// A request that waits for people once more, as after an answer that got lost.
    RequestAgain(usize),
    /// Somebody approves it.
    Approve { request: usize, who: usize },
    /// Somebody denies it, or whoever is at the machine itself.
    Deny { request: usize, who: Option<usize> },
    /// Who asked takes it back.
    TakeBack(usize),
    /// Who asked asks on, and fetches what was approved: when it is time, or at once.
    Poll { request: usize, patient: bool },
    /// The provider says, so many seconds late, of what happened so many before, that a session of
    /// somebody is over or the account gone.
    Say {
        who: usize,
        late: u64,
        before: u64,
        gone: bool,
    },
    /// What it said before, once more.
    SayAgain(usize),
    /// Somebody who is out is let in again.
    LetIn(usize),
}

/// How a commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing is written, and that is known.
    Refused,
    /// Nothing is written, and nobody knows.
    Lost,
    /// It is written, and nobody knows.
    Kept,
}

/// Draws numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below this.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    pub(crate) fn place(&mut self) -> usize {
        usize::try_from(self.draw() >> 40).unwrap()
    }
}

/// How often each kind comes, beside the others.
type Weighed = (u64, fn(&mut Dice) -> Operation);

const WEIGHED: &[Weighed] = &[
    (130, |dice| Operation::Start {
        workload: dice.place(),
        key: dice.place(),
        who: dice.place(),
        ago: dice.below(2) * dice.below(1200),
    }),
    // What people are concerned with stands last among them.
    (60, |dice| Operation::Start {
        workload: 4 + dice.place() % 4,
        key: dice.place(),
        who: dice.place(),
        ago: dice.below(2) * dice.below(1200),
    }),
    (90, |dice| Operation::Job {
        task: dice.place(),
        attempt: [0, 0, 0, 0, 0, 0, 1, -1][dice.place() % 8],
        job: dice.below(4),
        key: dice.place(),
    }),
    (60, |dice| Operation::Again(dice.place())),
    (150, |dice| Operation::Renew(dice.place())),
    (100, |dice| Operation::Narrow(dice.place())),
    (90, |dice| Operation::HandOver {
        client: dice.place(),
        key: dice.place(),
    }),
    (150, |dice| Operation::Introspect(dice.place())),
    (30, |dice| Operation::Beat(dice.place())),
    (30, |dice| Operation::EndClient(dice.place())),
    (15, |dice| Operation::EndTask(dice.place())),
    (25, |dice| Operation::Revoke(dice.place())),
    (8, |dice| Operation::OperatorEnd(dice.place())),
    (12, |dice| Operation::EndByHand(dice.place())),
    (2, |dice| Operation::EndOwner(dice.place())),
    (3, |dice| Operation::EndWorkload(dice.place())),
    (8, |dice| Operation::Cancel {
        task: dice.place(),
        next: dice.below(4) == 0,
    }),
    (5, |dice| Operation::Unblock(dice.place())),
    (8, |dice| Operation::Block(dice.place())),
    (8, |dice| {
        Operation::People(People::RequestAgain(dice.place()))
    }),
    (60, |dice| {
        Operation::People(People::Approve {
            request: dice.place(),
            who: dice.place(),
        })
    }),
    (6, |dice| {
        Operation::People(People::Deny {
            request: dice.place(),
            who: (dice.below(3) > 0).then(|| dice.place()),
        })
    }),
    (4, |dice| Operation::People(People::TakeBack(dice.place()))),
    (60, |dice| {
        Operation::People(People::Poll {
            request: dice.place(),
            patient: dice.below(6) > 0,
        })
    }),
    (12, |dice| {
        Operation::People(People::Say {
            who: dice.place(),
            late: dice.below(2) * dice.below(600),
            before: dice.below(600),
            gone: dice.below(3) == 0,
        })
    }),
    (6, |dice| Operation::People(People::SayAgain(dice.place()))),
    (14, |dice| Operation::People(People::LetIn(dice.place()))),
    (8, |_| Operation::Look),
    (2, |dice| Operation::Days([1, 2, 31][dice.place() % 3])),
    (3, |dice| Operation::Offboard(dice.place())),
    (9, |dice| Operation::Restore(dice.place())),
    (3, |dice| Operation::Disable(dice.place())),
    (9, |dice| Operation::Enable(dice.place())),
    (1, |_| Operation::Freeze),
    (6, |_| Operation::Unfreeze),
    (4, |dice| Operation::Apply {
        workload: dice.place(),
        agrees: dice.below(3) > 0,
    }),
    (100, |dice| Operation::Pass {
        seconds: 1 + dice.below(4),
        swept: dice.below(4) > 0,
    }),
    (15, |dice| Operation::Pass {
        seconds: 1 + dice.below(400),
        swept: dice.below(2) > 0,
    }),
    (1, |dice| {
        let by = i64::try_from(6 + dice.below(240)).unwrap();
        Operation::Jump(if dice.below(2) > 0 { by } else { -by })
    }),
    (30, |_| Operation::Sweep),
    (2, |_| Operation::Restart),
    (24, |dice| {
        let operation = failing(dice);
        Operation::Failing(failure(dice), Box::new(operation))
    }),
    (10, |dice| {
        let operation = Operation::People(People::Poll {
            request: dice.place(),
            patient: true,
        });
        Operation::Failing(failure(dice), Box::new(operation))
    }),
];

/// Draws an operation.
pub(crate) fn draw(dice: &mut Dice) -> Operation {
    let all: u64 = WEIGHED.iter().map(|(weight, _)| weight).sum();
    let mut at = dice.below(all);
    for (weight, make) in WEIGHED {
        if at < *weight {
            return make(dice);
        }
        at -= weight;
    }
    Operation::Sweep
}

fn failure(dice: &mut Dice) -> Failure {
    [Failure::Refused, Failure::Lost, Failure::Kept][dice.place() % 3]
}

/// One whose commit may fail: of these it is known what the server must make of that.
fn failing(dice: &mut Dice) -> Operation {
    loop {
        let drawn = draw(dice);
        match drawn {
            Operation::Start { .. }
            | Operation::Renew(_)
            | Operation::Narrow(_)
            | Operation::HandOver { .. }
            | Operation::EndClient(_)
            | Operation::EndTask(_)
            | Operation::Revoke(_)
            | Operation::OperatorEnd(_)
            | Operation::EndByHand(_)
            | Operation::EndOwner(_)
            | Operation::EndWorkload(_)
            | Operation::Cancel { .. }
            | Operation::Block(_)
            | Operation::People(
                People::Approve { .. }
                | People::Deny { .. }
                | People::TakeBack(_)
                | People::Poll { .. }
                | People::Say { .. }
                | People::SayAgain(_),
            )
            | Operation::Offboard(_)
            | Operation::Disable(_)
            | Operation::Freeze
            | Operation::Sweep => return drawn,
            Operation::Job { .. }
            | Operation::Again(_)
            | Operation::Introspect(_)
            | Operation::Beat(_)
            | Operation::Unblock(_)
            | Operation::People(People::RequestAgain(_) | People::LetIn(_))
            | Operation::Look
            | Operation::Days(_)
            | Operation::Restore(_)
            | Operation::Enable(_)
            | Operation::Unfreeze
            | Operation::Apply { .. }
            | Operation::Pass { .. }
            | Operation::Jump(_)
            | Operation::Restart
            | Operation::Failing(..) => {}
        }
    }
}
