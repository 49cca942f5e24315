//! `sekisho check --probe`: what backends answer to a login that cannot be right (R8).
//!
//! The guard learns from answers. A backend that answers to a wrong password as the route says that it does to a right one
//! is not guarded at all: each guess clears the count.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::Full;
use policy::login::answer::{Answer, Said};
use policy::login::{AccountPlace, Login};
use policy::route::RouteDefinition;
use tokio::task::LocalSet;

use crate::config::{Backend, Config, Problem, Service};
use crate::load::backend_tls;
use crate::upstream::probe::ask;

/// Longest answer that is read where nothing in it is looked at.
const LONGEST: usize = 1 << 20;
/// What passwords are mostly called.
const PASSWORD: &str = "password";

/// Asks each backend of each login route of a configuration that is good otherwise. Warnings are written, problems returned.
///
/// # Errors
/// If `out` cannot be written, or there is no randomness or no runtime to be had.
pub(super) fn probe(config: &Config, out: &mut dyn Write) -> io::Result<Vec<Problem>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut problems = Vec::new();
    for (index, route) in config.routes.iter().enumerate() {
        let Some(definition) = &route.login else { continue };
        let Some(service) = config.services.iter().find(|service| service.name == route.service) else { continue };
        let Ok(login) = Login::new(definition, &route.service) else { continue };
        for backend in &service.backends {
            let found = LocalSet::new().block_on(&runtime, one(route, &login, service, backend));
            let told = |key: &str, what: String| {
                let message = format!("route `{}`, backend `{}`: {what}", route.name, backend.authority.escape_debug());
                config.problem(&format!("route[{index}].{key}"), message)
            };
            match found {
                Ok(Said::Failure) => {}
                Ok(Said::Success) => {
                    let what = "warning: a login of an account that nobody has is taken for a success; `success` fits \
                                everything, and no guess is ever counted";
                    writeln!(out, "{}", told("login.success", what.to_owned()))?;
                }
                Ok(Said::Unclear) => {
                    let what = "warning: a login of an account that nobody has fits neither `success` nor `failure`, or \
                                both; it counts as a failure, and so may a right one";
                    writeln!(out, "{}", told("login.failure", what.to_owned()))?;
                }
                Err(why) => problems.push(told("login", format!("cannot be probed: {}", why.escape_debug()))),
            }
        }
    }
    Ok(problems)
}

/// Asks one backend.
async fn one(route: &RouteDefinition, login: &Login, service: &Service, backend: &Backend) -> Result<Said, String> {
    let tls = backend_tls(service, &mut Vec::new()).map_err(|error| error.to_string())?;
    let request = attempt(login, &route.path, [unguessed()?, unguessed()?])?;
    let longest = if login.needs_answer_body() { login.max_answer_bytes } else { LONGEST };
    Ok(said(login, &ask(service, backend, tls, request, longest).await?))
}

fn said(login: &Login, answer: &Response<Bytes>) -> Said {
    login.said(&Answer {
        status: answer.status().as_u16(),
        values: &|name| answer.headers().get_all(name).iter().map(http::HeaderValue::as_bytes).collect(),
        body: Some(answer.body()),
    })
}

/// A name that nobody has, and a password that nobody guesses.
fn unguessed() -> Result<String, String> {
    let mut random = [0; 12];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| "the system gives no random bytes")?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sekisho-probe-{digits}"))
}

/// A login as the route says that its backend takes it, as far as the route says that.
fn attempt(login: &Login, path: &str, [account, password]: [String; 2]) -> Result<Request<Full<Bytes>>, String> {
    let pairs = |name: &str| {
        form_urlencoded::Serializer::new(String::new())
            .append_pair(name, &account)
            .append_pair(PASSWORD, &password)
            .finish()
    };
    let request = Request::builder().header(USER_AGENT, "sekisho-probe").header(ACCEPT, "*/*");
    let request = match &login.place {
        AccountPlace::Form(name) => request
            .method(Method::POST)
            .uri(path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(pairs(name).into()),
        AccountPlace::Json(names) => {
            let mut body = serde_json::Value::from(account);
            for (depth, name) in names.iter().rev().enumerate() {
                let mut members = serde_json::Map::new();
                if depth == 0 {
                    members.insert(PASSWORD.to_owned(), password.clone().into());
                }
                members.insert(name.clone(), body);
                body = members.into();
            }
            request
                .method(Method::POST)
                .uri(path)
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string().into())
        }
        AccountPlace::Basic => {
            let credentials = format!("Basic {}", STANDARD.encode(format!("{account}:{password}")));
            request.method(Method::GET).uri(path).header(AUTHORIZATION, credentials).body(Full::default())
        }
        AccountPlace::Query(name) => {
            request.method(Method::GET).uri(format!("{path}?{}", pairs(name))).body(Full::default())
        }
    };
    request.map_err(|error| error.to_string())
}
