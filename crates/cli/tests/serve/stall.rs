//! Bad days of a real server: a full disk, a disk that takes no write, a kill in the middle, and the runbook's pages on them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::client::{Client, Outcome, grant_form, new_key, platform_token_of, post_token};
use crate::stage::{Shared, Stage, TENANT, free_port};

const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");

/// A server whose data folder lies on a disk that fills up.
struct Bad {
    stage: Stage,
    shared: Arc<Shared>,
    admin: String,
    disk: Disk,
}

/// What takes the room away.
enum Disk {
    /// A file system of its own, and the file that fills it.
    Small { data: PathBuf },
    /// Where none may be mounted: whoever holds the only lock lets no commit through.
    Locked {
        database: PathBuf,
        lock: Option<rusqlite::Connection>,
    },
}

impl Disk {
    fn at(folder: &Path) -> Self {
        let data = folder.join("data");
        fs::create_dir_all(&data).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "dayfly-test"])
            .arg(&data)
            .output();
        if mounted.is_ok_and(|done| done.status.success()) {
            return Self::Small { data };
        }
        let database = data.join("dayfly.db");
        Self::Locked {
            database,
            lock: None,
        }
    }

    fn fill(&mut self) {
        match self {
            Self::Small { data } => {
                // Down to the last byte: writes of all sizes fail.
                let mut file = fs::File::create(data.join("fill")).unwrap();
                for size in [1 << 20, 1 << 12, 1] {
                    let piece = vec![1; size];
                    while std::io::Write::write_all(&mut file, &piece).is_ok() {}
                }
            }
            Self::Locked { database, lock } => {
                let held = rusqlite::Connection::open(database).unwrap();
                held.busy_timeout(std::time::Duration::from_secs(60))
                    .unwrap();
                held.execute_batch("BEGIN IMMEDIATE").unwrap();
                *lock = Some(held);
            }
        }
    }

    fn free(&mut self) {
        match self {
            Self::Small { data } => fs::remove_file(data.join("fill")).unwrap(),
            Self::Locked { lock, .. } => *lock = None,
        }
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        self.stage.stop_if_running();
        if let Disk::Small { data } = &self.disk {
            let _gone = Command::new("umount").arg("-l").arg(data).status();
        }
    }
}

impl Bad {
    async fn start() -> Self {
        let admin = format!("127.0.0.1:{}", free_port());
        let stage = Stage::with(&format!("admin = \"{admin}\"\n"), TENANT);
        let disk = Disk::at(stage.folder());
        let shared = stage.shared();
        let mut bad = Self {
            stage,
            shared,
            admin,
            disk,
        };
        bad.stage.start().await;
        bad
    }

    async fn granted(&self, run: u64) -> Client {
        match Client::grant(&self.shared, run).await {
            Outcome::Answered(client) => client,
            Outcome::Lost => panic!("no answer"),
        }
    }

    /// Asks for fresh runs until the status is this one.
    async fn ask_until(&self, wanted: u16, runs: std::ops::Range<u64>) -> Value {
        for run in runs {
            let proof = platform_token_of(&self.shared, run, "1296269");
            let (status, body) = post_token(&self.shared, &new_key(), &grant_form(&proof))
                .await
                .unwrap();
            assert!(status == 200 || status == 503, "{status}: {body}");
            if status == wanted {
                return body;
            }
        }
        panic!("no answer {wanted}:\n{}", self.stage.log());
    }

    async fn readyz(&self) -> Value {
        let url = format!("http://{}/readyz", self.admin);
        let answer = self.shared.http.get(url).send().await.unwrap();
        answer.json().await.unwrap()
    }

    fn operate(&self, arguments: &[&str]) -> (bool, String) {
        let mut all = arguments.to_vec();
        all.extend(["--config", "dayfly.toml"]);
        self.stage.operate(&all)
    }

    /// Waits until the ledger has the end of a task, and gives its cause.
    fn cause(&self, task: &str) -> String {
        loop {
            let (ok, said) = self.operate(&["task", "show", task, "--json"]);
            assert!(ok, "{said}");
            let shown: Value = serde_json::from_str(&said).unwrap();
            if shown["state"] == "ended" && self.is_recorded(task) {
                return shown["cause"].as_str().unwrap().to_owned();
            }
            std::thread::yield_now();
        }
    }

