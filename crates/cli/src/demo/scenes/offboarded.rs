//! The owner of what still runs is offboarded: everything open is over, and the next run is another owner's.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::shared::{comes_in, let_go, token_of};
use super::{Scene, shown};
use crate::clock;
use crate::demo::issuer::Attempt;
use crate::demo::present::is_active;
use crate::demo::process::Process;
use crate::http::Clients;

const OWNER: &str = "team-delivery";
const HEIR: &str = "team-platform";

pub(in crate::demo) async fn play(scene: Scene<'_>, running: Process) -> Result<()> {
    let Scene { stage, paint } = scene;
    let clients = Clients::new().context("cannot make HTTP requests")?;
    let token = token_of(scene, "again")?;
    ensure!(
        is_active(stage, &clients, &token).await?,
        "nothing is left to end"
    );
    let reason = ["--reason", "left the company"];
    let began = clock::instant();
    let command = [
        "owner", "offboard", OWNER, "--to", HEIR, reason[0], reason[1],
    ];
    let said = scene.operate(&command, 0).await?;
    let live = is_active(stage, &clients, &token).await?;
    let took = clock::instant() - began;
    ensure!(!live, "the token outlives the offboarding");
    for line in said.out().lines() {
        paint.says(line);
    }
    paint.says(&format!(
        "its token is refused {} after the command was given",
        shown(took)
    ));
    let_go(scene, "again")?;
    running.end().await?;
    let trace = scene
        .operate(&["trace", &format!("owner:{OWNER}")], 0)
        .await?
        .out();
    let verdict = trace.lines().next().unwrap_or_default();
    ensure!(
        verdict.starts_with("GONE") && verdict.contains("owner_offboarded"),
        "what the owner had is not gone: {verdict}"
    );
    paint.says(verdict);
    let run_id = stage.issuer.fresh_run();
    let attempt = Attempt {
        run_id,
        number: 1,
        job: run_id * 10,
    };
    let (next, task) = comes_in(scene, attempt, "next").await?;
    let shown = scene
        .stage
        .operate(&["task", "show", &task, "--json"])
        .await?;
    let shown: Value = serde_json::from_str(&shown.with_code(0)?.out())?;
    let owner = shown.get("owner").and_then(Value::as_str);
    ensure!(
        owner == Some(HEIR),
        "the next run is not the heir's: {shown}"
    );
    let_go(scene, "next")?;
    next.end().await?.with_code(0)?;
    paint.shows(&format!(
        "one entry ended all that {OWNER} had open; {HEIR} answers for the next run"
    ));
    Ok(())
}
