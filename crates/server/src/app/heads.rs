//! Signed heads of a tenant's ledger: made from the committed state only, handed out freely.

use std::sync::PoisonError;

use dayfly_ledger::Head;
use dayfly_ledger::head::HeadError as SignError;
use dayfly_store::{TreeHead, Unavailable};

use super::{App, Tenant};

/// Why no head can be handed out.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The store cannot answer.
    #[error(transparent)]
    Store(#[from] Unavailable),
    /// The head cannot be signed.
    #[error("the head cannot be signed: {0}")]
    Sign(#[from] SignError),
    /// It cannot be kept, and so is not handed out.
    #[error("the head cannot be kept: {0}")]
    Keep(#[from] std::io::Error),
}

impl App {
    /// A signed head of the committed ledger (C2SP tlog-checkpoint).
    ///
    /// What it covers is durable before it is signed, so that no crash can leave two heads that
    /// contradict each other.
    ///
    /// # Errors
    /// [`HeadError`].
    pub fn head_note(&self, tenant: &Tenant) -> Result<String, HeadError> {
        let TreeHead { size, root, .. } = self.store.head(tenant.name())?;
        // INVARIANT: the keyring is read under this lock. Who replaces it empties the place after,
        // so no head of a key that was given up is served again.
        let mut last = tenant
            .last_head
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((of, note)) = last.as_ref()
            && *of >= size
        {
            return Ok(note.clone());
        }
        let head = Head {
            origin: tenant.origin().to_owned(),
            size,
            root,
        };
        let note = tenant.keyring().sign_head(&head)?;
        // INVARIANT: whoever gets a head finds its ledger behind it at no later start.
        if let Some(handed_out) = &self.handed_out {
            handed_out.keep(tenant.name(), &head)?;
        }
        *last = Some((size, note.clone()));
        Ok(note)
    }

    /// The present head, or the last one that was handed out where no other can be: an end is
    /// answered on a full disk too, which takes no word of a new head.
    pub(super) fn last_head_note(&self, tenant: &Tenant) -> Option<String> {
        match self.head_note(tenant) {
            Ok(note) => Some(note),
            Err(why) => {
                tracing::warn!(tenant = %tenant.name(), %why, "no new head can be handed out");
                let last = tenant
                    .last_head
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                last.as_ref().map(|(_, note)| note.clone())
            }
        }
    }
}
