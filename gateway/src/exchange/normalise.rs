//! Step 1: one reading of a request, or none.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use policy::Refusal;
use policy::target::CanonicalTarget;

use crate::body::RequestBody;
use crate::config::Limits;
use crate::listen::Connection;

/// What normalising found.
pub(super) struct Normal {
    /// The authority that the request names: one that its connection was opened for.
    pub(super) authority: HeaderValue,
    /// Which of the listener's names that is.
    name: usize,
}

impl Normal {
    /// Checks what does not need the target: authority, framing and the bounds that hold for every protocol. Leaves
    /// exactly one `Host` behind.
    ///
    /// # Errors
    /// [`Refusal::Misdirected`], [`Refusal::RequestAmbiguous`], [`Refusal::UpgradeRefused`],
    /// [`Refusal::HeaderTooLarge`], [`Refusal::TargetTooLong`], [`Refusal::BodyTooLarge`] or [`Refusal::RequestMalformed`].
    pub(super) fn of(connection: &Connection, request: &mut Request<RequestBody>) -> Result<Self, Refusal> {
        let limits = &connection.listener.limits;
        if request.headers().len() > limits.header_count {
            return Err(Refusal::HeaderTooLarge);
        }
        if matches!(request.version(), Version::HTTP_2 | Version::HTTP_3) {
            check_header_list(request, limits)?;
            let headers = request.headers();
            if headers.contains_key(TRANSFER_ENCODING) || headers.contains_key(UPGRADE) {
                return Err(Refusal::RequestMalformed);
            }
            if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
                return Err(Refusal::RequestAmbiguous);
            }
            if http_body::Body::size_hint(request.body()).exact().is_some_and(|bytes| bytes > limits.body_bytes) {
                return Err(Refusal::BodyTooLarge);
            }
        }
        // RFC 8441 section 4: an extended CONNECT names the protocol. A door makes a GET of one for a WebSocket.
        if request.extensions().get::<hyper::ext::Protocol>().is_some() {
            return Err(Refusal::UpgradeRefused);
        }
        if request.method() == Method::CONNECT {
            return Err(Refusal::MethodNotAllowed);
        }
        let authority = authority_of(request)?;
        let name = takes(connection, authority.as_bytes())?;
        request.headers_mut().insert(HOST, authority.clone());
        Ok(Self { authority, name })
    }

    /// The host that the request names, as the listener has it.
    pub(super) fn host<'a>(&self, connection: &'a Connection) -> Option<&'a str> {
        connection.listener.server_names.get(self.name).map(String::as_str)
    }

    /// The request's target in its one normal form.
    ///
    /// # Errors
    /// [`Refusal::TargetNotNormal`] or [`Refusal::RequestMalformed`].
    pub(super) fn target<'a>(&self, uri: &'a Uri, connection: &Connection) -> Result<CanonicalTarget<'a>, Refusal> {
        let target = uri.path_and_query().ok_or(Refusal::TargetNotNormal)?;
        CanonicalTarget::parse(target.as_str().as_bytes(), connection.listener.limits.target_bytes)
    }
}

/// What a field adds to the size of a header list besides its name and value (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// The bound on a head, over HTTP/2 as the size of its header list (RFC 9113 section 6.5.2). The HTTP/1.1 codec counts
/// the bytes of the head itself.
fn check_header_list<B>(request: &Request<B>, limits: &Limits) -> Result<(), Refusal> {
    let uri = request.uri();
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let pseudo = [
        (":method", request.method().as_str().len()),
        (":scheme", uri.scheme_str().map_or(0, str::len)),
        (":authority", uri.authority().map_or(0, |authority| authority.as_str().len())),
        (":path", target),
    ];
    let size = |name: &str, value: usize| name.len() + value + FIELD_OVERHEAD;
    let pseudo: usize = pseudo.iter().map(|(name, value)| size(name, *value)).sum();
    let fields: usize = request.headers().iter().map(|(name, value)| size(name.as_str(), value.len())).sum();
    match pseudo + fields > limits.header_bytes {
        false => Ok(()),
        true if target > limits.target_bytes => Err(Refusal::TargetTooLong),
        true => Err(Refusal::HeaderTooLarge),
    }
}

