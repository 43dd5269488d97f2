//! Rows 6 and 7: what an open task takes in memory, and how soon a server with many of them is ready.

use super::Bench;
use super::Row;
use super::failure::Failure;
use super::fill;
use super::machine::{self, Memory};
use super::mill::{Callers, Platform};
use super::report::{Direction, Line, Report};
use super::server::Server;
use super::world::World;
use super::{clock::Watch, load};

/// The floors: bytes of memory for a task, seconds until a server is ready.
const BYTES: f64 = 2048.0;
const SECONDS: f64 = 5.0;

/// Measures both rows, of one database.
pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> Result<(), Failure> {
    let platform = Platform::new()?;
    let world = World::write(bench.folder.join("start"), &platform, 1)?;
    let issuer = world.issuer();
    // The first start makes keys and records the declared state.
    let empty = Server::start(bench.binary, world)?;
    let before = empty.memory_at_rest()?;
    let empty_ready = empty.ready_after;
    let world = empty.stop()?;

    let tasks = bench.options.open_tasks();
    eprintln!("bench: recording {tasks} open tasks …");
    let watch = Watch::start();
    fill::open_tasks(&world.database(), &issuer, tasks)?;
    let size = std::fs::metadata(world.database()).map_or(0, |file| file.len());
    report.note(format!(
        "{tasks} open tasks were recorded through the store in {:.0} s, a database of {:.2} GiB",
        watch.elapsed().as_secs_f64(),
        size as f64 / 1_073_741_824.0
    ));

    let server = Server::start(bench.binary, world)?;
    let cpu = machine::process_cpu(server.pid())?;
    let after = server.memory_at_rest()?;
    check_serving(&server, &platform, tasks)?;
    if bench.options.wants(Row::Memory) {
        report.row(memory_line(tasks, before, after));
    }
    if bench.options.wants(Row::Start) {
        let ready = server.ready_after.as_secs_f64();
        report.row(
            Line::new(&format!("start, {tasks} open tasks"), format!("{ready:.2} s"))
                .floor(format!("{SECONDS} s"), ready / SECONDS, Direction::AtMost)
                .note(format!(
                    "{cpu:.2} s of CPU; an empty server was ready after {:.2} s; the file was in the system's cache",
                    empty_ready.as_secs_f64()
                )),
        );
    }
    server.stop()?.remove()
}

fn memory_line(tasks: u64, before: Memory, after: Memory) -> Line {
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / tasks as f64;
    let resident = each(after.resident, before.resident);
    let anonymous = each(after.anonymous, before.anonymous);
    Line::new(
        &format!("memory a task, {tasks} open"),
        format!("{resident:.0} B"),
    )
    .floor(format!("{BYTES:.0} B"), resident / BYTES, Direction::AtMost)
    .note(format!(
        "resident, as the difference of two freshly started servers ({:.0} and {:.0} MiB); \
             anonymous {anonymous:.0} B; the database's own cache, up to 64 MiB and 16 MiB a \
             reader, is in both figures",
        before.resident as f64 / 1_048_576.0,
        after.resident as f64 / 1_048_576.0,
    ))
}

/// The server that started knows its tasks: it grants a new one, and refuses a job that is open.
fn check_serving(server: &Server, platform: &Platform, tasks: u64) -> Result<(), Failure> {
    let issuer = server.world.issuer();
    let callers = Callers::new(1)?;
    for (job, wanted) in [(tasks, 200), (tasks - 1, 400)] {
        let tokens = platform.tokens(&issuer, job..job + 1)?;
        for request in callers.requests(&issuer, job, &tokens)? {
            let (status, body) = load::ask(server.world.address, &request)?;
            if status != wanted {
                return Err(Failure::new(format!(
                    "after the start job {job} was answered {status}, not {wanted}: {body}"
                )));
            }
        }
    }
    Ok(())
}
