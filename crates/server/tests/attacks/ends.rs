//! After an end: the same key may repeat it and take the receipt, for ten minutes, and nothing else.

use dayfly_token::sign::SigningKey;
use serde_json::json;

use super::job::{Job, claims, new_key, proof, signed, with};
use super::world::{ARTIFACTS, World, acme};

async fn receipt(world: &World, job: &Job) -> super::world::Reply {
    let path = format!("/tasks/{}/receipt", job.task);
    world.call(job, "GET", &path, "").await
}

#[tokio::test]
async fn an_end_is_repeated_to_the_same_key_for_ten_minutes_and_nothing_else_is() {
    let world = World::new().await;
    let job = world.job(1).await;
    let first = world.end_task(&job, "failed").await;
    assert_eq!((first.status, first.str("cause")), (200, "failed"));
    // The token has expired meanwhile; another outcome changes nothing.
    world.wait(599);
    let again = world.end_task(&job, "completed").await;
    assert_eq!(again.status, 200, "{}", again.text);
    for member in ["task", "cause", "at", "last_possible_acceptance"] {
        assert_eq!(again.str(member), first.str(member));
    }
    assert_eq!(receipt(&world, &job).await.status, 200);
    let size = world.size();
    let path = format!("/tasks/{}", job.task);
    assert_eq!(
        world.call(&job, "GET", &path, "").await.rule(),
        "task_ended"
    );
    assert_eq!(world.beat(&job).await.rule(), "task_ended");
    assert_eq!(world.renew(&job, &[]).await.rule(), "task_ended");
    let narrowed = world
        .narrow(&job.token, Some(&job.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(narrowed.rule(), "task_ended");
    assert!(!world.is_active(&job.token).await);
    let revoke = super::job::dpop(&world, &job.key, "POST", "/revoke");
    assert_eq!(
        world
            .form("/revoke", &[("token", &job.token)], &[("dpop", &revoke)])
            .await
            .status,
        200
    );
    world.wait(2);
    assert_eq!(world.end_task(&job, "failed").await.rule(), "task_ended");
    assert_eq!(receipt(&world, &job).await.rule(), "task_ended");
    assert_eq!(world.size(), size, "nothing of it is recorded");
}

#[tokio::test]
async fn the_window_after_an_end_is_for_the_key_and_not_for_the_token() {
    let world = World::new().await;
    let (job, other) = (world.job(1).await, world.job(2).await);
    assert_eq!(world.end_task(&job, "completed").await.status, 200);
    let nonce = world.app.nonce();
    let thief = new_key();
    for (path, method, body) in [
        (format!("/tasks/{}/receipt", job.task), "GET", ""),
        (
            format!("/tasks/{}/end", job.task),
            "POST",
            r#"{"outcome":"failed"}"#,
        ),
        (
            format!("/clients/{}/end", job.client),
            "POST",
            r#"{"outcome":"failed"}"#,
        ),
    ] {
        let reads = world.store.reads();
        let by = |key: &_| proof(&world, key, method, &path, Some(&nonce), Some(&job.token));
        for (authorization, dpop) in [
            (format!("Bearer {}", job.token), None),
            (format!("Bearer {}", job.token), Some(by(&job.key))),
            (format!("DPoP {}", job.token), None),
            (format!("DPoP {}", job.token), Some(by(&thief))),
            (format!("DPoP {}", job.token), Some(by(&other.key))),
        ] {
            let reply = world
                .call_with(&authorization, dpop.as_deref(), method, &path, body)
                .await;
            assert_eq!(reply.status, 401, "{path}: {}", reply.text);
        }
        // Whoever cannot prove the key does not make the server replay a task either.
        assert_eq!(world.store.reads(), reads, "{path}");
        let by_other = proof(
            &world,
            &other.key,
            method,
            &path,
            Some(&nonce),
            Some(&other.token),
        );
        let reply = world
            .call_with(
                &format!("DPoP {}", other.token),
                Some(&by_other),
                method,
                &path,
                body,
            )
            .await;
        assert_eq!((reply.status, reply.rule()), (404, "not_found"));
    }
}

#[tokio::test]
async fn a_run_gets_no_second_window() {
    let world = World::new().await;
    let job = world.job(1).await;
    world.end_task(&job, "completed").await;
    let fresh = || signed(&claims(&world, 1, 1));
    let again = world
        .ask(&fresh(), Some(&job.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(again.refusal(), (400, "invalid_grant", "already_ended"));
    let named = world
        .ask(
            &fresh(),
            Some(&new_key()),
            &[("client_id", "release"), ("resource", ARTIFACTS)],
        )
        .await;
    assert_eq!(named.rule(), "already_ended");
    // Spelling the same numbers otherwise makes no other run.
    for other in [
        json!({"run_id": 1}),
        json!({"check_run_id": 1}),
        json!({"run_attempt": 1}),
    ] {
        let proof = signed(&with(claims(&world, 1, 1), other));
        assert_eq!(
            world.ask(&proof, Some(&job.key), &[]).await.rule(),
            "already_ended"
        );
    }
    for other in [
        json!({"run_id": "01"}),
        json!({"run_id": " 1"}),
        json!({"run_id": "1.0"}),
        json!({"run_id": "1/1"}),
        json!({"run_attempt": "1e0"}),
        json!({"run_attempt": "-1"}),
        json!({"check_run_id": "+1"}),
        json!({"check_run_id": ""}),
        json!({"run_id": 1.0}),
        json!({"run_attempt": "99999999999999999999"}),
        json!({"check_run_id": null}),
        json!({"run_id": ["1"]}),
        json!({"run_attempt": "0"}),
    ] {
        let proof = signed(&with(claims(&world, 1, 1), other.clone()));
        let reply = world
            .ask(&proof, Some(&new_key()), &[("resource", ARTIFACTS)])
            .await;
        assert_eq!(reply.status, 400, "{other}: {}", reply.text);
    }
    // The deadline ends what renewals cannot outlive.
    let job = world.job(2).await;
    world.wait(3598);
    let last = world.renew(&job, &[]).await;
    assert_eq!(last.status, 200);
    assert!(last.body["expires_in"].as_u64().unwrap() <= 2);
    world.wait(2);
    assert_eq!(world.renew(&job, &[]).await.rule(), "deadline");
    assert!(!world.is_active(last.str("access_token")).await);
    assert_eq!(
        world
            .ask(
                &signed(&claims(&world, 1, 2)),
                Some(&job.key),
                &[("resource", ARTIFACTS)]
            )
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_client_that_ended_sees_nothing_of_the_task_that_goes_on() {
    let world = World::new().await;
    let first = world.job_of(2, 1, &[]).await;
    let second = {
        let key = new_key();
        let proof = signed(&with(claims(&world, 2, 1), json!({"check_run_id": "2"})));
        let reply = world.ask(&proof, Some(&key), &[]).await;
        Job::of(key, proof, &reply)
    };
    assert_eq!(first.task, second.task);
    assert_eq!(world.end(&first).await.status, 200);
    assert_eq!(
        world.end(&first).await.status,
        200,
        "the first answer again"
    );
    assert!(world.is_open(&first.task));
    let path = format!("/tasks/{}", first.task);
    assert_eq!(
        world.call(&first, "GET", &path, "").await.rule(),
        "client_ended"
    );
    // What it did it may take along, for as long as after an end of the task.
    assert_eq!(receipt(&world, &first).await.status, 200);
    assert_eq!(world.beat(&first).await.rule(), "client_ended");
    assert_eq!(world.renew(&first, &[]).await.rule(), "client_ended");
    assert_eq!(world.end_task(&first, "failed").await.status, 401);
    let path = format!("/clients/{}/end", second.client);
    assert_eq!(
        world
            .call(&first, "POST", &path, r#"{"outcome":"failed"}"#)
            .await
            .status,
        401
    );
    assert!(world.is_open(&first.task) && world.is_active(&second.token).await);
    // Its spent proof neither revives it nor joins again.
    assert_eq!(
        world.ask(&first.proof, Some(&first.key), &[]).await.rule(),
        "client_ended"
    );
    assert_eq!(
        world.ask(&first.proof, Some(&new_key()), &[]).await.status,
        400
    );
}

#[tokio::test]
async fn a_bearer_credential_reads_and_beats_and_does_not_end() {
    let world = World::new().await;
    let proof = signed(&claims(&world, 3, 1));
    let granted = world.ask(&proof, None, &[("resource", ARTIFACTS)]).await;
    assert_eq!(granted.str("token_type"), "Bearer");
    let token = granted.str("access_token");
    let task = granted.str("task");
    let bearer = format!("Bearer {token}");
    assert_eq!(
        world
            .call_with(&bearer, None, "GET", &format!("/tasks/{task}"), "")
            .await
            .status,
        200
    );
    assert_eq!(
        world
            .call_with(
                &bearer,
                None,
                "POST",
                &format!("/tasks/{task}/heartbeat"),
                ""
            )
            .await
            .status,
        200
    );
    let end = format!("/tasks/{task}/end");
    let body = r#"{"outcome":"failed"}"#;
    assert_eq!(
        world
            .call_with(&bearer, None, "POST", &end, body)
            .await
            .rule(),
        "dpop_missing"
    );
    let key = new_key();
    let nonce = world.app.nonce();
    let own = super::job::proof(&world, &key, "POST", &end, Some(&nonce), Some(token));
    for scheme in ["DPoP", "Bearer"] {
        let reply = world
            .call_with(&format!("{scheme} {token}"), Some(&own), "POST", &end, body)
            .await;
        assert_eq!(reply.status, 401);
    }
    assert!(world.is_open(task));
    // Its proof is spent: neither without a key again, nor with one.
    assert_eq!(
        world
            .ask(&proof, None, &[("resource", ARTIFACTS)])
            .await
            .rule(),
        "proof_spent"
    );
    assert_eq!(
        world
            .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
            .await
            .rule(),
        "retry_other_key"
    );
    // A fresh proof of the same instance renews the same client, and gives a key nothing.
    let fresh = signed(&claims(&world, 3, 1));
    let renewed = world.ask(&fresh, None, &[("resource", ARTIFACTS)]).await;
    assert_eq!(
        (renewed.status, renewed.str("client_id")),
        (200, granted.str("client_id"))
    );
    let fresh = signed(&claims(&world, 3, 1));
    assert_eq!(
        world
            .ask(&fresh, Some(&key), &[("resource", ARTIFACTS)])
            .await
            .rule(),
        "already_open"
    );
}

/// A token that lies in a log is no client: once it is dead nobody ends anything by it, and who holds
/// the key it was bound to still ends its own client by it (RFC 7009, section 2.2).
#[tokio::test]
async fn an_expired_token_ends_nothing_but_by_the_key_it_was_bound_to() {
    let world = World::new().await;
    let revoke = async |token: &str, key: Option<&SigningKey>| {
        let proof = key.map(|key| super::job::dpop(&world, key, "POST", "/revoke"));
        let headers: Vec<(&str, &str)> = proof.iter().map(|p| ("dpop", p.as_str())).collect();
        world.form("/revoke", &[("token", token)], &headers).await
    };
    let shown = signed(&claims(&world, 3, 1));
    let granted = world.ask(&shown, None, &[("resource", ARTIFACTS)]).await;
    let (task, token) = (granted.str("task"), granted.str("access_token"));
    let bound = world.job(2).await;
    world.wait(301);
    let size = world.size();
    for _ in 0..2 {
        assert_eq!(revoke(token, None).await.status, 200);
    }
    assert_eq!(revoke(&bound.token, Some(&new_key())).await.status, 200);
    assert_eq!(revoke(&bound.token, None).await.status, 401);
    assert_eq!(world.size(), size, "nothing is recorded");
    assert!(world.is_open(task) && world.is_open(&bound.task));
    // The client goes on by its platform's next proof, and gives that token back while it lives.
    let fresh = signed(&claims(&world, 3, 1));
    let renewed = world.ask(&fresh, None, &[("resource", ARTIFACTS)]).await;
    assert_eq!(renewed.str("client_id"), granted.str("client_id"));
    assert_eq!(revoke(token, None).await.status, 200);
    assert!(world.is_active(renewed.str("access_token")).await);
    let own = revoke(renewed.str("access_token"), None).await;
    assert_eq!(own.status, 200);
    assert!(!world.is_open(task));
    assert_eq!(revoke(&bound.token, Some(&bound.key)).await.status, 200);
    assert!(!world.is_open(&bound.task));
}

/// Two jobs of one run in one task, each with its own root client.
async fn two_roots(world: &World) -> (Job, Job) {
    let first = world.job_of(2, 1, &[]).await;
    let key = new_key();
    let proof = signed(&with(claims(world, 2, 1), json!({"check_run_id": "2"})));
    let reply = world.ask(&proof, Some(&key), &[]).await;
    let second = Job::of(key, proof, &reply);
    assert_eq!(first.task, second.task);
    (first, second)
}

#[tokio::test]
async fn a_repeat_is_for_those_who_could_have_ended_it_and_counts_from_their_own_end_too() {
    let world = World::new().await;
    let (first, second) = two_roots(&world).await;
    let answer = world.end(&first).await;
    assert_eq!(answer.body["task_ended"], false);
    world.wait(500);
    let second = Job {
        token: world.renew(&second, &[]).await.str("access_token").into(),
        ..second
    };
    assert_eq!(world.end(&second).await.body["task_ended"], true);
    let of_second = format!("/clients/{}/end", second.client);
    let body = r#"{"outcome":"failed"}"#;
    let reply = world.call(&first, "POST", &of_second, body).await;
    assert_eq!((reply.status, reply.rule()), (401, "task_ended"));
    // The first answer again: that the task ended since is no part of it.
    let mut again = world.end(&first).await.body;
    again["head"] = answer.body["head"].clone();
    assert_eq!(again, answer.body);
    assert_eq!(world.end_task(&first, "failed").await.status, 200);
    // Ten minutes after its own end, although the task's is not that long ago.
    world.wait(101);
    assert_eq!(world.end_task(&first, "failed").await.rule(), "task_ended");
    assert_eq!(receipt(&world, &first).await.rule(), "task_ended");
    assert_eq!(world.end_task(&second, "failed").await.status, 200);
}

/// What a client that ended may know of one that it could not have ended: nothing, whatever that
/// one does meanwhile.
#[tokio::test]
async fn a_repeat_tells_nothing_of_a_client_that_the_caller_could_not_have_ended() {
    let world = World::new().await;
    let body = r#"{"outcome":"failed"}"#;
    let refused = async |by: &Job, of: &Job| {
        let path = format!("/clients/{}/end", of.client);
        let reply = world.call(by, "POST", &path, body).await;
        assert_eq!((reply.status, reply.rule()), (401, "task_ended"));
        reply.body["refused"].clone()
    };
    let (first, second) = two_roots(&world).await;
    assert_eq!(world.end(&first).await.status, 200);
    let while_open = refused(&first, &second).await;
    assert_eq!(world.end(&second).await.status, 200);
    assert_eq!(refused(&first, &second).await, while_open);

    // Nor when it ended.
    let (first, second) = {
        let first = world.job_of(2, 3, &[]).await;
        let proof = signed(&with(claims(&world, 2, 3), json!({"check_run_id": "4"})));
        let key = new_key();
        let reply = world.ask(&proof, Some(&key), &[]).await;
        (first, Job::of(key, proof, &reply))
    };
    assert_eq!(world.end(&second).await.status, 200);
    world.wait(601);
    let first = Job {
        token: world.renew(&first, &[]).await.str("access_token").into(),
        ..first
    };
    assert_eq!(world.end(&first).await.status, 200);
    assert_eq!(refused(&first, &second).await, while_open);
}

#[tokio::test]
async fn a_repeat_reads_the_record_once() {
    let world = World::new().await;
    let job = world.job(1).await;
    assert_eq!(world.end_task(&job, "completed").await.status, 200);
    let before = world.store.reads();
    let task = job.task.parse().unwrap();
    dayfly_server::record::task_state(world.store.as_ref(), &acme(), task).unwrap();
    let once = world.store.reads() - before;
    let before = world.store.reads();
    assert_eq!(world.end_task(&job, "completed").await.status, 200);
    assert_eq!(world.store.reads() - before, once);
}

/// The history of a task may be long: it is not read where requests are served.
#[tokio::test]
async fn no_history_is_read_where_requests_are_served() {
    let world = World::new().await;
    let job = world.job(1).await;
    let here = std::thread::current().id();
    world.store.readers();
    assert_eq!(world.end_task(&job, "completed").await.status, 200);
    assert_eq!(
        world.store.readers(),
        [],
        "a first end reads no history at all"
    );
    let read_elsewhere = |what: &str| {
        let readers = world.store.readers();
        assert!(!readers.is_empty() && !readers.contains(&here), "{what}");
    };
    assert_eq!(world.end_task(&job, "completed").await.status, 200);
    read_elsewhere("a repeated end");
    assert_eq!(receipt(&world, &job).await.status, 200);
    read_elsewhere("a receipt");
    let (more, thief) = ([("resource", ARTIFACTS)], new_key());
    let reply = world.ask(&job.proof, Some(&thief), &more).await;
    assert_eq!(reply.rule(), "retry_other_key");
    read_elsewhere("whose key it was");
}

/// The server looks for ends that are due twice a second: what a call is answered in between is
/// what it is answered after.
#[tokio::test]
async fn an_end_that_is_due_is_recorded_by_the_call_that_asks_for_one() {
    let world = World::new().await;
    let job = world.job(1).await;
    world.wait(3600);
    // Whoever holds the token alone ends nothing, and records nothing either.
    let path = format!("/tasks/{}/end", job.task);
    let (thief, nonce) = (new_key(), world.app.nonce());
    let by_thief = proof(
        &world,
        &thief,
        "POST",
        &path,
        Some(&nonce),
        Some(&job.token),
    );
    let authorization = format!("DPoP {}", job.token);
    let body = r#"{"outcome":"failed"}"#;
    let reply = world
        .call_with(&authorization, Some(&by_thief), "POST", &path, body)
        .await;
    assert_eq!((reply.status, reply.rule()), (401, "other_key"));
    assert!(world.is_open(&job.task));
    let first = world.end_task(&job, "completed").await;
    assert_eq!((first.status, first.str("cause")), (200, "deadline"));
    assert!(!world.is_open(&job.task));
    world.app.sweep().await;
    assert_eq!(world.end_task(&job, "completed").await.body, first.body);
    assert_eq!(world.count("task.ended", &job.task), 1);

    let job = world.job(2).await;
    assert_eq!(world.beat(&job).await.status, 200);
    for _ in 0..60 {
        world.wait(5);
        world.app.sweep().await;
    }
    world.wait(1);
    assert_eq!(world.beat(&job).await.rule(), "silent");
    let ended = world.end(&job).await;
    assert_eq!((ended.status, ended.str("cause")), (200, "heartbeat"));
    assert_eq!(world.end(&job).await.body, ended.body);
}
