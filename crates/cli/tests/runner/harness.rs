//! Starts the binary as a job would, and waits for what it does.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fake::{ACTIONS_SECRET, Fake};

/// The binary in a clean environment, not yet started.
pub(crate) fn dayfly() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dayfly"));
    command.env_clear().env("PATH", env!("PATH"));
    command
}

/// `dayfly run` in a GitHub job, with these options and this command.
pub(crate) fn run(fake: &Fake, options: &[&str], command: &[&str]) -> Command {
    let mut run = in_job(dayfly(), fake);
    run.arg("run").args(options).arg("--").args(command);
    run
}

/// `dayfly run` of a shell script.
pub(crate) fn script(fake: &Fake, options: &[&str], script: &str) -> Command {
    run(fake, options, &["sh", "-c", script])
}

/// Gives a command what a GitHub job has.
pub(crate) fn in_job(mut command: Command, fake: &Fake) -> Command {
    command
        .env("DAYFLY_SERVER", format!("http://127.0.0.1:{}", fake.port))
        .env("DAYFLY_TENANT", "acme")
        .env(
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            format!("http://127.0.0.1:{}/actions?api-version=2.0", fake.port),
        )
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", ACTIONS_SECRET);
    command
}

/// Runs to the end; nothing secret may stand in what was printed to standard error.
pub(crate) fn output(mut command: Command) -> (u8, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    told(&output)
}

fn told(output: &Output) -> (u8, String, String) {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_discreet(&stderr);
    let code = u8::try_from(output.status.code().unwrap()).unwrap();
    (code, stdout, stderr)
}

pub(crate) fn assert_discreet(stderr: &str) {
    for secret in [
        "issued-token",
        ACTIONS_SECRET,
        "eyJ",
        "c2lnbmF0dXJl",
        "Bearer ",
    ] {
        assert!(!stderr.contains(secret), "{secret} in: {stderr}");
    }
}

/// A run that goes on while the test does something.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: Arc<(Mutex<String>, Condvar)>,
    listening: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let said = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let shared = Arc::clone(&said);
        let listening = thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).unwrap() > 0 {
                shared.0.lock().unwrap().push_str(&line);
                shared.1.notify_all();
                line.clear();
            }
        });
        Self {
            child,
            stdout,
            said,
            listening,
        }
    }

    /// The next line of standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits until standard error holds `text`.
    pub(crate) fn wait_for(&self, text: &str) {
        let (said, changed) = &*self.said;
        let limit = Duration::from_secs(60);
        let (said, timeout) = changed
            .wait_timeout_while(said.lock().unwrap(), limit, |said| !said.contains(text))
            .unwrap();
        assert!(!timeout.timed_out(), "never said {text}: {said}");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// Closes standard input and waits for the end.
    pub(crate) fn end(mut self) -> (u8, String, String) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        self.listening.join().unwrap();
        let stderr = self.said.0.lock().unwrap().clone();
        assert_discreet(&stderr);
        (u8::try_from(status.code().unwrap()).unwrap(), rest, stderr)
    }
}

/// Says past the capture of the test's output what this run does not show, or fails where
/// `DAYFLY_TESTS=all` says that nothing may be left out.
pub(crate) fn not_tested(what: &str) {
    #[expect(clippy::disallowed_methods, reason = "a switch of the tests alone")]
    let all = std::env::var_os("DAYFLY_TESTS").is_some_and(|extent| extent == "all");
    assert!(!all, "not tested: {what}");
    let line = format!("\nNOT TESTED: {what} (DAYFLY_TESTS=all makes this a failure)\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
