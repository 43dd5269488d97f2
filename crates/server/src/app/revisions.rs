//! The revisions of the declared state: each kept by its hash, the latest only, and how one comes into force.

use std::path::Path;

use dayfly_domain::{Digest, EpochOf, Name, Span, Time};
use dayfly_store::{Annex, Append, Document, FactsQuery, Note, Store, Unavailable};
use serde::{Deserialize, Serialize};

use super::tenant::DECLARED;
use crate::declared::Source;

/// The kind of the entry that brings a source into force.
pub(super) const CHANGED: &str = "declared.changed";
/// The document that lists the revisions, the latest last.
const REVISIONS: &str = "revisions";
/// The documents of their sources begin so; what follows is the hash.
const REVISION: &str = "revision/";
/// How many revisions are kept: the present one, the former one, and some to look at.
const KEPT: usize = 32;
/// For how long after the time of a revision the former one may still have granted: as long as its
/// append was on its way.
const LATE: Span = Span::from_seconds(60);

/// A revision that was in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Revision {
    revision: u64,
    hash: Digest,
    at: Time,
    /// The longest life that it gives a credential; none where that was not kept yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    longest: Option<Span>,
}

/// The revisions that are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Revisions(Vec<Revision>);

/// A source that is to come into force, and what it is decided on.
pub(super) struct Activation<'a> {
    pub(super) source: &'a Source,
    /// The longest life that it gives a credential.
    pub(super) longest: Span,
    /// What is in force, with its revision; none for an empty tenant.
    pub(super) former: Option<&'a Source>,
    pub(super) revision: u64,
    pub(super) now: Time,
    pub(super) annex: Annex,
    /// The person who brings it into force, as a leaf may hold one.
    pub(super) by: Option<Digest>,
    /// How many open tasks it ends, where it ends some.
    pub(super) ends: u64,
}

impl Revisions {
    pub(super) fn read(store: &dyn Store, tenant: &Name) -> Result<Self, Unavailable> {
        match document(store, tenant, REVISIONS)? {
            None => Ok(Self::default()),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map(Self)
                .map_err(|why| Unavailable(format!("`{REVISIONS}` cannot be read: {why}"))),
        }
    }

    /// When the last credential expires that a revision could give which is not in force any more;
    /// `most` is how long any may live.
    pub(super) fn last_expiry(&self, most: Span) -> Option<Time> {
        let former = self.0.iter().zip(self.0.iter().skip(1));
        let of_former = former.map(|(former, next)| next.at + former.longest.unwrap_or(most));
        // What is not kept any more was in force before the first that is.
        let of_dropped = self.0.first().filter(|_| self.0.len() >= KEPT);
        let last = of_former
            .chain(of_dropped.map(|first| first.at + most))
            .max();
        last.map(|last| last + LATE)
    }

    /// The source that was in force before the present one; none where none is kept.
    pub(super) fn former(
        &self,
        store: &dyn Store,
        tenant: &Name,
        base: &Path,
    ) -> Result<Option<Source>, Unavailable> {
        let [.., former, _present] = self.0.as_slice() else {
            return Ok(None);
        };
        kept_source(store, tenant, base, &former.hash)
    }

    /// What an append must hold to bring a source into force: one entry, the source by its hash,
    /// and the list without what is too old.
    pub(super) fn activate(mut self, what: Activation<'_>) -> Append {
        let mut documents = Vec::new();
        let mut keep =
            |list: &mut Vec<Revision>, revision: u64, source: &Source, longest: Option<Span>| {
                let (hash, at) = (source.hash(), what.now);
                if list.last().is_some_and(|last| last.hash == hash) {
                    return;
                }
                list.push(Revision {
                    revision,
                    hash,
                    at,
                    longest,
                });
                documents.push(Document {
                    name: source_name(&hash),
                    bytes: Some(source.to_bytes()),
                });
            };
        // What came into force before revisions were kept is kept from now on.
        if let Some(former) = what.former {
            keep(&mut self.0, what.revision, former, None);
        }
        keep(
            &mut self.0,
            what.revision + 1,
            what.source,
            Some(what.longest),
        );
        let surplus = self.0.len().saturating_sub(KEPT);
        let dropped: Vec<Revision> = self.0.drain(..surplus).collect();
        for old in dropped {
            if self.0.iter().all(|kept| kept.hash != old.hash) {
                documents.push(Document {
                    name: source_name(&old.hash),
                    bytes: None,
                });
            }
        }
        documents.push(Document {
            name: DECLARED.to_owned(),
            bytes: Some(what.source.to_bytes()),
        });
        documents.push(Document {
            name: REVISIONS.to_owned(),
            // INVARIANT: numbers and hashes have no value that JSON cannot write.
            bytes: Some(serde_json::to_vec(&self.0).unwrap_or_default()),
        });
        Append {
            now: what.now,
            notes: vec![Note {
                kind: "declared.changed",
                data: what.entry(),
                annex: Some(what.annex),
            }],
            revision: Some(what.revision),
            revises: true,
            documents,
            ..Append::default()
        }
    }
}

