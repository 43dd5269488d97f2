//! The one place that reads the environment.

use std::ffi::OsString;

/// Where GitHub Actions gives out tokens.
pub(crate) const ACTIONS_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
/// What GitHub Actions wants to see for one.
pub(crate) const ACTIONS_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// A platform token itself, as GitLab gives it.
pub(crate) const ID_TOKEN: &str = "DAYFLY_ID_TOKEN";
/// A file that holds a platform token.
pub(crate) const ID_TOKEN_FILE: &str = "DAYFLY_ID_TOKEN_FILE";
/// The token of the person on whose behalf a run acts.
pub(crate) const SUBJECT_TOKEN: &str = "DAYFLY_SUBJECT_TOKEN";
/// A file that holds one.
pub(crate) const SUBJECT_TOKEN_FILE: &str = "DAYFLY_SUBJECT_TOKEN_FILE";
/// Where a command inside a run asks for tokens.
pub(crate) const TOKEN_URL: &str = "DAYFLY_TOKEN_URL";
/// What it has to show there.
pub(crate) const TOKEN_SECRET: &str = "DAYFLY_TOKEN_SECRET";

/// Where a person's state is kept (XDG Base Directory Specification).
#[cfg(feature = "server")]
pub(crate) const XDG_STATE_HOME: &str = "XDG_STATE_HOME";
/// A person's folder.
#[cfg(feature = "server")]
pub(crate) const HOME: &str = "HOME";

/// What a command must not inherit, because each lets its holder prove to be the run, or act for its
/// person.
pub(crate) const PROOFS: [&str; 6] = [
    ACTIONS_URL,
    ACTIONS_TOKEN,
    ID_TOKEN,
    ID_TOKEN_FILE,
    SUBJECT_TOKEN,
    SUBJECT_TOKEN_FILE,
];

/// A variable that is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The folders that hold programs.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]
pub(crate) fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into())
}
