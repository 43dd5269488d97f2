//! What waits for people beside what ends otherwise: runs that are over, ends by hand, blocks, and hand-overs.

use std::sync::Arc;

use dayfly_domain::{BlockOn, ClientId, Closed, Name, Span, Time};
use dayfly_server::app::{Actor, Contained, InstanceOf, Stop};
use dayfly_store::{Append, CloseWrite, FactsQuery, Store};
use serde_json::json;

use super::approval::{APPROVALS, Asked, asked_of, world};
use super::delegation::{AGENTS, scope};
use super::job::{claims, new_key, signed, with};
use super::signals::{DISABLED, OPERATORS, SESSION};
use super::webhooks::{declared, job_over, run_over};
use super::world::{TENANT, World, acme};

const BY: Actor = Actor::Local { uid: 7 };

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn instance(run: u64, job: u64) -> InstanceOf {
    InstanceOf {
        issuer: None,
        instance: format!("repository_id=7,run_id={run},run_attempt=1,check_run_id={job}"),
    }
}

impl World {
    /// A job of a run of the workload `deploy` that waits.
    async fn asked_by(&self, run: u64, job: u64) -> Asked {
        let more = json!({ "check_run_id": job.to_string() });
        let (key, proof) = (new_key(), signed(&with(claims(self, 7, run), more)));
        let reply = self.defer(&proof, Some(&key)).await;
        asked_of(key, proof, &reply)
    }

    async fn is_over(&self, asked: &Asked, cause: &str) {
        assert!(!self.is_open(&asked.task));
        assert_eq!(self.ended_by(&asked.task), cause);
        self.wait(5);
        let reply = self.poll(asked).await;
        assert_eq!(reply.refusal(), (400, "access_denied", "approval_denied"));
        assert_eq!(self.granted_to(asked), 0);
    }

    fn granted_to(&self, asked: &Asked) -> usize {
        let grants = ["task.started", "client.registered", "credential.issued"];
        let leaves = self.leaves().into_iter();
        let of = leaves.filter(|leaf| {
            leaf["task"] == asked.task.as_str() && grants.contains(&leaf["kind"].as_str().unwrap())
        });
        of.count()
    }
}

async fn with_webhooks() -> World {
    World::declared(&format!("{}{APPROVALS}", declared())).await
}

#[tokio::test]
async fn a_pending_task_whose_run_is_cancelled_ends() {
    let world = with_webhooks().await;
    let (waits, approved, other) = (
        world.asked_by(7, 70).await,
        world.asked_by(7, 71).await,
        world.asked_by(8, 80).await,
    );
    world.approve(&approved, "mona").await.unwrap();
    let reply = world.hub("workflow_run", &run_over(7, 7, 1)).await;
    assert_eq!(
        (reply.status, reply.body),
        (200, json!({"tasks": 2, "clients": 0}))
    );
    world.is_over(&waits, "upstream").await;
    world.is_over(&approved, "upstream").await;
    assert_eq!(
        world.approve(&waits, "mona").await.unwrap_err(),
        "not_pending"
    );
    // The other run is untouched.
    world.approve(&other, "mona").await.unwrap();
    assert_eq!(world.poll(&other).await.status, 200);
}

/// The task is the run's, and the job that asked for it is over: nobody is left to fetch it.
#[tokio::test]
async fn a_pending_task_of_a_run_ends_with_the_job_that_asked_and_with_no_other() {
    let key = "repository_id = \"7\" }\n";
    assert!(APPROVALS.contains(key));
    let of_run = APPROVALS.replace(key, &format!("{key}task = \"run\"\n"));
    let world = World::declared(&format!("{}{of_run}", declared())).await;
    let asked = world.asked_by(7, 70).await;
    world.approve(&asked, "mona").await.unwrap();
    for (job, tasks) in [(71, 0), (70, 1)] {
        assert!(world.is_open(&asked.task));
        let reply = world.hub("workflow_job", &job_over(7, 7, 1, job)).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.body["tasks"], tasks, "{}", reply.text);
    }
    world.is_over(&asked, "upstream").await;
}

#[tokio::test]
async fn a_poll_after_the_upstream_job_ended_is_access_denied() {
    let world = with_webhooks().await;
    let (one, two) = (world.asked_by(7, 70).await, world.asked_by(7, 71).await);
    for asked in [&one, &two] {
        world.approve(asked, "mona").await.unwrap();
    }
    let reply = world.hub("workflow_job", &job_over(7, 7, 1, 70)).await;
    assert_eq!(
        (reply.status, reply.body),
        (200, json!({"tasks": 1, "clients": 0}))
    );
    world.is_over(&one, "upstream").await;
    assert_eq!(world.poll(&two).await.status, 200);
}

