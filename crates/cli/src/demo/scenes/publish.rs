//! A shell script publishes with plain curl through the proxy of `dayfly run`.

use anyhow::{Result, ensure};

use super::{APP, Scene, end_of};

const PATH: &str = "octo-org/app/app-1.0.tgz";
const SCRIPT: &str = include_str!("../scripts/publish.sh");

pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<()> {
    let Scene { stage, paint } = scene;
    let job = stage.issuer.job(APP)?;
    let options = ["--workload", "release", "--proxy", "artifacts"];
    paint.does("dayfly run --workload release --proxy artifacts -- sh publish.sh");
    let run = stage.run(&job, &options, &["sh", "publish.sh"])?;
    let run = run.end().await?.with_code(0)?;
    let stored = &run.line("stored ")?.text;
    let sent = SCRIPT.lines().last().unwrap_or_default();
    paint.says(&format!("publish.sh: {sent}"));
    paint.says(&format!("201 from artifacts: {stored}"));
    let there = stage.services.artifacts.object(PATH);
    ensure!(
        there.as_deref() == Some(b"the first release"),
        "artifacts does not hold what was published"
    );
    paint.says(end_of(&run)?);
    paint.shows("the script knew a URL and held no token; the service saw one with a proof of its key, and asked");
    Ok(())
}