/// `:authority` or `Host`; where HTTP/2 sends both they are the same (RFC 9113 section 8.3.1).
fn authority_of(request: &Request<RequestBody>) -> Result<HeaderValue, Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::RequestAmbiguous);
    }
    match (request.uri().authority(), host) {
        (Some(authority), Some(host)) if authority.as_str().as_bytes() != host.as_bytes() => {
            Err(Refusal::RequestAmbiguous)
        }
        (Some(authority), _) => HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::RequestMalformed),
        (None, Some(host)) => Ok(host.clone()),
        (None, None) => Err(Refusal::RequestMalformed),
    }
}

/// Whether the connection was opened for this authority: one of the listener's names, its port, and the name that
/// the peer asked for in TLS, if it asked for one (RFC 9110 section 7.4, row C7). Which name that is.
fn takes(connection: &Connection, authority: &[u8]) -> Result<usize, Refusal> {
    let text = std::str::from_utf8(authority).map_err(|_| Refusal::RequestMalformed)?;
    let (host, port) = split_port(text).ok_or(Refusal::RequestMalformed)?;
    let is_our_port = port.is_none_or(|port| port == connection.port);
    let our_name = connection.listener.server_names.iter().position(|name| name.eq_ignore_ascii_case(host));
    let is_asked_for = connection.sni.as_deref().is_none_or(|sni| sni.eq_ignore_ascii_case(host));
    our_name.filter(|_| is_our_port && is_asked_for).ok_or(Refusal::Misdirected)
}

/// Host without brackets, and port. `None` if it is neither a name nor an address.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let is_port = |text: &str| (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let parse = |text: &str| if is_port(text) { text.parse().ok() } else { None };
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(parse(port)?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(parse(port)?))),
        None => Some((authority, None)),
    }
}

/// The origin-form of an HTTP/1.1 target. An absolute-form (RFC 9112 section 3.2.2) is taken if its authority is the
/// `Host`'s; all other forms are refused.
///
/// # Errors
/// [`Refusal::RequestAmbiguous`] where authority and `Host` differ, [`Refusal::TargetNotNormal`] otherwise.
pub fn origin_form(target: &Bytes, headers: &HeaderMap) -> Result<Bytes, Refusal> {
    if target.first() == Some(&b'/') {
        return Ok(target.clone());
    }
    let absolute = policy::target::split_absolute(target)?;
    match headers.get(HOST) {
        Some(host) if host.as_bytes() == absolute.authority.as_bytes() => Ok(target.slice_ref(absolute.origin_form)),
        _ => Err(Refusal::RequestAmbiguous),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_list_is_measured_as_rfc_9113_says() {
        // 7+3, 7+5, 10+9, 5+8 and 32 each, then 1+value+32.
        let size = |value: usize| 54 + 4 * 32 + 33 + value;
        let limits = Limits { header_bytes: size(100), target_bytes: 90, ..Limits::default() };
        let request = |path: &str, value: usize| {
            Request::get(format!("https://localhost{path}")).header("x", "v".repeat(value)).body(()).unwrap()
        };
        assert_eq!(check_header_list(&request("/open/ok", 100), &limits), Ok(()));
        assert_eq!(check_header_list(&request("/open/ok", 101), &limits), Err(Refusal::HeaderTooLarge));
        let long = format!("/{}", "t".repeat(90));
        assert_eq!(check_header_list(&request(&long, 100), &limits), Err(Refusal::TargetTooLong));
    }

    #[test]
    fn an_authority_is_split_or_refused() {
        for (text, expected) in [
            ("localhost", Some(("localhost", None))),
            ("localhost:8443", Some(("localhost", Some(8443)))),
            ("[::1]:8443", Some(("::1", Some(8443)))),
            ("[::1]", Some(("::1", None))),
            ("localhost:", None),
            ("localhost:+1", None),
            ("localhost:99999", None),
            ("a:b@localhost:1", None),
            ("[::1]x", None),
            ("::1", None),
        ] {
            assert_eq!(split_port(text), expected, "{text}");
        }
    }
}
