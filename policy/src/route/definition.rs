//! What the configuration says about a route, as written.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

use crate::login::LoginDefinition;
use crate::patients::DEFAULT_BODY_BYTES;
use crate::session::RouteSessionDefinition;
use crate::{Action, Effect, InformationClass, RouteName, ServiceName};

/// One `[[route]]` of the configuration. Unknown keys are refused. [`RouteTable::new`](super::RouteTable::new)
/// checks what single values cannot show.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteDefinition {
    /// The name in records and metrics; unique.
    pub name: RouteName,
    /// The prefix, matched by whole segments; written as in a request and in its normal form, without a trailing
    /// `/` (`/` alone takes what no other route does). Unique among the routes for the same hosts and listeners. Never stripped.
    pub path: String,
    /// The hosts, lower case, that it is for; every one unless set. A route that names the host goes before those that do not, whatever
    /// their prefix.
    #[serde(default)]
    pub hosts: Option<Vec<String>>,
    /// The listeners, by name, that it is at; every one unless set. Of two routes with one prefix, the one that names the listener goes
    /// first.
    #[serde(default)]
    pub listeners: Option<Vec<String>>,
    /// The service that answers.
    pub service: ServiceName,
    /// The class of information (R4) of everything below the prefix, where no rule says otherwise.
    pub class: InformationClass,
    /// What the service speaks.
    pub kind: RouteKind,
    /// Exceptions to what the kind says, first match first.
    #[serde(default)]
    pub rules: Vec<RuleDefinition>,
    /// FHIR operations, without `$`, that a GET may call without changing anything; see
    /// [`READ_ONLY_OPERATIONS`](super::READ_ONLY_OPERATIONS) for the default. Only for kind `fhir`.
    pub read_only_operations: Option<Vec<String>>,
    /// How patients are found in bodies (R5).
    #[serde(default)]
    pub patients: PatientsDefinition,
    /// Where its requests are logins: how the login guard reads them (R8).
    pub login: Option<LoginDefinition>,
    /// Whose tokens its requests carry, where they do (R1).
    pub token: Option<TokenDefinition>,
    /// Where its users log in at an identity provider, by a browser (R1).
    pub oidc: Option<OidcDefinition>,
    /// How long a backend may take to begin its answer, request and retries included, in milliseconds (R19); no other bound
    /// than the service's and the listener's unless set. At most a day.
    pub deadline_ms: Option<u64>,
    /// What sessions mean here, where their login does not say it all.
    pub session: Option<RouteSessionDefinition>,
    /// Its requests may open WebSockets (RFC 6455, RFC 8441); none may unless this is there.
    pub websocket: Option<WebsocketDefinition>,
}

/// `websocket` of a `[[route]]`: what opens a WebSocket is judged as the action `connect`, of the class that a rule for GET
/// gives. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebsocketDefinition {
    /// For how long nothing may pass, either way, in milliseconds; at most a day.
    pub idle_timeout_ms: u64,
    /// Origins, beside the gateway's own, whose pages may open one (RFC 6454), such as `https://portal.example`.
    pub origins: Vec<String>,
}

impl Default for WebsocketDefinition {
    fn default() -> Self {
        Self { idle_timeout_ms: 300_000, origins: Vec::new() }
    }
}

/// `token` of a `[[route]]`: tokens of identity providers in `Authorization: Bearer`. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenDefinition {
    /// Names of the issuers whose tokens are taken; at least one.
    pub issuers: Vec<String>,
    /// Whether a request without a token is refused; otherwise it is asked by the device, as without this table.
    #[serde(default = "yes")]
    pub required: bool,
    /// Whether the backend gets the token. What it needs to know is in `Sekisho-Identity`.
    #[serde(default)]
    pub forward: bool,
}

/// `oidc` of a `[[route]]`: its requests are part of a session that began at an identity provider. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcDefinition {
    /// The name of the provider. A browser without a session is sent there; whoever else has none is refused.
    pub provider: String,
}

const fn yes() -> bool {
    true
}

/// How a route's bodies are read for the patients they name (R5). Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatientsDefinition {
    /// Bytes of a body that are read, request and answer each; what is beyond is recorded as unknown. 0 reads none.
    pub max_body_bytes: u64,
}

impl Default for PatientsDefinition {
    fn default() -> Self {
        Self { max_body_bytes: DEFAULT_BODY_BYTES }
    }
}

/// What a route's service speaks, which says how a method and a path become an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// The RESTful interface of HL7 FHIR (R4 and later); the prefix is the service base.
    Fhir,
    /// DICOMweb (DICOM PS3.18); the prefix is the service's base.
    Dicomweb,
    /// Anything else over HTTP. Every request counts as changing unless a rule says otherwise.
    Generic,
}

impl RouteKind {
    /// The name in configuration and records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fhir => "fhir",
            Self::Dicomweb => "dicomweb",
            Self::Generic => "generic",
        }
    }
}

/// One rule of a route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleDefinition {
    /// The methods it is for; at least one. GET stands for HEAD too.
    pub methods: Vec<String>,
    /// The path below the route's prefix, from its `/`: literal segments as in a request, `*` for any one segment,
    /// `**` at the end for any number of them, none included, and `{patient}` for one segment that is a patient's
    /// identifier.
    pub path: String,
    /// The action that policies decide on, where it is not what the route's kind says. An operation of FHIR keeps the
    /// action and effect that its kind gives it unless the rule names it by a literal segment: no wildcard makes a
    /// `$` harmless.
    #[serde(default, deserialize_with = "action")]
    pub action: Option<Action>,
    /// `read-only` or `changing`, which it is where an action is given without it. Needs an action. Read-only is
    /// refused where the methods or the action say otherwise.
    #[serde(default, deserialize_with = "effect")]
    pub effect: Option<Effect>,
    /// The class of information, where it is not the route's. It follows the path alone: a FHIR batch, a search across
    /// types or an `_include` reaches resources that another path has a class for.
    pub class: Option<InformationClass>,
    /// Names of query parameters whose values are patients' identifiers (R5).
    #[serde(default)]
    pub patient_query: Vec<String>,
    /// Names of fields of form bodies (`application/x-www-form-urlencoded`) whose values are patients' identifiers.
    #[serde(default)]
    pub patient_form: Vec<String>,
    /// JSON pointers (RFC 6901) to patients' identifiers in JSON bodies of requests; `*` is any element or member.
    #[serde(default)]
    pub patient_request_json: Vec<String>,
    /// The same in JSON bodies of answers.
    #[serde(default)]
    pub patient_answer_json: Vec<String>,
}

fn action<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Action>, D::Error> {
    Cow::<'de, str>::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

fn effect<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Effect>, D::Error> {
    match &*Cow::<'de, str>::deserialize(deserializer)? {
        "read-only" => Ok(Some(Effect::ReadOnly)),
        "changing" => Ok(Some(Effect::Changing)),
        other => {
            let text = other.escape_debug();
            Err(serde::de::Error::custom(format_args!("`{text}` is not an effect: read-only or changing")))
        }
    }
}
