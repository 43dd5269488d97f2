//! Ends by people, of whatever there is: one append, obeyed from its answer on, whatever is open below it.

use std::sync::Arc;

use dayfly_domain::{BlockOn, ClientId, Name, Span};
use dayfly_server::app::{Actor, Blocking, Contained, InstanceOf, Stop};
use dayfly_store::Fault;
use dayfly_store::clock::Clock as _;
use serde_json::{Value, json};

use super::decisions::{artifact, asks, subject};
use super::job::{Job, claims, new_key, signed, with};
use super::world::{ARTIFACTS, Reply, TENANT, World};

const BY: Actor = Actor::Local { uid: 7 };

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Two workloads that one and the same job may run, and one whose jobs join.
fn declared() -> String {
    format!(
        r#"{TENANT}
[workload.deploy]
owner   = "team"
kind    = "ci"
purpose = "deploy what was published"
match   = {{ issuer = "github", repository_id = "1" }}
access  = [ {{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }} ]
"#
    )
}

fn instance(run: u64, job: u64) -> String {
    format!("repository_id=2,run_id={run},run_attempt=1,check_run_id={job}")
}

impl World {
    /// A job of a run of the workload `matrix`, which all join.
    async fn matrix(&self, run: u64, job: u64) -> Job {
        let (key, proof, reply) = self.ask_matrix(run, job).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, proof, &reply)
    }

    async fn ask_matrix(
        &self,
        run: u64,
        job: u64,
    ) -> (Arc<dayfly_token::sign::SigningKey>, String, Reply) {
        let of_job = json!({"check_run_id": job.to_string()});
        let proof = signed(&with(claims(self, 2, run), of_job));
        let key = new_key();
        let reply = self
            .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
            .await;
        (key, proof, reply)
    }

    /// Checks that nothing is given to a job any more, by whatever way it asks.
    async fn gets_nothing(&self, job: &Job, rules: &[&str]) {
        assert!(!self.is_active(&job.token).await, "{}", job.client);
        let resource = [("resource", ARTIFACTS)];
        for reply in [
            self.renew(job, &[]).await,
            self.narrow(&job.token, Some(&job.key), &resource).await,
            self.ask(&job.proof, Some(&job.key), &resource).await,
            self.beat(job).await,
        ] {
            assert!(
                rules.contains(&reply.rule()),
                "{} {}",
                job.client,
                reply.text
            );
        }
        let asked = asks(subject(self, job), "read", artifact("octo/a"));
        assert_eq!(self.may(&asked).await, "inactive", "{}", job.client);
    }

    async fn end_instance(&self, what: &InstanceOf, block: bool) -> Vec<ClientId> {
        let tenant = self.tenant();
        let done = self
            .app
            .end_instance(&tenant, what, block, &BY, "taken over");
        let done = done.await.unwrap();
        assert!(done.recorded && done.block.on().is_some() == block);
        done.clients
    }

    fn entries_of(&self, kind: &str) -> Vec<Value> {
        let leaves = self.leaves().into_iter();
        leaves.filter(|leaf| leaf["kind"] == kind).collect()
    }
}

fn any(instance: String) -> InstanceOf {
    InstanceOf {
        issuer: None,
        instance,
    }
}

