//! The evaluation of one request, and the value that only an evaluation can make.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::{Authorizer, Decision as Cedar, Entities, Entity, PolicySet, Request, Response};
use dayfly_domain::access::{Catalog, Detail};
use dayfly_domain::{Approval, Event, Name, Refusal, Rule, Workload};

use super::explain;
use super::facts::{Asked, Facts, Handed, Question};
use super::load::{Held, Statement};
use super::schema::{Action, TYPES, uid};
use super::slice::{Decisive, Key, Slice, SliceError};
use super::verdict::{ApprovalVerdict, Decision, ObservedVerdict, PolicyError, Recorded, Verdict};
use super::{Policies, State};

/// How much a policy's error may say.
const MESSAGE: usize = 512;

/// Events that policies permit, and what they said. Only [`Policies::permit`] makes one, from what
/// it was asked about, so that what is appended is what was evaluated.
#[derive(Debug)]
pub struct Permitted {
    events: Vec<Event>,
    start: Option<Recorded>,
    delegate: Option<Recorded>,
    issue: Recorded,
}

/// A use that policies permit, and what they said. Only [`Policies::permit_use`] makes one.
#[derive(Debug)]
pub struct PermittedUse(Recorded);

impl PermittedUse {
    /// What was asked and said.
    pub(crate) fn into_recorded(self) -> Recorded {
        self.0
    }
}

/// Policies do not permit it.
#[derive(Debug)]
pub struct Denied {
    /// The refusal.
    pub refusal: Refusal,
    /// What was asked and said.
    pub recorded: Arc<Recorded>,
    /// The approval that is all that is missing; none where something else is.
    pub approval: Option<Approval>,
}

/// The parts of a [`Permitted`].
pub(crate) struct Parts {
    pub(crate) events: Vec<Event>,
    /// What was said of the start, where a client comes in.
    pub(crate) start: Option<Recorded>,
    /// What was said of the hand-over, where a child comes in.
    pub(crate) delegate: Option<Recorded>,
    /// What was said of the credential.
    pub(crate) issue: Recorded,
}

impl Permitted {
    pub(crate) fn into_parts(self) -> Parts {
        Parts {
            events: self.events,
            start: self.start,
            delegate: self.delegate,
            issue: self.issue,
        }
    }
}

impl Policies {
    /// Asks for everything that these events would grant: `start` for each resource of the access
    /// that a client comes in with, be it the first of its task or one that joins, `delegate` for
    /// each that a child gets, and `issue` for the resource of each credential. `handed` says where
    /// the child stands. A child that comes in by a proof of its own is refused what people would be
    /// asked about if it started by itself.
    ///
    /// # Errors
    /// [`Denied`] by the first question that is not answered with a permit.
    pub fn permit(
        &self,
        events: Vec<Event>,
        workload: &Workload,
        catalog: &Catalog,
        facts: &Facts<'_>,
        handed: Option<&Handed<'_>>,
    ) -> Result<Permitted, Box<Denied>> {
        let mut asking = Asking {
            policies: self,
            workload,
            catalog,
            facts,
            shown: None,
            needs: None,
        };
        let enters = events
            .iter()
            .any(|event| matches!(event, Event::TaskStarted(_) | Event::ClientRegistered(_)));
        let delegates = events
            .iter()
            .any(|event| matches!(event, Event::ClientDelegated(_)));
        let mut start = self.record(facts);
        let mut delegate = self.record(facts);
        let mut issue = self.record(facts);
        for event in &events {
            match event {
                Event::ClientRegistered(client) => {
                    asking.ask_about(Action::Start, &client.access, None, &mut start)?;
                }
                // INVARIANT: without `handed` nothing is asked, and what was not asked is denied below.
                Event::ClientDelegated(child) if handed.is_some() => {
                    asking.ask_about(Action::Delegate, &child.access, handed, &mut delegate)?;
                    if child.own.is_some() {
                        asking.asks_nobody(&child.access, &delegate)?;
                    }
                }
                Event::CredentialIssued(issued) => {
                    let asked = Asked::of(&issued.access, &issued.resource);
                    asking.ask(Action::Issue, &issued.resource, asked, None, &mut issue)?;
                }
                Event::TaskRequested(_)
                | Event::TaskApproved(_)
                | Event::TaskDenied(_)
                | Event::TaskStarted(_)
                | Event::ClientDelegated(_)
                | Event::CredentialRevoked(_)
                | Event::ClientEnded(_)
                | Event::TaskEnded(_) => {}
            }
        }
        if issue.decisions.is_empty()
            || (enters && start.decisions.is_empty())
            || (delegates && delegate.decisions.is_empty())
        {
            // INVARIANT: nothing is permitted that no policy was asked about.
            return Err(Box::new(Denied {
                refusal: Refusal::new(Rule::PolicyFailed)
                    .field("policy")
                    .wanted("a credential to be asked about")
                    .got("none"),
                recorded: Arc::new(issue),
                approval: None,
            }));
        }
        if let Some((approval, refusal)) = asking.needs {
            return Err(Box::new(Denied {
                refusal,
                recorded: Arc::new(start),
                approval: Some(approval),
            }));
        }
        Ok(Permitted {
            events,
            start: enters.then_some(start),
            delegate: delegates.then_some(delegate),
            issue,
        })
    }

