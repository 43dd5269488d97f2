//! The server is killed with SIGKILL and started again while a job is at work.

use anyhow::{Context, Result, ensure};

use super::{APP, Scene, end_of, head_of, shown, task_of};
use crate::clock;
use crate::demo::stage::OLD;

const PARTS: usize = 6;
/// How many requests are to fail before the server comes back.
const AWAY: usize = 2;

/// Plays the outage, and gives the head that the job's log ends with.
pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<String> {
    let Scene { stage, paint } = scene;
    let job = stage.issuer.job(APP)?;
    let options = ["--workload", "release", "--proxy", "artifacts"];
    paint.does("dayfly run --workload release --proxy artifacts -- sh parts.sh &");
    let mut run = stage.run(&job, &options, &["sh", "parts.sh"])?;
    run.until("part 2: 201").await?;
    let id = stage
        .server_id()
        .await
        .context("the server has no process id")?;
    paint.does(&format!(
        "kill -KILL {id}    # the server, in the middle of {PARTS} parts"
    ));
    stage.kill_server().await?;
    let killed = clock::instant();
    let noticed = run.until(": 503").await?.at;
    for _ in 1..AWAY {
        run.until(": 503").await?;
    }
    let copy = format!("cp data/dayfly.db* {OLD}/data");
    paint.does(&format!(
        "{copy}    # the ledger as it stands now, for scene 11"
    ));
    stage.configure_old()?;
    stage.shell(&copy).await?;
    paint.busy("starting the server again");
    let restarting = clock::instant();
    stage.start_server().await?;
    let away = clock::instant() - killed;
    let run = run.end().await?.with_code(0)?;
    let of = |status: &'static str| run.lines.iter().filter(move |l| l.text.ends_with(status));
    let refused = of(": 503").count();
    ensure!(
        !of(": 201").any(|line| noticed < line.at && line.at < restarting),
        "artifacts let something through without the server"
    );
    let stored = |part: usize| {
        stage
            .services
            .artifacts
            .object(&format!("octo-org/app/part-{part}"))
    };
    ensure!(
        (1..=PARTS).all(|part| stored(part).is_some()),
        "a part is missing"
    );
    paint.says(&format!(
        "away for {}: {refused} requests got 503, for nobody could say whether the task was still open",
        shown(away)
    ));
    paint.says(&format!("up again: {PARTS} of {PARTS} parts stored"));
    let end = end_of(&run)?;
    ensure!(
        end.starts_with(task_of(&run)?) && end.contains("completed"),
        "the task did not go on to its end"
    );
    paint.says(end);
    paint.shows("for the job it was a pause: same task, same key, nothing lost, and nothing let through meanwhile");
    head_of(&run)
}
