//! The keys that say how the front door is kept: certificate, proxies, admin listener.

use std::path::{Path, PathBuf};

use super::{Network, Node, Report};

/// The files of `tls = { cert, key }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those between it and a root, in PEM, the server's own first.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

pub(super) fn tls(
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

pub(super) fn trusted_proxies(node: &Node<'_>, report: &mut Report) -> Vec<Network> {
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
