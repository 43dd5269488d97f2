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
use crate::runner::person::{PersonSource, PersonToken};
use crate::runner::proof_source::{PlatformProof, ProofSource};
use crate::runner::server::{Body, Call, Server, authorize};
use crate::runner::surrounding::{HandOver, Surrounding};
use crate::runner::tokens::{Need, Target, Token, Tokens};
use crate::runner::wire::{Deferral, Failure, Granted};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The type of a platform's token as an actor token.
const TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const TYPE_HANDOVER: &str = "urn:dayfly:params:oauth:token-type:handover";
const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ASSERTION_SECONDS: u64 = 60;
const DEFERRED: &str = "urn:ietf:params:oauth:grant-type:deferred";
const DEFERRAL_CODE: &str = "urn:ietf:params:oauth:token-type:deferral-code";
/// The rule by which a server refuses for now that could not ask a cluster about the run's pod.
const UNASKED: &str = "token_review_unavailable";
/// By how much a poll that came too soon makes the wait longer.
const SLOWER: Duration = Duration::from_secs(5);
/// The longest wait between two polls that a server is believed to want, in seconds.
const LONGEST_INTERVAL: u64 = 60;

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
    /// The platform's proof, which opens a task, and the token of the person for whom it acts.
    Platform(ProofSource, Option<PersonSource>),
    /// A hand-over of the surrounding run, whose child it becomes.
    Surrounding(Surrounding, Given),
}

