//! A dry run says what the end does: counted alike, refused alike. And every answer to an end names a time that no credential outlives.

use dayfly_domain::{BlockOn, ClientId, Name, TaskId, Time};
use dayfly_server::app::{Actor, ApplyRequest, Contained, InstanceOf, Stop, WouldEnd};
use dayfly_store::Fault;

use super::delegation::scope;
use super::job::{Job, payload};
use super::subjects;
use super::webhooks::{HELPERS, declared};
use super::world::{ARTIFACTS, ISSUER, TENANT, World, write_tenant};

const BY: Actor = Actor::Local { uid: 7 };

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn any(instance: &str) -> InstanceOf {
    InstanceOf {
        issuer: None,
        instance: instance.to_owned(),
    }
}

fn counts(would: &WouldEnd) -> (u64, u64, u64, u64) {
    (would.open, would.partly, would.clients, would.credentials)
}

/// When a token expires by its own word.
fn expires(token: &str) -> Time {
    Time::from_seconds(payload(token)["exp"].as_u64().unwrap())
}

impl World {
    fn would_stop(&self, what: &Contained, stop: &Stop) -> WouldEnd {
        self.app.would_stop(&self.tenant(), what, stop).unwrap()
    }

    async fn stop(&self, what: &Contained, stop: &Stop) -> Option<u64> {
        let tenant = self.tenant();
        let done = self.app.stop(&tenant, what, stop, &BY, "leaked").await;
        done.unwrap().open
    }

    fn last_of(&self, what: &Contained) -> Time {
        let (tenant, now) = (self.tenant(), self.app.now());
        let parting = self.app.parting(&tenant, what, now);
        assert!(parting.head.is_some());
        parting.last_possible_acceptance
    }
}

/// What only children of another workload's task rely on ends with them, and the task goes on.
#[tokio::test]
async fn children_of_what_is_stopped_are_counted_and_their_task_is_not() {
    for stop in [Stop::End, Stop::Block] {
        let world = World::declared(&(declared() + HELPERS)).await;
        let root = world.handing_job().await;
        let scan = world.handed_job(&root, "scan", "71").await;
        let below = world.child(&scan, &scope("artifacts:read")).await;
        let what = Contained::Workload(name("scan"));
        let would = world.would_stop(&what, &stop);
        assert_eq!(counts(&would), (0, 1, 2, 2));
        let block = (stop == Stop::Block).then(|| what.block());
        assert_eq!((would.block, would.since), (block, None));
        let whole = world.would_stop(&Contained::Workload(name("agent")), &stop);
        assert_eq!(counts(&whole), (1, 0, 3, 3));
        world.stop(&what, &stop).await;
        for over in [&scan, &below] {
            assert!(!world.is_active(&over.token).await);
        }
        assert!(world.is_active(&root.token).await);
        // What has lost its rights is over, recorded or not.
        assert_eq!(counts(&world.would_stop(&what, &Stop::End)), (0, 0, 0, 0));
        let whole = world.would_stop(&Contained::Tenant, &Stop::End);
        assert_eq!(counts(&whole), (1, 0, 1, 1));
        world.app.sweep().await;
        assert_eq!(counts(&world.would_stop(&what, &Stop::End)), (0, 0, 0, 0));
    }
}

/// No counter knows which tasks act for an issuer's people: the answer says no number, rather than
/// none.
#[tokio::test]
async fn an_issuer_of_people_is_not_said_to_have_ended_nothing() {
    let world = World::declared(&subjects::declared()).await;
    let job = world.assist(1, &subjects::mona(&world)).await;
    world.job_of(5, 2, &[("resource", ARTIFACTS)]).await;
    let staff = Contained::Issuer(name("staff"));
    assert_eq!(counts(&world.would_stop(&staff, &Stop::End)), (1, 0, 1, 1));
    assert_eq!(world.stop(&staff, &Stop::End).await, None);
    assert!(!world.is_active(&job.token).await);
    assert_eq!(world.app.sweep().await, 1);
    let github = Contained::Issuer(name("github"));
    assert_eq!(world.would_stop(&github, &Stop::End).open, 1);
    assert_eq!(world.stop(&github, &Stop::End).await, Some(1));
}

