//! Reading `[[route]]`. What a route may say is `policy`'s to judge; its place and its references are judged here.

use policy::route::{RouteDefinition, RouteTable};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::document::{join, quoted};
use super::file::Names;
use super::problem::suggestion;
use super::table::Table;
use super::{Listener, Oidc, Service, TokenIssuer, TokenSource};

pub(super) fn routes(
    file: &Table<'_>,
    (names_of_services, services): (&Names, &[Service]),
    (names_of_issuers, issuers): (&Names, &[TokenIssuer]),
    listeners: &[Listener],
    providers: &[Oidc],
) -> Vec<RouteDefinition> {
    let is_known = |name: &str| providers.iter().any(|provider| **provider.name() == *name);
    for (index, listener) in listeners.iter().enumerate() {
        for (place, name) in listener.oidc.iter().enumerate().filter(|(_, name)| !is_known(name)) {
            let key = format!("listener[{index}].oidc[{place}]");
            file.problem_at(&key, format!("{} is {}; no `[[oidc]]` has that name", quoted(&key), quoted(name)));
        }
    }
    let mut names = Names::of("route", &[]);
    let mut routes: Vec<RouteDefinition> = Vec::new();
    let mut tables = Vec::new();
    for table in file.elements("route") {
        if let Some(name) = table.peek("name") {
            names.take(&table, &name);
        }
        if let Some(service) = table.peek("service") {
            names_of_services.know(&table, &service);
        }
        if let Some(route) = definition(&table) {
            let named = route.token.iter().flat_map(|token| &token.issuers).enumerate();
            for (index, name) in named.filter(|(_, name)| !names_of_issuers.taken.contains(name)) {
                let key = format!("{}.token.issuers[{index}]", table.path);
                table.problem_at(&key, format!("{} is {}; no token issuer has that name", quoted(&key), quoted(name)));
            }
            let is_asked = |name: &String| {
                let issuer = issuers.iter().find(|issuer| *issuer.rules.name == **name);
                issuer.is_some_and(|issuer| matches!(issuer.source, TokenSource::Introspection(_)))
            };
            let named = route.token.iter().flat_map(|token| &token.issuers).enumerate();
            if let Some((index, name)) = named.filter(|(_, name)| is_asked(name)).nth(1) {
                let key = format!("{}.token.issuers[{index}]", table.path);
                let why =
                    "another of them is asked about opaque tokens already, and nobody can tell whose such a token is";
                table.problem_at(&key, format!("{} is {}; {why}", quoted(&key), quoted(name)));
            }
            if let Some(name) = route.oidc.as_ref().map(|oidc| &oidc.provider) {
                let key = format!("{}.oidc.provider", table.path);
                if !is_known(name) {
                    table
                        .problem_at(&key, format!("{} is {}; no `[[oidc]]` has that name", quoted(&key), quoted(name)));
                } else if !listeners.iter().any(|listener| listener.oidc.contains(name)) {
                    let why = "no listener names it in `oidc`, so that nobody could log in";
                    table.problem_at(&key, format!("{} is {}; {why}", quoted(&key), quoted(name)));
                }
            }
            let speaks_http2 = |service: &&Service| service.name == route.service && service.http2;
            if route.websocket.is_some() && services.iter().any(|service| speaks_http2(&service)) {
                let key = format!("{}.websocket", table.path);
                let why = "the route's service has `http2 = true`: give its WebSockets a service of their own";
                table.problem_at(&key, format!("{} needs HTTP/1.1 to its backends; {why}", quoted(&key)));
            }
            routes.push(route);
            tables.push(table);
        }
    }
    for (route, table) in routes.iter().zip(&tables) {
        know_places(route, table, listeners);
    }
    judge(&routes, &tables);
    routes
}

/// Refuses hosts and listeners that are nobody's.
fn know_places(route: &RouteDefinition, table: &Table<'_>, listeners: &[Listener]) {
    let is_at = |listener: &&Listener| route.listeners.as_ref().is_none_or(|names| names.contains(&listener.name));
    for (index, name) in route.listeners.iter().flatten().enumerate() {
        if !listeners.iter().any(|listener| listener.name == *name) {
            let key = format!("{}.listeners[{index}]", table.path);
            table.problem_at(&key, format!("{} is {}; no `[[listener]]` has that name", quoted(&key), quoted(name)));
        }
    }
    for (index, host) in route.hosts.iter().flatten().enumerate() {
        if !listeners.iter().filter(is_at).any(|listener| listener.server_names.contains(host)) {
            let key = format!("{}.hosts[{index}]", table.path);
            let why = "none of its listeners has that name in `server_names`";
            table.problem_at(&key, format!("{} is {}; {why}", quoted(&key), quoted(host)));
        }
    }
}

/// Has `policy` judge the routes together, and blames the key it names.
fn judge(routes: &[RouteDefinition], tables: &[Table<'_>]) {
    let Err(error) = RouteTable::new(routes.to_vec()) else { return };
    // Of two routes of one name the later is at fault.
    let named = routes.iter().zip(tables).rfind(|(route, _)| route.name == error.route);
    if let Some((_, table)) = named {
        let key = format!("{}.{}", table.path, error.field);
        // A name that is taken is noted already.
        if error.field != "name" {
            table.problem_at(&key, format!("{}: {}", quoted(&key), error.problem));
        }
    }
}

fn definition(table: &Table<'_>) -> Option<RouteDefinition> {
    let value = DeValue::Table(table.entries()?.clone());
    match RouteDefinition::deserialize(ValueDeserializer::from(Spanned::new(table.span.clone(), value))) {
        Ok(route) => Some(route),
        Err(error) => {
            let span = error.span().unwrap_or_else(|| table.span.clone());
            let (key, message) = rephrase(&table.context.key_at(&span, &table.path), error.message());
            table.context.problem(&span, &key, message);
            None
        }
    }
}

/// serde's message about a key as ours: the nearest key for an unknown one, the full key for a missing one.
fn rephrase(key: &str, message: &str) -> (String, String) {
    let mut words = message.split('`').skip(1).step_by(2);
    let word = words.next().unwrap_or_default();
    if message.starts_with("unknown field") {
        let known: Vec<&str> = words.collect();
        return (key.to_owned(), format!("unknown key {}; {}", quoted(key), suggestion(word, &known)));
    }
    if message.starts_with("missing field") {
        let key = join(key, word);
        let message = format!("{} is missing", quoted(&key));
        return (key, message);
    }
    let message: String = message.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (key.to_owned(), format!("{}: {message}", quoted(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_is_translated() {
        let unknown = "unknown field `pth`, expected one of `name`, `path`, `service`";
        assert_eq!(rephrase("route[0].pth", unknown).1, "unknown key `route[0].pth`; did you mean `path`?");
        assert_eq!(rephrase("route[0]", "missing field `class`").1, "`route[0].class` is missing");
        let other = "invalid type: integer `1`, expected a string\n";
        assert_eq!(rephrase("route[1].path", other).1, "`route[1].path`: invalid type: integer `1`, expected a string");
    }
}
