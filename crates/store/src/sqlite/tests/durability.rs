//! Shows by its system calls that every commit is synced before it is answered.
//!
//! The test runs itself under `strace`. In the child, each answer is followed by a write to a
//! marker file; so between the last write to the write-ahead log and the marker there must be a
//! sync of that log. The same is shown to be missed where the writer syncs at checkpoints only.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use super::append;
use crate::sqlite::schema::Sync;
use crate::sqlite::{SqliteOptions, SqliteStore};

const APPENDS: usize = 5;

#[test]
fn every_answer_comes_after_a_sync() {
    assert_eq!(unsynced_answers("full"), Ok(()));
}

#[test]
fn an_answer_without_a_sync_is_noticed() {
    assert!(unsynced_answers("normal").is_err());
}

/// What is traced; on its own, run among all tests, it only shows that it works.
#[test]
fn child() {
    let folder = TempDir::new().unwrap();
    let here = std::env::current_dir().unwrap();
    let mode = std::fs::read_to_string(here.join("mode")).unwrap_or_default();
    let at = if mode.is_empty() {
        folder.path()
    } else {
        &here
    };
    let options = SqliteOptions::new(at.join("db"));
    let store = if mode == "normal" {
        SqliteStore::open_with(options, Sync::Normal, Arc::default()).unwrap()
    } else {
        // As every caller opens it, so that a weaker mode there is seen here.
        SqliteStore::open(options).unwrap()
    };
    let mut marker = File::create(at.join("marker")).unwrap();
    for _ in 0..APPENDS {
        append(&store).unwrap();
        marker.write_all(b"answered").unwrap();
    }
}

/// Traces the child and looks at each answer; tells of the first that was not synced.
fn unsynced_answers(mode: &str) -> Result<(), String> {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("mode"), mode).unwrap();
    let trace = folder.path().join("trace");
    let status = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-e",
            "trace=write,pwrite64,fsync,fdatasync",
            "-o",
        ])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "sqlite::tests::durability::child"])
        .current_dir(folder.path())
        .output()
        .expect("the package `strace` must be installed");
    assert!(status.status.success(), "{status:?}");
    check(&trace)
}

fn check(trace: &Path) -> Result<(), String> {
    let mut log = Log::default();
    let mut answers = 0;
    for line in std::fs::read_to_string(trace).unwrap().lines() {
        let (thread, call) = line.split_once(' ').unwrap_or((line, ""));
        log.see(thread, call.trim_start());
        if call.contains("/marker>") && call.contains("write(") {
            answers += 1;
            if !log.synced {
                return Err(format!("answer {answers} came without a sync"));
            }
            log.synced = false;
        }
    }
    assert_eq!(answers, APPENDS, "the trace does not show the answers");
    Ok(())
}

/// What the trace has told of the write-ahead log so far.
#[derive(Default)]
struct Log {
    /// The thread that wrote to it last.
    writer: String,
    /// Whether that thread has synced it since.
    synced: bool,
    /// Whether that thread is within a sync of it: a call that others interrupt is told in two
    /// lines, the second of which names no file.
    syncing: bool,
}

impl Log {
    fn see(&mut self, thread: &str, call: &str) {
        let of_log = call.contains("/db-wal>");
        if of_log && (call.starts_with("write(") || call.starts_with("pwrite64(")) {
            *self = Self {
                writer: thread.into(),
                ..Self::default()
            };
        }
        if thread != self.writer {
            return;
        }
        let begins = call.starts_with("fsync(") || call.starts_with("fdatasync(");
        self.syncing |= begins && of_log;
        let is_whole = !call.contains("unfinished");
        let ends = is_whole && (begins || call.starts_with("<... f")) && call.contains("sync");
        if self.syncing && ends {
            self.syncing = false;
            self.synced = call.ends_with("= 0");
        }
    }
}
