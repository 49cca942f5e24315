//! Beside FHIR, an application as old ones are: a form, a cookie, and a page that says who is logged in. It knows nothing of the
//! gateway.

use std::collections::HashMap;

use http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use policy::target::form_pairs;

/// The password of everybody who is somebody.
const PASSWORD: &str = "sakura";
const FORM: &str =
    "<form method=post><input name=username><input name=password type=password><button>Log in</button></form>";

/// Whose sessions are whose.
#[derive(Debug, Default)]
pub(super) struct Ehr {
    users: HashMap<String, String>,
}

impl Ehr {
    /// Answers one request below `/ehr/`.
    pub(super) fn respond(
        &mut self,
        method: &Method,
        page: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Response<Full<bytes::Bytes>> {
        match (method, page) {
            (&Method::GET, "login") => html(StatusCode::OK, FORM.to_owned()),
            (&Method::POST, "login") => self.login(body),
            (&Method::GET, "home") => match self.user(headers) {
                Some(user) => html(StatusCode::OK, format!("<p>Welcome, {user}</p>")),
                None => redirect("/ehr/login"),
            },
            (&Method::POST, "logout") => {
                let mut answer = redirect("/ehr/login");
                answer.headers_mut().insert(SET_COOKIE, HeaderValue::from_static("ehr=; Path=/; Max-Age=0"));
                answer
            }
            _ => html(StatusCode::NOT_FOUND, "<p>There is nothing here.</p>".to_owned()),
        }
    }

    fn login(&mut self, body: &[u8]) -> Response<Full<bytes::Bytes>> {
        let field = |name: &str| form_pairs(body).find(|(found, _)| found == name).map(|(_, value)| value.into_owned());
        let (user, password) = (field("username").unwrap_or_default(), field("password").unwrap_or_default());
        let mut random = [0; 16];
        let is_known = user.starts_with("dr-") || user.starts_with("ns-");
        if !is_known || password != PASSWORD || aws_lc_rs::rand::fill(&mut random).is_err() {
            return html(StatusCode::OK, format!("<p>No.</p>{FORM}"));
        }
        let session = format!("{:032x}", u128::from_be_bytes(random));
        let mut answer = redirect("/ehr/home");
        if let Ok(cookie) = HeaderValue::from_str(&format!("ehr={session}; Path=/; HttpOnly")) {
            answer.headers_mut().insert(SET_COOKIE, cookie);
        }
        self.users.insert(session, user);
        answer
    }

    fn user(&self, headers: &HeaderMap) -> Option<&str> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';'));
        let session = pairs.find_map(|pair| pair.trim().strip_prefix("ehr="))?;
        self.users.get(session).map(String::as_str)
    }
}

fn html(status: StatusCode, body: String) -> Response<Full<bytes::Bytes>> {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    answer
}

fn redirect(to: &'static str) -> Response<Full<bytes::Bytes>> {
    let mut answer = html(StatusCode::FOUND, String::new());
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static(to));
    answer
}
