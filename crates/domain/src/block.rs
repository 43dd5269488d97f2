//! Blocks: what may not start again, how it is written, and whom it stands in the way of.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::admit::Opening;
use crate::blocks::Blocks;
use crate::declared::Workload;
use crate::epoch::Epoch;
use crate::id::TaskId;
use crate::refusal::{Refusal, Rule};
use crate::subject::Subject;
use crate::task::Task;
use crate::text::{Digest, Name};
use crate::time::Time;

/// Containment that outlives a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// What may not start again.
    pub on: BlockOn,
    /// The task that it came from.
    pub task: Option<TaskId>,
    /// Since when.
    pub since: Time,
}

/// What a block stands on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockOn {
    /// A series of attempts of one issuer.
    Series {
        /// The issuer.
        issuer: Name,
        /// The series.
        series: String,
    },
    /// One task key of one issuer: other attempts of its series are other keys, or the same.
    Key {
        /// The issuer.
        issuer: Name,
        /// The key.
        key: String,
    },
    /// A job, pod or process that one issuer vouches for.
    Instance {
        /// The issuer.
        issuer: Name,
        /// The instance.
        instance: String,
    },
    /// A person, by pseudonym: nothing starts or goes on by that person's authentication, however
    /// new it is.
    Person(Digest),
    /// A person whose account is gone by the word of the person's provider: the same, beside a block
    /// that somebody set by hand.
    Barred(Digest),
    /// An issuer, whose proofs count for nothing.
    Issuer(Name),
    /// An owner that was offboarded.
    Owner(Name),
    /// A workload that was disabled.
    Workload(Name),
    /// The tenant, frozen.
    Tenant,
}

/// What may be blocked of whatever asks to come in: by its proof, or by what was recorded of it.
pub(crate) struct Asks<'a> {
    pub(crate) workload: &'a Workload,
    pub(crate) issuer: &'a Name,
    /// The person on whose behalf it asks.
    pub(crate) subject: Option<&'a Subject>,
    pub(crate) series: &'a str,
    pub(crate) key: &'a str,
    pub(crate) instance: &'a str,
    /// What it relies on; of these, the people count here.
    pub(crate) relies: &'a [Epoch],
}

impl<'a> Asks<'a> {
    /// What a proof asks with.
    pub(crate) fn of(opening: &Opening<'a>) -> Self {
        Self {
            workload: opening.workload,
            issuer: &opening.proof.issuer,
            subject: opening.client.subject.as_ref(),
            series: &opening.key.series,
            key: &opening.key.key,
            instance: &opening.proof.instance,
            relies: opening.proof.person.as_slice(),
        }
    }

    /// Every block that would stand in its way.
    pub(crate) fn stopped_by(&self) -> Vec<BlockOn> {
        let mut all = vec![
            BlockOn::Tenant,
            BlockOn::Issuer(self.issuer.clone()),
            BlockOn::Owner(self.workload.owner.clone()),
            BlockOn::Workload(self.workload.name.clone()),
        ];
        let subject = self.subject;
        all.extend(subject.map(|of| BlockOn::Issuer(of.issuer.clone())));
        let (issuer, relies) = (self.issuer, self.relies);
        all.extend(BlockOn::of_proof(
            issuer,
            self.series,
            self.key,
            self.instance,
            relies,
        ));
        all.extend(subject.iter().flat_map(|of| BlockOn::of_person(of.person)));
        all
    }
}

impl Block {
    /// The refusal of what it stands in the way of.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal::new(Rule::Blocked)
            .field("block")
            .wanted("no block")
            .got(self.on.told())
            .hint(format!(
                "{} since {}: an operator lifts it with {}",
                self.on,
                self.since,
                self.on.lifted_by()
            ))
    }
}

impl BlockOn {
    /// What must not be blocked for a proof to start or join a task, beside what the epochs of
    /// owner, workload, issuer and tenant say.
    #[must_use]
    pub fn of_proof(
        issuer: &Name,
        series: &str,
        key: &str,
        instance: &str,
        relies: &[Epoch],
    ) -> Vec<Self> {
        let mut all = vec![
            Self::Series {
                issuer: issuer.clone(),
                series: series.to_string(),
            },
            Self::Key {
                issuer: issuer.clone(),
                key: key.to_string(),
            },
            Self::Instance {
                issuer: issuer.clone(),
                instance: instance.to_string(),
            },
        ];
        let people = relies.iter().filter_map(Epoch::person);
        all.extend(people.flat_map(Self::of_person));
        all
    }

    /// What keeps a person out: a block by hand, and the word of the person's provider.
    #[must_use]
    pub const fn of_person(person: Digest) -> [Self; 2] {
        [Self::Person(person), Self::Barred(person)]
    }

    /// What must not be blocked for a client of an open task to get anything further: its task's
    /// key, its own instance and those it was delegated from, the keys of the runs that any of them
    /// came in by, and the people whose authentication any of them came of. A series is not among them: what
    /// an operator ends of one task keeps the others of its run from starting, not from ending.
    #[must_use]
    pub fn of_client(task: &Task, client: u32) -> Vec<Self> {
        let mut all = vec![Self::Key {
            issuer: task.issuer.clone(),
            key: task.key.clone(),
        }];
        for (number, client) in task.chain(client) {
            let on = Self::Instance {
                issuer: task.vouched_by(number).clone(),
                instance: client.instance.clone(),
            };
            if !all.contains(&on) {
                all.push(on);
            }
        }
        let own = || {
            let chain = task.chain(client);
            chain.filter_map(|(_, client)| client.own.as_ref())
        };
        let keyed = own().filter(|own| !own.key.is_empty());
        all.extend(keyed.map(|own| Self::Key {
            issuer: own.issuer.clone(),
            key: own.key.clone(),
        }));
        let relies = task.epochs.iter().chain(own().flat_map(|own| &own.epochs));
        let people = relies.filter_map(Epoch::person);
        all.extend(people.flat_map(Self::of_person));
        all
    }

