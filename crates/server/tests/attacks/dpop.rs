//! Proofs of possession: each for one request, one place, one moment and one key.

use dayfly_domain::Time;
use dayfly_token::alg::Alg;
use dayfly_token::b64;
use dayfly_token::client::{ProofRequest, dpop_proof};
use dayfly_token::sign::SigningKey;
use serde_json::{Value, json};

use super::job::{JWT_BEARER, claims, dpop, new_key, proof, signed};
use super::world::{ARTIFACTS, BEGIN, FORM, ISSUER, World, encoded, platform, unique};

fn key_claims(world: &World) -> Value {
    json!({"jti": unique(), "htm": "POST", "htu": format!("{ISSUER}/token"), "iat": world.now()})
}

/// A proof with any header and any claims.
fn crafted(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let mut members = header.as_object().unwrap().clone();
    if !members.contains_key("typ") {
        members.insert("typ".into(), "dpop+jwt".into());
    }
    if !members.contains_key("jwk") {
        let jwk = key.public_jwk().canonical_json();
        members.insert("jwk".into(), serde_json::from_str(jwk).unwrap());
    }
    key.encode_jws(members, claims.to_string().as_bytes())
        .unwrap()
}

/// The same text with another `alg` in its header and nothing that signs it.
fn with_alg(token: &str, alg: &str) -> String {
    let (header, rest) = token.split_once('.').unwrap();
    let mut header: Value = serde_json::from_slice(&b64::decode(header).unwrap()).unwrap();
    header["alg"] = alg.into();
    format!("{}.{rest}", b64::encode(header.to_string()))
}

