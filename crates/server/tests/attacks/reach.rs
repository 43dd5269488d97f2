//! Who can reach a resource now, after less may be reached there than a task was granted.

use dayfly_domain::access::Field;
use dayfly_server::config;
use dayfly_server::declared::{Declared, Source, SourceFile, TenantContext};
use dayfly_server::record::{ReachView, reach};
use serde_json::json;

use super::world::{ARTIFACTS, PUBLIC, TENANT, World, acme};

impl World {
    /// Who can reach the artifacts, were this declared.
    fn reach_under(&self, tenant: &str) -> ReachView {
        let file = SourceFile {
            name: "tenant.toml".to_owned(),
            text: tenant.to_owned(),
        };
        let source = Source::new(&self.folder.path().join("acme"), vec![file]);
        let context = TenantContext {
            issuer: format!("{PUBLIC}/acme"),
            bounds: config::Bounds::default(),
            operators: None,
        };
        let (declared, _) = Declared::load(&source, &context).unwrap();
        let (now, page) = (self.app.now(), (None, 10));
        let view = reach(&*self.store, &acme(), &declared, ("artifacts", now), page);
        view.unwrap().unwrap()
    }
}

/// The state with another ceiling of `release` over the artifacts.
fn lowered(from: &str, to: &str) -> String {
    let text = TENANT.replacen(from, to, 1);
    assert_ne!(text, TENANT, "{from}");
    text
}

#[tokio::test]
async fn a_client_of_which_the_ceiling_holds_a_part_can_reach_that_part() {
    let world = World::new().await;
    let job = world.job(1).await;
    // Nothing issued under the former ceiling lives on.
    world.wait(600);
    let whole = world.reach_under(TENANT);
    assert_eq!((whole.open, whole.tasks[0].clients.len()), (1, 1));
    for (from, to, field, left) in [
        ("[\"read\", \"publish\"]", "[\"read\"]", "actions", "read"),
        (
            "identifier = \"octo/*\"",
            "identifier = \"octo/app\"",
            "identifier",
            "octo/app",
        ),
        (
            "identifier = \"octo/*\"",
            "identifier = [\"oct*/a*\", \"x/*\"]",
            "identifier",
            "octo/a*",
        ),
        ("bytes = 100", "bytes = 50", "bytes", "at most 50"),
        ("bytes = 100", "bytes = 500", "bytes", "at most 100"),
        (
            "region = [\"eu\", \"us\"]",
            "region = [\"us\", \"asia\"]",
            "region",
            "us",
        ),
    ] {
        let view = world.reach_under(&lowered(from, to));
        assert_eq!((view.open, view.clients), (1, 1), "{to}");
        assert_eq!(view.tasks[0].task.to_string(), job.task);
        let access = &view.tasks[0].clients[0].access;
        assert_eq!(access[0].fields[field].to_string(), left, "{to}");
    }
    // Nothing of it is left, and nothing that a field more or less would name.
    for (from, to) in [
        ("[\"read\", \"publish\"]", "[\"list\"]"),
        ("identifier = \"octo/*\"", "identifier = \"other/*\""),
        ("identifier = \"octo/*\"", "identifier = \"octo/a/*\""),
        ("region = [\"eu\", \"us\"]", "region = \"asia\""),
        ("bytes = 100, ", ""),
    ] {
        let view = world.reach_under(&lowered(from, to));
        assert_eq!((view.open, view.tasks.len()), (0, 0), "{to}");
    }
    // A narrower request is granted where reach says so, and nowhere else.
    let detail = json!([{
        "type": "artifact", "locations": [ARTIFACTS], "actions": ["read"],
        "identifier": "octo/app", "bytes": 10, "region": "eu",
    }]);
    let detail = detail.to_string();
    let renewed = world
        .renew(&job, &[("authorization_details", &detail)])
        .await;
    assert_eq!(renewed.status, 200, "{}", renewed.text);
    // What was issued under the former ceiling lives on to its expiry.
    let view = world.reach_under(&lowered(
        "identifier = \"octo/*\"",
        "identifier = \"other/*\"",
    ));
    assert_eq!(
        (view.open, view.tasks[0].clients[0].credentials.len()),
        (1, 1)
    );
    assert!(matches!(
        view.tasks[0].clients[0].access[0].fields["actions"],
        Field::Set(_)
    ));
}
