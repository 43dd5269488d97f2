//! Who a request comes from when it comes through proxies: only what a trusted one says counts.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};

use crate::config::Network;

/// The headers in which proxies speak. What stands in them after this module has read them is
/// nobody's word, so they are taken out.
const SPOKEN: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
];

/// The most hops that are looked at.
const HOPS: usize = 32;

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The address nearest to the caller that somebody trusted vouches for.
    pub address: IpAddr,
    /// Whether it is the caller's own, as far as trusted proxies say: where they contradict each
    /// other or name nobody it is a proxy's, which is good for counting and for nothing else.
    pub certain: bool,
}

/// Resolves the caller and takes the proxies' headers out.
///
/// From the right, the first address that is no trusted proxy is the caller: everything to the left
/// of it is what the caller itself wrote. Where something that is no address stands there, or where
/// `Forwarded` and `X-Forwarded-For` name two callers (a proxy sets one of them and passes the other
/// on as it came), the caller is the last proxy that can be told.
pub(super) fn resolve(peer: IpAddr, headers: &mut HeaderMap, trusted: &[Network]) -> Caller {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let certain = |address| Caller {
        address,
        certain: true,
    };
    let caller = if is_trusted(peer) {
        let standard = hops(headers, "forwarded", quoted_elements, node_of);
        let custom = hops(headers, "x-forwarded-for", |text| text.split(','), address);
        let walk = |hops: Option<Vec<Option<IpAddr>>>| hops.map(|h| nearest(peer, &h, is_trusted));
        match (walk(standard), walk(custom)) {
            (Some(one), Some(other)) if one != other => Caller {
                address: peer,
                certain: false,
            },
            (Some(found), _) | (None, Some(found)) => found,
            // A proxy that says nothing of the caller: it may be the proxy itself, or anybody.
            (None, None) => Caller {
                address: peer,
                certain: false,
            },
        }
    } else {
        certain(peer)
    };
    for name in SPOKEN {
        headers.remove(HeaderName::from_static(name));
    }
    caller
}

/// Walks from the peer towards the caller for as long as the hops are trusted.
fn nearest(peer: IpAddr, hops: &[Option<IpAddr>], is_trusted: impl Fn(IpAddr) -> bool) -> Caller {
    let mut nearest = peer;
    for hop in hops.iter().rev().take(HOPS) {
        let Some(address) = *hop else {
            return Caller {
                address: nearest,
                certain: false,
            };
        };
        nearest = address;
        if !is_trusted(address) {
            break;
        }
    }
    Caller {
        address: nearest,
        certain: true,
    }
}

/// The elements of a list header, over all its lines; none where it does not stand.
fn hops<'a, I: Iterator<Item = &'a str>>(
    headers: &'a HeaderMap,
    name: &'static str,
    elements: impl Fn(&'a str) -> I,
    read: impl Fn(&str) -> Option<IpAddr>,
) -> Option<Vec<Option<IpAddr>>> {
    let mut found = Vec::new();
    let mut there = false;
    for value in headers.get_all(HeaderName::from_static(name)) {
        there = true;
        match value.to_str() {
            Ok(text) => found.extend(elements(text).map(|element| read(element.trim()))),
            Err(_) => found.push(None),
        }
    }
    there.then_some(found)
}

/// Splits a list at its commas, those within quotes not counted (RFC 7239). In `X-Forwarded-For`
/// there are no quotes: one that the caller wrote would swallow what a proxy put after it.
fn quoted_elements(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c: char| {
        if escaped {
            escaped = false;
            return false;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => return true,
            _ => {}
        }
        false
    })
}

