//! The front door as configured: bounds, proxies, certificate, and taking the certificate again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use dayfly_server::config::Config;
use dayfly_server::http::door::{Door, DoorSetup, Tls};
use dayfly_server::telemetry::Metrics;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;

/// How often the files of the certificate are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// Files that the server has open besides its connections.
const OTHER_FILES: u64 = 256;

/// What is reached over the network, bound and not yet served.
pub(super) struct Front {
    pub(super) door: Door,
    /// Health and metrics, where they are served besides the admin socket.
    pub(super) admin: Option<Door>,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Front {
    /// Reads the certificate and binds the addresses.
    pub(super) async fn bind(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let tls = match &config.tls {
            Some(files) => Some(Arc::new(Tls::load(files.clone()).context("no tls")?)),
            None => None,
        };
        make_room(config.connections.total);
        let setup = DoorSetup {
            connections: config.connections,
            trusted_proxies: config.trusted_proxies.clone(),
            tls: tls.clone(),
            metrics: Arc::clone(metrics),
        };
        let admin = match config.admin {
            Some(address) => Some(bind(address, admin_setup(&setup, address)).await?),
            None => None,
        };
        let door = bind(config.listen, setup).await?;
        Ok(Self { door, admin, tls })
    }

    /// Serves the admin face, where it is bound.
    pub(super) async fn serve_admin(
        door: Option<Door>,
        router: Router,
        stop: watch::Receiver<bool>,
    ) {
        if let Some(door) = door {
            if let Ok(address) = door.address() {
                tracing::info!(%address, "the admin face");
            }
            door.serve(router, stop).await;
        }
    }
}

/// The admin face speaks TLS like the door beside it, but to this machine, where its probes are.
fn admin_setup(setup: &DoorSetup, address: SocketAddr) -> DoorSetup {
    DoorSetup {
        tls: setup.tls.clone().filter(|_| !address.ip().is_loopback()),
        trusted_proxies: Vec::new(),
        ..setup.clone()
    }
}

async fn bind(address: SocketAddr, setup: DoorSetup) -> anyhow::Result<Door> {
    Door::bind(address, setup)
        .await
        .with_context(|| format!("cannot listen on {address}"))
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
