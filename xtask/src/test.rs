//! `cargo xtask test`: the steps, in the order in which a mistake is found soonest.

use std::process::ExitCode;

use crate::step::{Invocation, Step, Work, root, run_all};
use crate::{readme, requirement};

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All that CI does.
    Everything,
    /// What needs no Node.
    Quick,
}

/// Runs the steps.
pub(crate) fn main(extent: Extent) -> ExitCode {
    let mut steps = everywhere();
    if extent == Extent::Everything {
        steps.extend(with_node());
    }
    run_all(&steps)
}

fn everywhere() -> Vec<Step> {
    let cargo = |arguments| Invocation::of("cargo", arguments);
    vec![
        Step {
            name: "what is needed",
            work: Work::Call(requirement::toolchain, "cargo xtask test --quick"),
        },
        Step::run_of("format", cargo("fmt --all --check")),
        Step::run_of(
            "lint",
            cargo("clippy --locked --workspace --all-targets --all-features -- -D warnings"),
        ),
        // Dependency direction, second copies of crates and the documents are tests of this crate.
        Step::run_of("tests", cargo("test --locked --workspace --all-features")),
        // The one binary as a small client, for runners that never see a server.
        Step::run_of(
            "client alone",
            cargo("clippy --locked --package dayfly --no-default-features -- -D warnings"),
        ),
        Step::run_of(
            "reference",
            cargo("doc --locked --workspace --no-deps --all-features")
                .variable("RUSTDOCFLAGS", "-D warnings"),
        ),
        Step::run_of("binary", cargo("build --locked --package dayfly")),
        Step {
            name: "commands in README.md",
            work: Work::Call(readme::check, "cargo run -- --help"),
        },
    ]
}

fn with_node() -> Vec<Step> {
    let mut steps = vec![
        Step {
            name: "what Node needs",
            work: Work::Call(requirement::node, "cd tests/e2e && npm ci"),
        },
        Step::run_of(
            "a real client",
            Invocation::of("node", "--test --test-reporter=spec").within("tests/e2e"),
        ),
    ];
    steps.extend(crash());
    steps
}

/// The crash test: `kill -9` of the server at random moments under load, twenty rounds, then `fsck`.
/// It is a folder of its own beside the end-to-end tests, and uses their client.
fn crash() -> Option<Step> {
    let written = root().join("tests/crash").is_dir();
    written.then(|| {
        Step::run_of(
            "crashes",
            Invocation::of("node", "--test --test-reporter=spec").within("tests/crash"),
        )
    })
}
