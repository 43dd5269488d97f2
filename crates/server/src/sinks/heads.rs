//! Heads to sinks over HTTP: the newest of each tenant, never a queue of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use dayfly_domain::Name;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::watch;

use super::Courier;
use super::stop;
use crate::config::SinkUrl;
use crate::telemetry::Metrics;

/// The sinks over HTTP, and the newest head of each tenant for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadPosts {
    sinks: Vec<(String, SinkUrl)>,
    newest: BTreeMap<Name, Newest>,
}

/// The newest head of a tenant; a newer one takes its place whether it was sent or not. The
/// receiver has seen none, so what was there before a sink was followed is news to it.
#[derive(Clone, Debug)]
struct Newest {
    sender: watch::Sender<Option<Arc<str>>>,
    unseen: watch::Receiver<Option<Arc<str>>>,
}

impl HeadPosts {
    /// Sinks with their places in `dayfly.toml`, like `heads[0]`, for the heads of these tenants.
    pub(crate) fn new(sinks: Vec<(String, SinkUrl)>, tenants: &[Name]) -> Self {
        let newest = |tenant: &Name| {
            let (sender, unseen) = watch::channel(None);
            (tenant.clone(), Newest { sender, unseen })
        };
        Self {
            sinks,
            newest: tenants.iter().map(newest).collect(),
        }
    }

    /// Leaves a head to be sent. Never waits.
    pub(crate) fn leave(&self, tenant: &Name, note: &str) {
        if let Some(newest) = self.newest.get(tenant) {
            newest.sender.send_replace(Some(note.into()));
        }
    }

    pub(crate) fn posts(&self, metrics: &Arc<Metrics>) -> Vec<HeadPost> {
        let mut posts = Vec::new();
        for (sink, url) in &self.sinks {
            for (tenant, newest) in &self.newest {
                posts.push(HeadPost {
                    courier: Courier::new(sink.clone(), tenant, url.clone(), Arc::clone(metrics)),
                    newest: newest.unseen.clone(),
                });
            }
        }
        posts
    }
}

/// One tenant's heads on their way to one sink.
pub(crate) struct HeadPost {
    courier: Courier,
    newest: watch::Receiver<Option<Arc<str>>>,
}

impl HeadPost {
    pub(super) async fn run(mut self, stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.send() => {}
            () = stop(stopping) => {}
        }
    }

    async fn send(&mut self) {
        while self.newest.changed().await.is_ok() {
            // What is newest by then is tried next, not what failed.
            loop {
                let note = self.newest.borrow_and_update().clone();
                let Some(note) = note else { break };
                let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                let headers = HeaderMap::from_iter([(CONTENT_TYPE, plain)]);
                if self.courier.post(headers, note.to_string()).await.is_ok() {
                    break;
                }
                self.courier.pause().await;
            }
        }
    }
}
