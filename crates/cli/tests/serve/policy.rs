//! The runbook's pages "Wrong policy at 3 am" and "Leaked token", walked with the real binary.

use std::fs;

use serde_json::Value;

use crate::client::post_token;
use crate::client::{Client, Outcome, grant_form, new_key, platform_claims, platform_token_of};
use crate::stage::{Shared, Stage};

const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");

/// The commands of a page, in order: the lines of its blocks.
fn commands(page: &str) -> Vec<&'static str> {
    let from = RUNBOOK.split(&format!("\n## {page}\n")).nth(1).unwrap();
    let text = from.split("\n## ").next().unwrap();
    text.split("```")
        .skip(1)
        .step_by(2)
        .flat_map(|block| block.trim_start_matches("sh").trim().lines())
        .collect()
}

/// Runs a line of the runbook as a shell does, with its capital words filled in.
fn run(stage: &Stage, line: &str, words: &[(&str, &str)]) -> String {
    let mut line = line.to_owned();
    for (word, value) in words {
        line = line.replace(word, value);
    }
    let (ok, said) = stage.shell(&line);
    assert!(ok, "{line}: {said}");
    said
}

async fn granted(shared: &Shared, run: u64) -> Client {
    match Client::grant(shared, run).await {
        Outcome::Answered(client) => client,
        Outcome::Lost => panic!("no answer"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_wrong_policy_is_walked() {
    let mut stage = Stage::new();
    let shared = stage.shared();
    stage.start().await;
    let held = granted(&shared, 1).await;
    // At 3 am: whatever comes from here on is denied.
    let wrong = "forbid (principal, action, resource) when { context.open_tasks >= 1 };";
    let file = stage.folder().join("tenants/acme/policies/wrong.cedar");
    fs::write(&file, wrong).unwrap();
    let (ok, said) = stage.operate(&["apply", "--reason", "stricter"]);
    assert!(ok, "{said}");
    let proof = platform_token_of(&shared, 2, "1296269");
    let denied = post_token(&shared, &new_key(), &grant_form(&proof)).await;
    let (status, body) = denied.unwrap();
    assert_eq!(
        (status, &body["error"]),
        (400, &Value::from("access_denied"))
    );
    let refusal = body["refusal"].as_str().unwrap();
    let claims = platform_claims(&shared, 2, "1296269").to_string();
    fs::write(stage.folder().join("claims.json"), claims).unwrap();

    let page = commands("Wrong policy at 3 am");
    let [why, dry_run, undo, explain] = page[..] else {
        panic!("another number of commands: {page:?}")
    };
    let why = run(&stage, why, &[("REFUSAL", refusal)]);
    assert!(why.contains("wrong.cedar:1"), "{why}");
    let said = run(&stage, dry_run, &[]);
    assert!(said.contains("wrong.cedar"), "{said}");
    run(&stage, undo, &[]);
    let words = [("WORKLOAD", "release"), ("RESOURCE", "artifacts")];
    let explained = run(&stage, explain, &words);
    assert!(explained.contains("allow"), "{explained}");
    // The same proof: a refusal spends none.
    let allowed = post_token(&shared, &new_key(), &grant_form(&proof)).await;
    assert_eq!(allowed.unwrap().0, 200);
    assert!(held.introspect(&shared).await);
    stage.stop();
    stage.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_leaked_token_is_walked() {
    let mut stage = Stage::new();
    let shared = stage.shared();
    stage.start().await;
    let leaked = granted(&shared, 1).await;
    fs::write(stage.folder().join("token.txt"), &leaked.token).unwrap();
    let page = commands("Leaked token");
    let [whose, end, trace, receipt, verify, list, unblock] = page[..] else {
        panic!("another number of commands: {page:?}")
    };
    let said = run(&stage, whose, &[]);
    assert!(
        said.contains(&leaked.task) && said.contains("team-platform"),
        "{said}"
    );
    assert!(!said.starts_with("GONE"), "{said}");
    let task = [("TASK", leaked.task.as_str())];
    let said = run(&stage, end, &task);
    assert!(said.contains("last possible acceptance"), "{said}");
    assert!(!leaked.introspect(&shared).await);
    assert!(run(&stage, whose, &[]).starts_with("GONE"));
    let said = run(&stage, trace, &task);
    assert!(said.contains("token in a public log"), "{said}");
    run(&stage, receipt, &task);
    let head: Value = serde_json::from_str(&run(&stage, "dayfly ledger head --json", &[])).unwrap();
    let key = format!("'{}'", head["verifier_key"].as_str().unwrap());
    run(&stage, verify, &[("VERIFIER_KEY", &key)]);
    let blocks = run(&stage, list, &[]);
    let block = blocks
        .split_whitespace()
        .find(|word| word.starts_with("series:"))
        .unwrap_or_else(|| panic!("{blocks}"));
    let again = platform_token_of(&shared, 1, "1296269");
    let refused = post_token(&shared, &new_key(), &grant_form(&again)).await;
    assert_eq!(refused.unwrap().0, 400);
    run(&stage, unblock, &[("BLOCK", &format!("'{block}'"))]);
    granted(&shared, 2).await;
    stage.stop();
    stage.fsck();
}
