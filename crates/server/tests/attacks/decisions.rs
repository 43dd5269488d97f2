//! Decisions: what a resource is told of a use, what it is never told, and what is recorded of it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_domain::{BlockOn, TaskId};
use dayfly_server::app::{Actor, ApplyRequest, Contained};
use dayfly_store::{EntryRange, FactsQuery, Fault, Store};
use dayfly_token::client::{ProofRequest, dpop_proof};
use dayfly_token::sign::SigningKey;
use serde_json::{Value, json};

use super::job::{Job, claims, new_key, payload, signed, signed_as};
use super::world::{ARTIFACTS, BASELINE, ISSUER, QUEUE, Reply, World, acme, platform, unique};

const BY: Actor = Actor::Local { uid: 7 };
/// Where the job sends its request: a part of the resource.
const PLACE: &str = "https://artifacts.example/api/octo/a?x=1";

fn basic(resource: &str) -> String {
    let basic = STANDARD.encode(format!("{resource}:secret+of+{resource}"));
    format!("Basic {basic}")
}

/// The bearer of a token, as a resource shows one.
fn bearer(token: &str) -> Value {
    json!({
        "type": "credential",
        "id": payload(token)["jti"],
        "properties": { "token": token },
    })
}

/// A proof for a request to the resource.
fn proof_for(world: &World, key: &SigningKey, token: &str, method: &str, url: &str) -> String {
    let asked = ProofRequest {
        method,
        url,
        now: world.now(),
        jti: &unique(),
        nonce: None,
        access_token: Some(token),
    };
    dpop_proof(key, &asked).unwrap()
}

/// The job as it shows itself at the resource, by a fresh proof.
pub(crate) fn subject(world: &World, job: &Job) -> Value {
    let proof = proof_for(world, &job.key, &job.token, "PUT", PLACE);
    with_proof(job, &proof)
}

fn with_proof(job: &Job, proof: &str) -> Value {
    let mut subject = bearer(&job.token);
    subject["properties"]["dpop"] = proof.into();
    subject["properties"]["method"] = "PUT".into();
    subject["properties"]["url"] = PLACE.into();
    subject
}

/// An artifact of the release, as its ceiling bounds it.
pub(crate) fn artifact(id: &str) -> Value {
    json!({ "type": "artifact", "id": id, "properties": { "bytes": 10, "region": "eu" } })
}

pub(crate) fn asks(subject: Value, action: &str, resource: Value) -> Value {
    json!({ "subject": subject, "action": { "name": action }, "resource": resource })
}

impl World {
    async fn decide_at(&self, path: &str, authorization: &str, body: &str) -> Reply {
        let headers = [
            ("content-type", "application/json"),
            ("authorization", authorization),
        ];
        self.send("POST", path, &headers, body.to_owned()).await
    }

    async fn evaluate(&self, resource: &str, asked: &Value) -> Reply {
        let path = "/access/v1/evaluation";
        self.decide_at(path, &basic(resource), &asked.to_string())
            .await
    }

    async fn evaluate_all(&self, asked: &Value) -> Reply {
        let path = "/access/v1/evaluations";
        self.decide_at(path, &basic("artifacts"), &asked.to_string())
            .await
    }

    /// What the artifacts are told: `true`, or the reason.
    pub(crate) async fn may(&self, asked: &Value) -> String {
        self.may_at("artifacts", asked).await
    }

    async fn may_at(&self, resource: &str, asked: &Value) -> String {
        let reply = self.evaluate(resource, asked).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        told(&reply.body)
    }

