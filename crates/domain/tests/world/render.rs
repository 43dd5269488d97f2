//! How a fixture writes what came of a step.

use dayfly_domain::access::Detail;
use dayfly_domain::*;

use super::{ZERO, digest};

/// A time as a length since the start of the case.
pub(crate) fn time(at: Time) -> String {
    at.since(ZERO).to_string()
}

pub(crate) fn refusal(refusal: &Refusal) -> String {
    format!(
        "refused {}.{}: {}: wanted `{}`, got `{}`",
        refusal.rule.stage().code(),
        refusal.rule.code(),
        refusal.field,
        refusal.wanted,
        refusal.got.escape_debug(),
    )
}

pub(crate) fn event(id: TaskId, event: &Event, ceiling: &[Detail]) -> String {
    match event {
        Event::TaskRequested(requested) => asked(id, requested, ceiling),
        Event::TaskApproved(approved) => match approved.fetch_by {
            Some(until) => format!(
                "{id} approved at {}, to be fetched until {}",
                time(approved.at),
                time(until)
            ),
            None => format!("{id} approved at {}, one is missing", time(approved.at)),
        },
        Event::TaskDenied(denied) => format!("{id} denied at {}", time(denied.at)),
        Event::TaskStarted(started) => {
            let attempt = started
                .attempt
                .map_or(String::new(), |attempt| format!(" attempt {attempt}"));
            let mut text = format!(
                "{id} started {}{attempt} until {}",
                started.key,
                time(started.deadline)
            );
            for old in &started.supersedes {
                text += &format!(" supersedes {old}");
            }
            text + &behalf(started.subject.as_ref())
        }
        Event::ClientRegistered(registered) => format!(
            "{id}/{} registered {} until {}{}",
            registered.client,
            key(registered.jkt),
            time(registered.expires),
            details(&registered.access, ceiling)
        ),
        Event::ClientDelegated(delegated) => {
            let of = delegated.own.as_ref().map_or(String::new(), |own| {
                format!(" as {} in {}", own.workload, delegated.instance)
            });
            format!(
                "{id}/{} delegated from {} to {}{of} until {}{}",
                delegated.client,
                delegated.parent,
                key(delegated.jkt),
                time(delegated.expires),
                details(&delegated.access, ceiling)
            )
        }
        Event::CredentialIssued(issued) => {
            issued_text(id, issued) + &details(&issued.access, ceiling)
        }
        Event::CredentialRevoked(revoked) => {
            format!("{id}/{}/{} revoked", revoked.client, revoked.credential)
        }
        Event::ClientEnded(ended) => format!(
            "{id}/{} ended {} at {}{}",
            ended.client,
            ended.cause.word(),
            time(ended.at),
            last(ended.last_expiry)
        ),
        Event::TaskEnded(ended) => format!(
            "{id} ended {} at {} after {}{}",
            ended.cause.word(),
            time(ended.at),
            ended.count,
            last(ended.last_expiry)
        ),
    }
}

fn asked(id: TaskId, requested: &TaskRequested, ceiling: &[Detail]) -> String {
    let mut text = format!(
        "{id} requested {} by {} of {} until {}{}",
        requested.key,
        key(Some(requested.jkt)),
        requested.people,
        time(requested.expires),
        details(&requested.access, ceiling)
    );
    for old in &requested.supersedes {
        text += &format!(" supersedes {old}");
    }
    text + &behalf(requested.subject.as_ref())
}

fn behalf(subject: Option<&Subject>) -> String {
    let Some(subject) = subject else {
        return String::new();
    };
    let label = subject.person.0.iter().take_while(|byte| **byte != 0);
    let label: Vec<u8> = label.copied().collect();
    let label = String::from_utf8_lossy(&label);
    let authenticated = time(subject.authenticated);
    format!(
        " for {label} of {}, authenticated at {authenticated}",
        subject.issuer
    )
}

fn issued_text(id: TaskId, issued: &CredentialIssued) -> String {
    let mut text = format!(
        "{id}/{}/{} issued to {} for {} until {}",
        issued.client,
        issued.credential,
        key(issued.jkt),
        issued.audience,
        time(issued.expires)
    );
    for (word, link) in std::iter::once(" act ")
        .chain(std::iter::repeat(" < "))
        .zip(&issued.act)
    {
        text += &format!("{word}{}:{}", link.client, link.workload);
    }
    if !issued.may_act.is_empty() {
        let names: Vec<String> = issued.may_act.iter().map(ToString::to_string).collect();
        text += &format!(" may_act {}", names.join(","));
    }
    match issued.on_behalf_of {
        None => {}
        Some(OnBehalfOf::Person) => text += " naming the person",
        Some(OnBehalfOf::Pseudonym) => text += " naming a pseudonym",
    }
    if !issued.scope.is_empty() {
        text += &format!(" scope {}", issued.scope.join(" "));
    }
    text
}

fn last(expiry: Option<Time>) -> String {
    expiry.map_or(String::new(), |at| format!(", last expiry {}", time(at)))
}

fn key(jkt: Option<Digest>) -> String {
    match jkt {
        None => "bearer".into(),
        Some(jkt) => (1..10)
            .map(|n| format!("k{n}"))
            .find(|label| digest(label) == jkt)
            .unwrap(),
    }
}

/// The details, one a line; where they are the whole declared ceiling, just that.
fn details(details: &[Detail], ceiling: &[Detail]) -> String {
    let unnamed = ceiling.iter().map(|detail| Detail {
        scope: None,
        ..detail.clone()
    });
    if unnamed.eq(details.iter().cloned()) {
        return ", all".into();
    }
    let mut text = String::new();
    for detail in details {
        text += &format!("\n    {}@{}", detail.kind, detail.resource);
        for (name, field) in &detail.fields {
            text += &format!(" {name}={}", field.to_string().replace(", ", ","));
        }
    }
    text
}
