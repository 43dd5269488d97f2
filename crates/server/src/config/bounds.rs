//! The bounds of a server: what no tenant's declared state can go beyond.

use dayfly_domain::Span;

use super::{Report, Table};

/// The table `[bounds]` of `dayfly.toml`, with its defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The longest window that a workload may declare: `window_max`, 24 h, and never more.
    pub window_max: Span,
    /// How old a platform's token may be: `proof_age`, 1 h, at most 24 h.
    pub proof_age: Span,
    /// Most clients of a task: `clients`, 256.
    pub clients: usize,
    /// Most live credentials of a client: `live_credentials`, 16.
    pub live_credentials: usize,
    /// Most details of an access: `details`, 32.
    pub details: usize,
    /// How deep a delegated client may stand: `depth`, 4.
    pub depth: usize,
    /// Most bytes of a request: `request_bytes`, 64 KiB.
    pub request_bytes: usize,
    /// Most bytes of a token: `token_bytes`, 4 KiB.
    pub token_bytes: usize,
    /// Most bytes of a leaf: `leaf_bytes`, 8 KiB, and never more.
    pub leaf_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        let domain = dayfly_domain::Bounds::default();
        Self {
            window_max: DAY,
            proof_age: Span::from_seconds(3600),
            clients: domain.clients,
            live_credentials: domain.live_credentials,
            details: domain.details,
            depth: domain.depth as usize,
            request_bytes: 64 * KIB,
            token_bytes: 4 * KIB,
            leaf_bytes: 8 * KIB,
        }
    }
}

impl Bounds {
    /// Those that the domain's rules read.
    #[must_use]
    pub fn domain(&self) -> dayfly_domain::Bounds {
        dayfly_domain::Bounds {
            clients: self.clients,
            live_credentials: self.live_credentials,
            details: self.details,
            depth: u32::try_from(self.depth).unwrap_or(u32::MAX),
        }
    }
}

const DAY: Span = Span::from_seconds(86_400);
const KIB: usize = 1024;

pub(super) fn read(mut table: Table<'_>, report: &mut Report) -> Bounds {
    let default = Bounds::default();
    let mut span = |key, fallback| {
        let node = table.get(key);
        node.and_then(|node| node.span_between(Span::from_seconds(1), DAY, report))
            .unwrap_or(fallback)
    };
    let window_max = span("window_max", default.window_max);
    let proof_age = span("proof_age", default.proof_age);
    let mut count = |key, least, most, fallback| {
        let node = table.get(key);
        node.and_then(|node| node.count_between(least, most, report))
            .unwrap_or(fallback)
    };
    let bounds = Bounds {
        window_max,
        proof_age,
        clients: count("clients", 1, 65_536, default.clients),
        live_credentials: count("live_credentials", 1, 1024, default.live_credentials),
        details: count("details", 1, 1024, default.details),
        depth: count("depth", 1, 16, default.depth),
        request_bytes: count("request_bytes", 4 * KIB, 1024 * KIB, default.request_bytes),
        token_bytes: count("token_bytes", KIB, 64 * KIB, default.token_bytes),
        leaf_bytes: count("leaf_bytes", KIB, default.leaf_bytes, default.leaf_bytes),
    };
    table.finish(report);
    bounds
}
