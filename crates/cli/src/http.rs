//! The one place that builds HTTP clients.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::redirect::Policy;
use url::{Host, Url};

/// How long one call to a server may take, its answer included.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(15);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Follow no redirect, so that a credential goes where it was meant to go.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    /// Never through a proxy.
    direct: reqwest::Client,
    /// Through the proxy that the environment names, where it names one.
    outside: reqwest::Client,
}

impl Clients {
    pub(crate) fn new() -> reqwest::Result<Self> {
        Ok(Self {
            direct: builder().no_proxy().build()?,
            outside: builder().build()?,
        })
    }

    /// The client for requests to `url`.
    pub(crate) fn of(&self, url: &Url) -> &reqwest::Client {
        if is_loopback(url) {
            &self.direct
        } else {
            &self.outside
        }
    }
}

/// Whether `url` stays on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that builds HTTP clients"
)]
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("dayfly/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
}
