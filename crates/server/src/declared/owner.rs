//! `[owner.<name>]`: who answers for workloads.

use dayfly_domain::Name;

use crate::config::{Node, Report, Who};

/// The person or team who answers for workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The name of its table.
    pub name: Name,
    /// Its name for people.
    pub full_name: String,
    /// How to reach it.
    pub contact: String,
    /// Who may end, trace and read why for its workloads, as the provider of `[operators]` knows
    /// them.
    pub members: Vec<Who>,
}

pub(super) fn read(name: &Name, node: &Node<'_>, report: &mut Report) -> Option<Owner> {
    let mut table = node.table(report)?;
    let full_name = table
        .require("name", report)
        .and_then(|node| node.text(report));
    let contact = table
        .require("contact", report)
        .and_then(|node| node.text(report));
    let mut members = Vec::new();
    let listed = table.get("members").and_then(|node| node.list(report));
    for item in listed.iter().flatten() {
        members.extend(Who::read(item, report));
    }
    if listed.is_none() {
        let message = format!(
            "the owner `{name}` has no `members`: nobody but an operator can end its tasks or read why it was refused"
        );
        report.warn(node.place(), message, None);
    }
    table.finish(report);
    Some(Owner {
        name: name.clone(),
        full_name: full_name?.to_string(),
        contact: contact?.to_string(),
        members,
    })
}
