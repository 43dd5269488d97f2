//! Exit codes, signals, time limits and ends from elsewhere, with real processes.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::fake::{ACTIONS_SECRET, Fake, Reply};
use crate::harness::{Running, in_job, not_tested, output, run, script};

/// What the server answers when the task is over.
fn ended(status: u16) -> Reply {
    let refused = json!({"stage": "task", "rule": "task_ended"});
    Reply::Error(
        status,
        json!({"error": "invalid_token", "refused": refused}),
    )
}

#[test]
fn the_exit_code_is_the_commands() {
    for (command, code, outcome) in [
        (&["true"][..], 0, "completed"),
        (&["false"], 1, "failed"),
        (&["sh", "-c", "exit 7"], 7, "failed"),
        (&["sh", "-c", "exit 255"], 255, "failed"),
        (&["sh", "-c", "kill -9 $$"], 137, "failed"),
        (&["sh", "-c", "kill -15 $$"], 143, "failed"),
        (&["/bin/sh", "-c", "exit 3"], 3, "failed"),
    ] {
        let fake = Fake::start();
        let (got, _, stderr) = output(run(&fake, &[], command));
        assert_eq!(got, code, "{command:?}: {stderr}");
        assert_eq!(fake.ends(), [outcome], "{command:?}");
    }
}

#[test]
fn a_command_that_cannot_start_opens_no_task() {
    let fake = Fake::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plain");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let plain = file.to_str().unwrap();
    let place = folder.path().to_str().unwrap();
    for (command, code) in [
        ("no-such-command", 127),
        ("/no/such/command", 127),
        ("", 127),
        (plain, 126),
        (place, 126),
    ] {
        let (got, _, stderr) = output(run(&fake, &[], &[command]));
        assert_eq!(got, code, "{command}: {stderr}");
    }
    assert!(fake.state().calls.is_empty());
}

#[test]
fn a_command_without_its_interpreter_ends_the_task() {
    let fake = Fake::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orphaned");
    std::fs::write(&file, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (code, _, stderr) = output(run(&fake, &[], &[file.to_str().unwrap()]));
    assert_eq!(code, 127, "{stderr}");
    assert_eq!(fake.ends(), ["failed"]);
}

#[test]
fn a_signal_reaches_the_whole_group_and_cancels() {
    for (signal, name, code) in [(Signal::SIGINT, "INT", 3), (Signal::SIGTERM, "TERM", 3)] {
        let fake = Fake::start();
        // The inner shell is a child of the command; both must hear of it.
        let inner =
            format!("trap 'echo inner; exit 0' {name}; echo up; while :; do sleep 0.05; done");
        let outer = format!("trap 'exit 3' {name}; sh -c \"$INNER\"; exit 4");
        let mut command = script(&fake, &[], &outer);
        command.env("INNER", inner);
        let mut running = Running::start(command);
        assert_eq!(running.line(), "up");
        running.signal(signal);
        let (got, stdout, stderr) = running.end();
        assert_eq!(got, code, "{name}: {stderr}");
        assert_eq!(stdout, "inner\n", "{name}");
        assert_eq!(fake.ends(), ["cancelled"], "{name}");
    }
}

#[test]
fn a_command_that_ends_by_itself_after_a_signal_was_still_cancelled() {
    let fake = Fake::start();
    let trap = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let mut running = Running::start(script(&fake, &[], trap));
    running.line();
    running.signal(Signal::SIGTERM);
    let (code, _, stderr) = running.end();
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(fake.ends(), ["cancelled"]);
}

#[test]
fn another_signal_is_passed_on_as_well() {
    let fake = Fake::start();
    let trap = "trap 'echo heard' INT; trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done";
    let mut running = Running::start(script(&fake, &[], trap));
    assert_eq!(running.line(), "up");
    running.signal(Signal::SIGINT);
    assert_eq!(running.line(), "heard");
    running.signal(Signal::SIGTERM);
    let (code, stdout, stderr) = running.end();
    assert_eq!((code, stdout.as_str()), (4, "bye\n"), "{stderr}");
    assert_eq!(fake.ends(), ["cancelled"]);
}

#[test]
fn the_same_signal_again_or_a_third_kills() {
    let signals = [
        &[Signal::SIGINT, Signal::SIGINT][..],
        &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP],
    ];
    for signals in signals {
        // A run keeps the meaning of `nohup`, and so would these tests hand it on.
        if signals.contains(&Signal::SIGHUP) && hangup_is_ignored() {
            not_tested("a third signal: these tests run under nohup");
            continue;
        }
        let fake = Fake::start();
        let traps = "trap 'echo heard' INT TERM; trap '' HUP";
        let waits = format!("{traps}; echo up; while :; do sleep 0.05; done");
        let mut running = Running::start(script(&fake, &[], &waits));
        assert_eq!(running.line(), "up");
        let (last, first) = signals.split_last().unwrap();
        for signal in first {
            running.signal(*signal);
            assert_eq!(running.line(), "heard");
        }
        running.signal(*last);
        let (code, _, stderr) = running.end();
        assert_eq!(code, 137, "{signals:?}: {stderr}");
        assert_eq!(fake.ends(), ["cancelled"], "{signals:?}");
    }
}

