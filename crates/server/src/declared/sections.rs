//! The tables of all files by section and name, so that a tenant may be split over files and nothing stands twice.

use std::collections::BTreeMap;

use dayfly_domain::Name;

use super::DpopNonce;
use crate::config::{Document, Node, Report, Table};

/// Every declared table, not yet read.
#[derive(Default)]
pub(super) struct Sections<'d> {
    dpop_nonce: Option<Node<'d>>,
    pub(super) issuers: Items<'d>,
    pub(super) owners: Items<'d>,
    pub(super) resources: Items<'d>,
    pub(super) types: Items<'d>,
    pub(super) signals: Items<'d>,
    pub(super) workloads: Items<'d>,
}

/// The tables of one section by name.
#[derive(Default)]
pub(super) struct Items<'d>(BTreeMap<&'d str, Node<'d>>);

impl<'d> Sections<'d> {
    pub(super) fn gather(documents: &'d [Document<'_>], report: &mut Report) -> Self {
        let mut sections = Self::default();
        for document in documents {
            let mut root = document.root();
            sections.take_nonce(&mut root, report);
            sections.issuers.take("issuer", &mut root, report);
            sections.owners.take("owner", &mut root, report);
            sections.resources.take("resource", &mut root, report);
            sections.types.take("type", &mut root, report);
            sections.signals.take("signals", &mut root, report);
            sections.workloads.take("workload", &mut root, report);
            root.finish(report);
        }
        sections
    }

    pub(super) fn dpop_nonce(&self, report: &mut Report) -> DpopNonce {
        let words = [
            ("optional", DpopNonce::Optional),
            ("required", DpopNonce::Required),
        ];
        let node = self.dpop_nonce.as_ref();
        node.and_then(|node| node.choice(&words, report))
            .unwrap_or_default()
    }

    fn take_nonce(&mut self, root: &mut Table<'d>, report: &mut Report) {
        let Some(node) = root.get("dpop_nonce") else {
            return;
        };
        match &self.dpop_nonce {
            Some(first) => twice(first, &node, report),
            None => self.dpop_nonce = Some(node),
        }
    }
}

impl<'d> Items<'d> {
    /// Reads each table under its name, leaving out those that fail.
    pub(super) fn read<T>(
        &self,
        report: &mut Report,
        mut read: impl FnMut(&Name, &Node<'d>, &mut Report) -> Option<T>,
    ) -> BTreeMap<Name, T> {
        let mut items = BTreeMap::new();
        for (text, node) in &self.0 {
            match text.parse::<Name>() {
                Ok(name) => {
                    if let Some(item) = read(&name, node, report) {
                        items.insert(name, item);
                    }
                }
                Err(why) => node.error(format!("`{text}` cannot be a name: {why}"), report),
            }
        }
        items
    }

    /// The declared names, also of tables that cannot be read.
    pub(super) fn names(&self) -> impl Iterator<Item = &'d str> {
        self.0.keys().copied()
    }

    /// Every name and table.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'d str, &Node<'d>)> {
        self.0.iter().map(|(name, node)| (*name, node))
    }

    /// Reads a reference to one of these; `what` says what they are.
    pub(super) fn reference(
        &self,
        what: &str,
        node: &Node<'_>,
        report: &mut Report,
    ) -> Option<Name> {
        let text = node.text(report)?;
        if self.0.contains_key(text) {
            return text.parse().ok();
        }
        let message = format!(
            "`{}` names the {what} `{text}`, which is not declared",
            node.name_of()
        );
        node.unknown(message, text, self.names(), report);
        None
    }

    fn take(&mut self, section: &'static str, root: &mut Table<'d>, report: &mut Report) {
        let Some(table) = root.get(section).and_then(|node| node.table(report)) else {
            return;
        };
        for (name, node) in table.others() {
            match self.0.get(name) {
                Some(first) => twice(first, &node, report),
                None => {
                    self.0.insert(name, node);
                }
            }
        }
    }
}

fn twice(first: &Node<'_>, second: &Node<'_>, report: &mut Report) {
    let message = format!(
        "`{}` is declared twice, first at {}",
        second.name_of(),
        first.place()
    );
    second.error(message, report);
}
