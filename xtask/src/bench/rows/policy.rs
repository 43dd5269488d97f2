//! Policy evaluation alone, from 10 to 10,000 policies of which 20 at most are unconstrained.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use dayfly_domain::{Claims, Name, Time};
use dayfly_server::config;
use dayfly_server::declared::{Declared, Source, SourceFile, TenantContext};
use dayfly_server::policy::{Action, Asked, Decision, Facts, Policies, Question};

use super::Bench;
use super::clock::Watch;
use super::failure::{Context, Failure};
use super::report::{Direction, Line, Report};
use super::world::{self, RESOURCE};

/// How many policies stand in every slice.
const UNCONSTRAINED: usize = 20;
/// What one evaluation may take, with 1,000 policies (DESIGN, section 8).
const FLOOR_MICROS: f64 = 15.0;

/// Measures the rows.
pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> Result<(), Failure> {
    for many in [10, 100, 1_000, 10_000] {
        let micros = measure(many, bench.options.quick)?;
        let line = Line::new(
            &format!("policy evaluation, {many} policies"),
            format!("{micros:.1} µs"),
        );
        report.row(line.floor(
            format!("{FLOOR_MICROS:.0} µs"),
            micros / FLOOR_MICROS,
            Direction::AtMost,
        ));
    }
    Ok(())
}

/// Policies of which `UNCONSTRAINED` at most name no workload: a baseline, conditions on claims and
/// counts, and for the others a condition for one workload each.
pub(super) fn texts(many: usize) -> String {
    let mut text = "@id(\"baseline\")\npermit (principal, action, resource);\n".to_owned();
    let open = UNCONSTRAINED.min(many / 2).max(1);
    for at in 1..many {
        // Writing to a string does not fail.
        let _ = if at < open {
            writeln!(
                text,
                "forbid (principal, action, resource) when {{ context.proof.hasTag(\"ref\") && context.proof.getTag(\"ref\") like \"refs/heads/frozen-{at}/*\" }};"
            )
        } else {
            let name = world::workload_name(at as u64 % world::WORKLOADS);
            writeln!(
                text,
                "forbid (principal == Dayfly::Workload::\"{name}\", action, resource) when {{ context.open_tasks > {} }};",
                1_000_000 + at
            )
        };
    }
    text
}

fn measure(many: usize, quick: bool) -> Result<f64, Failure> {
    let file = |name: &str, text: String| SourceFile {
        name: name.to_owned(),
        text,
    };
    let folder = tempfile::tempdir().context("no folder to work in")?;
    let source = Source::new(
        folder.path(),
        vec![
            file("tenant.toml", world::declared_without_files()),
            file("policies/bench.cedar", texts(many)),
        ],
    );
    let context = TenantContext {
        issuer: "http://127.0.0.1/bench".to_owned(),
        bounds: config::Bounds::default(),
        operators: None,
    };
    let loads = |errors: Vec<config::LoadError>| {
        Failure::new(errors.first().map_or_else(String::new, ToString::to_string))
    };
    let (declared, _) = Declared::load(&source, &context).map_err(loads)?;
    let (policies, _) = Policies::load(&source, &declared).map_err(loads)?;
    let resource: Name = RESOURCE.parse().map_err(|_| Failure::new("an odd name"))?;
    let claims = claims();
    let rounds: u64 = if quick { 20_000 } else { 200_000 };
    let evaluate = |round: u64| -> Result<(), Failure> {
        let name: Name = world::workload_name(round % world::WORKLOADS)
            .parse()
            .map_err(|_| Failure::new("an odd name"))?;
        let workload = declared.workloads.get(&name).context("a workload")?;
        let question = Question {
            action: Action::Issue,
            workload: &workload.workload,
            resource: &resource,
            asked: Asked::of(&workload.workload.access, &resource),
            handed: None,
        };
        let facts = Facts {
            claims: &claims,
            now: Time::from_millis(1_795_287_689_123 + round),
            address: Some([192, 0, 2, 7].into()),
            open_tasks: round,
            starts_last_hour: round,
            subject: None,
            said: None,
            approvals: 0,
        };
        let verdict = black_box(policies.evaluate(black_box(&question), &facts));
        if verdict.decision == Decision::Allow {
            Ok(())
        } else {
            Err(Failure::new("the policies do not permit what they should"))
        }
    };
    // Slices are made when they are first asked for.
    (0..world::WORKLOADS).try_for_each(evaluate)?;
    let watch = Watch::start();
    (0..rounds).try_for_each(evaluate)?;
    Ok(watch.elapsed().as_secs_f64() * 1e6 / rounds as f64)
}

/// Claims as many and as long as GitHub's.
fn claims() -> Claims {
    (0..28)
        .map(|at| {
            (
                format!("claim_{at:02}"),
                format!("a value of some length {at}"),
            )
        })
        .chain([("ref".to_owned(), "refs/heads/main".to_owned())])
        .collect()
}

/// Writes policies into a tenant's folder.
pub(super) fn write(tenant: &Path, many: usize) -> Result<(), Failure> {
    let file = tenant.join("policies/baseline.cedar");
    std::fs::write(&file, texts(many))
        .with_context(|| format!("{} cannot be written", file.display()))
}
