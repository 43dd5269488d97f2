//! A job asks for more than its workload may have.

use anyhow::Result;

use super::{APP, Scene};

const TOO_MUCH: &str =
    r#"[{"type":"artifact","actions":["delete"],"identifier":"octo-org/app/app-1.0.tgz"}]"#;

pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<()> {
    let Scene { stage, paint } = scene;
    let job = stage.issuer.job(APP)?;
    paint.does(&format!(
        "dayfly run --workload release --access '{TOO_MUCH}' -- true"
    ));
    let run = stage.run(
        &job,
        &["--workload", "release", "--access", TOO_MUCH],
        &["true"],
    )?;
    let run = run.end().await?.with_code(126)?;
    paint.says(&run.line("refused")?.text);
    scene.why(&run).await?;
    paint.shows("exit code 126: refused by name, and the command was never started");
    Ok(())
}
