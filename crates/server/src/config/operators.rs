//! `[operators]`: the provider that vouches for the people who operate this server, and which role each has.

use dayfly_token::alg::Alg;

use super::who::{Named, Who};
use super::{Front, Node, Report, Table, web_url};

/// What somebody may do at the admin face.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything.
    Admin,
    /// Reads, contains, and lets run again.
    Operator,
    /// Looks at tasks. To approve them is all it is for, which this build has no task wait for.
    Approver,
    /// Reads everything and changes nothing.
    Auditor,
}

impl Role {
    /// Every role, in order of the configuration's keys.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Operator, Self::Approver, Self::Auditor];

    /// Its key in configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
        }
    }
}

/// The table `[operators]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operators {
    /// The provider, compared as bytes with the `iss` of its tokens.
    pub issuer: String,
    /// The client that its tokens must be made for.
    pub client_id: String,
    /// The claim that lists a person's groups: a name, or a JSON pointer.
    pub groups_claim: String,
    /// The scopes that a login asks for; none leaves it to what the provider offers.
    pub scopes: Option<Vec<String>>,
    /// The accepted algorithms.
    pub algs: Vec<Alg>,
    /// Whether the provider may be at a loopback or private address.
    pub allow_private: bool,
    /// Who has which role.
    pub roles: Vec<(Role, Who)>,
}

impl Operators {
    /// The roles of a person, in order and each once.
    #[must_use]
    pub fn roles_of(&self, person: Named<'_>) -> Vec<Role> {
        let has = |role: &Role| {
            let mut listed = self.roles.iter();
            listed.any(|(listed, who)| listed == role && who.names(person))
        };
        Role::ALL.into_iter().filter(has).collect()
    }
}

/// Reads `operators`. It needs the admin listener, and one that nobody can listen in on.
pub(super) fn read(node: &Node<'_>, front: &Front, report: &mut Report) -> Option<Operators> {
    let mut table = node.table(report)?;
    let allow_private = table
        .get("allow_private")
        .and_then(|node| node.boolean(report))
        .unwrap_or(false);
    let issuer = table
        .require("issuer", report)
        .and_then(|node| issuer(&node, allow_private, report));
    let client_id = table
        .require("client_id", report)
        .and_then(|node| node.text(report));
    let groups_claim = match table.get("groups_claim") {
        Some(node) => node.text(report),
        None => Some("groups"),
    };
    let scopes = table.get("scopes").map(|node| scopes(&node, report));
    let algs = algs(&mut table, report);
    let mut roles = Vec::new();
    for role in Role::ALL {
        let Some(node) = table.get(role.word()) else {
            continue;
        };
        let listed = listed(&node, report);
        roles.extend(
            listed
                .iter()
                .filter_map(|item| Some((role, Who::read(item, report)?))),
        );
    }
    table.finish(report);
    check_listener(node, front, report);
    Some(Operators {
        issuer: issuer?,
        client_id: client_id?.to_owned(),
        groups_claim: groups_claim?.to_owned(),
        scopes,
        algs,
        allow_private,
        roles,
    })
}

fn issuer(node: &Node<'_>, allow_private: bool, report: &mut Report) -> Option<String> {
    let url = web_url(node, report)?;
    let text = node.text(report)?;
    if url.query().is_some() {
        let message = format!("`{text}` has a query, which an issuer cannot have");
        node.error(message, report);
    }
    if url.scheme() == "http" && !allow_private {
        let message = format!("`{text}` is http, wanted https, or `allow_private = true`");
        node.error(message, report);
    }
    Some(text.to_owned())
}

/// A scope is one word (RFC 6749, section 3.3).
fn scopes(node: &Node<'_>, report: &mut Report) -> Vec<String> {
    let mut scopes = vec!["openid".to_owned()];
    for item in node.list(report).unwrap_or_default() {
        let Some(text) = item.text(report) else {
            continue;
        };
        if text
            .bytes()
            .any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'"' | b'\\'))
        {
            let message = format!("`{}` is `{text}`, which is no scope", item.name_of());
            item.error(message, report);
        } else if !scopes.iter().any(|known| known == text) {
            scopes.push(text.to_owned());
        }
    }
    scopes
}

fn algs(table: &mut Table<'_>, report: &mut Report) -> Vec<Alg> {
    let Some(items) = table.get("algs").and_then(|node| node.list(report)) else {
        return Alg::DEFAULT.to_vec();
    };
    let words: Vec<_> = Alg::ALL.iter().map(|alg| (alg.as_str(), *alg)).collect();
    items
        .iter()
        .filter_map(|item| item.choice(&words, report))
        .collect()
}

/// The items of a list, which may be empty: that nobody has a role is worth saying.
fn listed<'d>(node: &Node<'d>, report: &mut Report) -> Vec<Node<'d>> {
    match node.value().as_array() {
        Some(items) if items.is_empty() => Vec::new(),
        Some(_) | None => node.list(report).unwrap_or_default(),
    }
}

/// A token that is shown in plain sight is anybody's.
fn check_listener(node: &Node<'_>, front: &Front, report: &mut Report) {
    match front.admin {
        None => node.error(
            "`operators` is of no use without `admin = \"address:port\"`, where they are served",
            report,
        ),
        Some(address) if !address.ip().is_loopback() && front.tls.is_none() => node.error(
            format!(
                "operators would show their tokens to `admin = \"{address}\"` unencrypted: wanted `tls`, or `admin` on loopback"
            ),
            report,
        ),
        Some(_) => {}
    }
}
