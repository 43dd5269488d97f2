//! `[resource.<name>]`: a server that accepts credentials, and how it authenticates here.

use std::collections::BTreeMap;
use std::path::Path;

use dayfly_domain::Name;
use dayfly_domain::access::{self, Catalog};
use dayfly_token::alg::Alg;

use super::TenantContext;
use super::issuer::{JwksSource, jwks};
use super::sections::Items;
use crate::config::{Node, Report, Secret, Table, is_world_readable, web_url};

/// A server that accepts credentials; its client id here is its name.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The name of its table, and its client id.
    pub name: Name,
    /// Its URL: the audience of its tokens.
    pub url: String,
    /// How it authenticates for introspection and decisions; none when it only checks tokens by itself.
    pub auth: Option<ResourceAuth>,
    /// The algorithm its tokens are signed with: ES256 or RS256.
    pub signing: Alg,
    /// Whether its tokens name the person on whose behalf a task runs.
    pub names_person: bool,
    /// Whether it promises to ask for each use of a credential, so that what was used is known.
    pub reports: bool,
}

/// How a resource authenticates.
#[derive(Clone, Debug)]
pub enum ResourceAuth {
    /// By a secret.
    Secret(Secret),
    /// By assertions (RFC 7523) of these keys; in this build always [`JwksSource::File`].
    Keys(JwksSource),
}

pub(super) fn read_all(
    items: &Items<'_>,
    base: &Path,
    context: &TenantContext,
    report: &mut Report,
) -> BTreeMap<Name, Resource> {
    let resources = items.read(report, |name, node, report| read(name, node, base, report));
    let mut seen = Catalog::default();
    for (name, node) in items.iter() {
        let Some(resource) = resources
            .values()
            .find(|resource| resource.name.as_str() == name)
        else {
            continue;
        };
        if resource.url == context.issuer {
            node.error(
                format!("the url of the resource `{name}` is the issuer of this tenant"),
                report,
            );
        }
        if let Some(first) = seen.by_url(&resource.url) {
            let message = format!(
                "the resources `{}` and `{name}` have one url, `{}`",
                first.name, resource.url
            );
            node.error(message, report);
        }
        seen.resources
            .insert(resource.name.clone(), in_catalog(resource));
    }
    resources
}

/// The resources as the domain knows them.
pub(super) fn for_catalog(
    resources: &BTreeMap<Name, Resource>,
) -> BTreeMap<Name, access::Resource> {
    resources
        .iter()
        .map(|(name, resource)| (name.clone(), in_catalog(resource)))
        .collect()
}

fn in_catalog(resource: &Resource) -> access::Resource {
    access::Resource {
        name: resource.name.clone(),
        url: resource.url.clone(),
        names_person: resource.names_person,
    }
}

fn read(name: &Name, node: &Node<'_>, base: &Path, report: &mut Report) -> Option<Resource> {
    let mut table = node.table(report)?;
    let url = table.require("url", report).and_then(|node| {
        let _ = web_url(&node, report)?;
        node.text(report)
    });
    let auth = auth(&mut table, base, report);
    let signing = table
        .get("signing")
        .and_then(|node| node.choice(&[("ES256", Alg::Es256), ("RS256", Alg::Rs256)], report))
        .unwrap_or(Alg::Es256);
    let names_person = table
        .get("subject")
        .and_then(|node| node.choice(&[("workload", false), ("person", true)], report))
        .unwrap_or_default();
    let reports = table.get("reports");
    let reported = reports.as_ref().and_then(|node| node.boolean(report));
    if let Some(node) = reports
        && reported == Some(true)
        && auth.is_none()
    {
        node.error(
            "`reports = true` promises to ask for each use, and whoever asks must authenticate: `secret_file` or `jwks` is missing",
            report,
        );
    }
    table.finish(report);
    Some(Resource {
        name: name.clone(),
        url: url?.to_string(),
        auth,
        signing,
        names_person,
        reports: reported.unwrap_or_default(),
    })
}

fn auth(table: &mut Table<'_>, base: &Path, report: &mut Report) -> Option<ResourceAuth> {
    match (table.get("secret_file"), table.get("jwks")) {
        (None, None) => None,
        (Some(secret), None) => read_secret(&secret, base, report).map(ResourceAuth::Secret),
        (None, Some(keys)) => match jwks(&keys, Alg::DEFAULT, base, report)? {
            JwksSource::Url { .. } | JwksSource::Discovery | JwksSource::Transmitter => {
                keys.error(
                    "the `url` of a resource's `jwks` is not served by this build, use `file`",
                    report,
                );
                None
            }
            file @ JwksSource::File { .. } => Some(ResourceAuth::Keys(file)),
        },
        (Some(secret), Some(_)) => {
            secret.error("`secret_file` and `jwks` exclude each other", report);
            None
        }
    }
}

fn read_secret(node: &Node<'_>, base: &Path, report: &mut Report) -> Option<Secret> {
    let path = node.path(base, report)?;
    let shown = path.display();
    match Secret::read(&path) {
        Ok(secret) => {
            if is_world_readable(&path) {
                report.warn(
                    node.place(),
                    format!("everyone on this machine can read `{shown}`"),
                    None,
                );
            }
            Some(secret)
        }
        Err(why) => {
            node.error(format!("the secret file `{shown}` {why}"), report);
            None
        }
    }
}
