//! What is contained and not recorded yet: the set that covers every read of the store.

use std::collections::HashMap;

use dayfly_domain::{
    Block, BlockOn, Blocks, Closed, Digest, Epoch, EpochOf, Event, Moved, Name, Task, TaskEnded,
    TaskId, apply,
};
use dayfly_store::{Drafted, OpenTask, PersonOver, Unavailable};

use super::record::Held;
use super::words::{Said, Word};
use crate::app::closing::Closing;
use crate::app::contain::{Contained as Stopped, Stop};
use crate::app::signal::barred_by;
use crate::app::sought::Sought;

/// The ends and blocks that are held, by tenant.
#[derive(Debug, Default)]
pub(super) struct Contained(HashMap<Name, OfTenant>);

/// Those of one tenant.
#[derive(Debug, Default)]
pub(super) struct OfTenant {
    ends: HashMap<TaskId, Vec<Drafted>>,
    blocks: Blocks,
    /// The runs that are over by the word of their platform, by issuer and series.
    closings: HashMap<(Name, String), Vec<Closing>>,
    /// What ends wherever it is met.
    sought: Vec<Sought>,
    /// The epochs that move when it is recorded, each with why and when.
    moves: Vec<(EpochOf, Moved)>,
    /// What was said of people, of each what reaches furthest.
    people: HashMap<Digest, PersonOver>,
}

impl Contained {
    /// The set of these.
    pub(super) fn of<'h>(
        held: impl IntoIterator<Item = &'h Held>,
        words: impl IntoIterator<Item = &'h Word>,
    ) -> Self {
        let mut set = Self::default();
        for held in held {
            set.add(held);
        }
        for word in words {
            set.add_word(word);
        }
        set
    }

    pub(super) fn add(&mut self, held: &Held) {
        let of_tenant = self.0.entry(held.tenant.clone()).or_default();
        for end in &held.ends {
            let events = of_tenant.ends.entry(end.task).or_default();
            events.extend(end.events.iter().cloned());
        }
        for held in &held.blocks {
            let block = &held.block;
            if of_tenant.blocks.stands(&block.on) {
                continue;
            }
            of_tenant.blocks.set(block.clone());
            if let Some(what) = Stopped::of(&block.on) {
                let (cause, at) = (what.cause(&Stop::Block), block.since);
                of_tenant.moves.push((what.epoch(), Moved { cause, at }));
            }
        }
        for moved in &held.moves {
            let Some(what) = Stopped::of_epoch(&moved.of) else {
                continue;
            };
            let (cause, at) = (what.cause(&Stop::End), held.at);
            of_tenant
                .moves
                .push((moved.of.clone(), Moved { cause, at }));
        }
        of_tenant.sought.extend(held.sought.iter().cloned());
        for closing in &held.closings {
            if !of_tenant.is_closed(closing) {
                let run = (closing.issuer.clone(), closing.series.clone());
                let of_run = of_tenant.closings.entry(run).or_default();
                of_run.push(closing.clone());
            }
        }
    }

    pub(super) fn add_word(&mut self, word: &Word) {
        let of_tenant = self.0.entry(word.tenant.clone()).or_default();
        of_tenant.hear(word.person, &word.over);
        if let (Some(barred), EpochOf::Person(mark)) = (&word.barred, barred_by(word.person)) {
            of_tenant.hear(mark, barred);
        }
        let on = BlockOn::Barred(word.person);
        if let Some(barred) = &word.barred
            && !of_tenant.blocks.stands(&on)
        {
            of_tenant.blocks.set(Block {
                on,
                task: None,
                since: barred.at,
            });
        }
    }

    pub(super) fn of_tenant(&self, tenant: &Name) -> Option<&OfTenant> {
        self.0.get(tenant)
    }
}

impl OfTenant {
    /// Takes what is said of a person, where it reaches further than what is known.
    fn hear(&mut self, person: Digest, said: &Said) {
        let Said { upto, at, said } = said.clone();
        let over = PersonOver { upto, at, said };
        match self.people.get_mut(&person) {
            Some(known) if known.upto >= over.upto => {}
            Some(known) => *known = over,
            None => {
                self.people.insert(person, over);
            }
        }
    }

