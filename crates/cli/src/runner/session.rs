//! A run's identity: the grant that opens the task, and fresh tokens while the task is open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dayfly_token::alg::Alg;
use dayfly_token::client::{AssertionRequest, HandoverRequest, client_assertion, handover};
use dayfly_token::handover::Given;
use dayfly_token::hash::Thumbprint;
use dayfly_token::sign::SigningKey;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Map, Value};

use crate::clock;
use crate::random;
use crate::runner::patience::{Patience, patiently};
use crate::runner::proof_source::{PlatformProof, ProofSource};
use crate::runner::server::{Body, Call, Server, authorize};
use crate::runner::surrounding::{HandOver, Surrounding};
use crate::runner::tokens::{Need, Target, Token, Tokens};
use crate::runner::wire::{Failure, Granted};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const TYPE_HANDOVER: &str = "urn:dayfly:params:oauth:token-type:handover";
const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ASSERTION_SECONDS: u64 = 60;

/// What a run asks for with its first grant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) workload: Option<String>,
    pub(crate) scope: Option<String>,
    /// A JSON list of details (RFC 9396).
    pub(crate) access: Option<String>,
    /// The audience of the first token.
    pub(crate) target: Target,
}

/// What the run's tokens are bound to.
#[derive(Debug)]
pub(crate) enum Binding {
    /// A key made for this run, which never leaves this process.
    Key(Box<SigningKey>),
    /// Nothing: whoever holds a token may use it.
    Bearer,
}

/// By what a run comes in.
#[derive(Debug)]
pub(crate) enum Origin {
    /// The platform's proof, which opens a task.
    Platform(ProofSource),
    /// A hand-over of the surrounding run, whose child it becomes.
    Surrounding(Surrounding, Given),
}

/// What is shown to come in, kept for the answer that gets lost.
enum Shown {
    Proof(PlatformProof),
    HandOver(HandOver),
}

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

impl Binding {
    pub(crate) fn key() -> Result<Self, Failure> {
        let key = SigningKey::generate(Alg::Es256).context("cannot make a key")?;
        Ok(Self::Key(Box::new(key)))
    }

    pub(crate) fn signing_key(&self) -> Option<&SigningKey> {
        match self {
            Self::Key(key) => Some(key),
            Self::Bearer => None,
        }
    }
}

impl Session {
    /// Opens the task.
    ///
    /// A lost answer is asked for again with the same proof, key and request, which the server answers with the same
    /// client. A run without a key has no such retry and brings another proof; so does one whose proof has expired.
    pub(crate) async fn open(opening: Opening) -> Result<Self, Failure> {
        let Opening {
            server,
            origin,
            ask,
            binding,
            resources,
            wait,
        } = opening;
        let mut held: Option<Shown> = None;
        let (token, granted) = patiently(wait, "the server", async || {
            let shown = match held.take() {
                Some(shown) if binding.signing_key().is_some() && !shown.has_expired() => shown,
                Some(_) | None => origin.show(&server, &binding).await?,
            };
            let form = shown.form(&ask, &ask.target);
            held = Some(shown);
            ask_token(&server, &binding, form).await
        })
        .await?;
        let tokens = Tokens::default();
        tokens.put(&ask.target, Arc::new(token));
        Ok(Self {
            server,
            origin,
            ask,
            binding,
            tokens,
            resources,
            wait,
            task: granted.task,
            client: granted.client,
            expires_at: granted.expires_at,
        })
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
                Origin::Platform(proofs) => proofs.renews(),
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
            Binding::Key(key) => self.renewal_form(key, target)?,
            Binding::Bearer => {
                let shown = self.origin.show(&self.server, &self.binding).await?;
                shown.form(&self.ask, target)
            }
        };
        let (token, _) = ask_token(&self.server, &self.binding, form).await?;
        Ok(token)
    }

    fn renewal_form(&self, key: &SigningKey, target: &Target) -> Result<Form, Failure> {
        let jti = random::name()?;
        let request = AssertionRequest {
            client_id: &self.client,
            issuer: self.server.address().issuer(),
            now: clock::now_seconds(),
            jti: &jti,
            lifetime_seconds: ASSERTION_SECONDS,
        };
        let assertion = client_assertion(key, &request).context("cannot make an assertion")?;
        let mut form = vec![
            ("grant_type", "client_credentials".to_owned()),
            ("client_assertion_type", CLIENT_ASSERTION.to_owned()),
            ("client_assertion", assertion),
        ];
        form.extend(target.clone().map(|target| ("resource", target)));
        Ok(form)
    }
}

type Form = Vec<(&'static str, String)>;

struct Opened {
    task: String,
    client: String,
    expires_at: u64,
}

impl Origin {
    /// Something fresh to come in by.
    async fn show(&self, server: &Server, binding: &Binding) -> Result<Shown, Failure> {
        match self {
            Self::Platform(proofs) => proof_for(server, proofs).await.map(Shown::Proof),
            Self::Surrounding(around, given) => {
                let key = binding.signing_key().context("a helper needs a key")?;
                let shown = around.hand_over(key.thumbprint(), given, server.clients());
                shown.await.map(Shown::HandOver)
            }
        }
    }
}

impl Shown {
    fn has_expired(&self) -> bool {
        match self {
            Self::Proof(proof) => proof.has_expired(),
            Self::HandOver(handover) => handover.has_expired(),
        }
    }

    fn form(&self, ask: &Ask, target: &Target) -> Form {
        let shown = match self {
            Self::Proof(proof) => vec![
                ("grant_type", JWT_BEARER.to_owned()),
                ("assertion", proof.token().expose().to_owned()),
            ],
            Self::HandOver(handover) => vec![
                ("grant_type", EXCHANGE.to_owned()),
                ("subject_token_type", TYPE_HANDOVER.to_owned()),
                ("subject_token", handover.token().expose().to_owned()),
            ],
        };
        asked(shown, ask, target)
    }
}

fn asked(mut form: Form, ask: &Ask, target: &Target) -> Form {
    for (name, value) in [
        ("client_id", &ask.workload),
        ("resource", target),
        ("authorization_details", &ask.access),
        ("scope", &ask.scope),
    ] {
        form.extend(value.clone().map(|value| (name, value)));
    }
    form
}

async fn proof_for(server: &Server, proofs: &ProofSource) -> Result<PlatformProof, Failure> {
    let audience = server.address().issuer();
    proofs.proof(Some(audience), server.clients()).await
}

async fn ask_token(
    server: &Server,
    binding: &Binding,
    form: Form,
) -> Result<(Token, Opened), Failure> {
    let call = Call {
        method: Method::POST,
        url: server.address().below("token"),
        body: Body::Form(form),
        key: binding.signing_key(),
        token: None,
    };
    let asked = clock::instant();
    let granted = Granted::read(server.send(&call).await?)?;
    let opened = Opened {
        task: granted.task.clone(),
        client: granted.client_id.clone(),
        expires_at: granted.task_expires_at,
    };
    Ok((Token::of(granted, asked), opened))
}
