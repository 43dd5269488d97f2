//! Containment: what an operator stops at once and for good, apart from files: owners, workloads, the tenant.

use dayfly_domain::{Block, BlockOn, Cause, Epoch, EpochOf, Name, Refusal, Rule, Time};
use dayfly_store::{
    Append, AppendError, Facts, FactsQuery, Note, OpenFilter, OpenTask, Unavailable,
};
use serde_json::json;

use super::actor::{Actor, Signature};
use super::end::ATTEMPTS;
use super::moved::Moves;
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};

/// What is contained as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contained {
    /// An owner, offboarded.
    Owner(Name),
    /// A workload, disabled.
    Workload(Name),
    /// The tenant, frozen.
    Tenant,
}

/// How something is contained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Containment {
    /// Since when.
    pub since: Time,
    /// Whether it was before it was asked for.
    pub already: bool,
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
            Self::Tenant => BlockOn::Tenant,
        }
    }

    /// What a block contains; none when it stands on a series of attempts.
    pub(super) fn of(block: &BlockOn) -> Option<Self> {
        match block {
            BlockOn::Series { .. } => None,
            BlockOn::Owner(name) => Some(Self::Owner(name.clone())),
            BlockOn::Workload(name) => Some(Self::Workload(name.clone())),
            BlockOn::Tenant => Some(Self::Tenant),
        }
    }

    /// The epoch that moves with it.
    pub(super) fn epoch(&self) -> EpochOf {
        match self {
            Self::Owner(name) => EpochOf::Owner(name.clone()),
            Self::Workload(name) => EpochOf::Workload(name.clone()),
            Self::Tenant => EpochOf::Tenant,
        }
    }

    /// Why its open tasks end (docs/decisions/0024).
    const fn cause(&self) -> Cause {
        match self {
            Self::Owner(_) => Cause::OwnerOffboarded,
            Self::Workload(_) => Cause::WorkloadDisabled,
            Self::Tenant => Cause::Operator,
        }
    }

    /// What its entries say, under names by which they are found.
    fn data(&self) -> serde_json::Value {
        let on = self.block().to_string();
        match self {
            Self::Owner(name) => json!({"on": on, "owner": name}),
            Self::Workload(name) => json!({"on": on, "workload": name}),
            Self::Tenant => json!({"on": on}),
        }
    }

    /// What records it by this note, on facts that hold its epoch and the documents of moves.
    pub(super) fn append(
        &self,
        facts: &Facts,
        now: Time,
        note: Note,
    ) -> Result<Append, Unavailable> {
        let moves = Moves::of(&facts.documents)?;
        let of = self.epoch();
        let epoch = facts.epochs.iter().find(|epoch| epoch.of == of).cloned();
        let epoch = epoch.unwrap_or(Epoch { of, at: 0 });
        Ok(Append {
            now,
            notes: vec![note],
            documents: vec![moves.with(&epoch, self.cause(), now)],
            moves: vec![self.epoch()],
            // INVARIANT: the document says to which value the epoch moves.
            relies: vec![epoch],
            unblocked: vec![self.block()],
            blocks: vec![Block {
                on: self.block(),
                task: None,
                since: now,
            }],
            ..Append::default()
        })
    }
}

impl App {
    /// Contains something in one append, whatever the number of its open tasks: it starts nothing
    /// any more, and what its open tasks hold is refused from the answer on. The sweep records
    /// their ends. What is contained already stays so.
    ///
    /// # Errors
    /// The refusal: there is nothing by that name, or the ledger cannot record.
    pub async fn contain(
        &self,
        tenant: &Tenant,
        what: &Contained,
        by: &Actor,
        reason: &str,
    ) -> Result<Containment, Refused> {
        let done = self.try_contain(tenant, what, by, reason).await;
        done.map_err(|refusal| self.refuse(tenant, &trail("contain"), refusal))
    }

