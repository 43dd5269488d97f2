//! `[workload.<name>]`: what may run, with every default filled in.

use std::collections::BTreeMap;

use dayfly_domain::access::Catalog;
use dayfly_domain::{
    Approval, Binding, Heartbeat, HeartbeatMode, KeyRule, Kind, Limits, Name, Reopen, Repeat, Span,
    Workload,
};

use super::issuer::Issuer;
use super::platform::IssuerKind;
use super::sections::Sections;
use super::{DeclaredWorkload, TenantContext, access, advice, delegation, matching, subject, task};
use crate::config::{Node, Report, Table, rate};

/// What a workload refers to.
pub(super) struct Against<'a> {
    pub(super) sections: &'a Sections<'a>,
    pub(super) issuers: &'a BTreeMap<Name, Issuer>,
    pub(super) catalog: &'a Catalog,
    pub(super) context: &'a TenantContext,
}

/// The lengths of time of a workload.
struct Times {
    window: Span,
    linger: Span,
    ttl: Span,
    heartbeat: Heartbeat,
}

pub(super) fn read(
    name: &Name,
    node: &Node<'_>,
    against: &Against<'_>,
    report: &mut Report,
) -> Option<DeclaredWorkload> {
    let mut table = node.table(report)?;
    let owner = table
        .require("owner", report)
        .and_then(|node| against.sections.owners.reference("owner", &node, report));
    let kind = table
        .require("kind", report)
        .and_then(|node| kind(&node, report));
    let purpose = table
        .require("purpose", report)
        .and_then(|node| node.text(report));
    let proofs = matching::read(&mut table, against, report);
    let platform = proofs
        .as_ref()
        .and_then(|proofs| proofs.declared)
        .map(|issuer| issuer.kind);
    check_people(node, kind, proofs.as_ref(), report);
    let key = key(&mut table, kind, platform, report);
    let repeat = table.get("repeat");
    let repeat = repeat.and_then(|node| node.choice(&REPEATS, report));
    let (times, binding) = times(&mut table, against.context.bounds.window_max, report);
    let pins = proofs.as_ref().filter(|proofs| proofs.unfinished.is_none());
    let pins = pins.and_then(|proofs| Some((platform?, &proofs.matching)));
    let access = table
        .require("access", report)
        .and_then(|node| access::read(&node, pins, against, report));
    let reopen = table.get("reopen").and_then(|node| node.boolean(report));
    let limits = table
        .get("limits")
        .and_then(|node| limits(&node, report))
        .unwrap_or_default();
    let asks = rate(table.get("rate"), report);
    let client_rate = rate(table.get("client_rate"), report);
    let approval = approval(&mut table, repeat, report);
    let delegation = table.get("delegation");
    let delegation = delegation.and_then(|node| delegation::read(name, &node, against, report));
    let acts_for = subject::read(&mut table, kind, against, report);
    table.finish(report);
    let proofs = proofs?;
    let workload = Workload {
        name: name.clone(),
        owner: owner?,
        issuer: proofs.issuer,
        kind: kind?,
        purpose: purpose?.to_string(),
        matching: proofs.matching,
        key: key?,
        repeat: repeat.unwrap_or_default(),
        window: times.window,
        heartbeat: times.heartbeat,
        ttl: times.ttl,
        binding,
        access: access?,
        linger: times.linger,
        reopen: platform.map_or_else(Reopen::default, |kind| kind.reopen(reopen)),
        limits,
        approval,
        delegation,
        acts_for,
    };
    advice::on_workload(node, &workload, platform, report);
    let of_people = proofs
        .declared
        .is_some_and(|issuer| issuer.people.is_some());
    advice::on_people(node, &workload, of_people, report);
    Some(DeclaredWorkload {
        workload,
        unfinished: proofs.unfinished,
        rate: asks,
        client_rate,
    })
}

const REPEATS: [(&str, Repeat); 2] = [("refuse", Repeat::Refuse), ("join", Repeat::Join)];

fn kind(node: &Node<'_>, report: &mut Report) -> Option<Kind> {
    let words = [
        ("ci", Kind::Ci),
        ("agent", Kind::Agent),
        ("batch", Kind::Batch),
        ("service", Kind::Service),
        ("operator", Kind::Operator),
    ];
    node.choice(&words, report)
}

fn key(
    table: &mut Table<'_>,
    kind: Option<Kind>,
    platform: Option<IssuerKind>,
    report: &mut Report,
) -> Option<KeyRule> {
    match (kind, platform) {
        (Some(Kind::Operator), _) => task::of_person(table, report),
        (_, Some(platform)) => task::read(table, platform, report),
        (_, None) => table.get("task").and(None),
    }
}

/// People prove workloads of kind `operator`, and nothing else does.
fn check_people(
    node: &Node<'_>,
    kind: Option<Kind>,
    proofs: Option<&matching::Proofs<'_>>,
    report: &mut Report,
) {
    let issuer = proofs.and_then(|proofs| proofs.declared);
    let (Some(kind), Some(issuer)) = (kind, issuer) else {
        return;
    };
    let name = &issuer.name;
    match (kind == Kind::Operator, issuer.people.is_some()) {
        (true, true) | (false, false) => {}
        (true, false) => node.error(
            format!("workloads of kind `operator` are proven by people: the issuer `{name}` does not say `people = true`"),
            report,
        ),
        (false, true) => node.error(
            format!("the issuer `{name}` vouches for people, who prove workloads of kind `operator` alone"),
            report,
        ),
    }
}

