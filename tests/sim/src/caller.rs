//! What callers do: each use case as one call, with proofs made by keys of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::hmac;
use dayfly_domain::access::AccessRequest;
use dayfly_domain::{ClientId, Digest, Outcome};
use dayfly_server::app::{
    Deferred, DelegateRequest, End, Ended, GrantRequest, Granted, Heard, KeyProof, NarrowRequest,
    Opened, Presented, Refused, RenewRequest, SubjectRequest, Trail,
};
use dayfly_server::verify::webhook::{Delivery, verify};
use dayfly_server::verify::{Entrance, PersonToken};
use dayfly_token::alg::Alg;
use dayfly_token::client::{
    AssertionRequest, HandoverRequest, ProofRequest, client_assertion, dpop_proof, handover,
};
use dayfly_token::handover::Given;
use dayfly_token::sign::SigningKey;
use serde_json::json;

use crate::model::Login;
use crate::persons::{TASKS, id_token};
use crate::world::{HOOK_SECRET, ISSUER, RESOURCE, RESOURCE_URL, Run, World, platform_token};

/// How many keys all callers of a process share out: a key is dear to make and none is ever asked
/// to be new.
pub(crate) const KEYS: usize = 64;

/// A job of a platform, or a person, that comes with a token, before anything was granted to it.
#[derive(Clone)]
pub(crate) struct Caller {
    /// The key it holds; none asks for a bearer token.
    pub(crate) key: Option<&'static SigningKey>,
    token: Arc<str>,
    /// The token of the person on whose behalf it comes.
    subject: Option<Arc<str>>,
}

/// A client that was granted something.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) key: Option<&'static SigningKey>,
    pub(crate) id: ClientId,
}

impl Caller {
    pub(crate) fn new(world: &World, repository: u64, run: Run, key: usize) -> Self {
        Self {
            key: Some(key_of(key)),
            token: platform_token(world.now(), repository, &run, &unique()).into(),
            subject: None,
        }
    }

    /// Whoever comes with this token.
    #[cfg(test)]
    pub(crate) fn by(token: &str, key: usize) -> Self {
        Self {
            key: Some(key_of(key)),
            token: token.into(),
            subject: None,
        }
    }

    /// A person who has logged in.
    pub(crate) fn person(world: &World, login: Login, key: usize) -> Self {
        Self {
            key: Some(key_of(key)),
            token: id_token(world.now(), login, TASKS).into(),
            subject: None,
        }
    }

    /// The same on behalf of a person who has logged in.
    pub(crate) fn on_behalf_of(self, world: &World, login: Login) -> Self {
        Self {
            subject: Some(id_token(world.now(), login, TASKS).into()),
            ..self
        }
    }

    /// The same without a key.
    pub(crate) fn without_key(self) -> Self {
        Self { key: None, ..self }
    }

    /// Asks for a first credential, for reading and publishing.
    pub(crate) async fn ask(&self, world: &World) -> Result<Granted, Refused> {
        match self.open(world, false).await? {
            Opened::Granted(granted) => Ok(granted),
            Opened::Deferred(deferred) => panic!("nobody asked for {deferred:?}"),
        }
    }

    /// Asks for the same where people must be asked first.
    pub(crate) async fn request(&self, world: &World) -> Result<Deferred, Refused> {
        match self.open(world, true).await? {
            Opened::Deferred(deferred) => Ok(deferred),
            Opened::Granted(granted) => panic!("nobody was asked for {granted:?}"),
        }
    }

    async fn open(&self, world: &World, deferrable: bool) -> Result<Opened, Refused> {
        let header = self
            .key
            .map(|key| proof(world, key, "POST", "/token", None));
        let subject = self.subject.as_deref().map(|token| SubjectRequest {
            token,
            kind: PersonToken::IdToken,
        });
        let request = GrantRequest {
            entrance: if subject.is_some() {
                Entrance::ActorToken
            } else {
                Entrance::Assertion
            },
            token: &self.token,
            subject,
            workload: None,
            access: wanted(),
            digest: Digest([7; 32]),
            key_proof: header.as_deref().map(|header| at_token(header)),
            deferrable,
        };
        let (app, tenant) = (&world.app, &world.tenant);
        app.grant(tenant, &request, &mut trail("token")).await
    }