/// Everything that can be stopped as a whole, without a block and with it.
#[tokio::test]
async fn each_end_is_one_append_with_many_tasks_below_it() {
    let whole = [
        Contained::Owner(name("team")),
        Contained::Workload(name("release")),
        Contained::Issuer(name("github")),
        Contained::Tenant,
    ];
    for (what, stop) in whole
        .iter()
        .flat_map(|what| [(what, Stop::End), (what, Stop::Block)])
    {
        let world = World::new().await;
        let mut jobs = Vec::new();
        for run in 1..=24 {
            jobs.push(world.job(run).await);
        }
        let (appends, size) = (world.store.appends(), world.size());
        let tenant = world.tenant();
        let done = world.app.stop(&tenant, what, &stop, &BY, "leaked");
        let done = done.await.unwrap();
        assert_eq!(world.store.appends(), appends + 1, "{what:?} {stop:?}");
        assert_eq!(world.size(), size + 1, "and one entry");
        assert_eq!(
            (done.already, done.open, done.recorded),
            (false, Some(24), true)
        );
        // No sweep has run: the answer alone is obeyed.
        for job in &jobs {
            world
                .gets_nothing(job, &["rights_removed", "blocked"])
                .await;
            assert!(world.is_open(&job.task), "not recorded yet");
        }
        let fresh = signed(&claims(&world, 1, 99));
        let key = new_key();
        let reply = world
            .ask(&fresh, Some(&key), &[("resource", ARTIFACTS)])
            .await;
        match &stop {
            Stop::End => assert_eq!(reply.status, 200, "{}", reply.text),
            Stop::Block | Stop::HandOver(_) => {
                assert_eq!(reply.rule(), "blocked", "{}", reply.text);
            }
        }
        assert_eq!(world.app.sweep().await, 24);
        let cause = match (&stop, what) {
            (Stop::End, _) | (Stop::Block | Stop::HandOver(_), Contained::Tenant) => "operator",
            (Stop::Block | Stop::HandOver(_), Contained::Owner(_)) => "owner_offboarded",
            (Stop::Block | Stop::HandOver(_), Contained::Workload(_)) => "workload_disabled",
            (Stop::Block | Stop::HandOver(_), Contained::Issuer(_)) => "issuer_removed",
        };
        for ended in world.entries_of("task.ended") {
            assert_eq!(ended["data"]["cause"], cause);
        }
        if stop == Stop::End {
            let entry = world.entries_of("rights.removed").pop().unwrap();
            assert_eq!(entry["data"]["on"], what.block().to_string());
            let fresh = Job::of(key, fresh, &reply);
            assert!(
                world.is_active(&fresh.token).await,
                "what came later goes on"
            );
        }
    }
}

#[tokio::test]
async fn a_blocked_issuer_is_let_in_again_by_unblock() {
    let world = World::new().await;
    let what = Contained::Issuer(name("github"));
    let unknown = Contained::Issuer(name("gitlab"));
    let tenant = world.tenant();
    let slip = world
        .app
        .stop(&tenant, &unknown, &Stop::End, &BY, "x")
        .await;
    assert_eq!(slip.unwrap_err().refusal.rule.code(), "not_found");
    world
        .app
        .contain(&tenant, &what, &BY, "stolen")
        .await
        .unwrap();
    let reply = world.ask_matrix(1, 1).await.2;
    assert_eq!(reply.body["refused"]["got"], "the issuer is blocked");
    let lifted = world
        .app
        .unblock(&tenant, what.block(), &BY, "mended")
        .await;
    lifted.unwrap();
    world.matrix(1, 2).await;
}

#[tokio::test]
async fn a_client_ends_with_who_and_why_and_the_others_of_its_task_go_on() {
    let world = World::new().await;
    let (first, second) = (world.matrix(7, 1).await, world.matrix(7, 2).await);
    assert_eq!(first.task, second.task);
    let tenant = world.tenant();
    let client: ClientId = first.client.parse().unwrap();
    let would = world.app.client_would_end(&tenant, client, false).unwrap();
    assert_eq!((would.open, would.partly, would.clients), (0, 1, 1));
    assert_eq!((would.credentials, would.block), (1, None));
    let appends = world.store.appends();
    let mona = Actor::Person {
        iss: "https://idp.example".to_owned(),
        sub: "mona".to_owned(),
    };
    let ended = world
        .app
        .end_client(&tenant, client, false, &mona, "leaked");
    let (ended, block) = ended.await.unwrap();
    assert_eq!(world.store.appends(), appends + 1);
    assert_eq!(
        (ended.cause.word(), ended.task_ended, block),
        ("operator", false, Blocking::Nothing)
    );
    world
        .gets_nothing(&first, &["client_ended", "credential"])
        .await;
    assert!(world.is_active(&second.token).await);
    let entry = world.entries_of("client.ended").pop().unwrap();
    assert!(entry["data"]["by"].is_string(), "{entry}");
    // Without a block the same job may join again by a fresh proof, and is ended with its task.
    let again = world.matrix(7, 1).await;
    world.end(&second).await;
    let client = again.client.parse().unwrap();
    let ended = world.app.end_client(&tenant, client, true, &mona, "again");
    let (ended, block) = ended.await.unwrap();
    assert!(ended.task_ended);
    let on = format!("instance:github:{}", instance(7, 1));
    assert_eq!(block.on().unwrap().to_string(), on);
    let task = world.entries_of("task.ended").pop().unwrap();
    assert_eq!(task["data"]["cause"], "operator");
    assert!(task["data"]["by"].is_string(), "{task}");
    let twice = world.app.end_client(&tenant, client, false, &mona, "twice");
    assert_eq!(twice.await.unwrap_err().refusal.rule.code(), "task_ended");
}

