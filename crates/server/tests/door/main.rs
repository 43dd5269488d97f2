//! The front door over real sockets: callers that are slow, many, doubtful, or speak another protocol.
#![expect(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod crowds;
mod house;
mod proxies;
mod shapes;
mod slow;
mod stop;
mod tls;
