//! Runs the use cases of a server in every order and at random, against a reference model.
//!
//! The tests run a fixed part of it. `cargo run --package dayfly-sim -- SEED [OPERATIONS [sqlite]]`
//! runs another one, or again what a test has told of.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a simulation says what went wrong by panicking"
)]

mod backend;
mod caller;
mod face;
#[cfg(test)]
mod interleave;
mod model;
mod operation;
mod persons;
mod reached;
mod record;
mod run;
mod shrink;
mod simulate;
#[cfg(test)]
mod threads;
mod waiting;
mod world;

use std::process::ExitCode;

use backend::Kind;
use run::Lie;
use simulate::Simulation;

const USAGE: &str = "usage: dayfly-sim SEED [OPERATIONS [memory|sqlite]]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(simulation) = parse(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let reached = simulation.demand();
    println!("{simulation:?}: all agree; {reached:?}");
    ExitCode::SUCCESS
}

fn parse(args: &[String]) -> Option<Simulation> {
    let (seed, rest) = args.split_first()?;
    let operations = rest.first().map_or(Ok(2000), |word| word.parse());
    let kind = match rest.get(1).map(String::as_str) {
        None | Some("memory") => Kind::Memory,
        Some("sqlite") => Kind::Sqlite,
        Some(_) => return None,
    };
    Some(Simulation {
        kind,
        seed: seed.parse().ok()?,
        operations: operations.ok()?,
        lie: Lie::None,
    })
}
