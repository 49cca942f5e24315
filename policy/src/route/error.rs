//! Why a set of routes cannot be used.

use super::method::Method;
use crate::RouteName;
use crate::login::LoginProblem;
use crate::session::SessionProblem;

/// A route that cannot be used: its name, the field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route `{route}`, `{field}`: {problem}")]
pub struct RouteError {
    /// The route.
    pub route: RouteName,
    /// The key within the route, such as `path` or `rules[2].methods`, counted from 0.
    pub field: String,
    /// What is wrong.
    pub problem: RouteProblem,
}

/// What is wrong with a field of a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteProblem {
    /// Another route has the name.
    #[error("the name is taken by another route")]
    DuplicateName,
    /// Another route has the prefix.
    #[error("`{path}` is already the prefix of route `{other}` at the same host and listener")]
    DuplicatePrefix {
        /// The prefix.
        path: String,
        /// The route that has it.
        other: RouteName,
    },
    /// It names no host or no listener, and so nobody reaches it.
    #[error("the list is empty, so that nobody reaches the route; leave it out where it is for all")]
    Nowhere,
    /// The prefix is not a path in normal form, has a query, or ends in `/`.
    #[error("`{0}` is not a path in normal form, without query and trailing `/`")]
    PrefixNotNormal(String),
    /// The pattern is not a path in normal form once its wildcards are taken out.
    #[error(
        "`{0}` is not a pattern: a path of segments, each a literal in normal form, `*`, `{{patient}}` or, last, `**`"
    )]
    BadPattern(String),
    /// A rule without methods.
    #[error("at least one method is needed")]
    NoMethods,
    /// A method that no route takes.
    #[error("`{0}` is not a method that can be routed: {names}", names = Method::NAMES)]
    UnknownMethod(String),
    /// A rule calls a request harmless that by its method or action is not.
    #[error("`read-only` contradicts {0}")]
    ReadOnlyContradicted(String),
    /// A rule with an effect and without an action.
    #[error("an effect needs an `action` beside it")]
    EffectAlone,
    /// A rule that would change nothing.
    #[error("the rule gives neither `action` nor `class` nor where patients are named")]
    SaysNothing,
    /// An earlier rule of the route has the same path and method, so this one would never be used for it.
    #[error("rule {earlier} has the same path and method `{method}`")]
    Unreachable {
        /// The earlier rule, counted from 0.
        earlier: usize,
        /// The method.
        method: String,
    },
    /// A parameter without a name.
    #[error("a parameter's name cannot be empty")]
    EmptyParameter,
    /// A pointer that is none, or one too many.
    #[error(
        "`{0}` is not a JSON pointer: `/` before each name, `~0` and `~1` for `~` and `/` in it, `*` for any; at most {most}",
        most = crate::patients::scan::pointers::MAX_POINTERS
    )]
    BadPointer(String),
    /// A name that cannot be an operation's.
    #[error("`{0}` is not the name of an operation: letters, digits, `-`, `_` and `.`, without `$`")]
    BadOperation(String),
    /// Operations on a route that has none.
    #[error("only a route of kind `fhir` has operations")]
    OperationsElsewhere,
    /// A deadline that nothing meets, or that is none.
    #[error("a deadline has 1 to 86400000 milliseconds")]
    Deadline,
    /// An idle limit that nothing meets, or that is none.
    #[error("an idle limit has 1 to 86400000 milliseconds")]
    WebsocketIdle,
    /// What no browser writes into `Origin`.
    #[error(
        "`{0}` is not an origin: `https://` or `http://`, a host in lower case, and a port that is not the scheme's own"
    )]
    WebsocketOrigin(String),
    /// Where a request's body may hold a password, no other protocol begins.
    #[error("a route with `login` opens no WebSockets: give them a route of their own")]
    WebsocketAndLogin,
    /// Tokens of nobody.
    #[error("at least one issuer is needed")]
    NoIssuer,
    /// Two kinds of credentials in one header.
    #[error(
        "`Authorization` holds the login's password already (`login.account.basic`), and cannot hold a token as well"
    )]
    TokenAndBasic,
    /// What makes a request a login cannot be read from it.
    #[error(transparent)]
    Login(#[from] LoginProblem),
    /// What it says about sessions.
    #[error(transparent)]
    Session(SessionProblem),
}
