//! What a run comes in by and asks for, as requests to the token endpoint.

use anyhow::Context;
use dayfly_token::alg::Alg;
use dayfly_token::client::{AssertionRequest, client_assertion};
use dayfly_token::handover::Given;
use dayfly_token::sign::SigningKey;
use reqwest::Method;

use crate::clock;
use crate::random;
use crate::runner::person::{PersonSource, PersonToken};
use crate::runner::proof_source::{PlatformProof, ProofSource};
use crate::runner::server::{Body, Call, Server};
use crate::runner::surrounding::{HandOver, Surrounding};
use crate::runner::tokens::{Target, Token};
use crate::runner::wire::{Failure, Granted};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The type of a platform's token as an actor token.
const TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const TYPE_HANDOVER: &str = "urn:dayfly:params:oauth:token-type:handover";
const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ASSERTION_SECONDS: u64 = 60;

/// A form of the token endpoint: names and values.
pub(super) type Form = Vec<(&'static str, String)>;

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
pub(super) enum Shown {
    Proof(PlatformProof, Option<PersonToken>),
    HandOver(HandOver),
}

/// What a grant opened, or joined.
pub(super) struct Opened {
    pub(super) task: String,
    pub(super) client: String,
    pub(super) expires_at: u64,
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

impl Origin {
    /// Something fresh to come in by.
    pub(super) async fn show(&self, server: &Server, binding: &Binding) -> Result<Shown, Failure> {
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

    /// What a client without a key renews by: its proof alone, for the server knows on whose behalf it
    /// runs, and the person's token may be over long before the task.
    pub(super) async fn show_again(
        &self,
        server: &Server,
        binding: &Binding,
    ) -> Result<Shown, Failure> {
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
    pub(super) fn has_expired(&self) -> bool {
        match self {
            Self::Proof(proof, person) => {
                proof.has_expired() || person.as_ref().is_some_and(PersonToken::has_expired)
            }
            Self::HandOver(handover) => handover.has_expired(),
        }
    }

    /// The first request of a run.
    pub(super) fn first_form(&self, ask: &Ask, binding: &Binding) -> Form {
        let mut form = self.form(ask, &ask.target);
        if matches!(self, Self::Proof(..)) && binding.signing_key().is_some() {
            // Only a key can fetch what was approved later, and a hand-over waits for nobody.
            form.push(("completion_mode", "deferred".to_owned()));
        }
        form
    }

    pub(super) fn form(&self, ask: &Ask, target: &Target) -> Form {
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

/// One request to the token endpoint.
pub(super) async fn ask_token(
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

/// A request by the client's own key.
pub(super) fn renewal_form(
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
