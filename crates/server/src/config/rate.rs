//! How often somebody may ask: `{ requests = 600, per = "1m" }`.

use dayfly_domain::Span;

use super::{Node, Report, Table};

/// How often somebody may ask: so many requests at once, and as many again in each span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub requests: u32,
    /// In how long.
    pub per: Span,
}

impl Rate {
    /// So many requests a minute.
    #[must_use]
    pub const fn per_minute(requests: u32) -> Self {
        Self {
            requests,
            per: Span::from_seconds(60),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests in {}", self.requests, self.per)
    }
}

/// The table `[rate]` of `dayfly.toml`: how often one address may ask, of IPv6 one /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRates {
    /// Requests that prove nothing: `unverified`, 600 in 1 m.
    pub unverified: Rate,
    /// All requests: `address`, not bounded unless declared.
    pub address: Option<Rate>,
}

impl Default for AddressRates {
    fn default() -> Self {
        Self {
            unverified: Rate::per_minute(600),
            address: None,
        }
    }
}

pub(super) fn read(mut table: Table<'_>, report: &mut Report) -> AddressRates {
    let unverified = rate(table.get("unverified"), report);
    let address = rate(table.get("address"), report);
    table.finish(report);
    AddressRates {
        unverified: unverified.unwrap_or(AddressRates::default().unverified),
        address,
    }
}

/// A rate, where one stands.
pub(crate) fn rate(node: Option<Node<'_>>, report: &mut Report) -> Option<Rate> {
    let mut table = node?.table(report)?;
    let requests = table
        .require("requests", report)
        .and_then(|node| node.count_between(1, 1_000_000_000, report));
    let per = table.require("per", report).and_then(|node| {
        node.span_between(Span::from_seconds(1), Span::from_seconds(86_400), report)
    });
    table.finish(report);
    Some(Rate {
        requests: u32::try_from(requests?).ok()?,
        per: per?,
    })
}
