//! `dayfly config check`: what a server would say of its configuration, without starting one.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use dayfly_server::config::{Config, LoadError, Place, Warning, is_world_readable};
use dayfly_server::declared::{Declared, Neighbour, Source, TenantContext, overlaps};
use dayfly_server::http::admin::SOCKET;
use dayfly_server::http::door::Tls;
use dayfly_server::mint::MasterKey;
use dayfly_server::policy::Policies;
use dayfly_server::sinks::WebhookKey;
use serde_json::{Value, json};

use crate::serve::DATABASE;

/// What is done with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Says what is wrong with it and what is doubtful. Exits with 0 when a server would start
    Check(CheckArgs),
}

/// Options of `config check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "dayfly.toml")]
    config: PathBuf,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command: 0 when nothing is wrong, 1 when something is.
pub(crate) fn main(command: &ConfigCommand) -> ExitCode {
    let ConfigCommand::Check(args) = command;
    let findings = check(&args.config);
    let printed = if args.json {
        findings.print_json()
    } else {
        findings.print()
    };
    match (printed, findings.errors.is_empty()) {
        (Ok(()), true) => ExitCode::SUCCESS,
        (Ok(()), false) | (Err(_), _) => ExitCode::FAILURE,
    }
}

/// What was found.
#[derive(Default)]
struct Findings {
    errors: Vec<LoadError>,
    warnings: Vec<Warning>,
}

fn check(file: &Path) -> Findings {
    let mut findings = Findings::default();
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(why) => {
            findings.errors = why.errors;
            return findings;
        }
    };
    findings.tenants(&config);
    findings.key_file(&config);
    findings.tls(&config);
    findings.secrets(&config);
    findings.addresses(file, &config);
    findings
}

impl Findings {
    fn error(&mut self, file: &Path, message: impl Into<String>) {
        self.errors.push(LoadError {
            place: Place::of_file(file.display().to_string()),
            message: message.into(),
            nearest: None,
        });
    }

    fn warn(&mut self, file: &Path, message: impl Into<String>) {
        self.warnings.push(Warning {
            place: Place::of_file(file.display().to_string()),
            message: message.into(),
            nearest: None,
        });
    }

    /// The declared state of each tenant, as its folder has it.
    fn tenants(&mut self, config: &Config) {
        let names = match config.tenant_names() {
            Ok(names) => names,
            Err(why) => return self.errors.extend(why.errors),
        };
        if names.is_empty() {
            self.error(&config.tenants, "has no tenant: `dayfly init` makes one");
        }
        let mut states = Vec::with_capacity(names.len());
        for name in names {
            let source = match Source::read_folder(&config.tenant_folder(&name)) {
                Ok(source) => source,
                Err(why) => {
                    self.errors.push(why);
                    continue;
                }
            };
            match Declared::load(&source, &TenantContext::new(config, &name)) {
                Ok((declared, warnings)) => {
                    self.warnings.extend(warnings);
                    match Policies::load(&source, &declared) {
                        Ok((_, doubts)) => self.warnings.extend(doubts),
                        Err(errors) => self.errors.extend(errors),
                    }
                    states.push((config.issuer(&name), name, declared));
                }
                Err(errors) => self.errors.extend(errors),
            }
        }
        let neighbours = || {
            states.iter().map(|(issuer, name, declared)| Neighbour {
                name,
                issuer,
                declared,
            })
        };
        for state in neighbours() {
            self.errors.extend(overlaps(state, neighbours()));
        }
    }

    /// The key file is read and never made here: that is for the first start.
    fn key_file(&mut self, config: &Config) {
        let file = &config.key_file;
        if file.exists() {
            if let Err(why) = MasterKey::load(file, true) {
                self.error(file, why.to_string());
            }
        } else if config.data.join(DATABASE).exists() {
            self.error(
                file,
                "is missing, and the keys in the database are wrapped under it: put it back, or restore from a backup",
            );
        } else {
            self.warn(
                file,
                "is not there yet: the first start makes it; keep a copy",
            );
        }
    }

