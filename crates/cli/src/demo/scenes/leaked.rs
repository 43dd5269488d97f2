//! A token that was found somewhere is pasted into `trace -`.

use anyhow::{Result, ensure};

use super::Scene;

pub(in crate::demo) async fn play(scene: Scene<'_>, token: &str) -> Result<()> {
    let Scene { stage, paint } = scene;
    let short: String = token.chars().take(12).collect();
    paint.does(&format!("echo {short}… | dayfly trace -"));
    let trace = stage.operate_with(&["trace", "-"], token).await?;
    let out = trace.with_code(0)?.out();
    let verdict = out.lines().next().unwrap_or_default();
    ensure!(
        verdict.starts_with("GONE"),
        "the token of an ended task is not gone: {verdict}"
    );
    paint.says(verdict);
    paint.shows("the first line is the answer; the token was hashed here and never sent");
    Ok(())
}
