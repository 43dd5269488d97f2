//! GitLab says that a pipeline is over: what its event names ends, and what may still run may still start.

use std::sync::Arc;

use dayfly_store::{FactsQuery, Fault, Store};
use serde_json::{Value, json};

use super::webhooks::{build, declared, pipeline};
use super::world::{TENANT, World, acme};

/// GitLab, and one workload of it by this `task`.
fn one(task: &str) -> String {
    format!(
        r#"{TENANT}
[issuer.gitlab]
jwks = {{ file = "jwks.json" }}
webhook_secret_file = ["hook.secret", "hook.whsec"]

[workload.lab]
owner   = "team"
kind    = "ci"
purpose = "jobs of gitlab"
match   = {{ issuer = "gitlab", project_id = "20" }}
{task}
access  = [{{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }}]
"#
    )
}

/// A pipeline that is over, with these jobs as they stand.
fn over(project: u64, id: u64, status: &str, jobs: &[(u64, &str)]) -> Value {
    let mut body = pipeline(project, id, status);
    let jobs = jobs.iter().map(|(id, status)| {
        json!({ "id": id, "stage": "test", "name": "a job", "status": status, "runner": null })
    });
    body["builds"] = jobs.collect();
    body
}

impl World {
    /// A task of a job of GitLab, by its id and its token.
    async fn lab_task(&self, project: u64, pipeline: u64, job: u64) -> (String, String) {
        let reply = self.lab_job(project, pipeline, job).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let text = |member| reply.str(member).to_owned();
        (text("task"), text("access_token"))
    }

    fn closed_jobs(&self, jobs: &[u64]) -> usize {
        let closed = |job: &u64| {
            let series = format!("job_id:{job}");
            let query = FactsQuery {
                series: Some((&"gitlab".parse().unwrap(), &series)),
                ..FactsQuery::default()
            };
            self.store.facts(&acme(), &query).unwrap().closed.len()
        };
        jobs.iter().map(closed).sum()
    }
}

#[tokio::test]
async fn a_pipeline_ends_the_tasks_of_the_jobs_that_it_names_and_no_retry_is_kept_out() {
    let world = World::declared(&one("")).await;
    let (first, _) = world.lab_task(20, 5, 50).await;
    let (second, _) = world.lab_task(20, 5, 51).await;
    let (running, token) = world.lab_task(20, 5, 52).await;
    let (other, _) = world.lab_task(20, 6, 60).await;
    let jobs = [
        (50, "success"),
        (51, "failed"),
        (52, "running"),
        (53, "skipped"),
        (54, "manual"),
        (55, "canceled"),
    ];
    let failed = over(20, 5, "failed", &jobs);
    let appends = world.store.appends();
    let reply = world.lab(&failed).await;
    assert_eq!(
        (reply.status, reply.body),
        (200, json!({"tasks": 2, "clients": 0}))
    );
    assert_eq!(world.store.appends(), appends + 1);
    for task in [&first, &second] {
        assert!(!world.is_open(task));
        assert_eq!(world.ended_by(task), "upstream");
    }
    assert_eq!(
        world.annexes("task.ended"),
        [
            json!({"reason": "gitlab: pipeline over: failed, the job success"}),
            json!({"reason": "gitlab: pipeline over: failed, the job failed"}),
        ]
    );
    assert!(world.is_open(&other) && world.is_open(&running) && world.is_active(&token).await);
    // What was named as over starts no more, whether it had asked before or not.
    for job in [50, 51, 55] {
        assert_eq!(world.lab_job(20, 5, job).await.rule(), "already_ended");
    }
    // Said again, and by the job's own event, it is known.
    assert_eq!(world.lab(&failed).await.status, 204);
    assert_eq!(world.lab(&build(20, 5, 51, "failed")).await.status, 204);
    // The failed job is run again as another, and then the skipped and the manual one as they were.
    for job in [56, 53, 54] {
        let (task, _) = world.lab_task(20, 5, job).await;
        assert!(world.is_open(&task));
    }
    let jobs = [(53, "success"), (54, "success"), (56, "success")];
    let reply = world.lab(&over(20, 5, "success", &jobs)).await;
    assert_eq!((reply.status, reply.body["tasks"].as_u64()), (200, Some(3)));
    assert!(world.is_open(&running) && world.is_open(&other));
}

