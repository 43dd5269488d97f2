//! The keys that say what is sent out: `heads`, and `notify` with its kinds and bounds.

use std::fmt;
use std::path::{Path, PathBuf};

use dayfly_domain::Span;
use url::Url;

use super::{Node, Report, Table, address};
use crate::sinks::KINDS;
use crate::verify::check_sink;

/// How many sinks of a sort there may be: each holds a task and a request for every tenant.
const MOST: usize = 8;
/// How many entries a sink may be behind unless its table says otherwise.
const BEHIND: u64 = 100_000;
/// How old an entry may be that is still delivered unless the sink's table says otherwise.
const KEEP: Span = Span::from_seconds(86_400);

/// A place where heads go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadSink {
    /// Appended to this file, a head a line.
    File(PathBuf),
    /// Posted to this URL, as C2SP note bytes.
    Http(SinkUrl),
}

/// Where entries of some kinds are sent, a signed request each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifySink {
    /// Where to.
    pub url: SinkUrl,
    /// The file of the secret that signs; read at a start.
    pub secret_file: PathBuf,
    /// The kinds of entries, in order and each once.
    pub on: Vec<&'static str>,
    /// How many entries of a ledger it may be behind before it is told of a gap instead.
    pub behind: u64,
    /// How old an entry may be that is still delivered.
    pub keep: Span,
}

/// The URL of a sink. Its path and query are often the secret that lets one in, so it shows as its
/// scheme, host and port.
#[derive(Clone, PartialEq, Eq)]
pub struct SinkUrl(Url);

impl SinkUrl {
    /// The whole URL, for the request alone.
    pub(crate) const fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for SinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for SinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkUrl({self}/…)")
    }
}

pub(super) fn heads(node: &Node<'_>, folder: &Path, report: &mut Report) -> Vec<HeadSink> {
    let mut sinks = Vec::new();
    for item in few(node, report) {
        let Some(text) = item.text(report) else {
            continue;
        };
        match text.strip_prefix("file:") {
            Some(path) if !path.is_empty() && !path.starts_with("//") => {
                sinks.push(HeadSink::File(folder.join(path)));
            }
            Some(_) => item.error(
                "a file sink is `file:` and a path, like `file:heads.log`",
                report,
            ),
            None => sinks.extend(url(&item, report).map(HeadSink::Http)),
        }
    }
    sinks
}

pub(super) fn notify(node: &Node<'_>, folder: &Path, report: &mut Report) -> Vec<NotifySink> {
    let mut sinks: Vec<NotifySink> = Vec::new();
    for item in few(node, report) {
        let Some(table) = item.table(report) else {
            continue;
        };
        let Some(sink) = one(table, folder, report) else {
            continue;
        };
        if sinks.iter().any(|other| other.url == sink.url) {
            let message = format!("`{}.url` is that of another sink", item.name_of());
            item.error(message, report);
        }
        sinks.push(sink);
    }
    sinks
}

fn few<'d>(node: &Node<'d>, report: &mut Report) -> Vec<Node<'d>> {
    let items = node.list(report).unwrap_or_default();
    if items.len() > MOST {
        let message = format!("`{}` names more than {MOST} sinks", node.name_of());
        node.error(message, report);
    }
    items
}

fn one(mut table: Table<'_>, folder: &Path, report: &mut Report) -> Option<NotifySink> {
    let url = table
        .require("url", report)
        .and_then(|node| url(&node, report));
    let secret_file = table
        .require("secret_file", report)
        .and_then(|node| node.path(folder, report));
    let on = table
        .require("on", report)
        .map(|node| kinds(&node, report))
        .unwrap_or_default();
    let behind = table
        .get("behind")
        .and_then(|node| node.count_between(2, 10_000_000, report))
        .map_or(BEHIND, |count| count as u64);
    let (least, most) = (Span::from_seconds(60), Span::from_seconds(3650 * 86_400));
    let keep = table
        .get("keep")
        .and_then(|node| node.span_between(least, most, report))
        .unwrap_or(KEEP);
    table.finish(report);
    Some(NotifySink {
        url: url?,
        secret_file: secret_file?,
        on,
        behind,
        keep,
    })
}

fn kinds(node: &Node<'_>, report: &mut Report) -> Vec<&'static str> {
    let known: Vec<_> = KINDS.iter().map(|kind| (*kind, *kind)).collect();
    let items = node.list(report).unwrap_or_default();
    let mut kinds: Vec<_> = items
        .iter()
        .filter_map(|item| item.choice(&known, report))
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// An https URL, or http on this machine. What is wrong with it is said without showing it.
fn url(node: &Node<'_>, report: &mut Report) -> Option<SinkUrl> {
    let text = node.text(report)?;
    let checked = address::check(text).map_err(str::to_owned);
    let checked = checked.and_then(|url| match check_sink(&url) {
        Ok(()) => Ok(url),
        Err(why) => Err(format!("may not be reached: {why}")),
    });
    match checked {
        Ok(url) => Some(SinkUrl(url)),
        Err(why) => {
            node.error(format!("`{}` {why}", node.name_of()), report);
            None
        }
    }
}
