//! What a command can ask for at `$DAYFLY_TOKEN_URL`, and what nobody else can.

use axum::http::Method;
use serde_json::Value;

use crate::fake::{Fake, Reply, verify};
use crate::harness::{output, script};

/// Prints the status of each request and the body of the last.
fn ask(fake: &Fake, curl: &str) -> (String, String) {
    let ask = format!("curl -sS -w '\\n%{{http_code}}' {curl}");
    let (code, stdout, stderr) = output(script(fake, &["--resource", "artifacts"], &ask));
    assert_eq!(code, 0, "{stderr}");
    let (body, status) = stdout.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

const SECRET: &str = r#"-H "Authorization: Bearer $DAYFLY_TOKEN_SECRET""#;

#[test]
fn a_token_is_given_to_whoever_shows_the_secret() {
    let fake = Fake::start();
    let (status, body) = ask(&fake, &format!("{SECRET} $DAYFLY_TOKEN_URL"));
    assert_eq!(status, "200");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["access_token"], "issued-token-1");
    assert_eq!(answer["token_type"], "DPoP");
    assert_eq!(answer["scope"], "artifacts:read");
    let left = answer["expires_in"].as_u64().unwrap();
    assert!((200..=300).contains(&left), "{left}");
}

#[test]
fn tokens_are_kept_by_resource_under_its_name_and_its_url() {
    let fake = Fake::start();
    let named = format!("$DAYFLY_TOKEN_URL?resource={}", fake.resource());
    let curl = format!(
        "{SECRET} \"$DAYFLY_TOKEN_URL?resource=artifacts\" \"{named}\" \"$DAYFLY_TOKEN_URL?resource=other\" \"$DAYFLY_TOKEN_URL?resource=other\""
    );
    let (status, _) = ask(&fake, &curl);
    assert_eq!(status, "200");
    let resources: Vec<String> = fake
        .grants()
        .iter()
        .map(|call| call.form["resource"].clone())
        .collect();
    assert_eq!(resources, [fake.resource(), "https://other.example".into()]);
}

#[test]
fn nobody_else_gets_a_token() {
    let fake = Fake::start();
    let port = "$(echo $DAYFLY_TOKEN_URL | cut -d: -f3 | cut -d/ -f1)";
    for (curl, wanted) in [
        ("$DAYFLY_TOKEN_URL", "401"),
        ("-H 'Authorization: Bearer x' $DAYFLY_TOKEN_URL", "401"),
        (
            r#"-H "Authorization: Basic $DAYFLY_TOKEN_SECRET" $DAYFLY_TOKEN_URL"#,
            "401",
        ),
        (
            &format!("{SECRET} -H 'Authorization: Bearer x' $DAYFLY_TOKEN_URL"),
            "401",
        ),
        (
            &format!("{SECRET} -H 'Host: evil.example' $DAYFLY_TOKEN_URL"),
            "421",
        ),
        (
            &format!("{SECRET} -H \"Host: evil.example:{port}\" $DAYFLY_TOKEN_URL"),
            "421",
        ),
        (
            &format!("{SECRET} -H 'Host: 127.0.0.1' $DAYFLY_TOKEN_URL"),
            "421",
        ),
        (
            &format!("{SECRET} --request-target http://evil.example/token $DAYFLY_TOKEN_URL"),
            "421",
        ),
        (
            &format!("{SECRET} -H \"Host: localhost:{port}\" $DAYFLY_TOKEN_URL"),
            "200",
        ),
        (&format!("{SECRET} -X DELETE $DAYFLY_TOKEN_URL"), "405"),
        (&format!("{SECRET} $DAYFLY_TOKEN_URL/x"), "404"),
        (&format!("{SECRET} $DAYFLY_TOKEN_URL?x=1"), "400"),
        (
            &format!("{SECRET} '$DAYFLY_TOKEN_URL?resource=a&resource=b'").replace('\'', "\""),
            "400",
        ),
    ] {
        let (status, body) = ask(&fake, curl);
        assert_eq!(status, wanted, "{curl}: {body}");
    }
}

