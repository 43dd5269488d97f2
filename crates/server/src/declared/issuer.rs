//! `[issuer.<name>]`: whose tokens count as proof, and where its keys come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dayfly_domain::{Name, Needed, Span};
use dayfly_token::alg::Alg;
use dayfly_token::jwks::KeySet;

use super::TenantContext;
use super::platform::{GITHUB_URL, GITLAB_URL, IssuerKind, NOT_SERVED, SERVED};
use super::review::{self, TokenReview};
use super::sections::Items;
use super::webhook::{self, WebhookSecret};
use crate::config::{Node, Place, Rate, Report, Table, is_world_readable, rate, web_url};

/// An outside authority whose tokens count as proof.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The name of its table.
    pub name: Name,
    /// Where its table stands.
    pub place: Place,
    /// What it is.
    pub kind: IssuerKind,
    /// Its `iss`, compared as bytes.
    pub url: String,
    /// The accepted audiences, any one of which must be the token's only one. None: the defaults of
    /// the place where the token came in.
    pub audience: Option<Vec<String>>,
    /// Where its keys come from.
    pub jwks: JwksSource,
    /// The accepted algorithms.
    pub algs: Vec<Alg>,
    /// Whether its keys may be fetched from, and its cluster asked at, loopback and private addresses.
    pub allow_private: bool,
    /// How long the claim of a task key is kept after the last proof of it.
    pub keep: Span,
    /// How often its proofs may ask for credentials.
    pub rate: Option<Rate>,
    /// How long ago the people whom it vouches for may have authenticated; none where it vouches
    /// for none.
    pub people: Option<Span>,
    /// Whether the token of a person who is acted for must say when the person authenticated.
    pub auth_time: Needed,
    /// What its webhooks are proven by; without any it has none.
    pub webhooks: Vec<WebhookSecret>,
    /// Where its cluster is asked about the tokens of pods; none where nobody asks.
    pub review: Option<TokenReview>,
}

/// Where keys come from.
#[derive(Clone, Debug)]
pub enum JwksSource {
    /// From the `jwks_uri` of the issuer's metadata.
    Discovery,
    /// From the `jwks_uri` of the transmitter's metadata.
    Transmitter,
    /// From a file.
    File {
        /// The file.
        path: PathBuf,
        /// The keys that stood in it when it was read at load.
        keys: KeySet,
    },
    /// From a URL.
    Url {
        /// The URL.
        url: String,
        /// A file whose text is sent as bearer token, read at each fetch.
        token_file: Option<PathBuf>,
        /// A file of certificates that the server's certificate must lead to.
        ca_file: Option<PathBuf>,
    },
}

pub(super) fn read_all(
    items: &Items<'_>,
    base: &Path,
    context: &TenantContext,
    report: &mut Report,
) -> BTreeMap<Name, Issuer> {
    let issuers = items.read(report, |name, node, report| read(name, node, base, report));
    let mut by_url: BTreeMap<&str, &Name> = BTreeMap::new();
    for (name, node) in items.iter() {
        let Some(issuer) = issuers.values().find(|issuer| issuer.name.as_str() == name) else {
            continue;
        };
        if issuer.url == context.issuer {
            node.error(
                format!("the url of the issuer `{name}` is that of this tenant itself"),
                report,
            );
        }
        if let Some(first) = by_url.insert(&issuer.url, &issuer.name) {
            let message = format!(
                "the issuers `{first}` and `{name}` have one url, `{}`",
                issuer.url
            );
            node.error(message, report);
        }
    }
    issuers
}

fn read(name: &Name, node: &Node<'_>, base: &Path, report: &mut Report) -> Option<Issuer> {
    let mut table = node.table(report)?;
    let kind = kind(name, &mut table, report);
    let allow_private = table
        .get("allow_private")
        .and_then(|node| node.boolean(report))
        .unwrap_or(false);
    let url = url(name, kind, &mut table, allow_private, report);
    let audience = table.get("audience").map(|node| audience(&node, report));
    let algs = algs(&mut table, report);
    let jwks = match table.get("jwks") {
        None => Some(JwksSource::Discovery),
        Some(node) => jwks(&node, &algs, base, report).inspect(|jwks| {
            if let JwksSource::Url { url, .. } = jwks {
                check_private(&node, url, allow_private, report);
            }
        }),
    };
    let keep = table.get("keep").and_then(|node| keep(&node, kind, report));
    let asks = rate(table.get("rate"), report);
    let people = people(&mut table, kind, audience.is_some(), report);
    let auth_time = auth_time(&mut table, people.is_some(), report);
    let webhooks = webhook::read(&mut table, kind, people.is_some(), base, report);
    let review = review::read(&mut table, kind, allow_private, base, report);
    table.finish(report);
    let kind = kind?;
    Some(Issuer {
        name: name.clone(),
        place: node.place(),
        kind,
        url: url?,
        audience,
        jwks: jwks?,
        algs,
        allow_private,
        keep: keep.unwrap_or_else(|| kind.keep()),
        rate: asks,
        people,
        auth_time,
        webhooks,
        review,
    })
}

