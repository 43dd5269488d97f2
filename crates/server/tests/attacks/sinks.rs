//! What a `notify` sink is told of days on which it was away, by a clock that is set by hand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use dayfly_server::config::Config;
use dayfly_server::sinks::{Outgoing, Subscriber, WebhookKey};
use dayfly_server::telemetry::Metrics;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::world::World;

#[derive(Default)]
pub(crate) struct Sink {
    up: AtomicBool,
    taken: Mutex<Vec<Value>>,
    came: Notify,
}

impl Sink {
    /// A sink that takes what comes, and its port.
    pub(crate) async fn taking() -> (Arc<Self>, u16) {
        let (sink, port) = sink().await;
        sink.up.store(true, Ordering::SeqCst);
        (sink, port)
    }

    /// Waits until so many letters were taken.
    pub(crate) async fn until(&self, count: usize) -> Vec<Value> {
        loop {
            let came = self.came.notified();
            let taken = self.taken.lock().unwrap().clone();
            if taken.len() >= count {
                return taken;
            }
            came.await;
        }
    }
}

/// A sink that is down until it is let up, and its port.
async fn sink() -> (Arc<Sink>, u16) {
    let sink = Arc::new(Sink::default());
    let takes = Arc::clone(&sink);
    let handler = post(async move |body: String| {
        let up = takes.up.load(Ordering::SeqCst);
        if up {
            let body = serde_json::from_str(&body).unwrap();
            takes.taken.lock().unwrap().push(body);
        }
        takes.came.notify_one();
        if up {
            StatusCode::NO_CONTENT
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/", handler);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (sink, port)
}

/// What goes out to that sink: these kinds.
pub(crate) async fn subscribed(world: &World, port: u16, on: &str) -> Outgoing {
    let file = world.folder.path().join("dayfly.toml");
    std::fs::write(world.folder.path().join("s"), "x".repeat(24)).unwrap();
    let text = format!(
        "public_url = \"http://127.0.0.1:1\"\nlisten = \"127.0.0.1:1\"\ndata = \"d\"\nstore = \"sqlite\"\n\
         tenants = \"t\"\nnotify = [{{ url = \"http://127.0.0.1:{port}\", secret_file = \"s\", on = {on} }}]"
    );
    let mut config = Config::parse(&file, &text).unwrap();
    let notify = config.notify.remove(0);
    let key = WebhookKey::read(&notify.secret_file).unwrap();
    assert_eq!(format!("{key:?}"), "WebhookKey(redacted)");
    let subscriber = Subscriber { sink: notify, key };
    let metrics = Arc::new(Metrics::default());
    Outgoing::open(&world.app, &[subscriber], &metrics)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_is_older_than_its_keep_is_told_as_a_gap() {
    let world = World::new().await;
    let (sink, port) = sink().await;
    let outgoing = subscribed(&world, port, "[\"task.started\"], keep = \"1h\"").await;
    let began = world.size();
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(outgoing.run(stopping));

    world.job(1).await;
    world.job(2).await;
    sink.came.notified().await;
    world.wait(3601);
    let old = world.size();
    let young = world.job(3).await;
    sink.up.store(true, Ordering::SeqCst);
    let told = loop {
        sink.came.notified().await;
        let taken = sink.taken.lock().unwrap().clone();
        if taken.iter().any(|body| body["task"] == young.task.as_str()) {
            break taken;
        }
    };
    let kinds: Vec<_> = told
        .iter()
        .map(|body| body["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["notify.skipped", "task.started"]);
    assert_eq!(told[0]["data"]["from"], began);
    assert_eq!(told[0]["data"]["to"], old);
    stop.send_replace(true);
    running.await.unwrap();
}
