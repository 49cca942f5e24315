//! Where a request comes to, and which route takes it there.

use super::{Route, RouteTable};
use crate::RouteName;
use crate::target::CanonicalTarget;

/// Where a request comes to. What is not said is taken to be whatever a route wants: of use to look, not to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place<'a> {
    /// The listener's name.
    pub listener: Option<&'a str>,
    /// The host of its authority, lower case, without a port.
    pub host: Option<&'a str>,
    /// Routes that name no listener are not there (R18).
    pub named_only: bool,
}

/// What a route has to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It takes the request.
    Takes,
    /// It would, were it not for a route that comes before it.
    Behind(RouteName),
    /// It is not at the listener.
    OtherListener,
    /// It is not for the host.
    OtherHost,
    /// Its prefix is not the target's.
    OtherPath,
}

/// What a route comes before others by: a host that it names, then the longer prefix, then a listener that it names.
pub(super) type Rank = (bool, usize, bool);

impl Route {
    /// Where it stands among the routes that could take one request; no two of these stand alike.
    pub(super) fn rank(&self) -> Rank {
        (self.hosts.is_some(), self.prefix.len(), self.listeners.is_some())
    }

    /// The hosts that it is for; none for every host.
    #[must_use]
    pub fn hosts(&self) -> Option<&[Box<str>]> {
        self.hosts.as_deref()
    }

    /// The listeners that it is at; none for every listener.
    #[must_use]
    pub fn listeners(&self) -> Option<&[Box<str>]> {
        self.listeners.as_deref()
    }

    fn is_at_listener(&self, place: Place<'_>) -> bool {
        is_among(self.listeners(), place.listener) && (self.listeners.is_some() || !place.named_only)
    }

    /// Whether it is at a listener and for a host, whatever its path.
    #[must_use]
    pub fn is_at(&self, place: Place<'_>) -> bool {
        self.is_at_listener(place) && is_among(self.hosts(), place.host)
    }

    /// Whether there is a request that this and another route could take, and neither comes before the other.
    pub(super) fn collides(&self, other: &Self) -> bool {
        let meet = |ours: Option<&[Box<str>]>, theirs: Option<&[Box<str>]>| match (ours, theirs) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => ours.iter().any(|name| theirs.contains(name)),
            // The one that names it comes first.
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.prefix == other.prefix && meet(self.hosts(), other.hosts()) && meet(self.listeners(), other.listeners())
    }
}

fn is_among(names: Option<&[Box<str>]>, wanted: Option<&str>) -> bool {
    match (names, wanted) {
        (Some(names), Some(wanted)) => names.iter().any(|name| **name == *wanted),
        (None, _) | (_, None) => true,
    }
}

