//! What differs between two revisions of declared state, as people wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sha2::{Digest, Sha256};
use toml::de::{DeTable, DeValue};

use super::source::Source;

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What kind of thing it is.
    pub section: Section,
    /// Its name.
    pub name: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// The kinds of things that are declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// A key of the tenant itself, like `dpop_nonce`.
    Setting,
    /// An issuer.
    Issuer,
    /// An owner.
    Owner,
    /// A resource.
    Resource,
    /// A type of access.
    Type,
    /// A transmitter of signals.
    Signals,
    /// A workload.
    Workload,
    /// A policy file.
    Policy,
}

/// What happened to a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only the new revision has it.
    Added,
    /// Only the old revision has it.
    Removed,
    /// Both have it with these keys different, in order of the keys.
    Changed(Vec<KeyChange>),
}

/// One key that differs; its values as TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The key, with dots into tables and `[n]` into lists of tables.
    pub key: String,
    /// Its old value, where it was written.
    pub old: Option<String>,
    /// Its new value, where it is written.
    pub new: Option<String>,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setting => "setting",
            Self::Issuer => "issuer",
            Self::Owner => "owner",
            Self::Resource => "resource",
            Self::Type => "type",
            Self::Signals => "signals",
            Self::Workload => "workload",
            Self::Policy => "policy",
        })
    }
}

impl fmt::Display for Change {
    /// `+ owner ops`, `- owner ops`, or `~ owner ops` and a line for each key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Changed(_) => '~',
        };
        write!(f, "{sign} {} {}", self.section, self.name)?;
        match &self.kind {
            ChangeKind::Added | ChangeKind::Removed => Ok(()),
            ChangeKind::Changed(keys) => keys.iter().try_for_each(|key| write!(f, "\n    {key}")),
        }
    }
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |value: &Option<String>| value.clone().unwrap_or_else(|| "(not written)".to_string());
        write!(
            f,
            "{}: {} -> {}",
            self.key,
            shown(&self.old),
            shown(&self.new)
        )
    }
}

type Items = BTreeMap<(Section, String), BTreeMap<String, String>>;

/// The changes from one revision to another, by section and name.
///
/// It compares what was written, so that a revision which this build no longer loads can still be
/// compared: a default that is now spelt out is a change, a moved table or a comment is none.
#[must_use]
pub fn diff(old: &Source, new: &Source) -> Vec<Change> {
    let (old, new) = (items(old), items(new));
    let mut changes = Vec::new();
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for key in names {
        let kind = match (old.get(key), new.get(key)) {
            (Some(_), None) => ChangeKind::Removed,
            (None, Some(_)) => ChangeKind::Added,
            (Some(old), Some(new)) if old != new => ChangeKind::Changed(key_changes(old, new)),
            (Some(_) | None, Some(_) | None) => continue,
        };
        let (section, name) = key.clone();
        changes.push(Change {
            section,
            name,
            kind,
        });
    }
    changes
}

fn key_changes(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<KeyChange> {
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| KeyChange {
            key: key.clone(),
            old: old.get(key).cloned(),
            new: new.get(key).cloned(),
        })
        .collect()
}

fn items(source: &Source) -> Items {
    let mut items = Items::new();
    for file in source.tables() {
        let (root, _) = DeTable::parse_recoverable(&file.text);
        for (key, value) in root.get_ref() {
            add(&mut items, key.get_ref(), value.get_ref());
        }
    }
    for file in source.policies() {
        let hash = dayfly_domain::Digest(Sha256::digest(file.text.as_bytes()).into());
        let keys = BTreeMap::from([("sha256".to_string(), hash.to_string())]);
        items.insert((Section::Policy, file.name.clone()), keys);
    }
    items
}

fn add(items: &mut Items, key: &str, value: &DeValue<'_>) {
    let section = match key {
        "issuer" => Section::Issuer,
        "owner" => Section::Owner,
        "resource" => Section::Resource,
        "type" => Section::Type,
        "signals" => Section::Signals,
        "workload" => Section::Workload,
        _ => Section::Setting,
    };
    match value.as_table().filter(|_| section != Section::Setting) {
        Some(table) => {
            for (name, item) in table {
                let keys = items
                    .entry((section, name.get_ref().to_string()))
                    .or_default();
                flatten("", item.get_ref(), keys);
            }
        }
        None => {
            let keys = items.entry((section, key.to_string())).or_default();
            flatten("value", value, keys);
        }
    }
}

/// Writes each value under the keys that lead to it.
fn flatten(path: &str, value: &DeValue<'_>, keys: &mut BTreeMap<String, String>) {
    match value {
        DeValue::Table(table) => {
            for (key, value) in table {
                let path = match path {
                    "" => key.get_ref().to_string(),
                    path => format!("{path}.{}", key.get_ref()),
                };
                flatten(&path, value.get_ref(), keys);
            }
        }
        DeValue::Array(list) if list.iter().any(|item| item.get_ref().is_table()) => {
            for (index, item) in list.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), item.get_ref(), keys);
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => {
            keys.insert(path.to_string(), written(value));
        }
    }
}

fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(list) => {
            let items: Vec<_> = list.iter().map(|item| written(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(table) => {
            let items: Vec<_> = table
                .iter()
                .map(|(key, value)| format!("{} = {}", key.get_ref(), written(value.get_ref())))
                .collect();
            format!("{{ {} }}", items.join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