/// A source that was in force, by its hash; none where it is not kept any more.
pub(super) fn kept_source(
    store: &dyn Store,
    tenant: &Name,
    base: &Path,
    hash: &Digest,
) -> Result<Option<Source>, Unavailable> {
    let name = source_name(hash);
    let Some(bytes) = document(store, tenant, &name)? else {
        return Ok(None);
    };
    let source =
        Source::from_bytes(&bytes, base).map_err(|why| Unavailable(format!("`{name}`: {why}")))?;
    Ok(Some(source))
}

/// What the entry of a revision says.
#[derive(Serialize)]
struct Changed {
    revision: u64,
    hash: Digest,
    /// The hash of what was in force before; none for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    former: Option<Digest>,
    /// How many open tasks it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Digest>,
}

impl Activation<'_> {
    fn entry(&self) -> String {
        let changed = Changed {
            revision: self.revision + 1,
            hash: self.source.hash(),
            former: self.former.map(Source::hash),
            ends: (self.ends > 0).then_some(self.ends),
            by: self.by,
        };
        // INVARIANT: numbers and hashes have no value that JSON cannot write.
        serde_json::to_string(&changed).unwrap_or_default()
    }
}

/// The names of what one declared state has and another has not, as epochs.
pub(super) fn gone<'a, T: 'a, U: 'a>(
    before: impl IntoIterator<Item = (&'a Name, &'a T)>,
    after: &std::collections::BTreeMap<Name, U>,
    of: fn(Name) -> EpochOf,
) -> Vec<EpochOf> {
    before
        .into_iter()
        .filter(|(name, _)| !after.contains_key(*name))
        .map(|(name, _)| of(name.clone()))
        .collect()
}

fn source_name(hash: &Digest) -> String {
    format!("{REVISION}{hash}")
}

fn document(store: &dyn Store, tenant: &Name, name: &str) -> Result<Option<Vec<u8>>, Unavailable> {
    let query = FactsQuery {
        documents: Some(name),
        ..FactsQuery::default()
    };
    let found = store.facts(tenant, &query)?.documents;
    let mut found = found.into_iter();
    Ok(found.find(|(held, _)| held == name).map(|(_, bytes)| bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::SourceFile;
    use std::collections::BTreeSet;

    #[test]
    fn as_many_sources_are_kept_as_the_list_names() {
        let source = |n: u64| {
            let text = format!("# {n}");
            let name = "tenant.toml".to_owned();
            Source::new(Path::new("/"), vec![SourceFile { name, text }])
        };
        let mut list = Revisions::default();
        let mut kept: BTreeSet<String> = BTreeSet::new();
        let mut present = None;
        for n in 0..100 {
            // Every third goes back to what was there before the one before it.
            let next = source(if n % 3 == 2 { n - 2 } else { n });
            let append = list.clone().activate(Activation {
                source: &next,
                longest: Span::from_seconds(n),
                former: present.as_ref(),
                revision: n,
                now: Time::from_seconds(n),
                annex: Annex {
                    salt: [0; 16],
                    data: String::new(),
                },
                by: None,
                ends: 0,
            });
            for document in append.documents {
                match (document.name.as_str(), document.bytes) {
                    (DECLARED, _) => {}
                    (REVISIONS, bytes) => {
                        list = Revisions(serde_json::from_slice(&bytes.unwrap()).unwrap());
                    }
                    (_, Some(_)) => drop(kept.insert(document.name)),
                    (_, None) => assert!(kept.remove(&document.name)),
                }
            }
            present = Some(next);
        }
        assert_eq!(list.0.len(), KEPT);
        // The last of them came at 99, after one that gave 98 seconds; the first at 68, after some
        // that nobody knows any more.
        let last = |most| list.last_expiry(Span::from_seconds(most)).unwrap();
        assert_eq!(last(0), Time::from_seconds(99 + 98) + LATE);
        assert_eq!(last(1000), Time::from_seconds(68 + 1000) + LATE);
        let unknown = r#"[{"revision":1,"hash":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","at":0},{"revision":2,"hash":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","at":5000}]"#;
        let unknown = Revisions(serde_json::from_str(unknown).unwrap());
        let last = unknown.last_expiry(Span::from_seconds(7));
        assert_eq!(last, Some(Time::from_seconds(5 + 7) + LATE));
        assert_eq!(Revisions::default().last_expiry(LATE), None);
        let named: BTreeSet<String> = list.0.iter().map(|r| source_name(&r.hash)).collect();
        assert_eq!(kept, named);
    }
}
