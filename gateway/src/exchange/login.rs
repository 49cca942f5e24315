//! Step 3: a login goes through the guard (R8, C14).
//!
//! The account is read, the attempt is reserved, and only then anybody is asked whether the request may be made at all. The
//! backend's answer says what came of it. Whatever ends a request in between settles its attempt: as withdrawn where no
//! backend can have seen it, as failed where one may have.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use gateway_audit::record::LoginOutcome;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION};
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use policy::login::read::{self, Asked, Head};
use policy::login::{AccountName, AccountPlace, Attempt, Ended, Login, Reason, answer};
use policy::{Refusal, Subject, UserName};

use super::session::{self, Seen};
use super::trail::Trail;
use crate::body::{BodyError, FullBody, RequestBody};
use crate::listen::{Connection, network_of};
use crate::login::{Password, Reservation, origin_of};
use crate::snapshot::Snapshot;
use crate::upstream::{UpstreamBody, UpstreamError};

/// An attempt that may be forwarded.
pub(super) struct Attempted {
    login: Arc<Login>,
    pass: Pass,
    password: Option<Password>,
    /// Who logs in, where the registry knows.
    user: Option<UserName>,
}

/// By what it passes the guard.
enum Pass {
    Reserved(Reservation),
    /// Its password was right a while ago.
    Verified(Attempt),
}

pub(super) fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect()
}