impl RouteTable {
    /// Every route in the order in which they are asked, and what each has to do with a request.
    pub fn explain<'a>(&'a self, place: Place<'_>, target: &CanonicalTarget<'_>) -> Vec<(&'a Route, Standing)> {
        let segments: Vec<_> = target.segments().collect();
        let mut taken: Option<&RouteName> = None;
        let mut standings = Vec::new();
        for route in self.routes() {
            let standing = if !route.is_at_listener(place) {
                Standing::OtherListener
            } else if !is_among(route.hosts(), place.host) {
                Standing::OtherHost
            } else if !route.takes(&segments) {
                Standing::OtherPath
            } else if let Some(first) = taken {
                Standing::Behind(first.clone())
            } else {
                taken = Some(route.name());
                Standing::Takes
            };
            standings.push((route, standing));
        }
        standings
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::RouteDefinition;
    use super::*;

    #[derive(serde::Deserialize)]
    struct File {
        route: Vec<RouteDefinition>,
    }

    type Said = (String, Option<Vec<String>>, Option<Vec<String>>);

    fn definitions(routes: &[Said]) -> Vec<RouteDefinition> {
        let mut text = String::new();
        for (number, (path, hosts, listeners)) in routes.iter().enumerate() {
            text.push_str(&format!(
                "[[route]]\nname = \"r{number}\"\npath = \"{path}\"\nservice = \"s\"\nclass = \"c\"\nkind = \"generic\"\n"
            ));
            for (key, names) in [("hosts", hosts), ("listeners", listeners)] {
                if let Some(names) = names {
                    text.push_str(&format!("{key} = {names:?}\n"));
                }
            }
        }
        toml::from_str::<File>(&text).unwrap().route
    }

    fn names(text: &str) -> Option<Vec<String>> {
        (!text.is_empty()).then(|| text.split(' ').map(str::to_owned).collect())
    }

    fn taken(table: &RouteTable, listener: &str, host: &str, path: &str) -> Option<String> {
        let target = CanonicalTarget::parse(path.as_bytes(), 1024).unwrap();
        let place = Place { listener: Some(listener), host: Some(host), named_only: false };
        let resolved = table.resolve(place, "GET", &target).ok().map(|resolved| resolved.route.name().to_string());
        let explained = table.explain(place, &target);
        let first = explained.iter().find(|(_, standing)| *standing == Standing::Takes);
        assert_eq!(first.map(|(route, _)| route.name().to_string()), resolved, "the explanation is what happens");
        resolved
    }

    #[test]
    fn a_host_goes_before_a_path_and_a_path_before_a_listener() {
        let said = [("/", "", ""), ("/fhir", "", ""), ("/", "a.example", ""), ("/fhir", "", "staff"), ("/", "", "lab")];
        let said = said.map(|(path, hosts, listeners)| (path.to_owned(), names(hosts), names(listeners)));
        let table = RouteTable::new(definitions(&said)).unwrap();
        for (listener, host, path, route) in [
            ("clinics", "b.example", "/x", "r0"),
            ("clinics", "b.example", "/fhir/Patient", "r1"),
            ("clinics", "a.example", "/fhir/Patient", "r2"),
            ("staff", "b.example", "/fhir/Patient", "r3"),
            ("staff", "b.example", "/x", "r0"),
            ("lab", "b.example", "/x", "r4"),
            ("lab", "b.example", "/fhir", "r1"),
            ("lab", "a.example", "/fhir", "r2"),
        ] {
            assert_eq!(taken(&table, listener, host, path).as_deref(), Some(route), "{listener} {host} {path}");
        }
        let target = CanonicalTarget::parse(b"/fhir", 64).unwrap();
        let at = |listener| Place { listener: Some(listener), host: None, named_only: true };
        let named = |listener| table.resolve(at(listener), "GET", &target).ok().map(|r| r.route.name().to_string());
        assert_eq!(
            (named("staff").as_deref(), named("lab").as_deref(), named("clinics")),
            (Some("r3"), Some("r4"), None)
        );
        let twice = [said[2].clone(), ("/".to_owned(), names("b.example a.example"), None)];
        let error = RouteTable::new(definitions(&twice)).unwrap_err();
        assert_eq!((&*error.field, error.route.as_str()), ("path", "r1"), "{error}");
        for empty in [(Some(vec![]), None), (None, Some(vec![]))] {
            let said = ("/".to_owned(), empty.0, empty.1);
            assert!(RouteTable::new(definitions(&[said])).is_err(), "nobody could reach it");
        }
    }

    fn some() -> impl Strategy<Value = Said> {
        let few = |names: &'static [&'static str]| {
            let list = proptest::sample::subsequence(names, 1..=names.len());
            proptest::option::of(list.prop_map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>()))
        };
        let path = proptest::sample::select(vec!["/", "/a", "/b", "/a/b", "/a/b/c"]).prop_map(str::to_owned);
        (path, few(&["h1", "h2", "h3"]), few(&["l1", "l2", "l3"]))
    }

    proptest! {
        /// Total: of the routes that could take a request one has the first rank alone. Stable: which, the file's order has no say in.
        #[test]
        fn one_route_takes_a_request_whatever_the_order(
            routes in proptest::collection::vec(some(), 1..8),
            (a, b) in (0usize..8, 0usize..8),
            host in proptest::sample::select(vec!["h1", "h2", "h9"]),
            listener in proptest::sample::select(vec!["l1", "l2", "l9"]),
            path in proptest::sample::select(vec!["/", "/a", "/a/b", "/a/b/c/d", "/b/x", "/z"]),
        ) {
            let definitions = definitions(&routes);
            let mut shuffled = definitions.clone();
            shuffled.swap(a % routes.len(), b % routes.len());
            shuffled.reverse();
            let (table, other) = (RouteTable::new(definitions), RouteTable::new(shuffled));
            prop_assert_eq!(table.is_ok(), other.is_ok(), "a collision is one in any order");
            let (Ok(table), Ok(other)) = (table, other) else { return Ok(()) };
            prop_assert_eq!(taken(&table, listener, host, path), taken(&other, listener, host, path));
            let target = CanonicalTarget::parse(path.as_bytes(), 1024).unwrap();
            let place = Place { listener: Some(listener), host: Some(host), named_only: false };
            let standings = table.explain(place, &target);
            let mut ranks: Vec<_> = standings
                .iter()
                .filter(|(_, standing)| matches!(standing, Standing::Takes | Standing::Behind(_)))
                .map(|(route, _)| route.rank())
                .collect();
            let sorted = { let mut sorted = ranks.clone(); sorted.sort_by(|a, b| b.cmp(a)); sorted };
            prop_assert_eq!(&ranks, &sorted);
            ranks.dedup();
            prop_assert_eq!(ranks.len(), sorted.len(), "no two stand alike");
        }
    }
}
