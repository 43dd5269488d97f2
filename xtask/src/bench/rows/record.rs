//! Answers about history: what a trace of a rare and of a frequent key takes, and what a reach does.

use std::collections::BTreeMap;

use dayfly_domain::Name;
use dayfly_server::record::{self, Known, TraceKey, TraceQuery};
use dayfly_store::Store;

use super::Bench;
use super::clock::{self, Watch};
use super::failure::{Context, Failure};
use super::fill;
use super::mill::{check_run_id, run_id};
use super::report::{Direction, Line, Report};
use super::world::{
    OWNER, RESOURCE, RESOURCE_URL, TENANT, WORKLOADS, repository_id, workload_name,
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
    let folder = bench.folder.join("record");
    std::fs::create_dir_all(&folder).context("no folder for the record")?;
    eprintln!("bench: recording {} entries …", tasks * ENTRIES);
    let watch = Watch::start();
    let issuer = format!("http://127.0.0.1/{TENANT}");
    let store = fill::ended_tasks(&folder.join("dayfly.db"), &issuer, tasks)?;
    report.note(format!(
        "{} entries of tasks that came and went were recorded and indexed in {:.0} s",
        tasks * ENTRIES,
        watch.elapsed().as_secs_f64()
    ));
    // The first job lies at the beginning of the ledger, as far from its end as can be.
    let oldest = format!(
        "instance:repository_id={},run_id={},run_attempt=1,check_run_id={}",
        repository_id(0),
        run_id(0),
        check_run_id(0)
    );
    for (what, key) in [
        ("the oldest instance", oldest),
        (
            "one workload",
            format!("workload:{}", workload_name(WORKLOADS - 1)),
        ),
        ("the owner of all", format!("owner:{OWNER}")),
        ("a resource", format!("resource:{RESOURCE}")),
        ("nothing", "instance:none".to_owned()),
    ] {
        let seconds = slowest(&store, &key)?;
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
