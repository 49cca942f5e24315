//! Connections that carry no HTTP (R2, R5): judged, recorded and counted as requests are, by the same [`Trail`].
//!
//! The connection itself is one exchange: its intent is durable before a backend is connected, its outcome before the client gets a
//! byte of it, and its completion tells bytes and end. What is understood inside of it, an operation or a message, is an exchange each.

mod dicom;
mod hl7;
mod pump;
mod raw;

use std::rc::Rc;

use http::StatusCode;
use policy::judge::Permit;
use policy::{Action, Refusal};

use super::asked::Asked;
use super::trail::{Trail, seconds};
use super::{Question, affinity, judged};
use crate::config::{Stream, StreamProtocol};
use crate::listen::{ByteStream, Connection};
use crate::snapshot::Snapshot;
use crate::upstream::{self, Opened};

/// Serves a connection to its end, and says why it ended; none where a peer ended it.
pub(crate) async fn serve(client: Box<dyn ByteStream>, connection: &Rc<Connection>) -> Option<Refusal> {
    let listener = std::sync::Arc::clone(&connection.listener);
    let rules = listener.stream(connection.port)?;
    match &rules.protocol {
        StreamProtocol::Raw => raw::serve(client, connection, rules).await,
        StreamProtocol::Hl7 { other_separators } => hl7::serve(client, connection, rules, *other_separators).await,
        StreamProtocol::Dicom { called_titles } => dicom::serve(client, connection, rules, called_titles).await,
    }
}

/// What somebody on a connection wants to do.
struct Wish<'a> {
    action: Action,
    /// In the protocol's own words.
    operation: Option<&'a str>,
    /// What it is done to, in the same.
    resource_type: Option<&'a str>,
    patients: policy::patients::Patients,
}

/// Has a wish judged, and remembers what was said.
fn judge(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    rules: &Stream,
    wish: Wish<'_>,
    trail: &mut Trail,
) -> Result<Permit, Refusal> {
    trail.judged_by(snapshot);
    trail.asks(Asked {
        route: rules.route.clone(),
        service: rules.service.clone(),
        class: rules.class.clone(),
        action: wish.action,
        patients: wish.patients,
        bodies: None,
        opens: matches!(rules.protocol, StreamProtocol::Raw),
    });
    let subject = connection.subject(snapshot)?;
    trail.asked_by(&subject);
    connection.worker.clock_allows(snapshot, trail.begun())?;
    let question = Question {
        action: wish.action,
        service: &rules.service,
        class: &rules.class,
        route: &rules.route,
        method: None,
        operation: wish.operation,
        resource_type: wish.resource_type,
    };
    judged(connection, snapshot, &subject, &question, trail).map_err(|denied| denied.reason)
}

/// Connects to a server of the service for what was permitted.
async fn reach(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    rules: &Stream,
    permit: &Permit,
    trail: &mut Trail,
) -> Result<Opened, Refusal> {
    let upstreams = connection.worker.upstreams(snapshot)?;
    let subject = connection.subject(snapshot)?;
    let affinity = affinity(upstreams.balance(&rules.service), &subject, trail);
    let client = Some(connection.client());
    let asked = upstream::Asked { reads: false, deadline: None, affinity, tunnel: None, client };
    let opened = upstreams.open(permit, &rules.service, asked).await;
    let backend = match &opened {
        Ok(opened) => Some(opened.backend()),
        Err(error) => error.backend.clone(),
    };
    let took_ns = trail.sent_to(backend);
    connection.meters.waited(&connection.worker.metrics, &rules.service, seconds(took_ns));
    opened.map_err(|error| {
        tracing::warn!(request = trail.id(), service = %rules.service, %error, "the backend cannot be connected");
        error.refusal()
    })
}

/// Opens the connection's own exchange: judged, on record, connected, and that on record.
async fn open(
    connection: &Rc<Connection>,
    rules: &Stream,
    wish: Wish<'_>,
    trail: &mut Trail,
) -> Result<(Permit, Opened), Refusal> {
    let snapshot = connection.worker.snapshot();
    let permit = judge(connection, &snapshot, rules, wish, trail)?;
    trail.intends().await?;
    let opened = reach(connection, &snapshot, rules, &permit, trail).await?;
    trail.answered(StatusCode::OK).await?;
    Ok((permit, opened))
}
