//! A verdict is on whom the key names: what ended of a shared task is gone, though the task goes on.

use dayfly_domain::Name;
use dayfly_server::app::{Actor, Contained, InstanceOf, Stop};
use dayfly_server::record::Word;
use serde_json::json;

use super::approval::asked_of;
use super::delegation::scope;
use super::job::{Job, claims, new_key, signed, with};
use super::subjects;
use super::traces::by_token;
use super::webhooks::{HELPERS, build, declared, job_over, lab_claims};
use super::world::{ARTIFACTS, World};

const BY: Actor = Actor::Local { uid: 7 };

/// A job with a task of its own in a run whose other jobs share one, a run that waits for people as
/// a whole, and a job of GitLab that waits.
const BESIDE: &str = r#"
[workload.publish]
owner   = "team"
kind    = "ci"
purpose = "the last job of a run"
match   = { issuer = "github", repository_id = "2" }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }]

[workload.gate]
owner   = "team"
kind    = "ci"
purpose = "jobs that share what people approve"
match   = { issuer = "github", repository_id = "12" }
task    = "run"
approval = { by = "owner", within = "30m" }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }]

[workload.gated]
owner   = "team"
kind    = "ci"
purpose = "a job that people approve"
match   = { issuer = "gitlab", project_id = "22" }
approval = { by = "owner", within = "30m" }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }]
"#;

/// Everything that names one job of a run and nobody else in its task.
fn keys_of(job: &Job, (repository, run, number): (u64, u64, u64)) -> [String; 6] {
    let thumbprint = job.key.thumbprint();
    [
        instance(repository, run, number),
        format!("https://github.com/octo-org/octo-repo/actions/runs/{run}/job/{number}"),
        number.to_string(),
        thumbprint.to_string(),
        format!("key:{thumbprint}"),
        by_token(&job.proof),
    ]
}

fn instance(repository: u64, run: u64, job: u64) -> String {
    format!("repository_id={repository},run_id={run},run_attempt=1,check_run_id={job}")
}

impl World {
    fn are_live(&self, keys: &[String]) {
        for key in keys {
            let trace = self.traced(key);
            assert_eq!(
                (trace.verdict.word, trace.counts.live),
                (Word::Live, 1),
                "{key}: {}",
                trace.verdict.line
            );
        }
    }

    fn are_gone(&self, keys: &[String], why: &str) {
        for key in keys {
            assert_eq!(self.why_gone(key), why, "{key}");
            let trace = self.traced(key);
            assert_eq!((trace.counts.live, trace.tasks.len()), (0, 1), "{key}");
        }
    }

    async fn end_job(&self, instance: String) {
        let what = InstanceOf {
            issuer: None,
            instance,
        };
        let tenant = self.tenant();
        let ended = self
            .app
            .end_instance(&tenant, &what, false, &BY, "taken over");
        assert_eq!(ended.await.unwrap().clients.len(), 1);
    }
}

#[tokio::test]
async fn a_job_that_ended_is_gone_while_its_task_goes_on() {
    let world = World::declared(&declared()).await;
    for (run, by_hand) in [(7, true), (8, false)] {
        let gone = world.granted(2, run, 1, run * 10).await;
        let there = world.granted(2, run, 1, run * 10 + 1).await;
        assert_eq!(gone.task, there.task);
        let of_gone = keys_of(&gone, (2, run, run * 10));
        let of_there = keys_of(&there, (2, run, run * 10 + 1));
        world.are_live(&of_gone);
        let why = if by_hand {
            world.end_job(instance(2, run, run * 10)).await;
            "operator: taken over"
        } else {
            let said = job_over(2, run, 1, run * 10);
            let done = world.hub("workflow_job", &said).await;
            assert_eq!(done.body["clients"], 1);
            "upstream: github: workflow_job completed: success"
        };
        world.are_gone(&of_gone, why);
        world.are_live(&of_there);
        let page = format!("https://github.com/octo-org/octo-repo/actions/runs/{run}");
        world.are_live(&[gone.task.clone(), page]);
        // And so it stays once the others have ended by themselves.
        world.end(&there).await;
        world.are_gone(&of_gone, why);
        world.are_gone(&of_there, "completed");
    }
}

