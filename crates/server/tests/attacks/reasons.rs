//! Who ended something by hand and why: what a trace says of it, whatever ended, and where that stands.

use std::collections::BTreeSet;
use std::sync::Arc;

use dayfly_domain::{ClientId, Name};
use dayfly_server::app::{Actor, Contained, Erasure, InstanceOf, Stop};
use dayfly_server::record::{ClientStanding, EndNote, Known, Trace, TraceQuery, task_view, trace};
use dayfly_store::Fault;
use serde_json::json;

use super::approval::APPROVALS;
use super::delegation::scope;
use super::job::Job;
use super::silence::sweep_for;
use super::webhooks::{HELPERS, declared, run_over};
use super::world::{World, acme};

const BY: Actor = Actor::Local { uid: 7 };

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn mona() -> Actor {
    Actor::Person {
        iss: "https://idp.example".to_owned(),
        sub: "mona".to_owned(),
    }
}

impl World {
    pub(crate) fn traced(&self, key: &str) -> Trace {
        let known = Known::of(&self.tenant().loaded().declared);
        let query = TraceQuery {
            key: key.parse().unwrap(),
            since: None,
            until: None,
            now: self.app.now(),
        };
        trace(self.app.store(), &acme(), &known, &query).unwrap()
    }

    /// Why something is gone, as the first line of its trace has it in brackets.
    pub(crate) fn why_gone(&self, key: &str) -> String {
        let line = self.traced(key).verdict.line;
        let said = line.strip_prefix("GONE ").and_then(|rest| {
            let (_, rest) = rest.split_once('(')?;
            Some(rest.split_once(')')?.0.to_owned())
        });
        said.unwrap_or(line)
    }

    async fn stopped(&self, what: &Contained, stop: &Stop, by: &Actor, reason: &str) {
        let tenant = self.tenant();
        let done = self.app.stop(&tenant, what, stop, by, reason).await;
        assert!(done.unwrap().recorded);
    }

    /// The line of an end in the trace of its task.
    fn end_line(&self, task: &str) -> dayfly_server::record::EntryLine {
        let lines = self.traced(task).timeline.into_iter();
        let mut ends = lines.filter(|line| line.kind == "task.ended");
        ends.next().unwrap()
    }
}

fn note(by: &str, reason: &str) -> EndNote {
    EndNote {
        by: Some(by.to_owned()),
        reason: Some(reason.to_owned()),
    }
}

/// Each end of what is stopped as a whole, with its cause and the kind of its entry.
fn whole() -> Vec<(Contained, Stop, &'static str, &'static str)> {
    let (owner, workload) = (
        Contained::Owner(name("team")),
        Contained::Workload(name("release")),
    );
    let (issuer, tenant) = (Contained::Issuer(name("github")), Contained::Tenant);
    let mut all = Vec::new();
    for (what, blocked) in [
        (owner, "owner_offboarded"),
        (workload, "workload_disabled"),
        (issuer, "issuer_removed"),
        (tenant, "operator"),
    ] {
        all.push((what.clone(), Stop::End, "operator", "rights.removed"));
        all.push((what, Stop::Block, blocked, "block.set"));
    }
    all
}

#[tokio::test]
async fn every_end_as_a_whole_says_who_and_why() {
    for (what, stop, cause, kind) in whole() {
        let (world, _store) = World::in_memory().await;
        let (one, two) = (world.job(1).await, world.job(2).await);
        world.stopped(&what, &stop, &mona(), "leaked").await;
        assert_eq!(world.app.sweep().await, 2);
        let wanted = format!("{cause}: leaked");
        for job in [&one, &two] {
            assert_eq!(world.why_gone(&job.task), wanted, "{what:?} {stop:?}");
            assert_eq!(world.why_gone(&job.client), wanted);
            let line = world.end_line(&job.task);
            assert_eq!(line.note, note("mona of https://idp.example", "leaked"));
            // The entry that says so stands in the timeline too.
            let timeline = world.traced(&job.task).timeline;
            let said = timeline.iter().find(|line| line.kind == kind).unwrap();
            assert_eq!(Some(said.pos), line.said_in);
            assert_eq!(said.note, line.note);
        }
        // Of many tasks the last end is told.
        for key in ["owner:team", "workload:release"] {
            let line = world.traced(key).verdict.line;
            let said = format!("({wanted}; the last of 2 tasks");
            assert!(line.contains(&said), "{line}");
        }
        // One text, whatever the number of tasks: the others name its entry.
        let annexes = world.annexes(kind);
        assert_eq!(annexes.len(), 1);
        assert_eq!(annexes[0]["reason"], "leaked");
        assert_eq!(annexes[0]["by"]["sub"], "mona");
        let named = world.annexes("task.ended");
        let pos = world.end_line(&one.task).said_in;
        assert_eq!(named, vec![json!({ "said_in": pos }); 2]);
        assert!(world.leaves().iter().all(|leaf| {
            let leaf = leaf.to_string();
            !leaf.contains("leaked") && !leaf.contains("mona")
        }));
    }
}