    fn is_recorded(&self, task: &str) -> bool {
        let database = self.stage.folder().join("data/dayfly.db");
        let db = rusqlite::Connection::open(database).unwrap();
        let like = format!("%{task}%task.ended%");
        let count: i64 = db
            .query_row(
                "SELECT count(*) FROM entries WHERE leaf LIKE ?1",
                [like],
                |row| row.get(0),
            )
            .unwrap();
        count == 1
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_disk_full_is_walked_and_a_kill_in_the_middle_loses_no_end() {
    assert!(RUNBOOK.contains("## Disk full\n"));
    let mut bad = Bad::start().await;
    let first = bad.granted(1).await;
    let mut clients = Vec::new();
    for run in 2..6 {
        clients.push(bad.granted(run).await);
    }

    full_and_mended(&mut bad, &first, &clients[0]).await;
    full_and_killed(&mut bad, &clients).await;
    bad.stage.stop();
    bad.stage.fsck();
}

/// Full, and mended while the server runs.
async fn full_and_mended(bad: &mut Bad, first: &Client, other: &Client) {
    bad.disk.fill();
    let body = bad.ask_until(503, 1000..4000).await;
    assert_eq!(body["error"], "temporarily_unavailable", "{body}");
    assert!(matches!(
        first.end(&bad.shared).await,
        Outcome::Answered(())
    ));
    assert!(!first.introspect(&bad.shared).await);
    let told = bad.readyz().await;
    assert_eq!(told["ready"], false);
    assert!(
        told["reasons"]
            .to_string()
            .contains("the ledger is stalled since"),
        "{told}"
    );
    bad.ask_until(503, 4000..4001).await;
    assert!(
        other.introspect(&bad.shared).await,
        "what did not end goes on"
    );
    bad.disk.free();
    bad.ask_until(200, 5000..100_000).await;
    assert_eq!(bad.cause(&first.task), "completed");
    let (_, entries) = bad.operate(&["ledger", "tail"]);
    assert!(
        entries.contains("ledger.stalled") && entries.contains("ledger.resumed"),
        "{entries}"
    );
    assert_eq!(bad.readyz().await["ready"], true);
}

/// Full again, every kind of end, and killed in the middle.
async fn full_and_killed(bad: &mut Bad, clients: &[Client]) {
    bad.disk.fill();
    bad.ask_until(503, 200_000..204_000).await;
    assert!(matches!(
        clients[0].end(&bad.shared).await,
        Outcome::Answered(())
    ));
    let (ok, said) = bad.operate(&["task", "end", &clients[1].task, "--reason", "leaked"]);
    assert!(
        ok && said.starts_with("GONE") && !said.contains("not recorded"),
        "{said}"
    );
    let (ok, trace) = bad.operate(&["trace", &clients[1].task]);
    assert!(ok && trace.starts_with("GONE"), "{trace}");
    let (ok, said) = bad.operate(&["owner", "offboard", "team-platform", "--reason", "left"]);
    assert!(ok && !said.contains("not recorded"), "{said}");
    for client in clients {
        assert!(!client.introspect(&bad.shared).await);
    }
    bad.stage.kill();
    bad.disk.free();
    bad.stage.start().await;
    for client in clients {
        assert!(!client.introspect(&bad.shared).await);
    }
    let causes: Vec<String> = clients
        .iter()
        .map(|client| bad.cause(&client.task))
        .collect();
    assert_eq!(
        causes,
        [
            "completed",
            "operator",
            "owner_offboarded",
            "owner_offboarded"
        ]
    );
    let (_, blocks) = bad.operate(&["block", "list"]);
    assert!(
        blocks.contains("owner:team-platform") && blocks.contains("series:github:"),
        "{blocks}"
    );
}

/// Asks for fresh runs until one is granted.
async fn until_granted(shared: &Shared, first: u64) {
    for run in first.. {
        let proof = platform_token_of(shared, run, "1296269");
        let answer = post_token(shared, &new_key(), &grant_form(&proof)).await;
        if answer.unwrap().0 == 200 {
            return;
        }
    }
}

/// Every write of the process fails, those to the journal too, as on a file system that was made
/// read-only: ends are obeyed and say what they are worth, and nothing is lost when it is mended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_can_be_written_ends_are_obeyed_and_say_so() {
    let mut stage = Stage::new();
    let shared = stage.shared();
    stage.start().await;
    // A busy machine may stall by itself, and goes on by itself.
    until_granted(&shared, 100).await;
    let Outcome::Answered(client) = Client::grant(&shared, 1).await else {
        panic!("no answer");
    };
    let Outcome::Answered(other) = Client::grant(&shared, 2).await else {
        panic!("no answer");
    };
    stage.limit_files("0");
    let (ok, said) = stage.operate(&[
        "task",
        "end",
        &client.task,
        "--reason",
        "leaked",
        "--config",
        "dayfly.toml",
    ]);
    assert!(
        ok && said.contains("not recorded"),
        "{said}\n{}",
        stage.log()
    );
    assert!(!client.introspect(&shared).await && other.introspect(&shared).await);
    let proof = platform_token_of(&shared, 3, "1296269");
    let (status, _) = post_token(&shared, &new_key(), &grant_form(&proof))
        .await
        .unwrap();
    assert_eq!(status, 503);
    stage.limit_files("unlimited");
    until_granted(&shared, 1000).await;
    stage.kill();
    stage.start().await;
    assert!(!client.introspect(&shared).await && other.introspect(&shared).await);
    stage.stop();
    stage.fsck();
}

/// What waited for a ledger that is replaced is in none: it is kept, said, and harms nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_puts_a_journal_with_ends_aside() {
    let mut stage = Stage::new();
    let shared = stage.shared();
    stage.start().await;
    let Outcome::Answered(before) = Client::grant(&shared, 1).await else {
        panic!("no answer");
    };
    let (ok, said) = stage.operate(&["backup", "copy.db", "--config", "dayfly.toml"]);
    assert!(ok, "{said}");
    let Outcome::Answered(after) = Client::grant(&shared, 2).await else {
        panic!("no answer");
    };
    let lock = rusqlite::Connection::open(stage.folder().join("data/dayfly.db")).unwrap();
    lock.busy_timeout(std::time::Duration::from_secs(60))
        .unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    for client in [&before, &after] {
        assert!(matches!(client.end(&shared).await, Outcome::Answered(())));
    }
    stage.kill();
    drop(lock);
    let restored = [
        "restore",
        "copy.db",
        "--reason",
        "lost",
        "--json",
        "--config",
        "dayfly.toml",
    ];
    let (ok, said) = stage.operate(&restored);
    assert!(ok, "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    let kept = said["journal"].as_str().expect("a journal that is kept");
    assert!(stage.folder().join(kept).exists(), "{kept}");
    stage.start().await;
    for client in [&before, &after] {
        assert!(!client.introspect(&shared).await);
    }
    let proof = platform_token_of(&shared, 3, "1296269");
    let (status, body) = post_token(&shared, &new_key(), &grant_form(&proof))
        .await
        .unwrap();
    assert!(
        status == 200 || body["refused"]["rule"] != "unavailable",
        "{body}"
    );
    // Put back, it names a task that this ledger does not know, and one that is over: nothing
    // comes of either, and the server grants.
    stage.stop();
    let journal = stage.folder().join("data/containment.journal");
    fs::copy(stage.folder().join(kept), &journal).unwrap();
    stage.start().await;
    assert!(stage.log().contains("there is nothing to record"));
    stage.stop();
    stage.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_server_down_is_walked() {
    assert!(RUNBOOK.contains("## Server down\n"));
    let mut stage = Stage::new();
    let shared = stage.shared();
    stage.start().await;
    let Outcome::Answered(client) = Client::grant(&shared, 1).await else {
        panic!("no answer");
    };
    stage.stop_by(Signal::SIGKILL);
    // It comes back by itself, and the task goes on.
    stage.start().await;
    assert!(client.introspect(&shared).await);
    stage.stop_by(Signal::SIGTERM);

    // A journal that is damaged in the middle holds ends that nobody can name.
    let journal = stage.folder().join("data/containment.journal");
    let whole = fs::read(&journal).unwrap();
    let mut damaged = whole.clone();
    damaged[3] ^= 1;
    fs::write(&journal, &damaged).unwrap();
    stage.spawn();
    assert!(!stage.gone().success());
    let log = stage.log();
    assert!(
        log.contains("is damaged at byte") && log.contains("\"Server down\""),
        "{log}"
    );
    // The page: put aside, started again, what had ended is ended again.
    assert!(RUNBOOK.contains("mv data/containment.journal containment.journal.damaged"));
    fs::rename(&journal, stage.folder().join("containment.journal.damaged")).unwrap();
    stage.start().await;
    let (ok, said) = stage.operate(&[
        "task",
        "end",
        &client.task,
        "--reason",
        "it had ended",
        "--config",
        "dayfly.toml",
    ]);
    assert!(ok, "{said}");
    assert!(!client.introspect(&shared).await);
    stage.stop();
    stage.fsck();
}
