//! `dayfly demo` as anybody runs it: all its scenes, and nothing left behind.
#![expect(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const SCENES: [&str; 17] = [
    " 1. A shell script publishes with plain curl",
    " 2. One token, before the end of its task and after it",
    " 3. The ended run proves itself again",
    " 4. A job is killed with SIGKILL",
    " 5. A token is stolen from a running job",
    " 6. A job asks for more than it may have",
    " 7. A batch job reads a queue and writes one result set",
    " 8. The server is killed with SIGKILL while a job is at work",
    " 9. A leaked token is found",
    "10. A run is cancelled, and its webhook ends it",
    "11. A receipt is verified offline, tampered with, and the ledger is cut off",
    "12. A person asks, and another approves",
    "13. An agent hands work to helpers, and one of them is ended",
    "14. An agent works for a person, whose session ends",
    "15. Three jobs of one run share a task",
    "16. A re-run supersedes the attempt before",
    "17. An offboarding ends the rest",
];
const NO_CURL: &str = "There is no curl on the PATH";

/// Runs the demo with its temporary folder in `folder`, which must be empty again when it is over.
fn demo(folder: &TempDir, path: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dayfly"));
    command.arg("demo").env("TMPDIR", folder.path());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = command.output().unwrap();
    assert_eq!(
        folder.path().read_dir().unwrap().count(),
        0,
        "a folder is left"
    );
    output
}

#[track_caller]
fn check(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{error}");
    let headings: Vec<&str> = text.lines().filter(|line| SCENES.contains(line)).collect();
    assert_eq!(headings, SCENES);
    let shown = text
        .lines()
        .filter(|line| line.starts_with("    ok "))
        .count();
    assert_eq!(shown, SCENES.len(), "{text}");
    assert!(!text.contains('\x1b'), "colour without a terminal");
    text
}

#[test]
fn all_scenes_go_as_promised() {
    let folder = tempfile::tempdir().unwrap();
    let text = check(&demo(&folder, None));
    if let Some(last) = text.lines().rfind(|line| !line.is_empty()) {
        println!("{last}");
    }
}

#[test]
fn without_curl_a_stand_in_is_called() {
    let (folder, path) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["sh", "sed", "cp", "sleep", "true"] {
        symlink(find(name), path.path().join(name)).unwrap();
    }
    let text = check(&demo(&folder, Some(path.path())));
    assert!(text.contains(NO_CURL), "{text}");
}

/// A demo that could not fail would show nothing.
#[test]
fn a_scene_that_cannot_be_played_fails_the_demo() {
    let (folder, path) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = demo(&folder, Some(path.path()));
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("FAILED") && text.contains("command not found"),
        "{text}"
    );
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("the server's log ends"), "{error}");
}

fn find(name: &str) -> PathBuf {
    let folders = ["/bin", "/usr/bin"].map(Path::new);
    let found = folders.iter().map(|folder| folder.join(name));
    found.into_iter().find(|path| path.exists()).unwrap()
}