/// It is found again by another process, and among what others record in the same moment.
#[tokio::test]
async fn who_and_why_outlive_a_restart_before_the_ends_are_recorded() {
    let world = Arc::new(World::new().await);
    let job = world.job(1).await;
    // Entries come between what the end was decided by and its own.
    let other = Arc::clone(&world);
    world.store.before_block(async move {
        for run in 10..20 {
            other.job(run).await;
        }
    });
    let owner = Contained::Owner(name("team"));
    world.stopped(&owner, &Stop::Block, &BY, "left").await;
    let world = world.restarted().await;
    assert!(world.is_open(&job.task));
    assert_eq!(world.app.sweep().await, 11);
    assert_eq!(world.why_gone(&job.task), "owner_offboarded: left");
    assert_eq!(world.end_line(&job.task).note, note("uid 7", "left"));
}

/// The same for what a stall has held, and for what stalls between the end and its record.
#[tokio::test]
async fn who_and_why_outlive_a_stall() {
    for blind in [false, true] {
        for stop in [Stop::End, Stop::Block] {
            let (world, store) = World::in_memory().await;
            let job = world.job(1).await;
            store.fail([Fault::BeforeWrite; 5000]);
            world.store.fail_reads(blind);
            let what = Contained::Workload(name("release"));
            world.stopped(&what, &stop, &BY, "leaked").await;
            world.store.fail_reads(false);
            let world = world.restarted().await;
            store.heal();
            world.wait(5);
            world.app.sweep().await;
            world.app.sweep().await;
            assert_eq!(world.app.unready(), Vec::<String>::new());
            let cause = match stop {
                Stop::End => "operator",
                Stop::Block | Stop::HandOver(_) => "workload_disabled",
            };
            assert_eq!(world.why_gone(&job.task), format!("{cause}: leaked"));
        }
    }
}

/// Of two who end the same, the first is named by the end, whatever the other says and blocks.
#[tokio::test]
async fn the_first_who_took_the_rights_is_named() {
    let world = World::new().await;
    let (by_id, by_client, by_instance, by_epoch) = (
        world.job(1).await,
        world.job(2).await,
        world.job(3).await,
        world.job(4).await,
    );
    let owner = Contained::Owner(name("team"));
    world.stopped(&owner, &Stop::Block, &BY, "first").await;
    world.stopped(&owner, &Stop::End, &mona(), "second").await;
    let tenant = world.tenant();
    let app = &world.app;
    let task = by_id.task.parse().unwrap();
    let ended = app.operator_end(&tenant, task, &mona(), "third").await;
    assert_eq!(ended.unwrap().cause.word(), "owner_offboarded");
    let client = by_client.client.parse().unwrap();
    let by = mona();
    let ended = app.end_client(&tenant, client, false, &by, "fourth").await;
    assert_eq!(ended.unwrap().0.cause.word(), "owner_offboarded");
    let instance = InstanceOf {
        issuer: None,
        instance: "repository_id=1,run_id=3,run_attempt=1,check_run_id=3".to_owned(),
    };
    let _refused_or_not = app
        .end_instance(&tenant, &instance, false, &mona(), "fifth")
        .await;
    world.app.sweep().await;
    for job in [&by_id, &by_client, &by_instance, &by_epoch] {
        assert_eq!(world.why_gone(&job.task), "owner_offboarded: first");
        assert_eq!(world.end_line(&job.task).note, note("uid 7", "first"));
    }
    // Who blocked the series all the same stands with the block.
    let blocks = world.annexes("block.set");
    assert_eq!(blocks.last().unwrap()["reason"], "third");
}

