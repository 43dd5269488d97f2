//! What platforms say, read from bodies as they send them.

use super::*;
use crate::declared::WebhookSecret;
use crate::verify::tests::issuer;
use serde_json::json;

fn read_as(kind: IssuerKind, event: &str, body: &Value) -> Result<Option<Over>, Refusal> {
    let mut declared = issuer(kind, "https://issuer.example");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "a secret of the test").unwrap();
    let secret = crate::config::Secret::read(&path).unwrap();
    declared.webhooks = vec![WebhookSecret::Text(secret)];
    let body = body.to_string();
    let tag = aws_lc_rs::hmac::sign(
        &aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"a secret of the test"),
        body.as_bytes(),
    );
    let hex: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let signature = format!("sha256={hex}");
    let header = |name: &'static str| match name {
        "x-github-event" => Some(event),
        "x-hub-signature-256" => Some(signature.as_str()),
        "x-gitlab-token" => Some("a secret of the test"),
        _ => None,
    };
    let delivery = Delivery {
        header: &header,
        body: body.as_bytes(),
    };
    verify(&declared, delivery, Time::default()).map(|webhook| webhook.over().cloned())
}

#[test]
fn github_names_repository_run_attempt_and_job() {
    let body = json!({
        "action": "completed",
        "workflow_job": {"id": 9, "run_id": 7, "run_attempt": 2, "conclusion": null},
        "repository": {"id": 1, "full_name": "o/r", "owner": {"id": 3, "login": "o"}},
    });
    let over = read_as(IssuerKind::Github, "workflow_job", &body)
        .unwrap()
        .unwrap();
    let claims: Vec<_> = over
        .claims
        .iter()
        .map(|(name, text)| format!("{name}={text}"))
        .collect();
    assert_eq!(
        claims,
        [
            "check_run_id=9",
            "repository=o/r",
            "repository_id=1",
            "repository_owner=o",
            "repository_owner_id=3",
            "run_attempt=2",
            "run_id=7",
        ]
    );
    assert_eq!(over.part().as_deref(), Some("check_run_id=9"));
    assert_eq!(over.said, "workflow_job completed: unknown");
}

#[test]
fn words_of_a_platform_are_repeated_only_where_they_are_words() {
    let body = |conclusion: &str| {
        json!({
            "action": "completed",
            "workflow_run": {"id": 7, "run_attempt": 1, "conclusion": conclusion},
            "repository": {"id": 1},
        })
    };
    let said = |conclusion: &str| {
        let over = read_as(IssuerKind::Github, "workflow_run", &body(conclusion));
        over.unwrap().unwrap().said
    };
    assert_eq!(said("timed_out"), "workflow_run completed: timed_out");
    for odd in ["Cancelled", "a b", "\u{1b}[31m", &"x".repeat(33)] {
        assert_eq!(said(odd), "workflow_run completed: unknown");
    }
}

#[test]
fn an_id_is_a_whole_number_in_one_spelling() {
    for odd in [
        json!(-1),
        json!(1.5),
        json!("01"),
        json!(""),
        json!(null),
        json!([1]),
        json!(1e30),
    ] {
        let body = json!({"object_kind": "build", "build_status": "failed", "build_id": odd, "pipeline_id": 1});
        let refusal = read_as(IssuerKind::Gitlab, "", &body).unwrap_err();
        assert_eq!(
            (refusal.rule, &*refusal.field),
            (Rule::Invalid, "build_id"),
            "{odd}"
        );
    }
}

#[test]
fn a_pipeline_of_more_jobs_than_are_taken_is_over_without_them() {
    let over = |jobs: u64| {
        let builds: Vec<Value> = (1..=jobs)
            .map(|id| json!({ "id": id, "status": "success" }))
            .collect();
        let body = json!({
            "object_kind": "pipeline", "object_attributes": { "id": 5, "status": "success" },
            "project": { "id": 20 }, "builds": builds,
        });
        read_as(IssuerKind::Gitlab, "", &body).unwrap().unwrap()
    };
    assert_eq!(over(8192).jobs.len(), 8192);
    let many = over(8193);
    assert_eq!(many.jobs, []);
    assert_eq!(many.claims["pipeline_id"], "5");
}
