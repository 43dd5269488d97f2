//! Approvals by strangers, by whoever asks, twice, late, and of what is not allowed any more.

use dayfly_server::app::{Actor, ApplyRequest, Contained};
use serde_json::json;

use super::approval::{asked_of, person, waits, world};
use super::job::{Job, claims, new_key, signed, with};
use super::world::{ARTIFACTS, unique};

#[tokio::test]
async fn strangers_to_an_approval_are_refused_and_told_why() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    let task = asked.task.parse().unwrap();
    let local = Actor::Local { uid: 0 };
    let refused = world
        .app
        .approve(&world.tenant(), task, &local, "root")
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.refusal.rule.code(), "not_allowed");
    assert!(refused.refusal.hint.contains("dayfly login"));
    let unknown = "task_00000000000000000000000000".parse().unwrap();
    let refused = world
        .app
        .approve(&world.tenant(), unknown, &person("mona"), "x")
        .await;
    assert_eq!(refused.unwrap_err().refusal.rule.code(), "not_found");
    let job = world.job(1).await;
    let refused = world
        .app
        .approve(
            &world.tenant(),
            job.task.parse().unwrap(),
            &person("mona"),
            "x",
        )
        .await;
    assert_eq!(refused.unwrap_err().refusal.rule.code(), "not_pending");
    world.wait(1790);
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "authorization_pending")
    );
    world.wait(10);
    // Over at once, swept or not.
    assert_eq!(
        world.approve(&asked, "mona").await.unwrap_err(),
        "approval_expired"
    );
    assert_eq!(world.deny(&asked).await.unwrap_err(), "approval_expired");
    let late = world.poll(&asked).await;
    assert_eq!(late.refusal(), (400, "expired_token", "approval_expired"));
    assert_eq!(world.app.sweep().await, 1);
    let late = world.poll(&asked).await;
    assert_eq!(late.refusal(), (400, "expired_token", "approval_expired"));
    assert_eq!(
        world.approve(&asked, "mona").await.unwrap_err(),
        "not_pending"
    );
    let ended = world.leaves().pop().unwrap();
    assert_eq!(
        (&ended["kind"], &ended["data"]["cause"]),
        (&json!("task.ended"), &json!("expired"))
    );
}

#[tokio::test]
async fn what_nobody_fetches_within_five_minutes_expires() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    world.wait(300);
    assert_eq!(world.poll(&asked).await.rule(), "approval_expired");
    assert_eq!(world.app.sweep().await, 1);
    assert_eq!(world.grants(), 0);
}

#[tokio::test]
async fn two_people_are_two_and_stand_in_the_record() {
    let world = world().await;
    let asked = world.asked(8, 1).await;
    let first = world.approve(&asked, "mona").await.unwrap();
    assert_eq!(
        (first.people, first.approvals, first.fetch_by),
        (2, 1, None)
    );
    assert_eq!(
        world.approve(&asked, "mona").await.unwrap_err(),
        "approved_twice"
    );
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "authorization_pending")
    );
    let second = world.approve(&asked, "hugo").await.unwrap();
    assert_eq!((second.approvals, second.fetch_by.is_some()), (2, true));
    assert_eq!(
        world.approve(&asked, "anna").await.unwrap_err(),
        "approval_complete"
    );
    world.wait(5);
    assert_eq!(world.poll(&asked).await.status, 200);
    for leaf in world.leaves() {
        let leaf = leaf.to_string();
        assert!(!leaf.contains("mona") && !leaf.contains("hugo"), "{leaf}");
    }
    let annex = world.annex_of("task.approved", &asked.task);
    assert_eq!(
        (&annex["by"]["sub"], &annex["reason"]),
        (&json!("mona"), &json!("seen"))
    );
}

#[tokio::test]
async fn who_asks_may_not_approve() {
    let world = world().await;
    let now = world.now();
    let claims = json!({
        "iss": "https://idp.example", "aud": "dayfly-tasks", "sub": "mona", "jti": unique(),
        "auth_time": now - 60, "iat": now, "exp": now + 300,
    });
    let (key, proof) = (new_key(), signed(&claims));
    let reply = world.defer(&proof, Some(&key)).await;
    let asked = asked_of(key, proof, &reply);
    assert_eq!(
        world.approve(&asked, "mona").await.unwrap_err(),
        "own_request"
    );
    assert_eq!(
        waits(&world.poll(&asked).await),
        (400, "authorization_pending")
    );
    world.approve(&asked, "hugo").await.unwrap();
    world.wait(5);
    assert_eq!(world.poll(&asked).await.status, 200);
    for leaf in world.leaves() {
        assert!(!leaf.to_string().contains("mona"), "{leaf}");
    }
}