    pub(crate) const fn client(&self, granted: &Granted) -> Client {
        Client {
            key: self.key,
            id: granted.client,
        }
    }
}

impl Client {
    /// Asks for a further credential by the client's own key.
    pub(crate) async fn renew(&self, world: &World) -> Result<Granted, Refused> {
        let client_id = self.id.to_string();
        let assertion = client_assertion(
            self.key.unwrap(),
            &AssertionRequest {
                client_id: &client_id,
                issuer: ISSUER,
                now: world.now().seconds(),
                jti: &unique(),
                lifetime_seconds: 60,
            },
        )
        .unwrap();
        let request = RenewRequest {
            assertion: &assertion,
            client_id: None,
            access: wanted(),
            key_proof: None,
        };
        world
            .app
            .renew(&world.tenant, &request, &mut trail("token"))
            .await
    }

    /// Exchanges a token of its own for one that may only read.
    pub(crate) async fn narrow(&self, world: &World, token: &str) -> Result<Granted, Refused> {
        let header = self
            .key
            .map(|key| proof(world, key, "POST", "/token", None));
        let request = NarrowRequest {
            token,
            assertion: None,
            client_id: None,
            access: AccessRequest {
                scopes: vec!["read".to_owned()],
                ..wanted()
            },
            key_proof: header.as_deref().map(|header| at_token(header)),
        };
        world
            .app
            .narrow(&world.tenant, &request, &mut trail("token"))
            .await
    }

    /// Hands what may be read over to a helper with a key of its own, who takes it.
    pub(crate) async fn hand_over(
        &self,
        world: &World,
        helper: usize,
    ) -> Result<(Self, Granted), Refused> {
        let key = key_of(helper);
        let handover = handover(
            self.key.unwrap(),
            &HandoverRequest {
                parent: &self.id.to_string(),
                issuer: ISSUER,
                jkt: Some(key.thumbprint()),
                given: &Given::Scope("read".to_owned()),
                now: world.now().seconds(),
                jti: &unique(),
            },
        );
        let header = proof(world, key, "POST", "/token", None);
        let request = DelegateRequest {
            handover: &handover.unwrap(),
            actor: None,
            workload: None,
            access: wanted(),
            digest: Digest([8; 32]),
            key_proof: Some(at_token(&header)),
        };
        let granted = world
            .app
            .delegate(&world.tenant, &request, &mut trail("token"))
            .await?;
        let helper = Self {
            key: Some(key),
            id: granted.client,
        };
        Ok((helper, granted))
    }

    /// Ends itself, or its whole task.
    pub(crate) async fn end(
        &self,
        world: &World,
        token: &str,
        whole_task: bool,
        outcome: Outcome,
    ) -> Result<Ended, Refused> {
        let (end, path) = if whole_task {
            let task = self.id.task;
            (End::Task(task), format!("/tasks/{task}/end"))
        } else {
            (End::Client(self.id), format!("/clients/{}/end", self.id))
        };
        let header = self
            .key
            .map(|key| proof(world, key, "POST", &path, Some(token)));
        let presented = presented(token, header.as_deref(), "POST", &path);
        world
            .app
            .end(&world.tenant, end, outcome, &presented, &mut trail("end"))
            .await
    }

    /// Gives a token back.
    pub(crate) async fn revoke(&self, world: &World, token: &str) -> Result<bool, Refused> {
        let header = self
            .key
            .map(|key| proof(world, key, "POST", "/revoke", None));
        let key_proof = header.as_deref().map(|header| KeyProof {
            header,
            method: "POST",
            path: "/revoke",
        });
        world
            .app
            .revoke(
                &world.tenant,
                token,
                None,
                key_proof.as_ref(),
                &mut trail("revoke"),
            )
            .await
    }

