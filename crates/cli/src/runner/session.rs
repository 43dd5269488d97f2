//! A run's identity: the grant that opens the task, and fresh tokens while the task is open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dayfly_token::client::{HandoverRequest, handover};
use dayfly_token::handover::Given;
use dayfly_token::hash::Thumbprint;
use dayfly_token::sign::SigningKey;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Map, Value};

use crate::clock;
use crate::random;
use crate::runner::patience::{Patience, patiently};
use crate::runner::request::{Ask, Binding, Opened, Origin, Shown, ask_token, renewal_form};
use crate::runner::server::{Body, Call, Server, authorize};
use crate::runner::tokens::{Need, Target, Token, Tokens};
use crate::runner::waiting::Waiting;
use crate::runner::wire::Failure;

/// What a task is opened with.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) server: Server,
    pub(crate) origin: Origin,
    pub(crate) ask: Ask,
    pub(crate) binding: Binding,
    pub(crate) resources: BTreeMap<String, String>,
    /// How long to wait for a server that is away, now and for every token that cannot be done without.
    pub(crate) wait: Duration,
}

/// An open task and the run's client in it.
#[derive(Debug)]
pub(crate) struct Session {
    server: Server,
    origin: Origin,
    ask: Ask,
    binding: Binding,
    tokens: Tokens,
    /// The server's names of resources.
    resources: BTreeMap<String, String>,
    /// How long a caller without a token waits for a server that is away.
    wait: Duration,
    task: String,
    client: String,
    expires_at: u64,
}

/// A run that is let in, or has to wait for people.
#[derive(Debug)]
pub(crate) enum Begun {
    /// Its task is open.
    Open(Session),
    /// Its task waits for an approval.
    Waits(Waiting),
}

/// What a session is made of, but for what the grant says.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) server: Server,
    pub(super) origin: Origin,
    pub(super) ask: Ask,
    pub(super) binding: Binding,
    resources: BTreeMap<String, String>,
    wait: Duration,
}

impl Parts {
    pub(super) fn session(self, token: Token, granted: Opened) -> Session {
        let tokens = Tokens::default();
        tokens.put(&self.ask.target, Arc::new(token));
        Session {
            server: self.server,
            origin: self.origin,
            ask: self.ask,
            binding: self.binding,
            tokens,
            resources: self.resources,
            wait: self.wait,
            task: granted.task,
            client: granted.client,
            expires_at: granted.expires_at,
        }
    }
}

impl Session {
    /// Opens the task, or asks for the approval that it needs.
    ///
    /// A lost answer is asked for again with the same proof, key and request, which the server answers with the same
    /// client. A run without a key has no such retry and brings another proof; so does one whose proof has expired.
    pub(crate) async fn open(opening: Opening) -> Result<Begun, Failure> {
        let Opening {
            server,
            origin,
            ask,
            binding,
            resources,
            wait,
        } = opening;
        let mut held: Option<Shown> = None;
        let answer = patiently(wait, "the server", async || {
            let shown = match held.take() {
                Some(shown) if binding.signing_key().is_some() && !shown.has_expired() => shown,
                Some(_) | None => origin.show(&server, &binding).await?,
            };
            let form = shown.first_form(&ask, &binding);
            held = Some(shown);
            ask_token(&server, &binding, form).await
        })
        .await;
        let session = Parts {
            server,
            origin,
            ask,
            binding,
            resources,
            wait,
        };
        match answer {
            Ok((token, granted)) => Ok(Begun::Open(session.session(token, granted))),
            Err(Failure::Refused(refusal)) => match refusal.deferral {
                Some(deferral) => Ok(Begun::Waits(Waiting { session, deferral })),
                None => Err(Failure::Refused(refusal)),
            },
            Err(failure) => Err(failure),
        }
    }

    /// The task's id.
    pub(crate) fn task(&self) -> &str {
        &self.task
    }

    /// The client's id.
    pub(crate) fn client(&self) -> &str {
        &self.client
    }

