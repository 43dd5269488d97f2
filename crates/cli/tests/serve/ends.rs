//! Every end by hand with the real binary: looked at, refused without a reason, done, done with a block, as text and as JSON, and lifted again.

use std::process::Command;

use serde_json::Value;

use crate::client::{Client, Outcome};
use crate::stage::{Shared, Stage};

/// What of an end stands in the way of what comes next.
#[derive(Clone, Copy, PartialEq)]
enum Blocks {
    /// Nothing, unless `--block` says so.
    WhenSaid,
    /// It does in any case, and may be said to.
    Always,
    /// It does in any case: that is what the command is.
    Itself,
}

/// An end: its command with `CLIENT`, `TASK` and `INSTANCE` for those of a job that is there, and
/// what lifts it with `BLOCK` for what it says it blocked.
struct End {
    command: &'static str,
    blocks: Blocks,
    lift: &'static str,
    /// The members that its JSON has, beside those that every end has.
    members: &'static [&'static str],
    /// Why what it ends is gone, as its trace says it: without `--block` and with it, or where it
    /// blocks in any case.
    causes: [&'static str; 2],
}

const UNBLOCK: &str = "unblock BLOCK";

/// The members of what is stopped as a whole.
const STOPPED: &[&str] = &["on", "applied", "since", "ended"];

/// The same of an owner whose workloads are handed over.
const HANDED: &[&str] = &["on", "applied", "since", "ended", "to"];

const ENDS: [End; 11] = [
    End {
        command: "client end CLIENT",
        blocks: Blocks::WhenSaid,
        lift: UNBLOCK,
        members: &["task", "client", "task_ended", "cause", "at", "block"],
        causes: ["operator"; 2],
    },
    End {
        command: "task end TASK",
        blocks: Blocks::Always,
        lift: UNBLOCK,
        members: &["task", "cause", "at", "block"],
        causes: ["operator"; 2],
    },
    End {
        command: "instance end INSTANCE",
        blocks: Blocks::WhenSaid,
        lift: UNBLOCK,
        members: &["on", "clients", "tasks", "at", "block"],
        causes: ["operator"; 2],
    },
    End {
        command: "owner end team-platform",
        blocks: Blocks::WhenSaid,
        lift: "owner restore team-platform",
        members: STOPPED,
        causes: ["operator", "owner_offboarded"],
    },
    End {
        command: "workload end release",
        blocks: Blocks::WhenSaid,
        lift: "workload enable release",
        members: STOPPED,
        causes: ["operator", "workload_disabled"],
    },
    End {
        command: "issuer end github",
        blocks: Blocks::WhenSaid,
        lift: UNBLOCK,
        members: STOPPED,
        causes: ["operator", "issuer_removed"],
    },
    End {
        command: "tenant end",
        blocks: Blocks::WhenSaid,
        lift: "unfreeze",
        members: STOPPED,
        causes: ["operator"; 2],
    },
    End {
        command: "owner offboard team-platform",
        blocks: Blocks::Itself,
        lift: "owner restore team-platform",
        members: STOPPED,
        causes: ["owner_offboarded"; 2],
    },
    End {
        command: "owner offboard team-platform --to team-heirs",
        blocks: Blocks::Itself,
        lift: "owner restore team-platform",
        members: HANDED,
        causes: ["owner_offboarded"; 2],
    },
    End {
        command: "workload disable release",
        blocks: Blocks::Itself,
        lift: "workload enable release",
        members: STOPPED,
        causes: ["workload_disabled"; 2],
    },
    End {
        command: "freeze",
        blocks: Blocks::Itself,
        lift: "unfreeze",
        members: STOPPED,
        causes: ["operator"; 2],
    },
];

/// A job that is there, and what an end of it is told by.
struct There {
    client: Client,
    instance: String,
}

impl There {
    async fn new(stage: &Stage, shared: &Shared, run: &mut u64) -> Self {
        *run += 1;
        let Outcome::Answered(client) = Client::grant(shared, *run).await else {
            panic!("no answer");
        };
        let shown = json(stage, &["task", "show", &client.task, "--json"]);
        let instance = shown["clients"][0]["instance"].as_str().unwrap().to_owned();
        Self { client, instance }
    }

    fn named(&self, command: &str) -> Vec<String> {
        let named = |word: &str| match word {
            "CLIENT" => self.client.id.clone(),
            "TASK" => self.client.task.clone(),
            "INSTANCE" => self.instance.clone(),
            word => word.to_owned(),
        };
        command.split(' ').map(named).collect()
    }
}

