//! How often verified callers may ask for credentials, where the declared state bounds it.
//!
//! Only what grants is counted: proofs, renewals and exchanges. A beat, a look at a task and above
//! all an end are never refused for coming too often.

use dayfly_domain::{ClientId, Name, Refusal, Rule, Span, Time};

use super::{App, Tenant};
use crate::config::Rate;
use crate::declared::Declared;
use crate::rate::Buckets;

/// Who asked how often of late.
#[derive(Default)]
pub(super) struct Rates {
    issuers: Buckets<(Name, Name)>,
    workloads: Buckets<(Name, Name)>,
    clients: Buckets<ClientId>,
}

/// What a look at a rate does to it.
#[derive(Clone, Copy)]
enum Counting {
    /// It counts.
    Charge,
    /// Nothing: it says only whether one more would pass.
    Look,
}

impl App {
    /// Charges a verified proof to its issuer and to the workload that it matched.
    pub(super) fn charge_proof(
        &self,
        tenant: &Tenant,
        declared: &Declared,
        workload: &Name,
        now: Time,
    ) -> Result<(), Refusal> {
        self.rate_proof((tenant, declared), workload, now, Counting::Charge)
    }

    /// Whether a proof would be within these rates.
    pub(super) fn check_proof_rates(
        &self,
        tenant: &Tenant,
        declared: &Declared,
        workload: &Name,
        now: Time,
    ) -> Result<(), Refusal> {
        self.rate_proof((tenant, declared), workload, now, Counting::Look)
    }

    /// Charges an authenticated client, and its workload.
    pub(super) fn charge_client(
        &self,
        tenant: &Tenant,
        client: ClientId,
        workload: &Name,
        now: Time,
    ) -> Result<(), Refusal> {
        self.rate_client((tenant, client), workload, now, Counting::Charge)
    }

    /// Whether a client would be within these rates.
    pub(super) fn check_client_rates(
        &self,
        tenant: &Tenant,
        client: ClientId,
        workload: &Name,
        now: Time,
    ) -> Result<(), Refusal> {
        self.rate_client((tenant, client), workload, now, Counting::Look)
    }

    fn rate_proof(
        &self,
        (tenant, declared): (&Tenant, &Declared),
        workload: &Name,
        now: Time,
        counting: Counting,
    ) -> Result<(), Refusal> {
        let Some(found) = declared.workloads.get(workload) else {
            return Ok(());
        };
        let issuer = &found.workload.issuer;
        if let Some(rate) = declared.issuers.get(issuer).and_then(|found| found.rate) {
            let key = (tenant.name().clone(), issuer.clone());
            let counted = counting.count(&self.rates.issuers, key, rate, now);
            counted.map_err(|wait| over(&format!("issuer.{issuer}.rate"), rate, wait))?;
        }
        self.rate_workload((tenant, workload), found.rate, now, counting)
    }

    fn rate_client(
        &self,
        (tenant, client): (&Tenant, ClientId),
        workload: &Name,
        now: Time,
        counting: Counting,
    ) -> Result<(), Refusal> {
        let loaded = tenant.loaded();
        let Some(found) = loaded.declared.workloads.get(workload) else {
            return Ok(());
        };
        if let Some(rate) = found.client_rate {
            let counted = counting.count(&self.rates.clients, client, rate, now);
            let field = format!("workload.{workload}.client_rate");
            counted.map_err(|wait| over(&field, rate, wait))?;
        }
        self.rate_workload((tenant, workload), found.rate, now, counting)
    }

    fn rate_workload(
        &self,
        (tenant, workload): (&Tenant, &Name),
        rate: Option<Rate>,
        now: Time,
        counting: Counting,
    ) -> Result<(), Refusal> {
        let Some(rate) = rate else {
            return Ok(());
        };
        let key = (tenant.name().clone(), workload.clone());
        let counted = counting.count(&self.rates.workloads, key, rate, now);
        counted.map_err(|wait| over(&format!("workload.{workload}.rate"), rate, wait))
    }
}

impl Counting {
    fn count<K: std::hash::Hash + Eq>(
        self,
        buckets: &Buckets<K>,
        key: K,
        rate: Rate,
        now: Time,
    ) -> Result<(), Span> {
        match self {
            Self::Charge => buckets.take(key, rate, now),
            Self::Look => buckets.check(&key, rate, now),
        }
    }
}

fn over(field: &str, rate: Rate, wait: Span) -> Refusal {
    Refusal::new(Rule::RateLimit)
        .field(field)
        .wanted(format!("at most {rate}"))
        .got("more")
        .hint(format!("the same request passes in {wait}"))
        .retry_after(wait)
}
