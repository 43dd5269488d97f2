//! How a run opens its task, renews its tokens, and copes with a server that does not answer.

use serde_json::json;

use crate::fake::{CLIENT, Fake, Reply, TASK};
use crate::harness::{Running, dayfly, in_job, output, run, script};

#[test]
fn a_run_opens_its_task_beats_at_once_and_ends_it() {
    let fake = Fake::start();
    let command = run(&fake, &["--resource", "artifacts"], &["cat"]);
    let running = Running::start(command);
    fake.wait_for("a beat", |state| {
        state
            .calls
            .iter()
            .any(|call| call.path.ends_with("/heartbeat"))
    });
    let (code, _, stderr) = running.end();
    assert_eq!(code, 0, "{stderr}");
    let [grant] = &fake.grants()[..] else {
        panic!("one grant was enough");
    };
    assert_eq!(
        grant.form["grant_type"],
        "urn:ietf:params:oauth:grant-type:jwt-bearer"
    );
    assert_eq!(grant.form["resource"], fake.resource());
    assert!(!grant.form.contains_key("client_id"));
    let [beat] = &fake.beats()[..] else {
        panic!("one beat was enough");
    };
    assert_eq!(beat.jkt, grant.jkt);
    assert_eq!(beat.authorization.as_deref(), Some("DPoP issued-token-1"));
    assert_eq!(fake.ends(), ["completed"]);
    assert!(stderr.contains(&format!(
        "dayfly: {TASK} is open until 2026-11-01T13:00:00Z at the latest, as {CLIENT}\n"
    )));
    let last = stderr.lines().last().unwrap();
    let wanted = format!(
        r#"dayfly: {TASK} ended `completed` at 2026-11-01T12:00:00Z; last possible acceptance 2026-11-01T12:05:00Z; head "127.0.0.1/acme\n12\nAAAA\n\n— 127.0.0.1/acme c2ln\n""#
    );
    assert_eq!(last, wanted);
}

#[test]
fn the_proof_is_made_for_the_issuer_and_what_is_asked_for_goes_along() {
    let fake = Fake::start();
    let options = [
        "--workload",
        "release",
        "--scope",
        "artifacts:read",
        "--access",
        r#"{"type":"artifact","actions":["read"]}"#,
    ];
    let (code, _, stderr) = output(run(&fake, &options, &["true"]));
    assert_eq!(code, 0, "{stderr}");
    let asked = fake.calls("/actions");
    let query = url::form_urlencoded::parse(asked[0].query.as_bytes()).into_owned();
    let query: Vec<(String, String)> = query.collect();
    assert_eq!(query[1], ("audience".to_owned(), fake.issuer()));
    let form = &fake.grants()[0].form;
    assert_eq!(form["client_id"], "release");
    assert_eq!(form["scope"], "artifacts:read");
    let asked: serde_json::Value = serde_json::from_str(&form["authorization_details"]).unwrap();
    assert_eq!(
        asked,
        serde_json::json!([{"type": "artifact", "actions": ["read"]}])
    );
    assert!(!form.contains_key("resource"));
}

