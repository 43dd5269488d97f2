//! A job is killed with SIGKILL, so that it can end nothing, and its task ends by heartbeat.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::time::sleep;

use super::{PREVIEW, Scene, shown};
use crate::clock;
use crate::demo::present::is_active;
use crate::demo::process::Process;
use crate::http::Clients;

/// How often the service asks about the token.
const ASK: Duration = Duration::from_millis(20);
/// How long the end may take to be found and recorded.
const PATIENCE: Duration = Duration::from_secs(15);

pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<()> {
    let Scene { stage, paint } = scene;
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let job = stage.issuer.job(PREVIEW)?;
    let options = ["--workload", "preview", "--resource", "artifacts"];
    paint.does("dayfly run --workload preview --resource artifacts -- sh wait.sh");
    let mut run = stage.run(&job, &options, &["sh", "wait.sh"])?;
    let open = run.until(" is open ").await?.text;
    let task = open
        .split(' ')
        .find(|word| word.starts_with("task_"))
        .context("the run names no task")?;
    let group = run.until("group ").await?.text;
    let token = std::fs::read_to_string(stage.path("held.token"))?;
    let token = token.trim();
    if !is_active(stage, &clients, token).await? {
        bail!("the token of the running job is not active");
    }
    let group = kill(&run, &group)?;
    let killed = clock::instant();
    paint.does(&format!(
        "kill -KILL {} -{group}    # dayfly run, and the process group of its command",
        run.id()
    ));
    paint.busy("waiting until its heartbeat is missed");
    let deadline = clock::after(PATIENCE);
    while is_active(stage, &clients, token).await? {
        if clock::instant() > deadline {
            bail!(
                "the token of a killed job is active for {}",
                shown(PATIENCE)
            );
        }
        sleep(ASK).await;
    }
    let silent = clock::instant() - killed;
    run.end().await?;
    paint.says(&format!(
        "its token was active for another {}, then no more: it is to beat every second, and is given up after two",
        shown(silent)
    ));
    let verdict = recorded_verdict(scene, task).await?;
    paint.does(&format!("dayfly trace {task}"));
    paint.says(&verdict);
    paint.shows("nothing cleaned up after the job, and nothing had to");
    Ok(())
}

/// The run first, so that it cannot end the task when its command is gone.
fn kill(run: &Process, group: &str) -> Result<Pid> {
    let group = group.strip_prefix("group ").and_then(|id| id.parse().ok());
    let group = Pid::from_raw(group.context("the script does not say who it is")?);
    run.kill()?;
    killpg(group, Signal::SIGKILL).context("cannot kill the script")?;
    Ok(group)
}

/// The first line of the task's trace, once the end stands in the ledger.
async fn recorded_verdict(scene: Scene<'_>, task: &str) -> Result<String> {
    let deadline = clock::after(PATIENCE);
    loop {
        let trace = scene.stage.operate(&["trace", task]).await?;
        let out = trace.with_code(0)?.out();
        let first = out.lines().next().unwrap_or_default();
        if first.contains("(heartbeat)") {
            return Ok(first.to_owned());
        }
        if clock::instant() > deadline {
            bail!("the end by heartbeat is not recorded: {first}");
        }
        sleep(ASK).await;
    }
}
