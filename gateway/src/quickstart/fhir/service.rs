//! From a request to an answer: which interaction it is (FHIR R4, RESTful API), and its execution.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::answer::{self, Fault};
use super::resources::{Resources, TYPES, is_id};
use super::search::{Query, bundle, find};
use super::{FHIR_VERSION, Options};

type Answer = Response<Full<Bytes>>;

/// The longest body taken, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Answers one request; what goes wrong is an answer as well.
pub(super) async fn respond(
    request: Request<Incoming>,
    resources: &Rc<RefCell<Resources>>,
    options: &Options,
) -> Result<Answer, Infallible> {
    Ok(interact(request, resources, options).await.unwrap_or_else(Answer::from))
}

async fn interact(
    request: Request<Incoming>,
    resources: &Rc<RefCell<Resources>>,
    options: &Options,
) -> Result<Answer, Fault> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if let Some(page) = path.strip_prefix("/ehr/") {
        let body = read(body).await?;
        return Ok(resources.borrow_mut().ehr.respond(&head.method, page, &head.headers, &body));
    }
    let Some(rest) = path.strip_prefix("/fhir/") else {
        return Err(Fault::not_found(path));
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let query = head.uri.query().unwrap_or_default();

    match (&head.method, parts.as_slice()) {
        (&Method::GET, ["metadata"]) => Ok(answer::body(StatusCode::OK, &capabilities(&options.base))),
        (&Method::GET, ["$echo-headers"]) if options.echo_headers => {
            Ok(answer::body(StatusCode::OK, &echo(&head.headers)))
        }
        (_, [kind, ..]) if !TYPES.contains(kind) => Err(Fault::not_found(path)),
        (&Method::GET, [kind]) => search(kind, query, resources, options),
        (&Method::POST, [kind, "_search"]) => {
            media_type(&head.headers, &["application/x-www-form-urlencoded"])?;
            let form = read(body).await?;
            let form = std::str::from_utf8(&form).map_err(|_| Fault::invalid("the form is not UTF-8"))?;
            search(kind, &join(query, form), resources, options)
        }
        (&Method::POST, [kind]) => {
            let resource = parse(&head.headers, body, kind).await?;
            let created = resources.borrow_mut().create(kind, resource)?;
            let id = created.get("id").and_then(Value::as_str).unwrap_or_default();
            let location = format!("{}/{kind}/{id}", options.base);
            Ok(answer::resource(StatusCode::CREATED, &created, Some(location)))
        }
        (_, [_, id, ..]) if !is_id(id) => Err(Fault::invalid(format!("`{}` is not an id", id.escape_debug()))),
        (&Method::GET, [kind, id]) => {
            let found = resources.borrow().read(kind, id)?;
            Ok(answer::resource(StatusCode::OK, &found, None))
        }
        (&Method::GET, ["Patient", id, "$everything"]) => {
            let resources = resources.borrow();
            let mut all = vec![resources.read("Patient", id)?];
            all.extend(resources.of_patient(id).cloned());
            let total = all.len();
            Ok(answer::body(StatusCode::OK, &bundle(&options.base, rest, &all, total)))
        }
        (&Method::PUT, [kind, id]) => {
            let resource = parse(&head.headers, body, kind).await?;
            if resource.get("id").and_then(Value::as_str) != Some(id) {
                return Err(Fault::invalid(format!("the resource's `id` is not `{id}`")));
            }
            let (updated, new) = resources.borrow_mut().update(kind, id, resource)?;
            let location = new.then(|| format!("{}/{kind}/{id}", options.base));
            let status = if new { StatusCode::CREATED } else { StatusCode::OK };
            Ok(answer::resource(status, &updated, location))
        }
        (&Method::DELETE, [kind, id]) => {
            resources.borrow_mut().delete(kind, id);
            Ok(answer::nothing())
        }
        (_, [_] | [_, _] | ["Patient", _, "$everything"]) => Err(Fault::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "not-supported",
            format!("`{}` is not supported on `{path}`", head.method),
        )),
        _ => Err(Fault::not_found(path)),
    }
}

fn search(kind: &str, query: &str, resources: &Rc<RefCell<Resources>>, options: &Options) -> Result<Answer, Fault> {
    let query = Query::parse(query)?;
    let resources = resources.borrow();
    let (page, total) = find(&resources, kind, &query)?;
    let this = format!("{kind}{}", query.link());
    Ok(answer::body(StatusCode::OK, &bundle(&options.base, &this, &page, total)))
}

/// Parameters of `POST Type/_search` may stand in the target and in the body (FHIR R4, 3.1.0.4).
fn join(query: &str, form: &str) -> String {
    match (query.is_empty(), form.is_empty()) {
        (true, _) => form.to_owned(),
        (_, true) => query.to_owned(),
        _ => format!("{query}&{form}"),
    }
}

async fn read(body: Incoming) -> Result<Bytes, Fault> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Fault::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-long",
            format!("the body is longer than {MAX_BODY} bytes"),
        )),
        Err(_) => Err(Fault::invalid("the body ended early")),
    }
}

async fn parse(headers: &HeaderMap, body: Incoming, kind: &str) -> Result<Value, Fault> {
    media_type(headers, &[answer::FHIR_JSON, "application/json"])?;
    let body = read(body).await?;
    let resource: Value =
        serde_json::from_slice(&body).map_err(|error| Fault::invalid(format!("the body is not JSON: {error}")))?;
    if resource.get("resourceType").and_then(Value::as_str) == Some(kind) {
        Ok(resource)
    } else {
        Err(Fault::invalid(format!("the body is not a `{kind}`")))
    }
}

fn media_type(headers: &HeaderMap, accepted: &[&str]) -> Result<(), Fault> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if accepted.iter().any(|one| essence.eq_ignore_ascii_case(one)) {
        Ok(())
    } else {
        Err(Fault::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-supported",
            format!("the body must be `{}`", accepted.join("` or `")),
        ))
    }
}

/// The fields in the order received, each occurrence apart.
fn echo(headers: &HeaderMap) -> Value {
    let fields: Vec<_> =
        headers.iter().map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])).collect();
    json!({ "headers": fields })
}

fn capabilities(base: &str) -> Value {
    let interactions = ["read", "search-type", "create", "update", "delete"].map(|code| json!({ "code": code }));
    let types: Vec<_> = TYPES
        .iter()
        .map(|kind| json!({ "type": kind, "interaction": interactions, "versioning": "versioned" }))
        .collect();
    json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "experimental": true,
        "date": "2026-04-01",
        "kind": "instance",
        "software": { "name": "Sekisho demonstration server: synthetic data only" },
        "implementation": { "description": "Synthetic patients, kept in memory", "url": base },
        "fhirVersion": FHIR_VERSION,
        "format": ["json"],
        "rest": [{ "mode": "server", "resource": types }],
    })
}