/// A child that came in by a proof of its own, and one that has the instance of whom it was handed
/// from.
#[tokio::test]
async fn a_key_of_a_client_that_ended_is_gone_below_a_task_that_goes_on() {
    let world = World::declared(&(declared() + HELPERS)).await;
    let root = world.handing_job().await;
    let scan = world.handed_job(&root, "scan", "71").await;
    let below = world.child(&scan, &scope("artifacts:read")).await;
    let helper = world.child(&root, &scope("artifacts:read")).await;
    let key_of = |job: &Job| job.key.thumbprint().to_string();
    let all = [&root, &scan, &below, &helper].map(key_of);
    world.are_live(&all);
    let tenant = world.tenant();
    let client = helper.client.parse().unwrap();
    let ended = world.app.end_client(&tenant, client, false, &BY, "leaked");
    ended.await.unwrap();
    world.are_gone(
        &[key_of(&helper), helper.client.clone()],
        "operator: leaked",
    );
    let root_lives = [key_of(&root), instance(11, 7, 70)];
    world.are_live(&root_lives);
    world.are_live(&[key_of(&scan), key_of(&below), instance(11, 7, 71)]);
    let client = scan.client.parse().unwrap();
    let ended = world
        .app
        .end_client(&tenant, client, false, &BY, "taken over");
    ended.await.unwrap();
    let of_scan = [
        key_of(&scan),
        instance(11, 7, 71),
        "workload:scan".to_owned(),
    ];
    world.are_gone(&of_scan, "operator: taken over");
    world.are_gone(&[key_of(&below)], "parent: taken over");
    world.are_live(&root_lives);
    world.are_live(&["workload:agent".to_owned()]);
}

/// What a proof of its own relied on is taken at once, before any sweep records it.
#[tokio::test]
async fn a_child_whose_rights_were_taken_is_gone_before_it_is_recorded() {
    let world = World::declared(&(declared() + HELPERS)).await;
    let root = world.handing_job().await;
    let scan = world.handed_job(&root, "scan", "71").await;
    let below = world.child(&scan, &scope("artifacts:read")).await;
    let credential = |job: &Job| by_token(&job.token);
    let of_them = [
        "workload:scan".to_owned(),
        scan.client.clone(),
        below.client.clone(),
        credential(&scan),
        credential(&below),
    ];
    world.are_live(&of_them);
    let scanners: Name = "scan".parse().unwrap();
    let what = Contained::Workload(scanners);
    let tenant = world.tenant();
    let done = world.app.stop(&tenant, &what, &Stop::End, &BY, "leaked");
    done.await.unwrap();
    for key in &of_them {
        let line = world.traced(key).verdict.line;
        assert!(
            line.starts_with("GONE (rights taken away: workload scan"),
            "{key}: {line}"
        );
    }
    world.are_live(&[root.client.clone(), root.task.clone(), credential(&root)]);
    world.app.sweep().await;
    world.are_gone(&of_them[..2], "operator: leaked");
    world.are_live(std::slice::from_ref(&root.task));
}

/// Of many tasks the verdict is on the clients too, and tells the last of their ends.
#[tokio::test]
async fn of_many_tasks_the_last_end_of_whom_the_key_names_is_told() {
    let world = World::declared(&(declared() + HELPERS)).await;
    let mut roots = Vec::new();
    for job in [70, 80] {
        let root = world.handing(job).await;
        let scan = (job + 1).to_string();
        let scan = world.handed_job(&root, "scan", &scan).await;
        roots.push((root, scan));
        world.wait(1);
    }
    let line = || world.traced("workload:scan").verdict.line;
    assert!(
        line().contains("(2 of 2 tasks, workload scan)"),
        "{}",
        line()
    );
    let tenant = world.tenant();
    for ((_, scan), (reason, left)) in roots.iter().zip([("first", 1), ("second", 0)]) {
        let client = scan.client.parse().unwrap();
        let ended = world.app.end_client(&tenant, client, false, &BY, reason);
        ended.await.unwrap();
        world.wait(1);
        assert_eq!(world.traced("workload:scan").counts.live, left);
    }
    let wanted = "(operator: second; the last of 2 tasks, workload scan)";
    assert!(line().contains(wanted), "{}", line());
    let trace = world.traced("workload:agent");
    assert_eq!((trace.verdict.word, trace.counts.live), (Word::Live, 2));
}

/// Whoever vouches for the person that a task acts for ends it too, and leads to it: living and ended,
/// by the issuer and by the person.
#[tokio::test]
async fn a_task_is_found_by_whoever_vouches_for_its_person() {
    let world = World::declared(&subjects::declared()).await;
    let assisted = world.assist(1, &subjects::mona(&world)).await;
    let keys = ["issuer:staff", "staff", "subject:staff:mona-4711"].map(str::to_owned);
    world.are_live(&keys);
    let tenant = world.tenant();
    let staff = Contained::Issuer("staff".parse().unwrap());
    let done = world.app.stop(&tenant, &staff, &Stop::End, &BY, "breach");
    done.await.unwrap();
    world.app.sweep().await;
    assert!(!world.is_open(&assisted.task));
    world.are_gone(&keys, "operator: breach");
}

/// The page of a run at GitHub, or of one of its jobs.
fn hub_page(run: u64, job: Option<u64>) -> String {
    let page = format!("https://github.com/octo-org/octo-repo/actions/runs/{run}");
    match job {
        Some(job) => format!("{page}/job/{job}"),
        None => page,
    }
}

fn lab_page(what: &str, number: u64) -> String {
    format!("https://gitlab.com/group/project/-/{what}/{number}")
}