/// The end of a task, looked at and done: open, over and not recorded yet, and ended.
#[tokio::test]
async fn the_end_of_a_task_is_foreseen() {
    let world = World::new().await;
    let (job, other) = (world.matrix_job(1).await, world.matrix_job(2).await);
    assert_eq!(job.task, other.task);
    let task: TaskId = job.task.parse().unwrap();
    let tenant = world.tenant();
    let size = world.size();
    let would = world.app.task_would_end(&tenant, task).unwrap();
    assert_eq!(counts(&would), (1, 0, 2, 2));
    assert_eq!(world.size(), size);
    let on: BlockOn = "series:github:repository_id,run_id:2/7".parse().unwrap();
    assert_eq!(would.block, Some(on.clone()));
    // Over by the end of its workload: there is nothing left to end, and the block comes all the same.
    world
        .stop(&Contained::Workload(name("matrix")), &Stop::End)
        .await;
    let would = world.app.task_would_end(&tenant, task).unwrap();
    assert_eq!(counts(&would), (0, 0, 0, 0));
    assert_eq!(would.block, Some(on.clone()));
    let ended = world.app.operator_end(&tenant, task, &BY, "leaked").await;
    let ended = ended.unwrap();
    assert_eq!(ended.block.on(), Some(&on));
    let blocks = world.app.blocks(&tenant).unwrap();
    assert!(blocks.iter().any(|block| block.on == on));
    let would = world.app.task_would_end(&tenant, task).unwrap_err();
    let twice = world.app.operator_end(&tenant, task, &BY, "leaked").await;
    assert_eq!(would.refusal.rule, twice.unwrap_err().refusal.rule);
}

/// The end of a client, looked at and done: the last root ends its task, a delegated one does not.
#[tokio::test]
async fn the_end_of_a_client_is_foreseen() {
    let world = World::declared(&(declared() + HELPERS)).await;
    let root = world.handing_job().await;
    let helper = world.child(&root, &scope("artifacts:read")).await;
    let (tenant, parsed) = (world.tenant(), |job: &Job| {
        job.client.parse::<ClientId>().unwrap()
    });
    let would = |job: &Job, block| world.app.client_would_end(&tenant, parsed(job), block);
    assert_eq!(counts(&would(&helper, false).unwrap()), (0, 1, 1, 1));
    // A helper in its parent's instance has none of its own to block.
    let dry = would(&helper, true).unwrap_err().refusal.rule;
    let done = world
        .app
        .end_client(&tenant, parsed(&helper), true, &BY, "x");
    assert_eq!(done.await.unwrap_err().refusal.rule, dry);
    let whole = would(&root, true).unwrap();
    assert_eq!(counts(&whole), (1, 0, 2, 2));
    let done = world.app.end_client(&tenant, parsed(&root), true, &BY, "x");
    let (ended, on) = done.await.unwrap();
    assert!(ended.task_ended);
    assert_eq!(whole.block.as_ref(), on.on());
    let dry = would(&helper, false).unwrap_err().refusal.rule;
    let done = world
        .app
        .end_client(&tenant, parsed(&helper), false, &BY, "x");
    assert_eq!(done.await.unwrap_err().refusal.rule, dry);
}

/// An instance of which nothing is open, without a block and with one.
#[tokio::test]
async fn the_end_of_an_instance_is_foreseen() {
    let world = World::new().await;
    let job = world.matrix_job(1).await;
    let tenant = world.tenant();
    let would = |what: &str, block| world.app.instance_would_end(&tenant, &any(what), block);
    let instance = "repository_id=2,run_id=7,run_attempt=1,check_run_id=1";
    assert_eq!(counts(&would(instance, false).unwrap()), (1, 0, 1, 1));
    for nothing in ["repository_id=2,run_id=7,run_attempt=1,check_run_id=9", ""] {
        let what = any(nothing);
        let dry = would(nothing, false).unwrap_err().refusal.rule;
        assert_eq!(dry.code(), "not_found");
        let done = world.app.end_instance(&tenant, &what, false, &BY, "x");
        assert_eq!(done.await.unwrap_err().refusal.rule, dry);
    }
    let long = "x".repeat(9000);
    let dry = would(&long, true).unwrap_err().refusal.rule;
    assert_eq!(dry.code(), "invalid_parameter");
    let what = any("run=9");
    let foreseen = would("run=9", true).unwrap();
    assert_eq!(counts(&foreseen), (0, 0, 0, 0));
    let done = world.app.end_instance(&tenant, &what, true, &BY, "x");
    let done = done.await.unwrap();
    assert_eq!(foreseen.block.as_ref(), done.block.on());
    assert!(done.clients.is_empty());
    // Its own expiry is exact, as that of a client is.
    let what = any(instance);
    let done = world.app.end_instance(&tenant, &what, false, &BY, "x");
    let done = done.await.unwrap();
    assert_eq!(done.last_possible_acceptance, expires(&job.token));
    assert!(
        done.head
            .unwrap()
            .starts_with(ISSUER.trim_start_matches("https://"))
    );
}