    /// Which rule denied it, as the operator is told.
    async fn rule(&self, asked: &Value) -> &'static str {
        let reply = self.evaluate("artifacts", asked).await;
        assert_eq!(reply.body["decision"], false, "{}", reply.text);
        let id = reply.body["context"]["refusal"].as_str().unwrap();
        self.app.why(id.parse().unwrap()).unwrap().rule
    }

    /// The leaves of uses, each with its annex.
    fn uses(&self) -> Vec<(Value, Value)> {
        let entries = self.store.entries(&acme(), EntryRange::From(0), 1000);
        let read = entries.unwrap().into_iter().map(|entry| {
            let leaf: Value = serde_json::from_str(&entry.leaf).unwrap();
            let annex = entry.annex.map_or_else(String::new, |annex| annex.data);
            (leaf, serde_json::from_str(&annex).unwrap_or(Value::Null))
        });
        read.filter(|(leaf, _)| leaf["kind"].as_str().unwrap().starts_with("use."))
            .collect()
    }

    async fn apply_text(&self, name: &str, text: &str) {
        let folder = self.folder.path().join("acme");
        std::fs::write(folder.join(name), text).unwrap();
        let applied = self
            .app
            .apply(&self.tenant(), ApplyRequest::default(), &BY, "a test")
            .await;
        assert!(applied.unwrap().applied);
    }
}

fn told(decision: &Value) -> String {
    match decision["decision"].as_bool().unwrap() {
        true => "true".to_owned(),
        false => decision["context"]["reason"].as_str().unwrap().to_owned(),
    }
}

#[tokio::test]
async fn a_use_is_decided_by_the_record_and_recorded_before_it_is_answered() {
    let world = World::new().await;
    let job = world.job(1).await;
    let before = world.size();
    let mut asked = asks(subject(&world, &job), "publish", artifact("octo/a"));
    asked["context"] = json!({ "ip": "192.0.2.9", "retry": 2 });
    let reply = world.evaluate("artifacts", &asked).await;
    assert_eq!(
        reply.body,
        json!({ "decision": true, "context": { "entry": before } })
    );
    assert_eq!(reply.header("cache-control"), "no-store");
    let (leaf, annex) = world.uses().remove(0);
    assert_eq!(leaf["kind"], "use.allowed");
    assert_eq!(
        leaf["data"],
        json!({
            "about": job.task, "client": job.client, "credential": payload(&job.token)["jti"],
            "resource": "artifacts", "type": "artifact", "action": "publish",
        })
    );
    // What the resource says may be about somebody: it can be erased.
    assert_eq!(annex["used"]["identifier"], json!({"path": ["octo/a"]}));
    assert_eq!(annex["said"], json!({"ip": "192.0.2.9", "retry": "2"}));
    assert_eq!(annex["policy"]["decisions"][0]["action"], "use");
    assert!(!annex.to_string().contains(&job.token));
    // A name of the same credential does as well as another.
    for name in [
        payload(&job.token)["sub"].clone(),
        job.client.as_str().into(),
    ] {
        let mut again = subject(&world, &job);
        again["id"] = name;
        assert_eq!(
            world
                .may(&asks(again, "read", artifact("octo/a/b/c")))
                .await,
            "access",
            "`*` is one segment"
        );
    }
    let mut again = subject(&world, &job);
    again["id"] = job.client.as_str().into();
    assert_eq!(
        world.may(&asks(again, "read", artifact("octo/b"))).await,
        "true"
    );
}

