//! A ledger that stalls: nothing is granted, every end is taken, obeyed, and recorded when it is back.

use std::sync::Arc;

use dayfly_domain::BlockOn;
use dayfly_server::app::{Actor, Contained, JOURNAL};
use dayfly_store::{FactsQuery, Fault, MemoryStore, Store};
use serde_json::{Value, json};

use super::job::{Job, claims, dpop, new_key, signed};
use super::world::{ARTIFACTS, Reply, World, acme};

const BY: Actor = Actor::Local { uid: 7 };

fn stall(store: &MemoryStore) {
    store.fail([Fault::BeforeWrite; 5000]);
}

impl World {
    async fn fresh(&self, run: u64) -> Reply {
        let proof = signed(&claims(self, 1, run));
        self.ask(&proof, Some(&new_key()), &[("resource", ARTIFACTS)])
            .await
    }

    async fn revoke_by(&self, job: &Job) -> Reply {
        let header = dpop(self, &job.key, "POST", "/revoke");
        let form = [("token", job.token.as_str())];
        self.form("/revoke", &form, &[("dpop", &header)]).await
    }

    async fn recover(&self) {
        self.wait(5);
        self.app.sweep().await;
        assert_eq!(self.app.unready(), Vec::<String>::new());
    }

    fn leaf(&self, kind: &str, task: Option<&str>) -> Value {
        let leaves = self.leaves();
        let mut of = leaves
            .into_iter()
            .filter(|leaf| leaf["kind"] == kind && task.is_none_or(|task| leaf["task"] == task));
        let found = of.next().unwrap_or_else(|| panic!("no {kind} of {task:?}"));
        assert!(of.next().is_none(), "more than one {kind} of {task:?}");
        found
    }
}

/// Every way to end something, in a stall: what was answered holds at once, after a restart in the
/// middle, and in the ledger afterwards, with cause and time of the answer.
#[tokio::test]
async fn every_end_is_taken_in_a_stall_and_recorded_as_it_was_answered() {
    let (world, store) = World::in_memory().await;
    let jobs: Vec<Job> = {
        let mut jobs = Vec::new();
        for run in 1..=5 {
            jobs.push(world.job(run).await);
        }
        jobs
    };
    let older = world.job(6).await;
    let renewed = world.renew(&older, &[]).await;
    assert_eq!(renewed.status, 200);
    world.app.sweep().await;
    stall(&store);
    world.wait(3);
    let answered = world.now() * 1000;
    let [by_client, by_task, revoked, by_operator, contained] = jobs.as_slice() else {
        panic!("five jobs");
    };
    for reply in [
        world.end(by_client).await,
        world.end_task(by_task, "failed").await,
    ] {
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(reply.body.get("recorded").is_none(), "{}", reply.text);
    }
    assert_eq!(world.revoke_by(revoked).await.status, 200);
    // An older credential alone.
    assert_eq!(world.revoke_by(&older).await.status, 200);
    assert!(!world.is_active(&older.token).await);
    assert!(world.is_active(renewed.str("access_token")).await);
    let task = by_operator.task.parse().unwrap();
    let ended = world
        .app
        .operator_end(&world.tenant(), task, &BY, "leaked")
        .await
        .unwrap();
    assert!(ended.recorded && ended.at.millis() == answered);
    assert!(world.is_active(&contained.token).await);
    let refused = world.fresh(9).await;
    assert_eq!(
        refused.refusal(),
        (503, "temporarily_unavailable", "unavailable")
    );
    assert!(!refused.header("retry-after").is_empty());
    let reasons = world.app.unready();
    assert!(
        reasons[0].starts_with("the ledger is stalled since ") && reasons[0].contains("5 ends"),
        "{reasons:?}"
    );
    let owner = Contained::Owner("team".parse().unwrap());
    let done = world
        .app
        .contain(&world.tenant(), &owner, &BY, "left")
        .await;
    assert!(done.unwrap().recorded);
    let size = world.size();

    // The server falls and comes back while the ledger still stalls: nothing is recorded, and
    // nothing of it is accepted.
    let mut all: Vec<&Job> = jobs.iter().collect();
    all.push(&older);
    let again = world.restarted().await;
    for world in [&world, &again] {
        for job in &all {
            assert!(!world.is_active(&job.token).await, "{}", job.task);
            assert!(world.renew(job, &[]).await.status >= 400);
            assert_eq!(
                world
                    .call(job, "GET", &format!("/tasks/{}", job.task), "")
                    .await
                    .status,
                401
            );
            assert!(world.narrow(&job.token, Some(&job.key), &[]).await.status >= 400);
        }
        assert!(!world.is_active(renewed.str("access_token")).await);
        assert_eq!(world.size(), size);
    }
    let blocks = again.app.blocks(&again.tenant()).unwrap();
    assert_eq!(blocks.len(), 2, "{blocks:?}");

    store.heal();
    again.recover().await;
    for (job, cause) in [
        (by_client, "completed"),
        (by_task, "failed"),
        (by_operator, "operator"),
    ] {
        let leaf = again.leaf("task.ended", Some(&job.task));
        assert_eq!(leaf["data"]["cause"], cause);
        assert_eq!(leaf["data"]["at"], answered);
    }
    assert_eq!(
        again.leaf("client.ended", Some(&revoked.task))["data"]["cause"],
        "revoked"
    );
    again.leaf("credential.revoked", Some(&older.task));
    for job in [contained, &older] {
        let leaf = again.leaf("task.ended", Some(&job.task));
        assert_eq!(leaf["data"]["cause"], "owner_offboarded");
    }
    let (stalled, resumed) = (
        again.leaf("ledger.stalled", None),
        again.leaf("ledger.resumed", None),
    );
    assert_eq!(stalled["data"]["since"], answered);
    assert_eq!(
        resumed["data"],
        json!({"since": answered, "until": again.now() * 1000, "held": 6})
    );
    let facts = again.store.facts(&acme(), &FactsQuery::default()).unwrap();
    assert!(
        facts
            .blocks
            .iter()
            .any(|block| block.on == BlockOn::Owner("team".parse().unwrap()))
    );
    assert!(
        facts
            .blocks
            .iter()
            .any(|block| matches!(block.on, BlockOn::Series { .. }))
    );
    assert_eq!(again.fresh(10).await.rule(), "blocked");
    // At never decreases with the position.
    let leaves = again.leaves();
    assert!(leaves.iter().map(|leaf| leaf["at"].as_u64()).is_sorted());
    // What was lifted later is not contained again by a journal that was read before.
    again
        .app
        .lift(&again.tenant(), &owner, &BY, "back")
        .await
        .unwrap();
    let size = again.size();
    let last = again.restarted().await;
    last.app.sweep().await;
    assert_eq!(last.size(), size);
    assert_eq!(last.fresh(11).await.status, 200);
}