#[tokio::test]
async fn where_the_annex_was_erased_nobody_can_be_told_apart_and_nobody_approves() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    let approved = world.asked(7, 2).await;
    world.approve(&approved, "mona").await.unwrap();
    let saying = [("run_id".to_owned(), "1".to_owned())].into();
    let all = dayfly_server::app::Erasure::Saying(saying);
    world
        .app
        .erase(&world.tenant(), all, false, &person("otto"), "asked")
        .await
        .unwrap();
    let saying = [("run_id".to_owned(), "2".to_owned())].into();
    let all = dayfly_server::app::Erasure::Saying(saying);
    world
        .app
        .erase(&world.tenant(), all, false, &person("otto"), "asked")
        .await
        .unwrap();
    assert_eq!(
        world.approve(&asked, "mona").await.unwrap_err(),
        "policy_failed"
    );
    assert_eq!(
        world.poll(&approved).await.refusal(),
        (400, "access_denied", "policy_failed")
    );
    assert_eq!(world.grants(), 0);
}

#[tokio::test]
async fn a_denial_is_final_and_every_other_end_too() {
    let world = world().await;
    let denied = world.asked(7, 1).await;
    world.deny(&denied).await.unwrap();
    assert_eq!(world.deny(&denied).await.unwrap_err(), "not_pending");
    let ended = world.asked(7, 2).await;
    world.approve(&ended, "mona").await.unwrap();
    let by = Actor::Local { uid: 7 };
    let task = ended.task.parse().unwrap();
    world
        .app
        .operator_end(&world.tenant(), task, &by, "leaked")
        .await
        .unwrap();
    let superseded = world.asked(7, 3).await;
    let newer = with(claims(&world, 7, 3), json!({"run_attempt": "2"}));
    world.defer(&signed(&newer), Some(&new_key())).await;
    let disabled = world.asked(7, 4).await;
    world.approve(&disabled, "mona").await.unwrap();
    let workload = Contained::Workload("deploy".parse().unwrap());
    world
        .app
        .contain(&world.tenant(), &workload, &by, "no")
        .await
        .unwrap();
    assert_eq!(
        world.approve(&disabled, "anna").await.unwrap_err(),
        "rights_removed"
    );
    for (asked, rule) in [
        (&denied, "approval_denied"),
        (&ended, "approval_denied"),
        (&superseded, "approval_denied"),
        (&disabled, "rights_removed"),
    ] {
        let reply = world.poll(asked).await;
        assert_eq!(reply.refusal(), (400, "access_denied", rule));
        assert_eq!(
            world.cancel(&asked.code, Some(&asked.key)).await.status,
            200
        );
    }
    world.app.sweep().await;
    assert_eq!(world.poll(&disabled).await.rule(), "approval_denied");
    assert_eq!(world.grants(), 0);
    assert!(
        world
            .leaves()
            .iter()
            .any(|leaf| leaf["kind"] == "task.denied")
    );
}

#[tokio::test]
async fn at_redemption_everything_is_judged_again() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    world.approve(&asked, "mona").await.unwrap();
    let lapsed = async |rule: &str| {
        world.wait(5);
        let reply = world.poll(&asked).await;
        assert_eq!(reply.refusal(), (400, "access_denied", rule));
        assert_eq!(world.grants(), 0);
    };
    let octo = "identifier = \"octo/*\", scope";
    world.rewrite(octo, "identifier = \"other/*\", scope");
    world.applied().await;
    lapsed("ceiling_lowered").await;
    world.rewrite("identifier = \"other/*\", scope", octo);
    world.rewrite("repository_id = \"7\"", "repository_id = \"70\"");
    world.applied().await;
    lapsed("approval_lapsed").await;
    world.rewrite("repository_id = \"70\"", "repository_id = \"7\"");
    world.write_policy(
        "no.cedar",
        "@id(\"no\") forbid (principal == Dayfly::Workload::\"deploy\", action, resource);",
    );
    world.applied().await;
    lapsed("policy_denied").await;
    world.write_policy("no.cedar", "");
    world.applied().await;
    world.wait(5);
    assert_eq!(world.poll(&asked).await.status, 200);
}

