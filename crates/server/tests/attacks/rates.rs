//! Who asks too often is told so and when to come again; nobody else notices.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_domain::RefusalId;
use dayfly_server::config::{AddressRates, Rate};
use dayfly_token::sign::SigningKey;

use super::approval::APPROVALS;
use super::job::{JWT_BEARER, claims, new_key, proof, signed};
use super::world::{ARTIFACTS, Reply, TENANT, World};

#[track_caller]
fn limited(world: &World, reply: &Reply, rule: &str, field: &str, seconds: &str) {
    assert_eq!(reply.status, 429, "{}", reply.text);
    assert_eq!(reply.body["error"], "temporarily_unavailable");
    assert_eq!(reply.body["refused"]["rule"], rule);
    assert_eq!(reply.body["refused"]["field"], field);
    assert_eq!(reply.headers["retry-after"], seconds);
    let id: RefusalId = reply.str("refusal").parse().unwrap();
    let why = world.app.why(id).unwrap();
    assert!(why.wanted.starts_with("at most "), "{}", why.wanted);
    assert!(why.hint.contains("passes in"), "{}", why.hint);
}

/// The declared state with a line added to a table.
fn with(table: &str, line: &str) -> String {
    let declared = TENANT.replace(&format!("[{table}]\n"), &format!("[{table}]\n{line}\n"));
    assert_ne!(declared, TENANT);
    declared
}