#[tokio::test]
async fn what_is_not_granted_is_denied_recorded_and_explained_to_others_than_the_resource() {
    let world = World::new().await;
    let job = world.job(1).await;
    let mut denied = 0;
    for (action, resource, rule) in [
        ("delete", artifact("octo/a"), "not_covered"),
        ("read", artifact("other/a"), "not_covered"),
        ("read", artifact("octo"), "not_covered"),
        // What is asked is a literal, and never normalised.
        ("*", artifact("octo/a"), "detail_value"),
        ("read", artifact("octo/*"), "detail_value"),
        ("read", artifact("octo/../octo/a"), "detail_value"),
        ("read", artifact("octo//a"), "detail_value"),
        ("read", artifact("octo/a%2f.."), "detail_value"),
        ("read", artifact("octo\\a"), "detail_value"),
        ("read", artifact(""), "detail_value"),
        (
            "read",
            json!({"type": "message", "id": "jobs/1"}),
            "detail_type",
        ),
        ("read", json!({"type": "*", "id": "octo/a"}), "detail_type"),
        // A bound that is not named is one that nobody checked.
        (
            "read",
            json!({"type": "artifact", "id": "octo/a"}),
            "not_covered",
        ),
        (
            "read",
            json!({"type": "artifact", "id": "octo/a", "properties": {"bytes": 10}}),
            "not_covered",
        ),
        (
            "read",
            json!({"type": "artifact", "id": "octo/a", "properties": {"bytes": 101, "region": "eu"}}),
            "not_covered",
        ),
        (
            "read",
            json!({"type": "artifact", "id": "octo/a", "properties": {"bytes": 10, "region": "cn"}}),
            "not_covered",
        ),
        (
            "read",
            json!({"type": "artifact", "id": "octo/a", "properties": {"bytes": 1, "region": "eu", "x": 1}}),
            "detail_field",
        ),
        (
            "read",
            json!({"type": "artifact", "id": "octo/a", "properties": {"actions": ["publish"]}}),
            "detail_field",
        ),
        (
            "read",
            json!({"type": "artifact", "id": "octo/a", "properties": {"identifier": "octo/b"}}),
            "detail_field",
        ),
        // The resource as a whole is nothing that a detail with an identifier holds.
        (
            "read",
            json!({"type": "artifact", "id": ARTIFACTS, "properties": {"bytes": 1, "region": "eu"}}),
            "not_covered",
        ),
    ] {
        let asked = asks(subject(&world, &job), action, resource);
        assert_eq!(world.rule(&asked).await, rule, "{action} {asked}");
        denied += 1;
    }
    let uses = world.uses();
    assert_eq!(uses.len(), denied);
    for (leaf, annex) in &uses {
        assert_eq!(leaf["kind"], "use.denied");
        assert_eq!(leaf["data"]["about"], job.task);
        assert!(annex["wanted"].is_string() && annex["got"].is_string());
        // The resource's own words stand where they can be erased.
        assert!(!leaf.to_string().contains("octo"), "{leaf}");
    }
    let asked = asks(subject(&world, &job), "delete", artifact("octo/a"));
    let reply = world.evaluate("artifacts", &asked).await;
    assert_eq!(reply.body["context"]["reason"], "access");
    assert!(!reply.text.contains("publish"), "{}", reply.text);
}

#[tokio::test]
async fn whoever_shows_no_live_credential_of_the_resource_is_told_the_same_and_recorded_nowhere() {
    let world = World::new().await;
    let job = world.job(1).await;
    let at_queue = world.job_of(1, 2, &[("resource", QUEUE)]).await;
    let ended = world.job(3).await;
    assert_eq!(world.end_task(&ended, "completed").await.status, 200);
    let over = world.job(4).await;
    assert_eq!(world.end(&over).await.status, 200);
    let size = world.size();
    let read = |subject| asks(subject, "read", artifact("octo/a"));
    let forged = signed_as(platform(), Some("at+jwt"), Some("k1"), &payload(&job.token));
    let mut subjects = vec![
        junk("x.y.z"),
        junk(&forged),
        subject(&world, &at_queue),
        subject(&world, &ended),
        subject(&world, &over),
        // An id is nobody's authority.
        json!({"type": "credential", "id": job.client}),
        json!({"type": "credential", "id": payload(&job.token)["jti"], "properties": {}}),
    ];
    let mut of_another = subject(&world, &job);
    of_another["id"] = at_queue.client.as_str().into();
    subjects.push(of_another);
    for subject in subjects {
        assert_eq!(world.may(&read(subject.clone())).await, "inactive");
    }
    let mut user = subject(&world, &job);
    user["type"] = "user".into();
    assert_eq!(world.may(&read(user)).await, "request");
    // Another resource is told of it as of none.
    let foreign = read(subject(&world, &job));
    assert_eq!(world.may_at("queue", &foreign).await, "inactive");
    assert_eq!(world.size(), size, "nobody fills the ledger from outside");
}

/// The bearer of anything, by no name of its own.
fn junk(token: &str) -> Value {
    json!({"type": "credential", "id": "x", "properties": {"token": token}})
}

