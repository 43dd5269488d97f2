//! A run on a terminal: the command reads from it and is interrupted by it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::fake::Fake;
use crate::harness::{in_job, not_tested};

/// A shell's loop until its group has the terminal (fields 5 and 8 of its `stat`), which it gets a moment after it
/// was started: what is typed before that goes to the run.
const HAS_TERMINAL: &str = "until read pid name state parent own session tty fore rest < /proc/$$/stat && [ $own = $fore ]; do :; done";

/// A shell command on a terminal of its own, which util-linux's `script` makes.
struct OnTerminal {
    child: Child,
    keys: ChildStdin,
    screen: BufReader<ChildStdout>,
}

impl OnTerminal {
    /// `None` where there is no `script` to make a terminal.
    fn start(fake: &Fake, line: &str) -> Option<Self> {
        let mut command = in_job(Command::new("script"), fake);
        command
            .env("SHELL", "/bin/sh")
            .env("DAYFLY", env!("CARGO_BIN_EXE_dayfly"))
            .args(["-q", "-e", "-c", line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let Ok(mut child) = command.spawn() else {
            not_tested("a terminal: there is no `script` here to make one");
            return None;
        };
        Some(Self {
            keys: child.stdin.take().unwrap(),
            screen: BufReader::new(child.stdout.take().unwrap()),
            child,
        })
    }

    /// Types once the screen shows `line`.
    fn type_after(&mut self, line: &str, keys: &str) {
        let mut shown = String::new();
        while shown.trim_end() != line {
            shown.clear();
            assert_ne!(self.screen.read_line(&mut shown).unwrap(), 0, "no {line}");
        }
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn end(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.screen.read_to_string(&mut rest).unwrap();
        drop(self.keys);
        (self.child.wait().unwrap().code().unwrap(), rest)
    }
}

#[test]
fn a_command_reads_from_the_terminal_and_gives_it_back() {
    let fake = Fake::start();
    let line = r#""$DAYFLY" run -- sh -c 'echo up; read x; echo "got $x"'; read y; echo "then $y""#;
    let Some(mut terminal) = OnTerminal::start(&fake, line) else {
        return;
    };
    terminal.type_after("up", "one\ntwo\n");
    let (code, rest) = terminal.end();
    assert_eq!(code, 0, "{rest}");
    assert!(rest.contains("got one\r\n"), "{rest}");
    assert!(rest.contains("then two\r\n"), "{rest}");
    assert_eq!(fake.ends(), ["completed"]);
}

#[test]
fn an_interrupt_from_the_terminal_reaches_the_command_and_cancels() {
    let fake = Fake::start();
    let line = format!(r#""$DAYFLY" run -- sh -c '{HAS_TERMINAL}; echo up; sleep 60'"#);
    let Some(mut terminal) = OnTerminal::start(&fake, &line) else {
        return;
    };
    terminal.type_after("up", "\u{3}");
    let (code, rest) = terminal.end();
    assert_eq!(code, 130, "{rest}");
    assert!(!rest.contains("passing"), "{rest}");
    assert_eq!(fake.ends(), ["cancelled"]);
}

#[test]
fn a_shell_stops_and_continues_run_and_command_alike() {
    let fake = Fake::start();
    let line = format!(
        r#"set -m
        "$DAYFLY" run -- sh -c '{HAS_TERMINAL}; echo up; read x; echo "got $x"'
        echo; echo stopped; read y; fg >/dev/null; echo "then $y""#
    );
    let Some(mut terminal) = OnTerminal::start(&fake, &line) else {
        return;
    };
    terminal.type_after("up", "\u{1a}");
    terminal.type_after("stopped", "one\ntwo\n");
    let (code, rest) = terminal.end();
    assert_eq!(code, 0, "{rest}");
    assert!(rest.contains("got two\r\n"), "{rest}");
    assert!(rest.contains("then one\r\n"), "{rest}");
    assert_eq!(fake.ends(), ["completed"]);
}
