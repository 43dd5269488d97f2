//! Introspection and revocation: for the audience alone, of the own alone.

use std::ops::ControlFlow;

use dayfly_store::{BackupOptions, BackupProgress, backup, fsck};
use serde_json::json;

use super::job::{ASSERTION_TYPE, dpop, new_key, proof, signed_as, with};
use super::world::{ARTIFACTS, FORM, ISSUER, World, encoded, platform};

#[tokio::test]
async fn introspection_is_for_the_resource_that_authenticates_and_is_the_audience() {
    let world = World::new().await;
    let job = world.job(1).await;
    let active = world.introspect("artifacts", &job.token).await;
    assert_eq!(active["active"], true);
    assert_eq!(active["cnf"]["jkt"], job.key.thumbprint().to_string());
    let dead = json!({"active": false});
    let (head, signature) = job.token.rsplit_once('.').unwrap();
    let mut flipped = signature.to_owned();
    let first = if flipped.starts_with('A') { "B" } else { "A" };
    flipped.replace_range(0..1, first);
    for token in [
        "x",
        "",
        "a.b.c",
        &format!("{head}.{flipped}"),
        &format!("{head}."),
        &format!("{} ", job.token),
        &format!("{}=", job.token),
        &"x".repeat(9000),
        &job.task,
        &job.client,
        &job.proof,
    ] {
        if !token.is_empty() {
            assert_eq!(
                world.introspect("artifacts", token).await,
                dead,
                "{token:.60}"
            );
        }
    }
    for authorization in [
        "Basic YXJ0aWZhY3RzOng=",
        "Basic OnNlY3JldCBvZiBhcnRpZmFjdHM=",
        "Basic !!!",
        "Basic",
        "Bearer x",
        "Basic bm9ib2R5OnNlY3JldCBvZiBhcnRpZmFjdHM=",
        "Basic YXJ0aWZhY3Rz",
        "DPoP x",
    ] {
        let reply = world
            .form(
                "/introspect",
                &[("token", &job.token)],
                &[("authorization", authorization)],
            )
            .await;
        assert_eq!(
            reply.refusal(),
            (401, "invalid_client", "authentication"),
            "{authorization}"
        );
        assert!(reply.header("www-authenticate").starts_with("Basic"));
        assert!(!reply.text.contains("active"));
    }
    let nobody = world
        .form("/introspect", &[("token", &job.token)], &[])
        .await;
    assert_eq!(nobody.refusal(), (401, "invalid_client", "authentication"));
    // A client's own assertion, or its credential, makes it no resource.
    let own = super::job::assertion(&world, &job.key, &job.client);
    let form = [
        ("token", job.token.as_str()),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", own.as_str()),
    ];
    assert_eq!(
        world.form("/introspect", &form, &[]).await.refusal(),
        (401, "invalid_client", "authentication")
    );
    // A resource that exists is refused as one that does not.
    let mut said = Vec::new();
    for name in ["nobody", "artifacts", "keyed"] {
        let assertion = super::job::assertion(&world, &new_key(), name);
        let form = [
            ("token", job.token.as_str()),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.as_str()),
        ];
        let reply = world.form("/introspect", &form, &[]).await;
        said.push((
            reply.status,
            reply.body["error"].clone(),
            reply.body["refused"].clone(),
        ));
    }
    assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{said:?}");
}

#[tokio::test]
async fn a_resource_that_authenticates_by_a_key_does_so_for_this_issuer_and_once() {
    let world = World::new().await;
    let job = world.job(1).await;
    let now = world.now();
    let good = json!({
        "iss": "keyed", "sub": "keyed", "aud": ISSUER, "iat": now, "exp": now + 60, "jti": "r",
    });
    let ask = |assertion: String| {
        let (world, token) = (&world, job.token.clone());
        async move {
            let form = [
                ("token", token.as_str()),
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", assertion.as_str()),
            ];
            world.form("/introspect", &form, &[]).await
        }
    };
    for change in [
        json!({"aud": format!("{ISSUER}/introspect")}),
        json!({"aud": [ISSUER, "x"]}),
        json!({"iss": "artifacts", "sub": "artifacts"}),
        json!({"iss": "artifacts"}),
        json!({"exp": now - 61}),
        json!({"jti": null}),
    ] {
        let assertion = signed_as(platform(), None, Some("r1"), &with(good.clone(), change));
        assert_eq!(
            ask(assertion).await.refusal(),
            (401, "invalid_client", "authentication")
        );
    }
    for typ in ["at+jwt", "dpop+jwt", "secevent+jwt"] {
        let assertion = signed_as(platform(), Some(typ), Some("r1"), &good);
        assert_eq!(ask(assertion).await.status, 401);
    }
    let once = signed_as(platform(), None, Some("r1"), &good);
    // It is another resource's token: the caller is told nothing more.
    assert_eq!(ask(once.clone()).await.body, json!({"active": false}));
    assert_eq!(ask(once).await.rule(), "assertion_spent");
    // What it spent is no damage to who looks at the database, or copies it.
    let (database, copy) = (
        world.folder.path().join("dayfly.db"),
        world.folder.path().join("copy.db"),
    );
    let report = fsck(&database).unwrap();
    std::fs::File::create(&copy).unwrap();
    let going_on = |_: &BackupProgress| ControlFlow::Continue(());
    backup(&database, &copy, BackupOptions::default(), going_on).unwrap();
    assert_eq!(fsck(&copy).unwrap(), report);
}

