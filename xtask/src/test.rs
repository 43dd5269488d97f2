//! `cargo xtask test`: the steps, in the order in which a mistake is found soonest.

use std::process::ExitCode;

use crate::step::{Invocation, Step, Work, binary, run_all, usual_binary};
use crate::{guards, readme, requirement};

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
    let mut steps = vec![Step {
        name: "what is needed",
        work: Work::Call(requirement::toolchain, "cargo xtask test --quick"),
    }];
    if extent == Extent::Everything {
        // First, so that nobody waits for minutes to hear that it is not there.
        steps.push(Step {
            name: "what Node needs",
            work: Work::Call(requirement::node, "cd tests/e2e && npm ci"),
        });
        steps.push(Step {
            name: "what Python needs",
            work: Work::Call(requirement::python, "pip install joserfc"),
        });
    }
    steps.extend(by_cargo());
    if extent == Extent::Everything {
        steps.push(Step::run_of("a real client", real_client()));
        steps.push(guards());
    }
    run_all(&steps)
}

/// Runs the checks of the guards and nothing else.
pub(crate) fn guards_alone() -> ExitCode {
    run_all(&[guards()])
}

fn guards() -> Step {
    Step {
        name: "guards taken out",
        work: Work::Call(guards::check, "cargo xtask guards"),
    }
}

fn real_client() -> Invocation {
    let tests = Invocation::of("node", "--test --test-reporter=spec")
        .within("tests/e2e")
        .variable("DAYFLY_PYTHON", requirement::python_program());
    let binary = binary();
    if binary == usual_binary() {
        tests
    } else {
        tests.variable("DAYFLY_BIN", binary.display().to_string())
    }
}

fn by_cargo() -> Vec<Step> {
    let cargo = |arguments| Invocation::of("cargo", arguments);
    vec![
        Step::run_of("format", cargo("fmt --all --check")),
        Step::run_of(
            "lint",
            cargo("clippy --locked --workspace --all-targets --all-features -- -D warnings"),
        ),
        // The one binary as a small client, for runners that never see a server.
        Step::run_of(
            "client alone",
            cargo("clippy --locked --package dayfly --no-default-features -- -D warnings"),
        ),
        // Among them: dependency direction, second copies of crates and the documents (xtask/tests),
        // and twenty rounds of `kill -9` under load (crates/cli/tests/serve).
        Step::run_of("tests", cargo("test --locked --workspace --all-features")),
        Step::run_of(
            "reference",
            cargo("doc --locked --workspace --no-deps --all-features")
                .variable("RUSTDOCFLAGS", "-D warnings"),
        ),
        // As it is shipped, without what the tests' dependencies turn on. What the steps after this
        // one run is the binary that the tests were built with.
        Step::run_of("binary", cargo("check --locked --package dayfly")),
        Step {
            name: "commands in README.md",
            work: Work::Call(readme::check, "cargo run -- --help"),
        },
    ]
}
