//! `dayfly policy` with the binary itself: files that hold, files that do not, and a request asked about.
#![expect(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn dayfly(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A folder as `dayfly init` writes it.
fn fresh() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(dayfly(folder.path(), &["init", "."]).status.code(), Some(0));
    folder
}

fn write(folder: &TempDir, name: &str, text: &str) {
    let policies = folder.path().join("tenants/main/policies");
    std::fs::write(policies.join(name), text).unwrap();
}

#[test]
fn files_are_checked_without_a_server() {
    let folder = fresh();
    let check = |words: &[&str]| {
        said(&dayfly(
            folder.path(),
            &[&["policy", "check"], words].concat(),
        ))
    };
    let (code, stdout, stderr) = check(&[]);
    assert_eq!(
        (code, stdout.as_str()),
        (Some(0), "1 policies hold\n"),
        "{stderr}"
    );
    assert_eq!(check(&["tenants/main"]).0, Some(0));
    assert_eq!(check(&["tenants/main/policies"]).0, Some(0));
    assert_eq!(check(&["nowhere"]).0, Some(1));

    write(
        &folder,
        "more.cedar",
        "forbid (principal == Dayfly::Workload::\"relase\", action, resource);\n",
    );
    let (code, _, stderr) = check(&[]);
    assert_eq!(code, Some(0));
    assert!(
        stderr.contains("warning: ") && stderr.contains("did you mean `release`?"),
        "{stderr}"
    );

    write(
        &folder,
        "more.cedar",
        "\nforbid (principal, action, resource)\nwhen { context.opentasks > 1 };\n",
    );
    let (code, _, stderr) = check(&["--config", "dayfly.toml"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("policies/more.cedar:3:8: "), "{stderr}");
    assert!(stderr.contains("did you mean `open_tasks`?"), "{stderr}");
    let (code, stdout, _) = check(&["--json"]);
    let found: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &found["holds"]), (Some(1), &Value::Bool(false)));
    assert_eq!(found["errors"].as_array().unwrap().len(), 1);
}

#[test]
fn a_request_that_nobody_made_is_explained() {
    let folder = fresh();
    write(
        &folder,
        "baseline.cedar",
        "@id(\"only-main\")\npermit (principal, action, resource)\nwhen { context.proof.hasTag(\"ref\") && context.proof.getTag(\"ref\") == \"refs/heads/main\" };\n",
    );
    let claims = folder.path().join("claims.json");
    let explain = |claim: &str, more: &[&str]| {
        std::fs::write(&claims, format!("{{\"ref\": \"{claim}\", \"run_id\": 7}}")).unwrap();
        let asked = [
            "policy",
            "explain",
            "--workload",
            "release",
            "--resource",
            "artifacts",
            "--claims",
            "claims.json",
        ];
        said(&dayfly(folder.path(), &[&asked, more].concat()))
    };
    let (code, stdout, stderr) = explain("refs/heads/main", &["--action", "start"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.starts_with("allow  start at artifacts\n"),
        "{stdout}"
    );
    assert!(stdout.contains("only-main"), "{stdout}");
    let (_, stdout, _) = explain("refs/heads/dev", &[]);
    assert!(stdout.starts_with("deny  issue at artifacts\n"), "{stdout}");
    assert!(
        stdout.contains("wanted refs/heads/main, got refs/heads/dev"),
        "{stdout}"
    );
    let (_, stdout, _) = explain("refs/heads/dev", &["--json"]);
    let found: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(found["decisions"][0]["nearest"][0]["claim"], "ref");

    let wrong = said(&dayfly(
        folder.path(),
        &[
            "policy",
            "explain",
            "--workload",
            "nobody",
            "--resource",
            "artifacts",
        ],
    ));
    assert_eq!(wrong.0, Some(1));
    assert!(
        wrong.2.contains("there is no workload `nobody`"),
        "{}",
        wrong.2
    );
    assert_eq!(
        dayfly(folder.path(), &["policy", "explain"]).status.code(),
        Some(2)
    );
}

/// Where a child would stand is a fact as well.
#[test]
fn a_hand_over_that_nobody_made_is_explained() {
    let folder = fresh();
    write(
        &folder,
        "deep.cedar",
        "@id(\"flat\") forbid (principal, action == Dayfly::Action::\"delegate\", resource)\nwhen { context.depth > 1 };\n",
    );
    let explain = |more: &[&str]| {
        let asked = [
            "policy",
            "explain",
            "--workload",
            "release",
            "--resource",
            "artifacts",
            "--action",
            "delegate",
        ];
        said(&dayfly(folder.path(), &[&asked, more].concat()))
    };
    let (code, stdout, stderr) = explain(&["--parent", "release", "--depth", "1"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.starts_with("allow  delegate at artifacts\n"),
        "{stdout}"
    );
    let (_, stdout, _) = explain(&["--parent", "release", "--depth", "2", "--json"]);
    let found: Value = serde_json::from_str(&stdout).unwrap();
    let decision = &found["decisions"][0];
    assert_eq!(decision["decision"], "deny", "{stdout}");
    assert_eq!(decision["policies"][0], "flat");
    assert_eq!(
        (&decision["parent"], &decision["depth"]),
        (&"release".into(), &2.into())
    );
    let (code, _, stderr) = explain(&[]);
    assert_eq!(code, Some(1), "a hand-over has a parent: {stderr}");
    let (code, _, stderr) = explain(&["--parent", "nobody"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("nobody"), "{stderr}");
}

#[test]
fn a_request_on_behalf_of_a_person_is_asked_about() {
    let folder = fresh();
    let tenant = folder.path().join("tenants/main");
    let file = tenant.join("tenant.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let header = "[workload.release]\n";
    assert!(text.contains(header), "{text}");
    let acting = format!("{header}subject = {{ from = [\"staff\"] }}\n");
    std::fs::write(&file, text.replacen(header, &acting, 1)).unwrap();
    let staff = "[issuer.staff]\nkind = \"oidc\"\nurl = \"https://idp.example\"\naudience = \"a\"\npeople = true\n";
    std::fs::write(tenant.join("people.toml"), staff).unwrap();
    write(
        &folder,
        "people.cedar",
        "forbid (principal, action, resource) unless { context has subject && context.subject.issuer == \"staff\" && context.subject.hasTag(\"team\") && context.subject.getTag(\"team\") == \"ops\" };\n",
    );
    let explain = |team: Option<&str>| {
        let mut asked = vec![
            "policy",
            "explain",
            "--workload",
            "release",
            "--resource",
            "artifacts",
        ];
        if let Some(team) = team {
            let claims = format!("{{\"sub\": \"mona\", \"team\": \"{team}\"}}");
            std::fs::write(folder.path().join("person.json"), claims).unwrap();
            asked.extend(["--subject", "staff", "--subject-claims", "person.json"]);
        }
        let (code, stdout, stderr) = said(&dayfly(folder.path(), &asked));
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    let allowed = explain(Some("ops"));
    assert!(allowed.starts_with("allow  issue"), "{allowed}");
    let elsewhere = explain(Some("sales"));
    assert!(elsewhere.starts_with("deny  issue"), "{elsewhere}");
    let alone = explain(None);
    assert!(alone.starts_with("deny  issue"), "{alone}");
    let asked = [
        "policy",
        "explain",
        "--workload",
        "release",
        "--resource",
        "artifacts",
        "--subject",
        "github",
    ];
    let (code, _, stderr) = said(&dayfly(folder.path(), &asked));
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("does not act for people of `github`"),
        "{stderr}"
    );
}