/// Window, linger, heartbeat and token. A mistake leaves its default, so that the others are still
/// checked against something.
fn times(table: &mut Table<'_>, most: Span, report: &mut Report) -> (Times, Binding) {
    let window = table
        .get("window")
        .and_then(|node| node.span_between(SECOND, most, report))
        .unwrap_or_else(|| WINDOW.min(most));
    let linger = table
        .get("linger")
        .and_then(|node| node.span_between(Span::ZERO, window, report))
        .unwrap_or(Span::ZERO);
    let heartbeat = table
        .get("heartbeat")
        .and_then(|node| heartbeat(&node, report))
        .unwrap_or_default();
    let (ttl, binding) = table
        .get("token")
        .and_then(|node| token(&node, window, report))
        .unwrap_or_default();
    let ttl = ttl.unwrap_or_else(|| TTL.min(window));
    (
        Times {
            window,
            linger,
            ttl,
            heartbeat,
        },
        binding,
    )
}

const SECOND: Span = Span::from_seconds(1);
const WINDOW: Span = Span::from_seconds(3600);
const TTL: Span = Span::from_seconds(300);

fn heartbeat(node: &Node<'_>, report: &mut Report) -> Option<Heartbeat> {
    let mut table = node.table(report)?;
    let default = Heartbeat::default();
    let words = [
        ("off", HeartbeatMode::Off),
        ("auto", HeartbeatMode::Auto),
        ("required", HeartbeatMode::Required),
    ];
    let mode = table
        .get("mode")
        .and_then(|node| node.choice(&words, report));
    let mut span = |key, fallback| match table.get(key) {
        Some(node) => node.span_between(SECOND, MOST_SILENCE, report),
        None => Some(fallback),
    };
    let (every, grace) = (span("every", default.every), span("grace", default.grace));
    table.finish(report);
    let (every, grace) = (every?, grace?);
    let least = every + every;
    if grace < least {
        let message = format!(
            "`{}.grace` is {grace}, wanted at least {least}, twice `every`",
            node.name_of()
        );
        node.error(message, report);
    }
    Some(Heartbeat {
        mode: mode.unwrap_or(default.mode),
        every,
        grace,
    })
}

const MOST_SILENCE: Span = Span::from_seconds(86_400);

fn token(node: &Node<'_>, window: Span, report: &mut Report) -> Option<(Option<Span>, Binding)> {
    let mut table = node.table(report)?;
    let ttl = table.get("ttl").and_then(|node| {
        let ttl = node.span_between(SECOND, MOST_SILENCE, report)?;
        if ttl > window {
            node.error(
                format!(
                    "`{}` is {ttl}, longer than the window of {window}",
                    node.name_of()
                ),
                report,
            );
        }
        Some(ttl)
    });
    let words = [
        ("required", Binding::Required),
        ("optional", Binding::Optional),
    ];
    let binding = table
        .get("binding")
        .and_then(|node| node.choice(&words, report));
    table.finish(report);
    Some((ttl, binding.unwrap_or_default()))
}

fn limits(node: &Node<'_>, report: &mut Report) -> Option<Limits> {
    let mut table = node.table(report)?;
    let mut count = |key| {
        let count = table.get(key)?.count_between(1, 1_000_000_000, report)?;
        u64::try_from(count).ok()
    };
    let limits = Limits {
        open: count("open"),
        starts_per_hour: count("starts_per_hour"),
    };
    table.finish(report);
    Some(limits)
}

/// Shortest time that people are given.
pub const LEAST_WAIT: Span = Span::from_seconds(60);
/// Longest time: whoever asks still holds a place among the open tasks.
pub const MOST_WAIT: Span = Span::from_seconds(86_400);

/// `"none"`, or who approves within which time.
fn approval(
    table: &mut Table<'_>,
    repeat: Option<Repeat>,
    report: &mut Report,
) -> Option<Approval> {
    let node = table.get("approval")?;
    if !node.value().is_table() {
        let _ = node.choice(&[("none", ())], report);
        return None;
    }
    if repeat == Some(Repeat::Join) {
        let message = format!(
            "`{}` and `repeat = \"join\"` exclude each other: who joins comes in without anybody being asked",
            node.name_of()
        );
        node.error(message, report);
    }
    let mut table = node.table(report)?;
    let by = table
        .require("by", report)
        .and_then(|node| node.choice(&[("owner", ())], report));
    let within = table
        .require("within", report)
        .and_then(|node| node.span_between(LEAST_WAIT, MOST_WAIT, report));
    let people = match table.get("people") {
        None => Some(1),
        Some(node) => node.count_between(1, 2, report),
    };
    table.finish(report);
    by?;
    Some(Approval {
        within: within?,
        people: u32::try_from(people?).ok()?,
    })
}
