//! What is stopped as a whole, apart from files: owners, workloads, issuers, the tenant; at once, and where that is wanted for good.

use dayfly_domain::{Block, BlockOn, Cause, Epoch, EpochOf, Name, Refusal, Rule, Time, Workload};
use dayfly_store::{
    Annex, Append, AppendError, Facts, FactsQuery, Note, OpenFilter, OpenTask, Unavailable,
};
use serde_json::json;

use super::actor::{Actor, Signature};
use super::end::ATTEMPTS;
use super::moved::{Moves, NoteOf};
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};
use crate::declared::{Declared, HandOver, HandOvers};

/// What is stopped as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contained {
    /// An owner, offboarded.
    Owner(Name),
    /// A workload, disabled.
    Workload(Name),
    /// An issuer, blocked.
    Issuer(Name),
    /// The tenant, frozen.
    Tenant,
}

/// How it is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Everything open is over, and new tasks may start.
    End,
    /// Everything open is over, and nothing starts until it is lifted.
    Block,
    /// The same of an owner, whose workloads another owner answers for from the same write on.
    HandOver(Name),
}

/// How something is stopped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Containment {
    /// Since when.
    pub since: Time,
    /// Whether it was before it was asked for.
    pub already: bool,
    /// How many open tasks of what is declared that took, as they were counted just before, those
    /// included that were over and whose end was not recorded yet; none where that could not be read,
    /// or where the counters do not tell.
    pub open: Option<u64>,
    /// Whether it outlives this process; it is obeyed in any case.
    pub recorded: bool,
}

impl Contained {
    /// The block that stands while it is contained.
    #[must_use]
    pub fn block(&self) -> BlockOn {
        match self {
            Self::Owner(name) => BlockOn::Owner(name.clone()),
            Self::Workload(name) => BlockOn::Workload(name.clone()),
            Self::Issuer(name) => BlockOn::Issuer(name.clone()),
            Self::Tenant => BlockOn::Tenant,
        }
    }

    /// What a block contains; none when it stands on a run or an instance.
    pub(super) fn of(block: &BlockOn) -> Option<Self> {
        match block {
            BlockOn::Series { .. }
            | BlockOn::Key { .. }
            | BlockOn::Instance { .. }
            | BlockOn::Person(_)
            | BlockOn::Barred(_) => None,
            BlockOn::Owner(name) => Some(Self::Owner(name.clone())),
            BlockOn::Workload(name) => Some(Self::Workload(name.clone())),
            BlockOn::Issuer(name) => Some(Self::Issuer(name.clone())),
            BlockOn::Tenant => Some(Self::Tenant),
        }
    }

    /// Whose epoch this is; none where nobody here can contain it.
    pub(super) fn of_epoch(epoch: &EpochOf) -> Option<Self> {
        match epoch {
            EpochOf::Owner(name) => Some(Self::Owner(name.clone())),
            EpochOf::Workload(name) => Some(Self::Workload(name.clone())),
            EpochOf::Issuer(name) => Some(Self::Issuer(name.clone())),
            EpochOf::Tenant => Some(Self::Tenant),
            EpochOf::Person(_) => None,
        }
    }

    /// The epoch that moves with it.
    pub(super) fn epoch(&self) -> EpochOf {
        match self {
            Self::Owner(name) => EpochOf::Owner(name.clone()),
            Self::Workload(name) => EpochOf::Workload(name.clone()),
            Self::Issuer(name) => EpochOf::Issuer(name.clone()),
            Self::Tenant => EpochOf::Tenant,
        }
    }

    /// Why its open tasks end (docs/decisions/0024 and 0038).
    pub(super) const fn cause(&self, stop: &Stop) -> Cause {
        match (stop, self) {
            (Stop::End, _) => Cause::Operator,
            (Stop::Block | Stop::HandOver(_), Self::Owner(_)) => Cause::OwnerOffboarded,
            (Stop::Block | Stop::HandOver(_), Self::Workload(_)) => Cause::WorkloadDisabled,
            (Stop::Block | Stop::HandOver(_), Self::Issuer(_)) => Cause::IssuerRemoved,
            (Stop::Block | Stop::HandOver(_), Self::Tenant) => Cause::Operator,
        }
    }

