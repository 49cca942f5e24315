//! The table of all routes: checked once, asked for every request.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::definition::{RouteDefinition, RouteKind, RuleDefinition};
use super::error::{RouteError, RouteProblem};
use super::fhir::READ_ONLY_OPERATIONS;
use super::method::Method;
use super::pattern::{Pattern, literal_segments};
use super::{Place, Resolved, Route, Rule, Websocket};
use crate::login::{AccountPlace, Login};
use crate::patients::scan::BodyRules;
use crate::patients::scan::pointers::{MAX_POINTERS, Pointer};
use crate::target::CanonicalTarget;
use crate::{Action, Effect, Refusal};

/// The longest deadline of a route: a day, as the longest exchange.
pub(super) const MAX_DEADLINE_MS: u64 = 86_400_000;

/// Every route, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteTable {
    // INVARIANT: ordered by falling rank, names unique, no two collide: of those that could take a request no two have one rank.
    routes: Vec<Route>,
}

impl RouteTable {
    /// Checks the routes against themselves and each other.
    ///
    /// An empty set is a table that takes nothing.
    ///
    /// # Errors
    /// [`RouteError`] for the first field that is wrong; see [`RouteProblem`] for what can be.
    pub fn new(definitions: Vec<RouteDefinition>) -> Result<Self, RouteError> {
        let mut routes: Vec<Route> = Vec::with_capacity(definitions.len());
        let mut said = Vec::new();
        for definition in definitions {
            let error = |field: &str, problem| {
                let route = definition.name.clone();
                Err(RouteError { route, field: field.to_owned(), problem })
            };
            if routes.iter().any(|other| other.name == definition.name) {
                return error("name", RouteProblem::DuplicateName);
            }
            let Some(prefix) = literal_segments(&definition.path) else {
                return error("path", RouteProblem::PrefixNotNormal(definition.path.escape_debug().to_string()));
            };
            for (field, names) in [("hosts", &definition.hosts), ("listeners", &definition.listeners)] {
                if names.as_ref().is_some_and(Vec::is_empty) {
                    return error(field, RouteProblem::Nowhere);
                }
            }
            let rules = match rules(&definition.rules) {
                Ok(rules) => rules,
                Err((field, problem)) => return error(&field, problem),
            };
            let read_only_operations = match operations(&definition) {
                Ok(operations) => operations,
                Err(problem) => return error("read_only_operations", problem),
            };
            let login = match &definition.login {
                None => None,
                Some(login) => match Login::new(login, &definition.service) {
                    Ok(login) => Some(Arc::new(login)),
                    Err((key, problem)) => return error(&format!("login.{key}"), problem.into()),
                },
            };
            if let Some(token) = &definition.token {
                if token.issuers.is_empty() {
                    return error("token.issuers", RouteProblem::NoIssuer);
                }
                if login.as_ref().is_some_and(|login| login.place == AccountPlace::Basic) {
                    return error("token", RouteProblem::TokenAndBasic);
                }
            }
            if definition.deadline_ms.is_some_and(|ms| ms == 0 || ms > MAX_DEADLINE_MS) {
                return error("deadline_ms", RouteProblem::Deadline);
            }
            let deadline = definition.deadline_ms.map(Duration::from_millis);
            let websocket = match &definition.websocket {
                Some(_) if login.is_some() => return error("websocket", RouteProblem::WebsocketAndLogin),
                Some(websocket) => match Websocket::new(websocket) {
                    Ok(websocket) => Some(Arc::new(websocket)),
                    Err((key, problem)) => return error(&format!("websocket.{key}"), problem),
                },
                None => None,
            };
            let token = definition.token.clone().map(Arc::new);
            let oidc = definition.oidc.clone().map(Arc::new);
            let RouteDefinition { name, path, hosts, listeners, service, class, kind, patients, session, .. } =
                definition;
            let boxed = |names: Vec<String>| names.into_iter().map(String::into_boxed_str).collect();
            said.push(session);
            let max_body_bytes = patients.max_body_bytes;
            let route = Route {
                name,
                path,
                prefix,
                hosts: hosts.map(boxed),
                listeners: listeners.map(boxed),
                service,
                class,
                kind,
                rules,
                read_only_operations,
                max_body_bytes,
                login,
                token,
                oidc,
                observed: None,
                deadline,
                websocket,
            };
            if let Some(other) = routes.iter().find(|other| other.collides(&route)) {
                let problem = RouteProblem::DuplicatePrefix { path: route.path, other: other.name.clone() };
                return Err(RouteError { route: route.name, field: "path".to_owned(), problem });
            }
            routes.push(route);
        }
        super::sessions::observe(&mut routes, &said)?;
        routes.sort_by_key(|route| std::cmp::Reverse(route.rank()));
        Ok(Self { routes })
    }

