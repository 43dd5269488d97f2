//! The runbook's page "Restore", walked with the binary: what a backup brings back and what stays over, and kills in the middle.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::client::{Client, Outcome, grant_form, new_key, now, platform_token_of, post_token};
use crate::stage::{Shared, Stage, TENANT};

const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");

/// A second owner with a workload of its own, which is offboarded before the backup.
const OTHER: &str = r#"
[owner.team-other]
name    = "Other team"
contact = "other@example.com"
members = ["group:other"]

[workload.other]
owner   = "team-other"
kind    = "ci"
purpose = "what its owner answered for"
match   = { issuer = "github", repository_id = "42" }
access  = [
  { resource = "artifacts", type = "artifact", actions = ["read"], identifier = "octo-repo/*" },
]
"#;

async fn granted(shared: &Shared, run: u64) -> Client {
    match Client::grant(shared, run).await {
        Outcome::Answered(client) => client,
        Outcome::Lost => panic!("no answer"),
    }
}

async fn ended(shared: &Shared, run: u64) -> Client {
    let client = granted(shared, run).await;
    match client.end(shared).await {
        Outcome::Answered(()) => client,
        Outcome::Lost => panic!("no answer"),
    }
}

/// The rule that refuses this proof with a fresh key.
async fn refused(shared: &Shared, proof: &str) -> String {
    let answer = post_token(shared, &new_key(), &grant_form(proof)).await;
    let (_, body) = answer.unwrap();
    let rule = &body["refused"]["rule"];
    rule.as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

/// Runs a command as the page has it, with its words in capitals filled in; it must stand there.
fn run(stage: &Stage, command: &str) -> (bool, String) {
    assert!(
        RUNBOOK.contains(&format!("\ndayfly {command}\n")),
        "the runbook does not say `dayfly {command}`"
    );
    let mut words = Vec::new();
    for (at, part) in command.replace("FILE", "copy.db").split('"').enumerate() {
        match at % 2 {
            1 => words.push(part.to_owned()),
            _ => words.extend(part.split_whitespace().map(str::to_owned)),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    stage.operate(&words)
}

fn told(stage: &Stage, arguments: &[&str]) -> String {
    let (ok, said) = stage.operate(arguments);
    assert!(ok, "{arguments:?}: {said}");
    said
}

fn head(stage: &Stage) -> Value {
    serde_json::from_str(&told(stage, &["ledger", "head", "--json"])).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Why the server does not start.
fn not_started(stage: &Stage) -> String {
    let (ok, said) = stage.operate(&["serve", "--config", "dayfly.toml"]);
    assert!(!ok, "{said}");
    said
}

/// Puts the backup into the place of the database by hand, as nobody should.
fn swap_by_hand(stage: &Stage) {
    let data = stage.folder().join("data");
    for name in ["dayfly.db", "dayfly.db-wal", "dayfly.db-shm"] {
        let _absent = fs::remove_file(data.join(name));
    }
    fs::copy(stage.folder().join("copy.db"), data.join("dayfly.db")).unwrap();
}

/// A proof is told from an older one by the second in which it was made.
fn wait_for_the_next_second() {
    let begun = now();
    while now() == begun {
        std::thread::yield_now();
    }
}

/// Grants and ends on two connections while `work` runs on a thread of its own.
async fn under_load<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let done = Arc::new(AtomicBool::new(false));
    let count = Arc::new(Mutex::new(0));
    let workers: Vec<_> = (1..=2)
        .map(|worker| {
            let (shared, done, count) = (Arc::clone(shared), Arc::clone(&done), Arc::clone(&count));
            tokio::spawn(async move {
                for run in 0.. {
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                    ended(&shared, worker * 1_000_000 + run).await;
                    *count.lock().unwrap() += 1;
                }
            })
        })
        .collect();
    while *count.lock().unwrap() < 4 {
        tokio::task::yield_now().await;
    }
    let worked = tokio::task::spawn_blocking(work).await.unwrap();
    let so_far = *count.lock().unwrap();
    while *count.lock().unwrap() < so_far + 4 {
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    worked
}

/// What was there before the restore.
struct Before {
    /// Open when the backup was made.
    open: Client,
    /// Opened after it.
    later: Client,
    /// A proof that nobody used.
    unused: String,
    verifier_key: String,
}

/// A server with a history, a backup in the middle of it, and what was handed out after.
async fn backed_up(stage: &mut Stage) -> Before {
    let shared = stage.shared();
    stage.start().await;
    let open = granted(&shared, 1).await;
    let over = ended(&shared, 2).await;
    told(
        stage,
        &["owner", "offboard", "team-other", "--reason", "left"],
    );
    let early = head(stage);
    fs::write(stage.folder().join("early.head"), text(&early["note"])).unwrap();
    told(stage, &["receipt", &over.task, "-o", "old.receipt"]);
    fs::write(stage.folder().join("over.task"), &over.task).unwrap();
    let folder = stage.folder().to_owned();
    let (ok, said) = under_load(&shared, move || {
        let done = Command::new(env!("CARGO_BIN_EXE_dayfly"))
            .args(["backup", "copy.db"])
            .current_dir(folder)
            .output()
            .unwrap();
        (
            done.status.success(),
            String::from_utf8(done.stdout).unwrap(),
        )
    })
    .await;
    assert!(ok, "{said}");
    let later = granted(&shared, 3).await;
    assert!(later.introspect(&shared).await && open.introspect(&shared).await);
    let late = head(stage);
    fs::write(stage.folder().join("late.head"), text(&late["note"])).unwrap();
    let unused = platform_token_of(&shared, 4, "1296269");
    stage.kill();
    Before {
        open,
        later,
        unused,
        verifier_key: text(&early["verifier_key"]).to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_restore_is_walked() {
    let mut stage = Stage::with("", &format!("{TENANT}{OTHER}"));
    let shared = stage.shared();
    let before = backed_up(&mut stage).await;
    swap_by_hand(&stage);
    let why = not_started(&stage);
    assert!(why.contains("lies behind its own last head"), "{why}");
    assert!(
        why.contains("Restore") && RUNBOOK.contains("\n## Restore\n"),
        "{why}"
    );

    wait_for_the_next_second();
    let (ok, said) = run(&stage, "restore FILE --reason \"the disk died\"");
    assert!(ok, "{said}");
    assert!(
        said.contains("/restored-") && said.contains("are lost"),
        "{said}"
    );
    let data = stage.folder().join("data");
    let aside = |name: &str| name.starts_with("dayfly.db.before-") && !name.ends_with("-wal");
    let names = fs::read_dir(&data).unwrap();
    let names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        names.iter().filter(|name| aside(name)).count(),
        1,
        "{names:?}"
    );
    wait_for_the_next_second();
    stage.start().await;

    old_is_over(&stage, &shared, &before).await;
    let fresh = granted(&shared, 5).await;
    assert!(fresh.introspect(&shared).await);
    let contained = platform_token_of(&shared, 6, "42");
    assert_eq!(refused(&shared, &contained).await, "blocked");
    old_and_new_verify(&stage, &before);
    let (ok, tail) = run(&stage, "ledger tail");
    assert!(ok && tail.contains("ledger.restored"), "{tail}");
    stage.kill();
    stage.fsck();
    // It starts again, and not with the backup put in its place by hand.
    stage.start().await;
    assert!(fresh.introspect(&shared).await);
    stage.kill();
    swap_by_hand(&stage);
    assert!(not_started(&stage).contains("lies behind its own last head"));
}

/// Whatever was granted before is refused, whether the backup knows it or not.
async fn old_is_over(stage: &Stage, shared: &Shared, before: &Before) {
    for old in [&before.open, &before.later] {
        assert!(!old.introspect(shared).await);
        assert_eq!(old.renew(shared).await, "task_ended");
        assert_eq!(old.replay(shared).await, "before_restore");
    }
    assert_eq!(refused(shared, &before.unused).await, "before_restore");
    let shown = told(stage, &["trace", &before.open.task]);
    assert!(
        shown.starts_with("GONE") && shown.contains("(restored: the disk died)"),
        "{shown}"
    );
}

fn old_and_new_verify(stage: &Stage, before: &Before) {
    let present = head(stage);
    let new_key = text(&present["verifier_key"]).to_owned();
    assert!(text(&present["origin"]).ends_with("/acme"), "{present}");
    let verify = |file: &str, key: &str| stage.operate(&["verify", file, "--key", key]);
    let (ok, said) = verify("old.receipt", &before.verifier_key);
    assert!(ok, "{said}");
    assert!(!verify("old.receipt", &new_key).0);
    let over = fs::read_to_string(stage.folder().join("over.task")).unwrap();
    told(stage, &["receipt", &over, "-o", "new.receipt"]);
    let (ok, said) = verify("new.receipt", &new_key);
    assert!(ok, "{said}");
    assert!(!verify("new.receipt", &before.verifier_key).0);
    // A head of before the backup is one of this ledger; one of after it tells what is lost.
    let (ok, said) = stage.operate(&["ledger", "verify", "early.head"]);
    assert!(ok, "{said}");
    let (ok, said) = stage.operate(&["ledger", "verify", "late.head"]);
    assert!(!ok && said.contains("restored from a backup"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_killed_is_done_or_not_begun_or_refused_until_it_is_repeated() {
    let mut stage = Stage::new();
    let shared = stage.shared();
    stage.start().await;
    let old = granted(&shared, 1).await;
    told(&stage, &["backup", "copy.db"]);
    granted(&shared, 2).await;
    stage.kill();
    let data = stage.folder().join("data");
    let placing = data.join("restoring/placing");
    let mut unfinished = 0;
    for round in 0..12 {
        kill_when(
            &stage,
            &match round % 3 {
                0 => data.join("restoring/dayfly.db"),
                1 => placing.clone(),
                _ => data.join("heads.new"),
            },
        );
        if placing.exists() {
            unfinished += 1;
            assert!(not_started(&stage).contains("begun and not finished"));
            assert!(!stage.operate(&["ledger", "head"]).0);
        } else {
            stage.start().await;
            stage.kill();
            stage.fsck();
        }
    }
    assert!(unfinished > 0, "never in the middle");

    // The former database was moved, its log was not: the log goes where its database is.
    told(&stage, &["restore", "copy.db", "--reason", "again"]);
    stage.start().await;
    let lost = granted_after(&shared, 3).await;
    stage.kill();
    assert!(data.join("dayfly.db-wal").exists());
    fs::create_dir(data.join("restoring")).unwrap();
    fs::write(&placing, "dayfly.db.before-then\n").unwrap();
    fs::rename(data.join("dayfly.db"), data.join("dayfly.db.before-then")).unwrap();
    assert!(not_started(&stage).contains("begun and not finished"));
    assert!(!data.join("dayfly.db").exists());
    told(&stage, &["restore", "copy.db", "--reason", "at last"]);
    assert!(data.join("dayfly.db.before-then-wal").exists());
    assert!(!data.join("restoring").exists());
    stage.start().await;
    assert!(!old.introspect(&shared).await && !lost.introspect(&shared).await);
    assert_eq!(old.renew(&shared).await, "task_ended");
    stage.kill();
    stage.fsck();
}

async fn granted_after(shared: &Shared, run: u64) -> Client {
    wait_for_the_next_second();
    granted(shared, run).await
}

/// Begins a restore and kills it once this file is there, or when it is done.
fn kill_when(stage: &Stage, there: &Path) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .args(["restore", "copy.db", "--reason", "a test"])
        .current_dir(stage.folder())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !there.exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let _done = child.kill();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_wants_a_backup_that_holds_and_no_server() {
    let mut stage = Stage::new();
    stage.start().await;
    granted(&stage.shared(), 1).await;
    told(&stage, &["backup", "copy.db"]);
    let restore = |stage: &Stage, file: &str| {
        let (ok, said) = stage.operate(&["restore", file, "--reason", "a test"]);
        assert!(!ok, "{said}");
        said
    };
    let served = restore(&stage, "copy.db");
    assert!(served.contains("a server runs"), "{served}");
    stage.kill();
    let none = restore(&stage, "nothing.db");
    assert!(none.contains("there is no backup"), "{none}");
    let mut damaged = fs::read(stage.folder().join("copy.db")).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle..].fill(7);
    fs::write(stage.folder().join("damaged.db"), damaged).unwrap();
    let said = restore(&stage, "damaged.db");
    assert!(said.contains("the backup does not hold"), "{said}");
    let (ok, said) = stage.operate(&["restore", "copy.db", "--reason", " "]);
    assert!(!ok && said.contains("says nothing"), "{said}");
    // None of it has touched the database.
    stage.start().await;
    stage.kill();
    stage.fsck();
}
