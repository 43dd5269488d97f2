//! A bare HTTP server in a process of its own: what a request costs before any of our code has run.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use axum::serve::ListenerExt;

use super::failure::{Context, Failure};
use super::load::{self, Load};
use super::machine;

/// How the bench is told to be the bare server.
pub(super) const ARGUMENT: &str = "--bare-http";

/// Bytes of a request's form and of an answer, as an issuance has them.
const REQUEST: usize = 2200;
const ANSWER: usize = 1700;

/// Microseconds of the server's CPU for each request, and requests a second.
pub(super) fn measure(quick: bool) -> Result<(f64, f64), Failure> {
    let mut bare = Bare::start()?;
    let request = load::post("/acme/token", "", &"x".repeat(REQUEST));
    let fire = |requests: usize| {
        let load = Load {
            address: bare.address,
            requests: Arc::new(vec![request.clone(); requests]),
            holds: "",
            keeps: false,
        };
        load.fire(64)
    };
    fire(4_000)?.demand_good("the bare server")?;
    let before = machine::process_cpu(bare.child.id())?;
    let fired = fire(if quick { 30_000 } else { 150_000 })?;
    let cpu = machine::process_cpu(bare.child.id())? - before;
    fired.demand_good("the bare server")?;
    bare.stop();
    Ok((cpu * 1e6 / fired.good() as f64, fired.rate()))
}

/// The process of the bare server.
struct Bare {
    child: Child,
    address: SocketAddr,
}

impl Bare {
    fn start() -> Result<Self, Failure> {
        let own = std::env::current_exe().context("the bench does not know where it lies")?;
        let mut child = Command::new(own)
            .args(["bench", ARGUMENT])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .context("the bare server does not start")?;
        let mut line = String::new();
        let out = child
            .stdout
            .take()
            .context("the bare server says nothing")?;
        BufReader::new(out)
            .read_line(&mut line)
            .context("the bare server says nothing")?;
        let address = line
            .trim()
            .parse()
            .context("the bare server does not listen")?;
        Ok(Self { child, address })
    }

    fn stop(&mut self) {
        // Neither fails but when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Is the bare server.
pub(super) fn main(_args: &[String]) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .context("cannot listen")?;
        println!("{}", listener.local_addr().context("cannot listen")?);
        let listener = listener.tap_io(|stream| {
            let _best_effort = stream.set_nodelay(true);
        });
        let router = Router::new().route("/{tenant}/token", post(answer));
        axum::serve(listener, router)
            .await
            .context("the bare server stopped")
    })
}

async fn answer(body: Bytes) -> ([(axum::http::HeaderName, &'static str); 1], Vec<u8>) {
    // The body is looked at, so that reading it cannot be left out.
    let byte = body.last().copied().unwrap_or(b'x');
    ([(CONTENT_TYPE, "application/json")], vec![byte; ANSWER])
}