    /// What its entries say, under names by which they are found.
    pub(super) fn data(&self) -> serde_json::Value {
        let on = self.block().to_string();
        match self {
            Self::Owner(name) => json!({"on": on, "owner": name}),
            Self::Workload(name) => json!({"on": on, "workload": name}),
            Self::Issuer(name) => json!({"on": on, "issuer": name}),
            Self::Tenant => json!({"on": on}),
        }
    }

    /// What records it by this note, on facts that hold its epoch and the documents of moves, in a
    /// ledger that was `size` long when those had been read.
    pub(super) fn append(
        &self,
        stop: &Stop,
        (facts, size): (&Facts, u64),
        now: Time,
        note: Note,
    ) -> Result<Append, Unavailable> {
        let moves = Moves::of(&facts.documents)?;
        let of = self.epoch();
        let epoch = facts.epochs.iter().find(|epoch| epoch.of == of).cloned();
        let epoch = epoch.unwrap_or(Epoch { of, at: 0 });
        let noted = NoteOf {
            kind: note.kind.to_owned(),
            on: Some(self.block().to_string()),
            from: size,
        };
        let mut append = Append {
            now,
            notes: vec![note],
            documents: vec![moves.with(&epoch, self.cause(stop), now, Some(noted))],
            moves: vec![self.epoch()],
            // INVARIANT: the document says to which value the epoch moves.
            relies: vec![epoch],
            ..Append::default()
        };
        let handed_to = match stop {
            Stop::End => return Ok(append),
            Stop::Block => None,
            Stop::HandOver(to) => Some(to),
        };
        // What stands already goes on to stand since then; only its workloads are handed over.
        match standing(facts, self).filter(|_| handed_to.is_some()) {
            Some(block) => append.blocks.push(block.clone()),
            None => {
                append.unblocked.push(self.block());
                append.blocks.push(Block {
                    on: self.block(),
                    task: None,
                    since: now,
                });
            }
        }
        if let (Some(to), Self::Owner(owner)) = (handed_to, self) {
            // Whoever is to answer may be offboarded between the look and the append.
            append.unblocked.push(BlockOn::Owner(to.clone()));
            let handed = HandOver {
                to: to.clone(),
                since: now,
            };
            append
                .documents
                .push(HandOvers::document(owner, Some(&handed)));
            append.revises = true;
        }
        Ok(append)
    }

    /// The declared workloads whose open tasks it takes.
    fn holds(&self, workload: &Workload) -> bool {
        match self {
            Self::Owner(name) => *name == workload.owner,
            Self::Workload(name) => *name == workload.name,
            Self::Issuer(name) => *name == workload.issuer,
            Self::Tenant => true,
        }
    }

    /// Whether it is an issuer of people on whose behalf a declared workload runs.
    fn vouches_for_people(&self, workload: &Workload) -> bool {
        match self {
            Self::Issuer(name) => {
                let acts_for = workload.acts_for.as_ref();
                acts_for.is_some_and(|acts_for| acts_for.from.contains(name))
            }
            Self::Owner(_) | Self::Workload(_) | Self::Tenant => false,
        }
    }
}

impl App {
    /// Stops something for good. See [`App::stop`].
    ///
    /// # Errors
    /// As [`App::stop`].
    pub async fn contain(
        &self,
        tenant: &Tenant,
        what: &Contained,
        by: &Actor,
        reason: &str,
    ) -> Result<Containment, Refused> {
        self.stop(tenant, what, &Stop::Block, by, reason).await
    }

    /// Stops something in one append, whatever the number of its open tasks: what they hold is
    /// refused from the answer on, and the sweep records their ends. Where it is blocked it starts
    /// nothing any more either; what is blocked already stays so.
    ///
    /// # Errors
    /// The refusal: there is nothing by that name, or the ledger cannot record.
    pub async fn stop(
        &self,
        tenant: &Tenant,
        what: &Contained,
        stop: &Stop,
        by: &Actor,
        reason: &str,
    ) -> Result<Containment, Refused> {
        let done = self.try_stop(tenant, what, stop, by, reason).await;
        done.map_err(|refusal| self.refuse(tenant, &trail("contain"), refusal))
    }

