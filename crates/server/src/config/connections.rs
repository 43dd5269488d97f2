//! How many connections there may be, and how long a caller may take over each part of a request.

use dayfly_domain::Span;

use super::{Report, Table};

/// The table `[connections]` of `dayfly.toml`, with its defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Most connections at a time: `total`, 2,048. Beyond, callers wait for a place.
    pub total: usize,
    /// Most connections of one address, of IPv6 one /64: `per_address`, 512. One more is closed.
    /// Trusted proxies are not counted.
    pub per_address: usize,
    /// Most bytes of a request's head: `header_bytes`, 16 KiB.
    pub header_bytes: usize,
    /// Most headers of a request: `headers`, 64.
    pub headers: usize,
    /// How long a head may take from its first byte: `header_timeout`, 10 s.
    pub header_timeout: Span,
    /// How long a body may take from the end of its head: `body_timeout`, 10 s.
    pub body_timeout: Span,
    /// How long an answer may take from the end of the head: `request_timeout`, 30 s.
    pub request_timeout: Span,
    /// How long a connection may stay without a request, and how long the taking of an answer may
    /// last: `idle_timeout`, 60 s.
    pub idle_timeout: Span,
    /// How long a TLS handshake may take: `tls_timeout`, 10 s.
    pub tls_timeout: Span,
    /// How long open requests may go on when the server stops: `drain_timeout`, 10 s.
    pub drain_timeout: Span,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            total: 2048,
            per_address: 512,
            header_bytes: 16 * 1024,
            headers: 64,
            header_timeout: Span::from_seconds(10),
            body_timeout: Span::from_seconds(10),
            request_timeout: Span::from_seconds(30),
            idle_timeout: Span::from_seconds(60),
            tls_timeout: Span::from_seconds(10),
            drain_timeout: Span::from_seconds(10),
        }
    }
}

pub(super) fn read(mut table: Table<'_>, report: &mut Report) -> Connections {
    let default = Connections::default();
    let mut count = |key, least, most, fallback| {
        let node = table.get(key);
        node.and_then(|node| node.count_between(least, most, report))
            .unwrap_or(fallback)
    };
    let total = count("total", 1, 1 << 20, default.total);
    let per_address = count("per_address", 1, 1 << 20, default.per_address);
    // A head of less than 8 KiB would not hold a platform's token and a proof beside it.
    let header_bytes = count("header_bytes", 8 * 1024, 256 * 1024, default.header_bytes);
    let headers = count("headers", 16, 1024, default.headers);
    let (least, most) = (Span::from_millis(100), Span::from_seconds(3600));
    let mut span = |key, fallback| {
        let node = table.get(key);
        node.and_then(|node| node.span_between(least, most, report))
            .unwrap_or(fallback)
    };
    let read = Connections {
        total,
        per_address,
        header_bytes,
        headers,
        header_timeout: span("header_timeout", default.header_timeout),
        body_timeout: span("body_timeout", default.body_timeout),
        request_timeout: span("request_timeout", default.request_timeout),
        idle_timeout: span("idle_timeout", default.idle_timeout),
        tls_timeout: span("tls_timeout", default.tls_timeout),
        drain_timeout: span("drain_timeout", default.drain_timeout),
    };
    table.finish(report);
    read
}
