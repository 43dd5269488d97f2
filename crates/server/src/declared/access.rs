//! `access = [{ … }]`: the ceiling of a workload.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::Match;
use dayfly_domain::access::{Detail, Field, FieldKind, Pattern, Scalar, check_text};
use toml::de::DeValue;

use super::platform::IssuerKind;
use super::types::COMMON_FIELDS;
use super::workload::Against;
use crate::config::{Node, Report};

/// What `{claim}` parts are checked against; none where they cannot be checked yet.
pub(super) type Pins<'a> = Option<(IssuerKind, &'a Match)>;

/// Reads the ceiling.
pub(super) fn read(
    node: &Node<'_>,
    pins: Pins<'_>,
    against: &Against<'_>,
    report: &mut Report,
) -> Option<Vec<Detail>> {
    let items = node.list(report)?;
    let most = against.context.bounds.details;
    if items.len() > most {
        let message = format!(
            "`{}` holds {} details, more than the {most} that a client may have: a request must name what it wants",
            node.name_of(),
            items.len()
        );
        report.warn(node.place(), message, None);
    }
    items
        .iter()
        .map(|item| detail(item, pins, against, report))
        .collect()
}

fn detail(
    node: &Node<'_>,
    pins: Pins<'_>,
    against: &Against<'_>,
    report: &mut Report,
) -> Option<Detail> {
    let mut table = node.table(report)?;
    let resource = table.require("resource", report).and_then(|node| {
        against
            .sections
            .resources
            .reference("resource", &node, report)
    });
    let kind = table
        .require("type", report)
        .and_then(|node| plain(&node, report));
    let scope = table.get("scope").and_then(|node| scope(&node, report));
    let mut fields = BTreeMap::new();
    for (name, value) in table.others() {
        let read = match &kind {
            Some(kind) => known_field(kind, name, &value, against, report),
            None => None,
        };
        let field = read.and_then(|how| field(how, &value, pins, report));
        if let Some(field) = field {
            fields.insert(name.to_string(), field);
        }
    }
    Some(Detail {
        kind: kind?,
        resource: resource?,
        fields,
        scope,
    })
}

fn known_field(
    kind: &str,
    name: &str,
    node: &Node<'_>,
    against: &Against<'_>,
    report: &mut Report,
) -> Option<FieldKind> {
    let found = against.catalog.field_kind(kind, name);
    if found.is_none() {
        if name == "locations" {
            node.error(
                "`locations` follows from `resource` and is not to be written",
                report,
            );
            return None;
        }
        let declared = against.catalog.types.get(kind);
        let known = COMMON_FIELDS
            .into_iter()
            .chain(["resource", "type", "scope"])
            .chain(
                declared
                    .into_iter()
                    .flat_map(|fields| fields.keys().map(String::as_str)),
            );
        let message =
            format!("the type `{kind}` has no field `{name}`, declare it in `[type.{kind}]`");
        node.unknown(message, name, known, report);
    }
    found
}

fn field(how: FieldKind, node: &Node<'_>, pins: Pins<'_>, report: &mut Report) -> Option<Field> {
    match how {
        FieldKind::Set => {
            let items = node.one_or_more(report);
            let values: BTreeSet<_> = items
                .iter()
                .filter_map(|item| plain(item, report))
                .collect();
            Some(Field::Set(values))
        }
        FieldKind::Exact => {
            let items = node.one_or_more(report);
            Some(Field::Exact(
                items
                    .iter()
                    .filter_map(|item| scalar(item, report))
                    .collect(),
            ))
        }
        FieldKind::Max => node.integer(report).map(Field::Max),
        FieldKind::Min => node.integer(report).map(Field::Min),
        FieldKind::Path => {
            let items = node.one_or_more(report);
            Some(Field::Path(
                items
                    .iter()
                    .filter_map(|item| path(item, pins, report))
                    .collect(),
            ))
        }
    }
}

fn scalar(node: &Node<'_>, report: &mut Report) -> Option<Scalar> {
    match node.value() {
        DeValue::String(_) => plain(node, report).map(Scalar::Text),
        DeValue::Integer(_) => node.integer(report).map(Scalar::Int),
        DeValue::Boolean(value) => Some(Scalar::Bool(*value)),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            node.wrong_kind("a text, an integer, or true or false", report);
            None
        }
    }
}

/// A text that stands for itself alone: neither `*` nor `{claim}`, which mean something in paths.
fn plain(node: &Node<'_>, report: &mut Report) -> Option<String> {
    let text = node.text(report)?;
    let wrong = if text.contains(['*', '{', '}']) {
        Err("`*` and `{claim}` stand only in a path".to_string())
    } else {
        check_text(text)
    };
    match wrong {
        Ok(()) => Some(text.to_string()),
        Err(why) => {
            node.error(format!("`{}` is `{text}`: {why}", node.name_of()), report);
            None
        }
    }
}

fn path(node: &Node<'_>, pins: Pins<'_>, report: &mut Report) -> Option<Pattern> {
    let text = node.text(report)?;
    let pattern = match Pattern::declared(text) {
        Ok(pattern) => pattern,
        Err(why) => {
            node.error(format!("`{}` is `{text}`: {why}", node.name_of()), report);
            return None;
        }
    };
    if let (Some(claim), Some((kind, matching))) = (pattern.claims().next(), pins)
        && !kind.immutable().iter().any(|id| matching.pins(id))
    {
        let message = format!(
            "`{{{claim}}}` is filled from the proof, so `match` must pin {} to exact values",
            crate::config::any_of(kind.immutable()),
        );
        node.error(message, report);
    }
    Some(pattern)
}

/// A `scope-token` (RFC 6749, section 3.3).
fn scope(node: &Node<'_>, report: &mut Report) -> Option<String> {
    let text = node.text(report)?;
    let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if !text.bytes().all(allowed) {
        let message = format!(
            "`{}` is `{text}`: a scope holds only visible ascii without space, `\"` and `\\`",
            node.name_of()
        );
        node.error(message, report);
        return None;
    }
    Some(text.to_string())
}