#[tokio::test]
async fn an_instance_ends_in_all_of_its_tasks_by_one_append() {
    let world = World::declared(&declared()).await;
    // One job that runs two workloads, and another job beside it.
    let mut jobs = Vec::new();
    for workload in ["release", "deploy"] {
        jobs.push(
            world
                .job_of(1, 5, &[("resource", ARTIFACTS), ("client_id", workload)])
                .await,
        );
    }
    let other = world
        .job_of(1, 6, &[("resource", ARTIFACTS), ("client_id", "deploy")])
        .await;
    assert_ne!(jobs[0].task, jobs[1].task);
    let what = any("repository_id=1,run_id=5,run_attempt=1,check_run_id=5".to_owned());
    let would = world
        .app
        .instance_would_end(&world.tenant(), &what, false)
        .unwrap();
    assert_eq!((would.open, would.clients, would.credentials), (2, 2, 2));
    let (appends, size) = (world.store.appends(), world.size());
    let ended = world.end_instance(&what, false).await;
    assert_eq!((ended.len(), world.store.appends()), (2, appends + 1));
    assert_eq!(
        world.size(),
        size + 4,
        "an end of each client and each task"
    );
    for job in &jobs {
        // Shown again without the name of a workload, the proof fits both.
        let rules = ["task_ended", "credential", "several_workloads"];
        world.gets_nothing(job, &rules).await;
    }
    assert!(world.is_active(&other.token).await);
    let tenant = world.tenant();
    let none = world.app.end_instance(&tenant, &what, false, &BY, "twice");
    assert_eq!(none.await.unwrap_err().refusal.rule.code(), "not_found");
}

#[tokio::test]
async fn a_blocked_instance_neither_joins_nor_renews_nor_is_answered_again() {
    let world = World::new().await;
    let (job, other) = (world.matrix(7, 1).await, world.matrix(7, 2).await);
    let ended = world.end_instance(&any(instance(7, 1)), true).await;
    assert_eq!(ended, [job.client.parse().unwrap()]);
    let (_, _, again) = world.ask_matrix(7, 1).await;
    assert_eq!(again.rule(), "blocked", "{}", again.text);
    let lost = world
        .ask(&job.proof, Some(&job.key), &[("resource", ARTIFACTS)])
        .await;
    assert_eq!(lost.rule(), "blocked");
    assert!(world.is_active(&other.token).await);
    world.matrix(7, 3).await;
    // It is listed, and lifted by name.
    let blocks = world.app.blocks(&world.tenant()).unwrap();
    let tenant = world.tenant();
    let lifted = world
        .app
        .unblock(&tenant, blocks[0].on.clone(), &BY, "mended");
    lifted.await.unwrap();
    world.matrix(7, 1).await;
}