    /// The routes, in the order in which they are asked.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = &Route> {
        self.routes.iter()
    }

    /// Says what a request means and where it goes. Methods are case-sensitive (RFC 9110 section 9.1).
    ///
    /// # Errors
    /// - [`Refusal::MethodNotAllowed`]: CONNECT, TRACE, an unknown method, or one that the resource has no use for.
    /// - [`Refusal::RouteUnknown`]: no route at this place has a prefix of the target, or the route's kind knows no such path.
    pub fn resolve<'a>(
        &'a self,
        place: Place<'_>,
        method: &str,
        target: &CanonicalTarget<'a>,
    ) -> Result<Resolved<'a>, Refusal> {
        let method = Method::parse(method).ok_or(Refusal::MethodNotAllowed)?;
        let segments: Segments<'a> = target.segments().collect();
        let (route, below) = self.find(place, &segments)?;
        route.resolve(method, below)
    }

    /// The same for a request that opens a WebSocket, on whatever route: [`Route::websocket`] says whether it may. The action
    /// is [`Action::Connect`].
    ///
    /// # Errors
    /// [`Refusal::RouteUnknown`]: no route at this place has a prefix of the target.
    pub fn resolve_websocket<'a>(
        &'a self,
        place: Place<'_>,
        target: &CanonicalTarget<'a>,
    ) -> Result<Resolved<'a>, Refusal> {
        let segments: Segments<'a> = target.segments().collect();
        let (route, below) = self.find(place, &segments)?;
        Ok(route.resolve_websocket(below))
    }

    /// The route that takes a target at a place, and the segments below its prefix.
    fn find<'s, 'a>(
        &'a self,
        place: Place<'_>,
        segments: &'s [Cow<'a, str>],
    ) -> Result<(&'a Route, &'s [Cow<'a, str>]), Refusal> {
        let takes = |route: &&Route| route.takes(segments) && route.is_at(place);
        let route = self.routes.iter().find(takes).ok_or(Refusal::RouteUnknown)?;
        Ok((route, segments.get(route.prefix.len()..).unwrap_or_default()))
    }
}

/// The longest path of DICOMweb has eight segments below its prefix.
type Segments<'a> = SmallVec<[Cow<'a, str>; 12]>;

type Misfit = (String, RouteProblem);