    /// Asks about one use, which a detail without a wildcard names.
    ///
    /// # Errors
    /// [`Denied`] where it is not answered with a permit.
    pub fn permit_use(
        &self,
        used: &Detail,
        workload: &Workload,
        catalog: &Catalog,
        facts: &Facts<'_>,
    ) -> Result<PermittedUse, Box<Denied>> {
        let mut asking = Asking {
            policies: self,
            workload,
            catalog,
            facts,
            shown: None,
            needs: None,
        };
        let mut recorded = self.record(facts);
        let asked = Asked::of([used], &used.resource);
        asking.ask(Action::Use, &used.resource, asked, None, &mut recorded)?;
        match asking.needs {
            None => Ok(PermittedUse(recorded)),
            // Nobody is asked about a use.
            Some((_, refusal)) => Err(Box::new(Denied {
                refusal,
                recorded: Arc::new(recorded),
                approval: None,
            })),
        }
    }

    /// Answers one question.
    #[must_use]
    pub fn evaluate(&self, question: &Question<'_>, facts: &Facts<'_>) -> Verdict {
        let shown = facts.shown().map_err(|why| why.to_string());
        self.answer(question, facts, shown.as_deref())
    }

    /// A record of these facts with no answer in it yet.
    #[must_use]
    pub fn record(&self, facts: &Facts<'_>) -> Recorded {
        Recorded {
            set: self.hash,
            facts: facts.into(),
            decisions: Vec::new(),
        }
    }

    fn answer(
        &self,
        question: &Question<'_>,
        facts: &Facts<'_>,
        shown: Result<&[Entity], &String>,
    ) -> Verdict {
        let answered = match &self.state {
            State::Unusable(errors) => Err(format!(
                "the policies in force cannot be used: {}",
                errors.first().map_or("", String::as_str)
            )),
            State::Held(held) => shown
                .map_err(String::clone)
                .and_then(|shown| held.answer(question, facts, shown)),
        };
        answered.unwrap_or_else(|message| Verdict {
            errors: vec![PolicyError {
                policy: String::new(),
                message: short(message),
            }],
            ..denied(question)
        })
    }
}

/// The questions of one request.
struct Asking<'a> {
    policies: &'a Policies,
    workload: &'a Workload,
    catalog: &'a Catalog,
    facts: &'a Facts<'a>,
    /// What was shown as entities, made for the first question.
    shown: Option<Result<Vec<Entity>, String>>,
    /// The approval that is missing so far, and the refusal where nobody waits for it. Whatever else
    /// denies comes before it: people are asked about what would be granted otherwise.
    needs: Option<(Approval, Refusal)>,
}

