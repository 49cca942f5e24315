//! Reading `[session]`.

use std::path::Path;
use std::time::Duration;

use policy::session::{Limits, Rule, Rules};

use super::Session;
use super::knob::{self, Knob};
use super::table::Table;

/// `state` is the store's folder.
pub(super) fn session(table: &Table<'_>, state: Option<&Path>) -> Option<Session> {
    let default = limits(table, None);
    let rules = table.elements_optional("rule").unwrap_or_default().into_iter().filter_map(|rule| {
        rule.read(|rule| {
            let fitting =
                Rule { sites: names(rule, "sites"), roles: names(rule, "roles"), limits: limits(rule, Some(&default)) };
            if fitting.sites.is_empty() && fitting.roles.is_empty() {
                rule.problem(
                    "sites",
                    format!("`{}` is for everybody; set `session.idle_s` and the like instead", rule.path),
                );
            }
            Some(fitting)
        })
    });
    let rules = rules.collect();
    let most = knob::size(table.number("most", &knob::SESSIONS));
    let key_file = table.path_optional("key_file").or_else(|| state.map(|state| state.join("session.key")));
    Some(Session { rules: Rules { default, rules }, most, key_file: key_file? })
}

/// What a rule does not say is the default's.
fn limits(table: &Table<'_>, default: Option<&Limits>) -> Limits {
    let or = |knob: &Knob, of: fn(&Limits) -> u64| Knob {
        default: default.map_or(knob.default, of),
        min: knob.min,
        max: knob.max,
        why: knob.why,
    };
    let idle = or(&knob::IDLE_S, |limits| limits.idle_ns / 1_000_000_000);
    let absolute = or(&knob::ABSOLUTE_S, |limits| limits.absolute_ns / 1_000_000_000);
    let concurrent = or(&knob::CONCURRENT, |limits| u64::from(limits.concurrent));
    Limits {
        idle_ns: ns(table.seconds("idle_s", &idle)),
        absolute_ns: ns(table.seconds("absolute_s", &absolute)),
        concurrent: knob::short(table.number("concurrent", &concurrent)),
    }
}

fn names<T: std::str::FromStr<Err = policy::InvalidName>>(table: &Table<'_>, key: &'static str) -> Vec<T> {
    let texts = table.texts_optional(key);
    let read = |text: &super::table::Text<'_>| match text.text.parse() {
        Ok(name) => Some(name),
        Err(_) => {
            table.refuse(text, "it is no name of the registry");
            None
        }
    };
    texts.iter().filter_map(read).collect()
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
