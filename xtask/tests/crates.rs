//! What may depend on what: the direction between our crates, and no second copy of anybody's.
#![expect(
    clippy::expect_used,
    reason = "a test says what went wrong by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which crates of the workspace each of them may know, beside its tests: exactly these.
const DIRECTION: [(&str, &[&str]); 8] = [
    ("dayfly-domain", &[]),
    ("dayfly-ledger", &[]),
    ("dayfly-token", &[]),
    ("dayfly-guard", &["dayfly-token"]),
    ("dayfly-store", &["dayfly-domain", "dayfly-ledger"]),
    (
        "dayfly-server",
        &[
            "dayfly-domain",
            "dayfly-ledger",
            "dayfly-store",
            "dayfly-token",
        ],
    ),
    // The binary wires everything together (docs/architecture.md).
    (
        "dayfly",
        &[
            "dayfly-domain",
            "dayfly-guard",
            "dayfly-ledger",
            "dayfly-server",
            "dayfly-store",
            "dayfly-token",
        ],
    ),
    // It links what it simulates, and nothing links it.
    (
        "dayfly-sim",
        &[
            "dayfly-domain",
            "dayfly-ledger",
            "dayfly-server",
            "dayfly-store",
            "dayfly-token",
        ],
    ),
];

/// What the binary keeps without its `server` feature: what a runner needs.
const CLIENT: [&str; 2] = ["dayfly-ledger", "dayfly-token"];

/// Crates that a release may hold twice, and why nothing can be done about it.
const TWICE: [(&str, &str); 10] = [
    (
        "syn",
        "derive macros are on their way from 2 to 3; it is used while building and not in the binary",
    ),
    (
        "untrusted",
        "aws-lc-rs reads RSA public keys with 0.7 (`ring-io`), rustls-webpki has 0.9; 300 lines each",
    ),
    (
        "block-buffer",
        "the parser generator of Cedar's build hashes with sha3 of the former line, at build time only",
    ),
    ("crypto-common", "as block-buffer"),
    ("digest", "as block-buffer"),
    (
        "itertools",
        "Cedar takes the newest and the parser generator of its build the former one",
    ),
    (
        "base64",
        "OpenTelemetry's OTLP is on the former one; with the feature `otel` only",
    ),
    ("cpufeatures", "as base64, for its random ids"),
    ("getrandom", "as cpufeatures"),
    (
        "unicode-width",
        "miette, in which Cedar tells errors, stays behind Cedar's own formatter",
    ),
];

#[test]
fn crates_know_only_what_they_may() {
    let metadata = metadata();
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages(&metadata) {
        found.insert(name(package), known_by(package).collect());
    }
    let ours: BTreeSet<&str> = found
        .keys()
        .copied()
        .filter(|name| *name != "xtask")
        .collect();
    for (name, may) in DIRECTION {
        let Some(knows) = found.get(name) else {
            // The crate is not there yet.
            continue;
        };
        let may: BTreeSet<&str> = may
            .iter()
            .copied()
            .filter(|name| ours.contains(name))
            .collect();
        assert_eq!(*knows, may, "{name}");
    }
    let named: BTreeSet<&str> = DIRECTION.iter().map(|(name, _)| *name).collect();
    assert!(ours.is_subset(&named), "a crate without a place: {ours:?}");
    assert!(
        found.values().all(|knows| !knows.contains("xtask")),
        "xtask is for nobody to know"
    );
}

#[test]
fn the_client_alone_knows_neither_server_nor_store() {
    let metadata = metadata();
    let binary = packages(&metadata).find(|package| name(package) == "dayfly");
    let binary = binary.expect("the package `dayfly`");
    let always: BTreeSet<&str> = dependencies(binary)
        .filter(|dependency| dependency["optional"] == Value::Bool(false))
        .filter_map(of_workspace)
        .collect();
    let may = BTreeSet::from(CLIENT);
    assert!(
        always.is_subset(&may),
        "{always:?} without the feature `server`"
    );
}

#[test]
fn domain_and_ledger_do_without_std() {
    for name in ["domain", "ledger"] {
        let path = root().join(format!("crates/{name}/src/lib.rs"));
        let text = std::fs::read_to_string(&path).expect("a lib.rs");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"#![no_std]"), "{}", path.display());
        for (before, line) in lines.iter().zip(lines.iter().skip(1)) {
            let for_tests = *before == "#[cfg(test)]";
            assert!(
                for_tests || *line != "extern crate std;",
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn no_crate_is_there_twice_without_a_reason() {
    let tree = output(&[
        "tree",
        "--locked",
        "--workspace",
        "--all-features",
        "--duplicates",
        "--edges=normal,build",
        "--depth=0",
        "--prefix=none",
    ]);
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name).or_default().insert(version);
        }
    }
    // One version may be listed twice, when build scripts want other features of it.
    let twice: BTreeSet<&str> = versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, _)| *name)
        .collect();
    let allowed: BTreeSet<&str> = TWICE.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        twice, allowed,
        "`cargo tree --duplicates` and the list of reasons differ"
    );
    assert!(TWICE.iter().all(|(_, why)| !why.is_empty()));
}

fn metadata() -> Value {
    let text = output(&["metadata", "--format-version=1", "--no-deps", "--locked"]);
    serde_json::from_str(&text).expect("json")
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap_or_default()
}

/// Crates of the workspace that a package depends on, beside its tests.
fn known_by(package: &Value) -> impl Iterator<Item = &str> {
    dependencies(package).filter_map(of_workspace)
}

fn dependencies(package: &Value) -> impl Iterator<Item = &Value> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    all.filter(|dependency| dependency["kind"].as_str() != Some("dev"))
}

/// Only crates of the workspace are named by a path.
fn of_workspace(dependency: &Value) -> Option<&str> {
    dependency["path"].as_str()?;
    dependency["name"].as_str()
}

fn output(arguments: &[&str]) -> String {
    let output = Command::new("cargo")
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("utf-8")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