/// Takes a request of a login route through the guard; nothing if it is no attempt. Its body is read, and put back whole.
///
/// # Errors
/// The refusal; [`Refusal::RateLimited`] is to be counted, not recorded.
pub(super) async fn guard(
    connection: &Connection,
    snapshot: &Snapshot,
    login: &Arc<Login>,
    subject: &Subject,
    request: &mut Request<RequestBody>,
    trail: &mut Trail,
) -> Result<Option<Attempted>, Refusal> {
    trail.hides_query();
    let headers = request.headers();
    let asked = read::head(
        login,
        &Head {
            method: request.method().as_str(),
            query: request.uri().query(),
            has_body: !request.body().is_end_stream(),
            values: &|name| values(headers, name),
        },
    )?;
    let logins = connection.worker.logins();
    let address = network_of(trail.source());
    let attempt_at = |account: AccountName| Attempt {
        realm: Arc::clone(&login.realm),
        account,
        origin: origin_of(&subject.party),
        address,
    };
    let account = match asked {
        Asked::Nothing => return Ok(None),
        Asked::Account(account) => account,
        Asked::Body => {
            let bytes = whole(request.body_mut(), login.max_body_bytes, trail).await?;
            let account = read::body(login, &bytes);
            *request.body_mut() = RequestBody::Whole(FullBody::new(bytes));
            account?
        }
    };
    let attempt = attempt_at(account);
    let user =
        session::user_of(login, &attempt.account, subject, snapshot).inspect_err(|_| trail.attempts(&attempt))?;
    let password = match login.place {
        AccountPlace::Basic => request.headers().get(AUTHORIZATION).map(|value| Password::new(value.as_bytes())),
        AccountPlace::Form(_) | AccountPlace::Json(_) | AccountPlace::Query(_) => None,
    };
    if login.needs_answer_body() {
        // What is compressed says nothing here.
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    if let Some(password) = password.as_ref().filter(|password| logins.knows(&attempt, password)) {
        trail.attempts(&attempt);
        let password = Some(Password::clone(password));
        return Ok(Some(Attempted { login: Arc::clone(login), pass: Pass::Verified(attempt), password, user }));
    }
    if !logins.admits(&attempt) {
        return Err(Refusal::RateLimited);
    }
    trail.attempts(&attempt);
    if connection.worker.is_draining() {
        return Err(Refusal::Draining);
    }
    match logins.reserve(attempt) {
        Ok(reservation) => {
            Ok(Some(Attempted { login: Arc::clone(login), pass: Pass::Reserved(reservation), password, user }))
        }
        Err(refused) => {
            let (outcome, refusal) = match refused.reason {
                Reason::Paused => (LoginOutcome::Paused, Refusal::LoginPaused),
                Reason::Locked => (LoginOutcome::Locked, Refusal::LoginLocked),
                Reason::Full => (LoginOutcome::Unavailable, Refusal::LoginUnavailable),
            };
            trail.attempt_ends(outcome);
            trail.retry_after(refused.retry_after_ns);
            Err(refusal)
        }
    }
}

/// The whole of a body.
pub(super) async fn whole(body: &mut RequestBody, most: usize, trail: &mut Trail) -> Result<Bytes, Refusal> {
    trail.awaits_body(true);
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| match error {
            BodyError::Refused(refusal) => refusal,
            BodyError::Broken(_) | BodyError::Idle => Refusal::RequestMalformed,
        })?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > most {
                return Err(Refusal::BodyTooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    trail.awaits_body(false);
    Ok(bytes.freeze())
}

impl Attempted {
    /// Returns once a backend may see the password: the attempt is where no crash forgets it.
    ///
    /// # Errors
    /// [`Refusal::LoginUnavailable`].
    pub(super) async fn sends(&mut self, trail: &mut Trail) -> Result<(), Refusal> {
        if let Pass::Reserved(reservation) = &mut self.pass {
            reservation.sends().await.inspect_err(|_| trail.attempt_ends(LoginOutcome::Unavailable))?;
        }
        trail.attempt_ends(LoginOutcome::NoAnswer);
        Ok(())
    }

    /// There is no answer.
    pub(super) fn unanswered(self, error: &UpstreamError, trail: &mut Trail) {
        if !error.sent {
            trail.attempt_ends(LoginOutcome::NotSent);
            if let Pass::Reserved(reservation) = self.pass {
                reservation.settle(Ended::Withdrawn);
            }
        }
    }

    /// Learns from the answer what came of the attempt. Its body is read as far as that takes, and put back.
    ///
    /// # Errors
    /// [`Refusal::BackendMalformed`] if the body ends early; then the attempt failed. [`Refusal::SessionUnavailable`] if it
    /// succeeded, and no session can begin.
    pub(super) async fn answered(
        self,
        answer: Response<UpstreamBody>,
        connection: &Connection,
        seen: &mut Option<Seen>,
        trail: &mut Trail,
    ) -> Result<Response<UpstreamBody>, Refusal> {
        let Self { login, pass, password, user } = self;
        let (parts, mut body) = answer.into_parts();
        if login.needs_answer_body() {
            body = body.read_ahead(login.max_answer_bytes).await.map_err(|_| Refusal::BackendMalformed)?;
        }
        let whole = body.whole().filter(|bytes| bytes.len() <= login.max_answer_bytes);
        let said = login.said(&answer::Answer {
            status: parts.status.as_u16(),
            values: &|name| values(&parts.headers, name),
            body: whole.map(|bytes| &bytes[..]),
        });
        let (outcome, ended) = match said {
            answer::Said::Success => (LoginOutcome::Success, Ended::Succeeded),
            answer::Said::Failure => (LoginOutcome::Failure, Ended::Failed),
            answer::Said::Unclear => (LoginOutcome::Unclear, Ended::Failed),
        };
        trail.attempt_ends(outcome);
        let logins = connection.worker.logins();
        let attempt = match &pass {
            Pass::Reserved(reservation) => &reservation.attempt,
            Pass::Verified(attempt) => attempt,
        };
        if let Some(password) = &password {
            logins.learns(attempt, password, ended == Ended::Succeeded);
        }
        let begun = if ended == Ended::Succeeded {
            let answer = (&parts.headers, whole.map(|bytes| &bytes[..]));
            session::begin(&login, &attempt.account, user, seen.take(), answer, connection, trail)
        } else {
            Ok(())
        };
        match pass {
            Pass::Reserved(reservation) => reservation.settle(ended),
            Pass::Verified(attempt) if ended == Ended::Failed => logins.fails(&attempt),
            Pass::Verified(_) => {}
        }
        begun?;
        Ok(Response::from_parts(parts, body))
    }
}