#[tokio::test]
async fn an_answer_that_got_lost_costs_nothing() {
    let world = world().await;
    let asked = world.asked(7, 1).await;
    let size = world.size();
    let again = world.defer(&asked.proof, Some(&asked.key)).await;
    assert_eq!(again.str("deferral_code"), asked.code);
    assert_eq!(world.size(), size);
    let thief = world.defer(&asked.proof, Some(&new_key())).await;
    assert_eq!(thief.rule(), "retry_other_key");
    let restarted = world.restarted().await;
    // Who shows a proof soon after a start shows a nonce, as `defer` does.
    let again = restarted.defer(&asked.proof, Some(&asked.key)).await;
    assert_eq!(again.str("deferral_code"), asked.code);
    restarted.approve(&asked, "mona").await.unwrap();
    assert_eq!(restarted.poll(&asked).await.status, 200);
    // The grant was not heard: its client asks by its key, or by the proof that it asked with.
    let client = asked.task.replace("task_", "client_") + "_1";
    let job = Job {
        key: asked.key.clone(),
        proof: asked.proof.clone(),
        task: asked.task.clone(),
        client,
        token: String::new(),
    };
    assert_eq!(restarted.renew(&job, &[]).await.status, 200);
    let retried = restarted
        .ask(&asked.proof, Some(&asked.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(retried.status, 200, "{}", retried.text);
}

#[tokio::test]
async fn a_policy_asks_for_an_approval_of_this_request_alone() {
    let world = world().await;
    world.write_policy(
        "ask.cedar",
        "@id(\"main-only\") @approval(\"10m\") @people(\"2\")\nforbid (principal == Dayfly::Workload::\"release\", action == Dayfly::Action::\"start\", resource)\nunless { context.proof.hasTag(\"ref\") && context.proof.getTag(\"ref\") == \"refs/heads/main\" };",
    );
    world.applied().await;
    world.job(1).await;
    let hotfix = with(claims(&world, 1, 2), json!({"ref": "refs/heads/hotfix"}));
    let (key, proof) = (new_key(), signed(&hotfix));
    let refused = world
        .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(refused.rule(), "approval_needed");
    let reply = world.defer(&proof, Some(&key)).await;
    assert_eq!(reply.body["expires_in"], 600);
    let asked = asked_of(key, proof, &reply);
    let decision = &world.annex_of("task.requested", &asked.task)["policy"]["decisions"][0];
    assert_eq!(decision["decision"], "deny");
    assert_eq!(decision["approval"]["policies"], json!(["main-only"]));
    assert_eq!(decision["approval"]["given"], false);
    world.approve(&asked, "mona").await.unwrap();
    world.approve(&asked, "hugo").await.unwrap();
    let granted = world.poll(&asked).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    let start = world.annex_of("task.started", &asked.task);
    assert_eq!(start["policy"]["decisions"][0]["decision"], "allow");
    assert_eq!(start["policy"]["decisions"][0]["approval"]["given"], true);
    assert_eq!(start["policy"]["facts"]["approvals"], 2);
    let job = Job::of(asked.key.clone(), asked.proof.clone(), &granted);
    assert_eq!(world.renew(&job, &[]).await.status, 200);
    // It stays permitted by a changed set too: what was approved then is approved now.
    world.write_policy(
        "other.cedar",
        "forbid (principal == Dayfly::Workload::\"matrix\", action, resource);",
    );
    world.applied().await;
    assert!(world.is_active(&job.token).await);
    // And where it errs, it forbids, whoever would approve.
    world.write_policy(
        "ask.cedar",
        "@approval(\"10m\") forbid (principal == Dayfly::Workload::\"release\", action == Dayfly::Action::\"start\", resource) when { context.starts_last_hour + 9223372036854775807 > 0 };",
    );
    let by = Actor::Local { uid: 7 };
    let ends = ApplyRequest {
        dry_run: true,
        ..ApplyRequest::default()
    };
    let dry = world
        .app
        .apply(&world.tenant(), ends, &by, "")
        .await
        .unwrap();
    let ends = ApplyRequest {
        ends: Some(dry.ends),
        ..ApplyRequest::default()
    };
    world
        .app
        .apply(&world.tenant(), ends, &by, "err")
        .await
        .unwrap();
    let proof = signed(&claims(&world, 1, 3));
    let failed = world.defer(&proof, Some(&new_key())).await;
    assert_eq!(failed.rule(), "policy_failed", "{}", failed.text);
}

#[tokio::test]
async fn what_waits_counts_as_open_and_outlives_a_restart() {
    let world = world().await;
    world.rewrite("approval = { by = \"owner\", within = \"30m\" }\naccess  = [\n  { resource = \"artifacts\", type = \"artifact\", actions = [\"read\", \"publish\"]", "approval = { by = \"owner\", within = \"30m\" }\nlimits = { open = 1 }\naccess  = [\n  { resource = \"artifacts\", type = \"artifact\", actions = [\"read\", \"publish\"]");
    world.applied().await;
    let asked = world.asked(7, 1).await;
    let second = signed(&claims(&world, 7, 2));
    let refused = world.defer(&second, Some(&new_key())).await;
    assert_eq!(refused.rule(), "open_limit");
    let world = world.restarted().await;
    world.approve(&asked, "mona").await.unwrap();
    assert_eq!(world.poll(&asked).await.status, 200);
    assert_eq!(world.count("task.started", &asked.task), 1);
}