/// A close that has seen the task and left it open, as one before this build would: the redemption
/// looks for itself, and what is closed between its look and its append is a conflict.
#[tokio::test]
async fn a_redemption_that_meets_the_close_of_its_run_grants_nothing() {
    for meets in [false, true] {
        let world = world().await;
        let asked = world.asked_by(7, 70).await;
        world.approve(&asked, "mona").await.unwrap();
        let tasks = [asked.task.parse().unwrap()];
        let query = FactsQuery {
            tasks: &tasks,
            ..FactsQuery::default()
        };
        let open = world.store.facts(&acme(), &query).unwrap().tasks;
        let task = open.into_iter().flatten().next().unwrap().task;
        let now = Time::from_seconds(world.now());
        let close = Append {
            now,
            closes: vec![CloseWrite {
                issuer: task.issuer.clone(),
                series: task.series.clone(),
                closed: Closed {
                    attempt: task.attempt,
                    part: Some("check_run_id=70".to_owned()),
                    at: now,
                },
                seen: vec![(task.id, task.version)],
                until: now + Span::from_seconds(3600),
            }],
            ..Append::default()
        };
        let store = Arc::clone(&world.store);
        let closed = async move {
            store.append(&acme(), close).await.unwrap();
        };
        if meets {
            world.store.before_next(closed);
        } else {
            closed.await;
        }
        let reply = world.poll(&asked).await;
        assert_eq!(reply.refusal(), (400, "access_denied", "approval_denied"));
        assert_eq!(world.grants(), 0, "{meets}");
    }
}

#[tokio::test]
async fn everything_that_people_end_ends_what_waits_in_it() {
    for what in [
        Contained::Owner(name("team")),
        Contained::Workload(name("deploy")),
        Contained::Issuer(name("github")),
        Contained::Tenant,
    ] {
        let world = world().await;
        let asked = world.asked(7, 1).await;
        world.approve(&asked, "mona").await.unwrap();
        let tenant = world.tenant();
        let counted = world.app.would_stop(&tenant, &what, &Stop::End).unwrap();
        assert_eq!((counted.open, counted.clients), (1, 0), "{what:?}");
        let done = world.app.stop(&tenant, &what, &Stop::End, &BY, "leaked");
        assert_eq!(done.await.unwrap().open, Some(1), "{what:?}");
        // No sweep has run: the answer alone is obeyed.
        world.wait(5);
        assert_ne!(world.poll(&asked).await.status, 200, "{what:?}");
        assert_eq!(world.grants(), 0, "{what:?}");
        assert_eq!(world.app.sweep().await, 1, "{what:?}");
        assert!(!world.is_open(&asked.task), "{what:?}");
    }
}

#[tokio::test]
async fn an_instance_that_waits_is_ended_by_hand_and_a_client_that_is_none_is_not() {
    let world = world().await;
    let (one, two) = (world.asked_by(7, 70).await, world.asked_by(7, 71).await);
    for asked in [&one, &two] {
        world.approve(asked, "mona").await.unwrap();
    }
    let tenant = world.tenant();
    let client = ClientId {
        task: one.task.parse().unwrap(),
        number: 1,
    };
    let size = world.size();
    assert!(world.app.client_would_end(&tenant, client, false).is_err());
    let done = world.app.end_client(&tenant, client, false, &BY, "x").await;
    assert!(done.is_err() && world.size() == size);
    let what = instance(7, 70);
    let counted = world.app.instance_would_end(&tenant, &what, false);
    let counted = counted.unwrap();
    assert_eq!((counted.open, counted.clients), (1, 0));
    let done = world
        .app
        .end_instance(&tenant, &what, false, &BY, "taken over");
    let done = done.await.unwrap();
    assert_eq!((done.tasks, done.clients.len()), (Some(1), 0));
    world.is_over(&one, "operator").await;
    assert_eq!(world.poll(&two).await.status, 200);
}

#[tokio::test]
async fn what_is_blocked_between_approval_and_redemption_is_not_granted() {
    let blocks = |asked: &serde_json::Value| {
        let text = |name: &str| asked["data"][name].as_str().unwrap().to_owned();
        let issuer = name("github");
        [
            BlockOn::Key {
                issuer: issuer.clone(),
                key: text("key"),
            },
            BlockOn::Instance {
                issuer: issuer.clone(),
                instance: text("instance"),
            },
            BlockOn::Series {
                issuer: issuer.clone(),
                series: text("series"),
            },
        ]
    };
    for which in 0..3 {
        let world = world().await;
        let asked = world.asked_by(7, 70).await;
        world.approve(&asked, "mona").await.unwrap();
        let requested = world
            .leaves()
            .into_iter()
            .find(|leaf| leaf["kind"] == "task.requested")
            .unwrap();
        let on = blocks(&requested)[which].clone();
        let tenant = world.tenant();
        let set = world.app.set_block(&tenant, on.clone(), &BY, "odd").await;
        set.unwrap();
        let reply = world.poll(&asked).await;
        assert_eq!(reply.refusal(), (400, "access_denied", "blocked"), "{on}");
        assert_eq!(world.grants(), 0, "{on}");
    }
}

