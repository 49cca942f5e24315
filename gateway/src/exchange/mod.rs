//! The one pipeline: what every request goes through, whatever door it came in by.
//!
//! `Connection → Subject → Action → Permit → Response`. Each type is made in one place and needed by the next, so
//! that a step left out does not compile. The [`Trail`] writes the records; dropped unfinished it writes that too.

mod account;
mod answer;
mod asked;
mod forwarded;
mod grpc;
mod login;
mod meters;
mod normalise;
mod oidc;
mod patients;
mod session;
mod step_up;
mod stream;
mod token;
mod trail;
mod unavailable;
mod websocket;

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::ALT_SVC;
use http::{Request, Response, StatusCode};
use policy::judge::{self, Permit};
use policy::route::Place;
use policy::{Action, Effect, InformationClass, Refusal, RouteName, ServiceName};

use crate::answer::X_REQUEST_ID;
use crate::body::{CountedBody, RequestBody};
use crate::clock::Clock as _;
use crate::config::Balance;
use crate::listen::Connection;
use crate::snapshot::Snapshot;
use crate::upstream;
use crate::worker::Sending;

pub use answer::ResponseBody;
use asked::{Asked, Target};
pub use grpc::is_call as is_grpc_call;
pub use meters::Meters;
use normalise::Normal;
pub use normalise::origin_form;
pub(crate) use stream::serve as serve_stream;
use trail::{Trail, seconds};

/// An exchange whose time is up before there is an answer gets so long to be told.
pub const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// Takes a request through the pipeline. There is always an answer.
pub async fn handle(connection: &Rc<Connection>, request: Request<RequestBody>) -> Response<ResponseBody> {
    let mut response = answer(connection, request).await;
    if let Some(alt_svc) = &connection.alt_svc {
        response.headers_mut().insert(ALT_SVC, alt_svc.clone());
    }
    response
}