    async fn try_stop(
        &self,
        tenant: &Tenant,
        what: &Contained,
        stop: &Stop,
        by: &Actor,
        reason: &str,
    ) -> Result<Containment, Refusal> {
        check_known(tenant, what)?;
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        let open = self.open_by_counters(tenant, what).ok().flatten();
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let read = self.read_containment(tenant, what);
            // INVARIANT: after the epoch was read; who moves it in between has this decided anew.
            let size = || Ok(self.store.head(tenant.name())?.size);
            let (facts, size) = match read.and_then(|facts| Ok((facts, size()?))) {
                Ok(read) => read,
                Err(why) => return self.stop_unread(tenant, what, stop, &signed, why).await,
            };
            if let Some(since) = stopped_already(&facts, what, stop)? {
                return Ok(Containment {
                    since,
                    already: true,
                    open: Some(0),
                    recorded: self.held.keeps_all(tenant.name()).await,
                });
            }
            let mut append = what
                .append(stop, (&facts, size), now, note(&signed, what, stop)?)
                .map_err(|why| unavailable(&why))?;
            let loaded = tenant.loaded();
            if let Stop::HandOver(to) = stop {
                check_heir(&loaded.declared, what, to, &facts)?;
                // Whoever is declared by another state is looked for in that one.
                append.revision = Some(loaded.revision);
            }
            match self.held.end(tenant.name(), append).await {
                Ok(done) => {
                    self.take_owners(tenant, stop).await;
                    return Ok(Containment {
                        since: now,
                        already: false,
                        open,
                        recorded: done.is_durable(),
                    });
                }
                Err(AppendError::Revised) => tenant
                    .reload(self.store.as_ref(), now)
                    .await
                    .map_err(|why| unavailable(&why))?,
                // Somebody else was first: the next look says so.
                Err(AppendError::Stale(_) | AppendError::Conflict) => {}
                Err(why) => return Err(unavailable(&why)),
            }
        }
        Err(unavailable(&"the containment did not stand still"))
    }

    /// Stops it although nothing can be read: it is held, and what it is recorded with is read when
    /// the ledger is back.
    async fn stop_unread(
        &self,
        tenant: &Tenant,
        what: &Contained,
        stop: &Stop,
        signed: &Signature,
        why: Unavailable,
    ) -> Result<Containment, Refusal> {
        let now = self.now();
        if let Stop::HandOver(to) = stop {
            check_heir(&tenant.loaded().declared, what, to, &Facts::default())?;
        }
        let append = what
            .append(stop, (&Facts::default(), 0), now, note(signed, what, stop)?)
            .map_err(|why| unavailable(&why))?;
        let done = self.held.hold_append(tenant.name(), &append, why).await;
        Ok(Containment {
            since: now,
            already: false,
            open: None,
            recorded: done.is_durable(),
        })
    }

    /// Has what is declared show who answers since. Whoever decides by the former state is told to
    /// load the new one by the store, whatever becomes of this.
    async fn take_owners(&self, tenant: &Tenant, stop: &Stop) {
        match stop {
            Stop::End | Stop::Block => {}
            Stop::HandOver(_) => self.catch_up(tenant).await,
        }
    }

    /// Loads the declared state that is in force by the store, where it is another.
    pub(super) async fn catch_up(&self, tenant: &Tenant) {
        if let Err(why) = tenant.reload(self.store.as_ref(), self.now()).await {
            tracing::error!(%why, tenant = %tenant.name(), "the declared state in force cannot be loaded yet");
        }
    }

    /// How many open tasks the counters of its declared workloads have: it takes no time, whatever
    /// is open. None where tasks of other workloads may rely on it too, for no counter knows which.
    fn open_by_counters(
        &self,
        tenant: &Tenant,
        what: &Contained,
    ) -> Result<Option<u64>, Unavailable> {
        let loaded = tenant.loaded();
        let workloads = || loaded.declared.workloads.values();
        if workloads().any(|found| what.vouches_for_people(&found.workload)) {
            return Ok(None);
        }
        workloads()
            .filter(|found| what.holds(&found.workload))
            .map(|found| Ok(self.counts_of(tenant, &found.workload.name)?.open))
            .sum::<Result<u64, Unavailable>>()
            .map(Some)
    }

    /// Lifts a containment. What ended by it stays ended.
    ///
    /// # Errors
    /// The refusal: it is not contained, or the ledger cannot record.
    pub async fn lift(
        &self,
        tenant: &Tenant,
        what: &Contained,
        by: &Actor,
        reason: &str,
    ) -> Result<(), Refused> {
        let done = self.try_lift(tenant, what, by, reason).await;
        done.map_err(|refusal| self.refuse(tenant, &trail("lift"), refusal))
    }

    async fn try_lift(
        &self,
        tenant: &Tenant,
        what: &Contained,
        by: &Actor,
        reason: &str,
    ) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS {
            let facts = self.containment(tenant, what)?;
            let (append, given_back) = lifting(what, &facts, self.now(), by, reason)?;
            match self.store.append(tenant.name(), append).await {
                Ok(_) if given_back => {
                    self.catch_up(tenant).await;
                    return Ok(());
                }
                Ok(_) => return Ok(()),
                // It was stopped once more, or handed over, meanwhile: the next look says so.
                Err(AppendError::Stale(_) | AppendError::Conflict) => {}
                Err(why) => return Err(unavailable(&why)),
            }
        }
        Err(unavailable(&"the containment did not stand still"))
    }

    /// Visits every open task of a tenant, a page at a time.
    pub(super) fn each_open(
        &self,
        tenant: &Tenant,
        mut visit: impl FnMut(&OpenTask),
    ) -> Result<(), Unavailable> {
        let mut cursor = None;
        loop {
            let page = self
                .store
                .open(tenant.name(), &OpenFilter::All, cursor, 1024)?;
            for open in &page {
                visit(open);
            }
            match page.last() {
                Some(last) => cursor = Some(last.task.id),
                None => return Ok(()),
            }
        }
    }

    pub(super) fn containment(&self, tenant: &Tenant, what: &Contained) -> Result<Facts, Refusal> {
        self.read_containment(tenant, what)
            .map_err(|why| unavailable(&why))
    }

    fn read_containment(&self, tenant: &Tenant, what: &Contained) -> Result<Facts, Unavailable> {
        let query = FactsQuery {
            epochs: &[what.epoch()],
            documents: Some(Moves::documents()),
            ..FactsQuery::default()
        };
        self.store.facts(tenant.name(), &query)
    }
}

