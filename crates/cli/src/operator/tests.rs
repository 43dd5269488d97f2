//! What the operator's commands read and write, and that socket and database answer alike.

use std::path::Path;
use std::sync::Arc;

use clap::{CommandFactory as _, Parser};
use dayfly_domain::access::{Detail, Field};
use dayfly_domain::{
    Bounds, Cause, ClientRegistered, CredentialIssued, Digest, Event, Heartbeat, HeartbeatMode,
    Repeat, Span, Task, TaskEnded, TaskId, TaskStarted, Time, apply,
};
use dayfly_ledger::SignerKey;
use dayfly_server::app::{App, HeadSinks, ObeyingStore, ServerBounds, Tenant, TenantSetup};
use dayfly_server::config::Config;
use dayfly_server::declared::TenantContext;
use dayfly_server::http::admin::{self, AdminSocket};
use dayfly_server::mint::MasterKey;
use dayfly_server::record::Filter;
use dayfly_server::verify::{KeyCache, ProofBounds};
use dayfly_store::clock::SystemClock;
use dayfly_store::{Annex, Append, Change, Drafted, SqliteOptions, SqliteStore, Store};
use tempfile::TempDir;

use super::place::At;
use super::record::Record;
use super::verify::{Found, judge};
use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: OperatorCommand,
}

const TASK: &str = "task_01m0000000e000000000000000";
const CLIENT: &str = "client_01m0000000e000000000000000_1";

fn parse(line: &str) -> Result<OperatorCommand, clap::Error> {
    let words = std::iter::once("dayfly").chain(line.split(' '));
    Line::try_parse_from(words).map(|line| line.command)
}

