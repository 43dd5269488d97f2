//! What is measured, a row of the design's performance table after the other, beside the primitives of this very machine.

mod backup;
mod clock;
mod decision;
mod ends;
mod failure;
mod fill;
mod helpers;
mod hot;
mod introspection;
mod issuance;
mod load;
mod machine;
mod mill;
mod pace;
mod policy;
mod primitives;
mod probe;
mod record;
mod report;
mod server;
mod sqlite;
mod start;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use failure::{Context, Failure};
use issuance::Issued;
use primitives::Primitives;
use report::Report;

use super::options::{Options, Row};

/// Runs the rows that `options` name. The build is a release: the module above sees to it.
pub(super) fn main(options: &Options) -> ExitCode {
    finish(run(options))
}

/// Runs as the bare server that a bench has started with `args`, if it has.
pub(super) fn probed(args: &[String]) -> Option<ExitCode> {
    (args.first().map(String::as_str) == Some(probe::ARGUMENT)).then(|| finish(probe::main(args)))
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
    let issues = [
        Row::Issuance,
        Row::Introspection,
        Row::Decision,
        Row::Backup,
    ];
    if issues.iter().any(|row| options.wants(*row)) {
        let issued = issuance::run(&bench, &mut report)?;
        finish_served(&bench, issued, &mut report)?;
    }
    if options.wants(Row::Policy) {
        policy::run(&bench, &mut report)?;
    }
    if options.wants(Row::Record) {
        record::run(&bench, &mut report)?;
    }
    if options.wants(Row::Ends) {
        ends::run(&bench, &mut report)?;
    }
    if options.wants(Row::Sweep) {
        ends::sweep(&bench, &mut report)?;
    }
    if options.wants(Row::Delegation) {
        helpers::run(&bench, &mut report)?;
    }
    if options.wants(Row::Hot) {
        hot::run(&bench, &mut report)?;
    }
    if options.wants(Row::Memory) || options.wants(Row::Start) {
        start::run(&bench, &mut report)?;
    }
    report.print();
    Ok(())
}

/// Introspects what was issued and decides about it, stops the server, and looks into the ledger it left.
fn finish_served(bench: &Bench<'_>, issued: Issued, report: &mut Report) -> Result<(), Failure> {
    if bench.options.wants(Row::Introspection) {
        introspection::run(bench, &issued, report)?;
    }
    if bench.options.wants(Row::Decision) {
        decision::run(bench, &issued, report)?;
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

/// The folder that this program was built into.
fn target() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().context("the bench does not know where it lies")?;
    own.parent()
        .and_then(Path::parent)
        .map(Path::to_path_buf)
        .ok_or_else(|| Failure::new("the bench does not lie in a target folder"))
}
