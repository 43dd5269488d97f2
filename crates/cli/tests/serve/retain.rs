//! Old entries of a real server: they go into bundles by themselves, and are found and proven there.

use std::fs;
use std::path::PathBuf;

use dayfly_domain::Time;
use dayfly_store::{Append, EntryRange, Note, SqliteOptions, SqliteStore, Store};

use crate::client::{Client, Outcome};
use crate::stage::{Stage, TENANT};

/// How many entries were made long ago: two bundles and some.
pub(crate) const OLD: usize = 600;

/// A server with entries of long ago that stay in the database for a day.
pub(crate) async fn old() -> Stage {
    let stage = Stage::with("ledger = { retain = \"1d\" }\n", TENANT);
    let data = stage.folder().join("data");
    fs::create_dir(&data).unwrap();
    let store = SqliteStore::open(SqliteOptions::new(data.join("dayfly.db"))).unwrap();
    let note = |number: usize| Note {
        kind: "finding.opened",
        data: format!(r#"{{"owner":"owner-{}"}}"#, number % 7),
        annex: None,
    };
    let append = Append {
        now: Time::from_seconds(1_700_000_000),
        notes: (0..OLD).map(note).collect(),
        ..Append::default()
    };
    store
        .append(&"acme".parse().unwrap(), append)
        .await
        .unwrap();
    stage
}

fn bundle(stage: &Stage, first: u64) -> PathBuf {
    let folder = stage.folder().join("data/bundles/acme");
    folder.join(format!("{first:012}.bundle"))
}

/// How many entries have their bytes in a bundle.
fn dropped(stage: &Stage) -> u64 {
    let options = SqliteOptions::new(stage.folder().join("data/dayfly.db"));
    let elsewhere = SqliteOptions {
        bundles: stage.folder().join("nowhere"),
        ..options
    };
    let store = SqliteStore::open_read_only(&elsewhere).unwrap();
    let acme = "acme".parse().unwrap();
    let reads = |pos| store.entries(&acme, EntryRange::From(pos), 1).is_ok();
    (0..OLD as u64).find(|pos| reads(*pos)).unwrap()
}

pub(crate) async fn until_dropped(stage: &Stage) {
    while dropped(stage) < 512 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_entries_go_into_bundles_and_are_found_there() {
    let mut stage = old().await;
    stage.start().await;
    let Outcome::Answered(client) = Client::grant(&stage.shared(), 1).await else {
        panic!("no answer");
    };
    until_dropped(&stage).await;
    // A kill may come at any moment, between export and drop as well.
    stage.kill();
    fs::remove_file(stage.folder().join("data/dayfly.db.search")).unwrap();
    stage.fsck();
    stage.start().await;
    assert!(client.introspect(&stage.shared()).await);
    for running in [true, false] {
        if !running {
            stage.kill();
        }
        let (ok, told) = stage.operate(&["ledger", "tail", "-n", "700", "--json"]);
        assert!(ok, "{told}");
        assert!(told.lines().count() > OLD, "{told}");
        let (ok, told) = stage.operate(&["receipt", &client.task]);
        assert!(ok, "{told}");
        let (ok, told) = stage.operate(&["trace", &client.task]);
        assert!(ok, "{told}");
    }
    assert_eq!(dropped(&stage), 512);

    // A bundle that is lost is named, and what else there is still holds.
    let path = bundle(&stage, 256);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let (ok, told) = stage.operate(&["ledger", "fsck"]);
    assert!(!ok && told.contains("acme: the bundle `"), "{told}");
    assert!(told.contains("000000000256.bundle` is damaged"), "{told}");
    assert!(
        told.contains("entries hold as far as they can be read"),
        "{told}"
    );
    let (ok, told) = stage.operate(&["ledger", "tail", "-n", "700"]);
    assert!(
        !ok && told.contains("000000000256.bundle` is damaged"),
        "{told}"
    );
    let (ok, told) = stage.operate(&["ledger", "tail"]);
    assert!(ok, "{told}");
    fs::write(&path, bytes).unwrap();
    stage.fsck();
}
