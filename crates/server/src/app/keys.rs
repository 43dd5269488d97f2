//! What becomes of a tenant's keys: their steps by the clock, rotation by hand, and giving one up.

use std::sync::{Arc, PoisonError};

use dayfly_domain::{Digest, Refusal, Rule, Time};
use dayfly_store::Store;
use dayfly_token::alg::Alg;
use serde_json::{Value, json};

use super::actor::Signature;
use super::tenant::OpenError;
use super::{Actor, App, Tenant};
use crate::mint::{
    ChangeError, KeyInfo, KeyUse, Keyring, KeyringError, Kind, Occasion, PUBLISHED_FOR, Step,
    accepted_offline_until, compromise, due, infos, rotate, take,
};

/// What rotation by hand began.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// The successors, which are published.
    pub published: Vec<KeyInfo>,
    /// From when they sign.
    pub signs_from: Time,
}

/// What giving keys up came to.
#[derive(Clone, Debug)]
pub struct GivenUp {
    /// The keys that were given up.
    pub keys: Vec<KeyInfo>,
    /// The keys that sign now.
    pub signing: Vec<KeyInfo>,
    /// Until when somebody who verifies tokens offline may accept what these keys signed; none
    /// where only ledger keys are among them.
    pub accepted_offline_until: Option<Time>,
}

