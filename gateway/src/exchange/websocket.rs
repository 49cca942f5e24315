//! Whether a request may open a WebSocket, before anybody is asked whether the action is permitted.

use std::time::Duration;

use http::header::ORIGIN;
use http::{HeaderValue, Request};
use policy::Refusal;
use policy::route::Route;

use crate::body::RequestBody;

/// For how long nothing may pass through the WebSocket that is about to open.
///
/// Certificates and cookies of sessions come with a request whatever page makes it, and no other rule of browsers keeps a
/// page of a foreign origin from reading what a WebSocket says (RFC 6455 section 10.2). So the origin is judged wherever one is
/// named. Programs name none; browsers always do.
///
/// # Errors
/// [`Refusal::UpgradeRefused`] where the route lets none open, [`Refusal::OriginRefused`], [`Refusal::RequestAmbiguous`] for
/// several origins.
pub(super) fn may_open(
    route: &Route,
    request: &Request<RequestBody>,
    authority: &HeaderValue,
) -> Result<Duration, Refusal> {
    let websocket = route.websocket().ok_or(Refusal::UpgradeRefused)?;
    let mut origins = request.headers().get_all(ORIGIN).iter();
    let (origin, more) = (origins.next(), origins.next());
    if more.is_some() {
        return Err(Refusal::RequestAmbiguous);
    }
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).map_err(|_| Refusal::OriginRefused);
    match origin {
        Some(origin) if !websocket.admits(&text(origin)?, &text(authority)?) => Err(Refusal::OriginRefused),
        Some(_) | None => Ok(websocket.idle()),
    }
}
