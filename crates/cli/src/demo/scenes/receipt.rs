//! The receipt of a task is verified offline and tampered with, and the ledger is cut off.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Scene;
use crate::demo::process::Finished;
use crate::demo::stage::OLD;

/// Plays it with the receipt of a task, and with a head of the ledger from the log of a later job.
pub(in crate::demo) async fn play(scene: Scene<'_>, task: &str, head: &str) -> Result<()> {
    let Scene { stage, paint } = scene;
    let key = key(scene).await?;
    std::fs::write(stage.path("head.note"), head)?;
    let shell = async |line: &str| {
        paint.does(line);
        stage.shell(line).await
    };
    shell(&format!("dayfly receipt {task} > receipt.json")).await?;
    paint.does(&format!("KEY={key}    # from `dayfly ledger head --json`"));
    let verify = async |file: &str, code: i32| -> Result<()> {
        paint.does(&format!("dayfly verify {file} --key $KEY"));
        let arguments = ["verify", file, "--key", &key];
        first_line(scene, &stage.operate(&arguments).await?.with_code(code)?)
    };
    verify("receipt.json", 0).await?;
    shell("sed s/completed/cancelled/ receipt.json > tampered.json").await?;
    verify("tampered.json", 1).await?;
    paint.does("cut.json: the same receipt without its last entry");
    cut_the_end_off(&stage.path("receipt.json"), &stage.path("cut.json"))?;
    verify("cut.json", 1).await?;

    let old = format!("{OLD}/dayfly.toml");
    let fsck = scene
        .operate(&["ledger", "fsck", "--config", &old], 0)
        .await?;
    first_line(scene, &fsck)?;
    for (config, code) in [(old.as_str(), 1), ("dayfly.toml", 0)] {
        let arguments = ["ledger", "verify", "head.note", "--config", config];
        let verified = scene.operate(&arguments, code).await?;
        first_line(scene, &verified)?;
    }
    paint.shows(
        "a changed word and a missing end are caught by anyone; a ledger's tail that was cut off, by whoever kept a later head: here the job's log of scene 8",
    );
    Ok(())
}

/// Writes the receipt without its last entry, which is the end of the task.
fn cut_the_end_off(receipt: &Path, cut: &Path) -> Result<()> {
    let mut receipt: Value = serde_json::from_slice(&std::fs::read(receipt)?)?;
    receipt
        .get_mut("entries")
        .and_then(Value::as_array_mut)
        .and_then(Vec::pop)
        .context("the receipt has no entries")?;
    std::fs::write(cut, receipt.to_string())?;
    Ok(())
}

/// The key that verifies the ledger.
async fn key(scene: Scene<'_>) -> Result<String> {
    let head = scene.stage.operate(&["ledger", "head", "--json"]).await?;
    let head: Value = serde_json::from_str(&head.with_code(0)?.out())?;
    let key = head.get("verifier_key").and_then(Value::as_str);
    Ok(key.context("the head names no key")?.to_owned())
}

fn first_line(scene: Scene<'_>, finished: &Finished) -> Result<()> {
    let said = finished
        .lines
        .iter()
        .find(|line| !line.text.trim().is_empty());
    scene
        .paint
        .says(&said.context("the command said nothing")?.text);
    Ok(())
}
