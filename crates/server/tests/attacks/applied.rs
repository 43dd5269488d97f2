//! Open tasks under a declared state that would not have granted them: counted, agreed to, ended.

use std::sync::Arc;

use dayfly_domain::Span;
use dayfly_server::app::{Actor, Applied, ApplyError, ApplyRequest};
use dayfly_store::clock::Clock;
use dayfly_store::{FactsQuery, Store};
use serde_json::{Value, json};

use super::job::{claims, new_key, signed, with};
use super::world::{ARTIFACTS, TENANT, World, acme, write_tenant};

const BY: Actor = Actor::Local { uid: 7 };

const DRY: ApplyRequest = ApplyRequest {
    dry_run: true,
    ends: None,
    undo: false,
};

const UNDO: ApplyRequest = ApplyRequest {
    dry_run: false,
    ends: None,
    undo: true,
};

const fn ends(ends: u64) -> ApplyRequest {
    ApplyRequest {
        dry_run: false,
        ends: Some(ends),
        undo: false,
    }
}

impl World {
    fn declare(&self, tenant: &str) {
        write_tenant(&self.folder.path().join("acme"), tenant);
    }

    async fn apply(&self, request: ApplyRequest) -> Result<Applied, ApplyError> {
        self.app
            .apply(&self.tenant(), request, &BY, "narrower")
            .await
    }

    /// How many open tasks would end, were it not refused.
    async fn refused(&self, request: ApplyRequest) -> u64 {
        match self.apply(request).await {
            Err(ApplyError::Ends { open, .. }) => open,
            other => panic!("{other:?}"),
        }
    }

    fn end_of(&self, task: &str) -> Option<String> {
        let leaves = self.leaves();
        let mut ended = leaves
            .iter()
            .filter(|leaf| leaf["kind"] == "task.ended" && leaf["task"] == task);
        Some(ended.next()?["data"]["cause"].as_str().unwrap().to_owned())
    }

    fn last_change(&self) -> Value {
        let mut leaves = self.leaves();
        leaves.retain(|leaf| leaf["kind"] == "declared.changed");
        leaves.pop().unwrap()["data"].clone()
    }

    fn documents(&self, prefix: &str) -> usize {
        let query = FactsQuery {
            documents: Some(prefix),
            ..FactsQuery::default()
        };
        self.store.facts(&acme(), &query).unwrap().documents.len()
    }
}

/// Changes of the workload `release` under which a job of it would not have been granted.
fn narrower() -> Vec<(&'static str, String)> {
    let replaced = |from: &str, to: &str| {
        let text = TENANT.replace(from, to);
        assert_ne!(text, TENANT, "{from}");
        text
    };
    vec![
        (
            "`match` wants repository_id",
            replaced("repository_id = \"1\" }", "repository_id = \"9\" }"),
        ),
        (
            "`match` wants ref",
            replaced(
                "repository_id = \"1\" }",
                "repository_id = \"1\", ref = \"refs/heads/release\" }",
            ),
        ),
        (
            "its access is not covered",
            replaced(
                "identifier = \"octo/*\", bytes",
                "identifier = \"other/*\", bytes",
            ),
        ),
        (
            "its access is not covered",
            replaced(
                "[\"read\", \"publish\"], identifier = \"octo/*\", bytes",
                "[\"read\"], identifier = \"octo/*\", bytes",
            ),
        ),
        (
            "audience",
            replaced(
                "kind = \"github\"\njwks",
                "kind = \"github\"\naudience = \"https://elsewhere.example\"\njwks",
            ),
        ),
    ]
}

/// The state without the workload `release`.
fn without_release() -> String {
    let (head, rest) = TENANT.split_once("[workload.release]").unwrap();
    let (_, rest) = rest.split_once("[workload.matrix]").unwrap();
    format!("{head}[workload.matrix]{rest}")
}