#[test]
fn command_lines() {
    Line::command().debug_assert();
    for line in [
        "task list --json --workload release --all --limit 5",
        &format!("task show {TASK} --config x.toml"),
        &format!("task end {TASK} --reason leaked"),
        &format!("task end {TASK} --dry-run --block --json"),
        &format!("client end {CLIENT} --block --reason leaked --json"),
        "instance end run_id=7 --issuer github --dry-run --block",
        "issuer end github --block --reason stolen --json",
        "tenant end --reason breach",
        "block set key:github:1/2 --reason odd --json",
        "owner restore team --reason back --json",
        "unfreeze --reason over --json",
        "unblock issuer:github --reason mended --json",
        "trace -",
        "trace -rT3Xk0pXwC2vbQ1m6d9s8f7g6h5j4k3l2z1x0c9v8 --json --since 2h",
        "trace release --since 2h --until 2026-11-21",
        "trace https://github.com/o/r/actions/runs/1 --json",
        &format!("receipt {TASK} -o r.json --annex"),
        "verify r.json --key k",
        "ledger fsck --json",
        "ledger head",
        "ledger verify head.txt --key k",
        "ledger tail -f -n 5",
        "keys list --json",
        "keys rotate --reason due",
        "keys rotate --use ledger --reason due",
        "keys rotate --use token --alg RS256 --reason due --json",
        "keys compromise k1 k2 --reason stolen",
        "keys compromise --all --reason lost --json",
        "block list",
        "findings --all --json",
        "review --owner team --json",
        "review --owner team --since 30d --sign-off --revision 3 --reason due",
        "unblock series:github:1/2 --reason fixed",
        "apply --dry-run",
        "owner list --json",
        "owner offboard team --reason left",
        "owner offboard team --dry-run --json",
        "owner restore team --reason back",
        "workload list",
        "workload disable release --reason leaked",
        "workload enable release --reason mended",
        "freeze --reason breach",
        "freeze --dry-run",
        "unfreeze --reason over",
        "apply --reason new",
        "apply --reason new --ends 3",
        "apply --undo --dry-run",
        "why ref_01m0000000e000000000000000",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
    for line in [
        "task show task_x",
        "unblock everything --reason fixed",
        "why ref_x",
        "verify r.json",
        "keys rotate --use heads --reason due",
        "keys compromise --reason stolen",
        "keys compromise k1 --all --reason stolen",
        "task list --limit 0",
        "review",
        "review --owner team --reason due",
        "task list --owner Not/A/Name",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn every_change_demands_a_reason() {
    for line in [
        &format!("task end {TASK}"),
        &format!("task end {TASK} --block"),
        &format!("task approve {TASK}"),
        &format!("task deny {TASK}"),
        &format!("client end {CLIENT}"),
        &format!("client end {CLIENT} --block"),
        "instance end run_id=7",
        "instance end run_id=7 --issuer github --block",
        "owner end team",
        "owner end team --block",
        "workload end release",
        "issuer end github --block",
        "tenant end",
        "block set key:github:1/2",
        "unblock series:github:1/2",
        "apply",
        "keys rotate",
        "keys compromise k1",
        "owner offboard team",
        "owner restore team",
        "workload disable release",
        "workload enable release",
        "freeze",
        "unfreeze",
        "review --owner team --sign-off",
        "review --owner team --sign-off --reason due",
        "review --owner team --revision 3",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(
            error.kind(),
            clap::error::ErrorKind::MissingRequiredArgument,
            "{line}"
        );
    }
}

#[test]
fn a_token_is_read_as_it_stands_in_a_log() {
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJqdGkiOiJ4In0.c2lnbmF0dXJl";
    let hash = trace::read_hash(token.as_bytes()).unwrap();
    for text in [
        format!("  {token}\n"),
        format!("Bearer {token}"),
        format!("authorization: DPoP {token}\r\n"),
    ] {
        assert_eq!(trace::read_hash(text.as_bytes()).unwrap(), hash, "{text}");
    }
    for text in ["", "a.b", "Bearer", "a.b.c.d"] {
        assert!(trace::read_hash(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_head_is_found_in_each_form() {
    let note = "x/acme\n0\nAAAA\n\n\u{2014} x/acme AAAAAAAA\n";
    let json = serde_json::json!({ "note": note, "size": 0 }).to_string();
    let sink = serde_json::json!({ "tenant": "acme", "head": note }).to_string();
    let older = sink.replace("\\n0\\n", "\\n9\\n");
    for file in [
        note.to_owned(),
        json,
        sink.clone(),
        format!("{older}\n{sink}\n"),
    ] {
        assert_eq!(
            ledger::note_in(file.as_bytes()).as_deref(),
            Some(note),
            "{file}"
        );
    }
    assert_eq!(ledger::note_in(b"nothing"), None);
    assert_eq!(ledger::note_in(b"{}"), None);
}

#[test]
fn an_apply_says_what_became_of_it() {
    let mut applied = change::Applied {
        changes: vec!["+ workload nightly".to_owned()],
        revision: 4,
        warnings: vec!["odd".to_owned()],
        applied: true,
        ends: 0,
        tasks: Vec::new(),
    };
    let lines = "+ workload nightly\nwarning: odd\napplied as revision 4\n";
    assert_eq!(change::applied_lines(&applied, false), lines);
    applied.applied = false;
    assert!(
        change::applied_lines(&applied, true).ends_with("nothing is applied yet, revision 4\n")
    );
    applied.ends = 2;
    applied.tasks.push(change::LostTask {
        task: TASK.parse().unwrap(),
        workload: "release".to_owned(),
        why: "client 1: `match` wants\nmore".to_owned(),
    });
    assert_eq!(
        change::applied_lines(&applied, true),
        format!(
            "+ workload nightly\nwarning: odd\nwould end: {TASK} of release: client 1: `match` wants\\u{{a}}more\n\
             2 open tasks would end: agree with --ends 2\nnothing is applied yet, revision 4\n"
        )
    );
    applied.applied = true;
    applied.tasks.clear();
    assert!(
        change::applied_lines(&applied, false)
            .ends_with("2 open tasks ended\napplied as revision 4\n")
    );
}

#[test]
fn a_refusal_is_written_whole() {
    let explained = serde_json::json!({
        "refusal": "ref_1", "at": 1_795_219_200_000_u64, "asked": "token", "stage": "match",
        "rule": "claim_mismatch", "says": "a claim differs", "field": "ref", "wanted": "refs/heads/main",
        "got": "refs/heads/x\n", "hint": "", "claims": { "ref": "refs/heads/x", "run_id": "7" },
    });
    let now = Time::from_millis(1_795_219_200_000);
    let written = why::written(explained.as_object().unwrap(), now);
    assert_eq!(
        written,
        "refused  a claim differs (ref_1)\nat       00:00:00\nasked    token\nstage    match\n\
         rule     claim_mismatch\nfield    ref\nwanted   refs/heads/main\ngot      refs/heads/x\\u{a}\n\
         claims of the proof\n  ref     refs/heads/x\n  run_id  7\n"
    );
}

const CONFIG: &str = r#"
public_url = "http://127.0.0.1:8440"
listen = "127.0.0.1:8440"
data = "data"
store = "sqlite"
tenants = "tenants"
"#;

const TENANT: &str = r#"
[owner.team-platform]
name = "Platform team"
contact = "platform@example.com"

[resource.artifacts]
url = "https://artifacts.example"
"#;

/// A server's folder, with a task that ended.
struct Folder {
    folder: TempDir,
    task: TaskId,
}

impl Folder {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir_all(folder.path().join("tenants/acme")).unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::write(folder.path().join("dayfly.toml"), CONFIG).unwrap();
        std::fs::write(folder.path().join("tenants/acme/tenant.toml"), TENANT).unwrap();
        let made = Self {
            folder,
            task: TASK.parse().unwrap(),
        };
        let (app, store) = made.open().await;
        let tenant = app.tenant("acme").unwrap();
        let append = ended_task(made.task);
        store.append(tenant.name(), append).await.unwrap();
        made
    }

    fn config(&self) -> Config {
        Config::load(&self.folder.path().join("dayfly.toml")).unwrap()
    }

    fn place(&self) -> place::PlaceArgs {
        let file = self.folder.path().join("dayfly.toml");
        let line = format!("task list --config {}", file.display());
        let OperatorCommand::Task(TaskCommand::List(args)) = parse(&line).unwrap() else {
            panic!("{line} lists tasks");
        };
        args.place().clone()
    }

    async fn open(&self) -> (Arc<App>, Arc<dyn Store>) {
        let config = self.config();
        let path = config.data.join(crate::serve::DATABASE);
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(SqliteOptions::new(path)).unwrap());
        let master = Arc::new(MasterKey::load(&config.key_file, false).unwrap());
        let name: dayfly_domain::Name = "acme".parse().unwrap();
        let setup = TenantSetup {
            folder: config.tenant_folder(&name),
            context: TenantContext::new(&config, &name),
            proofs: ProofBounds::default(),
            keys: Arc::new(KeyCache::new()),
            name,
        };
        let now = Time::from_seconds(1_795_219_200);
        let tenant = Tenant::open(store.as_ref(), setup, master, now)
            .await
            .unwrap();
        let bounds = ServerBounds {
            domain: Bounds::default(),
            token_bytes: 4096,
            leaf_bytes: 8192,
            request_bytes: 65_536,
        };
        let sinks = HeadSinks::new(Vec::new());
        let clock = Arc::new(SystemClock);
        let obeying = Arc::new(ObeyingStore::new(Arc::clone(&store), clock.clone(), None));
        let app = App::new(obeying, clock, bounds, vec![tenant], sinks).unwrap();
        (Arc::new(app), store)
    }
}

/// A task that an operator ended, from its first entry to its last.
fn ended_task(id: TaskId) -> Append {
    let ended = opened() + Span::from_seconds(727);
    let events = ended_tasks_events(ended);
    let next = events
        .iter()
        .fold(None, |task: Option<Task>, event| apply(task, id, event));
    let said = r#"{"by":{"uid":0},"reason":"leaked"}"#;
    let annex = |event: &Event| {
        matches!(event, Event::TaskEnded(_)).then(|| Annex {
            salt: [4; 16],
            data: said.to_owned(),
        })
    };
    Append {
        now: ended,
        changes: vec![Change {
            task: id,
            expected_version: 0,
            next: next.unwrap(),
            events: events
                .into_iter()
                .map(|event| Drafted {
                    annex: annex(&event),
                    event,
                })
                .collect(),
        }],
        ..Append::default()
    }
}

/// Everything that reads, as text; what is signed and when stands apart.
async fn read(record: &Record, task: TaskId) -> Vec<String> {
    let json = |value: serde_json::Result<String>| value.unwrap();
    let filter = Filter {
        ended: true,
        ..Filter::default()
    };
    let key = task.to_string().parse().unwrap();
    vec![
        json(serde_json::to_string(&record.task(task).await.unwrap())),
        json(serde_json::to_string(
            &record.tasks(&filter, None, 10).await.unwrap(),
        )),
        json(serde_json::to_string(
            &record.trace(&key, None, None).await.unwrap(),
        )),
        json(serde_json::to_string(
            &record.receipt(task, true).await.unwrap(),
        )),
        json(serde_json::to_string(&record.head().await.unwrap())),
        json(serde_json::to_string(
            &record.entries(0, 100).await.unwrap(),
        )),
        json(serde_json::to_string(&record.keys().await.unwrap())),
        json(serde_json::to_string(&record.blocks().await.unwrap())),
    ]
}

/// A tenant by its name.
fn of(tenant: &str) -> At<'_> {
    At {
        tenant: Some(tenant),
        ..At::default()
    }
}

#[tokio::test]
async fn socket_and_database_answer_alike() {
    let folder = Folder::new().await;
    let offline = folder.place().record(At::default()).await.unwrap();
    assert!(matches!(offline, Record::Offline(_)));
    let from_database = read(&offline, folder.task).await;
    assert!(from_database[2].contains("(operator: leaked); last possible acceptance"));
    drop(offline);

    let needs = folder.place().served(At::default()).await.err().unwrap();
    assert!(
        needs.to_string().starts_with("this needs a running server"),
        "{needs}"
    );

    let (app, _store) = folder.open().await;
    let socket = AdminSocket::bind(&folder.config().data).await.unwrap();
    let router = admin::router(app, Arc::new(admin::Readiness::default));
    tokio::spawn(socket.serve(router, std::future::pending()));
    let served = folder.place().record(of("acme")).await.unwrap();
    assert!(matches!(served, Record::Served(_)));
    assert_eq!(read(&served, folder.task).await, from_database);

    let other = folder.place().record(of("other")).await.err().unwrap();
    assert!(
        other.to_string().contains("there is no tenant `other`"),
        "{other}"
    );
    let unknown = served.task(TaskId([0; 16])).await.unwrap_err();
    assert!(
        unknown
            .to_string()
            .starts_with("no entry of this ledger names"),
        "{unknown}"
    );
}

#[tokio::test]
async fn a_receipt_is_judged_offline() {
    let folder = Folder::new().await;
    let record = folder.place().record(At::default()).await.unwrap();
    let key = record.head().await.unwrap().verifier_key.parse().unwrap();
    let receipt =
        serde_json::to_string(&record.receipt(folder.task, false).await.unwrap()).unwrap();
    match judge(receipt.as_bytes(), &key, false) {
        Found::Holds(text) => {
            let first = format!(
                "holds: {TASK}, 4 entries, complete: the task has ended and nothing is left out"
            );
            assert_eq!(text.lines().next(), Some(first.as_str()));
        }
        Found::Not(why) => panic!("{why}"),
    }
    let not = |json: &str| match judge(json.as_bytes(), &key, false) {
        Found::Holds(text) => panic!("{text}"),
        Found::Not(why) => why,
    };
    let tampered = receipt.replace("operator", "deadline");
    assert!(
        not(&tampered).starts_with("entry 4 of the receipt, at position "),
        "{}",
        not(&tampered)
    );
    assert!(not("{}").starts_with("not a receipt"));
    let mut cut: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    cut["entries"].as_array_mut().unwrap().pop();
    let cut = cut.to_string();
    assert!(
        not(&cut).contains("entries may have been cut off"),
        "{}",
        not(&cut)
    );
    assert!(matches!(judge(cut.as_bytes(), &key, true), Found::Holds(_)));
    let stranger = SignerKey::from_seed("127.0.0.1:8440/acme", &[9; 32]).unwrap();
    assert!(matches!(
        judge(receipt.as_bytes(), stranger.verifier(), false),
        Found::Not(_)
    ));
}

#[tokio::test]
async fn an_earlier_head_is_held_against_the_ledger() {
    let folder = Folder::new().await;
    let record = folder.place().record(At::default()).await.unwrap();
    let head = record.head().await.unwrap();
    let compared = record.compare(&head.note).await.unwrap();
    assert!(compared.holds);
    let forged = head
        .note
        .replacen(&format!("\n{}\n", head.size), "\n99\n", 1);
    let compared = record.compare(&forged).await.unwrap();
    assert!(compared.why.unwrap().contains("does not hold"));
}

#[tokio::test]
async fn the_database_is_checked_where_it_lies() {
    let folder = Folder::new().await;
    let database = database::path(&folder.config()).unwrap();
    assert!(dayfly_store::fsck(&database).is_ok());
    let record = folder.place().record(At::default()).await.unwrap();
    let entries = record.entries(0, 100).await.unwrap();
    let issued = entries
        .iter()
        .find(|entry| entry.line.kind == "credential.issued");
    let pos = issued.unwrap().line.pos;
    drop(record);
    // Somebody edits the file itself.
    let mut bytes = std::fs::read(&database).unwrap();
    let (was, now) = (b"https://artifacts.example", b"https://artifacts.exampl3");
    let places: Vec<usize> = (0..bytes.len() - was.len())
        .filter(|at| bytes[*at..].starts_with(was))
        .collect();
    for at in places {
        bytes[at..at + now.len()].copy_from_slice(now);
    }
    std::fs::write(&database, bytes).unwrap();
    let why = dayfly_store::fsck(&database).unwrap_err();
    let told = ledger::differs(&why, false);
    assert!(
        told.starts_with(&format!("differs at position {pos}: ")),
        "{told}"
    );
    assert!(ledger::differs(&why, true).contains(&format!("\"position\":{pos},")));
}

#[test]
fn a_place_without_configuration_is_told() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("dayfly.toml");
    let line = format!("keys list --config {}", missing.display());
    let Ok(OperatorCommand::Keys(KeysCommand::List(args))) = parse(&line) else {
        panic!("{line}");
    };
    let why = args.place().read().err().unwrap();
    assert!(why.to_string().contains("cannot be read"), "{why}");
    assert!(!Path::new(&missing).exists());
}

fn opened() -> Time {
    Time::from_seconds(1_795_230_000)
}

fn ended_tasks_events(ended: Time) -> [Event; 4] {
    let name = |text: &str| text.parse().unwrap();
    let opened = opened();
    let deadline = opened + Span::from_seconds(3600);
    let access = vec![Detail {
        kind: "artifact".to_owned(),
        resource: name("artifacts"),
        fields: [("actions".to_owned(), Field::Set(["read".to_owned()].into()))].into(),
        scope: None,
    }];
    [
        Event::TaskStarted(TaskStarted {
            workload: name("release"),
            owner: name("team-platform"),
            issuer: name("github"),
            key: "1296269/77/901".to_owned(),
            series: "1296269/77".to_owned(),
            attempt: Some(1),
            subject: None,
            repeat: Repeat::Refuse,
            opened,
            deadline,
            heartbeat: Heartbeat {
                mode: HeartbeatMode::Off,
                every: Span::from_seconds(30),
                grace: Span::from_seconds(300),
            },
            linger: Span::ZERO,
            epochs: Vec::new(),
            supersedes: Vec::new(),
        }),
        Event::ClientRegistered(ClientRegistered {
            client: 1,
            jkt: None,
            jwk: None,
            instance: "run 77 attempt 1".to_owned(),
            proof: Digest([1; 32]),
            request: Digest([2; 32]),
            filled: Default::default(),
            access: access.clone(),
            expires: deadline,
        }),
        Event::CredentialIssued(CredentialIssued {
            client: 1,
            credential: 1,
            resource: name("artifacts"),
            audience: "https://artifacts.example".to_owned(),
            access,
            scope: Vec::new(),
            issued: opened,
            expires: opened + Span::from_seconds(742),
            jkt: None,
            act: Vec::new(),
            may_act: Vec::new(),
            on_behalf_of: None,
            alg: "ES256".to_owned(),
            kid: "key-1".to_owned(),
            hash: Digest([3; 32]),
        }),
        Event::TaskEnded(TaskEnded {
            cause: Cause::Operator,
            at: ended,
            count: 4,
            by: None,
            last_expiry: Some(opened + Span::from_seconds(742)),
        }),
    ]
}
