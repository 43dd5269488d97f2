//! Declared state, `tenants/<tenant>/`: what may run, checked as a whole and turned into the domain's types.

mod access;
mod advice;
mod delegation;
mod diff;
mod handed;
mod issuer;
mod matching;
mod overlap;
mod owner;
mod platform;
mod resource;
mod review;
mod sections;
mod signals;
mod source;
mod subject;
mod task;
#[cfg(test)]
pub(crate) mod tests;
mod types;
mod webhook;
mod workload;

use std::collections::BTreeMap;

use dayfly_domain::access::Catalog;
use dayfly_domain::{Name, Workload};

use crate::config::{Bounds, Config, Rate, Report};
use sections::Sections;

pub use crate::config::{LoadError, Warning};
pub use advice::goes_by_names;
pub use diff::{Change, ChangeKind, KeyChange, Section, diff};
pub use handed::{HANDED, HandOver, HandOvers};
pub use issuer::{Issuer, JwksSource};
pub use overlap::{Neighbour, overlaps, usual_audiences};
pub use owner::Owner;
pub use platform::IssuerKind;
pub use resource::{Resource, ResourceAuth};
pub use review::TokenReview;
pub use signals::{Delivery, Poll, Transmitter};
pub use source::{Source, SourceError, SourceFile};
pub use webhook::WebhookSecret;
pub use workload::{LEAST_WAIT, MOST_WAIT};

/// Everything that a tenant declares.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Whether DPoP proofs must carry a nonce of this server.
    pub dpop_nonce: DpopNonce,
    /// Whose tokens count as proof.
    pub issuers: BTreeMap<Name, Issuer>,
    /// Who answers for workloads.
    pub owners: BTreeMap<Name, Owner>,
    /// Who accepts credentials.
    pub resources: BTreeMap<Name, Resource>,
    /// Resources and types as the domain reads requests against them.
    pub catalog: Catalog,
    /// Who says of people that their sessions are over.
    pub transmitters: BTreeMap<Name, Transmitter>,
    /// What may run.
    pub workloads: BTreeMap<Name, DeclaredWorkload>,
    /// The workloads that another owner answers for than their files name, and whom these name.
    pub handed: BTreeMap<Name, Name>,
}

/// What may run, or is about to be declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredWorkload {
    /// The workload.
    pub workload: Workload,
    /// The claim that `match` still has to pin; while it is named, every proof is refused with
    /// `Rule::WorkloadUnfinished`.
    pub unfinished: Option<String>,
    /// How often proofs and clients of it may ask for credentials.
    pub rate: Option<Rate>,
    /// How often one client of it may.
    pub client_rate: Option<Rate>,
}

/// Whether DPoP proofs must carry a nonce of this server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DpopNonce {
    /// A nonce that is shown is checked, none is demanded.
    #[default]
    Optional,
    /// Without a nonce a proof is refused.
    Required,
}

/// What declared state is checked against besides itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantContext {
    /// The tenant's own issuer, `<public_url>/<tenant>`.
    pub issuer: String,
    /// The server's bounds.
    pub bounds: Bounds,
    /// The issuer of those who operate the server, where it has some.
    pub operators: Option<String>,
}

impl TenantContext {
    /// The context of one tenant of a server.
    #[must_use]
    pub fn new(config: &Config, tenant: &Name) -> Self {
        Self {
            issuer: config.issuer(tenant),
            bounds: config.bounds,
            operators: config.operators.as_ref().map(|of| of.issuer.clone()),
        }
    }
}

impl Declared {
    /// Checks declared state and reads the files it names, but nothing over the network.
    ///
    /// # Errors
    /// Every mistake at once, in order of place. Mistakes of syntax stand alone: what else is
    /// wrong cannot be told before they are mended.
    pub fn load(
        source: &Source,
        context: &TenantContext,
    ) -> Result<(Self, Vec<Warning>), Vec<LoadError>> {
        let mut report = Report::default();
        let documents = source.documents(&mut report);
        let declared = if report.has_errors() {
            None
        } else {
            let sections = Sections::gather(&documents, &mut report);
            read(&sections, source, context, &mut report)
        };
        match (declared, report.into_parts()) {
            (Some(declared), (errors, warnings)) if errors.is_empty() => Ok((declared, warnings)),
            (Some(_) | None, (errors, _)) => Err(errors),
        }
    }

    /// The issuer whose tokens carry this `iss`, compared as bytes.
    #[must_use]
    pub fn issuer_by_url(&self, iss: &str) -> Option<&Issuer> {
        self.issuers.values().find(|issuer| issuer.url == iss)
    }

    /// The resource that authenticates under this client id: the name of its table.
    #[must_use]
    pub fn resource_by_client_id(&self, client_id: &str) -> Option<&Resource> {
        let name: Name = client_id.parse().ok()?;
        self.resources.get(&name)
    }

    /// The workloads that an issuer's tokens can prove.
    pub fn workloads_of<'a>(
        &'a self,
        issuer: &'a Name,
    ) -> impl Iterator<Item = &'a DeclaredWorkload> {
        self.workloads
            .values()
            .filter(move |declared| declared.workload.issuer == *issuer)
    }
}

fn read(
    sections: &Sections<'_>,
    source: &Source,
    context: &TenantContext,
    report: &mut Report,
) -> Option<Declared> {
    let dpop_nonce = sections.dpop_nonce(report);
    let issuers = issuer::read_all(&sections.issuers, source.base(), context, report);
    let transmitters = {
        let against = signals::Against {
            issuers: &issuers,
            base: source.base(),
            context,
        };
        signals::read_all(sections, &against, report)
    };
    let owners = sections.owners.read(report, owner::read);
    let resources = resource::read_all(&sections.resources, source.base(), context, report);
    let catalog = Catalog {
        resources: resource::for_catalog(&resources),
        types: types::read_all(&sections.types, report),
    };
    let workloads = {
        let against = workload::Against {
            sections,
            issuers: &issuers,
            catalog: &catalog,
            context,
        };
        sections.workloads.read(report, |name, node, report| {
            workload::read(name, node, &against, report)
        })
    };
    advice::on_unused(sections, &workloads, report);
    advice::on_namesakes(sections, &resources, &workloads, report);
    Some(Declared {
        dpop_nonce,
        issuers,
        owners,
        resources,
        catalog,
        transmitters,
        workloads,
        handed: BTreeMap::new(),
    })
}
