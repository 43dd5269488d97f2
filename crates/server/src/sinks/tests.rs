//! What no sink of a whole server shows soon enough: a head that waits gives way, and no kind is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use dayfly_domain::{Name, Time};
use dayfly_ledger::Hash;
use dayfly_store::StoredEntry;
use serde_json::json;
use tokio::sync::{Notify, watch};

use super::letter::{Beside, FOUND, Letter};
use super::{HeadPosts, KINDS};
use crate::config::{Config, HeadSink};
use crate::finding::{Closed, Opened};
use crate::telemetry::Metrics;

#[tokio::test]
async fn a_newer_head_takes_the_place_of_one_that_waits() {
    let (tries, came) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let taken: Arc<Mutex<Vec<String>>> = Arc::default();
    let (tried, coming, takes) = (Arc::clone(&tries), Arc::clone(&came), Arc::clone(&taken));
    let handler = post(async move |body: String| {
        let first = tried.fetch_add(1, Ordering::SeqCst) == 0;
        if !first {
            takes.lock().unwrap().push(body);
        }
        coming.notify_one();
        if first {
            StatusCode::BAD_GATEWAY
        } else {
            StatusCode::OK
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = Router::new().route("/", handler);
    tokio::spawn(async move { axum::serve(listener, router).await });

    let text = format!(
        "public_url = \"http://127.0.0.1:1\"\nlisten = \"127.0.0.1:1\"\ndata = \"d\"\nstore = \"sqlite\"\n\
         tenants = \"t\"\nheads = [\"{url}\"]"
    );
    let config = Config::parse(Path::new("dayfly.toml"), &text).unwrap();
    let [HeadSink::Http(url)] = config.heads.as_slice() else {
        panic!("{:?}", config.heads);
    };
    let tenant: Name = "acme".parse().unwrap();
    let sinks = vec![("heads[0]".to_owned(), url.clone())];
    let heads = HeadPosts::new(sinks, std::slice::from_ref(&tenant));
    // Left before anybody sends.
    heads.leave(&tenant, "first");
    let (stop, stopping) = watch::channel(false);
    let post = heads.posts(&Arc::new(Metrics::default())).remove(0);
    let running = tokio::spawn(post.run(stopping));
    came.notified().await;
    heads.leave(&tenant, "second");
    heads.leave(&tenant, "third");
    came.notified().await;
    heads.leave(&tenant, "fourth");
    came.notified().await;
    assert_eq!(*taken.lock().unwrap(), ["third", "fourth"]);
    stop.send_replace(true);
    running.await.unwrap();
}

/// Whoever records a new kind of entry says here what of it may be told.
#[test]
fn every_kind_that_is_recorded_can_be_named() {
    let mut found = BTreeSet::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    kinds_in(&source.join("src"), "kind: \"", &mut found);
    kinds_in(&source.join("../domain/src"), "(_) => \"", &mut found);
    let known: BTreeSet<String> = KINDS.iter().map(ToString::to_string).collect();
    assert!(known.is_subset(&found), "{known:?}\n{found:?}");
    let forgotten: Vec<_> = found.difference(&known).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

/// A finding is told whole: whoever adds a member to a kind of them says so in the letter too, and
/// what no kind has is not said to be told.
#[test]
fn a_finding_of_every_kind_is_told_with_all_its_members() {
    let mut told = BTreeSet::new();
    let owners = BTreeMap::new();
    let beside = Beside {
        owners: &owners,
        admin_url: None,
    };
    for what in crate::finding::tests::each_kind() {
        let opened = Time::from_seconds(1);
        let open = Opened {
            opened,
            what: what.clone(),
        };
        let closed = Closed {
            opened,
            closed: opened,
            what,
        };
        for (kind, data) in [
            ("finding.opened", serde_json::to_value(&open).unwrap()),
            ("finding.closed", serde_json::to_value(&closed).unwrap()),
        ] {
            let leaf = json!({
                "v": 1, "tenant": "acme", "task": null, "seq": null, "prev": null, "at": 1000,
                "kind": kind, "data": data, "h": null,
            });
            let entry = StoredEntry {
                pos: 0,
                hash: Hash([0; 32]),
                leaf: leaf.to_string(),
                annex: None,
            };
            let letter = Letter::of(&entry, "o", &[kind], &beside).unwrap().body();
            assert_eq!(letter["data"], data, "{kind}");
            told.extend(data.as_object().unwrap().keys().cloned());
        }
    }
    let said: BTreeSet<String> = FOUND.iter().map(ToString::to_string).collect();
    assert_eq!(said, told);
}

/// The words of entries in a folder's sources: with a dot, or `refused`.
fn kinds_in(folder: &Path, before: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") {
                kinds_in(&path, before, found);
            }
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices(before) {
            let word: String = text[at + before.len()..]
                .chars()
                .take_while(|c| *c != '"')
                .collect();
            if word.contains('.') || word == "refused" {
                found.insert(word);
            }
        }
    }
}