/// Runs a command: its exit code, what it printed and what it said besides.
fn run(stage: &Stage, words: &[&str]) -> (Option<i32>, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .args(words)
        .args(["--config", "dayfly.toml"])
        .current_dir(stage.folder())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

fn said(stage: &Stage, words: &[&str]) -> String {
    let (code, printed, why) = run(stage, words);
    assert_eq!(code, Some(0), "{words:?}: {printed}{why}");
    printed
}

fn json(stage: &Stage, words: &[&str]) -> Value {
    let printed = said(stage, words);
    serde_json::from_str(&printed).unwrap_or_else(|why| panic!("{words:?}: {why}: {printed}"))
}

/// An end with more words.
fn with<'a>(end: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    let words = end.iter().map(String::as_str);
    words.chain(more.iter().copied()).collect()
}

const WHY: [&str; 2] = ["--reason", "leaked"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_is_looked_at_refused_done_and_lifted() {
    let mut stage = Stage::new();
    let shared = stage.shared();
    stage.start().await;
    let mut runs = 0;
    for end in &ENDS {
        looked_at(&stage, &shared, &mut runs, end).await;
        done(&stage, &shared, &mut runs, end, false).await;
        if end.blocks != Blocks::Itself {
            done(&stage, &shared, &mut runs, end, true).await;
        }
    }
    // What is lifted says so, and nothing is left that stands.
    assert_eq!(
        json(&stage, &["block", "list", "--json"]),
        Value::Array(Vec::new())
    );
    stage.stop();
    stage.fsck();
}

/// Neither a dry run nor a command without a reason changes anything.
async fn looked_at(stage: &Stage, shared: &Shared, runs: &mut u64, end: &End) {
    let there = There::new(stage, shared, runs).await;
    let words = there.named(end.command);
    let mut forms: Vec<&[&str]> = vec![&[]];
    if end.blocks != Blocks::Itself {
        forms.push(&["--block"]);
    }
    for more in forms {
        let (code, printed, why) = run(stage, &with(&words, more));
        assert_eq!(code, Some(2), "{words:?}: {printed}{why}");
        assert!(why.contains("--reason"), "{why}");
        let mut dry = with(&words, more);
        dry.push("--dry-run");
        let line = said(stage, &dry);
        assert!(line.contains("1 open task"), "{words:?}: {line}");
        dry.push("--json");
        let would = json(stage, &dry);
        let counted = ["open", "partly", "clients", "credentials"].map(|of| would[of].as_u64());
        assert_eq!(counted, [1, 0, 1, 1].map(Some), "{words:?}: {would}");
        assert_eq!(would["applied"], false, "{would}");
        if end.members == HANDED {
            let told = (&would["to"], &would["handed_over"]);
            assert_eq!(told, (&"team-heirs".into(), &1.into()), "{would}");
            let heir = ", and 1 workload would be team-heirs's\n";
            assert!(line.ends_with(heir), "{line}");
        }
        let stands = end.blocks != Blocks::WhenSaid || !more.is_empty();
        assert_eq!(would["block"].is_string(), stands, "{words:?}: {would}");
    }
    let empty = run(stage, &with(&words, &["--reason", " "]));
    assert_ne!(empty.0, Some(0), "{words:?}");
    assert_eq!(
        json(stage, &["block", "list", "--json"]),
        Value::Array(Vec::new()),
        "{words:?}"
    );
    assert!(there.client.introspect(shared).await, "{words:?}");
    let end = with(&words, &WHY);
    let line = said(stage, &end);
    assert!(!there.client.introspect(shared).await, "{words:?}");
    for wanted in ["last possible acceptance ", "head\n  127.0.0.1:"] {
        assert!(line.contains(wanted), "{words:?}: {line}");
    }
    let handed = line.contains("its workloads are team-heirs's from now on and may start\n");
    assert_eq!(handed, words.contains(&"--to".to_owned()), "{line}");
    lift_all(stage);
}

/// Why a client is gone, as the first line of its trace says it once that is recorded.
fn gone(stage: &Stage, client: &str, why: &str) {
    let mut line = String::new();
    for _ in 0..200 {
        let trace = said(stage, &["trace", client]);
        line = trace.lines().next().unwrap_or_default().to_owned();
        if line.starts_with("GONE ") && line.contains(why) {
            return;
        }
    }
    panic!("{client} is not gone by {why}: {line}");
}

/// Done, with a block or without, and asked for again.
async fn done(stage: &Stage, shared: &Shared, runs: &mut u64, end: &End, block: bool) {
    let there = There::new(stage, shared, runs).await;
    let words = there.named(end.command);
    let more: &[&str] = if block { &["--block"] } else { &[] };
    let mut asked = with(&words, more);
    asked.extend(WHY);
    asked.push("--json");
    let answer = json(stage, &asked);
    assert!(!there.client.introspect(shared).await, "{words:?}");
    let has = |member: &str| assert!(answer.get(member).is_some(), "{words:?}: {answer}");
    end.members.iter().for_each(|member| has(member));
    let since = answer["at"].as_u64().or_else(|| answer["since"].as_u64());
    let last = answer["last_possible_acceptance"].as_u64();
    assert!(last >= since && since.is_some(), "{words:?}: {answer}");
    let head = answer["head"].as_str().unwrap();
    assert!(head.starts_with("127.0.0.1:"), "{words:?}: {answer}");
    if let Some(ended) = answer.get("ended") {
        // Those before it count until the sweep has recorded that they are over.
        assert!(ended.as_u64() >= Some(1), "{words:?}: {answer}");
    }
    if end.members == HANDED {
        assert_eq!(answer["to"], "team-heirs", "{answer}");
    }
    let why = format!("({}: leaked)", end.causes[usize::from(block)]);
    gone(stage, &there.client.id, &why);
    let stands = block || end.blocks != Blocks::WhenSaid;
    let blocks = json(stage, &["block", "list", "--json"]);
    let listed = blocks.as_array().unwrap();
    assert_eq!(listed.len(), usize::from(stands), "{words:?}: {blocks}");
    let Some(on) = listed.first().map(|block| block["on"].as_str().unwrap()) else {
        return;
    };
    let named = answer["block"].as_str().or_else(|| answer["on"].as_str());
    assert_eq!(named, Some(on), "{words:?}: {answer}");
    if end.members == STOPPED || end.members == HANDED {
        let again = said(stage, &asked[..asked.len() - 1]);
        assert!(again.contains(" already, since "), "{words:?}: {again}");
        let mut dry = with(&words, more);
        dry.push("--dry-run");
        let dry = said(stage, &dry);
        assert!(dry.contains(" already, since "), "{words:?}: {dry}");
    }
    let lift = end.lift.replace("BLOCK", on);
    let lift: Vec<&str> = lift.split(' ').collect();
    let (code, _, why) = run(stage, &lift);
    assert!(
        code == Some(2) && why.contains("--reason"),
        "{lift:?}: {why}"
    );
    let lifted = json(
        stage,
        &[&lift[..], &["--reason", "mended", "--json"]].concat(),
    );
    assert_eq!(lifted["on"], on, "{lift:?}");
}

/// Lifts whatever stands.
fn lift_all(stage: &Stage) {
    let blocks = json(stage, &["block", "list", "--json"]);
    for block in blocks.as_array().unwrap() {
        let on = block["on"].as_str().unwrap();
        let lift = match on.split_once(':') {
            Some(("owner", owner)) => vec!["owner", "restore", owner],
            Some(("workload", workload)) => vec!["workload", "enable", workload],
            None => vec!["unfreeze"],
            Some(_) => vec!["unblock", on],
        };
        said(stage, &[&lift[..], &["--reason", "mended"]].concat());
    }
}

/// What an end is refused by, its dry run is refused by: an operator agrees to nothing that fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_end_is_refused_by_its_dry_run_is_refused_by() {
    let mut stage = Stage::new();
    stage.start().await;
    let none = "01m0000000e000000000000000";
    let (task, client) = (format!("task_{none}"), format!("client_{none}_1"));
    for words in [
        &["client", "end", &client][..],
        &["client", "end", &client, "--block"],
        &["task", "end", &task],
        &["instance", "end", "run_id=none"],
        &[
            "instance",
            "end",
            "run_id=none",
            "--issuer",
            "nobody",
            "--block",
        ],
        &["owner", "end", "nobody"],
        &["owner", "offboard", "nobody"],
        &["owner", "offboard", "team-heirs", "--to", "nobody"],
        &["workload", "end", "nobody", "--block"],
        &["workload", "disable", "nobody"],
        &["issuer", "end", "nobody"],
    ] {
        // Each refusal has an id of its own.
        let refused = |more: &[&str]| {
            let (code, printed, why) = run(&stage, &[words, more].concat());
            assert_eq!((code, printed.as_str()), (Some(1), ""), "{words:?}: {why}");
            let told = why.split_whitespace().filter(|word| !word.contains("ref_"));
            told.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(refused(&["--dry-run"]), refused(&WHY), "{words:?}");
    }
    stage.stop();
}

/// A block that is set by hand, as JSON, twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_set_by_hand_is_told_as_json() {
    let mut stage = Stage::new();
    stage.start().await;
    let set = ["block", "set", "key:github:1/2/3"];
    let (code, _, why) = run(&stage, &set);
    assert!(code == Some(2) && why.contains("--reason"), "{why}");
    let asked = [&set[..], &["--reason", "odd", "--json"]].concat();
    let first = json(&stage, &asked);
    assert_eq!(
        (&first["on"], &first["applied"]),
        (&"key:github:1/2/3".into(), &true.into())
    );
    let again = json(&stage, &asked);
    assert_eq!(
        (&again["applied"], &again["since"]),
        (&false.into(), &first["since"])
    );
    let lifted = [
        "unblock",
        "key:github:1/2/3",
        "--reason",
        "mended",
        "--json",
    ];
    assert_eq!(json(&stage, &lifted)["on"], "key:github:1/2/3");
    stage.stop();
}