#[tokio::test]
async fn a_pipeline_that_names_no_job_ends_nothing_and_is_no_failure() {
    let world = World::declared(&one("")).await;
    let (task, _) = world.lab_task(20, 5, 50).await;
    let mut null = pipeline(20, 5, "canceled");
    null["builds"] = Value::Null;
    for body in [
        pipeline(20, 5, "canceled"),
        null,
        over(20, 5, "canceled", &[]),
        over(20, 5, "canceled", &[(50, "running"), (51, "created")]),
        over(20, 5, "running", &[(50, "success")]),
        over(20, 5, "skipped", &[(50, "skipped")]),
        build(20, 5, 57, "skipped"),
    ] {
        let reply = world.lab(&body).await;
        assert_eq!((reply.status, reply.text.as_str()), (204, ""), "{body}");
    }
    assert!(world.is_open(&task));
    // A job that was skipped and runs after all is let in.
    world.lab_task(20, 5, 57).await;
    for builds in [
        json!("50"),
        json!({"id": 50, "status": "failed"}),
        json!([{"id": "050", "status": "failed"}]),
        json!([{"status": "failed"}]),
    ] {
        let mut body = pipeline(20, 5, "failed");
        body["builds"] = builds;
        assert_eq!(world.lab(&body).await.status, 400);
    }
    // One that names more jobs than are taken is no failure either: the platform would send no more.
    let mut many = pipeline(20, 5, "failed");
    many["builds"] = json!(vec![json!({ "id": 50, "status": "failed" }); 8193]);
    assert_eq!(world.lab(&many).await.status, 204);
    assert!(world.is_open(&task));
    // Nobody fills the tables by jobs that no workload can claim.
    let foreign = over(99, 7, "failed", &[(70, "failed"), (71, "failed")]);
    assert_eq!(world.lab(&foreign).await.status, 204);
    assert_eq!(world.closed_jobs(&[70, 71]), 0);
}

#[tokio::test]
async fn a_pipeline_ends_the_task_that_its_jobs_share_and_closes_it() {
    let world = World::declared(&one("task = \"pipeline\"\nrepeat = \"join\"")).await;
    let (task, token) = world.lab_task(20, 5, 50).await;
    let (same, _) = world.lab_task(20, 5, 51).await;
    let (other, _) = world.lab_task(20, 6, 60).await;
    assert_eq!(task, same);
    let body = over(20, 5, "failed", &[(50, "success"), (51, "failed")]);
    let reply = world.lab(&body).await;
    assert_eq!(
        (reply.status, reply.body),
        (200, json!({"tasks": 1, "clients": 0}))
    );
    assert!(!world.is_open(&task) && !world.is_active(&token).await && world.is_open(&other));
    // Its key is the pipeline's, so it is spent for jobs that are run again.
    assert_eq!(world.lab_job(20, 5, 52).await.rule(), "already_ended");
    assert_eq!(world.closed_jobs(&[50, 51]), 0, "no task is a job's alone");
}

#[tokio::test]
async fn tasks_of_jobs_and_of_pipelines_end_by_one_append() {
    let world = World::declared(&declared()).await;
    let (job, _) = world.lab_task(20, 5, 50).await;
    let (line, _) = world.lab_task(21, 5, 60).await;
    // A pipeline's number is one of the whole platform: both are of the same.
    let appends = world.store.appends();
    let body = over(20, 5, "canceled", &[(50, "canceled"), (60, "canceled")]);
    let reply = world.lab(&body).await;
    assert_eq!((reply.status, reply.body["tasks"].as_u64()), (200, Some(2)));
    assert_eq!(world.store.appends(), appends + 1);
    assert!(!world.is_open(&job) && !world.is_open(&line));
    world.lab_task(20, 5, 51).await;
    assert_eq!(world.lab_job(21, 5, 61).await.rule(), "already_ended");
}

/// Whoever may send the events of one project ends no open job of another by its number.
#[tokio::test]
async fn an_event_ends_no_open_job_of_another_project_or_pipeline() {
    let world = World::declared(&one("")).await;
    let (task, token) = world.lab_task(20, 5, 50).await;
    for (project, id) in [(21, 5), (20, 6), (21, 6)] {
        let guessed = over(project, id, "failed", &[(50, "failed")]);
        assert_eq!(world.lab(&guessed).await.status, 204);
        let guessed = build(project, id, 50, "failed");
        assert_eq!(world.lab(&guessed).await.status, 204);
    }
    assert!(world.is_open(&task) && world.is_active(&token).await);
    assert_eq!(world.closed_jobs(&[50]), 0);
    let own = over(20, 5, "failed", &[(50, "failed")]);
    assert_eq!(world.lab(&own).await.body["tasks"], 1);
    assert!(!world.is_open(&task));
    assert_eq!(world.closed_jobs(&[50]), 1);
}

