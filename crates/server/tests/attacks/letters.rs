//! What a `notify` sink is told of requests for approval and of findings: whom to tell, what, and where it is answered.

use dayfly_domain::Time;
use dayfly_server::app::{Actor, ApplyRequest};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::approval::{APPROVALS, Asked, asked_of};
use super::job::{claims, new_key, signed};
use super::sinks::{Sink, subscribed};
use super::world::{ADMIN, ARTIFACTS, TENANT, World, write_tenant};

const BY: Actor = Actor::Local { uid: 7 };

/// What the owner reads of a request that waits until a time.
fn text(
    world: &World,
    asked: &Asked,
    workload: &str,
    wants: &str,
    until: u64,
    has: &str,
) -> String {
    let until = Time::from_seconds(world.now() + until);
    let (task, at) = (&asked.task, format!("--tenant acme --server {ADMIN}"));
    format!(
        "workload {workload} of team asks for {wants} until {until}, to have {has}: \
         `dayfly task show {task} {at}` shows it, `dayfly task approve {task} {at} --reason …` \
         or `dayfly task deny {task} {at} --reason …` answers it"
    )
}

async fn asked(world: &World, repository: u64, more: &[(&str, &str)]) -> Asked {
    let (key, proof) = (new_key(), signed(&claims(world, repository, 1)));
    let mut form = vec![("completion_mode", "deferred")];
    form.extend_from_slice(more);
    let reply = world.ask(&proof, Some(&key), &form).await;
    // Whoever waits is told where people sit, who have to be asked by somebody.
    assert_eq!(reply.body["admin_url"], ADMIN);
    asked_of(key, proof, &reply)
}

#[tokio::test]
async fn a_request_for_approval_tells_whom_to_ask_what_for_and_where() {
    let world = World::declared(&format!("{TENANT}{APPROVALS}")).await;
    world.write_policy(
        "ask.cedar",
        "@id(\"ask\") @approval(\"10m\") @people(\"2\")\nforbid (principal == Dayfly::Workload::\"release\", action == Dayfly::Action::\"start\", resource);",
    );
    world.applied().await;
    let (sink, port) = Sink::taking().await;
    let outgoing = subscribed(&world, port, "[\"task.requested\"]").await;
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(outgoing.run(stopping));
    // The workload's own approval: of all that it may at that resource.
    let whole = asked(&world, 7, &[("resource", ARTIFACTS)]).await;
    // A policy's, of a scope and of a detail.
    let details = json!([{
        "type": "message", "locations": [super::world::QUEUE], "actions": ["read"],
        "identifier": "jobs/secret-of-a-claim",
    }])
    .to_string();
    let some = [
        ("scope", "artifacts:publish"),
        ("authorization_details", details.as_str()),
        ("resource", ARTIFACTS),
    ];
    let some = asked(&world, 1, &some).await;
    let told = sink.until(2).await;
    let wanted = [
        text(
            &world,
            &whole,
            "deploy",
            "an approval",
            1800,
            "artifact (publish, read) at artifacts",
        ),
        text(
            &world,
            &some,
            "release",
            "two approvals",
            600,
            "artifact (publish, read) at artifacts and message (read) at queue",
        ),
    ];
    for ((letter, text), asked) in told.iter().zip(&wanted).zip([&whole, &some]) {
        assert_eq!(letter["kind"], "task.requested");
        assert_eq!(letter["task"], asked.task.as_str());
        assert_eq!(letter["data"]["text"], text.as_str());
        assert_eq!(letter["data"]["contact"], "team@example.com");
        assert_eq!(letter["data"]["owner"], "team");
        let mut members: Vec<&String> = letter["data"].as_object().unwrap().keys().collect();
        members.sort();
        let all = [
            "contact",
            "expires",
            "issuer",
            "owner",
            "people",
            "requested",
            "resource",
            "text",
            "workload",
        ];
        assert_eq!(members, all);
        // Nothing of it is made of claims: neither what is asked for by name nor which run it is.
        let letter = letter.to_string();
        for claim in ["secret-of-a-claim", "octo", "run_id", &asked.code] {
            assert!(!letter.contains(claim), "{claim}: {letter}");
        }
    }
    stop.send_replace(true);
    running.await.unwrap();
}

#[tokio::test]
async fn a_finding_that_opens_or_closes_tells_whom_it_concerns() {
    let world = World::new().await;
    world.app.survey().await;
    let (sink, port) = Sink::taking().await;
    let on = "[\"finding.opened\", \"finding.closed\"]";
    let outgoing = subscribed(&world, port, on).await;
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(outgoing.run(stopping));
    let apply = async |tenant: &str| {
        write_tenant(&world.folder.path().join("acme"), tenant);
        let request = ApplyRequest::default();
        let tenant = world.tenant();
        let applied = world.app.apply(&tenant, request, &BY, "better").await;
        assert!(applied.unwrap().applied);
        world.wait(5);
        world.app.sweep().await;
        world.app.survey().await;
    };
    apply(&TENANT.replace(", binding = \"optional\"", "")).await;
    let closed = sink.until(1).await.remove(0);
    assert_eq!(closed["kind"], "finding.closed");
    let data = &closed["data"];
    let said = (&data["finding"], &data["workload"], &data["owner"]);
    assert_eq!(
        said,
        (&json!("bearer_allowed"), &json!("legacy"), &json!("team"))
    );
    assert_eq!(data["contact"], "team@example.com");
    assert!(data["opened"].is_u64() && data["closed"].as_u64() > data["opened"].as_u64());
    // Whom it concerns is as it is declared when it is told.
    apply(&TENANT.replace("team@example.com", "others@example.com")).await;
    let opened = sink.until(2).await.remove(1);
    assert_eq!(opened["kind"], "finding.opened");
    assert_eq!(opened["data"]["finding"], "bearer_allowed");
    assert_eq!(opened["data"]["contact"], "others@example.com");
    assert_eq!(opened["data"].get("text"), None::<&Value>);
    stop.send_replace(true);
    running.await.unwrap();
}
