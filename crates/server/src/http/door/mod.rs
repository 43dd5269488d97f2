//! The front door: accepts connections, bounds them, and hands complete requests to a router.
//!
//! HTTP/1.1 alone is spoken (docs/decisions/0021). Every connection has one task and one deadline at a
//! time: for a head, for a body, for an answer, for the next request. What one connection can hold in
//! memory is bounded by the head and the body it may send, and how many there are is bounded in all
//! and by address, so slow and many callers cost a known amount and no more.

mod crowd;
mod forwarded;
mod gate;
mod pace;
mod request;
mod stream;
mod tls;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use dayfly_domain::Span;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use crate::config::{Connections, Network};
use crate::telemetry::Metrics;
use crowd::{Crowd, Place};
use pace::{Pace, Patience};
use request::Reception;
use stream::Watched;

pub(super) use crowd::neighbourhood;
pub use forwarded::Caller;
pub use tls::{Tls, TlsError};

/// How long accepting rests when the system gives no more connections.
const BREATH: Duration = Duration::from_millis(100);

/// What a door is made with.
#[derive(Clone, Debug, Default)]
pub struct DoorSetup {
    /// Bounds and timeouts.
    pub connections: Connections,
    /// Whose word about the caller's address counts.
    pub trusted_proxies: Vec<Network>,
    /// The certificate; none for plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// Where connections are counted.
    pub metrics: Arc<Metrics>,
}

/// A listener that is bound and not yet served.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    setup: DoorSetup,
}

impl Door {
    /// Binds the address.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind(address: SocketAddr, setup: DoorSetup) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, setup })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` holds true; then takes no more connections, lets open requests finish
    /// within `drain_timeout`, and cuts what is left.
    pub async fn serve(self, router: Router, stop: watch::Receiver<bool>) {
        let connections = self.setup.connections;
        let mut house = House::new(self.setup, router, stop.clone());
        house.receive(self.listener, stop).await;
        let drained = async { while house.guests.join_next().await.is_some() {} };
        if timeout(duration(connections.drain_timeout), drained)
            .await
            .is_err()
        {
            let left = house.guests.len();
            tracing::warn!(left, "connections were still open after `drain_timeout`");
            house.guests.shutdown().await;
        }
    }
}

/// Everything that connections share, and the connections.
struct House {
    guests: JoinSet<()>,
    total: Arc<Semaphore>,
    crowd: Crowd,
    host: Arc<Host>,
}

/// What every connection is served with.
struct Host {
    reception: Reception,
    setup: DoorSetup,
    patience: Patience,
    stop: watch::Receiver<bool>,
}

/// The places that a connection holds for as long as it lasts.
struct Places {
    _total: OwnedSemaphorePermit,
    _of_address: Option<Place>,
}

impl House {
    fn new(setup: DoorSetup, router: Router, stop: watch::Receiver<bool>) -> Self {
        let bounds = setup.connections;
        Self {
            guests: JoinSet::new(),
            total: Arc::new(Semaphore::new(bounds.total)),
            crowd: Crowd::new(bounds.per_address),
            host: Arc::new(Host {
                reception: Reception {
                    router,
                    trusted: setup.trusted_proxies.clone(),
                },
                patience: Patience {
                    header: duration(bounds.header_timeout),
                    body: duration(bounds.body_timeout),
                    request: duration(bounds.request_timeout),
                    idle: duration(bounds.idle_timeout),
                },
                setup,
                stop,
            }),
        }
    }

