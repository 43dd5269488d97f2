//! Declared state and containment that change in the moment in which a grant is decided.

use std::sync::Arc;

use dayfly_server::app::{Actor, ApplyRequest};
use serde_json::json;

use super::job::{claims, new_key, signed, with};
use super::world::{ARTIFACTS, TENANT, World, write_tenant};

const BY: Actor = Actor::Local { uid: 0 };

/// Makes another text the declared state just before the next grant is recorded.
fn apply_before_the_next_grant(world: &World, tenant: &str, ends: Option<u64>) {
    write_tenant(&world.folder.path().join("acme"), tenant);
    let (app, tenant) = (Arc::clone(&world.app), world.tenant());
    let request = ApplyRequest {
        ends,
        ..ApplyRequest::default()
    };
    world.store.before_next(async move {
        let applied = app.apply(&tenant, request, &BY, "narrower").await.unwrap();
        assert!(applied.applied);
    });
}

#[tokio::test]
async fn a_grant_that_races_an_apply_is_matched_against_what_is_declared_then() {
    let narrower = TENANT.replace(
        "match   = { issuer = \"github\", repository_id = \"1\" }",
        "match   = { issuer = \"github\", repository_id = \"1\", ref = \"refs/heads/release\" }",
    );
    assert_ne!(narrower, TENANT);
    for named in [None, Some("release")] {
        let world = World::new().await;
        apply_before_the_next_grant(&world, &narrower, None);
        let proof = signed(&claims(&world, 1, 1));
        let mut more = vec![("resource", ARTIFACTS)];
        more.extend(named.map(|name| ("client_id", name)));
        let reply = world.ask(&proof, Some(&new_key()), &more).await;
        assert_eq!(
            reply.status, 400,
            "granted by a match that is gone: {}",
            reply.text
        );
        assert_eq!(reply.body["refused"]["stage"], "match");
    }
}

#[tokio::test]
async fn a_grant_that_races_an_apply_is_keyed_by_what_is_declared_then() {
    let world = World::new().await;
    let by_run = TENANT.replace(
        "repository_id = \"1\" }\n",
        "repository_id = \"1\" }\ntask = \"run\"\n",
    );
    apply_before_the_next_grant(&world, &by_run, None);
    let job = world.job(7).await;
    assert!(world.is_open(&job.task));
    // Another job of the same run has the same key now.
    let other = signed(&with(claims(&world, 1, 7), json!({"check_run_id": "8"})));
    let reply = world
        .ask(&other, Some(&new_key()), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(reply.rule(), "already_open", "{}", reply.text);
}

#[tokio::test]
async fn a_grant_that_races_the_removal_of_its_workload_is_refused() {
    let world = World::new().await;
    let (head, rest) = TENANT.split_once("[workload.release]").unwrap();
    let (_, rest) = rest.split_once("[workload.matrix]").unwrap();
    apply_before_the_next_grant(&world, &format!("{head}[workload.matrix]{rest}"), None);
    let proof = signed(&claims(&world, 1, 1));
    let reply = world
        .ask(&proof, Some(&new_key()), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(reply.refusal(), (400, "invalid_grant", "no_workload"));
}

#[tokio::test]
async fn a_renewal_that_races_an_apply_is_over_with_its_task() {
    let world = World::new().await;
    let job = world.job(1).await;
    apply_before_the_next_grant(
        &world,
        &TENANT.replace("\"octo/*\", bytes", "\"elsewhere/*\", bytes"),
        Some(1),
    );
    let reply = world.renew(&job, &[]).await;
    assert_eq!(reply.rule(), "task_ended", "{}", reply.text);
}

/// Another job of the same run: no key and no attempt stands in its way but the block alone.
#[tokio::test]
async fn nothing_of_a_series_starts_once_an_operators_end_of_it_is_acknowledged() {
    let world = World::new().await;
    let first = world.job(1).await;
    let (app, tenant) = (Arc::clone(&world.app), world.tenant());
    let task = first.task.parse().unwrap();
    world.store.before_next(async move {
        app.operator_end(&tenant, task, &BY, "leaked")
            .await
            .unwrap();
    });
    let key = new_key();
    let of = json!({"check_run_id": "2"});
    let proof = signed(&with(claims(&world, 1, 1), of.clone()));
    let reply = world
        .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(reply.rule(), "blocked", "{}", reply.text);
    let open = world
        .leaves()
        .iter()
        .filter_map(|leaf| leaf["task"].as_str().map(str::to_owned))
        .any(|task| world.is_open(&task));
    assert!(!open, "a task of the series stays open");
    let again = signed(&with(claims(&world, 1, 1), of));
    assert_eq!(world.ask(&again, Some(&key), &[]).await.rule(), "blocked");
}

#[tokio::test]
async fn after_an_operators_end_neither_the_same_job_nor_a_newer_attempt_comes_back() {
    let world = World::new().await;
    let job = world.job(1).await;
    let task = job.task.parse().unwrap();
    world
        .app
        .operator_end(&world.tenant(), task, &BY, "leaked")
        .await
        .unwrap();
    for attempt in ["1", "2", "9"] {
        let of = json!({"run_attempt": attempt});
        let proof = signed(&with(claims(&world, 1, 1), of));
        let reply = world
            .ask(&proof, Some(&job.key), &[("resource", ARTIFACTS)])
            .await;
        assert_eq!(reply.refusal(), (400, "invalid_grant", "blocked"));
    }
    assert!(!world.is_active(&job.token).await);
    assert_eq!(world.renew(&job, &[]).await.rule(), "task_ended");
    // The lost answer of before, with its own key.
    let reply = world
        .ask(&job.proof, Some(&job.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(reply.rule(), "blocked");
}

/// The credential is recorded, the end is acknowledged, and only then would it be signed.
#[tokio::test]
async fn nothing_is_signed_for_a_task_whose_end_was_acknowledged_meanwhile() {
    let world = World::new().await;
    let job = world.job(1).await;
    let end = |task: &str| {
        let (app, tenant) = (Arc::clone(&world.app), world.tenant());
        let task = task.parse().unwrap();
        async move {
            app.operator_end(&tenant, task, &BY, "leaked")
                .await
                .unwrap();
        }
    };
    world.store.after_next(end(&job.task));
    let renewed = world.renew(&job, &[]).await;
    assert_eq!(renewed.rule(), "task_ended", "{}", renewed.text);
    let job = world.job(2).await;
    world.store.after_next(end(&job.task));
    let narrowed = world
        .narrow(&job.token, Some(&job.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(narrowed.rule(), "task_ended", "{}", narrowed.text);
    let job = world.job(3).await;
    world.store.after_next(end(&job.task));
    let again = world
        .ask(&job.proof, Some(&job.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(again.rule(), "task_ended", "{}", again.text);
}