fn rules(definitions: &[RuleDefinition]) -> Result<Vec<Rule>, Misfit> {
    let mut rules: Vec<Rule> = Vec::with_capacity(definitions.len());
    for (number, definition) in definitions.iter().enumerate() {
        let rule = rule(definition).map_err(|(field, problem)| (format!("rules[{number}].{field}"), problem))?;
        for (earlier, other) in rules.iter().enumerate().filter(|(_, other)| other.pattern == rule.pattern) {
            if let Some(method) =
                definition.methods.iter().find(|m| Method::parse(m).is_some_and(|m| other.methods.contains(&m)))
            {
                let problem = RouteProblem::Unreachable { earlier, method: method.clone() };
                return Err((format!("rules[{number}].methods"), problem));
            }
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn rule(definition: &RuleDefinition) -> Result<Rule, (&'static str, RouteProblem)> {
    if definition.methods.is_empty() {
        return Err(("methods", RouteProblem::NoMethods));
    }
    let mut methods = SmallVec::new();
    for name in &definition.methods {
        let Some(method) = Method::parse(name) else {
            return Err(("methods", RouteProblem::UnknownMethod(name.escape_debug().to_string())));
        };
        methods.push(method);
        if method == Method::Get && !definition.methods.iter().any(|name| name == "HEAD") {
            methods.push(Method::Head);
        }
    }
    let Some(pattern) = Pattern::parse(&definition.path) else {
        return Err(("path", RouteProblem::BadPattern(definition.path.escape_debug().to_string())));
    };
    let verdict = match (definition.action, definition.effect) {
        (None, None) => None,
        (None, Some(_)) => return Err(("effect", RouteProblem::EffectAlone)),
        (Some(action), effect) => Some((action, effect.unwrap_or(Effect::Changing))),
    };
    if let Some((action, Effect::ReadOnly)) = verdict
        && let Some(contradiction) = contradiction(action, &methods)
    {
        return Err(("effect", RouteProblem::ReadOnlyContradicted(contradiction)));
    }
    let bodies = bodies(definition)?;
    let names_patients = bodies.is_some() || pattern.patient_positions().next().is_some();
    if verdict.is_none() && definition.class.is_none() && !names_patients {
        return Err(("action", RouteProblem::SaysNothing));
    }
    for (key, names) in [("patient_query", &definition.patient_query), ("patient_form", &definition.patient_form)] {
        if names.iter().any(String::is_empty) {
            return Err((key, RouteProblem::EmptyParameter));
        }
    }
    Ok(Rule {
        methods,
        pattern,
        verdict,
        class: definition.class.clone(),
        patient_query: definition.patient_query.clone(),
        bodies,
    })
}

/// What a rule says about bodies.
fn bodies(definition: &RuleDefinition) -> Result<Option<Arc<BodyRules>>, (&'static str, RouteProblem)> {
    let request = pointers(&definition.patient_request_json).map_err(|problem| ("patient_request_json", problem))?;
    let answer = pointers(&definition.patient_answer_json).map_err(|problem| ("patient_answer_json", problem))?;
    let rules =
        BodyRules { form: definition.patient_form.clone(), query: definition.patient_query.clone(), request, answer };
    Ok((rules.reads() || !rules.query.is_empty()).then(|| Arc::new(rules)))
}

fn pointers(texts: &[String]) -> Result<Arc<[Pointer]>, RouteProblem> {
    let bad = |text: &String| RouteProblem::BadPointer(text.escape_debug().to_string());
    if let Some(beyond) = texts.get(MAX_POINTERS) {
        return Err(bad(beyond));
    }
    texts.iter().map(|text| Pointer::parse(text).ok_or_else(|| bad(text))).collect()
}

/// What says that a request is not read-only, whatever the rule says.
fn contradiction(action: Action, methods: &[Method]) -> Option<String> {
    if matches!(action, Action::Create | Action::Update | Action::Delete) {
        return Some(format!("the action `{action}`"));
    }
    [(Method::Put, "PUT"), (Method::Patch, "PATCH"), (Method::Delete, "DELETE")]
        .into_iter()
        .find(|(method, _)| methods.contains(method))
        .map(|(_, name)| format!("the method `{name}`"))
}

fn operations(definition: &RouteDefinition) -> Result<Vec<String>, RouteProblem> {
    let Some(operations) = &definition.read_only_operations else {
        return Ok(READ_ONLY_OPERATIONS.iter().map(|name| (*name).to_owned()).collect());
    };
    if definition.kind != RouteKind::Fhir {
        return Err(RouteProblem::OperationsElsewhere);
    }
    let is_name = |name: &&String| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    match operations.iter().find(|name| !is_name(name)) {
        Some(bad) => Err(RouteProblem::BadOperation(bad.escape_debug().to_string())),
        None => Ok(operations.clone()),
    }
}
