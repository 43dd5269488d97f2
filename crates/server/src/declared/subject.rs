//! `subject` of a workload: whom its tasks act for, and for how long.

use dayfly_domain::{ActsFor, Kind, Name, Needed, Span};

use super::workload::Against;
use crate::config::{Node, Report, Table};

/// Longest session: no window is longer than a day, and nobody acts for a person who was last there
/// the day before.
const MOST_SESSION: Span = Span::from_seconds(24 * 3600);
const LEAST_SESSION: Span = Span::from_seconds(60);

/// `"none"`, or whose people, whether there must be one, and until how long after they authenticated.
pub(super) fn read(
    table: &mut Table<'_>,
    kind: Option<Kind>,
    against: &Against<'_>,
    report: &mut Report,
) -> Option<ActsFor> {
    let node = table.get("subject")?;
    if !node.value().is_table() {
        let _ = node.choice(&[("none", ())], report);
        return None;
    }
    if kind == Some(Kind::Operator) {
        let message = format!(
            "`{}` is for workloads that act for people; those of kind `operator` are people",
            node.name_of()
        );
        node.error(message, report);
    }
    let mut table = node.table(report)?;
    let from = table.require("from", report).map(|node| {
        let items = node.one_or_more(report);
        let names = items
            .iter()
            .filter_map(|item| issuer(item, against, report));
        names.collect::<Vec<Name>>()
    });
    let person = table.get("person").and_then(|node| {
        let words = [
            ("optional", Needed::Optional),
            ("required", Needed::Required),
        ];
        node.choice(&words, report)
    });
    let session = table
        .get("session")
        .and_then(|node| node.span_between(LEAST_SESSION, MOST_SESSION, report));
    table.finish(report);
    Some(ActsFor {
        from: from.filter(|from| !from.is_empty())?,
        person: person.unwrap_or_default(),
        session,
    })
}

/// A declared issuer, which must vouch for people.
fn issuer(node: &Node<'_>, against: &Against<'_>, report: &mut Report) -> Option<Name> {
    let name = against.sections.issuers.reference("issuer", node, report)?;
    // One that does not load has an error of its own.
    if let Some(issuer) = against.issuers.get(&name)
        && issuer.people.is_none()
    {
        let message = format!("the issuer `{name}` does not say `people = true`");
        node.error(message, report);
    }
    Some(name)
}
