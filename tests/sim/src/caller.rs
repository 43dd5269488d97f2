//! What callers do: each use case as one call, with proofs made by keys of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use dayfly_domain::access::AccessRequest;
use dayfly_domain::{ClientId, Digest, Outcome};
use dayfly_server::app::{
    End, Ended, GrantRequest, Granted, KeyProof, NarrowRequest, Opened, Presented, Refused,
    RenewRequest, Trail,
};
use dayfly_server::verify::Entrance;
use dayfly_token::alg::Alg;
use dayfly_token::client::{AssertionRequest, ProofRequest, client_assertion, dpop_proof};
use dayfly_token::sign::SigningKey;

use crate::world::{ISSUER, RESOURCE, RESOURCE_URL, Run, World, platform_token};

/// How many keys all callers of a process share out: a key is dear to make and none is ever asked
/// to be new.
const KEYS: usize = 64;

/// A job of a platform that comes with a token, before anything was granted to it.
#[derive(Clone)]
pub(crate) struct Caller {
    /// The key it holds; none asks for a bearer token.
    pub(crate) key: Option<&'static SigningKey>,
    pub(crate) token: Arc<str>,
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
        }
    }

    /// The same without a key.
    pub(crate) fn without_key(self) -> Self {
        Self { key: None, ..self }
    }

    /// Asks for a first credential, for reading and publishing.
    pub(crate) async fn ask(&self, world: &World) -> Result<Granted, Refused> {
        let header = self
            .key
            .map(|key| proof(world, key, "POST", "/token", None));
        let request = GrantRequest {
            entrance: Entrance::Assertion,
            token: &self.token,
            subject: None,
            workload: None,
            access: wanted(),
            digest: Digest([7; 32]),
            key_proof: header.as_deref().map(|header| at_token(header)),
            deferrable: false,
        };
        let opened = world
            .app
            .grant(&world.tenant, &request, &mut trail("token"))
            .await?;
        match opened {
            Opened::Granted(granted) => Ok(granted),
            Opened::Deferred(deferred) => panic!("nobody asked for {deferred:?}"),
        }
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

const fn at_token(header: &str) -> KeyProof<'_> {
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

fn trail(asked: &'static str) -> Trail {
    Trail {
        asked,
        ..Trail::default()
    }
}

/// A DPoP proof (RFC 9449, section 4.2).
fn proof(
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
fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("unique-{}", NEXT.fetch_add(1, Ordering::SeqCst))
}
