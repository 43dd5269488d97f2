//! Decisions: a resource asks whether the bearer of a credential may do one thing. The record
//! answers, and each answer is recorded before it is given.
//!
//! A denial is a decision like any other. What cannot be recorded is no decision: it is refused, and
//! the resource allows nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use dayfly_domain::access::{AskedUse, RawField, RequestDetail};
use dayfly_domain::{
    Claims, Name, Refusal, RefusalId, Rule, Spent, Stage, UseAsked, check_unblocked, check_use,
    rights_removed,
};
use dayfly_store::{AppendError, Observed, Spend, Use};
use dayfly_token::alg::Alg;
use dayfly_token::dpop::{DpopExpect, MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, VerifiedDpop};
use dayfly_token::htu::Htu;

use super::authenticate::{OwnToken, ended};
use super::permit::{UseAsking, permit_use};
use super::refuse::{Refused, Trail, unavailable};
use super::renew::{declared_workload, others_of, proving, relies_of};
use super::replay::{one_time, replayed};
use super::tenant::Loaded;
use super::used::{Allowed, Denied};
use super::{App, Tenant};
use crate::verify;

/// How often a decision is made anew while what is declared moves under it.
const ATTEMPTS: usize = 16;
/// What a subject is, the only kind there is: the bearer of a credential.
pub const SUBJECT: &str = "credential";

/// The bearer of a credential, by what it showed to the resource that asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// What kind of subject it is said to be.
    pub kind: String,
    /// How the resource calls it. It names and gives nothing: a name of another is refused.
    pub id: String,
    /// The token.
    pub token: Option<String>,
    /// The DPoP proof.
    pub proof: Option<String>,
    /// The method of the request that both came with.
    pub method: Option<String>,
    /// The URL of it.
    pub url: Option<String>,
}

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
    /// others; none where it is allowed.
    pub denied: Option<(&'static str, RefusalId)>,
    /// The position of the entry that records it. Where no live credential was proven there is none.
    pub entry: Option<u64>,
}

/// Who has shown a live credential of this resource, and holds its key where it is bound to one.
struct Bearer<'a> {
    token: &'a str,
    own: Arc<OwnToken>,
    spend: Option<Spend>,
}

