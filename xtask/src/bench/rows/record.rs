//! Answers about history: what a trace of a rare and of a frequent key takes, and what a reach does.

use std::collections::BTreeMap;

use dayfly_domain::{Digest, Name};
use dayfly_server::record::{self, Known, TraceKey, TraceQuery};
use dayfly_store::Store;

use super::Bench;
use super::clock::{self, Watch};
use super::ends;
use super::failure::{Context, Failure};
use super::fill;
use super::mill::{Platform, check_run_id, run_id};
use super::report::{Direction, Line, Report};
use super::server::Server;
use super::world::{
    OWNER, RESOURCE, RESOURCE_URL, TENANT, WORKLOADS, World, repository_id, workload_name,
};

/// How many entries a task that came and went leaves.
const ENTRIES: u64 = 4;
/// What one answer may take.
const SECONDS: f64 = 1.0;
/// How often each is asked for; the slowest counts.
const TIMES: usize = 3;

/// Measures the rows.
pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> Result<(), Failure> {
    let tasks = bench.options.history() / ENTRIES;
    let platform = Platform::new()?;
    let world = World::write(bench.folder.join("record"), &platform, 1)?;
    let issuer = world.issuer();
    // The first start makes keys and records the declared state.
    let world = Server::start(bench.binary, world)?.stop()?;
    eprintln!("bench: recording {} entries …", tasks * ENTRIES);
    let watch = Watch::start();
    let (store, key) = fill::ended_tasks(&world.database(), &issuer, tasks)?;
    report.note(format!(
        "{} entries of tasks that came and went were recorded and indexed in {:.0} s",
        tasks * ENTRIES,
        watch.elapsed().as_secs_f64()
    ));
    traces(&store, (tasks, key), report)?;
    drop(store);

    let open = bench.options.ended_at_once();
    eprintln!("bench: recording {open} open tasks …");
    fill::open_tasks(&world.database(), &issuer, open)?;
    let server = Server::start(bench.binary, world)?;
    let history = format!(", {} entries of history", tasks * ENTRIES);
    ends::reach(&server, (open, &history), report)?;
    server.stop()?.remove()
}

/// Measures a trace of each kind of key: of what is found once, by the run it was, and of what all or
/// many share.
fn traces(
    store: &dyn Store,
    (tasks, first): (u64, Digest),
    report: &mut Report,
) -> Result<(), Failure> {
    // The first job lies at the beginning of the ledger, as far from its end as can be.
    let oldest = format!(
        "instance:repository_id={},run_id={},run_attempt=1,check_run_id={}",
        repository_id(0),
        run_id(0),
        check_run_id(0)
    );
    let page = format!(
        "https://github.com/octo-org/octo-repo-0000/actions/runs/{}",
        run_id(0)
    );
    let subject = "subject:github:repo:octo-org/octo-repo-0000:ref:refs/heads/main";
    for (what, key) in [
        ("the oldest instance", oldest),
        ("the page of the oldest run", page),
        ("a key that many jobs had", format!("key:{first}")),
        ("the subject of one workload's tokens", subject.to_owned()),
        ("the issuer of all", "issuer:github".to_owned()),
        (
            "one workload",
            format!("workload:{}", workload_name(WORKLOADS - 1)),
        ),
        ("the owner of all", format!("owner:{OWNER}")),
        ("a resource", format!("resource:{RESOURCE}")),
        ("nothing", "instance:none".to_owned()),
    ] {
        let seconds = slowest(store, &key)?;
        report.row(
            Line::new(
                &format!("trace of {what}, {} entries", tasks * ENTRIES),
                format!("{:.1} ms", seconds * 1e3),
            )
            .floor(format!("{SECONDS} s"), seconds / SECONDS, Direction::AtMost),
        );
    }
    Ok(())
}

/// The longest that the answer took.
fn slowest(store: &dyn Store, key: &str) -> Result<f64, Failure> {
    let tenant: Name = TENANT.parse().context("an odd name")?;
    let key: TraceKey = key.parse().context("an odd key")?;
    let resource: Name = RESOURCE.parse().context("an odd name")?;
    let known = Known {
        reporting: Default::default(),
        resources: BTreeMap::from([(resource, RESOURCE_URL.to_owned())]),
        issuers: BTreeMap::new(),
    };
    let mut slowest = 0.0_f64;
    for _ in 0..TIMES {
        let query = TraceQuery {
            key: key.clone(),
            since: None,
            until: None,
            now: clock::now(),
        };
        let watch = Watch::start();
        let trace = record::trace(store, &tenant, &known, &query).context("no trace")?;
        slowest = slowest.max(watch.elapsed().as_secs_f64());
        let (found, nothing) = (trace.tasks.len(), key.to_string() == "instance:none");
        if (found == 0) != nothing {
            return Err(Failure::new(format!(
                "the trace of {key} shows {found} tasks"
            )));
        }
    }
    Ok(slowest)
}
