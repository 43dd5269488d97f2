//! What refusals cost, what they keep and what they give away.

use super::job::signed_as;
use super::job::{JWT_BEARER, claims, new_key, signed};
use super::world::{ARTIFACTS, World, acme, platform};
use dayfly_store::{EntryRange, Store};

/// The whole of a caller's text in the ring would let anyone fill the memory.
#[tokio::test]
async fn a_refusal_keeps_and_answers_little_of_what_the_caller_sent() {
    let world = World::new().await;
    let long = "x".repeat(60_000);
    let job = world.job(1).await;
    let proof = signed(&claims(&world, 1, 2));
    let nested = format!(r#"[{{"type":"artifact","{long}":1}}]"#);
    let kind = format!(r#"[{{"type":"{long}"}}]"#);
    let path = format!(r#"[{{"type":"artifact","identifier":"{long}"}}]"#);
    let url = format!("https://{}.example/", "x".repeat(50_000));
    let mut replies = vec![
        world.form("/token", &[("grant_type", &long)], &[]).await,
        world
            .form("/token", &[(&long, "1"), (&long, "2")], &[])
            .await,
        world
            .form(
                "/token",
                &[("grant_type", JWT_BEARER), ("assertion", &long)],
                &[],
            )
            .await,
        world
            .form(
                "/token",
                &[
                    ("grant_type", JWT_BEARER),
                    ("assertion", &proof),
                    ("resource", &format!("{url}#x")),
                ],
                &[],
            )
            .await,
        world
            .form(
                "/token",
                &[
                    ("grant_type", super::job::EXCHANGE),
                    ("subject_token", "x"),
                    ("subject_token_type", &long),
                ],
                &[],
            )
            .await,
        world
            .form(
                "/token",
                &[
                    ("grant_type", "client_credentials"),
                    ("client_assertion", "x"),
                    ("client_assertion_type", &long),
                ],
                &[],
            )
            .await,
        world
            .form(
                "/revoke",
                &[
                    ("token", "x"),
                    ("client_assertion", "x"),
                    ("client_assertion_type", &long),
                ],
                &[],
            )
            .await,
        world
            .send(
                "GET",
                &format!("/tasks/{}", "x".repeat(8000)),
                &[("authorization", "DPoP x")],
                "",
            )
            .await,
    ];
    let key = new_key();
    for more in [
        [("scope", long.as_str())],
        [("authorization_details", nested.as_str())],
        [("authorization_details", kind.as_str())],
        [("authorization_details", path.as_str())],
        [("client_id", long.as_str())],
        [("resource", url.as_str())],
        [("audience", long.as_str())],
    ] {
        replies.push(world.ask(&proof, Some(&key), &more).await);
        replies.push(world.renew(&job, &more).await);
    }
    for reply in &replies {
        assert!((400..500).contains(&reply.status), "{}", reply.status);
        assert!(
            reply.text.len() < 2048,
            "{} bytes: {:.200}",
            reply.text.len(),
            reply.text
        );
        let id = reply.str("refusal").parse().unwrap();
        let kept = world.app.why(id).unwrap();
        let bytes = serde_json::to_string(&*kept).unwrap().len();
        assert!(
            bytes < 8192,
            "{bytes} bytes in the ring: {:.200}",
            reply.text
        );
    }
}

#[tokio::test]
async fn a_live_client_cannot_keep_its_refusals_out_of_the_ledger_by_their_size() {
    let world = World::new().await;
    let job = world.job(1).await;
    let before = world.size();
    let field = format!(r#"[{{"type":"artifact","{}":1}}]"#, "\u{1}".repeat(9_000));
    let field = field.replace('\u{1}', "y");
    assert_eq!(
        world
            .renew(&job, &[("authorization_details", &field)])
            .await
            .status,
        400
    );
    let end = world.end(&job).await;
    assert_eq!(end.status, 200);
    let refused = world.leaves()[before as usize..]
        .iter()
        .filter(|leaf| leaf["kind"] == "refused")
        .count();
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn nobody_fills_the_ledger_from_outside() {
    let world = World::new().await;
    let before = world.size();
    let stranger = new_key();
    for n in 0..40 {
        let forged = signed_as(&stranger, None, Some("k1"), &claims(&world, 1, n));
        world.ask(&forged, Some(&stranger), &[]).await;
        let foreign = signed(&claims(&world, 77, n));
        world.ask(&foreign, Some(&stranger), &[]).await;
        world
            .form("/token", &[("grant_type", "password")], &[])
            .await;
        world.form("/introspect", &[("token", "x")], &[]).await;
        world.form("/revoke", &[("token", "x")], &[]).await;
        world.send("GET", "/tasks/x", &[], "").await;
    }
    assert_eq!(world.size(), before);
    // A proof that matches a workload: ten leaves a minute, the rest counted in one.
    let key = new_key();
    for n in 0..40 {
        let proof = signed(&claims(&world, 1, n));
        let reply = world.ask(&proof, Some(&key), &[("scope", "nothing")]).await;
        assert_eq!(reply.rule(), "scope_unknown");
    }
    world.wait(60);
    world.app.sweep().await;
    let job = world.job(99).await;
    world.end(&job).await;
    let refused: Vec<_> = world
        .leaves()
        .into_iter()
        .filter(|leaf| leaf["kind"] == "refused")
        .collect();
    assert_eq!(refused.len(), 11);
    assert_eq!(refused[10]["data"]["more"], 30);
}

#[tokio::test]
async fn leaves_name_no_person_no_claim_and_no_token() {
    let world = World::new().await;
    let job = world.job_of(3, 1, &[("resource", ARTIFACTS)]).await;
    world.renew(&job, &[("scope", "nothing")]).await;
    let thief = new_key();
    assert_eq!(
        world
            .ask(&job.proof, Some(&thief), &[("resource", ARTIFACTS)])
            .await
            .rule(),
        "retry_other_key"
    );
    world.end(&job).await;
    let leaves = world.leaves();
    let text = serde_json::to_string(&leaves).unwrap();
    for secret in [
        "octo-org",
        "583231",
        "repo:",
        "refs/heads/main",
        &job.token,
        &job.proof,
        "127.0.0.1",
    ] {
        assert!(!text.contains(secret), "{secret} stands in a leaf");
    }
    let entries = world
        .store
        .entries(&acme(), EntryRange::From(0), 1000)
        .unwrap();
    for annex in entries.iter().filter_map(|entry| entry.annex.as_ref()) {
        for secret in [&job.token, &job.proof] {
            assert!(
                !annex.data.contains(secret.as_str()),
                "a token stands in an annex"
            );
        }
    }
}

#[tokio::test]
async fn a_caller_learns_nothing_of_what_would_have_passed() {
    let world = World::new().await;
    let key = new_key();
    let foreign = signed(&claims(&world, 77, 1));
    let proof = signed(&claims(&world, 1, 1));
    let asked = r#"[{"type":"artifact","identifier":"evil/x"}]"#;
    let replies = [
        world.ask(&foreign, Some(&key), &[]).await,
        world
            .ask(&proof, Some(&key), &[("authorization_details", asked)])
            .await,
        world
            .ask(&proof, Some(&key), &[("client_id", "matrix")])
            .await,
        world.ask(&proof, Some(&key), &[]).await,
        world
            .ask(
                &signed_as(platform(), None, Some("k9"), &claims(&world, 1, 1)),
                Some(&key),
                &[],
            )
            .await,
    ];
    for reply in replies {
        assert_eq!(reply.status, 400);
        for secret in [
            "octo/",
            "release",
            "queue.example",
            "wanted",
            "hint",
            "team",
        ] {
            assert!(!reply.text.contains(secret), "{secret}: {}", reply.text);
        }
    }
}

/// Whoever shows a proof of a run learns nothing of the task that another one opened for it; the
/// operator does.
#[tokio::test]
async fn a_caller_learns_nothing_of_anothers_task() {
    let world = World::new().await;
    let job = world.job(1).await;
    let told = |reply: super::world::Reply, rule: &str| {
        assert_eq!(reply.rule(), rule);
        for of_another in [&job.task, &job.client, &job.task[5..]] {
            assert!(!reply.text.contains(of_another), "{}", reply.text);
        }
        let why = world.app.why(reply.str("refusal").parse().unwrap());
        why.unwrap().hint.clone()
    };
    let fresh = signed(&claims(&world, 1, 1));
    let reply = world
        .ask(&fresh, Some(&new_key()), &[("resource", ARTIFACTS)])
        .await;
    assert!(told(reply, "already_open").contains(&job.task));
    world.end(&job).await;
    let reply = world.ask(&job.proof, None, &[]).await;
    assert!(told(reply, "proof_spent").contains(&job.task));
}