/// What was over by itself was ended by nobody, whoever ends it before that is recorded.
#[tokio::test]
async fn what_was_over_by_itself_says_nothing_of_who_comes_later() {
    let world = World::declared(&declared()).await;
    let mut jobs = Vec::new();
    for run in 1..=5 {
        jobs.push(world.job(run).await);
    }
    for job in &jobs {
        assert_eq!(world.beat(job).await.status, 200);
    }
    world.app.sweep().await;
    // As long as they may be silent, and a little more.
    sweep_for(&world, 300).await;
    assert!(world.is_open(&jobs[0].task));
    world.wait(5);
    let tenant = world.tenant();
    let app = &world.app;
    let task = jobs[0].task.parse().unwrap();
    let ended = app.operator_end(&tenant, task, &BY, "leaked").await;
    assert_eq!(ended.unwrap().cause.word(), "heartbeat");
    let client = jobs[1].client.parse().unwrap();
    let ended = app.end_client(&tenant, client, false, &BY, "leaked").await;
    assert_eq!(ended.unwrap().0.cause.word(), "heartbeat");
    let instance = InstanceOf {
        issuer: None,
        instance: "repository_id=1,run_id=3,run_attempt=1,check_run_id=3".to_owned(),
    };
    let ended = app.end_instance(&tenant, &instance, false, &BY, "leaked");
    ended.await.unwrap();
    let said = world.hub("workflow_run", &run_over(1, 4, 1)).await;
    assert_eq!(said.body["tasks"], 1, "{}", said.text);
    // Nor is whoever takes its rights then, where the platform has it recorded.
    let release = Contained::Workload(name("release"));
    world.stopped(&release, &Stop::End, &BY, "late").await;
    let said = world.hub("workflow_run", &run_over(1, 5, 1)).await;
    assert_eq!(said.body["tasks"], 1, "{}", said.text);
    for job in &jobs {
        assert_eq!(world.why_gone(&job.task), "heartbeat");
        assert_eq!(world.end_line(&job.task).note, EndNote::default());
    }
    // Who blocked the series all the same stands with the block.
    assert_eq!(world.annexes("block.set")[0]["reason"], "leaked");
}

/// What a stall has held has no entry yet that says who and why: whoever ends it once more is not
/// named in their place.
#[tokio::test]
async fn who_comes_second_in_a_stall_is_not_named_for_the_first() {
    for blind in [false, true] {
        let (world, store) = World::in_memory_declared(&(declared() + HELPERS + APPROVALS)).await;
        let (by_id, by_instance) = (world.job(1).await, world.job(2).await);
        let root = world.handing_job().await;
        let scan = world.handed_job(&root, "scan", "71").await;
        let waits = world.asked(7, 9).await;
        let tenant = world.tenant();
        store.fail([Fault::BeforeWrite; 5000]);
        for what in ["scan", "release", "deploy"] {
            let what = Contained::Workload(name(what));
            world.stopped(&what, &Stop::End, &BY, "first").await;
        }
        world.store.fail_reads(blind);
        let (app, by) = (&world.app, mona());
        let client = scan.client.parse().unwrap();
        let ended = app.end_client(&tenant, client, false, &by, "second").await;
        assert_eq!(ended.unwrap().0.cause.word(), "operator");
        let task = by_id.task.parse().unwrap();
        let ended = app.operator_end(&tenant, task, &by, "second").await;
        assert_eq!(ended.unwrap().cause.word(), "operator");
        let instance = InstanceOf {
            issuer: None,
            instance: "repository_id=1,run_id=2,run_attempt=1,check_run_id=2".to_owned(),
        };
        let ended = app.end_instance(&tenant, &instance, false, &by, "second");
        let _refused_or_not = ended.await;
        let task = waits.task.parse().unwrap();
        let denied = app.deny(&tenant, task, &by, "second").await;
        assert_eq!(denied.is_ok(), !blind);
        world.store.fail_reads(false);
        store.heal();
        world.wait(5);
        world.app.sweep().await;
        world.app.sweep().await;
        assert_eq!(world.app.unready(), Vec::<String>::new());
        for key in [&scan.client, &by_id.task, &by_instance.task, &waits.task] {
            let why = world.why_gone(key);
            assert!(["operator", "operator: first"].contains(&&*why), "{why}");
        }
        for kind in ["client.ended", "task.ended"] {
            let said = serde_json::to_string(&world.annexes(kind)).unwrap();
            assert!(!said.contains("second"), "{blind}: {said}");
        }
        assert!(world.is_open(&root.task));
    }
}