/// The join is committed after the look and before the block: the look after the block finds it.
#[tokio::test]
async fn who_joins_under_a_block_of_its_instance_is_ended_with_it() {
    let world = Arc::new(World::new().await);
    let first = world.matrix(7, 1).await;
    let joined = Arc::new(std::sync::Mutex::new(None));
    let (door, slot) = (Arc::clone(&world), Arc::clone(&joined));
    world.store.before_next(async move {
        let job = door.matrix(7, 1).await;
        *slot.lock().unwrap() = Some(job);
    });
    let ended = world.end_instance(&any(instance(7, 1)), true).await;
    let joined = joined.lock().unwrap().take().unwrap();
    assert_eq!(ended.len(), 2, "{ended:?}");
    for job in [&first, &joined] {
        assert!(!world.is_active(&job.token).await);
        assert_ne!(world.renew(job, &[]).await.status, 200);
    }

    // One that opens a task nobody has seen meets no version: only the look after the block finds it.
    let opened = Arc::new(std::sync::Mutex::new(None));
    let (door, slot) = (Arc::clone(&world), Arc::clone(&opened));
    world.store.before_block(async move {
        let job = door.matrix(8, 1).await;
        *slot.lock().unwrap() = Some(job);
    });
    let unseen = InstanceOf {
        issuer: Some(name("github")),
        instance: instance(8, 1),
    };
    let ended = world.end_instance(&unseen, true).await;
    let opened = opened.lock().unwrap().take().unwrap();
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert!(!world.is_active(&opened.token).await);
    assert_ne!(world.renew(&opened, &[]).await.status, 200);
}

#[tokio::test]
async fn a_block_by_hand_stops_what_is_open_from_getting_more_and_what_is_not_from_starting() {
    let world = World::new().await;
    let tenant = world.tenant();
    let job = world.matrix(7, 1).await;
    for on in [
        format!("instance:github:{}", instance(7, 1)),
        "key:github:2/7".to_owned(),
    ] {
        let on: BlockOn = on.parse().unwrap();
        let set = world
            .app
            .set_block(&tenant, on.clone(), &BY, "odd")
            .await
            .unwrap();
        assert!(!set.already);
        assert!(
            world
                .app
                .set_block(&tenant, on.clone(), &BY, "odd")
                .await
                .unwrap()
                .already
        );
        // It ends nothing, and gives nothing.
        assert!(world.is_active(&job.token).await);
        let resource = [("resource", ARTIFACTS)];
        for reply in [
            world.renew(&job, &[]).await,
            world.narrow(&job.token, Some(&job.key), &resource).await,
            world.ask(&job.proof, Some(&job.key), &resource).await,
            world.ask_matrix(7, 1).await.2,
        ] {
            assert_eq!(reply.rule(), "blocked", "{}", reply.text);
        }
        world
            .app
            .unblock(&tenant, on, &BY, "looked at")
            .await
            .unwrap();
        assert_eq!(world.renew(&job, &[]).await.status, 200);
    }
    for (on, rule) in [
        ("owner:team", "invalid_parameter"),
        ("issuer:github", "invalid_parameter"),
        ("tenant", "invalid_parameter"),
        ("key:gitlab:2/7", "not_found"),
    ] {
        let set = world
            .app
            .set_block(&tenant, on.parse().unwrap(), &BY, "x")
            .await;
        assert_eq!(set.unwrap_err().refusal.rule.code(), rule, "{on}");
    }
}

/// A renewal was decided before the block and is recorded after it, or recorded before it and
/// signed after it: nothing is given.
#[tokio::test]
async fn nothing_decided_before_a_block_of_an_instance_is_given_after_it() {
    let world = World::new().await;
    let job = world.matrix(7, 1).await;
    let on: BlockOn = format!("instance:github:{}", instance(7, 1))
        .parse()
        .unwrap();
    let block = || {
        let (app, tenant, on) = (Arc::clone(&world.app), world.tenant(), on.clone());
        async move {
            app.set_block(&tenant, on, &BY, "odd").await.unwrap();
        }
    };
    let issued = world.count("credential.issued", &job.task);
    world.store.before_next(block());
    assert_eq!(world.renew(&job, &[]).await.rule(), "blocked");
    assert_eq!(world.count("credential.issued", &job.task), issued);
    world
        .app
        .unblock(&world.tenant(), on.clone(), &BY, "x")
        .await
        .unwrap();
    world.store.after_next(block());
    assert_eq!(world.renew(&job, &[]).await.rule(), "blocked");
    world
        .app
        .unblock(&world.tenant(), on.clone(), &BY, "x")
        .await
        .unwrap();
    let clients = world.count("client.registered", &job.task);
    world.store.before_next(block());
    assert_eq!(world.ask_matrix(7, 1).await.2.rule(), "blocked");
    assert_eq!(world.count("client.registered", &job.task), clients);
}

