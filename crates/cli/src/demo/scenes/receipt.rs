//! The receipt of a task is verified offline, then tampered with, then cut short.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Scene;
use crate::demo::stage::CONFIG;

pub(in crate::demo) async fn play(scene: Scene<'_>, task: &str) -> Result<()> {
    let Scene { stage, paint } = scene;
    let receipt = scene.operate(&["receipt", task, "--config", CONFIG], 0).await?.out();
    let head = stage.operate(&["ledger", "head", "--json", "--config", CONFIG]).await?;
    let head: Value = serde_json::from_str(&head.with_code(0)?.out())?;
    let key = head.get("verifier_key").and_then(Value::as_str);
    let key = key.context("the head names no key")?;
    let whole: Value = serde_json::from_str(&receipt)?;
    let entries = entries(&whole)?.len();
    std::fs::write(stage.path("receipt.json"), &receipt)?;
    std::fs::write(stage.path("tampered.json"), tampered(&whole)?.to_string())?;
    std::fs::write(stage.path("cut.json"), cut(&whole)?.to_string())?;

    verify(scene, "receipt.json", key, 0).await?;
    verify(scene, "tampered.json", key, 1).await?;
    verify(scene, "cut.json", key, 1).await?;
    paint.shows(&format!(
        "{entries} entries hold without the server; one changed word is caught, and so is a missing end"
    ));
    ensure!(entries > 1, "a receipt of one entry shows little");
    Ok(())
}

/// Verifies a file with nothing but the key, and shows the verdict.
async fn verify(scene: Scene<'_>, file: &str, key: &str, code: i32) -> Result<()> {
    scene.paint.does(&format!("dayfly verify {file} --key {key}"));
    let verified = scene.stage.operate(&["verify", file, "--key", key]).await?.with_code(code)?;
    let said = verified.lines.iter().find(|line| !line.text.trim().is_empty());
    scene.paint.says(said.map_or("", |line| &line.text));
    Ok(())
}

/// The receipt with one word of its last entry changed.
fn tampered(receipt: &Value) -> Result<Value> {
    let mut changed = receipt.clone();
    let entry = entries_mut(&mut changed)?.last_mut();
    let leaf = entry.and_then(|entry| entry.get_mut("leaf"));
    let leaf = leaf.context("the receipt has no last entry")?;
    let text = leaf.as_str().unwrap_or_default();
    ensure!(text.contains("completed"), "the last entry does not say `completed`");
    *leaf = Value::from(text.replace("completed", "cancelled"));
    Ok(changed)
}

/// The receipt without its last entry, as if the task had never ended.
fn cut(receipt: &Value) -> Result<Value> {
    let mut shorter = receipt.clone();
    let last = entries_mut(&mut shorter)?.pop();
    last.context("the receipt has no last entry")?;
    Ok(shorter)
}

fn entries(receipt: &Value) -> Result<&Vec<Value>> {
    let entries = receipt.get("entries").and_then(Value::as_array);
    entries.context("the receipt has no entries")
}

fn entries_mut(receipt: &mut Value) -> Result<&mut Vec<Value>> {
    let entries = receipt.get_mut("entries").and_then(Value::as_array_mut);
    entries.context("the receipt has no entries")
}
