//! The one pipeline: what every request goes through, whatever door it came in by.
//!
//! `Connection → Subject → Action → Permit → Response`. Each type is made in one place and needed by the next, so
//! that a step left out does not compile. The [`Trail`] writes the records; dropped unfinished it writes that too.

mod answer;
mod normalise;
mod trail;

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use policy::judge::{self, Permit};
use policy::{Effect, Refusal};
use tokio::time::timeout;

use crate::answer::X_REQUEST_ID;
use crate::body::{CountedBody, RequestBody};
use crate::listen::Connection;
use crate::snapshot::Snapshot;

pub use answer::ResponseBody;
use normalise::Normal;
pub use normalise::origin_form;
use trail::{Asked, Target, Trail};

/// An exchange whose time is up before there is an answer gets so long to be told.
pub const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// Takes a request through the pipeline. There is always an answer.
pub async fn handle(connection: &Rc<Connection>, request: Request<RequestBody>) -> Response<ResponseBody> {
    let mut trail = Trail::begin(connection, request.method().as_str().as_bytes(), target_of(&request));
    if !connection.may_ask() {
        return trail.limit();
    }
    let passed = match connection.listener.limits.request_timeout {
        Some(limit) => timeout(limit, pass(connection, request, &mut trail)).await.ok(),
        None => Some(pass(connection, request, &mut trail).await),
    };
    match passed.unwrap_or_else(|| Err(trail.overdue())) {
        Ok(mut response) => {
            // Whatever the backend calls the request, the client and the log call it the same.
            response.headers_mut().insert(X_REQUEST_ID, trail.id_header());
            response.map(|body| ResponseBody::forwarded(body, trail))
        }
        Err(refusal) => trail.refuse(refusal).await,
    }
}

/// Records and answers a request that could not even be read.
pub async fn refuse(
    connection: &Rc<Connection>,
    refusal: Refusal,
    method: &str,
    target: &[u8],
) -> Response<ResponseBody> {
    Trail::begin(connection, method.as_bytes(), Target::Raw(Bytes::copy_from_slice(target))).refuse(refusal).await
}

async fn pass(
    connection: &Rc<Connection>,
    mut request: Request<RequestBody>,
    trail: &mut Trail,
) -> Result<Response<crate::upstream::UpstreamBody>, Refusal> {
    let worker = &connection.worker;
    let snapshot = worker.snapshot();
    trail.judged_by(&snapshot);

    let normal = Normal::of(connection, &mut request)?;
    trail.addressed_to(&normal.authority);
    let subject = snapshot.directory.lookup(connection.peer.device())?;
    trail.asked_by(&subject);
    worker.clock_allows(&snapshot)?;

    let uri = request.uri().clone();
    let target = normal.target(&uri, connection)?;
    let resolved = snapshot.routes.resolve(request.method().as_str(), &target)?;
    trail.asks(Asked::new(&resolved, &target));
    let permit = decide(connection, &snapshot, &subject, &resolved, &request, trail)?;

    if resolved.effect == Effect::Changing {
        trail.intends().await?;
    }
    let ours = worker.identify(
        connection,
        &snapshot,
        &subject,
        resolved.route.service(),
        &normal.authority,
        trail.id_header(),
    )?;
    let upstreams = worker.upstreams(&snapshot)?;
    let received = trail.forwards();
    let request = request.map(|body| CountedBody::new(body, received));
    let sent = Instant::now();
    let answer = upstreams.send(permit, resolved.route.service(), request, ours).await;
    worker
        .metrics
        .upstream_duration
        .with_label_values(&[resolved.route.service().as_str()])
        .observe(sent.elapsed().as_secs_f64());
    let answer = answer.map_err(|error| {
        tracing::warn!(request = trail.id(), service = %resolved.route.service(), %error, "the backend did not answer");
        trail.sent_to(error.backend.clone());
        error.refusal()
    })?;
    trail.sent_to(Some(answer.backend.clone()));
    trail.answered(answer.response.status()).await?;
    Ok(answer.response)
}

fn decide(
    connection: &Connection,
    snapshot: &Snapshot,
    subject: &policy::Subject,
    resolved: &policy::route::Resolved<'_>,
    request: &Request<RequestBody>,
    trail: &mut Trail,
) -> Result<Permit, Refusal> {
    let started = Instant::now();
    let context = judge::Context {
        transport: judge::Transport::Tls,
        tls_version: Some(connection.tls_version),
        source: connection.source.ip(),
        time: trail.time_ns(),
        method: Some(request.method().as_str()),
        operation: resolved.operation.as_deref(),
        resource_type: resolved.resource_type.as_deref(),
        patients: trail.patients(),
    };
    let asked = judge::Request {
        action: resolved.action,
        service: resolved.route.service(),
        class: resolved.class,
        route: resolved.route.name(),
        context,
    };
    let verdict = snapshot.judge.decide(&mut connection.worker.decisions.borrow_mut(), subject, &asked);
    connection.worker.metrics.policy_duration.observe(started.elapsed().as_secs_f64());
    match verdict {
        Ok(permit) => {
            trail.permitted(permit.policies(), started.elapsed());
            Ok(permit)
        }
        Err(denial) => {
            trail.denied(&denial.policies, started.elapsed());
            Err(denial.reason)
        }
    }
}

/// The target as it came, for the record: origin-form, or nothing where HTTP/2 sent none.
fn target_of(request: &Request<RequestBody>) -> Target {
    match request.uri().path_and_query() {
        Some(target) => Target::Origin(target.clone()),
        None => Target::Raw(Bytes::new()),
    }
}