    /// The same, and the issuers that it came in by: whatever keeps a client from getting anything
    /// further by a block alone.
    #[must_use]
    pub fn before_client(task: &Task, client: u32) -> Vec<Self> {
        let mut all = Self::of_client(task, client);
        all.push(Self::Issuer(task.issuer.clone()));
        let of_person = task.subject.iter().map(|of| of.issuer.clone());
        all.extend(of_person.map(Self::Issuer));
        let chain = task.chain(client);
        all.extend(chain.map(|(number, _)| Self::Issuer(task.vouched_by(number).clone())));
        all
    }

    /// What the caller is told of it: its own run and instance by name, all else only by its kind.
    fn told(&self) -> String {
        match self {
            Self::Series { .. } | Self::Key { .. } | Self::Instance { .. } => self.to_string(),
            Self::Person(_) | Self::Barred(_) => "the person is blocked".to_string(),
            Self::Issuer(_) => "the issuer is blocked".to_string(),
            Self::Owner(_) => "the owner of the workload is offboarded".to_string(),
            Self::Workload(_) => "the workload is disabled".to_string(),
            Self::Tenant => "the tenant is frozen".to_string(),
        }
    }

    /// What lifts it.
    #[must_use]
    pub fn lifted_by(&self) -> String {
        match self {
            Self::Series { .. }
            | Self::Key { .. }
            | Self::Instance { .. }
            | Self::Person(_)
            | Self::Barred(_)
            | Self::Issuer(_) => format!("`dayfly unblock {self}`"),
            Self::Owner(owner) => format!("`dayfly owner restore {owner}`"),
            Self::Workload(workload) => format!("`dayfly workload enable {workload}`"),
            Self::Tenant => "`dayfly unfreeze`".to_string(),
        }
    }
}

/// Checks that no block keeps a client of an open task from getting anything further.
///
/// # Errors
/// A refusal of stage `task`.
pub fn check_unblocked(blocks: &Blocks, task: &Task, client: u32) -> Result<(), Refusal> {
    if blocks.is_empty() {
        return Ok(());
    }
    match blocks.first_of(&BlockOn::before_client(task, client)) {
        None => Ok(()),
        Some(block) => Err(block.refusal()),
    }
}

impl core::fmt::Display for BlockOn {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Series { issuer, series } => write!(f, "series:{issuer}:{series}"),
            Self::Key { issuer, key } => write!(f, "key:{issuer}:{key}"),
            Self::Instance { issuer, instance } => write!(f, "instance:{issuer}:{instance}"),
            Self::Person(person) => write!(f, "person:{person}"),
            Self::Barred(person) => write!(f, "barred:{person}"),
            Self::Issuer(issuer) => write!(f, "issuer:{issuer}"),
            Self::Owner(owner) => write!(f, "owner:{owner}"),
            Self::Workload(workload) => write!(f, "workload:{workload}"),
            Self::Tenant => f.write_str("tenant"),
        }
    }
}

impl core::str::FromStr for BlockOn {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a block is written series:<issuer>:<series>, key:<issuer>:<key>, instance:<issuer>:<instance>, person:<pseudonym>, barred:<pseudonym>, issuer:<name>, owner:<name>, workload:<name> or tenant";
        if text == "tenant" {
            return Ok(Self::Tenant);
        }
        let (kind, rest) = text.split_once(':').ok_or(FORM)?;
        let of_issuer = || {
            let (issuer, rest) = rest.split_once(':').ok_or(FORM)?;
            if rest.is_empty() {
                return Err(FORM);
            }
            Ok::<(Name, String), &'static str>((issuer.parse()?, rest.to_string()))
        };
        match kind {
            "owner" => Ok(Self::Owner(rest.parse()?)),
            "workload" => Ok(Self::Workload(rest.parse()?)),
            "issuer" => Ok(Self::Issuer(rest.parse()?)),
            "person" => Ok(Self::Person(rest.parse()?)),
            "barred" => Ok(Self::Barred(rest.parse()?)),
            "series" => of_issuer().map(|(issuer, series)| Self::Series { issuer, series }),
            "key" => of_issuer().map(|(issuer, key)| Self::Key { issuer, key }),
            "instance" => of_issuer().map(|(issuer, instance)| Self::Instance { issuer, instance }),
            _ => Err(FORM),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_reads_as_it_is_written() {
        for text in [
            "series:github:repository_id,run_id:1/7",
            "key:github:1/7/9",
            "instance:github:repository_id=1,run_id=7,run_attempt=1",
            "issuer:github",
            "person:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            "barred:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            "owner:team",
            "workload:release",
            "tenant",
        ] {
            let on: BlockOn = text.parse().unwrap();
            assert_eq!(on.to_string(), text);
        }
        for text in [
            "",
            "tenants",
            "series:github",
            "key:github:",
            "person:mona",
            "instance:Not a name:x",
            "x:y",
        ] {
            assert!(text.parse::<BlockOn>().is_err(), "{text}");
        }
    }
}
