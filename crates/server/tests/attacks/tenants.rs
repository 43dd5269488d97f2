//! Tenants: the same platform, names and declarations, and nothing of one counts at the other.

use base64::Engine;
use serde_json::{Value, json};

use super::job::{
    ASSERTION_TYPE, EXCHANGE, JWT_BEARER, TYPE_ACCESS_TOKEN, claims, new_key, signed, signed_as,
    with,
};
use super::world::{ARTIFACTS, FORM, ISSUER, PUBLIC, World, encoded};

fn basic() -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode("artifacts:secret+of+artifacts");
    format!("Basic {encoded}")
}

#[tokio::test]
async fn a_token_of_one_tenant_is_nothing_at_another() {
    let world = World::new().await;
    let job = world.job(1).await;
    let post = |path: &'static str,
                form: Vec<(&'static str, String)>,
                headers: Vec<(&'static str, String)>| {
        let world = &world;
        async move {
            let form: Vec<_> = form
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let mut all = vec![("content-type", FORM)];
            all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
            world.send_to("POST", path, &all, encoded(&form)).await
        }
    };
    let before = world.store_size("other");
    let reply = post(
        "/other/introspect",
        vec![("token", job.token.clone())],
        vec![("authorization", basic())],
    )
    .await;
    assert_eq!((reply.status, reply.body), (200, json!({"active": false})));
    // The same name, the same secret: the token of `acme` says nothing at `other`, nor the reverse.
    let elsewhere = |path: &str| {
        dayfly_token::client::dpop_proof(
            &job.key,
            &dayfly_token::client::ProofRequest {
                method: "POST",
                url: &format!("{PUBLIC}/other{path}"),
                now: world.now(),
                jti: &super::world::unique(),
                nonce: Some(&world.app.nonce()),
                access_token: Some(&job.token),
            },
        )
        .unwrap()
    };
    let narrow = vec![
        ("grant_type", EXCHANGE.to_owned()),
        ("subject_token", job.token.clone()),
        ("subject_token_type", TYPE_ACCESS_TOKEN.to_owned()),
    ];
    let reply = post("/other/token", narrow, vec![("dpop", elsewhere("/token"))]).await;
    assert_eq!(reply.refusal(), (400, "invalid_request", "credential"));
    let renew = |assertion: String| {
        vec![
            ("grant_type", "client_credentials".to_owned()),
            ("client_assertion_type", ASSERTION_TYPE.to_owned()),
            ("client_assertion", assertion),
        ]
    };
    let claims_of = |audience: &str| {
        json!({
            "iss": job.client, "sub": job.client, "aud": audience, "iat": world.now(), "exp": world.now() + 60,
            "jti": super::world::unique(),
        })
    };
    for audience in [ISSUER, "https://dayfly.example/other"] {
        let assertion = signed_as(&job.key, None, None, &claims_of(audience));
        let reply = post("/other/token", renew(assertion), vec![]).await;
        assert_eq!(reply.rule(), "task_ended");
    }
    let reply = post(
        "/other/revoke",
        vec![("token", job.token.clone())],
        vec![("dpop", elsewhere("/revoke"))],
    )
    .await;
    assert_eq!(reply.status, 200);
    for path in [
        format!("/tasks/{}/end", job.task),
        format!("/clients/{}/end", job.client),
        format!("/tasks/{}/heartbeat", job.task),
    ] {
        let dpop = elsewhere(&path);
        let headers = [
            ("authorization", &*format!("DPoP {}", job.token)),
            ("dpop", &*dpop),
        ];
        let reply = world
            .send_to(
                "POST",
                &format!("/other{path}"),
                &headers,
                r#"{"outcome":"failed"}"#,
            )
            .await;
        assert_eq!((reply.status, reply.rule()), (401, "credential"), "{path}");
    }
    // A platform's token for `acme` does not open anything at `other`, and is not spent by that.
    let platforms = signed(&claims(&world, 1, 5));
    let form = vec![
        ("grant_type", JWT_BEARER.to_owned()),
        ("assertion", platforms.clone()),
    ];
    let reply = post("/other/token", form, vec![("dpop", elsewhere("/token"))]).await;
    assert_eq!(reply.rule(), "audience");
    assert_eq!(
        world
            .ask(&platforms, Some(&new_key()), &[("resource", ARTIFACTS)])
            .await
            .status,
        200
    );
    assert!(world.is_active(&job.token).await);
    assert_eq!(world.store_size("other"), before);
}

#[tokio::test]
async fn a_credential_signed_by_another_tenants_key_under_this_ones_kid_is_nothing() {
    let world = World::new().await;
    let job = world.job(1).await;
    let keys: Value = world.send_to("GET", "/acme/jwks", &[], "").await.body;
    let others: Value = world.send_to("GET", "/other/jwks", &[], "").await.body;
    assert_ne!(keys["keys"][0]["kid"], others["keys"][0]["kid"]);
    for key in keys["keys"].as_array().unwrap() {
        assert_eq!(key["d"], Value::Null, "a private part is published");
    }
    let claims = super::job::payload(&job.token);
    let kid = keys["keys"][0]["kid"].as_str().unwrap();
    let path = format!("/tasks/{}", job.task);
    for (key, typ, kid) in [
        (new_key(), "at+jwt", kid),
        (job.key.clone(), "at+jwt", kid),
        (job.key.clone(), "JWT", kid),
    ] {
        let forged = signed_as(&key, Some(typ), Some(kid), &claims);
        assert!(!world.is_active(&forged).await);
        let reply = world
            .call_with(&format!("Bearer {forged}"), None, "GET", &path, "")
            .await;
        assert_eq!((reply.status, reply.rule()), (401, "credential"));
    }
}

#[tokio::test]
async fn metadata_names_what_is_served_and_stands_in_three_places() {
    let world = World::new().await;
    let mut documents = Vec::new();
    for path in [
        "/.well-known/oauth-authorization-server/acme",
        "/.well-known/openid-configuration/acme",
        "/acme/.well-known/openid-configuration",
    ] {
        let reply = world
            .send_to("GET", path, &[("host", "evil.example")], "")
            .await;
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, "application/json")
        );
        documents.push(reply.body);
    }
    assert!(documents.windows(2).all(|pair| pair[0] == pair[1]));
    let document = &documents[0];
    assert_eq!(document["issuer"], ISSUER);
    for member in [
        "token_endpoint",
        "jwks_uri",
        "authorization_endpoint",
        "introspection_endpoint",
        "revocation_endpoint",
    ] {
        let url = document[member].as_str().unwrap();
        let path = url.strip_prefix(PUBLIC).unwrap();
        let reply = world.send_to("POST", path, &[], "").await;
        assert_ne!(reply.status, 404, "{member} is not served");
    }
    let text = document.to_string();
    for absent in [
        "registration_endpoint",
        "device",
        "team",
        "secret of",
        "octo",
    ] {
        assert!(!text.contains(absent), "{absent}");
    }
    assert_eq!(
        world
            .send_to("GET", "/acme/ledger/checkpoint", &[], "")
            .await
            .status,
        200
    );
}

