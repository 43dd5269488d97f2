//! A platform says that a run is over: what it names ends, nothing else does, and nobody else can say it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_server::config::{AddressRates, Rate};
use dayfly_store::{FactsQuery, Store};
use serde_json::{Value, json};

use super::delegation::scope;
use super::job::{Job, TYPE_JWT, claims, new_key, signed, with};
use super::world::{ARTIFACTS, ISSUER, Reply, TENANT, World, acme, unique};

/// GitHub, GitLab and another provider, each with webhooks.
pub(crate) fn declared() -> String {
    let github = TENANT.replace(
        "jwks = { file = \"jwks.json\" }\n",
        "jwks = { file = \"jwks.json\" }\nwebhook_secret_file = [\"hook-old.secret\", \"hook.secret\"]\n",
    );
    assert_ne!(github, TENANT);
    github
        + r#"
[issuer.gitlab]
jwks = { file = "jwks.json" }
webhook_secret_file = ["hook.secret", "hook.whsec"]

[issuer.signing]
kind = "gitlab"
url  = "https://gitlab.example"
jwks = { file = "jwks.json" }
webhook_secret_file = "hook.whsec"

[issuer.ci]
kind = "oidc"
url  = "https://ci.example"
audience = "https://dayfly.example/acme"
jwks = { file = "jwks.json" }
webhook_secret_file = "hook.whsec"

[workload.lab]
owner   = "team"
kind    = "ci"
purpose = "a job of gitlab"
match   = { issuer = "gitlab", project_id = "20" }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }]

[workload.line]
owner   = "team"
kind    = "ci"
purpose = "many jobs of a pipeline"
match   = { issuer = "gitlab", project_id = "21" }
task    = "pipeline"
repeat  = "join"
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }]

[workload.build]
owner   = "team"
kind    = "ci"
purpose = "a build elsewhere"
match   = { issuer = "ci", project = "p" }
task    = { key = ["project", "build"], attempt = "try" }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }]
"#
}