/// `people` and `auth_age`: whether the tokens are of people, and how fresh they must be.
fn people(
    table: &mut Table<'_>,
    kind: Option<IssuerKind>,
    has_audience: bool,
    report: &mut Report,
) -> Option<Span> {
    let node = table.get("people");
    let people = node.as_ref().and_then(|node| node.boolean(report)) == Some(true);
    let auth_age = table.get("auth_age");
    if let (Some(node), false) = (&auth_age, people) {
        node.error("`auth_age` stands only beside `people = true`", report);
    }
    let node = node.filter(|_| people)?;
    if kind.is_some_and(|kind| kind != IssuerKind::Oidc) {
        let message = format!("`{}` is for issuers of kind `oidc`", node.name_of());
        node.error(message, report);
    }
    if !has_audience {
        node.error(
            "people's tokens are made for a client: `audience` must name it",
            report,
        );
    }
    match auth_age {
        Some(node) => node.span_between(LEAST_AUTH_AGE, MOST_AUTH_AGE, report),
        None => Some(AUTH_AGE),
    }
}

/// `auth_time`: whether people are acted for without it. A token that does not say when its person
/// authenticated says it by when it was made, which each refresh moves on: so that is asked for.
fn auth_time(table: &mut Table<'_>, people: bool, report: &mut Report) -> Needed {
    let Some(node) = table.get("auth_time") else {
        return Needed::Required;
    };
    if !people {
        node.error("`auth_time` stands only beside `people = true`", report);
    }
    let words = [
        ("required", Needed::Required),
        ("optional", Needed::Optional),
    ];
    node.choice(&words, report).unwrap_or(Needed::Required)
}

/// How long ago a person may have authenticated unless the issuer says otherwise.
const AUTH_AGE: Span = Span::from_seconds(3600);
const LEAST_AUTH_AGE: Span = Span::from_seconds(60);
/// Shorter than the keys of tasks are kept, so that no authentication outlives the memory of its
/// task.
const MOST_AUTH_AGE: Span = Span::from_seconds(24 * 3600);

fn kind(name: &Name, table: &mut Table<'_>, report: &mut Report) -> Option<IssuerKind> {
    let known = |word: &str| {
        SERVED
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, kind)| *kind)
    };
    match table.get("kind") {
        Some(node) => {
            let text = node.text(report)?;
            if NOT_SERVED.contains(&text) {
                node.error(
                    format!("issuers of kind `{text}` are not served by this build"),
                    report,
                );
                return None;
            }
            node.choice(&SERVED, report)
        }
        // The word `oidc` says nothing about an issuer that is merely named so.
        None => known(name.as_str())
            .filter(|kind| *kind != IssuerKind::Oidc)
            .or_else(|| {
                let _ = table.require("kind", report);
                None
            }),
    }
}

fn url(
    name: &Name,
    kind: Option<IssuerKind>,
    table: &mut Table<'_>,
    allow_private: bool,
    report: &mut Report,
) -> Option<String> {
    let Some(node) = table.get("url") else {
        return match kind {
            None => None,
            Some(IssuerKind::Github) => Some(GITHUB_URL.to_string()),
            Some(IssuerKind::Gitlab) if name.as_str() == "gitlab" => Some(GITLAB_URL.to_string()),
            Some(IssuerKind::Gitlab | IssuerKind::Kubernetes | IssuerKind::Oidc) => {
                let _ = table.require("url", report);
                None
            }
        };
    };
    let url = web_url(&node, report)?;
    let text = node.text(report)?;
    if url.query().is_some() {
        node.error(
            format!("`{text}` has a query, which an issuer cannot have"),
            report,
        );
    }
    check_private(&node, text, allow_private, report);
    Some(text.to_string())
}

