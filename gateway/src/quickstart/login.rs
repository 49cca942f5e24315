//! What the example shows of logins: a guard, a session, and a stolen cookie. Each scene goes on from the one before.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use http::{HeaderValue, Request};
use http_body_util::Full;
use policy::Refusal;

use super::check::{Line, problem_label, sight, text};
use super::client::{Client, Seen, Version};
use super::layout::Layout;
use super::{log, show};

/// One request and what is to come of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoginScene {
    pub(super) title: &'static str,
    /// What a person is to see in it.
    pub(super) story: &'static str,
    /// Site and device whose certificate is presented.
    pub(super) client: (&'static str, &'static str),
    pub(super) target: &'static str,
    /// A form to send. `{run}` is another word each time, so that a lockout of the last run is none of this one's.
    pub(super) form: Option<&'static str>,
    /// Whether the cookie of the last login comes with it.
    pub(super) cookie: bool,
    pub(super) expected: Told,
    /// The kind of record that there must be beside the request's own.
    record: Option<&'static str>,
}

/// What is to come of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// An answer of the application.
    Answer(u16),
    /// The gateway's word.
    Refused(u16, Refusal),
}

const DOCTOR: (&str, &str) = ("sakura-clinic", "doctor-terminal");
const NURSE: (&str, &str) = ("sakura-clinic", "nurse-terminal");
const GUESS: LoginScene = LoginScene {
    title: "wrong password",
    story: "Somebody guesses a password. After three the account is locked out for a minute.",
    client: DOCTOR,
    target: "/ehr/login",
    form: Some("username=guest-{run}&password=guess"),
    cookie: false,
    expected: Told::Answer(200),
    record: Some("login"),
};

/// In the order in which they are shown.
pub(super) const LOGINS: &[LoginScene] = &[
    GUESS,
    GUESS,
    GUESS,
    LoginScene {
        title: "lockout",
        story: "The fourth guess does not reach the application.",
        expected: Told::Refused(429, Refusal::LoginPaused),
        ..GUESS
    },
    LoginScene {
        title: "login",
        story: "A doctor logs in to an old application, which knows nothing of the gateway.",
        client: DOCTOR,
        target: "/ehr/login",
        form: Some("username=dr-yamamoto&password=sakura"),
        cookie: false,
        expected: Told::Answer(302),
        record: Some("session"),
    },
    LoginScene {
        title: "session",
        story: "From then on the doctor asks, in policies and records.",
        client: DOCTOR,
        target: "/ehr/home",
        form: None,
        cookie: true,
        expected: Told::Answer(200),
        record: None,
    },
    LoginScene {
        title: "stolen cookie",
        story: "The same cookie from another terminal: refused, and the session is over.",
        client: NURSE,
        target: "/ehr/home",
        form: None,
        cookie: true,
        expected: Told::Refused(403, Refusal::SessionStolen),
        record: Some("session"),
    },
    LoginScene {
        title: "session is over",
        story: "The doctor is asked to log in again.",
        client: DOCTOR,
        target: "/ehr/home",
        form: None,
        cookie: true,
        expected: Told::Answer(302),
        record: None,
    },
];

/// Runs the scenes. Returns a line for each, and what the audit log must know of them.
pub(super) async fn play(layout: &Layout, client: &Client) -> (Vec<Line>, Vec<log::Trace>) {
    let mut random = [0; 4];
    // Without random bytes the second run within a minute meets the first one's lockout.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let run = format!("{:08x}", u32::from_be_bytes(random));
    let (mut lines, mut traces) = (Vec::new(), Vec::new());
    let mut cookie: Option<String> = None;
    for scene in LOGINS {
        let (site, device) = scene.client;
        let identity = layout.client(site, device);
        let seen = match request(layout, scene, cookie.as_deref(), &run) {
            Ok(request) => client.ask(Some(&identity), Version::H1, request).await,
            Err(error) => Seen::Failed(error.to_string()),
        };
        let mut id = None;
        if let Seen::Answer { headers, .. } = &seen {
            let set = headers.get(SET_COOKIE).and_then(|value| value.to_str().ok());
            cookie = set.and_then(|value| value.split(';').next()).map(str::to_owned).or(cookie);
            id = text(headers, "x-request-id").map(str::to_owned);
        }
        let agrees = agrees(scene.expected, &seen) && id.is_some();
        lines.push(Line::of(scene.title, expectation(scene.expected), sight(&seen, id.is_some()), agrees));
        if let Some(id) = id {
            traces.extend(scene.record.map(|kind| log::Trace::Beside(id.clone(), kind)));
            traces.push(log::Trace::Request(id));
        }
    }
    (lines, traces)
}

fn request(layout: &Layout, scene: &LoginScene, cookie: Option<&str>, run: &str) -> http::Result<Request<Full<Bytes>>> {
    let base = show::base(layout.addresses().listen, "https");
    let authority = base.strip_prefix("https://").unwrap_or_default().to_owned();
    let mut builder = Request::builder().uri(scene.target).header(HOST, authority);
    if let Some(cookie) = cookie.filter(|_| scene.cookie) {
        builder = builder.header(COOKIE, HeaderValue::from_str(cookie)?);
    }
    match scene.form {
        Some(form) => builder
            .method("POST")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form.replace("{run}", run))),
        None => builder.body(Full::default()),
    }
}

fn expectation(expected: Told) -> String {
    match expected {
        Told::Answer(status) => status.to_string(),
        Told::Refused(status, reason) => format!("{status} {reason}"),
    }
}

fn agrees(expected: Told, seen: &Seen) -> bool {
    match (expected, seen) {
        (Told::Answer(expected), Seen::Answer { status, body, .. }) => {
            expected == *status && problem_label(body).is_none()
        }
        (Told::Refused(expected, reason), Seen::Answer { status, body, .. }) => {
            expected == *status && problem_label(body).as_deref() == Some(reason.label())
        }
        (Told::Answer(_) | Told::Refused(..), _) => false,
    }
}