/// A use that was judged and is to be recorded, or none that could be.
enum Judged {
    Record(Box<Use>, Option<Refused>),
    Denied(Refused),
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
        let bearers: Vec<_> = questions
            .shown
            .iter()
            .map(|shown| self.bearer(tenant, resource, shown))
            .collect();
        for _ in 0..ATTEMPTS {
            let deciding = Deciding {
                app: self,
                tenant,
                resource,
                loaded: tenant.loaded(),
                trail,
            };
            let judged = deciding.judge(questions, &bearers).map_err(refuse)?;
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
                    let decided = deciding.settle(questions, &bearers, judged, observed);
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

    /// Checks what was shown: a token for this very resource that is live, and a proof by its key.
    fn bearer<'a>(
        &self,
        tenant: &Tenant,
        resource: &Name,
        shown: &'a Shown,
    ) -> Result<Bearer<'a>, Refusal> {
        if shown.kind != SUBJECT {
            return Err(Refusal::new(Rule::Invalid)
                .field("subject.type")
                .wanted(SUBJECT)
                .got(shown.kind.as_str()));
        }
        let token = shown.token.as_deref().ok_or_else(|| {
            Refusal::new(Rule::Credential)
                .field("subject.properties.token")
                .wanted("the token that the caller showed: an id is nobody's authority")
                .got("none")
        })?;
        let own = self.own_token(tenant, token)?;
        let loaded = tenant.loaded();
        let url = loaded.declared.catalog.url_of(resource);
        if own.audience != url {
            return Err(Refusal::new(Rule::Audience)
                .field("aud")
                .wanted(url)
                .got(own.audience.as_str()));
        }
        let names = [own.id.to_string(), own.id.client.to_string()];
        if own.subject != shown.id && !names.contains(&shown.id) {
            return Err(Refusal::new(Rule::Credential)
                .field("subject.id")
                .wanted("the `sub`, `client_id` or `jti` of the token")
                .got(shown.id.as_str()));
        }
        self.check_live(tenant, &own, self.now())?;
        let spend = self.prove_bearer(shown, token, &own)?;
        Ok(Bearer { token, own, spend })
    }

    /// Checks, for a bound credential, the proof that its key made for the request to the resource
    /// (RFC 9449, section 4.3). A nonce in it is the resource's own.
    fn prove_bearer(
        &self,
        shown: &Shown,
        token: &str,
        own: &OwnToken,
    ) -> Result<Option<Spend>, Refusal> {
        let (jkt, proof) = match (own.jkt, shown.proof.as_deref()) {
            (None, None) => return Ok(None),
            (None, Some(_)) => {
                return Err(Refusal::new(Rule::OtherKey)
                    .field("subject.properties.dpop")
                    .wanted("none, for a token that is bound to no key")
                    .got("a proof"));
            }
            (Some(_), None) => {
                return Err(Refusal::new(Rule::KeyProofMissing)
                    .field("subject.properties.dpop")
                    .wanted("a proof by the key that the token is bound to")
                    .got("none"));
            }
            (Some(jkt), Some(proof)) => (jkt, proof),
        };
        let method = of_request("subject.properties.method", shown.method.as_deref())?;
        let url = of_request("subject.properties.url", shown.url.as_deref())?;
        let htu = Htu::parse(url).map_err(|_| {
            Refusal::new(Rule::KeyProof)
                .field("subject.properties.url")
                .wanted("the absolute url of the request")
                .got(url)
        })?;
        let verified = VerifiedDpop::verify(
            proof,
            &DpopExpect {
                method,
                htu: &htu,
                now: self.now().seconds(),
                max_age_seconds: MAX_AGE_SECONDS,
                max_ahead_seconds: MAX_AHEAD_SECONDS,
                access_token: Some(token),
                algs: Alg::DEFAULT,
            },
        )
        .map_err(|why| verify::key_proof(&why))?;
        if verified.jkt().0 != jkt.0 {
            return Err(Refusal::new(Rule::OtherKey)
                .field("DPoP jwk")
                .wanted(jkt.to_string())
                .got(verified.jkt().to_string()));
        }
        Ok(Some(Spend {
            key: one_time(&verified),
            by: Spent {
                task: own.id.client.task,
                client: own.id.client.number,
            },
        }))
    }
}

/// What the request had that the proof was shown with.
fn of_request<'a>(field: &'static str, value: Option<&'a str>) -> Result<&'a str, Refusal> {
    value.ok_or_else(|| {
        Refusal::new(Rule::KeyProof)
            .field(field)
            .wanted("what the caller's request had")
            .got("none")
    })
}

/// Decides under one revision of what is declared.
struct Deciding<'a> {
    app: &'a App,
    tenant: &'a Tenant,
    resource: &'a Name,
    loaded: Arc<Loaded>,
    trail: &'a Trail,
}