/// What is ended while the ledger stalls holds at once and over a restart, and is recorded once.
#[tokio::test]
async fn ends_by_hand_are_taken_in_a_stall() {
    let (world, store) = World::in_memory().await;
    let jobs = [
        world.matrix(7, 1).await,
        world.matrix(7, 2).await,
        world.job(3).await,
    ];
    world.app.sweep().await;
    store.fail([Fault::BeforeWrite; 5000]);
    let (tenant, release) = (world.tenant(), Contained::Workload(name("release")));
    let done = world
        .app
        .stop(&tenant, &release, &Stop::End, &BY, "leaked")
        .await
        .unwrap();
    assert!(done.recorded && !done.already);
    let client = jobs[1].client.parse().unwrap();
    let (ended, _) = world
        .app
        .end_client(&tenant, client, false, &BY, "leaked")
        .await
        .unwrap();
    assert!(ended.recorded);
    let what = any(instance(7, 1));
    let ended = world
        .app
        .end_instance(&tenant, &what, true, &BY, "leaked")
        .await
        .unwrap();
    assert!(ended.recorded && ended.clients.len() == 1, "{ended:?}");
    // The client's own end is answered with what took its rights.
    let own = world.end(&jobs[2]).await;
    assert_eq!(
        (own.status, own.str("cause")),
        (200, "operator"),
        "{}",
        own.text
    );
    let again = world.restarted().await;
    for world in [&world, &again] {
        for job in &jobs {
            assert!(!world.is_active(&job.token).await, "{}", job.client);
            assert_ne!(world.renew(job, &[]).await.status, 200);
        }
    }
    store.heal();
    again.wait(5);
    again.app.sweep().await;
    assert_eq!(again.app.unready(), Vec::<String>::new());
    assert_eq!(again.entries_of("rights.removed").len(), 1);
    assert_eq!(again.entries_of("client.ended").len(), 2);
    for ended in again.entries_of("task.ended") {
        assert_eq!(ended["data"]["cause"], "operator");
    }
    assert_eq!(again.ask_matrix(7, 1).await.2.rule(), "blocked");
    // Nothing was blocked of the workload: the next run starts.
    again.job(9).await;
}

/// One task of an instance has ended in the stall: the end of the instance ends the others.
#[tokio::test]
async fn an_instance_ends_in_a_stall_in_which_one_of_its_tasks_has_ended() {
    let (world, store) = World::in_memory_declared(&declared()).await;
    let mut jobs = Vec::new();
    for workload in ["release", "deploy"] {
        let more = [("resource", ARTIFACTS), ("client_id", workload)];
        jobs.push(world.job_of(1, 5, &more).await);
    }
    let other = world
        .job_of(1, 6, &[("resource", ARTIFACTS), ("client_id", "deploy")])
        .await;
    world.app.sweep().await;
    store.fail([Fault::BeforeWrite; 5000]);
    let tenant = world.tenant();
    let ended = world.end_task(&jobs[0], "completed").await;
    assert_eq!(ended.status, 200, "{}", ended.text);
    let what = any("repository_id=1,run_id=5,run_attempt=1,check_run_id=5".to_owned());
    let would = world.app.instance_would_end(&tenant, &what, true).unwrap();
    assert_eq!((would.open, would.clients), (1, 1), "what is left of it");
    let ended = world
        .app
        .end_instance(&tenant, &what, true, &BY, "leaked")
        .await
        .unwrap();
    assert!(ended.recorded && ended.clients.len() == 1, "{ended:?}");
    assert!(!world.is_active(&jobs[1].token).await);
    assert!(world.is_active(&other.token).await);
    store.heal();
    world.wait(5);
    world.app.sweep().await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    for job in &jobs {
        assert!(!world.is_open(&job.task), "{}", job.task);
    }
}