#[tokio::test]
async fn revoking_what_is_not_ones_own_is_answered_ok_and_changes_nothing() {
    let world = World::new().await;
    let (job, other) = (world.job(1).await, world.job(2).await);
    let size = world.size();
    let by_other = |token: &str| {
        let (world, other, token) = (&world, &other, token.to_owned());
        async move {
            let header = dpop(world, &other.key, "POST", "/revoke");
            world
                .form("/revoke", &[("token", &token)], &[("dpop", &header)])
                .await
        }
    };
    for token in [job.token.as_str(), "x", "a.b.c", &job.proof, &job.client] {
        assert_eq!(by_other(token).await.status, 200, "{token:.40}");
    }
    let assertion = super::job::assertion(&world, &other.key, &other.client);
    let form = [
        ("token", job.token.as_str()),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion.as_str()),
    ];
    assert_eq!(world.form("/revoke", &form, &[]).await.status, 200);
    let stranger = world.form("/revoke", &[("token", &job.token)], &[]).await;
    assert_eq!(
        stranger.refusal(),
        (401, "invalid_client", "authentication")
    );
    // A proof made for the token endpoint does not revoke.
    let elsewhere = dpop(&world, &job.key, "POST", "/token");
    let reply = world
        .form("/revoke", &[("token", &job.token)], &[("dpop", &elsewhere)])
        .await;
    assert_eq!(reply.refusal(), (400, "invalid_dpop_proof", "dpop"));
    assert!(world.is_active(&job.token).await && world.is_active(&other.token).await);
    assert_eq!(world.size(), size);
    // Its own: an older one only itself, the newest its client.
    let newer = world.renew(&job, &[]).await;
    let newer = newer.str("access_token");
    let revoke = |token: String| {
        let (world, job) = (&world, &job);
        async move {
            let header = dpop(world, &job.key, "POST", "/revoke");
            world
                .form(
                    "/revoke",
                    &[("token", &token), ("token_type_hint", "nonsense")],
                    &[("dpop", &header)],
                )
                .await
        }
    };
    assert_eq!(revoke(job.token.clone()).await.status, 200);
    assert!(!world.is_active(&job.token).await && world.is_active(newer).await);
    assert_eq!(revoke(newer.to_owned()).await.status, 200);
    assert!(!world.is_active(newer).await && !world.is_open(&job.task));
    assert_eq!(revoke(newer.to_owned()).await.status, 200, "again");
    assert_eq!(world.renew(&job, &[]).await.rule(), "task_ended");
    // A revoked older credential does nothing for its holder.
    let show = format!("/tasks/{}", job.task);
    let header = proof(
        &world,
        &job.key,
        "GET",
        &show,
        Some(&world.app.nonce()),
        Some(&job.token),
    );
    let reply = world
        .call_with(
            &format!("DPoP {}", job.token),
            Some(&header),
            "GET",
            &show,
            "",
        )
        .await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn a_secret_is_form_decoded_and_compared_whole() {
    let world = World::new().await;
    let job = world.job(1).await;
    let post = |id: &'static str, secret: &'static str| {
        let (world, token) = (&world, job.token.clone());
        async move {
            let form = encoded(&[
                ("token", &token),
                ("client_id", id),
                ("client_secret", secret),
            ]);
            world
                .send("POST", "/introspect", &[("content-type", FORM)], form)
                .await
                .status
        }
    };
    assert_eq!(post("artifacts", "secret of artifacts").await, 200);
    for secret in [
        "secret of artifacts ",
        "secret of artifact",
        "Secret of artifacts",
        "secret of artifacts\n",
        "secret+of+artifacts",
        "secret of queue",
    ] {
        assert_eq!(post("artifacts", secret).await, 401, "{secret}");
    }
    assert_eq!(post("queue", "secret of artifacts").await, 401);
    assert_eq!(post("ARTIFACTS", "secret of artifacts").await, 401);
    assert_eq!(
        world.renew(&job, &[("resource", ARTIFACTS)]).await.status,
        200
    );
}