#[test]
fn a_refusal_is_passed_on() {
    let fake = Fake::start();
    let refused = serde_json::json!({
        "error": "invalid_target", "refusal": "ref_1", "refused": {"rule": "target_unknown"},
    });
    let curl = format!("{SECRET} \"$DAYFLY_TOKEN_URL?resource=https://no.example\"");
    {
        let mut state = fake.state();
        let first = serde_json::json!({
            "access_token": "issued-token-0", "token_type": "DPoP", "expires_in": 300,
            "task": crate::fake::TASK, "client_id": crate::fake::CLIENT, "task_expires_at": 1,
        });
        state.grants.push_back(Reply::Good(first));
        state.grants.push_back(Reply::Error(400, refused.clone()));
    }
    let (status, body) = ask(&fake, &curl);
    assert_eq!(status, "403");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), refused);
}

#[test]
fn a_request_is_signed() {
    let fake = Fake::start();
    let body = r#"{"resource":"artifacts","method":"PUT","url":"https://artifacts.example/a?q=1","nonce":"n7"}"#;
    let (status, body) = ask(&fake, &format!("{SECRET} -d '{body}' $DAYFLY_TOKEN_URL"));
    assert_eq!(status, "200", "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let header = |name: &str| answer["headers"][name].as_str().unwrap().to_owned();
    assert_eq!(header("Authorization"), "DPoP issued-token-1");
    let proof = verify(
        "https://artifacts.example",
        &Method::PUT,
        "/a",
        &header("DPoP"),
        Some("issued-token-1"),
    );
    let proof = proof.unwrap();
    assert_eq!(proof.nonce(), Some("n7"));
    assert_eq!(Some(proof.jkt().to_string()), fake.grants()[0].jkt);
}

#[test]
fn what_cannot_be_signed_is_refused() {
    let fake = Fake::start();
    for body in [
        "",
        "[]",
        "{}",
        r#"{"method":"GET"}"#,
        r#"{"method":"GET","url":"/x"}"#,
        r#"{"method":"G T","url":"https://a.example"}"#,
        r#"{"method":"GET","url":"ftp://a.example"}"#,
        r#"{"method":"GET","url":"https://a.example","more":1}"#,
    ] {
        let (status, _) = ask(
            &fake,
            &format!("{SECRET} --data-binary '{body}' $DAYFLY_TOKEN_URL"),
        );
        assert_eq!(status, "400", "{body}");
    }
    let long = format!(
        "head -c 70000 /dev/zero | curl -s -o /dev/null -w '%{{http_code}}' {SECRET} --data-binary @- $DAYFLY_TOKEN_URL"
    );
    let (_, stdout, _) = output(script(&fake, &[], &long));
    assert_eq!(stdout, "400");
}

#[test]
fn the_place_is_gone_when_the_command_has_ended() {
    let fake = Fake::start();
    // The background shell outlives the command and tries when the end has been taken.
    let late = "(while [ ! -e \"$MARK\" ]; do sleep 0.05; done; curl -s -o /dev/null $DAYFLY_TOKEN_URL; echo $? > \"$RESULT\") >/dev/null 2>&1 & exit 0";
    let folder = tempfile::tempdir().unwrap();
    let (mark, result) = (folder.path().join("mark"), folder.path().join("result"));
    let mut command = script(&fake, &[], late);
    command.env("MARK", &mark).env("RESULT", &result);
    let (code, _, stderr) = output(command);
    assert_eq!(code, 0, "{stderr}");
    std::fs::write(&mark, "").unwrap();
    let told = loop {
        match std::fs::read_to_string(&result) {
            Ok(told) if told.ends_with('\n') => break told,
            _ => std::thread::yield_now(),
        }
    };
    assert_eq!(told, "7\n", "curl finds nobody to connect to");
}
