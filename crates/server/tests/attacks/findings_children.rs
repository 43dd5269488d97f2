//! Children without keys are found, at the workload of whoever handed over to them.

use dayfly_server::record::task_view;
use dayfly_server::telemetry::Metrics;

use super::delegation::scope;
use super::job::{Job, TYPE_JWT, claims, new_key, signed};
use super::world::{TENANT, World, acme};

const DAY: u64 = 86_400;

/// Where binding is optional, a child without a key is marked and found, and counted in the metrics
/// like every open finding.
#[tokio::test]
async fn a_child_without_a_key_is_marked_and_is_a_finding() {
    let world = World::of_agents().await;
    world.app.survey().await;
    let loose = world.job_of(13, 2, &[]).await;
    let bound = world.child(&loose, &scope("artifacts:read")).await;
    world.look(60).await;
    let id = "bearer_child/workload:loose".to_owned();
    assert!(!world.found().contains(&id), "one with a key is none");
    let handover = world.handover(&loose, None, &scope("artifacts:read"));
    let reply = world.come_in(&handover, None, &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    // Nobody has looked when the process ends: it is recorded with the child.
    let world = world.restarted().await;
    world.look(60).await;
    assert!(world.found().contains(&id), "{:?}", world.found());
    assert_eq!(
        world.finding(&id).what.owner(),
        Some(&"team".parse().unwrap())
    );
    assert_eq!(world.told("finding.opened", "bearer_child"), 1);
    // In the ledger it is the one that names no key, and people see that it has none.
    let leaves = world.leaves().into_iter();
    let children = leaves.filter(|leaf| leaf["kind"] == "client.delegated");
    let keys: Vec<_> = children
        .map(|leaf| leaf["data"]["jkt"].is_string())
        .collect();
    assert_eq!(keys, [true, false]);
    let task = loose.task.parse().unwrap();
    let seen = task_view(world.store.as_ref(), &acme(), task)
        .unwrap()
        .unwrap();
    let keys: Vec<_> = seen
        .clients
        .iter()
        .map(|client| client.jkt.is_some())
        .collect();
    assert_eq!(keys, [true, true, false]);
    let gauge = |world: &World| {
        let text = Metrics::default().render(&world.app).unwrap();
        let mut lines = text.lines().map(ToOwned::to_owned);
        lines.find(|line| line.starts_with("dayfly_findings{") && line.contains("bearer_child"))
    };
    let line = gauge(&world).unwrap();
    assert!(
        line.contains("tenant=\"acme\"") && line.ends_with("} 1"),
        "{line}"
    );
    assert_eq!(world.end(&bound).await.status, 200);
    // The day is kept, so it closes a week after that day began.
    let since = world.now() % DAY;
    world.look(7 * DAY - since - 60).await;
    assert!(world.found().contains(&id), "{:?}", world.found());
    world.look(60).await;
    assert!(!world.found().contains(&id), "{:?}", world.found());
    assert_eq!(gauge(&world), None, "what closed is counted no more");
}

/// Of a helper of a helper it is the workload of the client that handed on, not that of the task.
#[tokio::test]
async fn a_child_without_a_key_is_its_own_parents_workloads_finding() {
    let crew = r#"
[workload.lead]
owner   = "team"
kind    = "agent"
purpose = "hands on to a crew"
match   = { issuer = "github", repository_id = "41" }
token   = { binding = "optional" }
delegation = { depth = 2, clients = 4, to = ["self", "crew"] }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "artifacts:read" }]

[workload.crew]
owner   = "team"
kind    = "agent"
purpose = "has helpers without keys"
match   = { issuer = "github", repository_id = "42" }
token   = { binding = "optional" }
delegation = { depth = 1, clients = 4, to = ["self"] }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "artifacts:read" }]
"#;
    let world = World::declared(&format!("{TENANT}{crew}")).await;
    let lead = world.job_of(41, 1, &[]).await;
    let (key, given) = (new_key(), scope("artifacts:read"));
    let handover = world.handover(&lead, Some(&key), &given);
    let own = signed(&claims(&world, 42, 1));
    let more = [
        ("actor_token", own.as_str()),
        ("actor_token_type", TYPE_JWT),
    ];
    let reply = world.come_in(&handover, Some(&key), &more).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let child = Job::of(key, handover, &reply);
    let handover = world.handover(&child, None, &given);
    let reply = world.come_in(&handover, None, &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    world.look(60).await;
    let found = world.found().into_iter();
    let found: Vec<String> = found.filter(|id| id.starts_with("bearer_child/")).collect();
    assert_eq!(found, ["bearer_child/workload:crew"]);
    // What is not declared any more is not remembered either.
    world.rewrite("[workload.crew]", "[workload.band]");
    world.rewrite("\"crew\"", "\"band\"");
    world.applied().await;
    world.look(60).await;
    assert!(
        !world
            .found()
            .iter()
            .any(|id| id.starts_with("bearer_child/"))
    );
    world.rewrite("[workload.band]", "[workload.crew]");
    world.rewrite("\"band\"", "\"crew\"");
    world.applied().await;
    world.look(60).await;
    assert!(
        !world
            .found()
            .iter()
            .any(|id| id.starts_with("bearer_child/"))
    );
}
