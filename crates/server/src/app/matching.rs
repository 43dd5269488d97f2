//! Finding the workload that a proof matches, without asking each of thousands.

use std::collections::HashMap;

use dayfly_domain::{ClauseFailure, Name, Proof, Refusal, Rule};

use crate::declared::{Declared, DeclaredWorkload};

/// Workloads by one claim that each of them pins to exact values.
#[derive(Debug, Default)]
pub struct MatchIndex {
    issuers: HashMap<Name, IssuerIndex>,
}

#[derive(Debug, Default)]
struct IssuerIndex {
    /// Claim, then value, then the workloads that want it.
    pinned: Vec<(String, HashMap<String, Vec<Name>>)>,
    /// Workloads that pin no claim.
    open: Vec<Name>,
}

impl MatchIndex {
    /// Indexes the declared workloads.
    #[must_use]
    pub fn of(declared: &Declared) -> Self {
        let mut index = Self::default();
        for (name, declared) in &declared.workloads {
            let workload = &declared.workload;
            let issuer = index.issuers.entry(workload.issuer.clone()).or_default();
            let pinned = workload
                .matching
                .clauses
                .iter()
                .filter(|clause| workload.matching.pins(&clause.claim) && !clause.implied)
                // The clause with the fewest values keeps the candidates few.
                .min_by_key(|clause| clause.any_of.len());
            match pinned {
                None => issuer.open.push(name.clone()),
                Some(clause) => {
                    let by_value = issuer.by_claim(&clause.claim);
                    for value in &clause.any_of {
                        by_value
                            .entry(value.clone())
                            .or_default()
                            .push(name.clone());
                    }
                }
            }
        }
        index
    }

    /// The one workload that a proof matches; the named one, where a name is given.
    ///
    /// # Errors
    /// A refusal of stage `match`, naming the clause that fails for the nearest workload.
    pub fn find<'a>(
        &self,
        declared: &'a Declared,
        proof: &Proof,
        named: Option<&str>,
    ) -> Result<&'a DeclaredWorkload, Refusal> {
        let found = match named {
            Some(named) => find_named(declared, proof, named)?,
            None => self.find_only(declared, proof)?,
        };
        match &found.unfinished {
            None => Ok(found),
            Some(what) => Err(Refusal::new(Rule::WorkloadUnfinished)
                .field(format!("workload.{}", found.workload.name))
                .wanted("a finished declaration")
                .got(what.as_str())
                .hint("run `dayfly proof` in the job to see the claims, and fill in the line that is commented out")),
        }
    }

    fn find_only<'a>(
        &self,
        declared: &'a Declared,
        proof: &Proof,
    ) -> Result<&'a DeclaredWorkload, Refusal> {
        let mut matching = self
            .candidates(proof)
            .filter_map(|name| declared.workloads.get(name))
            .filter(|found| {
                found
                    .workload
                    .matching
                    .first_failure(&proof.claims)
                    .is_none()
            });
        match (matching.next(), matching.next()) {
            (Some(only), None) => Ok(only),
            (Some(one), Some(other)) => Err(Refusal::new(Rule::SeveralWorkloads)
                .field("client_id")
                .wanted("the name of a workload")
                .got("none")
                .hint(format!(
                    "{} and {} match; name one with client_id",
                    one.workload.name, other.workload.name
                ))),
            (None, _) => Err(nearest(declared, proof)),
        }
    }

    fn candidates<'a>(&'a self, proof: &'a Proof) -> impl Iterator<Item = &'a Name> {
        let issuer = self.issuers.get(&proof.issuer);
        let pinned = issuer
            .into_iter()
            .flat_map(|issuer| &issuer.pinned)
            .filter_map(|(claim, by_value)| by_value.get(proof.claims.get(claim)?))
            .flatten();
        pinned.chain(issuer.into_iter().flat_map(|issuer| &issuer.open))
    }
}

impl IssuerIndex {
    fn by_claim(&mut self, claim: &str) -> &mut HashMap<String, Vec<Name>> {
        let place = match self.pinned.iter().position(|(held, _)| held == claim) {
            Some(place) => place,
            None => {
                self.pinned.push((claim.to_owned(), HashMap::new()));
                self.pinned.len() - 1
            }
        };
        #[expect(
            clippy::indexing_slicing,
            reason = "the place was found or made just above"
        )]
        &mut self.pinned[place].1
    }
}

fn find_named<'a>(
    declared: &'a Declared,
    proof: &Proof,
    named: &str,
) -> Result<&'a DeclaredWorkload, Refusal> {
    let found = named
        .parse::<Name>()
        .ok()
        .and_then(|name| declared.workloads.get(&name))
        .filter(|found| found.workload.issuer == proof.issuer)
        .ok_or_else(|| {
            Refusal::new(Rule::WorkloadUnknown)
                .field("client_id")
                .wanted(format!("a workload declared for issuer {}", proof.issuer))
                .got(named)
        })?;
    match found.workload.matching.first_failure(&proof.claims) {
        None => Ok(found),
        Some(failure) => Err(mismatch(Rule::ClaimMismatch, &failure, "")),
    }
}

/// The workload with the most clauses that hold explains best what is missing.
fn nearest(declared: &Declared, proof: &Proof) -> Refusal {
    let nearest = declared
        .workloads
        .values()
        .filter(|found| found.workload.issuer == proof.issuer)
        .filter_map(|found| {
            let failure = found.workload.matching.first_failure(&proof.claims)?;
            Some((&found.workload.name, failure))
        })
        .max_by_key(|(_, failure)| failure.held);
    match nearest {
        None => Refusal::new(Rule::NoWorkload)
            .field("issuer")
            .wanted("a workload declared for this issuer")
            .got(proof.issuer.as_str()),
        Some((workload, failure)) => mismatch(
            Rule::NoWorkload,
            &failure,
            &format!("nearest is workload {workload}"),
        ),
    }
}

fn mismatch(rule: Rule, failure: &ClauseFailure, hint: &str) -> Refusal {
    Refusal::new(rule)
        .field(failure.claim.as_str())
        .wanted(failure.wanted.as_str())
        .got(failure.got.as_deref().unwrap_or("no such claim"))
        .hint(hint)
}
