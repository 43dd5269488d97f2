//! Owners, workloads and tenants that are stopped: nothing of them is accepted from the answer on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dayfly_domain::{Block, BlockOn};
use dayfly_server::app::{Actor, Contained};
use dayfly_store::{FactsQuery, Store};

use super::job::{Job, claims, new_key, proof, signed};
use super::world::{ARTIFACTS, World, acme};

const BY: Actor = Actor::Local { uid: 7 };

fn owner() -> Contained {
    Contained::Owner("team".parse().unwrap())
}

fn workload() -> Contained {
    Contained::Workload("release".parse().unwrap())
}

/// What is contained, the cause of the ends, and what a caller is told.
fn every() -> [(Contained, &'static str, &'static str); 3] {
    [
        (
            owner(),
            "owner_offboarded",
            "the owner of the workload is offboarded",
        ),
        (workload(), "workload_disabled", "the workload is disabled"),
        (Contained::Tenant, "operator", "the tenant is frozen"),
    ]
}

impl World {
    async fn contain(&self, what: &Contained) {
        let done = self.app.contain(&self.tenant(), what, &BY, "left").await;
        assert!(!done.unwrap().already);
    }

    async fn lift(&self, what: &Contained) {
        let done = self.app.lift(&self.tenant(), what, &BY, "back").await;
        done.unwrap();
    }

    /// A job that opens between two containments.
    async fn job_after(&self, what: &Contained) -> Job {
        self.lift(what).await;
        let job = self.job(3).await;
        self.contain(what).await;
        job
    }

    fn blocks(&self) -> Vec<Block> {
        let facts = self.store.facts(&acme(), &FactsQuery::default());
        facts.unwrap().blocks.to_vec()
    }

    /// Checks that nothing was granted at any position between a containment and its lifting.
    fn nothing_granted_while_contained(&self) {
        let mut contained = false;
        for leaf in self.leaves() {
            match leaf["kind"].as_str().unwrap() {
                "block.set" => contained = true,
                "block.lifted" => contained = false,
                "task.started" | "client.registered" | "credential.issued" => {
                    assert!(!contained, "granted while contained: {leaf}");
                }
                _ => {}
            }
        }
    }

