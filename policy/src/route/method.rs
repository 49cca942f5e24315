//! The methods that a route can take.

/// A method that a route can take. CONNECT and TRACE are not among them: one opens a tunnel past every decision,
/// the other shows a client what the gateway added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// The names a rule may list, for messages.
    pub(crate) const NAMES: &'static str = "GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS";

    /// Reads a method; case-sensitive (RFC 9110 section 9.1).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => return None,
        })
    }

    /// GET, and HEAD, which is GET without the body.
    pub(crate) const fn fetches(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}