#[tokio::test]
async fn a_bound_credential_needs_a_proof_of_its_key_for_this_request_and_once() {
    let world = World::new().await;
    let job = world.job(1).await;
    let size = world.size();
    let read = |subject| asks(subject, "read", artifact("octo/a"));
    let good = || proof_for(&world, &job.key, &job.token, "PUT", PLACE);
    assert_eq!(world.rule(&read(bearer(&job.token))).await, "dpop_missing");
    // The owner of the job may learn why, whoever showed its token.
    let reply = world.evaluate("artifacts", &read(bearer(&job.token))).await;
    let id = reply.body["context"]["refusal"].as_str().unwrap();
    let explained = json!(*world.app.why(id.parse().unwrap()).unwrap());
    assert_eq!(explained["workload"], "release");
    assert_eq!(explained["resource"], "artifacts");
    assert_eq!(explained["client"], Value::Null, "nobody has proven it");
    let other = proof_for(&world, &new_key(), &job.token, "PUT", PLACE);
    assert_eq!(
        world.rule(&read(with_proof(&job, &other))).await,
        "other_key"
    );
    let elsewhere = "https://artifacts.example/api/octo/b";
    let second = world.job(2).await;
    for bad in [
        proof_for(&world, &job.key, &job.token, "GET", PLACE),
        proof_for(&world, &job.key, &job.token, "PUT", elsewhere),
        proof_for(&world, &job.key, &second.token, "PUT", PLACE),
        super::job::proof(&world, &job.key, "PUT", "/octo/a", None, Some(&job.token)),
        super::job::proof(&world, &job.key, "POST", "/token", None, None),
        "x".to_owned(),
        job.token.clone(),
    ] {
        assert_eq!(world.rule(&read(with_proof(&job, &bad))).await, "dpop");
    }
    for lacks in ["method", "url"] {
        let mut shown = with_proof(&job, &good());
        shown["properties"].as_object_mut().unwrap().remove(lacks);
        assert_eq!(world.rule(&read(shown)).await, "dpop", "{lacks}");
    }
    let old = good();
    world.wait(301);
    // The job's credential is over by then, so a fresh one shows the old proof's age.
    assert_eq!(world.size(), size + 3, "the second job, and nothing else");
    let third = world.job(3).await;
    assert_eq!(world.may(&read(with_proof(&job, &old))).await, "inactive");
    let shown = read(subject(&world, &third));
    assert_eq!(world.may(&shown).await, "true");
    assert_eq!(world.rule(&shown).await, "dpop_replayed");
    // A restart forgets nothing of it, and asks for no nonce.
    let again = world.restarted().await;
    assert_eq!(again.rule(&shown).await, "dpop_replayed");
    assert_eq!(again.may(&read(subject(&again, &third))).await, "true");
}

#[tokio::test]
async fn a_bearer_credential_is_decided_about_without_a_proof_and_a_narrowed_one_by_what_it_holds()
{
    let world = World::new().await;
    let proof = signed(&claims(&world, 3, 1));
    let reply = world.ask(&proof, None, &[("resource", ARTIFACTS)]).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let all = reply.str("access_token").to_owned();
    let plain = |id: &str| json!({"type": "artifact", "id": id});
    assert_eq!(
        world
            .may(&asks(bearer(&all), "publish", plain("octo/a")))
            .await,
        "true"
    );
    let mut shown = bearer(&all);
    shown["properties"]["dpop"] = "x".into();
    assert_eq!(
        world.rule(&asks(shown, "read", plain("octo/a"))).await,
        "other_key"
    );
    let reader = json!([{"type": "artifact", "actions": ["read"], "identifier": "octo/a"}]);
    let narrowed = world
        .narrow(
            &all,
            None,
            &[("authorization_details", &reader.to_string())],
        )
        .await;
    let narrowed = narrowed.str("access_token").to_owned();
    let ask = |action: &'static str, id: &'static str| asks(bearer(&narrowed), action, plain(id));
    assert_eq!(world.may(&ask("read", "octo/a")).await, "true");
    assert_eq!(world.rule(&ask("read", "octo/b")).await, "not_covered");
    assert_eq!(world.rule(&ask("publish", "octo/a")).await, "not_covered");
    // No token says more of a client than its record, whatever it is called.
    assert_eq!(
        world.may(&asks(junk(&all), "read", plain("octo/a"))).await,
        "inactive"
    );
}

