//! `dayfly proof` in a job: the clause that fails, and that looking spends nothing.

use std::process::Command;

use crate::client::{Client, Outcome, platform_token_of};
use crate::stage::{Shared, Stage};

fn proof(stage: &Stage, token: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .arg("proof")
        .args(arguments)
        .env("DAYFLY_ID_TOKEN", token)
        .env_remove("ACTIONS_ID_TOKEN_REQUEST_URL")
        .current_dir(stage.folder())
        .output()
        .unwrap();
    (
        done.status.code(),
        String::from_utf8(done.stdout).unwrap(),
        String::from_utf8(done.stderr).unwrap(),
    )
}

fn of_repository(shared: &Shared, id: &str) -> String {
    platform_token_of(shared, 7, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proof_names_the_clause_and_spends_nothing() {
    let mut stage = Stage::new();
    stage.start().await;
    let shared = stage.shared();
    let server = ["--server", shared.issuer.as_str()];

    let stranger = of_repository(&shared, "5");
    let (code, claims, said) = proof(&stage, &stranger, &server);
    assert_eq!(code, Some(126), "{said}");
    assert!(claims.contains("repository_id = 5"), "{claims}");
    assert!(!claims.contains(&stranger) && !said.contains(&stranger));
    assert!(said.contains("repository_id"), "{said}");
    let (code, _, said) = proof(&stage, &stranger, &["--config", "dayfly.toml"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("workload release: does not match: repository_id wanted `1296269`, got `5`"),
        "{said}"
    );

    let own = of_repository(&shared, "1296269");
    let (code, _, said) = proof(&stage, &own, &server);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("it matches a workload; nothing was granted"),
        "{said}"
    );
    let (_, _, said) = proof(&stage, &own, &["--config", "dayfly.toml"]);
    assert!(said.contains("workload release: matches"), "{said}");
    // The very proof that was looked at opens its task.
    match Client::grant_by(&shared, own).await {
        Outcome::Answered(client) => assert!(client.introspect(&shared).await),
        Outcome::Lost => panic!("no answer"),
    }
}