/// Each end of a part of a task, or of one task, with its reason at once.
#[tokio::test]
async fn ends_of_clients_instances_and_tasks_say_who_and_why() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let (child, other) = (
        world.child(&root, &scope("artifacts:read")).await,
        world.child(&root, &scope("artifacts:read")).await,
    );
    let tenant = world.tenant();
    let end = async |job: &Job, reason: &str| {
        let client: ClientId = job.client.parse().unwrap();
        let ended = world.app.end_client(&tenant, client, false, &BY, reason);
        ended.await.unwrap();
    };
    end(&child, "leaked").await;
    // The task goes on, and the client that ended says why.
    assert!(world.is_open(&root.task) && world.is_active(&other.token).await);
    assert_eq!(world.why_gone(&child.client), "operator: leaked");
    let credential = child.client.replace("client_", "cred_") + "_1";
    assert_eq!(world.why_gone(&credential), "operator: leaked");
    assert_eq!(
        world.annexes("client.ended"),
        [json!({"by": {"uid": 7}, "reason": "leaked"})]
    );
    let standing = |world: &World, of: &Job| {
        let clients = &world.traced(&of.client).tasks[0].clients;
        let found = clients
            .iter()
            .find(|client| client.client.to_string() == of.client);
        found.unwrap().standing.clone()
    };
    let ClientStanding::Ended { note: said, .. } = standing(&world, &child) else {
        panic!("it has ended");
    };
    assert_eq!(said, note("uid 7", "leaked"));
    // Whoever ends above it is named for what ended with it.
    end(&root, "whole").await;
    assert_eq!(world.why_gone(&root.task), "operator: whole");
    assert_eq!(world.why_gone(&other.client), "parent: whole");
    assert_eq!(
        world.why_gone(&child.client),
        "operator: leaked",
        "as before"
    );
    // The task's own clients are told neither who nor why.
    let own = task_view(world.app.store(), &acme(), root.task.parse().unwrap());
    let own = serde_json::to_string(&own.unwrap().unwrap()).unwrap();
    assert!(!own.contains("leaked") && !own.contains("whole") && !own.contains("uid"));

    let (task, instance) = (world.job(2).await, world.job(3).await);
    let id = task.task.parse().unwrap();
    let ended = world.app.operator_end(&tenant, id, &BY, "odd").await;
    ended.unwrap();
    assert_eq!(world.why_gone(&task.task), "operator: odd");
    let what = InstanceOf {
        issuer: None,
        instance: world.traced(&instance.task).tasks[0].clients[0]
            .instance
            .clone(),
    };
    let ended = world.app.end_instance(&tenant, &what, true, &BY, "taken");
    ended.await.unwrap();
    for key in [&instance.task, &instance.client] {
        assert_eq!(world.why_gone(key), "operator: taken");
    }
}

/// A child that loses the rights of its own ends by itself, and says by whom.
#[tokio::test]
async fn a_child_whose_own_workload_ended_says_who_and_why() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let reply = world
        .scanner(&root, 5, &super::delegation::part("octo/app"))
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let scanner = reply.str("client_id").to_owned();
    let scanners = Contained::Owner(name("scanners"));
    world
        .stopped(&scanners, &Stop::Block, &mona(), "left")
        .await;
    world.app.sweep().await;
    assert!(world.is_open(&root.task) && world.is_active(&root.token).await);
    assert_eq!(world.why_gone(&scanner), "owner_offboarded: left");
}

