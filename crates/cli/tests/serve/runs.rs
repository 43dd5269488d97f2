//! What the README says of jobs that share a task, and of what fell silent, done with the binary.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::client::{
    Client, Outcome, grant_form, new_key, platform_claims, post_token, signed, unique,
};
use crate::stage::{Shared, Stage, TENANT};

const README: &str = include_str!("../../../../README.md");
const TEMPLATE: &str = include_str!("../../src/init/templates/tenant.toml");

/// The workloads of the section, in the time that a test has.
fn declared() -> String {
    let (_, section) = README.split_once("\n## Jobs that share a task\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let blocks = section.split("```toml\n").skip(1);
    let blocks: Vec<&str> = blocks
        .map(|block| block.split_once("```").unwrap().0)
        .collect();
    assert_eq!(blocks.len(), 2);
    let mut workloads = blocks.concat();
    for (said, shorter) in [
        ("linger  = \"2m\"", "linger  = \"3s\""),
        (
            "every = \"30s\", grace = \"5m\"",
            "every = \"1s\", grace = \"2s\"",
        ),
    ] {
        assert_eq!(workloads.matches(said).count(), 1, "{said}");
        workloads = workloads.replace(said, shorter);
    }
    let (tenant, _) = TENANT.split_once("[workload.release]").unwrap();
    format!(
        r#"{tenant}
[issuer.cluster]
kind = "kubernetes"
url  = "https://cluster.example"
jwks = {{ file = "jwks.json" }}

{workloads}"#
    )
}

/// The proof of a job of an attempt of a run.
fn job_of(shared: &Shared, run: u64, attempt: u64, job: u64) -> String {
    let mut claims = platform_claims(shared, run, "1296269");
    claims["run_attempt"] = attempt.to_string().into();
    claims["check_run_id"] = job.to_string().into();
    signed(shared, &claims)
}

async fn comes_in(shared: &Shared, proof: String) -> Client {
    match Client::grant_by(shared, proof).await {
        Outcome::Answered(client) => client,
        Outcome::Lost => panic!("a grant got lost"),
    }
}

/// The rule that refuses this proof, and what its `why` says.
async fn refused(stage: &Stage, shared: &Shared, proof: &str) -> (String, String) {
    let answer = post_token(shared, &new_key(), &grant_form(proof)).await;
    let (_, body) = answer.unwrap();
    let rule = body["refused"]["rule"].as_str();
    let rule = rule.unwrap_or_else(|| panic!("not refused: {body}"));
    let refusal = body["refusal"].as_str().unwrap();
    let (_, why) = stage.operate(&["why", refusal, "--config", "dayfly.toml"]);
    (rule.to_owned(), why)
}

async fn ends(shared: &Shared, client: &Client) {
    let Outcome::Answered(()) = client.end(shared).await else {
        panic!("an end got lost");
    };
}

fn shown(stage: &Stage, task: &str) -> Value {
    let (done, said) = stage.operate(&["task", "show", task, "--json", "--config", "dayfly.toml"]);
    assert!(done, "{said}");
    serde_json::from_str(&said).unwrap()
}

/// Waits until the record says that a task is over, and why.
async fn over(stage: &Stage, task: &str) -> String {
    loop {
        let said = shown(stage, task);
        if said["state"] == "ended" {
            return said["cause"].as_str().unwrap().to_owned();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_section_on_jobs_that_share_a_task_is_walked() {
    let mut stage = Stage::with("", &declared());
    let (done, said) = stage.operate(&["config", "check"]);
    assert!(done, "{said}");
    stage.start().await;
    let shared = stage.shared();
    hands_off(&stage, &shared).await;
    runs_again(&stage, &shared).await;
    comes_back(&stage, &shared).await;
    stage.kill();
    stage.fsck();
}

/// Two jobs share a task; the third comes while nobody is in it, and a fourth too late.
async fn hands_off(stage: &Stage, shared: &Arc<Shared>) {
    let build = comes_in(shared, job_of(shared, 7, 1, 70)).await;
    let test = comes_in(shared, job_of(shared, 7, 1, 71)).await;
    assert_eq!(build.task, test.task);
    assert_ne!(build.id, test.id);
    let until = shown(stage, &build.task)["deadline"].clone();
    assert!(until.is_u64(), "{until}");
    // One goes alone, and so does the other: the task waits, and nobody holds anything.
    ends(shared, &build).await;
    assert!(!build.introspect(shared).await && test.introspect(shared).await);
    ends(shared, &test).await;
    assert!(!test.introspect(shared).await);
    let deliver = comes_in(shared, job_of(shared, 7, 1, 72)).await;
    assert_eq!(deliver.task, build.task);
    let after = shown(stage, &deliver.task);
    assert_eq!(
        (&after["state"], &after["deadline"]),
        (&json!("open"), &until)
    );
    ends(shared, &deliver).await;
    assert_eq!(over(stage, &deliver.task).await, "completed");
    let (rule, why) = refused(stage, shared, &job_of(shared, 7, 1, 73)).await;
    assert_eq!(rule, "already_ended");
    assert!(why.contains("a run has one task"), "{why}");
    assert!(README.contains("(`already_ended`, \"a run has one task\")"));
}

/// A newer attempt ends what the older one left open, and that one does not come back.
async fn runs_again(stage: &Stage, shared: &Arc<Shared>) {
    let former = comes_in(shared, job_of(shared, 8, 1, 80)).await;
    let again = comes_in(shared, job_of(shared, 8, 2, 81)).await;
    assert_ne!(former.task, again.task);
    assert!(!former.introspect(shared).await && again.introspect(shared).await);
    assert_eq!(over(stage, &former.task).await, "superseded");
    let (rule, why) = refused(stage, shared, &job_of(shared, 8, 1, 82)).await;
    assert_eq!(rule, "older_attempt", "{why}");
    let beside = comes_in(shared, job_of(shared, 8, 2, 83)).await;
    assert_eq!(beside.task, again.task);
}

/// A pod that was not heard of comes back, and gains no time by it.
async fn comes_back(stage: &Stage, shared: &Arc<Shared>) {
    let mut claims = platform_claims(shared, 9, "1");
    let exp = claims["iat"].as_u64().unwrap() + 3600;
    claims["iss"] = "https://cluster.example".into();
    claims["sub"] = "system:serviceaccount:payments:settler".into();
    claims["exp"] = exp.into();
    claims["jti"] = unique().into();
    claims["kubernetes.io"] = json!({
        "namespace": "payments", "pod": { "name": "settler-7d9", "uid": "5e0bd49b" },
        "serviceaccount": { "name": "settler", "uid": "14ee3fa4" },
    });
    let first = comes_in(shared, signed(shared, &claims)).await;
    let until = shown(stage, &first.task)["deadline"].clone();
    assert_eq!(over(stage, &first.task).await, "heartbeat");
    assert!(!first.introspect(shared).await);
    let second = comes_in(shared, signed(shared, &claims)).await;
    assert_ne!(second.task, first.task);
    assert!(second.introspect(shared).await);
    assert_eq!(shown(stage, &second.task)["deadline"], until);
}

/// What stands there for whoever begins reads as it is written.
#[test]
fn the_template_shows_how_jobs_share_a_task() {
    for line in [
        "# task   = \"run\"\n",
        "# repeat = \"join\"\n",
        "# linger = \"2m\"\n",
        "# reopen = true\n",
    ] {
        assert!(TEMPLATE.contains(line), "{line}");
    }
    let text = TEMPLATE
        .replace("\ntask = \"job\"\n", "\n")
        .replace("# task   =", "task   =")
        .replace("# repeat =", "repeat =")
        .replace("# linger =", "linger =")
        .replace("# reopen =", "reopen =")
        .replace(
            "@MATCH@",
            "match = { issuer = \"github\", repository_id = \"7\" }",
        )
        .replace("@REPOSITORY@", "octo-org/app");
    let stage = Stage::with("", &text);
    let (done, said) = stage.operate(&["config", "check"]);
    assert!(done, "{said}");
}