fn trail(asked: &'static str) -> Trail {
    Trail {
        asked,
        ..Trail::default()
    }
}

fn standing<'a>(facts: &'a Facts, what: &Contained) -> Option<&'a Block> {
    facts.blocks.get(&what.block())
}

/// What lifts a containment as these facts have it, and whether workloads are given back by it.
fn lifting(
    what: &Contained,
    facts: &Facts,
    now: Time,
    by: &Actor,
    reason: &str,
) -> Result<(Append, bool), Refusal> {
    if standing(facts, what).is_none() {
        return Err(Refusal::new(Rule::NotFound)
            .field("block")
            .wanted("a containment that stands")
            .got(what.block().to_string()));
    }
    let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
    let mut data = what.data();
    // An owner that comes back answers for the own workloads again (docs/decisions/0039).
    let handed = HandOvers::of(&facts.documents).map_err(|why| unavailable(&why))?;
    let given_back = match what {
        Contained::Owner(owner) => handed.of_owner(owner).map(|handed| (owner, handed)),
        Contained::Workload(_) | Contained::Issuer(_) | Contained::Tenant => None,
    };
    if let (Some((_, handed)), Some(members)) = (given_back, data.as_object_mut()) {
        members.insert("from".to_owned(), handed.to.as_str().into());
    }
    let append = Append {
        now,
        documents: given_back
            .map(|(owner, _)| HandOvers::document(owner, None))
            .into_iter()
            .collect(),
        revises: given_back.is_some(),
        notes: vec![Note {
            kind: "block.lifted",
            data: signed.sign(data),
            annex: Some(signed.annex().map_err(|why| unavailable(&why))?),
        }],
        lifts: vec![what.block()],
        // Whatever stops it moves its epoch, a hand-over of what is offboarded already too.
        relies: facts.epochs.clone(),
        ..Append::default()
    };
    Ok((append, given_back.is_some()))
}

