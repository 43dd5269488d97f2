//! Who answers for the workloads of an owner that was offboarded, where somebody else does since.
//!
//! The files still name the former owner. What is handed over is kept beside them in the store,
//! and honoured whenever they are loaded, until they name another owner or it is given back.

use std::collections::BTreeMap;

use dayfly_domain::{Name, Time};
use dayfly_store::{Document, Unavailable};
use serde::{Deserialize, Serialize};

use super::Declared;

/// The documents of what was handed over begin so; what follows is the former owner.
pub const HANDED: &str = "moved-to/";

/// Whom the workloads of an owner were handed over to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandOver {
    /// The owner that answers for them since.
    pub to: Name,
    /// When.
    pub since: Time,
}

/// What was handed over and not given back, by the former owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandOvers(BTreeMap<Name, HandOver>);

impl HandOvers {
    /// Those that a read of the documents below [`HANDED`] has found.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn of(documents: &[(String, Vec<u8>)]) -> Result<Self, Unavailable> {
        let handed = documents.iter().filter_map(|(name, bytes)| {
            let owner = name.strip_prefix(HANDED)?;
            Some((name, owner, bytes))
        });
        handed
            .map(|(name, owner, bytes)| {
                let unread = |why: &dyn std::fmt::Display| {
                    Unavailable(format!("`{name}` cannot be read: {why}"))
                };
                let owner: Name = owner.parse().map_err(|why| unread(&why))?;
                let handed = serde_json::from_slice(bytes).map_err(|why| unread(&why))?;
                Ok((owner, handed))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The document that keeps what an owner's workloads were handed over to; none forgets it.
    #[must_use]
    pub fn document(owner: &Name, handed: Option<&HandOver>) -> Document {
        Document {
            name: format!("{HANDED}{owner}"),
            // INVARIANT: a name and a number have no value that JSON cannot write.
            bytes: handed.map(|handed| serde_json::to_vec(handed).unwrap_or_default()),
        }
    }

    /// Whom an owner's workloads were handed over to.
    #[must_use]
    pub fn of_owner(&self, owner: &Name) -> Option<&HandOver> {
        self.0.get(owner)
    }

    /// Who answers for what the files give this owner: the last to whom it was handed on.
    #[must_use]
    pub fn heir<'a>(&'a self, owner: &'a Name) -> &'a Name {
        let mut heir = owner;
        // INVARIANT: no hand-over is looked at twice, so the walk ends.
        for _ in 0..self.0.len() {
            match self.0.get(heir) {
                Some(next) => heir = &next.to,
                None => break,
            }
        }
        heir
    }

    /// Gives each workload to whoever answers for it since its owner was offboarded. Where that one
    /// is not declared, it stays with the owner in the files, who may start nothing.
    pub fn apply(&self, declared: &mut Declared) {
        if self.0.is_empty() {
            return;
        }
        for (name, found) in &mut declared.workloads {
            let heir = self.heir(&found.workload.owner);
            if *heir != found.workload.owner && declared.owners.contains_key(heir) {
                let heir = heir.clone();
                let former = std::mem::replace(&mut found.workload.owner, heir);
                declared.handed.insert(name.clone(), former);
            }
        }
    }

    /// A workload of this state, its owner in the files, and whoever answers for it since without
    /// being declared there.
    #[must_use]
    pub fn undeclared_heir(&self, declared: &Declared) -> Option<(Name, Name, Name)> {
        let mut workloads = declared.workloads.values();
        workloads.find_map(|found| {
            let owner = &found.workload.owner;
            let heir = self.heir(owner);
            let missing = heir != owner && !declared.owners.contains_key(heir);
            missing.then(|| (found.workload.name.clone(), owner.clone(), heir.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn handed(pairs: &[(&str, &str)]) -> HandOvers {
        let documents: Vec<_> = pairs
            .iter()
            .map(|(from, to)| {
                let (to, since) = (name(to), Time::from_seconds(7));
                let document = HandOvers::document(&name(from), Some(&HandOver { to, since }));
                (document.name, document.bytes.unwrap())
            })
            .collect();
        HandOvers::of(&documents).unwrap()
    }

    #[test]
    fn what_was_handed_on_is_the_last_ones() {
        let chain = handed(&[("a", "b"), ("b", "c")]);
        assert_eq!(chain.heir(&name("a")), &name("c"));
        assert_eq!(chain.heir(&name("b")), &name("c"));
        assert_eq!(chain.heir(&name("x")), &name("x"));
        // A circle cannot be made by any command; were there one, it would end.
        let circle = handed(&[("a", "b"), ("b", "a")]);
        assert!(["a", "b"].contains(&circle.heir(&name("a")).as_str()));
    }

    #[test]
    fn what_cannot_be_read_is_no_hand_over_and_no_silence() {
        let broken = [(format!("{HANDED}a"), b"{}".to_vec())];
        assert!(HandOvers::of(&broken).is_err());
        let other = [("moved/owner/a".to_owned(), b"[]".to_vec())];
        assert_eq!(HandOvers::of(&other).unwrap(), HandOvers::default());
    }
}
