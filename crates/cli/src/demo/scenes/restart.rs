//! The server is killed with SIGKILL and started again while a job is at work.

use anyhow::{Context, Result, ensure};

use super::{APP, Scene, end_of, shown};
use crate::clock;

const PARTS: usize = 6;

pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<()> {
    let Scene { stage, paint } = scene;
    let job = stage.issuer.job(APP)?;
    let options = ["--workload", "release", "--proxy", "artifacts"];
    paint.does("dayfly run --workload release --proxy artifacts -- sh parts.sh &");
    let mut run = stage.run(&job, &options, &["sh", "parts.sh"])?;
    run.until("part 2: 201").await?;
    let id = stage.server_id().await.context("the server has no process id")?;
    paint.does(&format!("kill -KILL {id}    # the server, after part 2 of {PARTS}"));
    stage.kill_server().await?;
    let killed = clock::instant();
    run.until("part 3: 503").await?;
    paint.busy("starting the server again");
    stage.start_server().await?;
    let away = clock::instant() - killed;
    let run = run.end().await?.with_code(0)?;
    let refused = run.lines.iter().filter(|line| line.text.ends_with(": 503")).count();
    let stored = |part: usize| stage.services.artifacts.object(&format!("octo-org/app/part-{part}"));
    ensure!((1..=PARTS).all(|part| stored(part).is_some()), "a part is missing");
    paint.says(&format!(
        "away for {}: {refused} requests got 503, as nobody could say whether the task was still open",
        shown(away)
    ));
    paint.says(&format!("{PARTS} of {PARTS} parts stored"));
    paint.says(end_of(&run)?);
    paint.shows("the job noticed a pause: same task, same key, nothing lost, nothing let through meanwhile");
    Ok(())
}
