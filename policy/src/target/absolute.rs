//! The absolute form of a target, which a client may send to any server (RFC 9112 section 3.2.2).

use crate::Refusal;

/// An absolute-form target, split but not yet judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbsoluteForm<'a> {
    /// `host` or `host:port`, as written. The caller compares it with the connection's names and with `Host`.
    pub authority: &'a str,
    /// What follows the authority, from its `/`: the bytes for
    /// [`CanonicalTarget::parse`](super::CanonicalTarget::parse), and the only ones that are forwarded.
    pub origin_form: &'a [u8],
}

/// Splits `https://authority/path?query`.
///
/// The scheme is `https` in lowercase, its normal form (RFC 3986 section 6.2.2.1): what came over TLS has no other.
/// The authority is a registered name of letters, digits, `-`, `_` and `.`, an IPv4 address, or an IPv6 address in
/// brackets, with or without a port; never user information, never an encoded octet.
///
/// # Errors
/// [`Refusal::RequestMalformed`] if the target does not begin like that, and [`Refusal::TargetNotNormal`] if the
/// path is empty, whose normal form is `/` (RFC 3986 section 6.2.3).
pub fn split_absolute(raw: &[u8]) -> Result<AbsoluteForm<'_>, Refusal> {
    let after_scheme = raw.strip_prefix(b"https://").ok_or(Refusal::RequestMalformed)?;
    let length = after_scheme.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(after_scheme.len());
    let (authority, origin_form) = after_scheme.split_at_checked(length).ok_or(Refusal::RequestMalformed)?;
    let authority = std::str::from_utf8(authority).map_err(|_| Refusal::RequestMalformed)?;
    if !is_authority(authority) {
        return Err(Refusal::RequestMalformed);
    }
    if !origin_form.starts_with(b"/") {
        return Err(Refusal::TargetNotNormal);
    }
    Ok(AbsoluteForm { authority, origin_form })
}

fn is_authority(authority: &str) -> bool {
    let (host_is_good, after_host) = match authority.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once(']') {
            Some((address, after)) => (address.parse::<std::net::Ipv6Addr>().is_ok(), after),
            None => return false,
        },
        None => {
            let (host, after) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (is_host(host), after)
        }
    };
    host_is_good && (after_host.is_empty() || after_host.strip_prefix(':').is_some_and(is_port))
}

fn is_host(host: &str) -> bool {
    // A DNS name is at most 253 characters long (RFC 1035 section 3.1).
    (1..=253).contains(&host.len())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_what_a_client_may_send() {
        for (raw, authority, origin_form) in [
            ("https://h/", "h", "/"),
            ("https://gw.sekisho.example:8443/fhir/Patient/1?a=b", "gw.sekisho.example:8443", "/fhir/Patient/1?a=b"),
            ("https://127.0.0.1/x//y", "127.0.0.1", "/x//y"),
            ("https://[::1]:8443/x", "[::1]:8443", "/x"),
        ] {
            let split = split_absolute(raw.as_bytes()).unwrap();
            assert_eq!((split.authority, split.origin_form), (authority, origin_form.as_bytes()));
        }
    }

    #[test]
    fn c5_refuses_every_other_absolute_form() {
        for raw in [
            "http://h/admin",
            "HTTPS://h/admin",
            "http:http://h/admin",
            "https:https://h/admin",
            "https:/h/admin",
            "https:///admin",
            "https://user@h/admin",
            "https://h:/admin",
            "https://h:99999/admin",
            "https://h:+1/admin",
            "https://a,b/admin",
            "https://h%2f/admin",
            "https://h\\admin/",
            "https://h:1:2/admin",
            "https://[::1/admin",
            "https://[::1]x/admin",
            "https://[nonsense]/admin",
            "https://\u{3042}/admin",
            "ftp://h/admin",
            "/admin",
            "admin",
            "*",
            "h:443",
            "",
        ] {
            assert_eq!(split_absolute(raw.as_bytes()), Err(Refusal::RequestMalformed), "{raw}");
        }
        for raw in ["https://h", "https://h?x", "https://h#x"] {
            assert_eq!(split_absolute(raw.as_bytes()), Err(Refusal::TargetNotNormal), "{raw}");
        }
    }
}
