//! Runs that export a bearer token.

use serde_json::{Value, json};

use crate::fake::{Fake, HEAD, Reply, TASK, platform_jwt};
use crate::harness::{Running, output, run, script};

#[test]
fn a_bearer_token_is_exported_and_revoked_at_the_end() {
    let fake = Fake::start();
    let (code, stdout, stderr) = output(script(
        &fake,
        &["--env", "ARTIFACTS_TOKEN=artifacts"],
        "echo $ARTIFACTS_TOKEN",
    ));
    assert_eq!((code, stdout.as_str()), (0, "issued-token-1\n"), "{stderr}");
    assert!(
        stderr.contains("warning: ARTIFACTS_TOKEN holds a bearer token"),
        "{stderr}"
    );
    assert_eq!(fake.grants()[0].jkt, None);
    let revoked = fake.calls("/acme/revoke");
    assert_eq!(revoked.len(), 1);
    assert_eq!(revoked[0].form["token"], "issued-token-1");
    let head = Value::from(HEAD).to_string();
    let last = format!("dayfly: {TASK} ended `revoked`; head {head}");
    assert_eq!(stderr.lines().last().unwrap(), last);
}

#[test]
fn another_token_needs_another_proof_and_the_newest_is_revoked() {
    let fake = Fake::start();
    let options = ["--env", "T=artifacts", "--env", "U=other"];
    let (code, stdout, stderr) = output(script(&fake, &options, "echo $T $U"));
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stdout, "issued-token-1 issued-token-2\n");
    let grants = fake.grants();
    assert_ne!(grants[0].form["assertion"], grants[1].form["assertion"]);
    assert_eq!(
        fake.calls("/acme/revoke")[0].form["token"],
        "issued-token-2"
    );
}

#[test]
fn a_lost_answer_is_asked_for_with_another_proof() {
    let fake = Fake::start();
    fake.state().grants.push_back(Reply::Lost);
    let (code, _, stderr) = output(run(&fake, &["--env", "T=artifacts"], &["true"]));
    assert_eq!(code, 0, "{stderr}");
    let grants = fake.grants();
    assert_ne!(grants[0].form["assertion"], grants[1].form["assertion"]);
}

#[test]
fn a_run_that_may_not_export_says_why() {
    let fake = Fake::start();
    let refused = json!({
        "error": "invalid_dpop_proof",
        "refusal": "ref_1",
        "refused": {"stage": "binding", "rule": "binding_required"},
    });
    fake.state().grants.push_back(Reply::Error(400, refused));
    let (code, stdout, stderr) = output(run(&fake, &["--env", "T=artifacts"], &["echo", "ran"]));
    assert_eq!((code, stdout.as_str()), (126, ""), "{stderr}");
    assert!(stderr.contains("binding = \"optional\""), "{stderr}");
}

#[test]
fn it_beats_with_its_bearer_token_only_while_it_can_go_on() {
    let fake = Fake::start();
    let options = ["--env", "T=artifacts"];
    let running = Running::start(run(&fake, &options, &["cat"]));
    fake.wait_for("a beat", |state| {
        state
            .calls
            .iter()
            .any(|call| call.path.ends_with("/heartbeat"))
    });
    assert_eq!(running.end().0, 0);
    assert_eq!(
        fake.beats()[0].authorization.as_deref(),
        Some("Bearer issued-token-1")
    );

    let fake = Fake::start();
    let mut command = run(&fake, &options, &["true"]);
    command
        .env_remove("ACTIONS_ID_TOKEN_REQUEST_URL")
        .env("DAYFLY_ID_TOKEN", platform_jwt(&json!({})));
    let (code, _, stderr) = output(command);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("are not renewed"), "{stderr}");
    assert!(fake.beats().is_empty());
}

#[test]
fn the_proxy_adds_a_bearer_token_and_nothing_is_signed() {
    let fake = Fake::start();
    let options = ["--env", "T=artifacts", "--proxy", "artifacts"];
    let both = "curl -sS $DAYFLY_ARTIFACTS_URL/x; curl -sS -o /dev/null -w '%{http_code}' -H \"Authorization: Bearer $DAYFLY_TOKEN_SECRET\" -d '{\"method\":\"GET\",\"url\":\"https://a.example\"}' $DAYFLY_TOKEN_URL";
    let (code, stdout, stderr) = output(script(&fake, &options, both));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains(r#""scheme":"Bearer""#), "{stdout}");
    assert!(stdout.ends_with("400"), "{stdout}");
}
