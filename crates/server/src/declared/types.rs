//! `[type.<name>]`: the fields of a type of access beyond those that every type has.

use std::collections::BTreeMap;

use dayfly_domain::access::{FieldKind, check_text};

use super::sections::Items;
use crate::config::{Node, Report};

/// The fields that every type has.
pub(super) const COMMON_FIELDS: [&str; 4] = ["actions", "datatypes", "privileges", "identifier"];

/// What stands in a detail and is no field.
const NOT_FIELDS: [&str; 4] = ["type", "locations", "resource", "scope"];

const KINDS: [(&str, FieldKind); 5] = [
    ("set", FieldKind::Set),
    ("exact", FieldKind::Exact),
    ("max", FieldKind::Max),
    ("min", FieldKind::Min),
    ("path", FieldKind::Path),
];

pub(super) fn read_all(
    items: &Items<'_>,
    report: &mut Report,
) -> BTreeMap<String, BTreeMap<String, FieldKind>> {
    let mut types = BTreeMap::new();
    for (name, node) in items.iter() {
        if let Err(why) = check_text(name) {
            node.error(format!("the name of a type: {why}"), report);
        }
        types.insert(name.to_string(), read(node, report).unwrap_or_default());
    }
    types
}

fn read(node: &Node<'_>, report: &mut Report) -> Option<BTreeMap<String, FieldKind>> {
    let mut table = node.table(report)?;
    let listed = table
        .require("fields", report)
        .and_then(|node| node.table(report));
    table.finish(report);
    let mut fields = BTreeMap::new();
    for (field, node) in listed?.others() {
        if COMMON_FIELDS.contains(&field) || NOT_FIELDS.contains(&field) {
            node.error(
                format!("every detail has `{field}`, it is not to be declared"),
                report,
            );
            continue;
        }
        if let Err(why) = check_text(field) {
            node.error(format!("the name of a field: {why}"), report);
        }
        if let Some(kind) = node.choice(&KINDS, report) {
            fields.insert(field.to_string(), kind);
        }
    }
    Some(fields)
}
