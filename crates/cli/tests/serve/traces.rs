//! Traces of a real server to a collector: joined to the caller's, sent to the last, and silent about whoever called.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::sync::Notify;

use crate::client::{Client, Outcome};
use crate::stage::Stage;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A collector of this process.
#[derive(Default)]
struct Collector {
    bodies: Mutex<Vec<String>>,
    came: Notify,
}

impl Collector {
    async fn open() -> (Arc<Self>, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Arc::new(Self::default());
        let router = Router::new()
            .fallback(take)
            .with_state(Arc::clone(&collector));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, url)
    }

    fn spans(&self) -> Vec<Value> {
        let mut spans = Vec::new();
        for body in self.bodies.lock().unwrap().iter() {
            let body: Value = serde_json::from_str(body).unwrap();
            for resource in body["resourceSpans"].as_array().unwrap() {
                let named = resource["resource"]["attributes"].to_string();
                assert!(named.contains("\"dayfly\""), "{named}");
                for scope in resource["scopeSpans"].as_array().unwrap() {
                    spans.extend(scope["spans"].as_array().unwrap().iter().cloned());
                }
            }
        }
        spans
    }

    async fn until(&self, found: impl Fn(&Value) -> bool) -> Value {
        loop {
            let came = self.came.notified();
            if let Some(span) = self.spans().into_iter().find(&found) {
                return span;
            }
            came.await;
        }
    }
}

async fn take(State(collector): State<Arc<Collector>>, uri: Uri, body: Bytes) -> &'static str {
    assert_eq!(uri.path(), "/v1/traces");
    let body = String::from_utf8(body.to_vec()).unwrap();
    collector.bodies.lock().unwrap().push(body);
    collector.came.notify_waiters();
    "{}"
}

fn attribute(span: &Value, key: &str) -> Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    found.map_or(Value::Null, |found| found["value"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_join_their_callers_trace_and_the_last_is_sent_too() {
    let (collector, url) = Collector::open().await;
    let mut stage = Stage::new();
    stage.set("OTEL_EXPORTER_OTLP_ENDPOINT", url);
    stage.set("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned());
    stage.start().await;
    let shared = stage.shared();
    let asked = shared
        .http
        .get(format!("{}/jwks?password=hunter2", shared.issuer))
        .header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
        .send();
    assert!(asked.await.unwrap().status().is_success());
    let span = collector.until(|span| span["traceId"] == TRACE).await;
    assert_eq!(span["parentSpanId"], SPAN);
    assert_eq!(span["name"], "GET /{tenant}/jwks");
    assert_eq!(
        attribute(&span, "status")["intValue"]
            .to_string()
            .trim_matches('"'),
        "200"
    );

    let Outcome::Answered(client) = Client::grant(&shared, 1).await else {
        panic!("no answer")
    };
    assert_eq!(
        client.replay_with_another_key(&shared).await,
        "retry_other_key"
    );
    // Stopped at once: what was not sent yet is sent first.
    assert!(stage.stop_by(Signal::SIGTERM).success());
    let spans = collector.spans();
    let refused = spans
        .iter()
        .find(|span| attribute(span, "rule")["stringValue"] == "retry_other_key")
        .expect("the refusal");
    assert_eq!(refused["name"], "POST /{tenant}/token");
    assert_ne!(refused["traceId"], TRACE, "a trace of its own");
    let all = collector.bodies.lock().unwrap().concat();
    for secret in [
        "hunter2",
        client.proof.as_str(),
        client.token.as_str(),
        "127.0.0.1",
        client.task.as_str(),
    ] {
        assert!(!all.contains(secret), "{secret}");
    }
}