fn tag(secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

pub(crate) fn hub_signature(secret: &str, body: &str) -> String {
    let tag = tag(secret.as_bytes(), &[body.as_bytes()]);
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

fn standard_signature(name: &str, id: &str, at: u64, body: &str) -> String {
    let key = format!("{name}: a key of Standard Webhooks");
    let at = at.to_string();
    let signed = [id, ".", &at, ".", body].map(str::as_bytes);
    format!("v1,{}", STANDARD.encode(tag(key.as_bytes(), &signed)))
}

/// What GitHub says of a run whose number is also its job's.
pub(crate) fn run_over(repository: u64, run: u64, attempt: u64) -> Value {
    json!({
        "action": "completed",
        "workflow_run": { "id": run, "run_attempt": attempt, "conclusion": "cancelled" },
        "repository": {
            "id": repository, "full_name": "octo-org/octo-repo",
            "owner": { "login": "octo-org", "id": 583_231 },
        },
    })
}

pub(crate) fn job_over(repository: u64, run: u64, attempt: u64, job: u64) -> Value {
    json!({
        "action": "completed",
        "workflow_job": {
            "id": job, "run_id": run, "run_attempt": attempt, "conclusion": "success",
        },
        "repository": { "id": repository, "full_name": "octo-org/octo-repo" },
    })
}

impl World {
    pub(crate) async fn hook(&self, issuer: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        let path = format!("/webhooks/{issuer}");
        self.send("POST", &path, &all, body).await
    }

    /// A delivery of GitHub as it makes them.
    pub(crate) async fn hub(&self, event: &str, body: &Value) -> Reply {
        let body = body.to_string();
        let signature = hub_signature("the secret of hook", &body);
        let headers = [
            ("x-github-event", event),
            ("x-hub-signature-256", &signature),
        ];
        self.hook("github", &headers, &body).await
    }

    pub(crate) async fn lab(&self, body: &Value) -> Reply {
        let headers = [
            ("x-gitlab-token", "the secret of hook"),
            ("x-gitlab-event", "Job Hook"),
        ];
        self.hook("gitlab", &headers, &body.to_string()).await
    }

    async fn standard(&self, issuer: &str, key: &str, at: u64, body: &str) -> Reply {
        let (id, sent) = (unique(), at.to_string());
        let signature = standard_signature(key, &id, at, body);
        let headers = [
            ("webhook-id", id.as_str()),
            ("webhook-timestamp", &sent),
            ("webhook-signature", &signature),
        ];
        self.hook(issuer, &headers, body).await
    }

    /// Asks as this attempt of a run of `octo-repo`, by this job.
    pub(crate) async fn attempt(&self, repository: u64, run: u64, attempt: u64, job: u64) -> Reply {
        let more = json!({ "run_attempt": attempt.to_string(), "check_run_id": job.to_string() });
        let proof = signed(&with(claims(self, repository, run), more));
        self.ask(&proof, Some(&new_key()), &[("resource", ARTIFACTS)])
            .await
    }

    pub(crate) async fn granted(&self, repository: u64, run: u64, attempt: u64, job: u64) -> Job {
        let key = new_key();
        let more = json!({ "run_attempt": attempt.to_string(), "check_run_id": job.to_string() });
        let proof = signed(&with(claims(self, repository, run), more));
        let reply = self
            .ask(&proof, Some(&key), &[("resource", ARTIFACTS)])
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, proof, &reply)
    }

    fn closed(&self, issuer: &str, series: &str) -> usize {
        let query = FactsQuery {
            series: Some((&issuer.parse().unwrap(), series)),
            ..FactsQuery::default()
        };
        self.store.facts(&acme(), &query).unwrap().closed.len()
    }

    pub(crate) fn ended_by(&self, task: &str) -> String {
        let ended = |leaf: &Value| leaf["kind"] == "task.ended" && leaf["task"] == task;
        let leaf = self.leaves().into_iter().find(ended).unwrap();
        leaf["data"]["cause"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_cancelled_run_ends_with_all_its_tasks_and_a_newer_attempt_may_start() {
    let world = World::declared(&declared()).await;
    let (one, two) = (
        world.granted(1, 7, 1, 70).await,
        world.granted(1, 7, 1, 71).await,
    );
    let other = world.job(8).await;
    let reply = world.hub("workflow_run", &run_over(1, 7, 1)).await;
    assert_eq!(
        (reply.status, reply.body),
        (200, json!({"tasks": 2, "clients": 0}))
    );
    for job in [&one, &two] {
        assert!(!world.is_open(&job.task) && !world.is_active(&job.token).await);
        assert_eq!(world.ended_by(&job.task), "upstream");
        assert_eq!(world.renew(job, &[]).await.status, 400);
    }
    assert!(world.is_active(&other.token).await);
    // Its reason stands in the annex, and no block is set.
    let said = world.annexes("task.ended");
    let word = json!({"reason": "github: workflow_run completed: cancelled"});
    assert_eq!(said, [word.clone(), word]);
    assert!(
        world
            .leaves()
            .iter()
            .all(|leaf| leaf["kind"] != "block.set")
    );
    // Nothing of that attempt asks again: neither the ended job nor one that never asked.
    for job in [70, 79] {
        let again = world.attempt(1, 7, 1, job).await;
        assert_eq!(again.refusal(), (400, "invalid_grant", "already_ended"));
        let got = again.body["refused"]["got"].as_str().unwrap();
        assert!(got.contains("upstream"), "{got}");
    }
    let newer = world.granted(1, 7, 2, 70).await;
    // The webhook of the first attempt, shown again, does not touch the second.
    let size = world.size();
    assert_eq!(
        world.hub("workflow_run", &run_over(1, 7, 1)).await.status,
        204
    );
    assert_eq!(world.size(), size);
    assert!(world.is_active(&newer.token).await);
    assert_eq!(
        world.hub("workflow_run", &run_over(1, 7, 2)).await.status,
        200
    );
    assert!(!world.is_active(&newer.token).await);
}

#[tokio::test]
async fn a_job_that_is_over_ends_its_own_task_or_its_clients_of_a_shared_one() {
    let world = World::declared(&declared()).await;
    let (one, two) = (
        world.granted(1, 7, 1, 70).await,
        world.granted(1, 7, 1, 71).await,
    );
    let reply = world.hub("workflow_job", &job_over(1, 7, 1, 70)).await;
    assert_eq!(
        (reply.status, reply.body),
        (200, json!({"tasks": 1, "clients": 0}))
    );
    assert!(!world.is_open(&one.task) && world.is_active(&two.token).await);
    assert_eq!(world.attempt(1, 7, 1, 70).await.rule(), "already_ended");

    let (first, second) = (
        world.granted(2, 9, 1, 90).await,
        world.granted(2, 9, 1, 91).await,
    );
    assert_eq!(first.task, second.task);
    let reply = world.hub("workflow_job", &job_over(2, 9, 1, 90)).await;
    assert_eq!(
        (reply.status, reply.body),
        (200, json!({"tasks": 0, "clients": 1}))
    );
    assert!(!world.is_active(&first.token).await && world.is_active(&second.token).await);
    assert!(world.is_open(&second.task));
    // That job joins no more, another one does.
    assert_eq!(world.attempt(2, 9, 1, 90).await.rule(), "already_ended");
    let third = world.granted(2, 9, 1, 92).await;
    assert_eq!(third.task, second.task);
    // A job whose number begins alike is another.
    assert_eq!(
        world
            .hub("workflow_job", &job_over(2, 9, 1, 9))
            .await
            .status,
        200
    );
    assert!(world.is_active(&third.token).await);
    for job in [91, 92] {
        assert_eq!(
            world
                .hub("workflow_job", &job_over(2, 9, 1, job))
                .await
                .status,
            200
        );
    }
    assert_eq!(world.ended_by(&second.task), "upstream");
}

/// Workloads of jobs that hand over to other jobs.
pub(crate) const HELPERS: &str = r#"
[issuer.enterprise]
kind = "github"
url  = "https://git.example/_services/token"
jwks = { file = "jwks.json" }

[workload.agent]
owner   = "team"
kind    = "agent"
purpose = "hands work over"
match   = { issuer = "github", repository_id = "11" }
delegation = { depth = 2, clients = 9, to = ["self", "scan", "brief", "other"] }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "artifacts:read" }]

[workload.scan]
owner   = "team"
kind    = "ci"
purpose = "another job of the same run"
match   = { issuer = "github", repository_id = "11" }
delegation = { depth = 1, clients = 9, to = ["self"] }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*", scope = "artifacts:read" }]

[workload.other]
owner   = "team"
kind    = "ci"
purpose = "a job elsewhere whose name looks the same"
match   = { issuer = "enterprise", repository_id = "11" }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }]

