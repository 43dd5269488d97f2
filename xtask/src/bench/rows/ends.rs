//! Rows 4 and 5, and the sweep: much that ends at once, acknowledged by one append, and deadlines that pass together beside grants.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dayfly_domain::Span;
use serde_json::Value;

use super::Bench;
use super::clock::{self, Watch, wait};
use super::failure::{Context, Failure};
use super::fill;
use super::load::{self, Fired, Load, Paced};
use super::mill::{Callers, Platform};
use super::report::{Direction, Line, Report};
use super::server::Server;
use super::world::{OWNER, RESOURCE, SECRET, TENANT, World};

/// The floors, in milliseconds from the request to the acknowledgement.
const END: f64 = 10.0;
const OFFBOARDING: f64 = 100.0;
/// What an answer about what is open may take, in milliseconds.
const REACH: f64 = 1_000.0;
/// The floors of the sweep: seconds, and how many times their median grants may take beside it.
const SWEEP: f64 = 1.0;
const SLOWER: f64 = 2.0;
/// The credentials of the task that ends, over its clients; and how many such tasks end.
const CLIENTS: u32 = 625;
const CREDENTIALS: u32 = 16;
const LARGE: u64 = 5;
/// Tasks that were really granted, whose tokens are shown after the end.
const WITNESSES: u64 = 64;
/// How long what follows an end in the background may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often to look how far it is.
const LOOK: Duration = Duration::from_millis(20);
/// From the start of the server to the deadline that all tasks have, and how long grants go on
/// after it.
const AHEAD: Span = Span::from_seconds(12);
const AFTER: Duration = Duration::from_secs(8);
/// One grant each, and over how many connections.
const EVERY: Duration = Duration::from_millis(10);
const CONNECTIONS: usize = 32;

/// Measures the ends that somebody asks for.
pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> Result<(), Failure> {
    let platform = Platform::new()?;
    let world = World::write(bench.folder.join("ends"), &platform, 1)?;
    let issuer = world.issuer();
    // The first start makes keys and records the declared state.
    let world = Server::start(bench.binary, world)?.stop()?;
    let tasks = bench.options.ended_at_once();
    eprintln!("bench: recording {tasks} open tasks …");
    fill::open_tasks(&world.database(), &issuer, tasks)?;
    let size = fill::Large {
        clients: CLIENTS,
        credentials: CREDENTIALS,
    };
    let large = fill::large_tasks(&world.database(), &issuer, tasks..tasks + LARGE, size)?;

    let server = Server::start(bench.binary, world)?;
    reach(&server, (tasks + LARGE, ""), report)?;
    let mut slowest = 0.0_f64;
    for task in large {
        let path = format!("/admin/{TENANT}/tasks/{task}/end");
        slowest = slowest.max(acknowledged(&server, &path)?);
        // It counts as over at once, and as recorded with the answer.
        let (_, shown) = server.admin("GET", &format!("/admin/{TENANT}/tasks/{task}"), "")?;
        if !shown.contains("operator") {
            return Err(Failure::new(format!("{task} has not ended: {shown}")));
        }
    }
    let many = CLIENTS * CREDENTIALS;
    report.row(
        Line::new(
            &format!("end of a task with {many} credentials"),
            format!("{slowest:.1} ms"),
        )
        .floor(format!("{END} ms"), slowest / END, Direction::AtMost)
        .note(format!(
            "of {CLIENTS} clients; the slowest of {LARGE}, beside {tasks} open tasks"
        )),
    );
    offboarding(&server, &platform, tasks, report)?;
    server.stop()?.remove()
}

