//! `review` of an issuer: where its cluster is asked whether a pod is still there (docs/decisions/0037).

use std::path::{Path, PathBuf};

use dayfly_domain::Span;

use super::issuer::{check_private, existing};
use super::platform::IssuerKind;
use crate::config::{Node, Report, Table, web_url};

/// How often a cluster is asked about each pod unless the issuer says otherwise.
const EVERY: Span = Span::from_seconds(30);
const LEAST_EVERY: Span = Span::from_seconds(5);
/// Well below the least life of a pod's token, ten minutes, so that each is asked about more than once.
const MOST_EVERY: Span = Span::from_seconds(240);

/// Where a cluster is asked about the tokens of its pods, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenReview {
    /// The URL of its API server.
    pub url: String,
    /// The file of the bearer token that may ask, read anew each time because the kubelet renews it.
    pub token_file: PathBuf,
    /// The file of certificates that the API server's must lead to.
    pub ca_file: Option<PathBuf>,
    /// How often it is asked about each pod that has something open.
    pub every: Span,
}

/// Reads `review = { url, token_file, ca_file, every }`.
pub(super) fn read(
    table: &mut Table<'_>,
    kind: Option<IssuerKind>,
    allow_private: bool,
    base: &Path,
    report: &mut Report,
) -> Option<TokenReview> {
    let node = table.get("review")?;
    if kind.is_some_and(|kind| kind != IssuerKind::Kubernetes) {
        let message = format!("`{}` is for issuers of kind `kubernetes`", node.name_of());
        node.error(message, report);
    }
    let mut table = node.table(report)?;
    let url = table.require("url", report);
    let url = url.and_then(|node| api_server(&node, allow_private, report));
    let token_file = table.require("token_file", report);
    let token_file = token_file.and_then(|node| existing(&node, base, report));
    let ca_file = table.get("ca_file");
    let ca_file = ca_file.and_then(|node| existing(&node, base, report));
    let every = match table.get("every") {
        Some(node) => node.span_between(LEAST_EVERY, MOST_EVERY, report),
        None => Some(EVERY),
    };
    table.finish(report);
    Some(TokenReview {
        url: url?,
        token_file: token_file?,
        ca_file,
        every: every?,
    })
}

fn api_server(node: &Node<'_>, allow_private: bool, report: &mut Report) -> Option<String> {
    let url = web_url(node, report)?;
    let text = node.text(report)?;
    if url.query().is_some() {
        let message = format!("`{text}` has a query, wanted the url of the API server");
        node.error(message, report);
    }
    check_private(node, text, allow_private, report);
    Some(text.to_owned())
}