    /// The cause of a task's recorded end.
    fn cause(&self, task: &str) -> Option<String> {
        let leaves = self.leaves();
        let ended = leaves
            .iter()
            .find(|leaf| leaf["kind"] == "task.ended" && leaf["task"] == task)?;
        Some(ended["data"]["cause"].as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn one_entry_stops_everything_at_once_and_the_ends_follow() {
    for (what, cause, told) in every() {
        let world = World::new().await;
        let jobs = [world.job(1).await, world.job(2).await, world.job(3).await];
        let before = world.size();
        world.contain(&what).await;
        assert_eq!(world.size(), before + 1, "one entry, whatever is open");
        let entry = world.leaves().pop().unwrap();
        assert_eq!(entry["kind"], "block.set");
        assert_eq!(entry["data"]["on"], what.block().to_string());
        for job in &jobs {
            assert!(!world.is_active(&job.token).await, "{cause}");
            assert_eq!(world.renew(job, &[]).await.rule(), "rights_removed");
            let narrowed = world
                .narrow(&job.token, Some(&job.key), &[("resource", ARTIFACTS)])
                .await;
            assert_eq!(narrowed.rule(), "rights_removed");
            assert_eq!(world.beat(job).await.rule(), "rights_removed");
            let path = format!("/tasks/{}", job.task);
            assert_eq!(
                world.call(job, "GET", &path, "").await.rule(),
                "rights_removed"
            );
            assert_eq!(world.cause(&job.task), None, "not recorded yet");
        }
        // A new run, a newer attempt and the lost answer of before.
        let fresh = signed(&claims(&world, 1, 9));
        let reply = world.ask(&fresh, Some(&new_key()), &[]).await;
        assert_eq!(reply.refusal(), (400, "invalid_grant", "blocked"));
        assert_eq!(reply.body["refused"]["got"], told);
        assert!(!reply.text.contains("team"), "{}", reply.text);
        let again = world
            .ask(
                &jobs[0].proof,
                Some(&jobs[0].key),
                &[("resource", ARTIFACTS)],
            )
            .await;
        assert_eq!(again.rule(), "blocked");
        assert_eq!(world.app.sweep().await, 3);
        for job in &jobs {
            assert_eq!(world.cause(&job.task).as_deref(), Some(cause));
            assert_eq!(world.renew(job, &[]).await.rule(), "task_ended");
        }
        assert_eq!(world.app.sweep().await, 0, "once");
    }
}

#[tokio::test]
async fn what_is_not_contained_goes_on() {
    let world = World::new().await;
    let (release, matrix) = (
        world.job(1).await,
        world.job_of(2, 1, &[("resource", ARTIFACTS)]).await,
    );
    world.contain(&workload()).await;
    assert_eq!(world.app.sweep().await, 1);
    assert!(!world.is_open(&release.task) && world.is_open(&matrix.task));
    assert!(world.is_active(&matrix.token).await);
    assert_eq!(world.renew(&matrix, &[]).await.status, 200);
    world.job_of(2, 2, &[("resource", ARTIFACTS)]).await;
}

#[tokio::test]
async fn what_is_lifted_starts_anew_and_nothing_comes_back() {
    for (what, cause, _) in every() {
        let world = World::new().await;
        let job = world.job(1).await;
        world.contain(&what).await;
        let again = world
            .app
            .contain(&world.tenant(), &what, &BY, "twice")
            .await;
        assert!(again.unwrap().already);
        world.lift(&what).await;
        assert!(world.blocks().is_empty());
        // Lifted before the sweep came: the task is over all the same, by what ended it.
        assert!(!world.is_active(&job.token).await);
        assert_eq!(world.renew(&job, &[]).await.rule(), "rights_removed");
        world.app.sweep().await;
        assert_eq!(world.cause(&job.task).as_deref(), Some(cause));
        let fresh = world.job(2).await;
        assert!(world.is_active(&fresh.token).await);
        // A second time, by another hand, and a lift of what does not stand.
        world.contain(&what).await;
        assert!(!world.is_active(&fresh.token).await);
        world.lift(&what).await;
        let nothing = world.app.lift(&world.tenant(), &what, &BY, "again").await;
        assert_eq!(nothing.unwrap_err().refusal.rule.code(), "not_found");
    }
}

#[tokio::test]
async fn containment_outlives_a_restart_and_the_ends_go_on_after_it() {
    let world = World::new().await;
    let jobs = [world.job(1).await, world.job(2).await];
    world.contain(&owner()).await;
    // The first end is recorded by the job itself, and answered with what took its rights.
    let ended = world.end(&jobs[0]).await;
    assert_eq!(
        (ended.status, ended.str("cause")),
        (200, "owner_offboarded")
    );
    let world = world.restarted().await;
    assert!(!world.is_active(&jobs[1].token).await);
    let fresh = signed(&claims(&world, 1, 9));
    assert_eq!(
        world.ask(&fresh, Some(&new_key()), &[]).await.rule(),
        "blocked"
    );
    assert_eq!(world.app.sweep().await, 1);
    assert_eq!(
        world.cause(&jobs[1].task).as_deref(),
        Some("owner_offboarded")
    );
}

#[tokio::test]
async fn an_end_that_comes_too_late_is_answered_with_what_was_first() {
    for (what, cause, _) in every() {
        let world = World::new().await;
        let (first, second) = (world.job(1).await, world.job(2).await);
        world.contain(&what).await;
        for ended in [
            world.end_task(&first, "completed").await,
            world.end_task(&first, "failed").await,
            world.end(&second).await,
        ] {
            assert_eq!((ended.status, ended.str("cause")), (200, cause));
        }
        // Whoever holds but the token learns nothing.
        let other = new_key();
        let third = world.job_after(&what).await;
        let revoke = super::job::dpop(&world, &third.key, "POST", "/revoke");
        let form = [("token", third.token.as_str())];
        let revoked = world.form("/revoke", &form, &[("dpop", &revoke)]).await;
        assert_eq!(revoked.status, 200);
        world.app.sweep().await;
        assert_eq!(world.cause(&third.task).as_deref(), Some(cause));
        let path = format!("/tasks/{}/end", first.task);
        let nonce = world.app.nonce();
        let stolen = proof(
            &world,
            &other,
            "POST",
            &path,
            Some(&nonce),
            Some(&first.token),
        );
        let reply = world
            .call_with(
                &format!("DPoP {}", first.token),
                Some(&stolen),
                "POST",
                &path,
                r#"{"outcome":"completed"}"#,
            )
            .await;
        assert_eq!(reply.status, 401, "{}", reply.text);
    }
}

#[tokio::test]
async fn an_operators_end_of_what_is_over_keeps_the_cause_and_sets_its_block() {
    let world = World::new().await;
    let job = world.job(1).await;
    world.contain(&owner()).await;
    let ended = world
        .app
        .operator_end(&world.tenant(), job.task.parse().unwrap(), &BY, "leaked")
        .await
        .unwrap();
    assert_eq!(ended.cause.word(), "owner_offboarded");
    assert_eq!(world.blocks().len(), 2);
}

#[tokio::test]
async fn a_slip_of_the_pen_contains_nothing() {
    let world = World::new().await;
    let size = world.size();
    for what in [
        Contained::Owner("taem".parse().unwrap()),
        Contained::Workload("team".parse().unwrap()),
    ] {
        let done = world.app.contain(&world.tenant(), &what, &BY, "left").await;
        assert_eq!(done.unwrap_err().refusal.rule.code(), "not_found");
        assert!(world.app.would_end(&world.tenant(), &what).is_err());
    }
    assert_eq!(world.size(), size);
    // What a command of its own lifts is not lifted by `unblock`.
    world.contain(&owner()).await;
    for on in [owner().block(), BlockOn::Tenant] {
        let lifted = world.app.unblock(&world.tenant(), on, &BY, "x").await;
        assert_eq!(lifted.unwrap_err().refusal.rule.code(), "invalid_parameter");
    }
    assert_eq!(world.blocks().len(), 1);
}

#[tokio::test]
async fn a_dry_run_counts_what_would_end_and_changes_nothing() {
    let world = World::new().await;
    world.job(1).await;
    world.job_of(2, 1, &[("resource", ARTIFACTS)]).await;
    let size = world.size();
    let count = |what: &Contained| world.app.would_end(&world.tenant(), what).unwrap().open;
    assert_eq!(
        (
            count(&owner()),
            count(&workload()),
            count(&Contained::Tenant)
        ),
        (2, 1, 2)
    );
    assert_eq!(world.size(), size);
    world.contain(&workload()).await;
    assert_eq!((count(&owner()), count(&workload())), (1, 0));
}

/// The grant was decided before the offboarding and is recorded after it.
#[tokio::test]
async fn nothing_decided_before_an_offboarding_is_recorded_after_it() {
    for (what, _, _) in every() {
        let world = World::new().await;
        let held = world.job(1).await;
        let contain = |what: &Contained| {
            let (app, tenant, what) = (Arc::clone(&world.app), world.tenant(), what.clone());
            async move {
                app.contain(&tenant, &what, &BY, "left").await.unwrap();
            }
        };
        world.store.before_next(contain(&what));
        let fresh = signed(&claims(&world, 1, 2));
        let reply = world
            .ask(&fresh, Some(&new_key()), &[("resource", ARTIFACTS)])
            .await;
        assert_eq!(reply.rule(), "rights_removed", "{}", reply.text);
        world.lift(&what).await;
        let second = world.job(3).await;
        world.store.before_next(contain(&what));
        assert_eq!(world.renew(&second, &[]).await.rule(), "rights_removed");
        world.lift(&what).await;
        let third = world.job(4).await;
        // Recorded before it, and signed after it: nothing is signed.
        world.store.after_next(contain(&what));
        let renewed = world.renew(&third, &[]).await;
        assert_eq!(renewed.rule(), "rights_removed", "{}", renewed.text);
        assert!(!world.is_active(&held.token).await);
        world.nothing_granted_while_contained();
    }
}

/// Many starts, joins and renewals run into an offboarding: what was answered with a token before
/// it is dead after it, and nothing answered after it is a token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_minted_during_an_offboarding_survives_it() {
    let world = Arc::new(World::new().await);
    for round in 0..12u64 {
        let stop = Arc::new(AtomicBool::new(false));
        let granted = Arc::new(AtomicU64::new(0));
        let mut workers = Vec::new();
        for worker in 0..8u64 {
            let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
            let granted = Arc::clone(&granted);
            workers.push(tokio::spawn(async move {
                let first = 1_000_000 + round * 100_000 + worker * 1000;
                work(&world, &stop, &granted, first).await
            }));
        }
        // In the middle of the first grants, or when there are some that stand.
        while granted.load(Ordering::SeqCst) < (round % 4) * 3 {
            tokio::task::yield_now().await;
        }
        world.contain(&owner()).await;
        // The moment of the acknowledgement: from now on every token there is must be dead.
        stop.store(true, Ordering::SeqCst);
        let mut minted = Vec::new();
        for worker in workers {
            minted.extend(worker.await.unwrap());
        }
        for job in &minted {
            assert!(
                !world.is_active(&job.token).await,
                "round {round}: a token lives on"
            );
            assert_ne!(world.renew(job, &[]).await.status, 200);
        }
        world.app.sweep().await;
        let facts = world
            .store
            .open(&acme(), &dayfly_store::OpenFilter::All, None, 10)
            .unwrap();
        assert!(
            facts.is_empty(),
            "round {round}: {} tasks are open",
            facts.len()
        );
        world.nothing_granted_while_contained();
        world.lift(&owner()).await;
    }
}

/// Starts and renews until told to stop; gives everything it was granted.
async fn work(world: &World, stop: &AtomicBool, granted: &AtomicU64, first: u64) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for run in first..first + 1000 {
        let done = stop.load(Ordering::SeqCst);
        let key = new_key();
        let proof = signed(&claims(world, 1, run));
        let reply = world
            .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
            .await;
        if reply.status == 200 {
            assert!(!done, "granted after the offboarding was acknowledged");
            jobs.push(Job::of(key, proof, &reply));
            granted.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(last) = jobs.last() {
            let reply = world.renew(last, &[]).await;
            if reply.status == 200 {
                let renewed = Job {
                    token: reply.str("access_token").to_owned(),
                    ..last.clone()
                };
                jobs.push(renewed);
            }
        }
        if done {
            break;
        }
    }
    jobs
}
