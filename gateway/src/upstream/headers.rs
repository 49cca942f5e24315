//! Hygiene of header and trailer fields, in both directions (C6, RFC 9110 7.6).
//!
//! What the gateway itself says about a request (who, from where, under which id) is said exactly once, whatever the
//! client wrote: every inbound field that could be taken for it goes, then ours are added. Values of one field keep
//! their order; the order between different fields means nothing (RFC 9110 5.3) and is not kept when one is removed.

use std::fmt::Write as _;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, CONNECTION, EXPECT, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, TE, VIA};
use policy::session::cookie;
use smallvec::SmallVec;

use crate::accounts::OWN_COOKIES;

/// RFC 9440: the client's certificate.
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// The id that ties a request's records, answers and the backend's own log together.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The signed identity of the asker: a JWT.
pub const IDENTITY: HeaderName = HeaderName::from_static("sekisho-identity");

/// RFC 9110 7.6.3.
const VIA_US: HeaderValue = HeaderValue::from_static("1.1 sekisho");

/// What the gateway tells a backend about a request. All of it is made by the gateway.
#[derive(Debug, Clone)]
pub struct Ours {
    /// `Client-Cert`, made once per connection by [`client_cert`]; none where no certificate was shown.
    pub client_cert: Option<HeaderValue>,
    /// `X-Request-Id`.
    pub request_id: HeaderValue,
    /// `Forwarded`, by [`forwarded`].
    pub forwarded: HeaderValue,
    /// `Sekisho-Identity`, from [`Identities`](super::identity::Identities).
    pub identity: HeaderValue,
}

/// What a request's fields said before they were cleaned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// The client takes trailers (`TE: trailers`); kept, in this one form.
    pub trailers: bool,
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
}

/// A list of names, and the question whether a name is in it: a `match` on strings compares lengths first.
macro_rules! names {
    ($(#[$doc:meta])* $list:ident, $contains:ident: $($name:literal),* $(,)?) => {
        $(#[$doc])*
        fn $contains(name: &str) -> bool {
            matches!(name, $($name)|*)
        }

        #[cfg(test)]
        const $list: &[&str] = &[$($name),*];
    };
}

/// Prefixes of names, and the question whether a name has one of them: the first letters select a handful of literals,
/// so that an ordinary field costs one look.
macro_rules! prefixes {
    ($(#[$doc:meta])* $list:ident, $contains:ident: $($start:pat => $($prefix:literal),+;)*) => {
        $(#[$doc])*
        fn $contains(name: &str) -> bool {
            match name.as_bytes() {
                $($start => $(name.starts_with($prefix))||+,)*
                _ => false,
            }
        }

        #[cfg(test)]
        const $list: &[&str] = &[$($($prefix),+),*];
    };
}

prefixes! {
    /// Prefixes of fields by which gateways, proxies and clouds tell a backend who asks or from where.
    PREFIXES, is_prefixed:
    [b'c', b'f', ..] => "cf-access-", "cf-connecting-";
    [b'c', b'l', ..] => "client-cert";
    [b'o', ..] => "oidc-claim-";
    [b'p', ..] => "proxy-";
    [b's', ..] => "sekisho-", "ssl-client-";
    [b't', ..] => "tailscale-";
    [b'x', b'-', b'a', ..] => "x-amzn-mtls-", "x-amzn-oidc-", "x-appengine-", "x-arr-", "x-auth-request-",
        "x-authenticated-", "x-azure-";
    [b'x', b'-', b'c', ..] => "x-client-";
    [b'x', b'-', b'e', ..] => "x-envoy-";
    [b'x', b'-', b'f', ..] => "x-forwarded-";
    [b'x', b'-', b'g', ..] => "x-goog-authenticated-", "x-goog-iap-";
    [b'x', b'-', b'm', ..] => "x-ms-client-principal";
    [b'x', b'-', b'o', ..] => "x-original-";
    [b'x', b'-', b'r', ..] => "x-remote-";
    [b'x', b'-', b's', ..] => "x-sekisho-", "x-ssl-";
    [b'x', b'-', b't', ..] => "x-tls-";
    [b'x', b'-', b'w', ..] => "x-webauth-";
}

names! {
    /// Whole names of the same kind, fields that make a backend take another method or target than the one judged (C5),
    /// and the fields of one connection (RFC 9110 7.6.1).
    NAMES, is_named:
    "alt-used",
    "client-ip",
    "connection",
    "early-data",
    "expect",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "http2-settings",
    "keep-alive",
    "proxy",
    "remote-user",
    "te",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
}

names! {
    /// Fields that `Connection` cannot name away: they frame, address or condition the request end to end.
    END_TO_END, is_end_to_end:
    "accept",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-exist",
    "if-none-match",
    "if-unmodified-since",
    "prefer",
    "range",
    "trailer",
}

/// Whether a client's field must not reach a backend. A name with `_` never does: many backends read `_` and `-` as
/// the same letter, and no registered field has one.
fn is_not_forwarded(name: &str) -> bool {
    is_prefixed(name) || is_named(name) || memchr::memchr(b'_', name.as_bytes()).is_some()
}

/// The fields that a `Connection` field names, as far as it may.
fn named_by_connection(headers: &HeaderMap) -> SmallVec<[HeaderName; 4]> {
    let mut names = SmallVec::new();
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") || token.eq_ignore_ascii_case(b"keep-alive") {
                continue;
            }
            // A token that is no field name names no field that could be there.
            let Ok(name) = HeaderName::from_bytes(token) else { continue };
            if !is_end_to_end(name.as_str()) {
                names.push(name);
            }
        }
    }
    names
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    headers.get_all(name).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            // A coding may carry parameters: `trailers;q=0.5`.
            .filter_map(|part| part.split(|byte| *byte == b';').next())
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
    })
}

