//! `cargo xtask guards`: takes the guard of each promise out of a copy of the sources, and demands that the test named for it goes red.

mod raced;
mod stored;
mod table;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::root;
use table::{Guard, guards};

/// What of the workspace is copied.
const COPIED: [&str; 7] = [
    "Cargo.toml",
    "Cargo.lock",
    "clippy.toml",
    ".cargo",
    "crates",
    "tests/sim",
    "xtask",
];

/// Runs them all, those of one file after each other: what lies below the next one is built already then.
pub(crate) fn check() -> Result<(), String> {
    let copy = Copy::make()?;
    let mut wrong = Vec::new();
    let mut all: Vec<&Guard> = guards().collect();
    all.sort_by_key(|guard| (guard.file, guard.target));
    for guard in &all {
        let seen = copy.without(guard)?;
        println!(
            "{}, without {}: {} {seen}",
            guard.promise, guard.what, guard.test
        );
        if seen != Seen::Red {
            wrong.push(guard.test);
        }
    }
    if !wrong.is_empty() {
        return Err(format!("did not go red: {}", wrong.join(", ")));
    }
    let promises: BTreeSet<&str> = all.iter().map(|guard| guard.promise).collect();
    println!(
        "{} guards of {} taken out, one at a time",
        all.len(),
        promises.into_iter().collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

/// What became of a test whose guard was taken out.
#[derive(PartialEq, Eq)]
enum Seen {
    Red,
    Green,
    /// It was not even begun; what cargo said.
    NotRun(String),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Red => f.write_str("goes red"),
            Self::Green => f.write_str("STAYS GREEN"),
            Self::NotRun(said) => write!(f, "DOES NOT RUN:\n{said}"),
        }
    }
}

/// The sources apart from the workspace, so that no build with a hole in it lies where another is
/// looked for. What they depend on is built once for both.
struct Copy {
    folder: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn make() -> Result<Self, String> {
        let target = root().join("target");
        let folder = target.join("guards");
        fs::create_dir_all(&folder).map_err(|why| told(&folder, &why))?;
        for name in COPIED {
            mirror(&root().join(name), &folder.join(name))?;
        }
        // Under another version nothing that is built of the copy is taken for what is built of the
        // workspace, while what both depend on is built once.
        for name in ["Cargo.toml", "Cargo.lock"] {
            let file = folder.join(name);
            let text = read(&file)?;
            let other = renamed(&text);
            if other == text {
                return Err(format!("{name} names no version of ours"));
            }
            write(&file, &other)?;
        }
        Ok(Self { folder, target })
    }

    /// What becomes of the guard's test without it.
    fn without(&self, guard: &Guard) -> Result<Seen, String> {
        let file = self.folder.join(guard.file);
        let honest = read(&file)?;
        if honest.matches(guard.guard).count() != 1 {
            return Err(format!(
                "{} does not hold exactly once what the table of guards names: {}",
                guard.file, guard.guard
            ));
        }
        write(&file, &honest.replacen(guard.guard, guard.without, 1))?;
        let output = Command::new("cargo")
            .args(["test", "--locked", "--all-features"])
            .args(guard.target.split(' '))
            .args(["--", "--exact", guard.test])
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", &self.target)
            // Only whether it goes red is looked at: not where, and not by how little.
            .env("CARGO_PROFILE_DEV_DEBUG", "none")
            .env("PROPTEST_MAX_SHRINK_ITERS", "0")
            .output()
            .map_err(|why| format!("cargo does not start: {why}"));
        write(&file, &honest)?;
        let output = output?;
        let said = String::from_utf8_lossy(&output.stdout);
        let ended = |how: &str| said.contains(&format!("test {} ... {how}", guard.test));
        Ok(if ended("FAILED") {
            Seen::Red
        } else if ended("ok") {
            Seen::Green
        } else {
            Seen::NotRun(format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
        })
    }
}

/// Our packages under a version of their own: in the workspace's table, and below our names in the lock.
fn renamed(text: &str) -> String {
    let own = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
    let other = concat!("version = \"", env!("CARGO_PKG_VERSION"), "-guards\"");
    let mut ours = false;
    let mut out = String::with_capacity(text.len() + 256);
    for line in text.lines() {
        if line.starts_with('[') {
            ours = line == "[workspace.package]";
        } else if let Some(name) = line.strip_prefix("name = \"") {
            ours = name.starts_with("dayfly") || name == "xtask\"";
        }
        out.push_str(if ours && line == own { other } else { line });
        out.push('\n');
    }
    out
}

/// Makes `to` what `from` is; a file that is the same already keeps its time, for cargo to see.
fn mirror(from: &Path, to: &Path) -> Result<(), String> {
    if from.is_file() {
        let text = fs::read(from).map_err(|why| told(from, &why))?;
        if fs::read(to).is_ok_and(|there| there == text) {
            return Ok(());
        }
        return fs::write(to, text).map_err(|why| told(to, &why));
    }
    fs::create_dir_all(to).map_err(|why| told(to, &why))?;
    let wanted = names(from)?;
    for name in names(to)?.difference(&wanted) {
        let gone = to.join(name);
        let removed = if gone.is_dir() {
            fs::remove_dir_all(&gone)
        } else {
            fs::remove_file(&gone)
        };
        removed.map_err(|why| told(&gone, &why))?;
    }
    for name in wanted {
        mirror(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

fn names(folder: &Path) -> Result<BTreeSet<OsString>, String> {
    let entries = fs::read_dir(folder).map_err(|why| told(folder, &why))?;
    entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()
        .map_err(|why| told(folder, &why))
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|why| told(file, &why))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|why| told(file, &why))
}

fn told(path: &Path, why: &std::io::Error) -> String {
    format!("{}: {why}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taking them out takes minutes; that they can be is told at once.
    #[test]
    fn each_guard_stands_once_in_the_file_that_it_is_named_in() {
        for guard in guards() {
            let text = read(&root().join(guard.file)).unwrap();
            let times = text.matches(guard.guard).count();
            assert_eq!(times, 1, "{}: {}", guard.file, guard.guard);
        }
    }

    #[test]
    fn each_test_that_is_named_for_a_guard_is_there() {
        let mut sources = String::new();
        for folder in ["crates", "tests/sim"] {
            gather(&root().join(folder), &mut sources);
        }
        for guard in guards() {
            let name = guard.test.rsplit("::").next().unwrap();
            assert!(sources.contains(name), "{}", guard.test);
        }
    }

    fn gather(path: &Path, sources: &mut String) {
        if path.is_dir() {
            for name in names(path).unwrap() {
                gather(&path.join(name), sources);
            }
        } else if path.extension().is_some_and(|of| of == "rs") {
            sources.push_str(&read(path).unwrap());
        }
    }
}