/// The address in the one `for` of an element of `Forwarded` (RFC 7239, sections 4 and 6).
fn node_of(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.trim().split_once('=')?;
        if name.eq_ignore_ascii_case("for") {
            if found.is_some() {
                return None;
            }
            found = Some(value);
        }
    }
    let value = found?;
    let node = match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => value,
    };
    address(node)
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let found = bare
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|found| found.ip()))?;
    Some(found.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let trusted: Vec<Network> = ["10.0.0.0/8", "127.0.0.1", "2001:db8:1::/48"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers.append("host", "dayfly.example".parse().unwrap());
        let caller = resolve(peer.parse().unwrap(), &mut headers, &trusted);
        assert_eq!(headers.len(), 1, "{headers:?}");
        let doubt = if caller.certain { "" } else { "?" };
        format!("{}{doubt}", caller.address)
    }

    #[test]
    fn a_stranger_speaks_for_itself_alone() {
        for line in [
            ("x-forwarded-for", "192.0.2.9"),
            ("forwarded", "for=192.0.2.9"),
            ("x-real-ip", "192.0.2.9"),
        ] {
            assert_eq!(of("198.51.100.1", &[line]), "198.51.100.1");
        }
    }

    #[test]
    fn the_rightmost_that_is_not_trusted_is_the_caller() {
        let xff = |value| of("10.1.1.1", &[("x-forwarded-for", value)]);
        assert_eq!(xff("192.0.2.9"), "192.0.2.9");
        assert_eq!(xff("6.6.6.6, 192.0.2.9"), "192.0.2.9");
        assert_eq!(xff("6.6.6.6, 192.0.2.9, 10.9.9.9"), "192.0.2.9");
        assert_eq!(xff("10.2.2.2"), "10.2.2.2");
        assert_eq!(xff("192.0.2.9:4711"), "192.0.2.9");
        assert_eq!(xff("2001:db8::7"), "2001:db8::7");
        assert_eq!(xff("[2001:db8::7]:80"), "2001:db8::7");
        assert_eq!(xff("::ffff:192.0.2.9"), "192.0.2.9");
        assert_eq!(xff("192.0.2.9, 2001:db8:1::5"), "192.0.2.9");
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "192.0.2.9"),
        ];
        assert_eq!(of("10.1.1.1", &lines), "192.0.2.9");
        assert_eq!(of("::ffff:10.1.1.1", &lines), "192.0.2.9");
    }

    #[test]
    fn forwarded_is_read_as_it_is_specified() {
        let forwarded = |value| of("10.1.1.1", &[("forwarded", value)]);
        assert_eq!(forwarded("for=192.0.2.9;proto=https"), "192.0.2.9");
        assert_eq!(forwarded("proto=https; FOR=\"192.0.2.9:47\""), "192.0.2.9");
        assert_eq!(forwarded("for=\"[2001:db8::7]:80\""), "2001:db8::7");
        assert_eq!(forwarded("for=6.6.6.6, for=192.0.2.9"), "192.0.2.9");
        assert_eq!(
            forwarded("for=192.0.2.9;by=\"a,b\", for=10.0.0.1"),
            "192.0.2.9"
        );
    }

    #[test]
    fn what_is_no_address_ends_the_walk_at_the_last_proxy() {
        let xff = |value| of("10.1.1.1", &[("x-forwarded-for", value)]);
        let forwarded = |value| of("10.1.1.1", &[("forwarded", value)]);
        assert_eq!(xff(""), "10.1.1.1?");
        assert_eq!(xff("192.0.2.9, unknown"), "10.1.1.1?");
        assert_eq!(xff("192.0.2.9, unknown, 10.7.7.7"), "10.7.7.7?");
        assert_eq!(forwarded("for=unknown"), "10.1.1.1?");
        assert_eq!(forwarded("for=_hidden"), "10.1.1.1?");
        assert_eq!(forwarded("for=192.0.2.9;for=192.0.2.8"), "10.1.1.1?");
        assert_eq!(forwarded("for=\"192.0.2.9"), "10.1.1.1?");
        assert_eq!(forwarded("proto=https"), "10.1.1.1?");
        // A quote of the caller's swallows nothing that the proxy put after it.
        assert_eq!(xff("\"evil, 203.0.113.9"), "203.0.113.9");
    }

    #[test]
    fn a_header_that_the_proxy_only_passed_on_does_not_win() {
        let lines = [
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-for", "192.0.2.9"),
        ];
        assert_eq!(of("10.1.1.1", &lines), "10.1.1.1?");
        let agreed = [
            ("forwarded", "for=192.0.2.9"),
            ("x-forwarded-for", "6.6.6.6, 192.0.2.9"),
        ];
        assert_eq!(of("10.1.1.1", &agreed), "192.0.2.9");
    }
}