#[tokio::test]
async fn what_a_new_state_would_not_grant_ends_only_by_its_number() {
    for (why, tenant) in narrower() {
        let world = World::new().await;
        let jobs = [world.job(1).await, world.job(2).await];
        let other = world.job_of(2, 1, &[("resource", ARTIFACTS)]).await;
        let size = world.size();
        world.declare(&tenant);
        let dry = world.apply(DRY).await.unwrap();
        // A change of the issuer concerns every workload.
        let count = if why == "audience" { 3 } else { 2 };
        assert_eq!((dry.ends, dry.applied), (count, false), "{why}");
        assert_eq!(dry.tasks.len() as u64, count);
        assert!(
            dry.tasks.iter().all(|task| task.why.contains(why)),
            "{:?}",
            dry.tasks
        );
        assert_eq!(world.refused(ApplyRequest::default()).await, count);
        for wrong in [0, 1, 4] {
            assert_eq!(world.refused(ends(wrong)).await, count);
        }
        assert_eq!(world.size(), size, "nothing is recorded of a refused apply");
        assert!(world.is_active(&jobs[0].token).await);
        let applied = world.apply(ends(count)).await.unwrap();
        assert_eq!((applied.ends, applied.applied), (count, true));
        for job in &jobs {
            assert_eq!(world.end_of(&job.task).as_deref(), Some("policy"));
            assert!(!world.is_active(&job.token).await);
        }
        assert_eq!(world.is_open(&other.task), why != "audience");
        assert_eq!(world.documents("ending"), 0, "nothing is left to do");
        assert_eq!(world.last_change()["ends"], count);
    }
}

#[tokio::test]
async fn after_an_end_by_policy_its_series_waits_for_an_operator() {
    let world = World::new().await;
    world.job(1).await;
    world.declare(&narrower()[2].1);
    world.apply(ends(1)).await.unwrap();
    world.declare(TENANT);
    world.apply(ApplyRequest::default()).await.unwrap();
    let newer = signed(&with(claims(&world, 1, 1), json!({"run_attempt": "2"})));
    let key = new_key();
    let more = [("resource", ARTIFACTS)];
    assert_eq!(world.ask(&newer, Some(&key), &more).await.rule(), "blocked");
    let blocks = world.app.blocks(&world.tenant()).unwrap();
    let on = blocks[0].on.clone();
    world
        .app
        .unblock(&world.tenant(), on, &BY, "looked at")
        .await
        .unwrap();
    assert_eq!(world.ask(&newer, Some(&key), &more).await.status, 200);
}

#[tokio::test]
async fn what_was_removed_is_over_at_once_whatever_comes_back_later() {
    let world = World::new().await;
    let job = world.job(1).await;
    let other = world.job_of(2, 1, &[("resource", ARTIFACTS)]).await;
    world.declare(&without_release());
    let dry = world.apply(DRY).await.unwrap();
    assert_eq!(dry.tasks[0].why, "workload release is removed");
    assert_eq!(world.refused(ApplyRequest::default()).await, 1);
    assert_eq!(world.apply(ends(1)).await.unwrap().ends, 1);
    assert!(!world.is_active(&job.token).await, "before the sweep");
    assert!(world.is_active(&other.token).await);
    // The same text again grants it nothing back.
    world.declare(TENANT);
    world.apply(ApplyRequest::default()).await.unwrap();
    assert!(!world.is_active(&job.token).await);
    assert_eq!(world.renew(&job, &[]).await.rule(), "rights_removed");
    let world = world.restarted().await;
    world.app.sweep().await;
    assert_eq!(world.end_of(&job.task).as_deref(), Some("policy"));
    world.job(2).await;
}

#[tokio::test]
async fn an_owner_who_is_removed_answers_for_nothing_that_is_open() {
    let world = World::new().await;
    let jobs = [
        world.job(1).await,
        world.job_of(2, 1, &[("resource", ARTIFACTS)]).await,
    ];
    // Somebody else answers for the same workloads from now on.
    let handed_on = TENANT
        .replace("[owner.team]", "[owner.crew]")
        .replace("owner   = \"team\"", "owner   = \"crew\"");
    world.declare(&handed_on);
    let dry = world.apply(DRY).await.unwrap();
    assert_eq!(dry.tasks[0].why, "owner team is removed");
    assert_eq!(world.refused(ApplyRequest::default()).await, 2);
    assert_eq!(world.apply(ends(2)).await.unwrap().ends, 2);
    for job in &jobs {
        assert!(!world.is_active(&job.token).await, "before the sweep");
    }
    world.app.sweep().await;
    for job in &jobs {
        assert_eq!(world.end_of(&job.task).as_deref(), Some("policy"));
    }
    world.job(3).await;
}