async fn answer(connection: &Rc<Connection>, request: Request<RequestBody>) -> Response<ResponseBody> {
    let mut trail = Trail::begin(connection, request.method().as_str().as_bytes(), target_of(&request));
    trail.calls_grpc(grpc::is_call(&request));
    if !connection.may_ask() {
        return trail.limit();
    }
    let passed = {
        let mut deadline = connection.deadline(Duration::ZERO);
        let mut passing = pin!(pass(connection, request, &mut trail));
        poll_fn(|cx| match passing.as_mut().poll(cx) {
            Poll::Ready(passed) => Poll::Ready(Some(passed)),
            Poll::Pending => deadline.poll_expired(cx).map(|()| None),
        })
        .await
    };
    match passed.unwrap_or_else(|| Err(trail.overdue())) {
        Ok(Passed::Own(page)) => trail.page(page).await,
        Ok(Passed::Forwarded(mut response)) => {
            // Whatever the backend calls the request, the client and the log call it the same.
            response.headers_mut().insert(X_REQUEST_ID, trail.id_header());
            response.map(|body| ResponseBody::forwarded(body, trail))
        }
        // Only what is counted before anything is remembered of it ends so.
        Err(Refusal::RateLimited) => trail.limit(),
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

/// What a request is answered with.
enum Passed {
    /// A backend's answer.
    Forwarded(Response<crate::upstream::UpstreamBody>),
    /// A page of the gateway's own.
    Own(account::Own),
}

async fn pass(
    connection: &Rc<Connection>,
    mut request: Request<RequestBody>,
    trail: &mut Trail,
) -> Result<Passed, Refusal> {
    let worker = &connection.worker;
    let snapshot = worker.snapshot();
    trail.judged_by(&snapshot);

    let normal = Normal::of(connection, &mut request)?;
    trail.addressed_to(&normal.authority);
    if let Some(listed) = &connection.listener.forwarded {
        trail.told(forwarded::told(listed, connection.source().ip(), request.headers())?);
    }
    let mut subject = connection.subject(&snapshot)?;
    trail.asked_by(&subject);
    worker.clock_allows(&snapshot, trail.begun())?;
    trail.counts_for_quotas(&snapshot)?;

    let uri = request.uri().clone();
    let target = normal.target(&uri, connection)?;
    let opens = matches!(request.body(), RequestBody::Tunnel(_));
    if account::takes(connection, &target) {
        if opens {
            return Err(Refusal::UpgradeRefused);
        }
        let asked = account::Asked {
            connection,
            snapshot: &snapshot,
            subject: &subject,
            authority: &normal.authority,
            source: trail.source(),
        };
        return Box::pin(asked.serve(&target, &mut request, trail)).await.map(Passed::Own);
    }
    let brought = account::of_request(connection, &subject, &mut request, trail)?;
    let device = Arc::clone(&subject);
    let place = Place { host: normal.host(connection), ..snapshot.config.place_of(&connection.listener) };
    let resolved = if opens {
        snapshot.routes.resolve_websocket(place, &target)?
    } else {
        snapshot.routes.resolve(place, request.method().as_str(), &target)?
    };
    trail.asks(Asked::new(&resolved, &target, opens));
    let tunnel = if opens { Some(websocket::may_open(resolved.route, &request, &normal.authority)?) } else { None };
    let mut by_token = None;
    if let Some(rules) = resolved.route.token() {
        subject = Box::pin(token::bear(connection, &snapshot, rules, &subject, &mut request, trail)).await?;
        by_token = trail.is_borne().then(|| Arc::clone(&subject));
    }
    if let Some(rules) = resolved.route.oidc()
        && by_token.is_none()
        && !brought.session.as_ref().is_some_and(|own| oidc::is_of(own, &rules.provider))
    {
        let asked = account::Asked {
            connection,
            snapshot: &snapshot,
            subject: &subject,
            authority: &normal.authority,
            source: trail.source(),
        };
        return Box::pin(oidc::require(&asked, rules, &brought, &target, &request)).await.map(Passed::Own);
    }
    let mut seen = match resolved.route.observed() {
        Some(observed) => {
            let route = (observed, resolved.route.login().is_some());
            let (user, seen) = session::identify(connection, &snapshot, route, subject, &mut request, trail).await?;
            subject = user;
            Some(seen)
        }
        None => None,
    };
    if let Some(own) = brought.session {
        subject = account::carry_own(connection, &snapshot, &own, (&device, &subject), trail)?;
    }
    if let Some(by_token) = by_token {
        // A session and a token of two users: nobody knows who asks.
        if subject.user() != by_token.user() {
            return Err(Refusal::RequestAmbiguous);
        }
        trail.asked_by(&by_token);
        subject = by_token;
    }
    let mut attempt = match resolved.route.login() {
        Some(rules) => Box::pin(login::guard(connection, &snapshot, rules, &subject, &mut request, trail)).await?,
        None => None,
    };
    let permit = match decide(connection, &snapshot, &subject, &resolved, &request, trail) {
        Ok(permit) => permit,
        Err(denied) => {
            let Denied { reason, step_up, age_ns } = denied;
            let lacking = step_up.map(|step_up| step_up::Lacking {
                connection,
                snapshot: &snapshot,
                subject: &subject,
                route: resolved.route,
                step_up,
                age_ns,
            });
            return lacking.and_then(|lacking| lacking.answer(&request, trail)).map(Passed::Own).ok_or(reason);
        }
    };

    if resolved.effect == Effect::Changing {
        trail.intends().await?;
    }
    let sending = Sending {
        service: resolved.route.service(),
        authority: &normal.authority,
        request_id: trail.id_header(),
        reading: trail.begun(),
    };
    let mut ours = worker.identify(connection, &snapshot, &subject, sending)?;
    if let Some(forwarded) = trail.forwarded(&normal.authority) {
        ours.forwarded = forwarded?;
    }
    let upstreams = worker.upstreams(&snapshot)?;
    if let Some(attempt) = &mut attempt {
        attempt.sends(trail).await?;
    }
    trail.read_by(unavailable::reader(&request));
    let tap = trail.reads_request(&request);
    let received = trail.forwards();
    let request = request.map(|body| CountedBody::new(body, received, tap));
    let asked = upstream::Asked {
        reads: resolved.effect == Effect::ReadOnly,
        deadline: grpc::deadline(trail.is_grpc(), request.headers(), resolved.route.deadline()),
        affinity: affinity(upstreams.balance(resolved.route.service()), &subject, trail),
        client: Some(trail.client()),
        tunnel,
    };
    let sent = upstreams.send(permit, resolved.route.service(), request, ours, asked);
    let answer = match trail.carried() {
        None => sent.await,
        Some(carried) => match carried.control.run(pin!(sent)).await {
            Ok(answer) => answer,
            Err(ended) => {
                trail.sent_to(None);
                return Err(ended);
            }
        },
    };
    let backend = match &answer {
        Ok(answer) => Some(Arc::clone(&answer.backend)),
        Err(error) => error.backend.clone(),
    };
    let took_ns = trail.sent_to(backend);
    connection.meters.waited(&worker.metrics, resolved.route.service(), seconds(took_ns));
    let mut response = match answer {
        Ok(answer) => answer.response,
        Err(error) => {
            tracing::warn!(request = trail.id(), service = %resolved.route.service(), %error, "the backend did not answer");
            if let Some(attempt) = attempt {
                attempt.unanswered(&error, trail);
            }
            if let Some(after) = error.retry_after {
                trail.retry_after(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
            }
            return Err(error.refusal());
        }
    };
    if let Some(attempt) = attempt {
        response = Box::pin(attempt.answered(response, connection, &mut seen, trail)).await?;
    }
    if let Some(seen) = seen {
        seen.answered(&response, connection, trail).await?;
    }
    trail.reads_answer(&response);
    trail.answered(response.status()).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        trail.opened();
    }
    Ok(Passed::Forwarded(response))
}

/// What a request is always sent to the same server by, where its service wants that.
fn affinity(balance: Balance, subject: &policy::Subject, trail: &Trail) -> Option<u64> {
    match balance {
        Balance::LeastRequests => None,
        Balance::Site => subject.site().map(|site| upstream::affinity_of(site.as_str().as_bytes())),
        Balance::Patient => {
            let mut least: Option<u64> = None;
            // Of several the same one, in whatever order they are named.
            trail.patients().each(&mut |patient| {
                let hash = upstream::affinity_of(patient.as_bytes());
                least = Some(least.map_or(hash, |least| least.min(hash)));
            });
            least
        }
    }
}

/// The judge's no, and what is known beside it.
struct Denied {
    reason: Refusal,
    step_up: Option<judge::StepUp>,
    /// How long ago the user was proved, nanoseconds.
    age_ns: Option<u64>,
}

fn decide(
    connection: &Connection,
    snapshot: &Snapshot,
    subject: &policy::Subject,
    resolved: &policy::route::Resolved<'_>,
    request: &Request<RequestBody>,
    trail: &mut Trail,
) -> Result<Permit, Denied> {
    let question = Question {
        action: resolved.action,
        service: resolved.route.service(),
        class: resolved.class,
        route: resolved.route.name(),
        method: Some(request.method().as_str()),
        operation: resolved.operation.as_deref(),
        resource_type: resolved.resource_type.as_deref(),
    };
    judged(connection, snapshot, subject, &question, trail)
}

/// What the judge is asked, whatever protocol asks it; its patients are the trail's.
struct Question<'a> {
    action: Action,
    service: &'a ServiceName,
    class: &'a InformationClass,
    route: &'a RouteName,
    method: Option<&'a str>,
    operation: Option<&'a str>,
    resource_type: Option<&'a str>,
}

fn judged(
    connection: &Connection,
    snapshot: &Snapshot,
    subject: &policy::Subject,
    question: &Question<'_>,
    trail: &mut Trail,
) -> Result<Permit, Denied> {
    let clock = &connection.worker.clock;
    let from_ns = clock.monotonic_ns();
    let age_ns = trail.proof_age_ns(subject, from_ns);
    let context = judge::Context {
        transport: connection.peer.transport(),
        tls_version: connection.tls_version,
        source: trail.source(),
        time: trail.begun().unix_ns,
        authentication_age_ns: age_ns,
        method: question.method,
        operation: question.operation,
        resource_type: question.resource_type,
        patients: trail.patients(),
    };
    let asked = judge::Request {
        action: question.action,
        service: question.service,
        class: question.class,
        route: question.route,
        context,
    };
    let verdict = snapshot.judge.decide(&mut connection.worker.decisions.borrow_mut(), subject, &asked);
    let until_ns = clock.monotonic_ns();
    connection.worker.metrics.policy_duration.observe(seconds(until_ns.saturating_sub(from_ns)));
    match verdict {
        Ok(permit) => {
            trail.permitted(permit.policies(), from_ns, until_ns);
            Ok(permit)
        }
        Err(denial) => {
            trail.denied(&denial.policies, from_ns, until_ns);
            Err(Denied { reason: denial.reason, step_up: denial.step_up, age_ns })
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
