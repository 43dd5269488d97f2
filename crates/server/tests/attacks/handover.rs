//! An owner that is offboarded to another: in one write, its open tasks are over and its workloads are the other's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dayfly_domain::Name;
use dayfly_server::app::{Actor, ApplyError, ApplyRequest, Contained, Stop};
use dayfly_server::record;
use dayfly_store::Fault;
use serde_json::Value;

use super::job::{Job, claims, new_key, signed};
use super::world::{ARTIFACTS, Reply, TENANT, World, acme};

const BY: Actor = Actor::Local { uid: 7 };

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn team() -> Contained {
    Contained::Owner(name("team"))
}

fn to(owner: &str) -> Stop {
    Stop::HandOver(name(owner))
}

const HEIRS: &str = r#"
[owner.heirs]
name    = "Heirs"
contact = "heirs@example.com"
members = ["group:heirs"]

[owner.third]
name    = "Third"
contact = "third@example.com"
members = ["group:third"]
"#;

fn declared() -> String {
    format!("{TENANT}{HEIRS}")
}

impl World {
    async fn hand_over(&self, to: &str) -> bool {
        let (tenant, stop) = (self.tenant(), Stop::HandOver(name(to)));
        let done = self.app.stop(&tenant, &team(), &stop, &BY, "left").await;
        done.unwrap().already
    }

    async fn hand_over_refused(&self, from: &str, to: &str) -> String {
        let (tenant, stop) = (self.tenant(), Stop::HandOver(name(to)));
        let from = Contained::Owner(name(from));
        let dry = self.app.would_stop(&tenant, &from, &stop);
        let done = self.app.stop(&tenant, &from, &stop, &BY, "left").await;
        let rule = done.unwrap_err().refusal.rule.code();
        assert_eq!(dry.unwrap_err().refusal.rule.code(), rule);
        rule.to_owned()
    }

    async fn give_back(&self) {
        let tenant = self.tenant();
        let done = self.app.lift(&tenant, &team(), &BY, "back").await;
        done.unwrap();
    }

    async fn start(&self, run: u64) -> Reply {
        let proof = signed(&claims(self, 1, run));
        let key = new_key();
        let resource = [("resource", ARTIFACTS)];
        self.ask(&proof, Some(&key), &resource).await
    }

    /// The first entry of a task.
    fn started(&self, task: &str) -> Value {
        let mut leaves = self.leaves().into_iter();
        let of = leaves.find(|leaf| leaf["kind"] == "task.started" && leaf["task"] == task);
        of.unwrap()
    }