impl App {
    /// Publishes successors of the keys of this use that sign; they sign once every cached JWK Set
    /// is over.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub async fn rotate_keys(
        &self,
        tenant: &Tenant,
        r#use: KeyUse,
        alg: Option<Alg>,
        by: &Actor,
        reason: &str,
    ) -> Result<Rotated, KeyringError> {
        let now = self.now();
        let signed = Signature::of(by, reason)?;
        let who = Who::of(&signed);
        let store = self.store.as_ref();
        let changed = tenant
            .change_keys(store, now, who, |keys| rotate(keys, r#use, alg, now))
            .await?;
        let made = |key: &&KeyInfo| !changed.before.iter().any(|old| old.kid == key.kid);
        let after = changed.after.infos();
        Ok(Rotated {
            published: after.iter().filter(made).cloned().collect(),
            signs_from: now + PUBLISHED_FOR,
        })
    }

    /// Gives keys up, all of them where none is named: once this answers they are not published,
    /// sign nothing, and nothing that they signed is accepted here.
    ///
    /// # Errors
    /// [`KeyringError`]; where the ledger cannot record, the keys are as they were, and it must be
    /// asked for again.
    pub async fn compromise_keys(
        &self,
        tenant: &Tenant,
        kids: Option<&[String]>,
        by: &Actor,
        reason: &str,
    ) -> Result<GivenUp, KeyringError> {
        let now = self.now();
        let signed = Signature::of(by, reason)?;
        let who = Who::of(&signed);
        let wanted = tenant.loaded().wanted.clone();
        let mut meant = kids.map(<[String]>::to_vec).unwrap_or_default();
        let plan = |keys: &[KeyInfo]| {
            if kids.is_none() {
                meant = keys.iter().map(|key| key.kid.clone()).collect();
            }
            compromise(keys, &meant, &wanted, now)
        };
        let changed = tenant
            .change_keys(self.store.as_ref(), now, who, plan)
            .await?;
        let gone = self.now();
        let after = changed.after.infos();
        let keys: Vec<KeyInfo> = after
            .iter()
            .filter(|key| meant.contains(&key.kid))
            .cloned()
            .collect();
        let accepted_offline_until = keys
            .iter()
            .filter(|key| key.r#use != KeyUse::Ledger)
            .filter_map(|key| key.life.compromised())
            // Of one that was given up before, the published set was without it then.
            .map(|at| accepted_offline_until(at, if at == now { gone } else { at }))
            .max();
        let signs = |key: &&KeyInfo| key.life.signing().is_some();
        Ok(GivenUp {
            signing: after.iter().filter(signs).cloned().collect(),
            keys,
            accepted_offline_until,
        })
    }

    /// Takes the steps that the clock asks for.
    pub(super) async fn sweep_keys(&self, tenant: &Tenant, now: Time) {
        let plan = |keys: &[KeyInfo]| due(keys, &tenant.loaded().wanted, tenant.rotate, now);
        if plan(tenant.keyring().infos()).is_empty() {
            return;
        }
        let annex = json!({"reason": "its time has come"});
        let taken = tenant
            .change_keys(self.store.as_ref(), now, Who::nobody(&annex), |keys| {
                Ok(plan(keys))
            })
            .await;
        match taken {
            Ok(_) => tracing::info!(tenant = %tenant.name(), "a step of its keys is taken"),
            Err(why) => {
                let why: &dyn std::error::Error = &why;
                tracing::error!(why, tenant = %tenant.name(), "a step of its keys cannot be taken");
            }
        }
    }
}

/// Who takes a step, as its entries say it.
#[derive(Clone, Copy)]
struct Who<'a> {
    annex: &'a Value,
    by: Option<Digest>,
}

impl<'a> Who<'a> {
    const fn of(signed: &'a Signature) -> Self {
        Self {
            annex: signed.json(),
            by: signed.by(),
        }
    }

    /// The server itself.
    const fn nobody(annex: &'a Value) -> Self {
        Self { annex, by: None }
    }
}

/// The keys before and after a change.
struct Changed {
    before: Vec<KeyInfo>,
    after: Arc<Keyring>,
}

impl Tenant {
    /// Makes the keys that are wanted and missing.
    pub(super) async fn make_wanted(
        &self,
        store: &dyn Store,
        wanted: &[Kind],
        now: Time,
    ) -> Result<(), OpenError> {
        let annex = json!({"reason": "a key of each kind that is needed signs"});
        self.change_keys(store, now, Who::nobody(&annex), |keys| {
            Ok(due(keys, wanted, None, now))
        })
        .await?;
        Ok(())
    }

    /// Plans steps on the recorded keys, records them, and makes what came of it the keyring.
    async fn change_keys(
        &self,
        store: &dyn Store,
        now: Time,
        who: Who<'_>,
        plan: impl FnOnce(&[KeyInfo]) -> Result<Vec<Step>, ChangeError>,
    ) -> Result<Changed, KeyringError> {
        let _one_at_a_time = self.turning.lock().await;
        // Read from the store, so that an append whose fate was not known shows here.
        let before = infos(store, self.name())?;
        let steps = match plan(&before) {
            Ok(steps) => steps,
            Err(why) => {
                // What stands in the way may be a step that never came into force here.
                self.put_keyring(Keyring::open(
                    store,
                    &self.master,
                    self.name(),
                    self.origin(),
                )?);
                return Err(why.into());
            }
        };
        let occasion = Occasion {
            tenant: self.name(),
            origin: self.origin(),
            now,
            annex: who.annex,
            by: who.by,
        };
        let taken = take(store, Some(&self.master), steps, &occasion).await;
        // Whether it was recorded or not, what the store holds now is what counts.
        let opened = Keyring::open(store, &self.master, self.name(), self.origin());
        let after = match opened {
            Ok(keyring) => self.put_keyring(keyring),
            Err(why) => return Err(taken.err().unwrap_or(why)),
        };
        taken?;
        Ok(Changed { before, after })
    }

    /// Makes a keyring the one in force. What a key verified that is not in it any more counts for
    /// nothing from then on.
    fn put_keyring(&self, keyring: Keyring) -> Arc<Keyring> {
        let next = Arc::new(keyring);
        let former = {
            let mut held = self.keyring.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *held, Arc::clone(&next))
        };
        let kids = former.verifying().keys().iter();
        let lost = kids
            .filter_map(|key| key.kid())
            .any(|kid| !next.verifying().knows(kid));
        if lost {
            self.own_tokens.forget();
        }
        let mut head = self
            .last_head
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *head = None;
        next
    }
}

/// The refusal of a token whose header names a key that was given up; none for any other.
pub(super) fn given_up(keyring: &Keyring, token: &str) -> Option<Refusal> {
    let kid = dayfly_token::jwt::Jwt::parse(token, dayfly_token::jws::MAX_TOKEN_BYTES)
        .ok()
        .and_then(|jwt| jwt.header().kid.clone())?;
    let at = keyring.compromised(&kid)?;
    Some(
        Refusal::new(Rule::Credential)
            .field("kid")
            .wanted("a key that is in force")
            .got(format!("{kid}, given up as compromised at {at}"))
            .hint("renew with the client's own key"),
    )
}
