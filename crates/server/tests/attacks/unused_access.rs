//! What is granted and never used: counted while a server runs, found, kept over a restart, and over
//! once it is used or not granted any more.

use dayfly_domain::Time;
use dayfly_server::app::{Actor, ApplyRequest};
use dayfly_server::record::{Review, findings, in_force, review};
use serde_json::json;

use super::job::{claims, payload, signed};
use super::world::{ARTIFACTS, TENANT, World, acme, write_tenant};

const BY: Actor = Actor::Local { uid: 7 };
const DAY: u64 = 86_400;

/// A workload without keys, so that a use is shown by its token alone, at resources of which one
/// reports.
fn reporting() -> String {
    let secret = "secret_file = \"artifacts.secret\"\n";
    TENANT.replace(secret, &format!("{secret}reports = true\n"))
}

impl World {
    async fn looks(&self, seconds: u64) {
        self.wait(seconds);
        self.app.sweep().await;
        self.app.survey().await;
    }

    /// The details of findings of unused access, with the actions that are unused.
    fn unused(&self) -> Vec<String> {
        let open = findings(self.store.as_ref(), &acme(), false).unwrap();
        let open = open.findings.into_iter();
        open.filter(|view| view.what.kind() == "never_used")
            .map(|view| view.says)
            .collect()
    }

    /// A token of a run of the workload `legacy`, for all that it may.
    async fn legacy(&self, run: u64) -> String {
        let proof = signed(&claims(self, 3, run));
        let reply = self.ask(&proof, None, &[("resource", ARTIFACTS)]).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.str("access_token").to_owned()
    }

    async fn uses_it(&self, token: &str, action: &str) -> bool {
        use base64::Engine;
        let basic =
            base64::engine::general_purpose::STANDARD.encode("artifacts:secret+of+artifacts");
        let authorization = format!("Basic {basic}");
        let headers = [
            ("content-type", "application/json"),
            ("authorization", authorization.as_str()),
        ];
        let asked = json!({
            "subject": {
                "type": "credential",
                "id": payload(token)["jti"],
                "properties": { "token": token },
            },
            "action": { "name": action },
            "resource": { "type": "artifact", "id": "octo/a" },
        });
        let path = "/access/v1/evaluation";
        let reply = self.send("POST", path, &headers, asked.to_string()).await;
        reply.body["decision"].as_bool().unwrap()
    }

    fn reviewed(&self) -> Review {
        let state = in_force(self.store.as_ref(), &acme()).unwrap();
        let loaded = self.tenant().loaded();
        let owner = "team".parse().unwrap();
        let span = (Time::default(), Time::from_seconds(self.now() + 1));
        let declared = (loaded.declared.as_ref(), state);
        review(self.store.as_ref(), &acme(), declared, &owner, span)
            .unwrap()
            .unwrap()
    }

    async fn declares(&self, tenant: &str) {
        write_tenant(&self.folder.path().join("acme"), tenant);
        let request = ApplyRequest::default();
        let applied = self.app.apply(&self.tenant(), request, &BY, "a test").await;
        assert!(applied.unwrap().applied);
    }
}

#[tokio::test]
async fn what_is_granted_again_and_again_and_never_used_is_found_until_it_is_used() {
    let mut world = World::declared(&reporting()).await;
    world.looks(1).await;
    let mut read_by = String::new();
    for run in 1..=20 {
        read_by = world.legacy(run).await;
        if run == 10 {
            // What was counted is kept over a restart.
            world.looks(60).await;
            world = world.restarted().await;
        }
    }
    assert!(world.uses_it(&read_by, "read").await);
    assert!(!world.uses_it(&read_by, "delete").await);
    world.looks(60).await;
    assert_eq!(world.unused(), [""; 0]);
    world.looks(14 * DAY).await;
    let unused = world.unused();
    assert_eq!(unused.len(), 1, "{unused:?}");
    assert!(
        unused[0].starts_with("legacy was granted publish of artifact(identifier: octo/*) in 20 tasks since 2027-01-15,"),
        "{unused:?}"
    );
    let opened = |world: &World| {
        let leaves = world.leaves().into_iter();
        leaves
            .filter(|leaf| leaf["data"]["finding"] == "never_used")
            .map(|leaf| leaf["kind"].as_str().unwrap().to_owned())
            .collect::<Vec<String>>()
    };
    assert_eq!(opened(&world), ["finding.opened"]);
    // A review sets one beside the other.
    let reviewed = world.reviewed();
    let legacy = reviewed
        .workloads
        .iter()
        .find(|of| of.workload.as_str() == "legacy")
        .unwrap();
    let used = legacy.access[0].used.as_ref().unwrap();
    assert_eq!((legacy.access[0].granted, used.times), (20, 1));
    assert_eq!(used.never, ["publish"]);
    assert!(used.last.is_some());
    assert_eq!(legacy.access[1].used, None, "the queue reports nothing");
    let world = world.restarted().await;
    world.looks(60).await;
    assert_eq!(world.unused().len(), 1, "kept over a restart");
    let token = world.legacy(21).await;
    assert!(world.uses_it(&token, "publish").await);
    world.looks(60).await;
    assert_eq!(world.unused(), [""; 0]);
    assert_eq!(opened(&world), ["finding.opened", "finding.closed"]);
    assert_eq!(world.reviewed().workloads.len(), 3);
}

#[tokio::test]
async fn a_ceiling_that_is_narrowed_or_a_resource_that_reports_no_more_closes_it() {
    for narrows in [true, false] {
        let world = World::declared(&reporting()).await;
        world.looks(1).await;
        for run in 1..=20 {
            world.legacy(run).await;
        }
        world.looks(14 * DAY).await;
        let unused = world.unused();
        assert_eq!(unused.len(), 1, "{unused:?}");
        assert!(unused[0].contains("publish, read"), "{unused:?}");
        let other = if narrows {
            let wide = "actions = [\"read\", \"publish\"], identifier = \"octo/*\" },";
            reporting().replace(wide, &wide.replace(", \"publish\"", ""))
        } else {
            TENANT.to_owned()
        };
        world.declares(&other).await;
        world.looks(60).await;
        let left = world.unused();
        if narrows {
            assert!(
                left[0].starts_with("legacy was granted read of"),
                "{left:?}"
            );
        } else {
            assert_eq!(left, [""; 0]);
        }
    }
}
