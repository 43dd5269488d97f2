//! What the runner's commands say, and the exit codes they end with.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// Ended elsewhere or out of time.
pub(crate) const ENDED: u8 = 124;
/// Dayfly failed, or was used wrongly.
pub(crate) const FAILED: u8 = 125;
/// Refused, or the command cannot be executed.
pub(crate) const REFUSED: u8 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// What a program that was killed by signal `number` is said to have ended with.
pub(crate) fn killed_by(number: i32) -> u8 {
    u8::try_from(number)
        .ok()
        .and_then(|number| number.checked_add(128))
        .unwrap_or(FAILED)
}

/// Says one line on standard error.
pub(crate) fn say(line: impl fmt::Display) {
    // A closed standard error must not stop a command that runs.
    let _closed = writeln!(std::io::stderr().lock(), "dayfly: {line}");
}

/// Writes the answer of a command to standard output.
pub(crate) fn answer(text: impl fmt::Display) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("cannot write the answer: {error}"));
            FAILED.into()
        }
    }
}