    /// Makes of an open task what it is by what is held; its state may say that it has ended.
    pub(super) fn cover(&self, open: &mut OpenTask) -> Result<(), Unavailable> {
        if let Some(events) = self.ends.get(&open.task.id) {
            let (_, task) = applied(&open.task, events);
            open.task = task;
        }
        if open.stale.is_none() {
            let relied = open.task.epochs.iter();
            open.stale = relied
                .filter(|epoch| self.takes(epoch))
                .map(|epoch| epoch.of.clone())
                .next();
        }
        let below = open.task.relied_below().filter(|epoch| self.takes(epoch));
        let lost: Vec<Epoch> = below.cloned().collect();
        for epoch in lost {
            if !open.lost.contains(&epoch) {
                open.lost.push(epoch);
            }
        }
        // What took its rights away ends it already, and names its end.
        if open.stale.is_none() {
            for closing in self.closings(&open.task.issuer, &open.task.series) {
                closing.cover(open)?;
            }
            for sought in &self.sought {
                sought.cover(open)?;
            }
        }
        Ok(())
    }

    /// What of a series is closed by what is held, beside what the ledger has.
    pub(super) fn closed_beside(&self, run: (&Name, &str), standing: &[Closed]) -> Vec<Closed> {
        let mut beside: Vec<Closed> = Vec::new();
        for Closing { closed, .. } in self.closings(run.0, run.1) {
            if !standing
                .iter()
                .chain(&beside)
                .any(|other| other.is_same(closed))
            {
                beside.push(closed.clone());
            }
        }
        beside
    }

    /// Whether this is held already.
    pub(super) fn is_closed(&self, closing: &Closing) -> bool {
        let mut held = self.closings(&closing.issuer, &closing.series).iter();
        held.any(|held| closing.is_same(held))
    }

    fn closings(&self, issuer: &Name, series: &str) -> &[Closing] {
        let run = (issuer.clone(), series.to_owned());
        self.closings.get(&run).map_or(&[], Vec::as_slice)
    }

    /// The blocks that stand, with those that are held.
    pub(super) fn blocks_beside(&self, standing: &Blocks) -> Blocks {
        standing.with(&self.blocks)
    }

    /// The epochs that move when this is recorded, each with why and when.
    pub(super) fn moves(&self) -> &[(EpochOf, Moved)] {
        &self.moves
    }

    /// What is held of a person.
    pub(super) fn person(&self, person: &Digest) -> Option<&PersonOver> {
        self.people.get(person)
    }

    /// Whether whoever relied on this epoch loses it when this is recorded.
    fn takes(&self, epoch: &Epoch) -> bool {
        if let Some(person) = epoch.person() {
            let over = self.people.get(&person);
            return over.is_some_and(|over| epoch.is_lost(over.upto.millis()));
        }
        self.moves.iter().any(|(moved, _)| *moved == epoch.of)
    }
}

/// What is left to happen of these events to a task, and the task after it. What does not fit any
/// more has happened already, by whatever was recorded meanwhile.
pub(super) fn applied(task: &Task, events: &[Drafted]) -> (Vec<Drafted>, Task) {
    let mut state = task.clone();
    let mut happened = Vec::new();
    for drafted in events {
        let event = counted(&drafted.event, state.version);
        if let Some(next) = apply(Some(state.clone()), task.id, &event) {
            state = next;
            happened.push(Drafted {
                event,
                annex: drafted.annex.clone(),
            });
        }
    }
    (happened, state)
}

/// The event with the count of entries that the task has now.
fn counted(event: &Event, version: u64) -> Event {
    match event {
        Event::TaskEnded(ended) => Event::TaskEnded(TaskEnded {
            count: version + 1,
            ..ended.clone()
        }),
        Event::TaskRequested(_)
        | Event::TaskApproved(_)
        | Event::TaskDenied(_)
        | Event::TaskStarted(_)
        | Event::ClientRegistered(_)
        | Event::ClientDelegated(_)
        | Event::CredentialIssued(_)
        | Event::CredentialRevoked(_)
        | Event::ClientEnded(_) => event.clone(),
    }
}
