//! `dayfly backup` with the binary: under load, onto what is there or cannot be written, and killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::client::{Client, Outcome};
use crate::stage::Stage;

/// How many grants are answered before the backup begins, and how many while it may run.
const BEFORE: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_holds_every_grant_answered_before_it() {
    let mut stage = Stage::new();
    stage.start().await;
    let shared = stage.shared();
    let answered = Arc::new(Mutex::new(Vec::new()));
    let done = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let (shared, answered) = (Arc::clone(&shared), Arc::clone(&answered));
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                for run in 0.. {
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                    match Client::grant(&shared, worker * 1_000_000 + run).await {
                        Outcome::Answered(client) => answered.lock().unwrap().push(client),
                        Outcome::Lost => panic!("the server stopped answering"),
                    }
                }
            })
        })
        .collect();
    let count = || answered.lock().unwrap().len();
    while count() < BEFORE {
        tokio::task::yield_now().await;
    }
    let before = count();
    let folder = stage.folder().to_owned();
    let (ok, printed) = tokio::task::spawn_blocking({
        let folder = folder.clone();
        move || backup(&folder, "copy.db", &["--json"])
    })
    .await
    .unwrap();
    assert!(ok, "{printed}");
    let meanwhile = count();
    while count() == meanwhile {
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    assert!(meanwhile > before, "no grant was answered meanwhile");
    let answered = std::mem::take(&mut *answered.lock().unwrap());
    holds_all(&mut stage, &printed, &answered[..before]).await;
}

/// What was printed of `copy.db` is so, and a server over it knows every one of these grants.
async fn holds_all(stage: &mut Stage, printed: &str, granted: &[Client]) {
    let (folder, shared) = (stage.folder().to_owned(), stage.shared());
    let copy = folder.join("copy.db");
    let metadata = fs::metadata(&copy).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let written: Value = serde_json::from_str(printed).unwrap();
    assert_eq!(written["bytes"], metadata.len());
    let held = &written["tenants"][0];
    assert_eq!(held["tenant"], "acme");
    assert!(
        held["open"].as_u64().unwrap() >= granted.len() as u64,
        "{held}"
    );
    assert!(parts(&folder).is_empty());
    // What the server says now begins with the head of the backup.
    fs::write(folder.join("note"), held["note"].as_str().unwrap()).unwrap();
    let (ok, told) = stage.operate(&["ledger", "verify", "note"]);
    assert!(ok, "{told}");
    stage.stop();
    stage.fsck();

    let data = folder.join("data");
    fs::rename(&data, folder.join("away")).unwrap();
    fs::create_dir(&data).unwrap();
    fs::rename(&copy, data.join("dayfly.db")).unwrap();
    stage.fsck();
    stage.start().await;
    for client in granted {
        assert!(
            client.introspect(&shared).await,
            "an answered grant is not in the copy: {}",
            client.task
        );
    }
    stage.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_written_over_nothing_and_needs_no_server() {
    let mut stage = Stage::new();
    let folder = stage.folder().to_owned();
    let (ok, told) = backup(&folder, "copy.db", &[]);
    assert!(!ok && told.contains("there is no database"), "{told}");
    stage.start().await;
    let Outcome::Answered(_) = Client::grant(&stage.shared(), 1).await else {
        panic!("no answer");
    };
    fs::write(folder.join("there.db"), "mine").unwrap();
    std::os::unix::fs::symlink("elsewhere", folder.join("link.db")).unwrap();
    for there in ["there.db", "link.db", "data/dayfly.db"] {
        let (ok, told) = backup(&folder, there, &[]);
        assert!(!ok && told.contains("is there already"), "{told}");
    }
    assert_eq!(fs::read(folder.join("there.db")).unwrap(), b"mine");
    for nowhere in ["nowhere/copy.db", "there.db/copy.db", "/proc/copy.db"] {
        let (ok, told) = backup(&folder, nowhere, &[]);
        assert!(!ok && told.contains("nothing can be written in"), "{told}");
    }
    assert!(!folder.join("elsewhere").exists() && parts(&folder).is_empty());

    // The server was killed: what it had committed is in its log, and in the copy.
    stage.stop();
    let (ok, told) = backup(&folder, "copy.db", &[]);
    assert!(ok, "{told}");
    assert!(told.contains("checked\nacme: "), "{told}");
    assert!(told.contains(" 1 open tasks\n\n127.0.0.1:"), "{told}");
    assert!(told.contains("dayfly.key, which is not in it"), "{told}");
    let key = fs::read_to_string(folder.join("dayfly.key")).unwrap();
    let bytes = fs::read(folder.join("copy.db")).unwrap();
    let key = key.trim_end().as_bytes();
    assert!(!bytes.windows(key.len()).any(|window| window == key));

    // On the day on which the key file is lost there is still a backup, with no head signed.
    fs::rename(folder.join("dayfly.key"), folder.join("away.key")).unwrap();
    let (ok, told) = backup(&folder, "other.db", &[]);
    assert!(ok, "{told}");
    assert!(told.contains("the head of acme is not signed"), "{told}");
    assert!(!folder.join("dayfly.key").exists(), "no key file is made");

    // A ledger that does not hold makes no backup.
    let data = folder.join("data");
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    let mut damaged = bytes;
    let middle = damaged.len() / 2;
    damaged[middle..].fill(7);
    fs::write(data.join("dayfly.db"), damaged).unwrap();
    let (ok, told) = backup(&folder, "damaged.db", &[]);
    assert!(!ok && told.contains("the copy does not hold"), "{told}");
    assert!(!folder.join("damaged.db").exists() && parts(&folder).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_killed_leaves_no_half_file_under_its_name() {
    let mut stage = Stage::new();
    stage.start().await;
    for run in 0..20 {
        let Outcome::Answered(_) = Client::grant(&stage.shared(), run).await else {
            panic!("no answer");
        };
    }
    let folder = stage.folder().to_owned();
    let killed_by = |signal: Signal| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dayfly"))
            .args(["backup", "copy.db"])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Its file is there under another name, so it is in the middle.
        while parts(&folder).is_empty() {
            if child.try_wait().unwrap().is_some() {
                // It was done between two looks.
                fs::remove_file(folder.join("copy.db")).unwrap();
                return false;
            }
            std::thread::yield_now();
        }
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let status = child.wait().unwrap();
        let (whole, parts) = (folder.join("copy.db"), parts(&folder));
        if whole.exists() {
            // It was done already: then it is whole.
            assert!(parts.is_empty());
            fs::remove_file(whole).unwrap();
            return false;
        }
        assert!(!status.success());
        for part in &parts {
            fs::remove_file(part).unwrap();
        }
        // Told to stop, it takes its file away; a kill leaves it nothing to do so with.
        assert_eq!(parts.is_empty(), signal == Signal::SIGTERM);
        true
    };
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let cut = (0..5).filter(|_| killed_by(signal)).count();
        assert!(cut > 0, "never in the middle");
    }
    // Neither harms the server, nor the next backup.
    let (ok, told) = backup(&folder, "copy.db", &[]);
    assert!(ok, "{told}");
    stage.stop();
    stage.fsck();
}

fn backup(folder: &Path, file: &str, more: &[&str]) -> (bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .args(["backup", file])
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(said).unwrap())
}

/// What unfinished copies there are.
fn parts(folder: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(folder).unwrap();
    names
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "part"))
        .collect()
}