impl Asking<'_> {
    /// Asks at each resource of an access.
    fn ask_about(
        &mut self,
        action: Action,
        access: &[Detail],
        handed: Option<&Handed<'_>>,
        record: &mut Recorded,
    ) -> Result<(), Box<Denied>> {
        let resources: BTreeSet<&Name> = access.iter().map(|detail| &detail.resource).collect();
        for resource in resources {
            self.ask(
                action,
                resource,
                Asked::of(access, resource),
                handed,
                record,
            )?;
        }
        Ok(())
    }

    /// Whether people would be asked about a start with this access: nobody is asked about a child.
    /// Whatever else stands in the way of a start says nothing of a hand-over, but what cannot be
    /// evaluated might have asked.
    fn asks_nobody(&mut self, access: &[Detail], record: &Recorded) -> Result<(), Box<Denied>> {
        let resources: BTreeSet<&Name> = access.iter().map(|detail| &detail.resource).collect();
        for resource in resources {
            let asked = Asked::of(access, resource);
            let mut verdict = self.answer(Action::Start, resource, asked, None);
            // More denial never grants: people would be asked, were the rest out of the way.
            verdict.approval = verdict.asks.clone();
            let asks = verdict.approval.as_ref().is_some_and(|asks| !asks.given);
            if !asks && verdict.errors.is_empty() {
                continue;
            }
            let mut refusal = self
                .policies
                .refusal(&verdict, self.catalog.url_of(resource));
            if refusal.rule == Rule::ApprovalNeeded {
                refusal = Refusal::new(Rule::ApprovalNeeded)
                    .field("actor_token")
                    .wanted("a task of its own, which people can be asked about")
                    .got("a child that is handed to")
                    .hint(format!(
                        "a start of workload {} {}, and a child comes in without anybody being asked: start it as a task of its own",
                        self.workload.name, refusal.hint
                    ));
            }
            let mut recorded = record.clone();
            recorded.decisions.push(verdict);
            return Err(Box::new(Denied {
                refusal,
                recorded: Arc::new(recorded),
                approval: None,
            }));
        }
        Ok(())
    }

    fn answer(
        &mut self,
        action: Action,
        resource: &Name,
        asked: Asked,
        handed: Option<&Handed<'_>>,
    ) -> Verdict {
        let question = Question {
            action,
            workload: self.workload,
            resource,
            asked,
            handed: handed.cloned(),
        };
        let facts = self.facts;
        let shown = self
            .shown
            .get_or_insert_with(|| facts.shown().map_err(|why| why.to_string()));
        self.policies.answer(&question, facts, shown.as_deref())
    }

    fn ask(
        &mut self,
        action: Action,
        resource: &Name,
        asked: Asked,
        handed: Option<&Handed<'_>>,
        record: &mut Recorded,
    ) -> Result<(), Box<Denied>> {
        let verdict = self.answer(action, resource, asked, handed);
        if let Some(observed) = &verdict.observed
            && observed.decision != verdict.decision
        {
            tracing::info!(
                workload = %self.workload.name, %action, %resource,
                policies = observed.policies.join(", "), would = ?observed.decision,
                "an observed policy would decide otherwise"
            );
        }
        let refusal = match verdict.decision {
            Decision::Allow => None,
            Decision::Deny => {
                let at = self.catalog.url_of(resource);
                Some(self.policies.refusal(&verdict, at))
            }
        };
        let missing = verdict.approval.as_ref().filter(|needed| !needed.given);
        let missing = missing.filter(|_| verdict.errors.is_empty());
        let missing = missing.map(|needed| Approval {
            within: needed.within,
            people: needed.people,
        });
        record.decisions.push(verdict);
        match (refusal, missing) {
            (None, _) => Ok(()),
            (Some(refusal), Some(approval)) => {
                self.needs = Some(match self.needs.take() {
                    None => (approval, refusal),
                    Some((needed, first)) => (needed.and(approval), first),
                });
                Ok(())
            }
            (Some(refusal), None) => Err(Box::new(Denied {
                refusal,
                recorded: Arc::new(record.clone()),
                approval: None,
            })),
        }
    }
}

impl Held {
    fn answer(
        &self,
        question: &Question<'_>,
        facts: &Facts<'_>,
        shown: &[Entity],
    ) -> Result<Verdict, String> {
        let key = Key {
            action: question.action,
            workload: uid(&TYPES.workload, question.workload.name.as_str()),
            owner: uid(&TYPES.owner, question.workload.owner.as_str()),
            resource: uid(&TYPES.resource, question.resource.as_str()),
        };
        let Decisive { slice, declared } = self
            .slices
            .get(&key, &self.statements, |slice| {
                self.declared_for(&key, slice)
            })
            .map_err(|why| why.to_string())?;
        // Few entities behind pointers: only what was shown is another each time, and the chain.
        let chain = question
            .handed
            .iter()
            .flat_map(|handed| self.chain_of(handed));
        let more = chain.filter(|entity| declared.get(&entity.uid()).is_none());
        let entities = Entities::clone(&declared)
            .add_entities(more.chain(shown).cloned(), None)
            .map_err(|why| why.to_string())?;
        let context = facts
            .context(&question.asked, question.handed.as_ref())
            .map_err(|why| why.to_string())?;
        let request = Request::new(key.workload, key.action.uid(), key.resource, context, None)
            .map_err(|why| why.to_string())?;
        Ok(self.decide(question, facts, &slice, (&request, &entities)))
    }

