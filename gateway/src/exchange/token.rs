//! Step 2, where a route takes tokens: whoever the token names is who asks (R1, R9).

use std::rc::Rc;
use std::sync::Arc;

use http::Request;
use http::header::AUTHORIZATION;
use policy::route::TokenDefinition;
use policy::token::{Roles, is_in_query};
use policy::{AuthenticationLevel, Refusal, Subject};

use super::trail::Trail;
use crate::body::RequestBody;
use crate::listen::Connection;
use crate::snapshot::Snapshot;
use crate::token::Bearer;

/// Who asks by the token of a request, or by the device alone where the route allows that. The token goes on to the backend
/// only where the route says so.
///
/// # Errors
/// [`Refusal::TokenMissing`] and all that [`Tokens::said`](crate::token::Tokens::said) and
/// [`Directory::with_user`](crate::registry::Directory::with_user) refuse.
pub(super) async fn bear(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    rules: &TokenDefinition,
    peer: &Arc<Subject>,
    request: &mut Request<RequestBody>,
    trail: &mut Trail,
) -> Result<Arc<Subject>, Refusal> {
    if request.uri().query().is_some_and(is_in_query) {
        // A token must not stand in any log.
        trail.hides_query();
        return Err(Refusal::TokenInvalid);
    }
    // Nobody vouches for a patient but whoever issued the certificate.
    let site = peer.site().ok_or(Refusal::TokenInvalid)?;
    let values: smallvec::SmallVec<[&[u8]; 2]> =
        request.headers().get_all(AUTHORIZATION).iter().map(http::HeaderValue::as_bytes).collect();
    let issuers: smallvec::SmallVec<[_; 4]> =
        rules.issuers.iter().filter_map(|name| snapshot.token_issuer(name)).collect();
    let bearer = Bearer { certificate: connection.peer.fingerprint(), site, reading: trail.begun() };
    let said = connection.worker.tokens.said(&issuers, &values, &bearer).await?;
    drop(values);
    let Some(said) = said else {
        return if rules.required { Err(Refusal::TokenMissing) } else { Ok(Arc::clone(peer)) };
    };
    if !rules.forward {
        request.headers_mut().remove(AUTHORIZATION);
    }
    // The registry may have changed while somebody was asked.
    let snapshot = connection.worker.snapshot();
    let subject = match &said.actor {
        None => {
            let subject = snapshot.directory.with_user(peer, &said.user, &said.roles, said.level)?;
            trail.proved_at(said.authenticated_ns);
            subject
        }
        Some(actor) => {
            // How the other user logged in, and what the provider maps that one to, say nothing of who acts.
            let roles = match &said.roles {
                Roles::And(_) => &Roles::Registry,
                roles @ (Roles::Registry | Roles::Only(_)) => roles,
            };
            let mut subject = snapshot.directory.with_user(peer, actor, roles, AuthenticationLevel::User)?;
            let granted = snapshot.directory.acting_for(site, actor, &said.user, trail.begun().unix_ns)?;
            subject.acting_for = Some(granted.0);
            subject
        }
    };
    let subject = Arc::new(subject);
    trail.asked_by(&subject);
    match &said.actor {
        Some(actor) => trail.stays_while_allowed(actor, Some(&said.user)),
        None => trail.stays_while_allowed(&said.user, None),
    }
    Ok(subject)
}