#[tokio::test]
async fn policies_bound_a_use_and_are_told_what_the_resource_says() {
    let world = World::new().await;
    let job = world.job(1).await;
    let publish = || asks(subject(&world, &job), "publish", artifact("octo/a"));
    assert_eq!(world.may(&publish()).await, "true");
    // What the resource says is a fact for policies: its word, and told apart from a proof.
    let from = "@id(\"inside\")\nforbid (principal, action == Dayfly::Action::\"use\", resource) unless { context.said.hasTag(\"ip\") && context.said.getTag(\"ip\") == \"10.0.0.1\" };";
    world.apply_text("policies/inside.cedar", from).await;
    assert_eq!(world.may(&publish()).await, "policy");
    let mut inside = publish();
    inside["context"] = json!({"ip": "10.0.0.1"});
    assert_eq!(world.may(&inside).await, "true");
    let (leaf, annex) = world
        .uses()
        .into_iter()
        .find(|(leaf, _)| leaf["data"]["rule"] == "policy_denied")
        .unwrap();
    assert_eq!(leaf["kind"], "use.denied");
    assert_eq!(
        annex["policy"]["decisions"][0]["policies"],
        json!(["inside"])
    );
    // One that errs denies, though it would forbid something else.
    let errs = "forbid (principal, action == Dayfly::Action::\"use\", resource) when { context.open_tasks + 9223372036854775807 > 0 && false };";
    world.apply_text("policies/inside.cedar", errs).await;
    assert_eq!(world.rule(&publish()).await, "policy_failed");
    // Without a permit of uses there are none.
    let grants = "permit (principal, action in [Dayfly::Action::\"start\", Dayfly::Action::\"issue\"], resource);";
    std::fs::remove_file(world.folder.path().join("acme/policies/inside.cedar")).unwrap();
    world.apply_text("policies/baseline.cedar", grants).await;
    assert_eq!(world.rule(&publish()).await, "policy_not_permitted");
    world.apply_text("policies/baseline.cedar", BASELINE).await;
    assert_eq!(world.may(&publish()).await, "true");
}

#[tokio::test]
async fn a_decision_is_asked_for_by_a_resource_and_in_one_way() {
    let world = World::new().await;
    let job = world.job(1).await;
    let body = asks(subject(&world, &job), "read", artifact("octo/a")).to_string();
    let path = "/access/v1/evaluation";
    let own = super::job::assertion(&world, &job.key, &job.client);
    for authorization in [
        "Basic YXJ0aWZhY3RzOng=".to_owned(),
        basic("nobody"),
        "Basic !!!".to_owned(),
        format!("Bearer {}", job.token),
        format!("DPoP {}", job.token),
        format!("Bearer {own}"),
        "Bearer x".to_owned(),
    ] {
        let reply = world.decide_at(path, &authorization, &body).await;
        assert_eq!(reply.refusal(), (401, "invalid_client", "authentication"));
        assert!(reply.header("www-authenticate").starts_with("Basic"));
        // What is asked is not even read.
        let reply = world.decide_at(path, &authorization, "{").await;
        assert_eq!(reply.status, 401);
    }
    let json = [("content-type", "application/json")];
    let nobody = world.send("POST", path, &json, body.clone()).await;
    assert_eq!(nobody.status, 401);
    for (text, rule) in [
        ("", "invalid_parameter"),
        ("[]", "invalid_parameter"),
        ("{\"subject\":{},\"subject\":{}}", "invalid_parameter"),
        ("{}", "missing_parameter"),
        ("{\"subject\":7}", "invalid_parameter"),
        ("\u{1}", "invalid_parameter"),
        (&"[".repeat(60_000), "invalid_parameter"),
    ] {
        let reply = world.decide_at(path, &basic("artifacts"), text).await;
        assert_eq!(
            reply.refusal(),
            (400, "invalid_request", rule),
            "{text:.40}"
        );
    }
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(65_536));
    let reply = world.decide_at(path, &basic("artifacts"), &large).await;
    assert_eq!(reply.refusal(), (413, "invalid_request", "body_size"));
    for media in ["text/plain", "application/x-www-form-urlencoded"] {
        let basic = basic("artifacts");
        let headers = [("content-type", media), ("authorization", basic.as_str())];
        let reply = world.send("POST", path, &headers, body.clone()).await;
        assert_eq!(
            reply.refusal(),
            (400, "invalid_request", "invalid_parameter")
        );
    }
    assert!(world.uses().is_empty());
    // By its key it asks as by a secret, once for each assertion.
    let now = world.now();
    let keyed = json!({
        "iss": "keyed", "sub": "keyed", "aud": ISSUER, "iat": now, "exp": now + 60, "jti": "r",
    });
    let keyed = format!("Bearer {}", signed_as(platform(), None, Some("r1"), &keyed));
    let reply = world.decide_at(path, &keyed, &body).await;
    assert_eq!(told(&reply.body), "inactive", "it is another's token");
    let reply = world.decide_at(path, &keyed, &body).await;
    assert_eq!(reply.rule(), "assertion_spent");
    // A request is told apart by its caller's own id.
    let basic = basic("artifacts");
    for (id, echoed) in [("bfe9eb29", true), (&*"x".repeat(129), false)] {
        let headers = [
            ("content-type", "application/json"),
            ("authorization", basic.as_str()),
            ("x-request-id", id),
        ];
        for text in [body.as_str(), "{}"] {
            let reply = world.send("POST", path, &headers, text.to_owned()).await;
            assert_eq!(reply.header("x-request-id") == id, echoed);
        }
    }
    let found = world
        .send_to("GET", "/.well-known/authzen-configuration/acme", &[], "")
        .await;
    assert_eq!(
        found.body,
        json!({
            "policy_decision_point": ISSUER,
            "access_evaluation_endpoint": format!("{ISSUER}/access/v1/evaluation"),
            "access_evaluations_endpoint": format!("{ISSUER}/access/v1/evaluations"),
        })
    );
}

