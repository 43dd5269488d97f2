//! Handing over: what a child gets, what it never gets, and what ends it.

use std::sync::Arc;

use dayfly_server::app::{Actor, Contained, InstanceOf};
use dayfly_token::client::{HandoverRequest, handover};
use dayfly_token::handover::Given;
use dayfly_token::sign::SigningKey;
use serde_json::{Value, json};

use super::job::{
    EXCHANGE, Job, TYPE_ACCESS_TOKEN, TYPE_JWT, claims, dpop, new_key, payload, signed,
};
use super::world::{ARTIFACTS, ISSUER, QUEUE, Reply, TENANT, World, unique};

pub(crate) const TYPE_HANDOVER: &str = "urn:dayfly:params:oauth:token-type:handover";
const BY: Actor = Actor::Local { uid: 7 };

/// An agent that may hand over to itself and to a scanner; one that may not hand on; one whose
/// children must prove themselves; one that knows no keys.
pub(crate) const AGENTS: &str = r#"
[owner.scanners]
name    = "Scanners"
contact = "scanners@example.com"
members = ["group:scanners"]

[workload.agent]
owner   = "team"
kind    = "agent"
purpose = "hands work over"
match   = { issuer = "github", repository_id = "11" }
delegation = { depth = 2, clients = 200, to = ["self", "scan"] }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read", "publish"], identifier = "octo/*", bytes = 100, region = ["eu", "us"], scope = "artifacts:publish" },
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", bytes = 100, region = ["eu", "us"], scope = "artifacts:read" },
  { resource = "queue", type = "message", actions = ["read"], identifier = "jobs/*", scope = "queue:read" },
]

[workload.scan]
owner   = "scanners"
kind    = "batch"
purpose = "scans what it is handed"
match   = { issuer = "github", repository_id = "12" }
window  = "10m"
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", bytes = 50, region = ["eu", "us"] },
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", bytes = 100, region = ["eu", "us"] },
]

[workload.loose]
owner   = "team"
kind    = "agent"
purpose = "helpers without keys"
match   = { issuer = "github", repository_id = "13" }
token   = { binding = "optional" }
delegation = { depth = 1, clients = 4, to = ["self"] }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "artifacts:read" }]

[workload.strict]
owner   = "team"
kind    = "agent"
purpose = "helpers that prove themselves"
match   = { issuer = "github", repository_id = "14" }
delegation = { depth = 1, clients = 1, to = ["self"], actor = "required" }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "artifacts:read" }]
"#;

/// A part of what the agent may: one artifact to read.
pub(crate) fn part(identifier: &str) -> Given {
    Given::Details(vec![json!({
        "type": "artifact", "locations": [ARTIFACTS], "actions": ["read"],
        "identifier": identifier, "bytes": 10, "region": "eu",
    })])
}

pub(crate) fn scope(name: &str) -> Given {
    Given::Scope(name.to_owned())
}

impl World {
    pub(crate) async fn of_agents() -> Self {
        Self::declared(&format!("{TENANT}{AGENTS}")).await
    }

    /// The same over a store in memory, which fails on demand.
    pub(crate) async fn in_memory_of_agents() -> (Self, Arc<dayfly_store::MemoryStore>) {
        Self::in_memory_declared(&format!("{TENANT}{AGENTS}")).await
    }

    /// A task of the agent.
    pub(crate) async fn agent(&self, run: u64) -> Job {
        self.job_of(11, run, &[("resource", ARTIFACTS)]).await
    }

    /// What a client signs for the holder of a key.
    pub(crate) fn handover(
        &self,
        parent: &Job,
        child: Option<&SigningKey>,
        given: &Given,
    ) -> String {
        let request = HandoverRequest {
            parent: &parent.client,
            issuer: ISSUER,
            jkt: child.map(SigningKey::thumbprint),
            given,
            now: self.now(),
            jti: &unique(),
        };
        handover(&parent.key, &request).unwrap()
    }

    /// Shows a hand-over, proving a key.
    pub(crate) async fn come_in(
        &self,
        handover: &str,
        key: Option<&SigningKey>,
        more: &[(&str, &str)],
    ) -> Reply {
        let mut form = vec![
            ("grant_type", EXCHANGE),
            ("subject_token", handover),
            ("subject_token_type", TYPE_HANDOVER),
        ];
        form.extend_from_slice(more);
        let header = key.map(|key| dpop(self, key, "POST", "/token"));
        let headers: Vec<(&str, &str)> = header.iter().map(|h| ("dpop", h.as_str())).collect();
        self.form("/token", &form, &headers).await
    }

    /// A child that comes in by a fresh hand-over with a key of its own.
    pub(crate) async fn child(&self, parent: &Job, given: &Given) -> Job {
        let key = new_key();
        let handover = self.handover(parent, Some(&key), given);
        let reply = self.come_in(&handover, Some(&key), &[]).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, handover, &reply)
    }

    /// The same for a child of another workload, which proves itself.
    pub(crate) async fn scanner(&self, parent: &Job, run: u64, given: &Given) -> Reply {
        let key = new_key();
        let handover = self.handover(parent, Some(&key), given);
        let actor = signed(&claims(self, 12, run));
        let more = [
            ("actor_token", actor.as_str()),
            ("actor_token_type", TYPE_JWT),
        ];
        self.come_in(&handover, Some(&key), &more).await
    }
}

#[tokio::test]
async fn a_child_acts_for_its_parent_with_what_it_was_handed_and_nothing_else() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let told = payload(&root.token);
    assert_eq!(
        told["may_act"],
        json!({"workloads": ["workload:agent", "workload:scan"]})
    );
    assert!(told.get("act").is_none(), "a root acts for nobody");
    let child = world.child(&root, &part("octo/a")).await;
    let told = payload(&child.token);
    assert_eq!(told["sub"], "workload:agent");
    assert_eq!(told["client_id"], child.client.as_str());
    assert_eq!(told["cnf"]["jkt"], child.key.thumbprint().to_string());
    assert_eq!(
        told["authorization_details"],
        json!([{"type": "artifact", "locations": [ARTIFACTS], "actions": ["read"], "identifier": "octo/a", "bytes": 10, "region": "eu"}])
    );
    assert_eq!(
        told["act"],
        json!({"sub": "workload:agent", "client_id": child.client, "act": {"sub": "workload:agent", "client_id": root.client}})
    );
    let below = world.child(&child, &part("octo/a")).await;
    let told = payload(&below.token);
    assert_eq!(told["act"]["client_id"], below.client.as_str());
    assert_eq!(told["act"]["act"]["client_id"], child.client.as_str());
    assert_eq!(told["act"]["act"]["act"]["client_id"], root.client.as_str());
    assert!(
        told.get("may_act").is_none(),
        "it stands too deep to hand on"
    );
    let seen = world.introspect("artifacts", &below.token).await;
    assert_eq!(
        (&seen["active"], &seen["act"]),
        (&json!(true), &told["act"])
    );
    // It renews by its own key, and gets no more.
    assert_eq!(world.renew(&child, &[]).await.status, 200);
    let wider = [("scope", "artifacts:read")];
    assert_eq!(
        world.renew(&child, &wider).await.rule(),
        "scope_not_granted"
    );
    assert_eq!(
        world.renew(&child, &[("resource", QUEUE)]).await.rule(),
        "target_ambiguous"
    );
    assert_eq!(world.count("client.delegated", &root.task), 2);
}

#[tokio::test]
async fn an_end_is_of_a_subtree_and_of_nothing_else() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let (left, middle) = (
        world.child(&root, &scope("artifacts:read")).await,
        world.child(&root, &scope("artifacts:read")).await,
    );
    let below = world.child(&middle, &part("octo/b")).await;
    let right = world.child(&root, &scope("queue:read")).await;
    // Who stands beside or below ends nobody, nor the task.
    for caller in [&left, &below] {
        let path = format!("/clients/{}/end", middle.client);
        let reply = world
            .call(caller, "POST", &path, r#"{"outcome":"failed"}"#)
            .await;
        assert_eq!(reply.refusal(), (403, "access_denied", "root_only"));
        assert_eq!(world.end_task(caller, "failed").await.status, 403);
        assert_eq!(world.beat(caller).await.status, 403);
        let receipt = format!("/tasks/{}/receipt", caller.task);
        assert_eq!(world.call(caller, "GET", &receipt, "").await.status, 403);
    }
    let path = format!("/tasks/{}", root.task);
    let shown = world.call(&middle, "GET", &path, "").await;
    let seen = shown.body["clients"].as_array().unwrap();
    let seen: Vec<&str> = seen.iter().map(|c| c["client"].as_str().unwrap()).collect();
    assert_eq!(seen, [&middle.client, &below.client]);
    let all = world.call(&root, "GET", &path, "").await;
    assert_eq!(all.body["clients"].as_array().unwrap().len(), 5);

    let late = world.handover(&middle, Some(&left.key), &part("octo/b"));
    assert_eq!(world.end(&middle).await.status, 200);
    let ends = world.count("client.ended", &root.task);
    assert_eq!(ends, 1, "one entry ends the whole subtree");
    for gone in [&middle, &below] {
        assert!(!world.is_active(&gone.token).await);
        assert_eq!(world.renew(gone, &[]).await.rule(), "client_ended");
        let narrowed = world.narrow(&gone.token, Some(&gone.key), &[]).await;
        assert_eq!(narrowed.rule(), "client_ended");
    }
    for there in [&root, &left] {
        assert!(world.is_active(&there.token).await);
        assert_eq!(world.renew(there, &[]).await.status, 200);
    }
    let queue = world.introspect("queue", &right.token).await;
    assert_eq!(queue["active"], true);
    let dead = world.come_in(&late, Some(&left.key), &[]).await;
    assert_eq!(dead.refusal(), (400, "invalid_request", "client_ended"));
    assert_eq!(world.end(&root).await.status, 200);
    assert!(!world.is_open(&root.task));
    assert!(!world.is_active(&left.token).await);
    let fresh = world.handover(&root, Some(&new_key()), &part("octo/b"));
    assert_eq!(world.come_in(&fresh, None, &[]).await.rule(), "task_ended");
}

#[tokio::test]
async fn a_hand_over_is_for_one_key_once_and_here() {
    let world = World::of_agents().await;
    let (root, other) = (world.agent(1).await, world.agent(2).await);
    let key = new_key();
    let handover = world.handover(&root, Some(&key), &part("octo/a"));
    let thief = new_key();
    let by_thief = world.come_in(&handover, Some(&thief), &[]).await;
    assert_eq!(
        by_thief.refusal(),
        (400, "invalid_dpop_proof", "handover_key")
    );
    assert_eq!(
        world.come_in(&handover, None, &[]).await.rule(),
        "handover_key"
    );
    // Signed by somebody else in the name of the parent.
    let forged = Job {
        key: Arc::clone(&other.key),
        ..root.clone()
    };
    let forged = world.handover(&forged, Some(&key), &part("octo/a"));
    assert_eq!(
        world.come_in(&forged, Some(&key), &[]).await.rule(),
        "handover"
    );
    // At another tenant, as another kind of token, and another kind of token as it.
    let body = super::world::encoded(&[
        ("grant_type", EXCHANGE),
        ("subject_token", &handover),
        ("subject_token_type", TYPE_HANDOVER),
    ]);
    let elsewhere = world
        .send_to(
            "POST",
            "/other/token",
            &[("content-type", super::world::FORM)],
            body,
        )
        .await;
    assert_eq!(elsewhere.rule(), "task_ended", "no such task there");
    let as_token = [
        ("subject_token_type", TYPE_ACCESS_TOKEN),
        ("subject_token", &handover),
    ];
    let form = [as_token[0], as_token[1], ("grant_type", EXCHANGE)];
    assert_eq!(world.form("/token", &form, &[]).await.rule(), "credential");
    let form = [
        ("subject_token_type", TYPE_JWT),
        as_token[1],
        ("grant_type", EXCHANGE),
    ];
    assert_eq!(world.form("/token", &form, &[]).await.rule(), "token_type");
    assert_eq!(
        world.ask(&handover, Some(&key), &[]).await.rule(),
        "token_type"
    );
    let assertion = super::job::assertion(&world, &root.key, &root.client);
    for wrong in [&root.token, &root.proof, &assertion] {
        let reply = world.come_in(wrong, Some(&key), &[]).await;
        assert_eq!(
            reply.refusal(),
            (400, "invalid_request", "handover"),
            "{}",
            reply.text
        );
        assert_eq!(reply.body["refused"]["field"], "typ");
    }
    // No key of an ancestor, and nobody else's.
    let itself = world.handover(&root, Some(&root.key), &part("octo/a"));
    let itself = world.come_in(&itself, Some(&root.key), &[]).await;
    assert_eq!(itself.refusal(), (400, "invalid_dpop_proof", "key_taken"));

    let first = world.come_in(&handover, Some(&key), &[]).await;
    assert_eq!(first.status, 200, "{}", first.text);
    // The answer got lost: the same child again, and never a second one.
    let again = world.come_in(&handover, Some(&key), &[]).await;
    assert_eq!(
        (again.status, again.str("client_id")),
        (200, first.str("client_id"))
    );
    assert_eq!(
        world.come_in(&handover, Some(&thief), &[]).await.rule(),
        "handover_key"
    );
    let wider = world
        .come_in(&handover, Some(&key), &[("scope", "artifacts:read")])
        .await;
    assert_eq!(wider.rule(), "retry_differs");
    assert_eq!(world.count("client.delegated", &root.task), 1);
    // The same name under another hand-over of the same key does not make a second child either.
    let twice = |jkt: &SigningKey| {
        let request = HandoverRequest {
            parent: &root.client,
            issuer: ISSUER,
            jkt: Some(jkt.thumbprint()),
            given: &part("octo/a"),
            now: world.now(),
            jti: "twice",
        };
        dayfly_token::client::handover(&root.key, &request).unwrap()
    };
    let (one, two) = (new_key(), new_key());
    assert_eq!(
        world.come_in(&twice(&one), Some(&one), &[]).await.status,
        200
    );
    assert_eq!(
        world.come_in(&twice(&two), Some(&two), &[]).await.rule(),
        "handover_spent"
    );
    world.wait(121);
    let old = world.come_in(&handover, Some(&key), &[]).await;
    assert_eq!(old.refusal(), (400, "invalid_request", "handover"));
}

#[tokio::test]
async fn somebody_elses_token_becomes_nobodys_own_by_an_exchange() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let helper = new_key();
    let stolen = world.narrow(&root.token, Some(&helper), &[]).await;
    assert_eq!(stolen.refusal(), (400, "invalid_dpop_proof", "other_key"));
    let why = world
        .app
        .why(stolen.str("refusal").parse().unwrap())
        .unwrap();
    assert!(why.hint.contains("hand-over"), "{}", why.hint);
    let without = world.narrow(&root.token, None, &[]).await;
    assert_eq!(without.rule(), "dpop_missing");
    let actor = signed(&claims(&world, 12, 9));
    let whole = vec![
        ("actor_token", actor.as_str()),
        ("actor_token_type", TYPE_JWT),
    ];
    for (more, rule) in [
        // Beside an actor it would have to be a person's.
        (whole, "issuer"),
        (vec![("actor_token", actor.as_str())], "invalid_parameter"),
        (vec![("actor_token_type", TYPE_JWT)], "invalid_parameter"),
    ] {
        let reply = world.narrow(&root.token, Some(&root.key), &more).await;
        assert_eq!(reply.refusal(), (400, "invalid_request", rule));
    }
}

#[tokio::test]
async fn a_child_of_another_workload_proves_itself_and_falls_alone() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let reply = world.scanner(&root, 21, &scope("artifacts:publish")).await;
    assert_eq!(
        reply.rule(),
        "not_covered",
        "it may not publish: {}",
        reply.text
    );
    let reply = world.scanner(&root, 22, &scope("artifacts:read")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let token = reply.str("access_token").to_owned();
    let told = payload(&token);
    assert_eq!(told["act"]["sub"], "workload:scan");
    assert_eq!(told["act"]["act"]["sub"], "workload:agent");
    assert!(told.get("may_act").is_none());
    let path = format!("/tasks/{}", root.task);
    let shown = world.call(&root, "GET", &path, "").await;
    let view = &shown.body["clients"][1];
    assert_eq!(
        (&view["workload"], &view["depth"]),
        (&json!("scan"), &json!(1))
    );
    let opened = shown.body["clients"][0]["expires"].as_u64();
    assert!(
        view["expires"].as_u64() < opened,
        "its own window is shorter"
    );
    // Who may not hand on does not, and who is not named does not come in.
    let key = new_key();
    let handover = world.handover(&root, Some(&key), &scope("artifacts:read"));
    let stranger = signed(&claims(&world, 1, 23));
    let more = [
        ("actor_token", stranger.as_str()),
        ("actor_token_type", TYPE_JWT),
    ];
    let reply = world.come_in(&handover, Some(&key), &more).await;
    assert_eq!(reply.refusal(), (400, "access_denied", "delegation_to"));
    // A proof that was used opens nothing a second time.
    let spent = signed(&claims(&world, 12, 24));
    let more = [
        ("actor_token", spent.as_str()),
        ("actor_token_type", TYPE_JWT),
    ];
    let one = world.come_in(&handover, Some(&key), &more).await;
    assert_eq!(one.status, 200, "{}", one.text);
    let again = world.come_in(&handover, Some(&key), &more).await;
    assert_eq!(again.status, 200, "the answer got lost: {}", again.text);
    let other = new_key();
    let second = world.handover(&root, Some(&other), &scope("artifacts:read"));
    assert_eq!(
        world.come_in(&second, Some(&other), &more).await.rule(),
        "proof_spent"
    );

    let sibling = world.child(&root, &part("octo/a")).await;
    let done = world
        .app
        .contain(
            &world.tenant(),
            &Contained::Owner("scanners".parse().unwrap()),
            &BY,
            "left",
        )
        .await;
    assert!(!done.unwrap().already);
    assert!(!world.is_active(&token).await, "at once");
    for there in [&root, &sibling] {
        assert!(world.is_active(&there.token).await);
        assert_eq!(world.renew(there, &[]).await.status, 200);
    }
    let reply = world.scanner(&root, 25, &scope("artifacts:read")).await;
    assert_eq!(reply.rule(), "blocked", "{}", reply.text);
    world.app.sweep().await;
    let ends: Vec<Value> = world
        .leaves()
        .into_iter()
        .filter(|leaf| leaf["kind"] == "client.ended")
        .collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(
        ends.iter()
            .all(|leaf| leaf["data"]["cause"] == "owner_offboarded")
    );
    assert!(world.is_open(&root.task));
    world.app.sweep().await;
    let ends = world.count("client.ended", &root.task);
    assert_eq!(ends, 2, "and then it is quiet");
}

#[tokio::test]
async fn children_without_keys_and_children_that_must_prove_themselves() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let bearer = world.handover(&root, None, &part("octo/a"));
    assert_eq!(
        world.come_in(&bearer, None, &[]).await.rule(),
        "binding_required"
    );
    let loose = world.job_of(13, 2, &[]).await;
    let bearer = world.handover(&loose, None, &scope("artifacts:read"));
    let reply = world.come_in(&bearer, None, &[]).await;
    assert_eq!(
        (reply.status, reply.str("token_type")),
        (200, "Bearer"),
        "{}",
        reply.text
    );
    let leaves = world.leaves();
    let child = leaves
        .iter()
        .rfind(|leaf| leaf["kind"] == "client.delegated");
    assert!(
        child.unwrap()["data"].get("jkt").is_none(),
        "marked by the key it lacks"
    );
    assert_eq!(
        world.come_in(&bearer, None, &[]).await.rule(),
        "handover_spent"
    );
    let token = reply.str("access_token");
    assert_eq!(world.introspect("artifacts", token).await["active"], true);

    let strict = world.job_of(14, 3, &[]).await;
    let key = new_key();
    let handover = world.handover(&strict, Some(&key), &scope("artifacts:read"));
    let reply = world.come_in(&handover, Some(&key), &[]).await;
    assert_eq!(reply.refusal(), (400, "invalid_request", "actor_missing"));
    let actor = signed(&claims(&world, 14, 4));
    let more = [
        ("actor_token", actor.as_str()),
        ("actor_token_type", TYPE_JWT),
    ];
    assert_eq!(
        world.come_in(&handover, Some(&key), &more).await.status,
        200
    );
    let other = new_key();
    let handover = world.handover(&strict, Some(&other), &scope("artifacts:read"));
    let actor = signed(&claims(&world, 14, 5));
    let more = [
        ("actor_token", actor.as_str()),
        ("actor_token_type", TYPE_JWT),
    ];
    let reply = world.come_in(&handover, Some(&other), &more).await;
    assert_eq!(
        reply.refusal(),
        (400, "access_denied", "delegation_clients")
    );
    // Who declares no delegation hands nothing over.
    let job = world.job(6).await;
    let handover = world.handover(&job, Some(&key), &scope("artifacts:publish"));
    let reply = world.come_in(&handover, Some(&key), &[]).await;
    assert_eq!(reply.refusal(), (400, "access_denied", "not_delegable"));
}

#[tokio::test]
async fn policies_are_asked_about_every_hand_over() {
    let world = World::of_agents().await;
    let write = |text: &str| world.write_policy("delegate.cedar", text);
    write(
        "@id(\"flat\") forbid (principal, action == Dayfly::Action::\"delegate\", resource)\n\
         when { context.depth > 1 || context.chain.contains(Dayfly::Workload::\"scan\") };\n\
         @id(\"kin\") forbid (principal, action == Dayfly::Action::\"delegate\", resource)\n\
         unless { context.parent.kind == \"agent\" && context.parent in Dayfly::Owner::\"team\" };",
    );
    let applied = world
        .app
        .apply(&world.tenant(), Default::default(), &BY, "a test")
        .await;
    assert!(applied.unwrap().applied);
    let root = world.agent(1).await;
    let child = world.child(&root, &part("octo/a")).await;
    let key = new_key();
    let handover = world.handover(&child, Some(&key), &part("octo/a"));
    let reply = world.come_in(&handover, Some(&key), &[]).await;
    assert_eq!(reply.refusal(), (400, "access_denied", "policy_denied"));
    let why = world
        .app
        .why(reply.str("refusal").parse().unwrap())
        .unwrap();
    let said = json!(why.as_ref());
    let decision = &said["policy"]["decisions"][0];
    assert_eq!(decision["action"], "delegate");
    assert_eq!(
        (&decision["depth"], &decision["parent"]),
        (&json!(2), &json!("agent"))
    );
    assert_eq!(decision["policies"], json!(["flat"]));
    let reply = world.scanner(&root, 2, &scope("artifacts:read")).await;
    assert_eq!(reply.rule(), "policy_denied", "{}", reply.text);
}

/// Two show one hand-over at once, and its parent ends at the same moment: nothing verifies after.
#[tokio::test]
async fn an_end_wins_over_a_child_on_its_way() {
    let world = World::of_agents().await;
    for (run, after) in [(1, false), (2, true)] {
        let root = world.agent(run).await;
        let middle = world.child(&root, &scope("artifacts:read")).await;
        let key = new_key();
        let handover = world.handover(&middle, Some(&key), &part("octo/a"));
        let app = Arc::clone(&world.app);
        let tenant = world.tenant();
        let (token, client) = (middle.token.clone(), middle.client.clone());
        let nonce = world.app.nonce();
        let path = format!("/clients/{client}/end");
        let proof = super::job::proof(
            &world,
            &middle.key,
            "POST",
            &path,
            Some(&nonce),
            Some(&token),
        );
        let end = async move {
            let presented = dayfly_server::app::Presented {
                token: &token,
                as_dpop: true,
                key_proof: Some(dayfly_server::app::KeyProof {
                    header: &proof,
                    method: "POST",
                    path: &path,
                }),
            };
            let end = dayfly_server::app::End::Client(client.parse().unwrap());
            let outcome = dayfly_domain::Outcome::Failed;
            let mut trail = dayfly_server::app::Trail::default();
            app.end(&tenant, end, outcome, &presented, &mut trail)
                .await
                .unwrap();
        };
        if after {
            world.store.after_next(end);
        } else {
            world.store.before_next(end);
        }
        let reply = world.come_in(&handover, Some(&key), &[]).await;
        assert_eq!(reply.rule(), "client_ended", "{after}: {}", reply.text);
    }
}

/// A child whose own window is over has ended without an entry: who ends it is told so, and the
/// ledger goes on.
#[tokio::test]
async fn who_ends_an_expired_child_is_told_that_it_is_over() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let reply = world.scanner(&root, 2, &scope("artifacts:read")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let path = format!("/tasks/{}", root.task);
    let shown = world.call(&root, "GET", &path, "").await;
    let instance = shown.body["clients"][1]["instance"].as_str();
    let instance = instance.unwrap().to_owned();
    world.wait(601);
    let (tenant, task) = (world.tenant(), root.task.parse().unwrap());
    let child = dayfly_domain::ClientId { task, number: 2 };
    let ended = world
        .app
        .end_client(&tenant, child, false, &BY, "odd")
        .await;
    assert_eq!(ended.unwrap_err().refusal.rule.code(), "client_ended");
    let what = InstanceOf {
        issuer: None,
        instance,
    };
    let ended = world
        .app
        .end_instance(&tenant, &what, false, &BY, "odd")
        .await;
    assert_eq!(ended.unwrap_err().refusal.rule.code(), "not_found");
    assert_eq!(world.count("client.ended", &root.task), 0);
    assert_eq!(world.app.unready(), Vec::<String>::new());
    assert!(world.is_open(&root.task));
}

/// What a hand-over is judged by is read at one moment: the task once, then counters and blocks
/// together, and once more before the signature.
#[tokio::test]
async fn counters_and_blocks_are_read_once_for_a_child() {
    let world = World::of_agents().await;
    let parent = world.agent(1).await;
    world.child(&parent, &scope("artifacts:read")).await;
    let before = world.store.facts_read();
    world.child(&parent, &scope("artifacts:read")).await;
    assert_eq!(world.store.facts_read() - before, 3);
}
