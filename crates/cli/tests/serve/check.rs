//! `dayfly config check`: what is wrong with place and exit code, before and while a server runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::stage::{Stage, TENANT, client};

fn check(stage: &Stage, arguments: &[&str]) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .args(["config", "check"])
        .args(arguments)
        .current_dir(stage.folder())
        .output()
        .unwrap();
    assert!(
        done.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    (done.status.code(), String::from_utf8(done.stdout).unwrap())
}

#[tokio::test]
async fn a_good_configuration_passes_before_and_while_it_is_served() {
    let mut stage = Stage::new();
    fs::set_permissions(
        stage.folder().join("tenants/acme/artifacts.secret"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let (code, said) = check(&stage, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("dayfly.key: is not there yet"), "{said}");
    // Looking makes nothing.
    assert!(!stage.folder().join("dayfly.key").exists());
    assert!(!stage.folder().join("data").exists());
    stage.start().await;
    let (code, said) = check(&stage, &["--json"]);
    assert_eq!(code, Some(0), "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["ok"], true);
    assert_eq!(said["errors"], serde_json::json!([]));
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_place() {
    let stage = Stage::configured("http", "lisen = 1\n", TENANT, client([]));
    let (code, said) = check(&stage, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(
        said,
        "error: dayfly.toml:6:1: unknown key `lisen`: did you mean `listen`?\n1 thing is wrong\n"
    );
    let (code, said) = check(&stage, &["--json"]);
    assert_eq!(code, Some(1));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["errors"][0]["line"], 6);
    assert_eq!(said["errors"][0]["nearest"], "listen");
    let (code, said) = check(&stage, &["--config", "nothing.toml"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("nothing.toml: cannot be read"), "{said}");
}

#[tokio::test]
async fn everything_that_a_start_would_trip_over_is_found_at_once() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = held.local_addr().unwrap();
    let lines = format!(
        "admin = \"{admin}\"\ntls = {{ cert = \"tls.crt\", key = \"tls.key\" }}\nkey_file = \"master.key\"\n"
    );
    let stage = Stage::configured("https", &lines, TENANT, client([]));
    let folder = stage.folder();
    fs::write(folder.join("tls.crt"), "no certificate").unwrap();
    fs::write(folder.join("tls.key"), "no key").unwrap();
    fs::write(folder.join("master.key"), "open to all").unwrap();
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(folder.join("master.key"), open.clone()).unwrap();
    fs::set_permissions(folder.join("tls.key"), open).unwrap();
    let tenant = folder.join("tenants/acme/tenant.toml");
    let declared = fs::read_to_string(&tenant).unwrap();
    fs::write(
        &tenant,
        declared.replace("kind    = \"ci\"", "kind    = \"cj\""),
    )
    .unwrap();
    let (code, said) = check(&stage, &[]);
    assert_eq!(code, Some(1));
    for wanted in [
        "tenants/acme/tenant.toml:22:1: `workload.release.kind` is `cj`",
        "has mode 0644: nobody but its owner may read it",
        "tls.crt` holds no certificate",
        "warning: ./tls.key: has mode 0644",
        "cannot be had: Address already in use",
        "4 things are wrong",
    ] {
        assert!(said.contains(wanted), "{wanted} is not in\n{said}");
    }
}

/// One proof that counts in two tenants is a mistake wherever declared state comes in.
#[tokio::test]
async fn no_two_tenants_accept_one_proof() {
    let with_audience = |audience: &str| {
        let issuer = format!("[issuer.github]\naudience = \"{audience}\"");
        TENANT.replace("[issuer.github]", &issuer)
    };
    let mut stage = Stage::configured("http", "", &with_audience("deploy"), client([]));
    let tenants = stage.folder().join("tenants");
    let mut copy = Command::new("cp");
    copy.args(["-r", "acme", "beta"]).current_dir(&tenants);
    assert!(copy.status().unwrap().success());
    let (code, said) = check(&stage, &[]);
    assert_eq!(code, Some(1));
    let told = "tenants/beta/tenant.toml:2:9: the issuer `github` accepts the audience `deploy`, and so does the issuer `github` of tenant `acme`";
    assert!(said.contains(told), "{said}");
    stage.spawn();
    assert!(!stage.gone().success());
    assert!(stage.log().contains("accepts the audience `deploy`"));
    // Mended, both are served; and an apply cannot bring it back.
    let beta = tenants.join("beta/tenant.toml");
    fs::write(&beta, with_audience("deploy-beta")).unwrap();
    let (code, said) = check(&stage, &[]);
    assert_eq!(code, Some(0), "{said}");
    stage.start().await;
    fs::write(&beta, with_audience("deploy")).unwrap();
    let apply = ["apply", "--tenant", "beta", "--reason", "the same again"];
    let (ok, said) = stage.operate(&apply);
    assert!(!ok && said.contains(told), "{said}");
}