    async fn receive(&mut self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        loop {
            // Whoever comes when all places are taken waits in the system's queue.
            let total = Arc::clone(&self.total);
            let accepted = async {
                let place = total.acquire_owned().await.map_err(io::Error::other)?;
                let (stream, peer) = listener.accept().await?;
                Ok::<_, io::Error>((place, stream, peer))
            };
            tokio::select! {
                biased;
                () = told(&mut stop) => return,
                Some(_) = self.guests.join_next(), if !self.guests.is_empty() => {}
                accepted = accepted => match accepted {
                    Ok((place, stream, peer)) => self.welcome(place, stream, peer.ip()),
                    Err(why) => {
                        tracing::warn!(%why, "no connection could be accepted");
                        tokio::time::sleep(BREATH).await;
                    }
                }
            }
        }
    }

    fn welcome(&mut self, total: OwnedSemaphorePermit, stream: TcpStream, peer: IpAddr) {
        let peer = peer.to_canonical();
        let trusted = &self.host.setup.trusted_proxies;
        let of_address = if trusted.iter().any(|network| network.contains(peer)) {
            None
        } else {
            match self.crowd.enter(peer) {
                Some(place) => Some(place),
                None => {
                    tracing::debug!("more connections of one address than `per_address`");
                    self.host.setup.metrics.turned_away();
                    return;
                }
            }
        };
        let places = Places {
            _total: total,
            _of_address: of_address,
        };
        let host = Arc::clone(&self.host);
        let counted = host.setup.metrics.connected();
        self.guests.spawn(async move {
            host.entertain(stream, peer).await;
            drop((places, counted));
        });
    }
}

impl Host {
    async fn entertain(&self, stream: TcpStream, peer: IpAddr) {
        // Answers are small and written at once: waiting for more to send gains nothing.
        let _best_effort = stream.set_nodelay(true);
        let Some(tls) = &self.setup.tls else {
            return self.serve(stream, peer).await;
        };
        let handshake = TlsAcceptor::from(tls.current()).accept(stream);
        let within = duration(self.setup.connections.tls_timeout);
        match timeout(within, handshake).await {
            Ok(Ok(stream)) => self.serve(stream, peer).await,
            Ok(Err(why)) => tracing::debug!(%why, "no tls"),
            Err(_) => tracing::debug!("a tls handshake took too long"),
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: IpAddr) {
        let pace = Pace::new(self.patience);
        let service = service_fn(|request| {
            let pace = &pace;
            async move { Ok::<_, Infallible>(self.reception.answer(request, peer, pace).await) }
        });
        let bounds = &self.setup.connections;
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // The pace tells heads from pauses between requests; the parser would not.
            .header_read_timeout(None)
            .max_headers(bounds.headers)
            .max_header_size(bounds.header_bytes)
            .max_buf_size(bounds.header_bytes)
            .serve_connection(TokioIo::new(Watched::new(stream, pace.clone())), service);
        let mut connection = pin!(connection);
        let mut alarm = pin!(tokio::time::sleep_until(pace.due()));
        let mut stop = self.stop.clone();
        let mut stopping = pin!(told(&mut stop));
        let mut leaving = false;
        std::future::poll_fn(|cx| {
            if !leaving && stopping.as_mut().poll(cx).is_ready() {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            if let Poll::Ready(done) = connection.as_mut().poll(cx) {
                if let Err(why) = done {
                    tracing::debug!(%why, "a connection broke off");
                }
                return Poll::Ready(());
            }
            // The alarm is moved only where it would come too late: most requests never touch it.
            loop {
                let due = pace.due();
                if due < alarm.deadline() {
                    alarm.as_mut().reset(due);
                }
                std::task::ready!(alarm.as_mut().poll(cx));
                let due = pace.due();
                if due <= Instant::now() {
                    let phase = pace.phase().word();
                    tracing::debug!(phase, "a slow connection is cut");
                    self.setup.metrics.cut(phase);
                    return Poll::Ready(());
                }
                alarm.as_mut().reset(due);
            }
        })
        .await;
    }
}

/// Until the server is told to stop, or whoever would tell it is gone.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _stopped = stop.wait_for(|stop| *stop).await.is_ok();
}

fn duration(span: Span) -> Duration {
    Duration::from_millis(span.millis())
}
