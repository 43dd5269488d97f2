//! People who start tasks: a fresh authentication opens one task, once, and no leaf names anybody.

use dayfly_domain::{Epoch, Time};
use dayfly_store::{Append, PersonOver, PersonWrite};
use serde_json::{Value, json};

use super::job::{Job, new_key, signed, with};
use super::world::{ARTIFACTS, TENANT, World, acme, unique};

const PEOPLE: &str = r#"
[issuer.staff]
kind = "oidc"
url = "https://idp.example"
jwks = { file = "jwks.json" }
audience = "dayfly-tasks"
people = true
auth_age = "30m"

[workload.repair]
owner   = "team"
kind    = "operator"
purpose = "repair what is broken by hand"
match   = { issuer = "staff", email = ["mona@example.com", "dora@example.com"], email_verified = true }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" },
]
"#;

async fn world() -> World {
    World::declared(&format!("{TENANT}{PEOPLE}")).await
}

/// What the provider says of a person who authenticated a minute ago.
fn mona(world: &World) -> Value {
    let now = world.now();
    json!({
        "iss": "https://idp.example", "aud": "dayfly-tasks", "sub": "mona-4711",
        "email": "mona@example.com", "email_verified": true, "jti": unique(),
        "auth_time": now - 60, "iat": now, "exp": now + 300, "person": "somebody-else",
    })
}

async fn rule(world: &World, claims: &Value) -> (u16, String) {
    let token = signed(claims);
    let reply = world
        .ask(&token, Some(&new_key()), &[("resource", ARTIFACTS)])
        .await;
    (reply.status, reply.rule().to_owned())
}

#[tokio::test]
async fn a_person_opens_a_task_once_and_stands_in_no_leaf() {
    let world = world().await;
    let (key, token) = (new_key(), signed(&mona(&world)));
    let more = [("resource", ARTIFACTS)];
    let reply = world.ask(&token, Some(&key), &more).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let job = Job::of(key, token.clone(), &reply);
    assert!(world.is_active(&job.token).await);
    let again = world.ask(&token, Some(&new_key()), &more).await;
    assert_eq!(again.rule(), "retry_other_key");
    assert_eq!(world.end(&job).await.status, 200);
    let again = world.ask(&token, Some(&new_key()), &more).await;
    assert_eq!(again.status, 400, "{}", again.text);
    for leaf in world.leaves() {
        let leaf = leaf.to_string();
        for name in ["mona", "4711", "somebody-else", "example.com\""] {
            assert!(!leaf.contains(name), "{leaf}");
        }
    }
}

#[tokio::test]
async fn one_authentication_is_one_task_however_many_tokens_it_gives() {
    let world = world().await;
    let first = mona(&world);
    assert_eq!(rule(&world, &first).await.0, 200);
    let refreshed = with(first.clone(), json!({"jti": unique()}));
    assert_eq!(rule(&world, &refreshed).await.1, "already_open");
    let anew = with(
        first.clone(),
        json!({"jti": unique(), "auth_time": world.now() - 10}),
    );
    assert_eq!(rule(&world, &anew).await.0, 200);
    let other = with(
        first,
        json!({"jti": unique(), "sub": "dora", "email": "dora@example.com"}),
    );
    assert_eq!(
        rule(&world, &other).await.0,
        200,
        "another person of the same second"
    );
}

#[tokio::test]
async fn a_stale_future_or_untold_authentication_proves_nothing() {
    let world = world().await;
    let now = world.now();
    for (other, wanted) in [
        (json!({"auth_time": null}), "claim_missing"),
        (json!({"auth_time": "yesterday"}), "claim_form"),
        (json!({"auth_time": 1.5}), "claim_form"),
        (json!({"auth_time": now - 1800 - 61}), "proof_age"),
        (json!({"auth_time": now + 61}), "times"),
        (json!({"iat": null}), "claim_missing"),
        (json!({"sub": ""}), "claim_form"),
        (json!({"aud": "dayfly"}), "audience"),
        (json!({"email_verified": false}), "no_workload"),
    ] {
        let claims = with(mona(&world), other.clone());
        assert_eq!(rule(&world, &claims).await.1, wanted, "{other}");
    }
    let last = with(mona(&world), json!({"auth_time": now - 1800 - 60}));
    assert_eq!(rule(&world, &last).await.0, 200);
}

/// The person that the newest task relies on, and the leaf that says so.
fn relied_on(world: &World) -> Epoch {
    let leaves = world.leaves();
    let mut started = leaves.iter().rev();
    let started = started.find(|leaf| leaf["kind"] == "task.started").unwrap();
    let epochs: Vec<Epoch> = serde_json::from_value(started["data"]["epochs"].clone()).unwrap();
    let person = epochs.into_iter().find(|epoch| epoch.person().is_some());
    person.unwrap()
}

#[tokio::test]
async fn what_is_over_by_the_persons_provider_ends_the_task_and_nothing_starts_by_it() {
    let world = world().await;
    let first = mona(&world);
    let ask = async |claims: &Value| {
        let (key, token) = (new_key(), signed(claims));
        let reply = world
            .ask(&token, Some(&key), &[("resource", ARTIFACTS)])
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, token, &reply)
    };
    let job = ask(&first).await;
    let relies = relied_on(&world);
    let dora = with(first.clone(), json!({"jti": unique(), "sub": "dora"}));
    let other = ask(&dora).await;
    let append = Append {
        now: Time::from_seconds(world.now()),
        people: vec![PersonWrite {
            person: relies.person().unwrap(),
            over: PersonOver {
                upto: Time::from_seconds(world.now() - 30),
                at: Time::from_seconds(world.now()),
                said: String::new(),
            },
            until: Time::from_seconds(world.now() + 86_400),
        }],
        ..Append::default()
    };
    world.app.store().append(&acme(), append).await.unwrap();
    assert!(!world.is_active(&job.token).await);
    assert_eq!(world.renew(&job, &[]).await.rule(), "rights_removed");
    let refreshed = with(
        first.clone(),
        json!({"jti": unique(), "auth_time": world.now() - 50}),
    );
    assert_eq!(rule(&world, &refreshed).await.1, "rights_removed");
    assert!(world.is_active(&other.token).await);
    // Whoever authenticated after it is let in, and the sweep records what is over.
    let anew = with(
        first,
        json!({"jti": unique(), "auth_time": world.now() - 29}),
    );
    let anew = ask(&anew).await;
    assert!(world.is_active(&anew.token).await);
    assert_eq!(world.app.sweep().await, 1);
    let ended = world.leaves();
    let ended = ended
        .iter()
        .find(|leaf| leaf["kind"] == "task.ended")
        .unwrap();
    assert_eq!(ended["data"]["cause"], "upstream");
}
