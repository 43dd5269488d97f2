//! The server's configuration, `dayfly.toml`: parsed, typed, and refused with place and nearest known key.

mod address;
mod bounds;
mod connections;
mod door;
mod network;
mod operators;
mod rate;
mod reader;
mod report;
mod secret;
mod sinks;
mod span;
#[cfg(test)]
mod tests;
mod who;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dayfly_domain::{Name, Span};

pub use bounds::Bounds;
pub use connections::Connections;
pub use door::TlsFiles;
pub use network::{Network, NetworkError};
pub use operators::{Operators, Role};
pub(crate) use rate::rate;
pub use rate::{AddressRates, Rate};
pub use report::{LoadError, Place, Warning};
pub use secret::{Secret, SecretError, is_world_readable};
pub use sinks::{HeadSink, NotifySink, SinkUrl};
pub use span::parse_span;
pub use who::{Named, Who};

pub(crate) use address::web_url;
use door::Front;
pub(crate) use reader::{Document, Node, Table, any_of};
pub(crate) use report::{Report, nearest};

/// What `dayfly.toml` says, with its defaults filled in and its paths made relative to its folder.
#[derive(Clone, Debug)]
pub struct Config {
    /// What clients see: scheme, host and port, without a slash at the end.
    pub public_url: String,
    /// Where the server listens.
    pub listen: SocketAddr,
    /// The folder of the database, the journal and the socket.
    pub data: PathBuf,
    /// Which store holds durable state.
    pub store: StoreKind,
    /// The folder whose folders are the tenants' declared state.
    pub tenants: PathBuf,
    /// The file of the key that wraps private keys; never within `data`.
    pub key_file: PathBuf,
    /// What happens to keys by itself.
    pub keys: Keys,
    /// What stays of the ledger in the database.
    pub ledger: Ledger,
    /// Where heads go besides the log.
    pub heads: Vec<HeadSink>,
    /// Where entries are sent.
    pub notify: Vec<NotifySink>,
    /// What holds for every tenant.
    pub bounds: Bounds,
    /// What holds for connections.
    pub connections: Connections,
    /// Certificate and key; none where the server speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Where the admin face is served besides the admin socket: health, readiness and metrics to
    /// whoever comes, the rest to operators.
    pub admin: Option<SocketAddr>,
    /// The URL at which people reach that listener, shown to whoever waits for one of them; none where
    /// nobody is told.
    pub admin_url: Option<String>,
    /// Who operates the server from elsewhere; none where only the admin socket is for that.
    pub operators: Option<Operators>,
    /// How often one address may ask.
    pub rate: AddressRates,
    /// The proxies whose word about a caller's address counts.
    pub trusted_proxies: Vec<Network>,
}

/// The table `[keys]` of `dayfly.toml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// After how long a key that signs is replaced: `rotate`, at least a day. None when only by
    /// `dayfly keys rotate`. Ledger keys are never replaced by themselves.
    pub rotate: Option<Span>,
}

/// The table `[ledger]` of `dayfly.toml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// After how long entries of tasks that are over go from the database into bundles: `retain`,
    /// at least a day. None when they stay.
    pub retain: Option<Span>,
}

/// A store that this build has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// One SQLite file within `data`.
    Sqlite,
}

/// Everything that is wrong with a configuration, in order of its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong, never empty.
    pub errors: Vec<LoadError>,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// Every mistake at once; one without a line when the file cannot be read.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|why| unreadable(file, &format!("cannot be read: {why}")))?;
        Self::parse(file, &text)
    }

    /// Checks the text of a configuration file; `file` names it and is what its paths start from.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut report = Report::default();
        let config = Document::parse(file.display().to_string(), text, &mut report)
            .and_then(|document| read(document.root(), folder_of(file), &mut report));
        match (config, report.into_errors()) {
            (Some(config), errors) if errors.is_empty() => Ok(config),
            (Some(_) | None, errors) => Err(ConfigError { errors }),
        }
    }

    /// The issuer of a tenant: `<public_url>/<tenant>`.
    #[must_use]
    pub fn issuer(&self, tenant: &Name) -> String {
        format!("{}/{tenant}", self.public_url)
    }

    /// The folder of a tenant's declared state.
    #[must_use]
    pub fn tenant_folder(&self, tenant: &Name) -> PathBuf {
        self.tenants.join(tenant.as_str())
    }

    /// The tenants: the names of the folders within `tenants`, in order. Names that begin with a
    /// dot and plain files are passed over.
    ///
    /// # Errors
    /// The folder cannot be read, or a folder's name is not one that a tenant may have.
    pub fn tenant_names(&self) -> Result<Vec<Name>, ConfigError> {
        let failed =
            |why: std::io::Error| unreadable(&self.tenants, &format!("cannot be read: {why}"));
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.tenants).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with('.') || !path.is_dir() {
                continue;
            }
            let name = name
                .parse()
                .map_err(|why| unreadable(&path, &format!("is no name of a tenant: {why}")))?;
            names.push(name);
        }
        names.sort();
        Ok(names)
    }
}

