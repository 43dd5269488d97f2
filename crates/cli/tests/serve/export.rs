//! Entries as files, with the binary: exported beside a server and without one, and verified with nothing but a key.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::client::{Client, Outcome};
use crate::retain::{OLD, old, until_dropped};
use crate::stage::Stage;

const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");

/// Runs the binary in a folder: its exit code and everything it printed.
fn run(folder: &Path, line: &str, more: &[&str]) -> (i32, String) {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .args(line.split(' '))
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (
        done.status.code().unwrap(),
        String::from_utf8(said).unwrap(),
    )
}

fn exported(stage: &Stage, line: &str) -> Value {
    let (code, said) = run(stage.folder(), &format!("ledger export {line} --json"), &[]);
    assert_eq!(code, 0, "{line}: {said}");
    serde_json::from_str(&said).unwrap()
}

/// The bundles of a folder, in order.
fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// An auditor's folder: no configuration, no server, a key.
struct Auditor {
    folder: tempfile::TempDir,
    key: String,
}

impl Auditor {
    fn of(key: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = key.to_owned();
        Self { folder, key }
    }

    fn takes(&self, from: &Path, name: &str) -> PathBuf {
        let to = self.folder.path().join(name);
        fs::create_dir_all(&to).unwrap();
        for file in files(from) {
            fs::copy(from.join(&file), to.join(&file)).unwrap();
        }
        to
    }

    fn verify(&self, what: &str, more: &[&str]) -> (i32, String) {
        let line = format!("ledger verify {what} --key");
        let more: Vec<&str> = [self.key.as_str()]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        run(self.folder.path(), &line, &more)
    }

