//! Which WebSockets a route lets open, and for how long nothing may pass.

use std::time::Duration;

use super::definition::WebsocketDefinition;
use super::error::RouteProblem;
use super::table::MAX_DEADLINE_MS;

/// `websocket` of a route, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Websocket {
    idle: Duration,
    origins: Vec<String>,
}

impl Websocket {
    pub(super) fn new(definition: &WebsocketDefinition) -> Result<Self, (String, RouteProblem)> {
        let WebsocketDefinition { idle_timeout_ms, origins } = definition;
        if !(1..=MAX_DEADLINE_MS).contains(idle_timeout_ms) {
            return Err(("idle_timeout_ms".to_owned(), RouteProblem::WebsocketIdle));
        }
        if let Some((place, bad)) = origins.iter().enumerate().find(|(_, origin)| !is_origin(origin)) {
            let problem = RouteProblem::WebsocketOrigin(bad.escape_debug().to_string());
            return Err((format!("origins[{place}]"), problem));
        }
        Ok(Self { idle: Duration::from_millis(*idle_timeout_ms), origins: origins.clone() })
    }

    /// For how long nothing may pass, either way.
    #[must_use]
    pub const fn idle(&self) -> Duration {
        self.idle
    }

    /// Whether a page of `origin` may open one at `authority`, which the request names (RFC 6455 section 10.2). A page of the
    /// gateway's own origin may, and those of the listed ones. `null` is nobody's.
    #[must_use]
    pub fn admits(&self, origin: &str, authority: &str) -> bool {
        let is_own =
            origin.strip_prefix("https://").is_some_and(|host| bare(host).eq_ignore_ascii_case(bare(authority)));
        is_own || self.origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin))
    }
}

/// An authority without the port that `https` has anyway (RFC 6454 section 6.2).
fn bare(authority: &str) -> &str {
    authority.strip_suffix(":443").unwrap_or(authority)
}

/// As browsers write it (RFC 6454 section 6.2): scheme, host in lower case, and a port that is not the scheme's own.
fn is_origin(text: &str) -> bool {
    let (host, default) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(host), _) => (host, ":443"),
        (None, Some(host)) => (host, ":80"),
        (None, None) => return false,
    };
    let is_of_host = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']')
    };
    !host.is_empty() && host.bytes().all(is_of_host) && !host.ends_with(default) && !host.ends_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn websocket(origins: &[&str]) -> Result<Websocket, (String, RouteProblem)> {
        let origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        Websocket::new(&WebsocketDefinition { origins, ..WebsocketDefinition::default() })
    }

    #[test]
    fn pages_of_the_gateway_and_of_listed_origins_may() {
        let websocket = websocket(&["https://portal.example", "http://old.example:8080"]).unwrap();
        for (origin, authority, may) in [
            ("https://gw.example", "gw.example", true),
            ("https://gw.example", "gw.example:443", true),
            ("https://GW.example:8443", "gw.example:8443", true),
            ("https://gw.example", "gw.example:8443", false),
            ("http://gw.example", "gw.example", false),
            ("https://evil.example", "gw.example", false),
            ("https://gw.example.evil.example", "gw.example", false),
            ("https://evil.gw.example", "gw.example", false),
            ("null", "gw.example", false),
            ("", "gw.example", false),
            ("https://portal.example", "gw.example", true),
            ("https://portal.example:444", "gw.example", false),
            ("http://portal.example", "gw.example", false),
            ("http://old.example:8080", "gw.example", true),
        ] {
            assert_eq!(websocket.admits(origin, authority), may, "{origin} at {authority}");
        }
    }

    #[test]
    fn what_no_browser_writes_is_refused() {
        assert_eq!(websocket(&[]).unwrap().idle(), Duration::from_secs(300));
        for bad in [
            "",
            "*",
            "null",
            "portal.example",
            "https://",
            "https://A.example",
            "https://a.example/",
            "https://a.example:443",
            "http://a.example:80",
            "https://a.example:",
            "wss://a.example",
        ] {
            let (key, problem) = websocket(&["https://good.example", bad]).unwrap_err();
            assert_eq!((key.as_str(), problem), ("origins[1]", RouteProblem::WebsocketOrigin(bad.to_owned())));
        }
        for idle_timeout_ms in [0, 86_400_001] {
            let definition = WebsocketDefinition { idle_timeout_ms, ..WebsocketDefinition::default() };
            assert_eq!(Websocket::new(&definition).unwrap_err().1, RouteProblem::WebsocketIdle);
        }
    }
}
