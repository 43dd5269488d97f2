//! What goes out by itself: heads to sinks over HTTP, and entries to `notify` sinks, signed and in order.
//!
//! Everything here follows committed state from behind: nobody who grants, ends or sweeps waits for
//! a sink, and a sink that is away costs a position and a timer. What it misses for too long is told
//! to it as one gap.

mod courier;
mod follow;
mod heads;
mod letter;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use dayfly_store::Unavailable;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::App;
use crate::config::NotifySink;
use crate::telemetry::Metrics;

use courier::Courier;
use follow::Follower;

pub(crate) use heads::{HeadPost, HeadPosts};
pub use letter::{KINDS, KeyError, WebhookKey};

/// A `notify` sink with its secret.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// What `dayfly.toml` says of it.
    pub sink: NotifySink,
    /// What its deliveries are signed with.
    pub key: WebhookKey,
}

/// Everything that is sent out, before it begins.
pub struct Outgoing {
    followers: Vec<Follower>,
    heads: Vec<HeadPost>,
}

impl Outgoing {
    /// Finds where each sink stopped in each ledger. One that a ledger does not know yet begins at
    /// the present end, which is kept before this returns.
    ///
    /// # Errors
    /// [`Unavailable`] when the store cannot say or keep it.
    pub async fn open(
        app: &Arc<App>,
        subscribers: &[Subscriber],
        metrics: &Arc<Metrics>,
    ) -> Result<Self, Unavailable> {
        let mut followers = Vec::new();
        for (number, subscriber) in subscribers.iter().enumerate() {
            for tenant in app.tenants() {
                let url = subscriber.sink.url.clone();
                let name = format!("notify[{number}]");
                let courier = Courier::new(name, tenant.name(), url, Arc::clone(metrics));
                let (app, tenant) = (Arc::clone(app), Arc::clone(tenant));
                followers.push(Follower::open(app, tenant, subscriber, courier).await?);
            }
        }
        let heads = app.head_sinks().posts(metrics);
        Ok(Self { followers, heads })
    }

    /// Sends until told to stop; then keeps where each sink stands and returns.
    pub async fn run(self, stopping: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        for follower in self.followers {
            tasks.spawn(follower.run(stopping.clone()));
        }
        for post in self.heads {
            tasks.spawn(post.run(stopping.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// Returns when the server stops.
async fn stop(mut stopping: watch::Receiver<bool>) {
    let _gone = stopping.wait_for(|stop| *stop).await;
}