/// The jobs of two tenants die together: each tenant's wait the same one grace.
#[tokio::test]
async fn every_tenants_silent_tasks_wait_alike() {
    let world = World::new().await;
    world.app.sweep().await;
    let mut tasks = Vec::new();
    for tenant in ["other", "acme"] {
        let issuer = format!("{PUBLIC}/{tenant}");
        for run in 1..=14 {
            let key = new_key();
            let prove = |path: &str, token: Option<&str>| {
                dayfly_token::client::dpop_proof(
                    &key,
                    &dayfly_token::client::ProofRequest {
                        method: "POST",
                        url: &format!("{issuer}{path}"),
                        now: world.now(),
                        jti: &super::world::unique(),
                        nonce: Some(&world.app.nonce()),
                        access_token: token,
                    },
                )
                .unwrap()
            };
            let token = signed(&with(claims(&world, 1, run), json!({"aud": issuer})));
            let form = encoded(&[
                ("grant_type", JWT_BEARER),
                ("assertion", &token),
                ("resource", ARTIFACTS),
            ]);
            let headers = [("content-type", FORM), ("dpop", &*prove("/token", None))];
            let granted = world
                .send_to("POST", &format!("/{tenant}/token"), &headers, form)
                .await;
            let token = granted.str("access_token").to_owned();
            let path = format!("/tasks/{}/heartbeat", granted.str("task"));
            let headers = [
                ("authorization", &*format!("DPoP {token}")),
                ("dpop", &*prove(&path, Some(&token))),
            ];
            let beaten = world
                .send_to("POST", &format!("/{tenant}{path}"), &headers, "")
                .await;
            assert_eq!(beaten.status, 200, "{}", beaten.text);
            tasks.push((tenant, granted.str("task").to_owned()));
        }
    }
    for _ in 0..62 {
        world.wait(5);
        world.app.sweep().await;
    }
    let open = |tenant: &str| {
        tasks
            .iter()
            .filter(|(of, task)| *of == tenant && world.is_open_at(tenant, task))
            .count()
    };
    assert_eq!(
        (open("acme"), open("other")),
        (14, 14),
        "one more grace for both"
    );
    for _ in 0..62 {
        world.wait(5);
        world.app.sweep().await;
    }
    assert_eq!((open("acme"), open("other")), (0, 0));
}

