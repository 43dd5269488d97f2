//! Platform tokens and assertions: type, audience, algorithm and place, each its own.

use serde_json::json;

use super::job::{
    ASSERTION_TYPE, EXCHANGE, JWT_BEARER, TYPE_ACCESS_TOKEN, TYPE_JWT, claims, dpop, new_key,
    signed, signed_as, with,
};
use super::world::{ARTIFACTS, ISSUER, Reply, World, platform};

/// Shows a platform's token by one of the three ways in.
async fn show(world: &World, way: &str, token: &str) -> Reply {
    let header = dpop(world, &new_key(), "POST", "/token");
    let form = match way {
        "assertion" => vec![("grant_type", JWT_BEARER), ("assertion", token)],
        "client_assertion" => vec![
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", token),
        ],
        _ => vec![
            ("grant_type", EXCHANGE),
            ("subject_token_type", TYPE_JWT),
            ("subject_token", token),
        ],
    };
    let form: Vec<_> = form.into_iter().chain([("resource", ARTIFACTS)]).collect();
    world.form("/token", &form, &[("dpop", &header)]).await
}

const WAYS: [(&str, &str); 3] = [
    ("assertion", "invalid_grant"),
    ("client_assertion", "invalid_client"),
    ("subject_token", "invalid_request"),
];

#[tokio::test]
async fn each_way_in_takes_the_audiences_that_are_its_own() {
    let world = World::new().await;
    let mut run = 0;
    let (slash, endpoint) = (format!("{ISSUER}/"), format!("{ISSUER}/token"));
    for (way, error) in WAYS {
        let grant = way != "client_assertion";
        for (audience, accepted) in [
            (json!(ISSUER), true),
            (json!([ISSUER]), true),
            (json!(slash), grant),
            (json!(endpoint), grant),
            (json!([ISSUER, endpoint]), false),
            (json!([ISSUER, "https://artifacts.example/api"]), false),
            (json!([ISSUER, ISSUER]), false),
            (json!("https://dayfly.example/other"), false),
            (json!("https://dayfly.example"), false),
            (json!("https://github.com/octo-org"), false),
            (json!(ISSUER.to_uppercase()), false),
            (json!([]), false),
            (json!({"x": ISSUER}), false),
            (json!(null), false),
        ] {
            run += 1;
            let token = signed(&with(claims(&world, 1, run), json!({"aud": audience})));
            let reply = show(&world, way, &token).await;
            if accepted {
                assert_eq!(reply.status, 200, "{way} {audience}: {}", reply.text);
            } else {
                assert_eq!(
                    reply.refusal(),
                    (400, error, "audience"),
                    "{way} {audience}"
                );
            }
        }
    }
}

#[tokio::test]
async fn another_kind_of_jwt_is_no_platforms_token() {
    let world = World::new().await;
    let claims = claims(&world, 1, 1);
    for (way, error) in WAYS {
        for typ in [
            "at+jwt",
            "application/at+jwt",
            "AT+JWT",
            "secevent+jwt",
            "statuslist+jwt",
            "dpop+jwt",
            "oauth-id-jag+jwt",
            "txntoken+jwt",
            "logout+jwt",
            "wit+jwt",
            "client-authentication+jwt",
            "token-introspection+jwt",
            "kb+jwt",
            "",
        ] {
            let token = signed_as(platform(), Some(typ), Some("k1"), &claims);
            let reply = show(&world, way, &token).await;
            assert_eq!(reply.refusal(), (400, error, "token_type"), "{way} {typ}");
        }
    }
    // An own credential shown as a platform's token, and a platform's as an own.
    let job = world.job(2).await;
    for (way, error) in WAYS {
        assert_eq!(
            show(&world, way, &job.token).await.refusal(),
            (400, error, "token_type")
        );
    }
    let platforms = signed(&claims);
    assert_eq!(
        world.narrow(&platforms, Some(&job.key), &[]).await.rule(),
        "credential"
    );
    assert_eq!(
        world
            .call_with(
                &format!("Bearer {platforms}"),
                None,
                "GET",
                &format!("/tasks/{}", job.task),
                ""
            )
            .await
            .rule(),
        "credential"
    );
    assert!(!world.is_active(&platforms).await);
    assert_eq!(
        show(&world, "assertion", &platforms).await.status,
        200,
        "still unspent"
    );
}