fn remove_all(headers: &mut HeaderMap, names: impl IntoIterator<Item = HeaderName>) {
    for name in names {
        headers.remove(name);
    }
}

/// Takes away every field of a request that belongs to its connection, that tells who asks, or that could be taken
/// for such a field. Framing and `Host` are written anew when the request is sent.
pub fn clean_request(headers: &mut HeaderMap) -> Cleaned {
    let mut cleaned = Cleaned::default();
    let removed: SmallVec<[HeaderName; 8]> =
        headers.keys().filter(|name| is_not_forwarded(name.as_str())).cloned().collect();
    if removed.is_empty() {
        return cleaned;
    }
    if removed.contains(&CONNECTION) {
        let named = named_by_connection(headers);
        // `TE` is named by `Connection` as it should be; its meaning is read before it goes.
        cleaned.trailers = has_token(headers, &TE, b"trailers");
        remove_all(headers, named);
    } else if removed.contains(&TE) {
        cleaned.trailers = has_token(headers, &TE, b"trailers");
    }
    if removed.contains(&EXPECT) {
        cleaned.expects_continue = has_token(headers, &EXPECT, b"100-continue");
    }
    remove_all(headers, removed);
    if cleaned.trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    cleaned
}

/// Adds what the gateway says. Called after [`clean_request`], and replaces rather than adds, so that each is there
/// exactly once.
pub fn add_ours(headers: &mut HeaderMap, ours: Ours) {
    headers.reserve(6);
    match ours.client_cert {
        Some(value) => drop(headers.insert(CLIENT_CERT, value)),
        None => drop(headers.remove(CLIENT_CERT)),
    }
    headers.insert(REQUEST_ID, ours.request_id);
    headers.insert(header::FORWARDED, ours.forwarded);
    headers.insert(IDENTITY, ours.identity);
    headers.append(VIA, VIA_US);
}

fn is_not_answered(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'a') => name == "alt-svc",
        Some(b'c') => name == "connection" || name.starts_with("client-cert"),
        Some(b'h') => name == "http2-settings",
        Some(b'k') => name == "keep-alive",
        Some(b'p') => name.starts_with("proxy-"),
        Some(b's') => name.starts_with("sekisho-"),
        Some(b't') => matches!(name, "te" | "transfer-encoding"),
        Some(b'u') => name == "upgrade",
        Some(b'x') => name == "x-request-id",
        _ => false,
    }
}