#[tokio::test]
async fn a_401_says_how_to_come_and_where_the_metadata_is() {
    let world = World::new().await;
    let job = world.job(1).await;
    let path = format!("/tasks/{}", job.task);
    let challenges = |reply: &super::world::Reply| -> Vec<String> {
        let values = reply.headers.get_all("www-authenticate").iter();
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    };
    let at = format!("resource_metadata=\"{PUBLIC}/.well-known/oauth-protected-resource/acme\"");
    let nobody = world.send("GET", &path, &[], "").await;
    assert_eq!(nobody.status, 401);
    let found = challenges(&nobody);
    let first = found[0].clone();
    assert!(first.starts_with("DPoP algs=\"RS256 ES256"), "{first}");
    assert!(first.ends_with(&at), "{first}");
    assert_eq!(found[1..], [format!("Bearer {at}")]);
    let dead = world
        .call_with("Bearer not-a-token", None, "GET", &path, "")
        .await;
    let found = challenges(&dead);
    assert!(
        found[0].starts_with("DPoP error=\"invalid_token\", algs=\""),
        "{found:?}"
    );
    assert_eq!(
        found[1..],
        [format!("Bearer error=\"invalid_token\", {at}")]
    );
    let unproven = world
        .call_with(&format!("DPoP {}", job.token), None, "GET", &path, "")
        .await;
    let found = challenges(&unproven);
    assert!(found[0].starts_with("DPoP error=\"invalid_dpop_proof\", "));
    assert_eq!(found[1..], [format!("Bearer {at}")]);

    let document = at.split('"').nth(1).unwrap().strip_prefix(PUBLIC).unwrap();
    let reply = world.send_to("GET", document, &[], "").await;
    assert_eq!((reply.status, reply.str("resource")), (200, ISSUER));
    assert_eq!(
        reply.body["authorization_servers"],
        serde_json::json!([ISSUER])
    );
    assert_eq!(
        reply.body["bearer_methods_supported"],
        serde_json::json!(["header"])
    );
    let missing = "/.well-known/oauth-protected-resource/nobody";
    assert_eq!(world.send_to("GET", missing, &[], "").await.status, 404);

    // Revocation is by the client's key, introspection by the resource's secret.
    let revoked = world.form("/revoke", &[("token", &job.token)], &[]).await;
    assert_eq!(revoked.status, 401);
    assert!(challenges(&revoked)[0].starts_with("DPoP algs="));
    let basic = [("authorization", "Basic d3Jvbmc6d3Jvbmc=")];
    let asked = world
        .form("/introspect", &[("token", &job.token)], &basic)
        .await;
    assert_eq!(asked.status, 401);
    assert_eq!(challenges(&asked), ["Basic realm=\"dayfly\""]);
}
