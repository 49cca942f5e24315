//! Which routes see which sessions: those of a service's login, on every route of that service.

use std::sync::Arc;

use super::Route;
use super::error::{RouteError, RouteProblem};
use crate::session::{Observed, RouteSessionDefinition, SessionProblem, Tie, Unknown, methods};

/// A login whose sessions the gateway knows.
struct Known {
    realm: Arc<str>,
    route: usize,
    tie: Arc<Tie>,
}

/// Tells each route which sessions it sees. `said` is what the routes say themselves, in their order.
///
/// # Errors
/// [`RouteError`] for the first field that is wrong.
pub(super) fn observe(routes: &mut [Route], said: &[Option<RouteSessionDefinition>]) -> Result<(), RouteError> {
    let logins = routes.iter().enumerate().filter_map(|(route, at)| Some((route, at.login.as_ref()?)));
    let known: Vec<Known> = logins
        .filter_map(|(route, login)| {
            let tie = Arc::clone(login.session.as_ref()?);
            Some(Known { realm: Arc::clone(&login.realm), route, tie })
        })
        .collect();
    let services: Vec<_> = routes.iter().map(|route| route.service.clone()).collect();
    let names: Vec<_> = routes.iter().map(|route| route.name.clone()).collect();
    for (route, said) in routes.iter_mut().zip(said) {
        let error = |field: &str, problem| {
            let route = route.name.clone();
            RouteError { route, field: field.to_owned(), problem: RouteProblem::Session(problem) }
        };
        let own = route.login.as_ref().filter(|login| login.session.is_some()).map(|login| Arc::clone(&login.realm));
        let of_service = || known.iter().filter(|known| services.get(known.route) == Some(&route.service));
        let realm = match said.as_ref().and_then(|said| said.realm.as_deref()) {
            Some(named) => {
                let found = known.iter().find(|known| *known.realm == *named);
                let unknown = || error("session.realm", SessionProblem::UnknownRealm(named.escape_debug().to_string()));
                Some(Arc::clone(&found.ok_or_else(unknown)?.realm))
            }
            None if own.is_some() => own,
            None => {
                let first = of_service().next();
                let other = first.and_then(|first| of_service().find(|known| known.realm != first.realm));
                if let Some(other) = other.and_then(|other| names.get(other.route)) {
                    return Err(error("session", SessionProblem::TwoRealms(other.clone())));
                }
                first.map(|first| Arc::clone(&first.realm))
            }
        };
        let Some(realm) = realm else {
            if said.is_some() {
                return Err(error("session", SessionProblem::NoSessions));
            }
            continue;
        };
        let RouteSessionDefinition { require, ends, .. } = said.clone().unwrap_or_default();
        methods(&ends).map_err(|problem| error("session.ends", problem))?;
        if require && route.login.is_some() {
            return Err(error("session.require", SessionProblem::LoginRequires));
        }
        let ties: Vec<_> = known.iter().filter(|known| known.realm == realm).map(|known| &known.tie).collect();
        let cookies = names_of(ties.iter().copied());
        let mut foreign = names_of(of_service().filter(|known| known.realm != realm).map(|known| &known.tie));
        foreign.retain(|name| !cookies.contains(name));
        let forwards = !ties.is_empty() && ties.iter().all(|tie| tie.unknown == Unknown::Forward);
        let observed = Observed {
            realm,
            cookies: cookies.into(),
            foreign: foreign.into(),
            bearer: ties.iter().any(|tie| tie.token.is_some()),
            unknown: if forwards { Unknown::Forward } else { Unknown::Remove },
            require,
            ends,
        };
        route.observed = Some(Arc::new(observed));
    }
    Ok(())
}