/// Whether these tests, and so what they start, ignore SIGHUP: the first bit of the mask.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    u64::from_str_radix(mask.unwrap().trim(), 16).unwrap() & 1 != 0
}

#[test]
fn a_signal_before_the_command_starts_nothing() {
    let fake = Fake::start();
    fake.state().grants.push_back(Reply::Busy(60));
    let running = Running::start(run(&fake, &[], &["echo", "ran"]));
    running.wait_for("does not answer");
    running.signal(Signal::SIGTERM);
    let (code, stdout, stderr) = running.end();
    assert_eq!((code, stdout.as_str()), (143, ""), "{stderr}");
}

#[test]
fn a_command_out_of_time_is_stopped() {
    let fake = Fake::start();
    let (code, _, stderr) = output(run(&fake, &["--for", "1s"], &["sleep", "600"]));
    assert_eq!(code, 124, "{stderr}");
    assert_eq!(fake.ends(), ["cancelled"]);
    assert!(stderr.contains("1s of --for are over"), "{stderr}");
}

#[test]
fn a_stopped_command_hears_that_its_time_is_over() {
    let fake = Fake::start();
    let (code, _, stderr) = output(script(&fake, &["--for", "1s"], "kill -STOP $$"));
    assert_eq!(code, 124, "{stderr}");
}

#[test]
fn an_end_elsewhere_stops_the_command() {
    for status in [401, 403, 404] {
        let fake = Fake::start();
        fake.state().every = 1;
        let trap = "trap 'echo stopped; exit 0' TERM; echo up; while :; do sleep 0.05; done";
        let mut running = Running::start(script(&fake, &[], trap));
        assert_eq!(running.line(), "up");
        fake.state().beats.push_back(ended(status));
        let (code, stdout, stderr) = running.end();
        assert_eq!(
            (code, stdout.as_str()),
            (124, "stopped\n"),
            "{status}: {stderr}"
        );
        assert!(stderr.contains("the task was ended elsewhere"), "{stderr}");
    }
}

#[test]
fn an_end_elsewhere_may_leave_the_command() {
    let fake = Fake::start();
    fake.state().beats.push_back(ended(403));
    let running = Running::start(run(&fake, &["--on-end", "leave"], &["cat"]));
    running.wait_for("the task was ended elsewhere");
    let (code, _, stderr) = running.end();
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn a_dead_token_is_not_a_dead_task() {
    let fake = Fake::start();
    let body = json!({"error": "invalid_token", "refused": {"rule": "credential"}});
    fake.state().beats.push_back(Reply::Error(401, body));
    let running = Running::start(run(&fake, &[], &["cat"]));
    fake.wait_for("a second beat", |state| {
        let beats = state.calls.iter();
        beats
            .filter(|call| call.path.ends_with("/heartbeat"))
            .count()
            == 2
    });
    let (code, _, stderr) = running.end();
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        fake.beats()[1].authorization.as_deref(),
        Some("DPoP issued-token-2")
    );
    assert!(!stderr.contains("elsewhere"), "{stderr}");
}

#[test]
fn lost_contact_never_stops_the_command() {
    let fake = Fake::start();
    {
        let mut state = fake.state();
        let every = json!({"every": 1, "grace": 60});
        state.beats.push_back(Reply::Good(every));
        state.beats.push_back(Reply::Busy(60));
        state.beats.push_back(Reply::Lost);
        // What something on the way answers is no word of Dayfly's.
        state
            .beats
            .push_back(Reply::Error(404, json!("no such host")));
        state
            .beats
            .push_back(Reply::Error(403, json!({"message": "no"})));
    }
    let running = Running::start(run(&fake, &[], &["cat"]));
    running.wait_for("the server is heard again");
    let (code, _, stderr) = running.end();
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(fake.beats().len(), 6);
    assert_eq!(stderr.matches("lost contact").count(), 1, "{stderr}");
}

