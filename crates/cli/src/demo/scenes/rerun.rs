//! A re-run takes the place of the attempt before, and a late job of that one does not come in.

use anyhow::{Context, Result, ensure};

use super::shared::{Shared, comes_in, let_go, token_of};
use super::{PIPELINE, Scene};
use crate::demo::issuer::Attempt;
use crate::demo::present::is_active;
use crate::demo::process::Process;
use crate::http::Clients;

/// Plays the re-run, and gives the job of it that goes on.
pub(in crate::demo) async fn play(scene: Scene<'_>, before: Shared) -> Result<Process> {
    let Scene { stage, paint } = scene;
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let of = |number, job| Attempt {
        run_id: before.run_id,
        number,
        job: before.run_id * 10 + job,
    };
    let (again, task) = comes_in(scene, of(2, 5), "again").await?;
    ensure!(task != before.task, "the re-run is in the task of before");
    for (name, _) in &before.jobs {
        let live = is_active(stage, &clients, &token_of(scene, name)?).await?;
        ensure!(!live, "the token of {name} outlives its attempt");
    }
    let live = is_active(stage, &clients, &token_of(scene, "again")?).await?;
    ensure!(live, "the token of the re-run is not active");
    let trace = scene.operate(&["trace", &before.task], 0).await?;
    let out = trace.out();
    let verdict = out.lines().next().unwrap_or_default();
    ensure!(
        verdict.starts_with("GONE") && verdict.contains("(superseded)"),
        "the attempt before is not superseded: {verdict}"
    );
    paint.says(verdict);
    paint.says(&trace.line(" superseded ")?.text);
    for (name, job) in before.jobs {
        let_go(scene, name)?;
        job.end().await?;
    }
    let late = stage.issuer.job_of(PIPELINE, of(1, 4))?;
    paint.does("dayfly run --workload pipeline -- true    # a late job of attempt 1");
    let run = stage.run(&late, &["--workload", "pipeline"], &["true"])?;
    let run = run.end().await?.with_code(126)?;
    paint.says(&run.line("refused")?.text);
    scene.why(&run).await?;
    paint.shows("one entry opened the new task and ended the old one with all its jobs");
    Ok(again)
}
