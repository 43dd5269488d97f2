//! The admin face over a real socket.

mod people;
mod signals;
mod traces;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use dayfly_domain::{Bounds, RefusalId, TaskId};
use dayfly_ledger::Receipt;
use dayfly_store::Bundle;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::*;
use crate::app::{HeadSinks, ObeyingStore, ServerBounds, TenantSetup};
use crate::config::Config;
use crate::declared::TenantContext;
use crate::mint::MasterKey;
use crate::record::tests::{Hand, Spec, at};
use crate::verify::{KeyCache, ProofBounds};

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
members = ["group:platform"]

[owner.team-data]
name = "Data team"
contact = "data@example.com"
members = ["sub:dora"]

[resource.artifacts]
url = "https://artifacts.example"
"#;

/// A server over a store whose tasks are made by hand.
struct Served {
    folder: TempDir,
    hand: Hand,
    app: Arc<App>,
    ready: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
}

impl Served {
    async fn start() -> Self {
        Self::heard(None).await
    }

    /// The same whose tenant `acme` hears of its operators from their provider, beside a tenant
    /// `other` that does not.
    async fn heard(provider: Option<&str>) -> Self {
        let folder = TempDir::new().unwrap();
        let hand = Hand::new();
        let app = open(&folder, &hand, provider).await;
        let ready = Arc::new(AtomicBool::new(true));
        let mut served = Self {
            folder,
            hand,
            app,
            ready,
            stop: None,
        };
        served.serve().await;
        served
    }

    /// The same over a server that has just started, without its socket.
    async fn opened_anew(mut self, provider: &str) -> Self {
        self.app = open(&self.folder, &self.hand, Some(provider)).await;
        self.stop = None;
        self
    }

    async fn serve(&mut self) {
        let ready = Arc::clone(&self.ready);
        let readiness: Ready = Arc::new(move || {
            if ready.load(Ordering::SeqCst) {
                Readiness::default()
            } else {
                Readiness {
                    reasons: vec!["the clock jumped".to_owned()],
                    warnings: vec!["the disk is nearly full".to_owned()],
                }
            }
        });
        let socket = AdminSocket::bind(self.folder.path()).await.unwrap();
        let (stop, stopping) = oneshot::channel();
        let router = router(Arc::clone(&self.app), readiness);
        tokio::spawn(socket.serve(router, async move {
            let _gone = stopping.await;
        }));
        self.stop = Some(stop);
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "").await
    }

    async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.ask("POST", path, body).await
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        ask(&self.folder.path().join(SOCKET), method, path, body).await
    }
}