#[tokio::test]
async fn what_people_approve_is_not_handed_over_to() {
    let scan = "[workload.scan]\n";
    let text = format!("{TENANT}{AGENTS}");
    assert!(text.contains(scan));
    let asks = format!("{scan}approval = {{ by = \"owner\", within = \"30m\" }}\n");
    let world = World::declared(&text.replace(scan, &asks)).await;
    let root = world.agent(1).await;
    let reply = world.scanner(&root, 22, &scope("artifacts:read")).await;
    assert_eq!(reply.refusal(), (400, "access_denied", "approval_needed"));
    let got = reply.body["refused"]["got"].as_str();
    assert_eq!(got, Some("a child that is handed to"), "{}", reply.text);
}

/// A policy that asks people about a start asks them about nothing else: what it would ask about is
/// not handed over to either, and the rest is.
#[tokio::test]
async fn what_a_policy_has_people_approve_is_not_handed_over_to() {
    let world = World::of_agents().await;
    let policy = |when: &str| {
        format!(
            "@id(\"asks\") @approval(\"30m\")\nforbid (principal == Dayfly::Workload::\"scan\", action == Dayfly::Action::\"start\", resource)\nwhen {{ {when} }};\n"
        )
    };
    let apply = async |text: &str| {
        world.write_policy("asks.cedar", text);
        let request = dayfly_server::app::ApplyRequest::default();
        let by = Actor::Local { uid: 7 };
        let tenant = world.tenant();
        let applied = world.app.apply(&tenant, request, &by, "a test");
        assert!(applied.await.unwrap().applied);
    };
    apply(&policy(
        "context.proof.hasTag(\"run_id\") && context.proof.getTag(\"run_id\") == \"22\"",
    ))
    .await;
    let root = world.agent(1).await;
    let reply = world.scanner(&root, 22, &scope("artifacts:read")).await;
    assert_eq!(reply.refusal(), (400, "access_denied", "approval_needed"));
    let got = reply.body["refused"]["got"].as_str();
    assert_eq!(got, Some("a child that is handed to"), "{}", reply.text);
    let id = reply.str("refusal").parse().unwrap();
    let why = world.app.why(id).unwrap();
    assert!(why.hint.contains("asks"), "{}", why.hint);
    let reply = world.scanner(&root, 23, &scope("artifacts:read")).await;
    assert_eq!(
        reply.status, 200,
        "nobody is asked about it: {}",
        reply.text
    );
    // Where something else denies its start too, nobody is asked about it any less.
    let asks = policy("true");
    let denies = asks.replace("@id(\"asks\") @approval(\"30m\")", "@id(\"denies\")");
    let twice = format!("{asks}{denies}");
    apply(&twice).await;
    let reply = world.scanner(&root, 24, &scope("artifacts:read")).await;
    assert_eq!(reply.refusal(), (400, "access_denied", "approval_needed"));
    apply(&denies).await;
    let reply = world.scanner(&root, 25, &scope("artifacts:read")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    // A helper of the agent's own proves nothing, and is of the task that nobody had to approve.
    world.child(&root, &scope("artifacts:read")).await;
    // What cannot be evaluated might have asked.
    apply(&policy(
        "context.open_tasks - 9223372036854775807 - 9223372036854775807 < 0",
    ))
    .await;
    let reply = world.scanner(&root, 24, &scope("artifacts:read")).await;
    assert_eq!(reply.rule(), "policy_failed", "{}", reply.text);
    // One that forbids a start and asks nobody says nothing of a hand-over.
    apply("@id(\"never\") forbid (principal == Dayfly::Workload::\"scan\", action == Dayfly::Action::\"start\", resource);\n").await;
    let reply = world.scanner(&root, 25, &scope("artifacts:read")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn what_was_approved_by_somebody_whose_account_is_gone_does_not_open() {
    let world = World::declared(&format!("{TENANT}{APPROVALS}{OPERATORS}")).await;
    for (repository, run, approvers, gone) in [
        (7, 1, ["mona", ""], "mona"),
        (8, 1, ["anna", "hugo"], "anna"),
        (8, 2, ["dora", "otto"], "otto"),
    ] {
        let asked = world.asked(repository, run).await;
        let people = approvers.iter().filter(|who| !who.is_empty());
        for who in people {
            world.approve(&asked, who).await.unwrap();
        }
        world.hears(DISABLED, gone).await;
        let refused = world.poll(&asked).await;
        assert_eq!(
            refused.refusal(),
            (400, "access_denied", "approval_lapsed"),
            "{}",
            refused.text
        );
        world.is_over(&asked, "upstream").await;
    }
    // Asked for anew, it is for somebody else to approve.
    let anew = world.asked(7, 2).await;
    world.approve(&anew, "hugo").await.unwrap();
    // A session that is over takes no approval back: it was given while it was not.
    world.hears(SESSION, "hugo").await;
    assert_eq!(world.poll(&anew).await.status, 200);
}
