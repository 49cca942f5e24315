//! Reading `[[route]]`. What a route may say is `policy`'s to judge; names and references are judged here.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::document::{join, quoted};
use super::file::Names;
use super::problem::suggestion;
use super::table::Table;

pub use policy::route::RouteDefinition;

pub(super) fn routes(file: &Table<'_>, services: &Names) -> Vec<RouteDefinition> {
    let mut names = Names::of("route", &[]);
    let mut routes = Vec::new();
    for table in file.elements("route") {
        if let Some(name) = table.peek("name") {
            names.take(&table, &name);
        }
        if let Some(service) = table.peek("service") {
            services.know(&table, &service);
        }
        routes.extend(definition(&table));
    }
    routes
}

fn definition(table: &Table<'_>) -> Option<RouteDefinition> {
    let value = DeValue::Table(table.entries()?.clone());
    match RouteDefinition::deserialize(ValueDeserializer::from(Spanned::new(table.span.clone(), value))) {
        Ok(route) => Some(route),
        Err(error) => {
            let span = error.span().unwrap_or_else(|| table.span.clone());
            let (key, message) = rephrase(&table.path, error.message());
            table.context.problem(&span, &key, message);
            None
        }
    }
}

/// serde's message as ours: the nearest key for an unknown one, the full key for a missing one.
fn rephrase(path: &str, message: &str) -> (String, String) {
    let mut words = message.split('`').skip(1).step_by(2);
    let word = words.next().unwrap_or_default();
    let key = join(path, word);
    if message.starts_with("unknown field") {
        let known: Vec<&str> = words.collect();
        let message = format!("unknown key {}; {}", quoted(&key), suggestion(word, &known));
        return (key, message);
    }
    if message.starts_with("missing field") {
        let message = format!("{} is missing", quoted(&key));
        return (key, message);
    }
    let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (path.to_owned(), format!("{} is not a route: {message}", quoted(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_is_translated() {
        let unknown = "unknown field `pth`, expected one of `name`, `path`, `service`";
        assert_eq!(rephrase("route[0]", unknown).1, "unknown key `route[0].pth`; did you mean `path`?");
        assert_eq!(rephrase("route[0]", "missing field `class`").1, "`route[0].class` is missing");
        let other = "invalid type: integer `1`, expected a string\n";
        assert_eq!(
            rephrase("route[1]", other).1.trim(),
            "`route[1]` is not a route: invalid type: integer `1`, expected a string"
        );
    }
}
