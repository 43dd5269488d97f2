//! What one word ends is acknowledged by one append, whatever is open below it: a job's own word, a platform's, a provider's, a cluster's or an operator's.

use dayfly_domain::Name;
use dayfly_server::app::{Actor, InstanceOf};
use serde_json::{Value, json};

use super::delegation::{AGENTS, scope};
use super::job::Job;
use super::signals::{self, DISABLED, SESSION};
use super::webhooks::{build, declared, pipeline, run_over};
use super::world::{ARTIFACTS, TENANT, World};

const BY: Actor = Actor::Local { uid: 7 };
/// How many tasks, or clients of one, are below each end.
const MANY: u64 = 24;

impl World {
    /// Does what ends something, and checks that it is one append.
    async fn by_one_append<T>(&self, what: &str, ends: impl Future<Output = T>) -> T {
        let appends = self.store.appends();
        let done = ends.await;
        assert_eq!(self.store.appends(), appends + 1, "{what}");
        done
    }

    /// Checks that nothing of these is accepted or renewed, with no sweep having run.
    async fn are_over(&self, what: &str, jobs: &[Job]) {
        for job in jobs {
            assert!(!self.is_active(&job.token).await, "{what}: {}", job.client);
            assert_ne!(self.renew(job, &[]).await.status, 200, "{what}");
        }
    }

    /// So many jobs of one attempt of a run, which share a task where the workload says so.
    async fn jobs_of_run(&self, repository: u64, run: u64) -> Vec<Job> {
        let mut jobs = Vec::new();
        for job in 1..=MANY {
            jobs.push(self.granted(repository, run, 1, job).await);
        }
        jobs
    }
}

#[tokio::test]
async fn a_task_ends_with_many_clients_by_one_append() {
    for whose in ["an operator's", "a job's"] {
        let world = World::new().await;
        let jobs = world.jobs_of_run(2, 7).await;
        assert!(jobs.iter().all(|job| job.task == jobs[0].task));
        let (tenant, task) = (world.tenant(), jobs[0].task.parse().unwrap());
        if whose == "a job's" {
            let ends = world.end_task(&jobs[0], "completed");
            assert_eq!(world.by_one_append(whose, ends).await.status, 200);
        } else {
            let ends = world.app.operator_end(&tenant, task, &BY, "leaked");
            world.by_one_append(whose, ends).await.unwrap();
        }
        world.are_over(whose, &jobs).await;
    }
}

/// The end of a client, by itself or by an operator, is that of all it handed over to.
#[tokio::test]
async fn a_client_ends_with_many_helpers_by_one_append() {
    for block in [None, Some(false), Some(true)] {
        let world = World::declared(&format!("{TENANT}{AGENTS}")).await;
        let parent = world.agent(7).await;
        let mut jobs = vec![parent.clone()];
        for _ in 0..MANY {
            let given = scope("artifacts:read");
            jobs.push(world.child(&parent, &given).await);
        }
        let what = format!("block: {block:?}");
        match block {
            None => {
                let ended = world.by_one_append(&what, world.end(&parent)).await;
                assert_eq!(ended.status, 200, "{}", ended.text);
            }
            Some(block) => {
                let (tenant, client) = (world.tenant(), parent.client.parse().unwrap());
                let ends = world.app.end_client(&tenant, client, block, &BY, "leaked");
                let (_, on) = world.by_one_append(&what, ends).await.unwrap();
                assert_eq!(on.on().is_some(), block);
            }
        }
        world.are_over(&what, &jobs).await;
    }
}