/// A crash after the record and before the journal is emptied: recording again changes nothing.
#[tokio::test]
async fn a_journal_that_was_recorded_and_not_emptied_is_harmless() {
    let (world, store) = World::in_memory().await;
    let job = world.job(1).await;
    stall(&store);
    assert_eq!(world.end(&job).await.status, 200);
    let file = world.folder.path().join(JOURNAL);
    let journal = std::fs::read(&file).unwrap();
    store.heal();
    world.recover().await;
    assert_eq!(world.count("task.ended", &job.task), 1);
    assert_ne!(std::fs::read(&file).unwrap(), journal, "it was emptied");
    std::fs::write(&file, journal).unwrap();
    let again = world.restarted().await;
    assert_eq!(
        again.fresh(2).await.status,
        503,
        "not before it was looked at"
    );
    again.recover().await;
    assert_eq!(again.count("task.ended", &job.task), 1);
    assert_eq!(again.fresh(2).await.status, 200);
}

/// Between the record of a grant and its signature something is held: the look before the signature
/// sees it, although the ledger does not have it.
#[tokio::test]
async fn nothing_is_signed_for_what_is_held_and_not_recorded() {
    for run in [0, 1] {
        let (world, memory) = World::in_memory().await;
        let job = world.job(1).await;
        let (app, memory) = (Arc::clone(&world.app), Arc::clone(&memory));
        let (tenant, task) = (world.tenant(), job.task.parse().unwrap());
        world.store.after_next(async move {
            memory.fail([Fault::BeforeWrite]);
            if run == 0 {
                let owner = Contained::Owner("team".parse().unwrap());
                app.contain(&tenant, &owner, &BY, "left").await.unwrap();
            } else {
                app.operator_end(&tenant, task, &BY, "leaked")
                    .await
                    .unwrap();
            }
        });
        let reply = world.renew(&job, &[]).await;
        let rule = ["rights_removed", "task_ended"][run];
        assert_eq!(reply.rule(), rule, "{}", reply.text);
        assert!(!reply.text.contains("access_token"));
    }
}