/// The time that an answer to a stop names is not passed by any token, and not far behind the last.
#[tokio::test]
async fn no_credential_outlives_what_the_answer_to_a_stop_says() {
    let world = World::new().await;
    let job = world.job(1).await;
    world.wait(100);
    let renewed = world.renew(&job, &[]).await;
    let last = expires(renewed.str("access_token"));
    for what in [
        Contained::Workload(name("release")),
        Contained::Owner(name("team")),
        Contained::Issuer(name("github")),
        Contained::Tenant,
    ] {
        let said = world.last_of(&what);
        assert!(said >= last, "{what:?}: {said} is before {last}");
        assert!(
            said < last + dayfly_domain::Span::from_seconds(2),
            "{what:?}: {said}"
        );
    }
}

/// What a former state gave lives on under a shorter one, and after a restart.
#[tokio::test]
async fn a_shorter_life_does_not_shorten_what_was_given_before() {
    let long =
        "token   = { ttl = \"50m\" }\nmatch   = { issuer = \"github\", repository_id = \"1\" }";
    let at = "match   = { issuer = \"github\", repository_id = \"1\" }";
    let declared = TENANT.replace(at, long);
    let world = World::declared(&declared).await;
    let job = world.job(1).await;
    let last = expires(&job.token);
    write_tenant(&world.folder.path().join("acme"), TENANT);
    let request = ApplyRequest {
        dry_run: false,
        ends: None,
        undo: false,
    };
    let tenant = world.tenant();
    let applied = world.app.apply(&tenant, request, &BY, "shorter");
    assert!(applied.await.unwrap().applied);
    world.wait(60);
    let restarted = world.restarted().await;
    for world in [&world, &restarted] {
        for what in [Contained::Workload(name("release")), Contained::Tenant] {
            let said = world.last_of(&what);
            assert!(said >= last, "{what:?}: {said} is before {last}");
        }
    }
    // Once nothing of it can be left, the shorter one counts.
    world.wait(3600);
    let soon = world.app.now() + dayfly_domain::Span::from_seconds(300);
    assert_eq!(world.last_of(&Contained::Tenant), soon);
}

/// Where nothing can be read, the longest life there is bounds it.
#[tokio::test]
async fn an_end_in_a_stall_names_a_time_too() {
    let (world, store) = World::in_memory().await;
    let job = world.job(1).await;
    world.app.sweep().await;
    world.store.fail_reads(true);
    store.fail([Fault::BeforeWrite; 5000]);
    let tenant = world.tenant();
    let what = any("repository_id=1,run_id=1,run_attempt=1,check_run_id=1");
    let done = world.app.end_instance(&tenant, &what, false, &BY, "x");
    let done = done.await.unwrap();
    assert!(done.last_possible_acceptance >= expires(&job.token));
    let said = world
        .app
        .parting(&tenant, &Contained::Tenant, world.app.now());
    assert!(said.last_possible_acceptance >= expires(&job.token));
}

impl World {
    /// A job of run 7 of the workload whose jobs share a task.
    async fn matrix_job(&self, job: u64) -> Job {
        let of_job = serde_json::json!({ "check_run_id": job.to_string() });
        let proof = super::job::signed(&super::job::with(super::job::claims(self, 2, 7), of_job));
        let key = super::job::new_key();
        let reply = self
            .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, proof, &reply)
    }
}
