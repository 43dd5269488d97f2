//! `[signals.<name>]`: a transmitter of Shared Signals, whose word ends what its people authenticated for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dayfly_domain::{Name, Needed, Span};
use dayfly_token::alg::Alg;

use super::TenantContext;
use super::issuer::{Issuer, JwksSource, algs, audience, check_private, existing, jwks};
use super::platform::IssuerKind;
use super::sections::{Items, Sections};
use crate::config::{Node, Place, Report, Secret, Table, is_world_readable, web_url};

/// A transmitter of security event tokens (RFC 8417) about people.
#[derive(Clone, Debug)]
pub struct Transmitter {
    /// The name of its table.
    pub name: Name,
    /// Where its table stands.
    pub place: Place,
    /// Its `iss`, compared as bytes.
    pub issuer: String,
    /// The accepted audiences, any one of which must be the event's only one.
    pub audience: Vec<String>,
    /// Where its keys come from.
    pub jwks: JwksSource,
    /// The accepted algorithms.
    pub algs: Vec<Alg>,
    /// Whether it may be reached at loopback and private addresses.
    pub allow_private: bool,
    /// The `iss` of those whose people it speaks of.
    pub speaks_of: Vec<String>,
    /// How its events come.
    pub delivery: Delivery,
}

/// How events come.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The transmitter sends them, and proves itself by one of these bearer tokens (RFC 8935).
    Push(Vec<Secret>),
    /// They are fetched (RFC 8936).
    Poll(Poll),
}

/// Where events are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// The transmitter's endpoint.
    pub url: String,
    /// A file whose text is sent as bearer token, read at each request.
    pub token_file: PathBuf,
    /// A file of certificates that the transmitter's must lead to.
    pub ca_file: Option<PathBuf>,
    /// How often it is asked while it has nothing.
    pub every: Span,
}

/// How many secrets hold side by side: one is replaced by another, and nobody needs a third for long.
const MOST: usize = 4;
/// Fewest bytes of a secret that a transmitter proves itself by.
const LEAST_BYTES: usize = 16;
const EVERY: Span = Span::from_seconds(15);
const LEAST_EVERY: Span = Span::from_seconds(1);
const MOST_EVERY: Span = Span::from_seconds(3600);

impl Transmitter {
    /// What verifies its events: its keys are an issuer's like any other.
    pub(crate) fn as_issuer(&self) -> Issuer {
        Issuer {
            place: self.place.clone(),
            name: self.name.clone(),
            kind: IssuerKind::Oidc,
            url: self.issuer.clone(),
            audience: Some(self.audience.clone()),
            jwks: self.jwks.clone(),
            algs: self.algs.clone(),
            allow_private: self.allow_private,
            keep: Span::ZERO,
            rate: None,
            people: None,
            auth_time: Needed::Required,
            review: None,
            webhooks: Vec::new(),
        }
    }
}

/// What a transmitter is read against.
pub(super) struct Against<'a> {
    pub(super) issuers: &'a BTreeMap<Name, Issuer>,
    pub(super) base: &'a Path,
    pub(super) context: &'a TenantContext,
}

pub(super) fn read_all(
    sections: &Sections<'_>,
    against: &Against<'_>,
    report: &mut Report,
) -> BTreeMap<Name, Transmitter> {
    sections.signals.read(report, |name, node, report| {
        read(name, node, &sections.issuers, against, report)
    })
}

fn read(
    name: &Name,
    node: &Node<'_>,
    issuers: &Items<'_>,
    against: &Against<'_>,
    report: &mut Report,
) -> Option<Transmitter> {
    let mut table = node.table(report)?;
    let allow_private = table
        .get("allow_private")
        .and_then(|node| node.boolean(report))
        .unwrap_or(false);
    let issuer = table.require("issuer", report).and_then(|node| {
        let _ = web_url(&node, report)?;
        let text = node.text(report)?;
        check_private(&node, text, allow_private, report);
        Some(text.to_owned())
    });
    let own = &against.context.issuer;
    let audience = match table.get("audience") {
        Some(node) => audience(&node, report),
        None => vec![own.clone(), format!("{own}/signals/{name}")],
    };
    let algs = algs(&mut table, report);
    let jwks = match table.get("jwks") {
        None => Some(JwksSource::Transmitter),
        Some(node) => jwks(&node, &algs, against.base, report).inspect(|jwks| {
            if let JwksSource::Url { url, .. } = jwks {
                check_private(&node, url, allow_private, report);
            }
        }),
    };
    let speaks_of = speaks_of(&mut table, issuers, against, report);
    let delivery = delivery(&mut table, against.base, allow_private, report);
    table.finish(report);
    Some(Transmitter {
        name: name.clone(),
        place: node.place(),
        issuer: issuer?,
        audience,
        jwks: jwks?,
        algs,
        allow_private,
        speaks_of,
        delivery: delivery?,
    })
}