/// A clock that is ahead of all that is open hides nothing of it.
#[tokio::test]
async fn an_instance_is_found_by_a_clock_that_is_ahead() {
    let world = World::new().await;
    let job = world.matrix(7, 1).await;
    world.app.sweep().await;
    let ahead = world.clock.now() + Span::from_seconds(26 * 3600);
    world.clock.jump(ahead);
    let found = world
        .app
        .end_instance(&world.tenant(), &any(instance(7, 1)), false, &BY, "leaked")
        .await
        .unwrap();
    assert_eq!(found.clients.len(), 1, "{found:?}");
    assert!(!world.is_active(&job.token).await);
}

/// Where nothing can be read either, the block of an instance is taken, and ends what is open of it.
#[tokio::test]
async fn an_instance_is_blocked_although_nothing_can_be_read() {
    let (world, store) = World::in_memory().await;
    let job = world.matrix(7, 1).await;
    world.app.sweep().await;
    world.store.fail_reads(true);
    store.fail([Fault::BeforeWrite; 5000]);
    let tenant = world.tenant();
    let what = InstanceOf {
        issuer: Some(name("github")),
        instance: instance(7, 1),
    };
    let ended = world
        .app
        .end_instance(&tenant, &what, true, &BY, "leaked")
        .await
        .unwrap();
    assert!(
        ended.recorded && ended.tasks.is_none() && ended.block.on().is_some(),
        "{ended:?}"
    );
    world.store.fail_reads(false);
    let again = world.restarted().await;
    store.heal();
    again.wait(5);
    again.app.sweep().await;
    assert_eq!(again.app.unready(), Vec::<String>::new());
    assert_eq!(again.renew(&job, &[]).await.rule(), "task_ended");
    assert_eq!(again.ask_matrix(7, 1).await.2.rule(), "blocked");
}

/// What no entry can hold is refused, in a stall too: held, it would keep the ledger from ever
/// going on.
#[tokio::test]
async fn a_block_on_a_text_that_no_entry_can_hold_is_refused() {
    let (world, store) = World::in_memory().await;
    world.job(1).await;
    for stalled in [false, true] {
        if stalled {
            store.fail([Fault::BeforeWrite; 5000]);
        }
        let tenant = world.tenant();
        for text in ["x".repeat(9 * 1024), "\u{1}".repeat(700)] {
            let on = BlockOn::Instance {
                issuer: name("github"),
                instance: text.clone(),
            };
            let set = world.app.set_block(&tenant, on, &BY, "odd").await;
            assert_eq!(set.unwrap_err().refusal.rule.code(), "invalid_parameter");
            let what = any(text);
            let ended = world
                .app
                .end_instance(&tenant, &what, true, &BY, "odd")
                .await;
            assert_eq!(ended.unwrap_err().refusal.rule.code(), "invalid_parameter");
        }
    }
    store.heal();
    world.wait(5);
    world.app.sweep().await;
    assert_eq!(world.app.unready(), Vec::<String>::new());
    world.job(2).await;
    let longest = BlockOn::Instance {
        issuer: name("github"),
        instance: "x".repeat(4094),
    };
    let tenant = world.tenant();
    world
        .app
        .set_block(&tenant, longest, &BY, "odd")
        .await
        .unwrap();
}

/// A block that stands already stays as it was set, with its time and its entry.
#[tokio::test]
async fn an_end_with_a_block_leaves_one_that_stands() {
    let world = World::new().await;
    let (first, second) = (world.matrix(7, 1).await, world.matrix(7, 2).await);
    let tenant = world.tenant();
    for job in 1..=2 {
        let on: BlockOn = format!("instance:github:{}", instance(7, job))
            .parse()
            .unwrap();
        world.app.set_block(&tenant, on, &BY, "odd").await.unwrap();
    }
    let stood = world.app.blocks(&tenant).unwrap();
    world.wait(60);
    let client = first.client.parse().unwrap();
    let (_, on) = world
        .app
        .end_client(&tenant, client, true, &BY, "leaked")
        .await
        .unwrap();
    assert_eq!(on, Blocking::On(stood[0].on.clone()));
    let ended = world.end_instance(&any(instance(7, 2)), true).await;
    assert_eq!(ended, [second.client.parse().unwrap()]);
    assert_eq!(world.app.blocks(&tenant).unwrap(), stood);
    assert_eq!(world.entries_of("block.set").len(), 2);
}

