//! Hand-overs at their edges: other types of token, deeper than declared, of a parent that was revoked, to the last second.

use serde_json::{Value, json};

use super::delegation::{TYPE_HANDOVER, part, scope};
use super::job::{Job, TYPE_JWT, claims, dpop, new_key, payload, signed, signed_as};
use super::world::{ARTIFACTS, ISSUER, Reply, World, platform, unique};

/// What other tokens say that they are.
const OTHER_TYPES: [&str; 14] = [
    "at+jwt",
    "application/at+jwt",
    "secevent+jwt",
    "statuslist+jwt",
    "oauth-id-jag+jwt",
    "txntoken+jwt",
    "dpop+jwt",
    "logout+jwt",
    "wit+jwt",
    "client-authentication+jwt",
    "token-introspection+jwt",
    "kb+jwt",
    "JWT",
    "",
];

fn actor(token: &str) -> [(&str, &str); 2] {
    [("actor_token", token), ("actor_token_type", TYPE_JWT)]
}

#[tokio::test]
async fn a_token_of_any_other_type_hands_nothing_over() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let key = new_key();
    let now = world.now();
    let handed = |jti: &str| {
        json!({
            "iss": root.client, "aud": ISSUER, "jti": jti, "iat": now, "exp": now + 60,
            "cnf": {"jkt": key.thumbprint().to_string()}, "scope": "artifacts:read",
        })
    };
    for typ in OTHER_TYPES.into_iter().map(Some).chain([None]) {
        let token = signed_as(&root.key, typ, None, &handed(&unique()));
        let reply = world.come_in(&token, Some(&key), &[]).await;
        assert_eq!(
            reply.refusal(),
            (400, "invalid_request", "handover"),
            "{typ:?}"
        );
        assert_eq!(reply.body["refused"]["field"], "typ", "{typ:?}");
    }
    // As `actor_token`, everything but a platform's own token; a hand-over too.
    let scanners = claims(&world, 12, 2);
    let handover = world.handover(&root, Some(&key), &scope("artifacts:read"));
    for typ in OTHER_TYPES.into_iter().filter(|typ| *typ != "JWT") {
        let token = signed_as(platform(), Some(typ), Some("k1"), &scanners);
        let reply = world.come_in(&handover, Some(&key), &actor(&token)).await;
        assert_eq!(
            reply.refusal(),
            (400, "invalid_request", "token_type"),
            "{typ}"
        );
    }
    for token in [&handover, &root.token] {
        let reply = world.come_in(&handover, Some(&key), &actor(token)).await;
        assert_eq!(reply.rule(), "token_type", "{}", reply.text);
    }
    assert_eq!(world.count("client.delegated", &root.task), 0);
    let good = signed_as(
        &root.key,
        Some("dayfly-handover+jwt"),
        None,
        &handed("good"),
    );
    assert_eq!(world.come_in(&good, Some(&key), &[]).await.status, 200);
}

#[tokio::test]
async fn an_actor_token_and_its_type_come_together_or_not_at_all() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let key = new_key();
    let handover = world.handover(&root, Some(&key), &scope("artifacts:read"));
    let token = signed(&claims(&world, 12, 2));
    for more in [
        vec![("actor_token", token.as_str())],
        vec![("actor_token_type", TYPE_JWT)],
        vec![
            ("actor_token", token.as_str()),
            ("actor_token_type", TYPE_HANDOVER),
        ],
        vec![("actor_token", token.as_str()), ("actor_token_type", "")],
    ] {
        let reply = world.come_in(&handover, Some(&key), &more).await;
        assert_eq!(
            (reply.status, &reply.body["error"]),
            (400, &json!("invalid_request")),
            "{more:?}: {}",
            reply.text
        );
    }
    assert_eq!(world.count("client.delegated", &root.task), 0);
    // Nothing was spent by it.
    let reply = world.come_in(&handover, Some(&key), &actor(&token)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn nobody_hands_on_deeper_than_is_declared() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let child = world.child(&root, &scope("artifacts:read")).await;
    let below = world.child(&child, &scope("artifacts:read")).await;
    let key = new_key();
    let handover = world.handover(&below, Some(&key), &part("octo/a"));
    let reply = world.come_in(&handover, Some(&key), &[]).await;
    assert_eq!(reply.refusal(), (400, "access_denied", "delegation_depth"));
    assert_eq!(world.count("client.delegated", &root.task), 2);
}

