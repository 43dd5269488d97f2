//! A denial as a refusal: whole for operator and owner, and for the caller only what is about its
//! own claims.

use dayfly_domain::{Refusal, Rule};

use super::verdict::{Nearest, Verdict};
use super::{Policies, State};

impl Policies {
    /// The refusal of a verdict that denies; `at` is the URL of the resource.
    pub(crate) fn refusal(&self, verdict: &Verdict, at: &str) -> Refusal {
        let asked = format!("{} at {at}", verdict.action);
        let refusal = |rule| Refusal::new(rule).field("policy").got(asked.as_str());
        if let Some(error) = verdict.errors.first() {
            let hint = match error.policy.as_str() {
                "" => error.message.clone(),
                policy => format!("{}: {}", self.named(policy), error.message),
            };
            return refusal(Rule::PolicyFailed)
                .wanted("policies that can be evaluated")
                .hint(hint);
        }
        if let Some(approval) = verdict.approval.as_ref().filter(|needed| !needed.given) {
            let named: Vec<String> = approval.policies.iter().map(|id| self.named(id)).collect();
            return refusal(Rule::ApprovalNeeded)
                .field("approval")
                .wanted(format!("{} approvals", approval.people))
                .hint(format!("needs approval by {}", named.join(", ")));
        }
        if !verdict.policies.is_empty() {
            let named: Vec<String> = verdict.policies.iter().map(|id| self.named(id)).collect();
            return refusal(Rule::PolicyDenied)
                .wanted("no policy that forbids it")
                .hint(format!("forbidden by {}", named.join(", ")));
        }
        let Some(nearest) = verdict.nearest.first() else {
            return refusal(Rule::PolicyNotPermitted)
                .wanted("a policy that permits it")
                .hint("no permit has a scope that fits workload, action and resource");
        };
        let told = match &nearest.claim {
            Some(claim) => Refusal::new(Rule::PolicyNotPermitted)
                .field(claim.as_str())
                .got(nearest.got.as_str()),
            None => refusal(Rule::PolicyNotPermitted),
        };
        let each: Vec<String> = verdict.nearest.iter().map(said).collect();
        told.wanted(nearest.wanted.as_str())
            .hint(format!("{asked} is permitted by none; {}", each.join("; ")))
    }

    /// A policy with its place, where its id does not say it.
    fn named(&self, id: &str) -> String {
        let place = match &self.state {
            State::Unusable(_) => None,
            State::Held(held) => held.by_id.get(id).and_then(|at| held.statements.get(*at)),
        };
        match place {
            Some(statement) => format!("`{id}` ({})", statement.place),
            None => format!("`{id}`"),
        }
    }
}

fn said(nearest: &Nearest) -> String {
    let Nearest {
        policy,
        place,
        clause,
        wanted,
        got,
        ..
    } = nearest;
    format!("`{policy}` ({place}) fails by `{clause}`: wanted {wanted}, got {got}")
}