    fn tls(&mut self, config: &Config) {
        let Some(files) = &config.tls else {
            return;
        };
        if let Err(why) = Tls::load(files.clone()) {
            self.error(&files.cert, why.to_string());
        }
        let mode = std::fs::metadata(&files.key).map(|meta| meta.permissions().mode() & 0o777);
        if let Ok(mode) = mode
            && mode & 0o007 != 0
        {
            let message = format!(
                "has mode {mode:04o}: everybody on this machine may read the key (chmod 600)"
            );
            self.warn(&files.key, message);
        }
    }

    /// The secrets of `notify`, read as a start reads them.
    fn secrets(&mut self, config: &Config) {
        for sink in &config.notify {
            let file = &sink.secret_file;
            if let Err(why) = WebhookKey::read(file) {
                self.error(file, why.to_string());
            } else if is_world_readable(file) {
                let message =
                    "everybody on this machine may read it, and sign as this server (chmod 600)";
                self.warn(file, message);
            }
        }
    }

    /// Whether the addresses can be had, and who would see what goes over them.
    fn addresses(&mut self, file: &Path, config: &Config) {
        let running = UnixStream::connect(config.data.join(SOCKET)).is_ok();
        let addresses = std::iter::once(("listen", config.listen))
            .chain(config.admin.map(|address| ("admin", address)));
        for (key, address) in addresses {
            match TcpListener::bind(address) {
                Ok(_) => {}
                // A server of this very configuration holds them.
                Err(why) if running && why.kind() == ErrorKind::AddrInUse => {}
                Err(why) => self.error(file, format!("`{key}` {address} cannot be had: {why}")),
            }
        }
        if config
            .admin
            .is_some_and(|admin| admin.port() != 0 && admin == config.listen)
        {
            self.error(file, "`admin` and `listen` are one address");
        }
        let open = |address: SocketAddr| !address.ip().is_loopback();
        let proxied = !config.trusted_proxies.is_empty();
        if config.tls.is_none() && open(config.listen) {
            self.warn(
                file,
                "`listen` is reached from other machines in the clear: name a certificate with `tls`, or listen on loopback behind a proxy",
            );
        }
        if config.tls.is_none() && !proxied && config.public_url.starts_with("https:") {
            self.warn(
                file,
                "`public_url` is https and neither `tls` nor `trusted_proxies` is set: all callers of a proxy count as one address, in rates and in the record",
            );
        }
        if config.admin.is_some_and(open) {
            self.warn(
                file,
                "`admin` is reached from other machines: metrics name tenants and workloads' issuers to whoever reaches it",
            );
        }
        if config.connections.per_address > config.connections.total {
            self.warn(
                file,
                "`connections.per_address` is more than `connections.total`: one address may take all places",
            );
        }
    }

    fn print(&self) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        for error in &self.errors {
            writeln!(out, "error: {error}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        let verdict = match (self.errors.len(), self.warnings.len()) {
            (0, 0) => "nothing is wrong".to_owned(),
            (0, warnings) => format!("nothing is wrong, {} doubtful", counted(warnings)),
            (errors, _) => format!("{} wrong", counted(errors)),
        };
        writeln!(out, "{verdict}")?;
        out.flush()
    }

    fn print_json(&self) -> std::io::Result<()> {
        let errors: Vec<Value> = self
            .errors
            .iter()
            .map(|error| finding(&error.place, &error.message, error.nearest.as_deref()))
            .collect();
        let warnings: Vec<Value> = self
            .warnings
            .iter()
            .map(|warning| finding(&warning.place, &warning.message, warning.nearest.as_deref()))
            .collect();
        let answer = json!({ "ok": errors.is_empty(), "errors": errors, "warnings": warnings });
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()
    }
}

fn counted(number: usize) -> String {
    match number {
        1 => "1 thing is".to_owned(),
        number => format!("{number} things are"),
    }
}

fn finding(place: &Place, message: &str, nearest: Option<&str>) -> Value {
    json!({
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "message": message,
        "nearest": nearest,
    })
}
