//! The keys that say how the front door is kept: certificate, proxies, admin listener and who comes to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{
    AddressRates, Connections, Network, Node, Operators, Report, Table, address, connections,
    operators, rate,
};

/// The files of `tls = { cert, key }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those between it and a root, in PEM, the server's own first.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// What those keys say together.
pub(super) struct Front {
    pub(super) connections: Connections,
    pub(super) tls: Option<TlsFiles>,
    pub(super) trusted_proxies: Vec<Network>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) admin_url: Option<String>,
    pub(super) rate: AddressRates,
    pub(super) operators: Option<Operators>,
}

pub(super) fn read(
    table: &mut Table<'_>,
    public_url: Option<&str>,
    folder: &Path,
    report: &mut Report,
) -> Front {
    let connections = table
        .get("connections")
        .and_then(|node| node.table(report))
        .map_or_else(Connections::default, |table| {
            connections::read(table, report)
        });
    let rate = table
        .get("rate")
        .and_then(|node| node.table(report))
        .map_or_else(AddressRates::default, |table| rate::read(table, report));
    let mut front = Front {
        connections,
        tls: table
            .get("tls")
            .and_then(|node| tls(&node, public_url, folder, report)),
        trusted_proxies: table
            .get("trusted_proxies")
            .map(|node| trusted_proxies(&node, report))
            .unwrap_or_default(),
        admin: table.get("admin").and_then(|node| socket(&node, report)),
        admin_url: None,
        rate,
        operators: None,
    };
    front.operators = table
        .get("operators")
        .and_then(|node| operators::read(&node, &front, report));
    front.admin_url = table
        .get("admin_url")
        .and_then(|node| admin_url(&node, &front, report));
    front
}

/// Where people operate the server. It is shown to whoever waits for one of them, so it is never made
/// up from an address that something listens at.
fn admin_url(node: &Node<'_>, front: &Front, report: &mut Report) -> Option<String> {
    let url = address::public_url(node, report)?;
    if front.operators.is_none() {
        let message = "`admin_url` is of no use without `[operators]`: nobody could come there";
        node.error(message, report);
        return None;
    }
    Some(url)
}

/// An address and a port.
pub(super) fn socket(node: &Node<'_>, report: &mut Report) -> Option<SocketAddr> {
    let text = node.text(report)?;
    let address = text.parse().ok();
    if address.is_none() {
        let message = format!(
            "`{}` is `{text}`, wanted an address and a port like `127.0.0.1:8440`",
            node.name_of()
        );
        node.error(message, report);
    }
    address
}

fn tls(
    node: &Node<'_>,
    public_url: Option<&str>,
    folder: &Path,
    report: &mut Report,
) -> Option<TlsFiles> {
    let mut table = node.table(report)?;
    let cert = table.require("cert", report);
    let key = table.require("key", report);
    table.finish(report);
    let cert = cert.and_then(|node| node.path(folder, report));
    let key = key.and_then(|node| node.path(folder, report));
    if public_url.is_some_and(|url| url.starts_with("http:")) {
        let message =
            "`tls` is served and `public_url` is http: clients would not find it, wanted https";
        node.error(message, report);
    }
    Some(TlsFiles {
        cert: cert?,
        key: key?,
    })
}

fn trusted_proxies(node: &Node<'_>, report: &mut Report) -> Vec<Network> {
    let mut networks = Vec::new();
    for item in node.list(report).unwrap_or_default() {
        let Some(text) = item.text(report) else {
            continue;
        };
        match text.parse() {
            Ok(network) => networks.push(network),
            Err(why) => item.error(format!("`{text}` {why}"), report),
        }
    }
    networks
}