#[tokio::test]
async fn of_a_parent_that_was_revoked_nothing_is_handed_on() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let middle = world.child(&root, &scope("artifacts:read")).await;
    let below = world.child(&middle, &part("octo/a")).await;
    let key = new_key();
    let before = world.handover(&middle, Some(&key), &part("octo/a"));
    let header = dpop(&world, &middle.key, "POST", "/revoke");
    let form = [("token", middle.token.as_str())];
    let revoked = world.form("/revoke", &form, &[("dpop", &header)]).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    let after = world.handover(&middle, Some(&key), &part("octo/a"));
    for handover in [&before, &after] {
        let reply = world.come_in(handover, Some(&key), &[]).await;
        assert_eq!(reply.refusal(), (400, "invalid_request", "client_ended"));
    }
    let further = world.handover(&below, Some(&key), &part("octo/a"));
    assert_ne!(world.come_in(&further, Some(&key), &[]).await.status, 200);
    assert!(!world.is_active(&below.token).await);
    assert!(world.is_active(&root.token).await);
}

fn expiry(token: &str) -> u64 {
    payload(token)["exp"].as_u64().unwrap()
}

#[tokio::test]
async fn a_child_is_over_with_its_parent_to_the_second() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let opened = world.now();
    let mut renewed = 0;
    // An hour is the window; the last seconds of it.
    while world.now() < opened + 3590 {
        world.wait(10);
        renewed += 1;
        if renewed % 20 == 0 {
            assert_eq!(world.renew(&root, &[]).await.status, 200);
        }
    }
    let child = world.child(&root, &scope("artifacts:read")).await;
    let below = world.child(&child, &part("octo/a")).await;
    for one in [&child, &below] {
        assert_eq!(expiry(&one.token), opened + 3600);
    }
    let renewal = world.renew(&below, &[]).await;
    assert_eq!(renewal.body["expires_in"], 10, "{}", renewal.text);
    world.wait(10);
    for one in [&child, &below] {
        assert!(!world.is_active(&one.token).await);
        assert_ne!(world.renew(one, &[]).await.status, 200);
    }
    let key = new_key();
    let late = world.handover(&child, Some(&key), &part("octo/a"));
    let late: Reply = world.come_in(&late, Some(&key), &[]).await;
    assert_ne!(late.status, 200, "{}", late.text);
}

#[tokio::test]
async fn a_parents_token_hands_nothing_over_with_or_without_its_key() {
    let world = World::of_agents().await;
    let root: Job = world.agent(1).await;
    let helper = new_key();
    // Another key, and the hint says what there is instead.
    let other = world.narrow(&root.token, Some(&helper), &[]).await;
    assert_eq!(other.refusal(), (400, "invalid_dpop_proof", "other_key"));
    let id = other.str("refusal").parse().unwrap();
    let hint = world.app.why(id).unwrap().hint.clone();
    assert!(hint.contains("hand-over"), "{hint}");
    assert_eq!(
        world.narrow(&root.token, None, &[]).await.rule(),
        "dpop_missing"
    );
    // With its own key it is the same client, and nobody new.
    let own = world
        .narrow(&root.token, Some(&root.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(
        (own.status, own.str("client_id")),
        (200, root.client.as_str())
    );
    let told: Value = payload(own.str("access_token"));
    assert!(told.get("act").is_none());
    assert_eq!(world.count("client.delegated", &root.task), 0);
}