/// `people` and `operators`: of whose people its word counts. It counts of nobody else's.
fn speaks_of(
    table: &mut Table<'_>,
    issuers: &Items<'_>,
    against: &Against<'_>,
    report: &mut Report,
) -> Vec<String> {
    let mut urls = Vec::new();
    let (people, operators) = (table.get("people"), table.get("operators"));
    if people.is_none() && operators.is_none() {
        table.error(
            "it says of whom it speaks: `people` names issuers with `people = true`, `operators` the provider of `[operators]`",
            report,
        );
    }
    let listed = people.map(|node| node.one_or_more(report));
    for item in listed.into_iter().flatten() {
        let Some(name) = issuers.reference("issuer", &item, report) else {
            continue;
        };
        // One that cannot be read has told of its own mistake.
        let Some(issuer) = against.issuers.get(&name) else {
            continue;
        };
        if issuer.people.is_none() {
            let message = format!("the issuer `{name}` vouches for no people: `people = true`");
            item.error(message, report);
        }
        urls.push(issuer.url.clone());
    }
    if let Some(node) = operators
        && let Some(named) = node.text(report)
    {
        // It is named, so that whoever changes the provider looks at who speaks of its people.
        match &against.context.operators {
            Some(url) if url == named => urls.push(url.clone()),
            Some(url) => {
                let message = format!("the issuer of `[operators]` is `{url}`, not `{named}`");
                node.error(message, report);
            }
            None => node.error("the server has no `[operators]`", report),
        }
    }
    urls
}

fn delivery(
    table: &mut Table<'_>,
    base: &Path,
    allow_private: bool,
    report: &mut Report,
) -> Option<Delivery> {
    match (table.get("push"), table.get("poll")) {
        (Some(node), None) => push(&node, base, report).map(Delivery::Push),
        (None, Some(node)) => poll(&node, base, allow_private, report).map(Delivery::Poll),
        (Some(_), Some(_)) | (None, None) => {
            table.error(
                "it holds either `push = { secret_file }` or `poll = { url, token_file }`",
                report,
            );
            None
        }
    }
}

/// The secrets, one file or a list of them: each that is named must be there.
fn push(node: &Node<'_>, base: &Path, report: &mut Report) -> Option<Vec<Secret>> {
    let mut table = node.table(report)?;
    let files = table.require("secret_file", report);
    table.finish(report);
    let files = files?;
    let items = files.one_or_more(report);
    if items.len() > MOST {
        let message = format!("`{}` names more than {MOST} files", files.name_of());
        files.error(message, report);
        return None;
    }
    let secrets: Vec<Secret> = items
        .iter()
        .filter_map(|item| bearer(item, base, report))
        .collect();
    (!secrets.is_empty() && secrets.len() == items.len()).then_some(secrets)
}

fn bearer(file: &Node<'_>, base: &Path, report: &mut Report) -> Option<Secret> {
    let path = file.path(base, report)?;
    let shown = path.display();
    let secret = match Secret::read(&path) {
        Ok(secret) => secret,
        Err(why) => {
            file.error(format!("the secret file `{shown}` {why}"), report);
            return None;
        }
    };
    let length = secret.expose().len();
    if length < LEAST_BYTES || !secret.expose().iter().all(u8::is_ascii_graphic) {
        let message = format!(
            "the secret file `{shown}` holds no bearer token, wanted {LEAST_BYTES} or more characters that a header can hold"
        );
        file.error(message, report);
        return None;
    }
    if is_world_readable(&path) {
        let message = format!("everyone on this machine can read `{shown}`");
        report.warn(file.place(), message, None);
    }
    Some(secret)
}

fn poll(node: &Node<'_>, base: &Path, allow_private: bool, report: &mut Report) -> Option<Poll> {
    let mut table = node.table(report)?;
    let url = table.require("url", report).and_then(|node| {
        let _ = web_url(&node, report)?;
        let text = node.text(report)?;
        check_private(&node, text, allow_private, report);
        Some(text.to_owned())
    });
    let token_file = table.require("token_file", report);
    let token_file = token_file.and_then(|node| existing(&node, base, report));
    let ca_file = table.get("ca_file");
    let ca_file = ca_file.and_then(|node| existing(&node, base, report));
    let every = match table.get("every") {
        Some(node) => node.span_between(LEAST_EVERY, MOST_EVERY, report),
        None => Some(EVERY),
    };
    table.finish(report);
    Some(Poll {
        url: url?,
        token_file: token_file?,
        ca_file,
        every: every?,
    })
}