    /// When the task ends at the latest, in seconds since 1970.
    pub(crate) fn expires_at(&self) -> u64 {
        self.expires_at
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The key, where the run has one.
    pub(crate) fn key(&self) -> Option<&SigningKey> {
        self.binding.signing_key()
    }

    /// The resource that is meant where a caller names none.
    pub(crate) fn default_target(&self) -> &Target {
        &self.ask.target
    }

    /// The URL of a resource that the server knows by this name.
    pub(crate) fn resource(&self, name: &str) -> Option<String> {
        self.resources.get(name).cloned()
    }

    /// Whether tokens can still be had when the first have expired.
    pub(crate) fn renews(&self) -> bool {
        match self.binding {
            Binding::Key(_) => true,
            Binding::Bearer => match &self.origin {
                Origin::Platform(proofs, _) => proofs.renews(),
                Origin::Surrounding(..) => false,
            },
        }
    }

    /// Whether it is a child of another client, which keeps no task alive.
    pub(crate) fn is_delegated(&self) -> bool {
        matches!(self.origin, Origin::Surrounding(..))
    }

    /// Signs a hand-over of a part of the run's access to the holder of another key.
    pub(crate) fn hand_over(&self, jkt: Thumbprint, given: &Given) -> Result<String, Failure> {
        let key = self.key().context("this run has no key to sign with")?;
        let jti = random::name()?;
        let request = HandoverRequest {
            parent: &self.client,
            issuer: self.server.address().issuer(),
            jkt: Some(jkt),
            given,
            now: clock::now_seconds(),
            jti: &jti,
        };
        let signed = handover(key, &request).context("cannot sign a hand-over")?;
        Ok(signed)
    }

    /// A token for `target` that will live a while.
    pub(crate) async fn token(&self, target: &Target) -> Result<Arc<Token>, Failure> {
        let renew = |need| self.renew_patiently(target, need);
        self.tokens.fresh(target, renew).await
    }

    /// Asks for another token in place of one that the server did not take.
    pub(crate) async fn another_token(&self) -> Result<Arc<Token>, Failure> {
        let target = self.default_target();
        self.tokens.distrust(target);
        self.tokens.fresh(target, |_| self.renew(target)).await
    }

    /// Any token of the task that lives; renewed once, without waiting, where none does.
    pub(crate) async fn any_token(&self) -> Result<Arc<Token>, Failure> {
        let target = self.default_target();
        match self.tokens.fresh(target, |_| self.renew(target)).await {
            Ok(token) => Ok(token),
            Err(failure) => self.tokens.live().ok_or(failure),
        }
    }

    /// The token that the run got last, even if it has expired.
    pub(crate) fn newest_token(&self) -> Option<Arc<Token>> {
        self.tokens.newest()
    }

    /// The headers that present `token` with one request, nonce included.
    pub(crate) fn sign(
        &self,
        token: &Token,
        method: &Method,
        url: &str,
        nonce: Option<&str>,
    ) -> Result<HeaderMap, Failure> {
        authorize(self.key(), token, method, url, nonce)
    }

    /// One call about the task, presenting `token`.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Body,
        token: &Token,
    ) -> Result<Map<String, Value>, Failure> {
        let call = Call {
            method,
            url: self.server.address().below(path),
            body,
            key: self.key(),
            token: Some(token),
        };
        self.server.send(&call).await
    }

    async fn renew_patiently(&self, target: &Target, need: Need) -> Result<Token, Failure> {
        // The token at hand still serves, so one attempt is enough, and a limit is no refusal yet.
        if need == Need::Soon {
            return self.renew(target).await;
        }
        let mut patience = Patience::new(self.wait, "the server");
        loop {
            match self.renew(target).await {
                Err(Failure::Away(away)) => patience.after(away).await?,
                answer => return answer,
            }
        }
    }

    async fn renew(&self, target: &Target) -> Result<Token, Failure> {
        let form = match &self.binding {
            Binding::Key(key) => renewal_form(&self.server, &self.client, key, target)?,
            Binding::Bearer => {
                let shown = self.origin.show_again(&self.server, &self.binding).await?;
                shown.form(&self.ask, target)
            }
        };
        let (token, _) = ask_token(&self.server, &self.binding, form).await?;
        Ok(token)
    }
}
