//! Which network addresses keys may be fetched from, judged on the address that is really connected to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How far a fetch may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Globally routed unicast addresses alone.
    Public,
    /// Private networks and this machine too, as `allow_private` says. Never link-local (where the
    /// metadata services of clouds live), multicast or unspecified addresses: no issuer is there.
    Private,
    /// This machine alone, the one place where http is borne.
    Loopback,
}

impl Reach {
    /// Whether a connection to this address may be made.
    pub(super) fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Public => is_public(address),
            Self::Private => is_public(address) || is_private(address.to_canonical()),
            Self::Loopback => address.is_loopback(),
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Private => "public or private",
            Self::Loopback => "loopback",
        })
    }
}

/// An address that a fetch may not reach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{host}` is at {address}, which is no {reach} address")]
pub(crate) struct AddressRefused {
    /// The host as the URL names it.
    pub(crate) host: String,
    /// Its address.
    pub(crate) address: IpAddr,
    /// How far the fetch may reach.
    pub(crate) reach: Reach,
}

/// Resolves names to those of their addresses that may be reached.
///
/// The connection is made to exactly these addresses, so a name that resolves to another address a
/// moment later (DNS rebinding) gains nothing. Hosts that are written as addresses never come here:
/// [`super::fetch`] judges them before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver(pub(super) Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let host = name.as_str();
            let mut refused = None;
            let mut allowed = Vec::new();
            for found in tokio::net::lookup_host((host, 0)).await? {
                if reach.allows(found.ip()) {
                    allowed.push(found);
                } else {
                    refused = Some(found.ip());
                }
            }
            match refused {
                Some(address) if allowed.is_empty() => Err(AddressRefused {
                    host: host.to_owned(),
                    address,
                    reach,
                }
                .into()),
                Some(_) | None => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// Globally reachable unicast by the IANA special-purpose address registries (RFC 6890). An address
/// that embeds another counts only where the embedding is one that networks are built with: NAT64
/// (RFC 6052), by the address embedded.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0 | 10 | 127, ..] | [169, 254, ..] | [192, 168, ..] => true,
        [100, b, ..] => (64..128).contains(&b),
        [172, b, ..] => (16..32).contains(&b),
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => true,
        [198, 51, 100, _] | [203, 0, 113, _] => true,
        [a, ..] => a >= 224,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Protocol assignments with Teredo (2001::/23), documentation, 6to4.
        [0x2001, b, ..] => b >= 0x200 && b != 0xdb8,
        [0x2002, ..] => false,
        [0x3fff, b, ..] => b >= 0x1000,
        [a, ..] => (0x2000..0x4000).contains(&a),
    }
}

/// Addresses of private networks and of this machine: RFC 1918, RFC 6598 (carrier-grade NAT), RFC
/// 4193 (unique local), loopback.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_private() || address.is_loopback() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(reach: Reach, address: &str) -> bool {
        reach.allows(address.parse().unwrap())
    }

    #[test]
    fn public_reach_ends_at_special_addresses() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "4000::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!allowed(Reach::Public, address), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "140.82.121.3",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00:1450::1",
            "64:ff9b::808:808",
        ] {
            assert!(allowed(Reach::Public, address), "{address}");
        }
    }

    #[test]
    fn private_reach_never_comes_to_metadata_services() {
        for address in [
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "::1",
            "fd12::1",
            "::ffff:10.0.0.1",
            "8.8.8.8",
        ] {
            assert!(allowed(Reach::Private, address), "{address}");
        }
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:0.0.0.0",
        ] {
            assert!(!allowed(Reach::Private, address), "{address}");
        }
    }

    #[test]
    fn loopback_reach_stays_on_this_machine() {
        assert!(allowed(Reach::Loopback, "127.0.0.1"));
        assert!(allowed(Reach::Loopback, "::1"));
        assert!(!allowed(Reach::Loopback, "10.0.0.1"));
        assert!(!allowed(Reach::Loopback, "8.8.8.8"));
    }
}