#[tokio::test]
async fn evaluations_are_answered_in_order_and_a_proof_serves_those_that_were_asked_together() {
    let world = World::new().await;
    let job = world.job(1).await;
    let all = |subject: Value, semantic: &str| {
        json!({
            "subject": subject,
            "action": { "name": "read" },
            "evaluations": [
                { "resource": artifact("octo/a") },
                { "resource": artifact("other/a") },
                { "resource": artifact("octo/b"), "action": { "name": "publish" } },
                { "resource": artifact("octo/c"), "subject": junk("x.y.z") },
            ],
            "options": { "evaluations_semantic": semantic },
        })
    };
    for (semantic, wanted) in [
        ("execute_all", vec!["true", "access", "true", "inactive"]),
        ("deny_on_first_deny", vec!["true", "access"]),
        ("permit_on_first_permit", vec!["true"]),
    ] {
        let before = world.uses().len();
        let reply = world
            .evaluate_all(&all(subject(&world, &job), semantic))
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(reply.body.get("decision").is_none());
        let answers = reply.body["evaluations"].as_array().unwrap();
        let told: Vec<String> = answers.iter().map(told).collect();
        assert_eq!(told, wanted, "{semantic}");
        let recorded = wanted.iter().filter(|told| **told != "inactive").count();
        assert_eq!(world.uses().len(), before + recorded, "{semantic}");
    }
    // Shown again, a proof serves none of them.
    let again = all(subject(&world, &job), "execute_all");
    assert_eq!(world.evaluate_all(&again).await.status, 200);
    let before = world.uses().len();
    let reply = world.evaluate_all(&again).await;
    let answers = reply.body["evaluations"].as_array().unwrap();
    assert!(answers.iter().all(|one| one["decision"] == false));
    assert_eq!(world.uses().len(), before);
    // Without evaluations it is one.
    for list in [json!([]), Value::Null] {
        let mut one = asks(subject(&world, &job), "read", artifact("octo/a"));
        if !list.is_null() {
            one["evaluations"] = list;
        }
        let reply = world.evaluate_all(&one).await;
        assert_eq!(told(&reply.body), "true");
    }
    let mut many = all(subject(&world, &job), "execute_all");
    many["evaluations"] = vec![json!({"resource": artifact("octo/a")}); 65].into();
    assert_eq!(world.evaluate_all(&many).await.status, 400);
    many["evaluations"] = json!([{}]);
    assert_eq!(world.evaluate_all(&many).await.rule(), "missing_parameter");
}

