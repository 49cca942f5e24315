//! What the configuration says about the sessions of a backend.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::login::definition::{name, pointer};
use crate::login::{AccountName, InvalidAccount, LoginProblem, Spelling};
use crate::{RouteName, UserName};

/// Most names of cookies that one login may give a session in.
const MAX_COOKIES: usize = 4;
/// Most accounts that are mapped by name.
const MAX_USERS: usize = 10_000;

/// `login.session` of a route: what the backend's session looks like. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginSessionDefinition {
    /// Names of cookies, any of which holds the session's secret.
    pub cookies: Vec<String>,
    /// A JSON pointer (RFC 6901) to a token in the login's answer, which comes back as `Authorization: Bearer`.
    pub token_pointer: Option<String>,
    /// Which user of the site an account is, where it is not the user of its own name.
    pub users: BTreeMap<String, UserName>,
    /// What becomes of a secret that this gateway did not see the backend give to the device.
    pub unknown: Unknown,
}

/// What becomes of a secret that this gateway did not see the backend give to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// The backend does not see it: the safe side. Whoever holds it logs in.
    #[default]
    Remove,
    /// The backend sees it, the gateway and its policies see a device without a user.
    Forward,
}

/// `session` of a route. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteSessionDefinition {
    /// Whose sessions count here, by the realm of their login; those of the service's own login unless set.
    pub realm: Option<String>,
    /// Whether a request without a session is refused.
    pub require: bool,
    /// Methods of requests that log out.
    pub ends: Vec<String>,
}

/// What is wrong with what a route says about sessions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionProblem {
    /// Neither cookie nor token.
    #[error("`cookies` or `token_pointer` is needed")]
    NoPlace,
    /// Too many names.
    #[error("at most {MAX_COOKIES} names of cookies")]
    TooManyCookies,
    /// Too many users.
    #[error("at most {MAX_USERS} accounts; give the users of the registry the accounts' names instead")]
    TooManyUsers,
    /// A name or a pointer that is none.
    #[error(transparent)]
    Bad(#[from] LoginProblem),
    /// An account that is none.
    #[error("`{account}`: {problem}")]
    BadAccount {
        /// As written.
        account: String,
        /// Why.
        problem: InvalidAccount,
    },
    /// A second spelling of an account.
    #[error("`{0}` is an account that stands there in another spelling")]
    TwiceMapped(String),
    /// A realm without sessions.
    #[error("no login of realm `{0}` says what its sessions look like")]
    UnknownRealm(String),
    /// A route that knows no sessions.
    #[error("no login of this service says what its sessions look like (`login.session`)")]
    NoSessions,
    /// Two logins of one service.
    #[error("`{0}` has another realm, and both are logins of this service: name one as `session.realm`")]
    TwoRealms(RouteName),
    /// A method that is none.
    #[error("`{0}` is not a method: capital letters")]
    BadMethod(String),
    /// A login that wants a session.
    #[error("whoever logs in has no session")]
    LoginRequires,
}

/// How an answer to a login gives a session away, and to whom: `login.session`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tie {
    /// Names of cookies.
    pub cookies: Arc<[Box<str>]>,
    /// Where the token stands, as names of members.
    pub token: Option<Vec<String>>,
    users: BTreeMap<String, UserName>,
    pub(crate) unknown: Unknown,
}

impl Tie {
    /// Checks what single values cannot show.
    ///
    /// # Errors
    /// The key below `session`, and what is wrong with it.
    pub(crate) fn new(
        definition: &LoginSessionDefinition,
        spelling: Spelling,
    ) -> Result<Self, (&'static str, SessionProblem)> {
        let LoginSessionDefinition { cookies, token_pointer, users, unknown } = definition;
        if cookies.is_empty() && token_pointer.is_none() {
            return Err(("", SessionProblem::NoPlace));
        }
        if cookies.len() > MAX_COOKIES {
            return Err(("cookies", SessionProblem::TooManyCookies));
        }
        for cookie in cookies {
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
            name(cookie).map_err(|problem| ("cookies", problem.into()))?;
            if !cookie.bytes().all(is_token) {
                return Err(("cookies", LoginProblem::BadName(cookie.escape_debug().to_string()).into()));
            }
        }
        let token = token_pointer.as_deref().map(pointer).transpose();
        let token = token.map_err(|problem| ("token_pointer", problem.into()))?;
        if users.len() > MAX_USERS {
            return Err(("users", SessionProblem::TooManyUsers));
        }
        let mut mapped = BTreeMap::new();
        for (account, user) in users {
            let shown = || account.escape_debug().to_string();
            let spelt = AccountName::new(account, spelling)
                .map_err(|problem| ("users", SessionProblem::BadAccount { account: shown(), problem }))?;
            if mapped.insert(spelt.as_str().to_owned(), user.clone()).is_some() {
                return Err(("users", SessionProblem::TwiceMapped(shown())));
            }
        }
        let cookies = cookies.iter().map(|cookie| cookie.as_str().into()).collect();
        Ok(Self { cookies, token, users: mapped, unknown: *unknown })
    }

    /// Which user of the site an account is, if it can be one: whom the mapping says, or whoever has its name.
    #[must_use]
    pub fn user(&self, account: &AccountName) -> Option<UserName> {
        self.users.get(account.as_str()).cloned().or_else(|| UserName::new(account.as_str()).ok())
    }

    /// Whether the mapping says which user it is, so that one who is not registered is a mistake.
    #[must_use]
    pub fn maps(&self, account: &AccountName) -> bool {
        self.users.contains_key(account.as_str())
    }
}

/// Where the requests of a route carry a session's secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The realm whose sessions count.
    pub realm: Arc<str>,
    /// Names of cookies.
    pub cookies: Arc<[Box<str>]>,
    /// Names of cookies by which the service knows sessions of other realms, which do not count here and do not reach it.
    pub foreign: Arc<[Box<str>]>,
    /// It comes as `Authorization: Bearer`.
    pub bearer: bool,
    /// What becomes of a secret that is not known.
    pub unknown: Unknown,
    /// A request without a session is refused.
    pub require: bool,
    /// Methods that log out.
    pub ends: Vec<String>,
}

/// Checks the methods that log out.
pub(crate) fn methods(names: &[String]) -> Result<(), SessionProblem> {
    let is_method = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase());
    match names.iter().find(|name| !is_method(name)) {
        Some(bad) => Err(SessionProblem::BadMethod(bad.escape_debug().to_string())),
        None => Ok(()),
    }
}
