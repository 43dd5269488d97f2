//! Which URLs may stand in configuration: https, or http on this machine.

use url::{Host, Url};

use super::{Node, Report};

/// The server's own URL: scheme, host and port in their one spelling, and nothing else, because
/// clients compare issuers byte by byte (RFC 8414, section 3.3).
pub(super) fn public_url(node: &Node<'_>, report: &mut Report) -> Option<String> {
    let url = web_url(node, report)?;
    let text = node.text(report)?;
    let origin = url.origin().ascii_serialization();
    if text != origin {
        let message = if text == format!("{origin}/") {
            format!("`{text}` ends with a slash, write `{origin}`")
        } else {
            format!(
                "`{text}` is more than scheme, host and port in their plain spelling, write `{origin}`"
            )
        };
        node.error(message, report);
        return None;
    }
    Some(origin)
}

/// An absolute URL: https, or http on a loopback host; without user information and fragment.
pub(crate) fn web_url(node: &Node<'_>, report: &mut Report) -> Option<Url> {
    let text = node.text(report)?;
    match check(text) {
        Ok(url) => Some(url),
        Err(why) => {
            node.error(format!("`{text}` {why}"), report);
            None
        }
    }
}

/// What is wrong with a URL, without its text: it may hold a secret.
pub(super) fn check(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not an absolute url")?;
    if !matches!(url.scheme(), "http" | "https") || !text.contains("://") {
        return Err("is not an http or https url");
    }
    if text.chars().any(|c| !c.is_ascii_graphic() || c == '\\') {
        return Err("holds a character that a url cannot hold");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds user information");
    }
    if url.fragment().is_some() {
        return Err("has a fragment");
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err("is http on another host than this one, wanted https");
    }
    Ok(url)
}

/// Whether the host is this machine: 127.0.0.0/8, `::1` or `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(domain)) => domain == "localhost",
        None => false,
    }
}
