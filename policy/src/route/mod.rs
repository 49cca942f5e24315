//! Routes: from a method and a target to an action, its effect, the service and the class of information (R2, R4).
//!
//! Of the routes at a request's listener and for its host, those that name the host come first, then those with the longest prefix
//! of whole segments, then those that name the listener: no two that could take one request stand alike. Within the route the first rule whose methods and path match
//! decides, and else the route's kind. What neither knows is refused.

mod definition;
mod dicomweb;
mod error;
mod fhir;
mod method;
mod pattern;
mod place;
mod sessions;
mod table;
mod websocket;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

pub use definition::{
    OidcDefinition, PatientsDefinition, RouteDefinition, RouteKind, RuleDefinition, TokenDefinition,
    WebsocketDefinition,
};
pub use error::{RouteError, RouteProblem};
pub use fhir::READ_ONLY_OPERATIONS;
pub use place::{Place, Standing};
pub use table::RouteTable;
pub use websocket::Websocket;

use crate::login::Login;
use crate::patients::scan::BodyRules;
use crate::session::Observed;
use crate::{Action, Effect, InformationClass, Refusal, RouteName, ServiceName};
use method::Method;
use pattern::Pattern;

/// A route, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    name: RouteName,
    path: String,
    prefix: Box<[Box<str>]>,
    hosts: Option<Box<[Box<str>]>>,
    listeners: Option<Box<[Box<str>]>>,
    service: ServiceName,
    class: InformationClass,
    kind: RouteKind,
    rules: Vec<Rule>,
    read_only_operations: Vec<String>,
    max_body_bytes: u64,
    login: Option<Arc<Login>>,
    token: Option<Arc<TokenDefinition>>,
    oidc: Option<Arc<OidcDefinition>>,
    observed: Option<Arc<Observed>>,
    deadline: Option<Duration>,
    websocket: Option<Arc<Websocket>>,
}

/// A rule, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    methods: SmallVec<[Method; 4]>,
    pattern: Pattern,
    /// What replaces the kind's verdict.
    verdict: Option<(Action, Effect)>,
    class: Option<InformationClass>,
    patient_query: Vec<String>,
    /// What it says about bodies, if anything.
    bodies: Option<Arc<BodyRules>>,
}

/// What a request means, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// The route that takes it.
    pub route: &'a Route,
    /// The class of information that policies test: the rule's, or else the route's.
    pub class: &'a InformationClass,
    /// The action that policies decide on.
    pub action: Action,
    /// Whether its record may follow what the backend does (A1).
    pub effect: Effect,
    /// The FHIR operation, decoded, with its `$`: as policies name it.
    pub operation: Option<Cow<'a, str>>,
    /// The FHIR resource type that is read, searched or changed; the last one where a compartment is searched.
    pub resource_type: Option<Cow<'a, str>>,
    /// Patients that the path names, decoded.
    pub(crate) path_patients: SmallVec<[Cow<'a, str>; 1]>,
    /// Parameters that hold patients by the matching rule's word.
    pub(crate) patient_query: &'a [String],
    /// Where bodies hold patients by its word.
    pub(crate) body_rules: Option<&'a Arc<BodyRules>>,
    /// The study that the path names, decoded (DICOMweb).
    pub(crate) study: Option<Cow<'a, str>>,
}

/// A request's meaning by its route's kind; positions are those of segments below the prefix.
#[derive(Debug, Clone, Copy)]
struct Meaning {
    action: Action,
    effect: Effect,
    type_at: Option<usize>,
    operation_at: Option<usize>,
    patient_at: Option<usize>,
    study_at: Option<usize>,
}

impl Meaning {
    const fn new(action: Action, effect: Effect) -> Self {
        Self { action, effect, type_at: None, operation_at: None, patient_at: None, study_at: None }
    }
}

impl Route {
    /// The name in records and metrics.
    #[must_use]
    pub const fn name(&self) -> &RouteName {
        &self.name
    }

    /// The prefix, as configured.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The service that answers.
    #[must_use]
    pub const fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The class of information where no rule says otherwise.
    #[must_use]
    pub const fn class(&self) -> &InformationClass {
        &self.class
    }

    /// Every class that a request of this route can have: its own, then those of its rules.
    pub fn classes(&self) -> impl Iterator<Item = &InformationClass> {
        std::iter::once(&self.class).chain(self.rules.iter().filter_map(|rule| rule.class.as_ref()))
    }

    /// What the service speaks.
    #[must_use]
    pub const fn kind(&self) -> RouteKind {
        self.kind
    }

    /// Bytes of a body that are read for patients, request and answer each.
    #[must_use]
    pub const fn max_body_bytes(&self) -> u64 {
        self.max_body_bytes
    }