[workload.brief]
owner   = "team"
kind    = "ci"
purpose = "another job of the same run, for a while"
match   = { issuer = "github", repository_id = "11" }
window  = "5m"
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }]
"#;

/// A job that was handed a part of another job's access ends with its own, and takes with it what it
/// handed on; the rest of the task goes on, and so does a child whose job has the same number at
/// another platform.
#[tokio::test]
async fn a_job_that_is_over_ends_the_children_that_came_from_it() {
    let world = World::declared(&(declared() + HELPERS)).await;
    let key = new_key();
    let proof = signed(&with(claims(&world, 11, 7), json!({"check_run_id": "70"})));
    let more = [("resource", ARTIFACTS), ("client_id", "agent")];
    let reply = world.ask(&proof, Some(&key), &more).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let root = Job::of(key, proof, &reply);
    let by_proof = async |workload: &str, actor: Value| {
        let key = new_key();
        let handover = world.handover(&root, Some(&key), &scope("artifacts:read"));
        let actor = signed(&actor);
        let more = [
            ("actor_token", actor.as_str()),
            ("actor_token_type", TYPE_JWT),
            ("client_id", workload),
        ];
        let reply = world.come_in(&handover, Some(&key), &more).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, handover, &reply)
    };
    let of_job = |job: &str| with(claims(&world, 11, 7), json!({ "check_run_id": job }));
    let first = by_proof("scan", of_job("71")).await;
    let second = by_proof("scan", of_job("72")).await;
    let below = world.child(&first, &scope("artifacts:read")).await;
    let helper = world.child(&root, &scope("artifacts:read")).await;
    let elsewhere = json!({"iss": "https://git.example/_services/token"});
    let elsewhere = by_proof("other", with(of_job("71"), elsewhere)).await;
    let said = world.hub("workflow_job", &job_over(11, 7, 1, 71)).await;
    assert_eq!(
        (said.status, said.body["clients"].as_u64()),
        (200, Some(1)),
        "{}",
        said.text
    );
    for gone in [&first, &below] {
        assert!(!world.is_active(&gone.token).await);
        assert_eq!(world.renew(gone, &[]).await.rule(), "client_ended");
    }
    for there in [&root, &second, &helper, &elsewhere] {
        assert!(world.is_active(&there.token).await);
    }
    let ends = world
        .leaves()
        .into_iter()
        .filter(|leaf| leaf["kind"] == "client.ended");
    let ends: Vec<Value> = ends.collect();
    assert_eq!(ends.len(), 1, "one entry for the subtree: {ends:?}");
    assert_eq!(ends[0]["data"]["cause"], "upstream");
    // It does not come in again, and said again nothing happens.
    let key = new_key();
    let handover = world.handover(&root, Some(&key), &scope("artifacts:read"));
    let late = signed(&of_job("71"));
    let more = [
        ("actor_token", late.as_str()),
        ("actor_token_type", TYPE_JWT),
        ("client_id", "scan"),
    ];
    assert_ne!(
        world.come_in(&handover, Some(&key), &more).await.status,
        200
    );
    let again = world.hub("workflow_job", &job_over(11, 7, 1, 71)).await;
    assert_eq!(again.status, 204, "{}", again.text);
    // The run's end is everybody's.
    let said = world.hub("workflow_run", &run_over(11, 7, 1)).await;
    assert_eq!(said.body["tasks"], 1, "{}", said.text);
    assert!(!world.is_active(&second.token).await && !world.is_active(&elsewhere.token).await);
}

