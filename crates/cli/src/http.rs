//! The one place that builds HTTP clients.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use url::{Host, Url};

use crate::output::say;

/// How long one call to a server may take, its answer included.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(15);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Follow no redirect, so that a credential goes where it was meant to go.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    /// Plain HTTP on this machine, which needs neither a proxy nor anyone's certificates.
    plain: Client,
    /// HTTPS on this machine, never through a proxy.
    direct: OnceLock<Client>,
    /// Through the proxy that the environment names, where it names one.
    outside: OnceLock<Client>,
}

impl Clients {
    pub(crate) fn new() -> reqwest::Result<Self> {
        Ok(Self {
            plain: builder().no_proxy().tls_certs_only([]).build()?,
            direct: OnceLock::new(),
            outside: OnceLock::new(),
        })
    }

    /// The client for requests to `url`.
    pub(crate) fn of(&self, url: &Url) -> &Client {
        match (is_loopback(url), url.scheme() == "https") {
            (true, false) => &self.plain,
            (true, true) => self
                .direct
                .get_or_init(|| self.trusting(builder().no_proxy())),
            (false, _) => self.outside.get_or_init(|| self.trusting(builder())),
        }
    }

    /// A client that trusts whom the system trusts; where that is nobody, as in an empty container, the one that trusts nobody.
    fn trusting(&self, builder: ClientBuilder) -> Client {
        builder.build().unwrap_or_else(|error| {
            let why = error.source().map_or(String::new(), ToString::to_string);
            say(format_args!("no server can be trusted here: {why}"));
            self.plain.clone()
        })
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
fn builder() -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("dayfly/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
}
