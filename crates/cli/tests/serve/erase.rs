//! Erasing a person with the real binary: no byte of it stays in the data folder, and the ledger holds.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::client::{Client, Outcome, grant_form, new_key, platform_claims, post_token, signed};
use crate::stage::{Shared, Stage};

const PERSON: &str = "maria-from-nowhere";

async fn job_of(shared: &Shared, run: u64, actor: &str) -> Client {
    let mut claims = platform_claims(shared, run, "1296269");
    claims["actor"] = json!(actor);
    claims["sub"] = json!(format!("repo:octo-org/app:actor:{actor}"));
    match Client::grant_by(shared, signed(shared, &claims)).await {
        Outcome::Answered(client) => client,
        Outcome::Lost => panic!("no answer"),
    }
}

/// The files below a folder in which a text stands.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if let Ok(bytes) = fs::read(&path)
            && bytes
                .windows(text.len())
                .any(|some| some == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

fn ok(stage: &Stage, line: &str) -> String {
    let (ok, said) = stage.shell(line);
    assert!(ok, "{line}: {said}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_person_stays_and_the_ledger_holds() {
    let mut stage = Stage::new();
    let shared = stage.shared();
    stage.start().await;
    let data = stage.folder().join("data");
    let ended = job_of(&shared, 1, PERSON).await;
    let open = job_of(&shared, 2, PERSON).await;
    let other = job_of(&shared, 3, "somebody-else").await;
    assert!(matches!(ended.end(&shared).await, Outcome::Answered(())));
    // A refusal that shows a claim of the person's proof.
    let mut claims = platform_claims(&shared, 4, "1296269");
    claims["actor"] = json!(PERSON);
    claims["repository_id"] = json!(PERSON);
    let proof = signed(&shared, &claims);
    let key = new_key();
    let form = grant_form(&proof);
    let (_, refused) = post_token(&shared, &key, &form).await.unwrap();
    let refusal = refused["refusal"].as_str().unwrap().to_owned();
    assert!(!holding(&data, PERSON).is_empty());
    let before = ok(&stage, &format!("dayfly receipt {} --annex", ended.task));
    fs::write(stage.folder().join("before.json"), &before).unwrap();
    let head: Value = serde_json::from_str(&ok(&stage, "dayfly ledger head --json")).unwrap();

    let erase = format!("dayfly ledger erase --claim actor={PERSON}");
    let dry = ok(&stage, &format!("{erase} --dry-run"));
    assert!(dry.contains("would be erased"), "{dry}");
    assert!(dry.contains("1 open task could not renew"), "{dry}");
    assert!(!holding(&data, PERSON).is_empty(), "only counted");
    let (done, said) = stage.shell(&erase);
    assert!(!done && said.contains("--reason"), "{said}");
    let said = ok(&stage, &format!("{erase} --reason 'asked to be forgotten'"));
    assert!(
        said.contains("erased; every leaf and every proof stays"),
        "{said}"
    );
    // The log is moved into the file behind the answer.
    while !holding(&data, PERSON).is_empty() {
        tokio::task::yield_now().await;
    }
    let (_, why) = stage.shell(&format!("dayfly why {refusal}"));
    assert!(!why.contains(PERSON), "{why}");

    // Older and newer receipts hold, and the tree is the one that it was.
    let after = ok(&stage, &format!("dayfly receipt {} --annex", ended.task));
    assert!(!after.contains(PERSON) && before.contains(PERSON));
    fs::write(stage.folder().join("after.json"), &after).unwrap();
    let key = head["verifier_key"].as_str().unwrap();
    for receipt in ["before.json", "after.json"] {
        ok(&stage, &format!("dayfly verify {receipt} --key '{key}'"));
    }
    fs::write(
        stage.folder().join("head.note"),
        head["note"].as_str().unwrap(),
    )
    .unwrap();
    ok(&stage, "dayfly ledger verify head.note");
    let tail = ok(&stage, "dayfly ledger tail");
    assert!(tail.contains("annex.erased"), "{tail}");

    // Whoever is not meant goes on; whose claims are gone cannot be judged, and is not renewed.
    assert_eq!(open.renew(&shared).await, "policy_failed");
    assert!(open.introspect(&shared).await && other.introspect(&shared).await);
    let again = ok(&stage, &format!("{erase} --reason 'once more'"));
    assert!(again.contains("0 annexes"), "{again}");
    stage.stop();
    stage.fsck();
    assert!(holding(&data, PERSON).is_empty());
}
