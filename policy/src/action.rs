//! What a request wants to do.

use std::fmt;
use std::str::FromStr;

/// The action that a policy decides on (R2: create, append and change are separate rights).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Open a connection or a stream that carries no requests of its own, such as a WebSocket. For the
    /// connections of HTTP listeners nobody asks for it: there the registry admits the connection, and every request is judged.
    /// A route's rule may name it.
    Connect,
    /// Fetch something that is named.
    Read,
    /// Find things by their properties.
    Search,
    /// Add something new.
    Create,
    /// Change what is there.
    Update,
    /// Remove what is there.
    Delete,
    /// Call a named operation, such as FHIR's `$everything`.
    Operate,
    /// Present credentials to a service. No kind of route yields it: a rule of a route names it for the paths of a
    /// service's own login.
    Login,
}

impl Action {
    /// Every action, in the order of the guideline's reading.
    pub const ALL: [Self; 8] =
        [Self::Connect, Self::Read, Self::Search, Self::Create, Self::Update, Self::Delete, Self::Operate, Self::Login];

    /// The name in policies, records and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Read => "read",
            Self::Search => "search",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Operate => "operate",
            Self::Login => "login",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Why a text is not an action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an action: connect, read, search, create, update, delete, operate or login")]
pub struct UnknownAction(pub String);

impl FromStr for Action {
    type Err = UnknownAction;
    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::ALL
            .into_iter()
            .find(|action| action.label() == text)
            .ok_or_else(|| UnknownAction(text.escape_debug().to_string()))
    }
}

/// Whether a request can change anything at the backend. It decides which record must be durable first (A1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The route declares the request a read or a search: its record precedes the answer.
    ReadOnly,
    /// Anything else: its intent precedes the first byte to the backend.
    Changing,
}