/// The entry that records a stop.
pub(super) fn stopped(stop: &Stop, data: String, annex: Option<Annex>) -> Note {
    match stop {
        Stop::End => Note {
            kind: "rights.removed",
            data,
            annex,
        },
        Stop::Block | Stop::HandOver(_) => Note {
            kind: "block.set",
            data,
            annex,
        },
    }
}

/// Whether an open task is over, recorded or not.
pub(super) fn is_over(open: &OpenTask, now: Time) -> bool {
    open.stale.is_some() || open.task.lapsed(now, open.heard).is_some()
}

/// The entry of a stop with who gave it and why.
fn note(signed: &Signature, what: &Contained, stop: &Stop) -> Result<Note, Refusal> {
    let mut data = what.data();
    if let Some(members) = data.as_object_mut() {
        match stop {
            Stop::End => {
                members.insert("cause".to_owned(), what.cause(stop).word().into());
            }
            Stop::Block => {}
            Stop::HandOver(to) => {
                members.insert("to".to_owned(), to.as_str().into());
            }
        }
    }
    let annex = signed.annex().map_err(|why| unavailable(&why))?;
    Ok(stopped(stop, signed.sign(data), Some(annex)))
}

/// Since when it is stopped as is asked for; none where there is something to do.
pub(super) fn stopped_already(
    facts: &Facts,
    what: &Contained,
    stop: &Stop,
) -> Result<Option<Time>, Refusal> {
    let since = standing(facts, what).map(|block| block.since);
    match (stop, what) {
        (Stop::End, _) => Ok(None),
        (Stop::Block, _) => Ok(since),
        (Stop::HandOver(to), Contained::Owner(owner)) => {
            let handed = HandOvers::of(&facts.documents).map_err(|why| unavailable(&why))?;
            match (since, handed.of_owner(owner)) {
                (Some(since), Some(handed)) if handed.to == *to => Ok(Some(since)),
                (Some(_), Some(handed)) => Err(Refusal::new(Rule::Blocked)
                    .field("to")
                    .wanted("an owner whose workloads were not handed over yet")
                    .got(format!("they are {}'s since {}", handed.to, handed.since))
                    .hint(format!(
                        "offboard {} to the next one, name another owner in the files, or restore {owner} first",
                        handed.to
                    ))),
                (Some(_) | None, _) => Ok(None),
            }
        }
        (Stop::HandOver(_), Contained::Workload(_) | Contained::Issuer(_) | Contained::Tenant) => {
            Err(only_owners())
        }
    }
}

/// Checks that somebody is there who can answer for what is handed over.
pub(super) fn check_heir(
    declared: &Declared,
    what: &Contained,
    to: &Name,
    facts: &Facts,
) -> Result<(), Refusal> {
    let Contained::Owner(owner) = what else {
        return Err(only_owners());
    };
    let refused = |rule, wanted: &str| {
        Err(Refusal::new(rule)
            .field("to")
            .wanted(wanted)
            .got(to.as_str()))
    };
    if to == owner {
        return refused(
            Rule::Invalid,
            "another owner than the one that is offboarded",
        );
    }
    if !declared.owners.contains_key(to) {
        return refused(Rule::NotFound, "a declared owner");
    }
    let offboarded = BlockOn::Owner(to.clone());
    if facts.blocks.stands(&offboarded) {
        return refused(Rule::Blocked, "an owner that is not offboarded");
    }
    Ok(())
}

fn only_owners() -> Refusal {
    Refusal::new(Rule::Invalid)
        .field("to")
        .wanted("nobody, but for an owner")
        .got("somebody to hand over to")
}

/// Checks that there is what is to be contained: a slip of the pen must not pass for containment.
pub(super) fn check_known(tenant: &Tenant, what: &Contained) -> Result<(), Refusal> {
    let declared = &tenant.loaded().declared;
    let (known, wanted, got) = match what {
        Contained::Owner(name) => (declared.owners.contains_key(name), "a declared owner", name),
        Contained::Workload(name) => (
            declared.workloads.contains_key(name),
            "a declared workload",
            name,
        ),
        Contained::Issuer(name) => (
            declared.issuers.contains_key(name),
            "a declared issuer",
            name,
        ),
        Contained::Tenant => return Ok(()),
    };
    if known {
        return Ok(());
    }
    Err(Refusal::new(Rule::NotFound)
        .field("name")
        .wanted(wanted)
        .got(got.as_str()))
}