    /// How the login guard reads its requests, where they are logins.
    #[must_use]
    pub const fn login(&self) -> Option<&Arc<Login>> {
        self.login.as_ref()
    }

    /// Whose tokens its requests carry, where they do.
    #[must_use]
    pub const fn token(&self) -> Option<&Arc<TokenDefinition>> {
        self.token.as_ref()
    }

    /// Where its users log in at an identity provider, if they do.
    #[must_use]
    pub const fn oidc(&self) -> Option<&Arc<OidcDefinition>> {
        self.oidc.as_ref()
    }

    /// Where its requests carry a session's secret, if the gateway is to look.
    #[must_use]
    pub const fn observed(&self) -> Option<&Arc<Observed>> {
        self.observed.as_ref()
    }

    /// How long a backend may take to begin its answer, if the route says so.
    #[must_use]
    pub const fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// What holds for WebSockets, where its requests may open them.
    #[must_use]
    pub const fn websocket(&self) -> Option<&Arc<Websocket>> {
        self.websocket.as_ref()
    }

    fn takes(&self, segments: &[Cow<'_, str>]) -> bool {
        segments.len() >= self.prefix.len() && self.prefix.iter().zip(segments).all(|(ours, theirs)| **ours == **theirs)
    }

    fn rule(&self, method: Method, segments: &[Cow<'_, str>]) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.methods.contains(&method) && rule.pattern.matches(segments))
    }

    /// What a request for `segments`, which begin after the prefix, means.
    fn resolve<'a>(&'a self, method: Method, segments: &[Cow<'a, str>]) -> Result<Resolved<'a>, Refusal> {
        let rule = self.rule(method, segments);
        let built_in = match self.kind {
            RouteKind::Fhir => {
                fhir::meaning(method, segments, |name| self.read_only_operations.iter().any(|n| n == name))
            }
            RouteKind::Dicomweb => dicomweb::meaning(method, segments),
            RouteKind::Generic => Ok(generic(method)),
        };
        let verdict = rule.and_then(|rule| Some((rule, rule.verdict?)));
        // A rule replaces the verdict of the kind, but not what the kind knows about the request.
        let meaning = match (verdict, built_in) {
            (Some((rule, (action, effect))), Ok(known)) => {
                let unnamed_operation = known.operation_at.is_some_and(|at| !rule.pattern.is_literal_at(at));
                if unnamed_operation { known } else { Meaning { action, effect, ..known } }
            }
            (Some((_, (action, effect))), Err(_)) => Meaning::new(action, effect),
            (None, built_in) => built_in?,
        };
        Ok(self.resolved(rule, meaning, segments))
    }

    /// What opening a WebSocket there means: whatever a GET does, this may change something, and is a right of its own.
    fn resolve_websocket<'a>(&'a self, segments: &[Cow<'a, str>]) -> Resolved<'a> {
        let meaning = Meaning::new(Action::Connect, Effect::Changing);
        self.resolved(self.rule(Method::Get, segments), meaning, segments)
    }

    fn resolved<'a>(&'a self, rule: Option<&'a Rule>, meaning: Meaning, segments: &[Cow<'a, str>]) -> Resolved<'a> {
        let at = |position: usize| segments.get(position).cloned();
        let rule_positions = rule.into_iter().flat_map(|rule| rule.pattern.patient_positions());
        let mut path_patients: SmallVec<[Cow<'a, str>; 1]> = meaning.patient_at.and_then(at).into_iter().collect();
        path_patients.extend(rule_positions.filter(|position| Some(*position) != meaning.patient_at).filter_map(at));
        Resolved {
            route: self,
            class: rule.and_then(|rule| rule.class.as_ref()).unwrap_or(&self.class),
            action: meaning.action,
            effect: meaning.effect,
            operation: meaning.operation_at.and_then(at),
            resource_type: meaning.type_at.and_then(at),
            path_patients,
            body_rules: rule.and_then(|rule| rule.bodies.as_ref()),
            study: meaning.study_at.and_then(at),
            patient_query: rule.map(|rule| rule.patient_query.as_slice()).unwrap_or_default(),
        }
    }
}

/// What a method means where nothing is known of the service. Even a GET may change something there, as legacy
/// applications' `GET /delete?id=1` does, so that only a rule makes a request read-only.
const fn generic(method: Method) -> Meaning {
    let action = match method {
        Method::Get | Method::Head | Method::Options => Action::Read,
        Method::Post => Action::Create,
        Method::Put | Method::Patch => Action::Update,
        Method::Delete => Action::Delete,
    };
    Meaning::new(action, Effect::Changing)
}
