//! The tokens a run holds, one for each resource, each renewed by one caller at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::clock;
use crate::runner::wire::{Failure, Granted};
use crate::secret::Secret;

/// Resources a run may ask tokens for.
const MAX_RESOURCES: usize = 64;
/// How long a token should still live when it is handed out.
const MARGIN: Duration = Duration::from_secs(30);
/// How long a server that did not answer is left alone while the old token lives.
const PAUSE: Duration = Duration::from_secs(5);

/// An access token and when it ends.
#[derive(Debug)]
pub(crate) struct Token {
    secret: Secret,
    token_type: String,
    asked: Instant,
    life: Duration,
    expires: Instant,
    scope: Option<String>,
    authorization_details: Option<Value>,
}

impl Token {
    /// What was granted to a request sent at `asked`.
    pub(crate) fn of(granted: Granted, asked: Instant) -> Self {
        let life = Duration::from_secs(granted.expires_in.min(86_400));
        Self {
            secret: granted.access_token,
            token_type: granted.token_type,
            asked,
            life,
            expires: asked + life,
            scope: granted.scope,
            authorization_details: granted.authorization_details,
        }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Whether it is of use only with a proof of the run's key.
    pub(crate) fn is_bound(&self) -> bool {
        self.token_type.eq_ignore_ascii_case("DPoP")
    }

    /// As a token response, with the seconds that are left.
    pub(crate) fn as_json(&self) -> Value {
        let left = self.expires.saturating_duration_since(clock::instant());
        let mut body = Map::new();
        body.insert("access_token".to_owned(), self.secret.expose().into());
        body.insert("token_type".to_owned(), self.token_type.clone().into());
        body.insert("expires_in".to_owned(), left.as_secs().into());
        if let Some(scope) = &self.scope {
            body.insert("scope".to_owned(), scope.clone().into());
        }
        if let Some(details) = &self.authorization_details {
            body.insert("authorization_details".to_owned(), details.clone());
        }
        Value::Object(body)
    }

    fn is_live(&self) -> bool {
        clock::instant() < self.expires
    }

    /// Not yet in the last third of its life, nor in its last 30 seconds, of which a short life may lose half.
    fn is_fresh(&self) -> bool {
        let margin = (self.life / 3).max(MARGIN).min(self.life / 2);
        clock::instant() + margin < self.expires
    }
}

/// Which resource a token is for; `None` where the run named none and the server found only one.
pub(crate) type Target = Option<String>;

/// What a run holds.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<BTreeMap<Target, Slot>>);

#[derive(Debug, Default)]
struct Slot {
    token: Option<Arc<Token>>,
    /// Whoever renews holds it.
    gate: Arc<tokio::sync::Mutex<()>>,
    not_before: Option<Instant>,
    distrusted: bool,
}

/// How much a renewal matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The old token still lives: one attempt is enough.
    Soon,
    /// Without it the caller has nothing.
    Now,
}

impl Tokens {
    /// Keeps a token.
    pub(crate) fn put(&self, target: &Target, token: Arc<Token>) {
        let mut slots = self.slots();
        let slot = slots.entry(target.clone()).or_default();
        slot.token = Some(token);
        slot.not_before = None;
        slot.distrusted = false;
    }

    /// A token that will live a while; `renew` is called when there is none, by one caller at a time.
    ///
    /// While the server is away, the old token is given for as long as it lives.
    pub(crate) async fn fresh<F>(
        &self,
        target: &Target,
        renew: impl FnOnce(Need) -> F,
    ) -> Result<Arc<Token>, Failure>
    where
        F: Future<Output = Result<Token, Failure>>,
    {
        if let Some(token) = self.good_enough(target) {
            return Ok(token);
        }
        let gate = self.gate(target)?;
        let _held = gate.lock().await;
        if let Some(token) = self.good_enough(target) {
            return Ok(token);
        }
        let need = self.live_at(target).map_or(Need::Now, |_| Need::Soon);
        match renew(need).await {
            Ok(token) => {
                let token = Arc::new(token);
                self.put(target, Arc::clone(&token));
                Ok(token)
            }
            Err(failure) => self.fall_back(target, failure),
        }
    }

    /// Demands a renewal of the token for `target` from the next caller, however long it would live.
    pub(crate) fn distrust(&self, target: &Target) {
        if let Some(slot) = self.slots().get_mut(target) {
            slot.distrusted = true;
        }
    }

    /// The token that was asked for last, whether or not it still lives.
    pub(crate) fn newest(&self) -> Option<Arc<Token>> {
        let slots = self.slots();
        let held = slots.values().filter_map(|slot| slot.token.as_ref());
        held.max_by_key(|token| token.asked).cloned()
    }

