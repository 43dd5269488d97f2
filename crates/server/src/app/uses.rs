//! Decisions: a resource asks whether the bearer of a credential may do one thing. The record
//! answers, and each answer is recorded before it is given.
//!
//! A denial is a decision like any other. What cannot be recorded is no decision: it is refused, and
//! the resource allows nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dayfly_domain::access::{AskedUse, Detail, RawField, RequestDetail};
use dayfly_domain::{
    Block, BlockOn, Claims, Name, Refusal, RefusalId, Rule, Stage, Task, UseAsked, check_unblocked,
    check_use, rights_removed,
};
use dayfly_store::{AppendError, Observed, Use};

use super::authenticate::{OwnToken, ended};
use super::bearer::{Bearer, Party, Shown};
use super::permit::{UseAsking, permit_use};
use super::refuse::{Refused, Trail, unavailable};
use super::renew::{declared_workload, others_of, proving, relies_of};
use super::replay::replayed;
use super::tenant::Loaded;
use super::used::{Allowed, Denied};
use super::{App, Tenant};

/// How often a decision is made anew while what is declared moves under it.
const ATTEMPTS: usize = 16;

/// One thing that is to be done.
#[derive(Clone, Debug)]
pub struct UseQuestion {
    /// By whom, of those who are shown.
    pub by: usize,
    /// The action.
    pub action: String,
    /// The type of the detail.
    pub kind: String,
    /// Its identifier; the URL of the resource where it is about no part of it.
    pub identifier: String,
    /// Its other fields.
    pub fields: BTreeMap<String, RawField>,
    /// What the resource says of the request, for policies.
    pub said: Claims,
}

/// Up to which answer questions are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// All of them.
    #[default]
    Last,
    /// The first that is denied.
    Denied,
    /// The first that is allowed.
    Allowed,
}

/// What a resource asks at once.
#[derive(Clone, Debug)]
pub struct UseQuestions {
    /// The bearers.
    pub shown: Vec<Shown>,
    /// What they are to do, in order.
    pub asked: Vec<UseQuestion>,
    /// Where to stop.
    pub until: Until,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Why not, in a word that the resource may know, and the refusal that `why` explains to
    /// others, where it does; none where it is allowed.
    pub denied: Option<Denial>,
    /// The position of the entry that records it. Where no live credential was proven there is none.
    pub entry: Option<u64>,
}

/// Why a use is denied: a word, and the refusal that is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The word.
    pub word: &'static str,
    /// The refusal; none where the bearer has proven nothing, and where one client was denied too
    /// much in a minute: whoever only asks fills neither what is remembered nor the ledger.
    pub refusal: Option<RefusalId>,
}

/// A use that was judged: one that is to be recorded, and one that cannot be.
enum Judged {
    Record(Box<Recording>),
    Denied(Denial),
}

/// A use that is to be recorded, and why it is denied or what it is a use of.
struct Recording {
    used: Use,
    verdict: Result<Counts, Denial>,
}

/// What an allowed use counts for: the workloads of its chain, and the claims that fill theirs.
struct Counts {
    detail: Detail,
    by: Vec<(Name, Claims)>,
}

impl App {
    /// Decides what an authenticated resource asks, up to where it wants to know.
    ///
    /// # Errors
    /// Where the record cannot be asked or cannot record: nothing is allowed then.
    pub async fn decide_uses(
        &self,
        tenant: &Tenant,
        resource: &Name,
        questions: &UseQuestions,
        trail: &Trail,
    ) -> Result<Vec<Decided>, Refused> {
        let refuse = |refusal| self.refuse(tenant, trail, refusal);
        let mut parties: Vec<_> = questions
            .shown
            .iter()
            .map(|shown| self.party(tenant, resource, shown, trail))
            .collect();
        each_by_a_proof_of_its_own(&mut parties);
        for _ in 0..ATTEMPTS {
            let deciding = Deciding {
                app: self,
                tenant,
                resource,
                loaded: tenant.loaded(),
            };
            let judged = deciding.judge(questions, &parties).map_err(refuse)?;
            let uses: Vec<Use> = judged.iter().filter_map(Judged::to_record).collect();
            let observed = if uses.is_empty() {
                Ok(Vec::new())
            } else {
                self.store.observe(tenant.name(), uses).await
            };
            match observed {
                Ok(observed) if observed.contains(&Observed::Revised) => {
                    // All of a call are judged under one revision, so none of them is recorded.
                    let revised = self.after_failure(tenant, AppendError::Revised, false);
                    revised.await.map_err(refuse)?;
                }
                Ok(observed) => {
                    let decided = deciding.settle(questions, &parties, judged, observed);
                    return decided.map_err(refuse);
                }
                Err(error) => match self.after_failure(tenant, error, false).await {
                    Ok(()) => {}
                    Err(refusal) => return Err(refuse(refusal)),
                },
            }
        }
        Err(refuse(unavailable(
            &"the declared state did not stand still",
        )))
    }
}