    fn owner_of(&self, task: &str) -> String {
        self.started(task)["data"]["owner"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Checks that no task of the owner was started or given anything at any position between its
    /// offboarding and its return.
    fn nothing_of_the_former_owner_after_it(&self) {
        let mut offboarded = false;
        let mut theirs = std::collections::BTreeSet::new();
        for leaf in self.leaves() {
            let task = leaf["task"].as_str().unwrap_or_default().to_owned();
            match leaf["kind"].as_str().unwrap() {
                "block.set" if leaf["data"]["owner"] == "team" => offboarded = true,
                "block.lifted" if leaf["data"]["owner"] == "team" => offboarded = false,
                "task.started" if leaf["data"]["owner"] == "team" => {
                    assert!(!offboarded, "started for an offboarded owner: {leaf}");
                    theirs.insert(task);
                }
                "client.registered" | "credential.issued" if theirs.contains(&task) => {
                    assert!(!offboarded, "given to an offboarded owner's: {leaf}");
                }
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn one_write_ends_what_is_open_and_lets_the_next_start_under_the_other_owner() {
    let world = World::declared(&declared()).await;
    let mut jobs = Vec::new();
    for run in 1..=12 {
        jobs.push(world.job(run).await);
    }
    let (appends, size) = (world.store.appends(), world.size());
    assert!(!world.hand_over("heirs").await);
    assert_eq!(
        (world.store.appends(), world.size()),
        (appends + 1, size + 1)
    );
    let entry = world.leaves().pop().unwrap();
    assert_eq!(
        (&entry["data"]["owner"], &entry["data"]["to"]),
        (&"team".into(), &"heirs".into())
    );
    for job in &jobs {
        assert!(!world.is_active(&job.token).await);
        assert_eq!(world.renew(job, &[]).await.rule(), "rights_removed");
        assert_eq!(world.owner_of(&job.task), "team");
    }
    // A run that was open does not come back; a new one is the other's from the same moment on.
    let lost = world.ask(
        &jobs[0].proof,
        Some(&jobs[0].key),
        &[("resource", ARTIFACTS)],
    );
    assert_eq!(lost.await.rule(), "rights_removed");
    let fresh = world.job(20).await;
    assert_eq!(world.owner_of(&fresh.task), "heirs");
    assert!(world.is_active(&fresh.token).await);
    assert_eq!(world.app.sweep().await, 12);
    assert!(world.hand_over("heirs").await, "twice is once");
    // The new owner answers for it: what is taken from it ends the task.
    let heirs = Contained::Owner(name("heirs"));
    let tenant = world.tenant();
    world
        .app
        .contain(&tenant, &heirs, &BY, "left too")
        .await
        .unwrap();
    assert!(!world.is_active(&fresh.token).await);
    assert_eq!(world.start(21).await.rule(), "blocked");
}

#[tokio::test]
async fn nobody_answers_who_cannot() {
    let world = World::declared(&declared()).await;
    let size = world.size();
    assert_eq!(world.hand_over_refused("team", "nobody").await, "not_found");
    assert_eq!(
        world.hand_over_refused("nobody", "heirs").await,
        "not_found"
    );
    assert_eq!(
        world.hand_over_refused("team", "team").await,
        "invalid_parameter"
    );
    assert_eq!(world.size(), size);
    let third = Contained::Owner(name("third"));
    world
        .app
        .contain(&world.tenant(), &third, &BY, "left")
        .await
        .unwrap();
    assert_eq!(world.hand_over_refused("team", "third").await, "blocked");
    let workload = Contained::Workload(name("release"));
    let stop = world
        .app
        .stop(&world.tenant(), &workload, &to("heirs"), &BY, "x")
        .await;
    assert_eq!(stop.unwrap_err().refusal.rule.code(), "invalid_parameter");
    // Nor is it handed over twice, to two.
    world.hand_over("heirs").await;
    world
        .app
        .lift(&world.tenant(), &third, &BY, "back")
        .await
        .unwrap();
    assert_eq!(world.hand_over_refused("team", "third").await, "blocked");
    // An heir who leaves hands on what was handed over.
    let heirs = Contained::Owner(name("heirs"));
    let tenant = world.tenant();
    world
        .app
        .stop(&tenant, &heirs, &to("third"), &BY, "left")
        .await
        .unwrap();
    let job = world.job(1).await;
    assert_eq!(world.owner_of(&job.task), "third");
}

#[tokio::test]
async fn who_was_offboarded_before_may_be_handed_over_later_and_since_then_stays() {
    let world = World::declared(&declared()).await;
    let tenant = world.tenant();
    let since = world
        .app
        .contain(&tenant, &team(), &BY, "left")
        .await
        .unwrap()
        .since;
    world.wait(60);
    assert_eq!(world.start(1).await.rule(), "blocked");
    assert!(!world.hand_over("heirs").await);
    assert_eq!(world.owner_of(&world.job(2).await.task), "heirs");
    let blocks = world.app.blocks(&tenant).unwrap();
    assert_eq!((blocks.len(), blocks[0].since), (1, since));
}

#[tokio::test]
async fn a_restored_owner_has_its_workloads_back_and_nothing_comes_back() {
    let world = World::declared(&declared()).await;
    let old = world.job(1).await;
    world.hand_over("heirs").await;
    let between = world.job(2).await;
    world.give_back().await;
    let new = world.job(3).await;
    assert_eq!(world.owner_of(&new.task), "team");
    assert!(!world.is_active(&old.token).await);
    // What the other opened meanwhile is the other's to its end.
    assert!(world.is_active(&between.token).await);
    assert_eq!(world.renew(&between, &[]).await.status, 200);
    let entry = world
        .leaves()
        .into_iter()
        .rfind(|leaf| leaf["kind"] == "block.lifted")
        .unwrap();
    assert_eq!(entry["data"]["from"], "heirs");
    world.nothing_of_the_former_owner_after_it();
}

#[tokio::test]
async fn a_restart_and_an_apply_honour_it_until_the_files_say_otherwise() {
    let world = World::declared(&declared()).await;
    world.hand_over("heirs").await;
    let world = world.restarted().await;
    assert_eq!(world.owner_of(&world.job(1).await.task), "heirs");
    let tenant = world.tenant();
    let loaded = tenant.loaded();
    let owners = record::owners(world.app.store(), &acme(), &loaded.declared).unwrap();
    let of = |owner: &str| {
        owners
            .iter()
            .find(|view| view.owner == name(owner))
            .unwrap()
    };
    assert_eq!(of("team").handed_to, Some(name("heirs")));
    assert!(of("team").workloads.is_empty() && of("heirs").workloads.contains(&name("release")));
    let workloads = record::workloads(world.app.store(), &acme(), &loaded.declared).unwrap();
    let release = workloads
        .iter()
        .find(|view| view.workload == name("release"))
        .unwrap();
    assert_eq!(release.handed_from, Some(name("team")));
    assert!(release.stopped_by.is_empty(), "{release:?}");
    // Files that change something else.
    let apply = async |text: &str| {
        std::fs::write(world.folder.path().join("acme/tenant.toml"), text).unwrap();
        let (tenant, request) = (world.tenant(), ApplyRequest::default());
        world.app.apply(&tenant, request, &BY, "changed").await
    };
    let other = declared().replace("purpose = \"publish\"", "purpose = \"publish more\"");
    apply(&other).await.unwrap();
    assert_eq!(world.owner_of(&world.job(2).await.task), "heirs");
    // Whoever answers for workloads does not vanish.
    let gone = other.replace("[owner.heirs]", "[owner.others]");
    let refused = apply(&gone).await.unwrap_err();
    assert!(matches!(refused, ApplyError::Heir { .. }), "{refused}");
    // Files that say who it is.
    let said = other.replacen("owner   = \"team\"", "owner   = \"third\"", 1);
    apply(&said).await.unwrap();
    assert_eq!(world.owner_of(&world.job(3).await.task), "third");
}

/// Starts that were decided before are decided anew under the other owner; what was given before
/// is not given any more.
#[tokio::test]
async fn what_was_decided_before_a_hand_over_is_decided_anew_or_not_at_all() {
    let world = World::declared(&declared()).await;
    let renewing = world.job(1).await;
    let hand_over = || {
        let (app, tenant) = (Arc::clone(&world.app), world.tenant());
        async move {
            app.stop(&tenant, &team(), &to("heirs"), &BY, "left")
                .await
                .unwrap();
        }
    };
    world.store.before_next(hand_over());
    let started = world.start(2).await;
    assert_eq!(started.status, 200, "{}", started.text);
    assert_eq!(world.owner_of(started.str("task")), "heirs");
    assert!(world.is_active(started.str("access_token")).await);
    world.nothing_of_the_former_owner_after_it();
    world.give_back().await;
    let second = world.job(3).await;
    world.store.before_next(hand_over());
    assert_eq!(world.renew(&second, &[]).await.rule(), "rights_removed");
    world.give_back().await;
    // Recorded before it, and signed after it: nothing is signed.
    world.store.after_next(hand_over());
    assert_eq!(world.start(4).await.rule(), "rights_removed");
    assert!(!world.is_active(&renewing.token).await);
    world.nothing_of_the_former_owner_after_it();
}

/// Many starts and renewals run into a hand-over: what the former owner's tasks were given is dead
/// after it, and what is alive is the other's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_minted_for_the_former_owner_survives_a_hand_over() {
    let world = Arc::new(World::declared(&declared()).await);
    for round in 0..8u64 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = Vec::new();
        for worker in 0..6u64 {
            let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
            let first = 1_000_000 + round * 100_000 + worker * 1000;
            workers.push(tokio::spawn(
                async move { work(&world, &stop, first).await },
            ));
        }
        for _ in 0..(round % 4) * 50 {
            tokio::task::yield_now().await;
        }
        world.hand_over("heirs").await;
        stop.store(true, Ordering::SeqCst);
        let mut minted = Vec::new();
        for worker in workers {
            minted.extend(worker.await.unwrap());
        }
        for job in &minted {
            let theirs = world.owner_of(&job.task) == "team";
            let active = world.is_active(&job.token).await;
            assert_eq!(active, !theirs, "round {round}: {}", job.task);
            assert_eq!(world.renew(job, &[]).await.status == 200, !theirs);
        }
        world.nothing_of_the_former_owner_after_it();
        world.give_back().await;
    }
}

/// Starts and renews until told to stop; gives everything it was granted.
async fn work(world: &World, stop: &AtomicBool, first: u64) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for run in first..first + 1000 {
        let done = stop.load(Ordering::SeqCst);
        let key = new_key();
        let proof = signed(&claims(world, 1, run));
        let reply = world
            .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
            .await;
        if reply.status == 200 {
            let job = Job::of(key, proof, &reply);
            let renewed = world.renew(&job, &[]).await;
            jobs.push(job.clone());
            if renewed.status == 200 {
                jobs.push(Job {
                    token: renewed.str("access_token").to_owned(),
                    ..job
                });
            }
        }
        if done {
            break;
        }
    }
    jobs
}

#[tokio::test]
async fn a_hand_over_is_taken_in_a_stall() {
    let (world, store) = World::in_memory_declared(&declared()).await;
    let job = world.job(1).await;
    world.app.sweep().await;
    store.fail([Fault::BeforeWrite; 5000]);
    assert!(!world.hand_over("heirs").await);
    assert!(!world.is_active(&job.token).await);
    let again = world.restarted().await;
    assert!(!again.is_active(&job.token).await);
    store.heal();
    again.wait(5);
    again.app.sweep().await;
    assert_eq!(again.app.unready(), Vec::<String>::new());
    let owners = again.tenant().loaded();
    assert_eq!(owners.declared.handed[&name("release")], name("team"));
    assert_eq!(again.owner_of(&again.job(2).await.task), "heirs");
    let set = again.leaves();
    let set = set.iter().filter(|leaf| leaf["kind"] == "block.set");
    assert_eq!(set.count(), 1);
}

/// The heir is offboarded between the look and the append: nobody is left without an answer.
#[tokio::test]
async fn nobody_is_handed_anything_who_was_offboarded_meanwhile() {
    let world = World::declared(&declared()).await;
    let (app, tenant) = (Arc::clone(&world.app), world.tenant());
    world.store.before_revision(async move {
        let heirs = Contained::Owner(name("heirs"));
        app.contain(&tenant, &heirs, &BY, "left").await.unwrap();
    });
    let tenant = world.tenant();
    let (from, stop) = (team(), to("heirs"));
    let done = world.app.stop(&tenant, &from, &stop, &BY, "left").await;
    let refused = done.unwrap_err().refusal;
    assert_eq!((refused.rule.code(), &*refused.field), ("blocked", "to"));
    assert_eq!(world.owner_of(&world.job(1).await.task), "team");
}

/// An owner is restored while the workloads are handed over: one of both comes first, and the other
/// is decided on what it left.
#[tokio::test]
async fn a_return_that_meets_a_hand_over_gives_back_what_was_handed_over() {
    let world = World::declared(&declared()).await;
    let tenant = world.tenant();
    world
        .app
        .contain(&tenant, &team(), &BY, "left")
        .await
        .unwrap();
    let (app, other) = (Arc::clone(&world.app), world.tenant());
    world.store.before_lift(async move {
        app.stop(&other, &team(), &to("heirs"), &BY, "left")
            .await
            .unwrap();
    });
    world.give_back().await;
    assert_eq!(world.owner_of(&world.job(1).await.task), "team");
    let lifted = world
        .leaves()
        .into_iter()
        .rfind(|leaf| leaf["kind"] == "block.lifted");
    assert_eq!(lifted.unwrap()["data"]["from"], "heirs");
    let loaded = world.tenant().loaded();
    assert!(loaded.declared.handed.is_empty());
    // What is in force and what is kept beside it say the same.
    assert!(world.app.blocks(&tenant).unwrap().is_empty());
    assert!(!world.hand_over("third").await);
    assert_eq!(world.owner_of(&world.job(2).await.task), "third");
}

/// Whoever hands over while nothing can be read is judged when it is recorded.
#[tokio::test]
async fn a_hand_over_that_was_not_looked_at_is_judged_when_it_is_recorded() {
    for before in [Some("third"), None] {
        let (world, store) = World::in_memory_declared(&declared()).await;
        let (tenant, job) = (world.tenant(), world.job(1).await);
        match before {
            Some(other) => assert!(!world.hand_over(other).await),
            None => {
                let heirs = Contained::Owner(name("heirs"));
                world
                    .app
                    .contain(&tenant, &heirs, &BY, "left")
                    .await
                    .unwrap();
            }
        }
        world.app.sweep().await;
        world.store.fail_reads(true);
        store.fail([Fault::BeforeWrite; 5000]);
        let done = world
            .app
            .stop(&tenant, &team(), &to("heirs"), &BY, "left")
            .await
            .unwrap();
        assert!(done.recorded && done.open.is_none(), "{done:?}");
        world.store.fail_reads(false);
        assert!(!world.is_active(&job.token).await);
        let again = world.restarted().await;
        store.heal();
        again.wait(5);
        again.app.sweep().await;
        assert_eq!(again.app.unready(), Vec::<String>::new());
        let loaded = again.tenant().loaded();
        let owner = &loaded.declared.workloads[&name("release")].workload.owner;
        assert_eq!(owner.as_str(), before.unwrap_or("team"));
        let set = again
            .leaves()
            .into_iter()
            .filter(|leaf| leaf["kind"] == "block.set" && leaf["data"]["owner"] == "team");
        let set: Vec<Value> = set.collect();
        assert_eq!(set.len(), 1, "{set:?}");
        assert_eq!(set[0]["data"].get("to"), before.map(Value::from).as_ref());
        assert!(!again.is_active(&job.token).await);
    }
}

/// The hand-over is durable and this process has not loaded it yet: what starts then is decided by
/// the state in force.
#[tokio::test]
async fn a_start_on_the_former_state_is_decided_anew() {
    let world = Arc::new(World::declared(&declared()).await);
    let (other, seen) = (Arc::clone(&world), Arc::new(std::sync::Mutex::new(None)));
    let slot = Arc::clone(&seen);
    world.store.after_revision(async move {
        let started = other.start(7).await;
        *slot.lock().unwrap() = Some(started);
    });
    world.hand_over("heirs").await;
    let started = seen.lock().unwrap().take().unwrap();
    assert_eq!(started.status, 200, "{}", started.text);
    assert_eq!(world.owner_of(started.str("task")), "heirs");
}
