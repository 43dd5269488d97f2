//! A run is cancelled at the platform, which says so by a signed webhook while the job is at work.

use anyhow::{Context, Result, ensure};

use super::{ENDED_ELSEWHERE, PREVIEW, Scene, shown};
use crate::clock;
use crate::demo::present::is_active;
use crate::http::Clients;

pub(in crate::demo) async fn play(scene: Scene<'_>) -> Result<()> {
    let Scene { stage, paint } = scene;
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let job = stage.issuer.job(PREVIEW)?;
    let options = ["--workload", "preview", "--resource", "artifacts"];
    paint.does("dayfly run --workload preview --resource artifacts -- sh wait.sh");
    let mut run = stage.run(&job, &options, &["sh", "wait.sh"])?;
    run.until("group ").await?;
    let token = std::fs::read_to_string(stage.path("held.token"))?;
    let token = token.trim();
    ensure!(
        is_active(stage, &clients, token).await?,
        "the token of the running job is not active"
    );
    let webhook = stage.issuer.cancelled(PREVIEW, &job);
    let url = format!("{}/webhooks/github", stage.tenant_url());
    let short: String = webhook.signature.chars().take(16).collect();
    paint.does(&format!(
        "curl -H 'x-github-event: workflow_run' -H 'x-hub-signature-256: {short}…' -d @cancelled.json {url}"
    ));
    let forged = deliver(scene, &url, &webhook.body, &webhook.forged).await?;
    ensure!(
        forged.starts_with("401"),
        "a webhook that nobody signed was answered with {forged}"
    );
    ensure!(
        is_active(stage, &clients, token).await?,
        "a webhook that nobody signed ended a job"
    );
    let answer = deliver(scene, &url, &webhook.body, &webhook.signature).await?;
    let told = clock::instant();
    ensure!(
        !is_active(stage, &clients, token).await?,
        "the token of a cancelled run is active"
    );
    let over = clock::instant() - told;
    paint.says(&format!(
        "401 for one with another signature; for this one {answer}"
    ));
    paint.says(&format!(
        "its token was over when it was asked about, {} later",
        shown(over)
    ));
    let run = run.end().await?.with_code(ENDED_ELSEWHERE)?;
    let task = super::task_of(&run)?;
    let trace = scene.operate(&["trace", task], 0).await?.out();
    let verdict = trace.lines().next().unwrap_or_default();
    ensure!(
        verdict.starts_with("GONE") && verdict.contains("(upstream"),
        "the run is not gone by its platform's word: {verdict}"
    );
    paint.says(verdict);
    let again = stage.run(&job, &["--workload", "preview"], &["true"])?;
    again.end().await?.with_code(126)?;
    paint.shows("exit code 124: the platform's word ends the attempt it names, and only that");
    Ok(())
}

/// Sends a webhook; gives the answer's status and body.
async fn deliver(scene: Scene<'_>, url: &str, body: &str, signature: &str) -> Result<String> {
    let signature = format!("x-hub-signature-256: {signature}");
    let arguments = [
        "-H",
        "content-type: application/json",
        "-H",
        "x-github-event: workflow_run",
        "-H",
        &signature,
        "-d",
        body,
        url,
    ];
    scene.stage.curl(&arguments).await
}