/// A child that lost its own rights is over already when somebody ends it by hand, or what it handed on,
/// or its instance: what took them first names the end, as of a task.
#[tokio::test]
async fn an_end_by_hand_of_a_child_says_what_took_its_rights_first() {
    for by_instance in [false, true] {
        let world = World::of_agents().await;
        let root = world.agent(1).await;
        let given = super::delegation::part("octo/app");
        let reply = world.scanner(&root, 5, &given).await;
        let scanner: ClientId = reply.str("client_id").parse().unwrap();
        let scanners = Contained::Owner(name("scanners"));
        let by = mona();
        let stopped = world.stopped(&scanners, &Stop::Block, &by, "left");
        stopped.await;
        world.wait(1);
        let tenant = world.tenant();
        if by_instance {
            let clients = &world.traced(&root.task).tasks[0].clients;
            let own = clients.iter().find(|client| client.client == scanner);
            let what = InstanceOf {
                issuer: None,
                instance: own.unwrap().instance.clone(),
            };
            let ended = world.app.end_instance(&tenant, &what, false, &BY, "late");
            // It was over, so nothing ended by this.
            assert_eq!(ended.await.unwrap().clients, []);
        } else {
            let would = world.app.client_would_end(&tenant, scanner, false);
            assert_eq!(would.unwrap().clients, 0);
            let ended = world.app.end_client(&tenant, scanner, false, &BY, "late");
            assert_eq!(ended.await.unwrap().0.cause.word(), "owner_offboarded");
        }
        let why = world.why_gone(&scanner.to_string());
        assert_eq!(why, "owner_offboarded: left", "{by_instance}");
        assert!(world.is_open(&root.task) && world.is_active(&root.token).await);
        world.app.sweep().await;
        assert_eq!(world.count("client.ended", &root.task), 1);
    }
}

/// The same where nothing can be read when it is ended by hand: it is found out when the ledger is back.
#[tokio::test]
async fn a_child_that_is_ended_unread_says_what_took_its_rights_first() {
    let (world, store) = World::in_memory_of_agents().await;
    let root = world.agent(1).await;
    let given = super::delegation::part("octo/app");
    let reply = world.scanner(&root, 5, &given).await;
    let scanner: ClientId = reply.str("client_id").parse().unwrap();
    let scanners = Contained::Owner(name("scanners"));
    let by = mona();
    let stopped = world.stopped(&scanners, &Stop::Block, &by, "left");
    stopped.await;
    world.wait(1);
    world.store.fail_reads(true);
    store.fail([Fault::BeforeWrite; 5000]);
    let tenant = world.tenant();
    let ended = world.app.end_client(&tenant, scanner, false, &BY, "late");
    assert!(ended.await.unwrap().0.recorded);
    world.store.fail_reads(false);
    store.heal();
    world.wait(5);
    world.app.sweep().await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    let why = world.why_gone(&scanner.to_string());
    assert_eq!(why, "owner_offboarded: left");
    assert!(world.is_open(&root.task) && world.is_active(&root.token).await);
}

/// What a job that ends by its platform's word says, where the task ends with its last client too.
#[tokio::test]
async fn an_end_of_a_last_job_says_the_platforms_word() {
    let world = World::declared(&declared()).await;
    let job = world.granted(2, 9, 1, 90).await;
    let said = world
        .hub("workflow_job", &super::webhooks::job_over(2, 9, 1, 90))
        .await;
    assert_eq!(said.status, 200, "{}", said.text);
    let wanted = "upstream: github: workflow_job completed: success";
    assert_eq!(world.why_gone(&job.task), wanted);
    assert_eq!(world.why_gone(&job.client), wanted);
}

/// An erasure of the one text is one of all that name it.
#[tokio::test]
async fn an_erased_reason_is_gone_from_every_end() {
    let world = World::new().await;
    let job = world.job(1).await;
    let owner = Contained::Owner(name("team"));
    world
        .stopped(&owner, &Stop::Block, &mona(), "mona left")
        .await;
    world.app.sweep().await;
    let pos = world.end_line(&job.task).said_in.unwrap();
    let erased = world
        .app
        .erase(
            &world.tenant(),
            Erasure::Entries(BTreeSet::from([pos])),
            false,
            &BY,
            "asked for",
        )
        .await;
    assert_eq!(erased.unwrap().entries, 1);
    assert_eq!(world.why_gone(&job.task), "owner_offboarded");
    assert_eq!(world.end_line(&job.task).note, EndNote::default());
}