/// Where the journal fails too, an end is still obeyed, and the answer says what it is worth.
#[tokio::test]
async fn an_end_that_nothing_can_keep_is_obeyed_and_says_so() {
    let (world, store) = World::in_memory().await;
    let world = world.restarted_without_journal().await;
    let mut jobs = Vec::new();
    for run in 1..=3 {
        jobs.push(world.job(run).await);
    }
    stall(&store);
    let ended = world.end(&jobs[0]).await;
    assert_eq!(
        (ended.status, &ended.body["recorded"]),
        (202, &json!(false))
    );
    assert_eq!(ended.body["cause"], "completed");
    let revoked = world.revoke_by(&jobs[1]).await;
    assert_eq!(
        (revoked.status, &revoked.body),
        (202, &json!({"recorded": false}))
    );
    let owner = Contained::Owner("team".parse().unwrap());
    let done = world
        .app
        .contain(&world.tenant(), &owner, &BY, "left")
        .await;
    assert!(!done.unwrap().recorded);
    for job in &jobs {
        assert!(!world.is_active(&job.token).await);
    }
    store.heal();
    world.recover().await;
    for job in &jobs {
        assert!(!world.is_open(&job.task));
    }
}

/// What is held in memory alone does not become durable by being said again.
#[tokio::test]
async fn an_end_that_is_repeated_is_no_more_durable_than_the_first() {
    let (world, store) = World::in_memory().await;
    let world = world.restarted_without_journal().await;
    let (ending, revoking) = (world.job(1).await, world.job(2).await);
    let open = world.job(3).await;
    let tenant = world.tenant();
    stall(&store);
    for already in [false, true] {
        let on: BlockOn = "series:github:5".parse().unwrap();
        let set = world.app.set_block(&tenant, on, &BY, "odd").await.unwrap();
        assert_eq!((set.already, set.recorded), (already, false));
        let ended = world.end(&ending).await;
        assert_ne!(ended.status, 200, "{already}: {}", ended.text);
        let revoked = world.revoke_by(&revoking).await;
        assert_eq!(revoked.status, 202, "{already}: {}", revoked.text);
    }
    for already in [false, true] {
        let owner = Contained::Owner("team".parse().unwrap());
        let done = world.app.contain(&tenant, &owner, &BY, "left");
        let done = done.await.unwrap();
        assert_eq!((done.already, done.recorded), (already, false));
    }
    assert!(!world.is_active(&open.token).await);
    store.heal();
    world.recover().await;
    let owner = Contained::Owner("team".parse().unwrap());
    let done = world.app.contain(&tenant, &owner, &BY, "left");
    let done = done.await.unwrap();
    assert!(done.already && done.recorded);
}

/// Beats that could not be relied on in an outage end nothing, and the outage is added once.
#[tokio::test]
async fn an_outage_is_added_to_the_grace_once() {
    let (world, store) = World::in_memory().await;
    let job = world.job(1).await;
    world.app.sweep().await;
    assert_eq!(world.beat(&job).await.status, 200);
    let round = async |seconds: u64| {
        for _ in 0..seconds / 4 {
            world.wait(4);
            world.app.sweep().await;
        }
    };
    stall(&store);
    round(400).await;
    assert!(world.app.unready()[0].contains("stalled"));
    store.heal();
    round(8).await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    // 300 s of grace beside an outage of about 400 s.
    round(280).await;
    assert!(world.is_open(&job.task), "the outage was not added");
    round(24).await;
    assert!(!world.is_open(&job.task), "the outage was added twice");
}

/// Whoever lifts a block while the last of what was held is recorded waits, and then it is lifted.
#[tokio::test]
async fn a_block_is_lifted_behind_the_door() {
    let (world, store) = World::in_memory().await;
    let job = world.job(1).await;
    let on = BlockOn::Key {
        issuer: "github".parse().unwrap(),
        key: "1/1/1".to_owned(),
    };
    let (app, tenant) = (Arc::clone(&world.app), world.tenant());
    let blocked = app.set_block(&tenant, on.clone(), &BY, "leaked");
    blocked.await.unwrap();
    stall(&store);
    assert_eq!(world.end(&job).await.status, 200);
    store.heal();
    let lifted = Arc::new(std::sync::Mutex::new(None));
    let (slot, what) = (Arc::clone(&lifted), on.clone());
    world.store.before_resumed(async move {
        let lifting = async move { app.unblock(&tenant, what, &BY, "mended").await.map(drop) };
        *slot.lock().unwrap() = Some(tokio::spawn(lifting));
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    });
    world.recover().await;
    let lifting = lifted.lock().unwrap().take().unwrap();
    lifting.await.unwrap().unwrap();
    let none = FactsQuery::default();
    assert!(
        !world
            .store
            .facts(&acme(), &none)
            .unwrap()
            .blocks
            .stands(&on)
    );
    // Of what does not stand it is said.
    let again = world.app.unblock(&world.tenant(), on, &BY, "x").await;
    assert_eq!(again.unwrap_err().refusal.rule.code(), "not_found");
}
