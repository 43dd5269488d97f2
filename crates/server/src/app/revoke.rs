//! Revocation (RFC 7009): a client gives back its own credential.

use std::sync::Arc;

use dayfly_domain::{Command, Digest, Refusal, Revoke, Rule, decide};
use dayfly_store::{Append, AppendError, OneTimeKey, Spend};
use dayfly_token::dpop::VerifiedDpop;

use super::authenticate::OwnToken;
use super::deferral::CODE;
use super::end::ATTEMPTS;
use super::plan::change;
use super::refuse::{Refused, Trail, unavailable};
use super::renew::assertion_key;
use super::replay::{KeyProof, one_time};
use super::{App, Tenant};

/// A token that its own client shows.
struct Shown {
    own: Arc<OwnToken>,
    /// What is spent with its revocation.
    keys: Vec<OneTimeKey>,
    /// The proof of its key, where that is what proves the caller.
    by_key: Option<VerifiedDpop>,
}

impl App {
    /// Revokes a client's own credential: the newest ends the client and its subtree, an older one
    /// only itself. A token that is unknown, foreign or dead changes nothing and is no error; but the
    /// newest of a client that proves its key ends it, expired or not, for the key is what acts.
    /// Whether it outlives this process; it is obeyed in any case.
    ///
    /// # Errors
    /// The refusal: the caller did not prove to be the client, or the ledger cannot record.
    pub async fn revoke(
        &self,
        tenant: &Tenant,
        token: &str,
        assertion: Option<&str>,
        key_proof: Option<&KeyProof<'_>>,
        trail: &mut Trail,
    ) -> Result<bool, Refused> {
        let revoked = if token.starts_with(CODE) {
            self.cancel_deferral(tenant, token, key_proof, trail).await
        } else {
            self.try_revoke(tenant, token, assertion, key_proof, trail)
                .await
        };
        match revoked {
            Ok(recorded) => Ok(recorded),
            Err(refusal) => Err(self.refuse(tenant, trail, refusal)),
        }
    }

    async fn try_revoke(
        &self,
        tenant: &Tenant,
        token: &str,
        assertion: Option<&str>,
        key_proof: Option<&KeyProof<'_>>,
        trail: &mut Trail,
    ) -> Result<bool, Refusal> {
        let shown = self.shown(tenant, token, (assertion, key_proof), trail)?;
        let Some(Shown {
            own,
            mut keys,
            by_key,
        }) = shown
        else {
            return Ok(true);
        };
        trail.task = Some(own.id.client.task);
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let Some(open) = self.open_task(tenant, own.id.client.task)? else {
                return Ok(self.held.keeps_all(tenant.name()).await);
            };
            if open.stale_for(own.id.client.number).is_some() {
                // Its rights were taken away: it is over already, and that names its end.
                return Ok(self.held.keeps_all(tenant.name()).await);
            }
            // Only a live credential says that its client is: a dead one costs whoever shows it.
            let live = open.task.check_credential(own.id, now, open.heard);
            if live.is_ok_and(|live| live.credential.hash == own.hash) {
                trail.client = Some(own.id.client);
            }
            let revoke = Revoke {
                now,
                heard: open.heard,
                client: own.id.client.number,
                credential: own.id.number,
            };
            let events = decide(Some(&open.task), &Command::Revoke(revoke));
            let events = events.unwrap_or_default();
            if events.is_empty() {
                // It is over already.
                return Ok(self.held.keeps_all(tenant.name()).await);
            }
            // Only whoever has something to end is asked for another nonce: that is no stranger.
            if let Some(verified) = &by_key {
                self.check_nonce(tenant, verified, now)?;
            }
            let by = dayfly_domain::Spent {
                task: own.id.client.task,
                client: own.id.client.number,
            };
            let append = Append {
                now,
                changes: vec![change(Some(open.task), own.id.client.task, events, None)?],
                spends: keys.iter().map(|key| Spend { key: *key, by }).collect(),
                ..Append::default()
            };
            match self.held.end(tenant.name(), append).await {
                Ok(done) => return Ok(done.is_durable()),
                // Whether its proof was used is not known any more. That keeps nobody from ending
                // what is theirs: used twice, it ends nothing twice.
                Err(AppendError::Unfit(_)) if !keys.is_empty() => keys.clear(),
                Err(error) => self.after_failure(tenant, error, false).await?,
            }
        }
        Err(unavailable(&"the task did not stand still"))
    }

    /// Judges whether a token is the caller's; none where it is not, or is none of ours. Which nonce
    /// the key proof shows is not judged yet.
    fn shown(
        &self,
        tenant: &Tenant,
        token: &str,
        (assertion, key_proof): (Option<&str>, Option<&KeyProof<'_>>),
        trail: &mut Trail,
    ) -> Result<Option<Shown>, Refusal> {
        let now = self.now();
        let mut caller = None;
        let mut keys = Vec::new();
        if let Some(assertion) = assertion {
            let (client, verified, _) =
                self.client_assertion(tenant, assertion, None, now, trail)?;
            keys.push(assertion_key(&verified));
            caller = Some(client);
        }
        let Ok(own) = self.own_token(tenant, token) else {
            return Ok(None);
        };
        if caller.is_some_and(|caller| caller != own.id.client) {
            return Ok(None);
        }
        let by_key = key_proof
            .map(|key_proof| self.key_proof_whatever_nonce(tenant, key_proof, None, now))
            .transpose()?;
        if let Some(verified) = &by_key {
            if own.jkt != Some(Digest(verified.jkt().0)) {
                return Ok(None);
            }
            keys.push(one_time(verified));
        } else if caller.is_none() && own.jkt.is_some() {
            return Err(unproven());
        }
        Ok(Some(Shown { own, keys, by_key }))
    }
}

fn unproven() -> Refusal {
    Refusal::new(Rule::Authentication)
        .field("client_assertion, DPoP")
        .wanted("a proof by the key that the token is bound to")
        .got("none")
}