#[tokio::test]
async fn an_end_that_is_acknowledged_wins_over_a_decision_on_its_way() {
    for after in [false, true] {
        let world = Arc::new(World::new().await);
        let job = world.job(1).await;
        let ends = {
            let (world, job) = (Arc::clone(&world), job.clone());
            async move {
                assert_eq!(world.end_task(&job, "completed").await.status, 200);
            }
        };
        if after {
            world.store.after_use(ends);
        } else {
            world.store.before_use(ends);
        }
        let asked = asks(subject(&world, &job), "read", artifact("octo/a"));
        assert_eq!(world.may(&asked).await, "inactive", "after: {after}");
        // What was recorded before the end stays recorded: it was allowed then, and not told.
        assert_eq!(world.uses().len(), usize::from(after));
    }
}

#[tokio::test]
async fn a_block_that_is_acknowledged_wins_over_a_decision_on_its_way() {
    for after in [false, true] {
        let world = Arc::new(World::new().await);
        let job = world.job(1).await;
        let id: TaskId = job.task.parse().unwrap();
        let query = FactsQuery {
            tasks: &[id],
            ..FactsQuery::default()
        };
        let facts = world.store.facts(&acme(), &query).unwrap();
        let open = facts.tasks.into_iter().flatten().next().unwrap();
        let on = BlockOn::of_client(&open.task, 1).remove(0);
        let blocks = {
            let world = Arc::clone(&world);
            async move {
                let tenant = world.tenant();
                let set = world.app.set_block(&tenant, on, &BY, "a test");
                assert!(set.await.is_ok());
            }
        };
        if after {
            world.store.after_use(blocks);
        } else {
            world.store.before_use(blocks);
        }
        let asked = asks(subject(&world, &job), "read", artifact("octo/a"));
        assert_eq!(world.may(&asked).await, "inactive", "after: {after}");
        // After the block no entry says that it was allowed.
        assert_eq!(world.uses().len(), usize::from(after));
    }
}

#[tokio::test]
async fn who_only_asks_fills_neither_what_is_remembered_nor_the_ledger() {
    let world = World::new().await;
    let job = world.job(1).await;
    // Nobody is explained why nobody is known.
    let asked = asks(junk("x.y.z"), "read", artifact("octo/a"));
    let reply = world.evaluate("artifacts", &asked).await;
    assert_eq!(reply.body["context"], json!({ "reason": "inactive" }));
    // Of one client so many denials of a minute are entries, and then it is allowed what it may.
    for n in 0..70 {
        let asked = asks(subject(&world, &job), "delete", artifact("octo/a"));
        let reply = world.evaluate("artifacts", &asked).await;
        assert_eq!(reply.body["decision"], false);
        let explained = reply.body["context"]["refusal"].is_string();
        assert_eq!(explained, n < 60, "{n}");
    }
    assert_eq!(world.uses().len(), 60);
    let asked = asks(subject(&world, &job), "read", artifact("octo/a"));
    assert_eq!(world.may(&asked).await, "true");
    // The rest are counted in one entry of the next minute.
    world.wait(60);
    let asked = asks(subject(&world, &job), "delete", artifact("octo/a"));
    assert_eq!(world.may(&asked).await, "access");
    let entries = world.store.entries(&acme(), EntryRange::From(0), 1000);
    let more = entries.unwrap().into_iter().any(|entry| {
        let leaf: Value = serde_json::from_str(&entry.leaf).unwrap();
        leaf["data"]["of"] == format!("uses of {}", job.client) && leaf["data"]["more"] == 10
    });
    assert!(more);
}