/// One event of many jobs is taken whole, in as many appends as it takes.
#[tokio::test]
async fn an_event_of_hundreds_of_jobs_is_taken() {
    let world = World::declared(&one("")).await;
    let (first, _) = world.lab_task(20, 5, 1000).await;
    let (last, _) = world.lab_task(20, 5, 1599).await;
    let jobs: Vec<(u64, &str)> = (1000..1600).map(|job| (job, "failed")).collect();
    let mut body = over(20, 5, "failed", &jobs);
    for build in body["builds"].as_array_mut().unwrap() {
        build["user"] = json!("x".repeat(900));
    }
    assert!(body.to_string().len() > 4 * 65_536);
    let reply = world.lab(&body).await;
    assert_eq!((reply.status, reply.body["tasks"].as_u64()), (200, Some(2)));
    assert!(!world.is_open(&first) && !world.is_open(&last));
    let all: Vec<u64> = (1000..1600).collect();
    assert_eq!(world.closed_jobs(&all), 600);
    let mut large = pipeline(20, 5, "failed");
    large["more"] = json!("x".repeat(63 * 65_536));
    assert_eq!(world.lab(&large).await.status, 204);
    large["more"] = json!("x".repeat(64 * 65_536));
    assert_eq!(world.lab(&large).await.status, 413);
}

/// What came while the ledger stalls is obeyed, over a restart too, and recorded when it is back.
#[tokio::test]
async fn a_pipeline_that_is_over_in_a_stall_is_obeyed_and_recorded_later() {
    let (world, store) = World::in_memory_declared(&one("")).await;
    let world = Arc::new(world);
    let (seen, token) = world.lab_task(20, 5, 50).await;
    let (unseen, later) = world.lab_task(20, 5, 51).await;
    store.fail([Fault::BeforeWrite; 5000]);
    let some = over(20, 5, "failed", &[(50, "failed"), (55, "canceled")]);
    let reply = world.lab(&some).await;
    assert_eq!((reply.status, reply.body["tasks"].as_u64()), (200, Some(1)));
    // Nothing can even be read.
    world.store.fail_reads(true);
    let all = over(
        20,
        5,
        "failed",
        &[(50, "failed"), (51, "failed"), (56, "failed")],
    );
    assert_eq!(world.lab(&all).await.status, 200);
    assert_eq!(world.lab(&all).await.status, 204, "it is held already");
    world.store.fail_reads(false);
    let again = world.restarted().await;
    for token in [&token, &later] {
        assert!(!again.is_active(token).await);
    }
    assert!(again.is_open(&seen) && again.is_open(&unseen));
    store.heal();
    again.wait(5);
    again.app.sweep().await;
    assert_eq!(again.app.unready(), Vec::<String>::new());
    for task in [&seen, &unseen] {
        assert!(!again.is_open(task));
        assert_eq!(again.ended_by(task), "upstream");
    }
    for job in [50, 51, 55, 56] {
        assert_eq!(again.lab_job(20, 5, job).await.rule(), "already_ended");
    }
    again.lab_task(20, 5, 57).await;
}

/// A job that opens between what the event was judged by and what it records is ended with it.
#[tokio::test]
async fn a_job_that_opens_meanwhile_is_ended_with_its_pipeline() {
    let world = Arc::new(World::declared(&one("")).await);
    let (first, _) = world.lab_task(20, 5, 50).await;
    let opening = Arc::clone(&world);
    let (sent, opened) = tokio::sync::oneshot::channel();
    world.store.before_end(async move {
        let task = opening.lab_task(20, 5, 51).await;
        assert!(sent.send(task).is_ok());
    });
    let body = over(20, 5, "canceled", &[(50, "canceled"), (51, "canceled")]);
    let reply = world.lab(&body).await;
    assert_eq!((reply.status, reply.body["tasks"].as_u64()), (200, Some(2)));
    let (second, _) = opened.await.unwrap();
    assert!(!world.is_open(&first) && !world.is_open(&second));
}
