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

impl App {
    /// Charges a verified proof to its issuer and to the workload that it matched.
    pub(super) fn charge_proof(
        &self,
        tenant: &Tenant,
        declared: &Declared,
        workload: &Name,
        now: Time,
    ) -> Result<(), Refusal> {
        let Some(found) = declared.workloads.get(workload) else {
            return Ok(());
        };
        let issuer = &found.workload.issuer;
        if let Some(rate) = rate_of(declared, issuer) {
            let key = (tenant.name().clone(), issuer.clone());
            let field = format!("issuer.{issuer}.rate");
            charge(&self.rates.issuers, key, rate, &field, now)?;
        }
        self.charge_workload(tenant, workload, found.rate, now)
    }

    /// Whether a proof would be within these rates; charges nothing.
    pub(super) fn check_proof_rates(
        &self,
        tenant: &Tenant,
        declared: &Declared,
        workload: &Name,
    ) -> Result<(), Refusal> {
        let Some(found) = declared.workloads.get(workload) else {
            return Ok(());
        };
        let now = self.now();
        let issuer = &found.workload.issuer;
        if let Some(rate) = rate_of(declared, issuer) {
            let key = (tenant.name().clone(), issuer.clone());
            let checked = self.rates.issuers.check(&key, rate, now);
            checked.map_err(|wait| over(&format!("issuer.{issuer}.rate"), rate, wait))?;
        }
        if let Some(rate) = found.rate {
            let key = (tenant.name().clone(), workload.clone());
            let checked = self.rates.workloads.check(&key, rate, now);
            checked.map_err(|wait| over(&format!("workload.{workload}.rate"), rate, wait))?;
        }
        Ok(())
    }

    /// Charges an authenticated client, and its workload.
    pub(super) fn charge_client(
        &self,
        tenant: &Tenant,
        client: ClientId,
        workload: &Name,
        now: Time,
    ) -> Result<(), Refusal> {
        let loaded = tenant.loaded();
        let Some(found) = loaded.declared.workloads.get(workload) else {
            return Ok(());
        };
        if let Some(rate) = found.client_rate {
            let field = format!("workload.{workload}.client_rate");
            charge(&self.rates.clients, client, rate, &field, now)?;
        }
        self.charge_workload(tenant, workload, found.rate, now)
    }

    fn charge_workload(
        &self,
        tenant: &Tenant,
        workload: &Name,
        rate: Option<Rate>,
        now: Time,
    ) -> Result<(), Refusal> {
        let Some(rate) = rate else {
            return Ok(());
        };
        let key = (tenant.name().clone(), workload.clone());
        let field = format!("workload.{workload}.rate");
        charge(&self.rates.workloads, key, rate, &field, now)
    }
}

fn charge<K: std::hash::Hash + Eq>(
    buckets: &Buckets<K>,
    key: K,
    rate: Rate,
    field: &str,
    now: Time,
) -> Result<(), Refusal> {
    let charged = buckets.take(key, rate, now);
    charged.map_err(|wait| over(field, rate, wait))
}

fn rate_of(declared: &Declared, issuer: &Name) -> Option<Rate> {
    declared.issuers.get(issuer)?.rate
}

fn over(field: &str, rate: Rate, wait: Span) -> Refusal {
    Refusal::new(Rule::RateLimit)
        .field(field)
        .wanted(format!("at most {rate}"))
        .got("more")
        .hint(format!("the same request passes in {wait}"))
        .retry_after(wait)
}