#[tokio::test]
async fn an_issuer_that_is_removed_ends_its_tasks_by_name() {
    let gitlab = r#"
[issuer.gitlab]
kind = "gitlab"
url = "https://gitlab.example"
jwks = { file = "jwks.json" }

[workload.elsewhere]
owner   = "team"
kind    = "ci"
purpose = "another platform"
match   = { issuer = "gitlab", project_id = "4", ref_protected = "true" }
access  = [{ resource = "queue", type = "message", actions = ["read"], identifier = "jobs/*" }]
"#;
    let world = World::declared(&format!("{TENANT}{gitlab}")).await;
    let now = world.now();
    let proof = signed(&json!({
        "iss": "https://gitlab.example", "aud": super::world::ISSUER, "sub": "project_path:a/b",
        "project_id": "4", "project_path": "a/b", "namespace_id": "1", "namespace_path": "a",
        "job_id": "77", "pipeline_id": "7", "pipeline_source": "push", "ref": "main",
        "ref_type": "branch", "ref_protected": "true", "jti": super::world::unique(),
        "iat": now, "nbf": now, "exp": now + 300,
    }));
    let reply = world.ask(&proof, Some(&new_key()), &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    world.declare(TENANT);
    assert_eq!(world.apply(ends(1)).await.unwrap().ends, 1);
    world.app.sweep().await;
    assert_eq!(
        world.end_of(reply.str("task")).as_deref(),
        Some("issuer_removed")
    );
    let why = world.why_gone(reply.str("task"));
    assert_eq!(why, "issuer_removed: narrower");
}

#[tokio::test]
async fn a_wider_state_ends_nothing_and_a_task_that_is_over_counts_no_more() {
    let world = World::new().await;
    let job = world.job(1).await;
    world.declare(&TENANT.replace(
        "repository_id = \"1\" }",
        "repository_id = [\"1\", \"9\"] }",
    ));
    assert_eq!(world.apply(ApplyRequest::default()).await.unwrap().ends, 0);
    assert!(world.is_active(&job.token).await);
    world.declare(&without_release());
    assert_eq!(world.apply(DRY).await.unwrap().ends, 1);
    world.clock.advance(Span::from_seconds(3600));
    assert_eq!(
        world.apply(DRY).await.unwrap().ends,
        0,
        "its deadline has come"
    );
}

/// A task opens after the count and before the activation: it goes with the others.
#[tokio::test]
async fn what_slips_in_between_the_count_and_the_activation_does_not_stay() {
    let world = Arc::new(World::new().await);
    let first = world.job(1).await;
    world.declare(&narrower()[0].1);
    let slipped = Arc::new(std::sync::Mutex::new(None));
    let (other, seen) = (Arc::clone(&world), Arc::clone(&slipped));
    world.store.before_revision(async move {
        let job = other.job(2).await;
        *seen.lock().unwrap() = Some(job);
    });
    let applied = world.apply(ends(1)).await.unwrap();
    let slipped = slipped.lock().unwrap().take().unwrap();
    assert_eq!(applied.ends, 2, "it is told");
    for job in [&first, &slipped] {
        assert_eq!(world.end_of(&job.task).as_deref(), Some("policy"));
    }
}

/// The activation is durable and nothing after it was done: a start goes on with the ends.
#[tokio::test]
async fn ends_that_an_apply_has_begun_are_finished_after_a_restart() {
    let world = World::new().await;
    let jobs = [world.job(1).await, world.job(2).await, world.job(3).await];
    world.declare(&narrower()[0].1);
    // Whoever asked is gone in the moment in which it is durable.
    let (app, tenant) = (Arc::clone(&world.app), world.tenant());
    let (gone, told) = tokio::sync::oneshot::channel();
    world.store.after_revision(async move {
        gone.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    let apply = tokio::spawn(async move { app.apply(&tenant, ends(3), &BY, "x").await.map(drop) });
    told.await.unwrap();
    apply.abort();
    assert!(apply.await.unwrap_err().is_cancelled());
    assert!(jobs.iter().all(|job| world.end_of(&job.task).is_none()));
    let world = world.restarted().await;
    assert_eq!(world.app.sweep().await, 3);
    for job in &jobs {
        assert_eq!(world.end_of(&job.task).as_deref(), Some("policy"));
    }
    assert_eq!(world.documents("ending"), 0);
    assert_eq!(world.app.sweep().await, 0);
}

/// A task opens between the count and the activation, and the server falls right after it: nobody
/// has judged that task, and the start does.
#[tokio::test]
async fn what_slipped_in_before_a_fall_is_judged_by_the_next_start() {
    let world = Arc::new(World::new().await);
    let counted = world.job(1).await;
    let kept = world.job_of(2, 1, &[("resource", ARTIFACTS)]).await;
    world.declare(&narrower()[0].1);
    let slipped = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (other, seen) = (Arc::clone(&world), Arc::clone(&slipped));
    world.store.before_revision(async move {
        let jobs = [
            other.job(2).await,
            other.job_of(2, 2, &[("resource", ARTIFACTS)]).await,
        ];
        seen.lock().unwrap().extend(jobs);
    });
    let (gone, told) = tokio::sync::oneshot::channel();
    world.store.after_revision(async move {
        gone.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    let (app, tenant) = (Arc::clone(&world.app), world.tenant());
    let apply = tokio::spawn(async move { app.apply(&tenant, ends(1), &BY, "x").await.map(drop) });
    told.await.unwrap();
    apply.abort();
    assert!(apply.await.unwrap_err().is_cancelled());
    let slipped = std::mem::take(&mut *slipped.lock().unwrap());
    let world = world.restarted().await;
    assert_eq!(
        world.app.sweep().await,
        2,
        "the counted one and the one that slipped in"
    );
    for job in [&counted, &slipped[0]] {
        assert_eq!(world.end_of(&job.task).as_deref(), Some("policy"));
        assert!(!world.is_active(&job.token).await);
    }
    // What the new state grants stays, granted before it or after.
    for job in [&kept, &slipped[1]] {
        assert!(world.is_active(&job.token).await);
    }
    assert_eq!(world.documents("ending"), 0, "nothing is left to do");
    assert_eq!(world.app.sweep().await, 0);
}

/// The same without a fall, where another apply comes before the sweep: it finishes the former one.
#[tokio::test]
async fn an_apply_finishes_what_one_before_it_left() {
    let world = Arc::new(World::new().await);
    world.declare(&narrower()[0].1);
    let slipped = Arc::new(std::sync::Mutex::new(None));
    let (other, seen) = (Arc::clone(&world), Arc::clone(&slipped));
    world.store.before_revision(async move {
        *seen.lock().unwrap() = Some(other.job(2).await);
    });
    let (gone, told) = tokio::sync::oneshot::channel();
    world.store.after_revision(async move {
        gone.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    let (app, tenant) = (Arc::clone(&world.app), world.tenant());
    let request = ApplyRequest::default();
    let apply = tokio::spawn(async move { app.apply(&tenant, request, &BY, "x").await.map(drop) });
    told.await.unwrap();
    apply.abort();
    assert!(apply.await.unwrap_err().is_cancelled());
    let job = slipped.lock().unwrap().take().unwrap();
    world.declare(TENANT);
    world.apply(ApplyRequest::default()).await.unwrap();
    assert_eq!(world.end_of(&job.task).as_deref(), Some("policy"));
}

#[tokio::test]
async fn undo_goes_back_to_the_former_revision_and_forth_again() {
    let world = World::new().await;
    assert!(matches!(world.apply(UNDO).await, Err(ApplyError::NoFormer)));
    let first = world.last_change();
    assert_eq!(
        (&first["revision"], &first["former"]),
        (&json!(1), &Value::Null)
    );
    let narrow = narrower()[0].1.clone();
    world.declare(&narrow);
    world.apply(ApplyRequest::default()).await.unwrap();
    let second = world.last_change();
    assert_eq!(
        (&second["revision"], &second["former"]),
        (&json!(2), &first["hash"])
    );
    let refused = signed(&claims(&world, 1, 1));
    assert_eq!(
        world.ask(&refused, Some(&new_key()), &[]).await.rule(),
        "no_workload"
    );
    let undone = world.apply(UNDO).await.unwrap();
    assert_eq!((undone.revision, undone.changes.len()), (3, 1));
    let third = world.last_change();
    assert_eq!(
        (&third["hash"], &third["former"]),
        (&first["hash"], &second["hash"])
    );
    let job = world.job(2).await;
    // It is an apply like any other: open tasks count, and a restart keeps it.
    let world = world.restarted().await;
    assert_eq!(world.refused(UNDO).await, 1);
    let forth = ApplyRequest {
        ends: Some(1),
        ..UNDO
    };
    assert_eq!(world.apply(forth).await.unwrap().revision, 4);
    assert_eq!(world.end_of(&job.task).as_deref(), Some("policy"));
    assert_eq!(world.last_change()["hash"], second["hash"]);
}

/// Policies that would not permit what is open, by the facts of its grant and not by those of now;
/// and words of what is said of it.
const STRICTER: [(&str, &str, &str); 3] = [
    (
        "forbid (principal, action == Dayfly::Action::\"start\", resource) when { context.open_tasks >= 1 };",
        "start at https://artifacts.example",
        "forbidden by",
    ),
    (
        "forbid (principal == Dayfly::Workload::\"release\", action == Dayfly::Action::\"issue\", resource) when { context.open_tasks >= 1 };",
        "client 1: issue at https://artifacts.example",
        "forbidden by",
    ),
    (
        "forbid (principal, action, resource) when { context.open_tasks + 9223372036854775807 > 0 && false };",
        "start at https://artifacts.example",
        "overflow",
    ),
];

#[tokio::test]
async fn what_new_policies_would_not_have_permitted_ends_only_by_its_number() {
    for (policy, at, why) in STRICTER {
        let world = World::new().await;
        // When the first was granted none was open; now there are three.
        let jobs = [world.job(1).await, world.job(2).await, world.job(3).await];
        let size = world.size();
        world.write_policy("stricter.cedar", policy);
        let dry = world.apply(DRY).await.unwrap();
        assert_eq!((dry.ends, dry.applied), (2, false), "{policy}: {dry:?}");
        for task in &dry.tasks {
            assert!(
                task.why.contains(at) && task.why.contains(why),
                "{}",
                task.why
            );
        }
        assert_eq!(world.refused(ApplyRequest::default()).await, 2);
        assert_eq!(world.size(), size, "nothing is recorded of a refused apply");
        let applied = world.apply(ends(2)).await.unwrap();
        assert_eq!((applied.ends, applied.applied), (2, true));
        assert_eq!(world.end_of(&jobs[0].task), None);
        assert!(world.is_active(&jobs[0].token).await);
        for job in &jobs[1..] {
            assert_eq!(world.end_of(&job.task).as_deref(), Some("policy"));
            assert!(!world.is_active(&job.token).await);
        }
    }
}

#[tokio::test]
async fn policies_that_permit_what_is_open_end_nothing() {
    let world = World::new().await;
    let job = world.job(1).await;
    let soon = world.clock.now() + Span::from_seconds(60);
    world.wait(600);
    // It held at the time of the grant; the credential has expired, and the task is open.
    let until = format!(
        "forbid (principal, action, resource) when {{ context.now > datetime(\"{soon}\") }};"
    );
    world.write_policy("until.cedar", &until);
    assert!(world.apply(ApplyRequest::default()).await.unwrap().applied);
    assert!(world.is_open(&job.task));
    assert_eq!(
        world.renew(&job, &[]).await.rule(),
        "policy_denied",
        "from now on"
    );
    let fresh = world.apply(UNDO).await.unwrap();
    assert_eq!((fresh.applied, fresh.ends), (true, 0));
}

/// A later credential that asks for less hides no broader one that is still good.
#[tokio::test]
async fn every_credential_that_is_good_counts() {
    let world = World::new().await;
    let job = world.job(1).await;
    let less = r#"[{"type":"artifact","actions":["read"]}]"#;
    let narrow = world.renew(&job, &[("authorization_details", less)]).await;
    assert_eq!(narrow.status, 200, "{}", narrow.text);
    let granted = &narrow.body["authorization_details"][0]["actions"];
    assert_eq!(*granted, json!(["read"]));
    world.write_policy(
        "less.cedar",
        "forbid (principal, action == Dayfly::Action::\"issue\", resource) when { context.actions.contains(\"publish\") };",
    );
    assert_eq!(world.apply(DRY).await.unwrap().ends, 1);
    // The broad one has expired; what the client holds is the narrow one.
    world.wait(200);
    let narrow = world.renew(&job, &[("authorization_details", less)]).await;
    assert_eq!(narrow.status, 200, "{}", narrow.text);
    world.wait(200);
    assert_eq!(world.apply(DRY).await.unwrap().ends, 0);
}

/// Two tenants that each take the other's audience at the same moment: one of them is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_applies_at_once_bring_no_two_tenants_to_one_proof() {
    for _ in 0..8 {
        let world = Arc::new(World::new().await);
        for tenant in ["acme", "other"] {
            let shared = TENANT.replacen(
                "[issuer.github]",
                "[issuer.github]\naudience = \"shared\"",
                1,
            );
            write_tenant(&world.folder.path().join(tenant), &shared);
        }
        let apply = |tenant: &'static str| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let tenant = Arc::clone(world.app.tenant(tenant).unwrap());
                let request = ApplyRequest::default();
                world.app.apply(&tenant, request, &BY, "at once").await
            })
        };
        let (one, other) = tokio::join!(apply("acme"), apply("other"));
        let done = [one.unwrap().is_ok(), other.unwrap().is_ok()];
        assert_eq!(done.iter().filter(|done| **done).count(), 1);
    }
}

/// The claims of a task are erased, and it changes between the count and a fall: what is declared of
/// it did not change, so that the apply did not count it, and the next start does not end it.
#[tokio::test]
async fn what_did_not_change_is_not_judged_anew_after_a_fall() {
    let world = Arc::new(World::new().await);
    let counted = world.job(1).await;
    let kept = world.job_of(2, 1, &[("resource", ARTIFACTS)]).await;
    world.declare(&narrower()[0].1);
    let store = Arc::clone(&world.store);
    let size = world.size();
    let (erases, erased) = (positions_of(&world, &kept.task), acme());
    let other = Arc::clone(&world);
    let renewing = kept.clone();
    world.store.before_revision(async move {
        assert_eq!(other.renew(&renewing, &[]).await.status, 200);
        let append = dayfly_store::Append {
            erases,
            ..dayfly_store::Append::default()
        };
        store.append(&erased, append).await.unwrap();
    });
    let (gone, told) = tokio::sync::oneshot::channel();
    world.store.after_revision(async move {
        gone.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    let (app, tenant) = (Arc::clone(&world.app), world.tenant());
    let apply = tokio::spawn(async move { app.apply(&tenant, ends(1), &BY, "x").await.map(drop) });
    told.await.unwrap();
    apply.abort();
    assert!(apply.await.unwrap_err().is_cancelled());
    assert!(world.size() > size);
    let world = world.restarted().await;
    assert_eq!(world.app.sweep().await, 1, "the one that was counted");
    assert!(!world.is_active(&counted.token).await);
    assert!(world.is_active(&kept.token).await);
}

fn positions_of(world: &World, task: &str) -> Vec<u64> {
    let leaves = world.leaves().into_iter().zip(0..);
    let of = leaves.filter(|(leaf, _)| leaf["task"] == task);
    of.map(|(_, pos)| pos).collect()
}
