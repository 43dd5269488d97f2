//! Plain curl through the proxy.

use serde_json::Value;

use crate::fake::Fake;
use crate::harness::{Running, output, script};

fn through(fake: &Fake, curl: &str) -> String {
    let (code, stdout, stderr) = output(script(fake, &["--proxy", "artifacts"], curl));
    assert_eq!(code, 0, "{stderr}");
    stdout
}

fn told(stdout: &str) -> Value {
    serde_json::from_str(stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

#[test]
fn a_plain_request_gets_token_and_proof() {
    let fake = Fake::start();
    let stdout = through(
        &fake,
        "curl -sS -H 'X-Custom: kept' \"$DAYFLY_ARTIFACTS_URL/a/b%20c?q=1&r=%2F\"",
    );
    let got = told(&stdout);
    assert_eq!(got["method"], "GET");
    assert_eq!(got["path"], "/res/a/b%20c");
    assert_eq!(got["query"], "q=1&r=%2F");
    assert_eq!(got["custom"], "kept");
    assert_eq!(got["scheme"], "DPoP");
    let call = &fake.calls("/res/a/b%20c")[0];
    assert_eq!(call.authorization.as_deref(), Some("DPoP issued-token-1"));
    assert_eq!(call.jkt, fake.grants()[0].jkt);
}

#[test]
fn what_the_caller_sets_itself_is_dropped() {
    let fake = Fake::start();
    let stdout = through(
        &fake,
        "curl -sS -H 'Authorization: Bearer mine' -H 'DPoP: mine' -H 'Connection: X-Custom' -H 'X-Custom: hop' $DAYFLY_ARTIFACTS_URL",
    );
    assert_eq!(told(&stdout)["scheme"], "DPoP");
    assert_eq!(told(&stdout)["custom"], Value::Null);
    assert_eq!(told(&stdout)["path"], "/res/");
}

#[test]
fn a_nonce_is_answered_with_the_same_body() {
    let fake = Fake::start();
    fake.state().resource_nonce = Some("r1".to_owned());
    let twice = "for i in 1 2; do curl -sS -X PUT -d 'hello' $DAYFLY_ARTIFACTS_URL/x; done";
    let stdout = through(&fake, twice);
    let answers: Vec<Value> = serde_json::Deserializer::from_str(&stdout)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(answers.len(), 2);
    for answer in &answers {
        assert_eq!(answer["method"], "PUT");
        assert_eq!(answer["length"], 5);
    }
    let nonces: Vec<Option<String>> = fake
        .calls("/res/x")
        .into_iter()
        .map(|call| call.nonce)
        .collect();
    let known = Some("r1".to_owned());
    assert_eq!(nonces, [None, known.clone(), known]);
}

#[test]
fn a_long_body_streams_by() {
    let fake = Fake::start();
    let upload = "head -c 3000000 /dev/zero > $BIG; curl -sS -T $BIG $DAYFLY_ARTIFACTS_URL/big; head -c 3000000 /dev/zero | curl -sS -T - $DAYFLY_ARTIFACTS_URL/big";
    let folder = tempfile::tempdir().unwrap();
    let mut command = script(&fake, &["--proxy", "artifacts"], upload);
    command.env("BIG", folder.path().join("big"));
    let (code, stdout, stderr) = output(command);
    assert_eq!(code, 0, "{stderr}");
    for answer in serde_json::Deserializer::from_str(&stdout).into_iter::<Value>() {
        assert_eq!(answer.unwrap()["length"], 3_000_000);
    }
}

#[test]
fn an_answer_streams_back() {
    let fake = Fake::start();
    let slow = script(
        &fake,
        &["--proxy", "artifacts"],
        "curl -sSN $DAYFLY_ARTIFACTS_URL/slow",
    );
    let mut running = Running::start(slow);
    assert_eq!(running.line(), "first");
    fake.state().released = true;
    let (code, stdout, stderr) = running.end();
    assert_eq!((code, stdout.as_str()), (0, "second\n"), "{stderr}");
}

#[test]
fn a_redirect_is_the_callers_to_follow() {
    let fake = Fake::start();
    let stdout = through(
        &fake,
        "curl -sS -o /dev/null -w '%{http_code} %{redirect_url}' $DAYFLY_ARTIFACTS_URL/redirect",
    );
    assert_eq!(stdout, "302 https://elsewhere.example/");
}

#[test]
fn nothing_leads_elsewhere() {
    let fake = Fake::start();
    let status = "curl -s -o /dev/null -w '%{http_code}'";
    for (curl, wanted) in [
        ("--path-as-is $DAYFLY_ARTIFACTS_URL/../acme/token", "400"),
        (
            "--path-as-is $DAYFLY_ARTIFACTS_URL/%2e%2e/acme/token",
            "400",
        ),
        ("${DAYFLY_ARTIFACTS_URL%/*/}/wrong/x", "404"),
        ("-H 'Host: evil.example' $DAYFLY_ARTIFACTS_URL/x", "421"),
        (
            "--request-target http://evil.example/x $DAYFLY_ARTIFACTS_URL",
            "421",
        ),
        (
            "-X CONNECT --request-target evil.example:443 $DAYFLY_ARTIFACTS_URL",
            "421",
        ),
    ] {
        let stdout = through(&fake, &format!("{status} {curl}"));
        assert_eq!(stdout, wanted, "{curl}");
    }
    let state = fake.state();
    assert!(
        state
            .calls
            .iter()
            .all(|call| !call.path.starts_with("/res"))
    );
}

#[test]
fn a_resource_that_is_away_is_told_from_dayfly() {
    let fake = Fake::start();
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = format!("http://127.0.0.1:{}", reserved.local_addr().unwrap().port());
    drop(reserved);
    let curl = "curl -s -w ' %{http_code}' $(env | grep '^DAYFLY_HTTP.*_URL=' | cut -d= -f2-)";
    let (code, stdout, stderr) = output(script(&fake, &["--proxy", &away], curl));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.ends_with(" 502"), "{stdout}");
    assert!(stdout.contains("the resource does not answer"), "{stdout}");
}
