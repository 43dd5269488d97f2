//! `delegation` of a workload: what its clients may hand over, and to whom.

use dayfly_domain::{Actor, Delegation, Name};

use super::workload::Against;
use crate::config::{Node, Report};

/// What stands for the workload itself in `to`.
const SELF: &str = "self";

pub(super) fn read(
    own: &Name,
    node: &Node<'_>,
    against: &Against<'_>,
    report: &mut Report,
) -> Option<Delegation> {
    let bounds = against.context.bounds;
    let mut table = node.table(report)?;
    let depth = table
        .require("depth", report)
        .and_then(|node| node.count_between(1, bounds.depth, report));
    // One place is the root client's.
    let most = bounds.clients.saturating_sub(1).max(1);
    let clients = table
        .require("clients", report)
        .and_then(|node| node.count_between(1, most, report));
    let to = table
        .require("to", report)
        .and_then(|node| children(own, &node, against, report));
    let words = [("optional", Actor::Optional), ("required", Actor::Required)];
    let actor = table
        .get("actor")
        .and_then(|node| node.choice(&words, report));
    table.finish(report);
    Some(Delegation {
        depth: u32::try_from(depth?).ok()?,
        clients: u32::try_from(clients?).ok()?,
        to: to?,
        actor: actor.unwrap_or_default(),
    })
}

fn children(
    own: &Name,
    node: &Node<'_>,
    against: &Against<'_>,
    report: &mut Report,
) -> Option<Vec<Name>> {
    let mut to: Vec<Name> = Vec::new();
    for item in node.list(report)? {
        let text = item.text(report)?;
        let name = if text == SELF {
            own.clone()
        } else {
            let workloads = &against.sections.workloads;
            workloads.reference("workload", &item, report)?
        };
        if to.contains(&name) {
            item.error(format!("`{}` names `{text}` twice", node.name_of()), report);
            return None;
        }
        to.push(name);
    }
    Some(to)
}