impl World {
    /// The agent of job 70, which hands over.
    pub(crate) async fn handing_job(&self) -> Job {
        self.handing(70).await
    }

    /// The same of another job.
    pub(crate) async fn handing(&self, job: u64) -> Job {
        let key = new_key();
        let of_job = json!({"check_run_id": job.to_string()});
        let proof = signed(&with(claims(self, 11, 7), of_job));
        let more = [("resource", ARTIFACTS), ("client_id", "agent")];
        let reply = self.ask(&proof, Some(&key), &more).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, proof, &reply)
    }

    /// A child of it that comes in by the proof of another job.
    pub(crate) async fn handed_job(&self, root: &Job, workload: &str, job: &str) -> Job {
        let key = new_key();
        let handover = self.handover(root, Some(&key), &scope("artifacts:read"));
        let actor = signed(&with(claims(self, 11, 7), json!({ "check_run_id": job })));
        let more = [
            ("actor_token", actor.as_str()),
            ("actor_token_type", TYPE_JWT),
            ("client_id", workload),
        ];
        let reply = self.come_in(&handover, Some(&key), &more).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Job::of(key, handover, &reply)
    }
}

/// What has expired by its own window holds up no end of the others of its job.
#[tokio::test]
async fn a_child_that_has_expired_keeps_nothing_of_its_job_open() {
    let world = World::declared(&(declared() + HELPERS)).await;
    let root = world.handing_job().await;
    let brief = world.handed_job(&root, "brief", "71").await;
    let long = world.handed_job(&root, "scan", "71").await;
    world.wait(301);
    assert_eq!(world.renew(&brief, &[]).await.rule(), "client_ended");
    assert_eq!(world.renew(&long, &[]).await.status, 200);
    let said = world.hub("workflow_job", &job_over(11, 7, 1, 71)).await;
    assert_eq!(
        (said.status, said.body["clients"].as_u64()),
        (200, Some(1)),
        "{}",
        said.text
    );
    assert_eq!(world.renew(&long, &[]).await.rule(), "client_ended");
    assert!(world.is_open(&root.task));
    assert_eq!(world.renew(&root, &[]).await.status, 200);
}