/// Measures the question who now can reach a resource, which looks at every open task, of which there
/// are so many, beside what `history` says.
pub(super) fn reach(
    server: &Server,
    (tasks, history): (u64, &str),
    report: &mut Report,
) -> Result<(), Failure> {
    let path = format!("/admin/{TENANT}/reach?resource={RESOURCE}&limit=1");
    let mut slowest = 0.0_f64;
    for _ in 0..3 {
        let watch = Watch::start();
        let (status, body) = server.admin("GET", &path, "")?;
        slowest = slowest.max(watch.elapsed().as_secs_f64() * 1e3);
        let said: Value = serde_json::from_str(&body).context("an answer that is no JSON")?;
        let open = said.get("open").and_then(Value::as_u64);
        if status != 200 || open != Some(tasks) {
            return Err(Failure::new(format!("{path} was answered {status} {body}")));
        }
    }
    report.row(
        Line::new(
            &format!("reach of a resource, {tasks} open tasks{history}"),
            format!("{slowest:.0} ms"),
        )
        .floor(format!("{REACH} ms"), slowest / REACH, Direction::AtMost)
        .note("the slowest of 3; each looks at every open task, and counts all".to_owned()),
    );
    Ok(())
}

fn offboarding(
    server: &Server,
    platform: &Platform,
    tasks: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    let issuer = server.world.issuer();
    let callers = Callers::new(WITNESSES)?;
    let first = tasks + LARGE;
    let proofs = platform.tokens(&issuer, first..first + WITNESSES + 1)?;
    let (last, proofs) = proofs.split_last().context("no platform tokens")?;
    let grants = Load {
        address: server.world.address,
        requests: Arc::new(callers.requests(&issuer, first, proofs)?),
        holds: "\"access_token\":\"",
        keeps: true,
    }
    .fire(8)?;
    grants.demand_good("grants before the offboarding")?;
    let tokens = tokens(&grants)?;
    look_at(server, &tokens, "\"active\":true")?;

    let path = format!("/admin/{TENANT}/owners/{OWNER}/offboard");
    let took = acknowledged(server, &path)?;
    let watch = Watch::start();
    // Nothing is accepted from here on, whatever is recorded by now.
    look_at(server, &tokens, "\"active\":false")?;
    let late = callers.requests(&issuer, first + WITNESSES, std::slice::from_ref(last))?;
    for request in late {
        let (status, body) = load::ask(server.world.address, &request)?;
        if status != 400 {
            return Err(Failure::new(format!(
                "a grant after the offboarding was answered {status} {body}"
            )));
        }
    }
    until_open(server, 0)?;
    report.row(
        Line::new(
            &format!("offboarding, {tasks} open tasks"),
            format!("{took:.1} ms"),
        )
        .floor(
            format!("{OFFBOARDING} ms"),
            took / OFFBOARDING,
            Direction::AtMost,
        )
        .note(format!(
            "{} tokens were refused right after it, and a further grant; every end was recorded {:.1} s later",
            tokens.len(),
            watch.elapsed().as_secs_f64()
        )),
    );
    Ok(())
}

