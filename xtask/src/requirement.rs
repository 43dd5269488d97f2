//! What the tests need on this machine: looked for, installed where that is ours to do, named where it is not.

use std::fs;

use crate::step::{Invocation, root};

/// The oldest Node that the end-to-end tests run on.
const NODE: u32 = 20;

/// Programs that tests start, and the Debian packages that hold them.
const PROGRAMS: [(&str, &str); 4] = [
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("strace", "strace"),
    ("unshare", "util-linux"),
];

/// Checks for what every step needs.
pub(crate) fn toolchain() -> Result<(), String> {
    for (component, arguments) in [("rustfmt", "fmt --version"), ("clippy", "clippy --version")] {
        if Invocation::of("cargo", arguments).output().is_none() {
            return Err(format!(
                "`{component}` is missing: install it with `rustup component add {component}`"
            ));
        }
    }
    for (program, package) in PROGRAMS {
        if !is_there(program) {
            install(program, package)?;
        }
    }
    Ok(())
}

/// Checks for Node and installs the packages that the lock file names, unless they are there.
pub(crate) fn node() -> Result<(), String> {
    let install = format!(
        "install Node.js {NODE} or newer with npm, from https://nodejs.org or your distribution; \
         or leave these steps out with `cargo xtask test --quick`"
    );
    let version = Invocation::of("node", "--version")
        .output()
        .ok_or_else(|| format!("`node` is missing: {install}"))?;
    match major(&version) {
        Some(major) if major >= NODE => {}
        Some(_) | None => return Err(format!("`node` is {}: {install}", version.trim())),
    }
    if !is_there("npm") {
        return Err(format!("`npm` is missing: {install}"));
    }
    let folder = root().join("tests/e2e");
    let lock = fs::read(folder.join("package-lock.json"))
        .map_err(|why| format!("tests/e2e/package-lock.json cannot be read: {why}"))?;
    // A copy of the lock file that was installed from says whether it still is the one.
    let installed = folder.join("node_modules/.installed-from.json");
    if fs::read(&installed).is_ok_and(|known| known == lock) {
        return Ok(());
    }
    let ci = Invocation::of("npm", "ci --ignore-scripts --no-audit --no-fund").within("tests/e2e");
    ci.run().map_err(|why| format!("`{ci}` failed: {why}"))?;
    fs::write(&installed, &lock).map_err(|why| format!("{}: {why}", installed.display()))
}

/// The JOSE library that the Python of `docs/delegation.md` uses.
const JOSERFC: &str = "joserfc==1.6.5";

/// Checks for Python and its JOSE library, and installs that beside what is built where it is not there.
pub(crate) fn python() -> Result<(), String> {
    if !is_there("python3") {
        install("python3", "python3")?;
    }
    if has_joserfc(&python_program()) {
        return Ok(());
    }
    let own = own_python();
    let steps = [
        Invocation::of("python3", "-m venv --clear").with(folder_of(&own)),
        Invocation::of(&own, "-m pip install --quiet --disable-pip-version-check").with(JOSERFC),
    ];
    for step in steps {
        step.run().map_err(|why| {
            format!("`{step}` failed: {why}; or install {JOSERFC} for `python3` yourself")
        })?;
    }
    Ok(())
}

/// The Python that has the library: the machine's, else our own.
pub(crate) fn python_program() -> String {
    if has_joserfc("python3") {
        "python3".to_owned()
    } else {
        own_python()
    }
}

fn own_python() -> String {
    root()
        .join("target/python/bin/python3")
        .display()
        .to_string()
}

fn folder_of(python: &str) -> String {
    python.trim_end_matches("/bin/python3").to_owned()
}

fn has_joserfc(python: &str) -> bool {
    Invocation::of(python, "-c")
        .with("import joserfc")
        .output()
        .is_some()
}

fn install(program: &str, package: &str) -> Result<(), String> {
    let root = Invocation::of("id", "-u")
        .output()
        .is_some_and(|id| id.trim() == "0");
    if !(root && is_there("apt-get")) {
        return Err(format!(
            "`{program}` is missing: install the package `{package}`, on Debian with `sudo apt-get install {package}`"
        ));
    }
    println!("`{program}` is missing, installing the package `{package}`");
    let install = Invocation::of("apt-get", "install --yes --no-install-recommends")
        .with(package)
        .variable("DEBIAN_FRONTEND", "noninteractive");
    let installed = install.run().or_else(|_| {
        Invocation::of("apt-get", "update").run()?;
        install.run()
    });
    installed.map_err(|why| format!("`{install}` failed: {why}"))
}

fn is_there(program: &str) -> bool {
    // All of them answer to `--version`.
    Invocation::of(program, "--version").output().is_some()
}

/// The first number of a version like `v20.1.0`.
fn major(version: &str) -> Option<u32> {
    let digits = version.trim().trim_start_matches('v');
    digits.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(major("v20.20.2\n"), Some(20));
        assert_eq!(major("18.0.0"), Some(18));
        assert_eq!(major("nightly"), None);
    }

    #[test]
    fn a_program_that_is_missing_is_noticed() {
        assert!(is_there("cargo"));
        assert!(!is_there("no-such-program-here"));
    }
}