    async fn try_contain(
        &self,
        tenant: &Tenant,
        what: &Contained,
        by: &Actor,
        reason: &str,
    ) -> Result<Containment, Refusal> {
        check_known(tenant, what)?;
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let facts = match self.read_containment(tenant, what) {
                Ok(facts) => facts,
                Err(why) => return self.contain_unread(tenant, what, &signed, why).await,
            };
            if let Some(block) = standing(&facts, what) {
                return Ok(Containment {
                    since: block.since,
                    already: true,
                    recorded: true,
                });
            }
            let append = what
                .append(&facts, now, note(&signed, what)?)
                .map_err(|why| unavailable(&why))?;
            match self.held.end(tenant.name(), append).await {
                Ok(done) => {
                    return Ok(Containment {
                        since: now,
                        already: false,
                        recorded: done.is_durable(),
                    });
                }
                // Somebody else was first: the next look says so.
                Err(AppendError::Stale(_) | AppendError::Conflict) => {}
                Err(why) => return Err(unavailable(&why)),
            }
        }
        Err(unavailable(&"the containment did not stand still"))
    }

    /// Contains although nothing can be read: it is held, and what it is recorded with is read when
    /// the ledger is back.
    async fn contain_unread(
        &self,
        tenant: &Tenant,
        what: &Contained,
        signed: &Signature,
        why: Unavailable,
    ) -> Result<Containment, Refusal> {
        let now = self.now();
        let append = what
            .append(&Facts::default(), now, note(signed, what)?)
            .map_err(|why| unavailable(&why))?;
        let done = self.held.hold_append(tenant.name(), &append, why).await;
        Ok(Containment {
            since: now,
            already: false,
            recorded: done.is_durable(),
        })
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
        let facts = self.containment(tenant, what)?;
        if standing(&facts, what).is_none() {
            return Err(Refusal::new(Rule::NotFound)
                .field("block")
                .wanted("a containment that stands")
                .got(what.block().to_string()));
        }
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        let append = Append {
            now: self.now(),
            notes: vec![Note {
                kind: "block.lifted",
                data: signed.sign(what.data()),
                annex: Some(signed.annex().map_err(|why| unavailable(&why))?),
            }],
            lifts: vec![what.block()],
            ..Append::default()
        };
        let done = self.store.append(tenant.name(), append).await;
        done.map(|_| ()).map_err(|why| unavailable(&why))
    }

    /// How many open tasks a containment would end. It looks at every open task, so it belongs on
    /// a thread that may wait.
    ///
    /// # Errors
    /// The refusal: there is nothing by that name, or the store cannot answer.
    pub fn would_end(&self, tenant: &Tenant, what: &Contained) -> Result<u64, Refused> {
        let counted = check_known(tenant, what).and_then(|()| {
            self.count_relying(tenant, &what.epoch())
                .map_err(|why| unavailable(&why))
        });
        counted.map_err(|refusal| self.refuse(tenant, &trail("contain"), refusal))
    }

    fn count_relying(&self, tenant: &Tenant, of: &EpochOf) -> Result<u64, Unavailable> {
        let mut count = 0;
        let now = self.now();
        self.each_open(tenant, |open| {
            let relies = open.task.epochs.iter().any(|epoch| epoch.of == *of);
            let over = open.stale.is_some() || open.task.lapsed(now, open.heard).is_some();
            count += u64::from(relies && !over);
        })?;
        Ok(count)
    }

    /// Visits every open task of a tenant, a page at a time.
    fn each_open(
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

    fn containment(&self, tenant: &Tenant, what: &Contained) -> Result<Facts, Refusal> {
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
    let on = what.block();
    facts.blocks.iter().find(|block| block.on == on)
}

/// The entry of a containment: who set it and why.
fn note(signed: &Signature, what: &Contained) -> Result<Note, Refusal> {
    Ok(Note {
        kind: "block.set",
        data: signed.sign(what.data()),
        annex: Some(signed.annex().map_err(|why| unavailable(&why))?),
    })
}

/// Checks that there is what is to be contained: a slip of the pen must not pass for containment.
fn check_known(tenant: &Tenant, what: &Contained) -> Result<(), Refusal> {
    let declared = &tenant.loaded().declared;
    let (known, wanted, got) = match what {
        Contained::Owner(name) => (declared.owners.contains_key(name), "a declared owner", name),
        Contained::Workload(name) => (
            declared.workloads.contains_key(name),
            "a declared workload",
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