/// Decides under one revision of what is declared.
struct Deciding<'a> {
    app: &'a App,
    tenant: &'a Tenant,
    resource: &'a Name,
    loaded: Arc<Loaded>,
}

impl Deciding<'_> {
    /// Judges in order, up to where the answers stop.
    fn judge(
        &self,
        questions: &UseQuestions,
        parties: &[Party<'_>],
    ) -> Result<Vec<Judged>, Refusal> {
        let mut judged = Vec::with_capacity(questions.asked.len());
        for question in &questions.asked {
            let party = party_of(parties, question)?;
            let one = match &party.bearer {
                Ok(bearer) => self.judge_one(bearer, &party.trail, question)?,
                Err(refusal) => {
                    check_answered(refusal)?;
                    Judged::Denied(self.explain(&party.trail, refusal.clone()))
                }
            };
            let allowed = one.is_allowed();
            judged.push(one);
            if questions.until.stops(allowed) {
                break;
            }
        }
        Ok(judged)
    }

    fn judge_one(
        &self,
        bearer: &Bearer<'_>,
        trail: &Trail,
        question: &UseQuestion,
    ) -> Result<Judged, Refusal> {
        let own = &bearer.own;
        let mut trail = trail.clone();
        let now = self.app.now();
        let open = match self.app.check_live(self.tenant, own, now) {
            Ok(open) => open,
            Err(refusal) => {
                check_answered(&refusal)?;
                return Ok(Judged::Denied(self.explain(&trail, refusal)));
            }
        };
        let of = Allowed {
            credential: own.id,
            resource: self.resource,
            question,
        };
        let (note, verdict) = match self.may(&open, own, question, &mut trail) {
            Ok((used, permitted)) => {
                let counts = Counts {
                    detail: used.detail().clone(),
                    by: filled_by(&open.task, own.id.client.number),
                };
                (of.note(&used, permitted), Ok(counts))
            }
            Err(refusal) => {
                check_answered(&refusal)?;
                let word = word(refusal.rule);
                if !self.app.is_recorded(self.tenant, own.id.client, now) {
                    return Ok(Judged::Denied(Denial {
                        word,
                        refusal: None,
                    }));
                }
                let (refused, explained) = self.app.explain(self.tenant, &trail, refusal);
                let denied = Denied {
                    of: &of,
                    explained: &explained,
                };
                let refusal = Some(refused.id);
                (denied.note(), Err(Denial { word, refusal }))
            }
        };
        let used = Use {
            client: own.id.client,
            now,
            relies: relies_of(&open.task, own.id.client.number),
            revision: Some(self.loaded.revision),
            unblocked: BlockOn::before_client(&open.task, own.id.client.number),
            spend: bearer.spend.clone(),
            limit: None,
            note: note.map_err(|why| unavailable(&why))?,
        };
        Ok(Judged::Record(Box::new(Recording { used, verdict })))
    }

    /// Whether declaration, grant and policies allow it.
    fn may(
        &self,
        open: &dayfly_store::OpenTask,
        own: &OwnToken,
        question: &UseQuestion,
        trail: &mut Trail,
    ) -> Result<(AskedUse, crate::policy::PermittedUse), Refusal> {
        let (app, tenant, loaded) = (self.app, self.tenant, &self.loaded);
        let (task, number) = (&open.task, own.id.client.number);
        let workload = declared_workload(loaded, &task.workload)?;
        let others = others_of(loaded, task, number)?;
        let acting = declared_workload(loaded, task.acts_as(number))?;
        let catalog = &loaded.declared.catalog;
        let held = app.held_by(tenant, own, task.version)?;
        let request = request_of(question, catalog.url_of(self.resource))?;
        let used = check_use(
            task,
            &UseAsked {
                client: number,
                held: &held,
                request: &request,
                resource: self.resource,
                workload,
                others: &others,
                catalog,
            },
        )?;
        let facts = app.facts_of(tenant, &acting.name)?;
        check_unblocked(&facts.blocks, task, number)?;
        let claims = app.claims_of(tenant, proving(task, number))?;
        let person = app.person_of(tenant, task, number, trail)?;
        let asking = UseAsking {
            loaded,
            workload: acting,
            claims: &claims,
            counts: facts.counts,
            now: app.now(),
            person: person.as_ref(),
            said: &question.said,
        };
        let permitted = permit_use(used.detail(), &asking, trail)?;
        Ok((used, permitted))
    }

    /// What became of each: what was recorded stands, but for what is over by now.
    fn settle(
        &self,
        questions: &UseQuestions,
        parties: &[Party<'_>],
        judged: Vec<Judged>,
        observed: Vec<Observed>,
    ) -> Result<Vec<Decided>, Refusal> {
        let mut observed = observed.into_iter();
        let mut decided = Vec::with_capacity(judged.len());
        for (one, question) in judged.into_iter().zip(&questions.asked) {
            let (denied, entry) = match one {
                Judged::Denied(denied) => (Some(denied), None),
                Judged::Record(recording) => {
                    let lost = || unavailable(&"a use was judged and not recorded");
                    let observed = observed.next().ok_or_else(lost)?;
                    self.settle_one(party_of(parties, question)?, *recording, observed)?
                }
            };
            let allowed = denied.is_none();
            decided.push(Decided { denied, entry });
            // What follows was judged, and may be recorded, as if this had been as it was judged.
            if questions.until.stops(allowed) {
                break;
            }
        }
        Ok(decided)
    }

    /// Why a use that was handed over is denied, where it is, and the position of its entry.
    fn settle_one(
        &self,
        party: &Party<'_>,
        recording: Recording,
        observed: Observed,
    ) -> Result<(Option<Denial>, Option<u64>), Refusal> {
        let entry = match observed {
            Observed::Recorded(entry) => Some(entry),
            Observed::Ended(_)
            | Observed::Stale(_)
            | Observed::Revised
            | Observed::Blocked(_)
            | Observed::Exhausted
            | Observed::Spent(_)
            | Observed::Forgotten => None,
        };
        let counts = match recording.verdict {
            Ok(counts) => counts,
            Err(denied) => return Ok((Some(denied), entry)),
        };
        if let Some(over) = self.over(party, observed)? {
            return Ok((Some(self.explain(&party.trail, over)), entry));
        }
        let tally = self.app.held.tally();
        let now = self.app.now();
        tally.used(self.tenant.name(), &counts.by, &counts.detail, now);
        Ok((None, entry))
    }

    /// Why an allowed use is not allowed after all. One more look after the record, as before a
    /// signature: an end or a block that was acknowledged since then wins, and so does a key given up.
    fn over(&self, party: &Party<'_>, verdict: Observed) -> Result<Option<Refusal>, Refusal> {
        match verdict {
            Observed::Recorded(_) => {}
            Observed::Ended(cause) => return Ok(Some(ended(cause.word()))),
            Observed::Stale(of) => return Ok(Some(rights_removed(&of))),
            Observed::Spent(_) => return Ok(Some(replayed())),
            Observed::Forgotten => {
                return Ok(Some(replayed().got("one of a day that is forgotten")));
            }
            Observed::Blocked(on) => {
                let since = self.app.now();
                return Ok(Some(
                    Block {
                        on,
                        task: None,
                        since,
                    }
                    .refusal(),
                ));
            }
            Observed::Revised | Observed::Exhausted => {
                return Err(unavailable(&"a use was not recorded"));
            }
        }
        let Ok(bearer) = &party.bearer else {
            return Err(unavailable(&"nobody was recorded"));
        };
        let looked = self.app.own_token(self.tenant, bearer.token);
        let looked = looked.and_then(|own| {
            let now = self.app.now();
            let (open, blocks) = self.app.live_beside_blocks(self.tenant, &own, now)?;
            check_unblocked(&blocks, &open.task, own.id.client.number)
        });
        match looked {
            Ok(()) => Ok(None),
            Err(refusal) => {
                check_answered(&refusal)?;
                Ok(Some(refusal))
            }
        }
    }

    /// Denies, and explains why where it is known whose job it is about.
    fn explain(&self, trail: &Trail, refusal: Refusal) -> Denial {
        let word = word(refusal.rule);
        let known = match (&trail.client, &trail.workload) {
            (None, None) => false,
            (Some(client), _) => self.app.is_recorded(self.tenant, *client, self.app.now()),
            (None, Some(workload)) => self.app.is_recorded(self.tenant, workload, self.app.now()),
        };
        let refusal = known.then(|| self.app.explain(self.tenant, trail, refusal).0.id);
        Denial { word, refusal }
    }
}

/// Of those who are shown with the same proof only the first has shown it: a proof is of one request
/// (RFC 9449, section 11.1).
fn each_by_a_proof_of_its_own(parties: &mut [Party<'_>]) {
    let mut seen = BTreeSet::new();
    for party in parties {
        let Ok(bearer) = &party.bearer else { continue };
        let spends = bearer.spend.as_ref();
        if spends.is_some_and(|spend| !seen.insert((spend.key.at, spend.key.digest))) {
            party.bearer = Err(replayed());
        }
    }
}

/// Who is to do what is asked.
fn party_of<'p, 'a>(
    parties: &'p [Party<'a>],
    question: &UseQuestion,
) -> Result<&'p Party<'a>, Refusal> {
    let party = parties.get(question.by);
    party.ok_or_else(|| unavailable(&"a question names nobody"))
}

impl Until {
    const fn stops(self, allowed: bool) -> bool {
        match self {
            Self::Last => false,
            Self::Denied => !allowed,
            Self::Allowed => allowed,
        }
    }
}

impl Judged {
    const fn is_allowed(&self) -> bool {
        match self {
            Self::Record(recording) => recording.verdict.is_ok(),
            Self::Denied(_) => false,
        }
    }

    fn to_record(&self) -> Option<Use> {
        match self {
            Self::Record(recording) => Some(recording.used.clone()),
            Self::Denied(_) => None,
        }
    }
}

/// The workloads that a client acts as and above it, each with the claims that fill its ceiling.
fn filled_by(task: &Task, number: u32) -> Vec<(Name, Claims)> {
    let chain = task.chain(number).filter_map(|(_, client)| {
        let workload = match (&client.own, client.parent) {
            (Some(own), _) => &own.workload,
            (None, None) => &task.workload,
            (None, Some(_)) => return None,
        };
        Some((workload.clone(), client.filled.clone()))
    });
    chain.collect()
}

/// A failure of the record is never a denial.
fn check_answered(refusal: &Refusal) -> Result<(), Refusal> {
    if matches!(refusal.rule, Rule::Unavailable | Rule::Busy) {
        return Err(refusal.clone());
    }
    Ok(())
}

/// The detail that is asked about. Type, action and identifier have their own places.
fn request_of(question: &UseQuestion, url: &str) -> Result<RequestDetail, Refusal> {
    let own = ["type", "locations", "actions", "identifier"];
    if let Some(name) = own.iter().find(|name| question.fields.contains_key(**name)) {
        return Err(Refusal::new(Rule::DetailField)
            .field(format!("resource.properties.{name}"))
            .wanted("`resource.type`, `resource.id` and `action.name` in its place")
            .got(*name));
    }
    let mut fields = question.fields.clone();
    let action = RawField::List(vec![question.action.clone()]);
    fields.insert("actions".to_owned(), action);
    // An identifier is never a URL, for it has no empty segment.
    if question.identifier != url {
        let identifier = RawField::Text(question.identifier.clone());
        fields.insert("identifier".to_owned(), identifier);
    }
    Ok(RequestDetail {
        kind: question.kind.clone(),
        locations: None,
        fields,
    })
}

/// What the resource may know of a denial: which of its own means would help. Why a credential is
/// not live, what a ceiling holds and what a policy looks at is for operator and owner.
const fn word(rule: Rule) -> &'static str {
    match rule.stage() {
        Stage::Binding => "key_proof",
        Stage::Access | Stage::Delegation => "access",
        Stage::Policy => "policy",
        Stage::Request => "request",
        Stage::Proof | Stage::Match | Stage::Task | Stage::Ledger => "inactive",
    }
}