/// What is shown to come in, kept for the answer that gets lost.
enum Shown {
    Proof(PlatformProof, Option<PersonToken>),
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

/// A run that is let in, or has to wait for people.
#[derive(Debug)]
pub(crate) enum Begun {
    /// Its task is open.
    Open(Session),
    /// Its task waits for an approval.
    Waits(Waiting),
}

/// A run whose task waits for an approval.
#[derive(Debug)]
pub(crate) struct Waiting {
    session: Parts,
    deferral: Deferral,
}

/// What became of a request that was taken back.
#[derive(Debug)]
pub(crate) enum TakenBack {
    /// It is over, and nobody is asked about it any more.
    Over,
    /// It was fetched before, by a poll whose answer was not heard: this is its client, who ends.
    Fetched(Box<Session>),
}

/// A grant that people have approved.
pub(crate) struct Granting(Token, Opened);

/// What a session is made of, but for what the grant says.
#[derive(Debug)]
struct Parts {
    server: Server,
    origin: Origin,
    ask: Ask,
    binding: Binding,
    resources: BTreeMap<String, String>,
    wait: Duration,
}

impl Parts {
    fn session(self, token: Token, granted: Opened) -> Session {
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

impl Waiting {
    /// The task that waits.
    pub(crate) fn task(&self) -> &str {
        &self.deferral.task
    }

    /// How long the server waits for people.
    pub(crate) fn expires_in(&self) -> Duration {
        Duration::from_secs(self.deferral.expires_in)
    }

    /// Asks, as often as the server lets it, until people have decided or `limit` is over. A server that is away is
    /// asked on: what waits there goes on waiting.
    pub(crate) async fn decided(&self, limit: Duration) -> Result<Granting, Failure> {
        let until = clock::after(limit);
        let mut interval = Duration::from_secs(self.deferral.interval.clamp(1, LONGEST_INTERVAL));
        let mut unheard = false;
        loop {
            let next = clock::after(interval);
            let last = next > until;
            tokio::time::sleep_until(next.min(until)).await;
            match self.poll().await {
                Ok(granting) => return Ok(granting),
                Err(Failure::Refused(refusal)) if refusal.error == "slow_down" && !last => {
                    interval = interval.saturating_add(SLOWER);
                }
                Err(Failure::Refused(refusal))
                    if refusal.error == "authorization_pending" && !last => {}
                // The answer that opened the task may be the one that was not heard: the code is spent
                // then, and the first client of the task renews by its key.
                Err(Failure::Refused(refusal)) if refusal.error == "invalid_grant" && unheard => {
                    return self.renewed().await;
                }
                Err(Failure::Away(away)) if !last => {
                    unheard = true;
                    if away.rule.as_deref() == Some(UNASKED)
                        && let Some(granting) = self.shown_again().await?
                    {
                        return Ok(granting);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn poll(&self) -> Result<Granting, Failure> {
        let form = vec![
            ("grant_type", DEFERRED.to_owned()),
            ("deferral_code", self.deferral.code.expose().to_owned()),
        ];
        let (token, granted) = ask_token(&self.session.server, &self.session.binding, form).await?;
        Ok(Granting(token, granted))
    }

    /// Shows the platform's present token once more, by the request that began it: a server asks the cluster about a
    /// pod by its token alone, and has none at hand after a restart or once that token has expired. It is told the
    /// same code; a grant, were it one, is not lost.
    async fn shown_again(&self) -> Result<Option<Granting>, Failure> {
        let Parts {
            server,
            origin,
            ask,
            binding,
            ..
        } = &self.session;
        let shown = origin.show(server, binding).await?;
        match ask_token(server, binding, shown.first_form(ask, binding)).await {
            Ok((token, granted)) => Ok(Some(Granting(token, granted))),
            Err(Failure::Refused(refusal)) if refusal.deferral.is_some() => Ok(None),
            Err(Failure::Away(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn renewed(&self) -> Result<Granting, Failure> {
        let Parts {
            server,
            binding,
            ask,
            ..
        } = &self.session;
        let key = binding.signing_key().context("what waits has a key")?;
        let id = self.deferral.task.strip_prefix("task_");
        let client = format!("client_{}_1", id.unwrap_or_default());
        let form = renewal_form(server, &client, key, &ask.target)?;
        let (token, granted) = ask_token(server, binding, form).await?;
        Ok(Granting(token, granted))
    }

    /// The session that was granted.
    pub(crate) fn session(self, granting: Granting) -> Session {
        let Granting(token, granted) = granting;
        self.session.session(token, granted)
    }

    /// Takes the request back, so that nobody is asked about it any more. A poll that was under way may have fetched
    /// it: asking once more tells, and then there is a client to end.
    pub(crate) async fn take_back(self) -> Result<TakenBack, Failure> {
        let cancelled = self.cancel().await;
        let granting = match self.poll().await {
            Ok(granting) => granting,
            Err(Failure::Refused(refusal)) if refusal.error == "invalid_grant" => {
                match self.renewed().await {
                    Ok(granting) => granting,
                    Err(Failure::Refused(refusal)) if refusal.means_ended() => {
                        return Ok(TakenBack::Over);
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Err(failure) => {
                cancelled?;
                return match failure {
                    Failure::Refused(refusal)
                        if matches!(refusal.error.as_str(), "access_denied" | "expired_token") =>
                    {
                        Ok(TakenBack::Over)
                    }
                    failure @ (Failure::Refused(_) | Failure::Away(_) | Failure::Fault(_)) => {
                        Err(failure)
                    }
                };
            }
        };
        Ok(TakenBack::Fetched(Box::new(self.session(granting))))
    }

    async fn cancel(&self) -> Result<(), Failure> {
        let call = Call {
            method: Method::POST,
            url: self.session.server.address().below("revoke"),
            body: Body::Form(vec![
                ("token", self.deferral.code.expose().to_owned()),
                ("token_type_hint", DEFERRAL_CODE.to_owned()),
            ]),
            key: self.session.binding.signing_key(),
            token: None,
        };
        self.session.server.send(&call).await.map(|_| ())
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

/// A request by the client's own key.
fn renewal_form(
    server: &Server,
    client: &str,
    key: &SigningKey,
    target: &Target,
) -> Result<Form, Failure> {
    let jti = random::name()?;
    let request = AssertionRequest {
        client_id: client,
        issuer: server.address().issuer(),
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
            Self::Platform(proofs, person) => {
                let person = match person {
                    Some(source) => Some(source.token().await?),
                    None => None,
                };
                let proof = proof_for(server, proofs).await?;
                Ok(Shown::Proof(proof, person))
            }
            Self::Surrounding(around, given) => {
                let key = binding.signing_key().context("a helper needs a key")?;
                let shown = around.hand_over(key.thumbprint(), given, server.clients());
                shown.await.map(Shown::HandOver)
            }
        }
    }
}

impl Origin {
    /// What a client without a key renews by: its proof alone, for the server knows on whose behalf it
    /// runs, and the person's token may be over long before the task.
    async fn show_again(&self, server: &Server, binding: &Binding) -> Result<Shown, Failure> {
        match self {
            Self::Platform(proofs, _) => {
                let proof = proof_for(server, proofs).await?;
                Ok(Shown::Proof(proof, None))
            }
            Self::Surrounding(..) => self.show(server, binding).await,
        }
    }
}

impl Shown {
    fn has_expired(&self) -> bool {
        match self {
            Self::Proof(proof, person) => {
                proof.has_expired() || person.as_ref().is_some_and(PersonToken::has_expired)
            }
            Self::HandOver(handover) => handover.has_expired(),
        }
    }

    /// The first request of a run.
    fn first_form(&self, ask: &Ask, binding: &Binding) -> Form {
        let mut form = self.form(ask, &ask.target);
        if matches!(self, Self::Proof(..)) && binding.signing_key().is_some() {
            // Only a key can fetch what was approved later, and a hand-over waits for nobody.
            form.push(("completion_mode", "deferred".to_owned()));
        }
        form
    }

    fn form(&self, ask: &Ask, target: &Target) -> Form {
        let shown = match self {
            Self::Proof(proof, None) => vec![
                ("grant_type", JWT_BEARER.to_owned()),
                ("assertion", proof.token().expose().to_owned()),
            ],
            Self::Proof(proof, Some(person)) => vec![
                ("grant_type", EXCHANGE.to_owned()),
                ("subject_token_type", person.kind().to_owned()),
                ("subject_token", person.token().expose().to_owned()),
                ("actor_token_type", TYPE_JWT.to_owned()),
                ("actor_token", proof.token().expose().to_owned()),
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
