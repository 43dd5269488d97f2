//! Decisions about helpers: by what was handed to them, for as long as everybody above them lives.

use serde_json::{Value, json};

use super::decisions::{asks, subject};
use super::delegation::part;
use super::job::{Job, new_key};
use super::world::World;

fn artifact(id: &str, bytes: u64) -> Value {
    json!({ "type": "artifact", "id": id, "properties": { "bytes": bytes, "region": "eu" } })
}

impl World {
    async fn may_read(&self, job: &Job, id: &str, bytes: u64) -> String {
        let asked = asks(subject(self, job), "read", artifact(id, bytes));
        self.may(&asked).await
    }
}

#[tokio::test]
async fn a_helper_may_use_what_it_was_handed_until_its_parent_ends() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let child = world.child(&root, &part("octo/a")).await;
    assert_eq!(world.may_read(&root, "octo/b", 100).await, "true");
    assert_eq!(world.may_read(&child, "octo/a", 10).await, "true");
    assert_eq!(world.may_read(&child, "octo/a", 11).await, "access");
    assert_eq!(world.may_read(&child, "octo/b", 10).await, "access");
    let publish = asks(subject(&world, &child), "publish", artifact("octo/a", 10));
    assert_eq!(world.may(&publish).await, "access");
    // It shows its own key, and not its parent's.
    let stolen = Job {
        key: root.key.clone(),
        ..child.clone()
    };
    assert_eq!(world.may_read(&stolen, "octo/a", 10).await, "key_proof");
    assert_eq!(world.end(&root).await.status, 200);
    assert_eq!(world.may_read(&child, "octo/a", 10).await, "inactive");
}

#[tokio::test]
async fn a_helper_of_another_workload_is_bounded_by_that_one_too() {
    let world = World::of_agents().await;
    let root = world.agent(1).await;
    let reply = world.scanner(&root, 2, &part("octo/a")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let token = reply.str("access_token").to_owned();
    // The key that it came in by is not told: nobody else may use the token.
    let scanner = Job {
        key: new_key(),
        token,
        ..root.clone()
    };
    assert_eq!(world.may_read(&scanner, "octo/a", 10).await, "key_proof");
    let scan = "scan".parse().unwrap();
    let stopped = dayfly_server::app::Contained::Workload(scan);
    let by = dayfly_server::app::Actor::Local { uid: 7 };
    let tenant = world.tenant();
    let done = world.app.contain(&tenant, &stopped, &by, "a test").await;
    assert!(done.is_ok());
    assert_eq!(world.may_read(&scanner, "octo/a", 10).await, "inactive");
    assert_eq!(world.may_read(&root, "octo/a", 10).await, "true");
}
