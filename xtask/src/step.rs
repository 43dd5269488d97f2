//! Steps: one after the other, each with its time, up to the first that fails.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// One thing that CI does.
pub(crate) struct Step {
    /// What it is about, in a few words.
    pub(crate) name: &'static str,
    /// What does it.
    pub(crate) work: Work,
}

/// What a step does.
pub(crate) enum Work {
    /// Runs a program, whose output goes where ours goes.
    Run(Invocation),
    /// Runs a function of this crate. The text is the command that repeats it.
    Call(fn() -> Result<(), String>, &'static str),
}

/// A program with its arguments, from the folder of the workspace or one below it.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    program: String,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    folder: &'static str,
}

/// Runs the steps and says how it went.
pub(crate) fn run_all(steps: &[Step]) -> ExitCode {
    let began = now();
    for (index, step) in steps.iter().enumerate() {
        let place = format!("[{}/{}] {}", index + 1, steps.len(), step.name);
        println!("{place}: {step}");
        let since = now();
        match step.run() {
            Ok(()) => println!("{place}: ok, {}", seconds(since.elapsed())),
            Err(why) => {
                println!("{place}: failed after {}: {why}", seconds(since.elapsed()));
                println!("repeat it with: {step}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "all {} steps passed in {}",
        steps.len(),
        seconds(began.elapsed())
    );
    ExitCode::SUCCESS
}

impl Step {
    /// A step that runs a program.
    pub(crate) const fn run_of(name: &'static str, invocation: Invocation) -> Self {
        Self {
            name,
            work: Work::Run(invocation),
        }
    }

    fn run(&self) -> Result<(), String> {
        match &self.work {
            Work::Run(invocation) => invocation.run(),
            Work::Call(work, _) => work(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.work {
            Work::Run(invocation) => invocation.fmt(f),
            Work::Call(_, command) => f.write_str(command),
        }
    }
}

impl Invocation {
    /// A program and its arguments, which are parted by single spaces.
    pub(crate) fn of(program: impl Into<String>, arguments: &str) -> Self {
        Self {
            program: program.into(),
            arguments: arguments
                .split(' ')
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
            variables: Vec::new(),
            folder: "",
        }
    }

    /// Adds an argument that may hold spaces.
    pub(crate) fn with(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Runs it from a folder below the workspace's.
    pub(crate) fn within(mut self, folder: &'static str) -> Self {
        self.folder = folder;
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(&self) -> Result<(), String> {
        let status = self
            .command()
            .status()
            .map_err(|why| format!("`{}` does not start: {why}", self.program))?;
        if status.success() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    }

    /// Runs it to its end and gives what it wrote to standard output; none when it fails or is not
    /// there.
    pub(crate) fn output(&self) -> Option<String> {
        let output = self.command().output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(root().join(self.folder));
        command
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.folder.is_empty() {
            write!(f, "cd {} && ", self.folder)?;
        }
        for (name, value) in &self.variables {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str(&quoted(&self.program))?;
        for argument in &self.arguments {
            write!(f, " {}", quoted(argument))?;
        }
        Ok(())
    }
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// The binary that the step `tests` leaves: it lies beside this program.
pub(crate) fn binary() -> PathBuf {
    let beside = std::env::current_exe().map(|own| own.with_file_name("dayfly"));
    beside.unwrap_or_else(|_| usual_binary())
}

/// Where it lies unless cargo was told of another folder.
pub(crate) fn usual_binary() -> PathBuf {
    root().join("target/debug/dayfly")
}

/// As a shell would need it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a step took is shown and decides nothing"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_reads_as_a_shell_takes_it() {
        let invocation = Invocation::of("cargo", "doc --no-deps")
            .with("it's")
            .variable("RUSTDOCFLAGS", "-D warnings")
            .within("tests/e2e");
        assert_eq!(
            invocation.to_string(),
            "cd tests/e2e && RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'it'\\''s'"
        );
    }

    #[test]
    fn the_first_failure_is_the_last_step() {
        fn never() -> Result<(), String> {
            panic!("a step after the one that failed")
        }
        let steps = [
            Step::run_of("passes", Invocation::of("true", "")),
            Step::run_of("fails", Invocation::of("false", "")),
            Step {
                name: "waits",
                work: Work::Call(never, "never"),
            },
        ];
        assert_eq!(run_all(&steps), ExitCode::FAILURE);
        assert_eq!(run_all(&steps[..1]), ExitCode::SUCCESS);
        assert!(Invocation::of("no-such-program-here", "").run().is_err());
    }
}
