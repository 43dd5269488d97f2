//! `task = …`: how a proof names the run that it belongs to.

use dayfly_domain::KeyRule;

use super::platform::IssuerKind;
use crate::config::{Node, Report, Table, any_of};
use crate::verify::PERSON;

/// Reads `task` for an issuer of this kind, or its default.
pub(super) fn read(
    table: &mut Table<'_>,
    kind: IssuerKind,
    report: &mut Report,
) -> Option<KeyRule> {
    match (kind.tasks(), table.get("task")) {
        ([], None) => {
            table.error("`task` is missing: an oidc issuer needs `task = { key = [\"…\"], attempt = \"…\" }`", report);
            None
        }
        ([], Some(node)) => declared(&node, report),
        ([first, ..], None) => kind.key_rule(first),
        (words, Some(node)) => word(&node, kind, words, report),
    }
}

/// The key of a task of a person (docs/decisions/0032): one task for one authentication, and a
/// series that is the person. It cannot be declared, because any claim may name a person.
pub(super) fn of_person(table: &mut Table<'_>, report: &mut Report) -> Option<KeyRule> {
    if let Some(node) = table.get("task") {
        let message =
            "`task` cannot be declared for people: the person and `auth_time` make the key";
        node.error(message, report);
        return None;
    }
    Some(KeyRule {
        key: vec![PERSON.to_owned(), "auth_time".to_owned()],
        series: vec![PERSON.to_owned()],
        attempt: None,
        hint: "a person's token says who authenticated and when".to_owned(),
    })
}

fn word(
    node: &Node<'_>,
    kind: IssuerKind,
    words: &[&'static str],
    report: &mut Report,
) -> Option<KeyRule> {
    if node.value().is_table() {
        let message = format!(
            "`{}` is a table, wanted {} for a {} issuer",
            node.name_of(),
            any_of(words),
            kind.word()
        );
        node.error(message, report);
        return None;
    }
    let text = node.text(report)?;
    let rule = kind.key_rule(text);
    if rule.is_none() {
        let message = format!(
            "`{}` is `{text}`, wanted {} for a {} issuer",
            node.name_of(),
            any_of(words),
            kind.word()
        );
        node.unknown(message, text, words.iter().copied(), report);
    }
    rule
}

fn declared(node: &Node<'_>, report: &mut Report) -> Option<KeyRule> {
    let mut table = node.table(report)?;
    let items = table
        .require("key", report)
        .and_then(|node| node.list(report));
    let attempt = table.get("attempt");
    let mut key: Vec<String> = Vec::new();
    for item in items.iter().flatten() {
        let Some(claim) = item.text(report) else {
            continue;
        };
        if key.iter().any(|known| known == claim) {
            item.error(format!("`{claim}` stands twice in the key"), report);
        }
        key.push(claim.to_string());
    }
    let attempt = attempt.and_then(|node| {
        let claim = node.text(report)?;
        if key.iter().any(|known| known == claim) {
            node.error(
                format!("`{claim}` counts attempts and cannot be part of the key"),
                report,
            );
        }
        Some(claim.to_string())
    });
    table.finish(report);
    Some(KeyRule {
        series: key.clone(),
        key,
        attempt,
        hint: "the workload's `task` names this claim".to_string(),
    })
}