    #[track_caller]
    fn says(&self, what: &str, more: &[&str], wanted: (i32, &str)) {
        let (code, said) = self.verify(what, more);
        assert!(
            code == wanted.0 && said.contains(wanted.1),
            "{code}: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_are_exported_and_verified_by_whoever_has_a_key() {
    let mut stage = old().await;
    stage.start().await;
    let Outcome::Answered(client) = Client::grant(&stage.shared(), 1).await else {
        panic!("no answer");
    };
    // Half of what is exported has left the database by now.
    until_dropped(&stage).await;
    let all = exported(&stage, "all");
    let size = all["head"]["size"].as_u64().unwrap();
    assert_eq!((&all["from"], &all["to"]), (&0.into(), &(size - 1).into()));
    assert!(size > OLD as u64 && all["bundles"] == 3, "{all}");
    let acme = stage.folder().join("all/acme");
    let last = format!("000000000512.{}.bundle", size - 512);
    let names = ["000000000000.bundle", "000000000256.bundle", last.as_str()];
    assert_eq!(files(&acme), names);
    let note = |value: &Value| value["head"]["note"].as_str().unwrap().to_owned();
    let held = stage.folder().join("held.note");
    fs::write(&held, note(&all)).unwrap();

    // No annex is in it: an annex holds people.
    let text = |folder: &str| -> String {
        let folder = stage.folder().join(folder).join("acme");
        let read = |name: &String| fs::read_to_string(folder.join(name)).unwrap();
        files(&folder).iter().map(read).collect()
    };
    assert!(!text("all").contains(r#""annex":"#));
    exported(&stage, "people --annex");
    assert!(text("people").contains(r#""annex":"#));

    // Nothing is written over, not even by the same.
    let before = text("all");
    let (code, said) = run(stage.folder(), "ledger export all", &[]);
    assert!(code == 1 && said.contains("is there already"), "{said}");
    assert_eq!(text("all"), before);

    ranges(&stage, size);

    // An auditor has the files and the key, and nothing else.
    let auditor = Auditor::of(all["head"]["verifier_key"].as_str().unwrap());
    let mine = auditor.takes(&acme, "acme");
    fs::copy(&held, auditor.folder.path().join("held.note")).unwrap();
    alone(&auditor, &stage, size);
    tampered(&auditor, &mine);
    missing(&auditor, &mine);
    foreign(&auditor, &stage);

    // What the server itself moved out of its database proves itself too, and is still found.
    auditor.takes(&stage.folder().join("data/bundles/acme"), "retained");
    auditor.says("retained", &[], (0, "positions 0 to 511"));
    let step = "ledger verify data/bundles/TENANT";
    assert!(RUNBOOK.contains(&format!("\ndayfly {step}\n")));
    let (code, told) = run(stage.folder(), &step.replace("TENANT", "acme"), &[]);
    assert!(code == 0 && told.contains("holds: "), "{told}");
    let (ok, told) = stage.operate(&["trace", &client.task]);
    assert!(ok, "{told}");

    // With no server it is the database that is read, and later heads hold over both.
    stage.stop();
    let later = exported(&stage, "later --from 512");
    auditor.takes(&stage.folder().join("later/acme"), "later");
    auditor.says("later", &[], (0, "holds"));
    // An export that goes on from an earlier one: the short bundle is covered by the longer.
    for file in files(&stage.folder().join("later/acme")) {
        fs::copy(
            stage.folder().join("later/acme").join(&file),
            mine.join(&file),
        )
        .unwrap();
    }
    auditor.says("acme", &[], (0, "holds: the entries at positions 0 to "));
    auditor.says("acme", &["--head", "held.note"], (0, "holds"));
    assert!(later["head"]["size"].as_u64().unwrap() >= size);
}

/// Ranges, by position and by time, are whole bundles.
fn ranges(stage: &Stage, size: u64) {
    for (line, from, to) in [
        ("one --from 300 --to 300", 256, 511),
        ("two --from 512", 512, size - 1),
        ("old --until 1h", 0, size - 1),
        ("new --since 1h", 512, size - 1),
        ("first --until 2023-11-14T22:13:20Z --to 5", 0, 0),
    ] {
        if line.contains("--to 5") {
            let (code, said) = run(stage.folder(), &format!("ledger export {line}"), &[]);
            assert!(code == 2 && said.contains("cannot be used with"), "{said}");
            continue;
        }
        let part = exported(stage, line);
        assert_eq!(
            (&part["from"], &part["to"]),
            (&from.into(), &to.into()),
            "{line}"
        );
    }
    let (code, said) = run(stage.folder(), "ledger export none --from 9000", &[]);
    assert!(
        code == 1 && said.contains("no entry in that range"),
        "{said}"
    );
}

/// With the files and the key alone, a folder, a bundle and a part of them hold, by their own head or one kept before.
fn alone(auditor: &Auditor, stage: &Stage, size: u64) {
    auditor.says("acme", &[], (0, "holds: the entries at positions 0 to "));
    auditor.says("acme", &["--head", "held.note"], (0, "holds"));
    auditor.says("acme/000000000256.bundle", &[], (0, "positions 256 to 511"));
    auditor.says(
        "acme/000000000256.bundle",
        &["--head", "held.note"],
        (0, "holds"),
    );
    auditor.takes(&stage.folder().join("one/acme"), "one");
    auditor.says("one", &[], (0, "positions 256 to 511"));
    let (_, said) = auditor.verify("acme", &["--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said["holds"], &said["size"]),
        (&true.into(), &size.into())
    );
    auditor.says("acme", &["--head", "nothing"], (2, "cannot read"));
    auditor.says("nothing", &[], (2, "cannot read"));
    let (code, said) = run(auditor.folder.path(), "ledger verify acme --key k", &[]);
    assert!(code == 2 && said.contains("no verifier key"), "{said}");
}

/// Whatever byte is changed, it is told that one was, and where.
fn tampered(auditor: &Auditor, mine: &Path) {
    let path = mine.join("000000000256.bundle");
    let good = fs::read_to_string(&path).unwrap();
    let swapped = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
    };
    // Another owner in one leaf: it is still a leaf, and no leaf of this tree.
    swapped("owner-3", "owner-4");
    for what in ["acme", "acme/000000000256.bundle"] {
        auditor.says(what, &[], (1, "does not hold: tampered: "));
        auditor.says(
            what,
            &[],
            (1, "positions 256 to 511, are not those of its head"),
        );
    }
    swapped("\"pos\":300", "\"pos\":301");
    auditor.says("acme", &[], (1, "tampered: the bundle"));
    auditor.says("acme", &[], (1, "at position 300"));
    fs::write(&path, &good[..good.len() - 40]).unwrap();
    auditor.says("acme", &[], (1, "tampered: the bundle"));
    fs::write(&path, good).unwrap();
    auditor.says("acme", &[], (0, "holds"));
}

fn missing(auditor: &Auditor, mine: &Path) {
    for file in files(mine) {
        let bytes = fs::read(mine.join(&file)).unwrap();
        fs::remove_file(mine.join(&file)).unwrap();
        let first: u64 = file[..12].parse().unwrap();
        let wanted = format!("missing: there is no bundle of the positions {first} to ");
        auditor.says("acme", &[], (1, &wanted));
        fs::write(mine.join(&file), bytes).unwrap();
    }
    auditor.says("acme", &[], (0, "holds"));
}

fn foreign(auditor: &Auditor, stage: &Stage) {
    // Another key, and a head that another key signed.
    let other = "127.0.0.1:1/acme+5d3e4a3c+AYJ0Zl4Q";
    let (code, _) = run(auditor.folder.path(), "ledger verify acme --key", &[other]);
    assert_eq!(code, 2, "no key at all");
    let (key, head) = stranger(stage);
    let (code, said) = run(auditor.folder.path(), "ledger verify acme --key", &[&key]);
    assert!(code == 1 && said.contains("foreign: "), "{said}");
    fs::write(auditor.folder.path().join("strange.note"), &head).unwrap();
    let more = ["--head", "strange.note"];
    auditor.says(
        "acme",
        &more,
        (1, "foreign: the head given is not signed by the key"),
    );
    // Whoever trusts both keys is told that the roots differ.
    let both = ["--head", "strange.note", "--key", key.as_str()];
    auditor.says("acme", &both, (1, "foreign: "));
}

/// A head of as many entries by a key of somebody else.
fn stranger(stage: &Stage) -> (String, String) {
    use dayfly_ledger::{Head, SignerKey, sha256, sign_head};
    let (_, head) = run(stage.folder(), "ledger head --json", &[]);
    let head: Value = serde_json::from_str(&head).unwrap();
    let origin = head["origin"].as_str().unwrap();
    let key = SignerKey::from_seed(origin, &[7; 32]).unwrap();
    let size = fs::read_to_string(stage.folder().join("held.note")).unwrap();
    let size = size.lines().nth(1).unwrap().parse().unwrap();
    let note = sign_head(
        &Head {
            origin: origin.to_owned(),
            size,
            root: sha256(b"another tree"),
        },
        &key,
    );
    (key.verifier().to_string(), note.unwrap())
}