/// Where nothing can be read, an end by hand is taken all the same, block or not: it is obeyed from
/// the first read on, over a restart, and recorded when the ledger is back.
#[tokio::test]
async fn ends_by_hand_are_taken_although_nothing_can_be_read() {
    let (world, store) = World::in_memory().await;
    let [one, two, three, other] = [
        world.matrix(7, 1).await,
        world.matrix(7, 2).await,
        world.matrix(7, 3).await,
        world.matrix(7, 4).await,
    ];
    let (alone, stays) = (world.job(3).await, world.job(4).await);
    world.app.sweep().await;
    world.store.fail_reads(true);
    store.fail([Fault::BeforeWrite; 5000]);
    let tenant = world.tenant();
    let end = async |client: &str, block| {
        let client = client.parse().unwrap();
        let ended = world.app.end_client(&tenant, client, block, &BY, "leaked");
        let (ended, on) = ended.await.unwrap();
        assert!(ended.recorded && !ended.task_ended, "{ended:?}");
        assert_eq!(
            (ended.client, ended.cause.word()),
            (Some(client), "operator")
        );
        assert_eq!(ended.at, world.app.now());
        // Nothing can be known of its credentials but that none outlives the longest window.
        assert!(ended.last_possible_acceptance >= ended.at + Span::from_seconds(3600));
        let wanted = if block {
            Blocking::IfItsOwn
        } else {
            Blocking::Nothing
        };
        assert_eq!(on, wanted);
    };
    end(&one.client, false).await;
    end(&alone.client, false).await;
    let what = any(instance(7, 2));
    let ended = world.app.end_instance(&tenant, &what, false, &BY, "leaked");
    let ended = ended.await.unwrap();
    assert!(ended.recorded && ended.tasks.is_none(), "{ended:?}");
    assert_eq!((ended.clients.len(), ended.block), (0, Blocking::Nothing));
    let what = InstanceOf {
        issuer: Some(name("github")),
        instance: instance(7, 3),
    };
    let ended = world.app.end_instance(&tenant, &what, true, &BY, "leaked");
    let ended = ended.await.unwrap();
    assert!(ended.recorded && ended.block.on().is_some(), "{ended:?}");
    // What is no client and no instance of anybody ends nothing and holds up nothing.
    let unknown = format!("{}_9", one.client.rsplit_once('_').unwrap().0);
    end(&unknown, false).await;
    let what = any("run=none".to_owned());
    let nobody = world.app.end_instance(&tenant, &what, false, &BY, "x");
    assert!(nobody.await.unwrap().recorded);

    world.store.fail_reads(false);
    let again = world.restarted().await;
    for world in [&world, &again] {
        for over in [&one, &two, &three, &alone] {
            assert!(!world.is_active(&over.token).await, "{}", over.client);
            assert_ne!(world.renew(over, &[]).await.status, 200);
        }
        assert!(world.is_active(&other.token).await && world.is_active(&stays.token).await);
        // Said again it is over, whichever way.
        let client = one.client.parse().unwrap();
        let tenant = world.tenant();
        let said = world.app.end_client(&tenant, client, false, &BY, "again");
        assert_eq!(said.await.unwrap_err().refusal.rule.code(), "client_ended");
    }
    store.heal();
    again.wait(5);
    again.app.sweep().await;
    assert_eq!(again.app.unready(), Vec::<String>::new());
    for over in [&one, &two, &three, &alone] {
        assert!(!again.is_active(&over.token).await, "{}", over.client);
    }
    assert!(again.is_active(&other.token).await && again.is_active(&stays.token).await);
    assert!(!again.is_open(&alone.task));
    let ended = again.entries_of("client.ended");
    assert_eq!(ended.len(), 4, "{ended:?}");
    for entry in &ended {
        assert_eq!(entry["data"]["cause"], "operator");
    }
    assert_eq!(again.entries_of("block.set").len(), 1);
    assert_eq!(again.ask_matrix(7, 3).await.2.rule(), "blocked");
    assert_eq!(again.ask_matrix(7, 2).await.2.status, 200);
}

