//! The binary as a server, and webhooks signed by other programs: openssl for GitHub and GitLab, Node for the rest.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::client::{
    Client, Outcome, grant_form, new_key, now, platform_claims, post_token, signed,
};
use crate::page::{RUNBOOK, step, until};
use crate::stage::{Shared, Stage, TENANT};

/// 32 bytes in Base64, as Standard Webhooks hand secrets about.
const STANDARD: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const STANDARD_HEX: &str = "3031323334353637383961626364656630313233343536373839616263646566";

fn declared() -> String {
    let github = TENANT.replace(
        "jwks = { file = \"jwks.json\" }\n",
        "jwks = { file = \"jwks.json\" }\nwebhook_secret_file = \"github.secret\"\n",
    );
    github
        + r#"
[issuer.gitlab]
jwks = { file = "jwks.json" }
webhook_secret_file = "standard.secret"

[issuer.ci]
kind = "oidc"
url  = "https://ci.example"
jwks = { file = "jwks.json" }
webhook_secret_file = "standard.secret"

[workload.lab]
owner   = "team-platform"
kind    = "ci"
purpose = "a job of gitlab"
match   = { issuer = "gitlab", project_id = "20" }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }]

[workload.build]
owner   = "team-platform"
kind    = "ci"
purpose = "a build elsewhere"
match   = { issuer = "ci", project = "p" }
task    = { key = ["project", "build"] }
access  = [{ resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo/*" }]
"#
}

/// What a program prints for this input.
fn piped(program: &str, arguments: &[&str], input: &str) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{program}");
    done.stdout
}

/// `X-Hub-Signature-256` by openssl.
fn hub_signature(secret: &str, body: &str) -> String {
    let said = piped("openssl", &["dgst", "-sha256", "-r", "-hmac", secret], body);
    let said = String::from_utf8(said).unwrap();
    format!("sha256={}", said.split(' ').next().unwrap())
}

/// `webhook-signature` by openssl.
fn openssl_signature(signed: &str) -> String {
    let key = format!("hexkey:{STANDARD_HEX}");
    let arguments = [
        "dgst", "-sha256", "-mac", "HMAC", "-macopt", &key, "-binary",
    ];
    let tag = piped("openssl", &arguments, signed);
    use base64::Engine as _;
    format!(
        "v1,{}",
        base64::engine::general_purpose::STANDARD.encode(tag)
    )
}

/// The same by Node.
fn node_signature(signed: &str) -> String {
    let script = "const { createHmac } = require('node:crypto'); const key = Buffer.from(process.argv[1].slice(6), 'base64'); process.stdout.write('v1,' + createHmac('sha256', key).update(require('node:fs').readFileSync(0)).digest('base64'));";
    String::from_utf8(piped("node", &["-e", script, STANDARD], signed)).unwrap()
}

async fn post(
    shared: &Shared,
    issuer: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let mut request = shared
        .http
        .post(format!("{}/webhooks/{issuer}", shared.issuer))
        .header("content-type", "application/json")
        .body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// A webhook of Standard Webhooks.
async fn standard(
    shared: &Shared,
    issuer: &str,
    sign: fn(&str) -> String,
    body: &Value,
) -> (u16, String) {
    let (id, at, body) = (crate::client::unique(), now().to_string(), body.to_string());
    let signature = sign(&format!("{id}.{at}.{body}"));
    let headers = [
        ("webhook-id", id.as_str()),
        ("webhook-timestamp", &at),
        ("webhook-signature", &signature),
    ];
    post(shared, issuer, &headers, &body).await
}

async fn rule(shared: &Shared, claims: &Value) -> String {
    let answer = post_token(shared, &new_key(), &grant_form(&signed(shared, claims))).await;
    let (_, body) = answer.unwrap();
    body["refused"]["rule"]
        .as_str()
        .unwrap_or("granted")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_that_other_programs_signed_end_what_they_name() {
    let mut stage = Stage::with("", &declared());
    let tenant = stage.folder().join("tenants/acme");
    fs::write(tenant.join("github.secret"), "a secret of the hook\n").unwrap();
    fs::write(tenant.join("standard.secret"), format!("{STANDARD}\n")).unwrap();
    stage.start().await;
    let shared = stage.shared();

    let Outcome::Answered(job) = Client::grant(&shared, 7).await else {
        panic!("no answer");
    };
    assert!(job.introspect(&shared).await);
    let body = json!({
        "action": "completed",
        "workflow_run": { "id": 7, "run_attempt": 1, "conclusion": "cancelled" },
        "repository": { "id": 1_296_269, "full_name": "octo-org/octo-repo" },
    })
    .to_string();
    let event = ("x-github-event", "workflow_run");
    let wrong = hub_signature("another secret", &body);
    let (status, said) = post(
        &shared,
        "github",
        &[event, ("x-hub-signature-256", &wrong)],
        &body,
    )
    .await;
    assert_eq!((status, said.as_str()), (401, ""));
    assert!(job.introspect(&shared).await);
    let good = hub_signature("a secret of the hook", &body);
    let (status, said) = post(
        &shared,
        "github",
        &[event, ("x-hub-signature-256", &good)],
        &body,
    )
    .await;
    assert_eq!(status, 200, "{said}");
    assert!(!job.introspect(&shared).await);
    stage.traced(
        &job.task,
        "upstream: github: workflow_run completed: cancelled",
    );

    // Before their tasks, and over a kill.
    let body = json!({ "object_kind": "build", "build_id": 50, "build_status": "canceled", "pipeline_id": 5, "project_id": 20 });
    let (status, said) = standard(&shared, "gitlab", openssl_signature, &body).await;
    assert_eq!(status, 200, "{said}");
    let body = json!({ "claims": { "project": "p", "build": 17 }, "outcome": "failed" });
    let (status, said) = standard(&shared, "ci", node_signature, &body).await;
    assert_eq!(status, 200, "{said}");
    stage.kill();
    stage.start().await;
    nothing_of_these_asks_again(&shared).await;
    every_outcome_is_counted(&stage, &shared).await;
    whatever_proves_nothing_is_counted(&stage, &shared).await;
    stage.kill();
    stage.fsck();
}

/// After the webhooks of the test: what they named is over, what they did not is granted.
async fn nothing_of_these_asks_again(shared: &Shared) {
    assert_eq!(
        rule(shared, &platform_claims(shared, 7, "1296269")).await,
        "already_ended"
    );
    let mut lab = platform_claims(shared, 7, "1");
    for (name, value) in [
        ("iss", "https://gitlab.com"),
        ("namespace_id", "72"),
        ("project_id", "20"),
        ("pipeline_id", "5"),
        ("job_id", "50"),
        ("pipeline_source", "push"),
    ] {
        lab[name] = value.into();
    }
    assert_eq!(rule(shared, &lab).await, "already_ended");
    lab["job_id"] = "51".into();
    lab["jti"] = "another".into();
    assert_eq!(rule(shared, &lab).await, "granted");
    let mut build = platform_claims(shared, 7, "1");
    for (name, value) in [
        ("iss", "https://ci.example"),
        ("project", "p"),
        ("build", "17"),
    ] {
        build[name] = value.into();
    }
    assert_eq!(rule(shared, &build).await, "already_ended");
}

/// An operator sees that they arrive, and what became of them.
async fn every_outcome_is_counted(stage: &Stage, shared: &Shared) {
    let hub = async |event: &str, secret: &str, body: &str| {
        let signature = hub_signature(secret, body);
        let headers = [
            ("x-github-event", event),
            ("x-hub-signature-256", &signature),
        ];
        post(shared, "github", &headers, body).await.0
    };
    let secret = "a secret of the hook";
    let over = json!({
        "action": "completed",
        "workflow_run": { "id": 8, "run_attempt": 1, "conclusion": "success" },
        "repository": { "id": 1_296_269, "full_name": "octo-org/octo-repo" },
    })
    .to_string();
    let large = "x".repeat(1 << 20);
    for (outcome, statuses) in [
        ("unproven", vec![hub("ping", "another", "{}").await]),
        ("ended", vec![hub("workflow_run", secret, &over).await]),
        (
            "nothing",
            vec![
                hub("workflow_run", secret, &over).await,
                hub("workflow_run", secret, &over).await,
            ],
        ),
        (
            "ignored",
            vec![
                hub("ping", secret, "{}").await,
                hub("push", secret, "{}").await,
                hub("ping", secret, "{}").await,
            ],
        ),
        ("malformed", vec![hub("workflow_run", secret, "{").await]),
        ("unread", vec![hub("workflow_run", secret, &large).await]),
    ] {
        let wanted = match outcome {
            "unproven" => 401,
            "ended" => 200,
            "malformed" => 400,
            "unread" => 413,
            _ => 204,
        };
        assert!(
            statuses.iter().all(|status| *status == wanted),
            "{outcome}: {statuses:?}"
        );
        counted(stage, "github", outcome, statuses.len());
    }
    // Proven, and about no run that a workload of the issuer could ever prove.
    let body = json!({ "claims": { "wheel": "7" }, "outcome": "failed" });
    let (status, said) = standard(shared, "ci", node_signature, &body).await;
    assert_eq!(status, 400, "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["refused"]["stage"], "request", "{said}");
    assert!(
        said["says"].is_string() && said.get("error").is_none(),
        "{said}"
    );
    counted(stage, "ci", "refused", 1);
    let id = said["refusal"].as_str().unwrap();
    let (explained, why) = stage.operate(&["why", id, "--config", "dayfly.toml"]);
    assert!(explained && why.contains("task key"), "{why}");
}

/// Each way to prove nothing is counted once, at the issuer that was named, and at no other.
async fn whatever_proves_nothing_is_counted(stage: &Stage, shared: &Shared) {
    let (body, event) = ("{}", ("x-github-event", "ping"));
    let wrong = hub_signature("another", body);
    let foreign = hub_signature(STANDARD, body);
    let of_another_body = hub_signature("a secret of the hook", "{ }");
    let (id, at, old) = ("one", now().to_string(), (now() - 301).to_string());
    let fresh = openssl_signature(&format!("{id}.{at}.{body}"));
    let late = openssl_signature(&format!("{id}.{old}.{body}"));
    let hub = |signature| vec![event, ("x-hub-signature-256", signature)];
    let standard = |at, signature| {
        vec![
            ("webhook-id", id),
            ("webhook-timestamp", at),
            ("webhook-signature", signature),
        ]
    };
    for (issuer, what, headers) in [
        ("github", "wrong", hub(&wrong)),
        ("github", "missing", vec![event]),
        ("github", "another issuer's", hub(&foreign)),
        ("github", "another body's", hub(&of_another_body)),
        ("github", "another way", standard(&at, &fresh)),
        ("ci", "missing", vec![]),
        ("ci", "wrong", standard(&at, &late)),
        ("ci", "old", standard(&old, &late)),
        ("gitlab", "wrong", vec![("x-gitlab-token", "another")]),
        ("gitlab", "missing", vec![("x-gitlab-event", "Job Hook")]),
        ("gitlab", "old", standard(&old, &late)),
    ] {
        let before = counts(stage);
        let (status, said) = post(shared, issuer, &headers, body).await;
        assert_eq!((status, said.as_str()), (401, ""), "{issuer}: {what}");
        let mut more = before.clone();
        *more
            .entry((issuer.to_owned(), "unproven".to_owned()))
            .or_default() += 1;
        assert_eq!(counts(stage), more, "{issuer}: {what}");
    }
}

/// How many webhooks there were of each issuer with each outcome.
fn counts(stage: &Stage) -> BTreeMap<(String, String), u64> {
    let (_, metrics) =
        stage.shell("curl -sS --unix-socket data/admin.sock http://localhost/metrics");
    let rows = metrics.lines().filter_map(|line| {
        let row = line.strip_prefix("dayfly_webhooks_total{tenant=\"acme\",issuer=\"")?;
        let (issuer, row) = row.split_once("\",outcome=\"")?;
        let (outcome, times) = row.split_once("\"} ")?;
        let of = (issuer.to_owned(), outcome.to_owned());
        Some((of, times.parse().unwrap()))
    });
    rows.collect()
}

/// An operator sees how many of an issuer's had this outcome.
fn counted(stage: &Stage, issuer: &str, outcome: &str, times: usize) {
    let (_, metrics) =
        stage.shell("curl -sS --unix-socket data/admin.sock http://localhost/metrics");
    let line = format!(
        "dayfly_webhooks_total{{tenant=\"acme\",issuer=\"{issuer}\",outcome=\"{outcome}\"}} {times}\n"
    );
    assert!(metrics.contains(&line), "{line}{metrics}");
}

/// Delivers that attempt 1 of this run is over, proven by this header.
async fn told_over(shared: &Shared, run: u64, proof: Option<(&str, &str)>) -> u16 {
    let body = over(run);
    let mut headers = vec![("x-github-event", "workflow_run")];
    let signature = proof.map(|(name, secret)| {
        let signed = hub_signature(secret, &body);
        (name, signed)
    });
    headers.extend(signature.iter().map(|(name, said)| (*name, said.as_str())));
    post(shared, "github", &headers, &body).await.0
}

fn over(run: u64) -> String {
    json!({
        "action": "completed",
        "workflow_run": { "id": run, "run_attempt": 1, "conclusion": "cancelled" },
        "repository": { "id": 1_296_269, "full_name": "octo-org/octo-repo" },
    })
    .to_string()
}

const HUB: &str = "x-hub-signature-256";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_webhooks_do_not_arrive_is_walked() {
    assert!(RUNBOOK.contains("\n## Webhooks do not arrive\n"));
    let mut stage = Stage::with("", &declared());
    let tenant = stage.folder().join("tenants/acme");
    for (file, secret) in [
        ("github.secret", "the old secret of it"),
        ("new.secret", "the new secret of it"),
    ] {
        fs::write(tenant.join(file), format!("{secret}\n")).unwrap();
    }
    fs::write(tenant.join("standard.secret"), format!("{STANDARD}\n")).unwrap();
    stage.start().await;
    let shared = stage.shared();
    let Outcome::Answered(job) = Client::grant(&shared, 7).await else {
        panic!("no answer");
    };
    refused_and_counted(&stage, &shared).await;
    assert!(job.introspect(&shared).await);
    explained(&stage);

    // The secret is replaced without a gap.
    let both = "webhook_secret_file = [\"old.secret\", \"new.secret\"]";
    assert!(RUNBOOK.contains(&format!("\n{both}\n")));
    let both = both.replace("old.secret", "github.secret");
    let one = "webhook_secret_file = \"github.secret\"";
    fs::write(tenant.join("tenant.toml"), declared().replace(one, &both)).unwrap();
    let line = "dayfly apply --reason \"the webhook's secret is replaced\"";
    let (done, said) = stage.shell(&step(line, &[]));
    assert!(done, "{said}");
    for (run, secret) in [(20, "the old secret of it"), (7, "the new secret of it")] {
        assert_eq!(told_over(&shared, run, Some((HUB, secret))).await, 200);
    }
    assert!(!job.introspect(&shared).await);

    // What must be over is ended by hand, and that it is delivered after all changes nothing.
    let Outcome::Answered(open) = Client::grant(&shared, 8).await else {
        panic!("no answer");
    };
    let by_hand = "dayfly task end TASK --reason \"its run was cancelled\"";
    let (done, said) = stage.shell(&step(by_hand, &[("TASK", open.task.as_str())]));
    assert!(done, "{said}");
    assert!(!open.introspect(&shared).await);
    for _ in 0..2 {
        let again = told_over(&shared, 7, Some((HUB, "the new secret of it"))).await;
        assert_eq!(again, 204);
    }
    counted(&stage, "github", "nothing", 2);
    stage.kill();
    stage.fsck();
}

/// What proves nothing is answered without a word, changes nothing and is counted, each.
async fn refused_and_counted(stage: &Stage, shared: &Shared) {
    let page =
        "curl -s --unix-socket data/admin.sock http://local/metrics | grep dayfly_webhooks_total";
    let metrics = step(page, &[]);
    assert_eq!(told_over(shared, 7, Some((HUB, "another"))).await, 401);
    assert_eq!(told_over(shared, 7, None).await, 401);
    // The header by which another platform proves its own.
    let foreign = told_over(shared, 7, Some(("x-gitlab-token", "the old secret of it")));
    assert_eq!(foreign.await, 401);
    counted(stage, "github", "unproven", 3);
    let old = now() - 400;
    let body = json!({ "claims": { "project": "p", "build": 17 }, "outcome": "failed" });
    let body = body.to_string();
    let (id, at) = (crate::client::unique(), old.to_string());
    let signature = node_signature(&format!("{id}.{at}.{body}"));
    let headers = [
        ("webhook-id", id.as_str()),
        ("webhook-timestamp", &at),
        ("webhook-signature", &signature),
    ];
    let (status, said) = post(shared, "ci", &headers, &body).await;
    assert_eq!((status, said.as_str()), (401, ""));
    counted(stage, "ci", "unproven", 1);
    let (status, said) = post(shared, "gitlab", &[("x-gitlab-token", "guessed")], "{}").await;
    assert_eq!((status, said.as_str()), (401, ""));
    counted(stage, "gitlab", "unproven", 1);
    // An issuer without webhooks is not there.
    assert_eq!(post(shared, "nobody", &[], "{}").await.0, 404);
    let said = stage.shell(&metrics).1;
    assert!(
        !said.contains("ended") && !said.contains("nobody"),
        "{said}"
    );
}

/// The log names each, and `why` says what was wrong with it.
fn explained(stage: &Stage) {
    let log = stage.log();
    let asked = |line: &&str| line.contains("\"asked\":\"webhook\"");
    let refused: Vec<&str> = log.lines().filter(asked).collect();
    assert_eq!(refused.len(), 5, "{log}");
    let mut whys = String::new();
    for line in refused {
        let at = line.find("ref_").unwrap();
        let why = step("dayfly why REFUSAL", &[("REFUSAL", &line[at..at + 30])]);
        whys += &until(stage, &why, |said| said.contains("wanted"));
    }
    for said in [HUB, "webhook-timestamp"] {
        assert!(whys.contains(said), "{said}: {whys}");
    }
}