#[tokio::test]
async fn a_forged_or_foreign_token_proves_nothing() {
    let world = World::new().await;
    let good = claims(&world, 1, 1);
    let stranger = new_key();
    let now = world.now();
    let before = world.size();
    let (header, rest) = signed(&good)
        .split_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let payload = rest.split('.').next().unwrap().to_owned();
    let head = |header: &str| dayfly_token::b64::encode(header);
    for (token, rule) in [
        (signed_as(&stranger, Some("JWT"), Some("k1"), &good), "key"),
        (signed_as(platform(), Some("JWT"), Some("k2"), &good), "key"),
        (
            format!("{}.{payload}.", head(r#"{"alg":"none","kid":"k1"}"#)),
            "algorithm",
        ),
        (
            format!("{}.{rest}", head(r#"{"alg":"HS256","kid":"k1"}"#)),
            "algorithm",
        ),
        (
            format!(
                "{}.{rest}",
                head(r#"{"alg":"RS256","kid":"k1","jku":"https://evil.example"}"#)
            ),
            "signature",
        ),
        (
            format!(
                "{}.{rest}",
                head(r#"{"alg":"RS256","kid":"k1","crit":["exp"]}"#)
            ),
            "token_form",
        ),
        (
            format!(
                "{}.{rest}",
                head(r#"{"alg":"RS256","alg":"none","kid":"k1"}"#)
            ),
            "token_form",
        ),
        (format!("{header}.{rest}="), "token_form"),
        (format!("{header}.{rest}.x.y"), "token_form"),
        (
            signed(&with(
                good.clone(),
                json!({"iss": "https://token.actions.githubusercontent.com/"}),
            )),
            "issuer",
        ),
        (
            signed(&with(good.clone(), json!({"iss": ISSUER}))),
            "issuer",
        ),
        (signed(&with(good.clone(), json!({"iss": null}))), "issuer"),
        (
            signed(&with(
                good.clone(),
                json!({"iss": ["https://token.actions.githubusercontent.com"]}),
            )),
            "issuer",
        ),
        (
            signed(&with(good.clone(), json!({"exp": now - 61}))),
            "times",
        ),
        (
            signed(&with(good.clone(), json!({"nbf": now + 61}))),
            "times",
        ),
        (
            signed(&with(good.clone(), json!({"iat": now + 61}))),
            "times",
        ),
        (
            signed(&with(
                good.clone(),
                json!({"iat": now - 3700, "exp": now + 300}),
            )),
            "proof_age",
        ),
        (
            signed(&with(good.clone(), json!({"exp": null}))),
            "claim_form",
        ),
        (
            signed(&with(good.clone(), json!({"exp": "1800000300"}))),
            "claim_form",
        ),
        (
            signed(&with(good.clone(), json!({"exp": 1e19}))),
            "claim_form",
        ),
        (
            signed(&with(good.clone(), json!({"jti": null}))),
            "claim_missing",
        ),
        (
            signed(&with(good.clone(), json!({"event_name": "pull_request"}))),
            "no_workload",
        ),
        (
            signed(&with(
                good.clone(),
                json!({"event_name": "pull_request_target"}),
            )),
            "no_workload",
        ),
        (
            signed(&with(good.clone(), json!({"event_name": null}))),
            "no_workload",
        ),
        (
            signed(&with(good.clone(), json!({"repository_id": "1 "}))),
            "claim_form",
        ),
        (
            signed(&with(good.clone(), json!({"repository_id": "1*"}))),
            "claim_form",
        ),
        (
            signed(&with(
                good.clone(),
                json!({"sub": "repo:octo-org@583231/octo-repo@9:ref:refs/heads/main"}),
            )),
            "claim_form",
        ),
    ] {
        let reply = show(&world, "assertion", &token).await;
        let got = reply.rule();
        let fits = got == rule || (rule == "claim_form" && got == "claim_missing");
        assert!(fits && reply.status == 400, "{rule}: {}", reply.text);
    }
    assert_eq!(
        world.size(),
        before,
        "nothing of it matched, nothing of it is recorded"
    );
}

#[tokio::test]
async fn a_token_is_spent_by_its_grant_however_it_is_shown_again() {
    let world = World::new().await;
    let job = world.job(1).await;
    world.end(&job).await;
    for (way, error) in WAYS {
        let reply = show(&world, way, &job.proof).await;
        assert_eq!(reply.status, 400);
        assert_eq!(reply.body["error"], error, "{}", reply.text);
    }
    // While the task is open, only the very same request by the very same key is answered again.
    let job = world.job(2).await;
    let same = world
        .ask(&job.proof, Some(&job.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(
        (same.status, same.str("client_id")),
        (200, job.client.as_str())
    );
    assert_ne!(same.str("access_token"), job.token);
    for more in [
        vec![],
        vec![("resource", ARTIFACTS), ("scope", "artifacts:publish")],
        vec![("resource", super::world::QUEUE)],
        vec![("resource", ARTIFACTS), ("authorization_details", "[]")],
    ] {
        let reply = world.ask(&job.proof, Some(&job.key), &more).await;
        assert_eq!(
            reply.refusal(),
            (400, "invalid_grant", "retry_differs"),
            "{more:?}"
        );
    }
    let thief = world
        .ask(&job.proof, Some(&new_key()), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(thief.rule(), "retry_other_key");
    let keyless = world
        .ask(&job.proof, None, &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(keyless.status, 400);
    let way = show(&world, "subject_token", &job.proof).await;
    assert_eq!(way.rule(), "retry_other_key");
}

#[tokio::test]
async fn an_own_assertion_is_for_this_issuer_alone_and_for_one_use() {
    let world = World::new().await;
    let job = world.job(1).await;
    let other = world.job(2).await;
    let now = world.now();
    let good = json!({
        "iss": job.client, "sub": job.client, "aud": ISSUER, "iat": now, "exp": now + 60, "jti": "own",
    });
    let make = |key: &dayfly_token::sign::SigningKey, typ, change| {
        signed_as(key, typ, None, &with(good.clone(), change))
    };
    let renew = |assertion: String, more: Vec<(&'static str, String)>| {
        let world = &world;
        async move {
            let mut form = vec![
                ("grant_type", "client_credentials"),
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", assertion.as_str()),
                ("resource", ARTIFACTS),
            ];
            form.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
            world.form("/token", &form, &[]).await
        }
    };
    let key = &job.key;
    for assertion in [
        make(key, None, json!({"aud": format!("{ISSUER}/token")})),
        make(key, None, json!({"aud": format!("{ISSUER}/")})),
        make(key, None, json!({"aud": [ISSUER, "x"]})),
        make(key, None, json!({"aud": "https://dayfly.example/other"})),
        make(key, None, json!({"exp": now + 361})),
        make(key, None, json!({"exp": u64::MAX})),
        make(key, None, json!({"exp": null})),
        make(key, None, json!({"jti": null})),
        make(key, None, json!({"jti": "x".repeat(300)})),
        make(key, Some("at+jwt"), json!({})),
        make(key, Some("dpop+jwt"), json!({})),
        make(&other.key, None, json!({})),
        make(key, None, json!({"iss": other.client, "sub": other.client})),
    ] {
        let reply = renew(assertion, vec![]).await;
        assert_eq!(
            reply.refusal(),
            (400, "invalid_client", "assertion"),
            "{}",
            reply.text
        );
    }
    let named = renew(
        make(key, None, json!({})),
        vec![("client_id", other.client.clone())],
    )
    .await;
    assert_eq!(named.refusal(), (400, "invalid_client", "assertion"));
    let once = make(key, Some("JWT"), json!({}));
    assert_eq!(renew(once.clone(), vec![]).await.status, 200);
    let twice = renew(once.clone(), vec![]).await;
    assert_eq!(twice.refusal(), (400, "invalid_client", "assertion_spent"));
    let by_restarted = world.restarted().await;
    let form = [
        ("grant_type", EXCHANGE),
        ("subject_token", job.token.as_str()),
        ("subject_token_type", TYPE_ACCESS_TOKEN),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", once.as_str()),
        ("resource", ARTIFACTS),
    ];
    let exchanged = by_restarted.form("/token", &form, &[]).await;
    assert_eq!(exchanged.rule(), "assertion_spent", "{}", exchanged.text);
    // Another client's key does not exchange this client's token.
    let foreign = super::job::assertion(&world, &other.key, &other.client);
    let form: Vec<_> = form
        .iter()
        .map(|(name, value)| {
            (
                *name,
                if *name == "client_assertion" {
                    foreign.as_str()
                } else {
                    *value
                },
            )
        })
        .collect();
    assert_eq!(world.form("/token", &form, &[]).await.rule(), "other_key");
}