/// The same with blocks on what nobody can tell yet: the series of a task, the instance of a client,
/// an instance of which it is not known who vouches for it. They stand from the first grant on.
#[tokio::test]
async fn what_cannot_be_read_is_blocked_when_it_is_found() {
    let staff = r#"
[issuer.staff]
kind = "oidc"
url = "https://idp.example"
jwks = { file = "jwks.json" }
audience = "dayfly-tasks"
people = true
"#;
    let (world, store) = World::in_memory_declared(&format!("{TENANT}{staff}")).await;
    let (task, stays) = (world.job(3).await, world.job(4).await);
    let [client, instance_of, other] = [
        world.matrix(7, 1).await,
        world.matrix(7, 2).await,
        world.matrix(7, 3).await,
    ];
    world.app.sweep().await;
    world.store.fail_reads(true);
    store.fail([Fault::BeforeWrite; 5000]);
    let tenant = world.tenant();
    let id = task.task.parse().unwrap();
    let ended = world.app.operator_end(&tenant, id, &BY, "leaked").await;
    let ended = ended.unwrap();
    assert!(ended.recorded && ended.task_ended, "{ended:?}");
    assert_eq!((ended.client, ended.cause.word()), (None, "operator"));
    assert!(ended.last_possible_acceptance >= ended.at + Span::from_seconds(3600));
    let id = client.client.parse().unwrap();
    let ended = world.app.end_client(&tenant, id, true, &BY, "leaked").await;
    let (ended, blocking) = ended.unwrap();
    assert!(ended.recorded && !ended.task_ended, "{ended:?}");
    assert_eq!(blocking, Blocking::IfItsOwn);
    // Two issuers are declared, so which one vouches for it is found with it.
    let what = any(instance(7, 2));
    let ended = world.app.end_instance(&tenant, &what, true, &BY, "leaked");
    let ended = ended.await.unwrap();
    assert!(ended.recorded, "{ended:?}");
    assert_eq!(ended.block, Blocking::WhenFound);
    // An issuer that is not declared vouches for nothing.
    let wrong = InstanceOf {
        issuer: Some(name("nobody")),
        instance: instance(7, 2),
    };
    let refused = world.app.end_instance(&tenant, &wrong, true, &BY, "x");
    let refused = refused.await.unwrap_err().refusal;
    assert_eq!(refused.rule.code(), "not_found");

    world.store.fail_reads(false);
    let again = world.restarted().await;
    for world in [&world, &again] {
        for over in [&task, &client, &instance_of] {
            assert!(!world.is_active(&over.token).await, "{}", over.client);
            assert_ne!(world.renew(over, &[]).await.status, 200);
        }
        assert!(world.is_active(&other.token).await && world.is_active(&stays.token).await);
    }
    store.heal();
    again.wait(5);
    again.app.sweep().await;
    assert_eq!(again.app.unready(), Vec::<String>::new());
    assert!(!again.is_open(&task.task) && again.is_active(&other.token).await);
    let blocks = again.app.blocks(&again.tenant()).unwrap();
    let blocks: Vec<String> = blocks.iter().map(|block| block.on.to_string()).collect();
    let wanted = [
        "series:github:repository_id,run_id:1/3".to_owned(),
        format!("instance:github:{}", instance(7, 1)),
        format!("instance:github:{}", instance(7, 2)),
    ];
    assert_eq!(blocks, wanted);
    let entries = again.entries_of("block.set");
    assert_eq!(entries.len(), 3, "{entries:?}");
    assert_eq!(entries[0]["data"]["about"], task.task.as_str());
    for job in [1, 2] {
        assert_eq!(again.ask_matrix(7, job).await.2.rule(), "blocked");
    }
}
