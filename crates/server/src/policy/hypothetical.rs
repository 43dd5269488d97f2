//! A request that nobody made: what the policies would say of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dayfly_domain::{Claims, Name, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Policies;
use super::facts::{Asked, Facts, Question};
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
    /// `start` or `issue`.
    pub action: String,
    /// The claims of the proof.
    #[serde(default)]
    pub claims: BTreeMap<String, Value>,
    /// The address of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// How many tasks of the workload are open; none asks for how many there are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_tasks: Option<u64>,
    /// How many started within the last hour; none asks for how many did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_last_hour: Option<u64>,
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
        if !matches!(action, Action::Start | Action::Issue) {
            return Err(format!("nothing asks about `{action}` in this build"));
        }
        let workload = declared
            .workloads
            .get(&self.workload)
            .map(|found| &found.workload)
            .ok_or_else(|| format!("there is no workload `{}`", self.workload))?;
        if !declared.resources.contains_key(&self.resource) {
            return Err(format!("there is no resource `{}`", self.resource));
        }
        let claims: Claims = self
            .claims
            .iter()
            .map(|(name, value)| (name.clone(), text_of(value)))
            .collect();
        let facts = Facts {
            claims: &claims,
            now,
            address: self.address,
            open_tasks: self.open_tasks.unwrap_or_default(),
            starts_last_hour: self.starts_last_hour.unwrap_or_default(),
            approvals: 0,
        };
        let question = Question {
            action,
            workload,
            resource: &self.resource,
            asked: Asked::of(&workload.ceiling_kept(&claims), &self.resource),
        };
        let mut recorded = policies.record(&facts);
        recorded
            .decisions
            .push(policies.evaluate(&question, &facts));
        Ok(recorded)
    }
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
