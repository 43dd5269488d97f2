//! `dayfly serve`: puts store, keys, tenants and faces together, and takes them apart again.

mod front;
mod signals;
mod telemetry;
#[cfg(feature = "otel")]
mod traces;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use dayfly_domain::Name;
use dayfly_server::app::{
    App, HeadSinks, Journal, ObeyingStore, Retention, ServerBounds, Tenant, TenantSetup,
    check_overlaps,
};
use dayfly_server::config::{Config, NotifySink};
use dayfly_server::declared::TenantContext;
use dayfly_server::http;
use dayfly_server::http::admin::{AdminSocket, Readiness, Ready, Remote};
use dayfly_server::mint::{MasterKey, check_keys, holds_keys};
use dayfly_server::restore::HandedOut;
use dayfly_server::sinks::{Outgoing, Subscriber, WebhookKey};
use dayfly_server::telemetry::{MeteredStore, Metrics};
use dayfly_server::transmitters::fetch_events;
use dayfly_server::verify::{KeyCache, People, ProofBounds};
use dayfly_store::clock::{Clock, SystemClock};
use dayfly_store::{SqliteOptions, SqliteStore, Store};
use nix::sys::stat::{Mode, umask};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::operator::restore::check_finished;
use front::Front;
use signals::{Asked, Signals};

pub(crate) use telemetry::LogFormat;

/// The database within the data folder.
pub(crate) const DATABASE: &str = "dayfly.db";
/// The last head that was handed out of each ledger, within the data folder.
pub(crate) const HEADS: &str = "heads";
/// How often ends that are due are looked for.
const ROUND: Duration = Duration::from_millis(500);
/// The folder of bundles within the data folder, where the store looks for them.
pub(crate) const BUNDLES: &str = "bundles";
/// How often is looked for old entries while there are none.
const OLD: Duration = Duration::from_secs(10);
/// How long the admin socket may be in use after everything else has stopped.
const FAREWELL: Duration = Duration::from_secs(1);

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
    let result = run(args);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _closed = writeln!(std::io::stderr(), "dayfly: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    let telemetry = telemetry::start(args.log, runtime.handle())?;
    runtime.block_on(async {
        let served = serve(&args.config).await;
        telemetry.finish().await;
        served
    })
}

