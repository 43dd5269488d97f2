//! Starts and stops of a real server: a stop that comes early, and a declared folder that was edited.

use nix::sys::signal::Signal;

use crate::client::{grant_form, new_key, platform_token_of, post_token};
use crate::stage::{Shared, Stage, TENANT};

const DIFFERS: &str = "its folder differs from the declared state in force";

/// Whoever sees the port open may stop the server in the same moment: it still answers what it
/// took, settles its database and says so.
#[test]
fn a_signal_as_soon_as_the_port_is_open_stops_the_server_gracefully() {
    let mut stage = Stage::new();
    for round in 0..10 {
        stage.spawn();
        stage.wait_for_port();
        let signal = if round % 2 == 0 {
            Signal::SIGTERM
        } else {
            Signal::SIGINT
        };
        let status = stage.stop_by(signal);
        assert!(status.success(), "{status}:\n{}", stage.log());
        let log = stage.folder().join("data/dayfly.db-wal");
        let left = std::fs::metadata(log).map_or(0, |log| log.len());
        assert_eq!(left, 0, "one file holds everything");
    }
    assert_eq!(stage.log().matches("stopping").count(), 10);
    stage.fsck();
}

/// Whether a job of this repository is granted a credential.
async fn granted(stage: &Shared, run: u64, repository: &str) -> bool {
    let proof = platform_token_of(stage, run, repository);
    match post_token(stage, &new_key(), &grant_form(&proof)).await {
        Some((200, _)) => true,
        Some((400, body)) => {
            assert_eq!(body["refused"]["rule"], "no_workload", "{body}");
            false
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_ignores_an_edited_folder_until_it_is_applied() {
    let mut stage = Stage::new();
    let shared = stage.shared();
    stage.start().await;
    assert!(granted(&shared, 1, "1296269").await && !granted(&shared, 2, "5").await);
    assert!(stage.stop_by(Signal::SIGTERM).success());
    assert!(!stage.log().contains(DIFFERS));

    let edited = TENANT.replace("1296269", "5");
    std::fs::write(stage.folder().join("tenants/acme/tenant.toml"), edited).unwrap();
    stage.start().await;
    assert_eq!(stage.log().matches(DIFFERS).count(), 1, "{}", stage.log());
    assert!(granted(&shared, 3, "1296269").await && !granted(&shared, 4, "5").await);

    let (ok, said) = stage.operate(&[
        "apply",
        "--config",
        "dayfly.toml",
        "--reason",
        "moved",
        "--ends",
        "2",
    ]);
    assert!(ok, "{said}");
    assert!(!granted(&shared, 5, "1296269").await && granted(&shared, 6, "5").await);
    stage.kill();
    stage.start().await;
    assert_eq!(
        stage.log().matches(DIFFERS).count(),
        1,
        "it differs no more"
    );
    assert!(!granted(&shared, 7, "1296269").await && granted(&shared, 8, "5").await);
}
