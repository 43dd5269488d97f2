//! `dayfly serve`: puts store, keys, tenants and faces together, and takes them apart again.

mod telemetry;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::serve::ListenerExt;
use clap::Args;
use dayfly_server::app::{App, HeadSinks, ServerBounds, Tenant, TenantSetup};
use dayfly_server::config::{Config, HeadSink};
use dayfly_server::declared::TenantContext;
use dayfly_server::http;
use dayfly_server::http::admin::{AdminSocket, Readiness};
use dayfly_server::mint::{MasterKey, check_keys, holds_keys};
use dayfly_server::verify::{KeyCache, ProofBounds};
use dayfly_store::clock::{Clock, SystemClock};
use dayfly_store::{SqliteOptions, SqliteStore, Store};
use nix::sys::stat::{Mode, umask};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

pub(crate) use telemetry::LogFormat;

/// The database within the data folder.
pub(crate) const DATABASE: &str = "dayfly.db";
/// How often ends that are due are looked for.
const ROUND: Duration = Duration::from_millis(500);
/// How long open requests may take when the server stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the server.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "dayfly.toml")]
    config: PathBuf,
    /// How the log is written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log: LogFormat,
}

/// Runs `serve` until a signal.
pub(crate) fn main(args: &ServeArgs) -> ExitCode {
    // What the server writes, the database above all, is for its own user alone.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let result = telemetry::start(args.log).and_then(|()| {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("the runtime does not start")?
            .block_on(serve(&args.config))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _closed = writeln!(std::io::stderr(), "dayfly: {why:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(file: &Path) -> anyhow::Result<()> {
    // Before anything can be reached: whoever sees the server answer may stop it in the same moment.
    let mut stop_signals = StopSignals::listen()?;
    let config = Config::load(file).map_err(|why| anyhow!("{why}"))?;
    let store = open_store(&config)?;
    let app = open_app(&config, Arc::clone(&store)).await?;
    // Ends that came due while nobody looked are recorded before anything is answered.
    app.sweep().await;

    let (stop, stopping) = watch::channel(false);
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let admin = AdminSocket::bind(&config.data).await?;
    let asked = Arc::clone(&app);
    let ready: Readiness = Arc::new(move || asked.unready());
    let admin = tokio::spawn(admin.serve(
        http::admin::router(Arc::clone(&app), ready),
        until(stopping.clone()),
    ));
    let sweeping = tokio::spawn(sweep(Arc::clone(&app), stopping.clone()));
    announce(&config, &app, address);

    let listener = listener.tap_io(|stream| {
        let _best_effort = stream.set_nodelay(true);
    });
    let service = http::router(Arc::clone(&app))
        .into_make_service_with_connect_info::<std::net::SocketAddr>();
    let serving = tokio::spawn(
        axum::serve(listener, service)
            .with_graceful_shutdown(until(stopping))
            .into_future(),
    );
    stop_signals.arrive().await;
    tracing::info!("stopping");
    stop.send_replace(true);
    let drained = tokio::time::timeout(DRAIN, async {
        let _ended = tokio::join!(serving, sweeping, admin);
    })
    .await;
    if drained.is_err() {
        tracing::warn!("requests were still open after {DRAIN:?}");
    }
    Ok(())
}

fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    std::fs::create_dir_all(&config.data)
        .with_context(|| format!("cannot make the folder {}", config.data.display()))?;
    restrict(&config.data)?;
    let options = SqliteOptions {
        leaf_bytes: config.bounds.leaf_bytes,
        ..SqliteOptions::new(config.data.join(DATABASE))
    };
    let store = SqliteStore::open(options)
        .with_context(|| format!("the database in {} does not open", config.data.display()))?;
    Ok(Arc::new(store))
}

/// The data folder holds wrapped keys and claims of people's jobs: nobody else reads it.
fn restrict(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot restrict the folder {}", folder.display()))
}

async fn open_app(config: &Config, store: Arc<dyn Store>) -> anyhow::Result<Arc<App>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let names = config.tenant_names().map_err(|why| anyhow!("{why}"))?;
    if names.is_empty() {
        return Err(anyhow!(
            "no tenant in {}: `dayfly init` makes one",
            config.tenants.display()
        ));
    }
    let mut needed = false;
    for name in &names {
        needed |= holds_keys(store.as_ref(), name)?;
    }
    let master = Arc::new(MasterKey::load(&config.key_file, needed)?);
    // Of all tenants before the first of them is opened: a new one gets no keys under a wrong file.
    for name in &names {
        check_keys(store.as_ref(), &master, name)
            .with_context(|| format!("tenant {name} cannot be served"))?;
    }
    let keys = Arc::new(KeyCache::new());
    let mut tenants = Vec::with_capacity(names.len());
    for name in names {
        let setup = TenantSetup {
            folder: config.tenant_folder(&name),
            context: TenantContext::new(config, &name),
            proofs: ProofBounds {
                proof_age: config.bounds.proof_age,
                ..ProofBounds::default()
            },
            keys: Arc::clone(&keys),
            name: name.clone(),
        };
        let tenant = Tenant::open(store.as_ref(), setup, Arc::clone(&master), clock.now())
            .await
            .with_context(|| format!("tenant {name} cannot be served"))?;
        tenants.push(tenant.with_rotation(config.keys.rotate));
    }
    let sinks = config
        .heads
        .iter()
        .map(|sink| match sink {
            HeadSink::File(path) => path.clone(),
        })
        .collect();
    let bounds = ServerBounds {
        domain: config.bounds.domain(),
        token_bytes: config.bounds.token_bytes,
        leaf_bytes: config.bounds.leaf_bytes,
        request_bytes: config.bounds.request_bytes,
    };
    Ok(Arc::new(App::new(
        store,
        clock,
        bounds,
        tenants,
        HeadSinks::new(sinks),
    )?))
}

fn announce(config: &Config, app: &App, address: std::net::SocketAddr) {
    for tenant in app.tenants() {
        for warning in &tenant.loaded().warnings {
            tracing::warn!(tenant = %tenant.name(), "{warning}");
        }
        if tenant.differs_from_folder() {
            tracing::warn!(
                tenant = %tenant.name(),
                "its folder differs from the declared state in force: `dayfly apply --dry-run` shows how"
            );
        }
        tracing::info!(tenant = %tenant.name(), issuer = tenant.issuer(), "serving");
    }
    tracing::info!(%address, public_url = config.public_url, "listening");
}

async fn sweep(app: Arc<App>, stopping: watch::Receiver<bool>) {
    let mut stopped = std::pin::pin!(until(stopping));
    let mut round = tokio::time::interval(ROUND);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = round.tick() => { app.sweep().await; }
            () = &mut stopped => return,
        }
    }
}

async fn until(mut stopping: watch::Receiver<bool>) {
    let _gone = stopping.wait_for(|stop| *stop).await;
}

/// The signals that stop the server, heard from the moment this is made.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn listen() -> anyhow::Result<Self> {
        let heard = |kind| signal(kind).context("signals cannot be listened for");
        Ok(Self {
            interrupt: heard(SignalKind::interrupt())?,
            terminate: heard(SignalKind::terminate())?,
        })
    }

    async fn arrive(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