pub(super) fn check_private(node: &Node<'_>, url: &str, allow_private: bool, report: &mut Report) {
    if url.starts_with("http:") && !allow_private {
        node.error(
            format!("`{url}` is http, wanted https, or `allow_private = true`"),
            report,
        );
    }
}

pub(super) fn audience(node: &Node<'_>, report: &mut Report) -> Vec<String> {
    let items = node.one_or_more(report);
    items
        .iter()
        .filter_map(|item| item.text(report))
        .map(ToString::to_string)
        .collect()
}

pub(super) fn algs(table: &mut Table<'_>, report: &mut Report) -> Vec<Alg> {
    let Some(items) = table.get("algs").and_then(|node| node.list(report)) else {
        return Alg::DEFAULT.to_vec();
    };
    let words: Vec<_> = Alg::ALL.iter().map(|alg| (alg.as_str(), *alg)).collect();
    items
        .iter()
        .filter_map(|item| item.choice(&words, report))
        .collect()
}

fn keep(node: &Node<'_>, kind: Option<IssuerKind>, report: &mut Report) -> Option<Span> {
    let keep = node.span_between(LEAST_KEEP, MOST_KEEP, report)?;
    if let Some(kind) = kind.filter(|kind| keep < kind.keep()) {
        let message = format!(
            "`{}` is {keep}, shorter than the {} for which a {} issuer can prove a run again: a run may then open a second task",
            node.name_of(),
            kind.keep(),
            kind.word(),
        );
        report.warn(node.place(), message, None);
    }
    Some(keep)
}

/// No shorter than the longest age of a proof and the longest window, so that a spent proof is
/// never forgotten while it could still be shown.
const LEAST_KEEP: Span = Span::from_seconds(25 * 3600);
const MOST_KEEP: Span = Span::from_seconds(400 * 86_400);

/// Reads `jwks = { file }` or `{ url, token_file, ca_file }`.
pub(super) fn jwks(
    node: &Node<'_>,
    algs: &[Alg],
    base: &Path,
    report: &mut Report,
) -> Option<JwksSource> {
    let mut table = node.table(report)?;
    let file = table.get("file");
    let url = table.get("url");
    let mut beside = |key| {
        let node = table.get(key)?;
        if url.is_none() {
            node.error(format!("`{key}` stands only beside `url`"), report);
        }
        existing(&node, base, report)
    };
    let (token_file, ca_file) = (beside("token_file"), beside("ca_file"));
    let jwks = match (file, url) {
        (Some(file), None) => key_file(&file, algs, base, report),
        (None, Some(url)) => web_url(&url, report)
            .and_then(|_| url.text(report))
            .map(|url| JwksSource::Url {
                url: url.to_string(),
                token_file,
                ca_file,
            }),
        (Some(_), Some(_)) | (None, None) => {
            table.error(
                format!("`{}` must hold either `file` or `url`", node.name_of()),
                report,
            );
            None
        }
    };
    table.finish(report);
    jwks
}

fn key_file(node: &Node<'_>, algs: &[Alg], base: &Path, report: &mut Report) -> Option<JwksSource> {
    let path = node.path(base, report)?;
    let shown = path.display();
    let keys = match std::fs::read(&path) {
        Ok(text) => KeySet::parse(&text, algs).map_err(|why| why.to_string()),
        Err(why) => Err(format!("cannot be read: {why}")),
    };
    match keys {
        Ok(keys) if keys.is_empty() => {
            let reasons = keys
                .skipped()
                .first()
                .map(|skipped| format!(": {}", skipped.reason));
            let message = format!(
                "the key file `{shown}` holds no usable key{}",
                reasons.unwrap_or_default()
            );
            node.error(message, report);
        }
        Ok(keys) => return Some(JwksSource::File { path, keys }),
        Err(why) => node.error(
            format!("the key file `{shown}` cannot be used: {why}"),
            report,
        ),
    }
    None
}

pub(super) fn existing(node: &Node<'_>, base: &Path, report: &mut Report) -> Option<PathBuf> {
    let path = node.path(base, report)?;
    if !path.is_file() {
        node.error(format!("there is no file `{}`", path.display()), report);
        return None;
    }
    if node.name_of().ends_with("token_file") && is_world_readable(&path) {
        report.warn(
            node.place(),
            format!("everyone on this machine can read `{}`", path.display()),
            None,
        );
    }
    Some(path)
}
