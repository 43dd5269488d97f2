//! Findings and reviews with the real binary: told to a sink, kept over a kill, listed with and
//! without a server, signed off.

use serde_json::Value;

use crate::client::{Client, Outcome};
use crate::sinks::{Sink, checked, stage};
use crate::stage::Stage;

fn operate(stage: &Stage, line: &str) -> (bool, String) {
    let mut words: Vec<&str> = line.split(' ').collect();
    words.extend(["--config", "dayfly.toml"]);
    stage.operate(&words)
}

fn listed(stage: &Stage, line: &str) -> Value {
    let (ok, said) = operate(stage, line);
    assert!(ok, "{line}: {said}");
    serde_json::from_str(&said).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_are_told_kept_listed_and_signed_off() {
    let sink = Sink::open().await;
    let mut stage = stage(&sink.notify("on = [\"finding.opened\", \"finding.closed\"]"));
    let shared = stage.shared();
    stage.start().await;
    let Outcome::Answered(client) = Client::grant(&shared, 1).await else {
        panic!("a grant got lost");
    };
    assert_eq!(
        client.replay_with_another_key(&shared).await,
        "retry_other_key"
    );
    let told = |all: &[crate::sinks::Request]| {
        let mut bodies = all.iter().map(checked);
        bodies.find(|body| body["data"]["finding"] == "proof_by_two_keys")
    };
    let told = sink.until(told).await;
    assert_eq!(told["kind"], "finding.opened");
    assert_eq!(told["data"]["workload"], "release");
    assert_eq!(told["data"]["owner"], "team-platform");

    let open = listed(&stage, "findings --json");
    let kinds: Vec<&str> = open["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|view| view["finding"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["static_secret", "proof_by_two_keys"], "{open}");
    let why = open["findings"][1]["do"].as_str().unwrap();
    let refusal = told["data"]["refusal"].as_str().unwrap();
    assert!(why.contains(refusal), "{why}");
    stage.kill();
    assert_eq!(listed(&stage, "findings --json"), open, "without a server");
    stage.start().await;
    assert_eq!(listed(&stage, "findings --json"), open, "after a kill");
    let (ok, text) = operate(&stage, "findings --all");
    assert!(ok, "{text}");
    assert!(
        text.contains("proof_by_two_keys workload:release, owner team-platform, since "),
        "{text}"
    );

    let (ok, text) = operate(&stage, "review --owner team-platform");
    assert!(ok, "{text}");
    for wanted in [
        "never signed off",
        "1 runs",
        "identifier: octo-repo/*): granted in 1, uses not reported\n",
        "finding proof_by_two_keys",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let (ok, text) = operate(&stage, "review --owner nobody");
    assert!(!ok && text.contains("no owner"), "{text}");
    let (ok, text) = operate(&stage, "review --owner team-platform --sign-off");
    assert!(!ok, "{text}");
    let shown = listed(&stage, "review --owner team-platform --json");
    let revision = shown["revision"].as_u64().unwrap();
    let sign = |revision: u64| {
        format!("review --owner team-platform --sign-off --revision {revision} --reason due --json")
    };
    let (ok, text) = operate(&stage, &sign(revision + 1));
    assert!(
        !ok && text.contains("review it again"),
        "what was not shown is not signed: {text}"
    );
    let signed = listed(&stage, &sign(revision));
    assert_eq!(signed["revision"], revision);
    assert_eq!(signed["member"], false);
    stage.kill();
    let (ok, text) = operate(&stage, "review --owner team-platform --since 1d");
    assert!(ok && text.contains("as it is now"), "{text}");
    stage.fsck();
}
