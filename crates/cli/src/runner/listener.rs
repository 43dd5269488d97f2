//! The loopback server's connections: how many at once, and how long one may take to ask.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const MAX_CONNECTIONS: usize = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// A socket that only this machine reaches.
#[derive(Debug)]
pub(crate) struct Listener {
    tcp: TcpListener,
    port: u16,
}

/// What answers requests.
pub(crate) trait Answers: Send + Sync + 'static {
    /// Answers one request.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

impl Listener {
    /// Takes any free port.
    pub(crate) async fn bind() -> io::Result<Self> {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = tcp.local_addr()?.port();
        Ok(Self { tcp, port })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Serves until it is dropped, and every connection with it.
    pub(crate) async fn serve(self, answers: Arc<impl Answers>) {
        let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        while let Ok(permit) = Arc::clone(&limit).acquire_owned().await {
            while connections.try_join_next().is_some() {}
            match self.tcp.accept().await {
                Ok((stream, _)) => {
                    let answers = Arc::clone(&answers);
                    connections.spawn(async move {
                        serve_connection(stream, answers).await;
                        drop(permit);
                    });
                }
                // No more files, or a connection that was gone before it was taken.
                Err(_) => tokio::time::sleep(PAUSE_AFTER_ERROR).await,
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, answers: Arc<impl Answers>) {
    let service = service_fn(move |request| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answers.answer(request).await) }
    });
    // A connection that breaks is the caller's to notice.
    let _broken = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