impl World {
    /// A job of run 7 of repository 2, which several workloads are for.
    async fn job_as(&self, workload: &str, job: u64) -> Job {
        let key = new_key();
        let of_job = json!({ "check_run_id": job.to_string() });
        let proof = signed(&with(claims(self, 2, 7), of_job));
        let more = [("resource", ARTIFACTS), ("client_id", workload)];
        let reply = self.ask(&proof, Some(&key), &more).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, proof, &reply)
    }

    fn are(&self, keys: &[String], word: Word) {
        for key in keys {
            let verdict = self.traced(key).verdict;
            assert_eq!(verdict.word, word, "{key}: {}", verdict.line);
        }
    }
}

/// What others of its run share says nothing of a job that is not of them.
#[tokio::test]
async fn the_page_of_a_job_is_not_of_a_task_that_others_share() {
    let world = World::declared(&(declared() + BESIDE)).await;
    let (build, test) = (
        world.job_as("matrix", 70).await,
        world.job_as("matrix", 71).await,
    );
    assert_eq!(build.task, test.task);
    let publish = world.job_as("publish", 72).await;
    let page_of = |job| [hub_page(7, Some(job))];
    world.are_live(&page_of(72));
    let tenant = world.tenant();
    let task = publish.task.parse().unwrap();
    let ended = world.app.operator_end(&tenant, task, &BY, "leaked");
    ended.await.unwrap();
    world.are_gone(&page_of(72), "operator: leaked");
    // One that was refused, or has never asked.
    world.are(&page_of(73), Word::Unknown);
    world.are_live(&[page_of(70), page_of(71), [hub_page(7, None)]].concat());
}

/// The same before anybody has come in: whose proof waits tells which job it is.
#[tokio::test]
async fn the_page_of_a_job_is_not_of_a_run_that_waits_by_another() {
    let world = World::declared(&(declared() + BESIDE)).await;
    let of_job = json!({ "check_run_id": "70" });
    let (key, proof) = (new_key(), signed(&with(claims(&world, 12, 7), of_job)));
    let reply = world.defer(&proof, Some(&key)).await;
    asked_of(key, proof, &reply);
    world.are(&[hub_page(7, Some(70)), hub_page(7, None)], Word::Pending);
    world.are(&[hub_page(7, Some(71))], Word::Unknown);
}

/// The task of a job of GitLab has the job's number alone in its key: its pipeline leads to it all the
/// same, while it waits, lives and is over.
#[tokio::test]
async fn a_job_of_gitlab_is_found_by_its_pipeline_whatever_has_become_of_it() {
    let world = World::declared(&(declared() + BESIDE)).await;
    let keys_of = |pipeline: u64, job: u64| {
        [
            lab_page("jobs", job),
            lab_page("pipelines", pipeline),
            job.to_string(),
            pipeline.to_string(),
            format!("run:{pipeline}"),
        ]
    };
    let job = world.lab_job(20, 574, 302).await;
    let keys = keys_of(574, 302);
    world.are_live(&keys);
    assert_eq!(world.lab(&build(20, 574, 302, "success")).await.status, 200);
    let why = world.why_gone(job.str("task"));
    assert!(why.starts_with("upstream: gitlab: "), "{why}");
    world.are_gone(&keys, &why);

    let (key, proof) = (new_key(), lab_claims(&world, 22, 575, 310));
    let reply = world.defer(&proof, Some(&key)).await;
    let asked = asked_of(key, proof, &reply);
    let keys = keys_of(575, 310);
    world.are(&keys, Word::Pending);
    world.deny(&asked).await.unwrap();
    world.are_gone(&keys, "denied: no");
}

/// The numbers of jobs, pipelines, runs and projects are counted each by itself.
#[tokio::test]
async fn a_page_is_of_what_it_says_and_not_of_whatever_has_its_number() {
    let world = World::declared(&declared()).await;
    world.lab_job(20, 5, 20).await;
    assert_eq!(world.lab(&build(20, 5, 20, "success")).await.status, 200);
    let why = world.why_gone(&lab_page("jobs", 20));
    world.lab_job(20, 6, 51).await;
    world.lab_job(21, 8, 80).await;
    world.are_gone(&[lab_page("jobs", 20)], &why);
    for (what, number) in [
        ("pipelines", 20),
        ("pipelines", 51),
        ("pipelines", 80),
        ("jobs", 6),
        ("jobs", 8),
        ("jobs", 21),
    ] {
        world.are(&[lab_page(what, number)], Word::Unknown);
    }
    world.are_live(&[lab_page("pipelines", 6), lab_page("pipelines", 8)]);
    world.are_live(&[lab_page("jobs", 51), lab_page("jobs", 80)]);
    world.granted(2, 7, 1, 70).await;
    let others = [(2, None), (70, None), (7, Some(7)), (2, Some(70))];
    for (run, job) in others {
        world.are(&[hub_page(run, job)], Word::Unknown);
    }
    world.are_live(&[hub_page(7, None), hub_page(7, Some(70))]);
}