    /// The token that lives longest, if it still lives.
    pub(crate) fn live(&self) -> Option<Arc<Token>> {
        let slots = self.slots();
        let held = slots.values().filter_map(|slot| slot.token.as_ref());
        let longest = held.max_by_key(|token| token.expires)?;
        longest.is_live().then(|| Arc::clone(longest))
    }

    fn fall_back(&self, target: &Target, failure: Failure) -> Result<Arc<Token>, Failure> {
        let held = self.live_at(target);
        let mut slots = self.slots();
        match (&failure, held) {
            (Failure::Away(_), Some(token)) => {
                if let Some(slot) = slots.get_mut(target) {
                    slot.not_before = Some(clock::after(PAUSE));
                }
                Ok(token)
            }
            (Failure::Away(_) | Failure::Refused(_) | Failure::Fault(_), _) => {
                if slots.get(target).is_some_and(|slot| slot.token.is_none()) {
                    slots.remove(target);
                }
                Err(failure)
            }
        }
    }

    fn good_enough(&self, target: &Target) -> Option<Arc<Token>> {
        let slots = self.slots();
        let slot = slots.get(target)?;
        let resting = slot.not_before.is_some_and(|at| clock::instant() < at);
        let token = slot.token.as_ref()?;
        let fresh = token.is_fresh() && !slot.distrusted;
        (fresh || (resting && token.is_live())).then(|| Arc::clone(token))
    }

    fn live_at(&self, target: &Target) -> Option<Arc<Token>> {
        let token = self.slots().get(target)?.token.clone()?;
        token.is_live().then_some(token)
    }

    fn gate(&self, target: &Target) -> Result<Arc<tokio::sync::Mutex<()>>, Failure> {
        let mut slots = self.slots();
        if slots.len() >= MAX_RESOURCES && !slots.contains_key(target) {
            return Err(Failure::Fault(anyhow!(
                "a run asks tokens for at most {MAX_RESOURCES} resources"
            )));
        }
        Ok(Arc::clone(&slots.entry(target.clone()).or_default().gate))
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<Target, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, seconds: u64) -> Token {
        Token {
            secret: Secret::new(name.to_owned()),
            token_type: "DPoP".to_owned(),
            asked: clock::instant(),
            life: Duration::from_secs(seconds),
            expires: clock::instant() + Duration::from_secs(seconds),
            scope: None,
            authorization_details: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_in_the_last_third_of_its_life() {
        let tokens = Tokens::default();
        tokens.put(&None, Arc::new(token("old", 300)));
        tokio::time::advance(Duration::from_secs(199)).await;
        let kept = tokens.fresh(&None, async |_| Ok(token("new", 300))).await;
        assert_eq!(kept.unwrap().secret().expose(), "old");
        tokio::time::advance(Duration::from_secs(1)).await;
        let renewed = tokens.fresh(&None, async |_| Ok(token("new", 300))).await;
        assert_eq!(renewed.unwrap().secret().expose(), "new");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_a_minute_is_renewed_in_its_last_half() {
        let tokens = Tokens::default();
        tokens.put(&None, Arc::new(token("old", 60)));
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(tokens.good_enough(&None).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(tokens.good_enough(&None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_server_is_away_the_old_token_serves_until_it_ends() {
        let tokens = Tokens::default();
        tokens.put(&None, Arc::new(token("old", 300)));
        tokio::time::advance(Duration::from_secs(250)).await;
        let mut asked = 0;
        for _ in 0..3 {
            let kept = tokens
                .fresh(&None, async |need| {
                    asked += 1;
                    assert_eq!(need, Need::Soon);
                    Err(Failure::away("gone"))
                })
                .await;
            assert_eq!(kept.unwrap().secret().expose(), "old");
        }
        assert_eq!(asked, 1, "a server that is away gets a pause");
        tokio::time::advance(Duration::from_secs(51)).await;
        let gone = tokens
            .fresh(&None, async |need| {
                assert_eq!(need, Need::Now);
                Err(Failure::away("gone"))
            })
            .await;
        assert!(matches!(gone, Err(Failure::Away(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_renews_for_all() {
        let tokens = Arc::new(Tokens::default());
        let asked = Arc::new(Mutex::new(0));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (tokens, asked) = (Arc::clone(&tokens), Arc::clone(&asked));
            callers.spawn(async move {
                let renew = async |_| {
                    *asked.lock().unwrap() += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Ok(token("new", 300))
                };
                tokens.fresh(&None, renew).await.unwrap();
            });
        }
        callers.join_all().await;
        assert_eq!(*asked.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn the_number_of_resources_is_bounded() {
        let tokens = Tokens::default();
        for number in 0..MAX_RESOURCES {
            tokens.put(&Some(number.to_string()), Arc::new(token("t", 300)));
        }
        let target = Some("one more".to_owned());
        let more = tokens.fresh(&target, async |_| Ok(token("t", 300))).await;
        assert!(matches!(more, Err(Failure::Fault(_))));
    }
}
