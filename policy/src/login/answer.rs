//! What a backend's answer says about the password.

use serde_json::Value;

use super::Login;
use super::definition::{JsonScalar, LoginProblem, SignsDefinition, name, pointer};

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The password was right.
    Success,
    /// It was wrong.
    Failure,
    /// Neither is plain, which counts as wrong.
    Unclear,
}

/// An answer, as far as it says something about a login.
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// The values of a header, by its name in lower case.
    pub values: &'a dyn Fn(&str) -> Vec<&'a [u8]>,
    /// The body, where all of it was read.
    pub body: Option<&'a [u8]>,
}

/// Signs of an answer, checked. All must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signs {
    status: Vec<u16>,
    header: Option<(String, Option<String>)>,
    json: Option<(Vec<String>, Option<JsonScalar>)>,
    redirect: Option<String>,
    cookie: Option<String>,
}

impl Signs {
    /// Checks them.
    ///
    /// # Errors
    /// The key, empty for all of it, and what is wrong.
    pub(super) fn new(definition: &SignsDefinition) -> Result<Self, (&'static str, LoginProblem)> {
        let SignsDefinition { status, header, json, redirect, cookie } = definition;
        if status.is_empty() && header.is_none() && json.is_none() && redirect.is_none() && cookie.is_none() {
            return Err(("", LoginProblem::NoSign));
        }
        if let Some(bad) = status.iter().find(|status| !(200..=599).contains(*status)) {
            return Err(("status", LoginProblem::BadStatus(*bad)));
        }
        let header = match header {
            None => None,
            Some(header) => {
                let name = name(&header.name).map_err(|problem| ("header.name", problem))?;
                Some((name.to_ascii_lowercase(), header.value.clone()))
            }
        };
        let json = match json {
            None => None,
            Some(json) => {
                let names = pointer(&json.pointer).map_err(|problem| ("json.pointer", problem))?;
                Some((names, json.value.clone()))
            }
        };
        if let Some(path) = redirect.as_ref().filter(|path| !path.starts_with('/') || path.contains(['?', '#'])) {
            return Err(("redirect", LoginProblem::BadRedirect(path.escape_debug().to_string())));
        }
        if let Some(cookie) = cookie {
            name(cookie).map_err(|problem| ("cookie", problem))?;
        }
        Ok(Self { status: status.clone(), header, json, redirect: redirect.clone(), cookie: cookie.clone() })
    }

    /// Whether the body has to be read.
    const fn needs_body(&self) -> bool {
        self.json.is_some()
    }

    fn fit(&self, answer: &Answer<'_>) -> bool {
        (self.status.is_empty() || self.status.contains(&answer.status))
            && self.header.as_ref().is_none_or(|(name, wanted)| {
                let values = (answer.values)(name);
                values.iter().any(|value| {
                    wanted.as_ref().is_none_or(|wanted| value.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
                })
            })
            && self
                .json
                .as_ref()
                .is_none_or(|(names, wanted)| answer.body.is_some_and(|body| stands(body, names, wanted.as_ref())))
            && self.redirect.as_ref().is_none_or(
                |wanted| matches!(&(answer.values)("location")[..], [value] if path_of(value) == Some(wanted)),
            )
            && self
                .cookie
                .as_ref()
                .is_none_or(|wanted| (answer.values)("set-cookie").iter().any(|value| sets(value, wanted.as_bytes())))
    }
}

impl Login {
    /// Whether the answer's body says something about the password.
    #[must_use]
    pub fn needs_answer_body(&self) -> bool {
        let gives_token = self.session.as_ref().is_some_and(|session| session.token.is_some());
        gives_token || self.success.needs_body() || self.failure.as_ref().is_some_and(Signs::needs_body)
    }

    /// The token that an answer's body gives a session in, where it does.
    #[must_use]
    pub fn token(&self, body: &[u8]) -> Option<String> {
        let names = self.session.as_ref()?.token.as_ref()?;
        let whole: Value = serde_json::from_slice(body).ok()?;
        Some(place(&whole, names)?.as_str()?.to_owned())
    }