fn read(mut table: Table<'_>, folder: &Path, report: &mut Report) -> Option<Config> {
    let public_url = table
        .require("public_url", report)
        .and_then(|node| address::public_url(&node, report));
    let listen = table
        .require("listen", report)
        .and_then(|node| door::socket(&node, report));
    let data = table
        .require("data", report)
        .and_then(|node| node.path(folder, report));
    let store = table
        .require("store", report)
        .and_then(|node| store(&node, report));
    let tenants = table
        .require("tenants", report)
        .and_then(|node| node.path(folder, report));
    let key_file = key_file(&mut table, folder, data.as_deref(), report);
    let keys = table
        .get("keys")
        .and_then(|node| node.table(report))
        .map(|table| keys(table, report))
        .unwrap_or_default();
    let ledger = ledger(&mut table, report);
    let heads = table
        .get("heads")
        .map(|node| sinks::heads(&node, folder, report))
        .unwrap_or_default();
    let notify = table
        .get("notify")
        .map(|node| sinks::notify(&node, folder, report))
        .unwrap_or_default();
    let bounds = table
        .get("bounds")
        .and_then(|node| node.table(report))
        .map_or_else(Bounds::default, |table| bounds::read(table, report));
    let front = door::read(&mut table, public_url.as_deref(), folder, report);
    for key in ["egress", "otel"] {
        table.not_served(key, report);
    }
    table.finish(report);
    Some(Config {
        public_url: public_url?,
        listen: listen?,
        data: data?,
        store: store?,
        tenants: tenants?,
        key_file: key_file?,
        keys,
        ledger,
        heads,
        notify,
        bounds,
        connections: front.connections,
        tls: front.tls,
        trusted_proxies: front.trusted_proxies,
        admin: front.admin,
        admin_url: front.admin_url,
        operators: front.operators,
        rate: front.rate,
    })
}

fn key_file(
    table: &mut Table<'_>,
    folder: &Path,
    data: Option<&Path>,
    report: &mut Report,
) -> Option<PathBuf> {
    let Some(node) = table.get("key_file") else {
        return Some(folder.join("dayfly.key"));
    };
    let path = node.path(folder, report);
    if let (Some(path), Some(data)) = (&path, data)
        && path.starts_with(data)
    {
        let message = "`key_file` lies within `data`: a copy of the data would hold the key too";
        node.error(message, report);
    }
    path
}

fn keys(mut table: Table<'_>, report: &mut Report) -> Keys {
    const DAY: u64 = 86_400;
    // Each key that was replaced verifies for a day: more often, and they would pile up.
    let (least, most) = (Span::from_seconds(DAY), Span::from_seconds(3650 * DAY));
    let rotate = table
        .get("rotate")
        .and_then(|node| node.span_between(least, most, report));
    table.finish(report);
    Keys { rotate }
}

fn ledger(root: &mut Table<'_>, report: &mut Report) -> Ledger {
    const DAY: u64 = 86_400;
    // What is asked often, repeats of an end above all, is answered without opening a file.
    let (least, most) = (Span::from_seconds(DAY), Span::from_seconds(3650 * DAY));
    let Some(mut table) = root.get("ledger").and_then(|node| node.table(report)) else {
        return Ledger::default();
    };
    let retain = table
        .get("retain")
        .and_then(|node| node.span_between(least, most, report));
    table.finish(report);
    Ledger { retain }
}

fn store(node: &Node<'_>, report: &mut Report) -> Option<StoreKind> {
    let text = node.text(report)?;
    if text.starts_with("postgres:") || text.starts_with("postgresql:") {
        node.error(
            "a postgres store is not served by this build, use `sqlite`",
            report,
        );
        return None;
    }
    node.choice(&[("sqlite", StoreKind::Sqlite)], report)
}

/// The folder that the paths of a file start from.
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    }
}

fn unreadable(path: &Path, message: &str) -> ConfigError {
    let place = Place::of_file(path.display().to_string());
    ConfigError {
        errors: vec![LoadError::new(place, message)],
    }
}
