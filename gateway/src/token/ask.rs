//! Asking an issuer about an opaque token (RFC 7662). Closed when it does not answer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Full;
use policy::token::{Pronounced, Said, form, pronounced};
use policy::{Refusal, SiteName};
use tokio::sync::OnceCell;

use super::issuer::Issuer;
use super::memory::{Digest, Known, Proof, Tokens};
use super::{Bearer, now_of, refused};
use crate::config::TokenSource;

/// Most questions of one worker under way.
const MOST_ASKING: usize = 64;
/// Most of them for one site: tokens that nobody knows, from one site, keep no other from being asked about.
const MOST_OF_SITE: usize = 16;

/// What an answer under way will be, for all requests with that token.
type Answer = Rc<OnceCell<Result<Rc<Said>, Refusal>>>;

/// Questions under way, by site and by token.
#[derive(Default)]
pub(super) struct Questions {
    of_sites: RefCell<HashMap<SiteName, usize>>,
    answers: RefCell<HashMap<(*const Issuer, Digest), Answer>>,
}

/// Counts a question while it is under way.
struct Asking<'a>(&'a Questions, &'a SiteName);

impl<'a> Asking<'a> {
    fn begin(questions: &'a Questions, site: &'a SiteName) -> Option<Self> {
        let mut of_sites = questions.of_sites.borrow_mut();
        let count = of_sites.get(site).copied().unwrap_or(0);
        if count >= MOST_OF_SITE || of_sites.values().sum::<usize>() >= MOST_ASKING {
            return None;
        }
        of_sites.insert(site.clone(), count + 1);
        Some(Self(questions, site))
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut of_sites = self.0.of_sites.borrow_mut();
        match of_sites.get_mut(self.1) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(of_sites.remove(self.1)),
        }
    }
}

impl Questions {
    /// The answer that all requests with this token wait for.
    fn answer(&self, issuer: &Arc<Issuer>, digest: Digest) -> Answer {
        let mut answers = self.answers.borrow_mut();
        Rc::clone(answers.entry((Arc::as_ptr(issuer), digest)).or_default())
    }
}

/// Waits for an answer; the last that does so forgets it.
struct Waiting<'a>(&'a Questions, (*const Issuer, Digest), Answer);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut answers = self.0.answers.borrow_mut();
        if Rc::strong_count(&self.2) == 2 || self.2.initialized() {
            answers.retain(|of, answer| *of != self.1 || !Rc::ptr_eq(answer, &self.2));
        }
    }
}

impl Tokens {
    /// Asks once, however many requests come with the token meanwhile, and remembers the answer for a short while, a good one
    /// and a bad one.
    ///
    /// # Errors
    /// [`Refusal::TokenUnavailable`] without an answer; otherwise what the token is refused for.
    pub(super) async fn ask(
        &self,
        issuer: &Arc<Issuer>,
        token: &str,
        digest: Digest,
        bearer_is: &Bearer<'_>,
    ) -> Result<Rc<Said>, Refusal> {
        let answer = self.questions.answer(issuer, digest);
        let waiting = Waiting(&self.questions, (Arc::as_ptr(issuer), digest), answer);
        waiting.2.get_or_init(|| self.put(issuer, token, digest, bearer_is)).await.clone()
    }

    async fn put(
        &self,
        issuer: &Arc<Issuer>,
        token: &str,
        digest: Digest,
        bearer_is: &Bearer<'_>,
    ) -> Result<Rc<Said>, Refusal> {
        let TokenSource::Introspection(asked) = &issuer.config.source else { return Err(Refusal::InternalError) };
        let (rules, reading) = (&issuer.config.rules, bearer_is.reading);
        let _asking = Asking::begin(&self.questions, bearer_is.site).ok_or(Refusal::TokenUnavailable)?;
        let pronounced = question(issuer, &asked.url, token).await.map_err(|error| {
            tracing::warn!(issuer = %rules.name, %error, "an issuer does not say whether a token is good");
            Refusal::TokenUnavailable
        })?;
        let lasts_ns = u64::try_from(asked.cache.as_nanos()).unwrap_or(u64::MAX);
        // From the request's beginning: the answer is not older than that.
        let proof = Proof::Asked(reading.monotonic_ns.saturating_add(lasts_ns));
        let said = match pronounced {
            Pronounced::Active(claims) => {
                rules.judge(&claims, now_of(reading)).map_err(|fault| refused(&rules.name, fault))
            }
            Pronounced::Inactive => Err(Refusal::TokenInvalid),
        };
        let said = said.map(Rc::new);
        let known = said.as_ref().map_or_else(|refusal| Known::Bad(*refusal), |said| Known::Good(Rc::clone(said)));
        self.remember(digest, issuer, proof, known, reading);
        said
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
    let answer = client.ask(request).await.map_err(|error| error.to_string())?;
    if answer.status() != StatusCode::OK {
        return Err(format!("`{}` answers {}", url.escape_debug(), answer.status().as_u16()));
    }
    pronounced(answer.body(), &issuer.config.rules.issuer)
        .ok_or_else(|| format!("`{}` answers what is no answer (RFC 7662)", url.escape_debug()))
}