fn names_of<'a>(ties: impl Iterator<Item = &'a Arc<Tie>>) -> Vec<Box<str>> {
    let mut names: Vec<_> = ties.flat_map(|tie| tie.cookies.iter().cloned()).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::{RouteDefinition, RouteTable};
    use crate::session::Unknown;

    #[derive(Deserialize)]
    struct File {
        route: Vec<RouteDefinition>,
    }

    fn table(text: &str) -> Result<RouteTable, (String, String)> {
        let routes = toml::from_str::<File>(text).unwrap().route;
        RouteTable::new(routes).map_err(|error| (format!("{}.{}", error.route, error.field), error.problem.to_string()))
    }

    fn route(name: &str, service: &str, rest: &str) -> String {
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"/{name}\"\nservice = \"{service}\"\nclass = \"c\"\nkind = \"generic\"\n{rest}\n"
        )
    }

    fn login(name: &str, service: &str, realm: &str, session: &str) -> String {
        let realm = if realm.is_empty() { String::new() } else { format!("login.realm = \"{realm}\"\n") };
        let session = if session.is_empty() { String::new() } else { format!("login.session = {session}") };
        let rest =
            format!("login.account = {{ form = \"u\" }}\nlogin.success = {{ status = [302] }}\n{realm}{session}");
        route(name, service, &rest)
    }

    #[test]
    fn every_route_of_the_service_sees_its_sessions() {
        let text = login("login", "ehr", "", "{ cookies = [\"sid\"] }")
            + &route("app", "ehr", "")
            + &route("out", "ehr", "session = { ends = [\"POST\"] }")
            + &route("files", "dms", "session = { realm = \"ehr\", require = true }")
            + &route("other", "dms", "");
        let table = table(&text).unwrap();
        let of = |name: &str| {
            let route = table.routes().find(|route| route.name().as_str() == name).unwrap();
            route.observed().map(|o| (o.realm.to_string(), o.cookies.len(), o.require, o.ends.len(), o.unknown))
        };
        let sees = |require, ends| Some(("ehr".to_owned(), 1, require, ends, Unknown::Remove));
        assert_eq!(of("login"), sees(false, 0));
        assert_eq!(of("app"), sees(false, 0));
        assert_eq!(of("out"), sees(false, 1));
        assert_eq!(of("files"), sees(true, 0));
        assert_eq!(of("other"), None);
    }

    #[test]
    fn cookies_of_another_realm_of_the_service_are_known_as_such() {
        let text = login("one", "ehr", "", "{ cookies = [\"sid\", \"both\"] }")
            + &login("two", "ehr", "two", "{ cookies = [\"sid2\", \"both\"] }")
            + &login("far", "dms", "three", "{ cookies = [\"sid3\"] }")
            + &route("app", "ehr", "session = { realm = \"two\" }");
        let table = table(&text).unwrap();
        let of = |name: &str| {
            let route = table.routes().find(|route| route.name().as_str() == name).unwrap();
            let list = |names: &[Box<str>]| names.join(" ");
            route.observed().map(|observed| (list(&observed.cookies), list(&observed.foreign))).unwrap()
        };
        assert_eq!(of("one"), ("both sid".to_owned(), "sid2".to_owned()));
        assert_eq!(of("app"), ("both sid2".to_owned(), "sid".to_owned()));
        assert_eq!(of("far"), ("sid3".to_owned(), String::new()));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let known = login("login", "ehr", "", "{ cookies = [\"sid\"] }");
        for (text, key) in [
            (login("l", "ehr", "", "{}"), "l.login.session"),
            (login("l", "ehr", "", "{ cookies = [\"a b\"] }"), "l.login.session.cookies"),
            (login("l", "ehr", "", "{ cookies = [\"a;b\"] }"), "l.login.session.cookies"),
            (login("l", "ehr", "", "{ token_pointer = \"t\" }"), "l.login.session.token_pointer"),
            (
                login("l", "ehr", "", "{ cookies = [\"a\"], users = { Tanaka = \"t\", tanaka = \"u\" } }"),
                "l.login.session.users",
            ),
            (route("r", "ehr", "session = { require = true }"), "r.session"),
            (known.clone() + &route("r", "ehr", "session = { realm = \"x\" }"), "r.session.realm"),
            (known.clone() + &route("r", "ehr", "session = { ends = [\"post\"] }"), "r.session.ends"),
            (known.clone() + "session = { require = true }\n", "login.session.require"),
            (known + &login("m", "ehr", "two", "{ cookies = [\"b\"] }") + &route("r", "ehr", ""), "r.session"),
        ] {
            assert_eq!(table(&text).unwrap_err().0, key, "{text}");
        }
    }
}
