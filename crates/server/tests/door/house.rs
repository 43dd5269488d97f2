//! A door with a small house behind it, and callers that write bytes as they are.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::routing::{get, post};
use dayfly_server::http::door::{Caller, Door, DoorSetup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

pub(crate) struct House {
    pub(crate) address: SocketAddr,
    /// Lets one request to `/wait` go on.
    pub(crate) go: Arc<Semaphore>,
    /// A request to `/wait` has come.
    pub(crate) came: Arc<Notify>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) served: JoinHandle<()>,
}

impl House {
    pub(crate) async fn open(setup: DoorSetup) -> Self {
        let (go, came) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
        let (wait, coming) = (Arc::clone(&go), Arc::clone(&came));
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/echo", post(echo))
            .route(
                "/who",
                get(async |Extension(caller): Extension<Caller>| caller.address.to_string()),
            )
            .route("/large", get(async || "x".repeat(16 << 20)))
            .route(
                "/wait",
                get(async move || {
                    coming.notify_one();
                    wait.acquire().await.unwrap().forget();
                    "waited"
                }),
            );
        let door = Door::bind("127.0.0.1:0".parse().unwrap(), setup)
            .await
            .unwrap();
        let address = door.address().unwrap();
        let (stop, stopping) = watch::channel(false);
        let served = tokio::spawn(door.serve(router, stopping));
        Self {
            address,
            go,
            came,
            stop,
            served,
        }
    }

    pub(crate) async fn call(&self) -> Line {
        Line(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends bytes on a connection of their own, and gives everything that comes until it is closed.
    pub(crate) async fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut line = self.call().await;
        line.send(bytes).await;
        line.rest().await
    }
}

/// How a body was received: its bytes, or that it broke off.
async fn echo(body: Body) -> String {
    match axum::body::to_bytes(body, 1 << 20).await {
        Ok(bytes) => format!("[{}]", String::from_utf8_lossy(&bytes)),
        Err(_) => "broken".to_owned(),
    }
}

pub(crate) struct Line(pub(crate) TcpStream);

impl Line {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that has already answered may have closed.
        let _closed = self.0.write_all(bytes.as_ref()).await;
    }

    /// Everything until the other side closes, or breaks off.
    pub(crate) async fn rest(&mut self) -> String {
        let mut all = Vec::new();
        let _reset = self.0.read_to_end(&mut all).await;
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Reads until this has come.
    pub(crate) async fn until(&mut self, mark: &str) -> String {
        let mut all = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&all).into_owned();
            if text.ends_with(mark) {
                return text;
            }
            let mut byte = [0];
            let read = self.0.read(&mut byte).await.unwrap();
            assert!(read > 0, "closed after {text:?}");
            all.push(byte[0]);
        }
    }
}

/// The status of each answer in a text that holds nothing but answers.
pub(crate) fn statuses(text: &str) -> Vec<u16> {
    text.match_indices("HTTP/1.1 ")
        .map(|(at, mark)| text[at + mark.len()..][..3].parse().unwrap())
        .collect()
}
