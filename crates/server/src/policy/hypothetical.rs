//! A request that nobody made: what the policies would say of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dayfly_domain::{Claims, Digest, Name, Subject, Time, Workload, check_subject};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Policies;
use super::facts::{Asked, Facts, Handed, Question, SubjectFact};
use super::schema::Action;
use super::verdict::Recorded;
use crate::declared::Declared;

/// A request described by hand. Its access is all that the workload may have at the resource.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hypothetical {
    /// The workload.
    pub workload: Name,
    /// The resource, by its name.
    pub resource: Name,
    /// `start`, `issue`, `delegate` or `use`.
    pub action: String,
    /// The claims of the proof.
    #[serde(default)]
    pub claims: BTreeMap<String, Value>,
    /// The person on whose behalf it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<HypotheticalPerson>,
    /// For `use`: what the resource says of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub said: BTreeMap<String, Value>,
    /// The address of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// How many tasks of the workload are open; none asks for how many there are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_tasks: Option<u64>,
    /// How many started within the last hour; none asks for how many did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_last_hour: Option<u64>,
    /// For `delegate`: the workload that the parent acts as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Name>,
    /// For `delegate`: how deep the child would stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// For `delegate`: the workloads above the parent, the root's last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Name>,
}

/// A person described by hand.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HypotheticalPerson {
    /// The issuer that vouches for the person, by its name.
    pub issuer: Name,
    /// The claims of the person's token.
    #[serde(default)]
    pub claims: BTreeMap<String, Value>,
}

impl HypotheticalPerson {
    /// The person as the workload may act for one, who authenticated just now, and what the token
    /// claims. Only the server makes pseudonyms: this one is of nobody.
    fn read(&self, workload: &Workload, now: Time) -> Result<(Subject, Claims), String> {
        let subject = Subject {
            issuer: self.issuer.clone(),
            person: Digest([0; 32]),
            authenticated: now,
        };
        check_subject(workload, Some(&subject)).map_err(|refusal| {
            format!(
                "workload `{}` does not act for people of `{}`: {}",
                workload.name, self.issuer, refusal.wanted
            )
        })?;
        Ok((subject, texts(&self.claims)))
    }
}

impl Hypothetical {
    /// What these policies say of it.
    ///
    /// # Errors
    /// A sentence about the name that is not declared.
    pub fn ask(
        &self,
        policies: &Policies,
        declared: &Declared,
        now: Time,
    ) -> Result<Recorded, String> {
        let action: Action = self.action.parse()?;
        let named = |name: &Name| {
            let found = declared.workloads.get(name);
            found
                .map(|found| &found.workload)
                .ok_or_else(|| format!("there is no workload `{name}`"))
        };
        let workload = named(&self.workload)?;
        let handed = match (action, &self.parent) {
            (Action::Delegate, None) => return Err("`delegate` needs a parent".to_owned()),
            (Action::Delegate, Some(parent)) => {
                let parent = named(parent)?;
                let mut chain = vec![workload, parent];
                for above in &self.chain {
                    chain.push(named(above)?);
                }
                Some(Handed {
                    depth: self.depth.unwrap_or(1),
                    parent,
                    chain,
                })
            }
            (Action::Start | Action::Issue | Action::Use, Some(_)) => {
                return Err(format!("only `delegate` has a parent, not `{action}`"));
            }
            (Action::Start | Action::Issue | Action::Use, None) => None,
        };
        if action != Action::Use && !self.said.is_empty() {
            return Err(format!(
                "a resource says something of a `use` alone, not of `{action}`"
            ));
        }
        if !declared.resources.contains_key(&self.resource) {
            return Err(format!("there is no resource `{}`", self.resource));
        }
        let claims = texts(&self.claims);
        let said = texts(&self.said);
        let person = self.subject.as_ref();
        let person = person
            .map(|person| person.read(workload, now))
            .transpose()?;
        let facts = Facts {
            claims: &claims,
            now,
            subject: person
                .as_ref()
                .map(|(subject, claims)| SubjectFact { subject, claims }),
            address: self.address,
            open_tasks: self.open_tasks.unwrap_or_default(),
            starts_last_hour: self.starts_last_hour.unwrap_or_default(),
            said: (action == Action::Use).then_some(&said),
            approvals: 0,
        };
        let question = Question {
            action,
            workload,
            resource: &self.resource,
            asked: Asked::of(&workload.ceiling_kept(&claims), &self.resource),
            handed,
        };
        let mut recorded = policies.record(&facts);
        recorded
            .decisions
            .push(policies.evaluate(&question, &facts));
        Ok(recorded)
    }
}

fn texts(claims: &BTreeMap<String, Value>) -> Claims {
    let texts = claims.iter();
    texts
        .map(|(name, value)| (name.clone(), text_of(value)))
        .collect()
}

/// A claim that is no string stands as its JSON text.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}
