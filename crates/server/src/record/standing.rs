//! How a task, a client or a credential stands at a point in time, its end recorded or not.

use dayfly_domain::{Cause, Time};

use super::end::EndNote;
use super::view::{ClientStanding, ClientView, IssuedView, Standing, TaskView};

/// How something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// It waits for approval, or to be fetched.
    Pending {
        /// Until when.
        until: Time,
        /// What for.
        why: String,
    },
    /// It is accepted, until then by itself.
    Live {
        /// When it is over by itself.
        until: Time,
    },
    /// Its own time ran out, while its task was open.
    Expired {
        /// When.
        at: Time,
    },
    /// It is over, and its end is not recorded yet.
    Over {
        /// When; none where rights were taken away, which the record has no time of.
        at: Option<Time>,
        /// Why.
        why: String,
    },
    /// It has ended.
    Ended {
        /// Why.
        cause: Cause,
        /// When.
        at: Time,
        /// Who ended it, and the reason given.
        note: EndNote,
    },
}

impl Stands {
    /// Of several the one that tells of all: what lives and lives longest, then what may yet, then
    /// what is over without a record of it, then the last end.
    pub(super) const fn weight(&self) -> (u8, Option<Time>) {
        match self {
            Self::Live { until } => (3, Some(*until)),
            Self::Pending { until, .. } => (2, Some(*until)),
            Self::Over { at, .. } => (1, *at),
            Self::Expired { at } | Self::Ended { at, .. } => (0, Some(*at)),
        }
    }
}

/// A task.
pub(super) fn of_task(task: &TaskView, now: Time) -> Stands {
    match &task.standing {
        Standing::Ended { cause, at, note } => Stands::Ended {
            cause: *cause,
            at: *at,
            note: note.clone(),
        },
        Standing::Open {
            rights_removed: Some(whose),
            ..
        }
        | Standing::Pending {
            rights_removed: Some(whose),
            ..
        } => Stands::Over {
            at: None,
            why: format!("rights taken away: {whose}"),
        },
        Standing::Open { due, due_cause, .. } if now >= *due => Stands::Over {
            at: Some(*due),
            why: due_cause.word().to_owned(),
        },
        Standing::Open { due, .. } => Stands::Live { until: *due },
        Standing::Pending { due, .. } if now >= *due => Stands::Over {
            at: Some(*due),
            why: Cause::Expired.word().to_owned(),
        },
        Standing::Pending {
            due,
            people,
            approvals,
            approved,
            ..
        } => Stands::Pending {
            until: *due,
            why: waits_for(*people, *approvals, *approved),
        },
    }
}

/// What a pending task waits for.
#[must_use]
pub fn waits_for(people: u32, approvals: u64, approved: Option<Time>) -> String {
    match approved {
        Some(_) => "approved, to be fetched by its client".to_owned(),
        None if people == 1 => "waits for an approval".to_owned(),
        None => format!("waits for {people} approvals, has {approvals}"),
    }
}

/// A client: over with its task, its ancestors, or its own time.
pub(super) fn of_client(task: &TaskView, client: &ClientView, now: Time) -> Stands {
    if let Some(ended) = end_of(client) {
        let Stands::Ended { at, .. } = ended else {
            return ended;
        };
        return if client.expires < at {
            Stands::Expired { at: client.expires }
        } else {
            ended
        };
    }
    let task = match &client.rights_removed {
        Some(whose) => Stands::Over {
            at: None,
            why: format!("rights taken away: {whose}"),
        },
        None => of_task(task, now),
    };
    bounded(task, client.expires, now)
}

/// A credential: over with its client, its revocation, or its own time.
pub(super) fn of_credential(task: &TaskView, issued: &IssuedView, now: Time) -> Stands {
    let client = task
        .clients
        .iter()
        .find(|client| client.client == issued.credential.client);
    let by_client = client.and_then(end_of);
    let by_revocation = issued.revoked.map(|at| Stands::Ended {
        cause: Cause::Revoked,
        at,
        note: EndNote::default(),
    });
    match by_revocation.or(by_client) {
        Some(Stands::Ended { at, .. }) if issued.expires < at => {
            Stands::Expired { at: issued.expires }
        }
        Some(ended) => ended,
        None => {
            let above = match client {
                Some(client) => of_client(task, client, now),
                None => of_task(task, now),
            };
            bounded(above, issued.expires, now)
        }
    }
}

/// The recorded end of a client, by itself or with its task.
fn end_of(client: &ClientView) -> Option<Stands> {
    let ClientStanding::Ended { cause, at, note } = &client.standing else {
        return None;
    };
    Some(Stands::Ended {
        cause: *cause,
        at: *at,
        note: note.clone(),
    })
}

/// What stands as its task does, but not beyond its own time.
fn bounded(task: Stands, expires: Time, now: Time) -> Stands {
    match task {
        Stands::Live { until } if now < expires => Stands::Live {
            until: until.min(expires),
        },
        Stands::Live { .. } => Stands::Expired { at: expires },
        Stands::Over { at: Some(at), .. } if expires < at => Stands::Expired { at: expires },
        other @ (Stands::Pending { .. }
        | Stands::Over { .. }
        | Stands::Ended { .. }
        | Stands::Expired { .. }) => other,
    }
}