#[test]
fn the_issuer_may_stand_in_the_server_alone() {
    let fake = Fake::start();
    let mut command = run(&fake, &[], &["true"]);
    command
        .env("DAYFLY_SERVER", fake.issuer())
        .env_remove("DAYFLY_TENANT");
    let (code, _, stderr) = output(command);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn a_server_that_calls_itself_otherwise_gets_no_proof() {
    let fake = Fake::start();
    fake.state().other_issuer = true;
    let (code, _, stderr) = output(run(&fake, &[], &["true"]));
    assert_eq!(code, 125, "{stderr}");
    assert!(stderr.contains("calls itself"), "{stderr}");
    assert!(fake.grants().is_empty());
}

#[test]
fn a_nonce_is_answered_once_and_remembered() {
    let fake = Fake::start();
    fake.state().nonce = Some("n1".to_owned());
    let (code, _, stderr) = output(run(&fake, &[], &["true"]));
    assert_eq!(code, 0, "{stderr}");
    let nonces: Vec<Option<String>> = fake.grants().into_iter().map(|call| call.nonce).collect();
    assert_eq!(nonces, [None, Some("n1".to_owned())]);
    let ends = fake.calls(&format!("/acme/clients/{CLIENT}/end"));
    assert_eq!(ends.len(), 1, "the nonce was known by then");
    assert_eq!(ends[0].nonce.as_deref(), Some("n1"));
}

#[test]
fn a_task_endpoint_may_change_the_nonce() {
    let fake = Fake::start();
    let mut running = Running::start(script(&fake, &[], "echo up; cat"));
    running.line();
    fake.wait_for("a beat", |state| {
        state
            .calls
            .iter()
            .any(|call| call.path.ends_with("/heartbeat"))
    });
    fake.state().nonce = Some("n2".to_owned());
    let (code, _, stderr) = running.end();
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(fake.ends(), ["completed", "completed"]);
    assert!(stderr.contains("ended `completed`"), "{stderr}");
}

#[test]
fn a_lost_answer_is_asked_for_again_in_the_same_words() {
    let fake = Fake::start();
    fake.state().grants.push_back(Reply::Lost);
    let (code, _, stderr) = output(run(&fake, &[], &["true"]));
    assert_eq!(code, 0, "{stderr}");
    let [first, second] = &fake.grants()[..] else {
        panic!("one repetition was enough: {stderr}");
    };
    assert_eq!(first.form, second.form);
    assert_eq!(first.jkt, second.jkt);
    assert_ne!(first.proof, second.proof, "each try has its own DPoP proof");
}

#[test]
fn a_proof_that_expired_while_waiting_is_replaced() {
    let fake = Fake::start();
    fake.state().proof_seconds = -1;
    fake.state().grants.push_back(Reply::Busy(0));
    let (code, _, stderr) = output(run(&fake, &[], &["true"]));
    assert_eq!(code, 0, "{stderr}");
    let grants = fake.grants();
    assert_ne!(grants[0].form["assertion"], grants[1].form["assertion"]);
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let fake = Fake::start();
    fake.state().grants.push_back(Reply::Busy(1));
    let (code, _, stderr) = output(run(&fake, &[], &["true"]));
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(fake.grants().len(), 2);
    assert!(stderr.contains("does not answer"), "{stderr}");
}

#[test]
fn a_busy_server_is_not_waited_for_longer_than_allowed() {
    let fake = Fake::start();
    fake.state().grants.push_back(Reply::Busy(60));
    let (code, stdout, stderr) = output(run(&fake, &["--wait", "5s"], &["echo", "ran"]));
    assert_eq!((code, stdout.as_str()), (125, ""), "{stderr}");
}

#[test]
fn a_limit_that_does_not_pass_is_named() {
    let fake = Fake::start();
    let body = json!({"error": "temporarily_unavailable", "error_description": "too many starts"});
    fake.state().grants.push_back(Reply::Error(429, body));
    let (code, _, stderr) = output(run(&fake, &["--wait", "0s"], &["true"]));
    assert_eq!(code, 125, "{stderr}");
    assert!(
        stderr.contains("429, `temporarily_unavailable`: `too many starts`"),
        "{stderr}"
    );
}

#[test]
fn a_rules_limit_that_does_not_pass_is_a_refusal() {
    let fake = Fake::start();
    let body = json!({
        "error": "temporarily_unavailable",
        "error_description": "the workload has as many open tasks as it may",
        "refusal": "ref_01jbqz5x3k8r9m2n4p6q7s8t9v",
        "refused": {"stage": "limit", "rule": "open_tasks"},
    });
    let limited = || Reply::Error(429, body.clone());
    fake.state().grants.extend([limited(), limited()]);
    let (code, stdout, stderr) = output(run(&fake, &["--wait", "0s"], &["echo", "ran"]));
    assert_eq!((code, stdout.as_str()), (126, ""), "{stderr}");
    for part in [
        "refused: `temporarily_unavailable`: `the workload has",
        "stage `limit`, rule `open_tasks`",
        "dayfly why ref_01jbqz5x3k8r9m2n4p6q7s8t9v",
    ] {
        assert!(stderr.contains(part), "{part} not in: {stderr}");
    }
    // With time to wait it is asked again, and runs when the limit has passed.
    let (code, stdout, stderr) = output(run(&fake, &["--wait", "30s"], &["echo", "ran"]));
    assert_eq!((code, stdout.as_str()), (0, "ran\n"), "{stderr}");
    assert!(stderr.contains("refuses for now"), "{stderr}");
    assert_eq!(fake.grants().len(), 3);
}

#[test]
fn a_key_that_the_server_does_not_know_yet_is_waited_for() {
    let fake = Fake::start();
    let body = json!({
        "error": "invalid_grant",
        "error_description": "no key of the issuer has the token's key id",
        "refused": {"stage": "proof", "rule": "key"},
    });
    let unknown = || Reply::Error(400, body.clone());
    fake.state().grants.extend([unknown(), unknown()]);
    let (code, stdout, stderr) = output(run(&fake, &[], &["echo", "ran"]));
    assert_eq!((code, stdout.as_str()), (0, "ran\n"), "{stderr}");
    assert_eq!(fake.grants().len(), 3);
    // Who does not wait is refused at once.
    fake.state().grants.push_back(unknown());
    let (code, _, stderr) = output(run(&fake, &["--wait", "0s"], &["true"]));
    assert_eq!(code, 126, "{stderr}");
    assert!(stderr.contains("rule `key`"), "{stderr}");
}

#[test]
fn a_server_that_is_down_is_waited_for() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = reserved.local_addr().unwrap().port();
    drop(reserved);
    let mut command = dayfly();
    command
        .args(["run", "--", "true"])
        .env("DAYFLY_SERVER", format!("http://127.0.0.1:{port}/acme"))
        .env("DAYFLY_ID_TOKEN", crate::fake::platform_jwt(&json!({})));
    let running = Running::start(command);
    running.wait_for("the server does not answer, waiting up to 2m");
    let fake = Fake::on(std::net::TcpListener::bind(("127.0.0.1", port)).unwrap());
    let (code, _, stderr) = running.end();
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(fake.ends(), ["completed"]);
}

