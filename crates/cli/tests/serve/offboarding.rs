//! The runbook's page "Offboarding", walked with the real binary, and what a kill in the middle leaves.

use serde_json::Value;

use crate::client::{Client, Outcome, grant_form, new_key, platform_token_of, post_token};
use crate::stage::{Shared, Stage};

const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");

async fn granted(shared: &Shared, run: u64) -> Client {
    match Client::grant(shared, run).await {
        Outcome::Answered(client) => client,
        Outcome::Lost => panic!("no answer"),
    }
}

/// The rule that refuses a fresh run.
async fn refused(shared: &Shared, run: u64) -> String {
    let proof = platform_token_of(shared, run, "1296269");
    let (_, body) = post_token(shared, &new_key(), &grant_form(&proof))
        .await
        .unwrap();
    body["refused"]["rule"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Runs a command as the page has it; it must stand there.
fn run(stage: &Stage, command: &str) -> String {
    assert!(
        RUNBOOK.contains(&format!("\n    dayfly {command}\n")),
        "the runbook does not say `dayfly {command}`"
    );
    let command = command
        .replace("OWNER", "team-platform")
        .replace("HEIR", "team-heirs")
        .replace("WORKLOAD", "release");
    let (ok, said) = operate(stage, &words(&command));
    assert!(ok, "{command}: {said}");
    said
}

fn operate(stage: &Stage, arguments: &[&str]) -> (bool, String) {
    let mut all = arguments.to_vec();
    all.extend(["--config", "dayfly.toml"]);
    stage.operate(&all)
}

/// The words of a command, of which one may stand in quotes.
fn words(command: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for (at, part) in command.split('"').enumerate() {
        if at % 2 == 1 {
            words.push(part);
        } else {
            words.extend(part.split_whitespace());
        }
    }
    words
}

/// Waits until every task of the owner has a recorded end, and gives the causes.
fn causes(stage: &Stage, count: usize) -> Vec<String> {
    loop {
        let (ok, said) = operate(
            stage,
            &[
                "task",
                "list",
                "--owner",
                "team-platform",
                "--all",
                "--json",
            ],
        );
        assert!(ok, "{said}");
        let listed: Value = serde_json::from_str(&said).unwrap();
        let ended: Vec<String> = listed["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|task| task["state"] == "ended")
            .map(|task| task["cause"].as_str().unwrap().to_owned())
            .collect();
        if ended.len() == count {
            return ended;
        }
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_on_offboarding_is_walked() {
    let mut stage = Stage::new();
    let shared = stage.shared();
    stage.start().await;
    let clients = [granted(&shared, 1).await, granted(&shared, 2).await];
    assert!(run(&stage, "owner list").contains("team-platform  active"));
    let dry = run(&stage, "owner offboard OWNER --dry-run");
    assert!(dry.contains("2 open tasks would end"), "{dry}");
    assert!(clients[0].introspect(&shared).await);
    run(&stage, "owner offboard OWNER --reason \"left the company\"");
    // Nothing is waited for: the answer is the moment from which nothing is accepted.
    for client in &clients {
        assert!(!client.introspect(&shared).await);
    }
    assert_eq!(refused(&shared, 3).await, "blocked");
    assert_eq!(causes(&stage, 2), ["owner_offboarded", "owner_offboarded"]);
    let trace = run(&stage, "trace OWNER");
    assert!(trace.starts_with("GONE"), "{trace}");
    let blocks = run(&stage, "block list");
    assert!(blocks.contains("owner:team-platform"), "{blocks}");
    // Neither a restart nor an apply lifts it.
    stage.kill();
    let (ok, offline) = operate(&stage, &["owner", "list", "--json"]);
    assert!(ok && offline.contains("\"offboarded\":"), "{offline}");
    stage.start().await;
    let (ok, said) = operate(&stage, &["apply", "--reason", "no change"]);
    assert!(ok, "{said}");
    assert_eq!(refused(&shared, 4).await, "blocked");
    run(
        &stage,
        "owner restore OWNER --reason \"another team took over\"",
    );
    handed_over(&stage, &shared).await;
    let fresh = granted(&shared, 5).await;
    assert!(fresh.introspect(&shared).await && !clients[0].introspect(&shared).await);
    // One workload alone, and everything.
    run(
        &stage,
        "workload disable WORKLOAD --reason \"the pipeline was taken over\"",
    );
    assert!(!fresh.introspect(&shared).await);
    assert!(run(&stage, "workload list").contains("stopped by workload:release"));
    run(&stage, "workload enable WORKLOAD --reason \"mended\"");
    // What ends without a block, and an issuer with one.
    let ended = granted(&shared, 16).await;
    let said = run(
        &stage,
        "workload end WORKLOAD --reason \"a secret was in the log\"",
    );
    assert!(said.contains(" over; new tasks may start"), "{said}");
    assert!(!ended.introspect(&shared).await);
    let last = granted(&shared, 17).await;
    run(
        &stage,
        "issuer end github --block --reason \"the platform was taken over\"",
    );
    assert!(!last.introspect(&shared).await);
    assert_eq!(refused(&shared, 18).await, "blocked");
    run(&stage, "unblock issuer:github --reason \"mended\"");
    by_hand(&stage, &shared).await;
    let last = granted(&shared, 6).await;
    run(&stage, "freeze --reason \"breach\"");
    assert!(!last.introspect(&shared).await);
    // What another command lifts is said to be.
    let (ok, said) = operate(&stage, &["unblock", "tenant", "--reason", "over"]);
    assert!(
        !ok && said.contains("lifted by `dayfly unfreeze`"),
        "{said}"
    );
    assert_eq!(refused(&shared, 7).await, "blocked");
    run(&stage, "unfreeze --reason \"looked at\"");
    granted(&shared, 8).await;
    stage.stop();
    stage.fsck();
}

/// The workloads go to another owner in the same write, and come back.
async fn handed_over(stage: &Stage, shared: &Shared) {
    let before = granted(shared, 30).await;
    let (ok, said) = operate(stage, &["reach", "artifacts"]);
    let wanted = "1 workload may reach it; 1 open task with 1 client can now, 1 live credential";
    assert!(ok && said.contains(wanted), "{said}");
    run(
        stage,
        "owner offboard OWNER --to HEIR --reason \"left the company\"",
    );
    assert!(!before.introspect(shared).await);
    let after = granted(shared, 31).await;
    assert!(after.introspect(shared).await);
    let (_, shown) = operate(stage, &["task", "show", &after.task, "--json"]);
    assert!(shown.contains("\"owner\":\"team-heirs\""), "{shown}");
    let owners = run(stage, "owner list");
    assert!(owners.contains("handed over to team-heirs"), "{owners}");
    let workloads = run(stage, "workload list");
    assert!(
        workloads.contains("team-heirs, handed over by team-platform"),
        "{workloads}"
    );
    run(
        stage,
        "owner restore OWNER --reason \"another team took over\"",
    );
    let (ok, said) = operate(stage, &["client", "end", &after.id, "--reason", "done"]);
    assert!(ok, "{said}");
}

/// One client, one instance, and an instance that has not started.
async fn by_hand(stage: &Stage, shared: &Shared) {
    let client = granted(shared, 20).await;
    let id = client.id.clone();
    let (ok, said) = operate(stage, &["client", "end", &id, "--dry-run"]);
    assert!(
        ok && said.contains("1 client and 1 live credential"),
        "{said}"
    );
    let (ok, said) = operate(stage, &["client", "end", &id, "--reason", "leaked"]);
    assert!(
        ok && said.contains("(operator: leaked), and its task with it"),
        "{said}"
    );
    assert!(!client.introspect(shared).await);
    let client = granted(shared, 21).await;
    let (_, shown) = operate(stage, &["task", "show", &client.task, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let instance = shown["clients"][0]["instance"].as_str().unwrap().to_owned();
    let end = ["instance", "end", &instance, "--block", "--reason", "odd"];
    let (ok, said) = operate(stage, &end);
    assert!(ok && said.contains("1 client in 1 task over"), "{said}");
    assert!(!client.introspect(shared).await);
    let on = format!("instance:github:{instance}");
    let (ok, listed) = operate(stage, &["block", "list"]);
    assert!(ok && listed.contains(&on), "{listed}");
    let (ok, said) = operate(stage, &["unblock", &on, "--reason", "mended"]);
    assert!(ok, "{said}");
    let (ok, said) = operate(stage, &["block", "set", &on, "--reason", "odd again"]);
    assert!(ok && said.contains("blocked"), "{said}");
    let (ok, said) = operate(stage, &["unblock", &on, "--reason", "mended"]);
    assert!(ok, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_right_after_an_offboarding_leaves_nothing_that_is_accepted() {
    let mut stage = Stage::new();
    let shared = stage.shared();
    stage.start().await;
    let mut clients = Vec::new();
    for run in 0..40 {
        clients.push(granted(&shared, run).await);
    }
    let (ok, said) = operate(
        &stage,
        &["owner", "offboard", "team-platform", "--reason", "left"],
    );
    assert!(ok, "{said}");
    stage.kill();
    stage.start().await;
    for client in &clients {
        assert!(!client.introspect(&shared).await);
    }
    let ends = causes(&stage, clients.len());
    assert!(
        ends.iter().all(|cause| cause == "owner_offboarded"),
        "{ends:?}"
    );
    stage.stop();
    stage.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apply_ends_what_was_agreed_to_and_is_undone() {
    let mut stage = Stage::new();
    let shared = stage.shared();
    stage.start().await;
    let client = granted(&shared, 1).await;
    let narrower = crate::stage::TENANT.replace("1296269", "5");
    std::fs::write(stage.folder().join("tenants/acme/tenant.toml"), narrower).unwrap();
    let (ok, said) = operate(&stage, &["apply", "--dry-run"]);
    assert!(
        ok && said.contains("1 open task would end: agree with --ends 1"),
        "{said}"
    );
    for wrong in [
        &["apply", "--reason", "x"][..],
        &["apply", "--reason", "x", "--ends", "2"],
    ] {
        let (ok, said) = operate(&stage, wrong);
        assert!(!ok && said.contains("1 open task would end"), "{said}");
    }
    assert!(client.introspect(&shared).await);
    let (ok, said) = operate(&stage, &["apply", "--reason", "moved", "--ends", "1"]);
    assert!(
        ok && said.contains("1 open task ended\napplied as revision 2"),
        "{said}"
    );
    assert!(!client.introspect(&shared).await);
    assert_eq!(refused(&shared, 2).await, "no_workload");
    let (ok, said) = operate(&stage, &["apply", "--undo", "--reason", "a mistake"]);
    assert!(ok && said.contains("applied as revision 3"), "{said}");
    granted(&shared, 3).await;
}
