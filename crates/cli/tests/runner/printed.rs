//! What `dayfly token` and `dayfly proof` print.

use serde_json::{Value, json};

use crate::fake::{Fake, platform_jwt};
use crate::harness::{dayfly, in_job, output, script};

fn token(fake: &Fake, options: &str) -> (u8, String, String) {
    let mut command = script(
        fake,
        &["--resource", "artifacts"],
        &format!("\"$DAYFLY\" token {options}"),
    );
    command.env("DAYFLY", env!("CARGO_BIN_EXE_dayfly"));
    output(command)
}

#[test]
fn a_token_is_printed_in_three_forms() {
    let fake = Fake::start();
    let (code, stdout, stderr) = token(&fake, "");
    assert_eq!((code, stdout.as_str()), (0, "issued-token-1\n"), "{stderr}");
    assert!(stderr.contains("bound to the run's key"), "{stderr}");
    let (_, stdout, _) = token(&fake, "--format header --resource artifacts");
    assert!(
        stdout.starts_with("Authorization: DPoP issued-token-"),
        "{stdout}"
    );
    let (_, stdout, _) = token(&fake, "--format json --resource other");
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(answer["token_type"], "DPoP");
}

#[test]
fn a_token_needs_a_run() {
    let mut command = dayfly();
    command.arg("token");
    let (code, stdout, stderr) = output(command);
    assert_eq!((code, stdout.as_str()), (125, ""));
    assert!(stderr.contains("not inside `dayfly run`"), "{stderr}");
    let mut command = dayfly();
    command
        .arg("token")
        .env("DAYFLY_TOKEN_URL", "http://192.0.2.1/token")
        .env("DAYFLY_TOKEN_SECRET", "x");
    let (code, _, stderr) = output(command);
    assert_eq!(code, 125);
    assert!(stderr.contains("off this machine"), "{stderr}");
}

#[test]
fn claims_are_printed_in_order_and_never_the_token() {
    let fake = Fake::start();
    let mut command = in_job(dayfly(), &fake);
    command.arg("proof");
    let (code, stdout, stderr) = output(command);
    assert_eq!(code, 0, "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines.is_sorted());
    assert!(lines.contains(&"ref = refs/heads/main"));
    assert!(lines.contains(&"run_attempt = 1"));
    assert!(lines.contains(&format!("aud = {}", fake.issuer()).as_str()));
    assert!(!stdout.contains("eyJ") && !stdout.contains("c2lnbmF0dXJl"));
    assert!(
        stderr.contains("accepts the proof, and it matches a workload; nothing was granted"),
        "{stderr}"
    );
    assert!(fake.state().tokens.is_empty(), "looking grants nothing");
    assert!(fake.ends().is_empty());
}

#[test]
fn claims_are_printed_as_json_for_the_audience_asked_for() {
    let fake = Fake::start();
    let mut command = in_job(dayfly(), &fake);
    command.args(["proof", "--json", "--audience", "https://a.example"]);
    let (_, stdout, _) = output(command);
    let claims: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(claims["aud"], "https://a.example");
    assert_eq!(claims["repository_id"], "1296269");
}

#[test]
fn claims_cannot_write_lines_of_their_own() {
    let mut command = dayfly();
    command
        .arg("proof")
        .env("DAYFLY_ID_TOKEN", platform_jwt(&json!({"a": "x\ny = z"})));
    let (code, stdout, stderr) = output(command);
    assert_eq!(
        (code, stdout.as_str()),
        (0, "a = x\\u{a}y = z\n"),
        "{stderr}"
    );
}

#[test]
fn without_a_proof_it_says_what_is_missing() {
    let mut command = dayfly();
    command.arg("proof");
    let (code, stdout, stderr) = output(command);
    assert_eq!((code, stdout.as_str()), (125, ""));
    assert!(stderr.contains("permissions: id-token: write"), "{stderr}");
}