#[test]
fn a_server_that_stays_down_is_our_failure() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = reserved.local_addr().unwrap().port();
    drop(reserved);
    let mut command = dayfly();
    command
        .args(["run", "--wait", "0s", "--", "echo", "ran"])
        .env("DAYFLY_SERVER", format!("http://127.0.0.1:{port}/acme"))
        .env("DAYFLY_ID_TOKEN", crate::fake::platform_jwt(&json!({})));
    let (code, stdout, stderr) = output(command);
    assert_eq!((code, stdout.as_str()), (125, ""), "{stderr}");
}

#[test]
fn a_refusal_is_explained() {
    let fake = Fake::start();
    fake.state().grants.push_back(Reply::Error(
        400,
        json!({
            "error": "invalid_grant",
            "error_description": "a claim differs from what the workload demands",
            "refusal": "ref_01jbqz5x3k8r9m2n4p6q7s8t9v",
            "refused": {"stage": "match", "rule": "claim_mismatch", "field": "ref", "got": "refs/heads/x\u{1b}[2J"},
        }),
    ));
    let (code, stdout, stderr) = output(run(&fake, &[], &["echo", "ran"]));
    assert_eq!((code, stdout.as_str()), (126, ""), "{stderr}");
    for part in [
        "refused: `invalid_grant`: `a claim differs",
        "stage `match`, rule `claim_mismatch`, field `ref`, got `refs/heads/x\\u{1b}[2J`",
        "dayfly why ref_01jbqz5x3k8r9m2n4p6q7s8t9v",
    ] {
        assert!(stderr.contains(part), "{part} not in: {stderr}");
    }
    assert_eq!(fake.grants().len(), 1, "a refusal is not repeated");
    assert!(fake.ends().is_empty());
}

