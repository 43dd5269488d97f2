//! Three jobs of one run share a task, each as a client of its own: one goes, and the others stay.

use anyhow::{Context, Result, ensure};

use super::{PIPELINE, Scene, end_of};
use crate::demo::issuer::Attempt;
use crate::demo::present::is_active;
use crate::demo::process::Process;
use crate::http::Clients;

/// What still runs of it.
pub(in crate::demo) struct Shared {
    pub(in crate::demo) run_id: u64,
    pub(in crate::demo) task: String,
    /// The jobs that go on, by their names.
    pub(in crate::demo) jobs: Vec<(&'static str, Process)>,
}

/// A job of the workload `pipeline` that is in its task, and the task's id.
pub(super) async fn comes_in(
    scene: Scene<'_>,
    attempt: Attempt,
    name: &'static str,
) -> Result<(Process, String)> {
    let Scene { stage, paint } = scene;
    let job = stage.issuer.job_of(PIPELINE, attempt)?;
    let options = ["--workload", "pipeline", "--resource", "artifacts"];
    paint.does(&format!(
        "dayfly run --workload pipeline --resource artifacts -- sh hold.sh {name} &    # run {}, attempt {}",
        attempt.run_id, attempt.number
    ));
    let mut run = stage.run(&job, &options, &["sh", "hold.sh", name])?;
    let open = run.until(" is open ").await?.text;
    let task = open.split(' ').find(|word| word.starts_with("task_"));
    let task = task.context("the run names no task")?.to_owned();
    run.until("is in").await?;
    Ok((run, task))
}

/// The token that a job took for itself.
pub(super) fn token_of(scene: Scene<'_>, name: &str) -> Result<String> {
    let token = std::fs::read_to_string(scene.stage.path(&format!("{name}.token")))?;
    Ok(token.trim().to_owned())
}

/// Lets a job go on to its end.
pub(super) fn let_go(scene: Scene<'_>, name: &str) -> Result<()> {
    std::fs::write(scene.stage.path(&format!("{name}.go")), "").context("cannot let a job go on")
}

pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<Shared> {
    let Scene { stage, paint } = scene;
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let run_id = stage.issuer.fresh_run();
    let mut jobs = Vec::new();
    let mut tasks = Vec::new();
    for (number, name) in (1..).zip(["build", "test", "deliver"]) {
        let attempt = Attempt {
            run_id,
            number: 1,
            job: run_id * 10 + number,
        };
        let (run, task) = comes_in(scene, attempt, name).await?;
        jobs.push((name, run));
        tasks.push(task);
    }
    tasks.dedup();
    let [task] = tasks.as_slice() else {
        anyhow::bail!("the jobs do not share a task: {tasks:?}");
    };
    let task = task.clone();
    let_go(scene, "build")?;
    let (_, build) = jobs.remove(0);
    let build = build.end().await?.with_code(0)?;
    paint.says(end_of(&build)?);
    let gone = !is_active(stage, &clients, &token_of(scene, "build")?).await?;
    ensure!(gone, "the token of a job that is over is active");
    for (name, _) in &jobs {
        let live = is_active(stage, &clients, &token_of(scene, name)?).await?;
        ensure!(live, "the token of {name} is not active");
    }
    let reach = scene.operate(&["reach", "artifacts"], 0).await?;
    paint.says(&reach.line(" may reach it; ")?.text);
    paint.shows(&format!(
        "one task {task} for the run, a key for each job: what one had is gone, the others go on"
    ));
    Ok(Shared { run_id, task, jobs })
}
