//! What the configuration says about a route whose requests are logins.

use std::sync::Arc;

use serde::Deserialize;

use super::Spelling;
use super::answer::Signs;
use crate::ServiceName;
use crate::session::{LoginSessionDefinition, SessionProblem, Tie};

/// Bytes of a login request's body that are read, unless the route says otherwise. More is refused.
const DEFAULT_BODY_BYTES: u64 = 16 * 1024;
/// Bytes of the answer's body that are read for a JSON pointer, unless the route says otherwise.
const DEFAULT_ANSWER_BYTES: u64 = 64 * 1024;
/// Most of either.
const MOST_BYTES: u64 = 1024 * 1024;
/// Longest name of a field, a header, a cookie or a realm.
const MAX_NAME: usize = 128;

/// `login` of a `[[route]]`. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginDefinition {
    /// Where a request names its account.
    pub account: AccountDefinition,
    /// What the answer to a right password looks like: all of what is named must fit.
    pub success: SignsDefinition,
    /// What the answer to a wrong one looks like. An answer that fits neither, or both, counts as a failure and is recorded as
    /// unclear; without this, whatever is no success is a plain failure.
    pub failure: Option<SignsDefinition>,
    /// Which user directory the accounts are of; the service's name unless set. Routes with one directory behind them need
    /// one realm, so that an account has one count.
    pub realm: Option<String>,
    /// Whether spellings that differ in case are one account.
    #[serde(default)]
    pub case: Sameness,
    /// Whether those that differ in accents and voicing marks are.
    #[serde(default)]
    pub marks: Sameness,
    /// Whether those that differ in a `+tag` are.
    #[serde(default)]
    pub tags: Sameness,
    /// Bytes of the request's body that are taken.
    #[serde(default = "default_body_bytes")]
    pub max_body_bytes: u64,
    /// Bytes of the answer's body that are read for a JSON pointer.
    #[serde(default = "default_answer_bytes")]
    pub max_answer_bytes: u64,
    /// Whether a JSON body may hold lists. A list can hold many passwords, of which a backend may try each.
    #[serde(default)]
    pub lists: bool,
    /// What the session looks like that the backend begins, if the gateway is to know it.
    pub session: Option<LoginSessionDefinition>,
}

const fn default_body_bytes() -> u64 {
    DEFAULT_BODY_BYTES
}

const fn default_answer_bytes() -> u64 {
    DEFAULT_ANSWER_BYTES
}

/// Whether two spellings are one account to the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sameness {
    /// They are: the safe side.
    #[default]
    Ignore,
    /// They are not.
    Distinct,
}

/// Where a request names its account: exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountDefinition {
    /// A JSON pointer (RFC 6901) into a JSON body.
    Json(String),
    /// A field of a form (`application/x-www-form-urlencoded`).
    Form(String),
    /// `Authorization: Basic` (RFC 7617); must be `true`.
    Basic(bool),
    /// A parameter of the query.
    Query(String),
}

/// Signs of an answer. At least one; all that are given must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignsDefinition {
    /// The status is one of these.
    pub status: Vec<u16>,
    /// A header is there, with this value if one is given.
    pub header: Option<HeaderSign>,
    /// A JSON pointer finds something in the body: this value if one is given, and else anything but null and false.
    pub json: Option<JsonSign>,
    /// The path of `Location`.
    pub redirect: Option<String>,
    /// A cookie of this name is set.
    pub cookie: Option<String>,
}

/// A header in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderSign {
    /// Its name.
    pub name: String,
    /// Its whole value, without regard to ASCII case.
    pub value: Option<String>,
}

/// A place in a JSON body.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonSign {
    /// The pointer (RFC 6901).
    pub pointer: String,
    /// What stands there.
    pub value: Option<JsonScalar>,
}

/// A value in a JSON body.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum JsonScalar {
    /// `true` or `false`.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A string.
    Text(String),
}

/// What is wrong with `login` of a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginProblem {
    /// A pointer that is none.
    #[error("`{0}` is not a JSON pointer: `/` before each name, `~0` and `~1` for `~` and `/` in it")]
    BadPointer(String),
    /// A name that is none.
    #[error("`{0}` is not a name: 1 to {MAX_NAME} visible ASCII characters")]
    BadName(String),
    /// `basic = false`.
    #[error("`basic` can only be `true`; name another place of the account instead")]
    BasicFalse,
    /// No sign.
    #[error("at least one of `status`, `header`, `json`, `redirect` and `cookie` is needed")]
    NoSign,
    /// A number that is no status of an answer.
    #[error("{0} is not the status of an answer: 200 to 599")]
    BadStatus(u16),
    /// No path.
    #[error("`{0}` is not the path of a redirect: it begins with `/` and has no query")]
    BadRedirect(String),
    /// A bound that is none.
    #[error("{0} is not a number of bytes from 64 to {MOST_BYTES}")]
    BadBytes(u64),
    /// Lists where no JSON body is.
    #[error("only a JSON body has lists")]
    ListsElsewhere,
    /// What its session looks like.
    #[error(transparent)]
    Session(Box<SessionProblem>),
}