/// Takes away what an answer sets of the gateway's own cookies, in any reading that they are found by: no backend logs anybody in or
/// out of the gateway.
fn clean_cookies(headers: &mut HeaderMap) {
    let is_ours = |value: &HeaderValue| {
        let set = value.as_bytes();
        let pair = memchr::memchr(b';', set).and_then(|end| set.get(..end)).unwrap_or(set);
        // Some browsers send a cookie without a name as its bare value (RFC 6265bis section 5.6).
        let bare = pair.trim_ascii_start();
        let bare = bare.strip_prefix(b"=").unwrap_or(bare);
        OWN_COOKIES.iter().any(|name| !matches!(cookie::find(std::iter::once(bare), name), Ok(None)))
    };
    if !headers.get_all(SET_COOKIE).iter().any(is_ours) {
        return;
    }
    let others: SmallVec<[HeaderValue; 4]> =
        headers.get_all(SET_COOKIE).iter().filter(|value| !is_ours(value)).cloned().collect();
    headers.remove(SET_COOKIE);
    for value in others {
        headers.append(SET_COOKIE, value);
    }
}

/// Takes away every field of an answer that belongs to the backend's connection, that echoes the gateway's own, or
/// that sends the client past the gateway (`Alt-Svc`).
pub fn clean_response(headers: &mut HeaderMap) {
    if headers.contains_key(SET_COOKIE) {
        clean_cookies(headers);
    }
    let removed: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| is_not_answered(name.as_str())).cloned().collect();
    if removed.is_empty() {
        return;
    }
    if removed.contains(&CONNECTION) {
        let named = named_by_connection(headers);
        remove_all(headers, named);
    }
    remove_all(headers, removed);
}

/// Takes away trailer fields, of a request or of an answer, that would be read as part of its head: framing, routing,
/// authentication and content fields (RFC 9110 6.5.1), the gateway's own, and those of a connection.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    let removed: SmallVec<[HeaderName; 8]> = trailers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            is_not_forwarded(name)
                || is_not_answered(name)
                || is_end_to_end(name)
                || matches!(
                    name,
                    "age"
                        | "date"
                        | "expires"
                        | "location"
                        | "max-forwards"
                        | "pragma"
                        | "retry-after"
                        | "set-cookie"
                        | "vary"
                        | "via"
                        | "warning"
                        | "www-authenticate"
                )
        })
        .cloned()
        .collect();
    remove_all(trailers, removed);
}

/// `Client-Cert` of RFC 9440: the certificate's DER as a structured byte sequence.
#[must_use]
pub fn client_cert(der: &[u8]) -> Option<HeaderValue> {
    let mut text = String::with_capacity(der.len().div_ceil(3) * 4 + 2);
    text.push(':');
    STANDARD.encode_string(der, &mut text);
    text.push(':');
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
}

/// `Forwarded` of RFC 7239: `for` the client's address, over TLS or, inside a tunnel, without, to `host` as the client wrote it, `by`
/// this node.
///
/// A node is named by an obfuscated identifier (section 6.3): `_` and the name, other characters as `-`. A host with
/// characters that no quoted string may hold is left out.
#[must_use]
pub fn forwarded(client: IpAddr, is_tls: bool, host: &str, by: &str) -> Option<HeaderValue> {
    let mut text = node(client);
    text.push_str(if is_tls { ";proto=https" } else { ";proto=http" });
    if !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
        write!(text, ";host=\"{host}\"").ok()?;
    }
    text.push_str(";by=_");
    text.extend(by.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' }));
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
}

/// The same where a listed proxy asked for a client: first what it said of the client, then `ours`, of the proxy.
#[must_use]
pub fn forwarded_behind(
    client: IpAddr,
    is_tls: Option<bool>,
    host: Option<&str>,
    ours: &HeaderValue,
) -> Option<HeaderValue> {
    let mut text = node(client);
    if let Some(is_tls) = is_tls {
        text.push_str(if is_tls { ";proto=https" } else { ";proto=http" });
    }
    if let Some(host) = host {
        write!(text, ";host=\"{host}\"").ok()?;
    }
    write!(text, ", {}", ours.to_str().ok()?).ok()?;
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
}

fn node(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(address) => format!("for={address}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\""),
    }
}

#[cfg(test)]
#[path = "tests/headers.rs"]
mod tests;
