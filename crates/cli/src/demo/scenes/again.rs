//! A run that has ended proves itself again.

use anyhow::Result;

use super::Scene;
use crate::demo::issuer::Job;

pub(in crate::demo) async fn play(scene: Scene<'_>, job: &Job) -> Result<()> {
    let Scene { stage, paint } = scene;
    paint.does(&format!(
        "dayfly run --workload release -- true    # run {} again, with a fresh token of GitHub's kind",
        job.run_id
    ));
    let run = stage.run(job, &["--workload", "release"], &["true"])?;
    let run = run.end().await?.with_code(126)?;
    paint.says(&run.line("refused")?.text);
    scene.why(&run).await?;
    paint.shows("exit code 126: a run has one task, and its end is final");
    Ok(())
}
