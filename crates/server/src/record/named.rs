//! Whom of a task a key names: all of it, or some of its clients, on whom alone the verdict is then.

use std::collections::BTreeSet;

use dayfly_domain::{ClientId, Task, Time};

use super::reading::Reading;
use super::standing::{self, Stands};
use super::task::Found;
use super::view::{ClientView, TaskView};

/// Whom of a task a key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// The task, and so everybody in it.
    Task,
    /// Clients of it, by their numbers.
    Clients(BTreeSet<u32>),
}

/// A task, and whom of it a key names.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// The task.
    pub(super) task: TaskView,
    /// After this no credential of whom it names is accepted anywhere, once they have ended.
    pub(super) last_acceptance: Option<Time>,
    /// The clients that it names, without those below others of them; none where it names the task.
    clients: Option<BTreeSet<ClientId>>,
    /// The clients that it names and all that were delegated from them.
    below: BTreeSet<ClientId>,
}

impl Whom {
    /// Whom of a task these readings of a key name together, as far as its state says so.
    pub(super) fn of(task: &Task, readings: &[Reading]) -> Option<Self> {
        let named = readings.iter().filter_map(|reading| reading.names(task));
        named.reduce(Self::and)
    }

    /// Those of a task's clients of whom this is true; none where there are none.
    pub(super) fn clients(
        task: &Task,
        named: impl Fn(&dayfly_domain::Client) -> bool,
    ) -> Option<Self> {
        let numbered = (1u32..).zip(&task.clients);
        let found: BTreeSet<u32> = numbered
            .filter(|(_, client)| named(client))
            .map(|(number, _)| number)
            .collect();
        (!found.is_empty()).then_some(Self::Clients(found))
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Clients(mut some), Self::Clients(more)) => {
                some.extend(more);
                Self::Clients(some)
            }
            (Self::Task, _) | (_, Self::Task) => Self::Task,
        }
    }
}

impl Named {
    pub(super) fn of(found: &Found, whom: &Whom) -> Self {
        let task = found.view();
        match whom {
            Whom::Task => Self {
                last_acceptance: task.last_possible_acceptance,
                clients: None,
                below: task.clients.iter().map(|client| client.client).collect(),
                task,
            },
            Whom::Clients(numbers) => {
                let id = |number: &u32| found.task.client_id(*number);
                let last = |number: &u32| found.task.last_expiry_under(*number);
                let is_below = |client: &&ClientView| {
                    let mut chain = found.task.chain(client.client.number);
                    chain.any(|(number, _)| numbers.contains(&number))
                };
                // What is below another of them lives no longer than that one.
                let is_highest = |number: &&u32| {
                    let mut above = found.task.chain(**number).skip(1);
                    !above.any(|(number, _)| numbers.contains(&number))
                };
                let highest = numbers.iter().filter(is_highest).map(id);
                let below = task.clients.iter().filter(is_below);
                Self {
                    last_acceptance: numbers.iter().filter_map(last).max(),
                    clients: Some(highest.collect()),
                    below: below.map(|client| client.client).collect(),
                    task,
                }
            }
        }
    }

    /// How they stand: live as long as one of them is, and ended when the last of them is.
    pub(super) fn stands(&self, now: Time) -> Stands {
        let of_task = || standing::of_task(&self.task, now);
        if self.clients.is_none() {
            return of_task();
        }
        let stands = self
            .clients()
            .map(|client| standing::of_client(&self.task, client, now));
        stands
            .max_by_key(Stands::weight)
            // INVARIANT: whom a key names are clients of the task, at least one.
            .unwrap_or_else(of_task)
    }

    /// The clients that it names: all of the task where it names that.
    pub(super) fn clients(&self) -> impl Iterator<Item = &ClientView> {
        let named = |client: &&ClientView| match &self.clients {
            None => true,
            Some(clients) => clients.contains(&client.client),
        };
        self.task.clients.iter().filter(named)
    }

    /// Them and all that were delegated from them.
    pub(super) const fn below(&self) -> &BTreeSet<ClientId> {
        &self.below
    }

    /// Whether it names the task.
    pub(super) const fn is_task(&self) -> bool {
        self.clients.is_none()
    }
}
