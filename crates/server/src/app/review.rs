//! A review is signed off: who looked at what an owner's workloads may do, over which state and numbers.

use dayfly_domain::Refusal;
use dayfly_store::{Annex, Append, AppendError, Document, Note};
use serde_json::json;

use super::actor::{Actor, Signature};
use super::refuse::{Refused, Trail, unavailable};
use super::{App, Tenant};
use crate::random;
use crate::record::{Allowed, Review, SignedReview, signed_document};

/// What became of a sign-off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedOff {
    /// It is recorded.
    Signed(SignedReview),
    /// The declared state has changed since it was looked at.
    Changed,
}

impl App {
    /// Records that a person has looked at a review. `member` says whether they sign as a member of
    /// the owner that it is about.
    ///
    /// # Errors
    /// The refusal: the ledger cannot record.
    pub async fn sign_off(
        &self,
        tenant: &Tenant,
        review: &Review,
        member: bool,
        by: &Actor,
        reason: &str,
    ) -> Result<SignedOff, Refused> {
        let trail = Trail {
            asked: "sign off",
            ..Trail::default()
        };
        let done = self.try_sign_off(tenant, review, member, by, reason).await;
        done.map_err(|refusal| self.refuse(tenant, &trail, refusal))
    }

    async fn try_sign_off(
        &self,
        tenant: &Tenant,
        review: &Review,
        member: bool,
        by: &Actor,
        reason: &str,
    ) -> Result<SignedOff, Refusal> {
        let now = self.now();
        let signed = Signature::of(by, reason).map_err(|why| unavailable(&why))?;
        let document = SignedReview {
            at: now,
            revision: review.revision,
            hash: review.hash,
        };
        let bytes = serde_json::to_vec(&document).map_err(|why| unavailable(&why))?;
        let append = Append {
            now,
            notes: vec![note(review, member, &signed)?],
            documents: vec![Document {
                name: signed_document(&review.owner),
                bytes: Some(bytes),
            }],
            // What was looked at is what is in force when it is signed.
            revision: Some(review.revision),
            ..Append::default()
        };
        match self.store.append(tenant.name(), append).await {
            Ok(_) => Ok(SignedOff::Signed(document)),
            Err(AppendError::Revised) => Ok(SignedOff::Changed),
            Err(why) => Err(unavailable(&why)),
        }
    }
}

/// The sums stand in the leaf, the numbers of each workload in the annex beside who and why.
fn note(review: &Review, member: bool, signed: &Signature) -> Result<Note, Refusal> {
    let sum = |of: fn(&crate::record::WorkloadReview) -> u64| -> u64 {
        review.workloads.iter().map(of).sum()
    };
    let data = json!({
        "owner": review.owner, "revision": review.revision, "hash": review.hash,
        "since": review.since, "until": review.until, "workloads": review.workloads.len(),
        "runs": sum(|of| of.runs), "silent": sum(|of| of.silent),
        "findings": review.findings.len(), "member": member,
        "complete": review.workloads.iter().all(|of| of.complete),
    });
    let mut annex = signed.json().clone();
    let numbers: Vec<_> = review
        .workloads
        .iter()
        .map(|of| {
            let granted: Vec<u64> = of.access.iter().map(|allowed| allowed.granted).collect();
            let used = |allowed: &Allowed| allowed.used.as_ref().map(|used| used.times);
            let used: Vec<Option<u64>> = of.access.iter().map(used).collect();
            json!({
                "workload": of.workload, "runs": of.runs, "silent": of.silent,
                "granted": granted, "used": used, "complete": of.complete,
            })
        })
        .collect();
    if let Some(members) = annex.as_object_mut() {
        members.insert("numbers".to_owned(), numbers.into());
    }
    Ok(Note {
        kind: "review.signed",
        data: signed.sign(data),
        annex: Some(Annex {
            salt: random::bytes().map_err(|why| unavailable(&why))?,
            data: annex.to_string(),
        }),
    })
}
