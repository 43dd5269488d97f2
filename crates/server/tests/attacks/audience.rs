//! Exchange and its parameters: no actor, no other kind of token, no laundering of an audience.

use super::job::{EXCHANGE, TYPE_ACCESS_TOKEN, TYPE_JWT, claims, dpop, signed};
use super::world::{ARTIFACTS, QUEUE, World};

#[tokio::test]
async fn what_an_exchange_cannot_do_is_refused() {
    let world = World::new().await;
    let job = world.job(1).await;
    let platforms = signed(&claims(&world, 1, 2));
    let base = [
        ("grant_type", EXCHANGE),
        ("subject_token", job.token.as_str()),
    ];
    let own = ("subject_token_type", TYPE_ACCESS_TOKEN);
    let refresh = "urn:ietf:params:oauth:token-type:refresh_token";
    for (more, rule) in [
        (vec![], "missing_parameter"),
        (
            vec![own, ("actor_token", job.token.as_str())],
            "invalid_parameter",
        ),
        (
            vec![own, ("actor_token_type", TYPE_JWT)],
            "invalid_parameter",
        ),
        (
            vec![
                own,
                ("actor_token", platforms.as_str()),
                ("actor_token_type", TYPE_JWT),
            ],
            "issuer",
        ),
        (
            vec![own, ("requested_token_type", refresh)],
            "invalid_parameter",
        ),
        (
            vec![
                own,
                (
                    "requested_token_type",
                    "urn:ietf:params:oauth:token-type:saml2",
                ),
            ],
            "invalid_parameter",
        ),
        (vec![("subject_token_type", refresh)], "invalid_parameter"),
        (
            vec![(
                "subject_token_type",
                "urn:ietf:params:oauth:token-type:saml2",
            )],
            "invalid_parameter",
        ),
        (vec![("subject_token_type", TYPE_JWT)], "token_type"),
    ] {
        let form: Vec<_> = base.into_iter().chain(more).collect();
        let header = dpop(&world, &job.key, "POST", "/token");
        let reply = world.form("/token", &form, &[("dpop", &header)]).await;
        assert_eq!(reply.refusal(), (400, "invalid_request", rule), "{form:?}");
    }
    assert_eq!(world.count("credential.issued", &job.task), 1);
}

#[tokio::test]
async fn a_token_of_one_resource_is_nothing_at_another() {
    let world = World::new().await;
    let job = world
        .job_of(
            1,
            1,
            &[("resource", ARTIFACTS), ("scope", "artifacts:publish")],
        )
        .await;
    assert_eq!(
        world.introspect("queue", &job.token).await,
        serde_json::json!({"active": false})
    );
    let other = world
        .narrow(&job.token, Some(&job.key), &[("resource", QUEUE)])
        .await;
    assert_eq!(other.rule(), "target_not_granted");
    let both = world.job_of(1, 2, &[("resource", ARTIFACTS)]).await;
    let queue = world
        .narrow(&both.token, Some(&both.key), &[("resource", QUEUE)])
        .await;
    assert_eq!(queue.status, 200, "its own other resource: {}", queue.text);
    let queue = queue.str("access_token");
    assert_eq!(world.introspect("queue", queue).await["active"], true);
    assert!(!world.is_active(queue).await);
    assert_eq!(world.introspect("queue", queue).await["token_type"], "DPoP");
}
