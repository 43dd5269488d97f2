//! What platforms sign that is not what it looks like: forks, re-runs, renamed repositories, other customers, a shell in a job.

use serde_json::{Value, json};

use super::job::{claims, dpop, new_key, signed, with};
use super::world::{ARTIFACTS, ISSUER, Reply, TENANT, World, unique};

/// Workloads of four platforms, and two of GitHub that go by `sub`.
fn declared() -> String {
    let workload = |name: &str, task: &str, matching: &str| {
        format!(
            r#"
[workload.{name}]
owner   = "team"
kind    = "ci"
purpose = "is proven by a platform"
match   = {{ {matching} }}
{task}
access  = [ {{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }} ]
"#
        )
    };
    let of = |claims: &str| format!("task = {{ key = [{claims}] }}");
    [
        TENANT,
        r#"
[issuer.gitlab]
kind = "gitlab"
url  = "https://gitlab.example"
jwks = { file = "jwks.json" }

[issuer.buildkite]
kind = "oidc"
url  = "https://agent.buildkite.com"
jwks = { file = "jwks.json" }

[issuer.circleci]
kind = "oidc"
url  = "https://oidc.circleci.com/org/8a63b4c4"
jwks = { file = "jwks.json" }
"#,
        &workload(
            "by-old-name",
            "",
            r#"issuer = "github", sub = "repo:octo-org/octo-repo:ref:refs/heads/*", workflow = "old""#,
        ),
        &workload(
            "by-both",
            "",
            r#"issuer = "github", sub = "repo:octo-org/tool:ref:refs/heads/*", repository_id = "31""#,
        ),
        &workload(
            "to-production",
            "",
            r#"issuer = "github", sub = "repo:octo-org@583231/octo-repo@32:environment:eu%3Aprod""#,
        ),
        &workload("merge", "", r#"issuer = "gitlab", project_id = "10""#),
        &workload("ran-here", "", r#"issuer = "gitlab", job_project_id = "11""#),
        &workload(
            "pipeline",
            &of("\"organization_id\", \"job_id\""),
            r#"issuer = "buildkite", organization_id = "0189-octo", pipeline_slug = "release""#,
        ),
        &workload(
            "circle",
            &of("\"oidc.circleci.com/pipeline-id\""),
            r#"issuer = "circleci", "oidc.circleci.com/project-id" = "7f12", "oidc.circleci.com/ssh-rerun" = "false""#,
        ),
    ]
    .concat()
}

async fn world() -> World {
    World::declared(&declared()).await
}

/// Shows a token with a fresh key.
async fn shows(world: &World, claims: &Value) -> Reply {
    let resource = [("resource", ARTIFACTS)];
    world
        .ask(&signed(claims), Some(&new_key()), &resource)
        .await
}

/// Shows it for a workload by its name.
async fn shows_for(world: &World, workload: &str, claims: &Value) -> Reply {
    let more = [("resource", ARTIFACTS), ("client_id", workload)];
    world.ask(&signed(claims), Some(&new_key()), &more).await
}

/// The rule that refuses, and the claim that it names.
fn why(reply: &Reply) -> (&str, &str) {
    let field = reply.body["refused"]["field"].as_str();
    (reply.rule(), field.unwrap_or_default())
}

#[tokio::test]
async fn a_pull_request_of_a_fork_is_no_push() {
    let world = world().await;
    // As GitHub signs it: everything names the repository that is asked to pull, but the event.
    for event in [
        "pull_request",
        "pull_request_target",
        "issue_comment",
        "workflow_run",
    ] {
        let fork = json!({
            "event_name": event, "ref": "refs/pull/7/merge", "head_ref": "main", "base_ref": "main",
            "sub": "repo:octo-org/octo-repo:pull_request",
        });
        let reply = shows_for(&world, "release", &with(claims(&world, 1, 1), fork)).await;
        assert_eq!(
            why(&reply),
            ("claim_mismatch", "event_name"),
            "{}",
            reply.text
        );
    }
    assert_eq!(shows(&world, &claims(&world, 1, 2)).await.status, 200);
}

#[tokio::test]
async fn a_rerun_after_the_first_attempt_was_revoked_is_a_task_of_its_own() {
    let world = world().await;
    let first = world.job(5).await;
    let header = dpop(&world, &first.key, "POST", "/revoke");
    let form = [("token", first.token.as_str())];
    let revoked = world.form("/revoke", &form, &[("dpop", &header)]).await;
    assert_eq!(revoked.status, 200);
    assert!(!world.is_open(&first.task));
    // The revoked attempt does not come back, by whichever token and key.
    let same = shows(&world, &claims(&world, 1, 5)).await;
    assert_eq!(same.rule(), "already_ended", "{}", same.text);
    let again = json!({"run_attempt": "2", "check_run_id": "55"});
    let second = shows(&world, &with(claims(&world, 1, 5), again)).await;
    assert_eq!(second.status, 200, "{}", second.text);
    assert_ne!(second.str("task"), first.task);
    assert!(!world.is_active(&first.token).await);
    assert!(world.is_active(second.str("access_token")).await);
    // Another job of the first attempt is late.
    let late = json!({"check_run_id": "56"});
    let late = shows(&world, &with(claims(&world, 1, 5), late)).await;
    assert_ne!(late.status, 200, "{}", late.text);
    assert!(world.is_active(second.str("access_token")).await);
}

#[tokio::test]
async fn a_renamed_repository_is_known_by_its_number_and_never_by_its_old_name() {
    let world = world().await;
    let renamed = json!({
        "repository": "octo-org/new-name",
        "sub": "repo:octo-org@583231/new-name@1:ref:refs/heads/main",
    });
    // The number is the same, whatever `sub` says.
    let by_number = shows(&world, &with(claims(&world, 1, 1), renamed.clone())).await;
    assert_eq!(by_number.status, 200, "{}", by_number.text);
    // A pattern of the old name finds the old form, and does not find it under the new one.
    let with_old = |claims| with(claims, json!({"workflow": "old"}));
    let old = with_old(claims(&world, 30, 6));
    let old = shows_for(&world, "by-old-name", &old).await;
    assert_eq!(old.status, 200, "{}", old.text);
    let reply = shows_for(
        &world,
        "by-old-name",
        &with_old(with(claims(&world, 1, 2), renamed)),
    )
    .await;
    assert_eq!(why(&reply), ("claim_mismatch", "sub"), "{}", reply.text);
    // Nor the same name in the form with numbers.
    let numbered = json!({"sub": "repo:octo-org@583231/octo-repo@30:ref:refs/heads/main"});
    let reply = shows_for(
        &world,
        "by-old-name",
        &with_old(with(claims(&world, 30, 3), numbered)),
    )
    .await;
    assert_eq!(why(&reply), ("claim_mismatch", "sub"), "{}", reply.text);
    // Somebody who took the old name has another number.
    let taken =
        json!({"repository": "octo-org/tool", "sub": "repo:octo-org/tool:ref:refs/heads/main"});
    let reply = shows_for(
        &world,
        "by-both",
        &with(claims(&world, 99, 4), taken.clone()),
    )
    .await;
    assert_eq!(
        why(&reply),
        ("claim_mismatch", "repository_id"),
        "{}",
        reply.text
    );
    let reply = shows_for(&world, "by-both", &with(claims(&world, 31, 5), taken)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn an_immutable_subject_is_compared_as_it_is_written() {
    let world = world().await;
    let sub = |sub: &str| json!({ "sub": sub });
    let prefix = "repo:octo-org@583231/octo-repo@32";
    let run = |n: u64, tail: &str| with(claims(&world, 32, n), sub(&format!("{prefix}{tail}")));
    let good = shows(&world, &run(1, ":environment:eu%3Aprod")).await;
    assert_eq!(good.status, 200, "{}", good.text);
    for (n, tail) in [
        (2, ":environment:eu:prod"),
        (3, ":environment:eu%3aprod"),
        (4, ":environment:eu%253Aprod"),
        (5, ":environment:eu%3Aprod:ref:refs/heads/x"),
    ] {
        let reply = shows_for(&world, "to-production", &run(n, tail)).await;
        assert_eq!(
            why(&reply),
            ("claim_mismatch", "sub"),
            "{tail}: {}",
            reply.text
        );
    }
    // Numbers in it that contradict the claims make it nobody's.
    for (n, forged) in [
        (6, "repo:octo-org@583231/octo-repo@99:environment:eu%3Aprod"),
        (7, "repo:octo-org@1/octo-repo@32:environment:eu%3Aprod"),
        (
            8,
            "repo:octo-org@583231/octo-repo@32%3Aenvironment:eu%3Aprod",
        ),
    ] {
        let reply = shows(&world, &with(claims(&world, 32, n), sub(forged))).await;
        assert_eq!(
            why(&reply),
            ("claim_form", "sub"),
            "{forged}: {}",
            reply.text
        );
    }
}

fn gitlab(world: &World, job: u64, more: Value) -> Value {
    let now = world.now();
    let plain = json!({
        "iss": "https://gitlab.example", "aud": ISSUER, "jti": unique(),
        "sub": "project_path:octo/app:ref_type:branch:ref:main",
        "project_id": "10", "project_path": "octo/app", "namespace_id": "1",
        "job_project_id": "10", "job_namespace_id": "1",
        "pipeline_id": "574", "pipeline_source": "push", "job_id": job.to_string(),
        "ref": "main", "ref_protected": "true", "iat": now, "nbf": now - 5, "exp": now + 3600,
    });
    with(plain, more)
}

#[tokio::test]
async fn a_merge_request_of_a_fork_is_the_forks_wherever_it_ran() {
    let world = world().await;
    let fork = json!({
        "project_id": "20", "project_path": "mallory/app", "namespace_id": "2",
        "pipeline_source": "merge_request_event", "ref": "refs/merge-requests/1/head", "ref_protected": "false",
    });
    let reply = shows_for(&world, "merge", &gitlab(&world, 1, fork.clone())).await;
    assert_eq!(
        why(&reply),
        ("claim_mismatch", "project_id"),
        "{}",
        reply.text
    );
    // Where it ran says nothing of whose it is, and such a pipeline is not let in by itself.
    let ran_here = with(fork, json!({"job_project_id": "11"}));
    let reply = shows_for(&world, "ran-here", &gitlab(&world, 2, ran_here)).await;
    assert_eq!(
        why(&reply),
        ("claim_mismatch", "pipeline_source"),
        "{}",
        reply.text
    );
    // A merge request within the project is not let in either, unless `match` names it.
    let own = json!({"pipeline_source": "merge_request_event"});
    let reply = shows_for(&world, "merge", &gitlab(&world, 3, own)).await;
    assert_eq!(
        why(&reply),
        ("claim_mismatch", "pipeline_source"),
        "{}",
        reply.text
    );
    let reply = shows(&world, &gitlab(&world, 4, json!({}))).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

fn buildkite(world: &World, job: &str, more: Value) -> Value {
    let now = world.now();
    let plain = json!({
        "iss": "https://agent.buildkite.com", "aud": ISSUER,
        "sub": "organization:octo:pipeline:release:ref:refs/heads/main:commit:9f3182061f1e2cca4702c368cbc039b7dc9d4485:step:build",
        "organization_slug": "octo", "organization_id": "0189-octo", "pipeline_slug": "release",
        "build_number": 1, "build_branch": "main", "job_id": job, "agent_id": "0184990a",
        "iat": now, "nbf": now, "exp": now + 300,
    });
    with(plain, more)
}

#[tokio::test]
async fn another_organisation_at_the_same_issuer_is_another() {
    let world = world().await;
    // The issuer serves all customers; slugs are whatever the other customer calls things.
    let other = json!({"organization_id": "0190-mallory"});
    let reply = shows_for(&world, "pipeline", &buildkite(&world, "0184990a-1", other)).await;
    assert_eq!(
        why(&reply),
        ("claim_mismatch", "organization_id"),
        "{}",
        reply.text
    );
    // It is an optional claim: one that is absent matches nothing.
    let without = json!({"organization_id": null});
    let reply = shows_for(
        &world,
        "pipeline",
        &buildkite(&world, "0184990a-2", without),
    )
    .await;
    assert_eq!(
        why(&reply),
        ("claim_mismatch", "organization_id"),
        "{}",
        reply.text
    );
    // These tokens have no `jti`: one counts once all the same.
    let token = signed(&buildkite(&world, "0184990a-3", json!({})));
    let resource = [("resource", ARTIFACTS)];
    let first = world.ask(&token, Some(&new_key()), &resource).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let again = world.ask(&token, Some(&new_key()), &resource).await;
    assert_eq!(again.rule(), "retry_other_key", "{}", again.text);
    // And the same job does not come in twice by a fresh one.
    let fresh = shows(&world, &buildkite(&world, "0184990a-3", json!({}))).await;
    assert_ne!(fresh.status, 200, "{}", fresh.text);
}

#[tokio::test]
async fn a_job_that_somebody_reran_with_a_shell_in_it_is_refused() {
    let world = world().await;
    let circle = |pipeline: &str, rerun: Value| {
        let now = world.now();
        json!({
            "iss": "https://oidc.circleci.com/org/8a63b4c4", "aud": ISSUER,
            "sub": "org/8a63b4c4/project/7f12/user/3b1e", "oidc.circleci.com/org-id": "8a63b4c4",
            "oidc.circleci.com/project-id": "7f12", "oidc.circleci.com/pipeline-id": pipeline,
            "oidc.circleci.com/ssh-rerun": rerun, "iat": now, "exp": now + 3600,
        })
    };
    let field = "oidc.circleci.com/ssh-rerun";
    for (pipeline, rerun) in [("p-1", json!(true)), ("p-2", json!("true"))] {
        let reply = shows_for(&world, "circle", &circle(pipeline, rerun)).await;
        assert_eq!(why(&reply), ("claim_mismatch", field), "{}", reply.text);
    }
    // Who does not say that it is none may be one.
    let silent = with(circle("p-3", json!(false)), json!({ field: null }));
    let reply = shows_for(&world, "circle", &silent).await;
    assert_eq!(why(&reply), ("claim_mismatch", field), "{}", reply.text);
    let reply = shows(&world, &circle("p-4", json!(false))).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}
