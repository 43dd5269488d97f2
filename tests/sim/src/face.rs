//! The admin face as people from elsewhere reach it: who may approve and deny is judged there, before any use case.

use std::io;
use std::sync::Arc;

use axum::serve::Listener;
use dayfly_server::config::{AddressRates, Operators};
use dayfly_server::http::admin::{Readiness, Ready, Remote, remote};
use dayfly_server::telemetry::Metrics;
use dayfly_server::verify::{KeyCache, People};
use dayfly_token::alg::Alg;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::model::Login;
use crate::persons::{OPERATE, id_token, provider};
use crate::world::World;

/// How many bytes of a connection are on the way at most.
const PIPE: usize = 65_536;

/// A served face of one server.
pub(crate) struct Face {
    connections: mpsc::Sender<DuplexStream>,
    serving: JoinHandle<()>,
}

/// What the face answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is done.
    Done,
    /// Nothing of it is done, and the same may be asked again.
    Unavailable,
    /// Refused, with this status.
    Refused(u16),
}

impl Face {
    /// Serves the face of a world. The provider's keys are held in the cache, over restarts too.
    pub(crate) fn open(world: &World, keys: &KeyCache) -> Self {
        let operators = Operators {
            issuer: provider().to_owned(),
            client_id: OPERATE.to_owned(),
            groups_claim: "groups".to_owned(),
            scopes: None,
            algs: vec![Alg::Es256],
            allow_private: true,
            roles: Vec::new(),
        };
        let people = People::new(&operators, keys).unwrap();
        let ready: Ready = Arc::new(Readiness::default);
        let router = remote(
            Arc::clone(&world.app),
            ready,
            Arc::new(Metrics::default()),
            Some(Remote {
                operators,
                people,
                rates: AddressRates::default(),
            }),
        );
        let (connections, accepted) = mpsc::channel(1);
        let serving = tokio::spawn(async move {
            let served = axum::serve(Accepted(accepted), router).await;
            served.unwrap();
        });
        Self {
            connections,
            serving,
        }
    }

    /// Asks below the tenant, as somebody who has just logged in.
    pub(crate) async fn post(&self, world: &World, who: usize, path: &str) -> Said {
        let login = Login::now(who, world.now());
        let token = id_token(world.now(), login, OPERATE);
        let body = r#"{"reason": "simulated"}"#;
        let request = format!(
            "POST /admin/acme{path} HTTP/1.1\r\nhost: dayfly\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (mut near, far) = tokio::io::duplex(PIPE);
        self.connections.send(far).await.unwrap();
        near.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        match status {
            200 | 202 => Said::Done,
            503 => Said::Unavailable,
            status => Said::Refused(status),
        }
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The connections of a face, within this process.
struct Accepted(mpsc::Receiver<DuplexStream>);

impl Listener for Accepted {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(connection) => (connection, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}