#[tokio::test]
async fn a_bad_proof_grants_nothing_spends_nothing_and_is_named_so() {
    let world = World::new().await;
    let key = new_key();
    let token = signed(&claims(&world, 1, 1));
    let good = key_claims(&world);
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let private = json!({"jwk": {
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X6wCE0jPRPk",
    }});
    let plain = json!({});
    let now = world.now();
    let bad = [
        crafted(&key, &json!({"typ": "JWT"}), &good),
        crafted(&key, &json!({"typ": "at+jwt"}), &good),
        crafted(&key, &private, &good),
        crafted(&key, &json!({"jwk": {"kty": "oct", "k": "AAAA"}}), &good),
        crafted(&key, &json!({"jwk": "x"}), &good),
        crafted(&key, &json!({"crit": ["x"], "x": 1}), &good),
        crafted(&key, &plain, &with("htm", "GET".into())),
        crafted(&key, &plain, &with("htm", "post".into())),
        crafted(
            &key,
            &plain,
            &with("htu", "https://evil.example/acme/token".into()),
        ),
        crafted(
            &key,
            &plain,
            &with(
                "htu",
                format!("http://{}/acme/token", world.address()).into(),
            ),
        ),
        crafted(
            &key,
            &plain,
            &with("htu", "https://dayfly.example/other/token".into()),
        ),
        crafted(
            &key,
            &plain,
            &with("htu", format!("{ISSUER}/token/").into()),
        ),
        crafted(
            &key,
            &plain,
            &with("htu", format!("{ISSUER}/token%00").into()),
        ),
        crafted(
            &key,
            &plain,
            &with("htu", format!("{ISSUER}/x/../../token").into()),
        ),
        crafted(
            &key,
            &plain,
            &with("htu", json!([format!("{ISSUER}/token")])),
        ),
        crafted(&key, &plain, &with("iat", (now - 301).into())),
        crafted(&key, &plain, &with("iat", (now + 61).into())),
        crafted(&key, &plain, &with("iat", now.to_string().into())),
        crafted(&key, &plain, &with("iat", json!(-1))),
        crafted(&key, &plain, &with("iat", json!(1e300))),
        crafted(&key, &plain, &with("iat", json!(u64::MAX))),
        crafted(&key, &plain, &with("jti", Value::Null)),
        crafted(&key, &plain, &with("jti", "".into())),
        crafted(&key, &plain, &with("jti", "x".repeat(257).into())),
        with_alg(&crafted(&key, &plain, &good), "none"),
        with_alg(&crafted(&key, &plain, &good), "HS256"),
        with_alg(&crafted(&key, &plain, &good), "ES384"),
        crafted(
            &new_key(),
            &json!({"jwk": serde_json::from_str::<Value>(key.public_jwk().canonical_json()).unwrap()}),
            &good,
        ),
        "x".repeat(9000),
        String::new(),
        "a.b.c".to_owned(),
    ];
    let before = world.size();
    let form = [
        ("grant_type", JWT_BEARER),
        ("assertion", token.as_str()),
        ("resource", ARTIFACTS),
    ];
    for bad in &bad {
        let reply = world.form("/token", &form, &[("dpop", bad)]).await;
        assert_eq!(
            reply.refusal(),
            (400, "invalid_dpop_proof", "dpop"),
            "{bad}: {}",
            reply.text
        );
    }
    assert!(
        world.leaves()[before as usize..]
            .iter()
            .all(|leaf| leaf["kind"] == "refused"),
        "only refusals are recorded"
    );
    let two = dpop(&world, &key, "POST", "/token");
    let again = dpop(&world, &key, "POST", "/token");
    let reply = world
        .form("/token", &form, &[("dpop", &two), ("dpop", &again)])
        .await;
    assert_eq!(reply.refusal(), (400, "invalid_dpop_proof", "dpop"));
    let none = world.form("/token", &form, &[]).await;
    assert_eq!(
        none.refusal(),
        (400, "invalid_dpop_proof", "binding_required")
    );
    // The platform's token is still unspent.
    assert_eq!(
        world
            .ask(&token, Some(&key), &[("resource", ARTIFACTS)])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_proof_serves_one_grant_or_renewal_only() {
    let world = World::new().await;
    let job = world.job(1).await;
    let one = dpop(&world, &job.key, "POST", "/token");
    let renew = |assertion: String| {
        let (world, one) = (&world, &one);
        async move {
            let form = [
                ("grant_type", "client_credentials"),
                ("client_assertion_type", super::job::ASSERTION_TYPE),
                ("client_assertion", assertion.as_str()),
                ("resource", ARTIFACTS),
            ];
            world.form("/token", &form, &[("dpop", one)]).await
        }
    };
    let assertion = || super::job::assertion(&world, &job.key, &job.client);
    assert_eq!(renew(assertion()).await.status, 200);
    assert_eq!(
        renew(assertion()).await.refusal(),
        (400, "invalid_dpop_proof", "dpop_replayed")
    );
    // Nor after a restart, nor for a grant.
    let restarted = world.restarted().await;
    let token = signed(&claims(&restarted, 1, 2));
    let form = [
        ("grant_type", JWT_BEARER),
        ("assertion", token.as_str()),
        ("resource", ARTIFACTS),
    ];
    let nonceless = proof(&world, &job.key, "POST", "/token", None, None);
    assert_eq!(
        restarted
            .form("/token", &form, &[("dpop", &nonceless)])
            .await
            .status,
        200
    );
    let next = signed(&claims(&restarted, 1, 3));
    let form = [
        ("grant_type", JWT_BEARER),
        ("assertion", next.as_str()),
        ("resource", ARTIFACTS),
    ];
    let again = restarted.restarted().await;
    assert_eq!(
        again
            .form("/token", &form, &[("dpop", &nonceless)])
            .await
            .rule(),
        "dpop_replayed"
    );
}

#[tokio::test]
async fn a_proof_is_bound_to_its_endpoint_its_token_and_its_key() {
    let world = World::new().await;
    let (job, other) = (world.job(1).await, world.job(2).await);
    let path = format!("/tasks/{}", job.task);
    let bearer = format!("DPoP {}", job.token);
    let nonce = world.app.nonce();
    let show = |authorization: String, dpop: Option<String>| {
        let (world, path) = (&world, &path);
        async move {
            world
                .call_with(&authorization, dpop.as_deref(), "GET", path, "")
                .await
        }
    };
    let prove = |key: &SigningKey, path: &str, token: Option<&str>| {
        proof(&world, key, "GET", path, Some(&nonce), token)
    };
    let t = Some(job.token.as_str());
    for (authorization, dpop, rule) in [
        (format!("Bearer {}", job.token), None, "dpop_missing"),
        (
            format!("Bearer {}", job.token),
            Some(prove(&job.key, &path, t)),
            "dpop_missing",
        ),
        (bearer.clone(), None, "dpop_missing"),
        (
            bearer.clone(),
            Some(prove(&other.key, &path, t)),
            "other_key",
        ),
        (bearer.clone(), Some(prove(&job.key, &path, None)), "dpop"),
        (
            bearer.clone(),
            Some(prove(&job.key, &path, Some(&other.token))),
            "dpop",
        ),
        (
            bearer.clone(),
            Some(prove(&job.key, &format!("/tasks/{}", other.task), t)),
            "dpop",
        ),
        (
            bearer.clone(),
            Some(prove(&job.key, &format!("{path}/receipt"), t)),
            "dpop",
        ),
        (format!("Basic {}", job.token), None, "credential"),
        ("DPoP".to_owned(), None, "credential"),
        (format!("DPoP  {} x", job.token), None, "credential"),
    ] {
        let reply = show(authorization.clone(), dpop).await;
        assert_eq!(
            (reply.status, reply.rule()),
            (401, rule),
            "{authorization} {}",
            reply.text
        );
        assert!(reply.header("www-authenticate").starts_with("DPoP "));
    }
    // A spelling of the path is no second place.
    let good = prove(&job.key, &path, t);
    assert_eq!(show(bearer.clone(), Some(good.clone())).await.status, 200);
    let spelled = format!("/tasks/%74{}", &job.task[1..]);
    let reply = world
        .call_with(&bearer, Some(&good), "GET", &spelled, "")
        .await;
    assert_eq!((reply.status, reply.rule()), (401, "dpop_replayed"));
    let case = job.task.to_uppercase();
    let reply = world
        .call_with(
            &bearer,
            Some(&prove(&job.key, &format!("/tasks/{case}"), t)),
            "GET",
            &format!("/tasks/{case}"),
            "",
        )
        .await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn a_nonce_is_checked_wherever_it_is_shown_and_demanded_where_the_tenant_says_so() {
    let world = World::new().await;
    let key = new_key();
    let token = signed(&claims(&world, 1, 1));
    let ask = |world: &World, nonce: Option<String>| {
        let header = proof(world, &key, "POST", "/token", nonce.as_deref(), None);
        let form = encoded(&[
            ("grant_type", JWT_BEARER),
            ("assertion", &token),
            ("resource", ARTIFACTS),
        ]);
        (header, form)
    };
    let (header, form) = ask(&world, Some("stale".to_owned()));
    let headers = [("dpop", header.as_str()), ("content-type", FORM)];
    let reply = world.send("POST", "/token", &headers, form).await;
    assert_eq!(reply.refusal(), (400, "use_dpop_nonce", "dpop_nonce"));
    assert_eq!(reply.header("dpop-nonce"), world.app.nonce());
    // The nonce of the former five minutes is good, the one before is not.
    let nonce = world.app.nonce();
    world.clock.set(Time::from_seconds(BEGIN + 599));
    let (header, form) = ask(&world, Some(nonce.clone()));
    let headers = [("dpop", header.as_str()), ("content-type", FORM)];
    let reply = world.send("POST", "/token", &headers, form).await;
    assert_eq!(reply.rule(), "times", "past the nonce: {}", reply.text);
    world.clock.set(Time::from_seconds(BEGIN + 600));
    let (header, _) = ask(&world, Some(nonce));
    let fresh = signed(&claims(&world, 1, 2));
    let form = [
        ("grant_type", JWT_BEARER),
        ("assertion", fresh.as_str()),
        ("resource", ARTIFACTS),
    ];
    let reply = world.form("/token", &form, &[("dpop", &header)]).await;
    assert_eq!(reply.rule(), "dpop_nonce");

    let strict = World::declared(&format!(
        "dpop_nonce = \"required\"\n{}",
        super::world::TENANT
    ))
    .await;
    let token = signed(&claims(&strict, 1, 1));
    let form = [
        ("grant_type", JWT_BEARER),
        ("assertion", token.as_str()),
        ("resource", ARTIFACTS),
    ];
    let header = proof(&strict, &key, "POST", "/token", None, None);
    let reply = strict.form("/token", &form, &[("dpop", &header)]).await;
    assert_eq!(reply.refusal(), (400, "use_dpop_nonce", "dpop_nonce"));
    assert_eq!(
        strict
            .ask(&token, Some(&key), &[("resource", ARTIFACTS)])
            .await
            .status,
        200
    );
}

/// A proof whose `iat` lies ahead lives longer than its age alone: it must not outlive the demand
/// for a nonce, which stands in for the memory that was lost.
#[tokio::test]
async fn a_proof_shown_before_a_restart_is_not_accepted_after_it_however_far_ahead_it_is_dated() {
    let long =
        super::world::TENANT.replace("token   = { ttl = \"5m\"", "token   = { ttl = \"20m\"");
    let world = World::declared(&long).await;
    let key = new_key();
    let platform = signed(&claims(&world, 3, 1));
    let granted = world
        .ask(&platform, Some(&key), &[("resource", ARTIFACTS)])
        .await;
    world.wait(400);
    let token = granted.str("access_token").to_owned();
    let path = format!("/tasks/{}/heartbeat", granted.str("task"));
    let ahead = dpop_proof(
        &key,
        &ProofRequest {
            method: "POST",
            url: &format!("{ISSUER}{path}"),
            now: world.now() + 60,
            jti: "ahead",
            nonce: None,
            access_token: Some(&token),
        },
    )
    .unwrap();
    let authorization = format!("DPoP {token}");
    let shown = world
        .call_with(&authorization, Some(&ahead), "POST", &path, "")
        .await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let restarted = world.restarted().await;
    for _ in 0..37 {
        let replay = restarted
            .call_with(&authorization, Some(&ahead), "POST", &path, "")
            .await;
        assert_eq!(
            replay.status,
            401,
            "{} s after the start: {}",
            restarted.now() - BEGIN - 400,
            replay.text
        );
        restarted.wait(10);
        restarted.app.sweep().await;
    }
}

/// Requests whose clocks were read on both sides of the end of a bucket may come in any order.
#[tokio::test]
async fn proofs_are_remembered_whatever_order_requests_come_in_at_the_turn_of_a_bucket() {
    let world = World::new().await;
    let job = world.job(1).await;
    let turn = BEGIN + 360;
    world.clock.set(Time::from_seconds(turn - 100));
    let renewed = world.renew(&job, &[]).await;
    let token = renewed.str("access_token").to_owned();
    let path = format!("/tasks/{}/heartbeat", job.task);
    let authorization = format!("DPoP {token}");
    let beat = |header: String| {
        let (world, path, authorization) = (&world, &path, &authorization);
        async move {
            world
                .call_with(authorization, Some(&header), "POST", path, "")
                .await
        }
    };
    let fresh = || {
        proof(
            &world,
            &job.key,
            "POST",
            &path,
            Some(&world.app.nonce()),
            Some(&token),
        )
    };
    let early = fresh();
    assert_eq!(beat(early.clone()).await.status, 200);
    world.clock.set(Time::from_seconds(turn));
    assert_eq!(beat(fresh()).await.status, 200);
    // A request that read its clock a moment before gets its turn a moment later.
    world.clock.set(Time::from_seconds(turn - 1));
    assert_eq!(beat(fresh()).await.status, 200);
    world.clock.set(Time::from_seconds(turn));
    assert_eq!(beat(fresh()).await.status, 200);
    let replay = beat(early).await;
    assert_eq!(
        (replay.status, replay.rule()),
        (401, "dpop_replayed"),
        "{}",
        replay.text
    );
}

#[tokio::test]
async fn an_rsa_key_binds_as_well_and_a_platforms_own_key_is_no_way_in() {
    let world = World::new().await;
    let key = SigningKey::generate(Alg::Rs256).unwrap();
    let token = signed(&claims(&world, 1, 1));
    let reply = world
        .ask(&token, Some(&key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    // A platform's token as the proof of possession.
    let form = [("grant_type", JWT_BEARER), ("assertion", token.as_str())];
    let reply = world.form("/token", &form, &[("dpop", &token)]).await;
    assert_eq!(reply.refusal(), (400, "invalid_dpop_proof", "dpop"));
    let crossed = crafted(platform(), &json!({}), &key_claims(&world));
    let reply = world.form("/token", &form, &[("dpop", &crossed)]).await;
    assert_eq!(reply.rule(), "retry_other_key");
}
