//! `match = { issuer = …, … }`: which proofs are a workload's.

use dayfly_domain::{Clause, Match, Name};
use toml::de::DeValue;

use super::advice;
use super::issuer::Issuer;
use super::workload::Against;
use crate::config::{Node, Report, Table, nearest};

/// The proofs of a workload.
pub(super) struct Proofs<'a> {
    pub(super) issuer: Name,
    /// The issuer as declared; none when its own declaration has mistakes.
    pub(super) declared: Option<&'a Issuer>,
    pub(super) matching: Match,
    /// The claim that is still to be pinned.
    pub(super) unfinished: Option<String>,
}

pub(super) fn read<'a>(
    table: &mut Table<'_>,
    against: &Against<'a>,
    report: &mut Report,
) -> Option<Proofs<'a>> {
    let unfinished = table.get("unfinished");
    let node = table.require("match", report)?;
    let mut entries = node.table(report)?;
    let issuer = entries
        .require("issuer", report)
        .and_then(|node| against.sections.issuers.reference("issuer", &node, report));
    let declared = issuer.as_ref().and_then(|name| against.issuers.get(name));
    let mut clauses = Vec::new();
    for (claim, value) in entries.others() {
        advise_spelling(claim, &value, declared, report);
        let any_of = value
            .one_or_more(report)
            .iter()
            .filter_map(|item| wanted(item, report))
            .collect();
        clauses.push(Clause {
            claim: claim.to_string(),
            any_of,
            implied: false,
        });
    }
    let matching = Match { clauses };
    let unfinished = unfinished.and_then(|node| read_unfinished(&node, &matching, report));
    if let (Some(issuer), None) = (declared, &unfinished) {
        check_narrow(&node, issuer, &matching, report);
        advice::on_match(&node, issuer, &matching, report);
    }
    Some(Proofs {
        issuer: issuer?,
        declared,
        matching: with_events(matching, declared),
        unfinished,
    })
}

/// A value as the text that it is compared as.
fn wanted(node: &Node<'_>, report: &mut Report) -> Option<String> {
    let text = match node.value() {
        DeValue::String(text) => text.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Integer(_) => node.integer(report)?.to_string(),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            node.wrong_kind(
                "a text, an integer, true or false, or a list of them",
                report,
            );
            return None;
        }
    };
    let misplaced = text
        .split('/')
        .find(|segment| segment.strip_suffix('*').unwrap_or(segment).contains('*'));
    if let Some(segment) = misplaced {
        let message = format!(
            "`{}`: `*` stands only at the end of a segment: `{segment}`",
            node.name_of()
        );
        node.error(message, report);
        return None;
    }
    Some(text)
}

fn read_unfinished(node: &Node<'_>, matching: &Match, report: &mut Report) -> Option<String> {
    let claim = node.text(report)?;
    if matching.clauses.iter().any(|clause| clause.claim == claim) {
        node.error(
            format!("`match` names `{claim}` now, remove `unfinished`"),
            report,
        );
        return None;
    }
    let message = format!(
        "the workload is unfinished: every proof is refused until `match` pins `{claim}` and `unfinished` is removed; `dayfly proof` in a job prints the claim"
    );
    report.warn(node.place(), message, None);
    Some(claim.to_string())
}

/// Refuses a match that lets in everybody.
fn check_narrow(node: &Node<'_>, issuer: &Issuer, matching: &Match, report: &mut Report) {
    if matching.clauses.is_empty() {
        let message = format!(
            "`{}` names no claim: every token of `{}` would match",
            node.name_of(),
            issuer.name
        );
        node.error(message, report);
        return;
    }
    let whose = issuer.kind.whose(&issuer.url);
    let names_someone = matching.clauses.iter().any(|clause| {
        let fixed = |value: &String| {
            value
                .split('/')
                .next()
                .is_some_and(|first| !first.contains('*'))
        };
        whose.contains(&clause.claim.as_str()) && clause.any_of.iter().all(fixed)
    });
    if !whose.is_empty() && !names_someone {
        let message = format!(
            "`{}` does not say whose: anybody's {} token could match, pin `{}`",
            node.name_of(),
            issuer.kind.word(),
            issuer.kind.immutable().first().unwrap_or(&"sub"),
        );
        node.error(message, report);
    }
}

/// Points at a claim that looks like one that the platform is known to have.
fn advise_spelling(claim: &str, node: &Node<'_>, issuer: Option<&Issuer>, report: &mut Report) {
    let Some(issuer) = issuer else {
        return;
    };
    let known = issuer.kind.claims();
    if known.is_empty() || known.contains(&claim) || claim.starts_with('/') {
        return;
    }
    if let Some(near) = nearest(claim, known.iter().copied()) {
        let message = format!(
            "a {} token is not known to carry `{claim}`, and an absent claim never matches",
            issuer.kind.word()
        );
        report.warn(node.place(), message, Some(near));
    }
}

/// Adds the platform's harmless events, unless `match` names events itself.
fn with_events(mut matching: Match, issuer: Option<&Issuer>) -> Match {
    if let Some((claim, events)) = issuer.and_then(|issuer| issuer.kind.events())
        && !matching.clauses.iter().any(|clause| clause.claim == claim)
    {
        matching.clauses.push(Clause {
            claim: claim.to_string(),
            any_of: events.iter().map(ToString::to_string).collect(),
            implied: true,
        });
    }
    matching
}