    /// Says that it is there.
    pub(crate) fn beat(&self, world: &World, token: &str) -> Result<(), Refused> {
        let path = format!("/tasks/{}/heartbeat", self.id.task);
        let header = self
            .key
            .map(|key| proof(world, key, "POST", &path, Some(token)));
        let presented = presented(token, header.as_deref(), "POST", &path);
        let beaten = world.app.beat(
            &world.tenant,
            self.id.task,
            &presented,
            &mut trail("heartbeat"),
        );
        beaten.map(drop)
    }
}

/// The platform says by its webhook that an attempt of a run is over.
pub(crate) async fn is_over(world: &World, repository: u64, run: Run) -> Result<Heard, Refused> {
    let body = json!({
        "action": "completed",
        "workflow_run": {"id": run.id, "run_attempt": run.attempt, "conclusion": "cancelled"},
        "repository": {"id": repository},
    })
    .to_string();
    let secret = hmac::Key::new(hmac::HMAC_SHA256, HOOK_SECRET.as_bytes());
    let tag = hmac::sign(&secret, body.as_bytes());
    let hex: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let signature = format!("sha256={hex}");
    let header = |name: &str| match name {
        "x-github-event" => Some("workflow_run"),
        "x-hub-signature-256" => Some(signature.as_str()),
        _ => None,
    };
    let delivery = Delivery {
        header: &header,
        body: body.as_bytes(),
    };
    let declared = Arc::clone(&world.tenant.loaded().declared);
    let issuer = &declared.issuers[&"github".parse().unwrap()];
    let webhook = verify(issuer, delivery, world.now()).unwrap();
    world
        .app
        .upstream(&world.tenant, issuer, &webhook, &trail("webhook"))
        .await
}

/// Whether the resource is told that a token is active.
pub(crate) fn is_active(world: &World, token: &str) -> bool {
    let resource = RESOURCE.parse().unwrap();
    let answer = world
        .app
        .introspect(&world.tenant, &resource, token, &trail("introspect"));
    answer.unwrap().is_some()
}

pub(crate) const fn rule(refused: &Refused) -> dayfly_domain::Rule {
    refused.refusal.rule
}

fn wanted() -> AccessRequest {
    AccessRequest {
        scopes: Vec::new(),
        details: Vec::new(),
        resources: vec![RESOURCE_URL.to_owned()],
    }
}

pub(crate) const fn at_token(header: &str) -> KeyProof<'_> {
    KeyProof {
        header,
        method: "POST",
        path: "/token",
    }
}

fn presented<'a>(
    token: &'a str,
    header: Option<&'a str>,
    method: &'a str,
    path: &'a str,
) -> Presented<'a> {
    Presented {
        token,
        as_dpop: header.is_some(),
        key_proof: header.map(|header| KeyProof {
            header,
            method,
            path,
        }),
    }
}

pub(crate) fn trail(asked: &'static str) -> Trail {
    Trail {
        asked,
        ..Trail::default()
    }
}

/// A DPoP proof (RFC 9449, section 4.2).
pub(crate) fn proof(
    world: &World,
    key: &SigningKey,
    method: &str,
    path: &str,
    access_token: Option<&str>,
) -> String {
    let nonce = world.app.nonce();
    dpop_proof(
        key,
        &ProofRequest {
            method,
            url: &format!("{ISSUER}{path}"),
            now: world.now().seconds(),
            jti: &unique(),
            nonce: Some(&nonce),
            access_token,
        },
    )
    .unwrap()
}

/// One of the keys of the callers.
pub(crate) fn key_of(number: usize) -> &'static SigningKey {
    static ALL: OnceLock<Vec<SigningKey>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        (0..KEYS)
            .map(|_| SigningKey::generate(Alg::Es256).unwrap())
            .collect()
    });
    &all[number % KEYS]
}

/// A name that nothing else has.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("unique-{}", NEXT.fetch_add(1, Ordering::SeqCst))
}