#[tokio::test]
async fn one_that_comes_before_its_task_spends_the_key() {
    let world = World::declared(&declared()).await;
    let size = world.size();
    let reply = world.hub("workflow_run", &run_over(1, 7, 1)).await;
    assert_eq!(
        (reply.status, reply.body),
        (200, json!({"tasks": 0, "clients": 0}))
    );
    let reply = world.hub("workflow_job", &job_over(2, 9, 1, 90)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(world.size(), size, "what never ran makes no entry");
    // Both outlive the server.
    let world = world.restarted().await;
    assert_eq!(world.attempt(1, 7, 1, 70).await.rule(), "already_ended");
    assert_eq!(world.attempt(2, 9, 1, 90).await.rule(), "already_ended");
    world.granted(1, 7, 2, 70).await;
    world.granted(2, 9, 1, 91).await;
    // After the keep nobody can prove the run any more, and nothing is remembered of it.
    assert_eq!(world.closed("github", "repository_id,run_id:1/7"), 1);
    world.wait(45 * 86_400);
    // So far ahead at once the clock may be wrong: a day is forgotten every eight hours.
    for run in 100..150 {
        world.wait(8 * 3600);
        world.job(run).await;
    }
    assert_eq!(world.closed("github", "repository_id,run_id:1/7"), 0);
}

#[tokio::test]
async fn nobody_fills_the_tables_by_what_no_workload_can_claim() {
    let world = World::declared(&declared()).await;
    for (repository, rows) in [(77, 0), (1, 1)] {
        world.hub("workflow_run", &run_over(repository, 7, 1)).await;
        world
            .hub("workflow_job", &job_over(repository, 8, 1, 80))
            .await;
        let series = |run: u64| format!("repository_id,run_id:{repository}/{run}");
        assert_eq!(world.closed("github", &series(7)), rows);
        assert_eq!(world.closed("github", &series(8)), rows);
    }
}

#[tokio::test]
async fn what_is_not_proven_changes_nothing_and_is_told_nothing() {
    let world = World::declared(&declared()).await;
    let job = world.granted(1, 7, 1, 70).await;
    let body = run_over(1, 7, 1).to_string();
    let good = hub_signature("the secret of hook", &body);
    let other = hub_signature("the secret of hook", &run_over(1, 8, 1).to_string());
    let foreign = hub_signature("the secret of another", &body);
    let sha1 = good.replace("sha256=", "sha1=");
    let bare = good.replace("sha256=", "");
    let (short, long) = (&good[..good.len() - 1], format!("{good}0"));
    let event = ("x-github-event", "workflow_run");
    let named = |signature| vec![event, ("x-hub-signature-256", signature)];
    let mut attacks: Vec<Vec<(&str, &str)>> = vec![
        vec![event],
        named(""),
        named("sha256="),
        named(&other),
        named(&foreign),
        named(&sha1),
        named(&bare),
        named(short),
        named(&long),
        vec![event, ("x-hub-signature", good.as_str())],
        vec![event, ("x-gitlab-token", "the secret of hook")],
    ];
    // A second header would leave open which one counts.
    attacks.push(vec![
        event,
        ("x-hub-signature-256", &good),
        ("x-hub-signature-256", &good),
    ]);
    let size = world.size();
    for headers in &attacks {
        let reply = world.hook("github", headers, &body).await;
        assert_eq!(
            (reply.status, reply.text.as_str()),
            (401, ""),
            "{headers:?}"
        );
    }
    // What another issuer's secret proves is that issuer's alone.
    let token = [("x-gitlab-token", "the secret of hook-old"), event];
    assert_eq!(world.hook("gitlab", &token, &body).await.status, 401);
    assert_eq!(world.size(), size);
    assert!(world.is_active(&job.token).await);
    // Both secrets of a rotation hold.
    let old = hub_signature("the secret of hook-old", &body);
    assert_eq!(world.hook("github", &named(&old), &body).await.status, 200);
    assert_eq!(world.hook("github", &named(&good), &body).await.status, 204);
}

#[tokio::test]
async fn what_says_something_else_is_ignored_and_what_says_nothing_refused() {
    let world = World::declared(&declared()).await;
    let job = world.granted(1, 7, 1, 70).await;
    let mut running = run_over(1, 7, 1);
    running["action"] = "in_progress".into();
    for (event, body) in [
        ("ping", json!({"zen": "x"})),
        ("push", run_over(1, 7, 1)),
        ("workflow_run", running),
        ("check_run", run_over(1, 7, 1)),
    ] {
        assert_eq!(world.hub(event, &body).await.status, 204, "{event}");
    }
    let mut text = run_over(1, 7, 1);
    text["workflow_run"]["id"] = "07".into();
    let mut fraction = run_over(1, 7, 1);
    fraction["workflow_run"]["run_attempt"] = 1.5.into();
    let mut nobody = run_over(1, 7, 1);
    nobody["repository"] = Value::Null;
    for body in [json!({"action": "completed"}), text, fraction, nobody] {
        let reply = world.hub("workflow_run", &body).await;
        assert_eq!(
            (reply.status, reply.rule()),
            (400, "invalid_parameter"),
            "{body}"
        );
        // A platform speaks neither OAuth nor DPoP.
        assert!(reply.body.get("error").is_none(), "{}", reply.text);
        assert!(!reply.headers.contains_key("dpop-nonce"));
        assert!(!reply.str("says").is_empty() && !reply.str("refusal").is_empty());
    }
    for body in [
        "",
        "[]",
        "{",
        r#"{"action":"completed","action":"completed"}"#,
    ] {
        let signature = hub_signature("the secret of hook", body);
        let headers = [
            ("x-github-event", "workflow_run"),
            ("x-hub-signature-256", &signature),
        ];
        assert_eq!(
            world.hook("github", &headers, body).await.status,
            400,
            "{body}"
        );
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let reply = world
        .send("POST", "/webhooks/github", &form, "payload=%7B%7D")
        .await;
    assert_eq!(reply.status, 415);
    let large = "x".repeat(4 * 65_536 + 1);
    let signature = hub_signature("the secret of hook", &large);
    let headers = [("x-hub-signature-256", signature.as_str())];
    assert_eq!(world.hook("github", &headers, &large).await.status, 413);
    // Nothing is read of what no header proves.
    assert_eq!(world.hook("github", &[], &large).await.status, 401);
    assert_eq!(
        world.send("GET", "/webhooks/github", &[], "").await.status,
        405
    );
    for issuer in ["nobody", "..", "GitHub"] {
        assert_eq!(world.hook(issuer, &[], "{}").await.status, 404, "{issuer}");
    }
    assert!(world.is_active(&job.token).await);
}

pub(crate) fn lab_claims(world: &World, project: u64, pipeline: u64, job: u64) -> String {
    let now = world.now();
    signed(&json!({
        "iss": "https://gitlab.com", "aud": ISSUER, "jti": unique(), "namespace_id": "72",
        "sub": "project_path:group/project:ref_type:branch:ref:main",
        "project_id": project.to_string(), "project_path": "group/project",
        "pipeline_id": pipeline.to_string(), "job_id": job.to_string(),
        "pipeline_source": "push", "iat": now, "nbf": now, "exp": now + 600,
    }))
}

impl World {
    pub(crate) async fn lab_job(&self, project: u64, pipeline: u64, job: u64) -> Reply {
        let proof = lab_claims(self, project, pipeline, job);
        self.ask(&proof, Some(&new_key()), &[("resource", ARTIFACTS)])
            .await
    }
}

pub(crate) fn build(project: u64, pipeline: u64, job: u64, status: &str) -> Value {
    json!({
        "object_kind": "build", "build_id": job, "build_status": status,
        "pipeline_id": pipeline, "project_id": project,
    })
}

pub(crate) fn pipeline(project: u64, id: u64, status: &str) -> Value {
    json!({
        "object_kind": "pipeline", "object_attributes": { "id": id, "status": status },
        "project": { "id": project },
    })
}

#[tokio::test]
async fn gitlab_says_that_jobs_and_pipelines_are_over() {
    let world = World::declared(&declared()).await;
    let job = world.lab_job(20, 5, 50).await;
    let (one, two) = (
        world.lab_job(21, 6, 60).await,
        world.lab_job(21, 6, 61).await,
    );
    assert_eq!(one.str("task"), two.str("task"));
    for status in ["created", "pending", "running", "manual", "canceling", ""] {
        assert_eq!(
            world.lab(&build(20, 5, 50, status)).await.status,
            204,
            "{status}"
        );
        assert_eq!(
            world.lab(&pipeline(21, 6, status)).await.status,
            204,
            "{status}"
        );
    }
    let reply = world.lab(&build(20, 5, 50, "canceled")).await;
    assert_eq!((reply.status, reply.body["tasks"].as_u64()), (200, Some(1)));
    assert!(!world.is_open(job.str("task")));
    assert_eq!(world.lab_job(20, 5, 50).await.rule(), "already_ended");
    // A retry is another job.
    assert_eq!(world.lab_job(20, 5, 51).await.status, 200);
    let reply = world.lab(&build(21, 6, 60, "success")).await;
    assert_eq!(
        (reply.status, reply.body),
        (200, json!({"tasks": 0, "clients": 1}))
    );
    assert!(!world.is_active(one.str("access_token")).await);
    assert!(world.is_active(two.str("access_token")).await);
    let reply = world.lab(&pipeline(21, 6, "canceled")).await;
    assert_eq!((reply.status, reply.body["tasks"].as_u64()), (200, Some(1)));
    assert_eq!(world.lab_job(21, 6, 62).await.rule(), "already_ended");
    // Before its task.
    assert_eq!(world.lab(&pipeline(21, 7, "failed")).await.status, 200);
    assert_eq!(world.lab_job(21, 7, 70).await.rule(), "already_ended");
}

#[tokio::test]
async fn gitlab_is_proven_by_its_token_or_by_its_signature_where_it_signs() {
    let world = World::declared(&declared()).await;
    let body = build(20, 5, 50, "failed").to_string();
    let now = world.now();
    for token in ["", "the secret of hoo", "the secret of hook!", "whsec_"] {
        let reply = world
            .hook("gitlab", &[("x-gitlab-token", token)], &body)
            .await;
        assert_eq!((reply.status, reply.text.as_str()), (401, ""), "{token}");
    }
    assert_eq!(world.hook("gitlab", &[], &body).await.status, 401);
    // A bad signature is not saved by a good token.
    let token = ("x-gitlab-token", "the secret of hook");
    let (id, at) = (unique(), now.to_string());
    let bad = standard_signature("hook-old", &id, now, &body);
    let headers = [
        token,
        ("webhook-id", id.as_str()),
        ("webhook-timestamp", &at),
        ("webhook-signature", &bad),
    ];
    assert_eq!(world.hook("gitlab", &headers, &body).await.status, 401);
    assert_eq!(
        world.standard("gitlab", "hook", now, &body).await.status,
        200
    );
    // Where GitLab signs alone, no token will do.
    let reply = world.hook(
        "signing",
        &[("x-gitlab-token", "hook: a key of Standard Webhooks")],
        &body,
    );
    assert_eq!(reply.await.status, 401);
    assert_eq!(
        world.standard("signing", "hook", now, &body).await.status,
        204
    );
}

#[tokio::test]
async fn any_other_platform_names_the_claims_of_the_run() {
    let world = World::declared(&declared()).await;
    let now = world.now();
    let ask = async |build: &str, attempt: u64| {
        let proof = signed(&json!({
            "iss": "https://ci.example", "aud": ISSUER, "sub": "robot", "jti": unique(),
            "project": "p", "build": build, "try": attempt, "iat": now, "exp": now + 300,
        }));
        world
            .ask(&proof, Some(&new_key()), &[("resource", ARTIFACTS)])
            .await
    };
    let over = |build: &str, attempt: u64| {
        let claims = json!({ "project": "p", "build": build, "try": attempt });
        json!({ "claims": claims, "outcome": "cancelled" }).to_string()
    };
    let job = ask("a/1", 1).await;
    assert_eq!(job.status, 200, "{}", job.text);
    // Old, early, by another key, of another issuer, without a signature.
    for (key, at) in [("hook", now - 301), ("hook", now + 301), ("hook-old", now)] {
        assert_eq!(
            world.standard("ci", key, at, &over("a/1", 1)).await.status,
            401,
            "{key} {at}"
        );
    }
    assert_eq!(world.hook("ci", &[], &over("a/1", 1)).await.status, 401);
    assert!(world.is_active(job.str("access_token")).await);
    for body in [
        json!({}).to_string(),
        json!({ "claims": {} }).to_string(),
        json!({ "claims": { "project": "p" } }).to_string(),
        json!({ "claims": { "project": "p", "build": {}, "try": 1 } }).to_string(),
        json!({ "claims": { "project": "p", "build": "a/1", "try": "x" } }).to_string(),
        json!({ "claims": { "project": "p", "build": "a/1", "try": 1 }, "otcome": "x" })
            .to_string(),
        r#"{"claims":{"project":"p","build":"b","build":"a/1","try":1}}"#.to_owned(),
    ] {
        let reply = world.standard("ci", "hook", now, &body).await;
        assert_eq!(reply.status, 400, "{body}");
    }
    assert_eq!(
        world
            .standard("ci", "hook", now - 299, &over("a/1", 1))
            .await
            .status,
        200
    );
    assert_eq!(world.ended_by(job.str("task")), "upstream");
    assert_eq!(ask("a/1", 1).await.rule(), "already_ended");
    assert_eq!(ask("a/1", 2).await.status, 200);
    assert_eq!(
        world
            .standard("ci", "hook", now, &over("a/2", 1))
            .await
            .status,
        200
    );
    assert_eq!(ask("a/2", 1).await.rule(), "already_ended");
    // One signature of several is enough while a secret is replaced.
    let (id, at) = (unique(), now.to_string());
    let both = format!(
        "v1,AAAA v2,{} {}",
        STANDARD.encode([0; 32]),
        standard_signature("hook", &id, now, &over("a/3", 1))
    );
    let headers = [
        ("webhook-id", id.as_str()),
        ("webhook-timestamp", &at),
        ("webhook-signature", &both),
    ];
    assert_eq!(
        world.hook("ci", &headers, &over("a/3", 1)).await.status,
        200
    );
}

/// Platforms send for everybody from the same addresses.
#[tokio::test]
async fn what_others_cannot_prove_keeps_no_webhook_out() {
    let rates = AddressRates {
        unverified: Rate::per_minute(3),
        address: Some(Rate::per_minute(3)),
    };
    let world = World::declared(&declared())
        .await
        .behind_the_door(rates)
        .await;
    let large = "x".repeat(4 * 65_536 + 1);
    let signature = hub_signature("the secret of hook", &large);
    let signed = [("x-hub-signature-256", signature.as_str())];
    let form = [("content-type", "text/plain")];
    for run in 0..10 {
        assert_eq!(world.hook("github", &[], "{}").await.status, 401);
        assert_eq!(world.hook("github", &signed, &large).await.status, 413);
        let reply = world.send("POST", "/webhooks/github", &form, "{}").await;
        assert_eq!(reply.status, 415);
        let reply = world.hub("workflow_run", &run_over(1, run, 1)).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(world.hub("ping", &json!({})).await.status, 204);
        let unread = json!({"action": "completed"});
        assert_eq!(world.hub("workflow_run", &unread).await.status, 400);
    }
    // None of it was charged to the address.
    assert_eq!(world.send("GET", "/jwks", &[], "").await.status, 200);
    // What is not proven is explained so and so often to an issuer, and is no other issuer's affair.
    for _ in 10..60 {
        assert_eq!(world.hook("github", &[], "{}").await.status, 401);
    }
    let over = world.hook("github", &[], "{}").await;
    assert_eq!((over.status, over.header("retry-after")), (429, "1"));
    assert_eq!(world.hook("gitlab", &[], "{}").await.status, 401);
    let reply = world.hub("workflow_run", &run_over(1, 99, 1)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    // A name that is no issuer's is a guess.
    for _ in 0..3 {
        assert_eq!(world.hook("nobody", &[], "{}").await.status, 404);
    }
    assert_eq!(world.send("GET", "/jwks", &[], "").await.status, 429);
}

/// Whoever shows nothing that could prove it waits for nothing, and keeps nobody waiting.
#[tokio::test]
async fn no_body_is_waited_for_that_no_header_could_prove() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let world = World::declared(&declared()).await;
    for signature in ["", "x-hub-signature-256: sha256=00\r\n"] {
        let mut slow = tokio::net::TcpStream::connect(world.address())
            .await
            .unwrap();
        let head = format!(
            "POST /acme/webhooks/github HTTP/1.1\r\nhost: x\r\n{signature}\
             content-type: application/json\r\ncontent-length: 100\r\n\r\n"
        );
        slow.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        slow.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401");
    }
}