async fn ask(socket: &std::path::Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: dayfly\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

async fn open(folder: &TempDir, hand: &Hand, provider: Option<&str>) -> Arc<App> {
    let acme = provider.map(|url| {
        format!(
            r#"{TENANT}
[signals.ops]
issuer = "{url}"
jwks = {{ url = "{url}/keys" }}
operators = "{url}"
allow_private = true
push = {{ secret_file = "events.secret" }}
"#
        )
    });
    let mut declared = vec![(hand.tenant.clone(), acme.unwrap_or(TENANT.to_owned()))];
    declared.extend(provider.map(|_| ("other".parse().unwrap(), TENANT.to_owned())));
    let config = Config::parse(&folder.path().join("dayfly.toml"), CONFIG).unwrap();
    let master = Arc::new(MasterKey::load(&config.key_file, false).unwrap());
    let mut tenants = Vec::new();
    for (name, text) in declared {
        let own = folder.path().join("tenants").join(name.as_str());
        std::fs::create_dir_all(own.join("policies")).unwrap();
        std::fs::write(own.join("tenant.toml"), text).unwrap();
        std::fs::write(own.join("events.secret"), "the-secret-of-events").unwrap();
        let baseline = "permit (principal, action, resource);\n";
        std::fs::write(own.join("policies/baseline.cedar"), baseline).unwrap();
        let mut context = TenantContext::new(&config, &name);
        context.operators = provider.map(str::to_owned);
        let setup = TenantSetup {
            name,
            folder: own,
            context,
            proofs: ProofBounds::default(),
            keys: Arc::new(KeyCache::new()),
        };
        let opened = Tenant::open(hand.store.as_ref(), setup, Arc::clone(&master), at(2, 0, 0));
        tenants.push(opened.await.unwrap());
    }
    let bounds = ServerBounds {
        domain: Bounds::default(),
        token_bytes: 4096,
        leaf_bytes: 8192,
        request_bytes: 65_536,
    };
    let clock = Arc::clone(&hand.clock);
    let store = ObeyingStore::new(hand.store.clone(), hand.clock.clone(), None);
    let store = Arc::new(store);
    let sinks = HeadSinks::new(Vec::new());
    Arc::new(App::new(store, clock, bounds, tenants, sinks).unwrap())
}

#[tokio::test]
async fn health_is_told() {
    let served = Served::start().await;
    assert_eq!(served.get("/healthz").await.0, 200);
    assert_eq!(
        served.get("/readyz").await,
        (200, json!({"ready": true, "reasons": [], "warnings": []}))
    );
    served.ready.store(false, Ordering::SeqCst);
    let told = json!({
        "ready": false, "reasons": ["the clock jumped"], "warnings": ["the disk is nearly full"],
    });
    assert_eq!(served.get("/readyz").await, (503, told));
    let (_, tenants) = served.get("/admin").await;
    assert_eq!(tenants["tenants"][0]["origin"], "127.0.0.1:8440/acme");
}

#[tokio::test]
async fn the_record_is_read() {
    let mut served = Served::start().await;
    let task = served.hand.start(at(3, 0, 0), &Spec::default());
    let (_, listed) = served
        .get("/admin/acme/tasks?workload=release&limit=5")
        .await;
    assert_eq!(listed["tasks"][0]["task"], task.to_string());
    let (_, shown) = served.get(&format!("/admin/acme/tasks/{task}")).await;
    assert_eq!(shown["state"], "open");
    let (_, traced) = served
        .get("/admin/acme/trace?key=https%3A%2F%2Fartifacts.example")
        .await;
    assert_eq!(traced["verdict"]["word"], "LIVE");
    assert_eq!(traced["read_as"][0], "resource artifacts");
    let (_, head) = served.get("/admin/acme/ledger/head").await;
    let key = head["verifier_key"].as_str().unwrap().parse().unwrap();
    let (_, receipt) = served.get(&format!("/admin/acme/receipt/{task}")).await;
    let receipt = Receipt::parse(receipt.to_string().as_bytes()).unwrap();
    assert_eq!(receipt.verify(&key).unwrap().entries().len(), 3);
    let (_, entries) = served
        .get("/admin/acme/ledger/entries?from=1&limit=2")
        .await;
    assert_eq!(entries.as_array().unwrap().len(), 2);
    assert_eq!(entries[0]["pos"], 1);
    let note: String =
        url::form_urlencoded::byte_serialize(head["note"].as_str().unwrap().as_bytes()).collect();
    let bundle = |first: u64, head: &str| format!("/admin/acme/ledger/bundles/{first}?head={head}");
    let (_, told) = served.get(&bundle(0, &note)).await;
    let told = Bundle::parse(told["bundle"].as_str().unwrap()).unwrap();
    assert_eq!(told.end(), head["size"].as_u64().unwrap());
    assert!(told.entries().iter().all(|entry| entry.annex.is_none()));
    let with = format!("{}&annex=1", bundle(0, &note));
    let (_, told) = served.get(&with).await;
    let told = Bundle::parse(told["bundle"].as_str().unwrap()).unwrap();
    assert!(told.entries().iter().any(|entry| entry.annex.is_some()));
    for (path, status) in [
        (bundle(256, &note), 404),
        (bundle(0, "x%0A9000000%0Ax"), 404),
        (bundle(0, "x"), 400),
        (bundle(0, ""), 400),
        (bundle(1, &note), 400),
    ] {
        assert_eq!(served.get(&path).await.0, status, "{path}");
    }
    let (_, keys) = served.get("/admin/acme/keys").await;
    assert_eq!(keys.as_array().unwrap().len(), 2);
    assert_eq!(served.get("/admin/acme/blocks").await, (200, json!([])));
    let held = json!({ "head": head["note"] }).to_string();
    served.hand.start(at(3, 1, 0), &Spec::default());
    let (_, compared) = served.post("/admin/acme/ledger/verify", &held).await;
    assert_eq!(compared["holds"], true);
    let (_, compared) = served
        .post("/admin/acme/ledger/verify", r#"{"head":"none"}"#)
        .await;
    assert_eq!(compared["holds"], false);
}

#[tokio::test]
async fn an_operator_ends_and_unblocks() {
    let mut served = Served::start().await;
    let task = served.hand.start(at(3, 7, 22), &Spec::default());
    served.hand.clock.set(at(3, 12, 7));
    let path = format!("/admin/acme/tasks/{task}/end");
    for body in ["", "{}", r#"{"reason":" "}"#, r#"{"reason":"x","more":1}"#] {
        assert_eq!(served.post(&path, body).await.0, 400, "{body}");
    }
    let (status, ended) = served.post(&path, r#"{"reason":"leaked"}"#).await;
    assert_eq!((status, &ended["cause"]), (200, &json!("operator")));
    let (_, traced) = served.get(&format!("/admin/acme/trace?key={task}")).await;
    assert_eq!(
        traced["verdict"]["line"],
        "GONE 03:12:07 (operator: leaked); last possible acceptance 03:12:22; uses not reported"
    );
    let uid = std::fs::metadata(served.folder.path()).unwrap().uid();
    assert_eq!(traced["tasks"][0]["by"], format!("uid {uid}"));
    let (_, blocks) = served.get("/admin/acme/blocks").await;
    let lift = json!({ "on": blocks[0]["on"], "reason": "looked at" }).to_string();
    assert_eq!(served.post("/admin/acme/unblock", &lift).await.0, 200);
    assert_eq!(served.get("/admin/acme/blocks").await.1, json!([]));
    assert_eq!(served.post("/admin/acme/unblock", &lift).await.0, 404);
}

/// Whoever asked is gone before the answer: what is recorded comes into force all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_goes_on_when_its_caller_is_gone() {
    for _ in 0..8 {
        let served = Served::start().await;
        let (_, listed) = served.get("/admin/acme/keys").await;
        let is_token = |key: &&Value| key["use"] == "token" && key["state"] == "signing";
        let key = listed.as_array().unwrap().iter().find(is_token);
        let kid = key.unwrap_or_else(|| panic!("{listed}"))["kid"]
            .as_str()
            .unwrap()
            .to_owned();
        let body = json!({"kids": [kid], "reason": "stolen"}).to_string();
        let request = format!(
            "POST /admin/acme/keys/compromise HTTP/1.1\r\nhost: dayfly\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let socket = served.folder.path().join(SOCKET);
        let is_recorded = async || {
            let (_, listed) = served.get("/admin/acme/keys").await;
            let mut keys = listed.as_array().unwrap().iter();
            keys.any(|key| key["kid"] == kid && key["state"] == "compromised")
        };
        // One that was not even read is asked for again.
        while !is_recorded().await {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            drop(stream);
        }
        let tenant = served.app.tenant("acme").unwrap();
        let in_force = async {
            while tenant.keyring().verifying().knows(&kid) {
                tokio::task::yield_now().await;
            }
        };
        let done = tokio::time::timeout(std::time::Duration::from_secs(20), in_force).await;
        assert!(done.is_ok(), "recorded, and not in force");
    }
}

/// A mistyped id must not pass for a task that is over.
#[tokio::test]
async fn no_task_and_no_client_of_a_task_that_never_was_is_said_to_have_ended() {
    let mut served = Served::start().await;
    served.hand.start(at(3, 0, 0), &Spec::default());
    let never = TaskId([7; 16]);
    for path in [
        format!("/admin/acme/tasks/{never}/end"),
        format!(
            "/admin/acme/clients/{}_1/end",
            never.to_string().replace("task", "client")
        ),
    ] {
        for body in [r#"{"reason":"leaked"}"#, r#"{"dry_run":true}"#] {
            let (status, refused) = served.post(&path, body).await;
            let rule = &refused["refused"]["rule"];
            assert_eq!((status, rule), (404, &json!("not_found")), "{path} {body}");
            assert_eq!(refused["refused"]["got"], never.to_string());
        }
    }
}

#[tokio::test]
async fn a_refusal_is_explained() {
    let mut served = Served::start().await;
    let task = served.hand.start(at(3, 0, 0), &Spec::default());
    let path = format!("/admin/acme/tasks/{task}/end");
    served.post(&path, r#"{"reason":"leaked"}"#).await;
    let (status, again) = served.post(&path, r#"{"reason":"leaked"}"#).await;
    assert_eq!(
        (status, &again["refused"]["rule"]),
        (409, &json!("task_ended"))
    );
    let refusal = again["refusal"].as_str().unwrap();
    let (_, why) = served.get(&format!("/admin/acme/why/{refusal}")).await;
    assert_eq!(why["rule"], "task_ended");
    assert_eq!(why["wanted"], "an open task");
    let got = why["got"].as_str().unwrap();
    assert!(got.starts_with("one that ended at "), "{got}");
    assert!(got.ends_with(" (operator)"), "{got}");
    let other = RefusalId::new(1, [0; 10]);
    assert_eq!(served.get(&format!("/admin/acme/why/{other}")).await.0, 404);
}

#[tokio::test]
async fn the_folder_is_applied() {
    let served = Served::start().await;
    let more = format!("{TENANT}\n[resource.registry]\nurl = \"https://registry.example\"\n");
    let file = served.folder.path().join("tenants/acme/tenant.toml");
    std::fs::write(&file, more).unwrap();
    let (_, dry) = served
        .post("/admin/acme/apply", r#"{"dry_run":true}"#)
        .await;
    assert_eq!(
        (&dry["applied"], &dry["revision"]),
        (&json!(false), &json!(1))
    );
    assert_eq!(dry["changes"].as_array().unwrap().len(), 1);
    assert_eq!(served.post("/admin/acme/apply", "{}").await.0, 400);
    let (_, applied) = served
        .post("/admin/acme/apply", r#"{"reason":"a registry"}"#)
        .await;
    assert_eq!(
        (&applied["applied"], &applied["revision"]),
        (&json!(true), &json!(2))
    );
    std::fs::write(&file, "nonsense = 1").unwrap();
    let (status, unfit) = served.post("/admin/acme/apply", r#"{"reason":"x"}"#).await;
    assert_eq!((status, &unfit["error"]), (422, &json!("declared_state")));
}

#[tokio::test]
async fn wrong_requests_are_told_apart() {
    let served = Served::start().await;
    for (path, status) in [
        ("/admin/other/tasks", 404),
        ("/admin/acme/tasks/task_x", 400),
        ("/admin/acme/tasks/task_00000000000000000000000000", 404),
        ("/admin/acme/receipt/task_00000000000000000000000000", 404),
        ("/admin/acme/tasks?limit=1&limit=2", 400),
        ("/admin/acme/tasks?cursor=x", 400),
        ("/admin/acme/trace", 400),
        ("/admin/acme/trace?key=eyJhIjoxfQ.eyJiIjoyfQ.c2ln", 400),
        ("/admin/acme/why/ref_x", 400),
    ] {
        let (got, body) = served.get(path).await;
        assert_eq!(got, status, "{path}");
        assert!(!body["message"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_socket_is_private_and_nobody_else_takes_it() {
    let mut served = Served::start().await;
    let path = served.folder.path().join(SOCKET);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = AdminSocket::bind(served.folder.path()).await;
    assert!(matches!(second, Err(BindError::Served(_))));
    served.stop.take().unwrap().send(()).unwrap();
    while path.exists() {
        tokio::task::yield_now().await;
    }
    // One that was left by a server that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    served.serve().await;
    assert_eq!(served.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn who_is_not_known_changes_nothing() {
    let mut served = Served::start().await;
    let task = served.hand.start(at(3, 0, 0), &Spec::default());
    let path = served.folder.path().join("plain.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let router = router(Arc::clone(&served.app), Arc::new(Readiness::default));
    tokio::spawn(axum::serve(listener, router).into_future());
    let end = format!("/admin/acme/tasks/{task}/end");
    let (status, body) = ask(&path, "POST", &end, r#"{"reason":"leaked"}"#).await;
    assert_eq!((status, &body["error"]), (403, &json!("access_denied")));
    let (_, shown) = ask(&path, "GET", &format!("/admin/acme/tasks/{task}"), "").await;
    assert_eq!(shown["state"], "open");
}