#[test]
fn an_end_is_repeated_until_it_is_taken() {
    let fake = Fake::start();
    fake.state().ends.extend([Reply::Busy(0), Reply::Lost]);
    let (code, _, stderr) = output(run(&fake, &[], &["true"]));
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(fake.ends(), ["completed"; 3]);
    assert!(stderr.contains("ended `completed`"), "{stderr}");
}

#[test]
fn an_end_that_is_not_taken_changes_no_exit_code() {
    let fake = Fake::start();
    fake.state().ends.push_back(Reply::Busy(600));
    let (code, _, stderr) = output(run(&fake, &[], &["sh", "-c", "exit 5"]));
    assert_eq!(code, 5, "{stderr}");
    assert!(stderr.contains("(failed) was not taken"), "{stderr}");
}

#[test]
fn the_command_inherits_no_proof_and_one_secret() {
    let fake = Fake::start();
    let mut command = script(
        &fake,
        &["--resource", "artifacts", "--proxy", "artifacts"],
        "tr '\\0' '\\n' < /proc/$$/environ; tr '\\0' ' ' < /proc/$PPID/cmdline",
    );
    command
        .env("DAYFLY_ID_TOKEN", "never-used")
        .env("DAYFLY_ID_TOKEN_FILE", "/never/used")
        .env("KEPT", "yes");
    let (code, stdout, stderr) = output(command);
    assert_eq!(code, 0, "{stderr}");
    for gone in [
        "ACTIONS_ID_TOKEN",
        "DAYFLY_ID_TOKEN",
        ACTIONS_SECRET,
        "never",
        "issued-token",
        "eyJ",
    ] {
        assert!(!stdout.contains(gone), "{gone} in: {stdout}");
    }
    for there in [
        "KEPT=yes",
        "DAYFLY_TASK=task_",
        "DAYFLY_CLIENT=client_",
        "DAYFLY_TENANT=acme",
        "DAYFLY_TOKEN_URL=http://127.0.0.1:",
        "DAYFLY_TOKEN_SECRET=",
        "DAYFLY_ARTIFACTS_URL=http://127.0.0.1:",
    ] {
        assert!(stdout.contains(there), "{there} not in: {stdout}");
    }
    let server = format!("DAYFLY_SERVER=http://127.0.0.1:{}\n", fake.port);
    assert!(stdout.contains(&server), "{stdout}");
}

#[test]
fn the_command_cannot_look_into_the_run() {
    let fake = Fake::start();
    let look = "head -c 1 /proc/$PPID/environ >/dev/null 2>&1 || echo closed; id -u";
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = folder.path().join("dayfly");
    std::fs::copy(env!("CARGO_BIN_EXE_dayfly"), &binary).unwrap();
    // Root looks into everything, so root runs this as nobody.
    let mut command = match nix::unistd::Uid::effective().is_root() {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
            command.arg(&binary);
            command
        }
        false => Command::new(&binary),
    };
    command.args(["run", "--", "sh", "-c", look]);
    let (code, stdout, stderr) = output(in_job(command, &fake));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("closed\n"), "{stdout}");
    assert_ne!(stdout, "closed\n0\n", "root cannot show anything here");
}

#[test]
fn as_process_1_it_buries_orphans_and_passes_signals_on() {
    let Some(namespaces) = process_namespace() else {
        return not_tested("process 1, burying orphans: no process namespace can be made here");
    };
    let fake = Fake::start();
    let mut command = in_job(Command::new("unshare"), &fake);
    // The orphan's parent ends at once, so the orphan falls to process 1, which is the run. It is buried when its
    // entry is gone; the kernel would keep it as a zombie otherwise.
    let orphaned = "
        orphan=$(sh -c 'sleep 0.05 >/dev/null & echo $!')
        while [ -e /proc/$orphan ]; do sleep 0.05; done
        echo buried; trap 'exit 9' TERM
        kill -TERM 1
        while :; do sleep 0.05; done";
    command
        .args(namespaces)
        .arg(env!("CARGO_BIN_EXE_dayfly"))
        .args(["run", "--for", "60s", "--", "sh", "-c", orphaned]);
    let (code, stdout, stderr) = output(command);
    assert_eq!((code, stdout.as_str()), (9, "buried\n"), "{stderr}");
    assert_eq!(fake.ends(), ["cancelled"]);
}

/// The options by which `unshare` makes a process namespace here: by itself for root, else within a
/// namespace of users, where the kernel lets anybody make one.
fn process_namespace() -> Option<Vec<&'static str>> {
    const OWN: [&str; 4] = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let works = |options: &Vec<&str>| {
        let tried = Command::new("unshare").args(options).arg("true").output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    let of_user = ["--user", "--map-root-user"].iter().chain(&OWN).copied();
    [OWN.to_vec(), of_user.collect()].into_iter().find(works)
}