/// Measures deadlines that pass together, beside grants at an even pace.
pub(super) fn sweep(bench: &Bench<'_>, report: &mut Report) -> Result<(), Failure> {
    let platform = Platform::new()?;
    let world = World::write(bench.folder.join("sweep"), &platform, 1)?;
    let issuer = world.issuer();
    let world = Server::start(bench.binary, world)?.stop()?;
    let tasks = bench.options.ended_at_once();
    let pace = Paced {
        every: EVERY,
        connections: CONNECTIONS,
    };
    let grants = pace.requests_in(Duration::from_millis(AHEAD.millis()) + AFTER);
    eprintln!("bench: signing {grants} platform tokens …");
    let proofs = platform.tokens(&issuer, tasks..tasks + grants)?;
    let callers = Callers::new(grants.min(1_024))?;
    eprintln!("bench: recording {tasks} open tasks …");
    // Recording them takes a part of the window that the machine decides.
    let window = AHEAD + Span::from_seconds(bench.options.filling_seconds());
    let deadline = fill::open_tasks_for(&world.database(), &issuer, tasks, window)?;
    let server = Server::start(bench.binary, world)?;
    let left = Duration::from_millis(deadline.since(clock::now()).millis());
    if left < Duration::from_secs(4) {
        return Err(Failure::new(
            "the machine is too slow: the deadline came before anything was measured",
        ));
    }
    wait(left.saturating_sub(Duration::from_millis(AHEAD.millis())));
    let before = Duration::from_millis(deadline.since(clock::now()).millis());
    let requests = callers.requests(&issuer, tasks, &proofs)?;
    let load = Load {
        address: server.world.address,
        requests: Arc::new(requests),
        holds: "\"access_token\":\"",
        keeps: false,
    };
    let watch = Watch::start();
    let (fired, swept) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            wait(before.saturating_sub(LOOK));
            until_open(&server, grants)?;
            Ok::<_, Failure>(watch.elapsed())
        });
        let fired = load.fire_paced(pace);
        let swept = looking
            .join()
            .map_err(|_| Failure::new("the look at the sweep fell"))?;
        Ok::<_, Failure>((fired?, swept?))
    })?;
    fired.demand_good("grants beside the sweep")?;
    let quiet = fired.between(Duration::ZERO, before);
    let beside = fired.between(before, swept);
    let (median, worst) = (quiet.quantile(0.5), beside.quantile(1.0));
    let took = swept.saturating_sub(before).as_secs_f64();
    report.row(
        Line::new(&format!("sweep of {tasks} deadlines"), format!("{took:.2} s"))
            .floor(format!("{SWEEP} s"), took / SWEEP, Direction::AtMost)
            .latency(&beside)
            .note(format!(
                "beside a grant every {} ms; the slowest of {} meanwhile took {worst:.1} ms, {:.2} × the median of {median:.1} ms before, floor {SLOWER} ×: {}",
                EVERY.as_millis(),
                beside.good(),
                worst / median,
                if worst <= SLOWER * median { "reached" } else { "missed" },
            )),
    );
    server.stop()?.remove()
}

/// Ends something by hand; gives the milliseconds until it was acknowledged.
fn acknowledged(server: &Server, path: &str) -> Result<f64, Failure> {
    let watch = Watch::start();
    let (status, body) = server.admin("POST", path, r#"{"reason":"measured"}"#)?;
    let took = watch.elapsed().as_secs_f64() * 1e3;
    if status == 200 {
        Ok(took)
    } else {
        Err(Failure::new(format!("{path} was answered {status} {body}")))
    }
}

/// Waits until no more tasks are open than this.
fn until_open(server: &Server, most: u64) -> Result<(), Failure> {
    let watch = Watch::start();
    while server.open_tasks()? > most {
        if watch.elapsed() > PATIENCE {
            return Err(Failure::new("the ends are not recorded in time"));
        }
        wait(LOOK);
    }
    Ok(())
}

/// Introspects tokens, each of which must be answered so.
pub(super) fn look_at(
    server: &Server,
    tokens: &[String],
    holds: &'static str,
) -> Result<(), Failure> {
    let secret = STANDARD.encode(format!("{RESOURCE}:{SECRET}"));
    let headers = format!("authorization: Basic {secret}\r\n");
    let path = format!("/{TENANT}/introspect");
    let ask = |token: &String| load::post(&path, &headers, &format!("token={token}"));
    let load = Load {
        address: server.world.address,
        requests: Arc::new(tokens.iter().map(ask).collect()),
        holds,
        keeps: false,
    };
    load.fire(4)?.demand_good("introspection")
}

fn tokens(fired: &Fired) -> Result<Vec<String>, Failure> {
    let token = |(_, body): &(usize, Vec<u8>)| {
        let answer: Value = serde_json::from_slice(body).context("an answer that is no JSON")?;
        let token = answer.get("access_token").and_then(Value::as_str);
        token
            .map(str::to_owned)
            .context("an answer without a token")
    };
    fired.bodies.iter().map(token).collect()
}
