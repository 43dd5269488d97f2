//! A simulation: operations drawn from a seed, and where they fail, the few that make them fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::backend::Kind;
use crate::operation::{Dice, Operation, draw};
use crate::reached::Reached;
use crate::run::{Lie, run};
use crate::shrink::shrink;

/// How often a failing list is tried shorter.
const TRIES: usize = 400;

/// A simulation of so many operations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simulation {
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    pub(crate) operations: usize,
    pub(crate) lie: Lie,
}

/// What a simulation that failed comes down to.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) why: String,
    pub(crate) operations: Vec<Operation>,
}

impl Simulation {
    /// Runs it from its seed.
    ///
    /// # Errors
    /// The few operations that are left of it, and what does not agree after them.
    pub(crate) fn run(self) -> Result<Reached, Failed> {
        let mut dice = Dice::new(self.seed);
        let operations: Vec<Operation> = (0..self.operations).map(|_| draw(&mut dice)).collect();
        let why = match self.attempt(&operations) {
            Ok(reached) => return Ok(reached),
            Err(why) => why,
        };
        eprintln!("{self:?}: {why}; looking for fewer operations that fail");
        let operations = shrink(&operations, TRIES, |some| self.attempt(some).is_err());
        let why = self.attempt(&operations).err().unwrap_or(why);
        Err(Failed { why, operations })
    }

    /// Runs operations in a world of their own; a panic is a failure like any other.
    fn attempt(self, operations: &[Operation]) -> Result<Reached, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| why.to_string())?;
        let attempt = || runtime.block_on(run(self.kind, operations, self.lie));
        catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(text.unwrap_or_else(|| "it panicked".to_owned()))
        })
    }

    /// Runs it and panics with all that is needed to see it again. Gives how often it came where.
    pub(crate) fn demand(self) -> Reached {
        match self.run() {
            Ok(reached) => reached,
            Err(Failed { why, operations }) => {
                panic!("{self:?}: {why}\nafter these: {operations:#?}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::People;
    use crate::reached::Place;

    /// How many operations one world goes through: a ledger in memory grows with them.
    const EACH: usize = 2000;
    const WORLDS: u64 = 50;
    /// How often all of them together come to each place at least.
    const LEAST: u64 = 8;

    #[test]
    fn a_hundred_thousand_operations_agree_with_the_model() {
        // Two threads, for no world is another's concern.
        let reached = std::thread::scope(|scope| {
            let halves = [0, 1].map(|half| {
                scope.spawn(move || {
                    let worlds = (half..WORLDS).step_by(2);
                    let runs =
                        worlds.map(|world| simulation(Kind::Memory, 4200 + world, EACH).demand());
                    runs.fold(Reached::default(), Reached::and)
                })
            });
            let halves = halves.map(|half| half.join().unwrap());
            halves.into_iter().fold(Reached::default(), Reached::and)
        });
        println!("{reached:?}");
        for place in Place::ALL {
            assert!(reached.times(place) >= LEAST, "{place:?}: {reached:?}");
        }
    }

    #[test]
    fn some_thousand_operations_on_sqlite_agree_with_the_model() {
        for world in 0..2 {
            simulation(Kind::Sqlite, 7700 + world, EACH).demand();
        }
    }

    #[test]
    fn a_planted_lie_is_found_and_told_in_a_few_operations() {
        let told = told(Lie::RevocationsAreNothing, 3, "is active: false");
        assert!(told.iter().any(|one| matches!(one, Operation::Revoke(_))));
    }

    #[test]
    fn a_word_that_is_taken_for_nothing_is_told_in_a_few_operations() {
        let told = told(Lie::WordsAreNothing, 3, "is active: false");
        assert!(
            told.iter()
                .any(|one| matches!(one, Operation::People(People::Say { .. })))
        );
    }

    #[test]
    fn an_approval_that_is_taken_for_two_is_told_in_a_few_operations() {
        let told = told(Lie::OneApproves, 4, "it is to wait");
        let approves = |one: &Operation| matches!(one, Operation::People(People::Approve { .. }));
        assert!(told.iter().any(approves), "{told:?}");
    }

    /// What is told of a lie by the first seed that finds it: so many operations at most, and why.
    fn told(lie: Lie, most: usize, why: &str) -> Vec<Operation> {
        let found = (1..20).find_map(|seed| {
            let simulation = Simulation {
                lie,
                ..simulation(Kind::Memory, seed, 300)
            };
            simulation
                .run()
                .err()
                .filter(|failed| failed.why.contains(why))
        });
        let failed = found.unwrap();
        assert!(failed.operations.len() <= most, "{failed:?}");
        failed.operations
    }

    fn simulation(kind: Kind, seed: u64, operations: usize) -> Simulation {
        Simulation {
            kind,
            seed,
            operations,
            lie: Lie::None,
        }
    }
}