#[tokio::test]
async fn proofs_of_an_issuer_are_bounded_over_its_workloads() {
    let world = World::declared(&with(
        "issuer.github",
        "rate = { requests = 2, per = \"1m\" }",
    ))
    .await;
    world.job(1).await;
    world.job_of(2, 2, &[]).await;
    let proof = signed(&claims(&world, 1, 3));
    let key = new_key();
    let reply = world
        .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
        .await;
    limited(&world, &reply, "rate_limit", "issuer.github.rate", "30");
    // The proof is not spent by it: later it passes.
    world.wait(30);
    let reply = world
        .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn a_workload_and_its_clients_are_bounded_and_ends_are_not() {
    let world = World::declared(&with(
        "workload.release",
        "rate = { requests = 5, per = \"100s\" }\nclient_rate = { requests = 2, per = \"10s\" }",
    ))
    .await;
    let (first, second) = (world.job(1).await, world.job(2).await);
    for _ in 0..2 {
        assert_eq!(world.renew(&first, &[]).await.status, 200);
    }
    let reply = world.renew(&first, &[]).await;
    limited(
        &world,
        &reply,
        "rate_limit",
        "workload.release.client_rate",
        "5",
    );
    // Another client of the same workload still may, until the workload's own rate is used up.
    assert_eq!(world.renew(&second, &[]).await.status, 200);
    let reply = world.narrow(&second.token, Some(&second.key), &[]).await;
    limited(&world, &reply, "rate_limit", "workload.release.rate", "20");
    // Another workload does not notice, and what a client does to its task is never too often.
    world.job_of(2, 3, &[]).await;
    for _ in 0..20 {
        assert_eq!(world.beat(&first).await.status, 200);
    }
    assert_eq!(world.end(&first).await.status, 200);
}

fn rates(unverified: u32, address: Option<u32>) -> AddressRates {
    AddressRates {
        unverified: Rate::per_minute(unverified),
        address: address.map(Rate::per_minute),
    }
}

/// A request with a token that no issuer signed, from this address.
async fn garbage(world: &World, address: &str) -> Reply {
    let form = [("grant_type", JWT_BEARER), ("assertion", "a.b.c")];
    world
        .form("/token", &form, &[("x-forwarded-for", address)])
        .await
}

#[tokio::test]
async fn an_address_that_proves_nothing_is_bounded_before_anything_is_verified() {
    let world = World::new().await.behind_the_door(rates(3, None)).await;
    for _ in 0..3 {
        assert_eq!(garbage(&world, "192.0.2.1").await.status, 400);
    }
    let reply = garbage(&world, "192.0.2.1").await;
    limited(&world, &reply, "address_rate", "rate.unverified", "20");
    // Not even a good proof is looked at, and public documents are not for it either.
    let proof = signed(&claims(&world, 1, 1));
    let form = [("grant_type", JWT_BEARER), ("assertion", proof.as_str())];
    let from = [("x-forwarded-for", "192.0.2.1")];
    assert_eq!(world.form("/token", &form, &from).await.status, 429);
    assert_eq!(world.send("GET", "/jwks", &from, "").await.status, 429);
    assert_eq!(
        world.send_to("GET", "/nobody/jwks", &from, "").await.status,
        429
    );
    // A neighbour is served, and so is the address itself when it has waited.
    assert_eq!(garbage(&world, "192.0.2.2").await.status, 400);
    world.wait(20);
    assert_eq!(world.form("/token", &form, &from).await.status, 400);
}

#[tokio::test]
async fn whoever_proves_who_it_is_is_not_counted() {
    let world = World::new().await.behind_the_door(rates(2, None)).await;
    for run in 1..6 {
        let job = world.job(run).await;
        assert_eq!(world.renew(&job, &[]).await.status, 200);
        assert_eq!(world.beat(&job).await.status, 200);
        // After a start every client is asked for a nonce once.
        let path = format!("/tasks/{}/heartbeat", job.task);
        let bare = proof(&world, &job.key, "POST", &path, None, Some(&job.token));
        let authorization = format!("DPoP {}", job.token);
        let asked = world
            .call_with(&authorization, Some(&bare), "POST", &path, "")
            .await;
        assert_eq!(asked.body["error"], "use_dpop_nonce", "{}", asked.text);
        // A refusal to a known caller is its own affair.
        let refused = world.renew(&job, &[("scope", "nothing")]).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert_eq!(world.end(&job).await.status, 200);
    }
    // Not known are: a proof that matches nothing, a token that is none, a path that is none.
    let stranger = signed(&claims(&world, 77, 1));
    assert_eq!(
        world.ask(&stranger, Some(&new_key()), &[]).await.status,
        400
    );
    assert_eq!(
        world.form("/revoke", &[("token", "x")], &[]).await.status,
        200
    );
    assert_eq!(world.send("GET", "/jwks", &[], "").await.status, 429);
}

/// What callers of a resource make it ask wrongly keeps neither it nor its neighbours out.
#[tokio::test]
async fn a_resource_is_not_counted_for_what_it_hands_on() {
    let world = World::new().await.behind_the_door(rates(2, None)).await;
    let basic = STANDARD.encode("artifacts:secret+of+artifacts");
    let by_resource = [
        ("content-type", "application/json"),
        ("authorization", &*format!("Basic {basic}")),
    ];
    let path = "/access/v1/evaluation";
    for _ in 0..5 {
        let wrong = world.send("POST", path, &by_resource, "{}").await;
        assert_eq!(wrong.status, 400, "{}", wrong.text);
    }
    // Who is no resource is counted.
    for _ in 0..2 {
        let nobody = world.send("POST", path, &by_resource[..1], "{}").await;
        assert_eq!(nobody.status, 401, "{}", nobody.text);
    }
    assert_eq!(world.send("GET", "/jwks", &[], "").await.status, 429);
}

/// Whatever a token is, a revocation is answered alike; what it costs the address is not.
#[tokio::test]
async fn a_live_client_that_revokes_is_not_counted_and_whoever_shows_a_dead_token_is() {
    let world = World::new().await.behind_the_door(rates(2, None)).await;
    let mut last = None;
    for run in 1..8 {
        let job = world.job(run).await;
        let by_key = proof(&world, &job.key, "POST", "/revoke", None, None);
        let form = [("token", job.token.as_str())];
        let reply = world.form("/revoke", &form, &[("dpop", &by_key)]).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(!world.is_open(&job.task));
        last = Some(job);
    }
    // The same again says nothing of a client that lives, and neither does a thief of the token.
    let job = last.unwrap();
    for _ in 0..2 {
        let by_key = proof(&world, &job.key, "POST", "/revoke", None, None);
        let form = [("token", job.token.as_str())];
        let reply = world.form("/revoke", &form, &[("dpop", &by_key)]).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    assert_eq!(world.send("GET", "/jwks", &[], "").await.status, 429);
}

/// A nonce is asked of whoever shows that it is the client or waits for an approval, and of nobody else:
/// who makes up a code, or shows what is dead, learns nothing and pays for it.
#[tokio::test]
async fn who_revokes_what_is_not_theirs_or_dead_is_counted_whatever_nonce_they_show() {
    let stranger = new_key();
    let by =
        |world: &World, key: &SigningKey| proof(world, key, "POST", "/revoke", Some("x"), None);
    let shown = async |world: &World, token: &str, key: &SigningKey| {
        let proof = by(world, key);
        let reply = world
            .form("/revoke", &[("token", token)], &[("dpop", &proof)])
            .await;
        (reply.status, reply.rule().to_owned())
    };
    let world = World::declared(&format!("{TENANT}{APPROVALS}")).await;
    let (alive, over) = (world.job(1).await, world.job(2).await);
    let waiting = world.asked(7, 3).await;
    assert_eq!(world.end(&over).await.status, 200);
    let world = world.behind_the_door(rates(5, None)).await;
    let nonce_asked = (400, "dpop_nonce".to_owned());
    // Who is the client, or waits, is told to come with another nonce, as often as it likes.
    for _ in 0..8 {
        let theirs = shown(&world, &alive.token, &alive.key).await;
        assert_eq!(theirs, nonce_asked);
        let theirs = shown(&world, &waiting.code, &waiting.key).await;
        assert_eq!(theirs, nonce_asked);
    }
    for (token, key) in [
        ("dfr_x", &stranger),
        (waiting.code.as_str(), &stranger),
        (alive.token.as_str(), &stranger),
        (over.token.as_str(), &stranger),
        (over.token.as_str(), &over.key),
    ] {
        assert_eq!(shown(&world, token, key).await, (200, String::new()));
    }
    assert_eq!(world.send("GET", "/jwks", &[], "").await.status, 429);
    assert!(world.is_open(&alive.task));
}

#[tokio::test]
async fn all_requests_of_an_address_are_bounded_where_declared() {
    let world = World::new()
        .await
        .behind_the_door(rates(100, Some(4)))
        .await;
    for run in 1..5 {
        world.job(run).await;
    }
    let proof = signed(&claims(&world, 1, 5));
    let reply = world.ask(&proof, Some(&new_key()), &[]).await;
    limited(&world, &reply, "address_rate", "rate.address", "15");
}

#[tokio::test]
async fn a_flood_is_not_explained_without_end() {
    let world = World::new().await.behind_the_door(rates(1, None)).await;
    garbage(&world, "192.0.2.1").await;
    let mut explained = 0;
    for _ in 0..100 {
        let reply = garbage(&world, "192.0.2.1").await;
        assert_eq!(reply.status, 429);
        assert!(reply.headers.contains_key("retry-after"));
        explained += usize::from(!reply.text.is_empty());
    }
    assert_eq!(explained, 6);
}