    /// What an answer says about the password.
    #[must_use]
    pub fn said(&self, answer: &Answer<'_>) -> Said {
        let success = self.success.fit(answer);
        match &self.failure {
            None if success => Said::Success,
            None => Said::Failure,
            Some(failure) => match (success, failure.fit(answer)) {
                (true, false) => Said::Success,
                (false, true) => Said::Failure,
                (true, true) | (false, false) => Said::Unclear,
            },
        }
    }
}

fn stands(body: &[u8], names: &[String], wanted: Option<&JsonScalar>) -> bool {
    let Ok(whole) = serde_json::from_slice::<Value>(body) else { return false };
    let Some(place) = place(&whole, names) else { return false };
    match wanted {
        None => !matches!(place, Value::Null | Value::Bool(false)),
        Some(JsonScalar::Boolean(wanted)) => place.as_bool() == Some(*wanted),
        Some(JsonScalar::Integer(wanted)) => place.as_i64() == Some(*wanted),
        Some(JsonScalar::Text(wanted)) => place.as_str() == Some(wanted),
    }
}

/// What a pointer leads to.
fn place<'v>(whole: &'v Value, names: &[String]) -> Option<&'v Value> {
    names.iter().try_fold(whole, |place, name| match place {
        Value::Object(members) => members.get(name),
        Value::Array(elements) => name.parse::<usize>().ok().and_then(|index| elements.get(index)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

/// The path of a `Location`, whether it is a whole URL or not.
fn path_of(location: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(location).ok()?.trim();
    let after_authority = |rest: &'_ str| rest.find('/').map(|at| rest.len() - at);
    let path = if let Some((_, rest)) = text.split_once("://") {
        match after_authority(rest) {
            Some(length) => text.get(text.len() - length..)?,
            None => "/",
        }
    } else {
        text
    };
    path.split(['?', '#']).next()
}

/// Whether a `Set-Cookie` sets a cookie of that name to something, rather than taking it away (RFC 6265 section 5.2).
fn sets(value: &[u8], name: &[u8]) -> bool {
    let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let Some(pair) = parts.next() else { return false };
    let mut halves = pair.splitn(2, |byte| *byte == b'=');
    let is_it = halves.next().is_some_and(|found| found.trim_ascii() == name);
    let has_value = halves.next().is_some_and(|value| !matches!(value.trim_ascii(), b"" | b"\"\""));
    let ends = parts.any(|part| {
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        let is_age = halves.next().is_some_and(|found| found.trim_ascii().eq_ignore_ascii_case(b"max-age"));
        is_age && halves.next().is_some_and(|age| age.trim_ascii().starts_with(b"-") || age.trim_ascii() == b"0")
    });
    is_it && has_value && !ends
}

#[cfg(test)]
mod tests {
    use super::super::{Login, LoginDefinition};
    use super::*;

    fn login(text: &str) -> Result<Login, (String, LoginProblem)> {
        let definition: LoginDefinition = toml::from_str(&format!("account = {{ basic = true }}\n{text}")).unwrap();
        Login::new(&definition, &"ehr".parse().unwrap())
    }

    fn said(login: &Login, status: u16, fields: &[(&str, &str)], body: Option<&str>) -> Said {
        let values = |name: &str| {
            let found = fields.iter().filter(|(known, _)| *known == name);
            found.map(|(_, value)| value.as_bytes()).collect::<Vec<_>>()
        };
        login.said(&Answer { status, values: &values, body: body.map(str::as_bytes) })
    }

    #[test]
    fn every_sign_must_fit() {
        let form = login("success = { status = [302, 303], redirect = \"/home\" }").unwrap();
        for (status, location, expected) in [
            (302, "/home", Said::Success),
            (303, "https://ehr.example/home?x=1", Said::Success),
            (302, "/login", Said::Failure),
            (302, "/home/..", Said::Failure),
            (302, "https://ehr.example", Said::Failure),
            (200, "/home", Said::Failure),
        ] {
            assert_eq!(said(&form, status, &[("location", location)], None), expected, "{status} {location}");
        }
        assert_eq!(said(&form, 302, &[("location", "/home"), ("location", "/login")], None), Said::Failure);
    }

    #[test]
    fn an_answer_that_fits_both_or_neither_is_unclear() {
        let both = login("success = { status = [200] }\nfailure = { header = { name = \"X-Login\", value = \"no\" } }");
        let both = both.unwrap();
        assert_eq!(said(&both, 200, &[], None), Said::Success);
        assert_eq!(said(&both, 401, &[("x-login", "NO")], None), Said::Failure);
        assert_eq!(said(&both, 200, &[("x-login", " no ")], None), Said::Unclear);
        assert_eq!(said(&both, 503, &[], None), Said::Unclear);
    }

    #[test]
    fn a_body_is_json_or_says_nothing() {
        let json = login("success = { json = { pointer = \"/result/ok\", value = true } }").unwrap();
        assert!(json.needs_answer_body());
        assert_eq!(said(&json, 200, &[], Some("{\"result\":{\"ok\":true}}")), Said::Success);
        for bad in ["{\"result\":{\"ok\":\"true\"}}", "{\"result\":{}}", "{\"result\":{\"ok\":tr", ""] {
            assert_eq!(said(&json, 200, &[], Some(bad)), Said::Failure, "{bad}");
        }
        assert_eq!(said(&json, 200, &[], None), Said::Failure, "an answer beyond the bound");
        let any = login("success = { json = { pointer = \"/tokens/0\" } }").unwrap();
        assert_eq!(said(&any, 200, &[], Some("{\"tokens\":[\"t\"]}")), Said::Success);
        assert_eq!(said(&any, 200, &[], Some("{\"tokens\":[null]}")), Said::Failure);
    }

    #[test]
    fn a_cookie_that_is_taken_away_is_none() {
        let cookie = login("success = { cookie = \"sid\" }").unwrap();
        for (value, expected) in [
            ("sid=abc; Path=/; HttpOnly", Said::Success),
            ("sid=; Path=/", Said::Failure),
            ("sid=abc; Max-Age=0", Said::Failure),
            ("sid2=abc", Said::Failure),
            ("x=1; sid=abc", Said::Failure),
        ] {
            assert_eq!(said(&cookie, 200, &[("set-cookie", value)], None), expected, "{value}");
        }
    }

    #[test]
    fn what_says_nothing_is_refused_by_its_key() {
        for (text, key) in [
            ("success = {}", "success"),
            ("success = { status = [99] }", "success.status"),
            ("success = { status = [200] }\nfailure = {}", "failure"),
            ("success = { redirect = \"home\" }", "success.redirect"),
            ("success = { json = { pointer = \"a\" } }", "success.json.pointer"),
            ("success = { header = { name = \"a b\" } }", "success.header.name"),
            ("success = { cookie = \"\" }", "success.cookie"),
            ("success = { status = [200] }\nmax_body_bytes = 1", "max_body_bytes"),
            ("success = { status = [200] }\nrealm = \"\"", "realm"),
            ("success = { status = [200] }\nlists = true", "lists"),
        ] {
            assert_eq!(login(text).unwrap_err().0, key, "{text}");
        }
    }
}
