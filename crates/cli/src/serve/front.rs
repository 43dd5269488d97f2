//! The front door as configured: bounds, proxies, certificate, and taking the certificate again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dayfly_server::config::Config;
use dayfly_server::http::door::{Door, DoorSetup, Tls};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How often the files of the certificate are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// Files that the server has open besides its connections.
const OTHER_FILES: u64 = 256;

/// Reads the certificate and binds the address.
pub(super) async fn bind(config: &Config) -> anyhow::Result<(Door, Option<Arc<Tls>>)> {
    let tls = match &config.tls {
        Some(files) => Some(Arc::new(Tls::load(files.clone()).context("no tls")?)),
        None => None,
    };
    make_room(config.connections.total);
    let setup = DoorSetup {
        connections: config.connections,
        trusted_proxies: config.trusted_proxies.clone(),
        tls: tls.clone(),
    };
    let door = Door::bind(config.listen, setup)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    Ok((door, tls))
}

/// Every connection is an open file: asks the system for as many as there may be.
fn make_room(connections: usize) {
    let wanted = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHER_FILES);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard).is_err()
        || hard < wanted
    {
        tracing::warn!(
            wanted,
            allowed = hard,
            "the system allows fewer open files than `connections.total` needs"
        );
    }
}

/// Takes the certificate again and says what came of it.
pub(super) fn reload(tls: Option<&Tls>) {
    match tls.map(Tls::reload) {
        Some(Ok(())) => tracing::info!("the certificate was read again"),
        Some(Err(why)) => {
            tracing::error!(%why, "the certificate cannot be taken, the former one stays in force");
        }
        None => tracing::info!("nothing to read again: no `tls` is configured"),
    }
}

/// Takes the certificate again whenever its files change.
pub(super) async fn watch(tls: Arc<Tls>) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        look.tick().await;
        match tls.reload_if_changed() {
            Ok(false) => {}
            Ok(true) => tracing::info!("the certificate has changed and is in force"),
            Err(why) => {
                tracing::error!(%why, "the changed certificate cannot be taken, the former one stays in force");
            }
        }
    }
}
