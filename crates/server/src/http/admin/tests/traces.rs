//! Every kind of key through the admin face, for a client that came into a task by a proof of its own.

use dayfly_domain::{Cause, ClientId, CredentialId, TaskId};

use super::*;
use crate::record::tests::digest;

/// The number that all of the child's digests are made from.
const CHILD: u8 = 90;

/// Everything that names the child, and not its task.
fn keys_of_the_child(task: TaskId) -> Vec<String> {
    let client = ClientId { task, number: 2 };
    let credential = CredentialId { client, number: 1 };
    let instance = "project_id=20,pipeline_id=574,job_id=302";
    [
        client.to_string(),
        credential.to_string(),
        format!("token:{}", digest(CHILD)),
        format!("proof:{}", digest(CHILD + 2)),
        digest(CHILD + 2).to_string(),
        format!("key:{}", digest(100 + CHILD)),
        digest(100 + CHILD).to_string(),
        "workload:scan".to_owned(),
        "scan".to_owned(),
        "owner:team-data".to_owned(),
        "team-data".to_owned(),
        "issuer:gitlab".to_owned(),
        "gitlab".to_owned(),
        "subject:gitlab:project:20".to_owned(),
        format!("instance:{instance}"),
        instance.to_owned(),
        "run:574".to_owned(),
        "20/574~1a".to_owned(),
        "run:574/a".to_owned(),
        "302".to_owned(),
        "https://gitlab.example/a/b/-/jobs/302".to_owned(),
        "https://gitlab.example/a/b/-/pipelines/574".to_owned(),
    ]
    .into()
}

#[tokio::test]
async fn a_child_with_a_proof_of_its_own_is_found_by_each_kind_of_key() {
    let mut served = Served::start().await;
    let task = served.hand.start(at(3, 0, 0), &Spec::default());
    served.hand.delegate(at(3, 1, 0), task, CHILD);
    let keys = keys_of_the_child(task);
    let verdict = async |served: &Served, key: &str| {
        let (status, trace) = served.get(&format!("/admin/acme/trace?key={key}")).await;
        assert_eq!(status, 200, "{key}: {trace}");
        let line = trace["verdict"]["line"].as_str().unwrap().to_owned();
        assert_eq!(trace["tasks"][0]["task"], task.to_string(), "{key}: {line}");
        assert_eq!(trace["tasks"].as_array().unwrap().len(), 1, "{key}");
        line
    };
    // Nothing of it is of the task, which its own keys name.
    let of_task = ["release", "team-platform", "github", "artifacts", "77"];
    for key in keys.iter().map(String::as_str).chain(of_task) {
        let line = verdict(&served, key).await;
        assert!(line.starts_with("LIVE until "), "{key}: {line}");
    }
    served
        .hand
        .end_client(at(3, 2, 0), task, 2, Cause::Operator);
    for key in &keys {
        let line = verdict(&served, key).await;
        assert!(
            line.starts_with("GONE 03:02:00 (operator); "),
            "{key}: {line}"
        );
    }
    for key in of_task {
        let line = verdict(&served, key).await;
        assert!(line.starts_with("LIVE until "), "{key}: {line}");
    }
    // Once the task has ended too, each keeps its own end.
    served.hand.end(at(3, 3, 0), task, Cause::Completed, None);
    for key in &keys {
        let line = verdict(&served, key).await;
        assert!(
            line.starts_with("GONE 03:02:00 (operator); "),
            "{key}: {line}"
        );
    }
    for key in of_task {
        let line = verdict(&served, key).await;
        assert!(
            line.starts_with("GONE 03:03:00 (completed); "),
            "{key}: {line}"
        );
    }
}
