//! Whom a listed proxy asks for: `Forwarded` (RFC 7239) or `X-Forwarded-For`, read from the right.
//!
//! Each proxy adds what it saw at the end, so that the part on the right is that of proxies which are listed, and what stands
//! left of it is the word of somebody who is not. The client is the last address of which no listed proxy says that it is one;
//! what stands left of that is never looked at, whatever it is.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName};
use policy::Refusal;

use crate::config::{ForwardedField, ForwardedFrom, is_among};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Proxies in a row, at most. Whoever builds longer chains has a loop.
const MOST_HOPS: usize = 32;

/// What a proxy said of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// The client's address; its port is 0 where nobody said it.
    pub(super) client: SocketAddr,
    /// Whether the client spoke TLS to the proxy, where it says so.
    pub(super) is_tls: Option<bool>,
    /// The host that the client asked for there, where it says so.
    pub(super) host: Option<String>,
}

/// One step of the way.
struct Hop {
    /// Who came there; none where the proxy does not say (`unknown` or an obfuscated identifier).
    node: Option<SocketAddr>,
    is_tls: Option<bool>,
    host: Option<String>,
}

/// What the proxy at `peer` tells; none where it is not listed, or says nothing and asks for itself.
///
/// # Errors
/// [`Refusal::ForwardedMalformed`] where what listed proxies wrote cannot be read.
pub(super) fn told(listed: &ForwardedFrom, peer: IpAddr, headers: &HeaderMap) -> Result<Option<Told>, Refusal> {
    if !is_among(&listed.from, peer) {
        return Ok(None);
    }
    let mut told: Option<Told> = None;
    for (count, hop) in hops(listed.field, headers).enumerate() {
        let Some(hop) = hop.filter(|_| count < MOST_HOPS) else { return Err(Refusal::ForwardedMalformed) };
        // Beyond it nobody knows anything; whoever came there is behind the last address that is known.
        let Some(client) = hop.node else { break };
        told = Some(Told { client, is_tls: hop.is_tls, host: hop.host });
        if !is_among(&listed.from, client.ip()) {
            break;
        }
    }
    if let (Some(told), ForwardedField::XForwarded) = (&mut told, listed.field) {
        told.is_tls = match last(headers, &X_FORWARDED_PROTO)? {
            None => None,
            Some(proto) => Some(is_tls(proto).ok_or(Refusal::ForwardedMalformed)?),
        };
        told.host = match last(headers, &X_FORWARDED_HOST)? {
            None => None,
            Some(host) if is_host(host) => Some(host.to_owned()),
            Some(_) => return Err(Refusal::ForwardedMalformed),
        };
    }
    Ok(told)
}

/// The steps, the nearest first; none for one that cannot be read.
fn hops(field: ForwardedField, headers: &HeaderMap) -> Box<dyn Iterator<Item = Option<Hop>> + '_> {
    let lines = |name: &HeaderName| headers.get_all(name).iter().rev();
    match field {
        ForwardedField::Forwarded => {
            let elements = lines(&FORWARDED).flat_map(|line| from_the_right(line.as_bytes(), b','));
            Box::new(elements.filter(|element| !element.is_empty()).map(element))
        }
        ForwardedField::XForwarded => {
            let elements = lines(&X_FORWARDED_FOR).flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
            let hop = |node: Option<SocketAddr>| Hop { node, is_tls: None, host: None };
            Box::new(elements.map(move |element| match element.trim_ascii() {
                b"unknown" => Some(hop(None)),
                text => Some(hop(Some(address(std::str::from_utf8(text).ok()?)?))),
            }))
        }
    }
}

/// The last element of a list in a field, if the field is there.
fn last<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Refusal> {
    let Some(line) = headers.get_all(name).iter().next_back() else { return Ok(None) };
    let text = std::str::from_utf8(line.as_bytes()).map_err(|_| Refusal::ForwardedMalformed)?;
    Ok(text.rsplit(',').next().map(str::trim))
}

/// The parts of a line between separators that stand outside quoted strings, the last one first. Quotes are counted from the right:
/// what a listed proxy wrote is well-formed, and a quote that somebody left open before it opens nothing.
fn from_the_right(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let whole = rest?;
        let mut is_quoted = false;
        let split = whole.iter().rposition(|byte| {
            is_quoted ^= *byte == b'"';
            *byte == separator && !is_quoted
        });
        let (before, part) = match split {
            None => (None, whole),
            Some(at) => (whole.get(..at), whole.get(at + 1..).unwrap_or_default()),
        };
        rest = before;
        Some(part.trim_ascii())
    })
}

/// RFC 7239 section 4: `forwarded-element`. Each parameter once; `for` must be there.
fn element(text: &[u8]) -> Option<Hop> {
    let mut node = None;
    let (mut tls, mut host, mut by) = (None, None, false);
    for pair in from_the_right(text, b';').filter(|pair| !pair.is_empty()) {
        let pair = std::str::from_utf8(pair).ok()?;
        let (name, value) = pair.split_once('=')?;
        let value = value_of(value)?;
        let is_new = match name.to_ascii_lowercase().as_str() {
            "for" => node.replace(node_of(&value)?).is_none(),
            "proto" => tls.replace(is_tls(&value)?).is_none(),
            "host" => is_host(&value) && host.replace(value.into_owned()).is_none(),
            "by" => !std::mem::replace(&mut by, true),
            _ => is_token(name),
        };
        if !is_new {
            return None;
        }
    }
    Some(Hop { node: node?, is_tls: tls, host })
}

/// A token, or a quoted string. Nothing that is read has a reason to escape a character.
fn value_of(text: &str) -> Option<Cow<'_, str>> {
    match text.strip_prefix('"') {
        None => is_token(text).then_some(Cow::Borrowed(text)),
        Some(rest) => {
            let inner = rest.strip_suffix('"')?;
            let is_plain = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && byte != b'"' && byte != b'\\';
            inner.bytes().all(is_plain).then_some(Cow::Borrowed(inner))
        }
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_char)
}

/// RFC 7239 section 6: an address, with or without a port; `unknown`; or an obfuscated identifier, which begins with `_`.
fn node_of(text: &str) -> Option<Option<SocketAddr>> {
    let (name, _) = text.rsplit_once(':').unwrap_or((text, ""));
    if name.eq_ignore_ascii_case("unknown") || (name.starts_with('_') && is_token(name)) {
        return Some(None);
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        // An address of IPv6 stands in brackets.
        return None;
    }
    address(text).map(Some)
}

/// An address with or without a port: `192.0.2.7`, `192.0.2.7:50000`, `[2001:db8::1]`, `[2001:db8::1]:50000`, `2001:db8::1`.
fn address(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address.to_canonical(), 0));
    }
    if let Some(bare) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return Some(SocketAddr::new(IpAddr::from(bare.parse::<Ipv6Addr>().ok()?).to_canonical(), 0));
    }
    let address: SocketAddr = text.parse().ok()?;
    // A scope is of the proxy's own machine.
    let has_scope = matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0);
    (!has_scope).then(|| SocketAddr::new(address.ip().to_canonical(), address.port()))
}

fn is_tls(proto: &str) -> Option<bool> {
    [("https", true), ("http", false)].into_iter().find(|(name, _)| proto.eq_ignore_ascii_case(name)).map(|(_, is)| is)
}

/// A host with or without a port, as a quoted string can hold it.
fn is_host(text: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]~%!$&'()*+=".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(is_char)
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
mod tests;
