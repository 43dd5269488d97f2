//! `cargo xtask bench`: the rows of the design's performance table, measured by a release build.

#[cfg_attr(
    not(feature = "bench"),
    expect(
        dead_code,
        reason = "here they are only read, for a mistake to be told before a build"
    )
)]
mod options;
#[cfg(feature = "bench")]
mod rows;

use std::path::Path;
use std::process::{Command, ExitCode};

use options::Options;

use crate::step::{Invocation, root};

const USAGE: &str = "usage: cargo xtask bench [--quick] [--policies N] [--row issuance|introspection|decision|memory|start|policy|backup|record|ends|sweep|delegation|hot]

  --quick   smaller numbers, a few seconds a row
  --policies  by how many policies issuance is permitted, 20 of them unconstrained; 1 if not named
  --row     only this row, may stand more than once; introspection, decision and backup issue the tokens they need

Exit code: 0 also when a floor is missed, 1 when an answer was wrong or the bench could not run.";

/// Runs the bench with what follows `bench` on the command line.
pub(crate) fn main(args: &[String]) -> ExitCode {
    #[cfg(feature = "bench")]
    if let Some(code) = rows::probed(args) {
        return code;
    }
    match Options::parse(args) {
        Ok(Some(options)) => measured(&options, args),
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("bench: {why}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

#[cfg(feature = "bench")]
fn measured(options: &Options, args: &[String]) -> ExitCode {
    if cfg!(debug_assertions) {
        built_and_again(args)
    } else {
        rows::main(options)
    }
}

#[cfg(not(feature = "bench"))]
fn measured(_: &Options, args: &[String]) -> ExitCode {
    built_and_again(args)
}

/// Builds server and bench as they are shipped, and runs that bench instead of this one: what is
/// measured must be built so, and so must what measures it.
fn built_and_again(args: &[String]) -> ExitCode {
    built_and_ran(args).unwrap_or_else(|why| {
        eprintln!("bench: {why}");
        ExitCode::FAILURE
    })
}

fn built_and_ran(args: &[String]) -> Result<ExitCode, String> {
    Invocation::of(
        "cargo",
        "build --release --package dayfly --package xtask --features xtask/bench",
    )
    .run()
    .map_err(|why| format!("the release build failed: {why}"))?;
    let own = std::env::current_exe()
        .map_err(|why| format!("the bench does not know where it lies: {why}"))?;
    let again = own
        .parent()
        .and_then(Path::parent)
        .ok_or("the bench does not lie in a target folder")?
        .join("release/xtask");
    let status = Command::new(&again)
        .arg("bench")
        .args(args)
        .current_dir(root())
        .status()
        .map_err(|why| format!("{} cannot be run: {why}", again.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