async fn serve(file: &Path) -> anyhow::Result<()> {
    // Taken before anything can be reached, so that no signal meets a server that does not heed it.
    let mut signals = Signals::take()?;
    let config = Config::load(file).map_err(|why| anyhow!("{why}"))?;
    let subscribers = subscribers(&config)?;
    let metrics = Arc::new(Metrics::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keys = Arc::new(KeyCache::new());
    let opened = open_ledger(&config, &clock, &metrics).await?;
    let app = open_app(&config, opened, clock, &keys).await?;
    // Ends that came due while nobody looked are recorded before anything is answered.
    app.sweep().await;
    let outgoing = Outgoing::open(&app, &subscribers, &metrics)
        .await
        .context("where the sinks of `notify` stand is not known")?;

    let (stop, stopping) = watch::channel(false);
    let front = Front::bind(&config, &metrics).await?;
    let admin = AdminSocket::bind(&config.data).await?;
    let ready = readiness(Arc::clone(&app), stopping.clone());
    // The admin face stays until the last request is answered: it says that the server is stopping.
    let (close, closing) = watch::channel(false);
    let local = http::admin::router(Arc::clone(&app), Arc::clone(&ready))
        .merge(http::admin::metrics(Arc::clone(&app), Arc::clone(&metrics)));
    let admin = tokio::spawn(admin.serve(local, until(closing.clone())));
    let operators = operators(&config, &keys)?;
    let remote = http::admin::remote(Arc::clone(&app), ready, Arc::clone(&metrics), operators);
    let remote = tokio::spawn(Front::serve_admin(front.admin, remote, closing));
    let sweeping = sweep(Arc::clone(&app), stopping.clone());
    let sweeping = on_its_own_thread(sweeping);
    let retaining = retain(Arc::clone(&app), retention(&config), stopping.clone());
    let retaining = tokio::spawn(retaining);
    let sending = tokio::spawn(outgoing.run(stopping.clone()));
    let fetching = fetch_events(Arc::clone(&app), Arc::clone(&metrics), stopping.clone());
    let fetching = tokio::spawn(fetching);
    announce(&config, &app, front.door.address()?);

    let router = http::front(Arc::clone(&app), config.rate, metrics);
    let serving = tokio::spawn(front.door.serve(router, stopping));
    let tls = front.tls;
    if let Some(tls) = tls.clone() {
        tokio::spawn(front::watch(tls));
    }
    while signals.next().await == Asked::Reload {
        front::reload(tls.as_deref());
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    let drained = async {
        let _ended = tokio::join!(serving, sweeping, retaining, sending, fetching);
        close.send_replace(true);
        let farewell = async { tokio::join!(admin, remote) };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            tracing::warn!("the admin face was still in use");
        }
    };
    tokio::select! {
        () = drained => tracing::info!("stopped"),
        () = signals.stop() => {
            tracing::warn!("a second signal: open requests are cut");
            // What is committed is on disk; what is not was never acknowledged.
            std::process::exit(1);
        }
    }
    Ok(())
}

/// Who operates the server from elsewhere. Their provider's keys are held with those of issuers.
fn operators(config: &Config, keys: &KeyCache) -> anyhow::Result<Option<Remote>> {
    let Some(operators) = &config.operators else {
        return Ok(None);
    };
    let people = People::new(operators, keys).context("operators cannot be known")?;
    Ok(Some(Remote {
        operators: operators.clone(),
        people,
        rates: config.rate,
    }))
}

fn readiness(app: Arc<App>, stopping: watch::Receiver<bool>) -> Ready {
    Arc::new(move || {
        let warnings = app.warnings();
        let mut reasons = app.unready();
        if *stopping.borrow() {
            reasons.push("the server is stopping".to_owned());
        }
        Readiness { reasons, warnings }
    })
}

/// The sinks of `notify` with their secrets, which are read before anything else is touched.
fn subscribers(config: &Config) -> anyhow::Result<Vec<Subscriber>> {
    let subscriber = |sink: &NotifySink| {
        let file = sink.secret_file.display();
        let key = WebhookKey::read(&sink.secret_file)
            .with_context(|| format!("the secret file {file} cannot be used"))?;
        Ok(Subscriber {
            sink: sink.clone(),
            key,
        })
    };
    config.notify.iter().map(subscriber).collect()
}

fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    std::fs::create_dir_all(&config.data)
        .with_context(|| format!("cannot make the folder {}", config.data.display()))?;
    restrict(&config.data)?;
    check_finished(&config.data)?;
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

/// The ledgers, and how far they must have come.
struct Opened {
    store: Arc<ObeyingStore>,
    names: Vec<Name>,
    handed_out: HandedOut,
}

/// Opens the store, with what ended while it could not record: that is obeyed from the first read
/// on, and recorded before anything else where it can be.
async fn open_ledger(
    config: &Config,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Opened> {
    let store = MeteredStore::new(open_store(config)?, Arc::clone(metrics));
    let handed_out = handed_out(&config.data, &store)?;
    let names = config.tenant_names().map_err(|why| anyhow!("{why}"))?;
    let journal = Journal::open(&config.data)?;
    let waiting = journal.1.len();
    let store = ObeyingStore::new(Arc::new(store), Arc::clone(clock), Some(journal));
    if waiting > 0 {
        tracing::warn!(waiting, "ends wait in the containment journal");
        store.resume(&names).await;
    }
    Ok(Opened {
        store: Arc::new(store),
        names,
        handed_out,
    })
}

async fn open_app(
    config: &Config,
    opened: Opened,
    clock: Arc<dyn Clock>,
    keys: &Arc<KeyCache>,
) -> anyhow::Result<Arc<App>> {
    let Opened {
        store,
        names,
        handed_out,
    } = opened;
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
    let sinks = HeadSinks::of(&config.heads, &names);
    let setups: Vec<TenantSetup> = names
        .into_iter()
        .map(|name| TenantSetup {
            folder: config.tenant_folder(&name),
            context: TenantContext::new(config, &name),
            proofs: ProofBounds {
                proof_age: config.bounds.proof_age,
                ..ProofBounds::default()
            },
            keys: Arc::clone(keys),
            name,
        })
        .collect();
    for warning in check_overlaps(store.as_ref(), &setups)? {
        tracing::warn!("{warning}");
    }
    let mut tenants = Vec::with_capacity(setups.len());
    for setup in setups {
        let name = setup.name.clone();
        let tenant = Tenant::open(store.as_ref(), setup, Arc::clone(&master), clock.now())
            .await
            .with_context(|| format!("tenant {name} cannot be served"))?;
        tenants.push(tenant.with_rotation(config.keys.rotate));
    }
    let bounds = ServerBounds {
        domain: config.bounds.domain(),
        token_bytes: config.bounds.token_bytes,
        leaf_bytes: config.bounds.leaf_bytes,
        request_bytes: config.bounds.request_bytes,
    };
    let app = App::new(store, clock, bounds, tenants, sinks)?;
    let app = app.keeping_heads(handed_out);
    Ok(Arc::new(app.operated_at(config.admin_url.clone())))
}

/// The heads that were handed out, behind which no ledger may lie: before anything is recorded.
fn handed_out(data: &Path, store: &dyn Store) -> anyhow::Result<HandedOut> {
    let path = data.join(HEADS);
    let known = path.exists();
    let handed_out = HandedOut::open(path)?;
    handed_out.check(store)?;
    if !known {
        tracing::info!("no head is known to have been handed out: the database is taken as it is");
    }
    Ok(handed_out)
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

/// Runs what computes for long between two waits beside the threads that serve requests: none of
/// these is busy with it while somebody waits.
fn on_its_own_thread(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(work))
}

async fn sweep(app: Arc<App>, stopping: watch::Receiver<bool>) {
    let mut stopped = std::pin::pin!(until(stopping));
    let mut round = tokio::time::interval(ROUND);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = round.tick() => {
                app.sweep().await;
                app.survey().await;
                // Nobody waits for clusters: the next round begins what this one could not.
                drop(app.review_pods());
            }
            () = &mut stopped => return,
        }
    }
}

/// How long entries stay in the database; none where all of them do.
fn retention(config: &Config) -> Option<Retention> {
    Some(Retention {
        keep: config.ledger.retain?,
        bundles: config.data.join(BUNDLES),
    })
}

/// Drops old entries, round after round, with a rest between them in which others commit.
async fn retain(app: Arc<App>, retention: Option<Retention>, stopping: watch::Receiver<bool>) {
    let Some(retention) = retention else {
        return;
    };
    let mut stopped = std::pin::pin!(until(stopping));
    loop {
        let dropped = tokio::select! {
            dropped = app.drop_old(&retention) => dropped,
            () = &mut stopped => return,
        };
        let rest = if dropped > 0 {
            tracing::info!(dropped, "old entries went into bundles");
            ROUND
        } else {
            OLD
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = &mut stopped => return,
        }
    }
}

async fn until(mut stopping: watch::Receiver<bool>) {
    let _gone = stopping.wait_for(|stop| *stop).await;
}
