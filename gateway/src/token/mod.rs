//! Tokens of identity providers in the running gateway: whose keys are known, what a worker remembers, and whom it asks (R1).
//!
//! [`policy::token`] judges. An [`Issuer`] holds the keys that are in force, for all workers; [`keep`] fetches them in the
//! background, so that no request waits for that but one that names a key nobody knows. A worker's [`Tokens`] remember what
//! tokens said, so that a signature is checked once; who the user is, is looked up for each request.

mod ask;
mod cache;
mod issuer;
mod keeper;
mod memory;

use std::rc::Rc;

use policy::token::{Fault, Said, Unverified, bearer, is_compact};
use policy::{Refusal, SiteName};

pub(crate) use issuer::{Discovered, basic};
pub use issuer::{Issuer, TokenError};
pub use keeper::keep;
pub use memory::Tokens;

use crate::clock::Reading;
use crate::config::TokenSource;
use memory::{Digest, Known};

/// Error of a clock that nobody knows the error of, nanoseconds: as much as a kernel that is not kept claims at most.
const UNKNOWN_ERROR_NS: u64 = 16_000_000_000;

/// The moment that tokens are judged by.
pub(crate) fn now_of(reading: &Reading) -> policy::token::Now {
    let error_ns = i64::try_from(reading.error_ns.unwrap_or(UNKNOWN_ERROR_NS)).unwrap_or(i64::MAX);
    policy::token::Now { unix_ns: reading.unix_ns, error_ns }
}

/// Who shows a token.
pub struct Bearer<'a> {
    /// SHA-256 of the certificate that was proved; none of who comes by a tunnel and shows none.
    pub certificate: Option<&'a [u8; 32]>,
    /// The site that it comes from.
    pub site: &'a SiteName,
    /// When the request came.
    pub reading: &'a Reading,
}

impl Tokens {
    /// What the token says that a request carries in these values of `Authorization`; nothing where it carries none. Only
    /// `issuers` are believed.
    ///
    /// # Errors
    /// [`Refusal::RequestAmbiguous`], [`Refusal::TokenInvalid`], [`Refusal::TokenExpired`], [`Refusal::TokenNotBound`] or
    /// [`Refusal::TokenUnavailable`].
    pub async fn said(
        &self,
        issuers: &[&std::sync::Arc<Issuer>],
        values: &[&[u8]],
        bearer_is: &Bearer<'_>,
    ) -> Result<Option<Rc<Said>>, Refusal> {
        let Some(token) = bearer(values)? else { return Ok(None) };
        let digest = Digest::of(token);
        let said = match self.recall(&digest, issuers, bearer_is.reading) {
            Some(Known::Good(said)) => said,
            Some(Known::Bad(refusal)) => return Err(refusal),
            None => self.learn(issuers, token, digest, bearer_is).await?,
        };
        let held = said.holds(now_of(bearer_is.reading), bearer_is.certificate, bearer_is.site);
        held.map_err(|fault| refused(&said.issuer, fault))?;
        Ok(Some(said))
    }

    async fn learn(
        &self,
        issuers: &[&std::sync::Arc<Issuer>],
        token: &str,
        digest: Digest,
        bearer_is: &Bearer<'_>,
    ) -> Result<Rc<Said>, Refusal> {
        let reading = bearer_is.reading;
        let read =
            if is_compact(token) { Some(Unverified::read(token).map_err(|fault| refused("-", fault))?) } else { None };
        // A token that names its issuer goes to nobody else.
        let issuer = match &read {
            Some(read) => issuers.iter().find(|issuer| read.issuer() == Some(&issuer.config.rules.issuer)),
            None => issuers.iter().find(|issuer| matches!(issuer.config.source, TokenSource::Introspection(_))),
        };
        let Some(&issuer) = issuer else {
            tracing::debug!("a token is of no issuer that the route takes");
            return Err(Refusal::TokenInvalid);
        };
        if matches!(issuer.config.source, TokenSource::Introspection(_)) {
            return self.ask(issuer, token, digest, bearer_is).await;
        }
        let Some(read) = read else { return Err(Refusal::TokenInvalid) };
        let name = &issuer.config.rules.name;
        let said = match judge(issuer, read, reading)? {
            Err(Fault::UnknownKey) => {
                // The issuer may have a new key since its keys were fetched.
                if !issuer.refetched().await {
                    return Err(refused(name, Fault::UnknownKey));
                }
                let read = Unverified::read(token).map_err(|fault| refused(name, fault))?;
                judge(issuer, read, reading)?
            }
            judged => judged,
        };
        let (said, keys) = said.map_err(|fault| refused(name, fault))?;
        let said = Rc::new(said);
        self.remember(digest, issuer, memory::Proof::Keys(keys), Known::Good(Rc::clone(&said)), reading);
        Ok(said)
    }
}

/// What a token says by the keys in force, and the number of those.
fn judge(issuer: &Issuer, read: Unverified<'_>, reading: &Reading) -> Result<Result<(Said, u64), Fault>, Refusal> {
    let keys = issuer.keys().ok_or(Refusal::TokenUnavailable)?;
    let rules = &issuer.config.rules;
    let claims = read.verify(rules.kind, &rules.algorithms, &keys.set);
    Ok(claims.and_then(|claims| rules.judge(&claims, now_of(reading))).map(|said| (said, keys.number)))
}

/// Says why on the operator's side. No part of a token is ever written anywhere.
fn refused(issuer: &str, fault: Fault) -> Refusal {
    tracing::debug!(issuer, why = %fault, "a token is refused");
    fault.refusal()
}