/// Where a request names its account, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountPlace {
    /// Names of members, from the outermost.
    Json(Vec<String>),
    /// A field.
    Form(String),
    /// `Authorization: Basic`.
    Basic,
    /// A parameter.
    Query(String),
}

/// `login` of a route, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Which user directory the accounts are of.
    pub realm: Arc<str>,
    /// Where the account is.
    pub place: AccountPlace,
    /// Which spellings are one account.
    pub spelling: Spelling,
    /// Bytes of the request's body that are taken.
    pub max_body_bytes: usize,
    /// Bytes of the answer's body that are read.
    pub max_answer_bytes: usize,
    /// Whether a JSON body may hold lists.
    pub lists: bool,
    /// Signs of a right password.
    pub success: Signs,
    /// Signs of a wrong one.
    pub failure: Option<Signs>,
    /// How a success gives a session away.
    pub session: Option<Arc<Tie>>,
}

impl Login {
    /// Checks what single values cannot show.
    ///
    /// # Errors
    /// The key below `login`, and what is wrong with it.
    pub fn new(definition: &LoginDefinition, service: &ServiceName) -> Result<Self, (String, LoginProblem)> {
        let at = |key: &str| {
            let key = key.to_owned();
            move |problem| (key, problem)
        };
        let place = match &definition.account {
            AccountDefinition::Json(text) => {
                let names = pointer(text).map_err(at("account.json"))?;
                if names.is_empty() {
                    return Err(at("account.json")(LoginProblem::BadPointer(shown(text))));
                }
                AccountPlace::Json(names)
            }
            AccountDefinition::Form(text) => AccountPlace::Form(field(text).map_err(at("account.form"))?),
            AccountDefinition::Query(text) => AccountPlace::Query(field(text).map_err(at("account.query"))?),
            AccountDefinition::Basic(true) => AccountPlace::Basic,
            AccountDefinition::Basic(false) => return Err(at("account.basic")(LoginProblem::BasicFalse)),
        };
        if definition.lists && !matches!(place, AccountPlace::Json(_)) {
            return Err(at("lists")(LoginProblem::ListsElsewhere));
        }
        let realm = match &definition.realm {
            None => service.as_str().into(),
            Some(realm) => name(realm).map_err(at("realm"))?.into(),
        };
        let signs = |key: &str, signs| Signs::new(signs).map_err(|(below, problem)| (join(key, below), problem));
        let spelling = Spelling {
            folds_case: definition.case == Sameness::Ignore,
            ignores_marks: definition.marks == Sameness::Ignore,
            ignores_tags: definition.tags == Sameness::Ignore,
        };
        let session = match &definition.session {
            None => None,
            Some(session) => Some(Arc::new(
                Tie::new(session, spelling)
                    .map_err(|(below, problem)| (join("session", below), LoginProblem::Session(Box::new(problem))))?,
            )),
        };
        Ok(Self {
            realm,
            place,
            spelling,
            session,
            max_body_bytes: bytes(definition.max_body_bytes).map_err(at("max_body_bytes"))?,
            max_answer_bytes: bytes(definition.max_answer_bytes).map_err(at("max_answer_bytes"))?,
            lists: definition.lists,
            success: signs("success", &definition.success)?,
            failure: definition.failure.as_ref().map(|failure| signs("failure", failure)).transpose()?,
        })
    }
}

fn join(key: &str, below: &str) -> String {
    if below.is_empty() { key.to_owned() } else { format!("{key}.{below}") }
}

fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}

fn bytes(number: u64) -> Result<usize, LoginProblem> {
    let good = (64..=MOST_BYTES).contains(&number);
    usize::try_from(number).ok().filter(|_| good).ok_or(LoginProblem::BadBytes(number))
}

/// A name of ASCII: a realm, a header, a cookie.
pub(crate) fn name(text: &str) -> Result<&str, LoginProblem> {
    let is_name = (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_name { Ok(text) } else { Err(LoginProblem::BadName(shown(text))) }
}

fn field(text: &str) -> Result<String, LoginProblem> {
    name(text).map(str::to_owned)
}

/// The names in a JSON pointer; none for the whole document.
pub(crate) fn pointer(text: &str) -> Result<Vec<String>, LoginProblem> {
    let bad = || LoginProblem::BadPointer(shown(text));
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let names = text.strip_prefix('/').ok_or_else(bad)?.split('/').map(|name| {
        let rest = name.replace("~0", "").replace("~1", "");
        (!rest.contains('~')).then(|| name.replace("~1", "/").replace("~0", "~"))
    });
    names.collect::<Option<_>>().ok_or_else(bad)
}