#[tokio::test]
async fn a_proof_is_of_one_request_though_a_resource_asks_for_several_together() {
    let world = World::new().await;
    let job = world.job(1).await;
    let first = subject(&world, &job);
    let mut second = first.clone();
    second["id"] = job.client.as_str().into();
    let asked = json!({ "evaluations": [
        asks(first, "read", artifact("octo/a")),
        asks(second, "read", artifact("octo/b")),
    ]});
    let reply = world.evaluate_all(&asked).await;
    let each: Vec<String> = reply.body["evaluations"]
        .as_array()
        .unwrap()
        .iter()
        .map(told)
        .collect();
    assert_eq!(each, ["true", "key_proof"]);
}

#[tokio::test]
async fn a_change_of_what_is_declared_is_seen_by_a_decision_on_its_way() {
    let world = Arc::new(World::new().await);
    let job = world.job(1).await;
    let forbids = {
        let world = Arc::clone(&world);
        async move {
            let forbid = "forbid (principal, action == Dayfly::Action::\"use\", resource);";
            world.apply_text("policies/none.cedar", forbid).await;
        }
    };
    world.store.before_use(forbids);
    let asked = asks(subject(&world, &job), "read", artifact("octo/a"));
    assert_eq!(world.may(&asked).await, "policy");
    let kinds: Vec<Value> = world
        .uses()
        .into_iter()
        .map(|(leaf, _)| leaf["kind"].clone())
        .collect();
    assert_eq!(kinds, ["use.denied"]);
}

#[tokio::test]
async fn a_key_given_up_wins_over_a_decision_on_its_way() {
    let world = Arc::new(World::new().await);
    let job = world.job(1).await;
    let kid = dayfly_token::jwt::Jwt::parse(&job.token, 8192)
        .unwrap()
        .header()
        .kid
        .clone()
        .unwrap();
    let gives_up = {
        let world = Arc::clone(&world);
        async move {
            let given_up = world
                .app
                .compromise_keys(&world.tenant(), Some(&[kid]), &BY, "a test")
                .await;
            assert!(given_up.is_ok());
        }
    };
    world.store.after_use(gives_up);
    let asked = asks(subject(&world, &job), "read", artifact("octo/a"));
    assert_eq!(world.may(&asked).await, "inactive");
}

#[tokio::test]
async fn without_a_ledger_nothing_is_decided() {
    let (world, memory) = World::in_memory().await;
    let job = world.job(1).await;
    let asked = || asks(subject(&world, &job), "read", artifact("octo/a"));
    assert_eq!(world.may(&asked()).await, "true");
    for fault in [Fault::BeforeWrite, Fault::Lost, Fault::Kept] {
        memory.fail([fault]);
        let reply = world.evaluate("artifacts", &asked()).await;
        assert_eq!(reply.status, 503, "{}", reply.text);
        assert!(!reply.header("retry-after").is_empty());
        assert!(reply.body.get("decision").is_none());
    }
    // Where the record cannot be read, nothing is denied either.
    world.store.fail_facts(true);
    let reply = world.evaluate("artifacts", &asked()).await;
    assert_eq!(reply.status, 503, "{}", reply.text);
    world.store.fail_facts(false);
    assert_eq!(world.may(&asked()).await, "true");
}

#[tokio::test]
async fn what_is_contained_is_not_decided_for_and_a_use_is_no_beat() {
    let world = World::new().await;
    let job = world.job(1).await;
    let asked = || asks(subject(&world, &job), "read", artifact("octo/a"));
    assert_eq!(world.beat(&job).await.status, 200);
    let heard = || {
        let id: TaskId = job.task.parse().unwrap();
        let query = FactsQuery {
            tasks: &[id],
            ..FactsQuery::default()
        };
        let facts = world.store.facts(&acme(), &query).unwrap();
        facts
            .tasks
            .into_iter()
            .flatten()
            .next()
            .unwrap()
            .heard
            .last_seen
    };
    let before = heard();
    world.wait(60);
    assert_eq!(world.may(&asked()).await, "true");
    assert_eq!(heard(), before, "whoever holds a token keeps no task alive");
    let stopped = Contained::Workload("release".parse().unwrap());
    let done = world
        .app
        .contain(&world.tenant(), &stopped, &BY, "a test")
        .await;
    assert!(done.is_ok());
    assert_eq!(world.may(&asked()).await, "inactive");
}
