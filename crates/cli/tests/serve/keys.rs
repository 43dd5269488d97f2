//! The runbook's pages on keys, walked with the binary: a key that is stolen, a key file that is lost.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::client::{Client, Outcome};
use crate::stage::Stage;

fn dayfly(stage: &Stage, line: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .args(line.split(' '))
        .args(more)
        .current_dir(stage.folder())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn keys(stage: &Stage) -> Vec<Value> {
    serde_json::from_str(&said(&dayfly(stage, "keys list --json", &[]))).unwrap()
}

fn kid_of(keys: &[Value], r#use: &str, state: &str) -> String {
    let found = keys
        .iter()
        .find(|key| key["use"] == r#use && key["state"] == state);
    found.unwrap_or_else(|| panic!("{keys:?}"))["kid"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// What the server says when it does not start.
fn refused(stage: &Stage) -> String {
    let output = dayfly(stage, "serve --config dayfly.toml", &[]);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

async fn client(stage: &Stage, run: u64) -> Client {
    match Client::grant(&stage.shared(), run).await {
        Outcome::Answered(client) => client,
        Outcome::Lost => panic!("no answer"),
    }
}

async fn published(stage: &Stage) -> String {
    let shared = stage.shared();
    let jwks = format!("{}/jwks", shared.issuer);
    shared
        .http
        .get(jwks)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_key_stolen_is_walked() {
    let mut stage = Stage::new();
    stage.start().await;
    let shared = stage.shared();
    let job = client(&stage, 1).await;
    assert!(job.introspect(&shared).await);

    let stolen = kid_of(&keys(&stage), "token", "signing");
    let no_reason = dayfly(&stage, &format!("keys compromise {stolen}"), &[]);
    assert_eq!(
        no_reason.status.code(),
        Some(2),
        "a change demands a reason"
    );
    let line = format!("keys compromise {stolen} --reason");
    let told = said(&dayfly(&stage, &line, &["found in a paste"]));
    assert!(told.contains("last possible acceptance "), "{told}");
    assert!(told.contains(" signs (token, ES256)"), "{told}");
    assert!(!published(&stage).await.contains(&stolen));
    assert!(!job.introspect(&shared).await);
    let listed = keys(&stage);
    assert_eq!(kid_of(&listed, "token", "compromised"), stolen);
    let next = kid_of(&listed, "token", "signing");
    assert!(published(&stage).await.contains(&next));
    assert!(client(&stage, 2).await.introspect(&shared).await);
    let table = said(&dayfly(&stage, "keys list", &[]));
    assert!(table.contains("compromised since"), "{table}");

    let unknown = dayfly(&stage, "keys compromise nothing --reason x", &[]);
    let why = String::from_utf8(unknown.stderr).unwrap();
    assert!(why.contains("there is no key `nothing`"), "{why}");
    stage.stop();
    stage.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_by_hand_publishes_and_says_when_it_signs() {
    let mut stage = Stage::new();
    stage.start().await;
    let line = "keys rotate --reason quarterly --json";
    let rotated: Value = serde_json::from_str(&said(&dayfly(&stage, line, &[]))).unwrap();
    let kid = rotated["published"][0]["kid"].as_str().unwrap();
    assert_eq!(kid_of(&keys(&stage), "token", "published"), kid);
    assert!(published(&stage).await.contains(kid));
    let again = dayfly(&stage, "keys rotate --reason again", &[]);
    let why = String::from_utf8(again.stderr).unwrap();
    assert!(why.contains("is published already and signs from"), "{why}");
    let none = dayfly(&stage, "keys rotate --use event --reason x", &[]);
    assert!(!none.status.success());
    let ledger = said(&dayfly(&stage, "keys rotate --use ledger --reason x", &[]));
    assert!(
        ledger.contains("its verifier key is 127.0.0.1:"),
        "{ledger}"
    );
    stage.stop();
    let offline = dayfly(&stage, "keys rotate --reason x", &[]);
    let why = String::from_utf8(offline.stderr).unwrap();
    assert!(why.contains("needs a running server"), "{why}");
    stage.start().await;
    assert_eq!(kid_of(&keys(&stage), "token", "published"), kid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_key_lost_is_walked() {
    let mut stage = Stage::new();
    stage.start().await;
    let shared = stage.shared();
    let job = client(&stage, 1).await;
    let head = said(&dayfly(&stage, "ledger head --json", &[]));
    let old: Value = serde_json::from_str(&head).unwrap();
    let folder = stage.folder().to_owned();
    std::fs::write(folder.join("head.json"), &head).unwrap();
    stage.stop();

    // It is away: the server says so and makes none in its place.
    let (file, away) = (folder.join("dayfly.key"), folder.join("away.key"));
    std::fs::rename(&file, &away).unwrap();
    let why = refused(&stage);
    assert!(why.contains("dayfly.key is missing"), "{why}");
    assert!(why.contains("docs/runbook.md#key-lost"), "{why}");
    assert!(!Path::new(&file).exists());
    // It is another one.
    let other = "A".repeat(43) + "\n";
    write_restricted(&file, &other);
    // A tenant that comes before it and is new gets no keys under the wrong file either.
    let aaa = folder.join("tenants/aaa");
    std::fs::create_dir(&aaa).unwrap();
    std::fs::write(aaa.join("tenant.toml"), "").unwrap();
    let why = refused(&stage);
    assert!(
        why.contains("is another one than that was wrapped under"),
        "{why}"
    );
    assert!(why.contains("docs/runbook.md#key-lost"), "{why}");
    // It is found: all goes on.
    std::fs::rename(&away, &file).unwrap();
    stage.start().await;
    assert!(job.introspect(&shared).await);
    stage.stop();
    std::fs::remove_dir_all(&aaa).unwrap();

    // There is no copy: every key is given up, and the next start makes others.
    std::fs::remove_file(&file).unwrap();
    let line = "keys compromise --all --reason";
    let told = said(&dayfly(&stage, line, &["the key file is lost"]));
    assert!(
        told.contains("`dayfly serve` makes the keys that sign next"),
        "{told}"
    );
    stage.start().await;
    assert!(file.exists());
    assert!(!job.introspect(&shared).await);
    assert!(client(&stage, 2).await.introspect(&shared).await);
    // The ledger is the same, under another key; what the old one signed is found in it.
    let head = said(&dayfly(&stage, "ledger head --json", &[]));
    let new: Value = serde_json::from_str(&head).unwrap();
    assert_ne!(new["verifier_key"], old["verifier_key"]);
    said(&dayfly(&stage, "ledger verify head.json", &[]));
    let key = |head: &Value| head["verifier_key"].as_str().unwrap().to_owned();
    let (old, new) = (key(&old), key(&new));
    said(&dayfly(
        &stage,
        "ledger verify head.json",
        &["--key", &old, "--key", &new],
    ));
    let alone = dayfly(&stage, "ledger verify head.json", &["--key", &old]);
    assert!(
        !alone.status.success(),
        "the present head is of another key"
    );
    stage.stop();
    stage.fsck();
}

fn write_restricted(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