#[test]
fn another_resource_is_got_by_the_runs_own_key() {
    let fake = Fake::start();
    let options = ["--resource", "artifacts", "--resource", "https://x.example"];
    let (code, _, stderr) = output(run(&fake, &options, &["true"]));
    assert_eq!(code, 0, "{stderr}");
    let [first, second] = &fake.grants()[..] else {
        panic!("one token for each resource: {stderr}");
    };
    assert_eq!(second.form["grant_type"], "client_credentials");
    assert_eq!(second.form["resource"], "https://x.example");
    assert!(second.form.contains_key("client_assertion"));
    assert!(!second.form.contains_key("assertion"));
    assert_eq!(first.jkt, second.jkt);
}

#[test]
fn a_refused_resource_ends_the_task_before_the_command() {
    let fake = Fake::start();
    let options = ["--resource", "artifacts", "--proxy", "other"];
    {
        let mut state = fake.state();
        let first = json!({
            "access_token": "issued-token-0", "token_type": "DPoP", "expires_in": 300,
            "task": TASK, "client_id": CLIENT, "task_expires_at": 1,
        });
        state.grants.push_back(Reply::Good(first));
        let refused = json!({"error": "invalid_target", "refused": {"rule": "target_not_granted"}});
        state.grants.push_back(Reply::Error(400, refused));
    }
    let (code, stdout, stderr) = output(run(&fake, &options, &["echo", "ran"]));
    assert_eq!((code, stdout.as_str()), (126, ""), "{stderr}");
    assert!(stderr.contains("target_not_granted"), "{stderr}");
}

#[test]
fn wrong_use_is_our_failure_and_asks_nobody() {
    let fake = Fake::start();
    for options in [
        &["--resource"][..],
        &["--for", "soon"],
        &["--access", "1"],
        &["--env", "T"],
        &["--observe"],
        &["--proxy", "token"],
        &["--resource", "unknown"],
    ] {
        let (code, _, stderr) = output(run(&fake, options, &["true"]));
        assert_eq!(code, 125, "{options:?}: {stderr}");
    }
    let mut no_server = in_job(dayfly(), &fake);
    no_server
        .env_remove("DAYFLY_SERVER")
        .args(["run", "--", "true"]);
    assert_eq!(output(no_server).0, 125);
    let mut no_proof = run(&fake, &[], &["true"]);
    no_proof.env_remove("ACTIONS_ID_TOKEN_REQUEST_TOKEN");
    let (code, _, stderr) = output(no_proof);
    assert_eq!(code, 125, "{stderr}");
    assert!(stderr.contains("found no platform token"), "{stderr}");
    assert!(fake.grants().is_empty());
}

#[test]
fn proofs_come_from_a_variable_or_a_file_as_well() {
    let fake = Fake::start();
    let token = crate::fake::platform_jwt(&json!({"sub": "v"}));
    let mut command = run(&fake, &[], &["true"]);
    command
        .env_remove("ACTIONS_ID_TOKEN_REQUEST_URL")
        .env("DAYFLY_ID_TOKEN", &token);
    assert_eq!(output(command).0, 0);
    assert_eq!(fake.grants()[0].form["assertion"], token);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let token = crate::fake::platform_jwt(&json!({"sub": "f"}));
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let mut command = run(&fake, &[], &["true"]);
    command
        .env_remove("ACTIONS_ID_TOKEN_REQUEST_URL")
        .env("DAYFLY_ID_TOKEN_FILE", &file);
    assert_eq!(output(command).0, 0);
    assert_eq!(fake.grants()[1].form["assertion"], token);
}

#[test]
fn a_server_on_this_machine_needs_nobodys_certificates_and_no_proxy() {
    let fake = Fake::start();
    let mut command = run(&fake, &[], &["true"]);
    command
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent")
        .env("http_proxy", "http://127.0.0.1:9")
        .env("HTTPS_PROXY", "http://127.0.0.1:9");
    let (code, _, stderr) = output(command);
    assert_eq!(code, 0, "{stderr}");
}
