//! `cargo xtask bench`: the rows of the design's performance table, beside the primitives of this very machine.

mod clock;
mod failure;
mod fill;
mod introspection;
mod issuance;
mod load;
mod machine;
mod mill;
mod options;
mod pace;
mod policy;
mod primitives;
mod probe;
mod report;
mod server;
mod sqlite;
mod start;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use failure::{Context, Failure};
use issuance::Issued;
use options::{Options, Row};
use primitives::Primitives;
use report::Report;

const USAGE: &str = "usage: cargo xtask bench [--quick] [--policies N] [--row issuance|introspection|memory|start|policy]

  --quick   smaller numbers, a few seconds a row
  --policies  by how many policies issuance is permitted, 20 of them unconstrained; 1 if not named
  --row     only this row, may stand more than once; introspection issues the tokens it needs

Exit code: 0 also when a floor is missed, 1 when an answer was wrong or the bench could not run.";

/// Runs the bench with what follows `bench` on the command line.
pub(crate) fn main(args: &[String]) -> ExitCode {
    if args.first().map(String::as_str) == Some(probe::ARGUMENT) {
        return finish(probe::main(args));
    }
    let options = match Options::parse(args) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("bench: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // What is measured must be built as it is shipped, and so must what measures it.
    if cfg!(debug_assertions) {
        return built_and_again(args).unwrap_or_else(|why| finish(Err(why)));
    }
    finish(run(&options))
}

fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Builds server and bench with the release profile and runs that bench instead of this one.
fn built_and_again(args: &[String]) -> Result<ExitCode, Failure> {
    let built = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--package",
            "dayfly",
            "--package",
            "xtask",
        ])
        .current_dir(workspace())
        .status()
        .context("cargo cannot be run")?;
    if !built.success() {
        return Err(Failure::new("the release build failed"));
    }
    let again = target()?.join("release").join("xtask");
    let status = Command::new(&again)
        .arg("bench")
        .args(args)
        .status()
        .with_context(|| format!("{} cannot be run", again.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn run(options: &Options) -> Result<(), Failure> {
    let target = target()?;
    let binary = target.join("release").join("dayfly");
    if !binary.is_file() {
        return Err(Failure::new(format!(
            "{} is missing: run the bench as `cargo xtask bench`, which builds it",
            binary.display()
        )));
    }
    // Beside the build and not in the system's folder for such files, which may lie in memory,
    // where a sync costs nothing.
    let folder = tempfile::Builder::new()
        .prefix("dayfly-bench-")
        .tempdir_in(&target)
        .context("no folder to work in")?;
    let measured = measure(options, &binary, folder.path());
    // What a wrong answer came from is worth a look.
    measured.map_err(|why| {
        let kept = folder.keep();
        Failure::new(format!("{why}; the files are kept in {}", kept.display()))
    })
}

fn measure(options: &Options, binary: &Path, folder: &Path) -> Result<(), Failure> {
    let mut report = Report::new(machine::line());
    println!("{}\n", report.machine());
    let primitives = Primitives::measure(folder, options.quick)?;
    report.primitives(&primitives);
    let bench = Bench {
        options,
        binary,
        folder,
        primitives: &primitives,
    };
    if options.wants(Row::Issuance) || options.wants(Row::Introspection) {
        let issued = issuance::run(&bench, &mut report)?;
        finish_served(&bench, issued, &mut report)?;
    }
    if options.wants(Row::Policy) {
        policy::run(&bench, &mut report)?;
    }
    if options.wants(Row::Memory) || options.wants(Row::Start) {
        start::run(&bench, &mut report)?;
    }
    report.print();
    Ok(())
}

/// Introspects what was issued, stops the server, and looks into the ledger it left.
fn finish_served(bench: &Bench<'_>, issued: Issued, report: &mut Report) -> Result<(), Failure> {
    if bench.options.wants(Row::Introspection) {
        introspection::run(bench, &issued, report)?;
    }
    issuance::check_ledger(issued, report)
}

/// What every row works with.
struct Bench<'a> {
    options: &'a Options,
    binary: &'a Path,
    folder: &'a Path,
    primitives: &'a Primitives,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder that this program was built into.
fn target() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().context("the bench does not know where it lies")?;
    own.parent()
        .and_then(Path::parent)
        .map(Path::to_path_buf)
        .ok_or_else(|| Failure::new("the bench does not lie in a target folder"))
}