impl Deciding<'_> {
    /// Judges in order, up to where the answers stop.
    fn judge(
        &self,
        questions: &UseQuestions,
        bearers: &[Result<Bearer<'_>, Refusal>],
    ) -> Result<Vec<Judged>, Refusal> {
        let mut judged = Vec::with_capacity(questions.asked.len());
        for question in &questions.asked {
            let one = match bearers.get(question.by) {
                Some(Ok(bearer)) => self.judge_one(bearer, question)?,
                Some(Err(refusal)) => {
                    check_answered(refusal)?;
                    Judged::Denied(self.explain(self.trail, refusal.clone()))
                }
                None => return Err(unavailable(&"a question names nobody")),
            };
            let allowed = one.is_allowed();
            judged.push(one);
            if questions.until.stops(allowed) {
                break;
            }
        }
        Ok(judged)
    }

    fn judge_one(&self, bearer: &Bearer<'_>, question: &UseQuestion) -> Result<Judged, Refusal> {
        let own = &bearer.own;
        let mut trail = Trail {
            task: Some(own.id.client.task),
            client: Some(own.id.client),
            resource: Some(self.resource.clone()),
            ..self.trail.clone()
        };
        let now = self.app.now();
        let open = match self.app.check_live(self.tenant, own, now) {
            Ok(open) => open,
            Err(refusal) => {
                check_answered(&refusal)?;
                return Ok(Judged::Denied(self.explain(&trail, refusal)));
            }
        };
        trail.workload = Some(open.task.workload.clone());
        let of = Allowed {
            credential: own.id,
            resource: self.resource,
            question,
        };
        let (note, refused) = match self.may(&open, own, question, &mut trail) {
            Ok((used, permitted)) => (of.note(&used, permitted), None),
            Err(refusal) => {
                check_answered(&refusal)?;
                let (refused, explained) = self.app.explain(self.tenant, &trail, refusal);
                let denied = Denied {
                    of: &of,
                    explained: &explained,
                };
                (denied.note(), Some(refused))
            }
        };
        let used = Use {
            client: own.id.client,
            now,
            relies: relies_of(&open.task, own.id.client.number),
            revision: Some(self.loaded.revision),
            spend: bearer.spend.clone(),
            limit: None,
            note: note.map_err(|why| unavailable(&why))?,
        };
        Ok(Judged::Record(Box::new(used), refused))
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
        bearers: &[Result<Bearer<'_>, Refusal>],
        judged: Vec<Judged>,
        observed: Vec<Observed>,
    ) -> Result<Vec<Decided>, Refusal> {
        let mut observed = observed.into_iter();
        let mut decided = Vec::with_capacity(judged.len());
        for (one, question) in judged.into_iter().zip(&questions.asked) {
            let (refused, verdict) = match one {
                Judged::Denied(refused) => (Some(refused), None),
                Judged::Record(_, refused) => (refused, observed.next()),
            };
            let entry = match verdict {
                Some(Observed::Recorded(entry)) => Some(entry),
                Some(_) | None => None,
            };
            let over = match (&refused, verdict) {
                (Some(_), _) => None,
                (None, Some(verdict)) => self.over(bearers.get(question.by), verdict)?,
                (None, None) => Some(unavailable(&"a use was judged and not recorded")),
            };
            let refused = refused.or_else(|| over.map(|why| self.explain(self.trail, why)));
            let denied = refused.map(|refused| (word(refused.refusal.rule), refused.id));
            let allowed = denied.is_none();
            decided.push(Decided { denied, entry });
            // What follows was judged, and may be recorded, as if this had been as it was judged.
            if questions.until.stops(allowed) {
                break;
            }
        }
        Ok(decided)
    }

    /// Why an allowed use is not allowed after all. One more look after the record, as before a
    /// signature: an end that was acknowledged since then wins, and so does a key given up.
    fn over(
        &self,
        bearer: Option<&Result<Bearer<'_>, Refusal>>,
        verdict: Observed,
    ) -> Result<Option<Refusal>, Refusal> {
        match verdict {
            Observed::Recorded(_) => {}
            Observed::Ended(cause) => return Ok(Some(ended(cause.word()))),
            Observed::Stale(of) => return Ok(Some(rights_removed(&of))),
            Observed::Spent(_) => return Ok(Some(replayed())),
            Observed::Revised | Observed::Exhausted => {
                return Err(unavailable(&"a use was not recorded"));
            }
        }
        let Some(Ok(bearer)) = bearer else {
            return Err(unavailable(&"a question names nobody"));
        };
        let looked = self.app.own_token(self.tenant, bearer.token);
        let looked = looked.and_then(|own| {
            let open = self.app.check_live(self.tenant, &own, self.app.now());
            open.map(|_| ())
        });
        match looked {
            Ok(()) => Ok(None),
            Err(refusal) => {
                check_answered(&refusal)?;
                Ok(Some(refusal))
            }
        }
    }

    fn explain(&self, trail: &Trail, refusal: Refusal) -> Refused {
        let trail = Trail {
            resource: Some(self.resource.clone()),
            ..trail.clone()
        };
        self.app.explain(self.tenant, &trail, refusal).0
    }
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
        matches!(self, Self::Record(_, None))
    }

    fn to_record(&self) -> Option<Use> {
        match self {
            Self::Record(used, _) => Some(used.as_ref().clone()),
            Self::Denied(_) => None,
        }
    }
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
