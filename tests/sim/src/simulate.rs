//! A simulation: operations drawn from a seed, and where they fail, the few that make them fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::backend::Kind;
use crate::operation::{Dice, Operation, draw};
use crate::run::{Lie, Verdict, run};
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
    pub(crate) fn run(self) -> Result<(), Failed> {
        let mut dice = Dice::new(self.seed);
        let operations: Vec<Operation> = (0..self.operations).map(|_| draw(&mut dice)).collect();
        let Err(why) = self.attempt(&operations) else {
            return Ok(());
        };
        eprintln!("{self:?}: {why}; looking for fewer operations that fail");
        let operations = shrink(&operations, TRIES, |some| self.attempt(some).is_err());
        let why = self.attempt(&operations).err().unwrap_or(why);
        Err(Failed { why, operations })
    }

    /// Runs operations in a world of their own; a panic is a failure like any other.
    fn attempt(self, operations: &[Operation]) -> Verdict {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|why| why.to_string())?;
        let attempt = || runtime.block_on(run(self.kind, operations, self.lie));
        catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(text.unwrap_or_else(|| "it panicked".to_owned()))
        })
    }

    /// Runs it and panics with all that is needed to see it again.
    pub(crate) fn demand(self) {
        if let Err(Failed { why, operations }) = self.run() {
            panic!("{self:?}: {why}\nafter these: {operations:#?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many operations one world goes through: a ledger in memory grows with them.
    const EACH: usize = 2000;
    const WORLDS: u64 = 50;

    #[test]
    fn a_hundred_thousand_operations_agree_with_the_model() {
        // Two threads, for no world is another's concern.
        std::thread::scope(|scope| {
            for half in 0..2 {
                scope.spawn(move || {
                    for world in (half..WORLDS).step_by(2) {
                        simulation(Kind::Memory, 4200 + world, EACH).demand();
                    }
                });
            }
        });
    }

    #[test]
    fn some_thousand_operations_on_sqlite_agree_with_the_model() {
        for world in 0..2 {
            simulation(Kind::Sqlite, 7700 + world, EACH).demand();
        }
    }

    #[test]
    fn a_planted_lie_is_found_and_told_in_a_few_operations() {
        let simulation = Simulation {
            lie: Lie::RevocationsAreNothing,
            ..simulation(Kind::Memory, 1, 400)
        };
        let failed = simulation.run().unwrap_err();
        let told = &failed.operations;
        assert!(told.len() <= 3, "{told:?}");
        assert!(told.iter().any(|one| matches!(one, Operation::Revoke(_))));
        assert!(failed.why.contains("is active: false"), "{}", failed.why);
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