    fn decide(
        &self,
        question: &Question<'_>,
        facts: &Facts<'_>,
        slice: &Slice,
        (request, entities): (&Request, &Entities),
    ) -> Verdict {
        let response = authorize(request, &slice.enforced, entities);
        let mut errors = errors_of(&response);
        let lifted = slice
            .approvals
            .as_ref()
            .map(|approvals| authorize(request, approvals, entities));
        errors.extend(lifted.iter().flat_map(errors_of));
        let mut policies = reasons_of(&response);
        let permitted = response.decision() == Cedar::Allow;
        let asks = lifted.and_then(|lifted| self.approval(reasons_of(&lifted), facts));
        let approval = asks.clone().filter(|_| permitted);
        let missing = approval.as_ref().filter(|needed| !needed.given);
        if let Some(missing) = missing {
            policies.clone_from(&missing.policies);
        }
        // Cedar passes over a policy that errors; a forbid that errs must not be passed over.
        let decision = if permitted && errors.is_empty() && missing.is_none() {
            Decision::Allow
        } else {
            Decision::Deny
        };
        let observed = slice.observed.as_ref().map(|observed| {
            let forbids = authorize(request, &observed.forbids, entities);
            let permits = authorize(request, &observed.permits, entities);
            let of = [&forbids, &permits];
            let failed: Vec<PolicyError> = of.iter().flat_map(|of| errors_of(of)).collect();
            let held: Vec<String> = of.iter().flat_map(|of| reasons_of(of)).collect();
            let forbidden = decision == Decision::Deny && !policies.is_empty()
                || forbids.diagnostics().reason().next().is_some();
            let permitted =
                response.decision() == Cedar::Allow || permits.decision() == Cedar::Allow;
            let failing = !errors.is_empty() || !failed.is_empty();
            let would = permitted && !forbidden && !failing;
            ObservedVerdict {
                decision: if would {
                    Decision::Allow
                } else {
                    Decision::Deny
                },
                policies: held,
                errors: failed,
            }
        });
        let unexplained = decision == Decision::Deny && policies.is_empty() && errors.is_empty();
        let nearest = if unexplained {
            explain::nearest(self.statements_of(slice), request, entities)
        } else {
            Vec::new()
        };
        Verdict {
            decision,
            policies,
            errors,
            approval,
            asks,
            observed,
            nearest,
            ..denied(question)
        }
    }

    /// What these policies together want before they are lifted; none where none of them holds.
    fn approval(&self, policies: Vec<String>, facts: &Facts<'_>) -> Option<ApprovalVerdict> {
        let each = policies.iter().filter_map(|id| {
            let statement = self.statements.get(*self.by_id.get(id)?)?;
            statement.approval
        });
        let Approval { within, people } = each.reduce(Approval::and)?;
        Some(ApprovalVerdict {
            policies,
            within,
            people,
            given: facts.approvals >= people,
        })
    }

    /// The declared entities of a chain of delegation, and of who answers for it.
    fn chain_of<'a>(&'a self, handed: &Handed<'_>) -> Vec<&'a Entity> {
        let mut uids = BTreeSet::new();
        for workload in handed.chain.iter().chain([&handed.parent]) {
            uids.insert(uid(&TYPES.workload, workload.name.as_str()));
            uids.insert(uid(&TYPES.owner, workload.owner.as_str()));
        }
        uids.iter()
            .filter_map(|uid| self.entities.get(uid))
            .collect()
    }

    fn statements_of<'a>(&'a self, slice: &'a Slice) -> impl Iterator<Item = &'a Statement> {
        let of = slice.statements.iter();
        of.filter_map(|at| self.statements.get(*at))
    }

    /// The declared entities that the policies of a slice may look at.
    fn declared_for(&self, key: &Key, slice: &Slice) -> Result<Entities, SliceError> {
        let mut uids = BTreeSet::from([&key.workload, &key.owner, &key.resource]);
        uids.extend(
            self.statements_of(slice)
                .flat_map(|statement| &statement.mentions),
        );
        let entities = uids
            .into_iter()
            .filter_map(|uid| self.entities.get(uid))
            .cloned();
        Entities::from_entities(entities, None).map_err(|why| SliceError(why.to_string()))
    }
}

fn authorize(request: &Request, policies: &PolicySet, entities: &Entities) -> Response {
    Authorizer::new().is_authorized(request, policies, entities)
}

/// The determining policies, in order of their ids.
fn reasons_of(response: &Response) -> Vec<String> {
    let mut ids: Vec<String> = response
        .diagnostics()
        .reason()
        .map(ToString::to_string)
        .collect();
    ids.sort_unstable();
    ids
}

fn errors_of(response: &Response) -> Vec<PolicyError> {
    let mut errors: Vec<PolicyError> = response
        .diagnostics()
        .errors()
        .map(|error| PolicyError {
            policy: match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                    error.policy_id().to_string()
                }
            },
            message: short(error.to_string()),
        })
        .collect();
    errors.sort_unstable_by(|a, b| a.policy.cmp(&b.policy));
    errors
}

/// A no to a question, for no reason yet.
fn denied(question: &Question<'_>) -> Verdict {
    Verdict {
        action: question.action,
        resource: question.resource.clone(),
        decision: Decision::Deny,
        policies: Vec::new(),
        errors: Vec::new(),
        approval: None,
        asks: None,
        observed: None,
        asked: question.asked.clone(),
        handed: question.handed.as_ref().map(Into::into),
        nearest: Vec::new(),
    }
}

fn short(text: String) -> String {
    if text.len() <= MESSAGE {
        return text;
    }
    let (beginning, _) = text.split_at(text.floor_char_boundary(MESSAGE));
    format!("{beginning}…")
}
