//! A task and its clients, as a tree.

use std::fmt::Write as _;

use dayfly_domain::Time;
use dayfly_server::record::{
    ClientStanding, ClientView, Standing, TaskView, access_line, moment, one_line,
};

use super::list::state;
use super::table::pairs;

/// A task and its clients.
pub(super) fn task(task: &TaskView, now: Time) -> String {
    let time = |at: Option<Time>| at.map(|at| moment(at, now)).unwrap_or_default();
    let (by, reason) = match &task.standing {
        Standing::Ended { note, .. } => (
            note.by.clone().unwrap_or_default(),
            note.reason.clone().unwrap_or_default(),
        ),
        Standing::Open { .. } | Standing::Pending { .. } => Default::default(),
    };
    let acceptance = match &task.standing {
        Standing::Ended { .. } => "last possible acceptance",
        Standing::Open { .. } | Standing::Pending { .. } => "last expiry",
    };
    let mut text = pairs([
        ("task", task.task.to_string()),
        ("state", state(&task.standing, now)),
        ("by", by),
        ("reason", reason),
        ("workload", task.workload.to_string()),
        ("owner", task.owner.to_string()),
        ("issuer", task.issuer.to_string()),
        ("key", task.key.clone()),
        (
            "attempt",
            task.attempt
                .map(|attempt| attempt.to_string())
                .unwrap_or_default(),
        ),
        ("on behalf of", behalf(task)),
        ("opened", moment(task.opened, now)),
        ("deadline", moment(task.deadline, now)),
        ("heartbeat", heartbeat(task)),
        ("last seen", time(task.last_seen)),
        (acceptance, time(task.last_possible_acceptance)),
        ("issued", task.issued.to_string()),
        ("entries", task.entries.to_string()),
    ]);
    if let Standing::Pending {
        instance,
        jkt,
        access,
        ..
    } = &task.standing
    {
        text.push_str(&pairs([
            ("asks", format!("{}, key {jkt}", one_line(instance))),
            ("for", one_line(&access_line(access))),
        ]));
    }
    text.push_str("clients\n");
    for one in &task.clients {
        client(&mut text, one, now);
    }
    text
}

/// The person, by name where it is shown and still on record.
fn behalf(task: &TaskView) -> String {
    let Some(subject) = &task.subject else {
        return String::new();
    };
    match (&subject.sub, &subject.iss) {
        (Some(sub), Some(iss)) => format!(
            "{} of {} ({})",
            one_line(sub),
            one_line(iss),
            subject.person
        ),
        (Some(_) | None, Some(_) | None) => format!("{} of {}", subject.person, subject.issuer),
    }
}

fn heartbeat(task: &TaskView) -> String {
    use dayfly_domain::HeartbeatMode::{Auto, Off, Required};
    let every = format!(
        "every {}, grace {}",
        task.heartbeat.every, task.heartbeat.grace
    );
    match task.heartbeat.mode {
        Off => "off".to_owned(),
        Auto => format!("auto, {every}"),
        Required => format!("required, {every}"),
    }
}

fn client(text: &mut String, client: &ClientView, now: Time) {
    let indent = "  ".repeat(usize::try_from(client.depth).unwrap_or(0) + 1);
    let state = match (&client.standing, &client.rights_removed) {
        (ClientStanding::Active, Some(whose)) => format!("over, rights taken away: {whose}"),
        (ClientStanding::Active, None) => format!("until {}", moment(client.expires, now)),
        (ClientStanding::Ended { cause, at, .. }, _) => {
            format!("{} {}", cause.word(), moment(*at, now))
        }
    };
    let key = match client.jkt {
        Some(jkt) => format!("key {jkt}"),
        None => "no key".to_owned(),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{indent}{}  {state}, {}, {key}, {} issued",
        client.client,
        one_line(&client.instance),
        client.issued
    );
    let _ = writeln!(
        text,
        "{indent}  may  {}",
        one_line(&access_line(&client.access))
    );
    for credential in &client.credentials {
        let _ = writeln!(
            text,
            "{indent}  live {}  until {}, hash {}",
            credential.credential,
            moment(credential.expires, now),
            credential.hash
        );
    }
}
