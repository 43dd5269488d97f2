//! What a provider said of the people who operate: whom it keeps out of a tenant, and whose approvals no longer count.

use dayfly_domain::{Block, BlockOn, Epoch, EpochOf, Refusal, Rule, rights_removed};
use dayfly_store::{FactsQuery, OpenTask};

use super::refuse::unavailable;
use super::{App, Tenant};
use crate::verify::VerifiedPerson;

impl App {
    /// Checks that nothing keeps a person who operates out of a tenant: no block, no word of the
    /// provider that what the token tells of is over, and no restore since it was made, which may
    /// have lost either. In a stall what is held counts too.
    ///
    /// # Errors
    /// The refusal; of stage `ledger` where it cannot be known.
    pub fn check_operator(&self, tenant: &Tenant, who: &VerifiedPerson) -> Result<(), Refusal> {
        let person = tenant.loaded().pseudonyms.of(who.iss(), who.sub());
        let said = EpochOf::Person(person);
        let query = FactsQuery {
            epochs: std::slice::from_ref(&said),
            ..FactsQuery::default()
        };
        let facts = self.store.facts(tenant.name(), &query);
        let facts = facts.map_err(|why| unavailable(&why))?;
        if let Some(block) = facts.blocks.first_of(&BlockOn::of_person(person)) {
            return Err(block.refusal());
        }
        let shown = Epoch::of_person(person, who.authenticated());
        if facts.epochs.iter().any(|epoch| shown.is_lost(epoch.at)) {
            return Err(rights_removed(&said));
        }
        tenant.check_operator_made(who)
    }

    /// What must not be blocked for what was approved to open: whoever approved it. Whose approval
    /// was erased from the record is nobody that could be looked for.
    pub(super) fn approved_by(
        &self,
        tenant: &Tenant,
        open: &OpenTask,
    ) -> Result<Vec<BlockOn>, Refusal> {
        let pseudonyms = &tenant.loaded().pseudonyms;
        let approvers = self.approvers(tenant, open)?.into_iter().flatten();
        let person = approvers.map(|who| pseudonyms.of(&who.iss, &who.sub));
        Ok(person.flat_map(BlockOn::of_person).collect())
    }

    /// The block on somebody who approved; none where all of them may still act.
    pub(super) fn blocked_approver(
        &self,
        tenant: &Tenant,
        approved: &[BlockOn],
    ) -> Result<Option<Block>, Refusal> {
        let blocks = self.blocks_that_stand(tenant);
        let blocks = blocks.map_err(|why| unavailable(&why))?;
        Ok(blocks.first_of(approved).cloned())
    }
}

/// The refusal of what was approved by somebody who is blocked by now. Who that is is for operator
/// and owner: the client learns that it was one of those who approved.
pub(super) fn unapproved(block: &Block) -> Refusal {
    Refusal::new(Rule::ApprovalLapsed)
        .field("approval")
        .wanted("approvals by people who may still act")
        .got("one by somebody who is blocked")
        .hint(format!(
            "{} since {}: ask again, and have somebody else approve; what lifts it is {}",
            block.on,
            block.since,
            block.on.lifted_by()
        ))
}