#[tokio::test]
async fn an_instance_ends_in_many_tasks_by_one_append() {
    let workloads = (1..=MANY).map(|number| {
        format!(
            r#"
[workload.work-{number}]
owner   = "team"
kind    = "ci"
purpose = "one of many that one job runs"
match   = {{ issuer = "github", repository_id = "1" }}
access  = [{{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }}]
"#
        )
    });
    let declared = TENANT.to_owned() + &workloads.collect::<String>();
    for block in [false, true] {
        let world = World::declared(&declared).await;
        let mut jobs = Vec::new();
        for number in 1..=MANY {
            let workload = format!("work-{number}");
            let more = [("resource", ARTIFACTS), ("client_id", workload.as_str())];
            jobs.push(world.job_of(1, 5, &more).await);
        }
        let github: Name = "github".parse().unwrap();
        let what = InstanceOf {
            issuer: Some(github),
            instance: "repository_id=1,run_id=5,run_attempt=1,check_run_id=5".to_owned(),
        };
        let tenant = world.tenant();
        let ends = world.app.end_instance(&tenant, &what, block, &BY, "leaked");
        let ended = world.by_one_append("an instance", ends).await.unwrap();
        assert_eq!((ended.clients.len(), ended.tasks), (24, Some(24)));
        assert_eq!(ended.block.on().is_some(), block);
        world.are_over("an instance", &jobs).await;
    }
}

#[tokio::test]
async fn a_run_of_github_ends_with_many_tasks_or_clients_by_one_append() {
    for (repository, over) in [
        (1, json!({"tasks": MANY, "clients": 0})),
        (2, json!({"tasks": 1, "clients": 0})),
    ] {
        let world = World::declared(&declared()).await;
        let jobs = world.jobs_of_run(repository, 7).await;
        let body = run_over(repository, 7, 1);
        let ends = world.hub("workflow_run", &body);
        let reply = world.by_one_append("a run", ends).await;
        assert_eq!((reply.status, reply.body), (200, over));
        world.are_over("a run", &jobs).await;
    }
}

#[tokio::test]
async fn a_pipeline_of_gitlab_ends_with_many_tasks_or_clients_by_one_append() {
    let world = World::declared(&declared()).await;
    for (project, tasks) in [(20, MANY), (21, 1)] {
        let mut tokens = Vec::new();
        for job in 1..=MANY {
            let reply = world.lab_job(project, 5, 100 * project + job).await;
            tokens.push(reply.str("access_token").to_owned());
        }
        let mut body = pipeline(project, 5, "canceled");
        let named = |job| json!({"id": 100 * project + job, "status": "canceled"});
        body["builds"] = (1..=MANY).map(named).collect();
        let reply = world.by_one_append("a pipeline", world.lab(&body)).await;
        assert_eq!((reply.status, &reply.body["tasks"]), (200, &json!(tasks)));
        for token in &tokens {
            assert!(!world.is_active(token).await);
        }
    }
    // A job's own event too.
    let reply = world.lab_job(20, 6, 60).await;
    let body = build(20, 6, 60, "failed");
    let over = world.by_one_append("a job", world.lab(&body)).await;
    assert_eq!(over.status, 200, "{}", over.text);
    assert!(!world.is_active(reply.str("access_token")).await);
}

#[tokio::test]
async fn a_word_about_a_person_ends_many_tasks_by_one_append() {
    for kind in [SESSION, DISABLED] {
        let world = World::declared(&signals::declared()).await;
        let mut jobs = Vec::new();
        for ago in 0..MANY {
            jobs.push(world.logged_in("mona", 60 + ago).await);
        }
        world.by_one_append(kind, world.hears(kind, "mona")).await;
        world.are_over(kind, &jobs).await;
    }
}

#[tokio::test]
async fn a_pod_that_is_gone_ends_with_many_clients_by_one_append() {
    let (world, cluster) = super::pods::world().await;
    let mut jobs = Vec::new();
    for _ in 0..MANY {
        jobs.push(world.pod_job("crew", "one").await);
    }
    cluster.delete("one");
    world.wait(30);
    assert_eq!(world.by_one_append("a pod", world.gone()).await, 1);
    let ended = |leaf: &Value| leaf["kind"] == "task.ended";
    assert_eq!(world.leaves().into_iter().filter(ended).count(), 1);
    world.are_over("a pod", &jobs).await;
}
