//! How configuration names people: by group, by subject, or by an address that their provider has checked.

use super::{Node, Report, any_of};

/// People, as a list of roles or members names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// `group:<name>`: everybody whose token carries this group.
    Group(String),
    /// `sub:<subject>`: one person, by the subject that the provider never gives to another.
    Subject(String),
    /// `email:<address>`: whoever has this address, which the provider says it has checked.
    Email(String),
}

/// What a person's token says that a [`Who`] may name.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The subject.
    pub sub: &'a str,
    /// The groups.
    pub groups: &'a [String],
    /// The address; none unless the provider has checked it.
    pub email: Option<&'a str>,
}

impl Who {
    /// Whether it names this person. Everything compares as bytes.
    #[must_use]
    pub fn names(&self, person: Named<'_>) -> bool {
        match self {
            Self::Group(group) => person.groups.contains(group),
            Self::Subject(sub) => person.sub == sub,
            Self::Email(email) => person.email == Some(email),
        }
    }

    pub(crate) fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        const KNOWN: [&str; 3] = ["group:", "sub:", "email:"];
        let text = node.text(report)?;
        let (what, who) = match text.split_once(':') {
            Some((what, who)) if !who.trim().is_empty() => (what, who.to_owned()),
            Some(_) | None => ("", String::new()),
        };
        match what {
            "group" => Some(Self::Group(who)),
            "sub" => Some(Self::Subject(who)),
            "email" => Some(Self::Email(who)),
            _ => {
                let message = format!(
                    "`{}` is `{text}`, wanted {} and a name",
                    node.name_of(),
                    any_of(&KNOWN)
                );
                let prefix = text.split_inclusive(':').next().unwrap_or_default();
                node.unknown(message, prefix, KNOWN, report);
                None
            }
        }
    }
}
