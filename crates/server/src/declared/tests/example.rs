//! The commented example of the documentation, in full.

use super::{Folder, POLICY};

const EXAMPLE: &str = r#"dpop_nonce = "optional"
[issuer.github]
kind = "github"
url  = "https://token.actions.githubusercontent.com"
audience = "http://127.0.0.1:8440/acme"
jwks = { file = "github-jwks.json" }

[owner.team-platform]
name    = "Platform team"
contact = "platform@example.com"
members = ["group:platform"]

[resource.artifacts]
url = "https://artifacts.example"
secret_file = "artifacts.secret"
signing = "ES256"

[workload.release]
owner   = "team-platform"
kind    = "ci"
purpose = "publish release artifacts"
match   = { issuer = "github", repository_id = "1296269", ref = ["refs/heads/main", "refs/tags/v*"] }
task    = "job"
repeat  = "refuse"
window  = "1h"
heartbeat = { mode = "auto", every = "30s", grace = "5m" }
token   = { ttl = "5m", binding = "required" }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read"],            identifier = "octo-repo/*", scope = "artifacts:read" },
  { resource = "artifacts", type = "artifact", actions = ["read", "publish"], identifier = "octo-repo/*", scope = "artifacts:publish" },
]
limits   = { open = 200, starts_per_hour = 2000 }
approval = "none"
"#;

#[test]
fn loads_without_a_warning_of_its_own() {
    let folder = Folder::new();
    let (declared, warnings) = folder.load(&[("tenant.toml", EXAMPLE), POLICY]).unwrap();
    assert_eq!(folder.lines(&warnings), "");
    let release = "release".parse().unwrap();
    let declared_release = &declared.workloads[&release];
    assert_eq!(declared_release.unfinished, None);
    assert_eq!(declared_release.workload.access.len(), 2);
    assert_eq!(declared.workloads_of(&"github".parse().unwrap()).count(), 1);
    assert_eq!(
        declared
            .catalog
            .by_url("https://artifacts.example/")
            .unwrap()
            .name
            .as_str(),
        "artifacts"
    );
}

#[test]
fn splits_over_files() {
    let (first, second) = EXAMPLE.split_at(EXAMPLE.find("[resource").unwrap());
    let whole = Folder::new().load(&[("tenant.toml", EXAMPLE)]).unwrap().0;
    let split = Folder::new()
        .load(&[("a.toml", second), ("b.toml", first)])
        .unwrap()
        .0;
    assert_eq!(split.workloads, whole.workloads);
    assert_eq!(split.owners, whole.owners);
    assert_eq!(split.catalog, whole.catalog);
}

#[test]
fn delegation_is_read() {
    let text = EXAMPLE.replace(
        "limits ",
        "delegation = { depth = 2, clients = 16, to = [\"self\"] }\nlimits ",
    );
    let declared = Folder::new().load(&[("tenant.toml", &text)]).unwrap().0;
    let release: dayfly_domain::Name = "release".parse().unwrap();
    let workload = &declared.workloads[&release].workload;
    assert_eq!(
        workload.delegation,
        Some(dayfly_domain::Delegation {
            depth: 2,
            clients: 16,
            to: vec![release],
            actor: dayfly_domain::Actor::Optional,
        })
    );
}
