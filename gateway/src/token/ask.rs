//! Asking an issuer about an opaque token (RFC 7662). Closed when it does not answer.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Full;
use policy::Refusal;
use policy::token::{Pronounced, Said, form, pronounced};

use super::issuer::Issuer;
use super::memory::{Digest, Known, Proof, Tokens};
use super::{now_of, refused};
use crate::clock::Reading;
use crate::config::TokenSource;

/// Most questions of one worker under way.
const MOST_ASKING: usize = 64;

/// Counts a question while it is under way.
struct Asking<'a>(&'a Cell<usize>);

impl<'a> Asking<'a> {
    fn begin(count: &'a Cell<usize>) -> Option<Self> {
        if count.get() >= MOST_ASKING {
            return None;
        }
        count.set(count.get() + 1);
        Some(Self(count))
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Tokens {
    /// Asks, and remembers the answer for a short while, a good one and a bad one.
    ///
    /// # Errors
    /// [`Refusal::TokenUnavailable`] without an answer; otherwise what the token is refused for.
    pub(super) async fn ask(
        &self,
        issuer: &Arc<Issuer>,
        token: &str,
        digest: Digest,
        reading: &Reading,
    ) -> Result<Rc<Said>, Refusal> {
        let TokenSource::Introspection(asked) = &issuer.config.source else { return Err(Refusal::InternalError) };
        let rules = &issuer.config.rules;
        let _asking = Asking::begin(&self.asking).ok_or(Refusal::TokenUnavailable)?;
        let pronounced = question(issuer, &asked.url, token).await.map_err(|error| {
            tracing::warn!(issuer = %rules.name, %error, "an issuer does not say whether a token is good");
            Refusal::TokenUnavailable
        })?;
        let lasts_ns = u64::try_from(asked.cache.as_nanos()).unwrap_or(u64::MAX);
        // From the request's beginning: the answer is not older than that.
        let proof = Proof::Asked(reading.monotonic_ns.saturating_add(lasts_ns));
        let said = match pronounced {
            Pronounced::Active(claims) => {
                rules.judge(&claims, now_of(reading)).map_err(|fault| refused(&rules.name, fault))?
            }
            Pronounced::Inactive => {
                self.remember(digest, issuer, proof, Known::Bad, reading);
                return Err(Refusal::TokenInvalid);
            }
        };
        let said = Rc::new(said);
        self.remember(digest, issuer, proof, Known::Good(Rc::clone(&said)), reading);
        Ok(said)
    }
}

async fn question(issuer: &Issuer, url: &str, token: &str) -> Result<Pronounced, String> {
    let client = issuer.client.as_ref().ok_or("there is no client")?;
    let target = url.parse::<http::Uri>().map_err(|error| error.to_string())?;
    let target = target.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::post(target)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(USER_AGENT, concat!("sekisho/", env!("CARGO_PKG_VERSION")));
    if let Some(credentials) = &issuer.credentials {
        request = request.header(AUTHORIZATION, credentials.clone());
    }
    let request = request.body(Full::new(Bytes::from(form(token)))).map_err(|error| error.to_string())?;
    let answer = client.exchange(request).await.map_err(|error| error.to_string())?;
    if answer.status() != StatusCode::OK {
        return Err(format!("`{}` answers {}", url.escape_debug(), answer.status().as_u16()));
    }
    pronounced(answer.body(), &issuer.config.rules.issuer)
        .ok_or_else(|| format!("`{}` answers what is no answer (RFC 7662)", url.escape_debug()))
}
