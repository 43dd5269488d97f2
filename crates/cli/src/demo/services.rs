//! The services of the demo: a store of artifacts, a queue and a store of results, each on a port of its own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use super::guard::{Check, Denied, Guard, Wanted};
use crate::random;

const MAX_BODY_BYTES: usize = 1 << 20;
const MAX_OBJECTS: usize = 10_000;

/// What the queue `orders` holds, a line each.
pub(super) const ORDERS: &str = "1001 40\n1002 25\n1003 19\n";

/// Ports that are taken, before it is known which server the services will ask.
pub(super) struct Ports {
    artifacts: TcpListener,
    queue: TcpListener,
    results: TcpListener,
}

/// The running services, which answer until this is dropped.
pub(super) struct Services {
    /// Asks the server at every request.
    pub(super) artifacts: Service,
    /// Asks the server at every request.
    pub(super) queue: Service,
    /// Looks at the token alone.
    pub(super) results: Service,
}

/// One running service.
pub(super) struct Service {
    room: Arc<Room>,
    serving: tokio::task::JoinHandle<()>,
}

struct Room {
    guard: Guard,
    /// The type of details that it asks for, and the words for writing and reading.
    kind: &'static str,
    write: &'static str,
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Ports {
    pub(super) async fn take() -> Result<Self> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        Ok(Self {
            artifacts: TcpListener::bind(any).await?,
            queue: TcpListener::bind(any).await?,
            results: TcpListener::bind(any).await?,
        })
    }

    /// Begins to answer, for tokens of this issuer.
    pub(super) fn serve(self, issuer: &str) -> Result<Services> {
        let online = || -> Result<Check> {
            Ok(Check::Introspection {
                issuer: issuer.to_owned(),
                secret: random::name()?,
            })
        };
        let offline = Check::Offline {
            issuer: issuer.to_owned(),
            keys: OnceCell::new(),
        };
        let queue = Service::start("queue", self.queue, online()?, ("queue", "write"))?;
        queue.put("orders", ORDERS.as_bytes());
        queue.put("payroll", b"2001 5000\n");
        Ok(Services {
            artifacts: Service::start(
                "artifacts",
                self.artifacts,
                online()?,
                ("artifact", "publish"),
            )?,
            queue,
            results: Service::start("results", self.results, offline, ("result", "write"))?,
        })
    }
}

impl Service {
    fn start(
        name: &'static str,
        listener: TcpListener,
        check: Check,
        (kind, write): (&'static str, &'static str),
    ) -> Result<Self> {
        let url = format!("http://{}", listener.local_addr()?);
        let room = Arc::new(Room {
            guard: Guard::new(name, url, check)?,
            kind,
            write,
            objects: Mutex::default(),
        });
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&room));
        let serving = tokio::spawn(async move {
            let _stopped = axum::serve(listener, routes).await;
        });
        Ok(Self { room, serving })
    }

    /// Its name, under which the tenant declares it.
    pub(super) fn name(&self) -> &'static str {
        self.room.guard.name
    }

    /// Its URL, which is the audience of its tokens.
    pub(super) fn url(&self) -> &str {
        &self.room.guard.url
    }

    /// What it shows the server when it asks about a token.
    pub(super) fn secret(&self) -> Option<&str> {
        match &self.room.guard.check {
            Check::Introspection { secret, .. } => Some(secret),
            Check::Offline { .. } => None,
        }
    }

    /// What is stored under a name.
    pub(super) fn object(&self, name: &str) -> Option<Vec<u8>> {
        self.room.objects().get(name).cloned()
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        self.room.objects().insert(name.to_owned(), bytes.to_vec());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Room {
    fn objects(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn action(&self, method: &Method) -> Option<&'static str> {
        match *method {
            Method::GET => Some("read"),
            Method::PUT => Some(self.write),
            Method::DELETE => Some("delete"),
            _ => None,
        }
    }

    async fn answer(&self, request: Request) -> Result<Response, Denied> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let denied = |status, why: &str| Denied {
            status,
            why: why.to_owned(),
        };
        let action = self
            .action(&parts.method)
            .ok_or_else(|| denied(StatusCode::METHOD_NOT_ALLOWED, "GET, PUT or DELETE"))?;
        let name = path.trim_start_matches('/');
        let wanted = Wanted {
            kind: self.kind,
            action,
            identifier: name,
        };
        self.guard
            .admit(&parts.method, path, &parts.headers, wanted)
            .await?;
        match parts.method {
            Method::PUT => self.store(name, body).await,
            Method::DELETE => {
                self.objects().remove(name);
                Ok("deleted\n".into_response())
            }
            _ => self
                .objects()
                .get(name)
                .map(|bytes| bytes.clone().into_response())
                .ok_or_else(|| denied(StatusCode::NOT_FOUND, "nothing by that name")),
        }
    }

    async fn store(&self, name: &str, body: Body) -> Result<Response, Denied> {
        let bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| Denied {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            why: "more than a MiB, or broken off".to_owned(),
        })?;
        let mut objects = self.objects();
        if objects.len() >= MAX_OBJECTS {
            return Err(Denied {
                status: StatusCode::INSUFFICIENT_STORAGE,
                why: "full".to_owned(),
            });
        }
        let said = format!("stored {name}, {} bytes\n", bytes.len());
        objects.insert(name.to_owned(), bytes.to_vec());
        Ok((StatusCode::CREATED, said).into_response())
    }
}

async fn answer(State(room): State<Arc<Room>>, request: Request) -> Response {
    match room.answer(request).await {
        Ok(response) => response,
        Err(denied) => {
            let text = format!("{}: {}\n", room.guard.name, denied.why);
            let mut response = (denied.status, text).into_response();
            if denied.status == StatusCode::UNAUTHORIZED {
                let challenge =
                    axum::http::HeaderValue::from_static("DPoP error=\"invalid_token\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}
